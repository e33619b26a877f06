//! The configuration of a run.

use std::{path::PathBuf, time::Duration};

use shared::units::{ByteSize, SipPorts};

use crate::{
    calls::{LinkRules, Rules},
    moment::Clock,
    outputs::{OutputSettings, uploads},
    packet::Decoder,
    report_page,
    segments::AfterProcessing,
    source::RemoteName,
    stored::{IndexTask, Use},
    windows::Sizes,
};

/// The configuration of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The captures.
    pub source: Source,
    /// True when the run discards the state of earlier runs.
    pub resets: bool,
    /// The most bytes that a capture may decompress to; `None` means as many as there is disk space
    /// for.
    pub max_decompressed: Option<ByteSize>,
    /// The length of a unit of work, if there is more input.
    pub unit: UnitLen,
    /// The decoder of frames.
    pub decoder: Decoder,
    /// The ports of SIP.
    pub sip_ports: SipPorts,
    /// The timers and limits of calls.
    pub rules: Rules,
    /// The links between calls that the user adds.
    pub links: LinkRules,
    /// The output directory and its files.
    pub outputs: OutputSettings,
    /// The report of the run, if it writes one.
    pub report: Option<report_page::Settings>,
    /// The upload settings, if files are uploaded.
    pub uploads: Option<uploads::UploadSettings>,
    /// The sizes of windows and chunks.
    pub sizes: Sizes,
    /// The indexes that are made of the captures, if the user wants them; its segments are those
    /// that the run has read.
    pub indexes: Option<IndexTask>,
}

/// The source of captures.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files, which form one capture.
    Files(Vec<PathBuf>),
    /// Segments with indexes, which form one capture.
    Archive(Archive),
    /// Directories with segments.
    Directories(Directories),
}

/// Segments with indexes, of which a few calls are wanted.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The segments of each series, in capture order.
    pub series: Vec<Vec<ArchivedSegment>>,
    /// True when later segments were left out, which are needed if the calls have not ended.
    pub is_cut: bool,
    /// The directory of the indexes, if they are not beside their segments.
    pub index_directory: Option<PathBuf>,
    /// The part of the indexes that is used.
    pub uses: Use,
    /// True when a segment whose index cannot be used is an error.
    pub is_strict: bool,
    /// Packet time at the last message of the calls that are wanted: when they have ended after it,
    /// the rest is not read.
    pub last_message: Clock,
    /// True when the rest is read until no call can join their conversations.
    pub awaits_legs: bool,
}

/// A segment of an archive.
#[derive(Clone, Debug)]
pub enum ArchivedSegment {
    /// A file.
    File(PathBuf),
    /// An object of a store.
    Object(Box<SegmentObjects>),
}

/// A segment in a store, and the objects beside it, if they are there.
#[derive(Clone, Debug)]
pub struct SegmentObjects {
    /// The segment.
    pub segment: RemoteName,
    /// Its index.
    pub index: Option<RemoteName>,
    /// The positions of its packets.
    pub positions: Option<RemoteName>,
    /// The object that says what was dropped in its time.
    pub drops: Option<RemoteName>,
}

impl ArchivedSegment {
    /// Its path, or its URI.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Object(objects) => objects.segment.name(),
        }
    }
}

impl Source {
    /// True when the run stays and waits for segments.
    #[must_use]
    pub fn stays(&self) -> bool {
        matches!(self, Self::Directories(directories) if directories.stays)
    }
}

/// Input directories, and the treatment of their segments.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Their paths, one for each capture point.
    pub paths: Vec<PathBuf>,
    /// True when the run stays and waits for segments.
    pub stays: bool,
    /// True when the run closes all open calls at its end.
    pub closes_all: bool,
    /// True when the run retries segments that were set aside.
    pub retries: bool,
    /// The action on processed segments.
    pub after_processing: AfterProcessing,
    /// True when the run leaves out copies of packets.
    pub leaves_out_copies: bool,
    /// The time after which a silent capture point no longer holds back the others.
    pub timeout: Duration,
}

/// The length of a unit of work, if there is more input.
#[derive(Clone, Copy, Debug, Default)]
pub enum UnitLen {
    /// A gibibyte; more if the carried-over state is so large that writing it each time would cost
    /// too much.
    #[default]
    Usual,
    /// This number of bytes, for tests. The value never changes the result.
    Exactly(u64),
}

impl UnitLen {
    /// The length in bytes that is worthwhile when this many bytes are carried over.
    #[must_use]
    pub fn wanted(self, carried_len: u64) -> u64 {
        match self {
            Self::Usual => (1 << 30).max(carried_len.saturating_mul(4)),
            Self::Exactly(len) => len,
        }
    }
}
