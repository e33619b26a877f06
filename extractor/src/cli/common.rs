//! Flags that several commands have.

use std::env;

use clap::Args;
use shared::units::{ByteSize, SipPorts};

use super::input::DecoderArguments;
use crate::{progress::Verbosity, source::Scratch, windows::Sizes};

/// How much a command logs that has a result to print.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct QuietArguments {
    /// Log errors only.
    #[arg(long, short)]
    quiet: bool,
}

impl QuietArguments {
    pub(super) fn verbosity(self) -> Verbosity {
        if self.quiet {
            Verbosity::Quiet
        } else {
            Verbosity::Usual
        }
    }
}

/// How captures are read that a command looks into.
#[derive(Clone, Debug, Args)]
pub(super) struct ReadingArguments {
    /// Do not read a compressed capture that is larger than this when decompressed, such as 20GiB.
    #[arg(long, value_name = "SIZE")]
    pub(super) max_decompressed: Option<ByteSize>,

    /// Look for SIP on these ports: START-END, one port, or `any`.
    #[arg(long, value_name = "START-END", default_value = "any")]
    pub(super) sip_ports_range: SipPorts,

    #[command(flatten)]
    pub(super) decoder: DecoderArguments,
}

impl ReadingArguments {
    /// The directory of temporary files for compressed captures.
    pub(super) fn scratch(&self) -> Scratch {
        Scratch::new(&env::temp_dir(), self.max_decompressed)
    }
}

/// How much the engine takes at a time. No value changes the result; tests use small ones.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct SizeArguments {
    /// Bytes of input in a window.
    #[arg(long, value_name = "BYTES", hide = true)]
    window_bytes: Option<usize>,

    /// Bytes of input that one thread indexes at a time.
    #[arg(long, value_name = "BYTES", hide = true)]
    chunk_bytes: Option<usize>,

    /// Bytes of memory for the index of a window, about.
    #[arg(long, value_name = "BYTES", hide = true)]
    index_bytes: Option<usize>,
}

impl SizeArguments {
    pub(super) fn sizes(self) -> Sizes {
        let usual = Sizes::default();
        Sizes {
            window: self.window_bytes.map_or(usual.window, |size| size..=size),
            chunk: self.chunk_bytes,
            index: self.index_bytes.unwrap_or(usual.index),
        }
    }
}
