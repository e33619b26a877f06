//! Hours or days of calls, of which each has a report of its own (docs/report.md): which reports are
//! out of date, and where in `calls.jsonl` the records of each begin.
//!
//! The state has all of this, so a run that is killed leaves no report out of date for good, and no
//! run reads all records to make one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most stretches whose beginning in the file is known. Records of others are looked for in the
/// whole file.
const MAX_KNOWN: usize = 1000;

const HOUR_NS: u64 = 3_600_000_000_000;

/// How much time a report covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Every {
    /// The calls that began in an hour, UTC.
    Hour,
    /// The calls that began on a day, UTC.
    Day,
}

/// An hour or a day, counted from 1970, UTC.
pub type Stretch = u64;

impl Every {
    fn length_ns(self) -> u64 {
        match self {
            Self::Hour => HOUR_NS,
            Self::Day => HOUR_NS.saturating_mul(24),
        }
    }

    /// The stretch in which a call began.
    #[must_use]
    pub fn of(self, start_ns: u64) -> Stretch {
        start_ns.checked_div(self.length_ns()).unwrap_or(0)
    }

    /// The starts of its calls, in nanoseconds since 1970.
    #[must_use]
    pub fn starts(self, stretch: Stretch) -> RangeInclusive<u64> {
        let first = stretch.saturating_mul(self.length_ns());
        first..=first.saturating_add(self.length_ns().saturating_sub(1))
    }

    /// Its name: `2026-11-29`, or `2026-11-29T14`.
    #[must_use]
    pub fn name(self, stretch: Stretch) -> String {
        let start = Timestamp::from_nanosecond((*self.starts(stretch).start()).into());
        let form = match self {
            Self::Hour => "%Y-%m-%dT%H",
            Self::Day => "%Y-%m-%d",
        };
        start.unwrap_or_default().strftime(form).to_string()
    }
}

/// A report that is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueReport {
    /// The stretch that it covers.
    pub stretch: Stretch,
    /// The offset in the file before which it has no records.
    pub offset: u64,
}

/// Findings about the file of records, made while a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The offset of the report's first record.
    pub first: Option<u64>,
    /// The latest start of any call that was read, in nanoseconds since 1970.
    pub latest_ns: u64,
}

/// The stretches of a file of records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stretches {
    every: Every,
    /// The length of the file when its rows are published.
    len: u64,
    /// The offset before which a stretch has no records.
    begins: BTreeMap<Stretch, u64>,
    /// The latest stretch that has records, if all records are known.
    latest: Option<Stretch>,
    /// Those with records of the present unit of work.
    pending: BTreeSet<Stretch>,
    /// Those whose reports are out of date.
    due: BTreeSet<Stretch>,
}

impl Stretches {
    /// The stretches of a file about which nothing is known.
    pub(super) fn new(every: Every) -> Self {
        Self {
            every,
            len: 0,
            begins: BTreeMap::new(),
            latest: None,
            pending: BTreeSet::new(),
            due: BTreeSet::new(),
        }
    }

    pub(super) fn every(&self) -> Every {
        self.every
    }

    /// Notes a record of the present unit of work.
    pub(super) fn note(&mut self, start_ns: u64) {
        self.pending.insert(self.every.of(start_ns));
    }

    /// Prepares the publication of the unit's records behind the first `published` bytes of the
    /// file. If rows may be `replaced`, all records may move.
    pub(super) fn prepare(&mut self, published: u64, pending_len: u64, replaced: bool) {
        // A shorter file is another one: somebody has moved the old one away.
        if published < self.len || (replaced && pending_len > 0) {
            self.begins.clear();
            self.latest = None;
        }
        if published == 0 {
            self.latest = self.latest.or(Some(0));
        }
        let before = self.latest;
        for stretch in std::mem::take(&mut self.pending) {
            let is_new = before.is_some_and(|latest| stretch > latest);
            let offset = if is_new { published } else { 0 };
            self.begins.entry(stretch).or_insert(offset);
            self.latest = self.latest.map(|latest| latest.max(stretch));
            self.due.insert(stretch);
        }
        while self.begins.len() > MAX_KNOWN {
            self.begins.pop_first();
        }
        self.len = published.saturating_add(pending_len);
    }

    /// The reports that are out of date, in the order of time.
    pub(super) fn due(&self) -> Vec<DueReport> {
        let due = |stretch: &Stretch| DueReport {
            stretch: *stretch,
            offset: self.begins.get(stretch).copied().unwrap_or(0),
        };
        self.due.iter().map(due).collect()
    }

    /// Notes that a report was made.
    pub(super) fn made(&mut self, report: DueReport, found: Found) {
        self.due.remove(&report.stretch);
        if let Some(first) = found.first
            && let Some(offset) = self.begins.get_mut(&report.stretch)
        {
            *offset = first.max(*offset);
        }
        // All records were read.
        if report.offset == 0 {
            let latest = self.every.of(found.latest_ns);
            self.latest = Some(self.latest.map_or(latest, |known| known.max(latest)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of an hour of the first days.
    fn at(hour: u64) -> u64 {
        hour * HOUR_NS + 7
    }

    /// Publishes records that begin in these hours, ten bytes each.
    fn publish(stretches: &mut Stretches, published: u64, hours: &[u64]) {
        hours.iter().for_each(|hour| stretches.note(at(*hour)));
        stretches.prepare(published, hours.len() as u64 * 10, false);
    }

    fn due(stretches: &Stretches) -> Vec<(u64, u64)> {
        let due = stretches.due().into_iter();
        due.map(|one| (one.stretch, one.offset)).collect()
    }

    fn make_all(stretches: &mut Stretches, found: Found) {
        for report in stretches.due() {
            stretches.made(report, found);
        }
    }

    #[test]
    fn names_and_starts() {
        let ns = 1_795_960_800_000_000_000; // 2026-11-29 14:00 UTC
        assert_eq!(Every::Hour.name(Every::Hour.of(ns)), "2026-11-29T14");
        assert_eq!(Every::Day.name(Every::Day.of(ns)), "2026-11-29");
        assert_eq!(Every::Hour.of(ns - 1) + 1, Every::Hour.of(ns));
        let starts = Every::Hour.starts(Every::Hour.of(ns));
        assert_eq!(starts, ns..=ns + HOUR_NS - 1);
        assert!(
            Every::Day
                .starts(Every::Day.of(u64::MAX))
                .contains(&u64::MAX)
        );
        assert_ne!(Every::Day.name(u64::MAX), "", "beyond the calendar");
    }

    #[test]
    fn a_file_from_its_beginning() {
        let mut stretches = Stretches::new(Every::Hour);
        publish(&mut stretches, 0, &[1, 2]);
        assert_eq!(due(&stretches), [(1, 0), (2, 0)]);
        make_all(&mut stretches, Found::default());
        assert_eq!(due(&stretches), []);
        publish(&mut stretches, 20, &[2, 3]);
        assert_eq!(due(&stretches), [(2, 0), (3, 20)]);
        // A call of an hour that was passed over: only reading tells where its records begin.
        publish(&mut stretches, 40, &[6]);
        publish(&mut stretches, 50, &[5]);
        assert_eq!(due(&stretches), [(2, 0), (3, 20), (5, 0), (6, 40)]);
        let [.., fifth, _] = stretches.due()[..] else {
            panic!()
        };
        let found = Found {
            first: Some(50),
            latest_ns: at(6),
        };
        stretches.made(fifth, found);
        publish(&mut stretches, 60, &[5]);
        assert!(due(&stretches).contains(&(5, 50)));
    }

    #[test]
    fn a_file_that_was_there_before() {
        let mut stretches = Stretches::new(Every::Hour);
        publish(&mut stretches, 500, &[7]);
        assert_eq!(due(&stretches), [(7, 0)]);
        let found = Found {
            first: Some(480),
            latest_ns: at(9),
        };
        make_all(&mut stretches, found);
        publish(&mut stretches, 510, &[7, 9, 10]);
        assert_eq!(due(&stretches), [(7, 480), (9, 0), (10, 510)]);
    }

    #[test]
    fn a_file_that_was_moved_away_or_written_anew() {
        let mut stretches = Stretches::new(Every::Hour);
        publish(&mut stretches, 0, &[1]);
        publish(&mut stretches, 10, &[2]);
        publish(&mut stretches, 0, &[2]);
        assert_eq!(due(&stretches), [(1, 0), (2, 0)]);
        publish(&mut stretches, 10, &[3]);
        stretches.note(at(4));
        stretches.prepare(20, 10, true);
        assert_eq!(due(&stretches), [(1, 0), (2, 0), (3, 0), (4, 0)]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut stretches = Stretches::new(Every::Hour);
        for hour in 1..=MAX_KNOWN as u64 + 5 {
            publish(&mut stretches, hour * 10 - 10, &[hour]);
            make_all(&mut stretches, Found::default());
        }
        assert_eq!(stretches.begins.len(), MAX_KNOWN);
        publish(&mut stretches, 99_999, &[2]);
        assert_eq!(due(&stretches), [(2, 0)], "looked for in the whole file");
    }
}
