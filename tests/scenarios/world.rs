//! Ownership of packets in random worlds: phones behind NAT that share addresses and private ports,
//! servers in clouds, forks, tenants. The test knows the call of each packet. No packet may be in
//! another call's file; packets in no file are counted.

use std::collections::{BTreeMap, BTreeSet};

use support::{
    capture, desk,
    dice::{Dice, tries},
};

use super::*;

const CLOUD: [u8; 4] = [172, 31, 5, 5];
const CLOUD_OUTSIDE: [u8; 4] = [203, 0, 113, 5];
const NAMED: [u8; 4] = [198, 51, 100, 77];
const UNKNOWN: [u8; 4] = [198, 51, 100, 88];
const SITES: [[u8; 4]; 2] = [[198, 51, 100, 7], [198, 51, 100, 9]];

/// One end of a call as the capture sees it, and the media endpoint that it describes.
struct Side {
    sip: SocketAddr,
    media: SocketAddr,
    sdp: Option<Sdp>,
}

/// The kind of a call's other end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A server behind NAT that maps its address and keeps ports; the capture point is inside.
    Cloud,
    /// A server with an address of its own.
    Relay,
    /// A server that gives a host name.
    Named,
    /// A server that describes no endpoint.
    Silent,
    /// A phone at the other site. Media runs directly.
    Phone,
}

struct World {
    dice: Dice,
    t: Ladder,
    /// The ports in use, by network and address.
    ports: BTreeSet<(u8, SocketAddr)>,
    /// The number of RTP packets.
    packets: usize,
    /// True if some phones go on sending long after the BYE.
    has_stragglers: bool,
}

impl World {
    fn new(number: u64) -> Self {
        Self {
            dice: Dice::new(number),
            t: ladder(),
            ports: BTreeSet::new(),
            packets: 0,
            has_stragglers: false,
        }
    }

    /// Returns a port of a server that no other call has.
    fn port(&mut self, network: u8, address: [u8; 4]) -> SocketAddr {
        loop {
            let port = end(address, 10_000 + 2 * self.dice.below(500) as u16);
            if self.ports.insert((network, port)) {
                return port;
            }
        }
    }

    /// Creates a phone at a site. Its NAT keeps the port if that is free, or chooses one.
    fn phone(&mut self, network: u8, site: usize, host: u8) -> Side {
        let private = end([10, 0, 0, host], 4_000 + 2 * self.dice.below(2) as u16);
        let kept = end(SITES[site], private.port());
        let keeps = self.dice.below(3) > 0 && self.ports.insert((network, kept));
        let media = if keeps {
            kept
        } else {
            self.port(network, SITES[site])
        };
        let sip = end(SITES[site], 50_000 + u16::from(host));
        Side {
            sip,
            media,
            sdp: Some(Sdp::audio(private)),
        }
    }

    fn other_end(&mut self, kind: Kind, network: u8, site: usize, host: u8) -> Side {
        let server = |sip, media: SocketAddr, sdp| Side {
            sip: end(sip, 5060),
            media,
            sdp,
        };
        match kind {
            Kind::Cloud => {
                let media = self.port(network, CLOUD);
                server(
                    CLOUD,
                    media,
                    Some(Sdp::audio(end(CLOUD_OUTSIDE, media.port()))),
                )
            }
            Kind::Relay => {
                let media = self.port(network, [203, 0, 113, 2]);
                server([203, 0, 113, 1], media, Some(Sdp::audio(media)))
            }
            Kind::Named => {
                let media = self.port(network, NAMED);
                server(
                    NAMED,
                    media,
                    Some(Sdp::audio(media).at_host("media.example.com")),
                )
            }
            Kind::Silent => {
                let media = self.port(network, UNKNOWN);
                server(UNKNOWN, media, None)
            }
            Kind::Phone => self.phone(network, 1 - site, host + 100),
        }
    }

    /// Draws RTP both ways.
    fn talk(&mut self, at: u64, from: SocketAddr, to: SocketAddr, ssrc: u32) {
        let count = 10 + self.dice.below(40) as u16;
        self.t.rtp(at, from, to, ssrc, 1..=count);
        self.t.rtp(at + 3, to, from, ssrc + 1, 1..=count);
        self.packets += 2 * usize::from(count);
    }

    fn call(&mut self, number: u32, network: u8) {
        let id = format!("call-{number}");
        let kinds = [
            Kind::Cloud,
            Kind::Cloud,
            Kind::Relay,
            Kind::Named,
            Kind::Silent,
            Kind::Phone,
        ];
        let kind = *self.dice.one_of(&kinds);
        let site = self.dice.below(2);
        let at = self.dice.below(4_000) as u64;
        let since = self.t.capture.frames.len();
        let caller = self.phone(network, site, number as u8 + 5);
        let callee = self.other_end(kind, network, site, number as u8 + 5);
        let describe = |message: Sip, side: &Side| match &side.sdp {
            Some(sdp) => message.sdp(sdp),
            None => message,
        };
        let answered_at = at + 100 + self.dice.below(900) as u64;
        if kind == Kind::Phone {
            // Through a proxy that stays in the dialog.
            let inner = describe(request("INVITE", &id), &caller)
                .header("Via: SIP/2.0/UDP 203.0.113.1;branch=z9hG4bK-proxy");
            let answer = describe(response(200, "INVITE", &id), &callee)
                .header("Record-Route: <sip:203.0.113.1;lr>");
            let proxy = end([203, 0, 113, 1], 5060);
            self.t.sip(
                at,
                caller.sip,
                proxy,
                describe(request("INVITE", &id), &caller),
            );
            self.t.sip(at + 1, proxy, callee.sip, inner);
            let inner_answer = answer
                .clone()
                .header("Via: SIP/2.0/UDP 203.0.113.1;branch=z9hG4bK-proxy");
            self.t.sip(answered_at - 1, callee.sip, proxy, inner_answer);
            self.t.sip(answered_at, proxy, caller.sip, answer);
        } else {
            self.t.sip(
                at,
                caller.sip,
                callee.sip,
                describe(request("INVITE", &id), &caller),
            );
            self.t.sip(
                answered_at,
                callee.sip,
                caller.sip,
                describe(response(200, "INVITE", &id), &callee),
            );
        }
        let ssrc = number << 8;
        if self.dice.below(4) == 0 && kind != Kind::Phone {
            let fork = self.other_end(kind, network, site, number as u8 + 50);
            let answer = describe(response(200, "INVITE", &id).to_tag("carol"), &fork);
            self.t.sip(answered_at + 10, callee.sip, caller.sip, answer);
            self.talk(answered_at + 20, caller.media, fork.media, ssrc | 0x10);
            self.t.sip(
                answered_at + 1_200,
                caller.sip,
                callee.sip,
                request("BYE", &id).cseq(7).to_tag("carol"),
            );
        }
        self.talk(answered_at + 20, caller.media, callee.media, ssrc);
        if self.has_stragglers && self.dice.below(2) == 0 {
            self.t.rtp(
                answered_at + 2_000,
                callee.media,
                caller.media,
                ssrc | 0x31,
                1..=600,
            );
            self.packets += 600;
            self.t.sip(
                answered_at + 3_000,
                callee.sip,
                caller.sip,
                request("BYE", &id).from_callee(),
            );
            self.wrap(since, network);
            return;
        }
        self.talk(answered_at + 8_000, caller.media, callee.media, ssrc | 0x20);
        if self.dice.below(4) > 0 {
            self.t.sip(
                answered_at + 9_500,
                callee.sip,
                caller.sip,
                request("BYE", &id).from_callee(),
            );
        }
        self.wrap(since, network);
    }

    /// Encapsulates the frames from number `since` on for a network.
    fn wrap(&mut self, since: usize, network: u8) {
        if network > 0 {
            for (_, frame) in &mut self.t.capture.frames[since..] {
                *frame = networks::vlan(frame, network);
            }
        }
    }
}

/// Returns the RTP packets in a call's file, by the call that they belong to.
fn rtp_by_call(call: &support::ladder::Found<'_>) -> BTreeMap<u32, usize> {
    let mut found = BTreeMap::new();
    for (_, frame) in call.frames() {
        let at = if frame[12..14] == [0x81, 0] { 46 } else { 42 };
        if frame[at] == 0x80 {
            let ssrc = u32::from_be_bytes(frame[at + 8..at + 12].try_into().unwrap());
            *found.entry(ssrc >> 8).or_default() += 1;
        }
    }
    found
}

/// Returns the number before these words in the summary.
fn counted(log: &str, words: &str) -> usize {
    let line = log.lines().find(|line| line.contains(words));
    let number = |line: &str| {
        line.split_whitespace()
            .find_map(|word| word.replace(',', "").parse().ok())
    };
    line.and_then(number).unwrap_or(0)
}

/// Cuts the capture into segments: three runs carry over their state.
fn in_three_runs(world: &mut World, want: &desk::Files, what: &str) {
    let desk = desk::Desk::new();
    let frames = &world.t.capture.frames;
    let cuts = world.dice.some_below(2, frames.len());
    let ends = [0, cuts[0], cuts[1], frames.len()];
    for (number, pair) in ends.windows(2).enumerate() {
        let segment = capture::Capture {
            frames: frames[pair[0]..pair[1]].to_vec(),
            ..capture::Capture::default()
        };
        desk.deliver(&format!("{number}.pcap"), &segment.to_pcap());
        let is_last = number == 2;
        let flags = if is_last {
            &["--json", "--final"][..]
        } else {
            &["--json"]
        };
        desk.run(flags).is(0);
    }
    desk.has(want, what);
}

#[test]
fn no_packet_is_in_the_file_of_another_call_and_what_is_missing_is_counted() {
    let mut owned = (0, 0);
    for number in 0..tries(60, 3_000) {
        let mut world = World::new(number as u64);
        let has_tenants = world.dice.below(3) == 0;
        world.has_stragglers = world.dice.below(3) == 0;
        for call in 0..2 + world.dice.below(6) as u32 {
            let network = if has_tenants {
                *world.dice.one_of(&[0, 10, 20])
            } else {
                0
            };
            world.call(call, network);
        }
        let out = world.t.extract();
        let mut in_files = 0;
        for call in out.each_call() {
            let own: u32 = call
                .row
                .get("call_id")
                .trim_start_matches("call-")
                .parse()
                .unwrap();
            for (of, packets) in rtp_by_call(&call) {
                assert_eq!(
                    of, own,
                    "world {number}: {packets} packets of call {of} in the file of call {own}"
                );
                in_files += packets;
            }
        }
        let left_out =
            counted(&out.log, "RTP packets in") + counted(&out.log, "that several calls may own");
        if world.has_stragglers {
            // The rest of a flow that a call has had is not counted as missing.
            assert!(
                in_files + left_out <= world.packets,
                "world {number}: {}",
                out.log
            );
        } else {
            assert_eq!(
                in_files + left_out,
                world.packets,
                "world {number}: {}",
                out.log
            );
            owned = (owned.0 + in_files, owned.1 + world.packets);
        }
        let cut = [
            "--window-bytes",
            "3000",
            "--chunk-bytes",
            "900",
            "--unit-bytes",
            "1",
        ];
        let ladder = cut
            .iter()
            .fold(world.t.clone(), |ladder, flag| ladder.flag(flag));
        if number % 4 == 0 {
            in_three_runs(
                &mut world,
                &out.files(),
                &format!("world {number}, in three runs"),
            );
        }
        desk::assert_same(
            &out.files(),
            &ladder.extract_as_drawn().files(),
            &format!("world {number}, in small pieces"),
        );
    }
    assert!(
        owned.0 * 4 > owned.1 * 3,
        "{} of {} packets are found: too careful",
        owned.0,
        owned.1
    );
}
