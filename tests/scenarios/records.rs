//! The records in JSON. Those of all scenarios fit the schema and the tables.

use std::{fs, path::Path, sync::LazyLock};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use support::{
    ladder::Row,
    media::{Block, press, receiver_report, voip_metrics},
};

use super::*;

static SCHEMA: LazyLock<(Schemas, SchemaIndex)> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/calls.schema.json");
    let schema = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("calls.schema.json", schema).unwrap();
    let index = compiler.compile("calls.schema.json", &mut schemas).unwrap();
    (schemas, index)
});

/// Returns what is wrong with a record.
fn misfit(record: &Value) -> Option<String> {
    let (schemas, index) = &*SCHEMA;
    let validated = schemas.validate(record, *index);
    validated.err().map(|error| format!("{error:#}"))
}

fn records(out: &Extracted) -> Vec<Value> {
    let text = fs::read_to_string(out.out.join("calls.jsonl")).unwrap_or_default();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Checks that the records fit the schema, and have what the tables have.
pub fn check(out: &Extracted) {
    let records = records(out);
    assert_eq!(records.len(), out.calls.len(), "records and rows");
    let mut streams = out.streams.iter();
    for (record, row) in records.iter().zip(&out.calls) {
        if let Some(why) = misfit(record) {
            panic!("{record:#}\n{why}");
        }
        same(record, row, &["dtmf", "conversation_links"]);
        let own = record["streams"].as_array().unwrap();
        for stream in own {
            let of_call = [
                "call_id",
                "start_timestamp",
                "output_pcap_filename",
                "sip_from",
                "sip_to",
                "s3_location",
            ];
            let row = streams.next().unwrap();
            same(stream, row, &of_call);
            has_all_in_series(stream);
        }
    }
    assert_eq!(streams.next(), None, "a stream without a call");
}

/// Checks that a record has the cells of a row.
fn same(record: &Value, row: &Row, but_for: &[&str]) {
    for (column, cell) in row.cells().filter(|(column, _)| !but_for.contains(column)) {
        let value = &record[column];
        let is_same = match value {
            Value::Null => cell.is_empty(),
            Value::Number(number) => cell.parse() == Ok(number.as_f64().unwrap()),
            Value::Bool(is_so) => cell == is_so.to_string(),
            Value::String(text) => {
                // Tables replace what a terminal or a spreadsheet would run.
                let is_plain = !cell.contains('\u{fffd}');
                !is_plain
                    || cell.strip_prefix('\'').unwrap_or(cell)
                        == text.strip_prefix('\'').unwrap_or(text)
            }
            Value::Array(words) => {
                let words: Vec<&str> = words.iter().map(|word| word.as_str().unwrap()).collect();
                let text = words.join(" ");
                cell.contains('\u{fffd}') || cell.strip_prefix('\'').unwrap_or(cell) == text
            }
            Value::Object(_) => false,
        };
        assert!(is_same, "{column}: {value} and {cell:?}");
    }
}

/// Checks that a series has all packets of its stream.
fn has_all_in_series(stream: &Value) {
    let sum = |name: &str| {
        let series = stream["series"].as_array().unwrap();
        series
            .iter()
            .map(|interval| interval[name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(sum("packets"), stream["rtp_packet_count"], "{stream:#}");
    assert_eq!(sum("lost"), stream["lost_packets"], "{stream:#}");
}

#[track_caller]
fn only(t: &mut Ladder) -> Value {
    let mut records = records(&extracted(t));
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn a_call_with_everything() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=500);
    t.sip(5_000, A, B, re_invite("1", 2).sdp(&Sdp::audio(A_NEW_MEDIA)));
    hung_up(&mut t, 11_000, "1");
    let record = only(&mut t);
    let messages = record["messages"].as_array().unwrap();
    let line = |message: &Value| {
        let text = |name: &str| message[name].as_str().unwrap_or("-").to_owned();
        let (side, from) = (text("side"), text("from"));
        format!("{side} {from} {}", text("start_line"))
    };
    let lines: Vec<String> = messages.iter().map(line).collect();
    let (a, b) = ("caller 192.0.2.1:5060", "callee 192.0.2.2:5060");
    assert_eq!(lines.len(), 7);
    assert!(
        lines[0].starts_with(&format!("{a} INVITE sip:")),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with(&format!("{b} SIP/2.0 200")),
        "{lines:?}"
    );
    assert_eq!(messages[0]["timestamp"], "2023-12-01T14:30:22.123456Z");
    assert_eq!(messages[6]["timestamp"], "2023-12-01T14:30:33.143456Z");
    assert_eq!(messages[1]["to_tag"], "bob");
    assert_eq!(messages[6]["cseq"], "9 BYE");
    let size = invite("1").sdp(&Sdp::audio(A_MEDIA)).bytes().len();
    assert_eq!(messages[0]["size_bytes"], size);

    assert_eq!(record["legs"][0]["progress"], "answered");
    assert_eq!(record["legs"][0]["final_status"], 200);
    assert_eq!(record["legs"][0]["cseq"], "1");
    assert_eq!(record["dialogs"][0]["to_tag"], "bob");
    assert_eq!(record["dialogs"][0]["is_open"], false);

    let media = record["media"].as_array().unwrap();
    let who: Vec<String> = media
        .iter()
        .map(|media| {
            format!(
                "{} {} {} {}",
                media["side"], media["message"], media["media"], media["endpoints"][0]["endpoint"]
            )
        })
        .collect();
    assert_eq!(
        who,
        [
            r#""caller" 0 "audio" "192.0.2.1:4000""#,
            r#""callee" 2 "audio" "192.0.2.2:6000""#,
            r#""caller" 4 "audio" "192.0.2.1:4100""#,
        ]
    );
    assert_eq!(media[0]["formats"][0]["codec"], "PCMA");
    assert_eq!(media[0]["direction"], "sendrecv");

    let series = record["streams"][0]["series"].as_array().unwrap();
    let starts: Vec<&str> = series
        .iter()
        .map(|one| one["start_timestamp"].as_str().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "2023-12-01T14:30:20.000000Z",
            "2023-12-01T14:30:25.000000Z",
            "2023-12-01T14:30:30.000000Z"
        ]
    );
}

#[test]
fn exact_bytes() {
    let mut t = ladder();
    let text = String::from_utf8(invite("+1").bytes()).unwrap();
    let bytes: Vec<u8> = text.bytes().collect();
    let at = text.find("alice").unwrap();
    let mut bytes = bytes;
    bytes[at] = 0xff;
    t.udp(0, A, B, &bytes);
    let record = only(&mut t);
    assert_eq!(record["call_id"], "+1");
    assert_eq!(record.get("call_id_b64"), None);
    assert!(
        record["sip_from"]
            .as_str()
            .unwrap()
            .contains("\u{fffd}lice")
    );
    assert!(record["sip_from_b64"].is_string());
}

#[test]
fn neither_keys_nor_digits() {
    let mut t = ladder();
    let sdp = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\na=sendonly\r\n";
    t.sip(0, A, B, invite("1").body("application/sdp", sdp.as_bytes()));
    t.sip(
        50,
        A,
        B,
        request("INFO", "1")
            .cseq(2)
            .body("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"),
    );
    let out = extracted(&mut t);
    let text = fs::read_to_string(out.out.join("calls.jsonl")).unwrap();
    assert!(
        !text.contains("inline") && !text.contains("d0Rmdmcm"),
        "{text}"
    );
    let record = &records(&out)[0];
    assert_eq!(record["media"][0]["secured"], true);
    assert_eq!(record["media"][0]["direction"], "sendonly");
    assert_eq!(
        (&record["dtmf_count"], record.get("dtmf")),
        (&1.into(), None)
    );
    assert_eq!(only(&mut t.flag("--dtmf-digits"))["dtmf"], "5");
}

#[test]
fn what_a_receiver_reports_over_time() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(1_000, A_MEDIA, B_MEDIA, 7, 1..=600);
    let about = |fraction, jitter| Block {
        ssrc: 7,
        fraction,
        jitter,
        highest: 40,
        ..Block::default()
    };
    let b_rtcp = end([192, 0, 2, 2], 6001);
    // The capture begins at 22.123 s: the first two come within five seconds.
    for (at, fraction, jitter) in [(3_000, 10, 8), (7_000, 64, 80), (13_000, 0, 16)] {
        let report = receiver_report(8, about(fraction, jitter));
        t.udp(at, b_rtcp, A_RTCP, &report);
    }
    t.udp(12_500, b_rtcp, A_RTCP, &voip_metrics(8, 7, 42, 40));
    hung_up(&mut t, 20_000, "1");
    let record = only(&mut t);
    let reported = json!([
        {"start_timestamp": "2023-12-01T14:30:25.000000Z", "length_s": 5.0, "loss_percent": 25.0, "jitter_ms": 10.0},
        {"start_timestamp": "2023-12-01T14:30:30.000000Z", "length_s": 5.0, "mos": 4.2},
        {"start_timestamp": "2023-12-01T14:30:35.000000Z", "length_s": 5.0, "loss_percent": 0.0, "jitter_ms": 2.0},
    ]);
    assert_eq!(record["streams"][0]["rtcp_series"], reported);
}

#[test]
fn when_digits_were_pressed() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    for (n, packet) in press(&Rtp::new(7, 1), 4).iter().enumerate() {
        t.udp(1_000 + n as u64 * 20, A_MEDIA, B_MEDIA, packet);
    }
    let info = request("INFO", "1").cseq(2).to_tag("bob");
    let info = info.body("application/dtmf-relay", b"Signal=#\r\nDuration=160\r\n");
    t.sip(5_000, A, B, info);
    hung_up(&mut t, 9_000, "1");
    let (first, second) = ("2023-12-01T14:30:23.123456Z", "2023-12-01T14:30:27.123456Z");
    let times = json!([{"timestamp": first, "ssrc": 7}, {"timestamp": second}]);
    assert_eq!(only(&mut t)["dtmf_presses"], times);
    let digits =
        json!([{"timestamp": first, "ssrc": 7, "digit": "4"}, {"timestamp": second, "digit": "#"}]);
    assert_eq!(only(&mut t.flag("--dtmf-digits"))["dtmf_presses"], digits);
}

/// A call that comes again replaces its record; the others stay as they are.
#[test]
fn a_call_that_comes_again() {
    use support::desk::Desk;

    let desk = Desk::new();
    let run = |id: &str, at: u64| {
        let mut t = Ladder::new();
        answered(&mut t, at, id, A_MEDIA, B_MEDIA);
        hung_up(&mut t, at + 500, id);
        let input = desk.folder().join("again.pcap");
        fs::write(&input, t.capture.to_pcap()).unwrap();
        let mut command = desk.extractor();
        command
            .arg("--input-file")
            .arg(&input)
            .args(["--json", "--overwrite"]);
        desk.ended(&mut command).is(0);
        fs::read_to_string(desk.out.join("calls.jsonl")).unwrap()
    };
    let first = run("=1", 0);
    let both = run("2", 100);
    assert!(
        both.starts_with(&first) && both.lines().count() == 2,
        "{both}"
    );
    let again = run("=1", 0);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        lines(&again),
        [&lines(&both)[1..], &lines(&first)[..]].concat()
    );
}

#[test]
fn a_file_of_another_version_is_not_appended_to() {
    use support::desk::Desk;

    for (there, words) in [
        ("{\"schema_version\":7}\n", "schema_version 7"),
        ("{\"schema_version\":1}", "ends in the middle"),
        ("x\n", "does not begin with a record"),
    ] {
        let desk = Desk::new();
        fs::create_dir_all(&desk.out).unwrap();
        let path = desk.out.join("calls.jsonl");
        fs::write(&path, there).unwrap();
        let ran = desk.run(&["--json"]);
        assert_eq!(ran.status, Some(1));
        assert!(ran.log.contains(words), "{}", ran.log);
        assert_eq!(fs::read_to_string(path).unwrap(), there);
    }
}

#[test]
fn no_table_may_have_its_name() {
    use support::desk::Desk;

    let desk = Desk::new();
    let ran = desk.run(&["--json", "--stats-filename", "calls.jsonl"]);
    assert_eq!(ran.status, Some(2));
    ran.says("give the tables other names");
}

/// The schema refuses what is not described: otherwise the other tests would prove nothing.
#[test]
fn the_schema_is_tight() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    talk(&mut t, 300);
    let good = only(&mut t);
    assert_eq!(misfit(&good), None);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        misfit(&changed)
    };
    for change in [
        (&|record: &mut Value| record["new"] = 1.into()) as &dyn Fn(&mut Value),
        &|record| record["state"] = "over".into(),
        &|record| record["schema_version"] = 2.into(),
        &|record| record["streams"][0]["new"] = 1.into(),
        &|record| record["streams"][0]["series"][0]["lost"] = (-1).into(),
        &|record| record["media"][0]["endpoints"][0]["endpoint"] = "a:b".into(),
        &|record| drop(record.as_object_mut().unwrap().remove("call_id")),
    ] {
        assert!(with(change).is_some());
    }
}
