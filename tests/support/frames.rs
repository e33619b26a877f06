//! Frames, byte by byte: Ethernet, IPv4 and IPv6, UDP and TCP.

use std::net::{IpAddr, SocketAddr};

pub const ETHERNET: u16 = 1;

/// Returns a UDP datagram in an Ethernet frame.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet_header(from.ip());
    frame.extend(ip_udp(from, to, payload));
    frame
}

/// Returns a UDP datagram in an IP packet.
pub fn ip_udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = [
        from.port().to_be_bytes(),
        to.port().to_be_bytes(),
        (8 + payload.len() as u16).to_be_bytes(),
    ]
    .concat();
    // No checksum: RFC 768 allows it, and the extractor does not check it.
    datagram.extend([0, 0]);
    datagram.extend(payload);
    ip(from.ip(), to.ip(), UDP, &datagram)
}

/// Returns a TCP segment in an Ethernet frame: RFC 9293, 3.1. Its checksum is not valid.
pub fn tcp(from: SocketAddr, to: SocketAddr, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    [
        ethernet_header(from.ip()),
        ip(from.ip(), to.ip(), TCP, &segment),
    ]
    .concat()
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Returns an IP packet with this payload.
fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let header = match (from, to) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4_header(source.octets(), destination.octets(), protocol, len)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6_header(source.octets(), destination.octets(), protocol, len)
        }
        _ => panic!("{from} and {to} are of two families"),
    };
    [&header, payload].concat()
}

fn ethernet_header(ip: IpAddr) -> Vec<u8> {
    let ethertype = if ip.is_ipv4() {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &ethertype].concat()
}

fn ipv4_header(source: [u8; 4], destination: [u8; 4], protocol: u8, payload_len: u16) -> Vec<u8> {
    let [len_high, len_low] = (20 + payload_len).to_be_bytes();
    let mut header = vec![
        0x45, 0, len_high, len_low, 0, 0, 0x40, 0, 64, protocol, 0, 0,
    ];
    header.extend(source);
    header.extend(destination);
    let checksum = ipv4_checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// RFC 1071.
fn ipv4_checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv6_header(source: [u8; 16], destination: [u8; 16], protocol: u8, payload_len: u16) -> Vec<u8> {
    let [len_high, len_low] = payload_len.to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, len_high, len_low, protocol, 64];
    header.extend(source);
    header.extend(destination);
    header
}

/// Returns an IP packet of an Ethernet frame as fragments of `size` bytes of payload, a multiple
/// of 8.
pub fn fragmented(frame: &[u8], size: usize, identification: u16) -> Vec<Vec<u8>> {
    let is_ipv4 = frame[12..14] == [0x08, 0x00];
    let (header, payload) = frame.split_at(if is_ipv4 { 34 } else { 54 });
    let count = payload.chunks(size).count();
    let cut = |(index, piece): (usize, &[u8])| {
        let (offset, more) = ((index * size / 8) as u16, index + 1 < count);
        if is_ipv4 {
            ipv4_fragment(header, piece, identification, offset, more)
        } else {
            ipv6_fragment(header, piece, identification, offset, more)
        }
    };
    payload.chunks(size).enumerate().map(cut).collect()
}

/// RFC 791, 3.1. The checksum stays that of the whole packet; nobody checks it.
fn ipv4_fragment(
    header: &[u8],
    piece: &[u8],
    identification: u16,
    offset: u16,
    more: bool,
) -> Vec<u8> {
    let mut fragment = [header, piece].concat();
    fragment[16..18].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
    fragment[18..20].copy_from_slice(&identification.to_be_bytes());
    fragment[20..22].copy_from_slice(&(u16::from(more) << 13 | offset).to_be_bytes());
    fragment
}

/// RFC 8200, 4.5.
fn ipv6_fragment(
    header: &[u8],
    piece: &[u8],
    identification: u16,
    offset: u16,
    more: bool,
) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    let mut fragment = header.to_vec();
    let next = std::mem::replace(&mut fragment[20], FRAGMENT);
    fragment[18..20].copy_from_slice(&(8 + piece.len() as u16).to_be_bytes());
    fragment.extend([next, 0]);
    fragment.extend((offset << 3 | u16::from(more)).to_be_bytes());
    fragment.extend(u32::from(identification).to_be_bytes());
    fragment.extend(piece);
    fragment
}
