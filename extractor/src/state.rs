//! The state that one run leaves to the next: a file in the output directory.
//!
//! ```text
//!  0  magic                    8
//!  8  version of the format    4
//! 12  CRC-32 of what follows   4
//! 16  length of the body       8
//! 24  length of the records    8
//! 32  body (postcard), then records (see `source::Carried`)
//! ```
//!
//! The file is replaced as a whole, so there is always one good state. Numbers are little-endian.
#![allow(clippy::disallowed_methods, reason = "a door: the state file")]

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use shared::files;
use tempfile::NamedTempFile;

use crate::{points::StoredPoints, source::Carried, terms::Terms, unit::Checkpoint};

const FILE_NAME: &str = ".sip-call-extractor.state";
const MAGIC: [u8; 8] = *b"SIPCALLS";
/// The version of the format; every change of the carried types increases it.
const VERSION: u32 = 13;
const HEADER_LEN: usize = 32;
/// Only the owner may read it: the state contains packets.
const MODE: u32 = 0o600;

/// The carried data; large parts are borrowed when the state is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct State<Calls, Unfinished, Books> {
    /// The terms that a run must have to resume.
    pub terms: Terms,
    /// The point up to which everything has been read.
    pub checkpoint: Checkpoint,
    /// The known segments of the input directories.
    pub points: StoredPoints,
    /// The calls that are open.
    pub calls: Calls,
    /// The incomplete messages.
    pub unfinished: Unfinished,
    /// The output files.
    pub books: Books,
}

/// A state that was read, with its records.
pub type Loaded<Calls, Unfinished, Books> = (State<Calls, Unfinished, Books>, Carried);

/// The state file of an output directory.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    syncs: bool,
}

impl StateFile {
    /// The state file of a directory. With `syncs`, the old or the new state survives a power loss.
    #[must_use]
    pub fn of(directory: &Path, syncs: bool) -> Self {
        Self {
            path: directory.join(FILE_NAME),
            syncs,
        }
    }

    /// Reads the state, if there is one, with its records.
    ///
    /// # Errors
    /// The state cannot be read, is damaged, or was written by a later version.
    pub fn load<C, U, B>(&self) -> Result<Option<Loaded<C, U, B>>>
    where
        State<C, U, B>: for<'a> Deserialize<'a>,
    {
        let path = self.path.display();
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("the state {path} cannot be opened"))?,
        };
        let header = StateHeader::read(&mut file)
            .with_context(|| format!("the state {path} cannot be read"))?;
        let advice = "restore it, or give up the calls that were open with --reset-state";
        let Some(header) = header else {
            bail!("the state {path} is damaged: it does not begin with the magic number; {advice}")
        };
        if header.version != VERSION {
            let age = if header.version > VERSION {
                "a later"
            } else {
                "an earlier"
            };
            bail!(
                "the state {path} was written by {age} version of this program (format {}, this one reads {VERSION}); \
                 use that version, or give up the calls that were open with --reset-state",
                header.version
            );
        }
        if !header
            .fits(&mut file)
            .with_context(|| format!("the state {path} cannot be read"))?
        {
            bail!("the state {path} is damaged: its checksum is wrong; {advice}");
        }
        // The lengths in the header fit the file's length, so no more is read than is there.
        let mut body = Vec::new();
        file.seek(SeekFrom::Start(HEADER_LEN as u64))
            .and_then(|_| (&file).take(header.body_len).read_to_end(&mut body))
            .with_context(|| format!("the state {path} cannot be read"))?;
        let Ok(state) = postcard::from_bytes(&body) else {
            bail!("the state {path} is damaged; {advice}")
        };
        let carried = header
            .records(&file)
            .with_context(|| format!("the state {path} cannot be mapped into memory"))?;
        Ok(Some((state, carried)))
    }

    /// Replaces the state. `records` writes the carried records, and returns their length. Returns
    /// the records as they can be read now.
    ///
    /// # Errors
    /// The state cannot be written; the old one is still there.
    pub fn save<C, U, B>(
        &self,
        state: &State<C, U, B>,
        records: impl FnOnce(&mut dyn Write) -> io::Result<u64>,
    ) -> Result<Carried>
    where
        State<C, U, B>: Serialize,
    {
        let body = postcard::to_stdvec(state).context("the state cannot be made")?;
        let saved = self.write(&body, records).and_then(|(new, header)| {
            let file = new.persist(&self.path)?;
            self.sync_directory()?;
            header.records(&file)
        });
        saved.with_context(|| {
            format!(
                "the state {} cannot be written ({} bytes and the carried records)",
                self.path.display(),
                body.len()
            )
        })
    }

    fn write(
        &self,
        body: &[u8],
        records: impl FnOnce(&mut dyn Write) -> io::Result<u64>,
    ) -> io::Result<(NamedTempFile, StateHeader)> {
        let new = files::replacement(&self.path, MODE)?;
        let mut file = new.as_file();
        let mut out = Summed {
            to: BufWriter::with_capacity(256 * 1024, file),
            sum: Hasher::new(),
        };
        out.to.write_all(&[0; HEADER_LEN])?;
        out.write_all(body)?;
        let records_len = records(&mut out)?;
        out.to.flush()?;
        let sum = out.sum.clone().finalize();
        drop(out);
        let header = StateHeader {
            version: VERSION,
            sum,
            body_len: body.len() as u64,
            records_len,
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.bytes())?;
        if self.syncs {
            file.sync_all()?;
        }
        Ok((new, header))
    }

    /// Removes the state.
    ///
    /// # Errors
    /// The state cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let removed = remove_if_there(&self.path).and_then(|()| self.sync_directory());
        removed.with_context(|| format!("the state {} cannot be removed", self.path.display()))
    }

    /// Removes state files that a killed run had not finished writing.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn remove_broken_off(&self) -> Result<()> {
        let removed = files::remove_leftovers(&self.path);
        removed.with_context(|| {
            format!(
                "unfinished state files of a killed run ({}) cannot be removed",
                self.path.display()
            )
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        match self.path.parent().filter(|_| self.syncs) {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

struct StateHeader {
    version: u32,
    sum: u32,
    body_len: u64,
    records_len: u64,
}

impl StateHeader {
    fn read(file: &mut File) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        file.take(HEADER_LEN as u64).read_to_end(&mut bytes)?;
        let number = |at: usize| {
            bytes
                .get(at..)
                .and_then(<[u8]>::first_chunk)
                .map(|bytes| u32::from_le_bytes(*bytes))
        };
        let long = |at: usize| {
            bytes
                .get(at..)
                .and_then(<[u8]>::first_chunk)
                .map(|bytes| u64::from_le_bytes(*bytes))
        };
        let header = || {
            Some(Self {
                version: number(8)?,
                sum: number(12)?,
                body_len: long(16)?,
                records_len: long(24)?,
            })
        };
        Ok(header().filter(|_| bytes.starts_with(&MAGIC)))
    }

    fn bytes(&self) -> Vec<u8> {
        let numbers = [self.version, self.sum]
            .into_iter()
            .flat_map(u32::to_le_bytes);
        let lens = [self.body_len, self.records_len]
            .into_iter()
            .flat_map(u64::to_le_bytes);
        MAGIC.into_iter().chain(numbers).chain(lens).collect()
    }

    /// True when the length and the checksum of the file are those of the header.
    fn fits(&self, file: &mut File) -> io::Result<bool> {
        let mut sum = Summed {
            to: io::sink(),
            sum: Hasher::new(),
        };
        let len = io::copy(file, &mut sum)?;
        Ok(Some(len) == self.body_len.checked_add(self.records_len)
            && sum.sum.finalize() == self.sum)
    }

    fn records(&self, file: &File) -> io::Result<Carried> {
        // A file that is not addressable cannot be mapped.
        let start = usize::try_from(self.body_len)
            .unwrap_or(usize::MAX)
            .saturating_add(HEADER_LEN);
        let len = usize::try_from(self.records_len).unwrap_or(usize::MAX);
        Carried::in_file(file, start..start.saturating_add(len))
    }
}

/// A writer that computes a checksum of the bytes that pass through.
struct Summed<W> {
    to: W,
    sum: Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms;

    type Simple = State<u8, (), ()>;

    fn state(clock: u64) -> Simple {
        State {
            terms: terms::tests::terms(None, 5_000_000_000),
            checkpoint: Checkpoint {
                clock,
                next_input: 3,
                ..Checkpoint::default()
            },
            points: StoredPoints::default(),
            calls: 9,
            unfinished: (),
            books: (),
        }
    }

    fn saved(directory: &Path) -> StateFile {
        let file = StateFile::of(directory, true);
        assert!(file.load::<u8, (), ()>().unwrap().is_none());
        file.save(&state(1), |_| Ok(0)).unwrap();
        file.save(&state(2), |_| Ok(0)).unwrap();
        file
    }

    fn sentence(file: &StateFile) -> String {
        format!("{:#}", file.load::<u8, (), ()>().unwrap_err())
    }

    #[test]
    fn the_last_state_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = saved(directory.path());
        let (_, broken_off) = files::replacement(&file.path, MODE)
            .unwrap()
            .keep()
            .unwrap();
        let (read, _) = file.load::<u8, (), ()>().unwrap().unwrap();
        let Checkpoint {
            clock, next_input, ..
        } = read.checkpoint;
        assert_eq!((clock, read.calls, next_input), (2, 9, 3));
        assert!(broken_off.exists(), "reading changes nothing");
        file.remove_broken_off().unwrap();
        assert!(!broken_off.exists());
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_state_that_cannot_be_written_leaves_the_one_of_before() {
        let directory = tempfile::tempdir().unwrap();
        let file = saved(directory.path());
        let error = file
            .save(&state(3), |_| Err(io::ErrorKind::StorageFull.into()))
            .unwrap_err();
        assert!(format!("{error:#}").contains(FILE_NAME), "{error:#}");
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "the unfinished file is removed"
        );
        assert_eq!(
            file.load::<u8, (), ()>()
                .unwrap()
                .unwrap()
                .0
                .checkpoint
                .clock,
            2
        );
    }

    #[test]
    fn what_is_damaged_anywhere_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = saved(directory.path());
        let good = fs::read(&file.path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file.path, &bad).unwrap();
            let sentence = sentence(&file);
            assert!(sentence.contains("--reset-state"), "{at}: {sentence}");
            fs::write(&file.path, &good[..at]).unwrap();
            assert!(file.load::<u8, (), ()>().is_err(), "cut at {at}");
        }
        fs::write(&file.path, [&good[..], b"x"].concat()).unwrap();
        assert!(sentence(&file).contains("checksum"));
    }

    #[test]
    fn other_versions_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let file = saved(directory.path());
        let mut bytes = fs::read(&file.path).unwrap();
        bytes[8] = 200;
        fs::write(&file.path, &bytes).unwrap();
        assert!(sentence(&file).contains("a later version"));
        bytes[8] = 0;
        fs::write(&file.path, &bytes).unwrap();
        assert!(sentence(&file).contains("an earlier version"));
    }
}
