//! Merges several capture points, or several series of segments in one.

use std::{
    collections::BTreeSet,
    io::{BufWriter, Write},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use shared::segment_drops::SegmentDrops;

use super::{
    MAX_OPEN, Points,
    point::Point,
    segment::{FoundSegment, Queued},
    stored::{Begun, Merging},
};
use crate::{
    attempts::Which,
    moment::Clock,
    report::Report,
    segments::{Identity, Series},
    source::{
        Input,
        merge::{self, Merge, Watermark},
    },
    timeline::Later,
    unit::Unit,
};

/// A series of segments of a directory, which is merged with others.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) point: usize,
    pub(super) series: Series,
}

impl Points<'_> {
    /// All series that are merged; packets of the same time are taken in this order. A directory
    /// without known segments has one series, too: it is waited for.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let of_point = |(number, point): (usize, &Point)| {
            let series: Vec<Series> = point.stored.series.keys().cloned().collect();
            let series = if series.is_empty() {
                vec![Series::default()]
            } else {
                series
            };
            series.into_iter().map(move |series| Lane {
                point: number,
                series,
            })
        };
        self.points.iter().enumerate().flat_map(of_point).collect()
    }

    /// True when a capture point has several series of segments, including those in `found`.
    pub(super) fn has_several_series(&self, found: &[FoundSegment]) -> bool {
        let of_point = |(number, point): (usize, &Point)| {
            let found = found
                .iter()
                .filter(|segment| segment.point == number)
                .map(|segment| &segment.series);
            point
                .stored
                .series
                .keys()
                .chain(found)
                .collect::<BTreeSet<_>>()
                .len()
        };
        self.points
            .iter()
            .enumerate()
            .map(of_point)
            .any(|series| series > 1)
    }

    /// The next packets of all series, merged into one capture, up to the time to which each has
    /// delivered.
    pub(super) fn merged(
        &mut self,
        found: Vec<FoundSegment>,
        report: &mut Report,
    ) -> Result<Option<Unit>> {
        self.queue(found, report)?;
        self.attempts.put_down()?;
        if self.points.iter().all(|point| point.queue.is_empty()) {
            return Ok(None);
        }
        let lanes = self.lanes();
        let Some(until) = self.watermark(&lanes) else {
            return Ok(None);
        };
        let now = SystemTime::now();
        let told: Vec<Option<Later>> = lanes.iter().map(|lane| self.told(lane, now)).collect();
        let all = (until, told.clone(), self.queued());
        if self.exhausted.as_ref() == Some(&all) {
            return Ok(None);
        }
        let points = &self.points;
        let inputs = lanes.iter().map(|lane| {
            let merging = merging(points, lane);
            let position = merge::MergePosition {
                finished: 0,
                offset: merging.begun.map_or(0, |begun| begun.offset),
                timeline: merging.timeline,
            };
            let queue = points
                .get(lane.point)
                .into_iter()
                .flat_map(|point| point.queued(&lane.series));
            let inputs: Vec<&Input> = queue.map(|queued| &queued.input).collect();
            (inputs, position)
        });
        let mut merge = Merge::new(
            inputs
                .zip(&told)
                .map(|((inputs, position), told)| (inputs, position, *told)),
        );
        let room = self.attempts.unit_len(self.unit_len);
        let file = self.scratch.file()?;
        let mut out = BufWriter::with_capacity(256 * 1024, &file);
        let copies = self.config.leaves_out_copies.then_some(&mut self.recent);
        let merged = merge
            .write(&mut out, until, room, copies, |_, input, gap| {
                report.note_gap(input.name(), &gap);
            })
            .and_then(|merged| out.flush().map(|()| merged))
            .with_context(|| {
                format!(
                    "the packets of several capture points cannot be merged in {}",
                    self.scratch.directory().display()
                )
            })?;
        drop(out);
        report.copies = report.copies.saturating_add(merged.duplicates);
        let positions: Vec<merge::MergePosition> = merge.positions().collect();
        drop(merge);
        let read = self.read_for(&lanes, &positions);
        let drops = self.drops_of_begun(&lanes, &positions);
        let has_drops = !drops.is_empty();
        let has_moved =
            self.move_on(&lanes, positions) || merged.packets > 0 || merged.duplicates > 0;
        self.exhausted = Some((until, told, self.queued())).filter(|_| merged.is_all);
        self.working.clear();
        let mut unit = Unit {
            drops,
            ..Unit::default()
        };
        if merged.packets > 0 {
            unit.inputs.push(Input::of_written(
                "the capture points' packets".to_owned(),
                self.scratch.directory(),
                file,
            )?);
        }
        self.attempts.begin(read, Some(room))?;
        Ok((has_moved || has_drops).then_some(unit))
    }

    /// The segments with packets that were merged, up to these positions.
    fn read_for(&self, lanes: &[Lane], positions: &[merge::MergePosition]) -> Vec<Which> {
        let of_lane = |(lane, position): (&Lane, &merge::MergePosition)| {
            let begun = merging(&self.points, lane)
                .begun
                .map_or(0, |begun| begun.offset);
            let queue = self
                .points
                .get(lane.point)
                .into_iter()
                .flat_map(|point| point.queued(&lane.series));
            let is_read = |(number, queued): &(usize, &Queued)| {
                let from = queued
                    .input
                    .start()
                    .max(if *number == 0 { begun } else { 0 });
                *number < position.finished
                    || (*number == position.finished && position.offset > from)
            };
            queue
                .enumerate()
                .filter(is_read)
                .map(|(_, queued)| queued)
                .collect::<Vec<_>>()
        };
        let read = lanes.iter().zip(positions).flat_map(of_lane);
        read.map(|Queued { segment, .. }| Which::of(&segment.path, &segment.listed))
            .collect()
    }

    /// What was dropped at capture in the time of the segments that the merge has begun, up to these
    /// positions.
    fn drops_of_begun(
        &self,
        lanes: &[Lane],
        positions: &[merge::MergePosition],
    ) -> Vec<SegmentDrops> {
        let of_lane = |(lane, position): (&Lane, &merge::MergePosition)| {
            let had_begun = merging(&self.points, lane).begun.is_some();
            let is_begun = |number: usize| {
                let is_now = number < position.finished
                    || (number == position.finished && position.offset > 0);
                is_now && !(number == 0 && had_begun)
            };
            let queue = self
                .points
                .get(lane.point)
                .into_iter()
                .flat_map(|point| point.queued(&lane.series))
                .enumerate();
            queue
                .filter(|(number, _)| is_begun(*number))
                .filter_map(|(_, queued)| queued.input.drops().cloned())
                .collect::<Vec<_>>()
        };
        lanes.iter().zip(positions).flat_map(of_lane).collect()
    }

    /// Notes that the queued segments were merged up to these positions. Returns true if a segment
    /// was read to its end.
    fn move_on(&mut self, lanes: &[Lane], positions: Vec<merge::MergePosition>) -> bool {
        let before = self.done.len();
        for (lane, position) in lanes.iter().zip(positions) {
            let Some(point) = self.points.get_mut(lane.point) else {
                continue;
            };
            let mut timeline = position.timeline;
            for Queued { segment, input, .. } in
                point.take_finished(&lane.series, position.finished)
            {
                segment
                    .named_ns()
                    .into_iter()
                    .for_each(|named| timeline.reach(named));
                point.stored.remember(&segment, input.bytes().len());
                self.done.push(segment);
            }
            let begun = point
                .queued(&lane.series)
                .next()
                .filter(|_| position.offset > 0);
            let begun = begun.and_then(|Queued { segment, .. }| {
                Some(Begun {
                    identity: segment.identity,
                    content: segment.content?,
                    offset: position.offset,
                })
            });
            if let Some(merging) = point.stored.series.get_mut(&lane.series) {
                merging.begun = begun;
                merging.timeline = timeline;
            }
        }
        self.done.len() > before
    }

    /// The segments that wait to be merged, point by point.
    fn queued(&self) -> Vec<Vec<Identity>> {
        self.points
            .iter()
            .map(|point| {
                point
                    .queue
                    .iter()
                    .map(|queued| queued.segment.identity)
                    .collect()
            })
            .collect()
    }

    /// Opens segments that are to be merged.
    fn queue(&mut self, found: Vec<FoundSegment>, report: &mut Report) -> Result<()> {
        self.points
            .iter_mut()
            .for_each(|point| point.crowded.clear());
        for mut segment in found {
            let (number, unit_len) = (segment.point, self.unit_len);
            let Some(point) = self.points.get_mut(number) else {
                continue;
            };
            if point.is_full(&segment.series, unit_len) {
                point.crowded.insert(segment.series);
                continue;
            }
            self.attempts
                .begin(vec![Which::of(&segment.path, &segment.listed)], None)?;
            let Some(input) = self.open(&segment, report)? else {
                continue;
            };
            self.silence.delivered(number, Instant::now());
            segment.content = Some(input.content(segment.identity.size));
            if let Some(point) = self.points.get_mut(number) {
                point.enqueue(Queued {
                    segment,
                    input,
                    delivery: None,
                });
            }
        }
        for point in self.points.iter_mut().filter(|point| !point.is_missing) {
            point.give_up_what_is_gone(report);
        }
        let (is_final, unit_len) = (self.config.closes_all, self.unit_len);
        self.points
            .iter_mut()
            .for_each(|point| point.note_deliveries(is_final, unit_len));
        Ok(())
    }

    /// The moment up to which all capture points have delivered that are waited for.
    fn watermark(&mut self, lanes: &[Lane]) -> Option<Watermark> {
        if self.config.closes_all {
            return Some(Watermark::END);
        }
        let now = Instant::now();
        for (number, point) in self.points.iter_mut().enumerate() {
            point.note_silence(self.config.stays && self.silence.is_silent(number, now));
        }
        let since = SystemTime::now();
        let delivered = lanes.iter().map(|lane| {
            let is_waited_for = self
                .points
                .get(lane.point)
                .is_some_and(|point| !point.is_silent);
            (self.delivered(lane, since), is_waited_for)
        });
        Watermark::of(delivered)
    }

    /// The time that a series has reached behind its segments, if it is known. It decides on a leap
    /// at their end, which must not be passed by the packets of others.
    fn told(&self, lane: &Lane, now: SystemTime) -> Option<Later> {
        let point = self.points.get(lane.point)?;
        if self.config.closes_all || point.is_silent || point.is_full(&lane.series, self.unit_len) {
            return Some(Later::END);
        }
        let is_one_of_several = point.stored.series.len() >= 2;
        let written = self
            .being_written(lane, now)
            .filter(|_| is_one_of_several)
            .max(point.next_begins(&lane.series));
        if written.is_some() || !is_one_of_several {
            return written.map(Later::Reached);
        }
        point.at_rest(now).map(Later::ReachedAtLeast)
    }

    /// The packet time up to which a series has been delivered. The first record of its part file
    /// may show it. If a directory has several series, files of the others show it, too: while a
    /// series has no part file, all its earlier packets are in files that have been closed for a
    /// while.
    pub(super) fn delivered(&self, lane: &Lane, now: SystemTime) -> Option<Clock> {
        let point = self.points.get(lane.point)?;
        let delivered = point
            .delivered(&lane.series)
            .max(point.next_begins(&lane.series));
        if point.stored.series.len() < 2 || point.crowded.contains(&lane.series) {
            return delivered;
        }
        delivered.max(self.being_written(lane, now).or_else(|| point.at_rest(now)))
    }

    /// The time at which the part file of a series begins, in nanoseconds since 1970, if the series
    /// is waited for.
    pub(super) fn being_written(&self, lane: &Lane, now: SystemTime) -> Option<u64> {
        let start_ns = self
            .points
            .get(lane.point)?
            .listing
            .being_written()
            .get(&lane.series)?
            .start_ns;
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let age = since_1970.saturating_sub(Duration::from_nanos(start_ns));
        Some(start_ns).filter(|_| !self.config.stays || age < self.config.timeout)
    }
}

fn merging(points: &[Point], lane: &Lane) -> Merging {
    let merging = points
        .get(lane.point)
        .and_then(|point| point.stored.series.get(&lane.series));
    merging.copied().unwrap_or_default()
}

impl Point {
    /// True when no more segments of a series should be open at the same time.
    pub(super) fn is_full(&self, series: &Series, unit_len: u64) -> bool {
        let temporary = self.queued(series).fold(0, |sum: u64, queued| {
            sum.saturating_add(queued.input.temporary_len())
        });
        self.queued(series).count()
            >= MAX_OPEN
                .checked_div(self.stored.series.len())
                .unwrap_or(MAX_OPEN)
                .max(1)
            || temporary >= unit_len.saturating_mul(4)
    }

    /// Gives up a segment that was begun and is gone.
    fn give_up_what_is_gone(&mut self, report: &mut Report) {
        for (series, merging) in &mut self.stored.series {
            let mut queued = self
                .queue
                .iter()
                .filter(|queued| queued.segment.series == *series);
            let first = queued.next().map(|queued| &queued.segment);
            let is_there =
                |begun: &Begun| first.is_some_and(|first| begun.is(first.identity, first.content));
            if merging.begun.take_if(|begun| !is_there(begun)).is_some() {
                report.refused_inputs = report.refused_inputs.saturating_add(1);
                let directory = self.listing.directory().display();
                tracing::error!(
                    "a segment of {directory} is gone before it was read to its end; the rest of it is lost"
                );
            }
        }
    }
}
