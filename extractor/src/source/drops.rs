//! The file beside a segment that says what was dropped at capture in its time.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads the files beside segments"
)]

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::{InputError, RemoteName};
use shared::{
    files,
    segment::SegmentName,
    segment_drops::{MAX_DROPS_FILE_BYTES, SegmentDrops},
};

/// The file beside a capture that says what was dropped, if the capture has the name of a segment.
#[must_use]
pub fn drops_path(capture: &Path) -> Option<PathBuf> {
    let segment = SegmentName::of_capture(capture.file_name()?)?;
    Some(capture.with_file_name(segment.drops_file_name()))
}

/// What was dropped at capture in the time of a segment; `None` if that is not known. A file that
/// cannot be used costs a warning, and not the segment.
pub(super) fn drops_of(capture: &Path) -> Option<SegmentDrops> {
    let path = drops_path(capture)?;
    let read = read(&path).and_then(|text| {
        let text = text.ok_or_else(|| io::Error::other("it is too long"))?;
        SegmentDrops::parse(&text).map_err(io::Error::other)
    });
    match read {
        Ok(drops) => Some(drops),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(
                "{} is not used, so nobody knows whether packets were dropped in the time of its segment: {error}",
                path.display()
            );
            None
        }
    }
}

/// The same, by the object beside a segment in a store.
pub(super) fn drops_of_object(object: RemoteName) -> Option<SegmentDrops> {
    let name = object.name();
    let read = || -> Result<SegmentDrops, InputError> {
        if object.object.len > MAX_DROPS_FILE_BYTES {
            return Err(InputError::TooLarge("it is too long".to_owned()));
        }
        let object = object.open()?;
        object.fetch_all()?;
        SegmentDrops::parse(object.bytes()).map_err(|error| io::Error::other(error).into())
    };
    let warn = |error: &InputError| {
        tracing::warn!(
            "{name} is not used, so nobody knows whether packets were dropped in the time of its segment: {error}"
        );
    };
    read().inspect_err(warn).ok()
}

/// The content of the file; `None` if it is too long.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // To open a pipe would wait for its writer.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = files::open(OpenOptions::new().read(true), path)?;
    let mut text = Vec::new();
    file.take(MAX_DROPS_FILE_BYTES.saturating_add(1))
        .read_to_end(&mut text)?;
    let is_whole = u64::try_from(text.len()).is_ok_and(|len| len <= MAX_DROPS_FILE_BYTES);
    Ok(is_whole.then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::tempdir;

    const SEGMENT: &str = "edge1_eth0_20231201T143022.123456Z_000001.pcap";

    #[test]
    fn a_segment_has_its_drops_beside_it_compressed_or_not() {
        let directory = tempdir().unwrap();
        let drops = SegmentDrops::new(100, 200, []);
        let beside = directory.path().join(format!(".{SEGMENT}.drops.json"));
        fs::write(&beside, drops.to_json()).unwrap();
        for name in [SEGMENT.to_owned(), format!("{SEGMENT}.gz")] {
            assert_eq!(drops_of(&directory.path().join(name)), Some(drops.clone()));
        }
        assert_eq!(drops_of(&directory.path().join("other.pcap")), None);
        assert_eq!(drops_path(Path::new("other.pcap")), None);
    }

    #[test]
    fn what_is_no_such_file_is_not_used() {
        let directory = tempdir().unwrap();
        let segment = directory.path().join(SEGMENT);
        let beside = drops_path(&segment).unwrap();
        assert_eq!(drops_of(&segment), None);
        let good = SegmentDrops::new(100, 200, []).to_json();
        let long = " ".repeat(MAX_DROPS_FILE_BYTES as usize) + &good;
        for text in ["", "{}", "\0", &good[1..], &long] {
            fs::write(&beside, text).unwrap();
            assert_eq!(drops_of(&segment), None, "{}", text.len());
        }
        fs::remove_file(&beside).unwrap();
        fs::write(directory.path().join("good"), &good).unwrap();
        symlink(directory.path().join("good"), &beside).unwrap();
        assert_eq!(drops_of(&segment), None, "a link");
        fs::remove_file(&beside).unwrap();
        nix::unistd::mkfifo(&beside, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(drops_of(&segment), None, "a pipe");
    }
}
