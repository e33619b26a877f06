//! Repeated listings of the captures in a directory.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads the input directories"
)]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use shared::{
    files,
    pcap::{HEAD_LEN, first_time_ns},
    segment::SegmentFile,
};

use super::names::{Series, is_capture_name};
use crate::source::shown;

/// The coarsest resolution of modification times. A second change within this time may leave the
/// time as it is.
const COARSEST_TIME: Duration = Duration::from_secs(2);

/// The interval of full listings. A file that grows does not change the time of its directory, so a
/// full listing has to find it.
const FULL_LISTING_EVERY: Duration = Duration::from_secs(30);

/// A capture in an input directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The file name.
    pub name: OsString,
    /// The length in bytes; of a compressed capture, its compressed length.
    pub size: u64,
    /// The time of the last write.
    pub modified: SystemTime,
    /// The inode number.
    pub inode: u64,
    /// The inode change time, in seconds and nanoseconds; programs cannot set it.
    pub changed: (i64, i64),
}

/// Distinguishes a file from an equal one, and from one that has replaced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    inode: u64,
    changed: (i64, i64),
}

impl Listed {
    /// The file at a path.
    ///
    /// # Errors
    /// There is no such file.
    pub fn at(path: &Path) -> io::Result<Self> {
        let listed = Self::of(path, path.file_name().unwrap_or_default().to_owned())?;
        listed.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The capture at a path; `None` if it is not a file.
    pub(super) fn of(path: &Path, name: OsString) -> io::Result<Option<Self>> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Ok(metadata.is_file().then(|| Self {
            name,
            size: metadata.len(),
            modified,
            inode: metadata.ino(),
            changed,
        }))
    }

    /// The identity of the file, whatever its name.
    #[must_use]
    pub fn file_id(&self) -> FileId {
        FileId {
            inode: self.inode,
            changed: self.changed,
        }
    }

    /// Returns true if size, time and inode are the same. A new link or another mode makes no
    /// difference.
    pub(super) fn is_as_it_was(&self, now: &Self) -> bool {
        (self.size, self.modified, self.inode) == (now.size, now.modified, now.inode)
    }
}

/// All captures in a directory, sorted by name. Files that vanish meanwhile and dangling links are
/// left out. `refused` is called for each capture that cannot be accessed.
///
/// # Errors
/// The directory does not exist, or cannot be read.
pub fn list(
    directory: &Path,
    mut refused: impl FnMut(&Path, &io::Error),
) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let entry = entry.map_err(unreadable(directory))?;
        let (path, name) = (entry.path(), entry.file_name());
        if !is_capture_name(&name) {
            continue;
        }
        match Listed::of(&path, name) {
            Ok(capture) => listed.extend(capture),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => refused(&path, &error),
        }
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// A segment that an agent is writing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartFile {
    /// The beginning of the segment by its name, in nanoseconds since 1970.
    pub start_ns: u64,
    /// The file name.
    pub name: String,
}

/// The timestamp of a part file's first record, in nanoseconds since 1970. `None` if there is no
/// record, or if it is younger than `least_age`. A timestamp ahead of the file's own time is not
/// believed: it would end all calls.
pub fn part_begins(path: &Path, now: SystemTime, least_age: Duration) -> Option<u64> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let file = files::open(OpenOptions::new().read(true), path).ok()?;
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let mut head = Vec::new();
    file.take(HEAD_LEN as u64).read_to_end(&mut head).ok()?;
    let first_ns = first_time_ns(&head)?;
    let first = UNIX_EPOCH.checked_add(Duration::from_nanos(first_ns))?;
    let is_past = first <= modified.ok()?;
    let is_old = now.duration_since(first).is_ok_and(|age| age >= least_age);
    (is_past && is_old).then_some(first_ns)
}

/// The first part file of each series that agents are writing in a directory.
fn being_written(directory: &Path) -> io::Result<BTreeMap<Series, PartFile>> {
    let mut parts: BTreeMap<Series, PartFile> = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let name = entry.map_err(unreadable(directory))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(SegmentFile::Part(segment)) = SegmentFile::named(name) {
            let part = PartFile {
                start_ns: segment.start_us().saturating_mul(1000),
                name: name.to_owned(),
            };
            let first = parts
                .entry(Series::of(&segment))
                .or_insert_with(|| part.clone());
            if part < *first {
                *first = part;
            }
        }
    }
    Ok(parts)
}

fn unreadable(directory: &Path) -> impl Fn(io::Error) -> io::Error {
    |error| {
        io::Error::new(
            error.kind(),
            format!(
                "the input directory {} cannot be read: {error}",
                directory.display()
            ),
        )
    }
}

/// Lists a directory repeatedly, but reads it only if something may have changed.
#[derive(Debug)]
pub struct Listing {
    directory: PathBuf,
    last: Option<Last>,
    being_written: BTreeMap<Series, PartFile>,
}

/// The last listing of the directory.
#[derive(Clone, Copy, Debug)]
struct Last {
    stamp: Stamp,
    /// The time when the directory was first seen with this stamp.
    since: Instant,
    listed: Instant,
}

/// The attributes that change when a name in the directory changes, or when the directory is
/// replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Last {
    /// Returns true if the listing is still valid for a directory with this stamp.
    fn holds(&self, stamp: Stamp, now: Instant) -> bool {
        let is_settled = self.listed.saturating_duration_since(self.since) >= COARSEST_TIME;
        let is_recent = now.saturating_duration_since(self.listed) < FULL_LISTING_EVERY;
        self.stamp == stamp && is_settled && is_recent
    }
}

impl Listing {
    /// A listing of this directory, which need not exist yet.
    #[must_use]
    pub fn of(directory: PathBuf) -> Self {
        Self {
            directory,
            last: None,
            being_written: BTreeMap::new(),
        }
    }

    /// The first part file of each series that agents were writing at the last listing. All earlier
    /// packets of theirs are in the segments that were listed.
    #[must_use]
    pub fn being_written(&self) -> &BTreeMap<Series, PartFile> {
        &self.being_written
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All captures in the directory now, as [`list`] returns them.
    ///
    /// # Errors
    /// The directory does not exist, or cannot be read.
    pub fn all(
        &mut self,
        now: Instant,
        refused: impl FnMut(&Path, &io::Error),
    ) -> io::Result<Vec<Listed>> {
        let last = self.last.take();
        let stamp = self.stamp()?;
        // Parts are read first: a part that is renamed in between is then seen twice, which is
        // better than not at all.
        self.being_written = being_written(&self.directory)?;
        let listed = list(&self.directory, refused)?;
        // A change during the listing changes the directory after its stamp was taken.
        let since = last
            .filter(|last| last.stamp == stamp)
            .map_or(now, |last| last.since);
        self.last = Some(Last {
            stamp,
            since,
            listed: now,
        });
        Ok(listed)
    }

    /// All captures in the directory, or `None` if nothing has changed since the last listing. New
    /// names are noticed at once, growing files after half a minute.
    ///
    /// # Errors
    /// The directory does not exist, or cannot be read.
    pub fn if_changed(
        &mut self,
        now: Instant,
        refused: impl FnMut(&Path, &io::Error),
    ) -> io::Result<Option<Vec<Listed>>> {
        let stamp = self.stamp()?;
        if self.last.is_some_and(|last| last.holds(stamp, now)) {
            return Ok(None);
        }
        self.all(now, refused).map(Some)
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let metadata = fs::metadata(&self.directory).map_err(unreadable(&self.directory))?;
        Ok(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// All captures in a directory, sorted by name; see [`list`]. One that cannot be accessed is logged.
///
/// # Errors
/// The directory does not exist, or cannot be read.
pub fn list_usable(directory: &Path) -> io::Result<Vec<Listed>> {
    list(directory, |path, error| {
        tracing::error!("{} is not used: {error}", shown(path));
    })
}

/// The whole path of the directory of a file.
#[must_use]
pub fn directory_of(file: &Path) -> PathBuf {
    let whole = whole_path(file);
    whole.parent().unwrap_or(Path::new("/")).to_owned()
}

/// The canonical path of a directory. For a directory that does not exist, the given path below its
/// existing ancestor.
#[must_use]
pub fn whole_path(path: &Path) -> PathBuf {
    let absolute = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // If the last components do not exist yet, they are appended to the canonical path of the rest.
    let there = absolute.ancestors().find_map(|there| {
        Some((
            there.canonicalize().ok()?,
            absolute.strip_prefix(there).ok()?,
        ))
    });
    there.map_or_else(
        || absolute.clone(),
        |(there, rest)| {
            if rest.as_os_str().is_empty() {
                there
            } else {
                there.join(rest)
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::testing::{SEGMENT, capture, nobody};
    use std::os::unix::fs::symlink;
    use tempfile::tempdir;

    fn names(listed: &[Listed]) -> Vec<&str> {
        listed
            .iter()
            .map(|capture| capture.name.to_str().unwrap())
            .collect()
    }

    #[test]
    fn only_captures_that_are_complete_are_listed() {
        let directory = tempdir().unwrap();
        let wanted = [
            "a.pcap",
            "b.pcap.gz",
            "c.pcapng",
            "d.pcapng.zst",
            "e.pcap.zst",
            "f.pcapng.gz",
            SEGMENT,
        ];
        let others = [
            ".a.pcap",
            ".a.pcap.part",
            "a.pcap.part",
            "a.cap",
            "a.pcap.bz2",
            "a.gz",
            "a.pcap.gz.gz",
            "pcap",
            ".pcap",
            "a.PCAP",
            ".x.pcap.processed",
        ];
        for name in wanted.iter().chain(&others) {
            capture(&directory, name, name.as_bytes());
        }
        fs::create_dir(directory.path().join("directory.pcap")).unwrap();
        symlink("nowhere", directory.path().join("dangling.pcap")).unwrap();
        symlink("a.pcap", directory.path().join("link.pcap")).unwrap();
        let listed = list(directory.path(), nobody).unwrap();
        let mut want = [&wanted[..], &["link.pcap"]].concat();
        want.sort_unstable();
        assert_eq!(names(&listed), want);
        let [first, .., link] = &listed[..] else {
            panic!("too few")
        };
        assert_eq!((first.size, link.size, link.inode), (6, 6, first.inode));
        assert_eq!(
            first.modified,
            fs::metadata(directory.path().join("a.pcap"))
                .unwrap()
                .modified()
                .unwrap()
        );
    }

    #[test]
    fn a_link_that_cannot_be_followed_is_told_and_the_rest_is_listed() {
        let directory = tempdir().unwrap();
        capture(&directory, "a.pcap", b"");
        symlink("loop.pcap", directory.path().join("loop.pcap")).unwrap();
        let mut refused = Vec::new();
        let listed = list(directory.path(), |path, _| refused.push(path.to_owned())).unwrap();
        assert_eq!(
            (names(&listed), refused),
            (vec!["a.pcap"], vec![directory.path().join("loop.pcap")])
        );
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("none");
        let mut listing = Listing::of(path.clone());
        let errors = [
            list(&path, nobody).unwrap_err(),
            listing.all(Instant::now(), nobody).unwrap_err(),
            listing.if_changed(Instant::now(), nobody).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(
                error.to_string().starts_with(&format!(
                    "the input directory {} cannot be read",
                    path.display()
                )),
                "{error}"
            );
        }
    }

    #[test]
    fn a_directory_is_gone_through_only_where_it_can_have_changed() {
        let directory = tempdir().unwrap();
        let mut listing = Listing::of(directory.path().join("in"));
        fs::create_dir(listing.directory()).unwrap();
        let begun = Instant::now();
        let mut changed = |seconds| {
            let listed = listing
                .if_changed(begun + Duration::from_secs(seconds), nobody)
                .unwrap();
            listed.map(|listed| names(&listed).join(" "))
        };
        let add = |name| fs::write(directory.path().join("in").join(name), b"").unwrap();
        let seen = |names: &str| Some(names.to_owned());

        assert_eq!(changed(0), seen(""));
        add("a.pcap");
        assert_eq!(changed(1), seen("a.pcap"));
        assert_eq!(
            changed(2),
            seen("a.pcap"),
            "something may have come in the same instant as a.pcap"
        );
        assert_eq!(changed(3), seen("a.pcap"));
        assert_eq!(changed(4), None);
        add("b.pcap");
        assert_eq!(changed(5), seen("a.pcap b.pcap"));
        assert_eq!(changed(8), seen("a.pcap b.pcap"));
        assert_eq!(changed(37), None);
        assert_eq!(
            changed(38),
            seen("a.pcap b.pcap"),
            "one that was there may have grown"
        );
        assert_eq!(changed(40), None);

        fs::rename(directory.path().join("in"), directory.path().join("old")).unwrap();
        fs::create_dir(directory.path().join("in")).unwrap();
        assert_eq!(changed(41), seen(""), "another directory");
    }

    #[test]
    fn looking_at_all_of_it_is_looking() {
        let directory = tempdir().unwrap();
        let mut listing = Listing::of(directory.path().to_owned());
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        capture(&directory, "a.pcap", b"");
        assert_eq!(names(&listing.all(begun, nobody).unwrap()), ["a.pcap"]);
        assert_eq!(
            names(&listing.all(begun + second * 2, nobody).unwrap()),
            ["a.pcap"]
        );
        assert_eq!(
            listing.if_changed(begun + second * 3, nobody).unwrap(),
            None
        );
        assert_eq!(
            names(&listing.all(begun + second * 3, nobody).unwrap()),
            ["a.pcap"]
        );
    }
}
