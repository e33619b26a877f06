//! End to end: SIPp calls SIPp through the agent's wire, and the extractor finds in its segments what it finds in a capture
//! of tcpdump's beside it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    agent::{Agent, read, segments},
    lab::Lab,
    sipp,
};

/// Built by whoever tests the workspace.
fn extractor() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_sip-capture-agent")).with_file_name("sip-call-extractor");
    assert!(path.exists(), "{} is not there: test the whole workspace, as scripts/test does", path.display());
    path
}

/// What the extractor makes of a capture, but for times: each tap stamps the packets itself.
#[derive(Debug, PartialEq, Eq)]
struct Extracted {
    /// The frames of each call, by Call-ID.
    calls: BTreeMap<String, Vec<Vec<u8>>>,
    rows: Vec<String>,
}

fn extracted<S: AsRef<OsStr>>(files: impl Iterator<Item = S>, output: &Path) -> Extracted {
    let mut command = Command::new(extractor());
    files.for_each(|file| {
        command.arg("--input-file").arg(file);
    });
    let run = command.args(["--sip-ports-range", "5060-5079", "--output-dir"]).arg(output).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let calls = table(&output.join("detected_calls.csv"));
    let frames = |row: &Row| read(&output.join(&row["output_pcap_filename"])).into_iter().map(|record| record.frame).collect();
    let streams = table(&output.join("calls_statistics.csv"));
    let mut rows: Vec<String> = calls.iter().chain(&streams).map(without_times).collect();
    rows.sort();
    Extracted { calls: calls.iter().map(|row| (row["call_id"].clone(), frames(row))).collect(), rows }
}

type Row = BTreeMap<String, String>;

/// SIPp's fields have no commas in them.
fn table(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| head.iter().copied().map(str::to_owned).zip(line.split(',').map(str::to_owned)).collect();
    lines.map(row).collect()
}

fn without_times(row: &Row) -> String {
    let is_time =
        |name: &str| ["_ms", "_s", "timestamp", "filename"].iter().any(|part| name.contains(part)) && name != "ptime_ms";
    let fields = row.iter().filter(|(name, _)| !is_time(name) || name.ends_with("_count"));
    fields.map(|(name, value)| format!("{name}={value} ")).collect()
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
    let of_agent = extracted(segments.iter().map(|(_, path)| path), &lab.folder().join("of-agent"));
    let of_tcpdump = extracted([beside].iter(), &lab.folder().join("of-tcpdump"));
    assert_eq!(of_agent.calls.len(), calls.total());
    assert!(of_agent.rows.iter().filter(|row| row.contains("state=completed")).count() == calls.total(), "{:?}", of_agent.rows);
    assert_eq!(of_agent, of_tcpdump, "{log}");
}

#[test]
fn calls_over_udp_come_out_whole() {
    whole_in_segments(sipp::UDP);
}

#[test]
fn long_messages_over_udp_come_out_with_all_their_fragments() {
    whole_in_segments(sipp::Calls { padding: sipp::LONG, with_audio: false, ..sipp::UDP });
}

#[test]
fn calls_over_tcp_come_out_whole() {
    whole_in_segments(sipp::TCP);
}
