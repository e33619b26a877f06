//! A description in a few words, for people. [`Description`](super::Description) is what calls use.

use std::net::IpAddr;

use super::{
    format::format_of_static,
    lines::{Address, fields, lines, number},
};

/// The most media lines that are kept.
const MAX_LINES: usize = 16;
/// The most formats of a line that are kept.
const MAX_FORMATS: usize = 8;
/// The most bytes of a word.
const MAX_WORD_LEN: usize = 32;

/// An `m=` line, and what the lines behind it say, or those of the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaLine {
    /// `audio`, `video` and so on.
    pub kind: Box<[u8]>,
    /// The port, if it can be read.
    pub port: Option<u16>,
    /// The transport: `RTP/AVP` and so on.
    pub protocol: Box<[u8]>,
    /// The address of the connection.
    pub place: Place,
    /// The direction, if a line gives one.
    pub direction: Option<&'static str>,
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
        let is_secure = self.protocol.windows(4).any(|word| word == b"SAVP");
        is_secure || self.has_keys
    }

    fn of(value: &[u8]) -> Self {
        let mut words = fields(value);
        let kind = word(words.next().unwrap_or_default());
        let port = words.next().unwrap_or_default();
        let port = port.split(|byte| *byte == b'/').next().and_then(number);
        let protocol = word(words.next().unwrap_or_default());
        let format = |field: &[u8]| {
            let payload_type: Option<u8> = number(field);
            let known = payload_type.and_then(format_of_static);
            let name = known.map_or_else(|| word(field), |format| word(format.codec.name()));
            (payload_type, name)
        };
        Self {
            kind,
            port,
            protocol,
            formats: words.take(MAX_FORMATS).map(format).collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, kind: u8, value: &[u8]) {
        match kind {
            b'c' => self.place = Place::of(value),
            b'a' => self.add_attribute(value),
            _ => {}
        }
    }

    fn add_attribute(&mut self, attribute: &[u8]) {
        let mut halves = attribute.splitn(2, |byte| *byte == b':');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().unwrap_or_default().trim_ascii();
        for direction in ["sendrecv", "sendonly", "recvonly", "inactive"] {
            if name.eq_ignore_ascii_case(direction.as_bytes()) {
                self.direction = Some(direction);
            }
        }
        if name.eq_ignore_ascii_case(b"crypto") || name.eq_ignore_ascii_case(b"fingerprint") {
            self.has_keys = true;
        }
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
    let mut session = MediaLine::default();
    let mut media: Vec<MediaLine> = Vec::new();
    for (kind, value) in lines(description) {
        if kind == b'm' {
            if media.len() >= MAX_LINES {
                break;
            }
            media.push(MediaLine::of(value));
        } else {
            media.last_mut().unwrap_or(&mut session).add(kind, value);
        }
    }
    for line in &mut media {
        if line.place == Place::Nowhere {
            line.place = session.place.clone();
        }
        line.direction = line.direction.or(session.direction);
        line.has_keys |= session.has_keys;
    }
    media
}

fn word(bytes: &[u8]) -> Box<[u8]> {
    bytes.get(..MAX_WORD_LEN).unwrap_or(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_inherits_from_the_session() {
        let sdp = b"v=0\r\nc=IN IP4 192.0.2.1\r\na=sendonly\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\nm=video 0 RTP/SAVP 99\r\nc=IN IP4 media.example.com\r\na=inactive\r\n";
        let lines = media_lines(sdp);
        let [audio, video] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(audio.place, Place::Ip("192.0.2.1".parse().unwrap()));
        assert_eq!(
            (audio.port, audio.direction),
            (Some(4000), Some("sendonly"))
        );
        let formats: Vec<&[u8]> = audio.formats.iter().map(|(_, name)| &**name).collect();
        assert_eq!(formats, [&b"PCMU"[..], b"telephone-event"]);
        assert!(!audio.is_encrypted() && video.is_encrypted());
        assert_eq!(
            video.place,
            Place::HostName(b"media.example.com"[..].into())
        );
        assert_eq!((video.port, video.direction), (Some(0), Some("inactive")));
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
        assert_eq!(
            media_lines(&b"m=audio 1 RTP/AVP 0\n".repeat(500)).len(),
            MAX_LINES
        );
    }
}
