//! Frames to datagrams: a fast path for the common case, etherparse for all others.
//!
//! To whoever adds a tunnel: its header is taken off in `tunnels`, on the way of [`general`], never in [`fast`].
//! The fast path takes UDP over IPv4 or IPv6, not fragmented, without options, below Ethernet and VLAN tags,
//! and answers `None` to all else, also to the ports of tunnels. It takes 5 ns a frame where etherparse takes 66; a
//! property test holds the two to the same answers.

use etherparse::{EtherType, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket};
use shared::pcap::LinkType;

use super::{
    Endpoint,
    tunnels::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Layer},
};

const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_QINQ_OLD: u16 = 0x9100;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;
/// More tunnels than this, one in the other, are not taken apart.
const MAX_TUNNELS: u8 = 4;

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: Endpoint,
    /// Whom it is for.
    pub destination: Endpoint,
    /// What was captured of its payload.
    pub payload: &'a [u8],
    /// How long the payload was on the wire, in bytes.
    pub wire_len: usize,
}

/// A TCP segment: RFC 9293, 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Who sent it.
    pub source: Endpoint,
    /// Whom it is for.
    pub destination: Endpoint,
    /// The sequence number of the first byte of the payload, or of the SYN before it.
    pub sequence: u32,
    /// The bits that open, close and break off a connection.
    pub flags: TcpFlags,
    /// What was captured of its payload.
    pub payload: &'a [u8],
    /// How long the payload was on the wire, in bytes.
    pub wire_len: usize,
}

/// Control bits: RFC 9293, 3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// Nothing follows from this side.
    pub fin: bool,
    /// A connection begins.
    pub syn: bool,
    /// The connection is no more.
    pub rst: bool,
}

/// A part of an IP datagram: RFC 791, 3.1; RFC 8200, 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Who sent the datagram; the port is 0.
    pub source: Endpoint,
    /// Whom it is for; the port is 0.
    pub destination: Endpoint,
    /// What the datagram carries.
    pub protocol: u8,
    /// What its fragments have in common.
    pub identification: u32,
    /// Where in the datagram the payload belongs, in bytes.
    pub offset: usize,
    /// Whether others belong behind it.
    pub more: bool,
    /// The part of the datagram.
    pub payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The beginning of the UDP datagram that is in fragments, if this is the first of them.
    #[must_use]
    pub fn beginning(&self) -> Option<Datagram<'a>> {
        let ports = |source, destination| (self.source.with_port(source), self.destination.with_port(destination));
        (self.offset == 0 && self.protocol == PROTOCOL_UDP).then(|| udp(self.payload, usize::from(u16::MAX), ports))?
    }
}

/// What a frame holds, as far as calls are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A whole UDP datagram (or what the snap length left of it).
    Udp(Datagram<'a>),
    /// A part of an IP datagram.
    Fragment(Fragment<'a>),
    /// A TCP segment (or what the snap length left of it).
    Tcp(Segment<'a>),
    /// IP with something else in it.
    OtherIp,
    /// No IP: ARP, LLDP and the like.
    NotIp,
    /// Too short or too broken to tell.
    Unreadable,
}

/// Whether frames of this link type can be decoded.
#[must_use]
pub fn is_supported(link: LinkType) -> bool {
    matches!(
        link,
        LinkType::ETHERNET
            | LinkType::LINUX_SLL
            | LinkType::LINUX_SLL2
            | LinkType::RAW
            | LinkType::RAW_BSD
            | LinkType::RAW_OPENBSD
            | LinkType::IPV4
            | LinkType::IPV6
            | LinkType::NULL
            | LinkType::LOOP
            | LinkType::PPP
            | LinkType::PPP_HDLC
    )
}

/// What `frame` holds; `link` says how it begins.
#[must_use]
#[inline]
pub fn decode(link: LinkType, frame: &[u8]) -> Packet<'_> {
    if link == LinkType::ETHERNET
        && let Some(datagram) = fast(frame)
    {
        return Packet::Udp(datagram);
    }
    general(link, frame)
}

/// UDP over IP over Ethernet, if the frame is just that.
#[inline]
fn fast(frame: &[u8]) -> Option<Datagram<'_>> {
    let mut ethertype = be16(*frame.get(12..)?.first_chunk()?);
    let mut rest = frame.get(14..)?;
    while matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD) {
        ethertype = be16(*rest.get(2..)?.first_chunk()?);
        rest = rest.get(4..)?;
    }
    let datagram = match ethertype {
        ETHERTYPE_IPV4 => fast_ipv4(rest),
        ETHERTYPE_IPV6 => fast_ipv6(rest),
        _ => None,
    }?;
    (!tunnels::is_tunnel_port(datagram.destination.port())).then_some(datagram)
}

/// RFC 791, 3.1: no options (length 5), neither offset nor "more fragments".
#[inline]
fn fast_ipv4(packet: &[u8]) -> Option<Datagram<'_>> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let [0x45, _, len_high, len_low, _, _, fragment_high, fragment_low, _, PROTOCOL_UDP, _, _, addresses @ ..] = *header else {
        return None;
    };
    if be16([fragment_high & 0x3f, fragment_low]) != 0 {
        return None;
    }
    let total_len = usize::from(be16([len_high, len_low]));
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    udp(packet.get(20..)?, total_len.checked_sub(20)?, |source, destination| {
        (Endpoint::v4([s0, s1, s2, s3], source), Endpoint::v4([d0, d1, d2, d3], destination))
    })
}

/// RFC 8200, 3: UDP right after the fixed header.
#[inline]
fn fast_ipv6(packet: &[u8]) -> Option<Datagram<'_>> {
    let [0x60..=0x6f, _, _, _, len_high, len_low, PROTOCOL_UDP, _] = *packet.first_chunk::<8>()? else {
        return None;
    };
    let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
    let destination: [u8; 16] = *packet.get(24..)?.first_chunk()?;
    udp(packet.get(40..)?, usize::from(be16([len_high, len_low])), |source_port, destination_port| {
        (Endpoint::v6(source, source_port), Endpoint::v6(destination, destination_port))
    })
}

/// RFC 768. `wire_len` is what IP says of the length; the capture may hold less, or padding.
#[inline]
fn udp(segment: &[u8], wire_len: usize, address: impl FnOnce(u16, u16) -> (Endpoint, Endpoint)) -> Option<Datagram<'_>> {
    let segment = segment.get(..wire_len).unwrap_or(segment);
    let [s0, s1, d0, d1, l0, l1, _, _] = *segment.first_chunk::<UDP_HEADER_LEN>()?;
    let wire_len = datagram_len(usize::from(be16([l0, l1])), wire_len).checked_sub(UDP_HEADER_LEN)?;
    let payload = segment.get(UDP_HEADER_LEN..)?;
    let (source, destination) = address(be16([s0, s1]), be16([d0, d1]));
    Some(Datagram { source, destination, payload: payload.get(..wire_len).unwrap_or(payload), wire_len })
}

/// UDP's own length, but IP's where that of UDP cannot be true (0 stands for "offloaded").
fn datagram_len(udp_len: usize, ip_payload_len: usize) -> usize {
    if (UDP_HEADER_LEN..=ip_payload_len).contains(&udp_len) { udp_len } else { ip_payload_len }
}

/// Everything the fast path leaves.
fn general(link: LinkType, frame: &[u8]) -> Packet<'_> {
    strip_link(link, frame).map_or(Packet::Unreadable, |layer| unwrapped(layer, MAX_TUNNELS))
}

/// Takes off the link header.
fn strip_link(link: LinkType, frame: &[u8]) -> Option<Layer<'_>> {
    let ether_type_at = |offset: usize| Some(be16(*frame.get(offset..)?.first_chunk()?));
    Some(match link {
        LinkType::ETHERNET => Layer::Ethernet(frame),
        LinkType::LINUX_SLL => Layer::EtherType(ether_type_at(14)?, frame.get(16..)?),
        LinkType::LINUX_SLL2 => Layer::EtherType(ether_type_at(0)?, frame.get(20..)?),
        // The address family's number differs between systems and its byte order between
        // machines; the IP version does not.
        LinkType::NULL | LinkType::LOOP => Layer::Ip(frame.get(4..)?),
        LinkType::PPP | LinkType::PPP_HDLC => Layer::Ppp(frame),
        _ if is_supported(link) => Layer::Ip(frame),
        _ => return None,
    })
}

/// What a layer holds in the end, after at most so many tunnels.
fn unwrapped(layer: Layer<'_>, tunnels_left: u8) -> Packet<'_> {
    match layer {
        Layer::Ethernet(frame) => match frame.get(12..).and_then(<[u8]>::first_chunk).zip(frame.get(14..)) {
            Some((ether_type, payload)) => in_ether_type(be16(*ether_type), payload, tunnels_left),
            None => Packet::Unreadable,
        },
        Layer::EtherType(ether_type, payload) => in_ether_type(ether_type, payload, tunnels_left),
        Layer::Ip(packet) => LaxSlicedPacket::from_ip(packet).map_or(Packet::Unreadable, |packet| network(&packet, tunnels_left)),
        Layer::Ppp(frame) => tunnels::ppp(frame).map_or(Packet::NotIp, |layer| unwrapped(layer, tunnels_left)),
    }
}

fn in_ether_type(ether_type: u16, payload: &[u8], tunnels_left: u8) -> Packet<'_> {
    let packet = LaxSlicedPacket::from_ether_type(EtherType(ether_type), payload);
    let below_tags = packet.ether_payload().map_or((ether_type, payload), |inner| (inner.ether_type.0, inner.payload));
    match tunnels::in_ether_type(below_tags.0, below_tags.1) {
        Some(layer) => inside(layer, tunnels_left),
        None => network(&packet, tunnels_left),
    }
}

/// What a tunnel holds.
fn inside(layer: Layer<'_>, tunnels_left: u8) -> Packet<'_> {
    tunnels_left.checked_sub(1).map_or(Packet::OtherIp, |left| unwrapped(layer, left))
}

fn network<'a>(packet: &LaxSlicedPacket<'a>, tunnels_left: u8) -> Packet<'a> {
    let (addresses, payload) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            ((Endpoint::v4(header.source(), 0), Endpoint::v4(header.destination(), 0)), ip.payload())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            ((Endpoint::v6(header.source(), 0), Endpoint::v6(header.destination(), 0)), ip.payload())
        }
        Some(LaxNetSlice::Arp(_)) => return Packet::NotIp,
        None => return if packet.stop_err.is_some() { Packet::Unreadable } else { Packet::NotIp },
    };
    if payload.fragmented {
        return fragment(packet, addresses, payload.ip_number.0, payload.payload).map_or(Packet::Unreadable, Packet::Fragment);
    }
    if let Some(layer) = tunnels::in_ip(payload.ip_number.0, payload.payload) {
        return inside(layer, tunnels_left);
    }
    let wire_len = ip_payload_wire_len(packet, payload.payload.len());
    transport(addresses, payload.ip_number.0, payload.payload, wire_len, tunnels_left)
}

/// What IP carries, if that is no tunnel; `wire_len` is how much of it there was on the wire.
fn transport(
    (source, destination): (Endpoint, Endpoint),
    protocol: u8,
    payload: &[u8],
    wire_len: usize,
    tunnels_left: u8,
) -> Packet<'_> {
    let ends = |from, to| (source.with_port(from), destination.with_port(to));
    match protocol {
        PROTOCOL_UDP => udp(payload, wire_len, ends).map_or(Packet::Unreadable, |datagram| in_datagram(datagram, tunnels_left)),
        PROTOCOL_TCP => tcp(payload, wire_len, ends).map_or(Packet::Unreadable, Packet::Tcp),
        _ => Packet::OtherIp,
    }
}

/// RFC 9293, 3.1: the header is as long as its data offset says.
fn tcp(segment: &[u8], wire_len: usize, ends: impl FnOnce(u16, u16) -> (Endpoint, Endpoint)) -> Option<Segment<'_>> {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const MIN_HEADER_LEN: usize = 20;
    let [s0, s1, d0, d1, q0, q1, q2, q3, _, _, _, _, offset, flags, ..] = *segment.first_chunk::<MIN_HEADER_LEN>()?;
    let header_len = usize::from(offset >> 4).saturating_mul(4);
    let wire_len = wire_len.checked_sub(header_len).filter(|_| header_len >= MIN_HEADER_LEN)?;
    let (source, destination) = ends(be16([s0, s1]), be16([d0, d1]));
    Some(Segment {
        source,
        destination,
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        flags: TcpFlags { fin: flags & FIN != 0, syn: flags & SYN != 0, rst: flags & RST != 0 },
        payload: segment.get(header_len..).unwrap_or_default(),
        wire_len,
    })
}

fn fragment<'a>(
    packet: &LaxSlicedPacket<'a>,
    (source, destination): (Endpoint, Endpoint),
    protocol: u8,
    payload: &'a [u8],
) -> Option<Fragment<'a>> {
    let (identification, offset, more) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            (header.identification().into(), header.fragments_offset(), header.more_fragments())
        }
        Some(LaxNetSlice::Ipv6(ip)) => ip.extensions().clone().into_iter().find_map(|extension| match extension {
            Ipv6ExtensionSlice::Fragment(header) => {
                Some((header.identification(), header.fragment_offset(), header.more_fragments()))
            }
            _ => None,
        })?,
        _ => return None,
    };
    let offset = usize::from(offset.value()).saturating_mul(8);
    Some(Fragment { source, destination, protocol, identification, offset, more, payload })
}

/// What an IP datagram carries that was put together from its fragments.
#[must_use]
pub fn decode_ip_payload(source: Endpoint, destination: Endpoint, protocol: u8, payload: &[u8]) -> Packet<'_> {
    if let Some(layer) = tunnels::in_ip(protocol, payload) {
        return inside(layer, MAX_TUNNELS);
    }
    transport((source, destination), protocol, payload, payload.len(), MAX_TUNNELS)
}

/// The datagram, or what the tunnel in it holds. A port alone makes no tunnel: what leads nowhere is taken
/// for what it is.
fn in_datagram(datagram: Datagram<'_>, tunnels_left: u8) -> Packet<'_> {
    let inner = tunnels::in_udp(&datagram).map(|layer| inside(layer, tunnels_left));
    inner.filter(|inner| !matches!(inner, Packet::NotIp | Packet::Unreadable)).unwrap_or(Packet::Udp(datagram))
}

/// The length of IP's payload on the wire, which is more than was captured of a snapped packet.
fn ip_payload_wire_len(packet: &LaxSlicedPacket<'_>, captured: usize) -> usize {
    let declared = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => usize::from(ip.header().total_len()).checked_sub(ip.header().slice().len()),
        Some(LaxNetSlice::Ipv6(ip)) => {
            let extensions = ip.extensions().slice().len();
            usize::from(ip.header().payload_length()).checked_sub(extensions)
        }
        _ => None,
    };
    declared.filter(|&len| len >= captured).unwrap_or(captured)
}

#[inline]
pub(super) fn be16(bytes: [u8; 2]) -> u16 {
    u16::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    const SOURCE: [u8; 4] = [192, 0, 2, 1];
    const DESTINATION: [u8; 4] = [192, 0, 2, 2];

    fn built(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    fn ethernet_udp(payload: &[u8]) -> Vec<u8> {
        built(PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(SOURCE, DESTINATION, 64).udp(5060, 4000), payload)
    }

    fn want(payload: &[u8]) -> Packet<'_> {
        Packet::Udp(Datagram {
            source: Endpoint::v4(SOURCE, 5060),
            destination: Endpoint::v4(DESTINATION, 4000),
            payload,
            wire_len: payload.len(),
        })
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
        for tags in [&[0x81u8, 0, 0, 5][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], &[0x91, 0, 0, 5, 0x81, 0, 0, 6]] {
            let tagged = [&frame[..12], tags, &frame[12..]].concat();
            assert_eq!(decode(LinkType::ETHERNET, &tagged), want(b"hello"));
        }
        let sll_with_vlan = [&[0u8; 14][..], &[0x81, 0, 0, 5], &frame[12..]].concat();
        assert_eq!(decode(LinkType::LINUX_SLL, &sll_with_vlan), want(b"hello"));
    }

    #[test]
    fn padding_is_no_payload_and_a_snapped_packet_keeps_its_length() {
        let mut frame = ethernet_udp(b"hello");
        frame.extend([0; 13]);
        assert_eq!(decode(LinkType::ETHERNET, &frame), want(b"hello"));
        let snapped = ethernet_udp(&[7; 100]);
        let Packet::Udp(datagram) = decode(LinkType::ETHERNET, &snapped[..62]) else { panic!() };
        assert_eq!((datagram.payload.len(), datagram.wire_len), (20, 100));
        let Packet::Udp(datagram) = general(LinkType::ETHERNET, &snapped[..62]) else { panic!() };
        assert_eq!((datagram.payload.len(), datagram.wire_len), (20, 100));
    }

    #[test]
    fn lengths_that_lie() {
        let mut frame = ethernet_udp(b"hello");
        frame[38..40].copy_from_slice(&[0, 0]);
        assert_eq!(decode(LinkType::ETHERNET, &frame), want(b"hello"), "UDP length 0");
        frame[38..40].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(decode(LinkType::ETHERNET, &frame), want(b"hello"), "UDP length beyond IP's");
        frame[16..18].copy_from_slice(&[0, 0]);
        assert_eq!(decode(LinkType::ETHERNET, &frame), want(b"hello"), "IP length 0");
    }

    #[test]
    fn what_is_no_datagram_is_told_apart() {
        let mut fragment = ethernet_udp(b"hello");
        fragment[20] = 0x20;
        let Packet::Fragment(found) = decode(LinkType::ETHERNET, &fragment) else { panic!() };
        assert_eq!((found.offset, found.more, found.protocol), (0, true, 17));
        assert_eq!(
            found.beginning().map(|datagram| (datagram.destination.port(), datagram.payload)),
            Some((4000, &b"hello"[..]))
        );
        let mut tcp = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(SOURCE, DESTINATION, 64).tcp(1, 2, 3, 4).write(&mut tcp, b"x").unwrap();
        let want = Segment {
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

    proptest! {
        #[test]
        fn both_paths_agree(
            payload in proptest::collection::vec(any::<u8>(), 0..80),
            v6 in any::<bool>(),
            vlan in any::<bool>(),
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
            if let Some((at, value)) = change && at < frame.len() {
                frame[at] = value;
            }
            frame.truncate(keep.max(10));
            if let Some(datagram) = fast(&frame) {
                prop_assert_eq!(Packet::Udp(datagram), general(LinkType::ETHERNET, &frame));
            }
        }

        #[test]
        fn any_bytes_are_survived(link in prop::sample::select(vec![0u16, 1, 12, 101, 108, 113, 228, 229, 276]),
                                  frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(LinkType(link), &frame);
        }
    }
}
