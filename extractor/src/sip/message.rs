//! The start line and the header fields that calls need: RFC 3261, 7 and 20.

use std::borrow::Cow;

use memchr::{memchr, memrchr};

/// A SIP message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The whole message, from the start line on.
    pub raw: &'a [u8],
    /// Request or status.
    pub start: StartLine,
    /// Call-ID, without blanks around it.
    pub call_id: &'a [u8],
    /// The raw value of From (it may be folded: [`unfolded`]).
    pub from: &'a [u8],
    /// The raw value of To, which may be folded, too.
    pub to: &'a [u8],
    /// CSeq, if it can be read.
    pub cseq: Option<CSeq<'a>>,
    /// The branch of the topmost Via, which identifies the transaction; empty if there is none.
    pub branch: &'a [u8],
    /// The number of Via values: one more for each proxy that the request passed.
    pub vias: usize,
    /// The number of Record-Route values: one for each proxy that wants to stay on the path (RFC
    /// 3261, 20.30).
    record_routes: usize,
    /// The raw value of User-Agent, else of Server (RFC 3261, 20.41 and 20.35), or empty.
    pub agent: &'a [u8],
    noted: Noted,
    /// Content-Type, or empty.
    pub(super) content_type: &'a [u8],
    /// Content-Encoding, or empty.
    pub(super) content_encoding: &'a [u8],
    /// The body, as long as Content-Length and the datagram allow.
    pub(super) body: &'a [u8],
}

/// The start line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine {
    /// A request.
    Request(Method),
    /// A response and its status code, 100 to 999.
    Status(u16),
}

/// The methods that calls use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// RFC 3261, 13.
    Invite,
    /// RFC 3261, 13.2.2.4 and 17.1.1.3.
    Ack,
    /// RFC 3261, 15.
    Bye,
    /// RFC 3261, 9.
    Cancel,
    /// RFC 3262.
    Prack,
    /// RFC 3311.
    Update,
    /// RFC 6086.
    Info,
    /// Any other method: it belongs to an existing call and does not change it.
    Other,
}

/// RFC 3261, 20.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The digits of the sequence number. They are only compared, and some are longer than the 32
    /// bits that RFC 3261 allows.
    pub number: &'a [u8],
    /// The method, which says what request a response answers.
    pub method: Method,
}

/// A message without Call-ID, From or To.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Method {
    /// RFC 3261, 7.1: methods are case-sensitive.
    fn from_token(token: &[u8]) -> Self {
        match token {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"PRACK" => Self::Prack,
            b"UPDATE" => Self::Update,
            b"INFO" => Self::Info,
            _ => Self::Other,
        }
    }
}

impl<'a> Message<'a> {
    /// Reads `payload` as a SIP message; `None` if its first line is not SIP.
    ///
    /// # Errors
    /// The message is SIP, but has no Call-ID, From or To.
    pub fn parse(payload: &'a [u8]) -> Option<Result<Self, Malformed>> {
        let payload = without_keepalive(payload);
        if !payload.first().is_some_and(|first| is_token(*first)) {
            return None;
        }
        let (line, rest) = split_line(payload);
        let start = StartLine::parse(line)?;
        Some(Headers::read(rest).message(payload, start))
    }

    /// Returns true if the message may carry an offer or an answer (RFC 3261, 13.2.1; RFC 3262, 5;
    /// RFC 3311, 5), or ICE candidates that follow them (RFC 8840, 4.4). The description in a 488
    /// is neither: it only says what would have been possible.
    #[must_use]
    pub fn can_negotiate(&self) -> bool {
        let method = match self.start {
            StartLine::Request(Method::Info) => return self.may_have_fragment(),
            StartLine::Request(method) => method,
            StartLine::Status(100..300) => match self.cseq {
                Some(cseq) => cseq.method,
                None => return true,
            },
            StartLine::Status(_) => return false,
        };
        matches!(
            method,
            Method::Invite | Method::Ack | Method::Prack | Method::Update
        )
    }
}

/// Which of some rare header fields a message has: only then its header is read again for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noted(u16);

impl Noted {
    const NAMES: [&str; 11] = [
        "Reason",
        "P-Asserted-Identity",
        "Diversion",
        "Session-ID",
        "P-Charging-Vector",
        "X-CID",
        "X-Call-ID",
        "Replaces",
        "Refer-To",
        "Referred-By",
        "Target-Dialog",
    ];
    /// The bits of the last eight, which name other calls.
    const NAMING_CALLS: u16 = 0x7f8;

    /// The bit of a field; 0 if it is not noted.
    fn bit(is_it: impl FnMut(&&str) -> bool) -> u16 {
        let place = Self::NAMES.iter().position(is_it);
        place.map_or(0, |place| 1 << place)
    }

    /// Notes a field by its name, which is in any case.
    fn add(&mut self, name: &[u8]) {
        self.0 |= Self::bit(|noted| is_name(name, noted));
    }

    /// Returns false if the message has no such field.
    fn may_have(self, name: &str) -> bool {
        let bit = Self::bit(|noted| noted.eq_ignore_ascii_case(name));
        bit == 0 || self.0 & bit != 0
    }
}

impl<'a> Message<'a> {
    /// The values of all header fields with this name, as they are written. Of compact names, only
    /// those of Refer-To and Referred-By are known. This reads the header again: calls ask for few
    /// fields, and of few messages.
    pub fn fields<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let mut rest = if self.noted.may_have(name) {
            split_line(self.raw).1
        } else {
            &[]
        };
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let (field, after) = split_field(rest);
                rest = if field.is_empty() { &[] } else { after };
                if let Some((found, value)) = name_and_value(field)
                    && is_name(found, name)
                {
                    return Some(value);
                }
            }
            None
        })
    }

    /// Returns true if the message has a header field by which it may name another call.
    #[must_use]
    pub fn may_name_calls(&self) -> bool {
        self.noted.0 & Noted::NAMING_CALLS != 0
    }

    /// The Request-URI (RFC 3261, 8.1.1.1); `None` for a response.
    #[must_use]
    pub fn request_uri(&self) -> Option<&'a [u8]> {
        if matches!(self.start, StartLine::Status(_)) {
            return None;
        }
        let (_, uri) = method_and_rest(split_line(self.raw).0)?;
        let (uri, _) = uri.trim_ascii_end().split_last_chunk::<8>()?;
        Some(uri.trim_ascii())
    }
}

impl Message<'_> {
    /// Returns true if the message comes directly from the user agent that wrote it, as far as the
    /// message shows: no proxy has added a Via to the request (RFC 3261, 16.6, step 8), and no
    /// proxy on the path of the dialog has removed one from the response (16.7, step 3).
    #[must_use]
    pub fn is_first_hand(&self) -> bool {
        match self.start {
            StartLine::Request(_) => self.vias <= 1,
            StartLine::Status(_) => self.vias > self.record_routes,
        }
    }
}

/// Returns true if the first byte of a payload allows a message. That byte excludes nearly all
/// other payloads: RTP, STUN, DTLS.
#[must_use]
#[inline]
pub fn may_be_message(payload: &[u8]) -> bool {
    payload
        .first()
        .is_some_and(|&first| is_token(first) || first == b'\r' || first == b'\n')
}

impl StartLine {
    /// RFC 3261, 7.1 and 7.2: `METHOD SP URI SP SIP/2.0`, or `SIP/2.0 SP 200 SP reason`.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        if let Some(rest) = strip_prefix_ignoring_case(line, b"SIP/2.0 ") {
            let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] =
                rest.trim_ascii_start()
            else {
                return None;
            };
            let digit = |byte: &u8| u16::from(byte & 0x0f);
            let code = digit(a)
                .saturating_mul(100)
                .saturating_add(digit(b).saturating_mul(10))
                .saturating_add(digit(c));
            return rest
                .first()
                .is_none_or(u8::is_ascii_whitespace)
                .then_some(Self::Status(code));
        }
        let (token, uri) = method_and_rest(line)?;
        let version = uri.trim_ascii_end().last_chunk::<8>()?;
        let is_request =
            version.eq_ignore_ascii_case(b" SIP/2.0") && uri.trim_ascii().len() > version.len();
        is_request.then(|| Self::Request(Method::from_token(token)))
    }
}

/// The method of a request line, and the text after the blank that follows it.
fn method_and_rest(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let token_len = line
        .iter()
        .position(|&byte| !is_token(byte))
        .filter(|&len| len > 0)?;
    let (token, rest) = line.split_at_checked(token_len)?;
    Some((token, rest.strip_prefix(b" ")?))
}

/// Returns true if a line begins with a method, as a request line does.
pub(super) fn begins_request(line: &[u8]) -> bool {
    method_and_rest(line).is_some()
}

/// RFC 3261, 25.1: the characters of a method. Tested for each media packet, so a bit for each
/// character.
#[inline]
fn is_token(byte: u8) -> bool {
    const TOKENS: u128 =
        bits(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-.!%*_+`'~");
    byte.is_ascii() && TOKENS >> byte & 1 == 1
}

/// A number with the bits of these characters set.
const fn bits(characters: &[u8]) -> u128 {
    let (mut bits, mut rest) = (0, characters);
    while let [first, after @ ..] = rest {
        bits |= 1 << *first;
        rest = after;
    }
    bits
}

/// The header fields that calls need: the first of each name, except where a field says otherwise.
#[derive(Default)]
struct Headers<'a> {
    call_id: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    cseq: Option<&'a [u8]>,
    via: Option<&'a [u8]>,
    vias: usize,
    record_routes: usize,
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    body: &'a [u8],
    noted: Noted,
}

impl<'a> Headers<'a> {
    fn read(mut rest: &'a [u8]) -> Self {
        let mut headers = Self::default();
        while !rest.is_empty() {
            let (field, after) = split_field(rest);
            rest = after;
            if field.is_empty() {
                headers.body = rest;
                break;
            }
            if let Some((name, value)) = name_and_value(field) {
                headers.add(name, value);
            }
        }
        headers
    }

    /// Adds a field. RFC 3261, 7.3.1 and 7.3.3: names in any case, and their compact forms.
    fn add(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |full: &[u8], compact: u8| match name {
            [letter] => letter.to_ascii_lowercase() == compact,
            _ => name.eq_ignore_ascii_case(full),
        };
        let slot = match name.first().map(u8::to_ascii_lowercase) {
            Some(b'i') if is(b"", b'i') => &mut self.call_id,
            Some(b'c') if is(b"Call-ID", 0) => &mut self.call_id,
            Some(b'c') if is(b"CSeq", 0) => &mut self.cseq,
            Some(b'c') if is(b"Content-Type", b'c') => &mut self.content_type,
            Some(b'c') if is(b"Content-Length", 0) => &mut self.content_length,
            Some(b'c') if is(b"Content-Encoding", 0) => &mut self.content_encoding,
            Some(b'e') if is(b"", b'e') => &mut self.content_encoding,
            Some(b'l') if is(b"", b'l') => &mut self.content_length,
            Some(b'f') if is(b"From", b'f') => &mut self.from,
            Some(b't') if is(b"To", b't') => &mut self.to,
            Some(b'v') if is(b"Via", b'v') => {
                self.vias = self.vias.saturating_add(values(value));
                &mut self.via
            }
            Some(b'r') if is(b"Record-Route", 0) => {
                self.record_routes = self.record_routes.saturating_add(values(value));
                return;
            }
            // An empty one says nothing; the next one may.
            Some(b'u') if !value.is_empty() && is(b"User-Agent", 0) => &mut self.user_agent,
            Some(b's') if !value.is_empty() && is(b"Server", 0) => &mut self.server,
            Some(b's' | b'r' | b'p' | b'd' | b'x' | b't' | b'b') => {
                self.noted.add(name);
                return;
            }
            _ => return,
        };
        slot.get_or_insert(value);
    }

    fn message(self, raw: &'a [u8], start: StartLine) -> Result<Message<'a>, Malformed> {
        let (Some(call_id), Some(from), Some(to)) = (self.call_id, self.from, self.to) else {
            return Err(Malformed);
        };
        if call_id.is_empty() {
            return Err(Malformed);
        }
        Ok(Message {
            raw,
            start,
            call_id,
            from,
            to,
            cseq: self.cseq.and_then(CSeq::parse),
            branch: self.via.and_then(branch).unwrap_or_default(),
            vias: self.vias,
            record_routes: self.record_routes,
            agent: self.user_agent.or(self.server).unwrap_or_default(),
            noted: self.noted,
            content_type: self.content_type.unwrap_or_default(),
            content_encoding: self.content_encoding.unwrap_or_default(),
            body: self
                .content_length
                .and_then(decimal)
                .and_then(|len| self.body.get(..len))
                .unwrap_or(self.body),
        })
    }
}

/// Returns true if `found` is this name, in any case, or its compact form (RFC 3515, 2.1; RFC 3892,
/// 3).
fn is_name(found: &[u8], name: &str) -> bool {
    match found {
        [b'r' | b'R'] => name.eq_ignore_ascii_case("Refer-To"),
        [b'b' | b'B'] => name.eq_ignore_ascii_case("Referred-By"),
        _ => found.eq_ignore_ascii_case(name.as_bytes()),
    }
}

/// The number of values in one field: RFC 3261, 7.3.1.
fn values(field: &[u8]) -> usize {
    field.split(|&byte| byte == b',').count()
}

impl<'a> CSeq<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let digits = value
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (number, method) = value.split_at_checked(digits).filter(|_| digits > 0)?;
        Some(Self {
            number,
            method: Method::from_token(method.trim_ascii()),
        })
    }
}

/// The length of the body in bytes that a whole header, from the start line to the blank line,
/// declares.
pub(super) fn content_length(header: &[u8]) -> Option<usize> {
    Headers::read(split_line(header).1)
        .content_length
        .and_then(decimal)
}

/// A number of bytes; `None` if it is not a number, or larger than `usize`.
fn decimal(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Blank lines before a message are keep-alives (RFC 3261, 7.5; RFC 5626, 3.5.1).
fn without_keepalive(payload: &[u8]) -> &[u8] {
    let blank = payload
        .iter()
        .take_while(|&&byte| byte == b'\r' || byte == b'\n')
        .count();
    payload.get(blank..).unwrap_or_default()
}

/// The first line without its end, and the rest. A line ends with CRLF or with LF alone.
pub(super) fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match memchr(b'\n', bytes) {
        Some(end) => (
            bytes.get(..end).unwrap_or_default(),
            bytes.get(end.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (bytes, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// The first header field, with the lines that continue it (RFC 3261, 7.3.1), and the rest.
#[inline]
fn split_field(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, mut rest) = split_line(bytes);
    if line.is_empty() || !matches!(rest.first(), Some(b' ' | b'\t')) {
        return (line, rest);
    }
    while matches!(rest.first(), Some(b' ' | b'\t')) {
        rest = split_line(rest).1;
    }
    let len = bytes.len().saturating_sub(rest.len());
    (bytes.get(..len).unwrap_or_default().trim_ascii_end(), rest)
}

#[inline]
fn name_and_value(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', field)?;
    let (name, value) = field.split_at_checked(colon)?;
    Some((name.trim_ascii_end(), value.get(1..)?.trim_ascii()))
}

pub(super) fn strip_prefix_ignoring_case<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The branch of the first value in a Via field (RFC 3261, 20.42).
fn branch(via: &[u8]) -> Option<&[u8]> {
    let first = via.split(|&byte| byte == b',').next()?;
    parameter(first, b"branch")
}

/// The tag of a From or To value (RFC 3261, 19.3), which identifies one side of a dialog.
#[must_use]
pub fn tag(value: &[u8]) -> Option<&[u8]> {
    // Semicolons inside the angle brackets belong to the URI.
    let after_uri = memrchr(b'>', value)
        .and_then(|end| value.get(end..))
        .unwrap_or(value);
    parameter(after_uri, b"tag").filter(|tag| !tag.is_empty())
}

/// The value of `;name=value`.
#[must_use]
pub fn parameter<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    value
        .split(|&byte| byte == b';')
        .skip(1)
        .find_map(|parameter| {
            let (found, value) = parameter.split_at_checked(memchr(b'=', parameter)?)?;
            let value = value.get(1..)?.trim_ascii();
            found
                .trim_ascii()
                .eq_ignore_ascii_case(name)
                .then_some(value)
        })
}

/// The values in one field (RFC 3261, 7.3.1). Commas inside quotation marks and angle brackets
/// separate none.
pub fn list(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped, mut is_in_brackets) = (false, false, false);
    field.split(move |byte| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            b'\\' if is_quoted => is_escaped = !was_escaped,
            b'"' if !was_escaped => is_quoted = !is_quoted,
            b'<' if !is_quoted => is_in_brackets = true,
            b'>' if !is_quoted => is_in_brackets = false,
            b',' => return !is_quoted && !is_in_brackets,
            _ => {}
        }
        false
    })
}

/// A header value on one line: each fold becomes a single blank (RFC 3261, 7.3.1).
#[must_use]
pub fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let lines: Vec<&[u8]> = value
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .collect();
    Cow::Owned(lines.join(&b' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Message<'_> {
        Message::parse(text.as_bytes())
            .expect("SIP")
            .expect("well-formed")
    }

    const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport, SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK0\r\n\
        From: \"Alice; the first\" <sip:alice@example.com;user=phone>;tag=a1\r\n\
        To: <sip:bob@example.com>\r\n\
        Call-ID: 1@192.0.2.1\r\n\
        CSeq: 7 INVITE\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 4\r\n\r\nv=0\nmore";

    #[test]
    fn an_invite() {
        let message = parse(INVITE);
        assert_eq!(message.start, StartLine::Request(Method::Invite));
        assert_eq!(message.call_id, b"1@192.0.2.1");
        assert_eq!(
            message.cseq,
            Some(CSeq {
                number: b"7",
                method: Method::Invite
            })
        );
        assert_eq!((message.branch, message.vias), (&b"z9hG4bK1"[..], 2));
        assert_eq!(tag(message.from), Some(&b"a1"[..]));
        assert_eq!(tag(message.to), None);
        assert_eq!(message.body, b"v=0\n");
    }

    #[test]
    fn who_sent_it() {
        let direct = INVITE.replace(", SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK0", "");
        assert!(!parse(INVITE).is_first_hand(), "through a proxy");
        assert!(parse(&direct).is_first_hand());
        let answer = INVITE.replace("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK");
        let answer = answer.replace("CSeq", "Record-Route: <sip:192.0.2.9;lr>\r\nCSeq");
        assert!(parse(&answer).is_first_hand(), "to the proxy");
        assert!(
            !parse(&answer.replace(", SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK0", "")).is_first_hand(),
            "from the proxy"
        );
    }

    #[test]
    fn what_phones_send_in_place_of_it() {
        for (name, text) in [
            ("LF alone", INVITE.replace('\r', "")),
            ("keep-alive before it", format!("\r\n\r\n{INVITE}")),
            (
                "lower case",
                INVITE.replace("Call-ID", "call-id").replace("From", "from"),
            ),
            (
                "blank before the colon",
                INVITE.replace("Call-ID:", "Call-ID  :"),
            ),
            (
                "no blank after the colon",
                INVITE.replace("Call-ID: ", "Call-ID:"),
            ),
            (
                "compact",
                INVITE
                    .replace("Call-ID:", "i:")
                    .replace("From:", "f:")
                    .replace("To:", "T:")
                    .replace("Via:", "v:"),
            ),
            (
                "folded",
                INVITE
                    .replace("Call-ID: ", "Call-ID:\r\n  ")
                    .replace("CSeq: 7 ", "CSeq: 7\r\n\t"),
            ),
            (
                "a line without a colon",
                INVITE.replace("CSeq", "rubbish\r\nCSeq"),
            ),
            (
                "a second Call-ID",
                INVITE.replace("CSeq", "Call-ID: 2\r\nCSeq"),
            ),
            (
                "blanks in the URI",
                INVITE.replace("sip:bob@example.com SIP", "sip:bob the builder SIP"),
            ),
        ] {
            let message = parse(&text);
            assert_eq!(message.call_id, b"1@192.0.2.1", "{name}");
            assert_eq!(tag(message.from), Some(&b"a1"[..]), "{name}");
            assert_eq!(
                message.cseq,
                Some(CSeq {
                    number: b"7",
                    method: Method::Invite
                }),
                "{name}"
            );
            assert_eq!(message.branch, b"z9hG4bK1", "{name}");
        }
    }

    #[test]
    fn content_length_wins_only_when_smaller() {
        for (length, body) in [
            ("2", "v="),
            ("400", "v=0\nmore"),
            ("18446744073709551616", "v=0\nmore"),
            ("-1", "v=0\nmore"),
        ] {
            let text = INVITE.replace("Content-Length: 4", &format!("l: {length}"));
            assert_eq!(parse(&text).body, body.as_bytes(), "{length}");
        }
    }

    #[test]
    fn who_can_negotiate() {
        let can = |start: &str, cseq: &str, content_type: &str| {
            let text = INVITE
                .replace("INVITE sip:bob@example.com SIP/2.0", start)
                .replace("7 INVITE", cseq);
            parse(&text.replace("application/sdp", content_type)).can_negotiate()
        };
        let (sdp, fragment) = ("application/sdp", "application/trickle-ice-sdpfrag");
        assert!(can("INVITE sip:x SIP/2.0", "7 INVITE", sdp));
        assert!(
            can("SIP/2.0 183 Progress", "7 INVITE", sdp) && !can("SIP/2.0 488 No", "7 INVITE", sdp)
        );
        assert!(
            can("INFO sip:x SIP/2.0", "7 INFO", fragment)
                && can("INFO sip:x SIP/2.0", "7 INFO", "multipart/mixed")
        );
        assert!(
            !can("INFO sip:x SIP/2.0", "7 INFO", sdp)
                && !can("INFO sip:x SIP/2.0", "7 INFO", "application/dtmf-relay")
        );
        assert!(
            !can("SIP/2.0 200 OK", "7 INFO", fragment)
                && !can("MESSAGE sip:x SIP/2.0", "7 MESSAGE", fragment)
        );
    }

    #[test]
    fn the_encoding_of_a_body() {
        for header in [
            "Content-Encoding: gzip",
            "content-encoding :gzip",
            "e: gzip",
            "E:gzip",
        ] {
            let text = INVITE.replace("Content-Type", &format!("{header}\r\nContent-Type"));
            assert_eq!(parse(&text).content_encoding, b"gzip", "{header}");
        }
        assert_eq!(parse(INVITE).content_encoding, b"");
    }

    #[test]
    fn start_lines() {
        let start = |line: &str| StartLine::parse(line.as_bytes());
        assert_eq!(start("SIP/2.0 200 OK"), Some(StartLine::Status(200)));
        assert_eq!(start("SIP/2.0 487"), Some(StartLine::Status(487)));
        assert_eq!(
            start("NOTIFY sip:x SIP/2.0 "),
            Some(StartLine::Request(Method::Other))
        );
        for line in [
            "",
            "SIP/2.0 20",
            "SIP/2.0 2000",
            "GET / HTTP/1.1",
            "INVITE SIP/2.0",
            "INVITE  SIP/2.0",
            "\0\0",
            "hello",
            " INVITE x SIP/2.0",
        ] {
            assert_eq!(start(line), None, "{line}");
        }
    }

    #[test]
    fn without_a_name_for_its_call_a_message_is_malformed() {
        for header in ["Call-ID", "From", "To"] {
            let text = INVITE.replace(&format!("{header}:"), "X:");
            assert_eq!(
                Message::parse(text.as_bytes()).map(|result| result.map(|_| ())),
                Some(Err(Malformed)),
                "{header}"
            );
        }
    }

    #[test]
    fn fields_by_name() {
        let text = INVITE.replace(
            "CSeq",
            "User-Agent : Phone/1\r\nreason: SIP;cause=200\r\nREASON: Q.850\r\n ;cause=16\r\nCSeq",
        );
        let text = text.replace("v=0\nmore", "Reason: in the body\n");
        let of = |name| parse(&text).fields(name).collect::<Vec<_>>();
        assert_eq!(parse(&text).agent, b"Phone/1");
        assert_eq!(of("User-Agent"), [b"Phone/1"]);
        assert_eq!(
            of("Reason"),
            [&b"SIP;cause=200"[..], b"Q.850\r\n ;cause=16"]
        );
        assert!(of("Server").is_empty());
        assert_eq!(
            parse(&text).request_uri(),
            Some(&b"sip:bob@example.com"[..])
        );
        let answer = INVITE.replace("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK");
        assert_eq!(parse(&answer).request_uri(), None);
    }

    #[test]
    fn lists() {
        let of = |field: &'static str| -> Vec<&str> {
            list(field.as_bytes())
                .map(|value| std::str::from_utf8(value).unwrap().trim())
                .collect()
        };
        assert_eq!(of("a, b ,c"), ["a", "b", "c"]);
        assert_eq!(
            of("\"A, \\\"x\\\", <y\" <sip:1,2@x>;p=1, <tel:3>"),
            ["\"A, \\\"x\\\", <y\" <sip:1,2@x>;p=1", "<tel:3>"]
        );
        assert_eq!(of("\"a\\\\\", b"), ["\"a\\\\\"", "b"]);
        assert_eq!(of(""), [""]);
    }

    #[test]
    fn folds_become_blanks() {
        assert_eq!(
            &*unfolded(b"\"A\"\r\n  <sip:a>;\r\n\ttag=1"),
            b"\"A\" <sip:a>; tag=1"
        );
    }

    proptest! {
        #[test]
        fn a_cut_message_gives_what_it_has(keep in 0usize..400) {
            let bytes = &INVITE.as_bytes()[..keep.min(INVITE.len())];
            if let Some(Ok(message)) = Message::parse(bytes) {
                prop_assert_eq!(tag(message.from), Some(&b"a1"[..]));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::parse(&[b"BYE sip:x SIP/2.0\r\ni:1\r\nf:2\r\nt:3\r\n", &bytes[..]].concat()).unwrap().map(|message| message.bodies().found.len());
        }
    }
}
