//! Inputs: capture files, mapped into memory.
#![allow(clippy::disallowed_methods, reason = "a door: opens the captures that are read")]

mod compressed;
mod duplicates;
mod map;
pub mod merge;

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use shared::pcap::{FormatError, Layout, LinkType, Record, Step};

pub(crate) use self::map::prefetch;
pub use self::{compressed::Damage, duplicates::RecentPackets};
use self::{
    compressed::{Compression, MAGIC_LEN},
    map::Map,
};
use crate::{
    moment::{MAX_INPUTS, Position},
    packet,
};

/// The name that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// All inputs of a run, in the order in which they are read.
#[derive(Debug)]
pub struct Inputs {
    inputs: Vec<Input>,
}

/// One capture.
#[derive(Debug)]
pub struct Input {
    name: String,
    map: Map,
    layout: Layout,
    /// The offset of the first record.
    start: usize,
    first_ns: Option<u64>,
    damage: Option<Damage>,
}

impl Inputs {
    /// Opens captures and puts them in the order of their first packets. What cannot be used is
    /// told to `refused`, with the reason; the others are used all the same.
    ///
    /// `-` is standard input. What is compressed or no regular file is first brought into a nameless one in `spool`.
    ///
    /// # Errors
    /// None of them can be used.
    pub fn open(paths: &[PathBuf], spool: &Path, mut refused: impl FnMut(&Path, &anyhow::Error)) -> Result<Self> {
        if paths.len() > MAX_INPUTS {
            bail!("{} inputs are too many for one run, {MAX_INPUTS} is the most", paths.len());
        }
        let mut inputs = Vec::new();
        for path in paths {
            match Input::open(path, spool) {
                Ok(input) => inputs.push(input),
                Err(error) => refused(path, &error),
            }
        }
        if inputs.is_empty() {
            bail!("no input can be used");
        }
        // Stable: inputs without packets come last, the rest as they were given where times are equal.
        inputs.sort_by_key(|input| input.first_ns.unwrap_or(u64::MAX));
        Ok(Self { inputs })
    }

    /// One of them, by its number in the order of reading.
    #[must_use]
    #[inline]
    pub fn get(&self, number: usize) -> Option<&Input> {
        self.inputs.get(number)
    }

    /// Those of which a part could not be decompressed: what to call each, and what is wrong.
    pub fn damaged(&self) -> impl Iterator<Item = (&str, &Damage)> {
        self.inputs.iter().filter_map(|input| Some((input.name(), input.damage.as_ref()?)))
    }

    /// The bytes of all of them together, decompressed.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.inputs.iter().fold(0, |sum, input| sum.saturating_add(input.bytes().len() as u64))
    }

    /// The bytes that lie before `position`.
    #[must_use]
    pub fn bytes_before(&self, position: Position) -> u64 {
        let earlier =
            self.inputs.iter().take(position.input()).fold(0, |sum: u64, input| sum.saturating_add(input.bytes().len() as u64));
        earlier.saturating_add(position.offset() as u64)
    }

    /// Tells the kernel that what lies before `position` will not be read again soon, so that a run
    /// holds no more of the page cache than it works on.
    pub fn release_before(&self, position: Position) {
        for (number, input) in self.inputs.iter().enumerate().take(position.input().saturating_add(1)) {
            let end = if number == position.input() { position.offset() } else { input.bytes().len() };
            input.map.release_before(end);
        }
    }
}

impl Input {
    fn open(path: &Path, spool: &Path) -> Result<Self> {
        let (name, plain) = if path == Path::new(STANDARD_INPUT) {
            ("standard input".to_owned(), Plain::of_stream(&mut io::stdin().lock(), spool)?)
        } else {
            (path.display().to_string(), Plain::of_file(File::open(path)?, spool)?)
        };
        let Plain { file, damage } = plain;
        let map = Map::of(&file).context("it cannot be mapped into memory")?;
        let (layout, offset) = Layout::detect(map.bytes()).map_err(|error| unusable(error, damage.as_ref()))?;
        if let Some(link) = layout.link() {
            check_link(link)?;
        }
        let first = first_record(&layout, map.bytes(), offset);
        let (layout, start, first_ns) = first.unwrap_or((layout, offset, None));
        Ok(Self { name, map, layout, start, first_ns, damage })
    }

    /// What to call it when talking to a person.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole file.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// How its first record is to be read.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The offset of its first record.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// The record at an offset, in a file of this layout.
    #[must_use]
    #[inline]
    pub fn record<'a>(&'a self, layout: &Layout, offset: usize) -> Option<Record<'a>> {
        layout.record_at(self.bytes(), offset)
    }
}

/// Why an input is no capture: of a damaged one, the damage is the reason.
fn unusable(error: FormatError, damage: Option<&Damage>) -> anyhow::Error {
    match damage {
        Some(damage) => anyhow!("{damage}, and that is no capture: {error}"),
        None => error.into(),
    }
}

fn check_link(link: LinkType) -> Result<()> {
    if packet::is_supported(link) { Ok(()) } else { Err(anyhow!("its frames are of a kind that is not read: {link}")) }
}

/// Reads up to the first record: in a pcapng, what describes the interfaces stands before it. Where something
/// unreadable stands before it too, only its time is taken, so that reading begins with what is unreadable.
fn first_record(layout: &Layout, bytes: &[u8], offset: usize) -> Option<(Layout, usize, Option<u64>)> {
    let mut walk = layout.walk(bytes, offset);
    let mut is_behind_gap = false;
    loop {
        match walk.next_step()? {
            Step::Record(record) if is_behind_gap => return Some((layout.clone(), offset, record.timestamp_ns)),
            Step::Record(record) => return Some((walk.into_layouts().pop()?, record.offset, record.timestamp_ns)),
            Step::Gap(_) => is_behind_gap = true,
        }
    }
}

/// A capture in a file that can be mapped, as it was before it was compressed.
struct Plain {
    file: File,
    damage: Option<Damage>,
}

impl Plain {
    fn of_file(mut file: File, spool: &Path) -> Result<Self> {
        if !file.metadata()?.is_file() {
            return Self::of_stream(&mut file, spool);
        }
        let first = first_bytes(&mut file)?;
        file.rewind()?;
        match Compression::of(&first) {
            Some(compression) => decompressed(compression, file, spool),
            None => Ok(Self { file, damage: None }),
        }
    }

    /// Of what can be read only once.
    fn of_stream(from: &mut impl Read, spool: &Path) -> Result<Self> {
        let first = first_bytes(from)?;
        let whole = first.as_slice().chain(from);
        match Compression::of(&first) {
            Some(compression) => decompressed(compression, whole, spool),
            None => copied(whole, spool),
        }
    }
}

fn first_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    from.take(MAGIC_LEN).read_to_end(&mut first)?;
    Ok(first)
}

fn copied(mut from: impl Read, spool: &Path) -> Result<Plain> {
    let mut file = temporary_file(spool)?;
    io::copy(&mut from, &mut file).with_context(|| format!("it cannot be copied to a temporary file in {}", spool.display()))?;
    Ok(Plain { file, damage: None })
}

fn decompressed(compression: Compression, from: impl Read, spool: &Path) -> Result<Plain> {
    let mut file = temporary_file(spool)?;
    tracing::info!("decompressing {compression} data to a temporary file in {}", spool.display());
    let damage = compression
        .decompress(from, &mut file)
        .with_context(|| format!("its {compression} data cannot be decompressed to a temporary file in {}", spool.display()))?;
    Ok(Plain { file, damage })
}

fn temporary_file(spool: &Path) -> Result<File> {
    tempfile::tempfile_in(spool).with_context(|| format!("no temporary file can be made in {}", spool.display()))
}

/// Where each part of each input begins, and how it is to be read.
///
/// A pcapng may have several sections, of which the later ones are found while reading.
#[derive(Debug)]
pub struct Layouts {
    of_input: Vec<Vec<Layout>>,
}

impl Layouts {
    /// What is known before anything is read.
    #[must_use]
    pub fn of(inputs: &Inputs) -> Self {
        Self { of_input: inputs.inputs.iter().map(|input| vec![input.layout.clone()]).collect() }
    }

    /// Takes in what a stretch of an input taught, in the order of the stretches.
    pub fn learn(&mut self, input: usize, layouts: Vec<Layout>) {
        let Some(known) = self.of_input.get_mut(input) else { return };
        for layout in layouts {
            match known.last_mut() {
                Some(last) if last.begins_at() == layout.begins_at() => *last = layout,
                _ => known.push(layout),
            }
        }
    }

    /// Forgets sections that end before `position`.
    pub fn forget_before(&mut self, position: Position) {
        for (input, known) in self.of_input.iter_mut().enumerate().take(position.input().saturating_add(1)) {
            let offset = if input < position.input() { usize::MAX } else { position.offset() };
            let after = known.partition_point(|layout| layout.begins_at() <= offset);
            known.drain(..after.saturating_sub(1));
        }
    }

    /// How to read on after all that was learnt.
    #[must_use]
    pub fn latest(&self, input: usize) -> Option<&Layout> {
        self.of_input.get(input)?.last()
    }

    /// How to read any record of an input, where the same holds for all that are still to be read.
    #[must_use]
    pub fn only(&self, input: usize) -> Option<&Layout> {
        if let [only] = self.of_input.get(input)?.as_slice() { Some(only) } else { None }
    }

    /// How to read the record at a position.
    #[must_use]
    #[inline]
    pub fn at(&self, position: Position) -> Option<&Layout> {
        match self.of_input.get(position.input())?.as_slice() {
            [only] => Some(only),
            known => {
                let after = known.partition_point(|layout| layout.begins_at() <= position.offset());
                known.get(after.checked_sub(1)?)
            }
        }
    }
}
