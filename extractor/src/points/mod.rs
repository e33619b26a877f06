//! Capture points: which segment of which directory is read next, and what is done with it
//! afterwards.
//!
//! ```text
//! mod.rs      the next unit of work, and its end
//! merging.rs  several points, or several series of one point, in one order
//! point.rs    one directory: its files, and which of them are to be read
//! segment.rs  a segment that is to be read, or waits to be merged
//! stored.rs   the part of the state for all this
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the wall clock, for capture points that have been silent"
)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};

pub use self::stored::StoredPoints;
use self::{
    merging::Lane,
    point::Point,
    segment::FoundSegment,
    stored::{Seen, Stored},
};
use crate::{
    attempts::{Attempts, Blame, Verdict, Which},
    config::Directories,
    moment::Clock,
    report::Report,
    segments::{
        AfterProcessing, FileId, Identity, Listed, Series, capture_order, identity, whole_path,
    },
    source::{
        Input, InputError, Name, NamedInput, RecentPackets, Scratch, merge::Watermark, patiently,
    },
    timeline::{Later, Timeline},
    unit::{Done, Unit},
    watch::Silence,
};

mod merging;
mod point;
mod segment;
mod stored;

/// The most segments that are open at a time: each is a map, and a process may have only so many.
const MAX_OPEN: usize = 4096;

/// The time after which a captured packet is in a part file, unless the agent's disk hangs.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// The tools for looking into a directory.
struct Look<'l> {
    scratch: &'l Scratch,
    attempts: &'l mut Attempts,
    after_processing: &'l AfterProcessing,
}

impl Look<'_> {
    fn trouble(
        &mut self,
        which: &Which,
        path: &Path,
        error: InputError,
        from: Option<usize>,
    ) -> Result<()> {
        trouble(self.attempts, which, path, error, from)
    }
}

/// Sets a segment aside that cannot be read; it had been read up to `from` before.
///
/// # Errors
/// The segment must be tried again before anything after it is read.
fn trouble(
    attempts: &mut Attempts,
    which: &Which,
    path: &Path,
    error: InputError,
    from: Option<usize>,
) -> Result<()> {
    let blame = match &error {
        InputError::Environment(_) => {
            return Err(anyhow!(error))
                .with_context(|| format!("{} cannot be read now", path.display()));
        }
        InputError::TooLarge(_) => Blame::Certain,
        _ => Blame::Likely,
    };
    match attempts.fail(which, &error.to_string(), blame, from)? {
        Verdict::SetAside => Ok(()),
        Verdict::TryAgain => {
            bail!(
                "{} cannot be read: {error}; it is tried again by the next run, and set aside if it fails again",
                path.display()
            )
        }
    }
}

/// A merge that wrote all: up to this watermark, with these times told behind the series, of these
/// queued segments.
type Exhausted = (Watermark, Vec<Option<Later>>, Vec<Vec<Identity>>);

/// The capture points of a run.
#[derive(Debug)]
pub struct Points<'c> {
    config: &'c Directories,
    scratch: Scratch,
    attempts: Attempts,
    unit_len: u64,
    linger: Duration,
    points: Vec<Point>,
    /// The state of directories that this run does not use.
    others: Vec<Stored>,
    /// The latest packets, whose copies are left out.
    recent: RecentPackets,
    silence: Silence,
    /// The packet time that the last quiet unit has reached.
    reached_ns: Option<Clock>,
    /// The queued segments from which nothing was left up to this watermark: another look would
    /// find nothing more.
    exhausted: Option<Exhausted>,
    /// The segments of the current unit, in its order.
    working: Vec<FoundSegment>,
    /// The segments that were read to their end, until that is durable.
    done: Vec<FoundSegment>,
}

impl<'c> Points<'c> {
    /// The capture points of a run, with their part of the state. Merged captures go to temporary
    /// files in `scratch`; a unit of work has about `unit_len` bytes. Part files are read for packet
    /// time only if their first record is older than `linger`: younger files need not be.
    #[must_use]
    pub fn new(
        config: &'c Directories,
        scratch: Scratch,
        attempts: Attempts,
        unit_len: u64,
        linger: Duration,
        stored: StoredPoints,
    ) -> Self {
        let StoredPoints {
            points: mut known,
            recent,
        } = stored;
        let points: Vec<Point> = config
            .paths
            .iter()
            .map(|path| Point::new(path, take(&mut known, &whole_path(path))))
            .collect();
        for other in known.iter().filter(|other| other.is_begun()) {
            let directory = other.directory.to_path().display();
            tracing::warn!(
                "a segment of {directory} was not read to its end, and this run does not use the directory"
            );
        }
        let silence = Silence::new(points.len(), config.timeout, Instant::now());
        let (working, done) = (Vec::new(), Vec::new());
        Self {
            config,
            scratch,
            attempts,
            unit_len,
            linger,
            points,
            others: known,
            recent,
            silence,
            reached_ns: None,
            exhausted: None,
            working,
            done,
        }
    }

    /// The part of the state: the directories of this run first, in their order.
    #[must_use]
    pub fn stored(&self) -> StoredPoints {
        let points = self
            .points
            .iter()
            .map(|point| &point.stored)
            .chain(&self.others)
            .cloned()
            .collect();
        StoredPoints {
            points,
            recent: self.recent.clone(),
        }
    }

    /// Begins packet time anew: the next unit has nothing to do with earlier ones.
    pub fn begin_anew(&mut self) {
        let of_run = self.points.iter_mut().map(|point| &mut point.stored);
        let series = of_run
            .chain(&mut self.others)
            .flat_map(|stored| stored.series.values_mut());
        series.for_each(|merging| merging.timeline = Timeline::default());
        self.recent = RecentPackets::default();
    }

    /// The unit that an earlier process has not read to its end, and whether its first segment is
    /// there.
    ///
    /// # Errors
    /// A segment cannot be read now.
    pub fn left(
        &mut self,
        left: &[NamedInput],
        mut offset: Option<usize>,
        report: &mut Report,
    ) -> Result<(Unit, bool)> {
        let mut unit = Unit::default();
        let mut is_first_there = true;
        self.working.clear();
        let which = |left: &NamedInput| {
            let path = left.path.to_path();
            Listed::at(path).map_or_else(|_| Which::at(path), |listed| Which::of(path, &listed))
        };
        // If a segment must be read by itself, those after it are found again later.
        let wants_care = left
            .iter()
            .any(|left| self.attempts.wants_care(left.path.to_path()));
        let left = left.get(..1).filter(|_| wants_care).unwrap_or(left);
        self.attempts
            .begin(left.iter().map(which).collect(), None)?;
        for left in left {
            let from = offset.take();
            let path = left.path.to_path().to_owned();
            let name = path.file_name().unwrap_or_default().to_owned();
            let which = which(left);
            if self.attempts.passes_over(&which) {
                is_first_there &= from.is_none();
                continue;
            }
            let has_faulted = self.attempts.has_faulted(&which);
            match patiently(|| self.open_left(left, has_faulted)) {
                Ok((listed, input)) => {
                    let point = self
                        .points
                        .iter()
                        .position(|point| Some(point.listing.directory()) == path.parent());
                    let order = capture_order(&name, || input.first_ns());
                    let (point, series) = (point.unwrap_or(usize::MAX), Series::named(&name));
                    let segment = FoundSegment {
                        point,
                        series,
                        path,
                        listed,
                        identity: left.identity,
                        content: None,
                        order,
                        from,
                    };
                    unit.push(input.going_on_at(from), left.clone());
                    self.working.push(segment);
                }
                Err(
                    error @ (InputError::Gone(_)
                    | InputError::NotACapture(_)
                    | InputError::UnsupportedLink(_)),
                ) => {
                    is_first_there &= from.is_none();
                    // If the segment comes back, it is not begun again.
                    if let (Some(stored), Some(read_to)) = (self.stored_of(path.parent()), from) {
                        let (name, file) = (Name::of(&name), FileId::default());
                        stored.seen.push(Seen {
                            name,
                            identity: left.identity,
                            content: None,
                            file,
                            read_to,
                        });
                    }
                    report.refused_inputs = report.refused_inputs.saturating_add(1);
                    tracing::error!(
                        "{} was not read to its end, and the rest of it is lost: {error}",
                        path.display()
                    );
                }
                Err(error) => {
                    trouble(&mut self.attempts, &which, &path, error, from)?;
                    is_first_there &= from.is_none();
                }
            }
        }
        Ok((unit, is_first_there))
    }

    fn open_left(
        &self,
        left: &NamedInput,
        has_faulted: bool,
    ) -> Result<(Listed, Input), InputError> {
        let path = left.path.to_path();
        let listed = Listed::at(path)?;
        let as_it_was = Listed {
            size: left.identity.size,
            ..listed.clone()
        };
        if identity(path, &as_it_was)? != left.identity {
            return Err(InputError::NotACapture("it is another file now".to_owned()));
        }
        Ok((
            listed,
            Input::of_segment(path, &self.scratch, left.identity.size, has_faulted)?,
        ))
    }

    fn stored_of(&mut self, directory: Option<&Path>) -> Option<&mut Stored> {
        let mut all = self
            .points
            .iter_mut()
            .map(|point| &mut point.stored)
            .chain(&mut self.others);
        all.find(|stored| Some(stored.directory.to_path()) == directory)
    }

    /// The next unit of work, if there is one. With `looks_closely`, every file is examined;
    /// otherwise only those that may have changed.
    ///
    /// # Errors
    /// A directory or a segment cannot be read, or the merged capture cannot be written.
    pub fn next_unit(&mut self, report: &mut Report, looks_closely: bool) -> Result<Option<Unit>> {
        let unit = self.find_unit(report, looks_closely)?;
        if unit.is_none() {
            self.attempts.tidy()?;
        }
        report.set_aside = report.set_aside.max(self.attempts.passed_over());
        Ok(unit)
    }

    fn find_unit(&mut self, report: &mut Report, looks_closely: bool) -> Result<Option<Unit>> {
        let mut found = self.look(looks_closely)?;
        // If a segment was begun by merging, merging continues.
        let is_begun = self.points.iter().any(|point| point.stored.is_begun());
        if self.config.paths.len() > 1
            || self.config.leaves_out_copies
            || is_begun
            || self.has_several_series(&found)
        {
            return self.merged(found, report);
        }
        let mut unit = Unit {
            has_whole_segments: true,
            ..Unit::default()
        };
        self.working.clear();
        while self.working.is_empty() && !found.is_empty() {
            let next: Vec<FoundSegment> = found.drain(..self.fitting(&found)).collect();
            self.attempts.begin(
                next.iter()
                    .map(|segment| Which::of(&segment.path, &segment.listed))
                    .collect(),
                None,
            )?;
            self.open_some(next, &mut unit, report)?;
        }
        Ok((!self.working.is_empty()).then_some(unit))
    }

    /// A unit without segments, if there is no other. The part files of all series that are waited
    /// for show that the capture has come further, and all earlier packets have been read.
    pub fn quiet_unit(&mut self) -> Option<Unit> {
        let mut points = self.points.iter();
        if self.exhausted.is_none() && points.any(|point| !point.queue.is_empty()) {
            return None;
        }
        let lanes = self.lanes();
        let of_lane = |lane: &Lane| {
            let point = self.points.get(lane.point);
            let waited_for = point.filter(|point| !point.is_silent)?;
            Some(waited_for.next_begins(&lane.series))
        };
        let reached_ns = lanes.iter().filter_map(of_lane).min()?;
        if reached_ns <= self.reached_ns {
            return None;
        }
        self.reached_ns = reached_ns;
        self.working.clear();
        Some(Unit {
            reached_ns,
            ..Unit::default()
        })
    }

    /// The number of these segments that a unit takes.
    fn fitting(&self, found: &[FoundSegment]) -> usize {
        let mut len: u64 = 0;
        let fit = found.iter().take(MAX_OPEN).take_while(|segment| {
            let is_first = len == 0;
            len = len.saturating_add(segment.listed.size.max(1));
            is_first || (len <= self.unit_len && !self.attempts.wants_care(&segment.path))
        });
        let fitting = fit.count().max(1);
        let is_alone = found
            .first()
            .is_some_and(|first| self.attempts.wants_care(&first.path));
        if is_alone { 1 } else { fitting }
    }

    /// Opens segments of a unit, as long as the unit has room.
    fn open_some(
        &mut self,
        segments: Vec<FoundSegment>,
        unit: &mut Unit,
        report: &mut Report,
    ) -> Result<()> {
        let mut len: u64 = 0;
        for segment in segments {
            if len > 0 && len.saturating_add(segment.listed.size) > self.unit_len {
                break;
            }
            let input = match self.open(&segment, report) {
                // The segments before it are read first.
                Err(_) if !self.working.is_empty() => break,
                opened => opened?,
            };
            let Some(input) = input else { continue };
            unit.has_whole_segments &= segment.from.is_none();
            // Decompressed, it may be many times larger.
            len = len.saturating_add(input.bytes().len() as u64);
            unit.push(
                input,
                NamedInput {
                    path: Name::of(&segment.path),
                    identity: segment.identity,
                },
            );
            self.working.push(segment);
        }
        Ok(())
    }

    /// Notes that a part of the unit is durable.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note_progress(&mut self) -> Result<()> {
        self.attempts.progress()
    }

    /// Notes that the unit was given up, through no fault of its segments.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn put_down(&mut self) -> Result<()> {
        self.attempts.put_down()
    }

    /// Notes that an input of the unit was read to its end.
    pub fn note(
        &mut self,
        Done {
            index,
            read_to,
            content,
        }: Done,
    ) {
        let Some(segment) = self.working.get(index).cloned() else {
            return;
        };
        let segment = FoundSegment { content, ..segment };
        // The directory may be one that this run does not use.
        if let Some(stored) = self.stored_of(segment.path.parent()) {
            stored.remember(&segment, read_to);
        }
        self.done.push(segment);
    }

    /// Notes that the unit of work is durable, and marks, deletes or moves the segments that were
    /// read to their end. Returns their number and their bytes.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn settle(&mut self) -> Result<(u64, u64)> {
        self.attempts.succeed()?;
        let done = std::mem::take(&mut self.done);
        let sizes = (
            done.len() as u64,
            done.iter().fold(0, |sum: u64, segment| {
                sum.saturating_add(segment.listed.size)
            }),
        );
        for segment in done {
            if let Some(point) = self.points.get_mut(segment.point) {
                point.settle(&self.config.after_processing, segment);
            }
        }
        Ok(sizes)
    }

    /// The segments that were read to their end and are not settled yet.
    #[must_use]
    pub fn done(&self) -> Vec<PathBuf> {
        self.done
            .iter()
            .map(|segment| segment.path.clone())
            .collect()
    }

    /// True when something must be saved although no segment was read; then resets that.
    pub fn take_changes(&mut self) -> bool {
        self.points
            .iter_mut()
            .filter_map(|point| std::mem::take(&mut point.has_learned).then_some(()))
            .count()
            > 0
    }

    /// The segments in the directories that have not been read yet, in capture order.
    fn look(&mut self, looks_closely: bool) -> Result<Vec<FoundSegment>> {
        let mut found = Vec::new();
        let (scratch, attempts, after_processing) = (
            &self.scratch,
            &mut self.attempts,
            &self.config.after_processing,
        );
        let mut look = Look {
            scratch,
            attempts,
            after_processing,
        };
        for (number, point) in self.points.iter_mut().enumerate() {
            match point.list(looks_closely) {
                Ok(listed) => {
                    point.is_missing = false;
                    if let Some(listed) = listed {
                        found.extend(point.new_segments(number, listed, &mut look)?);
                    }
                }
                Err(error) if self.config.stays => {
                    if !std::mem::replace(&mut point.is_missing, true) {
                        tracing::warn!("{error}; the run waits for it");
                    }
                }
                Err(error) => return Err(error.into()),
            }
            if self.config.stays {
                point.look_at_parts(SystemTime::now(), self.linger);
            }
        }
        found.sort_by(|a, b| a.order.cmp(&b.order));
        Ok(found)
    }

    /// Opens a segment. A file that is no capture is remembered, so that it is not tried again; one
    /// that cannot be read is set aside when it has failed twice.
    ///
    /// # Errors
    /// The segment is not at fault, or must be tried again.
    fn open(&mut self, segment: &FoundSegment, report: &mut Report) -> Result<Option<Input>> {
        let Some(point) = self.points.get_mut(segment.point) else {
            return Ok(None);
        };
        let which = Which::of(&segment.path, &segment.listed);
        let has_faulted = self.attempts.has_faulted(&which);
        let opened = patiently(|| {
            Input::of_segment(
                &segment.path,
                &self.scratch,
                segment.identity.size,
                has_faulted,
            )
        });
        match opened {
            Ok(input) => {
                point
                    .stored
                    .series
                    .entry(segment.series.clone())
                    .or_default();
                if segment.order.start_ns < point.stored.latest_ns && segment.from.is_none() {
                    tracing::warn!(
                        "{} is late: it begins before segments that were processed; its packets get the present packet time",
                        segment.path.display()
                    );
                }
                return Ok(Some(input.going_on_at(segment.from)));
            }
            Err(InputError::Gone(_)) => return Ok(None),
            Err(error @ (InputError::NotACapture(_) | InputError::UnsupportedLink(_))) => {
                point.stored.remember(segment, 0);
                report.refused_inputs = report.refused_inputs.saturating_add(1);
                tracing::error!("{} is not used: {error}", segment.path.display());
            }
            Err(error) => {
                let begun =
                    point
                        .stored
                        .read_in_part(&segment.series, segment.identity, segment.content);
                trouble(
                    &mut self.attempts,
                    &which,
                    &segment.path,
                    error,
                    segment.from.or(begun),
                )?;
                point
                    .stored
                    .give_up_begun(&segment.series, segment.identity, segment.content);
            }
        }
        point
            .settled
            .insert(segment.listed.name.clone(), segment.listed.clone());
        Ok(None)
    }

    /// The number of segments that wait, and the series that they wait for.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        let waiting: usize = self.points.iter().map(|point| point.queue.len()).sum();
        let (lanes, now) = (self.lanes(), SystemTime::now());
        let least: &Lane = lanes.iter().min_by_key(|lane| self.delivered(lane, now))?;
        let point = self.points.get(least.point)?;
        let directory = point.listing.directory().display();
        let of_series = match point.stored.series.len() {
            ..2 => String::new(),
            // Five seconds are not worth a message.
            _ => format!(
                " ({})",
                self.being_written(least, now).map(|_| &least.series)?
            ),
        };
        (waiting > 0)
            .then(|| format!("{waiting} segments wait for {directory}{of_series} to deliver"))
    }
}

/// Removes the state of a directory from `known`.
fn take(known: &mut Vec<Stored>, directory: &Path) -> Option<Stored> {
    let index = known
        .iter()
        .position(|stored| stored.directory.to_path() == directory)?;
    Some(known.remove(index))
}
