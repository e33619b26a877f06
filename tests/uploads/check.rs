//! The check of the store before the first upload.

use std::{fs, process::Command};

use super::{
    proxy::{Answer, Fault, Operation, Rule},
    site::{CHECK, PREFIX, Results, Site, cut, few},
};

/// Returns the command that only checks.
fn check(site: &Site) -> Command {
    let mut command = site.bare();
    command.args(site.flags()).arg("--s3-check");
    command
}

#[test]
fn alone_it_tries_and_leaves_nothing() {
    let site = Site::new();
    let ran = site.desk.ended(&mut check(&site)).is(0);
    ran.says(super::site::URI);
    assert!(site.store.objects().is_empty());
    let requests = site.proxy.requests();
    let asked: Vec<_> = requests
        .iter()
        .map(|request| (request.operation, request.key.clone(), request.body.len()))
        .collect();
    let key = format!("{PREFIX}{CHECK}");
    assert_eq!(
        asked,
        [
            (Operation::Put, key.clone(), 0),
            (Operation::Delete, key, 0)
        ]
    );
    assert!(!site.desk.out.exists());
}

#[test]
fn alone_it_says_what_is_wrong() {
    for (what, answer, words) in [
        (
            "access denied",
            Answer::ACCESS_DENIED,
            "do not allow to write",
        ),
        (
            "no such bucket",
            Answer::NO_SUCH_BUCKET,
            "there is no bucket calls",
        ),
        (
            "another region",
            Answer::ELSEWHERE,
            "give --s3-region us-west-2",
        ),
        ("clock skew", Answer::TIME_SKEWED, "set its clock"),
        (
            "an unknown key",
            Answer::INVALID_ACCESS_KEY,
            "does not accept the credentials",
        ),
    ] {
        let site = Site::new();
        site.proxy.rule(Rule::answer(answer));
        let ran = site.desk.ended(&mut check(&site));
        assert_eq!(ran.status, Some(1), "{what}: {}", ran.log);
        ran.says(words);
        assert!(
            !site.desk.out.exists(),
            "{what}: there is nothing to be written"
        );
    }
    let site = Site::new();
    let mut command = check(&site);
    site.desk
        .ended(
            command
                .env_remove("AWS_ACCESS_KEY_ID")
                .env_remove("AWS_SECRET_ACCESS_KEY"),
        )
        .is(1)
        .says("there are no credentials");
    site.desk
        .ended(check(&site).env("AWS_SECRET_ACCESS_KEY", "wrong"))
        .is(1)
        .says("does not accept the credentials");
}

#[test]
fn a_store_that_stalls_or_is_not_there_ends_it_too() {
    let site = Site::new();
    site.proxy.rule(Rule::new(Fault::Stalled));
    site.desk
        .ended(check(&site).args(["--s3-deadline", "2s"]))
        .is(1)
        .says("in time");
    let site = Site::closed();
    site.desk
        .ended(check(&site).args(["--s3-deadline", "2s"]))
        .is(1)
        .says(&site.proxy.url());
}

/// Permission to delete is not needed.
#[test]
fn the_object_of_the_check_may_stay() {
    let site = Site::new();
    site.proxy
        .rule(Rule::answer(Answer::ACCESS_DENIED).on(Operation::Delete));
    site.desk.ended(&mut check(&site)).is(0);
    let objects: Vec<_> = site.store.objects().into_iter().collect();
    assert_eq!(objects, [(format!("{PREFIX}{CHECK}"), Vec::new())]);
}

/// A service's configuration file names inputs, which the check does not read.
#[test]
fn with_a_file_of_flags() {
    let site = Site::new();
    let file = site.desk.folder().join("flags.toml");
    let flags = format!(
        "input-dir = {:?}\nafter-processing = \"delete\"\nwatch = true\n",
        site.desk.segments
    );
    fs::write(&file, flags).unwrap();
    let (name, segment) = &cut(&few(), 1)[0];
    site.desk.deliver(name, segment);
    site.desk
        .ended(check(&site).arg("--config").arg(&file))
        .is(0)
        .says(super::site::URI);
    assert_eq!(site.desk.delivered(), [name.as_str()]);
    assert!(
        site.proxy
            .requests()
            .iter()
            .all(|request| request.key.contains(CHECK))
    );
}

#[test]
fn it_can_be_left_out() {
    let site = Site::new();
    site.run(&["--no-s3-check"]).is(0);
    site.is_done_and_forgotten(Results::of_few(), "without a check");
    assert!(
        site.proxy
            .requests()
            .iter()
            .all(|request| !request.key.contains(CHECK))
    );
}

/// The check may fail while the run succeeds.
#[test]
fn its_failure_costs_nothing() {
    let site = Site::new();
    site.proxy
        .rule(Rule::answer(Answer::ACCESS_DENIED).of(CHECK));
    site.run(&[]).is(0).says("do not allow to write");
    site.is_done_and_forgotten(Results::of_few(), "a check that fails");
}
