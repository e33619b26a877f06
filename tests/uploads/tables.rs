//! The tables as objects, with the run in their keys.

use support::desk::{Files, assert_same};

use super::{
    proxy::{Answer, Operation, Rule},
    site::{CALLS, PREFIX, Results, STREAMS, Site, cut, few},
};

/// Returns the tables in the store: name, run, contents.
fn tables(site: &Site) -> Vec<(String, String, Vec<u8>)> {
    let tables: Files = site
        .store
        .under(PREFIX)
        .into_iter()
        .filter(|(name, _)| !name.starts_with("call_"))
        .collect();
    let parts = |(name, bytes): (String, Vec<u8>)| {
        let stem = name
            .strip_suffix(".csv")
            .unwrap_or_else(|| panic!("{name}"));
        let (stem, run) = stem.rsplit_once('_').unwrap();
        let is_time = |(at, c): (usize, char)| match at {
            8 => c == 'T',
            15 => c == '.',
            22 => c == 'Z',
            _ => c.is_ascii_digit(),
        };
        assert!(
            run.len() == 23 && run.chars().enumerate().all(is_time),
            "{name}"
        );
        (format!("{stem}.csv"), run.to_owned(), bytes)
    };
    tables.into_iter().map(parts).collect()
}

#[test]
fn each_run_leaves_a_pair() {
    let (site, want) = (Site::new(), Results::of_few());
    let mut snapshots = Vec::new();
    for (number, (name, bytes)) in cut(&few(), 2).iter().enumerate() {
        site.desk.deliver(name, bytes);
        let flags: &[&str] = if number == 1 {
            &["--final", "--s3-upload-csv"]
        } else {
            &["--s3-upload-csv"]
        };
        site.run_directory(flags).is(0);
        snapshots.push(site.desk.everything_in_out());
    }
    let tables = tables(&site);
    let names: Vec<&str> = tables.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, [STREAMS, STREAMS, CALLS, CALLS]);
    let runs: Vec<&str> = tables.iter().map(|(_, run, _)| run.as_str()).collect();
    assert!(
        runs[0] == runs[2] && runs[1] == runs[3] && runs[0] < runs[1],
        "{runs:?}"
    );
    for (number, (name, _, bytes)) in tables.iter().enumerate() {
        assert!(
            snapshots[number % 2][name] == *bytes,
            "{name} of run {}",
            number % 2
        );
    }
    site.desk.has(&want.tables, "tables are kept here");
    assert_same(&want.calls, &site.stored(), "calls");
}

#[test]
fn they_have_the_names_they_have_here() {
    let site = Site::new();
    site.run(&[
        "--s3-upload-csv",
        "--json",
        "--detected-calls-filename",
        "calls.csv",
        "--stats-filename",
        "no_ending",
    ])
    .is(0);
    let names: Vec<String> = site
        .store
        .under(PREFIX)
        .into_keys()
        .filter(|name| !name.starts_with("call_"))
        .collect();
    assert_eq!(names.len(), 3);
    assert!(
        names[0].starts_with("calls_2") && names[0].ends_with("Z.csv"),
        "{names:?}"
    );
    assert!(
        names[1].starts_with("calls_2") && names[1].ends_with("Z.jsonl"),
        "{names:?}"
    );
    assert!(
        names[2].starts_with("no_ending_2") && names[2].ends_with('Z'),
        "{names:?}"
    );
}

#[test]
fn one_that_fails_is_sent_by_the_next_run() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy.rule(
        Rule::answer(Answer::ACCESS_DENIED)
            .on(Operation::Put)
            .of("detected_calls_"),
    );
    let ran = site.run(&["--s3-upload-csv"]).is(3);
    assert!(
        ran.log
            .lines()
            .any(|line| line.contains("ERROR") && line.contains("detected_calls")),
        "{}",
        ran.log
    );
    assert_same(&want.calls, &site.stored(), "calls are sent");
    site.proxy.heal();
    site.run(&["--s3-upload-csv"]).is(0);
    let tables = tables(&site);
    assert!(
        tables
            .iter()
            .any(|(name, _, bytes)| name == CALLS && want.tables[CALLS] == *bytes),
        "it is not there as it is here"
    );
    site.is_done(want, "tables sent later");
}
