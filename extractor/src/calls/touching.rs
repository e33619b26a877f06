//! The flows at each endpoint, and those with packets since their owners were last determined.

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

/// The flows at each endpoint.
#[derive(Debug, Default)]
pub(super) struct Touching {
    at: Table<Endpoint, AtEndpoint>,
    between: Table<[Endpoint; 2], SmallVec<[FlowNumber; 2]>>,
    /// Endpoints with flows whose owners may be unknown.
    changed: Vec<Endpoint>,
}

#[derive(Debug, Default)]
struct AtEndpoint {
    flows: SmallVec<[FlowNumber; 2]>,
    /// Flows with a packet of unknown owners, by that packet. If another packet becomes the next
    /// one of a flow, it gets an entry of its own, and the old one is obsolete.
    due: BinaryHeap<Reverse<(Moment, FlowNumber)>>,
    /// The number of the window that `due` belongs to.
    window: usize,
    /// True when the endpoint is in the list of changed ones.
    has_changed: bool,
}

impl Touching {
    /// Adds a flow.
    pub(super) fn add(&mut self, flow: FlowNumber, key: FlowKey) {
        for end in ends(key) {
            self.at.entry(end).or_default().flows.push(flow);
        }
        self.between
            .entry(pair(key.source, key.destination))
            .or_default()
            .push(flow);
    }

    /// Removes the flows with these keys that are not kept, all at once.
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

    /// Notes that an endpoint has changed: owners of flows there may be unknown.
    pub(super) fn note_change(&mut self, endpoint: Endpoint) {
        if let Some(at) = self.at.get_mut(&endpoint)
            && !std::mem::replace(&mut at.has_changed, true)
        {
            self.changed.push(endpoint);
        }
    }

    /// True when an endpoint has changed since the owners of all flows were determined.
    pub(super) fn has_changed(&self, endpoint: Endpoint) -> bool {
        self.at.get(&endpoint).is_some_and(|at| at.has_changed)
    }

    /// Removes and returns the endpoints that have changed, in the order in which they did.
    pub(super) fn take_changed(&mut self) -> Vec<Endpoint> {
        let changed = std::mem::take(&mut self.changed);
        for endpoint in &changed {
            if let Some(at) = self.at.get_mut(endpoint) {
                at.has_changed = false;
            }
        }
        changed
    }

    /// Notes that the owners of a flow must be determined at `packet` of a window, before an end of
    /// it changes.
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

    /// Removes and returns the next flow at an endpoint that has a packet before `until`, with that
    /// packet.
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

/// The ends of a flow: only one, if source and destination are equal.
fn ends(key: FlowKey) -> impl Iterator<Item = Endpoint> {
    let other = (key.destination != key.source).then_some(key.destination);
    [key.source].into_iter().chain(other)
}

fn pair(one: Endpoint, other: Endpoint) -> [Endpoint; 2] {
    [one.min(other), one.max(other)]
}
