//! Reports to the service manager's watchdog, if it has one.

use std::time::{Duration, Instant};

use shared::service;

/// The shortest interval of reports.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(10);

/// Reports to the service manager's watchdog, if it has one.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// The interval of reports; `None` without a watchdog.
    pub(super) every: Option<Duration>,
    last: Option<Instant>,
}

impl Watchdog {
    /// The watchdog that the service manager has set for this process.
    pub(crate) fn of_process() -> Self {
        Self::new(service::watchdog())
    }

    fn new(every: Option<Duration>) -> Self {
        Self {
            every: every.map(|every| every.max(SHORTEST_WATCHDOG)),
            last: None,
        }
    }

    pub(crate) fn tell(&mut self, now: Instant) {
        if self.is_due(now) {
            service::alive();
        }
    }

    /// Returns true if a report is due; the next one is due an interval later.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.every.is_some_and(|every| {
            self.last
                .is_none_or(|last| now.saturating_duration_since(last) >= every)
        });
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_told_in_time_and_not_more_often() {
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(10)));
        let mut is_due = |seconds| watchdog.is_due(begun + Duration::from_secs(seconds));
        assert_eq!(
            [0, 9, 10, 11, 19, 25].map(&mut is_due),
            [true, false, true, false, false, true]
        );
        assert!(!Watchdog::new(None).is_due(begun));
        assert_eq!(
            Watchdog::new(Some(Duration::ZERO)).every,
            Some(SHORTEST_WATCHDOG)
        );
    }
}
