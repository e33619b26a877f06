//! Several series of segments, read side by side, in one order.
//!
//! Each series has its own packet time, and its records keep their order. Records of different
//! series sort by packet time and, where that is equal, by their series: this is the order in which
//! [`crate::source::merge`] writes them to one capture. Nothing is written here: the numbers of the
//! inputs grow from series to series, so the order is that of [`Moment`].
//!
//! The result is that of the merged capture as long as packet time is the highest timestamp in each
//! series ([`SeveralSeries::is_orderly`]). Else it depends on which records stand side by side.

use std::collections::VecDeque;

use bumpalo::Bump;

use super::{Indexed, Parts, Sizes, Start, Window, Windows};
use crate::{
    events::{FlowKey, Flows, PayloadAt},
    index::{ChunkIndex, KeptPackets},
    moment::{Clock, Moment, Pace, Position},
    packet::Decoder,
    reassembly::{Assembler, Unfinished},
    source::{Inputs, Layouts},
};
use shared::units::SipPorts;

/// The windows of several series, in one order.
#[derive(Debug)]
pub struct SeveralSeries<'w> {
    inputs: &'w Inputs,
    decoder: &'w Decoder,
    series: Vec<OneSeries<'w>>,
    /// Everything before it has been in a window.
    next: Moment,
    pace: Pace,
    assembler: Assembler,
    is_orderly: bool,
    stage: Stage,
}

/// The progress of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading,
    /// All records have been in a window. The rest of incomplete messages is left.
    Read,
    Finished,
}

/// One series, and what was read of it ahead of the others.
#[derive(Debug)]
struct OneSeries<'w> {
    windows: Windows<'w>,
    ahead: VecDeque<ReadAhead<'w>>,
    is_read: bool,
}

/// A chunk of one series.
#[derive(Debug)]
struct ReadAhead<'w> {
    input: usize,
    chunk: ChunkIndex<'w>,
    /// The number of packets of each flow that have been in a window.
    taken: Vec<usize>,
}

impl<'w> SeveralSeries<'w> {
    /// Begins with the first record of each series: [`Inputs::series`].
    #[must_use]
    pub fn new(inputs: &'w Inputs, sizes: &Sizes, decoder: &'w Decoder, ports: SipPorts) -> Self {
        let series = inputs.series().map(|range| OneSeries {
            windows: Windows::of_range(
                inputs,
                range,
                sizes.clone(),
                decoder,
                ports,
                Start::default(),
                true,
            ),
            ahead: VecDeque::new(),
            is_read: false,
        });
        Self {
            inputs,
            decoder,
            series: series.collect(),
            next: Moment::default(),
            pace: Pace::default(),
            assembler: Assembler::new(decoder.clone(), ports, Unfinished::default()),
            is_orderly: true,
            stage: Stage::Reading,
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

    /// The number of bytes that have been read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        let read = |series: &OneSeries<'_>| {
            let Windows { range, next, .. } = &series.windows;
            let first = self.inputs.bytes_before(Position::new(range.start, 0));
            let until = self.inputs.bytes_before(next.position);
            until.saturating_sub(first)
        };
        self.series.iter().map(read).fold(0, u64::saturating_add)
    }

    /// False if a record does not have the place here that it has in a merged capture.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        self.is_orderly
    }

    /// The incomplete messages.
    #[must_use]
    pub fn into_unfinished(self) -> Unfinished {
        self.assembler.into_unfinished()
    }

    /// Indexes more of the series that the others wait for: see [`Windows::index`].
    #[must_use]
    pub fn index(&self, layouts: &Layouts, calls: usize) -> Indexed<'w> {
        let waited_for = self.series.iter().filter(|series| !series.is_read);
        let waited_for = waited_for.min_by_key(|series| series.windows.next.clock);
        waited_for.map_or_else(Indexed::default, |series| {
            series.windows.index(layouts, calls)
        })
    }

    /// The window of all records before the packet time that every series has reached: see
    /// [`Windows::join`].
    pub fn join<'a>(
        &mut self,
        mut indexed: Indexed<'w>,
        layouts: &mut Layouts,
        arena: &'a Bump,
    ) -> Option<Window<'a>>
    where
        'w: 'a,
    {
        if self.stage == Stage::Reading {
            loop {
                self.take(indexed, layouts);
                let left = self.series.iter().filter(|series| !series.is_read);
                match left.map(|series| series.windows.next.clock).min() {
                    Some(clock) if clock > self.next.clock => {
                        return Some(self.window(Moment::at(clock), layouts, arena));
                    }
                    // Another record of that time may follow in any series.
                    Some(_) => indexed = self.index(layouts, 0),
                    None => break,
                }
            }
            self.stage = Stage::Read;
            let clocks = self.series.iter().map(|series| series.windows.next.clock);
            let end = Moment {
                clock: clocks.max().unwrap_or(0).max(self.next.clock),
                position: Position::new(self.inputs.after_last(), 0),
            };
            return Some(self.window(end, layouts, arena));
        }
        if self.stage == Stage::Finished {
            return None;
        }
        self.stage = Stage::Finished;
        let mut window = Window::beginning_at(self.next);
        window.add(self.assembler.finish(self.next, arena));
        Some(window)
    }

    /// Takes the chunks of the series that the others wait for.
    fn take(&mut self, indexed: Indexed<'w>, layouts: &mut Layouts) {
        let waited_for = self.series.iter_mut().filter(|series| !series.is_read);
        let Some(series) = waited_for.min_by_key(|series| series.windows.next.clock) else {
            return;
        };
        if indexed.chunks.is_empty() {
            series.is_read = true;
            series.windows.begin_before(series.windows.range.end);
            return;
        }
        let OneSeries { windows, ahead, .. } = series;
        let mut is_orderly = true;
        windows.take(indexed, layouts, |windows, input, mut chunk, layouts| {
            is_orderly &= chunk.is_orderly() && chunk.held.is_empty();
            let clock = chunk.last_clock();
            windows.pass(input, &mut chunk, clock, layouts);
            let taken = vec![0; chunk.flows.keys().len()];
            ahead.push_back(ReadAhead {
                input,
                chunk,
                taken,
            });
        });
        self.is_orderly &= is_orderly;
    }

    /// The window of all records before `end`.
    fn window<'a>(&mut self, end: Moment, layouts: &Layouts, arena: &'a Bump) -> Window<'a>
    where
        'w: 'a,
    {
        let mut window = Window::beginning_at(self.next);
        let mut parts = Parts::default();
        let mut flows: Vec<(FlowKey, PayloadAt, Vec<Moment>)> = Vec::new();
        for series in &mut self.series {
            window.drops.append(&mut series.windows.drops);
            for one in &mut series.ahead {
                one.give(end, &mut window, &mut parts, &mut flows);
            }
            series
                .ahead
                .retain(|one| one.chunk.last_clock() >= end.clock);
        }
        self.sort(&mut window, &mut parts);
        let flows = flows
            .iter()
            .map(|(key, payload_at, packets)| (*key, *payload_at, &packets[..]));
        let flows = Flows::joined(flows);
        self.keep_pace(KeptPackets {
            flows: &flows,
            sip: &window.sip,
            fragments: &parts.fragments,
            segments: &parts.segments,
        });
        window.flows.push(flows);
        (self.next, window.end) = (end, end);
        let records = (self.inputs, layouts, self.decoder);
        window.put_together(parts, &mut self.assembler, records, arena);
        window
    }

    /// Sorts the events of all series. A record without a timestamp gets packet time, as it does in
    /// a merged capture.
    fn sort(&self, window: &mut Window<'_>, parts: &mut Parts<'_>) {
        let tell = |timestamp_ns: &mut u64, clock: Clock| {
            if *timestamp_ns == 0 {
                *timestamp_ns = clock;
            }
        };
        window.sip.sort_by_key(|event| event.at);
        for event in &mut window.sip {
            tell(&mut event.timestamp_ns, event.at.clock);
        }
        parts.fragments.sort_by_key(|event| event.at);
        for event in &mut parts.fragments {
            tell(&mut event.timestamp_ns, event.at.clock);
        }
        parts.segments.sort_by_key(|event| event.at);
        for event in &mut parts.segments {
            tell(&mut event.timestamp_ns, event.at.clock);
        }
        let mut passed = parts.passed.concat();
        passed.sort_by_key(|passed| passed.at);
        parts.passed = vec![passed];
    }

    /// Notes if packet time stands still: where it would go on depends on the order of records of
    /// one time.
    fn keep_pace(&mut self, kept: KeptPackets<'_>) {
        let count = kept.count();
        let mut passed = 0u64;
        while let Some(more) = self
            .pace
            .next_mark(count.saturating_sub(passed), Pace::EVERY)
        {
            passed = passed.saturating_add(more);
            let mark = kept.moment(passed);
            let goes_on = mark.and_then(|mark| self.pace.mark(mark.clock));
            self.is_orderly &= goes_on.is_none();
        }
    }
}

impl<'w> ReadAhead<'w> {
    /// Adds the records before `end` to a window.
    fn give<'a>(
        &mut self,
        end: Moment,
        window: &mut Window<'a>,
        parts: &mut Parts<'a>,
        flows: &mut Vec<(FlowKey, PayloadAt, Vec<Moment>)>,
    ) where
        'w: 'a,
    {
        let Self {
            input,
            chunk,
            taken,
        } = self;
        let before = |at: Moment| at < end;
        let sip = chunk.sip.partition_point(|event| before(event.at));
        window.sip.extend(chunk.sip.drain(..sip));
        let gaps = chunk.gaps.drain(..);
        window.gaps.extend(gaps.map(|gap| (*input, gap)));
        window.counts.add_all(&std::mem::take(&mut chunk.counts));
        let fragments = chunk.fragments.partition_point(|event| before(event.at));
        parts.fragments.extend(chunk.fragments.drain(..fragments));
        let segments = chunk.segments.partition_point(|event| before(event.at));
        parts.segments.extend(chunk.segments.drain(..segments));
        let passed = chunk.passed.partition_point(|passed| before(passed.at));
        parts.passed.push(chunk.passed.drain(..passed).collect());
        for (flow, (key, taken)) in chunk.flows.keys().iter().zip(taken).enumerate() {
            let packets = chunk.flows.packets(flow).get(*taken..).unwrap_or_default();
            let count = packets.partition_point(|packet| before(*packet));
            if let Some(packets) = packets.get(..count).filter(|packets| !packets.is_empty()) {
                flows.push((*key, chunk.flows.payload_at(flow), packets.to_vec()));
                *taken = taken.saturating_add(count);
            }
        }
    }
}
