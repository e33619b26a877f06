//! The segments that are being read, and those that could not be: a small file in the output
//! directory.
//!
//! It is there while a segment is read, and as long as one has failed. A run that finds one that
//! another left in the middle of something knows what that died of:
//!
//! ```text
//!    0  magic                               8
//!    8  word of the dying                    1   0 none, else a signal's number, or `PANIC`
//!   16  offset in the segment               8   of SIGBUS
//!   24  length of the segment's path        4   of SIGBUS
//!   28  the path                         4096
//! 4124  body (postcard)
//! ```
//!
//! The word is written by a handler of signals (`source/last_words.rs`). The file is replaced as a
//! whole, and nothing waits for the disk: a loss of power is no failure of a segment.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the note of what is read, and the clock that tells kills apart"
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

/// A segment that has failed so often is set aside.
const MAX_FAILURES: u32 = 2;

/// A process that was killed leaves no word, so the segment need not be to blame: that counts as a
/// failure once in so many seconds.
const KILLS_APART_S: u64 = 600;

/// A unit of work of many merged segments becomes so many times shorter after each death, until it
/// has one of them.
const SHORTER: u64 = 16;

/// Which file a segment is.
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

    /// One of which nothing but its path is known.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: Name::of(path),
            size: 0,
            file: FileId::default(),
        }
    }
}

/// How sure it is that a segment is to blame for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It will fail again: it is set aside at once.
    Certain,
    /// As it seems.
    Likely,
    /// Somebody may have killed the process.
    Doubtful,
}

/// The fate of a segment that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried once more, by the next run. What comes after it waits.
    TryAgain,
    /// It is set aside; what comes after it is read.
    SetAside,
}

/// A segment that has failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Failure {
    which: Which,
    count: u32,
    why: String,
    /// A kill was counted then, in seconds since 1970.
    killed_at: Option<u64>,
    /// It is not to be mapped into memory.
    has_faulted: bool,
    is_aside: bool,
    /// How far it had been read, in bytes.
    from: Option<usize>,
}

/// The content of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Body {
    /// The segments that are being read.
    reading: Vec<Which>,
    /// The length of the unit of work that was made of several of them, in bytes.
    unit_len: Option<u64>,
    /// Those that were being read together when a process died: one after the other will tell which
    /// it was.
    careful: Vec<Name>,
    /// How long a unit may be until so many bytes have been read.
    careful_len: Option<(u64, u64)>,
    failures: Vec<Failure>,
}

/// The segments that are being read, and those that have failed.
#[derive(Debug)]
pub struct Attempts {
    path: PathBuf,
    body: Body,
    is_there: bool,
    /// Segments that failed in this process: once is enough.
    failed_now: BTreeSet<Name>,
    passed_over: BTreeSet<Name>,
    /// A failure is to be taken out of the file, but not at once.
    has_forgotten: bool,
}

impl Attempts {
    /// Those of runs in an output directory. With `retries`, what was set aside is tried again.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(directory: &Path, retries: bool) -> Result<Self> {
        let path = directory.join(FILE_NAME);
        let found = load(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut attempts = Self {
            path,
            body: Body::default(),
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

    /// Forgets all of it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        remove_if_there(&path).with_context(|| format!("{} cannot be removed", path.display()))
    }

    /// Finds out what the segments that were being read did to the process that read them.
    fn judge(&mut self, word: last_words::Word) {
        let reading = std::mem::take(&mut self.body.reading);
        let unit_len = self.body.unit_len.take();
        if word.is_none() {
            return;
        }
        if let Some((path, offset)) = word.fault {
            let why = format!(
                "it could not be read at offset {offset}: the disk does not give it, or it became shorter"
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
                say_it_is_set_aside(which, why);
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

    /// Tells whether a segment is set aside. If so, it is named once, and counted.
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

    /// How many segments have been passed over, because they are set aside.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over.len() as u64
    }

    fn is_aside(&self, which: &Which) -> bool {
        self.failure(which).is_some_and(|failure| failure.is_aside)
    }

    /// Tells whether a segment ended a process when it was mapped into memory: it is not mapped
    /// again.
    #[must_use]
    pub fn has_faulted(&self, which: &Which) -> bool {
        self.failure(which)
            .is_some_and(|failure| failure.has_faulted)
    }

    /// How far a segment had been read when it was set aside, in bytes.
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

    /// Tells whether a segment is to be read by itself.
    #[must_use]
    pub fn wants_care(&self, path: &Path) -> bool {
        let name = Name::of(path);
        self.body.careful.contains(&name)
    }

    /// How long a unit of work may be that is merged from several segments, in bytes.
    #[must_use]
    pub fn unit_len(&self, usual: u64) -> u64 {
        self.body
            .careful_len
            .map_or(usual, |(len, _)| len.min(usual))
    }

    /// These segments are going to be read, as a unit of this length if they are merged.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn begin(&mut self, segments: Vec<Which>, unit_len: Option<u64>) -> Result<()> {
        (self.body.reading, self.body.unit_len) = (segments, unit_len);
        self.save()
    }

    /// All of them were read, and that is durable.
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

    /// A segment was read before, whatever happened then.
    pub fn forget_failure(&mut self, which: &Which) {
        let before = self.body.failures.len();
        self.body.failures.retain(|failure| failure.which != *which);
        self.has_forgotten |= self.body.failures.len() < before;
    }

    /// Some of what is being read is durable: what ends the process from now on is another failure.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn progress(&mut self) -> Result<()> {
        let Body {
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

    /// Nothing is being read any more.
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

    /// There is no more to be read: what has failed and is not there any more is forgotten, and so
    /// is what was to be read with care.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn tidy(&mut self) -> Result<()> {
        if !self.is_there {
            return Ok(());
        }
        let Body {
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

    /// A segment could not be read, of which so much had been read before, in bytes.
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
            say_it_is_set_aside(which, why);
        }
        Ok(verdict)
    }

    fn count(&mut self, which: &Which, why: &str, blame: Blame) -> Verdict {
        let now = seconds_since_1970();
        let failures = &mut self.body.failures;
        // Another file that had this path is forgotten.
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
        let Body {
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
                "the note of what is read, {}, cannot be written",
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

/// Whoever is alive takes away what only the dead leave.
impl Drop for Attempts {
    fn drop(&mut self) {
        if !thread::panicking()
            && let Err(error) = self.put_down()
        {
            tracing::debug!("{error:#}");
        }
    }
}

fn say_it_is_set_aside(which: &Which, why: &str) {
    tracing::error!(
        "{} is set aside, and the run goes on without it: {why}; it is tried again when it has changed, or with --retry-failed",
        which.path.to_path().display()
    );
}

/// The word of the dying, and the body. A file that is damaged, or of another version, tells
/// nothing.
fn load(path: &Path) -> io::Result<Option<(last_words::Word, Body)>> {
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
            "{} cannot be understood: what had failed before is tried again",
            path.display()
        );
    }
    Ok(Some((
        last_words::Word::of(&bytes),
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

    /// A process dies, and leaves this word.
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
        // It has changed.
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
        // Whoever is alive takes the note away, whatever has become of the segments.
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
        // Once is enough for one process.
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
