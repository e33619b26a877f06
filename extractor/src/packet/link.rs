//! The start of frames: link types, Ethernet, and the headers between it and IP.

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};
use shared::pcap::LinkType;

use super::{
    Layer, be16, erf, exported, frame_relay,
    ip::{self, Extent},
    nflog, pktap, tunnels, wlan,
};

/// The lowest ether type. A lower number in that place is a length (IEEE 802.3, 3.2.6).
const MIN_ETHER_TYPE: u16 = 0x0600;

/// Returns true if frames of this link type can be decoded.
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
            | LinkType::ENC
            | LinkType::PPP
            | LinkType::PPP_HDLC
            | LinkType::PPP_ETHER
            | LinkType::C_HDLC
            | LinkType::WLAN
            | LinkType::WLAN_RADIOTAP
            | LinkType::WLAN_PRISM
            | LinkType::WLAN_AVS
            | LinkType::PPI
            | LinkType::SLIP
            | LinkType::SLIP_BSDOS
            | LinkType::FRAME_RELAY
            | LinkType::ERF
            | LinkType::NFLOG
            | LinkType::UPPER_PDU
            | LinkType::PKTAP
    )
}

/// Removes the link header.
///
/// Linux cooked headers are parsed here: etherparse reads those of five kinds of devices, and
/// refuses those of loopback, of tunnels and of PPP (`cooked_headers_of_any_device`).
pub(super) fn strip(link: LinkType, frame: &[u8]) -> Option<Layer<'_>> {
    let ether_type_at = |offset: usize| Some(be16(*frame.get(offset..)?.first_chunk()?));
    Some(match link {
        LinkType::ETHERNET => Layer::Ethernet(frame),
        LinkType::LINUX_SLL => cooked(ether_type_at(14)?, frame.get(16..)?),
        LinkType::LINUX_SLL2 => cooked(ether_type_at(0)?, frame.get(20..)?),
        // The number of the address family differs between systems and its byte order between
        // machines, so the IP version decides.
        LinkType::NULL | LinkType::LOOP => Layer::Ip(frame.get(4..)?),
        // Address family, security parameters index, flags.
        LinkType::ENC => Layer::Ip(frame.get(12..)?),
        LinkType::PPP | LinkType::PPP_HDLC => Layer::Ppp(frame),
        LinkType::PPP_ETHER => tunnels::pppoe(frame)?,
        // Address, control, and a protocol that is an ether type: RFC 1547, 4.3.1.
        LinkType::C_HDLC => Layer::EtherType(ether_type_at(2)?, frame.get(4..)?),
        LinkType::WLAN => Layer::Wlan(frame),
        LinkType::WLAN_RADIOTAP => wlan::radiotap(frame)?,
        LinkType::WLAN_PRISM => wlan::prism(frame)?,
        LinkType::WLAN_AVS => wlan::avs(frame)?,
        LinkType::PPI => return ppi(frame),
        // Direction, and the header as it was on the line; the packet after it has been
        // decompressed.
        LinkType::SLIP => Layer::Ip(frame.get(16..)?),
        LinkType::SLIP_BSDOS => Layer::Ip(frame.get(24..)?),
        LinkType::FRAME_RELAY => return frame_relay::frame(frame),
        LinkType::ERF => return erf::record(frame),
        LinkType::NFLOG => return nflog::packet(frame),
        LinkType::UPPER_PDU => return exported::pdu(frame),
        LinkType::PKTAP => return pktap::frame(frame),
        _ if is_supported(link) => Layer::Ip(frame),
        _ => return None,
    })
}

/// The next layer in a layer below IP.
pub(super) fn inner(layer: Layer<'_>) -> Option<Layer<'_>> {
    match layer {
        Layer::Ethernet(frame) => ethernet(frame),
        Layer::Wlan(frame) => wlan::frame(frame),
        Layer::Llc(frame) => llc(frame),
        Layer::EtherType(ether_type, payload) => tunnels::in_ether_type(ether_type, payload),
        Layer::Ppp(frame) => tunnels::ppp(frame),
        Layer::Ip(_)
        | Layer::Datagram(_)
        | Layer::Mirrored(..)
        | Layer::Other
        | Layer::OtherKind => None,
    }
}

/// The outermost IP packet of a frame, without headers before it and padding after it. Each
/// iteration removes some bytes.
#[must_use]
pub fn outermost_ip(link: LinkType, frame: &[u8]) -> Option<Extent<'_>> {
    let mut layer = strip(link, frame)?;
    loop {
        match layer {
            Layer::Ip(packet) => return ip::extent(packet),
            below_ip => layer = inner(below_ip)?,
        }
    }
}

/// Linux numbers the frames without an ether type; 4 is 802.2.
fn cooked(protocol: u16, payload: &[u8]) -> Layer<'_> {
    const LINUX_802_2: u16 = 0x0004;
    if protocol == LINUX_802_2 {
        Layer::Llc(payload)
    } else {
        Layer::EtherType(protocol, payload)
    }
}

/// Per-Packet Information: version, flags, length and link type of the frame, little-endian.
fn ppi(frame: &[u8]) -> Option<Layer<'_>> {
    let [_, _, l0, l1, t0, t1, 0, 0] = *frame.first_chunk()? else {
        return None;
    };
    wrapped(
        LinkType(u16::from_le_bytes([t0, t1])),
        frame.get(usize::from(u16::from_le_bytes([l0, l1]))..)?,
    )
}

/// The frame behind a header that names its link type. Such a header may not name another of its
/// kind: the recursion would not end.
pub(super) fn wrapped(link: LinkType, frame: &[u8]) -> Option<Layer<'_>> {
    match link {
        LinkType::PPI | LinkType::PKTAP => None,
        _ if is_supported(link) => strip(link, frame),
        _ => Some(Layer::OtherKind),
    }
}

/// IEEE 802.3, 3.1.
pub(super) fn ethernet(frame: &[u8]) -> Option<Layer<'_>> {
    let header = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    Some(typed(
        header.ether_type().0,
        frame.get(header.slice().len()..)?,
    ))
}

/// The layer after an ether type, or after a length in its place.
fn typed(ether_type: u16, payload: &[u8]) -> Layer<'_> {
    if ether_type < MIN_ETHER_TYPE {
        return Layer::Llc(payload.get(..usize::from(ether_type)).unwrap_or(payload));
    }
    Layer::EtherType(ether_type, payload)
}

/// IEEE 802.1Q, 9.6: priority and VLAN, then the original ether type or length.
pub(super) fn vlan(tagged: &[u8]) -> Option<Layer<'_>> {
    let tag = SingleVlanHeaderSlice::from_slice(tagged).ok()?;
    Some(typed(tag.ether_type().0, tagged.get(tag.slice().len()..)?))
}

/// IEEE 802.1Q, 9.7: four bytes of service instance, then the customer's frame.
pub(super) fn backbone(tagged: &[u8]) -> Option<Layer<'_>> {
    Some(Layer::Ethernet(tagged.get(4..)?))
}

/// IEEE 802.1AE, 9.3: a frame that is authenticated but not encrypted. The ICV at its end lies
/// beyond the length of the IP packet.
///
/// The short length (9.7) is ignored; etherparse refuses the header if it is 1
/// (`tags_of_all_kinds`).
pub(super) fn macsec(secured: &[u8]) -> Option<Layer<'_>> {
    const VERSION: u8 = 0x80;
    const HAS_CHANNEL: u8 = 0x20;
    const ENCRYPTED_OR_CHANGED: u8 = 0x0c;
    let tag = *secured.first()?;
    if tag & (VERSION | ENCRYPTED_OR_CHANGED) != 0 {
        return None;
    }
    let rest = secured.get(if tag & HAS_CHANNEL == 0 { 6 } else { 14 }..)?;
    Some(typed(be16(*rest.first_chunk()?), rest.get(2..)?))
}

/// IEEE 802.2 with the protocol identification of RFC 1042, or with `00:00:f8` of IEEE 802.1H.
pub(super) fn llc(frame: &[u8]) -> Option<Layer<'_>> {
    let Some([0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, t0, t1]) = frame.first_chunk().copied() else {
        return Some(Layer::Other);
    };
    Some(Layer::EtherType(be16([t0, t1]), frame.get(8..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{LinuxSllHeaderSlice, MacsecHeaderSlice};

    const IP: &[u8] = &[0x45, 0, 0, 20];
    const SNAP: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0];

    fn with(header: &[u8], inner: &[u8]) -> Vec<u8> {
        [header, inner].concat()
    }

    #[test]
    fn ethernet_with_a_type_or_a_length() {
        assert_eq!(
            ethernet(&[&[0; 12][..], &[8, 0], IP].concat()),
            Some(Layer::EtherType(0x0800, IP))
        );
        let frame = [&[0; 12][..], &[0, 12], SNAP, IP, &[0; 30]].concat();
        assert_eq!(
            ethernet(&frame),
            Some(Layer::Llc(&with(SNAP, IP))),
            "padding is no payload"
        );
        assert_eq!(ethernet(&[0; 13]), None);
    }

    #[test]
    fn llc_names_an_ether_type_in_two_ways() {
        assert_eq!(llc(&with(SNAP, IP)), Some(Layer::EtherType(0x0800, IP)));
        assert_eq!(
            llc(&with(&[0xaa, 0xaa, 3, 0, 0, 0xf8, 0x86, 0xdd], IP)),
            Some(Layer::EtherType(0x86dd, IP))
        );
        assert_eq!(
            llc(&with(&[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0], IP)),
            Some(Layer::Other),
            "Cisco discovery"
        );
        assert_eq!(
            llc(&[0x42, 0x42, 3, 0, 0]),
            Some(Layer::Other),
            "spanning tree"
        );
    }

    #[test]
    fn tags_of_all_kinds() {
        assert_eq!(
            vlan(&with(&[0, 5, 8, 0], IP)),
            Some(Layer::EtherType(0x0800, IP))
        );
        assert_eq!(
            vlan(&[&[0, 5, 0, 12][..], SNAP, IP].concat()),
            Some(Layer::Llc(&with(SNAP, IP)))
        );
        assert_eq!(
            backbone(&with(&[0, 0, 0, 7], IP)),
            Some(Layer::Ethernet(IP))
        );
        assert_eq!(
            macsec(&with(&[0, 0, 0, 0, 0, 1, 8, 0], IP)),
            Some(Layer::EtherType(0x0800, IP))
        );
        let channel = [&[0x20, 0, 0, 0, 0, 1][..], &[7; 8], &[8, 0]].concat();
        assert_eq!(
            macsec(&with(&channel, IP)),
            Some(Layer::EtherType(0x0800, IP))
        );
        assert_eq!(
            macsec(&with(&[0x0c, 0, 0, 0, 0, 1, 8, 0], IP)),
            None,
            "encrypted"
        );
        let short_len_of_1 = with(&[0, 1, 0, 0, 0, 1, 8, 0], IP);
        assert_eq!(macsec(&short_len_of_1), Some(Layer::EtherType(0x0800, IP)));
        assert!(MacsecHeaderSlice::from_slice(&short_len_of_1).is_err());
    }

    #[test]
    fn headers_that_are_cut() {
        for len in 0..14 {
            assert_eq!(ethernet(&[8; 14][..len]), None, "{len}");
        }
        assert_eq!(ethernet(&[8; 14]), Some(Layer::EtherType(0x0808, &[])));
        for len in 0..4 {
            assert_eq!(vlan(&[8; 4][..len]), None, "{len}");
        }
        assert_eq!(vlan(&[8; 4]), Some(Layer::EtherType(0x0808, &[])));
    }

    #[test]
    fn cooked_headers_of_any_device() {
        // Packet type, device type (ARPHRD_), length and bytes of the address, protocol.
        let of = |packet_type: u8, device: u16| {
            [
                &[0, packet_type][..],
                &device.to_be_bytes(),
                &[0, 6],
                &[2; 8],
                &[8, 0],
                IP,
            ]
            .concat()
        };
        for (device, is_known_to_etherparse) in
            [(1, true), (512, false), (772, false), (65_534, false)]
        {
            let frame = of(4, device);
            assert_eq!(
                strip(LinkType::LINUX_SLL, &frame),
                Some(Layer::EtherType(0x0800, IP)),
                "{device}"
            );
            assert_eq!(
                LinuxSllHeaderSlice::from_slice(&frame).is_ok(),
                is_known_to_etherparse,
                "{device}"
            );
        }
        let frame = of(8, 1);
        assert_eq!(
            strip(LinkType::LINUX_SLL, &frame),
            Some(Layer::EtherType(0x0800, IP)),
            "a later packet type"
        );
        assert!(LinuxSllHeaderSlice::from_slice(&frame).is_err());
    }

    #[test]
    fn ip_is_found_below_tags_and_before_padding() {
        let packet = [&[0x45, 0, 0, 22][..], &[7; 18]].concat();
        let found = |header: &[u8], padding: &[u8]| {
            let frame = [&[0; 12][..], header, &packet, padding].concat();
            let found = outermost_ip(LinkType::ETHERNET, &frame)?;
            Some((found.captured.to_vec(), found.declared_len))
        };
        let want = Some((packet[..22].to_vec(), Some(22)));
        assert_eq!(found(&[8, 0], &[]), want);
        assert_eq!(found(&[8, 0], &[0; 24]), want);
        assert_eq!(
            found(&[0x81, 0, 0, 5, 0x88, 0xa8, 0, 6, 8, 0], &[0; 14]),
            want
        );
        assert_eq!(found(&[0x88, 0x47, 0, 0x10, 1, 64], b"trailer"), want);
        assert_eq!(found(&[8, 6], &[]), None, "ARP");
        assert_eq!(
            outermost_ip(LinkType::RAW, &packet).map(|found| found.captured),
            Some(&packet[..])
        );
        assert_eq!(outermost_ip(LinkType(147), &packet), None);
    }

    #[test]
    fn link_headers_of_fixed_length() {
        for (link, header, want) in [
            (LinkType::ENC, &[0; 12][..], Layer::Ip(IP)),
            (
                LinkType::C_HDLC,
                &[0x0f, 0, 8, 0],
                Layer::EtherType(0x0800, IP),
            ),
            (LinkType::PPP_ETHER, &[0x11, 0, 0, 1, 0, 4], Layer::Ppp(IP)),
            (LinkType::PPI, &[0, 0, 8, 0, 101, 0, 0, 0], Layer::Ip(IP)),
            (LinkType::SLIP, &[0; 16], Layer::Ip(IP)),
            (LinkType::SLIP_BSDOS, &[0; 24], Layer::Ip(IP)),
            (LinkType::PPI, &[0, 0, 8, 0, 147, 0, 0, 0], Layer::OtherKind),
            (
                LinkType::PPI,
                &[0, 0, 12, 0, 105, 0, 0, 0, 2, 0, 0, 0],
                Layer::Wlan(IP),
            ),
        ] {
            assert_eq!(strip(link, &with(header, IP)), Some(want), "{link}");
        }
        assert_eq!(
            strip(LinkType::PPI, &with(&[0, 0, 8, 0, 192, 0, 0, 0], IP)),
            None,
            "itself"
        );
        let cooked = [&[0; 14][..], &[0, 4], SNAP, IP].concat();
        assert_eq!(
            strip(LinkType::LINUX_SLL, &cooked),
            Some(Layer::Llc(&with(SNAP, IP)))
        );
    }
}
