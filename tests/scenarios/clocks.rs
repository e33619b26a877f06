//! Clocks of capture hosts that fail while they capture. No call that has nothing to do with it ends
//! early, and none stays open for it.

use support::{
    capture::Capture,
    desk::{Desk, assert_same},
    ladder::extract_bytes,
};

use super::*;

const HOUR_MS: u64 = 3_600_000;
const SMALL: [&[&str]; 2] = [
    &[
        "--window-bytes",
        "1",
        "--chunk-bytes",
        "1",
        "--unit-bytes",
        "1",
    ],
    &[
        "--window-bytes",
        "9000",
        "--chunk-bytes",
        "1500",
        "--threads",
        "2",
    ],
];

/// A call of 10 s that begins at this time, and ends well.
fn a_call(t: &mut Ladder, from: u64, id: &str) {
    answered(t, from, id, A_MEDIA, B_MEDIA);
    t.rtp(from + 300, A_MEDIA, B_MEDIA, 7, 1..=450);
    hung_up(t, from + 9_500, id);
}

/// Frames of nobody, `each_ms` apart.
fn noise(t: &mut Ladder, from: u64, count: u64, each_ms: u64) {
    for n in 0..count {
        let rtp = Rtp::new(9, n as u16).bytes();
        t.udp(from + n * each_ms, STRANGER, OTHER_STRANGER, &rtp);
    }
}

/// Moves frames in time, by their numbers in capture order.
fn at_other_times(mut t: Ladder, time: impl Fn(usize, u64) -> u64) -> Capture {
    t.sort();
    for (number, frame) in t.capture.frames.iter_mut().enumerate() {
        frame.0 = time(number, frame.0);
    }
    t.capture
}

/// Extracts a capture as a whole. Small pieces, and segments with a run for each, give the same.
fn extracted(capture: &Capture, what: &str) -> Extracted {
    let file = capture.to_pcap();
    let whole = extract_bytes(&file, &[]);
    assert_eq!(whole.status, Some(0), "{what}: {}", whole.log);
    for flags in SMALL {
        let small = extract_bytes(&file, flags).files();
        assert_same(&whole.files(), &small, what);
    }
    for len in [11, 60] {
        let desk = Desk::new();
        for (number, frames) in capture.frames.chunks(len).enumerate() {
            let segment = Capture {
                frames: frames.to_vec(),
                ..capture.clone()
            };
            desk.deliver(&format!("{number:05}.pcap"), &segment.to_pcap());
            // Each has its own run: times do not tell the order of segments here.
            let ran = desk.run(&["--no-sync", "--after-processing", "delete"]);
            assert_eq!(ran.status, Some(0), "{what}: {}", ran.log);
            desk.shows_only(&whole.files(), what);
        }
        desk.run(&["--no-sync", "--final"]).is(0);
        desk.has(&whole.files(), &format!("{what}, {len} records a segment"));
    }
    whole
}

#[test]
fn frames_in_a_row_that_are_hours_ahead_end_no_call() {
    for ahead in [2 * HOUR_MS, 20 * 365 * 24 * HOUR_MS] {
        for wrong in [1, 2, 5, 16] {
            let mut t = ladder();
            a_call(&mut t, 0, "innocent");
            let capture = at_other_times(t, |number, ns| {
                let is_wrong = (100..100 + wrong).contains(&number);
                ns + if is_wrong { ahead * MS } else { 0 }
            });
            let what = format!("{wrong} frames, {ahead} ms ahead");
            let out = extracted(&capture, &what);
            out.only_call().is("completed").has_rtp(7, 1..=450);
            assert!(
                out.log
                    .contains(" timestamps that the packets after them contradict")
            );
        }
    }
}

#[test]
fn a_clock_that_jumps_back_and_forth_ends_no_call() {
    let mut t = ladder();
    a_call(&mut t, 0, "innocent");
    noise(&mut t, 0, 900, 11);
    // Every other packet of the others is at some time between 1970 and far ahead.
    let capture = at_other_times(t, |number, ns| match number % 5 {
        1 | 3 => (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2,
        _ => ns,
    });
    let out = extracted(&capture, "random");
    out.only_call().is("completed").has_rtp(7, 1..=450);
}

#[test]
fn two_clocks_hours_apart_end_no_call() {
    let mut t = ladder();
    a_call(&mut t, 0, "innocent");
    let capture = at_other_times(t, |number, ns| ns + (number as u64 % 2) * 5 * HOUR_MS * MS);
    let out = extracted(&capture, "two clocks");
    out.only_call().is("completed").has_rtp(7, 1..=450);
}

/// A host boots with a clock that is a year ahead, which is set right a minute later: what was
/// captured from then on is extracted as ever, without waiting for a year.
#[test]
fn calls_end_when_they_should_behind_a_clock_that_was_wrong() {
    let mut t = ladder();
    noise(&mut t, 0, 600, 100);
    for call in 0..6 {
        a_call(&mut t, 60_000 + call * 30_000, &format!("call-{call}"));
    }
    // The last one is never hung up.
    answered(&mut t, 100_000, "open", C_MEDIA, RELAY);
    noise(&mut t, 60_000, 8_000, 100);
    let year = 365 * 24 * HOUR_MS * MS;
    let capture = at_other_times(t, |_, ns| {
        ns + if ns < START + 60_000 * MS { year } else { 0 }
    });
    let desk = Desk::new();
    desk.deliver("1.pcap", &capture.to_pcap());
    desk.run(&["--no-sync"]).is(0);
    let rows = std::fs::read_to_string(desk.out.join("detected_calls.csv")).unwrap();
    for id in [
        "call-0", "call-1", "call-2", "call-3", "call-4", "call-5", "open",
    ] {
        assert!(rows.contains(&format!("\n{id},")), "{id}: {rows}");
    }
    desk.run(&["--no-sync", "--final"]).is(0);
    let whole = extract_bytes(&capture.to_pcap(), &[]);
    desk.has(&whole.files(), "a year ahead");
    for call in 0..6 {
        whole
            .call(&format!("call-{call}"))
            .is("completed")
            .has_rtp(7, 1..=450);
    }
    whole.call("open").is("timeout");
    assert!(
        whole
            .log
            .contains("1   times that the capture's clock was set back"),
        "{}",
        whole.log
    );
}

/// A leap is a pause as long as nothing contradicts it: with the next records it is known.
#[test]
fn behind_a_quiet_night_calls_of_the_evening_have_timed_out() {
    let mut t = ladder();
    answered(&mut t, 0, "evening", C_MEDIA, RELAY);
    a_call(&mut t, 9 * HOUR_MS, "morning");
    let out = extracted(&at_other_times(t, |_, ns| ns), "a night");
    out.call("evening").is("timeout");
    out.call("morning").is("completed").has_rtp(7, 1..=450);
}
