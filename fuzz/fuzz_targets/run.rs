#![no_main]

#[path = "../../tests/fuzzed/mod.rs"]
mod fuzzed;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

/// Plain traffic takes some 4 ns of CPU time a byte, and each input is extracted three times. More than
/// 200 times as much is a fault, whatever the input.
const NS_A_BYTE: i64 = 200 * 4 * 3;

/// A run costs this much, however short its input.
const NS_A_RUN: i64 = 300_000_000;

/// CPU time without that of the kernel: what a file costs depends on the file system and its mood.
fn cpu_ns() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.user_time().num_nanoseconds())
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let before = cpu_ns();
    fuzzed::run::check(input);
    let cost = cpu_ns() - before;
    assert!(
        cost <= NS_A_RUN + NS_A_BYTE * input.len() as i64,
        "{} bytes take {cost} ns",
        input.len()
    );
});
