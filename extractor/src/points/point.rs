//! A capture point: a directory, its state from earlier runs, and the files that are in it now.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use nix::libc::ELOOP;

use super::{
    Look, ON_ITS_WAY,
    segment::{FoundSegment, Queued, has_packets},
    stored::{Begun, KnownSegments, Likeness, Seen, Stored, is_longer},
};
use crate::{
    attempts::{Attempts, Which},
    moment::Clock,
    segments::{
        AfterProcessing, Applied, ContentHash, Identity, Listed, Listing, Series, capture_order,
        content, identity, part_begins, whole_path,
    },
    source::{Input, InputError, Name, Scratch, first_time, merge::Delivery, patiently},
    timeline::Later,
};

/// The use of a file.
enum Sorted<New> {
    /// The file is to be read.
    New(New),
    /// The file was read: it is the segment with this number.
    Read(usize),
    /// The file is the same as one that waits to be read.
    Waiting,
}

/// A capture point.
#[derive(Debug)]
pub(super) struct Point {
    /// The state of the directory.
    pub(super) stored: Stored,
    pub(super) listing: Listing,
    /// Files that are not examined again until they change.
    pub(super) settled: BTreeMap<OsString, Listed>,
    /// The time of the first packet in files whose name does not tell it.
    first_ns: BTreeMap<OsString, (Listed, Option<u64>)>,
    /// The time of the first record in part files, by file name.
    parts_begin: BTreeMap<String, Clock>,
    /// Open segments, if several points are merged.
    pub(super) queue: Vec<Queued>,
    /// Series with more segments than can be open.
    pub(super) crowded: BTreeSet<Series>,
    /// Files in the directory that cannot be examined.
    refused: Vec<PathBuf>,
    pub(super) is_missing: bool,
    /// True when the point has been silent for so long that the others do not wait for it any more.
    pub(super) is_silent: bool,
    /// True when the log already says that segments cannot be marked, deleted or moved.
    has_complained: bool,
    /// True when something must be saved although no segment was read.
    pub(super) has_learned: bool,
}

impl Point {
    /// The capture point of a directory; `known` is its state, if there is one.
    pub(super) fn new(directory: &Path, known: Option<Stored>) -> Self {
        let whole = whole_path(directory);
        let fresh = || Stored {
            directory: Name::of(&whole),
            ..Stored::default()
        };
        Self {
            stored: known.unwrap_or_else(fresh),
            listing: Listing::of(whole),
            settled: BTreeMap::new(),
            first_ns: BTreeMap::new(),
            parts_begin: BTreeMap::new(),
            queue: Vec::new(),
            crowded: BTreeSet::new(),
            refused: Vec::new(),
            is_missing: false,
            is_silent: false,
            has_complained: false,
            has_learned: false,
        }
    }

    /// The files in the directory; `None` if nothing has changed since the last time, unless
    /// `closely` is set.
    pub(super) fn list(&mut self, closely: bool) -> io::Result<Option<Vec<Listed>>> {
        let refused = &mut self.refused;
        refused.clear();
        let note = |path: &Path, error: &io::Error| match error.raw_os_error() {
            Some(ELOOP) => tracing::warn!("{} cannot be looked at: {error}", path.display()),
            // It may be a capture, and others come after it.
            _ => refused.push(path.to_owned()),
        };
        let now = Instant::now();
        if closely {
            self.listing.all(now, note).map(Some)
        } else {
            self.listing.if_changed(now, note)
        }
    }

    /// The listed files that are to be read and do not wait already. `number` is that of the
    /// directory.
    pub(super) fn new_segments(
        &mut self,
        number: usize,
        mut listed: Vec<Listed>,
        look: &mut Look<'_>,
    ) -> Result<Vec<FoundSegment>> {
        for path in std::mem::take(&mut self.refused) {
            match patiently(|| Listed::at(&path).map_err(InputError::from)) {
                Ok(found) => listed.push(found),
                Err(error) => look.trouble(&Which::at(&path), &path, error, None)?,
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        // A file that has grown while it waited is listed anew.
        let is_as_listed = |queued: &Queued| {
            let now = listed
                .iter()
                .find(|listed| listed.name == queued.segment.listed.name);
            now.is_none_or(|now| *now == queued.segment.listed)
        };
        self.queue.retain(is_as_listed);
        self.stored
            .note_series(&listed, self.listing.being_written().keys());
        self.sift(number, listed, look)
    }

    /// The segments among the listed files that are to be read.
    fn sift(
        &mut self,
        number: usize,
        listed: Vec<Listed>,
        look: &mut Look<'_>,
    ) -> Result<Vec<FoundSegment>> {
        self.stored.forget_some(&listed);
        let names: BTreeSet<&OsString> = listed.iter().map(|listed| &listed.name).collect();
        self.settled.retain(|name, _| names.contains(name));
        self.first_ns.retain(|name, _| names.contains(name));
        let unsettled: Vec<Listed> = listed
            .into_iter()
            .filter(|listed| self.settled.get(&listed.name) != Some(listed))
            .collect();
        if unsettled.is_empty() {
            return Ok(Vec::new());
        }
        let known = KnownSegments::of(&self.stored);
        let directory = self.listing.directory().to_owned();
        let mut found: Vec<FoundSegment> = Vec::new();
        let mut new = Vec::new();
        for listed in unsettled {
            let path = directory.join(&listed.name);
            let which = Which::of(&path, &listed);
            if let Some(seen) = known.very_file(&self.stored, &listed) {
                look.attempts.forget_failure(&which);
                self.pass_over(&path, listed, seen, look.after_processing);
            } else if look.attempts.passes_over(&which) {
                self.settled.insert(listed.name.clone(), listed);
            } else if !self
                .queue
                .iter()
                .any(|queued| queued.segment.listed == listed)
            {
                new.push((path, listed, which));
            }
        }
        let wants_care = new.iter().any(|(path, ..)| look.attempts.wants_care(path));
        if !new.is_empty() && !wants_care {
            look.attempts
                .begin(new.iter().map(|(.., which)| which.clone()).collect(), None)?;
        }
        for (path, listed, which) in new {
            if wants_care {
                look.attempts.begin(vec![which.clone()], None)?;
            }
            match patiently(|| self.examine(number, &path, &listed, &known, &mut found, look)) {
                Ok(Sorted::New(segment)) => found.push(segment),
                Ok(Sorted::Read(seen)) => {
                    look.attempts.forget_failure(&which);
                    self.pass_over(&path, listed, seen, look.after_processing);
                }
                Ok(Sorted::Waiting) | Err(InputError::Gone(_)) => {}
                Err(error) => {
                    look.trouble(&which, &path, error, None)?;
                    self.settled.insert(listed.name.clone(), listed);
                }
            }
        }
        Ok(found)
    }

    /// Decides on the use of a file.
    fn examine(
        &mut self,
        number: usize,
        path: &Path,
        listed: &Listed,
        known: &KnownSegments,
        found: &mut [FoundSegment],
        look: &mut Look<'_>,
    ) -> Result<Sorted<FoundSegment>, InputError> {
        let identity = identity(path, listed)?;
        let content = match self.sort_out(number, listed, identity, known, found)? {
            Sorted::New(content) => content,
            Sorted::Read(seen) => return Ok(Sorted::Read(seen)),
            Sorted::Waiting => return Ok(Sorted::Waiting),
        };
        let series = self.stored.series_of(&listed.name, identity, content);
        self.note_growth(path, listed, identity, &series)?;
        let which = Which::of(path, listed);
        let from = known
            .grown_from(&self.stored, path, listed)?
            .or_else(|| look.attempts.read_to(&which));
        let mut first_ns = Ok(None);
        let order = capture_order(&listed.name, || {
            first_ns = self.first_ns(path, listed, &which, look.scratch, look.attempts);
            *first_ns.as_ref().unwrap_or(&None)
        });
        first_ns?;
        let (path, listed) = (path.to_owned(), listed.clone());
        Ok(Sorted::New(FoundSegment {
            point: number,
            series,
            path,
            listed,
            identity,
            content,
            order,
            from,
        }))
    }

    /// Notes that a segment has grown since it was read in part.
    fn note_growth(
        &mut self,
        path: &Path,
        listed: &Listed,
        identity: Identity,
        series: &Series,
    ) -> io::Result<()> {
        if let Some(merging) = self.stored.series.get_mut(series)
            && let Some(begun) = merging.begun
            && is_longer(path, listed, begun.identity, Some(begun.content))?
        {
            merging.begun = Some(Begun {
                identity,
                content: content(path, listed.size)?,
                ..begun
            });
        }
        Ok(())
    }

    /// Decides on the use of a file: it may have been read, or wait to be read, under any name. For
    /// a file that is to be read, returns its content if that was needed for the decision.
    fn sort_out(
        &self,
        number: usize,
        listed: &Listed,
        identity: Identity,
        known: &KnownSegments,
        found: &mut [FoundSegment],
    ) -> io::Result<Sorted<Option<ContentHash>>> {
        let path = self.listing.directory().join(&listed.name);
        if !has_packets(listed) {
            return Ok(
                match known.likeness_by_name(&self.stored, listed, identity) {
                    Likeness::Itself(seen) | Likeness::Copy(seen) => Sorted::Read(seen),
                    Likeness::New | Likeness::Another(_) => Sorted::New(None),
                },
            );
        }
        let mut all = None;
        let mut of_it = || -> io::Result<ContentHash> {
            all.map_or_else(|| content(&path, listed.size), Ok)
                .inspect(|content| all = Some(*content))
        };
        match known.likeness(&self.stored, listed, identity, &mut of_it)? {
            Likeness::Itself(seen) | Likeness::Copy(seen) => return Ok(Sorted::Read(seen)),
            Likeness::Another(seen) => self.say_it_is_another(
                &path,
                self.stored.seen.get(seen).map(|seen| seen.name.to_path()),
            ),
            Likeness::New => {}
        }
        for queued in self
            .queue
            .iter()
            .filter(|queued| queued.segment.identity == identity)
        {
            // The same content under another name.
            if queued.segment.content == Some(of_it()?) {
                return Ok(Sorted::Waiting);
            }
        }
        for other in found.iter_mut().filter(|other| {
            other.point == number && other.identity == identity && has_packets(&other.listed)
        }) {
            let content = other
                .content
                .map_or_else(|| content(&other.path, identity.size), Ok)?;
            other.content = Some(content);
            if content == of_it()? {
                // The next look recognizes it, when the other one has been read.
                return Ok(Sorted::Waiting);
            }
            self.say_it_is_another(&path, Some(other.path.as_path()));
        }
        if self.stored.may_have_begun(identity) {
            of_it()?;
        }
        Ok(Sorted::New(all))
    }

    fn say_it_is_another(&self, path: &Path, other: Option<&Path>) {
        let other = other.unwrap_or(Path::new("")).display();
        tracing::warn!(
            "{} is as long as {other} and begins like it, but is another capture: it is read",
            path.display()
        );
    }

    /// Skips a file whose content was read before, under any name.
    fn pass_over(
        &mut self,
        path: &Path,
        listed: Listed,
        seen: usize,
        after_processing: &AfterProcessing,
    ) {
        let Some(before) = self.stored.seen.get_mut(seen) else {
            return;
        };
        let now = Seen {
            name: Name::of(&listed.name),
            file: listed.file_id(),
            ..before.clone()
        };
        let is_renamed = before.name != now.name;
        if is_renamed {
            let other = before.name.to_path().display();
            tracing::warn!(
                "{} is not read: it has the same content as {other}, which was processed",
                path.display()
            );
        }
        let is_to_go = now.is_read_to_its_end() && *after_processing != AfterProcessing::Keep;
        // With the new file identity, the next run need not compare the contents again.
        if before.file != now.file && !is_to_go {
            self.has_learned = true;
            if is_renamed {
                self.stored.seen.push(now.clone());
            } else {
                *before = now.clone();
            }
        }
        // A file that was no capture is not deleted or moved.
        if now.is_read_to_its_end() {
            self.apply(after_processing, path, &listed);
        }
        self.settled.insert(listed.name.clone(), listed);
    }

    fn first_ns(
        &mut self,
        path: &Path,
        listed: &Listed,
        which: &Which,
        scratch: &Scratch,
        attempts: &Attempts,
    ) -> Result<Option<u64>, InputError> {
        if let Some((_, first_ns)) = self
            .first_ns
            .get(&listed.name)
            .filter(|(then, _)| then == listed)
        {
            return Ok(*first_ns);
        }
        let first_ns = match first_time(path, scratch, attempts.has_faulted(which)) {
            Ok(first_ns) => first_ns,
            // Opening it later reports the error.
            Err(InputError::NotACapture(_) | InputError::UnsupportedLink(_)) => None,
            Err(error) => return Err(error),
        };
        self.first_ns
            .insert(listed.name.clone(), (listed.clone(), first_ns));
        Ok(first_ns)
    }

    /// Marks, deletes or moves a segment that was read to its end, after that is durable.
    pub(super) fn settle(&mut self, after_processing: &AfterProcessing, segment: FoundSegment) {
        let FoundSegment { path, listed, .. } = segment;
        if !self.apply(after_processing, &path, &listed) {
            self.settled.insert(listed.name.clone(), listed);
        }
    }

    /// Marks, deletes or moves a segment. Returns true if it has grown, so that there is more to
    /// read.
    fn apply(&mut self, what: &AfterProcessing, path: &Path, listed: &Listed) -> bool {
        match what.apply(path, listed) {
            Ok(applied) => applied == Applied::Grown,
            Err(error) if std::mem::replace(&mut self.has_complained, true) => {
                tracing::debug!("{error}");
                false
            }
            Err(error) => {
                tracing::warn!("{error}; further segments are not reported");
                false
            }
        }
    }

    /// True when this segment was read in part.
    pub(super) fn has_begun(&self, segment: &FoundSegment) -> bool {
        self.stored
            .has_begun(&segment.series, segment.identity, segment.content)
    }

    /// The waiting segments of a series.
    pub(super) fn queued(&self, series: &Series) -> impl Iterator<Item = &Queued> {
        self.queue
            .iter()
            .filter(move |queued| queued.segment.series == *series)
    }

    /// Adds a segment to the queue; one that was begun comes first.
    pub(super) fn enqueue(&mut self, queued: Queued) {
        let begun = self
            .queue
            .iter()
            .take_while(|queued| self.has_begun(&queued.segment))
            .count();
        let rest = self.queue.get(begun..).unwrap_or_default();
        let behind = rest.partition_point(|before| before.segment.order < queued.segment.order);
        let index = if self.has_begun(&queued.segment) {
            0
        } else {
            begun.saturating_add(behind)
        };
        self.queue.insert(index, queued);
    }

    /// Removes the first `count` segments of a series from the queue.
    pub(super) fn take_finished(&mut self, series: &Series, count: usize) -> Vec<Queued> {
        let mut left = count;
        let is_finished = |queued: &mut Queued| {
            let is_it = left > 0 && queued.segment.series == *series;
            left = left.saturating_sub(usize::from(is_it));
            is_it
        };
        self.queue.extract_if(.., is_finished).collect()
    }

    /// Determines how far the waiting segments deliver, each after those before it.
    pub(super) fn note_deliveries(&mut self, is_final: bool, unit_len: u64) {
        let is_decided =
            |series: &&Series| is_final || self.is_silent || self.is_full(series, unit_len);
        let series = self.stored.series.keys();
        let decided: BTreeSet<Series> = series.filter(is_decided).cloned().collect();
        let Self { queue, stored, .. } = self;
        for (series, merging) in &stored.series {
            let told = decided.contains(series).then_some(Later::END);
            let of_series = |queued: &&Queued| queued.segment.series == *series;
            let queued = queue.iter().filter(of_series);
            let (inputs, known): (Vec<&Input>, Vec<_>) = queued
                .map(|queued| (&queued.input, queued.delivery))
                .unzip();
            let offset = merging.begun.map_or(0, |begun| begun.offset);
            let told = Delivery::of_all(&inputs, &known, offset, merging.timeline, told);
            let queued = queue.iter_mut().filter(|queued| of_series(&&**queued));
            queued
                .zip(told)
                .for_each(|(queued, delivery)| queued.delivery = delivery);
        }
    }

    /// The packet time up to which a series has delivered. The name of a segment without packets
    /// shows that none came before.
    pub(super) fn delivered(&self, series: &Series) -> Option<Clock> {
        let merged = self
            .stored
            .series
            .get(series)
            .and_then(|merging| merging.timeline.clock());
        let deliveries = self.queued(series).filter_map(|queued| queued.delivery);
        let queued = deliveries.map(|delivery| delivery.clock()).max();
        let named = self
            .queued(series)
            .filter_map(|queued| queued.segment.named_ns())
            .max();
        merged.max(queued.flatten()).max(named)
    }

    /// The packet time that segments which were closed a while ago have reached.
    pub(super) fn at_rest(&self, now: SystemTime) -> Option<Clock> {
        let is_at_rest = |queued: &&Queued| {
            now.duration_since(queued.segment.listed.modified)
                .is_ok_and(|rest| rest >= ON_ITS_WAY)
        };
        let queued = self
            .queue
            .iter()
            .filter(is_at_rest)
            .filter_map(|queued| queued.delivery);
        let merged = self
            .stored
            .series
            .values()
            .filter_map(|merging| merging.timeline.clock());
        queued
            .filter_map(|delivery| delivery.clock())
            .chain(merged)
            .max()
    }

    /// Reads the first record of part files that are at least `least_age` old.
    pub(super) fn look_at_parts(&mut self, now: SystemTime, least_age: Duration) {
        let directory = self.listing.directory();
        let parts = self.listing.being_written().values();
        let begins = |name: &String| {
            let known = self.parts_begin.get(name).copied();
            known.or_else(|| part_begins(&directory.join(name), now, least_age))
        };
        self.parts_begin = parts
            .filter_map(|part| Some((part.name.clone(), begins(&part.name)?)))
            .collect();
    }

    /// The beginning of the part file of a series, if all earlier segments are in the queue.
    pub(super) fn next_begins(&self, series: &Series) -> Option<Clock> {
        let part = self.listing.being_written().get(series)?;
        let begins = self.parts_begin.get(&part.name).copied();
        begins.filter(|_| !self.crowded.contains(series))
    }

    pub(super) fn note_silence(&mut self, is_silent: bool) {
        let directory = self.listing.directory().display();
        match (std::mem::replace(&mut self.is_silent, is_silent), is_silent) {
            (false, true) => {
                tracing::warn!(
                    "nothing has come to {directory} for longer than --source-timeout; the other directories do not wait for it any more"
                );
            }
            (true, false) => tracing::info!("{directory} delivers again; the others wait for it"),
            _ => {}
        }
    }
}
