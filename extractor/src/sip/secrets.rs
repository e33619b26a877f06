//! Answers to challenges, and digits: a message has them, and its text in a record must not.

use std::{iter, ops::Range};

use memchr::memmem;

use super::{Message, Method, StartLine, message::strip_prefix_ignoring_case};

/// The header fields with credentials (RFC 3261, 20.7 and 20.28), and their parameter that a
/// password can be guessed from (RFC 7616, 3.4).
const FIELDS: [&[u8]; 2] = [b"authorization:", b"proxy-authorization:"];
const RESPONSE: &[u8] = b"response=\"";

/// The type of bodies that report digits (RFC 4730).
const KPML: &[u8] = b"application/kpml-response";

impl Message<'_> {
    /// The length of what comes before the body, in bytes.
    #[must_use]
    pub fn head_len(&self) -> usize {
        let ends = [&b"\n\r\n"[..], b"\n\n"];
        let ends = ends.map(|end| Some(memmem::find(self.raw, end)?.saturating_add(end.len())));
        let first = ends.into_iter().flatten().min();
        first.unwrap_or(self.raw.len())
    }

    /// True if the body may report digits that were pressed: INFO in any form, and KPML.
    #[must_use]
    pub fn may_have_digits(&self) -> bool {
        self.start == StartLine::Request(Method::Info)
            || strip_prefix_ignoring_case(self.content_type.trim_ascii_start(), KPML).is_some()
    }

    /// The answers to challenges, as ranges of `raw`. A field may be folded over lines.
    #[must_use]
    pub fn credentials(&self) -> Vec<Range<usize>> {
        let head = self.raw.get(..self.head_len()).unwrap_or_default();
        let mut found = Vec::new();
        let mut is_in_field = false;
        let mut start = 0usize;
        for line in head.split(|byte| *byte == b'\n') {
            let goes_on = matches!(line.first(), Some(b' ' | b'\t'));
            is_in_field = (goes_on && is_in_field)
                || FIELDS
                    .iter()
                    .any(|name| strip_prefix_ignoring_case(line, name).is_some());
            if is_in_field {
                found.extend(response_in(line).map(|value| {
                    start.saturating_add(value.start)..start.saturating_add(value.end)
                }));
            }
            start = start.saturating_add(line.len()).saturating_add(1);
        }
        found
    }
}

/// The values of `response="..."` in a line, and in what an unclosed quote leaves of it.
fn response_in(line: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let lower = line.to_ascii_lowercase();
    let mut from = 0usize;
    iter::from_fn(move || {
        let at = memmem::find(lower.get(from..)?, RESPONSE)?;
        let start = from.saturating_add(at).saturating_add(RESPONSE.len());
        let rest = lower.get(start..)?;
        let len = rest
            .iter()
            .position(|byte| *byte == b'"')
            .unwrap_or(rest.len());
        from = start.saturating_add(len);
        Some(start..from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &str, body: &str) -> String {
        format!(
            "INFO sip:b SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 1\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn answers_to_challenges() {
        for (fields, want) in [
            (
                "Authorization: Digest username=\"a\", response=\"abc\", nonce=\"x\"\r\n",
                &["abc"][..],
            ),
            (
                "proxy-authorization: Digest\r\n Response=\"de\"\r\n",
                &["de"],
            ),
            ("Authorization: Digest response=\"open\r\n", &["open\r"]),
            ("X: response=\"abc\"\r\n response=\"abc\"\r\n", &[]),
        ] {
            let text = message(fields, "Authorization: response=\"body\"");
            let message = Message::parse(text.as_bytes()).unwrap().unwrap();
            let found = message.credentials();
            let found: Vec<&str> = found.into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, want, "{fields}");
        }
    }

    #[test]
    fn the_head_ends_before_the_body() {
        for body in ["", "Signal=5\r\n"] {
            let text = message("", body);
            let message = Message::parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(message.head_len(), text.len() - body.len());
            assert!(message.may_have_digits());
        }
    }
}
