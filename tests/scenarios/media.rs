//! Offers and answers, and the calls that media packets belong to.

use super::*;

#[test]
fn early_media() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        200,
        B,
        A,
        response(183, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.rtp(220, B_MEDIA, STRANGER, 8, 1..=400);
    t.sip(10_000, B, A, response(200, "INVITE", "1"));
    t.sip(10_020, A, B, ack("1"));
    hung_up(&mut t, 12_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(6)
        .has_rtp(8, 1..=400);
}

#[test]
fn a_late_offer() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(
        200,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(220, A, B, ack("1").sdp(&Sdp::audio(A_MEDIA)));
    t.rtp(240, STRANGER, A_MEDIA, 7, 1..=50);
    t.rtp(245, STRANGER, B_MEDIA, 8, 1..=50);
    hung_up(&mut t, 3_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(5)
        .has_rtp(7, 1..=50)
        .has_rtp(8, 1..=50);
}

#[test]
fn a_re_invite_with_a_new_port_adds_it() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, STRANGER, A_MEDIA, 7, 1..=200);
    t.sip(2_000, A, B, re_invite("1", 2).sdp(&Sdp::audio(A_NEW_MEDIA)));
    t.sip(
        2_100,
        B,
        A,
        response(200, "INVITE", "1")
            .cseq(2)
            .sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(2_120, A, B, ack("1").cseq(2));
    t.rtp(2_130, STRANGER, A_NEW_MEDIA, 8, 1..=100);
    hung_up(&mut t, 6_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(9)
        .has_rtp(7, 1..=200)
        .has_rtp(8, 1..=100);
}

#[test]
fn prack_and_update_carry_offers_too() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(
        100,
        B,
        A,
        response(183, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(
        120,
        A,
        B,
        request("PRACK", "1")
            .cseq(2)
            .to_tag("bob")
            .sdp(&Sdp::audio(A_MEDIA)),
    );
    t.sip(140, B, A, response(200, "PRACK", "1").cseq(2));
    t.rtp(150, STRANGER, A_MEDIA, 7, 1..=50);
    t.sip(
        200,
        A,
        B,
        request("UPDATE", "1")
            .cseq(3)
            .to_tag("bob")
            .sdp(&Sdp::audio(A_NEW_MEDIA)),
    );
    t.sip(
        220,
        B,
        A,
        response(200, "UPDATE", "1")
            .cseq(3)
            .sdp(&Sdp::audio(C_MEDIA)),
    );
    t.rtp(230, STRANGER, A_NEW_MEDIA, 8, 1..=50);
    t.rtp(235, STRANGER, C_MEDIA, 9, 1..=50);
    let out = t.extract();
    out.only_call()
        .is("incomplete")
        .has("final_status", "")
        .has_rtp(7, 1..=50)
        .has_rtp(8, 1..=50)
        .has_rtp(9, 1..=50);
}

#[test]
fn hold_keeps_the_endpoints_and_resume_goes_on() {
    let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), A_MEDIA.port());
    let holds = [
        Sdp::audio(A_MEDIA).line("a=sendonly"),
        Sdp::audio(A_MEDIA).line("a=inactive"),
        Sdp::audio(nowhere),
    ];
    for hold in holds {
        let mut t = ladder();
        answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
        t.rtp(300, STRANGER, A_MEDIA, 7, 1..=600);
        t.sip(2_000, A, B, re_invite("1", 2).sdp(&hold));
        t.sip(
            2_100,
            B,
            A,
            response(200, "INVITE", "1")
                .cseq(2)
                .sdp(&Sdp::audio(B_MEDIA).line("a=recvonly")),
        );
        t.sip(8_000, A, B, re_invite("1", 3).sdp(&Sdp::audio(A_MEDIA)));
        t.sip(
            8_100,
            B,
            A,
            response(200, "INVITE", "1")
                .cseq(3)
                .sdp(&Sdp::audio(B_MEDIA)),
        );
        hung_up(&mut t, 13_000, "1");
        t.extract()
            .only_call()
            .is("completed")
            .has_sip(10)
            .has_rtp(7, 1..=600);
    }
}

#[test]
fn a_call_held_from_the_start_gives_its_endpoint_on_resume() {
    let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), A_MEDIA.port());
    for hold in [
        Sdp::audio(A_MEDIA).line("a=inactive"),
        Sdp::audio(A_MEDIA).session_line("a=inactive"),
        Sdp::audio(nowhere),
    ] {
        let mut t = ladder();
        t.sip(0, A, B, invite("1").sdp(&hold));
        t.sip(
            100,
            B,
            A,
            response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA).line("a=inactive")),
        );
        packet(&mut t, 1_000, STRANGER, A_MEDIA, 7, 1);
        packet(&mut t, 1_010, STRANGER, nowhere, 7, 2);
        t.sip(6_000, A, B, re_invite("1", 2).sdp(&Sdp::audio(A_MEDIA)));
        packet(&mut t, 7_000, STRANGER, A_MEDIA, 7, 3);
        t.extract()
            .only_call()
            .is("incomplete")
            .has_sip(3)
            .has_rtp(7, [3]);
    }
}

#[test]
fn port_0_is_no_endpoint() {
    let (port_0, port_1) = (
        SocketAddr::new(A_MEDIA.ip(), 0),
        SocketAddr::new(A_MEDIA.ip(), 1),
    );
    let mut t = ladder();
    answered(&mut t, 0, "1", port_0, B_MEDIA);
    t.rtp(300, STRANGER, port_0, 7, 1..=10);
    t.rtp(305, STRANGER, port_1, 7, 1..=10);
    t.rtp(310, A_MEDIA, B_MEDIA, 8, 1..=10);
    hung_up(&mut t, 3_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_rtp(7, NONE)
        .has_rtp(8, 1..=10);
}

#[test]
fn every_media_line_counts_with_its_own_address() {
    let sdp = Sdp::audio(A_MEDIA)
        .line("m=video 9000/2 RTP/AVP 31")
        .line("c=IN IP4 198.51.100.7")
        .line("m=image 9100 udptl t38");
    let mut t = ladder();
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
    let mut t = ladder();
    t.sip(
        0,
        A,
        B,
        invite("1").body("multipart/mixed;boundary=b1", body),
    );
    t.rtp(100, STRANGER, A_MEDIA, 7, 1..=10);
    t.extract().only_call().has_rtp(7, 1..=10);
}

#[test]
fn ice_candidates_are_endpoints() {
    let sdp = Sdp::audio(RELAY).line("a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host");
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&sdp));
    t.udp(100, STRANGER, A_MEDIA, &stun());
    t.rtp(200, STRANGER, A_MEDIA, 7, 1..=10);
    t.rtp(300, STRANGER, RELAY, 8, 1..=10);
    let out = t.extract();
    assert!(
        out.only_call()
            .has_rtp(7, 1..=10)
            .has_rtp(8, 1..=10)
            .carries(&stun())
    );
}

/// RFC 8840, 9: the content type of candidates in INFO.
const TRICKLED: &str = "application/trickle-ice-sdpfrag";

/// Draws a call whose descriptions have no address, and whose INFOs have these bodies.
fn trickling(content_type: &'static str, a: &str, b: &str) -> Ladder {
    let nowhere = Sdp::audio(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 9)).line("a=mid:0");
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&nowhere));
    t.sip(50, B, A, response(183, "INVITE", "1").sdp(&nowhere));
    t.sip(
        60,
        A,
        B,
        request("INFO", "1")
            .cseq(2)
            .to_tag("bob")
            .body(content_type, a),
    );
    t.sip(70, B, A, response(200, "INFO", "1").cseq(2));
    t.sip(
        80,
        B,
        A,
        request("INFO", "1").from_callee().body(content_type, b),
    );
    t.sip(90, A, B, response(200, "INFO", "1").from_callee());
    t.sip(100, B, A, response(200, "INVITE", "1"));
    t.sip(120, A, B, ack("1"));
    t.rtp(140, A_MEDIA, STRANGER, 7, 1..=50);
    t.rtp(145, STRANGER, B_MEDIA, 8, 1..=50);
    t.rtp(150, STRANGER, SocketAddr::new(A_MEDIA.ip(), 9), 9, 1..=50);
    hung_up(&mut t, 2_000, "1");
    t
}

#[test]
fn candidates_that_trickle_in() {
    let a = "a=ice-ufrag:x\r\nm=audio 9 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\na=mid:0\r\n\
        a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host\r\na=end-of-candidates\r\n";
    let b = "a=candidate:1 1 UDP 2130706431 192.0.2.2 6000 typ host\r\n";
    let is_found = |t: &mut Ladder| {
        let out = t.extract();
        out.only_call()
            .is("completed")
            .has_sip(10)
            .has_rtp(7, 1..=50)
            .has_rtp(8, 1..=50)
            .has_rtp(9, NONE);
    };
    is_found(&mut trickling(TRICKLED, a, b));
    is_found(&mut trickling(TRICKLED, &a.replace("\r\n", "\r"), b));
    let part = |text| format!("--b\r\nContent-Type: {TRICKLED}\r\n\r\n{text}--b--\r\n");
    is_found(&mut trickling(
        "multipart/mixed;boundary=b",
        &part(a),
        &part(b),
    ));
}

#[test]
fn a_description_in_info_says_nothing() {
    let (a, b) = (
        Sdp::audio(A_MEDIA).to_string(),
        Sdp::audio(B_MEDIA).to_string(),
    );
    let out = trickling("application/sdp", &a, &b).extract();
    out.only_call()
        .is("completed")
        .has_sip(10)
        .has_rtp(7, NONE)
        .has_rtp(8, NONE);
}

#[test]
fn the_media_of_a_bundle_explain_each_other() {
    let bundled = |at| {
        Sdp::audio(at)
            .session_line("a=group:BUNDLE 0 1")
            .line("a=mid:0")
    };
    let video = |sdp: Sdp, lines: &[&str]| {
        lines
            .iter()
            .fold(sdp, |sdp, line| sdp.line(line))
            .line("a=mid:1")
            .line("a=rtpmap:96 VP8/90000")
    };
    let offer = video(bundled(A_MEDIA), &["m=video 4100 RTP/SAVPF 96"]);
    let row = |answer: &Sdp| {
        let mut t = ladder();
        t.sip(0, A, B, invite("1").sdp(&offer));
        t.sip(100, B, A, response(200, "INVITE", "1").sdp(answer));
        for number in 1..=10u16 {
            let packet = Rtp {
                payload_type: 96,
                timestamp: u32::from(number) * 1_800,
                ..Rtp::new(7, number)
            };
            t.udp(
                200 + u64::from(number) * 20,
                A_MEDIA,
                B_MEDIA,
                &packet.bytes(),
            );
            t.udp(
                200 + u64::from(number) * 20,
                B_MEDIA,
                A_MEDIA,
                &packet.bytes(),
            );
        }
        t.extract().streams
    };
    for answer in [
        video(
            bundled(B_MEDIA),
            &["m=video 9 RTP/SAVPF 96", "c=IN IP4 0.0.0.0"],
        ),
        video(
            bundled(B_MEDIA),
            &["m=video 0 RTP/SAVPF 96", "a=bundle-only"],
        ),
    ] {
        for stream in row(&answer) {
            stream
                .has("codec", "VP8")
                .has("clock_rate", "90000")
                .has("jitter_ms", "0.000")
                .has("ptime_ms", "20");
        }
    }
    let separate = Sdp::audio(B_MEDIA)
        .line("m=video 6100 RTP/SAVPF 97")
        .line("a=rtpmap:97 H264/90000");
    assert_eq!(
        row(&separate)
            .iter()
            .map(|row| row.get("codec"))
            .collect::<Vec<_>>(),
        ["VP8", "VP8"],
        "the offer's word"
    );
    let alone = Sdp::audio(A_MEDIA)
        .line("m=video 4100 RTP/SAVPF 96")
        .line("a=rtpmap:96 VP8/90000");
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&alone));
    t.udp(
        200,
        STRANGER,
        A_MEDIA,
        &Rtp {
            payload_type: 96,
            ..Rtp::new(7, 1)
        }
        .bytes(),
    );
    t.extract().streams[0]
        .has("codec", "")
        .has("clock_rate", "");
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn sdp_in_an_encoded_body() {
    let sdp = Sdp::audio(A_MEDIA).to_string();
    for (header, body) in [
        ("Content-Encoding: gzip", gzip(&sdp)),
        ("e: x-gzip", gzip(&sdp)),
        ("content-encoding : Deflate", zlib(&sdp)),
        ("E: deflate", deflate(&sdp)),
        ("Content-Encoding: identity", sdp.clone().into_bytes()),
    ] {
        let mut t = ladder();
        t.sip(
            0,
            A,
            B,
            invite("1").header(header).body("application/sdp", body),
        );
        t.rtp(100, STRANGER, A_MEDIA, 7, 1..=10);
        let out = t.extract();
        out.only_call().has_sip(1).has_rtp(7, 1..=10);
        assert!(!out.log.contains("Content-Encoding"), "{}", out.log);
    }
}

#[test]
fn sdp_in_an_encoded_part_of_a_body() {
    let body = [
        b"--b1\r\nContent-Type: application/sdp\r\nContent-Encoding: gzip\r\n\r\n",
        &gzip(&Sdp::audio(A_MEDIA).to_string())[..],
        b"\r\n--b1--\r\n",
    ];
    let mut t = ladder();
    t.sip(
        0,
        A,
        B,
        invite("1").body("multipart/mixed;boundary=b1", body.concat()),
    );
    t.rtp(100, STRANGER, A_MEDIA, 7, 1..=10);
    t.extract().only_call().has_rtp(7, 1..=10);
}

#[test]
fn bodies_that_cannot_be_decoded_are_counted() {
    let sdp = Sdp::audio(A_MEDIA).to_string();
    let cut = gzip(&sdp)[..40].to_vec();
    let bomb = gzip(&(sdp.clone() + &" ".repeat(1_000_000)));
    for (encoding, body) in [
        ("br", sdp.clone().into_bytes()),
        ("gzip", sdp.clone().into_bytes()),
        ("gzip", cut),
        ("gzip", bomb),
    ] {
        let header = format!("Content-Encoding: {encoding}");
        let mut t = ladder();
        t.sip(
            0,
            A,
            B,
            invite("1").header(&header).body("application/sdp", body),
        );
        t.sip(
            10,
            A,
            B,
            request("MESSAGE", "1")
                .to_tag("bob")
                .header(&header)
                .body("text/plain", "hello"),
        );
        t.rtp(100, STRANGER, A_MEDIA, 7, 1..=10);
        let out = t.extract();
        out.only_call().has_sip(2).has_rtp(7, NONE);
        assert!(
            out.log
                .contains("   1   bodies with a Content-Encoding that cannot be read"),
            "{}",
            out.log
        );
    }
}

#[test]
fn sdp_whose_lines_end_with_cr_or_lf() {
    for end in ["\r", "\n"] {
        let sdp = Sdp::audio(A_MEDIA)
            .line("m=audio 9000 RTP/AVP 8")
            .to_string()
            .replace("\r\n", end);
        let mut t = ladder();
        t.sip(0, A, B, invite("1").body("application/sdp", sdp));
        t.rtp(100, STRANGER, A_MEDIA, 7, 1..=10);
        t.rtp(
            105,
            STRANGER,
            SocketAddr::new(A_MEDIA.ip(), 9000),
            8,
            1..=10,
        );
        t.extract()
            .only_call()
            .has_rtp(7, 1..=10)
            .has_rtp(8, 1..=10);
    }
}

#[test]
fn several_addresses_of_multicast() {
    let layer = |last| end([224, 2, 1, last], 4000);
    let sdp = Sdp::audio(layer(1)).line("c=IN IP4 224.2.1.1/127/3");
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&sdp));
    (1..=4).for_each(|last| {
        packet(
            &mut t,
            100 + u64::from(last),
            STRANGER,
            layer(last),
            7,
            last.into(),
        );
    });
    t.extract().only_call().has_rtp(7, [1, 2, 3]);
}

#[test]
fn addresses_with_leading_zeros_and_others() {
    let mut t = ladder();
    t.sip(
        0,
        A,
        B,
        invite("1").sdp(&Sdp::audio(A_MEDIA).line("c=IN IP4 192.000.002.001")),
    );
    t.sip(
        10,
        B,
        A,
        response(183, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA).line("c=IN IP4 300.1.2.3")),
    );
    t.sip(
        20,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA).line("c=IN IP4 media.example.com")),
    );
    t.rtp(100, STRANGER, A_MEDIA, 7, 1..=10);
    t.rtp(105, STRANGER, B_MEDIA, 8, 1..=10);
    let out = t.extract();
    // The port at a host name is expected at the address of the message's sender.
    out.only_call().has_rtp(7, 1..=10).has_rtp(8, 1..=10);
    assert!(
        out.log
            .contains("   1   media addresses that cannot be read"),
        "{}",
        out.log
    );
    assert!(
        out.log
            .contains("   1   host names in place of media addresses"),
        "{}",
        out.log
    );
}

#[test]
fn a_call_over_ipv6() {
    const fn end6(host: u16, port: u16) -> SocketAddr {
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)),
            port,
        )
    }
    let mut t = ladder();
    t.sip(
        0,
        end6(1, 5060),
        end6(2, 5060),
        invite("1").sdp(&Sdp::audio(end6(1, 4000))),
    );
    t.sip(
        100,
        end6(2, 5060),
        end6(1, 5060),
        response(200, "INVITE", "1").sdp(&Sdp::audio(end6(2, 6000))),
    );
    t.rtp(200, end6(1, 4000), end6(2, 6000), 7, 1..=50);
    t.sip(
        2_000,
        end6(1, 5060),
        end6(2, 5060),
        request("BYE", "1").cseq(2).to_tag("bob"),
    );
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has_sip(3)
        .has_rtp(7, 1..=50);
    out.streams[0]
        .has("src_rtp_endpoint", "[2001:db8::1]:4000")
        .has("dst_rtp_endpoint", "[2001:db8::2]:6000");
}

// The owner of a packet.

#[test]
fn media_through_nat_matches_by_the_end_that_is_known() {
    let private = end([10, 0, 0, 5], 4000);
    let mut t = ladder();
    answered(&mut t, 0, "1", private, B_MEDIA);
    t.rtp(300, STRANGER, B_MEDIA, 7, 1..=50);
    t.rtp(305, B_MEDIA, STRANGER, 8, 1..=50);
    t.rtp(310, STRANGER, OTHER_STRANGER, 9, 1..=50);
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call()
        .has_rtp(7, 1..=50)
        .has_rtp(8, 1..=50)
        .has_rtp(9, NONE);
    out.streams[0]
        .has("src_rtp_endpoint", "203.0.113.9:50000")
        .has("dst_rtp_endpoint", "192.0.2.2:6000");
}

#[test]
fn the_destination_comes_before_the_source() {
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("sends").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(10, B, PROXY, invite("receives").sdp(&Sdp::audio(B_MEDIA)));
    t.rtp(100, A_MEDIA, B_MEDIA, 7, 1..=10);
    let out = t.extract();
    out.call("sends").has_rtp(7, NONE);
    out.call("receives").has_rtp(7, 1..=10);
}

#[test]
fn a_port_used_again_after_a_call_ended() {
    let mut t = ladder();
    answered(&mut t, 0, "first", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 2_000, "first");
    answered(&mut t, 8_000, "second", A_MEDIA, B_MEDIA);
    t.rtp(8_300, A_MEDIA, B_MEDIA, 8, 1..=50);
    hung_up(&mut t, 10_000, "second");
    let out = t.extract();
    out.call("first")
        .is("completed")
        .has_rtp(7, 1..=50)
        .has_rtp(8, NONE);
    out.call("second")
        .is("completed")
        .has_rtp(7, NONE)
        .has_rtp(8, 1..=50);
}

#[test]
fn a_relay_port_used_again_after_a_call_whose_bye_was_never_seen() {
    let mut t = ladder();
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
    let mut t = ladder();
    answered(&mut t, 0, "first", A_MEDIA, RELAY);
    answered(&mut t, 1_000, "second", C_MEDIA, RELAY);
    t.rtp(1_300, STRANGER, RELAY, 7, 1..=10);
    t.sip(2_000, A, B, re_invite("first", 2).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        2_100,
        B,
        A,
        response(200, "INVITE", "first")
            .cseq(2)
            .sdp(&Sdp::audio(RELAY)),
    );
    t.rtp(2_300, STRANGER, RELAY, 8, 1..=10);
    let out = t.extract();
    out.call("first").has_rtp(7, NONE).has_rtp(8, 1..=10);
    out.call("second").has_rtp(7, 1..=10).has_rtp(8, NONE);
}

#[test]
fn media_up_to_two_seconds_before_its_description() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    // Number 51 is the first that comes less than 2 s before the answer: at 3,010 ms.
    t.rtp(2_010, B_MEDIA, A_MEDIA, 8, 1..=300);
    t.sip(
        5_000,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(5_020, A, B, ack("1").sdp(&Sdp::audio(A_MEDIA)));
    hung_up(&mut t, 9_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(5)
        .has_rtp(8, 51..=300);
}

#[test]
fn the_lookback_is_a_flag() {
    let mut t = ladder().flag("--media-lookback=500ms");
    t.sip(0, A, B, invite("1"));
    packet(&mut t, 4_490, STRANGER, B_MEDIA, 8, 1);
    packet(&mut t, 4_510, STRANGER, B_MEDIA, 8, 2);
    t.sip(
        5_000,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.extract().only_call().has_rtp(8, [2]);
}

#[test]
fn no_media_from_before_the_invite_of_a_new_call() {
    let mut t = ladder();
    // Number 26 is the first that comes after the INVITE: at 1,010 ms.
    t.rtp(510, STRANGER, A_MEDIA, 7, 1..=100);
    t.sip(1_000, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        1_100,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    hung_up(&mut t, 5_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(4)
        .has_rtp(7, 26..=100);
}

#[test]
fn no_media_from_where_another_call_held_the_endpoint() {
    let mut t = ladder();
    answered(&mut t, 0, "first", A_MEDIA, RELAY);
    hung_up(&mut t, 2_000, "first");
    t.sip(6_000, C, B, invite("second"));
    // The first call's linger is over at 7,020 ms: after number 101, which comes at 7,010 ms.
    t.rtp(5_010, STRANGER, RELAY, 7, 1..=200);
    t.sip(
        8_000,
        B,
        C,
        response(200, "INVITE", "second").sdp(&Sdp::audio(RELAY)),
    );
    let out = t.extract();
    out.call("first").is("completed").has_rtp(7, 1..=101);
    out.call("second").is("incomplete").has_rtp(7, 102..=200);
}

#[test]
fn timestamps_that_go_back_leave_frames_in_capture_order() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 2_000, "1");
    for (frame, back) in [
        (2, 150 * MS),
        (10, 30 * MS),
        (20, 3_600 * SECOND),
        (54, 2 * SECOND),
    ] {
        t.capture.frames[frame].0 -= back;
    }
    let out = as_drawn(&t);
    out.only_call()
        .is("completed")
        .has_sip(6)
        .has_rtp(7, 1..=50);
    assert_eq!(out.only_call().frames(), t.capture.frames);
}

#[test]
fn timers_never_go_back() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 2_000, "1");
    meanwhile(&mut t, 9_000);
    packet(&mut t, 2_100, A_MEDIA, B_MEDIA, 7, 1);
    as_drawn(&t)
        .only_call()
        .is("completed")
        .has_sip(6)
        .has_rtp(7, NONE);
}

fn as_drawn(t: &Ladder) -> Extracted {
    let out = t.extract_as_drawn();
    assert_eq!(out.status, Some(0), "{}", out.log);
    out
}

// Packets of the call that are not RTP.

#[test]
fn rtcp_is_on_the_port_above() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.udp(300, STRANGER, A_RTCP, &sender_report(7));
    let out = t.extract();
    assert!(
        out.only_call()
            .has("rtp_packet_count", "0")
            .carries(&sender_report(7))
    );
}

#[test]
fn rtcp_is_where_it_is_declared() {
    let mut t = ladder();
    t.sip(
        0,
        A,
        B,
        invite("1").sdp(&Sdp::audio(A_MEDIA).line("a=rtcp:53020")),
    );
    t.sip(
        10,
        B,
        A,
        response(200, "INVITE", "1")
            .sdp(&Sdp::audio(B_MEDIA).line("a=rtcp:53022 IN IP4 198.51.100.7")),
    );
    t.udp(
        300,
        STRANGER,
        end([192, 0, 2, 1], 53_020),
        &sender_report(1),
    );
    t.udp(
        310,
        STRANGER,
        end([198, 51, 100, 7], 53_022),
        &sender_report(2),
    );
    t.udp(320, STRANGER, A_RTCP, &sender_report(3));
    let out = t.extract();
    let call = out.only_call();
    call.has("rtp_packet_count", "0");
    assert_eq!(
        [1, 2, 3].map(|ssrc| call.carries(&sender_report(ssrc))),
        [true, true, false]
    );
}

#[test]
fn rtcp_that_shares_the_port_is_not_counted_as_rtp() {
    let mut t = ladder();
    t.sip(
        0,
        A,
        B,
        invite("1").sdp(&Sdp::audio(A_MEDIA).line("a=rtcp-mux")),
    );
    t.sip(
        100,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA).line("a=rtcp-mux")),
    );
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.udp(500, A_MEDIA, B_MEDIA, &sender_report(7));
    let out = t.extract();
    assert!(
        out.only_call()
            .has_rtp(7, 1..=50)
            .has("rtp_packet_count", "50")
            .has("rtp_stream_count", "1")
            .carries(&sender_report(7))
    );
}

#[test]
fn all_packets_to_an_endpoint_are_kept_but_only_rtp_is_counted() {
    let header = |first: u8, second: u8, len: usize| {
        [
            &[first, second, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7][..],
            &[0; 12],
        ]
        .concat()[..len]
            .to_vec()
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
    let rtp = [
        header(0x80, 8, 12),
        header(0x80, 191, 24),
        header(0x80, 224, 24),
        header(0x83, 8, 24),
        header(0x90, 8, 16),
    ];
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    not_rtp
        .iter()
        .chain(&rtp)
        .for_each(|payload| t.udp(300, A_MEDIA, B_MEDIA, payload));
    hung_up(&mut t, 3_000, "1");
    let out = t.extract();
    out.only_call()
        .has("rtp_packet_count", &rtp.len().to_string())
        .has("rtp_stream_count", "1")
        .has_sip(6);
    assert_eq!(out.only_call().frames(), t.capture.frames);
}
