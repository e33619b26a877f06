//! The flows at each endpoint, and which of them have packets since their owners were last told.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use smallvec::SmallVec;

use super::FlowNumber;
use crate::{
    events::{FlowKey, Table},
    moment::Moment,
    packet::Endpoint,
};

/// The flows that come from or go to endpoints.
#[derive(Debug, Default)]
pub(super) struct Touching {
    at: Table<Endpoint, AtEndpoint>,
    between: Table<[Endpoint; 2], SmallVec<[FlowNumber; 2]>>,
    /// Endpoints with flows whose owners may not be told yet.
    changed: Vec<Endpoint>,
}

#[derive(Debug, Default)]
struct AtEndpoint {
    flows: SmallVec<[FlowNumber; 2]>,
    /// Flows with a packet whose owners are to be told, by that packet. A flow of which another
    /// packet is the next one has an entry for that, too, and this one is out of date.
    due: BinaryHeap<Reverse<(Moment, FlowNumber)>>,
    /// The number of the window that `due` is of.
    window: usize,
    /// It is in the list of those that changed.
    has_changed: bool,
}

impl Touching {
    /// A flow becomes known.
    pub(super) fn add(&mut self, flow: FlowNumber, key: FlowKey) {
        for end in ends(key) {
            self.at.entry(end).or_default().flows.push(flow);
        }
        self.between
            .entry(pair(key.source, key.destination))
            .or_default()
            .push(flow);
    }

    /// Flows are forgotten, all at once: those of these ends that are not kept.
    pub(super) fn forget(&mut self, gone: &[FlowKey], is_kept: impl Fn(FlowNumber) -> bool) {
        let mut gone_ends: Vec<Endpoint> = gone.iter().flat_map(|key| ends(*key)).collect();
        gone_ends.sort_unstable();
        gone_ends.dedup();
        for end in gone_ends {
            let Some(at) = self.at.get_mut(&end) else {
                continue;
            };
            at.flows.retain(|flow| is_kept(*flow));
            if at.flows.is_empty() {
                self.at.remove(&end);
            }
        }
        for key in gone {
            let pair = pair(key.source, key.destination);
            let Some(flows) = self.between.get_mut(&pair) else {
                continue;
            };
            flows.retain(|flow| is_kept(*flow));
            if flows.is_empty() {
                self.between.remove(&pair);
            }
        }
    }

    /// The flows that come from or go to an endpoint.
    pub(super) fn at(&self, endpoint: Endpoint) -> &[FlowNumber] {
        self.at.get(&endpoint).map_or(&[], |at| &at.flows)
    }

    /// The flows between two endpoints.
    pub(super) fn between(&self, one: Endpoint, other: Endpoint) -> &[FlowNumber] {
        self.between
            .get(&pair(one, other))
            .map_or(&[], SmallVec::as_slice)
    }

    /// An endpoint changed: the owners of flows there may not be told yet.
    pub(super) fn note_change(&mut self, endpoint: Endpoint) {
        if let Some(at) = self.at.get_mut(&endpoint)
            && !std::mem::replace(&mut at.has_changed, true)
        {
            self.changed.push(endpoint);
        }
    }

    /// An endpoint changed since the owners of all flows were told.
    pub(super) fn has_changed(&self, endpoint: Endpoint) -> bool {
        self.at.get(&endpoint).is_some_and(|at| at.has_changed)
    }

    /// Takes the endpoints that changed, in the order in which they did.
    pub(super) fn take_changed(&mut self) -> Vec<Endpoint> {
        let changed = std::mem::take(&mut self.changed);
        for endpoint in &changed {
            if let Some(at) = self.at.get_mut(endpoint) {
                at.has_changed = false;
            }
        }
        changed
    }

    /// The owners of a flow are to be told of `packet` of a window, when an end of it changes
    /// later.
    pub(super) fn push_due(
        &mut self,
        flow: FlowNumber,
        key: FlowKey,
        packet: Moment,
        window: usize,
    ) {
        for end in ends(key) {
            let Some(at) = self.at.get_mut(&end) else {
                continue;
            };
            if at.window != window {
                at.due.clear();
                at.window = window;
            }
            at.due.push(Reverse((packet, flow)));
        }
    }

    /// Takes the next flow of an endpoint that has a packet before `until`, and that packet.
    pub(super) fn pop_due(
        &mut self,
        endpoint: Endpoint,
        until: Moment,
    ) -> Option<(Moment, FlowNumber)> {
        let next = self.at.get_mut(&endpoint)?.due.peek_mut()?;
        let Reverse((packet, _)) = *next;
        (packet < until).then(|| PeekMut::pop(next).0)
    }
}

/// The ends of a flow: one, if it comes from where it goes.
fn ends(key: FlowKey) -> impl Iterator<Item = Endpoint> {
    let other = (key.destination != key.source).then_some(key.destination);
    [key.source].into_iter().chain(other)
}

fn pair(one: Endpoint, other: Endpoint) -> [Endpoint; 2] {
    [one.min(other), one.max(other)]
}
