//! Traffic of many calls, the same in every run. It is written while it is generated, so a file of
//! any size needs only memory for the active calls.
//!
//! Calls begin one after the other until the number in the [`Plan`] is active; each that ends is
//! followed by another. A call is answered after two seconds of ringing, has 20 ms of G.711 both
//! ways, 50 packets a second each, and ends with a BYE. Calls without media are answered and ended
//! at once.

use std::{
    fmt,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use clap::{Args, ValueEnum};
use shared::pcap::{
    DEFAULT_SNAPLEN, LinkType, Precision, file_header, ng_interface, ng_packet, ng_section_header,
    record_header,
};

use crate::{MS, SECOND, frames, ladder::START_NS, layers, media::Rtp, sip, web::Web};

/// The parameters of the traffic.
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// How many calls are active at once.
    #[arg(long, default_value_t = Plan::default().calls)]
    pub calls: u32,
    /// When to let the calls end: about the size of the file.
    #[arg(long, default_value_t = Plan::default().bytes)]
    pub bytes: u64,
    /// The largest number of calls.
    #[arg(long, default_value_t = Plan::default().most_calls, hide_default_value = true)]
    pub most_calls: u64,
    /// The average duration of a call's media. With 0, calls have no media and last for 40 ms.
    #[arg(long, default_value_t = Plan::default().seconds_of_media)]
    pub seconds_of_media: u64,
    /// The link layer of the frames.
    #[arg(long, value_enum, default_value_t)]
    pub link: Link,
    /// IPv6 instead of IPv4.
    #[arg(long)]
    pub ipv6: bool,
    /// A pcapng instead of a pcap.
    #[arg(long)]
    pub pcapng: bool,
    /// The length of SIP messages, and their transport.
    #[arg(long, value_enum, default_value_t)]
    pub signalling: Signalling,
    /// How many web connections are active at once around the calls.
    #[arg(long, default_value_t = Plan::default().web)]
    pub web: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Link {
    #[default]
    Ethernet,
    /// Ethernet with an 802.1Q tag.
    Vlan,
    /// Linux cooked v1, as of `tcpdump -i any`.
    Sll,
    /// Linux cooked v2, as of a newer `tcpdump -i any`.
    Sll2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Signalling {
    /// The mandatory headers, over UDP: some 400 bytes.
    #[default]
    Short,
    /// The headers of trunks, over UDP: 300 to 950 bytes.
    Full,
    /// The same headers; of four calls, one has SIP over TCP, and one an INVITE so large that it is
    /// fragmented.
    Mixed,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            calls: 10,
            bytes: 1_000_000,
            most_calls: u64::MAX,
            seconds_of_media: 30,
            link: Link::default(),
            ipv6: false,
            pcapng: false,
            signalling: Signalling::default(),
            web: 0,
        }
    }
}

impl Plan {
    fn link_type(&self) -> LinkType {
        match self.link {
            Link::Ethernet | Link::Vlan => LinkType::ETHERNET,
            Link::Sll => LinkType::LINUX_SLL,
            Link::Sll2 => LinkType::LINUX_SLL2,
        }
    }

    /// Returns the function that makes an IP packet a frame of this link.
    fn wrap(&self) -> fn(&[u8]) -> Vec<u8> {
        let framing = |name| {
            layers::FRAMINGS
                .iter()
                .find(|framing| framing.0 == name)
                .expect("a known framing")
                .1
        };
        let link = |kind| {
            layers::LINKS
                .iter()
                .find(|link| link.0 == kind)
                .expect("a known link type")
                .1
        };
        match self.link {
            Link::Ethernet => framing("Ethernet"),
            Link::Vlan => framing("802.1Q"),
            Link::Sll | Link::Sll2 => link(self.link_type()),
        }
    }

    fn file_header(&self) -> Vec<u8> {
        if self.pcapng {
            [
                ng_section_header(),
                ng_interface(self.link_type(), PRECISION, DEFAULT_SNAPLEN),
            ]
            .concat()
        } else {
            file_header(self.link_type(), PRECISION, DEFAULT_SNAPLEN).to_vec()
        }
    }

    /// Returns an endpoint as given, or an IPv6 one that is as private or public.
    fn end(&self, end: SocketAddr) -> SocketAddr {
        match end.ip() {
            IpAddr::V4(ip) if self.ipv6 => {
                let prefix = if ip.is_private() {
                    [0xfd00, 0]
                } else {
                    [0x2001, 0x0db8]
                };
                let [a, b, c, d] = ip.octets().map(u16::from);
                SocketAddr::new(
                    Ipv6Addr::new(prefix[0], prefix[1], 0, 0, a, b, c, d).into(),
                    end.port(),
                )
            }
            _ => end,
        }
    }
}

/// The contents of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    pub bytes: u64,
    pub packets: u64,
    pub calls: u64,
    pub sip: u64,
    pub rtp: u64,
    /// TCP segments without data, which belong to no call.
    pub acknowledgements: u64,
    /// Packets of web connections.
    pub web: u64,
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bytes,
            packets,
            calls,
            sip,
            rtp,
            acknowledgements,
            web,
        } = self;
        write!(
            f,
            "{bytes} bytes, {packets} packets, {calls} calls, {sip} SIP messages, {rtp} RTP packets"
        )?;
        for (count, what) in [
            (acknowledgements, "TCP acknowledgements"),
            (web, "web packets"),
        ] {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Writes the traffic of a plan.
pub fn write(plan: &Plan, to: impl Write) -> io::Result<Truth> {
    let mut traffic = Traffic {
        plan,
        to,
        wrap: plan.wrap(),
        truth: Truth::default(),
        connections: [[1; 2]; CONNECTIONS as usize],
    };
    traffic.generate()?;
    traffic.to.flush()?;
    Ok(traffic.truth)
}

const PRECISION: Precision = Precision::Micro;
/// The duration of one frame of speech.
const TICK: u64 = 20 * MS;
const RINGING_TICKS: u64 = 100;
/// The largest payload above IP and UDP or TCP.
const MOST_CARRIED: usize = 1448;
/// The TCP connections that calls share; they begin before the capture.
const CONNECTIONS: u64 = 16;

struct Traffic<'p, W> {
    plan: &'p Plan,
    to: W,
    wrap: fn(&[u8]) -> Vec<u8>,
    truth: Truth,
    /// The next sequence number of either side.
    connections: [[u32; 2]; CONNECTIONS as usize],
}

/// An active call and its progress.
struct Call {
    number: u64,
    tick: u64,
    ends_at: u64,
    /// A frame of each direction, which is stamped and sent again and again.
    media: [Vec<u8>; 2],
}

/// The sender.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Caller,
    Proxy,
}

impl Call {
    fn hang_up_soon(&mut self) {
        self.ends_at = self.ends_at.min(self.tick.max(RINGING_TICKS + 1));
    }

    fn id(&self) -> String {
        format!("{:08x}@192.0.2.1", self.number)
    }
}

impl<W: Write> Traffic<'_, W> {
    fn generate(&mut self) -> io::Result<()> {
        self.put(&self.plan.file_header())?;
        let slots = u64::from(self.plan.calls.max(1));
        // The starts are spread over two seconds, so that the calls are not in step.
        let per_tick = slots.div_ceil(RINGING_TICKS);
        let mut up: Vec<Call> = Vec::new();
        let mut web = Web::new(self.plan.web);
        let mut now = START_NS;
        loop {
            let room = (slots - up.len() as u64).min(self.plan.most_calls - self.truth.calls);
            let begin = if self.truth.bytes < self.plan.bytes {
                room.min(per_tick)
            } else {
                0
            };
            for _ in 0..begin {
                up.push(self.begin());
            }
            if up.is_empty() {
                return Ok(());
            }
            let step = TICK / (up.len() as u64 * 2 + 1);
            for (index, call) in up.iter_mut().enumerate() {
                self.advance(call, now + index as u64 * 2 * step, step)?;
            }
            up.retain(|call| call.tick <= call.ends_at);
            web.tick(|frame| {
                self.truth.web += 1;
                self.send(now + TICK - 1, frame)
            })?;
            if self.truth.bytes >= self.plan.bytes {
                up.iter_mut().for_each(Call::hang_up_soon);
            }
            now += TICK;
        }
    }

    fn begin(&mut self) -> Call {
        let number = self.truth.calls;
        self.truth.calls += 1;
        // Durations vary from half to one and a half times the average, the same in every run.
        let ticks = self.plan.seconds_of_media * SECOND / TICK;
        let ends_at = if ticks == 0 {
            2
        } else {
            RINGING_TICKS + ticks / 2 + number * 7919 % ticks
        };
        let (caller, callee) = self.media(number);
        let template = |from, to, side| {
            (self.wrap)(&frames::ip_udp(
                from,
                to,
                &Rtp::new(number as u32 * 2 + side, 0).bytes(),
            ))
        };
        Call {
            number,
            tick: 0,
            ends_at,
            media: [template(caller, callee, 0), template(callee, caller, 1)],
        }
    }

    /// Returns the call's endpoints, which no call with a near number has.
    fn media(&self, number: u64) -> (SocketAddr, SocketAddr) {
        let end = |net| {
            let ip = Ipv4Addr::new(10, net, (number / 25_000 % 256) as u8, 1);
            self.plan.end(SocketAddr::new(
                ip.into(),
                10_000 + (number % 25_000) as u16 * 2,
            ))
        };
        (end(1), end(2))
    }

    /// Sends the packets of both sides of a call within 20 ms.
    fn advance(&mut self, call: &mut Call, now: u64, step: u64) -> io::Result<()> {
        let has_media = call.ends_at > RINGING_TICKS;
        let answered = if has_media { RINGING_TICKS } else { 1 };
        let tick = call.tick;
        call.tick += 1;
        if tick > answered && tick != call.ends_at {
            return self.talk(call, tick - answered, now, step);
        }
        let (number, id) = (call.number, call.id());
        let (caller, callee) = self.media(number);
        if tick == 0 {
            let invite = self
                .with_invite_headers(number, sip::request("INVITE", &id))
                .sdp(&self.description(caller));
            self.say(now, number, Side::Caller, invite)?;
            self.say(
                now + step / 3,
                number,
                Side::Proxy,
                sip::response(100, "INVITE", &id),
            )?;
            self.say(
                now + step / 2,
                number,
                Side::Proxy,
                self.with_headers(sip::response(180, "INVITE", &id)),
            )
        } else if tick == answered {
            let ok = self
                .with_headers(sip::response(200, "INVITE", &id))
                .sdp(&self.description(callee));
            self.say(now, number, Side::Proxy, ok)?;
            let ack = sip::request("ACK", &id)
                .to_tag("bob")
                .branch(&format!("{id}-ack"));
            self.say(now + step, number, Side::Caller, self.with_headers(ack))
        } else if tick == call.ends_at {
            let bye = sip::request("BYE", &id).cseq(2).to_tag("bob");
            self.say(now, number, Side::Caller, self.with_headers(bye))?;
            self.say(
                now + step,
                number,
                Side::Proxy,
                self.with_headers(sip::response(200, "BYE", &id).cseq(2)),
            )
        } else {
            Ok(())
        }
    }

    fn talk(&mut self, call: &mut Call, packet: u64, now: u64, step: u64) -> io::Result<()> {
        for (side, frame) in call.media.iter_mut().enumerate() {
            const RTP_LEN: usize = 12 + 160;
            let rtp = frame.len() - RTP_LEN;
            frame[rtp + 2..rtp + 4].copy_from_slice(&(packet as u16).to_be_bytes());
            frame[rtp + 4..rtp + 8].copy_from_slice(&(packet as u32 * 160).to_be_bytes());
            self.truth.rtp += 1;
            self.record(now + side as u64 * step, frame)?;
        }
        Ok(())
    }

    /// Sends a message over the call's transport.
    fn say(&mut self, at: u64, number: u64, from: Side, message: sip::Sip) -> io::Result<()> {
        self.truth.sip += 1;
        if self.is_over_tcp(number) {
            return self.say_over_tcp(
                at,
                number % CONNECTIONS,
                from,
                &message.transport("TCP").bytes(),
            );
        }
        let [source, destination] = from.ends(CALLER, PROXY).map(|end| self.plan.end(end));
        let frame = frames::udp(source, destination, &message.bytes());
        if frame.len() <= MOST_CARRIED + 42 {
            return self.send(at, &frame);
        }
        frames::fragmented(&frame, MOST_CARRIED, number as u16)
            .iter()
            .try_for_each(|fragment| self.send(at, fragment))
    }

    fn say_over_tcp(
        &mut self,
        at: u64,
        connection: u64,
        from: Side,
        message: &[u8],
    ) -> io::Result<()> {
        let caller = SocketAddr::new(CALLER.ip(), 40_000 + connection as u16);
        let ends = from.ends(caller, PROXY).map(|end| self.plan.end(end));
        let mine = from as usize;
        for part in message.chunks(MOST_CARRIED) {
            let sequence = &mut self.connections[connection as usize][mine];
            let segment = frames::tcp(ends[0], ends[1], *sequence, ACK, part);
            *sequence = sequence.wrapping_add(part.len() as u32);
            self.send(at, &segment)?;
        }
        self.truth.acknowledgements += 1;
        let theirs = self.connections[connection as usize][1 - mine];
        self.send(at, &frames::tcp(ends[1], ends[0], theirs, ACK, &[]))
    }

    /// Sends an Ethernet frame's packet on the link of the plan.
    fn send(&mut self, at: u64, ethernet: &[u8]) -> io::Result<()> {
        const ETHERNET_HEADER_LEN: usize = 14;
        let frame = (self.wrap)(&ethernet[ETHERNET_HEADER_LEN..]);
        self.record(at, &frame)
    }

    fn record(&mut self, at: u64, frame: &[u8]) -> io::Result<()> {
        self.truth.packets += 1;
        let len = frame.len() as u32;
        if self.plan.pcapng {
            return self.put(&ng_packet(0, at, PRECISION, frame, len));
        }
        self.put(&record_header(at, PRECISION, len, len))?;
        self.put(frame)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.truth.bytes += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn is_over_tcp(&self, number: u64) -> bool {
        self.plan.signalling == Signalling::Mixed && number.is_multiple_of(4)
    }

    /// True if a call's INVITE is signed, and so too large for one packet: every fourth over UDP,
    /// and half of those over TCP.
    fn is_signed(&self, number: u64) -> bool {
        self.plan.signalling == Signalling::Mixed && matches!(number % 8, 0 | 1 | 5)
    }

    fn with_headers(&self, message: sip::Sip) -> sip::Sip {
        let headers = if self.plan.signalling == Signalling::Short {
            &[]
        } else {
            HEADERS
        };
        headers
            .iter()
            .fold(message, |message, line| message.header(line))
    }

    fn with_invite_headers(&self, number: u64, invite: sip::Sip) -> sip::Sip {
        let invite = self.with_headers(invite);
        if self.plan.signalling == Signalling::Short {
            return invite;
        }
        let invite = INVITE_HEADERS
            .iter()
            .fold(invite, |message, line| message.header(line));
        if self.is_signed(number) {
            invite.header(&signature())
        } else {
            invite
        }
    }

    fn description(&self, at: SocketAddr) -> sip::Sdp {
        let lines = if self.plan.signalling == Signalling::Short {
            &[]
        } else {
            DESCRIPTION
        };
        lines
            .iter()
            .fold(sip::Sdp::audio(at), |sdp, line| sdp.line(line))
    }
}

impl Side {
    /// Returns source and destination.
    fn ends(self, caller: SocketAddr, proxy: SocketAddr) -> [SocketAddr; 2] {
        match self {
            Self::Caller => [caller, proxy],
            Self::Proxy => [proxy, caller],
        }
    }
}

const CALLER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 5060);
/// The ACK flag of TCP.
const ACK: u8 = 0x10;

/// The headers of a trunk in each message.
const HEADERS: &[&str] = &[
    "User-Agent: Example SBC 7.4.2",
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY",
    "Supported: timer, 100rel, replaces",
];
/// The additional headers in an INVITE.
const INVITE_HEADERS: &[&str] = &[
    "P-Asserted-Identity: \"Alice\" <sip:+4930901820@example.com;user=phone>",
    "P-Charging-Vector: icid-value=3f1c9a70c5d24e0b;icid-generated-at=192.0.2.1;orig-ioi=example.com",
    "Privacy: none",
    "Session-Expires: 1800;refresher=uac",
    "Min-SE: 90",
    "Content-Disposition: session",
];
const DESCRIPTION: &[&str] = &[
    "a=fmtp:101 0-16",
    "a=ptime:20",
    "a=maxptime:40",
    "a=sendrecv",
];

/// Returns a signed caller number (RFC 8224) of realistic length.
fn signature() -> String {
    format!(
        "Identity: {};info=<https://certificates.example.com/sbc.pem>;alg=ES256;ppt=shaken",
        "eyJhbGciOiJF".repeat(50)
    )
}
