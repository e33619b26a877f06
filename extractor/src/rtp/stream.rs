//! One RTP stream: SSRC, source and destination, and its figures.

use super::{Header, Jitter, Sequence};
use crate::{
    packet::Endpoint,
    sdp::{Format, FormatKind},
};
use serde::{Deserialize, Serialize};

/// What is kept of a stream while it flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// The stream's name on its way from `source` to `destination`.
    pub ssrc: u32,
    /// Who sends it.
    pub source: Endpoint,
    /// Who receives it.
    pub destination: Endpoint,
    /// Its sequence numbers.
    pub sequence: Sequence,
    /// When its packets came.
    pub arrivals: Arrivals,
    /// How evenly they came.
    pub jitter: Jitter,
}

impl Stream {
    /// A stream whose first packet came at `arrival_ns`.
    #[must_use]
    pub fn new(header: &Header, source: Endpoint, destination: Endpoint, arrival_ns: u64, format: Option<Format>) -> Self {
        let mut stream = Self {
            ssrc: header.ssrc,
            source,
            destination,
            sequence: Sequence::new(header.sequence),
            arrivals: Arrivals::new(arrival_ns),
            jitter: Jitter::default(),
        };
        stream.push_jitter(header, arrival_ns, format);
        stream
    }

    /// Takes in the next packet, which came at `arrival_ns` (since 1970).
    #[inline]
    pub fn push(&mut self, header: &Header, arrival_ns: u64, format: Option<Format>) {
        self.sequence.push(header.sequence);
        self.arrivals.push(arrival_ns);
        self.push_jitter(header, arrival_ns, format);
    }

    /// Events and comfort noise say nothing about jitter, nor does a payload of unknown clock.
    fn push_jitter(&mut self, header: &Header, arrival_ns: u64, format: Option<Format>) {
        if let Some(Format { clock_rate, kind: FormatKind::Sampled, .. }) = format {
            self.jitter.push(arrival_ns, header.timestamp, clock_rate);
        }
    }
}

/// How many packets came, and how far apart. Differences are signed: clocks are set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals {
    /// Packets received, duplicates included.
    pub packets: u64,
    first_ns: u64,
    last_ns: u64,
    max_delta_ns: i64,
    min_delta_ns: i64,
}

impl Arrivals {
    fn new(first_ns: u64) -> Self {
        Self { packets: 1, first_ns, last_ns: first_ns, max_delta_ns: i64::MIN, min_delta_ns: i64::MAX }
    }

    fn push(&mut self, arrival_ns: u64) {
        let delta = clamped(difference(self.last_ns, arrival_ns));
        self.max_delta_ns = self.max_delta_ns.max(delta);
        self.min_delta_ns = self.min_delta_ns.min(delta);
        self.last_ns = arrival_ns;
        self.packets = self.packets.saturating_add(1);
    }

    /// The largest, the smallest and the mean time between two packets that came one after the other,
    /// in nanoseconds; all 0 for a single packet.
    #[must_use]
    pub fn deltas_ns(&self) -> (i64, i64, i64) {
        let gaps = i128::from(self.packets.saturating_sub(1));
        let sum = difference(self.first_ns, self.last_ns);
        match sum.checked_div(gaps) {
            Some(mean) => (self.max_delta_ns, self.min_delta_ns, clamped(mean)),
            None => (0, 0, 0),
        }
    }
}

fn difference(from: u64, to: u64) -> i128 {
    i128::from(to).saturating_sub(from.into())
}

/// Beyond 292 years, as far as damaged timestamps lie apart, there is no more to tell.
fn clamped(ns: i128) -> i64 {
    i64::try_from(ns.clamp(i64::MIN.into(), i64::MAX.into())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_by_hand() {
        let mut arrivals = Arrivals::new(1_000);
        assert_eq!(arrivals.deltas_ns(), (0, 0, 0));
        for at in [21_000, 61_000, 60_000] {
            arrivals.push(at);
        }
        assert_eq!(arrivals.deltas_ns(), (40_000, -1_000, 19_666));
        assert_eq!(arrivals.packets, 4);
    }

    #[test]
    fn events_and_noise_leave_jitter_alone() {
        let header = |timestamp| Header { payload_type: 0, sequence: 1, timestamp, ssrc: 1 };
        let format = |kind| Some(Format { payload_type: 0, clock_rate: 8000, kind });
        let end = Endpoint::v4([192, 0, 2, 1], 4000);
        let mut stream = Stream::new(&header(0), end, end, 0, format(FormatKind::Sampled));
        stream.push(&header(9_999), 7_000_000, format(FormatKind::TelephoneEvent));
        stream.push(&header(9_999), 8_000_000, format(FormatKind::ComfortNoise));
        stream.push(&header(9_999), 9_000_000, None);
        stream.push(&header(160), 20_000_000, format(FormatKind::Sampled));
        assert!(stream.jitter.ms().abs() < 1e-9);
    }
}
