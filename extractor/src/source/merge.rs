//! The captures of several points, merged into one by packet time.
//!
//! Each point has a clock, the highest of its timestamps so far. Records are put in the order of
//! these clocks, and of the points' numbers where clocks are equal; those of one point stay in
//! their order. So a record that comes late comes at once, and the order follows from the captures
//! alone: how much of it is written at a time, and when a process ends and the next goes on, makes
//! no difference.

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
    timeline::{Advance, Evidence, LookAhead, Timeline},
};

/// How far the inputs of a capture point have been merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// How many of its inputs are done.
    pub finished: usize,
    /// Where the next record lies in the one after them, in bytes. 0 for its first record.
    pub offset: usize,
    /// The point's clock at the record before.
    pub timeline: Timeline,
}

/// A moment that no capture point will fall behind of: what comes up to it may be written.
///
/// Of the point that set it, more may come at the same time; but nothing that belongs before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watermark {
    /// Packet time.
    pub clock: Clock,
    /// The number of the last point whose records of that time come up to it.
    pub point: usize,
}

/// Several capture points, being merged.
#[derive(Debug)]
pub struct Merge<'a> {
    points: Vec<Point<'a>>,
    is_begun: bool,
}

/// What was written at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Records.
    pub packets: u64,
    /// The length of the capture, in bytes.
    pub bytes: u64,
    /// Records that were left out, for their IP packets had been written before.
    pub duplicates: u64,
    /// Whether there is no more up to the watermark.
    pub is_all: bool,
}

impl Watermark {
    /// After everything.
    pub const END: Self = Self {
        clock: Clock::MAX,
        point: usize::MAX,
    };

    /// The least moment to which one of the points has delivered; they come in the order of their
    /// numbers: up to when each has delivered, if it has delivered anything yet, and whether others
    /// wait for it. Nothing while one of these has delivered nothing.
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

/// How far the clock of a point comes in one of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    before: Timeline,
    after: Timeline,
    is_decided: bool,
}

impl Delivery {
    /// Goes through an input from an offset on, at which the clock of its point was `before`. Others
    /// come `later`.
    fn of(input: &Input, offset: usize, before: Timeline, later: &[&Input]) -> Self {
        let mut after = before;
        let mut look_ahead = LookAhead::default();
        let mut walk = input.layout.walk(input.bytes(), input.start);
        let mut is_decided = true;
        while let Some(record) = next_record(&mut walk) {
            if record.offset < offset {
                continue;
            }
            let advance = advance(&mut after, &record, 0, &walk, later, &mut look_ahead);
            if advance == Advance::Undecided {
                is_decided = false;
                break;
            }
        }
        input.release_before(input.bytes().len());
        Self {
            before,
            after,
            is_decided,
        }
    }

    /// How far each of the inputs of a point goes, the first from an offset on, at which the clock is
    /// `before`. Nothing is told behind a leap that waits for the records that decide on it. What is
    /// `known` already is not gone through again.
    #[must_use]
    pub fn of_all(
        inputs: &[&Input],
        known: &[Option<Self>],
        offset: usize,
        before: Timeline,
    ) -> Vec<Option<Self>> {
        let mut deliveries = Vec::new();
        let mut before = Some(before);
        for (number, input) in inputs.iter().enumerate() {
            let later = inputs.get(number.saturating_add(1)..).unwrap_or_default();
            let offset = if number == 0 { offset } else { 0 };
            let delivery = before.map(|before| {
                let known = known.get(number).copied().flatten();
                // One that is read in part goes as far as it did.
                let holds =
                    |known: &Self| known.is_decided && (offset > 0 || known.before == before);
                known
                    .filter(holds)
                    .unwrap_or_else(|| Self::of(input, offset, before, later))
            });
            before = delivery
                .filter(|known| known.is_decided)
                .map(|known| known.after);
            deliveries.push(delivery);
        }
        deliveries
    }

    /// The clock behind all of its records of which it can be told.
    #[must_use]
    pub fn clock(&self) -> Option<Clock> {
        self.after.clock()
    }
}

/// Moves the clock of a point on by a record, behind which `walk` stands, in its input of this number.
#[inline]
fn advance<'a>(
    timeline: &mut Timeline,
    record: &Record<'a>,
    number: usize,
    walk: &Walk<'a>,
    later: &[&'a Input],
    look_ahead: &mut LookAhead<'a>,
) -> Advance {
    let Some(timestamp_ns) = record.timestamp_ns else {
        return Advance::Steady;
    };
    let at = Position::new(number, record.offset);
    let records = || records_behind(walk.clone(), number, later.to_vec(), None);
    timeline.advance(timestamp_ns, || {
        look_ahead.evidence(timestamp_ns, at, records)
    })
}

impl<'a> Merge<'a> {
    /// Of each capture point, in the order of their numbers: its inputs in capture order, and how
    /// far they have been merged. Nothing comes after those that are `is_final`; a leap at the end of
    /// others waits for the records that decide on it.
    #[must_use]
    pub fn new(points: impl IntoIterator<Item = (Vec<&'a Input>, Place)>, is_final: bool) -> Self {
        let points = points
            .into_iter()
            .map(|(inputs, place)| Point::new(inputs, place, is_final))
            .collect();
        Self {
            points,
            is_begun: false,
        }
    }

    /// Writes a pcapng of the records that come next, up to a watermark, and until there is about
    /// as much of them as `room` says, in bytes; at least one, if there is one. Where `recent`
    /// packets are given, copies of them are left out. What cannot be read is told: the number of
    /// the point, its input, and where in it.
    ///
    /// # Errors
    /// The capture cannot be written. Nothing holds then, neither the places nor the recent
    /// packets.
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
            && let Some(Head { record, timeline }) = point.head
        {
            let clock = timeline.clock().unwrap_or(0);
            point.place.timeline = timeline;
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
        self.points.iter().for_each(Point::release);
        Ok(merged)
    }

    /// How far each point has been merged. It may be further than before where nothing was written:
    /// behind what cannot be read.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.points.iter().map(|point| point.place)
    }

    /// The point whose record comes next, up to a watermark, and its number.
    #[inline]
    fn next(&mut self, until: Watermark) -> Option<(usize, &mut Point<'a>)> {
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
struct Point<'a> {
    inputs: Vec<&'a Input>,
    reader: Reader<'a>,
    look_ahead: LookAhead<'a>,
    /// Nothing at the end, and where a leap waits for the records that decide on it.
    head: Option<Head<'a>>,
    /// Nothing comes after the inputs.
    is_final: bool,
    /// That of the next record.
    place: Place,
}

/// The next record of a point, and the point's clock at it.
#[derive(Clone, Copy, Debug)]
struct Head<'a> {
    record: Record<'a>,
    timeline: Timeline,
}

impl<'a> Point<'a> {
    fn new(inputs: Vec<&'a Input>, place: Place, is_final: bool) -> Self {
        let reader = Reader::at(&inputs, place);
        Self {
            inputs,
            reader,
            look_ahead: LookAhead::default(),
            head: None,
            is_final,
            place,
        }
    }

    /// Finds the next record.
    #[inline]
    fn move_on(&mut self, unreadable: impl FnMut(&Input, Gap)) {
        let record = self.reader.next(&self.inputs, unreadable);
        self.set_head(record);
    }

    /// Tells the clock at the next record, if that can be told.
    #[inline]
    fn set_head(&mut self, record: Option<Record<'a>>) {
        let number = self.reader.number;
        self.place.finished = number;
        self.place.offset = record.map_or(0, |record| record.offset);
        self.head = None;
        let (Some(record), Some(walk)) = (record, &self.reader.walk) else {
            return;
        };
        let mut timeline = self.place.timeline;
        let later = self
            .inputs
            .get(number.saturating_add(1)..)
            .unwrap_or_default();
        let look_ahead = &mut self.look_ahead;
        let told = advance(&mut timeline, &record, number, walk, later, look_ahead);
        if let (Advance::Undecided, Some(timestamp_ns)) = (told, record.timestamp_ns) {
            if !self.is_final {
                return;
            }
            timeline.advance(timestamp_ns, || Evidence::BorneOut);
        }
        self.head = Some(Head { record, timeline });
    }

    /// Lets go of what has been merged.
    fn release(&self) {
        let Place {
            finished, offset, ..
        } = self.place;
        self.inputs
            .iter()
            .take(finished)
            .for_each(|input| input.release_before(input.bytes().len()));
        if let Some(input) = self.inputs.get(finished) {
            input.release_before(offset);
        }
    }
}

/// Reads inputs one behind the other.
#[derive(Clone, Debug)]
struct Reader<'a> {
    /// Which of them it is in.
    number: usize,
    walk: Option<Walk<'a>>,
    /// What lies before this offset has been read before, and is walked through only to learn how
    /// to read on.
    from: usize,
}

impl<'a> Reader<'a> {
    fn at(
        inputs: &[&'a Input],
        Place {
            finished, offset, ..
        }: Place,
    ) -> Self {
        let walk = inputs.get(finished).map(|input| {
            let known_from = if let Layout::Ng(_) = input.layout {
                input.start
            } else {
                input.start.max(offset)
            };
            input.layout.walk(input.bytes(), known_from)
        });
        Self {
            number: finished.min(inputs.len()),
            walk,
            from: offset,
        }
    }

    /// The next record; passes over what cannot be read.
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
                        Place {
                            finished,
                            ..Place::default()
                        },
                    );
                }
            }
        }
    }
}

/// So much is gathered before it is written, in bytes: enough to make the system call cheap, and it
/// stays in the second-level cache.
const GATHERED_LEN: usize = 192 * 1024;

/// The merged capture: a pcapng of one section.
struct Capture<'o, W> {
    out: &'o mut W,
    gathered: Vec<u8>,
    written_len: u64,
    /// Their numbers. A frame's interface says how it begins, and in which unit its time is
    /// written.
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

    /// Adds a record. One without a time takes the clock of its point.
    #[inline]
    fn push(&mut self, record: &Record<'_>, clock: Clock) -> io::Result<()> {
        let timestamp_ns = record.timestamp_ns.unwrap_or(clock);
        // Ticks of a power of two are hardly ever whole microseconds, however long they are.
        let precision = if timestamp_ns.is_multiple_of(1000) {
            record.precision
        } else {
            Precision::Nano
        };
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

    /// The number of an interface; one that is new is described first.
    #[inline]
    fn interface(&mut self, link: LinkType, precision: Precision) -> u32 {
        let next = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        *self.interfaces.entry((link, precision)).or_insert_with(|| {
            self.gathered
                .extend(ng_interface(link, precision, DEFAULT_SNAPLEN));
            next
        })
    }

    /// How long it is so far, in bytes.
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

#[cfg(test)]
mod tests;
