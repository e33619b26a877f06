//! The files that wait for an unavailable store are limited.

use std::fs;

use support::desk::Files;

use super::{
    proxy::{Answer, Rule},
    site::{Results, Site},
};

/// Creates a site whose store refuses everybody.
fn shut() -> Site {
    let site = Site::new();
    site.proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    site
}

/// Returns the files that remain when the oldest are deleted until the rest is at most `most`.
fn newest(want: &Results, most: usize) -> Files {
    let mut kept = want.calls.clone();
    for name in want.names() {
        if kept.values().map(Vec::len).sum::<usize>() > most {
            kept.remove(&name);
        }
    }
    kept
}

#[test]
fn the_oldest_go_first_and_are_told() {
    let (site, want) = (shut(), Results::of_few());
    let length = want.calls.values().map(Vec::len).max().unwrap();
    let most = length * 3 + length / 2;
    let kept = newest(want, most);
    assert_eq!(kept.len(), 3);
    let ran = site.run(&["--spool-max-bytes", &most.to_string()]).is(3);
    assert_eq!(site.local(), kept, "{}", ran.log);
    for name in want.calls.keys().filter(|name| !kept.contains_key(*name)) {
        let told = ran
            .log
            .lines()
            .filter(|line| line.contains("ERROR") && line.contains(&format!("{name} is deleted")))
            .count();
        assert_eq!(told, 1, "{name} in {}", ran.log);
    }
    for (name, rows) in &want.tables {
        assert!(
            fs::read(site.desk.out.join(name)).unwrap() == *rows,
            "{name}: the tables have them all"
        );
    }
    site.proxy.heal();
    site.run(&[]).is(0);
    assert_eq!(site.stored(), kept);
    site.desk.has(&want.tables, "what was kept is sent");
}

#[test]
fn it_bounds_only_what_waits() {
    let (site, want) = (Site::new(), Results::of_few());
    site.run(&["--spool-max-bytes", "1"]).is(0);
    site.is_done_and_forgotten(want, "nothing waits");
}

/// Files that are kept after their upload are not deleted for the limit.
#[test]
fn it_deletes_nothing_that_is_to_stay() {
    let (site, want) = (shut(), Results::of_few());
    site.run(&["--spool-max-bytes", "1", "--local-cleanup", "never"])
        .is(3);
    site.keeps_all(want, "never");
}
