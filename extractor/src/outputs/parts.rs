//! Hidden files: all that is written goes to one, until it counts.
//!
//! The state says how long each is. Bytes behind that are of a unit of work that was broken off:
//! they are cut off.
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

/// Calls are confidential: nobody outside the group reads them.
pub(super) const MODE: u32 = 0o640;

/// A hidden file's name begins with the one, and ends with the other.
const MARKS: (&str, &str) = (".", ".part");

/// The name of the hidden file of this name.
pub(super) fn hidden(name: &str) -> String {
    format!("{}{name}{}", MARKS.0, MARKS.1)
}

/// The name between the marks of a hidden file; none if it is not one.
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

/// Whether there is a file. A disk that does not tell is an error: to take that for no would have a
/// file replaced.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    fs::exists(path).with_context(|| format!("{} cannot be looked at", path.display()))
}

/// The user's way out where a hidden file is not what it was.
const ADVICE: &str = "restore it, or give up the calls that were open with --reset-state";

/// Cuts a file back to a length that it had.
pub(super) fn cut(path: &Path, len: u64) -> Result<()> {
    let file = files::open(OpenOptions::new().write(true), path);
    let file = file.with_context(|| {
        format!(
            "{} cannot be opened, in which the state has {len} bytes; {ADVICE}",
            path.display()
        )
    })?;
    let there = file
        .metadata()
        .with_context(|| format!("{} cannot be looked at", path.display()))?
        .len();
    if there < len {
        bail!(
            "{} has {there} bytes, where the state has {len}; {ADVICE}",
            path.display()
        );
    }
    if there > len {
        file.set_len(len)
            .with_context(|| format!("{} cannot be cut to {len} bytes", path.display()))?;
    }
    Ok(())
}

/// With `is_first` the file is a new one: what an earlier run may have left, with whatever mode, is
/// removed.
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
