//! The files themselves.
#![allow(clippy::disallowed_methods, reason = "a door: writes the calls' pcaps and the CSV files")]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use shared::pcap::{Layout, RECORD_HEADER_LEN, Record};

use super::{names::FileName, rows::csv_rows};

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
}

/// The output directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

/// Nobody else's business: calls are confidential.
const MODE: u32 = 0o640;

impl Directory {
    pub(super) fn open(settings: &Settings) -> Result<Self> {
        let path = settings.directory.clone();
        fs::create_dir_all(&path).with_context(|| format!("the output directory {} cannot be made", path.display()))?;
        Ok(Self { path })
    }

    /// Whether any call's file is there.
    pub(super) fn has_calls(&self) -> Result<bool> {
        let look = || -> io::Result<bool> {
            for entry in fs::read_dir(&self.path)? {
                if entry?.file_name().as_encoded_bytes().starts_with(FileName::PREFIX.as_bytes()) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        look().with_context(|| format!("the output directory {} cannot be read", self.path.display()))
    }

    /// Whether a call's file of this name, with either ending, is there.
    pub(super) fn has(&self, name: &FileName) -> bool {
        let is_there = |ending| self.path.join(format!("{name}.{ending}")).exists();
        is_there("pcap") || is_there("pcapng")
    }

    /// Appends to a call's file, which goes by another name until it is complete.
    pub(super) fn append_part(&self, name: &FileName, is_first: bool, bytes: &[u8]) -> Result<()> {
        let path = self.part(name);
        open_for_appending(&path, is_first)
            .and_then(|mut file| file.write_all(bytes))
            .with_context(|| format!("{} bytes cannot be written to {}", bytes.len(), path.display()))
    }

    /// Writes a call's file anew: `head`, then what stands in its part file, a classic pcap, frame by frame
    /// as `convert` has it.
    pub(super) fn rewrite_part(&self, name: &FileName, head: &[u8], convert: impl Fn(&Record<'_>) -> Vec<u8>) -> Result<()> {
        let (part, new) = (self.part(name), self.path.join(format!(".{name}.new.part")));
        rewrite(&part, &new, head, convert)
            .and_then(|()| fs::rename(&new, &part))
            .with_context(|| format!("{} cannot be made a pcapng", part.display()))
    }

    /// Gives a call's file its own name.
    pub(super) fn complete(&self, name: &FileName, file_name: &str) -> Result<()> {
        let (part, path) = (self.part(name), self.path.join(file_name));
        fs::rename(&part, &path).with_context(|| format!("{} cannot be renamed to {}", part.display(), path.display()))
    }

    fn part(&self, name: &FileName) -> PathBuf {
        self.path.join(format!(".{name}.part"))
    }
}

/// Goes through a classic pcap that may be larger than memory, record by record.
fn rewrite(from: &Path, to: &Path, head: &[u8], convert: impl Fn(&Record<'_>) -> Vec<u8>) -> io::Result<()> {
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
    to.flush()
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

/// A CSV file, appended to.
#[derive(Debug)]
pub(super) struct CsvFile {
    path: PathBuf,
    /// Rows that are not in the file yet.
    rows: Vec<u8>,
}

impl CsvFile {
    /// Opens the file, or makes it with its header.
    pub(super) fn open(directory: &Directory, name: &Path, columns: &[&str]) -> Result<Self> {
        let mut csv = Self { path: directory.path.join(name), rows: Vec::new() };
        match OpenOptions::new().read(true).open(&csv.path) {
            Ok(file) if file.metadata().is_ok_and(|metadata| metadata.len() > 0) => csv.check(file, columns)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} cannot be opened", csv.path.display()));
            }
            _ => {
                csv.push(&csv_rows([columns])?);
                csv.append()?;
            }
        }
        Ok(csv)
    }

    /// Refuses a file that rows of these columns cannot be appended to.
    fn check(&self, mut file: File, columns: &[&str]) -> Result<()> {
        let path = self.path.display();
        let mut header = String::new();
        let read = BufReader::new(&mut file).take(64 * 1024).read_line(&mut header);
        let want = columns.join(",");
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

    /// Appends the rows pushed so far to the file, in one write.
    pub(super) fn append(&mut self) -> Result<()> {
        let path = &self.path;
        if self.rows.is_empty() {
            return Ok(());
        }
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path);
        file.and_then(|mut file| file.write_all(&self.rows))
            .with_context(|| format!("{} bytes cannot be written to {}", self.rows.len(), path.display()))?;
        self.rows.clear();
        Ok(())
    }
}
