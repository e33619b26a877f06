//! Directories of segments, in several runs and watched: calls are sent as they close, and failed
//! uploads are sent later.

use std::{
    fs,
    time::{Duration, Instant},
};

use support::desk::{assert_same, within};

use super::{
    proxy::{Answer, Fault, Operation, Rule},
    site::{Results, Site, URI, cut, few, is_of_a_call},
};

/// Longer than the back-off after the first failure.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn in_several_runs_what_is_closed_is_sent() {
    let (site, want) = (Site::new(), Results::of_few());
    let segments = cut(&few(), 4);
    let mut counts = Vec::new();
    for (number, (name, bytes)) in segments.iter().enumerate() {
        site.desk.deliver(name, bytes);
        let flags: &[&str] = if number == 3 { &["--final"] } else { &[] };
        site.run_directory(flags).is(0);
        assert!(site.local().is_empty(), "{:?} is left", site.local().keys());
        counts.push(site.stored().len());
    }
    assert!(
        counts.is_sorted() && counts[1] > 0 && counts[2] < 6,
        "{counts:?}"
    );
    site.is_done(want, "in four runs");
    assert!(
        site.puts().iter().all(|(_, times)| *times == 1),
        "{:?}",
        site.puts()
    );
}

#[test]
fn in_several_runs_of_which_some_find_no_store() {
    let (site, want) = (Site::new(), Results::of_few());
    for (number, (name, bytes)) in cut(&few(), 6).iter().enumerate() {
        site.desk.deliver(name, bytes);
        if number % 2 == 1 {
            site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
        }
        let flags: &[&str] = if number == 5 { &["--final"] } else { &[] };
        site.run_directory(flags);
        site.proxy.heal();
    }
    site.run_directory(&[]).is(0);
    site.is_done(want, "with failures between");
}

/// A run without uploads leaves the queue unchanged.
#[test]
fn a_run_without_uploads_between_two_with_them() {
    let (site, want) = (Site::new(), Results::of_few());
    let segments = cut(&few(), 3);
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site.desk.deliver(&segments[0].0, &segments[0].1);
    site.desk.deliver(&segments[1].0, &segments[1].1);
    site.run_directory(&[]).is(3);
    let waiting = site.local().len();
    assert!(waiting > 0);
    site.proxy.heal();
    // It logs so.
    site.desk
        .run(&["--s3-uri", URI])
        .is(3)
        .says("wait for upload");
    assert_eq!(site.local().len(), waiting);
    site.desk.deliver(&segments[2].0, &segments[2].1);
    site.run_directory(&["--final"]).is(0);
    site.is_done(want, "with a run that sends nothing between");
}

/// `--reset-state` drops the queue, and the log says what was in it.
#[test]
fn a_queue_that_is_forgotten_is_told_of() {
    let site = Site::new();
    for (name, bytes) in cut(&few(), 2) {
        site.desk.deliver(&name, &bytes);
    }
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site.run_directory(&["--final"]).is(3);
    let waiting = site.local();
    site.proxy.heal();
    fs::remove_dir_all(&site.desk.segments).unwrap();
    fs::create_dir(&site.desk.segments).unwrap();
    site.run_directory(&["--reset-state"])
        .is(0)
        .says("6 files were due for upload");
    assert_eq!(site.local(), waiting, "they stay");
    assert!(site.stored().is_empty());
}

/// A run over another file sends what a run over the first could not send.
#[test]
fn another_run_in_the_same_directory_sends_what_is_due() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site.run(&[]).is(3);
    site.keeps_all(want, "denied");
    site.proxy.heal();
    let other = site.desk.folder().join("other.pcap");
    fs::write(&other, super::site::calls(0).to_pcap()).unwrap();
    let mut command = site.bare();
    command
        .arg("--input-file")
        .arg(other)
        .arg("--output-dir")
        .arg(&site.desk.out)
        .args(site.flags());
    site.desk.ended(&mut command).is(0);
    assert_same(&want.calls, &site.stored(), "by another run");
    assert!(site.local().is_empty());
}

#[test]
fn a_watch_sends_what_closes() {
    let (site, want) = (Site::new(), Results::of_few());
    let watch = site.watch(&["--after-processing", "delete"]);
    let mut counts = Vec::new();
    for (name, bytes) in cut(&few(), 4) {
        site.desk.deliver(&name, &bytes);
        let is_read = || !site.desk.segments.join(&name).exists() && site.local().is_empty();
        assert!(within(Duration::from_secs(20), is_read), "{}", watch.log());
        counts.push(site.stored().len());
    }
    assert!(counts.is_sorted() && counts[1] > 0, "{counts:?}");
    watch.end("TERM").is(0);
    site.run_directory(&["--final"]).is(0);
    site.is_done(want, "watched");
}

/// No new segment triggers the attempt.
#[test]
fn a_watch_sends_when_the_store_is_there_again() {
    let (mut site, want) = (Site::closed(), Results::of_few());
    let mut watch = site.watch(&["--after-processing", "delete"]);
    for (name, bytes) in cut(&few(), 2) {
        site.desk.deliver(&name, &bytes);
    }
    assert!(
        within(Duration::from_secs(20), || site.desk.delivered().is_empty()),
        "{}",
        watch.log()
    );
    watch.says("cannot be reached");
    let waiting = site.local();
    assert!(!waiting.is_empty() && site.stored().is_empty());
    site.proxy.open();
    assert!(within(SOON, || site.local().is_empty()), "{}", watch.log());
    assert_same(&waiting, &site.stored(), "when the store was there");
    watch.end("TERM").is(0);
    site.run_directory(&["--final"]).is(0);
    site.is_done(want, "a store that came late");
}

#[test]
fn a_stalled_store_holds_up_no_end() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy
        .rule(Rule::new(Fault::Stalled).on(Operation::Put).of("call_"));
    let watch = site.watch(&[]);
    for (name, bytes) in cut(&few(), 2) {
        site.desk.deliver(&name, &bytes);
    }
    let is_stalled = || {
        site.proxy
            .requests_for(Operation::Put)
            .iter()
            .any(|put| is_of_a_call(&put.key))
    };
    assert!(
        within(Duration::from_secs(20), is_stalled),
        "{}",
        watch.log()
    );
    let begun = Instant::now();
    watch.end("TERM").is(0);
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    assert!(site.has_state());
    site.proxy.heal();
    site.run_directory(&["--final"]).is(0);
    site.is_done(want, "after a stall");
}
