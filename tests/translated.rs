//! Media of endpoints behind NAT: found if no description contradicts, and never taken from a call
//! whose description names the endpoint.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use support::{
    ladder::Ladder,
    sip::{Sdp, Sip, request, response},
};

/// A phone at home, and its router.
const PHONE_MEDIA: SocketAddr = end([10, 0, 0, 5], 4000);
const ROUTER: SocketAddr = end([192, 0, 2, 1], 50_600);
const ROUTER_MEDIA: SocketAddr = end([192, 0, 2, 1], 4000);
const ROUTER_RTCP: SocketAddr = end([192, 0, 2, 1], 4001);
const ROUTER_OTHER_PORT: SocketAddr = end([192, 0, 2, 1], 61_234);
/// A phone in another home.
const OTHER_PHONE_MEDIA: SocketAddr = end([192, 168, 1, 7], 6000);
const OTHER_ROUTER: SocketAddr = end([198, 51, 100, 9], 5060);
const OTHER_ROUTER_MEDIA: SocketAddr = end([198, 51, 100, 9], 6000);
/// A provider's proxy.
const PROXY: SocketAddr = end([203, 0, 113, 1], 5060);
const PROXY_PORT_4000: SocketAddr = end([203, 0, 113, 1], 4000);
const RELAY: SocketAddr = end([203, 0, 113, 2], 16_400);
const STRANGER: SocketAddr = end([203, 0, 113, 99], 30_000);

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

fn invite(id: &str) -> Sip {
    request("INVITE", id).sdp(&Sdp::audio(PHONE_MEDIA))
}

#[test]
fn the_port_is_looked_for_at_the_address_that_the_message_came_from() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("1"));
    t.rtp(100, ROUTER_MEDIA, STRANGER, 7, 1..=10);
    t.rtp(100, STRANGER, ROUTER_MEDIA, 8, 1..=10);
    t.udp(
        300,
        ROUTER_RTCP,
        STRANGER,
        &support::media::sender_report(7),
    );
    let extracted = t.extract();
    extracted.only_call().has_rtp(7, 1..=10).has_rtp(8, 1..=10);
    assert_eq!(extracted.only_call().frames().len(), 22);
}

#[test]
fn both_ends_may_be_behind_one() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("1"));
    t.sip(
        100,
        OTHER_ROUTER,
        PROXY,
        response(200, "INVITE", "1").sdp(&Sdp::audio(OTHER_PHONE_MEDIA)),
    );
    t.rtp(200, ROUTER_MEDIA, OTHER_ROUTER_MEDIA, 7, 1..=10);
    t.rtp(200, OTHER_ROUTER_MEDIA, ROUTER_MEDIA, 8, 1..=10);
    t.extract()
        .only_call()
        .has_rtp(7, 1..=10)
        .has_rtp(8, 1..=10);
}

#[test]
fn a_symmetric_peer_is_followed_whatever_its_port() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("1"));
    t.sip(
        100,
        PROXY,
        ROUTER,
        response(200, "INVITE", "1").sdp(&Sdp::audio(RELAY)),
    );
    t.rtp(200, ROUTER_OTHER_PORT, RELAY, 7, 1..=10);
    t.rtp(210, RELAY, ROUTER_OTHER_PORT, 8, 1..=10);
    t.extract()
        .only_call()
        .has_rtp(7, 1..=10)
        .has_rtp(8, 1..=10);
}

#[test]
fn the_codec_is_that_of_the_description() {
    let mut t = Ladder::new();
    t.sip(
        0,
        ROUTER,
        PROXY,
        request("INVITE", "1").sdp(&Sdp::audio(PHONE_MEDIA).line("a=ptime:30")),
    );
    t.rtp(100, STRANGER, ROUTER_MEDIA, 8, 1..=10);
    t.extract().only_call().streams()[0].has("ptime_ms", "30");
}

#[test]
fn media_of_a_call_that_knows_an_end_for_sure_stays_with_it() {
    let mut t = Ladder::new();
    t.sip(
        0,
        PROXY,
        OTHER_ROUTER,
        request("INVITE", "sure").sdp(&Sdp::audio(STRANGER)),
    );
    t.rtp(50, ROUTER_MEDIA, STRANGER, 7, 1..=100);
    t.rtp(50, STRANGER, ROUTER_MEDIA, 8, 1..=100);
    t.sip(1_000, ROUTER, PROXY, invite("guess"));
    let extracted = t.extract();
    extracted
        .call("sure")
        .has_rtp(7, 1..=100)
        .has_rtp(8, 1..=100);
    extracted.call("guess").has("rtp_packet_count", "0");
}

#[test]
fn a_guess_does_not_stand_in_the_way_of_media_that_came_early() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("guess"));
    t.rtp(5_000, OTHER_ROUTER_MEDIA, ROUTER_MEDIA, 7, 1..=50);
    t.sip(
        6_000,
        PROXY,
        OTHER_ROUTER,
        request("INVITE", "sure")
            .to_tag("bob")
            .sdp(&Sdp::audio(ROUTER_MEDIA)),
    );
    t.extract().call("sure").has_rtp(7, 1..=50);
}

#[test]
fn a_sure_word_that_comes_later_counts_from_then_on() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("guess"));
    t.rtp(5_000, ROUTER_MEDIA, STRANGER, 7, 1..=100);
    t.sip(
        5_990,
        PROXY,
        OTHER_ROUTER,
        request("INVITE", "sure").sdp(&Sdp::audio(STRANGER)),
    );
    let extracted = t.extract();
    extracted.call("guess").has_rtp(7, 1..=50);
    extracted.call("sure").has_rtp(7, 51..=100);
}

#[test]
fn two_legs_of_a_direct_call_share_its_media() {
    let mut t = Ladder::new();
    for (at, id) in [(0, "leg-1"), (20, "leg-2")] {
        t.sip(at, ROUTER, PROXY, invite(id));
        t.sip(
            at + 100,
            PROXY,
            ROUTER,
            response(200, "INVITE", id).sdp(&Sdp::audio(RELAY)),
        );
    }
    t.rtp(200, ROUTER_MEDIA, RELAY, 7, 1..=10);
    let extracted = t.extract();
    extracted.call("leg-1").has_rtp(7, 1..=10);
    extracted.call("leg-2").has_rtp(7, 1..=10);
}

#[test]
fn the_address_of_a_proxy_is_no_guess() {
    let mut t = Ladder::new();
    t.sip(
        0,
        PROXY,
        OTHER_ROUTER,
        invite("request").header("Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK-inner"),
    );
    let answer = response(200, "INVITE", "response").header("Record-Route: <sip:203.0.113.1;lr>");
    t.sip(
        10,
        ROUTER,
        PROXY,
        request("INVITE", "response").sdp(&Sdp::audio(RELAY)),
    );
    t.sip(20, PROXY, ROUTER, answer.sdp(&Sdp::audio(PHONE_MEDIA)));
    t.rtp(100, PROXY_PORT_4000, STRANGER, 7, 1..=10);
    let extracted = t.extract();
    extracted.call("request").has("rtp_packet_count", "0");
    extracted.call("response").has("rtp_packet_count", "0");
}

#[test]
fn an_address_that_the_capture_sees_as_it_is_needs_no_guess() {
    let phone = end([10, 0, 0, 5], 5060);
    let gateway = end([10, 0, 0, 1], 5060);
    let mut t = Ladder::new();
    t.sip(0, phone, gateway, invite("1"));
    t.sip(5, gateway, OTHER_ROUTER, invite("1").branch("b2b"));
    t.rtp(100, end([10, 0, 0, 1], 4000), STRANGER, 7, 1..=10);
    t.rtp(100, PHONE_MEDIA, STRANGER, 8, 1..=10);
    let extracted = t.extract();
    extracted
        .only_call()
        .has_rtp(8, 1..=10)
        .has("rtp_packet_count", "10");
}

#[test]
fn a_description_may_confirm_a_guess() {
    let mut t = Ladder::new();
    t.sip(
        0,
        PROXY,
        OTHER_ROUTER,
        request("INVITE", "sure").sdp(&Sdp::audio(STRANGER)),
    );
    t.sip(10, ROUTER, PROXY, invite("guess"));
    t.rtp(1_000, STRANGER, ROUTER_MEDIA, 7, 1..=100);
    t.sip(
        1_990,
        ROUTER,
        PROXY,
        request("UPDATE", "guess").sdp(&Sdp::audio(ROUTER_MEDIA)),
    );
    let extracted = t.extract();
    extracted.call("sure").has_rtp(7, 1..=50);
    extracted.call("guess").has_rtp(7, 51..=100);
}

// Servers with a private and a public address, as in clouds.

/// A server in a cloud, where the capture point is, and its public address.
const CLOUD: SocketAddr = end([172, 31, 5, 5], 5060);
const CLOUD_MEDIA: SocketAddr = end([172, 31, 5, 5], 10_000);
const CLOUD_OTHER_MEDIA: SocketAddr = end([172, 31, 5, 5], 10_002);
const CLOUD_OUTSIDE: SocketAddr = end([203, 0, 113, 5], 10_000);
const CLOUD_OTHER_OUTSIDE: SocketAddr = end([203, 0, 113, 5], 10_002);

fn answer(id: &str, media: SocketAddr) -> Sip {
    response(200, "INVITE", id).sdp(&Sdp::audio(media))
}

#[test]
fn a_server_that_gives_its_public_address_is_found_at_its_private_one() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, CLOUD, invite("1"));
    t.sip(100, CLOUD, ROUTER, answer("1", CLOUD_OUTSIDE));
    t.rtp(200, ROUTER_OTHER_PORT, CLOUD_MEDIA, 7, 1..=10);
    t.rtp(205, CLOUD_MEDIA, ROUTER_OTHER_PORT, 8, 1..=10);
    t.extract()
        .only_call()
        .has_rtp(7, 1..=10)
        .has_rtp(8, 1..=10);
}

#[test]
fn two_phones_behind_one_router_with_the_same_private_port() {
    let mut t = Ladder::new();
    for (at, id, outside) in [(0, "1", CLOUD_OUTSIDE), (10, "2", CLOUD_OTHER_OUTSIDE)] {
        t.sip(at, ROUTER, CLOUD, invite(id));
        t.sip(at + 100, CLOUD, ROUTER, answer(id, outside));
    }
    t.rtp(200, ROUTER_MEDIA, CLOUD_MEDIA, 1, 1..=10);
    t.rtp(205, CLOUD_MEDIA, ROUTER_MEDIA, 2, 1..=10);
    t.rtp(210, ROUTER_OTHER_PORT, CLOUD_OTHER_MEDIA, 3, 1..=10);
    t.rtp(215, CLOUD_OTHER_MEDIA, ROUTER_OTHER_PORT, 4, 1..=10);
    let out = t.extract();
    out.call("1")
        .has_rtp(1, 1..=10)
        .has_rtp(2, 1..=10)
        .has("rtp_packet_count", "20");
    out.call("2")
        .has_rtp(3, 1..=10)
        .has_rtp(4, 1..=10)
        .has("rtp_packet_count", "20");
}

#[test]
fn media_that_fits_two_guesses_is_in_no_file_and_is_counted() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("1"));
    t.sip(10, ROUTER, PROXY, invite("2"));
    t.rtp(100, ROUTER_MEDIA, STRANGER, 7, 1..=10);
    t.rtp(105, STRANGER, ROUTER_MEDIA, 8, 1..=10);
    let out = t.extract();
    out.call("1").has("rtp_packet_count", "0");
    out.call("2").has("rtp_packet_count", "0");
    assert!(
        out.log
            .contains("20   packets in 2 flows that several calls may own"),
        "{}",
        out.log
    );
}

#[test]
fn a_guess_does_not_take_what_another_guess_has() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("1"));
    t.rtp(100, ROUTER_MEDIA, STRANGER, 7, 1..=100);
    t.rtp(1_100, STRANGER, ROUTER_MEDIA, 8, 1..=50);
    t.sip(1_000, ROUTER, PROXY, invite("2"));
    let out = t.extract();
    out.call("1").has_rtp(7, 1..=100).has_rtp(8, 1..=50);
    out.call("2").has("rtp_packet_count", "0");
}

#[test]
fn media_after_a_closed_call_is_not_for_a_guess_at_one_end() {
    let mut t = Ladder::new();
    t.sip(0, ROUTER, PROXY, invite("1"));
    t.sip(10, ROUTER, PROXY, invite("2"));
    t.sip(100, PROXY, ROUTER, answer("1", RELAY));
    t.rtp(200, RELAY, ROUTER_MEDIA, 7, 1..=1_000);
    t.sip(
        5_000,
        ROUTER,
        PROXY,
        request("BYE", "1").cseq(2).to_tag("bob"),
    );
    let out = t.extract();
    out.call("1").has_rtp(7, 1..=490);
    out.call("2").has("rtp_packet_count", "0");
}

/// Draws two consecutive calls of one phone with the same ports.
fn one_after_the_other(second_at: u64) {
    let mut t = Ladder::new();
    for (at, id, ssrc) in [(0, "1", 7), (second_at, "2", 8)] {
        t.sip(at, ROUTER, CLOUD, invite(id));
        t.sip(at + 100, CLOUD, ROUTER, answer(id, CLOUD_OUTSIDE));
        t.rtp(at + 200, ROUTER_MEDIA, CLOUD_MEDIA, ssrc, 1..=50);
        t.sip(
            at + 3_000,
            ROUTER,
            CLOUD,
            request("BYE", id).cseq(2).to_tag("bob"),
        );
    }
    let out = t.extract();
    out.call("1").has_rtp(7, 1..=50).has_rtp(8, []);
    out.call("2").has_rtp(8, 1..=50).has_rtp(7, []);
}

#[test]
fn the_next_call_from_the_same_phone_has_its_own_media() {
    one_after_the_other(12_000);
}

#[test]
fn the_next_call_within_the_linger_takes_over_what_the_last_one_guessed() {
    one_after_the_other(4_000);
}

#[test]
fn media_that_no_call_has_is_named() {
    let mut t = Ladder::new();
    t.sip(
        0,
        ROUTER,
        PROXY,
        request("INVITE", "1").sdp(&Sdp::audio(RELAY)),
    );
    for (ssrc, from, packets) in [
        (1, ROUTER_MEDIA, 10),
        (2, OTHER_ROUTER_MEDIA, 30),
        (3, PHONE_MEDIA, 20),
        (4, PROXY_PORT_4000, 40),
    ] {
        t.rtp(100, from, STRANGER, ssrc, 1..=packets);
    }
    t.rtp(100, STRANGER, RELAY, 5, 1..=50);
    (0..20).for_each(|n| t.udp(100 + n, OTHER_ROUTER, STRANGER, b"no RTP at all"));
    let out = t.extract();
    for line in [
        "100   RTP packets in 4 flows",
        "40   from 203.0.113.1:4000 to 203.0.113.99:30000",
        "30   from 198.51.100.9:6000 to",
        "20   from 10.0.0.5:4000 to",
    ] {
        assert!(out.log.contains(line), "no `{line}` in {}", out.log);
    }
    assert!(
        !out.log.contains("from 192.0.2.1:4000"),
        "only three: {}",
        out.log
    );
}
