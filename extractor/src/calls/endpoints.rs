//! Which open calls gave an endpoint, and when: the first half of "whose packet is whose" (README, "What belongs to a call").

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::CallNumber;
use crate::{
    events::{FlowKey, Table},
    moment::{Clock, Moment},
    packet::Endpoint,
    sdp::Rank,
};

/// So many conversations of one guessed endpoint are remembered: more than a media server has peers on one port.
const MAX_CONVERSATIONS: usize = 1024;

/// All endpoints that open calls gave, and for a while those that closed calls gave.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Endpoints {
    table: Table<Endpoint, Holders>,
    /// Counts every giving: a later one has a higher number.
    given: u64,
}

/// The calls that hold one endpoint.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Holders {
    /// In the order of preference, the one that packets go to last.
    calls: SmallVec<[Holder; 1]>,
    /// How many times a call that held it was over.
    stragglers: u64,
    /// When at least one call held it that did not guess.
    sure: History,
    /// When at least one call held it, guessed or not.
    any: History,
    /// Conversations of this endpoint that a call has, or had, while it is a guess.
    conversations: Vec<(FlowKey, Had)>,
}

/// Stretches of time in which an endpoint was held.
#[derive(Debug, Default, Serialize, Deserialize)]
struct History {
    /// The beginning of the present one, if it is held.
    since: Option<Moment>,
    /// Those that ended no further back than media is looked back for.
    past: SmallVec<[(Moment, Moment); 1]>,
}

/// The call that has a conversation of which nobody gave an end for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Had {
    /// A call that guessed: no other guess takes it.
    By(CallNumber),
    /// A call that is closed, while its packets were still coming. They are no sign of another call at one end only.
    Before,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Holder {
    rank: Rank,
    given: u64,
    call: CallNumber,
}

/// Calls, by number.
pub(super) type CallNumbers = SmallVec<[CallNumber; 1]>;

/// Stretches of time.
pub(super) type Stretches = SmallVec<[(Moment, Moment); 1]>;

/// What giving an endpoint changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing: the call was the preferred one already.
    Unchanged,
    /// The call held it already, and is now the preferred one.
    Again,
    /// The call holds it now.
    New,
}

impl Endpoints {
    /// A call gives an endpoint at the moment `at`.
    pub fn give(&mut self, endpoint: Endpoint, call: CallNumber, rank: Rank, at: Moment) -> Given {
        self.given = self.given.saturating_add(1);
        let holders = self.table.entry(endpoint).or_default();
        let last = holders.calls.len().checked_sub(1);
        let (given, rank) = match holders.calls.iter().position(|holder| holder.call == call) {
            Some(index) => {
                let before = holders.calls.remove(index);
                // Surer of it than before, the call may now own what another did.
                let given = if Some(index) == last && rank <= before.rank { Given::Unchanged } else { Given::Again };
                (given, rank.max(before.rank))
            }
            None => (Given::New, rank),
        };
        let holder = Holder { rank, given: self.given, call };
        let place = holders.calls.partition_point(|other| *other < holder);
        holders.calls.insert(place, holder);
        holders.note_history(at);
        given
    }

    /// A call closes, and holds the endpoint no more.
    pub fn release(&mut self, endpoint: Endpoint, call: CallNumber, at: Moment) {
        let Some(holders) = self.table.get_mut(&endpoint) else { return };
        holders.calls.retain(|holder| holder.call != call);
        holders.conversations.retain(|(_, had)| *had != Had::By(call));
        holders.note_history(at);
        if guessed(&holders.calls).is_empty() {
            holders.conversations = Vec::new();
        }
        if holders.calls.is_empty() {
            holders.stragglers = 0;
        }
    }

    /// The calls to which a packet belongs for sure, by number: those that gave both its ends; else the one that last gave
    /// the destination; else the one that last gave the source. Those that are `near` come first, if there are any.
    ///
    /// A guess never takes a packet from a call that knows one of its ends for sure: it tells which of the calls that do is
    /// meant.
    #[must_use]
    pub fn owners(&self, source: Endpoint, destination: Endpoint, near: Option<&dyn Fn(CallNumber) -> bool>) -> CallNumbers {
        let (from, to) = (self.holders(source), self.holders(destination));
        if let Some(near) = near {
            let near_of = |holders: &[Holder]| holders.iter().filter(|holder| near(holder.call)).copied().collect();
            let (near_from, near_to): (SmallVec<[Holder; 4]>, SmallVec<[Holder; 4]>) = (near_of(from), near_of(to));
            let owners = sure_owners(&near_from, &near_to);
            if !owners.is_empty() {
                return owners;
            }
        }
        sure_owners(from, to)
    }

    /// The calls that only guess an endpoint.
    pub fn guessing(&self, endpoint: Endpoint) -> impl Iterator<Item = CallNumber> {
        guessed(self.holders(endpoint)).iter().map(|holder| holder.call)
    }

    /// The call gave the endpoint for sure.
    #[must_use]
    pub fn is_sure(&self, endpoint: Endpoint, call: CallNumber) -> bool {
        sure(self.holders(endpoint)).iter().any(|holder| holder.call == call)
    }

    /// The call that has a conversation by a guess, or had it.
    #[must_use]
    pub fn had(&self, conversation: FlowKey) -> Option<Had> {
        let FlowKey { source, destination, .. } = conversation;
        let of = |end| self.table.get(&end).into_iter().flat_map(|holders: &Holders| &holders.conversations);
        let mut found = of(source).chain(of(destination)).filter(|(known, _)| *known == conversation);
        found.next().map(|(_, had)| *had)
    }

    /// A call has a conversation, or had it: no other guess takes it. Remembered as long as one of its ends is guessed, by
    /// the call that has it if there is one.
    pub fn note_had(&mut self, conversation: FlowKey, had: Had) {
        let FlowKey { source, destination, .. } = conversation;
        for end in [source, destination] {
            let Some(holders) = self.table.get_mut(&end) else { continue };
            let is_known = holders.conversations.iter().any(|(known, _)| *known == conversation);
            let mut guessing = guessed(&holders.calls).iter();
            let concerns = guessing.any(|holder| had == Had::Before || had == Had::By(holder.call));
            if concerns && !is_known && holders.conversations.len() < MAX_CONVERSATIONS {
                holders.conversations.push((conversation, had));
            }
        }
    }

    /// The stretches between two moments in which no call held the endpoint that did not guess.
    #[must_use]
    pub fn free_of_sure(&self, endpoint: Endpoint, from: Moment, until: Moment) -> Stretches {
        self.free(endpoint, from, until, |holders| &holders.sure)
    }

    /// The stretches between two moments in which no call held the endpoint.
    #[must_use]
    pub fn free_of_any(&self, endpoint: Endpoint, from: Moment, until: Moment) -> Stretches {
        self.free(endpoint, from, until, |holders| &holders.any)
    }

    /// The stretches between two moments in which no other call held the endpoint, as far as is known: all or nothing, where
    /// others hold it now.
    #[must_use]
    pub fn free_of_others(&self, endpoint: Endpoint, call: CallNumber, from: Moment, until: Moment) -> Stretches {
        match self.table.get(&endpoint) {
            Some(holders) if holders.calls.iter().any(|holder| holder.call != call) => Stretches::new(),
            Some(holders) => History { since: None, past: holders.any.past.clone() }.free_between(from, until),
            None => SmallVec::from_buf([(from, until)]),
        }
    }

    fn free(&self, endpoint: Endpoint, from: Moment, until: Moment, history: impl Fn(&Holders) -> &History) -> Stretches {
        match self.table.get(&endpoint) {
            Some(holders) => history(holders).free_between(from, until),
            None => SmallVec::from_buf([(from, until)]),
        }
    }

    /// A call that holds the endpoint is over.
    pub fn note_straggler(&mut self, endpoint: Endpoint) {
        if let Some(holders) = self.table.get_mut(&endpoint) {
            holders.stragglers = holders.stragglers.saturating_add(1);
        }
    }

    /// The calls that hold an endpoint no surer than `rank`, if any of them may be over. (All that do not guess are as sure.)
    #[must_use]
    pub fn possible_stragglers(&self, endpoint: Endpoint, rank: Rank) -> CallNumbers {
        let Some(holders) = self.table.get(&endpoint).filter(|holders| holders.stragglers > 0) else { return CallNumbers::new() };
        let no_surer = if rank.is_guess() { guessed(&holders.calls) } else { &holders.calls };
        no_surer.iter().map(|holder| holder.call).collect()
    }

    /// A call holds the endpoint.
    #[must_use]
    pub fn is_held(&self, endpoint: Endpoint) -> bool {
        !self.holders(endpoint).is_empty()
    }

    fn holders(&self, endpoint: Endpoint) -> &[Holder] {
        self.table.get(&endpoint).map_or(&[], |holders| &holders.calls)
    }

    /// Forgets what closed calls held before `clock`.
    pub fn forget_before(&mut self, clock: Clock) {
        self.table.retain(|_, holders| {
            holders.sure.forget_before(clock);
            holders.any.forget_before(clock);
            !holders.calls.is_empty() || !holders.any.past.is_empty()
        });
    }
}

/// The holders who did not guess.
fn sure(holders: &[Holder]) -> &[Holder] {
    holders.get(count_guessed(holders)..).unwrap_or_default()
}

/// The others.
fn guessed(holders: &[Holder]) -> &[Holder] {
    holders.get(..count_guessed(holders)).unwrap_or_default()
}

fn count_guessed(holders: &[Holder]) -> usize {
    holders.partition_point(|holder| holder.rank.is_guess())
}

/// See [`Endpoints::owners`].
fn sure_owners(from: &[Holder], to: &[Holder]) -> CallNumbers {
    let (sure_from, sure_to) = (sure(from), sure(to));
    let both = in_both(sure_from, sure_to);
    if !both.is_empty() {
        return both;
    }
    let (deciding, other) = if sure_to.is_empty() { (sure_from, to) } else { (sure_to, from) };
    let both = in_both(deciding, other);
    if both.is_empty() { deciding.last().map(|holder| holder.call).into_iter().collect() } else { both }
}

/// The calls that are in both, by number. Load generators let thousands of calls share two endpoints.
fn in_both(from: &[Holder], to: &[Holder]) -> CallNumbers {
    if from.is_empty() || to.is_empty() {
        return CallNumbers::new();
    }
    let sorted = |holders: &[Holder]| {
        let mut calls: SmallVec<[CallNumber; 4]> = holders.iter().map(|holder| holder.call).collect();
        calls.sort_unstable();
        calls
    };
    let from = sorted(from);
    sorted(to).into_iter().filter(|call| from.binary_search(call).is_ok()).collect()
}

impl Holders {
    /// The calls that hold it changed at a moment.
    fn note_history(&mut self, at: Moment) {
        self.sure.note(!sure(&self.calls).is_empty(), at);
        self.any.note(!self.calls.is_empty(), at);
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
        endpoints.owners(end(source), end(destination), None).into_vec()
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
            endpoints.owners(end(source), end(destination), Some(near)).into_vec()
        };
        assert_eq!(owners(1, 2, &|call| call == A), [A]);
        assert_eq!(owners(1, 2, &|_| false), [A, B], "nobody is near");
        assert_eq!(owners(1, 2, &|_| true), [A, B]);
        assert_eq!(owners(3, 2, &|call| call == A), [A], "not the one that gave it last");
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
        assert_eq!(owners(&endpoints, 1, 2), [A], "the source is known, the destination guessed");
        assert_eq!(owners(&endpoints, 2, 1), [A]);
        assert_eq!(owners(&endpoints, 3, 2), [], "nobody knows");
        give(&mut endpoints, 1, B, 60);
        assert_eq!(owners(&endpoints, 1, 2), [B], "of the two that know the source, one guessed the destination");
        assert_eq!(endpoints.guessing(end(2)).collect::<Vec<_>>(), [B]);
        assert!(endpoints.guessing(end(1)).next().is_none() && endpoints.is_sure(end(1), B) && !endpoints.is_sure(end(2), B));
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
            let clocks = |stretches: Stretches| stretches.iter().map(|(from, to)| (from.clock, to.clock)).collect::<Vec<_>>();
            let of_sure = endpoints.free_of_sure(end(1), Moment::at(0), Moment::at(until));
            (clocks(of_sure), clocks(endpoints.free_of_any(end(1), Moment::at(0), Moment::at(until))))
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
        assert_eq!(free(&endpoints, 60), (vec![(0, 10), (50, 60)], vec![(0, 5), (50, 60)]));
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
