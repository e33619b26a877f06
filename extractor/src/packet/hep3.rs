//! HEP3: "HEP3", the total length, and chunks.
//!
//! ```text
//! vendor (2)  type (2)  length, these six bytes included (2)  value
//! ```

use memchr::memmem;

use super::{
    Datagram, Endpoint, Network, Packet, be16,
    told::{time_ns, told},
};

const MAGIC: [u8; 4] = *b"HEP3";
const HEADER_LEN: usize = 6;

/// Chunk types of vendor 0: HEP3 Network Protocol Specification, "Generic chunk types".
mod chunk {
    pub(super) const SOURCE_V4: u16 = 3;
    pub(super) const DESTINATION_V4: u16 = 4;
    pub(super) const SOURCE_V6: u16 = 5;
    pub(super) const DESTINATION_V6: u16 = 6;
    pub(super) const SOURCE_PORT: u16 = 7;
    pub(super) const DESTINATION_PORT: u16 = 8;
    pub(super) const SECONDS: u16 = 9;
    pub(super) const MICROSECONDS: u16 = 10;
    pub(super) const PROTOCOL: u16 = 11;
    pub(super) const PAYLOAD: u16 = 15;
    pub(super) const COMPRESSED_PAYLOAD: u16 = 16;
}

/// Returns true if bytes begin like HEP3.
#[must_use]
#[inline]
pub fn begins(payload: &[u8]) -> bool {
    payload.first_chunk() == Some(&MAGIC)
}

/// The start of a stream of packets: HEP over TCP. Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HepUnit {
    /// A packet.
    Packet(usize),
    /// An incomplete packet, with its total length if the header is there.
    Incomplete(Option<usize>),
    /// Other bytes; the next packet may begin after this many.
    Foreign(usize),
}

impl HepUnit {
    /// Returns the unit that `bytes` begin with.
    #[must_use]
    pub fn at_start_of(bytes: &[u8]) -> Self {
        match find_start(bytes) {
            Err(0) => Self::Incomplete(None),
            Ok(0) => match bytes.first_chunk().map(total_len) {
                Some(len) if len < HEADER_LEN => Self::Foreign(MAGIC.len()),
                Some(len) if len <= bytes.len() => Self::Packet(len),
                len => Self::Incomplete(len),
            },
            Ok(start) | Err(start) => Self::Foreign(start),
        }
    }
}

/// Returns the offset of the next packet.
///
/// # Errors
/// There is none. The offset is where bytes that follow later may complete the start of one; no
/// byte before it is of use.
pub fn find_start(bytes: &[u8]) -> Result<usize, usize> {
    let end = bytes.len();
    let may_begin = |start: &usize| {
        bytes
            .get(*start..)
            .is_some_and(|rest| MAGIC.starts_with(rest))
    };
    memmem::find(bytes, &MAGIC).ok_or_else(|| {
        (end.saturating_sub(MAGIC.len())..end)
            .find(may_begin)
            .unwrap_or(end)
    })
}

fn total_len([_, _, _, _, l0, l1]: &[u8; HEADER_LEN]) -> usize {
    be16([*l0, *l1]).into()
}

/// The packet that a HEP3 packet of `wire_len` bytes reports; `None` if it is not HEP3.
#[must_use]
pub fn read(packet: &[u8], wire_len: usize) -> Option<Packet<'_>> {
    const SIP: u8 = 1;
    const RTP: u8 = 4;
    const RTCP: u8 = 5;
    let told = Told::of(packet, wire_len)?;
    Some(match told.protocol {
        _ if told.is_compressed => Packet::Unreadable,
        SIP | RTP => told.packet(),
        // Most agents report RTCP as JSON, which is not read.
        RTCP if told.payload.first().is_some_and(|first| first >> 6 == 2) => told.packet(),
        _ => Packet::OtherHep,
    })
}

/// The chunks of a HEP3 packet.
#[derive(Default)]
struct Told<'a> {
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
    ports: [u16; 2],
    seconds: u32,
    microseconds: u32,
    protocol: u8,
    payload: &'a [u8],
    wire_len: usize,
    is_compressed: bool,
}

impl<'a> Told<'a> {
    /// Reads the captured chunks.
    fn of(packet: &'a [u8], wire_len: usize) -> Option<Self> {
        let total_len = total_len(packet.first_chunk()?);
        if !begins(packet) || total_len < HEADER_LEN || total_len > wire_len {
            return None;
        }
        let mut chunks = packet.get(HEADER_LEN..total_len.min(packet.len()))?;
        let mut told = Self::default();
        while let Some([v0, v1, t0, t1, l0, l1]) = chunks.first_chunk::<HEADER_LEN>().copied() {
            let len = usize::from(be16([l0, l1])).checked_sub(HEADER_LEN)?;
            let rest = chunks.get(HEADER_LEN..)?;
            let value = rest.get(..len).unwrap_or(rest);
            chunks = rest.get(len..).unwrap_or_default();
            match (be16([v0, v1]), be16([t0, t1])) {
                (0, chunk::COMPRESSED_PAYLOAD) => told.is_compressed = true,
                (0, chunk::PAYLOAD) => (told.payload, told.wire_len) = (value, len),
                (0, kind) => told.add(kind, value),
                _ => {}
            }
        }
        Some(told)
    }

    /// Adds a chunk of fixed length; a chunk of another length is ignored.
    fn add(&mut self, kind: u16, value: &[u8]) {
        let v4 = || {
            value
                .try_into()
                .ok()
                .map(|address| Endpoint::v4(address, 0))
        };
        let v6 = || {
            value
                .try_into()
                .ok()
                .map(|address| Endpoint::v6(address, 0))
        };
        let short = || value.try_into().map_or(0, be16);
        let long = || value.try_into().map_or(0, u32::from_be_bytes);
        match kind {
            chunk::SOURCE_V4 => self.source = v4(),
            chunk::DESTINATION_V4 => self.destination = v4(),
            chunk::SOURCE_V6 => self.source = v6(),
            chunk::DESTINATION_V6 => self.destination = v6(),
            chunk::SOURCE_PORT => self.ports[0] = short(),
            chunk::DESTINATION_PORT => self.ports[1] = short(),
            chunk::SECONDS => self.seconds = long(),
            chunk::MICROSECONDS => self.microseconds = long(),
            chunk::PROTOCOL => self.protocol = value.first().copied().unwrap_or(0),
            _ => {}
        }
    }

    fn packet(&self) -> Packet<'a> {
        let time = time_ns(self.seconds, self.microseconds);
        self.datagram()
            .map_or(Packet::Unreadable, |datagram| told(datagram, time))
    }

    fn datagram(&self) -> Option<Datagram<'a>> {
        let [source_port, destination_port] = self.ports;
        Some(Datagram {
            network: Network::PLAIN,
            source: self.source?.with_port(source_port),
            destination: self.destination?.with_port(destination_port),
            payload: self.payload,
            wire_len: self.wire_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(chunks: &[(u16, u16, &[u8])]) -> Vec<u8> {
        let mut packet = b"HEP3\0\0".to_vec();
        for (vendor, kind, value) in chunks {
            let len = 6 + value.len() as u16;
            packet.extend([vendor.to_be_bytes(), kind.to_be_bytes(), len.to_be_bytes()].concat());
            packet.extend(*value);
        }
        let len = packet.len() as u16;
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        packet
    }

    fn message(protocol: u8, payload_kind: u16, payload: &[u8]) -> Vec<u8> {
        packet(&[
            (0, 1, &[2]),
            (0, 2, &[17]),
            (0, 3, &[192, 0, 2, 1]),
            (0, 4, &[192, 0, 2, 2]),
            (0, 7, &[0x13, 0xc4]),
            (0, 8, &[0x13, 0xc5]),
            (0, 9, &[0, 0, 0, 7]),
            (0, 10, &[0, 0, 0, 9]),
            (0, 11, &[protocol]),
            (0, 12, &[0, 0, 0, 1]),
            // Vendors may use any number for their chunks.
            (3, 15, b"not this"),
            (0, payload_kind, payload),
        ])
    }

    fn want(payload: &[u8], wire_len: usize) -> Option<Packet<'_>> {
        let datagram = Datagram {
            network: Network::PLAIN,
            source: Endpoint::v4([192, 0, 2, 1], 5060),
            destination: Endpoint::v4([192, 0, 2, 2], 5061),
            payload,
            wire_len,
        };
        Some(Packet::Told(7_000_009_000, datagram))
    }

    fn read_whole(packet: &[u8]) -> Option<Packet<'_>> {
        read(packet, packet.len())
    }

    #[test]
    fn what_is_told_of_a_packet() {
        assert_eq!(read_whole(&message(1, 15, b"INVITE")), want(b"INVITE", 6));
        assert_eq!(read_whole(&message(4, 15, &[0x80, 0])), want(&[0x80, 0], 2));
        assert_eq!(
            read_whole(&message(5, 15, &[0x81, 200])),
            want(&[0x81, 200], 2)
        );
        let snapped = message(1, 15, b"INVITE");
        assert_eq!(
            read(&snapped[..snapped.len() - 4], snapped.len()),
            want(b"IN", 6)
        );
    }

    #[test]
    fn ipv6_and_no_time() {
        let bytes = packet(&[
            (0, 5, &[1; 16]),
            (0, 6, &[2; 16]),
            (0, 11, &[1]),
            (0, 15, b"x"),
            (0, 10, &[0, 0, 0, 9]),
        ]);
        let Some(Packet::Udp(datagram)) = read_whole(&bytes) else {
            panic!()
        };
        assert_eq!(
            (datagram.source, datagram.destination),
            (Endpoint::v6([1; 16], 0), Endpoint::v6([2; 16], 0))
        );
    }

    #[test]
    fn what_is_of_no_use() {
        assert_eq!(
            read_whole(&message(5, 15, b"{\"sender\":1}")),
            Some(Packet::OtherHep),
            "RTCP in JSON"
        );
        assert_eq!(
            read_whole(&message(100, 15, b"log")),
            Some(Packet::OtherHep)
        );
        assert_eq!(
            read_whole(&message(1, 16, &[0x78, 0x9c])),
            Some(Packet::Unreadable),
            "compressed"
        );
        assert_eq!(
            read_whole(&packet(&[(0, 11, &[1]), (0, 15, b"x")])),
            Some(Packet::Unreadable),
            "no addresses"
        );
    }

    #[test]
    fn what_only_begins_like_it() {
        assert_eq!(read_whole(b"HEP3"), None);
        assert_eq!(read_whole(b"HEP3\0\x05"), None, "shorter than its header");
        assert_eq!(read_whole(b"HEP3\0\x07"), None, "longer than the datagram");
        assert_eq!(
            read_whole(b"HEP3\0\x0c\0\0\0\x01\0\x05"),
            None,
            "a chunk shorter than its header"
        );
        assert_eq!(read_whole(b"HEP4\0\x06"), None);
    }

    #[test]
    fn a_stream_is_one_packet_behind_the_other() {
        let packet = message(1, 15, b"INVITE");
        let len = packet.len();
        let stream = [&packet[..], &packet].concat();
        assert_eq!(HepUnit::at_start_of(&stream), HepUnit::Packet(len));
        for cut in 1..6 {
            assert_eq!(
                HepUnit::at_start_of(&packet[..cut]),
                HepUnit::Incomplete(None),
                "{cut}"
            );
        }
        for cut in 6..len {
            assert_eq!(
                HepUnit::at_start_of(&packet[..cut]),
                HepUnit::Incomplete(Some(len)),
                "{cut}"
            );
        }
        assert_eq!(
            HepUnit::at_start_of(&[b"rest", &packet[..]].concat()),
            HepUnit::Foreign(4)
        );
        assert_eq!(HepUnit::at_start_of(b"rest of HE"), HepUnit::Foreign(8));
        assert_eq!(HepUnit::at_start_of(b"rest"), HepUnit::Foreign(4));
        assert_eq!(
            HepUnit::at_start_of(b"HEP3\0\x05"),
            HepUnit::Foreign(4),
            "shorter than its header"
        );
    }

    proptest! {
        #[test]
        fn a_unit_is_never_longer_than_the_bytes(bytes in proptest::collection::vec(prop::sample::select(b"HEP3\0\x07x".to_vec()), 1..30)) {
            match HepUnit::at_start_of(&bytes) {
                HepUnit::Packet(len) | HepUnit::Foreign(len) => prop_assert!(len > 0 && len <= bytes.len()),
                HepUnit::Incomplete(len) => prop_assert!(len.is_none_or(|len| len > bytes.len())),
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80), len in 0u16..90) {
            let mut packet = [&MAGIC[..], &len.to_be_bytes()].concat();
            packet.extend(bytes);
            if let Some(Packet::Udp(datagram) | Packet::Told(_, datagram)) = read_whole(&packet) {
                prop_assert!(datagram.payload.len() <= datagram.wire_len);
            }
        }
    }
}
