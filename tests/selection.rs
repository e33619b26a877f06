//! The selection of calls, and of calls without sound. The remaining results are the same, byte for
//! byte, as without these flags.

use std::{collections::BTreeMap, net::SocketAddr};

use shared::pcap::{DEFAULT_SNAPLEN, LinkType, Precision, file_header, record_header};
use support::{
    desk::Desk,
    frames,
    ladder::{Extracted, Found, Ladder, extract_bytes},
    media::{Rtp, SOUND, dtls, sender_report, stun},
    sip::{Sdp, request, response},
};

/// Call-ID, caller, callee, and the start of each call in milliseconds. Each lasts half a minute,
/// so that some overlap.
const CALLS: [(&str, &str, &str, u64); 4] = [
    (
        "a-1@pbx.example.com",
        "\"Alice\" <sip:+49301@example.com>;tag=1",
        "<sip:bob@example.com>",
        0,
    ),
    (
        "a-2@pbx.example.com",
        "\"Anna\" <sip:+49302@example.com>;tag=2",
        "<sip:carol@example.com>",
        20_000,
    ),
    (
        "b-3(x)@gw.example.net",
        "<sip:+331@example.net>;tag=3",
        "<sip:bob@example.com>",
        40_000,
    ),
    (
        "b-4(y)@gw.example.net",
        "<sip:+332@example.net>;tag=4",
        "<sip:dave@example.com>",
        60_000,
    ),
];

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Draws those calls, each with media at its own ports.
fn four_calls() -> Ladder {
    let mut t = Ladder::new();
    let (a, b) = (end("192.0.2.1:5060"), end("192.0.2.2:5060"));
    for (number, (id, from, to, at)) in CALLS.into_iter().enumerate() {
        let media = |address: &str| end(&format!("{address}:{}", 4_000 + 10 * number));
        let (a_media, b_media) = (media("192.0.2.1"), media("192.0.2.2"));
        let named = |text: Vec<u8>| {
            let text = String::from_utf8(text).unwrap();
            let line = |line: &str| match line.split_once(": ") {
                Some(("From", _)) => format!("From: {from}"),
                Some(("To", _)) => format!("To: {to}"),
                _ => line.to_owned(),
            };
            text.split("\r\n")
                .map(line)
                .collect::<Vec<_>>()
                .join("\r\n")
                .into_bytes()
        };
        t.udp(
            at,
            a,
            b,
            &named(request("INVITE", id).sdp(&Sdp::audio(a_media)).bytes()),
        );
        t.udp(
            at + 100,
            b,
            a,
            &named(
                response(200, "INVITE", id)
                    .sdp(&Sdp::audio(b_media))
                    .bytes(),
            ),
        );
        t.rtp(at + 200, a_media, b_media, number as u32 + 1, 1..=500);
        t.udp(
            at + 300,
            a_media,
            b_media,
            &sender_report(number as u32 + 1),
        );
        t.udp(at + 310, a_media, b_media, &stun());
        t.udp(at + 320, a_media, b_media, &dtls());
        t.udp(
            at + 30_000,
            a,
            b,
            &named(request("BYE", id).cseq(2).bytes()),
        );
        t.udp(
            at + 30_010,
            b,
            a,
            &named(response(200, "BYE", id).cseq(2).bytes()),
        );
    }
    t.sort();
    t
}

fn ids(out: &Extracted) -> Vec<&str> {
    out.calls.iter().map(|row| row.get("call_id")).collect()
}

/// Returns a call's rows.
fn rows(call: &Found<'_>) -> (support::ladder::Row, Vec<support::ladder::Row>) {
    (
        call.row.clone(),
        call.streams().into_iter().cloned().collect(),
    )
}

/// Checks that these flags select just these calls, unchanged.
#[track_caller]
fn leaves(flags: &[&str], numbers: &[usize]) {
    let all = four_calls().extract();
    let some = flags
        .iter()
        .fold(four_calls(), |t, flag| t.flag(flag))
        .extract();
    let want: Vec<&str> = numbers.iter().map(|number| CALLS[number - 1].0).collect();
    assert_eq!(ids(&some), want, "{flags:?}");
    let files: BTreeMap<_, _> = some
        .files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".pcap"))
        .collect();
    assert_eq!(
        files.len(),
        want.len(),
        "nothing else is there: {:?}",
        some.files().keys()
    );
    for id in want {
        assert_eq!(rows(&some.call(id)), rows(&all.call(id)), "{flags:?}");
        assert_eq!(some.call(id).frames(), all.call(id).frames(), "{flags:?}");
    }
    let left_out = format!(
        "{}   calls that were not selected",
        CALLS.len() - numbers.len()
    );
    assert_eq!(
        some.log.contains(&left_out),
        numbers.len() < CALLS.len(),
        "{}",
        some.log
    );
    assert!(!some.log.contains("go on in the next run"), "{}", some.log);
}

#[test]
fn calls_that_match() {
    leaves(&[], &[1, 2, 3, 4]);
    leaves(&["--call-id=^a-1@pbx"], &[1]);
    leaves(&["--call-id=pbx"], &[1, 2]);
    leaves(&["--call-id=a-1", "--call-id=b-4"], &[1, 4]);
    leaves(&[r"--call-id=b-3\(x\)"], &[3]);
    leaves(&["--call-id=b-3(x)"], &[]);
    leaves(&["--from=Anna"], &[2]);
    leaves(&["--from=(?i)aLICE"], &[1]);
    leaves(&[r"--from=sip:\+33"], &[3, 4]);
    leaves(&["--to=bob@"], &[1, 3]);
    leaves(&["--to=bob@", "--from=example.net"], &[3]);
    leaves(&["--to=bob@", "--to=dave@", "--call-id=gw"], &[3, 4]);
    leaves(&["--from=bob"], &[]);
}

#[test]
fn calls_of_a_time() {
    // They last from second 0, 20, 40 and 60 after 14:30:22 to 30 seconds later.
    leaves(&["--since=2023-12-01T14:31:02Z"], &[2, 3, 4]);
    leaves(
        &[
            "--since=2023-12-01T15:31:02+01:00",
            "--until=2023-12-01T14:31:10Z",
        ],
        &[2, 3],
    );
    leaves(&["--until=2023-12-01T14:30:30Z"], &[1]);
    leaves(&["--since=2023-12-01T14:32:00Z"], &[]);
    leaves(&["--until=2023-12-01T14:30:22Z"], &[]);
    leaves(&["--since=2023-12-01T14:30:52.133456Z"], &[1, 2, 3, 4]);
    leaves(&["--since=2023-12-01T14:30:52.133457Z"], &[2, 3, 4]);
    leaves(&["--until=2023-12-01T14:30:22.123456Z"], &[1]);
    leaves(&["--until=2023-12-01T14:30:22.123455Z"], &[]);
    leaves(&["--since=1969-12-31T23:59:59Z", "--call-id=a-2"], &[2]);
}

/// Without files, the rows are the same but for the names.
#[test]
fn rows_without_files() {
    let all = four_calls().extract();
    let some = four_calls().flag("--no-pcaps").extract();
    assert_eq!(ids(&some), ids(&all));
    let files = some.files();
    assert!(
        files.keys().all(|name| !name.contains("call_")),
        "{files:?}"
    );
    let file_name = "output_pcap_filename";
    for (id, ..) in CALLS {
        let (with_file, of_file) = rows(&all.call(id));
        let call = some.call(id).row;
        call.has(file_name, "");
        assert_eq!(call.without(file_name), with_file.without(file_name));
        let streams = some.streams.iter().filter(|row| row.get("call_id") == id);
        let streams: Vec<_> = streams.map(|row| row.without(file_name)).collect();
        let of_file: Vec<_> = of_file.iter().map(|row| row.without(file_name)).collect();
        assert_eq!(streams, of_file, "{id}");
    }
    assert!(
        some.log.contains("4   calls have rows only"),
        "{}",
        some.log
    );
}

/// Four calls that end differently: one without sound one way, one refused, one cancelled, and one
/// without problems.
fn four_ends() -> Ladder {
    let mut t = Ladder::new();
    let [a, b] = ["192.0.2.1:5060", "192.0.2.2:5060"].map(end);
    for (number, id) in ["one-way", "refused", "cancelled", "good"]
        .into_iter()
        .enumerate()
    {
        let at = number as u64 * 100_000;
        let media = |address: &str| end(&format!("{address}:{}", 4_000 + 10 * number));
        let (a_media, b_media) = (media("192.0.2.1"), media("192.0.2.2"));
        t.sip(at, a, b, request("INVITE", id).sdp(&Sdp::audio(a_media)));
        t.sip(at + 100, b, a, response(180, "INVITE", id));
        match id {
            "refused" => t.sip(at + 200, b, a, response(503, "INVITE", id)),
            "cancelled" => t.sip(at + 30_000, a, b, request("CANCEL", id)),
            _ => {
                let answer = response(200, "INVITE", id).sdp(&Sdp::audio(b_media));
                t.sip(at + 200, b, a, answer);
                t.rtp(at + 300, a_media, b_media, 7, 1..=50);
                if id == "good" {
                    t.rtp(at + 301, b_media, a_media, 8, 1..=50);
                }
                t.sip(at + 10_000, a, b, request("BYE", id).cseq(2).to_tag("bob"));
            }
        }
    }
    t
}

/// Checks that these flags select just these calls, with their rows, statistics and files.
#[track_caller]
fn leaves_ends(flags: &[&str], want: &[&str]) {
    let all = four_ends().extract();
    let mut t = flags.iter().fold(four_ends(), |t, flag| t.flag(flag));
    let some = t.extract();
    assert_eq!(ids(&some), want, "{flags:?}");
    for id in want {
        assert_eq!(rows(&some.call(id)), rows(&all.call(id)), "{flags:?}");
        assert_eq!(some.call(id).frames(), all.call(id).frames(), "{flags:?}");
    }
    let files = some.files();
    let names: Vec<_> = files.keys().filter(|name| name.contains("call_")).collect();
    assert_eq!(names.len(), want.len(), "{names:?}");
    let streams: usize = want.iter().map(|id| some.call(id).streams().len()).sum();
    assert_eq!(some.streams.len(), streams, "{flags:?}");
    let left_out = format!("{}   calls that were not selected", 4 - want.len());
    assert_eq!(some.log.contains(&left_out), want.len() < 4, "{}", some.log);
    let small = ["--window-bytes=900", "--chunk-bytes=400", "--unit-bytes=1"];
    let pieces = small.iter().fold(t, |t, flag| t.flag(flag));
    assert_eq!(pieces.extract_as_drawn().files(), files, "{flags:?}");
}

#[test]
fn calls_by_their_end() {
    leaves_ends(&[], &["one-way", "refused", "cancelled", "good"]);
    leaves_ends(&["--state=completed"], &["one-way", "good"]);
    leaves_ends(&["--state=failed,cancelled"], &["refused", "cancelled"]);
    leaves_ends(&["--state=failed", "--state=timeout"], &["refused"]);
    leaves_ends(&["--problems=one-way"], &["one-way"]);
    leaves_ends(&["--problems=mos,server-error"], &["refused"]);
    leaves_ends(&["--problems=any"], &["one-way", "refused"]);
    let slow = ["--problems=slow-setup", "--problem-setup=99ms"];
    let mut t = slow.iter().fold(four_ends(), |t, flag| t.flag(flag));
    assert_eq!(t.extract().calls.len(), 4);
    leaves_ends(&["--problems=jitter"], &[]);
    leaves_ends(&["--min-duration=10s"], &["one-way", "cancelled", "good"]);
    leaves_ends(&["--min-duration=10001ms"], &["cancelled"]);
    leaves_ends(
        &["--min-duration=10s", "--state=completed", "--problems=any"],
        &["one-way"],
    );
}

/// A number may stand in From, To, the Request-URI, P-Asserted-Identity or Diversion.
#[test]
fn numbers_wherever_they_stand() {
    let mut t = Ladder::new();
    let [a, b] = ["192.0.2.1:5060", "192.0.2.2:5060"].map(end);
    let mut from = request("INVITE", "from");
    from.from = "\"A\" <sip:+49-301@x>;tag=1".to_owned();
    let mut to = request("INVITE", "to");
    to.to = "<tel:0049(30)1>".to_owned();
    let identity = "P-Asserted-Identity: \"A, B\" <sip:anonymous@x>, <tel:+49.301>";
    let uri = String::from_utf8(request("INVITE", "uri").bytes()).unwrap();
    let uri = uri.replacen("sip:bob@example.com", "sip:0049301;npdi@example.com", 1);
    t.sip(0, a, b, from);
    t.sip(10, a, b, to);
    t.udp(20, a, b, uri.as_bytes());
    t.sip(30, a, b, request("INVITE", "identity").header(identity));
    let diversion = "Diversion: <sip:7@x>;reason=no-answer\r\nDiversion: <sip:%2B49301@x>";
    t.sip(40, a, b, request("INVITE", "diversion").header(diversion));
    // Only the INVITE that opens the call counts: a later one may be read in another run.
    t.sip(50, a, b, request("INVITE", "later"));
    t.sip(
        60,
        a,
        b,
        request("INVITE", "later").cseq(2).header(identity),
    );
    let found = t.flag("--number=^49301$").extract();
    assert_eq!(ids(&found), ["from", "to", "uri", "identity", "diversion"]);
    assert_eq!(ids(&t.flag("--number=^7$").extract()), ["diversion"]);
}

#[test]
fn filters_that_cannot_be_meant() {
    for (flag, words) in [
        (
            "--state=ended",
            "the states are completed, cancelled, failed",
        ),
        (
            "--problems=noise",
            "the problems are loss, jitter, mos, one-way",
        ),
        ("--min-duration=x", "duration"),
        (
            "--number=^0049",
            "numbers stand without their leading 00; write '^49'",
        ),
        ("--problem-loss=1%", "no number with at most two decimals"),
    ] {
        let out = extract_bytes(&Ladder::new().capture.to_pcap(), &[flag]);
        assert_eq!(out.status, Some(2), "{flag}: {}", out.log);
        assert!(out.log.contains(words), "{flag}: {}", out.log);
    }
}

/// Times can be copied from the tables, though a capture may be more exact.
#[test]
fn times_to_the_microsecond() {
    let mut t = four_calls();
    t.capture.precision = Precision::Nano;
    t.capture.frames.iter_mut().for_each(|(ns, _)| *ns += 999);
    let [since, until] = ["end_timestamp", "start_timestamp"]
        .map(|column| t.extract().call(CALLS[1].0).row.get(column).to_owned());
    assert_eq!(
        ids(&t.flag(&format!("--since={since}")).extract()),
        [CALLS[1].0, CALLS[2].0, CALLS[3].0]
    );
    assert_eq!(
        ids(&t.flag(&format!("--until={until}")).extract()),
        [CALLS[0].0, CALLS[1].0]
    );
}

/// Packets of an unselected call do not go to a selected one.
#[test]
fn an_unselected_call_keeps_its_packets() {
    let mut t = Ladder::new();
    let [a, b, media] = ["192.0.2.1:5060", "192.0.2.2:5060", "192.0.2.1:4000"].map(end);
    t.sip(0, a, b, request("INVITE", "before").sdp(&Sdp::audio(media)));
    t.sip(
        1_000,
        a,
        b,
        request("INVITE", "after").sdp(&Sdp::audio(media)),
    );
    t.rtp(500, end("192.0.2.2:6000"), media, 7, 1..=10);
    t.rtp(1_500, end("192.0.2.2:6000"), media, 7, 11..=30);
    t.flag("--call-id=before")
        .extract()
        .only_call()
        .has("rtp_packet_count", "10");
    t.flag("--call-id=after")
        .extract()
        .only_call()
        .has("rtp_packet_count", "20");
}

/// Returns the calls that have sound.
#[track_caller]
fn sounds(flags: &[&str]) -> Vec<usize> {
    let all = four_calls().extract();
    let some = flags
        .iter()
        .fold(four_calls(), |t, flag| t.flag(flag))
        .extract();
    assert_eq!(some.calls, all.calls, "{flags:?}");
    assert_eq!(
        some.streams, all.streams,
        "the figures are those with sound: {flags:?}"
    );
    let has_sound = |number: &usize| {
        let id = CALLS[number - 1].0;
        let (want, found) = (all.call(id).frames(), some.call(id).frames());
        let muted: Vec<_> = want.iter().map(|(ns, frame)| (*ns, muted(frame))).collect();
        assert!(
            found == want || found == muted,
            "{id} with {flags:?}: all of it or nothing"
        );
        found == want
    };
    (1..=CALLS.len()).filter(has_sound).collect()
}

/// Returns an Ethernet frame whose UDP payload, if it is RTP as these ladders have it, is zero
/// after the header.
fn muted(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[42] == 0x80 && frame[43] == 8 {
        frame[54..].fill(0);
    }
    frame
}

#[test]
fn calls_without_sound() {
    assert_eq!(sounds(&[]), [1, 2, 3, 4]);
    assert!(sounds(&["--no-rtp-dump"]).is_empty());
    assert_eq!(sounds(&["--no-rtp-dump-for-callid-pattern=pbx"]), [3, 4]);
    assert_eq!(
        sounds(&[
            "--no-rtp-dump-for-from-pattern=Anna",
            "--no-rtp-dump-for-to-pattern=dave"
        ]),
        [1, 3]
    );
    assert_eq!(
        sounds(&[
            "--no-rtp-dump-for-from-pattern=Anna",
            "--no-rtp-dump-for-from-pattern=Alice"
        ]),
        [3, 4]
    );
    assert_eq!(
        sounds(&["--no-rtp-dump-except-for-callid-pattern=a-1"]),
        [1]
    );
    assert_eq!(sounds(&["--no-rtp-dump-except-for-to-pattern=bob"]), [1, 3]);
    assert_eq!(
        sounds(&[
            "--no-rtp-dump-except-for-from-pattern=331",
            "--no-rtp-dump-except-for-callid-pattern=a-2"
        ]),
        [2, 3]
    );
    assert_eq!(
        sounds(&["--no-rtp-dump", "--no-rtp-dump-except-for-to-pattern=bob"]),
        [1, 3]
    );
    assert_eq!(
        sounds(&[
            "--no-rtp-dump-except-for-to-pattern=bob",
            "--no-rtp-dump-for-from-pattern=331"
        ]),
        [1]
    );
}

/// Header bytes are not sound, nor is the last byte of padding, which is the length of the padding.
#[test]
fn sound_begins_after_the_header_and_ends_before_the_count_of_padding() {
    let plain = Rtp::new(7, 1).bytes();
    let with_csrc = [&[0x81][..], &plain[1..12], &[SOUND; 4], &[SOUND; 160]].concat();
    let with_extension = [
        &[0x90][..],
        &plain[1..12],
        &[SOUND, SOUND, 0, 2],
        &[SOUND; 8],
        &[SOUND; 160],
    ]
    .concat();
    let with_both = [
        &[0x91][..],
        &plain[1..12],
        &[SOUND; 4],
        &[SOUND, SOUND, 0, 1],
        &[SOUND; 4],
        &[SOUND; 160],
    ]
    .concat();
    let padded = [&[0xa0][..], &plain[1..12], &[SOUND; 160], &[0, 0, 0, 4]].concat();
    let nothing_else = plain[..12].to_vec();
    let too_long = [&[0x90][..], &plain[1..12], &[0, 0, 0, 200], &[SOUND; 160]].concat();
    let wanted = [
        (plain.clone(), [&plain[..12], &[0; 160]].concat()),
        (with_csrc.clone(), [&with_csrc[..16], &[0; 160]].concat()),
        (
            with_extension.clone(),
            [&with_extension[..24], &[0; 160]].concat(),
        ),
        (with_both.clone(), [&with_both[..24], &[0; 160]].concat()),
        (padded.clone(), [&padded[..12], &[0; 163], &[4]].concat()),
        (nothing_else.clone(), nothing_else),
        // This is not RTP: its extension is longer than the packet.
        (too_long.clone(), too_long),
    ];
    let [a, b, media, from] = [
        "192.0.2.1:5060",
        "192.0.2.2:5060",
        "192.0.2.1:4000",
        "192.0.2.2:6000",
    ]
    .map(end);
    let mut t = Ladder::new();
    t.sip(0, a, b, request("INVITE", "1").sdp(&Sdp::audio(media)));
    for (number, (packet, _)) in wanted.iter().enumerate() {
        t.udp(10 + number as u64, from, media, packet);
    }
    let payloads = |out: &Extracted| out.only_call().payloads()[1..].to_vec();
    let out = t.flag("--no-rtp-dump").extract();
    assert_eq!(
        payloads(&out),
        wanted
            .iter()
            .map(|(_, muted)| muted.clone())
            .collect::<Vec<_>>()
    );
    out.only_call().has("rtp_packet_count", "6");
}

/// No byte of sound is left in a packet that is cut by fragmentation, by the snap length, or by
/// both. (No header byte here equals a sound byte.)
#[test]
fn sound_of_which_the_beginning_is_missing() {
    let [a, b, media, from] = [
        "192.0.2.1:5060",
        "192.0.2.2:5060",
        "192.0.2.1:4000",
        "192.0.2.2:6000",
    ]
    .map(end);
    let mut t = Ladder::new();
    t.sip(0, a, b, request("INVITE", "1").sdp(&Sdp::audio(media)));
    let packet = frames::udp(
        from,
        media,
        &[&Rtp::new(7, 1).bytes()[..], &[SOUND; 1_000]].concat(),
    );
    for (number, size) in [8, 16, 24, 32, 304, 600, 2_000].into_iter().enumerate() {
        for frame in frames::fragmented(&packet, size, number as u16) {
            t.capture.push(
                support::ladder::START_NS + (10 + number as u64) * support::MS,
                frame,
            );
        }
    }
    for snaplen in [42, 46, 53, 54, 60, 100, 2_000] {
        let mut capture =
            file_header(LinkType::ETHERNET, Precision::Nano, DEFAULT_SNAPLEN).to_vec();
        for (number, (ns, frame)) in t.capture.frames.iter().enumerate() {
            let kept = &frame[..if number == 0 {
                frame.len()
            } else {
                frame.len().min(snaplen)
            }];
            capture.extend(record_header(
                *ns,
                Precision::Nano,
                kept.len() as u32,
                frame.len() as u32,
            ));
            capture.extend(kept);
        }
        let [with, without] =
            [&[][..], &["--no-rtp-dump"]].map(|flags| extract_bytes(&capture, flags));
        assert_eq!(
            (&with.calls, &with.streams),
            (&without.calls, &without.streams),
            "{snaplen}"
        );
        let [with, without] = [with, without].map(|out| out.only_call().frames());
        assert!(with.len() > 1, "{snaplen}");
        let sounds = |frame: &[u8]| {
            frame
                .chunk_by(|a, b| a == b)
                .any(|run| run[0] == SOUND && run.len() > 1)
        };
        assert!(
            snaplen < 60 || with.iter().any(|(_, frame)| sounds(frame)),
            "{snaplen}"
        );
        assert!(
            !without.iter().any(|(_, frame)| sounds(frame)),
            "sound is left of frames of {snaplen} bytes"
        );
    }
}

/// A selection is the same in all runs, wherever the capture is cut.
#[test]
fn segment_by_segment_as_in_one() {
    let flags = [
        "--since=2023-12-01T14:31:02Z",
        "--until=2023-12-01T14:31:10Z",
        "--no-rtp-dump-for-to-pattern=carol",
    ];
    let whole = flags
        .iter()
        .fold(four_calls(), |t, flag| t.flag(flag))
        .extract();
    assert_eq!(ids(&whole), [CALLS[1].0, CALLS[2].0]);
    let capture = four_calls().capture;
    for parts in [2, 7, 40] {
        let desk = Desk::new();
        for (number, frames) in capture
            .frames
            .chunks(capture.frames.len().div_ceil(parts))
            .enumerate()
        {
            let segment = support::capture::Capture {
                frames: frames.to_vec(),
                ..capture.clone()
            };
            desk.deliver(&format!("{number:03}.pcap"), &segment.to_pcap());
            desk.run(&flags).is(0);
        }
        desk.run(&[&flags[..], &["--final"]].concat()).is(0);
        desk.has(&whole.files(), &format!("in {parts} parts"));
    }
}

#[test]
fn invalid_values_are_wrong_usage() {
    for (flag, words) in [
        ("--call-id=(", "regular expression"),
        ("--no-rtp-dump-for-from-pattern=*", "regular expression"),
        ("--since=in the beginning", "is no time"),
        ("--until=2023-12-01T25:30:00", "is no time"),
    ] {
        let out = four_calls().flag(flag).extract_as_drawn();
        assert_eq!(out.status, Some(2), "{flag}: {}", out.log);
        assert!(
            out.log.contains(words) && out.log.contains(flag.split('=').next().unwrap()),
            "{}",
            out.log
        );
    }
    let backwards = four_calls()
        .flag("--since=2023-12-02T00:00:00Z")
        .flag("--until=2023-12-01T00:00:00Z")
        .extract_as_drawn();
    assert_eq!(backwards.status, Some(2));
    assert!(
        backwards.log.contains("is before --since"),
        "{}",
        backwards.log
    );
}

#[test]
fn other_wishes_do_not_fit_what_is_half_done() {
    let desk = Desk::new();
    let mut capture = four_calls().capture;
    capture.frames.truncate(300);
    desk.deliver("1.pcap", &capture.to_pcap());
    desk.run(&["--call-id=a-1"]).is(0);
    desk.run(&["--call-id=a-2"]).is(1).says("--call-id");
    desk.run(&["--call-id=a-1", "--no-rtp-dump-for-callid-pattern="])
        .is(1)
        .says("--no-rtp-dump-for-callid-pattern");
    desk.run(&["--call-id=a-1", "--final"]).is(0);
    desk.run(&["--call-id=a-2"]).is(0);
}

#[test]
fn sound_in_fragments() {
    let [a, b, media, from] = [
        "192.0.2.1:5060",
        "192.0.2.2:5060",
        "192.0.2.1:4000",
        "192.0.2.2:6000",
    ]
    .map(end);
    let mut t = Ladder::new();
    t.sip(0, a, b, request("INVITE", "1").sdp(&Sdp::audio(media)));
    let packet = frames::udp(
        from,
        media,
        &[&Rtp::new(7, 1).bytes()[..], &[SOUND; 2_000]].concat(),
    );
    let report = frames::udp(
        from,
        media,
        &[&sender_report(7)[..], &[SOUND; 2_000]].concat(),
    );
    for (number, frame) in [packet, report].iter().enumerate() {
        let mut parts = frames::fragmented(frame, 600, number as u16);
        // Out of order, and one of them twice.
        parts.swap(0, 1);
        parts.push(parts[2].clone());
        for part in parts {
            t.capture.push(
                support::ladder::START_NS + (10 + number as u64) * support::MS,
                part,
            );
        }
    }
    let (with, without) = (t.extract(), t.flag("--no-rtp-dump").extract());
    assert_eq!(with.streams, without.streams);
    let count = |out: &Extracted| -> Vec<usize> {
        out.only_call()
            .frames()
            .iter()
            .map(|(_, frame)| frame.iter().filter(|byte| **byte == SOUND).count())
            .collect()
    };
    let (with, without) = (count(&with), count(&without));
    assert_eq!(with.len(), without.len());
    let (of_packet, of_report) = with[1..].split_at((with.len() - 1) / 2);
    assert!(
        of_packet.iter().all(|sound| *sound > 100) && of_packet.len() > 4,
        "{with:?}"
    );
    assert!(
        without[1..]
            .iter()
            .take(of_packet.len())
            .all(|sound| *sound < 3),
        "{without:?}"
    );
    // The last fragment repeats a part of a datagram that is already complete: its kind is no
    // longer known.
    let (repeated, of_report) = of_report.split_last().unwrap();
    let (repeated_without, of_report_without) =
        without[1 + of_packet.len()..].split_last().unwrap();
    assert_eq!(of_report_without, of_report, "RTCP is no sound");
    assert!(
        *repeated > 100 && *repeated_without == 0,
        "what cannot be told is taken for sound"
    );
}
