//! Decides when a segment ends: by time, by size, on request, or because the clock was set back.
//!
//! Time is packet time. Segments end at multiples of the interval since 1970, so the ends do not
//! drift and are the same for all capture points. While no packet comes, the wall clock, which also
//! stamps packets, is used instead.

use std::{fmt, num::NonZeroU64};

/// Packets of several queues are delivered out of order by less than this. A packet that is older
/// than its segment by more comes from a clock that was set back.
const MAX_DISORDER_NS: u64 = 1_000_000_000;

/// The largest duration and size of a segment; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) every_ns: Option<NonZeroU64>,
    pub(crate) bytes: Option<NonZeroU64>,
}

/// Why a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Time,
    Size,
    Asked,
    ClockSetBack,
    /// The interface came back with another link type.
    LinkChanged,
    /// The capture is over.
    End,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "time",
            Self::Size => "size",
            Self::Asked => "asked",
            Self::ClockSetBack => "clock set back",
            Self::LinkChanged => "link type changed",
            Self::End => "end",
        })
    }
}

/// Tracks the end of the current segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    limits: Limits,
    /// Packets older than this come from a clock that was set back.
    oldest_ns: u64,
    /// The first instant after the segment.
    end_ns: u64,
    /// The first instant after the segment, if an end was requested.
    asked_end_ns: u64,
    bytes: u64,
    records: u64,
}

impl Rotation {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            oldest_ns: 0,
            end_ns: u64::MAX,
            asked_end_ns: u64::MAX,
            bytes: 0,
            records: 0,
        }
    }

    /// Begins a segment at this time, with this many bytes of header.
    pub(crate) fn begin(&mut self, now_ns: u64, header_len: u64) {
        let end_ns = self
            .limits
            .every_ns
            .map_or(u64::MAX, |every| next_multiple(now_ns, every));
        let oldest_ns = now_ns.saturating_sub(MAX_DISORDER_NS);
        *self = Self {
            oldest_ns,
            end_ns,
            bytes: header_len,
            ..Self::new(self.limits)
        };
    }

    /// Requests an end: packets later than `at_ns` belong to the next segment.
    pub(crate) fn ask(&mut self, at_ns: u64) {
        self.asked_end_ns = self.asked_end_ns.min(at_ns);
    }

    /// Returns the reason if the segment ends before a record of this time and length.
    #[inline]
    pub(crate) fn ends_before(&self, timestamp_ns: u64, record_len: u64) -> Option<Reason> {
        let is_too_large = self
            .limits
            .bytes
            .is_some_and(|limit| self.bytes.saturating_add(record_len) > limit.get());
        // A record that is too large for any segment gets one of its own.
        if is_too_large && self.records > 0 {
            return Some(Reason::Size);
        }
        self.ends_at(timestamp_ns)
    }

    /// Returns the reason if the segment is over at this time, even without a packet.
    #[inline]
    pub(crate) fn ends_at(&self, now_ns: u64) -> Option<Reason> {
        if now_ns >= self.end_ns {
            return Some(Reason::Time);
        }
        if now_ns >= self.asked_end_ns {
            return Some(Reason::Asked);
        }
        (now_ns < self.oldest_ns).then_some(Reason::ClockSetBack)
    }

    /// Counts a record of this length.
    #[inline]
    pub(crate) fn add(&mut self, record_len: u64) {
        self.bytes = self.bytes.saturating_add(record_len);
        self.records = self.records.saturating_add(1);
    }
}

/// Returns the first multiple of `every` after `now`.
fn next_multiple(now: u64, every: NonZeroU64) -> u64 {
    (now / every).saturating_add(1).saturating_mul(every.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;
    const HEADER: u64 = 24;

    fn every(seconds: u64) -> Limits {
        Limits {
            every_ns: NonZeroU64::new(seconds * S),
            bytes: None,
        }
    }

    fn up_to(bytes: u64) -> Limits {
        Limits {
            every_ns: None,
            bytes: NonZeroU64::new(bytes),
        }
    }

    fn begun(limits: Limits, now_ns: u64) -> Rotation {
        let mut rotation = Rotation::new(limits);
        rotation.begin(now_ns, HEADER);
        rotation
    }

    #[test]
    fn segments_end_on_multiples_of_the_interval_whenever_they_began() {
        for began in [600 * S, 601 * S, 659 * S, 660 * S - 1] {
            let rotation = begun(every(60), began);
            assert_eq!(rotation.ends_before(660 * S - 1, 100), None);
            assert_eq!(rotation.ends_before(660 * S, 100), Some(Reason::Time));
            assert_eq!(rotation.ends_at(900 * S), Some(Reason::Time));
        }
    }

    #[test]
    fn no_segment_is_larger_than_its_limit_but_for_one_record() {
        let mut rotation = begun(up_to(HEADER + 200), S);
        assert_eq!(
            rotation.ends_before(S, 1000),
            None,
            "a segment holds one record at least"
        );
        rotation.add(100);
        assert_eq!(rotation.ends_before(S, 100), None);
        rotation.add(100);
        assert_eq!(rotation.ends_before(S, 1), Some(Reason::Size));
        assert_eq!(
            rotation.ends_at(1_000_000 * S),
            None,
            "without an interval time is no reason"
        );
    }

    #[test]
    fn a_requested_segment_has_the_packets_from_before() {
        let mut rotation = begun(every(60), 600 * S);
        rotation.ask(610 * S);
        rotation.ask(611 * S);
        assert_eq!(rotation.ends_before(610 * S - 1, 1), None);
        assert_eq!(rotation.ends_before(610 * S, 1), Some(Reason::Asked));
        rotation.begin(610 * S, HEADER);
        assert_eq!(
            rotation.ends_before(659 * S, 1),
            None,
            "the next one has the usual length"
        );
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_segment_and_disorder_does_not() {
        let rotation = begun(every(60), 660 * S);
        assert_eq!(rotation.ends_before(660 * S - 1000, 1), None);
        assert_eq!(rotation.ends_before(600 * S, 1), Some(Reason::ClockSetBack));
    }

    #[test]
    fn the_end_of_time_is_no_end_of_the_program() {
        let rotation = begun(every(60), u64::MAX);
        assert_eq!(rotation.ends_at(u64::MAX), Some(Reason::Time));
    }

    proptest! {
        /// For any times: a segment's packets lie within one interval (except for disorder), and a
        /// segment ends only when its interval is over or the clock went back.
        #[test]
        fn an_interval_is_never_crossed(seconds in 1u64..100, steps in proptest::collection::vec(-5_000_000_000i64..20_000_000_000, 1..100)) {
            let limits = every(seconds);
            let mut now = 1_700_000_000 * S;
            let mut rotation = begun(limits, now);
            let (mut began, mut index) = (now, now / (seconds * S));
            for step in steps {
                now = now.saturating_add_signed(step);
                match rotation.ends_before(now, 1) {
                    Some(reason) => {
                        match reason {
                            Reason::Time => prop_assert!(now / (seconds * S) > index),
                            Reason::ClockSetBack => prop_assert!(now + MAX_DISORDER_NS < began),
                            other => prop_assert!(false, "{other}"),
                        }
                        rotation.begin(now, HEADER);
                        (began, index) = (now, now / (seconds * S));
                    }
                    None => prop_assert!(now / (seconds * S) <= index && now + MAX_DISORDER_NS >= began),
                }
            }
        }
    }
}
