//! The task of a run, below everything that reads it.

use std::{path::PathBuf, time::Duration};

use shared::units::{ByteSize, SipPorts};

use crate::{
    calls::Rules,
    outputs::{Settings, uploads},
    packet::Decoder,
    segments::AfterProcessing,
    windows::Sizes,
};

/// The task of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The captures.
    pub source: Source,
    /// The run gives up what earlier runs left.
    pub resets: bool,
    /// The most bytes that a capture may have when it is decompressed; if nothing is said, as many
    /// as there is room for.
    pub max_decompressed: Option<ByteSize>,
    /// The input of a unit of work, where there is more.
    pub unit: UnitLen,
    /// The decoder of frames.
    pub decoder: Decoder,
    /// The ports on which SIP is looked for.
    pub sip_ports: SipPorts,
    /// The timers.
    pub rules: Rules,
    /// The output directory and its files.
    pub outputs: Settings,
    /// The store that they are uploaded to, if they are.
    pub uploads: Option<uploads::Settings>,
    /// The amounts that are worked on at once.
    pub sizes: Sizes,
}

/// The origin of captures.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files, which are one capture.
    Files(Vec<PathBuf>),
    /// Directories with segments.
    Directories(Directories),
}

impl Source {
    /// The run stays and waits for segments.
    #[must_use]
    pub fn stays(&self) -> bool {
        matches!(self, Self::Directories(directories) if directories.stays)
    }
}

/// Input directories, and what to do with what is in them.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Their paths: one for each capture point.
    pub paths: Vec<PathBuf>,
    /// The run stays and waits for segments.
    pub stays: bool,
    /// The run closes what is open at its end.
    pub closes_all: bool,
    /// The run tries what was set aside again.
    pub retries: bool,
    /// The fate of segments that are done with.
    pub after_processing: AfterProcessing,
    /// The run leaves out copies of packets.
    pub leaves_out_copies: bool,
    /// The silence after which a capture point holds the others back no more.
    pub timeout: Duration,
}

/// The input of a unit of work, where there is more.
#[derive(Clone, Copy, Debug, Default)]
pub enum UnitLen {
    /// A gibibyte; more where so much is carried over that to write it each time would cost too
    /// much.
    #[default]
    Usual,
    /// So many bytes: no value changes the result; tests use small ones.
    Exactly(u64),
}

impl UnitLen {
    /// The length in bytes that pays where so many are carried over.
    #[must_use]
    pub fn wanted(self, carried_len: u64) -> u64 {
        match self {
            Self::Usual => (1 << 30).max(carried_len.saturating_mul(4)),
            Self::Exactly(len) => len,
        }
    }
}
