//! Names of the files of calls and conversations (docs/statistics.md). No part of a name comes off
//! the wire.

use std::{ffi::OsStr, fmt, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::calls::{Call, NamedLeg};

/// The contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum FileKind {
    /// The frames of a call.
    Call,
    /// The frames of all legs of a conversation.
    Conversation,
}

impl FileKind {
    const ALL: [Self; 2] = [Self::Call, Self::Conversation];

    /// The beginning of its files' names.
    fn prefix(self) -> &'static str {
        match self {
            Self::Call => "call_",
            Self::Conversation => "conversation_",
        }
    }
}

/// The stem of a file name: `call_<first 8 hex digits of SHA-256 of the Call-ID>_<start, UTC>`, or
/// `conversation_` and the same of its first leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Stem {
    kind: FileKind,
    digest: u32,
    /// Seconds since 1970.
    second: u64,
}

/// The name of a file, without extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileName {
    stem: Stem,
    text: Box<str>,
}

impl Stem {
    /// The stem for a call.
    pub(super) fn of(call: &Call) -> Self {
        Self::new(FileKind::Call, &call.call_id, call.start_ns)
    }

    /// The stem for the conversation with this first leg.
    pub(super) fn of_conversation(first: &NamedLeg) -> Self {
        Self::new(FileKind::Conversation, &first.call_id, first.start_ns)
    }

    pub(super) fn new(kind: FileKind, call_id: &[u8], start_ns: u64) -> Self {
        let [a, b, c, d, ..] = Sha256::digest(call_id).0;
        Self {
            kind,
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
    /// Returns true if a name begins like those of calls and conversations.
    pub(super) fn may_be(name: &str) -> bool {
        let mut kinds = FileKind::ALL.into_iter();
        kinds.any(|kind| name.starts_with(kind.prefix()))
    }

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
            text: format!("{}{:08x}_{start}{ending}", stem.kind.prefix(), stem.digest).into(),
        }
    }

    /// The name of the conversation whose earliest leg this is: the name without its beginning.
    pub(super) fn of_conversation(first: &NamedLeg) -> String {
        let name = Self::new(Stem::of_conversation(first), 1);
        name.text
            .strip_prefix(FileKind::Conversation.prefix())
            .unwrap_or_default()
            .to_owned()
    }

    /// The same for the conversation whose earliest leg has this file: a hash and a time less to
    /// compute for each call.
    pub(super) fn of_own_conversation(&self) -> &str {
        let prefix = self.stem.kind.prefix();
        let name = self.text.strip_prefix(prefix).unwrap_or_default();
        let number = name.match_indices('_').nth(2);
        name.get(..number.map_or(name.len(), |(place, _)| place))
            .unwrap_or(name)
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

/// Returns true if a path has the name of a file of a call or a conversation.
#[must_use]
pub fn is_of_a_call(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let stem = name
        .strip_suffix(".pcap")
        .or_else(|| name.strip_suffix(".pcapng"));
    let without_prefix = |stem: &str| {
        let mut kinds = FileKind::ALL.into_iter();
        let rest = kinds.find_map(|kind| stem.strip_prefix(kind.prefix()))?;
        Some(rest.to_owned())
    };
    let without_prefix = stem.and_then(without_prefix);
    let parts = without_prefix
        .as_deref()
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
    use crate::calls::CallNumber;

    #[test]
    fn a_name_is_made_of_a_hash_and_a_time() {
        // printf 1@192.0.2.1 | sha256sum
        let (id, start_ns) = (b"1@192.0.2.1", 1_701_441_022_123_456_789);
        let stem = Stem::new(FileKind::Call, id, start_ns);
        assert_eq!(
            FileName::new(stem, 1).to_string(),
            "call_3a6ddfec_20231201_143022"
        );
        assert_eq!(
            FileName::new(stem, 3).to_string(),
            "call_3a6ddfec_20231201_143022_3"
        );
        let first = NamedLeg {
            number: CallNumber(0),
            call_id: id[..].into(),
            start_ns,
        };
        let id_of_conversation = FileName::of_conversation(&first);
        assert_eq!(id_of_conversation, "3a6ddfec_20231201_143022");
        for number in [1, 12] {
            let name = FileName::new(stem, number);
            assert_eq!(name.of_own_conversation(), id_of_conversation);
        }
        let stem = Stem::of_conversation(&first);
        let name = FileName::new(stem, 2);
        assert_eq!(name.to_string(), "conversation_3a6ddfec_20231201_143022_2");
        assert!(is_of_a_call(Path::new(&name.with_ending(true))));
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
