//! Names of the calls' files: SPEC 6.1. Nothing of a name comes off the wire.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::files::Directory;
use crate::calls::Call;

/// The names that calls have been given and whose files are not there yet.
#[derive(Debug, Default)]
pub(super) struct FileNames {
    given: BTreeSet<String>,
    /// How many names have been given of stems that several calls had: none of them is free.
    several: BTreeMap<String, u64>,
}

impl FileNames {
    /// The name of a call's file, without its ending: one that no other call of this run has, nor, unless
    /// files may be replaced, any file that is there.
    pub(super) fn give(&mut self, directory: &Directory, call: &Call) -> String {
        let stem = stem(&call.call_id, call.start_ns);
        let taken = self.several.get(&stem).copied().unwrap_or(0);
        let names = (taken.saturating_add(1)..).map(|n| (n, if n == 1 { stem.clone() } else { format!("{stem}_{n}") }));
        let mut free = names.filter(|(_, name)| !self.given.contains(name) && !directory.has(name));
        let (number, name) = free.next().unwrap_or_default();
        if number > 1 {
            self.several.insert(stem, number);
        }
        self.given.insert(name.clone());
        name
    }

    /// The file is there: from now on, that it is there keeps its name from being given again. (Where files
    /// may be replaced, only those of earlier runs may: the names of this run are remembered to its end.)
    pub(super) fn release(&mut self, directory: &Directory, name: &str) {
        if directory.has(name) {
            self.given.remove(name);
        }
    }
}

/// `call_<first 8 hex digits of SHA-256 of the Call-ID>_<start, UTC>`.
fn stem(call_id: &[u8], start_ns: u64) -> String {
    let [a, b, c, d, ..] = Sha256::digest(call_id).0;
    let start = utc(start_ns).map(|start| start.strftime("%Y%m%d_%H%M%S").to_string()).unwrap_or_default();
    format!("call_{a:02x}{b:02x}{c:02x}{d:02x}_{start}")
}

/// `2023-12-01T14:30:22.123456Z`.
pub(super) fn rfc3339(ns: u64) -> String {
    utc(ns).map(|time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()).unwrap_or_default()
}

/// A time since 1970 in nanoseconds. 64 bits of them end in 2554, which a calendar reaches.
fn utc(ns: u64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(ns.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_a_hash_and_a_time() {
        // printf 1@192.0.2.1 | sha256sum
        assert_eq!(stem(b"1@192.0.2.1", 1_701_441_022_123_456_789), "call_3a6ddfec_20231201_143022");
        assert_eq!(rfc3339(1_701_441_022_123_456_789), "2023-12-01T14:30:22.123456Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551Z");
    }
}
