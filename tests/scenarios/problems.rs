//! The problems of a call.

use super::*;

#[test]
fn problems_of_a_stream_by_their_thresholds() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=100);
    // 25 of 100 are lost, and every other packet is 100 ms late.
    for sequence in (1..=100).filter(|sequence| sequence % 4 != 2) {
        let late = u64::from(sequence % 2) * 100;
        packet(
            &mut t,
            300 + u64::from(sequence) * 20 + late,
            B_MEDIA,
            A_MEDIA,
            8,
            sequence,
        );
    }
    hung_up(&mut t, 4_000, "1");
    let row = extracted(&mut t).streams[1].clone();
    let value = |column: &str| row.get(column).parse::<f64>().unwrap();
    row.has("loss_percent", "25.00");
    assert!(
        value("mean_jitter_ms") > 35.0 && value("mos") < 2.5,
        "{row:?}"
    );
    has(&mut t, &["problems=loss jitter mos"]);
    has(&mut t.flag("--problem-loss=50"), &["problems=jitter mos"]);
    has(&mut t.flag("--problem-jitter=1s"), &["problems=loss mos"]);
    has(&mut t.flag("--problem-mos=1"), &["problems=loss jitter"]);
    // At the threshold it is no problem, above it is one.
    has(
        &mut t.flag("--problem-loss=25").flag("--problem-jitter=1s"),
        &["problems=mos"],
    );
    has(
        &mut t.flag("--problem-loss=24.99").flag("--problem-jitter=1s"),
        &["problems=loss mos"],
    );
}

#[test]
fn sound_in_one_direction_through_a_relay() {
    let mut t = ladder();
    answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
    let relay_out = end([198, 51, 100, 7], 16_402);
    t.rtp(300, A_MEDIA, RELAY, 7, 1..=50);
    t.rtp(301, relay_out, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 4_000, "1");
    has(
        &mut t,
        &["one_way=true", "no_media=false", "problems=one-way"],
    );
}

#[test]
fn early_media_only() {
    for (end, state, problems) in [
        // The caller hears that it rings.
        (487, "cancelled", ""),
        (404, "failed", "early-media-only"),
        // The answer, and no sound after it.
        (200, "completed", "one-way early-media-only"),
        // Nobody knows whether an answer was lost.
        (0, "incomplete", ""),
    ] {
        let mut t = ladder();
        t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
        t.sip(
            100,
            B,
            A,
            response(183, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
        );
        t.rtp(200, B_MEDIA, A_MEDIA, 8, 1..=50);
        if end > 0 {
            t.sip(3_000, B, A, response(end, "INVITE", "1"));
        }
        if end == 200 {
            hung_up(&mut t, 9_000, "1");
        }
        let problems = format!("problems={problems}");
        has(&mut t, &[&format!("state={state}"), &problems]);
    }
}

#[test]
fn a_retransmitted_invite() {
    let inner = || {
        let via = "Via: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK-inner";
        invite("1").branch("inner").header(via)
    };
    for (again_at, problems) in [
        // Mirror ports deliver a packet twice.
        (4, "problems="),
        (50, "problems="),
        (51, "problems=retransmitted-invite"),
        (500, "problems=retransmitted-invite"),
    ] {
        let mut t = ladder();
        t.sip(0, A, PROXY, invite("1"));
        t.sip(2, PROXY, B, inner());
        t.sip(again_at, A, PROXY, invite("1"));
        t.sip(600, B, PROXY, response(486, "INVITE", "1"));
        has(&mut t, &[problems]);
    }
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("1"));
    t.sip(200, PROXY, B, inner());
    t.sip(700, PROXY, B, inner());
    has(&mut t, &["problems=retransmitted-invite"]);
}
