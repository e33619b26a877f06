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
//! The modified format of 1998 has 8 more bytes in each record header: interface, protocol, packet
//! type.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ByteOrder, FormatError, LinkType, MAX_FRAME_LEN, MAX_PROMISED_SNAPLEN, Record};

/// The length of the file header in bytes.
pub const FILE_HEADER_LEN: usize = 24;

/// The length of a record header in bytes.
pub const RECORD_HEADER_LEN: usize = 16;

/// The length of a record header in the modified format.
pub(super) const MODIFIED_HEADER_LEN: usize = 24;

/// How many records must follow each other to make a place a boundary.
const CHAIN: usize = 3;

/// The same if their times are not plausible. Random lengths do not chain that often.
const UNTIMELY_CHAIN: usize = 8;

/// The most records in a chain. Records without a frame count here, but are no evidence.
const MAX_STEPS: usize = 16;

/// How far into a frame a rival chain with more evidence is searched, in bytes: nearly all frames
/// are shorter.
const RIVALS_LEN: usize = 2048;

/// How many seconds the next record of a chain may go back in time. After a damaged time that lies
/// ahead, others go back further; such a time would fire all timers too early.
const MAX_BACK_S: u32 = 10;

/// How many seconds the next record of a chain may go forward. After a longer pause of the capture
/// a new chain begins.
const MAX_FORWARD_S: u32 = 86_400;

/// The end of 1970 in seconds. A header read at a wrong offset often has a small number here. A
/// real record has one only if its clock was never set or counts from the start of the capture.
const FIRST_YEAR_S: u32 = 31_536_000;

/// September 2001 in seconds, a number above any count of nanoseconds. So in a capture from after
/// it, a header read four bytes off shows itself: its seconds are the nanoseconds.
const NINE_DIGITS_END_S: u32 = 1_000_000_000;

/// The unit of a timestamp's fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Precision {
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

impl Precision {
    /// Returns the nanoseconds in its unit.
    #[must_use]
    pub fn unit_ns(self) -> u32 {
        match self {
            Self::Micro => 1000,
            Self::Nano => 1,
        }
    }

    /// Returns the largest accepted fraction: some programs carry the last second over into it.
    fn max_fraction(self) -> u32 {
        self.last_below_second().saturating_mul(2)
    }

    /// Returns the largest fraction below a second.
    fn last_below_second(self) -> u32 {
        match self {
            Self::Micro => 999_999,
            Self::Nano => 999_999_999,
        }
    }
}

/// The layout of a classic pcap in little-endian order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Native {
    /// The link type of all its records.
    pub link: LinkType,
    /// The unit of its timestamps.
    pub precision: Precision,
}

impl Native {
    /// The record at an offset with its header, and its timestamp in nanoseconds since 1970. The
    /// caller knows that there is a record: nothing but the end of the file is checked.
    #[must_use]
    #[inline]
    pub fn record_at(self, file: &[u8], offset: usize) -> Option<(&[u8], u64)> {
        let rest = file.get(offset..)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *rest.first_chunk::<RECORD_HEADER_LEN>()?;
        let seconds = u32::from_le_bytes([a, b, c, d]);
        let fraction = u32::from_le_bytes([e, f, g, h]);
        let len = u32::from_le_bytes([i, j, k, l]) as usize;
        let record = rest.get(..RECORD_HEADER_LEN.checked_add(len)?)?;
        Some((record, nanoseconds(seconds, fraction, self.precision)))
    }
}

/// The file header of a classic pcap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub(super) order: ByteOrder,
    pub(super) precision: Precision,
    pub(super) link: LinkType,
    /// The length of a record header in bytes.
    record_header_len: usize,
    max_frame_len: u32,
    /// The largest captured length according to the file header.
    snaplen: u32,
    /// The units of a timestamp's fraction in a second.
    units_per_second: u32,
    /// Records from before this are doubtful.
    min_seconds: u32,
    /// True if the first record is from before `min_seconds`: others are then likely to be, too.
    begins_early: bool,
    /// True if lengths on the wire are plausible. Some software writes wrong ones.
    believes_wire_len: bool,
}

/// The fields of a record header, not yet checked.
struct RecordHeader {
    seconds: u32,
    fraction: u32,
    captured_len: u32,
    wire_len: u32,
}

/// Records that follow each other by their lengths.
struct Chain {
    /// The number of records with a frame.
    records: usize,
    /// The end of the last record.
    end: usize,
    evidence: Evidence,
}

/// The evidence for a chain, most important first: all times of a file may be odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Evidence {
    /// See [`FileHeader::is_captured_whole`].
    do_lens_agree: bool,
    /// The times are like those of the file, and do not jump.
    do_times_agree: bool,
}

impl FileHeader {
    /// Parses the file header; `None` if the magic number is not that of a pcap.
    pub(super) fn parse(file: &[u8]) -> Result<Option<Self>, FormatError> {
        let Some(Magic {
            order,
            precision,
            is_modified,
        }) = file.first_chunk().and_then(|magic| Magic::of(*magic))
        else {
            return Ok(None);
        };
        let cut = || FormatError::CutHeader { len: file.len() };
        let snaplen = order.u32_at(file, 16).ok_or_else(cut)?;
        // The upper half carries the length of a frame check sequence, not the type.
        let [_, _, high, low] = order.u32_at(file, 20).ok_or_else(cut)?.to_be_bytes();
        let max_frame_len = snaplen.clamp(MAX_FRAME_LEN, MAX_PROMISED_SNAPLEN);
        let link = LinkType(u16::from_be_bytes([high, low]));
        let record_header_len = if is_modified {
            MODIFIED_HEADER_LEN
        } else {
            RECORD_HEADER_LEN
        };
        let header = Self {
            order,
            precision,
            link,
            record_header_len,
            max_frame_len,
            // Some programs write 0 for no limit.
            snaplen: if snaplen == 0 { u32::MAX } else { snaplen },
            units_per_second: precision.last_below_second().saturating_add(1),
            min_seconds: FIRST_YEAR_S,
            begins_early: false,
            believes_wire_len: true,
        };
        Ok(Some(header.taught_by(file)))
    }

    /// Learns from the first records which times and lengths are usual in this file.
    fn taught_by(mut self, file: &[u8]) -> Self {
        let Some(first) = self.header_at(file, FILE_HEADER_LEN) else {
            return self;
        };
        self.min_seconds = if first.seconds < NINE_DIGITS_END_S {
            FIRST_YEAR_S
        } else {
            NINE_DIGITS_END_S
        };
        self.begins_early = first.seconds < FIRST_YEAR_S && !first.is_blank();
        let is_odd = |record: &RecordHeader| {
            record.captured_len <= self.max_frame_len && !self.is_len_good(record)
        };
        let second = self
            .header_at(file, self.end_of(&first, FILE_HEADER_LEN))
            .filter(is_odd);
        let doubting = Self {
            believes_wire_len: false,
            ..self
        };
        let is_chain = |second: &RecordHeader| {
            self.is_time_good(second) || doubting.chain_expected_at(file, FILE_HEADER_LEN).is_some()
        };
        self.believes_wire_len =
            !(is_odd(&first) && second.is_some_and(|second| is_chain(&second)));
        self
    }

    /// The time of the first record, by the headers alone; nothing if that record is doubtful.
    pub(super) fn first_time_ns(&self, head: &[u8]) -> Option<u64> {
        self.header_at(head, FILE_HEADER_LEN)
            .filter(|first| !self.is_doubtful(first))
            .map(|first| first.timestamp_ns(self.precision))
    }

    pub(super) fn is_modified(&self) -> bool {
        self.record_header_len == MODIFIED_HEADER_LEN
    }

    pub(super) fn is_native(&self, precision: Precision) -> bool {
        self.order == ByteOrder::Little && self.precision == precision
    }

    #[inline]
    fn header_at(&self, file: &[u8], offset: usize) -> Option<RecordHeader> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] =
            *file.get(offset..)?.first_chunk::<RECORD_HEADER_LEN>()?;
        Some(RecordHeader {
            seconds: self.order.u32([a, b, c, d]),
            fraction: self.order.u32([e, f, g, h]),
            captured_len: self.order.u32([i, j, k, l]),
            wire_len: self.order.u32([m, n, o, p]),
        })
    }

    /// Returns the record at `offset`; `None` if it is not plausible or the file ends before it
    /// does. `HEADER_LEN` is a constant, not a field, because this runs for every packet.
    #[inline]
    pub(super) fn record_at<'a, const HEADER_LEN: usize>(
        &self,
        file: &'a [u8],
        offset: usize,
    ) -> Option<Record<'a>> {
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

    /// True if the header is unusual for a real record, but usual for damaged bytes or a wrong
    /// offset.
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
        let wire_len = if self.believes_wire_len {
            header.wire_len
        } else {
            header.captured_len
        };
        (header.captured_len <= wire_len.min(self.max_frame_len))
            & (wire_len <= MAX_PROMISED_SNAPLEN)
    }

    /// Decides on a doubtful record. A damaged length would swallow the records behind it, and
    /// lost bytes would shift all headers.
    #[cold]
    fn is_sound(&self, file: &[u8], offset: usize, header: &RecordHeader) -> bool {
        if header.is_blank() || header.captured_len > self.max_frame_len {
            return false;
        }
        if header.captured_len > 0 && self.is_len_good(header) {
            return self.is_sound_whatever_its_time(file, offset, header);
        }
        let end = self.end_of(header, offset);
        let is_before_chain = || {
            self.chain_expected_at(file, end)
                .is_some_and(|chain| chain.evidence.do_lens_agree)
        };
        header.fraction <= self.precision.max_fraction() && self.is_followed(file, end)
            || is_before_chain()
    }

    /// Decides on a record with plausible lengths and an odd time. It is sound if a trustworthy
    /// header follows it, or if the lengths from here on chain: some captures count time from
    /// their start, others have arbitrary times. But a header that is read a few bytes off may
    /// chain, too, so no chain with more evidence may begin in the record's frame.
    fn is_sound_whatever_its_time(
        &self,
        file: &[u8],
        offset: usize,
        header: &RecordHeader,
    ) -> bool {
        let goes_on = self.is_followed(file, self.end_of(header, offset))
            || self.chain_expected_at(file, offset).is_some();
        let is_whole = self.is_captured_whole(header);
        let has_usual_fraction = header.fraction < self.units_per_second;
        let evidence = Evidence {
            do_lens_agree: false,
            do_times_agree: has_usual_fraction,
        };
        let is_rivalled = |evidence| {
            self.best_chain(file, within(self.bytes_behind(offset, header)), evidence)
                .is_some()
        };
        match (goes_on, is_whole) {
            (true, true) => true,
            // The record after this one may be damaged.
            (true, false) | (false, true) => !is_rivalled(Some(evidence)),
            (false, false) => self.begins_early && has_usual_fraction && !is_rivalled(None),
        }
    }

    /// True if a trustworthy header, or the end of the file, is at `end`.
    fn is_followed(&self, file: &[u8], end: usize) -> bool {
        let is_last = end <= file.len() && file.len().saturating_sub(end) < RECORD_HEADER_LEN;
        is_last
            || self
                .header_at(file, end)
                .is_some_and(|next| self.is_trusted(&next))
    }

    fn is_trusted(&self, header: &RecordHeader) -> bool {
        // Some records are written without a time; but they have a frame.
        let has_no_time = header.seconds == 0 && header.fraction == 0 && header.captured_len > 0;
        let is_early = || self.is_time_usual(header) && self.is_captured_whole(header);
        (has_no_time || self.is_time_good(header) || is_early()) && self.is_len_good(header)
    }

    /// True if records of this file have such times.
    fn is_time_usual(&self, header: &RecordHeader) -> bool {
        self.is_time_good(header) || self.begins_early && header.fraction < self.units_per_second
    }

    /// True if the frame is whole, or cut at the snap length. A header that is read four bytes off
    /// may chain as well as the true ones, but its length on the wire is a part of the frame.
    fn is_captured_whole(&self, header: &RecordHeader) -> bool {
        header.captured_len == header.wire_len.min(self.snaplen)
    }

    /// Returns the end of a record with this header at `offset`.
    fn end_of(&self, header: &RecordHeader, offset: usize) -> usize {
        offset
            .saturating_add(self.record_header_len)
            .saturating_add(header.captured_len as usize)
    }

    /// Returns the bytes of a record with this header at `offset`, without the first one.
    fn bytes_behind(&self, offset: usize, header: &RecordHeader) -> Range<usize> {
        offset.saturating_add(1)..self.end_of(header, offset)
    }

    /// True if a record begins at `offset` and the file ends inside it.
    pub(super) fn is_cut_at(&self, file: &[u8], offset: usize) -> bool {
        self.header_at(file, offset)
            .is_none_or(|header| header.captured_len <= self.max_frame_len && !header.is_blank())
    }

    /// Returns the start of the first chain of records, unless a chain with more evidence begins
    /// in the first record's frame.
    pub(super) fn next_boundary(&self, file: &[u8], range: Range<usize>) -> Option<usize> {
        let end = range.end.min(file.len().saturating_sub(RECORD_HEADER_LEN));
        let (first, evidence) = (range.start..end)
            .find_map(|offset| Some((offset, self.evidence_at(file, offset)?)))?;
        let own = self
            .header_at(file, first)
            .map_or(first..first, |header| self.bytes_behind(first, &header));
        let rivals = within(own).take_while(|offset| *offset < end);
        Some(
            self.best_chain(file, rivals, Some(evidence))
                .unwrap_or(first),
        )
    }

    /// Returns the offset, among these, of the chain with the most evidence, if it has more than
    /// `evidence`.
    fn best_chain(
        &self,
        file: &[u8],
        places: impl Iterator<Item = usize>,
        evidence: Option<Evidence>,
    ) -> Option<usize> {
        let (mut best, mut evidence) = (None, evidence);
        for place in places {
            if evidence == Some(Evidence::ALL) {
                break;
            }
            let of_place = self.evidence_at(file, place);
            if of_place > evidence {
                (best, evidence) = (Some(place), of_place);
            }
        }
        best
    }

    /// Returns the chain at `offset`, where a record is expected: `CHAIN` records, or fewer up to
    /// the end of the file. The last may be cut, unless it is the only one.
    fn chain_expected_at(&self, file: &[u8], offset: usize) -> Option<Chain> {
        self.chain(file, offset, CHAIN)
            .filter(|chain| chain.records > 1 || chain.end == file.len())
    }

    /// Returns the evidence for a record at `offset`, an arbitrary place; `None` if it is not
    /// enough.
    fn evidence_at(&self, file: &[u8], offset: usize) -> Option<Evidence> {
        self.header_at(file, offset)
            .filter(|header| header.captured_len > 0 && self.is_len_good(header))?;
        let timely = self.chain(file, offset, CHAIN)?;
        if timely.evidence.do_times_agree {
            return (timely.records > 1 || timely.end == file.len()).then_some(timely.evidence);
        }
        let Chain {
            records,
            end,
            evidence,
        } = self.chain(file, offset, UNTIMELY_CHAIN)?;
        let ends_file = end == file.len() && (records > 1 || evidence.do_lens_agree);
        (records >= UNTIMELY_CHAIN || ends_file).then_some(evidence)
    }

    /// Follows the lengths of records from `offset` on: as many as `wanted`, or fewer up to the end
    /// of the file. Returns `None` if no record can begin behind one of them.
    fn chain(&self, file: &[u8], offset: usize, wanted: usize) -> Option<Chain> {
        let mut chain = Chain {
            records: 0,
            end: offset,
            evidence: Evidence::ALL,
        };
        let mut before: Option<RecordHeader> = None;
        for _ in 0..MAX_STEPS {
            let Some(header) = self
                .header_at(file, chain.end)
                .filter(|_| chain.records < wanted)
            else {
                return Some(chain);
            };
            if header.is_blank() || !self.is_len_good(&header) {
                return None;
            }
            chain.records = chain
                .records
                .saturating_add(usize::from(header.captured_len > 0));
            chain.end = self.end_of(&header, chain.end);
            let may_follow = before.is_none_or(|before| header.may_follow(&before));
            chain.evidence.do_lens_agree &= self.is_captured_whole(&header);
            chain.evidence.do_times_agree &= may_follow && self.is_time_usual(&header);
            before = Some(header);
        }
        None
    }
}

/// Returns the offsets at which a record may begin if the record with these bytes is not real. A
/// record that is read some bytes too late ends as many bytes after the start of the next one.
fn within(bytes: Range<usize>) -> impl Iterator<Item = usize> {
    let near = bytes.end.min(bytes.start.saturating_add(RIVALS_LEN));
    let tail = bytes.end.saturating_sub(RECORD_HEADER_LEN).max(near);
    (bytes.start..near).chain(tail..bytes.end)
}

impl Evidence {
    const ALL: Self = Self {
        do_lens_agree: true,
        do_times_agree: true,
    };
}

impl RecordHeader {
    /// True if all fields are zero: file systems leave zeros in reserved blocks.
    fn is_blank(&self) -> bool {
        self.seconds == 0 && self.fraction == 0 && self.captured_len == 0 && self.wire_len == 0
    }

    fn may_follow(&self, before: &Self) -> bool {
        self.seconds >= before.seconds.saturating_sub(MAX_BACK_S)
            && self.seconds <= before.seconds.saturating_add(MAX_FORWARD_S)
    }

    #[inline]
    fn timestamp_ns(&self, precision: Precision) -> u64 {
        nanoseconds(self.seconds, self.fraction, precision)
    }
}

#[inline]
fn nanoseconds(seconds: u32, fraction: u32, precision: Precision) -> u64 {
    // Both factors have 32 bits: no product or sum here exceeds 64.
    let seconds = u64::from(seconds).wrapping_mul(1_000_000_000);
    seconds.wrapping_add(u64::from(fraction).wrapping_mul(precision.unit_ns().into()))
}

/// The meaning of a file's first four bytes.
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
        Some(Self {
            order,
            precision,
            is_modified,
        })
    }
}
