//! Directories of segments: whatever a capture is cut into, whenever the program is killed, whatever becomes of segments,
//! disks and clocks, the results are those of the whole capture, byte for byte.
//!
//! `scripts/soak` runs these tests for longer: see `dice.rs`.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that goes wrong may say so by ending"
)]
#![allow(missing_docs, unreachable_pub, reason = "test code explains itself by its use")]

mod arrivals;
mod cuts;
mod disks;
mod everything;
mod kills;
mod merge;
mod segments;
mod series;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod watch;
mod whole;

use support::{desk, dice, faults};
