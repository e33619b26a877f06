//! HEP versions 1 and 2, as OpenSIPS, Kamailio and older agents send it: a header and a message.
//!
//! ```text
//! version (1)  length of the header with the addresses (1)  address family (1)  IP protocol (1)
//! ports (2 x 2)  addresses (2 x 4, or 2 x 16)
//! [version 2: seconds (4)  microseconds (4)  id of the agent (2)  unused (2)]  message
//! ```
//!
//! Times are in the byte order of the agent, which the microseconds reveal. The version byte alone
//! proves little, so a payload is accepted only where length and family are consistent and where
//! SIP, RTP or RTCP follows.

use super::{
    Datagram, Endpoint, Network, Packet, be16,
    told::{time_ns, told},
};

const HEADER_LEN: usize = 8;
const V4_LEN: u8 = 16;
const V6_LEN: u8 = 40;

/// Returns true if a payload begins like one of these versions.
#[inline]
pub(super) fn may_be(payload: &[u8]) -> bool {
    matches!(payload, [1 | 2, V4_LEN | V6_LEN, ..])
}

/// The packet that a HEP packet of `wire_len` bytes reports.
pub(super) fn read(packet: &[u8], wire_len: usize) -> Option<Packet<'_>> {
    let [version, len, family, _, s0, s1, d0, d1] = *packet.first_chunk::<HEADER_LEN>()?;
    let (addresses, rest) = packet
        .get(HEADER_LEN..)?
        .split_at_checked(usize::from(len).checked_sub(HEADER_LEN)?)?;
    let (source, destination) = ends(family, addresses)?;
    let (told_ns, payload) = match version {
        1 => (None, rest),
        2 => (time_of(rest)?, rest.get(TIME_LEN..)?),
        _ => return None,
    };
    let datagram = Datagram {
        network: Network::PLAIN,
        source: source.with_port(be16([s0, s1])),
        destination: destination.with_port(be16([d0, d1])),
        payload,
        wire_len: wire_len
            .checked_sub(packet.len())?
            .checked_add(payload.len())?,
    };
    is_known(payload).then(|| told(datagram, told_ns))
}

/// The family number of IPv6 differs between systems: Linux, BSD, Windows, macOS.
fn ends(family: u8, addresses: &[u8]) -> Option<(Endpoint, Endpoint)> {
    const IPV4: u8 = 2;
    match (family, addresses.len()) {
        (IPV4, 8) => {
            let (source, destination) = (addresses.first_chunk()?, addresses.last_chunk()?);
            Some((Endpoint::v4(*source, 0), Endpoint::v4(*destination, 0)))
        }
        (10 | 23 | 24 | 28 | 30, 32) => {
            let (source, destination) = (addresses.first_chunk()?, addresses.last_chunk()?);
            Some((Endpoint::v6(*source, 0), Endpoint::v6(*destination, 0)))
        }
        _ => None,
    }
}

const TIME_LEN: usize = 12;

/// In the wrong byte order, the microseconds nearly always exceed one second.
fn time_of(times: &[u8]) -> Option<Option<u64>> {
    let [s0, s1, s2, s3, m0, m1, m2, m3, ..] = *times.first_chunk::<TIME_LEN>()?;
    let is_little = u32::from_le_bytes([m0, m1, m2, m3]) < 1_000_000;
    let read = if is_little {
        u32::from_le_bytes
    } else {
        u32::from_be_bytes
    };
    Some(time_ns(read([s0, s1, s2, s3]), read([m0, m1, m2, m3])))
}

/// Returns true if the payload begins like SIP (a name) or like RTP or RTCP (their version).
fn is_known(payload: &[u8]) -> bool {
    payload
        .first()
        .is_some_and(|first| first.is_ascii_uppercase() || first >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: &[u8] = &[
        16, 2, 17, 0x13, 0xc4, 0x13, 0xc5, 192, 0, 2, 1, 192, 0, 2, 2,
    ];

    fn of(version: u8, header: &[u8], rest: &[&[u8]]) -> Vec<u8> {
        [&[version], header, &rest.concat()].concat()
    }

    fn read_whole(packet: &[u8]) -> Option<Packet<'_>> {
        read(packet, packet.len())
    }

    fn want(payload: &[u8]) -> Datagram<'_> {
        Datagram {
            network: Network::PLAIN,
            source: Endpoint::v4([192, 0, 2, 1], 5060),
            destination: Endpoint::v4([192, 0, 2, 2], 5061),
            payload,
            wire_len: payload.len(),
        }
    }

    #[test]
    fn version_1_has_no_time() {
        for payload in [&b"INVITE"[..], &[0x80, 8], &[0x81, 200]] {
            assert_eq!(
                read_whole(&of(1, V4, &[payload])),
                Some(Packet::Udp(want(payload)))
            );
        }
        let v6 = [&[40, 10, 6, 0x13, 0xc4, 0x13, 0xc5][..], &[1; 16], &[2; 16]].concat();
        let bytes = of(1, &v6, &[b"SIP/2.0 "]);
        let Some(Packet::Udp(datagram)) = read_whole(&bytes) else {
            panic!()
        };
        assert_eq!(
            (datagram.source, datagram.destination),
            (Endpoint::v6([1; 16], 5060), Endpoint::v6([2; 16], 5061))
        );
    }

    #[test]
    fn version_2_has_one_in_either_byte_order() {
        for times in [
            [7, 0, 0, 0, 9, 0, 0, 0, 0, 5, 0, 0],
            [0, 0, 0, 7, 0, 0, 0, 9, 0, 5, 0, 0],
        ] {
            let bytes = of(2, V4, &[&times, b"INVITE"]);
            assert_eq!(
                read_whole(&bytes),
                Some(Packet::Told(7_000_009_000, want(b"INVITE")))
            );
        }
        assert_eq!(
            read_whole(&of(2, V4, &[&[0; 12], b"INVITE"])),
            Some(Packet::Udp(want(b"INVITE")))
        );
    }

    #[test]
    fn a_snapped_message_keeps_its_length() {
        let bytes = of(1, V4, &[b"INVITE"]);
        let want = Datagram {
            payload: b"INV",
            ..want(b"INVITE")
        };
        assert_eq!(
            read(&bytes[..bytes.len() - 3], bytes.len()),
            Some(Packet::Udp(want))
        );
    }

    #[test]
    fn what_only_begins_like_it() {
        for (at, byte, why) in [
            (0, 3, "version 3"),
            (1, 17, "length"),
            (2, 10, "IPv6 in eight bytes"),
            (16, b'{', "JSON"),
        ] {
            let mut bytes = of(1, V4, &[b"INVITE"]);
            bytes[at] = byte;
            assert_eq!(read_whole(&bytes), None, "{why}");
        }
        assert_eq!(read_whole(&of(1, V4, &[])), None, "nothing");
        assert_eq!(read_whole(&of(2, V4, &[b"INVITE"])), None, "no time");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(version in 0u8..4, len in 0u8..50, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let packet = [&[version, len][..], &bytes].concat();
            if let Some(Packet::Udp(datagram) | Packet::Told(_, datagram)) = read_whole(&packet) {
                prop_assert!(may_be(&packet) && datagram.payload.len() == datagram.wire_len);
            }
        }
    }
}
