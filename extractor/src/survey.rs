//! A survey of a capture without calls: the ports with the most traffic, and their probable
//! protocols.

use std::{cmp::Reverse, collections::BTreeMap, fmt, ops::RangeInclusive};

use shared::units::grouped;

use crate::{
    index::readable,
    packet::{Datagram, Decoder, Fragment, Packet, TcpSegment},
    reassembly::is_tls,
    rtp,
    sip::{self, Message},
};

/// The number of packets that are examined, from the beginning.
const MAX_PACKETS: u64 = 1_000_000;
/// The number of talkers that the summary names.
const MAX_NAMED: usize = 5;

/// The talkers among the examined packets.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    packets: u64,
    /// There are at most as many as ports.
    talkers: BTreeMap<(Transport, u16), Talker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Udp,
    Tcp,
}

/// The traffic to and from one port.
#[derive(Clone, Debug, Default)]
struct Talker {
    packets: u64,
    /// The number of packets that look like each protocol.
    looks: BTreeMap<Protocol, u64>,
}

/// The protocol that a packet looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Sip,
    SipInFragments,
    Rtp,
    Stun,
    Dtls,
    Quic,
    Dns,
    Tls,
    Http,
}

/// A line of the table. Talkers that look like media share a line.
struct Line {
    transport: Transport,
    ports: RangeInclusive<u16>,
    talkers: usize,
    packets: u64,
    look: Option<Protocol>,
}

impl Survey {
    /// Returns true if enough packets have been examined.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.packets >= MAX_PACKETS
    }

    /// Adds the next packet.
    pub fn add_packet(&mut self, packet: &Packet<'_>, decoder: &Decoder) {
        self.packets = self.packets.saturating_add(1);
        match packet {
            Packet::Udp(datagram) | Packet::Told(_, datagram) => {
                self.add_datagram(datagram, Protocol::of_datagram(datagram));
            }
            Packet::Tcp(segment) => self.add_segment(segment),
            Packet::Fragment(fragment) => self.add_fragment(fragment, decoder),
            _ => {}
        }
    }

    fn add_fragment(&mut self, fragment: &Fragment<'_>, decoder: &Decoder) {
        match decoder.decode_beginning(fragment) {
            Packet::Udp(datagram) | Packet::Told(_, datagram) => {
                let look = Protocol::of_datagram(&datagram);
                self.add_datagram(
                    &datagram,
                    look.map(|look| {
                        if look == Protocol::Sip {
                            Protocol::SipInFragments
                        } else {
                            look
                        }
                    }),
                );
            }
            Packet::Tcp(segment) => self.add_segment(&segment),
            _ => {}
        }
    }

    fn add_datagram(&mut self, datagram: &Datagram<'_>, look: Option<Protocol>) {
        self.add(
            Transport::Udp,
            [datagram.source.port(), datagram.destination.port()],
            look,
        );
    }

    fn add_segment(&mut self, segment: &TcpSegment<'_>) {
        // Segments without payload reveal no protocol.
        if segment.wire_len > 0 {
            self.add(
                Transport::Tcp,
                [segment.source.port(), segment.destination.port()],
                Protocol::of_segment(segment),
            );
        }
    }

    /// The lower port is nearly always that of the server.
    fn add(&mut self, transport: Transport, ports: [u16; 2], look: Option<Protocol>) {
        let port = ports.into_iter().min().unwrap_or(0);
        let talker = self.talkers.entry((transport, port)).or_default();
        talker.packets = talker.packets.saturating_add(1);
        if let Some(look) = look {
            let looks = talker.looks.entry(look).or_default();
            *looks = looks.saturating_add(1);
        }
    }

    /// The lines of the table, as text.
    pub fn told(&self) -> impl Iterator<Item = String> {
        self.lines()
            .into_iter()
            .map(|line| format!("{} {line}", line.packets))
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for (&(transport, port), talker) in &self.talkers {
            let look = talker.look();
            let is_media = |line: &&mut Line| look == Some(Protocol::Rtp) && line.look == look;
            match lines.iter_mut().find(is_media) {
                Some(line) => {
                    line.ports = *line.ports.start()..=port;
                    line.talkers = line.talkers.saturating_add(1);
                    line.packets = line.packets.saturating_add(talker.packets);
                }
                None => lines.push(Line {
                    transport,
                    ports: port..=port,
                    talkers: 1,
                    packets: talker.packets,
                    look,
                }),
            }
        }
        lines.sort_by_key(|line| Reverse(line.packets));
        lines.truncate(MAX_NAMED);
        lines
    }
}

impl Talker {
    /// The protocol of most packets. In an encrypted stream, few packets reveal it, and random
    /// bytes often look like RTP.
    fn look(&self) -> Option<Protocol> {
        let is_certain = |look: Protocol, count: u64| {
            let least = if look == Protocol::Rtp {
                self.packets / 2
            } else {
                self.packets / 1_000
            };
            count > least
        };
        let certain = self
            .looks
            .iter()
            .filter(|(look, count)| is_certain(**look, **count));
        certain
            .max_by_key(|(_, count)| **count)
            .map(|(look, _)| *look)
    }
}

impl Protocol {
    pub(crate) fn of_datagram(datagram: &Datagram<'_>) -> Option<Self> {
        let payload = datagram.payload;
        match *payload {
            _ if sip::may_be_message(payload) && Message::parse(readable(datagram)).is_some() => {
                Some(Self::Sip)
            }
            // RFC 8489, 5: the magic cookie.
            [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..] => Some(Self::Stun),
            // RFC 6347, 4.1: a content type, and 254 in the version.
            [20..=26, 0xfe, ..] => Some(Self::Dtls),
            // RFC 9000, 17.2, and RFC 9369: a long header of version 1 or 2, or of a draft.
            [0xc0..=0xff, 0, 0, 0, 1, ..]
            | [0xc0..=0xff, 0x6b, 0x33, 0x43, 0xcf, ..]
            | [0xc0..=0xff, 0xff, 0, 0, ..] => Some(Self::Quic),
            // RTCP: RFC 5761, 4.
            [0x80..=0xbf, 192..=223, ..] => Some(Self::Rtp),
            _ if rtp::Header::parse(payload, datagram.wire_len).is_some() => Some(Self::Rtp),
            _ => [datagram.source.port(), datagram.destination.port()]
                .contains(&53)
                .then_some(Self::Dns),
        }
    }

    fn of_segment(segment: &TcpSegment<'_>) -> Option<Self> {
        let payload = segment.payload;
        let begins = |with: &[u8]| payload.starts_with(with);
        if is_tls(payload) {
            return Some(Self::Tls);
        }
        if [&b"GET "[..], b"POST ", b"HEAD ", b"HTTP/1."]
            .into_iter()
            .any(begins)
        {
            return Some(Self::Http);
        }
        matches!(Message::parse(payload), Some(Ok(_))).then_some(Self::Sip)
    }

    /// The protocol, and the reason why there is no call in it.
    fn says(self) -> &'static str {
        match self {
            Self::Sip => "SIP, but no INVITE, or not on the ports of --sip-ports-range",
            Self::SipInFragments => {
                "SIP in IP fragments; later fragments may be missing, because a filter for ports drops them"
            }
            Self::Rtp => "RTP: media; the SIP that describes it is not in the capture",
            Self::Stun => "STUN: media may follow; the SIP that describes it is not in the capture",
            Self::Dtls => "DTLS, encrypted",
            Self::Quic => "QUIC, encrypted",
            Self::Dns => "DNS",
            Self::Tls => {
                "TLS, encrypted: if it carries SIP, capture behind the proxy that terminates it"
            }
            Self::Http => "HTTP",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// `packets, UDP port 443: QUIC, encrypted`; the caller prints the number.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transport,
            ports,
            talkers,
            look,
            ..
        } = self;
        let says = look.map_or("an unknown protocol", Protocol::says);
        if *talkers == 1 {
            return write!(f, "packets, {transport} port {}: {says}", ports.start());
        }
        write!(
            f,
            "packets, {talkers} {transport} ports from {} to {}: {says}",
            ports.start(),
            ports.end()
        )
    }
}

/// The table, with a line for each talker; empty without UDP and TCP.
impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        if lines.is_empty() {
            return Ok(());
        }
        let of = if self.is_full() {
            format!(" of the first {} packets", grouped(MAX_PACKETS))
        } else {
            String::new()
        };
        write!(f, "\nno call was found; the largest talkers{of}:")?;
        lines
            .iter()
            .try_for_each(|line| write!(f, "\n{:>24}   {line}", grouped(line.packets)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Endpoint, Network, TcpFlags};

    fn datagram(ports: (u16, u16), payload: &[u8]) -> Packet<'_> {
        let (source, destination) = (
            Endpoint::v4([192, 0, 2, 1], ports.0),
            Endpoint::v4([192, 0, 2, 2], ports.1),
        );
        Packet::Udp(Datagram {
            network: Network::PLAIN,
            source,
            destination,
            payload,
            wire_len: payload.len(),
        })
    }

    fn segment(ports: (u16, u16), payload: &[u8]) -> Packet<'_> {
        let (source, destination) = (
            Endpoint::v4([192, 0, 2, 1], ports.0),
            Endpoint::v4([192, 0, 2, 2], ports.1),
        );
        let (network, flags, wire_len) = (Network::PLAIN, TcpFlags::default(), payload.len());
        Packet::Tcp(TcpSegment {
            network,
            source,
            destination,
            sequence: 1,
            flags,
            payload,
            wire_len,
        })
    }

    fn told(packets: &[(usize, Packet<'_>)]) -> Vec<String> {
        let mut survey = Survey::default();
        for (times, packet) in packets {
            (0..*times).for_each(|_| survey.add_packet(packet, &Decoder::default()));
        }
        survey
            .to_string()
            .lines()
            .map(|line| line.trim().to_owned())
            .collect()
    }

    #[test]
    fn each_kind_is_told_by_what_it_carries() {
        let options = b"OPTIONS sip:x SIP/2.0\r\nCall-ID: 1\r\nf: a\r\nt: b\r\n\r\n";
        for (packet, want) in [
            (
                datagram((40_000, 5070), options),
                "UDP port 5070: SIP, but no INVITE",
            ),
            (
                datagram((5000, 4000), &[0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]),
                "UDP port 4000: RTP",
            ),
            (
                datagram((5000, 4001), &[0x80, 200, 0, 1, 0, 0, 0, 1]),
                "UDP port 4001: RTP",
            ),
            (
                datagram((5000, 3478), &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0]),
                "UDP port 3478: STUN",
            ),
            (
                datagram((5000, 4433), &[22, 0xfe, 0xfd, 0]),
                "UDP port 4433: DTLS",
            ),
            (
                datagram((5000, 443), &[0xc3, 0, 0, 0, 1, 8]),
                "UDP port 443: QUIC",
            ),
            (datagram((5000, 53), b"\x12\x34\x01\0"), "UDP port 53: DNS"),
            (
                datagram((5000, 9), b"\xf7\x34\x01\0"),
                "UDP port 9: an unknown protocol",
            ),
            (
                segment((50_000, 443), &[22, 3, 1, 2, 0, 1]),
                "TCP port 443: TLS",
            ),
            (
                segment((50_000, 80), b"GET / HTTP/1.1\r\n"),
                "TCP port 80: HTTP",
            ),
            (segment((50_000, 8080), options), "TCP port 8080: SIP"),
            (
                segment((50_000, 22), b"SSH-2.0-x\r\n"),
                "TCP port 22: an unknown protocol",
            ),
        ] {
            let lines = told(&[(1, packet)]);
            assert!(
                lines.len() == 3 && lines[2].starts_with(&format!("1   packets, {want}")),
                "{lines:?}"
            );
        }
        assert!(told(&[(1, segment((1, 2), b"")), (1, Packet::NotIp)]).is_empty());
    }

    #[test]
    fn few_packets_tell_what_is_encrypted_and_most_what_is_media() {
        let record = segment((50_000, 443), &[22, 3, 1, 2, 0, 1]);
        let rest = segment((50_000, 443), &[0x83, 8, 0, 1]);
        assert!(told(&[(500, rest), (1, record)])[2].contains("TLS"));
        let rtp = datagram((5000, 4000), &[0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
        let other = datagram((5000, 4000), &[0x40, 8, 0, 1]);
        assert!(told(&[(3, rtp), (4, other)])[2].contains("an unknown protocol"));
        assert!(told(&[(4, rtp), (3, other)])[2].contains("RTP"));
    }

    #[test]
    fn the_five_largest_are_named_and_media_is_one() {
        let rtp = [0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0];
        let media = (0..100u16).map(|n| (10, datagram((40_000, 20_000 + n * 2), &rtp)));
        let others =
            (1..9u16).map(|port| (usize::from(port) * 100, datagram((40_000, port), b"\xf7")));
        let lines = told(&media.chain(others).collect::<Vec<_>>());
        assert_eq!(lines.len(), 2 + 5);
        assert!(
            lines[2].starts_with("1,000   packets, 100 UDP ports from 20000 to 20198: RTP"),
            "{lines:?}"
        );
        assert!(
            lines[3].starts_with("800   packets, UDP port 8: ") && lines[6].starts_with("500 "),
            "{lines:?}"
        );
    }
}
