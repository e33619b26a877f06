//! SIP over UDP and TCP, over IPv4 and IPv6, on a good and on a bad wire.

use support::{
    lab::{Lab, V6, WIRE},
    sipp::{Calls, LONG, TCP, UDP},
};

use super::comparison::{Checked, check, check_if_seen};

fn made_and_found(lab: Lab, calls: Calls) -> Checked {
    let tap = calls.captured(&lab);
    check(lab, tap, calls.total())
}

#[test]
fn udp() {
    made_and_found(Lab::new(), UDP);
}

#[test]
fn udp_over_ipv6() {
    made_and_found(Lab::new().at(V6), UDP);
}

#[test]
fn udp_in_fragments() {
    let capture = made_and_found(
        Lab::new(),
        Calls {
            padding: LONG,
            ..UDP
        },
    );
    assert!(
        capture.count("ip.flags.mf == 1") >= 4 * UDP.total(),
        "INVITE, 200, ACK, BYE"
    );
}

#[test]
fn udp_in_fragments_of_ipv6() {
    let capture = made_and_found(
        Lab::new().at(V6),
        Calls {
            padding: LONG,
            ..UDP
        },
    );
    assert!(
        capture.count("ipv6.fraghdr.more == 1") >= 4 * UDP.total(),
        "INVITE, 200, ACK, BYE"
    );
}

#[test]
fn udp_in_many_fragments() {
    let lab = Lab::new();
    lab.phones
        .iter()
        .for_each(|phone| phone.ip(&format!("link set {WIRE} mtu 576")));
    let capture = made_and_found(
        lab,
        Calls {
            padding: LONG,
            ..UDP
        },
    );
    assert!(
        capture.count("ip.frag_offset > 0") >= 5 * UDP.total(),
        "five each and more"
    );
}

#[test]
fn tcp_with_one_connection_for_all_calls() {
    let capture = made_and_found(Lab::new(), TCP);
    assert_eq!(
        capture.count("tcp.flags.syn == 1 && tcp.flags.ack == 0"),
        usize::from(TCP.pairs)
    );
}

#[test]
fn tcp_with_a_connection_for_each_call() {
    let capture = made_and_found(
        Lab::new(),
        Calls {
            transport: "tn",
            ..TCP
        },
    );
    assert_eq!(
        capture.count("tcp.flags.syn == 1 && tcp.flags.ack == 0"),
        TCP.total()
    );
}

#[test]
fn tcp_over_ipv6() {
    made_and_found(Lab::new().at(V6), TCP);
}

#[test]
fn tcp_in_frames_larger_than_the_wire_takes() {
    let capture = made_and_found(
        Lab::new(),
        Calls {
            padding: LONG,
            ..TCP
        },
    );
    assert!(
        capture.count("tcp.len > 1460") > 0,
        "the kernel leaves it to the interface to cut segments"
    );
}

#[test]
fn tcp_in_several_segments() {
    let lab = Lab::new();
    lab.phones
        .iter()
        .for_each(|phone| phone.without_offloads(WIRE));
    let capture = made_and_found(
        lab,
        Calls {
            padding: LONG,
            ..TCP
        },
    );
    assert_eq!(capture.count("tcp.len > 1460"), 0);
    assert!(
        capture.count("sip && tcp.segment.count > 1") >= 4 * TCP.total(),
        "INVITE, 200, ACK, BYE"
    );
}

#[test]
fn tcp_with_many_calls_at_once_on_a_slow_wire() {
    let lab = Lab::new();
    lab.phones.iter().for_each(|phone| {
        phone.run(&format!(
            "tc qdisc add dev {WIRE} root tbf rate 400kbit burst 3000 limit 1mb"
        ));
    });
    let calls = Calls {
        pairs: 1,
        count: 100,
        at_once: 50,
        audio_ms: 0,
        ..TCP
    };
    let capture = made_and_found(lab, calls);
    assert!(
        capture.count("count(sip.Call-ID) > 1") > 10,
        "several messages in a segment"
    );
}

/// Creates a lab in which each phone loses one in twelve received segments, and delays one in four
/// sent segments so that others overtake it.
fn bad_wire() -> Lab {
    let lab = Lab::new();
    for phone in &lab.phones {
        phone.without_offloads(WIRE);
        phone.has_slow_lane(WIRE, "2mbit burst 1600 cburst 1600");
        phone.run("nft add table inet bad");
        let chains = [
            (
                "in",
                "prerouting",
                "meta l4proto tcp numgen random mod 12 0 drop",
            ),
            (
                "out",
                "postrouting",
                "meta l4proto tcp numgen random mod 4 0 meta priority set 1:2",
            ),
        ];
        for (chain, hook, rule) in chains {
            phone.run(&format!(
                "nft add chain inet bad {chain} {{ type filter hook {hook} priority 0 ; }}"
            ));
            phone.run(&format!("nft add rule inet bad {chain} {rule}"));
        }
    }
    lab
}

#[test]
fn tcp_with_segments_lost_repeated_and_out_of_order() {
    let calls = Calls {
        pairs: 2,
        count: 6,
        at_once: 3,
        audio_ms: 0,
        transport: "t1",
        padding: LONG,
    };
    let made = |_| {
        let lab = bad_wire();
        let tap = calls.captured(&lab);
        check_if_seen(lab, tap, calls.total()).ok()
    };
    let capture = (0..3)
        .find_map(made)
        .expect("tshark sees all calls of one capture in three");
    let repeated = capture.count("tcp.analysis.retransmission || tcp.analysis.fast_retransmission");
    let overtaken = capture.count("tcp.analysis.out_of_order");
    let six_each = capture.in_streams.values().all(|messages| *messages == 6);
    assert!(
        six_each,
        "INVITE, 180, 200, ACK, BYE, 200: {:?}",
        capture.in_streams
    );
    println!("{repeated} segments repeated, {overtaken} overtaken");
    assert!(repeated + overtaken > 0, "the wire was meant to be worse");
}
