//! Capture files: classic pcap and pcapng, read from memory and written to memory.
//!
//! A capture is read through a [`Walk`]: a cursor over a file that lies in memory, which
//! gives one [`Step`] at a time, a record or a stretch that could not be read. Where one
//! starts a walk is free, as long as a record begins there, so a file can be read by several
//! threads, each from a place of its own ([`Layout::next_boundary`] guesses one).
//!
//! Formats: draft-ietf-opsawg-pcap (classic), draft-ietf-opsawg-pcapng.

mod classic;
mod foreign;
mod link;
mod ng;
mod write;

use std::{fmt, ops::Range};

use classic::MODIFIED_HEADER_LEN;
pub use classic::{FILE_HEADER_LEN, Precision, RECORD_HEADER_LEN};
pub use link::LinkType;
pub use ng::Section;
pub use write::{
    DEFAULT_SNAPLEN, file_header, ng_interface, ng_packet, ng_section_header, push_ng_packet,
    record_header,
};

/// The largest frame that a record may hold and still be believed: tcpdump's own limit.
/// A file whose header promises more is believed up to [`MAX_PROMISED_SNAPLEN`].
pub const MAX_FRAME_LEN: u32 = 262_144;

/// The largest snap length of a file header that is believed.
pub const MAX_PROMISED_SNAPLEN: u32 = 16 * 1024 * 1024;

/// One captured frame, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where the record (its header) begins, in bytes from the start of the file.
    pub offset: usize,
    /// Capture time in nanoseconds since 1970-01-01T00:00:00Z; `None` where the record has
    /// none (pcapng's simple packet block). At most 63 bits.
    pub timestamp_ns: Option<u64>,
    /// Length of the frame on the wire in bytes; more than `frame.len()` if it was snapped.
    pub wire_len: u32,
    /// How the frame begins.
    pub link: LinkType,
    /// The unit in which its time was written.
    pub precision: Precision,
    /// The captured bytes.
    pub frame: &'a [u8],
}

/// What reading on in a capture gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A frame.
    Record(Record<'a>),
    /// Bytes that could not be read as records, and were passed over.
    Gap(Gap),
}

/// A stretch of a file that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins, in bytes from the start of the file.
    pub offset: usize,
    /// How long it is, in bytes.
    pub len: usize,
    /// What is wrong with it.
    pub reason: GapReason,
}

/// Why a stretch of a file could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The file ends inside a record: it was cut, or is still being written.
    Cut,
    /// What stands where a record should begin is none.
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

/// Why a file cannot be read as a capture at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing in it.
    #[error("the file is empty (0 bytes)")]
    Empty,
    /// It begins like a capture but ends before its header does.
    #[error("the file ends inside its own header ({len} bytes)")]
    CutHeader {
        /// The file's length in bytes.
        len: usize,
    },
    /// Compressed, a capture in a format that is not read, or something that people take for one.
    #[error("the file is {what}, which is not read; {advice}")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// What to do about it.
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

/// The order of the bytes in a number.
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

    /// The number at `offset`, or nothing where `bytes` ends before it does.
    pub(crate) fn u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        Some(self.u32(*bytes.get(offset..)?.first_chunk()?))
    }

    pub(crate) fn u16_at(self, bytes: &[u8], offset: usize) -> Option<u16> {
        Some(self.u16(*bytes.get(offset..)?.first_chunk()?))
    }
}

/// What must be known to read on in a capture, whatever the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Classic pcap: the file header says it all.
    Classic(classic::Header),
    /// The same, in the modified format of 1998.
    Modified(classic::Header),
    /// pcapng: the section and the interfaces described so far.
    Ng(Section),
}

/// The length of a classic pcap's header and that of its first record, in bytes.
pub const HEAD_LEN: usize = FILE_HEADER_LEN + RECORD_HEADER_LEN;

/// The time of the first record of a classic pcap, in nanoseconds since 1970, by its first
/// [`HEAD_LEN`] bytes. Nothing if there is no record, or its header makes no sense.
#[must_use]
pub fn first_time_ns(head: &[u8]) -> Option<u64> {
    classic::Header::parse(head).ok()??.first_time_ns(head)
}

impl Layout {
    /// Recognises a capture by its first bytes.
    ///
    /// Gives its layout and the offset of what follows the file's header.
    ///
    /// # Errors
    /// The file is none, is cut inside the header, or is of a kind that is not read.
    pub fn detect(file: &[u8]) -> Result<(Self, usize), FormatError> {
        if file.is_empty() {
            return Err(FormatError::Empty);
        }
        if let Some(header) = classic::Header::parse(file)? {
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

    /// Reads on from `offset`, where a record (or a block of a pcapng) begins.
    #[must_use]
    pub fn walk<'a>(&self, file: &'a [u8], offset: usize) -> Walk<'a> {
        Walk {
            file,
            offset,
            layout: self.clone(),
            ended: Vec::new(),
        }
    }

    /// The record that begins at `offset`, which an earlier walk with this layout gave.
    #[must_use]
    #[inline]
    pub fn record_at<'a>(&self, file: &'a [u8], offset: usize) -> Option<Record<'a>> {
        match self {
            Self::Classic(header) => header.record_at::<RECORD_HEADER_LEN>(file, offset),
            Self::Modified(header) => header.record_at::<MODIFIED_HEADER_LEN>(file, offset),
            Self::Ng(section) => section.record_at(file, offset),
        }
    }

    /// The first place in `range` where records seem to begin: one from which a chain of several
    /// plausible ones follows. A guess: neither format has marks to find one's way by.
    #[must_use]
    pub fn next_boundary(&self, file: &[u8], range: Range<usize>) -> Option<usize> {
        match self {
            Self::Classic(header) | Self::Modified(header) => header.next_boundary(file, range),
            Self::Ng(section) => section.next_boundary(file, range),
        }
    }

    /// Where the part of the file begins that this layout describes: the file, or a section of it.
    #[must_use]
    pub fn begins_at(&self) -> usize {
        match self {
            Self::Classic(_) | Self::Modified(_) => 0,
            Self::Ng(section) => section.begins_at,
        }
    }

    /// The link type of the whole file, where there is one for the whole file.
    #[must_use]
    pub fn link(&self) -> Option<LinkType> {
        match self {
            Self::Classic(header) | Self::Modified(header) => Some(header.link),
            Self::Ng(_) => None,
        }
    }

    /// The finest unit in which the timestamps seen so far are written.
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self {
            Self::Classic(header) | Self::Modified(header) => header.precision,
            Self::Ng(section) => section.precision(),
        }
    }

    /// Whether a record lies in the file just as one would lie in a file that
    /// [`file_header`] begins with this precision, so that it can be copied as it is.
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
    /// Where the next record begins, in bytes from the start of the file.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What has been learnt of the file: of each section that has packets and that the walk went
    /// through, the last one last. Within a section, interfaces are only ever added: the last word
    /// on it serves all of it.
    #[must_use]
    pub fn into_layouts(self) -> Vec<Layout> {
        let mut layouts = self.ended;
        layouts.push(self.layout);
        layouts
    }

    /// The next record or gap; nothing at the end of the file.
    #[inline]
    pub fn next_step(&mut self) -> Option<Step<'a>> {
        if let Layout::Classic(header) = &self.layout
            && let Some(record) = header.record_at::<RECORD_HEADER_LEN>(self.file, self.offset)
        {
            // A record's own length cannot run past the file, which lies in memory.
            self.offset = self
                .offset
                .saturating_add(RECORD_HEADER_LEN)
                .saturating_add(record.frame.len());
            return Some(Step::Record(record));
        }
        self.next_step_slowly()
    }

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
                    ng::Content::Packet(record) => return Some(Step::Record(record)),
                    ng::Content::Section(ended) if ended.is_used => {
                        self.ended.push(Layout::Ng(ended));
                    }
                    ng::Content::Section(_) => {}
                    ng::Content::Other => {}
                    ng::Content::Orphan => {
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

    /// Passes over what cannot be read, up to where records seem to begin again.
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
