//! End to end: SIPp calls SIPp over the agent's wire. The extractor finds the same calls in the
//! agent's segments as in a simultaneous tcpdump capture, whether it reads them afterwards or while
//! the agent captures.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    lab::{Lab, Program, Tap, WIRE, wait_until},
    sipp,
};

use crate::{
    agent::{Agent, names_in, read, segments},
    disks::Disk,
};

/// Returns the extractor, set to write to this directory. A build of the workspace provides it.
pub fn extractor(output: &Path) -> Command {
    let path =
        Path::new(env!("CARGO_BIN_EXE_sip-capture-agent")).with_file_name("sip-call-extractor");
    assert!(
        path.exists(),
        "{} is not there: test the whole workspace, as scripts/test does",
        path.display()
    );
    let mut command = Command::new(path);
    command
        .env_remove("RUST_LOG")
        .args([
            "--sip-ports-range",
            "5060-5079",
            "--linger",
            "1s",
            "--output-dir",
        ])
        .arg(output);
    command
}

pub fn ends_well(command: &mut Command) {
    let run = command.output().unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// The extractor's results without times: each tap stamps the packets itself.
#[derive(Debug, PartialEq, Eq)]
struct Extracted {
    /// The frames of each call, by Call-ID.
    calls: BTreeMap<String, Vec<Vec<u8>>>,
    rows: Vec<String>,
}

fn extracted<S: AsRef<OsStr>>(files: impl Iterator<Item = S>, output: &Path) -> Extracted {
    let mut command = extractor(output);
    files.for_each(|file| {
        command.arg("--input-file").arg(file);
    });
    ends_well(&mut command);
    results(output)
}

/// Reads an output directory.
fn results(output: &Path) -> Extracted {
    let calls = table(&output.join("detected_calls.csv"));
    let frames = |row: &Row| {
        read(&output.join(&row["output_pcap_filename"]))
            .into_iter()
            .map(|record| record.frame)
            .collect()
    };
    let streams = table(&output.join("calls_statistics.csv"));
    let mut rows: Vec<String> = calls.iter().chain(&streams).map(without_times).collect();
    rows.sort();
    Extracted {
        calls: calls
            .iter()
            .map(|row| (row["call_id"].clone(), frames(row)))
            .collect(),
        rows,
    }
}

type Row = BTreeMap<String, String>;

/// Reads a table. SIPp's fields contain no commas.
fn table(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        head.iter()
            .copied()
            .map(str::to_owned)
            .zip(line.split(',').map(str::to_owned))
            .collect()
    };
    lines.map(row).collect()
}

fn without_times(row: &Row) -> String {
    let is_time = |name: &str| {
        ["_ms", "_s", "timestamp", "filename", "mos"]
            .iter()
            .any(|part| name.contains(part))
            && name != "ptime_ms"
    };
    // Only the agent says what was dropped.
    let fields = row.iter().filter(|(name, _)| {
        (!is_time(name) || name.ends_with("_count")) && *name != "capture_drops"
    });
    fields
        .map(|(name, value)| format!("{name}={value} "))
        .collect()
}

fn whole_in_segments(calls: sipp::Calls) {
    let lab = Lab::new();
    let output = lab.folder().join("segments");
    let arguments = ["--sip-ports-range", "5060-5079", "--rotate-size", "8KiB"];
    let agent = Agent::on_wire(&lab.phones[0], lab.folder(), &output, &arguments);
    let tap = lab.tap();
    calls.make(&lab);
    let beside = tap.stop(&lab);
    let log = agent.end("TERM");
    let segments = segments(&output);
    assert!(segments.len() > 5, "{log}");
    let of_agent = extracted(
        segments.iter().map(|(_, path)| path),
        &lab.folder().join("of-agent"),
    );
    let of_tcpdump = extracted([beside].iter(), &lab.folder().join("of-tcpdump"));
    assert_whole(calls, &of_agent, &of_tcpdump, &log);
}

#[track_caller]
fn assert_whole(calls: sipp::Calls, of_agent: &Extracted, of_tcpdump: &Extracted, log: &str) {
    assert_eq!(of_agent.calls.len(), calls.total());
    assert!(
        of_agent
            .rows
            .iter()
            .filter(|row| row.contains("state=completed"))
            .count()
            == calls.total(),
        "{:?}",
        of_agent.rows
    );
    assert_eq!(of_agent, of_tcpdump, "{log}");
}

#[test]
fn calls_over_udp_come_out_whole() {
    whole_in_segments(sipp::UDP);
}

#[test]
fn long_messages_over_udp_come_out_with_all_their_fragments() {
    whole_in_segments(sipp::Calls {
        padding: sipp::LONG,
        audio_ms: 0,
        ..sipp::UDP
    });
}

#[test]
fn calls_over_tcp_come_out_whole() {
    whole_in_segments(sipp::TCP);
}

/// Makes calls while an extractor in another process reads the agent's segments as they are closed.
/// Checks that the calls are complete, and returns the remaining file names in the agent's
/// directory and its log.
fn whole_while_watched(
    lab: &Lab,
    interfaces: &[&str],
    calls: sipp::Calls,
    after_processing: &str,
    agents: &[&str],
) -> (Vec<String>, String) {
    let [disk, of_tcpdump] = ["disk", "of-tcpdump"].map(|name| lab.folder().join(name));
    let [segments, output] = ["segments", "calls"].map(|name| disk.join(name));
    fs::create_dir(&disk).unwrap();
    // The time that the extractor takes must not depend on other programs that use the disk.
    let _disk = Disk::mount(&disk, "64m");
    let arguments = [&["--sip-ports-range", "5060-5079"], agents].concat();
    let agent = Agent::on(
        interfaces,
        &lab.phones[0],
        lab.folder(),
        &segments,
        &arguments,
    );
    let from_segments = |flag| {
        let mut command = extractor(&output);
        command.arg("--input-dir").arg(&segments).args([
            "--after-processing",
            after_processing,
            flag,
        ]);
        command
    };
    let mut watch = Program::start(from_segments("--watch"), "watch", lab.folder());
    let taps = interfaces
        .iter()
        .zip([lab.addresses[1], lab.media[1]])
        .map(|(interface, behind)| lab.tap_at(interface, behind));
    let taps: Vec<Tap> = taps.collect();
    calls.make(lab);
    let beside = merged(
        taps.into_iter().map(|tap| tap.stop(lab)),
        &lab.folder().join("beside.pcap"),
    );
    let log = agent.end("TERM");
    wait_until("the last segment to be processed", || {
        unprocessed(&segments).is_empty()
    });
    watch.signal("TERM");
    assert_eq!(watch.end().code(), Some(0), "{}", watch.said());
    assert!(
        !watch.said().contains("WARN") && !watch.said().contains("ERROR"),
        "{}",
        watch.said()
    );
    assert!(
        !table(&output.join("detected_calls.csv")).is_empty(),
        "calls come out before the end: {}",
        watch.said()
    );
    ends_well(&mut from_segments("--final"));
    let parts: Vec<String> = names_in(&output)
        .into_iter()
        .filter(|name| name.ends_with(".part"))
        .collect();
    assert!(parts.is_empty(), "{parts:?}");
    let mut both = [results(&output), extracted([beside].iter(), &of_tcpdump)];
    if interfaces.len() > 1 {
        // The two taps may order packets of different interfaces differently.
        both.iter_mut()
            .flat_map(|extracted| extracted.calls.values_mut())
            .for_each(|frames| frames.sort());
    }
    let [of_agent, of_tcpdump] = &both;
    assert_whole(calls, of_agent, of_tcpdump, &log);
    (names_in(&segments), log)
}

/// Merges captures in the order of time.
fn merged(captures: impl Iterator<Item = PathBuf>, to: &Path) -> PathBuf {
    ends_well(
        Command::new("mergecap")
            .args(["-F", "pcap", "-w"])
            .arg(to)
            .args(captures),
    );
    to.to_owned()
}

/// Returns the closed segments without a mark.
fn unprocessed(directory: &Path) -> Vec<String> {
    let names = names_in(directory);
    let is_marked = |name: &str| names.contains(&format!(".{name}.processed"));
    names
        .iter()
        .filter(|name| !name.starts_with('.') && !is_marked(name))
        .cloned()
        .collect()
}

/// Calls for longer than the linger, so that some are closed while others begin.
const MORE: usize = 6;

/// The interval is shorter than a call, so each call is in several segments.
#[test]
fn calls_come_out_whole_while_their_segments_are_deleted() {
    let calls = sipp::Calls {
        count: MORE,
        ..sipp::UDP
    };
    let (left, log) = whole_while_watched(
        &Lab::new(),
        &[WIRE],
        calls,
        "delete",
        &["--rotate-every", "500ms"],
    );
    assert_eq!(left, Vec::<String>::new(), "{log}");
    assert!(log.matches("reason=").count() > MORE, "{log}");
}

/// Only processed segments are deleted: there are always enough of them.
#[test]
fn calls_come_out_whole_while_the_agent_makes_room() {
    let calls = sipp::Calls {
        count: MORE,
        ..sipp::TCP
    };
    let arguments = ["--rotate-size", "8KiB", "--max-disk-bytes", "128KiB"];
    let (left, log) = whole_while_watched(&Lab::new(), &[WIRE], calls, "keep", &arguments);
    let (marks, segments): (Vec<String>, Vec<String>) =
        left.into_iter().partition(|name| name.starts_with('.'));
    assert_eq!(
        marks,
        segments
            .iter()
            .map(|name| format!(".{name}.processed"))
            .collect::<Vec<_>>(),
        "{log}"
    );
    assert!(
        log.contains("deleted for --max-disk-bytes") && !log.contains("ERROR"),
        "{log}"
    );
}

/// Signalling on one interface, audio on the other: two series of segments in one directory, closed
/// at different times.
#[test]
fn calls_over_two_interfaces_come_out_whole() {
    const AUDIO: [&str; 2] = ["203.0.113.1", "203.0.113.2"];
    let mut lab = Lab::new();
    lab.phones[0].wire("audio", &lab.phones[1], "audio");
    lab.number("audio", AUDIO);
    let lab = lab.with_media_at(AUDIO);
    let calls = sipp::Calls {
        count: MORE,
        ..sipp::UDP
    };
    let (left, log) = whole_while_watched(
        &lab,
        &[WIRE, "audio"],
        calls,
        "delete",
        &["--rotate-every", "500ms"],
    );
    assert_eq!(left, Vec::<String>::new(), "{log}");
}
