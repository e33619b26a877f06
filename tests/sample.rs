//! Makes the sample capture of `scripts/demo` and the README: a morning in a small office.
//!
//!     scripts/sample sample.pcap

use std::net::{Ipv4Addr, SocketAddr};

use support::{
    ladder::Ladder,
    media::{Rtp, sender_report},
    sip::{Sdp, request, response},
};

const ALICE: SocketAddr = end([192, 0, 2, 10], 5060);
const BOB: SocketAddr = end([192, 0, 2, 20], 5060);
const PROXY: SocketAddr = end([198, 51, 100, 1], 5060);

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

fn main() -> std::io::Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: sample FILE");
        std::process::exit(2);
    };
    let mut t = Ladder::new();
    registration(&mut t, 0);
    answered(&mut t, 500, "a84b4c76e66710@192.0.2.10");
    busy(&mut t, 2_000, "f81d4fae7dec11d0@192.0.2.10");
    cancelled(&mut t, 6_000, "5c2f0e1b9a@192.0.2.20");
    unfinished(&mut t, 12_000, "e3b0c44298fc@192.0.2.20");
    t.sort();
    std::fs::write(&path, t.capture.to_pcap())?;
    println!("{path}: {} packets, 4 calls", t.capture.frames.len());
    Ok(())
}

/// Draws a registration, which is not a call.
fn registration(t: &mut Ladder, at: u64) {
    t.sip(at, ALICE, PROXY, request("REGISTER", "reg-1@192.0.2.10"));
    t.sip(
        at + 30,
        PROXY,
        ALICE,
        response(200, "REGISTER", "reg-1@192.0.2.10"),
    );
}

/// Draws a call: challenged, answered, eight seconds of speech with some losses, a late and a
/// repeated packet, then a BYE.
fn answered(t: &mut Ladder, at: u64, id: &str) {
    let (alice, bob) = (end([192, 0, 2, 10], 49_170), end([192, 0, 2, 20], 30_002));
    t.sip(
        at,
        ALICE,
        PROXY,
        request("INVITE", id).sdp(&Sdp::audio(alice)),
    );
    t.sip(at + 20, PROXY, ALICE, response(407, "INVITE", id));
    t.sip(at + 40, ALICE, PROXY, request("ACK", id).to_tag("bob"));
    t.sip(
        at + 60,
        ALICE,
        PROXY,
        request("INVITE", id).cseq(2).sdp(&Sdp::audio(alice)),
    );
    t.sip(at + 80, PROXY, ALICE, response(100, "INVITE", id).cseq(2));
    t.sip(at + 300, PROXY, ALICE, response(180, "INVITE", id).cseq(2));
    t.sip(
        at + 3_000,
        PROXY,
        ALICE,
        response(200, "INVITE", id)
            .cseq(2)
            .sdp(&Sdp::audio(bob).line("a=ptime:20")),
    );
    t.sip(
        at + 3_030,
        ALICE,
        PROXY,
        request("ACK", id).cseq(2).to_tag("bob").branch("ack-2"),
    );
    speech(t, at + 3_040, alice, bob, 0x0a1b_2c3d, |n| {
        (n % 97 != 50).then_some(n)
    });
    speech(t, at + 3_050, bob, alice, 0x5e6f_7081, |n| match n {
        200 => Some(201),
        201 => Some(200),
        300 => Some(299),
        _ => Some(n),
    });
    t.udp(
        at + 6_000,
        end([192, 0, 2, 10], 49_171),
        end([192, 0, 2, 20], 30_003),
        &sender_report(0x0a1b_2c3d),
    );
    t.sip(
        at + 11_100,
        ALICE,
        PROXY,
        request("BYE", id).cseq(3).to_tag("bob"),
    );
    t.sip(at + 11_130, PROXY, ALICE, response(200, "BYE", id).cseq(3));
}

/// Draws 400 packets of 20 ms, each with up to 3 ms of delay, and with the sequence numbers that
/// `sent` returns.
fn speech(
    t: &mut Ladder,
    at: u64,
    from: SocketAddr,
    to: SocketAddr,
    ssrc: u32,
    sent: impl Fn(u16) -> Option<u16>,
) {
    for n in 0..400u16 {
        let delay = u64::from(n) * 7 % 4;
        if let Some(sequence) = sent(n) {
            // The timestamp goes on when the sequence number wraps around.
            let timestamp = (u32::from(sequence) + 65_400) * 160;
            let packet = Rtp {
                timestamp,
                ..Rtp::new(ssrc, sequence.wrapping_add(65_400))
            };
            t.udp(at + u64::from(n) * 20 + delay, from, to, &packet.bytes());
        }
    }
}

fn busy(t: &mut Ladder, at: u64, id: &str) {
    t.sip(
        at,
        ALICE,
        PROXY,
        request("INVITE", id).sdp(&Sdp::audio(end([192, 0, 2, 10], 49_174))),
    );
    t.sip(at + 200, PROXY, ALICE, response(486, "INVITE", id));
    t.sip(at + 220, ALICE, PROXY, request("ACK", id).to_tag("bob"));
}

fn cancelled(t: &mut Ladder, at: u64, id: &str) {
    t.sip(
        at,
        BOB,
        PROXY,
        request("INVITE", id).sdp(&Sdp::audio(end([192, 0, 2, 20], 30_006))),
    );
    t.sip(at + 200, PROXY, BOB, response(180, "INVITE", id));
    t.sip(at + 4_000, BOB, PROXY, request("CANCEL", id));
    t.sip(at + 4_010, PROXY, BOB, response(200, "CANCEL", id));
    t.sip(at + 4_020, PROXY, BOB, response(487, "INVITE", id));
    t.sip(at + 4_040, BOB, PROXY, request("ACK", id).to_tag("bob"));
}

/// Draws a call that still rings, with early media, when the capture ends.
fn unfinished(t: &mut Ladder, at: u64, id: &str) {
    let (bob, gateway) = (end([192, 0, 2, 20], 30_010), end([198, 51, 100, 7], 16_400));
    t.sip(at, BOB, PROXY, request("INVITE", id).sdp(&Sdp::audio(bob)));
    t.sip(
        at + 500,
        PROXY,
        BOB,
        response(183, "INVITE", id).sdp(&Sdp::audio(gateway)),
    );
    t.rtp(at + 520, gateway, bob, 0x1234_5678, 1..=60);
}
