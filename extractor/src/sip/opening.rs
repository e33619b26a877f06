//! The first bytes of a SIP stream on a port that was not configured for SIP.

use super::{
    framing::{
        MAX_HEADER_LEN, MAX_LINE_LEN, field_values, header_len, is_handshake_start, is_start,
        is_upgrade, line_len,
    },
    message::split_line,
    websocket::begins_sip,
};

/// Returns true if a segment on a port without a configured protocol may open a stream of SIP: it
/// begins with a start line, with a WebSocket frame that begins one, or with the handshake of a
/// WebSocket for SIP (RFC 7118, 4). An incomplete first line or handshake is accepted as long as
/// nothing in it excludes SIP.
#[must_use]
#[inline]
pub fn opens_stream(payload: &[u8]) -> bool {
    // This test excludes most encrypted and compressed payloads.
    let [first, second, ..] = *payload else {
        return payload.first().is_some_and(u8::is_ascii_uppercase);
    };
    match first {
        b'\r' | b'\n' | 0 => opens_stream_behind_blanks(payload),
        0x01 | 0x02 | 0x81 | 0x82 => begins_sip(payload),
        _ if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
            begins_start_line(payload)
        }
        _ => false,
    }
}

#[inline(never)]
fn opens_stream_behind_blanks(payload: &[u8]) -> bool {
    let blank = payload
        .iter()
        .take_while(|&&byte| matches!(byte, b'\r' | b'\n' | 0))
        .count();
    let rest = payload.get(blank..).unwrap_or_default();
    !rest.is_empty() && begins_start_line(rest)
}

/// Returns true if `bytes`, as far as they go, begin with a start line of SIP or with a handshake
/// for it.
#[inline(never)]
fn begins_start_line(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"GET /") || bytes.starts_with(b"HTTP/1.1 101") {
        return may_be_handshake_for_sip(bytes);
    }
    let letters = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    let behind = bytes.get(letters..).unwrap_or_default();
    let is_status = letters <= 3 && begins_like(bytes, b"SIP/2.0 ");
    // All registered methods have capital letters only, which distinguishes them from words of a
    // text.
    let is_method =
        letters <= MAX_METHOD_LEN && bytes.iter().take(letters).all(u8::is_ascii_uppercase);
    let is_request = is_method && matches!(behind.first(), None | Some(b' '));
    if !is_status && !is_request {
        return false;
    }
    match line_len(bytes) {
        Some(_) => is_start(split_line(bytes).0),
        None if bytes.len() > MAX_LINE_LEN => false,
        None => {
            is_status
                || [&b" sip:"[..], b" sips:", b" tel:", b" urn:"]
                    .iter()
                    .any(|uri| begins_like(behind, uri))
        }
    }
}

/// The longest method that is accepted; the longest registered one is SUBSCRIBE.
const MAX_METHOD_LEN: usize = 16;

/// Returns true if `bytes`, as far as they go, begin with `prefix` in any case.
fn begins_like(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .iter()
        .zip(prefix)
        .all(|(byte, wanted)| byte.eq_ignore_ascii_case(wanted))
}

/// RFC 7118, 4.1: the subprotocol is `sip`.
fn may_be_handshake_for_sip(bytes: &[u8]) -> bool {
    if line_len(bytes).is_some() && !is_handshake_start(split_line(bytes).0) {
        return false;
    }
    let Some(header) = header_len(bytes).and_then(|len| bytes.get(..len)) else {
        return bytes.len() < MAX_HEADER_LEN;
    };
    let is_for_sip = |value: &[u8]| {
        value
            .split(|&byte| byte == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"sip"))
    };
    is_upgrade(header) && field_values(header, b"Sec-WebSocket-Protocol").any(is_for_sip)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYE: &[u8] = b"BYE sip:x SIP/2.0\r\nl: 4\r\n\r\nbody";

    #[test]
    fn a_stream_opens_with_what_begins_like_sip() {
        let frame = [&[0x81, 20][..], b"INVITE sip:x SIP/2.0"].concat();
        let for_sip =
            b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat, SIP\r\n\r\n";
        let answer =
            b"HTTP/1.1 101 Switching\r\nupgrade: WebSocket\r\nsec-websocket-protocol: sip\r\n\r\n";
        for bytes in [
            BYE,
            b"\r\n\r\nBYE sip:x SIP/2.0\r\n",
            b"SIP/2.0 200 OK\r\n",
            b"sip/2.0 200 OK\n",
            &frame,
            for_sip,
            answer,
        ] {
            assert!(opens_stream(bytes), "{}", bytes.escape_ascii());
        }
        // Every prefix of an opening is an opening.
        for whole in [
            &BYE[..19],
            b"SIP/2.0 200 OK\r\n",
            b"SUBSCRIBE sips:x@y",
            b"INVITE tel:+49",
            b"\r\nBYE sip:x",
            for_sip,
        ] {
            let letters = whole
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count()
                + 1;
            (letters..=whole.len()).for_each(|len| {
                assert!(
                    opens_stream(&whole[..len]),
                    "{}",
                    whole[..len].escape_ascii()
                );
            });
        }
    }

    #[test]
    fn a_stream_opens_with_nothing_else() {
        let for_chat =
            b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        for bytes in [
            &b""[..],
            b"\r\n\r\n",
            b"\x16\x03\x01\x02\0",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            for_chat,
            b"HTTP/1.1 200 OK\r\n",
            b"POST /sip HTTP/1.1\r\n",
            b"SIP/1.0 200 OK\r\n",
            b"SIP/2.0 is a protocol\r\n",
            b"INVITE somebody",
            b"INVITE sip:x SIP/3.0\r\n",
            b"Invite sip:x",
            b"var x = 1;\n",
            &[0x81, 5, b'H', b'e', b'l', b'l', b'o'],
        ] {
            assert!(!opens_stream(bytes), "{}", bytes.escape_ascii());
        }
    }
}
