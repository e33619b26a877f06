//! One capture with every event that calls and captures are known for, so that an event crosses any
//! cut.
//!
//! Half a minute of it is dense; then comes a gap longer than the call timeout, then ten minutes in
//! which one long call goes on while others come and go. At the end, calls and parts of messages
//! are still open.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::{Range, RangeInclusive},
    sync::LazyLock,
};

use shared::pcap::{
    DEFAULT_SNAPLEN, LinkType, Precision, file_header, ng_interface, ng_packet, ng_section_header,
    record_header,
};
use support::{
    MS, SECOND,
    capture::{gzip, zstd},
    dice::Dice,
    frames,
    ladder::{Ladder, START_NS},
    layers::{FRAMINGS, Framing, Hep, LINKS, TUNNELS, Tunnel},
    media::{
        Block, Rtp, cname, press, receiver_report, sender_report, sender_report_at, stun,
        voip_metrics,
    },
    sip::{Sdp, Sip, request, response},
    tcp::{CLOSE, CONTINUATION, LAST, PING, SWITCHING, TEXT, Tcp, UPGRADE, websocket},
};

/// The form in which the capture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Micro,
    Nano,
    /// Two interfaces with different link types, which need a pcapng.
    TwoLinks,
}

/// The container of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A pcap, or a pcapng if the form needs one.
    Plain,
    Pcapng,
    Gzip,
    Zstd,
}

impl Container {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Pcapng, Self::Gzip, Self::Zstd];
}

/// A capture in one of its forms.
#[derive(Clone)]
pub struct Packets {
    pub form: Form,
    pub packets: Vec<Packet>,
}

#[derive(Clone)]
pub struct Packet {
    pub ns: u64,
    link: LinkType,
    frame: Vec<u8>,
}

/// The link types of [`Form::TwoLinks`].
const INTERFACES: [LinkType; 2] = [LinkType::ETHERNET, LinkType::LINUX_SLL];

/// How many consecutive packets have one link, so that most calls have both and some have one.
const LINK_STRETCH: usize = 30;

static FRAMES: LazyLock<Frames> = LazyLock::new(Story::told);

/// Draws a press of a key as events in RTP, and as INFO.
fn digits(t: &mut Ladder, at: u64, id: &str, a: Phone, b: Phone, ssrc: u32) {
    for (n, packet) in press(&Rtp::new(ssrc, 13), 5).iter().enumerate() {
        t.udp(at + n as u64 * 20, a.media, b.media, packet);
    }
    for (at, cseq, signal) in [(at + 110, 3, "5"), (at + 400, 4, "#")] {
        let info = request("INFO", id).cseq(cseq).to_tag("bob");
        let body = format!("Signal={signal}\r\n");
        let info = info.body("application/dtmf-relay", body);
        t.sip(at, a.sip, b.sip, info);
    }
}

/// Draws a report of the caller, and the callee's about the caller's stream 20 ms later.
fn reports(t: &mut Ladder, at: u64, a: Phone, b: Phone, n: u32) {
    let sent = [sender_report_at(0x300, n + 1), cname(0x300, "caller")];
    t.udp(at, a.rtcp(), b.rtcp(), &sent.concat());
    let block = Block {
        ssrc: 0x300,
        fraction: n as u8,
        lost: (n / 9) as i32,
        highest: n * 2 + 1,
        jitter: n,
        last: n + 1,
        delay: 655,
    };
    let answer = [
        receiver_report(0x301, block),
        voip_metrics(0x301, 0x300, 40 + (n % 4) as u8, 127),
    ];
    t.udp(at + 20, b.rtcp(), a.rtcp(), &answer.concat());
}

impl Packets {
    /// Returns everything in this form.
    pub fn everything(form: Form) -> Self {
        Self::of(form, &FRAMES)
    }

    /// Returns the frames of everything.
    pub fn frames_of_everything() -> Frames {
        FRAMES.clone()
    }

    /// Returns these Ethernet frames in this form.
    pub fn of(form: Form, frames: &[(u64, Vec<u8>)]) -> Self {
        let packet = |(index, (ns, frame)): (usize, &(u64, Vec<u8>))| match form {
            Form::Micro => Packet {
                ns: *ns,
                link: INTERFACES[0],
                frame: frame.clone(),
            },
            Form::Nano => Packet {
                ns: ns + index as u64 % 1000,
                link: INTERFACES[0],
                frame: frame.clone(),
            },
            Form::TwoLinks if index / LINK_STRETCH % 2 == 1 && is_plain_ip(frame) => Packet {
                ns: *ns,
                link: INTERFACES[1],
                frame: on_link(INTERFACES[1], &frame[14..]),
            },
            Form::TwoLinks => Packet {
                ns: *ns,
                link: INTERFACES[0],
                frame: frame.clone(),
            },
        };
        Self {
            form,
            packets: frames.iter().enumerate().map(packet).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Cuts it between records, at random places.
    pub fn cut(&self, pieces: usize, dice: &mut Dice) -> Vec<Range<usize>> {
        self.cut_at(&some_of(
            &(1..self.len()).collect::<Vec<_>>(),
            pieces - 1,
            dice,
        ))
    }

    /// The same, at places where first packets give the order of the pieces.
    pub fn cut_in_order_of_time(&self, pieces: usize, dice: &mut Dice) -> Vec<Range<usize>> {
        self.cut_at(&some_of(&self.places_in_order_of_time(), pieces - 1, dice))
    }

    /// Returns the records after an earlier and before a later one.
    pub fn places_in_order_of_time(&self) -> Vec<usize> {
        let is_in_order = |at: &usize| {
            let [before, here, after] = [at - 1, *at, at + 1].map(|at| self.packets[at].ns);
            before < here && here <= after
        };
        let places: Vec<usize> = (1..self.len() - 1).filter(is_in_order).collect();
        assert!(places.is_sorted_by(|a, b| self.packets[*a].ns < self.packets[*b].ns));
        places
    }

    /// Returns the records whose times are damaged, in either direction.
    pub fn places_of_damage(&self) -> Vec<usize> {
        (1..self.len() - 1)
            .filter(|at| self.packets[*at].ns > self.packets[at + 1].ns)
            .collect()
    }

    /// Cuts it before these records.
    pub fn cut_at(&self, places: &[usize]) -> Vec<Range<usize>> {
        let starts = [0].into_iter().chain(places.iter().copied());
        starts
            .zip(places.iter().copied().chain([self.len()]))
            .map(|(start, end)| start..end)
            .collect()
    }

    /// Returns the time of a correct clock before this packet; for the first packet, its time.
    pub fn time_before(&self, place: usize) -> u64 {
        const HOUR_NS: u64 = 3_600 * SECOND;
        let is_ahead = |pair: &&[Packet]| pair[0].ns > pair[1].ns + HOUR_NS;
        let first = self.packets.first().map_or(START_NS, |packet| packet.ns);
        let good = self
            .packets
            .windows(2)
            .take(place)
            .filter(|pair| !is_ahead(pair));
        good.map(|pair| pair[0].ns).fold(first, u64::max)
    }

    /// Returns all of it in one file.
    pub fn whole(&self) -> Vec<u8> {
        self.file(0..self.len(), Container::Plain)
    }

    /// Returns a stretch of it in a file.
    pub fn file(&self, stretch: Range<usize>, container: Container) -> Vec<u8> {
        let packets = &self.packets[stretch];
        let plain = if self.form == Form::TwoLinks || container == Container::Pcapng {
            self.ng(packets)
        } else {
            self.pcap(packets)
        };
        match container {
            Container::Plain | Container::Pcapng => plain,
            Container::Gzip => gzip(&plain),
            Container::Zstd => zstd(&plain),
        }
    }

    /// Returns the ending of a file name for this container.
    pub fn ending(&self, container: Container) -> &'static str {
        match (container, self.form) {
            (Container::Plain, Form::Micro | Form::Nano) => "pcap",
            (Container::Plain | Container::Pcapng, _) => "pcapng",
            (Container::Gzip, Form::TwoLinks) => "pcapng.gz",
            (Container::Zstd, Form::TwoLinks) => "pcapng.zst",
            (Container::Gzip, _) => "pcap.gz",
            (Container::Zstd, _) => "pcap.zst",
        }
    }

    fn precision(&self) -> Precision {
        if self.form == Form::Nano {
            Precision::Nano
        } else {
            Precision::Micro
        }
    }

    fn pcap(&self, packets: &[Packet]) -> Vec<u8> {
        let mut file = file_header(INTERFACES[0], self.precision(), DEFAULT_SNAPLEN).to_vec();
        for Packet { ns, frame, .. } in packets {
            let len = frame.len() as u32;
            file.extend(record_header(*ns, self.precision(), len, len));
            file.extend(frame);
        }
        file
    }

    fn ng(&self, packets: &[Packet]) -> Vec<u8> {
        let mut file = ng_section_header();
        INTERFACES
            .iter()
            .for_each(|link| file.extend(ng_interface(*link, self.precision(), DEFAULT_SNAPLEN)));
        for Packet { ns, link, frame } in packets {
            let interface = u32::from(*link == INTERFACES[1]);
            file.extend(ng_packet(
                interface,
                *ns,
                self.precision(),
                frame,
                frame.len() as u32,
            ));
        }
        file
    }
}

fn some_of(places: &[usize], count: usize, dice: &mut Dice) -> Vec<usize> {
    dice.some_below(count, places.len())
        .into_iter()
        .map(|index| places[index])
        .collect()
}

fn is_plain_ip(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd])
}

fn on_link(link: LinkType, ip: &[u8]) -> Vec<u8> {
    LINKS.iter().find(|known| known.0 == link).unwrap().1(ip)
}

/// Frames with their times.
pub type Frames = Vec<(u64, Vec<u8>)>;

/// Returns nearly all of it with a correct clock: each packet has a time of its own, later than the
/// one before.
pub fn in_good_time() -> Frames {
    let mut story = Story::happened();
    story.t.sort();
    let mut frames = story.t.capture.frames;
    let mut last = 0;
    for (ns, _) in &mut frames {
        last = (*ns).max(last + 1000);
        *ns = last;
    }
    frames
}

/// A caller or callee.
#[derive(Clone, Copy)]
struct Phone {
    sip: SocketAddr,
    media: SocketAddr,
}

impl Phone {
    fn other_media(self) -> SocketAddr {
        SocketAddr::new(self.media.ip(), self.media.port() + 100)
    }

    fn rtcp(self) -> SocketAddr {
        SocketAddr::new(self.media.ip(), self.media.port() + 1)
    }
}

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

const PROXY: SocketAddr = end([198, 51, 100, 1], 5060);
/// An endpoint that no description names.
const STRANGER: SocketAddr = end([203, 0, 113, 9], 50_000);
const OTHER_STRANGER: SocketAddr = end([203, 0, 113, 10], 50_002);

const DENSE: Range<u64> = 0..30_000;
/// Begins more than five minutes after the last packet.
const SPARSE: Range<u64> = 400_000..1_000_000;

/// The capture while it is drawn; times are in milliseconds.
#[derive(Default)]
struct Story {
    t: Ladder,
    phones: u8,
}

impl Story {
    fn told() -> Frames {
        let mut story = Self::happened();
        story.told_by_hep();
        story.t.sort();
        story.damage_times();
        story.t.capture.frames
    }

    /// Returns all events, with correct clocks.
    fn happened() -> Self {
        let mut story = Self::default();
        story.calls_that_overlap();
        story.a_call_id_used_again();
        story.calls_that_are_not_answered();
        story.media_ahead_of_its_description();
        story.forks_and_legs();
        story.messages_ahead_of_their_invite();
        story.statistics_of_all_kinds();
        story.a_change_of_ports_and_codecs();
        story.media_through_nat();
        story.over_tcp();
        story.over_a_websocket();
        story.in_fragments(9_000, ipv4_pair());
        story.in_fragments(9_400, ipv6_pair());
        story.in_tunnels();
        story.noise();
        story.calls_that_nobody_ends();
        story.a_long_call_and_short_ones();
        story.calls_open_at_the_end();
        story.linked_legs();
        story
    }

    fn pair(&mut self) -> (Phone, Phone) {
        (self.phone(), self.phone())
    }

    fn phone(&mut self) -> Phone {
        self.phones += 1;
        Phone {
            sip: end([192, 0, 2, self.phones], 5060),
            media: end([192, 0, 2, self.phones], 4000),
        }
    }

    /// Draws events separately, and adds the frames that `wrap` makes of each frame, which it
    /// numbers from 0.
    fn wrapped(
        &mut self,
        draw: impl FnOnce(&mut Ladder),
        wrap: impl Fn(usize, u64, Vec<u8>) -> Vec<(u64, Vec<u8>)>,
    ) {
        let mut apart = Ladder::new();
        draw(&mut apart);
        apart.sort();
        for (number, (ns, frame)) in apart.capture.frames.into_iter().enumerate() {
            self.t.capture.frames.extend(wrap(number, ns, frame));
        }
    }

    fn calls_that_overlap(&mut self) {
        for n in 0..10u32 {
            let ((a, b), id) = (self.pair(), format!("overlapping-{n}"));
            let at = u64::from(n) * 400;
            answered(&mut self.t, at, &id, a, b);
            talk(&mut self.t, at + 240, a, b, 0x100 + n * 2, 1..=12);
            self.t
                .udp(at + 350, a.rtcp(), b.rtcp(), &sender_report(0x100 + n * 2));
            if n % 2 == 0 {
                digits(&mut self.t, at + 500, &id, a, b, 0x100 + n * 2);
            }
            hung_up(&mut self.t, at + 1_200, &id, a, b);
        }
    }

    /// Within its first call's linger and second, and after both.
    fn a_call_id_used_again(&mut self) {
        let (a, b) = self.pair();
        let t = &mut self.t;
        answered(t, 50, "again", a, b);
        hung_up(t, 400, "again", a, b);
        t.sip(
            600,
            a.sip,
            b.sip,
            request("INVITE", "again")
                .from_tag("anew")
                .cseq(11)
                .sdp(&Sdp::audio(a.media)),
        );
        t.sip(
            700,
            b.sip,
            a.sip,
            response(486, "INVITE", "again").from_tag("anew").cseq(11),
        );
        answered(t, 20_000, "again", a, b);
        talk(t, 20_300, a, b, 0x200, 1..=12);
        hung_up(t, 22_000, "again", a, b);
    }

    fn calls_that_are_not_answered(&mut self) {
        let (a, b) = self.pair();
        let t = &mut self.t;
        t.sip(
            1_000,
            a.sip,
            b.sip,
            request("INVITE", "cancelled").sdp(&Sdp::audio(a.media)),
        );
        t.sip(1_100, b.sip, a.sip, response(180, "INVITE", "cancelled"));
        t.sip(4_000, a.sip, b.sip, request("CANCEL", "cancelled"));
        t.sip(4_010, b.sip, a.sip, response(200, "CANCEL", "cancelled"));
        t.sip(4_020, b.sip, a.sip, response(487, "INVITE", "cancelled"));
        t.sip(
            4_040,
            a.sip,
            b.sip,
            request("ACK", "cancelled").to_tag("bob"),
        );
        for (at, id, status) in [(2_000, "busy", 486), (2_050, "moved", 302)] {
            t.sip(
                at,
                a.sip,
                b.sip,
                request("INVITE", id).sdp(&Sdp::audio(a.media)),
            );
            t.sip(at + 50, b.sip, a.sip, response(status, "INVITE", id));
            t.sip(at + 60, a.sip, b.sip, request("ACK", id).to_tag("bob"));
        }
        // Challenged for a password, then answered.
        t.sip(
            2_500,
            a.sip,
            b.sip,
            request("INVITE", "challenged").sdp(&Sdp::audio(a.media)),
        );
        t.sip(2_520, b.sip, a.sip, response(407, "INVITE", "challenged"));
        t.sip(
            2_540,
            a.sip,
            b.sip,
            request("ACK", "challenged").to_tag("bob"),
        );
        t.sip(
            3_600,
            a.sip,
            b.sip,
            request("INVITE", "challenged")
                .cseq(2)
                .sdp(&Sdp::audio(a.media)),
        );
        t.sip(
            3_900,
            b.sip,
            a.sip,
            response(200, "INVITE", "challenged")
                .cseq(2)
                .sdp(&Sdp::audio(b.media)),
        );
        t.sip(
            3_920,
            a.sip,
            b.sip,
            request("ACK", "challenged").cseq(2).to_tag("bob"),
        );
        talk(t, 3_930, a, b, 0x210, 1..=10);
        hung_up(t, 5_000, "challenged", a, b);
    }

    fn media_ahead_of_its_description(&mut self) {
        let (a, b) = self.pair();
        let t = &mut self.t;
        t.sip(
            3_500,
            a.sip,
            b.sip,
            request("INVITE", "early").sdp(&Sdp::audio(a.media)),
        );
        t.sip(
            3_700,
            b.sip,
            a.sip,
            response(183, "INVITE", "early").sdp(&Sdp::audio(b.media)),
        );
        t.rtp(3_720, b.media, STRANGER, 0x220, 1..=15);
        t.sip(6_000, b.sip, a.sip, response(200, "INVITE", "early"));
        t.sip(6_020, a.sip, b.sip, request("ACK", "early").to_tag("bob"));
        hung_up(t, 7_000, "early", a, b);
        // The first packets come more than 2 s before the answer.
        let (a, b) = self.pair();
        let t = &mut self.t;
        t.sip(4_000, a.sip, b.sip, request("INVITE", "ahead"));
        for n in 0..12 {
            t.rtp(
                5_910 + n * 180,
                b.media,
                a.media,
                0x221,
                n as u16..=n as u16,
            );
        }
        t.sip(
            8_000,
            b.sip,
            a.sip,
            response(200, "INVITE", "ahead").sdp(&Sdp::audio(b.media)),
        );
        t.sip(
            8_020,
            a.sip,
            b.sip,
            request("ACK", "ahead")
                .to_tag("bob")
                .sdp(&Sdp::audio(a.media)),
        );
        hung_up(t, 9_000, "ahead", a, b);
        // The call begins before the capture.
        let (a, b) = self.pair();
        let t = &mut self.t;
        t.rtp(10, b.media, a.media, 0x222, 1..=10);
        t.sip(
            1_500,
            a.sip,
            b.sip,
            request("INVITE", "begun")
                .cseq(5)
                .to_tag("bob")
                .sdp(&Sdp::audio(a.media)),
        );
        t.sip(
            1_600,
            b.sip,
            a.sip,
            response(200, "INVITE", "begun")
                .cseq(5)
                .sdp(&Sdp::audio(b.media)),
        );
        hung_up(t, 3_000, "begun", a, b);
    }

    fn forks_and_legs(&mut self) {
        let ((a, b), c) = (self.pair(), self.phone());
        let t = &mut self.t;
        t.sip(
            3_000,
            a.sip,
            PROXY,
            request("INVITE", "forked").sdp(&Sdp::audio(a.media)),
        );
        t.sip(
            3_200,
            PROXY,
            a.sip,
            response(183, "INVITE", "forked")
                .to_tag("bob")
                .sdp(&Sdp::audio(b.media)),
        );
        t.sip(
            3_300,
            PROXY,
            a.sip,
            response(183, "INVITE", "forked")
                .to_tag("carol")
                .sdp(&Sdp::audio(c.media)),
        );
        t.rtp(3_320, STRANGER, b.media, 0x230, 1..=8);
        t.rtp(3_330, STRANGER, c.media, 0x231, 1..=8);
        t.sip(
            5_000,
            PROXY,
            a.sip,
            response(200, "INVITE", "forked")
                .to_tag("carol")
                .sdp(&Sdp::audio(c.media)),
        );
        t.sip(
            5_020,
            a.sip,
            PROXY,
            request("ACK", "forked").to_tag("carol"),
        );
        t.sip(
            6_500,
            a.sip,
            PROXY,
            request("BYE", "forked").cseq(2).to_tag("carol"),
        );
        // Two legs of a back-to-back user agent, whose media runs directly: it belongs to both.
        let (a, b) = self.pair();
        let t = &mut self.t;
        let (offer, answer) = (Sdp::audio(a.media), Sdp::audio(b.media));
        t.sip(5_000, a.sip, PROXY, request("INVITE", "leg-in").sdp(&offer));
        t.sip(
            5_010,
            PROXY,
            b.sip,
            request("INVITE", "leg-out").from_tag("proxy").sdp(&offer),
        );
        t.sip(
            5_500,
            b.sip,
            PROXY,
            response(200, "INVITE", "leg-out")
                .from_tag("proxy")
                .sdp(&answer),
        );
        t.sip(
            5_510,
            PROXY,
            a.sip,
            response(200, "INVITE", "leg-in").sdp(&answer),
        );
        talk(t, 5_530, a, b, 0x240, 1..=15);
        t.sip(
            7_000,
            a.sip,
            PROXY,
            request("BYE", "leg-in").cseq(2).to_tag("bob"),
        );
        t.sip(
            7_010,
            PROXY,
            b.sip,
            request("BYE", "leg-out")
                .cseq(2)
                .from_tag("proxy")
                .to_tag("bob"),
        );
    }

    /// Two conversations: one of two legs, which is complete before the end, and one of four, whose
    /// last leg begins when the first is long over.
    fn linked_legs(&mut self) {
        let by_flag = "X-Leg: linked-0815-4711";
        for (n, (id, header, times)) in [
            ("paired-a", "X-CID: paired-0815-4711", 9_000..14_000),
            ("paired-b", "X-CID: paired-0815-4711", 9_050..14_020),
            ("linked-a", by_flag, 8_000..12_000),
            ("linked-b", by_flag, 8_040..27_000),
            (
                "linked-d",
                "Replaces: linked-c;to-tag=1;from-tag=2",
                500_000..700_000,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let ((a, b), ssrc) = (self.pair(), 0x400 + n as u32 * 2);
            self.leg(times.start, id, header, (a, b));
            talk(&mut self.t, times.start + 300, a, b, ssrc, 1..=12);
            hung_up(&mut self.t, times.end, id, a, b);
        }
        // It ends by the call timeout.
        let (a, b) = self.pair();
        self.leg(13_000, "linked-c", "X-CID: linked-b", (a, b));
        talk(&mut self.t, 13_500, a, b, 0x410, 1..=12);
    }

    fn leg(&mut self, at: u64, id: &str, header: &str, (a, b): (Phone, Phone)) {
        let invite = request("INVITE", id).sdp(&Sdp::audio(a.media));
        self.t.sip(at, a.sip, b.sip, invite.header(header));
        let ok = response(200, "INVITE", id).sdp(&Sdp::audio(b.media));
        self.t.sip(at + 200, b.sip, a.sip, ok);
    }

    fn messages_ahead_of_their_invite(&mut self) {
        let (a, b) = self.pair();
        let t = &mut self.t;
        t.sip(4_480, b.sip, a.sip, response(100, "INVITE", "stray"));
        t.sip(4_490, b.sip, a.sip, response(180, "INVITE", "stray"));
        answered(t, 4_500, "stray", a, b);
        hung_up(t, 6_000, "stray", a, b);
    }

    fn statistics_of_all_kinds(&mut self) {
        let (a, b) = self.pair();
        let t = &mut self.t;
        answered(t, 6_000, "statistics", a, b);
        // Around the wrap of the numbers; then a duplicate, a reordering, two losses; then a new
        // start at another number.
        let numbers = [
            65_533, 65_534, 65_535, 0, 1, 2, 2, 4, 3, 5, 8, 9, 9, 30_000, 30_001, 30_002, 100, 101,
            103, 102,
        ];
        for (index, number) in numbers.into_iter().enumerate() {
            t.udp(
                6_300 + index as u64 * 23,
                a.media,
                b.media,
                &Rtp::new(0x250, number).bytes(),
            );
        }
        // Another stream continues over this one's gap, and there are packets that are not RTP.
        t.rtp(6_350, b.media, a.media, 0x251, 1..=20);
        t.udp(6_400, a.media, b.media, &stun());
        let event = |number| Rtp {
            payload_type: 101,
            ..Rtp::new(0x250, number)
        };
        (104..=106).for_each(|number| {
            t.udp(
                6_900 + u64::from(number) * 2,
                a.media,
                b.media,
                &event(number).bytes(),
            );
        });
        hung_up(t, 8_500, "statistics", a, b);
    }

    fn a_change_of_ports_and_codecs(&mut self) {
        let (a, b) = self.pair();
        let t = &mut self.t;
        answered(t, 13_000, "changed", a, b);
        talk(t, 13_300, a, b, 0x260, 1..=12);
        let opus = |at| {
            Sdp::audio(at)
                .line("a=ptime:40")
                .line("a=rtpmap:96 opus/48000/2")
        };
        t.sip(
            14_000,
            a.sip,
            b.sip,
            request("INVITE", "changed")
                .cseq(2)
                .to_tag("bob")
                .sdp(&opus(a.other_media())),
        );
        t.sip(
            14_100,
            b.sip,
            a.sip,
            response(200, "INVITE", "changed")
                .cseq(2)
                .sdp(&opus(b.media)),
        );
        t.sip(
            14_120,
            a.sip,
            b.sip,
            request("ACK", "changed").cseq(2).to_tag("bob"),
        );
        for number in 0..12u16 {
            let rtp = Rtp {
                payload_type: 96,
                timestamp: u32::from(number) * 1_920,
                ..Rtp::new(0x262, number)
            };
            t.udp(
                14_200 + u64::from(number) * 41,
                a.other_media(),
                b.media,
                &rtp.bytes(),
            );
        }
        t.sip(
            15_000,
            b.sip,
            a.sip,
            request("INVITE", "changed")
                .from_callee()
                .sdp(&Sdp::audio(b.other_media())),
        );
        t.sip(
            15_020,
            a.sip,
            b.sip,
            response(488, "INVITE", "changed").from_callee(),
        );
        hung_up(t, 16_000, "changed", a, b);
    }

    fn media_through_nat(&mut self) {
        let (a, b) = self.pair();
        let behind = Phone {
            media: end([10, 0, 0, 5], 4000),
            ..a
        };
        let t = &mut self.t;
        answered(t, 5_500, "nat", behind, b);
        t.rtp(5_800, STRANGER, b.media, 0x270, 1..=10);
        t.rtp(5_805, b.media, STRANGER, 0x271, 1..=10);
        t.rtp(5_810, STRANGER, OTHER_STRANGER, 0x272, 1..=5);
        hung_up(t, 7_500, "nat", behind, b);
    }

    /// TCP segments that come late, twice, and not at all.
    fn over_tcp(&mut self) {
        let (a, b) = self.pair();
        let caller = SocketAddr::new(a.sip.ip(), 49_152);
        let (mut from_a, mut from_b) = (
            Tcp::new(caller, b.sip, u32::MAX - 700),
            Tcp::new(b.sip, caller, 7),
        );
        let capture = &mut self.t.capture;
        from_a.syn(capture, 7_000);
        from_b.syn(capture, 7_001);
        let invite = request("INVITE", "tcp")
            .transport("TCP")
            .sdp(&Sdp::audio(a.media))
            .bytes();
        let len = invite.len() as i32;
        from_a.at(capture, 7_010, 300, &invite[300..]);
        from_a.at(capture, 7_030, 90, &invite[90..310]);
        from_a.at(capture, 7_050, 0, &invite[..100]);
        from_a.skip(invite.len());
        from_a.at(capture, 7_060, -len, &invite);
        from_b.ack(capture, 7_061);
        // The 100 is not captured.
        from_b.skip(response(100, "INVITE", "tcp").bytes().len());
        let answers = [
            response(180, "INVITE", "tcp").bytes(),
            response(200, "INVITE", "tcp")
                .sdp(&Sdp::audio(b.media))
                .bytes(),
        ];
        for (index, piece) in answers.concat().chunks(150).enumerate() {
            from_b.send(capture, 7_200 + index as u64 * 7, piece);
        }
        from_a.send(capture, 7_300, &request("ACK", "tcp").to_tag("bob").bytes());
        let bye = request("BYE", "tcp").cseq(2).to_tag("bob").bytes();
        // Half a message, and a keep-alive before the rest.
        from_a.send(capture, 10_500, &bye[..120]);
        from_a.at(capture, 10_700, -1, &bye[119..120]);
        from_a.send(capture, 11_000, &bye[120..]);
        from_b.send(
            capture,
            11_010,
            &response(200, "BYE", "tcp").cseq(2).bytes(),
        );
        // One TCP segment with messages of two calls.
        let two = [
            request("INVITE", "tcp-one").bytes(),
            request("INVITE", "tcp-two").bytes(),
        ]
        .concat();
        from_a.send(capture, 11_500, &two);
        from_b.send(
            capture,
            11_600,
            &[
                response(486, "INVITE", "tcp-one").bytes(),
                response(486, "INVITE", "tcp-two").bytes(),
            ]
            .concat(),
        );
        from_a.fin(capture, 12_000);
        talk(&mut self.t, 7_350, a, b, 0x280, 1..=12);
    }

    fn over_a_websocket(&mut self) {
        let (a, b) = self.pair();
        let browser = SocketAddr::new(a.sip.ip(), 49_160);
        let (mut from_a, mut from_b) = (
            Tcp::new(browser, b.sip, 1_000),
            Tcp::new(b.sip, browser, 2_000),
        );
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        let capture = &mut self.t.capture;
        from_a.syn(capture, 8_000);
        from_b.syn(capture, 8_001);
        from_a.send(capture, 8_003, UPGRADE);
        from_b.send(capture, 8_004, SWITCHING);
        let invite = request("INVITE", "websocket")
            .transport("WSS")
            .sdp(&Sdp::audio(a.media))
            .bytes();
        let (head, tail) = invite.split_at(invite.len() / 3);
        let framed = [
            websocket(TEXT, mask, head),
            websocket(LAST | PING, mask, b"hello"),
            websocket(LAST | CONTINUATION, mask, tail),
        ]
        .concat();
        for (index, piece) in framed.chunks(100).enumerate() {
            from_a.send(capture, 8_010 + index as u64 * 11, piece);
        }
        let answer = response(200, "INVITE", "websocket")
            .sdp(&Sdp::audio(b.media))
            .bytes();
        from_b.send(capture, 8_200, &websocket(LAST | TEXT, None, &answer));
        from_a.send(
            capture,
            8_220,
            &websocket(
                LAST | TEXT,
                mask,
                &request("ACK", "websocket").to_tag("bob").bytes(),
            ),
        );
        let bye = websocket(
            LAST | TEXT,
            mask,
            &request("BYE", "websocket").cseq(2).to_tag("bob").bytes(),
        );
        from_a.send(capture, 9_500, &bye[..5]);
        from_a.send(capture, 9_520, &bye[5..]);
        from_b.send(
            capture,
            9_530,
            &websocket(
                LAST | TEXT,
                None,
                &response(200, "BYE", "websocket").cseq(2).bytes(),
            ),
        );
        from_a.send(capture, 9_600, &websocket(LAST | CLOSE, mask, &[3, 0xe8]));
        talk(&mut self.t, 8_240, a, b, 0x290, 1..=12);
    }

    /// Signalling and media in fragments that come in order, reversed, twice, and not all.
    fn in_fragments(&mut self, at: u64, (a, b): (Phone, Phone)) {
        let id = if a.sip.is_ipv4() {
            "fragments"
        } else {
            "fragments-v6"
        };
        let draw = |t: &mut Ladder| {
            answered(t, at, id, a, b);
            talk(t, at + 300, a, b, 0x2a0, 1..=8);
            hung_up(t, at + 1_500, id, a, b);
        };
        let wrap = |number: usize, ns: u64, frame: Vec<u8>| {
            let mut fragments = frames::fragmented(
                &frame,
                if number.is_multiple_of(2) { 96 } else { 160 },
                number as u16,
            );
            match number % 5 {
                1 => fragments.reverse(),
                2 => fragments.push(fragments[0].clone()),
                3 => fragments.rotate_left(1),
                4 if number > 8 => drop(fragments.pop()),
                _ => {}
            }
            // A few milliseconds apart, so that fragments of several datagrams are interleaved.
            fragments
                .into_iter()
                .enumerate()
                .map(|(index, fragment)| (ns + index as u64 * 9 * MS, fragment))
                .collect()
        };
        self.wrapped(draw, wrap);
    }

    fn in_tunnels(&mut self) {
        for (n, name) in [
            "VXLAN",
            "GRE",
            "GTP-U",
            "ERSPAN II",
            "Geneve",
            "IP in IPv6",
            "TZSP",
        ]
        .into_iter()
        .enumerate()
        {
            let tunnel = *TUNNELS
                .iter()
                .find(|tunnel| format!("{tunnel:?}") == name)
                .expect("a known tunnel");
            let (a, b) = self.pair();
            let at = 10_000 + n as u64 * 250;
            let draw = |t: &mut Ladder| {
                answered(t, at, &format!("tunnel-{n}"), a, b);
                talk(t, at + 230, a, b, 0x2b0 + n as u32 * 2, 1..=5);
                hung_up(t, at + 1_000, &format!("tunnel-{n}"), a, b);
            };
            self.wrapped(draw, |number, ns, frame| {
                vec![(ns, tunnelled(tunnel, FRAMINGS[number % 3], &frame))]
            });
        }
    }

    /// HEP from an agent whose clock differs.
    fn told_by_hep(&mut self) {
        let (a, b) = self.pair();
        let says = |story: &mut Self, at: u64, from: SocketAddr, to: SocketAddr, message: &Sip| {
            let payload = message.bytes();
            let hep = Hep {
                from,
                to,
                over: 17,
                ns: START_NS + at * MS - 3 * MS,
                protocol: 1,
                payload: &payload,
            };
            story
                .t
                .capture
                .push(START_NS + at * MS, on_link(LinkType::ETHERNET, &hep.ip()));
        };
        says(
            self,
            12_000,
            a.sip,
            b.sip,
            &request("INVITE", "hep").sdp(&Sdp::audio(a.media)),
        );
        says(
            self,
            12_300,
            b.sip,
            a.sip,
            &response(200, "INVITE", "hep").sdp(&Sdp::audio(b.media)),
        );
        talk(&mut self.t, 12_350, a, b, 0x2d0, 1..=6);
        says(
            self,
            13_500,
            a.sip,
            b.sip,
            &request("BYE", "hep").cseq(2).to_tag("bob"),
        );
    }

    fn noise(&mut self) {
        let (a, b) = self.pair();
        for second in 0..27 {
            let (at, id) = (second * 1_000 + 333, format!("register-{second}"));
            self.t.sip(at, a.sip, b.sip, request("REGISTER", &id));
            self.t
                .sip(at + 20, b.sip, a.sip, response(200, "REGISTER", &id));
            self.t.udp(at + 40, b.sip, a.sip, b"\r\n\r\n");
            self.t.udp(at + 60, STRANGER, OTHER_STRANGER, b"tick");
        }
    }

    /// These calls end by the gap, which is longer than the call timeout.
    fn calls_that_nobody_ends(&mut self) {
        for (n, at) in [8_000, 28_000].into_iter().enumerate() {
            let ((a, b), id) = (self.pair(), format!("silent-{n}"));
            answered(&mut self.t, at, &id, a, b);
            talk(
                &mut self.t,
                DENSE.end - 1_000 + n as u64 * 7,
                a,
                b,
                0x2e0 + n as u32 * 2,
                1..=10,
            );
        }
        // One of them still sends media after its timeout.
        let (a, b) = self.pair();
        answered(&mut self.t, 29_000, "too-late", a, b);
        talk(&mut self.t, SPARSE.start, a, b, 0x2f0, 1..=3);
        hung_up(&mut self.t, SPARSE.start + 500, "too-late", a, b);
    }

    fn a_long_call_and_short_ones(&mut self) {
        let (a, b) = self.pair();
        let t = &mut self.t;
        answered(t, SPARSE.start, "long", a, b);
        for (n, at) in SPARSE.step_by(15_000).enumerate() {
            t.rtp(
                at + 300,
                a.media,
                b.media,
                0x300,
                n as u16 * 2..=n as u16 * 2 + 1,
            );
            t.rtp(at + 310, b.media, a.media, 0x301, n as u16..=n as u16);
            reports(t, at + 400, a, b, n as u32);
        }
        t.sip(
            600_000,
            a.sip,
            b.sip,
            request("INVITE", "long")
                .cseq(2)
                .to_tag("bob")
                .sdp(&Sdp::audio(a.other_media())),
        );
        t.sip(
            600_100,
            b.sip,
            a.sip,
            response(200, "INVITE", "long")
                .cseq(2)
                .sdp(&Sdp::audio(b.media)),
        );
        t.rtp(600_200, STRANGER, a.other_media(), 0x302, 1..=10);
        hung_up(t, SPARSE.end - 8_000, "long", a, b);
        for n in 0..5u32 {
            let ((a, b), id) = (self.pair(), format!("short-{n}"));
            let at = SPARSE.start + 50_000 + u64::from(n) * 100_000;
            answered(&mut self.t, at, &id, a, b);
            talk(&mut self.t, at + 250, a, b, 0x310 + n * 2, 1..=10);
            hung_up(&mut self.t, at + 30_000, &id, a, b);
        }
    }

    /// A lingering call, a continuing one, half a message over TCP, and the first fragments of a
    /// datagram.
    fn calls_open_at_the_end(&mut self) {
        let (at, (a, b)) = (SPARSE.end, self.pair());
        answered(&mut self.t, at - 3_000, "open", a, b);
        talk(&mut self.t, at - 2_000, a, b, 0x330, 1..=20);
        let (a, b) = self.pair();
        answered(&mut self.t, at - 4_000, "lingering", a, b);
        hung_up(&mut self.t, at - 1_500, "lingering", a, b);
        let mut from_a = Tcp::new(SocketAddr::new(a.sip.ip(), 49_170), b.sip, 77);
        from_a.send(
            &mut self.t.capture,
            at - 900,
            &request("INVITE", "half").sdp(&Sdp::audio(a.media)).bytes(),
        );
        let bye = request("BYE", "half").cseq(2).to_tag("bob").bytes();
        from_a.send(&mut self.t.capture, at - 800, &bye[..bye.len() - 5]);
        let invite = frames::udp(a.sip, b.sip, &request("INVITE", "never-whole").bytes());
        let mut fragments = frames::fragmented(&invite, 96, 999);
        fragments.pop();
        fragments
            .into_iter()
            .for_each(|fragment| self.t.capture.push(START_NS + (at - 700) * MS, fragment));
    }

    /// Some times go back, one by more than the whole capture; and some are far ahead, which the
    /// next packet contradicts.
    fn damage_times(&mut self) {
        let frames = &mut self.t.capture.frames;
        let count = frames.len();
        for (share, back_ns) in [
            (3, 150 * MS),
            (11, 30 * MS),
            (29, 2 * SECOND),
            (47, 3_600 * SECOND),
            (61, 700 * MS),
        ] {
            frames[count * share / 100].0 -= back_ns;
        }
        for (share, ahead_ns) in [
            (7, 2 * 3_600 * SECOND),
            (40, 86_400 * SECOND),
            (90, 4_000 * SECOND),
        ] {
            frames[count * share / 100].0 += ahead_ns;
        }
    }
}

/// Draws four messages within 220 ms.
fn answered(t: &mut Ladder, at: u64, id: &str, a: Phone, b: Phone) {
    t.sip(
        at,
        a.sip,
        b.sip,
        request("INVITE", id).sdp(&Sdp::audio(a.media)),
    );
    t.sip(at + 100, b.sip, a.sip, response(180, "INVITE", id));
    t.sip(
        at + 200,
        b.sip,
        a.sip,
        response(200, "INVITE", id).sdp(&Sdp::audio(b.media)),
    );
    t.sip(at + 220, a.sip, b.sip, request("ACK", id).to_tag("bob"));
}

/// Draws two messages within 20 ms.
fn hung_up(t: &mut Ladder, at: u64, id: &str, a: Phone, b: Phone) {
    t.sip(at, a.sip, b.sip, request("BYE", id).cseq(9).to_tag("bob"));
    t.sip(at + 20, b.sip, a.sip, response(200, "BYE", id).cseq(9));
}

/// Draws media both ways, with two consecutive SSRCs.
fn talk(t: &mut Ladder, at: u64, a: Phone, b: Phone, ssrc: u32, sequence: RangeInclusive<u16>) {
    t.rtp(at, a.media, b.media, ssrc, sequence.clone());
    t.rtp(at + 9, b.media, a.media, ssrc + 1, sequence);
}

fn ipv4_pair() -> (Phone, Phone) {
    let phone = |host| Phone {
        sip: end([198, 18, 0, host], 5060),
        media: end([198, 18, 0, host], 4000),
    };
    (phone(1), phone(2))
}

fn ipv6_pair() -> (Phone, Phone) {
    let phone = |host| {
        let ip = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host));
        Phone {
            sip: SocketAddr::new(ip, 5060),
            media: SocketAddr::new(ip, 4000),
        }
    };
    (phone(1), phone(2))
}

/// Returns the IP packet of a frame in a tunnel over Ethernet.
fn tunnelled(tunnel: Tunnel, framing: Framing, frame: &[u8]) -> Vec<u8> {
    on_link(LinkType::ETHERNET, &tunnel.carry(&frame[14..], framing))
}
