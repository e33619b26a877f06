//! Index files beside segments: what the index stage finds in a segment, kept on the disk.
//!
//! [`make`] indexes a segment by itself and puts the result into bytes; [`Stored`] is the opposite:
//! it stands for the segment when windows are indexed, so only the bytes that are copied into calls'
//! files are read. The form of the bytes is that of [`shared::index`].
//!
//! The result is that of reading the segment, or the segment is read: packet time in an index
//! counts from the segment's own beginning, and windows compare it with the segments before, as they
//! do with any chunk.

mod all;
mod archive;
mod files;
mod make;
mod packets;
mod words;

use std::{
    num::NonZeroU16,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use shared::{
    index::{
        Coding, Container, Events, INDEX_MAGIC, Identity, IndexError, POSITIONS_MAGIC,
        Passed as StoredPass, Section, StoredFlow, Summary, passed, read_flows, section,
    },
    units::SipPorts,
};

use self::packets::Packets;
pub use self::{
    all::{IndexTask, Totals, index_all, index_input},
    archive::{open, open_segment},
    files::{Beside, Places, SearchedObject, StoredFile, made_words, write},
    make::{Made, make},
    words::{CallWords, Words},
};
use crate::{
    events::{FlowKey, Flows},
    index::{ChunkIndex, Passed, PortPair, StoredChunk},
    moment::{Moment, Position},
    packet::{Decoder, Endpoint, Network},
};

/// The fewest bytes of a record in a capture: its header.
const LEAST_RECORD_LEN: u64 = 16;

/// The terms of an index: where SIP was looked for, and which tunnels were opened. An index that was
/// made on other terms may lack what is asked for.
#[must_use]
pub fn terms(decoder: &Decoder, ports: SipPorts) -> String {
    format!(
        "SIP on {ports}; HEP on {}; ERSPAN sessions {}; ERSPAN VLANs {}",
        decoder.hep_ports(),
        decoder.span_ids(),
        decoder.vlans()
    )
}

/// The part of an index that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Signalling and media.
    All,
    /// Signalling only: calls have no media.
    Signalling,
}

/// The index of a segment, in files beside it.
#[derive(Debug)]
pub struct Stored {
    files: StoredFile,
    summary: Summary,
    uses: Use,
    /// The section of events, unpacked once it is needed: calls borrow from it. `None` in it if it is
    /// damaged.
    events: OnceLock<Option<Box<[u8]>>>,
    /// True when a part of it could not be read, and the segment was read instead.
    is_damaged: AtomicBool,
}

impl Stored {
    /// An index that stands for a segment of this length, whose records begin at `start`. `None` if
    /// it can be searched, but packet time in it depends on other segments.
    ///
    /// # Errors
    /// The index is not that of the segment, was made on other terms, or is damaged.
    pub fn of(
        files: StoredFile,
        [len, start]: [usize; 2],
        terms: &str,
        uses: Use,
    ) -> Result<Option<Self>, IndexError> {
        let summary = files.summary()?;
        if summary.terms != terms {
            return Err(IndexError::OtherTerms(summary.terms));
        }
        if summary.identity.len != len as u64 || summary.start != start as u64 {
            return Err(IndexError::OtherSegment);
        }
        if summary.timing.is_none() {
            return Ok(None);
        }
        Container::open(files.positions(), POSITIONS_MAGIC)?;
        Ok(Some(Self {
            files,
            summary,
            uses,
            events: OnceLock::new(),
            is_damaged: AtomicBool::new(false),
        }))
    }

    /// The offset up to which the index stands for the segment, if it begins at `start`.
    #[must_use]
    pub fn covers(&self, start: usize) -> Option<usize> {
        let is_there = self.summary.start == start as u64 && !self.is_damaged();
        usize::try_from(self.summary.end)
            .ok()
            .filter(|end| is_there && *end > start)
    }

    /// True when a part of the index could not be read, and the segment was read instead.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// The index of the segment, which is the input with this number, and has these bytes. `None`
    /// if it is damaged, or that of another segment, after a warning.
    #[must_use]
    pub fn chunk<'w>(
        &'w self,
        input: usize,
        bytes: &[u8],
        decoder: &Decoder,
        ports: SipPorts,
    ) -> Option<ChunkIndex<'w>> {
        let is_its_own = self.summary.identity == Identity::of(bytes);
        let chunk = || self.read_chunk(input, decoder, ports);
        let chunk = if is_its_own { chunk() } else { None };
        if chunk.is_none() && !self.is_damaged.swap(true, Ordering::Relaxed) {
            let error = if is_its_own {
                IndexError::Damaged
            } else {
                IndexError::OtherSegment
            };
            not_used(self.files.name(), &error);
        }
        chunk
    }

    fn read_chunk<'w>(
        &'w self,
        input: usize,
        decoder: &Decoder,
        ports: SipPorts,
    ) -> Option<ChunkIndex<'w>> {
        let Summary {
            identity,
            start,
            end,
            memory,
            packets,
            bytes,
            timing,
            ..
        } = self.summary;
        let container = Container::open(self.files.index(), INDEX_MAGIC).ok()?;
        let events = self
            .events
            .get_or_init(|| {
                let events = container.section(section::EVENTS).ok()?;
                let events = unpacked(&events, identity.len)?;
                Some(events.into_owned().into_boxed_slice())
            })
            .as_deref()?;
        let mut all = Events::of(events);
        all.by_ref().for_each(drop);
        if !all.is_whole() {
            return None;
        }
        let stored = StoredChunk {
            range: usize::try_from(start).ok()?..usize::try_from(end).ok()?,
            flows: match self.uses {
                Use::All => self.flows(input, &container, identity.len)?,
                Use::Signalling => Flows::default(),
            },
            passed: passes(input, &container, identity.len)?,
            timing: timing?,
            memory: usize::try_from(memory).ok()?,
            packets,
            bytes,
        };
        let records = Events::of(events).map(|event| (event.clock, event.record));
        Some(ChunkIndex::of_stored(
            input, records, stored, decoder, ports,
        ))
    }

    fn flows(&self, input: usize, container: &Container<'_>, segment_len: u64) -> Option<Flows> {
        let directory = unpacked(&container.section(section::FLOWS).ok()?, segment_len)?;
        let positions = Container::open(self.files.positions(), POSITIONS_MAGIC).ok()?;
        let mut packets = Packets::open(&positions, segment_len)?;
        let flows = read_flows(&directory)?;
        let count = flows
            .iter()
            .fold(0u64, |sum, flow| sum.saturating_add(flow.packets));
        if count > segment_len / LEAST_RECORD_LEN {
            return None;
        }
        let flows = flows.iter().map(|flow| {
            let moments = packets.of_flow(input, flow)?;
            Some((key(flow), NonZeroU16::new(flow.payload_at), moments))
        });
        flows.collect::<Option<Vec<_>>>().map(Flows::stored)
    }
}

/// Says that an index is not used.
fn not_used(name: &str, why: &dyn std::fmt::Display) {
    tracing::warn!("{name} is not used, its segment is read instead: {why}");
}

/// The key of a flow.
fn key(flow: &StoredFlow) -> FlowKey {
    FlowKey {
        network: Network::from_bits(flow.network),
        source: Endpoint::v6(flow.source, flow.source_port),
        destination: Endpoint::v6(flow.destination, flow.destination_port),
    }
}

fn passes(input: usize, container: &Container<'_>, segment_len: u64) -> Option<Vec<Passed>> {
    let bytes = unpacked(&container.section(section::PASSED).ok()?, segment_len)?;
    let noted = |one: StoredPass| {
        let offset = usize::try_from(one.offset)
            .ok()
            .filter(|_| one.offset < segment_len)?;
        Some(Passed {
            at: Moment {
                clock: one.clock,
                position: Position::new(input, offset),
            },
            ports: PortPair::from_bits(one.ports),
        })
    };
    passed(&bytes)?.into_iter().map(noted).collect()
}

/// The plain bytes of a section of an index whose segment has this length. Everything in it was
/// found in the segment, so it is shorter.
fn unpacked<'a>(section: &Section<'a>, segment_len: u64) -> Option<std::borrow::Cow<'a, [u8]>> {
    const OVERHEAD: u64 = 64 * 1024;
    unpacked_up_to(
        section,
        segment_len.saturating_mul(2).saturating_add(OVERHEAD),
    )
}

fn unpacked_up_to<'a>(section: &Section<'a>, most: u64) -> Option<std::borrow::Cow<'a, [u8]>> {
    match section.coding {
        Coding::Plain => Some(section.bytes.into()),
        Coding::Zstd => files::unzipped(section.bytes, most).map(Into::into),
    }
}
