//! Decides which closed segments are deleted to make room. A pure function.
//!
//! The oldest segments go first, and those that the extractor has not processed go last.

use std::{cmp::Reverse, fmt, time::Duration};

use shared::segment::SegmentName;

/// The limits of retention; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetentionLimits {
    /// The bytes of all segments in the output directory.
    pub(crate) max_disk_bytes: Option<u64>,
    /// The time since a segment was closed.
    pub(crate) max_age: Option<Duration>,
    /// The free bytes of the file system, as this program sees them.
    pub(crate) min_free_bytes: Option<u64>,
}

impl RetentionLimits {
    pub(crate) fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A closed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) name: SegmentName,
    pub(crate) bytes: u64,
    /// The time since it was closed.
    pub(crate) age: Duration,
    pub(crate) is_processed: bool,
}

/// The contents of the output directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stock {
    pub(crate) closed: Vec<Closed>,
    /// The bytes of part files, which are never deleted.
    pub(crate) part_bytes: u64,
    /// `None` if the file system does not say.
    pub(crate) free_bytes: Option<u64>,
}

/// The limit for which a segment is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Age,
    DiskBytes,
    FreeBytes,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Age => "--max-age",
            Self::DiskBytes => "--max-disk-bytes",
            Self::FreeBytes => "--min-free-bytes",
        })
    }
}

/// Returns the segments to delete, in order, with the reason for each.
pub(crate) fn surplus(stock: Stock, limits: &RetentionLimits) -> Vec<(Closed, Cause)> {
    let Stock {
        mut closed,
        part_bytes,
        free_bytes,
    } = stock;
    let mut used = closed
        .iter()
        .fold(part_bytes, |sum, segment| sum.saturating_add(segment.bytes));
    let mut free = free_bytes;
    closed.sort_by(|a, b| {
        (Reverse(a.is_processed), &a.name).cmp(&(Reverse(b.is_processed), &b.name))
    });
    let mut surplus = Vec::new();
    for segment in closed {
        let cause = if limits.max_age.is_some_and(|limit| segment.age > limit) {
            Cause::Age
        } else if limits.max_disk_bytes.is_some_and(|limit| used > limit) {
            Cause::DiskBytes
        } else if limits
            .min_free_bytes
            .zip(free)
            .is_some_and(|(limit, free)| free < limit)
        {
            Cause::FreeBytes
        } else {
            continue;
        };
        used = used.saturating_sub(segment.bytes);
        free = free.map(|free| free.saturating_add(segment.bytes));
        surplus.push((segment, cause));
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(minute: u64, bytes: u64, is_processed: bool) -> Closed {
        let name = SegmentName::new("edge1", "eth0", minute * 60_000_000, 1);
        Closed {
            name,
            bytes,
            age: Duration::from_secs(6000 - minute * 60),
            is_processed,
        }
    }

    fn minutes(surplus: &[(Closed, Cause)]) -> Vec<(u64, Cause)> {
        surplus
            .iter()
            .map(|(segment, cause)| (segment.name.start_us() / 60_000_000, *cause))
            .collect()
    }

    fn stock(processed: [bool; 4]) -> Stock {
        let closed = (1..)
            .zip(processed)
            .map(|(minute, is_processed)| segment(minute, 100, is_processed))
            .collect();
        Stock {
            closed,
            part_bytes: 50,
            free_bytes: Some(1000),
        }
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(surplus(stock([true; 4]), &RetentionLimits::default()), []);
    }

    #[test]
    fn the_oldest_go_first_and_no_more_than_must() {
        let limits = RetentionLimits {
            max_disk_bytes: Some(300),
            ..RetentionLimits::default()
        };
        assert_eq!(
            minutes(&surplus(stock([true; 4]), &limits)),
            [(1, Cause::DiskBytes), (2, Cause::DiskBytes)]
        );
        let limits = RetentionLimits {
            max_disk_bytes: Some(450),
            ..RetentionLimits::default()
        };
        assert_eq!(surplus(stock([true; 4]), &limits), []);
    }

    #[test]
    fn unprocessed_segments_go_last() {
        let limits = RetentionLimits {
            max_disk_bytes: Some(200),
            ..RetentionLimits::default()
        };
        let gone = minutes(&surplus(stock([false, true, false, true]), &limits));
        assert_eq!(
            gone.iter().map(|(minute, _)| *minute).collect::<Vec<_>>(),
            [2, 4, 1]
        );
    }

    #[test]
    fn segments_that_are_too_old_go_and_others_stay() {
        let limits = RetentionLimits {
            max_age: Some(Duration::from_secs(6000 - 121)),
            ..RetentionLimits::default()
        };
        assert_eq!(
            minutes(&surplus(stock([false, true, true, true]), &limits)),
            [(2, Cause::Age), (1, Cause::Age)]
        );
    }

    #[test]
    fn deletions_free_room_on_the_disk() {
        let limits = RetentionLimits {
            min_free_bytes: Some(1150),
            ..RetentionLimits::default()
        };
        assert_eq!(
            minutes(&surplus(stock([true; 4]), &limits)),
            [(1, Cause::FreeBytes), (2, Cause::FreeBytes)]
        );
        let unknown = Stock {
            free_bytes: None,
            ..stock([true; 4])
        };
        assert_eq!(surplus(unknown, &limits), []);
    }

    #[test]
    fn a_part_file_that_is_too_large_takes_all_the_others_and_no_more() {
        let limits = RetentionLimits {
            max_disk_bytes: Some(10),
            ..RetentionLimits::default()
        };
        assert_eq!(surplus(stock([true; 4]), &limits).len(), 4);
    }

    proptest! {
        #[test]
        fn limits_hold_afterwards_and_nothing_goes_needlessly(
            segments in proptest::collection::vec((0u64..90, 0u64..1000, any::<bool>()), 0..20),
            max_disk_bytes in proptest::option::of(0u64..10_000),
            max_age in proptest::option::of((0u64..6000).prop_map(Duration::from_secs)),
            min_free_bytes in proptest::option::of(0u64..10_000),
            free in 0u64..10_000,
        ) {
            let closed: Vec<_> = segments.into_iter().map(|(minute, bytes, is_processed)| segment(minute, bytes, is_processed)).collect();
            let limits = RetentionLimits { max_disk_bytes, max_age, min_free_bytes };
            let gone = surplus(Stock { closed: closed.clone(), part_bytes: 0, free_bytes: Some(free) }, &limits);
            let bytes = |segments: &[Closed]| segments.iter().map(|segment| segment.bytes).sum::<u64>();
            let mut left = closed.clone();
            for (segment, cause) in &gone {
                let (used, freed) = (bytes(&left), bytes(&closed) - bytes(&left));
                // A segment is deleted only for a limit that was exceeded.
                match cause {
                    Cause::Age => prop_assert!(Some(segment.age) > limits.max_age),
                    Cause::DiskBytes => prop_assert!(Some(used) > limits.max_disk_bytes),
                    Cause::FreeBytes => prop_assert!(Some(free + freed) < limits.min_free_bytes),
                }
                // For room, no unprocessed segment goes before a processed one, and no segment
                // before an older one.
                if *cause != Cause::Age {
                    prop_assert!(segment.is_processed || !left.iter().any(|other| other.is_processed));
                    prop_assert!(left.iter().filter(|other| other.is_processed == segment.is_processed).all(|other| other.name >= segment.name));
                }
                let at = left.iter().position(|other| other == segment).unwrap();
                left.remove(at);
            }
            // The remaining segments are within the limits.
            prop_assert!(left.is_empty() || limits.max_disk_bytes.is_none_or(|limit| bytes(&left) <= limit));
            prop_assert!(left.is_empty() || limits.min_free_bytes.is_none_or(|limit| free + bytes(&closed) - bytes(&left) >= limit));
            prop_assert!(left.iter().all(|segment| limits.max_age.is_none_or(|limit| segment.age <= limit)));
        }
    }
}
