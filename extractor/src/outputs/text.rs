//! Text off the wire, made fit for a log, a table, a spreadsheet.

/// The text with control characters, and bytes that are no UTF-8, replaced by U+FFFD.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    // Nearly all that is sent is printable ASCII, in which nothing needs to be looked at twice.
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// [`printable`], and with an apostrophe before what a spreadsheet would run as a formula.
#[must_use]
pub(super) fn field(bytes: &[u8]) -> String {
    let text = printable(bytes);
    let is_formula = text.trim_start_matches(is_blank).starts_with(['=', '+', '-', '@']);
    if is_formula { format!("'{text}") } else { text }
}

/// A character that a spreadsheet passes over at the beginning of a cell, as it looks after [`printable`].
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == char::REPLACEMENT_CHARACTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_run_and_nothing_moves_the_cursor() {
        for (bytes, want) in [
            (&b"plain"[..], "plain"),
            (b"a,\"b\"", "a,\"b\""),
            (b"two\r\nlines\x1b[31m", "two\u{fffd}\u{fffd}lines\u{fffd}[31m"),
            (b"=cmd()", "'=cmd()"),
            (b"+49", "'+49"),
            (b" \t-1", "' \u{fffd}-1"),
            (b"@x", "'@x"),
            ("J\u{f6}rg".as_bytes(), "J\u{f6}rg"),
            (b"J\xf6rg", "J\u{fffd}rg"),
            ("\u{85}x".as_bytes(), "\u{fffd}x"),
            (b"", ""),
        ] {
            assert_eq!(field(bytes), want);
        }
    }
}
