//! Frames: a decoded payload lies in its frame, and is no longer than it was on the wire.

use shared::pcap::LinkType;
use sip_call_extractor::packet::{Decoder, Packet, is_supported};

use super::{Input, place};

const LINKS: [LinkType; 27] = [
    LinkType::ETHERNET,
    LinkType::NULL,
    LinkType::PPP,
    LinkType::PPP_HDLC,
    LinkType::RAW_OPENBSD,
    LinkType::RAW_BSD,
    LinkType::RAW,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::LINUX_SLL2,
    LinkType::PPP_ETHER,
    LinkType::C_HDLC,
    LinkType::ENC,
    LinkType::WLAN,
    LinkType::WLAN_PRISM,
    LinkType::WLAN_RADIOTAP,
    LinkType::WLAN_AVS,
    LinkType::PPI,
    LinkType::SLIP,
    LinkType::SLIP_BSDOS,
    LinkType::FRAME_RELAY,
    LinkType::ERF,
    LinkType::NFLOG,
    LinkType::UPPER_PDU,
    LinkType::PKTAP,
];

/// The first byte chooses the link type: by its index in the list, or by its number.
pub fn check(input: &[u8]) {
    let mut input = Input(input);
    let number = input.byte();
    let link = LINKS
        .get(usize::from(number))
        .copied()
        .unwrap_or(LinkType(number.into()));
    let frame = input.0;
    let decoder = Decoder::default();
    let packet = decoder.decode(link, frame);
    // ERSPAN sessions have 10 bits, so this decoder accepts none.
    let without_mirrors = Decoder::new([1024], []).decode(link, frame);
    for decoder in [Decoder::new([7], []), Decoder::new([], [7])] {
        let chosen = decoder.decode(link, frame);
        assert!(
            chosen == packet || without_mirrors != packet,
            "what is not mirrored is not chosen from"
        );
    }
    check_packet(&packet, frame);
    assert!(is_supported(link) || packet == Packet::Unreadable);
}

fn check_packet(packet: &Packet<'_>, frame: &[u8]) {
    let (payload, wire_len) = match packet {
        Packet::Udp(datagram) | Packet::Told(_, datagram) => (datagram.payload, datagram.wire_len),
        Packet::Tcp(segment) => (segment.payload, segment.wire_len),
        Packet::Fragment(fragment) => {
            assert!(fragment.offset.is_multiple_of(8) && fragment.offset <= 65_528);
            assert_eq!(
                (fragment.source.port(), fragment.destination.port()),
                (0, 0)
            );
            match Decoder::default().decode_beginning(fragment) {
                Packet::Fragment(same) => assert!(fragment.offset > 0 || same != *fragment),
                packet => check_packet(&packet, frame),
            }
            (fragment.payload, fragment.wire_len)
        }
        _ => return,
    };
    place(frame, payload);
    assert!(payload.len() <= wire_len && wire_len <= usize::from(u16::MAX).max(frame.len()));
}
