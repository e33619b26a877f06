//! Frame Relay: an address (ITU-T Q.922, 3.3), followed by RFC 2427 or Cisco's encapsulation.

use super::{Layer, be16};

/// The packet in a frame.
pub(super) fn frame(frame: &[u8]) -> Option<Layer<'_>> {
    const UNNUMBERED: u8 = 0x03;
    match *behind_address(frame)? {
        [UNNUMBERED, ref rest @ ..] => network_layer(rest.strip_prefix(&[0]).unwrap_or(rest)),
        // Cisco's encapsulation has the ether type here.
        [t0, t1, ref payload @ ..] => Some(Layer::EtherType(be16([t0, t1]), payload)),
        _ => None,
    }
}

/// The address has two to four bytes; the lowest bit of the last one is set.
fn behind_address(frame: &[u8]) -> Option<&[u8]> {
    const IS_LAST: u8 = 0x01;
    let last = frame
        .iter()
        .take(4)
        .position(|byte| byte & IS_LAST != 0)
        .filter(|last| *last > 0)?;
    frame.get(last.saturating_add(1)..)
}

/// RFC 2427, 4: the protocol by its NLPID (ISO/IEC TR 9577). 0xcf is PPP (RFC 1973, 3.1).
fn network_layer(packet: &[u8]) -> Option<Layer<'_>> {
    match *packet {
        [0xcc | 0x8e, ref payload @ ..] => Some(Layer::Ip(payload)),
        [0xcf, ref payload @ ..] => Some(Layer::Ppp(payload)),
        [0x80, 0, 0, 0, t0, t1, ref payload @ ..] => {
            Some(Layer::EtherType(be16([t0, t1]), payload))
        }
        // Bridged Ethernet with its checksum, and without: RFC 2427, 4.2.
        [0x80, 0, 0x80, 0xc2, 0, 1 | 7, ref payload @ ..] => Some(Layer::Ethernet(payload)),
        [] => None,
        _ => Some(Layer::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &[u8] = &[0x45, 0, 0, 20];

    fn of(header: &[u8]) -> Vec<u8> {
        [header, IP].concat()
    }

    #[test]
    fn addresses_of_two_to_four_bytes() {
        for address in [
            &[0x18, 0x41][..],
            &[0x18, 0x40, 0x03],
            &[0x18, 0x40, 0x02, 0x05],
        ] {
            assert_eq!(
                frame(&of(&[address, &[3, 0xcc]].concat())),
                Some(Layer::Ip(IP)),
                "{address:?}"
            );
        }
        assert_eq!(frame(&of(&[0x19, 0x41, 3, 0xcc])), None, "one byte");
        assert_eq!(
            frame(&of(&[0x18, 0x40, 0x02, 0x04, 0x05, 3, 0xcc])),
            None,
            "five bytes"
        );
    }

    #[test]
    fn protocols_by_nlpid_snap_and_ether_type() {
        for (header, want) in [
            (&[3, 0x8e][..], Layer::Ip(IP)),
            (&[3, 0, 0xcc], Layer::Ip(IP)),
            (&[3, 0xcf], Layer::Ppp(IP)),
            (&[3, 0, 0x80, 0, 0, 0, 8, 0], Layer::EtherType(0x0800, IP)),
            (&[3, 0x80, 0, 0, 0, 8, 0], Layer::EtherType(0x0800, IP)),
            (&[3, 0, 0x80, 0, 0x80, 0xc2, 0, 7], Layer::Ethernet(IP)),
            (&[3, 0, 0x80, 0, 0x80, 0xc2, 0, 0x0e], Layer::Other),
            (&[3, 0x08], Layer::Other),
            (&[8, 0], Layer::EtherType(0x0800, IP)),
        ] {
            assert_eq!(
                frame(&of(&[&[0x18, 0x41], header].concat())),
                Some(want),
                "{header:?}"
            );
        }
        assert_eq!(frame(&[0x18, 0x41, 3]), None);
    }
}
