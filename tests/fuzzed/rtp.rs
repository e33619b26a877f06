//! RTP: the header, and stream statistics that are consistent; RTCP about a stream.

use sip_call_extractor::{
    events::FlowKey,
    packet::Endpoint,
    rtcp::{Arrival, Reports},
    rtp::{Header, MediaClock, Sequence, Stream, Totals},
    sdp::format_of_static,
};

use super::Input;

/// The bytes of a packet; or, after a first byte of 0 or 1, the packets of a stream; of 2, RTCP.
pub fn check(input: &[u8]) {
    match input.split_first() {
        Some((0, steps)) => stream(Input(steps)),
        Some((1, steps)) => near(Input(steps)),
        Some((2, steps)) => reports(Input(steps)),
        _ => header(input),
    }
}

fn header(packet: &[u8]) {
    let Some(header) = Header::parse(packet, packet.len()) else {
        return;
    };
    assert!(packet.len() >= 12 && packet[0] >> 6 == 2 && header.payload_type < 128);
    assert_eq!(packet[2..4], header.sequence.to_be_bytes());
    assert_eq!(packet[4..8], header.timestamp.to_be_bytes());
    assert_eq!(packet[8..12], header.ssrc.to_be_bytes());
    for captured in 12..packet.len().min(90) {
        assert_eq!(
            Header::parse(&packet[..captured], packet.len()),
            Some(header),
            "snapped to {captured}"
        );
    }
}

/// Packets with any numbers at any times.
fn stream(mut steps: Input<'_>) {
    let end = Endpoint::v4([192, 0, 2, 1], 4000);
    let packet = |steps: &mut Input<'_>, sequence| Header {
        payload_type: steps.byte() & 0x7f,
        sequence,
        timestamp: (steps.u64() >> 16) as u32,
        ssrc: 7,
    };
    let mut number = steps.u16();
    let mut at = steps.u64();
    let first = packet(&mut steps, number);
    let clock = |header: &Header, known| MediaClock {
        is_event: false,
        rate: format_of_static(header.payload_type).map(|format| format.clock_rate),
        known,
    };
    let stream = Stream::new(&first, end, end, at, clock(&first, 0));
    let mut now = at;
    let mut stream = stream.with_series(now);
    let mut packets = 1;
    while !steps.is_empty() {
        match steps.byte() {
            0 => number = steps.u16(),
            step => number = number.wrapping_add_signed(i16::from(step.cast_signed())),
        }
        match steps.byte() {
            0 => at = steps.u64(),
            step => at = at.saturating_add_signed(i64::from(step.cast_signed()) * 1_000_000),
        }
        let header = packet(&mut steps, number);
        let known = u64::from(header.timestamp.is_multiple_of(3));
        now = now.max(at);
        stream.push(&header, at, now, known, || clock(&header, known));
        packets += 1;
    }
    assert_eq!(stream.arrivals.packets, packets);
    let (most, least, mean) = stream.arrivals.deltas_ns();
    assert!(least <= mean && mean <= most, "{least} {mean} {most}");
    assert!(stream.jitter.ms().is_finite() && stream.jitter.ms() >= 0.0);
    let totals = stream.sequence.totals();
    assert!(totals.expected >= 1 && totals.lost < totals.expected);
    let series = stream.measured(Some(b"PCMA"), 20).unwrap();
    assert_eq!(series.iter().map(|part| part.packets).sum::<u64>(), packets);
    assert_eq!(
        series.iter().map(|part| part.lost).sum::<u64>(),
        totals.lost
    );
    let is_sound = |mos: f64| (1.0..=4.5).contains(&mos);
    assert!(series.iter().all(|part| part.mos.is_some_and(is_sound)));
    let Totals {
        lost,
        bursts,
        longest_burst,
        ..
    } = totals;
    assert!(
        longest_burst.max(bursts) <= lost && lost <= longest_burst * bursts,
        "{totals:?}"
    );
    assert!(totals.duplicates + totals.out_of_order < packets);
    // Packets of a jump that the stream did not follow count as nothing: only the rest is distinct.
    assert!(totals.lost >= totals.expected.saturating_sub(packets - totals.duplicates));
}

/// RTCP of both ends about the stream with the SSRC 7.
fn reports(mut steps: Input<'_>) {
    let [a, b] = [1, 2].map(|host| Endpoint::v4([192, 0, 2, host], 4000));
    let mut reports = Reports::default();
    let mut at = 0;
    while !steps.is_empty() {
        let flow = match steps.byte() & 1 {
            0 => FlowKey::between(a, b),
            _ => FlowKey::between(b, a),
        };
        at += u64::from(steps.byte()) << 24;
        let payload = steps.some();
        let wire_len = payload.len() + usize::from(steps.byte() & 0x3f);
        let arrival = Arrival {
            ns: at,
            course_at: Some(at),
        };
        reports.add(payload, wire_len, flow, arrival);
    }
    let matched = reports.matched([(7, FlowKey::between(a, b), 9)].into_iter());
    if let Some(reception) = matched[0].reception {
        for (first, expected) in [(0, 1), (7, 1_000), (u16::MAX, u64::MAX)] {
            for may_be_older in [false, true] {
                if let Some(loss) = reception.loss(first, expected, may_be_older) {
                    assert!(loss.lost <= loss.expected && loss.expected > 0, "{loss:?}");
                }
            }
        }
        let reported = reception.reported(Some(8000));
        assert!(reported.is_sorted_by_key(|one| one.start_ns) && reported.len() <= 720);
        assert!(
            reported
                .iter()
                .all(|one| one.loss_percent.is_none_or(|loss| loss < 100.0))
        );
        assert!(reception.round_trip_ns().is_none_or(|trip| trip <= at));
        assert!(reception.mos().is_none_or(|mos| (1.0..=5.0).contains(&mos)));
    }
}

/// Numbers that never jump: each packet is either the first of its number or a duplicate.
fn near(mut steps: Input<'_>) {
    let first = i64::from(steps.u16()) + 65_536;
    let (mut lowest, mut highest, mut distinct, mut packets) =
        (first, first, std::collections::BTreeSet::from([first]), 1);
    let mut sequence = Sequence::new(first as u16);
    while !steps.is_empty() {
        let number = match steps.byte() {
            // More than 99 back is a jump.
            step @ ..100 => highest - i64::from(step),
            255 => highest + i64::from(steps.u16() % 3000),
            step => highest + i64::from(step) - 99,
        };
        sequence.push(number as u16);
        (lowest, highest) = (lowest.min(number), highest.max(number));
        distinct.insert(number);
        packets += 1;
    }
    let (totals, distinct) = (sequence.totals(), distinct.len() as u64);
    assert_eq!(totals.duplicates, packets - distinct);
    assert_eq!(totals.expected, (highest - lowest + 1) as u64);
    assert_eq!(totals.lost, totals.expected - distinct);
}
