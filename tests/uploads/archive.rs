//! `find` over segments in a store: it reads their indexes, and the stretches of them that it copies.

use std::{fs, path::PathBuf};

use support::{
    desk::{Files, Ran, STATE, assert_same, files},
    dice::Dice,
};

use super::{
    proxy::{Answer, Fault, Operation, Rule},
    site::{Site, calls, cut},
    store::REGION,
};
use crate::segments::{
    cuts::{ALL_FILES, results_with_records},
    directory::Names,
    everything::{Form, Packets},
};

const SPOOL: &str = "s3://calls/spool/";

/// A site with segments and their indexes in the store.
struct Stored {
    site: Site,
}

impl Stored {
    fn of(segments: &[(String, Vec<u8>)]) -> Self {
        let site = Site::new();
        site.desk.deliver_all(segments);
        let mut index = site.bare();
        index.arg("index").arg(&site.desk.segments);
        site.desk.ended(&mut index).is(0);
        let stored = Self { site };
        stored.upload();
        stored
    }

    /// Two hundred calls, one after the other, in four segments.
    fn many() -> Self {
        Self::of(&cut(&calls(200), 4))
    }

    fn upload(&self) {
        let path = |name: &str| self.site.store.path(&format!("spool/{name}"));
        fs::create_dir_all(path("")).unwrap();
        for (name, bytes) in files(&self.site.desk.segments) {
            fs::write(path(&name), bytes).unwrap();
        }
    }

    fn out(&self) -> PathBuf {
        self.site.desk.folder().join("found")
    }

    fn find(&self, arguments: &[&str]) -> Ran {
        let url = self.site.proxy.url();
        let mut command = self.site.bare();
        command.arg("find").args(["--input-dir", SPOOL]);
        command.args(["--s3-region", REGION, "--s3-path-style"]);
        command.args(["--s3-endpoint-url", &url]).args(arguments);
        self.site.desk.ended(&mut command)
    }

    /// The results of `find -o` with these arguments, and its log.
    fn found(&self, arguments: &[&str]) -> (Files, String) {
        let _ = fs::remove_dir_all(self.out());
        let out = self.out().display().to_string();
        let ran = self.find(&[arguments, &["--json", "-o", &out]].concat());
        let log = ran.is(0).log;
        (self.results(), log)
    }

    fn results(&self) -> Files {
        let mut got = files(&self.out());
        got.remove(STATE);
        got
    }

    /// The results of `find -o` over the local segments.
    fn want(&self, arguments: &[&str]) -> Files {
        let out = self.site.desk.folder().join("wanted");
        let _ = fs::remove_dir_all(&out);
        let mut command = self.site.bare();
        command.args(["find", "--json", "--input-dir"]);
        command.arg(&self.site.desk.segments).args(arguments);
        command.arg("-o").arg(&out);
        self.site.desk.ended(&mut command).is(0);
        let mut want = files(&out);
        want.remove(STATE);
        want
    }

    /// The bytes that the store gave of objects with this ending.
    fn read_of(&self, ending: &str) -> usize {
        let requests = self.site.proxy.requests_for(Operation::Get);
        let of_ending = requests.iter().filter(|get| get.key.ends_with(ending));
        of_ending.map(|get| get.told).sum()
    }
}

#[test]
fn everything_in_a_store_is_as_the_whole_run_has_it() {
    let mut dice = Dice::new(71);
    for (form, names) in [
        (Form::Micro, Names::Agents),
        (Form::Nano, Names::Anyones),
        (Form::TwoLinks, Names::Agents),
    ] {
        let packets = Packets::everything(form);
        let stored = Stored::of(&names.cut(&packets, 7, &mut dice));
        let (got, log) = stored.found(&ALL_FILES[1..]);
        let what = format!("{form:?}, {names:?}");
        assert_same(&results_with_records(&packets), &got, &what);
        assert!(!log.contains("WARN"), "{what}: {log}");
    }
}

#[test]
fn only_the_stretches_of_a_call_are_read() {
    let stored = Stored::many();
    let sizes = files(&stored.site.desk.segments);
    let of = |ending: &str| -> usize {
        let files = sizes.iter().filter(|(name, _)| name.ends_with(ending));
        files.map(|(_, bytes)| bytes.len()).sum()
    };
    assert!(of(".pcap") > 3_000_000);
    let arguments = ["--call-id", "^call-99$", "--lookback", "10s"];
    let (got, log) = stored.found(&arguments);
    assert_same(&stored.want(&arguments), &got, "one call");
    assert_eq!(got.len(), 4, "{:?}", got.keys());
    assert!(!log.contains("WARN"), "{log}");
    // The ends of a segment in the list and in the run, and the stretches of the call.
    let (read, whole) = (stored.read_of(".pcap"), of(".pcap"));
    assert!(read < whole / 3 && read > 0, "{read} of {whole}");
    let ranges = stored.site.proxy.requests_for(Operation::Get);
    assert!(
        ranges
            .iter()
            .all(|get| get.header("range").starts_with("bytes="))
    );
    // Only the ends of a segment that is opened, but has nothing of the call: twice, for the list
    // and for the run.
    let ends = stored.read_of("003.pcap");
    assert!(ends < 5 * 64 * 1024, "{ends}");
}

#[test]
fn faults_of_the_store_are_lived_through() {
    let stored = Stored::many();
    let arguments = ["--call-id", "^call-9[89]$"];
    let want = stored.want(&arguments);
    for fault in [
        Fault::Answered(Answer::SLOW_DOWN),
        Fault::Answered(Answer::INTERNAL_ERROR),
        Fault::Halved,
        Fault::CutAfterwards,
    ] {
        let rules = |operation| {
            for after in [0, 2, 5] {
                let rule = Rule::new(fault.clone()).on(operation);
                stored.site.proxy.rule(rule.after(after).times(1));
            }
        };
        rules(Operation::Get);
        rules(Operation::List);
        let (got, log) = stored.found(&arguments);
        assert_same(&want, &got, &format!("{fault:?}"));
        assert!(!log.contains("ERROR"), "{log}");
        stored.site.proxy.heal();
    }
}

#[test]
fn what_the_store_refuses_is_said() {
    let stored = Stored::many();
    let refuse = |answer, operation| stored.site.proxy.rule(Rule::answer(answer).on(operation));
    refuse(Answer::ACCESS_DENIED, Operation::List);
    stored.find(&["call-7"]).is(1).says("s3:ListBucket");
    stored.site.proxy.heal();
    refuse(Answer::NO_SUCH_BUCKET, Operation::List);
    stored.find(&["call-7"]).is(1).says("no bucket calls");
    stored.site.proxy.heal();
    // The list is that of signalling, which is in the indexes; the segment is refused.
    let rule = Rule::answer(Answer::ACCESS_DENIED).on(Operation::Get);
    stored.site.proxy.rule(rule.of("002.pcap"));
    let out = stored.out().display().to_string();
    let ran = stored.find(&["--call-id", "^call-1[0-9]*$", "-o", &out]);
    ran.is(3)
        .says("spool/002.pcap is not used")
        .says("s3:GetObject");
}

/// Retention deletes objects while a search goes on.
#[test]
fn a_missing_object_is_named() {
    let stored = Stored::many();
    let gone = |words: &str| {
        let rule = Rule::answer(Answer::NO_SUCH_KEY).on(Operation::Get);
        stored.site.proxy.rule(rule.of(words));
    };
    gone("001.pcap");
    let out = stored.out().display().to_string();
    let ran = stored.find(&["--call-id", "^call-", "-o", &out]).is(3);
    ran.says("spool/001.pcap is not used");
    assert!(stored.results().len() > 100);
    stored.site.proxy.heal();
    let _ = fs::remove_dir_all(stored.out());
    gone("001.pcap.idx");
    let (got, log) = stored.found(&["--call-id", "^call-7"]);
    assert!(
        log.contains("001.pcap is read") && log.contains("does not exist"),
        "{log}"
    );
    assert_same(
        &stored.want(&["--call-id", "^call-7"]),
        &got,
        "without an index",
    );
}

#[test]
fn a_segment_without_an_index_is_read() {
    let stored = Stored::many();
    let arguments = ["--call-id", "^call-7"];
    let want = stored.want(&arguments);
    fs::remove_file(stored.site.store.path("spool/001.pcap.idx")).unwrap();
    let (got, log) = stored.found(&arguments);
    assert_same(&want, &got, "read");
    assert!(log.contains("001.pcap is read"), "{log}");
    assert!(
        stored
            .find(&[&arguments[..], &["--strict"]].concat())
            .status
            == Some(1)
    );
}

#[test]
fn a_store_and_a_directory_are_merged() {
    let stored = Stored::many();
    let other = stored.site.desk.folder().join("other");
    fs::create_dir(&other).unwrap();
    // Half of the segments are local, the other half is in the store.
    for (name, bytes) in files(&stored.site.desk.segments) {
        if name.starts_with("000") || name.starts_with("002") {
            fs::write(other.join(&name), bytes).unwrap();
            fs::remove_file(stored.site.store.path(&format!("spool/{name}"))).unwrap();
        }
    }
    let other = other.display().to_string();
    let (got, log) = stored.found(&["--input-dir", &other]);
    assert_same(&stored.want(&[]), &got, "both places");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn flags_of_a_store_are_checked() {
    let site = Site::new();
    let mut command = site.bare();
    command.args(["find", "--input-dir", "s3://a b/", "x"]);
    site.desk.ended(&mut command).is(2).says("other characters");
    let mut command = site.bare();
    command.args(["find", "--input-dir", SPOOL, "x"]);
    site.desk.ended(&mut command).is(2).says("--s3-region");
}
