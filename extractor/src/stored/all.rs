//! The indexes of many segments.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: asks for the lengths of segments"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rayon::prelude::*;
use shared::{
    index::{Identity, Restart},
    units::SipPorts,
};

use super::{Beside, Made, Places, Stored, StoredFile, Use, make, not_used, terms, write};
use crate::{
    packet::Decoder,
    source::{Input, InputError, Map, Scratch, restarts_of, shown},
};

/// The task of `index`.
#[derive(Clone, Debug)]
pub struct IndexTask {
    /// The segments.
    pub segments: Vec<PathBuf>,
    /// The directory of the indexes, if they are not beside their segments.
    pub directory: Option<PathBuf>,
    /// True when indexes that are there are made again.
    pub makes_again: bool,
    /// The decoder of frames.
    pub decoder: Decoder,
    /// The ports of SIP.
    pub sip_ports: SipPorts,
}

/// The numbers of segments and bytes of an `index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Segments that were indexed.
    pub made: u64,
    /// Segments whose index was there.
    pub there: u64,
    /// Segments that could not be read, or whose index could not be written.
    pub failed: u64,
    /// The bytes of the segments that were indexed.
    pub segment_bytes: u64,
    /// The bytes of their indexes.
    pub index_bytes: u64,
}

/// Indexes segments, several at a time. What cannot be done is logged.
#[must_use]
pub fn index_all(task: &IndexTask, scratch: &Scratch) -> Totals {
    let [made, there, failed, segment_bytes, index_bytes] = [const { AtomicU64::new(0) }; 5];
    let add = |to: &AtomicU64, more: u64| to.fetch_add(more, Ordering::Relaxed);
    task.segments
        .par_iter()
        .for_each(|segment| match index_one(segment, task, scratch) {
            Ok(Some((of_segment, of_index))) => {
                add(&made, 1);
                add(&segment_bytes, of_segment);
                add(&index_bytes, of_index);
            }
            Ok(None) => {
                add(&there, 1);
            }
            Err(error) => {
                add(&failed, 1);
                tracing::error!("{} has no index: {error}", shown(segment));
            }
        });
    let got = |from: &AtomicU64| from.load(Ordering::Relaxed);
    Totals {
        made: got(&made),
        there: got(&there),
        failed: got(&failed),
        segment_bytes: got(&segment_bytes),
        index_bytes: got(&index_bytes),
    }
}

/// Indexes a segment. Returns the lengths of the segment and its index, or `None` if it has one.
fn index_one(
    segment: &Path,
    task: &IndexTask,
    scratch: &Scratch,
) -> Result<Option<(u64, u64)>, InputError> {
    let failed = |error: std::io::Error| InputError::of(&error, error.to_string());
    let places = Places::of(segment, task.directory.as_deref());
    let file_len = fs::metadata(segment).map_err(failed)?.len();
    let input = Input::of_segment(segment, scratch, 0, false)?;
    if !task.makes_again && is_indexed(&places, &input, task) {
        return Ok(None);
    }
    let made = make_of(&input, segment, file_len, task);
    write(&made, &places).map_err(failed)?;
    let len = made.index.len().saturating_add(made.positions.len());
    Ok(Some((input.bytes().len() as u64, len as u64)))
}

/// Makes the index of a segment that was opened from `path`, a file of this length.
fn make_of(input: &Input, path: &Path, file_len: u64, task: &IndexTask) -> Made {
    let restarts = || -> Option<Vec<Restart>> {
        let file = fs::File::open(path).ok()?;
        restarts_of(Map::of(&file, path).ok()?.bytes())
    };
    let restarts = if input.is_unpacked() {
        restarts().unwrap_or_default()
    } else {
        Vec::new()
    };
    make(input, file_len, &restarts, &task.decoder, task.sip_ports)
}

/// Indexes a segment that was opened from `path`, a file of this length, unless it has an index. That
/// then stands for it. If it cannot be written, the segment is read, after a warning.
#[must_use]
pub fn index_input(input: Input, path: &Path, file_len: u64, task: &IndexTask) -> Input {
    let places = Places::of(path, task.directory.as_deref());
    let index = || -> Result<Option<Stored>, String> {
        if !is_indexed(&places, &input, task) {
            let made = make_of(&input, path, file_len, task);
            write(&made, &places).map_err(|error| error.to_string())?;
        }
        let beside = Beside::Files(places.clone());
        let files = StoredFile::open(&beside, Use::All).map_err(|error| error.to_string())?;
        let files = files.ok_or("it is gone again")?;
        let extent = [input.bytes().len(), input.start()];
        let terms = terms(&task.decoder, task.sip_ports);
        Stored::of(files, extent, &terms, Use::All).map_err(|error| error.to_string())
    };
    match index() {
        Ok(stored) => input.with_stored(stored),
        Err(why) => {
            not_used(&shown(&places.index), &why);
            input
        }
    }
}

/// True if the index is there, and is that of the segment on the same terms.
fn is_indexed(places: &Places, input: &Input, task: &IndexTask) -> bool {
    let files = StoredFile::open(&Beside::Files(places.clone()), Use::All)
        .ok()
        .flatten();
    let summary = files.and_then(|files| files.summary().ok());
    summary.is_some_and(|summary| {
        summary.terms == terms(&task.decoder, task.sip_ports)
            && summary.identity == Identity::of(input.bytes())
    })
}
