//! IPv4 and IPv6, with the extension headers up to the payload.
//!
//! This module parses header by header through the slices of etherparse, not packet by packet,
//! because calls depend on fragments. Etherparse's slices of whole packets look for extension
//! headers in later fragments, too, which hold payload there, so such datagrams never become whole.
//! They stop at three VLAN tags. And a reassembled datagram has a chain of headers without a packet
//! around it. A property test in `decode` compares this module with them where both apply.

use etherparse::{
    Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
};

use super::{Endpoint, be16};

/// An IP packet or a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpPacket<'a> {
    /// Source and destination; the ports are 0.
    pub(super) ends: (Endpoint, Endpoint),
    /// The payload of the packet.
    pub(super) body: IpPayload<'a>,
}

/// The payload of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpPayload<'a> {
    /// The protocol of the payload.
    pub(super) protocol: u8,
    /// The captured part of the payload.
    pub(super) payload: &'a [u8],
    /// The length of the payload on the wire, in bytes.
    pub(super) wire_len: usize,
    /// The position of the payload in the datagram, if it is a fragment.
    pub(super) part: Option<FragmentPosition>,
}

/// The place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentPosition {
    pub(super) identification: u32,
    pub(super) offset: usize,
    pub(super) more: bool,
}

/// The length that stands for the unknown length of a datagram of which only the first fragment is
/// there: more than any datagram has.
pub(super) const UNKNOWN_LEN: usize = 65_535;

/// Reads a packet of either version.
pub(super) fn read(packet: &[u8]) -> Option<IpPacket<'_>> {
    match packet.first()? >> 4 {
        4 => ipv4(packet),
        6 => ipv6(packet),
        _ => None,
    }
}

/// The extent of an IP packet, whatever it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent<'a> {
    /// The captured part of the packet, from its header on. Never shorter than the header without
    /// options.
    pub captured: &'a [u8],
    /// The length of the packet on the wire, in bytes. `None` where the header has no length,
    /// because the network card would have set it.
    pub declared_len: Option<usize>,
}

/// The whole packet of either version, without the padding or trailer of its frame.
///
/// The options of IPv4 may be cut, which etherparse refuses (`where_a_packet_ends`).
pub(super) fn extent(packet: &[u8]) -> Option<Extent<'_>> {
    let declared_len = match *packet {
        [0x45..=0x4f, _, l0, l1, ..] if packet.len() >= MIN_V4_HEADER_LEN => {
            Some(be16([l0, l1]).into())
        }
        [0x60..=0x6f, ..] => {
            let payload_len = v6_payload_len(&Ipv6HeaderSlice::from_slice(packet).ok()?);
            payload_len.map(|len| len.saturating_add(etherparse::Ipv6Header::LEN))
        }
        _ => return None,
    };
    let declared_len = declared_len.filter(|len| *len >= MIN_V4_HEADER_LEN);
    let captured = declared_len
        .and_then(|len| packet.get(..len))
        .unwrap_or(packet);
    Some(Extent {
        captured,
        declared_len,
    })
}

const MIN_V4_HEADER_LEN: usize = 20;

/// 0 stands for a jumbogram (RFC 2675), or for a length that the network card would have set.
fn v6_payload_len(header: &Ipv6HeaderSlice<'_>) -> Option<usize> {
    Some(usize::from(header.payload_length())).filter(|len| *len > 0)
}

/// RFC 791, 3.1.
fn ipv4(packet: &[u8]) -> Option<IpPacket<'_>> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let header_len = header.slice().len();
    // A length of 0 means that the network card would have set it.
    let declared = usize::from(header.total_len()).checked_sub(header_len);
    let body = IpPayload::new(header.protocol().0, packet.get(header_len..)?, declared);
    let offset = usize::from(header.fragments_offset().byte_offset());
    let part = FragmentPosition {
        identification: header.identification().into(),
        offset,
        more: header.more_fragments(),
    };
    Some(IpPacket {
        ends: (
            Endpoint::v4(header.source(), 0),
            Endpoint::v4(header.destination(), 0),
        ),
        body: if part.is_all() {
            body.behind_extensions()?
        } else {
            IpPayload {
                part: Some(part),
                ..body
            }
        },
    })
}

/// RFC 8200, 3.
fn ipv6(packet: &[u8]) -> Option<IpPacket<'_>> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let behind = packet.get(header.slice().len()..)?;
    Some(IpPacket {
        ends: (
            Endpoint::v6(header.source(), 0),
            Endpoint::v6(header.destination(), 0),
        ),
        body: IpPayload::new(header.next_header().0, behind, v6_payload_len(&header))
            .behind_extensions()?,
    })
}

impl FragmentPosition {
    /// Returns true if the fragment is the whole datagram: an atomic fragment (RFC 6946).
    fn is_all(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

impl<'a> IpPayload<'a> {
    /// Takes the captured payload without padding, and its length on the wire.
    fn new(protocol: u8, captured: &'a [u8], declared: Option<usize>) -> Self {
        let wire_len = declared.unwrap_or(captured.len());
        Self {
            protocol,
            payload: captured.get(..wire_len).unwrap_or(captured),
            wire_len,
            part: None,
        }
    }

    /// The body of a reassembled datagram, or of its first fragment.
    pub(super) fn put_together(protocol: u8, payload: &'a [u8], wire_len: usize) -> Option<Self> {
        Self {
            protocol,
            payload,
            wire_len,
            part: None,
        }
        .behind_extensions()
    }

    /// Removes extension headers: RFC 8200, 4; the authentication header (RFC 4302, 2) occurs in
    /// IPv4, too.
    ///
    /// It stops at a fragment header: only in the first fragment does the next header follow it. An
    /// authentication header may declare 8 bytes, less than etherparse accepts
    /// (`an_authentication_header_of_eight_bytes`).
    fn behind_extensions(mut self) -> Option<Self> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const AUTHENTICATION: u8 = 51;
        const DESTINATION: u8 = 60;
        while self.part.is_none() {
            match self.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => {
                    let header = Ipv6RawExtHeaderSlice::from_slice(self.payload).ok()?;
                    self = self.behind(header.next_header().0, header.slice().len())?;
                }
                AUTHENTICATION => {
                    let [next, len] = *self.payload.first_chunk()?;
                    self =
                        self.behind(next, usize::from(len).saturating_add(2).saturating_mul(4))?;
                }
                FRAGMENT => {
                    let header = Ipv6FragmentHeaderSlice::from_slice(self.payload).ok()?;
                    let offset = usize::from(header.fragment_offset().byte_offset());
                    let part = FragmentPosition {
                        identification: header.identification(),
                        offset,
                        more: header.more_fragments(),
                    };
                    self = self.behind(header.next_header().0, header.slice().len())?;
                    self.part = Some(part).filter(|part| !part.is_all());
                }
                _ => break,
            }
        }
        Some(self)
    }

    fn behind(self, protocol: u8, len: usize) -> Option<Self> {
        Some(Self {
            protocol,
            payload: self.payload.get(len..)?,
            wire_len: self.wire_len.checked_sub(len)?,
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(changes: &[(usize, u8)], body: &[u8]) -> Vec<u8> {
        let mut packet = vec![
            0x45,
            0,
            0,
            20 + body.len() as u8,
            0,
            9,
            0,
            0,
            64,
            17,
            0,
            0,
            192,
            0,
            2,
            1,
            192,
            0,
            2,
            2,
        ];
        changes.iter().for_each(|(at, value)| packet[*at] = *value);
        [&packet, body].concat()
    }

    fn v6(next: u8, body: &[u8]) -> Vec<u8> {
        [
            &[0x60, 0, 0, 0, 0, body.len() as u8, next, 64][..],
            &[1; 16],
            &[2; 16],
            body,
        ]
        .concat()
    }

    fn body(packet: &[u8]) -> Option<(u8, &[u8], usize)> {
        read(packet).map(|ip| (ip.body.protocol, ip.body.payload, ip.body.wire_len))
    }

    #[test]
    fn ipv4_with_options_padding_and_lengths_that_lie() {
        assert_eq!(body(&v4(&[], b"abc")), Some((17, &b"abc"[..], 3)));
        assert_eq!(
            body(&v4(&[(3, 22)], b"abc")),
            Some((17, &b"ab"[..], 2)),
            "padding"
        );
        assert_eq!(
            body(&v4(&[(3, 200)], b"abc")),
            Some((17, &b"abc"[..], 180)),
            "snapped"
        );
        assert_eq!(
            body(&v4(&[(3, 0)], b"abc")),
            Some((17, &b"abc"[..], 3)),
            "offloaded"
        );
        assert_eq!(
            body(&v4(&[(0, 0x46)], b"\x07\x04\x04\x00abc")),
            Some((17, &b"abc"[..], 3)),
            "record route"
        );
        assert_eq!(body(&v4(&[(0, 0x44)], b"abc")), None);
        assert_eq!(body(&v4(&[(0, 0x75)], b"abc")), None);
    }

    #[test]
    fn extension_headers_in_a_chain() {
        let chain = [
            &[43, 0, 1, 4, 0, 0, 0, 0][..],
            &[60, 2, 0, 0, 0, 0, 0, 0],
            &[3; 16],
            &[51, 0, 1, 4, 0, 0, 0, 0],
            &[
                17, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
            ],
            b"abc",
        ];
        assert_eq!(body(&v6(0, &chain.concat())), Some((17, &b"abc"[..], 3)));
        assert_eq!(body(&v6(0, &chain[..4].concat())), None, "cut inside");
        assert_eq!(
            body(&v4(&[(9, 51)], &chain[4..].concat())),
            Some((17, &b"abc"[..], 3))
        );
    }

    #[test]
    fn a_fragment_is_not_looked_into() {
        let ah_that_is_none = [17u8, 0, 0, 0, 0, 0, 0, 0];
        let packet = v4(&[(6, 0x20), (7, 5), (9, 51)], &ah_that_is_none);
        let part = FragmentPosition {
            identification: 9,
            offset: 40,
            more: true,
        };
        let want = IpPayload {
            protocol: 51,
            payload: &ah_that_is_none,
            wire_len: 8,
            part: Some(part),
        };
        assert_eq!(read(&packet).map(|ip| ip.body), Some(want));
        let packet = v6(44, &[60, 0, 0, 0x28, 0, 1, 0, 2, 17, 200, 0, 0]);
        let part = FragmentPosition {
            identification: 0x1_0002,
            offset: 40,
            more: false,
        };
        let want = IpPayload {
            protocol: 60,
            payload: &[17, 200, 0, 0],
            wire_len: 4,
            part: Some(part),
        };
        assert_eq!(read(&packet).map(|ip| ip.body), Some(want));
        let whole = IpPayload::put_together(60, &[17, 0, 0, 0, 0, 0, 0, 0, b'a'], 9);
        assert_eq!(
            whole,
            Some(IpPayload {
                protocol: 17,
                payload: b"a",
                wire_len: 1,
                part: None
            })
        );
    }

    #[test]
    fn where_a_packet_ends() {
        let ends =
            |packet: &[u8]| extent(packet).map(|found| (found.captured.len(), found.declared_len));
        assert_eq!(ends(&v4(&[(3, 22)], b"abc")), Some((22, Some(22))));
        assert_eq!(ends(&v4(&[], b"abc")), Some((23, Some(23))));
        assert_eq!(
            ends(&v4(&[(3, 200)], b"abc")),
            Some((23, Some(200))),
            "snapped"
        );
        assert_eq!(ends(&v4(&[(3, 0)], b"abc")), Some((23, None)), "offloaded");
        assert_eq!(ends(&v4(&[], b"abc")[..19]), None);
        assert_eq!(
            ends(&[&v6(17, b"abc")[..], b"padding"].concat()),
            Some((43, Some(43)))
        );
        assert_eq!(ends(&v6(17, b"")), Some((40, None)));
        assert_eq!(ends(&v6(17, b"")[..39]), None);
        assert_eq!(ends(&v4(&[(0, 0x75)], b"abc")), None);
        assert_eq!(ends(&v4(&[(0, 0x44)], b"abc")), None);
        let cut_in_its_options = v4(&[(0, 0x46), (3, 200)], b"abc");
        assert_eq!(ends(&cut_in_its_options), Some((23, Some(200))));
        assert!(Ipv4HeaderSlice::from_slice(&cut_in_its_options).is_err());
        assert_eq!(body(&cut_in_its_options), None);
    }

    #[test]
    fn an_authentication_header_of_eight_bytes() {
        let header = [17, 0, 0, 0, 0, 0, 1, 0];
        let packet = [&header[..], b"abcd"].concat();
        assert_eq!(body(&v6(51, &packet)), Some((17, &b"abcd"[..], 4)));
        assert_eq!(body(&v4(&[(9, 51)], &header)), Some((17, &b""[..], 0)));
        assert!(etherparse::IpAuthHeaderSlice::from_slice(&packet).is_err());
    }

    #[test]
    fn an_atomic_fragment_is_whole() {
        assert_eq!(
            body(&v6(44, &[17, 0, 0, 0, 0, 1, 0, 2, b'a'])),
            Some((17, &b"a"[..], 1))
        );
    }
}
