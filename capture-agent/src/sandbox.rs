//! The system calls that are allowed once everything is open: those of capturing, of files, of
//! threads. The process cannot start programs.
//!
//! A call that the lists lack fails with EPERM; `strace -f -Z` shows it.

use std::{env, iter};

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// Files: segments, their names, the metrics, and what libraries look up, such as the interfaces in
/// `/sys`.
const FILES: [c_long; 34] = [
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Sockets: interfaces, which may have to be opened again, and the service manager.
const SOCKETS: [c_long; 16] = [
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_eventfd2,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_ioctl,
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
];

/// Memory, threads, signals, time, and the exit.
const PROCESS: [c_long; 41] = [
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // `without_clone3` refuses it with ENOSYS.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_madvise,
    MAP_SHADOW_STACK,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
];

/// Maps a thread's shadow stack, on processors that have one. The number is the same on all
/// architectures.
const MAP_SHADOW_STACK: c_long = 453;

/// Calls of old programs, which some libraries still make. Only x86-64 has them.
#[cfg(target_arch = "x86_64")]
const OLD: [c_long; 15] = [
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_eventfd,
    libc::SYS_getdents,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: [c_long; 0] = [];

/// Forbids all other system calls to this thread and to those that it starts. Logs a warning if
/// that fails.
pub(crate) fn enter() {
    match confine() {
        Ok(()) => {
            tracing::info!("in the sandbox: system calls that capturing does not need are refused");
        }
        Err(error) => tracing::warn!("not in the sandbox, all system calls stay allowed: {error}"),
    }
}

fn confine() -> Result<(), Error> {
    for filter in [without_clone3()?, allowed()?] {
        apply_filter(&filter)?;
    }
    Ok(())
}

/// Returns the filter of allowed calls. All other calls fail with EPERM instead of killing the
/// process: a call that the lists lack costs its caller an error, not everybody the capture.
fn allowed() -> Result<BpfProgram, Error> {
    // Threads are allowed, processes are not.
    let thread = c_flags(libc::CLONE_THREAD);
    let is_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(thread),
        thread,
    )?;
    let lists = FILES.into_iter().chain(SOCKETS).chain(PROCESS).chain(OLD);
    let always = lists.map(|call| (call, Vec::new()));
    let rules = always.chain(iter::once((
        libc::SYS_clone,
        vec![SeccompRule::new(vec![is_thread])?],
    )));
    filter(rules, refusal(libc::EPERM), SeccompAction::Allow)
}

/// Returns the filter that refuses `clone3`, whose flags a filter cannot see. Libraries then call
/// `clone`.
fn without_clone3() -> Result<BpfProgram, Error> {
    filter(
        iter::once((libc::SYS_clone3, Vec::new())),
        SeccompAction::Allow,
        refusal(libc::ENOSYS),
    )
}

fn filter(
    rules: impl Iterator<Item = (c_long, Vec<SeccompRule>)>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(
        rules.collect(),
        others,
        these,
        env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

fn refusal(errno: i32) -> SeccompAction {
    SeccompAction::Errno(errno.unsigned_abs())
}

fn c_flags(flags: i32) -> u64 {
    u64::from(flags.unsigned_abs())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::disallowed_methods,
        reason = "the tests try the remaining system calls"
    )]

    use std::{
        fs::{self, File},
        io::{ErrorKind, Write},
        net::UdpSocket,
        process::Command,
        thread,
    };

    use nix::{
        errno::Errno,
        unistd::{chroot, gethostname},
    };

    use super::*;

    /// Runs `act` in a thread of its own, because a filter belongs to a thread.
    fn confined<T: Send>(act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let confined = scope.spawn(|| {
                confine().unwrap();
                act()
            });
            confined.join().unwrap()
        })
    }

    #[test]
    fn no_program_is_started_and_nothing_is_mounted_or_moved() {
        let start = || Command::new("true").status().map_err(|error| error.kind());
        assert!(start().is_ok(), "outside");
        let (started, moved) = confined(|| (start(), chroot("/")));
        assert_eq!(started.unwrap_err(), ErrorKind::PermissionDenied);
        assert_eq!(moved, Err(Errno::EPERM));
        assert!(start().is_ok(), "others are not concerned");
    }

    #[test]
    fn files_sockets_and_threads_are_left() {
        let directory = tempfile::tempdir().unwrap();
        let [part, path] = ["part", "made/segment"].map(|name| directory.path().join(name));
        confined(|| {
            fs::DirBuilder::new()
                .create(path.parent().unwrap())
                .unwrap();
            let mut file = File::create_new(&part).unwrap();
            file.try_lock().unwrap();
            file.write_all(b"bytes").unwrap();
            file.set_len(3).unwrap();
            file.sync_all().unwrap();
            fs::rename(&part, &path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"byt");
            fs::remove_file(&path).unwrap();
            UdpSocket::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            nix::sys::statvfs::statvfs(directory.path()).unwrap();
            gethostname().unwrap();
            thread::spawn(|| Command::new("true").status().unwrap_err())
                .join()
                .unwrap();
        });
    }
}
