//! Files that are due for upload, and the order and time of their uploads. This module is pure: it
//! uses neither network nor clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

/// A file that is due for upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::outputs) struct Due {
    /// The file name in the output directory.
    pub(in crate::outputs) file_name: String,
    /// The location of the object, as the CSV rows have it.
    pub(in crate::outputs) to: S3Uri,
    /// The length of the file, in bytes.
    pub(in crate::outputs) len: u64,
}

/// The pause after a failure of the store: the first one, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The pause after a failure of one file.
const FILE_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a failure in the last round: so long that the file is not tried again.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The most files, and bytes, that are due without a failure before extraction waits.
const MAX_AHEAD: (usize, u64) = (20_000, 1 << 30);

/// The due files, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct DueUploads {
    due: BTreeMap<u64, Entry>,
    /// The files that are not being sent: the earliest time of their next attempt, and their
    /// number.
    waiting: BTreeSet<(Instant, u64)>,
    numbers: HashMap<String, u64>,
    next: u64,
    bytes: u64,
    /// The number of files that have failed before, and their bytes.
    failed: (usize, u64),
    health: Health,
    /// True when a failed file is left to the next run.
    is_last_round: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    due: Due,
    /// The earliest time of the next attempt; `None` while the file is being sent.
    not_before: Option<Instant>,
    has_failed: bool,
    /// True when another file with the same name has been added while this one is being sent.
    is_replaced: bool,
}

/// The health of the store.
#[derive(Clone, Copy, Debug, Default)]
enum Health {
    #[default]
    Works,
    /// Nothing is sent before `until`; then one file, the probe, shows whether the store works
    /// again.
    Failed {
        until: Instant,
        pause: Duration,
        probe: Option<u64>,
    },
}

impl DueUploads {
    /// Adds a file. It replaces a due file with the same name.
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

    /// Returns true if a file of this name is due.
    pub(super) fn holds(&self, file_name: &str) -> bool {
        self.numbers.contains_key(file_name)
    }

    /// The due files, the oldest first.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &Due> {
        self.due.values().map(|entry| &entry.due)
    }

    /// The number of due files.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// The bytes in due files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn on_their_way(&self) -> usize {
        self.due.len().saturating_sub(self.waiting.len())
    }

    /// Takes the next file to be sent.
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

    /// The time at which [`DueUploads::take`] may have a file, if nothing else happens.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let (not_before, _) = *self.waiting.first()?;
        match self.health {
            _ if self.is_closed => None,
            Health::Works => Some(not_before),
            Health::Failed { probe: Some(_), .. } => None,
            Health::Failed { until, .. } => Some(until.max(not_before)),
        }
    }

    /// Handles a success. Returns true if the sent file is still the current one of its name; then
    /// it is removed from the due uploads.
    pub(super) fn settle(&mut self, number: u64, now: Instant) -> bool {
        self.health = Health::Works;
        let is_it = !self.begin_again(number, now);
        if is_it {
            self.remove(number);
        }
        is_it
    }

    /// If another file has replaced this one during the attempt, schedules that one and returns
    /// true.
    pub(super) fn begin_again(&mut self, number: u64, now: Instant) -> bool {
        let is_replaced = self.due.get(&number).is_some_and(|entry| entry.is_replaced);
        if is_replaced {
            self.put_at(number, now);
        }
        is_replaced
    }

    /// Handles a failure of this file: it is tried again after a pause.
    pub(super) fn put_off(&mut self, number: u64, now: Instant) {
        self.health = Health::Works;
        self.fail(number, now, FILE_PAUSE);
    }

    /// Handles a failure of the store: the file moves behind all others, so that a file which
    /// cannot succeed does not block them.
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

    /// Records a failure of the store. Returns true if the store had worked before.
    pub(super) fn note_failure(&mut self, now: Instant) -> bool {
        let (is_news, pause) = match self.health {
            Health::Works => (true, PAUSES.0),
            // This request was sent before the failure was known.
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

    /// Returns true if the store is believed to work.
    pub(super) fn has_store(&self) -> bool {
        matches!(self.health, Health::Works)
    }

    /// Returns true if the store has failed twice or more.
    pub(super) fn has_no_store(&self) -> bool {
        matches!(self.health, Health::Failed { pause, .. } if pause > PAUSES.0)
    }

    /// Removes a file without an upload.
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

    /// Removes the oldest files until at most `max` bytes are left; files that are being sent stay.
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

    /// Returns true if extraction should wait: many files are due, and uploads succeed.
    pub(super) fn is_ahead(&self) -> bool {
        let files = self.due.len().saturating_sub(self.failed.0);
        let bytes = self.bytes.saturating_sub(self.failed.1);
        (files > MAX_AHEAD.0 || bytes > MAX_AHEAD.1) && self.has_store() && !self.is_closed
    }

    /// Starts the last round, in which failed files are not retried. A store that failed before is
    /// tried once more without a longer pause.
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

    /// Returns true if nothing is being sent, and nothing can be sent now.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        let is_next = self
            .waiting
            .first()
            .is_some_and(|(not_before, _)| *not_before <= now);
        self.on_their_way() == 0 && !(is_next && self.may_send(now))
    }

    /// Stops all further uploads.
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

    fn due_uploads(names: &[&str]) -> (DueUploads, Instant) {
        let (mut due_uploads, now) = (DueUploads::default(), Instant::now());
        names
            .iter()
            .for_each(|name| due_uploads.add(due(name, 10), now));
        (due_uploads, now)
    }

    fn taken(due_uploads: &mut DueUploads, now: Instant) -> Option<String> {
        due_uploads.take(now).map(|(_, due)| due.file_name)
    }

    #[test]
    fn the_oldest_goes_first_and_each_once() {
        let (mut due_uploads, now) = due_uploads(&["a", "b", "a"]);
        assert_eq!((due_uploads.len(), due_uploads.bytes()), (2, 20));
        let (number, _) = due_uploads.take(now).unwrap();
        assert_eq!(taken(&mut due_uploads, now).as_deref(), Some("b"));
        assert_eq!(taken(&mut due_uploads, now), None);
        assert!(due_uploads.holds("a") && !due_uploads.holds("c"));
        assert!(due_uploads.settle(number, now));
        assert_eq!(
            (
                due_uploads.len(),
                due_uploads.bytes(),
                due_uploads.on_their_way()
            ),
            (1, 10, 1)
        );
    }

    #[test]
    fn a_store_that_fails_is_left_alone_and_then_asked_by_one() {
        let (mut due_uploads, now) = due_uploads(&["a", "b", "c", "d"]);
        let [(a, _), (b, _)] = [
            due_uploads.take(now).unwrap(),
            due_uploads.take(now).unwrap(),
        ];
        let soon = now + Duration::from_millis(1);
        due_uploads.put_back(a, soon);
        assert!(due_uploads.note_failure(now), "this is news");
        due_uploads.put_back(b, soon);
        assert!(!due_uploads.note_failure(now));
        assert!(due_uploads.is_at_rest(now) && taken(&mut due_uploads, now).is_none());
        let later = now + PAUSES.0;
        assert_eq!(due_uploads.next_time(), Some(later));
        let (c, probe) = due_uploads.take(later).unwrap();
        assert_eq!(probe.file_name, "c", "those that failed come last");
        assert!(taken(&mut due_uploads, later).is_none(), "one is enough");
        due_uploads.put_back(c, later);
        assert!(!due_uploads.note_failure(later));
        assert!(
            taken(&mut due_uploads, later + PAUSES.0).is_none(),
            "the pause is longer now"
        );
        let (d, _) = due_uploads.take(later + PAUSES.0 * 2).unwrap();
        due_uploads.settle(d, later);
        assert_eq!(
            taken(&mut due_uploads, later + PAUSES.0 * 2).as_deref(),
            Some("a")
        );
        assert_eq!(
            taken(&mut due_uploads, later + PAUSES.0 * 2).as_deref(),
            Some("b")
        );
    }

    #[test]
    fn the_longest_pause_is_five_minutes() {
        let (mut due_uploads, mut now) = due_uploads(&["a"]);
        for _ in 0..20 {
            let (a, _) = due_uploads.take(now).unwrap();
            due_uploads.put_back(a, now);
            due_uploads.note_failure(now);
            let next = due_uploads.next_time().unwrap();
            assert!(next - now <= PAUSES.1);
            now = next;
        }
        due_uploads.note_failure(now);
        due_uploads.begin_last_round(now);
        assert!(due_uploads.is_at_rest(now), "it has just been tried");
        let later = now + PAUSES.0;
        due_uploads.begin_last_round(later);
        assert!(!due_uploads.is_at_rest(later) && due_uploads.take(later).is_some());
    }

    #[test]
    fn a_file_that_fails_keeps_nobody() {
        let (mut due_uploads, now) = due_uploads(&["a", "b"]);
        let (a, _) = due_uploads.take(now).unwrap();
        due_uploads.put_off(a, now);
        let (b, _) = due_uploads.take(now).unwrap();
        assert!(!due_uploads.is_at_rest(now));
        due_uploads.settle(b, now);
        assert!(
            due_uploads.is_at_rest(now),
            "the other one is not due again yet"
        );
        assert_eq!(due_uploads.len(), 1);
        assert_eq!(
            taken(&mut due_uploads, now + FILE_PAUSE).as_deref(),
            Some("a")
        );
    }

    #[test]
    fn the_oldest_are_given_up_where_there_are_too_many() {
        let (mut due_uploads, now) = due_uploads(&["a", "b", "c", "d"]);
        due_uploads.take(now).unwrap();
        let lost: Vec<String> = due_uploads
            .overflow(15)
            .into_iter()
            .map(|due| due.file_name)
            .collect();
        assert_eq!(lost, ["b", "c", "d"], "what is on its way stays");
        assert_eq!(due_uploads.bytes(), 10);
        assert!(due_uploads.overflow(10).is_empty());
        assert!(taken(&mut due_uploads, now).is_none());
    }

    #[test]
    fn who_is_ahead_waits_as_long_as_it_helps() {
        let (mut due_uploads, now) = due_uploads(&["a"]);
        due_uploads.add(due("large", MAX_AHEAD.1), now);
        assert!(due_uploads.is_ahead());
        due_uploads.note_failure(now);
        assert!(!due_uploads.is_ahead(), "no waiting helps");
    }

    #[test]
    fn what_fails_holds_up_neither_extraction_nor_the_end() {
        let (mut due_uploads, now) = due_uploads(&["a"]);
        due_uploads.add(due("large", MAX_AHEAD.1 + 1), now);
        let [(a, _), (large, _)] = [
            due_uploads.take(now).unwrap(),
            due_uploads.take(now).unwrap(),
        ];
        due_uploads.put_off(large, now);
        assert!(!due_uploads.is_ahead(), "it would be waited for in vain");
        due_uploads.begin_last_round(now);
        due_uploads.put_off(a, now);
        assert!(
            due_uploads
                .take(now + FILE_PAUSE)
                .is_some_and(|(_, due)| due.file_name == "large"),
            "once more"
        );
        due_uploads.put_off(large, now);
        assert!(
            due_uploads.is_at_rest(now + FILE_PAUSE * 9),
            "and not again"
        );
    }

    #[test]
    fn a_file_that_takes_the_place_of_another_is_sent_too() {
        let (mut due_uploads, now) = due_uploads(&["a", "b"]);
        let (a, _) = due_uploads.take(now).unwrap();
        due_uploads.add(due("a", 70), now);
        due_uploads.add(due("b", 5), now);
        assert_eq!((due_uploads.len(), due_uploads.bytes()), (2, 75));
        assert!(!due_uploads.settle(a, now), "it was the other one");
        let left: Vec<(String, u64)> = std::iter::from_fn(|| due_uploads.take(now))
            .map(|(_, due)| (due.file_name, due.len))
            .collect();
        assert_eq!(left, [("a".to_owned(), 70), ("b".to_owned(), 5)]);
        assert!(!due_uploads.begin_again(a, now) && due_uploads.settle(a, now));
        assert_eq!(due_uploads.bytes(), 5);
    }

    #[test]
    fn a_probe_does_not_wait_for_what_was_sent_before() {
        let (mut due_uploads, now) = due_uploads(&["long", "b", "c"]);
        let (long, _) = due_uploads.take(now).unwrap();
        let (b, _) = due_uploads.take(now).unwrap();
        due_uploads.note_failure(now);
        due_uploads.put_back(b, now);
        let later = now + PAUSES.0;
        let (probe, _) = due_uploads.take(later).unwrap();
        assert!(due_uploads.take(later).is_none());
        assert!(
            due_uploads.remove(probe).is_some() && due_uploads.take(later).is_some(),
            "another one has to find out"
        );
        due_uploads.settle(long, later);
        assert!(due_uploads.has_store());
    }

    #[test]
    fn nothing_is_sent_after_the_end() {
        let (mut due_uploads, now) = due_uploads(&["a", "b"]);
        let (a, _) = due_uploads.take(now).unwrap();
        due_uploads.close();
        assert!(taken(&mut due_uploads, now).is_none() && !due_uploads.is_at_rest(now));
        due_uploads.settle(a, now);
        assert!(due_uploads.is_at_rest(now));
        assert_eq!(
            due_uploads
                .all()
                .map(|due| due.file_name.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
    }
}
