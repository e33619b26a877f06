//! Calls of many kinds, in a real browser.

use std::{fs, net::SocketAddr};

use support::{
    ladder::Ladder,
    media::{Block, Rtp, press, receiver_report},
    sip::{Sdp, Sip, request, response},
};

use super::{browse, crowd, reported, run};

const A: SocketAddr = end([192, 0, 2, 1], 5060);
const B: SocketAddr = end([192, 0, 2, 2], 5060);
const A_MEDIA: SocketAddr = end([192, 0, 2, 1], 4000);
const B_MEDIA: SocketAddr = end([192, 0, 2, 2], 6000);

const fn end([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)),
        port,
    )
}

fn invite(id: &str, number: &str, at: SocketAddr) -> Sip {
    let mut invite = request("INVITE", id).sdp(&Sdp::audio(at));
    invite.from = format!("\"Alice\" <sip:{number}@example.com>;tag=alice");
    invite.header("User-Agent: Yealink SIP-T46U 108.86.0.20")
}

fn media(port: u16) -> (SocketAddr, SocketAddr) {
    let (mut a, mut b) = (A_MEDIA, B_MEDIA);
    a.set_port(a.port() + port);
    b.set_port(b.port() + port);
    (a, b)
}

/// Draws an answered call; returns the ends of its media.
pub(super) fn answered(
    t: &mut Ladder,
    at: u64,
    id: &str,
    number: &str,
    port: u16,
) -> (SocketAddr, SocketAddr) {
    let (a, b) = media(port);
    t.sip(at, A, B, invite(id, number, a));
    t.sip(at + 100, B, A, response(180, "INVITE", id));
    t.sip(
        at + 200,
        B,
        A,
        response(200, "INVITE", id).sdp(&Sdp::audio(b)),
    );
    t.sip(at + 220, A, B, request("ACK", id).to_tag("bob"));
    (a, b)
}

pub(super) fn hung_up(t: &mut Ladder, at: u64, id: &str) {
    t.sip(at, A, B, request("BYE", id).cseq(9).to_tag("bob"));
    t.sip(at + 20, B, A, response(200, "BYE", id).cseq(9));
}

/// A good call, one with losses, one way only after a repeated INVITE, one that is refused, one that
/// is busy.
pub(super) fn calls() -> Ladder {
    let mut t = Ladder::new();
    let (a, b) = answered(&mut t, 0, "good", "+49 30 1111111", 0);
    t.rtp(300, a, b, 1, 1..=1000);
    t.rtp(300, b, a, 2, 1..=1000);
    hung_up(&mut t, 20_500, "good");
    let (a, b) = answered(&mut t, 60_000, "lossy", "+49 30 2222222", 10);
    for begin in (1..=900u16).step_by(40) {
        // Of forty packets, some are missing.
        t.rtp(
            60_300 + u64::from(begin) * 20,
            a,
            b,
            3,
            begin..=begin + 31 + begin % 7,
        );
    }
    t.rtp(60_300, b, a, 4, 1..=900);
    for (n, fraction) in [20, 60, 128].into_iter().enumerate() {
        let block = Block {
            ssrc: 3,
            fraction,
            highest: 40,
            jitter: 80,
            ..Block::default()
        };
        let report = receiver_report(4, block);
        t.udp(63_000 + n as u64 * 5_000, b, a, &report);
    }
    keys(&mut t, 70_000, a, b, &[1, 2, 11]);
    let info = request("INFO", "lossy").cseq(2).to_tag("bob");
    let info = info.body("application/dtmf-relay", b"Signal=7\r\nDuration=160\r\n");
    t.sip(74_000, A, B, info);
    hung_up(&mut t, 79_000, "lossy");
    let one = invite("one-way", "+4930123456", media(20).0);
    t.sip(119_500, A, B, one);
    let (a, b) = answered(&mut t, 120_000, "one-way", "+4930123456", 20);
    t.rtp(120_300, a, b, 5, 1..=400);
    hung_up(&mut t, 129_000, "one-way");
    for (at, id, status) in [(200_000, "refused", 503), (240_000, "busy", 486)] {
        t.sip(at, A, B, invite(id, "+49 30 3333333", media(30).0));
        t.sip(at + 200, B, A, response(status, "INVITE", id));
        t.sip(at + 220, A, B, request("ACK", id).to_tag("bob"));
    }
    t
}

/// Draws presses of these keys (RFC 4733, 3.2), half a second apart.
fn keys(t: &mut Ladder, at: u64, from: SocketAddr, to: SocketAddr, codes: &[u8]) {
    for (n, code) in codes.iter().enumerate() {
        let at = at + n as u64 * 500;
        let first = Rtp {
            timestamp: at as u32 * 8,
            ..Rtp::new(9, at as u16)
        };
        for (packet, bytes) in press(&first, *code).iter().enumerate() {
            t.udp(at + packet as u64 * 20, from, to, bytes);
        }
    }
}

/// A call with a key and a digit in its messages.
pub(super) fn secrets() -> Ladder {
    let mut t = Ladder::new();
    let sdp = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    t.sip(
        0,
        A,
        B,
        request("INVITE", "1").body("application/sdp", sdp.as_bytes()),
    );
    let digit = b"Signal=5\r\nDuration=160\r\n";
    t.sip(
        50,
        A,
        B,
        request("INFO", "1")
            .cseq(2)
            .body("application/dtmf-relay", digit),
    );
    t
}

/// Opens the report of these calls.
fn browsed(scenario: &str) {
    browsed_with(scenario, &["--dtmf-digits"], &[]);
}

/// Opens the report that these flags of the run, and these of `report`, make.
fn browsed_with(scenario: &str, of_run: &[&str], of_report: &[&str]) {
    let (desk, ran) = run(&mut calls(), &[of_run, &["--json-messages"]].concat());
    ran.is(0);
    // The pcaps are beside the records.
    let (report, output) = reported(&desk.out, "calls.jsonl", of_report);
    assert!(output.status.success());
    browse(scenario, &report, Some(&desk.out.join("calls.jsonl")));
}

#[test]
fn a_person_finds_the_worst_call() {
    browsed("walk");
}

#[test]
fn plots_have_the_figures_of_the_records() {
    browsed("plots");
}

#[test]
fn keys_and_far_ends_are_drawn() {
    browsed("keys");
}

#[test]
fn keys_have_no_digits_where_they_are_left_out() {
    browsed_with("keys_without_digits", &[], &[]);
    browsed_with(
        "keys_without_digits",
        &["--dtmf-digits"],
        &["--without", "numbers"],
    );
}

#[test]
fn several_days_have_dates() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("calls.jsonl");
    crowd::write_days(&records, 300);
    let (report, output) = reported(folder.path(), "calls.jsonl", &[]);
    assert!(output.status.success(), "{output:?}");
    browse("days", &report, Some(&records));
}

/// The walk of docs/report.md, in a report as large as they come.
#[test]
fn the_worst_of_many_is_found_in_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("calls.jsonl");
    crowd::write(&records, 3_000, true);
    let (report, output) = reported(folder.path(), "calls.jsonl", &[]);
    assert!(output.status.success(), "{output:?}");
    browse("minute", &report, Some(&records));
}

#[test]
fn a_part_of_the_time_is_chosen() {
    browsed("histogram");
}

#[test]
fn it_looks_right_on_paper_and_on_all_screens() {
    browsed("looks");
}

#[test]
fn everything_has_a_name() {
    browsed("names");
}

#[test]
fn hostile_names_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("calls.jsonl");
    fs::write(&records, crowd::hostile()).unwrap();
    let (report, output) = reported(folder.path(), "calls.jsonl", &[]);
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&report).unwrap();
    assert!(
        !text.contains("onerror") && !text.contains("ran=1"),
        "data lie in the open"
    );
    browse("hostile", &report, Some(&records));
}

#[test]
fn large_reports() {
    for (calls, texts, most_mb) in [(10_000, true, 12.0), (100_000, false, 45.0)] {
        let folder = tempfile::tempdir().unwrap();
        crowd::write(&folder.path().join("calls.jsonl"), calls, texts);
        let (report, output) = reported(folder.path(), "calls.jsonl", &[]);
        assert!(output.status.success(), "{output:?}");
        let mb = fs::metadata(&report).unwrap().len() as f64 / 1e6;
        println!("{calls} calls: {mb:.1} MB");
        assert!(mb < most_mb, "{mb} MB");
        browse("large", &report, None);
    }
}
