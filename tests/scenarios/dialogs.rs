//! Dialogs and attempts with one Call-ID: forks, back-to-back user agents, messages of strangers.

use super::*;

/// A leg of a back-to-back user agent with the Call-ID of the call: its own From tag and
/// transaction.
fn leg(method: &str, tag: &str) -> Sip {
    request(method, "1")
        .from_tag(tag)
        .branch(&format!("{method}-{tag}"))
}

fn leg_answer(status: u16, method: &str, tag: &str) -> Sip {
    response(status, method, "1")
        .from_tag(tag)
        .to_tag(&format!("{tag}-callee"))
        .branch(&format!("{method}-{tag}"))
}

#[test]
fn a_fork_that_is_hung_up_on_does_not_end_the_other() {
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    for (at, tag, media) in [(1_000, "bob", B_MEDIA), (1_100, "carol", C_MEDIA)] {
        t.sip(
            at,
            PROXY,
            A,
            response(200, "INVITE", "1")
                .to_tag(tag)
                .sdp(&Sdp::audio(media)),
        );
        t.sip(at + 20, A, PROXY, request("ACK", "1").to_tag(tag));
    }
    t.sip(1_200, A, PROXY, request("BYE", "1").cseq(2).to_tag("carol"));
    t.sip(
        1_220,
        PROXY,
        A,
        response(200, "BYE", "1").cseq(2).to_tag("carol"),
    );
    t.rtp(1_300, A_MEDIA, B_MEDIA, 7, 1..=1_500);
    t.sip(31_500, B, A, request("BYE", "1").cseq(1).from_callee());
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(8)
        .has_rtp(7, 1..=1_500);
}

#[test]
fn a_bye_with_foreign_tags_changes_nothing() {
    for status in [481, 401, 403, 407, 200] {
        let mut t = ladder();
        answered(&mut t, 0, "1", A_MEDIA, B_MEDIA);
        t.sip(
            1_000,
            C,
            B,
            request("BYE", "1")
                .cseq(7)
                .from_tag("mallory")
                .to_tag("nobody"),
        );
        t.sip(
            1_020,
            B,
            C,
            response(status, "BYE", "1")
                .cseq(7)
                .from_tag("mallory")
                .to_tag("nobody"),
        );
        t.rtp(300, A_MEDIA, B_MEDIA, 7, 1..=1_000);
        hung_up(&mut t, 22_000, "1");
        t.extract()
            .only_call()
            .is("completed")
            .has_sip(8)
            .has_rtp(7, 1..=1_000);
    }
}

#[test]
fn a_bye_with_foreign_tags_while_it_rings_changes_nothing() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, B, A, response(180, "INVITE", "1"));
    t.sip(
        1_000,
        C,
        B,
        request("BYE", "1")
            .cseq(7)
            .from_tag("mallory")
            .to_tag("nobody"),
    );
    t.sip(
        1_020,
        B,
        C,
        response(481, "BYE", "1")
            .cseq(7)
            .from_tag("mallory")
            .to_tag("nobody"),
    );
    t.sip(
        20_000,
        B,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.rtp(20_100, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 22_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(7)
        .has_rtp(7, 1..=50);
}

#[test]
fn a_refused_leg_of_a_ring_group_ends_nothing_else() {
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(10, PROXY, B, leg("INVITE", "s1").sdp(&Sdp::audio(RELAY)));
    t.sip(20, PROXY, C, leg("INVITE", "s2").sdp(&Sdp::audio(RELAY)));
    t.sip(100, C, PROXY, leg_answer(486, "INVITE", "s2"));
    t.sip(
        10_000,
        B,
        PROXY,
        leg_answer(200, "INVITE", "s1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(
        10_010,
        PROXY,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(RELAY)),
    );
    t.rtp(10_100, A_MEDIA, RELAY, 7, 1..=50);
    t.rtp(10_105, RELAY, B_MEDIA, 8, 1..=50);
    hung_up(&mut t, 12_000, "1");
    t.rtp(12_100, RELAY, B_MEDIA, 9, 1..=500);
    t.sip(22_500, PROXY, B, leg("BYE", "s1").to_tag("s1-callee"));
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(9);
    out.only_call()
        .has_rtp(7, 1..=50)
        .has_rtp(8, 1..=50)
        .has_rtp(9, 1..=500);
}

#[test]
fn a_leg_that_fails_for_good_ends_with_its_callers_status() {
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(10, PROXY, B, leg("INVITE", "s1"));
    t.sip(100, B, PROXY, leg_answer(603, "INVITE", "s1"));
    t.sip(110, PROXY, A, response(486, "INVITE", "1"));
    meanwhile(&mut t, 20_000);
    t.extract()
        .only_call()
        .is("failed")
        .has("final_status", "486")
        .has_sip(4);
}

#[test]
fn a_leg_that_is_cancelled_ends_nothing_else() {
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(10, PROXY, B, leg("INVITE", "s1"));
    t.sip(15, B, PROXY, leg_answer(180, "INVITE", "s1"));
    t.sip(
        5_000,
        PROXY,
        B,
        request("CANCEL", "1").from_tag("s1").branch("INVITE-s1"),
    );
    t.sip(5_010, B, PROXY, leg_answer(487, "INVITE", "s1"));
    t.sip(
        15_000,
        PROXY,
        A,
        response(200, "INVITE", "1").sdp(&Sdp::audio(RELAY)),
    );
    t.rtp(15_100, A_MEDIA, RELAY, 7, 1..=50);
    hung_up(&mut t, 17_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(8)
        .has_rtp(7, 1..=50);
}

#[test]
fn the_caller_may_hang_up_on_an_early_dialog_and_go_on_with_another() {
    let mut t = ladder();
    t.sip(0, A, PROXY, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(
        100,
        PROXY,
        A,
        response(183, "INVITE", "1")
            .to_tag("bob")
            .sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(
        200,
        PROXY,
        A,
        response(183, "INVITE", "1")
            .to_tag("carol")
            .sdp(&Sdp::audio(C_MEDIA)),
    );
    t.sip(1_000, A, PROXY, request("BYE", "1").cseq(2).to_tag("carol"));
    t.sip(11_000, PROXY, A, response(200, "INVITE", "1").to_tag("bob"));
    t.rtp(11_100, A_MEDIA, B_MEDIA, 7, 1..=50);
    hung_up(&mut t, 13_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(7)
        .has_rtp(7, 1..=50);
}

#[test]
fn a_bye_ends_a_call_whose_answer_was_not_captured() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.rtp(300, STRANGER, A_MEDIA, 7, 1..=50);
    t.sip(3_000, B, A, request("BYE", "1").from_callee());
    meanwhile(&mut t, 60_000);
    let out = t.extract();
    out.only_call()
        .is("completed")
        .has("final_status", "")
        .has_sip(2)
        .has_rtp(7, 1..=50);
}

#[test]
fn phones_without_tags() {
    let mut t = ladder();
    let untagged = |mut message: Sip| {
        message.from = "<sip:alice@example.com>".to_owned();
        message.to = "<sip:bob@example.com>".to_owned();
        message
    };
    t.sip(0, A, B, untagged(invite("1").sdp(&Sdp::audio(A_MEDIA))));
    t.sip(
        100,
        B,
        A,
        untagged(response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA))),
    );
    t.rtp(200, A_MEDIA, B_MEDIA, 7, 1..=50);
    t.sip(3_000, A, B, untagged(request("BYE", "1").cseq(2)));
    meanwhile(&mut t, 60_000);
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(3)
        .has_rtp(7, 1..=50);
}

#[test]
fn a_password_may_take_a_minute() {
    for status in [401, 407] {
        let mut t = ladder();
        t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
        t.sip(20, B, A, response(status, "INVITE", "1"));
        t.sip(40, A, B, ack("1"));
        t.sip(51_000, A, B, invite("1").cseq(2).sdp(&Sdp::audio(A_MEDIA)));
        t.sip(
            52_000,
            B,
            A,
            response(200, "INVITE", "1")
                .cseq(2)
                .sdp(&Sdp::audio(B_MEDIA)),
        );
        t.rtp(52_100, A_MEDIA, B_MEDIA, 7, 1..=50);
        hung_up(&mut t, 54_000, "1");
        t.extract()
            .only_call()
            .is("completed")
            .has("final_status", "200")
            .has_sip(7)
            .has_rtp(7, 1..=50);
    }
}

#[test]
fn a_challenge_that_was_not_captured() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1").sdp(&Sdp::audio(A_MEDIA)));
    t.sip(100, A, B, invite("1").cseq(2).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(200, B, A, response(486, "INVITE", "1").cseq(2));
    meanwhile(&mut t, 60_000);
    t.extract()
        .only_call()
        .is("failed")
        .has("final_status", "486")
        .has_sip(3);
}

#[test]
fn sequence_numbers_of_any_length() {
    let long = "99999999999999999999999";
    let renumbered = |message: Sip, method: &str| message.with_cseq(&format!("{long} {method}"));
    let mut t = ladder();
    t.sip(0, A, B, renumbered(invite("1"), "INVITE"));
    t.sip(
        100,
        B,
        A,
        renumbered(response(180, "INVITE", "1"), "INVITE"),
    );
    t.sip(
        200,
        B,
        A,
        renumbered(response(486, "INVITE", "1"), "INVITE"),
    );
    t.sip(220, A, B, renumbered(ack("1"), "ACK"));
    t.extract()
        .only_call()
        .is("failed")
        .has("final_status", "486")
        .has_sip(4);
}

// Messages that come before their INVITE.

#[test]
fn an_answer_ahead_of_its_invite_counts() {
    let mut t = ladder();
    t.sip(0, B, A, response(404, "INVITE", "1"));
    t.sip(1, A, B, invite("1"));
    t.sip(20, A, B, ack("1"));
    meanwhile(&mut t, 20_000);
    let out = t.extract();
    out.only_call()
        .is("failed")
        .has("final_status", "404")
        .has_sip(3);
    out.only_call()
        .has("start_timestamp", "2023-12-01T14:30:22.124456Z");
}

#[test]
fn a_description_ahead_of_its_invite_counts() {
    let mut t = ladder();
    t.sip(
        0,
        B,
        A,
        response(183, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)),
    );
    t.sip(1, A, B, invite("1"));
    t.rtp(100, STRANGER, B_MEDIA, 7, 1..=50);
    t.sip(500, B, A, response(200, "INVITE", "1"));
    hung_up(&mut t, 3_000, "1");
    t.extract()
        .only_call()
        .is("completed")
        .has_sip(5)
        .has_rtp(7, 1..=50);
}

#[test]
fn messages_long_before_the_invite_do_not_count() {
    let mut t = ladder();
    t.sip(0, B, A, response(404, "INVITE", "1"));
    t.sip(2_001, A, B, invite("1"));
    t.sip(2_100, B, A, response(180, "INVITE", "1"));
    t.extract()
        .only_call()
        .is("incomplete")
        .has("final_status", "")
        .has_sip(2);
}

#[test]
fn the_end_of_the_call_before_does_not_end_the_next() {
    let mut t = ladder();
    t.sip(
        0,
        A,
        B,
        request("BYE", "1").cseq(4).from_tag("old").to_tag("older"),
    );
    t.sip(
        20,
        B,
        A,
        response(200, "BYE", "1")
            .cseq(4)
            .from_tag("old")
            .to_tag("older"),
    );
    t.sip(500, A, B, invite("1").cseq(5).sdp(&Sdp::audio(A_MEDIA)));
    t.sip(600, B, A, response(180, "INVITE", "1").cseq(5));
    t.rtp(20_000, STRANGER, A_MEDIA, 7, 1..=50);
    t.extract()
        .only_call()
        .is("incomplete")
        .has_sip(4)
        .has_rtp(7, 1..=50);
}

#[test]
fn a_bye_ahead_of_the_answer_ends_the_call() {
    let mut t = ladder();
    t.sip(0, A, B, invite("1"));
    t.sip(100, A, B, request("BYE", "1").cseq(2).to_tag("bob"));
    t.sip(101, B, A, response(200, "INVITE", "1"));
    meanwhile(&mut t, 60_000);
    t.extract()
        .only_call()
        .is("completed")
        .has("final_status", "200")
        .has_sip(3);
}
