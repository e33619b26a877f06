//! Encapsulations of packets in captures: tunnels, layers below IP, and link headers.
//!
//! Each builder puts one header before its argument. An "IP packet" begins with the IP header, a
//! "frame" with the Ethernet addresses.

use std::net::SocketAddr;

use shared::pcap::LinkType;

use crate::frames;

const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

fn on(header: &[u8], inner: &[u8]) -> Vec<u8> {
    [header, inner].concat()
}

fn length(bytes: &[u8]) -> [u8; 2] {
    (bytes.len() as u16).to_be_bytes()
}

/// Returns the ether type of an IP packet.
fn ether_type(ip: &[u8]) -> [u8; 2] {
    if ip[0] >> 4 == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    }
}

/// Returns the protocol number of an IP packet inside another.
fn ip_in_ip(ip: &[u8]) -> u8 {
    if ip[0] >> 4 == 4 { 4 } else { 41 }
}

/// RFC 1042.
fn snap(ip: &[u8]) -> Vec<u8> {
    [&[0xaa, 0xaa, 3, 0, 0, 0][..], &ether_type(ip), ip].concat()
}

fn tagged(tags: &[[u8; 4]], ether_type: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [
        &ADDRESSES[..],
        tags.concat().as_slice(),
        &ether_type,
        payload,
    ]
    .concat()
}

fn ppp(ip: &[u8]) -> Vec<u8> {
    on(
        if ip[0] >> 4 == 4 {
            &[0x00, 0x21]
        } else {
            &[0x00, 0x57]
        },
        ip,
    )
}

fn pppoe(ip: &[u8]) -> Vec<u8> {
    let ppp = ppp(ip);
    [&[0x11, 0, 0, 7][..], &length(&ppp), &ppp].concat()
}

const MPLS: [u8; 8] = [0, 0x10, 0, 64, 0, 0x20, 1, 64];
const QINQ: [[u8; 4]; 2] = [[0x88, 0xa8, 0, 5], [0x81, 0, 0, 6]];

/// A name, and a function that puts an IP packet into a frame.
pub type Framing = (&'static str, fn(&[u8]) -> Vec<u8>);

pub const FRAMINGS: &[Framing] = &[
    ("Ethernet", |ip| tagged(&[], ether_type(ip), ip)),
    ("802.1Q", |ip| {
        tagged(&[[0x81, 0, 0, 5]], ether_type(ip), ip)
    }),
    ("802.1ad", |ip| tagged(&QINQ, ether_type(ip), ip)),
    ("five tags", |ip| {
        tagged(
            &[[0x91, 0, 0, 5], QINQ[0], QINQ[1], QINQ[1], QINQ[1]],
            ether_type(ip),
            ip,
        )
    }),
    ("802.3", |ip| {
        let llc = snap(ip);
        tagged(&[], length(&llc), &llc)
    }),
    ("802.3 behind tags", |ip| {
        let llc = snap(ip);
        tagged(&QINQ, length(&llc), &llc)
    }),
    ("802.1ah", |ip| {
        tagged(
            &[[0x88, 0xa8, 0, 5]],
            [0x88, 0xe7],
            &on(&[0, 0, 0, 9], &tagged(&[], ether_type(ip), ip)),
        )
    }),
    ("MPLS", |ip| tagged(&[], [0x88, 0x47], &on(&MPLS, ip))),
    ("MPLS, pseudowire", |ip| {
        tagged(
            &[],
            [0x88, 0x47],
            &on(&MPLS, &tagged(&QINQ, ether_type(ip), ip)),
        )
    }),
    ("MPLS, control word", |ip| {
        tagged(
            &[],
            [0x88, 0x47],
            &[&MPLS[..], &[0; 4], &tagged(&[], ether_type(ip), ip)].concat(),
        )
    }),
    ("PPPoE", |ip| tagged(&[], [0x88, 0x64], &pppoe(ip))),
    ("PPPoE behind tags", |ip| {
        tagged(&QINQ, [0x88, 0x64], &pppoe(ip))
    }),
    ("NSH", |ip| tagged(&[], [0x89, 0x4f], &nsh_ip(ip))),
    ("NSH with Ethernet", |ip| {
        tagged(
            &QINQ,
            [0x89, 0x4f],
            &nsh(3, &tagged(&QINQ, ether_type(ip), ip)),
        )
    }),
];

/// Returns an IPv4 packet of the transit network.
pub fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let source = [10, 0, 0, 1];
    let mut packet = frames::ip_udp(
        SocketAddr::from((source, 0)),
        SocketAddr::from(([10, 0, 0, 2], 0)),
        &[],
    );
    packet.truncate(20);
    packet[9] = protocol;
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    on(&packet, payload)
}

/// Returns a packet with this header, but with another protocol and payload.
pub fn ip_with(header: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = on(header, payload);
    if header[0] >> 4 == 4 {
        let len = length(&packet);
        packet[2..4].copy_from_slice(&len);
        packet[9] = protocol;
    } else {
        packet[4..6].copy_from_slice(&length(payload));
        packet[6] = protocol;
    }
    packet
}

/// Returns an IPv6 packet of the transit network.
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    [
        &[0x60, 0, 0, 0][..],
        &length(payload),
        &[next, 64],
        &[0xfd; 16],
        &[0xfc; 16],
        payload,
    ]
    .concat()
}

/// RFC 8300 with metadata of type 1, which has a fixed length.
fn nsh(next: u8, inner: &[u8]) -> Vec<u8> {
    on(
        &[
            0x0f, 0xc6, 1, next, 0, 0, 7, 255, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4,
        ],
        inner,
    )
}

/// Returns the next-protocol value of an IP packet after NSH.
fn nsh_ip(ip: &[u8]) -> Vec<u8> {
    nsh(if ip[0] >> 4 == 4 { 1 } else { 2 }, ip)
}

/// RFC 4303 with the NULL cipher: SPI, sequence number, payload, padding, next header, and an
/// integrity check value of `icv_len` bytes.
pub fn esp(next: u8, payload: &[u8], icv_len: usize) -> Vec<u8> {
    let padding_len = ((payload.len() + 2).next_multiple_of(4) - payload.len() - 2) as u8;
    let padding: Vec<u8> = (1..=padding_len).collect();
    [
        &[0, 0, 0x10, 1, 0, 0, 0, 9][..],
        payload,
        &padding,
        &[padding_len, next],
        &vec![0xee; icv_len],
    ]
    .concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    frames::ip_udp(
        "10.0.0.1:49999".parse().unwrap(),
        SocketAddr::from(([10, 0, 0, 2], port)),
        payload,
    )
}

fn gre(flags: [u8; 2], protocol: [u8; 2], header: &[u8], inner: &[u8]) -> Vec<u8> {
    ipv4(47, &[&flags[..], &protocol, header, inner].concat())
}

/// ERSPAN type II with a session and a VLAN.
pub fn erspan_ii(span_id: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let header = [
        &[0, 0, 0, 1][..],
        &(0x1000 | vlan).to_be_bytes(),
        &span_id.to_be_bytes(),
        &[0; 4],
    ]
    .concat();
    gre([0x10, 0], [0x88, 0xbe], &header, frame)
}

/// ERSPAN type III with a session and a VLAN.
pub fn erspan_iii(span_id: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let header = [
        &[0, 0, 0, 1][..],
        &(0x2000 | vlan).to_be_bytes(),
        &span_id.to_be_bytes(),
        &[0; 8],
    ]
    .concat();
    gre([0x10, 0], [0x22, 0xeb], &header, frame)
}

/// ERSPAN type I, which has neither.
pub fn erspan_i(frame: &[u8]) -> Vec<u8> {
    gre([0, 0], [0x88, 0xbe], &[], frame)
}

/// A tunnel by name, its payload, and its builder.
#[derive(Clone, Copy)]
pub enum Tunnel {
    /// Its payload is an IP packet.
    Ip(&'static str, fn(&[u8]) -> Vec<u8>),
    /// Its payload is a frame.
    Frame(&'static str, fn(&[u8]) -> Vec<u8>),
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Ip(name, _) | Self::Frame(name, _)) = self;
        f.write_str(name)
    }
}

impl Tunnel {
    /// Returns the IP packet of the tunnel.
    pub fn carry(self, ip: &[u8], framing: Framing) -> Vec<u8> {
        match self {
            Self::Ip(_, carry) => carry(ip),
            Self::Frame(_, carry) => carry(&framing.1(ip)),
        }
    }
}

pub const TUNNELS: &[Tunnel] = &[
    Tunnel::Ip("IP in IPv4", |ip| ipv4(ip_in_ip(ip), ip)),
    Tunnel::Ip("IP in IPv6", |ip| ipv6(ip_in_ip(ip), ip)),
    Tunnel::Ip("IP in IPv6 with extension headers", |ip| {
        let hop_by_hop = [43, 0, 1, 4, 0, 0, 0, 0];
        let routing = [
            60, 2, 4, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        ];
        let destination = [51, 0, 1, 4, 0, 0, 0, 0];
        let authentication = [
            &[ip_in_ip(ip), 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1][..],
            &[7; 12],
        ]
        .concat();
        ipv6(
            0,
            &[&hop_by_hop[..], &routing, &destination, &authentication, ip].concat(),
        )
    }),
    Tunnel::Ip("GRE", |ip| gre([0, 0], ether_type(ip), &[], ip)),
    Tunnel::Ip("GRE with checksum, key and sequence", |ip| {
        gre([0xb0, 0], ether_type(ip), &[9; 12], ip)
    }),
    Tunnel::Ip("MPLS over GRE", |ip| gre([0, 0], [0x88, 0x47], &MPLS, ip)),
    Tunnel::Ip("PPTP", |ip| {
        let ppp = on(&[0xff, 0x03], &ppp(ip));
        gre(
            [0x30, 0x81],
            [0x88, 0x0b],
            &[&length(&ppp)[..], &[0, 7], &[0; 8]].concat(),
            &ppp,
        )
    }),
    Tunnel::Frame("bridging over GRE", |frame| {
        gre([0x20, 0], [0x65, 0x58], &[0, 0, 7, 0], frame)
    }),
    Tunnel::Frame("ERSPAN I", erspan_i),
    Tunnel::Frame("ERSPAN II", |frame| erspan_ii(7, 5, frame)),
    Tunnel::Frame("ERSPAN III", |frame| erspan_iii(7, 5, frame)),
    Tunnel::Frame("VXLAN", |frame| {
        udp(4789, &on(&[8, 0, 0, 0, 0, 0, 7, 0], frame))
    }),
    Tunnel::Ip("VXLAN-GPE", |ip| {
        udp(
            4790,
            &on(
                &[0x0c, 0, 0, if ip[0] >> 4 == 4 { 1 } else { 2 }, 0, 0, 7, 0],
                ip,
            ),
        )
    }),
    Tunnel::Ip("NSH in VXLAN-GPE", |ip| {
        udp(4790, &on(&[0x0c, 0, 0, 4, 0, 0, 7, 0], &nsh_ip(ip)))
    }),
    Tunnel::Ip("L2TPv2", |ip| {
        let ppp = on(&[0xff, 0x03], &ppp(ip));
        udp(
            1701,
            &[
                &[0x40, 2][..],
                &(8 + ppp.len() as u16).to_be_bytes(),
                &[0, 1, 0, 7],
                &ppp,
            ]
            .concat(),
        )
    }),
    Tunnel::Ip("L2TPv2 from its port", |ip| {
        let data = on(&[0x0a, 2, 0, 1, 0, 7, 0, 1, 0, 2, 0, 2, 9, 9], &ppp(ip));
        frames::ip_udp(
            "10.0.0.1:1701".parse().unwrap(),
            "10.0.0.2:51701".parse().unwrap(),
            &data,
        )
    }),
    Tunnel::Frame("L2TPv3 over UDP", |frame| {
        udp(1701, &on(&[0, 3, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4], frame))
    }),
    Tunnel::Frame("L2TPv3", |frame| {
        ipv4(
            115,
            &on(&[0, 0, 0, 7, 8, 7, 6, 5, 4, 3, 2, 1, 0x40, 0, 0, 9], frame),
        )
    }),
    Tunnel::Ip("L2TPv3 with PPP", |ip| {
        ipv6(115, &on(&[0, 0, 0, 7], &ppp(ip)))
    }),
    Tunnel::Ip("ESP with the NULL cipher", |ip| {
        ipv4(50, &esp(ip_in_ip(ip), ip, 12))
    }),
    Tunnel::Ip("ESP with the NULL cipher in UDP", |ip| {
        udp(4500, &esp(ip_in_ip(ip), ip, 16))
    }),
    Tunnel::Frame("Geneve", |frame| {
        udp(
            6081,
            &on(
                &[2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 1, 9, 9, 9, 9],
                frame,
            ),
        )
    }),
    Tunnel::Ip("Geneve with IP", |ip| {
        udp(
            6081,
            &[&[0, 0][..], &ether_type(ip), &[0, 0, 7, 0], ip].concat(),
        )
    }),
    Tunnel::Ip("GTP-U", |ip| {
        udp(
            2152,
            &[&[0x30, 0xff][..], &length(ip), &[0, 0, 0, 7], ip].concat(),
        )
    }),
    Tunnel::Ip("GTP-U with extension headers", |ip| {
        let more = on(&[0, 1, 0, 0x85, 1, 0x10, 9, 0x40, 1, 0, 0, 0], ip);
        udp(
            2152,
            &[&[0x36, 0xff][..], &length(&more), &[0, 0, 0, 7], &more].concat(),
        )
    }),
    Tunnel::Frame("TZSP", |frame| {
        udp(37_008, &on(&[1, 0, 0, 1, 0, 10, 1, 0xd8, 1], frame))
    }),
    Tunnel::Ip("TZSP with 802.11", |ip| {
        udp(
            37_008,
            &on(&[1, 0, 0, 18, 1], &wlan(0x88, 0x01, &[0, 0], ip)),
        )
    }),
];

/// A data frame of IEEE 802.11.
fn wlan(kind: u8, flags: u8, more: &[u8], ip: &[u8]) -> Vec<u8> {
    [
        &[kind, flags, 0, 0][..],
        &[2; 18],
        &[0x10, 0x32],
        more,
        &snap(ip),
    ]
    .concat()
}

fn a_msdu(ip: &[u8]) -> Vec<u8> {
    let llc = snap(ip);
    [
        &[0x88, 0x02, 0, 0][..],
        &[2; 18],
        &[0, 0],
        &[0x80, 0],
        &[4; 12],
        &length(&llc),
        &llc,
    ]
    .concat()
}

/// A link type, and the function that makes its frame from an IP packet.
pub type Link = (LinkType, fn(&[u8]) -> Vec<u8>);

pub const LINKS: &[Link] = &[
    (LinkType::ETHERNET, |ip| tagged(&[], ether_type(ip), ip)),
    (LinkType::LINUX_SLL, |ip| {
        [
            &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..],
            &ether_type(ip),
            ip,
        ]
        .concat()
    }),
    (LinkType::LINUX_SLL, |ip| {
        on(&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0, 4], &snap(ip))
    }),
    (LinkType::LINUX_SLL2, |ip| {
        [&ether_type(ip)[..], &[0; 18], ip].concat()
    }),
    (LinkType::RAW, <[u8]>::to_vec),
    (LinkType::RAW_BSD, <[u8]>::to_vec),
    (LinkType::RAW_OPENBSD, <[u8]>::to_vec),
    (LinkType::NULL, |ip| {
        on(&[if ip[0] >> 4 == 4 { 2 } else { 30 }, 0, 0, 0], ip)
    }),
    (LinkType::LOOP, |ip| {
        on(&[0, 0, 0, if ip[0] >> 4 == 4 { 2 } else { 24 }], ip)
    }),
    (LinkType::ENC, |ip| {
        on(&[2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], ip)
    }),
    (LinkType::PPP, ppp),
    (LinkType::PPP_HDLC, |ip| on(&[0xff, 0x03], &ppp(ip))),
    (LinkType::PPP_ETHER, pppoe),
    (LinkType::C_HDLC, |ip| {
        [&[0x0f, 0][..], &ether_type(ip), ip].concat()
    }),
    (LinkType::WLAN, |ip| wlan(0x08, 0x01, &[], ip)),
    (LinkType::WLAN, |ip| wlan(0x88, 0x02, &[0, 0], ip)),
    (LinkType::WLAN, |ip| {
        wlan(0x88, 0x83, &[2, 2, 2, 2, 2, 2, 0, 0, 1, 2, 3, 4], ip)
    }),
    (LinkType::WLAN, a_msdu),
    (LinkType::WLAN_RADIOTAP, |ip| {
        on(&[0, 0, 8, 0, 0, 0, 0, 0], &wlan(0x88, 0x02, &[0, 0], ip))
    }),
    (LinkType::WLAN_RADIOTAP, |ip| {
        on(
            &[0, 0, 9, 0, 2, 0, 0, 0, 0x20],
            &wlan(0x88, 0x02, &[0, 0, 0, 0], ip),
        )
    }),
    (LinkType::WLAN_PRISM, |ip| {
        [
            &[0x44, 0, 0, 0, 144, 0, 0, 0][..],
            &[0; 136],
            &wlan(0x08, 0x01, &[], ip),
        ]
        .concat()
    }),
    (LinkType::WLAN_AVS, |ip| {
        [
            &[0x80, 0x21, 0x10, 0x01, 0, 0, 0, 64][..],
            &[0; 56],
            &wlan(0x08, 0x01, &[], ip),
        ]
        .concat()
    }),
    (LinkType::PPI, |ip| {
        on(&[0, 0, 8, 0, 105, 0, 0, 0], &wlan(0x08, 0x01, &[], ip))
    }),
    (LinkType::SLIP, |ip| {
        on(&[0, 0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], ip)
    }),
    (LinkType::SLIP_BSDOS, |ip| on(&[0; 24], ip)),
    (LinkType::FRAME_RELAY, |ip| {
        on(
            &[0x18, 0x41, 0x03, if ip[0] >> 4 == 4 { 0xcc } else { 0x8e }],
            ip,
        )
    }),
    (LinkType::FRAME_RELAY, |ip| {
        [
            &[0x18, 0x40, 0x02, 0x05, 0x03, 0x00, 0x80, 0, 0, 0][..],
            &ether_type(ip),
            ip,
        ]
        .concat()
    }),
    (LinkType::FRAME_RELAY, |ip| {
        [&[0x18, 0x41][..], &ether_type(ip), ip].concat()
    }),
    (LinkType::ERF, |ip| {
        erf(2, &[], &on(&[0, 0], &tagged(&QINQ, ether_type(ip), ip)))
    }),
    (LinkType::ERF, |ip| {
        let extensions = [[0x83, 0, 0, 0, 0, 0, 0, 7], [0x04, 1, 2, 3, 4, 5, 6, 7]].concat();
        erf(
            0x80 | 20,
            &extensions,
            &on(&[0, 0], &tagged(&[], ether_type(ip), ip)),
        )
    }),
    (LinkType::ERF, |ip| {
        erf(1, &[], &on(&[0xff, 0x03], &ppp(ip)))
    }),
    (LinkType::ERF, |ip| {
        erf(if ip[0] >> 4 == 4 { 22 } else { 23 }, &[], ip)
    }),
    (LinkType::UPPER_PDU, |ip| {
        [
            tlv(12, b"ip"),
            tlv(30, &[0, 0, 0, 7]),
            tlv(0, &[]),
            ip.to_vec(),
        ]
        .concat()
    }),
    (LinkType::NFLOG, |ip| {
        let family = if ip[0] >> 4 == 4 { 2 } else { 10 };
        let packet_header = [&ether_type(ip)[..], &[1, 0]].concat();
        let attributes = [
            nflog(1, &packet_header),
            nflog(10, b"calls\0"),
            nflog(5, &[0, 0, 0, 2]),
            nflog(9, ip),
        ];
        on(&[family, 0, 0, 7], &attributes.concat())
    }),
    (LinkType::PKTAP, |ip| {
        pktap(LinkType::ETHERNET, &tagged(&[], ether_type(ip), ip))
    }),
    (LinkType::PKTAP, |ip| pktap(LinkType::RAW_BSD, ip)),
];

/// A record of a DAG card, padded to a multiple of eight bytes. The wire length includes a
/// checksum, as on Ethernet.
fn erf(kind: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
    let wire_len = payload.len() as u16 + 4;
    let mut record = [
        &[
            0, 0, 0, 0x80, 0x5e, 0xea, 0x69, 0x65, kind, 0x04, 0, 0, 0, 0,
        ][..],
        &wire_len.to_be_bytes(),
    ]
    .concat();
    record.extend([extensions, payload].concat());
    record.resize(record.len().next_multiple_of(8), 0);
    let len = length(&record);
    record[10..12].copy_from_slice(&len);
    record
}

/// A tag of an exported PDU.
fn tlv(tag: u16, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    value.resize(value.len().next_multiple_of(4), 0);
    [&tag.to_be_bytes()[..], &length(&value), &value].concat()
}

/// A PDU as Wireshark exports it: its name, its endpoints, the transport (2 is TCP, 3 UDP), the
/// number of its frame.
pub fn exported(
    name: &str,
    transport: u8,
    from: SocketAddr,
    to: SocketAddr,
    pdu: &[u8],
) -> Vec<u8> {
    let address = |end: SocketAddr, v4: u16, v6: u16| match end.ip() {
        std::net::IpAddr::V4(ip) => tlv(v4, &ip.octets()),
        std::net::IpAddr::V6(ip) => tlv(v6, &ip.octets()),
    };
    let number = |tag: u16, number: u16| tlv(tag, &u32::from(number).to_be_bytes());
    let tags = [
        tlv(12, name.as_bytes()),
        address(from, 20, 22),
        address(to, 21, 23),
        number(24, transport.into()),
        number(25, from.port()),
        number(26, to.port()),
        number(30, 7),
        tlv(0, &[]),
    ];
    on(&tags.concat(), pdu)
}

/// A netlink attribute of a machine with little-endian numbers.
fn nflog(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = [
        &(4 + value.len() as u16).to_le_bytes()[..],
        &kind.to_le_bytes(),
        value,
    ]
    .concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// Apple's header: length, "a packet", link type, interface, flags, protocol family, lengths,
/// process.
fn pktap(link: LinkType, frame: &[u8]) -> Vec<u8> {
    let mut header = [108u32, 1, link.0.into()].map(u32::to_le_bytes).concat();
    header.extend(b"en0");
    header.resize(108, 0);
    on(&header, frame)
}

/// A packet that an agent reports to a Homer server in HEP3.
pub struct Hep<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// The IP protocol of the reported packet.
    pub over: u8,
    pub ns: u64,
    /// 1 is SIP, 4 RTP, 5 RTCP.
    pub protocol: u8,
    pub payload: &'a [u8],
}

impl Hep<'_> {
    /// Returns the HEP packet in version 3.
    pub fn bytes(&self) -> Vec<u8> {
        let address = |end: SocketAddr, v4: u16, v6: u16| match end.ip() {
            std::net::IpAddr::V4(ip) => chunk(v4, &ip.octets()),
            std::net::IpAddr::V6(ip) => chunk(v6, &ip.octets()),
        };
        let chunks = [
            chunk(1, &[if self.from.is_ipv4() { 2 } else { 10 }]),
            chunk(2, &[self.over]),
            address(self.from, 3, 5),
            address(self.to, 4, 6),
            chunk(7, &self.from.port().to_be_bytes()),
            chunk(8, &self.to.port().to_be_bytes()),
            chunk(9, &((self.ns / 1_000_000_000) as u32).to_be_bytes()),
            chunk(
                10,
                &((self.ns % 1_000_000_000 / 1_000) as u32).to_be_bytes(),
            ),
            chunk(11, &[self.protocol]),
            chunk(12, &[0, 0, 7, 0xd1]),
            chunk(15, self.payload),
        ]
        .concat();
        [
            &b"HEP3"[..],
            &(6 + chunks.len() as u16).to_be_bytes(),
            &chunks,
        ]
        .concat()
    }

    /// Returns it in version 1 or 2, with times in little-endian order.
    fn bytes_of_version(&self, version: u8) -> Vec<u8> {
        let (family, addresses) = match (self.from.ip(), self.to.ip()) {
            (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) => {
                (2, [from.octets(), to.octets()].concat())
            }
            (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) => {
                (10, [from.octets(), to.octets()].concat())
            }
            ends => panic!("{ends:?} are of two families"),
        };
        let ports = [self.from.port(), self.to.port()]
            .map(u16::to_be_bytes)
            .concat();
        let seconds = ((self.ns / 1_000_000_000) as u32).to_le_bytes();
        let microseconds = ((self.ns % 1_000_000_000 / 1_000) as u32).to_le_bytes();
        let times = if version == 2 {
            [&seconds[..], &microseconds, &[0xd1, 7, 0, 0]].concat()
        } else {
            Vec::new()
        };
        let header = [
            &[version, 8 + addresses.len() as u8, family, self.over][..],
            &ports,
            &addresses,
        ]
        .concat();
        [&header, &times, self.payload].concat()
    }

    /// Returns the IP packet that the agent sends.
    pub fn ip(&self) -> Vec<u8> {
        self.ip_to(9060)
    }

    /// The same to another port of the server.
    pub fn ip_to(&self, port: u16) -> Vec<u8> {
        udp(port, &self.bytes())
    }

    /// The same in version 1 or 2.
    pub fn ip_of_version(&self, version: u8) -> Vec<u8> {
        udp(9060, &self.bytes_of_version(version))
    }
}

fn chunk(kind: u16, value: &[u8]) -> Vec<u8> {
    [
        &[0, 0][..],
        &kind.to_be_bytes(),
        &(6 + value.len() as u16).to_be_bytes(),
        value,
    ]
    .concat()
}
