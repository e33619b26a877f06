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

use super::{Input, duplicates::RecentPackets, next_record};
use crate::moment::{Clock, is_odd};

/// How far the inputs of a capture point have been merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// How many of its inputs are done.
    pub finished: usize,
    /// Where the next record lies in the one after them, in bytes. 0 for its first record.
    pub offset: usize,
    /// The point's clock at the record before.
    pub clock: Clock,
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

/// What an input adds to the clock of its point. To know it, all of the input must be walked
/// through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    first_ns: Option<u64>,
    /// The clock after all of its records but the last.
    clock_before_last: Clock,
    /// The time of the last one: the next input may contradict it.
    last_ns: Option<u64>,
}

impl Delivery {
    /// That of an input, if it has any record.
    #[must_use]
    pub fn of(input: &Input) -> Option<Self> {
        let mut walk = input.layout.walk(input.bytes(), input.start);
        let first_ns = next_record(&mut walk)?.timestamp_ns;
        let mut delivery = Self {
            first_ns,
            clock_before_last: 0,
            last_ns: first_ns,
        };
        while let Some(Record { timestamp_ns, .. }) = next_record(&mut walk) {
            delivery.clock_before_last =
                clock_after(delivery.clock_before_last, delivery.last_ns, timestamp_ns);
            delivery.last_ns = timestamp_ns;
        }
        input.release_before(input.bytes().len());
        Some(delivery)
    }

    /// The clock of a point after these inputs, where it was `before` ahead of them; nothing if it
    /// has not begun.
    #[must_use]
    pub fn clock_of(before: Option<Clock>, deliveries: &[Self]) -> Option<Clock> {
        let nexts = deliveries
            .iter()
            .skip(1)
            .map(|next| next.first_ns)
            .chain([None]);
        deliveries
            .iter()
            .zip(nexts)
            .fold(before, |clock, (delivery, next_ns)| {
                let clock = clock.unwrap_or(0).max(delivery.clock_before_last);
                Some(clock_after(clock, delivery.last_ns, next_ns))
            })
    }
}

/// The clock of a point after a record, before which it was `clock`. What has no time, or one that
/// the next record contradicts, leaves it as it is.
#[inline]
fn clock_after(clock: Clock, timestamp_ns: Option<u64>, next_ns: Option<u64>) -> Clock {
    timestamp_ns
        .filter(|timestamp_ns| !is_odd(*timestamp_ns, next_ns))
        .map_or(clock, |timestamp_ns| clock.max(timestamp_ns))
}

impl<'a> Merge<'a> {
    /// Of each capture point, in the order of their numbers: its inputs in capture order, and how
    /// far they have been merged.
    #[must_use]
    pub fn new(points: impl IntoIterator<Item = (Vec<&'a Input>, Place)>) -> Self {
        let points = points
            .into_iter()
            .map(|(inputs, place)| Point::new(inputs, place))
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
            self.points
                .iter_mut()
                .enumerate()
                .for_each(|(number, point)| {
                    point.begin(|input, gap| unreadable(number, input, gap));
                });
        }
        let mut capture = Capture::begun(out);
        let mut merged = Merged::default();
        let mut left_out: u64 = 0;
        while let Some((number, point)) = self.next(until)
            && let Some(Head { record, clock }) = point.head
        {
            point.advance(clock, |input, gap| unreadable(number, input, gap));
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
                    clock: point.head?.clock,
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
    /// One record ahead: it may tell that the time of the one before is damaged.
    ahead: Reader<'a>,
    head: Option<Head<'a>>,
    /// That of the head.
    place: Place,
}

/// The next record of a point, and the point's clock at it.
#[derive(Clone, Copy, Debug)]
struct Head<'a> {
    record: Record<'a>,
    clock: Clock,
}

impl<'a> Point<'a> {
    fn new(inputs: Vec<&'a Input>, place: Place) -> Self {
        let reader = Reader::at(&inputs, place);
        Self {
            inputs,
            ahead: reader.clone(),
            reader,
            head: None,
            place,
        }
    }

    /// Finds the first record.
    fn begin(&mut self, unreadable: impl FnMut(&Input, Gap)) {
        let record = self.reader.next(&self.inputs, unreadable);
        self.ahead = self.reader.clone();
        self.set_head(record);
    }

    /// Finds the next record, behind one at which the clock was `clock`.
    #[inline]
    fn advance(&mut self, clock: Clock, unreadable: impl FnMut(&Input, Gap)) {
        self.place.clock = clock;
        let record = self.reader.next(&self.inputs, unreadable);
        self.set_head(record);
    }

    #[inline]
    fn set_head(&mut self, record: Option<Record<'a>>) {
        self.head = record.map(|record| {
            let next_ns = self
                .ahead
                .next(&self.inputs, |_, _| {})
                .and_then(|next| next.timestamp_ns);
            Head {
                record,
                clock: clock_after(self.place.clock, record.timestamp_ns, next_ns),
            }
        });
        let offset = record.map_or(0, |record| record.offset);
        self.place = Place {
            finished: self.reader.number,
            offset,
            clock: self.place.clock,
        };
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
