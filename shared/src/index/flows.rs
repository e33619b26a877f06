//! The directory of flows.

use super::{
    blocks::Part,
    bytes::{Cursor, put_varint},
};

/// The fewest bytes of a flow in the directory.
const LEAST_LEN: usize = 4 + 16 + 16 + 2 + 2 + 8;

/// A flow: the UDP packets from one endpoint to another that are no SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFlow {
    /// The network: 0 for packets outside VLANs and tunnels.
    pub network: u32,
    /// The address of the sender; IPv4 in its IPv6-mapped form (RFC 4291, 2.5.5.2).
    pub source: [u8; 16],
    /// The port of the sender.
    pub source_port: u16,
    /// The address of the receiver.
    pub destination: [u8; 16],
    /// The port of the receiver.
    pub destination_port: u16,
    /// The offset of the UDP payload in each frame, if all have the same; else 0.
    pub payload_at: u16,
    /// The number of packets.
    pub packets: u64,
    /// Packet time at the first packet.
    pub first_clock: u64,
    /// Packet time at the last packet.
    pub last_clock: u64,
    /// The place of their numbers in the section of numbers.
    pub numbers: Part,
}

/// Writes a directory.
#[must_use]
pub fn write_flows(flows: &[StoredFlow]) -> Vec<u8> {
    let mut to = Vec::new();
    put_varint(&mut to, flows.len() as u64);
    for flow in flows {
        to.extend(flow.network.to_le_bytes());
        to.extend(flow.source);
        to.extend(flow.destination);
        to.extend(flow.source_port.to_le_bytes());
        to.extend(flow.destination_port.to_le_bytes());
        put_varint(&mut to, flow.payload_at.into());
        put_varint(&mut to, flow.packets);
        put_varint(&mut to, flow.first_clock);
        put_varint(&mut to, flow.last_clock.wrapping_sub(flow.first_clock));
        flow.numbers.write(&mut to);
    }
    to
}

/// Reads a directory; `None` if it is none.
#[must_use]
pub fn read_flows(bytes: &[u8]) -> Option<Vec<StoredFlow>> {
    let mut cursor = Cursor::new(bytes);
    let count = usize::try_from(cursor.varint()?).ok()?;
    if count > cursor.rest().len() / LEAST_LEN {
        return None;
    }
    let mut flows = Vec::with_capacity(count);
    for _ in 0..count {
        flows.push(read_flow(&mut cursor)?);
    }
    cursor.is_empty().then_some(flows)
}

fn read_flow(cursor: &mut Cursor<'_>) -> Option<StoredFlow> {
    let network = cursor.u32()?;
    let (source, destination) = (cursor.array()?, cursor.array()?);
    let source_port = u16::from_le_bytes(cursor.array()?);
    let destination_port = u16::from_le_bytes(cursor.array()?);
    let payload_at = u16::try_from(cursor.varint()?).ok()?;
    let packets = cursor.varint()?;
    let first_clock = cursor.varint()?;
    Some(StoredFlow {
        network,
        source,
        source_port,
        destination,
        destination_port,
        payload_at,
        packets,
        first_clock,
        last_clock: first_clock.checked_add(cursor.varint()?)?,
        numbers: Part::read(cursor)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Coding, *};
    use proptest::prelude::*;

    fn flow(n: u8) -> StoredFlow {
        StoredFlow {
            network: n.into(),
            source: [n; 16],
            source_port: 4_000,
            destination: [9; 16],
            destination_port: 65_535,
            payload_at: 42,
            packets: 1 << 33,
            first_clock: 1_700_000_000_000_000_000,
            last_clock: 1_700_000_000_000_000_001,
            numbers: Part {
                at: n.into(),
                len: 5,
                coding: Coding::Zstd,
                crc: 0xdead_beef,
            },
        }
    }

    #[test]
    fn a_directory_reads_back_and_no_part_of_it_does() {
        let flows = [flow(0), flow(1), flow(255)];
        let bytes = write_flows(&flows);
        assert_eq!(read_flows(&bytes).as_deref(), Some(&flows[..]));
        for len in 0..bytes.len() {
            assert_eq!(read_flows(&bytes[..len]), None, "{len}");
        }
        // A number of flows that nobody has room for.
        assert_eq!(read_flows(&[0xff, 0xff, 0xff, 0xff, 0x7f]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>()) {
            let _ = read_flows(&bytes);
        }
    }
}
