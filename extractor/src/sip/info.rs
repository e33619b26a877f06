//! Digits in INFO: bodies of the types `application/dtmf-relay` and `application/dtmf`.

use super::{Message, Method, StartLine, message::strip_prefix_ignoring_case};

impl Message<'_> {
    /// The digit in an INFO, as a character: `Signal=5` or `5`. Some write `*` as 10, `#` as 11 and
    /// A to D as 12 to 15. `None` for anything else.
    #[must_use]
    pub fn digit(&self) -> Option<u8> {
        if self.start != StartLine::Request(Method::Info) {
            return None;
        }
        let kind = self.content_type.split(|byte| *byte == b';').next()?;
        let kind = kind.trim_ascii().to_ascii_lowercase();
        match kind.as_slice() {
            b"application/dtmf-relay" => digit(signal(self.body)?),
            b"application/dtmf" => digit(signal(self.body).unwrap_or(self.body)),
            _ => None,
        }
    }
}

/// The value of the line `Signal=`.
fn signal(body: &[u8]) -> Option<&[u8]> {
    let lines = body.split(|byte| matches!(byte, b'\r' | b'\n'));
    lines
        .filter_map(|line| strip_prefix_ignoring_case(line.trim_ascii_start(), b"signal"))
        .find_map(|rest| rest.trim_ascii_start().strip_prefix(b"="))
}

fn digit(value: &[u8]) -> Option<u8> {
    match value.trim_ascii() {
        [digit @ (b'0'..=b'9' | b'*' | b'#')] => Some(*digit),
        [letter] => {
            Some(letter.to_ascii_uppercase()).filter(|letter| (b'A'..=b'D').contains(letter))
        }
        [b'1', units @ b'0'..=b'5'] => b"*#ABCD".get(usize::from(units & 0x0f)).copied(),
        _ => None,
    }
}
