//! An RTP stream: SSRC, source, destination and statistics.

use super::{Header, Jitter, Measured, Sequence, Series};
use crate::{moment::Clock, packet::Endpoint};
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

/// The statistics of a stream while it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// The SSRC, which identifies the stream between `source` and `destination`.
    pub ssrc: u32,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// Its sequence numbers: loss, order, duplicates.
    pub sequence: Sequence,
    /// Its arrival times.
    pub arrivals: Arrivals,
    /// Its jitter.
    pub jitter: Jitter,
    /// Its payload types, in the order of their first packets.
    payloads: SmallVec<[Payload; 2]>,
    /// The course of its figures, if an output wants it.
    series: Option<Box<Series>>,
}

/// The packets of a stream with one payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// RFC 3550, 5.1: 0 to 127.
    pub payload_type: u8,
    /// The number of packets.
    pub packets: u64,
    /// The clock at the last of these packets.
    pub clock: MediaClock,
}

/// The clock of a payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaClock {
    /// Timestamp units per second. `None` if the format is unknown, or not sent at the pace of its
    /// timestamps.
    pub rate: Option<u32>,
    /// True when the packets are telephone-events (RFC 4733) that can be read.
    pub is_event: bool,
    /// The version of the call's media descriptions; it grows when they say more.
    pub known: u64,
}

impl Stream {
    /// A stream whose first packet arrived at `arrival_ns`.
    #[must_use]
    pub fn new(
        header: &Header,
        source: Endpoint,
        destination: Endpoint,
        arrival_ns: u64,
        clock: MediaClock,
    ) -> Self {
        let mut jitter = Jitter::default();
        jitter.push(
            arrival_ns,
            header.timestamp,
            header.payload_type,
            clock.rate,
        );
        Self {
            ssrc: header.ssrc,
            source,
            destination,
            sequence: Sequence::new(header.sequence),
            arrivals: Arrivals::new(arrival_ns),
            jitter,
            payloads: smallvec![Payload {
                payload_type: header.payload_type,
                packets: 1,
                clock
            }],
            series: None,
        }
    }

    /// The same stream with a series, whose first packet came at packet time `now`.
    #[must_use]
    pub fn with_series(self, now: Clock) -> Self {
        Self {
            series: Some(Box::new(Series::new(now))),
            ..self
        }
    }

    /// The series up to now, if there is one. `codec` and `ptime_ms` are for the MOS.
    #[must_use]
    pub fn measured(&self, codec: Option<&[u8]>, ptime_ms: u32) -> Option<Vec<Measured>> {
        let series = self.series.as_ref()?;
        Some(series.measured(&self.sequence, codec, ptime_ms))
    }

    /// Adds the next packet, which arrived at `arrival_ns` (since 1970) and packet time `now`. It
    /// calls `clock` only when `known` has changed since the last call. Returns the clock of the
    /// packet.
    #[inline]
    pub fn push(
        &mut self,
        header: &Header,
        arrival_ns: u64,
        now: Clock,
        known: u64,
        clock: impl FnOnce() -> MediaClock,
    ) -> MediaClock {
        if let Some(series) = &mut self.series {
            series.push(&mut self.sequence, header.sequence, now);
        } else {
            self.sequence.push(header.sequence);
        }
        self.arrivals.push(arrival_ns);
        let clock = match self
            .payloads
            .iter_mut()
            .find(|payload| payload.payload_type == header.payload_type)
        {
            Some(payload) => {
                payload.packets = payload.packets.saturating_add(1);
                if payload.clock.known != known {
                    payload.clock = clock();
                }
                payload.clock
            }
            None => self.begin_payload(header.payload_type, clock()),
        };
        self.jitter.push(
            arrival_ns,
            header.timestamp,
            header.payload_type,
            clock.rate,
        );
        if let Some(series) = &mut self.series {
            series.add_jitter(self.jitter.steady_ms());
        }
        clock
    }

    /// Adds a payload type; there are at most 128.
    #[cold]
    fn begin_payload(&mut self, payload_type: u8, clock: MediaClock) -> MediaClock {
        self.payloads.push(Payload {
            payload_type,
            packets: 1,
            clock,
        });
        clock
    }

    /// The payload types, in the order of their first packets.
    #[must_use]
    pub fn payloads(&self) -> &[Payload] {
        &self.payloads
    }

    /// The payload type with the most packets, and of several with as many the first. Events and
    /// comfort noise (`is_beside`) count only if there is nothing else.
    #[must_use]
    pub fn payload(&self, is_beside: impl Fn(&Payload) -> bool) -> Option<Payload> {
        // The last maximum of the reversed list is the first of the list.
        self.payloads
            .iter()
            .rev()
            .max_by_key(|payload| (!is_beside(payload), payload.packets))
            .copied()
    }
}

/// The number of packets and the time between them. Differences are signed, because clocks may be
/// set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals {
    /// Packets received, duplicates included.
    pub packets: u64,
    /// The arrival time of the first packet, in nanoseconds since 1970.
    pub first_ns: u64,
    /// The arrival time of the last packet, in nanoseconds since 1970.
    pub last_ns: u64,
    max_delta_ns: i64,
    min_delta_ns: i64,
}

impl Arrivals {
    fn new(first_ns: u64) -> Self {
        Self {
            packets: 1,
            first_ns,
            last_ns: first_ns,
            max_delta_ns: i64::MIN,
            min_delta_ns: i64::MAX,
        }
    }

    #[inline]
    fn push(&mut self, arrival_ns: u64) {
        let delta = delta_ns(self.last_ns, arrival_ns);
        self.max_delta_ns = self.max_delta_ns.max(delta);
        self.min_delta_ns = self.min_delta_ns.min(delta);
        self.last_ns = arrival_ns;
        self.packets = self.packets.saturating_add(1);
    }

    /// The largest, the smallest and the mean time between consecutive packets, in nanoseconds; all
    /// 0 for a single packet.
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

/// The time between two packets, limited to 292 years.
#[inline]
pub(super) fn delta_ns(from: u64, to: u64) -> i64 {
    let (from, to) = (from.cast_signed(), to.cast_signed());
    match to.checked_sub(from) {
        // All times up to the year 2262.
        Some(delta) if from >= 0 && to >= 0 => delta,
        _ => clamped(difference(from.cast_unsigned(), to.cast_unsigned())),
    }
}

fn difference(from: u64, to: u64) -> i128 {
    i128::from(to).saturating_sub(from.into())
}

/// Limits a difference to 292 years, which damaged timestamps may exceed.
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
    fn a_stream_is_what_most_of_its_packets_are() {
        let end = Endpoint::v4([192, 0, 2, 1], 4000);
        let header = |payload_type, sequence| Header {
            payload_type,
            sequence,
            timestamp: 0,
            ssrc: 1,
        };
        let clock = MediaClock {
            rate: None,
            is_event: false,
            known: 1,
        };
        let of_most = |stream: &Stream| {
            stream
                .payload(|payload| payload.payload_type == 101)
                .map(|payload| payload.payload_type)
        };
        let mut stream = Stream::new(&header(101, 1), end, end, 0, clock);
        assert_eq!(of_most(&stream), Some(101), "nothing else");
        stream.push(&header(101, 2), 0, 0, 1, || clock);
        stream.push(&header(8, 3), 0, 0, 1, || clock);
        assert_eq!(of_most(&stream), Some(8), "events are beside it");
        stream.push(&header(0, 4), 0, 0, 1, || clock);
        assert_eq!(of_most(&stream), Some(8), "the first of as many");
        stream.push(&header(0, 5), 0, 0, 1, || clock);
        assert_eq!(of_most(&stream), Some(0));
    }

    #[test]
    fn a_clock_is_asked_for_when_more_is_known() {
        let end = Endpoint::v4([192, 0, 2, 1], 4000);
        let header = |payload_type| Header {
            payload_type,
            sequence: 1,
            timestamp: 0,
            ssrc: 1,
        };
        let mut asked = Vec::new();
        let mut stream = Stream::new(
            &header(0),
            end,
            end,
            0,
            MediaClock {
                rate: Some(8_000),
                is_event: false,
                known: 1,
            },
        );
        for (payload_type, known) in [(0, 1), (96, 1), (0, 1), (96, 2), (0, 2), (96, 2), (0, 1)] {
            stream.push(&header(payload_type), 0, 0, known, || {
                asked.push((payload_type, known));
                MediaClock {
                    rate: None,
                    is_event: false,
                    known,
                }
            });
        }
        assert_eq!(asked, [(96, 1), (96, 2), (0, 2), (0, 1)]);
    }
}
