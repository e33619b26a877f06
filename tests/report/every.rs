//! A report for each hour or day, while runs go on: it has the records of its time, as the command
//! `report` would show them, whatever happened to the runs.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use shared::segment::SegmentName;
use support::{
    desk::{Desk, within},
    dice::{Dice, tries},
    faults::{CHANGES, Threads, calls, inject},
    ladder::{Ladder, extractor},
};

use super::page::{answered, hung_up};

const MINUTE: u64 = 60_000;
/// The time of a ladder's beginning, 2023-12-01T14:30:22.123456Z, in microseconds since 1970.
const BEGIN_US: u64 = 1_701_441_022_123_456;

/// Draws short calls, which begin at these minutes, each named by its minute.
fn short(t: &mut Ladder, minutes: &[u64]) {
    for minute in minutes {
        let id = minute.to_string();
        answered(t, minute * MINUTE, &id, "+4930123", 0);
        hung_up(t, minute * MINUTE + 5_000, &id);
    }
}

/// Segments of several hours and two days. A call of the first hour ends in the second.
fn segments() -> Vec<(String, Vec<u8>)> {
    let mut ladders = [0, 10, 35, 600].map(|minute| (minute, Ladder::new()));
    let [(_, first), (_, second), (_, third), (_, fourth)] = &mut ladders;
    answered(first, 3 * MINUTE, "long", "+4930456", 10);
    short(first, &[1, 2, 5]);
    short(second, &[11, 12]);
    short(third, &[35, 36]);
    hung_up(third, 50 * MINUTE, "long");
    short(fourth, &[600, 601]);
    let segment = |(number, (minute, t)): (usize, &mut (u64, Ladder))| {
        t.sort();
        let begun_us = BEGIN_US + *minute * MINUTE * 1000;
        let name = SegmentName::new("edge1", "eth0", begun_us, number as u32 + 1);
        (name.to_string(), t.capture.to_pcap())
    };
    ladders.iter_mut().enumerate().map(segment).collect()
}

fn flags(desk: &Desk, every: &str) -> Vec<String> {
    let report = desk.out.join("calls.html");
    let report = report.to_str().unwrap();
    [
        "--call-timeout",
        "2h",
        "--report",
        report,
        "--report-every",
        every,
    ]
    .map(str::to_owned)
    .into()
}

fn run(desk: &Desk, every: &str, more: &[&str]) -> String {
    let flags = flags(desk, every);
    let flags: Vec<&str> = flags
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    desk.run(&flags).is(0).log
}

/// The reports in the output directory.
fn reports(desk: &Desk) -> BTreeMap<String, Vec<u8>> {
    let mut files = desk.everything_in_out();
    files.retain(|name, _| name.contains(".html"));
    files
}

/// The reports of the records, as the command makes them, by the first characters of the time at
/// which a call began.
fn wanted(desk: &Desk, every: &str) -> BTreeMap<String, Vec<u8>> {
    let len = if every == "hour" { 13 } else { 10 };
    let mut parts: BTreeMap<String, String> = BTreeMap::new();
    for line in fs::read_to_string(desk.out.join("calls.jsonl"))
        .unwrap()
        .lines()
    {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let start = record["start_timestamp"].as_str().unwrap();
        let part = parts.entry(start[..len].to_owned()).or_default();
        part.push_str(line);
        part.push('\n');
    }
    let report = |(name, records): (String, String)| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("calls.jsonl"), records).unwrap();
        let name = format!("calls-{name}.html");
        let to = folder.path().join(&name);
        let made = extractor()
            .arg("report")
            .arg(folder.path())
            .arg("-o")
            .arg(&to)
            .output();
        assert!(made.unwrap().status.success());
        (name, fs::read(to).unwrap())
    };
    parts.into_iter().map(report).collect()
}

#[track_caller]
fn has_all(desk: &Desk, every: &str, what: &str) {
    let (got, want) = (reports(desk), wanted(desk, every));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&got), names(&want), "{what}");
    for (name, bytes) in &got {
        assert!(want[name] == *bytes, "{what}: {name} is another");
    }
}

#[test]
fn after_each_run_they_are_up_to_date() {
    for (every, names) in [
        (
            "hour",
            [
                "calls-2023-12-01T14.html",
                "calls-2023-12-01T15.html",
                "calls-2023-12-02T00.html",
            ]
            .as_slice(),
        ),
        ("day", &["calls-2023-12-01.html", "calls-2023-12-02.html"]),
    ] {
        let desk = Desk::new();
        for (number, segment) in segments().iter().enumerate() {
            desk.deliver(&segment.0, &segment.1);
            run(&desk, every, &[]);
            has_all(&desk, every, &format!("{every} {number}"));
        }
        run(&desk, every, &["--final"]);
        has_all(&desk, every, every);
        let got: Vec<String> = reports(&desk).into_keys().collect();
        assert_eq!(got, names);
    }
}

/// A run that has no new calls makes no report, and one that has reads the records of their time
/// only: what is broken before them is not seen.
#[test]
fn other_records_are_not_read_again() {
    let desk = Desk::new();
    let later = |minutes: [u64; 2], number| {
        let mut t = Ladder::new();
        short(&mut t, &minutes);
        let begun_us = BEGIN_US + minutes[0] * MINUTE * 1000;
        let name = SegmentName::new("edge1", "eth0", begun_us, number);
        desk.deliver(&name.to_string(), &t.capture.to_pcap());
    };
    desk.deliver_all(&segments());
    // Two days later: what is before has ended.
    later([2500, 2501], 5);
    run(&desk, "day", &[]);
    let log = run(&desk, "day", &[]);
    assert!(!log.contains("a report of"), "{log}");
    let path = desk.out.join("calls.jsonl");
    let mut records = fs::read(&path).unwrap();
    let end = records.iter().position(|byte| *byte == b'\n').unwrap();
    // What a run checks of its file stays as it is.
    records[100..end].fill(b'x');
    fs::write(&path, records).unwrap();
    let before = reports(&desk);
    later([2600, 2601], 6);
    let log = run(&desk, "day", &["--final"]);
    let words = "calls-2023-12-03.html: a report of 4 calls";
    assert!(log.contains(words), "{log}");
    assert!(!log.contains("no record"), "{log}");
    let first = "calls-2023-12-01.html";
    assert!(reports(&desk)[first] == before[first]);
}

/// The first run with the flag knows nothing about the records that are there.
#[test]
fn records_of_runs_without_the_flag_are_found() {
    let desk = Desk::new();
    let segments = segments();
    desk.deliver_all(&segments[..2]);
    desk.run(&["--call-timeout", "2h", "--json-messages"]).is(0);
    desk.deliver_all(&segments[2..3]);
    run(&desk, "hour", &[]);
    has_all(&desk, "hour", "the first with the flag");
    desk.deliver_all(&segments[3..]);
    run(&desk, "day", &["--final"]);
    let got = reports(&desk);
    for (name, bytes) in wanted(&desk, "day") {
        assert!(got[&name] == bytes, "{name}: from hours to days");
    }
}

#[test]
fn calls_that_come_again_are_replaced() {
    let desk = Desk::new();
    let input = desk.folder().join("again.pcap");
    for minutes in [&[1, 2, 40][..], &[2, 3], &[1, 40, 41]] {
        let mut t = Ladder::new();
        short(&mut t, minutes);
        fs::write(&input, t.capture.to_pcap()).unwrap();
        let mut command = desk.extractor();
        command.arg("--input-file").arg(&input).arg("--overwrite");
        desk.ended(command.args(flags(&desk, "hour"))).is(0);
        has_all(&desk, "hour", &format!("{minutes:?}"));
    }
}

/// Reports that a kill left out of date are made by the next run, and no hidden file stays.
#[test]
fn after_a_kill_at_any_change() {
    let mut dice = Dice::new(2300);
    let segments = segments();
    let new_desk = || {
        let desk = Desk::new();
        desk.deliver_all(&segments);
        desk
    };
    let command = |desk: &Desk| {
        let mut command = desk.command(&["--threads", "1", "--unit-bytes", "1"]);
        command.args(flags(desk, "hour"));
        command
    };
    let desk = new_desk();
    let calls = calls(Threads::First, &command(&desk), CHANGES, desk.folder());
    has_all(&desk, "hour", "under strace");
    let count = calls.len();
    for n in dice.some_below(tries(12, usize::MAX), count) {
        let (desk, call) = (new_desk(), &calls[n]);
        let what = format!("killed at {} {}", call.kind, call.nth);
        inject(Threads::First, &command(&desk), call, "signal=SIGKILL")
            .output()
            .unwrap();
        for (name, bytes) in reports(&desk) {
            let is_hidden = name.starts_with('.');
            assert!(is_hidden || bytes.ends_with(b"</html>\n"), "{what}: {name}");
        }
        desk.ended(&mut command(&desk)).is(0);
        has_all(&desk, "hour", &what);
    }
}

#[test]
fn a_watch_makes_them_while_it_goes_on() {
    let desk = Desk::new();
    let elsewhere = desk.folder().join("web/reports");
    let report = elsewhere.join("calls.html");
    let flags = [
        "--watch",
        "--call-timeout",
        "2h",
        "--report-every",
        "hour",
        "--report",
        report.to_str().unwrap(),
    ];
    let mut watch = desk.start(&flags);
    let path = elsewhere.join("calls-2023-12-01T14.html");
    let segments = segments();
    let mut before = Vec::new();
    // A leap of the clock is believed when more packets come after it: the second segment is read
    // when the third is there.
    for part in [&segments[..1], &segments[1..3]] {
        desk.deliver_all(part);
        let changes = || fs::read(&path).is_ok_and(|report| report != before);
        assert!(within(Duration::from_secs(30), changes), "{}", watch.log());
        before = fs::read(&path).unwrap();
    }
    assert!(watch.is_running());
    desk.deliver_all(&segments[3..]);
    let last = elsewhere.join("calls-2023-12-01T15.html");
    assert!(
        within(Duration::from_secs(30), || last.exists()),
        "{}",
        watch.log()
    );
    let ran = watch.end("TERM").is(0);
    ran.says("calls-2023-12-01T14.html: a report of 5 calls");
    assert_eq!(
        names_in(&elsewhere),
        ["calls-2023-12-01T14.html", "calls-2023-12-01T15.html"]
    );
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn without_a_report_there_is_nothing_to_repeat() {
    let desk = Desk::new();
    let ran = desk.run(&["--report-every", "day"]);
    assert_eq!(ran.status, Some(2));
    ran.says("--report");
}
