//! Traffic for tests: frames, SIP messages, captures, and calls drawn as ladders.
#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::needless_pass_by_value,
    clippy::option_env_unwrap,
    clippy::unwrap_used,
    clippy::wrong_self_convention,
    reason = "a test that goes wrong may say so by ending"
)]
#![allow(missing_docs, unreachable_pub, reason = "test code explains itself by its use")]

pub mod capture;
pub mod desk;
pub mod dice;
pub mod faults;
pub mod frames;
pub mod ladder;
pub mod layers;
pub mod media;
pub mod sip;
pub mod tcp;
pub mod times;
pub mod traffic;
pub mod web;

pub const SECOND: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;
