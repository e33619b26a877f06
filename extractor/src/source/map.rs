//! A file in memory. Apart from `last_words.rs`, this is the only module with `unsafe`.
#![allow(
    unsafe_code,
    reason = "a file that is mapped can change under the program"
)]

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};

use super::last_words::Registered;

/// Prefetches the bytes at an offset into the processor's cache, without waiting for them.
#[inline]
pub(crate) fn prefetch(bytes: &[u8], offset: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(rest) = bytes.get(offset..) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in [0, 64, 128, 192] {
            // SAFETY: a hint; no address can make it fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(rest.as_ptr().wrapping_add(line).cast()) };
        }
    }
}

/// A read-only map of a whole file.
#[derive(Debug)]
pub(crate) struct Map {
    /// Dropped before the map.
    _name: Registered,
    map: Mmap,
    released: AtomicUsize,
}

impl Map {
    /// Maps a file with this path, or a temporary file in this directory.
    pub(crate) fn of(file: &File, path: &Path) -> io::Result<Self> {
        // SAFETY: the bytes are only read, and every use of them is checked against the length of
        // the map. A file that another program rewrites meanwhile gives wrong records, but no wrong
        // memory. If another program cuts the file, the kernel ends this program when it reads
        // beyond the end: see `last_words.rs`.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self {
            _name: Registered::new(&map, path),
            map,
            released: AtomicUsize::new(0),
        })
    }

    /// Maps a part of a temporary file, which has these bytes. `name` stands for it in messages.
    pub(crate) fn of_part(file: &File, start: u64, len: usize, name: &Path) -> io::Result<Self> {
        // SAFETY: as above; nobody else has this file, and it is not cut.
        let map = unsafe { MmapOptions::new().offset(start).len(len).map(file)? };
        Ok(Self {
            _name: Registered::new(&map, name),
            map,
            released: AtomicUsize::new(0),
        })
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Tells the kernel that few pages are read, or that all are, one behind the other. Else it reads
    /// 128 KiB around each page, which is a whole segment for the packets of one call.
    pub(crate) fn expect(&self, is_scattered: bool) {
        let advice = if is_scattered {
            Advice::Random
        } else {
            Advice::Normal
        };
        if let Err(error) = self.map.advise(advice) {
            tracing::debug!(%error, "the kernel reads ahead as it likes");
        }
    }

    /// Drops the pages before `end` from this process. They stay in the page cache as long as the
    /// kernel wants, and are mapped again when they are read.
    pub(crate) fn release_before(&self, end: usize) {
        let start = self.released.swap(end, Ordering::Relaxed);
        if start < end {
            // SAFETY: the map is shared and backed by a file, so its pages can be dropped and read
            // again.
            let advised = unsafe {
                self.map.unchecked_advise_range(
                    UncheckedAdvice::DontNeed,
                    start,
                    end.saturating_sub(start),
                )
            };
            if let Err(error) = advised {
                tracing::debug!(%error, "the kernel keeps pages that are not needed any more");
            }
        }
    }
}
