//! Words, and numbers whatever their dress.

use std::fmt;

use memchr::memmem;

/// The fewest digits that are compared as a number: fewer are in any number.
const LEAST_DIGITS: usize = 3;

/// A text that is looked for.
#[derive(Clone, Debug)]
pub struct Word {
    text: String,
    /// In lower case.
    lower: String,
    /// Without `+`, `00` and separators, if it is a number.
    number: Option<String>,
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Word {
    /// A word.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            lower: text.to_ascii_lowercase(),
            number: number(text),
        }
    }

    /// The text, as it was typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True if it is a part of these texts, which are in lower case, or as a number.
    #[must_use]
    pub fn is_in(&self, lower: &[u8]) -> bool {
        let is_part = |part: &str| memmem::find(lower, part.as_bytes()).is_some();
        is_part(&self.lower) || self.number.as_deref().is_some_and(is_part)
    }

    /// True if it is a part of a header value.
    #[must_use]
    pub(super) fn is_in_value(&self, value: &str) -> bool {
        if self.is_in(value.to_ascii_lowercase().as_bytes()) {
            return true;
        }
        let Some(wanted) = &self.number else {
            return false;
        };
        let found = crate::sip::number(value.as_bytes());
        found.is_some_and(|found| memmem::find(&found, wanted.as_bytes()).is_some())
    }
}

/// The digits of a number, without what its country writes around them.
fn number(text: &str) -> Option<String> {
    let plain: String = text
        .chars()
        .filter(|char| !"+-.() /".contains(*char))
        .collect();
    let is_number = plain.len() >= LEAST_DIGITS && plain.bytes().all(|byte| byte.is_ascii_digit());
    let bare = plain.strip_prefix("00").filter(|rest| !rest.is_empty());
    is_number.then(|| bare.unwrap_or(&plain).to_owned())
}

/// In quotes, where it would not be one word otherwise.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = !self.text.is_empty() && self.text.chars().all(is_of_word);
        if is_plain && !super::parse::is_keyword(&self.text) {
            return f.write_str(&self.text);
        }
        let quoted = self.text.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{quoted}\"")
    }
}

/// True for a character that a word without quotes may have.
pub(super) fn is_of_word(char: char) -> bool {
    !char.is_whitespace() && !char.is_control() && !"()\"'=!~<>\\".contains(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_whatever_their_dress() {
        for word in ["4930123", "+49 30 123", "0049-30-123", "(49)30.123"] {
            let word = Word::new(word);
            assert!(
                word.is_in_value("\"A\" <sip:+4930123@example.com>"),
                "{word}"
            );
            assert!(word.is_in_value("<sip:0049-30-123@example.com>"), "{word}");
            assert!(word.is_in(b"x\x1f4930123\x1f"), "{word}");
            assert!(!word.is_in_value("<sip:+4930124@example.com>"), "{word}");
        }
        assert!(!Word::new("+4").is_in(b"4"));
        assert!(Word::new("ALICE").is_in_value("<sip:Alice@example.com>"));
    }
}
