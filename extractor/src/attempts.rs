//! The note of attempts: which segments are being read, and which have failed. It is a small file
//! in the output directory.
//!
//! The note exists while a segment is read, and as long as a segment has failed. A run that finds
//! the note of a run that died knows which segments that run was reading:
//!
//! ```text
//!    0  magic                               8
//!    8  last word of a dead process          1   0 none, else a signal's number, or `PANIC`
//!   16  offset in the segment               8   of SIGBUS
//!   24  length of the segment's path        4   of SIGBUS
//!   28  the path                         4096
//! 4124  body (postcard)
//! ```
//!
//! The last word is written by a signal handler (`source/last_words.rs`). The file is replaced as a
//! whole, without waiting for the disk: a loss of power is not a failure of a segment.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the note of attempts, and the clock that spaces kills"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use shared::files;

use crate::{
    segments::{FileId, Listed},
    source::{Name, last_words},
};

const FILE_NAME: &str = ".sip-call-extractor.attempts";
const MAGIC: [u8; 8] = *b"SIPTRIED";
const MODE: u32 = 0o600;
const BODY_AT: usize = last_words::PATH_AT + last_words::MAX_PATH;

/// A segment is set aside after this number of failures.
const MAX_FAILURES: u32 = 2;

/// A process that was killed leaves no last word, and the segment may be innocent, so kills count
/// as one failure in this number of seconds.
const KILLS_APART_S: u64 = 600;

/// After each death, a unit of work of several merged segments gets shorter by this factor, until
/// it has one of them.
const SHORTER: u64 = 16;

/// The identity of a segment's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    path: Name,
    size: u64,
    file: FileId,
}

impl Which {
    /// The file that was listed at a path.
    #[must_use]
    pub fn of(path: &Path, listed: &Listed) -> Self {
        Self {
            path: Name::of(path),
            size: listed.size,
            file: listed.file_id(),
        }
    }

    /// A file of which only the path is known.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: Name::of(path),
            size: 0,
            file: FileId::default(),
        }
    }
}

/// The probability that the segment caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The segment will fail again, and is set aside at once.
    Certain,
    /// The segment is probably the cause.
    Likely,
    /// Someone may have killed the process.
    Doubtful,
}

/// The consequence for a segment that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next run tries it once more. Later segments wait.
    TryAgain,
    /// It is set aside; later segments are read.
    SetAside,
}

/// A segment that has failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Failure {
    which: Which,
    count: u32,
    why: String,
    /// The time when a kill was counted, in seconds since 1970.
    killed_at: Option<u64>,
    /// True when the segment must not be mapped into memory.
    has_faulted: bool,
    is_aside: bool,
    /// The number of bytes that had been read.
    from: Option<usize>,
}

/// The content of the note.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct NoteContent {
    /// The segments that are being read.
    reading: Vec<Which>,
    /// The length of the unit of work that merges several of them, in bytes.
    unit_len: Option<u64>,
    /// The segments that were read together when a process died. They are read one by one, to find
    /// the cause.
    careful: Vec<Name>,
    /// The length limit of a unit, and the number of bytes for which it applies.
    careful_len: Option<(u64, u64)>,
    failures: Vec<Failure>,
}

/// The segments that are being read, and those that have failed.
#[derive(Debug)]
pub struct Attempts {
    path: PathBuf,
    body: NoteContent,
    is_there: bool,
    /// Segments that failed in this process; each counts once.
    failed_now: BTreeSet<Name>,
    passed_over: BTreeSet<Name>,
    /// True when a forgotten failure is still in the file.
    has_forgotten: bool,
}

impl Attempts {
    /// Opens the note of an output directory. With `retries`, segments that were set aside are
    /// tried again.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(directory: &Path, retries: bool) -> Result<Self> {
        let path = directory.join(FILE_NAME);
        let found = load(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut attempts = Self {
            path,
            body: NoteContent::default(),
            is_there: found.is_some(),
            failed_now: BTreeSet::new(),
            passed_over: BTreeSet::new(),
            has_forgotten: false,
        };
        files::remove_leftovers(&attempts.path)
            .with_context(|| format!("{} cannot be tidied up", attempts.path.display()))?;
        if let Some((word, body)) = found {
            attempts.body = body;
            attempts.judge(word);
            if retries {
                attempts.retry();
            }
            attempts.save()?;
        }
        Ok(attempts)
    }

    /// Removes the note.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        remove_if_there(&path).with_context(|| format!("{} cannot be removed", path.display()))
    }

    /// Determines the effect of the segments on the process that was reading them.
    fn judge(&mut self, word: last_words::LastWords) {
        let reading = std::mem::take(&mut self.body.reading);
        let unit_len = self.body.unit_len.take();
        if word.is_none() {
            return;
        }
        if let Some((path, offset)) = word.fault {
            let why = format!(
                "it could not be read at offset {offset}: the disk failed, or the file became shorter"
            );
            let path = Name::of(path);
            if let Some(which) = reading.iter().find(|which| which.path == path).cloned() {
                self.note_death(&which, &why, Blame::Likely, true);
            }
            return;
        }
        let (why, blame) = match word.death() {
            Some(death) => (
                format!("the program ended with {death} while it was read"),
                Blame::Likely,
            ),
            None => (
                "the program was killed while it was read".to_owned(),
                Blame::Doubtful,
            ),
        };
        match &reading[..] {
            [] => {}
            [which] => self.note_death(which, &why, blame, false),
            several => {
                tracing::warn!(
                    "an earlier run ended while it read {} segments; they are read one by one now",
                    several.len()
                );
                self.body.careful = several.iter().map(|which| which.path.clone()).collect();
                self.body.careful_len =
                    unit_len.map(|len| (len.checked_div(SHORTER).unwrap_or(len).max(1), len));
            }
        }
    }

    fn note_death(&mut self, which: &Which, why: &str, blame: Blame, has_faulted: bool) {
        let path = which.path.to_path().display();
        let verdict = self.count(which, why, blame);
        if let Some(failure) = self
            .body
            .failures
            .iter_mut()
            .find(|failure| failure.which == *which)
        {
            failure.has_faulted |= has_faulted;
        }
        self.body.careful = vec![which.path.clone()];
        match verdict {
            Verdict::SetAside => {
                self.passed_over.insert(which.path.clone());
                log_set_aside(which, why);
            }
            Verdict::TryAgain => tracing::warn!("{path}: {why}; it is tried again"),
        }
    }

    fn retry(&mut self) {
        for failure in self
            .body
            .failures
            .iter_mut()
            .filter(|failure| failure.is_aside)
        {
            tracing::info!(
                "{} was set aside, and is tried again",
                failure.which.path.to_path().display()
            );
            (failure.is_aside, failure.count, failure.killed_at) = (false, 0, None);
        }
    }

    /// Returns true if a segment is set aside. The first time, it is logged and counted.
    pub fn passes_over(&mut self, which: &Which) -> bool {
        let Some(failure) = self
            .body
            .failures
            .iter()
            .find(|failure| failure.which == *which && failure.is_aside)
        else {
            return false;
        };
        if self.passed_over.insert(which.path.clone()) {
            let (path, why) = (which.path.to_path().display(), &failure.why);
            tracing::warn!(
                "{path} stays set aside: {why}; it is tried again when it has changed, or with --retry-failed"
            );
        }
        true
    }

    /// The number of segments that were skipped because they are set aside.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over.len() as u64
    }

    fn is_aside(&self, which: &Which) -> bool {
        self.failure(which).is_some_and(|failure| failure.is_aside)
    }

    /// Returns true if a segment ended a process while it was mapped into memory. It is not mapped
    /// again.
    #[must_use]
    pub fn has_faulted(&self, which: &Which) -> bool {
        self.failure(which)
            .is_some_and(|failure| failure.has_faulted)
    }

    /// The number of bytes that had been read when a segment was set aside.
    #[must_use]
    pub fn read_to(&self, which: &Which) -> Option<usize> {
        self.failure(which).and_then(|failure| failure.from)
    }

    fn failure(&self, which: &Which) -> Option<&Failure> {
        self.body
            .failures
            .iter()
            .find(|failure| failure.which == *which)
    }

    /// Returns true if a segment must be read by itself.
    #[must_use]
    pub fn wants_care(&self, path: &Path) -> bool {
        let name = Name::of(path);
        self.body.careful.contains(&name)
    }

    /// The length limit of a unit of work that is merged from several segments, in bytes.
    #[must_use]
    pub fn unit_len(&self, usual: u64) -> u64 {
        self.body
            .careful_len
            .map_or(usual, |(len, _)| len.min(usual))
    }

    /// Notes that these segments are being read, merged into a unit of this length if it is given.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn begin(&mut self, segments: Vec<Which>, unit_len: Option<u64>) -> Result<()> {
        (self.body.reading, self.body.unit_len) = (segments, unit_len);
        self.save()
    }

    /// Notes that all of them were read, and that their results are durable.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn succeed(&mut self) -> Result<()> {
        let reading = std::mem::take(&mut self.body.reading);
        self.body
            .careful
            .retain(|name| reading.iter().all(|which| which.path != *name));
        self.body
            .failures
            .retain(|failure| failure.is_aside || !reading.contains(&failure.which));
        let read = self.body.unit_len.take().unwrap_or(0);
        self.body.careful_len = self
            .body
            .careful_len
            .and_then(|(len, left)| Some((len, left.checked_sub(read).filter(|left| *left > 0)?)));
        self.save()
    }

    /// Forgets the failure of a segment that has been read before.
    pub fn forget_failure(&mut self, which: &Which) {
        let before = self.body.failures.len();
        self.body.failures.retain(|failure| failure.which != *which);
        self.has_forgotten |= self.body.failures.len() < before;
    }

    /// Notes that a part of the work is durable: if the process dies from now on, that is another
    /// failure.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn progress(&mut self) -> Result<()> {
        let NoteContent {
            reading, failures, ..
        } = &mut self.body;
        let before = failures.len();
        failures.retain(|failure| {
            failure.is_aside || failure.has_faulted || !reading.contains(&failure.which)
        });
        if failures.len() < before {
            self.save()
        } else {
            Ok(())
        }
    }

    /// Notes that nothing is being read.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn put_down(&mut self) -> Result<()> {
        if self.body.reading.is_empty() {
            return Ok(());
        }
        self.body.reading.clear();
        self.save()
    }

    /// Forgets failures of segments that no longer exist, and the order to read segments one by
    /// one. It is called when nothing is left to be read.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn tidy(&mut self) -> Result<()> {
        if !self.is_there {
            return Ok(());
        }
        let NoteContent {
            reading,
            careful,
            careful_len,
            failures,
            ..
        } = &mut self.body;
        let before = (
            reading.len(),
            careful.len(),
            failures.len(),
            careful_len.take(),
        );
        reading.clear();
        careful.clear();
        failures.retain(|failure| {
            let path = failure.which.path.to_path();
            match Listed::at(path) {
                Ok(listed) => failure.which == Which::of(path, &listed),
                Err(error) => error.kind() != ErrorKind::NotFound,
            }
        });
        let is_as_before =
            before == (0, 0, failures.len(), None) && !std::mem::take(&mut self.has_forgotten);
        if is_as_before { Ok(()) } else { self.save() }
    }

    /// Notes that a segment could not be read beyond `from` bytes.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn fail(
        &mut self,
        which: &Which,
        why: &str,
        blame: Blame,
        from: Option<usize>,
    ) -> Result<Verdict> {
        if !self.failed_now.insert(which.path.clone()) {
            return Ok(if self.is_aside(which) {
                Verdict::SetAside
            } else {
                Verdict::TryAgain
            });
        }
        let verdict = self.count(which, why, blame);
        if let Some(failure) = self
            .body
            .failures
            .iter_mut()
            .find(|failure| failure.which == *which)
        {
            failure.from = from.or(failure.from);
        }
        self.body.reading.retain(|reading| reading != which);
        self.save()?;
        if verdict == Verdict::SetAside {
            self.passed_over.insert(which.path.clone());
            log_set_aside(which, why);
        }
        Ok(verdict)
    }

    fn count(&mut self, which: &Which, why: &str, blame: Blame) -> Verdict {
        let now = seconds_since_1970();
        let failures = &mut self.body.failures;
        // The failures of another file at this path are forgotten.
        failures.retain(|failure| failure.which == *which || failure.which.path != which.path);
        let place = failures
            .iter()
            .position(|failure| failure.which == *which)
            .unwrap_or_else(|| {
                let (count, why) = (0, String::new());
                let which = which.clone();
                failures.push(Failure {
                    which,
                    count,
                    why,
                    killed_at: None,
                    has_faulted: false,
                    is_aside: false,
                    from: None,
                });
                failures.len().saturating_sub(1)
            });
        let Some(failure) = failures.get_mut(place) else {
            return Verdict::TryAgain;
        };
        let is_soon = failure
            .killed_at
            .is_some_and(|at| now.abs_diff(at) < KILLS_APART_S);
        if blame != Blame::Doubtful || !is_soon {
            failure.count = failure.count.saturating_add(1);
        }
        if blame == Blame::Doubtful && !is_soon {
            failure.killed_at = Some(now);
        }
        why.clone_into(&mut failure.why);
        failure.is_aside |= blame == Blame::Certain || failure.count >= MAX_FAILURES;
        if failure.is_aside {
            Verdict::SetAside
        } else {
            Verdict::TryAgain
        }
    }

    fn save(&mut self) -> Result<()> {
        let NoteContent {
            reading,
            careful,
            failures,
            careful_len,
            ..
        } = &self.body;
        let is_wanted = !reading.is_empty()
            || !careful.is_empty()
            || !failures.is_empty()
            || careful_len.is_some();
        let saved = match (is_wanted, self.is_there) {
            (true, _) => self.write(),
            (false, true) => self.remove(),
            (false, false) => Ok(()),
        };
        saved.with_context(|| {
            format!(
                "the note {} of the segments being read cannot be written",
                self.path.display()
            )
        })?;
        self.is_there = is_wanted;
        Ok(())
    }

    fn write(&self) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.resize(BODY_AT, 0);
        bytes.extend(postcard::to_stdvec(&self.body).map_err(io::Error::other)?);
        let mut new = files::replacement(&self.path, MODE)?;
        new.write_all(&bytes)?;
        let file = new.persist(&self.path)?;
        if self.body.reading.is_empty() {
            last_words::go_nowhere(file);
        } else {
            last_words::go_to(file);
        }
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        remove_if_there(&self.path).inspect_err(|_| last_words::never_mind())
    }
}

/// A process that ends normally removes its segments from the note.
impl Drop for Attempts {
    fn drop(&mut self) {
        if !thread::panicking()
            && let Err(error) = self.put_down()
        {
            tracing::debug!("{error:#}");
        }
    }
}

fn log_set_aside(which: &Which, why: &str) {
    tracing::error!(
        "{} is set aside, and the run goes on without it: {why}; it is tried again when it has changed, or with --retry-failed",
        which.path.to_path().display()
    );
}

/// The last word and the body. A damaged file, or one of another version, has neither failures nor
/// segments.
fn load(path: &Path) -> io::Result<Option<(last_words::LastWords, NoteContent)>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let body = bytes
        .get(BODY_AT..)
        .filter(|_| bytes.starts_with(&MAGIC))
        .and_then(|body| postcard::from_bytes(body).ok());
    if body.is_none() {
        tracing::warn!(
            "{} is damaged or of another version: segments that have failed are tried again",
            path.display()
        );
    }
    Ok(Some((
        last_words::LastWords::of(&bytes),
        body.unwrap_or_default(),
    )))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::{TempDir, tempdir};

    /// A directory with two segments.
    fn segments() -> (TempDir, [Which; 2]) {
        let directory = tempdir().unwrap();
        let which = ["a.pcap", "b.pcap"].map(|name| {
            let path = directory.path().join(name);
            fs::write(&path, name).unwrap();
            Which::of(&path, &Listed::at(&path).unwrap())
        });
        (directory, which)
    }

    /// Simulates a process that dies and leaves this last word.
    fn dies(directory: &TempDir, reading: &[&Which], word: &[(usize, &[u8])]) -> Attempts {
        let mut attempts = Attempts::open(directory.path(), false).unwrap();
        attempts
            .begin(reading.iter().map(|which| (*which).clone()).collect(), None)
            .unwrap();
        let path = attempts.path.clone();
        std::mem::forget(attempts);
        let mut note = fs::read(&path).unwrap();
        word.iter()
            .for_each(|(at, bytes)| note[*at..at + bytes.len()].copy_from_slice(bytes));
        fs::write(path, note).unwrap();
        Attempts::open(directory.path(), false).unwrap()
    }

    const SIGSEGV: &[(usize, &[u8])] = &[(8, &[11])];

    #[test]
    fn the_dead_lead_to_one_segment() {
        let (directory, [a, b]) = segments();
        let attempts = dies(&directory, &[&a, &b], SIGSEGV);
        assert!(attempts.wants_care(a.path.to_path()) && attempts.wants_care(b.path.to_path()));
        let mut attempts = dies(&directory, &[&b], SIGSEGV);
        assert!(!attempts.passes_over(&b) && !attempts.wants_care(a.path.to_path()));
        attempts.tidy().unwrap();
        let mut attempts = dies(&directory, &[&b], SIGSEGV);
        assert!(attempts.passes_over(&b) && !attempts.passes_over(&a));
        assert_eq!(attempts.passed_over(), 1);
        // The segment has changed.
        fs::write(b.path.to_path(), "another").unwrap();
        let changed = Which::of(b.path.to_path(), &Listed::at(b.path.to_path()).unwrap());
        assert!(!attempts.passes_over(&changed));
        attempts.tidy().unwrap();
        assert!(!attempts.path.exists());
    }

    #[test]
    fn kills_count_once_in_a_while() {
        let (directory, [a, _]) = segments();
        for _ in 0..20 {
            assert!(!dies(&directory, &[&a], &[]).passes_over(&a));
        }
        let mut attempts = Attempts::open(directory.path(), false).unwrap();
        attempts.body.failures[0].killed_at = Some(seconds_since_1970() - KILLS_APART_S);
        attempts.save().unwrap();
        drop(attempts);
        assert!(dies(&directory, &[&a], &[]).passes_over(&a));
        let mut retried = Attempts::open(directory.path(), true).unwrap();
        assert!(!retried.passes_over(&a));
    }

    #[test]
    fn what_is_done_leaves_nothing() {
        let (directory, [a, b]) = segments();
        let mut attempts = dies(&directory, &[&a], SIGSEGV);
        attempts.begin(vec![a.clone(), b.clone()], None).unwrap();
        assert!(attempts.path.exists());
        attempts.succeed().unwrap();
        assert!(!attempts.path.exists());
        // A process that ends normally leaves no note, whatever happened to the segments.
        attempts.begin(vec![a], None).unwrap();
        let path = attempts.path.clone();
        drop(attempts);
        assert!(!path.exists());
    }

    #[test]
    fn what_has_faulted_is_not_mapped_again() {
        let (directory, [a, b]) = segments();
        let path = b.path.to_path().as_os_str().as_encoded_bytes();
        let (offset, len) = (4096u64.to_ne_bytes(), (path.len() as u32).to_ne_bytes());
        let word: &[(usize, &[u8])] = &[(8, &[7]), (16, &offset), (24, &len), (28, path)];
        let mut attempts = dies(&directory, &[&a, &b], word);
        assert!(attempts.has_faulted(&b) && !attempts.has_faulted(&a) && !attempts.passes_over(&b));
        assert_eq!(
            attempts
                .fail(
                    &b,
                    "it cannot be read at offset 4096",
                    Blame::Likely,
                    Some(9)
                )
                .unwrap(),
            Verdict::SetAside
        );
        assert_eq!((attempts.read_to(&b), attempts.passed_over()), (Some(9), 1));
        // Each process counts a failure once.
        assert_eq!(
            attempts.fail(&a, "no", Blame::Likely, None).unwrap(),
            Verdict::TryAgain
        );
        assert_eq!(
            attempts.fail(&a, "no", Blame::Likely, None).unwrap(),
            Verdict::TryAgain
        );
    }

    #[test]
    fn merged_segments_are_told_apart_by_shorter_units() {
        let (directory, [a, b]) = segments();
        let mut attempts = Attempts::open(directory.path(), false).unwrap();
        attempts
            .begin(vec![a.clone(), b.clone()], Some(1 << 20))
            .unwrap();
        std::mem::forget(attempts);
        let mut attempts = Attempts::open(directory.path(), false).unwrap();
        assert_eq!(attempts.unit_len(1 << 30), 1 << 16);
        for _ in 0..SHORTER {
            assert_eq!(attempts.unit_len(1 << 30), 1 << 16);
            attempts
                .begin(vec![a.clone(), b.clone()], Some(1 << 16))
                .unwrap();
            attempts.succeed().unwrap();
        }
        assert_eq!(attempts.unit_len(1 << 30), 1 << 30);
    }

    #[test]
    fn a_note_that_cannot_be_understood_is_no_obstacle() {
        let directory = tempdir().unwrap();
        for bytes in [&b""[..], b"?", &[0; 5000], b"SIPTRIED"] {
            fs::write(directory.path().join(FILE_NAME), bytes).unwrap();
            drop(Attempts::open(directory.path(), false).unwrap());
            assert!(!directory.path().join(FILE_NAME).exists());
        }
    }
}
