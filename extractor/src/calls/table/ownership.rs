//! The owners of flows, and their change when a call gives or releases an endpoint.
//!
//! A change at an endpoint may concern all flows there, and media servers and load generators have
//! thousands of both. So the owners of a flow are determined late: at the next change at one of its
//! ends if packets came since the last one, otherwise at the end of the window. Between two
//! changes, owners are the same, so it makes no difference when they are determined. Two kinds of
//! flows are treated differently:
//!
//! * if calls gave both ends, only a call that holds both can change anything: such a flow is
//!   *settled*;
//! * guesses depend on recent packets, so their owners are determined at each change, and so are
//!   those of flows that may become a guess.

use smallvec::SmallVec;

use super::{Call, CallState, CallTable, Claim, MAX_ENDPOINTS};
use crate::{
    calls::{
        Basis, CallNumber, FlowNumber, Given, GrantOutcome, Owner, Owners,
        endpoints::{CallNumbers, Had, Hold, Stretches, SureOwners},
        guesses::{Facts, GuessedOwner, guessed_owner},
    },
    events::FlowKey,
    moment::Moment,
    packet::Endpoint,
    sdp::Rank,
};

/// The owner of packets that several calls may have: they go into no file, and are counted.
const DOUBT: CallNumber = CallNumber(u64::MAX);

/// The reason why a flow may belong to another call from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The flow is new, or a call gave one of its ends.
    Given,
    /// A call released one of its ends.
    Released,
}

/// A call whose endpoints change.
#[derive(Clone, Copy)]
pub(super) struct ChangedBy<'a> {
    /// The call.
    pub(super) call: CallNumber,
    /// The endpoints that it holds, or is about to hold.
    pub(super) held: &'a [Endpoint],
}

/// An endpoint before a change.
pub(super) struct EndpointBefore {
    hold: Hold,
    /// The flows there that only this call's change concerns.
    own_flows: Vec<FlowNumber>,
}

/// The flows at an endpoint whose owners must be determined at once.
enum Urgent {
    All,
    /// The flows of the changing call: in a crowd, one more guess of an end makes no difference to
    /// the others.
    Own,
    /// The flows whose other end is guessed.
    GuessedAtOtherEnd,
    None,
}

impl Urgent {
    fn of(before: Hold, after: Hold) -> Self {
        match (before.is_sure, after.is_sure) {
            (true, true) => Self::None,
            (false, false) if before.is_crowded && after.is_crowded => Self::Own,
            _ if before.is_guessed || after.is_guessed => Self::All,
            (before, after) if before != after => Self::GuessedAtOtherEnd,
            _ => Self::None,
        }
    }
}

impl CallTable {
    /// Determines the owners of a new flow, from the start of its window on.
    pub(super) fn introduce(&mut self, flow: FlowNumber, start: Moment) {
        self.transfer(flow, Change::Given, start);
    }

    /// Notes that a call gives endpoints: packets to or from them belong to the call from now on.
    /// So may flows at endpoints that the call guesses, because their fit depends on its other
    /// endpoints.
    pub(super) fn give_all(
        &mut self,
        number: CallNumber,
        endpoints: &[(Endpoint, Rank)],
        at: Moment,
    ) {
        let guessed = self.guessed_by(number);
        let concerned = endpoints
            .iter()
            .map(|(endpoint, _)| endpoint)
            .chain(&guessed);
        let mut held = self
            .calls
            .get(&number)
            .map(|call| call.held.clone())
            .unwrap_or_default();
        held.extend(endpoints.iter().map(|(endpoint, _)| *endpoint));
        let by = ChangedBy {
            call: number,
            held: &held,
        };
        concerned.for_each(|endpoint| self.note_conversations(*endpoint, by, at));
        for endpoint in &guessed {
            self.prepare(*endpoint, by, self.endpoints.hold(*endpoint), at);
        }
        let mut changed: SmallVec<[(Endpoint, EndpointBefore); 8]> = SmallVec::new();
        for &(endpoint, rank) in endpoints {
            let before = self.give(by, endpoint, rank, at);
            changed.extend(before.map(|before| (endpoint, before)));
        }
        if changed.is_empty() {
            return;
        }
        for (endpoint, before) in &changed {
            self.note_change(*endpoint, before, Change::Given, at);
        }
        for endpoint in self.guessed_by(number) {
            if changed.iter().all(|(changed, _)| *changed != endpoint) {
                self.transfer_guessed(endpoint, by, Change::Given, at);
            }
        }
    }

    fn guessed_by(&self, number: CallNumber) -> SmallVec<[Endpoint; 2]> {
        self.calls
            .get(&number)
            .map(|call| call.guessed.clone())
            .unwrap_or_default()
    }

    /// Notes that a call gives an endpoint: earlier packets there belong to it, too, from the
    /// lookback and while no call held the endpoint. Returns the endpoint's state before, if later
    /// packets may now belong to another call.
    fn give(
        &mut self,
        by: ChangedBy<'_>,
        endpoint: Endpoint,
        rank: Rank,
        at: Moment,
    ) -> Option<EndpointBefore> {
        let number = by.call;
        let call = self.calls.get(&number)?;
        let is_held = call.held.contains(&endpoint);
        // A description that is repeated after the BYE takes nothing from a later call.
        if call.dialogs.over() == Some(CallState::Completed)
            && (is_held || self.endpoints.is_held(endpoint))
        {
            self.note_grant(number, (endpoint, rank), at, at, GrantOutcome::TooLate);
            return None;
        }
        if !is_held && call.held.len() >= MAX_ENDPOINTS {
            self.excess.endpoints = self.excess.endpoints.saturating_add(1);
            self.note_grant(number, (endpoint, rank), at, at, GrantOutcome::TooMany);
            return None;
        }
        let (opened, over_since, back_to) = (
            call.opened,
            call.over_since,
            call.looks_back_to(at, &self.rules),
        );
        self.take_from_stragglers(endpoint, rank, opened, at);
        let free = if rank.is_guess() {
            self.endpoints.free_of_any(endpoint, back_to, at)
        } else {
            self.endpoints.free_of_sure(endpoint, back_to, at)
        };
        let becomes = self.endpoints.hold_with(endpoint, rank, at);
        let before = self.prepare(endpoint, by, becomes, at);
        let given = self.endpoints.give(endpoint, number, rank, at);
        self.note_grant(
            number,
            (endpoint, rank),
            at,
            back_to,
            GrantOutcome::Given(given),
        );
        if given == Given::New {
            if let Some(since) = over_since {
                self.endpoints.note_over(endpoint, number, since);
            }
            if let Some(call) = self.calls.get_mut(&number) {
                call.held.push(endpoint);
                if rank.is_guess() {
                    call.guessed.push(endpoint);
                    self.has_guesses = true;
                }
            }
            if rank.is_guess() {
                self.look_back_by_guess(endpoint, by, &free);
            } else {
                self.look_back(endpoint, number, &free);
            }
        }
        (given != Given::Unchanged).then_some(before)
    }

    /// Keeps what became of an endpoint that a call gave, if somebody asks for reasons.
    #[inline]
    fn note_grant(
        &mut self,
        call: CallNumber,
        endpoint: (Endpoint, Rank),
        at: Moment,
        back_to: Moment,
        outcome: GrantOutcome,
    ) {
        if let Some(trace) = &mut self.trace {
            trace.note_grant(call, endpoint, at, back_to, outcome);
        }
    }

    /// Releases the endpoints of a call that has ended.
    pub(super) fn release_all(&mut self, number: CallNumber, held: &[Endpoint], at: Moment) {
        for endpoint in held {
            let by = ChangedBy { call: number, held };
            let before = self.prepare(
                *endpoint,
                by,
                self.endpoints.hold_without(*endpoint, number),
                at,
            );
            self.endpoints.release(*endpoint, number, at);
            self.note_change(*endpoint, &before, Change::Released, at);
        }
    }

    /// Gives the earlier packets of an endpoint, from times when no call held it, to the call that
    /// gives the endpoint now, and not to a call that only guessed the other end.
    fn look_back(&mut self, endpoint: Endpoint, number: CallNumber, free: &[(Moment, Moment)]) {
        let Some(&(first, _)) = free.first() else {
            return;
        };
        for flow in self.flows.touching(endpoint).to_vec() {
            let (guessing, sure): (Owners, Owners) = self
                .flows
                .owners(flow)
                .iter()
                .copied()
                .partition(|owner| owner.is_guess);
            if !guessing.is_empty() {
                self.flows.replace_owners(flow, sure);
                guessing
                    .iter()
                    .filter(|owner| owner.from < first)
                    .for_each(|owner| self.claim(owner, flow, first));
            }
            for &(from, until) in free {
                self.claim(
                    &Owner {
                        call: number,
                        from,
                        is_guess: false,
                    },
                    flow,
                    until,
                );
            }
        }
    }

    /// A guess takes only packets that belonged to no call, at the other end either.
    fn look_back_by_guess(
        &mut self,
        endpoint: Endpoint,
        by: ChangedBy<'_>,
        free: &[(Moment, Moment)],
    ) {
        if free.is_empty() {
            return;
        }
        let number = by.call;
        let flows = if self.endpoints.hold(endpoint).is_crowded {
            self.own_flows(endpoint, by)
        } else {
            self.flows.touching(endpoint).to_vec()
        };
        for flow in flows {
            let is_owned = self
                .flows
                .owners(flow)
                .iter()
                .any(|owner| owner.call != DOUBT);
            let Some(key) = self.flows.key(flow).filter(|_| !is_owned) else {
                continue;
            };
            if self.sure_owners(key).calls.is_empty()
                && self.guessed_owners(key).0.as_slice() == [number]
            {
                let other = if key.source == endpoint {
                    key.destination
                } else {
                    key.source
                };
                let free = free.iter().flat_map(|(from, until)| {
                    self.endpoints.free_of_others(other, number, *from, *until)
                });
                let free: Stretches = free.collect();
                for (from, until) in free {
                    self.claim(
                        &Owner {
                            call: number,
                            from,
                            is_guess: true,
                        },
                        flow,
                        until,
                    );
                }
            }
        }
    }

    /// Takes an endpoint from calls that were over when another call opened which gives it now: the
    /// calls are not legs of one conversation, and those that are over get no more packets there.
    fn take_from_stragglers(&mut self, endpoint: Endpoint, rank: Rank, opened: Moment, at: Moment) {
        let calls = &self.calls;
        let over_since = |number: CallNumber| calls.get(&number)?.over_since;
        for number in self
            .endpoints
            .stragglers(endpoint, rank, opened, over_since)
        {
            // The fit of the other call's guesses depends on its other endpoints.
            let others = self
                .guessed_by(number)
                .into_iter()
                .filter(|guessed| *guessed != endpoint);
            let others: SmallVec<[Endpoint; 2]> = others.collect();
            let held = self
                .calls
                .get(&number)
                .map(|call| call.held.clone())
                .unwrap_or_default();
            let by = ChangedBy {
                call: number,
                held: &held,
            };
            for endpoint in &others {
                self.prepare(*endpoint, by, self.endpoints.hold(*endpoint), at);
            }
            let before = self.prepare(
                endpoint,
                by,
                self.endpoints.hold_without(endpoint, number),
                at,
            );
            self.endpoints.release(endpoint, number, at);
            if let Some(trace) = &mut self.trace {
                trace.note_taken_over(number, endpoint, at);
            }
            if let Some(call) = self.calls.get_mut(&number) {
                call.held.retain(|held| *held != endpoint);
            }
            self.note_change(endpoint, &before, Change::Released, at);
            others
                .iter()
                .for_each(|endpoint| self.transfer_guessed(*endpoint, by, Change::Released, at));
        }
    }

    /// Remembers which guesses have the conversations of an endpoint, before another call gives it.
    fn note_conversations(&mut self, endpoint: Endpoint, by: ChangedBy<'_>, at: Moment) {
        let hold = self.endpoints.hold(endpoint);
        // No guess has a flow of an endpoint that a call gave for sure.
        if !self.has_guesses || hold.is_sure {
            return;
        }
        let flows = if hold.is_crowded {
            self.own_flows(endpoint, by)
        } else {
            self.flows.touching(endpoint).to_vec()
        };
        for flow in flows {
            let Some(key) = self.flows.key(flow) else {
                continue;
            };
            let has = |owner: &&Owner| {
                owner.is_guess
                    && owner.call != DOUBT
                    && self
                        .flows
                        .last_packet_between(flow, owner.from, at)
                        .is_some()
            };
            if let Some(owner) = self.flows.owners(flow).iter().find(has) {
                self.endpoints
                    .note_had(key.either_way(), Had::By(owner.call));
            }
        }
    }

    /// Prepares a change at an endpoint, which then `becomes` held this way: determines the owners
    /// of flows there up to now, as far as they matter.
    pub(super) fn prepare(
        &mut self,
        endpoint: Endpoint,
        by: ChangedBy<'_>,
        becomes: Hold,
        at: Moment,
    ) -> EndpointBefore {
        self.tell_due(endpoint, at);
        let touching = self.flows.touching(endpoint);
        let own_flows = if touching.len() <= by.held.len().max(8) {
            touching.to_vec()
        } else {
            self.own_flows(endpoint, by)
        };
        own_flows
            .iter()
            .for_each(|flow| self.flows.reopen(*flow, at));
        let before = EndpointBefore {
            hold: self.endpoints.hold(endpoint),
            own_flows,
        };
        for flow in self.urgent_flows(endpoint, &before, becomes) {
            let Some(FlowKey {
                source,
                destination,
                ..
            }) = self.flows.key(flow)
            else {
                continue;
            };
            if self.flows.has_changed(source) || self.flows.has_changed(destination) {
                self.tell(flow, at);
            }
        }
        before
    }

    /// Notes that an endpoint has changed: see [`Self::prepare`].
    pub(super) fn note_change(
        &mut self,
        endpoint: Endpoint,
        before: &EndpointBefore,
        change: Change,
        at: Moment,
    ) {
        for flow in self.urgent_flows(endpoint, before, self.endpoints.hold(endpoint)) {
            self.transfer(flow, change, at);
        }
        self.flows.note_change(endpoint);
    }

    /// The flows at an endpoint that go to another endpoint of the call, or that it has by a guess.
    fn own_flows(&self, endpoint: Endpoint, by: ChangedBy<'_>) -> Vec<FlowNumber> {
        let ends = by
            .held
            .iter()
            .filter(|held| **held != endpoint)
            .chain([&endpoint]);
        let between = ends.flat_map(|other| self.flows.between(endpoint, *other));
        let had = self.endpoints.had_by(endpoint, by.call);
        let had = had.flat_map(|conversation| {
            self.flows
                .between(conversation.source, conversation.destination)
        });
        between.chain(had).copied().collect()
    }

    /// The flows that a guess may have before a change at an endpoint, or after it.
    fn urgent_flows(
        &self,
        endpoint: Endpoint,
        before: &EndpointBefore,
        after: Hold,
    ) -> Vec<FlowNumber> {
        if !self.has_guesses && !after.is_guessed {
            return Vec::new();
        }
        let touching = self.flows.touching(endpoint);
        let is_guessed = |flow: &FlowNumber| {
            self.flows.key(*flow).is_some_and(
                |FlowKey {
                     source,
                     destination,
                     ..
                 }| {
                    self.endpoints
                        .hold(if source == endpoint {
                            destination
                        } else {
                            source
                        })
                        .is_guessed
                },
            )
        };
        match Urgent::of(before.hold, after) {
            Urgent::All => touching.to_vec(),
            Urgent::Own => before.own_flows.clone(),
            Urgent::GuessedAtOtherEnd => touching.iter().copied().filter(is_guessed).collect(),
            Urgent::None => Vec::new(),
        }
    }

    /// Determines the owners anew at an endpoint where the fit of a call's guesses may have
    /// changed.
    fn transfer_guessed(
        &mut self,
        endpoint: Endpoint,
        by: ChangedBy<'_>,
        change: Change,
        at: Moment,
    ) {
        let flows = match self.endpoints.hold(endpoint) {
            hold if hold.is_sure || !hold.is_guessed => return,
            hold if hold.is_crowded => self.own_flows(endpoint, by),
            _ => self.flows.touching(endpoint).to_vec(),
        };
        for flow in flows {
            self.transfer(flow, change, at);
        }
    }

    /// Determines the owners of the flows at an endpoint that have packets before `until`, which is
    /// not after the next change.
    pub(super) fn tell_due(&mut self, endpoint: Endpoint, until: Moment) {
        while let Some((_, flow)) = self.flows.pop_due(endpoint, until) {
            self.tell(flow, until);
        }
    }

    /// Determines the owners of all flows at endpoints that have changed.
    pub(super) fn tell_all(&mut self, until: Moment) {
        for endpoint in self.flows.take_changed() {
            for flow in self.flows.touching(endpoint).to_vec() {
                self.tell(flow, until);
            }
        }
    }

    /// Determines the owners of all flows, because the networks of calls matter from now on.
    pub(super) fn tell_anew(&mut self, at: Moment) {
        for flow in self.flows.numbers() {
            self.flows.reopen(flow, at);
            self.tell(flow, at);
        }
    }

    /// Determines the owners of a flow's packets before `until`, from the first one without known
    /// owners.
    fn tell(&mut self, flow: FlowNumber, until: Moment) {
        let Some(key) = self
            .flows
            .key(flow)
            .filter(|_| !self.flows.is_settled(flow))
        else {
            return;
        };
        let SureOwners {
            calls,
            gave_both,
            basis,
        } = self.sure_owners(key);
        let is_guessed = |endpoint| self.endpoints.hold(endpoint).is_guessed;
        // Guessed owners were determined at once.
        if !calls.is_empty()
            || !self.has_guesses
            || !(is_guessed(key.source) || is_guessed(key.destination))
        {
            let from = self.flows.next(flow).map_or(until, |next| next.min(until));
            self.note_decision(key, &calls, basis, from);
            self.replace_owners(flow, calls, false, from);
        }
        self.flows.note_told(flow, until, gave_both);
    }

    /// Determines the owners of a flow from now on.
    fn transfer(&mut self, flow: FlowNumber, change: Change, at: Moment) {
        let Some(key) = self.flows.key(flow) else {
            return;
        };
        let SureOwners {
            mut calls,
            gave_both,
            mut basis,
        } = self.sure_owners(key);
        let is_guess = calls.is_empty() && self.has_guesses;
        if is_guess {
            (calls, basis) = self.guessed_owners(key);
            if change == Change::Released
                && !calls.is_empty()
                && self.is_left_running(flow, &calls, at)
            {
                self.endpoints.note_had(key.either_way(), Had::Before);
                (calls, basis) = self.guessed_owners(key);
            }
        }
        self.note_decision(key, &calls, basis, at);
        self.replace_owners(flow, calls, is_guess, at);
        self.flows.note_told(flow, at, gave_both);
    }

    /// Gives a flow to these calls from now on; they are sorted. Calls that lose it keep its
    /// packets up to now.
    fn replace_owners(&mut self, flow: FlowNumber, calls: CallNumbers, is_guess: bool, at: Moment) {
        let before = self.flows.replace_owners(flow, Owners::new());
        let mut owners = Owners::new();
        for owner in before {
            if calls.binary_search(&owner.call).is_ok() {
                owners.push(Owner { is_guess, ..owner });
            } else {
                self.claim(&owner, flow, at);
            }
        }
        // Both are sorted by call: endpoints of a load test have thousands of owners.
        let known = owners.len();
        for call in calls {
            if owners.get(..known).is_none_or(|known| {
                known
                    .binary_search_by_key(&call, |owner| owner.call)
                    .is_err()
            }) {
                owners.push(Owner {
                    call,
                    from: at,
                    is_guess,
                });
            }
        }
        owners.sort_unstable_by_key(|owner| owner.call);
        self.flows.replace_owners(flow, owners);
    }

    /// The calls that surely own a flow at present.
    fn sure_owners(&self, key: FlowKey) -> SureOwners {
        let (_, are_several) = self.networks;
        let is_near = |number: CallNumber| self.is_near(number, key);
        let near: Option<&dyn Fn(CallNumber) -> bool> =
            if are_several { Some(&is_near) } else { None };
        self.endpoints.owners(key.source, key.destination, near)
    }

    /// Keeps a decision on the owners of a flow, if somebody asks for its reason.
    #[inline]
    fn note_decision(&mut self, key: FlowKey, calls: &CallNumbers, basis: Basis, from: Moment) {
        if let Some(trace) = &mut self.trace {
            let call_id = |number| self.calls.get(&number).map(|call| &*call.call_id);
            trace.note_decision(key, calls, basis, from, call_id);
        }
    }

    /// The call that has a flow by a guess, if no call surely has it, and the reason.
    fn guessed_owners(&self, key: FlowKey) -> (CallNumbers, Basis) {
        let facts = |number: CallNumber| {
            let Call {
                addresses, held, ..
            } = self.call(number)?;
            Some(Facts {
                addresses,
                held,
                is_near: self.is_near(number, key),
            })
        };
        match guessed_owner(key, &self.endpoints, facts) {
            GuessedOwner::Of(call, basis) => (SmallVec::from_buf([call]), basis),
            GuessedOwner::InDoubt(doubt) => (SmallVec::from_buf([DOUBT]), Basis::Doubt(doubt)),
            GuessedOwner::Nobodys => (CallNumbers::new(), Basis::Nobody),
        }
    }

    /// True when the signalling of a call came through the network of a flow.
    fn is_near(&self, number: CallNumber, key: FlowKey) -> bool {
        self.calls
            .get(&number)
            .is_some_and(|call| call.networks.contains(&key.network))
    }

    /// True when a call loses a flow while its packets still come: the next ones most likely belong
    /// to it, although it has closed. The packets that are examined here are kept whatever the
    /// windows.
    fn is_left_running(&self, flow: FlowNumber, after: &[CallNumber], at: Moment) -> bool {
        let recently = Moment::at(at.clock.saturating_sub(self.rules.lookback_ns));
        let mut lost = self
            .flows
            .owners(flow)
            .iter()
            .filter(|owner| after.binary_search(&owner.call).is_err());
        lost.any(|owner| {
            self.flows
                .last_packet_between(flow, owner.from.max(recently), at)
                .is_some()
        })
    }

    /// Adds a stretch of a flow to a call. A stretch without packets is not kept: an endpoint with
    /// thousands of peers that moves from call to call would leave thousands of them with each.
    pub(super) fn claim(&mut self, owner: &Owner, flow: FlowNumber, until: Moment) {
        let Some(last) = self.flows.last_packet_between(flow, owner.from, until) else {
            return;
        };
        self.flows.note_claim(flow);
        if let Some(trace) = &mut self.trace
            && owner.call != DOUBT
            && let Some(key) = self.flows.key(flow)
        {
            trace.note_claim(key, owner, until);
        }
        if owner.is_guess {
            self.note_guess(owner, flow, until);
        }
        if let Some(call) = self.calls.get_mut(&owner.call) {
            call.last_media = call.last_media.max(last.clock);
            call.claims.push(Claim {
                flow,
                from: owner.from,
                until,
            });
        }
    }

    /// Notes that a call has packets of a flow by a guess, or that its owner is in doubt.
    fn note_guess(&mut self, owner: &Owner, flow: FlowNumber, until: Moment) {
        let Some(key) = self.flows.key(flow) else {
            return;
        };
        if owner.call == DOUBT {
            let packets = self.flows.packets_between(flow, owner.from, until);
            self.unclaimed.add_doubtful(
                key,
                packets.fold(0, |sum, packets| sum.saturating_add(packets.len() as u64)),
            );
        } else {
            self.endpoints
                .note_had(key.either_way(), Had::By(owner.call));
        }
    }
}
