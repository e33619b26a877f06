//! What the capture agent and the call extractor must agree on, and nothing else.
//!
//! The agent writes capture files that the extractor reads, under names that tell the
//! extractor their order; both read durations and port ranges the way the original program
//! did. Whatever only one of them needs lives with that one. There is no clock, no thread
//! and no I/O in here.

pub mod pcap;
pub mod segment;
pub mod units;
