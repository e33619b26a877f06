//! Which open calls gave an endpoint, and when: SPEC 4.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::CallNumber;
use crate::{
    events::Table,
    moment::{Clock, Moment},
    packet::Endpoint,
    sdp::Rank,
};

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
    /// Since when at least one call holds it that did not guess.
    since: Moment,
    /// When such calls held it that are closed now; no further back than media is looked back for.
    past: SmallVec<[(Moment, Moment); 1]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Holder {
    rank: Rank,
    given: u64,
    call: CallNumber,
}

/// What giving an endpoint changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing: the call was the preferred one already.
    Unchanged,
    /// The call held it already, and is now the preferred one.
    Again,
    /// The call holds it now. Before, and back to the moment asked for, nobody held it in these
    /// stretches.
    New(SmallVec<[(Moment, Moment); 1]>),
}

impl Endpoints {
    /// A call gives an endpoint at the moment `at`. Tells the stretches since `back_to` in which no
    /// call held it.
    pub fn give(&mut self, endpoint: Endpoint, call: CallNumber, rank: Rank, at: Moment, back_to: Moment) -> Given {
        self.given = self.given.saturating_add(1);
        let holders = self.table.entry(endpoint).or_default();
        let last = holders.calls.len().checked_sub(1);
        let was_held = holders.is_held();
        let (given, rank) = match holders.calls.iter().position(|holder| holder.call == call) {
            Some(index) => {
                let before = holders.calls.remove(index);
                // Surer of it than before, the call may now own what another did.
                let given = if Some(index) == last && rank <= before.rank { Given::Unchanged } else { Given::Again };
                (given, rank.max(before.rank))
            }
            None => (Given::New(holders.free_between(back_to, at)), rank),
        };
        let holder = Holder { rank, given: self.given, call };
        let place = holders.calls.partition_point(|other| *other < holder);
        holders.calls.insert(place, holder);
        if !was_held && holders.is_held() {
            holders.since = at;
        }
        given
    }

    /// A call closes, and holds the endpoint no more.
    pub fn release(&mut self, endpoint: Endpoint, call: CallNumber, at: Moment) {
        let Some(holders) = self.table.get_mut(&endpoint) else { return };
        let was_held = holders.is_held();
        holders.calls.retain(|holder| holder.call != call);
        if was_held && !holders.is_held() {
            holders.past.push((holders.since, at));
        }
        if holders.calls.is_empty() {
            holders.stragglers = 0;
        }
    }

    /// The calls to which a packet from one endpoint to another belongs, by number: those that gave
    /// both; else the one that last gave the destination; else the one that last gave the source.
    ///
    /// What is only [`Rank::Translated`] never takes a packet from a call that knows one of its ends for sure: it tells
    /// which of the calls that do is meant, and counts by itself where none does.
    #[must_use]
    pub fn owners(&self, source: Endpoint, destination: Endpoint) -> SmallVec<[CallNumber; 1]> {
        let (from, to) = (self.holders(source), self.holders(destination));
        let (sure_from, sure_to) = (sure(from), sure(to));
        let both = in_both(sure_from, sure_to);
        if !both.is_empty() {
            return both;
        }
        let (deciding, other) = match (sure_from.is_empty(), sure_to.is_empty()) {
            (_, false) => (sure_to, from),
            (false, true) => (sure_from, to),
            (true, true) if to.is_empty() => (from, to),
            (true, true) => (to, from),
        };
        let both = in_both(deciding, other);
        if both.is_empty() { deciding.last().map(|holder| holder.call).into_iter().collect() } else { both }
    }

    /// The stretches between two moments in which no call held the endpoint.
    #[must_use]
    pub fn free_between(&self, endpoint: Endpoint, from: Moment, until: Moment) -> SmallVec<[(Moment, Moment); 1]> {
        match self.table.get(&endpoint) {
            Some(holders) => holders.free_between(from, until),
            None => SmallVec::from_buf([(from, until)]),
        }
    }

    /// A call that holds the endpoint is over.
    pub fn note_straggler(&mut self, endpoint: Endpoint) {
        if let Some(holders) = self.table.get_mut(&endpoint) {
            holders.stragglers = holders.stragglers.saturating_add(1);
        }
    }

    /// The calls that hold an endpoint, if any of them may be over.
    #[must_use]
    pub fn possible_stragglers(&self, endpoint: Endpoint) -> SmallVec<[CallNumber; 1]> {
        let has_some = self.table.get(&endpoint).is_some_and(|holders| holders.stragglers > 0);
        if has_some { self.held_by(endpoint) } else { SmallVec::new() }
    }

    /// The calls that hold an endpoint.
    #[must_use]
    pub fn held_by(&self, endpoint: Endpoint) -> SmallVec<[CallNumber; 1]> {
        self.holders(endpoint).iter().map(|holder| holder.call).collect()
    }

    fn holders(&self, endpoint: Endpoint) -> &[Holder] {
        self.table.get(&endpoint).map_or(&[], |holders| &holders.calls)
    }

    /// Forgets what closed calls held before `clock`.
    pub fn forget_before(&mut self, clock: Clock) {
        self.table.retain(|_, holders| {
            holders.past.retain(|(_, until)| until.clock >= clock);
            !holders.calls.is_empty() || !holders.past.is_empty()
        });
    }
}

/// Those of the holders who did not guess.
fn sure(holders: &[Holder]) -> &[Holder] {
    let guessed = holders.partition_point(|holder| holder.rank == Rank::Translated);
    holders.get(guessed..).unwrap_or_default()
}

/// The calls that are in both, by number. Load generators let thousands of calls share two endpoints.
fn in_both(from: &[Holder], to: &[Holder]) -> SmallVec<[CallNumber; 1]> {
    let sorted = |holders: &[Holder]| {
        let mut calls: SmallVec<[CallNumber; 4]> = holders.iter().map(|holder| holder.call).collect();
        calls.sort_unstable();
        calls
    };
    let from = sorted(from);
    sorted(to).into_iter().filter(|call| from.binary_search(call).is_ok()).collect()
}

impl Holders {
    /// Whether a call holds the endpoint that did not guess.
    fn is_held(&self) -> bool {
        !sure(&self.calls).is_empty()
    }

    /// The stretches between two moments in which no call held the endpoint.
    fn free_between(&self, from: Moment, until: Moment) -> SmallVec<[(Moment, Moment); 1]> {
        let until = if self.is_held() { self.since.min(until) } else { until };
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
        endpoints.give(end(port), call, Rank::Named, Moment::at(at), Moment::at(0))
    }

    fn owners(endpoints: &Endpoints, source: u16, destination: u16) -> Vec<CallNumber> {
        endpoints.owners(end(source), end(destination)).into_vec()
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
    fn what_is_implied_yields_to_what_is_named() {
        let mut endpoints = Endpoints::default();
        give(&mut endpoints, 1, A, 10);
        endpoints.give(end(1), B, Rank::Implied, Moment::at(20), Moment::at(0));
        assert_eq!(owners(&endpoints, 9, 1), [A]);
    }

    #[test]
    fn a_guess_takes_nothing_from_who_knows() {
        let mut endpoints = Endpoints::default();
        let guess = |endpoints: &mut Endpoints, port, call| {
            endpoints.give(end(port), call, Rank::Translated, Moment::at(50), Moment::at(0));
        };
        give(&mut endpoints, 1, A, 10);
        guess(&mut endpoints, 2, B);
        assert_eq!(owners(&endpoints, 1, 2), [A], "the source is known, the destination guessed");
        assert_eq!(owners(&endpoints, 2, 1), [A]);
        assert_eq!(owners(&endpoints, 3, 2), [B], "nobody knows better");
        assert_eq!(owners(&endpoints, 2, 3), [B]);
        give(&mut endpoints, 1, B, 60);
        assert_eq!(owners(&endpoints, 1, 2), [B], "of the two that know the source, one guessed the destination");
        guess(&mut endpoints, 4, A);
        guess(&mut endpoints, 4, B);
        guess(&mut endpoints, 2, A);
        assert_eq!(owners(&endpoints, 4, 2), [A, B], "both guessed both");
    }

    #[test]
    fn when_nobody_held_it() {
        let mut endpoints = Endpoints::default();
        let free = |from, until| Given::New(SmallVec::from_slice(&[(Moment::at(from), Moment::at(until))]));
        assert_eq!(give(&mut endpoints, 1, A, 10), free(0, 10));
        assert_eq!(give(&mut endpoints, 1, A, 11), Given::Unchanged);
        assert_eq!(give(&mut endpoints, 1, B, 20), free(0, 10), "not since A holds it");
        assert_eq!(give(&mut endpoints, 1, A, 30), Given::Again);
        endpoints.release(end(1), A, Moment::at(40));
        endpoints.release(end(1), B, Moment::at(50));
        let later = give(&mut endpoints, 1, CallNumber(3), 60);
        assert_eq!(
            later,
            Given::New(SmallVec::from_vec(vec![(Moment::at(0), Moment::at(10)), (Moment::at(50), Moment::at(60))]))
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
