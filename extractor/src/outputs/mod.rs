//! Outputs: one pcap per call, and a row or more in each of two CSV files.
//!
//! For each window, every call that has something to write is a job of its own. Jobs run side
//! by side; each opens the file of its call, writes, and closes it. So there are as many open files
//! as threads, however many calls there are. Between windows there is a `Recording` per open call:
//! figures, no bytes.
//!
//! The rooms import each other in one direction:
//!
//! ```text
//! rows -> table, recording; recording -> call_file, streams, settled
//! call_file, table, given -> directory -> parts, names, settings
//! settled -> records, mute
//! ```

mod buffer;
mod call_file;
mod directory;
mod given;
mod mute;
mod names;
mod parts;
mod recording;
mod records;
mod rows;
mod settings;
mod settled;
mod streams;
mod table;
mod text;
pub mod uploads;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use self::{
    buffer::GatherBuffer,
    given::FileNames,
    names::Stem,
    recording::Recording,
    rows::Rows,
    settled::Settled,
    table::{CsvFile, CsvProgress, Replaced},
    uploads::{Due, Uploads},
};
pub use self::{
    directory::Directory, names::is_of_a_call, records::Records, settings::Settings,
    text::printable,
};
use crate::{
    calls::{Call, CallNumber, CallTable, FlowTable, Work},
    counts::CallCounts,
    moment::Clock,
    selection::Selection,
};

/// All files that a run writes.
///
/// A unit of work appends to hidden files only. When it is done and the state has its [`Books`],
/// what is complete is published: so what can be seen never changes, and a run that is killed loses
/// no more than its unit.
#[derive(Debug)]
pub struct Outputs {
    directory: Directory,
    detected_calls: CsvFile,
    statistics: CsvFile,
    books: Books,
    overwrites: bool,
    counts: CallCounts,
    selection: Selection,
    /// The place that the calls' rows have for their files.
    location: Option<S3Uri>,
    tells_of_calls: bool,
    uploads: Uploads,
    /// The files that are due when those of calls that have ended are published.
    newly_due: Vec<Due>,
}

/// All that is known of the files: with it, another process can go on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Books {
    names: FileNames,
    recordings: BTreeMap<CallNumber, Recording>,
    /// Rows of calls that have closed, until it is certain that none closed before them.
    closed: BTreeMap<CloseOrder, Rows>,
    /// Files of calls that have ended, to be published.
    complete: Vec<String>,
    /// Parts that became files of another kind.
    obsolete: Vec<String>,
    /// Files that are due for upload, the oldest first.
    due: Vec<Due>,
    detected_calls: CsvProgress,
    statistics: CsvProgress,
}

impl Books {
    /// Tells whether files are due for upload.
    #[must_use]
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }
}

/// The order of rows: when a call closed, when it began, its Call-ID.
type CloseOrder = (Clock, u64, Box<[u8]>, CallNumber);

/// The work on one call in this window, and its results.
struct Job<'a> {
    work: Work,
    call: &'a Call,
    recording: Recording,
    /// The hidden file that its file has taken the place of.
    obsolete: Option<String>,
    /// The rows of a call that ended.
    rows: Option<Rows>,
    /// A call that ended has a file, too.
    has_file: bool,
}

/// The way a call goes: it gets a recording, or has one, or is passed over.
enum Course {
    Begins { stem: Stem, is_muted: bool },
    IsNotWanted,
    GoesOn,
}

/// The place for the results of jobs, and which are wanted.
#[derive(Clone, Copy)]
struct Destination<'a> {
    directory: &'a Directory,
    selection: &'a Selection,
    location: Option<&'a S3Uri>,
    tells_of_calls: bool,
}

/// Logs what becomes of a call: for those who asked, and for services.
macro_rules! tell {
    ($to:expr, $($line:tt)*) => {
        if $to.tells_of_calls { tracing::info!($($line)*) } else { tracing::debug!($($line)*) }
    };
}

impl Job<'_> {
    /// Writes what is settled, and makes the rows of a call that ended.
    fn run(
        &mut self,
        to: Destination<'_>,
        buffer: &mut GatherBuffer,
        flows: &FlowTable,
        records: Records<'_>,
        lookback_ns: u64,
    ) -> Result<()> {
        let Self {
            work,
            call,
            recording,
            obsolete,
            rows,
            has_file,
        } = self;
        if work.is_new {
            tell!(to, call_id = %printable(&call.call_id), file = %recording.file.name(), "call opened");
        }
        let messages = recording
            .sip_packets
            .saturating_add(work.frames.len() as u64);
        let may_have_file = work
            .end
            .is_none_or(|end| to.selection.gives_file(end.state, messages));
        *obsolete = recording.write(
            to.directory,
            may_have_file,
            buffer,
            &Settled {
                call,
                work,
                flows,
                records,
                lookback_ns,
            },
        )?;
        let Some(end) = work.end else { return Ok(()) };
        if to.selection.ends_late_enough(recording.last_ns()) {
            *has_file = to.selection.gives_file(end.state, recording.sip_packets);
            let file_name = has_file.then(|| recording.file.name());
            *rows = Some(Rows::of(
                call,
                &end,
                recording,
                file_name.as_deref(),
                to.location,
            )?);
            tell!(to, call_id = %printable(&call.call_id), file = %recording.file.name(), state = %end.state, "call closed");
            if tracing::enabled!(tracing::Level::DEBUG) {
                recording.tell_of_silence(call);
            }
        } else {
            tell!(to, call_id = %printable(&call.call_id), file = %recording.file.name(), "call left out: it ended before --since");
        }
        Ok(())
    }
}

impl Outputs {
    /// The outputs in a directory, in which nothing is changed yet.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(directory: Directory, settings: &Settings, uploads: Uploads) -> Result<Self> {
        let detected_calls = CsvFile::new(
            &directory,
            &settings.detected_calls_filename,
            rows::DETECTED_CALLS,
        );
        let statistics = CsvFile::new(&directory, &settings.stats_filename, rows::STATISTICS);
        let books = Books {
            names: FileNames::new(&directory, settings.overwrite)?,
            recordings: BTreeMap::new(),
            closed: BTreeMap::new(),
            complete: Vec::new(),
            obsolete: Vec::new(),
            due: Vec::new(),
            detected_calls: CsvProgress::default(),
            statistics: CsvProgress::default(),
        };
        Ok(Self {
            directory,
            detected_calls,
            statistics,
            books,
            overwrites: settings.overwrite,
            counts: CallCounts::default(),
            selection: settings.selection.clone(),
            location: settings.location.clone(),
            tells_of_calls: settings.tells_of_calls,
            uploads,
            newly_due: Vec::new(),
        })
    }

    /// Goes on where the books end, or begins anew: publishes what is to be published, and removes
    /// what is beyond. Makes the CSV files with their headers, where they are not there.
    ///
    /// # Errors
    /// A file cannot be changed, or is shorter than the books have it; or a CSV file is there with
    /// other columns.
    pub fn resume(&mut self, books: Option<Books>) -> Result<()> {
        let is_fresh = books.is_none();
        if let Some(books) = books {
            self.books = books;
            if !self.overwrites {
                self.books.names.ask_always();
            }
        }
        self.detected_calls.lock()?;
        self.statistics.lock()?;
        self.publish()?;
        self.uploads.resume(&self.books.due);
        self.detected_calls.begin()?;
        self.statistics.begin()?;
        // A service appends at each of its runs.
        if is_fresh && !self.tells_of_calls {
            self.detected_calls.tell_of_rows(self.overwrites)?;
        }
        let known = self
            .books
            .recordings
            .values()
            .filter(|recording| recording.file.len() > 0);
        let known = known
            .map(|recording| (recording.file.name(), recording.file.len()))
            .collect();
        self.directory.cut_back(&known)?;
        self.detected_calls.cut_back(&self.books.detected_calls)?;
        self.statistics.cut_back(&self.books.statistics)
    }

    /// The books with which another can go on.
    #[must_use]
    pub fn into_books(self) -> Books {
        self.books
    }

    /// Has the disk take in what was written, and gives the books as they belong to it.
    ///
    /// # Errors
    /// A file cannot be made durable.
    pub fn prepare(&mut self) -> Result<&Books> {
        self.detected_calls
            .prepare(&mut self.books.detected_calls, &self.directory)?;
        self.statistics
            .prepare(&mut self.books.statistics, &self.directory)?;
        self.directory.sync()?;
        self.books.due = self.uploads.carried_over(&self.newly_due);
        self.books
            .recordings
            .values_mut()
            .for_each(|recording| recording.file.note_state());
        Ok(&self.books)
    }

    /// Gives the files of calls that have ended their own names, and appends their rows. The state
    /// has the books by now: whoever reads them does the same.
    ///
    /// # Errors
    /// A file cannot be changed.
    pub fn publish(&mut self) -> Result<()> {
        let directory = &self.directory;
        self.books
            .complete
            .par_iter()
            .try_for_each(|file_name| directory.publish(file_name))?;
        self.books.complete.clear();
        self.uploads.add(self.newly_due.drain(..));
        // The table of calls comes last: as long as its rows are pending, they say whose rows of
        // before go.
        let replaced = if self.overwrites {
            self.detected_calls
                .pending_calls(&self.books.detected_calls)?
        } else {
            Replaced::default()
        };
        self.statistics
            .publish(&mut self.books.statistics, directory, &replaced)?;
        self.detected_calls
            .publish(&mut self.books.detected_calls, directory, &replaced)?;
        self.books
            .obsolete
            .iter()
            .try_for_each(|file_name| directory.remove_part(file_name))?;
        self.books.obsolete.clear();
        Ok(())
    }

    /// Waits while uploads are far behind, as long as it `goes_on`.
    pub fn keep_pace(&self, goes_on: impl FnMut() -> bool) {
        self.uploads.keep_pace(goes_on);
    }

    /// Uploads what is due, as far as that is possible now. With `patience` nothing new is begun,
    /// and no longer waited. Tells whether the state says something else by now.
    pub fn finish_uploads(&self, patience: Option<Duration>, alive: impl FnMut()) -> bool {
        self.uploads.finish(
            &[self.detected_calls.path(), self.statistics.path()],
            patience,
            alive,
        )
    }

    /// The number of calls that are being written.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.books.recordings.len()
    }

    /// The sums over the calls that closed so far.
    #[must_use]
    pub fn counts(&self) -> &CallCounts {
        &self.counts
    }

    /// Writes what is settled: frames to the calls' files and, of calls that closed before `now`,
    /// their rows.
    ///
    /// # Errors
    /// A file cannot be written; the error names it.
    pub fn write(
        &mut self,
        work: Vec<Work>,
        table: &CallTable,
        records: Records<'_>,
        lookback_ns: u64,
        now: Clock,
    ) -> Result<()> {
        let mut jobs = self.jobs(work, table, records)?;
        let to = Destination {
            directory: &self.directory,
            selection: &self.selection,
            location: self.location.as_ref(),
            tells_of_calls: self.tells_of_calls,
        };
        jobs.par_iter_mut()
            .with_max_len(64)
            .try_for_each_init(GatherBuffer::default, |buffer, job| {
                job.run(to, buffer, table.flows(), records, lookback_ns)
            })?;
        for job in jobs {
            self.put_away(job)?;
        }
        self.write_rows(now)
    }

    /// Gives each call that opened since, and is wanted, its name, in the order in which they
    /// opened. A call that is not wanted has no recording from the beginning.
    fn jobs<'a>(
        &mut self,
        work: Vec<Work>,
        table: &'a CallTable,
        records: Records<'_>,
    ) -> Result<Vec<Job<'a>>> {
        let selection = &self.selection;
        let course = |work: &Work| match table.call(work.number).filter(|_| work.is_new) {
            Some(call) if selection.may_want(call) => Course::Begins {
                stem: Stem::of(call),
                is_muted: selection.mutes(call),
            },
            Some(_) => Course::IsNotWanted,
            None => Course::GoesOn,
        };
        let courses: Vec<Course> = work.par_iter().map(course).collect();
        let mut job = |(work, course): (Work, Course)| -> Result<Option<Job<'a>>> {
            let Some(call) = table.call(work.number) else {
                return Ok(None);
            };
            let recording = match course {
                Course::Begins { stem, is_muted } => Recording::new(
                    self.books.names.give(stem, &self.directory)?,
                    is_muted,
                    call,
                    records,
                ),
                Course::IsNotWanted => {
                    self.counts.not_wanted = self.counts.not_wanted.saturating_add(1);
                    None
                }
                Course::GoesOn => self.books.recordings.remove(&work.number),
            };
            Ok(recording.map(|recording| Job {
                work,
                call,
                recording,
                obsolete: None,
                rows: None,
                has_file: false,
            }))
        };
        work.into_iter()
            .zip(courses)
            .filter_map(|one| job(one).transpose())
            .collect()
    }

    /// Keeps the recording of an open call; counts one that ended, and keeps its rows. One that
    /// turned out not to be wanted has none.
    fn put_away(&mut self, job: Job<'_>) -> Result<()> {
        let Job {
            work,
            call,
            recording,
            obsolete,
            rows,
            has_file,
        } = job;
        self.books.obsolete.extend(obsolete);
        let Some(end) = work.end else {
            self.books.recordings.insert(work.number, recording);
            return Ok(());
        };
        self.books.names.release(recording.file.stem());
        if let Some(rows) = rows {
            self.counts.add(end.state);
            recording.streams.add_to(&mut self.counts);
            self.books.closed.insert(
                (
                    end.closed_at,
                    call.start_ns,
                    call.call_id.clone(),
                    work.number,
                ),
                rows,
            );
            self.counts.without_file = self
                .counts
                .without_file
                .saturating_add(u64::from(!has_file));
        } else {
            self.counts.not_wanted = self.counts.not_wanted.saturating_add(1);
        }
        if has_file {
            if let Some(to) = self.uploads.destination() {
                self.newly_due.push(Due {
                    file_name: recording.file.name(),
                    to: to.clone(),
                    len: recording.file.len(),
                });
            }
            self.books.complete.push(recording.file.name());
        } else if recording.file.is_in_state() {
            self.books.obsolete.push(recording.file.name());
        } else if recording.file.len() > 0 {
            // Nobody will ask for it: it need not take up room until the unit of work is done.
            self.directory.remove_part(&recording.file.name())?;
        }
        Ok(())
    }

    /// Writes the rows of calls that closed before `now`, in the order in which they closed.
    fn write_rows(&mut self, now: Clock) -> Result<()> {
        let not_yet = self
            .books
            .closed
            .split_off(&(now, 0, Box::default(), CallNumber(0)));
        let ready = std::mem::replace(&mut self.books.closed, not_yet);
        self.append(&ready)
    }

    /// Writes all rows that are left: the input has ended.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        let last = std::mem::take(&mut self.books.closed);
        self.append(&last)
    }

    fn append(&mut self, ready: &BTreeMap<CloseOrder, Rows>) -> Result<()> {
        for rows in ready.values() {
            self.detected_calls.push(&rows.detected_call);
            self.statistics.push(&rows.statistics);
        }
        self.detected_calls.append(&mut self.books.detected_calls)?;
        self.statistics.append(&mut self.books.statistics)
    }
}
