//! Files that are due for upload: which of them is next, and when. Nothing here knows a network or
//! a clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

/// A file that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::outputs) struct Due {
    /// Its name in the output directory.
    pub(in crate::outputs) file_name: String,
    /// Where its rows say that it is.
    pub(in crate::outputs) to: S3Uri,
    /// How long it is, in bytes.
    pub(in crate::outputs) len: u64,
}

/// How long a store that failed is left alone: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// How long a file that failed is left alone.
const FILE_PAUSE: Duration = Duration::from_secs(60);

/// What failed in the last round is not tried again for so long that it comes to the same as never.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Extraction waits where more than so many files, or bytes, are due that have not failed.
const MAX_AHEAD: (usize, u64) = (20_000, 1 << 30);

/// What is due, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Spool {
    due: BTreeMap<u64, Entry>,
    /// What is not on its way: not before when, and its number.
    waiting: BTreeSet<(Instant, u64)>,
    numbers: HashMap<String, u64>,
    next: u64,
    bytes: u64,
    /// How many have failed before, and their bytes.
    failed: (usize, u64),
    health: Health,
    /// Whether what fails is left to the next run.
    is_last_round: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    due: Due,
    /// Nothing of one that is on its way.
    not_before: Option<Instant>,
    has_failed: bool,
    /// Whether there is another file of its name since it was sent on its way.
    is_replaced: bool,
}

/// How the store is.
#[derive(Clone, Copy, Debug, Default)]
enum Health {
    #[default]
    Works,
    /// It is left alone `until` then; after that a single file, the probe, is to find out.
    Failed {
        until: Instant,
        pause: Duration,
        probe: Option<u64>,
    },
}

impl Spool {
    /// Adds a file. One of the same name is not there any more.
    pub(super) fn add(&mut self, due: Due, now: Instant) {
        self.bytes = self.bytes.saturating_add(due.len);
        let known = self
            .numbers
            .get(&due.file_name)
            .and_then(|number| self.due.get_mut(number));
        if let Some(entry) = known {
            self.bytes = self.bytes.saturating_sub(entry.due.len);
            if entry.has_failed {
                self.failed.1 = self
                    .failed
                    .1
                    .saturating_add(due.len)
                    .saturating_sub(entry.due.len);
            }
            entry.is_replaced = entry.not_before.is_none();
            entry.due = due;
            return;
        }
        self.numbers.insert(due.file_name.clone(), self.next);
        self.waiting.insert((now, self.next));
        self.due.insert(
            self.next,
            Entry {
                due,
                not_before: Some(now),
                has_failed: false,
                is_replaced: false,
            },
        );
        self.next = self.next.saturating_add(1);
    }

    /// Whether a file of this name is due.
    pub(super) fn holds(&self, file_name: &str) -> bool {
        self.numbers.contains_key(file_name)
    }

    /// What is due, the oldest first.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &Due> {
        self.due.values().map(|entry| &entry.due)
    }

    /// How many files are due.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn on_their_way(&self) -> usize {
        self.due.len().saturating_sub(self.waiting.len())
    }

    /// The next one to be sent.
    pub(super) fn take(&mut self, now: Instant) -> Option<(u64, Due)> {
        if !self.may_send(now) {
            return None;
        }
        let (not_before, number) = *self
            .waiting
            .first()
            .filter(|(not_before, _)| *not_before <= now)?;
        self.waiting.remove(&(not_before, number));
        if let Health::Failed { probe, .. } = &mut self.health {
            *probe = Some(number);
        }
        let entry = self.due.get_mut(&number)?;
        entry.not_before = None;
        Some((number, entry.due.clone()))
    }

    fn may_send(&self, now: Instant) -> bool {
        let may_be_tried = match self.health {
            Health::Works => true,
            Health::Failed { until, probe, .. } => until <= now && probe.is_none(),
        };
        may_be_tried && !self.is_closed
    }

    /// When there may be something to [`Spool::take`] that is not yet, if nothing else happens.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let (not_before, _) = *self.waiting.first()?;
        match self.health {
            _ if self.is_closed => None,
            Health::Works => Some(not_before),
            Health::Failed { probe: Some(_), .. } => None,
            Health::Failed { until, .. } => Some(until.max(not_before)),
        }
    }

    /// It was sent. Tells whether that was the file that there is now: then there is nothing left
    /// to do for it.
    pub(super) fn settle(&mut self, number: u64, now: Instant) -> bool {
        self.health = Health::Works;
        let is_it = !self.begin_again(number, now);
        if is_it {
            self.remove(number);
        }
        is_it
    }

    /// Whatever has become of it, another has its name: that one is to be sent. Tells whether it is
    /// so.
    pub(super) fn begin_again(&mut self, number: u64, now: Instant) -> bool {
        let is_replaced = self.due.get(&number).is_some_and(|entry| entry.is_replaced);
        if is_replaced {
            self.put_at(number, now);
        }
        is_replaced
    }

    /// It could not be sent, by its own fault: it is left alone for a while.
    pub(super) fn put_off(&mut self, number: u64, now: Instant) {
        self.health = Health::Works;
        self.fail(number, now, FILE_PAUSE);
    }

    /// It could not be sent. It comes behind all others: one that cannot succeed does not keep
    /// them.
    pub(super) fn put_back(&mut self, number: u64, now: Instant) {
        self.fail(number, now, Duration::ZERO);
    }

    fn fail(&mut self, number: u64, now: Instant, pause: Duration) {
        if let Some(entry) = self.due.get_mut(&number)
            && !std::mem::replace(&mut entry.has_failed, true)
        {
            self.failed = (
                self.failed.0.saturating_add(1),
                self.failed.1.saturating_add(entry.due.len),
            );
        }
        let pause = if self.is_last_round { NEVER } else { pause };
        self.put_at(number, now.checked_add(pause).unwrap_or(now));
    }

    fn put_at(&mut self, number: u64, not_before: Instant) {
        self.end_probe(number);
        if let Some(entry) = self.due.get_mut(&number) {
            (entry.not_before, entry.is_replaced) = (Some(not_before), false);
            self.waiting.insert((not_before, number));
        }
    }

    fn end_probe(&mut self, number: u64) {
        if let Health::Failed { probe, .. } = &mut self.health {
            *probe = probe.filter(|probe| *probe != number);
        }
    }

    /// Takes note of it that the store fails. Tells whether it was thought to work until now.
    pub(super) fn note_failure(&mut self, now: Instant) -> bool {
        let (is_news, pause) = match self.health {
            Health::Works => (true, PAUSES.0),
            // It was sent before the store was known to fail.
            Health::Failed { until, .. } if now < until => return false,
            Health::Failed { pause, .. } => (false, pause.saturating_mul(2).min(PAUSES.1)),
        };
        self.health = Health::Failed {
            until: now.checked_add(pause).unwrap_or(now),
            pause,
            probe: None,
        };
        is_news
    }

    /// Whether the store is thought to work.
    pub(super) fn has_store(&self) -> bool {
        matches!(self.health, Health::Works)
    }

    /// Whether the store failed, and then failed again.
    pub(super) fn has_no_store(&self) -> bool {
        matches!(self.health, Health::Failed { pause, .. } if pause > PAUSES.0)
    }

    /// Nothing is to become of it.
    pub(super) fn remove(&mut self, number: u64) -> Option<Due> {
        self.end_probe(number);
        let Entry {
            due,
            not_before,
            has_failed,
            ..
        } = self.due.remove(&number)?;
        if let Some(not_before) = not_before {
            self.waiting.remove(&(not_before, number));
        }
        if has_failed {
            self.failed = (
                self.failed.0.saturating_sub(1),
                self.failed.1.saturating_sub(due.len),
            );
        }
        self.bytes = self.bytes.saturating_sub(due.len);
        self.numbers.remove(&due.file_name);
        Some(due)
    }

    /// Takes out the oldest until no more than `max` bytes are left; what is on its way stays.
    pub(super) fn overflow(&mut self, max: u64) -> Vec<Due> {
        let mut excess = self.bytes.saturating_sub(max);
        let mut numbers = Vec::new();
        for (number, entry) in self
            .due
            .iter()
            .filter(|(_, entry)| entry.not_before.is_some())
        {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(entry.due.len);
            numbers.push(*number);
        }
        numbers
            .into_iter()
            .filter_map(|number| self.remove(number))
            .collect()
    }

    /// Whether whoever adds to it should wait: much is due, and it is getting less.
    pub(super) fn is_ahead(&self) -> bool {
        let files = self.due.len().saturating_sub(self.failed.0);
        let bytes = self.bytes.saturating_sub(self.failed.1);
        (files > MAX_AHEAD.0 || bytes > MAX_AHEAD.1) && self.has_store() && !self.is_closed
    }

    /// The last round begins: what fails in it is left alone. A store that failed a while ago is
    /// tried once more, without a longer pause.
    pub(super) fn begin_last_round(&mut self, now: Instant) {
        self.is_last_round = true;
        if let Health::Failed { until, pause, .. } = &mut self.health
            && until
                .checked_sub(*pause)
                .is_some_and(|failed| now.saturating_duration_since(failed) >= PAUSES.0)
        {
            *until = now;
        }
    }

    /// Whether nothing is on its way, and nothing can be sent for now.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        let is_next = self
            .waiting
            .first()
            .is_some_and(|(not_before, _)| *not_before <= now);
        self.on_their_way() == 0 && !(is_next && self.may_send(now))
    }

    /// Nothing is sent any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(name: &str, len: u64) -> Due {
        Due {
            file_name: name.to_owned(),
            to: "s3://calls/".parse().unwrap(),
            len,
        }
    }

    fn spool(names: &[&str]) -> (Spool, Instant) {
        let (mut spool, now) = (Spool::default(), Instant::now());
        names.iter().for_each(|name| spool.add(due(name, 10), now));
        (spool, now)
    }

    fn taken(spool: &mut Spool, now: Instant) -> Option<String> {
        spool.take(now).map(|(_, due)| due.file_name)
    }

    #[test]
    fn the_oldest_goes_first_and_each_once() {
        let (mut spool, now) = spool(&["a", "b", "a"]);
        assert_eq!((spool.len(), spool.bytes()), (2, 20));
        let (number, _) = spool.take(now).unwrap();
        assert_eq!(taken(&mut spool, now).as_deref(), Some("b"));
        assert_eq!(taken(&mut spool, now), None);
        assert!(spool.holds("a") && !spool.holds("c"));
        assert!(spool.settle(number, now));
        assert_eq!(
            (spool.len(), spool.bytes(), spool.on_their_way()),
            (1, 10, 1)
        );
    }

    #[test]
    fn a_store_that_fails_is_left_alone_and_then_asked_by_one() {
        let (mut spool, now) = spool(&["a", "b", "c", "d"]);
        let [(a, _), (b, _)] = [spool.take(now).unwrap(), spool.take(now).unwrap()];
        let soon = now + Duration::from_millis(1);
        spool.put_back(a, soon);
        assert!(spool.note_failure(now), "this is news");
        spool.put_back(b, soon);
        assert!(!spool.note_failure(now));
        assert!(spool.is_at_rest(now) && taken(&mut spool, now).is_none());
        let later = now + PAUSES.0;
        assert_eq!(spool.next_time(), Some(later));
        let (c, probe) = spool.take(later).unwrap();
        assert_eq!(probe.file_name, "c", "those that failed come last");
        assert!(taken(&mut spool, later).is_none(), "one is enough");
        spool.put_back(c, later);
        assert!(!spool.note_failure(later));
        assert!(
            taken(&mut spool, later + PAUSES.0).is_none(),
            "the pause is longer now"
        );
        let (d, _) = spool.take(later + PAUSES.0 * 2).unwrap();
        spool.settle(d, later);
        assert_eq!(
            taken(&mut spool, later + PAUSES.0 * 2).as_deref(),
            Some("a")
        );
        assert_eq!(
            taken(&mut spool, later + PAUSES.0 * 2).as_deref(),
            Some("b")
        );
    }

    #[test]
    fn the_longest_pause_is_five_minutes() {
        let (mut spool, mut now) = spool(&["a"]);
        for _ in 0..20 {
            let (a, _) = spool.take(now).unwrap();
            spool.put_back(a, now);
            spool.note_failure(now);
            let next = spool.next_time().unwrap();
            assert!(next - now <= PAUSES.1);
            now = next;
        }
        spool.note_failure(now);
        spool.begin_last_round(now);
        assert!(spool.is_at_rest(now), "it has just been tried");
        let later = now + PAUSES.0;
        spool.begin_last_round(later);
        assert!(!spool.is_at_rest(later) && spool.take(later).is_some());
    }

    #[test]
    fn a_file_that_fails_keeps_nobody() {
        let (mut spool, now) = spool(&["a", "b"]);
        let (a, _) = spool.take(now).unwrap();
        spool.put_off(a, now);
        let (b, _) = spool.take(now).unwrap();
        assert!(!spool.is_at_rest(now));
        spool.settle(b, now);
        assert!(spool.is_at_rest(now), "the other one is not due again yet");
        assert_eq!(spool.len(), 1);
        assert_eq!(taken(&mut spool, now + FILE_PAUSE).as_deref(), Some("a"));
    }

    #[test]
    fn the_oldest_are_given_up_where_there_are_too_many() {
        let (mut spool, now) = spool(&["a", "b", "c", "d"]);
        spool.take(now).unwrap();
        let lost: Vec<String> = spool
            .overflow(15)
            .into_iter()
            .map(|due| due.file_name)
            .collect();
        assert_eq!(lost, ["b", "c", "d"], "what is on its way stays");
        assert_eq!(spool.bytes(), 10);
        assert!(spool.overflow(10).is_empty());
        assert!(taken(&mut spool, now).is_none());
    }

    #[test]
    fn who_is_ahead_waits_as_long_as_it_helps() {
        let (mut spool, now) = spool(&["a"]);
        spool.add(due("large", MAX_AHEAD.1), now);
        assert!(spool.is_ahead());
        spool.note_failure(now);
        assert!(!spool.is_ahead(), "no waiting helps");
    }

    #[test]
    fn what_fails_holds_up_neither_extraction_nor_the_end() {
        let (mut spool, now) = spool(&["a"]);
        spool.add(due("large", MAX_AHEAD.1 + 1), now);
        let [(a, _), (large, _)] = [spool.take(now).unwrap(), spool.take(now).unwrap()];
        spool.put_off(large, now);
        assert!(!spool.is_ahead(), "it would be waited for in vain");
        spool.begin_last_round(now);
        spool.put_off(a, now);
        assert!(
            spool
                .take(now + FILE_PAUSE)
                .is_some_and(|(_, due)| due.file_name == "large"),
            "once more"
        );
        spool.put_off(large, now);
        assert!(spool.is_at_rest(now + FILE_PAUSE * 9), "and not again");
    }

    #[test]
    fn a_file_that_takes_the_place_of_another_is_sent_too() {
        let (mut spool, now) = spool(&["a", "b"]);
        let (a, _) = spool.take(now).unwrap();
        spool.add(due("a", 70), now);
        spool.add(due("b", 5), now);
        assert_eq!((spool.len(), spool.bytes()), (2, 75));
        assert!(!spool.settle(a, now), "it was the other one");
        let left: Vec<(String, u64)> = std::iter::from_fn(|| spool.take(now))
            .map(|(_, due)| (due.file_name, due.len))
            .collect();
        assert_eq!(left, [("a".to_owned(), 70), ("b".to_owned(), 5)]);
        assert!(!spool.begin_again(a, now) && spool.settle(a, now));
        assert_eq!(spool.bytes(), 5);
    }

    #[test]
    fn a_probe_does_not_wait_for_what_was_sent_before() {
        let (mut spool, now) = spool(&["long", "b", "c"]);
        let (long, _) = spool.take(now).unwrap();
        let (b, _) = spool.take(now).unwrap();
        spool.note_failure(now);
        spool.put_back(b, now);
        let later = now + PAUSES.0;
        let (probe, _) = spool.take(later).unwrap();
        assert!(spool.take(later).is_none());
        assert!(
            spool.remove(probe).is_some() && spool.take(later).is_some(),
            "another one has to find out"
        );
        spool.settle(long, later);
        assert!(spool.has_store());
    }

    #[test]
    fn nothing_is_sent_after_the_end() {
        let (mut spool, now) = spool(&["a", "b"]);
        let (a, _) = spool.take(now).unwrap();
        spool.close();
        assert!(taken(&mut spool, now).is_none() && !spool.is_at_rest(now));
        spool.settle(a, now);
        assert!(spool.is_at_rest(now));
        assert_eq!(
            spool
                .all()
                .map(|due| due.file_name.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
    }
}
