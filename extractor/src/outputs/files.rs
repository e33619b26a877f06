//! The files themselves.
#![allow(clippy::disallowed_methods, reason = "a door: writes the calls' pcaps and the CSV files")]

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use shared::{
    pcap::{Layout, RECORD_HEADER_LEN, Record},
    s3_uri::S3Uri,
};

use super::{names::FileName, rows::csv_rows};
use crate::selection::Selection;

/// What the user wants of the outputs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where they go.
    pub directory: PathBuf,
    /// The name of the file with a row a call.
    pub detected_calls_filename: PathBuf,
    /// The name of the file with a row a stream.
    pub stats_filename: PathBuf,
    /// Whether a call's file may replace one that is there.
    pub overwrite: bool,
    /// Of which calls.
    pub selection: Selection,
    /// Where the calls' files are, or will be, as objects.
    pub location: Option<S3Uri>,
    /// Whether the disk has all of a unit of work before that counts as done: what a loss of power must not undo.
    pub syncs: bool,
}

/// The output directory, and the lock on it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    syncs: bool,
}

/// Nobody else's business: calls are confidential.
const MODE: u32 = 0o640;

/// What a call's file is as long as it is hidden: this, its name, this.
const PART: (&str, &str) = (".", ".part");

impl Directory {
    /// Makes it if it is not there, and keeps others out of it.
    ///
    /// # Errors
    /// It cannot be made, or another process works on it.
    pub fn open(settings: &Settings) -> Result<Self> {
        let path = settings.directory.clone();
        fs::create_dir_all(&path).with_context(|| format!("the output directory {} cannot be made", path.display()))?;
        let handle = File::open(&path).with_context(|| format!("the output directory {} cannot be opened", path.display()))?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another sip-call-extractor is working on the output directory {}; wait until it has ended, or choose another --output-dir",
                path.display()
            ),
            // Some file systems know no locks on directories.
            Err(TryLockError::Error(error)) => tracing::warn!(
                "the output directory {} cannot be locked ({error}); see to it that no other sip-call-extractor works on it",
                path.display()
            ),
        }
        Ok(Self { path, handle, syncs: settings.syncs })
    }

    /// The same directory, under the same lock.
    ///
    /// # Errors
    /// The process has too many files open.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { path: self.path.clone(), handle: self.handle.try_clone()?, syncs: self.syncs })
    }

    /// Whether any call's file is there.
    pub(super) fn has_calls(&self) -> Result<bool> {
        Ok(self.names()?.iter().any(|name| name.starts_with(FileName::PREFIX)))
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = || fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
        let names: io::Result<Vec<String>> = names();
        names.with_context(|| format!("the output directory {} cannot be read", self.path.display()))
    }

    /// Whether a call's file of this name, with either ending, is there or will be.
    pub(super) fn has(&self, name: &FileName) -> bool {
        let is_there = |ending| {
            let file_name = format!("{name}.{ending}");
            self.path.join(&file_name).exists() || self.part(&file_name).exists()
        };
        is_there("pcap") || is_there("pcapng")
    }

    /// Appends to a call's file, which is hidden until it is published.
    pub(super) fn append_part(&self, file_name: &str, is_first: bool, bytes: &[u8]) -> Result<()> {
        append(&self.part(file_name), is_first, bytes)
    }

    /// Writes a call's file under another name: `head`, then what stands in its part file, a classic pcap, frame by
    /// frame as `convert` has it. Gives how long it is.
    pub(super) fn rewrite_part(
        &self,
        from: &str,
        to: &str,
        head: &[u8],
        convert: impl Fn(&Record<'_>) -> Vec<u8>,
    ) -> Result<u64> {
        let (from, to) = (self.part(from), self.part(to));
        rewrite(&from, &to, head, convert).with_context(|| format!("{} cannot be made a pcapng", from.display()))
    }

    /// Gives a call's file its own name, if that has not been done.
    pub(super) fn publish(&self, file_name: &str) -> Result<()> {
        let (part, path) = (self.part(file_name), self.path.join(file_name));
        match fs::rename(&part, &path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be renamed to {}", part.display(), path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes a part that is of no use any more.
    pub(super) fn remove_part(&self, file_name: &str) -> Result<()> {
        remove(&self.part(file_name))
    }

    /// Removes the parts of calls' files that are not known, and what the others have beyond their lengths.
    pub(super) fn cut_back(&self, known: &BTreeMap<String, u64>) -> Result<()> {
        for (file_name, len) in known {
            cut(&self.part(file_name), *len)?;
        }
        for name in self.names()? {
            let file_name = name.strip_prefix(PART.0).and_then(|name| name.strip_suffix(PART.1));
            if file_name.is_some_and(|name| name.starts_with(FileName::PREFIX) && !known.contains_key(name)) {
                remove(&self.path.join(&name))?;
            }
        }
        Ok(())
    }

    /// Has the disk take in all that was written, unless that is not wanted.
    pub(super) fn sync(&self) -> Result<()> {
        if self.syncs {
            nix::unistd::syncfs(&self.handle)
                .with_context(|| format!("what was written to {} cannot be made durable", self.path.display()))?;
        }
        Ok(())
    }

    fn part(&self, file_name: &str) -> PathBuf {
        self.path.join(format!("{}{file_name}{}", PART.0, PART.1))
    }
}

fn append(path: &Path, is_first: bool, bytes: &[u8]) -> Result<()> {
    open_for_appending(path, is_first)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("{} bytes cannot be written to {}", bytes.len(), path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// What to do where a hidden file is not what it was.
const ADVICE: &str = "restore it, or give up the calls that were open with --reset-state";

/// Cuts a file back to a length that it had.
fn cut(path: &Path, len: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path);
    let file =
        file.with_context(|| format!("{} cannot be opened, in which the state has {len} bytes; {ADVICE}", path.display()))?;
    let there = file.metadata().map_or(0, |metadata| metadata.len());
    if there < len {
        bail!("{} has {there} bytes, where the state has {len}; {ADVICE}", path.display());
    }
    if there > len {
        file.set_len(len).with_context(|| format!("{} cannot be cut to {len} bytes", path.display()))?;
    }
    Ok(())
}

/// Goes through a classic pcap that may be larger than memory, record by record.
fn rewrite(from: &Path, to: &Path, head: &[u8], convert: impl Fn(&Record<'_>) -> Vec<u8>) -> io::Result<u64> {
    let mut from = BufReader::new(File::open(from)?);
    let mut to = BufWriter::new(open_for_appending(to, true)?);
    let mut header = [0; 24];
    from.read_exact(&mut header)?;
    let (layout, _) = Layout::detect(&header).map_err(io::Error::other)?;
    to.write_all(head)?;
    let mut record = Vec::new();
    while !from.fill_buf()?.is_empty() {
        record.resize(RECORD_HEADER_LEN, 0);
        from.read_exact(&mut record)?;
        let captured_len = record.get(8..).and_then(<[u8]>::first_chunk).map_or(0, |len| u32::from_le_bytes(*len));
        // Written by this program, from a record that was believed: no more than a frame can have.
        from.by_ref().take(captured_len.into()).read_to_end(&mut record)?;
        let read = layout.record_at(&record, 0).ok_or(io::ErrorKind::InvalidData)?;
        to.write_all(&convert(&read))?;
    }
    to.flush()?;
    to.stream_position()
}

/// With `is_first` the file is a new one: what an earlier run may have left, with whatever mode, is removed.
fn open_for_appending(path: &Path, is_first: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.mode(MODE);
    if !is_first {
        return options.append(true).open(path);
    }
    options.write(true).create_new(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Bytes on their way to one file, gathered for large writes.
///
/// A frame of speech has some 200 bytes: a write, or an element of a vectored one, for each would cost
/// three to eight times as much as copying it here first.
#[derive(Debug)]
pub(super) struct GatherBuffer {
    bytes: Vec<u8>,
}

/// Large enough to make the system call cheap, small enough to stay in the second-level cache.
const GATHER_LEN: usize = 256 * 1024;

impl Default for GatherBuffer {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(GATHER_LEN) }
    }
}

impl GatherBuffer {
    /// Adds some bytes. Tells whether it is time to [`GatherBuffer::take`] them out.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() >= GATHER_LEN - 64 * 1024
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// A CSV file. Rows go to a hidden file beside it first, a new one for each unit of work.
#[derive(Debug)]
pub(super) struct CsvFile {
    path: PathBuf,
    is_elsewhere: bool,
    /// Holds the lock on it.
    locked: Option<File>,
    columns: &'static [&'static str],
    /// Rows that are in no file yet.
    rows: Vec<u8>,
}

/// How far a CSV file is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct CsvProgress {
    /// The number of the unit of work.
    unit: u64,
    /// How many bytes of rows it has, in the hidden file.
    pending: u64,
    /// How long the file is to which they will be appended.
    published: u64,
}

impl CsvFile {
    /// A file with these columns; it need not be there.
    pub(super) fn new(directory: &Directory, name: &Path, columns: &'static [&'static str]) -> Self {
        let is_elsewhere = name.components().nth(1).is_some();
        Self { path: directory.path.join(name), is_elsewhere, locked: None, columns, rows: Vec::new() }
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Keeps others out of a file that is somewhere else than in the output directory: runs with other ones may know it.
    ///
    /// # Errors
    /// Another process appends to it.
    pub(super) fn lock(&mut self) -> Result<()> {
        if !self.is_elsewhere {
            return Ok(());
        }
        let path = self.path.display();
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path);
        let file = file.with_context(|| format!("{path} cannot be opened"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another sip-call-extractor is appending to {path}; give each its own file, or wait until that one has ended"
                )
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!("{path} cannot be locked ({error}); see to it that nobody else appends to it");
            }
            Ok(()) => {}
        }
        self.locked = Some(file);
        Ok(())
    }

    /// Makes the file with its header, if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or is one that rows cannot be appended to.
    pub(super) fn begin(&self) -> Result<()> {
        match OpenOptions::new().read(true).open(&self.path) {
            Ok(file) if file.metadata().is_ok_and(|metadata| metadata.len() > 0) => self.check(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be opened", self.path.display()))
            }
            _ => append_to(&self.path, &csv_rows([self.columns])?),
        }
    }

    /// Refuses a file that rows of these columns cannot be appended to.
    fn check(&self, mut file: File) -> Result<()> {
        let path = self.path.display();
        let mut header = String::new();
        let read = BufReader::new(&mut file).take(64 * 1024).read_line(&mut header);
        let want = self.columns.join(",");
        if read.is_err() || header.trim_end() != want {
            bail!("{path} has other columns than the rows that would be appended to it; move it away, or choose another name");
        }
        let mut last = [0];
        file.seek(SeekFrom::End(-1))
            .and_then(|_| file.read_exact(&mut last))
            .with_context(|| format!("{path} cannot be read"))?;
        if last != *b"\n" {
            bail!("{path} ends in the middle of a row; end that row or remove it, or choose another name");
        }
        Ok(())
    }

    /// Adds rows, which [`CsvFile::append`] writes.
    pub(super) fn push(&mut self, rows: &[u8]) {
        self.rows.extend_from_slice(rows);
    }

    /// Appends the rows pushed so far to the hidden file, in one write.
    pub(super) fn append(&mut self, progress: &mut CsvProgress) -> Result<()> {
        if !self.rows.is_empty() {
            append(&self.part(progress.unit), progress.pending == 0, &self.rows)?;
            progress.pending = progress.pending.saturating_add(self.rows.len() as u64);
            self.rows.clear();
        }
        Ok(())
    }

    /// Makes ready for rows to be published: notes how long the file is that they will be appended to.
    pub(super) fn prepare(&self, progress: &mut CsvProgress, directory: &Directory) -> Result<()> {
        progress.published = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        // It may be on another disk than the calls.
        if directory.syncs && progress.pending > 0 {
            let part = self.part(progress.unit);
            let synced = OpenOptions::new().append(true).open(&part).and_then(|file| file.sync_all());
            synced.with_context(|| format!("{} cannot be made durable", part.display()))?;
        }
        Ok(())
    }

    /// Appends the rows of a unit of work to the file, and begins with the next unit. Where that was begun and broken off, it
    /// is done again; where it was done, the hidden file is gone.
    pub(super) fn publish(&self, progress: &mut CsvProgress, directory: &Directory) -> Result<()> {
        let part = self.part(progress.unit);
        if progress.pending > 0 && part.exists() {
            cut(&part, progress.pending)?;
            let path = self.path.display();
            self.take_rows(&part, progress, directory)
                .with_context(|| format!("{} bytes of rows cannot be appended to {path}", progress.pending))?;
            remove(&part)?;
        }
        *progress = CsvProgress { unit: progress.unit.saturating_add(1), ..CsvProgress::default() };
        Ok(())
    }

    fn take_rows(&self, part: &Path, progress: &CsvProgress, directory: &Directory) -> Result<()> {
        let mut rows = File::open(part)?;
        // Not for appending: the kernel would not copy by itself then.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&self.path)?;
        // Shorter it is if somebody has put it away and begun a new one.
        let before = file.metadata()?.len().min(progress.published);
        file.set_len(before)?;
        let header = if before == 0 { csv_rows([self.columns])? } else { Vec::new() };
        let appended =
            file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&header)).and_then(|()| io::copy(&mut rows, &mut file));
        if appended.is_err() {
            // Nothing half-written stays.
            file.set_len(before)?;
        }
        appended?;
        if directory.syncs {
            file.sync_all()?;
        }
        Ok(())
    }

    /// Removes the hidden files of units of work but that of this one, of which it cuts off what is beyond its length.
    pub(super) fn cut_back(&self, progress: &CsvProgress) -> Result<()> {
        if progress.pending > 0 {
            cut(&self.part(progress.unit), progress.pending)?;
        }
        let keep = self.part(progress.unit);
        let file_name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!("{}{file_name}.", PART.0);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let unit = name.strip_prefix(&prefix).and_then(|name| name.strip_suffix(PART.1));
            let is_ours = unit.is_some_and(|unit| unit.parse::<u64>().is_ok());
            if is_ours && (entry.path() != keep || progress.pending == 0) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn part(&self, unit: u64) -> PathBuf {
        let file_name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!("{}{file_name}.{unit}{}", PART.0, PART.1))
    }
}

fn append_to(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path);
    let written = file.and_then(|mut file| {
        let before = file.metadata()?.len();
        file.write_all(bytes).or_else(|error| file.set_len(before).and(Err(error)))
    });
    written.with_context(|| format!("{} bytes cannot be written to {}", bytes.len(), path.display()))
}
