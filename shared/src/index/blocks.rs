//! The directory of the blocks of the table of packets.

use super::{
    bytes::{Cursor, put_varint},
    container::Coding,
};

/// The fewest bytes of a block in the directory.
const LEAST_LEN: usize = 4 + 4;

/// A block: packets that lie one behind the other in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// The number of packets.
    pub packets: u64,
    /// The place of its bytes in the section of packets.
    pub part: Part,
}

/// A part of a section, with a coding and a checksum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The offset of its bytes in the section.
    pub at: u64,
    /// The number of its bytes there.
    pub len: u64,
    /// The form of its bytes there.
    pub coding: Coding,
    /// The CRC-32 of its bytes there.
    pub crc: u32,
}

impl Part {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.crc.to_le_bytes());
        put_varint(to, self.at);
        put_varint(to, self.len);
        put_varint(to, self.coding.number().into());
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let crc = cursor.u32()?;
        Some(Self {
            at: cursor.varint()?,
            len: cursor.varint()?,
            coding: Coding::of(u32::try_from(cursor.varint()?).ok()?)?,
            crc,
        })
    }
}

/// Writes a directory.
#[must_use]
pub fn write_blocks(blocks: &[StoredBlock]) -> Vec<u8> {
    let mut to = Vec::new();
    put_varint(&mut to, blocks.len() as u64);
    for block in blocks {
        put_varint(&mut to, block.packets);
        block.part.write(&mut to);
    }
    to
}

/// Reads a directory; `None` if it is none.
#[must_use]
pub fn read_blocks(bytes: &[u8]) -> Option<Vec<StoredBlock>> {
    let mut cursor = Cursor::new(bytes);
    let count = usize::try_from(cursor.varint()?).ok()?;
    if count > cursor.rest().len() / LEAST_LEN {
        return None;
    }
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        blocks.push(StoredBlock {
            packets: cursor.varint()?,
            part: Part::read(&mut cursor)?,
        });
    }
    cursor.is_empty().then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directory_reads_back_and_no_part_of_it_does() {
        let block = |packets| StoredBlock {
            packets,
            part: Part {
                at: 1 << 40,
                len: packets,
                coding: Coding::Zstd,
                crc: 0xdead_beef,
            },
        };
        let blocks = [block(0), block(65_536)];
        let bytes = write_blocks(&blocks);
        assert_eq!(read_blocks(&bytes).as_deref(), Some(&blocks[..]));
        for len in 0..bytes.len() {
            assert_eq!(read_blocks(&bytes[..len]), None, "{len}");
        }
        // A number of blocks that nobody has room for.
        assert_eq!(read_blocks(&[0xff, 0xff, 0xff, 0xff, 0x7f]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>()) {
            let _ = read_blocks(&bytes);
        }
    }
}
