//! NFLOG: packets that Linux's firewall logs, as netlink delivers them
//! (linux/netfilter/nfnetlink_log.h).
//!
//! ```text
//! address family (1)  version 0 (1)  resource id (2)
//! then attributes: length, these four bytes included (2)  type (2)  value
//! ```
//!
//! Attributes are in the byte order of the capturing machine, and each begins at a multiple of
//! four.

use super::{Layer, be16};

/// Attribute types.
mod attribute {
    pub(super) const PACKET_HEADER: u16 = 1;
    pub(super) const PAYLOAD: u16 = 9;
    /// The highest attribute number. In the wrong byte order every number is higher.
    pub(super) const MAX: u16 = 255;
}

const HEADER_LEN: usize = 4;

/// The logged packet.
pub(super) fn packet(frame: &[u8]) -> Option<Layer<'_>> {
    const IPV4: u8 = 2;
    const IPV6: u8 = 10;
    let [family, 0, _, _] = *frame.first_chunk::<HEADER_LEN>()? else {
        return None;
    };
    let attributes = || Attributes::of(frame.get(HEADER_LEN..)?);
    let find = |wanted| {
        attributes()?
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let Some(payload) = find(attribute::PAYLOAD) else {
        return Some(Layer::Other);
    };
    if matches!(family, IPV4 | IPV6) {
        return Some(Layer::Ip(payload));
    }
    // Bridges, ARP and the like have the ether type at the start of another attribute.
    let ether_type = find(attribute::PACKET_HEADER)
        .and_then(<[u8]>::first_chunk)
        .map(|ether_type| be16(*ether_type));
    Some(ether_type.map_or(Layer::Other, |ether_type| {
        Layer::EtherType(ether_type, payload)
    }))
}

/// The captured attributes; the last one may be cut.
struct Attributes<'a> {
    rest: &'a [u8],
    read: fn([u8; 2]) -> u16,
}

impl<'a> Attributes<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let [_, _, t0, t1] = *bytes.first_chunk::<HEADER_LEN>()?;
        let is_little = u16::from_le_bytes([t0, t1]) <= attribute::MAX;
        Some(Self {
            rest: bytes,
            read: if is_little {
                u16::from_le_bytes
            } else {
                u16::from_be_bytes
            },
        })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, t0, t1] = *self.rest.first_chunk::<HEADER_LEN>()?;
        let len = usize::from((self.read)([l0, l1])).max(HEADER_LEN);
        let value = self
            .rest
            .get(..len)
            .unwrap_or(self.rest)
            .get(HEADER_LEN..)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(((self.read)([t0, t1]), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &[u8] = &[0x45, 0, 0, 21, 7];

    fn of(family: u8, attributes: &[(u16, &[u8])], write: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mut frame = vec![family, 0, 0, 5];
        for (kind, value) in attributes {
            frame.extend([write(value.len() as u16 + 4), write(*kind)].concat());
            frame.extend(*value);
            frame.resize(frame.len().next_multiple_of(4), 0);
        }
        frame
    }

    #[test]
    fn the_packet_is_one_of_the_attributes_in_either_byte_order() {
        for write in [u16::to_le_bytes, u16::to_be_bytes] {
            let logged = of(
                2,
                &[
                    (1, &[8, 0, 1, 0]),
                    (10, b"call\0"),
                    (9, IP),
                    (5, &[0, 0, 0, 2]),
                ],
                write,
            );
            assert_eq!(packet(&logged), Some(Layer::Ip(IP)));
            let bridged = of(7, &[(1, &[8, 6, 1, 0]), (9, IP)], write);
            assert_eq!(packet(&bridged), Some(Layer::EtherType(0x0806, IP)));
        }
        let cut = of(2, &[(1, &[8, 0, 1, 0]), (9, IP)], u16::to_le_bytes);
        assert_eq!(packet(&cut[..18]), Some(Layer::Ip(&IP[..2])));
    }

    #[test]
    fn without_a_packet_there_is_none() {
        assert_eq!(
            packet(&of(2, &[(1, &[8, 0, 1, 0])], u16::to_le_bytes)),
            Some(Layer::Other)
        );
        assert_eq!(
            packet(&of(7, &[(9, IP)], u16::to_le_bytes)),
            Some(Layer::Other)
        );
        assert_eq!(packet(&[2, 1, 0, 0, 9, 0, 9, 0]), None, "version 1");
        assert_eq!(packet(&[2, 0, 0]), None);
    }
}
