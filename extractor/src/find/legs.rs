//! The other legs of the conversations of calls that were found.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Result;
use serde_json::Value;

use super::{
    Task,
    archive::{Segment, call_id},
    candidates::Candidates,
    listed, run_until_ended,
};
use crate::{
    config::{Archive, Config},
    progress::Progress,
    selection::Selection,
    stored::Use,
};

/// Adds the records of all other legs to the records that were found. Returns the task for all of
/// them: flags that select calls were for those that were found.
///
/// Words of a query are in one leg, and the others may begin before it and end after it. So a run
/// over all that the indexes have follows the calls that were found until none can join their
/// conversations.
///
/// # Errors
/// The archive cannot be read.
pub(super) fn with_legs(
    task: &Task,
    segments: &[Segment],
    candidates: &mut Candidates,
    found: Vec<Value>,
    progress: &Progress,
) -> Result<(Task, Vec<Value>)> {
    let mut of_all = task.clone();
    let selection = &task.config.outputs.selection;
    of_all.config.outputs.selection = Selection {
        min_messages: selection.min_messages,
        has_no_files: selection.has_no_files,
        mutes_all: selection.mutes_all,
        cuts_media: selection.cuts_media,
        redacts_keys: selection.redacts_keys,
        muted: selection.muted.clone(),
        not_muted: selection.not_muted.clone(),
        ..Selection::default()
    };
    let ids: BTreeSet<Box<[u8]>> = found.iter().filter_map(call_id).collect();
    let legs = legs_of(&of_all, segments, candidates, &ids, progress)?;
    let others: BTreeSet<Box<[u8]>> = legs.difference(&ids).cloned().collect();
    if others.is_empty() {
        return Ok((of_all, found));
    }
    candidates.become_these(segments, &ids.union(&others).cloned().collect());
    // Segments that cannot be read are counted where the found calls are listed.
    let (mut records, _) = listed(&of_all, segments, candidates, progress)?;
    // A Call-ID may have been used for several calls, of which some were found.
    let is_other = |record: &Value| call_id(record).is_some_and(|id| others.contains(&id));
    records.retain(|record| is_other(record) || found.iter().any(|one| are_one(one, record)));
    Ok((of_all, records))
}

fn are_one(one: &Value, other: &Value) -> bool {
    ["call_id", "start_ns"]
        .iter()
        .all(|key| one.get(key) == other.get(key))
}

/// The Call-IDs of all legs of the conversations of these calls.
fn legs_of(
    task: &Task,
    segments: &[Segment],
    candidates: &Candidates,
    ids: &BTreeSet<Box<[u8]>>,
    progress: &Progress,
) -> Result<BTreeSet<Box<[u8]>>> {
    let directory = tempfile::tempdir()?;
    let mut config = Config {
        uploads: None,
        ..task.config.clone()
    };
    let outputs = &mut config.outputs;
    outputs.directory = directory.path().to_owned();
    outputs.writes_json = false;
    outputs.writes_conversations = true;
    outputs.tells_of_calls = false;
    outputs.syncs = false;
    outputs.selection.has_no_files = true;
    outputs.selection.only = Some(Arc::new(ids.clone()));
    // Media decide when a call without BYE closes, and so until when it can be linked.
    let sources = |behind_ns| {
        let around_ns = [task.lookback_ns, behind_ns];
        let source = candidates.archive(Some(ids), segments, task, around_ns, Use::All)?;
        Some(Archive {
            awaits_legs: true,
            ..source
        })
    };
    let report = run_until_ended(&config, sources, progress)?;
    Ok(report.map(|report| report.legs).unwrap_or_default())
}
