//! The sandbox does not restrict valid uses: all kinds of input and all places of output work.

use std::{fs, os::unix::fs::symlink, process::Command};

use support::{
    desk::{Desk, STATE, files},
    ladder::extractor,
};

use super::links::segments;

const CONFINED: &str = "in the sandbox: the run writes to the directories of its results";
pub const WITHOUT: &str = "not in the sandbox: the kernel has no Landlock";

/// Returns a shell in the desk's folder; `$E` is the extractor.
fn shell(desk: &Desk, line: &str) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", line])
        .current_dir(desk.folder())
        .env("E", extractor().get_program())
        .env_remove("RUST_LOG");
    command
}

#[test]
fn however_a_capture_comes() {
    let name = &segments()[0].0;
    let mut want = None;
    for line in [
        "cd out && $E --debug --input-file ../segments/NAME",
        "cd out && $E --debug --input-file ../link.pcap",
        "$E --debug --input-file - --output-dir out < segments/NAME",
        "cat segments/NAME | $E --debug --input-file - --output-dir out",
        "$E --debug --input-file /dev/stdin --output-dir out < segments/NAME",
        "$E --debug --input-file <(cat segments/NAME) --output-dir out",
        "gzip -c segments/NAME > c.gz && $E --debug --input-file c.gz --output-dir out/",
        "mkfifo pipe && (cat segments/NAME > pipe &) && $E --debug --input-file pipe --output-dir linked",
        "$E --debug --input-file segments/NAME --output-dir out --detected-calls-filename $PWD/out/detected_calls.csv",
        "$E --debug --input-dir segments --final --output-dir out --after-processing move:done",
        "$E --debug --input-dir segments --final --output-dir out --after-processing delete",
    ] {
        let desk = Desk::new();
        fs::create_dir(&desk.out).unwrap();
        desk.deliver(name, &segments()[0].1);
        symlink(desk.segments.join(name), desk.folder().join("link.pcap")).unwrap();
        symlink("out", desk.folder().join("linked")).unwrap();
        let ran = desk
            .ended(&mut shell(&desk, &line.replace("NAME", name)))
            .is(0);
        if ran.log.contains(WITHOUT) {
            println!("no rights were given up: this kernel has no Landlock");
        } else {
            ran.says(CONFINED);
        }
        let mut got = files(&desk.out);
        got.remove(STATE);
        let want = want.get_or_insert_with(|| got.clone());
        assert!(
            got.len() == 3 && got == *want,
            "{line}: {:?}\n{}",
            got.keys(),
            ran.log
        );
    }
}

#[test]
fn a_run_without_it_keeps_its_rights() {
    let desk = Desk::new();
    desk.deliver_all(&segments());
    let ran = desk.run(&["--final", "--debug", "--no-sandbox"]).is(0);
    assert!(!ran.log.contains("sandbox"), "{}", ran.log);
}
