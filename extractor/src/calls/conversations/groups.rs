//! The calls that one file of a conversation has.
//!
//! Legs become known to belong together at any time, and a leg can be linked until it is forgotten.
//! So a group is complete when its last leg is forgotten: nothing can join it then. That depends on
//! packet time only, and not on how the input was cut.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde::{Deserialize, Serialize};

use super::{MAX_LEGS, NamedLeg};
use crate::calls::CallNumber;

/// The calls of a conversation that no call can join any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegGroup {
    /// Its legs, in the order in which they opened: at least one, at most 64.
    pub legs: Vec<NamedLeg>,
    /// The number of its legs that can still be linked.
    known: usize,
}

impl LegGroup {
    /// Returns true if a leg has one of these Call-IDs.
    #[must_use]
    pub fn has_any_of(&self, call_ids: &BTreeSet<Box<[u8]>>) -> bool {
        self.legs
            .iter()
            .any(|leg| call_ids.contains(&leg.call_id[..]))
    }
}

/// The groups, from the end of their first leg until they are complete.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Groups {
    /// The group of each leg that can still be linked, by its key.
    of: BTreeMap<CallNumber, CallNumber>,
    /// Groups by their first leg.
    groups: BTreeMap<CallNumber, LegGroup>,
    complete: Vec<LegGroup>,
}

impl Groups {
    /// Puts legs into one group. A group that would have too many legs stays as it is.
    pub(super) fn unite(&mut self, legs: Vec<NamedLeg>) {
        let numbers: Vec<CallNumber> = legs.iter().map(|leg| leg.number).collect();
        for leg in legs {
            self.begin(leg);
        }
        let mut keys = numbers.iter().filter_map(|number| self.of.get(number));
        let Some(mut one) = keys.next().copied() else {
            return;
        };
        let others: Vec<CallNumber> = keys.copied().collect();
        for other in others {
            one = self.join(one, other);
        }
    }

    /// Begins a group of one leg, if it has none.
    fn begin(&mut self, leg: NamedLeg) {
        let number = leg.number;
        if let Entry::Vacant(of) = self.of.entry(number) {
            of.insert(number);
            let group = LegGroup {
                legs: vec![leg],
                known: 1,
            };
            self.groups.insert(number, group);
        }
    }

    /// Joins two groups; returns the key of the one that has the first leg.
    fn join(&mut self, one: CallNumber, other: CallNumber) -> CallNumber {
        let (key, gone) = (one.min(other), one.max(other));
        let len = |key: &CallNumber| self.groups.get(key).map_or(0, |group| group.legs.len());
        if key == gone || len(&key).saturating_add(len(&gone)) > MAX_LEGS {
            return one;
        }
        let Some(joining) = self.groups.remove(&gone) else {
            return one;
        };
        for leg in &joining.legs {
            // A leg that is forgotten has no entry.
            if let Some(of) = self.of.get_mut(&leg.number) {
                *of = key;
            }
        }
        if let Some(group) = self.groups.get_mut(&key) {
            group.legs.extend(joining.legs);
            group.legs.sort_unstable();
            group.known = group.known.saturating_add(joining.known);
        }
        key
    }

    /// Notes that a leg cannot be linked any more.
    pub(super) fn forget(&mut self, leg: CallNumber) {
        let Some(key) = self.of.remove(&leg) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&key) else {
            return;
        };
        group.known = group.known.saturating_sub(1);
        if group.known == 0 {
            self.complete.extend(self.groups.remove(&key));
        }
    }

    /// Returns true if a group that is not complete has a leg with one of these Call-IDs.
    pub(super) fn has_any_of(&self, call_ids: &BTreeSet<Box<[u8]>>) -> bool {
        self.groups.values().any(|group| group.has_any_of(call_ids))
    }

    /// Completes all groups: the input has ended.
    pub(super) fn finish(&mut self) {
        self.of.clear();
        let left = std::mem::take(&mut self.groups);
        self.complete.extend(left.into_values());
    }

    /// Takes the groups that are complete, in the order in which they became so.
    pub(super) fn take(&mut self) -> Vec<LegGroup> {
        std::mem::take(&mut self.complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(number: u64) -> NamedLeg {
        NamedLeg {
            number: CallNumber(number),
            call_id: number.to_string().into_bytes().into(),
            start_ns: number,
        }
    }

    fn numbers(groups: &[LegGroup]) -> Vec<Vec<u64>> {
        let of = |group: &LegGroup| group.legs.iter().map(|leg| leg.number.0).collect();
        groups.iter().map(of).collect()
    }

    #[test]
    fn a_group_is_complete_when_its_last_leg_is_forgotten() {
        let mut groups = Groups::default();
        groups.unite(vec![leg(4)]);
        groups.unite(vec![leg(3), leg(5)]);
        groups.forget(CallNumber(3));
        assert_eq!(groups.take(), []);
        // A leg that opened before, and joins by the one that is left.
        groups.unite(vec![leg(2), leg(5)]);
        groups.forget(CallNumber(4));
        groups.forget(CallNumber(5));
        assert_eq!(numbers(&groups.take()), [[4]]);
        groups.forget(CallNumber(2));
        assert_eq!(numbers(&groups.take()), [[2, 3, 5]]);
        groups.unite(vec![leg(9)]);
        groups.unite(vec![leg(7), leg(8)]);
        groups.finish();
        assert_eq!(numbers(&groups.take()), [vec![7, 8], vec![9]]);
        assert!(groups.of.is_empty() && groups.groups.is_empty());
    }

    #[test]
    fn a_group_has_so_many_legs() {
        let mut groups = Groups::default();
        let most = MAX_LEGS as u64;
        (1..most + 9).for_each(|number| groups.unite(vec![leg(number - 1), leg(number)]));
        groups.finish();
        let got = groups.take();
        let lens: Vec<usize> = got.iter().map(|group| group.legs.len()).collect();
        assert_eq!(lens, [MAX_LEGS, 9]);
    }
}
