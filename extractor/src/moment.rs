//! Packet time, and positions in the capture.

use serde::{Deserialize, Serialize};

/// Packet time, in nanoseconds since 1970-01-01T00:00:00Z: the highest capture timestamp so far. It
/// never goes back, even if timestamps do.
pub type Clock = u64;

/// Advances packet time where timestamps stand still.
///
/// Several things wait for packet time: packets are written when no description can claim them any
/// more, calls end by timers, and incomplete messages are given up. In a capture with one timestamp
/// for all packets, or behind a timestamp far ahead of all others, packet time never comes so far,
/// and everything would stay in memory: 16 bytes for each media packet. So if packet time is the
/// same at two marks, which are [`Pace::EVERY`] packets apart, it advances by [`Pace::STEP_NS`] at
/// the second mark. A clock that works does not show that many packets at one instant, so usual
/// captures are not changed.
///
/// Only packets that the index keeps are counted, so chunks, windows and inputs make no difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The number of packets since the last mark.
    since_mark: u64,
    /// Packet time at the last mark.
    at_mark: Option<Clock>,
}

impl Pace {
    /// The number of packets between two marks: their moments take 16 MiB.
    pub const EVERY: u64 = 1 << 20;

    /// Ten seconds: longer than the limit for incomplete messages, and than the linger after a BYE.
    pub const STEP_NS: u64 = 10_000_000_000;

    /// Counts `coming` packets, up to the next mark if it is among them. Returns the number of
    /// packets up to that mark, including it.
    pub fn next_mark(&mut self, coming: u64, every: u64) -> Option<u64> {
        let wanted = every.saturating_sub(self.since_mark);
        if wanted > coming {
            self.since_mark = self.since_mark.saturating_add(coming);
            return None;
        }
        self.since_mark = 0;
        Some(wanted)
    }

    /// Passes a mark at packet time `clock`. Returns the new packet time if it has stood still.
    pub fn mark(&mut self, clock: Clock) -> Option<Clock> {
        let stands_still = self.at_mark == Some(clock);
        let next = stands_still.then(|| clock.saturating_add(Self::STEP_NS));
        self.at_mark = next.or(Some(clock));
        next
    }
}

/// The position of a record: the number of its input, and the offset in it.
///
/// Positions sort in capture order: inputs are numbered in the order in which they are read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position(u64);

/// An offset up to 4 TiB leaves 22 bits for the input number; after four million inputs, numbers
/// start again.
const OFFSET_BITS: u32 = 42;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// The most inputs that one run can number.
pub const MAX_INPUTS: usize = 1 << (u64::BITS - OFFSET_BITS);

impl Position {
    /// The position `offset` bytes into the input with this number.
    #[must_use]
    #[inline]
    pub fn new(input: usize, offset: usize) -> Self {
        Self(((input as u64) << OFFSET_BITS) | (offset as u64 & OFFSET_MASK))
    }

    /// The position as one number, which sorts alike.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The position for a number from [`Self::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The number of the input.
    #[must_use]
    #[inline]
    pub fn input(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    /// The offset in the input, in bytes.
    #[must_use]
    #[inline]
    pub fn offset(self) -> usize {
        (self.0 & OFFSET_MASK) as usize
    }
}

/// A point in the capture: packet time, and position.
///
/// Both only grow from record to record, so moments compare by time first. The instant at which a
/// timer fires has no record: it comes before every record of that time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// Packet time.
    pub clock: Clock,
    /// The position of the record.
    pub position: Position,
}

impl Moment {
    /// The end of all captures.
    pub const NEVER: Self = Self {
        clock: u64::MAX,
        position: Position(u64::MAX),
    };

    /// The instant at which packet time reaches `clock`.
    #[must_use]
    pub fn at(clock: Clock) -> Self {
        Self {
            clock,
            position: Position(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_sort_by_input_then_offset() {
        let far = Position::new(0, 1 << 41);
        assert!(far < Position::new(1, 0));
        assert_eq!((far.input(), far.offset()), (0, 1 << 41));
        let last = Position::new(MAX_INPUTS - 1, 7);
        assert_eq!((last.input(), last.offset()), (MAX_INPUTS - 1, 7));
    }

    #[test]
    fn packet_time_that_stands_still_goes_on() {
        let mut pace = Pace::default();
        assert_eq!(
            [
                pace.next_mark(3, 4),
                pace.next_mark(0, 4),
                pace.next_mark(9, 4),
                pace.next_mark(8, 4)
            ],
            [None, None, Some(1), Some(4)]
        );
        assert_eq!(
            [pace.mark(5), pace.mark(6), pace.mark(6)],
            [None, None, Some(6 + Pace::STEP_NS)]
        );
        assert_eq!(
            pace.mark(6 + Pace::STEP_NS),
            Some(6 + 2 * Pace::STEP_NS),
            "and on"
        );
        assert_eq!(
            pace.mark(7 + 2 * Pace::STEP_NS),
            None,
            "until timestamps are further"
        );
        assert_eq!(
            [pace.mark(Clock::MAX), pace.mark(Clock::MAX)],
            [None, Some(Clock::MAX)]
        );
    }

    #[test]
    fn a_timer_fires_before_the_packets_of_its_time() {
        assert!(
            Moment::at(5)
                <= Moment {
                    clock: 5,
                    position: Position::new(0, 0)
                }
        );
        assert!(
            Moment {
                clock: 4,
                position: Position::new(9, 9)
            } < Moment::at(5)
        );
    }
}
