//! `find`: calls of stored segments, by their words; and their extraction.
//!
//! 1. The words of the segments' indexes give the Call-IDs that may be asked for ([`Candidates`]).
//! 2. A run over their signalling gives these calls: their records, by which the query decides.
//! 3. A run over the segments around them extracts them. Both are the usual run, with a selection.

mod archive;
mod candidates;
mod legs;
pub mod query;
mod table;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use anyhow::Result;
use serde_json::Value;
use shared::s3_uri::S3Uri;

use self::query::Query;
pub use self::{archive::Segment, candidates::Candidates};
use crate::{
    config::{Archive, Config, Source},
    outputs::uploads::UploadSettings,
    progress::Progress,
    report::Report,
    run::{EndsTooEarly, run},
    source::Scratch,
    stored::Use,
};

/// The task of `find`.
#[derive(Clone, Debug)]
pub struct Task {
    /// The places of the archive.
    pub places: Vec<Place>,
    /// How a store is asked, if a place is in one.
    pub store: Option<UploadSettings>,
    /// The directory of the indexes, if they are not beside their segments.
    pub index_directory: Option<PathBuf>,
    /// The query.
    pub query: Query,
    /// The most calls: the last ones.
    pub last: Option<usize>,
    /// Calls that are open at most this long before the first message of those that are found are
    /// known when these are extracted, in nanoseconds.
    pub lookback_ns: u64,
    /// True when media is read for the figures of the list.
    pub measures: bool,
    /// True when a segment without a usable index is an error.
    pub is_strict: bool,
    /// True when the other legs of the conversations of the calls are found with them.
    pub brings_legs: bool,
    /// True when the calls are extracted.
    pub extracts: bool,
    /// The form of the list.
    pub form: Form,
    /// The run that extracts: rules, selection and outputs. Its source is not used.
    pub config: Config,
}

/// A place of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A prefix in a store.
    Store(S3Uri),
}

/// The form of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A table for people, in lines of this many columns.
    Table(usize),
    /// A JSON object a line.
    Json,
}

/// The answer.
#[derive(Debug)]
pub struct Found {
    /// The list.
    pub text: String,
    /// The number of calls in it.
    pub calls: usize,
    /// The number of segments that could not be read.
    pub refused: u64,
}

/// Finds calls, and extracts them.
///
/// # Errors
/// The archive cannot be read, or an output cannot be written.
pub fn find(task: &Task, scratch: &Scratch, progress: &Progress) -> Result<Found> {
    let (segments, mut refused) = archive::list(task, scratch)?;
    let mut candidates = Candidates::of(&segments, task);
    let (mut records, refused_by_list) = listed(task, &segments, &candidates, progress)?;
    refused = refused.saturating_add(refused_by_list);
    records.retain(|record| {
        let words = candidates.words(record);
        task.query.is_true_of(record, words)
    });
    if let Some(last) = task.last {
        records.drain(..records.len().saturating_sub(last));
    }
    let mut of_legs = None;
    if task.brings_legs && !records.is_empty() {
        let found = records;
        let (of_all, with_legs) =
            legs::with_legs(task, &segments, &mut candidates, found, progress)?;
        (of_legs, records) = (Some(of_all), with_legs);
    }
    let calls = records.len();
    if task.extracts && calls > 0 {
        let ids: BTreeSet<Box<[u8]>> = records.iter().filter_map(archive::call_id).collect();
        let task = of_legs.as_ref().unwrap_or(task);
        let refused_by_run = extract(task, &segments, &candidates, &ids, progress)?;
        // Segments that the list could not read are refused again.
        refused = refused.max(refused_by_run);
    }
    let text = match task.form {
        Form::Table(columns) => table::table(&records, columns, task.measures),
        Form::Json => table::json(records, task.measures),
    };
    Ok(Found {
        text,
        calls,
        refused,
    })
}

/// The records of the candidates, in the order of their beginning, and the number of segments that
/// could not be read.
fn listed(
    task: &Task,
    segments: &[Segment],
    candidates: &Candidates,
    progress: &Progress,
) -> Result<(Vec<Value>, u64)> {
    let directory = tempfile::tempdir()?;
    let uses = if task.measures {
        Use::All
    } else {
        Use::Signalling
    };
    let lookback_ns = if task.measures { task.lookback_ns } else { 0 };
    let mut config = task.config.clone();
    let outputs = &mut config.outputs;
    outputs.directory = directory.path().to_owned();
    outputs.writes_json = true;
    outputs.writes_conversations = false;
    outputs.tells_of_calls = false;
    outputs.syncs = false;
    outputs.selection.has_no_files = true;
    outputs.selection.only = Some(Arc::new(candidates.ids()));
    let sources =
        |behind_ns| candidates.archive(None, segments, task, [lookback_ns, behind_ns], uses);
    let Some(report) = run_until_ended(&config, sources, progress)? else {
        return Ok((Vec::new(), 0));
    };
    let mut records = archive::records(directory.path())?;
    records.sort_by_key(|record| record.get("start_ns").and_then(Value::as_u64));
    Ok((records, report.refused_inputs))
}

/// Extracts the calls with these Call-IDs. Returns the number of segments that could not be read.
fn extract(
    task: &Task,
    segments: &[Segment],
    candidates: &Candidates,
    ids: &BTreeSet<Box<[u8]>>,
    progress: &Progress,
) -> Result<u64> {
    let mut config = task.config.clone();
    let sources = |behind_ns| {
        let around_ns = [task.lookback_ns, behind_ns];
        candidates.archive(Some(ids), segments, task, around_ns, Use::All)
    };
    config.outputs.selection.only = Some(Arc::new(ids.clone()));
    let report = run_until_ended(&config, sources, progress)?;
    Ok(report.map_or(0, |report| report.refused_inputs))
}

/// Runs over the segments around the wanted calls, and over more of them if the calls have not ended
/// by then. `sources` gives the segments that begin up to so many nanoseconds behind the last
/// message. `None` if no call is wanted.
fn run_until_ended(
    config: &Config,
    sources: impl Fn(u64) -> Option<Archive>,
    progress: &Progress,
) -> Result<Option<Report>> {
    let mut behind_ns = FIRST_BEHIND_NS;
    loop {
        let Some(source) = sources(behind_ns) else {
            return Ok(None);
        };
        let config = Config {
            source: Source::Archive(source),
            ..config.clone()
        };
        match run(&config, progress) {
            Err(error) if error.is::<EndsTooEarly>() => {
                behind_ns = behind_ns.saturating_mul(FURTHER);
            }
            outcome => {
                let mut outcome = outcome?;
                let report = std::mem::take(&mut outcome.report);
                outcome.close()?;
                return Ok(Some(report));
            }
        }
    }
}

/// The time behind the last message of the calls for which segments are opened at first, in
/// nanoseconds: an hour. Nearly all calls have ended by then.
const FIRST_BEHIND_NS: u64 = 3_600_000_000_000;

/// How many times as far the next attempt goes.
const FURTHER: u64 = 8;

impl Task {
    /// These segments, which are in the order of their series, as the source of a run.
    fn archive(
        &self,
        segments: &[&Segment],
        uses: Use,
        last_message: u64,
        is_cut: bool,
    ) -> Archive {
        let series = segments.chunk_by(|one, next| one.series == next.series);
        let of_series = |segments: &[&Segment]| segments.iter().map(|one| one.at.clone()).collect();
        Archive {
            series: series.map(of_series).collect(),
            is_cut,
            index_directory: self.index_directory.clone(),
            uses,
            is_strict: self.is_strict,
            last_message,
            awaits_legs: false,
        }
    }
}
