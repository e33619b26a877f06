//! The frames of a file that this program has written.
//!
//! They are read without the checks that captures of others need: each record stands where the one
//! before it ends, whatever its time and its lengths.

use shared::pcap::{LinkType, Precision, RECORD_HEADER_LEN, Record};

/// The length of the header of a classic pcap, in bytes.
const FILE_HEADER_LEN: usize = 24;
/// The type of an enhanced packet block of a pcapng, and the length of its fields before the frame,
/// in bytes.
const ENHANCED_PACKET: u32 = 6;
const PACKET_FIELDS_LEN: usize = 28;

/// The frames of a file.
#[derive(Clone, Debug)]
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    /// The offset of the next record or block.
    offset: usize,
    links: &'a [LinkType],
    precision: Precision,
}

/// A frame, and its record as the file has it, if it is a classic pcap.
pub(super) type Frame<'a> = (Record<'a>, Option<&'a [u8]>);

impl<'a> Frames<'a> {
    /// The frames in these bytes: a classic pcap, or a pcapng with several interfaces, which have
    /// these link types.
    pub(super) fn of(bytes: &'a [u8], links: &'a [LinkType], precision: Precision) -> Self {
        let is_ng = links.len() > 1;
        Self {
            bytes,
            offset: if is_ng { 0 } else { FILE_HEADER_LEN },
            links,
            precision,
        }
    }

    fn u32_at(&self, offset: usize) -> Option<u32> {
        let bytes = self.bytes.get(self.offset.checked_add(offset)?..)?;
        bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn len_at(&self, offset: usize) -> Option<usize> {
        Some(self.u32_at(offset)? as usize)
    }

    /// The next record of a classic pcap.
    fn next_record(&mut self, link: LinkType) -> Option<Frame<'a>> {
        let (seconds, fraction) = (self.u32_at(0)?, self.u32_at(4)?);
        let len = RECORD_HEADER_LEN.checked_add(self.len_at(8)?)?;
        let wire_len = self.u32_at(12)?;
        let raw = self.bytes.get(self.offset..)?.get(..len)?;
        let fraction_ns = u64::from(fraction).saturating_mul(unit_ns(self.precision));
        let record = Record {
            offset: self.offset,
            timestamp_ns: Some(
                u64::from(seconds)
                    .saturating_mul(1_000_000_000)
                    .saturating_add(fraction_ns),
            ),
            wire_len,
            link,
            precision: self.precision,
            frame: raw.get(RECORD_HEADER_LEN..)?,
        };
        self.offset = self.offset.checked_add(len)?;
        Some((record, Some(raw)))
    }

    /// The next frame of a pcapng; blocks that describe interfaces are passed over.
    fn next_packet(&mut self) -> Option<Frame<'a>> {
        loop {
            let (kind, len) = (self.u32_at(0)?, self.len_at(4)?);
            let next = self.offset.checked_add(len).filter(|_| len > 0)?;
            if kind != ENHANCED_PACKET {
                self.offset = next;
                continue;
            }
            let (high, low) = (self.u32_at(12)?, self.u32_at(16)?);
            let units = u64::from(high) << 32 | u64::from(low);
            let start = self.offset.checked_add(PACKET_FIELDS_LEN)?;
            let record = Record {
                offset: self.offset,
                timestamp_ns: Some(units.saturating_mul(unit_ns(self.precision))),
                wire_len: self.u32_at(24)?,
                link: *self.links.get(self.len_at(8)?)?,
                precision: self.precision,
                frame: self.bytes.get(start..)?.get(..self.len_at(20)?)?,
            };
            self.offset = next;
            return Some((record, None));
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        match *self.links {
            [link] => self.next_record(link),
            _ => self.next_packet(),
        }
    }
}

/// The unit of timestamps, in nanoseconds.
fn unit_ns(precision: Precision) -> u64 {
    match precision {
        Precision::Micro => 1000,
        Precision::Nano => 1,
    }
}

#[cfg(test)]
mod tests {
    use shared::pcap::{
        DEFAULT_SNAPLEN, file_header, ng_interface, ng_packet, ng_section_header, record_header,
    };

    use super::*;

    const LINKS: [LinkType; 2] = [LinkType::ETHERNET, LinkType::RAW];
    const NS: u64 = 1_701_441_022_123_456_000;

    #[test]
    fn classic_records_stand_one_behind_the_other() {
        let head = file_header(LINKS[0], Precision::Micro, DEFAULT_SNAPLEN);
        let one = [&record_header(NS, Precision::Micro, 3, 9)[..], b"abc"].concat();
        let two = record_header(0, Precision::Micro, 0, 0);
        let file = [&head[..], &one, &two, &[7; 15]].concat();
        let frames: Vec<Frame<'_>> = Frames::of(&file, &LINKS[..1], Precision::Micro).collect();
        assert_eq!(frames.len(), 2, "a cut record is none");
        let (record, raw) = &frames[0];
        assert_eq!((record.timestamp_ns, record.wire_len), (Some(NS), 9));
        assert_eq!((record.frame, *raw), (&b"abc"[..], Some(&one[..])));
        assert_eq!(frames[1].1, Some(&two[..]));
    }

    #[test]
    fn packets_of_a_pcapng_have_the_link_of_their_interface() {
        let interface = |link| ng_interface(link, Precision::Nano, DEFAULT_SNAPLEN);
        let packet = |n, frame| ng_packet(n, NS + 7, Precision::Nano, frame, 99);
        let file = [
            ng_section_header(),
            interface(LINKS[0]),
            packet(0, b"abcde"),
            interface(LINKS[1]),
            packet(1, b"x"),
        ];
        let file = file.concat();
        let frames = Frames::of(&file, &LINKS, Precision::Nano);
        let got: Vec<_> = frames
            .map(|(one, _)| (one.link, one.frame, one.wire_len, one.timestamp_ns))
            .collect();
        let want = [(LINKS[0], &b"abcde"[..]), (LINKS[1], b"x")];
        let want = want.map(|(link, frame)| (link, frame, 99, Some(NS + 7)));
        assert_eq!(got, want);
        let cut = Frames::of(&file[..file.len() - 30], &LINKS, Precision::Nano);
        assert_eq!(cut.count(), 1);
    }
}
