//! Segments with their indexes, as the inputs of a run.

use std::path::Path;

use rayon::prelude::*;

use super::{Places, Stored, StoredFile, not_used, terms};
use crate::{
    config::{Archive, Config},
    source::{Input, InputError, Scratch, shown},
};

/// Opens the segments of an archive, each with its index if that can stand for it. A segment that
/// cannot be read is named and left out; the number of these comes with the inputs.
#[must_use]
pub fn open(archive: &Archive, config: &Config, scratch: &Scratch) -> (Vec<Input>, u64) {
    let terms = terms(&config.decoder, config.sip_ports);
    let opened: Vec<Result<Input, InputError>> = archive
        .segments
        .par_iter()
        .map(|path| {
            let input = Input::of_segment(path, scratch, 0, false)?;
            let stored = stored(path, &input, archive, &terms);
            Ok(input.with_stored(stored))
        })
        .collect();
    let mut refused = 0u64;
    let mut inputs = Vec::new();
    for (path, opened) in archive.segments.iter().zip(opened) {
        match opened {
            Ok(input) => inputs.push(input),
            Err(error) => {
                refused = refused.saturating_add(1);
                tracing::error!("{} is not used: {error}", shown(path));
            }
        }
    }
    (inputs, refused)
}

/// The index that stands for a segment, if there is one.
fn stored(segment: &Path, input: &Input, archive: &Archive, terms: &str) -> Option<Stored> {
    let places = Places::of(segment, archive.index_directory.as_deref());
    let name = places.index.display().to_string();
    let files = match StoredFile::open(&places) {
        Ok(files) => files?,
        Err(error) => {
            not_used(&name, &error);
            return None;
        }
    };
    let extent = [input.bytes().len(), input.start()];
    Stored::of(files, extent, terms, archive.uses)
        .inspect_err(|error| not_used(&name, error))
        .ok()
        .flatten()
}
