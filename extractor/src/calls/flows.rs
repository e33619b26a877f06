//! The flows of which something is left to be written, and whose each of them is.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, VecDeque},
};

use smallvec::SmallVec;

use super::CallNumber;
use crate::{
    events::{FlowKey, Flows, Fragmented, Table},
    moment::{Moment, Position},
    packet::Endpoint,
};

/// The number of a flow, for as long as any of its packets is kept.
pub type FlowNumber = usize;

/// The packets of the latest windows, by flow.
///
/// A window's packets stay where they are until nothing of them is left to be written: with ten thousand calls, what
/// media may still be claimed by a description that is to come is more than a window holds.
#[derive(Debug, Default)]
pub struct FlowTable {
    numbers: Table<FlowKey, FlowNumber>,
    /// By number. Those that are in `free` are no flows now.
    flows: Vec<Flow>,
    free: Vec<FlowNumber>,
    touching: Table<Endpoint, SmallVec<[FlowNumber; 2]>>,
    windows: VecDeque<WindowPackets>,
    /// How many windows came before those, and are forgotten.
    forgotten: usize,
}

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    owners: Owners,
    /// Its packets, in capture order.
    stretches: SmallVec<[Stretch; 2]>,
}

/// The packets of a flow in one window.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// The number of the window.
    window: usize,
    start: usize,
    end: usize,
}

/// The packets of a window, those of each flow together.
#[derive(Debug)]
struct WindowPackets {
    /// The first moment after it.
    end: Moment,
    packets: Vec<Moment>,
    flows: Vec<FlowNumber>,
    /// Packets that came in fragments, by the frame that made them whole.
    fragmented: Table<Position, Fragmented>,
}

/// The owners of one flow, by call.
pub type Owners = SmallVec<[Owner; 1]>;

/// A call that owns a flow, and since when. What was settled in between is not its business any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The call.
    pub call: CallNumber,
    /// The first moment that belongs to it.
    pub from: Moment,
}

impl FlowTable {
    /// Takes in what was found in the next window, of one part of it after the other. Gives the flows
    /// that were not known.
    pub fn add_window(&mut self, parts: Vec<Flows>, end: Moment) -> Vec<FlowNumber> {
        let window = self.forgotten.saturating_add(self.windows.len());
        let mut new = Vec::new();
        let mut flows = Vec::new();
        let assigned: Vec<Vec<FlowNumber>> = parts
            .iter()
            .map(|part| {
                let of_part = part.keys().iter().enumerate().map(|(index, key)| {
                    let number = self.number(*key, &mut new);
                    self.count(number, window, part.packets(index).len(), &mut flows);
                    number
                });
                of_part.collect()
            })
            .collect();
        let mut packets = vec![Moment::default(); self.lay_out(&flows)];
        for (part, of_part) in parts.iter().zip(&assigned) {
            for (index, number) in of_part.iter().enumerate() {
                self.fill(*number, part.packets(index), &mut packets);
            }
        }
        let fragmented: Table<_, _> = parts.into_iter().flat_map(Flows::into_fragmented).collect();
        self.windows.push_back(WindowPackets { end, packets, flows, fragmented });
        self.sort_last();
        new
    }

    /// Forgets the windows that ended at `moment` or earlier, and the flows of which nothing is left.
    pub fn forget_before(&mut self, moment: Moment) {
        let mut left: BTreeSet<Endpoint> = BTreeSet::new();
        while let Some(window) = self.windows.pop_front_if(|window| window.end <= moment) {
            self.forgotten = self.forgotten.saturating_add(1);
            for number in window.flows {
                let Some(flow) = self.flows.get_mut(number) else { continue };
                flow.stretches.retain(|stretch| stretch.window >= self.forgotten);
                if flow.stretches.is_empty() {
                    flow.owners = Owners::new();
                    self.numbers.remove(&flow.key);
                    self.free.push(number);
                    left.extend([flow.key.source, flow.key.destination]);
                }
            }
        }
        for endpoint in left {
            let Some(touching) = self.touching.get_mut(&endpoint) else { continue };
            touching.retain(|number| self.flows.get(*number).is_some_and(|flow| !flow.stretches.is_empty()));
            if touching.is_empty() {
                self.touching.remove(&endpoint);
            }
        }
    }

    /// The flows that there are.
    pub fn numbers(&self) -> impl Iterator<Item = FlowNumber> + use<> {
        0..self.flows.len()
    }

    /// Between whom a flow is.
    #[must_use]
    #[inline]
    pub fn key(&self, flow: FlowNumber) -> Option<FlowKey> {
        Some(self.flows.get(flow)?.key)
    }

    /// The flows that come from or go to an endpoint.
    #[must_use]
    pub fn touching(&self, endpoint: Endpoint) -> SmallVec<[FlowNumber; 2]> {
        self.touching.get(&endpoint).cloned().unwrap_or_default()
    }

    /// Whose a flow is.
    #[must_use]
    pub fn owners(&self, flow: FlowNumber) -> &[Owner] {
        self.flows.get(flow).map_or(&[], |flow| &flow.owners)
    }

    /// One of them.
    pub fn owner_mut(&mut self, flow: FlowNumber, place: usize) -> Option<&mut Owner> {
        self.flows.get_mut(flow)?.owners.get_mut(place)
    }

    /// Since when a flow is a call's, if it is.
    #[must_use]
    pub fn owned_since(&self, flow: FlowNumber, call: CallNumber) -> Option<Moment> {
        let owners = self.owners(flow);
        let place = owners.binary_search_by_key(&call, |owner| owner.call).ok()?;
        Some(owners.get(place)?.from)
    }

    /// Gives the flow to others; whose it was before.
    pub fn replace_owners(&mut self, flow: FlowNumber, owners: Owners) -> Owners {
        self.flows.get_mut(flow).map(|flow| std::mem::replace(&mut flow.owners, owners)).unwrap_or_default()
    }

    /// Of one flow, the packets from one moment up to, not including, another, window by window.
    pub fn packets_between(&self, flow: FlowNumber, from: Moment, until: Moment) -> impl DoubleEndedIterator<Item = &[Moment]> {
        let stretches = self.flows.get(flow).map_or(&[][..], |flow| &flow.stretches);
        stretches.iter().map(move |stretch| between(self.packets(stretch), from, until)).filter(|packets| !packets.is_empty())
    }

    /// The last of these packets.
    #[must_use]
    pub fn last_packet_between(&self, flow: FlowNumber, from: Moment, until: Moment) -> Option<Moment> {
        self.packets_between(flow, from, until).filter_map(|packets| packets.last().copied()).max()
    }

    /// What came before of a packet that came in fragments.
    #[must_use]
    #[inline]
    pub fn fragmented(&self, packet: Moment) -> Option<&Fragmented> {
        let with_some = self.windows.iter().filter(|window| !window.fragmented.is_empty());
        with_some.filter_map(|window| window.fragmented.get(&packet.position)).next()
    }

    /// Whether any packet came in fragments.
    #[must_use]
    pub fn has_fragmented(&self) -> bool {
        self.windows.iter().any(|window| !window.fragmented.is_empty())
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
        let with_some = self.windows.iter().filter(|window| window.end > moment && !window.fragmented.is_empty());
        let earliest = with_some.flat_map(|window| {
            let since = window.packets.iter().filter(move |packet| **packet >= moment);
            since.filter_map(|packet| window.fragmented.get(&packet.position)?.earlier.first())
        });
        earliest.min().copied()
    }

    /// The number of a flow, which becomes one if it is none.
    fn number(&mut self, key: FlowKey, new: &mut Vec<FlowNumber>) -> FlowNumber {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let flow = Flow { key, owners: Owners::new(), stretches: SmallVec::new() };
        let number = self.free.pop().unwrap_or(self.flows.len());
        match self.flows.get_mut(number) {
            Some(slot) => *slot = flow,
            None => self.flows.push(flow),
        }
        self.numbers.insert(key, number);
        self.touching.entry(key.source).or_default().push(number);
        if key.destination != key.source {
            self.touching.entry(key.destination).or_default().push(number);
        }
        new.push(number);
        number
    }

    /// Adds to the number of packets that a flow has in a window: as long as they are counted, the end of their stretch.
    fn count(&mut self, number: FlowNumber, window: usize, more: usize, flows: &mut Vec<FlowNumber>) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        match flow.stretches.last_mut() {
            Some(stretch) if stretch.window == window => stretch.end = stretch.end.saturating_add(more),
            _ => {
                flow.stretches.push(Stretch { window, start: 0, end: more });
                flows.push(number);
            }
        }
    }

    /// Gives each of the flows room for the packets that were counted. Gives the number of all of them.
    fn lay_out(&mut self, flows: &[FlowNumber]) -> usize {
        let mut next = 0usize;
        for number in flows {
            if let Some(stretch) = self.latest_stretch(*number) {
                let len = stretch.end;
                (stretch.start, stretch.end) = (next, next);
                next = next.saturating_add(len);
            }
        }
        next
    }

    /// Adds packets to those of a flow in the latest window.
    fn fill(&mut self, number: FlowNumber, from: &[Moment], packets: &mut [Moment]) {
        let Some(stretch) = self.latest_stretch(number) else { return };
        let start = stretch.end;
        stretch.end = start.saturating_add(from.len());
        if let Some(to) = packets.get_mut(start..stretch.end) {
            to.copy_from_slice(from);
        }
    }

    fn latest_stretch(&mut self, number: FlowNumber) -> Option<&mut Stretch> {
        self.flows.get_mut(number)?.stretches.last_mut()
    }

    /// Puts the packets of the last window in order: those that came in fragments are found after all others.
    fn sort_last(&mut self) {
        let Some(window) = self.windows.back_mut().filter(|window| !window.fragmented.is_empty()) else { return };
        for number in &window.flows {
            if let Some(stretch) = self.flows.get(*number).and_then(|flow| flow.stretches.last())
                && let Some(packets) = window.packets.get_mut(stretch.start..stretch.end)
            {
                packets.sort();
            }
        }
    }

    fn packets(&self, stretch: &Stretch) -> &[Moment] {
        let window = stretch.window.checked_sub(self.forgotten).and_then(|window| self.windows.get(window));
        window.and_then(|window| window.packets.get(stretch.start..stretch.end)).unwrap_or_default()
    }
}

/// Of packets in order, those from one moment up to another: nearly always all of them, so that is looked at first.
fn between(packets: &[Moment], from: Moment, until: Moment) -> &[Moment] {
    let (Some(first), Some(last)) = (packets.first(), packets.last()) else { return &[] };
    if *last < from || *first >= until {
        return &[];
    }
    let start = if *first >= from { 0 } else { packets.partition_point(|packet| *packet < from) };
    let end = if *last < until { packets.len() } else { packets.partition_point(|packet| *packet < until) };
    packets.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::FlowBuilder;

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

    fn all(flows: &FlowTable, number: FlowNumber) -> Vec<Moment> {
        flows.packets_between(number, Moment::default(), Moment::NEVER).flatten().copied().collect()
    }

    #[test]
    fn the_parts_of_a_window_lie_one_behind_the_other() {
        let mut flows = FlowTable::default();
        let new = flows.add_window(vec![built(&[(7, 1), (8, 2)]), built(&[(9, 3), (8, 4)]), built(&[(7, 5)])], packet(6));
        assert_eq!(new, [0, 1, 2]);
        assert_eq!([0, 1, 2].map(|number| flows.key(number)), [7, 8, 9].map(|n| Some(flow(n))));
        assert_eq!(all(&flows, 0), [1, 5].map(packet));
        assert_eq!(all(&flows, 1), [2, 4].map(packet));
        assert_eq!(flows.touching(flow(7).destination).as_slice(), [0, 1, 2]);
        assert!(all(&flows, 3).is_empty());
    }

    #[test]
    fn a_flow_goes_through_windows() {
        let mut flows = FlowTable::default();
        flows.add_window(vec![built(&[(7, 1), (8, 2)])], packet(3));
        assert_eq!(flows.add_window(vec![built(&[(9, 3), (7, 4), (7, 5)])], packet(6)), [2]);
        assert_eq!(all(&flows, 0), [1, 4, 5].map(packet));
        let some = flows.packets_between(0, packet(1), packet(5)).map(<[Moment]>::to_vec).collect::<Vec<_>>();
        assert_eq!(some, [[packet(1)], [packet(4)]]);
        assert_eq!(flows.last_packet_between(0, packet(1), packet(5)), Some(packet(4)));
        assert_eq!(flows.last_packet_between(0, packet(2), packet(4)), None);
    }

    #[test]
    fn what_is_forgotten_leaves_its_number_to_others() {
        let mut flows = FlowTable::default();
        flows.add_window(vec![built(&[(7, 1), (8, 2)])], packet(3));
        flows.add_window(vec![built(&[(7, 4)])], packet(5));
        flows.replace_owners(1, Owners::from_buf([Owner { call: CallNumber(1), from: packet(1) }]));
        flows.forget_before(packet(2));
        assert_eq!(all(&flows, 1), [packet(2)], "the window is not over then");
        flows.forget_before(packet(3));
        assert_eq!(all(&flows, 0), [packet(4)]);
        assert!(all(&flows, 1).is_empty());
        assert!(flows.touching(flow(8).source).is_empty());
        assert_eq!(flows.add_window(vec![built(&[(9, 5)])], packet(6)), [1]);
        assert_eq!(flows.key(1), Some(flow(9)));
        assert!(flows.owners(1).is_empty());
    }
}
