//! Uploads, end to end: the program, a store that checks signatures, and between them what goes wrong with stores.
//!
//! Whatever fails, and whenever the program is killed: no call is deleted before the store has it, each is sent in the end,
//! and the tables are as they would have been.
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

mod again;
mod check;
mod credentials;
mod directories;
mod harness;
mod kills;
mod large;
mod objects;
mod proxy;
mod site;
mod spool;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod troubles;
mod usage;
mod without;
