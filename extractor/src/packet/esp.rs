//! ESP with the NULL cipher (RFC 4303, RFC 2410): authenticated, but not encrypted, as phones and
//! the P-CSCF of IMS use it (3GPP TS 33.203, 6.3).
//!
//! ```text
//! SPI (4)  sequence number (4)  payload  padding 1, 2, 3 …  padding length (1)  next header (1)
//! ICV (0, 12, 16)
//! ```
//!
//! A packet says neither that it is unencrypted nor how long its ICV is. So the reader tries each
//! length, and accepts one only if everything before the ICV is consistent: padding, next header,
//! and the length of the payload.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

use super::{
    Datagram,
    ip::{self, IpPayload, UNKNOWN_LEN},
};

/// The IP protocol.
pub(super) const PROTOCOL: u8 = 50;
/// The UDP port for ESP through NAT: RFC 3948.
pub(super) const PORT: u16 = 4500;

const HEADER_LEN: usize = 8;
/// HMAC-MD5-96 and HMAC-SHA-1-96 (RFC 2403, RFC 2404); HMAC-SHA-256-128 (RFC 4868); none.
const ICV_LENS: [usize; 3] = [12, 16, 0];

/// The longest trailer: padding, its length, the next header, and the ICV.
const MAX_TRAILER_LEN: usize = 255 + 2 + 16;

const IPV4: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;

/// The payload of a packet, if the packet is whole and not encrypted.
pub(super) fn read(packet: &[u8], wire_len: usize) -> Option<IpPayload<'_>> {
    let inside = packet
        .get(HEADER_LEN..)
        .filter(|_| packet.len() == wire_len)?;
    ICV_LENS.iter().find_map(|icv_len| {
        inside
            .len()
            .checked_sub(*icv_len)
            .and_then(|end| without_trailer(inside.get(..end)?))
    })
}

/// The payload that a packet without its end seems to have, after the whole packet has been read.
pub(super) fn read_beginning(packet: &[u8]) -> Option<IpPayload<'_>> {
    let payload = packet.get(HEADER_LEN..)?;
    let seems = |len: usize| payload.len() < len.saturating_add(MAX_TRAILER_LEN);
    let protocol = [IPV4, IPV6]
        .into_iter()
        .find(|protocol| is_ip(*protocol, payload, seems));
    let protocol = protocol.or_else(|| is_udp(payload, seems).then_some(UDP))?;
    Some(IpPayload {
        protocol,
        payload,
        wire_len: UNKNOWN_LEN,
        part: None,
    })
}

/// Returns true if the body is an IP packet: tunnel mode (RFC 4303, 3.1.2).
pub(super) fn is_tunnel(body: &IpPayload<'_>) -> bool {
    matches!(body.protocol, IPV4 | IPV6)
}

/// Returns true if the datagram may hold ESP: on port 4500, an SPI of 0 marks IKE (RFC 3948, 2).
pub(super) fn may_be_in(datagram: &Datagram<'_>) -> bool {
    [datagram.source.port(), datagram.destination.port()].contains(&PORT)
        && datagram
            .payload
            .first_chunk()
            .is_some_and(|spi| *spi != [0; 4])
}

/// Removes the trailer, which ends at a multiple of four bytes: RFC 4303, 2.4.
fn without_trailer(bytes: &[u8]) -> Option<IpPayload<'_>> {
    let [ref padded @ .., padding_len, next] = *bytes else {
        return None;
    };
    let (payload, padding) =
        padded.split_at_checked(padded.len().checked_sub(padding_len.into())?)?;
    let is_exact = bytes.len().is_multiple_of(4)
        && padding.iter().copied().eq(1..=padding_len)
        && fits(next, payload);
    is_exact.then_some(IpPayload {
        protocol: next,
        payload,
        wire_len: payload.len(),
        part: None,
    })
}

/// Returns true if `payload` is exactly one packet of this protocol.
fn fits(protocol: u8, payload: &[u8]) -> bool {
    match protocol {
        UDP => is_udp(payload, |len| len == payload.len()),
        TCP => is_tcp(payload).unwrap_or(false),
        IPV4 | IPV6 => is_ip(protocol, payload, |len| len == payload.len()),
        _ => false,
    }
}

/// RFC 768: ports, and a length that `is_right` accepts.
fn is_udp(datagram: &[u8], is_right: impl FnOnce(usize) -> bool) -> bool {
    let Ok(header) = UdpHeaderSlice::from_slice(datagram) else {
        return false;
    };
    let len = usize::from(header.length());
    header.source_port() != 0
        && header.destination_port() != 0
        && len >= header.slice().len()
        && is_right(len)
}

/// An IP packet of the version that the next header names, with a length that `is_right` accepts.
fn is_ip(protocol: u8, packet: &[u8], is_right: impl FnOnce(usize) -> bool) -> bool {
    let version = if protocol == IPV4 { 4 } else { 6 };
    let is_version = packet.first().is_some_and(|first| first >> 4 == version);
    is_version
        && ip::extent(packet)
            .and_then(|extent| extent.declared_len)
            .is_some_and(is_right)
}

/// RFC 9293, 3.1. A segment does not declare its length, so every field of its header must be
/// consistent: ports, a data offset within the segment, no reserved bit, flags that may be set
/// together, no urgent pointer without its flag, and options that end where the header ends.
fn is_tcp(segment: &[u8]) -> Option<bool> {
    const RESERVED: u8 = 0x0e;
    let header = TcpHeaderSlice::from_slice(segment).ok()?;
    let [fin, syn, rst] = [header.fin(), header.syn(), header.rst()];
    let has_ports = header.source_port() != 0 && header.destination_port() != 0;
    let has_reserved = header.slice().get(12)? & RESERVED != 0;
    let is_one_thing =
        [fin, syn, rst].iter().filter(|flag| **flag).count() <= 1 && (header.ack() || syn || rst);
    let is_urgent = header.urg() || header.urgent_pointer() == 0;
    Some(has_ports && !has_reserved && is_one_thing && is_urgent && are_options(header.options()))
}

/// RFC 9293, 3.2: end of list, no-operation, or a kind with a length, which counts both.
fn are_options(mut options: &[u8]) -> bool {
    loop {
        options = match *options {
            [] | [0, ..] => return true,
            [1, ref rest @ ..] => rest,
            [_, len, ..] if len >= 2 => match options.get(usize::from(len)..) {
                Some(rest) => rest,
                None => return false,
            },
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Endpoint, Network};
    use proptest::prelude::*;

    fn udp(payload: &[u8]) -> Vec<u8> {
        [
            &[0x13, 0xc4, 0x13, 0xc5][..],
            &(8 + payload.len() as u16).to_be_bytes(),
            &[0, 0],
            payload,
        ]
        .concat()
    }

    fn tcp(offset: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        [
            &[
                0x13,
                0xc4,
                0x13,
                0xc5,
                0,
                0,
                0,
                1,
                0,
                0,
                0,
                2,
                offset << 4,
                flags,
                0xff,
                0xff,
                9,
                9,
                0,
                0,
            ][..],
            rest,
        ]
        .concat()
    }

    fn ip(len: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, len];
        packet.resize(len.into(), 9);
        packet
    }

    /// A packet that is padded to a multiple of four bytes.
    fn esp(next: u8, payload: &[u8], icv_len: usize) -> Vec<u8> {
        let padding_len = (payload.len() + 2).next_multiple_of(4) as u8 - payload.len() as u8 - 2;
        let padding: Vec<u8> = (1..=padding_len).collect();
        [
            &[0, 0, 1, 0, 0, 0, 0, 1][..],
            payload,
            &padding,
            &[padding_len, next],
            &vec![0xee; icv_len],
        ]
        .concat()
    }

    fn read_whole(packet: &[u8]) -> Option<(u8, &[u8])> {
        read(packet, packet.len()).map(|body| (body.protocol, body.payload))
    }

    #[test]
    fn with_icvs_of_all_lengths() {
        for icv_len in ICV_LENS {
            for (next, payload) in [
                (17, udp(b"INVITE")),
                (17, udp(b"")),
                (6, tcp(5, 0x18, b"INVITE")),
                (6, tcp(5, 0x11, b"")),
                (6, tcp(8, 0x02, &[2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 0, 9])),
                (4, ip(33)),
            ] {
                assert_eq!(
                    read_whole(&esp(next, &payload, icv_len)),
                    Some((next, &payload[..])),
                    "{icv_len} {next}"
                );
            }
        }
    }

    #[test]
    fn all_must_fit_exactly() {
        let good = esp(17, &udp(b"INVITE"), 12);
        // The SPI, the sequence number, the ports and the ICV may have any value.
        let told =
            (8..good.len() - 12).filter(|at| !(8..12).contains(at) && !(14..22).contains(at));
        for at in told {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert_eq!(read_whole(&bad), None, "{at}");
        }
        assert_eq!(read(&good[..good.len() - 1], good.len()), None, "snapped");
        assert_eq!(read_whole(&good[..good.len() - 1]), None);
        for (payload, why) in [
            (tcp(4, 0x10, b""), "a header too short"),
            (tcp(9, 0x10, b""), "a header beyond the segment"),
            (tcp(5, 0x03, b""), "begins and ends"),
            (tcp(5, 0x00, b""), "no flag"),
            (tcp(6, 0x10, &[3, 9, 0, 0]), "an option too long"),
            (tcp(6, 0x10, &[1, 1, 1, 3]), "an option without a length"),
            ([&tcp(5, 0x10, b"")[..18], &[0, 1]].concat(), "urgent"),
        ] {
            assert_eq!(read_whole(&esp(6, &payload, 12)), None, "{why}");
        }
        assert_eq!(read_whole(&esp(41, &ip(33), 12)), None, "another version");
        assert_eq!(
            read_whole(&esp(4, &[&ip(33)[..], &[0]].concat(), 12)),
            None,
            "longer than it says"
        );
        assert_eq!(read_whole(&esp(59, b"", 12)), None, "a dummy");
    }

    #[test]
    fn in_udp_where_it_is_not_ike() {
        let datagram = |ports: [u16; 2], payload| Datagram {
            network: Network::PLAIN,
            source: Endpoint::v4([10, 0, 0, 1], ports[0]),
            destination: Endpoint::v4([10, 0, 0, 2], ports[1]),
            payload,
            wire_len: payload.len(),
        };
        let packet = esp(17, &udp(b"INVITE"), 12);
        for (ports, payload, want) in [
            ([4500, 4500], &packet[..], true),
            ([4500, 9], &packet, true),
            ([9, 4500], &packet, true),
            ([9, 9], &packet, false),
            ([4500, 4500], &[&[0; 4], &packet[4..]].concat(), false),
            ([4500, 4500], &[0xff], false),
        ] {
            assert_eq!(
                may_be_in(&datagram(ports, payload)),
                want,
                "{ports:?} {payload:?}"
            );
        }
    }

    #[test]
    fn of_a_beginning_what_it_seems_to_carry() {
        let body = |packet: &[u8]| read_beginning(packet).map(|body| body.protocol);
        assert_eq!(body(&esp(17, &udp(&[7; 100]), 12)[..60]), Some(17));
        assert_eq!(body(&esp(4, &ip(200), 12)[..60]), Some(4));
        assert_eq!(
            body(&esp(4, &ip(200), 12)[..208]),
            Some(4),
            "all but the trailer"
        );
        assert_eq!(body(&esp(6, &tcp(5, 0x18, &[7; 100]), 12)[..60]), None);
    }

    proptest! {
        #[test]
        fn noise_is_encrypted(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(read_whole(&packet), None);
        }
    }
}
