//! Packets that were dropped at capture: each call says how many were dropped while it was open, in
//! any number of runs and after any kill.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use shared::{
    segment::SegmentName,
    segment_drops::{DropCauses, Dropped, SegmentDrops},
};
use support::{
    SECOND,
    capture::Capture,
    desk::{Desk, Files, deliver_to, visible},
    dice::{Dice, tries},
    faults::{CHANGES, Threads, calls, inject},
    ladder::{Ladder, START_NS, extract_files},
    sip::{request, response},
};

const A: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
const B: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 5060);

/// Small windows and units: a state after nearly each segment.
const SMALL: [&str; 6] = [
    "--window-bytes",
    "700",
    "--chunk-bytes",
    "300",
    "--unit-bytes",
    "1",
];

/// The length of a segment, in seconds.
const LEN: u64 = 10;

/// Packets that were dropped from one time to another, in milliseconds.
type Drops<'a> = &'a [(u64, u64, u64)];

/// The drops of each segment; `None` if they are not known.
const HERE: [Option<Drops<'_>>; 6] = [
    Some(&[]),
    Some(&[(12_500, 12_600, 4), (19_900, 21_000, 5)]),
    Some(&[]),
    None,
    Some(&[(41_000, 42_000, 7)]),
    Some(&[(56_000, 57_000, 9)]),
];
const THERE: [Option<Drops<'_>>; 6] = [
    Some(&[]),
    None,
    Some(&[(22_000, 22_000, 100)]),
    None,
    Some(&[]),
    Some(&[(50_100, 50_200, 1000)]),
];

/// The calls, with the seconds in which they begin and end, and what was dropped meanwhile at one
/// capture point, and at both.
const CALLS: [(&str, u64, Option<u64>, &str, &str); 7] = [
    ("from-the-first-segment", 1, Some(25), "9", "109"),
    ("short", 12, Some(13), "4", "4"),
    ("after-the-drop", 22, Some(23), "0", "100"),
    ("long", 28, Some(55), "7", "1007"),
    ("to-the-end", 31, None, "16", "1016"),
    ("where-nothing-is-said", 32, Some(34), "", ""),
    ("in-the-last-segment", 57, Some(58), "9", "9"),
];

fn ladder() -> Ladder {
    let mut t = Ladder::new();
    for (call_id, from, until, ..) in CALLS {
        t.sip(from * 1000, A, B, request("INVITE", call_id));
        t.sip(from * 1000 + 100, B, A, response(200, "INVITE", call_id));
        if let Some(until) = until {
            t.sip(until * 1000, A, B, request("BYE", call_id).cseq(2));
        }
    }
    (0..60).for_each(|second| t.udp(second * 1000 + 500, A, B, b"\r\n\r\n"));
    t.sort();
    t
}

fn at_us(ms: u64) -> u64 {
    START_NS / 1000 + ms * 1000
}

fn name(number: usize, first_ns: u64, instance: &str) -> String {
    SegmentName::new(instance, "eth0", first_ns / 1000, number as u32 + 1).to_string()
}

/// The file beside a segment.
fn drops_file(drops: Drops<'_>, from_us: u64, until_us: u64) -> String {
    let drop = |&(from, until, packets): &(u64, u64, u64)| {
        let causes = DropCauses {
            kernel: packets,
            ..DropCauses::default()
        };
        (
            Dropped {
                from_us: at_us(from),
                until_us: at_us(until),
                packets,
            },
            causes,
        )
    };
    SegmentDrops::new(from_us, until_us, drops.iter().map(drop)).to_json()
}

/// A segment, and the file beside it.
type Told = (String, Vec<u8>, Option<String>);

/// The segments of a capture point.
fn segments(frames: &[(u64, Vec<u8>)], drops: [Option<Drops<'_>>; 6], instance: &str) -> Vec<Told> {
    let of_segment = |number: usize| {
        let [from, until] = [number, number + 1].map(|n| START_NS + n as u64 * LEN * SECOND);
        let mut capture = Capture::default();
        let own = frames.iter().filter(|(ns, _)| (from..until).contains(ns));
        own.for_each(|(ns, frame)| capture.push(*ns, frame.clone()));
        let first_ns = capture.frames[0].0;
        let beside = drops[number].map(|drops| drops_file(drops, first_ns / 1000, until / 1000));
        (name(number, first_ns, instance), capture.to_pcap(), beside)
    };
    (0..6).map(of_segment).collect()
}

fn here() -> Vec<Told> {
    segments(&ladder().capture.frames, HERE, "edge1")
}

/// The drops are there before the segment is, as the agent does it.
fn deliver(directory: &Path, (name, bytes, drops): &Told) {
    if let Some(drops) = drops {
        fs::write(directory.join(format!(".{name}.drops.json")), drops).unwrap();
    }
    deliver_to(directory, name, bytes);
}

fn desk() -> Desk {
    let desk = Desk::new();
    here().iter().for_each(|told| deliver(&desk.segments, told));
    desk
}

/// Returns Call-ID and drops of each call, sorted.
fn rows(table: &[u8]) -> Vec<(String, String)> {
    let mut reader = csv::Reader::from_reader(table);
    let column = reader
        .headers()
        .unwrap()
        .iter()
        .position(|name| name == "capture_drops")
        .unwrap();
    let row = |row: csv::StringRecord| (row[0].to_owned(), row[column].to_owned());
    let mut rows: Vec<_> = reader
        .records()
        .map(|record| row(record.unwrap()))
        .collect();
    rows.sort();
    rows
}

fn want(of_both: bool) -> Vec<(String, String)> {
    let row = |(call_id, _, _, of_one, of_two): (&str, u64, Option<u64>, &str, &str)| {
        (
            call_id.to_owned(),
            if of_both { of_two } else { of_one }.to_owned(),
        )
    };
    let mut rows: Vec<_> = CALLS.into_iter().map(row).collect();
    rows.sort();
    rows
}

fn table(desk: &Desk) -> Vec<u8> {
    fs::read(desk.out.join("detected_calls.csv")).unwrap()
}

fn in_one_run() -> Files {
    let desk = desk();
    desk.run(&["--final"]).is(0);
    assert_eq!(rows(&table(&desk)), want(false));
    visible(&desk.out)
}

#[test]
fn a_call_says_what_was_dropped_while_it_was_open() {
    let desk = desk();
    let ran = desk.run(&["--final"]);
    assert_eq!(rows(&table(&desk)), want(false));
    ran.says("dropped")
        .says("packets were dropped at capture between 2023-12-01T14:30:34.623456Z and 2023-12-01T14:31:19.123456Z: loss in calls of that time may be the capture's");
    assert!(ran.log.contains(" 25 "), "{}", ran.log);
    ran.is(0);
}

#[test]
fn segments_that_say_nothing_leave_the_column_empty() {
    let desk = Desk::new();
    for (name, bytes, _) in here() {
        desk.deliver(&name, &bytes);
    }
    let ran = desk.run(&["--final"]);
    assert!(
        rows(&table(&desk))
            .iter()
            .all(|(_, drops)| drops.is_empty())
    );
    assert!(!ran.log.contains("dropped at capture"), "{}", ran.log);
}

#[test]
fn files_say_it_as_directories_do() {
    let folder = tempfile::tempdir().unwrap();
    let told = here();
    told.iter().for_each(|told| deliver(folder.path(), told));
    let inputs: Vec<PathBuf> = told
        .iter()
        .map(|(name, ..)| folder.path().join(name))
        .collect();
    let out = extract_files(folder, &inputs, &SMALL);
    assert_eq!(rows(&out.files()["detected_calls.csv"]), want(false));
    // The sandbox of a run over files lets it read the files beside them.
    assert!(out.log.contains("dropped at capture"), "{}", out.log);
}

#[test]
fn any_number_of_runs_says_the_same() {
    let want = in_one_run();
    for small in [&[][..], &SMALL] {
        for after in ["keep", "delete", "move:done"] {
            let desk = Desk::new();
            let after = after.replace("done", desk.folder().join("done").to_str().unwrap());
            let flags = [small, &["--after-processing", &after]].concat();
            for told in here() {
                deliver(&desk.segments, &told);
                desk.run(&flags).is(0);
            }
            desk.run(&[&flags[..], &["--final"]].concat()).is(0);
            desk.has(&want, &after);
        }
    }
}

#[test]
fn the_drops_go_where_their_segment_goes() {
    let hidden = |directory: &Path| {
        let names = fs::read_dir(directory).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut drops: Vec<String> = names.filter(|name| name.ends_with(".drops.json")).collect();
        drops.sort();
        drops
    };
    let told: Vec<String> = here()
        .into_iter()
        .filter(|(.., drops)| drops.is_some())
        .map(|(name, ..)| format!(".{name}.drops.json"))
        .collect();
    let desk = desk();
    desk.run(&[]).is(0);
    assert_eq!(hidden(&desk.segments), told);
    let desk = self::desk();
    desk.run(&["--after-processing", "delete"]).is(0);
    assert_eq!(hidden(&desk.segments), [""; 0]);
    // Another file system is copied to.
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    for done in [self::desk().folder().join("done"), other.path().to_owned()] {
        let desk = self::desk();
        let content = fs::read(desk.segments.join(&told[1])).unwrap();
        desk.run(&["--after-processing", &format!("move:{}", done.display())])
            .is(0);
        assert_eq!(hidden(&desk.segments), [""; 0]);
        assert_eq!(hidden(&done), told);
        assert_eq!(visible(&done).len(), 6);
        assert_eq!(fs::read(done.join(&told[1])).unwrap(), content);
    }
}

#[test]
fn a_damaged_file_is_named_and_its_drops_are_unknown() {
    let good = here();
    let beside = |directory: &Path| directory.join(format!(".{}.drops.json", good[1].0));
    let damages: [&dyn Fn(&Path); 3] = [
        &|path| fs::write(path, b"{\"version\":1").unwrap(),
        &|path| {
            let long = fs::read_to_string(path).unwrap() + &" ".repeat(1 << 20);
            fs::write(path, long).unwrap();
        },
        &|path| {
            fs::rename(path, path.with_extension("away")).unwrap();
            symlink(path.with_extension("away"), path).unwrap();
        },
    ];
    for damage in damages {
        let desk = desk();
        damage(&beside(&desk.segments));
        let ran = desk.run(&["--final"]);
        ran.says("is not used, so nobody knows whether packets were dropped");
        let got = rows(&table(&desk));
        let of = |call_id: &str| &got.iter().find(|(id, _)| id == call_id).unwrap().1;
        assert_eq!(
            (of("short").as_str(), of("from-the-first-segment").as_str()),
            ("", "0")
        );
        assert_eq!(of("long"), "7");
        ran.is(0);
    }
}

#[test]
fn capture_points_add_up_in_any_number_of_runs() {
    let frames = ladder().capture.frames;
    let (mut of_here, mut of_there) = (Vec::new(), Vec::new());
    for (number, frame) in frames.into_iter().enumerate() {
        [&mut of_here, &mut of_there][number % 2].push(frame);
    }
    let points = [
        segments(&of_here, HERE, "edge1"),
        segments(&of_there, THERE, "edge2"),
    ];
    let mut results = Vec::new();
    for (sizes, runs) in [(&[][..], 1), (&SMALL[..], 1), (&[][..], 6), (&SMALL[..], 6)] {
        let desk = Desk::new();
        let others = desk.folder().join("others");
        fs::create_dir(&others).unwrap();
        let flags = [&["--input-dir", others.to_str().unwrap()][..], sizes].concat();
        for run in 0..runs {
            for number in (0..6).filter(|number| number % runs == run || runs == 1) {
                deliver(&desk.segments, &points[0][number]);
                deliver(&others, &points[1][number]);
            }
            desk.run(&flags).is(0);
        }
        desk.run(&[&flags[..], &["--final"]].concat()).is(0);
        assert_eq!(rows(&table(&desk)), want(true), "{sizes:?} {runs}");
        results.push(visible(&desk.out));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

/// A clock that is set back by an hour in the third segment: calls go on, and no run counts drops
/// that another does not.
#[test]
fn a_clock_that_is_set_back_makes_no_difference_between_runs() {
    let back = |ns: u64| {
        if ns >= START_NS + 20 * SECOND {
            ns - 3600 * SECOND
        } else {
            ns
        }
    };
    let told: Vec<Told> = here()
        .into_iter()
        .zip(0..)
        .map(|((_, bytes, drops), number)| {
            let mut capture = Capture::default();
            for (ns, frame) in support::ladder::read_frames(&bytes) {
                capture.push(back(ns), frame);
            }
            let first_ns = capture.frames[0].0;
            let drops = drops.map(|_| {
                let all = HERE[number].unwrap();
                let moved: Vec<(u64, u64, u64)> = all.to_vec();
                let text = drops_file(&moved, START_NS / 1000, u64::MAX / 2000);
                let parsed = SegmentDrops::parse(text.as_bytes()).unwrap();
                let shift = |us: u64| back(us * 1000) / 1000;
                let own = parsed.drops().iter().map(|drop| {
                    let causes = DropCauses {
                        kernel: drop.packets,
                        ..DropCauses::default()
                    };
                    (
                        Dropped {
                            from_us: shift(drop.from_us),
                            until_us: shift(drop.until_us),
                            ..*drop
                        },
                        causes,
                    )
                });
                SegmentDrops::new(first_ns / 1000, first_ns / 1000 + LEN * 1_000_000, own).to_json()
            });
            // Names go on sorting in capture order.
            let named_ns = START_NS + (number as u64) * LEN * SECOND;
            (name(number, named_ns, "edge1"), capture.to_pcap(), drops)
        })
        .collect();
    let mut results = Vec::new();
    for (sizes, runs) in [(&[][..], 1), (&SMALL[..], 1), (&[][..], 6), (&SMALL[..], 6)] {
        let desk = Desk::new();
        for (number, told) in told.iter().enumerate() {
            deliver(&desk.segments, told);
            if runs > 1 || number == 5 {
                desk.run(sizes).is(0);
            }
        }
        desk.run(&[sizes, &["--final"]].concat()).is(0);
        results.push(rows(&table(&desk)));
    }
    assert!(
        results.windows(2).all(|pair| pair[0] == pair[1]),
        "{results:#?}"
    );
    assert!(
        results[0]
            .iter()
            .any(|(_, drops)| !matches!(drops.as_str(), "" | "0"))
    );
}

#[test]
fn a_run_that_is_killed_says_the_same() {
    let want = in_one_run();
    let mut dice = Dice::new(4711);
    let flags = [&SMALL[..], &["--final", "--after-processing", "delete"]].concat();
    let whole = desk();
    let changes = calls(
        Threads::First,
        &whole.command(&flags),
        CHANGES,
        whole.folder(),
    );
    assert!(changes.len() > 20, "{changes:?}");
    for nth in dice.some_below(tries(12, 1000), changes.len()) {
        let desk = desk();
        let command = desk.command(&flags);
        let killed = inject(Threads::First, &command, &changes[nth], "signal=SIGKILL")
            .output()
            .unwrap();
        if killed.status.code().is_none() {
            desk.run(&flags).is(0);
        }
        desk.has(&want, &format!("{:?}", changes[nth]));
        assert_eq!(
            fs::read_dir(&desk.segments).unwrap().count(),
            0,
            "{:?}",
            changes[nth]
        );
    }
}
