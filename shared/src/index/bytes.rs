//! Numbers in an index: little-endian, or as many bytes as they need (LEB128).

/// The most bytes of a number: 64 bits, 7 a byte.
const MAX_VARINT_LEN: u32 = 10;

/// Bytes that are read from the front. Every method gives `None` where too few are left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// All of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that are left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// True when no byte is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// A byte.
    #[inline]
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of 64 bits.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number in as many bytes as it needs.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for place in 0..MAX_VARINT_LEN {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits.checked_shl(place.saturating_mul(7))?;
            if shifted.checked_shr(place.saturating_mul(7)) != Some(bits) {
                return None;
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number that may be negative, as [`put_signed`] writes it.
    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        let bits = self.varint()?;
        Some((bits >> 1).cast_signed() ^ (bits & 1).cast_signed().wrapping_neg())
    }

    /// A number of bytes, and the bytes.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.varint()?;
        self.take(usize::try_from(len).ok()?)
    }
}

/// Writes a number in as many bytes as it needs: seven bits a byte, the lowest first; the highest
/// bit of a byte says that another follows.
#[inline]
pub fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        // The lowest seven bits.
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Writes a number that may be negative: the sign is the lowest bit.
#[inline]
pub fn put_signed(to: &mut Vec<u8>, value: i64) {
    put_varint(to, (value << 1 ^ value >> 63).cast_unsigned());
}

/// Writes a number of bytes, and the bytes.
pub(super) fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    put_varint(to, text.len() as u64);
    to.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_of_too_many_bits_is_none() {
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Cursor::new(&most).varint(), Some(u64::MAX));
        let mut more = most;
        more[9] = 0x02;
        assert_eq!(Cursor::new(&more).varint(), None);
        assert_eq!(Cursor::new(&[0x80; 11]).varint(), None);
        assert_eq!(Cursor::new(&most[..9]).varint(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in any::<u64>(), signed in any::<i64>(), small in 0..300u64, text in any::<Vec<u8>>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_signed(&mut bytes, signed);
            put_varint(&mut bytes, small);
            put_text(&mut bytes, &text);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varint(), Some(value));
            prop_assert_eq!(cursor.signed(), Some(signed));
            prop_assert_eq!(cursor.varint(), Some(small));
            prop_assert_eq!(cursor.text(), Some(&text[..]));
            prop_assert!(cursor.is_empty());
        }
    }
}
