//! Events that the index gives to the calls: SIP messages one by one, all other UDP packets as
//! flows.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    num::NonZeroU16,
    ops::Range,
    sync::Arc,
};

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    moment::{Moment, Position},
    packet::{Datagram, Endpoint, Fragment, Network, PlainMedia, TcpSegment},
    sdp::Description,
    sip::Message,
};

/// The moments of the frames of a message, in capture order: nearly always one.
pub type Frames = SmallVec<[Moment; 1]>;

/// A SIP message with a Call-ID, and the frames that carried it.
#[derive(Debug)]
pub struct SipEvent<'w> {
    /// The moment at which the message was complete.
    pub at: Moment,
    /// Its frames.
    pub frames: Frames,
    /// The timestamp of its first frame, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// The time that HEP over TCP gives for the message; the frames do not show it when they are
    /// written.
    pub told_ns: Option<u64>,
    /// The network in which the message was captured.
    pub network: Network,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// The message; it borrows from the map of the input.
    pub message: Message<'w>,
    /// The offers and answers in the message.
    pub descriptions: Vec<Description>,
}

/// Frames that repeat parts of a call's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// The moment of the repetition.
    pub at: Moment,
    /// The Call-ID of the messages.
    pub call_id: Arc<[u8]>,
    /// The frames.
    pub frames: Frames,
}

/// A part of an IP datagram.
#[derive(Clone, Debug)]
pub struct FragmentEvent<'w> {
    /// The moment of the frame.
    pub at: Moment,
    /// The frames that hold the fragment: one, unless its tunnel packet was fragmented, too.
    pub frames: Frames,
    /// The timestamp of the first frame, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// The fragment.
    pub fragment: Fragment<'w>,
}

/// A TCP segment that may carry SIP or HEP.
#[derive(Clone, Debug)]
pub struct SegmentEvent<'w> {
    /// The moment of the frame.
    pub at: Moment,
    /// The frames that hold the segment: one, unless it came in fragments.
    pub frames: Frames,
    /// The timestamp of the first frame, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// True when the segment goes to a port of HEP.
    pub may_be_hep: bool,
    /// The reason why the segment is looked at.
    pub cause: Cause,
    /// The segment.
    pub segment: TcpSegment<'w>,
}

/// The reason why a TCP segment is looked at. In a capture of web traffic, nearly none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The port is one of SIP or HEP.
    Port,
    /// The segment begins like SIP: from here on, its connection is followed in both directions.
    Content,
    /// The connection may be followed.
    Connection,
}

impl SegmentEvent<'_> {
    /// The flow of the segment.
    #[must_use]
    pub fn flow(&self) -> FlowKey {
        let TcpSegment {
            network,
            source,
            destination,
            ..
        } = self.segment;
        FlowKey {
            network,
            source,
            destination,
        }
    }
}

/// The packets from one endpoint to another, in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowKey {
    /// The network in which the packets were captured.
    pub network: Network,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
}

impl FlowKey {
    /// The flow of a datagram.
    #[must_use]
    #[inline]
    pub fn of(datagram: &Datagram<'_>) -> Self {
        Self {
            network: datagram.network,
            source: datagram.source,
            destination: datagram.destination,
        }
    }

    /// The flow between two endpoints, without a network.
    #[must_use]
    pub fn between(source: Endpoint, destination: Endpoint) -> Self {
        Self {
            network: Network::PLAIN,
            source,
            destination,
        }
    }

    /// The same key for both directions of a conversation.
    #[must_use]
    pub fn either_way(self) -> Self {
        if self.source <= self.destination {
            self
        } else {
            self.reversed()
        }
    }

    /// The other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }
}

/// Hashes few words, because this runs for each packet whose flow is not that of the packet before.
impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            network,
            source,
            destination,
        } = self;
        state.write_u128(source.address_bits());
        state.write_u128(destination.address_bits());
        let ports = u64::from(source.port()) << 48 | u64::from(destination.port()) << 32;
        state.write_u64(ports | u64::from(network.bits()));
    }
}

/// A hash table with seeded keys, because keys come off the wire.
pub type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A hash that is the same on every run, for decisions that change the result.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    foldhash::fast::FixedState::default().hash_one(bytes)
}

/// UDP packets that are not SIP, by flow, in capture order within each flow. Flows are numbered
/// from 0, by first appearance.
#[derive(Debug, Default)]
pub struct Flows {
    keys: Vec<FlowKey>,
    /// The end of each flow's packets, where those of the next flow begin.
    ends: Vec<usize>,
    payloads: Vec<PayloadAt>,
    packets: Vec<Moment>,
    /// The earliest and the latest packet, if there are packets.
    bounds: Option<(Moment, Moment)>,
    /// Packets that came in fragments, by the frame that completed them.
    fragmented: Table<Position, Fragmented>,
}

/// The offset of the UDP payload in a frame, if the frame needs no decoding: its payload was
/// captured whole, and follows its UDP header, which has the length. Of a flow, the offset that all
/// its frames have.
pub type PayloadAt = Option<NonZeroU16>;

/// A packet that came in fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragmented {
    /// The frames before the one that completed the packet, in capture order.
    pub earlier: Frames,
    /// The frame with the packet's header; `None` if a frame only repeats a fragment of a packet.
    pub beginning: Option<Position>,
}

impl Flows {
    /// Flows with the given packets, which are in capture order; `fragmented` lists the packets
    /// that came in fragments.
    #[must_use]
    pub fn resume(
        flows: Vec<(FlowKey, Vec<Moment>)>,
        fragmented: Vec<(Position, Fragmented)>,
    ) -> Self {
        let mut resumed = Self {
            fragmented: fragmented.into_iter().collect(),
            ..Self::default()
        };
        for (key, packets) in flows {
            resumed.keys.push(key);
            resumed.packets.extend(packets);
            resumed.ends.push(resumed.packets.len());
        }
        resumed.bounds = resumed
            .packets
            .iter()
            .min()
            .copied()
            .zip(resumed.packets.iter().max().copied());
        resumed
    }

    /// Flows in the order of their numbers, with the packets of each in capture order.
    #[must_use]
    pub fn stored(flows: impl IntoIterator<Item = (FlowKey, PayloadAt, Vec<Moment>)>) -> Self {
        let mut stored = Self::default();
        for (key, payload_at, packets) in flows {
            stored.keys.push(key);
            stored.payloads.push(payload_at);
            stored.packets.extend(packets);
            stored.ends.push(stored.packets.len());
        }
        let (first, last) = (stored.packets.iter().min(), stored.packets.iter().max());
        stored.bounds = first.copied().zip(last.copied());
        stored
    }

    /// Flows of several captures that were merged: packets of one flow may come in several lists,
    /// each in capture order.
    #[must_use]
    pub fn joined<'a>(lists: impl IntoIterator<Item = (FlowKey, PayloadAt, &'a [Moment])>) -> Self {
        let mut numbers: Table<FlowKey, usize> = Table::default();
        let mut flows: Vec<(FlowKey, PayloadAt, Vec<Moment>)> = Vec::new();
        for (key, payload_at, packets) in lists {
            let number = *numbers.entry(key).or_insert(flows.len());
            match flows.get_mut(number) {
                Some((_, known_at, known)) => {
                    *known_at = known_at.filter(|_| *known_at == payload_at);
                    known.extend(packets);
                    known.sort_unstable();
                }
                None => flows.push((key, payload_at, packets.to_vec())),
            }
        }
        flows.sort_by_key(|(.., packets)| packets.first().copied());
        Self::stored(flows)
    }

    /// The keys of the flows, by number.
    #[must_use]
    pub fn keys(&self) -> &[FlowKey] {
        &self.keys
    }

    /// The packets of a flow.
    #[must_use]
    pub fn packets(&self, flow: usize) -> &[Moment] {
        self.packets.get(self.range(flow)).unwrap_or_default()
    }

    /// The offset of the payload in all frames of a flow.
    #[must_use]
    pub fn payload_at(&self, flow: usize) -> PayloadAt {
        *self.payloads.get(flow)?
    }

    /// The packets of all flows.
    #[must_use]
    pub fn all_packets(&self) -> &[Moment] {
        &self.packets
    }

    /// The packets of a flow in `from..until`. Nearly always these are all or none, and only the
    /// bounds are compared.
    #[must_use]
    pub fn packets_between(&self, flow: usize, from: Moment, until: Moment) -> &[Moment] {
        let Some((first, last)) = self
            .bounds
            .filter(|(first, last)| *last >= from && *first < until)
        else {
            return &[];
        };
        let packets = self.packets(flow);
        let start = if first >= from {
            0
        } else {
            packets.partition_point(|packet| *packet < from)
        };
        let end = if last < until {
            packets.len()
        } else {
            packets.partition_point(|packet| *packet < until)
        };
        packets.get(start..end).unwrap_or_default()
    }

    /// The earlier frames of a packet that came in fragments.
    #[must_use]
    pub fn fragmented(&self, packet: Moment) -> Option<&Fragmented> {
        if self.fragmented.is_empty() {
            None
        } else {
            self.fragmented.get(&packet.position)
        }
    }

    /// True when a packet came in fragments.
    #[must_use]
    pub fn has_fragmented(&self) -> bool {
        !self.fragmented.is_empty()
    }

    /// Sorts the packets of each flow: packets that came in fragments were added when they were
    /// complete.
    pub fn sort(&mut self) {
        if self.has_fragmented() {
            for flow in 0..self.keys.len() {
                let range = self.range(flow);
                if let Some(packets) = self.packets.get_mut(range) {
                    packets.sort();
                }
            }
        }
    }

    /// Raises the packet time of a chunk's packets to at least its value where the chunk began.
    pub fn not_before(&mut self, clock: u64) {
        let bounds = self
            .bounds
            .iter_mut()
            .flat_map(|(first, last)| [first, last]);
        for packet in self.packets.iter_mut().chain(bounds) {
            packet.clock = packet.clock.max(clock);
        }
    }

    /// Raises the packet time of packets from a position on to at least `clock`.
    pub fn not_before_from(&mut self, from: Position, clock: u64) {
        let bounds = self
            .bounds
            .iter_mut()
            .flat_map(|(first, last)| [first, last]);
        for packet in self
            .packets
            .iter_mut()
            .chain(bounds)
            .filter(|packet| packet.position >= from)
        {
            packet.clock = packet.clock.max(clock);
        }
    }

    fn range(&self, flow: usize) -> Range<usize> {
        let start = flow
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0);
        start..self.ends.get(flow).copied().unwrap_or(start)
    }
}

/// Groups packets by flow as they are read.
#[derive(Debug, Default)]
pub struct FlowBuilder {
    /// Flow numbers by key. The table has only numbers, so that it fits into the processor's cache
    /// with tens of thousands of flows.
    numbers: HashTable<u32>,
    /// Flow numbers by the bytes of plain media, so that their frames need no decoding.
    plain: HashTable<(PlainMedia, u32)>,
    hasher: foldhash::fast::RandomState,
    flows: Vec<FlowSize>,
    packets: Vec<(u32, Moment)>,
    last: Option<(FlowKey, u32)>,
    fragmented: Table<Position, Fragmented>,
}

/// A flow, and the number of its packets.
#[derive(Clone, Copy, Debug)]
struct FlowSize {
    key: FlowKey,
    packets: u32,
    payload_at: PayloadAt,
}

impl FlowSize {
    #[inline]
    fn count(&mut self, payload_at: PayloadAt) {
        if self.packets == 0 {
            self.payload_at = payload_at;
        } else if self.payload_at != payload_at {
            self.payload_at = None;
        }
        self.packets = self.packets.saturating_add(1);
    }
}

impl FlowBuilder {
    /// The memory that a packet takes, in bytes.
    pub const PACKET_MEMORY: usize = size_of::<(u32, Moment)>();

    /// A builder with room for this many packets. Growing would touch twice as much memory, and the
    /// first touch of memory takes a fifth of the time of a run with thousands of calls.
    #[must_use]
    pub fn with_capacity(packets: usize) -> Self {
        Self {
            packets: Vec::with_capacity(packets),
            ..Self::default()
        }
    }

    /// Adds the next packet of the capture.
    #[inline]
    pub fn push(&mut self, key: FlowKey, packet: Moment, payload_at: PayloadAt) {
        let number = match self.last {
            Some((last, number)) if last == key => number,
            _ => self.number(key),
        };
        self.push_numbered(number, packet, payload_at);
    }

    #[inline]
    fn push_numbered(&mut self, number: u32, packet: Moment, payload_at: PayloadAt) {
        if let Some(flow) = self.flows.get_mut(number as usize) {
            flow.count(payload_at);
        }
        self.packets.push((number, packet));
    }

    /// Adds the next packet of the capture if its flow is known by its plain media. Returns false
    /// if it is not.
    #[inline]
    pub fn push_plain(&mut self, media: &PlainMedia, packet: Moment) -> bool {
        let hash = self.hasher.hash_one(media.bits());
        match self.plain.find(hash, |(known, _)| known == media) {
            Some(&(_, number)) => {
                let payload_at = NonZeroU16::new(media.payload_at().into());
                self.push_numbered(number, packet, payload_at);
                true
            }
            None => false,
        }
    }

    /// Notes that plain media like this belong to the flow of the packet that was added last.
    #[cold]
    pub fn learn(&mut self, media: PlainMedia) {
        let Some((number, _)) = self.packets.last() else {
            return;
        };
        let hash = self.hasher.hash_one(media.bits());
        let hash_of = |(known, _): &(PlainMedia, u32)| self.hasher.hash_one(known.bits());
        self.plain.insert_unique(hash, (media, *number), hash_of);
    }

    /// Adds a packet that came in fragments: the frame that completed it, and the frames before.
    pub fn push_fragmented(&mut self, key: FlowKey, packet: Moment, fragmented: Fragmented) {
        self.push(key, packet, None);
        self.fragmented.insert(packet.position, fragmented);
    }

    /// The number of a flow. A chunk has fewer packets than 32 bits can count.
    fn number(&mut self, key: FlowKey) -> u32 {
        let Self {
            numbers,
            hasher,
            flows,
            ..
        } = self;
        let is_it = |number: &u32| {
            flows
                .get(*number as usize)
                .is_some_and(|flow| flow.key == key)
        };
        let hash = hasher.hash_one(key);
        let number = match numbers.find(hash, is_it) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(flows.len()).unwrap_or(u32::MAX);
                let hash_of = |number: &u32| {
                    flows
                        .get(*number as usize)
                        .map_or(0, |flow: &FlowSize| hasher.hash_one(flow.key))
                };
                numbers.insert_unique(hash, number, hash_of);
                flows.push(FlowSize {
                    key,
                    packets: 0,
                    payload_at: None,
                });
                number
            }
        };
        self.last = Some((key, number));
        number
    }

    /// Packets come in capture order, except that fragmented ones come when they are complete.
    fn bounds(&self) -> Option<(Moment, Moment)> {
        let mut packets = self.packets.iter().map(|(_, packet)| *packet);
        if self.fragmented.is_empty() {
            let first = packets.next()?;
            return Some((first, packets.next_back().unwrap_or(first)));
        }
        Some((packets.clone().min()?, packets.max()?))
    }

    /// Groups the packets by flow: a counting sort.
    #[must_use]
    pub fn finish(self) -> Flows {
        let mut end = 0usize;
        let mut next: Vec<usize> = Vec::with_capacity(self.flows.len());
        for flow in &self.flows {
            next.push(end);
            end = end.saturating_add(flow.packets as usize);
        }
        let mut packets = vec![Moment::default(); self.packets.len()];
        let bounds = self.bounds();
        for (number, packet) in self.packets {
            if let Some(place) = next.get_mut(number as usize) {
                if let Some(slot) = packets.get_mut(*place) {
                    *slot = packet;
                }
                *place = place.saturating_add(1);
            }
        }
        // The position for the next packet of a flow is now the end of the flow.
        let keys = self.flows.iter().map(|flow| flow.key).collect();
        let payloads = self.flows.iter().map(|flow| flow.payload_at).collect();
        Flows {
            keys,
            ends: next,
            payloads,
            packets,
            bounds,
            fragmented: self.fragmented,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn flow(n: u8) -> FlowKey {
        FlowKey::between(
            Endpoint::v4([10, 0, 0, n], 1),
            Endpoint::v4([10, 0, 0, 99], 2),
        )
    }

    pub(crate) fn packet(n: usize) -> Moment {
        Moment {
            clock: n as u64 * 10,
            position: Position::new(0, n),
        }
    }

    pub(crate) fn built(packets: &[(u8, usize)]) -> Flows {
        let mut builder = FlowBuilder::default();
        packets
            .iter()
            .for_each(|&(key, n)| builder.push(flow(key), packet(n), None));
        builder.finish()
    }

    #[test]
    fn packets_are_grouped_by_flow_in_capture_order() {
        let flows = built(&[(7, 1), (8, 2), (7, 3), (7, 4), (9, 5), (8, 6)]);
        assert_eq!(flows.keys(), [flow(7), flow(8), flow(9)]);
        assert_eq!(flows.packets(0), [1, 3, 4].map(packet));
        assert_eq!(flows.packets(1), [2, 6].map(packet));
        assert!(flows.packets(3).is_empty());
        for (from, until, want) in [
            (2, 4, &[3][..]),
            (1, 9, &[1, 3, 4]),
            (0, 1, &[]),
            (4, 9, &[4]),
            (5, 5, &[]),
            (7, 9, &[]),
        ] {
            let want: Vec<Moment> = want.iter().copied().map(packet).collect();
            assert_eq!(
                flows.packets_between(0, packet(from), packet(until)),
                want,
                "{from}..{until}"
            );
        }
    }
}
