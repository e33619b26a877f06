//! The reports of a receiver over time: the last one of each interval of packet time.

use serde::{Deserialize, Serialize};

use super::ReceptionReport;
use crate::{grid::Grid, moment::Clock};

/// The most intervals of a course: an hour without a pause. Beyond that, two become one, and the
/// length doubles.
const MAX_INTERVALS: usize = 720;

/// The intervals that have reports, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Course {
    intervals: Vec<Interval>,
    grid: Grid,
}

/// The last values that were reported in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Interval {
    /// See [`Grid::number`].
    number: u32,
    /// The fraction lost since the report before, out of 256 (RFC 3550, 6.4.1), and the jitter in
    /// units of the stream's clock rate.
    reception: Option<(u8, u32)>,
    /// In microseconds; an hour fits.
    round_trip_us: Option<u32>,
    /// Times ten.
    mos: Option<u8>,
}

/// The last values that a receiver reported in an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reported {
    /// The beginning of the interval, in nanoseconds since 1970.
    pub start_ns: u64,
    /// Its length in nanoseconds: 5 s, or that doubled several times.
    pub length_ns: u64,
    /// The loss since the report before (RFC 3550, 6.4.1), in percent.
    pub loss_percent: Option<f64>,
    /// The interarrival jitter, in milliseconds, where the clock rate is known.
    pub jitter_ms: Option<f64>,
    /// From the capture point to the receiver and back, without the time that it took to answer.
    pub round_trip_ns: Option<u64>,
    /// The mean opinion score.
    pub mos: Option<f64>,
}

impl Course {
    /// Adds a report that came at packet time `now`, with its round trip in nanoseconds.
    pub(super) fn add(&mut self, report: &ReceptionReport, round_trip_ns: Option<u64>, now: Clock) {
        let Some(interval) = self.at(now) else { return };
        interval.reception = Some((report.fraction_lost, report.jitter));
        if let Some(ns) = round_trip_ns {
            interval.round_trip_us = Some(u32::try_from(ns / 1000).unwrap_or(u32::MAX));
        }
    }

    /// Adds a score, times ten.
    pub(super) fn add_mos(&mut self, mos: u8, now: Clock) {
        if let Some(interval) = self.at(now) {
            interval.mos = Some(mos);
        }
    }

    /// The values of each interval, of a stream with this clock rate.
    pub(super) fn reported(&self, clock_rate: Option<u32>) -> Vec<Reported> {
        let reported = |interval: &Interval| {
            let Interval {
                number,
                reception,
                round_trip_us,
                mos,
            } = *interval;
            let rate = clock_rate.filter(|rate| *rate > 0).map(f64::from);
            Reported {
                start_ns: self.grid.start_ns(number),
                length_ns: self.grid.length_ns(),
                loss_percent: reception.map(|(lost, _)| f64::from(lost) / 2.56),
                jitter_ms: reception
                    .zip(rate)
                    .map(|((_, jitter), rate)| f64::from(jitter) * 1e3 / rate),
                round_trip_ns: round_trip_us.map(|us| u64::from(us).saturating_mul(1000)),
                mos: mos.map(|tenths| f64::from(tenths) / 10.0),
            }
        };
        self.intervals.iter().map(reported).collect()
    }

    /// The interval at packet time `now`, which never goes back.
    fn at(&mut self, now: Clock) -> Option<&mut Interval> {
        while self.is_new(now) && self.intervals.len() >= MAX_INTERVALS {
            self.double();
        }
        if self.is_new(now) {
            self.intervals.push(Interval {
                number: self.grid.number(now),
                ..Interval::default()
            });
        }
        self.intervals.last_mut()
    }

    fn is_new(&self, now: Clock) -> bool {
        let number = self.grid.number(now);
        self.intervals
            .last()
            .is_none_or(|last| last.number < number)
    }

    /// Doubles the length of the intervals. Of two that become one, the later has the last values.
    fn double(&mut self) {
        self.grid.double();
        for interval in &mut self.intervals {
            interval.number /= 2;
        }
        self.intervals.dedup_by(|second, first| {
            let is_same = first.number == second.number;
            if is_same {
                first.reception = second.reception.or(first.reception);
                first.round_trip_us = second.round_trip_us.or(first.round_trip_us);
                first.mos = second.mos.or(first.mos);
            }
            is_same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn report(fraction_lost: u8, jitter: u32) -> ReceptionReport {
        ReceptionReport {
            ssrc: 1,
            fraction_lost,
            lost: 0,
            highest: 0,
            jitter,
            last_sender_report: 0,
            delay: 0,
        }
    }

    #[test]
    fn the_last_report_of_an_interval_counts() {
        let mut course = Course::default();
        course.add(&report(1, 1), Some(7_000), 10 * SECOND);
        course.add(&report(64, 80), None, 14 * SECOND);
        course.add_mos(42, 15 * SECOND);
        course.add(&report(0, 8), Some(9_999), 26 * SECOND);
        let reported = course.reported(Some(8000));
        let values: Vec<_> = reported
            .iter()
            .map(|one| {
                let start_s = one.start_ns / SECOND;
                (
                    start_s,
                    one.loss_percent,
                    one.jitter_ms,
                    one.round_trip_ns,
                    one.mos,
                )
            })
            .collect();
        assert_eq!(
            values,
            [
                (10, Some(25.0), Some(10.0), Some(7_000), None),
                (15, None, None, None, Some(4.2)),
                (25, Some(0.0), Some(1.0), Some(9_000), None),
            ]
        );
        assert_eq!(course.reported(None)[0].jitter_ms, None);
        assert_eq!(course.reported(Some(0))[0].jitter_ms, None);
    }

    #[test]
    fn a_long_course_has_longer_intervals() {
        let mut course = Course::default();
        let count = MAX_INTERVALS as u64 * 3;
        for number in 0..count {
            course.add(&report((number % 251) as u8, 0), None, number * 5 * SECOND);
        }
        let reported = course.reported(None);
        assert!(reported.len() <= MAX_INTERVALS, "{}", reported.len());
        assert_eq!(reported[0].length_ns, 20 * SECOND);
        assert_eq!(reported[1].start_ns, 20 * SECOND);
        assert_eq!(
            reported[1].loss_percent,
            Some(7.0 / 2.56),
            "the last of four"
        );
    }
}
