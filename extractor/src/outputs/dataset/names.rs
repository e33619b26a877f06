//! Names of Parquet files.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::NamedInput;

/// The directories of the tables.
pub(super) const TABLES: [&str; 2] = ["calls", "streams"];

/// Nanoseconds of a day.
const DAY_NS: u64 = 86_400_000_000_000;

/// The word for inputs that are no files: a run over directories goes on without an end.
const SEGMENTS: &str = "segments";

/// The name of a run: `<host and output directory>-<inputs>-<its first start>`, such as
/// `0f3a9c51d2e7-4b1c77e09a36-20231201T143022.123Z`.
///
/// The first part tells runs on several machines apart. With the second, a run over the same files
/// finds what it wrote before. The third tells runs over the same files apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::outputs) struct RunName {
    place: String,
    inputs: String,
    start: String,
}

impl RunName {
    /// The name of a run that begins `now`, on a host, with an output directory, over these files,
    /// or over directories.
    pub(in crate::outputs) fn new(
        host: &[u8],
        output: &Path,
        files: Option<&[NamedInput]>,
        now: Timestamp,
    ) -> Self {
        let output = output.as_os_str().as_encoded_bytes();
        let inputs = files.map(|files| {
            let files = files.iter().map(|file| {
                // Each with its length, so that no two lists are the same bytes.
                let path = file.path.to_path().as_os_str().as_encoded_bytes();
                let identity = format!("{:?}", file.identity);
                [
                    &(path.len() as u64).to_le_bytes()[..],
                    path,
                    identity.as_bytes(),
                ]
                .concat()
            });
            digest(&files.collect::<Vec<_>>().concat())
        });
        Self {
            place: digest(&[host, b"\0", output].concat()),
            inputs: inputs.unwrap_or_else(|| SEGMENTS.to_owned()),
            start: now.strftime("%Y%m%dT%H%M%S.%3fZ").to_string(),
        }
    }

    /// Returns true for the name of a file that a run in the same output directory wrote.
    pub(super) fn shares_place(&self, name: &str) -> bool {
        !self.place.is_empty()
            && name
                .strip_prefix(&self.place)
                .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".parquet"))
    }

    /// Returns true for the name of a file of an earlier run over the same files.
    pub(super) fn replaces(&self, name: &str) -> bool {
        let same = format!("{}-{}-", self.place, self.inputs);
        self.inputs != SEGMENTS
            && self.shares_place(name)
            && name
                .strip_prefix(&same)
                .is_some_and(|rest| !rest.starts_with(&format!("{}-", self.start)))
    }
}

/// The first 12 hex digits of SHA-256.
fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes).0;
    let digits = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// The name of the file of a unit of work. A day of a unit has one file, or few; the number of the
/// others follows.
pub(super) fn file_name(run: &RunName, unit: u64, number: u64) -> String {
    let RunName {
        place,
        inputs,
        start,
    } = run;
    let number = if number > 1 {
        format!("_{number}")
    } else {
        String::new()
    };
    format!("{place}-{inputs}-{start}-{unit:06}{number}.parquet")
}

/// The day of a time, counted from 1970, UTC.
pub(super) fn day_of(ns: u64) -> u64 {
    ns / DAY_NS
}

/// The directory of a day of a table: `calls/dt=2023-12-01`.
pub(super) fn folder(table: &str, day: u64) -> String {
    let start = i128::from(day.saturating_mul(DAY_NS));
    let date = Timestamp::from_nanosecond(start).unwrap_or_default();
    format!("{table}/dt={}", date.strftime("%Y-%m-%d"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Name;

    fn run(host: &str, files: &[&str], second: i64) -> RunName {
        let files: Vec<NamedInput> = files
            .iter()
            .map(|path| NamedInput {
                path: Name::of(path),
                identity: crate::segments::Identity { size: 1, digest: 2 },
            })
            .collect();
        let now = Timestamp::from_second(second).unwrap();
        let files = (!files.is_empty()).then_some(&files[..]);
        RunName::new(host.as_bytes(), Path::new("/out"), files, now)
    }

    #[test]
    fn a_name_says_which_run_and_which_unit() {
        let first = run("a", &["x.pcap"], 1_701_441_022);
        let name = file_name(&first, 3, 1);
        assert!(
            name.ends_with("-20231201T143022.000Z-000003.parquet"),
            "{name}"
        );
        assert_eq!(name.len(), 61, "{name}");
        assert!(file_name(&first, 3, 2).ends_with("-000003_2.parquet"));
        let again = run("a", &["x.pcap"], 1_701_441_023);
        assert!(again.shares_place(&name) && again.replaces(&name));
        assert!(first.shares_place(&name) && !first.replaces(&name));
        let others = [
            run("a", &["y.pcap"], 1_701_441_023),
            run("a", &["x.pcap", "x.pcap"], 1_701_441_023),
            run("a", &[], 1_701_441_023),
        ];
        for other in others {
            assert!(other.shares_place(&name) && !other.replaces(&name));
        }
        let elsewhere = run("b", &["x.pcap"], 1_701_441_023);
        assert!(!elsewhere.shares_place(&name) && !elsewhere.replaces(&name));
        let watch = run("a", &[], 1);
        assert!(!run("a", &[], 2).replaces(&file_name(&watch, 0, 1)));
        assert!(!RunName::default().shares_place("-x.parquet"));
    }

    #[test]
    fn days_are_those_of_utc() {
        assert_eq!(folder("calls", day_of(0)), "calls/dt=1970-01-01");
        let last = 1_701_475_199_999_999_999;
        assert_eq!(folder("calls", day_of(last)), "calls/dt=2023-12-01");
        assert_eq!(folder("calls", day_of(last + 1)), "calls/dt=2023-12-02");
        assert_eq!(folder("streams", day_of(u64::MAX)), "streams/dt=2554-07-21");
    }
}
