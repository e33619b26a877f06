//! The whole job: reads the inputs in units of work, and each unit window by window.

mod archive;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use bumpalo::Bump;
use rayon::prelude::*;
use shared::service;

pub use self::archive::EndsTooEarly;
use crate::{
    attempts::Attempts,
    config::{Config, Directories, Source},
    outputs::{Directory, uploads::Uploads},
    points::{Points, StoredPoints},
    progress::Progress,
    report::{Exit, Report},
    segments::AfterProcessing,
    session::{Rest, Session},
    source::{Input, Inputs, Name, NamedInput, Scratch, shown},
    state::StateFile,
    stored::{IndexTask, index_all, index_input},
    terms::Terms,
    unit::{Done, Seals, Unit},
    watch::{Heartbeat, Wake, Watch},
};

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The figures of the run.
    pub report: Report,
    /// The exit status.
    pub exit: Exit,
    /// The state of a run that leaves nothing for a later one. As long as the file exists, the same
    /// command finds that everything is done.
    finished: Option<StateFile>,
}

impl Outcome {
    /// Removes the state of a run that leaves nothing for a later one. This is the last step.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn close(self) -> Result<()> {
        self.finished.map_or(Ok(()), |state| state.remove())
    }
}

/// Extracts every call of the captures.
///
/// # Errors
/// No input can be used, or an output cannot be written. The published files are right, and the
/// state is that of the last complete unit of work.
pub fn run(config: &Config, progress: &Progress) -> Result<Outcome> {
    let uploads = Uploads::begin(&config.outputs.directory, config.uploads.clone())?;
    let uploads = &uploads;
    match &config.source {
        Source::Files(paths) => {
            let report = run_files(config, paths, uploads, progress)?;
            let state = StateFile::of(&config.outputs.directory, config.outputs.syncs);
            // The state also lists the uploads that are due. While a table is not sent, it stays,
            // so that another run need not extract again.
            let is_all_sent = uploads.is_empty() && report.uploads.unsent_tables == 0;
            Ok(Outcome {
                exit: report.exit(),
                report,
                finished: Some(state).filter(|_| is_all_sent),
            })
        }
        Source::Archive(archive) => {
            let report = archive::run_archive(config, archive, uploads, progress)?;
            Ok(Outcome {
                exit: report.exit(),
                report,
                finished: Some(StateFile::of(
                    &config.outputs.directory,
                    config.outputs.syncs,
                )),
            })
        }
        // A watch that is stopped by a signal exits 0, whatever it logged earlier.
        Source::Directories(directories) if directories.stays => Ok(Outcome {
            exit: Exit::Done,
            report: stay(config, directories, uploads, progress)?,
            finished: None,
        }),
        Source::Directories(directories) => {
            let report = pass(config, directories, uploads, progress)?;
            Ok(Outcome {
                exit: report.exit(),
                report,
                finished: None,
            })
        }
    }
}

/// Works on a unit, window by window: *index, correlate, write, save*. The end of the unit commits
/// it.
///
/// # Errors
/// A file cannot be written. The old state is still there, and the session cannot continue.
fn work(
    session: &mut Session<'_>,
    mut unit: Unit,
    mut points: Option<&mut Points<'_>>,
) -> Result<()> {
    let (inputs, before) = session.number(std::mem::take(&mut unit.inputs))?;
    let inputs = inputs
        .reaching(unit.reached_ns)
        .with_drops(std::mem::take(&mut unit.drops))
        .in_series(std::mem::take(&mut unit.series));
    let is_final = unit.is_final;
    // Segments of a directory are recognized by their content later; named files are not.
    let mut seals = if points.is_some() {
        Seals::of(&unit, before, &inputs)
    } else {
        Seals::default()
    };
    let mut reading = session.begin(&inputs, before, unit);
    let mut arena = Bump::new();
    let mut indexed = reading.index(session.all_open_calls());
    while let Some(window) = reading.next_window(indexed, &arena) {
        if !reading.is_orderly() {
            return Err(archive::HasNoOrder.into());
        }
        session.note_window(&window, &inputs);
        let (range, open) = (window.start..window.end, session.all_open_calls());
        let extraction = &mut session.extraction;
        // Correlating needs one thread. So while one window is correlated and written, the next is
        // indexed.
        let (ahead, (left_since, ())) = rayon::join(
            || reading.index(open),
            || {
                let settled = extraction.correlate(window, reading.records());
                rayon::join(
                    || extraction.write(settled, reading.end(), reading.records()),
                    || seals.advance(&inputs, reading.end().position),
                )
            },
        );
        let left_since = left_since?;
        indexed = ahead;
        arena.reset();
        session.end_window(range, &reading);
        if let Some(checkpoint) = reading.checkpoint() {
            note_ended(points.as_deref_mut(), |tell| {
                reading.tell_ended(&mut seals, tell);
            });
            let saved = session.save(
                reading.unfinished(),
                &checkpoint,
                stored(points.as_deref()),
                reading.records(),
            )?;
            reading.note_checkpoint(saved.bytes().len() as u64);
            if let Some(points) = points.as_deref_mut() {
                points.note_progress()?;
            }
            // A watch can be stopped between units, so it waits there.
            if points.is_none() {
                session.keep_pace(|| true);
            }
        }
        if let Some(trouble) = inputs.trouble() {
            bail!(trouble);
        }
        reading.release_before(left_since);
        if session.has_found_all(reading.end()) {
            break;
        }
    }
    if is_final && session.needs_more(reading.end()) {
        return Err(EndsTooEarly.into());
    }
    if is_final {
        session.extraction.close(reading.end(), reading.records())?;
    }
    note_ended(points.as_deref_mut(), |tell| {
        reading.tell_all(&mut seals, tell);
    });
    if let Some(points) = points.as_deref_mut().filter(|_| is_final) {
        points.begin_anew();
    }
    if let Some(trouble) = inputs.trouble() {
        bail!(trouble);
    }
    session.finish(reading, &inputs, is_final, stored(points.as_deref()))
}

/// Reads files to their end.
fn run_files(
    config: &Config,
    paths: &[PathBuf],
    uploads: &Uploads,
    progress: &Progress,
) -> Result<Report> {
    let directory = Directory::open(&config.outputs)?;
    let mut refused: u64 = 0;
    let mut inputs = Inputs::open(paths, &scratch(config), |path, error| {
        refused = refused.saturating_add(1);
        tracing::error!("{} is not used: {error}", shown(path));
    })?;
    let files: Vec<NamedInput> = inputs
        .iter()
        .map(|input| NamedInput {
            path: Name::of(input.name()),
            identity: input.identity(),
        })
        .collect();
    let terms = Terms::new(config, Some(files.clone()));
    let (mut session, rest) = Session::open(
        config,
        directory,
        terms.clone(),
        config.resets,
        uploads,
        progress,
    )?;
    session.report.refused_inputs = refused;
    if rest.is_finished {
        tracing::info!(
            "an earlier run has read all of these files; only renames, reports and uploads were left"
        );
        return complete(end(session, None, None));
    }
    let mut left = files;
    if session.report.is_resumed {
        tracing::info!("resuming where an earlier run stopped");
        left = rest.left;
        inputs.drain(..inputs.len().saturating_sub(left.len()));
        // Only the first input was begun.
        let mut offset = rest.offset;
        inputs = inputs
            .into_iter()
            .map(|input| input.going_on_at(offset.take()))
            .collect();
    }
    match work(
        &mut session,
        Unit {
            inputs,
            left,
            is_final: true,
            ..Unit::default()
        },
        None,
    ) {
        Ok(()) => {
            make_indexes(&session, paths.to_vec());
            complete(end(session, None, None))
        }
        Err(error) => {
            drop(session);
            roll_back(config, terms, progress);
            Err(error)
        }
    }
}

/// Reads the new segments of the directories, and stops.
fn pass(
    config: &Config,
    directories: &Directories,
    uploads: &Uploads,
    progress: &Progress,
) -> Result<Report> {
    let (mut session, mut points, rest) = open(
        config,
        directories,
        [config.resets, directories.retries],
        uploads,
        progress,
    )?;
    let pass = || -> Result<()> {
        work_through(&mut session, &mut points, rest, true, |session, _| {
            session.keep_pace(|| true);
            true
        })?;
        keep_what_was_learned(&mut session, &mut points)?;
        if let Some(waiting) = points.waiting() {
            tracing::warn!("{waiting}; run with --final to read them without it");
        }
        if directories.closes_all {
            work(&mut session, Unit::last(), Some(&mut points))?;
        }
        Ok(())
    };
    match pass() {
        Ok(()) => complete(end(session, Some(&mut points), None)),
        Err(error) => {
            put_down(&mut points);
            drop(session);
            roll_back(config, Terms::new(config, None), progress);
            Err(error)
        }
    }
}

/// Opens the output directory and the input directories, and loads the state.
fn open<'c>(
    config: &'c Config,
    directories: &'c Directories,
    [resets, retries]: [bool; 2],
    uploads: &'c Uploads,
    progress: &'c Progress,
) -> Result<(Session<'c>, Points<'c>, Rest)> {
    let directory = Directory::open(&config.outputs)?;
    let (session, mut rest) = Session::open(
        config,
        directory,
        Terms::new(config, None),
        resets,
        uploads,
        progress,
    )?;
    if resets {
        Attempts::forget(&config.outputs.directory)?;
    }
    let attempts = Attempts::open(&config.outputs.directory, retries)?;
    let stored = std::mem::take(&mut rest.points);
    Ok((
        session,
        Points::new(
            directories,
            scratch(config),
            attempts,
            config.unit.wanted(0),
            Duration::from_nanos(config.rules.linger_ns),
            stored,
        ),
        rest,
    ))
}

/// Works on all segments that are there, beginning with those that an earlier run left. After each
/// unit, `goes_on` gets the segments that are read, and returns false to stop.
fn work_through(
    session: &mut Session<'_>,
    points: &mut Points<'_>,
    rest: Rest,
    mut looks_closely: bool,
    mut goes_on: impl FnMut(&mut Session<'_>, (u64, u64)) -> bool,
) -> Result<()> {
    let Rest { left, offset, .. } = rest;
    let mut next = None;
    if !left.is_empty() {
        let (unit, is_first_there) = points.left(&left, offset, &mut session.report)?;
        if !is_first_there {
            session.pass_over_input();
        }
        next = Some(unit);
    }
    loop {
        if next.is_none() {
            next = points.next_unit(&mut session.report, looks_closely)?;
            next = next.map(|unit| indexed(session.config(), unit));
        }
        // Only open calls have timers.
        if next.is_none() && session.all_open_calls() > 0 {
            next = points.quiet_unit();
        }
        let Some(unit) = next.take() else {
            return Ok(());
        };
        // There may be more segments than a unit takes.
        looks_closely = true;
        work(session, unit, Some(points))?;
        make_indexes(session, points.done());
        let settled = points.settle()?;
        session.report.segments = session.report.segments.saturating_add(settled.0);
        if !goes_on(session, settled) {
            return Ok(());
        }
    }
}

/// The task of indexing segments, if the user wants that and they do not go.
fn index_task(config: &Config) -> Option<&IndexTask> {
    let goes = matches!(&config.source, Source::Directories(directories) if directories.after_processing == AfterProcessing::Delete);
    config.indexes.as_ref().filter(|_| !goes)
}

/// Indexes the segments of a unit, if the user wants that. Their indexes then stand for them, so
/// they are searched once.
fn indexed(config: &Config, mut unit: Unit) -> Unit {
    if let Some(task) = index_task(config).filter(|_| unit.has_whole_segments) {
        let segments: Vec<(Input, &NamedInput)> = unit.inputs.into_iter().zip(&unit.left).collect();
        let index = |(input, named): (Input, &NamedInput)| {
            index_input(input, named.path.to_path(), named.identity.size, task)
        };
        unit.inputs = segments.into_par_iter().map(index).collect();
    }
    unit
}

/// Indexes segments that were read and have no index yet, because a run went on inside them or
/// merged them, while they are in memory anyway. They are not counted as left behind if it fails:
/// the command `index` makes up for it.
fn make_indexes(session: &Session<'_>, segments: Vec<PathBuf>) {
    let config = session.config();
    if let Some(task) = index_task(config) {
        let task = IndexTask {
            segments,
            ..task.clone()
        };
        let _ = index_all(&task, &scratch(config));
    }
}

/// Saves the note of attempts, because nothing is being read any more.
fn put_down(points: &mut Points<'_>) {
    if let Err(error) = points.put_down() {
        tracing::warn!("{error:#}");
    }
}

/// The directory of temporary files.
fn scratch(config: &Config) -> Scratch {
    Scratch::new(&config.outputs.directory, config.max_decompressed)
}

/// Reports the inputs that have been read to their end to the capture points.
fn note_ended(points: Option<&mut Points<'_>>, tell: impl FnOnce(&mut dyn FnMut(Done))) {
    if let Some(points) = points {
        tell(&mut |done| points.note(done));
    }
}

/// Saves what was learnt about segments that are not read again.
fn keep_what_was_learned(session: &mut Session<'_>, points: &mut Points<'_>) -> Result<()> {
    if points.take_changes() {
        work(session, Unit::default(), Some(points))
    } else {
        Ok(())
    }
}

/// The part of the state for the capture points.
fn stored(points: Option<&Points<'_>>) -> StoredPoints {
    points.map(Points::stored).unwrap_or_default()
}

/// Discards an uncommitted unit of work, with its unfinished files.
fn roll_back(config: &Config, terms: Terms, progress: &Progress) {
    let none = Uploads::none(&config.outputs.directory);
    let rolled_back = Directory::open(&config.outputs).and_then(|directory| {
        Session::open(config, directory, terms, false, &none, progress).map(drop)
    });
    if let Err(error) = rolled_back {
        tracing::warn!("the next run will remove the unfinished files of this one: {error:#}");
    }
}

/// Makes the reports that are out of date, uploads the due files, for at most `patience`, and saves
/// what is left in the state.
/// Also returns the error if a report cannot be written: the next run will make it.
fn end(
    mut session: Session<'_>,
    points: Option<&mut Points<'_>>,
    patience: Option<Duration>,
) -> (Report, Result<()>) {
    let made = session.make_reports(true);
    let is_uploaded = session.finish_uploads(patience);
    if (is_uploaded || matches!(made, Ok(true)))
        && let Err(error) = work(&mut session, Unit::default(), points)
    {
        tracing::warn!(
            "the next run will ask the store which files were uploaded, and make the same reports: {error:#}"
        );
    }
    (session.into_report(), made.map(drop))
}

/// The report of a run whose end is only complete with all that it writes.
fn complete((report, made): (Report, Result<()>)) -> Result<Report> {
    made.map(|()| report)
}

/// A state larger than this, in bytes, is written only every few seconds: some 50 MB/s of media
/// make one.
const LARGE_STATE: u64 = 128 << 20;

/// The time that a stopped watch waits for uploads in progress: service managers wait longer.
const LAST_UPLOADS: Duration = Duration::from_secs(8);

/// Reads each segment when it is closed, until a signal stops the watch.
fn stay(
    config: &Config,
    directories: &Directories,
    uploads: &Uploads,
    progress: &Progress,
) -> Result<Report> {
    let mut watch = Watch::begin(&directories.paths).context("signals cannot be waited for")?;
    let (mut session, mut points, mut rest) = open(
        config,
        directories,
        [config.resets, directories.retries],
        uploads,
        progress,
    )?;
    let mut heartbeat = Heartbeat::begin();
    let mut wake = Wake::Look;
    let (mut failed, mut failed_report) = (None, None);
    service::ready();
    while wake != Wake::End {
        let mut closed = session.closed_calls();
        let left = std::mem::take(&mut rest);
        let worked = work_through(
            &mut session,
            &mut points,
            left,
            wake == Wake::Look,
            |session, (segments, bytes)| {
                heartbeat.note_segments(segments, bytes);
                heartbeat.note_packet(session.clock());
                heartbeat.note_calls_closed(session.closed_calls().saturating_sub(closed));
                closed = session.closed_calls();
                watch.alive();
                session.keep_pace(|| !watch.is_ending());
                make_reports(session, &watch, &mut failed_report);
                !watch.is_ending()
            },
        );
        make_reports(&mut session, &watch, &mut failed_report);
        progress.flush();
        if let Some(beat) = heartbeat.beat(session.open_calls() as u64) {
            service::status(&beat.to_string());
        }
        wake = match worked {
            Ok(()) if watch.is_ending() => Wake::End,
            Ok(()) => {
                failed = None;
                // If the carry-over is large, several segments are gathered: writing it for each
                // one would cost more than reading them.
                if session.state_len() > LARGE_STATE {
                    watch.sleep_until_retry()
                } else {
                    watch.wait()
                }
            }
            Err(error) => {
                say_once(&mut failed, &error);
                put_down(&mut points);
                let report = session.into_report();
                progress.flush();
                // Frees disk space: unfinished files are removed.
                (session, points, rest) = loop {
                    let reopened = open(config, directories, [false; 2], uploads, progress);
                    wake = watch.sleep_until_retry();
                    match reopened {
                        Ok(reopened) => break reopened,
                        Err(_) if wake == Wake::End => return Ok(report),
                        Err(error) => say_once(&mut failed, &error),
                    }
                };
                session.report = report;
                wake
            }
        };
    }
    service::stopping();
    let (report, made) = end(session, Some(&mut points), Some(LAST_UPLOADS));
    if let Err(error) = made {
        tracing::error!("{error:#}; the next run will make this report");
    }
    Ok(report)
}

/// Makes reports that are out of date, if there is time.
fn make_reports(session: &mut Session<'_>, watch: &Watch, failed: &mut Option<String>) {
    if watch.is_ending() {
        return;
    }
    match session.make_reports(false) {
        Ok(true) => *failed = None,
        Ok(false) => {}
        Err(error) => say_once(failed, &error),
    }
}

/// Logs an error, unless it was logged before.
fn say_once(said: &mut Option<String>, error: &anyhow::Error) {
    let sentence = format!("{error:#}");
    if said.as_ref() != Some(&sentence) {
        tracing::error!("{sentence}; the next attempt is in a few seconds");
        *said = Some(sentence);
    }
}
