//! The capture filter: the user's, or a default that keeps every packet of a call.
//!
//! A filter by ports loses packets of calls: fragments after the first have no ports, and inside a
//! VLAN or a tunnel the ports are elsewhere. So the default captures all UDP (media use any port,
//! and most tunnels are UDP), TCP on the SIP ports, every later fragment, and the packets that a
//! filter cannot look into: IPv6 with extension headers, and other tunnels.
//!
//! Mind two things when you change it: `vlan` shifts all offsets after it in the expression, so
//! terms for untagged frames come first; and `protochain` cannot run in the kernel.

use shared::{pcap::LinkType, units::SipPorts};

/// How many VLAN tags the filter looks behind: 802.1Q, and 802.1ad around it (QinQ).
const VLAN_TAGS: usize = 2;

/// Protocol numbers of tunnels: IP-in-IP, 6in4, GRE, and the authentication header.
const TUNNELS: [u8; 4] = [4, 41, 47, 51];

/// Protocol numbers of IPv6 extension headers that may stand before UDP and TCP: hop-by-hop
/// options, routing, fragment, destination options.
const EXTENSION_HEADERS: [u8; 4] = [0, 43, 44, 60];

/// The choice of packets to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// The packets that match this expression.
    Given(String),
    /// All packets of the calls whose SIP uses these ports.
    Calls(SipPorts),
}

impl Filter {
    /// Returns the expression for this link type, in the language of pcap-filter(7).
    pub(crate) fn expression(&self, link: LinkType) -> String {
        match self {
            Self::Given(expression) => expression.clone(),
            Self::Calls(ports) => behind_vlan_tags(
                &of_calls(*ports),
                if has_vlans(link) { VLAN_TAGS } else { 0 },
            ),
        }
    }
}

/// True if libpcap knows `vlan` for this link type. It does not for Linux cooked captures, where
/// the kernel has removed the outer tag.
fn has_vlans(link: LinkType) -> bool {
    link == LinkType::ETHERNET
}

fn of_calls(ports: SipPorts) -> String {
    let tcp = match ports {
        SipPorts::Any => "tcp".to_owned(),
        SipPorts::Range(first, last) if first == last => format!("tcp port {first}"),
        SipPorts::Range(first, last) => format!("tcp portrange {first}-{last}"),
    };
    let tunnels = TUNNELS.map(|protocol| format!("ip proto {protocol} or ip6 proto {protocol}"));
    let extension_headers = EXTENSION_HEADERS.map(|header| format!("ip6 proto {header}"));
    let others = [extension_headers, tunnels].concat().join(" or ");
    format!("udp or {tcp} or (ip[6:2] & 0x1fff != 0) or {others}")
}

/// Repeats the expression without a tag, behind one tag, behind two.
fn behind_vlan_tags(expression: &str, tags: usize) -> String {
    (0..tags).fold(expression.to_owned(), |inner, _| {
        format!("{expression} or (vlan and ({inner}))")
    })
}

#[cfg(test)]
mod tests {
    use pcap::{BpfProgram, Capture, Linktype};

    use super::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

    fn compiled(link: LinkType, ports: &str) -> BpfProgram {
        let expression = Filter::Calls(ports.parse().unwrap()).expression(link);
        let dead = Capture::dead(Linktype(i32::from(link.0))).unwrap();
        dead.compile(&expression, true)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn ethernet(types: &[u16], packet: &[u8]) -> Vec<u8> {
        let mut frame = MACS.to_vec();
        for (index, ether_type) in types.iter().enumerate() {
            frame.extend(ether_type.to_be_bytes());
            // The tag's VLAN.
            frame.extend(if index + 1 < types.len() {
                &[0, 100][..]
            } else {
                &[]
            });
        }
        [frame, packet.to_vec()].concat()
    }

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(20 + payload.len()).unwrap();
        let [f0, f1] = fragment.to_be_bytes();
        let [l0, l1] = len.to_be_bytes();
        [
            &[
                0x45, 0, l0, l1, 0, 7, f0, f1, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
            ][..],
            payload,
        ]
        .concat()
    }

    fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).unwrap();
        [
            &[0x60, 0, 0, 0, 0, len, next_header, 64][..],
            &[0x20; 32],
            payload,
        ]
        .concat()
    }

    fn ports(source: u16, destination: u16) -> Vec<u8> {
        [
            source.to_be_bytes().as_slice(),
            &destination.to_be_bytes(),
            &[0; 16],
        ]
        .concat()
    }

    /// An EtherType and what follows it.
    type Typed = (u16, Vec<u8>);

    /// Returns packets that may belong to a call with SIP on 5060 and 5061, and other packets.
    fn packets() -> (Vec<Typed>, Vec<Typed>) {
        const V4: u16 = 0x0800;
        const V6: u16 = 0x86dd;
        let wanted = vec![
            (V4, ipv4(17, 0, &ports(40_000, 30_000))),
            (V6, ipv6(17, &ports(40_000, 30_000))),
            (V4, ipv4(6, 0, &ports(40_000, 5061))),
            (V6, ipv6(6, &ports(5060, 40_000))),
            (V4, ipv4(17, 0x2000, &ports(5060, 5060))),
            (V4, ipv4(17, 185, &[0; 24])),
            (V4, ipv4(6, 0x2000 | 185, &[0; 24])),
            (V6, ipv6(44, &[17, 0, 0, 8, 0, 0, 0, 1])),
            (V6, ipv6(0, &[17, 0, 0, 0, 0, 0, 0, 0])),
            (V6, ipv6(60, &[17, 0, 0, 0, 0, 0, 0, 0])),
            (V4, ipv4(4, 0, &ipv4(17, 0, &ports(1, 2)))),
            (V4, ipv4(41, 0, &ipv6(17, &ports(1, 2)))),
            (V6, ipv6(4, &ipv4(17, 0, &ports(1, 2)))),
            (V4, ipv4(47, 0, &[0, 0, 8, 0])),
            (V6, ipv6(47, &[0, 0, 8, 0])),
            (V4, ipv4(51, 0, &[17, 4, 0, 0])),
        ];
        let unwanted = vec![
            (V4, ipv4(6, 0, &ports(40_000, 443))),
            (V6, ipv6(6, &ports(40_000, 443))),
            (V4, ipv4(1, 0, &[8, 0, 0, 0])),
            (V6, ipv6(58, &[128, 0, 0, 0])),
            (0x0806, vec![0; 28]),
        ];
        (wanted, unwanted)
    }

    #[test]
    fn all_of_a_call_is_captured_tagged_or_not() {
        let program = compiled(LinkType::ETHERNET, "5060-5061");
        let (wanted, unwanted) = packets();
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100, 0x8100]] {
            for (ether_type, packet) in &wanted {
                let types = [tags, &[*ether_type]].concat();
                assert!(
                    program.filter(&ethernet(&types, packet)),
                    "{types:x?} {packet:x?}"
                );
            }
            for (ether_type, packet) in &unwanted {
                let types = [tags, &[*ether_type]].concat();
                assert!(
                    !program.filter(&ethernet(&types, packet)),
                    "{types:x?} {packet:x?}"
                );
            }
        }
    }

    #[test]
    fn link_types_without_vlans_have_a_filter_too() {
        let (wanted, unwanted) = packets();
        for (link, header_len) in [
            (LinkType::LINUX_SLL, 16),
            (LinkType::LINUX_SLL2, 20),
            (LinkType::RAW_BSD, 0),
        ] {
            let program = compiled(link, "5060-5061");
            let frame = |ether_type: u16, packet: &[u8]| {
                let mut header = vec![0; header_len];
                let at = if link == LinkType::LINUX_SLL2 { 0 } else { 14 };
                if let Some(field) = header.get_mut(at..at + 2) {
                    field.copy_from_slice(&ether_type.to_be_bytes());
                }
                [header, packet.to_vec()].concat()
            };
            assert!(
                wanted
                    .iter()
                    .all(|(ether_type, packet)| program.filter(&frame(*ether_type, packet))),
                "{link}"
            );
            // ARP has no frame in raw IP.
            let others = unwanted
                .iter()
                .filter(|(ether_type, _)| *ether_type != 0x0806);
            assert!(
                others
                    .clone()
                    .all(|(ether_type, packet)| !program.filter(&frame(*ether_type, packet))),
                "{link}"
            );
        }
    }

    #[test]
    fn any_port_means_all_tcp() {
        let frame = ethernet(&[0x0800], &ipv4(6, 0, &ports(40_000, 443)));
        assert!(compiled(LinkType::ETHERNET, "any").filter(&frame));
        assert!(!compiled(LinkType::ETHERNET, "5060").filter(&frame));
    }

    #[test]
    fn a_filter_of_the_user_is_not_changed() {
        assert_eq!(
            Filter::Given("udp port 5060".to_owned()).expression(LinkType::ETHERNET),
            "udp port 5060"
        );
    }
}
