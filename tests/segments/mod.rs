//! Directories of segments: the results are those of the whole capture, byte for byte, wherever it
//! is cut, whenever the program is killed, and when segments, disks and clocks fail.
//!
//! `scripts/soak` runs these tests for longer: see `dice.rs`.

mod alike;
mod archive;
mod arrivals;
pub mod cuts;
pub mod directory;
mod disks;
mod drops;
pub mod everything;
mod faults;
mod golden;
mod kills;
pub mod lake;
mod merge;
mod places;
mod poison;
mod series;
mod state;
mod watch;
mod whole;
