//! The outline of a description, for records: what its `m=` lines say beside the endpoints.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::lines::{fields, lines, number};

/// The most `m=` lines that are read: as many as [`super::Description`] has media.
const MAX_LINES: usize = 64;
/// The most formats of an `m=` line that are kept.
const MAX_FORMATS: usize = 32;
/// The most bytes of a word that are kept.
const MAX_WORD_LEN: usize = 32;

/// An `m=` line, and the direction of its media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// RFC 8866, 5.14: `audio`, `video`, `image` and the like.
    pub media: Box<[u8]>,
    /// The port; `None` if it cannot be read.
    pub port: Option<u16>,
    /// `RTP/AVP` and the like.
    pub protocol: Box<[u8]>,
    /// The formats: payload types, if the protocol is RTP.
    pub formats: SmallVec<[Box<[u8]>; 4]>,
    /// The direction, of the media or else of the session. `None` if no line says it: then the
    /// media is sent and received.
    pub direction: Option<Direction>,
}

/// The direction of media, as the sender of the description sees it: RFC 8866, 6.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendReceive,
    /// The sender only sends: the other side is on hold.
    SendOnly,
    /// The sender only receives.
    ReceiveOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Its name in descriptions.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::SendReceive => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::ReceiveOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn of_attribute(attribute: &[u8]) -> Option<Self> {
        [
            Self::SendReceive,
            Self::SendOnly,
            Self::ReceiveOnly,
            Self::Inactive,
        ]
        .into_iter()
        .find(|direction| attribute.eq_ignore_ascii_case(direction.word().as_bytes()))
    }
}

impl Outline {
    /// The `m=` lines of a description, in the order of its media.
    #[must_use]
    pub fn read_all(description: &[u8]) -> Vec<Self> {
        let mut of_session = None;
        let mut outlines: Vec<Self> = Vec::new();
        for (kind, value) in lines(description) {
            match kind {
                b'm' if outlines.len() >= MAX_LINES => {}
                b'm' => outlines.push(Self::of_line(value)),
                b'a' => {
                    let of_line = outlines.last_mut().map(|outline| &mut outline.direction);
                    let direction = Direction::of_attribute(value.trim_ascii());
                    let slot = of_line.unwrap_or(&mut of_session);
                    *slot = direction.or(*slot);
                }
                _ => {}
            }
        }
        for outline in &mut outlines {
            outline.direction = outline.direction.or(of_session);
        }
        outlines
    }

    /// RFC 8866, 5.14: `audio 49170/2 RTP/AVP 0 96`.
    fn of_line(value: &[u8]) -> Self {
        let mut parts = fields(value);
        let media = word(parts.next().unwrap_or_default());
        let port = parts.next().unwrap_or_default();
        let protocol = word(parts.next().unwrap_or_default());
        Self {
            media,
            port: port.split(|&byte| byte == b'/').next().and_then(number),
            protocol,
            formats: parts.take(MAX_FORMATS).map(word).collect(),
            direction: None,
        }
    }
}

fn word(field: &[u8]) -> Box<[u8]> {
    field.get(..MAX_WORD_LEN).unwrap_or(field).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_with_their_directions() {
        let text = "v=0\r\na=recvonly\r\nm=audio 49170/2 RTP/AVP 0 96\r\na=rtpmap:96 opus/48000/2\r\nm=image 4000 udptl t38\r\na=inactive\r\nm=video x\r\n";
        let read = Outline::read_all(text.as_bytes());
        let words = |outline: &Outline| {
            let formats: Vec<String> = outline
                .formats
                .iter()
                .map(|format| String::from_utf8_lossy(format).into_owned())
                .collect();
            format!(
                "{} {:?} {} {} {}",
                String::from_utf8_lossy(&outline.media),
                outline.port,
                String::from_utf8_lossy(&outline.protocol),
                formats.join(","),
                outline.direction.map_or("", Direction::word)
            )
        };
        let read: Vec<String> = read.iter().map(words).collect();
        assert_eq!(
            read,
            [
                "audio Some(49170) RTP/AVP 0,96 recvonly",
                "image Some(4000) udptl t38 inactive",
                "video None   recvonly"
            ]
        );
    }

    #[test]
    fn no_more_than_the_limits() {
        let long = format!("m={} 1 RTP/AVP{}\r\n", "a".repeat(99), " 0".repeat(99));
        let read = Outline::read_all(long.repeat(99).as_bytes());
        assert_eq!(read.len(), MAX_LINES);
        assert_eq!(read[0].media.len(), MAX_WORD_LEN);
        assert_eq!(read[0].formats.len(), MAX_FORMATS);
    }
}
