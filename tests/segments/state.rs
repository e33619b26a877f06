//! The owner of an output directory: the lock, the state, and refusals.

use std::{fs, path::Path, process::Command, time::Duration};

use support::{
    desk::{Desk, Files, STATE, visible, within},
    dice::{Dice, tries},
    faults::{Call, Threads, calls, inject},
};

use super::{
    cuts::results_of_the_whole,
    directory::{Names, Segment},
    everything::{Container, Form, Packets},
};

fn halves() -> (Packets, Vec<Segment>, Files) {
    let packets = Packets::everything(Form::Micro);
    let segments = Names::Agents.cut(&packets, 2, &mut Dice::new(500));
    let want = results_of_the_whole(&packets);
    (packets, segments, want)
}

/// Returns a desk whose first half is processed and whose second half is there.
fn half_done() -> (Desk, Files) {
    let (_, segments, want) = halves();
    let desk = Desk::new();
    desk.deliver_all(&segments[..1]);
    desk.run(&[]).is(0);
    desk.deliver_all(&segments[1..]);
    (desk, want)
}

/// Checks that a run is refused with these words, and changes nothing.
#[track_caller]
fn is_refused(desk: &Desk, command: &mut Command, words: &[&str], what: &str) {
    let (out, delivered) = (desk.everything_in_out(), desk.delivered());
    let ran = desk.ended(command);
    assert_eq!(ran.status, Some(1), "{what}: {}", ran.log);
    for word in words {
        assert!(ran.log.contains(word), "{what}: no `{word}` in {}", ran.log);
    }
    assert!(out == desk.everything_in_out(), "{what}: something changed");
    assert_eq!(delivered, desk.delivered(), "{what}");
}

#[test]
fn a_second_one_says_so_and_leaves_the_first_alone() {
    let (packets, segments, want) = halves();
    let desk = Desk::new();
    let mut watch = desk.start(&["--watch", "--after-processing", "delete"]);
    desk.deliver_all(&segments[..1]);
    assert!(
        within(Duration::from_secs(20), || desk.delivered().is_empty()),
        "{}",
        watch.log()
    );
    let elsewhere = desk.folder().join("whole.pcap");
    fs::write(&elsewhere, packets.whole()).unwrap();
    let mut with_a_file = desk.extractor();
    with_a_file.arg("--input-file").arg(&elsewhere);
    let out = desk.out.display().to_string();
    for command in [
        &mut desk.command(&[]),
        &mut desk.command(&["--watch"]),
        &mut desk.command(&["--reset-state"]),
        &mut with_a_file,
    ] {
        is_refused(&desk, command, &[&out], "a second one");
    }
    desk.deliver_all(&segments[1..]);
    assert!(
        within(Duration::from_secs(20), || desk.delivered().is_empty()),
        "{}",
        watch.log()
    );
    assert!(watch.is_running());
    watch.end("TERM").is(0);
    desk.run(&["--final"]).is(0);
    desk.has(&want, "the first one");
}

#[test]
fn a_damaged_state_is_refused() {
    let (desk, want) = half_done();
    let state = desk.out.join(STATE);
    let sound = fs::read(&state).unwrap();
    let mut dice = Dice::new(501);
    for at in [0, 4, 8, 12, sound.len() - 1]
        .into_iter()
        .chain(dice.some_below(tries(20, 500), sound.len()))
    {
        let mut damaged = sound.clone();
        damaged[at] ^= 1 << dice.below(8);
        fs::write(&state, damaged).unwrap();
        is_refused(
            &desk,
            &mut desk.command(&["--final"]),
            &[STATE, "--reset-state"],
            &format!("byte {at} is another"),
        );
    }
    for len in [0, 1, 7, sound.len() / 2, sound.len() - 1] {
        fs::write(&state, &sound[..len]).unwrap();
        is_refused(
            &desk,
            &mut desk.command(&["--final"]),
            &[STATE, "--reset-state"],
            &format!("{len} bytes of it"),
        );
    }
    fs::write(&state, [&sound[..], b"and more"].concat()).unwrap();
    is_refused(
        &desk,
        &mut desk.command(&["--final"]),
        &[STATE, "--reset-state"],
        "something behind it",
    );
    fs::write(&state, sound).unwrap();
    desk.run(&["--final"]).is(0);
    desk.has(&want, "the sound state again");
}

#[test]
fn a_state_of_a_newer_version_is_refused() {
    let (desk, want) = half_done();
    let state = desk.out.join(STATE);
    let sound = fs::read(&state).unwrap();
    let mut newer = sound.clone();
    // The version is after the magic number.
    newer[8] += 1;
    fs::write(&state, newer).unwrap();
    is_refused(
        &desk,
        &mut desk.command(&["--final"]),
        &["later version", "--reset-state"],
        "a newer version",
    );
    fs::write(&state, sound).unwrap();
    desk.run(&["--final"]).is(0);
    desk.has(&want, "the version of before");
}

#[test]
fn a_state_of_other_flags_is_refused() {
    let (desk, want) = half_done();
    for flags in [
        &["--call-timeout", "1m"][..],
        &["--linger", "1s"],
        &["--media-lookback", "1s"],
        &["--sip-ports-range", "5060-5070"],
        &["--detected-calls-filename", "other.csv"],
        &["--stats-filename", "other.csv"],
        &["--erspan-vlans", "1,2"],
        &["--dtmf-digits"],
        &["--json"],
    ] {
        is_refused(
            &desk,
            &mut desk.command(flags),
            &["--reset-state"],
            &format!("{flags:?}"),
        );
    }
    let mut with_a_file = desk.extractor();
    with_a_file
        .arg("--input-file")
        .arg(desk.segments.join(&desk.delivered()[1]));
    is_refused(
        &desk,
        &mut with_a_file,
        &["--reset-state"],
        "files, not a directory",
    );
    // Sizes of windows and chunks do not belong to those flags.
    desk.run(&[
        "--window-bytes",
        "9000",
        "--unit-bytes",
        "1",
        "--threads",
        "1",
        "--debug",
        "--no-sync",
        "--final",
    ])
    .is(0);
    desk.has(&want, "the same flags again");
}

#[test]
fn when_nothing_is_open_other_flags_may_come() {
    let (desk, want) = half_done();
    desk.run(&["--final"]).is(0);
    desk.has(&want, "the flags of before");
    let before = desk.everything_in_out();
    desk.run(&["--linger", "1s", "--stats-filename", "other.csv", "--final"])
        .is(0);
    let after = desk.everything_in_out();
    let others = |name: &String| !name.starts_with(".sip") && name != "other.csv";
    assert!(
        before
            .iter()
            .filter(|(name, _)| others(name))
            .eq(after.iter().filter(|(name, _)| others(name))),
        "nothing was read"
    );
    desk.run(&["--final"]).is(0);
}

#[test]
fn another_runs_files_are_refused() {
    let (packets, ..) = halves();
    let desk = Desk::new();
    let [one, other] = ["one.pcap", "other.pcap"].map(|name| desk.folder().join(name));
    fs::write(&one, packets.whole()).unwrap();
    fs::write(&other, packets.file(0..500, Container::Plain)).unwrap();
    let of = |path: &Path| {
        let mut command = desk.extractor();
        command
            .args([
                "--window-bytes",
                "5000",
                "--unit-bytes",
                "5000",
                "--threads",
                "1",
                "--input-file",
            ])
            .arg(path);
        command
    };
    let writes = calls(Threads::First, &of(&one), "write", desk.folder()).len();
    fs::remove_dir_all(&desk.out).unwrap();
    let half = Call {
        kind: "write".to_owned(),
        nth: writes / 2,
    };
    let killed = inject(Threads::First, &of(&one), &half, "signal=SIGKILL")
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None);
    is_refused(&desk, &mut of(&other), &["--reset-state"], "another file");
    is_refused(
        &desk,
        &mut desk.command(&[]),
        &["--reset-state"],
        "a directory",
    );
    desk.ended(&mut of(&one)).is(0);
    desk.has(&results_of_the_whole(&packets), "the same file");
}

#[test]
fn it_starts_afresh_where_it_is_told_to() {
    for damage in [false, true] {
        let (desk, _) = half_done();
        let finished = visible(&desk.out);
        assert!(finished.len() > 5);
        if damage {
            fs::write(desk.out.join(STATE), b"?").unwrap();
        }
        let second = desk.delivered()[1].clone();
        fs::remove_file(desk.segments.join(&desk.delivered()[0])).unwrap();
        desk.run(&["--reset-state", "--linger", "4s", "--final"])
            .is(0);
        for (name, bytes) in &finished {
            assert!(
                fs::read(desk.out.join(name)).unwrap().starts_with(bytes),
                "{name} is touched after {second}"
            );
            assert!(name.ends_with(".csv") || fs::read(desk.out.join(name)).unwrap() == *bytes);
        }
        let hidden: Vec<_> = desk
            .everything_in_out()
            .into_keys()
            .filter(|name| name.starts_with('.'))
            .collect();
        assert_eq!(hidden, [STATE]);
    }
}

/// Every run is on another day, sometimes on an earlier one.
#[test]
fn the_wall_clock_makes_no_difference() {
    let (packets, _, want) = halves();
    let segments = Names::Agents.cut(&packets, 6, &mut Dice::new(502));
    let desk = Desk::new();
    for (day, segment) in [
        "2031-05-01",
        "1999-12-31",
        "2023-12-01",
        "2038-01-19",
        "1970-01-02",
        "2026-01-01",
    ]
    .iter()
    .zip(&segments)
    {
        desk.deliver_all(std::slice::from_ref(segment));
        let plain = desk.command(&["--no-sync"]);
        let mut command = Command::new("faketime");
        command
            .arg(format!("{day} 00:00:00"))
            .arg(plain.get_program())
            .args(plain.get_args());
        desk.ended(&mut command).is(0);
    }
    desk.run(&["--no-sync", "--final"]).is(0);
    desk.has(&want, "on any day");
}
