//! The network that a packet came through: several networks may use the same addresses.

use etherparse::SingleVlanHeaderSlice;
use serde::{Deserialize, Serialize};

use super::{Datagram, Layer, be16, tunnels};

/// The identifiers on the path to the innermost IP packet, outermost first: VLANs (IEEE 802.1Q),
/// service instances (IEEE 802.1ah), MPLS labels, GRE keys, network identifiers of VXLAN and
/// Geneve, tunnel endpoint identifiers of GTP-U.
///
/// They are stored as one number: 0 for none, a hash for any others. Two networks with the same
/// hash (one pair in four billion) count as one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Network(u32);

/// The kind of an identifier. Equal numbers of two kinds are two networks.
#[derive(Clone, Copy)]
#[repr(u8)]
enum NetworkKind {
    Vlan = 1,
    Instance,
    Mpls,
    Gre,
    Vxlan,
    Geneve,
    Gtp,
}

impl Network {
    /// The network of packets without any identifier.
    pub const PLAIN: Self = Self(0);

    /// The number, for hashing.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The network with a number from [`Self::bits`].
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The network behind a VLAN tag (IEEE 802.1Q, 9.6). VLAN 0 only carries a priority.
    #[inline]
    pub(super) fn vlan(self, tag: [u8; 2]) -> Self {
        self.inside_vlan(be16(tag) & 0x0fff)
    }

    #[inline]
    fn inside_vlan(self, vlan: u16) -> Self {
        if vlan == 0 {
            self
        } else {
            self.inside(NetworkKind::Vlan, vlan.into())
        }
    }

    /// The network inside a layer below IP.
    #[inline]
    pub(super) fn below_ip(self, layer: &Layer<'_>) -> Self {
        let Layer::EtherType(ether_type, header) = *layer else {
            return self;
        };
        self.behind(ether_type, header).unwrap_or(self)
    }

    /// The network behind an identifier that follows an ether type.
    fn behind(self, ether_type: u16, header: &[u8]) -> Option<Self> {
        Some(match ether_type {
            tunnels::ETHERTYPE_VLAN | tunnels::ETHERTYPE_QINQ | tunnels::ETHERTYPE_QINQ_OLD => {
                let tag = SingleVlanHeaderSlice::from_slice(header).ok()?;
                self.inside_vlan(tag.vlan_identifier().value())
            }
            tunnels::ETHERTYPE_BACKBONE => {
                self.inside(NetworkKind::Instance, be32(header)? & 0x00ff_ffff)
            }
            tunnels::ETHERTYPE_MPLS | tunnels::ETHERTYPE_MPLS_UPSTREAM => self.mpls(header),
            _ => return None,
        })
    }

    /// The labels of a stack (RFC 3032, 2.1), without traffic class and TTL.
    fn mpls(self, stack: &[u8]) -> Self {
        const BOTTOM: u32 = 0x0100;
        let mut network = self;
        for entry in stack.chunks_exact(4) {
            let entry = be32(entry).unwrap_or(BOTTOM);
            network = network.inside(NetworkKind::Mpls, entry >> 12);
            if entry & BOTTOM != 0 {
                break;
            }
        }
        network
    }

    /// The network inside a tunnel directly above IP.
    pub(super) fn in_ip(self, protocol: u8, payload: &[u8]) -> Self {
        let key = if protocol == tunnels::PROTOCOL_GRE {
            tunnels::gre_key(payload)
        } else {
            None
        };
        key.map_or(self, |key| self.inside(NetworkKind::Gre, key))
    }

    /// The network inside a tunnel in a UDP datagram.
    pub(super) fn in_udp(self, datagram: &Datagram<'_>) -> Self {
        self.of_tunnel(datagram).unwrap_or(self)
    }

    fn of_tunnel(self, datagram: &Datagram<'_>) -> Option<Self> {
        let word = |at: usize| be32(datagram.payload.get(at..)?);
        Some(match datagram.destination.port() {
            tunnels::VXLAN | tunnels::VXLAN_LINUX | tunnels::VXLAN_GPE => {
                self.inside(NetworkKind::Vxlan, word(4)? >> 8)
            }
            tunnels::GENEVE => self.inside(NetworkKind::Geneve, word(4)? >> 8),
            tunnels::GTP_U => self.inside(NetworkKind::Gtp, word(4)?),
            _ => return None,
        })
    }

    /// Multiplicative hashing; the constants are the fractions of the golden ratio and of the
    /// square root of 3.
    #[inline]
    fn inside(self, kind: NetworkKind, identifier: u32) -> Self {
        let outer = u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (outer ^ (kind as u64) << 32 ^ u64::from(identifier))
            .wrapping_mul(0xbb67_ae85_84ca_a73b);
        Self(((mixed >> 32) as u32).max(1))
    }
}

fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Endpoint;

    fn below_ip(ether_type: u16, header: &[u8]) -> Network {
        Network::PLAIN.below_ip(&Layer::EtherType(ether_type, header))
    }

    #[test]
    fn identifiers_of_each_kind_make_networks_of_their_own() {
        let datagram = |port, payload| {
            let end = |port| Endpoint::v4([192, 0, 2, 1], port);
            Datagram {
                network: Network::PLAIN,
                source: end(1),
                destination: end(port),
                payload,
                wire_len: payload.len(),
            }
        };
        let in_udp = |port, payload| Network::PLAIN.in_udp(&datagram(port, payload));
        let networks = [
            Network::PLAIN,
            below_ip(0x8100, &[0, 10, 8, 0]),
            below_ip(0x8100, &[0, 20, 8, 0]),
            below_ip(0x8100, &[0, 10, 8, 0]).vlan([0, 20]),
            below_ip(0x8100, &[0, 20, 8, 0]).vlan([0, 10]),
            below_ip(0x88e7, &[0, 0, 0, 10]),
            below_ip(0x8847, &[0, 0, 0xa0, 64, 0, 1, 0x41, 64]),
            below_ip(0x8847, &[0, 0, 0xa1, 64]),
            Network::PLAIN.in_ip(47, &[0x20, 0, 8, 0, 0, 0, 0, 10]),
            in_udp(4789, &[8, 0, 0, 0, 0, 0, 10, 0]),
            in_udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 10, 0]),
            in_udp(2152, &[0x30, 0xff, 0, 0, 0, 0, 0, 10]),
        ];
        let distinct: std::collections::BTreeSet<_> = networks.iter().collect();
        assert_eq!(distinct.len(), networks.len(), "{networks:?}");
    }

    #[test]
    fn priority_class_and_time_to_live_make_no_difference() {
        assert_eq!(
            below_ip(0x8100, &[0xe0, 10, 8, 0]),
            below_ip(0x88a8, &[0, 10, 8, 0])
        );
        assert_eq!(
            below_ip(0x8100, &[0xe0, 10, 8, 0]),
            Network::PLAIN.vlan([0, 10]),
            "as on the fast path"
        );
        assert_eq!(below_ip(0x8100, &[0xe0, 0, 8, 0]), Network::PLAIN);
        assert_eq!(
            below_ip(0x8847, &[0, 0, 0xa1, 64]),
            below_ip(0x8848, &[0, 0, 0xab, 3, 9, 9, 9, 9])
        );
        assert_eq!(
            Network::PLAIN.in_ip(47, &[0, 0, 8, 0]),
            Network::PLAIN,
            "no key"
        );
        assert_eq!(below_ip(0x8100, &[0, 7, 8]), Network::PLAIN, "cut");
    }
}
