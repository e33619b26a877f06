//! Media of no call: the amount, and the largest flows, which show that a call may be missing.

use std::collections::BTreeMap;

use crate::events::FlowKey;

/// The most flows whose ends are kept; packets of other flows are only counted.
const MAX_FLOWS: usize = 65_536;
/// The number of flows that are named.
const NAMED: usize = 3;

/// Flows that no call has had so far, and stretches of flows that several calls may have.
#[derive(Debug, Default)]
pub struct Unclaimed {
    nobodys: FlowTally,
    doubtful: FlowTally,
}

/// Packets by flow.
#[derive(Debug, Default)]
struct FlowTally {
    flows: BTreeMap<FlowKey, u64>,
    /// The number of flows beyond the limit, and of their packets.
    beyond: (u64, u64),
}

/// The figures for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnclaimedCounts {
    /// The number of RTP flows of no call, and of their packets.
    pub flows: u64,
    /// See `flows`.
    pub packets: u64,
    /// The number of flows that several calls may have, and of their packets.
    pub doubtful_flows: u64,
    /// See `doubtful_flows`.
    pub doubtful_packets: u64,
    /// The largest flows of no call, and their packets.
    pub largest: Vec<(FlowKey, u64)>,
}

impl Unclaimed {
    /// True when packets of the flow were added before.
    #[must_use]
    pub fn knows(&self, flow: &FlowKey) -> bool {
        self.nobodys.flows.contains_key(flow)
    }

    /// Adds packets of a flow that no call has had.
    pub fn add(&mut self, flow: FlowKey, packets: u64) {
        self.nobodys.add(flow, packets);
    }

    /// Adds packets of a flow that several calls may have.
    pub fn add_doubtful(&mut self, flow: FlowKey, packets: u64) {
        let FlowKey {
            source,
            destination,
            ..
        } = flow;
        tracing::debug!(packets, %source, %destination, "packets that several calls may have, by guesses, go to no call");
        self.doubtful.add(flow, packets);
    }

    /// Removes a flow that a call has after all.
    pub fn remove(&mut self, flow: &FlowKey) {
        if !self.nobodys.flows.is_empty() {
            self.nobodys.flows.remove(flow);
        }
    }

    /// The figures.
    #[must_use]
    pub fn counts(&self) -> UnclaimedCounts {
        let ((flows, packets), (doubtful_flows, doubtful_packets)) =
            (self.nobodys.sum(), self.doubtful.sum());
        let mut largest: Vec<(FlowKey, u64)> = self
            .nobodys
            .flows
            .iter()
            .map(|(flow, packets)| (*flow, *packets))
            .collect();
        keep_largest(&mut largest);
        UnclaimedCounts {
            flows,
            packets,
            doubtful_flows,
            doubtful_packets,
            largest,
        }
    }
}

impl FlowTally {
    fn add(&mut self, flow: FlowKey, packets: u64) {
        let is_full = self.flows.len() >= MAX_FLOWS;
        match self.flows.get_mut(&flow) {
            Some(known) => *known = known.saturating_add(packets),
            None if is_full => {
                self.beyond = (
                    self.beyond.0.saturating_add(1),
                    self.beyond.1.saturating_add(packets),
                );
            }
            None => {
                self.flows.insert(flow, packets);
            }
        }
    }

    /// The number of flows, and of their packets.
    fn sum(&self) -> (u64, u64) {
        let packets = self
            .flows
            .values()
            .fold(self.beyond.1, |sum, packets| sum.saturating_add(*packets));
        (
            self.beyond.0.saturating_add(self.flows.len() as u64),
            packets,
        )
    }
}

fn keep_largest(flows: &mut Vec<(FlowKey, u64)>) {
    flows.sort_unstable_by(|(flow, packets), (other, others)| {
        others.cmp(packets).then(flow.cmp(other))
    });
    flows.truncate(NAMED);
}

impl UnclaimedCounts {
    /// Adds the figures of another part of the run.
    pub fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.flows, other.flows),
            (&mut self.packets, other.packets),
            (&mut self.doubtful_flows, other.doubtful_flows),
            (&mut self.doubtful_packets, other.doubtful_packets),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.largest.extend_from_slice(&other.largest);
        keep_largest(&mut self.largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Endpoint;

    fn flow(port: u16) -> FlowKey {
        FlowKey::between(
            Endpoint::v4([192, 0, 2, 1], port),
            Endpoint::v4([192, 0, 2, 2], 9),
        )
    }

    #[test]
    fn the_largest_are_named_and_what_is_in_doubt_is_counted_apart() {
        let mut unclaimed = Unclaimed::default();
        for (port, packets) in [(1, 5), (2, 9), (3, 7), (4, 8), (6, 99), (1, 1)] {
            unclaimed.add(flow(port), packets);
        }
        unclaimed.add_doubtful(flow(5), 80);
        unclaimed.add_doubtful(flow(5), 10);
        unclaimed.remove(&flow(6));
        let counts = unclaimed.counts();
        assert_eq!(
            (
                counts.flows,
                counts.packets,
                counts.doubtful_flows,
                counts.doubtful_packets
            ),
            (4, 30, 1, 90)
        );
        assert_eq!(counts.largest, [(flow(2), 9), (flow(4), 8), (flow(3), 7)]);
        let mut all = counts.clone();
        all.add_all(&UnclaimedCounts {
            flows: 1,
            packets: 50,
            largest: vec![(flow(7), 50)],
            ..UnclaimedCounts::default()
        });
        assert_eq!(
            (all.flows, all.packets, all.largest[0], all.largest.len()),
            (5, 80, (flow(7), 50), 3)
        );
    }

    #[test]
    fn a_flood_of_flows_is_counted_without_their_ends() {
        let mut unclaimed = Unclaimed::default();
        for host in 0..2u8 {
            for port in 0..=u16::MAX {
                let from = Endpoint::v4([10, 0, 0, host], port);
                unclaimed.add(FlowKey::between(from, from), 2);
            }
        }
        assert_eq!(unclaimed.nobodys.flows.len(), MAX_FLOWS);
        assert_eq!(
            (unclaimed.counts().flows, unclaimed.counts().packets),
            (131_072, 262_144)
        );
    }
}
