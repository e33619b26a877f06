//! Compares the figures of streams with those that follow from each packet, as tshark reads it.
//!
//! They are computed here from their definitions in docs/statistics.md, and not taken from tshark's
//! summary, which counts duplicates against losses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use support::ladder::{Extracted, Row};

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
