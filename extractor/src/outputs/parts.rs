//! Hidden files: all output is appended to one until it is published.
//!
//! The state records the length of each. Bytes beyond that length come from a unit of work that was
//! interrupted, and are cut off.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: appends to hidden files, cuts them and removes them"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail};
use shared::files;

/// Calls are confidential: only the owner and the group can read them.
pub(super) const MODE: u32 = 0o640;

/// The beginning and the end of a hidden file's name.
const MARKS: (&str, &str) = (".", ".part");

/// The name of the hidden file for a file name.
pub(super) fn hidden(name: &str) -> String {
    format!("{}{name}{}", MARKS.0, MARKS.1)
}

/// The file name of a hidden file; `None` if the name is not that of a hidden file.
pub(super) fn unhidden(name: &str) -> Option<&str> {
    name.strip_prefix(MARKS.0)?.strip_suffix(MARKS.1)
}

pub(super) fn append(path: &Path, is_first: bool, bytes: &[u8]) -> Result<()> {
    open_for_appending(path, is_first)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| {
            format!(
                "{} bytes cannot be written to {}",
                bytes.len(),
                path.display()
            )
        })
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns true if a file exists. An I/O error is not "no": the caller would replace the file.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    fs::exists(path).with_context(|| format!("{} cannot be accessed", path.display()))
}

/// The advice when a hidden file differs from the state.
const ADVICE: &str = "restore it, or discard the open calls with --reset-state";

/// Truncates a file to an earlier length.
pub(super) fn cut(path: &Path, len: u64) -> Result<()> {
    let file = files::open(OpenOptions::new().write(true), path);
    let file = file.with_context(|| {
        format!(
            "{} cannot be opened, and the state records {len} bytes in it; {ADVICE}",
            path.display()
        )
    })?;
    let there = file
        .metadata()
        .with_context(|| format!("{} cannot be accessed", path.display()))?
        .len();
    if there < len {
        bail!(
            "{} has {there} bytes, but the state records {len}; {ADVICE}",
            path.display()
        );
    }
    if there > len {
        file.set_len(len)
            .with_context(|| format!("{} cannot be cut to {len} bytes", path.display()))?;
    }
    Ok(())
}

/// Opens a file for appending. With `is_first`, removes an older file first, which may have another
/// mode.
pub(super) fn open_for_appending(path: &Path, is_first: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.mode(MODE);
    if !is_first {
        return files::open(options.append(true), path);
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
