//! Compressed bodies: Content-Encoding (RFC 3261, 20.12).

use flate2::{Decompress, FlushDecompress, Status};

/// The most bytes that are decompressed for one message: ten times the length of the longest
/// descriptions.
pub(super) const MAX_DECODED: usize = 64 * 1024;
/// 32 KiB, the largest window that gzip has.
const GZIP_WINDOW_BITS: u8 = 15;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950; some senders leave out its header and trailer (RFC 1951).
    Deflate,
    Unknown,
}

/// A body that cannot be decoded: it is cut, damaged or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

impl Encoding {
    /// Reads the value of the header field, which is empty where the field is absent.
    pub(super) fn of(value: &[u8]) -> Self {
        match value.to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Self::Identity,
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            _ => Self::Unknown,
        }
    }

    /// Decodes a body. Subtracts the decoded bytes from `room`, also when decoding fails.
    pub(super) fn decode(self, encoded: &[u8], room: &mut usize) -> Result<Vec<u8>, Undecodable> {
        let mut inflate = match self {
            Self::Identity => return Ok(encoded.to_vec()),
            Self::Unknown => return Err(Undecodable),
            Self::Gzip => Decompress::new_gzip(GZIP_WINDOW_BITS),
            Self::Deflate => Decompress::new(has_zlib_header(encoded)),
        };
        let mut decoded = Vec::with_capacity((*room).min(MAX_DECODED));
        let result = inflate.decompress_vec(encoded, &mut decoded, FlushDecompress::Finish);
        let is_whole = matches!(result, Ok(Status::StreamEnd)) && decoded.len() <= *room;
        *room = room.saturating_sub(decoded.len());
        // A line end may follow the encoded data.
        if is_whole {
            Ok(decoded)
        } else {
            Err(Undecodable)
        }
    }
}

/// RFC 1950, 2.2: the method, which is 8, and a checksum of the first two bytes.
fn has_zlib_header(encoded: &[u8]) -> bool {
    encoded
        .first_chunk()
        .is_some_and(|first| first[0] & 0x0f == 8 && u16::from_be_bytes(*first).is_multiple_of(31))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn encoded(encoding: &str, plain: &[u8]) -> Vec<u8> {
        let (to, level) = (Vec::new(), Compression::default());
        match encoding {
            "gzip" => {
                let mut encoder = GzEncoder::new(to, level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = ZlibEncoder::new(to, level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            _ => {
                let mut encoder = DeflateEncoder::new(to, level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn decoded(value: &str, body: &[u8]) -> Result<Vec<u8>, Undecodable> {
        Encoding::of(value.as_bytes()).decode(body, &mut MAX_DECODED.clone())
    }

    #[test]
    fn what_is_sent_encoded() {
        let plain = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n".repeat(100);
        for (value, how) in [
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZip", "gzip"),
            ("deflate", "zlib"),
            ("Deflate", "raw"),
        ] {
            let body = encoded(how, &plain);
            assert_eq!(decoded(value, &body), Ok(plain.clone()), "{value}, {how}");
            assert_eq!(
                decoded(value, &[&body[..], b"\r\n"].concat()),
                Ok(plain.clone()),
                "{value}, {how}, and the end of a line"
            );
            assert_eq!(
                decoded(value, &body[..body.len() - 1]),
                Err(Undecodable),
                "{value}, {how}, cut"
            );
            assert_eq!(decoded(value, b""), Err(Undecodable), "{value}, nothing");
        }
        assert_eq!(decoded("", b"v=0"), Ok(b"v=0".to_vec()));
        assert_eq!(decoded("identity", b"v=0"), Ok(b"v=0".to_vec()));
        assert_eq!(decoded("br", b"v=0"), Err(Undecodable));
        assert_eq!(
            decoded("gzip, deflate", &encoded("gzip", &plain)),
            Err(Undecodable)
        );
    }

    #[test]
    fn what_is_damaged() {
        let mut body = encoded("gzip", b"v=0");
        let check = body.len() - 8;
        body[check] ^= 1;
        assert_eq!(decoded("gzip", &body), Err(Undecodable));
        assert_eq!(decoded("deflate", &[0xff; 40]), Err(Undecodable));
    }

    #[test]
    fn a_bomb_costs_no_more_than_its_room() {
        for (value, how) in [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "raw")] {
            let encoding = Encoding::of(value.as_bytes());
            let full = encoded(how, &vec![0; MAX_DECODED]);
            let mut room = MAX_DECODED;
            assert_eq!(
                encoding.decode(&full, &mut room).map(|body| body.len()),
                Ok(MAX_DECODED),
                "{how}"
            );
            assert_eq!(
                (encoding.decode(&full, &mut room), room),
                (Err(Undecodable), 0),
                "{how}, again"
            );
            let bomb = encoded(how, &vec![0; 10_000_000]);
            let mut room = MAX_DECODED;
            assert_eq!(
                (encoding.decode(&bomb, &mut room), room),
                (Err(Undecodable), 0),
                "{how}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for value in ["gzip", "deflate"] {
                let _ = decoded(value, &bytes);
                let _ = decoded(value, &[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &bytes].concat());
            }
        }
    }
}
