//! Windows: the inputs, cut into stretches of bounded size, each indexed in parallel.
//!
//! A window is cut into chunks. Where a chunk begins is a guess, for captures have no marks to find
//! a record by; the guess is accepted only if the chunk before ends exactly there, with the same
//! knowledge of the file. Otherwise that chunk is indexed again, from where its records really
//! begin. So the result is that of reading from the first record to the last, whatever the sizes
//! and the number of threads.

use std::{collections::HashSet, ops::RangeInclusive};

use bumpalo::Bump;
use rayon::prelude::*;
use shared::{
    pcap::{Gap, Record},
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

/// How much is worked on at once. No value changes the result.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Of a window, in bytes of input: the least, and what thousands of calls make of it. A call's
    /// file is opened and closed for each window, so that there should be something to write each
    /// time.
    pub window: RangeInclusive<usize>,
    /// Of a chunk, what one thread indexes at a time, in bytes of input; nothing for what suits the
    /// window.
    pub chunk: Option<usize>,
    /// Of a window's index, in bytes of memory, about; with thousands of calls twice as much. It
    /// bounds windows of which nearly everything is an event of its own: small SIP messages.
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

/// What a call should find of its own in a window, and all calls likewise.
const BYTES_A_CALL: usize = 48 * 1024;

/// Of a window, so that chunks which take longer than others do not leave threads without work.
const MIN_CHUNKS: usize = 8;

/// In bytes.
const INPUT_UNIT: usize = 1024;

/// One stretch of the inputs, indexed.
#[derive(Debug)]
pub struct Window<'w> {
    /// Where it begins.
    pub start: Moment,
    /// Where the next one begins.
    pub end: Moment,
    /// Its SIP messages, in the order in which they were whole.
    pub sip: Vec<SipEvent<'w>>,
    /// Frames that repeat what messages were made of, in capture order.
    pub repetitions: Vec<Repetition>,
    /// Its other UDP packets, of one chunk after the other.
    pub flows: Vec<Flows>,
    /// Since when frames may still turn out to be parts of something.
    pub held_since: Option<Clock>,
    /// What could not be read: in which input, and where.
    pub gaps: Vec<(usize, Gap)>,
    /// What was seen.
    pub counts: Counts,
}

/// Goes through the inputs window by window.
#[derive(Debug)]
pub struct Windows<'w> {
    inputs: &'w Inputs,
    sizes: Sizes,
    decoder: &'w Decoder,
    ports: SipPorts,
    /// The next record to be read.
    next: Moment,
    /// Packet time there, by the timestamps alone.
    timeline: Timeline,
    pace: Pace,
    /// How much memory the index of the last window took for each [`INPUT_UNIT`] of input.
    memory_a_unit: usize,
    assembler: Assembler,
    /// Whether nothing comes after the last input.
    is_final: bool,
    /// The last records of all, with the numbers of their inputs: packet time at the first of them
    /// depends on records that are not there yet.
    held: Vec<(usize, Record<'w>)>,
    is_finished: bool,
}

/// Where to go on.
#[derive(Debug, Default)]
pub struct Start {
    /// Packet time so far.
    pub clock: Clock,
    /// The same by the timestamps alone.
    pub timeline: Timeline,
    /// How long it has stood still.
    pub pace: Pace,
    /// What is not whole yet.
    pub unfinished: Unfinished,
}

/// The chunks of one window and what was found in each, if a record could begin there.
#[derive(Debug)]
pub struct Indexed<'w> {
    chunks: Vec<Planned>,
    found: Vec<Option<ChunkIndex<'w>>>,
    /// How much memory the index of each chunk was allowed, in bytes.
    room: usize,
}

/// What the chunks of a window leave for the assembler.
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
    /// Whether a record is known to begin at its start.
    is_exact: bool,
}

impl<'w> Windows<'w> {
    /// Begins with the first record of the first input. If the last one is not `is_final`, a leap of
    /// packet time at its end waits for the records that decide on it, and so do parts for what they
    /// are parts of.
    #[must_use]
    pub fn new(
        inputs: &'w Inputs,
        sizes: Sizes,
        decoder: &'w Decoder,
        ports: SipPorts,
        start: Start,
        is_final: bool,
    ) -> Self {
        let first = inputs.first();
        let position = Position::new(first, inputs.get(first).map_or(0, Input::start));
        let next = Moment {
            clock: start.clock,
            position,
        };
        let Start { timeline, pace, .. } = start;
        let assembler = Assembler::new(decoder.clone(), ports, start.unfinished);
        Self {
            inputs,
            sizes,
            decoder,
            ports,
            next,
            timeline,
            pace,
            memory_a_unit: 0,
            assembler,
            is_final,
            held: Vec::new(),
            is_finished: false,
        }
    }

    /// What puts parts together, and knows what became of them.
    #[must_use]
    pub fn assembler(&self) -> &Assembler {
        &self.assembler
    }

    /// The place up to which all is read.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.next
    }

    /// The last records of all, with the numbers of their inputs, if they wait for later ones.
    #[must_use]
    pub fn held(&self) -> &[(usize, Record<'w>)] {
        &self.held
    }

    /// Packet time after the last window, by the timestamps alone.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// How long packet time has stood still there.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// What is not whole yet, for others to go on with.
    #[must_use]
    pub fn into_unfinished(self) -> Unfinished {
        self.assembler.into_unfinished()
    }

    /// Indexes the chunks of the next window, side by side. What they are to each other is left to
    /// [`Self::join`], so that this can go on while the window before is still being worked on. So
    /// many `calls` are open.
    #[must_use]
    pub fn index(&self, layouts: &Layouts, calls: usize) -> Indexed<'w> {
        let (least, most) = (*self.sizes.window.start(), *self.sizes.window.end());
        let wanted = calls.saturating_mul(BYTES_A_CALL).clamp(least, most);
        // Many calls are worth more memory.
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
        // Chunks differ: one may take three times its share. There is room for one record always.
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

    /// Makes a window of what was indexed last. After the end of the last input, if it is final,
    /// comes one more, without records: what is there of messages that did not become whole. If it
    /// is not, and segments without records tell that the capture has come further, comes one that
    /// lasts until then. Then nothing. What is learnt of the files goes to `layouts`, what is put
    /// together from parts lives in `arena`.
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
            let is_first = !std::mem::replace(&mut self.is_finished, true);
            return match (is_first, self.is_final) {
                (true, true) => Some(self.last_window(arena)),
                (true, false) => self.quiet_window(arena),
                (false, _) => None,
            };
        }
        let mut window = Window::beginning_at(self.next);
        let mut parts = Parts::default();
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
                    ..*chunk
                };
                self.index_guessed(&chunk, self.timing(true), layouts, indexed.room)
            };
            let Some(found) = guess.filter(is_right).or_else(again) else {
                continue;
            };
            memory = memory.saturating_add(found.memory);
            let is_full = found.is_full;
            let held = found.held.iter().map(|record| (chunk.input, *record));
            self.held.extend(held);
            self.append(&mut window, &mut parts, chunk.input, found, layouts);
            if is_full {
                // What was indexed behind it was in vain.
                break;
            }
        }
        let len = self
            .inputs
            .bytes_before(self.next.position)
            .saturating_sub(self.inputs.bytes_before(window.start.position));
        self.learn_what_fits(len, memory);
        window.end = self.next;
        let Self {
            inputs, decoder, ..
        } = *self;
        let fetch = |followed: &HashSet<PortPair>| {
            fetch_passed(&parts.passed, followed, inputs, layouts, decoder)
        };
        window.add(self.assembler.put_together(
            parts.fragments,
            parts.segments,
            fetch,
            self.next.clock,
            arena,
        ));
        window.held_since = self.assembler.holds_since(self.next.clock);
        Some(window)
    }

    /// The next window will be like the last one, whose index took so much `memory`.
    fn learn_what_fits(&mut self, window_len: u64, memory: usize) {
        let units = usize::try_from(window_len).unwrap_or(usize::MAX) / INPUT_UNIT;
        self.memory_a_unit = memory.checked_div(units).unwrap_or(memory);
    }

    /// The chunks of the next window, which has `len` bytes.
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
            && let Some(input) = self.inputs.get(number)
        {
            let end = input.bytes().len().min(start.saturating_add(left));
            left = left.saturating_sub(end.saturating_sub(start));
            chunks.extend(cut(number, start, end, chunk_len));
            number = number.saturating_add(1);
            start = self.inputs.get(number).map_or(0, Input::start);
        }
        chunks
    }

    /// How packet time is told in a chunk: one that `is_next` stands where the last window ended.
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
        let layout = layouts.latest(chunk.input)?;
        let file = self.inputs.get(chunk.input)?.bytes();
        let start = if chunk.is_exact {
            chunk.start
        } else {
            layout.next_boundary(file, chunk.start..chunk.end)?
        };
        let behind = Behind {
            inputs: self.inputs.after(chunk.input),
            reached_ns: self.inputs.reached_ns(),
            is_final: self.is_final,
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

    /// A window without records, if inputs without records tell that packet time goes on.
    fn quiet_window<'a>(&mut self, arena: &'a Bump) -> Option<Window<'a>> {
        let reached = self.inputs.reached_ns().filter(|_| self.held.is_empty())?;
        self.timeline.reach(reached);
        let clock = self
            .timeline
            .clock()
            .filter(|clock| *clock > self.next.clock)?;
        let mut window = Window::beginning_at(self.next);
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
        window.add(self.assembler.finish(self.next, arena));
        window
    }

    fn append<'a>(
        &mut self,
        window: &mut Window<'a>,
        parts: &mut Parts<'a>,
        input: usize,
        mut found: ChunkIndex<'a>,
        layouts: &mut Layouts,
    ) {
        self.timeline = found.timeline(&self.timeline);
        found.not_before(self.next.clock);
        let clock: Clock = found.keep_pace(&mut self.pace, Pace::EVERY);
        self.next = Moment {
            clock,
            position: self.after(input, found.end),
        };
        layouts.learn(input, found.layouts);
        window.sip.append(&mut found.sip);
        window.flows.push(found.flows);
        window
            .gaps
            .extend(found.gaps.into_iter().map(|gap| (input, gap)));
        window.counts.add_all(&found.counts);
        parts.fragments.append(&mut found.fragments);
        parts.segments.append(&mut found.segments);
        parts.passed.push(found.passed);
    }

    /// The position of the record at an offset, which may be the first one of the next input.
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
        }
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

/// Of the TCP segments that were passed over, those whose ports are the ports of a connection that
/// is followed.
fn fetch_passed<'w>(
    passed: &[Vec<Passed>],
    followed: &HashSet<PortPair>,
    inputs: &'w Inputs,
    layouts: &Layouts,
    decoder: &Decoder,
) -> Vec<SegmentEvent<'w>> {
    let fetch = |at: Moment| {
        let record = inputs
            .get(at.position.input())?
            .record(layouts.at(at.position)?, at.position.offset())?;
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

/// Cuts a stretch of an input into chunks.
fn cut(input: usize, start: usize, end: usize, size: usize) -> impl Iterator<Item = Planned> {
    let size = size.max(1);
    (start..end).step_by(size).map(move |from| Planned {
        input,
        start: from,
        end: end.min(from.saturating_add(size)),
        is_exact: from == start,
    })
}
