//! The command `index`.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: tells directories from files"
)]

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Parser;

use super::common::{QuietArguments, ReadingArguments};
use crate::{progress::Verbosity, segments::list_usable, source::Scratch, stored::IndexTask};

/// Indexes segments: beside each, NAME.idx has its signalling and its calls, NAME.pos the positions
/// of its media. `find` looks into these files, and reads only the parts of segments that it needs.
///
/// SEGMENT is a capture, or a directory with captures. One that has an index is passed over.
///
/// Exit status: 0 all have an index; 1 none has; 2 wrong usage; 3 some have none (the log names
/// them).
#[derive(Debug, Parser)]
#[command(
    name = "sip-call-extractor index",
    bin_name = "sip-call-extractor index",
    version,
    max_term_width = 100
)]
#[command(override_usage = "sip-call-extractor index [OPTIONS] SEGMENT...")]
pub struct IndexArguments {
    /// Index all closed captures in this directory. May be repeated. A SEGMENT that is a directory
    /// means the same.
    #[arg(long, value_name = "DIR", required_unless_present = "segments")]
    input_dir: Vec<PathBuf>,

    #[arg(value_name = "SEGMENT", hide = true)]
    segments: Vec<PathBuf>,

    /// Write the indexes to this directory, and not beside the segments.
    #[arg(long, value_name = "DIR")]
    pub index_dir: Option<PathBuf>,

    /// Make indexes again that are there.
    #[arg(long)]
    again: bool,

    #[command(flatten)]
    reading: ReadingArguments,

    #[command(flatten)]
    quiet: QuietArguments,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,
}

impl IndexArguments {
    /// How much the log says.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.quiet.verbosity()
    }

    /// The directories that are written to.
    #[must_use]
    pub fn written(&self) -> Vec<PathBuf> {
        let of_file = |path: &PathBuf| {
            if path.is_dir() {
                return path.clone();
            }
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            parent.unwrap_or(Path::new(".")).to_owned()
        };
        let beside = self.input_dir.iter().chain(&self.segments).map(of_file);
        self.index_dir.clone().into_iter().chain(beside).collect()
    }

    /// The directory of temporary files for compressed captures.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        self.reading.scratch()
    }

    /// The task.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn task(self) -> io::Result<IndexTask> {
        let mut segments = Vec::new();
        for path in self.input_dir.iter().chain(&self.segments) {
            if path.is_dir() {
                let listed = list_usable(path)?;
                segments.extend(listed.into_iter().map(|listed| path.join(listed.name)));
            } else {
                segments.push(path.clone());
            }
        }
        Ok(IndexTask {
            segments,
            directory: self.index_dir,
            makes_again: self.again,
            decoder: self.reading.decoder.decoder(),
            sip_ports: self.reading.sip_ports_range,
        })
    }
}
