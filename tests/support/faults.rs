//! Runs the program under strace, which kills it or makes a system call fail.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// The system calls that change something. Calls with `?` do not exist on every architecture.
pub const CHANGES: &str = "write,writev,pwrite64,?rename,?renameat,renameat2,?unlink,unlinkat,ftruncate,fallocate,fsync,fdatasync,\
    syncfs,copy_file_range,?sendfile,?link,linkat,?mkdir,mkdirat";

/// The threads that are affected.
#[derive(Clone, Copy, Debug)]
pub enum Threads {
    /// The main thread, which saves the states.
    First,
    /// All threads. strace counts in each of them; worker threads reach a number first.
    All,
}

impl Threads {
    pub const EITHER: [Self; 2] = [Self::First, Self::All];
}

/// A call of the program: the `nth` of this kind. If there are several kinds, the first one that
/// reaches the number counts, because strace counts each kind separately.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub kind: String,
    pub nth: usize,
}

/// Returns the command under strace, which injects `what` at a call.
pub fn inject(threads: Threads, command: &Command, call: &Call, what: &str) -> Command {
    inject_at(threads, command, &call.kind, what, &call.nth.to_string())
}

/// Returns the command under strace, which injects `what` from a call on.
pub fn inject_since(command: &Command, call: &Call, what: &str) -> Command {
    inject_at(
        Threads::All,
        command,
        &call.kind,
        what,
        &format!("{}+", call.nth),
    )
}

fn inject_at(threads: Threads, command: &Command, kinds: &str, what: &str, when: &str) -> Command {
    let inject = format!("inject={kinds}:{what}:when={when}");
    under_strace(
        threads,
        command,
        &[
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={kinds}"),
            "-e",
            &inject,
        ],
    )
}

/// Returns the command under strace, which injects `what` at all of these system calls on a path.
pub fn inject_on(path: &Path, command: &Command, calls: &str, what: &str) -> Command {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{what}"));
    under_strace(
        Threads::All,
        command,
        &[
            "-o",
            "/dev/null",
            "-P",
            path.to_str().unwrap(),
            "-e",
            &trace,
            "-e",
            &inject,
        ],
    )
}

/// Returns all calls of these kinds that the command makes; of several threads, those of the thread
/// that makes the most.
pub fn calls(threads: Threads, command: &Command, kinds: &str, folder: &Path) -> Vec<Call> {
    let text = list(threads, command, kinds, folder);
    let mut made: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.contains('(') && !line.contains("resumed>"))
    {
        let (before, _) = line.split_once('(').unwrap();
        // With several threads, a line begins with the thread's number.
        let (thread, kind) = before.rsplit_once(' ').unwrap_or(("", before));
        *made.entry((kind, thread)).or_default() += 1;
    }
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    for ((kind, _), count) in made {
        let most = most.entry(kind).or_default();
        *most = count.max(*most);
    }
    let each = |(kind, count): (&str, usize)| {
        (1..=count)
            .map(|nth| Call {
                kind: kind.to_owned(),
                nth,
            })
            .collect::<Vec<_>>()
    };
    most.into_iter().flat_map(each).collect()
}

/// Returns strace's lines about these calls.
pub fn list(threads: Threads, command: &Command, kinds: &str, folder: &Path) -> String {
    let list = folder.join("calls");
    let output = under_strace(
        threads,
        command,
        &[
            "-o",
            list.to_str().unwrap(),
            "-e",
            &format!("trace={kinds}"),
        ],
    )
    .output()
    .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::read_to_string(list).unwrap()
}

fn under_strace(threads: Threads, command: &Command, flags: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    match threads {
        Threads::First => strace.arg("-qq"),
        Threads::All => strace.args(["-qq", "-f"]),
    };
    strace
        .args(flags)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}
