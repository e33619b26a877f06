//! Packet time, and places in the capture.

use serde::{Deserialize, Serialize};

/// Packet time: nanoseconds since 1970-01-01T00:00:00Z, as the highest capture timestamp so far says.
/// It never goes back, whatever the timestamps do.
pub type Clock = u64;

/// Timestamps go back, but hardly by more than an hour: one after which the next goes back further is damaged. It
/// would send packet time into a future in which all calls have timed out.
const MAX_BACK_NS: u64 = 3_600_000_000_000;

/// Whether the timestamp of a record is contradicted by that of the next one, so that packet time does not follow it.
#[must_use]
#[inline]
pub fn is_odd(timestamp_ns: u64, next_ns: Option<u64>) -> bool {
    next_ns.is_some_and(|next_ns| next_ns.saturating_add(MAX_BACK_NS) < timestamp_ns)
}

/// Where a record lies: in which of the inputs, and at which offset.
///
/// Positions sort in capture order: inputs are numbered in the order in which they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(u64);

/// 4 TiB of offset leave room for four million inputs: a segment every 13 seconds for 20 months, without ever a run with `--final`.
const OFFSET_BITS: u32 = 42;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// The most inputs that one run can number.
pub const MAX_INPUTS: usize = 1 << (u64::BITS - OFFSET_BITS);

impl Position {
    /// The place `offset` bytes into the input of this number.
    #[must_use]
    #[inline]
    pub fn new(input: usize, offset: usize) -> Self {
        Self(((input as u64) << OFFSET_BITS) | (offset as u64 & OFFSET_MASK))
    }

    /// As one number, which sorts likewise.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Of such a number.
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

    /// The offset in it, in bytes.
    #[must_use]
    #[inline]
    pub fn offset(self) -> usize {
        (self.0 & OFFSET_MASK) as usize
    }
}

/// A point in the capture: what packet time it was, and how far it had been read.
///
/// Both only grow from record to record, so moments compare by time first. The instant at which a
/// timer fires has no record of its own: it stands before every record of that time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// Packet time.
    pub clock: Clock,
    /// The record.
    pub position: Position,
}

impl Moment {
    /// The end of all captures.
    pub const NEVER: Self = Self { clock: u64::MAX, position: Position(u64::MAX) };

    /// The instant at which packet time reaches `clock`.
    #[must_use]
    pub fn at(clock: Clock) -> Self {
        Self { clock, position: Position(0) }
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
    fn a_timer_fires_before_the_packets_of_its_time() {
        assert!(Moment::at(5) <= Moment { clock: 5, position: Position::new(0, 0) });
        assert!(Moment { clock: 4, position: Position::new(9, 9) } < Moment::at(5));
    }
}
