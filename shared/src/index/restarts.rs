//! The points at which decompression of a segment can begin.

use super::bytes::{Cursor, put_text, put_varint};

/// A point at which decompression can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The offset in the decompressed segment.
    pub plain: u64,
    /// The offset in its file.
    pub packed: u64,
    /// The CRC-32 of the decompressed bytes from here to the next point, or to the end.
    pub crc: u32,
    /// What has to be known there.
    pub known: Known,
}

/// What has to be known at a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: a frame of zstd (RFC 8878, 3.1) or a member of gzip (RFC 1952, 2.2) begins.
    Nothing,
    /// A block of deflate (RFC 1951, 3.2.3) begins.
    Window {
        /// The number of bits of the byte before that belong to the block, 0 to 7.
        bits: u8,
        /// These bits, the lowest first.
        value: u8,
        /// The decompressed bytes before, at most 32 KiB.
        window: Vec<u8>,
    },
}

/// The largest window of deflate, in bytes.
const MAX_WINDOW: usize = 32 << 10;

/// The fewest bytes of a point.
const LEAST_LEN: usize = 4 + 3;

/// Writes points, which are in order.
#[must_use]
pub fn write_restarts(restarts: &[Restart]) -> Vec<u8> {
    let mut to = Vec::new();
    put_varint(&mut to, restarts.len() as u64);
    let (mut plain, mut packed) = (0u64, 0u64);
    for restart in restarts {
        to.extend(restart.crc.to_le_bytes());
        put_varint(&mut to, restart.plain.wrapping_sub(plain));
        put_varint(&mut to, restart.packed.wrapping_sub(packed));
        match &restart.known {
            Known::Nothing => to.push(0),
            Known::Window {
                bits,
                value,
                window,
            } => {
                to.extend([1, *bits, *value]);
                put_text(&mut to, window);
            }
        }
        (plain, packed) = (restart.plain, restart.packed);
    }
    to
}

/// Reads points; `None` if these bytes are none.
#[must_use]
pub fn read_restarts(bytes: &[u8]) -> Option<Vec<Restart>> {
    let mut cursor = Cursor::new(bytes);
    let count = usize::try_from(cursor.varint()?).ok()?;
    if count > cursor.rest().len() / LEAST_LEN {
        return None;
    }
    let mut restarts = Vec::with_capacity(count);
    let (mut plain, mut packed) = (0u64, 0u64);
    for _ in 0..count {
        let crc = cursor.u32()?;
        plain = plain.checked_add(cursor.varint()?)?;
        packed = packed.checked_add(cursor.varint()?)?;
        let known = match cursor.byte()? {
            0 => Known::Nothing,
            1 => Known::Window {
                bits: cursor.byte().filter(|bits| *bits < 8)?,
                value: cursor.byte()?,
                window: cursor
                    .text()
                    .filter(|window| window.len() <= MAX_WINDOW)?
                    .to_vec(),
            },
            _ => return None,
        };
        restarts.push(Restart {
            plain,
            packed,
            crc,
            known,
        });
    }
    cursor.is_empty().then_some(restarts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn points_read_back_and_no_part_of_them_does() {
        let point = |plain, known| Restart {
            plain,
            packed: plain / 3,
            crc: 0xdead_beef,
            known,
        };
        let inside = Known::Window {
            bits: 7,
            value: 0x55,
            window: vec![1, 2, 3],
        };
        let points = [point(0, Known::Nothing), point(1 << 40, inside)];
        let bytes = write_restarts(&points);
        assert_eq!(read_restarts(&bytes).as_deref(), Some(&points[..]));
        for len in 0..bytes.len() {
            assert_eq!(read_restarts(&bytes[..len]), None, "{len}");
        }
        // A number of points that nobody has room for.
        assert_eq!(read_restarts(&[0xff, 0xff, 0xff, 0xff, 0x7f]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>()) {
            if let Some(points) = read_restarts(&bytes) {
                prop_assert!(points.is_sorted_by_key(|point| point.plain));
            }
        }
    }
}
