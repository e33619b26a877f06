//! Decodes frames to datagrams: a fast path for the common case, a general path for the rest.
//!
//! To add a tunnel, remove its header in `tunnels`, on the path of [`Decoder::general`], never in
//! [`fast`]. The fast path reads UDP over IPv4 or IPv6, not fragmented, without options, below
//! Ethernet (or Linux cooked headers) and VLAN tags. It returns `None` for everything else, also
//! for the ports of tunnels and for payloads that begin like HEP on HEP ports.
//!
//! The general path reads Ethernet, VLAN tags, IPv4, IPv6, its extension headers, fragment headers
//! and UDP through the slices of etherparse. Cooked headers, MACsec, authentication headers and TCP
//! are parsed here, because etherparse refuses some of them that captures hold; a test beside each
//! parser has such an input. ARP is not read. One property test compares the two paths, another
//! compares the general path with etherparse on whole packets.

use std::{collections::BTreeSet, num::NonZeroU16};

use etherparse::UdpHeaderSlice;
use serde::{Deserialize, Serialize};
use shared::pcap::LinkType;

use super::{
    Endpoint, ErspanSession, HepPorts, Layer, Network, be16, esp, hep,
    ip::{self, IpPacket, IpPayload},
    link,
    tunnels::{
        self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_QINQ_OLD, ETHERTYPE_VLAN,
    },
};

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;
/// The decoder does not open tunnels that are nested deeper than this.
const MAX_TUNNELS: u8 = 4;

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The network that it came through.
    pub network: Network,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// The captured part of the payload.
    pub payload: &'a [u8],
    /// The length of the payload on the wire, in bytes.
    pub wire_len: usize,
}

impl<'a> Datagram<'a> {
    /// The offset of the payload in the frame, if a reader finds the payload by that offset alone:
    /// it was captured whole, and follows its UDP header, which has the length.
    #[must_use]
    #[inline]
    pub fn payload_at(&self, frame: &[u8]) -> Option<NonZeroU16> {
        let at = self
            .payload
            .as_ptr()
            .addr()
            .checked_sub(frame.as_ptr().addr())?;
        let len = payload_behind(frame, at)?.len();
        let at = NonZeroU16::new(u16::try_from(at).ok()?)?;
        (len == self.payload.len() && len == self.wire_len).then_some(at)
    }
}

/// The payload at an offset in a frame, behind its UDP header; `None` if it was not captured whole.
#[must_use]
#[inline]
pub fn payload_behind(frame: &[u8], at: usize) -> Option<&[u8]> {
    let header = frame.get(at.checked_sub(UDP_HEADER_LEN)?..)?;
    let [_, _, _, _, l0, l1, ..] = *header.first_chunk::<UDP_HEADER_LEN>()?;
    header.get(UDP_HEADER_LEN..usize::from(be16([l0, l1])))
}

/// A TCP segment: RFC 9293, 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment<'a> {
    /// The network that it came through.
    pub network: Network,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// The sequence number of the first byte of the payload, or of the SYN before it.
    pub sequence: u32,
    /// The control bits that open, close and reset a connection.
    pub flags: TcpFlags,
    /// The captured part of the payload.
    pub payload: &'a [u8],
    /// The length of the payload on the wire, in bytes.
    pub wire_len: usize,
}

/// Control bits: RFC 9293, 3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// The sender has no more data.
    pub fin: bool,
    /// The sender opens a connection.
    pub syn: bool,
    /// The sender resets the connection.
    pub rst: bool,
}

/// A fragment of an IP datagram: RFC 791, 3.1; RFC 8200, 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The network that it came through.
    pub network: Network,
    /// The sender of the datagram; the port is 0.
    pub source: Endpoint,
    /// The receiver of the datagram; the port is 0.
    pub destination: Endpoint,
    /// The protocol that the datagram carries.
    pub protocol: u8,
    /// The identification, which all fragments of the datagram share.
    pub identification: u32,
    /// The offset of the payload in the datagram, in bytes.
    pub offset: usize,
    /// True when more fragments follow: the "more fragments" flag.
    pub more: bool,
    /// The captured part of the payload.
    pub payload: &'a [u8],
    /// The length of the payload on the wire, in bytes.
    pub wire_len: usize,
}

/// The contents of a frame, as far as calls are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A whole UDP datagram, which the snap length may have cut.
    Udp(Datagram<'a>),
    /// A datagram that a HEP agent reports, with the time that the agent gives, in nanoseconds
    /// since 1970.
    Told(u64, Datagram<'a>),
    /// A fragment of an IP datagram.
    Fragment(Fragment<'a>),
    /// A TCP segment, which the snap length may have cut.
    Tcp(TcpSegment<'a>),
    /// ESP that is encrypted, or that looks encrypted.
    Encrypted,
    /// An IP packet with another protocol.
    OtherIp,
    /// A frame without IP: ARP, LLDP and the like.
    NotIp,
    /// A supported link type whose header names a protocol that is not supported.
    OtherKind,
    /// A frame that ERSPAN mirrors from a session or a VLAN that was not selected.
    OtherSession,
    /// HEP that reports something other than SIP, RTP and RTCP.
    OtherHep,
    /// A packet in more nested tunnels than the decoder opens.
    TooDeep,
    /// A packet that is too short, damaged, encrypted or compressed.
    Unreadable,
}

impl Packet<'_> {
    /// The time that a HEP agent gives for the packet, in nanoseconds since 1970.
    #[must_use]
    #[inline]
    pub fn told_ns(&self) -> Option<u64> {
        if let Self::Told(told_ns, _) = self {
            Some(*told_ns)
        } else {
            None
        }
    }
}

/// Decodes frames, within the sessions, VLANs and HEP ports that the user selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoder {
    /// The ERSPAN sessions and VLANs whose frames are wanted; an empty set admits all.
    span_ids: BTreeSet<u16>,
    vlans: BTreeSet<u16>,
    hep_ports: HepPorts,
    /// True while only the first fragment of a datagram is decoded, which has been decoded as a
    /// whole before.
    reads_beginnings: bool,
}

impl Decoder {
    /// Returns a decoder that skips the frames of other ERSPAN sessions and VLANs than these. An
    /// empty list admits all of them.
    #[must_use]
    pub fn new(
        span_ids: impl IntoIterator<Item = u16>,
        vlans: impl IntoIterator<Item = u16>,
    ) -> Self {
        Self {
            span_ids: span_ids.into_iter().collect(),
            vlans: vlans.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Returns the same decoder, which reads HEP on these ports.
    #[must_use]
    pub fn with_hep_on(self, hep_ports: HepPorts) -> Self {
        Self { hep_ports, ..self }
    }

    /// The ports on which HEP is read.
    #[must_use]
    pub fn hep_ports(&self) -> &HepPorts {
        &self.hep_ports
    }

    /// The selected ERSPAN sessions, as numbers separated by commas; empty for all.
    #[must_use]
    pub fn span_ids(&self) -> String {
        joined(&self.span_ids)
    }

    /// The selected ERSPAN VLANs, as numbers separated by commas; empty for all.
    #[must_use]
    pub fn vlans(&self) -> String {
        joined(&self.vlans)
    }

    /// Returns true if HEP to this port is read.
    #[must_use]
    #[inline]
    pub fn reads_hep_to(&self, port: u16) -> bool {
        self.hep_ports.admit(port)
    }

    /// Decodes a frame of link type `link`.
    #[must_use]
    #[inline]
    pub fn decode<'a>(&self, link: LinkType, frame: &'a [u8]) -> Packet<'a> {
        match fast(link, frame, &self.hep_ports) {
            Some(datagram) => Packet::Udp(datagram),
            None => self.general(link, frame),
        }
    }

    /// Decodes the payload of an IP datagram that was reassembled from its fragments. `wire_len` is
    /// the length of that payload on the wire.
    #[must_use]
    pub fn decode_ip_payload<'a>(
        &self,
        network: Network,
        ends: (Endpoint, Endpoint),
        protocol: u8,
        payload: &'a [u8],
        wire_len: usize,
    ) -> Packet<'a> {
        let body = IpPayload::put_together(protocol, payload, wire_len);
        body.map_or(Packet::Unreadable, |body| {
            self.in_ip(IpPacket { ends, body }, network, MAX_TUNNELS)
        })
    }

    /// Decodes the start of an IP datagram from its first fragment, and if that holds the first
    /// fragment of another datagram, the start of that one. Any other fragment is returned as it
    /// is.
    #[must_use]
    pub fn decode_beginning<'a>(&self, fragment: &Fragment<'a>) -> Packet<'a> {
        let mut packet = Packet::Fragment(*fragment);
        for _ in 0..=MAX_TUNNELS {
            let Packet::Fragment(fragment) = packet else {
                break;
            };
            let Some(inner) = self.decode_first(&fragment) else {
                break;
            };
            packet = inner;
        }
        packet
    }

    /// Decodes the start of an IP datagram from its first fragment; `None` for any other fragment.
    #[must_use]
    pub fn decode_first<'a>(&self, fragment: &Fragment<'a>) -> Option<Packet<'a>> {
        let Fragment {
            network,
            source,
            destination,
            protocol,
            offset: 0,
            payload,
            ..
        } = *fragment
        else {
            return None;
        };
        let decoder = Self {
            reads_beginnings: true,
            ..self.clone()
        };
        Some(decoder.decode_ip_payload(
            network,
            (source, destination),
            protocol,
            payload,
            ip::UNKNOWN_LEN,
        ))
    }

    /// Decodes every frame that the fast path leaves.
    fn general<'a>(&self, link: LinkType, frame: &'a [u8]) -> Packet<'a> {
        link::strip(link, frame).map_or(Packet::Unreadable, |layer| {
            self.unwrapped(layer, Network::PLAIN, MAX_TUNNELS)
        })
    }

    /// Decodes a layer through at most `tunnels_left` tunnels. Layers below IP are not counted:
    /// each iteration removes some bytes, so the loop ends.
    fn unwrapped<'a>(
        &self,
        mut layer: Layer<'a>,
        mut network: Network,
        tunnels_left: u8,
    ) -> Packet<'a> {
        loop {
            network = network.below_ip(&layer);
            let inner = match layer {
                Layer::Ip(packet) => {
                    return ip::read(packet).map_or(Packet::Unreadable, |packet| {
                        self.in_ip(packet, network, tunnels_left)
                    });
                }
                Layer::Mirrored(session, frame) if self.wants(session) => {
                    Some(Layer::Ethernet(frame))
                }
                Layer::Mirrored(..) => return Packet::OtherSession,
                Layer::Datagram(datagram) => {
                    return self.reported(&datagram).unwrap_or(Packet::Udp(Datagram {
                        network,
                        ..datagram
                    }));
                }
                Layer::Other => return Packet::NotIp,
                Layer::OtherKind => return Packet::OtherKind,
                below_ip => link::inner(below_ip),
            };
            match inner {
                Some(inner) => layer = inner,
                None => return Packet::Unreadable,
            }
        }
    }

    /// ERSPAN type I names neither session nor VLAN, so a selection excludes it.
    fn wants(&self, session: Option<ErspanSession>) -> bool {
        let is_in = |asked_for: &BTreeSet<u16>, number: Option<u16>| {
            asked_for.is_empty() || number.is_some_and(|number| asked_for.contains(&number))
        };
        is_in(&self.span_ids, session.map(|session| session.span_id))
            && is_in(&self.vlans, session.map(|session| session.vlan))
    }

    /// Decodes the contents of a tunnel.
    fn inside<'a>(&self, layer: Layer<'a>, network: Network, tunnels_left: u8) -> Packet<'a> {
        tunnels_left
            .checked_sub(1)
            .map_or(Packet::TooDeep, |left| self.unwrapped(layer, network, left))
    }

    /// Decodes the payload of an IP packet.
    fn in_ip<'a>(&self, packet: IpPacket<'a>, network: Network, tunnels_left: u8) -> Packet<'a> {
        let IpPacket {
            ends: (source, destination),
            body:
                IpPayload {
                    protocol,
                    payload,
                    wire_len,
                    part,
                },
        } = packet;
        if let Some(ip::FragmentPosition {
            identification,
            offset,
            more,
        }) = part
        {
            let fragment = Fragment {
                network,
                source,
                destination,
                protocol,
                identification,
                offset,
                more,
                payload,
                wire_len,
            };
            return Packet::Fragment(fragment);
        }
        if let Some(layer) = tunnels::in_ip(protocol, payload, wire_len) {
            return self.inside(layer, network.in_ip(protocol, payload), tunnels_left);
        }
        let ends = |from, to| (network, source.with_port(from), destination.with_port(to));
        match protocol {
            esp::PROTOCOL => {
                let packet = self.in_esp(
                    (source, destination),
                    payload,
                    wire_len,
                    network,
                    tunnels_left,
                );
                packet.unwrap_or(Packet::Encrypted)
            }
            PROTOCOL_UDP => udp(payload, wire_len, ends).map_or(Packet::Unreadable, |datagram| {
                self.in_datagram(datagram, tunnels_left)
            }),
            PROTOCOL_TCP => tcp(payload, wire_len, ends).map_or(Packet::Unreadable, Packet::Tcp),
            _ => Packet::OtherIp,
        }
    }

    /// The packet that the datagram reports, if the datagram is HEP.
    fn reported<'a>(&self, datagram: &Datagram<'a>) -> Option<Packet<'a>> {
        let may_be =
            hep::may_be(datagram.payload) && self.reads_hep_to(datagram.destination.port());
        if may_be {
            hep::read(datagram.payload, datagram.wire_len)
        } else {
            None
        }
    }

    /// The packet in ESP, if it can be read. In tunnel mode the payload is an IP packet, which
    /// counts as a tunnel anyway, so it is not counted here.
    fn in_esp<'a>(
        &self,
        ends: (Endpoint, Endpoint),
        packet: &'a [u8],
        wire_len: usize,
        network: Network,
        tunnels_left: u8,
    ) -> Option<Packet<'a>> {
        let is_beginning = self.reads_beginnings && packet.len() < wire_len;
        let body = if is_beginning {
            esp::read_beginning(packet)
        } else {
            esp::read(packet, wire_len)
        }?;
        let left = if esp::is_tunnel(&body) {
            Some(tunnels_left)
        } else {
            tunnels_left.checked_sub(1)
        };
        Some(left.map_or(Packet::TooDeep, |left| {
            self.in_ip(IpPacket { ends, body }, network, left)
        }))
    }

    /// Decodes the tunnel in a datagram; if there is none, returns the datagram. The port alone
    /// does not make a tunnel: a datagram whose payload leads to no IP packet stays a datagram.
    fn in_datagram<'a>(&self, datagram: Datagram<'a>, tunnels_left: u8) -> Packet<'a> {
        if let Some(packet) = self.reported(&datagram) {
            return if tunnels_left == 0 {
                Packet::TooDeep
            } else {
                packet
            };
        }
        let Datagram {
            network,
            source,
            destination,
            payload,
            wire_len,
        } = datagram;
        if esp::may_be_in(&datagram)
            && let Some(packet) = self.in_esp(
                (source, destination),
                payload,
                wire_len,
                network,
                tunnels_left,
            )
        {
            return packet;
        }
        let inner = tunnels::in_udp(&datagram)
            .map(|layer| self.inside(layer, network.in_udp(&datagram), tunnels_left));
        inner
            .filter(|inner| !matches!(inner, Packet::NotIp | Packet::Unreadable))
            .unwrap_or(Packet::Udp(datagram))
    }
}

fn joined(numbers: &BTreeSet<u16>) -> String {
    let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
    numbers.join(",")
}

/// Decodes UDP over IP over Ethernet or over the cooked headers of Linux's `any` device; `None` for
/// all other frames.
///
/// This parser is written by hand because all media take it: a datagram over IPv4 costs 160
/// instructions here, and 560 on the general path.
#[inline]
fn fast<'a>(link: LinkType, frame: &'a [u8], hep_ports: &HepPorts) -> Option<Datagram<'a>> {
    let (type_at, payload_at) = match link {
        LinkType::ETHERNET => (12, 14),
        LinkType::LINUX_SLL => (14, 16),
        LinkType::LINUX_SLL2 => (0, 20),
        _ => return None,
    };
    let ether_type = be16(*frame.get(type_at..)?.first_chunk()?);
    let rest = frame.get(payload_at..)?;
    let datagram = match ether_type {
        ETHERTYPE_IPV4 => fast_ipv4(rest, Network::PLAIN),
        ETHERTYPE_IPV6 => fast_ipv6(rest, Network::PLAIN),
        _ => fast_behind_tags(ether_type, rest),
    }?;
    let (source, destination) = (datagram.source.port(), datagram.destination.port());
    let is_hep = hep::may_be(datagram.payload) && hep_ports.admit(destination);
    (!is_hep && !tunnels::may_be_tunnel(source, destination)).then_some(datagram)
}

/// A function of its own, because frames without tags, which are most, have a constant network.
#[inline(never)]
fn fast_behind_tags(mut ether_type: u16, mut rest: &[u8]) -> Option<Datagram<'_>> {
    let mut network = Network::PLAIN;
    while matches!(
        ether_type,
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD
    ) {
        let [t0, t1, e0, e1] = *rest.first_chunk()?;
        network = network.vlan([t0, t1]);
        ether_type = be16([e0, e1]);
        rest = rest.get(4..)?;
    }
    match ether_type {
        ETHERTYPE_IPV4 => fast_ipv4(rest, network),
        ETHERTYPE_IPV6 => fast_ipv6(rest, network),
        _ => None,
    }
}

/// RFC 791, 3.1: no options (header length 5), offset 0 and no "more fragments".
#[inline]
fn fast_ipv4(packet: &[u8], network: Network) -> Option<Datagram<'_>> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let [
        0x45,
        _,
        len_high,
        len_low,
        _,
        _,
        fragment_high,
        fragment_low,
        _,
        PROTOCOL_UDP,
        _,
        _,
        addresses @ ..,
    ] = *header
    else {
        return None;
    };
    if be16([fragment_high & 0x3f, fragment_low]) != 0 {
        return None;
    }
    let total_len = usize::from(be16([len_high, len_low]));
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    fast_udp(
        packet.get(20..)?,
        total_len.checked_sub(20)?,
        |source, destination| {
            (
                network,
                Endpoint::v4([s0, s1, s2, s3], source),
                Endpoint::v4([d0, d1, d2, d3], destination),
            )
        },
    )
}

/// RFC 8200, 3: UDP directly after the fixed header.
#[inline]
fn fast_ipv6(packet: &[u8], network: Network) -> Option<Datagram<'_>> {
    let [0x60..=0x6f, _, _, _, len_high, len_low, PROTOCOL_UDP, _] = *packet.first_chunk::<8>()?
    else {
        return None;
    };
    let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
    let destination: [u8; 16] = *packet.get(24..)?.first_chunk()?;
    fast_udp(
        packet.get(40..)?,
        usize::from(be16([len_high, len_low])),
        |source_port, destination_port| {
            (
                network,
                Endpoint::v6(source, source_port),
                Endpoint::v6(destination, destination_port),
            )
        },
    )
}

/// Does the same as [`udp`], without etherparse.
#[inline]
fn fast_udp(
    segment: &[u8],
    wire_len: usize,
    ends: impl FnOnce(u16, u16) -> (Network, Endpoint, Endpoint),
) -> Option<Datagram<'_>> {
    let segment = segment.get(..wire_len).unwrap_or(segment);
    let [s0, s1, d0, d1, l0, l1, _, _] = *segment.first_chunk::<UDP_HEADER_LEN>()?;
    let wire_len =
        datagram_len(usize::from(be16([l0, l1])), wire_len).checked_sub(UDP_HEADER_LEN)?;
    let payload = segment.get(UDP_HEADER_LEN..)?;
    let (network, source, destination) = ends(be16([s0, s1]), be16([d0, d1]));
    Some(Datagram {
        network,
        source,
        destination,
        payload: payload.get(..wire_len).unwrap_or(payload),
        wire_len,
    })
}

/// RFC 768. `wire_len` is the length that IP declares; the capture may hold less, or padding.
fn udp(
    segment: &[u8],
    wire_len: usize,
    ends: impl FnOnce(u16, u16) -> (Network, Endpoint, Endpoint),
) -> Option<Datagram<'_>> {
    let segment = segment.get(..wire_len).unwrap_or(segment);
    let header = UdpHeaderSlice::from_slice(segment).ok()?;
    let wire_len = datagram_len(header.length().into(), wire_len).checked_sub(UDP_HEADER_LEN)?;
    let payload = segment.get(UDP_HEADER_LEN..)?;
    let (network, source, destination) = ends(header.source_port(), header.destination_port());
    Some(Datagram {
        network,
        source,
        destination,
        payload: payload.get(..wire_len).unwrap_or(payload),
        wire_len,
    })
}

/// The length that UDP declares, or that of IP where UDP's cannot be true (0 stands for
/// "offloaded").
fn datagram_len(udp_len: usize, ip_payload_len: usize) -> usize {
    if (UDP_HEADER_LEN..=ip_payload_len).contains(&udp_len) {
        udp_len
    } else {
        ip_payload_len
    }
}

/// RFC 9293, 3.1: the data offset is the length of the header. Where the snap length cut the
/// options, etherparse refuses the header (`a_segment_that_is_cut_in_its_options`).
fn tcp(
    segment: &[u8],
    wire_len: usize,
    ends: impl FnOnce(u16, u16) -> (Network, Endpoint, Endpoint),
) -> Option<TcpSegment<'_>> {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const MIN_HEADER_LEN: usize = 20;
    let [
        s0,
        s1,
        d0,
        d1,
        q0,
        q1,
        q2,
        q3,
        _,
        _,
        _,
        _,
        offset,
        flags,
        ..,
    ] = *segment.first_chunk::<MIN_HEADER_LEN>()?;
    let header_len = usize::from(offset >> 4).saturating_mul(4);
    let wire_len = wire_len
        .checked_sub(header_len)
        .filter(|_| header_len >= MIN_HEADER_LEN)?;
    let (network, source, destination) = ends(be16([s0, s1]), be16([d0, d1]));
    Some(TcpSegment {
        network,
        source,
        destination,
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        flags: TcpFlags {
            fin: flags & FIN != 0,
            syn: flags & SYN != 0,
            rst: flags & RST != 0,
        },
        payload: segment.get(header_len..).unwrap_or_default(),
        wire_len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn decode(link: LinkType, frame: &[u8]) -> Packet<'_> {
        Decoder::default().decode(link, frame)
    }

    fn general(link: LinkType, frame: &[u8]) -> Packet<'_> {
        Decoder::default().general(link, frame)
    }

    const SOURCE: [u8; 4] = [192, 0, 2, 1];
    const DESTINATION: [u8; 4] = [192, 0, 2, 2];

    fn built(
        builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    fn ethernet_udp(payload: &[u8]) -> Vec<u8> {
        built(
            PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv4(SOURCE, DESTINATION, 64)
                .udp(5060, 4000),
            payload,
        )
    }

    fn want(payload: &[u8]) -> Packet<'_> {
        Packet::Udp(Datagram {
            network: Network::PLAIN,
            source: Endpoint::v4(SOURCE, 5060),
            destination: Endpoint::v4(DESTINATION, 4000),
            payload,
            wire_len: payload.len(),
        })
    }

    /// The packet with its network removed.
    fn anywhere(packet: Packet<'_>) -> Packet<'_> {
        match packet {
            Packet::Udp(datagram) => Packet::Udp(Datagram {
                network: Network::PLAIN,
                ..datagram
            }),
            other => other,
        }
    }

    #[test]
    fn the_link_types_that_carry_ip() {
        let frame = ethernet_udp(b"hello");
        let ip = &frame[14..];
        let with = |link_header: &[u8]| [link_header, ip].concat();
        let sll = [&[0u8; 14][..], &[8, 0]].concat();
        let sll2 = [&[8u8, 0][..], &[0; 18]].concat();
        for (link, frame) in [
            (LinkType::ETHERNET, frame.clone()),
            (LinkType::RAW, ip.to_vec()),
            (LinkType::IPV4, ip.to_vec()),
            (LinkType::NULL, with(&[2, 0, 0, 0])),
            (LinkType::LOOP, with(&[0, 0, 0, 2])),
            (LinkType::LINUX_SLL, with(&sll)),
            (LinkType::LINUX_SLL2, with(&sll2)),
        ] {
            assert_eq!(decode(link, &frame), want(b"hello"), "{link}");
        }
        assert_eq!(decode(LinkType(147), &frame), Packet::Unreadable);
    }

    #[test]
    fn vlan_tags_one_and_stacked() {
        let frame = ethernet_udp(b"hello");
        let five = [
            [0x88u8, 0xa8, 0, 5],
            [0x81, 0, 0, 6],
            [0x81, 0, 0, 7],
            [0x91, 0, 0, 8],
            [0x81, 0, 0, 9],
        ]
        .concat();
        for tags in [
            &[0x81u8, 0, 0, 5][..],
            &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6],
            &[0x91, 0, 0, 5, 0x81, 0, 0, 6],
            &five,
        ] {
            let tagged = [&frame[..12], tags, &frame[12..]].concat();
            assert_eq!(
                anywhere(decode(LinkType::ETHERNET, &tagged)),
                want(b"hello")
            );
            assert_eq!(
                general(LinkType::ETHERNET, &tagged),
                decode(LinkType::ETHERNET, &tagged)
            );
            assert_ne!(
                decode(LinkType::ETHERNET, &tagged),
                want(b"hello"),
                "another network"
            );
        }
        let sll_with_vlan = [&[0u8; 14][..], &[0x81, 0, 0, 5], &frame[12..]].concat();
        assert_eq!(
            anywhere(decode(LinkType::LINUX_SLL, &sll_with_vlan)),
            want(b"hello")
        );
    }

    #[test]
    fn padding_is_no_payload_and_a_snapped_packet_keeps_its_length() {
        let mut frame = ethernet_udp(b"hello");
        frame.extend([0; 13]);
        assert_eq!(decode(LinkType::ETHERNET, &frame), want(b"hello"));
        let snapped = ethernet_udp(&[7; 100]);
        let Packet::Udp(datagram) = decode(LinkType::ETHERNET, &snapped[..62]) else {
            panic!()
        };
        assert_eq!((datagram.payload.len(), datagram.wire_len), (20, 100));
        let Packet::Udp(datagram) = general(LinkType::ETHERNET, &snapped[..62]) else {
            panic!()
        };
        assert_eq!((datagram.payload.len(), datagram.wire_len), (20, 100));
    }

    #[test]
    fn lengths_that_lie() {
        let mut frame = ethernet_udp(b"hello");
        frame[38..40].copy_from_slice(&[0, 0]);
        assert_eq!(
            decode(LinkType::ETHERNET, &frame),
            want(b"hello"),
            "UDP length 0"
        );
        frame[38..40].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(
            decode(LinkType::ETHERNET, &frame),
            want(b"hello"),
            "UDP length beyond IP's"
        );
        frame[16..18].copy_from_slice(&[0, 0]);
        assert_eq!(
            decode(LinkType::ETHERNET, &frame),
            want(b"hello"),
            "IP length 0"
        );
    }

    #[test]
    fn what_is_no_datagram_is_told_apart() {
        let mut fragment = ethernet_udp(b"hello");
        fragment[20] = 0x20;
        let Packet::Fragment(found) = decode(LinkType::ETHERNET, &fragment) else {
            panic!()
        };
        assert_eq!((found.offset, found.more, found.protocol), (0, true, 17));
        let Packet::Udp(beginning) = Decoder::default().decode_beginning(&found) else {
            panic!()
        };
        assert_eq!(
            (beginning.destination.port(), beginning.payload),
            (4000, &b"hello"[..])
        );
        let mut tcp = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(SOURCE, DESTINATION, 64)
            .tcp(1, 2, 3, 4)
            .write(&mut tcp, b"x")
            .unwrap();
        let want = TcpSegment {
            network: Network::PLAIN,
            source: Endpoint::v4(SOURCE, 1),
            destination: Endpoint::v4(DESTINATION, 2),
            sequence: 3,
            flags: TcpFlags::default(),
            payload: b"x",
            wire_len: 1,
        };
        assert_eq!(decode(LinkType::ETHERNET, &tcp), Packet::Tcp(want));
        let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
        assert_eq!(decode(LinkType::ETHERNET, &arp), Packet::NotIp);
        assert_eq!(decode(LinkType::ETHERNET, &[]), Packet::Unreadable);
    }

    #[test]
    fn a_segment_that_is_cut_in_its_options() {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(SOURCE, DESTINATION, 64)
            .tcp(1, 2, 3, 4);
        builder
            .options_raw(&[1; 12])
            .unwrap()
            .write(&mut frame, b"hello")
            .unwrap();
        let Packet::Tcp(whole) = decode(LinkType::ETHERNET, &frame) else {
            panic!()
        };
        assert_eq!((whole.payload, whole.wire_len), (&b"hello"[..], 5));
        for captured in 14 + 20 + 20..14 + 20 + 32 {
            let Packet::Tcp(cut) = decode(LinkType::ETHERNET, &frame[..captured]) else {
                panic!("{captured}")
            };
            assert_eq!(
                cut,
                TcpSegment {
                    payload: b"",
                    ..whole
                },
                "{captured}"
            );
            assert!(etherparse::TcpHeaderSlice::from_slice(&frame[34..captured]).is_err());
        }
    }

    /// `payload` over GRE; the protocol is an ether type.
    fn gre(flags: u8, protocol: u16, header: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let gre = [&[flags, 0][..], &protocol.to_be_bytes(), header, payload].concat();
        let ip = etherparse::Ipv4Header::new(
            gre.len() as u16,
            64,
            47.into(),
            [10, 0, 0, 1],
            [10, 0, 0, 2],
        )
        .unwrap();
        ip.write(&mut packet).unwrap();
        [packet, gre].concat()
    }

    #[test]
    fn four_tunnels_but_not_five() {
        let mut packet = ethernet_udp(b"hello")[14..].to_vec();
        for tunnels in 1..=4 {
            // A layer below IP in a tunnel does not count as another tunnel.
            let bridged = [&[7u8; 12][..], &[0x88, 0x47], &[0, 0x10, 1, 64], &packet].concat();
            packet = gre(0, 0x6558, &[], &bridged);
            assert_eq!(
                anywhere(decode(LinkType::RAW, &packet)),
                want(b"hello"),
                "{tunnels}"
            );
        }
        assert_eq!(
            decode(LinkType::RAW, &gre(0, 0x0800, &[], &packet)),
            Packet::TooDeep
        );
        let hep = b"HEP3\0\x15\0\0\0\x0b\0\x07\x01\0\0\0\x0f\0\x08hi";
        let to_server = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(SOURCE, DESTINATION, 64)
            .udp(5060, 9060);
        let mut packet = built(to_server, hep)[14..].to_vec();
        assert_eq!(
            decode(LinkType::RAW, &packet),
            Packet::Unreadable,
            "no addresses"
        );
        for _ in 0..4 {
            packet = gre(0, 0x0800, &[], &packet);
        }
        assert_eq!(decode(LinkType::RAW, &packet), Packet::TooDeep);
    }

    #[test]
    fn only_the_erspan_sessions_that_are_asked_for() {
        let frame = ethernet_udp(b"hello");
        let first = gre(0, 0x88be, &[], &frame);
        let second = gre(
            0x10,
            0x88be,
            &[0, 0, 0, 1, 0x10, 7, 0, 100, 0, 0, 0, 0],
            &frame,
        );
        let third = gre(
            0x10,
            0x22eb,
            &[0, 0, 0, 1, 0x20, 7, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0],
            &frame,
        );
        let some =
            |span_ids: &[u16], vlans: &[u16]| Decoder::new(span_ids.to_vec(), vlans.to_vec());
        for (decoder, of_first, of_others) in [
            (some(&[], &[]), true, true),
            (some(&[99, 100], &[]), false, true),
            (some(&[], &[7]), false, true),
            (some(&[100], &[7]), false, true),
            (some(&[99], &[]), false, false),
            (some(&[100], &[8]), false, false),
        ] {
            for (packet, is_wanted) in [
                (&first, of_first),
                (&second, of_others),
                (&third, of_others),
            ] {
                let want = if is_wanted {
                    want(b"hello")
                } else {
                    Packet::OtherSession
                };
                assert_eq!(
                    decoder.decode(LinkType::RAW, packet),
                    want,
                    "{decoder:?} {packet:?}"
                );
            }
            assert_eq!(
                decoder.decode(LinkType::ETHERNET, &frame),
                want(b"hello"),
                "not in ERSPAN"
            );
        }
    }

    #[test]
    fn the_network_is_that_around_nsh_l2tp_and_esp_but_hep_comes_from_elsewhere() {
        let inner = ethernet_udp(b"hello");
        let ip = &inner[14..];
        let over_udp = |ports: [u16; 2], header: &[u8], packet: &[u8], trailer: &[u8]| {
            let outer = PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(ports[0], ports[1]);
            built(outer, &[header, packet, trailer].concat())
        };
        let tagged = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        let told = b"HEP3\0\x3c\0\0\0\x03\0\x0a\xc0\0\x02\x01\0\0\0\x04\0\x0a\xc0\0\x02\x02\0\0\0\x07\0\x08\x13\xc4\
            \0\0\0\x08\0\x08\x0f\xa0\0\0\0\x0b\0\x07\x01\0\0\0\x0f\0\x0bhello";
        let network = Network::PLAIN.vlan([0, 5]);
        for (name, frame, network) in [
            (
                "NSH",
                [&inner[..12], &[0x89, 0x4f, 0, 2, 1, 1, 0, 0, 0, 0], ip].concat(),
                network,
            ),
            (
                "L2TP",
                over_udp([1701, 1701], &[0, 2, 0, 1, 0, 1, 0xff, 3, 0, 0x21], ip, &[]),
                network,
            ),
            (
                "ESP",
                over_udp(
                    [4500, 4500],
                    &[0, 0, 0, 9, 0, 0, 0, 1],
                    ip,
                    &[&[1, 1, 4][..], &[7; 12]].concat(),
                ),
                network,
            ),
            (
                "HEP",
                over_udp([5060, 9060], told, &[], &[]),
                Network::PLAIN,
            ),
        ] {
            let Packet::Udp(want) = want(b"hello") else {
                panic!()
            };
            assert_eq!(
                decode(LinkType::ETHERNET, &frame),
                Packet::Udp(want),
                "{name}"
            );
            let want = Packet::Udp(Datagram { network, ..want });
            assert_eq!(
                decode(LinkType::ETHERNET, &tagged(&frame)),
                want,
                "{name} in a VLAN"
            );
        }
    }

    #[test]
    fn of_a_tunnel_in_fragments_the_beginning_shows_the_inner_packet() {
        let inner = ethernet_udp(&[9; 200]);
        let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat();
        let mut outer = built(
            PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(1, 4789),
            &vxlan,
        );
        outer.truncate(14 + 20 + 104);
        outer[16..18].copy_from_slice(&124u16.to_be_bytes());
        outer[20] = 0x20;
        let Packet::Fragment(fragment) = decode(LinkType::ETHERNET, &outer) else {
            panic!()
        };
        let Packet::Udp(datagram) = Decoder::default().decode_beginning(&fragment) else {
            panic!()
        };
        assert_eq!(
            (datagram.source, datagram.wire_len),
            (Endpoint::v4(SOURCE, 5060), 200)
        );
        assert_eq!(datagram.payload, [9; 104 - 16 - 42]);
    }

    proptest! {
        #[test]
        fn both_paths_agree(
            payload in proptest::collection::vec(any::<u8>(), 0..80),
            v6 in any::<bool>(),
            vlan in any::<bool>(),
            link in prop::sample::select(vec![LinkType::ETHERNET, LinkType::LINUX_SLL, LinkType::LINUX_SLL2]),
            change in proptest::option::of((0usize..60, any::<u8>())),
            keep in 0usize..160,
        ) {
            let start = PacketBuilder::ethernet2([1; 6], [2; 6]);
            let mut frame = match (v6, vlan) {
                (true, true) => built(start.single_vlan(5.try_into().unwrap()).ipv6([1; 16], [2; 16], 9).udp(1, 2), &payload),
                (true, false) => built(start.ipv6([1; 16], [2; 16], 9).udp(1, 2), &payload),
                (false, true) => built(start.single_vlan(5.try_into().unwrap()).ipv4(SOURCE, DESTINATION, 9).udp(1, 2), &payload),
                (false, false) => built(start.ipv4(SOURCE, DESTINATION, 9).udp(1, 2), &payload),
            };
            match link {
                LinkType::LINUX_SLL => frame = [&[0; 14], &frame[12..]].concat(),
                LinkType::LINUX_SLL2 => frame = [&frame[12..14], &[0; 18], &frame[14..]].concat(),
                _ => {}
            }
            if let Some((at, value)) = change && at < frame.len() {
                frame[at] = value;
            } else {
                prop_assert!(fast(link, &frame, &HepPorts::default()).is_some(), "the common case takes the fast path");
            }
            frame.truncate(keep.max(10));
            if let Some(datagram) = fast(link, &frame, &HepPorts::default()) {
                prop_assert_eq!(Packet::Udp(datagram), general(link, &frame));
            }
        }

        #[test]
        fn etherparse_agrees(
            payload in proptest::collection::vec(any::<u8>(), 0..60),
            start in prop::sample::select(vec![[0x45u8, 17], [0x46, 17], [0x45, 51], [0x60, 17], [0x60, 0], [0x60, 43], [0x60, 44], [0x60, 60], [0x60, 51]]),
            keep in 0usize..120,
        ) {
            let [version, protocol] = start;
            let header = if version == 0x60 {
                [&[version, 0, 0, 0, 0, payload.len() as u8, protocol, 64][..], &[1; 16], &[2; 16]].concat()
            } else {
                [&[version, 0, 0, payload.len() as u8 + 20, 0, 0, 0, 0, 64, protocol, 0, 0][..], &SOURCE, &DESTINATION].concat()
            };
            let mut packet = [header, payload].concat();
            packet.truncate(keep);
            if let Ok(reference) = etherparse::LaxSlicedPacket::from_ip(&packet)
                && let Some(etherparse::TransportSlice::Udp(udp)) = &reference.transport
            {
                let Packet::Udp(found) = general(LinkType::RAW, &packet) else { panic!("{packet:?}") };
                let ends = (found.source.port(), found.destination.port());
                prop_assert_eq!(ends, (udp.source_port(), udp.destination_port()));
                if usize::from(udp.length()) >= UDP_HEADER_LEN {
                    prop_assert_eq!(found.payload, udp.payload());
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(link in prop::sample::select(vec![0u16, 1, 8, 9, 12, 51, 101, 102, 104, 105, 107, 108, 109, 113, 119, 127, 163, 192, 197, 228, 229, 239, 252, 258, 276]),
                                  frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(LinkType(link), &frame);
        }
    }
}
