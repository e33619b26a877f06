//! What is left out of calls' files for privacy: sound behind RTP headers, and keys in SIP.

use std::{fs, net::SocketAddr};

use shared::pcap::{Layout, Precision, Step};
use support::{
    MS,
    desk::Desk,
    frames,
    ladder::{Extracted, Ladder, START_NS, extract_bytes},
    layers::Hep,
    media::{Rtp, SOUND, dtls, sender_report, stun},
    sip::{Sdp, request, response},
    tcp::{LAST, TEXT, Tcp, UPGRADE, websocket},
};

const HEADERS_ONLY: &str = "--headers-only";

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ends() -> [SocketAddr; 4] {
    [
        "192.0.2.1:5060",
        "192.0.2.2:5060",
        "192.0.2.1:4000",
        "192.0.2.2:6000",
    ]
    .map(end)
}

/// A call whose media is RTP, also padded and with an extension, and all that is no RTP.
fn call() -> Ladder {
    let [a, b, a_media, b_media] = ends();
    let mut t = Ladder::new();
    t.sip(0, a, b, request("INVITE", "1").sdp(&Sdp::audio(a_media)));
    t.sip(
        200,
        b,
        a,
        response(200, "INVITE", "1").sdp(&Sdp::audio(b_media)),
    );
    t.rtp(300, a_media, b_media, 7, 1..=20);
    t.rtp(305, b_media, a_media, 8, 1..=20);
    for (number, packet) in others().into_iter().enumerate() {
        t.udp(310 + number as u64, a_media, b_media, &packet);
    }
    let extended = [
        &[
            0x90, 0, 0, 21, 0, 0, 0, 0, 0, 0, 0, 7, 0xbe, 0xde, 0, 1, 1, 2, 3, 4,
        ][..],
        &[SOUND; 160],
    ]
    .concat();
    t.udp(900, a_media, b_media, &extended);
    let padded = [
        &[0xa0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 7][..],
        &[SOUND; 160],
        &[0, 0, 0, 4],
    ]
    .concat();
    t.udp(920, a_media, b_media, &padded);
    t.sip(2000, a, b, request("BYE", "1").cseq(2));
    t.sort();
    t
}

fn others() -> [Vec<u8>; 3] {
    [sender_report(7), stun(), dtls()]
}

/// The frames of a capture, with their lengths on the wire.
fn records(capture: &[u8]) -> Vec<(Vec<u8>, u32)> {
    let (layout, start) = Layout::detect(capture).unwrap();
    let mut walk = layout.walk(capture, start);
    let mut records = Vec::new();
    while let Some(step) = walk.next_step() {
        let Step::Record(record) = step else {
            panic!("{step:?}")
        };
        records.push((record.frame.to_vec(), record.wire_len));
    }
    records
}

fn has_sound(frame: &[u8]) -> bool {
    let mut runs = frame.chunk_by(|a, b| a == b);
    runs.any(|run| run[0] == SOUND && run.len() > 1)
}

/// The call's file, read again, has the same rows, and no frame has sound.
#[track_caller]
fn is_the_same_again(cut: &Extracted) {
    let capture = fs::read(cut.only_call().path()).unwrap();
    assert!(!records(&capture).iter().any(|(frame, _)| has_sound(frame)));
    let again = extract_bytes(&capture, &[]);
    assert_eq!((&again.calls, &again.streams), (&cut.calls, &cut.streams));
}

#[test]
fn rtp_is_cut_after_its_headers_and_nothing_else_is() {
    let t = call();
    let whole = t.clone().extract();
    let cut = t.flag(HEADERS_ONLY).extract();
    assert_eq!((&cut.calls, &cut.streams), (&whole.calls, &whole.streams));
    let [of_whole, of_cut] =
        [&whole, &cut].map(|out| records(&fs::read(out.only_call().path()).unwrap()));
    assert_eq!(of_whole.len(), of_cut.len());
    let mut cut_frames = 0;
    for ((whole, wire_len), (cut, of_cut)) in of_whole.iter().zip(&of_cut) {
        assert_eq!(wire_len, of_cut);
        assert!(whole.starts_with(cut));
        let headers = match whole[42] {
            0x80 if !(192..=223).contains(&whole[43]) => 12,
            0xa0 => 12,
            0x90 => 20,
            _ => whole.len() - 42,
        };
        assert_eq!(cut.len(), 42 + headers);
        cut_frames += usize::from(cut.len() < whole.len());
    }
    assert_eq!(cut_frames, 42);
    is_the_same_again(&cut);
}

#[test]
fn the_times_of_a_cut_frame_are_those_of_the_capture() {
    for precision in [Precision::Micro, Precision::Nano] {
        let mut t = call();
        t.capture.precision = precision;
        let [whole, cut] = [t.clone(), t.flag(HEADERS_ONLY)].map(|t| t.clone().extract());
        let times = |out: &Extracted| -> Vec<u64> {
            out.only_call().frames().iter().map(|(ns, _)| *ns).collect()
        };
        assert_eq!(times(&whole), times(&cut));
    }
}

#[test]
fn fragments_are_cut_to_their_headers() {
    let [_, _, a_media, b_media] = ends();
    for size in [8, 16, 24, 56, 304, 600] {
        let mut t = call();
        for number in 0..3u16 {
            let sound = [&Rtp::new(9, number).bytes()[..], &[SOUND; 1_000]].concat();
            let packet = frames::udp(a_media, b_media, &sound);
            for (part, frame) in frames::fragmented(&packet, size, number)
                .into_iter()
                .enumerate()
            {
                let at_us = 1_000_000 + u64::from(number) * 20_000 + part as u64;
                t.capture.push(START_NS + at_us * MS / 1000, frame);
            }
        }
        t.sort();
        let [whole, cut] = [t.clone(), t.flag(HEADERS_ONLY)].map(|t| t.clone().extract());
        assert_eq!(
            (&cut.calls, &cut.streams),
            (&whole.calls, &whole.streams),
            "{size}"
        );
        // The headers must be in the first fragment.
        assert_eq!(cut.streams.len(), if size < 24 { 2 } else { 3 }, "{size}");
        is_the_same_again(&cut);
    }
}

/// What an agent reports to a Homer server has more behind the sound.
#[test]
fn reported_rtp_loses_its_sound_and_stays_readable() {
    let [_, _, a_media, b_media] = ends();
    let mut t = call();
    for number in 0..10u16 {
        let payload = Rtp::new(9, number).bytes();
        let ns = START_NS + (1000 + u64::from(number) * 20) * MS;
        let hep = Hep {
            from: a_media,
            to: b_media,
            over: 17,
            ns,
            protocol: 4,
            payload: &payload,
        };
        t.capture
            .push(ns, [&[0; 12][..], &[8, 0], &hep.ip()].concat());
    }
    t.sort();
    let [whole, cut] = [t.clone(), t.flag(HEADERS_ONLY)].map(|t| t.clone().extract());
    assert_eq!((&cut.calls, &cut.streams), (&whole.calls, &whole.streams));
    assert_eq!(cut.streams.len(), 3);
    is_the_same_again(&cut);
}

/// Several link types make a pcapng, in which frames are cut as well.
#[test]
fn a_pcapng_is_cut_as_a_pcap_is() {
    let desk = Desk::new();
    let t = call();
    let (ethernet, mut raw) = (t.capture.clone(), t.capture.clone());
    let (first, second) = ethernet.frames.split_at(20);
    let ethernet = support::capture::Capture {
        frames: first.to_vec(),
        ..ethernet.clone()
    };
    raw.frames = second
        .iter()
        .map(|(ns, frame)| (*ns, frame[14..].to_vec()))
        .collect();
    raw.link = shared::pcap::LinkType::RAW;
    desk.deliver("1.pcap", &ethernet.to_pcap());
    desk.deliver("2.pcap", &raw.to_pcap());
    desk.run(&["--final", HEADERS_ONLY]).is(0);
    let files = desk.everything_in_out();
    let (_, ng) = files
        .iter()
        .find(|(name, _)| name.ends_with(".pcapng"))
        .unwrap();
    let records = records(ng);
    assert_eq!(records.len(), t.capture.frames.len());
    assert!(!records.iter().any(|(frame, _)| has_sound(frame)));
    let again = extract_bytes(ng, &[]);
    again.only_call().has("rtp_packet_count", "42");
}

#[test]
fn segment_by_segment_as_in_one() {
    let t = call();
    let want = t.flag(HEADERS_ONLY).extract().files();
    for parts in [2, 7, 40] {
        let desk = Desk::new();
        let flags = [HEADERS_ONLY, "--unit-bytes", "1", "--window-bytes", "900"];
        let frames = &t.capture.frames;
        for (number, frames) in frames.chunks(frames.len().div_ceil(parts)).enumerate() {
            let mut segment = t.capture.clone();
            segment.frames = frames.to_vec();
            desk.deliver(&format!("{number:02}.pcap"), &segment.to_pcap());
            desk.run(&flags).is(0);
        }
        desk.run(&[&flags[..], &["--final"]].concat()).is(0);
        desk.has(&want, &format!("{parts} parts"));
    }
}

/// 30 bytes in base64, as `AES_CM_128_HMAC_SHA1_80` has them: no header holds a part of it.
const KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk";
const REDACT: &str = "--redact-keys";

fn with_key(media: SocketAddr) -> Sdp {
    Sdp::audio(media)
        .line(&format!(
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"
        ))
        .line("a=sendrecv")
}

fn invite(call_id: &str) -> Vec<u8> {
    let [_, _, a_media, _] = ends();
    request("INVITE", call_id).sdp(&with_key(a_media)).bytes()
}

fn blank(bytes: &[u8]) -> Vec<u8> {
    replaced(bytes, KEY.as_bytes())
}

/// The bytes with asterisks for each place of `key`.
fn replaced(bytes: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = bytes
        .windows(key.len())
        .enumerate()
        .filter(|(_, window)| *window == key)
        .map(|(place, _)| place)
        .collect();
    for place in places {
        bytes[place..place + key.len()].fill(b'*');
    }
    bytes
}

/// Extracts with and without keys. Rows are the same, frames differ in keys only: returns both
/// files' frames.
#[track_caller]
fn redacted(t: &Ladder) -> [Vec<Vec<u8>>; 2] {
    let [whole, redacted] = [t.clone(), t.flag(REDACT)].map(|t| t.clone().extract());
    assert_eq!(
        (&whole.calls, &whole.streams),
        (&redacted.calls, &redacted.streams)
    );
    let frames = [&whole, &redacted].map(|out| {
        let calls = out.each_call();
        let frames = calls.iter().flat_map(support::ladder::Found::frames);
        frames.map(|(_, frame)| frame).collect::<Vec<_>>()
    });
    // Read again, both files have the same calls.
    let again = [&whole, &redacted].map(|out| {
        let file = fs::read(out.each_call()[0].path()).unwrap();
        let again = extract_bytes(&file, &[]);
        (again.calls, again.streams)
    });
    assert_eq!(again[0], again[1]);
    frames
}

#[test]
fn keys_in_datagrams_are_blanked() {
    let [a, b, a_media, b_media] = ends();
    let mut t = Ladder::new();
    t.udp(0, a, b, &invite("1"));
    let answer = with_key(b_media).line("k=clear:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk");
    t.sip(200, b, a, response(200, "INVITE", "1").sdp(&answer));
    t.rtp(300, a_media, b_media, 7, 1..=20);
    let parts = format!(
        "--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x\r\nContent-Type: application/sdp\r\n\r\n{}\r\n--x--\r\n",
        with_key(a_media)
    );
    let update = request("INVITE", "1")
        .cseq(2)
        .to_tag("bob")
        .body("multipart/mixed;boundary=x", parts);
    t.sip(900, a, b, update);
    let [whole, redacted] = redacted(&t);
    let want: Vec<Vec<u8>> = whole.iter().map(|frame| blank(frame)).collect();
    assert_eq!(redacted, want);
    assert_ne!(whole, redacted);
    assert!(
        !redacted
            .concat()
            .windows(8)
            .any(|bytes| bytes == &KEY.as_bytes()[..8])
    );
}

/// Wherever a segment ends, also within the key; repeated, out of order, and over the end of the
/// sequence numbers.
#[test]
fn a_key_in_several_segments_is_blanked() {
    let [a, b, ..] = ends();
    let message = invite("1");
    let key = message
        .windows(KEY.len())
        .position(|window| window == KEY.as_bytes())
        .unwrap();
    for cut in (key - 12..key + KEY.len() + 2).step_by(3) {
        for (swapped, initial) in [(false, 7), (true, u32::MAX - cut as u32 - 3)] {
            let mut t = Ladder::new();
            let mut side = Tcp::new(a, b, initial);
            side.syn(&mut t.capture, 0);
            let (first, rest) = message.split_at(cut);
            let (second, third) = rest.split_at(5);
            let [at_first, at_second] = if swapped { [20, 10] } else { [10, 20] };
            side.at(&mut t.capture, at_first, 0, first);
            side.skip(first.len());
            side.at(&mut t.capture, at_second, 0, second);
            side.skip(second.len());
            side.send(&mut t.capture, 30, third);
            // All of it once more, in other pieces.
            let (head, tail) = message.split_at(key + 7);
            side.at(&mut t.capture, 40, -(message.len() as i32), head);
            side.at(&mut t.capture, 50, -(tail.len() as i32), tail);
            t.sort();
            let [whole, redacted] = redacted(&t);
            assert_eq!(whole.len(), redacted.len());
            assert!(whole.len() >= 5, "{cut}");
            // Put together by sequence number, the stream lacks its key and nothing else.
            let stream = |frames: &[Vec<u8>], with_repeated: bool| {
                let mut bytes = vec![None; message.len()];
                for frame in frames {
                    let sequence = u32::from_be_bytes(frame[38..42].try_into().unwrap());
                    let at = sequence.wrapping_sub(initial.wrapping_add(1)) as usize;
                    for (offset, byte) in frame[54..].iter().enumerate() {
                        let known = &mut bytes[at + offset];
                        assert!(
                            !with_repeated || known.is_none_or(|known| known == *byte),
                            "{cut}"
                        );
                        *known = Some(*byte);
                    }
                }
                bytes.into_iter().flatten().collect::<Vec<u8>>()
            };
            assert_eq!(stream(&whole, true), message);
            assert_eq!(stream(&redacted, true), blank(&message), "{cut} {swapped}");
        }
    }
}

#[test]
fn a_key_in_fragments_is_blanked() {
    let [a, b, ..] = ends();
    for size in [8, 24, 56, 104, 304] {
        let mut t = Ladder::new();
        let whole = frames::udp(a, b, &invite("1"));
        let mut parts = frames::fragmented(&whole, size, 9);
        parts.swap(0, 1);
        parts.push(parts[1].clone());
        for (number, part) in parts.into_iter().enumerate() {
            t.capture.push(START_NS + number as u64 * MS / 10, part);
        }
        t.sip(900, b, a, response(486, "INVITE", "1"));
        let [whole, redacted] = redacted(&t);
        assert_eq!(whole.len(), redacted.len());
        let differ = whole
            .iter()
            .zip(&redacted)
            .flat_map(|(whole, redacted)| whole.iter().zip(redacted))
            .filter(|(whole, redacted)| whole != redacted);
        // One fragment came twice.
        assert!(
            (KEY.len()..=2 * KEY.len()).contains(&differ.clone().count()),
            "{size}"
        );
        for (whole, redacted) in differ {
            assert_eq!(*redacted, b'*');
            assert!(whole.is_ascii_alphanumeric(), "{size}");
        }
    }
}

#[test]
fn keys_that_a_hep_agent_reports_are_blanked() {
    let [a, b, ..] = ends();
    let mut t = Ladder::new();
    let message = invite("1");
    let hep = Hep {
        from: a,
        to: b,
        over: 17,
        ns: START_NS,
        protocol: 1,
        payload: &message,
    };
    t.capture
        .push(START_NS, [&[0; 12][..], &[8, 0], &hep.ip()].concat());
    let [whole, redacted] = redacted(&t);
    assert_eq!(redacted, [blank(&whole[0])]);
    assert_ne!(whole, redacted);
}

#[test]
fn a_compressed_body_is_blanked_as_a_whole_and_counted() {
    let [a, b, a_media, _] = ends();
    let mut t = Ladder::new();
    let body = support::capture::gzip(with_key(a_media).to_string().as_bytes());
    let message = request("INVITE", "1")
        .header("Content-Encoding: gzip")
        .body("application/sdp", body.clone());
    t.sip(0, a, b, message);
    let out = t.flag(REDACT).extract();
    let payload = &out.only_call().payloads()[0];
    assert!(payload.ends_with(&vec![b'*'; body.len()]));
    assert!(payload.starts_with(b"INVITE sip:bob@example.com SIP/2.0\r\n"));
    assert!(
        out.log.contains("1   SIP messages were blanked in part"),
        "{}",
        out.log
    );
}

/// A browser masks what it sends, so the key has other bytes in the capture.
#[test]
fn a_masked_message_is_blanked_as_a_whole_and_counted() {
    let [a, b, ..] = ends();
    let mut t = Ladder::new();
    let mut side = Tcp::new(a, b, 7);
    side.send(&mut t.capture, 0, UPGRADE);
    side.send(
        &mut t.capture,
        10,
        &websocket(TEXT | LAST, Some([1, 2, 3, 4]), &invite("1")),
    );
    let out = t.flag(REDACT).extract();
    let (_, frame) = &out.only_call().frames()[0];
    assert!(frame[54..].iter().all(|byte| *byte == b'*'));
    assert!(
        out.log.contains("1   SIP messages were blanked in part"),
        "{}",
        out.log
    );
}

/// The end of one call's key stands in the segment with which another call begins.
#[test]
fn the_rest_of_a_key_is_blanked_in_the_file_of_another_call() {
    let [a, b, ..] = ends();
    let (first, second) = (invite("1"), invite("2"));
    let mut t = Ladder::new();
    let mut side = Tcp::new(a, b, 7);
    let key = first
        .windows(KEY.len())
        .position(|window| window == KEY.as_bytes())
        .unwrap();
    side.send(&mut t.capture, 0, &first[..key + 9]);
    side.send(&mut t.capture, 10, &[&first[key + 9..], &second].concat());
    let [_, redacted] = redacted(&t);
    assert!(redacted.len() >= 3);
    let rest = &KEY.as_bytes()[9..];
    assert!(
        !redacted
            .iter()
            .any(|frame| frame.windows(rest.len()).any(|bytes| bytes == rest))
    );
}

#[test]
fn keys_are_blanked_segment_by_segment_as_in_one() {
    let [a, b, ..] = ends();
    let mut t = Ladder::new();
    let message = invite("1");
    let mut side = Tcp::new(a, b, 7);
    for (number, piece) in message.chunks(31).enumerate() {
        side.send(&mut t.capture, number as u64 * 30, piece);
    }
    side.at(
        &mut t.capture,
        1500,
        -(message.len() as i32),
        &message[..200],
    );
    side.at(
        &mut t.capture,
        1600,
        -(message.len() as i32 - 190),
        &message[190..],
    );
    t.sip(9000, b, a, response(486, "INVITE", "1"));
    let want = t.flag(REDACT).extract().files();
    assert!(
        want.values()
            .all(|file| !file.windows(5).any(|bytes| bytes == &KEY.as_bytes()[..5]))
    );
    for parts in [2, 5, 40] {
        let desk = Desk::new();
        let flags = [REDACT, "--unit-bytes", "1", "--window-bytes", "150"];
        let frames = &t.capture.frames;
        for (number, frames) in frames.chunks(frames.len().div_ceil(parts)).enumerate() {
            let mut segment = t.capture.clone();
            segment.frames = frames.to_vec();
            desk.deliver(&format!("{number:02}.pcap"), &segment.to_pcap());
            desk.run(&flags).is(0);
        }
        desk.run(&[&flags[..], &["--final"]].concat()).is(0);
        desk.has(&want, &format!("{parts} parts"));
    }
}
