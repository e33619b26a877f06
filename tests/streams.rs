//! SIP over TCP and WebSocket with all kinds of segmentation, loss and reordering.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use support::{
    MS, SECOND, frames,
    ladder::{Extracted, Ladder, START_NS, extract_bytes},
    layers::Hep,
    media::Rtp,
    sip::{Sdp, Sip, request, response},
    tcp::{CLOSE, CONTINUATION, LAST, PING, SWITCHING, TEXT, Tcp, UPGRADE, websocket},
};

const A: SocketAddr = end([192, 0, 2, 1], 49_152);
const B: SocketAddr = end([192, 0, 2, 2], 5060);
const A_MEDIA: SocketAddr = end([192, 0, 2, 1], 4000);
const B_MEDIA: SocketAddr = end([192, 0, 2, 2], 6000);

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// Both sides of a connection.
struct Connection {
    a: Tcp,
    b: Tcp,
}

impl Connection {
    /// Begins with sequence numbers that soon wrap around.
    fn new() -> Self {
        Self {
            a: Tcp::new(A, B, u32::MAX - 700),
            b: Tcp::new(B, A, 7),
        }
    }

    fn opened(t: &mut Ladder, at: u64) -> Self {
        let connection = Self::new();
        connection.a.syn(&mut t.capture, at);
        connection.b.syn(&mut t.capture, at + 1);
        connection.a.ack(&mut t.capture, at + 2);
        connection
    }

    fn side(&mut self, who: Who) -> &mut Tcp {
        match who {
            Who::A => &mut self.a,
            Who::B => &mut self.b,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    A,
    B,
}

fn invite(id: &str) -> Sip {
    request("INVITE", id).sdp(&Sdp::audio(A_MEDIA))
}

fn ok(id: &str) -> Sip {
    response(200, "INVITE", id).sdp(&Sdp::audio(B_MEDIA))
}

/// Returns the seven messages of a call.
fn conversation(id: &str) -> Vec<(u64, Who, Vec<u8>)> {
    vec![
        (10, Who::A, invite(id).bytes()),
        (40, Who::B, response(100, "INVITE", id).bytes()),
        (100, Who::B, response(180, "INVITE", id).bytes()),
        (200, Who::B, ok(id).bytes()),
        (220, Who::A, request("ACK", id).to_tag("bob").bytes()),
        (
            2_000,
            Who::A,
            request("BYE", id).cseq(2).to_tag("bob").bytes(),
        ),
        (2_020, Who::B, response(200, "BYE", id).cseq(2).bytes()),
    ]
}

fn media(t: &mut Ladder) {
    t.rtp(210, B_MEDIA, A_MEDIA, 8, 1..=50);
    t.rtp(230, A_MEDIA, B_MEDIA, 7, 1..=50);
}

/// Draws the conversation over a connection, in segments of `size` bytes.
fn in_pieces(size: usize) -> Ladder {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    for (at, who, message) in conversation("1") {
        for piece in message.chunks(size) {
            connection.side(who).send(&mut t.capture, at, piece);
            connection.side(who).ack(&mut t.capture, at);
        }
    }
    connection.a.fin(&mut t.capture, 2_100);
    connection.b.fin(&mut t.capture, 2_101);
    media(&mut t);
    t
}

#[track_caller]
fn is_whole(extracted: &Extracted, sip_frames: usize) {
    let call = extracted.only_call();
    call.is("completed")
        .has("final_status", "200")
        .has("rtp_packet_count", "100")
        .has("rtp_stream_count", "2");
    call.has("sip_packet_count", &sip_frames.to_string());
    assert_eq!(call.frames().len(), sip_frames + 100);
}

#[test]
fn a_call_over_a_connection() {
    let extracted = in_pieces(100_000).extract();
    is_whole(&extracted, 7);
    extracted
        .only_call()
        .has("start_timestamp", "2023-12-01T14:30:22.133456Z");
}

#[test]
fn messages_are_split_anywhere() {
    for size in [1, 2, 3, 7, 64, 100, 333] {
        let pieces: usize = conversation("1")
            .iter()
            .map(|(_, _, message)| message.len().div_ceil(size))
            .sum();
        is_whole(&in_pieces(size).extract(), pieces);
    }
    let longest = invite("1").bytes().len();
    for at in 1..longest {
        let mut t = Ladder::new();
        let mut connection = Connection::opened(&mut t, 0);
        let message = invite("1").bytes();
        connection.a.send(&mut t.capture, 10, &message[..at]);
        connection.a.send(&mut t.capture, 20, &message[at..]);
        assert_eq!(t.extract().only_call().frames().len(), 2, "{at}");
    }
}

#[test]
fn several_messages_stand_in_a_segment_with_keep_alives_between() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let all: Vec<u8> = conversation("1")
        .into_iter()
        .filter(|(_, who, _)| *who == Who::A)
        .flat_map(|(_, _, bytes)| bytes)
        .collect();
    let answers = [
        b"\r\n\r\n".to_vec(),
        ok("1").bytes(),
        b"\r\n".to_vec(),
        response(200, "BYE", "1").cseq(2).bytes(),
    ]
    .concat();
    connection.a.send(&mut t.capture, 10, b"\r\n\r\n");
    connection.a.send(&mut t.capture, 20, &all);
    connection.b.send(&mut t.capture, 30, b"\r\n");
    connection.b.send(&mut t.capture, 40, &answers);
    let extracted = t.extract();
    extracted
        .only_call()
        .is("completed")
        .has("sip_packet_count", "2");
    assert_eq!(extracted.only_call().frames().len(), 2);
}

#[test]
fn a_segment_with_messages_of_two_calls_is_in_both_files() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    connection.a.send(
        &mut t.capture,
        10,
        &[invite("1").bytes(), invite("2").bytes()].concat(),
    );
    let extracted = t.extract();
    assert_eq!(extracted.call("1").frames(), extracted.call("2").frames());
}

#[test]
fn a_retransmission_is_in_the_file_once_per_frame() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let message = invite("1").bytes();
    connection.a.send(&mut t.capture, 10, &message[..200]);
    connection.a.at(&mut t.capture, 20, -200, &message[..200]);
    connection.a.send(&mut t.capture, 30, &message[200..]);
    let len = message.len() as i32;
    connection.a.at(&mut t.capture, 40, -len, &message);
    connection
        .a
        .at(&mut t.capture, 50, -10, &message[message.len() - 10..]);
    // RFC 1122, 4.2.3.6: a keep-alive repeats at most one byte.
    connection.a.at(&mut t.capture, 60, -1, b"\0");
    connection.a.at(&mut t.capture, 70, -1, b"");
    let extracted = t.extract();
    extracted
        .only_call()
        .has("sip_packet_count", "5")
        .has("end_timestamp", "2023-12-01T14:30:22.173456Z");
}

#[test]
fn segments_come_in_any_order_and_overlap() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let message = invite("1").bytes();
    connection.a.at(&mut t.capture, 10, 300, &message[300..]);
    connection.a.at(&mut t.capture, 11, 90, &message[90..310]);
    connection.a.at(&mut t.capture, 12, 0, &message[..100]);
    connection.a.skip(message.len());
    connection.b.send(&mut t.capture, 20, &ok("1").bytes());
    media(&mut t);
    t.extract()
        .only_call()
        .has("sip_packet_count", "4")
        .has("rtp_packet_count", "100");
}

#[test]
fn a_missing_segment_costs_one_message() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let lost = response(100, "INVITE", "1").bytes();
    connection.a.send(&mut t.capture, 10, &invite("1").bytes());
    connection.b.skip(lost.len());
    connection.b.send(&mut t.capture, 200, &ok("1").bytes());
    connection.a.send(
        &mut t.capture,
        220,
        &request("ACK", "1").to_tag("bob").bytes(),
    );
    media(&mut t);
    connection.a.send(
        &mut t.capture,
        4_000,
        &request("BYE", "1").cseq(2).to_tag("bob").bytes(),
    );
    let extracted = t.extract();
    // Bytes behind the gap are read after two seconds: media from before that still belongs to the
    // call.
    extracted
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has("sip_packet_count", "4")
        .has("rtp_packet_count", "100");
    assert!(
        extracted
            .log
            .contains("1   stretches of TCP streams are missing"),
        "{}",
        extracted.log
    );
    assert_windows_do_not_matter(&t);
}

#[test]
fn a_cut_message_still_gives_its_header_and_the_next_is_found() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let message = invite("1").bytes();
    connection
        .a
        .send(&mut t.capture, 10, &message[..message.len() - 60]);
    connection.a.skip(40);
    connection.a.send(
        &mut t.capture,
        20,
        &[
            &message[message.len() - 20..],
            &request("CANCEL", "1").bytes(),
        ]
        .concat(),
    );
    let extracted = t.extract();
    // No other packet ends the two seconds, so the end of the capture does.
    extracted
        .only_call()
        .is("cancelled")
        .has("sip_packet_count", "2");
    assert_windows_do_not_matter(&t);
}

#[test]
fn a_capture_may_begin_and_end_inside_a_message() {
    let mut t = Ladder::new();
    let mut connection = Connection::new();
    let before = request("INVITE", "0").sdp(&Sdp::audio(B_MEDIA)).bytes();
    connection.a.send(
        &mut t.capture,
        10,
        &[&before[100..], &invite("1").bytes()[..]].concat(),
    );
    connection
        .b
        .send(&mut t.capture, 20, &ok("1").bytes()[50..]);
    let bye = request("BYE", "1").cseq(2).to_tag("bob").bytes();
    connection
        .b
        .send(&mut t.capture, 500, &bye[..bye.len() - 20]);
    let extracted = t.extract();
    extracted
        .only_call()
        .is("completed")
        .has("sip_packet_count", "2");
    assert_windows_do_not_matter(&t);
}

#[test]
fn a_late_segment_is_used_where_messages_are_whole_in_it() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let late = invite("1").bytes();
    connection.a.skip(late.len());
    connection.a.send(&mut t.capture, 100, &invite("2").bytes());
    t.udp(4_000, A, A_MEDIA, b"time goes on");
    connection.b.send(&mut t.capture, 4_010, b"\r\n");
    connection.a.at(
        &mut t.capture,
        4_020,
        -((late.len() + invite("2").bytes().len()) as i32),
        &late,
    );
    let extracted = t.extract();
    assert_eq!(extracted.calls.len(), 2);
    assert_windows_do_not_matter(&t);
}

#[test]
fn a_connection_is_broken_off_and_its_addresses_are_used_again() {
    for (how, breaks_off) in [("RST", true), ("SYN alone", false)] {
        let mut t = Ladder::new();
        let mut connection = Connection::opened(&mut t, 0);
        connection
            .a
            .send(&mut t.capture, 10, &invite("1").bytes()[..150]);
        if breaks_off {
            connection.b.rst(&mut t.capture, 20);
        }
        let mut again = Connection {
            a: Tcp::new(A, B, 123_456),
            b: Tcp::new(B, A, 654_321),
        };
        again.a.syn(&mut t.capture, 30);
        again.b.syn(&mut t.capture, 31);
        again.a.send(&mut t.capture, 40, &invite("2").bytes());
        again
            .b
            .send(&mut t.capture, 50, &response(486, "INVITE", "2").bytes());
        let extracted = t.extract();
        assert_eq!(extracted.calls.len(), 1, "{how}");
        extracted
            .call("2")
            .is("failed")
            .has("sip_packet_count", "2");
    }
}

#[test]
fn addresses_are_used_again_without_a_word() {
    let mut t = Ladder::new();
    let mut connection = Connection::new();
    connection.a.send(&mut t.capture, 10, &invite("1").bytes());
    connection.a.next = connection.a.next.wrapping_add(0x4000_0000);
    connection.a.send(&mut t.capture, 20, &invite("2").bytes());
    assert_eq!(t.extract().calls.len(), 2);
}

#[test]
fn a_late_syn_undoes_nothing() {
    let mut t = Ladder::new();
    let mut connection = Connection::new();
    let message = invite("1").bytes();
    connection.a.send(&mut t.capture, 10, &message[..200]);
    let mut at_start = connection.a;
    at_start.next = at_start.next.wrapping_sub(200);
    at_start.syn(&mut t.capture, 12);
    connection.a.send(&mut t.capture, 13, &message[200..]);
    at_start.syn(&mut t.capture, 14);
    t.extract().only_call().has("sip_packet_count", "2");
}

/// A repetition of very old bytes is not read as a message, even after they are forgotten.
#[test]
fn a_very_old_segment_opens_no_call() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let first = invite("1").bytes();
    connection.a.send(&mut t.capture, 10, &first);
    let cancel = request("CANCEL", "1").bytes();
    connection.a.send(&mut t.capture, 20, &cancel);
    let option = request("OPTIONS", "2").bytes();
    for n in 0..200 {
        connection.a.send(&mut t.capture, 30 + n, &option);
    }
    let distance = first.len() + cancel.len() + 200 * option.len();
    connection
        .a
        .at(&mut t.capture, 20_000, -(distance as i32), &first);
    t.extract().only_call().is("cancelled");
}

#[test]
fn messages_that_do_not_say_how_long_they_are() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    let without_length = |message: Sip| {
        let text = String::from_utf8(message.bytes()).unwrap();
        let lines: Vec<&str> = text
            .split("\r\n")
            .filter(|line| !line.starts_with("Content-Length"))
            .collect();
        lines.join("\r\n").into_bytes()
    };
    connection
        .a
        .send(&mut t.capture, 10, &without_length(invite("1")));
    connection.b.send(
        &mut t.capture,
        200,
        &[
            without_length(response(180, "INVITE", "1")),
            without_length(ok("1")),
        ]
        .concat(),
    );
    connection.a.send(
        &mut t.capture,
        2_000,
        &without_length(request("BYE", "1").cseq(2).to_tag("bob")),
    );
    media(&mut t);
    t.extract()
        .only_call()
        .is("completed")
        .has("sip_packet_count", "3")
        .has("rtp_packet_count", "100");
}

#[test]
fn bytes_that_are_not_sip_cost_only_themselves() {
    let mut t = in_pieces(100_000);
    let mut tls = Connection {
        a: Tcp::new(end([192, 0, 2, 7], 50_000), B, 1),
        b: Tcp::new(B, end([192, 0, 2, 7], 50_000), 1),
    };
    tls.a.send(
        &mut t.capture,
        5,
        &[&[0x16, 3, 1, 2, 0, 1][..], &[7; 500]].concat(),
    );
    tls.b.send(
        &mut t.capture,
        6,
        &[&[0x16, 3, 3, 0, 0x7a, 2][..], &[8; 500]].concat(),
    );
    tls.b.send(&mut t.capture, 7, &[9; 500]);
    let mut http = Tcp::new(end([192, 0, 2, 8], 50_000), B, 1);
    http.send(&mut t.capture, 8, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut noise = Tcp::new(end([192, 0, 2, 9], 50_000), B, 1);
    for n in 0..300u64 {
        noise.send(&mut t.capture, 9 + n, &[n as u8; 1_000]);
    }
    let extracted = t.extract();
    is_whole(&extracted, 7);
    assert!(
        extracted.log.contains("1   TLS connections on SIP ports"),
        "{}",
        extracted.log
    );
    // 500 bytes of noise in a stream without SIP are not logged.
    assert!(!extracted.log.contains("no SIP"), "{}", extracted.log);
    // A long stream of other bytes is still searched.
    noise.send(
        &mut t.capture,
        1_000,
        &[b"\nmore\n".to_vec(), invite("2").bytes()].concat(),
    );
    let extracted = t.extract();
    assert_eq!(extracted.calls.len(), 2);
    assert!(
        extracted
            .log
            .contains("300,006   bytes in TCP streams of SIP are no SIP"),
        "{}",
        extracted.log
    );
}

// On ports without a known protocol.

/// Replaces the SIP port by another one.
fn on_port(t: &Ladder, port: u16) -> Ladder {
    let mut moved = Ladder::new();
    for (ns, frame) in &t.capture.frames {
        let mut frame = frame.clone();
        if frame[23] == 6 {
            let ports = frame[34..38]
                .chunks_exact_mut(2)
                .filter(|old| **old == B.port().to_be_bytes());
            ports.for_each(|old| old.copy_from_slice(&port.to_be_bytes()));
        }
        moved.capture.push(*ns, frame);
    }
    moved
}

#[test]
fn sip_is_found_on_any_port() {
    for size in [1, 3, 7, 64, 333, 100_000] {
        let pieces: usize = conversation("1")
            .iter()
            .map(|(_, _, message)| message.len().div_ceil(size))
            .sum();
        let mut t = on_port(&in_pieces(size), 8080);
        let extracted = t.extract();
        assert_eq!(extracted.calls.len(), 1, "{size}: {}", extracted.log);
        is_whole(&extracted, pieces);
        assert_windows_do_not_matter(&t);
    }
    for with_handshake in [true, false] {
        let mut t = on_port(
            &over_websocket(with_handshake, |mask, text| {
                websocket(LAST | TEXT, mask, text)
            }),
            443,
        );
        is_whole(&t.extract(), 7);
        assert_windows_do_not_matter(&t);
    }
    let mut split = on_port(
        &split(
            &over_websocket(true, |mask, text| websocket(LAST | TEXT, mask, text)),
            5,
        ),
        10_080,
    );
    split
        .extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has("rtp_packet_count", "100");
    assert_windows_do_not_matter(&split);
}

#[test]
fn a_connection_is_followed_from_the_first_message_on() {
    let mut t = Ladder::new();
    let mut connection = Connection::new();
    let texts: Vec<_> = conversation("1")
        .into_iter()
        .map(|(_, _, text)| text)
        .collect();
    // Earlier bytes are skipped, though they are SIP: the end of a message and a response behind
    // it.
    connection.b.send(
        &mut t.capture,
        1,
        &[
            b"a=sendrecv\r\n".to_vec(),
            response(200, "OPTIONS", "0").bytes(),
        ]
        .concat(),
    );
    connection.b.send(
        &mut t.capture,
        2,
        &[b"\r\n\r\n".to_vec(), texts[1].clone()].concat(),
    );
    // From here on the connection is read, both ways.
    connection.a.send(
        &mut t.capture,
        10,
        &[b"rest\r\n".to_vec(), texts[0].clone()].concat(),
    );
    connection.b.send(&mut t.capture, 200, &texts[3][..30]);
    connection.b.send(&mut t.capture, 201, &texts[3][30..]);
    connection.a.send(&mut t.capture, 2_000, &texts[5]);
    connection.b.send(&mut t.capture, 2_020, &texts[6]);
    let mut t = on_port(&t, 6060);
    let extracted = t.extract();
    extracted
        .only_call()
        .is("completed")
        .has("sip_packet_count", "6");
    for line in [
        "1   TCP segments of connections without SIP",
        "10   bytes in TCP streams of SIP are no SIP",
    ] {
        assert!(extracted.log.contains(line), "{}", extracted.log);
    }
    assert_windows_do_not_matter(&t);
}

#[test]
fn a_stream_that_only_begins_like_sip_is_not_followed() {
    const UPGRADE_TO_CHAT: &[u8] =
        b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    let beginnings: [&[u8]; 7] = [
        b"I",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        UPGRADE_TO_CHAT,
        b"INVITE sip:somebody to lunch\r\n",
        b"SIP/2.0 is a protocol\r\n",
        b"POST /sip SIP/1.0\r\n",
        &[0x81, 5, b'h', b'e', b'l', b'l', b'o'],
    ];
    for beginning in beginnings {
        let mut t = Ladder::new();
        let mut connection = Connection::opened(&mut t, 0);
        connection.a.send(&mut t.capture, 1, beginning);
        connection
            .b
            .send(&mut t.capture, 2, b"HTTP/1.1 200 OK\r\n\r\n");
        connection.a.send(&mut t.capture, 2, b"x\r\n");
        for at in 3..10 {
            connection.a.send(
                &mut t.capture,
                at,
                &[b"x\r\n".to_vec(), invite("inside").bytes()].concat(),
            );
        }
        let mut t = on_port(&t, 80);
        let extracted = t.extract();
        assert!(
            extracted.calls.is_empty() && !extracted.log.contains("no SIP"),
            "{}",
            extracted.log
        );
        assert_windows_do_not_matter(&t);
    }
}

#[test]
fn ports_of_sip_outside_the_range_are_named() {
    let mut t = on_port(&in_pieces(100_000), 8080);
    t.sip(
        5_000,
        end([192, 0, 2, 5], 4060),
        end([192, 0, 2, 6], 4060),
        request("OPTIONS", "2"),
    );
    let extracted = t.flag("--sip-ports-range=5060").extract();
    assert!(extracted.calls.is_empty());
    let last = extracted.log.trim_end().lines().last().unwrap_or_default();
    let want = "8 SIP messages are on other ports: 8080 (7), 4060 (1); they are not used: --sip-ports-range any finds them";
    assert!(
        last.contains("WARN") && last.contains(want),
        "{}",
        extracted.log
    );
    assert!(
        !t.flag("--sip-ports-range=any")
            .extract()
            .log
            .contains("on other ports")
    );
}

#[test]
fn snapped_segments_give_what_they_have() {
    let mut t = in_pieces(100_000);
    t.sort();
    let file = t.capture.to_pcap_snapped(400);
    let extracted = extract_bytes(&file, &[]);
    extracted
        .only_call()
        .is("completed")
        .has("sip_packet_count", "7");
}

#[test]
fn segments_in_ip_fragments() {
    // Some or all packets of a connection that is followed for its contents come in fragments.
    for (port, whole_ones) in [(5060, 0), (8080, 0), (8080, 2), (8080, 3)] {
        let mut t = Ladder::new();
        for (index, (ns, frame)) in on_port(&in_pieces(600), port)
            .capture
            .frames
            .iter()
            .enumerate()
        {
            if whole_ones > 0 && index % whole_ones == 1 {
                t.capture.push(*ns, frame.clone());
            } else {
                frames::fragmented(frame, 96, index as u16)
                    .into_iter()
                    .for_each(|fragment| t.capture.push(*ns, fragment));
            }
        }
        let extracted = t.extract();
        extracted
            .only_call()
            .is("completed")
            .has("rtp_packet_count", "100");
        assert_windows_do_not_matter(&t);
    }
}

// WebSocket: RFC 7118.

/// Draws the conversation over a WebSocket: A masks its frames.
fn over_websocket(
    with_handshake: bool,
    wrap: impl Fn(Option<[u8; 4]>, &[u8]) -> Vec<u8>,
) -> Ladder {
    let mut t = Ladder::new();
    let mut connection = if with_handshake {
        Connection::opened(&mut t, 0)
    } else {
        Connection::new()
    };
    if with_handshake {
        connection.a.send(&mut t.capture, 3, UPGRADE);
        connection.b.send(&mut t.capture, 4, SWITCHING);
    }
    for (at, who, message) in conversation("1") {
        let mask = (who == Who::A).then_some([0x37, 0xfa, 0x21, at as u8]);
        let frame = wrap(mask, &message);
        connection.side(who).send(&mut t.capture, at, &frame);
    }
    connection.a.send(
        &mut t.capture,
        2_050,
        &websocket(LAST | CLOSE, Some([1, 2, 3, 4]), &[3, 0xe8]),
    );
    media(&mut t);
    t
}

#[test]
fn a_call_over_a_websocket() {
    for with_handshake in [true, false] {
        is_whole(
            &over_websocket(with_handshake, |mask, text| {
                websocket(LAST | TEXT, mask, text)
            })
            .extract(),
            7,
        );
    }
}

#[test]
fn a_websocket_message_in_several_frames_with_a_ping_between() {
    let mut t = over_websocket(true, |mask, text| {
        let (head, tail) = text.split_at(text.len() / 3);
        let (middle, tail) = tail.split_at(tail.len() / 2);
        [
            websocket(TEXT, mask, head),
            websocket(LAST | PING, mask, b"hello"),
            websocket(CONTINUATION, mask, middle),
            websocket(LAST | CONTINUATION, mask, tail),
        ]
        .concat()
    });
    is_whole(&t.extract(), 7);
}

#[test]
fn a_websocket_is_split_anywhere() {
    let whole = over_websocket(true, |mask, text| websocket(LAST | TEXT, mask, text));
    for size in [1, 5, 100] {
        let extracted = split(&whole, size).extract();
        extracted
            .only_call()
            .is("completed")
            .has("final_status", "200")
            .has("rtp_packet_count", "100");
    }
}

/// Returns the same in segments of at most `size` bytes.
fn split(whole: &Ladder, size: usize) -> Ladder {
    let mut t = Ladder::new();
    for (ns, frame) in &whole.capture.frames {
        if frame[23] != 6 {
            t.capture.push(*ns, frame.clone());
            continue;
        }
        let (header, payload) = frame.split_at(54);
        let sequence = u32::from_be_bytes(header[38..42].try_into().unwrap());
        let (from, to) = if header[29] == 1 { (A, B) } else { (B, A) };
        if payload.is_empty() {
            t.capture.push(*ns, frame.clone());
        }
        for (index, piece) in payload.chunks(size).enumerate() {
            let sequence = sequence.wrapping_add((index * size) as u32);
            t.capture
                .push(*ns, frames::tcp(from, to, sequence, 0x10, piece));
        }
    }
    t
}

#[test]
fn a_websocket_survives_a_missing_segment() {
    let mut t = Ladder::new();
    let mut connection = Connection::opened(&mut t, 0);
    connection.a.send(&mut t.capture, 3, UPGRADE);
    connection.b.send(&mut t.capture, 4, SWITCHING);
    let frame = |message: &Sip| websocket(LAST | TEXT, Some([9, 8, 7, 6]), &message.bytes());
    let first = frame(&invite("1"));
    connection
        .a
        .send(&mut t.capture, 10, &first[..first.len() - 100]);
    connection.a.skip(50);
    connection
        .a
        .send(&mut t.capture, 20, &first[first.len() - 50..]);
    connection
        .a
        .send(&mut t.capture, 30, &frame(&request("CANCEL", "1")));
    let extracted = t.extract();
    extracted
        .only_call()
        .is("cancelled")
        .has("sip_packet_count", "3");
}

fn assert_windows_do_not_matter(t: &Ladder) {
    let file = t.capture.to_pcap();
    let want = extract_bytes(&file, &[]).files();
    for (window, chunk) in [("1", "1"), ("1500", "700"), ("9000", "1000")] {
        let got = extract_bytes(&file, &["--window-bytes", window, "--chunk-bytes", chunk]).files();
        assert!(want == got, "windows of {window}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// With any segmentation, and with short-term repetition and reordering, the call is the same,
    /// and so is every byte for any windows.
    #[test]
    fn the_same_messages_however_they_are_cut(
        sizes in proptest::collection::vec(1usize..900, 1..20),
        keys in proptest::collection::vec((0u64..4, any::<bool>()), 1..40),
        over_a_websocket in any::<bool>(),
        (port, is_open) in proptest::sample::select(vec![(B.port(), false), (8080, true), (8080, false)]),
    ) {
        let mut t = Ladder::new();
        let mut connection = Connection::opened(&mut t, 0);
        if over_a_websocket {
            connection.a.send(&mut t.capture, 3, UPGRADE);
            connection.b.send(&mut t.capture, 4, SWITCHING);
        } else if is_open {
            connection.a.send(&mut t.capture, 3, &request("OPTIONS", "opens it").bytes());
            connection.b.send(&mut t.capture, 4, &response(200, "OPTIONS", "opens it").bytes());
        }
        let (mut index, mut like_keepalives) = (0usize, 0usize);
        for (at, who, message) in conversation("1") {
            let mask = (who == Who::A).then_some([1, 2, 3, 4]);
            let message = if over_a_websocket { websocket(LAST | TEXT, mask, &message) } else { message };
            let mut rest = &message[..];
            let mut order: Vec<(u64, i32, &[u8])> = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(sizes[index % sizes.len()].min(rest.len()));
                let (later, is_twice) = keys[index % keys.len()];
                let distance = (message.len() - rest.len()) as i32;
                order.push((at + index as u64 % 3 + later, distance, piece));
                if is_twice {
                    like_keepalives += usize::from(piece.len() == 1);
                    order.push((at + later + 2, distance, piece));
                }
                rest = after;
                index += 1;
            }
            order.sort_by_key(|(at, _, _)| *at);
            for (at, distance, piece) in order {
                connection.side(who).at(&mut t.capture, at, distance, piece);
            }
            connection.side(who).skip(message.len());
        }
        media(&mut t);
        let sent = t.capture.frames.iter().filter(|(_, frame)| frame[23] == 6 && frame.len() > 54).count();
        let handshake = if over_a_websocket || is_open { 2 } else { 0 };
        let mut t = on_port(&t, port);
        let extracted = t.extract();
        assert_windows_do_not_matter(&t);
        if port != B.port() && !is_open && !over_a_websocket {
            // If the start of the first message is cut, the connection is recognised later.
            return Ok(());
        }
        let call = extracted.only_call();
        call.is("completed").has("final_status", "200").has("rtp_packet_count", "100");
        // A repeated segment of one byte cannot be distinguished from a keep-alive.
        let found: usize = call.row.get("sip_packet_count").parse().unwrap();
        let sent = sent - handshake;
        prop_assert!((sent - like_keepalives..=sent).contains(&found), "{found} of {sent}");
    }
}

// HEP over TCP.

const AGENT: SocketAddr = end([10, 0, 0, 7], 40_000);
const SERVER: SocketAddr = end([10, 0, 0, 9], 9060);

fn agent() -> Tcp {
    Tcp::new(AGENT, SERVER, u32::MAX - 700)
}

/// Returns a packet that the agent saw `at` milliseconds after [`START_NS`].
fn told(at: u64, who: Who, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) = if who == Who::A { (A, B) } else { (B, A) };
    Hep {
        from,
        to,
        over: 6,
        ns: START_NS + at * MS,
        protocol,
        payload,
    }
    .bytes()
}

/// Returns all HEP packets of a call, and the SIP messages among them.
fn told_conversation() -> Vec<(u64, Vec<u8>)> {
    conversation("1")
        .into_iter()
        .map(|(at, who, message)| (at, told(at, who, 1, &message)))
        .collect()
}

#[test]
fn hep_over_tcp_tells_of_a_call() {
    for size in [7, 64, 333, 100_000] {
        let (mut t, mut agent, mut segments) = (Ladder::new(), agent(), 0);
        agent.syn(&mut t.capture, 0);
        for (at, packet) in told_conversation() {
            for piece in packet.chunks(size) {
                agent.send(&mut t.capture, at, piece);
                segments += 1;
            }
        }
        media(&mut t);
        let extracted = t.extract();
        is_whole(&extracted, segments);
        let plain = in_pieces(100_000).extract();
        for column in ["start_timestamp", "end_timestamp", "duration_s", "sip_from"] {
            extracted
                .only_call()
                .has(column, plain.only_call().row.get(column));
        }
        assert_windows_do_not_matter(&t);
    }
}

/// The rows have HEP's times, whenever the agent sends; other calls in the same segment do not
/// count.
#[test]
fn hep_over_tcp_tells_the_time() {
    let (mut t, mut agent) = (Ladder::new(), agent());
    let lines = told_conversation();
    let other = |at: u64| told(at, Who::A, 1, &request("OPTIONS", "another").bytes());
    for (index, (at, packet)) in lines.iter().enumerate() {
        let bytes = [other(at - 5), packet.clone(), other(at + 3_000)].concat();
        let at_ms = 86_400_000 + index as u64;
        agent.send(&mut t.capture, at_ms, &bytes[..300]);
        agent.send(&mut t.capture, at_ms, &bytes[300..]);
    }
    let extracted = t.extract();
    let call = extracted.only_call();
    call.is("completed")
        .has("start_timestamp", "2023-12-01T14:30:22.133456Z")
        .has("end_timestamp", "2023-12-01T14:30:24.143456Z");
    call.has("duration_s", "2.010000")
        .has("output_pcap_filename", "call_6b86b273_20231201_143022.pcap");
    assert!(
        call.frames()
            .iter()
            .all(|(ns, _)| *ns >= START_NS + 86_400 * SECOND),
        "the frames have their own"
    );
    assert_windows_do_not_matter(&t);
}

#[test]
fn hep_over_tcp_is_found_again_after_a_missing_beginning_or_middle() {
    let lines = told_conversation();
    let (mut t, mut agent) = (Ladder::new(), agent());
    // The capture begins at a message inside a HEP packet: the agent did not send that message
    // itself.
    let before = told(1, Who::B, 1, &invite("0").bytes());
    let message_at = before
        .windows(6)
        .position(|word| word == b"INVITE")
        .unwrap();
    agent.skip(message_at);
    agent.send(
        &mut t.capture,
        5,
        &[&before[message_at..], &lines[0].1].concat(),
    );
    agent.send(&mut t.capture, 200, &lines[3].1);
    agent.skip(lines[1].1.len());
    let last = [&lines[2].1[..], &lines[5].1].concat();
    agent.send(&mut t.capture, 2_000, &last[..40]);
    agent.skip(60);
    agent.send(&mut t.capture, 2_010, &last[100..]);
    media(&mut t);
    t.udp(9_000, A, A_MEDIA, b"time goes on");
    let extracted = t.extract();
    extracted
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has("sip_packet_count", "3")
        .has("rtp_packet_count", "100");
    assert!(
        extracted
            .log
            .contains("2   stretches of TCP streams are missing"),
        "{}",
        extracted.log
    );
    assert_windows_do_not_matter(&t);
}

#[test]
fn a_cut_hep_packet_still_gives_the_header_of_its_message() {
    let (mut t, mut agent) = (Ladder::new(), agent());
    agent.syn(&mut t.capture, 0);
    let invite = told(10, Who::A, 1, &invite("1").bytes());
    agent.send(&mut t.capture, 10, &invite[..invite.len() - 60]);
    agent.skip(40);
    let cancel = told(20, Who::A, 1, &request("CANCEL", "1").bytes());
    agent.send(
        &mut t.capture,
        20,
        &[&invite[invite.len() - 20..], &cancel].concat(),
    );
    let extracted = t.extract();
    extracted
        .only_call()
        .is("cancelled")
        .has("sip_packet_count", "2")
        .has("start_timestamp", "2023-12-01T14:30:22.133456Z");
    assert_windows_do_not_matter(&t);
}

#[test]
fn a_repetition_in_hep_over_tcp_is_in_the_file_once_per_frame() {
    let (mut t, mut agent) = (Ladder::new(), agent());
    agent.syn(&mut t.capture, 0);
    let packet = told(10, Who::A, 1, &invite("1").bytes());
    agent.send(&mut t.capture, 10, &packet[..200]);
    agent.at(&mut t.capture, 20, -200, &packet[..200]);
    agent.send(&mut t.capture, 30, &packet[200..]);
    agent.at(&mut t.capture, 40, -(packet.len() as i32), &packet);
    t.extract().only_call().has("sip_packet_count", "4");
}

#[test]
fn media_and_reports_in_hep_over_tcp_are_counted() {
    let (mut t, mut agent) = (Ladder::new(), agent());
    agent.syn(&mut t.capture, 0);
    let rtp = told(300, Who::A, 4, &Rtp::new(7, 1).bytes());
    let report = told(400, Who::A, 5, b"{\"ssrc\":7}");
    agent.send(
        &mut t.capture,
        10,
        &[
            told(10, Who::A, 1, &invite("1").bytes()),
            rtp.clone(),
            rtp,
            report,
        ]
        .concat(),
    );
    let extracted = t.extract();
    extracted
        .only_call()
        .has("rtp_packet_count", "0")
        .has("sip_packet_count", "1");
    for line in [
        "2   RTP and RTCP packets told of by HEP over TCP",
        "1   HEP packets that tell of something else",
    ] {
        assert!(extracted.log.contains(line), "{}", extracted.log);
    }
}

#[test]
fn hep_over_tcp_is_read_on_its_ports_only() {
    for (port, flag, is_read) in [
        (9061, "--debug", true),
        (9062, "--debug", false),
        (9062, "--hep-ports=9062", true),
        (443, "--hep-ports=any", true),
    ] {
        let (mut t, mut agent) = (
            Ladder::new(),
            Tcp::new(AGENT, SocketAddr::new(SERVER.ip(), port), 7),
        );
        told_conversation()
            .iter()
            .for_each(|(at, packet)| agent.send(&mut t.capture, *at, packet));
        let extracted = t.flag(flag).extract();
        assert_eq!(
            extracted.calls.len(),
            usize::from(is_read),
            "{port} {flag}: {}",
            extracted.log
        );
        assert_eq!(
            extracted
                .log
                .contains("7   TCP segments of connections without SIP"),
            !is_read,
            "{}",
            extracted.log
        );
    }
}

/// A HEP port may be a SIP port, too: the bytes decide.
#[test]
fn sip_on_a_port_of_hep_is_sip() {
    for flag in ["--hep-ports=any", "--hep-ports=5060"] {
        is_whole(
            &in_pieces(333).flag(flag).extract(),
            conversation("1")
                .iter()
                .map(|(_, _, text)| text.len().div_ceil(333))
                .sum(),
        );
    }
}
