//! Blocks of data in the page: JSON, compressed with gzip, in base64, in a script element that no
//! browser runs.

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};

/// Calls in a block of details.
pub(super) const CALLS_A_BLOCK: usize = 50;
/// Bytes of records in a block of details, about: a block with fewer calls may be larger by one.
const BYTES_A_BLOCK: usize = 4 << 20;

/// Writes a block of this kind.
pub(super) fn put_block(to: &mut impl Write, kind: &str, json: &[u8]) -> io::Result<()> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(json)?;
    let text = BASE64_STANDARD.encode(packed.finish()?);
    writeln!(
        to,
        "<script type=\"application/octet-stream\" class=\"{kind}\">{text}</script>"
    )
}

/// The block of details that is being filled.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// The number of blocks before it.
    block: usize,
    calls: usize,
    json: Vec<u8>,
}

impl Details {
    /// Adds a record. Returns its place: its block times [`CALLS_A_BLOCK`], and its place there.
    pub(super) fn push(&mut self, to: &mut impl Write, record: &[u8]) -> io::Result<usize> {
        if self.calls >= CALLS_A_BLOCK || self.json.len() > BYTES_A_BLOCK {
            self.flush(to)?;
        }
        let place = self.block.saturating_mul(CALLS_A_BLOCK);
        let place = place.saturating_add(self.calls);
        self.json.push(if self.calls == 0 { b'[' } else { b',' });
        self.json.extend_from_slice(record);
        self.calls = self.calls.saturating_add(1);
        Ok(place)
    }

    /// Writes the block, if it has calls.
    pub(super) fn flush(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.calls == 0 {
            return Ok(());
        }
        self.json.push(b']');
        put_block(to, "details", &self.json)?;
        self.json.clear();
        self.calls = 0;
        self.block = self.block.saturating_add(1);
        Ok(())
    }
}
