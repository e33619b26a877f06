//! Message bodies: the session descriptions in them (RFC 3261, 7.4; RFC 2046, 5.1), and fragments
//! of descriptions (RFC 8840).

use std::borrow::Cow;

use memchr::memmem;

use super::{
    Message, Method, StartLine,
    encoding::{Encoding, MAX_DECODED},
    message::{parameter, strip_prefix_ignoring_case},
};

/// The deepest level of multipart bodies that is searched.
const MAX_DEPTH: u8 = 4;
/// The number of parts that are searched on each level: more than any message has, and few enough
/// to cost no time.
const MAX_PARTS: usize = 32;
/// The number of descriptions that are read. A message has one, or two to choose from.
const MAX_FOUND: usize = 8;

/// The bodies of a message that describe media.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bodies<'a> {
    /// The body itself, or the parts of a multipart body, in their order.
    pub found: Vec<Body<'a>>,
    /// The number of bodies that could not be decoded.
    pub undecodable: u64,
}

/// A body, or a part of one, that describes media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A session description.
    Description(Cow<'a, [u8]>),
    /// Lines of a description that are sent later, each candidate when it is known (trickle ICE):
    /// RFC 8840, 9.
    Fragment(Cow<'a, [u8]>),
}

impl<'a> Message<'a> {
    /// The bodies that describe media: fragments of descriptions in INFO (RFC 8840, 4.4), else
    /// descriptions.
    #[must_use]
    pub fn bodies(&self) -> Bodies<'a> {
        let wanted = if self.start == StartLine::Request(Method::Info) {
            BodyKind::Fragment
        } else {
            BodyKind::Description
        };
        let mut search = Search {
            wanted,
            room: MAX_DECODED,
            undecodable: 0,
        };
        let mut found = Vec::new();
        let body = BodyPart {
            content_type: self.content_type,
            encoding: self.content_encoding,
            body: self.body,
        };
        search.collect(&body, MAX_DEPTH, &mut found);
        Bodies {
            found,
            undecodable: search.undecodable,
        }
    }

    /// Returns true if the body is a fragment of a description, or may have one among its parts.
    pub(super) fn may_have_fragment(&self) -> bool {
        matches!(
            BodyKind::of(self.content_type),
            Some(BodyKind::Fragment | BodyKind::Multipart)
        )
    }
}

impl Body<'_> {
    /// Its lines.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        let (Self::Description(text) | Self::Fragment(text)) = self;
        text
    }

    fn into_owned<'b>(self) -> Body<'b> {
        match self {
            Self::Description(text) => Body::Description(text.into_owned().into()),
            Self::Fragment(text) => Body::Fragment(text.into_owned().into()),
        }
    }
}

/// The kind of a body, by its Content-Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    Description,
    Fragment,
    Multipart,
}

impl BodyKind {
    /// `None` for any other type. A body without Content-Type may be a description.
    fn of(content_type: &[u8]) -> Option<Self> {
        let labels: [(&[u8], Self); 3] = [
            (b"application/sdp", Self::Description),
            (b"application/trickle-ice-sdpfrag", Self::Fragment),
            (b"multipart/", Self::Multipart),
        ];
        let fits = |label: &[u8]| {
            content_type.is_empty() || strip_prefix_ignoring_case(content_type, label).is_some()
        };
        labels
            .into_iter()
            .find(|(label, _)| fits(label))
            .map(|(_, kind)| kind)
    }
}

/// A body, or a part of one, with its header fields.
struct BodyPart<'a> {
    content_type: &'a [u8],
    encoding: &'a [u8],
    body: &'a [u8],
}

struct Search {
    /// Descriptions or fragments.
    wanted: BodyKind,
    /// The number of bytes that may still be decoded.
    room: usize,
    undecodable: u64,
}

impl Search {
    fn collect<'a>(&mut self, part: &BodyPart<'a>, depth: u8, found: &mut Vec<Body<'a>>) {
        let is_wanted = |kind: &BodyKind| {
            found.len() < MAX_FOUND && (*kind == BodyKind::Multipart || *kind == self.wanted)
        };
        let Some(kind) = BodyKind::of(part.content_type).filter(is_wanted) else {
            return;
        };
        match Encoding::of(part.encoding) {
            Encoding::Identity => self.collect_plain(part, kind, depth, found),
            _ if part.body.is_empty() => {}
            encoding => match encoding.decode(part.body, &mut self.room) {
                Ok(body) => {
                    let mut inside = Vec::new();
                    self.collect_plain(
                        &BodyPart {
                            body: &body,
                            ..*part
                        },
                        kind,
                        depth,
                        &mut inside,
                    );
                    found.extend(inside.into_iter().map(Body::into_owned));
                }
                Err(_) => self.undecodable = self.undecodable.saturating_add(1),
            },
        }
    }

    fn collect_plain<'a>(
        &mut self,
        part: &BodyPart<'a>,
        kind: BodyKind,
        depth: u8,
        found: &mut Vec<Body<'a>>,
    ) {
        let &BodyPart {
            content_type, body, ..
        } = part;
        match kind {
            BodyKind::Fragment => found.push(Body::Fragment(body.into())),
            // A body without Content-Type must begin like a description.
            BodyKind::Description
                if content_type.is_empty() && !body.trim_ascii_start().starts_with(b"v=") => {}
            BodyKind::Description => found.push(Body::Description(body.into())),
            BodyKind::Multipart => {
                if let Some(depth) = depth.checked_sub(1)
                    && let Some(boundary) = boundary(content_type, body)
                {
                    parts(body, boundary)
                        .take(MAX_PARTS)
                        .for_each(|part| self.collect(&BodyPart::of(part), depth, found));
                }
            }
        }
    }
}

/// The boundary between the parts: as declared, else the first line that begins with two dashes.
fn boundary<'a>(content_type: &'a [u8], body: &'a [u8]) -> Option<&'a [u8]> {
    let declared = parameter(content_type, b"boundary")
        .map(|value| value.strip_prefix(b"\"").unwrap_or(value));
    let declared = declared.map(|value| value.strip_suffix(b"\"").unwrap_or(value));
    let guessed = || {
        let line = body
            .trim_ascii_start()
            .split(|&byte| byte == b'\n')
            .next()?;
        line.trim_ascii_end().strip_prefix(b"--")
    };
    declared
        .or_else(guessed)
        .filter(|boundary| !boundary.is_empty())
}

/// The text between one delimiter line and the next.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    let mut starts: Vec<usize> = memmem::find_iter(body, &delimiter)
        .filter(|&at| is_line_start(body, at))
        .take(MAX_PARTS)
        .collect();
    starts.push(body.len());
    let len = delimiter.len();
    let ranges: Vec<_> = starts
        .windows(2)
        .filter_map(|pair| Some((pair.first()?.checked_add(len)?, *pair.get(1)?)))
        .collect();
    ranges
        .into_iter()
        .filter_map(move |(start, end)| body.get(start..end))
}

fn is_line_start(body: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .is_none_or(|before| body.get(before) == Some(&b'\n'))
}

impl<'a> BodyPart<'a> {
    /// Reads a part of a multipart body, which begins after its delimiter.
    fn of(bytes: &'a [u8]) -> Self {
        let mut part = Self {
            content_type: b"",
            encoding: b"",
            body: after_line(bytes),
        };
        while !part.body.is_empty() {
            let line = part
                .body
                .split(|&byte| byte == b'\n')
                .next()
                .unwrap_or_default()
                .trim_ascii_end();
            part.body = after_line(part.body);
            if line.is_empty() {
                break;
            }
            part.content_type = value(line, b"Content-Type").unwrap_or(part.content_type);
            part.encoding = value(line, b"Content-Encoding").unwrap_or(part.encoding);
        }
        part
    }
}

/// The value of a header field, if it has this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = strip_prefix_ignoring_case(line, name)?.trim_ascii_start();
    rest.strip_prefix(b":").map(<[u8]>::trim_ascii)
}

fn after_line(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end.saturating_add(1));
    bytes.get(end..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn search<'a>(
        wanted: BodyKind,
        content_type: &'a str,
        encoding: &'a str,
        body: &'a [u8],
    ) -> Bodies<'a> {
        let mut search = Search {
            wanted,
            room: MAX_DECODED,
            undecodable: 0,
        };
        let mut found = Vec::new();
        let part = BodyPart {
            content_type: content_type.as_bytes(),
            encoding: encoding.as_bytes(),
            body,
        };
        search.collect(&part, MAX_DEPTH, &mut found);
        Bodies {
            found,
            undecodable: search.undecodable,
        }
    }

    fn texts(bodies: &Bodies<'_>) -> Vec<String> {
        let text = |body: &Body<'_>| {
            std::str::from_utf8(body.text())
                .unwrap()
                .trim_end()
                .to_owned()
        };
        bodies.found.iter().map(text).collect()
    }

    fn found(content_type: &str, body: &str) -> Vec<String> {
        texts(&search(
            BodyKind::Description,
            content_type,
            "",
            body.as_bytes(),
        ))
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_body_itself() {
        assert_eq!(found("application/sdp", "v=0"), ["v=0"]);
        assert_eq!(found("Application/SDP; charset=utf-8", "v=0"), ["v=0"]);
        assert_eq!(found("", "v=0"), ["v=0"]);
        assert!(found("text/plain", "v=0").is_empty());
        assert!(found("", "hello").is_empty());
    }

    #[test]
    fn a_part_of_it() {
        let body = "preamble\r\n--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x10\r\n--b1--\r\n";
        assert_eq!(found("multipart/mixed;boundary=b1", body), ["v=0"]);
        assert_eq!(
            found("multipart/mixed; boundary=\"b1\"", &body.replace('\r', "")),
            ["v=0"]
        );
        assert_eq!(
            found("multipart/mixed", &body["preamble\r\n".len()..]),
            ["v=0"]
        );
    }

    #[test]
    fn a_part_of_a_part() {
        let body = "--out\nContent-Type: multipart/alternative; boundary=in\n\n--in\nContent-Type : application/sdp\n\nv=0\n--in--\n--out--";
        assert_eq!(found("multipart/mixed; boundary=out", body), ["v=0"]);
    }

    #[test]
    fn a_fragment_is_for_those_who_want_it() {
        let fragment = "application/Trickle-ICE-sdpfrag;charset=utf-8";
        let bodies = |wanted, content_type, body: &'static str| {
            texts(&search(wanted, content_type, "", body.as_bytes()))
        };
        assert_eq!(bodies(BodyKind::Fragment, fragment, "a=mid:0"), ["a=mid:0"]);
        assert!(bodies(BodyKind::Description, fragment, "a=mid:0").is_empty());
        assert!(bodies(BodyKind::Fragment, "application/sdp", "v=0").is_empty());
        assert!(bodies(BodyKind::Fragment, "", "v=0").is_empty());
        let parts = "--b\nContent-Type: application/sdp\n\nv=0\n--b\nContent-Type: application/trickle-ice-sdpfrag\n\na=mid:0\n--b--";
        assert_eq!(
            bodies(BodyKind::Fragment, "multipart/mixed;boundary=b", parts),
            ["a=mid:0"]
        );
        assert_eq!(
            bodies(BodyKind::Description, "multipart/mixed;boundary=b", parts),
            ["v=0"]
        );
    }

    #[test]
    fn what_is_encoded() {
        let sdp = gzip(b"v=0");
        let bodies = search(BodyKind::Description, "application/sdp", "gzip", &sdp);
        assert_eq!(
            (texts(&bodies), bodies.undecodable),
            (vec!["v=0".to_owned()], 0)
        );
        let bodies = search(BodyKind::Description, "", "gzip", &sdp);
        assert_eq!(
            (texts(&bodies), bodies.undecodable),
            (vec!["v=0".to_owned()], 0),
            "not labelled"
        );
        let part = [
            b"--b\r\nContent-Type: application/sdp\r\ncontent-encoding : gzip\r\n\r\n",
            &sdp[..],
            b"\r\n--b--\r\n",
        ]
        .concat();
        let bodies = search(
            BodyKind::Description,
            "multipart/mixed;boundary=b",
            "",
            &part,
        );
        assert_eq!(
            (texts(&bodies), bodies.undecodable),
            (vec!["v=0".to_owned()], 0),
            "a part"
        );
        let twice = gzip(&part);
        let bodies = search(
            BodyKind::Description,
            "multipart/mixed;boundary=b",
            "gzip",
            &twice,
        );
        assert_eq!(
            (texts(&bodies), bodies.undecodable),
            (vec!["v=0".to_owned()], 0),
            "all, and a part of it"
        );
    }

    #[test]
    fn what_cannot_be_decoded_is_counted_if_it_is_of_interest() {
        let large = gzip(&[0; MAX_DECODED + 1]);
        let undecodable = |content_type, encoding, body| {
            search(BodyKind::Description, content_type, encoding, body).undecodable
        };
        assert_eq!(undecodable("application/sdp", "br", b"v=0"), 1, "unknown");
        assert_eq!(undecodable("application/sdp", "gzip", b"v=0"), 1, "broken");
        assert_eq!(
            undecodable("application/sdp", "gzip", &large),
            1,
            "too large"
        );
        assert_eq!(undecodable("application/sdp", "gzip", b""), 0, "no body");
        assert_eq!(
            undecodable("text/plain", "br", b"hello"),
            0,
            "no description"
        );
        assert_eq!(
            undecodable("application/trickle-ice-sdpfrag", "br", b"a=mid:0"),
            0,
            "not in this message"
        );
    }

    /// The limit of decoded bytes is for the whole message, not for each part at each level.
    #[test]
    fn a_bomb_of_bombs() {
        let pack = |body: &[u8], content_type: &str| {
            let part = [
                format!("--b\nContent-Type: {content_type}\nContent-Encoding: gzip\n\n").as_bytes(),
                &gzip(body),
                b"\n",
            ]
            .concat();
            part.repeat(MAX_PARTS)
        };
        let sdp = [&b"v=0\n"[..], &[b' '; 10_000]].concat();
        let body = pack(
            &pack(&pack(&sdp, "application/sdp"), "multipart/mixed;boundary=b"),
            "multipart/mixed;boundary=b",
        );
        let bodies = search(
            BodyKind::Description,
            "multipart/mixed;boundary=b",
            "",
            &body,
        );
        assert!(bodies.found.len() <= MAX_FOUND && bodies.undecodable > 0);
        assert!(
            bodies
                .found
                .iter()
                .map(|body| body.text().len())
                .sum::<usize>()
                <= MAX_DECODED
        );
    }
}
