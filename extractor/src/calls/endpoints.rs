//! The open calls that gave an endpoint, and when: the first part of assigning packets to calls
//! (docs/calls.md).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    Basis, CallNumber,
    holders::{Holder, Holders},
};
use crate::{
    events::{FlowKey, Table},
    moment::{Clock, Moment},
    packet::Endpoint,
    sdp::Rank,
};

/// The most calls whose guess of one end of a conversation counts: if more calls guess it, a call
/// must have guessed both ends. It is also the limit for calls that guess both ends.
pub(super) const MAX_GUESSING: usize = 16;
/// Calls that guess an endpoint within ten seconds count as simultaneous, even if each has ended
/// before the next began.
const CROWDING_NS: u64 = 10_000_000_000;
/// The most conversations of a guessed endpoint that are remembered: more than a media server has
/// peers on one port.
const MAX_CONVERSATIONS: usize = 1024;

/// The endpoints that open calls hold, and for a while those of closed calls.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Endpoints {
    table: Table<Endpoint, HeldEndpoint>,
    /// The number of times that endpoints were given: later ones have higher numbers.
    given: u64,
}

/// An endpoint that calls hold, or held shortly before.
#[derive(Debug, Default, Serialize, Deserialize)]
struct HeldEndpoint {
    holders: Holders,
    /// Calls that were over while they held it, and since when, in order of time. Some may have
    /// been released since.
    over: VecDeque<(Moment, CallNumber)>,
    /// The times at which a call held it that did not guess.
    sure: History,
    /// The times at which a call held it, guessed or not.
    any: History,
    /// Conversations of this endpoint that a call has or had, while it is a guess.
    conversations: BTreeMap<FlowKey, Had>,
    /// The times at which calls began to guess it, only the last [`MAX_GUESSING`] and one more.
    guessed_at: VecDeque<Clock>,
}

/// Stretches of time in which an endpoint was held.
#[derive(Debug, Default, Serialize, Deserialize)]
struct History {
    /// The beginning of the present stretch, if it is held.
    since: Option<Moment>,
    /// The stretches that ended within the lookback.
    past: SmallVec<[(Moment, Moment); 1]>,
}

/// The call that has a conversation of which no call gave an end for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Had {
    /// A call that guessed: no other guess takes the conversation.
    By(CallNumber),
    /// A closed call, whose packets were still coming. They do not indicate another call at one end
    /// only.
    Before,
}

/// Calls, by number.
pub(super) type CallNumbers = SmallVec<[CallNumber; 1]>;

/// Stretches of time.
pub(super) type Stretches = SmallVec<[(Moment, Moment); 1]>;

/// The calls that surely own a packet.
#[derive(Debug, Default)]
pub(super) struct SureOwners {
    /// By number.
    pub(super) calls: CallNumbers,
    /// True when they gave both ends of its flow: a call that did not give one end changes nothing
    /// at the other.
    pub(super) gave_both: bool,
    /// The reason.
    pub(super) basis: Basis,
}

/// The way in which an endpoint is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hold {
    /// By a call that does not guess.
    pub(super) is_sure: bool,
    /// By a call that guesses.
    pub(super) is_guessed: bool,
    /// By more guessing calls than count.
    pub(super) is_crowded: bool,
}

impl Hold {
    fn by(sure: usize, guesses: usize, is_crowded: bool) -> Self {
        Self {
            is_sure: sure > 0,
            is_guessed: guesses > 0,
            is_crowded: is_crowded || guesses > MAX_GUESSING,
        }
    }
}

impl HeldEndpoint {
    /// True when many calls guessed it one after the other.
    fn is_crowded(&self) -> bool {
        self.guessed_at.len() > MAX_GUESSING
    }

    /// Notes that a call begins to guess it.
    fn note_guess(&mut self, at: Moment) {
        let since = at.clock.saturating_sub(CROWDING_NS);
        while self
            .guessed_at
            .pop_front_if(|guessed| *guessed < since)
            .is_some()
        {}
        if self.is_crowded() {
            self.guessed_at.pop_front();
        }
        self.guessed_at.push_back(at.clock);
    }

    /// Notes that the calls that hold it changed at a moment.
    fn note_history(&mut self, at: Moment) {
        self.sure.note(self.holders.sure() > 0, at);
        self.any.note(!self.holders.is_empty(), at);
    }

    /// The hold after one more call gives it.
    fn with(&self, rank: Rank, at: Moment) -> Hold {
        let since = at.clock.saturating_sub(CROWDING_NS);
        let recently = self
            .guessed_at
            .iter()
            .filter(|guessed| **guessed >= since)
            .count();
        let (guess, sure) = (usize::from(rank.is_guess()), usize::from(!rank.is_guess()));
        let is_crowded = if rank.is_guess() {
            recently >= MAX_GUESSING
        } else {
            self.is_crowded()
        };
        let Self { holders, .. } = self;
        Hold::by(
            holders.sure().saturating_add(sure),
            holders.guesses().saturating_add(guess),
            is_crowded,
        )
    }
}

/// The effect of giving an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The call was the preferred one already.
    Unchanged,
    /// The call held it already, and is now preferred.
    Again,
    /// The call holds it now.
    New,
}

impl Endpoints {
    /// Notes that a call gives an endpoint at the moment `at`.
    pub fn give(&mut self, endpoint: Endpoint, call: CallNumber, rank: Rank, at: Moment) -> Given {
        self.given = self.given.saturating_add(1);
        let held = self.table.entry(endpoint).or_default();
        let (given, rank) = match held.holders.get(call) {
            // If it is surer of the endpoint than before, the call may now own flows of another
            // call.
            Some(before) if held.holders.last() == Some(before) && rank <= before.rank => {
                (Given::Unchanged, before.rank)
            }
            Some(before) => (Given::Again, rank.max(before.rank)),
            None => (Given::New, rank),
        };
        if given == Given::New && rank.is_guess() {
            held.note_guess(at);
        }
        held.holders.insert(Holder {
            rank,
            given: self.given,
            call,
        });
        held.note_history(at);
        given
    }

    /// Notes that a call has closed and does not hold the endpoint any more.
    pub fn release(&mut self, endpoint: Endpoint, call: CallNumber, at: Moment) {
        let Some(held) = self.table.get_mut(&endpoint) else {
            return;
        };
        held.holders.remove(call);
        held.note_history(at);
        if held.holders.guesses() == 0 {
            held.conversations.clear();
        } else {
            held.conversations.retain(|_, had| *had != Had::By(call));
        }
        if held.holders.is_empty() {
            held.over.clear();
        }
    }

    /// The present hold of an endpoint.
    pub(super) fn hold(&self, endpoint: Endpoint) -> Hold {
        self.table
            .get(&endpoint)
            .map(|held| {
                let HeldEndpoint { holders, .. } = held;
                Hold::by(holders.sure(), holders.guesses(), held.is_crowded())
            })
            .unwrap_or_default()
    }

    /// The hold of an endpoint after one more call gives it.
    pub(super) fn hold_with(&self, endpoint: Endpoint, rank: Rank, at: Moment) -> Hold {
        let nobody = HeldEndpoint::default();
        self.table.get(&endpoint).unwrap_or(&nobody).with(rank, at)
    }

    /// The hold of an endpoint after a call has released it.
    pub(super) fn hold_without(&self, endpoint: Endpoint, call: CallNumber) -> Hold {
        let Some(held) = self.table.get(&endpoint) else {
            return Hold::default();
        };
        let holders = &held.holders;
        let (mut sure, mut guesses) = (holders.sure(), holders.guesses());
        match holders.get(call) {
            Some(holder) if holder.is_guess() => guesses = guesses.saturating_sub(1),
            Some(_) => sure = sure.saturating_sub(1),
            None => {}
        }
        Hold::by(sure, guesses, held.is_crowded())
    }

    /// The conversations of an endpoint that a call has by a guess.
    pub(super) fn had_by(
        &self,
        endpoint: Endpoint,
        call: CallNumber,
    ) -> impl Iterator<Item = FlowKey> {
        let conversations = self
            .table
            .get(&endpoint)
            .into_iter()
            .flat_map(|held| &held.conversations);
        conversations
            .filter(move |(_, had)| **had == Had::By(call))
            .map(|(conversation, _)| *conversation)
    }

    /// The calls to which a packet surely belongs, by number: those that gave both its ends;
    /// otherwise the one that last gave the destination; otherwise the one that last gave the
    /// source. If some calls are `near`, only they count.
    ///
    /// A guess never takes a packet from a call that surely knows one of its ends: it only decides
    /// between such calls.
    #[must_use]
    pub(super) fn owners(
        &self,
        source: Endpoint,
        destination: Endpoint,
        near: Option<&dyn Fn(CallNumber) -> bool>,
    ) -> SureOwners {
        let nobody = Holders::default();
        let holders = |endpoint| self.holders(endpoint).unwrap_or(&nobody);
        let (from, to) = (holders(source), holders(destination));
        let Some(near) = near else {
            return sure_owners(from, to, &|_| true);
        };
        let owners = sure_owners(from, to, near);
        if !owners.calls.is_empty() {
            return owners;
        }
        // A near call may still come that gives one end only.
        SureOwners {
            gave_both: false,
            ..sure_owners(from, to, &|_| true)
        }
    }

    /// The number of calls that only guess an endpoint, and the calls.
    pub(super) fn guessing(&self, endpoint: Endpoint) -> (usize, impl Iterator<Item = CallNumber>) {
        let holders = self.holders(endpoint);
        let guesses = holders.map_or(0, Holders::guesses);
        (
            guesses,
            holders
                .into_iter()
                .flat_map(Holders::iter)
                .take(guesses)
                .map(|holder| holder.call),
        )
    }

    /// The calls that hold both endpoints.
    pub(super) fn holding_both(
        &self,
        one: Endpoint,
        other: Endpoint,
    ) -> impl Iterator<Item = CallNumber> {
        let both = self.holders(one).zip(self.holders(other));
        both.into_iter()
            .flat_map(|(one, other)| one.shared_with(other))
            .map(|(holder, _)| holder.call)
    }

    /// True when the call only guesses the endpoint.
    #[must_use]
    pub(super) fn is_guess(&self, endpoint: Endpoint, call: CallNumber) -> bool {
        self.holding(endpoint, call)
            .is_some_and(|holder| holder.is_guess())
    }

    /// True when the call gave the endpoint for sure.
    #[must_use]
    pub fn is_sure(&self, endpoint: Endpoint, call: CallNumber) -> bool {
        self.holding(endpoint, call)
            .is_some_and(|holder| !holder.is_guess())
    }

    /// The call that has, or had, a conversation by a guess.
    #[must_use]
    pub fn had(&self, conversation: FlowKey) -> Option<Had> {
        let of = |end| {
            self.table
                .get(&end)
                .and_then(|held: &HeldEndpoint| held.conversations.get(&conversation))
                .copied()
        };
        of(conversation.source).or_else(|| of(conversation.destination))
    }

    /// Notes that a call has or had a conversation: no other guess takes it. It is remembered as
    /// long as one of its ends is guessed, by the call that has it if there is one.
    pub fn note_had(&mut self, conversation: FlowKey, had: Had) {
        for end in [conversation.source, conversation.destination] {
            let Some(held) = self.table.get_mut(&end) else {
                continue;
            };
            let concerns = match had {
                Had::Before => held.holders.guesses() > 0,
                Had::By(call) => held
                    .holders
                    .get(call)
                    .is_some_and(|holder| holder.is_guess()),
            };
            if concerns && held.conversations.len() < MAX_CONVERSATIONS {
                held.conversations.entry(conversation).or_insert(had);
            }
        }
    }

    /// The stretches between two moments in which no call held the endpoint without guessing.
    #[must_use]
    pub fn free_of_sure(&self, endpoint: Endpoint, from: Moment, until: Moment) -> Stretches {
        self.free(endpoint, from, until, |held| &held.sure)
    }

    /// The stretches between two moments in which no call held the endpoint.
    #[must_use]
    pub fn free_of_any(&self, endpoint: Endpoint, from: Moment, until: Moment) -> Stretches {
        self.free(endpoint, from, until, |held| &held.any)
    }

    /// The stretches between two moments in which no other call is known to have held the endpoint:
    /// all or nothing, if others hold it now.
    #[must_use]
    pub fn free_of_others(
        &self,
        endpoint: Endpoint,
        call: CallNumber,
        from: Moment,
        until: Moment,
    ) -> Stretches {
        match self.table.get(&endpoint) {
            Some(held) if held.holders.len() > usize::from(held.holders.get(call).is_some()) => {
                Stretches::new()
            }
            Some(held) => History {
                since: None,
                past: held.any.past.clone(),
            }
            .free_between(from, until),
            None => SmallVec::from_buf([(from, until)]),
        }
    }

    fn free(
        &self,
        endpoint: Endpoint,
        from: Moment,
        until: Moment,
        history: impl Fn(&HeldEndpoint) -> &History,
    ) -> Stretches {
        match self.table.get(&endpoint) {
            Some(held) => history(held).free_between(from, until),
            None => SmallVec::from_buf([(from, until)]),
        }
    }

    /// Notes that a call that holds the endpoint is over since a moment.
    pub(super) fn note_over(&mut self, endpoint: Endpoint, call: CallNumber, since: Moment) {
        let Some(held) = self.table.get_mut(&endpoint) else {
            return;
        };
        let place = held.over.partition_point(|(other, _)| *other <= since);
        held.over.insert(place, (since, call));
    }

    /// Removes and returns, in order of preference, the calls that hold an endpoint no surer than
    /// `rank` and were over before another call `opened`. Calls that are under way again, by
    /// `over_since`, are left out. The caller releases them. (All calls that do not guess are
    /// equally sure.)
    pub(super) fn stragglers(
        &mut self,
        endpoint: Endpoint,
        rank: Rank,
        opened: Moment,
        over_since: impl Fn(CallNumber) -> Option<Moment>,
    ) -> CallNumbers {
        let Some(held) = self.table.get_mut(&endpoint) else {
            return CallNumbers::new();
        };
        let over = held.over.partition_point(|(since, _)| *since < opened);
        let holder_of = |(since, call): (Moment, CallNumber)| {
            let holder = held
                .holders
                .get(call)
                .filter(|_| over_since(call) == Some(since))?;
            Some((since, holder))
        };
        let known: Vec<(Moment, Holder)> = held.over.drain(..over).filter_map(holder_of).collect();
        let (mut stragglers, surer): (Vec<_>, Vec<_>) = known
            .into_iter()
            .partition(|(_, holder)| !rank.is_guess() || holder.is_guess());
        surer
            .into_iter()
            .rev()
            .for_each(|(since, holder)| held.over.push_front((since, holder.call)));
        stragglers.sort_unstable_by_key(|(_, holder)| *holder);
        stragglers
            .into_iter()
            .map(|(_, holder)| holder.call)
            .collect()
    }

    /// True when a call holds the endpoint.
    #[must_use]
    pub fn is_held(&self, endpoint: Endpoint) -> bool {
        self.holders(endpoint)
            .is_some_and(|holders| !holders.is_empty())
    }

    fn holding(&self, endpoint: Endpoint, call: CallNumber) -> Option<Holder> {
        self.holders(endpoint)?.get(call)
    }

    fn holders(&self, endpoint: Endpoint) -> Option<&Holders> {
        self.table.get(&endpoint).map(|held| &held.holders)
    }

    /// Forgets the endpoints that closed calls held before `clock`.
    pub fn forget_before(&mut self, clock: Clock) {
        self.table.retain(|_, held| {
            held.sure.forget_before(clock);
            held.any.forget_before(clock);
            held.over
                .retain(|(_, call)| held.holders.get(*call).is_some());
            let guessed = held.guessed_at.back();
            let is_crowding = guessed.is_some_and(|last| last.saturating_add(CROWDING_NS) >= clock);
            !held.holders.is_empty() || !held.any.past.is_empty() || is_crowding
        });
    }
}

/// See [`Endpoints::owners`]; only `near` calls.
fn sure_owners(from: &Holders, to: &Holders, near: &dyn Fn(CallNumber) -> bool) -> SureOwners {
    let shared = |is_meant: &dyn Fn(Holder, Holder) -> bool, basis| {
        let shared = from
            .shared_with(to)
            .filter(|(from, to)| is_meant(*from, *to) && near(from.call));
        let mut calls: CallNumbers = shared.map(|(holder, _)| holder.call).collect();
        calls.sort_unstable();
        SureOwners {
            calls,
            gave_both: true,
            basis,
        }
    };
    let both = shared(
        &|from, to| !from.is_guess() && !to.is_guess(),
        Basis::BothEnds,
    );
    if !both.calls.is_empty() {
        return both;
    }
    let last_of = |holders: &Holders| {
        let mut sure = holders.iter().rev().take_while(|holder| !holder.is_guess());
        sure.find(|holder| near(holder.call))
            .map(|holder| holder.call)
    };
    let one_end = Basis::OneEndAndGuess;
    let (both, last, basis) = match last_of(to) {
        Some(last) => (
            shared(&|_, to| !to.is_guess(), one_end),
            Some(last),
            Basis::Destination,
        ),
        None => (
            shared(&|from, _| !from.is_guess(), one_end),
            last_of(from),
            Basis::Source,
        ),
    };
    if !both.calls.is_empty() {
        return both;
    }
    SureOwners {
        calls: last.into_iter().collect(),
        gave_both: false,
        basis,
    }
}

impl History {
    fn note(&mut self, is_held: bool, at: Moment) {
        match self.since {
            None if is_held => self.since = Some(at),
            Some(since) if !is_held => {
                self.past.push((since, at));
                self.since = None;
            }
            _ => {}
        }
    }

    /// The stretches between two moments in which it was not held.
    fn free_between(&self, from: Moment, until: Moment) -> Stretches {
        let until = self.since.map_or(until, |since| since.min(until));
        let mut free = SmallVec::new();
        let mut start = from;
        for &(held_from, held_until) in &self.past {
            if start < held_from.min(until) {
                free.push((start, held_from.min(until)));
            }
            start = start.max(held_until);
        }
        if start < until {
            free.push((start, until));
        }
        free
    }

    fn forget_before(&mut self, clock: Clock) {
        self.past.retain(|(_, until)| until.clock >= clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CallNumber = CallNumber(1);
    const B: CallNumber = CallNumber(2);

    fn end(port: u16) -> Endpoint {
        Endpoint::v4([192, 0, 2, 1], port)
    }

    fn give(endpoints: &mut Endpoints, port: u16, call: CallNumber, at: Clock) -> Given {
        endpoints.give(end(port), call, Rank::Named, Moment::at(at))
    }

    fn guess(endpoints: &mut Endpoints, port: u16, call: CallNumber, at: Clock) -> Given {
        endpoints.give(end(port), call, Rank::Guessed, Moment::at(at))
    }

    fn owners(endpoints: &Endpoints, source: u16, destination: u16) -> Vec<CallNumber> {
        endpoints
            .owners(end(source), end(destination), None)
            .calls
            .into_vec()
    }

    #[test]
    fn both_ends_then_the_destination_then_the_source() {
        let mut endpoints = Endpoints::default();
        give(&mut endpoints, 1, A, 10);
        give(&mut endpoints, 2, B, 20);
        assert_eq!(owners(&endpoints, 1, 2), [B], "the destination's");
        assert_eq!(owners(&endpoints, 1, 3), [A], "the source's");
        assert_eq!(owners(&endpoints, 3, 4), []);
        give(&mut endpoints, 2, A, 30);
        assert_eq!(owners(&endpoints, 1, 2), [A], "gave both");
        give(&mut endpoints, 1, B, 40);
        assert_eq!(owners(&endpoints, 1, 2), [A, B], "both gave both");
        assert_eq!(owners(&endpoints, 3, 2), [A], "gave it last");
        endpoints.release(end(2), A, Moment::at(50));
        assert_eq!(owners(&endpoints, 3, 2), [B]);
    }

    #[test]
    fn those_that_are_near_come_first() {
        let mut endpoints = Endpoints::default();
        for (port, call) in [(1, A), (2, A), (1, B), (2, B)] {
            give(&mut endpoints, port, call, 10);
        }
        let owners = |source, destination, near: &dyn Fn(CallNumber) -> bool| {
            endpoints
                .owners(end(source), end(destination), Some(near))
                .calls
                .into_vec()
        };
        assert_eq!(owners(1, 2, &|call| call == A), [A]);
        assert_eq!(owners(1, 2, &|_| false), [A, B], "nobody is near");
        assert_eq!(owners(1, 2, &|_| true), [A, B]);
        assert_eq!(
            owners(3, 2, &|call| call == A),
            [A],
            "not the one that gave it last"
        );
    }

    #[test]
    fn what_is_implied_yields_to_what_is_named() {
        let mut endpoints = Endpoints::default();
        give(&mut endpoints, 1, A, 10);
        endpoints.give(end(1), B, Rank::Implied, Moment::at(20));
        assert_eq!(owners(&endpoints, 9, 1), [A]);
    }

    #[test]
    fn a_guess_takes_nothing_from_who_knows() {
        let mut endpoints = Endpoints::default();
        give(&mut endpoints, 1, A, 10);
        guess(&mut endpoints, 2, B, 50);
        assert_eq!(
            owners(&endpoints, 1, 2),
            [A],
            "the source is known, the destination guessed"
        );
        assert_eq!(owners(&endpoints, 2, 1), [A]);
        assert_eq!(owners(&endpoints, 3, 2), [], "nobody knows");
        give(&mut endpoints, 1, B, 60);
        assert_eq!(
            owners(&endpoints, 1, 2),
            [B],
            "of the two that know the source, one guessed the destination"
        );
        assert_eq!(endpoints.guessing(end(2)).1.collect::<Vec<_>>(), [B]);
        assert!(
            endpoints.guessing(end(1)).0 == 0
                && endpoints.is_sure(end(1), B)
                && !endpoints.is_sure(end(2), B)
        );
    }

    #[test]
    fn who_has_a_conversation_is_remembered_as_long_as_an_end_is_guessed() {
        let mut endpoints = Endpoints::default();
        let conversation = FlowKey::between(end(1), end(2));
        endpoints.note_had(conversation, Had::By(A));
        assert_eq!(endpoints.had(conversation), None, "nobody guesses");
        guess(&mut endpoints, 1, A, 10);
        guess(&mut endpoints, 1, B, 20);
        endpoints.note_had(conversation, Had::By(A));
        endpoints.note_had(conversation, Had::By(B));
        assert_eq!(endpoints.had(conversation), Some(Had::By(A)), "the first");
        endpoints.release(end(1), A, Moment::at(30));
        assert_eq!(endpoints.had(conversation), None);
        endpoints.note_had(conversation, Had::Before);
        assert_eq!(endpoints.had(conversation), Some(Had::Before));
        endpoints.release(end(1), B, Moment::at(40));
        assert_eq!(endpoints.had(conversation), None);
    }

    #[test]
    fn when_nobody_held_it() {
        let mut endpoints = Endpoints::default();
        let free = |endpoints: &Endpoints, until| {
            let clocks = |stretches: Stretches| {
                stretches
                    .iter()
                    .map(|(from, to)| (from.clock, to.clock))
                    .collect::<Vec<_>>()
            };
            let of_sure = endpoints.free_of_sure(end(1), Moment::at(0), Moment::at(until));
            (
                clocks(of_sure),
                clocks(endpoints.free_of_any(end(1), Moment::at(0), Moment::at(until))),
            )
        };
        assert_eq!(free(&endpoints, 10), (vec![(0, 10)], vec![(0, 10)]));
        guess(&mut endpoints, 1, B, 5);
        assert_eq!(give(&mut endpoints, 1, A, 10), Given::New);
        assert_eq!(free(&endpoints, 20), (vec![(0, 10)], vec![(0, 5)]));
        assert_eq!(give(&mut endpoints, 1, A, 11), Given::Unchanged);
        assert_eq!(give(&mut endpoints, 1, B, 20), Given::Again);
        assert_eq!(give(&mut endpoints, 1, A, 30), Given::Again);
        endpoints.release(end(1), A, Moment::at(40));
        endpoints.release(end(1), B, Moment::at(50));
        assert_eq!(
            free(&endpoints, 60),
            (vec![(0, 10), (50, 60)], vec![(0, 5), (50, 60)])
        );
    }

    #[test]
    fn what_closed_calls_held_is_forgotten_in_time() {
        let mut endpoints = Endpoints::default();
        give(&mut endpoints, 1, A, 10);
        endpoints.release(end(1), A, Moment::at(20));
        endpoints.forget_before(20);
        assert_eq!(endpoints.table.len(), 1);
        endpoints.forget_before(21);
        assert!(endpoints.table.is_empty());
    }
}
