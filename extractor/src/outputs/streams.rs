//! The RTP streams of one call and their statistics.

use serde::{Deserialize, Serialize};

use crate::{
    calls::{Descriptions, FlowNumber, FlowTable, KnownStatements},
    counts::CallCounts,
    dtmf::{Digits, Event},
    events::{FlowKey, Table},
    moment::Clock,
    packet::{Datagram, Packet},
    rtcp::{FarEnd, Reports, is_rtcp},
    rtp::{Header, MediaClock, Stream},
    sdp::Format,
};

/// The most streams of one call. More are an attack or a mistake; their packets are only counted.
const MAX_STREAMS: usize = 10_000;

/// The RTP streams of one call.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Streams {
    /// Sorted by first packet.
    all: Vec<Stream>,
    by_name: Table<(FlowKey, u32), usize>,
    /// The latest streams, most flows having one: flow, SSRC, index. The lookup in `by_name` takes
    /// five times as long as a comparison with these.
    #[serde(skip)]
    latest: [Option<(FlowNumber, u32, usize)>; 4],
    packets: u64,
    excess_packets: u64,
    /// True when each stream has a series.
    keeps_series: bool,
    reports: Reports,
    digits: Digits,
}

/// The flow of a packet. The number is stored here; the endpoints are in the flow table.
#[derive(Clone, Copy)]
pub(super) struct MediaFlow<'a> {
    pub(super) number: FlowNumber,
    pub(super) flows: &'a FlowTable,
}

impl MediaFlow<'_> {
    /// The key of a stream without its network, because some taps see its packets with and without
    /// a VLAN tag.
    fn key(self) -> Option<FlowKey> {
        let FlowKey {
            source,
            destination,
            ..
        } = self.flows.key(self.number)?;
        Some(FlowKey::between(source, destination))
    }
}

impl Streams {
    /// No streams yet. With `keeps_series`, each will have a series.
    pub(super) fn new(keeps_series: bool) -> Self {
        Self {
            keeps_series,
            ..Self::default()
        }
    }

    /// All streams, by first packet.
    pub(super) fn all(&self) -> &[Stream] {
        &self.all
    }

    /// What RTCP says about each stream, in the order of [`Streams::all`].
    pub(super) fn far_ends(&self) -> Vec<FarEnd<'_>> {
        let key = |stream: &Stream| {
            let flow = FlowKey::between(stream.source, stream.destination);
            (stream.ssrc, flow, stream.arrivals.packets)
        };
        self.reports.matched(self.all.iter().map(key))
    }

    /// The digits in RTP.
    pub(super) fn digits(&self) -> &Digits {
        &self.digits
    }

    /// The number of RTP packets.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Adds the statistics to those of the run.
    pub(super) fn add_to(&self, counts: &mut CallCounts) {
        let lost = self.all.iter().fold(0u64, |sum, stream| {
            sum.saturating_add(stream.sequence.totals().lost)
        });
        for (count, more) in [
            (&mut counts.streams, self.all.len() as u64),
            (&mut counts.rtp_packets, self.packets),
            (&mut counts.lost_packets, lost),
            (&mut counts.excess_rtp_packets, self.excess_packets),
            (&mut counts.unread_rtcp, self.reports.unread()),
        ] {
            *count = count.saturating_add(more);
        }
    }

    /// Forgets the flow numbers, which may change with the window.
    pub(super) fn forget_flows(&mut self) {
        self.latest = [None; 4];
    }

    /// Adds a packet to the statistics of its stream if it is RTP, and reads it if it is RTCP. It
    /// arrived at `arrival_ns` (since 1970) and packet time `now`.
    pub(super) fn measure(
        &mut self,
        packet: &Packet<'_>,
        arrival_ns: u64,
        now: Clock,
        flow: MediaFlow<'_>,
        descriptions: &Descriptions,
        known: KnownStatements,
    ) {
        let (Packet::Udp(datagram) | Packet::Told(_, datagram)) = packet else {
            return;
        };
        let Some(header) = Header::parse(datagram.payload, datagram.wire_len) else {
            if is_rtcp(datagram.payload) {
                self.read_reports(datagram, arrival_ns, flow, descriptions, known);
            }
            return;
        };
        let clock = || clock_of(header.payload_type, flow.key(), descriptions, known);
        let is_event = match self.stream(flow, header.ssrc) {
            Some(index) => self.all.get_mut(index).is_some_and(|stream| {
                stream
                    .push(&header, arrival_ns, now, known.to_bits(), clock)
                    .is_event
            }),
            None if self.all.len() < MAX_STREAMS => {
                let clock = clock();
                self.begin_stream(&header, flow, arrival_ns, now, clock);
                clock.is_event
            }
            None => {
                self.excess_packets = self.excess_packets.saturating_add(1);
                return;
            }
        };
        self.packets = self.packets.saturating_add(1);
        if is_event {
            self.read_event(datagram, &header, arrival_ns);
        }
    }

    /// Reads a telephone-event.
    #[cold]
    fn read_event(&mut self, datagram: &Datagram<'_>, header: &Header, arrival_ns: u64) {
        let payload = Header::len(datagram.payload, datagram.wire_len)
            .and_then(|len| datagram.payload.get(len..));
        let has_marker = matches!(datagram.payload, [_, second, ..] if second & 0x80 != 0);
        if let Some(event) = payload.and_then(Event::parse) {
            self.digits
                .add_event(event, header.ssrc, header.timestamp, has_marker, arrival_ns);
        }
    }

    /// Reads RTCP. Encrypted RTCP is only counted, because its headers are plain and the rest is
    /// not (RFC 3711, 3.4).
    #[cold]
    fn read_reports(
        &mut self,
        datagram: &Datagram<'_>,
        arrival_ns: u64,
        flow: MediaFlow<'_>,
        descriptions: &Descriptions,
        known: KnownStatements,
    ) {
        let Some(key) = flow.key() else { return };
        if descriptions.is_secured(key, known) {
            self.reports.add_unread();
        } else {
            self.reports
                .add(datagram.payload, datagram.wire_len, key, arrival_ns);
        }
    }

    /// The index of the stream with this flow and SSRC.
    fn stream(&mut self, flow: MediaFlow<'_>, ssrc: u32) -> Option<usize> {
        let is_it = |(of_flow, of_ssrc, _): &&(FlowNumber, u32, usize)| {
            *of_ssrc == ssrc && *of_flow == flow.number
        };
        if let Some((_, _, index)) = self.latest.iter().flatten().find(is_it) {
            return Some(*index);
        }
        let index = *self.by_name.get(&(flow.key()?, ssrc))?;
        let [first, second, third, _] = self.latest;
        self.latest = [Some((flow.number, ssrc, index)), first, second, third];
        Some(index)
    }

    fn begin_stream(
        &mut self,
        header: &Header,
        flow: MediaFlow<'_>,
        arrival_ns: u64,
        now: Clock,
        clock: MediaClock,
    ) {
        let Some(key) = flow.key() else { return };
        self.by_name.insert((key, header.ssrc), self.all.len());
        let stream = Stream::new(header, key.source, key.destination, arrival_ns, clock);
        self.all.push(if self.keeps_series {
            stream.with_series(now)
        } else {
            stream
        });
    }
}

fn clock_of(
    payload_type: u8,
    flow: Option<FlowKey>,
    descriptions: &Descriptions,
    known: KnownStatements,
) -> MediaClock {
    let format = flow.and_then(|flow| descriptions.format(payload_type, flow, known));
    let is_event = format.as_ref().is_some_and(Format::is_event);
    MediaClock {
        rate: format
            .filter(Format::is_sampled)
            .map(|format| format.clock_rate),
        is_event: is_event && !flow.is_some_and(|flow| descriptions.is_secured(flow, known)),
        known: known.to_bits(),
    }
}
