//! What the agent says was dropped in the time of each segment, and what the extractor makes of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use shared::{segment::SegmentName, segment_drops::SegmentDrops};
use support::{
    faults::{Call, Threads, inject},
    frames,
    lab::wait_until,
    sip::{request, response},
};

use crate::{
    agent::{Agent, Network, STEADY, numbers_in, segments},
    calls::{ends_well, extractor},
};

/// Returns the segments with what was dropped in their time.
fn told(directory: &Path) -> Vec<(SegmentName, PathBuf, Option<SegmentDrops>)> {
    let with_drops = |(name, path): (SegmentName, PathBuf)| {
        let beside = directory.join(name.drops_file_name());
        let drops = fs::read(beside)
            .ok()
            .map(|text| SegmentDrops::parse(&text).unwrap());
        (name, path, drops)
    };
    segments(directory).into_iter().map(with_drops).collect()
}

/// Returns the names of files that begin with a dot.
fn hidden(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut hidden: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    hidden.sort();
    hidden
}

fn last_value(log: &str, field: &str) -> u64 {
    let (_, value) = log.rsplit_once(field).unwrap();
    let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn a_segment_without_drops_says_so() {
    let network = Network::new();
    let mut agent = network.agent(&[&STEADY[..], &["--rotate-size", "100KiB"]].concat());
    network.send_numbers(0..2000, 5000);
    agent.has_captured(2000);
    agent.end("TERM");
    let told = told(&network.segments());
    assert!(told.len() > 3, "{told:?}");
    for (name, _, drops) in &told {
        let drops = drops.as_ref().unwrap();
        assert_eq!((drops.packets(), drops.from_us()), (0, name.start_us()));
    }
    // A segment ends where the next begins.
    for pair in told.windows(2) {
        let [before, after] = [0, 1].map(|number| pair[number].2.as_ref().unwrap());
        assert_eq!(before.until_us() / 1000, after.from_us() / 1000);
    }
    let last = told
        .last()
        .and_then(|(_, _, drops)| drops.as_ref())
        .unwrap();
    assert!(last.until_us() > last.from_us(), "{last:?}");
    assert_eq!(hidden(&network.segments()).len(), told.len());
}

/// The kernel drops packets while a call is open. The call's row says how many.
#[test]
fn a_call_says_what_the_kernel_dropped() {
    let network = Network::new();
    let [a, b] = ["192.0.2.1:5060", "192.0.2.2:5060"].map(|end| end.parse().unwrap());
    let sip = |from, to, message: support::sip::Sip| frames::udp(from, to, &message.bytes());
    let mut agent = network.agent(&[
        "--filter",
        "udp",
        "--rotate-every",
        "0",
        "--buffer-size",
        "256KiB",
    ]);
    let before = [
        sip(a, b, request("INVITE", "before")),
        sip(b, a, response(486, "INVITE", "before")),
    ];
    network.send(&before, 100);
    network.send(&[sip(a, b, request("INVITE", "during"))], 100);
    agent.has_captured(3);
    agent.program.signal("STOP");
    network.send_numbers(0..20_000, 100_000);
    agent.program.signal("CONT");
    agent.program.says("packets were dropped");
    network.send(&[sip(a, b, request("INVITE", "after"))], 100);
    let log = agent.end("TERM");
    let dropped = last_value(&log, "kernel_dropped=");
    let told = told(&network.segments());
    let [(_, segment, Some(drops))] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!(dropped > 1000, "{log}");
    assert_eq!(drops.packets(), dropped, "{log}");
    let output = network.folder().join("out");
    ends_well(extractor(&output).args(["--input-file"]).arg(segment));
    let table = fs::read_to_string(output.join("detected_calls.csv")).unwrap();
    let of = |call_id: &str| {
        let row = table.lines().find(|row| row.starts_with(call_id)).unwrap();
        row.rsplit(',').nth(2).unwrap().to_owned()
    };
    assert_eq!(of("during"), dropped.to_string(), "{table}");
    // The counters are read each second, so calls shortly before and after may have them, too.
    for call_id in ["before", "after"] {
        let drops = of(call_id);
        assert!(
            ["0", &dropped.to_string()].contains(&drops.as_str()),
            "{table}"
        );
    }
}

/// Kills the agent at each of the system calls that write the drops and name the segment.
#[test]
fn a_kill_between_the_two_names_costs_nothing() {
    let mut both_were_seen = [false; 2];
    for (kind, nth) in [
        ("rename,renameat,renameat2", 1),
        ("rename,renameat,renameat2", 2),
        ("fsync", 2),
        ("fsync", 3),
    ] {
        let network = Network::new();
        let output = network.segments();
        let command = network
            .near
            .command(env!("CARGO_BIN_EXE_sip-capture-agent"));
        let call = Call {
            kind: kind.to_owned(),
            nth,
        };
        let mut command = inject(Threads::All, &command, &call, "signal=SIGKILL");
        command.args(["--interface", support::lab::WIRE, "--no-sandbox"]);
        let agent = Agent::run(command, network.folder(), &output, &STEADY);
        network.send_numbers(0..100, 5000);
        wait_until("the packets to be written", || {
            fs::read_dir(&output)
                .unwrap()
                .any(|entry| entry.unwrap().metadata().unwrap().len() > 20_000)
        });
        let mut program = agent.program;
        // strace ends as its program does.
        let strace = program.id();
        let children =
            fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap();
        for child in children.split_whitespace() {
            let kill = std::process::Command::new("kill")
                .args(["-TERM", child])
                .status();
            assert!(kill.unwrap().success());
        }
        program.end();
        let left = hidden(&output);
        both_were_seen[usize::from(left.iter().any(|name| name.ends_with(".drops.json")))] = true;
        // The next start repairs what is left.
        let mut next = network.agent(&STEADY);
        wait_until("the repair", || {
            fs::read_dir(&output).unwrap().any(|entry| {
                !entry
                    .unwrap()
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(b".")
            })
        });
        network.send_numbers(100..200, 5000);
        next.has_captured(100);
        next.end("TERM");
        assert_eq!(
            numbers_in(&output),
            (0..200).collect::<Vec<u64>>(),
            "{kind} {nth}: {left:?}"
        );
        for name in hidden(&output) {
            let segment = name
                .strip_prefix('.')
                .and_then(|name| name.strip_suffix(".drops.json"));
            assert!(
                segment.is_some_and(|segment| output.join(segment).exists()),
                "{name}"
            );
        }
        for (_, _, drops) in told(&output)
            .into_iter()
            .filter(|(.., drops)| drops.is_some())
        {
            assert_eq!(drops.unwrap().packets(), 0);
        }
    }
    assert_eq!(
        both_were_seen, [true; 2],
        "killed before and after the first rename"
    );
}

#[test]
fn retention_deletes_the_drops_with_their_segment() {
    let network = Network::new();
    let agent = network.agent(
        &[
            &STEADY[..],
            &["--rotate-size", "50KiB", "--max-disk-bytes", "200KiB"],
        ]
        .concat(),
    );
    network.send_numbers(0..4000, 5000);
    wait_until("deletions", || {
        agent.log().contains("deleted for --max-disk-bytes")
    });
    agent.end("TERM");
    let told = told(&network.segments());
    assert!((1..8).contains(&told.len()), "{told:?}");
    assert!(told.iter().all(|(.., drops)| drops.is_some()));
    assert_eq!(hidden(&network.segments()).len(), told.len());
}
