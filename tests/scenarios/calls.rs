//! How calls open, continue and end.

use super::*;

#[test]
fn a_plain_call() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(240, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.rtp(250, B_MEDIA, A_MEDIA, 8, 1..=50);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    let call = out.only_call();
    call.is("completed")
        .has("final_status", "200")
        .has_sip(6)
        .has_rtp(7, 1..=50)
        .has_rtp(8, 1..=50);
    call.has("rtp_packet_count", "100")
        .has("rtp_stream_count", "2");
    call.has("sip_from", "\"Alice\" <sip:alice@example.com>;tag=alice")
        .has("sip_to", "<sip:bob@example.com>");
    assert_eq!(call.frames(), t.capture.frames, "all of it, byte for byte");
}

#[test]
fn cancelled_while_ringing() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, B, A, response(180, "INVITE", "1"));
    t.sip(5_000, A, B, request("CANCEL", "1"));
    t.sip(5_010, B, A, response(200, "CANCEL", "1"));
    t.sip(5_020, B, A, response(487, "INVITE", "1"));
    t.sip(5_040, A, B, ack("1"));
    t.extract()
        .only_call()
        .is("cancelled")
        .has("final_status", "487")
        .has_sip(6)
        .has("rtp_packet_count", "0");
}

#[test]
fn cancelled_and_never_answered() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(100, B, A, response(180, "INVITE", "1"));
    t.sip(5_000, A, B, request("CANCEL", "1"));
    t.extract()
        .only_call()
        .is("cancelled")
        .has("final_status", "")
        .has_sip(3);
}

#[test]
fn a_487_that_nobody_is_seen_to_have_asked_for() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(100, B, A, response(487, "INVITE", "1"));
    t.extract()
        .only_call()
        .is("cancelled")
        .has("final_status", "487")
        .has_sip(2);
}

#[test]
fn a_cancel_that_crosses_the_200() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, B, A, response(180, "INVITE", "1"));
    t.sip(1_000, A, B, request("CANCEL", "1"));
    t.sip(
        1_010,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(1_020, B, A, response(481, "CANCEL", "1"));
    t.sip(1_030, A, B, ack("1"));
    t.rtp(1_040, A_MEDIA, B_MEDIA, 7, 1..=500);
    hung_up(&mut t, 12_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(8)
        .has_rtp(7, 1..=500);
}

#[test]
fn refused_and_tried_again_is_one_call() {
    for status in [302, 401, 407, 422, 491] {
        let mut t = ladder();
        t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
        t.sip(20, B, A, response(status, "INVITE", "1"));
        t.sip(40, A, B, ack("1"));
        t.sip(1_000, A, B, invite("1").cseq(2).sdp(&Sdp::audio(A_MEDIA)));
        t.sip(
            2_000,
            B,
            A,
            response(200, "INVITE", "1")
                .cseq(2)
                .sdp(&Sdp::audio(B_MEDIA)),
        );
        t.sip(2_020, A, B, ack("1").cseq(2));
        t.rtp(2_030, A_MEDIA, B_MEDIA, 7, 1..=500);
        hung_up(&mut t, 13_000, "1");
        t.extract()
            .only_call()
            .is("completed")
            .has("final_status", "200")
            .has_sip(8)
            .has_rtp(7, 1..=500);
    }
}

#[test]
fn refused_for_good() {
    for status in [302, 401, 404, 486, 503, 603] {
        let mut t = ladder();
        t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
        t.sip(50, B, A, response(status, "INVITE", "1"));
        t.sip(60, A, B, ack("1"));
        meanwhile(&mut t, 20_000);
        t.extract()
            .only_call()
            .is("failed")
            .has("final_status", &status.to_string())
            .has_sip(3);
    }
}

#[test]
fn retransmissions_are_kept_and_counted() {
    let mut t = ladder();
    for at in [0, 500, 1_500] {
        t.sip(at, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    }
    for at in [2_000, 2_500] {
        t.sip(
            at,
            B,
            A,
            response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
        );
        t.sip(at + 20, A, B, ack("1"));
    }
    t.rtp(2_030, A_MEDIA, B_MEDIA, 7, 1..=50);
    for at in [4_000, 4_500] {
        t.sip(at, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    }
    t.sip(4_600, B, A, response(200, "BYE", "1").cseq(2));
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(10)
        .has_rtp(7, 1..=50);
    out.only_call()
        .has("start_timestamp", "2023-12-01T14:30:22.123456Z");
    assert_eq!(out.only_call().frames(), t.capture.frames);
}

#[test]
fn a_re_invite_that_fails_does_not_end_the_call() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=600);
    t.sip(
        1_000,
        A,
        B,
        re_invite("1", 2).sdp(&Sdp::audio(A_MEDIA).line("m=video 5000 RTP/AVP 31")),
    );
    t.sip(1_020, B, A, response(488, "INVITE", "1").cseq(2));
    t.sip(1_040, A, B, ack("1").cseq(2));
    hung_up(&mut t, 14_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(9)
        .has_rtp(7, 1..=600);
}

#[test]
fn a_re_invite_of_the_callee_that_fails_does_not_end_the_call() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=600);
    // Caller and callee number their requests independently: RFC 3261, 12.2.1.1.
    t.sip(
        1_000,
        B,
        A,
        invite("1").from_callee().sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(1_020, A, B, response(491, "INVITE", "1").from_callee());
    t.sip(1_040, B, A, request("ACK", "1").from_callee());
    hung_up(&mut t, 14_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(9)
        .has_rtp(7, 1..=600);
}

#[test]
fn no_bye() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    meanwhile(&mut t, 200_000);
    let out = t.extract();
    out.only_call()
        .is("incomplete")
        .has("final_status", "200")
        .has_sip(4)
        .has_rtp(7, 1..=50);
    out.only_call()
        .has("end_timestamp", "2023-12-01T14:30:23.403456Z");
}

#[test]
fn silence_for_the_call_timeout() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 302_000, "1");
    let out = t.extract();
    out.only_call()
        .is("timeout")
        .has("final_status", "200")
        .has_sip(4)
        .has_rtp(7, 1..=50);
    out.only_call()
        .has("end_timestamp", "2023-12-01T14:30:23.403456Z");
}

#[test]
fn media_keeps_a_call_alive() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    (1..=9).for_each(|n| packet(&mut t, u64::from(n) * 250_000, A_MEDIA, B_MEDIA, 7, n));
    hung_up(&mut t, 2_500_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(6)
        .has_rtp(7, 1..=9);
}

#[test]
fn the_call_timeout_is_a_flag() {
    for (flag, state, sip) in [
        ("--call-timeout=0", "completed", 6),
        ("--call-timeout=1h1m", "completed", 6),
        ("--call-timeout=10s", "timeout", 4),
    ] {
        let mut t = ladder().flag(flag);
        answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
        meanwhile(&mut t, 20_000);
        hung_up(&mut t, 3_600_000, "1");
        t.extract().only_call().is(state).has_sip(sip);
    }
}

#[test]
fn no_media() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has_sip(6)
        .has("rtp_packet_count", "0")
        .has("rtp_stream_count", "0");
    assert!(out.streams.is_empty());
}

#[test]
fn one_way() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, B_MEDIA, A_MEDIA, 8, 1..=50);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has_rtp(8, 1..=50)
        .has("rtp_packet_count", "50")
        .has("rtp_stream_count", "1");
}

// Proxies, forks, legs.

#[test]
fn a_spiral_through_a_proxy_is_one_call_with_both_copies() {
    let mut t = ladder();
    let (offer, answer) = (Sdp::audio(A_MEDIA), Sdp::audio(B_MEDIA));
    t.sip(0, A, PROXY, invite("1").branch("outer").sdp(&offer));
    t.sip(1, PROXY, B, invite("1").branch("inner").sdp(&offer));
    t.sip(
        1_000,
        B,
        PROXY,
        response(200, "INVITE", "1").branch("inner").sdp(&answer),
    );
    t.sip(
        1_001,
        PROXY,
        A,
        response(200, "INVITE", "1").branch("outer").sdp(&answer),
    );
    t.sip(1_020, A, PROXY, ack("1").branch("outer-ack"));
    t.sip(1_021, PROXY, B, ack("1").branch("inner-ack"));
    t.rtp(1_030, A_MEDIA, B_MEDIA, 7, 1..=50);
    for (from, to) in [(A, PROXY), (PROXY, B)] {
        t.sip(3_000, from, to, request("BYE", "1").cseq(2).to_tag("bob"));
        t.sip(3_010, to, from, response(200, "BYE", "1").cseq(2));
    }
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(10)
        .has_rtp(7, 1..=50);
    assert_eq!(out.only_call().frames(), t.capture.frames);
}

#[test]
fn forked_answers_own_the_media_of_every_fork() {
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        200,
        PROXY,
        A,
        response(183, "INVITE", "1")
            .to_tag("bob")
            .sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(
        300,
        PROXY,
        A,
        response(183, "INVITE", "1")
            .to_tag("carol")
            .sdp(&Sdp::audio(C_MEDIA)),
    );
    t.rtp(320, STRANGER, B_MEDIA, 7, 1..=50);
    t.rtp(330, STRANGER, C_MEDIA, 8, 1..=50);
    t.sip(
        3_000,
        PROXY,
        A,
        response(200, "INVITE", "1")
            .to_tag("carol")
            .sdp(&Sdp::audio(C_MEDIA)),
    );
    t.sip(3_020, A, PROXY, request("ACK", "1").to_tag("carol"));
    t.rtp(3_030, STRANGER, C_MEDIA, 9, 1..=50);
    t.sip(5_000, A, PROXY, request("BYE", "1").cseq(2).to_tag("carol"));
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(6);
    out.only_call()
        .has_rtp(7, 1..=50)
        .has_rtp(8, 1..=50)
        .has_rtp(9, 1..=50);
}

#[test]
fn one_fork_refuses_while_the_other_rings_on() {
    let mut t = ladder();
    let (offer, answer) = (Sdp::audio(A_MEDIA), Sdp::audio(C_MEDIA));
    t.sip(0, A, PROXY, invite("1").branch("caller").sdp(&offer));
    t.sip(1, PROXY, B, invite("1").branch("to-b").sdp(&offer));
    t.sip(2, PROXY, C, invite("1").branch("to-c").sdp(&offer));
    t.sip(
        100,
        C,
        PROXY,
        response(180, "INVITE", "1").branch("to-c").to_tag("carol"),
    );
    t.sip(
        101,
        PROXY,
        A,
        response(180, "INVITE", "1")
            .branch("caller")
            .to_tag("carol"),
    );
    t.sip(200, B, PROXY, response(486, "INVITE", "1").branch("to-b"));
    t.sip(201, PROXY, B, ack("1").branch("to-b"));
    t.sip(
        20_200,
        C,
        PROXY,
        response(200, "INVITE", "1")
            .branch("to-c")
            .to_tag("carol")
            .sdp(&answer),
    );
    t.sip(
        20_201,
        PROXY,
        A,
        response(200, "INVITE", "1")
            .branch("caller")
            .to_tag("carol")
            .sdp(&answer),
    );
    t.sip(
        20_220,
        A,
        PROXY,
        request("ACK", "1").branch("caller-ack").to_tag("carol"),
    );
    t.rtp(20_230, C_MEDIA, A_MEDIA, 7, 1..=500);
    t.sip(
        32_000,
        A,
        PROXY,
        request("BYE", "1").cseq(2).to_tag("carol"),
    );
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(11)
        .has_rtp(7, 1..=500);
}

#[test]
fn two_legs_share_media_that_runs_directly() {
    let mut t = ladder();
    let (offer, answer) = (Sdp::audio(A_MEDIA), Sdp::audio(B_MEDIA));
    t.sip(0, A, PROXY, invite("in").sdp(&offer));
    t.sip(10, PROXY, B, invite("out").from_tag("proxy").sdp(&offer));
    t.sip(
        1_000,
        B,
        PROXY,
        response(200, "INVITE", "out")
            .from_tag("proxy")
            .sdp(&answer),
    );
    t.sip(1_010, PROXY, A, response(200, "INVITE", "in").sdp(&answer));
    t.rtp(1_030, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.rtp(1_035, B_MEDIA, A_MEDIA, 8, 1..=50);
    t.sip(3_000, A, PROXY, request("BYE", "in").cseq(2).to_tag("bob"));
    t.sip(
        3_010,
        PROXY,
        B,
        request("BYE", "out")
            .cseq(2)
            .from_tag("proxy")
            .to_tag("bob"),
    );
    let out = t.extract();
    for id in ["in", "out"] {
        out.call(id)
            .is("completed")
            .has_sip(3)
            .has_rtp(7, 1..=50)
            .has_rtp(8, 1..=50);
    }
}

// The messages that open a call, and a Call-ID that is used again.

#[test]
fn messages_that_open_no_call() {
    let mut t = ladder();
    for (n, method) in ["REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "MESSAGE"]
        .into_iter()
        .enumerate()
    {
        t.sip(n as u64 * 100, A, B, request(method, method));
        t.sip(n as u64 * 100 + 20, B, A, response(200, method, method));
    }
    hung_up(&mut t, 1_000, "begun-before-the-capture");
    t.sip(
        2_000,
        B,
        A,
        response(200, "INVITE", "answer-only").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.rtp(2_010, A_MEDIA, B_MEDIA, 7, 1..=50);
    let out = t.extract();
    assert!(out.calls.is_empty() && out.streams.is_empty());
    assert_eq!(
        out.files().into_keys().collect::<Vec<_>>(),
        ["calls.jsonl", "calls_statistics.csv", "detected_calls.csv"]
    );
}

#[test]
fn a_re_invite_opens_a_call_that_began_before_the_capture() {
    let mut t = ladder();
    // Number 101 is the first that comes less than 2 s before the INVITE: at 3,010 ms.
    t.rtp(1_010, B_MEDIA, A_MEDIA, 8, 1..=300);
    t.sip(5_000, A, B, re_invite("1", 5).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        5_100,
        B,
        A,
        response(200, "INVITE", "1")
            .cseq(5)
            .sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(5_120, A, B, ack("1").cseq(5));
    hung_up(&mut t, 8_000, "1");
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has_sip(5)
        .has_rtp(8, 101..=300);
    out.only_call()
        .has("start_timestamp", "2023-12-01T14:30:27.123456Z");
}

#[test]
fn a_call_id_used_again_after_the_call_closed() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 1_000, "1");
    answered(&mut t, 10_000, "1", A_MEDIA, B_MEDIA);
    t.rtp(10_300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 12_000, "1");
    let out = t.extract();
    let [first, second] = &out.each_call()[..] else {
        panic!("{:#?}", out.calls)
    };
    first
        .is("completed")
        .has_sip(6)
        .has_rtp(7, NONE)
        .has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap");
    second
        .is("completed")
        .has_sip(6)
        .has_rtp(7, 1..=50)
        .has("output_pcap_filename", "call_6b86b273_20231201_143032.pcap");
    second.has("start_timestamp", "2023-12-01T14:30:32.123456Z");
}

#[test]
fn a_call_id_used_again_within_the_linger_and_the_same_second() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 400, "1");
    t.sip(
        600,
        A,
        B,
        invite("1")
            .from_tag("alice-again")
            .cseq(11)
            .sdp(&Sdp::audio(A_MEDIA)),
    );
    t.sip(
        700,
        B,
        A,
        response(486, "INVITE", "1")
            .from_tag("alice-again")
            .cseq(11),
    );
    let out = t.extract();
    let [first, second] = &out.each_call()[..] else {
        panic!("{:#?}", out.calls)
    };
    first
        .is("completed")
        .has("final_status", "200")
        .has_sip(6)
        .has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap");
    second
        .is("failed")
        .has("final_status", "486")
        .has_sip(2)
        .has(
            "output_pcap_filename",
            "call_6b86b273_20231201_143022_2.pcap",
        );
}

// The linger.

#[test]
fn media_after_the_bye_belongs_within_the_linger() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 2_000, "1");
    // The linger counts from the answer to the BYE, at 2,020 ms, even if media comes: number 250
    // comes at 7,010 ms.
    t.rtp(2_030, A_MEDIA, B_MEDIA, 7, 1..=400);
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has_sip(6)
        .has_rtp(7, 1..=250);
    out.only_call()
        .has("end_timestamp", "2023-12-01T14:30:29.133456Z");
}

#[test]
fn sip_starts_the_linger_anew() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.sip(2_000, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    t.sip(6_000, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    t.sip(10_000, B, A, response(200, "BYE", "1").cseq(2));
    packet(&mut t, 14_990, A_MEDIA, B_MEDIA, 7, 1);
    packet(&mut t, 15_010, A_MEDIA, B_MEDIA, 7, 2);
    t.sip(15_020, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(7)
        .has_rtp(7, [1]);
}

#[test]
fn the_linger_is_a_flag_and_may_be_none() {
    let mut t = ladder().flag("--linger=0s");
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 2_000, "1");
    t.extract().only_call().is("completed").has_sip(5);
}
