//! PDUs that Wireshark (`tshark -U`) or a similar program exported: tags, an end tag, and the PDU
//! (LINKTYPE_WIRESHARK_UPPER_PDU; Wireshark's exported_pdu_tlvs.h).
//!
//! ```text
//! tag (2)  length of the value, padding included (2)  value
//! ```
//!
//! A PDU is read as a datagram where its tags name SIP, RTP or RTCP over any transport, or the
//! whole payload of a UDP datagram. Tunnels are not opened here: Wireshark exports their contents
//! once more.

use super::{Datagram, Endpoint, Layer, Network, be16};

/// Tags.
mod tag {
    pub(super) const END: u16 = 0;
    pub(super) const NAME: u16 = 12;
    pub(super) const HEURISTIC_NAME: u16 = 13;
    pub(super) const TABLE: u16 = 14;
    pub(super) const SOURCE_V4: u16 = 20;
    pub(super) const DESTINATION_V4: u16 = 21;
    pub(super) const SOURCE_V6: u16 = 22;
    pub(super) const DESTINATION_V6: u16 = 23;
    pub(super) const PORT_TYPE: u16 = 24;
    pub(super) const SOURCE_PORT: u16 = 25;
    pub(super) const DESTINATION_PORT: u16 = 26;
    pub(super) const TABLE_ENTRY: u16 = 32;
}

/// The PDU of a frame.
pub(super) fn pdu(frame: &[u8]) -> Option<Layer<'_>> {
    let mut tags = PduTags::default();
    let mut rest = frame;
    loop {
        let [t0, t1, l0, l1] = *rest.first_chunk()?;
        let (value, behind) = rest
            .get(4..)?
            .split_at_checked(usize::from(be16([l0, l1])))?;
        rest = behind;
        match be16([t0, t1]) {
            tag::END => break,
            tag => tags.add(tag, value),
        }
    }
    Some(tags.layer(rest))
}

/// The tags of a PDU.
#[derive(Default)]
struct PduTags<'a> {
    content: PduName<'a>,
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
    port_type: u32,
    ports: [u16; 2],
    /// The port by which Wireshark identified the protocol of the PDU, if it did.
    known_by: Option<u16>,
}

/// The name that Wireshark gives a PDU; of several names the first counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PduName<'a> {
    #[default]
    Unnamed,
    Name(&'a [u8]),
    HeuristicName(&'a [u8]),
    Table(&'a [u8]),
}

impl<'a> PduTags<'a> {
    fn add(&mut self, tag: u16, value: &'a [u8]) {
        let v4 = || {
            value
                .try_into()
                .ok()
                .map(|address| Endpoint::v4(address, 0))
        };
        let v6 = || {
            value
                .try_into()
                .ok()
                .map(|address| Endpoint::v6(address, 0))
        };
        let number = || value.try_into().map_or(0, u32::from_be_bytes);
        let port = || u16::try_from(number()).unwrap_or(0);
        let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
        match tag {
            tag::NAME => self.name(PduName::Name(text)),
            tag::HEURISTIC_NAME => self.name(PduName::HeuristicName(text)),
            tag::TABLE => self.name(PduName::Table(text)),
            tag::SOURCE_V4 => self.source = v4(),
            tag::DESTINATION_V4 => self.destination = v4(),
            tag::SOURCE_V6 => self.source = v6(),
            tag::DESTINATION_V6 => self.destination = v6(),
            tag::PORT_TYPE => self.port_type = number(),
            tag::SOURCE_PORT => self.ports[0] = port(),
            tag::DESTINATION_PORT => self.ports[1] = port(),
            tag::TABLE_ENTRY => self.known_by = Some(port()),
            _ => {}
        }
    }

    fn name(&mut self, content: PduName<'a>) {
        if self.content == PduName::Unnamed {
            self.content = content;
        }
    }

    fn layer(&self, pdu: &'a [u8]) -> Layer<'a> {
        match self.content {
            PduName::Name(b"ip" | b"ipv6") => Layer::Ip(pdu),
            PduName::Name(b"sip" | b"rtp" | b"rtcp") => self.datagram(pdu),
            _ if self.is_payload_of_udp() => self.datagram(pdu),
            _ => Layer::OtherKind,
        }
    }

    /// For the datagram around a tunnel, Wireshark gives the addresses inside the tunnel; then the
    /// port by which it identified the tunnel is neither of the two ports.
    fn is_payload_of_udp(&self) -> bool {
        const UDP: u32 = 3;
        let is_known_port = || self.known_by.is_none_or(|port| self.ports.contains(&port));
        self.port_type == UDP
            && match self.content {
                PduName::Name(name) => {
                    matches!(
                        name,
                        b"data" | b"srtp" | b"srtcp" | b"stun-udp" | b"zrtp" | b"dtls" | b"t38_udp"
                    )
                }
                PduName::HeuristicName(name) => name.ends_with(b"_udp"),
                PduName::Table(name) => name == b"udp.port" && is_known_port(),
                PduName::Unnamed => false,
            }
    }

    /// The original length of the PDU is unknown, so the captured length stands for it.
    fn datagram(&self, pdu: &'a [u8]) -> Layer<'a> {
        let [source_port, destination_port] = self.ports;
        match (self.source, self.destination) {
            (Some(source), Some(destination)) => Layer::Datagram(Datagram {
                network: Network::PLAIN,
                source: source.with_port(source_port),
                destination: destination.with_port(destination_port),
                payload: pdu,
                wire_len: pdu.len(),
            }),
            _ => Layer::OtherKind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tags: &[(u16, &[u8])], pdu: &[u8]) -> Vec<u8> {
        let tlv = |(tag, value): &(u16, &[u8])| {
            [
                &tag.to_be_bytes()[..],
                &(value.len() as u16).to_be_bytes(),
                value,
            ]
            .concat()
        };
        [
            tags.iter().flat_map(tlv).collect::<Vec<u8>>(),
            vec![0; 4],
            pdu.to_vec(),
        ]
        .concat()
    }

    const UDP: (u16, &[u8]) = (24, &[0, 0, 0, 3]);
    const TCP: (u16, &[u8]) = (24, &[0, 0, 0, 2]);

    /// A PDU with this name between two endpoints.
    fn named(name: (u16, &[u8]), more: &[(u16, &[u8])]) -> Vec<u8> {
        let ends: [(u16, &[u8]); 4] = [
            (20, &[192, 0, 2, 1]),
            (21, &[192, 0, 2, 2]),
            (25, &[0, 0, 0x13, 0xc4]),
            (26, &[0, 0, 0x13, 0xc5]),
        ];
        of(
            &[&[name][..], &ends, more, &[(30, &[0, 0, 0, 1])]].concat(),
            b"INVITE",
        )
    }

    fn want() -> Option<Layer<'static>> {
        Some(Layer::Datagram(Datagram {
            network: Network::PLAIN,
            source: Endpoint::v4([192, 0, 2, 1], 5060),
            destination: Endpoint::v4([192, 0, 2, 2], 5061),
            payload: b"INVITE",
            wire_len: 6,
        }))
    }

    #[test]
    fn sip_rtp_and_rtcp_over_whatever_there_is() {
        for name in [&b"sip\0"[..], b"rtp\0", b"rtcp\0\0\0\0"] {
            for transport in [UDP, TCP, (24, &[0, 0, 0, 1])] {
                assert_eq!(pdu(&named((12, name), &[transport])), want(), "{name:?}");
            }
        }
    }

    #[test]
    fn all_that_a_udp_datagram_carries() {
        for name in [
            (12, &b"data"[..]),
            (12, b"stun-udp"),
            (13, b"rtp_udp\0"),
            (14, b"udp.port"),
        ] {
            assert_eq!(pdu(&named(name, &[UDP])), want(), "{name:?}");
            assert_eq!(
                pdu(&named(name, &[TCP])),
                Some(Layer::OtherKind),
                "{name:?}"
            );
        }
        assert_eq!(
            pdu(&named((14, b"udp.port"), &[UDP, (32, &[0, 0, 0x13, 0xc4])])),
            want()
        );
        assert_eq!(
            pdu(&named((14, b"udp.port"), &[UDP, (32, &[0, 0, 0x08, 0x68])])),
            Some(Layer::OtherKind),
            "GTP-U, which Wireshark exports with the addresses that are in it"
        );
        assert_eq!(
            pdu(&named((12, b"diameter"), &[UDP])),
            Some(Layer::OtherKind)
        );
    }

    #[test]
    fn ipv6_and_what_is_missing() {
        let bytes = of(
            &[
                (12, b"rtp\0"),
                (22, &[1; 16]),
                (23, &[2; 16]),
                (25, &[0, 0, 0, 9]),
            ],
            b"x",
        );
        let Some(Layer::Datagram(datagram)) = pdu(&bytes) else {
            panic!()
        };
        assert_eq!(
            (datagram.source, datagram.destination),
            (Endpoint::v6([1; 16], 9), Endpoint::v6([2; 16], 0))
        );
        assert_eq!(
            pdu(&of(&[(12, b"sip\0"), (20, &[1; 4])], b"x")),
            Some(Layer::OtherKind),
            "one end"
        );
        assert_eq!(pdu(&of(&[(12, b"ip\0\0")], b"x")), Some(Layer::Ip(b"x")));
        assert_eq!(pdu(&of(&[], b"x")), Some(Layer::OtherKind), "no name");
        assert_eq!(pdu(&[0, 12, 0, 9, b's']), None, "cut");
    }
}
