//! `explain`: each reason and each finding once, and three whole texts.

use std::{fs, path::Path, process::Stdio};

use support::{capture::Capture, ladder::extractor, tcp::Tcp};

use super::*;

/// The outcome of `explain`.
struct Explained {
    status: Option<i32>,
    text: String,
    log: String,
}

impl Explained {
    #[track_caller]
    fn says(&self, words: &str) -> &Self {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "no `{words}` in:\n{}", self.text);
        self
    }

    #[track_caller]
    fn says_not(&self, words: &str) -> &Self {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!text.contains(words), "`{words}` in:\n{}", self.text);
        self
    }

    /// Compares the text with `tests/explained/NAME.txt`; `EXPLAINED=write` replaces the file.
    #[track_caller]
    fn is_page(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/explained")
            .join(format!("{name}.txt"));
        if std::env::var_os("EXPLAINED").is_some_and(|value| value == "write") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &self.text).unwrap();
        }
        let want = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            self.text == want,
            "{name}:\n{}\nbut {} has:\n{want}",
            self.text,
            path.display()
        );
    }
}

/// Explains a call, in a folder in which nothing may be left.
#[track_caller]
fn run(capture: &[u8], words: &[&str]) -> Explained {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("big.pcap");
    fs::write(&input, capture).unwrap();
    let output = extractor()
        .arg("explain")
        .args(words)
        .arg("big.pcap")
        .env("TMPDIR", folder.path())
        .env("TZ", "Asia/Tokyo")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "nothing is written");
    Explained {
        status: output.status.code(),
        text: String::from_utf8(output.stdout).unwrap(),
        log,
    }
}

#[test]
fn the_other_legs_of_the_conversation() {
    let mut t = ladder();
    answered(&mut t, 0, "first-leg", A_MEDIA, RELAY);
    hung_up(&mut t, 1_000, "first-leg");
    t.sip(20_000, B, C, invite("other-leg").header("X-CID: first-leg"));
    for (call_id, words) in [
        (
            "first-leg",
            "Other legs of the conversation 20.000 x-cid other-leg",
        ),
        (
            "other-leg",
            "Other legs of the conversation -20.000 x-cid first-leg",
        ),
    ] {
        explained(&mut t, call_id, &[]).says(words);
    }
}

/// Explains a call of a ladder, also in small pieces, which must give the same.
#[track_caller]
fn explained(t: &mut Ladder, call_id: &str, flags: &[&str]) -> Explained {
    t.sort();
    let capture = t.capture.to_pcap();
    let words: Vec<&str> = ["--call-id", call_id]
        .iter()
        .chain(flags)
        .copied()
        .collect();
    let whole = run(&capture, &words);
    let small = ["--window-bytes=900", "--chunk-bytes=400", "--index-bytes=1"];
    let pieces = run(&capture, &[&words[..], &small].concat());
    assert_eq!(whole.text, pieces.text, "in small pieces");
    assert_eq!(whole.status, pieces.status);
    whole
}

#[track_caller]
fn only(t: &mut Ladder) -> Explained {
    let found = explained(t, "1", &[]);
    assert_eq!(found.status, Some(0), "{}", found.log);
    found
}

/// An address of a NAT, behind which phones give private addresses.
const NAT: SocketAddr = end([198, 51, 100, 7], 5060);
const NAT_MEDIA: SocketAddr = end([198, 51, 100, 7], 4000);
const PRIVATE: SocketAddr = end([10, 0, 0, 5], 4000);

/// A phone behind the NAT calls B, which describes nothing.
fn natted(t: &mut Ladder, at: u64, id: &str) {
    t.sip(at, NAT, B, invite(id).sdp(&Sdp::audio(PRIVATE)));
    t.sip(at + 100, B, NAT, response(200, "INVITE", id));
}

fn natted_ends(t: &mut Ladder, at: u64, id: &str) {
    t.sip(at, NAT, B, request("BYE", id).cseq(9).to_tag("bob"));
    t.sip(at + 20, B, NAT, response(200, "BYE", id).cseq(9));
}

#[test]
fn a_whole_call() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    talk(&mut t, 300);
    hung_up(&mut t, 1_500, "1");
    meanwhile(&mut t, 9_000);
    only(&mut t).says("Nothing is missing.").is_page("call");
}

#[test]
fn a_whole_call_through_a_proxy() {
    let mut t = Ladder::new();
    let sdp = Sdp::audio(A_MEDIA);
    t.sip(0, A, PROXY, invite("1").sdp(&sdp));
    t.sip(1, PROXY, A, response(100, "INVITE", "1"));
    let through = |sip: Sip| sip.header("Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK-p");
    t.sip(2, PROXY, B, through(invite("1").sdp(&sdp)));
    t.sip(502, PROXY, B, through(invite("1").sdp(&sdp)));
    t.sip(600, B, PROXY, through(response(486, "INVITE", "1")));
    t.sip(601, PROXY, A, response(486, "INVITE", "1"));
    t.sip(602, A, PROXY, ack("1"));
    t.rtp(300, STRANGER, A_MEDIA, 9, 1..=3);
    meanwhile(&mut t, 9_000);
    only(&mut t)
        .says("The call was refused: 486 Busy Here, by 198.51.100.1:5060.")
        .says("The INVITE was sent again 1 time")
        .says("gave the destination")
        .is_page("proxy");
}

#[test]
fn a_whole_call_behind_nat() {
    let mut t = Ladder::new();
    t.rtp(0, STRANGER, NAT_MEDIA, 5, 1..=3);
    natted(&mut t, 1_000, "1");
    natted(&mut t, 1_500, "2");
    t.rtp(1_600, NAT_MEDIA, STRANGER, 7, 1..=50);
    natted_ends(&mut t, 3_000, "1");
    natted_ends(&mut t, 3_000, "2");
    meanwhile(&mut t, 19_000);
    only(&mut t)
        .says("guess refused, another call fits as well")
        .says("before the INVITE")
        .says("Message 1 gives the private address 10.0.0.5")
        .is_page("nat");
}

#[test]
fn flows_that_are_taken() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.rtp(500, B_MEDIA, A_MEDIA, 1, 1..=5);
    t.rtp(700, A_MEDIA, STRANGER, 2, 1..=5);
    t.rtp(900, B_MEDIA, OTHER_STRANGER, 3, 1..=5);
    let answer = response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA));
    t.sip(1_500, B, A, answer);
    t.rtp(2_000, B_MEDIA, A_MEDIA, 1, 6..=10);
    hung_up(&mut t, 3_000, "1");
    only(&mut t)
        .says("192.0.2.2:6000 -> 192.0.2.1:4000 5 0.500 to 0.580 RTP PCMA gave the destination")
        .says("192.0.2.1:4000 -> 203.0.113.9:50000 5 0.700 to 0.780 RTP PCMA gave the source")
        .says("192.0.2.2:6000 -> 203.0.113.10:50002 5 0.900 to 0.980 RTP PCMA lookback")
        .says("192.0.2.2:6000 -> 192.0.2.1:4000 5 2.000 to 2.080 RTP PCMA gave both ends");
}

#[test]
fn guesses_that_are_taken() {
    let mut t = Ladder::new();
    natted(&mut t, 0, "1");
    t.rtp(300, NAT_MEDIA, STRANGER, 1, 1..=5);
    natted_ends(&mut t, 1_000, "1");
    only(&mut t)
        .says("198.51.100.7:4000 guessed 0.000 to the end port of message 1 at its sender")
        .says("RTP PCMA a guess: one end");
    let mut t = Ladder::new();
    t.sip(0, NAT, B, invite("1").sdp(&Sdp::audio(PRIVATE)));
    let answer = response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA));
    t.sip(100, B, NAT, answer);
    t.rtp(300, NAT_MEDIA, B_MEDIA, 1, 1..=5);
    only(&mut t).says("gave one end, guessed the other");
}

#[test]
fn guesses_that_are_refused() {
    let mut t = Ladder::new();
    t.sip(0, NAT, B, invite("1").sdp(&Sdp::audio(PRIVATE)));
    let answer = response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA));
    t.sip(100, B, NAT, answer);
    t.rtp(300, NAT_MEDIA, B_MEDIA, 1, 1..=5);
    t.rtp(300, NAT_MEDIA, end([192, 0, 2, 2], 7_000), 2, 1..=5);
    only(&mut t).says("the call gives other ports at the other end's address");
    let mut t = Ladder::new();
    for call in 1..=18_u64 {
        natted(&mut t, call, &call.to_string());
    }
    t.rtp(500, NAT_MEDIA, STRANGER, 1, 1..=5);
    let crowd = explained(&mut t, "^1$", &["--most", "1"]);
    crowd.says("too many calls guess an end of it");
    let mut t = Ladder::new();
    natted(&mut t, 0, "1");
    t.rtp(500, NAT_MEDIA, STRANGER, 1, 1..=750);
    natted(&mut t, 2_000, "2");
    natted_ends(&mut t, 5_000, "1");
    explained(&mut t, "2", &[])
        .says("of call 1: a guess: one end")
        .says("a call that has closed left it running")
        .says("Type --call-id '1' to see it");
}

#[test]
fn packets_outside_the_time_of_the_call() {
    let mut t = Ladder::new();
    t.rtp(0, STRANGER, A_MEDIA, 1, 1..=5);
    t.sip(1_000, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.rtp(1_100, STRANGER, B_MEDIA, 2, 1..=5);
    let answer = response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA));
    t.sip(5_000, B, A, answer);
    talk(&mut t, 5_100);
    hung_up(&mut t, 6_000, "1");
    t.rtp(15_000, STRANGER, A_MEDIA, 3, 1..=5);
    only(&mut t)
        .says("of no call: before the INVITE")
        .says("of no call: too long before the SDP that gives the endpoint")
        .says("type --media-lookback 4s.")
        .says("of no call: after the call closed")
        .says("type --linger 10s.");
    explained(&mut t, "1", &["--media-lookback=4s", "--linger=10s"])
        .says_not("too long before")
        .says_not("after the call closed");
}

#[test]
fn packets_of_other_calls() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    talk(&mut t, 300);
    // The second call gives both ends of a flow at an endpoint of the first.
    answered(&mut t, 2_000, "2", A_MEDIA, C_MEDIA);
    t.rtp(2_500, A_MEDIA, C_MEDIA, 3, 1..=5);
    hung_up(&mut t, 4_000, "1");
    hung_up(&mut t, 20_000, "2");
    t.rtp(18_000, A_MEDIA, C_MEDIA, 3, 6..=10);
    only(&mut t)
        .says("5 2.500 to 2.580 RTP PCMA of call 2: gave both ends")
        .says("and 5 packets in 1 flow, of other calls before or after this one")
        .says("Type --call-id '2' to see it.");
}

#[test]
fn endpoints_that_a_later_call_takes_over() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    talk(&mut t, 300);
    hung_up(&mut t, 1_500, "1");
    t.sip(2_000, A, B, invite("2").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(2_100, B, A, response(486, "INVITE", "2"));
    hung_up(&mut t, 6_000, "1");
    t.rtp(8_000, A_MEDIA, STRANGER, 9, 1..=5);
    only(&mut t)
        .says("then a later call gave it")
        .says("of no call: this call was over, and a later one gave the endpoint");
}

#[test]
fn what_the_sdp_says() {
    let described = |sdp: Sdp| {
        let mut t = Ladder::new();
        t.sip(0, A, B, invite("1").sdp(&sdp));
        let answer = response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA));
        t.sip(100, B, A, answer);
        t.sip(150, A, B, ack("1"));
        talk(&mut t, 300);
        only(&mut t)
    };
    described(Sdp::audio(A_MEDIA).at_host("media.example.com"))
        .says("Message 1 gives the host name media.example.com in place of an address");
    described(Sdp::audio(A_MEDIA).line("a=inactive"))
        .says("Message 1 sets the audio inactive (hold)");
    described(Sdp::audio(A_MEDIA).line("m=video 0 RTP/AVP 31"))
        .says("Message 1 refuses or removes the video (port 0)");
    described(Sdp::audio(A_MEDIA).line("m=video 4200 RTP/AVP 31"))
        .says("No RTP came from or went to 192.0.2.1:4200, which message 1 gives");
    described(Sdp::audio(A_MEDIA).line("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x"))
        .says("The media is encrypted (SRTP, by message 1)");
    described(Sdp::audio(end([0, 0, 0, 0], 4000))).says("the audio is on hold");
}

#[test]
fn sdp_that_is_not_there() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1"));
    t.sip(100, B, A, response(200, "INVITE", "1"));
    only(&mut t)
        .says("No message describes media (SDP)")
        .says("The call was answered and has no RTP")
        .says("The capture ends before the call.");
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, B, A, response(200, "INVITE", "1"));
    t.rtp(300, A_MEDIA, RELAY, 1, 1..=5);
    only(&mut t)
        .says("Only 192.0.2.1:5060 describes media")
        .says("RTP goes one way: from 192.0.2.1:4000 to 198.51.100.7:16400, and none comes back. Look for a firewall");
}

#[test]
fn media_that_goes_elsewhere() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(
        300,
        end([192, 0, 2, 1], 4_444),
        end([192, 0, 2, 2], 6_666),
        1,
        1..=5,
    );
    only(&mut t)
        .says("5 packets of RTP went from 192.0.2.1:4444 to 192.0.2.2:6666 and belong to no call");
}

#[test]
fn one_way_on_purpose() {
    let mut t = Ladder::new();
    let sdp = Sdp::audio(A_MEDIA).line("a=sendonly");
    t.sip(0, A, B, invite("1").sdp(&sdp));
    let answer = response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA));
    t.sip(100, B, A, answer);
    t.rtp(300, A_MEDIA, B_MEDIA, 1, 1..=5);
    only(&mut t).says("none comes back. Message 1 asks for that (sendonly).");
}

#[test]
fn the_signalling() {
    let mut t = Ladder::new();
    t.sip(0, A, B, re_invite("1", 5).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(10, A, B, re_invite("1", 5).sdp(&Sdp::audio(A_MEDIA)));
    meanwhile(&mut t, 400_000);
    only(&mut t)
        .says("The capture begins inside the call")
        .says("No response is in the capture")
        .says("1 message is in the capture twice")
        .says("The call closed because neither SIP nor media came for 5m0s");
    let mut t = Ladder::new();
    for call in 0..4_u64 {
        t.sip(call, A, B, invite(&format!("call-{call}")));
    }
    explained(&mut t, "call-0", &["--max-open-calls=2"])
        .says("The call was given up because more than 2 calls were open");
}

#[test]
fn tls_between_the_hosts() {
    let mut t = Ladder::new();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    let (from, to) = (end([192, 0, 2, 1], 40_000), end([192, 0, 2, 2], 5061));
    let mut connection = Tcp::new(from, to, 1);
    let record = [&[22, 3, 3, 0, 4][..], &[1, 0, 0, 0]].concat();
    connection.send(&mut t.capture, 50, &record);
    only(&mut t).says("TLS runs between 192.0.2.1 and 192.0.2.2 (1 record)");
}

#[test]
fn other_ports_of_sip() {
    let mut t = Ladder::new();
    let (a, b) = (end([192, 0, 2, 1], 5080), end([192, 0, 2, 2], 5080));
    t.sip(0, a, b, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    let missing = explained(&mut t, "1", &["--sip-ports-range=5060-5061"]);
    assert_eq!(missing.status, Some(1));
    missing.says("1 message with this Call-ID, at port 5080, outside --sip-ports-range. Type --sip-ports-range any to use them.");
    t.sip(10, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    explained(&mut t, "1", &["--sip-ports-range=5060-5061"])
        .says("1 message with this Call-ID, at port 5080");
}

#[test]
fn no_such_call() {
    let mut t = Ladder::new();
    for id in ["abc-123@example.com", "abc-124@example.com", "other"] {
        t.sip(0, A, B, invite(id));
    }
    t.sip(10, A, B, request("OPTIONS", "options"));
    let missing = explained(&mut t, "abc-12x@example.com", &[]);
    assert_eq!(missing.status, Some(1));
    missing.is_page("missing");
    let missing = explained(&mut t, "options", &[]);
    assert_eq!(missing.status, Some(1));
    missing.says("The capture has 1 message with it. No INVITE is among them");
    let missing = explained(&mut Ladder::new().clone(), "x", &[]);
    assert_eq!(missing.status, Some(1));
}

#[test]
fn which_calls() {
    let mut t = Ladder::new();
    for id in ["a+b", "aab", "aaab"] {
        t.sip(0, A, B, invite(id));
    }
    let found = |t: &mut Ladder, id: &str, flags: &[&str]| -> Vec<String> {
        let found = explained(t, id, flags);
        let calls = found
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("Call "));
        calls.map(str::to_owned).collect()
    };
    assert_eq!(found(&mut t, "a+b", &[]), ["a+b"], "exactly");
    assert_eq!(found(&mut t, "^a+b$", &[]), ["aab", "aaab"]);
    assert_eq!(found(&mut t, "a+b$", &["--most=1"]), ["aab"]);
    explained(&mut t, "a+b$", &["--most=1"]).says("1 more call matched");
    assert_eq!(
        found(&mut t, "b", &["--columns=60"]),
        ["a+b", "aab", "aaab"]
    );
    let narrow = explained(&mut t, "b", &["--columns=60"]);
    let widest = narrow.text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(60), "{}", narrow.text);
}

#[test]
fn text_off_the_wire_is_printable() {
    let mut t = Ladder::new();
    let id = "x\u{1b}[31m\u{202e}y";
    t.sip(0, A, B, invite(id).from_tag("\u{1b}[2J\u{7}"));
    let found = explained(&mut t, "^x", &[]);
    let is_odd = |char: char| (char.is_control() && char != '\n') || char == '\u{202e}';
    assert!(!found.text.contains(is_odd), "{:?}", found.text);
    found.says("Call x\u{fffd}[31m\u{fffd}y");
}

#[test]
fn usage() {
    let run = |words: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let capture = Capture::default().to_pcap();
        fs::write(folder.path().join("explain"), &capture).unwrap();
        let mut command = extractor();
        command.args(words).current_dir(folder.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), log)
    };
    let (status, log) = run(&["explain"]);
    assert!(status == Some(2) && log.contains("--call-id"), "{log}");
    let (status, log) = run(&["explain", "--call-id", "x"]);
    assert!(status == Some(2) && log.contains("--input-file"), "{log}");
    let (status, log) = run(&["explain", "--call-id", "x", "--watch", "explain"]);
    assert!(status == Some(2) && log.contains("--watch"), "{log}");
    let (status, log) = run(&["explain", "--call-id", "x", "nothing.pcap"]);
    assert!(status == Some(1) && log.contains("nothing.pcap"), "{log}");
    let (status, _) = run(&["explain", "--call-id", "x", "explain"]);
    assert_eq!(status, Some(1), "a file without calls");
    let (status, log) = run(&["./explain", "-o", "out"]);
    assert_eq!(status, Some(0), "a file of that name: {log}");
}

#[test]
fn the_page_shows_an_example() {
    let mut t = Ladder::new();
    t.sip(0, A, B, invite("call-7").sdp(&Sdp::audio(A_MEDIA)));
    t.rtp(100, B_MEDIA, A_MEDIA, 8, 1..=20);
    let answer =
        response(200, "INVITE", "call-7").sdp(&Sdp::audio(B_MEDIA).line("m=video 0 RTP/AVP 31"));
    t.sip(500, B, A, answer);
    t.sip(520, A, B, ack("call-7"));
    t.rtp(520, B_MEDIA, A_MEDIA, 8, 21..=300);
    hung_up(&mut t, 6_500, "call-7");
    t.rtp(12_000, B_MEDIA, A_MEDIA, 8, 301..=310);
    let found = explained(&mut t, "call-7", &[]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/explain.md");
    let page = fs::read_to_string(&path).unwrap();
    let begin = "```console\n$ sip-call-extractor explain --call-id call-7 big.pcap\n";
    let (before, rest) = page.split_once(begin).expect("an example");
    let (shown, after) = rest.split_once("```").unwrap();
    if std::env::var_os("DOCS").is_some_and(|value| value == "write") {
        let text = [before, begin, &found.text, "```", after].concat();
        fs::write(&path, text).unwrap();
        return;
    }
    assert!(
        shown == found.text,
        "run `DOCS=write cargo test --workspace explain`, and commit the page:\n{}",
        found.text
    );
}

#[test]
fn the_messages_of_all_legs_are_in_one_ladder() {
    let header = "X-CID: 0815-4711";
    let mut t = conversations::both([
        &conversations::near(conversations::LEG, header),
        &conversations::far(conversations::OTHER, header),
    ]);
    t.sort();
    let capture = t.capture.to_pcap();
    let got = run(&capture, &["--call-id", "other-leg", "--columns=120"]);
    got.says("Messages of the 2 legs of the conversation")
        .says("1: -0.030 first-leg 2: 0.000 other-leg this call")
        .says("1: INVITE")
        .says("2: 200 OK (BYE)");
    let lanes = got.text.lines().find(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("192.0.2.1") && words.nth(1) == Some("192.0.2.2")
    });
    assert!(lanes.is_some(), "lanes are hosts: {}", got.text);
    let ladder = got.text.split("Messages of the 2 legs").nth(1).unwrap();
    let legs = ladder.lines().filter_map(|line| {
        let is_arrow = line.contains("->|") || line.contains("|<-");
        let leg = ["1:", "2:"].into_iter().find(|leg| line.contains(leg));
        leg.filter(|_| is_arrow)
    });
    let legs: Vec<&str> = legs.collect();
    assert_eq!(
        legs,
        ["1:", "2:", "1:", "1:", "2:", "2:", "1:", "2:", "1:", "2:"],
        "by time: {ladder}"
    );
    run(&capture, &["--call-id", "leg$", "--columns=120"]).says(
        "Messages of the 2 legs of the conversation see call first-leg, which is one of them",
    );
    let mut t = conversations::both([
        &conversations::near(conversations::LEG, ""),
        &conversations::far(conversations::OTHER, ""),
    ]);
    t.sort();
    run(&t.capture.to_pcap(), &["--call-id", "other-leg"]).says_not("legs of the conversation");
}
