//! Classic pcap, after draft-ietf-opsawg-pcap.
//!
//! ```text
//!  file header, 24 bytes                    record header, 16 bytes
//!  0  magic number                          0  seconds since 1970
//!  4  major version   6  minor version      4  micro- or nanoseconds
//!  8  reserved (time zone)                  8  captured length
//! 12  reserved (accuracy)                  12  length on the wire
//! 16  snap length                           then the captured bytes
//! 20  FCS length, link type
//! ```

use std::ops::Range;

use super::{ByteOrder, FormatError, LinkType, MAX_FRAME_LEN, MAX_PROMISED_SNAPLEN, Record};

pub(super) const FILE_HEADER_LEN: usize = 24;

/// The length in bytes of what stands before each frame.
pub const RECORD_HEADER_LEN: usize = 16;

/// How many records must follow each other for a place to be taken for a boundary.
const CHAIN: usize = 6;

/// Records go back in time, but hardly by more than this many seconds: a time after which others go
/// back further is damaged, and would send all timers into the future.
const MAX_BACK_S: u32 = 10;

/// The unit of the second half of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

impl Precision {
    /// How many nanoseconds its unit has.
    #[must_use]
    pub fn unit_ns(self) -> u32 {
        match self {
            Self::Micro => 1000,
            Self::Nano => 1,
        }
    }

    /// The largest value that is believed: some programs carry the last second over into it.
    fn max_fraction(self) -> u32 {
        self.last_below_second().saturating_mul(2)
    }

    /// The largest value below a second.
    fn last_below_second(self) -> u32 {
        match self {
            Self::Micro => 999_999,
            Self::Nano => 999_999_999,
        }
    }
}

/// The file header of a classic pcap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) order: ByteOrder,
    pub(super) precision: Precision,
    pub(super) link: LinkType,
    max_frame_len: u32,
}

/// A record header, read but not judged.
struct RecordHeader {
    seconds: u32,
    fraction: u32,
    captured_len: u32,
    wire_len: u32,
}

impl Header {
    /// The header that a file begins with, or nothing if its magic number is not a pcap's.
    pub(super) fn parse(file: &[u8]) -> Result<Option<Self>, FormatError> {
        let Some((order, precision)) = file.first_chunk().and_then(|magic| magic_number(*magic)) else {
            return Ok(None);
        };
        let cut = || FormatError::CutHeader { len: file.len() };
        let snaplen = order.u32_at(file, 16).ok_or_else(cut)?;
        // The upper half carries the length of a frame check sequence, not the type.
        let [_, _, high, low] = order.u32_at(file, 20).ok_or_else(cut)?.to_be_bytes();
        let max_frame_len = snaplen.clamp(MAX_FRAME_LEN, MAX_PROMISED_SNAPLEN);
        Ok(Some(Self { order, precision, link: LinkType(u16::from_be_bytes([high, low])), max_frame_len }))
    }

    pub(super) fn is_native(&self, precision: Precision) -> bool {
        self.order == ByteOrder::Little && self.precision == precision
    }

    #[inline]
    fn header_at(&self, file: &[u8], offset: usize) -> Option<RecordHeader> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *file.get(offset..)?.first_chunk::<RECORD_HEADER_LEN>()?;
        Some(RecordHeader {
            seconds: self.order.u32([a, b, c, d]),
            fraction: self.order.u32([e, f, g, h]),
            captured_len: self.order.u32([i, j, k, l]),
            wire_len: self.order.u32([m, n, o, p]),
        })
    }

    /// The record at `offset`; nothing if none can begin there or the file ends before it does.
    #[inline]
    pub(super) fn record_at<'a>(&self, file: &'a [u8], offset: usize) -> Option<Record<'a>> {
        let header = self.header_at(file, offset)?;
        if header.captured_len > self.max_frame_len || header.is_blank() || header.fraction > self.precision.max_fraction() {
            return None;
        }
        let start = offset.checked_add(RECORD_HEADER_LEN)?;
        let frame = file.get(start..start.checked_add(header.captured_len as usize)?)?;
        Some(Record {
            offset,
            timestamp_ns: Some(header.timestamp_ns(self.precision)),
            wire_len: header.wire_len,
            link: self.link,
            frame,
        })
    }

    /// Whether what stands at `offset` is the beginning of a record whose end is missing.
    pub(super) fn is_cut_at(&self, file: &[u8], offset: usize) -> bool {
        self.header_at(file, offset).is_none_or(|header| header.captured_len <= self.max_frame_len && !header.is_blank())
    }

    pub(super) fn next_boundary(&self, file: &[u8], range: Range<usize>) -> Option<usize> {
        let end = range.end.min(file.len().saturating_sub(RECORD_HEADER_LEN));
        (range.start..end).find(|&offset| self.is_chain(file, offset))
    }

    /// Whether several plausible records follow each other from `offset`, or fewer up to the very
    /// end of the file.
    fn is_chain(&self, file: &[u8], offset: usize) -> bool {
        let mut at = offset;
        let mut latest = 0;
        for _ in 0..CHAIN {
            match self.header_at(file, at) {
                Some(header) if self.is_plausible(&header) && latest <= header.seconds.saturating_add(MAX_BACK_S) => {
                    latest = latest.max(header.seconds);
                    at = at.saturating_add(RECORD_HEADER_LEN).saturating_add(header.captured_len as usize);
                }
                _ => return at == file.len() && at > offset,
            }
        }
        // The last one may be cut, but not all of them.
        true
    }

    fn is_plausible(&self, header: &RecordHeader) -> bool {
        header.captured_len > 0
            && header.captured_len <= self.max_frame_len
            && header.captured_len <= header.wire_len
            && header.wire_len <= MAX_PROMISED_SNAPLEN
            && header.fraction <= self.precision.last_below_second()
            && header.seconds > 0
    }
}

impl RecordHeader {
    /// All zeros: what a file system leaves where blocks were reserved but never written.
    fn is_blank(&self) -> bool {
        self.seconds == 0 && self.fraction == 0 && self.captured_len == 0 && self.wire_len == 0
    }

    #[inline]
    fn timestamp_ns(&self, precision: Precision) -> u64 {
        // Both factors are 32 bits wide: no product or sum here can exceed 64.
        let seconds = u64::from(self.seconds).saturating_mul(1_000_000_000);
        seconds.saturating_add(u64::from(self.fraction).saturating_mul(precision.unit_ns().into()))
    }
}

fn magic_number(magic: [u8; 4]) -> Option<(ByteOrder, Precision)> {
    match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] => Some((ByteOrder::Little, Precision::Micro)),
        [0x4d, 0x3c, 0xb2, 0xa1] => Some((ByteOrder::Little, Precision::Nano)),
        [0xa1, 0xb2, 0xc3, 0xd4] => Some((ByteOrder::Big, Precision::Micro)),
        [0xa1, 0xb2, 0x3c, 0x4d] => Some((ByteOrder::Big, Precision::Nano)),
        _ => None,
    }
}
