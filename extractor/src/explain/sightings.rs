//! What the packets of a capture carry: what flows look like, TLS between hosts, and messages of
//! the wanted calls on ports where SIP is not looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use shared::units::SipPorts;

use super::Task;
use crate::{
    calls::{Trace, Wanted},
    events::FlowKey,
    index::readable,
    packet::{Datagram, Endpoint, Packet, TcpSegment},
    reassembly::is_tls,
    rtp::Header,
    sip::{self, Message, Method, StartLine},
    survey::Protocol,
};

/// The most flows whose content is looked at, and the most pairs of hosts with TLS.
const MAX_FLOWS: usize = 8192;
const MAX_PAIRS: usize = 1024;

/// What the packets carry.
#[derive(Debug)]
pub(super) struct Sightings {
    wanted: Wanted,
    ports: SipPorts,
    ends: BTreeSet<Endpoint>,
    hosts: BTreeSet<IpAddr>,
    looks: BTreeMap<FlowKey, Look>,
    /// TLS records between two hosts of the calls.
    pub(super) tls: BTreeMap<[IpAddr; 2], u64>,
    /// Messages of the wanted calls on other ports than those of SIP, by the server's port.
    pub(super) elsewhere: BTreeMap<u16, u64>,
    /// Messages with a wanted Call-ID, and the INVITEs among them, on any port.
    pub(super) messages: u64,
    /// See `messages`.
    pub(super) invites: u64,
}

/// What the packets of a flow look like.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) rtp: u64,
    pub(super) rtcp: u64,
    pub(super) stun: u64,
    pub(super) dtls: u64,
    pub(super) other: u64,
    /// RTP packets by payload type.
    pub(super) payload_types: BTreeMap<u8, u64>,
}

impl Sightings {
    pub(super) fn of(trace: &Trace, task: &Task) -> Self {
        let calls = trace.calls();
        let grants = calls.iter().flat_map(|call| &call.grants);
        Self {
            wanted: task.wanted.clone(),
            ports: task.sip_ports,
            ends: grants.map(|grant| grant.endpoint).collect(),
            hosts: calls.iter().flat_map(|call| &call.hosts).copied().collect(),
            looks: BTreeMap::new(),
            tls: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            messages: 0,
            invites: 0,
        }
    }

    /// What the packets of a flow look like.
    pub(super) fn look(&self, flow: &FlowKey) -> Option<&Look> {
        self.looks.get(flow)
    }

    /// Looks at a packet.
    pub(super) fn add(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Udp(datagram) | Packet::Told(_, datagram) => self.add_datagram(datagram),
            Packet::Tcp(segment) => self.add_segment(segment),
            _ => {}
        }
    }

    fn add_datagram(&mut self, datagram: &Datagram<'_>) {
        let (source, destination) = (datagram.source, datagram.destination);
        if sip::may_be_message(datagram.payload)
            && let Some(Ok(message)) = Message::parse(readable(datagram))
        {
            self.add_message(&message, source, destination);
            return;
        }
        let is_near = self.ends.contains(&source)
            || self.ends.contains(&destination)
            || (self.hosts.contains(&source.ip()) && self.hosts.contains(&destination.ip()));
        let key = FlowKey::of(datagram);
        if is_near && (self.looks.len() < MAX_FLOWS || self.looks.contains_key(&key)) {
            self.looks.entry(key).or_default().add(datagram);
        }
    }

    fn add_segment(&mut self, segment: &TcpSegment<'_>) {
        let (source, destination) = (segment.source, segment.destination);
        if let Some(Ok(message)) = Message::parse(segment.payload) {
            self.add_message(&message, source, destination);
        } else if is_tls(segment.payload)
            && self.hosts.contains(&source.ip())
            && self.hosts.contains(&destination.ip())
        {
            let (one, other) = (source.ip(), destination.ip());
            let pair = [one.min(other), one.max(other)];
            if self.tls.len() < MAX_PAIRS || self.tls.contains_key(&pair) {
                increment(self.tls.entry(pair).or_default());
            }
        }
    }

    fn add_message(&mut self, message: &Message<'_>, source: Endpoint, destination: Endpoint) {
        let mut patterns = self.wanted.pattern.iter();
        let is_wanted = *message.call_id == *self.wanted.text.as_bytes()
            || patterns.any(|pattern| pattern.is_match(message.call_id));
        if !is_wanted {
            return;
        }
        increment(&mut self.messages);
        if message.start == StartLine::Request(Method::Invite) {
            increment(&mut self.invites);
        }
        if !self.ports.admit(source.port(), destination.port()) {
            let server = if matches!(message.start, StartLine::Request(_)) {
                destination
            } else {
                source
            };
            increment(self.elsewhere.entry(server.port()).or_default());
        }
    }
}

impl Look {
    fn add(&mut self, datagram: &Datagram<'_>) {
        if let Some(header) = Header::parse(datagram.payload, datagram.wire_len) {
            increment(&mut self.rtp);
            increment(self.payload_types.entry(header.payload_type).or_default());
            return;
        }
        let is_rtcp = matches!(datagram.payload, [0x80..=0xbf, 192..=223, ..]);
        increment(match Protocol::of_datagram(datagram) {
            _ if is_rtcp => &mut self.rtcp,
            Some(Protocol::Stun) => &mut self.stun,
            Some(Protocol::Dtls) => &mut self.dtls,
            _ => &mut self.other,
        });
    }
}

fn increment(count: &mut u64) {
    *count = count.saturating_add(1);
}
