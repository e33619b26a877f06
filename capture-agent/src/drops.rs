//! Dropped packets, until the segment in whose time they were dropped is closed.
//!
//! The thread of the interface notes drops, and assigns them to a segment when that has ended and
//! the counters have been read since. The thread of the disk takes them from [`CountedDrops`] and
//! writes them beside the segment.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use shared::segment_drops::{DropCauses, Dropped, SegmentDrops};

/// Drops that follow each other within this time are one, in nanoseconds: the counters are read each
/// second.
const JOINED_NS: u64 = 1_000_000_000;

/// The most drops that wait for the end of their segment. Neighbours become one where there are
/// more, as in a segment of many hours.
const MAX_WAITING: usize = 4096;

/// The stretch of time that a segment covers, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The number of the segment in this run, from 1; 0 if its drops are not known.
    pub(crate) number: u64,
    pub(crate) from_ns: u64,
    /// The first time after it; `None` if all drops so far are its own.
    pub(crate) until_ns: Option<u64>,
    /// The last time that is known to be its own, of a packet or of a moment without packets.
    pub(crate) latest_ns: u64,
}

/// Drops whose segment has not ended.
#[derive(Debug, Default)]
pub(crate) struct WaitingDrops {
    drops: Vec<(Dropped, DropCauses)>,
    /// Segments that have ended, until the counters have been read.
    ended: Vec<Stretch>,
}

/// The drops of segments that have ended, by the number of the segment.
#[derive(Debug, Default)]
pub(crate) struct CountedDrops(Mutex<BTreeMap<u64, SegmentDrops>>);

impl WaitingDrops {
    /// Notes packets that were dropped between two times, in nanoseconds since 1970.
    pub(crate) fn add(&mut self, from_ns: u64, until_ns: u64, causes: DropCauses) {
        if causes.packets() == 0 {
            return;
        }
        let (from_us, until_us) = (from_ns / 1000, until_ns.div_ceil(1000));
        match self.drops.last_mut() {
            Some((last, of_last))
                if (last.from_us..=last.from_us.saturating_add(JOINED_NS / 1000))
                    .contains(&until_us)
                    && from_us >= last.from_us =>
            {
                last.until_us = last.until_us.max(until_us);
                of_last.add(&causes);
            }
            _ => self.drops.push((
                Dropped {
                    from_us,
                    until_us,
                    packets: 0,
                },
                causes,
            )),
        }
        if self.drops.len() > MAX_WAITING {
            self.drops = self.drops.chunks(2).filter_map(joined).collect();
        }
    }

    /// Notes that a segment has ended.
    pub(crate) fn end(&mut self, segment: Stretch) {
        self.ended.push(segment);
    }

    /// True when a segment has ended since the counters were read.
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Assigns the drops to the segments that have ended: the counters have just been read.
    pub(crate) fn assign(&mut self, to: &CountedDrops) {
        for Stretch {
            number,
            from_ns,
            until_ns,
            latest_ns,
        } in self.ended.drain(..)
        {
            let is_of_segment = |drop: &Dropped| {
                until_ns.is_none_or(|until_ns| drop.from_us < until_ns.div_ceil(1000))
            };
            let (own, later): (Vec<_>, Vec<_>) = self
                .drops
                .drain(..)
                .partition(|(drop, _)| is_of_segment(drop));
            self.drops = later;
            let after_latest_us = (latest_ns / 1000).saturating_add(1);
            let until_us = until_ns.map_or_else(
                || {
                    let ends_us = own.iter().map(|(drop, _)| drop.until_us);
                    ends_us.fold(after_latest_us, u64::max)
                },
                |until_ns| until_ns.div_ceil(1000),
            );
            to.lock()
                .insert(number, SegmentDrops::new(from_ns / 1000, until_us, own));
        }
    }
}

fn joined(drops: &[(Dropped, DropCauses)]) -> Option<(Dropped, DropCauses)> {
    drops
        .iter()
        .copied()
        .reduce(|(mut sum, mut causes), (drop, of_drop)| {
            sum.from_us = sum.from_us.min(drop.from_us);
            sum.until_us = sum.until_us.max(drop.until_us);
            causes.add(&of_drop);
            (sum, causes)
        })
}

impl CountedDrops {
    /// Takes the drops of a segment; `None` as long as they are not counted.
    pub(crate) fn take(&self, segment: u64) -> Option<SegmentDrops> {
        self.lock().remove(&segment)
    }

    /// True when the drops of this segment are counted.
    pub(crate) fn are_of(&self, segment: u64) -> bool {
        self.lock().contains_key(&segment)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, SegmentDrops>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn kernel(packets: u64) -> DropCauses {
        DropCauses {
            kernel: packets,
            ..DropCauses::default()
        }
    }

    fn segment(number: u64, from_s: u64, until_s: u64) -> Stretch {
        Stretch {
            number,
            from_ns: from_s * S,
            until_ns: Some(until_s * S),
            latest_ns: from_s * S,
        }
    }

    fn of(counted: &CountedDrops, number: u64) -> Vec<(u64, u64, u64)> {
        let drops = counted.take(number).unwrap();
        let of_drop = |drop: &Dropped| (drop.from_us, drop.until_us, drop.packets);
        drops.drops().iter().map(of_drop).collect()
    }

    #[test]
    fn drops_belong_to_the_segment_in_whose_time_they_begin() {
        let (mut waiting, counted) = (WaitingDrops::default(), CountedDrops::default());
        waiting.add(8 * S, 9 * S, kernel(1));
        waiting.add(58 * S, 59 * S, kernel(2));
        waiting.add(59 * S + S / 2, 61 * S, kernel(3));
        waiting.add(61 * S, 62 * S, kernel(4));
        waiting.add(62 * S, 63 * S, kernel(0));
        waiting.end(segment(1, 10, 60));
        assert!(waiting.has_ended() && !counted.are_of(1));
        waiting.assign(&counted);
        assert!(!waiting.has_ended() && counted.are_of(1));
        assert_eq!(
            of(&counted, 1),
            [
                (10_000_000, 10_000_000, 1),
                (58_000_000, 59_000_000, 2),
                (59_500_000, 61_000_000, 3)
            ]
        );
        assert!(counted.take(1).is_none());
        waiting.end(Stretch {
            until_ns: None,
            latest_ns: 75 * S,
            ..segment(2, 70, 0)
        });
        waiting.assign(&counted);
        let last = counted.take(2).unwrap();
        assert_eq!((last.from_us(), last.until_us()), (70_000_000, 75_000_001));
        let drop = last.drops()[0];
        assert_eq!(
            (drop.from_us, drop.until_us, drop.packets),
            (70_000_000, 70_000_000, 4)
        );
    }

    #[test]
    fn many_drops_of_a_moment_are_one() {
        let mut waiting = WaitingDrops::default();
        (0..1000).for_each(|ms| waiting.add(S + ms * 1_000_000, S + ms * 1_000_000, kernel(1)));
        waiting.add(2 * S + 1000, 2 * S + 1000, kernel(1));
        // The clock was set back.
        waiting.add(S / 2, S / 2, kernel(1));
        let packets: Vec<u64> = waiting
            .drops
            .iter()
            .map(|(_, causes)| causes.kernel)
            .collect();
        assert_eq!(packets, [1000, 1, 1]);
    }

    #[test]
    fn memory_has_a_limit_and_no_packet_is_forgotten() {
        let (mut waiting, counted) = (WaitingDrops::default(), CountedDrops::default());
        (0..100_000).for_each(|second| waiting.add(second * S, second * S + S / 2, kernel(1)));
        assert!(waiting.drops.len() <= MAX_WAITING);
        waiting.end(segment(1, 0, 1_000_000));
        waiting.assign(&counted);
        assert_eq!(counted.take(1).unwrap().packets(), 100_000);
    }
}
