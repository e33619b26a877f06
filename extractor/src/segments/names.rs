//! Names of captures, and their order of capture.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt,
};

use serde::{Deserialize, Serialize};
use shared::segment::SegmentName;

/// The extensions of captures; a compressed capture has another one after it.
const ENDINGS: [&[u8]; 2] = [b".pcap", b".pcapng"];
const COMPRESSIONS: [&[u8]; 2] = [b".gz", b".zst"];

/// Returns true if this is the name of a capture that is ready to be read: hidden files are
/// incomplete or already removed.
#[must_use]
pub fn is_capture_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && split_ending(name).is_some()
}

/// The name without extension, and the extension: `.pcap`, `.pcapng.zst`.
pub(super) fn split_ending(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let plain = COMPRESSIONS
        .iter()
        .find_map(|ending| name.strip_suffix(*ending))
        .unwrap_or(name);
    let stem = ENDINGS
        .iter()
        .find_map(|ending| plain.strip_suffix(*ending))?;
    name.split_at_checked(stem.len())
}

/// Captures of a directory that follow each other: those of one agent and interface, or those whose
/// names do not come from an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Series(String);

impl Series {
    pub(super) fn of(segment: &SegmentName) -> Self {
        Self(format!("{}_{}", segment.instance(), segment.interface()))
    }

    /// The series of a capture with this name.
    #[must_use]
    pub fn named(name: &OsStr) -> Self {
        SegmentName::of_capture(name)
            .map(|segment| Self::of(&segment))
            .unwrap_or_default()
    }
}

/// The common prefix of its segments' names.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "captures without an agent's name"
        } else {
            &self.0
        })
    }
}

/// The order of captures in a directory: by start, then by number, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The start in nanoseconds since 1970; captures without packets come last.
    pub start_ns: u64,
    sequence: u32,
    name: OsString,
}

/// The order of a capture. The name of a segment has its start, compressed or not; for others, the
/// first packet decides.
pub fn capture_order(name: &OsStr, first_packet_ns: impl FnOnce() -> Option<u64>) -> Order {
    let (start_ns, sequence) = match SegmentName::of_capture(name) {
        Some(segment) => (segment.start_us().saturating_mul(1000), segment.sequence()),
        None => (first_packet_ns().unwrap_or(u64::MAX), 0),
    };
    Order {
        start_ns,
        sequence,
        name: name.to_owned(),
    }
}

/// Returns true if a capture has the name of an agent's segment.
#[must_use]
pub fn is_named(name: &OsStr) -> bool {
    SegmentName::of_capture(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::testing::START_NS;

    #[test]
    fn capture_order_is_by_start_number_and_name() {
        let asked = |name: &str, first| capture_order(name.as_ref(), || first);
        let named = |name: &str| capture_order(name.as_ref(), || panic!("{name} tells it"));
        let in_order = [
            asked("z.pcap", Some(START_NS - 1)),
            asked("late.pcap", Some(START_NS)),
            asked("later.pcap", Some(START_NS)),
            named("z_eth0_20231201T143022.123456Z_000001.pcap.gz"),
            named("a_eth0_20231201T143022.123456Z_000002.pcap"),
            named("a_eth0_20231201T143022.123456Z_000002.pcap.zst"),
            named("a_eth0_20231201T143022.123457Z_000001.pcap"),
            asked(
                "a_eth0_20231201T143022.123456Z_000001.pcapng",
                Some(START_NS + 2000),
            ),
            asked("a.pcap", None),
            asked("b.pcap", None),
        ];
        assert!(in_order.is_sorted(), "{in_order:#?}");
        assert_eq!(
            (in_order[3].start_ns, in_order[9].start_ns),
            (START_NS, u64::MAX)
        );
        let no_text = OsStr::from_bytes(b"\xff.pcap");
        assert_eq!(capture_order(no_text, || Some(5)).start_ns, 5);
    }
}
