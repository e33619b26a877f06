//! The output directory, and the calls' files in it.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: writes the calls' pcaps and gives them their names"
)]

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use shared::{
    files,
    pcap::{Layout, RECORD_HEADER_LEN, Record},
};

use super::{
    names::FileName,
    parts::{append, cut, hidden, is_there, open_for_appending, remove, unhidden},
    settings::Settings,
};

/// The output directory, and the lock on it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    syncs: bool,
}

impl Directory {
    /// Makes it if it is not there, and keeps others out of it.
    ///
    /// # Errors
    /// It cannot be made, or another process works on it.
    pub fn open(settings: &Settings) -> Result<Self> {
        let path = settings.directory.clone();
        fs::create_dir_all(&path)
            .with_context(|| format!("the output directory {} cannot be made", path.display()))?;
        let handle = File::open(&path)
            .with_context(|| format!("the output directory {} cannot be opened", path.display()))?;
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
        Ok(Self {
            path,
            handle,
            syncs: settings.syncs,
        })
    }

    /// The same directory, under the same lock.
    ///
    /// # Errors
    /// The process has too many files open.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            path: self.path.clone(),
            handle: self.handle.try_clone()?,
            syncs: self.syncs,
        })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The disk is waited for before a unit of work counts as done.
    pub(super) fn syncs(&self) -> bool {
        self.syncs
    }

    /// Tells whether any call's file is there.
    pub(super) fn has_calls(&self) -> Result<bool> {
        Ok(self
            .names()?
            .iter()
            .any(|name| name.starts_with(FileName::PREFIX)))
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = || {
            fs::read_dir(&self.path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        let names: io::Result<Vec<String>> = names();
        names.with_context(|| {
            format!(
                "the output directory {} cannot be read",
                self.path.display()
            )
        })
    }

    /// Tells whether a call's file of this name, with either ending, is there or will be.
    pub(super) fn has(&self, name: &FileName) -> Result<bool> {
        for ending in ["pcap", "pcapng"] {
            let file_name = format!("{name}.{ending}");
            if is_there(&self.path.join(&file_name))? || is_there(&self.part(&file_name))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends to a call's file, which is hidden until it is published.
    pub(super) fn append_part(&self, file_name: &str, is_first: bool, bytes: &[u8]) -> Result<()> {
        append(&self.part(file_name), is_first, bytes)
    }

    /// Writes a call's file under another name: `head`, then what stands in its part file, a
    /// classic pcap, frame by frame as `convert` has it. Gives how long it is.
    pub(super) fn rewrite_part(
        &self,
        from: &str,
        to: &str,
        head: &[u8],
        convert: impl Fn(&Record<'_>) -> Vec<u8>,
    ) -> Result<u64> {
        let (from, to) = (self.part(from), self.part(to));
        rewrite(&from, &to, head, convert)
            .with_context(|| format!("{} cannot be made a pcapng", from.display()))
    }

    /// Gives a call's file its own name, if that has not been done.
    pub(super) fn publish(&self, file_name: &str) -> Result<()> {
        let (part, path) = (self.part(file_name), self.path.join(file_name));
        match fs::rename(&part, &path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| {
                    format!("{} cannot be renamed to {}", part.display(), path.display())
                })
            }
            _ => Ok(()),
        }
    }

    /// Removes a part that is of no use any more.
    pub(super) fn remove_part(&self, file_name: &str) -> Result<()> {
        remove(&self.part(file_name))
    }

    /// Removes the parts of calls' files that are not known, and what the others have beyond their
    /// lengths.
    pub(super) fn cut_back(&self, known: &BTreeMap<String, u64>) -> Result<()> {
        for (file_name, len) in known {
            cut(&self.part(file_name), *len)?;
        }
        for name in self.names()? {
            if unhidden(&name)
                .is_some_and(|name| name.starts_with(FileName::PREFIX) && !known.contains_key(name))
            {
                remove(&self.path.join(&name))?;
            }
        }
        Ok(())
    }

    /// Has the disk take in all that was written, unless that is not wanted.
    pub(super) fn sync(&self) -> Result<()> {
        if self.syncs {
            nix::unistd::syncfs(&self.handle).with_context(|| {
                format!(
                    "what was written to {} cannot be made durable",
                    self.path.display()
                )
            })?;
        }
        Ok(())
    }

    fn part(&self, file_name: &str) -> PathBuf {
        self.path.join(hidden(file_name))
    }
}

/// Goes through a classic pcap that may be larger than memory, record by record.
fn rewrite(
    from: &Path,
    to: &Path,
    head: &[u8],
    convert: impl Fn(&Record<'_>) -> Vec<u8>,
) -> io::Result<u64> {
    let mut from = BufReader::new(files::open(OpenOptions::new().read(true), from)?);
    let mut to = BufWriter::new(open_for_appending(to, true)?);
    let mut header = [0; 24];
    from.read_exact(&mut header)?;
    let (layout, _) = Layout::detect(&header).map_err(io::Error::other)?;
    to.write_all(head)?;
    let mut record = Vec::new();
    while !from.fill_buf()?.is_empty() {
        record.resize(RECORD_HEADER_LEN, 0);
        from.read_exact(&mut record)?;
        let captured_len = record
            .get(8..)
            .and_then(<[u8]>::first_chunk)
            .map_or(0, |len| u32::from_le_bytes(*len));
        // Written by this program, from a record that was believed: no more than a frame can have.
        from.by_ref()
            .take(captured_len.into())
            .read_to_end(&mut record)?;
        let read = layout
            .record_at(&record, 0)
            .ok_or(io::ErrorKind::InvalidData)?;
        to.write_all(&convert(&read))?;
    }
    to.flush()?;
    to.stream_position()
}
