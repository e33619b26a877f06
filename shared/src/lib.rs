//! What the capture agent and the call extractor must agree on, and nothing else.
//!
//! The agent writes capture files that the extractor reads, under names that tell the
//! extractor their order; both read durations and port ranges the way the original program
//! did. Both are services, and say so in the same words; and both take the words of the
//! original program's users. Both make files where others may, and
//! trust no link there. Whatever only one of them needs lives
//! with that one. There is no clock and no thread in here, and no I/O but for [`service`],
//! [`config_file`], [`log`] and [`files`].

pub mod config_file;
pub mod files;
pub mod log;
pub mod pcap;
pub mod s3_uri;
pub mod segment;
pub mod service;
pub mod units;
pub mod words;
