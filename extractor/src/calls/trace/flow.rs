//! The decisions on one flow, and what became of its packets for one call.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use super::{
    super::{Basis, CallNumber, Doubt},
    TracedCall,
};
use crate::{
    events::FlowKey,
    moment::{Clock, Moment},
};

/// The most decisions on a flow that are kept, and the most stretches of time; the oldest go first,
/// whose packets have been counted.
const MAX_DECISIONS: usize = 1024;

/// The decisions on the owners of one flow.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    /// In order of time. Each holds until the next.
    decisions: VecDeque<Decision>,
    /// Stretches of time in which a call has the flow.
    claims: VecDeque<Claimed>,
}

#[derive(Clone, Debug)]
struct Decision {
    from: Moment,
    owners: SmallVec<[CallNumber; 1]>,
    basis: Basis,
}

#[derive(Clone, Copy, Debug)]
struct Claimed {
    call: CallNumber,
    from: Moment,
    until: Moment,
}

/// What became of a packet at an endpoint of a call, as that call sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It belongs to the call.
    Taken(Basis),
    /// It belongs to another call.
    Others {
        /// The call; the first, if there are several.
        call: CallNumber,
        /// The reason.
        basis: Basis,
        /// False before the call opened, and after it closed.
        is_during: bool,
    },
    /// Several calls may have it, so none has it.
    Doubt(Doubt),
    /// It belongs to no call.
    Outside(Outside),
}

/// The reason why a packet at an endpoint of a call belongs to no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// It came before the INVITE that opened the call.
    BeforeInvite,
    /// It came too long before the description that gave the endpoint.
    BeforeLookback,
    /// It came after the call closed.
    AfterEnd,
    /// Another call had taken over the endpoint of this one, which was over.
    TakenOver,
    /// Another call held one of its ends before the description.
    Held,
}

/// Packets, and the packet times of the first and of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Their number.
    pub packets: u64,
    /// The time of the first packet.
    pub first: Clock,
    /// The time of the last packet.
    pub last: Clock,
}

/// The packets of a flow, by what became of them.
#[derive(Debug, Default)]
pub struct TracedFlow {
    /// The packets of each fate.
    pub fates: BTreeMap<Fate, Stretch>,
}

impl Decisions {
    pub(super) fn add(&mut self, owners: &[CallNumber], basis: Basis, from: Moment) {
        let is_later = |decision: &Decision| decision.from >= from;
        while self.decisions.pop_back_if(|last| is_later(last)).is_some() {}
        let last = self.decisions.back();
        if last.is_some_and(|last| *last.owners == *owners && last.basis == basis) {
            return;
        }
        if self.decisions.len() >= MAX_DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(Decision {
            from,
            owners: owners.into(),
            basis,
        });
    }

    /// The reason of the latest decision, if it is a guess of these calls.
    pub(super) fn guess_of(&self, owners: &[CallNumber]) -> Option<Basis> {
        let last = self.decisions.back();
        let of_them = last.filter(|last| *last.owners == *owners);
        of_them
            .map(|last| last.basis)
            .filter(|basis| matches!(basis, Basis::Guess(_)))
    }

    pub(super) fn claim(&mut self, call: CallNumber, from: Moment, until: Moment) {
        push(&mut self.claims, Claimed { call, from, until });
    }

    /// What became of a packet of the flow, as a call sees it.
    pub(super) fn fate(&self, call: &TracedCall, key: FlowKey, packet: Moment) -> Fate {
        let place = self
            .decisions
            .partition_point(|decision| decision.from <= packet);
        let decision = place
            .checked_sub(1)
            .and_then(|place| self.decisions.get(place));
        let basis = decision.map_or(Basis::Nobody, |decision| decision.basis);
        let is_owner = |number| decision.is_some_and(|it| it.owners.contains(&number));
        let has = |claimed: &&Claimed| claimed.from <= packet && packet < claimed.until;
        let mut claims = self.claims.iter().rev().filter(has);
        if claims.clone().any(|claimed| claimed.call == call.number) {
            // Only the lookback gives a flow to a call that is not its owner then.
            return Fate::Taken(if is_owner(call.number) {
                basis
            } else {
                Basis::Lookback
            });
        }
        if let Some(claimed) = claims.next() {
            return Fate::Others {
                call: claimed.call,
                basis: if is_owner(claimed.call) {
                    basis
                } else {
                    Basis::Lookback
                },
                is_during: call.is_open_at(packet),
            };
        }
        match basis {
            Basis::Doubt(doubt) => Fate::Doubt(doubt),
            _ => Fate::Outside(Outside::of(call, key, packet)),
        }
    }
}

/// Adds a stretch, or prolongs the last one.
fn push(stretches: &mut VecDeque<Claimed>, new: Claimed) {
    if let Some(last) = stretches.back_mut()
        && last.call == new.call
        && last.until == new.from
    {
        last.until = new.until;
        return;
    }
    if stretches.len() >= MAX_DECISIONS {
        stretches.pop_front();
    }
    stretches.push_back(new);
}

impl Outside {
    /// The reason why no call has a packet at an endpoint of this call. The call's grants say since
    /// when and until when it could have it.
    fn of(call: &TracedCall, key: FlowKey, packet: Moment) -> Self {
        let at_ends = |endpoint| endpoint == key.source || endpoint == key.destination;
        let mut grants = call
            .grants
            .iter()
            .filter(|grant| grant.is_given() && at_ends(grant.endpoint));
        if call.end.is_some_and(|(at, _)| packet >= at) {
            Self::AfterEnd
        } else if packet < call.first_frame && !call.is_mid_dialog {
            Self::BeforeInvite
        } else if grants.clone().all(|grant| packet < grant.back_to) {
            Self::BeforeLookback
        } else if grants.any(|grant| grant.taken_over.is_some_and(|at| packet >= at)) {
            Self::TakenOver
        } else {
            Self::Held
        }
    }
}

impl Stretch {
    /// Adds the packets of another stretch.
    pub fn merge(&mut self, other: &Self) {
        if other.packets == 0 {
            return;
        }
        self.first = if self.packets == 0 {
            other.first
        } else {
            self.first.min(other.first)
        };
        self.last = self.last.max(other.last);
        self.packets = self.packets.saturating_add(other.packets);
    }

    /// Adds a packet.
    pub fn add(&mut self, clock: Clock) {
        self.merge(&Self {
            packets: 1,
            first: clock,
            last: clock,
        });
    }
}

impl TracedFlow {
    pub(super) fn add(&mut self, fate: Fate, clock: Clock) {
        self.fates.entry(fate).or_default().add(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CallNumber = CallNumber(1);

    #[test]
    fn a_decision_holds_until_the_next_and_is_kept_once() {
        let mut decisions = Decisions::default();
        decisions.add(&[], Basis::Nobody, Moment::at(1));
        decisions.add(&[A], Basis::Source, Moment::at(5));
        decisions.add(&[A], Basis::Source, Moment::at(7));
        decisions.add(&[A], Basis::BothEnds, Moment::at(9));
        let kept: Vec<(Clock, Basis)> = decisions
            .decisions
            .iter()
            .map(|decision| (decision.from.clock, decision.basis))
            .collect();
        assert_eq!(
            kept,
            [(1, Basis::Nobody), (5, Basis::Source), (9, Basis::BothEnds)]
        );
        decisions.add(&[], Basis::Nobody, Moment::at(5));
        assert_eq!(decisions.decisions.len(), 1, "decided again");
    }

    #[test]
    fn stretches_that_touch_are_one() {
        let mut decisions = Decisions::default();
        decisions.claim(A, Moment::at(1), Moment::at(5));
        decisions.claim(A, Moment::at(5), Moment::at(9));
        decisions.claim(A, Moment::at(10), Moment::at(12));
        assert_eq!(decisions.claims.len(), 2);
        for clock in 0..5_000 {
            decisions.claim(A, Moment::at(clock * 2), Moment::at(clock * 2 + 1));
        }
        assert_eq!(decisions.claims.len(), MAX_DECISIONS);
    }
}
