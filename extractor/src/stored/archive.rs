//! Segments with their indexes, as the inputs of a run.

use anyhow::{Result, bail};
use rayon::prelude::*;
use shared::index::IndexError;

use super::{Beside, Stored, StoredFile, Use, not_used, terms};
use crate::{
    config::{Archive, ArchivedSegment, Config},
    source::{Input, InputError, Scratch},
};

/// Opens the segments of an archive, series by series, each with its index if that can stand for
/// it. A segment that cannot be read is named and left out; the number of these comes with the
/// inputs.
///
/// # Errors
/// An index cannot be used, and the archive is strict.
pub fn open(
    archive: &Archive,
    config: &Config,
    scratch: &Scratch,
) -> Result<(Vec<Vec<Input>>, u64)> {
    let open_all = || {
        let mut refused = 0u64;
        let mut all = Vec::new();
        for segments in &archive.series {
            let inputs = open_series(segments, archive, config, scratch, &mut refused)?;
            all.extend(Some(inputs).filter(|inputs| !inputs.is_empty()));
        }
        Ok((all, refused))
    };
    let mut segments = archive.series.iter().flatten();
    if !segments.any(|segment| matches!(segment, ArchivedSegment::Object(_))) {
        return open_all();
    }
    // A thread waits for the store nearly all the time.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(STORE_THREADS);
    threads.build()?.install(open_all)
}

/// The segments in a store that are opened at the same time.
const STORE_THREADS: usize = 32;

fn open_series(
    segments: &[ArchivedSegment],
    archive: &Archive,
    config: &Config,
    scratch: &Scratch,
    refused: &mut u64,
) -> Result<Vec<Input>> {
    let terms = terms(&config.decoder, config.sip_ports);
    let opened: Vec<Result<Result<Input, InputError>>> = segments
        .par_iter()
        .map(|segment| {
            let beside = Beside::of(segment, archive.index_directory.as_deref());
            let in_parts = open_in_parts(segment, &beside, scratch);
            let input = match in_parts.map_or_else(|| open_segment(segment, scratch), Ok) {
                Ok(input) => input,
                Err(error) => return Ok(Err(error)),
            };
            let stored = match stored(&beside, &input, archive, &terms) {
                Ok(stored) => stored,
                Err(why) if archive.is_strict => bail!("{}: {why}", beside.name()),
                Err(why) => {
                    not_used(&beside.name(), &why);
                    None
                }
            };
            let is_sound = |stored: &Stored| {
                let chunk = stored.chunk(0, input.bytes(), &config.decoder, config.sip_ports);
                chunk.is_some()
            };
            if archive.is_strict && stored.as_ref().is_some_and(|stored| !is_sound(stored)) {
                bail!("{} cannot be used", beside.name());
            }
            Ok(Ok(input.with_stored(stored)))
        })
        .collect();
    let mut inputs = Vec::new();
    for (segment, opened) in segments.iter().zip(opened) {
        match opened? {
            Ok(input) => inputs.push(input),
            Err(error) => {
                *refused = refused.saturating_add(1);
                tracing::error!("{} is not used: {error}", segment.name());
            }
        }
    }
    Ok(inputs)
}

/// Opens a compressed segment whose index knows several points at which decompression can begin, so
/// that not all of it has to be decompressed. `None` if it has to be, in a store, too.
fn open_in_parts(segment: &ArchivedSegment, beside: &Beside, scratch: &Scratch) -> Option<Input> {
    let ArchivedSegment::File(path) = segment else {
        return None;
    };
    let files = StoredFile::open(beside, Use::All).ok().flatten()?;
    let restarts = files.restarts().ok()?;
    if restarts.len() < 2 {
        return None;
    }
    let summary = files.summary().ok()?;
    let lengths = [summary.file_len, summary.identity.len];
    let input = Input::of_packed_segment(path, restarts, lengths, scratch);
    input
        .inspect_err(|error| tracing::warn!("{} is decompressed whole: {error}", segment.name()))
        .ok()
}

/// Opens a segment of an archive.
///
/// # Errors
/// It cannot be read, or is no capture.
pub fn open_segment(segment: &ArchivedSegment, scratch: &Scratch) -> Result<Input, InputError> {
    match segment {
        ArchivedSegment::File(path) => Input::of_segment(path, scratch, 0, false),
        ArchivedSegment::Object(objects) => {
            Input::of_object(objects.segment.clone(), objects.drops.clone(), scratch)
        }
    }
}

/// The index that stands for a segment, if there is one that can.
fn stored(
    beside: &Beside,
    input: &Input,
    archive: &Archive,
    terms: &str,
) -> Result<Option<Stored>, String> {
    let files = StoredFile::open(beside, archive.uses).map_err(|error| error.to_string())?;
    let Some(files) = files else {
        // The search has said so.
        let is_missing = Err("it is not there, or its positions are not".to_owned());
        return if archive.is_strict {
            is_missing
        } else {
            Ok(None)
        };
    };
    let extent = [input.bytes().len(), input.start()];
    let stored = Stored::of(files, extent, terms, archive.uses);
    stored.map_err(|error: IndexError| error.to_string())
}
