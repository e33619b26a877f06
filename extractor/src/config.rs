//! What a run is asked to do: below everything that reads it.

use std::{path::PathBuf, time::Duration};

use shared::units::SipPorts;

use crate::{
    calls::Rules,
    outputs::{Settings, uploads},
    packet::Decoder,
    segments::AfterProcessing,
    windows::Sizes,
};

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The captures.
    pub source: Source,
    /// Whether what runs before left is given up.
    pub resets: bool,
    /// How much input a unit of work has, where there is more.
    pub unit: UnitLen,
    /// How frames are taken apart.
    pub decoder: Decoder,
    /// Where SIP is looked for.
    pub sip_ports: SipPorts,
    /// The timers.
    pub rules: Rules,
    /// Where the results go.
    pub outputs: Settings,
    /// How they are uploaded, if they are.
    pub uploads: Option<uploads::Settings>,
    /// How much is worked on at once.
    pub sizes: Sizes,
}

/// Where captures come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files, which are one capture.
    Files(Vec<PathBuf>),
    /// Directories with segments.
    Directories(Directories),
}

/// Input directories, and what to do with what is in them.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Where they are: one for each capture point.
    pub paths: Vec<PathBuf>,
    /// Whether to stay and wait for segments.
    pub stays: bool,
    /// Whether what is open at the end is closed.
    pub closes_all: bool,
    /// What becomes of segments that are done with.
    pub after_processing: AfterProcessing,
    /// Whether copies of packets are left out.
    pub leaves_out_copies: bool,
    /// How long a capture point may be silent before it holds the others back no more.
    pub timeout: Duration,
}

/// How much input a unit of work has, where there is more.
#[derive(Clone, Copy, Debug, Default)]
pub enum UnitLen {
    /// A gibibyte; more where so much is carried over that to write it each time would cost too much.
    #[default]
    Usual,
    /// So many bytes: no value changes the result; tests use small ones.
    Exactly(u64),
}

impl UnitLen {
    /// How much there should be where so much is carried over, in bytes.
    #[must_use]
    pub fn wanted(self, carried_len: u64) -> u64 {
        match self {
            Self::Usual => (1 << 30).max(carried_len.saturating_mul(4)),
            Self::Exactly(len) => len,
        }
    }
}
