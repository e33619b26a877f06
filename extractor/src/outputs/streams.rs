//! The RTP streams of one call and their statistics.

use serde::{Deserialize, Serialize};

use crate::{
    calls::{Descriptions, FlowNumber, FlowTable, KnownStatements},
    counts::CallCounts,
    dtmf::{Digits, Event},
    events::{FlowKey, Table},
    moment::Clock,
    rtcp::{Arrival, FarEnd, Reports, is_rtcp},
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
    latest: [Known; 4],
    packets: u64,
    excess_packets: u64,
    /// True when each stream has a series, and reports of RTCP are kept over time.
    keeps_series: bool,
    reports: Reports,
    digits: Digits,
}

/// A stream that was looked up.
#[derive(Clone, Copy, Debug)]
struct Known {
    flow: FlowNumber,
    ssrc: u32,
    index: usize,
}

impl Default for Known {
    /// No flow has this number.
    fn default() -> Self {
        Self {
            flow: FlowNumber::MAX,
            ssrc: 0,
            index: 0,
        }
    }
}

/// The UDP payload of a packet of a flow, and its arrival.
#[derive(Clone, Copy)]
pub(super) struct Arrived<'a> {
    /// The captured part of the payload.
    pub(super) payload: &'a [u8],
    /// Its length on the wire, in bytes.
    pub(super) wire_len: usize,
    /// In nanoseconds since 1970: as captured, or as a HEP agent gives it.
    pub(super) at_ns: u64,
    /// Packet time.
    pub(super) clock: Clock,
}

/// The flow of a packet. The number is stored here; the endpoints are in the flow table.
#[derive(Clone, Copy)]
pub(super) struct MediaFlow<'a> {
    number: FlowNumber,
    flows: &'a FlowTable,
}

impl<'a> MediaFlow<'a> {
    pub(super) fn new(number: FlowNumber, flows: &'a FlowTable) -> Self {
        Self { number, flows }
    }

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
        self.latest = [Known::default(); 4];
    }

    /// Adds a packet to the statistics of its stream if it is RTP, and reads it if it is RTCP.
    /// Inlined by force: otherwise the call for each packet costs 2 % more instructions in total.
    #[inline(always)]
    pub(super) fn measure(
        &mut self,
        packet: Arrived<'_>,
        flow: MediaFlow<'_>,
        descriptions: &Descriptions,
        known: KnownStatements,
    ) {
        let Some(header) = Header::parse(packet.payload, packet.wire_len) else {
            if is_rtcp(packet.payload) {
                self.read_reports(packet, flow, descriptions, known);
            }
            return;
        };
        let clock = || clock_of(header.payload_type, flow.key(), descriptions, known);
        let is_event = match self.stream(flow, header.ssrc) {
            Some(index) => self.all.get_mut(index).is_some_and(|stream| {
                stream
                    .push(&header, packet.at_ns, packet.clock, known.to_bits(), clock)
                    .is_event
            }),
            None if self.all.len() < MAX_STREAMS => {
                let clock = clock();
                self.begin_stream(&header, flow, packet, clock);
                clock.is_event
            }
            None => {
                self.excess_packets = self.excess_packets.saturating_add(1);
                return;
            }
        };
        self.packets = self.packets.saturating_add(1);
        if is_event {
            self.read_event(packet, &header);
        }
    }

    /// Reads a telephone-event.
    #[cold]
    fn read_event(&mut self, packet: Arrived<'_>, header: &Header) {
        let payload =
            Header::len(packet.payload, packet.wire_len).and_then(|len| packet.payload.get(len..));
        let has_marker = matches!(packet.payload, [_, second, ..] if second & 0x80 != 0);
        if let Some(event) = payload.and_then(Event::parse) {
            self.digits.add_event(
                event,
                header.ssrc,
                header.timestamp,
                has_marker,
                packet.at_ns,
            );
        }
    }

    /// Reads RTCP. Encrypted RTCP is only counted, because its headers are plain and the rest is
    /// not (RFC 3711, 3.4).
    #[cold]
    fn read_reports(
        &mut self,
        packet: Arrived<'_>,
        flow: MediaFlow<'_>,
        descriptions: &Descriptions,
        known: KnownStatements,
    ) {
        let Some(key) = flow.key() else { return };
        if descriptions.is_secured(key, known) {
            self.reports.add_unread();
        } else {
            let arrival = Arrival {
                ns: packet.at_ns,
                course_at: self.keeps_series.then_some(packet.clock),
            };
            self.reports
                .add(packet.payload, packet.wire_len, key, arrival);
        }
    }

    /// The index of the stream with this flow and SSRC.
    fn stream(&mut self, flow: MediaFlow<'_>, ssrc: u32) -> Option<usize> {
        let is_it = |known: &&Known| known.flow == flow.number && known.ssrc == ssrc;
        if let Some(known) = self.latest.iter().find(is_it) {
            return Some(known.index);
        }
        let index = *self.by_name.get(&(flow.key()?, ssrc))?;
        let [first, second, third, _] = self.latest;
        let known = Known {
            flow: flow.number,
            ssrc,
            index,
        };
        self.latest = [known, first, second, third];
        Some(index)
    }

    fn begin_stream(
        &mut self,
        header: &Header,
        flow: MediaFlow<'_>,
        packet: Arrived<'_>,
        clock: MediaClock,
    ) {
        let Some(key) = flow.key() else { return };
        self.by_name.insert((key, header.ssrc), self.all.len());
        let stream = Stream::new(header, key.source, key.destination, packet.at_ns, clock);
        self.all.push(if self.keeps_series {
            stream.with_series(packet.clock)
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
