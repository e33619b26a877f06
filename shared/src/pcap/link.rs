//! Link types: the first layer of captured frames.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A link type by its number in the registry of tcpdump.org.
///
/// A number, not an enumeration, so that unknown types are kept and can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: four bytes of address family in the capturing host's byte order.
    pub const NULL: Self = Self(0);
    /// IEEE 802.3 Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without address and control field.
    pub const PPP: Self = Self(9);
    /// Serial line IP after sixteen bytes: direction, and the header as it was on the line.
    pub const SLIP: Self = Self(8);
    /// Serial line IP as BSD/OS writes it, after twenty-four bytes.
    pub const SLIP_BSDOS: Self = Self(102);
    /// PPP in HDLC-like framing: RFC 1662.
    pub const PPP_HDLC: Self = Self(50);
    /// PPP over Ethernet: RFC 2516, without the Ethernet header.
    pub const PPP_ETHER: Self = Self(51);
    /// Cisco HDLC, which has another header than PPP: RFC 1547, 4.3.1.
    pub const C_HDLC: Self = Self(104);
    /// Raw IP as OpenBSD's kernel numbers it.
    pub const RAW_OPENBSD: Self = Self(14);
    /// Raw IP as other kernels number it.
    pub const RAW_BSD: Self = Self(12);
    /// Raw IP; the version is in the first nibble.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: four bytes of address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// OpenBSD's IPsec interface: the decrypted packet after twelve bytes.
    pub const ENC: Self = Self(109);
    /// IEEE 802.11.
    pub const WLAN: Self = Self(105);
    /// IEEE 802.11 after the header of Prism cards.
    pub const WLAN_PRISM: Self = Self(119);
    /// IEEE 802.11 after a radiotap header.
    pub const WLAN_RADIOTAP: Self = Self(127);
    /// IEEE 802.11 after the header of Absolute Value Systems.
    pub const WLAN_AVS: Self = Self(163);
    /// Per-Packet Information: a header that says which link type follows.
    pub const PPI: Self = Self(192);
    /// Linux "cooked" capture, version 1 (`tcpdump -i any`).
    pub const LINUX_SLL: Self = Self(113);
    /// Frame Relay: Q.922, and RFC 2427 or Cisco's encapsulation in it.
    pub const FRAME_RELAY: Self = Self(107);
    /// Records of Endace's DAG cards: a header, and a frame of one of many link types.
    pub const ERF: Self = Self(197);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Packets that Linux's firewall logs: netlink attributes, one of which is the packet.
    pub const NFLOG: Self = Self(239);
    /// PDUs of upper layers as Wireshark exports them, after tags that name the protocol.
    pub const UPPER_PDU: Self = Self(252);
    /// Apple's header that says which link type follows.
    pub const PKTAP: Self = Self(258);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NULL => "BSD loopback (null)",
            Self::ETHERNET => "Ethernet",
            Self::RAW | Self::RAW_BSD | Self::RAW_OPENBSD => "raw IP",
            Self::LOOP => "OpenBSD loopback",
            Self::LINUX_SLL => "Linux cooked v1",
            Self::IPV4 => "raw IPv4",
            Self::IPV6 => "raw IPv6",
            Self::LINUX_SLL2 => "Linux cooked v2",
            Self::PPP | Self::PPP_HDLC => "PPP",
            Self::PPP_ETHER => "PPP over Ethernet",
            Self::C_HDLC => "Cisco HDLC",
            Self::ENC => "OpenBSD IPsec",
            Self::WLAN => "IEEE 802.11",
            Self::WLAN_PRISM => "IEEE 802.11 with Prism header",
            Self::WLAN_RADIOTAP => "IEEE 802.11 with radiotap",
            Self::WLAN_AVS => "IEEE 802.11 with AVS header",
            Self::PPI => "Per-Packet Information",
            Self::SLIP | Self::SLIP_BSDOS => "SLIP",
            Self::FRAME_RELAY => "Frame Relay",
            Self::ERF => "ERF",
            Self::NFLOG => "NFLOG",
            Self::UPPER_PDU => "exported PDUs",
            Self::PKTAP => "PKTAP",
            _ => return write!(f, "link type {}", self.0),
        };
        write!(f, "{name} ({})", self.0)
    }
}
