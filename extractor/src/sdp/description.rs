//! Media descriptions and the endpoints that they give.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    format::Format,
    lines::{Address, fields, lines, number},
};
use crate::packet::Endpoint;

/// More port pairs in one line (`m=audio 49170/2`) than this are not believed.
const MAX_PORT_PAIRS: u16 = 32;
/// More media descriptions than this, or lines of one kind within one, are not kept.
const MAX_ITEMS: usize = 64;
/// A media description that gives more endpoints than this is not believed: the others are left out.
const MAX_ENDPOINTS: usize = 128;
/// Nor is a session that gives more than this.
const MAX_ENDPOINTS_IN_ALL: usize = 256;

/// What one session description says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its media descriptions, refused and inactive ones included (they have no endpoints).
    pub media: Vec<Media>,
    /// How many addresses were host names, which cannot be matched with packets.
    pub host_names: u64,
}

/// One `m=` line and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Where its packets may come from or go to.
    pub endpoints: Vec<(Endpoint, Rank)>,
    /// Its `a=rtpmap` lines.
    pub formats: Vec<Format>,
    /// `a=ptime` in milliseconds, its own or the session's.
    pub ptime_ms: Option<u32>,
}

/// How sure an endpoint is. Of two calls that gave the same one, the call that named it comes before
/// the one that only implied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rank {
    /// The description has an address behind a network address translator; this is the port that it names at the address
    /// that the message came from. A guess: the translator may have chosen another port.
    Translated,
    /// RFC 3550, 11: RTCP is expected one port above RTP. With multiplexing (RFC 5761), that
    /// port may well be the RTP port of another call.
    Implied,
    /// Written in the description.
    Named,
}

impl Description {
    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let of_media = self.media.iter().map(|media| {
            let of_endpoints = size_of_val(media.endpoints.as_slice());
            size_of::<Media>().saturating_add(of_endpoints).saturating_add(size_of_val(media.formats.as_slice()))
        });
        of_media.fold(size_of::<Self>(), usize::saturating_add)
    }

    /// Reads a description. What cannot be read in it is passed over.
    #[must_use]
    pub fn parse(description: &[u8]) -> Self {
        let mut session = Section::default();
        let mut media: Vec<Section> = Vec::new();
        for (kind, value) in lines(description) {
            if kind == b'm' && media.len() < MAX_ITEMS {
                media.push(Section::of_media(value));
            } else if kind != b'm' {
                media.last_mut().unwrap_or(&mut session).take(kind, value);
            }
        }
        session.inherit_from(&media);
        let host_names = media.iter().fold(session.host_names, |sum, section| sum.saturating_add(section.host_names));
        let mut left = MAX_ENDPOINTS_IN_ALL;
        let put_together = |section: &Section| {
            let mut media = section.media(&session, left > 0);
            media.endpoints.truncate(left);
            left = left.saturating_sub(media.endpoints.len());
            media
        };
        Self { media: media.iter().map(put_together).collect(), host_names }
    }
}

/// The lines of the session or of one media description, read but not yet put together.
#[derive(Default)]
struct Section {
    port: u16,
    port_pairs: u16,
    addresses: Vec<IpAddr>,
    /// `a=inactive`, or another direction.
    inactive: Option<bool>,
    rtcp: Option<(u16, Option<IpAddr>)>,
    candidates: Vec<Endpoint>,
    formats: Vec<Format>,
    ptime_ms: Option<u32>,
    host_names: u64,
}

impl Section {
    /// RFC 4566, 5.14: `audio 49170/2 RTP/AVP 0`.
    fn of_media(value: &[u8]) -> Self {
        let port_field = fields(value).nth(1).unwrap_or_default();
        let mut parts = port_field.split(|&byte| byte == b'/');
        let port = parts.next().and_then(number).unwrap_or(0);
        let port_pairs = parts.next().and_then(number).unwrap_or(1).clamp(1, MAX_PORT_PAIRS);
        Self { port, port_pairs, ..Self::default() }
    }

    fn take(&mut self, kind: u8, value: &[u8]) {
        match kind {
            b'c' => self.take_address(Address::of_connection(value)),
            b'a' => self.take_attribute(value),
            _ => {}
        }
    }

    fn take_address(&mut self, address: Option<Address>) {
        match address {
            Some(Address::Ip(ip)) if self.addresses.len() < MAX_ITEMS => self.addresses.push(ip),
            Some(Address::HostName) => self.host_names = self.host_names.saturating_add(1),
            _ => {}
        }
    }

    fn take_attribute(&mut self, attribute: &[u8]) {
        let mut halves = attribute.splitn(2, |&byte| byte == b':');
        let name = halves.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let value = halves.next().unwrap_or_default().trim_ascii();
        match name.as_slice() {
            b"inactive" => self.inactive = Some(true),
            b"sendrecv" | b"sendonly" | b"recvonly" => self.inactive = Some(false),
            b"rtcp" => self.rtcp = rtcp(value).or(self.rtcp),
            b"candidate" if self.candidates.len() < MAX_ITEMS => self.candidates.extend(candidate(value)),
            b"rtpmap" if self.formats.len() < MAX_ITEMS => self.formats.extend(Format::of_rtpmap(value)),
            b"ptime" => self.ptime_ms = whole_ms(value).or(self.ptime_ms),
            _ => {}
        }
    }

    /// A description without an address for the session should have one for each media; some have one for the first only.
    fn inherit_from(&mut self, media: &[Self]) {
        if self.addresses.is_empty() && self.host_names == 0 {
            self.addresses =
                media.iter().find(|media| !media.addresses.is_empty()).map_or(Vec::new(), |media| media.addresses.clone());
        }
    }

    /// What this media description gives, with what it inherits from the session. (Formats belong to media, but some
    /// senders put them before the first one.)
    fn media(&self, session: &Self, with_endpoints: bool) -> Media {
        let ptime_ms = self.ptime_ms.or(session.ptime_ms);
        let formats = self.formats.iter().chain(&session.formats).copied().collect();
        let mut media = Media { endpoints: Vec::new(), formats, ptime_ms };
        if !with_endpoints || self.port == 0 || self.inactive.or(session.inactive).unwrap_or(false) {
            return media;
        }
        let own = !self.addresses.is_empty() || self.host_names > 0;
        let addresses = if own { &self.addresses } else { &session.addresses };
        for &address in addresses {
            for pair in 0..self.port_pairs {
                self.give_pair(address, pair, &mut media);
            }
        }
        for &candidate in &self.candidates {
            media.give(candidate, Rank::Named);
        }
        media
    }

    /// The RTP port of one pair, and where its RTCP is: where `a=rtcp` says (RFC 3605), else next to it.
    /// Multiplexed RTCP needs no endpoint of its own.
    fn give_pair(&self, address: IpAddr, pair: u16, media: &mut Media) {
        let Some(port) = self.port.checked_add(pair.saturating_mul(2)) else { return };
        media.give(Endpoint::new(address, port), Rank::Named);
        match (self.rtcp, port.checked_add(1)) {
            (Some((port, own_address)), _) => media.give(Endpoint::new(own_address.unwrap_or(address), port), Rank::Named),
            (None, Some(next)) => media.give(Endpoint::new(address, next), Rank::Implied),
            (None, None) => {}
        }
    }
}

impl Media {
    /// The same, with the ports of private addresses also at `source`, the public side of the translator that
    /// the description came through.
    #[must_use]
    pub fn translated(&self, source: Endpoint) -> Self {
        let mut media = self.clone();
        for (endpoint, _) in self.endpoints.iter().filter(|(endpoint, _)| endpoint.is_private()) {
            media.give(source.with_port(endpoint.port()), Rank::Translated);
        }
        media
    }

    fn give(&mut self, endpoint: Endpoint, rank: Rank) {
        let known = self.endpoints.iter().any(|&(known, _)| known == endpoint);
        if !known && !endpoint.is_unspecified() && endpoint.port() != 0 && self.endpoints.len() < MAX_ENDPOINTS {
            self.endpoints.push((endpoint, rank));
        }
    }
}

/// RFC 3605: `53020`, or `53020 IN IP6 2001:db8::1`.
fn rtcp(value: &[u8]) -> Option<(u16, Option<IpAddr>)> {
    let mut parts = fields(value);
    let port = number(parts.next()?)?;
    let address = match parts.nth(2).and_then(Address::parse) {
        Some(Address::Ip(ip)) => Some(ip),
        _ => None,
    };
    Some((port, address))
}

/// RFC 8839, 5.1: `1 1 UDP 2130706431 203.0.113.141 8998 typ host`.
fn candidate(value: &[u8]) -> Option<Endpoint> {
    let mut parts = fields(value).skip(2);
    if !parts.next()?.eq_ignore_ascii_case(b"udp") {
        return None;
    }
    let Address::Ip(ip) = Address::parse(parts.nth(1)?)? else { return None };
    Some(Endpoint::new(ip, number(parts.next()?)?))
}

/// `20`; some write `20.0`.
fn whole_ms(value: &[u8]) -> Option<u32> {
    number(value.split(|&byte| byte == b'.').next()?).filter(|&ms| ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Codec;
    use proptest::prelude::*;

    fn endpoints(text: &str) -> Vec<String> {
        let description = Description::parse(text.as_bytes());
        let media = description.media.iter().flat_map(|media| &media.endpoints);
        media.map(|(endpoint, rank)| format!("{endpoint}{}", if *rank == Rank::Implied { "?" } else { "" })).collect()
    }

    const C: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";

    #[test]
    fn a_media_line_gives_its_port_and_the_one_above() {
        assert_eq!(endpoints(&format!("{C}m=audio 4000 RTP/AVP 0\r\n")), ["192.0.2.1:4000", "192.0.2.1:4001?"]);
    }

    #[test]
    fn the_connection_of_the_media_wins() {
        let text = format!("{C}m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\nm=video 5000 RTP/AVP 31\r\n");
        assert_eq!(endpoints(&text), ["[2001:db8::1]:4000", "[2001:db8::1]:4001?", "192.0.2.1:5000", "192.0.2.1:5001?"]);
    }

    #[test]
    fn lines_in_the_wrong_place() {
        let text = "v=0\na=rtpmap:96 opus/48000\nm=audio 4000 RTP/AVP 96\nc=IN IP4 192.0.2.1\nm=video 5000 RTP/AVP 31\n";
        assert_eq!(endpoints(text), ["192.0.2.1:4000", "192.0.2.1:4001?", "192.0.2.1:5000", "192.0.2.1:5001?"]);
        assert_eq!(Description::parse(text.as_bytes()).media[0].formats[0].clock_rate, 48_000);
    }

    #[test]
    fn what_gives_no_endpoint() {
        assert!(endpoints(&format!("{C}m=audio 0 RTP/AVP 0\r\n")).is_empty(), "port 0");
        assert!(endpoints(&format!("{C}m=audio 4000 RTP/AVP 0\r\na=inactive\r\n")).is_empty(), "inactive");
        assert!(endpoints(&format!("{C}a=inactive\r\nm=audio 4000 RTP/AVP 0\r\n")).is_empty(), "all inactive");
        assert!(endpoints("c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\n").is_empty(), "0.0.0.0");
        assert!(endpoints("c=IN IP6 ::\nm=audio 4000 RTP/AVP 0\n").is_empty(), "::");
        assert!(endpoints(&format!("{C}m=audio\r\n")).is_empty(), "no port");
        assert!(endpoints("m=audio 4000 RTP/AVP 0\n").is_empty(), "no address");
    }

    #[test]
    fn hold_by_direction_keeps_the_endpoint() {
        let text = format!("{C}a=inactive\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n");
        assert_eq!(endpoints(&text), ["192.0.2.1:4000", "192.0.2.1:4001?"]);
    }

    #[test]
    fn rtcp_where_it_is_declared() {
        let text = |attribute| format!("{C}m=audio 4000 RTP/AVP 0\r\na={attribute}\r\n");
        assert_eq!(endpoints(&text("rtcp:53020")), ["192.0.2.1:4000", "192.0.2.1:53020"]);
        assert_eq!(endpoints(&text("rtcp:53020 IN IP4 192.0.2.7")), ["192.0.2.1:4000", "192.0.2.7:53020"]);
        assert_eq!(endpoints(&text("rtcp:4000")), ["192.0.2.1:4000"]);
        assert_eq!(endpoints(&text("rtcp-mux")), ["192.0.2.1:4000", "192.0.2.1:4001?"]);
    }

    #[test]
    fn several_pairs_and_the_last_port() {
        let pairs = ["192.0.2.1:4000", "192.0.2.1:4001?", "192.0.2.1:4002", "192.0.2.1:4003?"];
        assert_eq!(endpoints(&format!("{C}m=audio 4000/2 RTP/AVP 0\r\n")), pairs);
        assert_eq!(endpoints(&format!("{C}m=audio 65535 RTP/AVP 0\r\n")), ["192.0.2.1:65535"]);
        assert_eq!(Description::parse(format!("{C}m=audio 2/65535 RTP/AVP 0").as_bytes()).media[0].endpoints.len(), 64);
    }

    #[test]
    fn a_few_lines_cannot_ask_for_much() {
        let text = format!("{}m=audio 2/32 RTP/AVP 0\r\n", "c=IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.2\r\n".repeat(40));
        let many = (0..40).map(|n| format!("c=IN IP4 192.0.2.{n}\r\n")).collect::<String>() + "m=audio 2/32 RTP/AVP 0\r\n";
        assert!(Description::parse(text.as_bytes()).media[0].endpoints.len() <= MAX_ENDPOINTS);
        assert_eq!(Description::parse(many.as_bytes()).media[0].endpoints.len(), MAX_ENDPOINTS);
    }

    #[test]
    fn candidates_over_udp() {
        let text = format!(
            "{C}m=audio 4000 RTP/AVP 0\r\na=candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host\r\n\
             a=candidate:2 1 TCP 1 203.0.113.142 9 typ host tcptype active\r\na=candidate:3 1 udp 1 x.local 8 typ host\r\n"
        );
        assert_eq!(endpoints(&text), ["192.0.2.1:4000", "192.0.2.1:4001?", "203.0.113.141:8998"]);
    }

    #[test]
    fn as_found_in_the_wild() {
        for text in [
            "c = IN ip4 192.0.2.1\nm=audio  4000   RTP/AVP 0\n",
            "c=IN IP4 192.0.2.1/127\nm=audio 4000 RTP/AVP 0\0",
            "  c=IN IP4 192.0.2.1 \r\nM=audio 4000 RTP/AVP 0\r\n",
        ] {
            assert_eq!(endpoints(text), ["192.0.2.1:4000", "192.0.2.1:4001?"], "{text}");
        }
        assert_eq!(endpoints("c=IN IP6 [2001:db8::1]\nm=audio 4 RTP/AVP 0")[0], "[2001:db8::1]:4");
        let named = Description::parse(b"c=IN IP4 host.example.com\nm=audio 4000 RTP/AVP 0\n");
        assert_eq!((named.host_names, named.media[0].endpoints.len()), (1, 0));
    }

    #[test]
    fn formats_and_ptime() {
        let text = format!(
            "{C}a=ptime:30\r\nm=audio 4000 RTP/AVP 0 96 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=rtpmap:200 x/1\r\na=ptime:20\r\nm=audio 4002 RTP/AVP 0\r\n"
        );
        let media = Description::parse(text.as_bytes()).media;
        let opus = Format { payload_type: 96, clock_rate: 48_000, codec: Codec::of(b"opus") };
        assert_eq!(media[0].formats[0], opus);
        assert_eq!(media[0].formats.iter().map(Format::is_sampled).collect::<Vec<_>>(), [true, false]);
        assert_eq!((media[0].ptime_ms, media[1].ptime_ms), (Some(20), Some(30)));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([acmv] ?= ?[ -~]{0,40}(\r\n|\n)){0,20}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Description::parse(text.as_bytes());
            let _ = Description::parse(&bytes);
        }
    }
}
