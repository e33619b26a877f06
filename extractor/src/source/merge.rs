//! Merges the captures of several points into one by packet time.
//!
//! Each point has a clock: the highest of its timestamps so far. Records are sorted by these clocks
//! and, where clocks are equal, by the points' numbers; records of one point keep their order. So a
//! late record comes at once, and the order follows from the captures alone: it makes no difference
//! how much is written at a time, or when a process ends and the next one continues.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};
use shared::pcap::{
    DEFAULT_SNAPLEN, Gap, Layout, LinkType, Precision, Record, Step, Walk, ng_interface,
    ng_section_header, push_ng_packet,
};

use super::{Input, duplicates::RecentPackets, next_record, records_behind};
use crate::{
    moment::{Clock, Position},
    timeline::{Advance, Later, LookAhead, Timeline},
};

/// The position up to which the inputs of a capture point have been merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergePosition {
    /// The number of inputs that have been merged completely.
    pub finished: usize,
    /// The offset of the next record in the first input that is left, in bytes; 0 for its first
    /// record.
    pub offset: usize,
    /// The point's clock at the record before.
    pub timeline: Timeline,
}

/// A moment that every capture point has reached: earlier records may be written.
///
/// The point that set it may still have records of this time, but none before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watermark {
    /// Packet time.
    pub clock: Clock,
    /// The last point whose records of that time come before the watermark.
    pub point: usize,
}

/// A merge of several capture points.
#[derive(Debug)]
pub struct Merge<'a> {
    points: Vec<MergePoint<'a>>,
    is_begun: bool,
}

/// The result of a call of [`Merge::write`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The number of records.
    pub packets: u64,
    /// The length of the capture, in bytes.
    pub bytes: u64,
    /// Records that were left out because their IP packets had been written before.
    pub duplicates: u64,
    /// True when no record is left up to the watermark.
    pub is_all: bool,
}

impl Watermark {
    /// A watermark after everything.
    pub const END: Self = Self {
        clock: Clock::MAX,
        point: usize::MAX,
    };

    /// The earliest moment to which a capture point has delivered. `points` has, in the order of
    /// their numbers, the time to which each point has delivered, if it has delivered anything, and
    /// whether others wait for it. `None` while a point with waiting others has delivered nothing.
    #[must_use]
    pub fn of(points: impl IntoIterator<Item = (Option<Clock>, bool)>) -> Option<Self> {
        let holding = points
            .into_iter()
            .enumerate()
            .filter(|(_, (_, is_waited_for))| *is_waited_for);
        let mut moments =
            holding.map(|(point, (delivered, _))| delivered.map(|clock| Self { clock, point }));
        moments.try_fold(Self::END, |least, moment| Some(least.min(moment?)))
    }
}

/// The clock of a point in one of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    before: Timeline,
    after: Timeline,
    /// The offset of a leap that waits for the records that decide on it.
    undecided: Option<usize>,
}

impl Delivery {
    /// Reads an input from an offset on, at which the clock of its point is `timeline`; it is
    /// `before` at the beginning. `next` follows.
    fn of(
        input: &Input,
        offset: usize,
        timeline: Timeline,
        before: Timeline,
        next: &Next<'_>,
    ) -> Self {
        let mut after = timeline;
        let mut look_ahead = LookAhead::default();
        let mut walk = walk_from(input, offset);
        let mut undecided = None;
        while let Some(record) = next_record(&mut walk) {
            if record.offset < offset {
                continue;
            }
            let advance = advance(&mut after, &record, 0, &walk, next, &mut look_ahead);
            if advance == Advance::Undecided {
                undecided = Some(record.offset);
                break;
            }
        }
        input.release_before(input.bytes().len());
        Self {
            before,
            after,
            undecided,
        }
    }

    /// The delivery of each input of a point: the first from an offset on, at which the clock is
    /// `before`. The list ends at a leap that waits for the records that decide on it; `told` may
    /// decide on it, too. Records in `known` are not read again.
    #[must_use]
    pub fn of_all(
        inputs: &[&Input],
        known: &[Option<Self>],
        offset: usize,
        before: Timeline,
        told: Option<Later>,
    ) -> Vec<Option<Self>> {
        let mut deliveries = Vec::new();
        let mut before = Some(before);
        for (number, input) in inputs.iter().enumerate() {
            let next = || Next::of(inputs, number, told);
            let offset = if number == 0 { offset } else { 0 };
            let delivery = before.map(|before| {
                let known = known.get(number).copied().flatten();
                // The known result holds for an input that was partly merged, too.
                let known = known.filter(|known| offset > 0 || known.before == before);
                match known.map(|known| (known, known.undecided)) {
                    Some((known, None)) => known,
                    Some((known, Some(from))) if from >= offset => {
                        Self::of(input, from, known.after, known.before, &next())
                    }
                    _ => Self::of(input, offset, before, before, &next()),
                }
            });
            before = delivery
                .filter(|known| known.undecided.is_none())
                .map(|known| known.after);
            deliveries.push(delivery);
        }
        deliveries
    }

    /// The clock after the last record for which it is decided.
    #[must_use]
    pub fn clock(&self) -> Option<Clock> {
        self.after.clock()
    }
}

/// The inputs, and the time, that follow an input of a point.
#[derive(Debug)]
struct Next<'a> {
    /// The number of the input.
    number: usize,
    inputs: Vec<&'a Input>,
    /// The time of the capture behind the last input, if it is known.
    told: Option<Later>,
}

impl<'a> Next<'a> {
    fn of(inputs: &[&'a Input], number: usize, told: Option<Later>) -> Self {
        let inputs = inputs.get(number.saturating_add(1)..).unwrap_or_default();
        Self {
            number,
            inputs: inputs.to_vec(),
            told,
        }
    }
}

/// A walk over the records of an input from an offset on, or from the beginning, if the interfaces
/// are described there.
fn walk_from(input: &Input, offset: usize) -> Walk<'_> {
    let known_from = if let Layout::Ng(_) = input.layout {
        input.start
    } else {
        input.start.max(offset)
    };
    input.layout.walk(input.bytes(), known_from)
}

/// Advances the clock of a point by a record; `walk` stands behind the record, in the input
/// `number`.
#[inline]
fn advance<'a>(
    timeline: &mut Timeline,
    record: &Record<'a>,
    number: usize,
    walk: &Walk<'a>,
    next: &Next<'a>,
    look_ahead: &mut LookAhead<'a>,
) -> Advance {
    let Some(timestamp_ns) = record.timestamp_ns else {
        return Advance::Steady;
    };
    let at = Position::new(number, record.offset);
    let records = || records_behind(walk.clone(), number, next.inputs.clone(), next.told);
    timeline.advance(timestamp_ns, || {
        look_ahead.evidence(timestamp_ns, at, records)
    })
}

impl<'a> Merge<'a> {
    /// Begins a merge. `points` has, in the order of their numbers, each point's inputs in capture
    /// order, the position up to which they have been merged, and the time that the capture has
    /// reached behind them, if it is known. If not, a leap at the end waits for the records that
    /// decide on it.
    #[must_use]
    pub fn new(
        points: impl IntoIterator<Item = (Vec<&'a Input>, MergePosition, Option<Later>)>,
    ) -> Self {
        let points = points
            .into_iter()
            .map(|(inputs, position, told)| MergePoint::new(inputs, position, told))
            .collect();
        Self {
            points,
            is_begun: false,
        }
    }

    /// Writes a pcapng of the next records, up to a watermark, until it has about `room` bytes; at
    /// least one record, if there is one. Copies of `recent` packets are left out. `unreadable`
    /// gets each unreadable part, with the number of the point and the input.
    ///
    /// # Errors
    /// The capture cannot be written. Then neither the positions nor the recent packets are valid.
    pub fn write(
        &mut self,
        out: &mut impl Write,
        until: Watermark,
        room: u64,
        mut recent: Option<&mut RecentPackets>,
        mut unreadable: impl FnMut(usize, &Input, Gap),
    ) -> io::Result<Merged> {
        if !std::mem::replace(&mut self.is_begun, true) {
            for (number, point) in self.points.iter_mut().enumerate() {
                point.move_on(|input, gap| unreadable(number, input, gap));
            }
        }
        let mut capture = Capture::begun(out);
        let mut merged = Merged::default();
        let mut left_out: u64 = 0;
        while let Some((number, point)) = self.next(until)
            && let Some(NextRecord { record, timeline }) = point.head
        {
            let clock = timeline.clock().unwrap_or(0);
            point.position.timeline = timeline;
            point.move_on(|input, gap| unreadable(number, input, gap));
            if recent
                .as_deref_mut()
                .is_some_and(|recent| recent.is_repeated(&record, clock))
            {
                merged.duplicates = merged.duplicates.saturating_add(1);
                left_out = left_out.saturating_add(record.frame.len() as u64);
            } else {
                merged.packets = merged.packets.saturating_add(1);
                capture.push(&record, clock)?;
            }
            if capture.len().saturating_add(left_out) >= room {
                break;
            }
        }
        merged.bytes = capture.finish()?;
        merged.is_all = self.next(until).is_none();
        self.points.iter().for_each(MergePoint::release);
        Ok(merged)
    }

    /// The position of each point. It may advance even if nothing was written: past an unreadable
    /// part.
    pub fn positions(&self) -> impl Iterator<Item = MergePosition> {
        self.points.iter().map(|point| point.position)
    }

    /// The point with the next record up to a watermark, and its number.
    #[inline]
    fn next(&mut self, until: Watermark) -> Option<(usize, &mut MergePoint<'a>)> {
        let heads = self
            .points
            .iter_mut()
            .enumerate()
            .filter_map(|(number, point)| {
                let moment = Watermark {
                    clock: point.head?.timeline.clock().unwrap_or(0),
                    point: number,
                };
                (moment <= until).then_some((moment, point))
            });
        heads
            .min_by_key(|(moment, _)| *moment)
            .map(|(moment, point)| (moment.point, point))
    }
}

/// One capture point.
#[derive(Debug)]
struct MergePoint<'a> {
    inputs: Vec<&'a Input>,
    reader: Reader<'a>,
    look_ahead: LookAhead<'a>,
    /// The next record; `None` at the end, and where a leap waits for the records that decide on
    /// it.
    head: Option<NextRecord<'a>>,
    next: Next<'a>,
    /// The position of the next record.
    position: MergePosition,
}

/// The next record of a point, and the point's clock at it.
#[derive(Clone, Copy, Debug)]
struct NextRecord<'a> {
    record: Record<'a>,
    timeline: Timeline,
}

impl<'a> MergePoint<'a> {
    fn new(inputs: Vec<&'a Input>, position: MergePosition, told: Option<Later>) -> Self {
        let reader = Reader::at(&inputs, position);
        let next = Next::of(&inputs, reader.number, told);
        Self {
            inputs,
            reader,
            look_ahead: LookAhead::default(),
            head: None,
            next,
            position,
        }
    }

    /// Finds the next record.
    #[inline]
    fn move_on(&mut self, unreadable: impl FnMut(&Input, Gap)) {
        let record = self.reader.next(&self.inputs, unreadable);
        self.set_head(record);
    }

    /// Determines the clock at the next record, if that is possible.
    #[inline]
    fn set_head(&mut self, record: Option<Record<'a>>) {
        let number = self.reader.number;
        self.position.finished = number;
        self.position.offset = record.map_or(0, |record| record.offset);
        self.head = None;
        let (Some(record), Some(walk)) = (record, &self.reader.walk) else {
            return;
        };
        if self.next.number != number {
            self.next = Next::of(&self.inputs, number, self.next.told);
        }
        let mut timeline = self.position.timeline;
        let (next, look_ahead) = (&self.next, &mut self.look_ahead);
        let told = advance(&mut timeline, &record, number, walk, next, look_ahead);
        if told == Advance::Undecided {
            return;
        }
        self.head = Some(NextRecord { record, timeline });
    }

    /// Releases the memory of merged records.
    fn release(&self) {
        let MergePosition {
            finished, offset, ..
        } = self.position;
        self.inputs
            .iter()
            .take(finished)
            .for_each(|input| input.release_before(input.bytes().len()));
        if let Some(input) = self.inputs.get(finished) {
            input.release_before(offset);
        }
    }
}

/// Reads inputs one after the other.
#[derive(Clone, Debug)]
struct Reader<'a> {
    /// The index of the current input.
    number: usize,
    walk: Option<Walk<'a>>,
    /// The offset up to which the input was merged before; the reader walks through that part only
    /// to learn the layout.
    from: usize,
}

impl<'a> Reader<'a> {
    fn at(
        inputs: &[&'a Input],
        MergePosition {
            finished, offset, ..
        }: MergePosition,
    ) -> Self {
        let walk = inputs.get(finished).map(|input| walk_from(input, offset));
        Self {
            number: finished.min(inputs.len()),
            walk,
            from: offset,
        }
    }

    /// The next record; unreadable parts are skipped.
    #[inline]
    fn next(
        &mut self,
        inputs: &[&'a Input],
        mut unreadable: impl FnMut(&Input, Gap),
    ) -> Option<Record<'a>> {
        loop {
            match self.walk.as_mut()?.next_step() {
                Some(Step::Record(record)) if record.offset >= self.from => return Some(record),
                Some(Step::Gap(gap)) if gap.offset >= self.from => {
                    inputs
                        .get(self.number)
                        .into_iter()
                        .for_each(|input| unreadable(input, gap));
                }
                Some(Step::Record(_) | Step::Gap(_)) => {}
                None => {
                    let finished = self.number.saturating_add(1);
                    *self = Self::at(
                        inputs,
                        MergePosition {
                            finished,
                            ..MergePosition::default()
                        },
                    );
                }
            }
        }
    }
}

/// The bytes that are gathered before they are written: enough to make the system call cheap, and
/// few enough for the second-level cache.
const GATHERED_LEN: usize = 192 * 1024;

/// The merged capture: a pcapng of one section.
struct Capture<'o, W> {
    out: &'o mut W,
    gathered: Vec<u8>,
    written_len: u64,
    /// The numbers of the interfaces. A frame's interface defines its link type and the unit of its
    /// time.
    interfaces: BTreeMap<(LinkType, Precision), u32>,
}

impl<'o, W: Write> Capture<'o, W> {
    fn begun(out: &'o mut W) -> Self {
        let mut gathered = Vec::with_capacity(GATHERED_LEN.saturating_add(64 * 1024));
        gathered.extend(ng_section_header());
        Self {
            out,
            gathered,
            written_len: 0,
            interfaces: BTreeMap::new(),
        }
    }

    /// Adds a record. A record without a timestamp gets the clock of its point.
    #[inline]
    fn push(&mut self, record: &Record<'_>, clock: Clock) -> io::Result<()> {
        let timestamp_ns = record.timestamp_ns.unwrap_or(clock);
        let precision = precision(timestamp_ns, record.precision);
        let interface = self.interface(record.link, precision);
        push_ng_packet(
            &mut self.gathered,
            interface,
            timestamp_ns,
            precision,
            record.frame,
            record.wire_len,
        );
        if self.gathered.len() >= GATHERED_LEN {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// The number of an interface; a new interface is described first.
    #[inline]
    fn interface(&mut self, link: LinkType, precision: Precision) -> u32 {
        let next = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        *self.interfaces.entry((link, precision)).or_insert_with(|| {
            self.gathered
                .extend(ng_interface(link, precision, DEFAULT_SNAPLEN));
            next
        })
    }

    /// The length of the capture so far, in bytes.
    fn len(&self) -> u64 {
        self.written_len.saturating_add(self.gathered.len() as u64)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.gathered)?;
        self.written_len = self.len();
        self.gathered.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.out.flush()?;
        Ok(self.written_len)
    }
}

/// The unit of a record's timestamp in a merged capture. Ticks of a power of two are hardly ever
/// whole microseconds, even long ticks.
#[inline]
pub(crate) fn precision(timestamp_ns: u64, precision: Precision) -> Precision {
    if timestamp_ns.is_multiple_of(1000) {
        precision
    } else {
        Precision::Nano
    }
}

#[cfg(test)]
mod tests;
