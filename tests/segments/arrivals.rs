//! Segments that come late, twice, under other names, in part, or not at all.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::symlink,
    path::Path,
    thread::sleep,
    time::{Duration, SystemTime},
};

use shared::segment::SegmentName;
use support::{
    capture::Capture,
    desk::{Desk, Files, deliver_to, within},
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
const WATCHES: &[&str] = &["--no-sync", "--watch"];
const HOUR_NS: u64 = 3_600_000_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

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
    // The watch has named the file, so the last run may pass over it in silence.
    let last = desk.run(LAST);
    let logs = format!("{}\nthe last run: {}", ran.log, last.log);
    assert_eq!(ran.status, Some(0), "{logs}");
    assert!(
        matches!(last.status, Some(0 | 3)),
        "{:?}: {logs}",
        last.status
    );
    let what = format!("beside a file that is no capture, watched; the watch: {logs}");
    desk.has(&want, &what);
}

/// The agent still writes a segment when everything before it has been read: its first record shows
/// how far packet time has come, unless its clock was wrong.
#[test]
fn one_that_is_being_written_changes_nothing() {
    let packets = Packets::everything(Form::Micro);
    let want = results_of_the_whole(&packets);
    let places = (1..31).map(|n| packets.len() * n / 31);
    let is_ahead =
        |place: &usize| packets.packets[*place].ns > packets.time_before(*place) + HOUR_NS;
    let ahead: Vec<usize> = (1..packets.len()).filter(is_ahead).collect();
    assert!(!ahead.is_empty());
    let mut places: Vec<usize> = places.chain(ahead).collect();
    places.sort_unstable();
    places.dedup();
    let segments = agents(&packets, &packets.cut_at(&places));
    let desk = Desk::new();
    for (name, bytes) in &segments {
        let part = desk.segments.join(format!(".{name}.part"));
        fs::write(&part, bytes).unwrap();
        desk.run(QUICKLY).is(0);
        fs::rename(part, desk.segments.join(name)).unwrap();
        desk.run(QUICKLY).is(0);
    }
    desk.run(LAST).is(0);
    desk.has(&want, "seen while they were written");
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

/// A call that ends, and one that begins a minute and a half later.
fn quiet() -> Ladder {
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
    t.sip(
        90_000,
        a,
        b,
        request("INVITE", "2").sdp(&media("192.0.2.1:4000")),
    );
    t
}

/// Some frames of a ladder.
fn frames_of(t: &Ladder, range: Range<usize>) -> Vec<u8> {
    let frames = t.capture.frames[range].to_vec();
    let capture = Capture {
        frames,
        ..Capture::default()
    };
    capture.to_pcap()
}

/// A segment that an agent begins so much later than the ladder.
fn segment_at(at_ms: u64, number: u32) -> SegmentName {
    let start_us = (START_NS / 1_000_000 + at_ms) * 1_000;
    SegmentName::new("edge1", "eth0", start_us, number)
}

fn rows(desk: &Desk) -> usize {
    let table = fs::read_to_string(desk.out.join("detected_calls.csv")).unwrap_or_default();
    table.lines().skip(1).count()
}

/// On a quiet network no packet tells that time goes on, but the agent's segments do: each has its
/// beginning in its name, packets or not. What comes of it is what comes of the whole.
#[test]
fn a_call_that_ended_appears_though_no_packet_follows() {
    let mut t = quiet();
    let whole = t.extract();
    let named = |at_ms, number| segment_at(at_ms, number).to_string();
    let first = frames_of(&t, 0..3);

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
    desk.deliver(&named(90_000, 4), &frames_of(&t, 3..4));
    desk.run(LAST).is(0);
    desk.has(&whole.files(), "with empty segments");

    // A name whose time is ahead of the file's modification time is not believed.
    let desk = Desk::new();
    desk.deliver(&named(0, 1), &first);
    desk.deliver(&named(1 << 40, 2), &Capture::default().to_pcap());
    desk.run(QUICKLY).is(0);
    assert_eq!(rows(&desk), 0);
}

/// The segment that follows is being written: its first record is a time that the capture has
/// reached.
#[test]
fn a_call_that_ended_appears_while_the_next_segment_is_written() {
    let mut t = quiet();
    let want = t.extract().files();
    let [before, next] = [segment_at(0, 1), segment_at(80_000, 2)];
    let second = frames_of(&t, 3..4);
    for is_being_written in [true, false] {
        let desk = Desk::new();
        let part = desk.segments.join(next.part_file_name());
        desk.deliver(&before.to_string(), &frames_of(&t, 0..3));
        if is_being_written {
            // The agent has not written all of the first record.
            fs::write(&part, &second[..60]).unwrap();
        }
        let mut watch = desk.start(WATCHES);
        let is_read = || desk.segments.join(before.processed_file_name()).exists();
        assert!(within(PATIENCE, is_read), "{}", watch.log());
        if is_being_written {
            assert!(within(PATIENCE, || rows(&desk) == 1), "{}", watch.log());
            desk.shows_only(&want, "beside a part file");
            assert!(part.exists() && watch.is_running());
            fs::remove_file(&part).unwrap();
        } else {
            // It would have been found at the next look.
            sleep(Duration::from_secs(4));
            assert_eq!(rows(&desk), 0, "{}", watch.log());
        }
        desk.deliver(&next.to_string(), &second);
        let is_read = || desk.segments.join(next.processed_file_name()).exists();
        assert!(within(PATIENCE, is_read), "{}", watch.log());
        watch.end("TERM").is(0);
        desk.run(LAST).is(0);
        desk.has(&want, &format!("being written: {is_being_written}"));
    }
}

/// Whoever runs without `--watch` looks at no part file, and a time that is ahead of the file's own
/// is not believed.
#[test]
fn part_files_that_tell_nothing() {
    let t = quiet();
    let part = |desk: &Desk| desk.segments.join(segment_at(80_000, 2).part_file_name());
    let second = frames_of(&t, 3..4);

    let desk = Desk::new();
    desk.deliver(&segment_at(0, 1).to_string(), &frames_of(&t, 0..3));
    fs::write(part(&desk), &second).unwrap();
    desk.run(QUICKLY).is(0);
    assert_eq!(rows(&desk), 0);

    let past = SystemTime::UNIX_EPOCH + Duration::from_nanos(START_NS + 89_000_000_000);
    let set_back = |path: &Path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(past)
    };
    set_back(&part(&desk)).unwrap();
    // The agent writes its header first.
    let headers = [&second[..24], &second[..39]];
    let watch = desk.start(WATCHES);
    sleep(Duration::from_secs(4));
    for bytes in headers {
        fs::write(part(&desk), bytes).unwrap();
        sleep(Duration::from_secs(4));
    }
    assert_eq!(rows(&desk), 0, "{}", watch.log());
    fs::write(part(&desk), &second).unwrap();
    assert!(within(PATIENCE, || rows(&desk) == 1), "{}", watch.log());
    watch.end("TERM").is(0);

    // Calls linger for longer than the part file is old.
    let desk = Desk::new();
    desk.deliver(&segment_at(0, 1).to_string(), &frames_of(&t, 0..3));
    fs::write(part(&desk), &second).unwrap();
    let watch = desk.start(&[WATCHES, &["--linger", "2000000h"]].concat());
    sleep(Duration::from_secs(4));
    assert_eq!(rows(&desk), 0, "{}", watch.log());
    watch.end("TERM").is(0);
}

/// A point without a part file may still deliver what belongs before.
#[test]
fn part_files_of_several_points_wait_for_each_other() {
    let mut t = quiet();
    let want = t.extract().files();
    let desk = Desk::new();
    let other = desk.folder().join("other");
    fs::create_dir(&other).unwrap();
    let segments = [segment_at(0, 1), segment_at(80_000, 2)];
    let [answer, nothing] = [frames_of(&t, 1..2), Capture::default().to_pcap()];
    let mut invite_and_bye = t.capture.frames[..3].to_vec();
    invite_and_bye.remove(1);
    let invite_and_bye = Capture {
        frames: invite_and_bye,
        ..Capture::default()
    };
    let second = frames_of(&t, 3..4);
    desk.deliver(&segments[0].to_string(), &invite_and_bye.to_pcap());
    deliver_to(&other, &segments[0].to_string(), &answer);
    fs::write(desk.segments.join(segments[1].part_file_name()), &second).unwrap();
    let with_both = |flags: &[&str]| {
        let mut command = desk.command(flags);
        command.arg("--input-dir").arg(&other);
        command
    };
    let watch = desk.start_command(with_both(WATCHES));
    sleep(Duration::from_secs(4));
    assert_eq!(rows(&desk), 0, "{}", watch.log());
    let mut later = second.clone();
    // Five seconds later, and of no call.
    later[24..28].copy_from_slice(&(START_NS / 1_000_000_000 + 95).to_le_bytes()[..4]);
    fs::write(other.join(segments[1].part_file_name()), &later).unwrap();
    assert!(within(PATIENCE, || rows(&desk) == 1), "{}", watch.log());
    desk.shows_only(&want, "beside two part files");
    for (directory, bytes) in [(&desk.segments, &second), (&other, &nothing)] {
        fs::remove_file(directory.join(segments[1].part_file_name())).unwrap();
        deliver_to(directory, &segments[1].to_string(), bytes);
    }
    watch.end("TERM").is(0);
    desk.ended(&mut with_both(LAST)).is(0);
    desk.has(&want, "two points");
}
