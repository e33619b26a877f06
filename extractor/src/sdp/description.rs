//! Media descriptions and their endpoints.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    bundle::{BundleNumber, Bundles},
    format::{Format, Formats},
    lines::{Address, fields, lines, number},
};
use crate::packet::Endpoint;

/// The most port pairs of one line (`m=audio 49170/2`); a higher number is cut to this.
const MAX_PORT_PAIRS: u16 = 32;
/// The most media descriptions, and the most lines of one kind within one; the rest is left out.
const MAX_ITEMS: usize = 64;
/// The most endpoints of one media description; the rest is left out.
const MAX_ENDPOINTS: usize = 128;
/// The most endpoints of one session description; the rest is left out.
const MAX_ENDPOINTS_IN_ALL: usize = 256;

/// The most formats that the media of a description inherit from the session or from bundles. It
/// bounds the memory of a description with many media.
const MAX_INHERITED_FORMATS: usize = 512;

/// A session description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The media descriptions. Refused and inactive ones are included; they have no endpoints.
    pub media: Vec<Media>,
    /// The number of host names in place of addresses, which cannot be matched with packets.
    pub host_names: u64,
    /// The number of fields that are neither host name nor address.
    pub unreadable_addresses: u64,
}

/// An `m=` line and the lines that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// The endpoints that its packets may come from or go to.
    pub endpoints: Vec<(Endpoint, Rank)>,
    /// The ports of RTP and RTCP at a host name in place of an address.
    pub unresolved: Vec<u16>,
    /// The base addresses of its candidates: `raddr` and `rport` (RFC 8839, 5.1). For a reflexive
    /// candidate this is the sender's own address.
    pub bases: Vec<Endpoint>,
    /// Its `a=rtpmap` lines, then those of the session and of the media in the same bundle; the
    /// first for each payload type.
    pub formats: Vec<Format>,
    /// `a=ptime` in milliseconds, of the media description or else of the session.
    pub ptime_ms: Option<u32>,
    /// True when its packets are encrypted, or may be: the profile is SAVP or SAVPF (RFC 3711, 12;
    /// RFC 5764, 8), or it offers a key (RFC 4568) or a fingerprint (RFC 8122) with another profile
    /// (RFC 8643). `None` if its lines do not say: candidates that are sent later.
    pub is_secured: Option<bool>,
    /// True when the port is 0: an answer refuses the media (RFC 3264, 6), an offer removes it
    /// (8.2). With `a=bundle-only`, the media uses the port of its bundle (RFC 8843, 6) and is not
    /// refused.
    pub refused: bool,
}

/// The certainty of an endpoint. If two calls give the same endpoint, the call that names it comes
/// before the call that only implies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rank {
    /// Not in the description. The sender is behind NAT, or has given no address that can be
    /// matched; its media may come from or go to this endpoint. See [`Rank::is_guess`].
    Guessed,
    /// RFC 3550, 11: RTCP is expected one port above RTP. With multiplexing (RFC 5761), that port
    /// may be the RTP port of another call.
    Implied,
    /// Written in the description.
    Named,
}

impl Rank {
    /// Returns true if the endpoint is only a guess. A guess never takes a packet from a call for
    /// which one of the two endpoints is certain.
    #[must_use]
    pub fn is_guess(self) -> bool {
        self == Self::Guessed
    }
}

impl Description {
    /// The memory that the description takes, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let of_media = self.media.iter().map(|media| {
            let of_lists = [
                size_of_val(media.endpoints.as_slice()),
                size_of_val(media.unresolved.as_slice()),
                size_of_val(media.bases.as_slice()),
                size_of_val(media.formats.as_slice()),
            ];
            of_lists
                .into_iter()
                .fold(size_of::<Media>(), usize::saturating_add)
        });
        of_media.fold(size_of::<Self>(), usize::saturating_add)
    }

    /// Reads a description; lines that cannot be read are skipped.
    #[must_use]
    pub fn parse(description: &[u8]) -> Self {
        let (mut session, media) = Section::read_all(description);
        session.inherit_from(&media);
        let bundles = bundled_formats(&session, &media);
        let mut room = Room::default();
        let put_together = |section: &Section<'_>| {
            let bundled = section
                .bundle(&session)
                .and_then(|bundle| bundles.get(&bundle))
                .map_or(&[][..], Formats::list);
            let formats = section.formats(&session, bundled, &mut room.formats);
            let mut media = Media {
                formats,
                ..section.media(&session)
            };
            if room.endpoints > 0 {
                section.give_all(&session, &mut media);
            }
            room.limit(&mut media);
            media
        };
        let sections = || std::iter::once(&session).chain(&media);
        Self {
            media: media.iter().map(put_together).collect(),
            host_names: sections().fold(0, |sum, section| sum.saturating_add(section.host_names)),
            unreadable_addresses: sections().fold(0, |sum, section| {
                sum.saturating_add(section.unreadable_addresses)
            }),
        }
    }

    /// Reads a fragment of a description (RFC 8840, 9). Its `m=` lines only say which media its
    /// candidates are for, and their ports mean nothing; candidates for all media may stand before
    /// them.
    #[must_use]
    pub fn parse_fragment(fragment: &[u8]) -> Self {
        let (session, media) = Section::read_all(fragment);
        let mut room = Room::default();
        let put_together = |section: &Section<'_>| {
            let mut media = Media::default();
            section.give_candidates(&mut media);
            room.limit(&mut media);
            media
        };
        let media = std::iter::once(&session).chain(&media).map(put_together);
        Self {
            media: media
                .filter(|media| !media.endpoints.is_empty() || !media.bases.is_empty())
                .collect(),
            ..Self::default()
        }
    }
}

/// The number of items that a description may still add.
struct Room {
    endpoints: usize,
    unresolved: usize,
    bases: usize,
    /// Inherited formats.
    formats: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            endpoints: MAX_ENDPOINTS_IN_ALL,
            unresolved: MAX_ENDPOINTS_IN_ALL,
            bases: MAX_ENDPOINTS_IN_ALL,
            formats: MAX_INHERITED_FORMATS,
        }
    }
}

impl Room {
    /// Removes the items beyond the limits.
    fn limit(&mut self, media: &mut Media) {
        limit(&mut media.endpoints, &mut self.endpoints);
        limit(&mut media.unresolved, &mut self.unresolved);
        limit(&mut media.bases, &mut self.bases);
    }
}

fn limit<T>(items: &mut Vec<T>, room: &mut usize) {
    items.truncate(*room);
    *room = room.saturating_sub(items.len());
}

/// The formats of all media in each bundle: a payload type means the same in all of them (RFC 8843,
/// 9.1).
fn bundled_formats(
    session: &Section<'_>,
    media: &[Section<'_>],
) -> BTreeMap<BundleNumber, Formats> {
    let mut bundles: BTreeMap<BundleNumber, Formats> = BTreeMap::new();
    for section in media {
        if let Some(bundle) = section.bundle(session) {
            let formats = bundles.entry(bundle).or_default();
            section.formats.iter().for_each(|format| {
                formats.add(*format);
            });
        }
    }
    bundles
}

/// The lines of the session or of one media description, read but not combined yet.
#[derive(Default)]
struct Section<'a> {
    /// `None` if it cannot be read.
    port: Option<u16>,
    port_pairs: u16,
    connections: Vec<Address>,
    /// True for `a=inactive`, false for another direction.
    inactive: Option<bool>,
    rtcp: Option<(u16, Option<IpAddr>)>,
    candidates: Vec<Candidate>,
    formats: Vec<Format>,
    ptime_ms: Option<u32>,
    /// True when the profile is SRTP's, or a line offers a key or a fingerprint.
    is_secured: bool,
    mid: Option<&'a [u8]>,
    is_bundle_only: bool,
    bundles: Bundles<'a>,
    host_names: u64,
    unreadable_addresses: u64,
}

impl<'a> Section<'a> {
    /// Reads the lines of the session and of each media description.
    fn read_all(description: &'a [u8]) -> (Self, Vec<Self>) {
        let mut session = Self::default();
        let mut media: Vec<Self> = Vec::new();
        for (kind, value) in lines(description) {
            if kind == b'm' && media.len() < MAX_ITEMS {
                media.push(Self::of_media(value));
            } else if kind != b'm' {
                media.last_mut().unwrap_or(&mut session).add(kind, value);
            }
        }
        (session, media)
    }

    /// RFC 4566, 5.14: `audio 49170/2 RTP/AVP 0`.
    fn of_media(value: &[u8]) -> Self {
        let mut parts = fields(value).skip(1);
        let port_field = parts.next().unwrap_or_default();
        let profile = parts.next().unwrap_or_default().to_ascii_uppercase();
        let is_secured = profile.windows(4).any(|name| name == b"SAVP");
        let mut parts = port_field.split(|&byte| byte == b'/');
        let port = parts.next().and_then(number);
        let port_pairs = parts
            .next()
            .and_then(number)
            .unwrap_or(1)
            .clamp(1, MAX_PORT_PAIRS);
        Self {
            port,
            port_pairs,
            is_secured,
            ..Self::default()
        }
    }

    fn add(&mut self, kind: u8, value: &'a [u8]) {
        match kind {
            b'c' => self.add_connection(value),
            b'a' => self.add_attribute(value),
            _ => {}
        }
    }

    fn add_connection(&mut self, value: &[u8]) {
        for address in Address::of_connection(value) {
            match address {
                Address::Ip(_) => {}
                Address::HostName => self.host_names = self.host_names.saturating_add(1),
                Address::Unreadable => {
                    self.unreadable_addresses = self.unreadable_addresses.saturating_add(1);
                }
            }
            if self.connections.len() < MAX_ITEMS {
                self.connections.push(address);
            }
        }
    }

    fn add_attribute(&mut self, attribute: &'a [u8]) {
        let mut halves = attribute.splitn(2, |&byte| byte == b':');
        let name = halves
            .next()
            .unwrap_or_default()
            .trim_ascii()
            .to_ascii_lowercase();
        let value = halves.next().unwrap_or_default().trim_ascii();
        match name.as_slice() {
            b"inactive" => self.inactive = Some(true),
            b"sendrecv" | b"sendonly" | b"recvonly" => self.inactive = Some(false),
            b"rtcp" => self.rtcp = rtcp(value).or(self.rtcp),
            b"candidate" if self.candidates.len() < MAX_ITEMS => {
                self.candidates.extend(Candidate::of(value));
            }
            b"rtpmap" if self.formats.len() < MAX_ITEMS => {
                self.formats.extend(Format::of_rtpmap(value));
            }
            b"crypto" | b"fingerprint" => self.is_secured = true,
            b"ptime" => self.ptime_ms = whole_ms(value).or(self.ptime_ms),
            b"group" => self.bundles.add_group(value),
            b"mid" => self.mid = self.mid.or(Some(value)),
            b"bundle-only" => self.is_bundle_only = true,
            _ => {}
        }
    }

    /// A description without an address for the session should have one for each media; some give
    /// one for the first media only, which the others then inherit.
    fn inherit_from(&mut self, media: &[Self]) {
        if self.connections.is_empty() {
            let has_address = |media: &&Self| {
                media
                    .connections
                    .iter()
                    .any(|address| *address != Address::Unreadable)
            };
            self.connections = media
                .iter()
                .find(has_address)
                .map_or(Vec::new(), |media| media.connections.clone());
        }
    }

    /// The bundle of this media description. With port 0 and without `a=bundle-only` it has none:
    /// it was refused.
    fn bundle(&self, session: &Self) -> Option<BundleNumber> {
        let bundle = session.bundles.number_of(self.mid?)?;
        (self.port != Some(0) || self.is_bundle_only).then_some(bundle)
    }

    /// The media, without its endpoints and formats.
    fn media(&self, session: &Self) -> Media {
        Media {
            ptime_ms: self.ptime_ms.or(session.ptime_ms),
            is_secured: Some(self.is_secured || session.is_secured),
            refused: self.port == Some(0) && self.bundle(session).is_none(),
            ..Media::default()
        }
    }

    /// Its formats, and up to `room` inherited ones. (Formats belong to media, but some senders put
    /// them before the first `m=` line.)
    fn formats(&self, session: &Self, bundled: &[Format], room: &mut usize) -> Vec<Format> {
        let mut formats = Formats::default();
        for format in &self.formats {
            formats.add(*format);
        }
        for format in session.formats.iter().chain(bundled) {
            if *room > 0 && formats.add(*format) {
                *room = room.saturating_sub(1);
            }
        }
        formats.into_list()
    }

    /// Adds the endpoints at its own addresses, or at those of the session.
    fn give_all(&self, session: &Self, media: &mut Media) {
        let is_inactive = self.inactive.or(session.inactive).unwrap_or(false);
        let Some(first) = self.port.filter(|port| *port != 0 && !is_inactive) else {
            return;
        };
        let connections = if self.connections.is_empty() {
            &session.connections
        } else {
            &self.connections
        };
        for &address in connections {
            for pair in 0..self.port_pairs {
                if let Some(port) = first.checked_add(pair.saturating_mul(2)) {
                    self.give_pair(address, port, media);
                }
            }
        }
        self.give_candidates(media);
    }

    /// Adds the RTP port of one pair, and its RTCP port: the one that `a=rtcp` gives (RFC 3605),
    /// else the next port. Multiplexed RTCP needs no endpoint of its own.
    fn give_pair(&self, address: Address, port: u16, media: &mut Media) {
        media.give_at(address, port, Rank::Named);
        match (self.rtcp, port.checked_add(1)) {
            (Some((port, own_address)), _) => {
                media.give_at(own_address.map_or(address, Address::Ip), port, Rank::Named);
            }
            (None, Some(next)) => media.give_at(address, next, Rank::Implied),
            (None, None) => {}
        }
    }

    fn give_candidates(&self, media: &mut Media) {
        for candidate in &self.candidates {
            candidate
                .endpoint
                .into_iter()
                .for_each(|endpoint| media.give(endpoint, Rank::Named));
            candidate
                .base
                .into_iter()
                .for_each(|base| media.give_base(base));
        }
    }
}

impl Media {
    /// The same media with guessed endpoints added.
    #[must_use]
    pub fn with_guesses(&self, guesses: impl IntoIterator<Item = Endpoint>) -> Self {
        let mut media = self.clone();
        guesses
            .into_iter()
            .for_each(|guess| media.give(guess, Rank::Guessed));
        media
    }

    fn give(&mut self, endpoint: Endpoint, rank: Rank) {
        let known = self.endpoints.iter().any(|&(known, _)| known == endpoint);
        if !known
            && !endpoint.is_unspecified()
            && endpoint.port() != 0
            && self.endpoints.len() < MAX_ENDPOINTS
        {
            self.endpoints.push((endpoint, rank));
        }
    }

    fn give_at(&mut self, address: Address, port: u16, rank: Rank) {
        match address {
            Address::Ip(ip) => self.give(Endpoint::new(ip, port), rank),
            Address::HostName => self.give_unresolved(port),
            Address::Unreadable => {}
        }
    }

    fn give_unresolved(&mut self, port: u16) {
        if port != 0 && !self.unresolved.contains(&port) && self.unresolved.len() < MAX_ENDPOINTS {
            self.unresolved.push(port);
        }
    }

    fn give_base(&mut self, base: Endpoint) {
        let is_one = !base.is_unspecified() && base.port() != 0;
        if is_one && !self.bases.contains(&base) && self.bases.len() < MAX_ENDPOINTS {
            self.bases.push(base);
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

/// An ICE candidate over UDP.
struct Candidate {
    /// `None` for a host name, such as browsers generate to hide their address.
    endpoint: Option<Endpoint>,
    base: Option<Endpoint>,
}

impl Candidate {
    /// RFC 8839, 5.1: `1 1 UDP 1694498815 203.0.113.141 8998 typ srflx raddr 10.0.0.5 rport 4000`.
    fn of(value: &[u8]) -> Option<Self> {
        let mut parts = fields(value).skip(2);
        if !parts.next()?.eq_ignore_ascii_case(b"udp") {
            return None;
        }
        let endpoint = endpoint(parts.nth(1)?, parts.next()?);
        let (mut address, mut port) = (None, None);
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            match name.to_ascii_lowercase().as_slice() {
                b"raddr" => address = Some(value),
                b"rport" => port = Some(value),
                _ => {}
            }
        }
        Some(Self {
            endpoint,
            base: address
                .zip(port)
                .and_then(|(address, port)| self::endpoint(address, port)),
        })
    }
}

fn endpoint(address: &[u8], port: &[u8]) -> Option<Endpoint> {
    let Address::Ip(ip) = Address::parse(address)? else {
        return None;
    };
    Some(Endpoint::new(ip, number(port)?))
}

/// `20`, or `20.0` as some senders write it.
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
        media
            .map(|(endpoint, rank)| {
                format!(
                    "{endpoint}{}",
                    if *rank == Rank::Implied { "?" } else { "" }
                )
            })
            .collect()
    }

    const C: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";

    #[test]
    fn a_media_line_gives_its_port_and_the_one_above() {
        assert_eq!(
            endpoints(&format!("{C}m=audio 4000 RTP/AVP 0\r\n")),
            ["192.0.2.1:4000", "192.0.2.1:4001?"]
        );
    }

    #[test]
    fn the_connection_of_the_media_wins() {
        let text = format!(
            "{C}m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\nm=video 5000 RTP/AVP 31\r\n"
        );
        assert_eq!(
            endpoints(&text),
            [
                "[2001:db8::1]:4000",
                "[2001:db8::1]:4001?",
                "192.0.2.1:5000",
                "192.0.2.1:5001?"
            ]
        );
    }

    #[test]
    fn lines_in_the_wrong_place() {
        let text = "v=0\na=rtpmap:96 opus/48000\nm=audio 4000 RTP/AVP 96\nc=IN IP4 192.0.2.1\nm=video 5000 RTP/AVP 31\n";
        assert_eq!(
            endpoints(text),
            [
                "192.0.2.1:4000",
                "192.0.2.1:4001?",
                "192.0.2.1:5000",
                "192.0.2.1:5001?"
            ]
        );
        assert_eq!(
            Description::parse(text.as_bytes()).media[0].formats[0].clock_rate,
            48_000
        );
    }

    #[test]
    fn what_gives_no_endpoint() {
        assert!(
            endpoints(&format!("{C}m=audio 0 RTP/AVP 0\r\n")).is_empty(),
            "port 0"
        );
        assert!(
            endpoints(&format!("{C}m=audio 4000 RTP/AVP 0\r\na=inactive\r\n")).is_empty(),
            "inactive"
        );
        assert!(
            endpoints(&format!("{C}a=inactive\r\nm=audio 4000 RTP/AVP 0\r\n")).is_empty(),
            "all inactive"
        );
        assert!(
            endpoints("c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\n").is_empty(),
            "0.0.0.0"
        );
        assert!(
            endpoints("c=IN IP6 ::\nm=audio 4000 RTP/AVP 0\n").is_empty(),
            "::"
        );
        assert!(endpoints(&format!("{C}m=audio\r\n")).is_empty(), "no port");
        assert!(
            endpoints("m=audio 4000 RTP/AVP 0\n").is_empty(),
            "no address"
        );
    }

    #[test]
    fn hold_by_direction_keeps_the_endpoint() {
        let text = format!("{C}a=inactive\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n");
        assert_eq!(endpoints(&text), ["192.0.2.1:4000", "192.0.2.1:4001?"]);
    }

    #[test]
    fn rtcp_where_it_is_declared() {
        let text = |attribute| format!("{C}m=audio 4000 RTP/AVP 0\r\na={attribute}\r\n");
        assert_eq!(
            endpoints(&text("rtcp:53020")),
            ["192.0.2.1:4000", "192.0.2.1:53020"]
        );
        assert_eq!(
            endpoints(&text("rtcp:53020 IN IP4 192.0.2.7")),
            ["192.0.2.1:4000", "192.0.2.7:53020"]
        );
        assert_eq!(endpoints(&text("rtcp:4000")), ["192.0.2.1:4000"]);
        assert_eq!(
            endpoints(&text("rtcp-mux")),
            ["192.0.2.1:4000", "192.0.2.1:4001?"]
        );
    }

    #[test]
    fn several_pairs_and_the_last_port() {
        let pairs = [
            "192.0.2.1:4000",
            "192.0.2.1:4001?",
            "192.0.2.1:4002",
            "192.0.2.1:4003?",
        ];
        assert_eq!(
            endpoints(&format!("{C}m=audio 4000/2 RTP/AVP 0\r\n")),
            pairs
        );
        assert_eq!(
            endpoints(&format!("{C}m=audio 65535 RTP/AVP 0\r\n")),
            ["192.0.2.1:65535"]
        );
        assert_eq!(
            Description::parse(format!("{C}m=audio 2/65535 RTP/AVP 0").as_bytes()).media[0]
                .endpoints
                .len(),
            64
        );
    }

    #[test]
    fn a_few_lines_cannot_ask_for_much() {
        let text = format!(
            "{}m=audio 2/32 RTP/AVP 0\r\n",
            "c=IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.2\r\n".repeat(40)
        );
        let many = (0..40)
            .map(|n| format!("c=IN IP4 192.0.2.{n}\r\n"))
            .collect::<String>()
            + "m=audio 2/32 RTP/AVP 0\r\n";
        assert!(Description::parse(text.as_bytes()).media[0].endpoints.len() <= MAX_ENDPOINTS);
        assert_eq!(
            Description::parse(many.as_bytes()).media[0].endpoints.len(),
            MAX_ENDPOINTS
        );
    }

    #[test]
    fn candidates_over_udp() {
        let text = format!(
            "{C}m=audio 4000 RTP/AVP 0\r\na=candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host\r\n\
             a=candidate:2 1 TCP 1 203.0.113.142 9 typ host tcptype active\r\na=candidate:3 1 udp 1 x.local 8 typ host\r\n"
        );
        assert_eq!(
            endpoints(&text),
            ["192.0.2.1:4000", "192.0.2.1:4001?", "203.0.113.141:8998"]
        );
    }

    #[test]
    fn as_found_in_the_wild() {
        for text in [
            "c = IN ip4 192.0.2.1\nm=audio  4000   RTP/AVP 0\n",
            "c=IN IP4 192.0.2.1/127\nm=audio 4000 RTP/AVP 0\0",
            "  c=IN IP4 192.0.2.1 \r\nM=audio 4000 RTP/AVP 0\r\n",
        ] {
            assert_eq!(
                endpoints(text),
                ["192.0.2.1:4000", "192.0.2.1:4001?"],
                "{text}"
            );
        }
        assert_eq!(
            endpoints("c=IN IP6 [2001:db8::1]\nm=audio 4 RTP/AVP 0")[0],
            "[2001:db8::1]:4"
        );
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
        let opus = Format {
            payload_type: 96,
            clock_rate: 48_000,
            codec: Codec::of(b"opus"),
        };
        assert_eq!(media[0].formats[0], opus);
        assert_eq!(
            media[0]
                .formats
                .iter()
                .map(Format::is_sampled)
                .collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!((media[0].ptime_ms, media[1].ptime_ms), (Some(20), Some(30)));
    }

    #[test]
    fn the_first_word_on_a_payload_type_counts() {
        let text = format!(
            "{C}a=rtpmap:96 c/3\r\nm=audio 4000 RTP/AVP 96\r\na=rtpmap:96 a/1\r\na=rtpmap:96 b/2\r\n"
        );
        assert_eq!(codecs(&text), [["a"].as_slice()]);
    }

    #[test]
    fn refused_is_what_has_port_0() {
        let refused = |text: &str| {
            Description::parse(format!("{C}a=group:BUNDLE a b\r\n{text}").as_bytes())
                .media
                .iter()
                .map(|media| media.refused)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            refused("m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 31\r\n"),
            [false, true]
        );
        assert_eq!(
            refused("m=audio 0/2 RTP/AVP 0\r\nm=audio\r\nm=audio x\r\n"),
            [true, false, false]
        );
        assert_eq!(
            refused("m=video 0 RTP/AVP 31\r\na=mid:b\r\na=bundle-only\r\n"),
            [false]
        );
        assert_eq!(
            refused("m=video 0 RTP/AVP 31\r\na=mid:b\r\n"),
            [true],
            "in the group, and refused"
        );
        assert_eq!(
            refused("m=video 0 RTP/AVP 31\r\na=bundle-only\r\n"),
            [true],
            "no name"
        );
        assert_eq!(
            refused("m=video 0 RTP/AVP 31\r\na=mid:c\r\na=bundle-only\r\n"),
            [true],
            "not in the group"
        );
    }

    /// The codecs of each media description.
    fn codecs(text: &str) -> Vec<Vec<String>> {
        let name = |format: &Format| String::from_utf8(format.codec.name().to_vec()).unwrap();
        let media = Description::parse(text.as_bytes()).media;
        media
            .iter()
            .map(|media| media.formats.iter().map(name).collect())
            .collect()
    }

    #[test]
    fn the_media_of_a_bundle_share_their_formats() {
        let media = |mid: &str, more: &str, formats: &[&str]| {
            let rtpmaps: String = formats
                .iter()
                .map(|format| format!("a=rtpmap:{format}/90000\r\n"))
                .collect();
            format!("m=video {more}\r\na=mid:{mid}\r\n{rtpmaps}")
        };
        let text = format!(
            "{C}a=group:BUNDLE 0 1 gone refused only\r\na=group:BUNDLE x y\r\n{}{}{}{}{}{}{}",
            media("0", "4000 RTP/AVP 96", &["96 a"]),
            media("alone", "4002 RTP/AVP 97", &["97 b"]),
            media("1", "9 RTP/AVP 96", &["96 c", "98 d"]),
            media("refused", "0 RTP/AVP 99", &["99 e"]),
            media("only", "0 RTP/AVP 100\r\na=bundle-only", &["100 f"]),
            media("x", "4004 RTP/AVP 101", &["101 g"]),
            media("y", "4004 RTP/AVP 102", &["102 h"]),
        );
        assert_eq!(
            codecs(&text),
            [
                &["a", "d", "f"][..],
                &["b"],
                &["c", "d", "f"],
                &["e"],
                &["f", "a", "d"],
                &["g", "h"],
                &["h", "g"]
            ]
        );
        assert_eq!(
            codecs(&text.replace("BUNDLE", "LS")),
            [
                &["a"][..],
                &["b"],
                &["c", "d"],
                &["e"],
                &["f"],
                &["g"],
                &["h"]
            ]
        );
    }

    #[test]
    fn only_formats_are_shared() {
        let text = format!(
            "{C}a=group:BUNDLE 0 1\r\nm=audio 4000 RTP/AVP 0\r\na=mid:0\r\na=ptime:40\r\nm=audio 4002 RTP/AVP 0\r\na=mid:1\r\n"
        );
        assert_eq!(
            Description::parse(text.as_bytes())
                .media
                .iter()
                .map(|media| media.ptime_ms)
                .collect::<Vec<_>>(),
            [Some(40), None]
        );
    }

    #[test]
    fn media_do_not_multiply_formats() {
        let many: String = (0..128)
            .map(|number| format!("a=rtpmap:{number} x/8000\r\n"))
            .collect();
        let members: String = (0..60)
            .map(|number| format!("m=audio 9 RTP/AVP 0\r\na=mid:{number}\r\n"))
            .collect();
        let group: String = (0..60).map(|number| format!(" {number}")).collect();
        let text = format!("{C}{many}a=group:BUNDLE{group}\r\n{members}{many}");
        let media = Description::parse(text.as_bytes()).media;
        assert_eq!(media.len(), 60);
        assert_eq!(
            media[0].formats.len(),
            MAX_ITEMS,
            "of the session, those of the last media are the same"
        );
        assert_eq!(
            media.iter().map(|media| media.formats.len()).sum::<usize>(),
            MAX_INHERITED_FORMATS + MAX_ITEMS
        );
    }

    #[test]
    fn ports_at_a_host_name() {
        let unresolved = |text: &str| {
            let description = Description::parse(text.as_bytes());
            (
                description
                    .media
                    .iter()
                    .map(|media| media.unresolved.clone())
                    .collect::<Vec<_>>(),
                description.host_names,
            )
        };
        let named = "c=IN IP4 host.example.com\r\n";
        assert_eq!(
            unresolved(&format!("{named}m=audio 4000 RTP/AVP 0\r\n")),
            (vec![vec![4000, 4001]], 1)
        );
        assert_eq!(
            unresolved(&format!("{C}m=audio 4000/2 RTP/AVP 0\r\n{named}{named}")),
            (vec![vec![4000, 4001, 4002, 4003]], 2)
        );
        assert_eq!(
            unresolved(&format!("{named}m=audio 4000 RTP/AVP 0\r\na=rtcp:5000\r\n")).0,
            [[4000, 5000]]
        );
        assert_eq!(
            unresolved(&format!(
                "m=audio 4000 RTP/AVP 0\r\n{named}m=video 5000 RTP/AVP 31\r\n"
            ))
            .0,
            [[4000, 4001], [5000, 5001]]
        );
        assert_eq!(
            unresolved(&format!(
                "{named}m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n"
            )),
            (vec![vec![]], 1),
            "overruled"
        );
        let inactive =
            format!("{named}m=audio 0 RTP/AVP 0\r\nm=audio 4000 RTP/AVP 0\r\na=inactive\r\n");
        assert_eq!(unresolved(&inactive).0, [[0u16; 0]; 2]);

        let rtcp = format!("{named}m=audio 4000 RTP/AVP 0\r\na=rtcp:53020 IN IP4 192.0.2.7\r\n");
        assert_eq!(
            (unresolved(&rtcp).0, endpoints(&rtcp)),
            (vec![vec![4000]], vec!["192.0.2.7:53020".to_owned()])
        );
        let many = (1..=70)
            .map(|n| format!("m=audio {n}000/32 RTP/AVP 0\r\n"))
            .collect::<String>();
        let ports = unresolved(&format!("{named}{many}")).0;
        assert_eq!(
            (ports[0].len(), ports.iter().map(Vec::len).sum::<usize>()),
            (64, MAX_ENDPOINTS_IN_ALL)
        );
    }

    #[test]
    fn addresses_that_cannot_be_read() {
        let counts = |text: &str| {
            let description = Description::parse(text.as_bytes());
            let given = description
                .media
                .iter()
                .map(|media| media.endpoints.len() + media.unresolved.len())
                .sum::<usize>();
            (
                description.unreadable_addresses,
                description.host_names,
                given,
            )
        };
        assert_eq!(
            counts("c=IN IP4 300.1.2.3\nm=audio 4000 RTP/AVP 0\n"),
            (1, 0, 0)
        );
        assert_eq!(
            counts(&format!("{C}m=audio 4000 RTP/AVP 0\nc=IN IP4 1.2.3\n")),
            (1, 0, 0),
            "the session's is not meant"
        );
        assert_eq!(
            counts("c=IN IP4 010.000.000.005\nm=audio 4000 RTP/AVP 0\n"),
            (0, 0, 2)
        );
        assert_eq!(
            counts("c=IN IP4 000.000.000.000\nm=audio 4000 RTP/AVP 0\n"),
            (0, 0, 0)
        );
    }

    #[test]
    fn several_addresses_of_multicast() {
        let text = "c=IN IP4 224.2.1.1/127/2\nm=video 4000 RTP/AVP 31\n";
        assert_eq!(
            endpoints(text),
            [
                "224.2.1.1:4000",
                "224.2.1.1:4001?",
                "224.2.1.2:4000",
                "224.2.1.2:4001?"
            ]
        );
    }

    #[test]
    fn bases_of_candidates() {
        let bases = |candidates: &[&str]| {
            let lines: String = candidates
                .iter()
                .map(|candidate| format!("a=candidate:{candidate}\r\n"))
                .collect();
            let media =
                &Description::parse(format!("{C}m=audio 4000 RTP/AVP 0\r\n{lines}").as_bytes())
                    .media[0];
            assert!(
                media
                    .endpoints
                    .iter()
                    .all(|(endpoint, _)| !media.bases.contains(endpoint))
            );
            media
                .bases
                .iter()
                .map(Endpoint::to_string)
                .collect::<Vec<_>>()
        };
        let reflexive = "2 1 UDP 1694498815 203.0.113.141 8998 typ srflx raddr 10.0.0.5 rport 5000";
        assert_eq!(bases(&[reflexive, reflexive]), ["10.0.0.5:5000"]);
        assert_eq!(
            bases(&[
                "2 1 udp 1 203.0.113.141 8998 typ relay generation 0 RPORT 5 RADDR 2001:db8::5 x"
            ]),
            ["[2001:db8::5]:5"]
        );
        assert_eq!(
            bases(&["2 1 udp 1 b3a4.local 8998 typ srflx raddr 10.0.0.5 rport 5000"]),
            ["10.0.0.5:5000"]
        );
        for none in [
            "2 1 UDP 1 203.0.113.141 8998 typ srflx raddr 0.0.0.0 rport 5000",
            "2 1 UDP 1 203.0.113.141 8998 typ srflx raddr 10.0.0.5 rport 0",
            "2 1 UDP 1 203.0.113.141 8998 typ srflx raddr 10.0.0.5",
            "2 1 UDP 1 203.0.113.141 8998 typ srflx raddr x.local rport 5000",
            "2 1 UDP 1 203.0.113.141 8998 typ host ufrag raddr 10.0.0.5 rport",
            "2 1 TCP 1 203.0.113.141 9 typ srflx raddr 10.0.0.5 rport 5000",
        ] {
            assert!(bases(&[none]).is_empty(), "{none}");
        }
    }

    #[test]
    fn of_a_fragment_only_candidates_count() {
        let fragment = |text: &str| {
            let media = Description::parse_fragment(text.as_bytes()).media;
            let text = |media: &Media| {
                (
                    media
                        .endpoints
                        .iter()
                        .map(|(endpoint, _)| endpoint.to_string())
                        .collect(),
                    media.bases.len(),
                )
            };
            assert!(media.iter().all(|media| media.formats.is_empty()
                && media.unresolved.is_empty()
                && !media.refused));
            media
                .iter()
                .map(text)
                .collect::<Vec<(Vec<String>, usize)>>()
        };
        // An extract of the example in RFC 8840, 9.2.
        let text = "a=ice-pwd:x\r\na=ice-ufrag:y\r\nm=audio 9 RTP/AVP 0\r\na=mid:1\r\na=rtpmap:96 x/1\r\n\
            a=candidate:1 1 UDP 2130706432 192.0.2.3 8998 typ host\r\n\
            m=audio 0 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\na=mid:2\r\na=inactive\r\n\
            a=candidate:2 1 UDP 1694498815 203.0.113.141 5000 typ srflx raddr 10.0.1.1 rport 8998\r\na=end-of-candidates\r\n\
            m=audio 4000 RTP/AVP 0\r\nc=IN IP4 host.example.com\r\na=mid:3\r\n";
        assert_eq!(
            fragment(text),
            [
                (vec!["192.0.2.3:8998".to_owned()], 0),
                (vec!["203.0.113.141:5000".to_owned()], 1)
            ]
        );
        assert_eq!(fragment(&text.replace("\r\n", "\r")), fragment(text));
        assert_eq!(
            fragment("a=candidate:1 1 UDP 1 192.0.2.3 8998 typ host\r\n"),
            [(vec!["192.0.2.3:8998".to_owned()], 0)],
            "no m="
        );
        assert_eq!(fragment("a=mid:1\r\n"), []);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([acmv] ?= ?[ -~]{0,40}(\r\n|\n)){0,20}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Description::parse(text.as_bytes());
            let _ = Description::parse(&bytes);
        }
    }
}
