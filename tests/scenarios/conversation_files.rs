//! Files of conversations: the frames of all legs in capture order, each once.

use std::collections::BTreeSet;

use support::{
    capture::Capture,
    desk::{Desk, Files},
    ladder::read_frames,
};

use super::{
    conversations::{LEG, Leg, NEXT_RELAY, OTHER, SBC, begun, both, ended, far, near},
    *,
};

const VALUE: &str = "X-CID: 0815-4711";

/// A frame with its time.
type Timed = (u64, Vec<u8>);

/// Draws media of a leg, which take their time: 20 packets each way.
fn talked(t: &mut Ladder, at: u64, leg: &Leg<'_>, ssrc: u32) {
    let (mine, theirs) = leg.media;
    t.rtp(at, mine, theirs, ssrc, 1..=20);
    t.rtp(at + 7, theirs, mine, ssrc + 1, 1..=20);
}

/// The files of conversations.
fn conversations(files: &Files) -> Vec<&String> {
    let names = files.keys();
    let of_conversations = names.filter(|name| name.starts_with("conversation_"));
    of_conversations.collect()
}

/// Checks that the capture has one conversation, and that its file has all frames of the capture
/// that its legs have, and no others.
#[track_caller]
fn has_all_frames(t: &Ladder, out: &Extracted, legs: &[&str]) {
    let files = out.files();
    let mut of_legs = BTreeSet::new();
    for id in legs {
        let found = out.call(id);
        of_legs.extend(found.frames());
    }
    let all = &t.capture.frames;
    let all_once: BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), all_once.len(), "no frame equals another");
    let want: Vec<_> = all.iter().filter(|frame| of_legs.contains(frame)).collect();
    assert_eq!(want.len(), of_legs.len());
    let first = out.call(legs[0]);
    let name = format!("conversation_{}.pcap", first.row.get("conversation_id"));
    assert_eq!(conversations(&files), [&name]);
    has_frames(&files[&name], &want);
}

/// Checks the frames of a file.
#[track_caller]
fn has_frames(file: &[u8], want: &[&Timed]) {
    let got = read_frames(file);
    let got: Vec<&Timed> = got.iter().collect();
    // All bytes of all frames would be too much to read.
    let shown = |frames: &[&Timed]| {
        let one = |(ns, frame): &&Timed| {
            let start = frame.get(42..56).unwrap_or_default();
            ((ns - START) / MS, start.escape_ascii().to_string())
        };
        frames.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(shown(&got), shown(want));
    assert!(got == want);
}

/// A call of nobody else.
fn alone(from: SocketAddr, to: SocketAddr) -> Leg<'static> {
    let media = (end([203, 0, 113, 1], 4000), end([203, 0, 113, 2], 4000));
    Leg {
        from,
        to,
        media,
        ..far("alone", "")
    }
}

fn with_files() -> Ladder {
    ladder().flag("--conversations")
}

#[test]
fn two_legs_with_media_of_their_own() {
    let (one, two) = (near(LEG, VALUE), far(OTHER, VALUE));
    let mut t = with_files();
    begun(&mut t, 0, &one);
    begun(&mut t, 30, &two);
    talked(&mut t, 300, &one, 0x70);
    talked(&mut t, 303, &two, 0x80);
    ended(&mut t, 2_000, &one);
    // The second leg goes on for some time.
    talked(&mut t, 20_000, &two, 0x90);
    ended(&mut t, 30_000, &two);
    meanwhile(&mut t, 700_000);
    let out = extracted(&mut t);
    has_all_frames(&t, &out, &[LEG, OTHER]);
}

#[test]
fn frames_of_both_legs_are_there_once() {
    let media = (A_MEDIA, B_MEDIA);
    let (one, two) = (near(LEG, ""), far(OTHER, ""));
    let (one, two) = (Leg { media, ..one }, Leg { media, ..two });
    let mut t = with_files();
    begun(&mut t, 0, &one);
    begun(&mut t, 30, &two);
    talked(&mut t, 300, &one, 0x70);
    ended(&mut t, 5_000, &one);
    ended(&mut t, 5_010, &two);
    let out = extracted(&mut t);
    has_all_frames(&t, &out, &[LEG, OTHER]);
    let packets: usize = [LEG, OTHER]
        .map(|id| out.call(id).rtp(0x70).len())
        .iter()
        .sum();
    assert_eq!(packets, 40, "both legs have all of the media");
}

#[test]
fn a_transfer_with_consultation() {
    let (one, two) = (near(LEG, ""), far(OTHER, ""));
    let mut t = with_files();
    begun(&mut t, 0, &one);
    begun(&mut t, 1_000, &two);
    let refer = request("REFER", LEG).cseq(2).to_tag("bob");
    let refer = refer.header(
        "Refer-To: <sip:bob@example.com?Replaces=other-leg%3Bto-tag%3Dbob%3Bfrom-tag%3Dalice>",
    );
    t.sip(3_000, A, PROXY, refer);
    // A third leg replaces the second one.
    let three = Leg {
        from: PROXY,
        to: C,
        media: (NEXT_RELAY, C_MEDIA),
        ..far("third-leg", "Replaces: other-leg;to-tag=bob;from-tag=alice")
    };
    begun(&mut t, 3_200, &three);
    ended(&mut t, 3_500, &two);
    ended(&mut t, 3_600, &one);
    talked(&mut t, 4_000, &three, 0x90);
    ended(&mut t, 9_000, &three);
    // Other calls, which belong to nobody.
    begun(&mut t, 500, &alone(B, C));
    ended(&mut t, 4_100, &alone(B, C));
    let out = extracted(&mut t);
    has_all_frames(&t, &out, &[LEG, OTHER, "third-leg"]);
}

#[test]
fn a_leg_that_joins_when_the_first_is_long_forgotten() {
    let (one, two) = (near(LEG, VALUE), far(OTHER, VALUE));
    let three = Leg {
        from: B,
        to: C,
        media: (B_MEDIA, C_MEDIA),
        ..far("third-leg", "Replaces: other-leg;to-tag=1;from-tag=2")
    };
    let mut t = with_files().flag("--call-timeout=0s");
    begun(&mut t, 0, &one);
    begun(&mut t, 10, &two);
    talked(&mut t, 300, &one, 0x70);
    ended(&mut t, 5_000, &one);
    begun(&mut t, 900_000, &three);
    talked(&mut t, 900_300, &three, 0x90);
    ended(&mut t, 901_000, &two);
    ended(&mut t, 902_000, &three);
    // Other calls go on for longer than legs can be linked.
    begun(&mut t, 1_800_000, &alone(C, A));
    let out = extracted(&mut t);
    has_all_frames(&t, &out, &[LEG, OTHER, "third-leg"]);
}

#[test]
fn a_leg_that_is_linked_by_its_last_message_only_after_the_other_is_forgotten_is_none() {
    let (one, two) = (near(LEG, ""), far(OTHER, "X-CID: first-leg"));
    let mut t = with_files();
    begun(&mut t, 0, &one);
    ended(&mut t, 1_000, &one);
    begun(&mut t, 607_000, &two);
    ended(&mut t, 608_000, &two);
    let out = extracted(&mut t);
    assert!(conversations(&out.files()).is_empty());
}

/// The first leg's row has no link when the second begins, and is forgotten when that ends.
#[test]
fn a_second_leg_that_lasts_until_the_first_is_forgotten() {
    let (one, two) = (near(LEG, ""), far(OTHER, "X-CID: first-leg"));
    let mut t = with_files().flag("--call-timeout=0s");
    begun(&mut t, 0, &one);
    talked(&mut t, 300, &one, 0x70);
    ended(&mut t, 1_000, &one);
    begun(&mut t, 300_000, &two);
    begun(&mut t, 900_000, &alone(C, A));
    ended(&mut t, 950_000, &two);
    let out = extracted(&mut t);
    has_all_frames(&t, &out, &[LEG, OTHER]);
}

#[test]
fn times_do_not_tell_the_order() {
    let (one, two) = (near(LEG, VALUE), far(OTHER, VALUE));
    let mut t = with_files();
    begun(&mut t, 0, &one);
    begun(&mut t, 30, &two);
    for n in 0..20 {
        for (leg, ssrc) in [(&two, 0x80), (&one, 0x70)] {
            let (mine, theirs) = leg.media;
            // The same time for all, and then an earlier one.
            let at = if n < 10 { 400 } else { 350 };
            packet(&mut t, at, mine, theirs, ssrc, n);
        }
    }
    ended(&mut t, 2_000, &one);
    ended(&mut t, 2_010, &two);
    let setup = t.capture.frames.split_off(6);
    t.sort();
    t.capture.frames.extend(setup);
    let out = t.extract_as_drawn();
    has_all_frames(&t, &out, &[LEG, OTHER]);
    let small = t
        .flag("--window-bytes=900")
        .flag("--chunk-bytes=400")
        .flag("--threads=3")
        .extract_as_drawn();
    has_all_frames(&t, &small, &[LEG, OTHER]);
}

#[test]
fn legs_without_files_are_left_out() {
    let (one, two) = (near(LEG, VALUE), far(OTHER, VALUE));
    let three = far("third-leg", VALUE);
    let mut t = with_files().flag("--min-messages=4");
    begun(&mut t, 0, &one);
    t.sip(20, SBC, B, invite(OTHER).header(VALUE));
    begun(&mut t, 30, &three);
    ended(&mut t, 5_000, &one);
    ended(&mut t, 5_010, &three);
    let out = extracted(&mut t);
    out.call(OTHER).has("output_pcap_filename", "");
    let links = out.call(OTHER).row.get("conversation_links");
    assert!(!links.is_empty(), "it is a leg all the same");
    has_all_frames(&t, &out, &[LEG, "third-leg"]);
    let one_file = extracted(
        &mut both([&one, &two])
            .flag("--conversations")
            .flag("--call-id=first"),
    );
    assert_eq!(conversations(&one_file.files()), [""; 0]);
}

#[test]
fn without_the_flag_there_are_none() {
    let mut t = both([&near(LEG, VALUE), &far(OTHER, VALUE)]);
    assert!(conversations(&extracted(&mut t).files()).is_empty());
    let mut t = both([&near(LEG, ""), &far(OTHER, "")]).flag("--conversations");
    assert!(conversations(&extracted(&mut t).files()).is_empty());
}

/// The user wants no sound of one leg, and its frames are those of the other leg, too.
#[test]
fn a_silent_leg_stays_silent() {
    let media = (A_MEDIA, B_MEDIA);
    let (one, two) = (near(LEG, VALUE), far(OTHER, VALUE));
    let (one, two) = (Leg { media, ..one }, Leg { media, ..two });
    let mut t = with_files();
    begun(&mut t, 0, &one);
    begun(&mut t, 30, &two);
    talked(&mut t, 300, &one, 0x70);
    for silent in [LEG, OTHER] {
        let mut t = t.flag(&format!("--no-rtp-dump-for-callid-pattern={silent}"));
        let out = extracted(&mut t);
        let files = out.files();
        let name = conversations(&files)[0];
        let of_leg: BTreeSet<_> = out.call(silent).frames().into_iter().collect();
        let got = read_frames(&files[name]);
        let media: Vec<_> = got.iter().filter(|(_, frame)| frame.len() > 200).collect();
        let media = media.into_iter().filter(|(_, frame)| frame[42] == 0x80);
        let media: Vec<_> = media.collect();
        assert_eq!(media.len(), 40);
        assert!(media.iter().all(|frame| of_leg.contains(frame)), "{silent}");
    }
}

/// A segment whose frames have another link type than those of the next one, and other units of
/// time.
#[test]
fn legs_of_different_kinds_are_a_pcapng() {
    let (one, two) = (near(LEG, VALUE), far(OTHER, VALUE));
    let mut t = with_files();
    begun(&mut t, 0, &one);
    ended(&mut t, 1_000, &one);
    begun(&mut t, 2_000, &two);
    ended(&mut t, 3_000, &two);
    t.sort();
    let (before, after) = t.capture.frames.split_at(5);
    let desk = Desk::new();
    let nano = Capture {
        frames: before.to_vec(),
        precision: Precision::Nano,
        ..Capture::default()
    };
    desk.deliver("1.pcap", &nano.to_pcap());
    let cooked = after.iter().map(|(ns, frame)| {
        let head = [0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];
        (*ns, [&head[..], &frame[14..]].concat())
    });
    let cooked = Capture {
        frames: cooked.collect(),
        link: shared::pcap::LinkType::LINUX_SLL,
        ..Capture::default()
    };
    desk.deliver("2.pcap", &cooked.to_pcap());
    desk.run(&["--conversations", "--final"]).is(0);
    let files = desk.everything_in_out();
    let names = conversations(&files);
    assert!(
        names.len() == 1 && names[0].ends_with(".pcapng"),
        "{names:?}"
    );
    let want: Vec<_> = nano.frames.iter().chain(&cooked.frames).collect();
    has_frames(&files[names[0]], &want);
    let hidden = files
        .keys()
        .filter(|name| name.starts_with(".call") || name.starts_with(".leg"));
    assert_eq!(hidden.count(), 0);
}

/// Other software reads it, and finds each frame once.
#[test]
fn tshark_reads_the_frames_of_both_legs() {
    let (one, two) = (near(LEG, VALUE), far(OTHER, VALUE));
    let mut t = with_files();
    begun(&mut t, 0, &one);
    begun(&mut t, 30, &two);
    talked(&mut t, 303, &two, 0x80);
    talked(&mut t, 300, &one, 0x70);
    ended(&mut t, 2_000, &one);
    ended(&mut t, 2_010, &two);
    let out = t.extract();
    let files = out.files();
    let path = out.out.join(conversations(&files)[0]);
    let read = std::process::Command::new("tshark")
        .arg("-r")
        .arg(path)
        .args([
            "-T",
            "fields",
            "-e",
            "frame.time_epoch",
            "-e",
            "sip.Call-ID",
        ])
        .output();
    let Ok(read) = read else { return };
    let lines = String::from_utf8(read.stdout).unwrap();
    let times: Vec<&str> = lines
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(times.len(), t.capture.frames.len());
    assert!(times.is_sorted(), "{times:?}");
    let of_leg = |id| lines.lines().filter(|line| line.ends_with(id)).count();
    assert_eq!((of_leg(LEG), of_leg(OTHER)), (5, 5));
}

#[test]
fn a_run_without_pcaps_has_no_file_to_join() {
    let capture = both([&near(LEG, ""), &far(OTHER, "")]).capture.to_pcap();
    let flags = ["--conversations", "--no-pcaps"];
    let out = support::ladder::extract_bytes(&capture, &flags);
    assert_eq!(out.status, Some(2));
    assert!(
        out.log
            .contains("'--conversations' cannot be used with '--no-pcaps'"),
        "{}",
        out.log
    );
}
