//! Makes the index of a segment.

use std::collections::BTreeSet;

use bumpalo::Bump;
use shared::{
    index::{
        Coding, EventWriter, INDEX_MAGIC, Identity, POSITIONS_MAGIC, Part, Passed, PassedWriter,
        Restart, Section, StoredFlow, Summary, section, write, write_flows, write_restarts,
    },
    units::SipPorts,
};

use super::{files::zipped, packets::Packed, terms, words::WordGatherer};
use crate::{
    events::{FlowKey, Flows},
    index::{Behind, Chunk, ChunkIndex, Timing},
    moment::{Clock, Moment, Position},
    packet::Decoder,
    reassembly::{Assembler, Unfinished},
    source::Input,
    timeline::Timeline,
    windows::fetch_passed,
};

/// The most memory of the index of one segment, in bytes, about: that of a segment of 16 GiB with
/// media. Records behind it are read in the segment.
const MAX_MEMORY: usize = 2 << 30;

/// The bytes of the two files of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The `.idx` file.
    pub index: Vec<u8>,
    /// The `.pos` file.
    pub positions: Vec<u8>,
}

/// Indexes a segment by itself. `file_len` is the length of its file, and `restarts` has the points
/// at which decompression can begin, if it is compressed.
#[must_use]
pub fn make(
    input: &Input,
    file_len: u64,
    restarts: &[Restart],
    decoder: &Decoder,
    ports: SipPorts,
) -> Made {
    let indexed = |start, is_open: bool| {
        let chunk = Chunk {
            input: 0,
            file: input.bytes(),
            layout: input.layout(),
            range: start..input.bytes().len(),
            behind: Behind {
                inputs: &[],
                reached_ns: None,
                is_final: !is_open,
                is_open,
            },
        };
        let timing = Timing::SomewhereBehind(Timeline::default());
        ChunkIndex::of(chunk, timing, MAX_MEMORY, decoder, ports)
    };
    let found = indexed(input.start(), true);
    // The times of the last records are not sure, but their words are.
    let rest = indexed(found.end_of_indexed(), false);
    let summary = Summary {
        identity: Identity::of(input.bytes()),
        file_len,
        terms: terms(decoder, ports),
        start: found.start as u64,
        end: found.end_of_indexed() as u64,
        first_ns: input.first_ns(),
        last_clock: found.last_clock().max(rest.last_clock()),
        packets: found.counts.packets,
        bytes: found.counts.bytes,
        memory: found.memory as u64,
        // A file whose description changes in the middle must be read from its beginning.
        timing: found
            .timing()
            .filter(|_| found.layouts == [input.layout().clone()]),
    };
    let packed = Packed::of(&found.flows);
    let sections = [
        (section::SUMMARY, summary.write(), false),
        (
            section::WORDS,
            words([&found, &rest], input, decoder, ports),
            true,
        ),
        (section::EVENTS, events(&found, input), true),
        (section::PASSED, passed(&found), true),
        (
            section::FLOWS,
            write_flows(&directory(&found.flows, &packed.parts)),
            true,
        ),
    ];
    let positions = [
        (section::PACKETS, packed.packets, false),
        (section::BLOCKS, packed.blocks, true),
        (section::NUMBERS, packed.numbers, false),
    ];
    let restarts = Some(restarts).filter(|restarts| !restarts.is_empty());
    let restarts = restarts.map(|restarts| (section::RESTARTS, write_restarts(restarts), true));
    Made {
        index: put_together(INDEX_MAGIC, sections),
        positions: put_together(POSITIONS_MAGIC, positions.into_iter().chain(restarts)),
    }
}

/// A file of sections, each with its kind, and whether it is to be compressed.
fn put_together(
    magic: [u8; 8],
    sections: impl IntoIterator<Item = (u32, Vec<u8>, bool)>,
) -> Vec<u8> {
    let sections = sections.into_iter().map(|(kind, plain, is_to_zip)| {
        let plain_len = plain.len() as u64;
        let zipped = if is_to_zip { zipped(&plain) } else { None };
        let coding = if zipped.is_some() {
            Coding::Zstd
        } else {
            Coding::Plain
        };
        (kind, coding, plain_len, zipped.unwrap_or(plain))
    });
    let sections: Vec<_> = sections.collect();
    let sections: Vec<Section<'_>> = sections
        .iter()
        .map(|(kind, coding, plain_len, bytes)| Section {
            kind: *kind,
            coding: *coding,
            plain_len: *plain_len,
            bytes,
        })
        .collect();
    write(magic, &sections)
}

/// The records that carry signalling, or may, verbatim.
fn events(found: &ChunkIndex<'_>, input: &Input) -> Vec<u8> {
    let of_sip = found.sip.iter().map(|event| event.at);
    let of_fragments = found.fragments.iter().map(|event| event.at);
    let of_segments = found.segments.iter().map(|event| event.at);
    let all: BTreeSet<(Position, Clock)> = of_sip
        .chain(of_fragments)
        .chain(of_segments)
        .map(|at| (at.position, at.clock))
        .collect();
    let mut writer = EventWriter::default();
    for (position, clock) in all {
        if let Some(record) = input.record(input.layout(), position.offset()) {
            writer.push(clock, &record);
        }
    }
    writer.into_bytes()
}

/// The words of the segment's calls, including those whose messages came in parts.
fn words(
    found: [&ChunkIndex<'_>; 2],
    input: &Input,
    decoder: &Decoder,
    ports: SipPorts,
) -> Vec<u8> {
    let arena = Bump::new();
    let mut assembler = Assembler::new(decoder.clone(), ports, Unfinished::default());
    let passed = found.map(|chunk| chunk.passed.clone());
    let record_at = |at: Position| input.record(input.layout(), at.offset());
    let end = Moment {
        clock: found
            .map(ChunkIndex::last_clock)
            .into_iter()
            .fold(0, Clock::max),
        position: Position::new(0, input.bytes().len()),
    };
    let whole = assembler.put_together(
        found.map(|chunk| chunk.fragments.clone()).concat(),
        found.map(|chunk| chunk.segments.clone()).concat(),
        |followed| fetch_passed(&passed, followed, record_at, decoder),
        end.clock,
        &arena,
    );
    let rest = assembler.finish(end, &arena);
    let mut gatherer = WordGatherer::default();
    let in_one = found.into_iter().flat_map(|chunk| &chunk.sip);
    let all = in_one.chain(&whole.sip).chain(&rest.sip);
    all.for_each(|event| gatherer.add(event));
    gatherer.into_bytes()
}

fn passed(found: &ChunkIndex<'_>) -> Vec<u8> {
    let mut writer = PassedWriter::default();
    for one in &found.passed {
        writer.push(Passed {
            clock: one.at.clock,
            offset: one.at.position.offset() as u64,
            ports: one.ports.bits(),
        });
    }
    writer.into_bytes()
}

/// The directory of flows, whose packets have these places.
fn directory(flows: &Flows, parts: &[Part]) -> Vec<StoredFlow> {
    let stored = |(number, (key, part)): (usize, (&FlowKey, &Part))| {
        let packets = flows.packets(number);
        StoredFlow {
            network: key.network.bits(),
            source: key.source.octets(),
            source_port: key.source.port(),
            destination: key.destination.octets(),
            destination_port: key.destination.port(),
            payload_at: flows.payload_at(number).map_or(0, Into::into),
            packets: packets.len() as u64,
            first_clock: packets.first().map_or(0, |packet| packet.clock),
            last_clock: packets.last().map_or(0, |packet| packet.clock),
            numbers: *part,
        }
    };
    let flows = flows.keys().iter().zip(parts).enumerate();
    flows.map(stored).collect()
}
