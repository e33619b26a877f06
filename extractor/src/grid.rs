//! Equal intervals of packet time, in which series count.

use serde::{Deserialize, Serialize};

use crate::moment::Clock;

/// The length of an interval at first, in nanoseconds.
const FIRST_LENGTH_NS: u64 = 5_000_000_000;

/// Intervals of five seconds since 1970, UTC. A series that has too many doubles their length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// The number of times that the length has doubled.
    doublings: u8,
}

impl Grid {
    /// The length of an interval, in nanoseconds.
    #[must_use]
    pub fn length_ns(self) -> u64 {
        FIRST_LENGTH_NS
            .checked_shl(self.doublings.into())
            .unwrap_or(u64::MAX)
    }

    /// The number of the interval at `now`: 32 bits last until the year 2650.
    #[must_use]
    pub fn number(self, now: Clock) -> u32 {
        let number = (now / FIRST_LENGTH_NS).checked_shr(self.doublings.into());
        u32::try_from(number.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// The beginning of an interval, in nanoseconds since 1970.
    #[must_use]
    pub fn start_ns(self, number: u32) -> u64 {
        u64::from(number).saturating_mul(self.length_ns())
    }

    /// Doubles the length: an interval's number is half of what it was.
    pub fn double(&mut self) {
        self.doublings = self.doublings.saturating_add(1);
    }
}
