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
    let media = &description.media;
    assert!(media.len() <= 64);
    assert!(media.iter().map(|media| media.endpoints.len()).sum::<usize>() <= 256);
    media.iter().for_each(check_media);

    assert_eq!(Description::parse(text), description);
    assert_eq!(Description::parse(&[text, b"\n"].concat()), description);
    let mut with_crlf = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.split_last() {
            Some((b'\n', line)) => with_crlf.extend([line, b"\r\n"].concat()),
            _ => with_crlf.extend(line),
        }
    }
    assert_eq!(Description::parse(&with_crlf), description);
}

fn check_media(media: &Media) {
    assert!(media.endpoints.len() <= 128 && media.formats.len() <= 128);
    assert!(media.formats.iter().all(|format| format.payload_type < 128 && format.clock_rate > 0));
    assert!(media.ptime_ms.is_none_or(|ms| ms > 0));
    for (number, (endpoint, _)) in media.endpoints.iter().enumerate() {
        assert!(endpoint.port() != 0 && !endpoint.is_unspecified());
        assert!(!media.endpoints[..number].iter().any(|(other, _)| other == endpoint));
    }
    let translated = media.with_guesses((5060..5300).map(|port| Endpoint::v4([198, 51, 100, 1], port)));
    assert!(translated.endpoints.starts_with(&media.endpoints) && translated.endpoints.len() <= 128);
}
