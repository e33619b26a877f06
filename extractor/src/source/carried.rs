//! Records that are still to be written when a unit of work ends, as the state keeps them. They do
//! not depend on their segment any more.
//!
//! ```text
//!  0  position                          8
//!  8  length of the frame               4
//! 12  its length on the wire            4
//! 16  link type                         2
//! 18  precision of its input             1   0 microseconds, 1 nanoseconds
//! 19  kind                              1   0 no timestamp, 1 as a call's file has it, 2 written anew
//! 20  header of the record, or its time   16
//! 36  frame
//! ```
//!
//! Records are sorted by position; numbers are little-endian.

use std::{
    fs::File,
    io::{self, Write},
    ops::Range,
    path::Path,
};

use shared::pcap::{
    DEFAULT_SNAPLEN, Layout, LinkType, Precision, RECORD_HEADER_LEN, Record, file_header,
};

use super::map::Map;
use crate::moment::Position;

const ENTRY_LEN: usize = 20;
const NO_TIME: u8 = 0;
const NATIVE: u8 = 1;
const BUILT: u8 = 2;

/// Carried records, by position.
#[derive(Debug)]
pub struct Carried {
    /// The map of the file with the records; `None` if there are no records.
    map: Option<Map>,
    /// The position of each record, and its offset in the map.
    entries: Vec<(Position, usize)>,
    micro: Layout,
    nano: Layout,
    /// The layout of records that cannot be copied unchanged.
    other: Layout,
}

impl Default for Carried {
    fn default() -> Self {
        let native =
            |precision| match Layout::detect(&file_header(LinkType(1), precision, DEFAULT_SNAPLEN))
            {
                Ok((layout, _)) => layout,
                Err(_) => Layout::Ng(shared::pcap::Section::default()),
            };
        Self {
            map: None,
            entries: Vec::new(),
            micro: native(Precision::Micro),
            nano: native(Precision::Nano),
            other: Layout::Ng(shared::pcap::Section::default()),
        }
    }
}

impl Carried {
    /// The records in a stretch of a file.
    ///
    /// # Errors
    /// The file cannot be mapped.
    pub fn in_file(file: &File, stretch: Range<usize>) -> io::Result<Self> {
        let mut carried = Self::default();
        if stretch.is_empty() {
            return Ok(carried);
        }
        let map = Map::of(file, Path::new("the carried records"))?;
        let bytes = map.bytes().get(..stretch.end).unwrap_or_default();
        let mut offset = stretch.start;
        while let Some(entry) = CarriedRecord::at(bytes, offset) {
            carried.entries.push((entry.position, offset));
            offset = entry.end();
        }
        carried.map = Some(map);
        Ok(carried)
    }

    /// The map of the records: their offsets count from its beginning.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], Map::bytes)
    }

    /// The record that was at a position, and its layout in [`Self::bytes`].
    #[must_use]
    pub fn get(&self, position: Position) -> Option<(Record<'_>, &Layout)> {
        let entry = self.entry(position)?;
        let layout = match (entry.kind, entry.precision) {
            (NATIVE, Precision::Micro) => &self.micro,
            (NATIVE, Precision::Nano) => &self.nano,
            _ => &self.other,
        };
        Some((entry.record(self.bytes())?, layout))
    }

    fn entry(&self, position: Position) -> Option<CarriedRecord> {
        let place = self
            .entries
            .binary_search_by_key(&position, |(position, _)| *position)
            .ok()?;
        CarriedRecord::at(self.bytes(), self.entries.get(place)?.1)
    }
}

/// Writes a carried record; `raw` is the record header for the call's file, if the record has it
/// already. Returns the number of bytes.
///
/// # Errors
/// `to` cannot be written.
pub fn write_carried(
    to: &mut impl Write,
    position: Position,
    record: &Record<'_>,
    raw: Option<&[u8]>,
) -> io::Result<usize> {
    // A frame is in memory, and came with a 32-bit length.
    let len = u32::try_from(record.frame.len()).unwrap_or(u32::MAX);
    let [a, b, c, d, e, f, g, h] = record.timestamp_ns.unwrap_or(0).to_le_bytes();
    let time = [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0];
    let kind = match (raw, record.timestamp_ns) {
        (Some(_), _) => NATIVE,
        (None, Some(_)) => BUILT,
        (None, None) => NO_TIME,
    };
    let is_nano = u8::from(record.precision == Precision::Nano);
    to.write_all(&position.to_bits().to_le_bytes())?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(&record.wire_len.to_le_bytes())?;
    to.write_all(&record.link.0.to_le_bytes())?;
    to.write_all(&[is_nano, kind])?;
    to.write_all(raw.unwrap_or(&time))?;
    to.write_all(record.frame)?;
    Ok(ENTRY_LEN
        .saturating_add(RECORD_HEADER_LEN)
        .saturating_add(record.frame.len()))
}

/// A stored record.
struct CarriedRecord {
    offset: usize,
    position: Position,
    len: usize,
    wire_len: u32,
    link: LinkType,
    precision: Precision,
    kind: u8,
}

impl CarriedRecord {
    /// The record at an offset, if it is complete.
    fn at(bytes: &[u8], offset: usize) -> Option<Self> {
        let [
            position @ ..,
            l0,
            l1,
            l2,
            l3,
            w0,
            w1,
            w2,
            w3,
            t0,
            t1,
            precision,
            kind,
        ] = *bytes.get(offset..)?.first_chunk::<ENTRY_LEN>()?;
        let entry = Self {
            offset,
            position: Position::from_bits(u64::from_le_bytes(position)),
            len: u32::from_le_bytes([l0, l1, l2, l3]) as usize,
            wire_len: u32::from_le_bytes([w0, w1, w2, w3]),
            link: LinkType(u16::from_le_bytes([t0, t1])),
            precision: if precision == 0 {
                Precision::Micro
            } else {
                Precision::Nano
            },
            kind,
        };
        (entry.end() <= bytes.len()).then_some(entry)
    }

    /// The offset of the record's header.
    fn header(&self) -> usize {
        self.offset.saturating_add(ENTRY_LEN)
    }

    fn frame(&self) -> Range<usize> {
        let start = self.header().saturating_add(RECORD_HEADER_LEN);
        start..start.saturating_add(self.len)
    }

    fn end(&self) -> usize {
        self.frame().end
    }

    fn record<'a>(&self, bytes: &'a [u8]) -> Option<Record<'a>> {
        let [s0, s1, s2, s3, f0, f1, f2, f3, ..] = *bytes
            .get(self.header()..)?
            .first_chunk::<RECORD_HEADER_LEN>()?;
        let seconds = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
        let fraction = u64::from(u32::from_le_bytes([f0, f1, f2, f3]));
        let unit = if self.precision == Precision::Micro {
            1_000
        } else {
            1
        };
        let timestamp_ns = match self.kind {
            NO_TIME => None,
            // Both have 32 bits.
            NATIVE => Some(
                seconds
                    .saturating_mul(1_000_000_000)
                    .saturating_add(fraction.saturating_mul(unit)),
            ),
            _ => Some(u64::from_le_bytes([s0, s1, s2, s3, f0, f1, f2, f3])),
        };
        Some(Record {
            offset: self.header(),
            timestamp_ns,
            wire_len: self.wire_len,
            link: self.link,
            precision: self.precision,
            frame: bytes.get(self.frame())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn records_are_read_as_they_were_written() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        let frame = b"a frame";
        let record = |timestamp_ns, precision| Record {
            offset: 99,
            timestamp_ns,
            wire_len: 70,
            link: LinkType(113),
            precision,
            frame,
        };
        let odd = [1, 0, 0, 0, 0x40, 0x42, 0x0f, 0, 7, 0, 0, 0, 70, 0, 0, 0];
        let cases = [
            (1, Some(5_000_000_001), Precision::Nano, None),
            (2, None, Precision::Micro, None),
            // A second of microseconds beyond the second: copied as it is.
            (3, Some(2_000_000_000), Precision::Micro, Some(&odd[..])),
        ];
        for (n, timestamp_ns, precision, raw) in cases {
            write_carried(
                &mut file,
                Position::new(3, n),
                &record(timestamp_ns, precision),
                raw,
            )
            .unwrap();
        }
        let end = file.stream_position().unwrap() as usize;
        file.write_all(b"behind").unwrap();
        let carried = Carried::in_file(&file, 6..end).unwrap();
        for (n, timestamp_ns, precision, raw) in cases {
            let (got, layout) = carried.get(Position::new(3, n)).unwrap();
            assert_eq!(
                Record { offset: 99, ..got },
                record(timestamp_ns, precision)
            );
            assert_eq!(layout.is_native(precision), raw.is_some());
            if let Some(raw) = raw {
                assert_eq!(&carried.bytes()[got.offset..got.offset + 16], raw);
            }
        }
        assert!(carried.get(Position::new(3, 4)).is_none());
        assert!(
            Carried::in_file(&file, 6..6)
                .unwrap()
                .get(Position::new(3, 1))
                .is_none()
        );
    }
}
