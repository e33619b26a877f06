//! Kills anywhere between upload, state and deletion: no file is deleted before the store has it,
//! nothing is lost, and little is sent twice.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use support::{
    desk::{Files, STATE, within},
    dice::{Dice, tries},
    faults::{CHANGES, Call, Threads, calls, inject},
};

use super::{
    proxy::{Answer, Fault, Operation, Rule},
    site::{CALLS, Results, Site, cut, few, is_of_a_call},
};

/// Flags that give many states.
const SMALL: [&str; 7] = [
    "--window-bytes",
    "9000",
    "--chunk-bytes",
    "3000",
    "--unit-bytes",
    "20000",
    "--no-s3-check",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    File,
    Directory,
    Never,
}

const JOBS: [Job; 3] = [Job::File, Job::Directory, Job::Never];

impl Job {
    fn site(self) -> Site {
        let site = Site::new();
        for (name, bytes) in cut(&few(), 3) {
            site.desk.deliver(&name, &bytes);
        }
        site
    }

    fn command(self, site: &Site) -> Command {
        match self {
            Self::File => site.command(&SMALL),
            Self::Directory => site.directory_command(&[&["--final"], &SMALL[..]].concat()),
            Self::Never => site.directory_command(
                &[&["--final", "--local-cleanup", "never"], &SMALL[..]].concat(),
            ),
        }
    }

    /// After a kill: visible files are still here or in the store, unchanged.
    #[track_caller]
    fn check_killed(self, site: &Site, seen_before: &Files, what: &str) -> Files {
        let want = Results::of_few();
        let (local, stored) = (site.local(), site.stored());
        for (name, bytes) in local.iter().chain(&stored) {
            assert!(
                want.calls.get(name) == Some(bytes),
                "{what}: {name} is not as it should be"
            );
        }
        // A row does not appear before its file, and a file is not deleted before its object
        // exists.
        let table = site
            .desk
            .everything_in_out()
            .remove(CALLS)
            .unwrap_or_default();
        let has_row = |name: &String| {
            table
                .windows(name.len())
                .any(|words| words == name.as_bytes())
        };
        for name in want
            .calls
            .keys()
            .filter(|name| has_row(name) || seen_before.contains_key(*name))
        {
            assert!(
                local.contains_key(name) || stored.contains_key(name),
                "{what}: {name} is lost"
            );
        }
        for (name, rows) in &want.tables {
            let there = site
                .desk
                .everything_in_out()
                .remove(name)
                .unwrap_or_default();
            assert!(
                rows.starts_with(&there),
                "{what}: {name} has rows that it will not have"
            );
        }
        local.into_iter().chain(stored).collect()
    }

    #[track_caller]
    fn check_done(self, site: &Site, kills: usize, what: &str) {
        let want = Results::of_few();
        assert_eq!(
            site.stored().keys().collect::<Vec<_>>(),
            want.calls.keys().collect::<Vec<_>>(),
            "{what}"
        );
        match self {
            Self::Never => site.desk.has(&want.all(), what),
            _ => site.is_done(want, what),
        }
        let requests = site.proxy.requests_for(Operation::Put);
        let mut puts: BTreeMap<&str, usize> = BTreeMap::new();
        for put in requests.iter().filter(|put| is_of_a_call(&put.key)) {
            let name = put.key.rsplit_once('/').unwrap().1;
            assert!(
                put.body.is_empty() || put.body == want.calls[name],
                "{what}: something else was put as {name}"
            );
            *puts.entry(name).or_default() += 1;
        }
        let most = puts.values().max().copied().unwrap_or(0);
        assert!(most <= kills + 1, "{what}: {puts:?}");
    }

    /// A completed run over a file leaves no state, so another run would extract it again.
    fn is_done_but_for_words(self, site: &Site) -> bool {
        self == Self::File
            && !site.desk.out.join(STATE).exists()
            && site.desk.everything_in_out() == Results::of_few().tables
    }
}

#[test]
fn at_each_change() {
    let mut dice = Dice::new(900);
    for job in JOBS {
        let site = job.site();
        let changes = calls(
            Threads::All,
            &job.command(&site),
            CHANGES,
            site.desk.folder(),
        );
        job.check_done(&site, 0, "under strace");
        // Few calls publish files, replace states or delete; most are writes.
        let is_rare =
            |call: &Call| call.kind.starts_with("unlink") || call.kind.starts_with("rename");
        let (rare, others): (Vec<Call>, Vec<Call>) = changes.into_iter().partition(is_rare);
        assert!(rare.len() > 6, "{rare:?}");
        let mut some = |calls: &[Call], count| -> Vec<Call> {
            dice.some_below(tries(count, usize::MAX), calls.len())
                .into_iter()
                .map(|n| calls[n].clone())
                .collect()
        };
        for call in [some(&rare, 9), some(&others, 6)].concat() {
            let what = format!("{job:?}, killed at {} {}", call.kind, call.nth);
            let site = job.site();
            let killed = inject(Threads::All, &job.command(&site), &call, "signal=SIGKILL")
                .output()
                .unwrap();
            let seen = job.check_killed(&site, &Files::new(), &what);
            if killed.status.code().is_none() && !job.is_done_but_for_words(&site) {
                let ran = site.desk.ended(&mut job.command(&site));
                assert_eq!(ran.status, Some(0), "{what}: {}", ran.log);
                job.check_killed(&site, &seen, &what);
            }
            job.check_done(&site, 1, &what);
        }
    }
}

#[test]
fn at_any_moment() {
    let mut dice = Dice::new(901);
    let mut killed = 0;
    for job in JOBS.into_iter().cycle().take(3 * tries(2, 30)) {
        let (site, begun) = (job.site(), Instant::now());
        site.desk.ended(&mut job.command(&site)).is(0);
        let longest = begun.elapsed().as_micros() as usize;
        let (site, mut seen) = (job.site(), Files::new());
        for kills in 0.. {
            let what = format!("{job:?}, killed {kills} times");
            let mut running = site.desk.start_command(job.command(&site));
            if within(Duration::from_micros(dice.below(longest) as u64), || {
                !running.is_running()
            }) {
                running.ends().is(0);
                job.check_done(&site, kills, &what);
                break;
            }
            running.kill();
            killed += 1;
            seen = job.check_killed(&site, &seen, &what);
            if job.is_done_but_for_words(&site) {
                break;
            }
        }
    }
    assert!(killed > 3, "{killed} kills are too few to tell anything");
}

/// The kill comes when the store has the object, but the program does not know it yet.
#[test]
fn before_it_hears_that_the_store_has_it() {
    let (site, want) = (Site::new(), Results::of_few());
    site.proxy
        .rule(Rule::new(Fault::Late(Duration::from_secs(60))).on(Operation::Put));
    let running = site.desk.start_command(site.command(&["--no-s3-check"]));
    assert!(
        within(Duration::from_secs(20), || site.stored().len() == 6),
        "{}",
        running.log()
    );
    running.kill();
    assert_eq!(
        site.local(),
        want.calls,
        "what it has not heard of is not deleted"
    );
    site.proxy.heal();
    site.proxy.forget();
    site.run(&["--no-s3-check"]).is(0);
    site.is_done_and_forgotten(want, "killed before it heard");
    assert!(
        site.puts().is_empty(),
        "what is there is not sent again: {:?}",
        site.puts()
    );
}

/// The kill comes when files are sent and deleted, but the state does not say so yet. The next run
/// is not misled, even without read permission.
#[test]
fn after_it_has_deleted_and_before_it_says_so() {
    for may_ask in [true, false] {
        let (site, want) = (Site::new(), Results::of_few());
        if !may_ask {
            site.proxy
                .rule(Rule::answer(Answer::ACCESS_DENIED).on(Operation::Head));
        }
        let last = &want.names()[5];
        site.proxy
            .rule(Rule::new(Fault::Stalled).on(Operation::Put).of(last));
        let running = site.desk.start_command(site.command(&["--no-s3-check"]));
        assert!(
            within(Duration::from_secs(20), || site.local().len() == 1),
            "{}",
            running.log()
        );
        running.kill();
        assert_eq!(site.stored().len(), 5);
        site.proxy.heal();
        if !may_ask {
            site.proxy
                .rule(Rule::answer(Answer::ACCESS_DENIED).on(Operation::Head));
        }
        site.proxy.forget();
        let ran = site.run(&["--no-s3-check"]).is(0);
        assert!(!ran.log.contains("ERROR"), "{}", ran.log);
        site.is_done_and_forgotten(want, "killed before a state says what is gone");
        assert_eq!(site.puts().len(), 1, "{:?}", site.puts());
    }
}
