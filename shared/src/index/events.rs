//! Records that are kept verbatim, and TCP segments that are only noted.

use super::bytes::{Cursor, put_signed, put_text, put_varint};
use crate::pcap::{LinkType, Precision, Record};

/// A record with packet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRecord<'a> {
    /// Packet time at the record, in nanoseconds since 1970.
    pub clock: u64,
    /// The record, as it is in the segment.
    pub record: Record<'a>,
}

/// Flags of a record.
const HAS_TIME: u8 = 1;
const IS_NANO: u8 = 2;

/// Writes records in capture order.
#[derive(Clone, Debug, Default)]
pub struct EventWriter {
    bytes: Vec<u8>,
    offset: u64,
    clock: u64,
}

impl EventWriter {
    /// Adds the next record.
    pub fn push(&mut self, clock: u64, record: &Record<'_>) {
        let to = &mut self.bytes;
        let time = record.timestamp_ns;
        let is_nano = record.precision == Precision::Nano;
        let has_time = if time.is_some() { HAS_TIME } else { 0 };
        to.push(has_time | if is_nano { IS_NANO } else { 0 });
        let offset = record.offset as u64;
        put_varint(to, offset.wrapping_sub(self.offset));
        put_varint(to, clock.wrapping_sub(self.clock));
        if let Some(time) = time {
            put_signed(to, time.wrapping_sub(clock).cast_signed());
        }
        put_varint(to, record.link.0.into());
        put_varint(to, record.wire_len.into());
        put_text(to, record.frame);
        (self.offset, self.clock) = (offset, clock);
    }

    /// The section.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The records of a section, in capture order. It ends where the bytes are damaged;
/// [`Self::is_whole`] tells.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    cursor: Cursor<'a>,
    offset: u64,
    clock: u64,
    is_whole: bool,
}

impl<'a> Events<'a> {
    /// The records of this section.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
            offset: 0,
            clock: 0,
            is_whole: true,
        }
    }

    /// True if nothing that was read is damaged.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn read(&mut self) -> Option<StoredRecord<'a>> {
        let flags = self.cursor.byte()?;
        self.offset = self.offset.checked_add(self.cursor.varint()?)?;
        self.clock = self.clock.checked_add(self.cursor.varint()?)?;
        let timestamp_ns = if flags & HAS_TIME == 0 {
            None
        } else {
            let lag = self.cursor.signed()?;
            Some(self.clock.wrapping_add(lag.cast_unsigned()))
        };
        let record = Record {
            offset: usize::try_from(self.offset).ok()?,
            timestamp_ns,
            link: LinkType(u16::try_from(self.cursor.varint()?).ok()?),
            wire_len: u32::try_from(self.cursor.varint()?).ok()?,
            precision: if flags & IS_NANO == 0 {
                Precision::Micro
            } else {
                Precision::Nano
            },
            frame: self.cursor.text()?,
        };
        let clock = self.clock;
        Some(StoredRecord { clock, record })
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = StoredRecord<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_none() {
            (self.is_whole, self.cursor) = (false, Cursor::default());
        }
        read
    }
}

/// A TCP segment that belongs to SIP only if its connection turns out to be of SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Packet time at its record.
    pub clock: u64,
    /// The offset of its record.
    pub offset: u64,
    /// The ports of its connection, the lower one in the upper 16 bits.
    pub ports: u32,
}

/// Writes passed segments in capture order.
#[derive(Clone, Debug, Default)]
pub struct PassedWriter {
    bytes: Vec<u8>,
    last: (u64, u64),
}

impl PassedWriter {
    /// Adds the next segment.
    pub fn push(&mut self, passed: Passed) {
        put_varint(&mut self.bytes, passed.clock.wrapping_sub(self.last.0));
        put_varint(&mut self.bytes, passed.offset.wrapping_sub(self.last.1));
        self.bytes.extend(passed.ports.to_le_bytes());
        self.last = (passed.clock, passed.offset);
    }

    /// The section.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads passed segments; `None` if the bytes are damaged.
#[must_use]
pub fn passed(bytes: &[u8]) -> Option<Vec<Passed>> {
    let mut cursor = Cursor::new(bytes);
    let mut all = Vec::new();
    let (mut clock, mut offset) = (0u64, 0u64);
    while !cursor.is_empty() {
        clock = clock.checked_add(cursor.varint()?)?;
        offset = offset.checked_add(cursor.varint()?)?;
        let ports = cursor.u32()?;
        all.push(Passed {
            clock,
            offset,
            ports,
        });
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_read_back(records in proptest::collection::vec((0..1_000usize, 0..1u64 << 40, any::<Option<u32>>(), any::<u16>(), any::<bool>(), any::<Vec<u8>>()), 0..20)) {
            let mut writer = EventWriter::default();
            let (mut offset, mut clock) = (0, 0);
            let mut want = Vec::new();
            for (step, later, time, link, is_nano, frame) in &records {
                (offset, clock) = (offset + step, clock + later);
                let record = Record {
                    offset,
                    timestamp_ns: time.map(u64::from),
                    wire_len: 7,
                    link: LinkType(*link),
                    precision: if *is_nano { Precision::Nano } else { Precision::Micro },
                    frame,
                };
                writer.push(clock, &record);
                want.push(StoredRecord { clock, record });
            }
            let bytes = writer.into_bytes();
            let mut events = Events::of(&bytes);
            prop_assert_eq!(events.by_ref().collect::<Vec<_>>(), want);
            prop_assert!(events.is_whole());
            if let Some(cut) = bytes.len().checked_sub(1) {
                let mut events = Events::of(&bytes[..cut]);
                prop_assert_eq!(events.by_ref().count(), records.len() - 1);
                prop_assert!(!events.is_whole());
            }
        }

        #[test]
        fn passed_segments_read_back(segments in proptest::collection::vec((0..1u64 << 40, 0..1u64 << 20, any::<u32>()), 0..20)) {
            let mut writer = PassedWriter::default();
            let (mut clock, mut offset) = (0, 0);
            let mut want = Vec::new();
            for (later, step, ports) in segments {
                (clock, offset) = (clock + later, offset + step);
                want.push(Passed { clock, offset, ports });
                writer.push(Passed { clock, offset, ports });
            }
            prop_assert_eq!(passed(&writer.into_bytes()), Some(want));
        }

        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>()) {
            Events::of(&bytes).for_each(drop);
            let _ = passed(&bytes);
        }
    }
}
