//! Tests on the loopback interface, which need no network.

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt, path::Path};

use shared::pcap::LinkType;

use crate::agent::{Agent, Captured, names_in, printed, read_all, refused, segments};

const MAC_IPV4_AND_UDP_HEADERS: usize = 14 + 20 + 8;

/// A receiver of datagrams, so that no ICMP errors come back to the port.
struct Receiver(UdpSocket);

impl Receiver {
    fn bind() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    fn filter(&self) -> String {
        format!("udp dst port {}", self.0.local_addr().unwrap().port())
    }

    fn send(&self, payloads: &[Vec<u8>]) {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = self.0.local_addr().unwrap();
        for payload in payloads {
            sender.send_to(payload, to).unwrap();
        }
    }
}

fn payloads(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| format!("datagram {number:04}").into_bytes())
        .collect()
}

fn payloads_of(records: &[Captured]) -> Vec<Vec<u8>> {
    records
        .iter()
        .map(|record| record.frame[MAC_IPV4_AND_UDP_HEADERS..].to_vec())
        .collect()
}

fn start(directory: &Path, receiver: &Receiver, more: &[&str]) -> Agent {
    let filter = receiver.filter();
    let arguments = [&["--interface", "lo", "--filter", &filter], more].concat();
    Agent::start(directory, &directory.join("segments"), &arguments)
}

#[test]
fn every_datagram_before_the_signal_is_in_the_segment() {
    for signal in ["TERM", "INT"] {
        let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
        let agent = start(directory.path(), &receiver, &[]);
        let sent = payloads(2000);
        receiver.send(&sent);
        let log = agent.end(signal);
        assert_eq!(
            payloads_of(&read_all(&directory.path().join("segments"))),
            sent,
            "{log}"
        );
        assert!(
            log.contains("packets=2000") && log.contains("kernel_dropped=0"),
            "{log}"
        );
    }
}

#[test]
fn a_segment_says_where_and_when_it_was_captured() {
    for (precision, unit_ns) in [("micro", 1000), ("nano", 1)] {
        let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
        let agent = start(
            directory.path(),
            &receiver,
            &["--instance", "edge 1", "--precision", precision],
        );
        receiver.send(&payloads(50));
        agent.end("TERM");
        let directory = directory.path().join("segments");
        let segments = segments(&directory);
        let (name, path) = &segments[0];
        assert_eq!(
            (name.instance(), name.interface(), name.sequence()),
            ("edge-1", "lo", 1)
        );
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        let records = read_all(&directory);
        assert_eq!(records[0].link, LinkType::ETHERNET);
        assert_eq!(
            records[0].timestamp_ns / 1000,
            name.start_us(),
            "the name has the time of the first packet"
        );
        let is_finer = records.iter().any(|record| record.timestamp_ns % 1000 != 0);
        assert_eq!(is_finer, unit_ns == 1, "{precision}");
    }
}

#[test]
fn a_silent_capture_ends_promptly_and_leaves_no_file() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
    start(directory.path(), &receiver, &["--rotate-every", "100ms"]).end("TERM");
    assert_eq!(
        names_in(&directory.path().join("segments")),
        Vec::<String>::new()
    );
}

#[test]
fn a_silent_capture_leaves_files_where_they_are_wanted() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
    let arguments = [
        "--rotate-every",
        "200ms",
        "--empty-segments",
        "--duration",
        "1s",
    ];
    let log = start(directory.path(), &receiver, &arguments).ends();
    let directory = directory.path().join("segments");
    assert!(segments(&directory).len() >= 4, "{log}");
    assert_eq!(read_all(&directory), []);
}

#[test]
fn a_capture_of_so_many_packets_ends_with_the_last_of_them() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
    let agent = start(directory.path(), &receiver, &["--count", "150"]);
    receiver.send(&payloads(200));
    agent.ends();
    assert_eq!(
        payloads_of(&read_all(&directory.path().join("segments"))),
        payloads(150)
    );
}

#[test]
fn long_packets_are_cut_to_the_snap_length() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
    let agent = start(directory.path(), &receiver, &["--snaplen", "64"]);
    receiver.send(&[vec![0x55; 1000]]);
    agent.end("TERM");
    let records = read_all(&directory.path().join("segments"));
    let lengths: Vec<_> = records
        .iter()
        .map(|record| (record.frame.len(), record.wire_len))
        .collect();
    assert_eq!(lengths, [(64, 1042)]);
}

#[test]
fn a_filter_that_cannot_be_compiled_is_wrong_usage_in_libpcaps_words() {
    let (code, log) = refused(&["--interface", "lo", "--filter", "udp port"]);
    assert_eq!(
        code,
        Some(2),
        "wrong usage is 2, a refused capture (which needs CAP_NET_RAW) is 1: {log}"
    );
    assert!(
        log.contains("`udp port`") && log.contains("syntax error"),
        "{log}"
    );
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let (code, log) = refused(&["--interface", "no-such-if", "--filter", "udp"]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("cannot capture on `no-such-if`"), "{log}");
}

#[test]
fn without_an_interface_nothing_is_captured() {
    let (code, log) = refused(&[]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("--interface"), "{log}");
}

#[test]
fn the_filter_can_be_seen_and_given_to_other_programs() {
    let ethernet = printed(&["--print-filter", "--sip-ports-range", "5070"]);
    assert!(
        ethernet.contains("tcp port 5070") && ethernet.contains("vlan"),
        "{ethernet}"
    );
    assert_eq!(
        printed(&[
            "--print-filter",
            "--sip-ports-range",
            "5070",
            "--interface",
            "lo"
        ]),
        ethernet
    );
    let cooked = printed(&["--print-filter", "--interface", "any"]);
    assert!(
        cooked.contains("tcp portrange 5060-5061") && !cooked.contains("vlan"),
        "{cooked}"
    );
    assert_eq!(
        printed(&["--print-filter", "--filter", "udp port 5060"]),
        "udp port 5060\n"
    );
}
