//! The output directory and the call files in it.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: writes the calls' pcaps and renames them"
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
    legs,
    names::FileName,
    parts::{append, cut, hidden, is_there, open_for_appending, remove, unhidden},
    settings::OutputSettings,
};
use crate::source::Map;

/// The output directory, and the lock on it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    syncs: bool,
}

impl Directory {
    /// Opens the directory, creates it if needed, and locks it against other runs.
    ///
    /// # Errors
    /// The directory cannot be made, or another process works on it.
    pub fn open(settings: &OutputSettings) -> Result<Self> {
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
            // Some file systems do not support locks on directories.
            Err(TryLockError::Error(error)) => tracing::warn!(
                "the output directory {} cannot be locked ({error}); make sure that no other sip-call-extractor works on it",
                path.display()
            ),
        }
        Ok(Self {
            path,
            handle,
            syncs: settings.syncs,
        })
    }

    /// Returns the same directory under the same lock.
    ///
    /// # Errors
    /// The process has too many open files.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            path: self.path.clone(),
            handle: self.handle.try_clone()?,
            syncs: self.syncs,
        })
    }

    /// The path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the disk must have all data before a unit of work counts as done.
    pub(super) fn syncs(&self) -> bool {
        self.syncs
    }

    /// Returns true if the directory has files of calls or conversations.
    pub(super) fn has_calls(&self) -> Result<bool> {
        Ok(self.names()?.iter().any(|name| FileName::may_be(name)))
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

    /// Returns true if a call's file with this name, with either extension, exists or is being
    /// written.
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

    /// Writes a new hidden file: `head`, then each record of the classic pcap in `from`, converted
    /// by `convert`. Returns its length.
    pub(super) fn rewrite_part(
        &self,
        from: &str,
        to: &str,
        head: &[u8],
        convert: impl Fn(&Record<'_>) -> Vec<u8>,
    ) -> Result<u64> {
        let (from, to) = (self.part(from), self.part(to));
        rewrite(&from, &to, head, convert)
            .with_context(|| format!("{} cannot be rewritten as a pcapng", from.display()))
    }

    /// Renames a hidden file to its final name, if that has not been done.
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

    /// Keeps the content of a hidden file under another hidden name, too.
    pub(super) fn keep_part(&self, file_name: &str, kept: &str) -> Result<()> {
        let (part, kept) = (self.part(file_name), self.part(kept));
        // An interrupted unit of work may have left one.
        remove(&kept)?;
        link(&part, &kept)
            .with_context(|| format!("{} cannot be kept as {}", part.display(), kept.display()))
    }

    /// Maps a hidden file into memory.
    pub(super) fn map_part(&self, file_name: &str) -> Result<Map> {
        let path = self.part(file_name);
        files::open(OpenOptions::new().read(true), &path)
            .and_then(|file| Map::of(&file, &path))
            .with_context(|| format!("{} cannot be read", path.display()))
    }

    /// Removes a hidden file.
    pub(super) fn remove_part(&self, file_name: &str) -> Result<()> {
        remove(&self.part(file_name))
    }

    /// Removes hidden files that are not in `known`, and truncates the others to their known
    /// lengths.
    pub(super) fn cut_back(&self, known: &BTreeMap<String, u64>) -> Result<()> {
        for (file_name, len) in known {
            cut(&self.part(file_name), *len)?;
        }
        for name in self.names()? {
            let is_own = |name: &str| FileName::may_be(name) || name.starts_with(legs::PREFIX);
            if unhidden(&name).is_some_and(|name| is_own(name) && !known.contains_key(name)) {
                remove(&self.path.join(&name))?;
            }
        }
        Ok(())
    }

    /// Syncs the file system of the directory to disk, unless the user does not want that.
    pub(super) fn sync(&self) -> Result<()> {
        if self.syncs {
            nix::unistd::syncfs(&self.handle).with_context(|| {
                format!(
                    "the files in {} cannot be synced to disk",
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

/// Gives a file a second name, or copies it where the file system has no links.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let mut from = files::open(OpenOptions::new().read(true), from)?;
            let mut to = open_for_appending(to, true)?;
            io::copy(&mut from, &mut to).map(|_| ())
        }
        linked => linked,
    }
}

/// Reads a classic pcap record by record; it may be larger than memory.
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
        // This program wrote the file from a valid record, so the length is at most that of a
        // frame.
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
