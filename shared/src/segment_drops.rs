//! The packets that were dropped while a segment was captured: the hidden file
//! `.<segment>.pcap.drops.json`.
//!
//! Classic pcap has no place for such counters, and every reader of captures must be able to read
//! the segments, so the counters stand beside them. The file is JSON:
//!
//! ```json
//! {"version":1,"from_us":1701441022123456,"until_us":1701441082000000,
//!  "kernel":70,"interface":0,"agent":5,
//!  "drops":[{"from_us":1701441030000000,"until_us":1701441031000000,"packets":75}]}
//! ```
//!
//! | member | meaning |
//! | --- | --- |
//! | `version` | 1 |
//! | `from_us`, `until_us` | the time of the segment: from its first packet to the end that the agent gave it; of the last one of a run, to the last moment at which the agent looked for packets |
//! | `kernel` | packets for which the kernel's buffer had no room |
//! | `interface` | packets that the interface dropped |
//! | `agent` | packets that the agent dropped, because the disk was too slow or refused them |
//! | `drops` | when they were dropped, by `from_us`; the packets of all are `kernel`, `interface` and `agent` together |
//!
//! Times are microseconds since 1970, of the clock that stamps the packets. The kernel counts
//! without times, so a drop is known as well as the agent reads the counters: each second, and when
//! a segment ends. A drop that lasts beyond the end of its segment stands in the segment in whose
//! time it began. One that comes between two segments stands at the beginning of the later one.

use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;

/// The most entries of `drops`. Neighbours become one where there are more.
pub const MAX_DROPS: usize = 512;

/// The longest file of a segment's drops, in bytes. A longer one is damaged.
pub const MAX_DROPS_FILE_BYTES: u64 = 128 * 1024;

/// The packets that were dropped at capture in the time of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentDrops {
    version: u32,
    from_us: u64,
    until_us: u64,
    kernel: u64,
    interface: u64,
    agent: u64,
    drops: Vec<Dropped>,
}

/// Packets that were dropped in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// The time at which the first of them may have been dropped, in microseconds since 1970.
    pub from_us: u64,
    /// The time at which all of them had been dropped, in microseconds since 1970.
    pub until_us: u64,
    /// Their number.
    pub packets: u64,
}

/// Dropped packets by the place where they were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCauses {
    /// The kernel's buffer had no room for them.
    pub kernel: u64,
    /// The interface dropped them.
    pub interface: u64,
    /// The agent had no room for them, or could not write them.
    pub agent: u64,
}

impl DropCauses {
    /// All dropped packets.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.kernel
            .saturating_add(self.interface)
            .saturating_add(self.agent)
    }

    /// Adds others.
    pub fn add(&mut self, more: &Self) {
        self.kernel = self.kernel.saturating_add(more.kernel);
        self.interface = self.interface.saturating_add(more.interface);
        self.agent = self.agent.saturating_add(more.agent);
    }
}

/// The error for a text that does not say what was dropped.
#[derive(Debug, thiserror::Error)]
pub enum SegmentDropsError {
    /// It is not the JSON of this format.
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// It has another version.
    #[error("it has version {0}, and this program reads {VERSION}")]
    Version(u32),
    /// Its times or its sums contradict each other.
    #[error("it contradicts itself")]
    Contradiction,
}

impl SegmentDrops {
    /// What was dropped in the time of a segment, from `from_us` to `until_us` in microseconds since
    /// 1970. A drop from before the segment counts from its beginning on.
    #[must_use]
    pub fn new(
        from_us: u64,
        until_us: u64,
        drops: impl IntoIterator<Item = (Dropped, DropCauses)>,
    ) -> Self {
        let until_us = until_us.max(from_us);
        let mut causes = DropCauses::default();
        let within = |(drop, of_drop): (Dropped, DropCauses)| {
            causes.add(&of_drop);
            let from_us = drop.from_us.clamp(from_us, until_us);
            Dropped {
                from_us,
                until_us: drop.until_us.max(from_us),
                packets: of_drop.packets(),
            }
        };
        let mut drops: Vec<Dropped> = drops.into_iter().map(within).collect();
        drops.retain(|drop| drop.packets > 0);
        drops.sort_by_key(|drop| (drop.from_us, drop.until_us));
        Self {
            version: VERSION,
            from_us,
            until_us,
            kernel: causes.kernel,
            interface: causes.interface,
            agent: causes.agent,
            drops: limited(drops),
        }
    }

    /// Adds packets that were lost in the agent at any time of the segment.
    #[must_use]
    pub fn with_lost(mut self, packets: u64) -> Self {
        if packets > 0 {
            let lost = Dropped {
                from_us: self.from_us,
                until_us: self.until_us,
                packets,
            };
            self.agent = self.agent.saturating_add(packets);
            self.drops.insert(0, lost);
            self.drops = limited(self.drops);
        }
        self
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// The text is damaged, has another version, or contradicts itself.
    pub fn parse(text: &[u8]) -> Result<Self, SegmentDropsError> {
        let drops: Self = serde_json::from_slice(text)?;
        if drops.version != VERSION {
            return Err(SegmentDropsError::Version(drops.version));
        }
        if drops.is_consistent() {
            Ok(drops)
        } else {
            Err(SegmentDropsError::Contradiction)
        }
    }

    /// The content of the file: JSON on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Numbers and lists of them can always be written.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The first time of the segment, in microseconds since 1970.
    #[must_use]
    pub fn from_us(&self) -> u64 {
        self.from_us
    }

    /// The first time after the segment, in microseconds since 1970.
    #[must_use]
    pub fn until_us(&self) -> u64 {
        self.until_us
    }

    /// When packets were dropped, by the beginning.
    #[must_use]
    pub fn drops(&self) -> &[Dropped] {
        &self.drops
    }

    /// The number of dropped packets.
    #[must_use]
    pub fn packets(&self) -> u64 {
        let Self {
            kernel,
            interface,
            agent,
            ..
        } = *self;
        DropCauses {
            kernel,
            interface,
            agent,
        }
        .packets()
    }

    fn is_consistent(&self) -> bool {
        let sum = self
            .drops
            .iter()
            .fold(0u64, |sum, drop| sum.saturating_add(drop.packets));
        let is_in_time = |drop: &Dropped| {
            (self.from_us..=self.until_us).contains(&drop.from_us) && drop.until_us >= drop.from_us
        };
        self.from_us <= self.until_us
            && self.drops.len() <= MAX_DROPS
            && self.drops.is_sorted_by_key(|drop| drop.from_us)
            && self.drops.iter().all(is_in_time)
            && sum == self.packets()
    }
}

/// At most [`MAX_DROPS`] drops.
fn limited(mut drops: Vec<Dropped>) -> Vec<Dropped> {
    while drops.len() > MAX_DROPS {
        drops = drops.chunks(2).map(joined).collect();
    }
    drops
}

/// Neighbours as one drop.
fn joined(drops: &[Dropped]) -> Dropped {
    let fold = |sum: Dropped, drop: &Dropped| Dropped {
        from_us: sum.from_us.min(drop.from_us),
        until_us: sum.until_us.max(drop.until_us),
        packets: sum.packets.saturating_add(drop.packets),
    };
    let none = Dropped {
        from_us: u64::MAX,
        until_us: 0,
        packets: 0,
    };
    drops.iter().fold(none, fold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kernel(from_us: u64, until_us: u64, packets: u64) -> (Dropped, DropCauses) {
        let causes = DropCauses {
            kernel: packets,
            ..DropCauses::default()
        };
        (
            Dropped {
                from_us,
                until_us,
                packets,
            },
            causes,
        )
    }

    #[test]
    fn the_file_is_what_the_documentation_shows() {
        let agent = DropCauses {
            agent: 5,
            ..DropCauses::default()
        };
        let (drop, _) = kernel(140, 145, 5);
        let drops = SegmentDrops::new(100, 200, [kernel(90, 120, 70), (drop, agent)]);
        let text = drops.to_json();
        assert_eq!(
            text,
            "{\"version\":1,\"from_us\":100,\"until_us\":200,\"kernel\":70,\"interface\":0,\"agent\":5,\"drops\":[\
             {\"from_us\":100,\"until_us\":120,\"packets\":70},{\"from_us\":140,\"until_us\":145,\"packets\":5}]}\n"
        );
        assert_eq!(SegmentDrops::parse(text.as_bytes()).unwrap(), drops);
        assert_eq!(drops.packets(), 75);
    }

    #[test]
    fn packets_that_could_not_be_written_count_for_the_whole_segment() {
        let drops = SegmentDrops::new(100, 200, [kernel(140, 150, 7)]);
        assert_eq!(drops.clone().with_lost(0), drops);
        let with_lost = drops.with_lost(3);
        assert_eq!((with_lost.packets(), with_lost.agent), (10, 3));
        let first = with_lost.drops()[0];
        assert_eq!(
            (first.from_us, first.until_us, first.packets),
            (100, 200, 3)
        );
        let text = with_lost.to_json();
        assert_eq!(SegmentDrops::parse(text.as_bytes()).unwrap(), with_lost);
    }

    #[test]
    fn a_segment_without_drops_says_so() {
        let drops = SegmentDrops::new(100, 50, [kernel(100, 120, 0)]);
        assert_eq!((drops.packets(), drops.drops()), (0, &[][..]));
        assert_eq!((drops.from_us(), drops.until_us()), (100, 100));
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = SegmentDrops::new(100, 200, [kernel(110, 120, 7)]).to_json();
        for (from, to, words) in [
            ("\"version\":1", "\"version\":2", "version 2"),
            ("\"kernel\":7", "\"kernel\":8", "contradicts"),
            ("\"kernel\":7", "\"kernel\":-7", "damaged"),
            ("\"until_us\":200", "\"until_us\":99", "contradicts"),
            ("\"from_us\":110", "\"from_us\":99", "contradicts"),
            ("\"until_us\":120", "\"until_us\":109", "contradicts"),
            ("\"agent\":0,", "", "damaged"),
            ("\"agent\":0,", "\"agent\":0,\"disk\":0,", "damaged"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            let error = SegmentDrops::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
        for len in 0..good.len() - 1 {
            SegmentDrops::parse(&good.as_bytes()[..len]).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn any_drops_are_read_as_they_were_written(from_us in 0u64..2000, len in 0u64..2000, drops in proptest::collection::vec((0u64..4000, 0u64..100, 0u64..1000), 0..2000)) {
            let sum: u64 = drops.iter().map(|(.., packets)| packets).sum();
            let drops = SegmentDrops::new(from_us, from_us.saturating_add(len), drops.into_iter().map(|(from, len, packets)| kernel(from, from.saturating_add(len), packets)));
            let text = drops.to_json();
            prop_assert!(text.len() as u64 <= MAX_DROPS_FILE_BYTES && drops.packets() == sum);
            prop_assert_eq!(SegmentDrops::parse(text.as_bytes()).unwrap(), drops);
        }

        #[test]
        fn any_text_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SegmentDrops::parse(&text);
        }
    }
}
