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
//!
//! The modified format of 1998 has 8 bytes more in each record header: interface, protocol, packet type.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ByteOrder, FormatError, LinkType, MAX_FRAME_LEN, MAX_PROMISED_SNAPLEN, Record};

/// The length in bytes of what a file begins with.
pub const FILE_HEADER_LEN: usize = 24;

/// The length in bytes of what stands before each frame.
pub const RECORD_HEADER_LEN: usize = 16;

/// The same in the modified format.
pub(super) const MODIFIED_HEADER_LEN: usize = 24;

/// How many records must follow each other for a place to be taken for a boundary.
const CHAIN: usize = 3;

/// Records of a chain go back in time, but hardly by more than this many seconds: a time after which others go
/// back further is damaged, and would send all timers into the future.
const MAX_BACK_S: u32 = 10;

/// Nor do they go forward by more than this: where a capture paused for longer, the chain begins after the pause.
const MAX_FORWARD_S: u32 = 86_400;

/// The end of 1970 in seconds. What is read at a wrong place often has a small number there; of real records only
/// those of a clock that was never set.
const FIRST_YEAR_S: u32 = 31_536_000;

/// The unit of the second half of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// What stands before each frame, in bytes.
    record_header_len: usize,
    max_frame_len: u32,
    /// Of the fraction of a timestamp.
    units_per_second: u32,
    /// An earlier record is doubted. Never 0: the time of blanks is that.
    min_seconds: u32,
    /// Whether lengths on the wire make sense. Bad software writes anything there.
    believes_wire_len: bool,
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
        let Some(Magic { order, precision, is_modified }) = file.first_chunk().and_then(|magic| Magic::of(*magic)) else {
            return Ok(None);
        };
        let cut = || FormatError::CutHeader { len: file.len() };
        let snaplen = order.u32_at(file, 16).ok_or_else(cut)?;
        // The upper half carries the length of a frame check sequence, not the type.
        let [_, _, high, low] = order.u32_at(file, 20).ok_or_else(cut)?.to_be_bytes();
        let max_frame_len = snaplen.clamp(MAX_FRAME_LEN, MAX_PROMISED_SNAPLEN);
        let link = LinkType(u16::from_be_bytes([high, low]));
        let record_header_len = if is_modified { MODIFIED_HEADER_LEN } else { RECORD_HEADER_LEN };
        let header = Self {
            order,
            precision,
            link,
            record_header_len,
            max_frame_len,
            units_per_second: precision.last_below_second().saturating_add(1),
            min_seconds: 1,
            believes_wire_len: true,
        };
        Ok(Some(header.taught_by(file)))
    }

    /// What is usual in this file shows in its first records.
    fn taught_by(mut self, file: &[u8]) -> Self {
        let Some(first) = self.header_at(file, FILE_HEADER_LEN) else { return self };
        self.min_seconds = if first.seconds < FIRST_YEAR_S { 1 } else { FIRST_YEAR_S };
        let second = self.end_of(&first, FILE_HEADER_LEN);
        let is_odd = |record: &RecordHeader| record.captured_len <= self.max_frame_len && !self.is_len_good(record);
        let are_odd =
            is_odd(&first) && self.header_at(file, second).is_some_and(|second| self.is_time_good(&second) && is_odd(&second));
        self.believes_wire_len = !are_odd;
        self
    }

    pub(super) fn is_modified(&self) -> bool {
        self.record_header_len == MODIFIED_HEADER_LEN
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

    /// The record at `offset`; nothing if none can begin there or the file ends before it does. The length of its
    /// header is told, not looked up: this is what runs for every packet.
    #[inline]
    pub(super) fn record_at<'a, const HEADER_LEN: usize>(&self, file: &'a [u8], offset: usize) -> Option<Record<'a>> {
        let header = self.header_at(file, offset)?;
        if self.is_doubtful(&header) && !self.is_sound(file, offset, &header) {
            return None;
        }
        let start = offset.checked_add(HEADER_LEN)?;
        let frame = file.get(start..start.checked_add(header.captured_len as usize)?)?;
        Some(Record {
            offset,
            timestamp_ns: Some(header.timestamp_ns(self.precision)),
            wire_len: header.wire_len,
            link: self.link,
            precision: self.precision,
            frame,
        })
    }

    /// Whether hardly any record has a header like this, but what is damaged or was read at a wrong place has.
    #[inline]
    fn is_doubtful(&self, header: &RecordHeader) -> bool {
        // No short circuit: one branch that is never taken costs less than several.
        !(self.is_time_good(header) & self.is_len_good(header) & (header.captured_len > 0))
    }

    #[inline]
    fn is_time_good(&self, header: &RecordHeader) -> bool {
        (header.seconds >= self.min_seconds) & (header.fraction < self.units_per_second)
    }

    #[inline]
    fn is_len_good(&self, header: &RecordHeader) -> bool {
        let wire_len = if self.believes_wire_len { header.wire_len } else { header.captured_len };
        (header.captured_len <= wire_len.min(self.max_frame_len)) & (wire_len <= MAX_PROMISED_SNAPLEN)
    }

    /// Whether a doubtful record is one: something that can be trusted comes right behind it, or it begins a chain.
    /// A damaged length would swallow records, and bytes that got lost would have all others misread.
    #[cold]
    fn is_sound(&self, file: &[u8], offset: usize, header: &RecordHeader) -> bool {
        let end = self.end_of(header, offset);
        let is_last = end <= file.len() && file.len().saturating_sub(end) < RECORD_HEADER_LEN;
        let is_followed = || self.header_at(file, end).is_some_and(|next| self.is_trusted(&next));
        !header.is_blank()
            && header.captured_len <= self.max_frame_len
            && header.fraction <= self.precision.max_fraction()
            && (is_last || is_followed() || self.is_chain(file, offset))
    }

    fn is_trusted(&self, header: &RecordHeader) -> bool {
        // Records that never had a time are written with none; but they have a frame.
        let has_no_time = header.seconds == 0 && header.fraction == 0 && header.captured_len > 0;
        (has_no_time || self.is_time_good(header)) && self.is_len_good(header)
    }

    /// Where a record with this header that begins at `offset` ends.
    fn end_of(&self, header: &RecordHeader, offset: usize) -> usize {
        offset.saturating_add(self.record_header_len).saturating_add(header.captured_len as usize)
    }

    /// Whether what stands at `offset` is the beginning of a record whose end is missing.
    pub(super) fn is_cut_at(&self, file: &[u8], offset: usize) -> bool {
        self.header_at(file, offset).is_none_or(|header| header.captured_len <= self.max_frame_len && !header.is_blank())
    }

    pub(super) fn next_boundary(&self, file: &[u8], range: Range<usize>) -> Option<usize> {
        let end = range.end.min(file.len().saturating_sub(RECORD_HEADER_LEN));
        (range.start..end).find(|&offset| self.is_chain(file, offset))
    }

    /// Whether several plausible records follow each other from `offset`, or fewer up to the end of the file, where
    /// the last one may be cut, but not the only one.
    fn is_chain(&self, file: &[u8], offset: usize) -> bool {
        let mut at = offset;
        let mut before: Option<RecordHeader> = None;
        for found in 0..CHAIN {
            let Some(header) = self.header_at(file, at) else {
                return found > 1 || found == 1 && at == file.len();
            };
            if !self.is_plausible(&header) || before.is_some_and(|before| !header.may_follow(&before)) {
                return false;
            }
            at = self.end_of(&header, at);
            before = Some(header);
        }
        true
    }

    /// Whether nearly all records have headers like this, and little else has. Early times are no reason to pass
    /// over a place: some captures of a clock that was set have others behind them.
    fn is_plausible(&self, header: &RecordHeader) -> bool {
        header.captured_len > 0
            && self.is_len_good(header)
            && header.fraction <= self.precision.last_below_second()
            && header.seconds > 0
    }
}

impl RecordHeader {
    /// All zeros: what a file system leaves where blocks were reserved but never written.
    fn is_blank(&self) -> bool {
        self.seconds == 0 && self.fraction == 0 && self.captured_len == 0 && self.wire_len == 0
    }

    fn may_follow(&self, before: &Self) -> bool {
        self.seconds >= before.seconds.saturating_sub(MAX_BACK_S) && self.seconds <= before.seconds.saturating_add(MAX_FORWARD_S)
    }

    #[inline]
    fn timestamp_ns(&self, precision: Precision) -> u64 {
        // Both factors are 32 bits wide: no product or sum here can exceed 64.
        let seconds = u64::from(self.seconds).saturating_mul(1_000_000_000);
        seconds.saturating_add(u64::from(self.fraction).saturating_mul(precision.unit_ns().into()))
    }
}

/// What a file's first four bytes say.
struct Magic {
    order: ByteOrder,
    precision: Precision,
    is_modified: bool,
}

impl Magic {
    fn of(bytes: [u8; 4]) -> Option<Self> {
        let (order, precision, is_modified) = match bytes {
            [0xd4, 0xc3, 0xb2, 0xa1] => (ByteOrder::Little, Precision::Micro, false),
            [0x4d, 0x3c, 0xb2, 0xa1] => (ByteOrder::Little, Precision::Nano, false),
            [0x34, 0xcd, 0xb2, 0xa1] => (ByteOrder::Little, Precision::Micro, true),
            [0xa1, 0xb2, 0xc3, 0xd4] => (ByteOrder::Big, Precision::Micro, false),
            [0xa1, 0xb2, 0x3c, 0x4d] => (ByteOrder::Big, Precision::Nano, false),
            [0xa1, 0xb2, 0xcd, 0x34] => (ByteOrder::Big, Precision::Micro, true),
            _ => return None,
        };
        Some(Self { order, precision, is_modified })
    }
}
