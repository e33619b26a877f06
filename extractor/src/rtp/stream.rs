//! One RTP stream: SSRC, source and destination, and its figures.

use super::{Header, Jitter, Sequence};
use crate::{
    packet::Endpoint,
    sdp::{Format, FormatKind},
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

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
    /// What they held, by payload type, in the order in which those came.
    payloads: SmallVec<[Payload; 2]>,
}

/// Packets of a stream with one payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// RFC 3550, 5.1: 0 to 127.
    pub payload_type: u8,
    /// How many there are.
    pub packets: u64,
    /// What it stands for, as far as that was known when the last one came.
    pub format: Option<Format>,
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
            payloads: SmallVec::new(),
        };
        stream.push_payload(header, arrival_ns, format);
        stream
    }

    /// Takes in the next packet, which came at `arrival_ns` (since 1970).
    #[inline]
    pub fn push(&mut self, header: &Header, arrival_ns: u64, format: Option<Format>) {
        self.sequence.push(header.sequence);
        self.arrivals.push(arrival_ns);
        self.push_payload(header, arrival_ns, format);
    }

    /// What the stream is: the payload type of most of its packets, events and comfort noise only if there is nothing else.
    #[must_use]
    pub fn payload(&self) -> Option<Payload> {
        let is_beside = |format: Format| matches!(format.kind, FormatKind::TelephoneEvent | FormatKind::ComfortNoise);
        // Of several the first: the last maximum of the list turned round.
        self.payloads.iter().rev().max_by_key(|payload| (!payload.format.is_some_and(is_beside), payload.packets)).copied()
    }

    #[inline]
    fn push_payload(&mut self, header: &Header, arrival_ns: u64, format: Option<Format>) {
        match self.payloads.iter_mut().find(|payload| payload.payload_type == header.payload_type) {
            Some(payload) => {
                payload.packets = payload.packets.saturating_add(1);
                payload.format = format;
            }
            // No more than there are payload types.
            None => self.payloads.push(Payload { payload_type: header.payload_type, packets: 1, format }),
        }
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
    /// When the first of them came, and the last, in nanoseconds since 1970.
    pub first_ns: u64,
    /// See `first_ns`.
    pub last_ns: u64,
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
    use crate::sdp::{Codec, format_of_static};

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
        let format = |kind| Some(Format { payload_type: 0, clock_rate: 8000, kind, codec: Codec::default() });
        let end = Endpoint::v4([192, 0, 2, 1], 4000);
        let mut stream = Stream::new(&header(0), end, end, 0, format(FormatKind::Sampled));
        stream.push(&header(9_999), 7_000_000, format(FormatKind::TelephoneEvent));
        stream.push(&header(9_999), 8_000_000, format(FormatKind::ComfortNoise));
        stream.push(&header(9_999), 9_000_000, None);
        stream.push(&header(160), 20_000_000, format(FormatKind::Sampled));
        assert!(stream.jitter.ms().abs() < 1e-9);
    }

    #[test]
    fn a_stream_is_what_most_of_its_packets_are() {
        let end = Endpoint::v4([192, 0, 2, 1], 4000);
        let header = |payload_type, sequence| Header { payload_type, sequence, timestamp: 0, ssrc: 1 };
        let event = Format { payload_type: 101, clock_rate: 8000, kind: FormatKind::TelephoneEvent, codec: Codec::default() };
        let mut stream = Stream::new(&header(101, 1), end, end, 0, Some(event));
        assert_eq!(stream.payload().unwrap().payload_type, 101, "nothing else");
        stream.push(&header(101, 2), 0, Some(event));
        stream.push(&header(8, 3), 0, format_of_static(8));
        assert_eq!(stream.payload().unwrap().payload_type, 8, "events are beside it");
        stream.push(&header(0, 4), 0, format_of_static(0));
        assert_eq!(stream.payload().unwrap().payload_type, 8, "the first of as many");
        stream.push(&header(0, 5), 0, format_of_static(0));
        let payload = stream.payload().unwrap();
        assert_eq!((payload.payload_type, payload.packets), (0, 2));
        assert_eq!(payload.format.unwrap().codec.name(), b"PCMU");
    }
}
