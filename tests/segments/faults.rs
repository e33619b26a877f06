//! Any system call fails once, with any error: the run either completes, or it names the failure
//! and ends with 1, and the next run completes as if nothing had happened.
//!
//! `scripts/soak faults` tries every call.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
};

use support::{
    desk::{Desk, Files, Ran},
    dice::{Dice, tries},
    faults::{Call, Threads, calls, inject},
};

use super::{
    cuts::results_of_the_whole,
    directory::{Names, Segment},
    everything::{Form, Packets},
};

const ERRORS: [&str; 5] = ["EIO", "ENOSPC", "EINTR", "ENOMEM", "EMFILE"];

/// Calls that cannot fail, or whose failure nobody checks. (The standard library checks the closing
/// of a directory, and panics; random numbers do not run out; a failing `brk` returns the old end
/// of the heap, never an error.)
const SURE: [&str; 15] = [
    "brk",
    "close",
    "exit",
    "exit_group",
    "execve",
    "getrandom",
    "rt_sigreturn",
    "restart_syscall",
    "sched_yield",
    "futex",
    "gettid",
    "getpid",
    "set_robust_list",
    "rseq",
    "set_tid_address",
];

/// Flags that give several units of work, with states between them.
const FLAGS: [&str; 7] = [
    "--window-bytes",
    "60000",
    "--unit-bytes",
    "150000",
    "--threads",
    "1",
    "--final",
];

struct Sweep {
    segments: Vec<Segment>,
    want: Files,
    flags: Vec<&'static str>,
}

impl Sweep {
    fn of(names: Names, more: &[&'static str], dice: &mut Dice) -> Self {
        let packets = Packets::everything(Form::Micro);
        let segments = names.cut(&packets, 4, dice);
        Self {
            segments,
            want: results_of_the_whole(&packets),
            flags: [&FLAGS[..], more].concat(),
        }
    }

    fn desk(&self) -> Desk {
        let desk = Desk::new();
        desk.deliver_all(&self.segments);
        desk
    }

    /// Returns the calls that can fail, without those before the program begins.
    fn calls(&self, threads: Threads) -> Vec<Call> {
        let desk = self.desk();
        let before: BTreeMap<String, usize> = {
            let mut version = desk.extractor();
            version.arg("--version");
            calls(threads, &version, "all", desk.folder())
                .into_iter()
                .map(|call| (call.kind, call.nth))
                .collect()
        };
        let is_in_question = |call: &Call| {
            !SURE.contains(&call.kind.as_str())
                && before
                    .get(&call.kind)
                    .is_none_or(|before| call.nth > *before)
        };
        let mut calls = calls(threads, &desk.command(&self.flags), "all", desk.folder());
        calls.retain(is_in_question);
        calls
    }

    /// Makes a call fail, and returns how that run ended, or what was wrong.
    fn fails(&self, threads: Threads, call: &Call, error: &str) -> Result<&'static str, String> {
        let desk = self.desk();
        let what = format!("{error} at {} {} of {threads:?}", call.kind, call.nth);
        let output = inject(
            threads,
            &desk.command(&self.flags),
            call,
            &format!("error={error}"),
        )
        .output()
        .unwrap();
        let ran = Ran {
            status: output.status.code(),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let what = format!("{what}\n{}\n", ran.log);
        desk.shows_only(&self.want, &what);
        match ran.status {
            Some(0) => {
                desk.has(&self.want, &what);
                return Ok("the same");
            }
            // With several threads, strace may make the write of that log line fail, too.
            Some(1) if ran.log.contains("ERROR") || call.kind == "write" => {}
            status => return Err(format!("{what}: ended with {status:?}: {}", ran.log)),
        }
        let again = desk.run(&self.flags);
        if again.status != Some(0) {
            return Err(format!(
                "{what}: the next run ended with {:?}: {}",
                again.status, again.log
            ));
        }
        desk.has(&self.want, &what);
        Ok("a sentence")
    }

    fn at_some(&self, samples: usize, dice: &mut Dice) {
        let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut wrong = Vec::new();
        for threads in Threads::EITHER {
            let calls = self.calls(threads);
            assert!(
                calls.len() > 100,
                "{} calls are too few to be all",
                calls.len()
            );
            for n in dice.some_below(samples, calls.len() * ERRORS.len()) {
                let (call, error) = (&calls[n / ERRORS.len()], ERRORS[n % ERRORS.len()]);
                match panic::catch_unwind(AssertUnwindSafe(|| self.fails(threads, call, error))) {
                    Ok(Ok(outcome)) => *outcomes.entry(outcome).or_default() += 1,
                    Ok(Err(what)) => wrong.push(what),
                    Err(_) => wrong.push(format!(
                        "{error} at {} {} of {threads:?}: see above",
                        call.kind, call.nth
                    )),
                }
            }
        }
        println!("{outcomes:?}");
        assert!(
            wrong.is_empty(),
            "{} went wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

#[test]
fn any_call_fails_once() {
    let mut dice = Dice::new(600);
    Sweep::of(Names::Anyones, &[], &mut dice).at_some(tries(25, usize::MAX), &mut dice);
    Sweep::of(Names::Agents, &["--after-processing", "delete"], &mut dice)
        .at_some(tries(10, usize::MAX), &mut dice);
}
