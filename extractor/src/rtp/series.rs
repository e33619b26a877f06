//! The course of a stream's figures: one interval for each five seconds of packet time.

use serde::{Deserialize, Serialize};

use super::{Sequence, Totals, delay_ms, mos, sequence::Witness};
use crate::{grid::Grid, moment::Clock};

/// The most intervals of a stream: 24 hours without a pause. Beyond that, two become one, and the
/// length doubles.
const MAX_INTERVALS: usize = 17_280;

/// The intervals of one stream that have packets, in the order of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    intervals: Vec<Interval>,
    /// The number of the interval in which the present run of sequence numbers began.
    run_since: u32,
    grid: Grid,
}

/// The figures of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Interval {
    /// See [`Grid::number`].
    number: u32,
    /// Packets received, duplicates included.
    packets: u32,
    /// The numbers by which the highest sequence number grew. A number belongs to the interval in
    /// which the highest one reached or passed it.
    expected: u32,
    /// Those of them that have not arrived, be it later.
    lost: u32,
    /// The number of times that numbers were passed over.
    gaps: u32,
    /// The sum of the jitter after each packet, in milliseconds, without leaps.
    jitter_sum_ms: f32,
}

const _: () = assert!(size_of::<Interval>() <= 24);

/// The figures of one interval, for outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Its beginning, in nanoseconds since 1970.
    pub start_ns: u64,
    /// Its length in nanoseconds: 5 s, or that doubled several times.
    pub length_ns: u64,
    /// Packets received, duplicates included.
    pub packets: u64,
    /// Packets that never arrived, and whose gap was seen in this interval.
    pub lost: u64,
    /// The mean interarrival jitter (RFC 3550, A.8), without leaps of a second or more.
    pub jitter_ms: f64,
    /// The mean opinion score: see [`mos`].
    pub mos: Option<f64>,
}

impl Series {
    /// The series of a stream whose first packet came at packet time `now`.
    #[must_use]
    pub fn new(now: Clock) -> Self {
        let mut series = Self {
            intervals: Vec::new(),
            run_since: 0,
            grid: Grid::default(),
        };
        series.enter(now);
        series.begin_run();
        series
    }

    /// Adds a packet to the sequence numbers and to the interval of packet time `now`.
    #[cold]
    pub(super) fn push(&mut self, sequence: &mut Sequence, number: u16, now: Clock) {
        self.enter(now);
        sequence.push_seen(number, self);
    }

    /// Adds the jitter after the packet that was added last.
    pub(super) fn add_jitter(&mut self, ms: f64) {
        if let Some(interval) = self.intervals.last_mut() {
            interval.jitter_sum_ms += ms as f32;
        }
    }

    /// The intervals that have packets. The lost packets of all add up to those of `sequence`, the
    /// stream's.
    #[must_use]
    pub fn measured(
        &self,
        sequence: &Sequence,
        codec: Option<&[u8]>,
        ptime_ms: u32,
    ) -> Vec<Measured> {
        let mut settled = self.clone();
        sequence.settled(&mut settled);
        let grid = settled.grid;
        let measured = |interval: &Interval| {
            let jitter_ms = interval.jitter_ms();
            Measured {
                start_ns: grid.start_ns(interval.number),
                length_ns: grid.length_ns(),
                packets: interval.packets.into(),
                lost: interval.lost.into(),
                jitter_ms,
                mos: codec.and_then(|codec| {
                    mos(codec, &interval.totals(), delay_ms(ptime_ms, jitter_ms))
                }),
            }
        };
        settled.intervals.iter().map(measured).collect()
    }

    /// Adds a packet at packet time `now`, which never goes back.
    fn enter(&mut self, now: Clock) {
        let mut number = self.grid.number(now);
        if self
            .intervals
            .last()
            .is_none_or(|last| last.number < number)
        {
            while self.intervals.len() >= MAX_INTERVALS {
                self.double();
                number = self.grid.number(now);
            }
            if self
                .intervals
                .last()
                .is_none_or(|last| last.number < number)
            {
                self.intervals.push(Interval {
                    number,
                    ..Interval::default()
                });
            }
        }
        if let Some(last) = self.intervals.last_mut() {
            last.packets = last.packets.saturating_add(1);
        }
    }

    /// Doubles the length of the intervals.
    #[cold]
    fn double(&mut self) {
        self.grid.double();
        self.run_since /= 2;
        for interval in &mut self.intervals {
            interval.number /= 2;
        }
        self.intervals.dedup_by(|second, first| {
            let is_same = first.number == second.number;
            if is_same {
                first.add(second);
            }
            is_same
        });
    }
}

impl Witness for Series {
    fn begin_run(&mut self) {
        if let Some(last) = self.intervals.last_mut() {
            self.run_since = last.number;
            last.expected = last.expected.saturating_add(1);
        }
    }

    fn advance(&mut self, ahead: u64) {
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        if let Some(last) = self.intervals.last_mut() {
            last.expected = last.expected.saturating_add(ahead);
            last.lost = last.lost.saturating_add(ahead.saturating_sub(1));
            last.gaps = last.gaps.saturating_add(u32::from(ahead > 1));
        }
    }

    /// Finds the interval that has the number as lost. A number below the lowest belongs to the
    /// interval in which the run began, with those between, which are lost so far.
    fn late(&mut self, back: u64, below: u64) {
        let mut back = back;
        let below = u32::try_from(below).unwrap_or(u32::MAX);
        for interval in self.intervals.iter_mut().rev() {
            let expected = u64::from(interval.expected);
            if interval.number <= self.run_since || back < expected {
                interval.expected = interval.expected.saturating_add(below);
                interval.lost = interval.lost.saturating_add(below).saturating_sub(1);
                return;
            }
            back = back.saturating_sub(expected);
        }
    }
}

impl Interval {
    fn add(&mut self, other: &Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.expected = self.expected.saturating_add(other.expected);
        self.lost = self.lost.saturating_add(other.lost);
        self.gaps = self.gaps.saturating_add(other.gaps);
        self.jitter_sum_ms += other.jitter_sum_ms;
    }

    fn jitter_ms(&self) -> f64 {
        if self.packets == 0 {
            return 0.0;
        }
        f64::from(self.jitter_sum_ms) / f64::from(self.packets)
    }

    /// The figures that the MOS needs. A gap that late packets filled still counts as one, so
    /// losses of streams that are out of order look more random than they are.
    fn totals(&self) -> Totals {
        Totals {
            expected: self.expected.into(),
            lost: self.lost.into(),
            out_of_order: 0,
            duplicates: 0,
            bursts: self.gaps.min(self.lost).into(),
            longest_burst: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// A multiple of five seconds, and of that many times doubled.
    const START: u64 = (5 << 28) * SECOND;

    /// The series of packets, given by time in seconds after `START` and number.
    fn series(packets: &[(u64, u16)]) -> (Series, Sequence) {
        let ((first_at, first), rest) = packets.split_first().unwrap();
        let mut sequence = Sequence::new(*first);
        let mut series = Series::new(START + first_at * SECOND);
        for (at, number) in rest {
            series.push(&mut sequence, *number, START + at * SECOND);
        }
        (series, sequence)
    }

    /// Start in seconds, packets and losses of each interval.
    fn parts(packets: &[(u64, u16)]) -> Vec<(u64, u64, u64)> {
        let (series, sequence) = series(packets);
        let measured = series.measured(&sequence, None, 20);
        let lost: u64 = measured.iter().map(|part| part.lost).sum();
        assert_eq!(lost, sequence.totals().lost, "{measured:?}");
        measured
            .iter()
            .map(|part| ((part.start_ns - START) / SECOND, part.packets, part.lost))
            .collect()
    }

    #[test]
    fn by_hand() {
        for (what, packets, want) in [
            ("one packet", &[(7, 9)][..], &[(5, 1, 0)][..]),
            (
                "aligned on five seconds",
                &[(4, 1), (5, 2), (9, 3), (10, 4)],
                &[(0, 1, 0), (5, 2, 0), (10, 1, 0)],
            ),
            (
                "losses belong to where the gap was seen",
                &[(4, 1), (5, 4), (6, 6), (10, 7)],
                &[(0, 1, 0), (5, 2, 3), (10, 1, 0)],
            ),
            (
                "an interval without packets has no figures",
                &[(1, 1), (31, 3)],
                &[(0, 1, 0), (30, 1, 1)],
            ),
            (
                "a late packet repairs an earlier interval",
                &[(1, 1), (2, 4), (6, 5), (7, 2), (8, 6)],
                &[(0, 2, 1), (5, 3, 0)],
            ),
            (
                "far back",
                &[(1, 1), (2, 4), (6, 5), (11, 9), (12, 7), (13, 3), (14, 8)],
                &[(0, 2, 1), (5, 1, 0), (10, 4, 1)],
            ),
            (
                "a packet that is late for the first",
                &[(1, 10), (6, 11), (7, 7), (8, 8)],
                &[(0, 1, 1), (5, 3, 0)],
            ),
            (
                "duplicates",
                &[(1, 1), (2, 1), (6, 3), (7, 3)],
                &[(0, 2, 0), (5, 2, 1)],
            ),
            (
                "a restart",
                &[
                    (1, 1),
                    (2, 3),
                    (6, 40_000),
                    (7, 40_001),
                    (8, 39_998),
                    (11, 39_999),
                    (12, 40_003),
                ],
                &[(0, 2, 1), (5, 3, 0), (10, 2, 1)],
            ),
            (
                "a jump that nothing confirms",
                &[(1, 1), (2, 2), (6, 40_000), (7, 4)],
                &[(0, 2, 0), (5, 2, 1)],
            ),
        ] {
            assert_eq!(parts(packets), want, "{what}");
        }
    }

    /// A single packet far too late is settled by the next one, or by the end.
    #[test]
    fn a_jump_that_is_late_repairs_its_interval() {
        let mut packets: Vec<(u64, u16)> = (1..=300)
            .filter(|number| *number != 50)
            .map(|number| (u64::from(number) / 50, number))
            .collect();
        assert_eq!(parts(&packets), [(0, 248, 1), (5, 51, 0)]);
        packets.push((7, 50));
        assert_eq!(parts(&packets), [(0, 248, 0), (5, 52, 0)], "at the end");
        packets.push((8, 301));
        assert_eq!(parts(&packets), [(0, 248, 0), (5, 53, 0)]);
    }

    #[test]
    fn jitter_and_mos_by_hand() {
        let (mut series, mut sequence) = series(&[(0, 1)]);
        series.add_jitter(0.0);
        for (at, number, jitter) in [(1, 2, 3.0), (6, 4, 8.0), (7, 5, 16.0)] {
            series.push(&mut sequence, number, START + at * SECOND);
            series.add_jitter(jitter);
        }
        let measured = series.measured(&sequence, Some(b"PCMA"), 20);
        assert_eq!(
            measured
                .iter()
                .map(|part| part.jitter_ms)
                .collect::<Vec<_>>(),
            [1.5, 12.0]
        );
        let of = |expected, lost, bursts, delay| {
            let totals = Totals {
                expected,
                lost,
                out_of_order: 0,
                duplicates: 0,
                bursts,
                longest_burst: 0,
            };
            mos(b"PCMA", &totals, delay)
        };
        assert_eq!(measured[0].mos, of(2, 0, 0, 23.0));
        assert_eq!(measured[1].mos, of(3, 1, 1, 44.0));
        assert_eq!(series.measured(&sequence, Some(b"opus"), 20)[0].mos, None);
    }

    #[test]
    fn beyond_a_day_intervals_double() {
        let most = MAX_INTERVALS as u64;
        let packets = |count: u64| -> Vec<(u64, u16)> {
            (0..count)
                .map(|n| (n * 5, (n * 2 % 65_536) as u16))
                .collect()
        };
        let full = parts(&packets(most));
        assert_eq!(full.len(), MAX_INTERVALS);
        assert_eq!(full[1], (5, 1, 1));
        let doubled = parts(&packets(most + 1));
        assert_eq!(doubled.len(), MAX_INTERVALS / 2 + 1);
        assert_eq!(doubled[..2], [(0, 2, 1), (10, 2, 2)]);
        assert_eq!(doubled[MAX_INTERVALS / 2], (most * 5, 1, 1));
        let (series, sequence) = series(&packets(most + 1));
        assert_eq!(
            series.measured(&sequence, None, 20)[0].length_ns,
            10 * SECOND
        );
        // A packet that is late for one of the intervals that became one.
        let mut late = packets(most + 1);
        late.push((most * 5, (most * 2 - 9) as u16));
        let repaired = parts(&late);
        assert_eq!(repaired[MAX_INTERVALS / 2 - 2], (most * 5 - 20, 2, 1));
    }

    #[test]
    fn times_far_apart_cost_little() {
        let far = parts(&[(0, 1), (10_000_000, 2), (1_000_000_000, 3)]);
        assert_eq!(far.len(), 3);
        let mut packets: Vec<(u64, u16)> = (0..MAX_INTERVALS as u64 * 2)
            .map(|n| (n * 10_000, (n % 65_536) as u16))
            .collect();
        packets.dedup();
        let parts = parts(&packets);
        assert!(parts.len() <= MAX_INTERVALS, "{}", parts.len());
    }

    /// A series goes on from the state as if there had been none.
    #[test]
    fn it_is_carried_over() {
        let packets: Vec<(u64, u16)> = (0..60u16).map(|n| (u64::from(n), n * 2 - n % 3)).collect();
        let (whole, sequence) = series(&packets);
        let want = whole.measured(&sequence, Some(b"PCMA"), 20);
        for cut in 1..packets.len() {
            let (mut carried, mut sequence) = series(&packets[..cut]);
            let state = postcard::to_stdvec(&carried).unwrap();
            carried = postcard::from_bytes(&state).unwrap();
            for (at, number) in &packets[cut..] {
                carried.push(&mut sequence, *number, START + at * SECOND);
            }
            assert_eq!(
                carried.measured(&sequence, Some(b"PCMA"), 20),
                want,
                "{cut}"
            );
        }
    }

    /// For any numbers and times, the intervals add up to the stream.
    #[test]
    fn intervals_add_up() {
        let step = proptest::prop_oneof![-130i16..4, 1i16..3, 1i16..3_200, i16::MIN..i16::MAX];
        let steps = proptest::collection::vec((step, 0u64..7), 1..80);
        proptest::proptest!(|(steps in steps)| {
            let (mut number, mut at) = (0u16, 0);
            let mut packets = vec![(at, number)];
            for (step, seconds) in steps {
                (number, at) = (number.wrapping_add_signed(step), at + seconds);
                packets.push((at, number));
            }
            let parts = parts(&packets);
            let sum: u64 = parts.iter().map(|(_, packets, _)| packets).sum();
            proptest::prop_assert_eq!(sum, packets.len() as u64);
        });
    }
}
