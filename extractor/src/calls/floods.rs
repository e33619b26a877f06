//! Calls of which nothing came but their INVITE: the first that are given up where too many are
//! open.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::CallNumber;
use crate::packet::Endpoint;

/// So many sources of a flood are told apart.
const MAX_SOURCES: usize = 4096;

/// Which calls are the least promising, and what became of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Floods {
    unanswered: BTreeSet<CallNumber>,
    // Counted for each unit of work anew.
    #[serde(skip)]
    by_source: BTreeMap<Endpoint, u64>,
}

impl Floods {
    /// A call opens.
    pub(super) fn open(&mut self, call: CallNumber) {
        self.unanswered.insert(call);
    }

    /// A call is answered, or closes.
    pub(super) fn forget(&mut self, call: CallNumber) {
        self.unanswered.remove(&call);
    }

    /// The least promising call: of those that nobody has answered, the one that opened first.
    pub(super) fn least_promising(&self) -> Option<CallNumber> {
        self.unanswered.first().copied()
    }

    /// A call was given up; its INVITE came from this source.
    pub(super) fn count(&mut self, source: Endpoint) {
        let address = source.with_port(0);
        let has_room = self.by_source.len() < MAX_SOURCES;
        if let Some(count) = self.by_source.get_mut(&address) {
            *count = count.saturating_add(1);
        } else if has_room {
            self.by_source.insert(address, 1);
        }
    }

    /// The addresses that most of these calls came from, and how many came from each.
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
