//! Compares what the extractor reads in RTCP with what tshark reads in each packet.

use std::{collections::BTreeMap, path::Path};

use support::ladder::{Extracted, Row};

use super::comparison::{list, number, of_tshark};

/// A packet of RTCP, as tshark sees it.
struct Packet {
    at_ns: u64,
    from: usize,
    to: usize,
    /// The sender's SSRC, and the middle of its NTP timestamp.
    sent: Option<(usize, usize)>,
    blocks: Vec<Block>,
}

/// A report block.
struct Block {
    ssrc: usize,
    lost: usize,
    highest: usize,
    jitter: usize,
    last: usize,
    delay: usize,
}

const FIELDS: &[&str] = &[
    "frame.time_epoch",
    "udp.srcport",
    "udp.dstport",
    "rtcp.senderssrc",
    "rtcp.timestamp.ntp.msw",
    "rtcp.timestamp.ntp.lsw",
    "rtcp.ssrc.identifier",
    "rtcp.ssrc.cum_nr",
    "rtcp.ssrc.ext_high",
    "rtcp.ssrc.jitter",
    "rtcp.ssrc.lsr",
    "rtcp.ssrc.dlsr",
];

/// Compares the columns of RTCP of each stream. Returns the number of streams with reports.
pub fn are_same(capture: &Path, extracted: &Extracted) -> usize {
    let packets: Vec<Packet> = of_tshark(capture, "rtcp && !icmp && !icmpv6", FIELDS)
        .iter()
        .map(|row| packet(row))
        .collect();
    let firsts = first_numbers(capture);
    let is_same = |row: &&Row| is_same(row, &packets, &firsts);
    extracted.streams.iter().filter(is_same).count()
}

/// Compares one stream, and returns true if there are reports.
fn is_same(row: &Row, packets: &[Packet], firsts: &BTreeMap<usize, usize>) -> bool {
    let ssrc = hex(row.get("ssrc_hex"));
    let port = |column| number(row.get(column).rsplit_once(':').unwrap().1);
    let (source, destination) = (port("src_rtp_endpoint"), port("dst_rtp_endpoint"));
    let fits = |rtcp: usize, rtp: usize| rtcp == rtp || rtcp == rtp + 1;
    let of_receiver = packets
        .iter()
        .filter(|packet| fits(packet.from, destination) && fits(packet.to, source));
    let mut trips = Vec::new();
    let mut latest = None;
    for packet in of_receiver {
        for block in packet.blocks.iter().filter(|block| block.ssrc == ssrc) {
            latest = Some(block);
            let is_answered = |sent: &&Packet| {
                sent.sent == Some((ssrc, block.last)) && sent.at_ns <= packet.at_ns
            };
            if let Some(sent) = packets.iter().find(is_answered) {
                let delay_ns = (block.delay as u64 * 1_000_000_000) >> 16;
                trips.push((packet.at_ns - sent.at_ns).saturating_sub(delay_ns));
            }
        }
    }
    let Some(Block {
        lost,
        highest,
        jitter,
        ..
    }) = latest
    else {
        row.has("rtcp_loss_percent", "").has("rtcp_jitter_ms", "");
        return false;
    };
    let near = |column: &str, want: f64, tolerance: f64| {
        let got: f64 = row.get(column).parse().unwrap();
        assert!((got - want).abs() <= tolerance, "{column}: {got}, {want}");
    };
    let clock_rate = number(row.get("clock_rate")) as f64;
    near(
        "rtcp_jitter_ms",
        *jitter as f64 * 1e3 / clock_rate,
        0.000_51,
    );
    // A receiver that has received nothing yet has no number.
    if *highest > 0 {
        let expected = (highest + 1).checked_sub(firsts[&ssrc]).unwrap();
        // Duplicates may make it negative.
        let lost = Some(*lost).filter(|lost| *lost < NEGATIVE).unwrap_or(0);
        near(
            "rtcp_loss_percent",
            lost as f64 * 100.0 / expected as f64,
            0.005_1,
        );
    }
    if trips.is_empty() {
        row.has("rtcp_rtt_ms", "");
    } else {
        let mean = trips.iter().sum::<u64>() as f64 / trips.len() as f64;
        near("rtcp_rtt_ms", mean / 1e6, 0.005_1);
    }
    true
}

fn packet(row: &[String]) -> Packet {
    let numbers = |field: usize| -> Vec<usize> {
        let text = &row[field];
        list(text).iter().map(|text| hex(text)).collect()
    };
    let last = |field: usize| number(&list(&row[field]).pop().unwrap());
    let (seconds, fraction) = row[0].split_once('.').unwrap();
    let [msw, lsw] = [4, 5].map(|field| numbers(field).first().copied());
    let sent = msw.zip(lsw).map(|(msw, lsw)| {
        let middle = (msw & 0xffff) << 16 | lsw >> 16;
        (numbers(3)[0], middle)
    });
    let columns: Vec<Vec<usize>> = (6..12).map(numbers).collect();
    let block = |index: usize| Block {
        ssrc: columns[0][index],
        lost: columns[1][index],
        highest: columns[2][index],
        jitter: columns[3][index],
        last: columns[4][index],
        delay: columns[5][index],
    };
    Packet {
        at_ns: (number(seconds) * 1_000_000_000 + number(fraction)) as u64,
        from: last(1),
        to: last(2),
        sent,
        blocks: (0..columns[1].len()).map(block).collect(),
    }
}

/// The first sequence number of each SSRC.
fn first_numbers(capture: &Path) -> BTreeMap<usize, usize> {
    let mut firsts = BTreeMap::new();
    for row in of_tshark(capture, "rtp && !icmp && !icmpv6", &["rtp.ssrc", "rtp.seq"]) {
        firsts
            .entry(hex(&row[0]))
            .or_insert_with(|| number(&row[1]));
    }
    firsts
}

/// The least number of 24 bits that stands for a negative one.
const NEGATIVE: usize = 1 << 23;

/// A number as tshark writes it: in hex with `0x`, else decimal. Negative ones have 24 bits.
fn hex(text: &str) -> usize {
    match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).unwrap(),
        None => match text.strip_prefix('-') {
            Some(digits) => NEGATIVE * 2 - number(digits),
            None => number(text),
        },
    }
}
