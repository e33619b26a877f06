//! Decodes a captured frame to a payload with addresses.

mod decode;
mod endpoint;
mod erf;
mod esp;
mod exported;
mod frame_relay;
mod hep;
mod hep12;
mod hep3;
mod ip;
mod l2tp;
mod link;
mod network;
mod nflog;
mod nsh;
mod pktap;
mod plain;
mod told;
mod tunnels;
mod wlan;

pub use decode::{Datagram, Decoder, Fragment, Packet, TcpFlags, TcpSegment, payload_behind};
pub use endpoint::Endpoint;
pub use hep::HepPorts;
pub use hep3::{HepUnit, begins as begins_hep, find_start as find_hep, read as read_hep};
pub use ip::Extent;
pub use link::{is_supported, outermost_ip};
pub use network::Network;
pub use plain::PlainMedia;

/// The layer that follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer<'a> {
    /// An Ethernet frame.
    Ethernet(&'a [u8]),
    /// An IEEE 802.11 frame.
    Wlan(&'a [u8]),
    /// Logical link control: IEEE 802.2.
    Llc(&'a [u8]),
    /// A payload with its ether type.
    EtherType(u16, &'a [u8]),
    /// IPv4 or IPv6; the version field tells which.
    Ip(&'a [u8]),
    /// A PPP frame, with or without address and control field.
    Ppp(&'a [u8]),
    /// The payload of a UDP datagram, with the endpoints that the capture gives for it.
    Datagram(Datagram<'a>),
    /// An Ethernet frame that ERSPAN mirrors; type I does not name the session.
    Mirrored(Option<ErspanSession>, &'a [u8]),
    /// A valid frame without IP.
    Other,
    /// A protocol that the header names and that is not supported.
    OtherKind,
}

/// The ERSPAN header of a mirrored frame: draft-foschiano-erspan, 4.2 and 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ErspanSession {
    /// The mirroring session, 10 bits.
    span_id: u16,
    /// The VLAN of the frame, 12 bits.
    vlan: u16,
}

#[inline]
fn be16(bytes: [u8; 2]) -> u16 {
    u16::from_be_bytes(bytes)
}
