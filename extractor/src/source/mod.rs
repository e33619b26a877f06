//! Inputs: capture files, mapped into memory.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: opens the captures that are read"
)]

mod carried;
mod compressed;
mod drops;
mod duplicates;
mod error;
pub(crate) mod last_words;
mod map;
pub mod merge;
mod name;
mod patience;
mod remote;
mod restarts;
mod scratch;
mod unpacked;

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    iter,
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::bail;
use shared::{
    index::Restart,
    pcap::{FormatError, Layout, LinkType, Record, Step, Walk},
    segment::SegmentName,
    segment_drops::SegmentDrops,
};

pub(crate) use self::map::{Map, prefetch};
pub use self::{
    carried::{Carried, write_carried},
    compressed::Damage,
    drops::drops_path,
    duplicates::RecentPackets,
    error::InputError,
    name::{Name, NamedInput},
    patience::patiently,
    remote::{Remote, RemoteName, RemoteStore, fetch_many},
    restarts::restarts_of,
    scratch::Scratch,
};
use self::{
    compressed::{Compression, MAGIC_LEN},
    drops::{drops_of, drops_of_object},
    unpacked::Unpacked,
};
use crate::{
    moment::{MAX_INPUTS, Position},
    packet,
    segments::{ContentHash, Identity, content_of},
    stored::Stored,
    timeline::Later,
};

/// The name of standard input.
const STANDARD_INPUT: &str = "-";

/// The inputs of a unit of work in the order of reading, and the records that are carried over from
/// earlier inputs.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The number of the first input.
    first: usize,
    inputs: Vec<Input>,
    carried: Carried,
    /// The time that the capture has reached behind the inputs, in nanoseconds since 1970, if it is
    /// known from elsewhere.
    reached_ns: Option<u64>,
    /// What was dropped at capture in the time of segments whose packets these inputs begin.
    drops: Vec<SegmentDrops>,
    /// The numbers of inputs in each series, if there are several.
    series: Vec<usize>,
}

/// A capture.
#[derive(Debug)]
pub struct Input {
    name: String,
    bytes: Bytes,
    layout: Layout,
    /// The offset of the first record.
    start: usize,
    first_ns: Option<u64>,
    /// The time that the capture had reached when this file began, in nanoseconds since 1970, if
    /// its name tells.
    reached_ns: Option<u64>,
    damage: Option<Damage>,
    /// The content of the file, if the map does not have its bytes.
    packed: Option<ContentHash>,
    /// What was dropped at capture in its time, if it is a segment that says so.
    drops: Option<SegmentDrops>,
    /// Its index, if the run reads the files beside segments.
    stored: Option<Stored>,
}

/// The memory that holds a capture.
#[derive(Debug)]
enum Bytes {
    Mapped(Map),
    /// In a temporary file.
    Temporary(Map),
    /// A single record.
    Owned(Vec<u8>),
    /// An object of a store, as far as it was fetched.
    Remote(Box<Remote>),
    /// A compressed segment, as far as it was decompressed.
    Unpacked(Box<Unpacked>),
}

impl Bytes {
    #[inline]
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) | Self::Temporary(map) => map.bytes(),
            Self::Owned(bytes) => bytes,
            Self::Remote(remote) => remote.bytes(),
            Self::Unpacked(unpacked) => unpacked.bytes(),
        }
    }
}

/// More bytes than a usual record has.
const USUAL_RECORD: usize = 2048;

/// More bytes than the longest record has, with several records behind it.
const LONGEST_RECORD: usize = 1 << 20;

impl Bytes {
    /// Fetches these stretches, if parts of it may be missing. A failure is noted there.
    #[inline]
    fn fetch(&self, ranges: impl IntoIterator<Item = Range<usize>>) {
        match self {
            Self::Mapped(_) | Self::Temporary(_) | Self::Owned(_) => {}
            Self::Remote(remote) => drop(remote.fetch(ranges)),
            Self::Unpacked(unpacked) => unpacked.fetch(ranges),
        }
    }

    /// True if parts of it may be missing.
    #[inline]
    fn has_holes(&self) -> bool {
        matches!(self, Self::Remote(_) | Self::Unpacked(_))
    }

    /// Fetches records: first as many bytes as most have, then the rest of longer ones.
    #[cold]
    fn fetch_records(&self, layout: &Layout, offsets: impl Iterator<Item = usize> + Clone) {
        let from = |offset: usize, len: usize| offset..offset.saturating_add(len);
        self.fetch(offsets.clone().map(|offset| from(offset, USUAL_RECORD)));
        self.fetch(offsets.filter_map(|offset| {
            let record = layout.record_at(self.get(), offset);
            // A record that is believed by those that follow is not known yet.
            let len = record.map_or(LONGEST_RECORD, |record| record.frame.len());
            let len = len.saturating_add(USUAL_RECORD / 2);
            (len > USUAL_RECORD).then(|| from(offset, len))
        }));
    }
}

/// The beginning of a segment, by its name: the capture had reached that time, with or without
/// packets. A name that is ahead of the file's own time is not believed: it would end all calls.
fn reached_ns(path: &Path, file: &File) -> Option<u64> {
    let start = Duration::from_micros(SegmentName::of_capture(path.file_name()?)?.start_us());
    let changed = file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .ok()?;
    let is_past = changed
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|changed| start <= changed);
    u64::try_from(start.as_nanos()).ok().filter(|_| is_past)
}

/// The name of an input, for messages.
#[must_use]
pub fn shown(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

impl Inputs {
    /// Numbers inputs from `first` on, in this order; `carried` has records of earlier inputs.
    #[must_use]
    pub fn new(first: usize, inputs: Vec<Input>, carried: Carried) -> Self {
        Self {
            first,
            inputs,
            carried,
            reached_ns: None,
            drops: Vec::new(),
            series: Vec::new(),
        }
    }

    /// Sets what was dropped at capture in the time of segments that begin in these inputs.
    #[must_use]
    pub fn with_drops(self, drops: Vec<SegmentDrops>) -> Self {
        Self { drops, ..self }
    }

    /// What was dropped at capture in the time of segments that begin in these inputs, other than
    /// what the inputs themselves say.
    #[must_use]
    pub fn drops(&self) -> &[SegmentDrops] {
        &self.drops
    }

    /// Sets the numbers of inputs in each series, if these are several, one behind the other.
    #[must_use]
    pub fn in_series(self, series: Vec<usize>) -> Self {
        Self { series, ..self }
    }

    /// True when the inputs are several series, whose records are put in one order.
    #[must_use]
    #[inline]
    pub fn are_merged(&self) -> bool {
        self.series.len() > 1
    }

    /// True when parts of an input may be missing.
    #[must_use]
    pub fn have_holes(&self) -> bool {
        let mut inputs = self.inputs.iter();
        inputs.any(|input| input.bytes.has_holes())
    }

    /// The first error because of which bytes of an object are missing, with its name.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let of_input = |input: &Input| Some(format!("{}: {}", input.name, input.trouble()?));
        self.inputs.iter().find_map(of_input)
    }

    /// The numbers of the inputs in each series.
    pub fn series(&self) -> impl Iterator<Item = Range<usize>> {
        self.series.iter().scan(self.first, |next, count| {
            let start = std::mem::replace(next, next.saturating_add(*count));
            Some(start..*next)
        })
    }

    /// Sets the time that the capture has reached behind the inputs, in nanoseconds since 1970.
    #[must_use]
    pub fn reaching(self, reached_ns: Option<u64>) -> Self {
        Self { reached_ns, ..self }
    }

    /// Opens captures, and sorts them by their first packets. Inputs that cannot be used are
    /// reported to `refused` with the reason; the others are used.
    ///
    /// `-` is standard input. Compressed inputs, and inputs that are no regular files, are first
    /// copied to a nameless file in `scratch`.
    ///
    /// # Errors
    /// No input can be used.
    pub fn open(
        paths: &[PathBuf],
        scratch: &Scratch,
        mut refused: impl FnMut(&Path, &InputError),
    ) -> anyhow::Result<Vec<Input>> {
        if paths.len() > MAX_INPUTS {
            bail!(
                "{} inputs are too many for one run, {MAX_INPUTS} is the most",
                paths.len()
            );
        }
        let mut inputs = Vec::new();
        for path in paths {
            match Input::open(path, scratch) {
                Ok(input) => inputs.push(input),
                Err(error) => refused(path, &error),
            }
        }
        if inputs.is_empty() {
            bail!("no input can be used");
        }
        // A stable sort: inputs without packets come last, and inputs with equal times keep the
        // order in which they were given.
        inputs.sort_by_key(|input: &Input| input.first_ns.unwrap_or(u64::MAX));
        Ok(inputs)
    }

    /// The number of the first input.
    #[must_use]
    pub fn first(&self) -> usize {
        self.first
    }

    /// The number of the first input after these.
    #[must_use]
    pub fn after_last(&self) -> usize {
        self.first.saturating_add(self.inputs.len())
    }

    /// The input that holds the record at a position; `None` if the record is carried over.
    #[must_use]
    #[inline]
    pub fn holding(&self, position: Position) -> Option<&Input> {
        // An input that is resumed in its middle does not know the layout of the part before.
        self.get(position.input())
            .filter(|input| position.offset() >= input.start)
    }

    /// All inputs.
    #[must_use]
    pub fn all(&self) -> &[Input] {
        &self.inputs
    }

    /// The records that are carried over from earlier inputs.
    #[must_use]
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// The inputs after the one with this number.
    #[must_use]
    pub fn after(&self, number: usize) -> &[Input] {
        let next = number.saturating_add(1).saturating_sub(self.first);
        self.inputs.get(next..).unwrap_or_default()
    }

    /// The time that the capture has reached behind the last record: by the names of inputs without
    /// records, or as it is known from elsewhere.
    #[must_use]
    pub fn reached_ns(&self) -> Option<u64> {
        let empty = self
            .inputs
            .iter()
            .rev()
            .take_while(|input| input.is_empty());
        empty
            .filter_map(|input| input.reached_ns)
            .max()
            .max(self.reached_ns)
    }

    /// The input with this number.
    #[must_use]
    #[inline]
    pub fn get(&self, number: usize) -> Option<&Input> {
        self.inputs.get(number.checked_sub(self.first)?)
    }

    /// The length of all inputs together, decompressed, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.inputs.iter().fold(0, |sum, input| {
            sum.saturating_add(input.bytes().len() as u64)
        })
    }

    /// The number of bytes before `position`.
    #[must_use]
    pub fn bytes_before(&self, position: Position) -> u64 {
        let Some(place) = position.input().checked_sub(self.first) else {
            return 0;
        };
        let earlier = self.inputs.iter().take(place).fold(0, |sum: u64, input| {
            sum.saturating_add(input.bytes().len() as u64)
        });
        earlier.saturating_add(position.offset() as u64)
    }

    /// Tells the kernel that the bytes before `position` will not be read again soon, so that a run
    /// occupies no more of the page cache than it works on.
    pub fn release_before(&self, position: Position) {
        for (number, input) in (self.first..=position.input()).zip(&self.inputs) {
            let end = if number == position.input() {
                position.offset()
            } else {
                input.bytes().len()
            };
            input.release_before(end);
        }
    }
}

impl Input {
    /// Opens a capture. A compressed input, or one that is no regular file, is first copied to a
    /// nameless file in `scratch`.
    ///
    /// # Errors
    /// It cannot be read, or is no capture.
    pub fn open(path: &Path, scratch: &Scratch) -> Result<Self, InputError> {
        if path == Path::new(STANDARD_INPUT) {
            let plain = Plain::of_stream(&mut io::stdin().lock(), None, scratch)?;
            return Self::of_plain(shown(path), scratch.directory(), plain);
        }
        let plain = Plain::of_file(File::open(path)?, false, scratch)?;
        Ok(Self {
            drops: drops_of(path),
            ..Self::of_plain(path.display().to_string(), path, plain)?
        })
    }

    /// Opens a segment, whose first `size` bytes are to be recognized later. If the disk does not
    /// deliver all of it, that is an error, even if it is compressed. A segment that `has_faulted`
    /// in memory is copied, because a failing copy ends with an error.
    ///
    /// # Errors
    /// It cannot be read, or is no capture.
    pub fn of_segment(
        path: &Path,
        scratch: &Scratch,
        size: u64,
        has_faulted: bool,
    ) -> Result<Self, InputError> {
        let mut file = File::open(path)?;
        let plain = Plain::of_file(file.try_clone()?, has_faulted, scratch)?;
        if let Some(error) = plain.damage.as_ref().and_then(Damage::read_error) {
            return Err(InputError::of(error, error.to_string()));
        }
        let packed = if plain.is_temporary {
            file.rewind()?;
            Some(content_of(&mut file, size)?)
        } else {
            None
        };
        let reached_ns = reached_ns(path, &file);
        Ok(Self {
            packed,
            reached_ns,
            drops: drops_of(path),
            ..Self::of_plain(path.display().to_string(), path, plain)?
        })
    }

    /// Opens a compressed segment, of which only what is needed is decompressed: from these points
    /// on. Its file and the decompressed segment have these lengths.
    ///
    /// # Errors
    /// It cannot be read, or is not what was indexed.
    pub fn of_packed_segment(
        path: &Path,
        restarts: Vec<Restart>,
        [file_len, len]: [u64; 2],
        scratch: &Scratch,
    ) -> Result<Self, InputError> {
        let file = File::open(path)?;
        let has_changed = || InputError::NotACapture("it has changed since".to_owned());
        let len = usize::try_from(len).map_err(|_| has_changed())?;
        if file.metadata()?.len() != file_len {
            return Err(has_changed());
        }
        let unpacked = Unpacked::open(path, &file, restarts, len, scratch)?;
        let bytes = Bytes::Unpacked(Box::new(unpacked));
        Ok(Self {
            reached_ns: reached_ns(path, &file),
            drops: drops_of(path),
            ..Self::of_bytes(path.display().to_string(), bytes, None)?
        })
    }

    /// Opens a segment in a store: its ends are fetched, and all of it if it is compressed. `drops`
    /// is the object beside it that says what was dropped.
    ///
    /// # Errors
    /// It cannot be read, or is no capture.
    pub fn of_object(
        segment: RemoteName,
        drops: Option<RemoteName>,
        scratch: &Scratch,
    ) -> Result<Self, InputError> {
        let name = segment.name();
        let remote = segment.open()?;
        remote.fetch_ends()?;
        let input = if Compression::of(remote.bytes()).is_some() {
            remote.fetch_all()?;
            let plain = Plain::of_stream(&mut remote.bytes(), None, scratch)?;
            Self::of_plain(name, scratch.directory(), plain)?
        } else {
            Self::of_bytes(name, Bytes::Remote(Box::new(remote)), None)?
        };
        Ok(Self {
            drops: drops.and_then(drops_of_object),
            ..input
        })
    }

    /// A capture of a single record; `name` is that of its input.
    ///
    /// # Errors
    /// `file` has no record.
    pub fn of_record(name: String, file: Vec<u8>) -> Result<Self, InputError> {
        let (layout, start) = Layout::detect(&file).map_err(|error| unusable(&error, None))?;
        let first_ns = first_record(&layout, &file, start).and_then(|(_, _, first_ns)| first_ns);
        Ok(Self {
            name,
            bytes: Bytes::Owned(file),
            layout,
            start,
            first_ns,
            reached_ns: None,
            damage: None,
            packed: None,
            drops: None,
            stored: None,
        })
    }

    /// A file that this program has written to `directory`.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn of_written(name: String, directory: &Path, file: File) -> Result<Self, InputError> {
        Self::of_plain(
            name,
            directory,
            Plain {
                file,
                damage: None,
                is_temporary: false,
            },
        )
    }

    fn of_plain(name: String, path: &Path, plain: Plain) -> Result<Self, InputError> {
        let Plain {
            file,
            damage,
            is_temporary,
        } = plain;
        // A fault in a temporary file is not the fault of the capture.
        let mapped = if is_temporary {
            Path::new("a temporary file")
        } else {
            path
        };
        let map = Map::of(&file, mapped)
            .map_err(InputError::while_doing("it cannot be mapped into memory"))?;
        let bytes = if is_temporary {
            Bytes::Temporary(map)
        } else {
            Bytes::Mapped(map)
        };
        Self::of_bytes(name, bytes, damage)
    }

    fn of_bytes(name: String, bytes: Bytes, damage: Option<Damage>) -> Result<Self, InputError> {
        let file = bytes.get();
        let (layout, offset) =
            Layout::detect(file).map_err(|error| unusable(&error, damage.as_ref()))?;
        if let Some(link) = layout.link() {
            check_link(link)?;
        }
        let first = first_record(&layout, file, offset);
        let (layout, start, first_ns) = first.unwrap_or((layout, offset, None));
        Ok(Self {
            name,
            bytes,
            layout,
            start,
            first_ns,
            reached_ns: None,
            damage,
            packed: None,
            drops: None,
            stored: None,
        })
    }

    /// What was dropped at capture in its time, if it is a segment that says so, and reading begins
    /// with its first record.
    #[must_use]
    pub fn drops(&self) -> Option<&SegmentDrops> {
        self.drops.as_ref()
    }

    /// The same capture, with its index from the file beside it.
    #[must_use]
    pub fn with_stored(self, stored: Option<Stored>) -> Self {
        if let (Bytes::Mapped(map), Some(_)) = (&self.bytes, &stored) {
            map.expect(true);
        }
        Self { stored, ..self }
    }

    /// Its index, if the run reads the files beside segments.
    #[must_use]
    pub fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// The records of the capture.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        records_of(self.layout.walk(self.bytes(), self.start))
    }

    /// The records with their times, or the time in the file name if there are none.
    fn later(&self, number: usize) -> impl Iterator<Item = (Position, Later)> {
        let reached = self.reached_ns.filter(|_| self.is_empty());
        let of_record = move |record: Record<'_>| later_record(number, &record);
        let reached = reached.map(|ns| (Position::new(number, 0), Later::Reached(ns)));
        self.records().map(of_record).chain(reached)
    }

    fn is_empty(&self) -> bool {
        self.records().next().is_none()
    }

    /// The input from `offset` on, if it was read up to there before.
    #[must_use]
    pub fn going_on_at(mut self, offset: Option<usize>) -> Self {
        let Some(offset) = offset else { return self };
        if let Layout::Ng(_) = self.layout {
            // The descriptions of the interfaces come before the offset.
            let mut walk = self.layout.walk(self.bytes(), self.start);
            while walk.offset() < offset && walk.next_step().is_some() {}
            if let Some(layout) = walk.into_layouts().pop() {
                self.layout = layout;
            }
        }
        if offset > self.start {
            (self.start, self.drops) = (offset, None);
        }
        self
    }

    fn release_before(&self, end: usize) {
        if let Bytes::Mapped(map) | Bytes::Temporary(map) = &self.bytes {
            map.release_before(end);
        }
    }

    /// The timestamp of the first packet.
    #[must_use]
    pub fn first_ns(&self) -> Option<u64> {
        self.first_ns
    }

    /// The length of its temporary file, in bytes.
    #[must_use]
    pub fn temporary_len(&self) -> u64 {
        if let Bytes::Temporary(map) = &self.bytes {
            map.bytes().len() as u64
        } else {
            0
        }
    }

    /// The damage that stopped its decompression, if there was any.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The identity of the capture: its decompressed length, and its first bytes.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::of(self.bytes())
    }

    /// The content of the whole file, if that was decompressed, or copied.
    #[must_use]
    pub fn packed(&self) -> Option<ContentHash> {
        self.packed
    }

    /// The content of the first `size` bytes of the file.
    #[must_use]
    pub fn content(&self, size: u64) -> ContentHash {
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        self.packed.unwrap_or_else(|| {
            ContentHash::of(self.bytes().get(..len).unwrap_or_else(|| self.bytes()))
        })
    }

    /// The name of the capture, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole file.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get()
    }

    /// True if it was decompressed from a segment.
    #[must_use]
    pub fn is_unpacked(&self) -> bool {
        self.packed.is_some()
    }

    /// Prepares to read a stretch of the file. If parts of it may be missing, they are fetched; a
    /// failure is noted there.
    #[inline]
    pub fn fetch(&self, range: Range<usize>) {
        if let (Bytes::Mapped(map), Some(_)) = (&self.bytes, &self.stored)
            && range.len() > LONGEST_RECORD
        {
            // Its index does not stand for it.
            map.expect(false);
        }
        // A record may reach beyond the stretch, and some are believed by those that follow.
        let end = range.end.saturating_add(LONGEST_RECORD);
        self.bytes.fetch(iter::once(range.start..end));
    }

    /// Fetches the records at these offsets, if parts of the file may be missing; a failure is noted
    /// there.
    #[inline]
    pub fn fetch_records(&self, layout: &Layout, offsets: impl Iterator<Item = usize> + Clone) {
        if self.bytes.has_holes() {
            self.bytes.fetch_records(layout, offsets);
        }
    }

    /// The error because of which bytes are missing, if there was one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match &self.bytes {
            Bytes::Remote(remote) => remote.trouble(),
            Bytes::Unpacked(unpacked) => unpacked.trouble(),
            Bytes::Mapped(_) | Bytes::Temporary(_) | Bytes::Owned(_) => None,
        }
    }

    /// The layout at the first record.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The offset of its first record.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// The record at an offset, in a file with this layout.
    #[must_use]
    #[inline]
    pub fn record<'a>(&'a self, layout: &Layout, offset: usize) -> Option<Record<'a>> {
        layout.record_at(self.bytes(), offset)
    }
}

/// The records behind a position in the input `number`, or the times of inputs without records, for
/// a look-ahead. `told` is the time that the capture has reached behind all of them, if known.
pub fn records_behind<'a>(
    walk: Walk<'a>,
    number: usize,
    inputs: impl IntoIterator<Item = &'a Input>,
    told: Option<Later>,
) -> impl Iterator<Item = (Position, Later)> {
    let of_record = move |record: Record<'_>| later_record(number, &record);
    let later = (number.saturating_add(1)..).zip(inputs);
    let end = Position::new(MAX_INPUTS.saturating_sub(1), usize::MAX);
    let told = told.map(|told| (end, told));
    records_of(walk)
        .map(of_record)
        .chain(later.flat_map(|(number, input)| input.later(number)))
        .chain(told)
}

/// A record of the input `number`, for a look-ahead.
fn later_record(number: usize, record: &Record<'_>) -> (Position, Later) {
    let at = Position::new(number, record.offset);
    (at, Later::Record(record.timestamp_ns))
}

/// The records of a walk, without unreadable parts.
pub fn records_of<'a>(mut walk: Walk<'a>) -> impl Iterator<Item = Record<'a>> {
    iter::from_fn(move || next_record(&mut walk))
}

/// The next record; unreadable parts are skipped.
#[must_use]
pub fn next_record<'a>(walk: &mut Walk<'a>) -> Option<Record<'a>> {
    loop {
        if let Step::Record(record) = walk.next_step()? {
            return Some(record);
        }
    }
}

/// The time of a capture's first packet, in nanoseconds since 1970. A compressed file is usually
/// decompressed no further than that.
///
/// # Errors
/// It cannot be read, or is no capture.
pub fn first_time(
    path: &Path,
    scratch: &Scratch,
    has_faulted: bool,
) -> Result<Option<u64>, InputError> {
    let mut file = File::open(path)?;
    let first = first_bytes(&mut file)?;
    if let Some(compression) = Compression::of(&first) {
        file.rewind()?;
        let mut head = HeadWriter(Vec::new());
        // The end of decompression once `head` is full is not an error of the file.
        let damage = compression.decompress(&file, &mut head).ok().flatten();
        if let Some(error) = damage.as_ref().and_then(Damage::read_error) {
            return Err(InputError::of(error, error.to_string()));
        }
        let first_ns = Layout::detect(&head.0)
            .ok()
            .and_then(|(layout, offset)| first_record(&layout, &head.0, offset));
        if let Some((_, _, first_ns)) = first_ns {
            return Ok(first_ns);
        }
    }
    Ok(Input::of_segment(path, scratch, 0, has_faulted)?.first_ns)
}

/// A writer that keeps the beginning and refuses the rest.
struct HeadWriter(Vec<u8>);

const HEAD_LEN: usize = 256 * 1024;

impl Write for HeadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() >= HEAD_LEN {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reason why an input is no capture; if it is damaged, the damage.
fn unusable(error: &FormatError, damage: Option<&Damage>) -> InputError {
    InputError::NotACapture(match damage {
        Some(damage) => format!("{damage}, and that is no capture: {error}"),
        None => error.to_string(),
    })
}

fn check_link(link: LinkType) -> Result<(), InputError> {
    if packet::is_supported(link) {
        Ok(())
    } else {
        Err(InputError::UnsupportedLink(link))
    }
}

/// Reads up to the first record: in a pcapng, the interface descriptions come before it. If an
/// unreadable part comes before it, too, only the record's time is used, so that reading begins
/// with the unreadable part.
fn first_record(
    layout: &Layout,
    bytes: &[u8],
    offset: usize,
) -> Option<(Layout, usize, Option<u64>)> {
    let mut walk = layout.walk(bytes, offset);
    let mut is_behind_gap = false;
    loop {
        match walk.next_step()? {
            Step::Record(record) if is_behind_gap => {
                return Some((layout.clone(), offset, record.timestamp_ns));
            }
            Step::Record(record) => {
                return Some((
                    walk.into_layouts().pop()?,
                    record.offset,
                    record.timestamp_ns,
                ));
            }
            Step::Gap(_) => is_behind_gap = true,
        }
    }
}

/// A decompressed capture in a file that can be mapped.
struct Plain {
    file: File,
    damage: Option<Damage>,
    is_temporary: bool,
}

impl Plain {
    fn of_file(
        mut file: File,
        is_to_be_copied: bool,
        scratch: &Scratch,
    ) -> Result<Self, InputError> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(InputError::NotACapture(
                "it is a directory; --input-dir reads the segments in one".to_owned(),
            ));
        }
        if !metadata.is_file() {
            return Self::of_stream(&mut file, None, scratch);
        }
        let first = first_bytes(&mut file)?;
        file.rewind()?;
        if is_to_be_copied || Compression::of(&first).is_some() {
            return Self::of_stream(&mut file, Some(metadata.len()), scratch);
        }
        Ok(Self {
            file,
            damage: None,
            is_temporary: false,
        })
    }

    /// Copies or decompresses an input that cannot be mapped. `len` is the length of the file, if
    /// it is one.
    fn of_stream(
        from: &mut impl Read,
        len: Option<u64>,
        scratch: &Scratch,
    ) -> Result<Self, InputError> {
        let first = first_bytes(from)?;
        let whole = first.as_slice().chain(from);
        let (file, damage) = match Compression::of(&first) {
            Some(compression) => scratch.decompressed(compression, whole, len)?,
            None => (scratch.copied(whole)?, None),
        };
        Ok(Self {
            file,
            damage,
            is_temporary: true,
        })
    }
}

fn first_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    from.take(MAGIC_LEN).read_to_end(&mut first)?;
    Ok(first)
}

/// The layouts of each input, with the offsets at which they begin.
///
/// A pcapng may have several sections; the later ones are found while it is read.
#[derive(Debug)]
pub struct Layouts {
    /// The number of the first input.
    first: usize,
    of_input: Vec<Vec<Layout>>,
}

impl Layouts {
    /// The layouts that are known before anything is read.
    #[must_use]
    pub fn of(inputs: &Inputs) -> Self {
        Self {
            first: inputs.first,
            of_input: inputs
                .inputs
                .iter()
                .map(|input| vec![input.layout.clone()])
                .collect(),
        }
    }

    /// Adds the layouts that were read in a stretch of an input; stretches come in order.
    pub fn learn(&mut self, input: usize, layouts: Vec<Layout>) {
        let place = input.checked_sub(self.first);
        let Some(known) = place.and_then(|place| self.of_input.get_mut(place)) else {
            return;
        };
        for layout in layouts {
            match known.last_mut() {
                Some(last) if last.begins_at() == layout.begins_at() => *last = layout,
                _ => known.push(layout),
            }
        }
    }

    /// Forgets sections that end before `position`.
    pub fn forget_before(&mut self, position: Position) {
        for (input, known) in (self.first..=position.input()).zip(&mut self.of_input) {
            let offset = if input < position.input() {
                usize::MAX
            } else {
                position.offset()
            };
            let after = known.partition_point(|layout| layout.begins_at() <= offset);
            known.drain(..after.saturating_sub(1));
        }
    }

    #[inline]
    fn known(&self, input: usize) -> Option<&[Layout]> {
        self.of_input
            .get(input.checked_sub(self.first)?)
            .map(Vec::as_slice)
    }

    /// The latest layout of an input.
    #[must_use]
    pub fn latest(&self, input: usize) -> Option<&Layout> {
        self.known(input)?.last()
    }

    /// The layout of all records of an input that are still to be read, if there is only one.
    #[must_use]
    pub fn only(&self, input: usize) -> Option<&Layout> {
        if let [only] = self.known(input)? {
            Some(only)
        } else {
            None
        }
    }

    /// The layout of the record at a position.
    #[must_use]
    #[inline]
    pub fn at(&self, position: Position) -> Option<&Layout> {
        match self.known(position.input())? {
            [only] => Some(only),
            known => {
                let after = known.partition_point(|layout| layout.begins_at() <= position.offset());
                known.get(after.checked_sub(1)?)
            }
        }
    }
}
