//! The extractor as a program: arguments, exit statuses, hostile input; and only the input
//! determines the output.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use shared::pcap::{
    DEFAULT_SNAPLEN, LinkType, Precision, ng_interface, ng_packet, ng_section_header,
};
use support::{
    MS,
    capture::Capture,
    frames,
    ladder::{Extracted, Ladder, START_NS, extract_bytes, extract_files, extractor, read_frames},
    media::Rtp,
    sip::{Sdp, request, response},
    traffic::{self, Link, Plan, Signalling},
};

const ALICE: &str = "192.0.2.1:5060";
const BOB: &str = "192.0.2.2:5060";

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Draws a short call with media both ways; `n` makes it different from others.
fn call(t: &mut Ladder, at: u64, n: u16) {
    let (alice, bob) = (
        SocketAddr::new(end(ALICE).ip(), 10_000 + n * 4),
        SocketAddr::new(end(BOB).ip(), 20_000 + n * 4),
    );
    let id = format!("call-{n}");
    t.sip(
        at,
        end(ALICE),
        end(BOB),
        request("INVITE", &id).sdp(&Sdp::audio(alice)),
    );
    t.sip(
        at + 100,
        end(BOB),
        end(ALICE),
        response(200, "INVITE", &id).sdp(&Sdp::audio(bob)),
    );
    t.rtp(at + 60, bob, alice, u32::from(n) * 2, 65_500..=65_535);
    t.rtp(at + 110, alice, bob, u32::from(n) * 2 + 1, 1..=50);
    t.sip(at + 1_200, end(ALICE), end(BOB), request("BYE", &id));
    t.sip(at + 1_220, end(BOB), end(ALICE), response(200, "BYE", &id));
}

fn sorted(mut t: Ladder) -> Ladder {
    t.sort();
    t
}

/// Draws two hundred overlapping calls, media without a description, timestamps that jump back, and
/// noise: everything whose handling could depend on the end of a window.
fn busy_morning() -> Ladder {
    let mut t = Ladder::new();
    for n in 0..200 {
        call(&mut t, u64::from(n) * 150, n);
        t.udp(
            u64::from(n) * 151,
            end("192.0.2.7:53"),
            end("192.0.2.8:4000"),
            b"who is it?",
        );
    }
    t.sip(50, end(ALICE), end(BOB), request("REGISTER", "call-0"));
    // A call whose endpoints change, and one whose media begins long before its description.
    call(&mut t, 9_000, 3);
    t.sip(100, end(ALICE), end(BOB), request("INVITE", "late"));
    t.rtp(
        110,
        end("192.0.2.9:7000"),
        end("192.0.2.1:7002"),
        99,
        1..=400,
    );
    t.sip(
        6_000,
        end(BOB),
        end(ALICE),
        response(200, "INVITE", "late").sdp(&Sdp::audio(end("192.0.2.9:7000"))),
    );
    let mut t = sorted(t);
    for index in (100..t.capture.frames.len()).step_by(37) {
        t.capture.frames[index].0 -= 3_000 * MS;
    }
    t
}

fn outputs(extracted: &Extracted) -> std::collections::BTreeMap<String, Vec<u8>> {
    assert_eq!(extracted.status, Some(0), "{}", extracted.log);
    extracted.files()
}

fn assert_same(what: &str, want: &Extracted, got: &Extracted) {
    let (want, got) = (outputs(want), outputs(got));
    assert_eq!(
        want.keys().collect::<Vec<_>>(),
        got.keys().collect::<Vec<_>>(),
        "{what}: other files"
    );
    for (name, bytes) in &want {
        assert!(
            bytes == &got[name],
            "{what}: {name} differs:\n{}\n{}",
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(&got[name])
        );
    }
}

#[test]
fn the_output_is_the_same_whatever_the_window_the_chunk_and_the_threads() {
    let capture = busy_morning().capture.to_pcap();
    let whole = extract_bytes(&capture, &[]);
    assert_eq!(whole.calls.len(), 202);
    assert_same("again", &whole, &extract_bytes(&capture, &[]));
    for (window, chunk, threads) in [
        ("100000000", "5000", "2"),
        ("300000", "100000", "1"),
        ("300000", "7001", "2"),
        ("50000", "1000", "3"),
        ("9999", "333", "2"),
    ] {
        let flags = [
            "--window-bytes",
            window,
            "--chunk-bytes",
            chunk,
            "--threads",
            threads,
        ];
        assert_same(
            &format!("{flags:?}"),
            &whole,
            &extract_bytes(&capture, &flags),
        );
    }
}

/// A window's index is bounded, so a window may end at any record.
#[test]
fn the_output_is_the_same_however_much_memory_there_is() {
    let capture = busy_morning().capture.to_pcap();
    let whole = extract_bytes(&capture, &[]);
    for (index, chunk, threads) in [
        ("1", "100000", "1"),
        ("5000", "3000", "2"),
        ("40000", "20000", "3"),
        ("600000", "90000", "2"),
    ] {
        let flags = [
            "--index-bytes",
            index,
            "--chunk-bytes",
            chunk,
            "--threads",
            threads,
        ];
        assert_same(
            &format!("{flags:?}"),
            &whole,
            &extract_bytes(&capture, &flags),
        );
    }
}

#[test]
fn a_window_may_end_at_every_record() {
    let mut t = Ladder::new();
    for n in 0..3 {
        call(&mut t, u64::from(n) * 900, n);
    }
    let capture = sorted(t).capture.to_pcap();
    let want = extract_bytes(&capture, &[]);
    assert_same(
        "record by record",
        &want,
        &extract_bytes(&capture, &["--window-bytes", "1", "--chunk-bytes", "1"]),
    );
}

#[test]
fn files_in_any_order_are_one_capture() {
    let whole = busy_morning();
    let want = extract_bytes(&whole.capture.to_pcap(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    // Cut where time goes on: files are ordered by their first packets.
    for (number, frames) in whole.capture.frames.chunks(1_000).enumerate() {
        let part = Capture {
            frames: frames.to_vec(),
            ..whole.capture.clone()
        };
        let path = folder.path().join(format!("part-{number}.pcap"));
        fs::write(&path, part.to_pcap()).unwrap();
        files.insert(files.len() / 2, path);
    }
    assert_same(
        "parts",
        &want,
        &extract_files(folder, &files, &["--window-bytes", "200000"]),
    );
}

#[test]
fn standard_input_and_pipes_are_read_like_files() {
    let capture = sorted({
        let mut t = Ladder::new();
        call(&mut t, 0, 1);
        t
    })
    .capture
    .to_pcap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.pcap");
    fs::write(&input, &capture).unwrap();
    let out = folder.path().join("out");
    let shell = format!(
        "cat {0} | {1} --input-file - --output-dir {2}",
        input.display(),
        env!("CARGO_BIN_EXE_sip-call-extractor"),
        out.display()
    );
    let status = Command::new("sh")
        .args(["-c", &shell])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let want = extract_bytes(&capture, &[]);
    for (name, bytes) in want.files() {
        assert_eq!(fs::read(out.join(&name)).unwrap(), bytes, "{name}");
    }
}

fn run(arguments: &[&str]) -> Output {
    extractor()
        .args(arguments)
        .current_dir(tempfile::tempdir().unwrap().path())
        .output()
        .unwrap()
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    for (arguments, what) in [
        (&[][..], "no captures"),
        (
            &["--input-file", "x", "--sip-ports-range", "0-10"],
            "0 is not a port",
        ),
        (
            &["--input-file", "x", "--sip-ports-range", "5080-5060"],
            "5080 is greater than 5060",
        ),
        (
            &["--input-file", "x", "--sip-ports-range", "70000-70001"],
            "70000 is not a port",
        ),
        (
            &["--input-file", "x", "--sip-ports-range", "abc"],
            "`abc` is not a port number",
        ),
        (&["--input-file", "x", "--call-timeout", "5"], "5m0s"),
        (
            &[
                "--input-file",
                "x",
                "--stats-filename",
                "detected_calls.csv",
            ],
            "name the same file",
        ),
        (&["--input-file", "x", "--unknown"], "--unknown"),
    ] {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            says(&output)
        );
        assert!(
            says(&output).contains(what),
            "{arguments:?}: {}",
            says(&output)
        );
    }
}

/// The file has a service's flags; the command line of a single run overrides them.
#[test]
fn flags_from_a_file() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    call(&mut t, 1, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("input.pcap"), sorted(t).capture.to_pcap()).unwrap();
    let file = format!(
        "input-file = [{:?}]\noutput-dir = {:?}\ndetected-calls-filename = \"calls.csv\"\nno-rtp-dump = true\nuntil = 2023-12-31T00:00:00Z\n",
        path("input.pcap"),
        path("of-file")
    );
    fs::write(path("flags.toml"), file).unwrap();
    let output = run(&["--config", &path("flags.toml")]);
    assert_eq!(output.status.code(), Some(0), "{}", says(&output));
    assert!(folder.path().join("of-file/calls.csv").exists());
    let output = run(&[
        "--output-dir",
        &path("of-line"),
        &format!("--config={}", path("flags.toml")),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", says(&output));
    assert_eq!(
        fs::read(path("of-line/calls.csv")).unwrap(),
        fs::read(path("of-file/calls.csv")).unwrap()
    );

    // A flag `--input-file` on the command line replaces the file's `input-dir`.
    let service = format!(
        "input-dir = {:?}\nwatch = true\nno-rtp-dump = true\nafter-processing = \"delete\"\n",
        path("nowhere")
    );
    fs::write(path("flags.toml"), service).unwrap();
    let output = run(&[
        "--config",
        &path("flags.toml"),
        "--input-file",
        &path("input.pcap"),
        "--output-dir",
        &path("other"),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", says(&output));
    assert_eq!(
        fs::read(path("other/detected_calls.csv")).unwrap(),
        fs::read(path("of-file/calls.csv")).unwrap()
    );

    fs::write(path("flags.toml"), "linger = \"10\"").unwrap();
    let output = run(&["--config", &path("flags.toml"), "--input-file", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        says(&output).contains("--linger") && says(&output).contains("flags.toml"),
        "{}",
        says(&output)
    );
    fs::write(path("flags.toml"), "input-files = \"x\"").unwrap();
    let output = run(&["--config", &path("flags.toml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        says(&output).contains("`input-files`") && says(&output).contains("flags.toml"),
        "{}",
        says(&output)
    );
}

#[test]
fn help_names_every_flag_that_users_know() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for flag in [
        "--input-file",
        "--sip-ports-range",
        "--output-dir",
        "--call-timeout",
        "--detected-calls-filename",
        "--stats-filename",
        "--debug",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(help.contains("5m0s") && !help.contains("--window-bytes"));
}

#[test]
fn a_file_that_is_no_capture_ends_with_1_and_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let capture = Capture::default().to_pcap();
    let mut odd_link = capture.clone();
    odd_link[20] = 147;
    for (name, bytes, what) in [
        ("empty", &b""[..], "empty (0 bytes)"),
        (
            "text",
            b"hello, world, I am no capture",
            "the file is text, which is not supported",
        ),
        (
            "bytes",
            b"hello,\0world, I am no capture",
            "not a capture: it begins with 0x68656c6c",
        ),
        (
            "cut-header",
            &capture[..11],
            "ends inside its own header (11 bytes)",
        ),
        (
            "gzip",
            &[0x1f, 0x8b, 8, 0, 0, 0],
            "its gzip data ends too early, at decompressed offset 0",
        ),
        (
            "xz",
            b"\xfd7zXZ\0\0\x04",
            "decompress it with `xz -dc in > out` first",
        ),
        ("link", &odd_link, "link type 147"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = run(&["--input-file", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", says(&output));
        assert!(
            says(&output).contains(what) && says(&output).contains(name),
            "{name}: {}",
            says(&output)
        );
    }
    let output = run(&["--input-file", "/nonexistent.pcap"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        says(&output).contains("/nonexistent.pcap") && says(&output).contains("No such file"),
        "{}",
        says(&output)
    );
}

#[test]
fn one_bad_file_does_not_cost_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let (good, bad) = (
        folder.path().join("good.pcap"),
        folder.path().join("bad.pcap"),
    );
    fs::write(&good, sorted(t).capture.to_pcap()).unwrap();
    fs::write(&bad, "rubbish").unwrap();
    let extracted = extract_files(folder, &[bad, good], &[]);
    assert_eq!(extracted.status, Some(3));
    assert!(
        extracted.log.contains("bad.pcap is not used"),
        "{}",
        extracted.log
    );
    extracted.only_call().is("completed");
}

#[test]
fn a_capture_without_packets_gives_tables_without_rows() {
    let extracted = extract_bytes(&Capture::default().to_pcap(), &[]);
    assert_eq!((extracted.status, extracted.calls.len()), (Some(0), 0));
    assert_eq!(
        extracted.files().keys().collect::<Vec<_>>(),
        ["calls_statistics.csv", "detected_calls.csv"]
    );
}

#[test]
fn a_capture_cut_anywhere_gives_what_is_before_the_cut() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let t = sorted(t);
    let capture = t.capture.to_pcap();
    let mut ends = vec![24];
    t.capture
        .frames
        .iter()
        .for_each(|(_, frame)| ends.push(ends[ends.len() - 1] + 16 + frame.len()));
    for cut in (24..capture.len()).step_by(977) {
        let extracted = extract_bytes(&capture[..cut], &[]);
        let is_whole = ends.contains(&cut);
        assert_eq!(
            extracted.status,
            Some(if is_whole { 0 } else { 3 }),
            "{}",
            extracted.log
        );
        assert!(
            is_whole || extracted.log.contains("ends inside the record at offset"),
            "{}",
            extracted.log
        );
        for call in extracted.each_call() {
            let _ = call.frames();
        }
    }
}

#[test]
fn damage_in_the_middle_costs_only_what_is_damaged() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    call(&mut t, 60_000, 2);
    let whole = sorted(t).capture.to_pcap();
    for filling in [0x00, 0xff, 0x41] {
        let mut damaged = whole.clone();
        let middle = whole.len() / 2;
        damaged[middle - 400..middle - 100].fill(filling);
        for flags in [&[][..], &["--window-bytes", "5000", "--chunk-bytes", "700"]] {
            let extracted = extract_bytes(&damaged, flags);
            assert_eq!(extracted.status, Some(3), "{}", extracted.log);
            assert!(
                extracted.log.contains("bytes were skipped"),
                "{}",
                extracted.log
            );
            extracted.call("call-1").has("final_status", "200");
            extracted
                .call("call-2")
                .is("completed")
                .has("rtp_packet_count", "86");
        }
    }
}

/// Draws a good call beside bad packets, and extracts both.
fn neighbour_of(bad: impl Fn(&mut Ladder)) -> Extracted {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    bad(&mut t);
    let extracted = t.extract();
    extracted
        .call("call-1")
        .is("completed")
        .has("rtp_packet_count", "86")
        .has("sip_packet_count", "4");
    extracted
}

#[test]
fn hostile_sip_costs_no_neighbour() {
    let long_headers = format!("INVITE sip:b SIP/2.0\r\nX: {}\r\n\r\n", "x".repeat(65_000));
    let many_headers = format!("INVITE sip:b SIP/2.0\r\n{}\r\n", "a:\r\n".repeat(16_000));
    let no_body_yet = "INVITE sip:b SIP/2.0\r\nf: 1\r\nt: 2\r\ni: short\r\nl: 18446744073709551616\r\nCSeq: 99999999999 INVITE\r\n\r\n";
    let extracted = neighbour_of(|t| {
        for (index, text) in [
            &long_headers,
            &many_headers,
            no_body_yet,
            "INVITE ",
            "SIP/2.0 ",
            "INVITE sip:b SIP/2.0\r\n",
            "\r\n\r\n",
            "\0",
            "SIP/2.0 200 OK\r\nCall-ID:\r\n",
        ]
        .iter()
        .enumerate()
        {
            t.udp(300 + index as u64, end(ALICE), end(BOB), text.as_bytes());
        }
        t.udp(320, end(ALICE), end(BOB), b"");
        t.udp(321, end("192.0.2.1:0"), end("192.0.2.2:65535"), b"");
    });
    assert_eq!(extracted.calls.len(), 2);
    extracted
        .call("short")
        .is("incomplete")
        .has("sip_packet_count", "1");
}

#[test]
fn hostile_sdp_costs_no_neighbour() {
    let many_lines = format!(
        "v=0\r\nc=IN IP4 192.0.2.1\r\n{}",
        "m=audio 1 RTP/AVP 0\r\n".repeat(2_000)
    );
    let extracted = neighbour_of(|t| {
        for (index, body) in [
            many_lines.clone(),
            "c=IN IP4 192.0.2.1\nm=audio 65535/65535 x\nm=audio 99999 y\nm=audio -1 z\nm=\nc=\na=\n=\n".to_owned(),
            "c=IN IP4\nm=audio 5 RTP/AVP\na=rtpmap:\na=rtcp:\na=candidate:\na=candidate:1 1 UDP 1 x y\na=ptime:x\n".to_owned(),
            "m=audio 7 RTP/AVP 0\nc=IN IP4 999.1.1.1\nc=IN IP6 :::\n".to_owned(),
        ]
        .into_iter()
        .enumerate()
        {
            t.sip(
                300 + index as u64,
                end(ALICE),
                end(BOB),
                request("INVITE", &format!("bad-{index}")).body("application/sdp", body),
            );
        }
    });
    assert_eq!(extracted.calls.len(), 5);
}

#[test]
fn hostile_names_are_text() {
    let long = "x".repeat(10_000);
    let extracted = neighbour_of(|t| {
        for (index, id) in [
            long.as_str(),
            "=cmd()",
            "a,\"b\"",
            "J\u{f6}rg",
            "esc\u{1b}[31m",
        ]
        .into_iter()
        .enumerate()
        {
            let mut invite = request("INVITE", id);
            invite.from = format!("\"=1+1, \u{7}\"\r\n <sip:{index}@x>;tag=1");
            t.sip(300 + index as u64, end(ALICE), end(BOB), invite);
        }
    });
    for id in [
        long.as_str(),
        "'=cmd()",
        "a,\"b\"",
        "J\u{f6}rg",
        "esc\u{fffd}[31m",
    ] {
        let call = extracted.call(id);
        let name = call.row.get("output_pcap_filename").to_owned();
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)),
            "{name}"
        );
        assert!(
            call.row
                .get("sip_from")
                .starts_with("\"=1+1, \u{fffd}\" <sip:"),
            "{}",
            call.row.get("sip_from")
        );
    }
    assert!(
        !extracted.log.contains('\u{1b}'),
        "nothing off the wire is logged raw"
    );
}

#[test]
fn odd_frames_cost_no_neighbour() {
    let extracted = neighbour_of(|t| {
        for (index, frame) in [
            vec![],
            vec![0; 13],
            vec![0xff; 60],
            frames::udp(end(ALICE), end(BOB), b"x")[..30].to_vec(),
        ]
        .into_iter()
        .enumerate()
        {
            t.capture.push(START_NS + (500 + index as u64) * MS, frame);
        }
    });
    assert_eq!(extracted.calls.len(), 1);
}

#[test]
fn a_flood_of_streams_is_bounded_and_said() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let (alice, bob) = (end("192.0.2.1:10004"), end("192.0.2.2:20004"));
    for n in 0..10_500u32 {
        t.capture.push(
            START_NS + 200 * MS + u64::from(n) * 1_000,
            frames::udp(alice, bob, &Rtp::new(1_000_000 + n, 1).bytes()),
        );
    }
    t.sort();
    let extracted = t.extract_as_drawn();
    assert_eq!(extracted.status, Some(3));
    assert!(
        extracted
            .log
            .contains("more streams than one call may have"),
        "{}",
        extracted.log
    );
    extracted.only_call().has("rtp_stream_count", "10000");
    assert_eq!(
        extracted.only_call().frames().len(),
        t.capture.frames.len(),
        "every packet is in the file"
    );
}

#[test]
fn nothing_is_overwritten_unless_asked_for() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let capture = sorted(t).capture.to_pcap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.pcap");
    fs::write(&input, &capture).unwrap();
    let out = folder.path().join("out");
    let names = |flags: &[&str]| {
        let status = extractor()
            .arg("--input-file")
            .arg(&input)
            .arg("--output-dir")
            .arg(&out)
            .args(flags)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let mut names: Vec<_> = fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let first = names(&[]);
    assert_eq!(first.len(), 3);
    let stem = first[0].strip_suffix(".pcap").unwrap();
    assert_eq!(
        names(&[])[..2],
        [first[0].clone(), format!("{stem}_2.pcap")]
    );
    assert!(names(&[]).contains(&format!("{stem}_3.pcap")));
    assert_eq!(names(&["--overwrite"]).len(), 5);
    let detected = fs::read_to_string(out.join("detected_calls.csv")).unwrap();
    assert_eq!(detected.lines().count(), 4, "a header and a row a file");
    assert_eq!(detected.matches("call_id,").count(), 1);
    let mode = fs::metadata(out.join(&first[0]))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_table_with_other_columns_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("detected_calls.csv"), "my,own,table\n").unwrap();
    let input = folder.path().join("input.pcap");
    fs::write(&input, Capture::default().to_pcap()).unwrap();
    let extracted = extract_files(folder, &[input], &[]);
    assert_eq!(extracted.status, Some(1));
    assert!(
        extracted.log.contains("has other columns"),
        "{}",
        extracted.log
    );
    assert_eq!(
        fs::read_to_string(extracted.out.join("detected_calls.csv")).unwrap(),
        "my,own,table\n"
    );
}

/// Writes a table with these rows, extracts nothing, and returns the table afterwards.
fn appended(file: &str, table: &str, flags: &[&str]) -> (Extracted, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join(file), table).unwrap();
    let input = folder.path().join("input.pcap");
    let mut t = Ladder::new();
    let [a, b] = ["192.0.2.1:5060", "192.0.2.2:5060"].map(|end| end.parse().unwrap());
    t.sip(0, a, b, request("INVITE", "1"));
    fs::write(&input, t.capture.to_pcap()).unwrap();
    let extracted = extract_files(folder, &[input], flags);
    let table = fs::read_to_string(extracted.out.join(file)).unwrap();
    (extracted, table)
}

#[test]
fn a_table_of_the_version_before_is_continued_with_its_columns() {
    const FILE: &str = "detected_calls.csv";
    let header = |flags: &[&str]| {
        let (extracted, _) = appended("other.csv", "", flags);
        let table = fs::read_to_string(extracted.out.join(FILE)).unwrap();
        format!("{}\n", table.lines().next().unwrap())
    };
    let (classic, all) = (header(&["--columns=classic"]), header(&[]));
    assert!(classic.ends_with(",rtp_stream_count\n"));
    assert!(all.starts_with(classic.trim_end()) && all.ends_with(",conversation_links\n"));
    for line_end in ["\n", "\r\n"] {
        let before = classic.replace('\n', line_end);
        let (extracted, table) = appended(FILE, &before, &[]);
        assert_eq!((extracted.status, &table), (Some(1), &before));
        for words in [
            "detected_calls.csv was begun by an earlier version, without the columns pdd_ms, answer_ms,",
            "move it away (mv ",
            "--columns classic",
        ] {
            assert!(extracted.log.contains(words), "{}", extracted.log);
        }
        let (extracted, table) = appended(FILE, &before, &["--columns=classic"]);
        assert_eq!(extracted.status, Some(0), "{}", extracted.log);
        let row = table.strip_prefix(&before).unwrap();
        assert!(
            row.ends_with(&format!(",incomplete,,1,0,0{line_end}")),
            "{row}"
        );
    }
    let (extracted, table) = appended(FILE, &all, &["--columns=classic"]);
    assert_eq!((extracted.status, &table), (Some(1), &all));
    let words = "has more columns than --columns classic writes";
    assert!(extracted.log.contains(words), "{}", extracted.log);
    let (extracted, _) = appended(FILE, "", &["--columns=both"]);
    assert_eq!(extracted.status, Some(2));
    assert!(
        extracted.log.contains("write all or classic"),
        "{}",
        extracted.log
    );
}

#[test]
fn an_output_directory_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let out: PathBuf = file.join("out");
    let input = folder.path().join("input.pcap");
    fs::write(&input, Capture::default().to_pcap()).unwrap();
    let output = extractor()
        .arg("--input-file")
        .arg(&input)
        .arg("--output-dir")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        says(&output).contains(out.to_str().unwrap()),
        "{}",
        says(&output)
    );
}

#[test]
fn timestamps_keep_their_precision() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let mut t = sorted(t);
    t.capture.precision = Precision::Nano;
    t.capture.frames.iter_mut().for_each(|(ns, _)| *ns += 7);
    let extracted = t.extract();
    let frames = extracted.only_call().frames();
    assert_eq!(frames, t.capture.frames);
    let bytes = fs::read(extracted.only_call().path()).unwrap();
    assert_eq!(bytes[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
}

#[test]
fn every_link_type_gives_the_same_calls() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let ethernet = sorted(t);
    for (link, header) in [
        (LinkType::RAW, &[][..]),
        (LinkType::IPV4, &[]),
        (LinkType::NULL, &[2, 0, 0, 0]),
        (
            LinkType::LINUX_SLL,
            &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0],
        ),
        (
            LinkType::LINUX_SLL2,
            &[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0],
        ),
    ] {
        let mut capture = ethernet.capture.clone();
        capture.link = link;
        for (_, frame) in &mut capture.frames {
            *frame = [header, &frame[14..]].concat();
        }
        let extracted = extract_bytes(&capture.to_pcap(), &[]);
        let call = extracted.only_call();
        call.is("completed").has("rtp_packet_count", "86");
        assert_eq!(call.frames(), capture.frames, "{link}");
    }
}

#[test]
fn log_lines_can_be_json() {
    let mut t = Ladder::new().flag("--log-format=json").flag("--debug");
    call(&mut t, 0, 1);
    let extracted = t.extract();
    assert!(
        extracted
            .log
            .lines()
            .all(|line| line.starts_with('{') && line.ends_with('}')),
        "{}",
        extracted.log
    );
    assert!(extracted.log.contains("call opened") && extracted.log.contains("call closed"));
    for (message, keys) in [
        ("call closed", ["call_id", "file", "state"]),
        ("done", ["calls", "completed", "not_used"]),
    ] {
        let line = extracted
            .log
            .lines()
            .find(|line| line.contains(&format!("\"message\":\"{message}\"")))
            .unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let all = ["timestamp", "level", "message"].iter().chain(&keys);
        all.for_each(|key| assert!(!line[key].is_null(), "{key} in {line}"));
    }
}

/// The journal adds a time and a priority to each line itself.
#[test]
fn the_journal_gets_priorities_and_no_times() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let capture = sorted(t).capture.to_pcap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.pcap"), capture).unwrap();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let its = log.metadata().unwrap();
    let run = |stream: String| {
        let mut command = extractor();
        command.current_dir(folder.path()).args([
            "a.pcap",
            "missing.pcap",
            "-o",
            "out",
            "-v",
            "--overwrite",
        ]);
        command
            .env("JOURNAL_STREAM", stream)
            .stderr(log.try_clone().unwrap())
            .status()
            .unwrap();
        fs::read_to_string(folder.path().join("log")).unwrap()
    };
    let text = run(format!("{}:{}", its.dev(), its.ino()));
    assert!(text.contains("<3>missing.pcap is not used: "), "{text}");
    assert!(text.contains("\n<7>call closed "), "{text}");
    log.set_len(0).unwrap();
    let text = run("1:1".to_owned());
    assert!(
        !text.contains("<3>") && text.contains("ERROR missing.pcap is not used"),
        "{text}"
    );
}

/// Record headers of a big-endian pcap are converted.
#[test]
fn the_byte_order_of_the_input_does_not_matter() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let t = sorted(t);
    let mut swapped = t.capture.to_pcap();
    for range in [0..4, 4..6, 6..8, 16..20, 20..24] {
        swapped[range].reverse();
    }
    let mut at = 24;
    for (_, frame) in &t.capture.frames {
        swapped[at..at + 16].chunks_mut(4).for_each(<[u8]>::reverse);
        at += 16 + frame.len();
    }
    let extracted = extract_bytes(&swapped, &[]);
    assert_eq!(extracted.status, Some(0), "{}", extracted.log);
    assert_eq!(
        read_frames(&fs::read(extracted.only_call().path()).unwrap()),
        t.capture.frames
    );
}

/// Load generators often use the same two endpoints for all calls: each call gets all of that
/// media, in acceptable time.
#[test]
fn a_thousand_calls_may_share_their_endpoints() {
    let mut t = Ladder::new();
    let (alice, bob) = (end("192.0.2.1:6000"), end("192.0.2.2:6000"));
    for n in 0..1_000 {
        let id = format!("shared-{n}");
        t.sip(
            n,
            end(ALICE),
            end(BOB),
            request("INVITE", &id).sdp(&Sdp::audio(alice)),
        );
        t.sip(
            n + 1,
            end(BOB),
            end(ALICE),
            response(200, "INVITE", &id).sdp(&Sdp::audio(bob)),
        );
    }
    t.rtp(2_000, alice, bob, 7, 1..=3);
    let extracted = t.extract();
    assert_eq!(extracted.calls.len(), 1_000);
    assert!(
        extracted
            .each_call()
            .iter()
            .all(|call| call.row.get("rtp_packet_count") == "3")
    );
}

/// Even with `--overwrite`, calls of one run do not replace each other.
#[test]
fn calls_of_one_run_never_share_a_file() {
    let mut t = Ladder::new();
    for (at, tag) in [(0, "one"), (400, "two")] {
        t.sip(
            at,
            end(ALICE),
            end(BOB),
            request("INVITE", "again").from_tag(tag),
        );
        t.sip(
            at + 100,
            end(ALICE),
            end(BOB),
            request("BYE", "again").from_tag(tag),
        );
    }
    t.sort();
    for window in ["1", "1000000"] {
        let extracted = extract_bytes(
            &t.capture.to_pcap(),
            &["--overwrite", "--window-bytes", window],
        );
        let names: Vec<_> = extracted
            .each_call()
            .iter()
            .map(|call| call.row.get("output_pcap_filename").to_owned())
            .collect();
        assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
        assert!(
            extracted
                .each_call()
                .iter()
                .all(|call| call.frames().len() == 2)
        );
    }
}

/// Returns a call whose datagrams all came in fragments, in reverse order, some of them twice.
fn in_fragments(whole: &Ladder) -> Ladder {
    let mut t = whole.clone();
    t.capture.frames.clear();
    for (index, (ns, frame)) in whole.capture.frames.iter().enumerate() {
        let fragments = frames::fragmented(frame, 96, index as u16);
        for (number, fragment) in fragments
            .iter()
            .rev()
            .chain(fragments.last().filter(|_| index % 3 == 0))
            .enumerate()
        {
            t.capture.push(ns + number as u64 * 1_000, fragment.clone());
        }
    }
    t
}

#[test]
fn fragments_are_put_together() {
    let mut t = Ladder::new();
    for n in 0..3 {
        call(&mut t, u64::from(n) * 700, n);
    }
    let whole = sorted(t);
    let (want, cut) = (
        extract_bytes(&whole.capture.to_pcap(), &[]),
        in_fragments(&whole),
    );
    let got = extract_bytes(&cut.capture.to_pcap(), &[]);
    let figures = |extracted: &Extracted| {
        let of = |row: &support::ladder::Row| {
            [
                "call_id",
                "rtp_packet_count",
                "expected_rtp_packets",
                "lost_packets",
                "duplicate_count",
            ]
            .map(|column| row.get(column).to_owned())
        };
        extracted.streams.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(figures(&want), figures(&got));
    let frames: usize = got.each_call().iter().map(|call| call.frames().len()).sum();
    assert_eq!(frames, cut.capture.frames.len(), "repeated fragments, too");
    for call in got.each_call() {
        let mut captured = cut.capture.frames.iter();
        assert!(
            call.frames()
                .iter()
                .all(|frame| captured.any(|other| other == frame)),
            "in capture order"
        );
    }
    for window in ["1", "4000"] {
        assert_same(
            "windows",
            &got,
            &extract_bytes(
                &cut.capture.to_pcap(),
                &["--window-bytes", window, "--chunk-bytes", "900"],
            ),
        );
    }
}

#[test]
fn a_datagram_with_a_missing_fragment_costs_no_neighbour() {
    let extracted = neighbour_of(|t| {
        let frame = frames::udp(end(ALICE), end(BOB), &request("INVITE", "lost").bytes());
        t.capture.push(
            START_NS + 300 * MS,
            frames::fragmented(&frame, 96, 9)[0].clone(),
        );
    });
    assert_eq!(extracted.calls.len(), 1);
    assert!(
        extracted
            .log
            .contains("1   IP datagrams of which fragments are missing"),
        "{}",
        extracted.log
    );
}

/// A capture filter by ports keeps only the first fragment.
#[test]
fn a_message_without_its_later_fragments_still_gives_its_beginning() {
    let media = end("192.0.2.1:6000");
    let mut t = Ladder::new();
    let invite = request("INVITE", "long")
        .sdp(&Sdp::audio(media).line(&format!("a=tool:{}", "x".repeat(2_000))));
    let frame = frames::udp(end(ALICE), end(BOB), &invite.bytes());
    t.capture
        .push(START_NS, frames::fragmented(&frame, 1_480, 9)[0].clone());
    t.sip(300, end(BOB), end(ALICE), response(200, "INVITE", "long"));
    t.rtp(110, end("192.0.2.2:7000"), media, 7, 1..=100);
    t.sip(3_000, end(ALICE), end(BOB), request("BYE", "long").cseq(2));
    let t = sorted(t);
    let extracted = extract_bytes(&t.capture.to_pcap(), &[]);
    let call = extracted.only_call();
    call.is("completed")
        .has("final_status", "200")
        .has("sip_packet_count", "3")
        .has("rtp_packet_count", "100");
    for window in ["1", "4000"] {
        let flags = ["--window-bytes", window, "--chunk-bytes", "900"];
        assert_same(
            "windows",
            &extracted,
            &extract_bytes(&t.capture.to_pcap(), &flags),
        );
    }
}

/// Returns a pcapng with an Ethernet and a raw IP interface, which has every second frame.
fn over_two_interfaces(whole: &Ladder, first_is_raw: bool) -> Vec<u8> {
    let mut file = ng_section_header();
    file.extend(ng_interface(
        LinkType::ETHERNET,
        Precision::Micro,
        DEFAULT_SNAPLEN,
    ));
    file.extend(ng_interface(
        LinkType::RAW,
        Precision::Micro,
        DEFAULT_SNAPLEN,
    ));
    for (index, (ns, frame)) in whole.capture.frames.iter().enumerate() {
        let is_raw = (index % 2 == 0) == first_is_raw;
        let frame = if is_raw { &frame[14..] } else { &frame[..] };
        file.extend(ng_packet(
            u32::from(is_raw),
            *ns,
            Precision::Micro,
            frame,
            frame.len() as u32,
        ));
    }
    file
}

#[test]
fn a_call_over_several_link_types_becomes_a_pcapng() {
    let mut t = Ladder::new();
    for n in 0..3 {
        call(&mut t, u64::from(n) * 700, n);
    }
    let whole = sorted(t);
    for first_is_raw in [true, false] {
        let input = over_two_interfaces(&whole, first_is_raw);
        let want = extract_bytes(&input, &[]);
        assert_eq!(want.calls.len(), 3);
        for call in want.each_call() {
            call.is("completed").has("rtp_packet_count", "86");
            assert!(call.row.get("output_pcap_filename").ends_with(".pcapng"));
            assert_eq!(call.frames().len(), 90);
        }
        assert_same(
            "windows",
            &want,
            &extract_bytes(&input, &["--window-bytes", "1", "--chunk-bytes", "1000"]),
        );
        assert_same(
            "windows",
            &want,
            &extract_bytes(&input, &["--window-bytes", "9000", "--chunk-bytes", "1000"]),
        );
        assert_eq!(want.files().len(), 5, "no part file is left");
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.pcap");
    fs::write(&input, busy_morning().capture.to_pcap()).unwrap();
    let out = folder.path().join("out");
    let mut child = extractor()
        .args([
            "--input-file",
            input.to_str().unwrap(),
            "--output-dir",
            out.to_str().unwrap(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        fs::read_to_string(out.join("detected_calls.csv"))
            .unwrap()
            .lines()
            .count(),
        203
    );
}

/// Without linger, packets before the BYE with the same timestamp still belong to the call.
#[test]
fn without_linger_a_call_ends_with_its_bye() {
    let mut t = Ladder::new();
    let (alice, bob) = (end("192.0.2.1:6000"), end("192.0.2.2:6000"));
    t.sip(
        0,
        end(ALICE),
        end(BOB),
        request("INVITE", "short").sdp(&Sdp::audio(alice)),
    );
    t.sip(
        5,
        end(BOB),
        end(ALICE),
        response(200, "INVITE", "short").sdp(&Sdp::audio(bob)),
    );
    t.rtp(20, alice, bob, 7, 1..=10);
    t.sip(200, end(ALICE), end(BOB), request("BYE", "short"));
    t.rtp(200, bob, alice, 8, 1..=10);
    for window in ["1", "100000"] {
        let extracted = extract_bytes(
            &sorted(t.clone()).capture.to_pcap(),
            &["--linger", "0s", "--window-bytes", window],
        );
        extracted
            .only_call()
            .is("completed")
            .has("rtp_packet_count", "10")
            .has("sip_packet_count", "3");
    }
}

#[test]
fn one_damaged_timestamp_does_not_end_all_calls() {
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let mut t = sorted(t);
    t.capture.frames[20].0 += 50 * 365 * 86_400 * 1_000 * MS;
    let want = extract_bytes(&t.capture.to_pcap(), &[]);
    want.only_call()
        .is("completed")
        .has("rtp_packet_count", "86");
    assert!(
        want.log.contains("contradict by more than a minute"),
        "{}",
        want.log
    );
    assert_same(
        "windows",
        &want,
        &extract_bytes(
            &t.capture.to_pcap(),
            &["--window-bytes", "1", "--chunk-bytes", "1"],
        ),
    );
}

#[test]
fn a_part_file_that_was_left_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut t = Ladder::new();
    call(&mut t, 0, 1);
    let input = folder.path().join("input.pcap");
    fs::write(&input, sorted(t).capture.to_pcap()).unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let left = out.join(".call_5d7963c4_20231201_143022.part");
    fs::write(&left, "left by a run that was killed").unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
    let extracted = extract_files(folder, &[input], &[]);
    assert_eq!(extracted.only_call().frames().len(), 90);
    assert_eq!(
        fs::metadata(extracted.only_call().path())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o640
    );
}

/// `scripts/bench` compares the extractor's results with these numbers.
#[test]
fn made_traffic_is_what_it_says() {
    let plans = [
        Plan {
            pcapng: true,
            ..Plan::default()
        },
        Plan {
            link: Link::Vlan,
            signalling: Signalling::Full,
            ..Plan::default()
        },
        Plan {
            link: Link::Sll,
            signalling: Signalling::Mixed,
            ..Plan::default()
        },
        Plan {
            link: Link::Sll2,
            ipv6: true,
            signalling: Signalling::Mixed,
            ..Plan::default()
        },
        Plan {
            seconds_of_media: 0,
            most_calls: 30,
            signalling: Signalling::Mixed,
            ..Plan::default()
        },
        Plan {
            signalling: Signalling::Mixed,
            web: 20,
            ..Plan::default()
        },
    ];
    for plan in plans {
        let mut file = Vec::new();
        let truth = traffic::write(&plan, &mut file).unwrap();
        let out = extract_bytes(&file, &[]);
        assert_eq!(out.status, Some(0), "{plan:?}: {}", out.log);
        let sum = |column: &str| {
            out.calls
                .iter()
                .map(|row| row.get(column).parse::<u64>().unwrap())
                .sum::<u64>()
        };
        assert_eq!(out.calls.len() as u64, truth.calls, "{plan:?}");
        assert_eq!(sum("rtp_packet_count"), truth.rtp, "{plan:?}");
        let of_calls = truth.packets - truth.acknowledgements - truth.web;
        assert_eq!(sum("sip_packet_count"), of_calls - truth.rtp, "{plan:?}");
        let frames: usize = out.each_call().iter().map(|call| call.frames().len()).sum();
        assert_eq!(frames as u64, of_calls, "{plan:?}");
        assert!(
            out.each_call()
                .iter()
                .all(|call| call.row.get("state") == "completed"),
            "{plan:?}"
        );
    }
}

#[test]
fn without_calls_a_table_shows_the_contents() {
    let mut t = Ladder::new();
    t.rtp(
        0,
        "192.0.2.1:4000".parse().unwrap(),
        "192.0.2.2:6000".parse().unwrap(),
        7,
        1..=50,
    );
    t.sip(
        10,
        "192.0.2.1:5060".parse().unwrap(),
        "192.0.2.2:5060".parse().unwrap(),
        request("REGISTER", "1"),
    );
    let extracted = t.extract();
    for line in [
        "no call was found; the largest talkers:",
        "50   packets, UDP port 4000: RTP: media; the SIP that describes it is not in the capture",
        "1   packets, UDP port 5060: SIP, but no INVITE",
    ] {
        assert!(extracted.log.contains(line), "{}", extracted.log);
    }
    assert_eq!(extracted.status, Some(0));
    let json = t.flag("--log-format=json").extract();
    assert!(
        json.log
            .contains(r#""no_call":["50 packets, UDP port 4000: RTP"#),
        "{}",
        json.log
    );
    t.sip(
        5_000,
        "192.0.2.1:5060".parse().unwrap(),
        "192.0.2.2:5060".parse().unwrap(),
        request("INVITE", "2"),
    );
    assert!(!t.extract().log.contains("talkers"));
}
