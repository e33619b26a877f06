//! Calls drawn as ladders, and the results that the extractor must give for each.
//!
//! Times are in milliseconds. Unless a test says otherwise, A calls B, media runs between `A_MEDIA`
//! and `B_MEDIA`, and `STRANGER` is an address that no description names.

mod calls;
mod clocks;
mod columns;
mod conversation_files;
mod conversations;
mod crowd;
mod dialogs;
mod digits;
mod explain;
mod floods;
mod media;
mod networks;
mod problems;
pub mod records;
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

/// An empty ladder. The records of its calls are checked, too.
fn ladder() -> Ladder {
    Ladder::new().flag("--json").checked(records::check)
}

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

/// Extracts, also in small pieces and in two runs, which must give the same.
#[track_caller]
fn extracted(t: &mut Ladder) -> Extracted {
    use support::{
        capture::Capture,
        desk::{Desk, assert_same},
    };

    let out = t.extract();
    let small = [
        "--window-bytes=900",
        "--chunk-bytes=400",
        "--unit-bytes=1",
        "--index-bytes=1",
    ];
    let pieces = small.iter().fold(t.clone(), |t, flag| t.flag(flag));
    assert_same(
        &out.files(),
        &pieces.extract_as_drawn().files(),
        "in small pieces",
    );
    let desk = Desk::new();
    let (before, after) = t.capture.frames.split_at(t.capture.frames.len() / 2);
    let flags: Vec<&str> = t.flags().collect();
    for (name, frames, is_last) in [("1.pcap", before, false), ("2.pcap", after, true)] {
        let segment = Capture {
            frames: frames.to_vec(),
            ..Capture::default()
        };
        desk.deliver(name, &segment.to_pcap());
        let last = ["--final"].into_iter().filter(|_| is_last);
        desk.run(&flags.iter().copied().chain(last).collect::<Vec<_>>())
            .is(0);
    }
    desk.has(&out.files(), "in two runs");
    out
}

/// Checks columns of the only call: `name=value`.
#[track_caller]
fn has(t: &mut Ladder, columns: &[&str]) {
    let out = extracted(t);
    for column in columns {
        let (name, value) = column.split_once('=').unwrap();
        out.only_call().has(name, value);
    }
}

/// Draws a second of RTP each way.
fn talk(t: &mut Ladder, at: u64) {
    t.rtp(at, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.rtp(at + 1, B_MEDIA, A_MEDIA, 8, 1..=50);
}
