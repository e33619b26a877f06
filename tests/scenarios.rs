//! Calls as they happen, drawn as ladders, and what the extractor has to say of each.
//!
//! Times are in milliseconds. Unless a test says otherwise, A calls B, media runs between `A_MEDIA` and
//! `B_MEDIA`, and `STRANGER` is an address that no description names.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that goes wrong may say so by ending"
)]

mod support;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
};

use shared::pcap::Precision;
use support::{
    MS, SECOND,
    ladder::{Extracted, Ladder, Row},
    media::{Rtp, dtls, sender_report, stun},
    sip::{Sdp, Sip, request, response},
};

const A: SocketAddr = end([192, 0, 2, 1], 5060);
const B: SocketAddr = end([192, 0, 2, 2], 5060);
const C: SocketAddr = end([192, 0, 2, 3], 5060);
const PROXY: SocketAddr = end([198, 51, 100, 1], 5060);
const A_MEDIA: SocketAddr = end([192, 0, 2, 1], 4000);
const A_RTCP: SocketAddr = end([192, 0, 2, 1], 4001);
const A_NEW_MEDIA: SocketAddr = end([192, 0, 2, 1], 4100);
const B_MEDIA: SocketAddr = end([192, 0, 2, 2], 6000);
const C_MEDIA: SocketAddr = end([192, 0, 2, 3], 8000);
const RELAY: SocketAddr = end([198, 51, 100, 7], 16_400);
const STRANGER: SocketAddr = end([203, 0, 113, 9], 50_000);
const OTHER_STRANGER: SocketAddr = end([203, 0, 113, 10], 50_002);

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

const NONE: [u16; 0] = [];

fn invite(id: &str) -> Sip {
    request("INVITE", id)
}

fn ack(id: &str) -> Sip {
    request("ACK", id).to_tag("bob")
}

/// Another INVITE of the caller inside the dialog.
fn re_invite(id: &str, cseq: u32) -> Sip {
    request("INVITE", id).cseq(cseq).to_tag("bob")
}

/// Four messages within 220 ms: A calls, B rings and answers.
fn answered(t: &mut Ladder, at: u64, id: &str, a_media: SocketAddr, b_media: SocketAddr) {
    t.sip(at, A, B, invite(id).sdp(&Sdp::audio(a_media)));
    t.sip(at + 100, B, A, response(180, "INVITE", id));
    t.sip(at + 200, B, A, response(200, "INVITE", id).sdp(&Sdp::audio(b_media)));
    t.sip(at + 220, A, B, ack(id));
}

/// Two messages within 20 ms: A hangs up.
fn hung_up(t: &mut Ladder, at: u64, id: &str) {
    t.sip(at, A, B, request("BYE", id).cseq(9).to_tag("bob"));
    t.sip(at + 20, B, A, response(200, "BYE", id).cseq(9));
}

/// A packet that belongs to nobody, to move packet time.
fn meanwhile(t: &mut Ladder, at: u64) {
    t.udp(at, STRANGER, OTHER_STRANGER, b"tick");
}

fn packet(t: &mut Ladder, at: u64, from: SocketAddr, to: SocketAddr, ssrc: u32, sequence: u16) {
    t.rtp(at, from, to, ssrc, sequence..=sequence);
}

// How calls go and end: SPEC 3.1.

#[test]
fn a_plain_call() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(240, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.rtp(250, B_MEDIA, A_MEDIA, 8, 1..=50);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    let call = out.only_call();
    call.is("completed").has("final_status", "200").has_sip(6).has_rtp(7, 1..=50).has_rtp(8, 1..=50);
    call.has("rtp_packet_count", "100").has("rtp_stream_count", "2");
    call.has("sip_from", "\"Alice\" <sip:alice@example.com>;tag=alice").has("sip_to", "<sip:bob@example.com>");
    assert_eq!(call.frames(), t.capture.frames, "all of it, byte for byte");
}

#[test]
fn cancelled_while_ringing() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, B, A, response(180, "INVITE", "1"));
    t.sip(5_000, A, B, request("CANCEL", "1"));
    t.sip(5_010, B, A, response(200, "CANCEL", "1"));
    t.sip(5_020, B, A, response(487, "INVITE", "1"));
    t.sip(5_040, A, B, ack("1"));
    t.extract().only_call().is("cancelled").has("final_status", "487").has_sip(6).has("rtp_packet_count", "0");
}

#[test]
fn cancelled_and_never_answered() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    t.sip(100, B, A, response(180, "INVITE", "1"));
    t.sip(5_000, A, B, request("CANCEL", "1"));
    t.extract().only_call().is("cancelled").has("final_status", "").has_sip(3);
}

#[test]
fn a_487_that_nobody_is_seen_to_have_asked_for() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    t.sip(100, B, A, response(487, "INVITE", "1"));
    t.extract().only_call().is("cancelled").has("final_status", "487").has_sip(2);
}

#[test]
fn a_cancel_that_crosses_the_200() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, B, A, response(180, "INVITE", "1"));
    t.sip(1_000, A, B, request("CANCEL", "1"));
    t.sip(1_010, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
    t.sip(1_020, B, A, response(481, "CANCEL", "1"));
    t.sip(1_030, A, B, ack("1"));
    t.rtp(1_040, A_MEDIA, B_MEDIA, 7, 1..=500);
    hung_up(&mut t, 12_000, "1");
    t.extract().only_call().is("completed").has("final_status", "200").has_sip(8).has_rtp(7, 1..=500);
}

#[test]
fn refused_and_tried_again_is_one_call() {
    for status in [302, 401, 407, 422, 491] {
        let mut t = Ladder::new();
        t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
        t.sip(20, B, A, response(status, "INVITE", "1"));
        t.sip(40, A, B, ack("1"));
        t.sip(1_000, A, B, invite("1").cseq(2).sdp(&Sdp::audio(A_MEDIA)));
        t.sip(2_000, B, A, response(200, "INVITE", "1").cseq(2).sdp(&Sdp::audio(B_MEDIA)));
        t.sip(2_020, A, B, ack("1").cseq(2));
        t.rtp(2_030, A_MEDIA, B_MEDIA, 7, 1..=500);
        hung_up(&mut t, 13_000, "1");
        t.extract().only_call().is("completed").has("final_status", "200").has_sip(8).has_rtp(7, 1..=500);
    }
}

#[test]
fn refused_for_good() {
    for status in [302, 401, 404, 486, 503, 603] {
        let mut t = Ladder::new();
        t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
        t.sip(50, B, A, response(status, "INVITE", "1"));
        t.sip(60, A, B, ack("1"));
        meanwhile(&mut t, 20_000);
        t.extract().only_call().is("failed").has("final_status", &status.to_string()).has_sip(3);
    }
}

#[test]
fn retransmissions_are_kept_and_counted() {
    let mut t = Ladder::new();
    for at in [0, 500, 1_500] {
        t.sip(at, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    }
    for at in [2_000, 2_500] {
        t.sip(at, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
        t.sip(at + 20, A, B, ack("1"));
    }
    t.rtp(2_030, A_MEDIA, B_MEDIA, 7, 1..=50);
    for at in [4_000, 4_500] {
        t.sip(at, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    }
    t.sip(4_600, B, A, response(200, "BYE", "1").cseq(2));
    let out = t.extract();
    out.only_call().is("completed").has("final_status", "200").has_sip(10).has_rtp(7, 1..=50);
    out.only_call().has("start_timestamp", "2023-12-01T14:30:22.123456Z");
    assert_eq!(out.only_call().frames(), t.capture.frames);
}

#[test]
fn a_re_invite_that_fails_does_not_end_the_call() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=600);
    t.sip(1_000, A, B, re_invite("1", 2).sdp(&Sdp::audio(A_MEDIA).line("m=video 5000 RTP/AVP 31")));
    t.sip(1_020, B, A, response(488, "INVITE", "1").cseq(2));
    t.sip(1_040, A, B, ack("1").cseq(2));
    hung_up(&mut t, 14_000, "1");
    t.extract().only_call().is("completed").has("final_status", "200").has_sip(9).has_rtp(7, 1..=600);
}

#[test]
fn a_re_invite_of_the_callee_that_fails_does_not_end_the_call() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=600);
    // Callee and caller count their requests each for themselves: RFC 3261, 12.2.1.1.
    t.sip(1_000, B, A, invite("1").from_callee().sdp(&Sdp::audio(B_MEDIA)));
    t.sip(1_020, A, B, response(491, "INVITE", "1").from_callee());
    t.sip(1_040, B, A, request("ACK", "1").from_callee());
    hung_up(&mut t, 14_000, "1");
    t.extract().only_call().is("completed").has("final_status", "200").has_sip(9).has_rtp(7, 1..=600);
}

#[test]
fn no_bye() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    meanwhile(&mut t, 200_000);
    let out = t.extract();
    out.only_call().is("incomplete").has("final_status", "200").has_sip(4).has_rtp(7, 1..=50);
    out.only_call().has("end_timestamp", "2023-12-01T14:30:23.403456Z");
}

#[test]
fn silence_for_the_call_timeout() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 302_000, "1");
    let out = t.extract();
    out.only_call().is("timeout").has("final_status", "200").has_sip(4).has_rtp(7, 1..=50);
    out.only_call().has("end_timestamp", "2023-12-01T14:30:23.403456Z");
}

#[test]
fn media_keeps_a_call_alive() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    (1..=9).for_each(|n| packet(&mut t, u64::from(n) * 250_000, A_MEDIA, B_MEDIA, 7, n));
    hung_up(&mut t, 2_500_000, "1");
    t.extract().only_call().is("completed").has_sip(6).has_rtp(7, 1..=9);
}

#[test]
fn the_call_timeout_is_a_flag() {
    for (flag, state, sip) in
        [("--call-timeout=0", "completed", 6), ("--call-timeout=1h1m", "completed", 6), ("--call-timeout=10s", "timeout", 4)]
    {
        let mut t = Ladder::new().flag(flag);
        answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
        meanwhile(&mut t, 20_000);
        hung_up(&mut t, 3_600_000, "1");
        t.extract().only_call().is(state).has_sip(sip);
    }
}

#[test]
fn no_media() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call().is("completed").has_sip(6).has("rtp_packet_count", "0").has("rtp_stream_count", "0");
    assert!(out.streams.is_empty());
}

#[test]
fn one_way() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, B_MEDIA, A_MEDIA, 8, 1..=50);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call().is("completed").has_rtp(8, 1..=50).has("rtp_packet_count", "50").has("rtp_stream_count", "1");
}

// Proxies, forks, legs.

#[test]
fn a_spiral_through_a_proxy_is_one_call_with_both_copies() {
    let mut t = Ladder::new();
    let (offer, answer) = (Sdp::audio(A_MEDIA), Sdp::audio(B_MEDIA));
    t.sip(0, A, PROXY, invite("1").branch("outer").sdp(&offer));
    t.sip(1, PROXY, B, invite("1").branch("inner").sdp(&offer));
    t.sip(1_000, B, PROXY, response(200, "INVITE", "1").branch("inner").sdp(&answer));
    t.sip(1_001, PROXY, A, response(200, "INVITE", "1").branch("outer").sdp(&answer));
    t.sip(1_020, A, PROXY, ack("1").branch("outer-ack"));
    t.sip(1_021, PROXY, B, ack("1").branch("inner-ack"));
    t.rtp(1_030, A_MEDIA, B_MEDIA, 7, 1..=50);
    for (from, to) in [(A, PROXY), (PROXY, B)] {
        t.sip(3_000, from, to, request("BYE", "1").cseq(2).to_tag("bob"));
        t.sip(3_010, to, from, response(200, "BYE", "1").cseq(2));
    }
    let out = t.extract();
    out.only_call().is("completed").has("final_status", "200").has_sip(10).has_rtp(7, 1..=50);
    assert_eq!(out.only_call().frames(), t.capture.frames);
}

#[test]
fn forked_answers_own_the_media_of_every_fork() {
    let mut t = Ladder::new();
    t.sip(0, A, PROXY, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(200, PROXY, A, response(183, "INVITE", "1").to_tag("bob").sdp(&Sdp::audio(B_MEDIA)));
    t.sip(300, PROXY, A, response(183, "INVITE", "1").to_tag("carol").sdp(&Sdp::audio(C_MEDIA)));
    t.rtp(320, STRANGER, B_MEDIA, 7, 1..=50);
    t.rtp(330, STRANGER, C_MEDIA, 8, 1..=50);
    t.sip(3_000, PROXY, A, response(200, "INVITE", "1").to_tag("carol").sdp(&Sdp::audio(C_MEDIA)));
    t.sip(3_020, A, PROXY, request("ACK", "1").to_tag("carol"));
    t.rtp(3_030, STRANGER, C_MEDIA, 9, 1..=50);
    t.sip(5_000, A, PROXY, request("BYE", "1").cseq(2).to_tag("carol"));
    let out = t.extract();
    out.only_call().is("completed").has("final_status", "200").has_sip(6);
    out.only_call().has_rtp(7, 1..=50).has_rtp(8, 1..=50).has_rtp(9, 1..=50);
}

#[test]
fn one_fork_refuses_while_the_other_rings_on() {
    let mut t = Ladder::new();
    let (offer, answer) = (Sdp::audio(A_MEDIA), Sdp::audio(C_MEDIA));
    t.sip(0, A, PROXY, invite("1").branch("caller").sdp(&offer));
    t.sip(1, PROXY, B, invite("1").branch("to-b").sdp(&offer));
    t.sip(2, PROXY, C, invite("1").branch("to-c").sdp(&offer));
    t.sip(100, C, PROXY, response(180, "INVITE", "1").branch("to-c").to_tag("carol"));
    t.sip(101, PROXY, A, response(180, "INVITE", "1").branch("caller").to_tag("carol"));
    t.sip(200, B, PROXY, response(486, "INVITE", "1").branch("to-b"));
    t.sip(201, PROXY, B, ack("1").branch("to-b"));
    t.sip(20_200, C, PROXY, response(200, "INVITE", "1").branch("to-c").to_tag("carol").sdp(&answer));
    t.sip(20_201, PROXY, A, response(200, "INVITE", "1").branch("caller").to_tag("carol").sdp(&answer));
    t.sip(20_220, A, PROXY, request("ACK", "1").branch("caller-ack").to_tag("carol"));
    t.rtp(20_230, C_MEDIA, A_MEDIA, 7, 1..=500);
    t.sip(32_000, A, PROXY, request("BYE", "1").cseq(2).to_tag("carol"));
    t.extract().only_call().is("completed").has("final_status", "200").has_sip(11).has_rtp(7, 1..=500);
}

#[test]
fn two_legs_share_media_that_runs_directly() {
    let mut t = Ladder::new();
    let (offer, answer) = (Sdp::audio(A_MEDIA), Sdp::audio(B_MEDIA));
    t.sip(0, A, PROXY, invite("in").sdp(&offer));
    t.sip(10, PROXY, B, invite("out").from_tag("proxy").sdp(&offer));
    t.sip(1_000, B, PROXY, response(200, "INVITE", "out").from_tag("proxy").sdp(&answer));
    t.sip(1_010, PROXY, A, response(200, "INVITE", "in").sdp(&answer));
    t.rtp(1_030, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.rtp(1_035, B_MEDIA, A_MEDIA, 8, 1..=50);
    t.sip(3_000, A, PROXY, request("BYE", "in").cseq(2).to_tag("bob"));
    t.sip(3_010, PROXY, B, request("BYE", "out").cseq(2).from_tag("proxy").to_tag("bob"));
    let out = t.extract();
    for id in ["in", "out"] {
        out.call(id).is("completed").has_sip(3).has_rtp(7, 1..=50).has_rtp(8, 1..=50);
    }
}

// What opens a call, and the Call-ID used again.

#[test]
fn what_opens_no_call() {
    let mut t = Ladder::new();
    for (n, method) in ["REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "MESSAGE"].into_iter().enumerate() {
        t.sip(n as u64 * 100, A, B, request(method, method));
        t.sip(n as u64 * 100 + 20, B, A, response(200, method, method));
    }
    hung_up(&mut t, 1_000, "begun-before-the-capture");
    t.sip(2_000, B, A, response(200, "INVITE", "answer-only").sdp(&Sdp::audio(B_MEDIA)));
    t.rtp(2_010, A_MEDIA, B_MEDIA, 7, 1..=50);
    let out = t.extract();
    assert!(out.calls.is_empty() && out.streams.is_empty());
    assert_eq!(out.files().into_keys().collect::<Vec<_>>(), ["calls_statistics.csv", "detected_calls.csv"]);
}

#[test]
fn a_re_invite_opens_a_call_that_began_before_the_capture() {
    let mut t = Ladder::new();
    // Of these, number 101 is the first that comes less than 2 s before the INVITE: at 3,010 ms.
    t.rtp(1_010, B_MEDIA, A_MEDIA, 8, 1..=300);
    t.sip(5_000, A, B, re_invite("1", 5).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(5_100, B, A, response(200, "INVITE", "1").cseq(5).sdp(&Sdp::audio(B_MEDIA)));
    t.sip(5_120, A, B, ack("1").cseq(5));
    hung_up(&mut t, 8_000, "1");
    let out = t.extract();
    out.only_call().is("completed").has_sip(5).has_rtp(8, 101..=300);
    out.only_call().has("start_timestamp", "2023-12-01T14:30:27.123456Z");
}

#[test]
fn a_call_id_used_again_after_the_call_closed() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 1_000, "1");
    answered(&mut t, 10_000, "1", A_MEDIA, B_MEDIA);
    t.rtp(10_300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 12_000, "1");
    let out = t.extract();
    let [first, second] = &out.each_call()[..] else { panic!("{:#?}", out.calls) };
    first.is("completed").has_sip(6).has_rtp(7, NONE).has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap");
    second.is("completed").has_sip(6).has_rtp(7, 1..=50).has("output_pcap_filename", "call_6b86b273_20231201_143032.pcap");
    second.has("start_timestamp", "2023-12-01T14:30:32.123456Z");
}

#[test]
fn a_call_id_used_again_within_the_linger_and_the_same_second() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 400, "1");
    t.sip(600, A, B, invite("1").from_tag("alice-again").cseq(11).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(700, B, A, response(486, "INVITE", "1").from_tag("alice-again").cseq(11));
    let out = t.extract();
    let [first, second] = &out.each_call()[..] else { panic!("{:#?}", out.calls) };
    first.is("completed").has("final_status", "200").has_sip(6).has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap");
    second.is("failed").has("final_status", "486").has_sip(2).has("output_pcap_filename", "call_6b86b273_20231201_143022_2.pcap");
}

// The linger.

#[test]
fn media_after_the_bye_belongs_within_the_linger() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 2_000, "1");
    // The linger counts from the answer to the BYE, at 2,020 ms, whatever media comes: number 250 comes at 7,010 ms.
    t.rtp(2_030, A_MEDIA, B_MEDIA, 7, 1..=400);
    let out = t.extract();
    out.only_call().is("completed").has_sip(6).has_rtp(7, 1..=250);
    out.only_call().has("end_timestamp", "2023-12-01T14:30:29.133456Z");
}

#[test]
fn sip_starts_the_linger_anew() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.sip(2_000, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    t.sip(6_000, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    t.sip(10_000, B, A, response(200, "BYE", "1").cseq(2));
    packet(&mut t, 14_990, A_MEDIA, B_MEDIA, 7, 1);
    packet(&mut t, 15_010, A_MEDIA, B_MEDIA, 7, 2);
    t.sip(15_020, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    t.extract().only_call().is("completed").has_sip(7).has_rtp(7, [1]);
}

#[test]
fn the_linger_is_a_flag_and_may_be_none() {
    let mut t = Ladder::new().flag("--linger=0s");
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 2_000, "1");
    t.extract().only_call().is("completed").has_sip(5);
}

// Offers and answers: SPEC 4.

#[test]
fn early_media() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(200, B, A, response(183, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
    t.rtp(220, B_MEDIA, STRANGER, 8, 1..=400);
    t.sip(10_000, B, A, response(200, "INVITE", "1"));
    t.sip(10_020, A, B, ack("1"));
    hung_up(&mut t, 12_000, "1");
    t.extract().only_call().is("completed").has_sip(6).has_rtp(8, 1..=400);
}

#[test]
fn a_late_offer() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    t.sip(200, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
    t.sip(220, A, B, ack("1").sdp(&Sdp::audio(A_MEDIA)));
    t.rtp(240, STRANGER, A_MEDIA, 7, 1..=50);
    t.rtp(245, STRANGER, B_MEDIA, 8, 1..=50);
    hung_up(&mut t, 3_000, "1");
    t.extract().only_call().is("completed").has_sip(5).has_rtp(7, 1..=50).has_rtp(8, 1..=50);
}

#[test]
fn a_re_invite_with_a_new_port_adds_it() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, STRANGER, A_MEDIA, 7, 1..=200);
    t.sip(2_000, A, B, re_invite("1", 2).sdp(&Sdp::audio(A_NEW_MEDIA)));
    t.sip(2_100, B, A, response(200, "INVITE", "1").cseq(2).sdp(&Sdp::audio(B_MEDIA)));
    t.sip(2_120, A, B, ack("1").cseq(2));
    t.rtp(2_130, STRANGER, A_NEW_MEDIA, 8, 1..=100);
    hung_up(&mut t, 6_000, "1");
    t.extract().only_call().is("completed").has_sip(9).has_rtp(7, 1..=200).has_rtp(8, 1..=100);
}

#[test]
fn prack_and_update_carry_offers_too() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    t.sip(100, B, A, response(183, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
    t.sip(120, A, B, request("PRACK", "1").cseq(2).to_tag("bob").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(140, B, A, response(200, "PRACK", "1").cseq(2));
    t.rtp(150, STRANGER, A_MEDIA, 7, 1..=50);
    t.sip(200, A, B, request("UPDATE", "1").cseq(3).to_tag("bob").sdp(&Sdp::audio(A_NEW_MEDIA)));
    t.sip(220, B, A, response(200, "UPDATE", "1").cseq(3).sdp(&Sdp::audio(C_MEDIA)));
    t.rtp(230, STRANGER, A_NEW_MEDIA, 8, 1..=50);
    t.rtp(235, STRANGER, C_MEDIA, 9, 1..=50);
    let out = t.extract();
    out.only_call().is("incomplete").has("final_status", "").has_rtp(7, 1..=50).has_rtp(8, 1..=50).has_rtp(9, 1..=50);
}

#[test]
fn hold_keeps_the_endpoints_and_resume_goes_on() {
    let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), A_MEDIA.port());
    let holds = [Sdp::audio(A_MEDIA).line("a=sendonly"), Sdp::audio(A_MEDIA).line("a=inactive"), Sdp::audio(nowhere)];
    for hold in holds {
        let mut t = Ladder::new();
        answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
        t.rtp(300, STRANGER, A_MEDIA, 7, 1..=600);
        t.sip(2_000, A, B, re_invite("1", 2).sdp(&hold));
        t.sip(2_100, B, A, response(200, "INVITE", "1").cseq(2).sdp(&Sdp::audio(B_MEDIA).line("a=recvonly")));
        t.sip(8_000, A, B, re_invite("1", 3).sdp(&Sdp::audio(A_MEDIA)));
        t.sip(8_100, B, A, response(200, "INVITE", "1").cseq(3).sdp(&Sdp::audio(B_MEDIA)));
        hung_up(&mut t, 13_000, "1");
        t.extract().only_call().is("completed").has_sip(10).has_rtp(7, 1..=600);
    }
}

#[test]
fn a_call_held_from_the_start_gives_its_endpoint_on_resume() {
    let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), A_MEDIA.port());
    for hold in [Sdp::audio(A_MEDIA).line("a=inactive"), Sdp::audio(A_MEDIA).session_line("a=inactive"), Sdp::audio(nowhere)] {
        let mut t = Ladder::new();
        t.sip(0, A, B, invite("1").sdp(&hold));
        t.sip(100, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA).line("a=inactive")));
        packet(&mut t, 1_000, STRANGER, A_MEDIA, 7, 1);
        packet(&mut t, 1_010, STRANGER, nowhere, 7, 2);
        t.sip(6_000, A, B, re_invite("1", 2).sdp(&Sdp::audio(A_MEDIA)));
        packet(&mut t, 7_000, STRANGER, A_MEDIA, 7, 3);
        t.extract().only_call().is("incomplete").has_sip(3).has_rtp(7, [3]);
    }
}

#[test]
fn port_0_is_no_endpoint() {
    let (port_0, port_1) = (SocketAddr::new(A_MEDIA.ip(), 0), SocketAddr::new(A_MEDIA.ip(), 1));
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", port_0, B_MEDIA);
    t.rtp(300, STRANGER, port_0, 7, 1..=10);
    t.rtp(305, STRANGER, port_1, 7, 1..=10);
    t.rtp(310, A_MEDIA, B_MEDIA, 8, 1..=10);
    hung_up(&mut t, 3_000, "1");
    t.extract().only_call().is("completed").has_rtp(7, NONE).has_rtp(8, 1..=10);
}

#[test]
fn every_media_line_counts_with_its_own_address() {
    let sdp = Sdp::audio(A_MEDIA).line("m=video 9000/2 RTP/AVP 31").line("c=IN IP4 198.51.100.7").line("m=image 9100 udptl t38");
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&sdp));
    for (n, to) in [
        (1, end([198, 51, 100, 7], 9000)),
        (2, end([198, 51, 100, 7], 9002)),
        (3, end([192, 0, 2, 1], 9100)),
        (4, end([192, 0, 2, 1], 9000)),
    ] {
        packet(&mut t, 100 + u64::from(n) * 20, STRANGER, to, 7, n);
    }
    t.extract().only_call().has_rtp(7, [1, 2, 3]);
}

#[test]
fn sdp_in_a_multipart_body() {
    let body = format!(
        "--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n{}\r\n--b1--\r\n",
        Sdp::audio(A_MEDIA)
    );
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").body("multipart/mixed;boundary=b1", body));
    t.rtp(100, STRANGER, A_MEDIA, 7, 1..=10);
    t.extract().only_call().has_rtp(7, 1..=10);
}

#[test]
fn ice_candidates_are_endpoints() {
    let sdp = Sdp::audio(RELAY).line("a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host");
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&sdp));
    t.udp(100, STRANGER, A_MEDIA, &stun());
    t.rtp(200, STRANGER, A_MEDIA, 7, 1..=10);
    t.rtp(300, STRANGER, RELAY, 8, 1..=10);
    let out = t.extract();
    assert!(out.only_call().has_rtp(7, 1..=10).has_rtp(8, 1..=10).carries(&stun()));
}

#[test]
fn a_call_over_ipv6() {
    const fn end6(host: u16, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)), port)
    }
    let mut t = Ladder::new();
    t.sip(0, end6(1, 5060), end6(2, 5060), invite("1").sdp(&Sdp::audio(end6(1, 4000))));
    t.sip(100, end6(2, 5060), end6(1, 5060), response(200, "INVITE", "1").sdp(&Sdp::audio(end6(2, 6000))));
    t.rtp(200, end6(1, 4000), end6(2, 6000), 7, 1..=50);
    t.sip(2_000, end6(1, 5060), end6(2, 5060), request("BYE", "1").cseq(2).to_tag("bob"));
    let out = t.extract();
    out.only_call().is("completed").has_sip(3).has_rtp(7, 1..=50);
    out.streams[0].has("src_rtp_endpoint", "[2001:db8::1]:4000").has("dst_rtp_endpoint", "[2001:db8::2]:6000");
}

// Which packets are whose.

#[test]
fn media_through_nat_matches_by_the_end_that_is_known() {
    let private = end([10, 0, 0, 5], 4000);
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", private, B_MEDIA);
    t.rtp(300, STRANGER, B_MEDIA, 7, 1..=50);
    t.rtp(305, B_MEDIA, STRANGER, 8, 1..=50);
    t.rtp(310, STRANGER, OTHER_STRANGER, 9, 1..=50);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call().has_rtp(7, 1..=50).has_rtp(8, 1..=50).has_rtp(9, NONE);
    out.streams[0].has("src_rtp_endpoint", "203.0.113.9:50000").has("dst_rtp_endpoint", "192.0.2.2:6000");
}

#[test]
fn the_destination_comes_before_the_source() {
    let mut t = Ladder::new();
    t.sip(0, A, PROXY, invite("sends").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(10, B, PROXY, invite("receives").sdp(&Sdp::audio(B_MEDIA)));
    t.rtp(100, A_MEDIA, B_MEDIA, 7, 1..=10);
    let out = t.extract();
    out.call("sends").has_rtp(7, NONE);
    out.call("receives").has_rtp(7, 1..=10);
}

#[test]
fn a_port_used_again_after_a_call_ended() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "first", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 2_000, "first");
    answered(&mut t, 8_000, "second", A_MEDIA, B_MEDIA);
    t.rtp(8_300, A_MEDIA, B_MEDIA, 8, 1..=50);
    hung_up(&mut t, 10_000, "second");
    let out = t.extract();
    out.call("first").is("completed").has_rtp(7, 1..=50).has_rtp(8, NONE);
    out.call("second").is("completed").has_rtp(7, NONE).has_rtp(8, 1..=50);
}

#[test]
fn a_relay_port_used_again_after_a_call_whose_bye_was_never_seen() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "first", A_MEDIA, RELAY);
    t.rtp(300, A_MEDIA, RELAY, 1, 1..=10);
    t.rtp(310, STRANGER, RELAY, 2, 1..=10);
    answered(&mut t, 60_000, "second", C_MEDIA, RELAY);
    t.rtp(60_300, C_MEDIA, RELAY, 3, 1..=10);
    t.rtp(60_305, RELAY, C_MEDIA, 4, 1..=10);
    t.rtp(60_310, STRANGER, RELAY, 5, 1..=10);
    t.rtp(60_315, RELAY, STRANGER, 6, 1..=10);
    hung_up(&mut t, 62_000, "second");
    let out = t.extract();
    let (first, second) = (out.call("first"), out.call("second"));
    for ssrc in 1..=2 {
        first.has_rtp(ssrc, 1..=10);
        second.has_rtp(ssrc, NONE);
    }
    for ssrc in 3..=6 {
        first.has_rtp(ssrc, NONE);
        second.has_rtp(ssrc, 1..=10);
    }
}

#[test]
fn an_endpoint_given_again_is_taken_back() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "first", A_MEDIA, RELAY);
    answered(&mut t, 1_000, "second", C_MEDIA, RELAY);
    t.rtp(1_300, STRANGER, RELAY, 7, 1..=10);
    t.sip(2_000, A, B, re_invite("first", 2).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(2_100, B, A, response(200, "INVITE", "first").cseq(2).sdp(&Sdp::audio(RELAY)));
    t.rtp(2_300, STRANGER, RELAY, 8, 1..=10);
    let out = t.extract();
    out.call("first").has_rtp(7, NONE).has_rtp(8, 1..=10);
    out.call("second").has_rtp(7, 1..=10).has_rtp(8, NONE);
}

#[test]
fn media_up_to_two_seconds_before_its_description() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    // Number 51 is the first that comes less than 2 s before the answer: at 3,010 ms.
    t.rtp(2_010, B_MEDIA, A_MEDIA, 8, 1..=300);
    t.sip(5_000, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
    t.sip(5_020, A, B, ack("1").sdp(&Sdp::audio(A_MEDIA)));
    hung_up(&mut t, 9_000, "1");
    t.extract().only_call().is("completed").has_sip(5).has_rtp(8, 51..=300);
}

#[test]
fn the_lookback_is_a_flag() {
    let mut t = Ladder::new().flag("--media-lookback=500ms");
    t.sip(0, A, B, invite("1"));
    packet(&mut t, 4_490, STRANGER, B_MEDIA, 8, 1);
    packet(&mut t, 4_510, STRANGER, B_MEDIA, 8, 2);
    t.sip(5_000, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
    t.extract().only_call().has_rtp(8, [2]);
}

#[test]
fn no_media_from_before_the_invite_of_a_new_call() {
    let mut t = Ladder::new();
    // Number 26 is the first that comes after the INVITE: at 1,010 ms.
    t.rtp(510, STRANGER, A_MEDIA, 7, 1..=100);
    t.sip(1_000, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(1_100, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
    hung_up(&mut t, 5_000, "1");
    t.extract().only_call().is("completed").has_sip(4).has_rtp(7, 26..=100);
}

#[test]
fn no_media_from_where_another_call_held_the_endpoint() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "first", A_MEDIA, RELAY);
    hung_up(&mut t, 2_000, "first");
    t.sip(6_000, C, B, invite("second"));
    // The first call's linger is over at 7,020 ms: after number 101, which comes at 7,010 ms.
    t.rtp(5_010, STRANGER, RELAY, 7, 1..=200);
    t.sip(8_000, B, C, response(200, "INVITE", "second").sdp(&Sdp::audio(RELAY)));
    let out = t.extract();
    out.call("first").is("completed").has_rtp(7, 1..=101);
    out.call("second").is("incomplete").has_rtp(7, 102..=200);
}

#[test]
fn timestamps_that_go_back_leave_frames_in_capture_order() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 2_000, "1");
    for (frame, back) in [(2, 150 * MS), (10, 30 * MS), (20, 3_600 * SECOND), (54, 2 * SECOND)] {
        t.capture.frames[frame].0 -= back;
    }
    let out = as_drawn(&t);
    out.only_call().is("completed").has_sip(6).has_rtp(7, 1..=50);
    assert_eq!(out.only_call().frames(), t.capture.frames);
}

#[test]
fn timers_never_go_back() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 2_000, "1");
    meanwhile(&mut t, 9_000);
    packet(&mut t, 2_100, A_MEDIA, B_MEDIA, 7, 1);
    as_drawn(&t).only_call().is("completed").has_sip(6).has_rtp(7, NONE);
}

fn as_drawn(t: &Ladder) -> Extracted {
    let out = t.extract_as_drawn();
    assert_eq!(out.status, Some(0), "{}", out.log);
    out
}

// What is not RTP, but belongs.

#[test]
fn rtcp_is_on_the_port_above() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.udp(300, STRANGER, A_RTCP, &sender_report(7));
    let out = t.extract();
    assert!(out.only_call().has("rtp_packet_count", "0").carries(&sender_report(7)));
}

#[test]
fn rtcp_is_where_it_is_declared() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA).line("a=rtcp:53020")));
    t.sip(10, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA).line("a=rtcp:53022 IN IP4 198.51.100.7")));
    t.udp(300, STRANGER, end([192, 0, 2, 1], 53_020), &sender_report(1));
    t.udp(310, STRANGER, end([198, 51, 100, 7], 53_022), &sender_report(2));
    t.udp(320, STRANGER, A_RTCP, &sender_report(3));
    let out = t.extract();
    let call = out.only_call();
    call.has("rtp_packet_count", "0");
    assert_eq!([1, 2, 3].map(|ssrc| call.carries(&sender_report(ssrc))), [true, true, false]);
}

#[test]
fn rtcp_that_shares_the_port_is_not_counted_as_rtp() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA).line("a=rtcp-mux")));
    t.sip(100, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA).line("a=rtcp-mux")));
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.udp(500, A_MEDIA, B_MEDIA, &sender_report(7));
    let out = t.extract();
    assert!(
        out.only_call().has_rtp(7, 1..=50).has("rtp_packet_count", "50").has("rtp_stream_count", "1").carries(&sender_report(7))
    );
}

#[test]
fn whatever_comes_to_an_endpoint_is_kept_but_only_rtp_is_counted() {
    let header = |first: u8, second: u8, len: usize| {
        [&[first, second, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7][..], &[0; 12]].concat()[..len].to_vec()
    };
    let not_rtp = [
        stun(),
        dtls(),
        b"UDPTL, perhaps".to_vec(),
        header(0x80, 8, 11),
        header(0x40, 8, 24),
        header(0x80, 192, 24),
        header(0x80, 223, 24),
        header(0x84, 8, 24),
        header(0x90, 8, 14),
    ];
    let rtp = [header(0x80, 8, 12), header(0x80, 191, 24), header(0x80, 224, 24), header(0x83, 8, 24), header(0x90, 8, 16)];
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    not_rtp.iter().chain(&rtp).for_each(|payload| t.udp(300, A_MEDIA, B_MEDIA, payload));
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call().has("rtp_packet_count", &rtp.len().to_string()).has("rtp_stream_count", "1").has_sip(6);
    assert_eq!(out.only_call().frames(), t.capture.frames);
}

// Rows and files: SPEC 6.

#[test]
fn the_columns() {
    let out = Ladder::new().extract();
    assert_eq!(
        text(&out, "detected_calls.csv"),
        "call_id,start_timestamp,output_pcap_filename,sip_from,sip_to,s3_location,\
         end_timestamp,duration_s,state,final_status,sip_packet_count,rtp_packet_count,rtp_stream_count\r\n"
    );
    assert_eq!(
        text(&out, "calls_statistics.csv"),
        "call_id,start_timestamp,output_pcap_filename,sip_from,sip_to,ssrc_hex,src_rtp_endpoint,dst_rtp_endpoint,\
         rtp_packet_count,expected_rtp_packets,lost_packets,out_of_order_count,duplicate_count,\
         max_delta_ms,min_delta_ms,avg_delta_ms,ptime_ms,s3_location,jitter_ms,max_jitter_ms,mean_jitter_ms,\
         payload_type,codec,clock_rate,loss_percent,max_burst_loss,mos,first_timestamp,last_timestamp\r\n"
    );
}

#[test]
fn when_it_began_and_ended() {
    let mut t = Ladder::new();
    t.capture.precision = Precision::Nano;
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    packet(&mut t, 300, A_MEDIA, B_MEDIA, 0x0a1b_2c3d, 1);
    hung_up(&mut t, 61_000, "1");
    t.capture.frames.iter_mut().for_each(|(ns, _)| *ns += 789);
    let out = t.extract();
    let call = out.only_call();
    call.has("start_timestamp", "2023-12-01T14:30:22.123456Z").has("end_timestamp", "2023-12-01T14:31:23.143456Z");
    call.has("duration_s", "61.020000").has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap").has("s3_location", "");
    assert_eq!(call.frames(), t.capture.frames, "nanoseconds are kept in the pcap");
    out.streams[0].has("call_id", "1").has("start_timestamp", "2023-12-01T14:30:22.123456Z").has("ssrc_hex", "0x0a1b2c3d");
    out.streams[0].has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap").has("s3_location", "");
    out.streams[0].has("src_rtp_endpoint", "192.0.2.1:4000").has("dst_rtp_endpoint", "192.0.2.2:6000");
}

#[test]
fn files_are_for_their_owner_and_group() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    let out = t.extract();
    let mode = std::fs::metadata(out.only_call().path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let names: Vec<String> = out.files().into_keys().collect();
    assert_eq!(names, ["call_6b86b273_20231201_143022.pcap", "calls_statistics.csv", "detected_calls.csv"]);
}

#[test]
fn rows_are_in_the_order_in_which_calls_close() {
    let mut t = Ladder::new();
    for (start, id, bye) in [(0, "closes second", 20_000), (500, "lingers at the end", 24_000), (1_000, "closes first", 5_000)] {
        answered(&mut t, start, id, A_MEDIA, B_MEDIA);
        hung_up(&mut t, bye, id);
    }
    answered(&mut t, 250, "open at the end", A_MEDIA, B_MEDIA);
    answered(&mut t, 750, "also open at the end", A_MEDIA, B_MEDIA);
    meanwhile(&mut t, 26_000);
    let ids = ["closes first", "closes second", "open at the end", "lingers at the end", "also open at the end"];
    assert_eq!(call_ids(&t.extract()), ids);
}

#[test]
fn rows_of_calls_that_close_at_once_are_by_start_then_call_id() {
    let mut t = Ladder::new();
    for (start, id) in [(0, "b"), (0, "a"), (10, "0")] {
        answered(&mut t, start, id, A_MEDIA, B_MEDIA);
        hung_up(&mut t, 1_000, id);
    }
    meanwhile(&mut t, 20_000);
    assert_eq!(call_ids(&t.extract()), ["a", "b", "0"]);
}

#[test]
fn a_timeout_closes_a_call_when_it_is_over() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "silent until 300.22 s", A_MEDIA, B_MEDIA);
    for (id, bye) in [("lingers until 300.12 s", 295_100), ("lingers until 301.02 s", 296_000)] {
        answered(&mut t, 290_000, id, C_MEDIA, RELAY);
        hung_up(&mut t, bye, id);
    }
    meanwhile(&mut t, 400_000);
    assert_eq!(call_ids(&t.extract()), ["lingers until 300.12 s", "silent until 300.22 s", "lingers until 301.02 s"]);
}

#[test]
fn statistics_of_a_call_stand_together_by_first_packet() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "first", A_MEDIA, B_MEDIA);
    answered(&mut t, 10, "second", C_MEDIA, RELAY);
    for (at, ssrc) in [(400, 3), (300, 9)] {
        t.rtp(at, A_MEDIA, B_MEDIA, ssrc, 1..=10);
        t.rtp(at + 5, C_MEDIA, RELAY, ssrc + 1, 1..=10);
    }
    hung_up(&mut t, 1_000, "second");
    hung_up(&mut t, 2_000, "first");
    meanwhile(&mut t, 20_000);
    let out = t.extract();
    let rows: Vec<_> = out.streams.iter().map(|row| (row.get("call_id"), row.get("ssrc_hex"))).collect();
    assert_eq!(rows, [("second", "0x0000000a"), ("second", "0x00000004"), ("first", "0x00000009"), ("first", "0x00000003")]);
}

#[test]
fn what_came_off_the_wire_is_text() {
    let id = "=1+1,\"x\"\u{1b}[31m";
    let mut message = invite(id);
    message.from = "\"Smith, \\\"J\\\"\r\n J\u{f6}rg\u{7}\" <sip:smith@example.com>;tag=alice".to_owned();
    message.to = "@SUM(1+1)*cmd|' /C calc'!A0 <sip:bob@example.com>".to_owned();
    let mut t = Ladder::new();
    t.sip(0, A, B, message);
    answered(&mut t, 10, "neighbour", A_MEDIA, B_MEDIA);
    let out = t.extract();
    assert_eq!(out.calls.len(), 2);
    let call = &out.each_call()[0];
    call.has("call_id", "'=1+1,\"x\"\u{fffd}[31m").has("sip_to", "'@SUM(1+1)*cmd|' /C calc'!A0 <sip:bob@example.com>");
    call.has("sip_from", "\"Smith, \\\"J\\\" J\u{f6}rg\u{fffd}\" <sip:smith@example.com>;tag=alice");
    let text = text(&out, "detected_calls.csv");
    assert!(text.contains("\r\n\"'=1+1,\"\"x\"\"\u{fffd}[31m\",2023-12-01T14:30:22.123456Z,call_"), "{text}");
}

fn text(out: &Extracted, name: &str) -> String {
    String::from_utf8(out.files()[name].clone()).unwrap()
}

fn call_ids(out: &Extracted) -> Vec<&str> {
    out.calls.iter().map(|row| row.get("call_id")).collect()
}

// Statistics: SPEC 5.

/// The row of the one stream that these packets make in a call: when each arrives, and what it is.
fn measured(packets: impl IntoIterator<Item = (u64, Rtp)>) -> Row {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    packets.into_iter().for_each(|(at, packet)| t.udp(1_000 + at, A_MEDIA, B_MEDIA, &packet.bytes()));
    hung_up(&mut t, 60_000, "1");
    let out = t.extract();
    assert_eq!(out.streams.len(), 1, "{:#?}", out.streams);
    out.streams[0].clone()
}

/// Received, expected, lost, out of order, duplicate: of packets that arrive every 20 ms with these numbers.
fn counted(numbers: &[u16]) -> [u64; 5] {
    let row = measured(numbers.iter().enumerate().map(|(index, &number)| (index as u64 * 20, Rtp::new(7, number))));
    ["rtp_packet_count", "expected_rtp_packets", "lost_packets", "out_of_order_count", "duplicate_count"]
        .map(|column| row.get(column).parse().unwrap())
}

#[track_caller]
fn has_jitter(row: &Row, want_ms: f64) {
    let got: f64 = row.get("jitter_ms").parse().unwrap();
    assert!((got - want_ms).abs() < 0.001, "{got} ms instead of {want_ms} ms");
}

#[test]
fn what_a_stream_is_and_how_it_was() {
    // 2 and 3 are lost in a row, 6 alone; the last one comes 12 ms late.
    let packets = [1u16, 4, 5, 7, 8].into_iter().map(|number| {
        let late = if number == 8 { 12 } else { 0 };
        (u64::from(number) * 20 + late, Rtp { timestamp: u32::from(number) * 160, ..Rtp::new(7, number) })
    });
    let row = measured(packets);
    row.has("payload_type", "8").has("codec", "PCMA").has("clock_rate", "8000");
    row.has("lost_packets", "3").has("loss_percent", "37.50").has("max_burst_loss", "2");
    // |D| = 0, 0, 0, 12 ms; 12 / 16.
    row.has("jitter_ms", "0.750").has("max_jitter_ms", "0.750").has("mean_jitter_ms", "0.188");
    // G.107: R = 93.2 - 0.024 * 20.375 - 95 * 37.5 / (37.5 / 1 + 25.1).
    row.has("mos", "1.86");
    let seconds = |column: &str| row.get(column).rsplit_once(':').unwrap().1.trim_end_matches('Z').parse::<f64>().unwrap();
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
    row.has("rtp_packet_count", "1").has("expected_rtp_packets", "1").has("lost_packets", "0");
    row.has("max_delta_ms", "0.00").has("min_delta_ms", "0.00").has("avg_delta_ms", "0.00");
    has_jitter(&row, 0.0);
}

#[test]
fn numbers_wrap_around_at_65535() {
    assert_eq!(counted(&[65_533, 65_534, 65_535, 0, 1, 2]), [6, 6, 0, 0, 0]);
    assert_eq!(counted(&[65_533, 65_535, 0, 2]), [4, 6, 2, 0, 0], "65534 and 1 are lost");
    assert_eq!(counted(&[65_534, 0, 65_535, 1]), [4, 4, 0, 1, 0], "65535 comes late");
}

#[test]
fn lost_packets() {
    assert_eq!(counted(&[1, 2, 4, 7]), [4, 7, 3, 0, 0], "3, 5 and 6");
    assert_eq!(counted(&[1, 2, 3_001]), [3, 3_001, 2_998, 0, 0], "a jump of 2,999 is a loss");
}

#[test]
fn reordered_packets() {
    assert_eq!(counted(&[1, 2, 4, 3, 5]), [5, 5, 0, 1, 0]);
    assert_eq!(counted(&[1, 5, 4, 3, 2, 6]), [6, 6, 0, 3, 0]);
    // Expected is 6 - 5 + 1, though three numbers came: nothing is lost, rather than -1.
    assert_eq!(counted(&[5, 4, 6]), [3, 2, 0, 1, 0], "late for the first");
}

#[test]
fn repeated_packets() {
    assert_eq!(counted(&[1, 2, 2, 3, 3, 3]), [6, 3, 0, 0, 3]);
    assert_eq!(counted(&[1, 2, 4, 3, 3, 1]), [6, 4, 0, 1, 2], "late ones, too");
    assert_eq!(counted(&[1, 2, 2, 5]), [4, 5, 2, 0, 1], "a duplicate makes up for no loss");
}

#[test]
fn a_restart_begins_a_new_run() {
    assert_eq!(counted(&[1, 2, 3, 5_003, 5_004, 5_005]), [6, 6, 0, 0, 0], "3 and 3");
    assert_eq!(counted(&[1, 2, 3_002, 3_003]), [4, 4, 0, 0, 0], "a jump of 3,000 is enough");
    assert_eq!(counted(&[5_000, 5_001, 5_002, 10, 11, 12]), [6, 6, 0, 0, 0], "back");
    assert_eq!(counted(&[500, 501, 401, 402]), [4, 4, 0, 0, 0], "100 back is enough");
    assert_eq!(counted(&[1, 3, 6_000, 6_001, 6_003]), [5, 7, 2, 0, 0], "1 to 3 and 6000 to 6003, without 2 and 6002");
}

#[test]
fn time_between_arrivals() {
    // 20, 25, 15 and 25 ms: 85 ms in four steps.
    let row = measured([0, 20, 45, 60, 85].into_iter().zip(1..).map(|(at, number)| (at, Rtp::new(7, number))));
    row.has("max_delta_ms", "25.00").has("min_delta_ms", "15.00").has("avg_delta_ms", "21.25");
}

#[test]
fn jitter_by_hand() {
    // RFC 3550, A.8, for packets sent every 20 ms: the arrivals 0, 20, 45, 60, 85 ms differ from that by
    // |D| = 0, 5, 5, 5 ms. J += (|D| - J) / 16 gives 0, then 5/16 = 0.3125,
    // then 0.3125 + 4.6875/16 = 0.60546875, then 0.60546875 + 4.39453125/16 = 0.880126953125.
    let row = measured([0, 20, 45, 60, 85].into_iter().zip(1..).map(|(at, number)| (at, Rtp::new(7, number))));
    has_jitter(&row, 0.880_126_953_125);
}

#[test]
fn jitter_of_a_reordered_packet() {
    // Numbers 1, 3, 2 every 20 ms. Their timestamps are 40 ms on, then 20 ms back: |D| = |20 - 40| = 20 ms, then
    // |20 - -20| = 40 ms. J = 20/16 = 1.25, then 1.25 + 38.75/16 = 3.671875.
    let row = measured([(0, 1), (20, 3), (40, 2)].map(|(at, number)| (at, Rtp::new(7, number))));
    has_jitter(&row, 3.671_875);
}

#[test]
fn jitter_by_the_clock_that_was_described() {
    // 1,920 units in 40 ms are no jitter at 48,000 Hz.
    let opus = |number: u16| Rtp { payload_type: 96, timestamp: u32::from(number) * 1_920, ..Rtp::new(7, number) };
    let sdp = |at| Sdp::audio(at).line("a=rtpmap:96 opus/48000/2");
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&sdp(A_MEDIA)));
    t.sip(100, B, A, response(200, "INVITE", "1").sdp(&sdp(B_MEDIA)));
    (1..=10).for_each(|number| t.udp(200 + u64::from(number) * 40, A_MEDIA, B_MEDIA, &opus(number).bytes()));
    has_jitter(&t.extract().streams[0], 0.0);
}

#[test]
fn telephone_events_and_comfort_noise_leave_jitter_alone() {
    // Speech comes in time at 0, 20, 140 and 160 ms. In between, an event whose packets all have its
    // first timestamp, and noise that comes 7 ms late.
    let speech = |number: u16, at: u64| (at, Rtp { timestamp: at as u32 * 8, ..Rtp::new(7, number) });
    let event = |number: u16, at: u64| (at, Rtp { timestamp: 40 * 8, payload_type: 101, ..Rtp::new(7, number) });
    let noise = |number: u16, at: u64| (at + 7, Rtp { timestamp: at as u32 * 8, payload_type: 13, ..Rtp::new(7, number) });
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
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=10);
    t.rtp(305, B_MEDIA, A_MEDIA, 7, 1..=20);
    let out = t.extract();
    out.only_call().has("rtp_packet_count", "30").has("rtp_stream_count", "2");
    let rows: Vec<_> = out
        .streams
        .iter()
        .map(|row| ["src_rtp_endpoint", "expected_rtp_packets", "duplicate_count"].map(|column| row.get(column)))
        .collect();
    assert_eq!(rows, [["192.0.2.1:4000", "10", "0"], ["192.0.2.2:6000", "20", "0"]]);
}

#[test]
fn two_ssrcs_between_the_same_endpoints_are_two_streams() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=10);
    t.rtp(305, A_MEDIA, B_MEDIA, 8, 101..=120);
    let out = t.extract();
    out.only_call().has_rtp(7, 1..=10).has_rtp(8, 101..=120).has("rtp_stream_count", "2");
    let rows: Vec<_> = out
        .streams
        .iter()
        .map(|row| ["ssrc_hex", "expected_rtp_packets", "lost_packets"].map(|column| row.get(column)))
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
        (plain(A_MEDIA).line("m=video 5000 RTP/AVP 31").line("a=ptime:60"), plain(B_MEDIA), "20", "20"),
    ] {
        let mut t = Ladder::new();
        t.sip(0, A, B, invite("1").sdp(&a));
        t.sip(100, B, A, response(200, "INVITE", "1").sdp(&b));
        t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=10);
        t.rtp(305, B_MEDIA, A_MEDIA, 8, 1..=10);
        let out = t.extract();
        let ptimes: Vec<_> = out.streams.iter().map(|row| row.get("ptime_ms")).collect();
        assert_eq!(ptimes, [a_to_b, b_to_a], "{a}{b}");
    }
}

/// The capture is behind the proxy: it sees the phones ring, and nothing of the caller's side.
#[test]
fn one_phone_refuses_and_another_is_picked_up_later() {
    let mut t = Ladder::new();
    let via = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-caller";
    t.sip(0, PROXY, B, invite("1").branch("to-b").header(via).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(1, PROXY, C, invite("1").branch("to-c").header(via).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, B, PROXY, response(180, "INVITE", "1").branch("to-b").header(via));
    t.sip(110, C, PROXY, response(180, "INVITE", "1").branch("to-c").header(via).to_tag("carol"));
    t.sip(2_000, B, PROXY, response(486, "INVITE", "1").branch("to-b").header(via));
    t.sip(20_000, C, PROXY, response(200, "INVITE", "1").branch("to-c").header(via).to_tag("carol").sdp(&Sdp::audio(C_MEDIA)));
    t.rtp(20_010, C_MEDIA, A_MEDIA, 7, 1..=100);
    t.sip(23_000, PROXY, C, request("BYE", "1").cseq(2).to_tag("carol"));
    t.extract().only_call().is("completed").has("final_status", "200").has_sip(7).has_rtp(7, 1..=100);
}

/// The proxy refuses the caller while the phone behind it has not answered: the call is over.
#[test]
fn the_callers_refusal_counts_whatever_the_phones_do() {
    let mut t = Ladder::new();
    let via = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-caller";
    t.sip(0, A, PROXY, invite("1").branch("caller"));
    t.sip(1, PROXY, B, invite("1").branch("to-b").header(via));
    t.sip(100, B, PROXY, response(180, "INVITE", "1").branch("to-b").header(via));
    t.sip(101, PROXY, A, response(180, "INVITE", "1").branch("caller"));
    t.sip(9_000, PROXY, A, response(408, "INVITE", "1").branch("caller"));
    t.udp(30_000, STRANGER, OTHER_STRANGER, b"later");
    t.extract().only_call().is("failed").has("final_status", "408");
}

#[test]
fn a_late_copy_of_an_earlier_attempt_changes_nothing() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    t.sip(50, B, A, response(407, "INVITE", "1"));
    t.sip(100, A, B, invite("1").cseq(2));
    t.sip(500, A, B, invite("1"));
    t.sip(700, B, A, response(486, "INVITE", "1").cseq(2));
    t.udp(30_000, STRANGER, OTHER_STRANGER, b"later");
    t.extract().only_call().is("failed").has("final_status", "486");
}

#[test]
fn the_answer_to_an_attempt_that_was_repeated_does_not_count() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    t.sip(50, B, A, response(407, "INVITE", "1"));
    t.sip(100, A, B, invite("1").cseq(2));
    t.extract().only_call().is("incomplete").has("final_status", "");
}

/// A BYE, then its call's 200 once more, while another call uses the port already.
#[test]
fn a_description_repeated_after_the_bye_takes_no_port_back() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "one", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 1_000, "one");
    answered(&mut t, 2_000, "two", C_MEDIA, B_MEDIA);
    t.sip(2_500, B, A, response(200, "INVITE", "one").sdp(&Sdp::audio(B_MEDIA)));
    t.rtp(3_000, STRANGER, B_MEDIA, 7, 1..=10);
    let out = t.extract();
    out.call("one").has_rtp(7, NONE);
    out.call("two").has_rtp(7, 1..=10);
}
