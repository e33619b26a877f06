//! A description in a few words, for people. [`Description`](super::Description) is what calls use.

use std::net::IpAddr;

use super::{
    Outline,
    format::format_of_static,
    lines::{Address, fields, lines, number},
};

/// The most formats of a line that are named.
const MAX_FORMATS: usize = 8;
/// The most bytes of a name.
const MAX_WORD_LEN: usize = 32;

/// An `m=` line, and what the lines behind it say, or those of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLine {
    /// The words of the line itself.
    pub outline: Outline,
    /// The address of the connection.
    pub place: Place,
    /// The names of its formats, with their payload types.
    pub formats: Vec<(Option<u8>, Box<[u8]>)>,
    /// True with keys for SRTP: `a=crypto` (RFC 4568), or a fingerprint for DTLS (RFC 8122).
    pub has_keys: bool,
}

/// The address of a connection line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// There is none.
    #[default]
    Nowhere,
    /// An address.
    Ip(IpAddr),
    /// A host name.
    HostName(Box<[u8]>),
    /// Something else.
    Unreadable,
}

impl MediaLine {
    /// Returns true if the media is encrypted: SRTP by its profile (RFC 3711, RFC 5764), or with
    /// keys.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        let is_secure = self.outline.protocol.windows(4).any(|word| word == b"SAVP");
        is_secure || self.has_keys
    }

    fn of(outline: Outline) -> Self {
        let format = |field: &[u8]| {
            let payload_type: Option<u8> = number(field);
            let known = payload_type.and_then(format_of_static);
            let name = known.map_or_else(|| field.into(), |format| word(format.codec.name()));
            (payload_type, name)
        };
        Self {
            formats: outline
                .formats
                .iter()
                .take(MAX_FORMATS)
                .map(|field| &**field)
                .map(format)
                .collect(),
            outline,
            place: Place::Nowhere,
            has_keys: false,
        }
    }

    fn add_attribute(&mut self, attribute: &[u8]) {
        let (name, value) = halves(attribute);
        self.has_keys |= is_key(name);
        if name.eq_ignore_ascii_case(b"rtpmap") {
            let mut words = fields(value);
            let payload_type: Option<u8> = words.next().and_then(number);
            let codec = words.next().unwrap_or_default();
            let codec = codec.split(|byte| *byte == b'/').next().unwrap_or_default();
            let mut formats = self.formats.iter_mut();
            if payload_type.is_some()
                && !codec.is_empty()
                && let Some(format) = formats.find(|format| format.0 == payload_type)
            {
                format.1 = word(codec);
            }
        }
    }
}

impl Place {
    fn of(value: &[u8]) -> Self {
        match Address::of_connection(value).next() {
            Some(Address::Ip(ip)) => Self::Ip(ip),
            Some(Address::HostName) => {
                Self::HostName(word(fields(value).nth(2).unwrap_or_default()))
            }
            Some(Address::Unreadable) => Self::Unreadable,
            None => Self::Nowhere,
        }
    }
}

/// The `m=` lines of a description.
#[must_use]
pub fn media_lines(description: &[u8]) -> Vec<MediaLine> {
    let outlines = Outline::read_all(description);
    let mut media: Vec<MediaLine> = outlines.into_iter().map(MediaLine::of).collect();
    let (mut of_session, mut has_keys) = (Place::Nowhere, false);
    let mut number = 0usize;
    for (kind, value) in lines(description) {
        let line = number.checked_sub(1).map(|place| media.get_mut(place));
        match (kind, line) {
            (b'm', _) => number = number.saturating_add(1),
            (b'c', None) => of_session = Place::of(value),
            (b'c', Some(Some(line))) => line.place = Place::of(value),
            (b'a', None) => has_keys |= is_key(halves(value).0),
            (b'a', Some(Some(line))) => line.add_attribute(value),
            _ => {}
        }
    }
    for line in &mut media {
        if line.place == Place::Nowhere {
            line.place = of_session.clone();
        }
        line.has_keys |= has_keys;
    }
    media
}

/// The name and the value of an attribute.
fn halves(attribute: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = attribute.splitn(2, |byte| *byte == b':');
    let mut half = || halves.next().unwrap_or_default().trim_ascii();
    (half(), half())
}

fn is_key(attribute: &[u8]) -> bool {
    [&b"crypto"[..], b"fingerprint"]
        .iter()
        .any(|name| attribute.eq_ignore_ascii_case(name))
}

fn word(bytes: &[u8]) -> Box<[u8]> {
    bytes.get(..MAX_WORD_LEN).unwrap_or(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Direction;

    #[test]
    fn a_line_inherits_from_the_session() {
        let sdp = b"v=0\r\nc=IN IP4 192.0.2.1\r\na=sendonly\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\nm=video 0 RTP/SAVP 99\r\nc=IN IP4 media.example.com\r\na=inactive\r\n";
        let lines = media_lines(sdp);
        let [audio, video] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(audio.place, Place::Ip("192.0.2.1".parse().unwrap()));
        assert_eq!(
            (audio.outline.port, audio.outline.direction),
            (Some(4000), Some(Direction::SendOnly))
        );
        let formats: Vec<&[u8]> = audio.formats.iter().map(|(_, name)| &**name).collect();
        assert_eq!(formats, [&b"PCMU"[..], b"telephone-event"]);
        assert!(!audio.is_encrypted() && video.is_encrypted());
        assert_eq!(
            video.place,
            Place::HostName(b"media.example.com"[..].into())
        );
        assert_eq!(
            (video.outline.port, video.outline.direction),
            (Some(0), Some(Direction::Inactive))
        );
    }

    #[test]
    fn any_bytes_are_read() {
        for bytes in [
            &b""[..],
            b"m=",
            b"m=audio",
            b"c=\nm=\na=rtpmap:\na=:",
            b"m=\xff x y z",
        ] {
            assert!(media_lines(bytes).len() <= 1);
        }
        assert_eq!(media_lines(&b"m=audio 1 RTP/AVP 0\n".repeat(500)).len(), 64);
    }
}
