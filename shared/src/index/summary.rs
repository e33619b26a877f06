//! The summary of a segment: which one it is, on which terms it was indexed, and its times.

use super::bytes::{Cursor, put_text, put_varint};

/// The bytes at both ends of a segment that identify it.
const ENDS_LEN: usize = 64 * 1024;

/// The identity of a segment: its length, and checksums of its head and its tail. A segment that
/// has grown, or that another has replaced, has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The length in bytes, decompressed.
    pub len: u64,
    /// The CRC-32 of the first 64 KiB.
    pub head: u32,
    /// The CRC-32 of the last 64 KiB.
    pub tail: u32,
}

impl Identity {
    /// The identity of a segment with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let head = bytes.get(..ENDS_LEN).unwrap_or(bytes);
        let tail = bytes.get(bytes.len().saturating_sub(ENDS_LEN)..);
        Self {
            len: bytes.len() as u64,
            head: crc32fast::hash(head),
            tail: crc32fast::hash(tail.unwrap_or_default()),
        }
    }
}

/// Packet time in a segment, if it can be told without the segments before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Packet time at the first record with a timestamp.
    pub first: u64,
    /// The lowest time of a record.
    pub lowest: u64,
    /// Packet time at the end.
    pub last: u64,
    /// True when every record is within a minute of packet time.
    pub is_steady: bool,
    /// True when packet time is the highest timestamp, and no record lags more than a minute behind
    /// it. Then it is the same among the records of other segments.
    pub is_orderly: bool,
}

/// The summary of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The segment.
    pub identity: Identity,
    /// The length of its file, in bytes: compressed, if it is.
    pub file_len: u64,
    /// The terms: where SIP was looked for, and which tunnels were opened.
    pub terms: String,
    /// The offset of the first record that is indexed.
    pub start: u64,
    /// The offset behind the last record that is indexed. Records behind it are read in the segment:
    /// their times depend on the segment that follows.
    pub end: u64,
    /// The timestamp of the first record, in nanoseconds since 1970.
    pub first_ns: Option<u64>,
    /// The timestamp of the last indexed record, about: packet time at the end.
    pub last_clock: u64,
    /// The records.
    pub packets: u64,
    /// The captured bytes of all records.
    pub bytes: u64,
    /// The memory that an index of the records takes, in bytes, about.
    pub memory: u64,
    /// Packet time, if the index can stand for the segment. If not, it is there for searching only.
    pub timing: Option<Timing>,
}

const HAS_FIRST: u8 = 1;
const HAS_TIMING: u8 = 2;
const IS_STEADY: u8 = 4;
const IS_ORDERLY: u8 = 8;

impl Summary {
    /// The section.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut to = Vec::new();
        let flag = |is_set: bool, bit| if is_set { bit } else { 0 };
        to.push(
            flag(self.first_ns.is_some(), HAS_FIRST)
                | flag(self.timing.is_some(), HAS_TIMING)
                | flag(
                    self.timing.is_some_and(|timing| timing.is_steady),
                    IS_STEADY,
                )
                | flag(
                    self.timing.is_some_and(|timing| timing.is_orderly),
                    IS_ORDERLY,
                ),
        );
        put_varint(&mut to, self.identity.len);
        to.extend(self.identity.head.to_le_bytes());
        to.extend(self.identity.tail.to_le_bytes());
        put_varint(&mut to, self.file_len);
        put_text(&mut to, self.terms.as_bytes());
        let numbers = [
            self.start,
            self.end,
            self.first_ns.unwrap_or(0),
            self.last_clock,
            self.packets,
            self.bytes,
            self.memory,
        ];
        numbers
            .into_iter()
            .for_each(|number| put_varint(&mut to, number));
        if let Some(timing) = self.timing {
            [timing.first, timing.lowest, timing.last]
                .into_iter()
                .for_each(|time| put_varint(&mut to, time));
        }
        to
    }

    /// Reads the section; `None` if it is damaged.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let flags = cursor.byte()?;
        let identity = Identity {
            len: cursor.varint()?,
            head: cursor.u32()?,
            tail: cursor.u32()?,
        };
        let file_len = cursor.varint()?;
        let terms = String::from_utf8(cursor.text()?.to_vec()).ok()?;
        let (start, end) = (cursor.varint()?, cursor.varint()?);
        let first_ns = cursor.varint()?;
        let mut summary = Self {
            identity,
            file_len,
            terms,
            start,
            end,
            first_ns: (flags & HAS_FIRST != 0).then_some(first_ns),
            last_clock: cursor.varint()?,
            packets: cursor.varint()?,
            bytes: cursor.varint()?,
            memory: cursor.varint()?,
            timing: None,
        };
        if flags & HAS_TIMING != 0 {
            summary.timing = Some(Timing {
                first: cursor.varint()?,
                lowest: cursor.varint()?,
                last: cursor.varint()?,
                is_steady: flags & IS_STEADY != 0,
                is_orderly: flags & IS_ORDERLY != 0,
            });
        }
        let is_sound = start <= end && end <= identity.len && cursor.is_empty();
        is_sound.then_some(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_summary_reads_back() {
        let plain = Summary {
            identity: Identity::of(b"segment"),
            end: 7,
            terms: "any".to_owned(),
            ..Summary::default()
        };
        let timed = Summary {
            first_ns: Some(0),
            timing: Some(Timing {
                first: 1,
                lowest: u64::MAX,
                last: 3,
                is_steady: true,
                is_orderly: false,
            }),
            ..plain.clone()
        };
        for summary in [plain, timed] {
            let bytes = summary.write();
            assert_eq!(Summary::read(&bytes), Some(summary));
            for len in 0..bytes.len() {
                assert_eq!(Summary::read(&bytes[..len]), None, "{len}");
            }
        }
    }

    #[test]
    fn a_segment_that_has_grown_is_another() {
        let segment = vec![7; 200_000];
        let of = |len| Identity::of(&segment[..len]);
        assert_eq!(of(200_000), of(200_000));
        assert_ne!(of(200_000), of(199_999));
        assert_ne!(of(1), of(0));
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>()) {
            let _ = Summary::read(&bytes);
        }
    }
}
