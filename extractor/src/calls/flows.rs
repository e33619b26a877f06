//! The flows with packets that are left to be written, and their owners.

use std::{cmp::Reverse, collections::VecDeque};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use super::{CallNumber, touching::Touching};
use crate::{
    events::{FlowKey, Flows, Fragmented, PayloadAt, Table},
    moment::{Moment, Position},
    packet::Endpoint,
};

/// The number of a flow, valid as long as a packet of the flow is kept.
pub type FlowNumber = usize;

/// The packets of the latest windows, by flow.
///
/// A window's packets stay in memory until none of them is left to be written: with ten thousand
/// calls, the media that a later description may claim exceed a window.
#[derive(Debug, Default)]
pub struct FlowTable {
    numbers: Table<FlowKey, FlowNumber>,
    /// By number. Flows in `free` are unused.
    flows: Vec<Flow>,
    free: Vec<FlowNumber>,
    touching: Touching,
    windows: VecDeque<WindowPackets>,
    /// The number of earlier windows that are forgotten.
    forgotten: usize,
    /// No packet before this moment is left to be written.
    since: Moment,
    /// The start of the latest window: the owners of all earlier packets are known.
    started: Moment,
}

/// The carry-over of a table: packets that are left to be written, as if they had been found in one
/// window.
#[derive(Debug, Serialize, Deserialize)]
struct CarriedFlows {
    since: Moment,
    end: Moment,
    flows: Vec<CarriedFlow>,
    fragmented: Vec<(Position, Fragmented)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CarriedFlow {
    number: FlowNumber,
    key: FlowKey,
    owners: Owners,
    is_claimed: bool,
    packets: Vec<Moment>,
}

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    owners: Owners,
    /// True when a call has had packets of it, or may have had.
    is_claimed: bool,
    /// The first packet whose owners are still unknown, if there is one. All earlier packets belong
    /// to the known owners.
    next: Option<Moment>,
    /// True when its owners change only if a call changes that gave both its ends: then the next
    /// packet need not be searched.
    is_settled: bool,
    /// Its packets, in capture order within a part of a window, except that packets that came in
    /// fragments come after all others of their window.
    stretches: SmallVec<[FlowPart; 2]>,
}

/// The packets of a flow in one part of a window.
#[derive(Clone, Copy, Debug)]
struct FlowPart {
    /// The number of the window.
    window: usize,
    /// The part of the window, and the flow's number in it.
    part: u32,
    flow: u32,
}

/// The packets of a window, part by part, by flow.
#[derive(Debug)]
struct WindowPackets {
    /// The first moment after the window.
    end: Moment,
    parts: Vec<Flows>,
    /// The flows that have packets.
    flows: Vec<FlowNumber>,
}

/// The packets of a flow in a window that is being forgotten.
#[derive(Debug)]
pub struct FlowPackets<'a> {
    /// The flow.
    pub key: FlowKey,
    /// True when a call has had packets of it, or may have had.
    pub is_claimed: bool,
    /// The packets, part by part.
    pub packets: SmallVec<[&'a [Moment]; 2]>,
}

impl FlowPackets<'_> {
    /// The number of packets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.packets
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.len() as u64))
    }

    /// At most this many of the packets, evenly spread.
    pub fn sample(&self, most: usize) -> impl Iterator<Item = Moment> {
        let count = usize::try_from(self.count()).unwrap_or(usize::MAX);
        let step = count.checked_div(most).unwrap_or(0).max(1);
        self.packets
            .iter()
            .copied()
            .flatten()
            .copied()
            .step_by(step)
            .take(most)
    }
}

/// The owners of one flow, by call.
pub type Owners = SmallVec<[Owner; 1]>;

/// A call that owns a flow, and the moment since when. Packets that are settled are not its concern
/// any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The call.
    pub call: CallNumber,
    /// The first moment that belongs to it.
    pub from: Moment,
    /// True when the call only guessed the ends of the flow.
    pub is_guess: bool,
}

impl FlowTable {
    /// Adds the flows of the next window, from `start` to `end`, part by part. Returns the new
    /// flows.
    pub fn add_window(
        &mut self,
        mut parts: Vec<Flows>,
        start: Moment,
        end: Moment,
    ) -> Vec<FlowNumber> {
        self.started = start;
        let window = self.forgotten.saturating_add(self.windows.len());
        let mut new = Vec::new();
        let mut flows = Vec::new();
        for (part, found) in (0..).zip(&mut parts) {
            found.sort();
            for (flow, key) in (0..).zip(found.keys()) {
                let number = self.number(*key, &mut new);
                let Some(known) = self.flows.get_mut(number) else {
                    continue;
                };
                if known
                    .stretches
                    .last()
                    .is_none_or(|stretch| stretch.window < window)
                {
                    flows.push(number);
                }
                known.stretches.push(FlowPart { window, part, flow });
            }
        }
        self.windows.push_back(WindowPackets {
            end,
            parts,
            flows: flows.clone(),
        });
        for flow in flows {
            self.look_for_next(flow, start);
        }
        new
    }

    /// Forgets the windows that ended at `moment` or earlier, and the flows without packets. `look`
    /// gets their packets before.
    pub fn forget_before(&mut self, moment: Moment, mut look: impl FnMut(FlowPackets<'_>)) {
        self.since = moment;
        let mut empty: Vec<FlowKey> = Vec::new();
        while let Some(window) = self.windows.pop_front_if(|window| window.end <= moment) {
            self.forgotten = self.forgotten.saturating_add(1);
            for number in window.flows {
                let Some(flow) = self.flows.get_mut(number) else {
                    continue;
                };
                let Flow {
                    key, is_claimed, ..
                } = *flow;
                let gone = flow
                    .stretches
                    .iter()
                    .filter(|stretch| stretch.window < self.forgotten);
                let packets_of = |stretch: &FlowPart| {
                    window
                        .parts
                        .get(stretch.part as usize)
                        .map(|part| part.packets(stretch.flow as usize))
                };
                look(FlowPackets {
                    key,
                    is_claimed,
                    packets: gone.filter_map(packets_of).collect(),
                });
                flow.stretches
                    .retain(|stretch| stretch.window >= self.forgotten);
                if flow.stretches.is_empty() {
                    flow.owners = Owners::new();
                    self.numbers.remove(&flow.key);
                    self.free.push(number);
                    empty.push(flow.key);
                }
            }
        }
        let flows = &self.flows;
        self.touching.forget(&empty, |number| {
            flows
                .get(number)
                .is_some_and(|flow| !flow.stretches.is_empty())
        });
    }

    /// The numbers of all flows.
    pub fn numbers(&self) -> impl Iterator<Item = FlowNumber> + use<> {
        0..self.flows.len()
    }

    /// The key of a flow.
    #[must_use]
    #[inline]
    pub fn key(&self, flow: FlowNumber) -> Option<FlowKey> {
        Some(self.flows.get(flow)?.key)
    }

    /// The flows that come from or go to an endpoint.
    #[must_use]
    pub fn touching(&self, endpoint: Endpoint) -> &[FlowNumber] {
        self.touching.at(endpoint)
    }

    /// The flows between two endpoints.
    #[must_use]
    pub fn between(&self, one: Endpoint, other: Endpoint) -> &[FlowNumber] {
        self.touching.between(one, other)
    }

    /// Notes that an endpoint has changed: owners of flows there may be unknown.
    pub fn note_change(&mut self, endpoint: Endpoint) {
        self.touching.note_change(endpoint);
    }

    /// True when an endpoint has changed since the owners of all flows were determined.
    #[must_use]
    pub fn has_changed(&self, endpoint: Endpoint) -> bool {
        self.touching.has_changed(endpoint)
    }

    /// Removes and returns the endpoints that have changed.
    pub fn take_changed(&mut self) -> Vec<Endpoint> {
        self.touching.take_changed()
    }

    /// Removes and returns the next flow at an endpoint that has a packet before `until` without
    /// known owners, with that packet.
    pub fn pop_due(&mut self, endpoint: Endpoint, until: Moment) -> Option<(Moment, FlowNumber)> {
        loop {
            let (packet, flow) = self.touching.pop_due(endpoint, until)?;
            if self.next(flow) == Some(packet) {
                return Some((packet, flow));
            }
        }
    }

    /// The first packet of a flow without known owners, if there is one.
    #[must_use]
    pub fn next(&self, flow: FlowNumber) -> Option<Moment> {
        self.flows
            .get(flow)
            .filter(|flow| !flow.is_settled)?
            .next
            .filter(|next| *next >= self.started)
    }

    /// True when the owners of a flow change only if a call changes that gave both its ends.
    #[must_use]
    pub fn is_settled(&self, flow: FlowNumber) -> bool {
        self.flows.get(flow).is_some_and(|flow| flow.is_settled)
    }

    /// Notes that all packets of a flow before `until` belong to the known owners. If the flow
    /// `is_settled`, later packets do, too, until it is [reopened](Self::reopen).
    pub fn note_told(&mut self, flow: FlowNumber, until: Moment, is_settled: bool) {
        if let Some(known) = self.flows.get_mut(flow) {
            known.is_settled = is_settled;
            if !is_settled {
                self.look_for_next(flow, until);
            }
        }
    }

    /// Notes that the packets of a flow from `at` on may belong to other calls, if it was settled.
    pub fn reopen(&mut self, flow: FlowNumber, at: Moment) {
        if let Some(known) = self.flows.get_mut(flow)
            && known.is_settled
        {
            known.is_settled = false;
            known.next = None;
            self.look_for_next(flow, at);
        }
    }

    fn first_packet_since(&self, flow: FlowNumber, since: Moment) -> Option<Moment> {
        let mut first_of_parts = self
            .packets_between(flow, since, Moment::NEVER)
            .filter_map(|packets| packets.first().copied());
        if self.has_fragmented() {
            first_of_parts.min()
        } else {
            first_of_parts.next()
        }
    }

    /// Searches the first packet of a flow since a moment, if its owners must be determined.
    fn look_for_next(&mut self, flow: FlowNumber, since: Moment) {
        let next = self.first_packet_since(flow, since);
        let window = self.forgotten.saturating_add(self.windows.len());
        if let Some(known) = self.flows.get_mut(flow)
            && !known.is_settled
            && known.next != next
        {
            known.next = next;
            if let Some(packet) = next {
                self.touching.push_due(flow, known.key, packet, window);
            }
        }
    }

    /// The owners of a flow.
    #[must_use]
    pub fn owners(&self, flow: FlowNumber) -> &[Owner] {
        self.flows.get(flow).map_or(&[], |flow| &flow.owners)
    }

    /// The moment since which a flow belongs to a call, if it does.
    #[must_use]
    pub fn owned_since(&self, flow: FlowNumber, call: CallNumber) -> Option<Moment> {
        let owners = self.owners(flow);
        let place = owners
            .binary_search_by_key(&call, |owner| owner.call)
            .ok()?;
        Some(owners.get(place)?.from)
    }

    /// Notes that a call has had packets of a flow.
    pub fn note_claim(&mut self, flow: FlowNumber) {
        if let Some(flow) = self.flows.get_mut(flow) {
            flow.is_claimed = true;
        }
    }

    /// Replaces the owners of a flow. Returns the old ones.
    pub fn replace_owners(&mut self, flow: FlowNumber, owners: Owners) -> Owners {
        self.flows
            .get_mut(flow)
            .map(|flow| std::mem::replace(&mut flow.owners, owners))
            .unwrap_or_default()
    }

    /// The packets of a flow in `from..until`, part by part; each part is in capture order.
    pub fn packets_between(
        &self,
        flow: FlowNumber,
        from: Moment,
        until: Moment,
    ) -> impl DoubleEndedIterator<Item = &[Moment]> {
        self.parts_between(flow, from, until)
            .map(|(packets, _)| packets)
    }

    /// The packets of a flow in `from..until`, part by part; each part is in capture order, and all
    /// its frames have the payload at the same offset, if that is known.
    pub fn parts_between(
        &self,
        flow: FlowNumber,
        from: Moment,
        until: Moment,
    ) -> impl DoubleEndedIterator<Item = (&[Moment], PayloadAt)> {
        let stretches = self.flows.get(flow).map_or(&[][..], |flow| &flow.stretches);
        let parts = stretches.iter().filter_map(move |stretch| {
            let window = self
                .windows
                .get(stretch.window.checked_sub(self.forgotten)?)?;
            let part = window.parts.get(stretch.part as usize)?;
            let flow = stretch.flow as usize;
            Some((
                part.packets_between(flow, from, until),
                part.payload_at(flow),
            ))
        });
        parts.filter(|(packets, _)| !packets.is_empty())
    }

    /// The latest packet of these.
    #[must_use]
    pub fn last_packet_between(
        &self,
        flow: FlowNumber,
        from: Moment,
        until: Moment,
    ) -> Option<Moment> {
        let mut last_of_parts = self
            .packets_between(flow, from, until)
            .rev()
            .filter_map(|packets| packets.last().copied());
        if self.has_fragmented() {
            last_of_parts.max()
        } else {
            last_of_parts.next()
        }
    }

    /// The earlier frames of a packet that came in fragments.
    #[must_use]
    pub fn fragmented(&self, packet: Moment) -> Option<&Fragmented> {
        self.windows
            .iter()
            .flat_map(|window| &window.parts)
            .find_map(|part| part.fragmented(packet))
    }

    /// True when a packet came in fragments.
    #[must_use]
    pub fn has_fragmented(&self) -> bool {
        self.windows
            .iter()
            .flat_map(|window| &window.parts)
            .any(Flows::has_fragmented)
    }

    /// The latest moment up to `moment` that does not separate the frames of a packet.
    pub fn between_packets(
        &self,
        mut moment: Moment,
        packets: impl Iterator<Item = Moment>,
    ) -> Moment {
        let mut whole: Vec<(Moment, Moment)> = packets
            .filter_map(|packet| Some((packet, *self.fragmented(packet)?.earlier.first()?)))
            .collect();
        whole.sort_unstable_by_key(|(packet, _)| Reverse(*packet));
        for (packet, earliest) in whole {
            if packet >= moment {
                moment = moment.min(earliest);
            }
        }
        moment
    }

    /// The earliest frame of the packets that were complete at `moment` or later.
    #[must_use]
    pub fn earliest_frame_since(&self, moment: Moment) -> Option<Moment> {
        let parts = self
            .windows
            .iter()
            .filter(|window| window.end > moment)
            .flat_map(|window| &window.parts);
        let earliest = parts.filter(|part| part.has_fragmented()).flat_map(|part| {
            let since = part
                .all_packets()
                .iter()
                .filter(move |packet| **packet >= moment);
            since.filter_map(|packet| part.fragmented(*packet)?.earlier.first())
        });
        earliest.min().copied()
    }

    /// Calls `visit` for each frame of the packets that are left to be written.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        for number in self.numbers() {
            for packet in self
                .packets_between(number, self.since, Moment::NEVER)
                .flatten()
            {
                visit(packet.position);
                if let Some(Fragmented { earlier, beginning }) = self.fragmented(*packet) {
                    earlier.iter().for_each(|frame| visit(frame.position));
                    beginning.iter().for_each(|position| visit(*position));
                }
            }
        }
    }

    fn to_carry(&self) -> CarriedFlows {
        let flow = |number: FlowNumber| {
            let Flow {
                key,
                owners,
                is_claimed,
                ..
            } = self.flows.get(number)?;
            let mut packets: Vec<Moment> = self
                .packets_between(number, self.since, Moment::NEVER)
                .flatten()
                .copied()
                .collect();
            packets.sort_unstable();
            let (is_claimed, owners) = (*is_claimed, owners.clone());
            (!packets.is_empty()).then_some(CarriedFlow {
                number,
                key: *key,
                owners,
                is_claimed,
                packets,
            })
        };
        let flows: Vec<CarriedFlow> = self.numbers().filter_map(flow).collect();
        let packets = flows
            .iter()
            .filter(|_| self.has_fragmented())
            .flat_map(|flow| &flow.packets);
        let fragmented = packets
            .filter_map(|packet| Some((packet.position, self.fragmented(*packet)?.clone())))
            .collect();
        let end = self.windows.back().map_or(self.since, |window| window.end);
        CarriedFlows {
            since: self.since,
            end,
            flows,
            fragmented,
        }
    }

    fn resume(carried: CarriedFlows) -> Self {
        let CarriedFlows {
            since,
            end,
            flows,
            fragmented,
        } = carried;
        let mut table = Self {
            since,
            ..Self::default()
        };
        let mut keys = Vec::new();
        let mut numbers = Vec::new();
        for (
            place,
            CarriedFlow {
                number,
                key,
                owners,
                is_claimed,
                packets,
            },
        ) in (0..).zip(flows)
        {
            while table.flows.len() < number {
                table.free.push(table.flows.len());
                table.flows.push(Flow::new(key));
            }
            let stretches = SmallVec::from_slice(&[FlowPart {
                window: 0,
                part: 0,
                flow: place,
            }]);
            table.flows.push(Flow {
                owners,
                is_claimed,
                stretches,
                ..Flow::new(key)
            });
            table.introduce(number, key);
            numbers.push(number);
            keys.push((key, packets));
        }
        // At the end of all captures, no packet is left, and no moment follows.
        if !numbers.is_empty() {
            table.windows.push_back(WindowPackets {
                end,
                flows: numbers,
                parts: vec![Flows::resume(keys, fragmented)],
            });
        }
        table
    }

    fn introduce(&mut self, number: FlowNumber, key: FlowKey) {
        self.numbers.insert(key, number);
        self.touching.add(number, key);
    }

    /// The number of a flow; a new flow gets one.
    fn number(&mut self, key: FlowKey, new: &mut Vec<FlowNumber>) -> FlowNumber {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let flow = Flow::new(key);
        let number = self.free.pop().unwrap_or(self.flows.len());
        match self.flows.get_mut(number) {
            Some(slot) => *slot = flow,
            None => self.flows.push(flow),
        }
        self.introduce(number, key);
        new.push(number);
        number
    }
}

impl Flow {
    fn new(key: FlowKey) -> Self {
        let (owners, stretches) = (Owners::new(), SmallVec::new());
        Self {
            key,
            owners,
            is_claimed: false,
            next: None,
            is_settled: false,
            stretches,
        }
    }
}

impl Serialize for FlowTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_carry().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FlowTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CarriedFlows::deserialize(deserializer).map(Self::resume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::{built, flow, packet};

    fn all(flows: &FlowTable, number: FlowNumber) -> Vec<Moment> {
        flows
            .packets_between(number, Moment::default(), Moment::NEVER)
            .flatten()
            .copied()
            .collect()
    }

    #[test]
    fn the_parts_of_a_window_lie_one_behind_the_other() {
        let mut flows = FlowTable::default();
        let new = flows.add_window(
            vec![
                built(&[(7, 1), (8, 2)]),
                built(&[(9, 3), (8, 4)]),
                built(&[(7, 5)]),
            ],
            packet(1),
            packet(6),
        );
        assert_eq!(new, [0, 1, 2]);
        assert_eq!(
            [0, 1, 2].map(|number| flows.key(number)),
            [7, 8, 9].map(|n| Some(flow(n)))
        );
        assert_eq!(all(&flows, 0), [1, 5].map(packet));
        assert_eq!(all(&flows, 1), [2, 4].map(packet));
        assert_eq!(flows.touching(flow(7).destination), [0, 1, 2]);
        assert!(all(&flows, 3).is_empty());
    }

    #[test]
    fn a_flow_goes_through_windows() {
        let mut flows = FlowTable::default();
        flows.add_window(vec![built(&[(7, 1), (8, 2)])], packet(1), packet(3));
        assert_eq!(
            flows.add_window(vec![built(&[(9, 3), (7, 4), (7, 5)])], packet(3), packet(6)),
            [2]
        );
        assert_eq!(all(&flows, 0), [1, 4, 5].map(packet));
        let some = flows
            .packets_between(0, packet(1), packet(5))
            .map(<[Moment]>::to_vec)
            .collect::<Vec<_>>();
        assert_eq!(some, [[packet(1)], [packet(4)]]);
        assert_eq!(
            flows.last_packet_between(0, packet(1), packet(5)),
            Some(packet(4))
        );
        assert_eq!(flows.last_packet_between(0, packet(2), packet(4)), None);
    }

    #[test]
    fn what_is_forgotten_leaves_its_number_to_others() {
        let mut flows = FlowTable::default();
        flows.add_window(vec![built(&[(7, 1), (8, 2)])], packet(1), packet(3));
        flows.add_window(vec![built(&[(7, 4)])], packet(3), packet(5));
        flows.replace_owners(
            1,
            Owners::from_buf([Owner {
                call: CallNumber(1),
                from: packet(1),
                is_guess: false,
            }]),
        );
        flows.forget_before(packet(2), |_| {});
        assert_eq!(all(&flows, 1), [packet(2)], "the window is not over then");
        let mut left = Vec::new();
        flows.forget_before(packet(3), |flow| {
            left.push((flow.key, flow.packets.concat()));
        });
        left.sort();
        assert_eq!(
            left,
            [(flow(7), vec![packet(1)]), (flow(8), vec![packet(2)])]
        );
        assert_eq!(all(&flows, 0), [packet(4)]);
        assert!(all(&flows, 1).is_empty());
        assert!(flows.touching(flow(8).source).is_empty());
        assert_eq!(
            flows.add_window(vec![built(&[(9, 5)])], packet(5), packet(6)),
            [1]
        );
        assert_eq!(flows.key(1), Some(flow(9)));
        assert!(flows.owners(1).is_empty());
    }
}
