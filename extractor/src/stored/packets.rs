//! The media packets of a segment in its index: a table of all of them, in blocks, and the numbers
//! of each flow's packets in it.

use std::mem;

use rayon::prelude::*;
use shared::index::{
    Coding, Container, Part, Section, StoredBlock, StoredFlow, read_blocks, read_numbers,
    read_packets, section, write_blocks, write_numbers, write_packets,
};

use super::{LEAST_RECORD_LEN, files::zipped, unpacked, unpacked_up_to};
use crate::{
    events::Flows,
    moment::{Clock, Moment, Position},
};

/// The bytes of a segment whose packets make a block.
const BLOCK_SPAN: usize = 8 << 20;

/// Shorter parts are not compressed.
const LEAST_TO_ZIP: usize = 64;

/// The most bytes of a packet in the table: two numbers of 64 bits. A packet of a flow takes less.
const MOST_PACKET_LEN: u64 = 20;

/// The packets of all flows, as they are written.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// The blocks of the table, one behind the other.
    pub(super) packets: Vec<u8>,
    /// The directory of the blocks.
    pub(super) blocks: Vec<u8>,
    /// The numbers of each flow's packets.
    pub(super) numbers: Vec<u8>,
    /// The place of each flow in these.
    pub(super) parts: Vec<Part>,
}

impl Packed {
    /// Packs the packets of all flows. Each flow's are in capture order.
    pub(super) fn of(flows: &Flows) -> Self {
        let mut rest: Vec<&[Moment]> = (0..flows.keys().len())
            .map(|flow| flows.packets(flow))
            .collect();
        let mut numbers: Vec<Vec<u64>> = rest
            .iter()
            .map(|packets| Vec::with_capacity(packets.len()))
            .collect();
        let mut packed = Self::default();
        let mut blocks = Vec::new();
        let mut count = 0u64;
        while let Some(batch) = next_batch(&mut rest) {
            let mut block: Vec<(Clock, u64)> = Vec::with_capacity(batch.len());
            for (offset, clock, flow) in batch {
                if block.last().is_none_or(|(_, last)| *last != offset) {
                    block.push((clock, offset));
                    count = count.saturating_add(1);
                }
                if let Some(numbers) = numbers.get_mut(flow) {
                    numbers.push(count.saturating_sub(1));
                }
            }
            blocks.push(StoredBlock {
                packets: block.len() as u64,
                part: add(&mut packed.packets, coded(write_packets(&block))),
            });
        }
        packed.blocks = write_blocks(&blocks);
        let numbers: Vec<_> = numbers
            .into_par_iter()
            .map(|numbers| coded(write_numbers(&numbers)))
            .collect();
        packed.parts = numbers
            .into_iter()
            .map(|numbers| add(&mut packed.numbers, numbers))
            .collect();
        packed
    }
}

/// Takes the packets of the next stretch of the segment from the front of all flows, as offset,
/// packet time and flow, in capture order. `None` if no flow has packets left.
fn next_batch(rest: &mut [&[Moment]]) -> Option<Vec<(u64, Clock, usize)>> {
    let offset = |packet: &Moment| packet.position.offset();
    let first = rest.iter().filter_map(|packets| packets.first());
    let until = first.map(offset).min()?.saturating_add(BLOCK_SPAN);
    let mut batch = Vec::new();
    for (flow, packets) in rest.iter_mut().enumerate() {
        let len = packets.partition_point(|packet| offset(packet) < until);
        if let Some((these, later)) = mem::take(packets).split_at_checked(len) {
            batch.extend(
                these
                    .iter()
                    .map(|packet| (offset(packet) as u64, packet.clock, flow)),
            );
            *packets = later;
        }
    }
    batch.sort_unstable();
    Some(batch)
}

/// Bytes in the shorter of both forms.
fn coded(plain: Vec<u8>) -> (Vec<u8>, Coding) {
    let zipped = Some(&plain)
        .filter(|plain| plain.len() >= LEAST_TO_ZIP)
        .and_then(|plain| zipped(plain));
    match zipped {
        Some(zipped) => (zipped, Coding::Zstd),
        None => (plain, Coding::Plain),
    }
}

/// Adds a part to a section.
fn add(to: &mut Vec<u8>, (bytes, coding): (Vec<u8>, Coding)) -> Part {
    let part = Part {
        at: to.len() as u64,
        len: bytes.len() as u64,
        coding,
        crc: crc32fast::hash(&bytes),
    };
    to.extend(bytes);
    part
}

/// The packets of a segment whose index is read: its blocks are read when they are needed.
#[derive(Debug)]
pub(super) struct Packets<'a> {
    blocks: Vec<Block>,
    /// The sections of packets and of numbers.
    packets: &'a [u8],
    numbers: &'a [u8],
    segment_len: u64,
}

#[derive(Debug)]
struct Block {
    /// The number of its first packet, and the number behind its last.
    start: u64,
    end: u64,
    part: Part,
    read: Option<Vec<(Clock, u64)>>,
}

impl<'a> Packets<'a> {
    /// The packets in a file of positions, of a segment of this length. `None` if it is damaged.
    pub(super) fn open(positions: &Container<'a>, segment_len: u64) -> Option<Self> {
        let directory = positions.section(section::BLOCKS).ok()?;
        let directory = read_blocks(&unpacked(&directory, segment_len)?)?;
        let mut blocks = Vec::with_capacity(directory.len());
        let mut start = 0u64;
        for StoredBlock { packets, part } in directory {
            let end = start.checked_add(packets)?;
            blocks.push(Block {
                start,
                end,
                part,
                read: None,
            });
            start = end;
        }
        let bytes = |kind| Some(positions.section_of_parts(kind).ok()?.bytes);
        Some(Self {
            blocks,
            packets: bytes(section::PACKETS)?,
            numbers: bytes(section::NUMBERS)?,
            segment_len,
        })
        .filter(|_| start <= segment_len / LEAST_RECORD_LEN)
    }

    /// The packets of a flow in the segment, which is the input with this number. `None` if they are
    /// damaged.
    pub(super) fn of_flow(&mut self, input: usize, flow: &StoredFlow) -> Option<Vec<Moment>> {
        let numbers = unpacked_part(self.numbers, &flow.numbers, flow.packets)?;
        let numbers = read_numbers(&numbers, usize::try_from(flow.packets).ok()?)?;
        let first = numbers.first().copied().unwrap_or(0);
        let place = self.blocks.partition_point(|block| block.end <= first);
        let mut blocks = self.blocks.get_mut(place..)?.iter_mut();
        let mut block = blocks.next();
        let mut moments = Vec::with_capacity(numbers.len());
        for number in numbers {
            while block.as_ref().is_some_and(|block| block.end <= number) {
                block = blocks.next();
            }
            let (clock, offset) = block.as_mut()?.packet(number, self.packets)?;
            let offset = usize::try_from(offset)
                .ok()
                .filter(|_| offset < self.segment_len)?;
            moments.push(Moment {
                clock,
                position: Position::new(input, offset),
            });
        }
        Some(moments)
    }
}

impl Block {
    /// The packet with this number.
    fn packet(&mut self, number: u64, packets: &[u8]) -> Option<(Clock, u64)> {
        if self.read.is_none() {
            let count = self.end.checked_sub(self.start)?;
            let bytes = unpacked_part(packets, &self.part, count)?;
            self.read = Some(read_packets(&bytes, usize::try_from(count).ok()?)?);
        }
        let place = usize::try_from(number.checked_sub(self.start)?).ok()?;
        self.read.as_ref()?.get(place).copied()
    }
}

/// The plain bytes of a part of a section, which has so many packets. `None` if it is damaged.
fn unpacked_part<'a>(
    section: &'a [u8],
    part: &Part,
    packets: u64,
) -> Option<std::borrow::Cow<'a, [u8]>> {
    let start = usize::try_from(part.at).ok()?;
    let bytes = section.get(start..start.checked_add(usize::try_from(part.len).ok()?)?)?;
    if crc32fast::hash(bytes) != part.crc {
        return None;
    }
    let most = packets.saturating_add(1).saturating_mul(MOST_PACKET_LEN);
    let section = Section {
        kind: section::PACKETS,
        coding: part.coding,
        plain_len: 0,
        bytes,
    };
    unpacked_up_to(&section, most)
}
