//! Capture points: which segments of which directory are to be read next, and what becomes of them.
#![allow(clippy::disallowed_methods, reason = "a door: the wall clock, for capture points that have been silent")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use shared::pcap::FILE_HEADER_LEN;

use crate::{
    moment::Clock,
    report::Report,
    segments::{
        AfterProcessing, Applied, Identity, Listed, Listing, Order, Series, capture_order, identity, is_named, whole_path,
    },
    session::{Done, Unit},
    source::{
        Input, RecentPackets, SpoolError, first_time,
        merge::{self, Delivery, Merge, Watermark},
        temporary_file,
    },
    state::{Left, Merging, Name, Point, Seen},
    watch::Silence,
};

/// Input directories, and what to do with what is in them.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Where they are: one for each capture point.
    pub paths: Vec<PathBuf>,
    /// Whether to stay and wait for segments.
    pub stays: bool,
    /// Whether what is open at the end is closed.
    pub closes_all: bool,
    /// What becomes of segments that are done with.
    pub after_processing: AfterProcessing,
    /// Whether copies of packets are left out.
    pub leaves_out_copies: bool,
    /// How long a capture point may be silent before it holds the others back no more.
    pub timeout: Duration,
}

/// No more segments than this are open at a time: each is a map, and a process may not have many.
const MAX_OPEN: usize = 4096;

/// A segment of this length has no packets, and looks like any other that has none.
const NO_PACKETS: u64 = FILE_HEADER_LEN as u64;

/// A packet that was captured is in a part file after so long, at the latest, unless it waits for a disk that hangs.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// A series that is gone for an hour of packet time needs no watching.
const LONG_GONE_NS: u64 = 3_600_000_000_000;

/// Of segments that are gone, so many are remembered, to know them if they are delivered again.
const MAX_REMEMBERED: usize = 4096;

/// The capture points of a run.
#[derive(Debug)]
pub struct Points<'c> {
    config: &'c Directories,
    spool: &'c Path,
    unit_len: u64,
    points: Vec<Watched>,
    silence: Silence,
    /// What was queued when there was nothing left of it up to a watermark: another look would find nothing else.
    exhausted: Option<(Watermark, Vec<Vec<Identity>>)>,
    /// Segments of the unit that is worked on, in its order.
    working: Vec<Segment>,
    /// Segments that were read to their end, until that is durable.
    done: Vec<Segment>,
}

/// One of them.
#[derive(Debug)]
struct Watched {
    listing: Listing,
    /// Files that need not be looked at again as long as they are like this.
    settled: BTreeMap<OsString, Listed>,
    /// When the first packet of files whose name does not tell it was captured.
    first_ns: BTreeMap<OsString, (Listed, Option<u64>)>,
    /// Segments that are open, where several points are merged.
    queue: Vec<Queued>,
    /// The series of which there are more.
    crowded: BTreeSet<Series>,
    is_missing: bool,
    /// Whether it has been silent for so long that the others are not held back for it any more.
    is_silent: bool,
    /// Whether the log says already that segments cannot be marked, deleted or moved.
    has_complained: bool,
}

/// A segment that is to be read.
#[derive(Clone, Debug)]
struct Segment {
    point: usize,
    series: Series,
    path: PathBuf,
    listed: Listed,
    identity: Identity,
    order: Order,
    /// Where to begin, in bytes: it was read up to there when it was shorter.
    from: Option<usize>,
}

#[derive(Debug)]
struct Queued {
    segment: Segment,
    input: Input,
    delivery: Option<Delivery>,
}

impl<'c> Points<'c> {
    /// Those of a run. What is put together goes to temporary files in `spool`; a unit of work has about `unit_len` bytes.
    #[must_use]
    pub fn new(config: &'c Directories, spool: &'c Path, unit_len: u64) -> Self {
        let watched = |path: &PathBuf| Watched {
            listing: Listing::of(whole_path(path)),
            settled: BTreeMap::new(),
            first_ns: BTreeMap::new(),
            queue: Vec::new(),
            crowded: BTreeSet::new(),
            is_missing: false,
            is_silent: false,
            has_complained: false,
        };
        let points: Vec<Watched> = config.paths.iter().map(watched).collect();
        let silence = Silence::new(points.len(), config.timeout, Instant::now());
        Self { config, spool, unit_len, points, silence, exhausted: None, working: Vec::new(), done: Vec::new() }
    }

    /// Puts what the state knows of the directories in the order of this run's; what it knows of others is kept behind.
    pub fn adopt(&self, known: &mut Vec<Point>) {
        let mut adopted = Vec::new();
        for path in &self.config.paths {
            let directory = Name::of(whole_path(path));
            let place = known.iter().position(|point| point.directory == directory);
            let fresh = || Point { directory: directory.clone(), ..Point::default() };
            adopted.push(place.map_or_else(fresh, |place| known.remove(place)));
        }
        for point in known.iter().filter(|point| point.is_begun()) {
            let directory = point.directory.to_path().display();
            tracing::warn!("a segment of {directory} is not read to its end, and the directory is not given any more");
        }
        adopted.append(known);
        *known = adopted;
    }

    /// What an earlier process has not read to its end, and whether the first of it is there.
    ///
    /// # Errors
    /// It cannot be read now.
    pub fn left(
        &mut self,
        left: &[Left],
        mut offset: Option<usize>,
        known: &mut [Point],
        report: &mut Report,
    ) -> Result<(Unit, bool)> {
        let mut unit = Unit::default();
        let mut is_first_there = true;
        self.working.clear();
        for left in left {
            let from = offset.take();
            let path = left.path.to_path().to_owned();
            let name = path.file_name().unwrap_or_default().to_owned();
            let point = known.iter().position(|point| Some(point.directory.to_path()) == path.parent()).unwrap_or(usize::MAX);
            let opened = Listed::at(&path).and_then(|listed| {
                let as_it_was = Listed { size: left.identity.size, ..listed.clone() };
                Ok((identity(&path, &as_it_was)? == left.identity).then_some(listed))
            });
            let input = match opened {
                Ok(Some(listed)) => Input::open(&path, self.spool).map(|input| (listed, input)),
                Ok(None) => Err(anyhow::anyhow!("it is another file now")),
                Err(error) => Err(error.into()),
            };
            match input {
                Ok((listed, input)) => {
                    let order = capture_order(&name, || input.first_ns());
                    let segment =
                        Segment { point, series: Series::named(&name), path, listed, identity: left.identity, order, from };
                    unit.push(input.going_on_at(from), left.clone());
                    self.working.push(segment);
                }
                Err(error) if !is_its_fault(&error) => {
                    return Err(error).with_context(|| format!("{} cannot be read on now", path.display()));
                }
                Err(error) => {
                    is_first_there &= from.is_none();
                    // If it comes back, it is not begun again.
                    if let (Some(point), Some(read_to)) = (known.get_mut(point), from) {
                        point.seen.push(Seen { name: Name::of(&name), identity: left.identity, read_to });
                    }
                    report.refused_inputs = report.refused_inputs.saturating_add(1);
                    tracing::error!("{} was not read to its end, and what is left of it is lost: {error:#}", path.display());
                }
            }
        }
        Ok((unit, is_first_there))
    }

    /// The next unit of work, if there is one. With `looks_closely` every file is looked at, else only what may have changed.
    ///
    /// # Errors
    /// A directory cannot be read, or what is merged cannot be written.
    pub fn next_unit(
        &mut self,
        known: &mut [Point],
        recent: &mut RecentPackets,
        report: &mut Report,
        looks_closely: bool,
    ) -> Result<Option<Unit>> {
        let found = self.look(known, report, looks_closely)?;
        // A segment that was begun by merging is ended by merging.
        let is_begun = known.iter().take(self.points.len()).any(Point::is_begun);
        let are_several =
            self.config.paths.len() > 1 || has_several_series(known.get(..self.points.len()).unwrap_or_default(), &found);
        if are_several || self.config.leaves_out_copies || is_begun {
            return self.merged(found, known, recent, report);
        }
        let mut unit = Unit::default();
        self.working.clear();
        let mut len: u64 = 0;
        for segment in found {
            if (len > 0 && len.saturating_add(segment.listed.size) > self.unit_len) || self.working.len() >= MAX_OPEN {
                break;
            }
            let input = match self.open(&segment, known, report) {
                // First what comes before.
                Err(_) if !self.working.is_empty() => break,
                opened => opened?,
            };
            let Some(input) = input else { continue };
            // Decompressed, it may be many times as much.
            len = len.saturating_add(input.bytes().len() as u64);
            unit.push(input, Left { path: Name::of(&segment.path), identity: segment.identity });
            self.working.push(segment);
        }
        Ok((!self.working.is_empty()).then_some(unit))
    }

    /// An input of the unit was read to its end.
    pub fn note(&mut self, known: &mut [Point], Done { place, read_to }: Done) {
        let Some(segment) = self.working.get(place) else { return };
        remember(known, segment, read_to);
        self.done.push(segment.clone());
    }

    /// The unit of work is durable: segments that were read to their end go where the user wants them. Gives how many there
    /// are, and their bytes.
    pub fn settle(&mut self) -> (u64, u64) {
        let done = std::mem::take(&mut self.done);
        let sizes = (done.len() as u64, done.iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.listed.size)));
        for Segment { point, path, listed, .. } in done {
            if let Some(watched) = self.points.get_mut(point)
                && !apply(&self.config.after_processing, &path, &listed, &mut watched.has_complained)
            {
                watched.settled.insert(listed.name.clone(), listed);
            }
        }
        sizes
    }

    /// What is in the directories and was not read yet, in capture order.
    fn look(&mut self, known: &mut [Point], report: &mut Report, looks_closely: bool) -> Result<Vec<Segment>> {
        let mut found = Vec::new();
        for (number, (watched, point)) in self.points.iter_mut().zip(known).enumerate() {
            let refused = |path: &Path, error: &io::Error| tracing::warn!("{} cannot be looked at: {error}", path.display());
            let now = Instant::now();
            let listed = if looks_closely {
                watched.listing.all(now, refused).map(Some)
            } else {
                watched.listing.if_changed(now, refused)
            };
            match listed {
                Ok(listed) => {
                    watched.is_missing = false;
                    let Some(listed) = listed else { continue };
                    // What has grown while it waited is read as it is now.
                    let is_as_listed = |queued: &Queued| {
                        let now = listed.iter().find(|listed| listed.name == queued.segment.listed.name);
                        now.is_none_or(|now| *now == queued.segment.listed)
                    };
                    watched.queue.retain(is_as_listed);
                    point.note_series(&listed, watched.listing.being_written().keys());
                    let queued: Vec<Identity> = watched.queue.iter().map(|queued| queued.segment.identity).collect();
                    let segments = watched.sift(number, listed, point, self.spool, &self.config.after_processing, report)?;
                    found.extend(segments.into_iter().filter(|segment| !queued.contains(&segment.identity)));
                }
                Err(error) if self.config.stays => {
                    if !std::mem::replace(&mut watched.is_missing, true) {
                        tracing::warn!("{error}; it is waited for");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        found.sort_by(|a, b| a.order.cmp(&b.order));
        Ok(found)
    }

    /// Opens a segment. One that is no capture is remembered, so that it is not tried again and again.
    ///
    /// # Errors
    /// It is not the segment that is to blame.
    fn open(&mut self, segment: &Segment, known: &mut [Point], report: &mut Report) -> Result<Option<Input>> {
        let Some(point) = known.get_mut(segment.point) else { return Ok(None) };
        match Input::open(&segment.path, self.spool) {
            Ok(input) => {
                point.series.entry(segment.series.clone()).or_default();
                if segment.order.start_ns < point.latest_ns && segment.from.is_none() {
                    tracing::warn!(
                        "{} is late: it begins before segments that were processed; its packets are taken as they come",
                        segment.path.display()
                    );
                }
                Ok(Some(input.going_on_at(segment.from)))
            }
            Err(error) if !is_its_fault(&error) => {
                Err(error).with_context(|| format!("{} cannot be read now", segment.path.display()))
            }
            Err(error) => {
                let is_gone = error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
                if !is_gone {
                    report.refused_inputs = report.refused_inputs.saturating_add(1);
                    tracing::error!("{} is not used: {error:#}", segment.path.display());
                    if let Some(watched) = self.points.get_mut(segment.point) {
                        watched.settled.insert(segment.listed.name.clone(), segment.listed.clone());
                    }
                    if !error.chain().any(<dyn std::error::Error>::is::<io::Error>) {
                        remember(known, segment, 0);
                    }
                }
                Ok(None)
            }
        }
    }

    /// What of several points comes next, put together into one capture, up to where each of them has delivered.
    fn merged(
        &mut self,
        found: Vec<Segment>,
        known: &mut [Point],
        recent: &mut RecentPackets,
        report: &mut Report,
    ) -> Result<Option<Unit>> {
        self.queue(found, known, report)?;
        if self.points.iter().all(|watched| watched.queue.is_empty()) {
            return Ok(None);
        }
        let lanes = lanes(known, self.points.len());
        let Some(until) = self.watermark(known, &lanes) else { return Ok(None) };
        let all = (until, self.queued());
        if self.exhausted.as_ref() == Some(&all) {
            return Ok(None);
        }
        let inputs = lanes.iter().map(|lane| {
            let merging = lane.merging(known).unwrap_or_default();
            let place = merge::Place {
                finished: 0,
                offset: merging.begun.map_or(0, |(_, offset)| offset),
                clock: merging.clock.unwrap_or(0),
            };
            let queue = self.points.get(lane.point).into_iter().flat_map(|watched| watched.queued(&lane.series));
            (queue.map(|queued| &queued.input).collect(), place)
        });
        let mut merge = Merge::new(inputs);
        let file = temporary_file(self.spool)?;
        let mut out = BufWriter::with_capacity(256 * 1024, &file);
        let copies = self.config.leaves_out_copies.then_some(recent);
        let merged = merge
            .write(&mut out, until, self.unit_len, copies, |_, input, gap| report.note_gap(input.name(), &gap))
            .and_then(|merged| out.flush().map(|()| merged))
            .with_context(|| format!("what was captured at several points cannot be put together in {}", self.spool.display()))?;
        drop(out);
        report.copies = report.copies.saturating_add(merged.duplicates);
        let places: Vec<merge::Place> = merge.places().collect();
        let mut has_moved = merged.packets > 0 || merged.duplicates > 0;
        for (lane, place) in lanes.iter().zip(places) {
            let (Some(watched), Some(point)) = (self.points.get_mut(lane.point), known.get_mut(lane.point)) else { continue };
            let finished = watched.take_finished(&lane.series, place.finished);
            has_moved |= !finished.is_empty();
            let mut clock = Some(place.clock).filter(|clock| *clock > 0);
            for Queued { segment, input, .. } in finished {
                clock = clock.max(segment.named_ns());
                remember(std::slice::from_mut(point), &Segment { point: 0, ..segment.clone() }, input.bytes().len());
                self.done.push(segment);
            }
            let begun = watched.queued(&lane.series).next().filter(|_| place.offset > 0);
            if let Some(merging) = point.series.get_mut(&lane.series) {
                merging.begun = begun.map(|queued| (queued.segment.identity, place.offset));
                merging.clock = merging.clock.max(clock);
            }
        }
        self.exhausted = Some((until, self.queued())).filter(|_| merged.is_all);
        self.working.clear();
        let mut unit = Unit::default();
        if merged.packets > 0 {
            unit.inputs.push(Input::of_written("the capture points' packets".to_owned(), &file)?);
        }
        Ok(has_moved.then_some(unit))
    }

    /// What waits to be merged, point by point.
    fn queued(&self) -> Vec<Vec<Identity>> {
        self.points.iter().map(|watched| watched.queue.iter().map(|queued| queued.segment.identity).collect()).collect()
    }

    /// Opens segments that are to be merged. The one that was begun comes first.
    fn queue(&mut self, found: Vec<Segment>, known: &mut [Point], report: &mut Report) -> Result<()> {
        self.points.iter_mut().for_each(|watched| watched.crowded.clear());
        for segment in found {
            let number = segment.point;
            let Some((watched, point)) = self.points.get_mut(number).zip(known.get(number)) else { continue };
            if watched.is_full(&segment.series, point.series.len(), self.unit_len) {
                watched.crowded.insert(segment.series);
                continue;
            }
            let Some(input) = self.open(&segment, known, report)? else { continue };
            let delivery = Delivery::of(&input);
            self.silence.delivered(number, Instant::now());
            if let (Some(watched), Some(point)) = (self.points.get_mut(number), known.get(number)) {
                let begun = watched.queue.iter().take_while(|queued| point.has_begun(&queued.segment)).count();
                let rest = watched.queue.get(begun..).unwrap_or_default();
                let behind = rest.partition_point(|queued| queued.segment.order < segment.order);
                let place = if point.has_begun(&segment) { 0 } else { begun.saturating_add(behind) };
                watched.queue.insert(place, Queued { segment, input, delivery });
            }
        }
        for (watched, point) in self.points.iter().zip(known).filter(|(watched, _)| !watched.is_missing) {
            for (series, merging) in &mut point.series {
                let first = watched.queued(series).next().map(|queued| queued.segment.identity);
                if merging.begun.take_if(|(identity, _)| first != Some(*identity)).is_some() {
                    report.refused_inputs = report.refused_inputs.saturating_add(1);
                    let directory = watched.listing.directory().display();
                    tracing::error!("a segment of {directory} is gone before it was read to its end; what is left of it is lost");
                }
            }
        }
        Ok(())
    }

    /// The moment up to which all capture points have delivered that are waited for.
    fn watermark(&mut self, known: &[Point], lanes: &[Lane]) -> Option<Watermark> {
        if self.config.closes_all {
            return Some(Watermark::END);
        }
        let now = Instant::now();
        for (number, watched) in self.points.iter_mut().enumerate() {
            watched.note_silence(self.config.stays && self.silence.is_silent(number, now));
        }
        let since = SystemTime::now();
        let delivered = lanes.iter().map(|lane| {
            let watched = self.points.get(lane.point);
            (self.delivered(lane, known, since), watched.is_some_and(|watched| !watched.is_silent))
        });
        Watermark::of(delivered)
    }

    /// The packet time up to which a series has been delivered. Of several in a directory, what agents are writing there tells
    /// more: of one that is not being written, nothing is to come that belongs before what has been closed for a while.
    fn delivered(&self, lane: &Lane, known: &[Point], now: SystemTime) -> Option<Clock> {
        let (watched, point) = (self.points.get(lane.point)?, known.get(lane.point)?);
        let delivered = watched.delivered(&lane.series, point);
        if point.series.len() < 2 || watched.crowded.contains(&lane.series) {
            return delivered;
        }
        delivered.max(self.being_written(lane, now).or_else(|| watched.at_rest(point, now)))
    }

    /// Where the part file of a series begins that is waited for, in nanoseconds since 1970.
    fn being_written(&self, lane: &Lane, now: SystemTime) -> Option<u64> {
        let start_ns = *self.points.get(lane.point)?.listing.being_written().get(&lane.series)?;
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = since_1970.saturating_sub(Duration::from_nanos(start_ns));
        Some(start_ns).filter(|_| !self.config.stays || age < self.config.timeout)
    }

    /// Segments that wait for others: how many there are, and what for.
    #[must_use]
    pub fn waiting(&self, known: &[Point]) -> Option<String> {
        let waiting: usize = self.points.iter().map(|watched| watched.queue.len()).sum();
        let (lanes, now) = (lanes(known, self.points.len()), SystemTime::now());
        let least = lanes.iter().min_by_key(|lane| self.delivered(lane, known, now))?;
        let directory = self.points.get(least.point)?.listing.directory().display();
        let of_series = match known.get(least.point)?.series.len() {
            ..2 => String::new(),
            // Five seconds are nothing to speak of.
            _ => format!(" ({})", self.being_written(least, now).map(|_| &least.series)?),
        };
        (waiting > 0).then(|| format!("{waiting} segments wait for what {directory}{of_series} has still to deliver"))
    }
}

/// What is merged with others: a series of segments of a directory.
#[derive(Clone, Debug)]
struct Lane {
    point: usize,
    series: Series,
}

impl Lane {
    fn merging(&self, known: &[Point]) -> Option<Merging> {
        known.get(self.point)?.series.get(&self.series).copied()
    }
}

/// Whether one of the capture points has several series of segments, with those that were found.
fn has_several_series(known: &[Point], found: &[Segment]) -> bool {
    let of_point = |(number, point): (usize, &Point)| {
        let found = found.iter().filter(|segment| segment.point == number).map(|segment| &segment.series);
        point.series.keys().chain(found).collect::<BTreeSet<_>>().len()
    };
    known.iter().enumerate().map(of_point).any(|series| series > 1)
}

/// All of them, in the order in which packets of the same time are taken. A directory of which nothing is known has one, too: it
/// is waited for.
fn lanes(known: &[Point], points: usize) -> Vec<Lane> {
    let of_point = |(number, point): (usize, &Point)| {
        let series: Vec<Series> = point.series.keys().cloned().collect();
        let series = if series.is_empty() { vec![Series::default()] } else { series };
        series.into_iter().map(move |series| Lane { point: number, series })
    };
    known.iter().take(points).enumerate().flat_map(of_point).collect()
}

impl Point {
    fn is_begun(&self) -> bool {
        self.series.values().any(|merging| merging.begun.is_some())
    }

    /// Whether it is this segment that is read in part.
    fn has_begun(&self, segment: &Segment) -> bool {
        let begun = self.series.get(&segment.series).and_then(|merging| merging.begun);
        begun.is_some_and(|(identity, _)| identity == segment.identity)
    }

    /// The series of a capture: a segment that is read in part stays in its own, whatever it is called by now.
    fn series_of(&self, name: &OsStr, identity: Identity) -> Series {
        let is_it = |merging: &Merging| merging.begun.is_some_and(|(begun, _)| begun == identity);
        let begun = self.series.iter().find(|(_, merging)| is_it(merging)).map(|(series, _)| series.clone());
        begun.unwrap_or_else(|| Series::named(name))
    }

    /// Takes note of the series that are being written. One of which nothing is there any more is kept as long as its last packets
    /// may matter.
    fn note_series<'s>(&mut self, listed: &[Listed], being_written: impl Iterator<Item = &'s Series>) {
        let there: BTreeSet<Series> = listed.iter().map(|listed| Series::named(&listed.name)).collect();
        let latest = self.series.values().filter_map(|merging| merging.clock).max().unwrap_or(0);
        self.series.retain(|series, merging| {
            let is_old = merging.clock.is_none_or(|clock| clock.saturating_add(LONG_GONE_NS) < latest);
            there.contains(series) || merging.begun.is_some() || !is_old
        });
        for series in being_written {
            self.series.entry(series.clone()).or_default();
        }
    }
}

impl Segment {
    /// When it begins, in nanoseconds since 1970, if only its name tells: it has no packets.
    fn named_ns(&self) -> Option<Clock> {
        (self.listed.size <= NO_PACKETS && is_named(&self.listed.name)).then_some(self.order.start_ns)
    }
}

impl Unit {
    fn push(&mut self, input: Input, left: Left) {
        self.inputs.push(input);
        self.left.push(left);
    }
}

impl Watched {
    /// What waits of a series.
    fn queued(&self, series: &Series) -> impl Iterator<Item = &Queued> {
        self.queue.iter().filter(move |queued| queued.segment.series == *series)
    }

    /// Takes the first so many of a series out of the queue.
    fn take_finished(&mut self, series: &Series, count: usize) -> Vec<Queued> {
        let mut left = count;
        let is_finished = |queued: &mut Queued| {
            let is_it = left > 0 && queued.segment.series == *series;
            left = left.saturating_sub(usize::from(is_it));
            is_it
        };
        self.queue.extract_if(.., is_finished).collect()
    }

    /// The packet time up to which what is there of a series goes. Of a segment without packets, the name says that there
    /// were none before.
    fn delivered(&self, series: &Series, point: &Point) -> Option<Clock> {
        let deliveries: Vec<Delivery> = self.queued(series).filter_map(|queued| queued.delivery).collect();
        let named = self.queued(series).filter_map(|queued| queued.segment.named_ns()).max();
        Delivery::clock_of(point.series.get(series).and_then(|merging| merging.clock), &deliveries).max(named)
    }

    /// How far packet time has come in segments that were closed a while ago.
    fn at_rest(&self, point: &Point, now: SystemTime) -> Option<Clock> {
        let is_at_rest =
            |queued: &&Queued| now.duration_since(queued.segment.listed.modified).is_ok_and(|rest| rest >= ON_ITS_WAY);
        let queued = self.queue.iter().filter(is_at_rest).filter_map(|queued| queued.delivery);
        let merged = point.series.values().filter_map(|merging| merging.clock);
        queued.filter_map(|delivery| Delivery::clock_of(None, &[delivery])).chain(merged).max()
    }

    /// Whether no more segments of a series should be open at the same time, of so many series.
    fn is_full(&self, series: &Series, of: usize, unit_len: u64) -> bool {
        let spooled = self.queued(series).fold(0, |sum: u64, queued| sum.saturating_add(queued.input.spooled_len()));
        self.queued(series).count() >= MAX_OPEN.checked_div(of).unwrap_or(MAX_OPEN).max(1)
            || spooled >= unit_len.saturating_mul(4)
    }

    fn note_silence(&mut self, is_silent: bool) {
        let directory = self.listing.directory().display();
        match (std::mem::replace(&mut self.is_silent, is_silent), is_silent) {
            (false, true) => {
                tracing::warn!(
                    "nothing has come to {directory} for longer than --source-timeout; the others do not wait for it any more"
                );
            }
            (true, false) => tracing::info!("{directory} delivers again; the others wait for it"),
            _ => {}
        }
    }

    /// Those of the files in the directory that are to be read.
    fn sift(
        &mut self,
        number: usize,
        listed: Vec<Listed>,
        point: &mut Point,
        spool: &Path,
        after_processing: &AfterProcessing,
        report: &mut Report,
    ) -> Result<Vec<Segment>> {
        forget_some(point, &listed);
        let names: BTreeSet<&OsString> = listed.iter().map(|listed| &listed.name).collect();
        self.settled.retain(|name, _| names.contains(name));
        self.first_ns.retain(|name, _| names.contains(name));
        let unsettled: Vec<Listed> = listed.into_iter().filter(|listed| self.settled.get(&listed.name) != Some(listed)).collect();
        if unsettled.is_empty() {
            return Ok(Vec::new());
        }
        let known = Known::of(point);
        let mut found = Vec::new();
        let mut identities = BTreeSet::new();
        for listed in unsettled {
            let path = self.listing.directory().join(&listed.name);
            let identity = match identity(&path, &listed) {
                Ok(identity) => identity,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    if !is_its_fault(&error) {
                        return Err(error);
                    }
                    report.refused_inputs = report.refused_inputs.saturating_add(1);
                    tracing::error!("{error}");
                    self.settled.insert(listed.name.clone(), listed);
                    continue;
                }
            };
            if let Some(seen) = known.same(point, &listed, identity) {
                if seen.name != Name::of(&listed.name) {
                    tracing::info!("{} was processed as {}", path.display(), seen.name.to_path().display());
                }
                // What was no capture is nobody's to delete.
                if seen.read_to > 0 {
                    apply(after_processing, &path, &listed, &mut self.has_complained);
                }
                self.settled.insert(listed.name.clone(), listed);
                continue;
            }
            if listed.size > NO_PACKETS && !identities.insert(identity) {
                // A copy: it will be known when the other one has been read.
                continue;
            }
            let series = point.series_of(&listed.name, identity);
            if let Some(merging) = point.series.get_mut(&series)
                && let Some((begun, offset)) = merging.begun
                && is_longer(&path, &listed, begun)
            {
                merging.begun = Some((identity, offset));
            }
            let from = known.grown_from(point, &path, &listed);
            let mut first_ns = Ok(None);
            let order = capture_order(&listed.name, || {
                first_ns = self.first_ns(&path, &listed, spool);
                *first_ns.as_ref().unwrap_or(&None)
            });
            first_ns?;
            found.push(Segment { point: number, series, path, listed, identity, order, from });
        }
        Ok(found)
    }

    fn first_ns(&mut self, path: &Path, listed: &Listed, spool: &Path) -> Result<Option<u64>> {
        if let Some((_, first_ns)) = self.first_ns.get(&listed.name).filter(|(then, _)| then == listed) {
            return Ok(*first_ns);
        }
        let first_ns = match first_time(path, spool) {
            Ok(first_ns) => first_ns,
            Err(error) if !is_its_fault(&error) => return Err(error),
            Err(_) => None,
        };
        self.first_ns.insert(listed.name.clone(), (listed.clone(), first_ns));
        Ok(first_ns)
    }
}

/// What is known of a directory, to look things up in.
struct Known {
    by_identity: BTreeMap<Identity, usize>,
    /// The latest of each name.
    by_name: BTreeMap<Name, usize>,
}

impl Known {
    fn of(point: &Point) -> Self {
        let by_identity = point.seen.iter().enumerate().map(|(number, seen)| (seen.identity, number)).collect();
        let by_name = point.seen.iter().enumerate().map(|(number, seen)| (seen.name.clone(), number)).collect();
        Self { by_identity, by_name }
    }

    /// The segment that a file is, if it was processed. Of those without packets, each has only its name.
    fn same<'p>(&self, point: &'p Point, listed: &Listed, identity: Identity) -> Option<&'p Seen> {
        let place =
            if listed.size > NO_PACKETS { self.by_identity.get(&identity) } else { self.by_name.get(&Name::of(&listed.name)) };
        point.seen.get(*place?).filter(|seen| seen.identity == identity)
    }

    /// Where to read on in a file that was shorter when it was read.
    fn grown_from(&self, point: &Point, path: &Path, listed: &Listed) -> Option<usize> {
        let shorter = point.seen.get(*self.by_name.get(&Name::of(&listed.name))?)?;
        (is_longer(path, listed, shorter.identity) && shorter.read_to > 0).then(|| {
            tracing::info!("{} has grown since it was read; what is new is read", path.display());
            shorter.read_to
        })
    }
}

/// Whether a file is what another was that was shorter.
fn is_longer(path: &Path, listed: &Listed, shorter: Identity) -> bool {
    let then = Listed { size: shorter.size, ..listed.clone() };
    shorter.size < listed.size && identity(path, &then).is_ok_and(|then| then == shorter)
}

/// Whether it is a segment's own fault that it cannot be read, and not that of a full disk, or of what this process may have.
fn is_its_fault(error: &anyhow::Error) -> bool {
    let of_process = |cause: &io::Error| {
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::OutOfMemory];
        let codes = [nix::libc::EMFILE, nix::libc::ENFILE];
        kinds.contains(&cause.kind()) || cause.raw_os_error().is_some_and(|code| codes.contains(&code))
    };
    let causes = || error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    error.downcast_ref::<SpoolError>().is_none() && !causes().any(of_process)
}

/// A segment was read.
fn remember(known: &mut [Point], segment: &Segment, read_to: usize) {
    if let Some(point) = known.get_mut(segment.point) {
        let name = Name::of(&segment.listed.name);
        point.seen.push(Seen { name, identity: segment.identity, read_to });
        if segment.order.start_ns < u64::MAX {
            point.latest_ns = point.latest_ns.max(segment.order.start_ns);
        }
    }
}

/// Forgets the oldest of many segments that are not in the directory any more.
fn forget_some(point: &mut Point, listed: &[Listed]) {
    if point.seen.len() > MAX_REMEMBERED.saturating_add(listed.len()) {
        let excess = point.seen.len().saturating_sub(MAX_REMEMBERED).saturating_sub(listed.len());
        let names: BTreeSet<Name> = listed.iter().map(|listed| Name::of(&listed.name)).collect();
        let mut left = excess;
        point.seen.retain(|seen| {
            let goes = left > 0 && !names.contains(&seen.name);
            left = left.saturating_sub(usize::from(goes));
            !goes
        });
    }
}

/// Does with a segment what the user wants. Tells whether it has grown: then there is more to read.
fn apply(what: &AfterProcessing, path: &Path, listed: &Listed, has_complained: &mut bool) -> bool {
    match what.apply(path, listed) {
        Ok(applied) => applied == Applied::Grown,
        Err(error) if std::mem::replace(has_complained, true) => {
            tracing::debug!("{error}");
            false
        }
        Err(error) => {
            tracing::warn!("{error}; further ones are not named");
            false
        }
    }
}
