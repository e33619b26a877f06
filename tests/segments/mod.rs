//! Directories of segments: whatever a capture is cut into, whenever the program is killed,
//! whatever becomes of segments, disks and clocks, the results are those of the whole capture, byte
//! for byte.
//!
//! `scripts/soak` runs these tests for longer: see `dice.rs`.

mod alike;
mod arrivals;
mod cuts;
mod directory;
mod disks;
mod everything;
mod faults;
mod golden;
mod kills;
mod merge;
mod poison;
mod series;
mod state;
mod watch;
mod whole;
