//! The frame of both files: a table of sections, each with its checksum.

use std::ops::Range;

use super::{VERSION, bytes::Cursor};

/// The most sections of a file.
const MAX_SECTIONS: u32 = 64;

/// The length of the header: magic, version, number of sections, checksum of the table.
const HEADER_LEN: usize = 8 + 4 + 4 + 4;

/// The length of an entry of the table: kind, coding, offset, length, plain length, checksum.
const ENTRY_LEN: usize = 4 + 4 + 8 + 8 + 8 + 4;

/// The reason why an index file is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It does not begin like an index.
    #[error("it is no index")]
    NotAnIndex,
    /// Another version of the program wrote it.
    #[error("it has version {0} of the format, and this program reads {VERSION}")]
    Version(u32),
    /// A checksum or a length is wrong.
    #[error("it is damaged")]
    Damaged,
    /// The segment is not the one that was indexed, or has changed.
    #[error("it belongs to another segment, or the segment has changed since")]
    OtherSegment,
    /// Another run looked for SIP elsewhere.
    #[error("it was made on other terms ({0})")]
    OtherTerms(String),
}

/// The form of a section's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Plain,
    /// Compressed with zstd (RFC 8878).
    Zstd,
}

impl Coding {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 1,
        }
    }

    pub(super) fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A section: its kind, and its bytes as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// One of [`super::section`].
    pub kind: u32,
    /// The form of the bytes.
    pub coding: Coding,
    /// The length of the bytes when they are plain.
    pub plain_len: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// The bytes of a file with these sections.
#[must_use]
pub fn write(magic: [u8; 8], sections: &[Section<'_>]) -> Vec<u8> {
    let table_len = sections.len().saturating_mul(ENTRY_LEN);
    let mut at = HEADER_LEN.saturating_add(table_len) as u64;
    let mut table = Vec::with_capacity(table_len);
    for section in sections {
        table.extend(section.kind.to_le_bytes());
        table.extend(section.coding.number().to_le_bytes());
        table.extend(at.to_le_bytes());
        table.extend((section.bytes.len() as u64).to_le_bytes());
        table.extend(section.plain_len.to_le_bytes());
        table.extend(crc32fast::hash(section.bytes).to_le_bytes());
        at = at.saturating_add(section.bytes.len() as u64);
    }
    let count = u32::try_from(sections.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(usize::try_from(at).unwrap_or(0));
    file.extend(magic);
    file.extend(VERSION.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(crc32fast::hash(&table).to_le_bytes());
    file.extend(table);
    sections
        .iter()
        .for_each(|section| file.extend_from_slice(section.bytes));
    file
}

/// A file, whose table is known to be sound.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    bytes: &'a [u8],
    table: &'a [u8],
}

struct Entry {
    kind: u32,
    coding: u32,
    offset: u64,
    len: u64,
    plain_len: u64,
    crc: u32,
}

impl Entry {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        Some(Self {
            kind: cursor.u32()?,
            coding: cursor.u32()?,
            offset: cursor.u64()?,
            len: cursor.u64()?,
            plain_len: cursor.u64()?,
            crc: cursor.u32()?,
        })
    }
}

impl Entry {
    fn range(&self) -> Option<Range<usize>> {
        let start = usize::try_from(self.offset).ok()?;
        Some(start..start.checked_add(usize::try_from(self.len).ok()?)?)
    }
}

impl<'a> Container<'a> {
    /// Reads the table.
    ///
    /// # Errors
    /// The file is no index, has another version, or is damaged.
    pub fn open(bytes: &'a [u8], magic: [u8; 8]) -> Result<Self, IndexError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array() != Some(magic) {
            return Err(IndexError::NotAnIndex);
        }
        let version = cursor.u32().ok_or(IndexError::Damaged)?;
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        let table = || {
            let count = cursor.u32().filter(|count| *count <= MAX_SECTIONS)?;
            let crc = cursor.u32()?;
            let table = cursor.take((count as usize).checked_mul(ENTRY_LEN)?)?;
            (crc32fast::hash(table) == crc).then_some(table)
        };
        let table = { table }().ok_or(IndexError::Damaged)?;
        Ok(Self { bytes, table })
    }

    /// A section, after its checksum was compared.
    ///
    /// # Errors
    /// It is not there, or is damaged.
    pub fn section(&self, kind: u32) -> Result<Section<'a>, IndexError> {
        let (section, crc) = self.find(kind).ok_or(IndexError::Damaged)?;
        if crc32fast::hash(section.bytes) == crc {
            Ok(section)
        } else {
            Err(IndexError::Damaged)
        }
    }

    /// A section that is read in parts, which have checksums of their own.
    ///
    /// # Errors
    /// It is not there.
    pub fn section_of_parts(&self, kind: u32) -> Result<Section<'a>, IndexError> {
        self.find(kind)
            .map(|(section, _)| section)
            .ok_or(IndexError::Damaged)
    }

    /// The place of a section in the file, in bytes.
    ///
    /// # Errors
    /// It is not there.
    pub fn range(&self, kind: u32) -> Result<Range<usize>, IndexError> {
        let entry = self.entry(kind).ok_or(IndexError::Damaged)?;
        entry.range().ok_or(IndexError::Damaged)
    }

    fn entry(&self, kind: u32) -> Option<Entry> {
        let entries = self.table.chunks_exact(ENTRY_LEN).filter_map(Entry::read);
        entries.into_iter().find(|entry| entry.kind == kind)
    }

    fn find(&self, kind: u32) -> Option<(Section<'a>, u32)> {
        let entry = self.entry(kind)?;
        let section = Section {
            kind,
            coding: Coding::of(entry.coding)?,
            plain_len: entry.plain_len,
            bytes: self.bytes.get(entry.range()?)?,
        };
        let is_sound =
            section.coding != Coding::Plain || section.plain_len == section.bytes.len() as u64;
        is_sound.then_some((section, entry.crc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAGIC: [u8; 8] = *b"TESTTEST";

    fn section(kind: u32, bytes: &[u8]) -> Section<'_> {
        Section {
            kind,
            coding: Coding::Plain,
            plain_len: bytes.len() as u64,
            bytes,
        }
    }

    fn written() -> Vec<u8> {
        write(
            MAGIC,
            &[section(1, b"one"), section(7, b""), section(3, b"three")],
        )
    }

    #[test]
    fn what_is_no_index_says_so() {
        let open = |bytes: &[u8]| Container::open(bytes, MAGIC).map(drop);
        assert_eq!(open(b""), Err(IndexError::NotAnIndex));
        assert_eq!(open(b"TESTTES"), Err(IndexError::NotAnIndex));
        assert_eq!(open(b"TESTTEST"), Err(IndexError::Damaged));
        let mut other = written();
        other[8] = 9;
        assert_eq!(open(&other), Err(IndexError::Version(9)));
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let file = written();
        let all = |bytes: &[u8]| -> Result<Vec<Vec<u8>>, IndexError> {
            let container = Container::open(bytes, MAGIC)?;
            let read = |kind| {
                container
                    .section(kind)
                    .map(|section| section.bytes.to_vec())
            };
            [1, 7, 3].into_iter().map(read).collect()
        };
        let want = [&b"one"[..], b"", b"three"].map(<[u8]>::to_vec);
        assert_eq!(all(&file).unwrap(), want);
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 0x10;
            assert!(all(&damaged).is_err(), "byte {place}");
            assert!(all(&file[..place]).is_err(), "cut at {place}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic(mut bytes in any::<Vec<u8>>(), kind in 0..9u32) {
            bytes.splice(0..0, written().into_iter().take(12));
            if let Ok(container) = Container::open(&bytes, MAGIC) {
                let _ = container.section(kind);
            }
        }
    }
}
