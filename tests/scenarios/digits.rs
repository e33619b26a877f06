//! Digits that are pressed in a call, in RTP and in INFO.

use support::media::press;

use super::*;

/// The code of a key: RFC 4733, 3.2.
fn code(key: char) -> u8 {
    "0123456789*#".find(key).unwrap() as u8
}

/// Draws the packets of one press.
fn pressed(t: &mut Ladder, at: u64, from: SocketAddr, to: SocketAddr, key: char) {
    let first = Rtp {
        timestamp: at as u32 * 8,
        ..Rtp::new(7, (at / 20) as u16)
    };
    for (n, packet) in press(&first, code(key)).iter().enumerate() {
        t.udp(at + n as u64 * 20, from, to, packet);
    }
}

fn told(t: &mut Ladder, at: u64, cseq: u32, signal: &str) {
    let body = format!("Signal={signal}\r\nDuration=160\r\n");
    let info = request("INFO", "1").cseq(cseq).to_tag("bob");
    let info = info.body("application/dtmf-relay", body);
    t.sip(at, A, B, info);
    t.sip(at + 10, B, A, response(200, "INFO", "1").cseq(cseq));
}

#[track_caller]
fn has_digits(draw: impl Fn(&mut Ladder), want: &str) -> Extracted {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    draw(&mut t);
    hung_up(&mut t, 60_000, "1");
    let out = t.flag("--dtmf-digits").extract();
    out.only_call().has("dtmf", want);
    t.extract().only_call().has("dtmf", &want.len().to_string());
    out
}

#[test]
fn events_in_rtp() {
    let out = has_digits(
        |t| {
            pressed(t, 1_000, A_MEDIA, B_MEDIA, '4');
            pressed(t, 1_400, A_MEDIA, B_MEDIA, '4');
            pressed(t, 2_000, B_MEDIA, A_MEDIA, '#');
            pressed(t, 3_000, A_MEDIA, B_MEDIA, '2');
        },
        "44#2",
    );
    assert_eq!(out.streams.len(), 2);
}

#[test]
fn info_messages() {
    has_digits(
        |t| {
            told(t, 1_000, 2, "1");
            told(t, 1_900, 3, "*");
            // Sent again.
            told(t, 1_950, 3, "*");
        },
        "1*",
    );
}

#[test]
fn both_in_the_order_of_time_and_each_press_once() {
    has_digits(
        |t| {
            pressed(t, 1_000, A_MEDIA, B_MEDIA, '1');
            told(t, 1_150, 2, "1");
            told(t, 2_000, 3, "2");
            pressed(t, 3_000, A_MEDIA, B_MEDIA, '3');
        },
        "123",
    );
}

#[test]
fn none() {
    has_digits(|t| t.rtp(1_000, A_MEDIA, B_MEDIA, 7, 1..=50), "");
}

#[test]
fn what_is_encrypted_is_not_read() {
    let mut t = ladder();
    let secured = |at| Sdp::audio(at).to_string().replace("RTP/AVP", "RTP/SAVP");
    t.sip(
        0,
        A,
        B,
        invite("1").body("application/sdp", secured(A_MEDIA)),
    );
    let ok = response(200, "INVITE", "1").body("application/sdp", secured(B_MEDIA));
    t.sip(200, B, A, ok);
    pressed(&mut t, 1_000, A_MEDIA, B_MEDIA, '4');
    told(&mut t, 2_000, 2, "5");
    hung_up(&mut t, 60_000, "1");
    let out = t.flag("--dtmf-digits").extract();
    out.only_call()
        .has("dtmf", "5")
        .has("rtp_packet_count", "6");
}

#[test]
fn without_sound_they_are_still_counted() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    pressed(&mut t, 1_000, A_MEDIA, B_MEDIA, '4');
    hung_up(&mut t, 60_000, "1");
    let out = t.flag("--no-rtp-dump").extract();
    out.only_call().has("dtmf", "1");
}
