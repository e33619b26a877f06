//! The segments of an archive, with the words of their calls.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads the archive, and the records of a run"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use rayon::prelude::*;
use serde_json::Value;
use shared::index::Summary;

use super::Task;
use crate::{
    outputs::JSON_NAME,
    segments::{Listed, Series, capture_order, list_usable, whole_path},
    source::{Input, Scratch},
    stored::{Places, StoredFile, made_words, make, terms},
};

/// A segment of an archive.
#[derive(Debug)]
pub struct Segment {
    /// The file.
    pub path: PathBuf,
    /// The number of its directory, and its series: segments of one are one capture. Packets of the
    /// same time are taken in this order.
    pub series: (usize, Series),
    /// The time of its first packet, in nanoseconds since 1970.
    pub first_ns: u64,
    /// Packet time at its end.
    pub last_clock: u64,
    /// True when its file is compressed.
    pub is_packed: bool,
    /// The words of its calls; empty if it lies outside the time that is asked for.
    pub words: Vec<u8>,
}

/// The segments of the archive, series by series, in capture order. A segment without a usable
/// index is indexed in memory.
pub(super) fn list(task: &Task, scratch: &Scratch) -> Result<Vec<Segment>> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, directory) in task.directories.iter().enumerate() {
        if !seen.insert(whole_path(directory)) {
            continue;
        }
        let listed = list_usable(directory)?;
        let numbered = listed.into_iter().map(|listed| (number, listed));
        all.extend(numbered.map(|(number, listed)| (number, directory, listed)));
    }
    let found: Vec<Result<Option<Segment>>> = all
        .par_iter()
        .map(|(number, directory, listed)| segment((*number, directory), listed, task, scratch))
        .collect();
    let mut all = Vec::new();
    for one in found {
        all.extend(one?);
    }
    all.sort_by_cached_key(|segment: &Segment| {
        let name = segment.path.file_name().unwrap_or_default();
        (
            segment.series.clone(),
            capture_order(name, || Some(segment.first_ns)),
            segment.path.clone(),
        )
    });
    Ok(all)
}

/// A segment, and its words; `None` if it cannot be read, which is logged.
fn segment(
    (number, directory): (usize, &Path),
    listed: &Listed,
    task: &Task,
    scratch: &Scratch,
) -> Result<Option<Segment>> {
    let path = directory.join(&listed.name);
    let (summary, words) = match of_index(&path, listed, task) {
        Ok(found) => found,
        Err(why) if task.is_strict => {
            bail!("{} has no index that can be used: {why}", path.display())
        }
        Err(why) => {
            tracing::warn!(
                "{} is read, because its index cannot be used: {why}",
                path.display()
            );
            match of_segment(&path, task, scratch) {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!("{} is not used: {error}", path.display());
                    return Ok(None);
                }
            }
        }
    };
    Ok(Some(Segment {
        series: (number, Series::named(&listed.name)),
        first_ns: summary.first_ns.unwrap_or(summary.last_clock),
        last_clock: summary.last_clock,
        is_packed: summary.file_len != summary.identity.len,
        path,
        words,
    }))
}

fn of_index(path: &Path, listed: &Listed, task: &Task) -> Result<(Summary, Vec<u8>), String> {
    let places = Places::of(path, task.index_directory.as_deref());
    let files = StoredFile::open(&places).map_err(|error| error.to_string())?;
    let files = files
        .ok_or_else(|| format!("there is no {} with its positions", places.index.display()))?;
    let summary = files.summary().map_err(|error| error.to_string())?;
    let config = &task.config;
    if summary.terms != terms(&config.decoder, config.sip_ports) {
        return Err(format!("it was made on other terms ({})", summary.terms));
    }
    if summary.file_len != listed.size {
        return Err("the segment has changed since".to_owned());
    }
    let words = if is_in_time(&summary, task) {
        files.words().map_err(|error| error.to_string())?
    } else {
        Vec::new()
    };
    Ok((summary, words))
}

fn of_segment(path: &Path, task: &Task, scratch: &Scratch) -> Result<(Summary, Vec<u8>)> {
    let input = Input::of_segment(path, scratch, 0, false)?;
    let config = &task.config;
    let made = make(&input, 0, &config.decoder, config.sip_ports);
    made_words(&made).context("its index cannot be made")
}

/// True if calls that overlap the time that is asked for may have messages in a segment.
fn is_in_time(summary: &Summary, task: &Task) -> bool {
    let selection = &task.config.outputs.selection;
    let lookback = i128::from(task.lookback_ns);
    let begins = i128::from(summary.first_ns.unwrap_or(0));
    let is_late = selection.since.as_ref().is_none_or(|since| {
        let from = since.at.as_nanosecond().saturating_sub(lookback);
        i128::from(summary.last_clock) >= from
    });
    let is_early = |until: &crate::selection::Named| begins <= until.at.as_nanosecond();
    is_late && selection.until.as_ref().is_none_or(is_early)
}

/// The records that a run wrote to a directory.
pub(super) fn records(directory: &Path) -> Result<Vec<Value>> {
    let path = directory.join(JSON_NAME);
    let text = fs::read_to_string(&path).context("the records cannot be read")?;
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).context("a record cannot be read"))
        .collect()
}

/// The Call-ID of a record.
pub(super) fn call_id(record: &Value) -> Option<Box<[u8]>> {
    let exact = record.get("call_id_b64").and_then(Value::as_str);
    if let Some(exact) = exact.and_then(|exact| BASE64_STANDARD.decode(exact).ok()) {
        return Some(exact.into());
    }
    let text = record.get("call_id")?.as_str()?;
    Some(text.as_bytes().into())
}
