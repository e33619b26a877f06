//! The state of a watch, as a line in the log each minute, and in `systemctl status`.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the clocks, for a line a minute"
)]

use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The interval of the line in the log.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(60);

/// The figures of the current minute.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    since: Instant,
    segments: u64,
    bytes: u64,
    calls_closed: u64,
    newest_packet_ns: Option<u64>,
}

/// The figures of a minute, and the present ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Segments that were processed in the last minute.
    pub segments: u64,
    /// The bytes of these segments.
    pub bytes: u64,
    /// Calls that were closed in the last minute.
    pub calls_closed: u64,
    /// Calls that are open.
    pub open_calls: u64,
    /// The time since the newest packet was captured, if there was one.
    pub newest_packet_age: Option<Duration>,
}

impl Heartbeat {
    /// Begins a minute at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            segments: 0,
            bytes: 0,
            calls_closed: 0,
            newest_packet_ns: None,
        }
    }

    /// Begins a minute.
    #[must_use]
    pub fn begin() -> Self {
        Self::new(Instant::now())
    }

    /// Counts processed segments.
    pub fn note_segments(&mut self, segments: u64, bytes: u64) {
        self.segments = self.segments.saturating_add(segments);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts closed calls.
    pub fn note_calls_closed(&mut self, calls: u64) {
        self.calls_closed = self.calls_closed.saturating_add(calls);
    }

    /// Notes a packet of this time, in nanoseconds since 1970.
    pub fn note_packet(&mut self, time_ns: u64) {
        self.newest_packet_ns = self.newest_packet_ns.max(Some(time_ns));
    }

    /// Logs the figures once a minute. Returns them for `systemctl status`.
    pub fn beat(&mut self, open_calls: u64) -> Option<Beat> {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let beat = self.due(Instant::now(), since_1970, open_calls)?;
        beat.log();
        Some(beat)
    }

    /// The figures, if a minute is over; then a new minute begins.
    fn due(&mut self, now: Instant, since_1970: Duration, open_calls: u64) -> Option<Beat> {
        if now.saturating_duration_since(self.since) < HEARTBEAT_EVERY {
            return None;
        }
        let Self {
            segments,
            bytes,
            calls_closed,
            newest_packet_ns,
            ..
        } = *self;
        *self = Self {
            newest_packet_ns,
            ..Self::new(now)
        };
        let newest_packet_age =
            newest_packet_ns.map(|ns| since_1970.saturating_sub(Duration::from_nanos(ns)));
        Some(Beat {
            segments,
            bytes,
            calls_closed,
            open_calls,
            newest_packet_age,
        })
    }
}

impl Beat {
    fn log(&self) {
        let Self {
            segments,
            bytes,
            calls_closed,
            open_calls,
            newest_packet_age,
        } = self;
        let newest_packet_age_s = newest_packet_age.map(|age| age.as_secs());
        tracing::info!(
            segments,
            bytes,
            calls_closed,
            open_calls,
            newest_packet_age_s,
            "watching"
        );
    }
}

/// The line that `systemctl status` shows.
impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segments,
            bytes,
            calls_closed,
            open_calls,
            newest_packet_age,
        } = self;
        write!(
            f,
            "in the last minute {segments} segments, {bytes} bytes, {calls_closed} calls closed; {open_calls} calls open"
        )?;
        match newest_packet_age {
            Some(age) => write!(f, "; the newest packet is {} s old", age.as_secs()),
            None => f.write_str("; no packet yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_tells_what_happened_since_the_last() {
        let begun = Instant::now();
        let wall = Duration::from_secs(1_700_000_000);
        let mut heartbeat = Heartbeat::new(begun);
        let due = |heartbeat: &mut Heartbeat, seconds| {
            heartbeat.due(begun + Duration::from_secs(seconds), wall, 4)
        };
        let quiet = Beat {
            segments: 0,
            bytes: 0,
            calls_closed: 0,
            open_calls: 4,
            newest_packet_age: None,
        };
        assert_eq!(due(&mut heartbeat, 59), None);
        assert_eq!(due(&mut heartbeat, 60), Some(quiet.clone()));
        heartbeat.note_segments(1, 100);
        heartbeat.note_segments(1, 50);
        heartbeat.note_calls_closed(3);
        heartbeat.note_packet(1_699_999_990_000_000_000);
        heartbeat.note_packet(1_699_999_980_000_000_000);
        assert_eq!(due(&mut heartbeat, 119), None);
        let age = Some(Duration::from_secs(10));
        let busy = Beat {
            segments: 2,
            bytes: 150,
            calls_closed: 3,
            open_calls: 4,
            newest_packet_age: age,
        };
        assert_eq!(due(&mut heartbeat, 125), Some(busy.clone()));
        assert_eq!(
            due(&mut heartbeat, 185),
            Some(Beat {
                newest_packet_age: age,
                ..quiet.clone()
            })
        );
        heartbeat.note_packet(u64::MAX);
        assert_eq!(
            due(&mut heartbeat, 245),
            Some(Beat {
                newest_packet_age: Some(Duration::ZERO),
                ..quiet.clone()
            })
        );
        assert_eq!(
            busy.to_string(),
            "in the last minute 2 segments, 150 bytes, 3 calls closed; 4 calls open; the newest packet is 10 s old"
        );
        assert!(quiet.to_string().ends_with("; no packet yet"));
    }
}
