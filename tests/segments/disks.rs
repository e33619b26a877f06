//! Full or broken disks: the run fails as a whole and names the cause, and the next run completes
//! as if nothing had happened.
//!
//! The tests that mount disks need root.

use std::{fs, path::Path, process::Command, time::Duration};

use support::{
    desk::{Desk, Ran, STATE, within},
    dice::{Dice, tries},
    faults::{Call, Threads, calls, inject, inject_since},
};

use super::{
    cuts::results_of_the_whole,
    directory::{Names, Segment},
    everything::{Form, Packets},
};

const SMALL: [&str; 6] = [
    "--window-bytes",
    "9000",
    "--chunk-bytes",
    "3000",
    "--unit-bytes",
    "40000",
];

/// The calls that fail on a full or broken disk. Calls that free room do not fail.
const WRITES: &str = "write,writev,pwrite64,copy_file_range,?sendfile,fallocate,?rename,?renameat,renameat2,?link,linkat,?mkdir,mkdirat";
const SYNCS: &str = "fsync,fdatasync,syncfs";
const CUTS: &str = "ftruncate,?unlink,unlinkat";

/// A mounted file system.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at);
        Self(at)
    }

    fn resize(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], self.0);
    }
}

fn mount(arguments: &[&str], at: &Path) {
    let output = Command::new("mount")
        .args(arguments)
        .arg(at)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "mount (this test needs root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// Checks that a run failed with exit status 1 and said where; before anything was committed it
/// leaves no hidden file.
#[track_caller]
fn failed(ran: &Ran, desk: &Desk, what: &str) {
    assert_eq!(ran.status, Some(1), "{what}: {}", ran.log);
    assert!(
        ran.log.contains(&desk.folder().display().to_string()),
        "{what}: no path is named: {}",
        ran.log
    );
    let left = desk.everything_in_out();
    if !left.contains_key(STATE) {
        let hidden: Vec<_> = left.keys().filter(|name| name.starts_with('.')).collect();
        assert!(hidden.is_empty(), "{what}: {hidden:?} belong to no state");
    }
}

fn segments(dice: &mut Dice) -> (Packets, Vec<Segment>) {
    let packets = Packets::everything(Form::Micro);
    let segments = Names::Agents.cut(&packets, 4, dice);
    (packets, segments)
}

/// Makes each of some random calls fail once.
fn fails_at_each(kinds: &str, errors: &[&str], flags: &[&str], number: u64) {
    let failures = Threads::EITHER
        .map(|threads| fails_in(threads, kinds, errors, flags, number))
        .iter()
        .sum::<usize>();
    assert!(failures > 0, "none of {kinds} mattered");
}

/// Does so in these threads, and returns the number of runs that failed.
fn fails_in(threads: Threads, kinds: &str, errors: &[&str], flags: &[&str], number: u64) -> usize {
    let mut dice = Dice::new(number);
    let (packets, segments) = segments(&mut dice);
    let want = results_of_the_whole(&packets);
    let flags = [&SMALL[..], &["--final", "--threads", "1"], flags].concat();
    let desk = Desk::new();
    desk.deliver_all(&segments);
    let calls = calls(threads, &desk.command(&flags), kinds, desk.folder());
    let mut failures = 0;
    for call in dice
        .some_below(tries(6, usize::MAX), calls.len())
        .into_iter()
        .map(|n| &calls[n])
    {
        let error = *dice.one_of(errors);
        let what = format!("{error} at {} {} of {threads:?}", call.kind, call.nth);
        let desk = Desk::new();
        desk.deliver_all(&segments);
        let ran = desk.ended(&mut inject(
            threads,
            &desk.command(&flags),
            call,
            &format!("error={error}"),
        ));
        desk.shows_only(&want, &what);
        // A log line that cannot be written ends no run.
        if ran.status != Some(0) {
            // With several threads, strace may make the write of that log line fail, too.
            let is_told = matches!(threads, Threads::First) || ran.log.contains("ERROR");
            if is_told {
                failed(&ran, &desk, &what);
            }
            failures += 1;
            let ran = desk.run(&flags);
            assert_eq!(ran.status, Some(0), "after {what}: {}", ran.log);
        }
        desk.has(&want, &what);
    }
    failures
}

#[test]
fn a_write_fails() {
    fails_at_each(WRITES, &["ENOSPC", "EIO", "EDQUOT"], &[], 300);
}

#[test]
fn a_sync_fails() {
    fails_at_each(SYNCS, &["EIO", "ENOSPC"], &[], 301);
}

#[test]
fn a_segment_cannot_be_deleted() {
    fails_at_each(
        CUTS,
        &["EIO", "EROFS"],
        &["--after-processing", "delete"],
        302,
    );
}

/// From some call on all calls fail, even those that would clean up.
#[test]
fn nothing_can_be_written_any_more() {
    let mut dice = Dice::new(303);
    let (packets, segments) = segments(&mut dice);
    let want = results_of_the_whole(&packets);
    let kinds = format!("{WRITES},{SYNCS},{CUTS}");
    let flags = [&SMALL[..], &["--final", "--threads", "1"]].concat();
    let desk = Desk::new();
    desk.deliver_all(&segments);
    let most = calls(Threads::All, &desk.command(&flags), &kinds, desk.folder())
        .into_iter()
        .map(|call| call.nth)
        .max()
        .unwrap();
    let mut failures = 0;
    for nth in dice
        .some_below(tries(6, usize::MAX), most)
        .into_iter()
        .map(|n| n + 1)
    {
        let desk = Desk::new();
        desk.deliver_all(&segments);
        let call = Call {
            kind: kinds.clone(),
            nth,
        };
        let ran = desk.ended(&mut inject_since(
            &desk.command(&flags),
            &call,
            "error=ENOSPC",
        ));
        let what = format!("nothing more since call {nth} of each kind");
        desk.shows_only(&want, &what);
        // Perhaps only the last lines of the log are missing.
        if ran.status != Some(0) {
            assert_eq!(ran.status, Some(1), "{what}: {}", ran.log);
            desk.run(&flags).is(0);
            failures += 1;
        }
        desk.has(&want, &what);
    }
    assert!(failures > 0);
}

#[test]
fn a_disk_is_full_until_there_is_room() {
    let mut dice = Dice::new(304);
    let (packets, segments) = segments(&mut dice);
    let want = results_of_the_whole(&packets);
    for size in ["64k", "200k", "350k", "500k"] {
        let desk = Desk::new();
        desk.deliver_all(&segments);
        let disk = Disk::mount(&desk.out, size);
        let ran = desk.run(&[&SMALL[..], &["--final"]].concat());
        failed(&ran, &desk, size);
        ran.says("No space left on device").says(" bytes");
        desk.shows_only(&want, size);
        // Once more, with as little room.
        failed(&desk.run(&[&SMALL[..], &["--final"]].concat()), &desk, size);
        desk.shows_only(&want, size);
        disk.resize("64m");
        desk.run(&[&SMALL[..], &["--final"]].concat()).is(0);
        desk.has(&want, size);
    }
}

#[test]
fn a_single_file_is_not_done_until_there_is_room() {
    let packets = Packets::everything(Form::Micro);
    let want = results_of_the_whole(&packets);
    let desk = Desk::new();
    desk.deliver("whole.pcap", &packets.whole());
    let disk = Disk::mount(&desk.out, "200k");
    let command = || {
        let mut command = desk.extractor();
        command
            .arg("--input-file")
            .arg(desk.segments.join("whole.pcap"));
        command
    };
    let ran = desk.ended(&mut command());
    failed(&ran, &desk, "200k");
    ran.says("No space left on device").says(" bytes");
    disk.resize("64m");
    desk.ended(&mut command()).is(0);
    desk.has(&want, "a single file");
    assert_eq!(
        desk.everything_in_out().len(),
        want.len(),
        "nothing hidden is left"
    );
}

#[test]
fn a_watch_waits_for_room() {
    let mut dice = Dice::new(305);
    let (packets, segments) = segments(&mut dice);
    let want = results_of_the_whole(&packets);
    let desk = Desk::new();
    let disk = Disk::mount(&desk.out, "200k");
    let mut watch =
        desk.start(&[&SMALL[..], &["--watch", "--after-processing", "delete"]].concat());
    desk.deliver_all(&segments);
    watch.says("No space left on device");
    assert!(watch.is_running());
    desk.shows_only(&want, "with a full disk");
    disk.resize("64m");
    let is_done = within(Duration::from_secs(30), || {
        desk.delivered().is_empty() || !watch.is_running()
    });
    assert!(is_done && watch.is_running(), "{}", watch.log());
    watch.end("TERM").is(0);
    desk.run(&["--final"]).is(0);
    desk.has(&want, "after it waited for room");
}

/// The pages behind the cut are gone: without a handler SIGBUS would end the program silently.
#[test]
fn an_input_is_cut_while_it_is_read() {
    let packets = Packets::everything(Form::Micro);
    let want = results_of_the_whole(&packets);
    let desk = Desk::new();
    desk.deliver("1.pcap", &packets.whole());
    let flags = [&SMALL[..], &["--final", "--threads", "1"]].concat();
    // The first unit of work takes long to become durable.
    let call = Call {
        kind: SYNCS.to_owned(),
        nth: 1,
    };
    let running = desk.start_command(inject(
        Threads::All,
        &desk.command(&flags),
        &call,
        "delay_enter=1500000",
    ));
    let has_begun = || {
        desk.everything_in_out()
            .keys()
            .any(|name| name.starts_with(".call_") && name.ends_with(".part"))
    };
    assert!(
        within(Duration::from_secs(20), has_begun),
        "{}",
        running.log()
    );
    fs::OpenOptions::new()
        .write(true)
        .open(desk.segments.join("1.pcap"))
        .unwrap()
        .set_len(4096)
        .unwrap();
    running
        .ends()
        .is(1)
        .says("an input became shorter while it was read");
    desk.shows_only(&want, "after the cut");
    desk.run(&flags).is(3);
    assert!(
        desk.everything_in_out()
            .keys()
            .all(|name| !name.ends_with(".part"))
    );
}
