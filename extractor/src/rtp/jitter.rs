//! Interarrival jitter: RFC 3550, 6.4.1 and A.8.

use serde::{Deserialize, Serialize};

use super::stream::delta_ns;

/// The running value J: `J(i) = J(i-1) + (|D(i-1,i)| - J(i-1)) / 16`, where D is the difference
/// between the spacing of two packets on arrival and that of their timestamps. Stored in seconds,
/// because the clock rate of a stream may change.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Jitter {
    seconds: f64,
    max_seconds: f64,
    /// The sum of the values after each packet that could be compared with the one before.
    sum_seconds: f64,
    compared: u64,
    /// J without leaps: see [`Jitter::steady_mean_ms`].
    steady_seconds: f64,
    steady_sum_seconds: f64,
    steadily_compared: u64,
    before: Option<Before>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Before {
    arrival_ns: u64,
    timestamp: u32,
    payload_type: u8,
    clock_rate: u32,
}

impl Before {
    /// D: the difference between the spacing on arrival and that of the timestamps, in seconds.
    fn difference(&self, arrival_ns: u64, timestamp: u32, clock_rate: u32) -> f64 {
        // Far below the 104 days that a double holds exactly in nanoseconds.
        let arrived = delta_ns(self.arrival_ns, arrival_ns) as f64 / 1e9;
        let sent =
            f64::from(timestamp.wrapping_sub(self.timestamp).cast_signed()) / f64::from(clock_rate);
        (arrived - sent).abs()
    }
}

impl Jitter {
    /// Adds a packet, in the order of arrival. A packet without a clock rate is ignored. A packet
    /// of another payload type with another clock rate cannot be compared with the one before: it
    /// only starts the next comparison.
    ///
    /// If the clock rate of a payload type changes (RFC 3264, 8.3.2, forbids it), the former rate
    /// stays in use as long as it fits better, because senders need some packets to switch.
    #[inline]
    pub fn push(
        &mut self,
        arrival_ns: u64,
        timestamp: u32,
        payload_type: u8,
        clock_rate: Option<u32>,
    ) {
        let Some(clock_rate) = clock_rate else { return };
        let now = Before {
            arrival_ns,
            timestamp,
            payload_type,
            clock_rate,
        };
        match &mut self.before {
            // Nearly always.
            Some(before) if before.clock_rate == clock_rate => {
                let difference = before.difference(arrival_ns, timestamp, clock_rate);
                *before = now;
                self.compare(difference);
            }
            before => {
                if let Some(before) = before.replace(now) {
                    self.compare_clocks(before, now);
                }
            }
        }
    }

    /// Compares two packets with different clock rates.
    #[cold]
    fn compare_clocks(&mut self, before: Before, now: Before) {
        if before.payload_type != now.payload_type {
            return;
        }
        let (arrival_ns, timestamp) = (now.arrival_ns, now.timestamp);
        let as_before = before.difference(arrival_ns, timestamp, before.clock_rate);
        if as_before <= before.difference(arrival_ns, timestamp, now.clock_rate) {
            self.before = Some(Before {
                clock_rate: before.clock_rate,
                ..now
            });
            self.compare(as_before);
        }
    }

    #[inline]
    fn compare(&mut self, difference: f64) {
        self.seconds += (difference - self.seconds) / 16.0;
        self.max_seconds = self.max_seconds.max(self.seconds);
        self.sum_seconds += self.seconds;
        self.compared = self.compared.saturating_add(1);
        if difference < LEAP_SECONDS {
            self.steady_seconds += (difference - self.steady_seconds) / 16.0;
            self.steady_sum_seconds += self.steady_seconds;
            self.steadily_compared = self.steadily_compared.saturating_add(1);
        }
    }

    /// The current value, in milliseconds.
    #[must_use]
    pub fn ms(&self) -> f64 {
        self.seconds * 1e3
    }

    /// The highest value, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        self.max_seconds * 1e3
    }

    /// The mean of the values after each packet that was compared with the one before, in
    /// milliseconds.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        mean_ms(self.sum_seconds, self.compared)
    }

    /// The current value in milliseconds, without leaps: see [`Jitter::steady_mean_ms`].
    #[must_use]
    pub fn steady_ms(&self) -> f64 {
        self.steady_seconds * 1e3
    }

    /// The same mean without packets whose timestamp or arrival leaps by a second or more. Such a
    /// leap is another source, a pause or a damaged timestamp, not variation that the buffer of a
    /// receiver absorbs.
    #[must_use]
    pub fn steady_mean_ms(&self) -> f64 {
        mean_ms(self.steady_sum_seconds, self.steadily_compared)
    }
}

/// See [`Jitter::steady_mean_ms`].
const LEAP_SECONDS: f64 = 1.0;

fn mean_ms(sum_seconds: f64, count: u64) -> f64 {
    if count == 0 {
        0.0
    } else {
        sum_seconds * 1e3 / count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calculated by hand for 8000 Hz and packets of 160 units sent every 20 ms: arrivals 0, 20,
    /// 45, 60, 85 ms; |D| = 0, 5, 5, 5 ms; J = 0, 0.3125, 0.60546875, 0.880126953125.
    #[test]
    fn a_8_by_hand() {
        let mut jitter = Jitter::default();
        let mut values = Vec::new();
        for (packet, arrival_ms) in [0u64, 20, 45, 60, 85].into_iter().enumerate() {
            jitter.push(arrival_ms * 1_000_000, packet as u32 * 160, 8, Some(8000));
            values.push(jitter.ms());
        }
        let want = [0.0, 0.0, 0.3125, 0.605_468_75, 0.880_126_953_125];
        assert!(
            values
                .iter()
                .zip(want)
                .all(|(got, want)| (got - want).abs() < 1e-9),
            "{values:?}"
        );
        jitter.push(105_000_000, 5 * 160, 8, Some(8000));
        let now = 0.880_126_953_125 * 15.0 / 16.0;
        assert!((jitter.ms() - now).abs() < 1e-9 && (jitter.max_ms() - want[4]).abs() < 1e-9);
        assert!((jitter.mean_ms() - (want.iter().sum::<f64>() + now) / 5.0).abs() < 1e-9);
        assert!(Jitter::default().mean_ms() < 1e-9);
    }

    #[test]
    fn a_leap_is_no_unsteadiness() {
        let mut jitter = Jitter::default();
        for (arrival_ms, timestamp) in [(0, 0), (20, 160), (40, 1_000_000), (65, 1_000_160)] {
            jitter.push(arrival_ms * 1_000_000, timestamp, 8, Some(8000));
        }
        assert!(
            jitter.max_ms() > 7_000.0 && jitter.mean_ms() > 1_000.0,
            "A.8 has it so"
        );
        assert!((jitter.steady_mean_ms() - 0.3125 / 2.0).abs() < 1e-9);
    }

    #[test]
    fn timestamps_wrap() {
        let mut jitter = Jitter::default();
        jitter.push(0, u32::MAX - 79, 8, Some(8000));
        jitter.push(20_000_000, 80, 8, Some(8000));
        assert!(jitter.ms().abs() < 1e-9);
    }

    #[test]
    fn packets_without_a_clock_leave_it_alone() {
        let mut jitter = Jitter::default();
        jitter.push(0, 0, 8, Some(8000));
        jitter.push(7_000_000, 9_999, 101, None);
        jitter.push(20_000_000, 160, 8, Some(8000));
        assert!(jitter.ms().abs() < 1e-9);
    }

    #[test]
    fn a_payload_type_keeps_its_clock_until_the_sender_does_what_was_agreed_upon() {
        let mut jitter = Jitter::default();
        for (packet, timestamp, agreed) in [
            (0, 0, 48_000),
            (1, 960, 48_000),
            (2, 1_920, 8_000),
            (3, 2_880, 8_000),
            (4, 3_040, 8_000),
            (5, 3_200, 8_000),
        ] {
            jitter.push(packet * 20_000_000, timestamp, 96, Some(agreed));
        }
        assert!(jitter.max_ms() < 1e-9);
    }

    #[test]
    fn another_clock_starts_anew() {
        let mut jitter = Jitter::default();
        jitter.push(0, 0, 8, Some(8000));
        jitter.push(20_000_000, 1_000_000, 96, Some(48_000));
        assert!(jitter.ms().abs() < 1e-9);
        jitter.push(40_000_000, 1_000_960, 96, Some(48_000));
        assert!(jitter.ms().abs() < 1e-9);
    }
}
