//! Objects of a store, of which parts are in a sparse temporary file: what is asked for, in blocks.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: writes to a temporary file"
)]

use std::{
    fs::File,
    iter::once,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::s3_uri::S3Uri;

use super::{InputError, Scratch, map::Map};
use crate::outputs::uploads::{ObjectError, ObjectPart, ObjectReader, StoredObject};

/// The length of a block, in bytes: what a request costs about as much as.
const BLOCK: usize = 64 * 1024;

/// Fewer missing blocks than this between two that are wanted are read with them.
const FEW_BLOCKS: usize = 2;

/// The longest object, in bytes: 4 TiB.
const MAX_LEN: u64 = 1 << 42;

/// A store, and the temporary file for what is read of its objects.
#[derive(Debug)]
pub struct RemoteStore {
    reader: ObjectReader,
    file: File,
    directory: String,
    /// The end of the part of the file that is given away.
    end: Mutex<u64>,
}

/// An object of a store.
#[derive(Clone, Debug)]
pub struct RemoteName {
    /// The store.
    pub store: Arc<RemoteStore>,
    /// The bucket and the prefix.
    pub place: S3Uri,
    /// The object.
    pub object: StoredObject,
}

/// An object of a store in memory, with holes where nothing was asked for.
#[derive(Debug)]
pub struct Remote {
    of: RemoteName,
    map: Map,
    /// The offset of the object in the temporary file.
    start: u64,
    /// For each block, whether it is there.
    has: Mutex<Vec<bool>>,
    /// The first error: after it, holes may have been read.
    failed: Mutex<Option<String>>,
}

impl RemoteStore {
    /// A store whose objects are read by `reader`.
    ///
    /// # Errors
    /// The temporary file cannot be made.
    pub fn new(reader: ObjectReader, scratch: &Scratch) -> Result<Self, InputError> {
        Ok(Self {
            reader,
            file: scratch.file()?,
            directory: scratch.directory().display().to_string(),
            end: Mutex::new(0),
        })
    }

    /// The objects directly below a prefix, by name.
    ///
    /// # Errors
    /// The store cannot be asked, or refuses.
    pub fn list(&self, place: &S3Uri) -> anyhow::Result<Vec<StoredObject>> {
        self.reader.list(place)
    }

    /// Room in the file for so many bytes; a hole until something is written.
    fn room_for(&self, len: usize) -> Result<u64, InputError> {
        let blocks = len.div_ceil(BLOCK).saturating_mul(BLOCK) as u64;
        let mut end = lock(&self.end);
        let start = *end;
        *end = start.saturating_add(blocks);
        self.file
            .set_len(*end)
            .map_err(InputError::of_scratch(self.trouble()))?;
        Ok(start)
    }

    fn trouble(&self) -> String {
        format!("the temporary file in {} cannot be written", self.directory)
    }
}

impl RemoteName {
    /// The object, without any of its bytes.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn open(self) -> Result<Remote, InputError> {
        let len = usize::try_from(self.object.len)
            .ok()
            .filter(|_| self.object.len <= MAX_LEN)
            .ok_or_else(|| InputError::NotACapture("it is longer than 4 TiB".to_owned()))?;
        let start = self.store.room_for(len)?;
        let map = Map::of_part(&self.store.file, start, len, Path::new("a temporary file"))
            .map_err(InputError::while_doing("it cannot be mapped into memory"))?;
        Ok(Remote {
            map,
            start,
            has: Mutex::new(vec![false; len.div_ceil(BLOCK)]),
            failed: Mutex::default(),
            of: self,
        })
    }

    /// The whole URI of the object.
    #[must_use]
    pub fn name(&self) -> String {
        self.place.of_object(&self.object.name)
    }
}

impl Remote {
    /// The whole URI of the object.
    #[must_use]
    pub fn name(&self) -> String {
        self.of.name()
    }

    /// The bytes: zeros where nothing was fetched.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// The error because of which bytes are missing that were asked for, if there was one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.failed).clone()
    }

    /// Fetches both ends, by which a segment is known.
    ///
    /// # Errors
    /// See [`Self::fetch`].
    pub fn fetch_ends(&self) -> Result<(), InputError> {
        let len = self.bytes().len();
        self.fetch([0..BLOCK, len.saturating_sub(BLOCK)..len])
    }

    /// Fetches all of it.
    ///
    /// # Errors
    /// See [`Self::fetch`].
    pub fn fetch_all(&self) -> Result<(), InputError> {
        self.fetch(once(0..self.bytes().len()))
    }

    /// Fetches these stretches, if they are not there.
    ///
    /// # Errors
    /// The store does not give them, or there is no room for them. Both is noted: see
    /// [`Self::trouble`].
    pub fn fetch(&self, ranges: impl IntoIterator<Item = Range<usize>>) -> Result<(), InputError> {
        fetch_many([(self, ranges)]).map_err(|(_, error)| error)
    }

    /// Notes the first error.
    fn fails(&self, error: &InputError) {
        let mut failed = lock(&self.failed);
        failed.get_or_insert_with(|| error.to_string());
    }

    /// The missing blocks among those that hold these stretches, with few others between them.
    fn missing(
        &self,
        ranges: impl IntoIterator<Item = Range<usize>>,
        has: &[bool],
    ) -> Vec<Range<usize>> {
        let len = self.bytes().len();
        let blocks = ranges.into_iter().flat_map(|range| {
            let end = range.end.min(len).div_ceil(BLOCK);
            range.start / BLOCK..end
        });
        let is_missing = |block: &usize| has.get(*block).is_some_and(|has| !has);
        let mut wanted: Vec<usize> = blocks.filter(is_missing).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut runs: Vec<Range<usize>> = Vec::new();
        for block in wanted {
            let next = block.saturating_add(1);
            match runs.last_mut() {
                Some(run) if block.saturating_sub(run.end) < FEW_BLOCKS => run.end = next,
                _ => runs.push(block..next),
            }
        }
        runs
    }
}

/// Fetches stretches of objects of one store, if they are not there, several at a time.
///
/// # Errors
/// The store does not give them, or there is no room for them; the number of the object comes with
/// the error.
pub fn fetch_many<'a, R: IntoIterator<Item = Range<usize>>>(
    wanted: impl IntoIterator<Item = (&'a Remote, R)>,
) -> Result<(), (usize, InputError)> {
    let mut parts = Vec::new();
    let mut of_parts: Vec<(usize, &Remote, Range<usize>)> = Vec::new();
    for (number, (remote, ranges)) in wanted.into_iter().enumerate() {
        let runs = remote.missing(ranges, &lock(&remote.has));
        for run in runs {
            let len = remote.bytes().len();
            let start = run.start.saturating_mul(BLOCK);
            let end = run.end.saturating_mul(BLOCK).min(len);
            parts.push(ObjectPart {
                place: remote.of.place.clone(),
                name: remote.of.object.name.clone(),
                range: start as u64..end as u64,
            });
            of_parts.push((number, remote, run));
        }
    }
    let Some((_, first, _)) = of_parts.first() else {
        return Ok(());
    };
    let store = &first.of.store;
    let write = |part: usize, offset: u64, bytes: &[u8]| {
        let Some((number, remote, _)) = of_parts.get(part) else {
            return Ok(());
        };
        let at = remote.start.saturating_add(offset);
        let written = store.file.write_all_at(bytes, at);
        written.map_err(|error| (*number, InputError::of_scratch(store.trouble())(error)))
    };
    let failed = |number: usize, error: InputError| {
        let of_object = of_parts.iter().filter(|(other, ..)| *other == number);
        of_object
            .take(1)
            .for_each(|(_, remote, _)| remote.fails(&error));
        (number, error)
    };
    match store.reader.get(&parts, write) {
        Ok(Ok(())) => {}
        Ok(Err((number, error))) => return Err(failed(number, error)),
        Err((part, error)) => {
            let number = of_parts.get(part).map_or(0, |(number, ..)| *number);
            let error = match error {
                ObjectError::Gone => InputError::Gone(error.to_string()),
                ObjectError::Store(_) => InputError::Unreadable(error.to_string()),
            };
            return Err(failed(number, error));
        }
    }
    for (_, remote, run) in of_parts {
        if let Some(has) = lock(&remote.has).get_mut(run) {
            has.fill(true);
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
