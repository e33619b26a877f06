//! The capture agent as users run it: on loopback and on wires between namespaces, with full disks,
//! vanishing interfaces, signals and kills.
//!
//! These tests need root, or at least CAP_NET_RAW. Without it they fail and say so: a skipped test
//! would prove nothing.
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
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "test code explains itself by its use"
)]

mod agent;
mod calls;
mod disks;
mod drops;
mod loopback;
mod service;
mod wires;
