//! What the index finds for the calls: SIP messages one by one, everything else on UDP as flows.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    ops::Range,
    sync::Arc,
};

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    moment::{Moment, Position},
    packet::{Datagram, Endpoint, Fragment, Network, Segment},
    sdp::Description,
    sip::Message,
};

/// The places of the frames that carry something, in capture order. Nearly always there is one.
pub type Frames = SmallVec<[Moment; 1]>;

/// A SIP message that names a call, and the frames that carried it.
#[derive(Debug)]
pub struct SipEvent<'w> {
    /// When it was whole.
    pub at: Moment,
    /// Its frames.
    pub frames: Frames,
    /// The timestamp of its first frame in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// The time that HEP over TCP gave it: its frames, when they are written, do not tell.
    pub told_ns: Option<u64>,
    /// The network through which it came.
    pub network: Network,
    /// Who sent it.
    pub source: Endpoint,
    /// The message, in the map of the input.
    pub message: Message<'w>,
    /// The offers and answers in it.
    pub descriptions: Vec<Description>,
}

/// Frames that repeat what messages of a call were made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// When.
    pub at: Moment,
    /// Whose.
    pub call_id: Arc<[u8]>,
    /// The frames.
    pub frames: Frames,
}

/// A part of an IP datagram.
#[derive(Clone, Debug)]
pub struct FragmentEvent<'w> {
    /// When it was there.
    pub at: Moment,
    /// The frames that hold it: one, unless what holds it came in fragments itself.
    pub frames: Frames,
    /// The timestamp of the first of them in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// What it is.
    pub fragment: Fragment<'w>,
}

/// A TCP segment that may carry SIP or HEP.
#[derive(Clone, Debug)]
pub struct SegmentEvent<'w> {
    /// When it was there.
    pub at: Moment,
    /// The frames that hold it: one, unless it came in fragments.
    pub frames: Frames,
    /// The timestamp of the first of them in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// It goes to a port of HEP.
    pub may_be_hep: bool,
    /// Why it is looked at.
    pub cause: Cause,
    /// What it is.
    pub segment: Segment<'w>,
}

/// Why a TCP segment is looked at. Of a capture of the web, nearly none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The port is one of SIP or HEP.
    Port,
    /// It begins like SIP: from here on its connection is followed, both ways.
    Content,
    /// Its connection may be followed.
    Connection,
}

impl SegmentEvent<'_> {
    /// The stream that it belongs to.
    #[must_use]
    pub fn flow(&self) -> FlowKey {
        let Segment {
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
    /// The network that they come through.
    pub network: Network,
    /// Where they come from.
    pub source: Endpoint,
    /// Where they go.
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

    /// The flow between two endpoints, whatever the network.
    #[must_use]
    pub fn between(source: Endpoint, destination: Endpoint) -> Self {
        Self {
            network: Network::PLAIN,
            source,
            destination,
        }
    }

    /// The conversation that it is one direction of: the same for both.
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

/// In as few words as there are: it is asked for with each packet of a flow that is not the one of
/// the packet before.
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

/// A hash table with seeded keys: they come off the wire.
pub type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A hash that is the same on every run, for what the result follows from.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    foldhash::fast::FixedState::default().hash_one(bytes)
}

/// UDP packets that are not SIP, grouped by flow, in capture order within each. Flows are numbered
/// from 0 by first appearance.
#[derive(Debug, Default)]
pub struct Flows {
    keys: Vec<FlowKey>,
    /// Where the packets of each flow end; those of the next begin there.
    ends: Vec<usize>,
    packets: Vec<Moment>,
    /// The earliest and the latest packet of all, if there is one.
    bounds: Option<(Moment, Moment)>,
    /// Packets that came in fragments, by the frame that made them whole.
    fragmented: Table<Position, Fragmented>,
}

/// A packet that came in fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragmented {
    /// The frames before the one that made it whole, in capture order.
    pub earlier: Frames,
    /// The frame with the packet's header; none where a frame only repeats a fragment of a packet.
    pub beginning: Option<Position>,
}

impl Flows {
    /// Flows of which it is known already what is in them: of each its packets, in capture order,
    /// and of all the packets that came in fragments.
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

    /// The flows, by number.
    #[must_use]
    pub fn keys(&self) -> &[FlowKey] {
        &self.keys
    }

    /// The packets of one flow.
    #[must_use]
    pub fn packets(&self, flow: usize) -> &[Moment] {
        self.packets.get(self.range(flow)).unwrap_or_default()
    }

    /// The packets of all flows.
    #[must_use]
    pub fn all_packets(&self) -> &[Moment] {
        &self.packets
    }

    /// Of one flow, the packets from one moment up to, not including, another: nearly always all or
    /// none, which is found out without looking at them.
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

    /// What came before of a packet that came in fragments.
    #[must_use]
    pub fn fragmented(&self, packet: Moment) -> Option<&Fragmented> {
        if self.fragmented.is_empty() {
            None
        } else {
            self.fragmented.get(&packet.position)
        }
    }

    /// Whether any packet came in fragments.
    #[must_use]
    pub fn has_fragmented(&self) -> bool {
        !self.fragmented.is_empty()
    }

    /// Puts the packets of each flow in order: those that came in fragments are found when they are
    /// whole.
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

    /// Raises the packet time of what came out of a chunk to what it was where the chunk began.
    pub fn not_before(&mut self, clock: u64) {
        let bounds = self
            .bounds
            .iter_mut()
            .flat_map(|(first, last)| [first, last]);
        for packet in self.packets.iter_mut().chain(bounds) {
            packet.clock = packet.clock.max(clock);
        }
    }

    /// Packet time was `clock` already from a place on.
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
    /// Flows by key. Only numbers, so that what is asked for each packet stays in the processor's
    /// cache with tens of thousands of flows.
    numbers: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    flows: Vec<FlowSize>,
    packets: Vec<(u32, Moment)>,
    last: Option<(FlowKey, u32)>,
    fragmented: Table<Position, Fragmented>,
}

/// A flow, and how many packets it has.
#[derive(Clone, Copy, Debug)]
struct FlowSize {
    key: FlowKey,
    packets: u32,
}

impl FlowBuilder {
    /// How much memory a packet takes, in bytes.
    pub const PACKET_MEMORY: usize = size_of::<(u32, Moment)>();

    /// One with room for so many packets. Growing would touch twice as much memory, and memory that
    /// is touched for the first time is a fifth of the time of a run with thousands of calls.
    #[must_use]
    pub fn with_capacity(packets: usize) -> Self {
        Self {
            packets: Vec::with_capacity(packets),
            ..Self::default()
        }
    }

    /// Takes in the next packet of the capture.
    #[inline]
    pub fn push(&mut self, key: FlowKey, packet: Moment) {
        let number = match self.last {
            Some((last, number)) if last == key => number,
            _ => self.number(key),
        };
        if let Some(flow) = self.flows.get_mut(number as usize) {
            flow.packets = flow.packets.saturating_add(1);
        }
        self.packets.push((number, packet));
    }

    /// Takes in a packet that came in fragments: the frame that made it whole, and what came
    /// before.
    pub fn push_fragmented(&mut self, key: FlowKey, packet: Moment, fragmented: Fragmented) {
        self.push(key, packet);
        self.fragmented.insert(packet.position, fragmented);
    }

    /// A chunk has fewer packets than 32 bits can count.
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
                flows.push(FlowSize { key, packets: 0 });
                number
            }
        };
        self.last = Some((key, number));
        number
    }

    /// Packets come in capture order, but those in fragments when they are whole.
    fn bounds(&self) -> Option<(Moment, Moment)> {
        let mut packets = self.packets.iter().map(|(_, packet)| *packet);
        if self.fragmented.is_empty() {
            let first = packets.next()?;
            return Some((first, packets.next_back().unwrap_or(first)));
        }
        Some((packets.clone().min()?, packets.max()?))
    }

    /// The packets by flow: a counting sort.
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
        // Where the next packet of a flow would be, it ends.
        let keys = self.flows.iter().map(|flow| flow.key).collect();
        Flows {
            keys,
            ends: next,
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
            .for_each(|&(key, n)| builder.push(flow(key), packet(n)));
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
