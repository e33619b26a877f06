//! Cuts the inputs into windows of bounded size, and indexes each window in parallel.
//!
//! A window is cut into chunks. The start of a chunk is guessed, because a capture has no marks
//! between records. The guess is accepted only if the chunk before ends exactly there, with the
//! same knowledge of the file. Otherwise the chunk is indexed again, from where its records really
//! begin. So the result is that of reading from the first record to the last, whatever the sizes
//! and the number of threads.

mod series;

use std::{
    collections::HashSet,
    ops::{Range, RangeInclusive},
};

use bumpalo::Bump;
use rayon::prelude::*;
use shared::{
    pcap::{Gap, Record},
    segment_drops::SegmentDrops,
    units::SipPorts,
};

use crate::{
    counts::Counts,
    events::{Cause, Flows, FragmentEvent, Frames, Repetition, SegmentEvent, SipEvent},
    index::{Behind, Chunk, ChunkIndex, Passed, PortPair, Timing},
    moment::{Clock, Moment, Pace, Position},
    packet::{Decoder, Packet},
    reassembly::{Assembled, Assembler, Unfinished},
    source::{Input, Inputs, Layouts},
    timeline::Timeline,
};

pub use self::series::SeveralSeries;

/// The amount of work that is done at once. No value changes the result.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The length of a window, in bytes of input: the least, and the most that thousands of open
    /// calls make of it. A call's file is opened and closed once per window, so a window should
    /// have something to write for each call.
    pub window: RangeInclusive<usize>,
    /// The length of a chunk, in bytes of input: the part that one thread indexes at a time. `None`
    /// derives it from the window.
    pub chunk: Option<usize>,
    /// The approximate memory of a window's index, in bytes; with thousands of calls, twice as
    /// much. It limits windows in which nearly every packet is an event of its own: small SIP
    /// messages.
    pub index: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            window: 128 * MIB..=512 * MIB,
            chunk: None,
            index: 32 * MIB,
        }
    }
}

const MIB: usize = 1 << 20;

/// The bytes of input per open call in a window, so that each call finds packets of its own.
const BYTES_A_CALL: usize = 48 * 1024;

/// The fewest chunks of a window, so that a slow chunk does not leave threads without work.
const MIN_CHUNKS: usize = 8;

/// The unit of `memory_a_unit`, in bytes of input.
const INPUT_UNIT: usize = 1024;

/// A stretch of the inputs, indexed.
#[derive(Debug)]
pub struct Window<'w> {
    /// The moment at which the window begins.
    pub start: Moment,
    /// The moment at which the next window begins.
    pub end: Moment,
    /// The SIP messages, in the order in which they were complete.
    pub sip: Vec<SipEvent<'w>>,
    /// Frames that repeat parts of messages, in capture order.
    pub repetitions: Vec<Repetition>,
    /// The other UDP packets, chunk by chunk.
    pub flows: Vec<Flows>,
    /// The time since which frames may still turn out to be parts of a message.
    pub held_since: Option<Clock>,
    /// Parts that could not be read, with the numbers of their inputs.
    pub gaps: Vec<(usize, Gap)>,
    /// The counters of the window.
    pub counts: Counts,
    /// What was dropped at capture in the time of the segments that begin in the window, and packet
    /// time where they begin.
    pub drops: Vec<(Clock, SegmentDrops)>,
}

/// Reads the inputs window by window.
#[derive(Debug)]
pub struct Windows<'w> {
    inputs: &'w Inputs,
    /// The numbers of the inputs that are read.
    range: Range<usize>,
    sizes: Sizes,
    decoder: &'w Decoder,
    ports: SipPorts,
    /// The moment of the next record.
    next: Moment,
    /// Packet time at `next`, by the timestamps alone.
    timeline: Timeline,
    pace: Pace,
    /// The memory that the index of the last window took for each [`INPUT_UNIT`] of input.
    memory_a_unit: usize,
    assembler: Assembler,
    /// True when nothing comes after the last input.
    is_final: bool,
    /// The number of the first input that has not begun.
    not_begun: usize,
    /// The drops of segments that have begun, for the next window.
    drops: Vec<(Clock, SegmentDrops)>,
    /// The last records of the inputs, with the numbers of their inputs: packet time at the first
    /// of them depends on records that are not there yet.
    held: Vec<(usize, Record<'w>)>,
    is_finished: bool,
}

/// The state in which reading starts.
#[derive(Debug, Default)]
pub struct Start {
    /// Packet time.
    pub clock: Clock,
    /// Packet time by the timestamps alone.
    pub timeline: Timeline,
    /// The packets for which packet time has stood still.
    pub pace: Pace,
    /// The incomplete messages.
    pub unfinished: Unfinished,
}

/// The chunks of a window, with the index of each in which a record could begin.
#[derive(Debug, Default)]
pub struct Indexed<'w> {
    chunks: Vec<Planned>,
    found: Vec<Option<ChunkIndex<'w>>>,
    /// The memory that each chunk's index was allowed, in bytes.
    room: usize,
}

/// The parts that the chunks of a window leave for the assembler.
#[derive(Debug, Default)]
struct Parts<'w> {
    fragments: Vec<FragmentEvent<'w>>,
    segments: Vec<SegmentEvent<'w>>,
    passed: Vec<Vec<Passed>>,
}

/// A stretch of one input, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Planned {
    input: usize,
    start: usize,
    end: usize,
    /// True when a record is known to begin at `start`.
    is_exact: bool,
    /// True when the index of the chunk is stored beside its segment.
    is_stored: bool,
}

impl<'w> Windows<'w> {
    /// Begins with the first record of the first input. If `is_final` is false, a leap of packet
    /// time at the end waits for the records that decide on it, and incomplete messages wait for
    /// their missing parts.
    #[must_use]
    pub fn new(
        inputs: &'w Inputs,
        sizes: Sizes,
        decoder: &'w Decoder,
        ports: SipPorts,
        start: Start,
        is_final: bool,
    ) -> Self {
        let range = inputs.first()..inputs.after_last();
        Self::of_range(inputs, range, sizes, decoder, ports, start, is_final)
    }

    /// The same for the inputs with these numbers only.
    fn of_range(
        inputs: &'w Inputs,
        range: Range<usize>,
        sizes: Sizes,
        decoder: &'w Decoder,
        ports: SipPorts,
        start: Start,
        is_final: bool,
    ) -> Self {
        let first = range.start;
        let position = Position::new(first, inputs.get(first).map_or(0, Input::start));
        let next = Moment {
            clock: start.clock,
            position,
        };
        let Start { timeline, pace, .. } = start;
        let assembler = Assembler::new(decoder.clone(), ports, start.unfinished);
        let drops = inputs.drops().iter();
        let drops = drops.map(|drops| (start.clock, drops.clone())).collect();
        Self {
            inputs,
            range,
            sizes,
            decoder,
            ports,
            next,
            timeline,
            pace,
            memory_a_unit: 0,
            assembler,
            is_final,
            not_begun: first,
            drops,
            held: Vec::new(),
            is_finished: false,
        }
    }

    /// The assembler of incomplete messages.
    #[must_use]
    pub fn assembler(&self) -> &Assembler {
        &self.assembler
    }

    /// The moment up to which the inputs have been read.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.next
    }

    /// The last records, with the numbers of their inputs, if they wait for later records.
    #[must_use]
    pub fn held(&self) -> &[(usize, Record<'w>)] {
        &self.held
    }

    /// Packet time after the last window, by the timestamps alone.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// The packets for which packet time has stood still after the last window.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The incomplete messages, for the next reader.
    #[must_use]
    pub fn into_unfinished(self) -> Unfinished {
        self.assembler.into_unfinished()
    }

    /// Indexes the chunks of the next window in parallel. [`Self::join`] compares the chunks, so
    /// this can run while the window before is still being worked on. `calls` is the number of open
    /// calls.
    #[must_use]
    pub fn index(&self, layouts: &Layouts, calls: usize) -> Indexed<'w> {
        let (least, most) = (*self.sizes.window.start(), *self.sizes.window.end());
        let wanted = calls.saturating_mul(BYTES_A_CALL).clamp(least, most);
        // A window with many calls may use more memory.
        let memory = if wanted > least {
            self.sizes.index.saturating_mul(2)
        } else {
            self.sizes.index
        };
        let likely_to_fit = memory
            .saturating_mul(INPUT_UNIT)
            .checked_div(self.memory_a_unit)
            .unwrap_or(usize::MAX);
        let chunks = self.plan(wanted.min(likely_to_fit));
        // Chunks differ: one may take three times its share. One record always fits.
        let room = memory
            .saturating_mul(3)
            .checked_div(chunks.len())
            .unwrap_or(0)
            .max(1);
        let found = chunks
            .par_iter()
            .enumerate()
            .map(|(number, chunk)| {
                self.index_guessed(chunk, self.timing(number == 0), layouts, room)
            })
            .collect();
        Indexed {
            chunks,
            found,
            room,
        }
    }

    /// Makes a window of the chunks that were indexed last. After the end of the inputs, one more
    /// window follows. If the last input is final, it has no records, only the rest of incomplete
    /// messages. Otherwise it lasts until the time that segments without records have reached, if
    /// there are such. After that, there are no more windows.
    ///
    /// Layouts that the chunks have read are added to `layouts`; messages that are put together
    /// live in `arena`.
    pub fn join<'a>(
        &mut self,
        indexed: Indexed<'w>,
        layouts: &mut Layouts,
        arena: &'a Bump,
    ) -> Option<Window<'a>>
    where
        'w: 'a,
    {
        if indexed.chunks.is_empty() {
            self.begin_before(self.range.end);
            let is_first = !std::mem::replace(&mut self.is_finished, true);
            return match (is_first, self.is_final) {
                (true, true) => Some(self.last_window(arena)),
                (true, false) => self.quiet_window(arena),
                (false, _) => None,
            };
        }
        let mut window = Window::beginning_at(self.next);
        let mut parts = Parts::default();
        self.take(indexed, layouts, |windows, input, mut found, layouts| {
            let clock = found.keep_pace(&mut windows.pace, Pace::EVERY);
            windows.pass(input, &mut found, clock, layouts);
            window.append(&mut parts, input, found);
        });
        window.end = self.next;
        window.drops = std::mem::take(&mut self.drops);
        let records = (self.inputs, &*layouts, self.decoder);
        window.put_together(parts, &mut self.assembler, records, arena);
        Some(window)
    }

    /// Compares the chunks of the next window, indexes those again that were not guessed right, and
    /// gives them to `take`, with their numbers of input and the packet time that they begin with.
    fn take(
        &mut self,
        indexed: Indexed<'w>,
        layouts: &mut Layouts,
        mut take: impl FnMut(&mut Self, usize, ChunkIndex<'w>, &mut Layouts),
    ) {
        let start = self.next.position;
        let mut memory = 0usize;
        let assumed: Vec<_> = indexed
            .chunks
            .iter()
            .map(|chunk| layouts.latest(chunk.input).cloned())
            .collect();
        for ((chunk, guess), assumed) in indexed.chunks.iter().zip(indexed.found).zip(&assumed) {
            if self.next.position >= Position::new(chunk.input, chunk.end) {
                // The last record of the chunk before reaches beyond this one.
                continue;
            }
            let start = if chunk.is_exact {
                chunk.start
            } else {
                self.next.position.offset()
            };
            let is_right = |guess: &ChunkIndex<'_>| {
                guess.start == start
                    && assumed.as_ref() == layouts.latest(chunk.input)
                    && self.held.is_empty()
                    && guess.fits(&self.timeline)
            };
            let again = || {
                let chunk = Planned {
                    start,
                    is_exact: true,
                    is_stored: false,
                    ..*chunk
                };
                self.index_guessed(&chunk, self.timing(true), layouts, indexed.room)
            };
            let Some(mut found) = guess.filter(is_right).or_else(again) else {
                continue;
            };
            self.begin_before(chunk.input.saturating_add(1));
            memory = memory.saturating_add(found.memory);
            let is_full = found.is_full;
            let held = found.held.iter().map(|record| (chunk.input, *record));
            self.held.extend(held);
            self.timeline = found.timeline(&self.timeline);
            found.not_before(self.next.clock);
            take(self, chunk.input, found, layouts);
            if is_full {
                // The chunks behind it were indexed in vain.
                break;
            }
        }
        let len = self
            .inputs
            .bytes_before(self.next.position)
            .saturating_sub(self.inputs.bytes_before(start));
        self.learn_what_fits(len, memory);
    }

    /// Moves on behind a chunk, at whose end packet time is `clock`.
    fn pass(
        &mut self,
        input: usize,
        found: &mut ChunkIndex<'_>,
        clock: Clock,
        layouts: &mut Layouts,
    ) {
        self.next = Moment {
            clock,
            position: self.after(input, found.end),
        };
        layouts.learn(input, std::mem::take(&mut found.layouts));
    }

    /// Notes the drops of the segments before input `number`, of which none has begun yet at packet
    /// time now.
    fn begin_before(&mut self, number: usize) {
        for begins in self.not_begun..number {
            let drops = self.inputs.get(begins).and_then(Input::drops);
            self.drops
                .extend(drops.map(|drops| (self.next.clock, drops.clone())));
        }
        self.not_begun = self.not_begun.max(number);
    }

    /// Assumes that the next window is like the last one, whose index took `memory` bytes.
    fn learn_what_fits(&mut self, window_len: u64, memory: usize) {
        let units = usize::try_from(window_len).unwrap_or(usize::MAX) / INPUT_UNIT;
        self.memory_a_unit = memory.checked_div(units).unwrap_or(memory);
    }

    /// Plans the chunks of the next window, which has `len` bytes.
    fn plan(&self, len: usize) -> Vec<Planned> {
        let len = len.max(1);
        let chunk_count = MIN_CHUNKS.max(rayon::current_num_threads().saturating_mul(4));
        let chunk_len = self
            .sizes
            .chunk
            .unwrap_or_else(|| len.div_ceil(chunk_count));
        let mut chunks = Vec::new();
        let mut left = len;
        let (mut number, mut start) = (self.next.position.input(), self.next.position.offset());
        while left > 0
            && number < self.range.end
            && let Some(input) = self.inputs.get(number)
        {
            if let Some(end) = input.stored().and_then(|stored| stored.covers(start)) {
                chunks.push(Planned {
                    input: number,
                    start,
                    end,
                    is_exact: true,
                    is_stored: true,
                });
                left = left.saturating_sub(end.saturating_sub(start));
                start = end;
            }
            let end = input.bytes().len().min(start.saturating_add(left));
            left = left.saturating_sub(end.saturating_sub(start));
            chunks.extend(cut(number, start, end, chunk_len));
            number = number.saturating_add(1);
            start = self.inputs.get(number).map_or(0, Input::start);
        }
        chunks
    }

    /// The timing of a chunk; a chunk that `is_next` begins where the last window ended.
    fn timing(&self, is_next: bool) -> Timing {
        match (self.held.is_empty(), is_next) {
            (false, _) => Timing::Held,
            (true, true) => Timing::Behind(self.timeline),
            (true, false) => Timing::SomewhereBehind(self.timeline),
        }
    }

    fn index_guessed(
        &self,
        chunk: &Planned,
        timing: Timing,
        layouts: &Layouts,
        room: usize,
    ) -> Option<ChunkIndex<'w>> {
        let input = self.inputs.get(chunk.input)?;
        let stored = || {
            let stored = input.stored().filter(|_| chunk.is_stored)?;
            stored.chunk(chunk.input, input.bytes(), self.decoder, self.ports)
        };
        if let Some(found) = stored() {
            return Some(found);
        }
        let layout = layouts.latest(chunk.input)?;
        input.fetch(chunk.start..chunk.end);
        let file = input.bytes();
        let start = if chunk.is_exact {
            chunk.start
        } else {
            layout.next_boundary(file, chunk.start..chunk.end)?
        };
        let later = self.range.end.saturating_sub(chunk.input).saturating_sub(1);
        let after = self.inputs.after(chunk.input);
        let behind = Behind {
            inputs: after.get(..later).unwrap_or(after),
            reached_ns: self.inputs.reached_ns(),
            is_final: self.is_final,
            is_open: false,
        };
        let chunk = Chunk {
            input: chunk.input,
            file,
            layout,
            range: start..chunk.end,
            behind,
        };
        Some(ChunkIndex::of(
            chunk,
            timing,
            room,
            self.decoder,
            self.ports,
        ))
    }

    /// A window without records, if inputs without records show that packet time has advanced, or
    /// say what was dropped.
    fn quiet_window<'a>(&mut self, arena: &'a Bump) -> Option<Window<'a>> {
        let reached = self.inputs.reached_ns().filter(|_| self.held.is_empty());
        reached.into_iter().for_each(|ns| self.timeline.reach(ns));
        let later = self.timeline.clock().filter(|_| reached.is_some());
        let clock = later.unwrap_or(0).max(self.next.clock);
        if clock == self.next.clock && self.drops.is_empty() {
            return None;
        }
        let mut window = Window::beginning_at(self.next);
        window.drops = std::mem::take(&mut self.drops);
        self.next.clock = clock;
        window.end = self.next;
        window.add(self.assembler.put_together(
            Vec::new(),
            Vec::new(),
            |_| Vec::new(),
            clock,
            arena,
        ));
        window.held_since = self.assembler.holds_since(clock);
        Some(window)
    }

    fn last_window<'a>(&mut self, arena: &'a Bump) -> Window<'a> {
        let mut window = Window::beginning_at(self.next);
        window.drops = std::mem::take(&mut self.drops);
        window.add(self.assembler.finish(self.next, arena));
        window
    }

    /// The position of the record at `offset`; at the end of an input, that of the next input's
    /// first record.
    fn after(&self, input: usize, offset: usize) -> Position {
        let is_at_end = self
            .inputs
            .get(input)
            .is_none_or(|input| offset >= input.bytes().len());
        if !is_at_end {
            return Position::new(input, offset);
        }
        let next = input.saturating_add(1);
        Position::new(next, self.inputs.get(next).map_or(0, Input::start))
    }
}

impl<'w> Window<'w> {
    fn beginning_at(start: Moment) -> Self {
        Self {
            start,
            end: start,
            sip: Vec::new(),
            repetitions: Vec::new(),
            flows: Vec::new(),
            held_since: None,
            gaps: Vec::new(),
            counts: Counts::default(),
            drops: Vec::new(),
        }
    }

    /// Adds a chunk, except its messages in parts.
    fn append(&mut self, parts: &mut Parts<'w>, input: usize, mut found: ChunkIndex<'w>) {
        self.sip.append(&mut found.sip);
        self.flows.push(found.flows);
        self.gaps
            .extend(found.gaps.into_iter().map(|gap| (input, gap)));
        self.counts.add_all(&found.counts);
        parts.fragments.append(&mut found.fragments);
        parts.segments.append(&mut found.segments);
        parts.passed.push(found.passed);
    }

    /// Adds the messages whose parts came in this window, whose other members are known. Messages
    /// that are put together live in `arena`.
    fn put_together(
        &mut self,
        parts: Parts<'w>,
        assembler: &mut Assembler,
        (inputs, layouts, decoder): (&'w Inputs, &Layouts, &Decoder),
        arena: &'w Bump,
    ) {
        let fetch = |followed: &HashSet<PortPair>| {
            let record_at = |at: Position| {
                let layout = layouts.at(at)?;
                inputs.get(at.input())?.record(layout, at.offset())
            };
            fetch_objects(&parts.passed, followed, inputs, layouts);
            fetch_passed(&parts.passed, followed, record_at, decoder)
        };
        let clock = self.end.clock;
        let (fragments, segments) = (parts.fragments, parts.segments);
        self.add(assembler.put_together(fragments, segments, fetch, clock, arena));
        self.held_since = assembler.holds_since(clock);
    }

    fn add(&mut self, mut assembled: Assembled<'w>) {
        if !assembled.sip.is_empty() {
            self.sip.append(&mut assembled.sip);
            self.sip.sort_by_key(|event| event.at);
        }
        self.repetitions = assembled.repetitions;
        self.flows.push(assembled.flows);
        self.counts.add_all(&assembled.counts);
    }
}

/// Reads those passed TCP segments again whose ports are the ports of a connection that is
/// followed.
pub(crate) fn fetch_passed<'w>(
    passed: &[Vec<Passed>],
    followed: &HashSet<PortPair>,
    record_at: impl Fn(Position) -> Option<Record<'w>> + Sync,
    decoder: &Decoder,
) -> Vec<SegmentEvent<'w>> {
    let fetch = |at: Moment| {
        let record = record_at(at.position)?;
        let Packet::Tcp(segment) = decoder.decode(record.link, record.frame) else {
            return None;
        };
        let timestamp_ns = record.timestamp_ns.unwrap_or(0);
        let (frames, cause) = (Frames::from_buf([at]), Cause::Connection);
        Some(SegmentEvent {
            at,
            frames,
            timestamp_ns,
            may_be_hep: false,
            cause,
            segment,
        })
    };
    let of_followed = |passed: &&Passed| followed.contains(&passed.ports);
    passed
        .par_iter()
        .flat_map_iter(|chunk| {
            chunk
                .iter()
                .filter(of_followed)
                .filter_map(|passed| fetch(passed.at))
        })
        .collect()
}

/// Fetches passed TCP segments that lie in a store, input by input.
fn fetch_objects(
    passed: &[Vec<Passed>],
    followed: &HashSet<PortPair>,
    inputs: &Inputs,
    layouts: &Layouts,
) {
    if !inputs.have_holes() {
        return;
    }
    let all = passed.iter().flatten();
    let wanted = all.filter(|passed| followed.contains(&passed.ports));
    let mut positions: Vec<Position> = wanted.map(|passed| passed.at.position).collect();
    positions.sort_unstable();
    for positions in positions.chunk_by(|one, next| one.input() == next.input()) {
        let first = positions.first();
        let input = first.and_then(|first| inputs.get(first.input()));
        let layout = first.and_then(|first| layouts.at(*first));
        if let Some((input, layout)) = input.zip(layout) {
            input.fetch_records(layout, positions.iter().map(|position| position.offset()));
        }
    }
}

/// Cuts a stretch of an input into chunks.
fn cut(input: usize, start: usize, end: usize, size: usize) -> impl Iterator<Item = Planned> {
    let size = size.max(1);
    (start..end).step_by(size).map(move |from| Planned {
        input,
        start: from,
        end: end.min(from.saturating_add(size)),
        is_exact: from == start,
        is_stored: false,
    })
}
