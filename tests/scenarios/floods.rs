//! More calls than anybody makes: floods of INVITEs, and scanners.

use support::desk::assert_same;

use super::*;

const ATTACKER: SocketAddr = end([203, 0, 113, 66], 5060);

fn floods(t: &mut Ladder, calls: usize, from_ms: u64) {
    for call in 0..calls {
        let at = from_ms + call as u64;
        t.sip(
            at,
            ATTACKER,
            B,
            invite(&format!("flood-{call}")).sdp(&Sdp::audio(OTHER_STRANGER)),
        );
        t.sip(
            at,
            B,
            ATTACKER,
            response(100, "INVITE", &format!("flood-{call}")),
        );
    }
}

/// A flood while two calls talk: these stay, and so do the latest calls of the flood, which may
/// still be answered.
#[test]
fn beyond_the_most_the_oldest_call_that_nobody_answered_is_given_up() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.sip(230, C, B, invite("2").sdp(&Sdp::audio(C_MEDIA)));
    t.sip(240, B, C, response(180, "INVITE", "2"));
    floods(&mut t, 40, 300);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=100);
    hung_up(&mut t, 4_000, "1");
    t = t.flag("--max-open-calls").flag("10");
    let out = t.extract();
    out.call("1").is("completed").has_rtp(7, 1..=100);
    out.call("2").is("incomplete");
    for call in 0..40 {
        let found = out.call(&format!("flood-{call}"));
        // With the two calls, eight of the flood may be open.
        if call < 32 {
            found.is("flood");
            assert_eq!(found.row.get("output_pcap_filename"), "");
        } else {
            found.is("incomplete").has_sip(2);
        }
    }
    assert_eq!(pcaps(&out), 10);
    assert!(
        out.log.contains("most INVITEs: 32 from 203.0.113.66"),
        "{}",
        out.log
    );
    assert!(
        out.log
            .contains("32   calls given up: more than --max-open-calls were open"),
        "{}",
        out.log
    );
    let small = t
        .flag("--window-bytes")
        .flag("900")
        .flag("--unit-bytes")
        .flag("1")
        .extract_as_drawn();
    assert_same(&out.files(), &small.files(), "in small windows");
}

fn pcaps(out: &Extracted) -> usize {
    out.files()
        .keys()
        .filter(|name| name.ends_with(".pcap"))
        .count()
}

/// Scanners send a message and go. Their rows stay.
#[test]
fn calls_with_few_messages_get_no_file() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    hung_up(&mut t, 2_000, "1");
    t.sip(100, ATTACKER, B, invite("scan"));
    t.sip(120, B, ATTACKER, response(404, "INVITE", "scan"));
    meanwhile(&mut t, 60_000);
    let none = t.extract();
    none.call("scan").has_sip(2);
    let t = t.flag("--min-messages").flag("3");
    let out = t.extract_as_drawn();
    out.call("1").is("completed").has_sip(6);
    out.call("scan")
        .is("failed")
        .has("output_pcap_filename", "")
        .has("sip_packet_count", "2");
    assert!(out.log.contains("1   calls have rows only"), "{}", out.log);
    assert_eq!(pcaps(&out), 1);
    let small = t
        .flag("--window-bytes")
        .flag("300")
        .flag("--unit-bytes")
        .flag("1")
        .extract_as_drawn();
    assert_same(&out.files(), &small.files(), "in small windows");
}
