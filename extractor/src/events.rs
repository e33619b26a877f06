//! What the index finds for the calls: SIP messages one by one, everything else on UDP as flows.

use std::{cmp::Reverse, collections::HashMap, hash::BuildHasher, ops::Range, sync::Arc};

use smallvec::SmallVec;

use crate::{
    moment::{Moment, Position},
    packet::{Endpoint, Fragment, Segment},
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

/// A TCP segment on a SIP port.
#[derive(Clone, Debug)]
pub struct SegmentEvent<'w> {
    /// When it was there.
    pub at: Moment,
    /// The frames that hold it: one, unless it came in fragments.
    pub frames: Frames,
    /// The timestamp of the first of them in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// What it is.
    pub segment: Segment<'w>,
}

impl SegmentEvent<'_> {
    /// The stream that it belongs to.
    #[must_use]
    pub fn flow(&self) -> FlowKey {
        FlowKey { source: self.segment.source, destination: self.segment.destination }
    }
}

/// The packets from one endpoint to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Where they come from.
    pub source: Endpoint,
    /// Where they go.
    pub destination: Endpoint,
}

impl FlowKey {
    /// The other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
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
    /// Packets that came in fragments, by the frame that made them whole.
    fragmented: Table<Position, Fragmented>,
}

/// A packet that came in fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragmented {
    /// The frames before the one that made it whole, in capture order.
    pub earlier: Frames,
    /// The frame with the packet's header; none where a frame only repeats a fragment of a packet.
    pub beginning: Option<Position>,
}

impl Flows {
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

    /// Of one flow, the packets from one moment up to, not including, another.
    #[must_use]
    pub fn packets_between(&self, flow: usize, from: Moment, until: Moment) -> &[Moment] {
        let packets = self.packets(flow);
        let start = packets.partition_point(|packet| *packet < from);
        let end = packets.partition_point(|packet| *packet < until);
        packets.get(start..end).unwrap_or_default()
    }

    /// What came before of a packet that came in fragments.
    #[must_use]
    #[inline]
    pub fn fragmented(&self, packet: Moment) -> Option<&Fragmented> {
        if self.fragmented.is_empty() { None } else { self.fragmented.get(&packet.position) }
    }

    /// The latest moment, not after `moment`, at which none of the packets has some of its frames before and some after.
    pub fn between_packets(&self, mut moment: Moment, packets: impl Iterator<Item = Moment>) -> Moment {
        let mut whole: Vec<(Moment, Moment)> =
            packets.filter_map(|packet| Some((packet, *self.fragmented(packet)?.earlier.first()?))).collect();
        whole.sort_unstable_by_key(|(packet, _)| Reverse(*packet));
        for (packet, earliest) in whole {
            if packet >= moment {
                moment = moment.min(earliest);
            }
        }
        moment
    }

    /// The earliest frame of the packets that were whole at `moment` or later.
    #[must_use]
    pub fn earliest_frame_since(&self, moment: Moment) -> Option<Moment> {
        if self.fragmented.is_empty() {
            return None;
        }
        let since = self.packets.iter().filter(|packet| **packet >= moment);
        since.filter_map(|packet| self.fragmented(*packet)?.earlier.first()).min().copied()
    }

    /// Whether any packet came in fragments.
    #[must_use]
    pub fn has_fragmented(&self) -> bool {
        !self.fragmented.is_empty()
    }

    /// Raises the packet time of what came out of a chunk to what it was where the chunk began.
    pub fn not_before(&mut self, clock: u64) {
        for packet in &mut self.packets {
            packet.clock = packet.clock.max(clock);
        }
    }

    /// Puts the packets of each flow in order: those that came in fragments are found after all others.
    pub fn sort(&mut self) {
        if self.fragmented.is_empty() {
            return;
        }
        for flow in 0..self.keys.len() {
            let range = self.range(flow);
            if let Some(packets) = self.packets.get_mut(range) {
                packets.sort();
            }
        }
    }

    /// Only the packets from `from` on, and only the flows that have some; and the new number of each old flow.
    #[must_use]
    pub fn since(&self, from: Moment) -> (Self, Vec<Option<usize>>) {
        let mut kept = Self::default();
        let renumbered = (0..self.keys.len()).map(|flow| {
            let packets = self.packets_between(flow, from, Moment::NEVER);
            kept.packets.extend_from_slice(packets);
            (!packets.is_empty()).then(|| {
                kept.keys.extend(self.keys.get(flow));
                kept.ends.push(kept.packets.len());
                kept.keys.len().saturating_sub(1)
            })
        });
        let renumbered = renumbered.collect();
        if !self.fragmented.is_empty() {
            let kept_packets = kept.packets.iter();
            kept.fragmented =
                kept_packets.filter_map(|packet| Some((packet.position, self.fragmented(*packet)?.clone()))).collect();
        }
        (kept, renumbered)
    }

    /// One set of flows out of several, each later in the capture than the one before. The flows of
    /// the first keep their numbers.
    #[must_use]
    pub fn merged(parts: &[Self]) -> Self {
        let mut numbers: Table<FlowKey, usize> = Table::default();
        let mut keys = Vec::new();
        let mut counts: Vec<usize> = Vec::new();
        let mut assigned: Vec<Vec<usize>> = Vec::with_capacity(parts.len());
        for part in parts {
            let of_part = part.keys.iter().enumerate().map(|(flow, &key)| {
                let number = *numbers.entry(key).or_insert_with(|| {
                    keys.push(key);
                    counts.push(0);
                    keys.len().saturating_sub(1)
                });
                add(&mut counts, number, part.range(flow).len());
                number
            });
            assigned.push(of_part.collect());
        }
        let (mut next, ends) = places(&counts);
        let mut packets = vec![Moment::default(); ends.last().copied().unwrap_or(0)];
        for (part, of_part) in parts.iter().zip(&assigned) {
            for (flow, &number) in of_part.iter().enumerate() {
                let from = part.packets(flow);
                let start = next.get(number).copied().unwrap_or(0);
                if let Some(to) = packets.get_mut(start..start.saturating_add(from.len())) {
                    to.copy_from_slice(from);
                }
                add(&mut next, number, from.len());
            }
        }
        let fragmented = parts.iter().flat_map(|part| part.fragmented.clone()).collect();
        Self { keys, ends, packets, fragmented }
    }

    fn range(&self, flow: usize) -> Range<usize> {
        let start = flow.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        start..self.ends.get(flow).copied().unwrap_or(start)
    }
}

fn add(counts: &mut [usize], index: usize, more: usize) {
    if let Some(count) = counts.get_mut(index) {
        *count = count.saturating_add(more);
    }
}

/// Where groups of these sizes begin and end when they lie one behind the other.
fn places(counts: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut end = 0usize;
    let ends: Vec<usize> = counts
        .iter()
        .map(|count| {
            end = end.saturating_add(*count);
            end
        })
        .collect();
    let starts = ends.iter().zip(counts).map(|(end, count)| end.saturating_sub(*count)).collect();
    (starts, ends)
}

/// Groups packets by flow as they are read.
#[derive(Debug, Default)]
pub struct FlowBuilder {
    numbers: Table<FlowKey, usize>,
    keys: Vec<FlowKey>,
    counts: Vec<usize>,
    packets: Vec<(usize, Moment)>,
    last: Option<(FlowKey, usize)>,
    fragmented: Table<Position, Fragmented>,
}

impl FlowBuilder {
    /// Takes in the next packet of the capture.
    #[inline]
    pub fn push(&mut self, key: FlowKey, packet: Moment) {
        let number = match self.last {
            Some((last, number)) if last == key => number,
            _ => self.number(key),
        };
        add(&mut self.counts, number, 1);
        self.packets.push((number, packet));
    }

    /// Takes in a packet that came in fragments: the frame that made it whole, and what came before.
    pub fn push_fragmented(&mut self, key: FlowKey, packet: Moment, fragmented: Fragmented) {
        self.push(key, packet);
        self.fragmented.insert(packet.position, fragmented);
    }

    fn number(&mut self, key: FlowKey) -> usize {
        let number = *self.numbers.entry(key).or_insert_with(|| {
            self.keys.push(key);
            self.counts.push(0);
            self.keys.len().saturating_sub(1)
        });
        self.last = Some((key, number));
        number
    }

    /// The packets by flow: a counting sort.
    #[must_use]
    pub fn finish(self) -> Flows {
        let (mut next, ends) = places(&self.counts);
        let mut packets = vec![Moment::default(); self.packets.len()];
        for (number, packet) in self.packets {
            if let Some(slot) = next.get(number).and_then(|&place| packets.get_mut(place)) {
                *slot = packet;
            }
            add(&mut next, number, 1);
        }
        Flows { keys: self.keys, ends, packets, fragmented: self.fragmented }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(n: u8) -> FlowKey {
        FlowKey { source: Endpoint::v4([10, 0, 0, n], 1), destination: Endpoint::v4([10, 0, 0, 99], 2) }
    }

    fn packet(n: usize) -> Moment {
        Moment { clock: n as u64 * 10, position: Position::new(0, n) }
    }

    fn built(packets: &[(u8, usize)]) -> Flows {
        let mut builder = FlowBuilder::default();
        packets.iter().for_each(|&(key, n)| builder.push(flow(key), packet(n)));
        builder.finish()
    }

    #[test]
    fn packets_are_grouped_by_flow_in_capture_order() {
        let flows = built(&[(7, 1), (8, 2), (7, 3), (7, 4), (9, 5), (8, 6)]);
        assert_eq!(flows.keys(), [flow(7), flow(8), flow(9)]);
        assert_eq!(flows.packets(0), [1, 3, 4].map(packet));
        assert_eq!(flows.packets(1), [2, 6].map(packet));
        assert_eq!(flows.packets_between(0, packet(2), packet(4)), [packet(3)]);
        assert!(flows.packets(3).is_empty());
    }

    #[test]
    fn merging_keeps_the_numbers_of_the_first() {
        let merged = Flows::merged(&[built(&[(7, 1), (8, 2)]), built(&[(9, 3), (8, 4)]), built(&[(7, 5)])]);
        assert_eq!(merged.keys(), [flow(7), flow(8), flow(9)]);
        assert_eq!(merged.packets(0), [1, 5].map(packet));
        assert_eq!(merged.packets(1), [2, 4].map(packet));
        assert_eq!(merged.packets.len(), 5);
    }

    #[test]
    fn what_is_kept_is_renumbered() {
        let (kept, renumbered) = built(&[(7, 1), (8, 2), (9, 3), (8, 4)]).since(packet(3));
        assert_eq!(kept.keys(), [flow(8), flow(9)]);
        assert_eq!(renumbered, [None, Some(0), Some(1)]);
        assert_eq!(kept.packets(0), [packet(4)]);
    }
}
