//! Faults of stores: a temporary one is overcome within the run, a permanent one costs no call.

use std::time::{Duration, Instant};

use super::{
    proxy::{Answer, Fault, Operation, Rule},
    site::{Results, Site, all_at_once},
};

#[test]
fn a_temporary_fault_is_overcome() {
    let on_put = |fault: Fault| Rule::new(fault).on(Operation::Put).of("call_");
    let answer = |answer| on_put(Fault::Answered(answer));
    let cases = [
        ("500, once", answer(Answer::INTERNAL_ERROR).times(1)),
        ("503 to all at first", answer(Answer::SLOW_DOWN).times(6)),
        (
            "500 to HEAD",
            Rule::answer(Answer::INTERNAL_ERROR)
                .on(Operation::Head)
                .times(1),
        ),
        (
            "a reset in the middle of a body",
            on_put(Fault::Cut).times(2),
        ),
        (
            "a reset before the answer",
            on_put(Fault::CutAfterwards).times(2),
        ),
        ("another byte on the way", on_put(Fault::Garbled).times(2)),
        (
            "a wrong checksum of what is there",
            on_put(Fault::Misheard).times(1),
        ),
        (
            "a wrong checksum of what is not there",
            on_put(Fault::Lost).times(2),
        ),
        (
            "a body that is read slowly",
            on_put(Fault::Slow(20_000)).times(2),
        ),
        (
            "an answer that comes late",
            on_put(Fault::Late(Duration::from_secs(1))),
        ),
    ];
    all_at_once(cases, |(what, rule)| {
        let site = Site::new();
        site.proxy.rule(rule);
        let ran = site.run(&[]);
        assert_eq!(ran.status, Some(0), "{what}: {}", ran.log);
        site.is_done_and_forgotten(Results::of_few(), what);
    });
}

/// Checks that nothing is sent and that the log says why; afterwards a run without faults
/// completes.
#[track_caller]
fn does_not_pass(site: &Site, flags: &[&str], words: &str, what: &str) {
    let want = Results::of_few();
    let ran = site.run(flags);
    assert_eq!(ran.status, Some(3), "{what}: {}", ran.log);
    ran.says(words);
    site.keeps_all(want, what);
    site.proxy.heal();
    site.run(flags).is(0);
    site.is_done_and_forgotten(want, what);
}

/// Repeated failing runs write nothing twice.
#[test]
fn in_vain_as_often_as_one_likes() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    for time in 1..4 {
        site.run(&[]).is(3).says("do not allow");
        site.keeps_all(want, &format!("in vain, {time} times"));
    }
    site.proxy.heal();
    site.run(&[]).is(0);
    site.is_done_and_forgotten(want, "after some runs in vain");
}

#[test]
fn a_permanent_fault_is_logged_and_costs_no_call() {
    let cases = [
        (
            "access denied",
            Answer::ACCESS_DENIED,
            "do not allow to write to the bucket calls (AccessDenied",
        ),
        (
            "no such bucket",
            Answer::NO_SUCH_BUCKET,
            "there is no bucket calls at http://127.0.0.1",
        ),
        (
            "another region, by redirection",
            Answer::ELSEWHERE,
            "give --s3-region us-west-2",
        ),
        (
            "another region, by refusal",
            Answer::WRONG_REGION,
            "give --s3-region us-west-2",
        ),
        ("clock skew", Answer::TIME_SKEWED, "set its clock"),
        (
            "an unknown key",
            Answer::INVALID_ACCESS_KEY,
            "does not accept the credentials (InvalidAccessKeyId",
        ),
        (
            "a wrong signature",
            Answer::BAD_SIGNATURE,
            "does not accept the credentials (SignatureDoesNotMatch",
        ),
        (
            "an expired token",
            Answer::EXPIRED,
            "does not accept the credentials (ExpiredToken",
        ),
        (
            "errors without end",
            Answer::INTERNAL_ERROR,
            "cannot take objects now (InternalError",
        ),
        (
            "too much without end",
            Answer::SLOW_DOWN,
            "cannot take objects now (SlowDown",
        ),
    ];
    all_at_once(cases, |(what, answer, words)| {
        let site = Site::new();
        // Retries take some time.
        site.proxy.rule(if answer.status < 500 {
            Rule::answer(answer)
        } else {
            Rule::answer(answer).on(Operation::Put)
        });
        does_not_pass(&site, &["--no-s3-check"], words, what);
    });
}

#[test]
fn a_store_that_is_not_there() {
    let mut site = Site::closed();
    let want = Results::of_few();
    site.run(&["--no-s3-check"]).is(3).says("cannot be reached");
    site.keeps_all(want, "endpoint down");
    site.proxy.open();
    site.run(&[]).is(0);
    site.is_done_and_forgotten(want, "endpoint up");
}

#[test]
fn a_stall_ends_by_the_deadline() {
    all_at_once(
        [("no answer", Fault::Stalled), ("not read", Fault::Unread)],
        |(what, fault)| {
            let site = Site::new();
            site.proxy.rule(Rule::new(fault));
            let begun = Instant::now();
            does_not_pass(
                &site,
                &["--s3-deadline", "2s"],
                "did not take the object in time",
                what,
            );
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{what}: {:?}",
                begun.elapsed()
            );
        },
    );
}

/// One object is refused: the others are sent.
#[test]
fn one_object_that_is_refused_holds_up_no_other() {
    let (site, want) = (Site::new(), Results::of_few());
    let name = &want.names()[3];
    site.proxy
        .rule(Rule::answer(Answer::INVALID).on(Operation::Put).of(name));
    site.run(&[]).is(3).says(name);
    site.has_lost_nothing(want, "one is refused");
    assert_eq!((site.local().len(), site.stored().len()), (1, 5));
    site.proxy.heal();
    site.run(&[]).is(0);
    site.is_done_and_forgotten(want, "one was refused");
}

/// With `always`, files are deleted even if their upload fails.
#[test]
fn with_always_failed_files_are_deleted() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site.run(&["--local-cleanup", "always"])
        .is(3)
        .says("do not allow to write");
    site.desk.has(&want.tables, "always");
    assert!(site.stored().is_empty());
}

/// With `never`, files stay, and failed ones are sent in the next run.
#[test]
fn with_never_files_are_kept_and_sent_later() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy
        .rule(Rule::answer(Answer::ACCESS_DENIED).on(Operation::Put));
    site.run(&["--local-cleanup", "never"]).is(3);
    site.keeps_all(want, "never");
    site.proxy.heal();
    site.run(&["--local-cleanup", "never"]).is(0);
    site.desk.has(&want.all(), "never, sent");
    assert_eq!(site.stored(), want.calls);
    assert!(!site.has_state());
}

/// A store that refuses everybody is not asked once per call.
#[test]
fn a_store_that_refuses_is_not_asked_for_each_call() {
    let site = Site::new();
    site.lay(&super::site::calls(60).to_pcap());
    site.proxy
        .rule(Rule::answer(Answer::ACCESS_DENIED).on(Operation::Put));
    site.run(&["--no-s3-check", "--s3-concurrency", "4"])
        .is(3)
        .says("60");
    let puts = site.proxy.requests_for(Operation::Put).len();
    assert!(puts <= 8, "{puts} times");
}

/// Credentials that allow PUT only.
#[test]
fn credentials_without_read_permission_put() {
    let (site, want) = (Site::new(), Results::of_few());
    for operation in [Operation::Head, Operation::Delete] {
        site.proxy
            .rule(Rule::answer(Answer::ACCESS_DENIED).on(operation));
    }
    site.run(&["--s3-concurrency", "1"]).is(0);
    site.is_done(want, "without HEAD");
    assert!(
        site.proxy.requests_for(Operation::Head).len() <= 2,
        "what may not be asked is asked again"
    );
}
