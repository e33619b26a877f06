//! Statistics of streams.

use super::*;

/// Returns the row of a stream with these packets, given by arrival time.
fn measured(packets: impl IntoIterator<Item = (u64, Rtp)>) -> Row {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    packets
        .into_iter()
        .for_each(|(at, packet)| t.udp(1_000 + at, A_MEDIA, B_MEDIA, &packet.bytes()));
    hung_up(&mut t, 60_000, "1");
    let out = t.extract();
    assert_eq!(out.streams.len(), 1, "{:#?}", out.streams);
    out.streams[0].clone()
}

/// Returns received, expected, lost, out of order and duplicate, for packets with these numbers
/// that arrive every 20 ms.
fn counted(numbers: &[u16]) -> [u64; 5] {
    let row = measured(
        numbers
            .iter()
            .enumerate()
            .map(|(index, &number)| (index as u64 * 20, Rtp::new(7, number))),
    );
    [
        "rtp_packet_count",
        "expected_rtp_packets",
        "lost_packets",
        "out_of_order_count",
        "duplicate_count",
    ]
    .map(|column| row.get(column).parse().unwrap())
}

#[track_caller]
fn has_jitter(row: &Row, want_ms: f64) {
    let got: f64 = row.get("jitter_ms").parse().unwrap();
    assert!(
        (got - want_ms).abs() < 0.001,
        "{got} ms instead of {want_ms} ms"
    );
}

#[test]
fn a_stream_row_has_identity_and_quality() {
    // 2 and 3 are lost in a row, 6 alone; the last one comes 12 ms late.
    let packets = [1u16, 4, 5, 7, 8].into_iter().map(|number| {
        let late = if number == 8 { 12 } else { 0 };
        (
            u64::from(number) * 20 + late,
            Rtp {
                timestamp: u32::from(number) * 160,
                ..Rtp::new(7, number)
            },
        )
    });
    let row = measured(packets);
    row.has("payload_type", "8")
        .has("codec", "PCMA")
        .has("clock_rate", "8000");
    row.has("lost_packets", "3")
        .has("loss_percent", "37.50")
        .has("max_burst_loss", "2");
    // |D| = 0, 0, 0, 12 ms; 12 / 16.
    row.has("jitter_ms", "0.750")
        .has("max_jitter_ms", "0.750")
        .has("mean_jitter_ms", "0.188");
    // G.107: R = 93.2 - 0.024 * 20.375 - 95 * 37.5 / (37.5 / 1 + 25.1).
    row.has("mos", "1.86");
    let seconds = |column: &str| {
        row.get(column)
            .rsplit_once(':')
            .unwrap()
            .1
            .trim_end_matches('Z')
            .parse::<f64>()
            .unwrap()
    };
    let lasted = seconds("last_timestamp") - seconds("first_timestamp");
    assert!((lasted - 0.152).abs() < 1e-6, "{lasted}");
}

#[test]
fn nothing_missing() {
    assert_eq!(counted(&[1, 2, 3, 4, 5]), [5, 5, 0, 0, 0]);
}

#[test]
fn one_packet() {
    let row = measured([(0, Rtp::new(7, 4711))]);
    row.has("rtp_packet_count", "1")
        .has("expected_rtp_packets", "1")
        .has("lost_packets", "0");
    row.has("max_delta_ms", "0.00")
        .has("min_delta_ms", "0.00")
        .has("avg_delta_ms", "0.00");
    has_jitter(&row, 0.0);
}

#[test]
fn numbers_wrap_around_at_65535() {
    assert_eq!(counted(&[65_533, 65_534, 65_535, 0, 1, 2]), [6, 6, 0, 0, 0]);
    assert_eq!(
        counted(&[65_533, 65_535, 0, 2]),
        [4, 6, 2, 0, 0],
        "65534 and 1 are lost"
    );
    assert_eq!(
        counted(&[65_534, 0, 65_535, 1]),
        [4, 4, 0, 1, 0],
        "65535 comes late"
    );
}

#[test]
fn lost_packets() {
    assert_eq!(counted(&[1, 2, 4, 7]), [4, 7, 3, 0, 0], "3, 5 and 6");
    assert_eq!(
        counted(&[1, 2, 3_001]),
        [3, 3_001, 2_998, 0, 0],
        "a jump of 2,999 is a loss"
    );
}

#[test]
fn reordered_packets() {
    assert_eq!(counted(&[1, 2, 4, 3, 5]), [5, 5, 0, 1, 0]);
    assert_eq!(counted(&[1, 5, 4, 3, 2, 6]), [6, 6, 0, 3, 0]);
    assert_eq!(counted(&[5, 4, 6]), [3, 3, 0, 1, 0], "late for the first");
}

#[test]
fn packets_late_for_the_first_extend_the_run_downwards() {
    assert_eq!(counted(&[2, 1, 3, 5]), [4, 5, 1, 1, 0], "4 is lost");
    assert_eq!(counted(&[5, 2, 6]), [3, 5, 2, 1, 0], "3 and 4 are lost");
    assert_eq!(
        counted(&[0, 65_535, 1]),
        [3, 3, 0, 1, 0],
        "across the wrap-around"
    );
    assert_eq!(
        counted(&[500, 401, 501]),
        [3, 101, 98, 1, 0],
        "99 back is late"
    );
    assert_eq!(
        counted(&[500, 400, 501]),
        [3, 2, 0, 0, 0],
        "100 back is a jump that nothing confirms"
    );
    assert_eq!(
        counted(&[1, 2, 40_000, 40_001, 39_998]),
        [5, 6, 1, 1, 0],
        "of the run that began last"
    );
    assert_eq!(
        counted(&[40_000, 40_001, 5, 6, 39_999, 7]),
        [6, 5, 0, 0, 0],
        "one of the run before says nothing"
    );
}

#[test]
fn losses_and_losses_in_a_row_agree() {
    let row = measured(
        [2u16, 1, 3, 5, 6]
            .into_iter()
            .zip(0..)
            .map(|(number, index)| (index * 20, Rtp::new(7, number))),
    );
    row.has("expected_rtp_packets", "6")
        .has("lost_packets", "1")
        .has("max_burst_loss", "1");
    let row = measured(
        [2u16, 1, 3, 4]
            .into_iter()
            .zip(0..)
            .map(|(number, index)| (index * 20, Rtp::new(7, number))),
    );
    row.has("expected_rtp_packets", "4")
        .has("lost_packets", "0")
        .has("max_burst_loss", "0");
}

#[test]
fn repeated_packets() {
    assert_eq!(counted(&[1, 2, 2, 3, 3, 3]), [6, 3, 0, 0, 3]);
    assert_eq!(
        counted(&[1, 2, 4, 3, 3, 1]),
        [6, 4, 0, 1, 2],
        "late ones, too"
    );
    assert_eq!(
        counted(&[1, 2, 2, 5]),
        [4, 5, 2, 0, 1],
        "a duplicate makes up for no loss"
    );
}

#[test]
fn a_restart_begins_a_new_run() {
    assert_eq!(
        counted(&[1, 2, 3, 5_003, 5_004, 5_005]),
        [6, 6, 0, 0, 0],
        "3 and 3"
    );
    assert_eq!(
        counted(&[1, 2, 3_002, 3_003]),
        [4, 4, 0, 0, 0],
        "a jump of 3,000 is enough"
    );
    assert_eq!(
        counted(&[5_000, 5_001, 5_002, 10, 11, 12]),
        [6, 6, 0, 0, 0],
        "back"
    );
    assert_eq!(
        counted(&[500, 501, 401, 402]),
        [4, 4, 0, 0, 0],
        "100 back is enough"
    );
    assert_eq!(
        counted(&[1, 3, 6_000, 6_001, 6_003]),
        [5, 7, 2, 0, 0],
        "1 to 3 and 6000 to 6003, without 2 and 6002"
    );
}

#[test]
fn time_between_arrivals() {
    // 20, 25, 15 and 25 ms: 85 ms in four steps.
    let row = measured(
        [0, 20, 45, 60, 85]
            .into_iter()
            .zip(1..)
            .map(|(at, number)| (at, Rtp::new(7, number))),
    );
    row.has("max_delta_ms", "25.00")
        .has("min_delta_ms", "15.00")
        .has("avg_delta_ms", "21.25");
}

#[test]
fn jitter_by_hand() {
    // RFC 3550, A.8, for packets sent every 20 ms: the arrivals 0, 20, 45, 60, 85 ms give
    // |D| = 0, 5, 5, 5 ms. J += (|D| - J) / 16 gives 0, then 5/16 = 0.3125, then 0.3125 +
    // 4.6875/16 = 0.60546875, then 0.60546875 + 4.39453125/16 = 0.880126953125.
    let row = measured(
        [0, 20, 45, 60, 85]
            .into_iter()
            .zip(1..)
            .map(|(at, number)| (at, Rtp::new(7, number))),
    );
    has_jitter(&row, 0.880_126_953_125);
}

#[test]
fn jitter_of_a_reordered_packet() {
    // Numbers 1, 3, 2 every 20 ms. Their timestamps go on by 40 ms, then back by 20 ms: |D| = |20 -
    // 40| = 20 ms, then |20 - -20| = 40 ms. J = 20/16 = 1.25, then 1.25 + 38.75/16 = 3.671875.
    let row = measured([(0, 1), (20, 3), (40, 2)].map(|(at, number)| (at, Rtp::new(7, number))));
    has_jitter(&row, 3.671_875);
}

#[test]
fn jitter_by_the_clock_that_was_described() {
    // 1,920 units in 40 ms are no jitter at 48,000 Hz.
    let opus = |number: u16| Rtp {
        payload_type: 96,
        timestamp: u32::from(number) * 1_920,
        ..Rtp::new(7, number)
    };
    let sdp = |at| Sdp::audio(at).line("a=rtpmap:96 opus/48000/2");
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&sdp(A_MEDIA)));
    t.sip(100, B, A, response(200, "INVITE", "1").sdp(&sdp(B_MEDIA)));
    (1..=10).for_each(|number| {
        t.udp(
            200 + u64::from(number) * 40,
            A_MEDIA,
            B_MEDIA,
            &opus(number).bytes(),
        );
    });
    has_jitter(&t.extract().streams[0], 0.0);
}

/// Returns the row of the one stream, from B to A, of a call whose descriptions both have these
/// lines; a packet comes every 20 ms.
fn described(lines: &[&str], payload_type: u8, units: u32) -> Row {
    let sdp = |at| {
        lines
            .iter()
            .fold(Sdp::audio(at), |sdp, line| sdp.line(line))
    };
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&sdp(A_MEDIA)));
    t.sip(100, B, A, response(200, "INVITE", "1").sdp(&sdp(B_MEDIA)));
    for number in 1..=10u16 {
        let packet = Rtp {
            payload_type,
            timestamp: u32::from(number) * units,
            ..Rtp::new(7, number)
        };
        t.udp(
            200 + u64::from(number) * 20,
            B_MEDIA,
            A_MEDIA,
            &packet.bytes(),
        );
    }
    t.extract().streams[0].clone()
}

#[test]
fn clocks_that_rfcs_fix() {
    let g722 = described(&["a=rtpmap:9 G722/16000"], 9, 160);
    has_jitter(g722.has("codec", "G722").has("clock_rate", "8000"), 0.0);
    let opus = described(&["a=rtpmap:96 opus/16000"], 96, 960);
    has_jitter(opus.has("codec", "opus").has("clock_rate", "48000"), 0.0);
    let speex = described(&["a=rtpmap:96 speex/16000"], 96, 320);
    has_jitter(speex.has("codec", "speex").has("clock_rate", "16000"), 0.0);
}

#[test]
fn the_annexes_of_g729_sound_alike() {
    for codec in ["G729", "G729a", "G.729AB"] {
        let row = described(&[&format!("a=rtpmap:18 {codec}/8000")], 18, 160);
        row.has("codec", codec)
            .has("clock_rate", "8000")
            .has("mos", "4.09");
    }
}

#[test]
fn telephone_events_and_comfort_noise_leave_jitter_alone() {
    // Speech comes on time at 0, 20, 140 and 160 ms. In between are an event, whose packets all
    // have its first timestamp, and comfort noise that comes 7 ms late.
    let speech = |number: u16, at: u64| {
        (
            at,
            Rtp {
                timestamp: at as u32 * 8,
                ..Rtp::new(7, number)
            },
        )
    };
    let event = |number: u16, at: u64| {
        (
            at,
            Rtp {
                timestamp: 40 * 8,
                payload_type: 101,
                ..Rtp::new(7, number)
            },
        )
    };
    let noise = |number: u16, at: u64| {
        (
            at + 7,
            Rtp {
                timestamp: at as u32 * 8,
                payload_type: 13,
                ..Rtp::new(7, number)
            },
        )
    };
    let row = measured([
        speech(1, 0),
        speech(2, 20),
        event(3, 40),
        event(4, 60),
        event(5, 80),
        noise(6, 100),
        speech(7, 140),
        speech(8, 160),
    ]);
    row.has("rtp_packet_count", "8").has("lost_packets", "0");
    has_jitter(&row, 0.0);
}

#[test]
fn two_directions_with_one_ssrc_are_two_streams() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=10);
    t.rtp(305, B_MEDIA, A_MEDIA, 7, 1..=20);
    let out = t.extract();
    out.only_call()
        .has("rtp_packet_count", "30")
        .has("rtp_stream_count", "2");
    let rows: Vec<_> = out
        .streams
        .iter()
        .map(|row| {
            [
                "src_rtp_endpoint",
                "expected_rtp_packets",
                "duplicate_count",
            ]
            .map(|column| row.get(column))
        })
        .collect();
    assert_eq!(
        rows,
        [["192.0.2.1:4000", "10", "0"], ["192.0.2.2:6000", "20", "0"]]
    );
}

#[test]
fn two_ssrcs_between_the_same_endpoints_are_two_streams() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=10);
    t.rtp(305, A_MEDIA, B_MEDIA, 8, 101..=120);
    let out = t.extract();
    out.only_call()
        .has_rtp(7, 1..=10)
        .has_rtp(8, 101..=120)
        .has("rtp_stream_count", "2");
    let rows: Vec<_> = out
        .streams
        .iter()
        .map(|row| {
            ["ssrc_hex", "expected_rtp_packets", "lost_packets"].map(|column| row.get(column))
        })
        .collect();
    assert_eq!(rows, [["0x00000007", "10", "0"], ["0x00000008", "20", "0"]]);
}

#[test]
fn ptime_is_the_receivers_else_the_senders_else_20() {
    let plain = Sdp::audio;
    let with = |at, ms: u32| Sdp::audio(at).line(&format!("a=ptime:{ms}"));
    for (a, b, a_to_b, b_to_a) in [
        (with(A_MEDIA, 40), with(B_MEDIA, 30), "30", "40"),
        (with(A_MEDIA, 40), plain(B_MEDIA), "40", "40"),
        (plain(A_MEDIA), with(B_MEDIA, 30), "30", "30"),
        (plain(A_MEDIA), plain(B_MEDIA), "20", "20"),
        (
            plain(A_MEDIA)
                .line("m=video 5000 RTP/AVP 31")
                .line("a=ptime:60"),
            plain(B_MEDIA),
            "20",
            "20",
        ),
    ] {
        let mut t = ladder();
        t.sip(0, A, B, invite("1").sdp(&a));
        t.sip(100, B, A, response(200, "INVITE", "1").sdp(&b));
        t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=10);
        t.rtp(305, B_MEDIA, A_MEDIA, 8, 1..=10);
        let out = t.extract();
        let ptimes: Vec<_> = out.streams.iter().map(|row| row.get("ptime_ms")).collect();
        assert_eq!(ptimes, [a_to_b, b_to_a], "{a}{b}");
    }
}

/// The capture point is behind the proxy: it sees the phones ring, but not the caller's side.
#[test]
fn one_phone_refuses_and_another_is_picked_up_later() {
    let mut t = ladder();
    let via = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-caller";
    t.sip(
        0,
        PROXY,
        B,
        invite("1")
            .branch("to-b")
            .header(via)
            .sdp(&Sdp::audio(A_MEDIA)),
    );
    t.sip(
        1,
        PROXY,
        C,
        invite("1")
            .branch("to-c")
            .header(via)
            .sdp(&Sdp::audio(A_MEDIA)),
    );
    t.sip(
        100,
        B,
        PROXY,
        response(180, "INVITE", "1").branch("to-b").header(via),
    );
    t.sip(
        110,
        C,
        PROXY,
        response(180, "INVITE", "1")
            .branch("to-c")
            .header(via)
            .to_tag("carol"),
    );
    t.sip(
        2_000,
        B,
        PROXY,
        response(486, "INVITE", "1").branch("to-b").header(via),
    );
    t.sip(
        20_000,
        C,
        PROXY,
        response(200, "INVITE", "1")
            .branch("to-c")
            .header(via)
            .to_tag("carol")
            .sdp(&Sdp::audio(C_MEDIA)),
    );
    t.rtp(20_010, C_MEDIA, A_MEDIA, 7, 1..=100);
    t.sip(
        23_000,
        PROXY,
        C,
        request("BYE", "1").cseq(2).to_tag("carol"),
    );
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(7)
        .has_rtp(7, 1..=100);
}

/// The proxy refuses the caller before the phone behind it has answered: the call is over.
#[test]
fn the_callers_refusal_counts_whatever_the_phones_do() {
    let mut t = ladder();
    let via = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-caller";
    t.sip(0, A, PROXY, invite("1").branch("caller"));
    t.sip(1, PROXY, B, invite("1").branch("to-b").header(via));
    t.sip(
        100,
        B,
        PROXY,
        response(180, "INVITE", "1").branch("to-b").header(via),
    );
    t.sip(101, PROXY, A, response(180, "INVITE", "1").branch("caller"));
    t.sip(
        9_000,
        PROXY,
        A,
        response(408, "INVITE", "1").branch("caller"),
    );
    t.udp(30_000, STRANGER, OTHER_STRANGER, b"later");
    t.extract()
        .only_call()
        .is("failed")
        .has("final_status", "408");
}

#[test]
fn a_late_copy_of_an_earlier_attempt_changes_nothing() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(50, B, A, response(407, "INVITE", "1"));
    t.sip(100, A, B, invite("1").cseq(2));
    t.sip(500, A, B, invite("1"));
    t.sip(700, B, A, response(486, "INVITE", "1").cseq(2));
    t.udp(30_000, STRANGER, OTHER_STRANGER, b"later");
    t.extract()
        .only_call()
        .is("failed")
        .has("final_status", "486");
}

#[test]
fn the_answer_to_an_attempt_that_was_repeated_does_not_count() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(50, B, A, response(407, "INVITE", "1"));
    t.sip(100, A, B, invite("1").cseq(2));
    t.extract()
        .only_call()
        .is("incomplete")
        .has("final_status", "");
}

/// After the BYE the call's 200 is repeated, while another call already uses the port.
#[test]
fn a_description_repeated_after_the_bye_takes_no_port_back() {
    let mut t = ladder();
    answered(&mut t, 0, "one", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 1_000, "one");
    answered(&mut t, 2_000, "two", C_MEDIA, B_MEDIA);
    t.sip(
        2_500,
        B,
        A,
        response(200, "INVITE", "one").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.rtp(3_000, STRANGER, B_MEDIA, 7, 1..=10);
    let out = t.extract();
    out.call("one").has_rtp(7, NONE);
    out.call("two").has_rtp(7, 1..=10);
}

/// A later meaning of the payload type does not change a stream that has ended.
#[test]
fn a_stream_is_what_it_was_sent_as() {
    let mut t = ladder();
    let opus = |at| Sdp::audio(at).line("a=rtpmap:96 opus/48000/2");
    t.sip(0, A, B, invite("1").sdp(&opus(A_MEDIA)));
    t.sip(200, B, A, response(200, "INVITE", "1").sdp(&opus(B_MEDIA)));
    t.sip(220, A, B, ack("1"));
    for number in 0..50 {
        let packet = Rtp {
            payload_type: 96,
            ..Rtp::new(8, number)
        };
        t.udp(
            1_000 + u64::from(number) * 20,
            B_MEDIA,
            A_MEDIA,
            &packet.bytes(),
        );
    }
    t.sip(
        10_000,
        A,
        B,
        re_invite("1", 2).sdp(&Sdp::audio(A_MEDIA).line("a=rtpmap:96 telephone-event/8000")),
    );
    hung_up(&mut t, 12_000, "1");
    let out = t.extract();
    out.only_call().streams()[0]
        .has("payload_type", "96")
        .has("codec", "opus")
        .has("clock_rate", "48000");
}
