//! Compressed segments of which parts are in a sparse temporary file: what is asked for, from one
//! point of decompression to the next.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: writes to a temporary file"
)]

use std::{
    fs::File,
    ops::{ControlFlow, Range},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use shared::index::Restart;

use super::{InputError, Scratch, map::Map, restarts::unpack};

/// A compressed segment in memory, with holes where nothing was asked for.
#[derive(Debug)]
pub(super) struct Unpacked {
    packed: Map,
    stretches: Vec<Stretch>,
    file: File,
    map: Map,
    /// The first error: after it, holes may have been read.
    failed: Mutex<Option<String>>,
}

/// The bytes from one point of decompression to the next.
#[derive(Debug)]
struct Stretch {
    from: Restart,
    range: Range<usize>,
    /// Whether it is there.
    has: Mutex<bool>,
}

impl Unpacked {
    /// A segment of `len` bytes, decompressed, with these points of decompression. Both ends are
    /// there.
    ///
    /// # Errors
    /// It cannot be read, or is not what was indexed.
    pub(super) fn open(
        path: &Path,
        packed: &File,
        restarts: Vec<Restart>,
        len: usize,
        scratch: &Scratch,
    ) -> Result<Self, InputError> {
        let packed = Map::of(packed, path)?;
        let file = scratch.file()?;
        let what = || {
            let directory = scratch.directory().display();
            format!("the temporary file in {directory} cannot be made")
        };
        file.set_len(len as u64)
            .map_err(InputError::of_scratch(what()))?;
        let map = Map::of(&file, scratch.directory()).map_err(InputError::of_scratch(what()))?;
        let start = |restart: &Restart| usize::try_from(restart.plain).unwrap_or(len).min(len);
        let mut starts: Vec<usize> = restarts.iter().map(start).skip(1).collect();
        starts.push(len);
        let stretches = restarts.into_iter().zip(starts).map(|(from, end)| Stretch {
            range: start(&from)..end,
            from,
            has: Mutex::new(false),
        });
        let unpacked = Self {
            packed,
            stretches: stretches.collect(),
            file,
            map,
            failed: Mutex::default(),
        };
        unpacked.fetch([0..1, len.saturating_sub(1)..len]);
        match unpacked.trouble() {
            Some(trouble) => Err(InputError::NotACapture(trouble)),
            None => Ok(unpacked),
        }
    }

    /// The bytes: zeros where nothing was fetched.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// The error because of which bytes are missing that were asked for, if there was one.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.failed).clone()
    }

    /// Decompresses these stretches, if they are not there. The first failure is noted: see
    /// [`Self::trouble`].
    pub(super) fn fetch(&self, ranges: impl IntoIterator<Item = Range<usize>>) {
        for range in ranges {
            let first = self
                .stretches
                .partition_point(|stretch| stretch.range.end <= range.start);
            let stretches = self.stretches.get(first..).unwrap_or_default().iter();
            for stretch in stretches.take_while(|stretch| stretch.range.start < range.end) {
                let mut has = lock(&stretch.has);
                if !*has {
                    // A stretch that cannot be decompressed is not tried again.
                    *has = true;
                    self.unpack(stretch);
                }
            }
        }
    }

    fn unpack(&self, stretch: &Stretch) {
        let mut at = stretch.range.start as u64;
        let mut failed = None;
        let len = stretch.range.len() as u64;
        let is_whole = unpack(self.packed.bytes(), &stretch.from, len, |bytes| {
            if let Err(error) = self.file.write_all_at(bytes, at) {
                failed = Some(format!("the temporary file cannot be written: {error}"));
                return ControlFlow::Break(());
            }
            at = at.saturating_add(bytes.len() as u64);
            ControlFlow::Continue(())
        });
        if !is_whole {
            let failed = failed.unwrap_or_else(|| {
                format!("it has changed since it was indexed, at decompressed offset {at}")
            });
            lock(&self.failed).get_or_insert(failed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
