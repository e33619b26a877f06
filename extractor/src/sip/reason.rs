//! The reason why a request was sent or refused: RFC 3326.

use serde::{Deserialize, Serialize};

use super::{
    Message,
    message::{list, parameter, unfolded},
};

/// The most bytes of a reason's protocol and of its text that are kept.
const MAX_LEN: usize = 128;

/// A value of a Reason header: `Q.850;cause=16;text="Normal call clearing"` (RFC 3326, 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// `Q.850`, `SIP`, `Preemption` (RFC 4411) or another one, as the message has it.
    pub protocol: Box<[u8]>,
    /// The cause of Q.850, or the status code of SIP.
    pub cause: Option<u16>,
    /// The text, without quotation marks; empty if there is none.
    pub text: Box<[u8]>,
}

impl Reason {
    /// The reason that a message gives: of several, the first of Q.850, the cause of a
    /// telephone network, else the first.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Option<Self> {
        let mut first = None;
        for field in message.fields("Reason") {
            let field = unfolded(field);
            for value in list(&field) {
                let reason = Self::parse(value);
                if reason
                    .as_ref()
                    .is_some_and(|reason| reason.protocol.eq_ignore_ascii_case(b"Q.850"))
                {
                    return reason;
                }
                first = first.or(reason);
            }
        }
        first
    }

    /// The parts that the message has, with blanks between them: `Q.850 16 Normal call clearing`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let cause = self.cause.map(|cause| cause.to_string());
        let cause = cause.as_deref().unwrap_or_default().as_bytes();
        let parts = [&*self.protocol, cause, &*self.text];
        let parts: Vec<&[u8]> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(&b' ')
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let protocol = value.split(|byte| *byte == b';').next()?.trim_ascii();
        if protocol.is_empty() {
            return None;
        }
        let cause = parameter(value, b"cause")
            .and_then(|cause| std::str::from_utf8(unquoted(cause)).ok()?.parse().ok());
        Some(Self {
            protocol: kept(protocol),
            cause,
            text: kept(
                text(value, b"text=")
                    // Some phones have this name for it.
                    .or_else(|| text(value, b"description="))
                    .unwrap_or_default(),
            ),
        })
    }
}

/// The text may hold semicolons, so it is not looked for as other parameters are.
fn text<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let place = value
        .windows(name.len())
        .position(|window| window.eq_ignore_ascii_case(name))?;
    let text = value.get(place.saturating_add(name.len())..)?.trim_ascii();
    let text = match text.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next(),
        None => text.split(|byte| *byte == b';').next(),
    };
    text.map(<[u8]>::trim_ascii)
}

fn unquoted(value: &[u8]) -> &[u8] {
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    value.strip_suffix(b"\"").unwrap_or(value)
}

fn kept(bytes: &[u8]) -> Box<[u8]> {
    bytes.get(..MAX_LEN).unwrap_or(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(fields: &str) -> Option<String> {
        let text =
            format!("BYE sip:b SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 1\r\n{fields}\r\n\r\n");
        let message = Message::parse(text.as_bytes()).unwrap().unwrap();
        Reason::of(&message).map(|reason| String::from_utf8(reason.to_bytes()).unwrap())
    }

    #[test]
    fn as_messages_give_it() {
        for (fields, want) in [
            (
                "Reason: Q.850;cause=16;text=\"Normal call clearing\"",
                Some("Q.850 16 Normal call clearing"),
            ),
            (
                "reason : SIP ; cause=200 ; text=\"Call completed; elsewhere, said \"",
                Some("SIP 200 Call completed; elsewhere, said"),
            ),
            (
                "Reason: SIP;cause=480, Q.850 ;cause=\"19\"",
                Some("Q.850 19"),
            ),
            (
                "Reason: SIP;text=\"a, q.850\"\r\nReason: q.850;cause=31",
                Some("q.850 31"),
            ),
            ("Reason: Q.850\r\n ;cause=16", Some("Q.850 16")),
            ("Reason: SIP;cause=99999", Some("SIP")),
            (
                "Reason: SIP;description=\"User Hung Up\"",
                Some("SIP User Hung Up"),
            ),
            ("Reason: X;text=plain;cause=3", Some("X 3 plain")),
            ("Reason: ;cause=3", None),
            ("Reason:", None),
            ("", None),
        ] {
            assert_eq!(reason(fields).as_deref(), want, "{fields}");
        }
    }

    #[test]
    fn a_long_one_is_cut() {
        let long = format!("Reason: SIP;text=\"{}\"", "x".repeat(10_000));
        assert_eq!(reason(&long).map(|reason| reason.len()), Some(MAX_LEN + 4));
    }
}
