//! The extractor from its command line to its files, as one target, so that it is linked once.
//!
//!     cargo test --workspace --test end_to_end streams::
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that goes wrong may say so by ending"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "test code explains itself by its use"
)]

mod corpus;
mod documents;
#[cfg(feature = "parquet")]
mod duckdb;
mod extract;
mod files;
mod fuzzed;
mod hostile;
mod layers;
mod links;
mod privacy;
mod real_software;
mod recipes;
mod report;
mod sandbox;
mod scenarios;
mod segments;
mod selection;
mod services;
mod streams;
mod translated;
mod typed;
#[cfg(feature = "uploads")]
mod uploads;
