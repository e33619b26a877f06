//! pcapng, after draft-ietf-opsawg-pcapng: a chain of blocks, each with its length at both ends.
//!
//! ```text
//!  0  block type
//!  4  block length, a multiple of 4, with the 12 bytes of this frame
//!  8  body
//!     block length again
//! ```

use std::ops::Range;

use super::{ByteOrder, LinkType, Precision, Record};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_END: u16 = 0;
const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;

/// Type and length before a block's body.
const BLOCK_START: usize = 8;
const MIN_BLOCK_LEN: usize = 12;
/// A block longer than this is not believed.
const MAX_BLOCK_LEN: usize = 64 * 1024 * 1024;
/// Name resolution, statistics, events of journals, secrets: of no use here.
const OTHERS: std::ops::RangeInclusive<u32> = 4..=10;
const CUSTOM: [u32; 2] = [0x0bad, 0x4000_0bad];
/// How many blocks of unknown kinds may stand before one that shows that they are blocks.
const CHAIN: usize = 64;
/// Byte-order magic, version and section length.
const SECTION_HEADER_LEN: usize = 16;
/// What stands before the frame in the two packet blocks that have a time.
const PACKET_HEADER_LEN: usize = 20;
/// 2262-04-11: a later time is taken for this one, so that to any time the longest of durations can be added, and what
/// is due stays later than what is.
const LAST_NS: u64 = i64::MAX.unsigned_abs();
/// More interfaces than this in one section are not kept: each costs memory, and none has a tenth of it.
const MAX_INTERFACES: usize = 65_536;

/// What the section header and the interface descriptions read so far say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Where its header lies, in bytes from the start of the file.
    pub(super) begins_at: usize,
    order: Option<ByteOrder>,
    interfaces: Vec<Interface>,
    /// Whether a packet has been read by it: only then will it be needed again.
    pub(super) is_used: bool,
}

/// One interface of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    link: LinkType,
    resolution: Resolution,
    /// Seconds to be added to each timestamp.
    offset_s: i64,
    /// How much of a frame is captured at most; 0 for all of it.
    snaplen: u32,
}

/// How many ticks of a timestamp make a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    PowerOf10(u8),
    PowerOf2(u8),
}

/// A block as it lies in the file, both lengths checked.
pub(super) struct Block<'a> {
    order: ByteOrder,
    kind: u32,
    offset: usize,
    pub(super) end: usize,
    body: &'a [u8],
}

/// What a block turned out to hold.
pub(super) enum Content<'a> {
    Packet(Record<'a>),
    /// A packet of an interface that nothing describes.
    Orphan,
    /// The header of a section, which ends the one before.
    Section(Section),
    /// A description, taken in, or something that is of no use here.
    Other,
}

pub(super) fn is_section_header(file: &[u8]) -> bool {
    file.starts_with(&SECTION_HEADER.to_be_bytes()) && section_order(file, 0).is_some()
}

/// The byte order that the section header at `offset` declares.
fn section_order(file: &[u8], offset: usize) -> Option<ByteOrder> {
    match file.get(offset.checked_add(BLOCK_START)?..)?.first_chunk()? {
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(ByteOrder::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(ByteOrder::Big),
        _ => None,
    }
}

impl<'a> Block<'a> {
    /// The block that begins at `offset`, if a whole one does. A section's header says itself in which order its
    /// bytes are, any other block depends on the section.
    #[inline]
    fn at(file: &'a [u8], offset: usize, order: Option<ByteOrder>) -> Option<Self> {
        let head = file.get(offset..)?;
        let order = if head.starts_with(&SECTION_HEADER.to_be_bytes()) { section_order(file, offset)? } else { order? };
        let len = order.u32_at(head, 4)? as usize;
        if !(MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&len) || !len.is_multiple_of(4) {
            return None;
        }
        let block = head.get(..len)?;
        let tail = len.checked_sub(4)?;
        if order.u32_at(block, tail)? as usize != len {
            return None;
        }
        Some(Self {
            order,
            kind: order.u32_at(block, 0)?,
            offset,
            end: offset.checked_add(len)?,
            body: block.get(BLOCK_START..tail)?,
        })
    }

    /// Whether it is of a kind that is read and its fields agree with its length: about 70 bits that other bytes do not
    /// have by chance.
    fn is_unmistakable(&self) -> bool {
        let Self { order, kind, body, .. } = *self;
        match kind {
            SECTION_HEADER => body.len() >= SECTION_HEADER_LEN,
            INTERFACE => order.u16_at(body, 2) == Some(0) && body.len() >= 8,
            ENHANCED_PACKET | PACKET => {
                let room = body.len().checked_sub(PACKET_HEADER_LEN);
                let captured_len = order.u32_at(body, 12);
                room.zip(captured_len).is_some_and(|(room, len)| len as usize <= room)
            }
            SIMPLE_PACKET => {
                let frame_len = body.len().checked_sub(4);
                let wire_len = order.u32_at(body, 0);
                // The frame is filled up to a multiple of 4.
                frame_len.zip(wire_len).is_some_and(|(frame, wire)| frame <= (wire as usize).saturating_add(3))
            }
            _ => false,
        }
    }
}

impl Section {
    pub(super) fn precision(&self) -> Precision {
        self.interfaces.iter().map(|interface| interface.resolution.precision()).max().unwrap_or(Precision::Micro)
    }

    /// The block that begins at `offset`, if a whole one does.
    pub(super) fn block_at<'a>(&self, file: &'a [u8], offset: usize) -> Option<Block<'a>> {
        let block = Block::at(file, offset, self.order)?;
        // Where packets are all of a size, their lengths are found at equal distances also by one who reads them
        // shifted by a byte, and look like those of large blocks of odd kinds.
        (self.is_sure(&block) || self.is_followed(file, block.end)).then_some(block)
    }

    /// Whether a block can be believed whatever comes after it.
    fn is_sure(&self, block: &Block<'_>) -> bool {
        let is_orphan = || matches!(block.kind, ENHANCED_PACKET | SIMPLE_PACKET | PACKET) && self.packet(block).is_none();
        OTHERS.contains(&block.kind) || CUSTOM.contains(&block.kind) || (block.is_unmistakable() && !is_orphan())
    }

    /// Whether one that is known comes at `offset`, or behind others, or the file ends there.
    fn is_followed(&self, file: &[u8], offset: usize) -> bool {
        offset == file.len() || self.is_cut_at(file, offset) || self.chain(file, offset).any(|block| block.is_unmistakable())
    }

    /// The blocks from `offset` on, of whatever kind, as far as it takes to know what they are.
    fn chain<'a>(&self, file: &'a [u8], offset: usize) -> impl Iterator<Item = Block<'a>> {
        let order = self.order;
        let next = move |block: &Block<'a>| Block::at(file, block.end, order);
        std::iter::successors(Block::at(file, offset, order), next).take(CHAIN)
    }

    /// Takes in what a block describes, or gives the packet that it holds.
    pub(super) fn read<'a>(&mut self, block: &Block<'a>) -> Content<'a> {
        match block.kind {
            SECTION_HEADER => {
                let next = Self { begins_at: block.offset, order: Some(block.order), ..Self::default() };
                return Content::Section(std::mem::replace(self, next));
            }
            INTERFACE if self.interfaces.len() < MAX_INTERFACES => {
                // One that cannot be read still counts: packets name interfaces by position.
                let interface = Interface::parse(block).unwrap_or(Interface::UNREADABLE);
                self.interfaces.push(interface);
            }
            ENHANCED_PACKET | SIMPLE_PACKET | PACKET => {
                let packet = self.packet(block);
                self.is_used |= packet.is_some();
                return packet.map_or(Content::Orphan, Content::Packet);
            }
            _ => {}
        }
        Content::Other
    }

    pub(super) fn record_at<'a>(&self, file: &'a [u8], offset: usize) -> Option<Record<'a>> {
        self.packet(&self.block_at(file, offset)?)
    }

    fn packet<'a>(&self, block: &Block<'a>) -> Option<Record<'a>> {
        let Block { order, body, .. } = *block;
        let u32_at = |offset| order.u32_at(body, offset);
        match block.kind {
            ENHANCED_PACKET => self.timed_packet(block, u32_at(0)?),
            PACKET => self.timed_packet(block, order.u16_at(body, 0)?.into()),
            SIMPLE_PACKET => {
                let wire_len = u32_at(0)?;
                let data = body.get(4..)?;
                let Interface { link, snaplen, resolution, .. } = *self.interfaces.first()?;
                let captured_len = if snaplen == 0 { wire_len } else { wire_len.min(snaplen) };
                let frame = data.get(..captured_len as usize).unwrap_or(data);
                Some(Record {
                    offset: block.offset,
                    timestamp_ns: None,
                    wire_len,
                    link,
                    precision: resolution.precision(),
                    frame,
                })
            }
            _ => None,
        }
    }

    /// An enhanced packet block or the obsolete packet block: the same but for the interface.
    fn timed_packet<'a>(&self, block: &Block<'a>, interface: u32) -> Option<Record<'a>> {
        let u32_at = |offset| block.order.u32_at(block.body, offset);
        let interface = self.interfaces.get(interface as usize)?;
        let ticks = (u64::from(u32_at(4)?) << 32) | u64::from(u32_at(8)?);
        let (captured_len, wire_len) = (u32_at(12)? as usize, u32_at(16)?);
        let data = block.body.get(PACKET_HEADER_LEN..)?;
        Some(Record {
            offset: block.offset,
            timestamp_ns: Some(interface.timestamp_ns(ticks)),
            wire_len,
            link: interface.link,
            precision: interface.resolution.precision(),
            // A captured length beyond the block is a lie; the block's own length is checked.
            frame: data.get(..captured_len).unwrap_or(data),
        })
    }

    /// Damage may have added bytes or taken some away: what comes after it begins anywhere.
    pub(super) fn next_boundary(&self, file: &[u8], range: Range<usize>) -> Option<usize> {
        let end = range.end.min(file.len().saturating_sub(BLOCK_START));
        (range.start..end).find(|&offset| self.is_boundary(file, offset))
    }

    /// Whether the block at `offset`, or one that follows it in a chain, can be nothing but a block.
    fn is_boundary(&self, file: &[u8], offset: usize) -> bool {
        self.chain(file, offset).any(|block| block.is_unmistakable() && self.is_sure(&block))
    }

    /// Whether what stands at `offset` is the beginning of a block whose end is missing.
    pub(super) fn is_cut_at(&self, file: &[u8], offset: usize) -> bool {
        let Some(order) = self.order else { return true };
        let len = file.get(offset..).and_then(|head| order.u32_at(head, 4));
        len.is_none_or(|len| {
            let len = len as usize;
            (MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&len) && offset.saturating_add(len) > file.len()
        })
    }
}

impl Interface {
    /// A type no decoder knows, so that the packets are counted and named as such.
    const UNREADABLE: Self = Self { link: LinkType(u16::MAX), resolution: Resolution::PowerOf10(6), offset_s: 0, snaplen: 0 };

    fn parse(block: &Block<'_>) -> Option<Self> {
        let Block { order, body, .. } = *block;
        let link = LinkType(order.u16_at(body, 0)?);
        let snaplen = order.u32_at(body, 4)?;
        let mut interface = Self { link, resolution: Resolution::PowerOf10(6), offset_s: 0, snaplen };
        let mut options = body.get(8..)?;
        while let (Some(code), Some(len)) = (order.u16_at(options, 0), order.u16_at(options, 2)) {
            let len = usize::from(len);
            let Some(value) = options.get(4..).and_then(|rest| rest.get(..len)) else { break };
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_TSRESOL, [byte, ..]) => interface.resolution = Resolution::from_byte(*byte),
                (OPTION_TSOFFSET, [_, _, _, _, _, _, _, _]) => interface.offset_s = order.i64(value)?,
                _ => {}
            }
            let Some(rest) = options.get(4usize.saturating_add(len.next_multiple_of(4))..) else { break };
            options = rest;
        }
        Some(interface)
    }

    fn timestamp_ns(&self, ticks: u64) -> u64 {
        let ns = self.resolution.to_ns(ticks);
        let shifted = i128::from(ns).saturating_add(i128::from(self.offset_s).saturating_mul(1_000_000_000));
        u64::try_from(shifted.max(0)).map_or(LAST_NS, |ns| ns.min(LAST_NS))
    }
}

impl Resolution {
    fn from_byte(byte: u8) -> Self {
        if byte & 0x80 == 0 { Self::PowerOf10(byte) } else { Self::PowerOf2(byte & 0x7f) }
    }

    /// The unit that tells its ticks apart.
    fn precision(self) -> Precision {
        let is_finer_than_micro = match self {
            Self::PowerOf10(exponent) => exponent > 6,
            Self::PowerOf2(exponent) => exponent > 19,
        };
        if is_finer_than_micro { Precision::Nano } else { Precision::Micro }
    }

    fn to_ns(self, ticks: u64) -> u64 {
        match self {
            Self::PowerOf10(exponent @ 0..=9) => ticks.saturating_mul(10u64.saturating_pow(9u32.saturating_sub(exponent.into()))),
            Self::PowerOf10(exponent) => {
                let divisor = 10u64.checked_pow(u32::from(exponent).saturating_sub(9));
                divisor.and_then(|divisor| ticks.checked_div(divisor)).unwrap_or(0)
            }
            Self::PowerOf2(exponent) => {
                // At most 64 + 30 bits: the product fits, and the shift is below 128.
                let ns = u128::from(ticks).saturating_mul(1_000_000_000) >> exponent;
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        }
    }
}

impl ByteOrder {
    fn i64(self, value: &[u8]) -> Option<i64> {
        let bytes = *value.first_chunk()?;
        Some(match self {
            Self::Little => i64::from_le_bytes(bytes),
            Self::Big => i64::from_be_bytes(bytes),
        })
    }
}
