//! Combines small frames into large writes.

/// A write buffer for one file.
///
/// A frame of speech has some 200 bytes: a write, or an element of a vectored write, for each would
/// cost three to eight times as much as copying it here first.
#[derive(Debug)]
pub(super) struct GatherBuffer {
    bytes: Vec<u8>,
}

/// Large enough to make system calls cheap, small enough for the second-level cache.
const GATHER_LEN: usize = 256 * 1024;

impl Default for GatherBuffer {
    fn default() -> Self {
        Self {
            bytes: Vec::with_capacity(GATHER_LEN),
        }
    }
}

impl GatherBuffer {
    /// Adds bytes. Returns true when the caller should write the buffer and [`GatherBuffer::clear`]
    /// it.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() >= GATHER_LEN - 64 * 1024
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}
