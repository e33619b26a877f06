//! The Call-IDs that may be asked for, and the segments that have them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Task,
    archive::{Segment, call_id},
};
use crate::{
    config::Archive,
    stored::{CallWords, Use, Words},
};

/// The most segments that a search opens at once: a process may have only so many maps.
const MAX_SEGMENTS: usize = 16_384;

/// The Call-IDs that may be asked for.
#[derive(Debug, Default)]
pub struct Candidates {
    calls: BTreeMap<Box<[u8]>, Candidate>,
}

/// A Call-ID, with packet time at its first and last message, and the words of all its messages.
#[derive(Debug)]
struct Candidate {
    first_clock: u64,
    last_clock: u64,
    words: Vec<u8>,
}

impl Candidates {
    /// The Call-IDs of these segments that may be asked for.
    #[must_use]
    pub fn of(segments: &[Segment], task: &Task) -> Self {
        let wanted = &task.config.outputs.selection.wanted.call_id;
        let may_be = |call: &CallWords<'_>| {
            let is_named = || wanted.iter().any(|one| one.is_match(call.call_id));
            (wanted.is_empty() || is_named()) && task.query.may_be_true_in(call.words)
        };
        // A word may be in the first messages of a call only: the others are of the call, too.
        let ids: BTreeSet<&[u8]> = segments
            .iter()
            .flat_map(|segment| Words::of(&segment.words))
            .filter(may_be)
            .map(|call| call.call_id)
            .collect();
        let mut candidates = Self::default();
        let all = segments
            .iter()
            .flat_map(|segment| Words::of(&segment.words));
        all.filter(|call| ids.contains(call.call_id))
            .for_each(|call| candidates.add(&call));
        candidates
            .calls
            .retain(|_, call| task.query.may_be_true_of(&call.words));
        candidates
    }

    fn add(&mut self, call: &CallWords<'_>) {
        let known = self
            .calls
            .entry(call.call_id.into())
            .or_insert_with(|| Candidate {
                first_clock: call.first_clock,
                last_clock: call.last_clock,
                words: Vec::new(),
            });
        known.first_clock = known.first_clock.min(call.first_clock);
        known.last_clock = known.last_clock.max(call.last_clock);
        known.words.extend_from_slice(call.words);
    }

    /// Becomes the candidates with these Call-IDs.
    pub(super) fn become_these(&mut self, segments: &[Segment], ids: &BTreeSet<Box<[u8]>>) {
        self.calls.clear();
        let all = segments
            .iter()
            .flat_map(|segment| Words::of(&segment.words));
        all.filter(|call| ids.contains(call.call_id))
            .for_each(|call| self.add(&call));
    }

    /// The Call-IDs.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<Box<[u8]>> {
        self.calls.keys().cloned().collect()
    }

    /// The words of a call.
    #[must_use]
    pub fn words(&self, record: &Value) -> &[u8] {
        let candidate = call_id(record).and_then(|id| self.calls.get(&id));
        candidate.map_or(&[], |candidate| &candidate.words)
    }

    /// The segments in which these calls are, or all candidates, from so many nanoseconds before the
    /// first message until so many behind the last. `None` if there are no candidates.
    pub(super) fn archive(
        &self,
        only: Option<&BTreeSet<Box<[u8]>>>,
        segments: &[Segment],
        task: &Task,
        [lookback_ns, behind_ns]: [u64; 2],
        uses: Use,
    ) -> Option<Archive> {
        let calls = self
            .calls
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| only.contains(*id)));
        let calls: Vec<&Candidate> = calls.map(|(_, call)| call).collect();
        let first = calls.iter().map(|call| call.first_clock).min();
        let last = calls.iter().map(|call| call.last_clock).max();
        let (first, last) = first.zip(last)?;
        let from = first.saturating_sub(lookback_ns);
        let until = last.saturating_add(behind_ns);
        let mut is_cut = false;
        let series = segments.chunk_by(|one, next| one.series == next.series);
        let most = MAX_SEGMENTS
            .checked_div(series.clone().count())
            .unwrap_or(0);
        let mut range: Vec<&Segment> = Vec::new();
        for segments in series {
            // Later segments have earlier times if a clock was set back.
            let segments = segments.iter();
            let segments = segments.skip_while(|segment| segment.last_clock < from);
            let near = segments.filter(|segment| {
                let is_near = segment.first_ns <= until;
                is_cut |= !is_near;
                is_near
            });
            range.extend(near.take(most));
        }
        Some(task.archive(&range, uses, last, is_cut))
    }
}
