//! Calls between real endpoints in namespaces that the tests make, with tcpdump in between: the extractor must see
//! what tshark sees, frame by frame.
//!
//! These tests want root: they make namespaces, and interfaces in them. Where a kernel cannot do something, the test
//! says so and has other software do it.
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
#![allow(missing_docs, unreachable_pub, reason = "test code explains itself by its use")]

mod baresip;
mod comparison;
mod lab;
mod sipp;
#[path = "../support/mod.rs"]
mod support;
mod transports;
mod tunnels;
mod websocket;
