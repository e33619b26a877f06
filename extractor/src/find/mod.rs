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

use anyhow::{Result, bail};
use serde_json::Value;

use self::query::Query;
pub use self::{archive::Segment, candidates::Candidates};
use crate::{
    config::{self, Config, Source},
    progress::Progress,
    run::run,
    source::Scratch,
    stored::Use,
};

/// The task of `find`.
#[derive(Clone, Debug)]
pub struct Task {
    /// The directories of the archive.
    pub directories: Vec<PathBuf>,
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
}

/// Finds calls, and extracts them.
///
/// # Errors
/// The archive cannot be read, or an output cannot be written.
pub fn find(task: &Task, scratch: &Scratch, progress: &Progress) -> Result<Found> {
    let segments = archive::list(task, scratch)?;
    let mut candidates = Candidates::of(&segments, task);
    let mut records = listed(task, &segments, &candidates, progress)?;
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
        extract(task, &segments, &candidates, ids, progress)?;
    }
    let text = match task.form {
        Form::Table(columns) => table::table(&records, columns, task.measures),
        Form::Json => table::json(records, task.measures),
    };
    Ok(Found { text, calls })
}

/// The records of the candidates, in the order of their beginning.
fn listed(
    task: &Task,
    segments: &[Segment],
    candidates: &Candidates,
    progress: &Progress,
) -> Result<Vec<Value>> {
    let directory = tempfile::tempdir()?;
    let uses = if task.measures {
        Use::All
    } else {
        Use::Signalling
    };
    let lookback_ns = if task.measures { task.lookback_ns } else { 0 };
    let Some(source) = candidates.archive(None, segments, task, lookback_ns, uses)? else {
        return Ok(Vec::new());
    };
    let mut config = Config {
        source: Source::Archive(source),
        uploads: None,
        ..task.config.clone()
    };
    let outputs = &mut config.outputs;
    outputs.directory = directory.path().to_owned();
    outputs.writes_json = true;
    outputs.writes_conversations = false;
    outputs.tells_of_calls = false;
    outputs.syncs = false;
    outputs.selection.has_no_files = true;
    outputs.selection.only = Some(Arc::new(candidates.ids()));
    run(&config, progress)?.close()?;
    let mut records = archive::records(directory.path())?;
    records.sort_by_key(|record| record.get("start_ns").and_then(Value::as_u64));
    Ok(records)
}

/// Extracts the calls with these Call-IDs.
fn extract(
    task: &Task,
    segments: &[Segment],
    candidates: &Candidates,
    ids: BTreeSet<Box<[u8]>>,
    progress: &Progress,
) -> Result<()> {
    let source = candidates.archive(Some(&ids), segments, task, task.lookback_ns, Use::All)?;
    let Some(source) = source else { return Ok(()) };
    let mut config = Config {
        source: Source::Archive(source),
        ..task.config.clone()
    };
    config.outputs.selection.only = Some(Arc::new(ids));
    run(&config, progress)?.close()
}

impl Task {
    /// The segments of an archive from `first` on, as the source of a run. Segments of several
    /// capture points have to be merged, which a search does not do.
    fn one_series(&self, segments: &[&Segment]) -> Result<()> {
        let mut series = segments.iter().map(|segment| &segment.series);
        let Some(first) = series.next() else {
            return Ok(());
        };
        if let Some(other) = series.find(|other| *other != first) {
            bail!(
                "the calls are in segments of several capture points ({} and {}), which find does not merge: name one directory of one interface, or extract the calls in a run over all directories with --call-id",
                first.1,
                other.1
            );
        }
        Ok(())
    }

    fn archive(&self, segments: &[&Segment], uses: Use, last_message: u64) -> config::Archive {
        config::Archive {
            segments: segments.iter().map(|one| one.path.clone()).collect(),
            index_directory: self.index_directory.clone(),
            uses,
            is_strict: self.is_strict,
            last_message,
            awaits_legs: false,
        }
    }
}
