//! A unit of work: some inputs, read window by window.
//!
//! Between two units all that is known is in the state file, so a run may end there and another go
//! on; after some of the windows, too.

use std::collections::{BTreeMap, VecDeque};

use bumpalo::Bump;
use serde::{Deserialize, Serialize};
use shared::pcap::{DEFAULT_SNAPLEN, GapReason, Record, file_header, record_header};

use crate::{
    config::Config,
    moment::{Clock, Moment, Pace, Position},
    outputs::Records,
    reassembly::{Assembler, Unfinished},
    segments::{Content, Contents},
    source::{Input, Inputs, Layouts, Left},
    timeline::Timeline,
    windows::{Indexed, Start, Window, Windows},
};

/// One unit of work.
#[derive(Debug, Default)]
pub struct Unit {
    /// The inputs, in the order of reading.
    pub inputs: Vec<Input>,
    /// Their names and identities, for the state, as long as they are not read to their end. A unit
    /// without them cannot be broken off in the middle.
    pub left: Vec<Left>,
    /// The packet time that the capture has reached behind them, if that is known.
    pub reached_ns: Option<Clock>,
    /// The unit is the last one.
    pub is_final: bool,
}

impl Unit {
    /// The last one, in which nothing more is read: what is open is closed.
    #[must_use]
    pub fn last() -> Self {
        Self {
            is_final: true,
            ..Self::default()
        }
    }

    /// Adds an input.
    pub fn push(&mut self, input: Input, left: Left) {
        self.inputs.push(input);
        self.left.push(left);
    }
}

/// How far a unit has been read, for whoever keeps account of the inputs.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The place of an input in the unit, which is read to its end now.
    pub place: usize,
    /// How far it could be read, in bytes.
    pub read_to: usize,
    /// What it is known by.
    pub content: Option<Content>,
}

/// How far all has been read: where a run goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Packet time so far.
    pub clock: Clock,
    /// The same by the timestamps alone.
    pub timeline: Timeline,
    /// How long it has stood still.
    pub pace: Pace,
    /// The number of the next input.
    pub next_input: usize,
    /// The last records, which wait for those that decide on packet time.
    pub held: Vec<Held>,
    /// Inputs that are not read to their end.
    pub left: Vec<Left>,
    /// The offset in the first of them at which to read on, in bytes.
    pub offset: Option<usize>,
}

impl Checkpoint {
    /// Whether a run with `--final` ended there: nothing goes on.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.clock == 0 && self.held.is_empty() && self.left.is_empty()
    }
}

/// A record that waits for later ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// What to call its input.
    pub name: String,
    /// A capture with nothing else in it.
    pub file: Vec<u8>,
}

/// The inputs of a unit while they are read.
#[derive(Debug)]
pub struct Reading<'w> {
    inputs: &'w Inputs,
    config: &'w Config,
    windows: Windows<'w>,
    layouts: Layouts,
    left: Vec<Left>,
    /// How many inputs stand before those of the unit.
    before: usize,
    /// The end of the last window.
    end: Moment,
    /// The ends of windows of which something is still to be written.
    window_ends: VecDeque<Moment>,
    ends: Ends,
    /// How many bytes had been read at the last checkpoint, and how many there are to be until the
    /// next one.
    saved_at: u64,
    wanted: u64,
}

impl<'w> Reading<'w> {
    /// Begins with inputs of which so many stand `before` those of the unit.
    #[must_use]
    pub fn begin(
        inputs: &'w Inputs,
        before: usize,
        left: Vec<Left>,
        start: Start,
        config: &'w Config,
        is_final: bool,
    ) -> Self {
        let windows = Windows::new(
            inputs,
            config.sizes.clone(),
            &config.decoder,
            config.sip_ports,
            start,
            is_final,
        );
        let end = windows.next();
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

    /// Indexes the next window, which can go on while the one before is worked on. So many `calls`
    /// are open.
    #[must_use]
    pub fn index(&self, calls: usize) -> Indexed<'w> {
        self.windows.index(&self.layouts, calls)
    }

    /// The window that was indexed last, if there was something. What is put together from parts
    /// lives in `arena`.
    pub fn next_window<'a>(&mut self, indexed: Indexed<'w>, arena: &'a Bump) -> Option<Window<'a>>
    where
        'w: 'a,
    {
        let window = self.windows.join(indexed, &mut self.layouts, arena)?;
        self.end = window.end;
        self.window_ends.push_back(window.end);
        self.ends.take(&window);
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

    /// How many bytes have been read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.inputs.bytes_before(self.end.position)
    }

    /// What is not whole yet.
    #[must_use]
    pub fn unfinished(&self) -> &Unfinished {
        self.assembler().unfinished()
    }

    /// What puts parts together, and knows what became of them.
    #[must_use]
    pub fn assembler(&self) -> &Assembler {
        self.windows.assembler()
    }

    /// Where to go on after the last window, if enough was read since the last checkpoint: what is
    /// carried over is written each time, and should be little beside what was done.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let position = self.end.position;
        let is_much = self.bytes_read().saturating_sub(self.saved_at) >= self.wanted;
        let number = position.input().saturating_sub(self.inputs.first());
        let is_inside = number >= self.before && position.input() < self.inputs.after_last();
        let is_settled = self.windows.held().is_empty();
        (is_much && !self.left.is_empty() && is_inside && is_settled).then(|| Checkpoint {
            clock: self.end.clock,
            timeline: self.windows.timeline(),
            pace: self.windows.pace(),
            next_input: position.input(),
            held: Vec::new(),
            left: self
                .left
                .get(number.saturating_sub(self.before)..)
                .unwrap_or_default()
                .to_vec(),
            offset: Some(position.offset()),
        })
    }

    /// A checkpoint was saved, with which so many bytes were carried over.
    pub fn note_checkpoint(&mut self, carried_len: u64) {
        self.saved_at = self.bytes_read();
        self.wanted = self.config.unit.wanted(carried_len);
    }

    /// Tells of those inputs of the unit that the last window has read to their end, and that were
    /// not told of before.
    pub fn tell_ended(&mut self, seals: &mut Seals, tell: impl FnMut(Done)) {
        let ended = self
            .end
            .position
            .input()
            .saturating_sub(self.inputs.first());
        self.ends.tell(self.inputs, self.before, ended, seals, tell);
    }

    /// Tells of all inputs of the unit that were not told of before.
    pub fn tell_all(&mut self, seals: &mut Seals, tell: impl FnMut(Done)) {
        self.ends
            .tell(self.inputs, self.before, usize::MAX, seals, tell);
    }

    /// Lets go of the input of windows of which nothing is left to be written.
    pub fn release_before(&mut self, left_since: Moment) {
        while let Some(end) = self.window_ends.pop_front_if(|end| *end < left_since) {
            self.inputs.release_before(end.position);
            self.layouts.forget_before(end.position);
        }
    }

    /// All of it was read: where the next unit goes on.
    #[must_use]
    pub fn last_checkpoint(&self) -> Checkpoint {
        let kept = self.windows.held().iter();
        let held =
            kept.filter_map(|(input, record)| keep(*input, record, self.inputs, &self.layouts));
        let held = held.collect();
        Checkpoint {
            clock: self.windows.next().clock,
            timeline: self.windows.timeline(),
            pace: self.windows.pace(),
            next_input: self.inputs.after_last(),
            held,
            left: Vec::new(),
            offset: None,
        }
    }

    /// What is not whole yet, and how to read the records that it is in.
    #[must_use]
    pub fn into_parts(self) -> (Unfinished, Layouts) {
        (self.windows.into_unfinished(), self.layouts)
    }
}

/// The inputs of a unit that are read to their end.
#[derive(Debug, Default)]
struct Ends {
    /// The offsets at which inputs end in the middle of a record.
    cut_at: BTreeMap<usize, usize>,
    told: usize,
}

impl Ends {
    fn take(&mut self, window: &Window<'_>) {
        let cut = window
            .gaps
            .iter()
            .filter(|(_, gap)| gap.reason == GapReason::Cut);
        self.cut_at
            .extend(cut.map(|(input, gap)| (*input, gap.offset)));
    }

    /// Tells of those before the input `number`, of which so many stand `before` those of the unit.
    fn tell(
        &mut self,
        inputs: &Inputs,
        before: usize,
        number: usize,
        seals: &mut Seals,
        mut tell: impl FnMut(Done),
    ) {
        let end = number.min(inputs.all().len()).saturating_sub(before);
        for place in self.told..end {
            let number = inputs.first().saturating_add(before).saturating_add(place);
            let len = inputs.get(number).map_or(0, |input| input.bytes().len());
            let content = seals.content(inputs, place);
            tell(Done {
                place,
                read_to: self.cut_at.get(&number).copied().unwrap_or(len),
                content,
            });
        }
        self.told = self.told.max(end);
    }
}

/// What the segments of a unit will be known by. They are gone through window by window, beside
/// those who work: what is in memory anyway is not read once more.
#[derive(Debug, Default)]
pub struct Seals {
    /// The number of the first of them.
    first: usize,
    seals: Vec<Seal>,
    /// Those before this one are complete.
    complete: usize,
}

/// One of them: how much of it was gone through, and how much there is, in bytes.
#[derive(Debug, Default)]
struct Seal {
    contents: Contents,
    at: usize,
    size: usize,
    known: Option<Content>,
}

impl Seals {
    /// Those of a unit, of whose inputs so many stand `before` its own. What has no name needs
    /// none.
    #[must_use]
    pub fn of(unit: &Unit, before: usize, inputs: &Inputs) -> Self {
        let first = inputs.first().saturating_add(before);
        let seal = |(number, left): (usize, &Left)| Seal {
            // What is larger is not in memory.
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

    /// Goes through all that lies before a place.
    pub fn advance(&mut self, inputs: &Inputs, end: Position) {
        let last = end.input().saturating_sub(self.first);
        for place in self.complete..=last {
            self.advance_one(
                inputs,
                place,
                if place < last {
                    usize::MAX
                } else {
                    end.offset()
                },
            );
        }
        self.complete = self.complete.max(last);
    }

    fn advance_one(&mut self, inputs: &Inputs, place: usize, end: usize) {
        let Some(seal) = self
            .seals
            .get_mut(place)
            .filter(|seal| seal.known.is_none())
        else {
            return;
        };
        let bytes = inputs
            .get(self.first.saturating_add(place))
            .map_or(&[][..], Input::bytes);
        let end = end.min(seal.size).min(bytes.len());
        if let Some(next) = bytes.get(seal.at..end) {
            seal.contents.add(next);
            seal.at = end;
        }
    }

    /// The content of one of them.
    fn content(&mut self, inputs: &Inputs, place: usize) -> Option<Content> {
        self.advance_one(inputs, place, usize::MAX);
        let seal = self.seals.get_mut(place)?;
        seal.known = seal
            .known
            .or_else(|| Some(std::mem::take(&mut seal.contents).done()));
        seal.known
    }
}

/// A record by itself, as a capture.
fn keep(input: usize, record: &Record<'_>, inputs: &Inputs, layouts: &Layouts) -> Option<Held> {
    let of = inputs.get(input)?;
    let precision = record.precision;
    let layout = layouts.at(Position::new(input, record.offset))?;
    // A frame lies in memory whole, and came with a 32-bit length.
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
    Some(Held {
        name: of.name().to_owned(),
        file,
    })
}
