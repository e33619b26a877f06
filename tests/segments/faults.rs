//! The program under strace, which kills it or makes a system call fail where a test wants that.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// The system calls that change something. Those with `?` are not there on every processor.
pub const CHANGES: &str = "write,writev,pwrite64,?rename,?renameat,renameat2,?unlink,unlinkat,ftruncate,fallocate,fsync,fdatasync,\
    syncfs,copy_file_range,?sendfile,?link,linkat,?mkdir,mkdirat";

/// The command with something done to it at the `nth` of these system calls; strace counts them in each thread.
pub fn inject(command: &Command, calls: &str, what: &str, nth: &str) -> Command {
    let inject = format!("inject={calls}:{what}:when={nth}");
    under_strace(command, &["-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject])
}

/// The command with something done to each of these system calls that concerns a path.
pub fn inject_on(path: &Path, command: &Command, calls: &str, what: &str) -> Command {
    let inject = format!("inject={calls}:{what}");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(path).args(["-e", &format!("trace={calls}"), "-e", &inject]);
    traced(strace, command)
}

/// How many of these system calls the command makes, in the thread that makes the most.
pub fn count(command: &Command, calls: &str, folder: &Path) -> usize {
    let list = folder.join("calls");
    let trace = ["-o", list.to_str().unwrap(), "-e", &format!("trace={calls}")];
    assert!(under_strace(command, &trace).output().unwrap().status.success());
    let mut by_thread: BTreeMap<String, usize> = BTreeMap::new();
    for line in fs::read_to_string(list).unwrap().lines().filter(|line| !line.contains("resumed>")) {
        *by_thread.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    by_thread.into_values().max().expect("calls that change something")
}

fn under_strace(command: &Command, flags: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "--seccomp-bpf"]).args(flags);
    traced(strace, command)
}

fn traced(mut strace: Command, command: &Command) -> Command {
    strace.arg(command.get_program()).args(command.get_args()).env_remove("RUST_LOG");
    strace
}
