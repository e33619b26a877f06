//! The command `explain`.

use std::{env, path::PathBuf};

use clap::{Args, Parser};
use regex::bytes::Regex;

use super::{
    common::{QuietArguments, ReadingArguments, SizeArguments},
    timers::TimerArguments,
};
use crate::{calls::Wanted, explain::Task, progress::Verbosity};

/// Explains a call of a capture: its messages, the endpoints of its media, which packets it has and
/// why, which it does not have and why, what is missing, and what to do.
///
/// FILE is a capture; several are one capture, in the order of their first packets. Nothing is
/// written but the text on standard output.
///
/// Exit status: 0 the call was found; 1 it was not, or no input can be used; 2 wrong usage.
#[derive(Debug, Parser)]
#[command(
    name = "sip-call-extractor explain",
    bin_name = "sip-call-extractor explain",
    version,
    max_term_width = 100
)]
#[command(override_usage = "sip-call-extractor explain --call-id ID [OPTIONS] FILE...")]
pub struct ExplainArguments {
    /// The call with this Call-ID; if there is none, the calls whose Call-ID matches this text as a
    /// regular expression.
    #[arg(long, value_name = "ID")]
    call_id: String,

    /// Explain at most this many calls, in the order in which they open.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    most: u16,

    /// Lines of at most this many columns; without it, those of the terminal, or 100.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(60..))]
    pub columns: Option<u16>,

    #[command(flatten, next_help_heading = "Input")]
    input: ExplainInput,

    #[command(flatten, next_help_heading = "Calls and timers")]
    timers: TimerArguments,

    #[command(flatten, next_help_heading = "Logging")]
    quiet: QuietArguments,

    #[command(flatten)]
    sizes: SizeArguments,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,
}

#[derive(Clone, Debug, Args)]
struct ExplainInput {
    /// Read this capture: pcap or pcapng, plain or compressed with gzip or zstd; `-` is standard
    /// input.
    ///
    /// May be repeated. A FILE without a flag means the same. A pipe or a compressed file is first
    /// written, decompressed, to a nameless file in the directory for temporary files (TMPDIR).
    #[arg(long, short, value_name = "FILE", required_unless_present = "files")]
    input_file: Vec<PathBuf>,

    #[arg(value_name = "FILE", hide = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    reading: ReadingArguments,
}

impl ExplainArguments {
    /// How much the log says.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.quiet.verbosity()
    }

    /// The task.
    #[must_use]
    pub fn task(self) -> Task {
        let Self { input, .. } = self;
        Task {
            files: input.input_file.into_iter().chain(input.files).collect(),
            wanted: Wanted {
                pattern: Regex::new(&self.call_id).ok(),
                text: self.call_id,
                most: self.most.into(),
            },
            links: self.timers.links(),
            rules: self.timers.rules(),
            decoder: input.reading.decoder.decoder(),
            sip_ports: input.reading.sip_ports_range,
            sizes: self.sizes.sizes(),
            scratch: env::temp_dir(),
            max_decompressed: input.reading.max_decompressed,
        }
    }
}
