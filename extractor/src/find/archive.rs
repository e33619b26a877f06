//! The segments of an archive, with the words of their calls.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads the archive, and the records of a run"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use rayon::prelude::*;
use serde_json::Value;
use shared::{
    index::{Summary, index_name, positions_name},
    s3_uri::S3Uri,
    segment::SegmentName,
};

use super::{Place, Task};
use crate::{
    config::{ArchivedSegment, SegmentObjects},
    outputs::{
        JSON_NAME,
        uploads::{ObjectReader, StoredObject},
    },
    segments::{Series, capture_order, is_capture_name, list_usable, whole_path},
    source::{InputError, RemoteName, RemoteStore, Scratch},
    stored::{Beside, SearchedObject, StoredFile, Use, made_words, make, open_segment, terms},
};

/// A segment of an archive.
#[derive(Debug)]
pub struct Segment {
    /// The file or the object.
    pub at: ArchivedSegment,
    /// The number of its place, and its series: segments of one are one capture. Packets of the
    /// same time are taken in this order.
    pub series: (usize, Series),
    /// The time of its first packet, in nanoseconds since 1970.
    pub first_ns: u64,
    /// Packet time at its end.
    pub last_clock: u64,
    /// The words of its calls; empty if it lies outside the time that is asked for.
    pub words: Vec<u8>,
}

/// A segment in a listing.
struct Found {
    /// The number of its place.
    place: usize,
    name: OsString,
    /// The length of its file, in bytes.
    len: u64,
    at: ArchivedSegment,
}

/// The segments whose indexes are asked for at once.
const GROUP: usize = 256;

/// The segments of the archive, series by series, in capture order, and the number of those that
/// cannot be read, which are logged. A segment without a usable index is indexed in memory.
pub(super) fn list(task: &Task, scratch: &Scratch) -> Result<(Vec<Segment>, u64)> {
    let mut all = Vec::new();
    let mut refused = 0u64;
    for group in found(task, scratch)?.chunks(GROUP) {
        let indexes = group.iter().map(|found| match &found.at {
            ArchivedSegment::Object(objects) if task.index_directory.is_none() => objects
                .index
                .clone()
                .filter(|_| objects.positions.is_some()),
            _ => None,
        });
        let indexes = SearchedObject::open_all(indexes);
        let read: Vec<Result<Option<(OsString, Segment)>>> = group
            .par_iter()
            .zip(indexes)
            .map(|(found, index)| segment(found, index, task, scratch))
            .collect();
        for one in read {
            match one? {
                Some(segment) => all.push(segment),
                None => refused = refused.saturating_add(1),
            }
        }
    }
    all.sort_by_cached_key(|(name, segment)| {
        let order = capture_order(name, || Some(segment.first_ns));
        (segment.series.clone(), order, segment.at.name())
    });
    let segments = all.into_iter().map(|(_, segment)| segment);
    Ok((segments.collect(), refused))
}

/// The segments in all places. A place that is named twice is one.
fn found(task: &Task, scratch: &Scratch) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let mut store = None;
    for (place, at) in task.places.iter().enumerate() {
        match at {
            Place::Directory(directory) => {
                if !seen.insert(whole_path(directory)) {
                    continue;
                }
                let listed = list_usable(directory)?.into_iter();
                all.extend(listed.map(|listed| Found {
                    place,
                    at: ArchivedSegment::File(directory.join(&listed.name)),
                    name: listed.name,
                    len: listed.size,
                }));
            }
            Place::Store(uri) => {
                if !seen.insert(uri.to_string().into()) {
                    continue;
                }
                let store = match &store {
                    Some(store) => Arc::clone(store),
                    None => Arc::clone(store.insert(open_store(task, scratch)?)),
                };
                all.extend(found_objects(place, uri, &store)?);
            }
        }
    }
    Ok(all)
}

fn open_store(task: &Task, scratch: &Scratch) -> Result<Arc<RemoteStore>> {
    let settings = task.store.clone().context("the store has no settings")?;
    let reader = ObjectReader::new(settings)?;
    Ok(Arc::new(RemoteStore::new(reader, scratch)?))
}

/// The segments directly below a prefix, with the objects beside them.
fn found_objects(place: usize, uri: &S3Uri, store: &Arc<RemoteStore>) -> Result<Vec<Found>> {
    let objects: BTreeMap<OsString, StoredObject> = store
        .list(uri)?
        .into_iter()
        .map(|object| (OsString::from(&object.name), object))
        .collect();
    let named = |name: &OsStr| {
        Some(RemoteName {
            store: Arc::clone(store),
            place: uri.clone(),
            object: objects.get(name)?.clone(),
        })
    };
    let segments = objects.keys().filter(|name| is_capture_name(name));
    let found = segments.filter_map(|name| {
        let segment = named(name)?;
        let drops = SegmentName::of_capture(name)
            .and_then(|segment| named(OsStr::new(&segment.drops_file_name())));
        Some(Found {
            place,
            name: name.clone(),
            len: segment.object.len,
            at: ArchivedSegment::Object(Box::new(SegmentObjects {
                index: named(&index_name(name)),
                positions: named(&positions_name(name)),
                drops,
                segment,
            })),
        })
    });
    Ok(found.collect())
}

/// A segment with its name, and its words; `None` if it cannot be read, which is logged.
fn segment(
    found: &Found,
    index: Option<Result<SearchedObject, InputError>>,
    task: &Task,
    scratch: &Scratch,
) -> Result<Option<(OsString, Segment)>> {
    let (summary, words) = match of_index(found, index, task) {
        Ok(read) => read,
        Err(why) if task.is_strict => {
            bail!("{} has no index that can be used: {why}", found.at.name())
        }
        Err(why) => {
            tracing::warn!(
                "{} is read, because its index cannot be used: {why}",
                found.at.name()
            );
            match of_segment(&found.at, task, scratch) {
                Ok(read) => read,
                Err(error) => {
                    tracing::error!("{} is not used: {error}", found.at.name());
                    return Ok(None);
                }
            }
        }
    };
    let segment = Segment {
        series: (found.place, Series::named(&found.name)),
        first_ns: summary.first_ns.unwrap_or(summary.last_clock),
        last_clock: summary.last_clock,
        at: found.at.clone(),
        words,
    };
    Ok(Some((found.name.clone(), segment)))
}

fn of_index(
    found: &Found,
    index: Option<Result<SearchedObject, InputError>>,
    task: &Task,
) -> Result<(Summary, Vec<u8>), String> {
    let (summary, words) = if let Some(index) = index {
        let index = index.map_err(|error| error.to_string())?;
        index.read(|summary| is_in_time(summary, task))?
    } else {
        let beside = Beside::of(&found.at, task.index_directory.as_deref());
        let files =
            StoredFile::open(&beside, Use::Signalling).map_err(|error| error.to_string())?;
        let files =
            files.ok_or_else(|| format!("there is no {} with its positions", beside.name()))?;
        let summary = files.summary().map_err(|error| error.to_string())?;
        let words = if is_in_time(&summary, task) {
            files.words().map_err(|error| error.to_string())?
        } else {
            Vec::new()
        };
        (summary, words)
    };
    let config = &task.config;
    if summary.terms != terms(&config.decoder, config.sip_ports) {
        return Err(format!("it was made on other terms ({})", summary.terms));
    }
    if summary.file_len != found.len {
        return Err("the segment has changed since".to_owned());
    }
    Ok((summary, words))
}

fn of_segment(at: &ArchivedSegment, task: &Task, scratch: &Scratch) -> Result<(Summary, Vec<u8>)> {
    let input = open_segment(at, scratch)?;
    input.fetch(0..input.bytes().len());
    if let Some(trouble) = input.trouble() {
        bail!(trouble);
    }
    let config = &task.config;
    let made = make(&input, 0, &[], &config.decoder, config.sip_ports);
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
