//! Makes text off the wire safe for a log, a table or a spreadsheet.

/// Invisible characters and characters that change the order of others, by which a displayed number
/// may differ from the real one: `Default_Ignorable_Code_Point` of Unicode 16
/// (DerivedCoreProperties.txt), which includes `Bidi_Control`, without the variation selectors
/// (they only change the look of the character before); and the line and paragraph separators.
const UNSEEN: [(char, char); 16] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Replaces control characters, invisible characters and invalid UTF-8 by U+FFFD.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    // Fast path: nearly all text is printable ASCII.
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| {
            if c.is_control() || is_unseen(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

fn is_unseen(c: char) -> bool {
    let place = UNSEEN.partition_point(|(_, last)| *last < c);
    UNSEEN.get(place).is_some_and(|(first, _)| *first <= c)
}

/// [`printable`] text, with an apostrophe before text that a spreadsheet would run as a formula.
#[must_use]
pub(super) fn field(bytes: &[u8]) -> String {
    let text = printable(bytes);
    let is_formula = text
        .trim_start_matches(is_blank)
        .starts_with(['=', '+', '-', '@']);
    if is_formula { format!("'{text}") } else { text }
}

/// Returns true for a character that a spreadsheet ignores at the start of a cell, after
/// [`printable`].
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == char::REPLACEMENT_CHARACTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(UNSEEN.iter().all(|(first, last)| first <= last));
        assert!(UNSEEN.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn nothing_is_run_and_nothing_moves_the_cursor() {
        for (bytes, want) in [
            (&b"plain"[..], "plain"),
            (b"a,\"b\"", "a,\"b\""),
            (
                b"two\r\nlines\x1b[31m",
                "two\u{fffd}\u{fffd}lines\u{fffd}[31m",
            ),
            (b"=cmd()", "'=cmd()"),
            (b"+49", "'+49"),
            (b" \t-1", "' \u{fffd}-1"),
            (b"@x", "'@x"),
            ("J\u{f6}rg".as_bytes(), "J\u{f6}rg"),
            (b"J\xf6rg", "J\u{fffd}rg"),
            ("\u{85}x".as_bytes(), "\u{fffd}x"),
            ("a\u{202e}321".as_bytes(), "a\u{fffd}321"),
            (
                "1\u{200b}2\u{feff}\u{e0041}".as_bytes(),
                "1\u{fffd}2\u{fffd}\u{fffd}",
            ),
            ("\u{2029}=1".as_bytes(), "'\u{fffd}=1"),
            ("\u{2764}\u{fe0f}".as_bytes(), "\u{2764}\u{fe0f}"),
            (b"", ""),
        ] {
            assert_eq!(field(bytes), want);
        }
    }
}
