//! What is in an input directory, in which order it was captured, and what becomes of it afterwards.
#![allow(clippy::disallowed_methods, reason = "a door: the input directories")]

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{self, Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::segment::{SegmentFile, SegmentName};

/// How a capture's name ends, and how it does when it is compressed.
const ENDINGS: [&[u8]; 2] = [b".pcap", b".pcapng"];
const COMPRESSIONS: [&[u8]; 2] = [b".gz", b".zst"];

/// How many of a file's first bytes tell it from others: what captured it, and some packets with their times.
const HEAD_LEN: u64 = 4096;

/// A directory's modification time may be this coarse: within it, a second change does not show.
const COARSEST_TIME: Duration = Duration::from_secs(2);

/// A file that grows does not change its directory. So much later it is seen all the same.
const FULL_LISTING_EVERY: Duration = Duration::from_secs(30);

/// What is copied is the business of those whose business the original was; the rest of its mode is set at the end.
const COPY_MODE: u32 = 0o600;

/// Whether a file of this name is a capture that somebody may read: what is hidden is not there yet, or no more.
#[must_use]
pub fn is_capture_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && split_ending(name).is_some()
}

/// A capture's name without its ending, and the ending: `.pcap`, `.pcapng.zst`.
fn split_ending(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let plain = COMPRESSIONS.iter().find_map(|ending| name.strip_suffix(*ending)).unwrap_or(name);
    let stem = ENDINGS.iter().find_map(|ending| plain.strip_suffix(*ending))?;
    name.split_at_checked(stem.len())
}

/// A capture in an input directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name there.
    pub name: OsString,
    /// Its length in bytes, compressed if it is.
    pub size: u64,
    /// When it was last written to.
    pub modified: SystemTime,
    /// Its number in the file system.
    pub inode: u64,
}

impl Listed {
    /// The file at a path.
    ///
    /// # Errors
    /// There is none.
    pub fn at(path: &Path) -> io::Result<Self> {
        let listed = Self::of(path, path.file_name().unwrap_or_default().to_owned())?;
        listed.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Nothing if it is no file.
    fn of(path: &Path, name: OsString) -> io::Result<Option<Self>> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?;
        Ok(metadata.is_file().then(|| Self { name, size: metadata.len(), modified, inode: metadata.ino() }))
    }

    fn is_as_it_was(&self, now: &Self) -> bool {
        (self.size, self.modified) == (now.size, now.modified)
    }
}

/// All captures in a directory, by name. One that vanishes meanwhile is left out, and so is a link that leads nowhere;
/// one that cannot be looked at is told to `refused`.
///
/// # Errors
/// The directory is not there, or cannot be read.
pub fn list(directory: &Path, mut refused: impl FnMut(&Path, &io::Error)) -> io::Result<Vec<Listed>> {
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

/// The series that agents are writing in a directory, and of each when the first part file begins, in nanoseconds since 1970.
fn being_written(directory: &Path) -> io::Result<BTreeMap<Series, u64>> {
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let name = entry.map_err(unreadable(directory))?.file_name();
        if let Some(SegmentFile::Part(segment)) = name.to_str().and_then(SegmentFile::named) {
            let start_ns = segment.start_us().saturating_mul(1000);
            let first = parts.entry(Series::of(&segment)).or_insert(start_ns);
            *first = start_ns.min(*first);
        }
    }
    Ok(parts)
}

fn unreadable(directory: &Path) -> impl Fn(io::Error) -> io::Error {
    |error| io::Error::new(error.kind(), format!("the input directory {} cannot be read: {error}", directory.display()))
}

/// Looks into a directory again and again, and goes through it only where something can have changed.
#[derive(Debug)]
pub struct Listing {
    directory: PathBuf,
    last: Option<Last>,
    being_written: BTreeMap<Series, u64>,
}

/// The last time that a directory was gone through.
#[derive(Clone, Copy, Debug)]
struct Last {
    stamp: Stamp,
    /// When the directory was first seen like this.
    since: Instant,
    listed: Instant,
}

/// What changes when a name in a directory does, or the directory is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Last {
    /// Whether nothing can have changed since, in a directory that looks like `stamp`.
    fn holds(&self, stamp: Stamp, now: Instant) -> bool {
        let is_settled = self.listed.saturating_duration_since(self.since) >= COARSEST_TIME;
        let is_recent = now.saturating_duration_since(self.listed) < FULL_LISTING_EVERY;
        self.stamp == stamp && is_settled && is_recent
    }
}

impl Listing {
    /// Of that directory, which need not be there yet.
    #[must_use]
    pub fn of(directory: PathBuf) -> Self {
        Self { directory, last: None, being_written: BTreeMap::new() }
    }

    /// The series that agents were writing there when it was gone through, and since when, in nanoseconds since 1970. What they
    /// have captured before is in the segments that were listed.
    #[must_use]
    pub fn being_written(&self) -> &BTreeMap<Series, u64> {
        &self.being_written
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All captures in it now, like [`list`].
    ///
    /// # Errors
    /// The directory is not there, or cannot be read.
    pub fn all(&mut self, now: Instant, refused: impl FnMut(&Path, &io::Error)) -> io::Result<Vec<Listed>> {
        let last = self.last.take();
        let stamp = self.stamp()?;
        // A part that gets its name meanwhile is seen twice: not at all would be worse.
        self.being_written = being_written(&self.directory)?;
        let listed = list(&self.directory, refused)?;
        // What changed meanwhile has changed the directory after its stamp was taken.
        let since = last.filter(|last| last.stamp == stamp).map_or(now, |last| last.since);
        self.last = Some(Last { stamp, since, listed: now });
        Ok(listed)
    }

    /// The same, or nothing where it is the same as the last time. Names are noticed at once, files that grow after
    /// half a minute.
    ///
    /// # Errors
    /// The directory is not there, or cannot be read.
    pub fn if_changed(&mut self, now: Instant, refused: impl FnMut(&Path, &io::Error)) -> io::Result<Option<Vec<Listed>>> {
        let stamp = self.stamp()?;
        if self.last.is_some_and(|last| last.holds(stamp, now)) {
            return Ok(None);
        }
        self.all(now, refused).map(Some)
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let metadata = fs::metadata(&self.directory).map_err(unreadable(&self.directory))?;
        Ok(Stamp { device: metadata.dev(), inode: metadata.ino(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}

/// What a capture is known by, whatever its name: the same one delivered twice has it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its length in bytes.
    pub size: u64,
    /// Of its first bytes.
    pub digest: u64,
}

/// The identity of a capture as it was listed: of a file that has grown since, as it was then.
///
/// # Errors
/// It cannot be read; it may have vanished ([`ErrorKind::NotFound`]).
pub fn identity(path: &Path, listed: &Listed) -> io::Result<Identity> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(listed.size.min(HEAD_LEN)).read_to_end(&mut head))
        .map_err(|error| io::Error::new(error.kind(), format!("{} cannot be read: {error}", path.display())))?;
    Ok(Identity { size: listed.size, digest: digest(&head) })
}

fn digest(head: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = Sha256::digest(head).0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Identity {
    /// That of a capture which is in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let head = bytes.get(..HEAD_LEN as usize).unwrap_or(bytes);
        Self { size: bytes.len() as u64, digest: digest(head) }
    }
}

/// The one path of a directory, whatever links lead there; of one that is not there, the one that it is called by.
#[must_use]
pub fn whole_path(path: &Path) -> PathBuf {
    let absolute = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // Where a part of it is not there yet, the rest of it tells already where it will be.
    let there = absolute.ancestors().find_map(|there| Some((there.canonicalize().ok()?, absolute.strip_prefix(there).ok()?)));
    there.map_or_else(|| absolute.clone(), |(there, rest)| if rest.as_os_str().is_empty() { there } else { there.join(rest) })
}

/// Which captures of a directory come one behind the other: those of one agent and interface, and those that no agent has named.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Series(String);

impl Series {
    fn of(segment: &SegmentName) -> Self {
        Self(format!("{}_{}", segment.instance(), segment.interface()))
    }

    /// That of a capture with this name.
    #[must_use]
    pub fn named(name: &OsStr) -> Self {
        segment_name(name).map(|segment| Self::of(&segment)).unwrap_or_default()
    }
}

/// What its segments' names begin with.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "captures without an agent's name" } else { &self.0 })
    }
}

/// Where a capture stands among those of its directory: by when it begins, then by its number, then by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// In nanoseconds since 1970; what has no packets comes last.
    pub start_ns: u64,
    sequence: u32,
    name: OsString,
}

/// The order of a capture. A segment's name tells it, compressed or not; of others, the first packet does.
pub fn capture_order(name: &OsStr, first_packet_ns: impl FnOnce() -> Option<u64>) -> Order {
    let (start_ns, sequence) = match segment_name(name) {
        Some(segment) => (segment.start_us().saturating_mul(1000), segment.sequence()),
        None => (first_packet_ns().unwrap_or(u64::MAX), 0),
    };
    Order { start_ns, sequence, name: name.to_owned() }
}

/// Whether a capture has the name of an agent's segment.
#[must_use]
pub fn is_named(name: &OsStr) -> bool {
    segment_name(name).is_some()
}

fn segment_name(name: &OsStr) -> Option<SegmentName> {
    let name = name.to_str()?;
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
    plain.parse().ok()
}

/// What becomes of a capture whose results are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterProcessing {
    /// It stays, and a segment gets the mark that tells the agent so.
    Keep,
    /// It is deleted.
    Delete,
    /// It goes to this directory.
    Move(PathBuf),
}

/// Whether that has come to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It has.
    Done,
    /// The capture is no more what was processed, so it is left alone.
    Grown,
    /// The capture is not there any more.
    Gone,
}

impl FromStr for AfterProcessing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("move:")) {
            ("keep", _) => Ok(Self::Keep),
            ("delete", _) => Ok(Self::Delete),
            (_, Some(directory)) if !directory.is_empty() => Ok(Self::Move(PathBuf::from(directory))),
            _ => Err(format!("`{text}` is nothing that can be done with a segment; write keep, delete or move:DIR")),
        }
    }
}

impl AfterProcessing {
    /// Does it with the capture at `path` that was processed as it was listed then.
    ///
    /// # Errors
    /// The environment refuses. The capture is then still there, and nothing of it is elsewhere.
    pub fn apply(&self, path: &Path, processed: &Listed) -> io::Result<Applied> {
        let outcome = Listed::of(path, processed.name.clone()).and_then(|now| {
            if now.is_none_or(|now| !processed.is_as_it_was(&now)) {
                return Ok(Applied::Grown);
            }
            self.apply_unchecked(path).map(|()| Applied::Done)
        });
        match outcome {
            Err(error) if error.kind() == ErrorKind::NotFound && is_gone(path) => Ok(Applied::Gone),
            Err(error) => Err(io::Error::new(error.kind(), format!("{} cannot be {self}: {error}", path.display()))),
            done => done,
        }
    }

    fn apply_unchecked(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Keep => mark(path),
            Self::Delete => fs::remove_file(path).and_then(|()| unmark(path)),
            Self::Move(directory) => move_into(directory, path).and_then(|()| unmark(path)),
        }
    }
}

/// What is done, for the sentence that says that it cannot be.
impl fmt::Display for AfterProcessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("marked as processed"),
            Self::Delete => f.write_str("deleted"),
            Self::Move(directory) => write!(f, "moved to {}", directory.display()),
        }
    }
}

fn is_gone(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The name of the mark beside a segment that says that it has been processed; nobody waits for one beside anything else.
fn mark_of(path: &Path) -> Option<PathBuf> {
    let segment: SegmentName = path.file_name()?.to_str()?.parse().ok()?;
    Some(path.with_file_name(segment.processed_file_name()))
}

fn mark(path: &Path) -> io::Result<()> {
    let Some(mark) = mark_of(path) else { return Ok(()) };
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(&mark)?;
    // The agent deletes the segment first, then its mark. If it did so just now, nobody else takes the mark away.
    if is_gone(path) { unmark(path) } else { Ok(()) }
}

fn unmark(path: &Path) -> io::Result<()> {
    let Some(mark) = mark_of(path) else { return Ok(()) };
    match fs::remove_file(mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn move_into(directory: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default();
    match rename_into(directory, name, path) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => copy_into(directory, name, path),
        renamed => renamed.map(drop),
    }
}

/// To another file system: nobody sees half of it there, and it is there for good before it is removed here.
fn copy_into(directory: &Path, name: &OsStr, path: &Path) -> io::Result<()> {
    let mut part_name = OsString::from(".");
    part_name.push(name);
    part_name.push(".part");
    let part = directory.join(part_name);
    let placed = copy(path, &part).and_then(|()| rename_into(directory, name, &part));
    let placed = placed.inspect_err(|_| drop(fs::remove_file(&part)))?;
    let removed = File::open(directory).and_then(|directory| directory.sync_all()).and_then(|()| fs::remove_file(path));
    // It is tried again, which must not give a copy each time.
    removed.inspect_err(|_| drop(fs::remove_file(&placed)))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(COPY_MODE).open(to)?;
    io::copy(&mut from, &mut to)?;
    let metadata = from.metadata()?;
    to.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o777))?;
    to.set_modified(metadata.modified()?)?;
    to.sync_all()
}

/// Moves a file into a directory of the same file system: under this name, or the next one that nobody has.
fn rename_into(directory: &Path, name: &OsStr, from: &Path) -> io::Result<PathBuf> {
    let mut number = 1u32;
    loop {
        let to = directory.join(numbered(name, number));
        match rename_to_new(from, &to) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number = number.checked_add(1).ok_or(error)?,
            renamed => return renamed.map(|()| to),
        }
    }
}

/// `x.pcap.gz`, `x_2.pcap.gz`, `x_3.pcap.gz`.
fn numbered(name: &OsStr, number: u32) -> OsString {
    if number == 1 {
        return name.to_owned();
    }
    let (stem, ending) = split_ending(name.as_bytes()).unwrap_or((name.as_bytes(), b""));
    OsString::from_vec([stem, format!("_{number}").as_bytes(), ending].concat())
}

fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // A file system that cannot do both in one step, such as NFS.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::set_permissions, os::unix::fs::symlink};
    use tempfile::{TempDir, tempdir};

    const SEGMENT: &str = "edge1_eth0_20231201T143022.123456Z_000001.pcap";
    const START_NS: u64 = 1_701_441_022_123_456_000;

    fn nobody(path: &Path, error: &io::Error) {
        panic!("{} was refused: {error}", path.display());
    }

    fn names(listed: &[Listed]) -> Vec<&str> {
        listed.iter().map(|capture| capture.name.to_str().unwrap()).collect()
    }

    fn names_in(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A file with some bytes, and how it is listed.
    fn capture(directory: &TempDir, name: &str, bytes: &[u8]) -> (PathBuf, Listed) {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        let listed = Listed::of(&path, name.into()).unwrap().unwrap();
        (path, listed)
    }

    fn grow(path: &Path) {
        io::Write::write_all(&mut OpenOptions::new().append(true).open(path).unwrap(), b"more").unwrap();
    }

    #[test]
    fn only_captures_that_are_complete_are_listed() {
        let directory = tempdir().unwrap();
        let wanted = ["a.pcap", "b.pcap.gz", "c.pcapng", "d.pcapng.zst", "e.pcap.zst", "f.pcapng.gz", SEGMENT];
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
        let [first, .., link] = &listed[..] else { panic!("too few") };
        assert_eq!((first.size, link.size, link.inode), (6, 6, first.inode));
        assert_eq!(first.modified, fs::metadata(directory.path().join("a.pcap")).unwrap().modified().unwrap());
    }

    #[test]
    fn a_link_that_cannot_be_followed_is_told_and_the_rest_is_listed() {
        let directory = tempdir().unwrap();
        capture(&directory, "a.pcap", b"");
        symlink("loop.pcap", directory.path().join("loop.pcap")).unwrap();
        let mut refused = Vec::new();
        let listed = list(directory.path(), |path, _| refused.push(path.to_owned())).unwrap();
        assert_eq!((names(&listed), refused), (vec!["a.pcap"], vec![directory.path().join("loop.pcap")]));
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
            assert!(error.to_string().starts_with(&format!("the input directory {} cannot be read", path.display())), "{error}");
        }
    }

    #[test]
    fn a_directory_is_gone_through_only_where_it_can_have_changed() {
        let directory = tempdir().unwrap();
        let mut listing = Listing::of(directory.path().join("in"));
        fs::create_dir(listing.directory()).unwrap();
        let begun = Instant::now();
        let mut changed = |seconds| {
            let listed = listing.if_changed(begun + Duration::from_secs(seconds), nobody).unwrap();
            listed.map(|listed| names(&listed).join(" "))
        };
        let add = |name| fs::write(directory.path().join("in").join(name), b"").unwrap();
        let seen = |names: &str| Some(names.to_owned());

        assert_eq!(changed(0), seen(""));
        add("a.pcap");
        assert_eq!(changed(1), seen("a.pcap"));
        assert_eq!(changed(2), seen("a.pcap"), "something may have come in the same instant as a.pcap");
        assert_eq!(changed(3), seen("a.pcap"));
        assert_eq!(changed(4), None);
        add("b.pcap");
        assert_eq!(changed(5), seen("a.pcap b.pcap"));
        assert_eq!(changed(8), seen("a.pcap b.pcap"));
        assert_eq!(changed(37), None);
        assert_eq!(changed(38), seen("a.pcap b.pcap"), "one that was there may have grown");
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
        assert_eq!(names(&listing.all(begun + second * 2, nobody).unwrap()), ["a.pcap"]);
        assert_eq!(listing.if_changed(begun + second * 3, nobody).unwrap(), None);
        assert_eq!(names(&listing.all(begun + second * 3, nobody).unwrap()), ["a.pcap"]);
    }

    #[test]
    fn a_capture_is_known_by_its_size_and_its_first_bytes() {
        let directory = tempdir().unwrap();
        let of = |name: &str, bytes: &[u8]| {
            let (path, listed) = capture(&directory, name, bytes);
            identity(&path, &listed).unwrap()
        };
        let long = vec![7; 10_000];
        let [mut early, mut late] = [long.clone(), long.clone()];
        early[4095] = 8;
        late[4096] = 8;
        let known = of("a.pcap", &long);
        assert_eq!(known, of("b.pcap", &long));
        assert_eq!(known, of("c.pcap", &late));
        assert_ne!(known.digest, of("d.pcap", &early).digest);
        assert_ne!(known, of("e.pcap", &long[1..]));
        assert_eq!(known.digest, of("e.pcap", &long[1..]).digest);
        // SHA-256 of nothing is e3b0c442 98fc1c14 ...
        assert_eq!(of("f.pcap", b""), Identity { size: 0, digest: 0xe3b0_c442_98fc_1c14 });
    }

    #[test]
    fn one_that_has_grown_is_known_as_it_was() {
        let directory = tempdir().unwrap();
        let (path, listed) = capture(&directory, "a.pcap", b"some bytes");
        let known = identity(&path, &listed).unwrap();
        grow(&path);
        assert_eq!(identity(&path, &listed).unwrap(), known);
        fs::remove_file(&path).unwrap();
        let error = identity(&path, &listed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("a.pcap cannot be read"), "{error}");
    }

    #[test]
    fn capture_order_is_by_start_number_and_name() {
        let asked = |name: &str, first| capture_order(name.as_ref(), || first);
        let named = |name: &str| capture_order(name.as_ref(), || panic!("{name} tells it"));
        let in_order = [
            asked("z.pcap", Some(START_NS - 1)),
            asked("late.pcap", Some(START_NS)),
            asked("later.pcap", Some(START_NS)),
            named("z_eth0_20231201T143022.123456Z_000001.pcap.gz"),
            named("a_eth0_20231201T143022.123456Z_000002.pcap"),
            named("a_eth0_20231201T143022.123456Z_000002.pcap.zst"),
            named("a_eth0_20231201T143022.123457Z_000001.pcap"),
            asked("a_eth0_20231201T143022.123456Z_000001.pcapng", Some(START_NS + 2000)),
            asked("a.pcap", None),
            asked("b.pcap", None),
        ];
        assert!(in_order.is_sorted(), "{in_order:#?}");
        assert_eq!((in_order[3].start_ns, in_order[9].start_ns), (START_NS, u64::MAX));
        let no_text = OsStr::from_bytes(b"\xff.pcap");
        assert_eq!(capture_order(no_text, || Some(5)).start_ns, 5);
    }

    #[test]
    fn what_becomes_of_a_capture_is_written_so() {
        assert_eq!("keep".parse(), Ok(AfterProcessing::Keep));
        assert_eq!("delete".parse(), Ok(AfterProcessing::Delete));
        assert_eq!("move:/var/done".parse(), Ok(AfterProcessing::Move("/var/done".into())));
        for text in ["", "Keep", "move", "move:", "remove", "delete:", "keep "] {
            let why = text.parse::<AfterProcessing>().unwrap_err();
            assert!(why.starts_with(&format!("`{text}`")) && why.ends_with("write keep, delete or move:DIR"), "{why}");
        }
    }

    #[test]
    fn a_segment_that_is_kept_is_marked_and_nothing_else_is() {
        let directory = tempdir().unwrap();
        for name in [SEGMENT, "other.pcap", &format!("{SEGMENT}.gz")] {
            let (path, listed) = capture(&directory, name, b"bytes");
            for _ in 0..2 {
                assert_eq!(AfterProcessing::Keep.apply(&path, &listed).unwrap(), Applied::Done);
            }
        }
        let mark = format!(".{SEGMENT}.processed");
        assert_eq!(names_in(directory.path()), [&mark, SEGMENT, &format!("{SEGMENT}.gz"), "other.pcap"]);
        assert_eq!(fs::read(directory.path().join(mark)).unwrap(), b"");
    }

    #[test]
    fn one_that_is_deleted_goes_with_its_mark() {
        let directory = tempdir().unwrap();
        for name in [SEGMENT, "other.pcap"] {
            let (path, listed) = capture(&directory, name, b"bytes");
            AfterProcessing::Keep.apply(&path, &listed).unwrap();
            assert_eq!(AfterProcessing::Delete.apply(&path, &listed).unwrap(), Applied::Done);
        }
        assert_eq!(names_in(directory.path()), [""; 0]);
    }

    /// Some directory on another file system than the temporary ones.
    fn elsewhere() -> TempDir {
        let [here, there] = [tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()];
        let device = |directory: &TempDir| fs::metadata(directory.path()).unwrap().dev();
        assert_ne!(device(&here), device(&there), "this test needs /dev/shm and the temporary directory on two file systems");
        there
    }

    #[test]
    fn one_that_is_moved_never_takes_the_place_of_another() {
        for done in [tempdir().unwrap(), elsewhere()] {
            let directory = tempdir().unwrap();
            let target = done.path().join("made/for it");
            let bring = |name: &str, bytes: &[u8]| {
                let (path, listed) = capture(&directory, name, bytes);
                set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
                AfterProcessing::Keep.apply(&path, &listed).unwrap();
                assert_eq!(AfterProcessing::Move(target.clone()).apply(&path, &listed).unwrap(), Applied::Done);
                listed
            };
            let first = bring(SEGMENT, b"first");
            bring(SEGMENT, b"other");
            bring(SEGMENT, b"third one");
            bring("x.pcapng.gz", b"x");
            bring("x.pcapng.gz", b"y");
            assert_eq!(names_in(directory.path()), [""; 0]);
            let stem = SEGMENT.strip_suffix(".pcap").unwrap();
            let [second, third] = [2, 3].map(|number| format!("{stem}_{number}.pcap"));
            assert_eq!(names_in(&target), [SEGMENT, &second, &third, "x.pcapng.gz", "x_2.pcapng.gz"]);
            let read = |name: &str| fs::read_to_string(target.join(name)).unwrap();
            assert_eq!([SEGMENT, &second, &third].map(read), ["first", "other", "third one"]);
            let metadata = fs::metadata(target.join(SEGMENT)).unwrap();
            assert_eq!((metadata.mode() & 0o777, metadata.modified().unwrap()), (0o640, first.modified));
        }
    }

    #[test]
    fn one_that_has_grown_is_left_alone() {
        let directory = tempdir().unwrap();
        for after in ["keep", "delete", "move:/dev/null/never"] {
            let (path, listed) = capture(&directory, SEGMENT, b"bytes");
            grow(&path);
            let after: AfterProcessing = after.parse().unwrap();
            assert_eq!(after.apply(&path, &listed).unwrap(), Applied::Grown, "{after}");
            // Another one of the same size.
            fs::write(&path, b"BYTES").unwrap();
            File::open(&path).unwrap().set_modified(listed.modified + Duration::from_secs(1)).unwrap();
            assert_eq!(after.apply(&path, &listed).unwrap(), Applied::Grown, "{after}");
            assert_eq!(names_in(directory.path()), [SEGMENT]);
        }
    }

    #[test]
    fn one_that_has_vanished_is_no_error() {
        let directory = tempdir().unwrap();
        let done = directory.path().join("done");
        for after in [AfterProcessing::Keep, AfterProcessing::Delete, AfterProcessing::Move(done)] {
            let (path, listed) = capture(&directory, SEGMENT, b"bytes");
            fs::remove_file(&path).unwrap();
            assert_eq!(after.apply(&path, &listed).unwrap(), Applied::Gone, "{after}");
            assert_eq!(names_in(directory.path()), [""; 0]);
        }
    }

    #[test]
    fn what_cannot_be_done_says_so_and_leaves_the_capture() {
        let directory = tempdir().unwrap();
        let (path, listed) = capture(&directory, SEGMENT, b"bytes");
        let (file, _) = capture(&directory, "file", b"");
        let error = AfterProcessing::Move(file.clone()).apply(&path, &listed).unwrap_err();
        let want = format!("{} cannot be moved to {}: ", path.display(), file.display());
        assert!(error.to_string().starts_with(&want), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let (directory, done) = (tempdir().unwrap(), elsewhere());
        let (path, listed) = capture(&directory, SEGMENT, b"bytes");
        // Nothing can be written there; a directory stands where the copy would grow.
        fs::create_dir(done.path().join(format!(".{SEGMENT}.part"))).unwrap();
        AfterProcessing::Move(done.path().to_owned()).apply(&path, &listed).unwrap_err();
        assert_eq!(names_in(done.path()), [format!(".{SEGMENT}.part")]);
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
    }
}
