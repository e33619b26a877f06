//! Media in the frames that most captures consist of, recognised without decoding them.

use shared::pcap::LinkType;

use super::{Datagram, Endpoint, Network, be16, tunnels};

const IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_UDP: u8 = 17;
const IPV4_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;

/// The endpoints of a media packet as they are on the wire.
///
/// Only the ports are left to check: some belong to tunnels. The indexer does that once for each
/// flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlainMedia {
    /// The source address and the destination address.
    addresses: [u8; 8],
    /// The source port and the destination port.
    ports: [u8; 4],
    /// The offset of the UDP payload in the frame.
    payload_at: u8,
}

impl PlainMedia {
    /// The media packet in a frame of link type `link`: UDP over IPv4 without options or
    /// fragments, captured whole, whose lengths agree, and whose first byte of payload begins
    /// neither SIP nor HEP, but may begin RTP or RTCP.
    #[must_use]
    #[inline]
    pub fn of(link: LinkType, frame: &[u8]) -> Option<Self> {
        let (type_at, ip_at) = match link {
            LinkType::ETHERNET => (12usize, 14u8),
            LinkType::LINUX_SLL => (14, 16),
            LinkType::LINUX_SLL2 => (0, 20),
            _ => return None,
        };
        let packet = frame.get(usize::from(ip_at)..)?;
        let [
            0x45,
            _,
            t0,
            t1,
            _,
            _,
            f0,
            f1,
            _,
            PROTOCOL_UDP,
            _,
            _,
            rest @ ..,
        ] = packet.first_chunk::<{ IPV4_HEADER_LEN + UDP_HEADER_LEN + 1 }>()?
        else {
            return None;
        };
        let [s0, s1, s2, s3, d0, d1, d2, d3, rest @ ..] = *rest;
        let [p0, p1, p2, p3, u0, u1, _, _, first] = rest;
        let total_len = usize::from(be16([*t0, *t1]));
        let udp_len = usize::from(be16([u0, u1]));
        let is_plain = (frame.get(type_at..)?.first_chunk() == Some(&IPV4))
            & (be16([f0 & 0x3f, *f1]) == 0)
            & (first >= 0x80)
            & (udp_len > UDP_HEADER_LEN)
            & (udp_len.saturating_add(IPV4_HEADER_LEN) == total_len)
            & (total_len <= packet.len());
        is_plain.then_some(Self {
            addresses: [s0, s1, s2, s3, d0, d1, d2, d3],
            ports: [p0, p1, p2, p3],
            payload_at: ip_at.saturating_add((IPV4_HEADER_LEN + UDP_HEADER_LEN) as u8),
        })
    }

    /// The offset of the UDP payload in the frame.
    #[must_use]
    #[inline]
    pub fn payload_at(&self) -> u8 {
        self.payload_at
    }

    /// The words to be hashed.
    #[must_use]
    #[inline]
    pub fn bits(&self) -> (u64, u32) {
        (
            u64::from_ne_bytes(self.addresses),
            u32::from_ne_bytes(self.ports),
        )
    }

    /// Returns true if the frame was decoded to this datagram, and each later frame with the same
    /// endpoints will be: no tunnel uses the ports.
    #[must_use]
    pub fn is(&self, datagram: &Datagram<'_>) -> bool {
        let [s0, s1, s2, s3, d0, d1, d2, d3] = self.addresses;
        let [p0, p1, p2, p3] = self.ports;
        let (from, to) = (be16([p0, p1]), be16([p2, p3]));
        datagram.network == Network::PLAIN
            && datagram.source == Endpoint::v4([s0, s1, s2, s3], from)
            && datagram.destination == Endpoint::v4([d0, d1, d2, d3], to)
            && !tunnels::may_be_tunnel(from, to)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::{Decoder, Packet};

    fn frame(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(4000, port)
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    #[test]
    fn media_is_recognised_and_nothing_else() {
        let rtp = frame(4002, &[0x80; 40]);
        let plain = PlainMedia::of(LinkType::ETHERNET, &rtp).unwrap();
        assert_eq!(plain.payload_at(), 42);
        assert_eq!(PlainMedia::of(LinkType::RAW, &rtp), None);
        for (what, frame) in [
            ("SIP", frame(4002, b"INVITE sip:a SIP/2.0\r\n")),
            ("STUN", frame(4002, &[0, 1, 0, 0])),
            ("no payload", frame(4002, &[])),
            ("cut", rtp[..60].to_vec()),
        ] {
            assert_eq!(PlainMedia::of(LinkType::ETHERNET, &frame), None, "{what}");
        }
        let mut padded = rtp.clone();
        padded.extend([0; 6]);
        assert_eq!(PlainMedia::of(LinkType::ETHERNET, &padded), Some(plain));
        for (at, value, what) in [
            (14, 0x46, "options"),
            (20, 0x20, "a first fragment"),
            (21, 1, "a later fragment"),
            (23, 6, "TCP"),
            (12, 0x86, "another protocol"),
            (39, 200, "a length of UDP that cannot be"),
        ] {
            let mut changed = rtp.clone();
            changed[at] = value;
            assert_eq!(PlainMedia::of(LinkType::ETHERNET, &changed), None, "{what}");
        }
    }

    #[test]
    fn a_port_of_a_tunnel_is_not_passed() {
        for (port, is_plain) in [(4002, true), (4789, false)] {
            let frame = frame(port, &[0x80; 40]);
            let plain = PlainMedia::of(LinkType::ETHERNET, &frame).unwrap();
            let Packet::Udp(datagram) = Decoder::default().decode(LinkType::ETHERNET, &frame)
            else {
                panic!("no datagram");
            };
            assert_eq!(plain.is(&datagram), is_plain, "{port}");
        }
    }

    proptest! {
        /// Once the endpoints of a flow are learned, the decoder gives each plain frame of the flow
        /// the same payload. The bytes behind the datagram are padding.
        #[test]
        fn agrees_with_the_decoder(
            payload in proptest::collection::vec(any::<u8>(), 0..60),
            lengths in proptest::option::of((0u16..100, 0u16..100)),
            at in 12usize..44, value in any::<u8>(),
            padding in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..90,
        ) {
            let learned = PlainMedia::of(LinkType::ETHERNET, &frame(4002, &[0x80; 40]));
            let mut frame = frame(4002, &payload);
            if let Some((total_len, udp_len)) = lengths {
                let total_len = if total_len < 50 { udp_len + 20 } else { total_len };
                frame[16..18].copy_from_slice(&total_len.to_be_bytes());
                frame[38..40].copy_from_slice(&udp_len.to_be_bytes());
            } else if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            frame.extend(padding);
            frame.truncate(frame.len() - cut.saturating_sub(70).min(frame.len()));
            if let Some(plain) = PlainMedia::of(LinkType::ETHERNET, &frame)
                && Some(plain) == learned
            {
                let decoded = Decoder::default().decode(LinkType::ETHERNET, &frame);
                let Packet::Udp(datagram) = decoded else {
                    return Err(TestCaseError::fail("no datagram"));
                };
                prop_assert!(plain.is(&datagram));
                let end = 42 + datagram.wire_len;
                prop_assert_eq!(datagram.payload, &frame[usize::from(plain.payload_at())..end]);
            }
        }
    }
}
