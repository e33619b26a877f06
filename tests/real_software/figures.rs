//! Compares the figures of streams with those that follow from each packet, as tshark reads it.
//!
//! They are computed here from their definitions in docs/statistics.md, and not taken from tshark's
//! summary, which counts duplicates against losses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
};

use support::{
    dice::Dice,
    frames,
    ladder::{Extracted, Ladder, Row, START_NS},
    media::Rtp,
    sip::{Sdp, request, response},
};

use super::comparison::{list, number, of_tshark};

/// A packet of RTP, as tshark sees it.
struct Packet {
    at_ns: i64,
    sequence: u16,
    timestamp: u32,
    payload_type: usize,
}

const FIELDS: &[&str] = &[
    "rtp.ssrc",
    "udp.srcport",
    "udp.dstport",
    "frame.time_epoch",
    "rtp.seq",
    "rtp.timestamp",
    "rtp.p_type",
];

/// SSRC and ports.
type Key = [String; 3];

/// Compares the figures of each stream, and returns the number of streams.
pub fn are_same(capture: &Path, extracted: &Extracted) -> usize {
    let mut packets: BTreeMap<Key, Vec<Packet>> = BTreeMap::new();
    for row in of_tshark(capture, "rtp && !icmp && !icmpv6", FIELDS) {
        // In a tunnel the inner values come last.
        let last = |place: usize| list(&row[place]).pop().unwrap();
        let (seconds, rest) = row[3].split_once('.').unwrap();
        let packet = Packet {
            at_ns: (number(seconds) * 1_000_000_000 + number(&format!("{rest:0<9}")[..9])) as i64,
            sequence: number(&last(4)) as u16,
            timestamp: number(&last(5)) as u32,
            payload_type: number(&last(6)),
        };
        let key = [0, 1, 2].map(last);
        packets.entry(key).or_default().push(packet);
    }
    for row in &extracted.streams {
        let port = |column| row.get(column).rsplit_once(':').unwrap().1.to_owned();
        let key = [
            row.get("ssrc_hex").to_owned(),
            port("src_rtp_endpoint"),
            port("dst_rtp_endpoint"),
        ];
        let its = packets.get(&key);
        let its = its.unwrap_or_else(|| panic!("tshark has no stream {key:?}"));
        row.has("rtp_packet_count", &its.len().to_string());
        numbers_are_same(row, its);
        times_are_same(row, its);
    }
    extracted.streams.len()
}

/// Losses, order and duplicates. These streams do not restart, so a number is the one nearest to
/// the highest before it.
fn numbers_are_same(row: &Row, packets: &[Packet]) {
    let mut highest = i64::from(packets[0].sequence);
    let mut received = BTreeSet::from([highest]);
    let (mut late, mut again) = (0, 0);
    for packet in &packets[1..] {
        let ahead = packet.sequence.wrapping_sub(highest as u16).cast_signed();
        assert!((-99..3_000).contains(&ahead), "a restart: {row:?}");
        let is_new = received.insert(highest + i64::from(ahead));
        again += usize::from(!is_new);
        late += usize::from(is_new && ahead < 0);
        highest += i64::from(ahead.max(0));
    }
    let lowest = *received.first().unwrap();
    let expected = (highest - lowest + 1) as usize;
    let gaps = received.iter().zip(received.iter().skip(1));
    let longest = gaps.map(|(one, next)| next - one - 1).max().unwrap_or(0);
    let lost = expected - received.len();
    let percent = lost as f64 * 100.0 / expected as f64;
    row.has("expected_rtp_packets", &expected.to_string())
        .has("lost_packets", &lost.to_string())
        .has("out_of_order_count", &late.to_string())
        .has("duplicate_count", &again.to_string())
        .has("max_burst_loss", &longest.to_string());
    is_near(row, "loss_percent", percent, 0.0051);
}

/// Time between packets, and RFC 3550, A.8.
fn times_are_same(row: &Row, packets: &[Packet]) {
    let pairs = || packets.iter().zip(&packets[1..]);
    let deltas: Vec<i64> = pairs().map(|(one, next)| next.at_ns - one.at_ns).collect();
    let ms = |ns: i64| ns as f64 / 1e6;
    let sum: i64 = deltas.iter().sum();
    let mean = sum as f64 / deltas.len().max(1) as f64 / 1e6;
    let of = |delta: Option<&i64>| ms(delta.copied().unwrap_or(0));
    is_near(row, "max_delta_ms", of(deltas.iter().max()), 0.0051);
    is_near(row, "min_delta_ms", of(deltas.iter().min()), 0.0051);
    is_near(row, "avg_delta_ms", mean, 0.0051);
    // Telephone-events leave jitter as it is. They have a dynamic type, and sound here has not.
    let sound: Vec<&Packet> = packets
        .iter()
        .filter(|packet| packet.payload_type < 96)
        .collect();
    let types: BTreeSet<usize> = sound.iter().map(|packet| packet.payload_type).collect();
    if types.len() != 1 {
        return;
    }
    let clock: f64 = row.get("clock_rate").parse().unwrap();
    let (mut jitter, mut highest, mut sum) = (0.0, 0.0_f64, 0.0);
    for pair in sound.windows(2) {
        let units = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        let sent = f64::from(units.cast_signed()) / clock;
        let came = (pair[1].at_ns - pair[0].at_ns) as f64 / 1e9;
        jitter += ((came - sent).abs() - jitter) / 16.0;
        highest = highest.max(jitter);
        sum += jitter;
    }
    let mean = sum / (sound.len() - 1).max(1) as f64;
    is_near(row, "jitter_ms", jitter * 1e3, 0.0011);
    is_near(row, "max_jitter_ms", highest * 1e3, 0.0011);
    is_near(row, "mean_jitter_ms", mean * 1e3, 0.0011);
}

fn is_near(row: &Row, column: &str, want: f64, most: f64) {
    let got: f64 = row.get(column).parse().unwrap();
    assert!((got - want).abs() <= most, "{column}: {got}, not {want}");
}

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
    let sum = |column| -> usize {
        extracted
            .streams
            .iter()
            .map(|row| number(row.get(column)))
            .sum()
    };
    for column in ["lost_packets", "out_of_order_count", "duplicate_count"] {
        assert!(sum(column) > 100, "{column}");
    }
}
