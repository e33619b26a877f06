//! A file in memory. The only room with `unsafe` in it.
#![allow(unsafe_code, reason = "a file that is mapped can change under the program")]

use std::{
    fs::File,
    io,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use memmap2::{Mmap, UncheckedAdvice};
use nix::libc;
use signal_hook::{consts::SIGBUS, low_level};

/// Has the processor fetch what lies at an offset, without waiting for it.
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
pub(super) struct Map {
    map: Mmap,
    released: AtomicUsize,
}

impl Map {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes are only ever read, and every use of them is checked against the length of
        // the map. A file that another program rewrites meanwhile gives wrong records, not wrong memory;
        // one that it cuts has no more bytes for some of the map, and the kernel ends the program: see `say_why_it_ends`.
        let map = unsafe { Mmap::map(file)? };
        say_why_it_ends();
        Ok(Self { map, released: AtomicUsize::new(0) })
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Drops the pages before `end` from this process. They stay in the page cache as long as the
    /// kernel likes, and come back if they are touched again.
    pub(super) fn release_before(&self, end: usize) {
        let start = self.released.swap(end, Ordering::Relaxed);
        if start < end {
            // SAFETY: the map is shared and backed by a file, so its pages can be dropped and read again.
            let advised = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end.saturating_sub(start)) };
            if let Err(error) = advised {
                tracing::debug!(%error, "the kernel keeps pages that are not needed any more");
            }
        }
    }
}

const WAS_CUT: &str = "ERROR an input became shorter while it was read, or the disk could not give it; read captures that nobody \
    writes to any more. What is published is right; the next run removes what is half-written, and goes on\n";

/// Has SIGBUS end the program with a sentence, like any other input that cannot be read.
fn say_why_it_ends() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let end = || {
            // SAFETY: the bytes are there. Both calls may be made in a handler of signals: signal-safety(7).
            let _ = unsafe { libc::write(libc::STDERR_FILENO, WAS_CUT.as_ptr().cast(), WAS_CUT.len()) };
            low_level::exit(1);
        };
        // SAFETY: `end` takes no lock and no memory.
        if let Err(error) = unsafe { low_level::register(SIGBUS, end) } {
            tracing::debug!(%error, "an input that is cut will end the program without a word");
        }
    });
}
