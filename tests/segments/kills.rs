//! Kills anywhere: after a kill at any moment the next run completes as if nothing had happened,
//! and files that were visible before stay.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use support::{
    desk::{Desk, Files, STATE, deliver_to, visible, within},
    dice::{Dice, tries},
    faults::{CHANGES, Call, Threads, calls, inject, inject_on, list},
};

use super::{
    cuts::{ALL_FILES, results_with_records},
    directory::{Names, Segment},
    everything::{Container, Form, Packets, in_good_time},
    lake::{self, LakeRows},
};

/// Flags that give much work between two states, and many states.
const SMALL: [&str; 6] = [
    "--window-bytes",
    "9000",
    "--chunk-bytes",
    "3000",
    "--unit-bytes",
    "40000",
];

/// The system call by which the standard library renames.
const RENAMES: &str = "rename";

/// The kind of run that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Segments stay, and get indexes.
    Keep,
    Delete,
    Move,
    /// One file, without a directory of segments.
    File,
    /// The same capture as two capture points have seen it.
    Merge,
}

/// The visible files of a desk.
#[derive(Default)]
struct Seen {
    names: Vec<String>,
    /// The Parquet files, which never change.
    lake: BTreeMap<String, Vec<u8>>,
}

/// A job and its inputs.
struct Kills {
    job: Job,
    segments: Vec<Segment>,
    /// The segments of a second capture point.
    others: Vec<Segment>,
    want: Files,
    /// The rows of its Parquet files.
    rows: LakeRows,
    flags: Vec<String>,
}

impl Kills {
    fn of(job: Job, form: Form, pieces: usize, flags: &[&str], dice: &mut Dice) -> Self {
        let packets = if job == Job::Merge {
            Packets::of(form, &in_good_time())
        } else {
            Packets::everything(form)
        };
        let mut others = Vec::new();
        let segments = match job {
            Job::File => vec![(
                "whole.pcap".to_owned(),
                packets.file(0..packets.len(), Container::Plain),
            )],
            Job::Merge => {
                let (mut here, mut there) = (packets.clone(), packets.clone());
                let is_here: Vec<bool> =
                    packets.packets.iter().map(|_| dice.below(3) > 0).collect();
                let mut side = is_here.iter();
                here.packets.retain(|_| *side.next().unwrap());
                let mut side = is_here.iter();
                there.packets.retain(|_| !side.next().unwrap());
                others = Names::Agents.cut(&there, pieces, dice);
                Names::Agents.cut(&here, pieces, dice)
            }
            _ => dice.one_of(&Names::BOTH).cut(&packets, pieces, dice),
        };
        let flags = SMALL
            .iter()
            .chain(&ALL_FILES)
            .chain(flags)
            .map(|flag| (*flag).to_owned())
            .collect();
        Self {
            job,
            segments,
            others,
            want: results_with_records(&packets),
            rows: lake::rows_of_the_whole(&packets),
            flags,
        }
    }

    /// Creates a desk with all inputs.
    fn desk(&self) -> Desk {
        let desk = Desk::new();
        desk.deliver_all(&self.segments);
        ["done", "others", "indexes"]
            .iter()
            .for_each(|name| fs::create_dir(desk.folder().join(name)).unwrap());
        self.others
            .iter()
            .for_each(|(name, bytes)| deliver_to(&desk.folder().join("others"), name, bytes));
        desk
    }

    /// Returns the command that is started again and again.
    fn command(&self, desk: &Desk) -> Command {
        let mut command = match self.job {
            Job::File => {
                let mut command = desk.extractor();
                command
                    .arg("--input-file")
                    .arg(desk.segments.join("whole.pcap"));
                command
            }
            _ => desk.command(&["--final"]),
        };
        match self.job {
            Job::File => &mut command,
            Job::Keep => command
                .arg("--index-dir")
                .arg(desk.folder().join("indexes")),
            Job::Merge => command
                .arg("--input-dir")
                .arg(desk.folder().join("others"))
                .args(["--after-processing", "delete"]),
            Job::Delete => command.args(["--after-processing", "delete"]),
            Job::Move => command
                .arg("--after-processing")
                .arg(format!("move:{}", desk.folder().join("done").display())),
        };
        command.args(&self.flags).args(lake::flags(desk));
        command
    }

    /// Checks a desk after a kill: visible files are final, and those from before are still there.
    fn check_killed(&self, desk: &Desk, seen_before: &Seen, what: &str) -> Seen {
        desk.shows_only(&self.want, what);
        let lake = lake::shows_only(desk, &self.rows, &seen_before.lake, what);
        let seen: Vec<String> = if desk.out.exists() {
            visible(&desk.out).into_keys().collect()
        } else {
            Vec::new()
        };
        assert!(
            seen_before.names.iter().all(|name| seen.contains(name)),
            "{what}: of {:?} only {seen:?} are left",
            seen_before.names
        );
        Seen { names: seen, lake }
    }

    /// True if the run is complete but was killed during its last words. A complete run over a file
    /// leaves no state, so another run would extract the file again.
    fn is_done_but_for_words(&self, desk: &Desk) -> bool {
        self.job == Job::File && desk.everything_in_out() == self.want
    }

    /// Writes a part of the missing rows of a CSV, as the kernel may do before a crash.
    fn write_half_a_row(&self, desk: &Desk, name: &str) {
        let there = desk.everything_in_out();
        if let (Some(rows), true) = (there.get(name), there.contains_key(STATE)) {
            let missing = &self.want[name][rows.len()..];
            let half = [rows, &missing[..missing.len().min(1000)]].concat();
            fs::write(desk.out.join(name), half).unwrap();
        }
    }

    fn check_done(&self, desk: &Desk, what: &str) {
        desk.has(&self.want, what);
        lake::has(desk, &self.rows, what);
        let left = match self.job {
            Job::Keep | Job::File => self.segments.len(),
            Job::Delete | Job::Move | Job::Merge => 0,
        };
        assert_eq!(desk.delivered().len(), left, "{what}");
        assert!(visible(&desk.folder().join("others")).is_empty(), "{what}");
        let moved = visible(&desk.folder().join("done")).len();
        assert_eq!(
            moved,
            if self.job == Job::Move {
                self.segments.len()
            } else {
                0
            },
            "{what}"
        );
    }

    /// Runs to the end, with a kill before each of some calls that change something.
    fn at_each_change(&self, threads: Threads, samples: usize, dice: &mut Dice) {
        let desk = self.desk();
        let calls = calls(threads, &self.command(&desk), CHANGES, desk.folder());
        self.check_done(&desk, "under strace");
        assert!(calls.len() > 20, "{calls:?} are too few to be all");
        for call in dice
            .some_below(samples, calls.len())
            .into_iter()
            .map(|n| &calls[n])
        {
            let what = format!(
                "{:?}, killed at {} {} of {threads:?}",
                self.job, call.kind, call.nth
            );
            let desk = self.desk();
            let killed = inject(threads, &self.command(&desk), call, "signal=SIGKILL")
                .output()
                .unwrap();
            let seen = self.check_killed(&desk, &Seen::default(), &what);
            if killed.status.code().is_none() && !self.is_done_but_for_words(&desk) {
                let ran = desk.ended(&mut self.command(&desk));
                assert_eq!(ran.status, Some(0), "{what}: {}", ran.log);
                self.check_killed(&desk, &seen, &what);
            }
            self.check_done(&desk, &what);
        }
    }

    /// Kills the run at random moments until one completes. Returns the number of kills.
    fn at_any_moment(&self, dice: &mut Dice) -> usize {
        let desk = self.desk();
        let begun = Instant::now();
        desk.ended(&mut self.command(&desk)).is(0);
        let longest = begun.elapsed().as_micros() as usize;
        let (desk, mut seen) = (self.desk(), Seen::default());
        for kills in 0.. {
            let what = format!("{:?}, killed {kills} times", self.job);
            let mut running = desk.start_command(self.command(&desk));
            let has_ended = within(Duration::from_micros(dice.below(longest) as u64), || {
                !running.is_running()
            });
            if has_ended {
                running.ends().is(0);
                self.check_done(&desk, &what);
                return kills;
            }
            running.kill();
            seen = self.check_killed(&desk, &seen, &what);
            if self.is_done_but_for_words(&desk) {
                return kills;
            }
        }
        unreachable!()
    }

    /// The same with strace: it kills after a growing number of calls that change something, so
    /// that each run makes some progress.
    fn again_and_again(&self, dice: &mut Dice) -> usize {
        let (desk, mut seen) = (self.desk(), Seen::default());
        for kills in 0.. {
            let what = format!("{:?}, killed {kills} times", self.job);
            let call = Call {
                kind: CHANGES.to_owned(),
                nth: 1 + kills / 3 + dice.below(40),
            };
            let output = inject(Threads::All, &self.command(&desk), &call, "signal=SIGKILL")
                .output()
                .unwrap();
            seen = self.check_killed(&desk, &seen, &what);
            if output.status.success() || self.is_done_but_for_words(&desk) {
                self.check_done(&desk, &what);
                return kills;
            }
            assert_eq!(
                output.status.code(),
                None,
                "{what}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(kills < 1000, "{what}: it does not come to an end");
        }
        unreachable!()
    }
}

const JOBS: [Job; 5] = [Job::Keep, Job::Delete, Job::Move, Job::File, Job::Merge];

#[test]
fn at_each_change_with_one_thread() {
    let mut dice = Dice::new(200);
    for job in JOBS {
        let kills = Kills::of(job, Form::Micro, 4, &["--threads", "1"], &mut dice);
        for threads in Threads::EITHER {
            kills.at_each_change(threads, tries(5, usize::MAX), &mut dice);
        }
    }
}

#[test]
fn at_each_change_with_threads_and_two_links() {
    let mut dice = Dice::new(201);
    let kills = Kills::of(Job::Delete, Form::TwoLinks, 4, &[], &mut dice);
    for threads in Threads::EITHER {
        kills.at_each_change(threads, tries(5, usize::MAX), &mut dice);
    }
}

/// A copy in the kernel may be cut anywhere.
#[test]
fn while_rows_are_written() {
    let mut dice = Dice::new(205);
    for job in [Job::Keep, Job::File] {
        let kills = Kills {
            flags: ["--no-sync"]
                .iter()
                .chain(&ALL_FILES)
                .map(|flag| (*flag).to_owned())
                .collect(),
            ..Kills::of(job, Form::Micro, 2, &[], &mut dice)
        };
        for name in ["detected_calls.csv", "calls_statistics.csv", "calls.jsonl"] {
            let mut killed = 0;
            for nth in 1.. {
                let (desk, what) = (
                    kills.desk(),
                    format!("{job:?}, killed at write {nth} to {name}"),
                );
                let writes = "write,pwrite64,copy_file_range,?sendfile,ftruncate";
                let how = format!("signal=SIGKILL:when={nth}");
                let output = inject_on(&desk.out.join(name), &kills.command(&desk), writes, &how)
                    .output()
                    .unwrap();
                let seen = kills.check_killed(&desk, &Seen::default(), &what);
                if output.status.success() {
                    break;
                }
                killed += 1;
                kills.write_half_a_row(&desk, name);
                desk.ended(&mut kills.command(&desk)).is(0);
                kills.check_killed(&desk, &seen, &what);
                kills.check_done(&desk, &what);
            }
            assert!(killed > 1, "{name} was written {killed} times");
        }
    }
}

/// Between the state and the new names of files, and between one name and the next.
#[test]
fn while_files_get_their_names() {
    let mut dice = Dice::new(206);
    for job in [Job::Keep, Job::File] {
        let kills = Kills::of(job, Form::Micro, 2, &["--threads", "1"], &mut dice);
        let desk = kills.desk();
        let renames = list(
            Threads::First,
            &kills.command(&desk),
            RENAMES,
            desk.folder(),
        );
        let lines = renames.lines().enumerate();
        let parquet: Vec<usize> = lines
            .filter(|(_, line)| line.contains(".parquet.part"))
            .map(|(before, _)| before + 1)
            .collect();
        if !cfg!(feature = "parquet") {
            return;
        }
        assert!(parquet.len() > 3, "{renames}");
        for nth in dice
            .some_below(tries(5, parquet.len()), parquet.len())
            .into_iter()
            .map(|n| parquet[n])
        {
            let (desk, what) = (kills.desk(), format!("{job:?}, killed at rename {nth}"));
            let call = Call {
                kind: RENAMES.to_owned(),
                nth,
            };
            let killed = inject(
                Threads::First,
                &kills.command(&desk),
                &call,
                "signal=SIGKILL",
            )
            .output()
            .unwrap();
            assert_eq!(killed.status.code(), None, "{what}");
            let seen = kills.check_killed(&desk, &Seen::default(), &what);
            desk.ended(&mut kills.command(&desk)).is(0);
            kills.check_killed(&desk, &seen, &what);
            kills.check_done(&desk, &what);
        }
    }
}

#[test]
fn at_any_moment() {
    let mut dice = Dice::new(202);
    let mut killed = 0;
    for _ in 0..tries(1, 25) {
        for job in JOBS {
            let flags: &[&str] = if dice.below(2) == 0 {
                &["--no-sync"]
            } else {
                &[]
            };
            let form = if job == Job::Merge {
                Form::Micro
            } else {
                *dice.one_of(&[Form::Micro, Form::Nano, Form::TwoLinks])
            };
            killed += Kills::of(job, form, 5, flags, &mut dice).at_any_moment(&mut dice);
        }
    }
    assert!(killed >= 3, "{killed} kills are too few to tell anything");
}

#[test]
fn again_and_again() {
    let mut dice = Dice::new(203);
    for _ in 0..tries(1, 10) {
        for job in [Job::Delete, Job::File, Job::Merge] {
            let kills = Kills::of(job, Form::Micro, 5, &[], &mut dice);
            assert!(kills.again_and_again(&mut dice) >= 3);
        }
    }
}

/// A watch is killed while segments come.
#[test]
fn while_it_watches() {
    let mut dice = Dice::new(204);
    for _ in 0..tries(2, 30) {
        let kills = Kills::of(
            Job::Delete,
            Form::Micro,
            12,
            &["--watch", "--after-processing", "delete"],
            &mut dice,
        );
        let (desk, mut seen) = (Desk::new(), Seen::default());
        let lake = lake::flags(&desk);
        let flags: Vec<&str> = kills
            .flags
            .iter()
            .chain(&lake)
            .map(String::as_str)
            .collect();
        let mut watch = desk.start(&flags);
        for (name, bytes) in &kills.segments {
            desk.deliver(name, bytes);
            std::thread::sleep(Duration::from_millis(dice.below(60) as u64));
            if dice.below(2) == 0 {
                watch.kill();
                seen = kills.check_killed(&desk, &seen, "killed while it watches");
                watch = desk.start(&flags);
            }
        }
        let is_done = within(Duration::from_secs(20), || desk.delivered().is_empty());
        assert!(is_done, "{:?} is left: {}", desk.delivered(), watch.log());
        watch.end("TERM").is(0);
        let lake: Vec<&str> = lake.iter().map(String::as_str).collect();
        desk.run(&[&["--final"], &ALL_FILES[..], &lake[..]].concat())
            .is(0);
        desk.has(&kills.want, "killed while it watched");
        lake::has(&desk, &kills.rows, "killed while it watched");
    }
}
