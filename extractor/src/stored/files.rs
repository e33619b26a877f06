//! Files with indexes.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads and writes the files beside segments"
)]

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    iter::once,
    path::{Path, PathBuf},
};

use shared::{
    files,
    index::{
        Container, INDEX_MAGIC, IndexError, POSITIONS_MAGIC, Restart, Summary, index_name,
        positions_name, read_restarts, section,
    },
};

use super::{Made, Use};
use crate::{
    config::ArchivedSegment,
    source::{InputError, Map, Remote, RemoteName, fetch_many},
};

/// More bytes than the header of a file has.
const HEAD_LEN: usize = 4096;

/// Whoever may read the segments may read their indexes.
const MODE: u32 = 0o640;

/// The places of the two files of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The index.
    pub index: PathBuf,
    /// The positions of packets.
    pub positions: PathBuf,
}

impl Places {
    /// The files of a segment: beside it, or in a directory of their own.
    #[must_use]
    pub fn of(segment: &Path, directory: Option<&Path>) -> Self {
        let name = segment.file_name().unwrap_or_default();
        let beside = segment.parent().unwrap_or(Path::new(""));
        let directory = directory.unwrap_or(beside);
        Self {
            index: directory.join(index_name(name)),
            positions: directory.join(positions_name(name)),
        }
    }

    /// Removes the files, if they are there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self) -> io::Result<()> {
        for path in [&self.index, &self.positions] {
            match fs::remove_file(path) {
                // A name that is too long is no file's.
                Err(error)
                    if ![ErrorKind::NotFound, ErrorKind::InvalidFilename]
                        .contains(&error.kind()) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes the index of a segment: hidden files, which then get their names. The index comes last,
/// so where it is, the positions are.
///
/// # Errors
/// The file system refuses.
pub fn write(made: &Made, places: &Places) -> io::Result<()> {
    for (path, bytes) in [
        (&places.positions, &made.positions),
        (&places.index, &made.index),
    ] {
        files::remove_leftovers(path)?;
        let mut part = files::replacement(path, MODE)?;
        part.write_all(bytes)?;
        part.persist(path)?;
    }
    Ok(())
}

/// The two files of a segment, or the objects beside it in a store.
#[derive(Clone, Debug)]
pub enum Beside {
    /// Files.
    Files(Places),
    /// Objects; `None` if one is missing, with the name that it would have.
    Objects(Option<[RemoteName; 2]>, String),
}

impl Beside {
    /// The files or objects of a segment: beside it, or files in a directory of their own.
    #[must_use]
    pub fn of(segment: &ArchivedSegment, directory: Option<&Path>) -> Self {
        match segment {
            ArchivedSegment::File(path) => Self::Files(Places::of(path, directory)),
            ArchivedSegment::Object(objects) => {
                let name = OsStr::new(&objects.segment.object.name);
                if directory.is_some() {
                    return Self::Files(Places::of(Path::new(name), directory));
                }
                let both = objects.index.clone().zip(objects.positions.clone());
                let index = index_name(name);
                let name = objects.segment.place.of_object(&index.to_string_lossy());
                Self::Objects(both.map(|(index, positions)| [index, positions]), name)
            }
        }
    }

    /// The name of the index, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Files(places) => places.index.display().to_string(),
            Self::Objects(_, name) => name.clone(),
        }
    }
}

/// The two files of a segment, in memory.
#[derive(Debug)]
pub struct StoredFile {
    name: String,
    index: Held,
    positions: Held,
}

/// A file in memory.
#[derive(Debug)]
enum Held {
    File(Map),
    Object(Remote),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::File(map) => map.bytes(),
            Self::Object(object) => object.bytes(),
        }
    }
}

impl StoredFile {
    /// Opens the files; `None` if there is no index. Of objects, what `uses` needs is fetched.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn open(beside: &Beside, uses: Use) -> Result<Option<Self>, InputError> {
        let files = match beside {
            Beside::Files(places) => mapped(&places.index)?
                .zip(mapped(&places.positions)?)
                .map(|(index, positions)| (Held::File(index), Held::File(positions))),
            Beside::Objects(None, _) => None,
            Beside::Objects(Some([index, positions]), _) => {
                let (index, positions) = (index.clone().open()?, positions.clone().open()?);
                let positions_len = match uses {
                    Use::All => positions.bytes().len(),
                    Use::Signalling => HEAD_LEN,
                };
                let all = [
                    (&index, once(0..index.bytes().len())),
                    (&positions, once(0..positions_len)),
                ];
                fetch_many(all).map_err(|(_, error)| error)?;
                Some((Held::Object(index), Held::Object(positions)))
            }
        };
        Ok(files.map(|(index, positions)| Self {
            name: beside.name(),
            index,
            positions,
        }))
    }

    /// The path of the index, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &[u8] {
        self.index.bytes()
    }

    /// The positions of packets.
    #[must_use]
    pub fn positions(&self) -> &[u8] {
        self.positions.bytes()
    }

    /// The summary of the segment.
    ///
    /// # Errors
    /// The index has another version, or is damaged.
    pub fn summary(&self) -> Result<Summary, IndexError> {
        summary_of(&Container::open(self.index(), INDEX_MAGIC)?)
    }

    /// The points at which decompression of the segment can begin. None if it is not compressed.
    ///
    /// # Errors
    /// The positions have another version, or are damaged.
    pub fn restarts(&self) -> Result<Vec<Restart>, IndexError> {
        let restarts =
            Container::open(self.positions(), POSITIONS_MAGIC)?.section(section::RESTARTS)?;
        let restarts = super::unpacked(&restarts, self.summary()?.identity.len);
        let restarts = restarts.and_then(|restarts| read_restarts(&restarts));
        restarts.ok_or(IndexError::Damaged)
    }

    /// The words of the segment's calls.
    ///
    /// # Errors
    /// The index has another version, or is damaged.
    pub fn words(&self) -> Result<Vec<u8>, IndexError> {
        let container = Container::open(self.index(), INDEX_MAGIC)?;
        words_of(&container, &summary_of(&container)?)
    }
}

/// The part of an index that a search reads, which comes first: its summary, and its words.
#[derive(Debug)]
pub struct SearchedObject(Remote);

impl SearchedObject {
    /// Opens indexes in a store, and fetches what nearly all summaries and words are in, several at
    /// a time. A failure shows when one of them is read.
    pub fn open_all(
        indexes: impl IntoIterator<Item = Option<RemoteName>>,
    ) -> Vec<Option<Result<Self, InputError>>> {
        let opened = indexes
            .into_iter()
            .map(|index| Some(index?.open().map(Self)));
        let opened: Vec<_> = opened.collect();
        let all = opened.iter().flatten().flatten();
        let _ = fetch_many(all.map(|Self(object)| (object, once(0..USUALLY_SEARCHED))));
        opened
    }

    /// The summary, and the words if `wants` them.
    ///
    /// # Errors
    /// The store does not give them, or the index has another version, or is damaged.
    pub fn read(&self, wants: impl FnOnce(&Summary) -> bool) -> Result<(Summary, Vec<u8>), String> {
        let Self(object) = self;
        let fetch = |range| object.fetch(once(range)).map_err(|error| error.to_string());
        let said = |error: IndexError| error.to_string();
        fetch(0..USUALLY_SEARCHED)?;
        let container = Container::open(object.bytes(), INDEX_MAGIC).map_err(said)?;
        for kind in [section::SUMMARY, section::WORDS] {
            fetch(container.range(kind).map_err(said)?)?;
        }
        let summary = summary_of(&container).map_err(said)?;
        let words = if wants(&summary) {
            words_of(&container, &summary).map_err(said)?
        } else {
            Vec::new()
        };
        Ok((summary, words))
    }
}

/// The first bytes of an index, in which most have their summary and their words.
const USUALLY_SEARCHED: usize = 64 * 1024;

/// A file in memory; `None` if it is not there.
fn mapped(path: &Path) -> io::Result<Option<Map>> {
    match files::open(OpenOptions::new().read(true), path) {
        Ok(file) if file.metadata()?.is_file() => Map::of(&file, path).map(Some),
        Ok(_) => Err(io::Error::other("it is no file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Compresses bytes; `None` if that does not make them shorter.
pub(super) fn zipped(bytes: &[u8]) -> Option<Vec<u8>> {
    /// The fastest level: the bytes are differences, and higher levels find little more.
    const LEVEL: i32 = 1;
    let zipped = zstd::bulk::compress(bytes, LEVEL).ok()?;
    (zipped.len() < bytes.len()).then_some(zipped)
}

/// Decompresses at most `most` bytes; `None` if there are more, or if the bytes are damaged.
pub(super) fn unzipped(bytes: &[u8], most: u64) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
    let read = decoder
        .take(most.saturating_add(1))
        .read_to_end(&mut plain)
        .ok()?;
    (read as u64 <= most).then_some(plain)
}

/// The summary and the words of an index that was just made.
///
/// # Errors
/// It is damaged, which is a fault of this program.
pub fn made_words(made: &Made) -> Result<(Summary, Vec<u8>), IndexError> {
    let container = Container::open(&made.index, INDEX_MAGIC)?;
    let summary = summary_of(&container)?;
    let words = words_of(&container, &summary)?;
    Ok((summary, words))
}

fn summary_of(index: &Container<'_>) -> Result<Summary, IndexError> {
    let summary = index.section(section::SUMMARY)?;
    Summary::read(summary.bytes).ok_or(IndexError::Damaged)
}

fn words_of(index: &Container<'_>, summary: &Summary) -> Result<Vec<u8>, IndexError> {
    let words = super::unpacked(&index.section(section::WORDS)?, summary.identity.len);
    words.map(Cow::into_owned).ok_or(IndexError::Damaged)
}
