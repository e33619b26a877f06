//! Packets that were dropped at capture while calls were open.
//!
//! Segments say when packets were dropped. Sums grow with packet time: a call notes them when it
//! opens, and the difference at its end is what was dropped meanwhile. So a call costs two numbers,
//! whatever was dropped.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use shared::segment_drops::SegmentDrops;

use crate::moment::Clock;

/// The most drops that packet time has not reached. The latest are forgotten beyond that: their
/// files name a time that does not come.
const MAX_AHEAD: usize = 1 << 18;

/// The most drops that have begun and may not have ended. The oldest count as ended beyond that.
const MAX_UNDER_WAY: usize = 4096;

/// A stretch of packet time in which packets were dropped, or in which a segment says what was
/// dropped.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stretch {
    from: Clock,
    until: Clock,
    adds: DropSum,
}

/// Dropped packets, and the number of statements on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DropSum {
    packets: u64,
    statements: u64,
}

impl DropSum {
    fn plus(self, more: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(more.packets),
            statements: self.statements.saturating_add(more.statements),
        }
    }

    fn minus(self, less: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(less.packets),
            statements: self.statements.saturating_sub(less.statements),
        }
    }

    /// The packets that were dropped since an earlier sum; `None` if no segment says.
    pub(super) fn since(self, earlier: Self) -> Option<u64> {
        let Self {
            packets,
            statements,
        } = self.minus(earlier);
        (statements > 0).then_some(packets)
    }
}

/// The drops of the segments, on their way through packet time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CaptureDrops {
    /// The sum of all that have begun.
    begun: DropSum,
    /// Those that have begun and may not have ended.
    under_way: VecDeque<Stretch>,
    /// Those that packet time has not reached, by `from`.
    ahead: VecDeque<Stretch>,
}

impl CaptureDrops {
    /// Adds the drops of a segment at whose beginning packet time is `clock`. If that is ahead of
    /// the segment's own times, as after a clock was set back, they are moved as far as its packets
    /// are. So no drop counts for a call that was over when its segment began, and it makes no
    /// difference when a segment becomes known.
    pub(super) fn add(&mut self, drops: &SegmentDrops, clock: Clock) {
        let moved_ns = clock.saturating_sub(ns(drops.from_us()));
        let at = |us: u64| ns(us).saturating_add(moved_ns);
        self.insert(Stretch {
            from: at(drops.from_us()),
            until: at(drops.until_us()),
            adds: DropSum {
                packets: 0,
                statements: 1,
            },
        });
        for drop in drops.drops() {
            self.insert(Stretch {
                from: at(drop.from_us),
                until: at(drop.until_us),
                adds: DropSum {
                    packets: drop.packets,
                    // A drop may outlast its segment, and is said all the same.
                    statements: 1,
                },
            });
        }
    }

    fn insert(&mut self, stretch: Stretch) {
        let place = self
            .ahead
            .partition_point(|other| other.from <= stretch.from);
        self.ahead.insert(place, stretch);
        self.ahead.truncate(MAX_AHEAD);
    }

    /// The sum of what has begun before `clock`, which does not go back. A call that ends then
    /// takes it.
    pub(super) fn until(&mut self, clock: Clock) -> DropSum {
        while let Some(stretch) = self.ahead.pop_front_if(|ahead| ahead.from < clock) {
            self.begun = self.begun.plus(stretch.adds);
            self.under_way.push_back(stretch);
            if self.under_way.len() > MAX_UNDER_WAY {
                self.under_way.pop_front();
            }
        }
        if !self.under_way.is_empty() {
            self.under_way.retain(|stretch| stretch.until >= clock);
        }
        self.begun
    }

    /// The sum of what has ended before `clock`. A call that begins then takes it.
    pub(super) fn ended_before(&mut self, clock: Clock) -> DropSum {
        let begun = self.until(clock);
        let under_way = self.under_way.iter();
        begun.minus(under_way.fold(DropSum::default(), |sum, stretch| sum.plus(stretch.adds)))
    }
}

fn ns(us: u64) -> Clock {
    us.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::segment_drops::{DropCauses, Dropped};

    fn segment(from_us: u64, until_us: u64, drops: &[(u64, u64, u64)]) -> SegmentDrops {
        let drop = |&(from_us, until_us, packets)| {
            let causes = DropCauses {
                kernel: packets,
                ..DropCauses::default()
            };
            (
                Dropped {
                    from_us,
                    until_us,
                    packets,
                },
                causes,
            )
        };
        SegmentDrops::new(from_us, until_us, drops.iter().map(drop))
    }

    /// What a call from `open` to `over` gets, in microseconds of packet time.
    fn of_call(drops: &mut CaptureDrops, open: u64, over: u64) -> Option<u64> {
        let at_open = drops.ended_before(ns(open));
        drops.until(ns(over)).since(at_open)
    }

    #[test]
    fn a_call_gets_the_drops_that_overlap_it() {
        for (open, over, want) in [
            (10, 20, None),
            (10, 100, None),
            (10, 101, Some(0)),
            (110, 140, Some(0)),
            (110, 151, Some(7)),
            (160, 170, Some(7)),
            (170, 170, Some(7)),
            (171, 180, Some(0)),
            (10, 300, Some(9)),
            (200, 300, Some(2)),
            (260, 300, Some(2)),
            (261, 300, None),
        ] {
            let mut drops = CaptureDrops::default();
            drops.add(&segment(100, 200, &[(150, 170, 7), (195, 260, 2)]), 0);
            assert_eq!(of_call(&mut drops, open, over), want, "{open} {over}");
        }
    }

    #[test]
    fn capture_points_add_up() {
        let mut drops = CaptureDrops::default();
        drops.add(&segment(100, 200, &[(150, 170, 7)]), 0);
        drops.add(&segment(90, 210, &[(140, 155, 2)]), 0);
        assert_eq!(of_call(&mut drops, 120, 190), Some(9));
    }

    #[test]
    fn drops_move_with_the_packets_of_a_clock_that_was_set_back() {
        let mut drops = CaptureDrops::default();
        drops.add(&segment(100, 200, &[(150, 170, 7)]), ns(1000));
        assert_eq!(drops.until(ns(1000)).since(DropSum::default()), None);
        assert_eq!(of_call(&mut drops, 1010, 1050), Some(0));
        assert_eq!(of_call(&mut drops, 1051, 1090), Some(7));
    }

    #[test]
    fn memory_has_limits() {
        let mut drops = CaptureDrops::default();
        let far = segment(1 << 50, u64::MAX / 2000, &[(1 << 50, u64::MAX / 2000, 1)]);
        (0..MAX_AHEAD).for_each(|_| drops.add(&far, 0));
        assert_eq!(drops.ahead.len(), MAX_AHEAD);
        let sum = drops.until(Clock::MAX);
        assert_eq!(
            (sum.packets, sum.statements),
            (MAX_AHEAD as u64 / 2, MAX_AHEAD as u64)
        );
        assert!(drops.under_way.len() <= MAX_UNDER_WAY);
    }

    proptest! {
        /// The sums agree with a comparison of each drop with each call, whenever segments become
        /// known before their packets are read.
        #[test]
        fn a_call_gets_all_that_overlaps_it_and_nothing_else(
            segments in proptest::collection::vec((1u64..50, proptest::collection::vec((0u64..60, 0u64..80, 1u64..100), 0..4)), 0..8),
            calls in proptest::collection::vec((0u64..400, 0u64..200), 1..8),
            ahead in 0usize..8,
        ) {
            let mut start = 0u64;
            let known: Vec<SegmentDrops> = segments.iter().map(|(len, drops)| {
                let (from, until) = (start, start + len);
                start = until;
                let drops: Vec<_> = drops.iter().map(|(at, long, packets)| (from + at, from + at + long, *packets)).collect();
                segment(from, until, &drops)
            }).collect();
            let mut want = Vec::new();
            let mut events = Vec::new();
            for (number, (open, len)) in calls.iter().enumerate() {
                let over = open + len;
                let overlaps = |from: u64, until: u64| from < over && until >= *open;
                let says = known.iter().any(|known| overlaps(known.from_us(), known.until_us()));
                let drops = known.iter().flat_map(SegmentDrops::drops);
                let packets: u64 = drops.clone().filter(|drop| overlaps(drop.from_us, drop.until_us)).map(|drop| drop.packets).sum();
                // A drop may outlast its segment.
                let says = says || drops.filter(|drop| overlaps(drop.from_us, drop.until_us)).count() > 0;
                want.push(says.then_some(packets));
                events.push((*open, 0, number));
                events.push((over, 1, number));
            }
            events.sort_unstable();
            let mut drops = CaptureDrops::default();
            let mut next = known.iter().enumerate().peekable();
            let (mut at_open, mut got) = (vec![DropSum::default(); calls.len()], vec![None; calls.len()]);
            for (at, kind, number) in events {
                // A segment is known when its first packet is read, or some segments earlier.
                while let Some((_, segment)) = next.next_if(|(index, segment)| *index < ahead || segment.from_us() <= at) {
                    drops.add(segment, 0);
                }
                if kind == 0 {
                    at_open[number] = drops.ended_before(ns(at));
                } else {
                    got[number] = drops.until(ns(at)).since(at_open[number]);
                }
            }
            prop_assert_eq!(got, want);
        }
    }
}
