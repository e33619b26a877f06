//! The clocks: the wall's, which stamps packets and may be set, and the one that only goes forward.
#![allow(clippy::disallowed_methods, reason = "a door: the clocks")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock, in nanoseconds since 1970: the time of packets.
pub(crate) fn wall_ns() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// What is measured does not depend on the wall clock: a clock that is set back holds nothing up.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// The pace of what is done now and then.
#[derive(Debug)]
pub(crate) struct Pace {
    every: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// Due at once, and then whenever `every` has passed.
    pub(crate) fn at_once(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Due for the first time when `every` has passed.
    pub(crate) fn after(every: Duration) -> Self {
        Self {
            every,
            last: Some(monotonic()),
        }
    }

    /// Whether it is due; if so, it has been done.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= self.every);
        if is_due {
            self.last = Some(monotonic());
        }
        is_due
    }
}
