//! Bodies: where in a message session descriptions stand (RFC 3261, 7.4; RFC 2046, 5.1).

use memchr::memmem;

use super::{
    Message,
    message::{parameter, strip_prefix_ignoring_case},
};

/// Parts within parts are searched this deep.
const MAX_DEPTH: u8 = 4;
/// And of each level this many: more than any message has, and too few to cost time.
const MAX_PARTS: usize = 32;

impl<'a> Message<'a> {
    /// The session descriptions in the body: the body itself, or parts of a multipart one.
    pub fn descriptions(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut found = Vec::new();
        collect(self.content_type, self.body, MAX_DEPTH, &mut found);
        found.into_iter()
    }
}

fn collect<'a>(content_type: &[u8], body: &'a [u8], depth: u8, found: &mut Vec<&'a [u8]>) {
    if is_sdp(content_type, body) {
        found.push(body);
    } else if let Some(depth) = depth.checked_sub(1)
        && strip_prefix_ignoring_case(content_type, b"multipart/").is_some()
        && let Some(boundary) = boundary(content_type, body)
    {
        for part in parts(body, boundary).take(MAX_PARTS) {
            let (content_type, body) = split_part(part);
            collect(content_type, body, depth, found);
        }
    }
}

/// Labelled as such; or not labelled, but beginning like one.
fn is_sdp(content_type: &[u8], body: &[u8]) -> bool {
    if content_type.is_empty() {
        return body.trim_ascii_start().starts_with(b"v=");
    }
    strip_prefix_ignoring_case(content_type, b"application/sdp").is_some()
}

/// What separates the parts: as declared, else the first line that begins with two dashes.
fn boundary<'a>(content_type: &'a [u8], body: &'a [u8]) -> Option<&'a [u8]> {
    let declared = parameter(content_type, b"boundary").map(|value| value.strip_prefix(b"\"").unwrap_or(value));
    let declared = declared.map(|value| value.strip_suffix(b"\"").unwrap_or(value));
    let guessed = || {
        let line = body.trim_ascii_start().split(|&byte| byte == b'\n').next()?;
        line.trim_ascii_end().strip_prefix(b"--")
    };
    declared.or_else(guessed).filter(|boundary| !boundary.is_empty())
}

/// What stands between one delimiter line and the next.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    let mut starts: Vec<usize> =
        memmem::find_iter(body, &delimiter).filter(|&at| is_line_start(body, at)).take(MAX_PARTS).collect();
    starts.push(body.len());
    let len = delimiter.len();
    let ranges: Vec<_> = starts.windows(2).filter_map(|pair| Some((pair.first()?.checked_add(len)?, *pair.get(1)?))).collect();
    ranges.into_iter().filter_map(move |(start, end)| body.get(start..end))
}

fn is_line_start(body: &[u8], at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| body.get(before) == Some(&b'\n'))
}

/// The content type of a part, and its own body. A part begins behind its delimiter.
fn split_part(part: &[u8]) -> (&[u8], &[u8]) {
    let mut content_type = &[][..];
    let mut rest = after_line(part);
    while !rest.is_empty() {
        let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
        rest = after_line(rest);
        if line.is_empty() {
            break;
        }
        let value =
            strip_prefix_ignoring_case(line, b"Content-Type").and_then(|value| value.trim_ascii_start().strip_prefix(b":"));
        content_type = value.map_or(content_type, <[u8]>::trim_ascii);
    }
    (content_type, rest)
}

fn after_line(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end.saturating_add(1));
    bytes.get(end..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(content_type: &str, body: &'a str) -> Vec<&'a str> {
        let mut found = Vec::new();
        collect(content_type.as_bytes(), body.as_bytes(), MAX_DEPTH, &mut found);
        found.iter().map(|sdp| std::str::from_utf8(sdp).unwrap().trim_end()).collect()
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
        assert_eq!(found("multipart/mixed; boundary=\"b1\"", &body.replace('\r', "")), ["v=0"]);
        assert_eq!(found("multipart/mixed", &body["preamble\r\n".len()..]), ["v=0"]);
    }

    #[test]
    fn a_part_of_a_part() {
        let body = "--out\nContent-Type: multipart/alternative; boundary=in\n\n--in\nContent-Type : application/sdp\n\nv=0\n--in--\n--out--";
        assert_eq!(found("multipart/mixed; boundary=out", body), ["v=0"]);
    }
}
