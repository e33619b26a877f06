//! The bounded ring between a capture and its disk.
//!
//! A disk may be slow or full; a bounded amount of memory lies between it and the capture. When
//! that is full, the capture leaves packets in the kernel's buffer, which is memory as well.
//! Packets that have no room there either are lost and counted.
//!
//! The limit counts memory, not content: a chunk counts with the capacity of its buffer.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared::{pcap::FILE_HEADER_LEN, segment::SegmentName};

use crate::{drops::Stretch, rotation::Reason};

/// The size of a chunk's buffer: one write to the disk. Larger chunks fall out of the processor's
/// cache between the capture and the disk.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// How many buffers are kept for the next chunks: new memory costs page faults.
const MAX_SPARE_BUFFERS: usize = 4;

/// The length of a segment's file header, as a file length.
pub(crate) const HEADER_BYTES: u64 = FILE_HEADER_LEN as u64;

/// The name and the file header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) name: SegmentName,
    pub(crate) header: [u8; FILE_HEADER_LEN],
}

/// Whole records that go to the disk together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Present if these records are the first of a segment.
    pub(crate) begins: Option<Beginning>,
    pub(crate) records: Vec<u8>,
    pub(crate) packets: u64,
    /// Present if these records are the last of their segment.
    pub(crate) ends: Option<Reason>,
    /// The number and the time of a segment that ends.
    pub(crate) stretch: Stretch,
}

/// The result of a wait for a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Chunk(Chunk),
    NothingYet,
    /// The ring is closed and empty.
    Over,
}

/// Chunks on their way to the disk, in order.
#[derive(Debug)]
pub(crate) struct Ring {
    max_bytes: usize,
    state: Mutex<RingState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RingState {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    is_closed: bool,
}

impl Ring {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Pushes a chunk, and leaves an empty one without a buffer in its place. Returns false, and
    /// leaves the chunk as it is, if there is no room for it.
    pub(crate) fn push(&self, chunk: &mut Chunk) -> bool {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(chunk.records.capacity());
        if bytes > self.max_bytes && !state.chunks.is_empty() {
            return false;
        }
        state.bytes = bytes;
        state.chunks.push_back(mem::take(chunk));
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Pushes the last chunk, even without room, and closes the ring: waiting threads go on.
    pub(crate) fn close(&self, last: Chunk) {
        let mut state = self.lock();
        state.chunks.push_back(last);
        state.is_closed = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Removes and returns the next chunk. Waits at most `patience` for it.
    pub(crate) fn take(&self, patience: Duration) -> Taken {
        let is_idle = |state: &mut RingState| state.chunks.is_empty() && !state.is_closed;
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.chunks.pop_front() {
            Some(chunk) => {
                state.bytes = state.bytes.saturating_sub(chunk.records.capacity());
                Taken::Chunk(chunk)
            }
            None if state.is_closed => Taken::Over,
            None => Taken::NothingYet,
        }
    }

    /// Waits for `patience`, or until the ring is closed. Returns true if it is closed.
    pub(crate) fn wait_for_close(&self, patience: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !state.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    /// True when the writer has taken all chunks.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().chunks.is_empty()
    }

    /// Returns how many more chunks fit.
    pub(crate) fn free_chunks(&self) -> usize {
        self.max_bytes.saturating_sub(self.lock().bytes) / CHUNK_BYTES
    }

    /// Returns the bytes of memory that wait for the disk.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Returns an empty buffer for the next chunk.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let spare = self.lock().spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES))
    }

    /// Takes back a buffer that is no longer needed.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut state = self.lock();
        if state.spare.len() < MAX_SPARE_BUFFERS && buffer.capacity() >= CHUNK_BYTES {
            buffer.clear();
            state.spare.push(buffer);
        }
    }

    /// Locks the state. A panic under the lock cannot leave it inconsistent, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    const NOT_AT_ALL: Duration = Duration::ZERO;

    fn chunk(packets: u64) -> Chunk {
        Chunk {
            records: Vec::with_capacity(1000),
            packets,
            ..Chunk::default()
        }
    }

    fn packets(taken: Taken) -> Option<u64> {
        match taken {
            Taken::Chunk(chunk) => Some(chunk.packets),
            _ => None,
        }
    }

    #[test]
    fn chunks_come_out_as_they_went_in() {
        let ring = Ring::new(10_000);
        (1..=3).for_each(|packets| assert!(ring.push(&mut chunk(packets))));
        let out: Vec<_> = (0..4).map(|_| packets(ring.take(NOT_AT_ALL))).collect();
        assert_eq!(out, [Some(1), Some(2), Some(3), None]);
        assert_eq!(ring.take(NOT_AT_ALL), Taken::NothingYet);
    }

    #[test]
    fn a_full_ring_gives_back_what_it_cannot_take() {
        let ring = Ring::new(2500);
        assert!(ring.push(&mut chunk(1)) && ring.push(&mut chunk(2)));
        let mut third = chunk(3);
        assert!(!ring.push(&mut third) && third.packets == 3);
        assert_eq!((ring.bytes(), ring.free_chunks()), (2000, 0));
        assert_eq!(packets(ring.take(NOT_AT_ALL)), Some(1));
        assert!(ring.push(&mut third) && third == Chunk::default());
    }

    #[test]
    fn what_takes_no_memory_always_fits_and_an_empty_ring_takes_anything() {
        let ring = Ring::new(500);
        let end = || Chunk {
            ends: Some(Reason::Time),
            ..Chunk::default()
        };
        assert!(ring.push(&mut chunk(1)) && !ring.push(&mut chunk(2)));
        assert!(!ring.push(&mut end()), "it is over its limit");
        assert_eq!(packets(ring.take(NOT_AT_ALL)), Some(1));
        assert!(ring.push(&mut end()));
    }

    #[test]
    fn the_last_chunk_is_taken_always_and_then_it_is_over() {
        let ring = Ring::new(1000);
        assert!(ring.push(&mut chunk(1)));
        ring.close(chunk(2));
        assert!(ring.wait_for_close(Duration::from_secs(60)));
        assert_eq!(
            [
                packets(ring.take(NOT_AT_ALL)),
                packets(ring.take(NOT_AT_ALL))
            ],
            [Some(1), Some(2)]
        );
        assert_eq!(ring.take(Duration::from_secs(60)), Taken::Over);
    }

    #[test]
    fn a_waiting_thread_is_woken() {
        let ring = Arc::new(Ring::new(1000));
        let taker = thread::spawn({
            let ring = Arc::clone(&ring);
            move || ring.take(Duration::from_secs(60))
        });
        assert!(ring.push(&mut chunk(7)));
        assert_eq!(packets(taker.join().unwrap()), Some(7));
    }

    #[test]
    fn buffers_are_used_again_but_not_hoarded() {
        let ring = Ring::new(1000);
        (0..100).for_each(|_| ring.give_back(vec![1; CHUNK_BYTES]));
        assert_eq!(ring.lock().spare.len(), MAX_SPARE_BUFFERS);
        let buffer = ring.buffer();
        assert!(buffer.is_empty() && buffer.capacity() >= CHUNK_BYTES);
        ring.give_back(Vec::new());
        assert_eq!(ring.lock().spare.len(), MAX_SPARE_BUFFERS - 1);
    }
}
