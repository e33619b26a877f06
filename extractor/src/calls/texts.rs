//! The texts of messages, as records may have them: without keys, without answers to challenges,
//! and without digits that were pressed, unless the user wants those.

use serde::{Deserialize, Serialize};

use crate::sip::Message;

/// The most bytes of a message that are kept.
const MAX_TEXT: usize = 16 << 10;
/// The most bytes of all messages of a call that are kept: they are a part of the state.
pub(super) const MAX_TEXTS: usize = 1 << 20;

/// A blanked byte.
const BLANK: u8 = b'*';

/// Which texts are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Texts {
    /// None.
    #[default]
    No,
    /// All, without the bodies that carry digits.
    WithoutDigits,
    /// All.
    WithDigits,
}

/// The text of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Its bytes.
    pub bytes: Box<[u8]>,
    /// True if something behind them is left out.
    pub is_cut: bool,
}

impl Text {
    /// The text of a message, of at most so many bytes.
    #[cold]
    pub(super) fn of(message: &Message<'_>, texts: Texts, most: usize) -> Option<Self> {
        let has_no_digits = match texts {
            Texts::No => return None,
            Texts::WithDigits => true,
            Texts::WithoutDigits => !message.may_have_digits(),
        };
        let raw = message.raw;
        let whole = if has_no_digits {
            raw.len()
        } else {
            message.head_len()
        };
        let len = whole.min(most).min(MAX_TEXT);
        let mut bytes = raw.get(..len).unwrap_or_default().to_vec();
        for secret in message.keys().into_iter().chain(message.credentials()) {
            let end = secret.end.min(len);
            if let Some(bytes) = bytes.get_mut(secret.start..end) {
                bytes.fill(BLANK);
            }
        }
        Some(Self {
            bytes: bytes.into(),
            is_cut: len < raw.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str, texts: Texts, most: usize) -> Option<(String, bool)> {
        let message = Message::parse(message.as_bytes()).unwrap().unwrap();
        let text = Text::of(&message, texts, most)?;
        Some((String::from_utf8(text.bytes.into()).unwrap(), text.is_cut))
    }

    #[test]
    fn neither_keys_nor_answers_nor_digits() {
        let head = "INFO sip:b SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 1\r\nAuthorization: Digest response=\"abc\"\r\n\r\n";
        let whole = format!("{head}a=crypto:1 X inline:Kk\r\nSignal=5\r\n");
        let blanked = head.replace("abc", "***");
        assert_eq!(text(&whole, Texts::No, 9999), None);
        assert_eq!(
            text(&whole, Texts::WithoutDigits, 9999),
            Some((blanked.clone(), true))
        );
        let all = format!("{blanked}a=crypto:1 X inline:**\r\nSignal=5\r\n");
        assert_eq!(text(&whole, Texts::WithDigits, 9999), Some((all, false)));
    }

    #[test]
    fn a_cut_text_has_no_part_of_a_secret() {
        let whole = "INVITE sip:b SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 1\r\n\r\na=crypto:1 X inline:KkKkKkKk\r\n";
        for most in 0..=whole.len() {
            let (text, is_cut) = text(whole, Texts::WithoutDigits, most).unwrap();
            assert!(!text.contains("Kk"), "{text}");
            assert_eq!((text.len(), is_cut), (most, most < whole.len()));
        }
    }
}
