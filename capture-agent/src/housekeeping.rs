//! The housekeeping thread: deletes segments beyond the limits, and writes the metrics file.
//!
//! It is a thread of its own because a disk may hang: then deletion and metrics wait, but neither
//! captures nor the watchdog do.

use std::{
    mem,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use crate::{
    clock::Pace,
    metrics, metrics_file,
    retention::{RetentionLimits, surplus},
    segment_dir::SegmentDir,
    tally::{SegmentDirTally, Tally},
};

/// How often the thread checks for due work.
const TICK: Duration = Duration::from_millis(200);

/// How often the directory is listed even if no segment was closed: other programs may fill the
/// disk.
const SURVEY_EVERY: Duration = Duration::from_secs(10);

/// How often the metrics file is written.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// How often the log repeats that something still fails.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Keeps one output directory within its limits.
pub(crate) struct Housekeeper {
    pub(crate) segment_dir: SegmentDir,
    pub(crate) limits: RetentionLimits,
    pub(crate) metrics_file: Option<PathBuf>,
    pub(crate) interfaces: Vec<(String, Arc<Tally>)>,
    pub(crate) tally: Arc<SegmentDirTally>,
}

impl Housekeeper {
    /// Works until the sender of `until` is dropped, and once more then.
    pub(crate) fn run(self, until: &Receiver<()>) {
        let (mut survey, mut metrics) = (Pace::at_once(SURVEY_EVERY), Pace::at_once(METRICS_EVERY));
        let (mut remind_of_spool, mut remind_of_metrics) =
            (Pace::at_once(REMIND_EVERY), Pace::at_once(REMIND_EVERY));
        let mut segments = 0;
        if let Some(path) = &self.metrics_file {
            metrics_file::remove_leftovers(path);
        }
        loop {
            let is_end = until.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout);
            let before = mem::replace(&mut segments, self.segments());
            if survey.is_due() || segments != before || self.is_refused() {
                self.make_room(&mut remind_of_spool);
            }
            if metrics.is_due() || is_end {
                self.write_metrics(&mut remind_of_metrics);
            }
            if is_end {
                return;
            }
        }
    }

    fn segments(&self) -> u64 {
        self.interfaces
            .iter()
            .map(|(_, tally)| tally.segments.get())
            .fold(0, u64::saturating_add)
    }

    fn is_refused(&self) -> bool {
        self.interfaces
            .iter()
            .any(|(_, tally)| tally.is_refused.get())
    }

    /// Deletes the segments beyond the limits.
    fn make_room(&self, remind: &mut Pace) {
        self.tally
            .free_bytes
            .set(self.segment_dir.free_bytes().unwrap_or(0));
        if self.limits.are_none() {
            return;
        }
        let surplus = match self.segment_dir.stock() {
            Ok(stock) => surplus(stock, &self.limits),
            Err(error) if remind.is_due() => {
                return tracing::error!("no segment can be deleted: {error}");
            }
            Err(_) => return,
        };
        for (segment, cause) in surplus {
            let name = &segment.name;
            match self.segment_dir.delete(name) {
                Ok(()) if segment.is_processed => {
                    self.tally.deleted.add(1);
                    tracing::info!(segment = %name, bytes = segment.bytes, "deleted for {cause}");
                }
                Ok(()) => {
                    self.tally.deleted_unprocessed.add(1);
                    tracing::error!(segment = %name, bytes = segment.bytes, "deleted for {cause} before the extractor has processed it");
                }
                Err(error) if remind.is_due() => {
                    tracing::error!("no segment can be deleted: {error}");
                }
                Err(_) => {}
            }
        }
    }

    fn write_metrics(&self, remind: &mut Pace) {
        let Some(path) = &self.metrics_file else {
            return;
        };
        let interfaces = self
            .interfaces
            .iter()
            .map(|(interface, tally)| (interface.as_str(), tally.as_ref()));
        if let Err(error) = metrics_file::replace(path, &metrics::text(&interfaces, &self.tally))
            && remind.is_due()
        {
            tracing::error!("{error}");
        }
    }
}
