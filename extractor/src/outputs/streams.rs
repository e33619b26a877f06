//! The RTP streams of one call and their statistics.

use serde::{Deserialize, Serialize};

use crate::{
    calls::{Descriptions, FlowNumber, FlowTable, KnownStatements},
    counts::CallCounts,
    events::{FlowKey, Table},
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
    /// All streams, by first packet.
    pub(super) fn all(&self) -> &[Stream] {
        &self.all
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
        ] {
            *count = count.saturating_add(more);
        }
    }

    /// Forgets the flow numbers, which may change with the window.
    pub(super) fn forget_flows(&mut self) {
        self.latest = [Known::default(); 4];
    }

    /// Adds an RTP packet to the statistics of its stream. Inlined by force: otherwise the call for
    /// each packet costs 2 % more instructions in total.
    #[inline(always)]
    pub(super) fn measure(
        &mut self,
        header: &Header,
        arrival_ns: u64,
        flow: MediaFlow<'_>,
        descriptions: &Descriptions,
        known: KnownStatements,
    ) {
        let clock = || clock_of(header.payload_type, flow.key(), descriptions, known);
        match self.stream(flow, header.ssrc) {
            Some(index) => {
                if let Some(stream) = self.all.get_mut(index) {
                    stream.push(header, arrival_ns, known.to_bits(), clock);
                }
            }
            None if self.all.len() < MAX_STREAMS => {
                self.begin_stream(header, flow, arrival_ns, clock());
            }
            None => {
                self.excess_packets = self.excess_packets.saturating_add(1);
                return;
            }
        }
        self.packets = self.packets.saturating_add(1);
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
        arrival_ns: u64,
        clock: MediaClock,
    ) {
        let Some(key) = flow.key() else { return };
        self.by_name.insert((key, header.ssrc), self.all.len());
        self.all.push(Stream::new(
            header,
            key.source,
            key.destination,
            arrival_ns,
            clock,
        ));
    }
}

fn clock_of(
    payload_type: u8,
    flow: Option<FlowKey>,
    descriptions: &Descriptions,
    known: KnownStatements,
) -> MediaClock {
    let format = flow.and_then(|flow| descriptions.format(payload_type, flow, known));
    MediaClock {
        rate: format
            .filter(Format::is_sampled)
            .map(|format| format.clock_rate),
        known: known.to_bits(),
    }
}
