//! The treatment of a capture after processing: it is marked, deleted or moved.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: marks, deletes and moves captures"
)]

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, RenameFlags, open, renameat2},
    sys::stat::Mode,
};
use shared::{files, segment::SegmentName};

use super::{listing::Listed, names::split_ending};
use crate::{source::drops_path, stored::Places};

/// Only the owner may read an incomplete copy; a complete copy gets the mode of the original.
const COPY_MODE: u32 = 0o600;

/// The action on a capture whose results are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterProcessing {
    /// The capture stays; a segment gets a mark, which tells the agent that it is processed.
    Keep,
    /// The capture is deleted.
    Delete,
    /// The capture is moved to this directory.
    Move(PathBuf),
}

/// The outcome of the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The action is done.
    Done,
    /// The capture has changed since it was processed, so it is left alone.
    Grown,
    /// The capture is gone.
    Gone,
}

impl FromStr for AfterProcessing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("move:")) {
            ("keep", _) => Ok(Self::Keep),
            ("delete", _) => Ok(Self::Delete),
            (_, Some(directory)) if !directory.is_empty() => {
                Ok(Self::Move(PathBuf::from(directory)))
            }
            _ => Err(format!(
                "`{text}` is not an action on segments; write keep, delete or move:DIR"
            )),
        }
    }
}

impl AfterProcessing {
    /// Applies the action to the capture at `path`, if it is still as it was when it was listed.
    ///
    /// # Errors
    /// The file system refuses. Then the capture is still in its place, and no copy of it is left.
    pub fn apply(&self, path: &Path, processed: &Listed) -> io::Result<Applied> {
        let outcome = Listed::of(path, processed.name.clone()).and_then(|now| {
            if now.is_none_or(|now| !processed.is_as_it_was(&now)) {
                return Ok(Applied::Grown);
            }
            self.apply_unchecked(path).map(|()| Applied::Done)
        });
        match outcome {
            Err(error) if error.kind() == ErrorKind::NotFound && is_gone(path) => Ok(Applied::Gone),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("{} cannot be {self}: {error}", path.display()),
            )),
            done => done,
        }
    }

    fn apply_unchecked(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Keep => mark(path),
            Self::Delete => {
                remove_drops(path)?;
                Places::of(path, None).remove()?;
                fs::remove_file(path)?;
                unmark(path)
            }
            Self::Move(directory) => {
                let placed = move_into(directory, path)?;
                // The segment is moved whatever happens, so it is not tried again.
                if let Err(error) = move_drops(path, &placed) {
                    tracing::warn!("the drops of {} are left behind: {error}", path.display());
                }
                if let Err(error) = move_index(path, &placed) {
                    tracing::warn!("the index of {} is left behind: {error}", path.display());
                }
                unmark(path)
            }
        }
    }
}

/// The action as a participle, for the message that it failed.
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

/// The name of the mark beside a processed segment. Other captures have none, because no agent
/// waits for them.
fn mark_of(path: &Path) -> Option<PathBuf> {
    let segment: SegmentName = path.file_name()?.to_str()?.parse().ok()?;
    Some(path.with_file_name(segment.processed_file_name()))
}

fn mark(path: &Path) -> io::Result<()> {
    let Some(mark) = mark_of(path) else {
        return Ok(());
    };
    // The file stays empty, so no right to write is needed; an existing file with the name is a
    // mark, too.
    match open(
        &mark,
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC,
        Mode::from_bits_truncate(0o640),
    ) {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // The agent deletes the segment first, then its mark. If it has done so just now, no one else
    // removes this mark.
    if is_gone(path) { unmark(path) } else { Ok(()) }
}

fn unmark(path: &Path) -> io::Result<()> {
    let Some(mark) = mark_of(path) else {
        return Ok(());
    };
    match fs::remove_file(mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the file of a segment's drops, if there is one: before the segment, so it does not outlive
/// it.
fn remove_drops(path: &Path) -> io::Result<()> {
    let Some(drops) = drops_path(path) else {
        return Ok(());
    };
    match fs::remove_file(drops) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves the file of a segment's drops to where the segment is now.
fn move_drops(path: &Path, placed: &Path) -> io::Result<()> {
    let Some(drops) = drops_path(path).filter(|drops| fs::symlink_metadata(drops).is_ok()) else {
        return Ok(());
    };
    let to = drops_path(placed).unwrap_or_else(|| {
        let name = placed.file_name().unwrap_or_default();
        let hidden = [b".", name.as_bytes(), b".drops.json"].concat();
        placed.with_file_name(OsString::from_vec(hidden))
    });
    move_to(&drops, &to)
}

/// Moves the index of a segment, if there is one, to where the segment is now.
fn move_index(path: &Path, placed: &Path) -> io::Result<()> {
    let (from, to) = (Places::of(path, None), Places::of(placed, None));
    for (from, to) in [(from.positions, to.positions), (from.index, to.index)] {
        if fs::symlink_metadata(&from).is_ok() {
            move_to(&from, &to)?;
        }
    }
    Ok(())
}

/// Moves a file that belongs to a segment, also to another file system.
fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    match rename_to_new(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            let part = files::replacement(to, COPY_MODE)?;
            copy(from, part.as_file())?;
            rename_to_new(part.path(), to)?;
            fs::remove_file(from)
        }
        renamed => renamed,
    }
}

fn move_into(directory: &Path, path: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default();
    match rename_into(directory, name, path) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => copy_into(directory, name, path),
        renamed => renamed,
    }
}

/// Copies to another file system. The copy appears there only when it is complete, and is durable
/// before the original is removed.
fn copy_into(directory: &Path, name: &OsStr, path: &Path) -> io::Result<PathBuf> {
    let to = directory.join(name);
    files::remove_leftovers(&to)?;
    let part = files::replacement(&to, COPY_MODE)?;
    copy(path, part.as_file())?;
    let placed = rename_into(directory, name, part.path())?;
    let removed = File::open(directory)
        .and_then(|directory| directory.sync_all())
        .and_then(|()| fs::remove_file(path));
    // The move will be tried again, and must not leave a copy each time.
    removed.inspect_err(|_| drop(fs::remove_file(&placed)))?;
    Ok(placed)
}

fn copy(from: &Path, mut to: &File) -> io::Result<()> {
    let mut from = File::open(from)?;
    io::copy(&mut from, &mut to)?;
    let metadata = from.metadata()?;
    to.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o777))?;
    to.set_modified(metadata.modified()?)?;
    to.sync_all()
}

/// Moves a file into a directory of the same file system, under this name or the next free one.
fn rename_into(directory: &Path, name: &OsStr, from: &Path) -> io::Result<PathBuf> {
    let mut number = 1u32;
    loop {
        let to = directory.join(numbered(name, number));
        match rename_to_new(from, &to) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                number = number.checked_add(1).ok_or(error)?;
            }
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
        // Some file systems, such as NFS, cannot rename without replacing in one step.
        Err(Errno::EINVAL | Errno::ENOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Err(_) => fs::rename(from, to),
        },
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::testing::{SEGMENT, capture, grow, names_in};
    use std::{fs::set_permissions, os::unix::fs::symlink, time::Duration};
    use tempfile::{TempDir, tempdir};

    /// A directory on another file system than the temporary ones.
    fn elsewhere() -> TempDir {
        let [here, there] = [
            tempdir().unwrap(),
            tempfile::tempdir_in("/dev/shm").unwrap(),
        ];
        let device = |directory: &TempDir| fs::metadata(directory.path()).unwrap().dev();
        assert_ne!(
            device(&here),
            device(&there),
            "this test needs /dev/shm and the temporary directory on two file systems"
        );
        there
    }

    #[test]
    fn what_becomes_of_a_capture_is_written_so() {
        assert_eq!("keep".parse(), Ok(AfterProcessing::Keep));
        assert_eq!("delete".parse(), Ok(AfterProcessing::Delete));
        assert_eq!(
            "move:/var/done".parse(),
            Ok(AfterProcessing::Move("/var/done".into()))
        );
        for text in ["", "Keep", "move", "move:", "remove", "delete:", "keep "] {
            let why = text.parse::<AfterProcessing>().unwrap_err();
            assert!(
                why.starts_with(&format!("`{text}`"))
                    && why.ends_with("write keep, delete or move:DIR"),
                "{why}"
            );
        }
    }

    #[test]
    fn a_segment_that_is_kept_is_marked_and_nothing_else_is() {
        let directory = tempdir().unwrap();
        for name in [SEGMENT, "other.pcap", &format!("{SEGMENT}.gz")] {
            let (path, listed) = capture(&directory, name, b"bytes");
            for _ in 0..2 {
                assert_eq!(
                    AfterProcessing::Keep.apply(&path, &listed).unwrap(),
                    Applied::Done
                );
            }
        }
        let mark = format!(".{SEGMENT}.processed");
        assert_eq!(
            names_in(directory.path()),
            [&mark, SEGMENT, &format!("{SEGMENT}.gz"), "other.pcap"]
        );
        assert_eq!(fs::read(directory.path().join(mark)).unwrap(), b"");
    }

    #[test]
    fn one_that_is_deleted_goes_with_its_mark() {
        let directory = tempdir().unwrap();
        for name in [SEGMENT, "other.pcap"] {
            let (path, listed) = capture(&directory, name, b"bytes");
            AfterProcessing::Keep.apply(&path, &listed).unwrap();
            assert_eq!(
                AfterProcessing::Delete.apply(&path, &listed).unwrap(),
                Applied::Done
            );
        }
        assert_eq!(names_in(directory.path()), [""; 0]);
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
                assert_eq!(
                    AfterProcessing::Move(target.clone())
                        .apply(&path, &listed)
                        .unwrap(),
                    Applied::Done
                );
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
            assert_eq!(
                names_in(&target),
                [SEGMENT, &second, &third, "x.pcapng.gz", "x_2.pcapng.gz"]
            );
            let read = |name: &str| fs::read_to_string(target.join(name)).unwrap();
            assert_eq!(
                [SEGMENT, &second, &third].map(read),
                ["first", "other", "third one"]
            );
            let metadata = fs::metadata(target.join(SEGMENT)).unwrap();
            assert_eq!(
                (metadata.mode() & 0o777, metadata.modified().unwrap()),
                (0o640, first.modified)
            );
        }
    }

    #[test]
    fn one_that_has_grown_is_left_alone() {
        let directory = tempdir().unwrap();
        for after in ["keep", "delete", "move:/dev/null/never"] {
            let (path, listed) = capture(&directory, SEGMENT, b"bytes");
            grow(&path);
            let after: AfterProcessing = after.parse().unwrap();
            assert_eq!(
                after.apply(&path, &listed).unwrap(),
                Applied::Grown,
                "{after}"
            );
            // Another file of the same size.
            fs::write(&path, b"BYTES").unwrap();
            File::open(&path)
                .unwrap()
                .set_modified(listed.modified + Duration::from_secs(1))
                .unwrap();
            assert_eq!(
                after.apply(&path, &listed).unwrap(),
                Applied::Grown,
                "{after}"
            );
            assert_eq!(names_in(directory.path()), [SEGMENT]);
        }
    }

    #[test]
    fn one_that_has_vanished_is_no_error() {
        let directory = tempdir().unwrap();
        let done = directory.path().join("done");
        for after in [
            AfterProcessing::Keep,
            AfterProcessing::Delete,
            AfterProcessing::Move(done),
        ] {
            let (path, listed) = capture(&directory, SEGMENT, b"bytes");
            fs::remove_file(&path).unwrap();
            assert_eq!(
                after.apply(&path, &listed).unwrap(),
                Applied::Gone,
                "{after}"
            );
            assert_eq!(names_in(directory.path()), [""; 0]);
        }
    }

    #[test]
    fn what_cannot_be_done_says_so_and_leaves_the_capture() {
        let directory = tempdir().unwrap();
        let (path, listed) = capture(&directory, SEGMENT, b"bytes");
        let (file, _) = capture(&directory, "file", b"");
        let error = AfterProcessing::Move(file.clone())
            .apply(&path, &listed)
            .unwrap_err();
        let want = format!("{} cannot be moved to {}: ", path.display(), file.display());
        assert!(error.to_string().starts_with(&want), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let (directory, done) = (tempdir().unwrap(), elsewhere());
        // The hidden name of the copy would be too long.
        let name = format!("{}.pcap", "x".repeat(250));
        let (path, listed) = capture(&directory, &name, b"bytes");
        AfterProcessing::Move(done.path().to_owned())
            .apply(&path, &listed)
            .unwrap_err();
        assert_eq!(names_in(done.path()), [""; 0]);
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
    }

    #[test]
    fn links_in_the_place_of_marks_and_copies_are_not_followed() {
        let (directory, done) = (tempdir().unwrap(), elsewhere());
        let (path, listed) = capture(&directory, SEGMENT, b"bytes");
        let [victim, mark] =
            ["victim", &format!(".{SEGMENT}.processed")].map(|name| directory.path().join(name));
        symlink(&victim, &mark).unwrap();
        assert_eq!(
            AfterProcessing::Keep.apply(&path, &listed).unwrap(),
            Applied::Done
        );
        assert!(!victim.exists() && fs::symlink_metadata(&mark).unwrap().is_symlink());
        fs::write(&victim, "precious").unwrap();
        // Links at a name that can be guessed, and at the copy's own name.
        let old_part = format!(".{SEGMENT}.part");
        symlink(&victim, done.path().join(&old_part)).unwrap();
        symlink(&victim, done.path().join(SEGMENT)).unwrap();
        // A leftover of a run that was killed during the copy.
        files::replacement(&done.path().join(SEGMENT), COPY_MODE)
            .unwrap()
            .keep()
            .unwrap();
        assert_eq!(
            AfterProcessing::Move(done.path().to_owned())
                .apply(&path, &listed)
                .unwrap(),
            Applied::Done
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let copy = SEGMENT.replace(".pcap", "_2.pcap");
        assert_eq!(names_in(done.path()), [&old_part, SEGMENT, &copy]);
        assert_eq!(fs::read(done.path().join(copy)).unwrap(), b"bytes");
    }
}
