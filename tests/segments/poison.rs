//! Unreadable segments between readable ones: the readable ones are processed, and the log names
//! the others.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use support::{
    capture::gzip,
    desk::{Desk, Files, Ran, within},
    faults::inject_on,
};

use super::{
    cuts::results_of_the_whole,
    directory::{Segment, agents},
    everything::{Form, Packets},
};

const ATTEMPTS: &str = ".sip-call-extractor.attempts";
const LAST: &[&str] = &["--no-sync", "--final"];

/// Returns everything in six segments, and the expected results.
fn six() -> (Vec<Segment>, Files) {
    let packets = Packets::everything(Form::Micro);
    let places: Vec<usize> = (1..6).map(|n| packets.len() * n / 6).collect();
    (
        agents(&packets, &packets.cut_at(&places)),
        results_of_the_whole(&packets),
    )
}

/// Returns the name of a segment between the third and the fourth.
fn between(segments: &[Segment]) -> String {
    let name = segments[2].0.replace("_000003.pcap", "_000099.pcap");
    assert!(segments[2].0 < name && name < segments[3].0);
    name
}

/// Returns a capture without packets in a gigabyte of zeros, compressed to a megabyte.
fn bomb() -> Vec<u8> {
    let head = Packets::everything(Form::Micro).whole()[..24].to_vec();
    gzip(&[head, vec![0; 64 << 20]].concat())
}

/// Restarts the run, as a service manager does, until it does not end with 1.
#[track_caller]
fn until_it_goes_on(mut run: impl FnMut(usize) -> Ran) -> (usize, Ran) {
    for runs in 0..12 {
        let ran = run(runs);
        if !matches!(ran.status, Some(1) | None) {
            return (runs, ran);
        }
    }
    panic!("it does not go on");
}

/// Checks that the others are processed as if this one did not exist, and that it is kept, named
/// and set aside.
#[track_caller]
fn is_set_aside(desk: &Desk, want: &Files, name: &str, ran: Ran) {
    let ran = ran.is(3);
    ran.says(&format!(
        "{name} is set aside, and the run goes on without it"
    ))
    .says("segments are set aside");
    let mut got = desk.everything_in_out();
    assert!(got.remove(ATTEMPTS).is_some());
    got.remove(support::desk::STATE);
    support::desk::assert_same(want, &got, name);
    assert!(desk.segments.join(name).exists());
    // The log names it as long as it is there.
    desk.run(&["--no-sync"])
        .is(3)
        .says(&format!("{name} stays set aside"));
    fs::remove_file(desk.segments.join(name)).unwrap();
    desk.run(&["--no-sync"]).is(0);
    assert!(!desk.out.join(ATTEMPTS).exists());
}

#[test]
fn one_that_a_disk_does_not_give_is_set_aside() {
    let (segments, want) = six();
    for calls in ["openat", "read"] {
        let desk = Desk::new();
        desk.deliver_all(&segments);
        let bad = between(&segments);
        desk.deliver(&bad, &segments[3].1[..2000]);
        let path = desk.segments.join(&bad);
        let run = |_| {
            desk.ended(&mut inject_on(
                &path,
                &desk.command(LAST),
                calls,
                "error=EIO",
            ))
        };
        let first = run(0).is(1);
        first.says(&format!("{bad} cannot be read: Input/output error (os error 5); it is tried again by the next run"));
        let (runs, ran) = until_it_goes_on(run);
        assert_eq!(runs, 0, "{calls}");
        is_set_aside(&desk, &want, &bad, ran);
    }
}

/// No packet of a readable segment is lost or read out of order.
#[test]
fn one_that_a_disk_gives_late_is_read_in_its_place() {
    let packets = Packets::everything(Form::Micro);
    let places = packets.places_in_order_of_time();
    let segments = agents(
        &packets,
        &packets.cut_at(&[places[places.len() / 3], places[places.len() / 2]]),
    );
    // Only their first packets give their order.
    let segments: Vec<Segment> = segments
        .into_iter()
        .zip(["c.pcap", "a.pcap", "b.pcap.gz"])
        .map(|((_, bytes), name)| {
            (
                name.to_owned(),
                if name.ends_with("gz") {
                    gzip(&bytes)
                } else {
                    bytes
                },
            )
        })
        .collect();
    let want = results_of_the_whole(&packets);
    for (name, _) in &segments {
        for times in [1, 2, 3, 6, 9, 30] {
            let desk = Desk::new();
            desk.deliver_all(&segments);
            let path = desk.segments.join(name);
            let how = format!("error=EIO:when=1..{times}");
            let ran = desk.ended(&mut inject_on(
                &path,
                &desk.command(LAST),
                "openat,read,mmap",
                &how,
            ));
            desk.shows_only(&want, &format!("{name}, {times} times"));
            if ran.status != Some(0) {
                ran.is(1).says(name);
                desk.run(LAST).is(0);
            }
            desk.has(&want, &format!("{name}, {times} times"));
        }
    }
}

#[test]
fn one_that_grows_too_large_is_set_aside_at_once() {
    let (segments, want) = six();
    let desk = Desk::new();
    desk.deliver_all(&segments);
    let bad = between(&segments) + ".gz";
    desk.deliver(&bad, &bomb());
    let flags = [LAST, &["--max-decompressed", "32MiB"]].concat();
    let ran = desk.run(&flags);
    ran.says("more than 32MiB when it is decompressed");
    is_set_aside(&desk, &want, &bad, ran);
    // With a higher limit it is tried again.
    let desk = Desk::new();
    desk.deliver(&bad, &bomb());
    desk.run(&flags).is(3);
    let ran = desk.run(&[LAST, &["--max-decompressed", "1GiB", "--retry-failed"]].concat());
    assert!(!ran.log.contains("when it is decompressed"), "{}", ran.log);
    assert!(!desk.out.join(ATTEMPTS).exists());
}

#[test]
fn one_that_crashes_the_program_is_set_aside() {
    let (segments, want) = six();
    for signal in ["SEGV", "ABRT", "BUS"] {
        let desk = Desk::new();
        desk.deliver_all(&segments);
        let bad = between(&segments);
        desk.deliver(&bad, &segments[3].1[..2000]);
        let path = desk.segments.join(&bad);
        let (runs, ran) = until_it_goes_on(|_| {
            desk.ended(&mut inject_on(
                &path,
                &desk.command(LAST),
                "openat",
                &format!("signal=SIG{signal}:when=2"),
            ))
        });
        // It is tried together with others, then alone, twice.
        assert!(runs <= 3, "{runs} for {signal}");
        is_set_aside(&desk, &want, &bad, ran);
    }
}

/// A killed program leaves no reason. The segment is blamed only if this goes on for long.
#[test]
fn one_that_has_the_program_killed_is_set_aside_after_a_while() {
    let (segments, want) = six();
    let desk = Desk::new();
    desk.deliver_all(&segments);
    let bad = between(&segments);
    desk.deliver(&bad, &segments[3].1[..2000]);
    let path = desk.segments.join(&bad);
    let run = |later: &str| {
        let plain = desk.command(LAST);
        let mut command = Command::new("faketime");
        command
            .args(["-f", later])
            .arg(plain.get_program())
            .args(plain.get_args());
        desk.ended(&mut inject_on(
            &path,
            &command,
            "openat",
            "signal=SIGKILL:when=2",
        ))
    };
    // libfaketime reports the death by a signal in its own way.
    let is_killed = |ran: Ran| {
        assert!(
            ran.status != Some(3) && !ran.log.contains("is set aside"),
            "{}",
            ran.log
        );
    };
    (0..10).for_each(|_| is_killed(run("+0m")));
    is_killed(run("+9m"));
    // The run that finds the attempt counts it.
    let ran = run("+11m");
    is_set_aside(&desk, &want, &bad, ran);
}

/// A disk in a file, a part of which is cut off: reading there gives errors. Needs root.
#[test]
fn one_on_a_bad_sector_is_set_aside_with_its_offset() {
    let (segments, want) = six();
    let desk = Desk::new();
    let disk = desk.folder().join("disk");
    let sh = |script: &str| {
        let output = Command::new("sh")
            .args(["-ec", script])
            .arg(&disk)
            .arg(&desk.segments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{script} (this test needs root): {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    sh("truncate -s 64M $0; mkfs.ext4 -q -b 1024 -m 0 $0; mount -o loop $0 $1");
    let _unmounted = Unmounted(&desk.segments);
    let bad = between(&segments);
    // Segments that are written first lie before it.
    desk.deliver_all(&segments);
    sh("sync -f $1");
    let packets = &segments[3].1[24..];
    desk.deliver(
        &bad,
        &[
            &segments[3].1[..24],
            &packets.repeat((4 << 20) / packets.len()),
        ]
        .concat(),
    );
    let extents = sh(&format!("sync -f $1; filefrag -v $1/{bad}"));
    let first = extents
        .lines()
        .find_map(|line| line.trim().strip_prefix("0: "))
        .unwrap();
    let first: u64 = first
        .split(':')
        .nth(1)
        .unwrap()
        .split("..")
        .next()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    sh(&format!(
        "umount $1; mount -o loop,ro,noload $0 $1; truncate -s $((({first} + 2000) * 1024)) $0"
    ));
    let ran = desk.run(LAST).is(1);
    ran.says(&format!("{bad} cannot be read at offset 20"));
    let ran = desk.run(LAST).is(3);
    ran.says(&format!("{bad} is set aside"))
        .says("it cannot be read at offset 20")
        .says("Input/output error");
    let mut got = desk.everything_in_out();
    got.retain(|name, _| !name.starts_with(".sip-call-extractor"));
    support::desk::assert_same(&want, &got, "beside a bad sector");
}

struct Unmounted<'a>(&'a Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn directories_links_and_pipes_are_left_alone() {
    let (segments, want) = six();
    let desk = Desk::new();
    desk.deliver_all(&segments);
    fs::create_dir(desk.segments.join("directory.pcap")).unwrap();
    symlink("nowhere", desk.segments.join("link.pcap")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(desk.segments.join("pipe.pcap"))
            .status()
            .unwrap()
            .success()
    );
    desk.deliver(&(between(&segments) + ".gz"), &gzip(&segments[3].1)[..40]);
    let ran = desk.run(LAST).is(3);
    ran.says("gzip data ends too early");
    desk.has(&want, "beside what is no file");
}

#[test]
fn a_watch_goes_on_after_it() {
    let (segments, want) = six();
    let desk = Desk::new();
    let bad = between(&segments);
    desk.deliver(&bad, &segments[3].1[..2000]);
    let path = desk.segments.join(&bad);
    let command = desk.command(&["--no-sync", "--watch", "--after-processing", "delete"]);
    let mut watch = desk.start_command(inject_on(&path, &command, "openat", "error=EIO"));
    desk.deliver_all(&segments);
    let is_done = within(Duration::from_secs(40), || {
        desk.delivered() == [bad.as_str()] || !watch.is_running()
    });
    assert!(is_done && watch.is_running(), "{}", watch.log());
    watch.says(&format!("{bad} is set aside"));
    // The signal is for the extractor, not for strace.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", watch.id())).unwrap();
    let ended = Command::new("kill")
        .args(children.split_whitespace())
        .status()
        .unwrap();
    assert!(ended.success());
    watch.ends().is(0);
    fs::remove_file(&path).unwrap();
    desk.run(LAST).is(0);
    desk.has(&want, "watched");
}
