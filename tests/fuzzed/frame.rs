//! Frames: what is taken out of one lies in it, and is no longer than it was on the wire.

use shared::pcap::LinkType;
use sip_call_extractor::packet::{self, Packet};

use super::{Input, place};

const LINKS: [LinkType; 12] = [
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
];

/// The first byte chooses the link type: by its place in the list, or by its number.
pub fn check(input: &[u8]) {
    let mut input = Input(input);
    let number = input.byte();
    let link = LINKS.get(usize::from(number)).copied().unwrap_or(LinkType(number.into()));
    let frame = input.0;
    let packet = packet::decode(link, frame);
    let (payload, wire_len) = match packet {
        Packet::Udp(datagram) => (datagram.payload, datagram.wire_len),
        Packet::Tcp(segment) => (segment.payload, segment.wire_len),
        Packet::Fragment(fragment) => {
            assert!(fragment.offset.is_multiple_of(8) && fragment.offset <= 65_528);
            assert_eq!((fragment.source.port(), fragment.destination.port()), (0, 0));
            if let Some(datagram) = fragment.beginning() {
                assert!(fragment.offset == 0 && datagram.wire_len >= datagram.payload.len());
                place(fragment.payload, datagram.payload);
            }
            (fragment.payload, fragment.wire_len)
        }
        Packet::OtherIp | Packet::NotIp | Packet::Unreadable => return,
    };
    assert!(packet::is_supported(link));
    place(frame, payload);
    assert!(payload.len() <= wire_len && wire_len <= usize::from(u16::MAX).max(frame.len()));
}
