//! A unit of work: inputs that are read window by window and committed together.
//!
//! Between two units, the state file has everything that is known, so a run may end there and
//! another may continue. A checkpoint after a window allows the same.

use std::collections::{BTreeMap, VecDeque};

use bumpalo::Bump;
use serde::{Deserialize, Serialize};
use shared::{
    pcap::{DEFAULT_SNAPLEN, GapReason, Record, file_header, record_header},
    segment_drops::SegmentDrops,
};

use crate::{
    config::Config,
    moment::{Clock, Moment, Pace, Position},
    outputs::Records,
    reassembly::{Assembler, Unfinished},
    segments::{ContentHash, ContentHasher},
    source::{Input, Inputs, Layouts, NamedInput},
    timeline::Timeline,
    windows::{Indexed, SeveralSeries, Start, Window, Windows},
};

/// A unit of work.
#[derive(Debug, Default)]
pub struct Unit {
    /// The inputs, in the order of reading.
    pub inputs: Vec<Input>,
    /// The names and identities of the inputs, for the state, until they have been read to their
    /// end. A unit without them has no checkpoints.
    pub left: Vec<NamedInput>,
    /// The packet time that the capture has reached behind the inputs, if known.
    pub reached_ns: Option<Clock>,
    /// What was dropped at capture in the time of the segments that begin in the unit, if the inputs
    /// do not say it themselves.
    pub drops: Vec<SegmentDrops>,
    /// True when the inputs are segments as they lie in their directories, from their beginning, so
    /// that indexes can stand for them.
    pub has_whole_segments: bool,
    /// True for the last unit.
    pub is_final: bool,
    /// The numbers of inputs in each series, if the inputs are several series to be merged. Such a
    /// unit is the only one, and final.
    pub series: Vec<usize>,
}

impl Unit {
    /// The last unit, which has no inputs: it closes the open calls.
    #[must_use]
    pub fn last() -> Self {
        Self {
            is_final: true,
            ..Self::default()
        }
    }

    /// Adds an input.
    pub fn push(&mut self, input: Input, left: NamedInput) {
        self.inputs.push(input);
        self.left.push(left);
    }
}

/// An input of a unit that has been read to its end.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The index of the input in the unit.
    pub index: usize,
    /// The offset up to which the input could be read, in bytes.
    pub read_to: usize,
    /// The content of the input, by which it is recognized.
    pub content: Option<ContentHash>,
}

/// The point up to which everything has been read, and where a run resumes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Packet time.
    pub clock: Clock,
    /// Packet time by the timestamps alone.
    pub timeline: Timeline,
    /// The packets for which packet time has stood still.
    pub pace: Pace,
    /// The number of the next input.
    pub next_input: usize,
    /// The last records, which wait for records that decide on packet time.
    pub held: Vec<HeldRecord>,
    /// The inputs that have not been read to their end.
    pub left: Vec<NamedInput>,
    /// The offset in the first of these inputs at which reading continues, in bytes.
    pub offset: Option<usize>,
}

impl Checkpoint {
    /// True after a run with `--final`: nothing follows.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.clock == 0 && self.held.is_empty() && self.left.is_empty()
    }
}

/// A record that waits for later records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldRecord {
    /// The name of its input.
    pub name: String,
    /// A capture that contains only this record.
    pub file: Vec<u8>,
}

/// Before the end of a unit there is no checkpoint if less than this part of the usual distance is
/// left.
const END_SHARE: u64 = 8;

/// The inputs of a unit while they are read.
#[derive(Debug)]
pub struct Reading<'w> {
    inputs: &'w Inputs,
    config: &'w Config,
    windows: AnyWindows<'w>,
    layouts: Layouts,
    left: Vec<NamedInput>,
    /// The number of inputs before those of the unit: held records.
    before: usize,
    /// The end of the last window.
    end: Moment,
    /// The ends of windows from which packets are still to be written.
    window_ends: VecDeque<Moment>,
    ends: Ends,
    /// The bytes that had been read at the last checkpoint, and the bytes to read until the next
    /// one.
    saved_at: u64,
    wanted: u64,
}

impl<'w> Reading<'w> {
    /// Begins to read `inputs`; the first `before` of them hold earlier records.
    #[must_use]
    pub fn begin(
        inputs: &'w Inputs,
        before: usize,
        left: Vec<NamedInput>,
        start: Start,
        config: &'w Config,
        is_final: bool,
    ) -> Self {
        let (decoder, ports) = (&config.decoder, config.sip_ports);
        let windows = if inputs.are_merged() {
            AnyWindows::Several(SeveralSeries::new(inputs, &config.sizes, decoder, ports))
        } else {
            let sizes = config.sizes.clone();
            AnyWindows::One(Windows::new(inputs, sizes, decoder, ports, start, is_final))
        };
        let end = match &windows {
            AnyWindows::One(windows) => windows.next(),
            AnyWindows::Several(series) => series.next(),
        };
        Self {
            inputs,
            config,
            layouts: Layouts::of(inputs),
            before,
            left,
            end,
            window_ends: VecDeque::new(),
            ends: Ends::default(),
            saved_at: inputs.bytes_before(end.position),
            wanted: config.unit.wanted(inputs.carried().bytes().len() as u64),
            windows,
        }
    }

    /// Indexes the next window, which may run while the window before is worked on. `calls` is the
    /// number of open calls.
    #[must_use]
    pub fn index(&self, calls: usize) -> Indexed<'w> {
        match &self.windows {
            AnyWindows::One(windows) => windows.index(&self.layouts, calls),
            AnyWindows::Several(series) => series.index(&self.layouts, calls),
        }
    }

    /// The window of the chunks that were indexed last; `None` at the end. Messages that are put
    /// together live in `arena`.
    pub fn next_window<'a>(&mut self, indexed: Indexed<'w>, arena: &'a Bump) -> Option<Window<'a>>
    where
        'w: 'a,
    {
        let window = match &mut self.windows {
            AnyWindows::One(windows) => windows.join(indexed, &mut self.layouts, arena),
            AnyWindows::Several(series) => series.join(indexed, &mut self.layouts, arena),
        }?;
        self.end = window.end;
        self.window_ends.push_back(window.end);
        self.ends.add_window(&window);
        Some(window)
    }

    /// The records of the inputs.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records {
            inputs: self.inputs,
            layouts: &self.layouts,
            decoder: &self.config.decoder,
        }
    }

    /// The end of the last window.
    #[must_use]
    pub fn end(&self) -> Moment {
        self.end
    }

    /// The number of bytes that have been read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.windows {
            AnyWindows::One(_) => self.inputs.bytes_before(self.end.position),
            AnyWindows::Several(series) => series.bytes_read(),
        }
    }

    /// False if several series have records whose places in a merged capture are not known: then
    /// that capture has to be written.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        match &self.windows {
            AnyWindows::One(_) => true,
            AnyWindows::Several(series) => series.is_orderly(),
        }
    }

    /// The incomplete messages.
    #[must_use]
    pub fn unfinished(&self) -> &Unfinished {
        self.assembler().unfinished()
    }

    /// The assembler of incomplete messages.
    #[must_use]
    pub fn assembler(&self) -> &Assembler {
        match &self.windows {
            AnyWindows::One(windows) => windows.assembler(),
            AnyWindows::Several(series) => series.assembler(),
        }
    }

    /// The checkpoint after the last window, if enough was read since the one before: each
    /// checkpoint writes the carry-over, which should be small beside the work.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let AnyWindows::One(windows) = &self.windows else {
            return None;
        };
        let position = self.end.position;
        let read = self.bytes_read();
        let is_much = read.saturating_sub(self.saved_at) >= self.wanted;
        // The end of the unit is a checkpoint, too.
        let is_far_from_end =
            self.inputs.total_bytes().saturating_sub(read) >= self.wanted / END_SHARE;
        let number = position.input().saturating_sub(self.inputs.first());
        let is_inside = number >= self.before && position.input() < self.inputs.after_last();
        let is_settled = windows.held().is_empty();
        (is_much && is_far_from_end && !self.left.is_empty() && is_inside && is_settled).then(
            || Checkpoint {
                clock: self.end.clock,
                timeline: windows.timeline(),
                pace: windows.pace(),
                next_input: position.input(),
                held: Vec::new(),
                left: self
                    .left
                    .get(number.saturating_sub(self.before)..)
                    .unwrap_or_default()
                    .to_vec(),
                offset: Some(position.offset()),
            },
        )
    }

    /// Notes that a checkpoint was saved, with `carried_len` bytes of carry-over.
    pub fn note_checkpoint(&mut self, carried_len: u64) {
        self.saved_at = self.bytes_read();
        self.wanted = self.config.unit.wanted(carried_len);
    }

    /// Calls `tell` for each input that the last window has read to its end and that was not
    /// reported before.
    pub fn tell_ended(&mut self, seals: &mut Seals, tell: impl FnMut(Done)) {
        let ended = self
            .end
            .position
            .input()
            .saturating_sub(self.inputs.first());
        self.ends.tell(self.inputs, self.before, ended, seals, tell);
    }

    /// Calls `tell` for each input that was not reported before.
    pub fn tell_all(&mut self, seals: &mut Seals, tell: impl FnMut(Done)) {
        self.ends
            .tell(self.inputs, self.before, usize::MAX, seals, tell);
    }

    /// Releases the memory of windows from which no packets are left to be written.
    pub fn release_before(&mut self, left_since: Moment) {
        while let Some(end) = self.window_ends.pop_front_if(|end| *end < left_since) {
            self.inputs.release_before(end.position);
            self.layouts.forget_before(end.position);
        }
    }

    /// The checkpoint after the whole unit, where the next one begins.
    #[must_use]
    pub fn last_checkpoint(&self) -> Checkpoint {
        let AnyWindows::One(windows) = &self.windows else {
            return Checkpoint::default();
        };
        let kept = windows.held().iter();
        let held =
            kept.filter_map(|(input, record)| keep(*input, record, self.inputs, &self.layouts));
        let held = held.collect();
        Checkpoint {
            clock: windows.next().clock,
            timeline: windows.timeline(),
            pace: windows.pace(),
            next_input: self.inputs.after_last(),
            held,
            left: Vec::new(),
            offset: None,
        }
    }

    /// The incomplete messages, and the layouts that are needed to read their records.
    #[must_use]
    pub fn into_parts(self) -> (Unfinished, Layouts) {
        let unfinished = match self.windows {
            AnyWindows::One(windows) => windows.into_unfinished(),
            AnyWindows::Several(series) => series.into_unfinished(),
        };
        (unfinished, self.layouts)
    }
}

/// The windows of one series, or of several that are put in one order.
#[derive(Debug)]
enum AnyWindows<'w> {
    One(Windows<'w>),
    Several(SeveralSeries<'w>),
}

/// The inputs of a unit that have been read to their end.
#[derive(Debug, Default)]
struct Ends {
    /// The offset of the cut for each input that ends in the middle of a record.
    cut_at: BTreeMap<usize, usize>,
    told: usize,
}

impl Ends {
    fn add_window(&mut self, window: &Window<'_>) {
        let cut = window
            .gaps
            .iter()
            .filter(|(_, gap)| gap.reason == GapReason::Cut);
        self.cut_at
            .extend(cut.map(|(input, gap)| (*input, gap.offset)));
    }

    /// Calls `tell` for each unreported input below `number`; the first `before` inputs are not the
    /// unit's.
    fn tell(
        &mut self,
        inputs: &Inputs,
        before: usize,
        number: usize,
        seals: &mut Seals,
        mut tell: impl FnMut(Done),
    ) {
        let end = number.min(inputs.all().len()).saturating_sub(before);
        for index in self.told..end {
            let number = inputs.first().saturating_add(before).saturating_add(index);
            let len = inputs.get(number).map_or(0, |input| input.bytes().len());
            let content = seals.content(inputs, index);
            tell(Done {
                index,
                read_to: self.cut_at.get(&number).copied().unwrap_or(len),
                content,
            });
        }
        self.told = self.told.max(end);
    }
}

/// Checksums of a unit's segments. They advance window by window, in parallel with the calls, while
/// the bytes are in memory anyway.
#[derive(Debug, Default)]
pub struct Seals {
    /// The number of the first segment.
    first: usize,
    seals: Vec<Seal>,
    /// The number of leading segments that are complete.
    complete: usize,
}

/// The checksum of a segment: the bytes it has covered, and the size of the segment.
#[derive(Debug, Default)]
struct Seal {
    contents: ContentHasher,
    at: usize,
    size: usize,
    known: Option<ContentHash>,
}

impl Seals {
    /// Checksums for the inputs of a unit, which follow `before` others. An input without a name
    /// needs none.
    #[must_use]
    pub fn of(unit: &Unit, before: usize, inputs: &Inputs) -> Self {
        let first = inputs.first().saturating_add(before);
        let seal = |(number, left): (usize, &NamedInput)| Seal {
            // A larger file is not in memory.
            size: usize::try_from(left.identity.size).unwrap_or(usize::MAX),
            known: inputs.get(number).and_then(Input::packed),
            ..Seal::default()
        };
        Self {
            first,
            seals: (first..).zip(&unit.left).map(seal).collect(),
            complete: 0,
        }
    }

    /// Adds the bytes before a position.
    pub fn advance(&mut self, inputs: &Inputs, end: Position) {
        let last = end.input().saturating_sub(self.first);
        for index in self.complete..=last {
            self.advance_one(
                inputs,
                index,
                if index < last {
                    usize::MAX
                } else {
                    end.offset()
                },
            );
        }
        self.complete = self.complete.max(last);
    }

    fn advance_one(&mut self, inputs: &Inputs, index: usize, end: usize) {
        let Some(seal) = self
            .seals
            .get_mut(index)
            .filter(|seal| seal.known.is_none())
        else {
            return;
        };
        let bytes = inputs
            .get(self.first.saturating_add(index))
            .map_or(&[][..], Input::bytes);
        let end = end.min(seal.size).min(bytes.len());
        if let Some(next) = bytes.get(seal.at..end) {
            seal.contents.add(next);
            seal.at = end;
        }
    }

    /// The content of a segment.
    fn content(&mut self, inputs: &Inputs, index: usize) -> Option<ContentHash> {
        self.advance_one(inputs, index, usize::MAX);
        let seal = self.seals.get_mut(index)?;
        seal.known = seal
            .known
            .or_else(|| Some(std::mem::take(&mut seal.contents).done()));
        seal.known
    }
}

/// A capture that contains only this record.
fn keep(
    input: usize,
    record: &Record<'_>,
    inputs: &Inputs,
    layouts: &Layouts,
) -> Option<HeldRecord> {
    let of = inputs.get(input)?;
    let precision = record.precision;
    let layout = layouts.at(Position::new(input, record.offset))?;
    // A frame is in memory, and came with a 32-bit length.
    let len = u32::try_from(record.frame.len()).unwrap_or(u32::MAX);
    let mut file = file_header(record.link, precision, len.max(DEFAULT_SNAPLEN)).to_vec();
    let header = record_header(record.timestamp_ns?, precision, len, record.wire_len);
    let raw = of
        .bytes()
        .get(record.offset..record.offset.saturating_add(header.len()));
    file.extend(
        raw.filter(|_| layout.is_native(precision))
            .unwrap_or(&header),
    );
    file.extend(record.frame);
    Some(HeldRecord {
        name: of.name().to_owned(),
        file,
    })
}
