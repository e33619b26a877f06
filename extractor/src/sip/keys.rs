//! Keys in session descriptions, which `--redact-keys` blanks.
//!
//! ```text
//! a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4
//!                                           '-------- key and salt: RFC 4568, 6.1 ---'
//! k=clear:secret     k=base64:c2VjcmV0      (RFC 4566, 5.12; `k=uri:` and `k=prompt` have no key)
//! ```

use std::{iter, ops::Range};

use memchr::{memchr, memchr2};

use super::Message;

const CRYPTO: &[u8] = b"a=crypto:";
const INLINE: &[u8] = b"inline:";

/// The keys in a text, or in a part of one that ends anywhere: a key that the end cuts counts up to
/// there. A key whose line began before the text is not found.
pub fn keys_in(text: &[u8]) -> Vec<Range<usize>> {
    let mut keys = Vec::new();
    let mut start = 0usize;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let len = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..len).unwrap_or_default();
        keys.extend(
            keys_of_line(line)
                .into_iter()
                .map(|key| start.saturating_add(key.start)..start.saturating_add(key.end)),
        );
        start = start.saturating_add(len).saturating_add(1);
    }
    keys
}

fn keys_of_line(line: &[u8]) -> Vec<Range<usize>> {
    let text = line.trim_ascii_start();
    let blanks = line.len().saturating_sub(text.len());
    for kind in [&b"k=clear:"[..], b"k=base64:"] {
        if begins_with(text, kind) {
            let key = blanks.saturating_add(kind.len())..line.len();
            return iter::once(key).collect();
        }
    }
    if begins_with(text, CRYPTO) {
        inline_keys(line)
    } else {
        Vec::new()
    }
}

/// The keys behind each `inline:`, without lifetime and MKI.
fn inline_keys(line: &[u8]) -> Vec<Range<usize>> {
    let mut keys = Vec::new();
    let mut start = 0usize;
    while let Some(rest) = line.get(start..).filter(|rest| !rest.is_empty()) {
        if !begins_with(rest, INLINE) {
            start = start.saturating_add(1);
            continue;
        }
        let from = start.saturating_add(INLINE.len());
        let key = line.get(from..).unwrap_or_default();
        let is_end = |byte: &u8| matches!(byte, b'|' | b';' | b' ' | b'\t');
        let len = key.iter().position(is_end).unwrap_or(key.len());
        start = from.saturating_add(len);
        keys.push(from..start);
    }
    keys.retain(|key| !key.is_empty());
    keys
}

fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|beginning| beginning.eq_ignore_ascii_case(word))
}

impl Message<'_> {
    /// The keys in the message, as ranges of `raw`. A compressed body, or a body with a compressed
    /// part, counts as one key.
    #[must_use]
    pub fn keys(&self) -> Vec<Range<usize>> {
        if !self.has_compressed_body() {
            return keys_in(self.raw);
        }
        iter::once(self.head_len()..self.raw.len()).collect()
    }

    /// Returns true if the body, or a part of it, is compressed: then its keys cannot be found.
    #[must_use]
    pub fn has_compressed_body(&self) -> bool {
        let is_plain = |encoding: &[u8]| {
            let encoding = encoding.trim_ascii();
            encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity")
        };
        let header = b"content-encoding";
        let mut lines = self.body.split(|byte| matches!(byte, b'\r' | b'\n'));
        !is_plain(self.content_encoding)
            || (begins_with(self.content_type.trim_ascii_start(), b"multipart/")
                && lines.any(|line| {
                    begins_with(line, header)
                        && memchr(b':', line)
                            .and_then(|colon| line.get(colon.saturating_add(1)..))
                            .is_some_and(|value| !is_plain(value))
                }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        keys_in(text.as_bytes())
            .into_iter()
            .map(|key| &text[key])
            .collect()
    }

    #[test]
    fn keys_of_descriptions() {
        for (text, want) in [
            ("", &[][..]),
            ("v=0\r\na=rtpmap:0 PCMU/8000\r\n", &[]),
            ("a=crypto:1 AES_CM_128 inline:Kk+/=\r\n", &["Kk+/="]),
            ("a=crypto:1 AES_CM_128 inline:Kk|2^20|1:4\r\n", &["Kk"]),
            (
                "a=crypto:1 X inline:K1|2^20;inline:K2 UNENCRYPTED_SRTP",
                &["K1", "K2"],
            ),
            ("A=CRYPTO:1 X INLINE:Kk", &["Kk"]),
            (
                "  a=crypto:1 X inline:Kk\n a=crypto:2 X inline:Ll\n",
                &["Kk", "Ll"],
            ),
            ("a=crypto:1 X inline:", &[]),
            ("a=crypto:1 X inlin", &[]),
            (
                "k=clear:my secret\r\nk=base64:c2Vj\r\n",
                &["my secret", "c2Vj"],
            ),
            ("k=uri:https://example.com/k\r\nk=prompt\r\n", &[]),
            ("a=fmtp:1 inline:Kk\r\nX: a=crypto:1 X inline:Kk\r\n", &[]),
        ] {
            assert_eq!(found(text), want, "{text}");
        }
    }

    #[test]
    fn a_part_of_a_text_has_a_part_of_its_keys() {
        let text = "v=0\r\na=crypto:1 X inline:KEYKEY|1:4\r\nm=audio";
        let key = text.find("KEYKEY").unwrap();
        for end in 0..=text.len() {
            let want = key..end.min(key + 6);
            let want: Vec<_> = (end > key).then_some(want).into_iter().collect();
            assert_eq!(keys_in(&text.as_bytes()[..end]), want, "{end}");
        }
    }

    #[test]
    fn a_compressed_body_is_one_key() {
        for (header, is_compressed) in [
            ("Content-Encoding: gzip\r\n", true),
            ("e: deflate\r\n", true),
            ("e: identity\r\n", false),
            ("", false),
        ] {
            let text = format!(
                "INVITE sip:b SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 1\r\n{header}\r\nabcdef"
            );
            let message = Message::parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(message.has_compressed_body(), is_compressed, "{header}");
            let keys: Vec<&str> = message.keys().into_iter().map(|key| &text[key]).collect();
            assert_eq!(keys, if is_compressed { &["abcdef"][..] } else { &[] });
        }
        let multipart = "INVITE sip:b SIP/2.0\r\nFrom: a\r\nTo: b\r\nCall-ID: 1\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n\
                         --b\r\nContent-Encoding: gzip\r\n\r\nxyz\r\n--b--\r\n";
        let message = Message::parse(multipart.as_bytes()).unwrap().unwrap();
        assert!(message.has_compressed_body());
    }
}
