//! The columns of a call that its messages and its media fill.

use super::*;

#[test]
fn a_call_without_problems() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    talk(&mut t, 300);
    hung_up(&mut t, 61_200, "1");
    has(
        &mut t,
        &[
            "pdd_ms=100.000",
            "answer_ms=200.000",
            "talk_s=61.000000",
            "hangup_by=caller",
            "caller_ua=",
            "callee_ua=",
            "codecs=PCMA",
            "one_way=false",
            "no_media=false",
            "reason=",
            "source_ip=192.0.2.1",
            "destination_ip=192.0.2.2",
            "problems=",
        ],
    );
}

#[test]
fn without_a_bye_a_call_lasts_to_its_last_packet() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    talk(&mut t, 300);
    has(&mut t, &["talk_s=1.081000", "hangup_by="]);
}

#[test]
fn the_callee_hangs_up() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    let bye = request("BYE", "1").from_callee();
    t.sip(
        9_200,
        B,
        A,
        bye.clone()
            .header("Reason: Q.850;cause=16;text=\"Normal call clearing\""),
    );
    // Again, because its answer is lost.
    t.sip(9_700, B, A, bye);
    has(
        &mut t,
        &[
            "hangup_by=callee",
            "talk_s=9.000000",
            "reason=Q.850 16 Normal call clearing",
            "no_media=true",
            "one_way=false",
            "problems=no-media",
        ],
    );
}

#[test]
fn cancelled_by_the_caller() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(90, B, A, response(100, "INVITE", "1"));
    t.sip(5_100, B, A, response(183, "INVITE", "1"));
    t.sip(
        9_000,
        A,
        B,
        request("CANCEL", "1").header("Reason: SIP;cause=200;text=\"Call completed elsewhere\""),
    );
    t.sip(9_020, B, A, response(487, "INVITE", "1"));
    has(
        &mut t,
        &[
            "state=cancelled",
            "hangup_by=caller",
            "pdd_ms=5100.000",
            "answer_ms=",
            "talk_s=",
            "one_way=",
            "no_media=",
            "reason=SIP 200 Call completed elsewhere",
            "problems=slow-setup",
        ],
    );
    has(&mut t.flag("--problem-setup=5100ms"), &["problems="]);
}

#[test]
fn a_487_tells_nobody_who_hung_up() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(100, B, A, response(487, "INVITE", "1"));
    has(&mut t, &["state=cancelled", "hangup_by="]);
}

#[test]
fn refused_with_a_reason() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    let refused = response(503, "INVITE", "1").header("reason: SIP ;cause=503, Q.850;cause=34");
    t.sip(100, B, A, refused);
    t.sip(120, A, B, ack("1"));
    has(
        &mut t,
        &[
            "state=failed",
            "reason=Q.850 34",
            "pdd_ms=",
            "hangup_by=",
            "problems=server-error",
        ],
    );
}

#[test]
fn the_reason_of_an_attempt_is_not_that_of_the_next() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(
        100,
        B,
        A,
        response(503, "INVITE", "1").header("Reason: Q.850;cause=34"),
    );
    t.sip(200, A, B, invite("1").cseq(2));
    t.sip(300, B, A, response(486, "INVITE", "1").cseq(2));
    has(&mut t, &["final_status=486", "reason=", "problems="]);
}

/// The delays count from the first INVITE, as the start does.
#[test]
fn delays_after_a_challenge() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        20,
        B,
        A,
        response(407, "INVITE", "1").header("Server: Proxy 1"),
    );
    t.sip(40, A, B, ack("1"));
    t.sip(60, A, B, invite("1").cseq(2).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        160,
        B,
        A,
        response(180, "INVITE", "1").cseq(2).to_tag("phone"),
    );
    t.sip(
        260,
        B,
        A,
        response(200, "INVITE", "1")
            .cseq(2)
            .to_tag("phone")
            .sdp(&Sdp::audio(B_MEDIA)),
    );
    has(
        &mut t,
        &["pdd_ms=160.000", "answer_ms=260.000", "callee_ua="],
    );
}

/// A re-INVITE rings and is answered, too: that is not the call's doing.
#[test]
fn a_re_invite_changes_no_delay() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        200,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(220, A, B, ack("1"));
    talk(&mut t, 300);
    t.sip(5_000, A, B, re_invite("1", 2).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(5_100, B, A, response(180, "INVITE", "1").cseq(2));
    t.sip(5_200, B, A, response(200, "INVITE", "1").cseq(2));
    hung_up(&mut t, 6_200, "1");
    has(
        &mut t,
        &[
            "pdd_ms=",
            "answer_ms=200.000",
            "talk_s=6.000000",
            "problems=",
        ],
    );
}

/// A capture that begins inside the call: the caller is the side that sends the first INVITE.
#[test]
fn what_a_call_from_before_the_capture_does_not_tell() {
    let mut t = ladder();
    let hold = re_invite("1", 7).header("User-Agent: Phone A");
    t.sip(0, A, B, hold.sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        100,
        B,
        A,
        response(200, "INVITE", "1")
            .cseq(7)
            .header("Server: Phone B")
            .sdp(&Sdp::audio(B_MEDIA)),
    );
    t.rtp(300, B_MEDIA, A_MEDIA, 8, 1..=50);
    t.sip(2_000, B, A, request("BYE", "1").from_callee());
    has(
        &mut t,
        &[
            "pdd_ms=",
            "answer_ms=",
            "talk_s=",
            "hangup_by=callee",
            "caller_ua=Phone A",
            "callee_ua=Phone B",
            "one_way=true",
            "no_media=false",
            "problems=one-way",
        ],
    );
}

/// Of two phones that answer, the caller hangs up on one at once. That is not the end.
#[test]
fn a_fork_that_is_hung_up_on_is_not_the_hang_up() {
    let mut t = ladder();
    t.sip(
        0,
        A,
        PROXY,
        invite("1")
            .header("User-Agent: Alice")
            .sdp(&Sdp::audio(A_MEDIA)),
    );
    for (at, tag, media) in [(1_000, "bob", B_MEDIA), (1_100, "carol", C_MEDIA)] {
        let ringing = response(180, "INVITE", "1").to_tag(tag);
        t.sip(
            at - 500,
            PROXY,
            A,
            ringing.header(&format!("User-Agent: rings {tag}")),
        );
        let answer = response(200, "INVITE", "1").to_tag(tag);
        let answer = answer.header(&format!("User-Agent: {tag}"));
        t.sip(at, PROXY, A, answer.sdp(&Sdp::audio(media)));
        t.sip(at + 20, A, PROXY, request("ACK", "1").to_tag(tag));
    }
    t.sip(1_200, A, PROXY, request("BYE", "1").cseq(2).to_tag("carol"));
    talk(&mut t, 1_300);
    t.sip(31_000, B, A, request("BYE", "1").from_callee());
    has(
        &mut t,
        &[
            "hangup_by=callee",
            "talk_s=30.000000",
            "pdd_ms=500.000",
            "answer_ms=1000.000",
            "caller_ua=Alice",
            "callee_ua=bob",
        ],
    );
}

/// A back-to-back agent that keeps the Call-ID on its other leg: the caller's leg counts.
#[test]
fn two_legs_with_one_call_id() {
    let leg = |message: Sip| message.from_tag("agent");
    let mut t = ladder();
    t.sip(
        0,
        A,
        PROXY,
        invite("1")
            .header("User-Agent: Alice")
            .sdp(&Sdp::audio(A_MEDIA)),
    );
    t.sip(
        10,
        PROXY,
        B,
        leg(invite("1").branch("2").header("User-Agent: Agent out")),
    );
    t.sip(
        100,
        B,
        PROXY,
        leg(response(180, "INVITE", "1")
            .branch("2")
            .header("Server: Bob")),
    );
    t.sip(
        110,
        PROXY,
        A,
        response(180, "INVITE", "1").to_tag("agent-in"),
    );
    t.sip(
        200,
        B,
        PROXY,
        leg(response(200, "INVITE", "1")
            .branch("2")
            .sdp(&Sdp::audio(B_MEDIA))),
    );
    let answer = response(200, "INVITE", "1").to_tag("agent-in");
    t.sip(
        210,
        PROXY,
        A,
        answer.header("Server: Agent in").sdp(&Sdp::audio(RELAY)),
    );
    talk(&mut t, 300);
    let mut bye = request("BYE", "1").from_callee();
    bye.to = "<sip:alice@example.com>;tag=agent".to_owned();
    t.sip(5_200, B, PROXY, bye);
    let mut bye = request("BYE", "1").from_callee().cseq(5);
    bye.from = "<sip:bob@example.com>;tag=agent-in".to_owned();
    t.sip(5_210, PROXY, A, bye);
    has(
        &mut t,
        &[
            "state=completed",
            "pdd_ms=110.000",
            "answer_ms=210.000",
            "talk_s=5.000000",
            "hangup_by=callee",
            "caller_ua=Alice",
            "callee_ua=Agent in",
        ],
    );
}

/// A queue delivers the answer ahead of the INVITE.
#[test]
fn an_answer_ahead_of_its_invite() {
    let mut t = ladder();
    t.sip(0, B, A, response(200, "INVITE", "1").header("Server: Bob"));
    t.sip(1, A, B, invite("1").header("User-Agent: Alice"));
    hung_up(&mut t, 5_000, "1");
    has(
        &mut t,
        &["answer_ms=0.000", "talk_s=5.000000", "callee_ua=Bob"],
    );
}

#[test]
fn names_of_software_are_text() {
    let mut t = ladder();
    let long = "x".repeat(2_000);
    t.sip(
        0,
        A,
        B,
        invite("1").header("user-agent: =cmd()\r\n \x1b[31m"),
    );
    t.sip(
        10,
        B,
        A,
        response(180, "INVITE", "1").header(&format!("Server: {long}")),
    );
    has(
        &mut t,
        &[
            "caller_ua='=cmd() \u{fffd}[31m",
            &format!("callee_ua={}", &long[..256]),
        ],
    );
}

#[test]
fn the_codecs_that_were_used() {
    let sdp = |at: SocketAddr| {
        Sdp::audio(at)
            .line("a=rtpmap:97 opus/48000/2")
            .line("a=rtpmap:98 pcma/8000")
            .line("a=rtpmap:18 G729/8000")
    };
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&sdp(A_MEDIA)));
    t.sip(100, B, A, response(200, "INVITE", "1").sdp(&sdp(B_MEDIA)));
    for (number, payload_type) in [97, 101, 8, 98, 13, 77].into_iter().enumerate() {
        let mut rtp = Rtp::new(7, number as u16);
        rtp.payload_type = payload_type;
        t.udp(200 + number as u64 * 20, A_MEDIA, B_MEDIA, &rtp.bytes());
    }
    t.rtp(190, B_MEDIA, A_MEDIA, 8, 1..=20);
    has(&mut t, &["codecs=PCMA opus"]);
}

/// A phone of IPv6 calls.
#[test]
fn addresses_without_ports() {
    let v6 = |last| {
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)),
            5060,
        )
    };
    let mut t = ladder();
    t.sip(0, v6(1), v6(2), invite("1"));
    has(
        &mut t,
        &["source_ip=2001:db8::1", "destination_ip=2001:db8::2"],
    );
}
