//! The Network Service Header, which routes frames through a chain of services: RFC 8300, 2.
//!
//! ```text
//! version (2 bits)  O  U  TTL (6 bits)  length in words (6 bits)  metadata type (1)
//! next protocol (1)  path (3)  index (1)  [metadata]
//! ```

use super::{Layer, tunnels::ETHERTYPE_MPLS};

pub(super) const ETHERTYPE: u16 = 0x894f;

/// The packet behind the header.
pub(super) fn inner(packet: &[u8]) -> Option<Layer<'_>> {
    const MIN_LEN: usize = 8;
    let [first, second, _, next, ..] = *packet.first_chunk::<MIN_LEN>()?;
    let len = usize::from(second & 0x3f).saturating_mul(4);
    if first >> 6 != 0 || len < MIN_LEN {
        return None;
    }
    let inner = packet.get(len..)?;
    Some(match next {
        1 | 2 => Layer::Ip(inner),
        3 => Layer::Ethernet(inner),
        4 => Layer::EtherType(ETHERTYPE, inner),
        5 => Layer::EtherType(ETHERTYPE_MPLS, inner),
        _ => Layer::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &[u8] = &[0x45, 0, 0, 20];

    fn of(words: u8, next: u8) -> Vec<u8> {
        let mut bytes = vec![0x0f, 0xc0 | words, 0x01, next, 0, 0, 7, 255];
        bytes.resize(usize::from(words) * 4, 9);
        [&bytes, IP].concat()
    }

    #[test]
    fn the_header_says_how_long_it_is_and_what_follows() {
        for (words, next, want) in [
            (6, 1, Layer::Ip(IP)),
            (2, 2, Layer::Ip(IP)),
            (3, 3, Layer::Ethernet(IP)),
            (2, 4, Layer::EtherType(ETHERTYPE, IP)),
            (2, 5, Layer::EtherType(ETHERTYPE_MPLS, IP)),
            (2, 0xfe, Layer::Other),
        ] {
            assert_eq!(inner(&of(words, next)), Some(want), "{next}");
        }
    }

    #[test]
    fn headers_that_are_none() {
        assert_eq!(inner(&of(2, 1)[..7]), None, "cut");
        assert_eq!(inner(&[0x40, 2, 1, 1, 0, 0, 7, 255]), None, "version 1");
        assert_eq!(
            inner(&[0x0f, 0xc1, 1, 1, 0, 0, 7, 255]),
            None,
            "shorter than itself"
        );
        assert_eq!(
            inner(&[0x0f, 0xc3, 1, 1, 0, 0, 7, 255]),
            None,
            "longer than the packet"
        );
    }
}
