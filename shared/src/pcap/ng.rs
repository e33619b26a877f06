//! pcapng, after draft-ietf-opsawg-pcapng: a chain of blocks, each with its length at both ends.
//!
//! ```text
//!  0  block type
//!  4  block length, a multiple of 4, with the 12 bytes of this frame
//!  8  body
//!     block length again
//! ```
//!
//! pcap-file reads section headers and interface descriptions, as far as damage permits. Block
//! frames and packets are read here: they are most of the work, and damage mostly hits them. A
//! packet of 214 bytes costs 320 instructions here and 400 in pcap-file, whose parser also gives up
//! at the first damaged block. All other blocks (names, statistics, secrets) are skipped by length.

use std::ops::Range;

use pcap_file::{
    Endianness,
    pcapng::{
        self, PcapNgBlock, PcapNgState, RawBlock,
        blocks::{
            CUSTOM_BLOCK_COPIABLE, CUSTOM_BLOCK_NON_COPIABLE,
            ENHANCED_PACKET_BLOCK as ENHANCED_PACKET, INTERFACE_DESCRIPTION_BLOCK as INTERFACE,
            PACKET_BLOCK as PACKET, SECTION_HEADER_BLOCK as SECTION_HEADER,
            SIMPLE_PACKET_BLOCK as SIMPLE_PACKET,
            interface_description::InterfaceDescriptionOption, section_header::SectionHeaderBlock,
        },
    },
};

use super::{ByteOrder, LinkType, Precision, Record};

const OPTION_END: u16 = 0;
const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;

/// Type and length before a block's body.
const BLOCK_START: usize = 8;
const MIN_BLOCK_LEN: usize = 12;
/// The longest block that is accepted.
const MAX_BLOCK_LEN: usize = 64 * 1024 * 1024;
/// Name resolution, statistics, journal events, secrets: not used here.
const OTHERS: std::ops::RangeInclusive<u32> = 4..=10;
const CUSTOM: [u32; 2] = [CUSTOM_BLOCK_COPIABLE, CUSTOM_BLOCK_NON_COPIABLE];
/// How many blocks of unknown types may stand before one that confirms the chain.
const CHAIN: usize = 64;
/// Byte-order magic, version and section length.
const SECTION_HEADER_LEN: usize = 16;
/// The fields before the frame in the two packet blocks that have a time.
const PACKET_HEADER_LEN: usize = 20;
/// 2262-04-11: later times are replaced by this one, so that the longest duration can be added to
/// any time without overflow.
const LAST_NS: u64 = i64::MAX.unsigned_abs();
/// The most interfaces of a section that are kept: each costs memory, and real files have less than
/// a tenth of it.
const MAX_INTERFACES: usize = 65_536;

/// The contents of the section header and the interface descriptions read so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The offset of its header, in bytes from the start of the file.
    pub(super) begins_at: usize,
    order: Option<ByteOrder>,
    interfaces: Vec<Interface>,
    /// True if a packet of it has been read: only then is it needed again.
    pub(super) is_used: bool,
}

/// One interface of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    link: LinkType,
    resolution: Resolution,
    /// Seconds to add to each timestamp.
    offset_s: i64,
    /// The largest captured length; 0 for no limit.
    snaplen: u32,
}

/// The ticks of a timestamp in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    PowerOf10(u8),
    PowerOf2(u8),
}

/// A block in the file whose two lengths agree.
pub(super) struct Block<'a> {
    order: ByteOrder,
    kind: u32,
    offset: usize,
    pub(super) end: usize,
    body: &'a [u8],
}

/// The contents of a block.
pub(super) enum BlockContent<'a> {
    Packet(Record<'a>),
    /// A packet whose interface is not described.
    Orphan,
    /// The header of a section, which ends the one before.
    Section(Section),
    /// An interface description, which the section has stored, or a block that is not used here.
    Other,
}

pub(super) fn is_section_header(file: &[u8]) -> bool {
    file.starts_with(&SECTION_HEADER.to_be_bytes()) && section_order(file, 0).is_some()
}

/// Returns the byte order that the section header at `offset` declares.
///
/// pcap-file gets only the fixed part, padded with zeros: it refuses a header in which the file
/// ends, and one with an option that is not UTF-8
/// (`headers_of_sections_that_pcap_file_refuses`).
fn section_order(file: &[u8], offset: usize) -> Option<ByteOrder> {
    let header = file.get(offset.checked_add(BLOCK_START)?..)?;
    let mut fixed = [0; SECTION_HEADER_LEN];
    fixed
        .iter_mut()
        .zip(header)
        .for_each(|(to, from)| *to = *from);
    // The header declares its own order; the argument is ignored.
    let header =
        read_by_pcap_file(SECTION_HEADER, ByteOrder::Little, &fixed)?.into_section_header()?;
    Some(header.endianness.into())
}

/// Returns the block with this body, unless pcap-file refuses it.
fn read_by_pcap_file(kind: u32, order: ByteOrder, body: &[u8]) -> Option<pcapng::Block<'_>> {
    let mut state = PcapNgState::default();
    let section = SectionHeaderBlock {
        endianness: order.into(),
        ..SectionHeaderBlock::default()
    };
    state.update_from_block(&section.into_block());
    let len = u32::try_from(body.len().checked_add(MIN_BLOCK_LEN)?).ok()?;
    RawBlock {
        type_: kind,
        initial_len: len,
        body: body.into(),
        trailer_len: len,
    }
    .try_into_block(&state)
    .ok()
}

impl<'a> Block<'a> {
    /// Returns the block at `offset`, if it is whole. A section header declares its own byte order,
    /// any other block has that of the section.
    #[inline]
    fn at(file: &'a [u8], offset: usize, order: Option<ByteOrder>) -> Option<Self> {
        let head = file.get(offset..)?;
        let order = if head.starts_with(&SECTION_HEADER.to_be_bytes()) {
            section_order(file, offset)?
        } else {
            order?
        };
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

    /// True if the type is a known one and the fields agree with the length: about 70 bits that
    /// random bytes do not have.
    fn is_unmistakable(&self) -> bool {
        let Self {
            order, kind, body, ..
        } = *self;
        match kind {
            SECTION_HEADER => body.len() >= SECTION_HEADER_LEN,
            INTERFACE => order.u16_at(body, 2) == Some(0) && body.len() >= 8,
            ENHANCED_PACKET | PACKET => {
                let room = body.len().checked_sub(PACKET_HEADER_LEN);
                let captured_len = order.u32_at(body, 12);
                room.zip(captured_len)
                    .is_some_and(|(room, len)| len as usize <= room)
            }
            SIMPLE_PACKET => {
                let frame_len = body.len().checked_sub(4);
                let wire_len = order.u32_at(body, 0);
                // The frame is padded to a multiple of 4.
                frame_len
                    .zip(wire_len)
                    .is_some_and(|(frame, wire)| frame <= (wire as usize).saturating_add(3))
            }
            _ => false,
        }
    }
}

impl Section {
    pub(super) fn precision(&self) -> Precision {
        self.interfaces
            .iter()
            .map(|interface| interface.resolution.precision())
            .max()
            .unwrap_or(Precision::Micro)
    }

    /// Returns the block at `offset`, if it is whole and plausible.
    pub(super) fn block_at<'a>(&self, file: &'a [u8], offset: usize) -> Option<Block<'a>> {
        let block = Block::at(file, offset, self.order)?;
        // If all packets have the same size, their lengths are at equal distances even for a reader
        // that is one byte off, and look like those of large blocks of unknown types.
        (self.is_sure(&block) || self.is_followed(file, block.end)).then_some(block)
    }

    /// True if the block is certain without the blocks after it.
    fn is_sure(&self, block: &Block<'_>) -> bool {
        let is_orphan = || {
            matches!(block.kind, ENHANCED_PACKET | SIMPLE_PACKET | PACKET)
                && self.packet(block).is_none()
        };
        OTHERS.contains(&block.kind)
            || CUSTOM.contains(&block.kind)
            || (block.is_unmistakable() && !is_orphan())
    }

    /// True if a known block is at `offset`, perhaps after others, or the file ends there.
    fn is_followed(&self, file: &[u8], offset: usize) -> bool {
        offset == file.len()
            || self.is_cut_at(file, offset)
            || self
                .chain(file, offset)
                .any(|block| block.is_unmistakable())
    }

    /// Iterates over the blocks from `offset` on, of any type, up to `CHAIN` of them.
    fn chain<'a>(&self, file: &'a [u8], offset: usize) -> impl Iterator<Item = Block<'a>> {
        let order = self.order;
        let next = move |block: &Block<'a>| Block::at(file, block.end, order);
        std::iter::successors(Block::at(file, offset, order), next).take(CHAIN)
    }

    /// Stores the description in a block, or returns its packet.
    pub(super) fn read<'a>(&mut self, block: &Block<'a>) -> BlockContent<'a> {
        match block.kind {
            SECTION_HEADER => {
                let next = Self {
                    begins_at: block.offset,
                    order: Some(block.order),
                    ..Self::default()
                };
                return BlockContent::Section(std::mem::replace(self, next));
            }
            INTERFACE if self.interfaces.len() < MAX_INTERFACES => {
                // An unreadable description still counts: packets name interfaces by position.
                let interface = Interface::parse(block).unwrap_or(Interface::UNREADABLE);
                self.interfaces.push(interface);
            }
            ENHANCED_PACKET | SIMPLE_PACKET | PACKET => {
                let packet = self.packet(block);
                self.is_used |= packet.is_some();
                return packet.map_or(BlockContent::Orphan, BlockContent::Packet);
            }
            _ => {}
        }
        BlockContent::Other
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
                let Interface {
                    link,
                    snaplen,
                    resolution,
                    ..
                } = *self.interfaces.first()?;
                let captured_len = if snaplen == 0 {
                    wire_len
                } else {
                    wire_len.min(snaplen)
                };
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

    /// Reads an enhanced packet block, or the obsolete packet block, whose interface differs.
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
            // A captured length beyond the block is wrong; the block's own length is checked.
            frame: data.get(..captured_len).unwrap_or(data),
        })
    }

    /// Searches at every byte: damage may have added or removed bytes.
    pub(super) fn next_boundary(&self, file: &[u8], range: Range<usize>) -> Option<usize> {
        let end = range.end.min(file.len().saturating_sub(BLOCK_START));
        (range.start..end).find(|&offset| self.is_boundary(file, offset))
    }

    /// True if the block at `offset`, or a later one of its chain, is certainly a block.
    fn is_boundary(&self, file: &[u8], offset: usize) -> bool {
        self.chain(file, offset)
            .any(|block| block.is_unmistakable() && self.is_sure(&block))
    }

    /// True if a block begins at `offset` and the file ends inside it.
    pub(super) fn is_cut_at(&self, file: &[u8], offset: usize) -> bool {
        let Some(order) = self.order else { return true };
        let len = file.get(offset..).and_then(|head| order.u32_at(head, 4));
        len.is_none_or(|len| {
            let len = len as usize;
            (MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&len)
                && offset.saturating_add(len) > file.len()
        })
    }
}

impl Interface {
    /// Has a link type that no decoder knows, so that the packets are counted and named as such.
    const UNREADABLE: Self = Self::new(LinkType(u16::MAX), 0);

    /// Returns an interface without options: timestamps are microseconds since 1970.
    const fn new(link: LinkType, snaplen: u32) -> Self {
        Self {
            link,
            resolution: Resolution::PowerOf10(6),
            offset_s: 0,
            snaplen,
        }
    }

    fn parse(block: &Block<'_>) -> Option<Self> {
        Self::whole(block).or_else(|| Self::as_far_as_it_goes(block))
    }

    /// Parses a description with pcap-file, which refuses one whose reserved field is not 0, and
    /// one for any of these options: ticks shorter than a nanosecond, a name that is not UTF-8, a
    /// cut value or a value of the wrong length (`descriptions_that_pcap_file_refuses`).
    fn whole(block: &Block<'_>) -> Option<Self> {
        // All options are kept: one may be four bytes in the file and ten times as many in memory.
        const MAX_LEN: usize = 65_536;
        let body = Some(block.body).filter(|body| body.len() <= MAX_LEN)?;
        let description =
            read_by_pcap_file(INTERFACE, block.order, body)?.into_interface_description()?;
        let link = LinkType(u16::try_from(u32::from(description.linktype)).ok()?);
        let mut interface = Self::new(link, description.snaplen);
        // If an option is repeated, the last one counts.
        for option in description.options {
            match option {
                InterfaceDescriptionOption::IfTsResol(resolution) => {
                    interface.resolution = Resolution::from_byte(resolution.to_u8());
                }
                InterfaceDescriptionOption::IfTsOffset(seconds) => interface.offset_s = seconds,
                _ => {}
            }
        }
        Some(interface)
    }

    /// Parses a description up to its first cut option.
    fn as_far_as_it_goes(block: &Block<'_>) -> Option<Self> {
        let Block { order, body, .. } = *block;
        let link = LinkType(order.u16_at(body, 0)?);
        let snaplen = order.u32_at(body, 4)?;
        let mut interface = Self::new(link, snaplen);
        let mut options = body.get(8..)?;
        while let (Some(code), Some(len)) = (order.u16_at(options, 0), order.u16_at(options, 2)) {
            let len = usize::from(len);
            let Some(value) = options.get(4..).and_then(|rest| rest.get(..len)) else {
                break;
            };
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_TSRESOL, [byte, ..]) => interface.resolution = Resolution::from_byte(*byte),
                (OPTION_TSOFFSET, [_, _, _, _, _, _, _, _]) => {
                    interface.offset_s = order.i64(value)?;
                }
                _ => {}
            }
            let Some(rest) = options.get(4usize.saturating_add(len.next_multiple_of(4))..) else {
                break;
            };
            options = rest;
        }
        Some(interface)
    }

    fn timestamp_ns(&self, ticks: u64) -> u64 {
        let ns = self.resolution.to_ns(ticks);
        let shifted =
            i128::from(ns).saturating_add(i128::from(self.offset_s).saturating_mul(1_000_000_000));
        u64::try_from(shifted.max(0)).map_or(LAST_NS, |ns| ns.min(LAST_NS))
    }
}

impl Resolution {
    fn from_byte(byte: u8) -> Self {
        if byte & 0x80 == 0 {
            Self::PowerOf10(byte)
        } else {
            Self::PowerOf2(byte & 0x7f)
        }
    }

    /// Returns the precision that distinguishes its ticks.
    fn precision(self) -> Precision {
        let is_finer_than_micro = match self {
            Self::PowerOf10(exponent) => exponent > 6,
            Self::PowerOf2(exponent) => exponent > 19,
        };
        if is_finer_than_micro {
            Precision::Nano
        } else {
            Precision::Micro
        }
    }

    fn to_ns(self, ticks: u64) -> u64 {
        match self {
            Self::PowerOf10(exponent @ 0..=9) => {
                ticks.saturating_mul(10u64.saturating_pow(9u32.saturating_sub(exponent.into())))
            }
            Self::PowerOf10(exponent) => {
                let divisor = 10u64.checked_pow(u32::from(exponent).saturating_sub(9));
                divisor
                    .and_then(|divisor| ticks.checked_div(divisor))
                    .unwrap_or(0)
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

impl From<Endianness> for ByteOrder {
    fn from(endianness: Endianness) -> Self {
        if endianness.is_little() {
            Self::Little
        } else {
            Self::Big
        }
    }
}

impl From<ByteOrder> for Endianness {
    fn from(order: ByteOrder) -> Self {
        match order {
            ByteOrder::Little => Self::Little,
            ByteOrder::Big => Self::Big,
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "numbers of tests are small")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interface(order: ByteOrder, body: &[u8]) -> Block<'_> {
        Block {
            order,
            kind: INTERFACE,
            offset: 0,
            end: body.len() + MIN_BLOCK_LEN,
            body,
        }
    }

    /// Returns the body of a description of an Ethernet interface, little-endian.
    fn description(options: &[u8]) -> Vec<u8> {
        [&[1, 0, 0, 0, 0, 0, 4, 0][..], options].concat()
    }

    #[test]
    fn headers_of_sections_that_pcap_file_refuses() {
        let magic = [0x4d, 0x3c, 0x2b, 0x1a];
        let fixed = [&magic[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let header = |body: &[u8]| {
            let len = (body.len() as u32 + 12).to_le_bytes();
            [&[0x0a, 0x0d, 0x0d, 0x0a][..], &len, body, &len].concat()
        };
        let application_in_latin_1 = [&fixed[..], &[4, 0, 4, 0], b"caf\xe9", &[0; 4]].concat();
        for (what, file, body) in [
            (
                "cut behind its magic number",
                header(&fixed)[..12].to_vec(),
                &magic[..],
            ),
            (
                "an option in Latin-1",
                header(&application_in_latin_1),
                &application_in_latin_1,
            ),
            (
                "an option that is cut",
                header(&[&fixed[..], &[3, 0, 9, 0]].concat()),
                &[&fixed[..], &[3, 0, 9, 0]].concat(),
            ),
        ] {
            assert!(is_section_header(&file), "{what}");
            assert_eq!(section_order(&file, 0), Some(ByteOrder::Little), "{what}");
            assert!(
                read_by_pcap_file(SECTION_HEADER, ByteOrder::Little, body).is_none(),
                "{what}"
            );
        }
        assert!(!is_section_header(&header(&fixed)[..11]));
        assert!(!is_section_header(&header(&[0x1a; 16])));
    }

    #[test]
    fn descriptions_that_pcap_file_refuses() {
        let nano = [9, 0, 1, 0, 9, 0, 0, 0];
        let resolution_of = |options: &[&[u8]]| {
            let body = description(&options.concat());
            assert_eq!(
                Interface::whole(&interface(ByteOrder::Little, &body)),
                None,
                "{options:?}"
            );
            let read = Interface::parse(&interface(ByteOrder::Little, &body)).unwrap();
            assert_eq!((read.link, read.snaplen), (LinkType::ETHERNET, 262_144));
            read.resolution
        };
        assert_eq!(
            resolution_of(&[&[9, 0, 1, 0, 12, 0, 0, 0]]),
            Resolution::PowerOf10(12),
            "picoseconds"
        );
        assert_eq!(
            resolution_of(&[&[9, 0, 1, 0, 0x80 | 32, 0, 0, 0]]),
            Resolution::PowerOf2(32)
        );
        for (what, other) in [
            (
                "a name in Latin-1",
                &[2, 0, 4, 0, b'c', b'a', b'f', 0xe9][..],
            ),
            ("a speed of four bytes", &[8, 0, 4, 0, 1, 2, 3, 4]),
            ("an empty filter", &[11, 0, 0, 0]),
        ] {
            assert_eq!(
                resolution_of(&[other, &nano]),
                Resolution::PowerOf10(9),
                "{what}"
            );
        }
        assert_eq!(
            resolution_of(&[&nano, &[2, 0, 200, 0, b'e', b't', b'h', b'0']]),
            Resolution::PowerOf10(9),
            "cut"
        );
        assert_eq!(
            resolution_of(&[&nano[..5]]),
            Resolution::PowerOf10(9),
            "not filled up"
        );
        let mut reserved = description(&nano);
        reserved[2] = 7;
        let reserved = interface(ByteOrder::Little, &reserved);
        assert_eq!(Interface::whole(&reserved), None, "a reserved field");
        assert_eq!(
            Interface::parse(&reserved).unwrap().resolution,
            Resolution::PowerOf10(9),
            "a reserved field"
        );
        let many_options = description(&[3, 0, 0, 0].repeat(20_000));
        assert_eq!(
            Interface::whole(&interface(ByteOrder::Little, &many_options)),
            None,
            "too many to keep"
        );
        assert!(Interface::parse(&interface(ByteOrder::Little, &many_options)).is_some());
    }

    fn code() -> impl Strategy<Value = u16> {
        prop_oneof![3 => 1u16..4, 6 => prop::sample::select(vec![9u16, 14]), 1 => 0u16..20, 2 => any::<u16>()]
    }

    proptest! {
        #[test]
        fn both_readers_of_descriptions_agree(
            is_big in any::<bool>(),
            fixed in any::<[u8; 8]>(),
            options in proptest::collection::vec((code(), proptest::collection::vec(0u8..11, 0..10)), 0..5),
            cut in prop_oneof![3 => Just(0usize), 1 => 0usize..12],
        ) {
            let (order, of_u16): (_, fn(u16) -> [u8; 2]) =
                if is_big { (ByteOrder::Big, u16::to_be_bytes) } else { (ByteOrder::Little, u16::to_le_bytes) };
            let mut body = fixed.to_vec();
            body[2..4].fill(0);
            for (code, value) in &options {
                let len = match code { 9 => 1, 14 => 8, _ => value.len() };
                let mut value = value.clone();
                value.resize(len, 5);
                body.extend([of_u16(*code), of_u16(len as u16)].concat());
                body.extend(&value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            body.truncate(body.len().saturating_sub(cut));
            let block = interface(order, &body);
            prop_assert_eq!(Interface::parse(&block), Interface::as_far_as_it_goes(&block));
        }
    }
}
