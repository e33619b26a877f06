//! The command `index`.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: tells directories from files"
)]

use std::{
    env, io,
    path::{Path, PathBuf},
};

use clap::Parser;
use shared::units::{ByteSize, SipPorts};

use super::input::DecoderArguments;
use crate::{
    progress::Verbosity,
    segments::list,
    source::{Scratch, shown},
    stored::IndexTask,
};

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

    /// Do not read a compressed capture that is larger than this when decompressed, such as 20GiB.
    #[arg(long, value_name = "SIZE")]
    max_decompressed: Option<ByteSize>,

    /// Look for SIP on these ports: START-END, one port, or `any`.
    #[arg(long, value_name = "START-END", default_value = "any")]
    sip_ports_range: SipPorts,

    #[command(flatten)]
    decoder: DecoderArguments,

    /// Log errors only.
    #[arg(long, short)]
    quiet: bool,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,
}

impl IndexArguments {
    /// How much the log says.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        if self.quiet {
            Verbosity::Quiet
        } else {
            Verbosity::Usual
        }
    }

    /// The directories that are written to.
    #[must_use]
    pub fn written(&self) -> Vec<PathBuf> {
        let of_file = |path: &PathBuf| {
            let parent = path.parent().unwrap_or(Path::new("."));
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            if path.is_dir() {
                path.clone()
            } else {
                parent.to_owned()
            }
        };
        let beside = self.input_dir.iter().chain(&self.segments).map(of_file);
        self.index_dir.clone().into_iter().chain(beside).collect()
    }

    /// The directory of temporary files for compressed captures.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        Scratch::new(&env::temp_dir(), self.max_decompressed)
    }

    /// The task.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn task(self) -> io::Result<IndexTask> {
        let mut segments = Vec::new();
        for path in self.input_dir.iter().chain(&self.segments) {
            if path.is_dir() {
                let refused = |path: &Path, error: &io::Error| {
                    tracing::error!("{} is not used: {error}", shown(path));
                };
                let listed = list(path, refused)?;
                segments.extend(listed.into_iter().map(|listed| path.join(listed.name)));
            } else {
                segments.push(path.clone());
            }
        }
        Ok(IndexTask {
            segments,
            directory: self.index_dir,
            makes_again: self.again,
            decoder: self.decoder.decoder(),
            sip_ports: self.sip_ports_range,
        })
    }
}
