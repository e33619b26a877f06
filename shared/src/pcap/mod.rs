//! Capture files: classic pcap and pcapng, read from memory and written to memory.
//!
//! A capture is read through a [`Walk`]: a cursor over a file in memory, which gives one [`Step`]
//! at a time, a record or an unreadable stretch. A walk may start at any record, so several threads
//! can read a file, each from a place of its own ([`Layout::next_boundary`] guesses one).
//!
//! Formats: draft-ietf-opsawg-pcap (classic), draft-ietf-opsawg-pcapng.

mod classic;
mod foreign;
mod link;
mod ng;
mod write;

use std::{fmt, ops::Range};

use classic::MODIFIED_HEADER_LEN;
pub use classic::{FILE_HEADER_LEN, Native, Precision, RECORD_HEADER_LEN};
pub use link::LinkType;
pub use ng::Section;
pub use write::{
    DEFAULT_SNAPLEN, file_header, ng_interface, ng_packet, ng_section_header, push_ng_packet,
    record_header,
};

/// The largest frame that is accepted in a record: tcpdump's own limit. If the snap length of the
/// file header is larger, frames are accepted up to [`MAX_PROMISED_SNAPLEN`].
pub const MAX_FRAME_LEN: u32 = 262_144;

/// The largest snap length of a file header that is accepted.
pub const MAX_PROMISED_SNAPLEN: u32 = 16 * 1024 * 1024;

/// One captured frame, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The offset of the record header, in bytes from the start of the file.
    pub offset: usize,
    /// Capture time in nanoseconds since 1970-01-01T00:00:00Z, at most 63 bits; `None` if the
    /// record has none (pcapng's simple packet block).
    pub timestamp_ns: Option<u64>,
    /// Length of the frame on the wire in bytes; more than `frame.len()` if it was snapped.
    pub wire_len: u32,
    /// The link type of the frame.
    pub link: LinkType,
    /// The unit of its timestamp in the file.
    pub precision: Precision,
    /// The captured bytes.
    pub frame: &'a [u8],
}

/// The result of one step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A frame.
    Record(Record<'a>),
    /// Bytes that could not be read as records and were skipped.
    Gap(Gap),
}

/// An unreadable stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Its start, in bytes from the start of the file.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The reason why it is unreadable.
    pub reason: GapReason,
}

/// The reason why a stretch of a file is unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The file ends inside a record: it was cut, or is still being written.
    Cut,
    /// There is no valid record where one should begin.
    Corrupt,
    /// A record of an interface that the file does not describe.
    UnknownInterface,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            offset,
            len,
            reason,
        } = self;
        match reason {
            GapReason::Cut => write!(
                f,
                "the file ends inside the record at offset {offset}; its last {len} bytes are not used"
            ),
            GapReason::Corrupt => write!(
                f,
                "no record can be read at offset {offset}; {len} bytes were skipped"
            ),
            GapReason::UnknownInterface => {
                write!(
                    f,
                    "the record at offset {offset} names an interface that the file does not describe; {len} bytes were skipped"
                )
            }
        }
    }
}

/// The reason why a whole file cannot be read as a capture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The file has no bytes.
    #[error("the file is empty (0 bytes)")]
    Empty,
    /// It begins like a capture but ends inside its header.
    #[error("the file ends inside its own header ({len} bytes)")]
    CutHeader {
        /// The file's length in bytes.
        len: usize,
    },
    /// A compressed file, a capture in an unsupported format, or a file that is mistaken for one.
    #[error("the file is {what}, which is not supported; {advice}")]
    Unsupported {
        /// A description of the format.
        what: &'static str,
        /// The next step for the user.
        advice: &'static str,
    },
    /// Anything else.
    #[error(
        "the file is not a capture: it begins with {}, where pcap and pcapng have a magic number",
        Hex(first)
    )]
    NotACapture {
        /// Its first bytes, four at most.
        first: Vec<u8>,
    },
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The byte order of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(crate) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    /// Returns the number at `offset`, or `None` if `bytes` ends before it does.
    pub(crate) fn u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        Some(self.u32(*bytes.get(offset..)?.first_chunk()?))
    }

    pub(crate) fn u16_at(self, bytes: &[u8], offset: usize) -> Option<u16> {
        Some(self.u16(*bytes.get(offset..)?.first_chunk()?))
    }
}

/// The knowledge of a file that reading needs at any place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Classic pcap: the fields of the file header.
    Classic(classic::FileHeader),
    /// Classic pcap in the modified format of 1998.
    Modified(classic::FileHeader),
    /// pcapng: the section and the interfaces described so far.
    Ng(Section),
}

/// The length of a classic pcap's header and that of its first record, in bytes.
pub const HEAD_LEN: usize = FILE_HEADER_LEN + RECORD_HEADER_LEN;

/// The time of the first record of a classic pcap, in nanoseconds since 1970, by its first
/// [`HEAD_LEN`] bytes. Nothing if there is no record, or its header makes no sense.
#[must_use]
pub fn first_time_ns(head: &[u8]) -> Option<u64> {
    classic::FileHeader::parse(head).ok()??.first_time_ns(head)
}

impl Layout {
    /// Recognises a capture by its first bytes.
    ///
    /// Returns its layout and the offset after the file header.
    ///
    /// # Errors
    /// The file is not a capture, ends inside the header, or has an unsupported format.
    pub fn detect(file: &[u8]) -> Result<(Self, usize), FormatError> {
        if file.is_empty() {
            return Err(FormatError::Empty);
        }
        if let Some(header) = classic::FileHeader::parse(file)? {
            let layout = if header.is_modified() {
                Self::Modified(header)
            } else {
                Self::Classic(header)
            };
            return Ok((layout, FILE_HEADER_LEN));
        }
        if ng::is_section_header(file) {
            return Ok((Self::Ng(Section::default()), 0));
        }
        Err(foreign::explain(file))
    }

    /// Starts a walk at `offset`, where a record (or a block of a pcapng) begins.
    #[must_use]
    pub fn walk<'a>(&self, file: &'a [u8], offset: usize) -> Walk<'a> {
        Walk {
            file,
            offset,
            layout: self.clone(),
            ended: Vec::new(),
        }
    }

    /// Returns the record at `offset`, an offset that an earlier walk with this layout gave.
    #[must_use]
    #[inline]
    pub fn record_at<'a>(&self, file: &'a [u8], offset: usize) -> Option<Record<'a>> {
        match self {
            Self::Classic(header) => header.record_at::<RECORD_HEADER_LEN>(file, offset),
            Self::Modified(header) => header.record_at::<MODIFIED_HEADER_LEN>(file, offset),
            Self::Ng(section) => section.record_at(file, offset),
        }
    }

    /// The layout of records that are as a call's file has them, byte for byte.
    #[must_use]
    pub fn native(&self) -> Option<Native> {
        match self {
            Self::Classic(header) if header.is_native(header.precision) => Some(Native {
                link: header.link,
                precision: header.precision,
            }),
            _ => None,
        }
    }

    /// Guesses the first place in `range` where records begin: one from which a chain of several
    /// plausible records follows. Neither format has sync marks.
    #[must_use]
    pub fn next_boundary(&self, file: &[u8], range: Range<usize>) -> Option<usize> {
        match self {
            Self::Classic(header) | Self::Modified(header) => header.next_boundary(file, range),
            Self::Ng(section) => section.next_boundary(file, range),
        }
    }

    /// Returns the start of the stretch that this layout describes: the file, or a pcapng section.
    #[must_use]
    pub fn begins_at(&self) -> usize {
        match self {
            Self::Classic(_) | Self::Modified(_) => 0,
            Self::Ng(section) => section.begins_at,
        }
    }

    /// Returns the link type of the file, if the file has one link type for all records.
    #[must_use]
    pub fn link(&self) -> Option<LinkType> {
        match self {
            Self::Classic(header) | Self::Modified(header) => Some(header.link),
            Self::Ng(_) => None,
        }
    }

    /// Returns the finest unit of the timestamps seen so far.
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self {
            Self::Classic(header) | Self::Modified(header) => header.precision,
            Self::Ng(section) => section.precision(),
        }
    }

    /// True if the file's records have the same bytes as records of a file that [`file_header`]
    /// begins with this precision, so that they can be copied unchanged.
    #[must_use]
    pub fn is_native(&self, precision: Precision) -> bool {
        matches!(self, Self::Classic(header) if header.is_native(precision))
    }
}

/// A cursor over the records of a capture.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    file: &'a [u8],
    offset: usize,
    layout: Layout,
    ended: Vec<Layout>,
}

impl<'a> Walk<'a> {
    /// Returns the offset of the next record, in bytes from the start of the file.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns a layout for each section with packets that the walk has read, in order, the
    /// current one last. Interfaces are only added within a section, so its last layout is valid
    /// for all of it.
    #[must_use]
    pub fn into_layouts(self) -> Vec<Layout> {
        let mut layouts = self.ended;
        layouts.push(self.layout);
        layouts
    }

    /// Returns the next record or gap; `None` at the end of the file. Inlined by force: otherwise
    /// the record goes through memory.
    #[inline(always)]
    pub fn next_step(&mut self) -> Option<Step<'a>> {
        if let Layout::Classic(header) = &self.layout
            && let Some(record) = header.record_at::<RECORD_HEADER_LEN>(self.file, self.offset)
        {
            // The record was read from the file in memory, so its end is in the file, too.
            self.offset = self
                .offset
                .saturating_add(RECORD_HEADER_LEN)
                .saturating_add(record.frame.len());
            return Some(Step::Record(record));
        }
        self.next_step_slowly()
    }

    #[inline(never)]
    fn next_step_slowly(&mut self) -> Option<Step<'a>> {
        if self.offset >= self.file.len() {
            return None;
        }
        if let Layout::Modified(header) = &self.layout
            && let Some(record) = header.record_at::<MODIFIED_HEADER_LEN>(self.file, self.offset)
        {
            self.offset = self
                .offset
                .saturating_add(MODIFIED_HEADER_LEN)
                .saturating_add(record.frame.len());
            return Some(Step::Record(record));
        }
        if let Layout::Ng(section) = &mut self.layout {
            while let Some(block) = section.block_at(self.file, self.offset) {
                let offset = self.offset;
                self.offset = block.end;
                match section.read(&block) {
                    ng::BlockContent::Packet(record) => return Some(Step::Record(record)),
                    ng::BlockContent::Section(ended) if ended.is_used => {
                        self.ended.push(Layout::Ng(ended));
                    }
                    ng::BlockContent::Section(_) => {}
                    ng::BlockContent::Other => {}
                    ng::BlockContent::Orphan => {
                        let len = block.end.saturating_sub(offset);
                        return Some(Step::Gap(Gap {
                            offset,
                            len,
                            reason: GapReason::UnknownInterface,
                        }));
                    }
                }
            }
        }
        (self.offset < self.file.len()).then(|| Step::Gap(self.skip_unreadable()))
    }

    /// Skips unreadable bytes up to the next place where records seem to begin.
    fn skip_unreadable(&mut self) -> Gap {
        let offset = self.offset;
        let (end, reason) = match self
            .layout
            .next_boundary(self.file, offset.saturating_add(1)..self.file.len())
        {
            Some(boundary) => (boundary, GapReason::Corrupt),
            None if self.layout_says_cut(offset) => (self.file.len(), GapReason::Cut),
            None => (self.file.len(), GapReason::Corrupt),
        };
        self.offset = end;
        Gap {
            offset,
            len: end.saturating_sub(offset),
            reason,
        }
    }

    fn layout_says_cut(&self, offset: usize) -> bool {
        match &self.layout {
            Layout::Classic(header) | Layout::Modified(header) => {
                header.is_cut_at(self.file, offset)
            }
            Layout::Ng(section) => section.is_cut_at(self.file, offset),
        }
    }
}

#[cfg(test)]
mod tests;
