//! Index files: what the extractor finds in a segment, beside the segment.
//!
//! `<segment>.idx` has the signalling, the flows and the words of a segment, `<segment>.pos` the
//! positions of the flows' packets. `docs/index-format.md` describes both. Nothing here knows SIP:
//! the agent only deletes these files with their segment.
//!
//! All of it is pure, and no length in a file is believed: it is compared with the bytes that are
//! there before anything is allocated.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        reason = "tests count on small numbers"
    )
)]

mod blocks;
mod bytes;
mod container;
mod events;
mod flows;
mod packets;
mod restarts;
mod summary;

use std::ffi::{OsStr, OsString};

pub use self::{
    blocks::{Part, StoredBlock, read_blocks, write_blocks},
    bytes::{Cursor, put_signed, put_varint},
    container::{Coding, Container, IndexError, Section, write},
    events::{EventWriter, Events, Passed, PassedWriter, StoredRecord, passed},
    flows::{StoredFlow, read_flows, write_flows},
    packets::{read_numbers, read_packets, write_numbers, write_packets},
    restarts::{Known, Restart, read_restarts, write_restarts},
    summary::{Identity, Summary, Timing},
};

/// The version of the format. A file of another version is not used.
pub const VERSION: u32 = 2;

/// The first bytes of a `.idx` file.
pub const INDEX_MAGIC: [u8; 8] = *b"SIPIDX\r\n";

/// The first bytes of a `.pos` file.
pub const POSITIONS_MAGIC: [u8; 8] = *b"SIPPOS\r\n";

/// The sections of an index.
pub mod section {
    /// The summary of the segment, in a `.idx` file.
    pub const SUMMARY: u32 = 1;
    /// The words of its calls, in a `.idx` file.
    pub const WORDS: u32 = 2;
    /// The records that carry signalling, or may, in a `.idx` file.
    pub const EVENTS: u32 = 3;
    /// Other TCP segments, in a `.idx` file.
    pub const PASSED: u32 = 4;
    /// The directory of flows, in a `.idx` file.
    pub const FLOWS: u32 = 5;
    /// The table of the flows' packets, in a `.pos` file.
    pub const PACKETS: u32 = 6;
    /// The directory of that table's blocks, in a `.pos` file.
    pub const BLOCKS: u32 = 7;
    /// The numbers of each flow's packets in that table, in a `.pos` file.
    pub const NUMBERS: u32 = 8;
    /// The points at which decompression can begin, in the `.pos` file of a compressed segment.
    pub const RESTARTS: u32 = 9;
}

const INDEX_ENDING: &str = ".idx";
const POSITIONS_ENDING: &str = ".pos";

/// The name of a segment's index.
#[must_use]
pub fn index_name(segment: &OsStr) -> OsString {
    with_ending(segment, INDEX_ENDING)
}

/// The name of the positions of a segment's packets.
#[must_use]
pub fn positions_name(segment: &OsStr) -> OsString {
    with_ending(segment, POSITIONS_ENDING)
}

/// The names of both files.
#[must_use]
pub fn names(segment: &OsStr) -> [OsString; 2] {
    [index_name(segment), positions_name(segment)]
}

fn with_ending(segment: &OsStr, ending: &str) -> OsString {
    let mut name = segment.to_owned();
    name.push(ending);
    name
}
