//! The clocks: the wall clock, which stamps packets and may be set, and the monotonic clock.
#![allow(clippy::disallowed_methods, reason = "a door: the clocks")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns the wall clock in nanoseconds since 1970: the time of packets.
pub(crate) fn wall_ns() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the monotonic time: measured durations do not depend on the wall clock.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// A timer for periodic work.
#[derive(Debug)]
pub(crate) struct Pace {
    every: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// Due at once, and then every `every`.
    pub(crate) fn at_once(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Due for the first time after `every`.
    pub(crate) fn after(every: Duration) -> Self {
        Self {
            every,
            last: Some(monotonic()),
        }
    }

    /// Returns true when the work is due, and starts the next period.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= self.every);
        if is_due {
            self.last = Some(monotonic());
        }
        is_due
    }
}
