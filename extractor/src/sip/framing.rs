//! Message boundaries in a stream of bytes: RFC 3261, 18.3.
//!
//! A stream is read unit by unit. In step, each unit begins where the one before ended. Out of step
//! (the capture began in the middle, or bytes are missing), the reader searches for the next start
//! line.

use memchr::{memchr, memchr_iter, memrchr};

use super::message::{
    StartLine, begins_request, content_length, split_line, strip_prefix_ignoring_case,
};

/// The longest header that the reader waits for.
pub(super) const MAX_HEADER_LEN: usize = 64 * 1024;
/// The longest message. A Content-Length beyond it is not believed.
pub const MAX_MESSAGE_LEN: usize = 256 * 1024;
/// The longest first line that the reader waits for.
pub(super) const MAX_LINE_LEN: usize = 8 * 1024;

/// The start of a stream. Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipUnit {
    /// A message.
    Message(usize),
    /// A message that does not declare its length; its header has this length.
    Unbounded(usize),
    /// Blank lines: keep-alives (RFC 5626, 3.5.1).
    Blank(usize),
    /// The handshake that turns the stream into a WebSocket (RFC 6455, 1.3).
    Handshake(usize),
    /// An incomplete unit, which cannot be whole before the stream has this many bytes.
    Incomplete(usize),
    /// Other bytes; this many of them need not be read again.
    Foreign(usize),
}

impl SipUnit {
    /// Returns the unit that `bytes` begin with.
    #[must_use]
    pub fn at_start_of(bytes: &[u8]) -> Self {
        let blank = bytes
            .iter()
            .take_while(|&&byte| matches!(byte, b'\r' | b'\n' | 0))
            .count();
        if blank > 0 {
            return Self::Blank(blank);
        }
        let Some(line_len) = line_len(bytes) else {
            return if may_become_start(bytes) {
                Self::Incomplete(longer(bytes))
            } else {
                Self::Foreign(bytes.len())
            };
        };
        let (line, _) = split_line(bytes);
        if !is_start(line) {
            return Self::Foreign(line_len);
        }
        let is_sip = StartLine::parse(line).is_some();
        match header_len(bytes) {
            Some(header) if header > MAX_HEADER_LEN => Self::Foreign(line_len),
            Some(header) if is_sip => Self::with_header(bytes, header),
            Some(header) if is_upgrade(bytes.get(..header).unwrap_or_default()) => {
                Self::Handshake(header)
            }
            None if bytes.len() < MAX_HEADER_LEN => Self::Incomplete(longer(bytes)),
            _ => Self::Foreign(line_len),
        }
    }

    fn with_header(bytes: &[u8], header: usize) -> Self {
        match declared_len(bytes.get(..header).unwrap_or_default()) {
            Some(len) if len <= bytes.len() => Self::Message(len),
            Some(len) => Self::Incomplete(len),
            None => Self::Unbounded(header),
        }
    }
}

fn longer(bytes: &[u8]) -> usize {
    bytes.len().saturating_add(1)
}

/// The length of the message with this whole header, if the header declares one that is believed.
fn declared_len(header: &[u8]) -> Option<usize> {
    header
        .len()
        .checked_add(content_length(header)?)
        .filter(|len| *len <= MAX_MESSAGE_LEN)
}

/// The length of the message that `bytes` begin with, if its header is whole.
#[must_use]
pub fn message_len(bytes: &[u8]) -> Option<usize> {
    declared_len(bytes.get(..header_len(bytes)?)?)
}

/// Returns the offset of the next start line.
///
/// # Errors
/// There is none. The offset is where bytes that follow later may complete a start line; no byte
/// before it is of use.
pub fn find_start(bytes: &[u8]) -> Result<usize, usize> {
    let mut start = 0;
    loop {
        let rest = bytes.get(start..).unwrap_or_default();
        let Some(len) = line_len(rest) else {
            return Err(if may_become_start(rest) {
                start
            } else {
                bytes.len()
            });
        };
        let (line, _) = split_line(rest);
        if is_start(line) {
            return Ok(start);
        }
        start = start.saturating_add(len);
    }
}

/// The whole lines of a message whose end is missing. The cut line is left out: a part of a Call-ID
/// is another Call-ID.
#[must_use]
#[inline]
pub fn whole_lines(cut: &[u8]) -> &[u8] {
    let end = memrchr(b'\n', cut).map_or(0, |end| end.saturating_add(1));
    cut.get(..end).unwrap_or_default()
}

/// The offset of the next message in `bytes` after the first `from` bytes.
#[must_use]
pub fn next_start(bytes: &[u8], from: usize) -> Option<usize> {
    let found = find_start(bytes.get(from..)?).ok()?;
    from.checked_add(found)
}

/// Returns true if a line, without its end, may begin a unit.
pub(super) fn is_start(line: &[u8]) -> bool {
    line.len() < MAX_LINE_LEN && (StartLine::parse(line).is_some() || is_handshake_start(line))
}

/// Returns true if a line whose end is missing may become a start line. It must accept every prefix
/// of a line that [`is_start`] accepts, so that the segmentation of a stream does not change the
/// result.
fn may_become_start(line: &[u8]) -> bool {
    let looks_like_text = line
        .iter()
        .take(8)
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    line.len() <= MAX_LINE_LEN && (looks_like_text || begins_request(line))
}

/// The length of the first line, its end included.
pub(super) fn line_len(bytes: &[u8]) -> Option<usize> {
    memchr(b'\n', bytes)?.checked_add(1)
}

/// The length of a header, the blank line included.
pub(super) fn header_len(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes).find_map(|end| {
        let after = end.checked_add(1)?;
        match *bytes.get(after..)? {
            [b'\n', ..] => after.checked_add(1),
            [b'\r', b'\n', ..] => after.checked_add(2),
            _ => None,
        }
    })
}

/// `GET /path HTTP/1.1`, `HTTP/1.1 101 Switching Protocols`.
pub(super) fn is_handshake_start(line: &[u8]) -> bool {
    let is_request = line.starts_with(b"GET ") && line.trim_ascii_end().ends_with(b" HTTP/1.1");
    is_request || line.starts_with(b"HTTP/1.1 101")
}

/// RFC 6455, 4.1 and 4.2.2: both sides send `Upgrade: websocket`.
pub(super) fn is_upgrade(header: &[u8]) -> bool {
    field_values(header, b"Upgrade").any(|value| value.eq_ignore_ascii_case(b"websocket"))
}

/// The values of all fields of this name, without blanks around them.
pub(super) fn field_values<'a>(header: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    header.split(|&byte| byte == b'\n').filter_map(move |line| {
        let rest = strip_prefix_ignoring_case(line, name)?.trim_ascii_start();
        Some(rest.strip_prefix(b":")?.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYE: &[u8] = b"BYE sip:x SIP/2.0\r\nl: 4\r\n\r\nbody";

    #[test]
    fn a_message_is_as_long_as_it_says() {
        assert_eq!(
            SipUnit::at_start_of(&[BYE, b"SIP/2.0 200 OK\r\n"].concat()),
            SipUnit::Message(BYE.len())
        );
        let unbounded = b"BYE sip:x SIP/2.0\nCall-ID: 1\n\nSIP";
        assert_eq!(
            SipUnit::at_start_of(unbounded),
            SipUnit::Unbounded(unbounded.len() - 3)
        );
        let absurd = b"BYE sip:x SIP/2.0\nl: 999999999999\n\n";
        assert_eq!(
            SipUnit::at_start_of(absurd),
            SipUnit::Unbounded(absurd.len())
        );
    }

    #[test]
    fn nothing_is_decided_too_early() {
        for len in 1..BYE.len() {
            let needed = if len < BYE.len() - 4 {
                len + 1
            } else {
                BYE.len()
            };
            assert_eq!(
                SipUnit::at_start_of(&BYE[..len]),
                SipUnit::Incomplete(needed),
                "{len}"
            );
        }
    }

    #[test]
    fn what_stands_between_messages() {
        assert_eq!(SipUnit::at_start_of(b"\r\n\r\nBYE"), SipUnit::Blank(4));
        assert_eq!(SipUnit::at_start_of(b"hello\r\nBYE"), SipUnit::Foreign(7));
        assert_eq!(SipUnit::at_start_of(b"\x16\x03\x01"), SipUnit::Foreign(3));
        assert_eq!(
            SipUnit::at_start_of(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            SipUnit::Foreign(16)
        );
    }

    #[test]
    fn what_is_not_waited_for_is_not_taken_when_it_is_whole() {
        let line = |len: usize| [&b"BYE sip:"[..], &vec![b'x'; len], b" SIP/2.0\r\n"].concat();
        let header = |len: usize| {
            [
                &b"BYE sip:x SIP/2.0\nl: 0\nx: "[..],
                &vec![b'x'; len],
                b"\n\n",
            ]
            .concat()
        };
        for (long, enough) in [
            (line(MAX_LINE_LEN), 8 * 1024 + 1),
            (header(MAX_HEADER_LEN), 64 * 1024),
        ] {
            assert!(matches!(
                SipUnit::at_start_of(&long[..enough]),
                SipUnit::Foreign(_)
            ));
            assert!(matches!(SipUnit::at_start_of(&long), SipUnit::Foreign(_)));
        }
        assert_eq!(
            find_start(&line(MAX_LINE_LEN)),
            Err(line(MAX_LINE_LEN).len())
        );
        assert_eq!(find_start(&line(8000)), Ok(0));
        let odd = "BYE \u{e9} SIP/2.0\r\n".as_bytes();
        assert!((1..odd.len()).all(|len| matches!(
            SipUnit::at_start_of(&odd[..len]),
            SipUnit::Incomplete(_)
        ) && find_start(&odd[..len]) == Err(0)));
    }

    #[test]
    fn the_handshake_of_a_websocket() {
        let get = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade : WebSocket\r\n\r\n";
        assert_eq!(
            SipUnit::at_start_of(&[get, &[0x81, 5][..]].concat()),
            SipUnit::Handshake(get.len())
        );
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
        assert_eq!(
            SipUnit::at_start_of(answer),
            SipUnit::Handshake(answer.len())
        );
        assert_eq!(SipUnit::at_start_of(&get[..30]), SipUnit::Incomplete(31));
    }

    #[test]
    fn the_next_start_line_is_found() {
        assert_eq!(find_start(b"rest of a body\r\nSIP/2.0 200 OK\r\n"), Ok(16));
        assert_eq!(find_start(b"rest of a body\r\nSIP/2.0 20"), Err(16));
        assert_eq!(find_start(b"rest\n\x00\x01\x02"), Err(8));
        assert_eq!(find_start(&[b'x'; 9_000]), Err(9_000));
    }

    proptest! {
        #[test]
        fn a_unit_is_never_longer_than_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            for bytes in [bytes.clone(), [BYE, &bytes].concat(), [&bytes, BYE].concat()] {
                match SipUnit::at_start_of(&bytes) {
                    SipUnit::Incomplete(needed) => prop_assert!(needed > bytes.len()),
                    SipUnit::Message(n) | SipUnit::Unbounded(n) | SipUnit::Blank(n) | SipUnit::Handshake(n) | SipUnit::Foreign(n) => {
                        prop_assert!(n > 0 && n <= bytes.len());
                    }
                }
                let (Ok(found) | Err(found)) = find_start(&bytes);
                prop_assert!(found <= bytes.len());
            }
        }
    }
}
