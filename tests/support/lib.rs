//! Test support: frames, SIP messages, captures, calls drawn as ladders, networks for them, and the
//! extractor with its results.

pub mod capture;
pub mod desk;
pub mod dice;
pub mod faults;
pub mod flags;
pub mod frames;
pub mod lab;
pub mod ladder;
pub mod layers;
pub mod media;
pub mod sip;
pub mod sipp;
pub mod tcp;
pub mod times;
pub mod traffic;
pub mod web;

pub const SECOND: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;
