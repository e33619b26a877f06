//! PKTAP, Apple's header in captures of all interfaces: `struct pktap_header` of XNU's net/pktap.h,
//! little-endian.
//!
//! ```text
//! header length (4)  type: nothing or a packet follows (4)  link type of the packet (4)
//! name of the interface, and more
//! ```

use shared::pcap::LinkType;

use super::{Layer, link};

/// The frame behind the header.
pub(super) fn frame(frame: &[u8]) -> Option<Layer<'_>> {
    const PACKET: u32 = 1;
    const MIN_LEN: usize = 12;
    let word = |at: usize| Some(u32::from_le_bytes(*frame.get(at..)?.first_chunk()?));
    let header_len = usize::try_from(word(0)?)
        .ok()
        .filter(|len| *len >= MIN_LEN)?;
    if word(4)? != PACKET {
        return Some(Layer::Other);
    }
    link::wrapped(
        LinkType(u16::try_from(word(8)?).ok()?),
        frame.get(header_len..)?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &[u8] = &[0x45, 0, 0, 20];

    fn of(next: u8, link: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        (bytes[0], bytes[4], bytes[8]) = (len as u8, next, link);
        bytes[12..15].copy_from_slice(b"en0");
        [&bytes, IP].concat()
    }

    #[test]
    fn the_header_says_how_long_it_is_and_what_follows() {
        assert_eq!(frame(&of(1, 1, 108)), Some(Layer::Ethernet(IP)));
        assert_eq!(frame(&of(1, 12, 156)), Some(Layer::Ip(IP)));
        assert_eq!(frame(&of(0, 1, 108)), Some(Layer::Other), "no packet");
        assert_eq!(frame(&of(1, 147, 108)), Some(Layer::OtherKind));
    }

    #[test]
    fn headers_that_are_none() {
        let mut short = of(1, 1, 108);
        short[0] = 11;
        assert_eq!(frame(&short), None);
        short[3] = 0xff;
        assert_eq!(frame(&short), None, "longer than the frame");
        assert_eq!(frame(&of(1, 192, 108)), None, "another header of its kind");
        assert_eq!(frame(&[108, 0, 0, 0, 1, 0, 0, 0, 1]), None, "cut");
    }
}
