//! Objects that exist already are not sent again.

use std::fs;

use support::desk::{Files, assert_same};

use super::{
    proxy::{Answer, Operation, Rule},
    site::{PREFIX, Results, Site, few},
};

/// Runs with another directory of results.
#[track_caller]
fn elsewhere(site: &Site, flags: &[&str], status: i32) -> String {
    let out = site.desk.folder().join("elsewhere");
    let ran = site
        .desk
        .ended(&mut site.command_to(&out, flags))
        .is(status);
    let left: Files = support::desk::files(&out);
    assert_same(&Results::of_few().tables, &left, "elsewhere");
    ran.log
}

#[test]
fn an_existing_object_is_not_sent_again() {
    let (site, want) = (Site::new(), Results::of_few());
    site.run(&[]).is(0);
    site.proxy.forget();
    let log = elsewhere(&site, &[], 0);
    assert!(site.puts().is_empty(), "{:?}", site.puts());
    assert!(!log.contains("WARN"), "{log}");
    assert_same(&want.calls, &site.stored(), "twice");
}

#[test]
fn a_different_object_is_replaced_and_logged() {
    let (site, want) = (Site::new(), Results::of_few());
    site.run(&[]).is(0);
    site.proxy.forget();
    let names: Vec<&String> = want.calls.keys().collect();
    let mut same_length = want.calls[names[1]].clone();
    *same_length.last_mut().unwrap() ^= 1;
    for (name, bytes) in [(names[0], b"other".to_vec()), (names[1], same_length)] {
        // The store's metadata go, too, as if another program had put the object.
        fs::write(site.store.path(&format!("{PREFIX}{name}")), bytes).unwrap();
        site.store.forget_of(&format!("{PREFIX}{name}"));
    }
    let log = elsewhere(&site, &[], 0);
    assert_same(&want.calls, &site.stored(), "replaced");
    let put: Vec<String> = site.puts().into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        put,
        [names[0], names[1]].map(|name| format!("{PREFIX}{name}"))
    );
    for name in &names[..2] {
        let told = log
            .lines()
            .find(|line| line.contains("WARN") && line.contains(*name));
        assert!(told.is_some(), "{name} is not told of: {log}");
    }
}

/// No call is lost to one of the same name, such as the same call seen from its middle on.
#[test]
fn an_object_of_an_earlier_file_is_replaced_only_on_request() {
    let (site, want) = (Site::new(), Results::of_few());
    let mut shorter = few();
    shorter.frames.pop();
    site.lay(&shorter.to_pcap());
    site.run(&[]).is(0);
    let stored = site.stored();
    site.lay(&few().to_pcap());
    let out = site.desk.folder().join("elsewhere");
    let run = |flags: &[&str], status| {
        site.desk
            .ended(&mut site.command_to(&out, flags))
            .is(status)
    };
    let (name, bytes) = want
        .calls
        .iter()
        .find(|(name, bytes)| stored[*name] != **bytes)
        .unwrap();
    run(&[], 3).says("--overwrite").says(name);
    assert_same(&stored, &site.stored(), "it is not replaced");
    assert_eq!(
        support::desk::files(&out).get(name),
        Some(bytes),
        "and the other one stays"
    );
    run(&["--overwrite"], 0);
    assert_same(&want.calls, &site.stored(), "it is replaced");
}

/// Another program sends the file while the store refuses this one.
#[test]
fn a_file_that_somebody_else_has_sent_is_done() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site.run(&[]).is(3);
    let (name, bytes) = want.calls.first_key_value().unwrap();
    let path = site.store.path(&format!("{PREFIX}{name}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::remove_file(site.desk.out.join(name)).unwrap();
    site.proxy.heal();
    site.run(&[]).is(0);
    site.is_done_and_forgotten(want, "sent by somebody else");
    assert_eq!(site.puts().len(), 5);
}

#[test]
fn a_file_that_has_gone_is_told_once() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site.run(&[]).is(3);
    let name = want.calls.keys().next().unwrap();
    fs::remove_file(site.desk.out.join(name)).unwrap();
    site.proxy.heal();
    let ran = site.run(&[]);
    assert!(
        ran.log
            .lines()
            .any(|line| line.contains("ERROR") && line.contains(name)),
        "{}",
        ran.log
    );
    assert_eq!(ran.status, Some(3), "{}", ran.log);
    assert_eq!(site.stored().len(), 5);
    site.desk.has(&want.tables, "one has gone");
}

/// Credentials without read permission put the same capture again, with the same result.
#[test]
fn without_read_permission_the_same_is_put_again() {
    let (site, want) = (Site::new(), Results::of_few());
    site.run(&[]).is(0);
    site.proxy.forget();
    site.proxy
        .rule(Rule::answer(Answer::ACCESS_DENIED).on(Operation::Head));
    elsewhere(&site, &[], 0);
    assert_eq!(site.puts().len(), 6);
    assert_same(&want.calls, &site.stored(), "put again");
}

/// The rows already name the destination.
#[test]
fn waiting_files_go_where_their_rows_say() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site.run(&[]).is(3);
    site.proxy.heal();
    site.run_to("s3://calls/elsewhere/").is(0);
    site.is_done_and_forgotten(want, "with another URI");
    assert!(site.store.under("elsewhere/").is_empty());
}
