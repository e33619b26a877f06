//! Unanswered calls: the first that are given up when too many calls are open.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::CallNumber;
use crate::packet::Endpoint;

/// The most sources of a flood that are counted separately.
const MAX_SOURCES: usize = 4096;

/// The unanswered calls, and the sources of those that were given up.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Floods {
    unanswered: BTreeSet<CallNumber>,
    // Counted anew in each unit of work.
    #[serde(skip)]
    by_source: BTreeMap<Endpoint, u64>,
}

impl Floods {
    /// Notes that a call has opened.
    pub(super) fn open(&mut self, call: CallNumber) {
        self.unanswered.insert(call);
    }

    /// Notes that a call was answered, or has closed.
    pub(super) fn forget(&mut self, call: CallNumber) {
        self.unanswered.remove(&call);
    }

    /// The call that is given up next: the oldest unanswered one.
    pub(super) fn least_promising(&self) -> Option<CallNumber> {
        self.unanswered.first().copied()
    }

    /// Notes that a call was given up; its INVITE came from `source`.
    pub(super) fn count(&mut self, source: Endpoint) {
        let address = source.with_port(0);
        let has_room = self.by_source.len() < MAX_SOURCES;
        if let Some(count) = self.by_source.get_mut(&address) {
            *count = count.saturating_add(1);
        } else if has_room {
            self.by_source.insert(address, 1);
        }
    }

    /// The source addresses of most of these calls, with the number of calls.
    pub(super) fn largest_sources(&self, most: usize) -> Vec<(Endpoint, u64)> {
        let mut sources: Vec<(Endpoint, u64)> = self
            .by_source
            .iter()
            .map(|(source, count)| (*source, *count))
            .collect();
        sources.sort_unstable_by_key(|(source, count)| (std::cmp::Reverse(*count), *source));
        sources.truncate(most);
        sources
    }
}
