//! Captures as files: the same packets give the same calls in every file format, and a cut or
//! damaged file gives all readable packets.

use std::{fs, io::Read, net::SocketAddr, process::Command};

use proptest::prelude::*;
use shared::pcap::{Layout, Precision, Step};
use sip_call_extractor::{
    source::{
        Input, Scratch,
        merge::{Merge, MergePosition, Watermark},
    },
    timeline::Later,
};
use support::{
    capture::{Capture, Clock, Order, PacketBlock, Section, gzip, zstd},
    ladder::{Extracted, Ladder, START_NS, extract_bytes, extract_files, extract_piped},
    sip::{Sdp, request, response},
    times::{TIMES, at_times},
};

const ALICE: &str = "192.0.2.1:5060";
const BOB: &str = "192.0.2.2:5060";
const START_S: i64 = (START_NS / 1_000_000_000) as i64;
const SMALL: &[&str] = &["--window-bytes", "6000", "--chunk-bytes", "1100"];
const TINY: &[&str] = &[
    "--window-bytes",
    "700",
    "--chunk-bytes",
    "90",
    "--threads",
    "2",
];

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Draws overlapping calls with media both ways, and a packet that belongs to no call.
fn morning(calls: u16) -> Capture {
    let mut t = Ladder::new();
    for n in 0..calls {
        let at = u64::from(n) * 350;
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
        t.udp(
            at + 111,
            end("192.0.2.7:53"),
            end("192.0.2.8:4000"),
            &vec![b'?'; usize::from(n) + 1],
        );
        t.sip(at + 1_200, end(ALICE), end(BOB), request("BYE", &id));
        t.sip(at + 1_220, end(BOB), end(ALICE), response(200, "BYE", &id));
    }
    t.sort();
    t.capture
}

fn assert_same_calls(what: &str, want: &Extracted, got: &Extracted) {
    assert_eq!(got.calls, want.calls, "{what}: {}", got.log);
    assert_eq!(got.streams, want.streams, "{what}");
    for (want, got) in want.each_call().iter().zip(got.each_call()) {
        assert!(
            want.frames() == got.frames(),
            "{what}: other frames in {:?}",
            got.path()
        );
    }
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![
        Just(Clock {
            resolution: 6,
            offset_s: 0
        }),
        Just(Clock {
            resolution: 9,
            offset_s: 0
        }),
        Just(Clock {
            resolution: 7,
            offset_s: 3_600
        }),
        // Picoseconds need a recent origin: 64 bits of them are seven months.
        Just(Clock {
            resolution: 12,
            offset_s: START_S - 5
        }),
        Just(Clock {
            resolution: 0x80 | 32,
            offset_s: 0
        }),
        Just(Clock {
            resolution: 0x80 | 30,
            offset_s: -86_400
        }),
    ]
}

fn section() -> impl Strategy<Value = Section> {
    (
        prop_oneof![Just(Order::Little), Just(Order::Big)],
        proptest::collection::vec(clock(), 1..4),
        proptest::collection::vec(
            prop_oneof![Just(PacketBlock::Enhanced), Just(PacketBlock::Obsolete)],
            1..4,
        ),
        0usize..5,
        1usize..150,
    )
        .prop_map(|(order, clocks, blocks, unknown_every, frames)| Section {
            order,
            clocks,
            blocks,
            unknown_every,
            frames,
        })
}

/// Compresses a file as several members or frames, cut at these places.
fn compressed(file: &[u8], cuts: &[f64], compress: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut cuts: Vec<usize> = cuts
        .iter()
        .map(|share| (file.len() as f64 * share) as usize)
        .collect();
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([file.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts
        .zip(ends)
        .flat_map(|(start, end)| compress(&file[start..end]))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_form_of_a_file_does_not_matter(
        sections in proptest::collection::vec(section(), 1..4),
        cuts in proptest::collection::vec(0.0..1.0f64, 0..4),
        window in 500usize..50_000,
        chunk in 100usize..9_000,
    ) {
        let capture = morning(4);
        let want = extract_bytes(&capture.to_pcap(), &[]);
        prop_assert_eq!(want.calls.len(), 4);
        let sizes = [window, chunk].map(|size| size.to_string());
        let flags = ["--window-bytes", &sizes[0], "--chunk-bytes", &sizes[1]];
        let same = |what: &str, got: &Extracted| {
            assert_eq!(got.status, Some(0), "{what}: {}", got.log);
            assert_same_calls(what, &want, got);
        };
        for order in [Order::Little, Order::Big] {
            for precision in [Precision::Micro, Precision::Nano] {
                same(&format!("{order:?} {precision:?}"), &extract_bytes(&capture.to_pcap_as(order, precision), &flags));
            }
        }
        let ng = capture.to_pcapng(&sections);
        same("pcapng", &extract_bytes(&ng, &[]));
        same("pcapng in windows", &extract_bytes(&ng, &flags));
        same("pcapng through a pipe", &extract_piped(&ng, &flags));
        for (name, compress) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
            same(name, &extract_bytes(&compressed(&ng, &cuts, compress), &flags));
            same(&format!("{name} through a pipe"), &extract_piped(&compressed(&capture.to_pcap(), &cuts, compress), &[]));
        }
    }
}

/// Merges the captures of several points in memory.
fn merged(points: &[Vec<u8>]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let opened: Vec<Input> = points
        .iter()
        .enumerate()
        .map(|(number, file)| {
            let path = folder.path().join(format!("{number}.pcap"));
            fs::write(&path, file).unwrap();
            Input::open(&path, &Scratch::new(folder.path(), None)).unwrap()
        })
        .collect();
    let mut merge = Merge::new(
        opened
            .iter()
            .map(|input| (vec![input], MergePosition::default(), Some(Later::END))),
    );
    let mut file = Vec::new();
    merge
        .write(
            &mut file,
            Watermark::END,
            u64::MAX,
            None,
            |_, input, gap| panic!("{}: {gap}", input.name()),
        )
        .unwrap();
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each packet is captured at one of several points, chosen at random.
    #[test]
    fn captures_of_several_points_are_merged_to_the_same_calls(
        precision in prop_oneof![Just(Precision::Micro), Just(Precision::Nano)],
        choices in proptest::collection::vec(0usize..4, 1..200),
    ) {
        let capture = Capture { precision, ..morning(4) };
        let mut points = vec![Capture { frames: Vec::new(), ..capture.clone() }; 4];
        let mut before = (0, 0);
        for ((ns, frame), choice) in capture.frames.iter().zip(choices.into_iter().cycle()) {
            // If times are equal, the packet of the first point comes first.
            let point = if before.0 == *ns { choice.max(before.1) } else { choice };
            before = (*ns, point);
            points[point].push(*ns, frame.clone());
        }
        let got = merged(&points.iter().map(Capture::to_pcap).collect::<Vec<_>>());
        let want = extract_bytes(&capture.to_pcap(), &[]);
        prop_assert_eq!(want.calls.len(), 4);
        assert_same_calls("merged", &want, &extract_bytes(&got, &[]));
        assert_same_calls("merged, in windows", &want, &extract_bytes(&got, SMALL));
    }
}

/// Simple packet blocks have no time; the call is found all the same.
#[test]
fn packets_without_time_are_read() {
    let capture = morning(1);
    for order in [Order::Little, Order::Big] {
        let clocks = vec![Clock {
            resolution: 6,
            offset_s: 0,
        }];
        let section = Section {
            order,
            clocks,
            blocks: vec![PacketBlock::Simple],
            unknown_every: 3,
            frames: 0,
        };
        let got = extract_bytes(&capture.to_pcapng(&[section]), SMALL);
        assert_eq!(got.status, Some(0), "{}", got.log);
        got.only_call()
            .is("completed")
            .has("rtp_packet_count", "86");
        let of_call = capture
            .frames
            .iter()
            .filter(|(_, frame)| frame[36..38] != 4_000u16.to_be_bytes());
        let want: Vec<_> = of_call.map(|(_, frame)| (0, frame.clone())).collect();
        assert!(got.only_call().frames() == want);
    }
}

#[test]
fn files_of_every_form_are_one_capture() {
    let whole = morning(6);
    let want = extract_bytes(&whole.to_pcap(), &[]);
    let section = Section {
        order: Order::Big,
        clocks: vec![Clock {
            resolution: 9,
            offset_s: 0,
        }],
        blocks: vec![PacketBlock::Enhanced],
        unknown_every: 0,
        frames: 0,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (number, frames) in whole
        .frames
        .chunks(whole.frames.len().div_ceil(4))
        .enumerate()
    {
        let part = Capture {
            frames: frames.to_vec(),
            ..whole.clone()
        };
        let bytes = match number {
            0 => gzip(&part.to_pcap()),
            1 => part.to_pcapng(std::slice::from_ref(&section)),
            2 => zstd(&part.to_pcapng(std::slice::from_ref(&section))),
            _ => part.to_pcap_as(Order::Big, Precision::Micro),
        };
        let path = folder.path().join(format!("part-{number}"));
        fs::write(&path, bytes).unwrap();
        files.insert(0, path);
    }
    let got = extract_files(folder, &files, SMALL);
    assert_eq!(got.status, Some(0), "{}", got.log);
    assert_same_calls("parts", &want, &got);
}

/// Returns the part of a damaged gzip stream before the first error, decompressed byte by byte.
fn decompressible(compressed: &[u8]) -> Vec<u8> {
    let mut decoder = flate2::read::MultiGzDecoder::new(compressed);
    let (mut plain, mut byte) = (Vec::new(), [0]);
    while decoder.read(&mut byte).is_ok_and(|len| len > 0) {
        plain.extend(byte);
    }
    plain
}

#[test]
fn a_cut_gzip_file_is_used_up_to_the_cut() {
    let plain = morning(3).to_pcap();
    let whole = compressed(&plain, &[0.4], gzip);
    for cut in (200..whole.len()).step_by(whole.len() / 9) {
        let before = decompressible(&whole[..cut]);
        assert!(plain.starts_with(&before));
        let got = extract_bytes(&whole[..cut], SMALL);
        assert_eq!(got.status, Some(3), "{}", got.log);
        let says = format!(
            "input.pcap: its gzip data ends too early, at decompressed offset {}",
            before.len()
        );
        assert!(got.log.contains(&says), "{says}: {}", got.log);
        assert!(
            got.log.contains("1   compressed inputs are cut or damaged"),
            "{}",
            got.log
        );
        assert_same_calls("cut", &extract_bytes(&before, &[]), &got);
    }
}

#[test]
fn a_damaged_gzip_file_is_used_up_to_the_damage() {
    let plain = morning(3).to_pcap();
    let whole = gzip(&plain);
    for at in (200..whole.len() - 60).step_by(whole.len() / 9) {
        let mut damaged = whole.clone();
        damaged[at..at + 50].fill(0xff);
        let before = decompressible(&damaged);
        let got = extract_piped(&damaged, SMALL);
        assert_eq!(got.status, Some(3), "{}", got.log);
        let says = format!("at decompressed offset {}", before.len());
        assert!(
            got.log
                .contains("standard input: its gzip data is damaged (")
                && got.log.contains(&says),
            "{says}: {}",
            got.log
        );
        assert_same_calls("damaged", &extract_bytes(&before, &[]), &got);
    }
}

/// zstd blocks have up to 128 KiB; the blocks before the damaged one are used.
#[test]
fn a_damaged_zstd_file_is_used_up_to_the_damage() {
    let plain = morning(26).to_pcap();
    assert!(plain.len() > 4 * 128 * 1024, "{}", plain.len());
    let whole = zstd(&plain);
    for (share, blocks) in [(0.3, 1), (0.99, 3)] {
        let at = (whole.len() as f64 * share) as usize;
        let mut damaged = whole.clone();
        damaged[at..]
            .iter_mut()
            .take(40)
            .for_each(|byte| *byte = !*byte);
        for (damaged, what) in [(&whole[..at], "ends too early"), (&damaged, "is damaged (")] {
            let got = extract_bytes(damaged, &[]);
            assert_eq!(got.status, Some(3), "{}", got.log);
            let after = got
                .log
                .split_once("at decompressed offset ")
                .expect(&got.log)
                .1;
            let offset: usize = after.split(';').next().unwrap().parse().unwrap();
            assert!(
                got.log.contains(&format!("its zstd data {what}")),
                "{}",
                got.log
            );
            assert!(
                offset >= blocks * 128 * 1024 && offset <= plain.len(),
                "{}",
                got.log
            );
            if what != "is damaged (" {
                assert_same_calls("damaged", &extract_bytes(&plain[..offset], &[]), &got);
            }
        }
    }
}

#[test]
fn a_compressed_capture_of_which_nothing_is_left_is_refused() {
    let plain = morning(1).to_pcap();
    for (bytes, what) in [
        (
            gzip(&plain)[..40].to_vec(),
            "its gzip data ends too early, at decompressed offset",
        ),
        (
            zstd(&plain)[..20].to_vec(),
            "its zstd data ends too early, at decompressed offset 0",
        ),
        (gzip(&zstd(&plain)), "compressed twice"),
        (zstd(b"hello, world"), "the file is text"),
        (
            zstd(b"hello\0world"),
            "not a capture: it begins with 0x68656c6c",
        ),
        (gzip(b""), "empty (0 bytes)"),
    ] {
        let got = extract_bytes(&bytes, &[]);
        assert_eq!(got.status, Some(1), "{}", got.log);
        assert!(
            got.log.contains("input.pcap is not used: ") && got.log.contains(what),
            "{what}: {}",
            got.log
        );
    }
}

/// A gigabyte compressed a thousandfold, and a disk with less room: files are limited to a
/// megabyte.
#[test]
fn a_bomb_ends_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (bomb, out) = (folder.path().join("bomb"), folder.path().join("out"));
    let capture = morning(1).to_pcap();
    let zeros = zstd(&vec![0; 32 * 1024 * 1024]);
    let bytes: Vec<u8> = [zstd(&capture)]
        .into_iter()
        .chain(std::iter::repeat_n(zeros, 32))
        .flatten()
        .collect();
    fs::write(&bomb, bytes).unwrap();
    let shell = format!(
        "trap '' XFSZ; ulimit -f 2048; exec {} --input-file {} --output-dir {}",
        env!("CARGO_BIN_EXE_sip-call-extractor"),
        bomb.display(),
        out.display()
    );
    let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let says = format!(
        "its zstd data cannot be decompressed to a temporary file in {}: File too large",
        out.display()
    );
    assert!(
        log.contains("bomb is not used") && log.contains(&says),
        "{log}"
    );
    assert_eq!(
        fs::read_dir(&out)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().metadata().unwrap().len() > 4096)
            .count(),
        0
    );
}

fn every_form(capture: &Capture) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for order in [Order::Little, Order::Big] {
        for precision in [Precision::Micro, Precision::Nano] {
            files.push((
                format!("{order:?} {precision:?}"),
                capture.to_pcap_as(order, precision),
            ));
        }
        let section = |order, frames| Section {
            order,
            clocks: vec![
                Clock {
                    resolution: 6,
                    offset_s: 0,
                },
                Clock {
                    resolution: 9,
                    offset_s: 7,
                },
            ],
            blocks: vec![PacketBlock::Enhanced, PacketBlock::Obsolete],
            unknown_every: 4,
            frames,
        };
        files.push((
            format!("{order:?} pcapng"),
            capture.to_pcapng(&[section(order, 0)]),
        ));
        let other = if order == Order::Little {
            Order::Big
        } else {
            Order::Little
        };
        let sections = [section(order, capture.frames.len() / 2), section(other, 0)];
        files.push((
            format!("{order:?} pcapng of two sections"),
            capture.to_pcapng(&sections),
        ));
    }
    files
}

/// Shifts a capture so that its first packet comes at `ns`.
fn beginning_at(capture: &Capture, ns: u64) -> Capture {
    let first_ns = capture.frames[0].0;
    let frames = capture
        .frames
        .iter()
        .map(|(at, frame)| (at - first_ns + ns, frame.clone()))
        .collect();
    Capture {
        frames,
        ..capture.clone()
    }
}

/// Captures whose times count from their start, from 1970, or from a clock that is far ahead.
#[test]
fn when_a_capture_begins_does_not_matter() {
    const CALL: &[&str] = &[
        "call_id",
        "state",
        "final_status",
        "duration_s",
        "sip_packet_count",
        "rtp_packet_count",
    ];
    const STREAM: &[&str] = &[
        "call_id",
        "ssrc_hex",
        "rtp_packet_count",
        "lost_packets",
        "avg_delta_ms",
        "jitter_ms",
        "mos",
    ];
    let rows = |rows: &[support::ladder::Row], columns: &[&str]| {
        rows.iter()
            .map(|row| {
                columns
                    .iter()
                    .map(|column| row.get(column).to_owned())
                    .collect()
            })
            .collect::<Vec<Vec<_>>>()
    };
    let capture = morning(4);
    let want = extract_bytes(&capture.to_pcap(), &[]);
    let section = |order, resolution| Section {
        order,
        clocks: vec![Clock {
            resolution,
            offset_s: 0,
        }],
        blocks: vec![PacketBlock::Enhanced, PacketBlock::Obsolete],
        unknown_every: 3,
        frames: 0,
    };
    for ns in [
        0,
        1_000,
        86_400_000_000_000,
        1_100_000_000_000_000_000,
        4_102_444_800_000_000_000,
    ] {
        let shifted = beginning_at(&capture, ns);
        let mut forms = Vec::new();
        for order in [Order::Little, Order::Big] {
            for (precision, resolution) in [(Precision::Micro, 6), (Precision::Nano, 9)] {
                forms.push((
                    format!("{order:?} {precision:?}"),
                    shifted.to_pcap_as(order, precision),
                ));
                forms.push((
                    format!("{order:?} {precision:?} pcapng"),
                    shifted.to_pcapng(&[section(order, resolution)]),
                ));
            }
        }
        for (form, file) in forms {
            for flags in [&[], SMALL] {
                let got = extract_bytes(&file, flags);
                let what = format!("{form}, from {ns}, {flags:?}: {}", got.log);
                assert_eq!(got.status, Some(0), "{what}");
                assert_eq!(rows(&got.calls, CALL), rows(&want.calls, CALL), "{what}");
                assert_eq!(
                    rows(&got.streams, STREAM),
                    rows(&want.streams, STREAM),
                    "{what}"
                );
                for (want, got) in want.each_call().iter().zip(got.each_call()) {
                    let want = want
                        .frames()
                        .into_iter()
                        .map(|(at, frame)| (at - START_NS + ns, frame));
                    assert!(got.frames().into_iter().eq(want), "{what}");
                }
            }
        }
    }
}

/// Calls time out where times jump, but every packet is read, and windows make no difference.
#[test]
fn odd_times_cost_no_packet_whatever_the_form_and_the_window() {
    let capture = morning(4);
    let want = extract_bytes(&capture.to_pcap(), &[]);
    for order in [Order::Little, Order::Big] {
        for precision in [Precision::Micro, Precision::Nano] {
            for times in TIMES {
                let file = at_times(&capture.to_pcap_as(order, precision), times);
                let got = extract_bytes(&file, &[]);
                let what = format!("{order:?} {precision:?}, {}: {}", times.0, got.log);
                assert_eq!(got.status, Some(0), "{what}");
                assert!(
                    got.log
                        .contains(&format!("packets   {:>14}", capture.frames.len())),
                    "{what}"
                );
                for flags in [SMALL, TINY] {
                    let in_windows = extract_bytes(&file, flags);
                    assert_eq!(in_windows.status, Some(0), "{flags:?}, {}", in_windows.log);
                    assert_eq!(in_windows.files(), got.files(), "{what}, {flags:?}");
                }
                if times.0.starts_with("all") {
                    let frames = |of: &Extracted, call_id: &str| {
                        of.call(call_id)
                            .frames()
                            .into_iter()
                            .map(|(_, frame)| frame)
                            .collect::<Vec<_>>()
                    };
                    for n in 0..4 {
                        let call_id = format!("call-{n}");
                        got.call(&call_id).is("completed");
                        assert!(frames(&got, &call_id) == frames(&want, &call_id), "{what}");
                    }
                }
            }
        }
    }
}

/// Users pass all kinds of files by mistake. The log names each, and the other files are read.
#[test]
fn files_that_are_no_capture_are_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let capture = morning(1);
    let mut files = Vec::new();
    for (name, bytes, sentence) in [
        ("good.pcap", &capture.to_pcap()[..], ""),
        (
            "trace.cap",
            b"GMBU\0\x02\x01\0",
            "a capture of Microsoft Network Monitor 2, which is not supported; convert it with `editcap -F pcap in out`",
        ),
        (
            "sun.snoop",
            b"snoop\0\0\0\0\0\0\x02\0\0\0\x04",
            "a capture of snoop, which is not supported; convert it with `editcap -F pcap in out`",
        ),
        (
            "big.pcap.xz",
            b"\xfd7zXZ\0\0\x04",
            "compressed with xz, which is not supported; decompress it with `xz -dc in > out` first",
        ),
        ("big.pcap.bz2", b"BZh91AY&SY", "`bzip2 -dc in > out`"),
        (
            "big.pcap.lz4",
            &[0x04, 0x22, 0x4d, 0x18],
            "`lz4 -dc in > out`",
        ),
        ("captures.zip", b"PK\x03\x04\x14\0\x08\0", "a zip archive"),
        (
            "page.pcap",
            b"<!doctype html><title>Sign in</title>",
            "an HTML page",
        ),
        ("calls.har", b"{\"log\": {}}", "JSON, such as HAR"),
        (
            "sip.log",
            b"INVITE sip:bob@example.com SIP/2.0\r\n",
            "the file is text",
        ),
        ("nothing.pcap", b"", "the file is empty (0 bytes)"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        files.push((path, sentence));
    }
    let directory = folder.path().join("captures");
    fs::create_dir(&directory).unwrap();
    files.push((
        directory,
        "it is a directory; --input-dir reads the segments in one",
    ));
    let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let got = extract_files(folder, &paths, &[]);
    assert_eq!(got.status, Some(3), "{}", got.log);
    got.only_call()
        .is("completed")
        .has("rtp_packet_count", "86");
    for (path, sentence) in files.iter().skip(1) {
        let line = got
            .log
            .lines()
            .find(|line| line.contains(&format!("{} is not used: ", path.display())));
        assert!(
            line.is_some_and(|line| line.contains(sentence)),
            "{sentence}: {}",
            got.log
        );
    }
}

/// Returns the offsets of a file's records.
fn offsets(file: &[u8]) -> Vec<usize> {
    let (layout, start) = Layout::detect(file).unwrap();
    let mut walk = layout.walk(file, start);
    let mut offsets = Vec::new();
    while let Some(Step::Record(record)) = walk.next_step() {
        offsets.push(record.offset);
    }
    offsets
}

/// Extracts a damaged file with several window and chunk sizes, which must give the same results.
fn extract_damaged(what: &str, damaged: &[u8]) -> Extracted {
    let want = extract_bytes(damaged, &[]);
    assert_eq!(want.status, Some(3), "{what}: {}", want.log);
    let gaps = |extracted: &Extracted| {
        let is_gap = |line: &&str| line.contains(" offset ");
        extracted
            .log
            .lines()
            .filter(is_gap)
            .map(|line| line.split_once("input.pcap").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    for flags in [SMALL, TINY] {
        let got = extract_bytes(damaged, flags);
        assert_eq!(got.status, Some(3), "{what}: {}", got.log);
        assert_eq!(gaps(&want), gaps(&got), "{what}, {flags:?}");
        assert_eq!(want.files(), got.files(), "{what}, {flags:?}");
    }
    want
}

#[test]
fn damage_costs_only_itself_whatever_the_form_and_the_window() {
    let capture = morning(3);
    let frames = capture.frames.len();
    for (form, file) in every_form(&capture) {
        let offsets = offsets(&file);
        assert_eq!(offsets.len(), frames);
        // In the middle. In files with two sections, the second one begins two records later.
        let (from, until) = (offsets[frames / 2 - 3], offsets[frames / 2 - 1]);
        let cut_to =
            |from: usize, with: &[u8], until: usize| [&file[..from], with, &file[until..]].concat();
        let len_at = if form.contains("pcapng") { 4 } else { 8 };
        let with_len = |len: u32| {
            let bytes = if form.starts_with("Big") {
                len.to_be_bytes()
            } else {
                len.to_le_bytes()
            };
            cut_to(from + len_at, &bytes, from + len_at + 4)
        };
        for (damage, damaged, lost) in [
            ("zeros", cut_to(from, &vec![0; until - from], until), 2),
            ("ones", cut_to(from, &vec![0xff; until - from], until), 2),
            ("three bytes more", cut_to(from, &[0x5a; 3], from), 0),
            (
                "a hundred thousand bytes more",
                cut_to(from, &[0x5a; 100_001], from),
                0,
            ),
            ("half a record lost", cut_to(from, &[], from + 41), 1),
            ("absurd length", with_len(u32::MAX), 1),
            ("length past the end", with_len(260_000), 1),
            ("length over other records", with_len(5_000), 1),
            ("no length", with_len(0), 1),
        ] {
            let what = format!("{form}, {damage}");
            let got = extract_damaged(&what, &damaged);
            assert!(
                got.log.contains(&format!("offset {from}")),
                "{what}: {}",
                got.log
            );
            let packets = format!("packets   {:>14}", frames - lost);
            assert!(got.log.contains(&packets), "{what}: {}", got.log);
            assert_eq!(got.calls.len(), 3, "{what}");
        }
    }
}

/// A file that begins with damage still has its place among others.
#[test]
fn a_file_that_begins_with_damage_is_read_in_its_turn() {
    let whole = morning(4);
    let (first, second) = whole.frames.split_at(whole.frames.len() / 2);
    let folder = tempfile::tempdir().unwrap();
    let [early, late] = ["early", "late"].map(|name| folder.path().join(name));
    let mut bytes = Capture {
        frames: first.to_vec(),
        ..whole.clone()
    }
    .to_pcap();
    // The first frame is the INVITE of the first call.
    bytes[24..24 + 16].fill(0xff);
    fs::write(&early, bytes).unwrap();
    fs::write(
        &late,
        Capture {
            frames: second.to_vec(),
            ..whole.clone()
        }
        .to_pcap(),
    )
    .unwrap();
    let got = extract_files(folder, &[late, early], SMALL);
    assert_eq!(got.status, Some(3), "{}", got.log);
    let rest = Capture {
        frames: whole.frames[1..].to_vec(),
        ..whole
    };
    assert_same_calls("rest", &extract_bytes(&rest.to_pcap(), &[]), &got);
}
