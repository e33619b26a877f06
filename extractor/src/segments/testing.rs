//! Captures for tests.
#![allow(clippy::disallowed_methods, reason = "a door: tests make captures")]

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::listing::Listed;

pub(super) const SEGMENT: &str = "edge1_eth0_20231201T143022.123456Z_000001.pcap";
pub(super) const START_NS: u64 = 1_701_441_022_123_456_000;

pub(super) fn nobody(path: &Path, error: &io::Error) {
    panic!("{} was refused: {error}", path.display());
}

pub(super) fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A file with these bytes, and its listing.
pub(super) fn capture(directory: &TempDir, name: &str, bytes: &[u8]) -> (PathBuf, Listed) {
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    let listed = Listed::of(&path, name.into()).unwrap().unwrap();
    (path, listed)
}

pub(super) fn grow(path: &Path) {
    OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(b"more")
        .unwrap();
}
