//! Calls that are uploaded in parts.

use std::{sync::OnceLock, time::Duration};

use support::{desk::within, ladder::Ladder, media::Rtp};

use super::{
    proxy::{Answer, Fault, Operation, Rule},
    site::{Results, Site, all_at_once, calls},
};
const PART: usize = 8 << 20;

/// Four calls, the first of which has media for more than two parts; it is closed before the
/// capture ends.
fn large() -> &'static (Vec<u8>, Results) {
    static LARGE: OnceLock<(Vec<u8>, Results)> = OnceLock::new();
    LARGE.get_or_init(|| {
        let mut t = Ladder::new();
        t.capture = calls(4);
        let [from, to] = ["192.0.2.1:10000", "192.0.2.2:20000"].map(|end| end.parse().unwrap());
        for n in 0..600u64 {
            let payload = [Rtp::new(1, n as u16 + 100).bytes(), vec![n as u8; 30_000]].concat();
            t.udp(70 + n, from, to, &payload);
        }
        t.sort();
        let capture = t.capture.to_pcap();
        let want = Results::of(&capture);
        assert_eq!(
            want.calls
                .values()
                .filter(|bytes| bytes.len() > 2 * PART)
                .count(),
            1
        );
        (capture, want)
    })
}

fn site() -> Site {
    let site = Site::new();
    site.lay(&large().0);
    site
}

#[test]
fn a_large_call_goes_in_parts() {
    let site = site();
    let want = &large().1;
    let length = want.calls.values().map(Vec::len).max().unwrap();
    site.run(&[
        "--s3-storage-class",
        "REDUCED_REDUNDANCY",
        "--s3-sse",
        "AES256",
        "--s3-tags",
        "team=voice",
    ])
    .is(0);
    site.is_done_and_forgotten(want, "in parts");
    let mut sizes: Vec<usize> = site
        .proxy
        .requests_for(Operation::Part)
        .iter()
        .map(|part| part.body.len())
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(sizes, [PART, PART, length - 2 * PART]);
    let created = site.proxy.requests_for(Operation::Create);
    assert_eq!(created.len(), 1);
    for (header, value) in [
        ("content-type", "application/vnd.tcpdump.pcap"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-tagging", "team=voice"),
    ] {
        assert_eq!(created[0].header(header), value, "{header}");
    }
    assert_eq!(created[0].header("x-amz-meta-sha256").len(), 64);
    for part in site.proxy.requests_for(Operation::Part) {
        assert!(
            part.headers.contains_key("x-amz-checksum-crc32"),
            "{:?}",
            part.headers
        );
    }
    assert_eq!(site.puts().len(), 3, "small ones go as one");
}

#[test]
fn it_is_not_sent_again() {
    let site = site();
    site.run(&[]).is(0);
    site.proxy.forget();
    let elsewhere = site.desk.folder().join("elsewhere");
    site.desk
        .ended(&mut site.command_to(&elsewhere, &["--no-s3-check"]))
        .is(0);
    assert!(
        site.proxy
            .requests()
            .iter()
            .all(|request| request.operation == Operation::Head),
        "{:?}",
        site.puts()
    );
    assert!(!std::fs::read_dir(elsewhere).unwrap().any(|entry| {
        entry
            .unwrap()
            .path()
            .extension()
            .is_some_and(|ending| ending == "pcap")
    }));
}

#[test]
fn a_request_that_fails_once_is_repeated() {
    let cases = [
        (
            "beginning",
            Rule::answer(Answer::SLOW_DOWN).on(Operation::Create),
        ),
        (
            "a part",
            Rule::answer(Answer::INTERNAL_ERROR)
                .on(Operation::Part)
                .after(1),
        ),
        (
            "a part that is cut",
            Rule::new(Fault::Cut).on(Operation::Part),
        ),
        (
            "the end",
            Rule::answer(Answer::INTERNAL_ERROR).on(Operation::Complete),
        ),
        (
            "the end, under a good status",
            Rule::answer(Answer::LATE_ERROR).on(Operation::Complete),
        ),
    ];
    all_at_once(cases, |(what, rule)| {
        let site = site();
        site.proxy.rule(rule.times(1));
        site.run(&["--no-s3-check"]).is(0);
        site.is_done_and_forgotten(&large().1, what);
    });
}

#[test]
fn an_unfinished_upload_keeps_the_file_and_leaves_no_parts() {
    all_at_once(
        [Operation::Create, Operation::Part, Operation::Complete],
        |operation| {
            let site = site();
            site.proxy
                .rule(Rule::answer(Answer::ACCESS_DENIED).on(operation));
            let what = format!("{operation:?} denied");
            site.run(&[]).is(3);
            site.has_lost_nothing(&large().1, &what);
            assert_eq!(site.local().len(), 1, "{what}");
            assert_eq!(
                site.store.broken_off(),
                0,
                "{what}: parts are left, and somebody pays for them"
            );
            site.proxy.heal();
            site.run(&[]).is(0);
            site.is_done_and_forgotten(&large().1, &what);
        },
    );
}

/// The completion succeeded, but the program got no response.
#[test]
fn an_end_that_nobody_heard_of_is_no_loss() {
    let site = site();
    site.proxy.rule(
        Rule::new(Fault::CutAfterwards)
            .on(Operation::Complete)
            .times(1),
    );
    let ran = site.run(&[]);
    site.has_lost_nothing(&large().1, "an end unheard");
    if ran.status != Some(0) {
        site.run(&[]).is(0);
    }
    site.is_done_and_forgotten(&large().1, "an end unheard");
}

#[test]
fn a_part_that_stalls_holds_up_no_end() {
    let site = site();
    site.desk.deliver("whole.pcap", &large().0);
    site.proxy
        .rule(Rule::new(Fault::Stalled).on(Operation::Part));
    let watch = site.watch(&[]);
    assert!(
        within(Duration::from_secs(20), || !site
            .proxy
            .requests_for(Operation::Part)
            .is_empty()),
        "{}",
        watch.log()
    );
    watch.end("TERM").is(0);
    site.proxy.heal();
    site.run_directory(&["--final"]).is(0);
    site.is_done(&large().1, "a part that stalled");
}

#[test]
fn killed_between_parts_it_begins_anew() {
    let site = site();
    site.proxy
        .rule(Rule::new(Fault::Stalled).on(Operation::Part).after(1));
    let running = site.desk.start_command(site.command(&[]));
    let is_waiting = || {
        site.proxy
            .requests_for(Operation::Part)
            .iter()
            .any(|part| part.status.is_none())
    };
    assert!(
        within(Duration::from_secs(20), is_waiting),
        "{}",
        running.log()
    );
    running.kill();
    site.proxy.heal();
    site.run(&[]).is(0);
    site.is_done(&large().1, "killed between parts");
}
