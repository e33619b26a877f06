//! The whole job: what is to be read, unit of work by unit of work, until there is no more.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use shared::{service, units::SipPorts};

use crate::{
    calls::Rules,
    outputs::{
        Directory, Settings,
        uploads::{self, Uploads},
    },
    packet::Decoder,
    points::{Directories, Points},
    progress::Progress,
    report::{Exit, Report},
    session::{Session, Unit},
    source::Inputs,
    state::{Left, Name, StateFile, Terms},
    watch::{Heartbeat, Wake, Watch},
    windows::Sizes,
};

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The captures.
    pub source: Source,
    /// The flags that the results depend on, but for the captures, and their values.
    pub flags: Vec<(String, String)>,
    /// Whether what runs before left is given up.
    pub resets: bool,
    /// How much input a unit of work has, where there is more.
    pub unit: UnitLen,
    /// How frames are taken apart.
    pub decoder: Decoder,
    /// Where SIP is looked for.
    pub sip_ports: SipPorts,
    /// The timers.
    pub rules: Rules,
    /// Where the results go.
    pub outputs: Settings,
    /// How they are uploaded, if they are.
    pub uploads: Option<uploads::Settings>,
    /// How much is worked on at once.
    pub sizes: Sizes,
}

/// How much input a unit of work has, where there is more.
#[derive(Clone, Copy, Debug, Default)]
pub enum UnitLen {
    /// A gibibyte; more where so much is carried over that to write it each time would cost too much.
    #[default]
    Usual,
    /// So many bytes: no value changes the result; tests use small ones.
    Exactly(u64),
}

impl UnitLen {
    /// How much there should be where so much is carried over, in bytes.
    #[must_use]
    pub fn wanted(self, carried_len: u64) -> u64 {
        match self {
            Self::Usual => (1 << 30).max(carried_len.saturating_mul(4)),
            Self::Exactly(len) => len,
        }
    }
}

/// Where captures come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files, which are one capture.
    Files(Vec<PathBuf>),
    /// Directories with segments.
    Directories(Directories),
}

/// What a run has come to.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub report: Report,
    /// What the shell is told.
    pub exit: Exit,
    /// The state of a run that leaves nothing to others. As long as it is there, the same command finds that all is done.
    finished: Option<StateFile>,
}

impl Outcome {
    /// Removes the state of a run that leaves nothing to others: the last thing that is done.
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
/// No input can be used, or an output cannot be written. What was published is right then, and the state is that of the
/// last unit of work that was done.
pub fn run(config: &Config, progress: &Progress) -> Result<Outcome> {
    let uploads = Uploads::begin(&config.outputs.directory, config.uploads.clone())?;
    let uploads = &uploads;
    match &config.source {
        Source::Files(paths) => {
            let report = run_files(config, paths, uploads, progress)?;
            let state = StateFile::of(&config.outputs.directory, config.outputs.syncs);
            // It has what is still to be uploaded, too; and whoever runs it again for the sake of a table is not to extract again.
            let is_all_sent = uploads.is_empty() && report.uploads.unsent_tables == 0;
            Ok(Outcome { exit: report.exit(), report, finished: Some(state).filter(|_| is_all_sent) })
        }
        // One who is told to end after months has done what he should, whatever the log has named since.
        Source::Directories(directories) if directories.stays => {
            Ok(Outcome { exit: Exit::Done, report: stay(config, directories, uploads, progress)?, finished: None })
        }
        Source::Directories(directories) => {
            let report = pass(config, directories, uploads, progress)?;
            Ok(Outcome { exit: report.exit(), report, finished: None })
        }
    }
}

/// Reads files to their end.
fn run_files(config: &Config, paths: &[PathBuf], uploads: &Uploads, progress: &Progress) -> Result<Report> {
    let directory = Directory::open(&config.outputs)?;
    let mut refused: u64 = 0;
    let mut inputs = Inputs::open(paths, &config.outputs.directory, |path, error| {
        refused = refused.saturating_add(1);
        tracing::error!("{} is not used: {error:#}", path.display());
    })?;
    let files: Vec<Left> = inputs.iter().map(|input| Left { path: Name::of(input.name()), identity: input.identity() }).collect();
    let terms = Terms::new(false, files.clone(), config.flags.clone());
    let mut session = Session::open(config, directory, terms.clone(), config.resets, uploads, progress)?;
    session.report.refused_inputs = refused;
    let mut left = files;
    if session.report.is_resumed {
        left = std::mem::take(&mut session.left);
        if left.is_empty() {
            tracing::info!("all of it was done before; only files were left to be given their names, or to be uploaded");
            return Ok(session.end(None));
        }
        tracing::info!("going on where an earlier run was broken off");
        inputs.drain(..inputs.len().saturating_sub(left.len()));
        // Only the first of them was begun.
        let mut offset = session.offset;
        inputs = inputs.into_iter().map(|input| input.going_on_at(offset.take())).collect();
    }
    match session.work(Unit { inputs, left, is_final: true }, |_, _| {}) {
        Ok(()) => Ok(session.end(None)),
        Err(error) => {
            drop(session);
            roll_back(config, terms, progress);
            Err(error)
        }
    }
}

/// Takes back what a unit of work did that could not be done: nothing half-written stays.
fn roll_back(config: &Config, terms: Terms, progress: &Progress) {
    let none = Uploads::none(&config.outputs.directory);
    let rolled_back = Directory::open(&config.outputs)
        .and_then(|directory| Session::open(config, directory, terms, false, &none, progress).map(drop));
    if let Err(error) = rolled_back {
        tracing::warn!("what was half-written will be removed by the next run: {error:#}");
    }
}

fn terms(config: &Config) -> Terms {
    Terms::new(true, Vec::new(), config.flags.clone())
}

/// Reads what is new in the directories, and stops.
fn pass(config: &Config, directories: &Directories, uploads: &Uploads, progress: &Progress) -> Result<Report> {
    let mut points = Points::new(directories, &config.outputs.directory, config.unit.wanted(0));
    let mut session = open(config, &mut points, config.resets, uploads, progress)?;
    let mut pass = || -> Result<()> {
        work_through(&mut session, &mut points, true, |session, _| {
            session.keep_pace(|| true);
            true
        })?;
        if let Some(waiting) = points.waiting(&session.points) {
            tracing::warn!("{waiting}; run with --final to have them read without it");
        }
        if directories.closes_all {
            session.work(Unit { is_final: true, ..Unit::default() }, |_, _| {})?;
        }
        Ok(())
    };
    match pass() {
        Ok(()) => Ok(session.end(None)),
        Err(error) => {
            drop(session);
            roll_back(config, terms(config), progress);
            Err(error)
        }
    }
}

fn open<'c>(
    config: &'c Config,
    points: &mut Points<'_>,
    resets: bool,
    uploads: &'c Uploads,
    progress: &'c Progress,
) -> Result<Session<'c>> {
    let directory = Directory::open(&config.outputs)?;
    let mut session = Session::open(config, directory, terms(config), resets, uploads, progress)?;
    points.adopt(&mut session.points);
    Ok(session)
}

/// Works on all that is there, first on what was left half done. After each unit `goes_on` is told of the segments that are done with,
/// and says whether there is time for another.
fn work_through(
    session: &mut Session<'_>,
    points: &mut Points<'_>,
    mut looks_closely: bool,
    mut goes_on: impl FnMut(&Session<'_>, (u64, u64)) -> bool,
) -> Result<()> {
    let mut next = None;
    if !session.left.is_empty() {
        let (unit, is_first_there) = points.left(&session.left, session.offset, &mut session.points, &mut session.report)?;
        session.left.clear();
        if !is_first_there {
            session.pass_over_input();
        }
        next = Some(unit);
    }
    loop {
        if next.is_none() {
            next = points.next_unit(&mut session.points, &mut session.recent, &mut session.report, looks_closely)?;
        }
        let Some(unit) = next.take() else { return Ok(()) };
        // There may have been more than a unit takes.
        looks_closely = true;
        session.work(unit, |known, done| points.note(known, done))?;
        let settled = points.settle();
        session.report.segments = session.report.segments.saturating_add(settled.0);
        if !goes_on(session, settled) {
            return Ok(());
        }
    }
}

/// A state larger than this is not written more often than every few seconds, in bytes: some 50 MB/s of media make one.
const LARGE_STATE: u64 = 128 << 20;

/// How long a watch that is told to end waits for what is being uploaded: service managers wait longer.
const LAST_UPLOADS: Duration = Duration::from_secs(8);

/// Reads each segment when it is closed, until it is told to end.
fn stay(config: &Config, directories: &Directories, uploads: &Uploads, progress: &Progress) -> Result<Report> {
    let mut watch = Watch::begin(&directories.paths).context("signals cannot be waited for")?;
    let mut points = Points::new(directories, &config.outputs.directory, config.unit.wanted(0));
    let mut session = open(config, &mut points, config.resets, uploads, progress)?;
    let mut heartbeat = Heartbeat::begin();
    let mut wake = Wake::Look;
    let mut failed = None;
    service::ready();
    while wake != Wake::End {
        let mut closed = session.closed_calls();
        let worked = work_through(&mut session, &mut points, wake == Wake::Look, |session, (segments, bytes)| {
            heartbeat.note_segments(segments, bytes);
            heartbeat.note_packet(session.clock());
            heartbeat.note_calls_closed(session.closed_calls().saturating_sub(closed));
            closed = session.closed_calls();
            watch.alive();
            session.keep_pace(|| !watch.is_ending());
            !watch.is_ending()
        });
        progress.flush();
        if let Some(beat) = heartbeat.beat(session.open_calls() as u64) {
            service::status(&beat.to_string());
        }
        wake = match worked {
            Ok(()) if watch.is_ending() => Wake::End,
            Ok(()) => {
                failed = None;
                // Where much is carried over, some segments are gathered: to write it for each would cost more than they do.
                if session.state_len() > LARGE_STATE { watch.sleep_until_retry() } else { watch.wait() }
            }
            Err(error) => {
                say_once(&mut failed, &error);
                let report = session.into_report();
                progress.flush();
                // Makes room: what was half-written is removed.
                points = Points::new(directories, &config.outputs.directory, config.unit.wanted(0));
                session = loop {
                    let reopened = open(config, &mut points, false, uploads, progress);
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
    Ok(session.end(Some(LAST_UPLOADS)))
}

/// Says what has failed, unless it was said before.
fn say_once(said: &mut Option<String>, error: &anyhow::Error) {
    let sentence = format!("{error:#}");
    if said.as_ref() != Some(&sentence) {
        tracing::error!("{sentence}; it is tried again every few seconds");
        *said = Some(sentence);
    }
}
