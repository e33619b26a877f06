//! Segments with indexes: a call that is found is extracted as the run over all segments has it.

use std::{fs, path::Path, process::Command};

use support::{
    capture::gzip,
    desk::{Desk, Files, Ran, STATE, assert_same, files, visible},
    dice::Dice,
    faults::{CHANGES, Threads, calls, inject, inject_on},
    ladder::{Ladder, extractor},
    sip::{Sdp, request, response},
};

use super::{
    cuts::{ALL_FILES, results_with_records},
    directory::Names,
    everything::{Form, Packets},
};

/// Sizes with several windows a segment, and several segments a window.
const SIZES: [&[&str]; 2] = [&[], &["--window-bytes", "5000", "--chunk-bytes", "900"]];

fn command(what: &str, desk: &Desk) -> Command {
    let mut command = extractor();
    command.arg(what).arg("--input-dir").arg(&desk.segments);
    command
}

fn index(desk: &Desk) -> Ran {
    desk.ended(&mut command("index", desk)).is(0)
}

/// Flags for records, in which legs are linked as in the whole run.
const RECORDS: [&str; 2] = [ALL_FILES[0], ALL_FILES[2]];

/// Runs `find` with these arguments; its list comes with the outcome.
fn find(desk: &Desk, arguments: &[&str]) -> (Ran, String) {
    let output = command("find", desk).args(arguments).output().unwrap();
    let ran = Ran {
        status: output.status.code(),
        log: String::from_utf8(output.stderr).unwrap(),
    };
    (ran, String::from_utf8(output.stdout).unwrap())
}

/// The results of `find` with these arguments.
fn found(desk: &Desk, arguments: &[&str]) -> (Files, String) {
    let out = desk.folder().join("found");
    let _ = fs::remove_dir_all(&out);
    let (ran, _) = find(
        desk,
        &[arguments, &RECORDS, &["-o", out.to_str().unwrap()]].concat(),
    );
    let mut got = files(&out);
    got.remove(STATE);
    (got, ran.is(0).log)
}

/// The lines of a table with this Call-ID, and its first line.
fn rows(files: &Files, table: &str, id: &str) -> Vec<String> {
    let text = String::from_utf8(files[table].clone()).unwrap();
    let is_of_call = |line: &&str| line.starts_with(&format!("{id},"));
    let head = text.lines().take(1);
    let lines = head.chain(text.lines().filter(is_of_call));
    lines.map(str::to_owned).collect()
}

#[test]
fn all_calls_are_those_of_the_whole_run_wherever_it_is_cut() {
    let mut dice = Dice::new(41);
    for form in [Form::Micro, Form::Nano, Form::TwoLinks] {
        let packets = Packets::everything(form);
        let want = results_with_records(&packets);
        for names in Names::BOTH {
            for (pieces, sizes) in [(1, 0), (7, 1), (31, 0)] {
                let desk = Desk::new();
                desk.deliver_all(&names.cut(&packets, pieces, &mut dice));
                index(&desk);
                let (got, log) = found(&desk, &[SIZES[sizes], &["--conversations"]].concat());
                let what = format!("{form:?}, {pieces} of {names:?}");
                assert_same(&want, &got, &what);
                assert!(!log.contains("read instead"), "{what}: {log}");
            }
        }
    }
}

#[test]
fn each_call_is_that_of_the_whole_run() {
    let packets = Packets::everything(Form::Micro);
    let want = results_with_records(&packets);
    let desk = Desk::new();
    desk.deliver_all(&Names::Agents.cut(&packets, 7, &mut Dice::new(42)));
    index(&desk);
    let records = String::from_utf8(want["calls.jsonl"].clone()).unwrap();
    let records: Vec<(String, &str, serde_json::Value)> = records
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            (record["call_id"].as_str().unwrap().to_owned(), line, record)
        })
        .collect();
    let mut ids: Vec<&String> = records.iter().map(|(id, ..)| id).collect();
    ids.sort();
    ids.dedup();
    assert!(ids.len() > 40);
    for id in ids {
        let quoted = format!("^{}$", id.replace(['+', '.', '('], "."));
        let (got, _) = found(&desk, &["--call-id", &quoted]);
        let of_call = || records.iter().filter(|(other, ..)| other == id);
        let lines: String = of_call().map(|(_, line, _)| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&got["calls.jsonl"]), lines, "{id}");
        for table in ["detected_calls.csv", "calls_statistics.csv"] {
            assert_eq!(rows(&got, table, id), rows(&want, table, id), "{id}");
        }
        let names = of_call().filter_map(|(.., record)| record["output_pcap_filename"].as_str());
        let names: Vec<&str> = names.collect();
        for name in &names {
            assert!(got[*name] == want[*name], "{id}: {name}");
        }
        assert_eq!(got.len(), names.len() + 3, "{id}: {:?}", got.keys());
    }
}

/// One leg is found by its Call-ID; the others, and the file of all, come with it.
#[test]
fn a_leg_brings_the_conversation_of_the_whole_run() {
    let packets = Packets::everything(Form::Nano);
    let want = results_with_records(&packets);
    let records = String::from_utf8(want["calls.jsonl"].clone()).unwrap();
    let record = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    for (legs, first) in [
        (&["paired-a", "paired-b"][..], "paired-a"),
        (
            &["linked-a", "linked-b", "linked-c", "linked-d"],
            "linked-a",
        ),
        (&["leg-in", "leg-out"], "leg-in"),
        (&["short-1"], "short-1"),
    ] {
        let is_leg = |line: &&str| legs.contains(&record(line)["call_id"].as_str().unwrap());
        let lines: Vec<&str> = records.lines().filter(is_leg).collect();
        assert_eq!(lines.len(), legs.len());
        let names = lines.iter().map(|line| {
            let name = &record(line)["output_pcap_filename"];
            name.as_str().unwrap().to_owned()
        });
        let mut names: Vec<String> = names.collect();
        let of_first = records
            .lines()
            .find(|line| record(line)["call_id"] == first);
        let id = record(of_first.unwrap())["conversation_id"].clone();
        if legs.len() > 1 {
            names.push(format!("conversation_{}.pcap", id.as_str().unwrap()));
        }
        for (pieces, leg) in [1, 7, 31].into_iter().zip(legs.iter().cycle()) {
            let what = format!("{leg} in {pieces}");
            let desk = Desk::new();
            desk.deliver_all(&Names::Agents.cut(&packets, pieces, &mut Dice::new(43)));
            index(&desk);
            let asked = format!("^{leg}$");
            let (got, log) = found(&desk, &["--call-id", &asked, "--conversations"]);
            assert_eq!(got.len(), names.len() + 3, "{what}: {:?}", got.keys());
            for name in &names {
                assert!(got.get(name) == want.get(name), "{what}: {name}");
            }
            let got = String::from_utf8_lossy(&got["calls.jsonl"]).into_owned();
            assert_eq!(got.lines().collect::<Vec<_>>(), lines, "{what}");
            assert!(!log.contains("WARN"), "{what}: {log}");
            let flags = ["--call-id", &asked, "--conversation", RECORDS[1]];
            let (ran, list) = find(&desk, &flags);
            assert_eq!(
                list.lines().count(),
                legs.len() + 1,
                "{what}: {list} {}",
                ran.log
            );
        }
    }
}

/// Two calls: `one` before and `two` behind half a MiB of media of `loud`.
fn two_calls() -> Ladder {
    calls_around(2_400)
}

/// Two calls: `one` before and `two` behind so many packets of `loud`.
fn calls_around(packets: u64) -> Ladder {
    let mut t = Ladder::new();
    let end = |text: &str| text.parse().unwrap();
    let (alice, bob) = (end("192.0.2.1:5060"), end("192.0.2.2:5060"));
    for (at, id, packets, ports) in [
        (0, "one", 20, 4000),
        (1_000, "loud", packets, 5000),
        (12_000 + 20 * packets, "two", 20, 6000),
    ] {
        let a = end(&format!("192.0.2.1:{ports}"));
        let b = end(&format!("192.0.2.2:{ports}"));
        t.sip(at, alice, bob, request("INVITE", id).sdp(&Sdp::audio(a)));
        t.sip(
            at + 100,
            bob,
            alice,
            response(200, "INVITE", id).sdp(&Sdp::audio(b)),
        );
        for n in 0..packets {
            let sequence = n as u16;
            t.rtp(at + 200 + 20 * n, a, b, 7, sequence..=sequence);
        }
        let over = at + 300 + 20 * packets;
        t.sip(over, alice, bob, request("BYE", id).to_tag("bob").cseq(2));
    }
    t.sort();
    t
}

/// A desk with these two calls in one segment, and the results of the whole run.
fn desk_of_two() -> (Desk, Files) {
    let desk = Desk::new();
    desk.deliver("calls.pcap", &two_calls().capture.to_pcap());
    index(&desk);
    desk.run(&["--final", "--json"]).is(0);
    let want = visible(&desk.out);
    (desk, want)
}

#[test]
fn an_index_stands_for_its_segment() {
    let (desk, want) = desk_of_two();
    let segment = desk.segments.join("calls.pcap");
    let mut bytes = fs::read(&segment).unwrap();
    let len = bytes.len();
    assert!(len > 400_000);
    // Nobody reads the media of another call.
    bytes[100_000..300_000].fill(0xff);
    fs::write(&segment, bytes).unwrap();
    let (got, log) = found(&desk, &["two"]);
    assert_eq!(
        rows(&got, "calls_statistics.csv", "two"),
        rows(&want, "calls_statistics.csv", "two")
    );
    assert!(
        !log.contains("unreadable") && !log.contains("WARN"),
        "{log}"
    );
}

#[test]
fn what_is_no_index_of_the_segment_is_named_and_the_segment_is_read() {
    let (desk, _) = desk_of_two();
    let [idx, pos] =
        ["idx", "pos"].map(|ending| desk.segments.join(format!("calls.pcap.{ending}")));
    let [index, positions] = [&idx, &pos].map(|path| fs::read(path).unwrap());
    let (want, _) = found(&desk, &["one"]);
    let changed = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x11;
        bytes
    };
    let check = |idx_bytes: Option<&[u8]>, pos_bytes: Option<&[u8]>, words: &str| {
        for (path, bytes) in [(&idx, idx_bytes), (&pos, pos_bytes)] {
            let _ = fs::remove_file(path);
            if let Some(bytes) = bytes {
                fs::write(path, bytes).unwrap();
            }
        }
        let (got, log) = found(&desk, &["one"]);
        assert_same(&want, &got, words);
        assert!(log.contains(words), "no `{words}` in {log}");
        let (ran, list) = find(&desk, &["one", "--strict", "--measure"]);
        assert!(
            ran.is(1).log.contains("calls.pcap") && list.is_empty(),
            "{words}"
        );
    };
    check(None, None, "there is no ");
    check(Some(&index), None, "there is no ");
    check(Some(b""), Some(&positions), "it is no index");
    check(Some(&index[..200]), Some(&positions), "it is damaged");
    check(Some(&changed(&index, 8)), Some(&positions), "version");
    check(
        Some(&changed(&index, 30)),
        Some(&positions),
        "it is damaged",
    );
    for place in (0..positions.len()).step_by(positions.len() / 7) {
        check(
            Some(&index),
            Some(&changed(&positions, place)),
            "read instead",
        );
    }
    // The segment of another day, of the same length.
    let segment = desk.segments.join("calls.pcap");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[24] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    fs::write(&idx, &index).unwrap();
    fs::write(&pos, &positions).unwrap();
    let (_, log) = found(&desk, &["one"]);
    assert!(log.contains("belongs to another segment"), "{log}");
    bytes.extend([0; 16]);
    fs::write(&segment, &bytes).unwrap();
    let (_, log) = found(&desk, &["one"]);
    assert!(log.contains("has changed since"), "{log}");
}

#[test]
fn the_list_has_what_is_asked_for() {
    let (desk, _) = desk_of_two();
    let ids = |arguments: &[&str]| -> Vec<String> {
        let (ran, list) = find(&desk, arguments);
        assert!(ran.status == Some(0) || list.is_empty(), "{}", ran.log);
        let lines = list.lines().skip(1);
        lines
            .map(|line| line.split_whitespace().last().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&[]), ["one", "loud", "two"]);
    assert_eq!(ids(&["--last", "2"]), ["loud", "two"]);
    assert_eq!(ids(&["ONE"]), ["one"]);
    assert_eq!(ids(&["one", "or", "two"]), ["one", "two"]);
    assert_eq!(ids(&["state = completed and not loud"]), ["one", "two"]);
    assert_eq!(ids(&["duration > 10"]), ["loud"]);
    assert_eq!(ids(&["ip = 192.0.2.0/24 and call_id ~ w"]), ["two"]);
    assert_eq!(ids(&["rtp_packet_count > 100", "--measure"]), ["loud"]);
    assert_eq!(ids(&["--call-id", "^t"]), ["two"]);
    assert_eq!(ids(&["nobody"]), [""; 0]);
    let (ran, list) = find(&desk, &["one", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(ran.is(0).status, Some(0));
    assert_eq!(record["call_id"], "one");
    assert!(
        record.get("streams").is_none(),
        "media was not read: {list}"
    );
    let (ran, _) = find(&desk, &["state ="]);
    ran.is(2).says("expected a value");
    let (ran, _) = find(&desk, &["mos < 3"]);
    ran.is(2).says("--measure");
}

/// A retention deletes segments while one searches.
#[test]
fn a_segment_that_vanishes_is_named_and_passed_over() {
    let packets = Packets::everything(Form::Micro);
    let desk = Desk::new();
    let segments = Names::Agents.cut(&packets, 7, &mut Dice::new(43));
    desk.deliver_all(&segments);
    index(&desk);
    let gone = desk.segments.join(&segments[4].0);
    let out = desk.folder().join("found");
    let mut command = command("find", &desk);
    command.args(["--json", "-o"]).arg(&out);
    // It is in the listing, and its index is there.
    let ran = desk.ended(&mut inject_on(&gone, &command, "openat", "error=ENOENT"));
    let named = format!("{} is not used", gone.display());
    ran.is(3).says(&named);
    assert!(visible(&out).len() > 30);
    // Only what is gone is passed over: the other segments alone have the same calls.
    let got = files(&out);
    let _ = fs::remove_dir_all(&out);
    for path in ["", ".idx", ".pos"].map(|ending| format!("{}{ending}", gone.display())) {
        fs::remove_file(path).unwrap();
    }
    desk.ended(&mut command).is(0);
    assert_same(&files(&out), &got, "without it");
}

/// Whatever the retention deletes, and whenever: nothing fails but what is gone.
#[test]
fn segments_are_deleted_while_one_searches() {
    let packets = Packets::everything(Form::Micro);
    for round in 0..4 {
        let desk = Desk::new();
        desk.deliver_all(&Names::Agents.cut(&packets, 31, &mut Dice::new(44 + round)));
        index(&desk);
        let running = desk.start_command({
            let mut command = command("find", &desk);
            command.arg("-o").arg(&desk.out);
            command
        });
        for name in names(&desk.segments) {
            fs::remove_file(desk.segments.join(name)).unwrap();
        }
        let ran = running.ends();
        assert!(
            matches!(ran.status, Some(0 | 1 | 3)),
            "{:?} {}",
            ran.status,
            ran.log
        );
        let is_named = ran.log.contains("is not used");
        assert!(is_named || ran.status != Some(3), "{}", ran.log);
    }
}

fn names(directory: &Path) -> Vec<String> {
    visible(directory).into_keys().collect()
}

#[test]
fn a_run_makes_indexes_and_they_go_with_their_segments() {
    let bytes = two_calls().capture.to_pcap();
    let desk = Desk::new();
    let done = desk.folder().join("done");
    desk.deliver("calls.pcap", &bytes);
    // The leftovers of a killed program.
    fs::write(desk.segments.join(".calls.pcap.idx.a1B2c3D4.part"), b"").unwrap();
    desk.run(&["--index", "--final"]).is(0);
    let all = ["calls.pcap", "calls.pcap.idx", "calls.pcap.pos"];
    assert_eq!(names(&desk.segments), all);
    let made = files(&desk.segments);
    assert!(
        !made.keys().any(|name| name.ends_with(".part")),
        "{:?}",
        made.keys()
    );
    index(&desk).says("1 had an index");
    let made_again = || desk.ended(command("index", &desk).arg("--again")).is(0);
    made_again();
    assert_eq!(visible(&desk.segments), made, "the same index again");
    let moved = format!("move:{}", done.display());
    desk.run(&["--reset-state", "--after-processing", &moved])
        .is(0);
    assert_eq!(
        (names(&desk.segments), names(&done)),
        (vec![], all.map(str::to_owned).to_vec())
    );
    desk.deliver("calls.pcap", &bytes);
    index(&desk);
    desk.run(&["--reset-state", "--after-processing", "delete"])
        .is(0);
    assert_eq!(names(&desk.segments), [""; 0]);
}

#[test]
fn a_run_that_makes_indexes_has_the_same_results() {
    let mut dice = Dice::new(43);
    for form in [Form::Micro, Form::Nano, Form::TwoLinks] {
        let packets = Packets::everything(form);
        let want = results_with_records(&packets);
        for (pieces, sizes) in [(1, 0), (7, 1), (31, 1)] {
            let desk = Desk::new();
            let segments = Names::Agents.cut(&packets, pieces, &mut dice);
            let (first, rest) = segments.split_at(pieces / 2);
            let flags = [&["--index"], &ALL_FILES[..], SIZES[sizes]].concat();
            desk.deliver_all(first);
            desk.run(&flags).is(0);
            desk.deliver_all(rest);
            desk.run(&[&flags[..], &["--final"]].concat()).is(0);
            let what = format!("{form:?} in {pieces}");
            desk.has(&want, &what);
            let made = visible(&desk.segments).len();
            assert_eq!(made, 3 * segments.len(), "{what}");
        }
    }
}

#[test]
fn of_a_compressed_segment_only_parts_are_decompressed() {
    let desk = Desk::new();
    // 24 MiB.
    desk.deliver(
        "calls.pcap",
        &gzip(&calls_around(108_000).capture.to_pcap()),
    );
    index(&desk);
    let (one, two, loud) = (["one"], ["two"], ["loud"]);
    let [want_one, want_two] = [one, two].map(|query| found(&desk, &query).0);
    desk.run(&["--final", "--json"]).is(0);
    let whole = visible(&desk.out);
    assert_same(&whole, &found(&desk, &[]).0, "all");
    for (query, want) in [("one", &want_one), ("two", &want_two)] {
        let table = "calls_statistics.csv";
        assert_eq!(rows(want, table, query), rows(&whole, table, query));
    }
    // Nobody decompresses the middle.
    let segment = desk.segments.join("calls.pcap");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0xff);
    fs::write(&segment, bytes).unwrap();
    for (query, want) in [(one, &want_one), (two, &want_two)] {
        let (got, log) = found(&desk, &query);
        assert_same(want, &got, query[0]);
        assert!(
            !log.contains("WARN") && !log.contains("decompress"),
            "{log}"
        );
    }
    let out = desk.folder().join("found");
    let (ran, _) = find(&desk, &[&loud[..], &["-o", out.to_str().unwrap()]].concat());
    ran.is(1).says("has changed since it was indexed");
}

#[test]
fn indexing_can_be_killed_at_any_change() {
    let bytes = two_calls().capture.to_pcap();
    let desk = || {
        let desk = Desk::new();
        desk.deliver("a.pcap", &bytes);
        desk.deliver("b.pcap", &bytes[..bytes.len() / 2]);
        desk
    };
    let whole = desk();
    let calls = calls(
        Threads::All,
        &command("index", &whole),
        CHANGES,
        whole.folder(),
    );
    assert!(calls.len() >= 4, "{calls:?}");
    let want = visible(&whole.segments);
    assert_eq!(want.len(), 6, "{:?}", want.keys());
    let (calls_found, _) = found(&whole, &["one", "or", "two"]);
    for call in &calls {
        let what = format!("killed at {} {}", call.kind, call.nth);
        let desk = desk();
        inject(
            Threads::All,
            &command("index", &desk),
            call,
            "signal=SIGKILL",
        )
        .output()
        .unwrap();
        for (name, bytes) in visible(&desk.segments) {
            assert!(want[&name] == bytes, "{what}: {name}");
        }
        let (got, _) = found(&desk, &["one", "or", "two"]);
        assert_same(&calls_found, &got, &what);
        index(&desk);
        let left = files(&desk.segments);
        assert!(
            left.keys().all(|name| !name.ends_with(".part")),
            "{what}: {:?}",
            left.keys()
        );
        assert!(visible(&desk.segments) == want, "{what}");
    }
}
