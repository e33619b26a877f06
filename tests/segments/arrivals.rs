//! Segments that come late, twice, under other names, in part, or not at all.

use std::{fs, os::unix::fs::symlink, time::Duration};

use shared::segment::SegmentName;
use support::{
    capture::Capture,
    desk::{Desk, Files, within},
    faults::inject_on,
    ladder::{Ladder, START_NS},
    sip::{Sdp, request, response},
};

use super::{
    cuts::results_of_the_whole,
    directory::{Segment, agents},
    everything::{Form, Packets},
};

/// Returns everything in ten segments, and the expected results.
fn ten() -> (Packets, Vec<Segment>, Files) {
    let packets = Packets::everything(Form::Micro);
    let places: Vec<usize> = (1..10).map(|n| packets.len() * n / 10).collect();
    let segments = agents(&packets, &packets.cut_at(&places));
    let want = results_of_the_whole(&packets);
    (packets, segments, want)
}

const QUICKLY: &[&str] = &["--no-sync"];
const LAST: &[&str] = &["--no-sync", "--final"];

/// Its packets are not lost, and settled results do not change.
#[test]
fn a_late_one_is_processed_with_a_warning() {
    let (_, segments, _) = ten();
    let desk = Desk::new();
    desk.deliver_all(&segments[..4]);
    desk.deliver_all(&segments[5..7]);
    desk.run(QUICKLY).is(0);
    let before = desk.everything_in_out();
    desk.deliver_all(&segments[4..5]);
    let ran = desk.run(QUICKLY).is(0);
    ran.says("WARN").says(&segments[4].0);
    desk.deliver_all(&segments[7..]);
    desk.run(LAST).is(0);
    for (name, bytes) in before.iter().filter(|(name, _)| !name.starts_with('.')) {
        assert!(
            fs::read(desk.out.join(name)).unwrap().starts_with(bytes),
            "{name}"
        );
    }
    // The late segment is not processed again.
    let after = desk.everything_in_out();
    desk.run(QUICKLY).is(0);
    assert!(
        desk.everything_in_out()
            .iter()
            .all(|(name, bytes)| name.starts_with('.') || after[name] == *bytes)
    );
}

#[test]
fn one_that_comes_again_changes_nothing() {
    let (_, segments, want) = ten();
    for flags in [
        &["--no-sync"][..],
        &["--no-sync", "--after-processing", "delete"],
    ] {
        let desk = Desk::new();
        for (n, (name, bytes)) in segments.iter().enumerate() {
            desk.deliver(name, bytes);
            desk.run(flags).is(0);
            // The segment before, unchanged, under another name.
            let (again, bytes) = &segments[n.saturating_sub(1)];
            desk.deliver(again, bytes);
            desk.deliver(&format!("copy-of-{again}"), bytes);
            desk.run(flags).is(0);
        }
        desk.run(LAST).is(0);
        desk.has(&want, &format!("{flags:?}"));
    }
}

#[test]
fn one_that_is_there_under_two_names_at_once_is_processed_once() {
    let (_, segments, want) = ten();
    let desk = Desk::new();
    desk.deliver_all(&segments);
    for (name, bytes) in &segments[3..6] {
        desk.deliver(&format!("copy-of-{name}"), bytes);
    }
    desk.run(LAST).is(0);
    desk.has(&want, "with copies");
}

#[test]
fn one_that_is_renamed_is_not_processed_again() {
    let (_, segments, want) = ten();
    let desk = Desk::new();
    for (name, bytes) in &segments {
        desk.deliver(name, bytes);
        desk.run(QUICKLY).is(0);
        fs::rename(
            desk.segments.join(name),
            desk.segments.join(format!("archived-{name}")),
        )
        .unwrap();
    }
    desk.run(LAST).is(0);
    desk.has(&want, "renamed");
}

/// A segment vanishes between the listing and the opening.
#[test]
fn one_that_vanishes_is_no_failure() {
    let (packets, segments, _) = ten();
    let first = Packets {
        packets: packets.packets[..packets.len() * 9 / 10].to_vec(),
        ..packets
    };
    let want = results_of_the_whole(&first);
    let desk = Desk::new();
    desk.deliver_all(&segments[..9]);
    symlink(
        desk.folder().join("nowhere"),
        desk.segments.join(&segments[9].0),
    )
    .unwrap();
    let ran = desk.run(LAST);
    assert!(matches!(ran.status, Some(0 | 3)), "{}", ran.log);
    desk.has(&want, "with a link to nowhere");
    // In a watch, another process removes segments as fast as they come.
    let desk = Desk::new();
    let mut watch = desk.start(&["--no-sync", "--watch"]);
    for n in 0..300 {
        let name = format!("{n}.pcap");
        desk.deliver(&name, &segments[0].1);
        fs::remove_file(desk.segments.join(name)).unwrap();
    }
    desk.deliver_all(&segments[..9]);
    let last = format!(".{}.processed", segments[8].0);
    let is_done = within(Duration::from_secs(20), || {
        desk.segments.join(&last).exists() || !watch.is_running()
    });
    assert!(is_done && watch.is_running(), "{}", watch.log());
    watch.end("TERM").is(0);
    desk.run(LAST);
    desk.has(&want, "with some that vanished");
}

/// A segment was listed and then vanished, or the disk failed; the next run finds it.
#[test]
fn one_that_cannot_be_opened_is_left_for_the_next_run() {
    let (_, segments, want) = ten();
    for error in ["ENOENT", "EIO", "EACCES"] {
        let desk = Desk::new();
        desk.deliver_all(&segments);
        let last = desk.segments.join(&segments[9].0);
        let ran = desk.ended(&mut inject_on(
            &last,
            &desk.command(QUICKLY),
            "openat",
            &format!("error={error}"),
        ));
        assert!(
            matches!(ran.status, Some(0 | 1 | 3)),
            "{error}: {}",
            ran.log
        );
        desk.shows_only(&want, error);
        desk.run(LAST).is(0);
        desk.has(&want, error);
    }
}

#[test]
fn one_that_is_no_capture_is_left_behind_and_named_once() {
    let (_, segments, want) = ten();
    let desk = Desk::new();
    desk.deliver_all(&segments);
    desk.deliver("notes.pcap", b"this is no capture");
    let ran = desk.run(LAST).is(3);
    ran.says("notes.pcap");
    desk.has(&want, "beside a file that is no capture");
    // A watch does not end, but logs it.
    let desk = Desk::new();
    let mut watch = desk.start(&["--no-sync", "--watch"]);
    desk.deliver("notes.pcap", b"this is no capture");
    watch.says("notes.pcap");
    for segment in &segments {
        desk.deliver_all(std::slice::from_ref(segment));
        let mark = desk.segments.join(format!(".{}.processed", segment.0));
        assert!(
            within(Duration::from_secs(20), || mark.exists()),
            "{}",
            watch.log()
        );
        watch.signal("HUP");
    }
    let ran = watch.end("TERM");
    let named = ran
        .log
        .lines()
        .filter(|line| line.contains("notes.pcap"))
        .count();
    assert!(named <= 2, "named {named} times: {}", ran.log);
    desk.run(LAST);
    desk.has(&want, "beside a file that is no capture, watched");
}

/// Another program copies a file slowly into the directory, under its final name.
#[test]
fn one_that_grows_is_read_to_its_end() {
    let (_, segments, want) = ten();
    let desk = Desk::new();
    for (n, (name, bytes)) in segments.iter().enumerate() {
        if n == 4 {
            // The cut is inside the file header, then inside a record.
            for part in [10, bytes.len() / 3, bytes.len() / 3 * 2 + 7] {
                fs::write(desk.segments.join(name), &bytes[..part]).unwrap();
                let ran = desk.run(QUICKLY);
                assert!(matches!(ran.status, Some(0 | 3)), "{}", ran.log);
            }
        }
        fs::write(desk.segments.join(name), bytes).unwrap();
        let ran = desk.run(QUICKLY);
        assert!(matches!(ran.status, Some(0 | 3)), "{}", ran.log);
    }
    desk.run(LAST);
    desk.has(&want, "grown");
}

#[test]
fn hidden_and_unfinished_files_are_not_touched() {
    let (_, segments, want) = ten();
    let desk = Desk::new();
    let others = [
        format!(".{}.part", segments[3].0),
        format!("{}.part", segments[4].0),
        ".hidden.pcap".to_owned(),
        "readme.txt".to_owned(),
        "x.pcap.tmp".to_owned(),
    ];
    others
        .iter()
        .for_each(|name| fs::write(desk.segments.join(name), &segments[5].1).unwrap());
    fs::create_dir(desk.segments.join("directory.pcap")).unwrap();
    desk.deliver_all(&segments);
    // Temporary files of a transfer program.
    fs::write(desk.segments.join(&others[0]), &segments[5].1).unwrap();
    desk.run(&["--no-sync", "--after-processing", "delete", "--final"])
        .is(0);
    desk.has(&want, "beside others' files");
    for name in &others {
        assert_eq!(
            fs::read(desk.segments.join(name)).unwrap(),
            segments[5].1,
            "{name}"
        );
    }
    assert!(desk.segments.join("directory.pcap").is_dir());
}

/// The mark tells the agent, so that it does not delete unprocessed segments.
#[test]
fn processed_segments_that_are_kept_are_marked() {
    let (_, segments, want) = ten();
    let desk = Desk::new();
    for (name, bytes) in &segments {
        desk.deliver(name, bytes);
        let mark = desk.segments.join(format!(".{name}.processed"));
        assert!(!mark.exists());
        desk.run(&[]).is(0);
        assert_eq!(fs::read(mark).unwrap(), b"");
        assert_eq!(fs::read(desk.segments.join(name)).unwrap(), *bytes);
    }
    desk.run(LAST).is(0);
    desk.has(&want, "marked");
}

/// On a quiet network no packet advances packet time, but the agent's segments do: their names have
/// their start, with or without packets. The results are those of the whole capture.
#[test]
fn a_call_that_ended_appears_though_no_packet_follows() {
    let mut t = Ladder::new();
    let (a, b) = (
        "192.0.2.1:5060".parse().unwrap(),
        "192.0.2.2:5060".parse().unwrap(),
    );
    let media = |end: &str| Sdp::audio(end.parse().unwrap());
    t.sip(
        0,
        a,
        b,
        request("INVITE", "1").sdp(&media("192.0.2.1:4000")),
    );
    t.sip(
        100,
        b,
        a,
        response(200, "INVITE", "1").sdp(&media("192.0.2.2:6000")),
    );
    t.sip(2_000, a, b, request("BYE", "1").to_tag("bob").cseq(2));
    let first = t.capture.to_pcap();
    t.sip(
        90_000,
        a,
        b,
        request("INVITE", "2").sdp(&media("192.0.2.1:4000")),
    );
    let whole = t.extract();
    let named = |at_ms: u64, number| {
        SegmentName::new(
            "edge1",
            "eth0",
            (START_NS / 1_000_000 + at_ms) * 1_000,
            number,
        )
        .to_string()
    };
    let rows = |desk: &Desk| {
        fs::read_to_string(desk.out.join("detected_calls.csv"))
            .unwrap()
            .lines()
            .count()
            - 1
    };

    let desk = Desk::new();
    desk.deliver(&named(0, 1), &first);
    desk.run(QUICKLY).is(0);
    assert_eq!(rows(&desk), 0, "it lingers");
    desk.deliver(&named(4_000, 2), &Capture::default().to_pcap());
    desk.run(QUICKLY).is(0);
    assert_eq!(rows(&desk), 0, "four seconds are less than its linger");
    desk.deliver(&named(60_000, 3), &Capture::default().to_pcap());
    desk.run(QUICKLY).is(0);
    assert_eq!(rows(&desk), 1);
    let second = Capture {
        frames: t.capture.frames[3..].to_vec(),
        ..Capture::default()
    };
    desk.deliver(&named(90_000, 4), &second.to_pcap());
    desk.run(LAST).is(0);
    desk.has(&whole.files(), "with empty segments");

    // A name whose time is ahead of the file's modification time is not believed.
    let desk = Desk::new();
    desk.deliver(&named(0, 1), &first);
    desk.deliver(&named(1 << 40, 2), &Capture::default().to_pcap());
    desk.run(QUICKLY).is(0);
    assert_eq!(rows(&desk), 0);
}
