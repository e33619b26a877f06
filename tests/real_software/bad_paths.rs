//! Streams over paths that lose, delay, repeat and reorder packets: drawn ones, and a wire that the
//! kernel makes bad.

use std::{fs, net::SocketAddr};

use support::{
    dice::Dice,
    frames,
    lab::{Lab, WIRE},
    ladder::{Extracted, Ladder, START_NS},
    media::Rtp,
    sip::{Sdp, request, response},
    sipp::{Calls, UDP},
};

use super::{
    baresip,
    comparison::{check, number},
    figures::are_same,
};

/// A path that loses, delays and doubles packets. This kernel may have no `netem`, so the packets
/// are drawn as they arrive.
struct BadPath {
    /// Of a thousand packets, those that begin a burst of losses, and its length.
    losses: (usize, usize),
    /// The most delay of a packet, in microseconds: above 20,000, packets overtake one another.
    delay_us: usize,
    /// Of a thousand packets, those that come twice.
    doubled: usize,
}

impl BadPath {
    /// The arrivals of a stream that is sent for ten seconds, in their order.
    fn arrivals(&self, ssrc: u32, first: u16, dice: &mut Dice) -> Vec<(u64, Rtp)> {
        let mut arrivals = Vec::new();
        let mut lost = 0;
        for n in 0..500u16 {
            if dice.below(1000) < self.losses.0 {
                lost = 1 + dice.below(self.losses.1);
            }
            if lost > 0 {
                lost -= 1;
                continue;
            }
            let packet = Rtp {
                timestamp: (u32::MAX - 20_000).wrapping_add(u32::from(n) * 160),
                ..Rtp::new(ssrc, first.wrapping_add(n))
            };
            let copies = 1 + usize::from(dice.below(1000) < self.doubled);
            for _ in 0..copies {
                let at_us = u64::from(n) * 20_000 + dice.below(self.delay_us + 1) as u64;
                arrivals.push((at_us, packet));
            }
        }
        arrivals.sort_by_key(|(at_us, _)| *at_us);
        arrivals
    }
}

#[test]
fn figures_of_bad_paths() {
    let paths = [
        (0, 1, 0, 0),
        (10, 1, 300, 0),
        (50, 4, 5_000, 0),
        (0, 1, 90_000, 0),
    ];
    let worse = [
        (20, 12, 60_000, 30),
        (0, 1, 0, 200),
        (100, 40, 19_000, 5),
        (5, 90, 400_000, 50),
    ];
    let paths = paths.into_iter().chain(worse);
    let mut dice = Dice::new(21);
    let mut t = Ladder::new();
    for (number, (every, burst, delay_us, doubled)) in paths.enumerate() {
        let path = BadPath {
            losses: (every, burst),
            delay_us,
            doubled,
        };
        let end = |host: u8, port: usize| {
            let port = (port + number * 2) as u16;
            SocketAddr::from(([192, 0, 2, host], port))
        };
        let (a, b) = (end(1, 20_000), end(2, 30_000));
        let id = format!("path-{number}");
        let at = number as u64 * 100;
        let sip = |media: SocketAddr| SocketAddr::new(media.ip(), 5060);
        let (phone, other) = (sip(a), sip(b));
        t.sip(at, phone, other, request("INVITE", &id).sdp(&Sdp::audio(a)));
        t.sip(
            at + 50,
            other,
            phone,
            response(200, "INVITE", &id).sdp(&Sdp::audio(b)),
        );
        for (ssrc, first, from, to) in [(1, 65_300, a, b), (2, 7, b, a)] {
            for (at_us, packet) in path.arrivals(ssrc, first, &mut dice) {
                let ns = START_NS + (at + 100) * 1_000_000 + at_us * 1_000;
                t.capture.push(ns, frames::udp(from, to, &packet.bytes()));
            }
        }
        t.sip(at + 12_000, phone, other, request("BYE", &id).to_tag("bob"));
        t.sip(at + 12_050, other, phone, response(200, "BYE", &id));
    }
    let extracted = t.extract();
    let capture = extracted.folder().join("drawn.pcap");
    fs::write(&capture, t.capture.to_pcap()).unwrap();
    assert_eq!(are_same(&capture, &extracted), 16);
    is_bad(&extracted, 100);
}

/// The path was as bad as it was meant to be: so many packets were lost, late and doubled.
fn is_bad(extracted: &Extracted, least: usize) {
    for column in ["lost_packets", "out_of_order_count", "duplicate_count"] {
        let numbers = extracted.streams.iter().map(|row| number(row.get(column)));
        let sum: usize = numbers.sum();
        println!("{column}: {sum}");
        assert!(sum >= least, "{column}: {sum}");
    }
}

/// Creates a lab whose wire loses one media packet in twenty, repeats one in thirty, and delays one
/// in four so that others overtake it, before the capture in both directions.
fn bad_wire() -> Lab {
    let lab = Lab::new();
    // Reports are shorter: a call of some seconds has few of them.
    let media = "udp dport >= 1024 udp dport != 5060-5079 udp length > 150";
    let chains = [
        (
            "ip bad out",
            "type filter hook postrouting priority 0 ;".to_owned(),
            vec![
                format!("{media} numgen random mod 30 0 dup to ip daddr device {WIRE}"),
                format!("{media} numgen random mod 4 0 meta priority set 1:2"),
            ],
        ),
        // A program is told of packets that are dropped earlier.
        (
            "netdev lossy out",
            format!("type filter hook egress device {WIRE} priority 0 ;"),
            vec![format!("{media} numgen random mod 20 0 drop")],
        ),
    ];
    for phone in &lab.phones {
        // A packet of G.711 takes 36 ms there.
        phone.has_slow_lane(WIRE, "48kbit burst 300 cburst 300");
        for (chain, hook, rules) in &chains {
            let table = chain.rsplit_once(' ').unwrap().0;
            phone.run(&format!("nft add table {table}"));
            phone.run(&format!("nft add chain {chain} {{ {hook} }}"));
            for rule in rules {
                phone.run(&format!("nft add rule {chain} {rule}"));
            }
        }
    }
    lab
}

#[test]
fn figures_of_calls_over_a_bad_wire() {
    let calls = Calls {
        count: 1,
        audio_ms: 8_000,
        ..UDP
    };
    let lab = bad_wire();
    let tap = calls.captured(&lab);
    let checked = check(lab, tap, calls.total());
    assert_eq!(checked.extracted.streams.len(), 4);
    is_bad(&checked.extracted, 20);
}

#[test]
fn reports_of_a_call_over_a_bad_wire() {
    let reported = baresip::made_and_found(bad_wire(), "udp", 12);
    assert_eq!(reported, 2, "both ends report");
}
