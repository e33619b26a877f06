//! Many calls at one endpoint: media servers with one port for all calls, load generators, and
//! strangers that send to it.

use std::collections::BTreeMap;

use support::{desk::assert_same, dice::Dice};

use super::{networks::vlan, *};

const SERVER: SocketAddr = end([198, 51, 100, 40], 10_000);
const CALLS: u64 = 20;

fn client(call: u64) -> SocketAddr {
    end([192, 0, 2, 10], 20_000 + 2 * call as u16)
}

fn stranger(number: u64) -> SocketAddr {
    end([203, 0, 113, number as u8], 40_000)
}

/// Extracts, also with small windows: owners are then decided at other moments, and are the same.
fn extract(t: &mut Ladder) -> Extracted {
    let out = t.extract();
    let len = t.capture.to_pcap().len();
    for windows in [7, 60] {
        let size = (len / windows).to_string();
        let small = t
            .flag("--window-bytes")
            .flag(&size)
            .flag("--unit-bytes")
            .flag("1")
            .extract_as_drawn();
        assert_same(
            &out.files(),
            &small.files(),
            &format!("in {windows} windows"),
        );
    }
    out
}

fn call_begins(t: &mut Ladder, at: u64, call: u64, from: SocketAddr, to: SocketAddr) {
    let id = format!("call-{call}");
    t.sip(at, A, B, invite(&id).sdp(&Sdp::audio(from)));
    t.sip(
        at + 10,
        B,
        A,
        response(200, "INVITE", &id).sdp(&Sdp::audio(to)),
    );
}

fn call_ends(t: &mut Ladder, at: u64, call: u64) {
    hung_up(t, at, &format!("call-{call}"));
}

/// Returns the sequence numbers of a stream in the file of each call.
fn found(out: &Extracted, ssrc: u32) -> BTreeMap<String, Vec<u16>> {
    let of_call =
        |call: &support::ladder::Found<'_>| (call.row.get("call_id").to_owned(), call.rtp(ssrc));
    out.each_call()
        .iter()
        .map(of_call)
        .filter(|(_, sequence)| !sequence.is_empty())
        .collect()
}

/// Calls begin every 100 ms, and all talk until the end; so do strangers, whose packets belong to
/// the latest call.
fn media_server(wrap: impl Fn(&mut Ladder)) {
    let mut t = ladder();
    let (begin, end) = (|call: u64| call * 100, CALLS * 100);
    for call in 0..CALLS {
        call_begins(&mut t, begin(call), call, client(call), SERVER);
        let packets = ((end - begin(call)) / 20) as u16;
        t.rtp(
            begin(call) + 15,
            client(call),
            SERVER,
            1_000 + call as u32,
            1..=packets,
        );
        t.rtp(
            begin(call) + 16,
            SERVER,
            client(call),
            2_000 + call as u32,
            1..=packets,
        );
    }
    for number in 0..5 {
        t.rtp(
            17,
            stranger(number),
            SERVER,
            3_000 + number as u32,
            1..=(end / 20) as u16,
        );
    }
    wrap(&mut t);
    let out = extract(&mut t);
    for call in 0..CALLS {
        for (ssrc, first) in [(1_000, 15), (2_000, 16)] {
            let all: Vec<u16> = (1..=((end - begin(call)) / 20) as u16).collect();
            assert!(begin(call) + first < end);
            assert_eq!(
                found(&out, ssrc + call as u32),
                BTreeMap::from([(format!("call-{call}"), all)])
            );
        }
    }
    for number in 0..5 {
        let mut want: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for sequence in 1..=(end / 20) as u16 {
            // The answer gives the server's endpoint, 10 ms after the offer.
            let at = 17 + (u64::from(sequence) - 1) * 20;
            want.entry(format!("call-{}", (at - 10) / 100))
                .or_default()
                .push(sequence);
        }
        assert_eq!(found(&out, 3_000 + number), want, "stranger {number}");
    }
}

#[test]
fn a_media_server_with_one_port() {
    media_server(|_| {});
}

#[test]
fn a_media_server_whose_signalling_is_in_another_network() {
    media_server(|t| {
        for (_, frame) in &mut t.capture.frames {
            if frame.windows(4).any(|bytes| bytes == b"SIP/") {
                *frame = vlan(frame, 20);
            }
        }
    });
}

#[test]
fn a_load_generator_gives_each_packet_to_all_its_calls() {
    let mut t = ladder();
    for call in 0..CALLS {
        call_begins(&mut t, call * 50, call, A_MEDIA, B_MEDIA);
    }
    let packets = (CALLS * 50 / 20 + 50) as u16;
    t.rtp(15, A_MEDIA, B_MEDIA, 7, 1..=packets);
    let out = extract(&mut t);
    let mut want: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for call in 0..CALLS {
        let since = |sequence: &u16| 15 + (u64::from(*sequence) - 1) * 20 > call * 50 + 10;
        want.insert(
            format!("call-{call}"),
            (1..=packets).filter(since).collect(),
        );
    }
    assert_eq!(found(&out, 7), want);
}

/// Calls come and go at random, at shared endpoints and behind NAT, in several networks: the files
/// do not depend on the windows.
#[test]
fn owners_do_not_depend_on_when_they_are_told() {
    for seed in 0..support::dice::tries(40, 2_000) {
        let mut dice = Dice::new(seed as u64);
        let mut t = ladder();
        let private = |number: u64| end([10, 0, 0, 5 + number as u8], 4_000);
        for call in 0..25 {
            let since = t.capture.frames.len();
            let at = dice.below(8_000) as u64;
            let own = if dice.below(2) == 0 {
                client(call % 5)
            } else {
                private(call % 3)
            };
            let theirs = *dice.one_of(&[SERVER, SERVER, B_MEDIA, private(0)]);
            call_begins(&mut t, at, call, own, theirs);
            let seen = if dice.below(2) == 0 {
                own
            } else {
                end([192, 0, 2, 1], 4_000 + dice.below(2) as u16 * 2)
            };
            t.rtp(
                at + 5 + dice.below(300) as u64,
                seen,
                theirs,
                call as u32,
                1..=dice.below(60) as u16 + 1,
            );
            t.rtp(
                at + 6 + dice.below(300) as u64,
                theirs,
                seen,
                call as u32 + 100,
                1..=dice.below(60) as u16 + 1,
            );
            t.rtp(
                at + dice.below(300) as u64,
                stranger(dice.below(3) as u64),
                theirs,
                200,
                1..=dice.below(60) as u16 + 1,
            );
            if dice.below(3) > 0 {
                call_ends(&mut t, at + dice.below(3_000) as u64 + 20, call);
            }
            let network = *dice.one_of(&[0, 0, 10]);
            if network > 0 && seed % 3 == 0 {
                t.capture.frames[since..]
                    .iter_mut()
                    .for_each(|(_, frame)| *frame = vlan(frame, network));
            }
        }
        meanwhile(&mut t, 20_000);
        extract(&mut t);
    }
}

/// Each call ends before the next one begins. The first ones that guess a router's port are given
/// what comes there; when many have, it tells nothing any more, until there is only one for a while.
#[test]
fn many_calls_in_turn_that_guess_one_endpoint_are_a_crowd() {
    const ROUTER: SocketAddr = end([198, 51, 100, 9], 5060);
    const PORT: SocketAddr = end([198, 51, 100, 9], 4000);
    const FEW: u64 = 16;
    let mut t = ladder()
        .flag("--linger")
        .flag("0s")
        .flag("--media-lookback")
        .flag("0s");
    let mut call = |at: u64, number: u64| {
        let id = format!("turn-{number:02}");
        let private = Sdp::audio(end([10, 0, 0, 5], PORT.port()));
        t.sip(at, ROUTER, A, request("INVITE", &id).sdp(&private));
        t.rtp(at + 20, STRANGER, PORT, number as u32, 1..=5);
        t.sip(at + 200, A, ROUTER, response(486, "INVITE", &id));
        t.sip(at + 210, ROUTER, A, request("ACK", &id));
    };
    (0..20).for_each(|number| call(number * 400, number));
    call(60_000, 20);
    meanwhile(&mut t, 120_000);
    let out = extract(&mut t);
    for number in 0..21 {
        let got = out.call(&format!("turn-{number:02}")).rtp(number as u32);
        let is_believed = number < FEW || number == 20;
        let want: Vec<u16> = if is_believed {
            (1..=5).collect()
        } else {
            Vec::new()
        };
        assert_eq!(got, want, "call {number}");
    }
}

/// A crowd that is gone says nothing of an endpoint that nobody guesses any more, whatever is still
/// remembered of it.
#[test]
fn a_crowd_that_is_gone_leaves_no_doubt() {
    const ROUTER: SocketAddr = end([198, 51, 100, 9], 5060);
    const PORT: SocketAddr = end([198, 51, 100, 9], 4000);
    const OTHER_ROUTER: SocketAddr = end([198, 51, 100, 50], 5060);
    const OTHER_PORT: SocketAddr = end([198, 51, 100, 50], 6000);
    let mut t = ladder().flag("--linger").flag("0s");
    for number in 0..20u64 {
        let (at, id) = (number * 400, format!("turn-{number}"));
        let private = Sdp::audio(end([10, 0, 0, 5], PORT.port()));
        t.sip(at, ROUTER, A, request("INVITE", &id).sdp(&private));
        t.sip(at + 200, A, ROUTER, response(486, "INVITE", &id));
    }
    let private = Sdp::audio(end([10, 0, 0, 6], OTHER_PORT.port()));
    t.sip(
        100_000,
        OTHER_ROUTER,
        A,
        request("INVITE", "later").sdp(&private),
    );
    t.rtp(100_100, PORT, OTHER_PORT, 7, 1..=50);
    hung_up(&mut t, 102_000, "later");
    for second in 0..110 {
        meanwhile(&mut t, second * 1_000);
    }
    let out = extract(&mut t);
    out.call("later").has_rtp(7, 1..=50);
}
