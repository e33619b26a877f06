//! The parts that the capture agent and the call extractor must agree on, and nothing else.
//!
//! The agent writes capture files that the extractor reads, under names that give their order. Both
//! read durations, port ranges and flags as the original program did. Both notify the service
//! manager, log and create files in the same way. Code that only one of them needs is with that
//! program. Nothing here has a clock or a thread, and only [`service`], [`config_file`], [`log`]
//! and [`files`] do I/O.

pub mod config_file;
pub mod files;
pub mod index;
pub mod log;
pub mod pcap;
pub mod s3_uri;
pub mod segment;
pub mod segment_drops;
pub mod service;
pub mod units;
pub mod words;
