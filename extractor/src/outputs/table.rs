//! A file of rows, and its pending rows: a table, or objects of JSON.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: appends to the files of rows"
)]

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use csv::ByteRecord;
use serde::{Deserialize, Serialize};
use shared::{files, units::grouped};

mod form;

pub(super) use self::form::Form;
use super::{
    directory::Directory,
    parts::{MODE, append, cut, hidden, is_there, remove, unhidden},
};

/// The most bytes of the first line that are read: a header, or the beginning of a record.
const MAX_HEADER: u64 = 64 * 1024;

/// The first fields of a row, which say which call it is: its Call-ID, its start, its file.
const CALL_ID: usize = 0;
const START: usize = 1;
const FILE_NAME: usize = 2;

/// The calls whose rows replace earlier rows: their files, and their Call-IDs with their starts.
/// For the latter, true if the call has no file.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    files: BTreeSet<Vec<u8>>,
    calls: BTreeMap<[Vec<u8>; 2], bool>,
}

impl Replaced {
    fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn add(&mut self, row: &ByteRecord) {
        let file = field(row, FILE_NAME);
        self.calls.insert(call(row), file.is_empty());
        if !file.is_empty() {
            self.files.insert(file);
        }
    }

    /// Returns true if a row is replaced. If both rows have a file, the files decide, because
    /// several calls may have the same Call-ID and start. Otherwise Call-ID and start decide,
    /// except for rows of this run: in a capture with one time for all packets, two calls may look
    /// the same.
    fn has(&self, row: &ByteRecord, is_of_this_run: bool) -> bool {
        let file = field(row, FILE_NAME);
        let is_same_call = || {
            let comes_without_file = self.calls.get(&call(row));
            comes_without_file.is_some_and(|without| *without || file.is_empty())
        };
        self.files.contains(&file) || (!is_of_this_run && is_same_call())
    }
}

fn field(row: &ByteRecord, column: usize) -> Vec<u8> {
    row.get(column).unwrap_or_default().to_vec()
}

fn call(row: &ByteRecord) -> [Vec<u8>; 2] {
    [field(row, CALL_ID), field(row, START)]
}

/// A file of rows. Rows go to a hidden file beside it first, a new one for each unit of work.
#[derive(Debug)]
pub(super) struct RowFile {
    path: PathBuf,
    is_elsewhere: bool,
    /// The open file with the lock.
    locked: Option<File>,
    form: Form,
    /// Rows that are not in the hidden file yet.
    rows: Vec<u8>,
}

/// The lengths of a file of rows and its hidden file.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct RowProgress {
    /// The number of the unit of work.
    unit: u64,
    /// The bytes of its rows in the hidden file, and the number of rows.
    pending: u64,
    pending_rows: u64,
    /// The length of the file to which they will be appended.
    published: u64,
    /// The number of its last rows that this run wrote.
    own_rows: u64,
    /// True when this process has prepared it, so that none of the unit's rows is published yet.
    #[serde(skip)]
    is_prepared: bool,
}

impl RowProgress {
    /// The length of the file, and that of the rows that will be appended to it.
    pub(super) fn lengths(&self) -> (u64, u64) {
        (self.published, self.pending)
    }
}

impl RowFile {
    /// A file with rows in this form, which need not exist yet.
    pub(super) fn new(directory: &Directory, name: &Path, form: Form) -> Self {
        let is_elsewhere = name.components().nth(1).is_some();
        Self {
            path: directory.path().join(name),
            is_elsewhere,
            locked: None,
            form,
            rows: Vec::new(),
        }
    }

    /// The path of the file.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Locks a file outside the output directory, because runs with other output directories
    /// may use it, too.
    ///
    /// # Errors
    /// Another process appends to it.
    pub(super) fn lock(&mut self) -> Result<()> {
        if !self.is_elsewhere {
            return Ok(());
        }
        let path = self.path.display();
        let file = files::open(
            OpenOptions::new().append(true).create(true).mode(MODE),
            &self.path,
        );
        let file = file.with_context(|| format!("{path} cannot be opened"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another sip-call-extractor is appending to {path}; give each its own file, or wait until that one has ended"
                )
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    "{path} cannot be locked ({error}); make sure that no other process appends to it"
                );
            }
            Ok(()) => {}
        }
        self.locked = Some(file);
        Ok(())
    }

    /// Creates the file with its header if it does not exist.
    ///
    /// # Errors
    /// The file cannot be made, or rows cannot be appended to it.
    pub(super) fn begin(&self) -> Result<()> {
        match files::open(OpenOptions::new().read(true), &self.path) {
            Ok(file) if self.looked_at(file.metadata())? > 0 => self.check(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be opened", self.path.display()))
            }
            _ => append_to(&self.path, &self.form.header()?),
        }
    }

    /// The length of the file, in bytes.
    fn looked_at(&self, metadata: io::Result<fs::Metadata>) -> Result<u64> {
        Ok(metadata
            .with_context(|| format!("{} cannot be accessed", self.path.display()))?
            .len())
    }

    /// Refuses a file whose rows are of another form, or with an incomplete last row.
    fn check(&self, mut file: File) -> Result<()> {
        let path = self.path.display();
        let mut first = Vec::new();
        BufReader::new(&mut file)
            .take(MAX_HEADER)
            .read_until(b'\n', &mut first)
            .with_context(|| format!("{path} cannot be read"))?;
        let first = String::from_utf8_lossy(&first);
        let is_right = self.form.check(first.trim_end(), &path.to_string());
        is_right.map_err(anyhow::Error::msg)?;
        let mut last = [0];
        file.seek(SeekFrom::End(-1))
            .and_then(|_| file.read_exact(&mut last))
            .with_context(|| format!("{path} cannot be read"))?;
        if last != *b"\n" {
            bail!(
                "{path} ends in the middle of a row; end that row or remove it, or choose another name"
            );
        }
        Ok(())
    }

    /// Adds rows, which [`RowFile::append`] writes.
    pub(super) fn push(&mut self, rows: &[u8]) {
        self.rows.extend_from_slice(rows);
    }

    /// Appends the added rows to the hidden file, in one write.
    pub(super) fn append(&mut self, progress: &mut RowProgress) -> Result<()> {
        if !self.rows.is_empty() {
            append(&self.part(progress.unit), progress.pending == 0, &self.rows)?;
            progress.pending = progress.pending.saturating_add(self.rows.len() as u64);
            // No row has a line end in it: see `text.rs`; JSON escapes it.
            let rows = self.rows.iter().filter(|byte| **byte == b'\n').count() as u64;
            progress.pending_rows = progress.pending_rows.saturating_add(rows);
            self.rows.clear();
        }
        Ok(())
    }

    /// Prepares the publication of rows: records the present length of the file.
    pub(super) fn prepare(&self, progress: &mut RowProgress, directory: &Directory) -> Result<()> {
        progress.is_prepared = true;
        // If an error counted as a missing file, its rows would be cut off.
        progress.published = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            metadata => self.looked_at(metadata)?,
        };
        // The table may be on another disk than the calls.
        if directory.syncs() && progress.pending > 0 {
            let part = self.part(progress.unit);
            let synced = files::open(OpenOptions::new().append(true), &part)
                .and_then(|file| file.sync_all());
            synced.with_context(|| format!("{} cannot be synced to disk", part.display()))?;
        }
        Ok(())
    }

    /// The calls in the rows that are to be published.
    pub(super) fn pending_calls(&self, progress: &RowProgress) -> Result<Replaced> {
        let part = self.part(progress.unit);
        let mut calls = Replaced::default();
        if progress.pending == 0 || !is_there(&part)? {
            return Ok(calls);
        }
        cut(&part, progress.pending)?;
        let rows = self
            .rows_of(&part)
            .with_context(|| format!("{} cannot be read", part.display()))?;
        rows.iter().for_each(|row| calls.add(row));
        Ok(calls)
    }

    /// Appends the rows of a unit of work to the file, and begins the next unit. An interrupted
    /// publication is done again; after a complete one, the hidden file is gone. Earlier rows of
    /// `replaced` calls are removed.
    pub(super) fn publish(
        &mut self,
        progress: &mut RowProgress,
        directory: &Directory,
        replaced: &Replaced,
    ) -> Result<()> {
        let part = self.part(progress.unit);
        let is_pending = progress.pending > 0 && is_there(&part)?;
        if is_pending {
            cut(&part, progress.pending)?;
        }
        let path = self.path.display().to_string();
        let what = || {
            format!(
                "{} bytes of rows cannot be appended to {path}",
                progress.pending
            )
        };
        if replaced.is_empty() {
            if is_pending {
                self.append_rows(&part, progress, directory)
                    .with_context(what)?;
            }
        } else if is_pending || progress.pending == 0 {
            self.replace_rows(
                Some(part.as_path()).filter(|_| is_pending),
                progress,
                directory,
                replaced,
            )
            .with_context(what)?;
        }
        if is_pending {
            remove(&part)?;
        }
        *progress = RowProgress {
            unit: progress.unit.saturating_add(1),
            own_rows: progress.own_rows.saturating_add(progress.pending_rows),
            ..RowProgress::default()
        };
        Ok(())
    }

    fn append_rows(
        &self,
        part: &Path,
        progress: &RowProgress,
        directory: &Directory,
    ) -> Result<()> {
        let mut rows = BufReader::new(files::open(OpenOptions::new().read(true), part)?);
        let mut file = files::open(
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(MODE),
            &self.path,
        )?;
        // The file is shorter if a user has moved it away and started a new one.
        let before = file.metadata()?.len().min(progress.published);
        file.set_len(before)?;
        let header = if before == 0 {
            self.form.header()?
        } else {
            Vec::new()
        };
        let end = if before == 0 {
            &b"\n"[..]
        } else {
            line_end(&mut file)?
        };
        let appended = file
            .seek(SeekFrom::End(0))
            .and_then(|_| file.write_all(&header))
            .and_then(|()| copy_rows(&mut rows, &mut file, end));
        if appended.is_err() {
            // A partial row must not stay.
            file.set_len(before)?;
        }
        appended?;
        if directory.syncs() {
            file.sync_all()?;
        }
        Ok(())
    }

    /// Writes the file anew, without the rows of `replaced` calls, and with those of a unit of
    /// work. It replaces the old file as a whole, so an interrupted publication can be done again
    /// from either: the rows of the unit may already be there.
    fn replace_rows(
        &mut self,
        part: Option<&Path>,
        progress: &RowProgress,
        directory: &Directory,
        replaced: &Replaced,
    ) -> Result<()> {
        let new_rows = part.map_or_else(|| Ok(Vec::new()), |part| self.rows_of(part))?;
        let open = |path: &Path| files::open(OpenOptions::new().read(true), path);
        let mut old = match open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            old => Some(old?),
        };
        let mode = old.as_ref().map_or(Ok(MODE), |old| {
            old.metadata().map(|metadata| metadata.permissions().mode())
        })?;
        let end = old.as_mut().map_or(Ok(&b"\n"[..]), line_end)?;
        let new = files::replacement(&self.path, mode)?;
        let mut to = self.form.writer(new.as_file(), end);
        let mut has_header = self.form.header_rows() == 0;
        if let Some(mut old) = old {
            let (others, own) = self.rows_of_whom(&old, progress, &new_rows)?;
            old.seek(SeekFrom::Start(0))?;
            for (number, row) in (0..others.saturating_add(own)).zip(self.form.rows(old)) {
                let row = row?;
                let is_header = number < self.form.header_rows();
                if is_header || !replaced.has(&row, number >= others) {
                    to.write(&row)?;
                }
                has_header |= is_header;
            }
        }
        if !has_header {
            to.write_header(self.form)?;
        }
        for row in &new_rows {
            to.write(row)?;
        }
        to.flush()?;
        drop(to);
        if directory.syncs() {
            new.as_file().sync_all()?;
        }
        if self.locked.is_some()
            && let Err(error) = new.as_file().try_lock()
        {
            tracing::warn!(
                "{} cannot be locked ({error}); make sure that no other process appends to it",
                self.path.display()
            );
        }
        let file = new.persist(&self.path).map_err(|error| error.error)?;
        if directory.syncs() {
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        }
        self.locked = self.locked.take().map(|_| file);
        Ok(())
    }

    /// The number of leading rows that others wrote, with the header, and the number of rows of
    /// this run after them. The rows of the unit of work come last and do not count: a process that
    /// was killed may have published them.
    fn rows_of_whom(
        &self,
        file: &File,
        progress: &RowProgress,
        new_rows: &[ByteRecord],
    ) -> Result<(u64, u64)> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let mut count: u64 = 0;
        let mut last = VecDeque::new();
        for row in self.form.rows(file) {
            count = count.saturating_add(1);
            last.push_back(row?);
            if last.len() > new_rows.len() {
                last.pop_front();
            }
        }
        if !progress.is_prepared && last.iter().eq(new_rows) {
            count = count.saturating_sub(new_rows.len() as u64);
        }
        let own = progress.own_rows.min(count);
        Ok((count.saturating_sub(own), own))
    }

    /// Logs the number of rows to which others will be appended.
    pub(super) fn tell_of_rows(&self, overwrites: bool) -> Result<()> {
        let path = self.path.display();
        let file = files::open(OpenOptions::new().read(true), &self.path)
            .with_context(|| format!("{path} cannot be opened"))?;
        let lines = BufReader::with_capacity(1 << 20, file)
            .split(b'\n')
            .map_while(Result::ok)
            .count() as u64;
        let rows = grouped(lines.saturating_sub(1));
        match (lines, overwrites) {
            (..2, _) => {}
            (_, false) => {
                tracing::info!(
                    "rows are appended to {path}, which has {rows} rows; --overwrite replaces the rows of the same calls"
                );
            }
            (_, true) => {
                tracing::info!(
                    "appending to {path}, which has {rows} rows; rows of calls that come again are replaced"
                );
            }
        }
        Ok(())
    }

    /// Removes the hidden files of other units of work, truncates the hidden file of this unit to
    /// its known length, and removes unfinished replacements of the file.
    pub(super) fn cut_back(&self, progress: &RowProgress) -> Result<()> {
        if progress.pending > 0 {
            cut(&self.part(progress.unit), progress.pending)?;
        }
        let keep = self.part(progress.unit);
        let prefix = format!("{}.", self.file_name());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let unreadable = || format!("{} cannot be read", folder.display());
        for entry in fs::read_dir(folder).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let unit = unhidden(&name).and_then(|name| name.strip_prefix(&prefix));
            let is_ours = unit
                .is_some_and(|unit| unit.parse::<u64>().is_ok() || files::is_of_replacement(unit));
            if is_ours && (entry.path() != keep || progress.pending == 0) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn rows_of(&self, part: &Path) -> Result<Vec<ByteRecord>> {
        let file = files::open(OpenOptions::new().read(true), part)?;
        self.form.rows(file).collect()
    }

    /// The path of a unit's hidden file.
    fn part(&self, unit: u64) -> PathBuf {
        self.path
            .with_file_name(hidden(&format!("{}.{unit}", self.file_name())))
    }

    fn file_name(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }
}

/// The line end of the table's header. Earlier versions ended lines with CRLF.
fn line_end(file: &mut File) -> io::Result<&'static [u8]> {
    let mut header = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    BufReader::new(file)
        .take(MAX_HEADER)
        .read_until(b'\n', &mut header)?;
    Ok(if header.ends_with(b"\r\n") {
        b"\r\n"
    } else {
        b"\n"
    })
}

/// Copies rows with the line end of the table. No field contains a line end: see `text.rs`.
fn copy_rows(rows: &mut impl BufRead, to: &mut impl Write, end: &[u8]) -> io::Result<()> {
    let mut to = BufWriter::new(to);
    let mut row = Vec::new();
    while rows.read_until(b'\n', &mut row)? > 0 {
        let row_end = row
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'))
            .map_or(0, |last| last.saturating_add(1));
        to.write_all(row.get(..row_end).unwrap_or_default())?;
        to.write_all(end)?;
        row.clear();
    }
    to.flush()
}

fn append_to(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = files::open(
        OpenOptions::new().append(true).create(true).mode(MODE),
        path,
    );
    let written = file.and_then(|mut file| {
        let before = file.metadata()?.len();
        file.write_all(bytes)
            .or_else(|error| file.set_len(before).and(Err(error)))
    });
    written.with_context(|| {
        format!(
            "{} bytes cannot be written to {}",
            bytes.len(),
            path.display()
        )
    })
}

/// Rows as RFC 4180 defines them, quoted where needed, but with LF as line end, so that `grep
/// ',0$'` and awk match the last column.
pub(super) fn csv_rows<R: IntoIterator<Item: AsRef<[u8]>>>(
    rows: impl IntoIterator<Item = R>,
) -> Result<Vec<u8>> {
    // A buffer for a few rows, because a writer is made for each call.
    let mut builder = csv::WriterBuilder::new();
    let mut writer = builder
        .terminator(csv::Terminator::Any(b'\n'))
        .buffer_capacity(1024)
        .from_writer(Vec::new());
    rows.into_iter()
        .try_for_each(|row| writer.write_record(row))
        .context("a CSV row cannot be made")?;
    Ok(writer.into_inner()?)
}
