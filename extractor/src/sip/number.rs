//! Telephone numbers in header values and URIs.

/// The number in a header value, without `+` or `00` before it, and without separators (RFC 3966,
/// section 3). `None` if the URI has no number.
#[must_use]
pub fn number(header: &[u8]) -> Option<Vec<u8>> {
    let uri = header.rsplit(|byte| *byte == b'<').next()?;
    let colon = uri.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = uri.split_at_checked(colon)?;
    let rest = rest.strip_prefix(b":")?;
    let is_scheme = |name: &[u8]| scheme.trim_ascii().eq_ignore_ascii_case(name);
    let user = if is_scheme(b"sip") || is_scheme(b"sips") {
        rest.get(..rest.iter().position(|byte| *byte == b'@')?)?
    } else if is_scheme(b"tel") {
        rest
    } else {
        return None;
    };
    let user = user.split(|byte| b";:>?".contains(byte)).next()?;
    // Some phones encode the plus sign.
    let user = user
        .strip_prefix(b"%2B")
        .or_else(|| user.strip_prefix(b"%2b"))
        .or_else(|| user.strip_prefix(b"+"))
        .unwrap_or(user);
    let digits: Vec<u8> = user
        .iter()
        .copied()
        .filter(|byte| !b"-.() /".contains(byte))
        .collect();
    if digits.is_empty()
        || !digits
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"*#".contains(byte))
    {
        return None;
    }
    let international = digits
        .strip_prefix(b"00")
        .filter(|rest| !rest.is_empty())
        .map(<[u8]>::to_vec);
    Some(international.unwrap_or(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_whatever_their_dress() {
        for (header, want) in [
            (
                "\"Alice <3\" <sip:+49301234@example.com>;tag=1",
                Some("49301234"),
            ),
            (
                "<sip:0049-30-12.34@example.com;user=phone>",
                Some("49301234"),
            ),
            ("<tel:+49(30)1234;phone-context=x>;tag=1", Some("49301234")),
            ("SIP:%2B49301234:secret@[2001:db8::1]", Some("49301234")),
            ("<sips:0301234@x>", Some("0301234")),
            ("<sip:*21*5#@x>", Some("*21*5#")),
            ("tel:110", Some("110")),
            ("<sip:00@x>", Some("00")),
            ("<sip:alice@example.com>", None),
            ("<sip:192.0.2.1>", None),
            ("<sip:+@x>", None),
            ("<mailto:1@x>", None),
            ("", None),
        ] {
            assert_eq!(
                number(header.as_bytes()).as_deref(),
                want.map(str::as_bytes),
                "{header}"
            );
        }
    }
}
