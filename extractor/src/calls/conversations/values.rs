//! The words of a message about the other legs of its conversation.

use std::sync::Arc;

use memchr::memrchr;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::LinkReason;
use crate::{
    packet::Endpoint,
    sip::{self, Message, Method, StartLine},
};

/// The fewest bytes of a value that says nothing else than that it is the same: shorter ones are
/// numbers of a queue or a trunk.
const MIN_LEN: usize = 8;
/// The fewest bytes of a Call-ID that is found in another one.
const MIN_PART_LEN: usize = 12;
/// The most bytes of a value; longer ones link nothing.
pub(super) const MAX_LEN: usize = 256;
/// The most words that are taken off either end of a Call-ID.
const MAX_WORDS: usize = 6;

/// A value that links the calls that hold it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Value {
    /// A Call-ID, or what is the same in other header fields.
    CallId(Arc<[u8]>),
    /// A UUID of Session-ID, in lower case.
    Session(Box<[u8]>),
    /// An icid-value.
    Icid(Box<[u8]>),
    /// A `cid` of Referred-By.
    Referral(Box<[u8]>),
    /// The two ends of a media path, the lower one first.
    Media(Endpoint, Endpoint),
}

/// The values of a message, with the reasons for links by them; `headers` are more names of header
/// fields.
#[cold]
pub(super) fn values(
    message: &Message<'_>,
    headers: &[Box<str>],
) -> SmallVec<[(Value, LinkReason); 2]> {
    let mut found = SmallVec::new();
    for field in message.fields("Session-ID") {
        let local = field.split(|byte| *byte == b';').next().and_then(uuid);
        let remote = sip::parameter(field, b"remote").and_then(uuid);
        let both = local.into_iter().chain(remote);
        found.extend(both.map(|uuid| (Value::Session(uuid), LinkReason::SessionId)));
    }
    for field in message.fields("P-Charging-Vector") {
        let icid = field
            .split(|byte| *byte == b';')
            .find_map(|part| after(part.trim_ascii(), b"icid-value"));
        let icid = icid.map(bare).filter(|icid| is_telling(icid));
        found.extend(icid.map(|icid| (Value::Icid(icid.into()), LinkReason::ChargingVector)));
    }
    let names = ["x-cid", "x-call-id"];
    for name in names.into_iter().chain(headers.iter().map(|name| &**name)) {
        let telling = message
            .fields(name)
            .map(bare)
            .filter(|value| is_telling(value));
        found.extend(
            telling.map(|value| (Value::CallId(value.into()), LinkReason::Header(name.into()))),
        );
    }
    let mut names_call = |call_id: &[u8], reason: LinkReason| {
        if !call_id.is_empty() && call_id.len() <= MAX_LEN {
            found.push((Value::CallId(call_id.into()), reason));
        }
    };
    if message.start == StartLine::Request(Method::Invite) {
        for field in message.fields("Replaces") {
            names_call(first_word(field), LinkReason::Replaces);
        }
    }
    if matches!(message.start, StartLine::Request(_)) {
        for field in message.fields("Target-Dialog") {
            names_call(first_word(field), LinkReason::TargetDialog);
        }
        for field in message.fields("Refer-To") {
            if let Some(call_id) = replaced(field) {
                names_call(&call_id, LinkReason::ReferTo);
            }
        }
        for field in message.fields("Referred-By") {
            let after_uri = field.rsplit(|byte| *byte == b'>').next().unwrap_or(field);
            let cid = sip::parameter(after_uri, b"cid").map(bare);
            let cid = cid.filter(|cid| is_telling(cid));
            found.extend(cid.map(|cid| (Value::Referral(cid.into()), LinkReason::ReferredBy)));
        }
    }
    found
}

/// Returns true if a byte separates the words of a Call-ID.
fn is_break(byte: u8) -> bool {
    // A test of one bit in 64, and not a search: each call costs it for each byte.
    matches!(
        byte,
        b'!' | b'+' | b',' | b'-' | b'.' | b'/' | b':' | b';' | b'=' | b'@' | b'_' | b'~'
    )
}

/// The beginnings and the ends of a Call-ID that may be the Call-ID of another leg. They are told
/// from the rest by a character that separates words. No part of the host is one.
///
/// Each byte is looked at twice at most: each call costs this.
pub(super) fn parts(call_id: &[u8]) -> impl Iterator<Item = &[u8]> {
    let break_at = |(place, byte): (usize, &u8)| is_break(*byte).then_some(place);
    let places = call_id.iter().enumerate();
    // Whatever comes before these is too short to be a beginning.
    let of_beginnings = places.clone().skip(MIN_PART_LEN).rev();
    let beginnings = of_beginnings
        .filter_map(break_at)
        .take(MAX_WORDS)
        .filter_map(|end| call_id.get(..end));
    let host = memrchr(b'@', call_id).unwrap_or(call_id.len());
    let longest = call_id.len().saturating_sub(MIN_PART_LEN);
    let ends = places
        .take(host.min(longest))
        .filter_map(break_at)
        .take(MAX_WORDS)
        .filter_map(|place| call_id.get(place.saturating_add(1)..));
    beginnings.chain(ends).filter(|part| part.len() <= MAX_LEN)
}

/// A UUID of 32 digits (RFC 7989, section 5), also with hyphens; the nil UUID is none.
fn uuid(text: &[u8]) -> Option<Box<[u8]>> {
    let digits = text.trim_ascii().iter().filter(|byte| **byte != b'-');
    let digits: Vec<u8> = digits.take(33).map(u8::to_ascii_lowercase).collect();
    let is_uuid = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
    (is_uuid && digits.iter().any(|digit| *digit != b'0')).then(|| digits.into())
}

/// Returns true for a value that two calls have only if they belong together, as far as its form
/// tells.
fn is_telling(value: &[u8]) -> bool {
    (MIN_LEN..=MAX_LEN).contains(&value.len())
        && value.iter().any(|byte| !matches!(byte, b'0' | b'-'))
}

/// A value without the quotation marks or brackets around it.
fn bare(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    let inner = |open: &[u8], close: &[u8]| value.strip_prefix(open)?.strip_suffix(close);
    inner(b"\"", b"\"")
        .or_else(|| inner(b"<", b">"))
        .unwrap_or(value)
        .trim_ascii()
}

/// The Call-ID at the beginning of Replaces and Target-Dialog.
fn first_word(field: &[u8]) -> &[u8] {
    let word = field.split(|byte| *byte == b';').next().unwrap_or_default();
    word.trim_ascii()
}

/// The text behind `name=`.
fn after<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = text.split_at_checked(name.len())?;
    let rest = rest.trim_ascii_start().strip_prefix(b"=")?;
    found.eq_ignore_ascii_case(name).then_some(rest)
}

/// The Call-ID that the URI of Refer-To wants replaced:
/// `<sip:b@example.com?Replaces=1%40host%3Bto-tag%3D2%3Bfrom-tag%3D3>` (RFC 3261, 19.1.1).
fn replaced(field: &[u8]) -> Option<Vec<u8>> {
    let query = field.splitn(2, |byte| *byte == b'?').nth(1)?;
    let query = query.split(|byte| *byte == b'>').next()?;
    let mut headers = query.split(|byte| *byte == b'&');
    let value = headers.find_map(|header| after(header, b"Replaces"))?;
    let value = unescaped(value.get(..MAX_LEN.saturating_mul(3)).unwrap_or(value));
    Some(first_word(&value).to_vec())
}

/// Text without percent-encoding.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let byte = match after {
            [high, low, ..] if *first == b'%' => digit(high)
                .zip(digit(low))
                .and_then(|(high, low)| u8::try_from(high << 4 | low).ok()),
            _ => None,
        };
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(start: &str, fields: &str) -> Vec<String> {
        let text = format!("{start} SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 1\r\n{fields}\r\n\r\n");
        let message = Message::parse(text.as_bytes()).unwrap().unwrap();
        let word = |(value, reason): (Value, LinkReason)| {
            let bytes: &[u8] = match &value {
                Value::CallId(bytes) => bytes,
                Value::Session(bytes) | Value::Icid(bytes) | Value::Referral(bytes) => bytes,
                Value::Media(..) => panic!("media"),
            };
            format!("{reason} {}", String::from_utf8_lossy(bytes))
        };
        values(&message, &["x-leg".into()])
            .into_iter()
            .map(word)
            .collect()
    }

    #[test]
    fn values_of_requests() {
        let (one, two) = ("0123456789abcdef0123456789ABCDEF", "f".repeat(32));
        let nil = "0".repeat(32);
        for (fields, want) in [
            (
                format!("Session-ID: {one};remote={two}"),
                vec![
                    "session-id 0123456789abcdef0123456789abcdef".to_owned(),
                    format!("session-id {two}"),
                ],
            ),
            (
                format!("session-id: {two};remote={nil}"),
                vec![format!("session-id {two}")],
            ),
            (format!("Session-ID: {nil}"), vec![]),
            ("Session-ID: 12".to_owned(), vec![]),
            (
                "P-Charging-Vector: icid-value=\"abcd-1234\";orig-ioi=home1".to_owned(),
                vec!["icid abcd-1234".to_owned()],
            ),
            (
                "P-Charging-Vector: orig-ioi=home1;icid-value=0000-0000-0".to_owned(),
                vec![],
            ),
            ("X-CID: 1".to_owned(), vec![]),
            (
                "X-CID: <12345678>".to_owned(),
                vec!["x-cid 12345678".to_owned()],
            ),
            (
                "X-Leg: abc@host.example".to_owned(),
                vec!["x-leg abc@host.example".to_owned()],
            ),
            (
                "Replaces: 98@x;to-tag=1;from-tag=2".to_owned(),
                vec!["replaces 98@x".to_owned()],
            ),
            (
                "r: <sip:c@x?Replaces=9%408%3Bto-tag%3D1&Require=replaces>".to_owned(),
                vec!["refer-to 9@8".to_owned()],
            ),
            ("Refer-To: <sip:c@x?Subject=1>".to_owned(), vec![]),
            (
                "b: <sip:a@x;cid=none>;cid=\"20398823.2U@x\"".to_owned(),
                vec!["referred-by 20398823.2U@x".to_owned()],
            ),
            (
                "Target-Dialog: 7@x;local-tag=1".to_owned(),
                vec!["target-dialog 7@x".to_owned()],
            ),
            ("History-Info: <sip:a@x>;index=1".to_owned(), vec![]),
        ] {
            assert_eq!(found("INVITE sip:b", &fields), want, "{fields}");
        }
        assert!(found("UPDATE sip:b", "Replaces: 98@x").is_empty());
    }

    #[test]
    fn parts_of_call_ids() {
        let of = |call_id: &'static str| {
            let parts = parts(call_id.as_bytes());
            parts
                .map(|part| std::str::from_utf8(part).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("SBC-0123456789ab@x-y"),
            ["SBC-0123456789ab@x", "SBC-0123456789ab", "0123456789ab@x-y"]
        );
        assert_eq!(of("0123456789abcdef"), [""; 0]);
        assert_eq!(
            of("1@border-host.example.com"),
            ["1@border-host.example", "1@border-host"]
        );
        assert_eq!(of("short-1"), [""; 0]);
        assert_eq!(of("a-b-c-d-e-f-g-h-0123456789ab").len(), 2 + 6);
        assert_eq!(of("0123456789ab-"), ["0123456789ab"]);
        assert_eq!(of("-0123456789ab"), ["0123456789ab"]);
        assert_eq!(of("-0123456789a"), [""; 0]);
        assert_eq!(of("0123456789a-"), [""; 0]);
    }
}
