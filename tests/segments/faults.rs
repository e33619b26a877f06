//! The program under strace, which kills it or makes a system call fail where a test wants that.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// The system calls that change something. Those with `?` are not there on every processor.
pub const CHANGES: &str = "write,writev,pwrite64,?rename,?renameat,renameat2,?unlink,unlinkat,ftruncate,fallocate,fsync,fdatasync,\
    syncfs,copy_file_range,?sendfile,?link,linkat,?mkdir,mkdirat";

/// Which threads it concerns.
#[derive(Clone, Copy, Debug)]
pub enum Threads {
    /// The one that leads: states are saved there.
    First,
    /// strace counts in each of them; those that work come to a number first.
    All,
}

impl Threads {
    pub const EITHER: [Self; 2] = [Self::First, Self::All];
}

/// The command with something done to it at the `nth` of these system calls.
pub fn inject(threads: Threads, command: &Command, calls: &str, what: &str, nth: &str) -> Command {
    let inject = format!("inject={calls}:{what}:when={nth}");
    under_strace(threads, command, &["-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject])
}

/// The command with something done to each of these system calls that concerns a path.
pub fn inject_on(path: &Path, command: &Command, calls: &str, what: &str) -> Command {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{what}"));
    under_strace(Threads::All, command, &["-o", "/dev/null", "-P", path.to_str().unwrap(), "-e", &trace, "-e", &inject])
}

/// How many of these system calls the command makes, in the thread that makes the most.
pub fn count(threads: Threads, command: &Command, calls: &str, folder: &Path) -> usize {
    let list = folder.join("calls");
    let output =
        under_strace(threads, command, &["-o", list.to_str().unwrap(), "-e", &format!("trace={calls}")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(list).unwrap();
    let made = text.lines().filter(|line| !line.contains("resumed>"));
    match threads {
        Threads::First => made.count(),
        Threads::All => {
            let mut by_thread: BTreeMap<&str, usize> = BTreeMap::new();
            made.for_each(|line| *by_thread.entry(line.split(' ').next().unwrap()).or_default() += 1);
            by_thread.into_values().max().unwrap_or(0)
        }
    }
}

fn under_strace(threads: Threads, command: &Command, flags: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    match threads {
        Threads::First => strace.arg("-qq"),
        Threads::All => strace.args(["-qq", "-f"]),
    };
    strace.args(flags).arg(command.get_program()).args(command.get_args()).env_remove("RUST_LOG");
    strace
}
