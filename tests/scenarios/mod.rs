//! Calls drawn as ladders, and the results that the extractor must give for each.
//!
//! Times are in milliseconds. Unless a test says otherwise, A calls B, media runs between `A_MEDIA`
//! and `B_MEDIA`, and `STRANGER` is an address that no description names.

mod calls;
mod clocks;
mod crowd;
mod dialogs;
mod digits;
mod floods;
mod media;
mod networks;
mod rows;
mod rtcp;
mod statistics;
mod world;

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
};

use shared::pcap::Precision;
use support::{
    MS, SECOND, frames,
    ladder::{Extracted, Ladder, Row, START_NS as START},
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

/// Returns another INVITE of the caller inside the dialog.
fn re_invite(id: &str, cseq: u32) -> Sip {
    request("INVITE", id).cseq(cseq).to_tag("bob")
}

/// Draws four messages within 220 ms: A calls, B rings and answers.
fn answered(t: &mut Ladder, at: u64, id: &str, a_media: SocketAddr, b_media: SocketAddr) {
    t.sip(at, A, B, invite(id).sdp(&Sdp::audio(a_media)));
    t.sip(at + 100, B, A, response(180, "INVITE", id));
    t.sip(
        at + 200,
        B,
        A,
        response(200, "INVITE", id).sdp(&Sdp::audio(b_media)),
    );
    t.sip(at + 220, A, B, ack(id));
}

/// Draws two messages within 20 ms: A hangs up.
fn hung_up(t: &mut Ladder, at: u64, id: &str) {
    t.sip(at, A, B, request("BYE", id).cseq(9).to_tag("bob"));
    t.sip(at + 20, B, A, response(200, "BYE", id).cseq(9));
}

/// Draws a packet that belongs to no call, to advance packet time.
fn meanwhile(t: &mut Ladder, at: u64) {
    t.udp(at, STRANGER, OTHER_STRANGER, b"tick");
}

fn packet(t: &mut Ladder, at: u64, from: SocketAddr, to: SocketAddr, ssrc: u32, sequence: u16) {
    t.rtp(at, from, to, ssrc, sequence..=sequence);
}
