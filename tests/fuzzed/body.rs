//! Bodies and session descriptions: as many parts and endpoints as are allowed, and line ends that do not matter.

use sip_call_extractor::{
    packet::Endpoint,
    sdp::{Description, Media},
    sip::Message,
};

use super::place;

const HEADER: &[u8] = b"INVITE sip:x SIP/2.0\r\nCall-ID: 1\r\nFrom: a\r\nTo: b\r\n";

/// The first line is the content type, the rest the body.
pub fn check(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (content_type, body) = input.split_at(end);
    let payload = [HEADER, b"Content-Type: ", content_type, b"\r\n\r\n", body.get(1..).unwrap_or_default()].concat();
    let Some(Ok(message)) = Message::parse(&payload) else { panic!("the header is a good one") };
    let mut before = 0;
    for description in message.descriptions() {
        if !description.is_empty() {
            let place = place(&payload, description);
            assert!(before <= place.start, "parts do not overlap");
            before = place.end;
        }
        check_description(description);
    }
    check_description(body);
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

fn with_line_ends(text: &[u8], end: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(end)
}

fn check_all(all: &[Media]) {
    assert!(all.len() <= 64);
    let sum = |len: fn(&Media) -> usize| all.iter().map(len).sum::<usize>();
    assert!(sum(|media| media.endpoints.len()) <= 256);
    assert!(sum(|media| media.unresolved.len()) <= 256);
    assert!(sum(|media| media.bases.len()) <= 256);
    assert!(sum(|media| media.formats.len()) <= 64 * 64 + 512);
    all.iter().for_each(check_media);
}

fn check_media(media: &Media) {
    assert!(
        [media.endpoints.len(), media.unresolved.len(), media.bases.len(), media.formats.len()].iter().all(|len| *len <= 128)
    );
    assert!(media.formats.iter().all(|format| format.payload_type < 128 && format.clock_rate > 0));
    let mut known = std::collections::BTreeSet::new();
    assert!(media.formats.iter().all(|format| known.insert(format.payload_type)), "one format for a payload type");
    assert!(media.ptime_ms.is_none_or(|ms| ms > 0));
    assert!(!media.refused || (media.endpoints.is_empty() && media.unresolved.is_empty() && media.bases.is_empty()));
    for (number, base) in media.bases.iter().enumerate() {
        assert!(base.port() != 0 && !base.is_unspecified() && !media.bases[..number].contains(base));
    }
    for (number, port) in media.unresolved.iter().enumerate() {
        assert!(*port != 0 && !media.unresolved[..number].contains(port));
    }
    for (number, (endpoint, _)) in media.endpoints.iter().enumerate() {
        assert!(endpoint.port() != 0 && !endpoint.is_unspecified());
        assert!(!media.endpoints[..number].iter().any(|(other, _)| other == endpoint));
    }
    let translated = media.translated(Endpoint::v4([198, 51, 100, 1], 5060));
    assert!(translated.endpoints.starts_with(&media.endpoints) && translated.endpoints.len() <= 128);
}
