//! Bodies and session descriptions: the limits on parts and endpoints hold, and the kind of line
//! ends does not matter.

use std::borrow::Cow;

use sip_call_extractor::{
    packet::Endpoint,
    sdp::{Description, Media},
    sip::{Body, Message},
};

use super::place;

const HEADER: &str = "SIP/2.0\r\nCall-ID: 1\r\nFrom: a\r\nTo: b\r\n";
const MAX_DECODED: usize = 64 * 1024;

/// The first line is the content type, the rest is the body: of an offer, of an INFO, and of a
/// compressed offer.
pub fn check(input: &[u8]) {
    let end = input
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(input.len());
    let (content_type, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let payload = |method, encoding: &str| {
        let header = format!("{method} sip:x {HEADER}Content-Encoding: {encoding}\r\n");
        [
            header.as_bytes(),
            b"Content-Type: ",
            content_type,
            b"\r\n\r\n",
            body,
        ]
        .concat()
    };
    check_message(&payload("INVITE", ""));
    check_message(&payload("INFO", "identity"));
    check_message(&payload("UPDATE", "deflate"));
    check_message(&payload("PRACK", "gzip"));
    check_description(body);
    check_fragment(body);
}

fn check_message(payload: &[u8]) {
    let Some(Ok(message)) = Message::parse(payload) else {
        panic!("the header is a good one")
    };
    let bodies = message.bodies();
    assert!(bodies.found.len() <= 8);
    let (mut before, mut decoded) = (0, 0);
    for body in &bodies.found {
        match body {
            Body::Description(Cow::Owned(text)) | Body::Fragment(Cow::Owned(text)) => {
                decoded += text.len();
            }
            body if body.text().is_empty() => {}
            body => {
                let place = place(payload, body.text());
                assert!(before <= place.start, "parts do not overlap");
                before = place.end;
            }
        }
        match body {
            Body::Description(text) => check_description(text),
            Body::Fragment(text) => check_fragment(text),
        }
    }
    assert!(decoded <= MAX_DECODED);
}

fn check_description(text: &[u8]) {
    let description = Description::parse(text);
    check_all(&description.media);

    assert_eq!(Description::parse(text), description);
    assert_eq!(Description::parse(&[text, b"\n"].concat()), description);
    for end in [&b"\r\n"[..], b"\r"] {
        assert_eq!(Description::parse(&with_line_ends(text, end)), description);
    }
}

fn check_fragment(text: &[u8]) {
    let fragment = Description::parse_fragment(text);
    check_all(&fragment.media);
    assert!(
        fragment
            .media
            .iter()
            .all(|media| media.formats.is_empty() && media.unresolved.is_empty() && !media.refused)
    );
    assert_eq!(
        Description::parse_fragment(&with_line_ends(text, b"\r")),
        fragment
    );
}

fn with_line_ends(text: &[u8], end: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == b'\n')
        .collect::<Vec<_>>()
        .join(end)
}

fn check_all(all: &[Media]) {
    // The session of a fragment counts, too.
    assert!(all.len() <= 65);
    let sum = |len: fn(&Media) -> usize| all.iter().map(len).sum::<usize>();
    assert!(sum(|media| media.endpoints.len()) <= 256);
    assert!(sum(|media| media.unresolved.len()) <= 256);
    assert!(sum(|media| media.bases.len()) <= 256);
    assert!(sum(|media| media.formats.len()) <= 64 * 64 + 512);
    all.iter().for_each(check_media);
}

fn check_media(media: &Media) {
    assert!(
        [
            media.endpoints.len(),
            media.unresolved.len(),
            media.bases.len(),
            media.formats.len()
        ]
        .iter()
        .all(|len| *len <= 128)
    );
    assert!(
        media
            .formats
            .iter()
            .all(|format| format.payload_type < 128 && format.clock_rate > 0)
    );
    let mut known = std::collections::BTreeSet::new();
    assert!(
        media
            .formats
            .iter()
            .all(|format| known.insert(format.payload_type)),
        "one format for a payload type"
    );
    assert!(media.ptime_ms.is_none_or(|ms| ms > 0));
    assert!(
        !media.refused
            || (media.endpoints.is_empty()
                && media.unresolved.is_empty()
                && media.bases.is_empty())
    );
    for (number, base) in media.bases.iter().enumerate() {
        assert!(
            base.port() != 0 && !base.is_unspecified() && !media.bases[..number].contains(base)
        );
    }
    for (number, port) in media.unresolved.iter().enumerate() {
        assert!(*port != 0 && !media.unresolved[..number].contains(port));
    }
    for (number, (endpoint, _)) in media.endpoints.iter().enumerate() {
        assert!(endpoint.port() != 0 && !endpoint.is_unspecified());
        assert!(
            !media.endpoints[..number]
                .iter()
                .any(|(other, _)| other == endpoint)
        );
    }
    let translated =
        media.with_guesses((5060..5300).map(|port| Endpoint::v4([198, 51, 100, 1], port)));
    assert!(
        translated.endpoints.starts_with(&media.endpoints) && translated.endpoints.len() <= 128
    );
}
