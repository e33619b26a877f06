//! Legs of one call with Call-IDs of their own, and calls that only look like it.

use super::*;

pub(super) const LEG: &str = "first-leg";
pub(super) const OTHER: &str = "other-leg";
pub(super) const SBC: SocketAddr = end([198, 51, 100, 1], 5080);
pub(super) const NEXT_RELAY: SocketAddr = end([198, 51, 100, 7], 16_402);

/// A leg with its own media.
pub(super) struct Leg<'a> {
    pub id: &'a str,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub media: (SocketAddr, SocketAddr),
    pub header: &'a str,
}

/// The leg from A to the border element.
pub(super) fn near(id: &'static str, header: &'static str) -> Leg<'static> {
    Leg {
        id,
        from: A,
        to: PROXY,
        media: (A_MEDIA, RELAY),
        header,
    }
}

/// The leg from the border element to B.
pub(super) fn far(id: &'static str, header: &'static str) -> Leg<'static> {
    Leg {
        id,
        from: SBC,
        to: B,
        media: (NEXT_RELAY, B_MEDIA),
        header,
    }
}

fn with(message: Sip, header: &str) -> Sip {
    if header.is_empty() {
        message
    } else {
        message.header(header)
    }
}

/// Draws a leg that is answered.
pub(super) fn begun(t: &mut Ladder, at: u64, leg: &Leg<'_>) {
    let &Leg {
        id,
        from,
        to,
        media: (mine, theirs),
        header,
    } = leg;
    let invite = invite(id).sdp(&Sdp::audio(mine));
    t.sip(at, from, to, with(invite, header));
    let ok = response(200, "INVITE", id).sdp(&Sdp::audio(theirs));
    t.sip(at + 200, to, from, ok);
    t.sip(at + 220, from, to, ack(id));
}

pub(super) fn ended(t: &mut Ladder, at: u64, leg: &Leg<'_>) {
    let bye = request("BYE", leg.id).cseq(9).to_tag("bob");
    t.sip(at, leg.from, leg.to, bye);
    t.sip(
        at + 20,
        leg.to,
        leg.from,
        response(200, "BYE", leg.id).cseq(9),
    );
}

/// Draws two legs at once.
pub(super) fn both(legs: [&Leg<'_>; 2]) -> Ladder {
    let mut t = ladder();
    begun(&mut t, 0, legs[0]);
    begun(&mut t, 30, legs[1]);
    ended(&mut t, 5_000, legs[0]);
    ended(&mut t, 5_010, legs[1]);
    t
}

fn of<'a>(out: &'a Extracted, id: &str, column: &str) -> &'a str {
    let row = out.calls.iter().find(|row| row.get("call_id") == id);
    row.unwrap().get(column)
}

/// Checks the links of calls: Call-ID, links. All are one conversation.
#[track_caller]
fn are_one(t: &mut Ladder, links: &[(&str, &str)]) {
    let out = extracted(t);
    for (id, want) in links {
        assert_eq!(of(&out, id, "conversation_links"), *want, "{id}");
        assert_eq!(
            of(&out, id, "conversation_id"),
            of(&out, links[0].0, "conversation_id"),
            "{id}"
        );
    }
    let first = of(&out, links[0].0, "output_pcap_filename");
    let named = format!("call_{}.pcap", of(&out, links[0].0, "conversation_id"));
    assert_eq!(first, named, "the name is that of the earliest leg");
}

/// Checks that no call is linked with another.
#[track_caller]
fn are_apart(t: &mut Ladder) {
    let out = extracted(t);
    let mut names = std::collections::BTreeSet::new();
    for row in &out.calls {
        row.has("conversation_links", "");
        assert!(names.insert(row.get("conversation_id")), "{row:?}");
    }
    assert!(out.calls.len() > 1);
}

#[test]
fn one_value_in_both_legs() {
    for (header, other, reason) in [
        (
            "Session-ID: 47755a9de7794ba387653f2099600ef2;remote=00000000000000000000000000000000",
            "Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=47755A9DE7794BA387653F2099600EF2",
            "session-id",
        ),
        (
            "P-Charging-Vector: icid-value=\"1234bc9876e\";orig-ioi=home1.example",
            "P-Charging-Vector: icid-generated-at=192.0.2.9; icid-value=1234bc9876e",
            "icid",
        ),
        ("X-CID: 0815-4711", "x-cid: 0815-4711", "x-cid"),
        ("", "X-Call-ID: first-leg", "x-call-id"),
        (
            "",
            "Replaces: first-leg;to-tag=bob;from-tag=alice",
            "replaces",
        ),
        (
            "",
            "Target-Dialog: first-leg;local-tag=alice",
            "target-dialog",
        ),
    ] {
        let mut t = both([&near(LEG, header), &far(OTHER, other)]);
        are_one(
            &mut t,
            &[
                (LEG, &format!("{reason}:{OTHER}")),
                (OTHER, &format!("{reason}:{LEG}")),
            ],
        );
    }
}

#[test]
fn a_header_field_that_a_flag_names() {
    let mut t = both([
        &near(LEG, "X-Leg: abcdefgh"),
        &far(OTHER, "X-Leg: abcdefgh"),
    ]);
    are_apart(&mut t);
    let links = [(LEG, "x-leg:other-leg"), (OTHER, "x-leg:first-leg")];
    are_one(&mut t.flag("--conversation-header=X-LEG"), &links);
}

#[test]
fn one_call_id_in_the_other() {
    let (id, other) = ("0123456789ab@host", "SBC-1-0123456789ab@host");
    let mut t = both([&near(id, ""), &far(other, "")]);
    are_one(
        &mut t,
        &[
            (id, &format!("call-id-part:{other}")),
            (other, &format!("call-id-part:{id}")),
        ],
    );
    for other in ["SBC0123456789ab@host", "x-0123456789ab@host-more"] {
        are_apart(&mut both([&near(id, ""), &far(other, "")]));
    }
}

#[test]
fn a_short_call_id_in_the_other_is_none() {
    are_apart(&mut both([&near("12345", ""), &far("SBC-12345", "")]));
    are_apart(&mut both([
        &near("gateway.example.com", ""),
        &far("7777@gateway.example.com", ""),
    ]));
}

#[test]
fn a_transfer_with_consultation() {
    let (one, two) = (near(LEG, ""), far(OTHER, ""));
    let mut t = both([&one, &two]);
    let refer = request("REFER", LEG).cseq(2).to_tag("bob");
    let refer = refer.header(
        "Refer-To: <sip:bob@example.com?Replaces=other-leg%3Bto-tag%3Dbob%3Bfrom-tag%3Dalice>",
    );
    t.sip(3_000, A, PROXY, refer);
    are_one(
        &mut t,
        &[(LEG, "refer-to:other-leg"), (OTHER, "refer-to:first-leg")],
    );
}

#[test]
fn a_transfer_that_names_itself() {
    let referred = "Referred-By: <sip:alice@example.com>;cid=\"20398823.2UWQ@example.com\"";
    let one = near(LEG, "");
    let mut t = ladder();
    begun(&mut t, 0, &one);
    let refer = request("REFER", LEG).cseq(2).to_tag("bob");
    let refer = refer.header("Refer-To: <sip:carol@example.com>");
    t.sip(3_000, A, PROXY, refer.header(referred));
    ended(&mut t, 4_000, &one);
    // The first leg has its row when the transfer's call begins.
    let two = Leg {
        header: referred,
        ..far(OTHER, "")
    };
    begun(&mut t, 60_000, &two);
    ended(&mut t, 70_000, &two);
    are_one(&mut t, &[(LEG, ""), (OTHER, "referred-by:first-leg")]);
}

#[test]
fn media_that_pass_unchanged() {
    let media = (A_MEDIA, B_MEDIA);
    let (one, two) = (
        Leg {
            media,
            ..near(LEG, "")
        },
        Leg {
            media,
            ..far(OTHER, "")
        },
    );
    let links = [(LEG, "media:other-leg"), (OTHER, "media:first-leg")];
    are_one(&mut both([&one, &two]), &links);
}

#[test]
fn ports_that_are_used_again_are_none() {
    let (one, two) = (near(LEG, ""), near(OTHER, ""));
    let mut t = ladder();
    begun(&mut t, 0, &one);
    ended(&mut t, 2_000, &one);
    begun(&mut t, 3_000, &two);
    ended(&mut t, 5_000, &two);
    are_apart(&mut t);
}

#[test]
fn one_end_of_the_media_is_not_enough() {
    let two = Leg {
        media: (RELAY, B_MEDIA),
        ..far(OTHER, "")
    };
    are_apart(&mut both([&near(LEG, ""), &two]));
}

#[test]
fn the_same_numbers_only_with_the_flag() {
    let numbers = |t: &mut Ladder| {
        for (at, id, from, to) in [(0, LEG, A, PROXY), (900, OTHER, PROXY, B)] {
            let mut message = invite(id);
            message.from = "<sip:+4930111@example.com>;tag=alice".to_owned();
            message.to = "<sip:004930222@example.com>".to_owned();
            t.sip(at, from, to, message);
        }
    };
    let mut t = ladder();
    numbers(&mut t);
    are_apart(&mut t);
    let links = [(LEG, "numbers:other-leg"), (OTHER, "numbers:first-leg")];
    are_one(&mut t.flag("--conversation-numbers=1s"), &links);
    are_apart(&mut t.flag("--conversation-numbers=800ms"));
}

#[test]
fn a_constant_is_none() {
    for (header, calls) in [
        ("P-Charging-Vector: icid-value=always-the-same", 40),
        ("X-CID: 1", 3),
        ("X-CID: 000-0000-000", 3),
        ("Session-ID: 00000000000000000000000000000000", 3),
        ("History-Info: <sip:bob@example.com>;index=1", 3),
    ] {
        let mut t = ladder();
        for call in 0..calls {
            let message = invite(&format!("call-{call}")).header(header);
            t.sip(call * 10, A, PROXY, message.clone());
            // A retransmission, and a registration with the same value.
            t.sip(call * 10 + 500, A, PROXY, message);
            let register = request("REGISTER", "registration").header(header);
            t.sip(call * 10 + 5, A, PROXY, register);
        }
        are_apart(&mut t);
    }
}

#[test]
fn three_legs_whose_first_is_long_over() {
    let value = "X-CID: 0815-4711";
    let (one, two) = (near(LEG, value), far(OTHER, value));
    let three = Leg {
        from: B,
        to: C,
        media: (B_MEDIA, C_MEDIA),
        ..far("third-leg", "Replaces: other-leg;to-tag=1;from-tag=2")
    };
    let mut t = ladder().flag("--call-timeout=0s");
    begun(&mut t, 0, &one);
    begun(&mut t, 10, &two);
    ended(&mut t, 5_000, &one);
    // The first leg is forgotten, its name is not.
    begun(&mut t, 900_000, &three);
    ended(&mut t, 901_000, &two);
    ended(&mut t, 902_000, &three);
    are_one(
        &mut t,
        &[
            (LEG, "x-cid:other-leg"),
            (OTHER, "replaces:third-leg"),
            ("third-leg", "replaces:other-leg"),
        ],
    );
}

#[test]
fn a_call_that_is_named_long_after_its_end_is_forgotten() {
    let (one, two) = (near(LEG, ""), far(OTHER, "X-CID: first-leg"));
    let mut t = ladder();
    begun(&mut t, 0, &one);
    ended(&mut t, 1_000, &one);
    begun(&mut t, 607_000, &two);
    ended(&mut t, 608_000, &two);
    are_apart(&mut t);
}
