//! The calls that hold one endpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::CallNumber;
use crate::sdp::Rank;

/// The most holders that are searched linearly. Nearly every endpoint has one holder; those of load
/// generators, and of media servers with one port for all calls, have thousands.
const FEW: usize = 16;

/// A call that holds an endpoint. Holders sort by preference: packets go to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The certainty of the call.
    pub(super) rank: Rank,
    /// The sequence number of the giving: later ones are higher.
    pub(super) given: u64,
    /// The call.
    pub(super) call: CallNumber,
}

/// The holders of one endpoint. Each operation costs at most the logarithm of their number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Holders {
    /// At most `FEW`, in order of preference.
    Few(SmallVec<[Holder; 1]>),
    /// More than `FEW`.
    Many(Box<Many>),
}

/// Many holders, by call and by preference.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Many {
    preference: BTreeSet<Holder>,
    by_call: BTreeMap<CallNumber, Holder>,
    guesses: usize,
}

impl Default for Holders {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Holders {
    /// The number of calls.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.by_call.len(),
        }
    }

    /// True when no call holds the endpoint.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of calls that only guess it.
    pub(super) fn guesses(&self) -> usize {
        match self {
            Self::Few(few) => few.partition_point(Holder::is_guess),
            Self::Many(many) => many.guesses,
        }
    }

    /// The number of calls that do not guess.
    pub(super) fn sure(&self) -> usize {
        self.len().saturating_sub(self.guesses())
    }

    /// The hold of a call, if it holds the endpoint.
    pub(super) fn get(&self, call: CallNumber) -> Option<Holder> {
        match self {
            Self::Few(few) => few.iter().find(|holder| holder.call == call).copied(),
            Self::Many(many) => many.by_call.get(&call).copied(),
        }
    }

    /// All holders in order of preference: guesses first, the preferred one last.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Holder> {
        let (few, many) = match self {
            Self::Few(few) => (few.as_slice(), None),
            Self::Many(many) => (&[][..], Some(many)),
        };
        few.iter().copied().chain(
            many.into_iter()
                .flat_map(|many| many.preference.iter().copied()),
        )
    }

    /// The preferred holder.
    pub(super) fn last(&self) -> Option<Holder> {
        self.iter().next_back()
    }

    /// Adds a call, or moves it.
    pub(super) fn insert(&mut self, holder: Holder) {
        self.remove(holder.call);
        match self {
            Self::Few(few) if few.len() < FEW => {
                let place = few.partition_point(|other| *other < holder);
                few.insert(place, holder);
            }
            Self::Few(few) => {
                let mut many = Many::default();
                few.drain(..)
                    .chain([holder])
                    .for_each(|holder| many.insert(holder));
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => many.insert(holder),
        }
    }

    /// Removes a call, if it holds the endpoint.
    pub(super) fn remove(&mut self, call: CallNumber) {
        match self {
            Self::Few(few) => few.retain(|holder| holder.call != call),
            Self::Many(many) => {
                if let Some(holder) = many.by_call.remove(&call) {
                    many.preference.remove(&holder);
                    many.guesses = many.guesses.saturating_sub(usize::from(holder.is_guess()));
                }
                if many.by_call.is_empty() {
                    *self = Self::default();
                }
            }
        }
    }

    /// The calls that hold both this endpoint and another, with both holds. It costs as much as the
    /// shorter list.
    pub(super) fn shared_with<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (Holder, Holder)> {
        let is_shorter = self.len() <= other.len();
        let (shorter, longer) = if is_shorter {
            (self, other)
        } else {
            (other, self)
        };
        shorter.iter().filter_map(move |holder| {
            let there = longer.get(holder.call)?;
            Some(if is_shorter {
                (holder, there)
            } else {
                (there, holder)
            })
        })
    }
}

impl Holder {
    /// True when the call only guesses the endpoint.
    pub(super) fn is_guess(&self) -> bool {
        self.rank.is_guess()
    }
}

impl Many {
    fn insert(&mut self, holder: Holder) {
        self.preference.insert(holder);
        self.by_call.insert(holder.call, holder);
        self.guesses = self.guesses.saturating_add(usize::from(holder.is_guess()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps() -> impl Strategy<Value = Vec<(bool, u64, bool)>> {
        proptest::collection::vec(
            (proptest::bool::weighted(0.7), 0_u64..40, any::<bool>()),
            0..200,
        )
    }

    fn after(steps: &[(bool, u64, bool)]) -> (Holders, Vec<Holder>) {
        let (mut holders, mut plain) = (Holders::default(), Vec::<Holder>::new());
        for (given, (adds, call, guesses)) in (0..).zip(steps) {
            let (call, rank) = (
                CallNumber(*call),
                if *guesses { Rank::Guessed } else { Rank::Named },
            );
            plain.retain(|holder| holder.call != call);
            if *adds {
                plain.push(Holder { rank, given, call });
                holders.insert(Holder { rank, given, call });
            } else {
                holders.remove(call);
            }
        }
        plain.sort();
        (holders, plain)
    }

    proptest! {
        #[test]
        fn many_are_kept_like_few(steps in steps(), other in steps()) {
            let ((holders, plain), (other, plain_other)) = (after(&steps), after(&other));
            prop_assert_eq!(holders.iter().collect::<Vec<_>>(), plain.clone());
            prop_assert_eq!(holders.last(), plain.last().copied());
            prop_assert_eq!(holders.guesses(), plain.iter().filter(|holder| holder.is_guess()).count());
            prop_assert_eq!(holders.sure(), plain.iter().filter(|holder| !holder.is_guess()).count());
            let mut shared: Vec<(Holder, Holder)> = holders.shared_with(&other).collect();
            shared.sort();
            let in_other = |holder: &Holder| plain_other.iter().find(|there| there.call == holder.call).map(|there| (*holder, *there));
            prop_assert_eq!(shared, plain.iter().filter_map(in_other).collect::<Vec<_>>());
        }
    }
}
