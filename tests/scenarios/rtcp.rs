//! What the ends of a call report in RTCP, and the streams that get it.

use support::media::{Block, cname, receiver_report, sender_report_at, voip_metrics};

use super::*;

const B_RTCP: SocketAddr = end([192, 0, 2, 2], 6001);
/// The SSRCs of A and B.
const OF_A: u32 = 7;
const OF_B: u32 = 8;

/// Draws a call with a second of media both ways from 1,000 ms on.
fn talking(id: &str) -> Ladder {
    let mut t = ladder();
    answered(&mut t, 0, id, A_MEDIA, B_MEDIA);
    t.rtp(1_000, A_MEDIA, B_MEDIA, OF_A, 100..=149);
    t.rtp(1_000, B_MEDIA, A_MEDIA, OF_B, 300..=349);
    hung_up(&mut t, 60_000, id);
    t
}

fn about_a() -> Block {
    Block {
        ssrc: OF_A,
        lost: 2,
        highest: 139,
        jitter: 40,
        ..Block::default()
    }
}

#[track_caller]
fn stream(out: &Extracted, ssrc: u32) -> &Row {
    let ssrc = format!("{ssrc:#010x}");
    let mut of_ssrc = out.streams.iter();
    of_ssrc.find(|row| row.get("ssrc_hex") == ssrc).unwrap()
}

#[track_caller]
fn says(row: &Row, want: [&str; 5]) {
    let columns = [
        "rtcp_loss_percent",
        "rtcp_jitter_ms",
        "rtcp_rtt_ms",
        "rtcp_mos",
        "cname",
    ];
    assert_eq!(columns.map(|column| row.get(column)), want, "{row:#?}");
}

#[test]
fn the_far_end_reports_on_the_stream_that_it_receives() {
    let mut t = talking("1");
    let sent = [
        sender_report_at(OF_A, 0x1234_5678),
        cname(OF_A, "alice@host"),
    ]
    .concat();
    t.udp(1_500, A_RTCP, B_RTCP, &sent);
    let block = Block {
        last: 0x1234_5678,
        delay: 65_536 / 4,
        ..about_a()
    };
    let answer = [
        receiver_report(OF_B, block),
        cname(OF_B, "bob@host"),
        voip_metrics(OF_B, OF_A, 42, 40),
    ];
    t.udp(1_787, B_RTCP, A_RTCP, &answer.concat());
    let out = t.extract();
    // Two of the forty from 100 to 139; 40 units of 8000 Hz; 287 ms without 250.
    says(
        stream(&out, OF_A),
        ["5.00", "5.000", "37.00", "4.2", "alice@host"],
    );
    says(stream(&out, OF_B), ["", "", "", "", "bob@host"]);
    assert!(!out.log.contains("RTCP packets"), "{}", out.log);
}

#[test]
fn on_one_port_with_the_media() {
    let mut t = talking("1");
    t.udp(1_700, B_MEDIA, A_MEDIA, &receiver_report(OF_B, about_a()));
    says(stream(&t.extract(), OF_A), ["5.00", "5.000", "", "", ""]);
}

#[test]
fn on_the_port_that_the_description_names() {
    let mut t = ladder();
    let rtcp = end([192, 0, 2, 1], 5_555);
    let offer = Sdp::audio(A_MEDIA).line("a=rtcp:5555");
    t.sip(0, A, B, invite("1").sdp(&offer));
    t.sip(
        200,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.rtp(1_000, A_MEDIA, B_MEDIA, OF_A, 100..=149);
    t.udp(1_700, B_RTCP, rtcp, &receiver_report(OF_B, about_a()));
    hung_up(&mut t, 60_000, "1");
    says(stream(&t.extract(), OF_A), ["5.00", "5.000", "", "", ""]);
}

#[test]
fn a_report_may_come_before_its_stream() {
    let mut t = talking("1");
    t.udp(900, A_RTCP, B_RTCP, &cname(OF_A, "early"));
    says(stream(&t.extract(), OF_A), ["", "", "", "", "early"]);
}

#[test]
fn reports_about_nobody_are_left_out() {
    let mut t = talking("1");
    let other = Block {
        ssrc: 99,
        ..about_a()
    };
    t.udp(1_700, B_RTCP, A_RTCP, &receiver_report(OF_B, other));
    // A does not receive its own stream.
    t.udp(1_800, A_RTCP, B_RTCP, &receiver_report(OF_A, about_a()));
    let out = t.extract();
    says(stream(&out, OF_A), [""; 5]);
    says(stream(&out, OF_B), [""; 5]);
}

#[test]
fn names_are_text() {
    let mut t = talking("1");
    t.udp(1_500, A_RTCP, B_RTCP, &cname(OF_A, "=cmd()\u{202e}\n"));
    says(
        stream(&t.extract(), OF_A),
        ["", "", "", "", "'=cmd()\u{fffd}\u{fffd}"],
    );
}

/// The headers of SRTCP are plain: a report of a secured stream may look like one that can be read.
#[test]
fn what_is_encrypted_is_counted_and_not_read() {
    for (what, offer, answer, is_read) in [
        ("plain", "RTP/AVP", "RTP/AVP", true),
        ("secured", "RTP/SAVP", "RTP/SAVP", false),
        ("by DTLS", "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVPF", false),
        ("a key", "RTP/AVP+crypto", "RTP/AVP+crypto", false),
        (
            "a key that is not wanted",
            "RTP/AVP+crypto",
            "RTP/AVP",
            true,
        ),
    ] {
        let sdp = |at: SocketAddr, profile: &str| {
            let sdp = Sdp::audio(at);
            let sdp = match profile.strip_suffix("+crypto") {
                Some(_) => sdp.line("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA"),
                None => sdp,
            };
            sdp.to_string()
                .replace("RTP/AVP", profile.trim_end_matches("+crypto"))
        };
        let mut t = ladder();
        let body = sdp(A_MEDIA, offer);
        t.sip(0, A, B, invite("1").body("application/sdp", body));
        let body = sdp(B_MEDIA, answer);
        let ok = response(200, "INVITE", "1").body("application/sdp", body);
        t.sip(200, B, A, ok);
        t.rtp(1_000, A_MEDIA, B_MEDIA, OF_A, 100..=149);
        t.udp(1_700, B_RTCP, A_RTCP, &receiver_report(OF_B, about_a()));
        hung_up(&mut t, 60_000, "1");
        let out = t.extract();
        let loss = if is_read { "5.00" } else { "" };
        stream(&out, OF_A).has("rtcp_loss_percent", loss);
        let counted = "1   RTCP packets encrypted or broken";
        assert_eq!(out.log.contains(counted), !is_read, "{what}: {}", out.log);
    }
}

#[test]
fn a_chain_that_does_not_end_with_the_packet_is_encrypted() {
    let mut t = talking("1");
    let mut report = receiver_report(OF_B, about_a());
    report.extend([0x80, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    t.udp(1_700, B_RTCP, A_RTCP, &report);
    let out = t.extract();
    says(stream(&out, OF_A), [""; 5]);
    let counted = "1   RTCP packets encrypted or broken, which are in the calls' files";
    assert!(out.log.contains(counted), "{}", out.log);
    assert!(out.only_call().carries(&report));
}
