//! DuckDB reads the Parquet files, and finds the values of the CSV files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    desk::Desk,
    ladder::Ladder,
    sip::{Sdp, request, response},
};

use crate::segments::{
    everything::{Form, Packets},
    lake,
};

/// The Python with DuckDB.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/venv/bin/python");
    assert!(python.exists(), "no DuckDB: run scripts/setup");
    python
}

fn compare(desk: &Desk) -> String {
    let output = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/compare.py"))
        .arg(&desk.out)
        .arg(desk.folder().join("lake"))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    String::from_utf8(output.stdout).unwrap()
}

fn run(desk: &Desk, capture: &Path, flags: &[&str]) {
    let mut command = desk.extractor();
    command.arg(capture).args(lake::flags(desk)).args(flags);
    desk.ended(&mut command).is(0);
}

#[test]
fn all_values_are_those_of_the_tables() {
    let desk = Desk::new();
    let capture = desk.folder().join("everything.pcap");
    fs::write(&capture, Packets::everything(Form::Micro).whole()).unwrap();
    let flags = ["--s3-uri", "s3://calls/a/", "--dtmf-digits"];
    run(&desk, &capture, &flags);
    let said = compare(&desk);
    assert_eq!(said.lines().count(), 2, "{said}");
    // Columns that the capture leaves empty prove nothing.
    for column in [
        "final_status",
        "talk_s",
        "one_way",
        "codecs",
        "mos",
        "rtcp_rtt_ms",
        "cname",
    ] {
        let is_empty = said.split_whitespace().any(|word| word == column);
        assert!(!is_empty, "{column} is empty: {said}");
    }
    let first = lake::rows(&desk);
    run(
        &desk,
        &capture,
        &["--overwrite", "--s3-uri", "s3://calls/a/", "--dtmf-digits"],
    );
    assert_eq!(lake::rows(&desk), first, "the same files are replaced");
    compare(&desk);
    run(
        &desk,
        &capture,
        &["--s3-uri", "s3://calls/a/", "--dtmf-digits"],
    );
    assert_eq!(
        lake::rows(&desk).len(),
        2 * first.len(),
        "rows are appended"
    );
}

#[test]
fn text_is_as_it_was_sent_and_days_are_those_of_the_start() {
    let desk = Desk::new();
    let mut t = Ladder::new();
    let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|ip| format!("{ip}:5060").parse().unwrap());
    let day_ms = 86_400_000;
    for (id, at) in [("=first", 0), ("second", day_ms)] {
        let media = "192.0.2.1:4000".parse().unwrap();
        t.sip(at, a, b, request("INVITE", id).sdp(&Sdp::audio(media)));
        t.sip(at + 50, b, a, response(486, "INVITE", id));
    }
    let capture = desk.folder().join("days.pcap");
    fs::write(&capture, t.capture.to_pcap()).unwrap();
    run(&desk, &capture, &["--columns", "classic"]);
    let rows = lake::rows(&desk);
    let [first, second] = &rows[..] else {
        panic!("{rows:#?}")
    };
    assert!(
        first.starts_with("calls/dt=2023-12-01 ") && first.contains("call_id: \"=first\""),
        "{first}"
    );
    assert!(second.starts_with("calls/dt=2023-12-02 "), "{second}");
    // The classic columns are a matter of the CSV files.
    assert!(second.contains("source_ip: \"192.0.2.1\""), "{second}");
}
