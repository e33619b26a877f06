//! Large writes out of small frames.

/// Bytes on their way to one file, gathered for large writes.
///
/// A frame of speech has some 200 bytes: a write, or an element of a vectored one, for each would
/// cost three to eight times as much as copying it here first.
#[derive(Debug)]
pub(super) struct GatherBuffer {
    bytes: Vec<u8>,
}

/// Large enough to make the system call cheap, small enough to stay in the second-level cache.
const GATHER_LEN: usize = 256 * 1024;

impl Default for GatherBuffer {
    fn default() -> Self {
        Self {
            bytes: Vec::with_capacity(GATHER_LEN),
        }
    }
}

impl GatherBuffer {
    /// Adds some bytes. Tells whether it is time to write them and to [`GatherBuffer::clear`].
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
