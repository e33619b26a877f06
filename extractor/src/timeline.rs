//! Packet time, out of the timestamps of frames.
//!
//! Packet time is the highest timestamp so far. Every timer runs on it, so a clock that fails
//! during the capture must not move it:
//!
//! * A *leap* is a timestamp more than a minute (`NEAR_NS`) ahead of packet time: either nothing was
//!   captured for a while, or the timestamp is wrong. Packet time follows it unless one of the next
//!   [`LOOK_AHEAD`] records contradicts it, by a timestamp more than a minute before it. So up
//!   to 16 consecutive frames that are hours ahead move nothing.
//! * A timestamp that *lags* more than a minute behind packet time moves nothing, either. If
//!   timestamps keep lagging, the clock was set back, or packet time was wrong before. Then packet
//!   time continues from its present value, at the pace of these timestamps: the difference is
//!   added to each as its *offset*. Earlier offsets are remembered, so two clocks that alternate
//!   are both understood.
//!
//! All of it follows from the records in capture order, so it makes no difference how a capture is
//! cut. A leap at the end of the input waits for the records that decide on it.

use std::{collections::VecDeque, fmt};

use serde::{Deserialize, Serialize};
use shared::index::Timing;

use crate::moment::{Clock, Position};

/// The number of records that may contradict a leap.
pub const LOOK_AHEAD: usize = 16;

/// A minute. Timestamps within a minute of packet time are normal: captures of several interfaces
/// are out of order by less, and no call times out because of it.
const NEAR_NS: u64 = 60 * 1_000_000_000;

/// A lag that lasts ten seconds, by the lagging timestamps, is believed.
const LAG_NS: u64 = 10 * 1_000_000_000;

/// A lag of this many records is believed if their timestamps stand still.
const LAG_RECORDS: u32 = 4096;

/// The number of offsets that are remembered.
const OFFSETS: usize = 4;

/// Packet time after some of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Packet time; `None` before the first record with a timestamp.
    clock: Option<Clock>,
    /// Nanoseconds that are added to timestamps. The first offset is the one in use.
    offsets: [u64; OFFSETS],
    lag: Option<Lag>,
}

/// Consecutive timestamps that lag behind packet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lag {
    first_ns: u64,
    highest_ns: u64,
    records: u32,
    /// Consecutive records that lag by another time.
    others: u32,
}

/// The effect of a record on packet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// The record is the first one, or near packet time.
    Steady,
    /// The record leaps ahead, and nothing contradicts it.
    Leap,
    /// The record leaps ahead and is contradicted: packet time does not move.
    Odd,
    /// The record leaps ahead, and the records that decide on it are not there yet. Nothing has
    /// changed.
    Undecided,
    /// The record lags behind, or is near only by an earlier offset.
    Lagging,
    /// The record with which timestamps have lagged for long enough to be believed.
    SetBack,
}

/// The evidence of the next records for or against a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// No record contradicts it.
    BorneOut,
    /// A record contradicts it.
    Contradicted,
    /// There are too few records to tell.
    Missing,
}

impl Timeline {
    /// Packet time, if a record had a timestamp.
    #[must_use]
    #[inline]
    pub fn clock(&self) -> Option<Clock> {
        self.clock
    }

    /// True when timestamps are packet time as they are.
    fn is_plain(&self) -> bool {
        self.offsets == [0; OFFSETS] && self.lag.is_none()
    }

    /// The same offsets without a time: packet time becomes that of the next record.
    #[must_use]
    pub fn at_any_time(self) -> Self {
        Self {
            clock: None,
            lag: None,
            ..self
        }
    }

    /// Advances by a record. `look_ahead` is called only for a leap.
    #[inline]
    pub fn advance(&mut self, timestamp_ns: u64, look_ahead: impl FnOnce() -> Evidence) -> Advance {
        if self.advance_steadily(timestamp_ns).is_some() {
            return Advance::Steady;
        }
        let Some(clock) = self.clock else {
            self.clock = Some(self.time(timestamp_ns));
            return Advance::Steady;
        };
        self.advance_from_afar(timestamp_ns, clock, look_ahead)
    }

    /// The time of a timestamp, by the offset in use.
    #[inline]
    fn time(&self, timestamp_ns: u64) -> Clock {
        let [offset, ..] = self.offsets;
        timestamp_ns.saturating_add(offset)
    }

    /// Advances by a record whose time is near packet time, and returns that time.
    #[inline]
    fn advance_steadily(&mut self, timestamp_ns: u64) -> Option<Clock> {
        let time = self.time(timestamp_ns);
        let clock = self.clock.filter(|clock| is_near(time, *clock))?;
        self.clock = Some(clock.max(time));
        self.lag = None;
        Some(time)
    }

    /// A function of its own, because nearly no record needs it.
    #[inline(never)]
    fn advance_from_afar(
        &mut self,
        timestamp_ns: u64,
        clock: Clock,
        look_ahead: impl FnOnce() -> Evidence,
    ) -> Advance {
        if self.advance_by_offset(timestamp_ns, clock) {
            return Advance::Lagging;
        }
        if self.time(timestamp_ns) < clock {
            return self.lag_behind(timestamp_ns, clock);
        }
        match look_ahead() {
            Evidence::BorneOut => {
                self.leap(timestamp_ns, clock);
                Advance::Leap
            }
            Evidence::Contradicted => Advance::Odd,
            Evidence::Missing => Advance::Undecided,
        }
    }

    /// Advances to a time that is near packet time by one of the offsets, if there is one.
    fn advance_by_offset(&mut self, timestamp_ns: u64, clock: Clock) -> bool {
        let is_near = |offset: &u64| is_near(timestamp_ns.saturating_add(*offset), clock);
        let Some(place) = self.offsets.iter().position(is_near) else {
            return false;
        };
        self.use_offset(place);
        self.advance_steadily(timestamp_ns).is_some()
    }

    /// Advances to a time ahead of packet time, by the offset with which it is the least ahead: a
    /// clock may have been put right meanwhile.
    fn leap(&mut self, timestamp_ns: u64, clock: Clock) {
        let times = self
            .offsets
            .iter()
            .map(|offset| timestamp_ns.saturating_add(*offset));
        let ahead = times.enumerate().filter(|(_, time)| *time >= clock);
        if let Some((place, time)) = ahead.min_by_key(|(_, time)| *time) {
            self.use_offset(place);
            self.clock = Some(time);
            self.lag = None;
        }
    }

    fn lag_behind(&mut self, timestamp_ns: u64, clock: Clock) -> Advance {
        let lag = match self.lag {
            Some(lag) if is_near(timestamp_ns, lag.highest_ns) => Lag {
                highest_ns: lag.highest_ns.max(timestamp_ns),
                records: lag.records.saturating_add(1),
                others: 0,
                ..lag
            },
            // A few records with other times, of another clock or of none, change nothing.
            Some(lag) if (lag.others as usize) < LOOK_AHEAD => Lag {
                others: lag.others.saturating_add(1),
                ..lag
            },
            _ => Lag {
                first_ns: timestamp_ns,
                highest_ns: timestamp_ns,
                records: 1,
                others: 0,
            },
        };
        if !lag.is_believed() {
            self.lag = Some(lag);
            return Advance::Lagging;
        }
        self.lag = None;
        self.use_offset(OFFSETS.saturating_sub(1));
        let [offset, ..] = &mut self.offsets;
        *offset = clock.saturating_sub(lag.highest_ns);
        Advance::SetBack
    }

    /// Makes the offset with this index the one in use.
    fn use_offset(&mut self, place: usize) {
        if let Some(up_to) = self.offsets.get_mut(..=place) {
            up_to.rotate_right(1);
        }
    }

    /// The lag of a timestamp behind packet time, in nanoseconds, by the offset that comes nearest.
    #[must_use]
    pub fn lag_ns(&self, timestamp_ns: u64) -> Option<u64> {
        let clock = self.clock?;
        let lag = |offset: &u64| clock.saturating_sub(timestamp_ns.saturating_add(*offset));
        self.offsets.iter().map(lag).min()
    }

    /// Advances to the time that the capture has reached, in nanoseconds since 1970, with or
    /// without records.
    pub fn reach(&mut self, timestamp_ns: u64) {
        let Some(clock) = self.clock else {
            self.clock = Some(self.time(timestamp_ns));
            return;
        };
        if !self.advance_by_offset(timestamp_ns, clock) {
            self.leap(timestamp_ns, clock);
        }
    }
}

impl Lag {
    fn is_believed(&self) -> bool {
        let lasted_ns = self.highest_ns.saturating_sub(self.first_ns);
        self.records >= LAG_RECORDS || (self.records as usize >= LOOK_AHEAD && lasted_ns >= LAG_NS)
    }
}

#[inline]
fn is_near(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= NEAR_NS
}

/// Packet time in a stretch of a capture, without knowledge of the records before.
///
/// Stretches are read in parallel. Each begins with the offsets that were in use before all of
/// them, and with its own first timestamp. [`Stretch::fits`] tells whether reading them in sequence
/// would give the same; if not, the stretch is read again.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    begun_with: Timeline,
    timeline: Timeline,
    /// True when packet time before the stretch was unknown.
    is_guessed: bool,
    first: Option<Clock>,
    lowest: Clock,
    is_steady: bool,
    is_orderly: bool,
    is_unsure: bool,
}

impl Stretch {
    /// A stretch directly behind a known one.
    #[must_use]
    pub fn behind(timeline: Timeline) -> Self {
        Self {
            begun_with: timeline,
            timeline,
            is_guessed: false,
            first: None,
            lowest: Clock::MAX,
            is_steady: true,
            is_orderly: true,
            is_unsure: false,
        }
    }

    /// A stretch at an unknown distance behind `timeline`.
    #[must_use]
    pub fn somewhere_behind(timeline: Timeline) -> Self {
        Self {
            is_guessed: true,
            ..Self::behind(timeline.at_any_time())
        }
    }

    /// A stretch of one instant, for a record whose packet time is known.
    #[must_use]
    pub fn at(clock: Clock) -> Self {
        let timeline = Timeline {
            clock: Some(clock),
            ..Timeline::default()
        };
        Self::behind(timeline)
    }

    /// The stretch in a form that can be stored; `None` if its clock was set back, or if packet time
    /// depends on records before or behind it.
    #[must_use]
    pub fn to_timing(&self) -> Option<Timing> {
        let is_alone = self.is_guessed && !self.is_unsure;
        if !is_alone || !self.begun_with.is_plain() || !self.timeline.is_plain() {
            return None;
        }
        Some(Timing {
            first: self.first?,
            lowest: self.lowest,
            last: self.timeline.clock?,
            is_steady: self.is_steady,
            is_orderly: self.is_orderly,
        })
    }

    /// The stretch that was stored.
    #[must_use]
    pub fn of_timing(timing: Timing) -> Self {
        let end = Timeline {
            clock: Some(timing.last),
            ..Timeline::default()
        };
        Self {
            timeline: end,
            first: Some(timing.first),
            lowest: timing.lowest,
            is_steady: timing.is_steady,
            is_orderly: timing.is_orderly,
            ..Self::somewhere_behind(Timeline::default())
        }
    }

    /// True when packet time is the highest timestamp, and no record lags more than a minute behind
    /// it.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        self.is_orderly && self.begun_with.is_plain() && self.timeline.is_plain()
    }

    /// Packet time; 0 before the first record with a timestamp.
    #[must_use]
    #[inline]
    pub fn clock(&self) -> Clock {
        self.timeline.clock().unwrap_or(0)
    }

    /// Advances by a record; see [`Timeline::advance`].
    #[inline]
    pub fn advance(&mut self, timestamp_ns: u64, look_ahead: impl FnMut() -> Evidence) -> Advance {
        if let Some(time) = self.timeline.advance_steadily(timestamp_ns) {
            self.lowest = self.lowest.min(time);
            return Advance::Steady;
        }
        self.advance_otherwise(timestamp_ns, look_ahead)
    }

    /// A function of its own, because nearly no record needs it.
    #[inline(never)]
    fn advance_otherwise(
        &mut self,
        timestamp_ns: u64,
        mut look_ahead: impl FnMut() -> Evidence,
    ) -> Advance {
        let is_first = self.is_guessed && self.timeline.clock().is_none();
        if is_first && look_ahead() != Evidence::BorneOut {
            self.is_unsure = true;
        }
        let advance = self.timeline.advance(timestamp_ns, look_ahead);
        if is_first {
            self.first = self.timeline.clock();
            self.lowest = self.lowest.min(self.clock());
        } else {
            self.is_steady = false;
            let is_followed = matches!(advance, Advance::Steady | Advance::Leap);
            // Nothing has changed where a leap waits: the record is read again.
            self.is_orderly &= is_followed || advance == Advance::Undecided;
        }
        advance
    }

    /// True when the stretch is right if it stands behind `before`.
    #[must_use]
    pub fn fits(&self, before: &Timeline) -> bool {
        if !self.is_guessed {
            return self.begun_with == *before;
        }
        let Some(first) = self.first else { return true };
        if self.is_unsure || self.begun_with.offsets != before.offsets {
            return false;
        }
        // If the stretch begins at packet time or later, every record had its effect; but a leap may
        // be near by an earlier offset. If it begins slightly before, only steady records had.
        let [offset, ..] = before.offsets;
        let is_told = before.offsets.iter().all(|other| *other == offset);
        before.clock.is_none_or(|clock| {
            if first >= clock {
                is_told || is_near(first, clock)
            } else {
                self.is_steady && self.lowest.saturating_add(NEAR_NS) >= clock
            }
        })
    }

    /// Packet time at the end of the stretch, if it fits behind `before`.
    #[must_use]
    pub fn end(&self, before: &Timeline) -> Timeline {
        if self.is_guessed && self.first.is_none() {
            return *before;
        }
        Timeline {
            clock: self.timeline.clock.max(before.clock),
            ..self.timeline
        }
    }
}

/// The next record, or the time that the capture has reached without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// The record's timestamp, in nanoseconds since 1970.
    Record(Option<u64>),
    /// There is no record, but the capture has reached this time.
    Reached(u64),
    /// There is no record, but the capture has reached at least this time.
    ReachedAtLeast(u64),
}

impl Later {
    /// There is no record any more: nothing contradicts what came before.
    pub const END: Self = Self::ReachedAtLeast(u64::MAX);
}

/// Looks at the records behind the current one.
#[derive(Default)]
pub struct LookAhead<'w> {
    records: Option<Box<dyn Iterator<Item = (Position, Later)> + 'w>>,
    /// The position behind which they begin.
    from: Position,
    seen: VecDeque<(Position, Later)>,
}

/// The longest look-ahead that is kept, in bytes. A position further ahead starts a new one, so
/// that no record is read for nothing.
const LOOK_AHEAD_LEN: usize = 64 * 1024;

impl<'w> LookAhead<'w> {
    /// The evidence of the records behind a position for the timestamp there. `records` returns
    /// them in capture order.
    pub fn evidence<I: Iterator<Item = (Position, Later)> + 'w>(
        &mut self,
        timestamp_ns: u64,
        at: Position,
        records: impl FnOnce() -> I,
    ) -> Evidence {
        let is_there = at.input() == self.from.input()
            && at.offset().saturating_sub(self.from.offset()) < LOOK_AHEAD_LEN;
        if self.records.is_none() || !is_there {
            *self = Self {
                records: Some(Box::new(records())),
                from: at,
                seen: VecDeque::new(),
            };
        }
        while self.seen.pop_front_if(|(place, _)| *place <= at).is_some() {}
        for number in 0..LOOK_AHEAD {
            let Some(later) = self.get(number, at) else {
                return Evidence::Missing;
            };
            if let Later::ReachedAtLeast(ns) = later {
                let is_there = ns.saturating_add(NEAR_NS) >= timestamp_ns;
                return if is_there {
                    Evidence::BorneOut
                } else {
                    Evidence::Missing
                };
            }
            let (Later::Record(Some(later_ns)) | Later::Reached(later_ns)) = later else {
                continue;
            };
            if later_ns.saturating_add(NEAR_NS) < timestamp_ns {
                return Evidence::Contradicted;
            }
            if let Later::Reached(_) = later {
                break;
            }
        }
        Evidence::BorneOut
    }

    /// The record with this number, from 0, behind a position.
    fn get(&mut self, number: usize, at: Position) -> Option<Later> {
        while self.seen.len() <= number {
            let later = self.records.as_mut()?.next()?;
            if later.0 > at {
                self.seen.push_back(later);
            }
        }
        self.seen.get(number).map(|(_, later)| *later)
    }
}

impl fmt::Debug for LookAhead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookAhead")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;
    const START: u64 = 1_700_000_000 * SECOND;

    fn laters(times: &[u64]) -> impl Iterator<Item = (Position, Later)> {
        let later =
            |(number, ns): (usize, &u64)| (Position::new(0, number), Later::Record(Some(*ns)));
        times.iter().enumerate().map(later)
    }

    /// Packet time at each record of a capture that ends after them.
    fn clocks(times: &[u64]) -> Vec<Clock> {
        let mut timeline = Timeline::default();
        let mut ahead = LookAhead::default();
        let mut clocks = Vec::new();
        for (number, ns) in times.iter().enumerate() {
            let at = Position::new(0, number);
            timeline.advance(*ns, || {
                at_the_end(ahead.evidence(*ns, at, || laters(times)))
            });
            clocks.push(timeline.clock().unwrap());
        }
        clocks
    }

    fn at_the_end(evidence: Evidence) -> Evidence {
        match evidence {
            Evidence::Missing => Evidence::BorneOut,
            decided => decided,
        }
    }

    fn seconds(clock: Clock) -> i64 {
        clock.cast_signed().wrapping_sub(START.cast_signed()) / SECOND.cast_signed()
    }

    /// One record per second from `from` on, in seconds after [`START`].
    fn each_second(from: u64, count: u64) -> impl Iterator<Item = u64> {
        (from..from + count).map(|second| START + second * SECOND)
    }

    #[test]
    fn up_to_sixteen_records_in_a_row_lead_nothing() {
        for wrong in 1..=16 {
            let mut times: Vec<u64> = each_second(0, 30).collect();
            times.extend(each_second(30, wrong).map(|ns| ns + 3 * HOUR));
            times.extend(each_second(30 + wrong, 30));
            let clocks = clocks(&times);
            assert_eq!(seconds(clocks[29 + wrong as usize]), 29, "{wrong}");
            assert_eq!(
                seconds(*clocks.last().unwrap()),
                59 + wrong as i64,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_pause_is_a_pause() {
        let times: Vec<u64> = each_second(0, 3).chain(each_second(9 * 3600, 2)).collect();
        let clocks: Vec<i64> = clocks(&times).into_iter().map(seconds).collect();
        assert_eq!(clocks, [0, 1, 2, 32_400, 32_401]);
    }

    #[test]
    fn packet_time_goes_on_where_a_clock_is_set_back() {
        let times: Vec<u64> = each_second(7200, 20).chain(each_second(0, 60)).collect();
        let clocks: Vec<i64> = clocks(&times).into_iter().map(seconds).collect();
        assert_eq!(clocks[19..35], [7219; 16]);
        assert_eq!(clocks[35..38], [7219, 7220, 7221]);
        assert_eq!(*clocks.last().unwrap(), 7219 + 44);
        assert!(clocks.is_sorted());
    }

    #[test]
    fn what_led_packet_time_astray_heals() {
        let years = 20 * 365 * 24 * HOUR;
        let times: Vec<u64> = each_second(0, 20)
            .chain(each_second(20, 40).map(|ns| ns + years))
            .chain(each_second(60, 60))
            .collect();
        let clocks = clocks(&times);
        let behind = |number: usize| seconds(clocks[number] - years);
        assert_eq!([behind(20), behind(59), behind(74)], [20, 59, 59]);
        assert_eq!(
            behind(119),
            59 + 44,
            "the pace is that of the capture again"
        );
    }

    /// Records without a time, and those of another clock that lags, change nothing of that.
    #[test]
    fn packet_time_goes_on_among_records_with_other_times() {
        for other in [
            |_: usize| Some(0),
            |number: usize| Some(number as u64 * SECOND),
        ] {
            let mut times: Vec<u64> = each_second(7200, 20).collect();
            for (number, ns) in each_second(0, 200).enumerate() {
                times.push(ns);
                times.extend(other(number).filter(|_| number % 3 == 0));
            }
            let clocks = clocks(&times);
            let led = seconds(*clocks.last().unwrap());
            assert!((7219 + 150..7219 + 200).contains(&led), "{led}");
        }
    }

    #[test]
    fn a_time_that_is_reached_may_be_that_of_an_earlier_clock() {
        let times: Vec<u64> = each_second(7200, 20).chain(each_second(0, 30)).collect();
        let mut timeline = Timeline::default();
        for ns in times {
            timeline.advance(ns, || Evidence::BorneOut);
        }
        // The clock was set back and is put right now.
        let before = seconds(timeline.clock().unwrap());
        timeline.reach(START + 7250 * SECOND);
        assert_eq!([before, seconds(timeline.clock().unwrap())], [7233, 7250]);
    }

    #[test]
    fn two_clocks_that_take_turns_are_both_understood() {
        let mut times = Vec::new();
        for turn in 0..20 {
            let ahead = if turn % 2 == 0 { 0 } else { 5 * HOUR };
            times.extend(each_second(turn * 30, 30).map(|ns| ns + ahead));
        }
        let clocks = clocks(&times);
        assert!(clocks.is_sorted());
        // Packet time leaps once, then waits until the lag is believed; from then on it advances by
        // seconds.
        let led = (5 * HOUR / SECOND) as i64;
        assert_eq!(seconds(clocks[89]), led + 59 + 14);
        assert_eq!(seconds(clocks[90]), led + 90);
        assert_eq!(seconds(*clocks.last().unwrap()), led + 599);
    }

    #[test]
    fn timestamps_that_stand_still_far_behind_are_believed_after_a_while() {
        let times: Vec<u64> = each_second(0, 20).chain([0; 5000]).collect();
        let mut timeline = Timeline::default();
        let paces: Vec<Advance> = times
            .iter()
            .map(|ns| timeline.advance(*ns, || Evidence::BorneOut))
            .collect();
        let set_back = paces.iter().position(|pace| *pace == Advance::SetBack);
        assert_eq!(set_back, Some(20 + LAG_RECORDS as usize - 1));
        assert_eq!(paces.last(), Some(&Advance::Steady));
        assert_eq!(seconds(timeline.clock().unwrap()), 19);
    }

    #[test]
    fn a_leap_at_the_end_waits_unless_the_capture_is_known_to_be_there() {
        let ahead = START + HOUR;
        let records = || laters(&[START, START + HOUR]);
        let at = Position::new(0, 1);
        let evidence = LookAhead::default().evidence(ahead, at, records);
        assert_eq!(evidence, Evidence::Missing);
        for (reached, want) in [
            (ahead, Evidence::BorneOut),
            (START + SECOND, Evidence::Contradicted),
        ] {
            let reached = (Position::new(1, 0), Later::Reached(reached));
            let records = || records().chain([reached]);
            assert_eq!(LookAhead::default().evidence(ahead, at, records), want);
        }
    }

    /// Timestamps with pauses, leaps, two clocks, and some out of order.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        let step = prop_oneof![
            8 => (0..2 * SECOND).prop_map(Some),
            1 => (0..3 * HOUR).prop_map(Some),
            2 => Just(None),
        ];
        let ahead = prop_oneof![
            5 => Just(0),
            2 => 0..400 * SECOND,
            1 => 0..HOUR,
            1 => Just(2 * HOUR),
            1 => 0..START,
        ];
        let run = (1..30usize, ahead, any::<bool>());
        (
            prop::collection::vec(run, 1..20),
            prop::collection::vec(step, 300),
        )
            .prop_map(|(runs, steps)| {
                let (mut now, mut steps) = (START, steps.into_iter().cycle());
                let mut times = Vec::new();
                for (len, ahead, is_behind) in runs {
                    for _ in 0..len {
                        now += steps.next().flatten().unwrap_or(0);
                        times.push(if is_behind {
                            now - ahead.min(now)
                        } else {
                            now + ahead
                        });
                    }
                }
                times
            })
    }

    proptest! {
        #[test]
        fn stretches_side_by_side_give_what_one_after_the_other_gives(
            times in times(),
            len in 1..40usize,
        ) {
            let want = clocks(&times);
            let evidence = |number: usize, ns: u64| {
                let at = Position::new(0, number);
                at_the_end(LookAhead::default().evidence(ns, at, || laters(&times)))
            };
            let go_through = |mut stretch: Stretch, from: usize| {
                let mut got = Vec::new();
                for (number, ns) in times.iter().enumerate().skip(from).take(len) {
                    stretch.advance(*ns, || evidence(number, *ns));
                    got.push(stretch.clock());
                }
                (stretch, got)
            };
            let (mut timeline, mut got) = (Timeline::default(), Vec::new());
            for from in (0..times.len()).step_by(len) {
                let guessed = go_through(Stretch::somewhere_behind(timeline), from);
                let (stretch, clocks) = if guessed.0.fits(&timeline) {
                    guessed
                } else {
                    go_through(Stretch::behind(timeline), from)
                };
                prop_assert!(stretch.fits(&timeline));
                let before = timeline.clock().unwrap_or(0);
                got.extend(clocks.into_iter().map(|clock| clock.max(before)));
                timeline = stretch.end(&timeline);
            }
            prop_assert_eq!(&got, &want);
            prop_assert!(got.is_sorted());
        }
    }
}
