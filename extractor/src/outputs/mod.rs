//! The outputs: a pcap for each call, rows in two CSV files and in Parquet files, and records in
//! JSON.
//!
//! For each window, each call with something to write is a separate job. Jobs run in parallel; each
//! opens the file of its call, writes, and closes it. So the number of open files is the number of
//! threads, however many calls there are. Between windows, each open call has a `Recording` with
//! statistics but no packet data.
//!
//! The modules import each other in one direction:
//!
//! ```text
//! rows -> record, table, dataset, summary, columns; summary -> recording -> call_file, streams, settled
//! table, record -> figures, text; record -> summary; dataset -> columns, parts, value -> text
//! merged -> legs -> call_file -> frames
//! call_file, table, given -> directory -> parts, names, settings
//! settled -> records, mute, redact, runs; redact -> records, mute
//! ```

mod buffer;
mod call_file;
mod columns;
mod dataset;
mod directory;
mod figures;
mod frames;
mod given;
mod legs;
mod merged;
mod mute;
mod names;
mod parts;
mod record;
mod recording;
mod records;
mod redact;
mod rows;
mod runs;
mod settings;
mod settled;
mod streams;
mod stretches;
mod summary;
mod table;
mod text;
pub mod uploads;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use self::{
    buffer::GatherBuffer,
    call_file::CallFile,
    dataset::{Dataset, DatasetProgress, RunName},
    given::FileNames,
    legs::Legs,
    merged::Merged,
    mute::MediaForm,
    names::Stem,
    recording::Recording,
    redact::Redactions,
    rows::{RowForm, Rows},
    settled::Settled,
    stretches::Stretches,
    summary::CallSummary,
    table::{Form, Replaced, RowFile, RowProgress},
    uploads::{Due, Uploads},
};
pub use self::{
    columns::Columns,
    dataset::{IS_BUILT_IN as HAS_PARQUET, MISSING as PARQUET_MISSING},
    directory::Directory,
    names::{is_of_a_call, rfc3339},
    records::Records,
    settings::OutputSettings,
    stretches::{DueReport, Every, Found, Stretch},
    text::printable,
};
use crate::{
    calls::{Call, CallNumber, CallTable, FlowTable, LegGroup, Work},
    counts::CallCounts,
    events::{Repetition, SipEvent},
    moment::Clock,
    problems::Thresholds,
    selection::Selection,
    source::NamedInput,
};

/// The name of the records in JSON.
pub const JSON_NAME: &str = "calls.jsonl";

/// All files that a run writes.
///
/// A unit of work appends to hidden files only. When it is done and the state has its [`Books`],
/// the complete files are published. So a published call file never changes, and a run that is
/// killed loses only its current unit.
#[derive(Debug)]
pub struct Outputs {
    directory: Directory,
    detected_calls: RowFile,
    statistics: RowFile,
    /// `calls.jsonl`, if the user wants it.
    json: Option<RowFile>,
    /// Parquet files, if the user wants them.
    dataset: Option<Dataset>,
    books: Books,
    overwrites: bool,
    counts: CallCounts,
    selection: Selection,
    /// The location of the call files as objects, for the CSV rows.
    location: Option<S3Uri>,
    columns: Columns,
    thresholds: Thresholds,
    shows_digits: bool,
    tells_of_calls: bool,
    writes_conversations: bool,
    uploads: Uploads,
    /// Files that become due for upload when they are published.
    newly_due: Vec<Due>,
    /// How much time a report covers, if there are reports of stretches.
    reports_every: Option<Every>,
    /// The Call-IDs of all legs of the conversations of calls that the user selects by Call-ID.
    found_legs: BTreeSet<Box<[u8]>>,
}

/// The state of all output files, with which another process can continue.
#[derive(Debug, Serialize, Deserialize)]
pub struct Books {
    names: FileNames,
    recordings: BTreeMap<CallNumber, Box<Recording>>,
    /// Ended calls that may be legs of conversations, if these have files.
    legs: Legs,
    /// The rows of closed calls, until no call can have closed before them.
    closed: BTreeMap<CloseOrder, Rows>,
    /// The files of ended calls, ready to be published.
    complete: Vec<String>,
    /// Hidden files that were rewritten in another format.
    obsolete: Vec<String>,
    /// Files that are due for upload, the oldest first.
    due: Vec<Due>,
    detected_calls: RowProgress,
    statistics: RowProgress,
    json: RowProgress,
    dataset: DatasetProgress,
    redactions: Redactions,
    /// The stretches of the records, if they have reports.
    stretches: Option<Stretches>,
}

impl Books {
    /// Returns true if files are due for upload.
    #[must_use]
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }
}

/// The order of rows: the closing time of a call, its start, its Call-ID, its number.
type CloseOrder = (Clock, u64, Box<[u8]>, CallNumber);

/// The work on one call in this window, and its results.
struct Job<'a> {
    work: Work,
    call: &'a Call,
    recording: Box<Recording>,
    /// The hidden file that the call's file has replaced.
    obsolete: Option<String>,
    /// The rows of an ended call.
    rows: Option<Rows>,
    /// True when an ended call has a file.
    has_file: bool,
}

/// The handling of a call in this window: it gets a recording, it has one, or it is skipped.
enum Course {
    Begins { stem: Stem, media: MediaForm },
    IsNotWanted,
    GoesOn,
}

/// The destination of a job's results, and the results that are wanted.
#[derive(Clone, Copy)]
struct Destination<'a> {
    directory: &'a Directory,
    selection: &'a Selection,
    location: Option<&'a S3Uri>,
    columns: Columns,
    thresholds: &'a Thresholds,
    shows_digits: bool,
    writes_json: bool,
    writes_parquet: bool,
    tells_of_calls: bool,
    redactions: Option<&'a Redactions>,
}

/// Logs a call event: at level info for services and for users who ask, else at level debug.
macro_rules! tell {
    ($to:expr, $($line:tt)*) => {
        if $to.tells_of_calls { tracing::info!($($line)*) } else { tracing::debug!($($line)*) }
    };
}

impl Job<'_> {
    /// Writes the settled frames, and creates the rows of an ended call.
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
        let state = work.end.map(|end| end.state);
        let may_have_file = to.selection.may_give_file(state, messages);
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
                redactions: to.redactions,
            },
        )?;
        let Some(end) = work.end else { return Ok(()) };
        let summary = CallSummary::of(call, end, recording, to.thresholds);
        if to.selection.wants(&summary.ended()) {
            *has_file = to.selection.gives_file(end.state, recording.sip_packets);
            let file_name = has_file.then(|| recording.file.name());
            let form = RowForm {
                file_name: file_name.as_deref(),
                location: to.location,
                shows_digits: to.shows_digits,
                columns: to.columns,
                writes_json: to.writes_json,
                writes_parquet: to.writes_parquet,
            };
            *rows = Some(Rows::of(&summary, &form)?);
            tell!(to, call_id = %printable(&call.call_id), file = %recording.file.name(), state = %end.state, "call closed");
            if tracing::enabled!(tracing::Level::DEBUG) {
                recording.tell_of_silence(call);
            }
        } else {
            tell!(to, call_id = %printable(&call.call_id), file = %recording.file.name(), "call left out: --since, --min-duration, --state or --problems excludes it");
        }
        Ok(())
    }
}

impl Outputs {
    /// Opens the outputs in a directory, without a change to it.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(directory: Directory, settings: &OutputSettings, uploads: Uploads) -> Result<Self> {
        let detected_calls = RowFile::new(
            &directory,
            &settings.detected_calls_filename,
            Form::Csv(columns::DETECTED_CALLS, settings.columns),
        );
        let statistics = RowFile::new(
            &directory,
            &settings.stats_filename,
            Form::Csv(columns::STATISTICS, settings.columns),
        );
        let json = || RowFile::new(&directory, Path::new(JSON_NAME), Form::Json);
        let json = settings.writes_json.then(json);
        let dataset = settings.parquet.as_deref();
        let dataset = dataset.map(|path| Dataset::new(path, settings.syncs));
        let books = Books {
            names: FileNames::new(&directory, settings.overwrite)?,
            recordings: BTreeMap::new(),
            legs: Legs::default(),
            closed: BTreeMap::new(),
            complete: Vec::new(),
            obsolete: Vec::new(),
            due: Vec::new(),
            detected_calls: RowProgress::default(),
            statistics: RowProgress::default(),
            json: RowProgress::default(),
            dataset: DatasetProgress::default(),
            redactions: Redactions::default(),
            stretches: None,
        };
        Ok(Self {
            directory,
            detected_calls,
            statistics,
            json,
            dataset,
            books,
            overwrites: settings.overwrite,
            counts: CallCounts::default(),
            selection: settings.selection.clone(),
            location: settings.location.clone(),
            columns: settings.columns,
            thresholds: settings.thresholds,
            shows_digits: settings.shows_digits,
            tells_of_calls: settings.tells_of_calls,
            writes_conversations: settings.writes_conversations,
            uploads,
            newly_due: Vec::new(),
            reports_every: settings.reports_every,
            found_legs: BTreeSet::new(),
        })
    }

    /// Starts without books, over these files, or over directories.
    ///
    /// # Errors
    /// See [`Self::resume`].
    pub fn begin(&mut self, files: Option<&[NamedInput]>) -> Result<()> {
        if self.dataset.is_some() {
            let run = RunName::begin(self.directory.path(), files);
            self.books.dataset = DatasetProgress::begin(run);
        }
        self.resume(None)
    }

    /// Continues from the books, or starts without any: publishes the complete files, and removes
    /// or truncates what the books do not have. Creates the CSV files with their headers if they do
    /// not exist.
    ///
    /// # Errors
    /// A file cannot be changed, or is shorter than in the books, or a CSV file has other columns.
    pub fn resume(&mut self, books: Option<Books>) -> Result<()> {
        let is_fresh = books.is_none();
        if let Some(books) = books {
            self.books = books;
            if !self.overwrites {
                self.books.names.ask_always();
            }
        }
        // A run with another flag, or the first with it, knows nothing about the file.
        let stretches = self.books.stretches.take();
        self.books.stretches = self.reports_every.map(|every| {
            let known = stretches.filter(|known| known.every() == every);
            known.unwrap_or_else(|| Stretches::new(every))
        });
        for file in self.row_files() {
            file.lock()?;
        }
        self.publish()?;
        self.uploads.resume(&self.books.due);
        for file in self.row_files() {
            file.begin()?;
        }
        // A service appends in each of its runs, so it needs no notice.
        if is_fresh && !self.tells_of_calls {
            self.detected_calls.tell_of_rows(self.overwrites)?;
        }
        let of_calls = self.books.recordings.values().flat_map(|recording| {
            let (file, order) = (&recording.file, recording.order.as_ref());
            let order = order.map(|order| (order.name(), order.len()));
            order.into_iter().chain([(file.name(), file.len())])
        });
        let known = of_calls.chain(self.books.legs.written());
        let known = known.filter(|(_, len)| *len > 0).collect();
        self.directory.cut_back(&known)?;
        self.detected_calls.cut_back(&self.books.detected_calls)?;
        self.statistics.cut_back(&self.books.statistics)?;
        if let Some(json) = &self.json {
            json.cut_back(&self.books.json)?;
        }
        if let Some(dataset) = &self.dataset {
            dataset.cut_back(&self.books.dataset)?;
        }
        Ok(())
    }

    fn row_files(&mut self) -> impl Iterator<Item = &mut RowFile> {
        [&mut self.detected_calls, &mut self.statistics]
            .into_iter()
            .chain(&mut self.json)
    }

    /// The books, with which another process can continue.
    #[must_use]
    pub fn into_books(self) -> Books {
        self.books
    }

    /// Syncs the written data to disk, and returns the books for it.
    ///
    /// # Errors
    /// A file cannot be synced to disk.
    pub fn prepare(&mut self) -> Result<&Books> {
        self.detected_calls
            .prepare(&mut self.books.detected_calls, &self.directory)?;
        self.statistics
            .prepare(&mut self.books.statistics, &self.directory)?;
        if let Some(json) = &self.json {
            json.prepare(&mut self.books.json, &self.directory)?;
        }
        if let Some(stretches) = &mut self.books.stretches {
            let (published, pending) = self.books.json.lengths();
            stretches.prepare(published, pending, self.overwrites);
        }
        if let Some(dataset) = &mut self.dataset {
            dataset.prepare(&mut self.books.dataset)?;
        }
        self.directory.sync()?;
        self.books.due = self.uploads.carried_over(&self.newly_due);
        self.books
            .recordings
            .values_mut()
            .for_each(|recording| recording.file.note_state());
        Ok(&self.books)
    }

    /// Publishes the files of ended calls, and appends their rows. The saved state has the books by
    /// now, so a process that reads them after a kill repeats this step.
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
        // The table of calls comes last, because its pending rows say which earlier rows are
        // replaced.
        let replaced = if self.overwrites {
            self.detected_calls
                .pending_calls(&self.books.detected_calls)?
        } else {
            Replaced::default()
        };
        self.statistics
            .publish(&mut self.books.statistics, directory, &replaced)?;
        if let Some(json) = &mut self.json {
            json.publish(&mut self.books.json, directory, &replaced)?;
        }
        self.detected_calls
            .publish(&mut self.books.detected_calls, directory, &replaced)?;
        if let Some(dataset) = &self.dataset {
            dataset.publish(&mut self.books.dataset)?;
        }
        self.books
            .obsolete
            .iter()
            .try_for_each(|file_name| directory.remove_part(file_name))?;
        self.books.obsolete.clear();
        Ok(())
    }

    /// The reports of stretches that are out of date, in the order of time.
    #[must_use]
    pub fn due_reports(&self) -> Vec<DueReport> {
        let stretches = self.books.stretches.as_ref();
        stretches.map_or_else(Vec::new, Stretches::due)
    }

    /// Notes that such a report was made. The state does not have it until it is saved again; until
    /// then a run that is killed makes the report once more.
    pub fn report_made(&mut self, report: DueReport, found: Found) {
        if let Some(stretches) = &mut self.books.stretches {
            stretches.made(report, found);
        }
    }

    /// Waits while uploads are far behind, as long as `goes_on` returns true.
    pub fn keep_pace(&self, goes_on: impl FnMut() -> bool) {
        self.uploads.keep_pace(goes_on);
    }

    /// Uploads the due files, as far as that is possible now. With `patience`, starts no new
    /// upload, and waits no longer than that. Returns true if the saved state is out of date
    /// afterwards.
    pub fn finish_uploads(&self, patience: Option<Duration>, alive: impl FnMut()) -> bool {
        let json = self.json.iter().map(RowFile::path);
        let tables = [self.detected_calls.path(), self.statistics.path()];
        let tables: Vec<PathBuf> = tables.into_iter().chain(json).collect();
        self.uploads.finish(&tables, patience, alive)
    }

    /// The number of calls with a recording.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.books.recordings.len()
    }

    /// Notes where the keys in the messages of a window are, and in frames that repeat parts of
    /// messages, both in capture order, if the user wants them blanked.
    pub fn note_keys(
        &mut self,
        messages: &[SipEvent<'_>],
        repetitions: &[Repetition],
        records: Records<'_>,
    ) {
        if !self.selection.redacts_keys {
            return;
        }
        let redactions = &mut self.books.redactions;
        let mut repetitions = repetitions.iter().peekable();
        for message in messages {
            while let Some(repetition) = repetitions.next_if(|one| one.at < message.at) {
                redactions.note_repetition(repetition, records);
            }
            redactions.note(message, records);
        }
        repetitions.for_each(|repetition| redactions.note_repetition(repetition, records));
    }

    /// The number of messages of which more than their keys was blanked.
    #[must_use]
    pub fn blanked_messages(&self) -> u64 {
        self.books.redactions.blanked
    }

    /// The sums over all closed calls.
    #[must_use]
    pub fn counts(&self) -> &CallCounts {
        &self.counts
    }

    /// Writes what is settled: frames to the call files, the files of `conversations` that are
    /// complete, and the rows of calls that closed before `now`.
    ///
    /// # Errors
    /// A file cannot be written; the error names it.
    pub fn write(
        &mut self,
        work: Vec<Work>,
        conversations: &[LegGroup],
        table: &CallTable,
        records: Records<'_>,
        lookback_ns: u64,
        now: Clock,
    ) -> Result<()> {
        let mut jobs = self.jobs(work, table, records)?;
        let redactions = &self.books.redactions;
        let to = Destination {
            directory: &self.directory,
            selection: &self.selection,
            location: self.location.as_ref(),
            columns: self.columns,
            thresholds: &self.thresholds,
            shows_digits: self.shows_digits,
            writes_json: self.json.is_some(),
            writes_parquet: self.dataset.is_some(),
            tells_of_calls: self.tells_of_calls,
            redactions: self.selection.redacts_keys.then_some(redactions),
        };
        jobs.par_iter_mut()
            .with_max_len(64)
            .try_for_each_init(GatherBuffer::default, |buffer, job| {
                job.run(to, buffer, table.flows(), records, lookback_ns)
            })?;
        let ended = jobs.iter().filter(|job| job.has_file);
        let ended: Vec<CallNumber> = ended.map(|job| job.work.number).collect();
        for job in jobs {
            self.put_away(job)?;
        }
        if self.writes_conversations {
            self.join(conversations)?;
            self.books.legs.keep(&ended, &self.directory)?;
        }
        self.books.redactions.forget_written(now, lookback_ns);
        self.write_rows(now)
    }

    /// Creates the jobs. Names are given to new calls in the order in which they opened. A call
    /// that is not wanted gets no recording.
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
                media: MediaForm::of(selection, call),
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
                Course::Begins { stem, media } => Recording::new(
                    self.books.names.give(stem, &self.directory)?,
                    media,
                    (self.json.is_some(), self.writes_conversations),
                    call,
                    records,
                )
                .map(Box::new),
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

    /// Keeps the recording of an open call, or the rows of an ended one, which it counts. An ended
    /// call that turned out to be unwanted has no rows.
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
            self.deliver(&recording.file);
        } else if recording.file.is_in_state() {
            self.books.obsolete.push(recording.file.name());
        } else if recording.file.len() > 0 {
            // No state records the file, so it need not use disk space until the unit of work is
            // done.
            self.directory.remove_part(&recording.file.name())?;
        }
        if let Some(order) = recording.order.filter(|order| order.len() > 0) {
            if has_file {
                self.books.legs.add(recording.file, order, recording.media);
            } else {
                self.books.obsolete.push(order.name());
            }
        }
        Ok(())
    }

    /// Writes the files of conversations that no call can join any more, and forgets their legs.
    fn join(&mut self, conversations: &[LegGroup]) -> Result<()> {
        let mut merged = Vec::new();
        for group in conversations {
            self.note_legs(group);
            let legs = self.books.legs.take(group);
            if legs.len() < 2 {
                self.books.obsolete.extend(legs::obsolete(legs));
            } else if let Some(first) = group.legs.first() {
                let stem = Stem::of_conversation(first);
                let name = self.books.names.give(stem, &self.directory)?;
                merged.push(Merged { name, legs });
            }
        }
        let directory = &self.directory;
        let files = merged
            .par_iter()
            .with_max_len(1)
            .map_init(GatherBuffer::default, |buffer, one| {
                one.write(directory, buffer)
            });
        let files: Vec<_> = files.collect::<Result<_>>()?;
        for (one, file) in merged.into_iter().zip(files) {
            self.books.names.release(&one.name);
            self.books.obsolete.extend(legs::obsolete(one.legs));
            if let Some(file) = file {
                self.deliver(&file);
                self.counts.conversations = self.counts.conversations.saturating_add(1);
            }
        }
        Ok(())
    }

    fn note_legs(&mut self, group: &LegGroup) {
        if let Some(only) = &self.selection.only
            && group.has_any_of(only)
        {
            let call_ids = group.legs.iter().map(|leg| (*leg.call_id).into());
            self.found_legs.extend(call_ids);
        }
    }

    /// Takes the Call-IDs of all legs of the conversations of calls that the user selects by
    /// Call-ID.
    pub fn take_legs(&mut self) -> BTreeSet<Box<[u8]>> {
        std::mem::take(&mut self.found_legs)
    }

    /// Has a complete file published, and uploaded if the user wants that.
    fn deliver(&mut self, file: &CallFile) {
        if let Some(to) = self.uploads.destination() {
            self.newly_due.push(Due {
                file_name: file.name(),
                to: to.clone(),
                len: file.len(),
            });
        }
        self.books.complete.push(file.name());
    }

    /// Writes the rows of calls that closed before `now`, in the order of closing.
    fn write_rows(&mut self, now: Clock) -> Result<()> {
        let not_yet = self
            .books
            .closed
            .split_off(&(now, 0, Box::default(), CallNumber(0)));
        let ready = std::mem::replace(&mut self.books.closed, not_yet);
        self.append(ready)
    }

    /// Writes all remaining rows, at the end of the input.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        let last = std::mem::take(&mut self.books.closed);
        self.append(last)?;
        if let Some(dataset) = self.dataset.as_ref().filter(|_| self.overwrites) {
            dataset.replace_earlier(&mut self.books.dataset)?;
        }
        Ok(())
    }

    fn append(&mut self, ready: BTreeMap<CloseOrder, Rows>) -> Result<()> {
        for ((_, start_ns, ..), rows) in ready {
            if let Some(stretches) = &mut self.books.stretches {
                stretches.note(start_ns);
            }
            self.detected_calls.push(&rows.detected_call);
            self.statistics.push(&rows.statistics);
            if let Some(json) = &mut self.json {
                json.push(&rows.json);
            }
            if let Some((dataset, values)) = self.dataset.as_mut().zip(rows.values) {
                dataset.push(values, &self.books.dataset)?;
            }
        }
        self.detected_calls.append(&mut self.books.detected_calls)?;
        self.statistics.append(&mut self.books.statistics)?;
        if let Some(json) = &mut self.json {
            json.append(&mut self.books.json)?;
        }
        Ok(())
    }
}
