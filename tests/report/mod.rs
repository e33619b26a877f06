//! Reports: the file, and what a person sees and does in a browser.

mod crowd;
mod every;
mod page;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use support::{
    desk::{Desk, Ran},
    ladder::{Ladder, extractor},
};

/// Runs `report` over records in a folder, and returns the report.
fn reported(folder: &Path, records: &str, flags: &[&str]) -> (PathBuf, Output) {
    let report = folder.join("report.html");
    let output = extractor()
        .arg("report")
        .arg(folder.join(records))
        .arg("-o")
        .arg(&report)
        .args(flags)
        .output()
        .unwrap();
    (report, output)
}

/// Runs the extractor over a ladder with these flags; its results are on the desk.
fn run(t: &mut Ladder, flags: &[&str]) -> (Desk, Ran) {
    let desk = Desk::new();
    t.sort();
    let input = desk.folder().join("calls.pcap");
    fs::write(&input, t.capture.to_pcap()).unwrap();
    let mut command = desk.extractor();
    command.arg("--input-file").arg(&input).args(flags);
    let ran = desk.ended(&mut command);
    (desk, ran)
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_run_writes_the_report_that_the_command_writes() {
    let mut t = page::calls();
    let desk = Desk::new();
    let report = desk.out.join("calls.html");
    let flags = ["--report", report.to_str().unwrap()];
    let input = desk.folder().join("calls.pcap");
    t.sort();
    fs::write(&input, t.capture.to_pcap()).unwrap();
    let mut command = desk.extractor();
    command.arg("--input-file").arg(&input).args(flags);
    desk.ended(&mut command).is(0);
    let of_run = fs::read(&report).unwrap();
    fs::remove_file(&report).unwrap();
    for _ in 0..2 {
        let made = extractor()
            .arg("report")
            .arg(&desk.out)
            .arg("-o")
            .arg(&report)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        assert!(fs::read(&report).unwrap() == of_run, "another report");
    }
    let names = desk.everything_in_out();
    assert!(!names.keys().any(|name| name.ends_with(".part")));
    let text = String::from_utf8(of_run).unwrap();
    assert!(text.contains("default-src 'none'") && !text.contains("unsafe"));
}

#[test]
fn texts_are_in_the_records_only_where_they_are_asked_for() {
    let texts = |flags: &[&str]| {
        let (desk, ran) = run(&mut page::calls(), flags);
        ran.is(0);
        let records = records(&desk.out.join("calls.jsonl"));
        let messages = records
            .iter()
            .flat_map(|call| call["messages"].as_array().unwrap());
        messages
            .filter(|message| message["text"].is_string())
            .count()
    };
    assert_eq!(texts(&["--json"]), 0);
    let all = texts(&["--json-messages"]);
    assert!(all > 10, "{all}");
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("r.html");
    let to = report.to_str().unwrap();
    assert_eq!(texts(&["--report", to]), all);
    assert_eq!(texts(&["--report", to, "--report-without", "messages"]), 0);
    assert_eq!(texts(&["--report", to, "--report-without", "numbers"]), 0);
}

#[test]
fn neither_keys_nor_digits_in_texts() {
    let texts = |flags: &[&str]| {
        let (desk, ran) = run(&mut page::secrets(), flags);
        ran.is(0);
        fs::read_to_string(desk.out.join("calls.jsonl")).unwrap()
    };
    let text = texts(&["--json-messages"]);
    assert!(
        text.contains("inline:****") && !text.contains("d0RmdmcmVCspeEc3"),
        "{text}"
    );
    assert!(!text.contains("Signal=5"), "{text}");
    assert!(text.contains("text_cut"), "{text}");
    assert!(texts(&["--json-messages", "--dtmf-digits"]).contains("Signal=5"));
}

#[test]
fn lines_that_are_no_records_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let good = crowd::record(1, false);
    let text = format!("{good}\nno record\n{{\"schema_version\":7}}\n\n{good}");
    fs::write(folder.path().join("calls.jsonl"), text).unwrap();
    let (report, output) = reported(folder.path(), "calls.jsonl", &[]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains("2 calls; 2 lines are no records"), "{log}");
    assert!(report.exists());
    let (_, output) = reported(folder.path(), "none", &[]);
    assert_eq!(output.status.code(), Some(1));
    fs::create_dir(folder.path().join("empty")).unwrap();
    let (_, output) = reported(folder.path(), "empty", &[]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("runs with --json or --report write it"),
        "{log}"
    );
}

/// The blocks of a kind in a report.
#[cfg(feature = "parquet")]
fn blocks(report: &Path, kind: &str) -> Vec<Value> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = fs::read_to_string(report).unwrap();
    let begin = format!("<script type=\"application/octet-stream\" class=\"{kind}\">");
    let block = |rest: &str| {
        let packed = BASE64_STANDARD
            .decode(rest.split('<').next().unwrap())
            .unwrap();
        serde_json::from_reader(flate2::read::GzDecoder::new(&packed[..])).unwrap()
    };
    text.split(&begin).skip(1).map(block).collect()
}

/// Parquet files have the same rows; what only records have is missing.
#[cfg(feature = "parquet")]
#[test]
fn parquet_files_become_a_report() {
    let lake = tempfile::tempdir().unwrap();
    let path = lake.path().to_str().unwrap();
    let (desk, ran) = run(&mut page::calls(), &["--json-messages", "--parquet", path]);
    ran.is(0);
    let (of_records, output) = reported(&desk.out, "calls.jsonl", &[]);
    assert!(output.status.success());
    let (of_lake, output) = reported(lake.path(), ".", &[]);
    assert!(output.status.success(), "{output:?}");
    let [mut want, mut got] =
        [&of_records, &of_lake].map(|report| blocks(report, "rows").remove(0));
    for rows in [&mut want, &mut got] {
        let rows = rows.as_object_mut().unwrap();
        // A row of the table has no ports.
        for end in ["source", "destination"] {
            for value in rows[end].as_array_mut().unwrap() {
                *value = value.as_str().unwrap().trim_end_matches(":5060").into();
            }
        }
        assert_eq!(rows["call_id"].as_array().unwrap().len(), 5);
    }
    let by_call = |rows: &Value| {
        let count = rows["call_id"].as_array().unwrap().len();
        let cells = |place: usize| {
            let columns = rows.as_object().unwrap().iter();
            let columns = columns.filter(|(name, _)| *name != "detail");
            columns
                .map(|(name, values)| format!("{name} {}", values[place]))
                .collect::<Vec<_>>()
        };
        let mut all: Vec<Vec<String>> = (0..count).map(cells).collect();
        all.sort();
        all
    };
    assert_eq!(by_call(&got), by_call(&want));
    browse("lake", &of_lake, Some(&desk.out.join("calls.jsonl")));
}

/// Runs a scenario of tests/browser/page.js, and prints what it says.
#[track_caller]
fn browse(scenario: &str, report: &Path, records: Option<&Path>) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/browser");
    assert!(
        Path::new(folder)
            .join("node_modules/playwright-core")
            .exists(),
        "scripts/setup installs Playwright and Chromium"
    );
    let mut command = Command::new("node");
    command
        .current_dir(folder)
        .arg("page.js")
        .arg(scenario)
        .arg(report);
    command.args(records);
    let output = command.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    print!("{scenario}: {}", said(&output.stdout));
    assert!(
        output.status.success(),
        "{scenario}: {}{}",
        said(&output.stdout),
        said(&output.stderr)
    );
}
