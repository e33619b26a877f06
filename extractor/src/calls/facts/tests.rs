use super::*;
use crate::{events::Frames, moment::Moment, packet::Network};

const MS: u64 = 1_000_000;
const A: Endpoint = Endpoint::v4([192, 0, 2, 1], 5060);
const B: Endpoint = Endpoint::v4([192, 0, 2, 2], 5060);

/// A call that hears messages, each with its time in milliseconds.
struct Heard {
    facts: Facts,
    dialogs: Dialogs,
}

fn event(at_ms: u64, source: Endpoint, text: &str) -> SipEvent<'static> {
    let message = Message::parse(text.to_owned().leak().as_bytes())
        .unwrap()
        .unwrap();
    SipEvent {
        at: Moment::at(at_ms),
        frames: Frames::new(),
        timestamp_ns: at_ms * MS,
        told_ns: None,
        network: Network::PLAIN,
        source,
        destination: B,
        message,
        descriptions: Vec::new(),
    }
}

/// A message from `a` to the tag `to`.
fn text(start: &str, to: &str, cseq: &str, more: &str) -> String {
    format!(
        "{start}\r\nVia: SIP/2.0/UDP x;branch=z{cseq}\r\nFrom: <sip:1@x>;tag=a\r\nTo: <sip:2@x>{to}\r\n\
         Call-ID: 1\r\nCSeq: {cseq}\r\n{more}\r\n"
    )
}

fn invite(more: &str) -> String {
    text("INVITE sip:2@x SIP/2.0", "", "1 INVITE", more)
}

fn answer(status: u16, tag: &str, more: &str) -> String {
    let start = format!("SIP/2.0 {status} X");
    text(&start, &format!(";tag={tag}"), "1 INVITE", more)
}

impl Heard {
    fn new(more: &str) -> Self {
        let opening = event(0, A, &invite(more));
        let mut heard = Self {
            facts: Facts::open(&opening),
            dialogs: Dialogs::open(&opening.message),
        };
        heard.facts.note_numbers(&opening.message);
        heard.hear(0, A, &invite(more));
        heard
    }

    fn hear(&mut self, at_ms: u64, source: Endpoint, text: &str) {
        let event = event(at_ms, source, text);
        let milestone = self.dialogs.handle(&event.message);
        self.facts.learn(&event, milestone, &self.dialogs);
    }
}

#[test]
fn an_invite_again_is_not_a_copy_and_not_the_other_side_of_a_proxy() {
    let mut call = Heard::new("");
    let other_branch = invite("").replace("branch=z", "branch=y");
    for (at_ms, source, text, want) in [
        (3, A, invite(""), 0),
        (5, B, other_branch.clone(), 0),
        (500, A, invite(""), 1),
        (502, A, invite(""), 1),
        (505, B, other_branch, 2),
        (600, B, invite(""), 2),
        (1_500, A, invite(""), 3),
    ] {
        call.hear(at_ms, source, &text);
        assert_eq!(call.facts.retransmitted_invites, want, "{at_ms}");
    }
    for branch in 0..MAX_INVITES * 2 {
        call.hear(
            9_000,
            A,
            &invite("").replace("branch=z", &format!("branch={branch}")),
        );
    }
    assert_eq!(call.facts.invites.len(), MAX_INVITES);
}

#[test]
fn the_callee_is_the_phone_that_answers() {
    let mut call = Heard::new("User-Agent: caller/1\r\n");
    call.hear(10, B, &answer(407, "proxy", "Server: proxy/1\r\n"));
    assert_eq!(call.facts.callee_agent(), Some(&b"proxy/1"[..]));
    call.hear(20, B, &answer(180, "one", "User-Agent: one/1\r\n"));
    assert_eq!(call.facts.callee_agent(), Some(&b"one/1"[..]));
    call.hear(30, B, &answer(180, "two", "User-Agent: two/1\r\n"));
    assert_eq!(call.facts.callee_agent(), Some(&b"one/1"[..]));
    call.hear(40, B, &answer(200, "two", ""));
    assert_eq!(call.facts.callee_agent(), None, "the other one rang");
    call.hear(45, B, &answer(200, "one", "User-Agent: one/1\r\n"));
    assert_eq!(call.facts.callee_agent(), None, "it answered too late");
    let bye = text("BYE sip:1@x SIP/2.0", "", "7 BYE", "User-Agent: two/2\r\n");
    let bye = bye
        .replace("From: <sip:1@x>;tag=a", "From: <sip:2@x>;tag=two")
        .replace("To: <sip:2@x>", "To: <sip:1@x>;tag=a");
    call.hear(50, B, &bye);
    assert_eq!(call.facts.callee_agent(), Some(&b"two/2"[..]));
    assert_eq!(call.facts.caller_agent.as_deref(), Some(&b"caller/1"[..]));
    assert_eq!(call.facts.hang_up, None, "the other phone is still there");
}

#[test]
fn long_values_are_cut() {
    let many: String = (0..50)
        .map(|n| format!("Diversion: <tel:{n}77>\r\n"))
        .collect();
    let digits = "7".repeat(MAX_DIGITS + 1);
    let call = Heard::new(&format!(
        "P-Asserted-Identity: <tel:{digits}>\r\n{many}User-Agent: {}\r\n",
        "x".repeat(5_000)
    ));
    assert_eq!(call.facts.caller_agent.unwrap().len(), MAX_AGENT_LEN);
    assert_eq!(call.facts.numbers.len(), MAX_NUMBERS);
}

#[test]
fn numbers_beside_those_of_from_and_to() {
    let call = Heard::new(
        "P-Asserted-Identity: \"A, B\" <sip:+49-30-1@x;user=phone>, <tel:+49301>\r\n\
         Diversion: <sip:0049302@x>;reason=busy, <sip:1@x>\r\n",
    );
    let numbers: Vec<&[u8]> = call.facts.numbers.iter().map(|number| &**number).collect();
    assert_eq!(numbers, [&b"49301"[..], b"49302"]);
}

#[test]
fn a_reason_is_that_of_the_end() {
    let reason = |call: &Heard| {
        let reason = call.facts.reason.as_ref()?;
        Some(String::from_utf8(reason.to_bytes()).unwrap())
    };
    let mut call = Heard::new("");
    call.hear(10, B, &answer(503, "b", "Reason: Q.850;cause=38\r\n"));
    assert_eq!(reason(&call).as_deref(), Some("Q.850 38"));
    let again = text("INVITE sip:2@x SIP/2.0", "", "2 INVITE", "");
    call.hear(20, A, &again);
    let cancel = text(
        "CANCEL sip:2@x SIP/2.0",
        "",
        "2 CANCEL",
        "Reason: SIP;cause=200\r\n",
    );
    call.hear(
        30,
        A,
        &cancel.replace("branch=z2 CANCEL", "branch=z2 INVITE"),
    );
    call.hear(40, B, &answer(487, "b", "").replace("1 INVITE", "2 INVITE"));
    assert_eq!(reason(&call).as_deref(), Some("SIP 200"));
    assert!(call.facts.is_cancelled);
    call.hear(50, B, &answer(200, "b", "").replace("1 INVITE", "2 INVITE"));
    assert_eq!(reason(&call), None, "the answer crossed the CANCEL");
    assert_eq!(call.facts.answered_ns, Some(50 * MS));
    let bye = text(
        "BYE sip:2@x SIP/2.0",
        ";tag=b",
        "3 BYE",
        "Reason: Q.850;cause=16\r\n",
    );
    call.hear(60, A, &bye);
    assert_eq!(reason(&call).as_deref(), Some("Q.850 16"));
    call.hear(90, A, &bye.replace("cause=16", "cause=1"));
    assert_eq!(reason(&call).as_deref(), Some("Q.850 16"), "a repeated BYE");
    let at_ns = 60 * MS;
    let by = Side::Caller;
    assert_eq!(call.facts.hang_up, Some(HangUp { at_ns, by }));
}
