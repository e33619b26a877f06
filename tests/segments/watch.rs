//! Watching a directory: reaction time, idle cost, and the end.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use support::{
    desk::{Desk, Files, Running, STATE, within},
    dice::Dice,
};

use super::{
    cuts::results_of_the_whole,
    directory::{Names, Segment},
    everything::{Form, Packets},
};

fn five() -> (Vec<Segment>, Files) {
    let packets = Packets::everything(Form::Micro);
    (
        Names::Agents.cut(&packets, 5, &mut Dice::new(700)),
        results_of_the_whole(&packets),
    )
}

const WATCH: &[&str] = &["--watch", "--after-processing", "delete"];

/// Delivers a segment, and returns the time until it was processed.
#[track_caller]
fn processed(desk: &Desk, segment: &Segment, watch: &Running) -> Duration {
    desk.deliver_all(std::slice::from_ref(segment));
    let begun = Instant::now();
    assert!(
        within(Duration::from_secs(20), || !desk
            .segments
            .join(&segment.0)
            .exists()),
        "{}",
        watch.log()
    );
    begun.elapsed()
}

/// The watch listens before it says so; a rescan would take longer.
#[test]
fn it_reacts_within_a_second() {
    let (segments, want) = five();
    let desk = Desk::new();
    let watch = desk.start(WATCH);
    let mut times: Vec<Duration> = segments
        .iter()
        .map(|segment| processed(&desk, segment, &watch))
        .collect();
    times.sort_unstable();
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
    watch.end("TERM").is(0);
    desk.run(&["--final"]).is(0);
    desk.has(&want, "watched");
}

#[test]
fn signals_end_it_with_the_state_saved() {
    let (segments, want) = five();
    let desk = Desk::new();
    for (signal, segment) in ["TERM", "INT", "TERM", "INT", "TERM"]
        .into_iter()
        .zip(&segments)
    {
        let mut watch = desk.start(WATCH);
        processed(&desk, segment, &watch);
        assert!(watch.is_running());
        watch.end(signal).is(0);
        assert!(desk.out.join(STATE).exists());
    }
    desk.run(&["--final"]).is(0);
    desk.has(&want, "ended by signals");
}

/// A signal comes at any moment of its work.
#[test]
fn a_signal_while_it_works_loses_nothing() {
    let mut dice = Dice::new(701);
    let (segments, want) = five();
    for signal in ["TERM", "INT"] {
        let desk = Desk::new();
        desk.deliver_all(&segments);
        for _ in 0..3 {
            let watch = desk.start(&[
                "--watch",
                "--unit-bytes",
                "1",
                "--window-bytes",
                "2000",
                "--no-sync",
            ]);
            std::thread::sleep(Duration::from_millis(dice.below(60) as u64));
            watch.end(signal).is(0);
            desk.shows_only(&want, signal);
        }
        desk.run(&["--no-sync", "--final"]).is(0);
        desk.has(&want, signal);
    }
}

#[test]
fn sighup_makes_it_look() {
    let (segments, want) = five();
    let desk = Desk::new();
    let mut watch = desk.start(WATCH);
    for segment in &segments {
        desk.deliver_all(std::slice::from_ref(segment));
        watch.signal("HUP");
    }
    assert!(
        within(Duration::from_secs(20), || desk.delivered().is_empty()),
        "{}",
        watch.log()
    );
    assert!(watch.is_running());
    watch.end("TERM").is(0);
    desk.run(&["--final"]).is(0);
    desk.has(&want, "looked at after SIGHUP");
}

#[test]
fn the_directory_may_be_removed_and_made_again() {
    let (segments, want) = five();
    let desk = Desk::new();
    let mut watch = desk.start(WATCH);
    for (n, segment) in segments.iter().enumerate() {
        processed(&desk, segment, &watch);
        if n % 2 == 0 {
            fs::remove_dir_all(&desk.segments).unwrap();
            // Once immediately, once after the watch has looked for the missing directory.
            std::thread::sleep(Duration::from_millis(n as u64 * 100));
            assert!(watch.is_running(), "{}", watch.log());
            fs::create_dir(&desk.segments).unwrap();
        }
    }
    assert!(watch.is_running());
    watch.end("TERM").is(0);
    desk.run(&["--final"]).is(0);
    desk.has(&want, "in directories made again");
}

/// Renames within the directory, links, and other ways to put a file there.
#[test]
fn however_a_segment_comes() {
    let (segments, want) = five();
    let desk = Desk::new();
    let watch = desk.start(WATCH);
    let elsewhere = desk.folder().join("elsewhere");
    for (n, (name, bytes)) in segments.iter().enumerate() {
        let path = desk.segments.join(name);
        match n % 3 {
            0 => desk.deliver(name, bytes),
            1 => {
                fs::write(&elsewhere, bytes).unwrap();
                fs::rename(&elsewhere, &path).unwrap();
            }
            _ => {
                let _ = fs::remove_file(&elsewhere);
                fs::write(&elsewhere, bytes).unwrap();
                fs::hard_link(&elsewhere, &path).unwrap();
            }
        }
        assert!(
            within(Duration::from_secs(20), || !path.exists()),
            "{name}: {}",
            watch.log()
        );
    }
    watch.end("TERM").is(0);
    desk.run(&["--final"]).is(0);
    desk.has(&want, "however they came");
}

/// More files at once than the kernel's event queue holds.
#[test]
fn thousands_of_events_are_no_matter() {
    let (segments, want) = five();
    let desk = Desk::new();
    let mut watch = desk.start(WATCH);
    processed(&desk, &segments[0], &watch);
    watch.signal("STOP");
    for n in 0..10_000 {
        let path = desk.segments.join(format!(".{}.part", n % 7));
        fs::write(&path, b"").unwrap();
        fs::remove_file(path).unwrap();
    }
    desk.deliver_all(&segments[1..]);
    watch.signal("CONT");
    assert!(
        within(Duration::from_secs(20), || desk.delivered().is_empty()),
        "{}",
        watch.log()
    );
    assert!(watch.is_running());
    watch.end("TERM").is(0);
    desk.run(&["--final"]).is(0);
    desk.has(&want, "after a flood");
}

/// Returns the CPU time of a process, in clock ticks of 10 ms.
fn processor_time(watch: &Running) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", watch.id())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn idle_it_costs_nothing() {
    let (segments, _) = five();
    let desk = Desk::new();
    let mut watch = desk.start(&["--watch"]);
    desk.deliver_all(&segments);
    let last = desk.segments.join(format!(".{}.processed", segments[4].0));
    assert!(
        within(Duration::from_secs(20), || last.exists()),
        "{}",
        watch.log()
    );
    std::thread::sleep(Duration::from_millis(500));
    let before = processor_time(&watch);
    std::thread::sleep(Duration::from_secs(6));
    let ticks = processor_time(&watch) - before;
    assert!(watch.is_running());
    assert!(
        ticks <= 3,
        "{ticks} hundredths of a second in six seconds without work"
    );
    watch.end("TERM").is(0);
}

#[test]
fn the_service_manager_is_told() {
    let (segments, _) = five();
    let desk = Desk::new();
    let path = desk.folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut command = desk.command(WATCH);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000")
        .env_remove("WATCHDOG_PID");
    let watch = desk.start_command(command);
    let mut told = String::new();
    let mut is_told = |words: &str| {
        while !told.contains(words) {
            let mut message = [0; 4096];
            let len = socket
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("no {words} in {told}: {error}"));
            told.push_str(&String::from_utf8_lossy(&message[..len]));
            told.push('\n');
        }
        told.clear();
    };
    is_told("READY=1");
    for segment in &segments {
        is_told("WATCHDOG=1");
        processed(&desk, segment, &watch);
    }
    is_told("WATCHDOG=1");
    watch.end("TERM").is(0);
    is_told("STOPPING=1");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let desk = Desk::new();
    let segments = desk.segments.display().to_string();
    for (flags, words) in [
        (&["--watch", "--final"][..], "--final"),
        (&["--input-file", "x.pcap"], "--input-file"),
        (&["--after-processing", "burn"], "burn"),
        (&["--source-timeout", "soon"], "soon"),
    ] {
        let ran = desk.run(flags).is(2);
        ran.says(words);
    }
    for flags in [
        &["--watch"][..],
        &["--final"],
        &["--after-processing", "delete"],
    ] {
        desk.ended(
            desk.extractor()
                .args(["--input-file", "x.pcap"])
                .args(flags),
        )
        .is(2)
        .says("--input-file")
        .says(flags[0]);
    }
    desk.ended(&mut desk.extractor())
        .is(2)
        .says("a directory of segments");
    let mut missing = desk.extractor();
    missing
        .arg("--input-dir")
        .arg(format!("{segments}-that-are-not-there"));
    desk.ended(&mut missing).is(1).says("-that-are-not-there");
    assert!(
        !desk.out.exists()
            || desk
                .everything_in_out()
                .keys()
                .all(|name| !name.starts_with("call_"))
    );
}
