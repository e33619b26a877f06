//! Names of call files (docs/statistics.md). No part of a name comes off the wire.

use std::{ffi::OsStr, fmt, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::calls::{Call, FirstLeg};

/// The stem of a call's file name: `call_<first 8 hex digits of SHA-256 of the Call-ID>_<start,
/// UTC>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Stem {
    digest: u32,
    /// Seconds since 1970.
    second: u64,
}

/// The name of a call's file, without extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileName {
    stem: Stem,
    text: Box<str>,
}

impl Stem {
    /// The stem for a call.
    pub(super) fn of(call: &Call) -> Self {
        Self::new(&call.call_id, call.start_ns)
    }

    pub(super) fn new(call_id: &[u8], start_ns: u64) -> Self {
        let [a, b, c, d, ..] = Sha256::digest(call_id).0;
        Self {
            digest: u32::from_be_bytes([a, b, c, d]),
            second: start_ns / 1_000_000_000,
        }
    }

    /// The second in which the call began, since 1970.
    pub(super) fn second(&self) -> u64 {
        self.second
    }
}

impl FileName {
    /// The beginning of every name.
    pub(super) const PREFIX: &str = "call_";

    /// The name of the file with this number among the files of this stem, from 1.
    pub(super) fn new(stem: Stem, number: u64) -> Self {
        let start = utc(stem.second.saturating_mul(1_000_000_000));
        let start = start
            .map(|start| start.strftime("%Y%m%d_%H%M%S").to_string())
            .unwrap_or_default();
        let ending = if number > 1 {
            format!("_{number}")
        } else {
            String::new()
        };
        Self {
            stem,
            text: format!("{}{:08x}_{start}{ending}", Self::PREFIX, stem.digest).into(),
        }
    }

    /// The name of the conversation whose earliest leg this is: the name without its beginning.
    pub(super) fn of_conversation(first: &FirstLeg) -> String {
        let stem = Stem::new(&first.call_id, first.start_ns);
        let name = Self::new(stem, 1);
        name.text
            .strip_prefix(Self::PREFIX)
            .unwrap_or_default()
            .to_owned()
    }

    /// The stem of the name.
    pub(super) fn stem(&self) -> Stem {
        self.stem
    }

    /// The file name of a pcap or a pcapng.
    pub(super) fn with_ending(&self, is_ng: bool) -> String {
        format!("{}.{}", self.text, if is_ng { "pcapng" } else { "pcap" })
    }
}

/// Returns true if a path has the name of a call's file.
#[must_use]
pub fn is_of_a_call(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let stem = name
        .strip_suffix(".pcap")
        .or_else(|| name.strip_suffix(".pcapng"));
    let parts = stem
        .and_then(|stem| stem.strip_prefix(FileName::PREFIX))
        .map(|stem| stem.split('_').collect::<Vec<_>>());
    let is = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    matches!(parts.as_deref(), Some([hash, day, time] | [hash, day, time, _]) if is(hash, 8) && is(day, 8) && is(time, 6))
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `2023-12-01T14:30:22.123456Z`.
pub fn rfc3339(ns: u64) -> String {
    utc(ns).map(|time| format!("{time:.6}")).unwrap_or_default()
}

/// The calendar time for nanoseconds since 1970. 64 bits of them end in 2554, which the calendar
/// reaches.
fn utc(ns: u64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(ns.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_a_hash_and_a_time() {
        // printf 1@192.0.2.1 | sha256sum
        let stem = Stem::new(b"1@192.0.2.1", 1_701_441_022_123_456_789);
        assert_eq!(
            FileName::new(stem, 1).to_string(),
            "call_3a6ddfec_20231201_143022"
        );
        assert_eq!(
            FileName::new(stem, 3).to_string(),
            "call_3a6ddfec_20231201_143022_3"
        );
        assert!(is_of_a_call(Path::new(
            "x/call_3a6ddfec_20231201_143022.pcap"
        )));
        assert!(is_of_a_call(Path::new(
            "call_3a6ddfec_20231201_143022_3.pcapng"
        )));
        assert!(
            !is_of_a_call(Path::new("call_of_bob_today.pcap"))
                && !is_of_a_call(Path::new("a.pcap"))
        );
        assert_eq!(
            rfc3339(1_701_441_022_123_456_789),
            "2023-12-01T14:30:22.123456Z"
        );
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551Z");
    }
}
