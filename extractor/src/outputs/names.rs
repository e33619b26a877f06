//! Names of the calls' files: SPEC 6.1. Nothing of a name comes off the wire.

use std::{collections::VecDeque, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::Directory;
use crate::{calls::Call, events::Table};

/// What a call's file is named after: `call_<first 8 hex digits of SHA-256 of the Call-ID>_<start, UTC>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Stem {
    digest: u32,
    /// Since 1970.
    second: u64,
}

/// The name of a call's file, without its ending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileName {
    stem: Stem,
    text: Box<str>,
}

/// So many names of files that are there are remembered: the directory need not be asked for them.
const MAX_REMEMBERED: usize = 1 << 14;

/// The names that calls have been given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileNames {
    given: Table<Stem, Given>,
    /// Those whose files are there, the oldest first.
    done: VecDeque<Stem>,
    /// The latest second of the names that were forgotten: of later ones, the directory has nothing that is not known.
    forgotten: Option<u64>,
    /// Whether files of earlier runs are there.
    asks_always: bool,
}

/// The names given of one stem.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Given {
    /// The last one. None before it is free.
    number: u64,
    /// How many of them are of files that are not there yet.
    open: u64,
}

impl FileNames {
    /// No names yet, for a directory in which those that are there are taken, unless they may be replaced.
    pub(super) fn new(directory: &Directory, overwrite: bool) -> anyhow::Result<Self> {
        let asks_always = !overwrite && directory.has_calls()?;
        Ok(Self { given: Table::default(), done: VecDeque::new(), forgotten: None, asks_always })
    }

    /// Others may have put files into the directory since.
    pub(super) fn ask_always(&mut self) {
        self.asks_always = true;
    }

    /// The first name of a stem that no other call of this run has, nor, unless files may be replaced, any
    /// file that is there.
    pub(super) fn give(&mut self, stem: Stem, directory: &Directory) -> FileName {
        let asks = self.asks_always || self.forgotten.is_some_and(|forgotten| stem.second <= forgotten);
        let given = self.given.entry(stem).or_default();
        given.open = given.open.saturating_add(1);
        loop {
            given.number = given.number.saturating_add(1);
            let name = FileName::new(stem, given.number);
            if !asks || !directory.has(&name) {
                return name;
            }
        }
    }

    /// The file is there: that keeps its name from being given again.
    pub(super) fn release(&mut self, name: &FileName) {
        if let Some(given) = self.given.get_mut(&name.stem) {
            given.open = given.open.saturating_sub(1);
        }
        self.done.push_back(name.stem);
        if self.done.len() > MAX_REMEMBERED
            && let Some(oldest) = self.done.pop_front()
            && self.given.get(&oldest).is_some_and(|given| given.open == 0)
        {
            self.given.remove(&oldest);
            self.forgotten = self.forgotten.max(Some(oldest.second));
        }
    }
}

impl Stem {
    /// Of a call. Nothing of it comes off the wire.
    pub(super) fn of(call: &Call) -> Self {
        Self::new(&call.call_id, call.start_ns)
    }

    fn new(call_id: &[u8], start_ns: u64) -> Self {
        let [a, b, c, d, ..] = Sha256::digest(call_id).0;
        Self { digest: u32::from_be_bytes([a, b, c, d]), second: start_ns / 1_000_000_000 }
    }
}

impl FileName {
    /// What every name begins with.
    pub(super) const PREFIX: &str = "call_";

    /// Of the file of this stem that comes as number `number`, from 1.
    fn new(stem: Stem, number: u64) -> Self {
        let start = utc(stem.second.saturating_mul(1_000_000_000));
        let start = start.map(|start| start.strftime("%Y%m%d_%H%M%S").to_string()).unwrap_or_default();
        let ending = if number > 1 { format!("_{number}") } else { String::new() };
        Self { stem, text: format!("{}{:08x}_{start}{ending}", Self::PREFIX, stem.digest).into() }
    }

    /// The whole name of a pcap or a pcapng.
    pub(super) fn with_ending(&self, is_ng: bool) -> String {
        format!("{}.{}", self.text, if is_ng { "pcapng" } else { "pcap" })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `2023-12-01T14:30:22.123456Z`.
pub(super) fn rfc3339(ns: u64) -> String {
    utc(ns).map(|time| format!("{time:.6}")).unwrap_or_default()
}

/// A time since 1970 in nanoseconds. 64 bits of them end in 2554, which a calendar reaches.
fn utc(ns: u64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(ns.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outputs::Settings, selection::Selection};

    #[test]
    fn what_is_forgotten_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            directory: folder.path().to_owned(),
            detected_calls_filename: "d".into(),
            stats_filename: "s".into(),
            overwrite: false,
            selection: Selection::default(),
            location: None,
            syncs: false,
        };
        let directory = Directory::open(&settings).unwrap();
        let mut names = FileNames::new(&directory, false).unwrap();
        let stem = |n: u64| Stem::new(b"a", n * 1_000_000_000);
        let open = names.give(stem(1), &directory);
        let done = names.give(stem(2), &directory);
        directory.append_part(&done.with_ending(false), true, b"x").unwrap();
        directory.publish(&done.with_ending(false)).unwrap();
        names.release(&done);
        for n in 0..MAX_REMEMBERED as u64 {
            let name = names.give(stem(n + 10), &directory);
            names.release(&name);
        }
        assert_eq!(names.given.len(), MAX_REMEMBERED + 1);
        assert_eq!(names.give(stem(2), &directory), FileName::new(stem(2), 2), "its file is there");
        assert_ne!(names.give(stem(1), &directory), open, "its file will be");
        assert_eq!(names.give(stem(3), &directory), FileName::new(stem(3), 1));
    }

    #[test]
    fn a_name_is_made_of_a_hash_and_a_time() {
        // printf 1@192.0.2.1 | sha256sum
        let stem = Stem::new(b"1@192.0.2.1", 1_701_441_022_123_456_789);
        assert_eq!(FileName::new(stem, 1).to_string(), "call_3a6ddfec_20231201_143022");
        assert_eq!(FileName::new(stem, 3).to_string(), "call_3a6ddfec_20231201_143022_3");
        assert_eq!(rfc3339(1_701_441_022_123_456_789), "2023-12-01T14:30:22.123456Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551Z");
    }
}
