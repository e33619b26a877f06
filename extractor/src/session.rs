//! Units of work: some inputs, worked on window by window, then made to count.
//!
//! Between two of them all that is known is in the state file, so a run may end there and another go on.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    mem,
    ops::Range,
    time::Duration,
};

use anyhow::Result;
use bumpalo::Bump;
use shared::pcap::{DEFAULT_SNAPLEN, GapReason, Record, file_header, record_header};

use crate::{
    calls::CallTable,
    moment::{MAX_INPUTS, Moment, Pace, Position},
    outputs::{
        Books, Directory, Outputs, Records,
        uploads::{UploadCounts, Uploads},
    },
    progress::Progress,
    reassembly::Unfinished,
    report::Report,
    run::Config,
    source::{Carried, Input, Inputs, Layouts, RecentPackets},
    state::{Held, Left, Point, State, StateFile, Terms},
    survey::Survey,
    windows::{Start, Window, Windows},
};

/// Packets that come so much later than they were captured are unusual: an hour, in nanoseconds.
const FAR_NS: u64 = 3_600_000_000_000;

/// A state as it is read.
type Loaded = State<CallTable, Unfinished, Books>;

/// What goes on from unit to unit.
#[derive(Debug)]
pub struct Session<'c> {
    config: &'c Config,
    progress: &'c Progress,
    uploads: &'c Uploads,
    outputs: Outputs,
    file: StateFile,
    terms: Terms,
    calls: CallTable,
    start: Start,
    next_input: usize,
    held: Option<Held>,
    carried: Carried,
    /// Inputs that an earlier process has not read to their end, and where to go on in the first of them.
    pub left: Vec<Left>,
    /// See `left`.
    pub offset: Option<usize>,
    /// What is known of the input directories.
    pub points: Vec<Point>,
    /// Packets of which copies are left out.
    pub recent: RecentPackets,
    /// What happened.
    pub report: Report,
}

/// One unit of work.
#[derive(Debug, Default)]
pub struct Unit {
    /// What is to be read, in this order.
    pub inputs: Vec<Input>,
    /// Of each of them what the state has to know as long as it is not read to its end. With none the unit cannot be
    /// broken off in the middle.
    pub left: Vec<Left>,
    /// Whether it is the last one.
    pub is_final: bool,
}

/// How far a unit has been read, for whoever keeps account of the inputs.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The place of an input in the unit, which is read to its end now.
    pub place: usize,
    /// How far it could be read, in bytes.
    pub read_to: usize,
}

/// What waits for its time.
struct Place {
    next: Moment,
    pace: Pace,
    held: Option<Held>,
    left: Vec<Left>,
    offset: Option<usize>,
}

/// What becomes of what an earlier run left.
enum Legacy {
    /// All was done, but for the names of files, and uploads: nothing of it goes on.
    Ends,
    /// All was done of what there was: what is known goes on, on other terms.
    GoesOnAnew,
    /// It goes on, on the same terms.
    GoesOn,
}

impl Legacy {
    fn of(state: &Loaded, terms: &Terms, uploads: &Uploads) -> Self {
        match (state.terms.reads_directories, terms.reads_directories) {
            (true, true) if state.is_closed() => Self::GoesOnAnew,
            // A run that uploads nothing does not go on for the sake of what is due.
            (false, _) if state.left.is_empty() && (state.terms != *terms || state.books.has_due() && !uploads.are_wanted()) => {
                Self::Ends
            }
            _ => Self::GoesOn,
        }
    }
}

/// Gives the files of a state that is done the names that they have there.
fn publish(state: Loaded, config: &Config, directory: &Directory, uploads: &Uploads) -> Result<Loaded> {
    let settings = state.terms.named(&config.outputs);
    let mut outputs = Outputs::open(directory.try_clone()?, &settings, uploads.clone())?;
    outputs.resume(Some(state.books))?;
    Ok(Loaded { books: outputs.into_books(), ..state })
}

impl<'c> Session<'c> {
    /// Goes on where the state says, or begins anew, as where it `resets` what runs before left. The state must have been
    /// written on the same `terms`.
    ///
    /// # Errors
    /// The directory cannot be used, or the state does not fit. Nothing was changed then.
    pub fn open(
        config: &'c Config,
        directory: Directory,
        terms: Terms,
        resets: bool,
        uploads: &'c Uploads,
        progress: &'c Progress,
    ) -> Result<Self> {
        let file = StateFile::of(&config.outputs.directory, config.outputs.syncs);
        if resets {
            give_up(config, &directory, &file);
        }
        let loaded = match file.load::<CallTable, Unfinished, Books>()? {
            None => None,
            Some((state, carried)) => match Legacy::of(&state, &terms, uploads) {
                Legacy::Ends => {
                    publish(state, config, &directory, uploads)?;
                    // What is due for upload is nowhere else, until there is another state.
                    if uploads.is_empty() {
                        file.remove()?;
                    }
                    None
                }
                Legacy::GoesOnAnew => Some((publish(state, config, &directory, uploads)?, carried)),
                Legacy::GoesOn => {
                    terms.check(&state.terms)?;
                    Some((state, carried))
                }
            },
        };
        let mut session = Self {
            config,
            progress,
            uploads,
            outputs: Outputs::open(directory, &config.outputs, uploads.clone())?,
            file,
            terms,
            calls: CallTable::new(config.rules),
            start: Start::default(),
            next_input: 0,
            held: None,
            carried: Carried::default(),
            left: Vec::new(),
            offset: None,
            points: Vec::new(),
            recent: RecentPackets::default(),
            report: Report::default(),
        };
        session.file.remove_new()?;
        match loaded {
            Some((state, carried)) => session.resume(state, carried)?,
            None => session.outputs.resume(None)?,
        }
        Ok(session)
    }

    fn resume(&mut self, state: Loaded, carried: Carried) -> Result<()> {
        self.outputs.resume(Some(state.books))?;
        self.calls = state.calls;
        self.start = Start { clock: state.clock, pace: state.pace, unfinished: state.unfinished };
        (self.next_input, self.held, self.carried) = (state.next_input, state.held, carried);
        (self.left, self.offset) = (state.left, state.offset);
        (self.points, self.recent) = (state.points, state.recent);
        self.report.is_resumed = true;
        Ok(())
    }

    /// The input that comes next is not there: what is carried over from it keeps its number.
    pub fn pass_over_input(&mut self) {
        self.next_input = self.next_input.saturating_add(1);
    }

    /// How many calls are open, of those that are wanted.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.outputs.open_calls()
    }

    /// How large the state is that was written last, in bytes.
    #[must_use]
    pub fn state_len(&self) -> u64 {
        self.carried.bytes().len() as u64
    }

    /// Packet time so far, in nanoseconds since 1970.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.start.clock
    }

    /// How many calls have been closed.
    #[must_use]
    pub fn closed_calls(&self) -> u64 {
        self.outputs.counts().total()
    }

    /// Works on a unit, and makes it count. Before it does, `done` is told of each input that was read to its end, with what is
    /// known of the directories; it may be told of some while others are still to be read.
    ///
    /// # Errors
    /// A file cannot be written. The session cannot be gone on with then; the state is that of before.
    pub fn work(&mut self, unit: Unit, mut done: impl FnMut(&mut Vec<Point>, Done)) -> Result<()> {
        let Unit { inputs, left, is_final } = unit;
        let before = usize::from(self.held.is_some());
        // Packets of two inputs compare by time: numbers may begin anew, long before those of before come again.
        let is_over = self.next_input.saturating_add(before).saturating_add(inputs.len()) >= MAX_INPUTS;
        let first = if is_over { 0 } else { self.next_input };
        let held = self.held.take().map(|held| Input::of_record(held.name, held.file)).transpose()?;
        let inputs = Inputs::new(first, held.into_iter().chain(inputs).collect(), mem::take(&mut self.carried));
        self.take_note_of_damage(&inputs);
        self.take_note_of_time(&inputs);
        self.progress.begin(inputs.total_bytes());

        let config = self.config;
        let mut layouts = Layouts::of(&inputs);
        let start = mem::take(&mut self.start);
        let mut windows = Windows::new(&inputs, config.sizes.clone(), &config.decoder, config.sip_ports, start, is_final);
        let mut end = windows.next();
        let mut window_ends = VecDeque::new();
        let mut arena = Bump::new();
        let mut ends = Ends { inputs: &inputs, before, cut_at: BTreeMap::new(), told: 0 };
        let mut carried_len = inputs.carried().bytes().len() as u64;
        let mut saved_at = inputs.bytes_before(end.position);
        let mut indexed = windows.index(&layouts, self.calls.open());
        while let Some(window) = windows.join(indexed, &mut layouts, &arena) {
            end = window.end;
            let start = window.start;
            self.take_note(&window, &inputs);
            ends.take(&window);
            // While one window is correlated, which one thread does alone, and written, the next is indexed.
            let (outputs, calls) = (&mut self.outputs, &mut self.calls);
            let (open, records) = (calls.open(), Records { inputs: &inputs, layouts: &layouts, decoder: &config.decoder });
            let (ahead, left_since) = rayon::join(
                || windows.index(&layouts, open),
                || {
                    let settled = correlate(calls, window, config.rules.lookback_ns);
                    write(outputs, calls, settled, end, config, records)
                },
            );
            let left_since = left_since?;
            indexed = ahead;
            arena.reset();
            self.survey(start..end, records);
            window_ends.push_back(end);
            let here = inputs.bytes_before(end.position);
            self.progress.advance(here, self.closed_calls().saturating_add(self.open_calls() as u64));
            // What is carried over is written each time: it should be little beside what was done.
            let is_much = here.saturating_sub(saved_at) >= config.unit.wanted(carried_len);
            let number = end.position.input().saturating_sub(first);
            if is_much && !left.is_empty() && number >= before && end.position.input() < inputs.after_last() {
                ends.tell(number, |seen| done(&mut self.points, seen));
                let rest = left.get(number.saturating_sub(before)..).unwrap_or_default().to_vec();
                let offset = Some(end.position.offset());
                let place = Place { next: end, pace: windows.pace(), held: None, left: rest, offset };
                carried_len = self.save(windows.assembler().unfinished(), &place, records)?.bytes().len() as u64;
                saved_at = here;
                // One who watches has to be able to end: he waits between units.
                if !self.terms.reads_directories {
                    self.keep_pace(|| true);
                }
            }
            release(&inputs, &mut layouts, &mut window_ends, left_since);
        }
        let records = Records { inputs: &inputs, layouts: &layouts, decoder: &config.decoder };
        if is_final {
            self.calls.finish(end);
            write(&mut self.outputs, &mut self.calls, Moment::NEVER, end, config, records)?;
            self.outputs.finish()?;
        }
        let held = windows.held().and_then(|(input, record)| keep(input, &record, &inputs, &layouts));
        ends.tell(usize::MAX, |seen| done(&mut self.points, seen));
        let next = Moment { clock: windows.next().clock, position: Position::new(inputs.after_last(), 0) };
        let mut place = Place { next, pace: windows.pace(), held, left: Vec::new(), offset: None };
        self.report.fragments = windows.assembler().fragment_counts();
        self.report.streams = windows.assembler().stream_counts();
        let mut start = windows.into_start();
        if is_final {
            // What comes next has nothing to do with this: packet time begins anew, too, wherever a damaged clock has taken it.
            self.note_calls();
            self.calls = CallTable::new(config.rules);
            start = Start::default();
            (place.next, place.pace) = (Moment::default(), Pace::default());
            self.points.iter_mut().flat_map(|point| point.series.values_mut()).for_each(|merging| merging.clock = None);
            self.recent = RecentPackets::default();
        }
        self.carried = self.save(&start.unfinished, &place, records)?;
        self.report.input_bytes = self.report.input_bytes.saturating_add(inputs.total_bytes());
        (self.start, self.held, self.next_input) = (start, place.held, place.next.position.input());
        Ok(())
    }

    /// Waits while uploads are far behind, as long as it `goes_on`.
    pub fn keep_pace(&self, mut goes_on: impl FnMut() -> bool) {
        self.outputs.keep_pace(|| {
            self.progress.alive();
            goes_on()
        });
    }

    /// Uploads what is due as far as that is possible now, no longer than for `patience`, and has the state say what is left.
    pub fn end(mut self, patience: Option<Duration>) -> Report {
        // How long extraction took is of interest; networks are what they are.
        self.report.elapsed = self.progress.finish();
        if self.outputs.finish_uploads(patience, || self.progress.alive())
            && let Err(error) = self.work(Unit::default(), |_, _| {})
        {
            tracing::warn!("the next run has to find out which files were uploaded: {error:#}");
        }
        self.into_report()
    }

    fn note_calls(&mut self) {
        self.report.stray_messages = self.report.stray_messages.saturating_add(self.calls.stray_messages());
        self.report.excess.add_all(&self.calls.excess());
        self.report.unclaimed.add_all(&self.calls.unclaimed().counts());
    }

    /// Says so where packet time is far ahead of what comes now: calls that open then have no end.
    fn take_note_of_time(&self, inputs: &Inputs) {
        let first = inputs.all().iter().find_map(|input| Some((input.name(), input.first_ns()?)));
        if let Some((name, first_ns)) = first
            && let Some(behind_ns) = self.start.clock.checked_sub(first_ns).filter(|ns| *ns > FAR_NS)
        {
            tracing::warn!(
                "{name} begins {} s before the packet time that was reached; if a wrong clock set that, a run with --final has it begin anew",
                behind_ns / 1_000_000_000
            );
        }
    }

    /// Makes all that was done so far count: from here on a run that is killed goes on from here.
    fn save(&mut self, unfinished: &Unfinished, place: &Place, records: Records<'_>) -> Result<Carried> {
        let mut positions = Vec::new();
        self.calls.for_each_frame(&mut |position| positions.push(position));
        unfinished.for_each_frame(&mut |position| positions.push(position));
        let state = State {
            terms: self.terms.clone(),
            clock: place.next.clock,
            pace: place.pace,
            next_input: place.next.position.input(),
            held: place.held.clone(),
            left: place.left.clone(),
            offset: place.offset,
            points: self.points.clone(),
            recent: self.recent.clone(),
            calls: &self.calls,
            unfinished,
            books: self.outputs.prepare()?,
        };
        let carried = self.file.save(&state, |mut to: &mut dyn Write| records.carry(positions, &mut to))?;
        self.outputs.publish()?;
        Ok(carried)
    }

    /// The figures of the run.
    #[must_use]
    pub fn into_report(mut self) -> Report {
        self.note_calls();
        self.report.calls.add_all(self.outputs.counts());
        self.report.open_calls = self.open_calls() as u64;
        if self.has_calls() {
            self.report.survey = Survey::default();
        }
        self.report.uploads = self.uploads.counts();
        if self.report.elapsed.is_zero() {
            self.report.elapsed = self.progress.finish();
        }
        self.report
    }

    /// Says what could not be decompressed.
    fn take_note_of_damage(&mut self, inputs: &Inputs) {
        for input in inputs.all() {
            if let Some(damage) = input.damage() {
                self.report.damaged_inputs = self.report.damaged_inputs.saturating_add(1);
                tracing::warn!("{}: {damage}", input.name());
            }
        }
    }

    fn has_calls(&self) -> bool {
        let closed = self.closed_calls().saturating_add(self.outputs.counts().not_wanted);
        closed > 0 || self.calls.open() > 0 || self.open_calls() > 0
    }

    /// As long as there is no call, finds out what there is instead.
    fn survey(&mut self, window: Range<Moment>, records: Records<'_>) {
        if self.has_calls() || self.report.survey.is_full() {
            return;
        }
        records.for_each_between(window.start.position..window.end.position, |record| {
            let packet = self.config.decoder.decode(record.link, record.frame);
            self.report.survey.take(&packet, &self.config.decoder);
            !self.report.survey.is_full()
        });
    }

    /// Counts what was seen in a window, and says what could not be read of it.
    fn take_note(&mut self, window: &Window<'_>, inputs: &Inputs) {
        self.report.counts.add_all(&window.counts);
        for (input, gap) in &window.gaps {
            self.report.note_gap(inputs.get(*input).map_or("", Input::name), gap);
        }
    }
}

/// Removes the state, but not before what was finished by it is published.
fn give_up(config: &Config, directory: &Directory, file: &StateFile) {
    let publish = || -> Result<()> {
        if let Some((Loaded { books, terms, .. }, _)) = file.load()? {
            let given_up = Uploads::none(&config.outputs.directory);
            Outputs::open(directory.try_clone()?, &terms.named(&config.outputs), given_up.clone())?.resume(Some(books))?;
            let UploadCounts { waiting, .. } = given_up.counts();
            if waiting > 0 {
                tracing::warn!("{waiting} files were due for upload; they stay in {}", config.outputs.directory.display());
            }
        }
        Ok(())
    };
    if let Err(error) = publish() {
        tracing::warn!("what the state had finished may not be complete: {error:#}");
    }
    if let Err(error) = file.remove() {
        tracing::warn!("{error:#}");
    }
}

/// Finds out which call every packet of a window belongs to. Gives the moment before which that is
/// settled: a description that is still to come may claim later ones.
fn correlate(calls: &mut CallTable, window: Window<'_>, lookback_ns: u64) -> Moment {
    calls.begin_window(window.flows, window.start, window.end);
    let mut repetitions = window.repetitions.iter().peekable();
    for event in &window.sip {
        while let Some(repetition) = repetitions.next_if(|repetition| repetition.at < event.at) {
            calls.repeat(repetition);
        }
        calls.handle(event);
    }
    repetitions.for_each(|repetition| calls.repeat(repetition));
    calls.end_window(window.end);
    let looked_back_to = Moment::at(window.end.clock.saturating_sub(lookback_ns));
    let held_since = [window.held_since.map(Moment::at), calls.flows().earliest_frame_since(looked_back_to)];
    held_since.into_iter().flatten().fold(looked_back_to, Moment::min)
}

/// Writes what came before `settled`, and forgets it. Gives the moment since when something is left to be written.
fn write(
    outputs: &mut Outputs,
    calls: &mut CallTable,
    settled: Moment,
    now: Moment,
    config: &Config,
    records: Records<'_>,
) -> Result<Moment> {
    let (work, left_since) = calls.work(settled);
    outputs.write(work, calls, records, config.rules.lookback_ns, now.clock)?;
    calls.retire_window(settled, left_since, |left| records.are_rtp(left));
    Ok(left_since)
}

/// Lets go of the input of windows of which nothing is left to be written.
fn release(inputs: &Inputs, layouts: &mut Layouts, window_ends: &mut VecDeque<Moment>, left_since: Moment) {
    while let Some(end) = window_ends.pop_front_if(|end| *end < left_since) {
        inputs.release_before(end.position);
        layouts.forget_before(end.position);
    }
}

/// Which inputs of a unit are read to their end.
struct Ends<'i> {
    inputs: &'i Inputs,
    /// How many inputs stand before those of the unit.
    before: usize,
    /// Where inputs end in the middle of a record.
    cut_at: BTreeMap<usize, usize>,
    told: usize,
}

impl Ends<'_> {
    fn take(&mut self, window: &Window<'_>) {
        let cut = window.gaps.iter().filter(|(_, gap)| gap.reason == GapReason::Cut);
        self.cut_at.extend(cut.map(|(input, gap)| (*input, gap.offset)));
    }

    /// Tells of those that are read to their end, where `number` of the inputs are and that was not told before.
    fn tell(&mut self, number: usize, mut tell: impl FnMut(Done)) {
        let end = number.min(self.inputs.all().len()).saturating_sub(self.before);
        for place in self.told..end {
            let number = self.inputs.first().saturating_add(self.before).saturating_add(place);
            let len = self.inputs.get(number).map_or(0, |input| input.bytes().len());
            tell(Done { place, read_to: self.cut_at.get(&number).copied().unwrap_or(len) });
        }
        self.told = self.told.max(end);
    }
}

/// A record by itself, as a capture.
fn keep(input: usize, record: &Record<'_>, inputs: &Inputs, layouts: &Layouts) -> Option<Held> {
    let of = inputs.get(input)?;
    let precision = record.precision;
    let layout = layouts.at(Position::new(input, record.offset))?;
    // A frame lies in memory whole, and came with a 32-bit length.
    let len = u32::try_from(record.frame.len()).unwrap_or(u32::MAX);
    let mut file = file_header(record.link, precision, len.max(DEFAULT_SNAPLEN)).to_vec();
    let header = record_header(record.timestamp_ns?, precision, len, record.wire_len);
    let raw = of.bytes().get(record.offset..record.offset.saturating_add(header.len()));
    file.extend(raw.filter(|_| layout.is_native(precision)).unwrap_or(&header));
    file.extend(record.frame);
    Some(Held { name: of.name().to_owned(), file })
}
