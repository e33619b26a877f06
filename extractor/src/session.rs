//! Data that live from unit to unit: the calls, their files, and the state in which both are saved.

use std::{mem, ops::Range, time::Duration};

use anyhow::Result;

use crate::{
    calls::{CallTable, Texts},
    config::{Config, Source},
    events::{FlowKey, SipEvent},
    moment::{MAX_INPUTS, Moment},
    outputs::{Directory, Outputs, Records, printable, uploads::Uploads},
    points::StoredPoints,
    progress::Progress,
    reassembly::{MAX_HOLD_NS, Unfinished},
    report::Report,
    reports::Reports,
    resume::{Resume, SavedState, give_up},
    sdp::Rank,
    source::{Carried, Input, InputError, Inputs, NamedInput},
    state::StateFile,
    survey::Survey,
    terms::Terms,
    unit::{Checkpoint, Reading, Unit},
    windows::{Start, Window},
};

/// A delay between capture and reading that is unusual: an hour, in nanoseconds.
const FAR_NS: u64 = 3_600_000_000_000;

/// Data that live from unit to unit.
#[derive(Debug)]
pub struct Session<'c> {
    config: &'c Config,
    progress: &'c Progress,
    uploads: &'c Uploads,
    file: StateFile,
    terms: Terms,
    checkpoint: Checkpoint,
    unfinished: Unfinished,
    carried: Carried,
    reports: Reports<'c>,
    /// The calls, and their files.
    pub extraction: Extraction<'c>,
    /// The outcome so far.
    pub report: Report,
}

/// The calls, and their files.
#[derive(Debug)]
pub struct Extraction<'c> {
    config: &'c Config,
    calls: CallTable,
    outputs: Outputs,
}

/// The part of the state that tells which inputs to read next.
#[derive(Debug, Default)]
pub struct Rest {
    /// True when the earlier run was complete.
    pub is_finished: bool,
    /// The inputs that were not read to their end.
    pub left: Vec<NamedInput>,
    /// The offset in the first of them at which reading continues, in bytes.
    pub offset: Option<usize>,
    /// The known segments of the input directories.
    pub points: StoredPoints,
}

impl<'c> Session<'c> {
    /// Resumes from the state, or begins anew if there is none, or if the run `resets` it. The
    /// state must have been written on the same `terms`.
    ///
    /// # Errors
    /// The directory cannot be used, or the state does not fit. Nothing has been changed.
    pub fn open(
        config: &'c Config,
        directory: Directory,
        terms: Terms,
        resets: bool,
        uploads: &'c Uploads,
        progress: &'c Progress,
    ) -> Result<(Self, Rest)> {
        let file = StateFile::of(&config.outputs.directory, config.outputs.syncs);
        if resets {
            give_up(&file, config, &directory);
        }
        let resume = Resume::find(&file, &terms, config, &directory, uploads)?;
        let (terms, settings) = resume.settle(terms, &config.outputs);
        let mut session = Self {
            config,
            progress,
            uploads,
            file,
            terms,
            extraction: Extraction {
                config,
                calls: new_calls(config),
                outputs: Outputs::open(directory, &settings, uploads.clone())?,
            },
            checkpoint: Checkpoint::default(),
            unfinished: Unfinished::default(),
            carried: Carried::default(),
            reports: Reports::of(config),
            report: Report::default(),
        };
        session.file.remove_broken_off()?;
        let rest = match resume {
            Resume::Fresh => {
                let files = session.terms.files.as_deref();
                session.extraction.outputs.begin(files)?;
                Rest::default()
            }
            Resume::Finished(state, carried) => Rest {
                is_finished: true,
                ..session.resume(*state, carried)?
            },
            Resume::Continue(state, carried) => session.resume(*state, carried)?,
        };
        Ok((session, rest))
    }

    fn resume(&mut self, state: SavedState, carried: Carried) -> Result<Rest> {
        let SavedState {
            points,
            calls,
            unfinished,
            books,
            mut checkpoint,
            terms: _,
        } = state;
        self.extraction.outputs.resume(Some(books))?;
        let rest = Rest {
            is_finished: false,
            left: mem::take(&mut checkpoint.left),
            offset: checkpoint.offset.take(),
            points,
        };
        (
            self.extraction.calls,
            self.checkpoint,
            self.unfinished,
            self.carried,
        ) = (calls, checkpoint, unfinished, carried);
        self.report.is_resumed = true;
        Ok(rest)
    }

    /// Skips an input that is missing now; the records that are carried over from it keep its
    /// number.
    pub fn pass_over_input(&mut self) {
        self.checkpoint.next_input = self.checkpoint.next_input.saturating_add(1);
    }

    /// Numbers the inputs of a unit, after the held records. Returns all inputs, and the number of
    /// held records.
    ///
    /// # Errors
    /// A held record cannot be read.
    pub fn number(&mut self, inputs: Vec<Input>) -> Result<(Inputs, usize), InputError> {
        let held = mem::take(&mut self.checkpoint.held).into_iter();
        let held = held.map(|held| Input::of_record(held.name, held.file));
        let held: Vec<Input> = held.collect::<Result<_, _>>()?;
        let before = held.len();
        // Packets of different inputs compare by time. So numbers may start again, long before the
        // old ones are reached.
        let after = self
            .checkpoint
            .next_input
            .saturating_add(before)
            .saturating_add(inputs.len());
        let first = if after >= MAX_INPUTS {
            0
        } else {
            self.checkpoint.next_input
        };
        let inputs = Inputs::new(
            first,
            held.into_iter().chain(inputs).collect(),
            mem::take(&mut self.carried),
        );
        Ok((inputs, before))
    }

    /// Begins to read the inputs of a unit, which follow `before` held records.
    pub fn begin<'w>(&mut self, inputs: &'w Inputs, before: usize, unit: Unit) -> Reading<'w>
    where
        'c: 'w,
    {
        self.note_damage(inputs);
        self.warn_of_lag(inputs);
        self.progress.begin(inputs.total_bytes());
        let Checkpoint {
            clock,
            timeline,
            pace,
            ..
        } = self.checkpoint;
        let start = Start {
            clock,
            timeline,
            pace,
            unfinished: mem::take(&mut self.unfinished),
        };
        Reading::begin(inputs, before, unit.left, start, self.config, unit.is_final)
    }

    /// The number of open calls that are selected.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.extraction.outputs.open_calls()
    }

    /// True when a run over an archive has all of the calls that are wanted: they have ended, and
    /// nothing before `end` is left that may be theirs.
    #[must_use]
    pub fn has_found_all(&self, end: Moment) -> bool {
        let Source::Archive(archive) = &self.config.source else {
            return false;
        };
        let held_ns = MAX_HOLD_NS.saturating_add(self.config.rules.lookback_ns);
        let settled = archive
            .last_message
            .saturating_add(held_ns.saturating_mul(2));
        let awaits_legs = || {
            let only = self.config.outputs.selection.only.as_deref();
            archive.awaits_legs
                && only.is_some_and(|only| self.extraction.calls.has_incomplete_conversation(only))
        };
        end.clock > settled && self.open_calls() == 0 && !awaits_legs()
    }

    /// True when a run over an archive needs segments that were left out: at `end`, the calls that
    /// are wanted have not ended.
    #[must_use]
    pub fn needs_more(&self, end: Moment) -> bool {
        let is_cut = matches!(&self.config.source, Source::Archive(archive) if archive.is_cut);
        is_cut && !self.has_found_all(end)
    }

    /// The configuration of the run.
    #[must_use]
    pub fn config(&self) -> &'c Config {
        self.config
    }

    /// The number of all open calls.
    #[must_use]
    pub fn all_open_calls(&self) -> usize {
        self.extraction.calls.open()
    }

    /// The size of the last saved state, in bytes.
    #[must_use]
    pub fn state_len(&self) -> u64 {
        self.carried.bytes().len() as u64
    }

    /// Packet time, in nanoseconds since 1970.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.checkpoint.clock
    }

    /// The number of closed calls.
    #[must_use]
    pub fn closed_calls(&self) -> u64 {
        self.extraction.outputs.counts().total()
    }

    /// Adds the counters of a window to the report, and logs its unreadable parts.
    pub fn note_window(&mut self, window: &Window<'_>, inputs: &Inputs) {
        self.report.counts.add_all(&window.counts);
        for (_, drops) in &window.drops {
            self.report.dropped.add(drops);
        }
        for (input, gap) in &window.gaps {
            self.report
                .note_gap(inputs.get(*input).map_or("", Input::name), gap);
        }
    }

    /// Ends a window: updates the progress, and surveys the capture as long as it has no call.
    pub fn end_window(&mut self, window: Range<Moment>, reading: &Reading<'_>) {
        let calls = self.closed_calls().saturating_add(self.open_calls() as u64);
        self.progress.advance(reading.bytes_read(), calls);
        if self.has_calls() || self.report.survey.is_full() {
            return;
        }
        reading
            .records()
            .for_each_between(window.start.position..window.end.position, |record| {
                let packet = self.config.decoder.decode(record.link, record.frame);
                self.report.survey.add_packet(&packet, &self.config.decoder);
                !self.report.survey.is_full()
            });
    }

    /// Commits the work so far: a run that is killed later resumes from `checkpoint`. Returns the
    /// records that are carried over.
    ///
    /// # Errors
    /// The state cannot be written. The old state is still there, and the session cannot continue.
    pub fn save(
        &mut self,
        unfinished: &Unfinished,
        checkpoint: &Checkpoint,
        points: StoredPoints,
        records: Records<'_>,
    ) -> Result<Carried> {
        let mut positions = Vec::new();
        self.extraction
            .calls
            .for_each_frame(&mut |position| positions.push(position));
        unfinished.for_each_frame(&mut |position| positions.push(position));
        let state = crate::state::State {
            terms: self.terms.clone(),
            checkpoint: checkpoint.clone(),
            points,
            calls: &self.extraction.calls,
            unfinished,
            books: self.extraction.outputs.prepare()?,
        };
        let carried = self
            .file
            .save(&state, |mut to| records.carry(positions, &mut to))?;
        self.extraction.outputs.publish()?;
        Ok(carried)
    }

    /// Ends a unit that has been read completely, and saves the state.
    ///
    /// # Errors
    /// The state cannot be written: see [`Self::save`].
    pub fn finish(
        &mut self,
        reading: Reading<'_>,
        inputs: &Inputs,
        is_final: bool,
        points: StoredPoints,
    ) -> Result<()> {
        self.report.fragments = reading.assembler().fragment_counts();
        self.report.streams = reading.assembler().stream_counts();
        let mut checkpoint = reading.last_checkpoint();
        let (mut unfinished, layouts) = reading.into_parts();
        if is_final {
            // The next unit has nothing to do with this one, so packet time begins anew, too, even
            // if a wrong clock has moved it far ahead.
            self.note_calls();
            self.extraction.calls = new_calls(self.config);
            (checkpoint, unfinished) = (Checkpoint::default(), Unfinished::default());
        }
        let records = Records {
            inputs,
            layouts: &layouts,
            decoder: &self.config.decoder,
        };
        self.carried = self.save(&unfinished, &checkpoint, points, records)?;
        self.report.input_bytes = self.report.input_bytes.saturating_add(inputs.total_bytes());
        (self.checkpoint, self.unfinished) = (checkpoint, unfinished);
        Ok(())
    }

    /// Waits while uploads are far behind, as long as `goes_on` returns true.
    pub fn keep_pace(&self, mut goes_on: impl FnMut() -> bool) {
        self.extraction.outputs.keep_pace(|| {
            self.progress.alive();
            goes_on()
        });
    }

    /// Uploads the due files, for at most `patience`. Returns true if the state must be saved
    /// again.
    pub fn finish_uploads(&mut self, patience: Option<Duration>) -> bool {
        // The summary shows how long extraction took, without the uploads.
        self.report.elapsed = self.progress.finish();
        self.extraction
            .outputs
            .finish_uploads(patience, || self.progress.alive())
    }

    /// Makes reports of hours or days that are out of date: `all` of them, or those for which there
    /// is time. Returns true if the state must be saved again to say so.
    ///
    /// # Errors
    /// A report cannot be written.
    pub fn make_reports(&mut self, all: bool) -> Result<bool> {
        let (outputs, progress) = (&mut self.extraction.outputs, self.progress);
        self.reports.make(all, outputs, || progress.alive())
    }

    /// The report of the run.
    #[must_use]
    pub fn into_report(mut self) -> Report {
        self.note_calls();
        self.report.calls.add_all(self.extraction.outputs.counts());
        self.report.blanked_messages = self.extraction.outputs.blanked_messages();
        self.report.open_calls = self.open_calls() as u64;
        self.report.legs = self.extraction.outputs.take_legs();
        if self.has_calls() {
            self.report.survey = Survey::default();
        }
        self.report.uploads = self.uploads.counts();
        if self.report.elapsed.is_zero() {
            self.report.elapsed = self.progress.finish();
        }
        self.report
    }

    fn has_calls(&self) -> bool {
        let closed = self
            .closed_calls()
            .saturating_add(self.extraction.outputs.counts().not_wanted);
        closed > 0 || self.extraction.calls.open() > 0 || self.open_calls() > 0
    }

    fn note_calls(&mut self) {
        self.report.stray_messages = self
            .report
            .stray_messages
            .saturating_add(self.extraction.calls.stray_messages());
        self.report.excess.add_all(&self.extraction.calls.excess());
        self.extraction.warn_of_flood();
        self.report
            .unclaimed
            .add_all(&self.extraction.calls.unclaimed().counts());
    }

    /// Warns if the first timestamp of the inputs lags far behind packet time.
    fn warn_of_lag(&self, inputs: &Inputs) {
        let first = inputs
            .all()
            .iter()
            .find_map(|input| Some((input.name(), input.first_ns()?)));
        if let Some((name, first_ns)) = first
            && let Some(lag_ns) = self.checkpoint.timeline.lag_ns(first_ns)
            && lag_ns > FAR_NS
        {
            tracing::warn!(
                "{name} begins {} s before the packet time that was reached: the clock of the capture was set back, or was wrong before; calls that are open last longer by that",
                lag_ns / 1_000_000_000
            );
        }
    }

    /// Logs the inputs that could not be decompressed completely.
    fn note_damage(&mut self, inputs: &Inputs) {
        for input in inputs.all() {
            if let Some(damage) = input.damage() {
                self.report.damaged_inputs = self.report.damaged_inputs.saturating_add(1);
                tracing::warn!("{}: {damage}", input.name());
            }
        }
    }
}

impl Extraction<'_> {
    /// Assigns the packets of a window to calls: see [`correlate`].
    pub fn correlate(&mut self, window: Window<'_>, records: Records<'_>) -> Moment {
        self.outputs
            .note_keys(&window.sip, &window.repetitions, records);
        correlate(&mut self.calls, window, self.config.rules.lookback_ns)
    }

    /// Writes the packets before `settled`, and forgets them. Returns the moment of the first
    /// packet that is left to be written.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&mut self, settled: Moment, now: Moment, records: Records<'_>) -> Result<Moment> {
        let (work, left_since) = self.calls.work(settled);
        let conversations = self.calls.take_complete_conversations();
        self.outputs.write(
            work,
            &conversations,
            &self.calls,
            records,
            self.config.rules.lookback_ns,
            now.clock,
        )?;
        self.calls.retire_window(settled, left_since, |left| {
            // A search tells nothing of other calls, and reads nothing of them.
            let is_search = matches!(self.config.source, Source::Archive(_));
            let is_rtp = !is_search && records.are_rtp(left);
            if is_rtp {
                let FlowKey { source, destination, .. } = left.key;
                tracing::debug!(%source, %destination, "RTP of no call: no call that was open at its time gave either endpoint");
            }
            is_rtp
        });
        Ok(left_since)
    }

    /// Warns if calls were given up as a flood in this unit of work, and names the senders.
    fn warn_of_flood(&self) {
        let sources = self.calls.flood_sources(3);
        if !sources.is_empty() {
            let max = self.config.rules.max_open_calls;
            let sources = sources
                .iter()
                .map(|(source, count)| format!("{count} from {}", source.ip()));
            let sources = sources.collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "more than {max} calls were open (--max-open-calls): unanswered calls are closed as a flood; most INVITEs: {sources}"
            );
        }
    }

    /// Ends the input at `now`: closes and writes the open calls.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn close(&mut self, now: Moment, records: Records<'_>) -> Result<()> {
        self.calls.finish(now);
        self.write(Moment::NEVER, now, records)?;
        self.outputs.finish()
    }
}

/// Assigns the packets of a window to calls. Returns the moment before which the assignment is
/// settled: a later description may claim later packets, up to `lookback_ns` before it.
pub fn correlate(calls: &mut CallTable, window: Window<'_>, lookback_ns: u64) -> Moment {
    for (clock, drops) in &window.drops {
        calls.add_drops(drops, *clock);
    }
    calls.begin_window(window.flows, window.start, window.end);
    let mut repetitions = window.repetitions.iter().peekable();
    for event in &window.sip {
        while let Some(repetition) = repetitions.next_if(|repetition| repetition.at < event.at) {
            calls.repeat(repetition);
        }
        let strays = calls.stray_messages();
        calls.handle(event);
        if tracing::enabled!(tracing::Level::DEBUG) {
            tell_of(event, calls.stray_messages() > strays);
        }
    }
    repetitions.for_each(|repetition| calls.repeat(repetition));
    calls.end_window(window.end);
    let looked_back_to = Moment::at(window.end.clock.saturating_sub(lookback_ns));
    let held_since = [
        window.held_since.map(Moment::at),
        calls.flows().earliest_frame_since(looked_back_to),
    ];
    held_since
        .into_iter()
        .flatten()
        .fold(looked_back_to, Moment::min)
}

/// A table without calls, for the outputs that the user wants.
fn new_calls(config: &Config) -> CallTable {
    let outputs = &config.outputs;
    let texts = match (outputs.writes_messages, outputs.shows_digits) {
        (false, _) => Texts::No,
        (true, false) => Texts::WithoutDigits,
        (true, true) => Texts::WithDigits,
    };
    CallTable::new(config.rules)
        .with_journals(outputs.writes_json)
        .with_texts(texts)
        .with_numbers(!outputs.selection.numbers.is_empty())
        .with_links(config.links.clone())
        .with_groups(outputs.writes_conversations)
}

/// Logs a message that belongs to no call, or that gives endpoints.
fn tell_of(event: &SipEvent<'_>, is_stray: bool) {
    let SipEvent {
        message, source, ..
    } = event;
    let call_id = printable(message.call_id);
    // A start line ends with CRLF or LF.
    let line = message
        .raw
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let line = printable(line);
    if is_stray {
        tracing::debug!(%call_id, from = %source, line, "message of no call: no INVITE has opened one with its Call-ID, or it has closed");
    } else if message.can_negotiate() {
        for media in event
            .descriptions
            .iter()
            .flat_map(|description| &description.media)
        {
            let endpoints = media.endpoints.iter().map(|(endpoint, rank)| match rank {
                Rank::Implied => format!("{endpoint} (RTCP, implied)"),
                Rank::Guessed => format!("{endpoint} (guessed)"),
                Rank::Named => endpoint.to_string(),
            });
            let endpoints = endpoints.collect::<Vec<_>>().join(", ");
            tracing::debug!(%call_id, from = %source, line, endpoints, "description gives endpoints");
        }
    }
}
