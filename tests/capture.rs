//! The capture agent, run as its users run it: on the loopback interface, ended by a signal.
//!
//! Capturing needs CAP_NET_RAW. Where it is missing these tests fail and say so: a capture that was never
//! tried is not one that works.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that goes wrong may say so by ending"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    mem,
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use shared::{
    pcap::{Layout, LinkType, Record, Step},
    segment::SegmentName,
};
use tempfile::TempDir;

const MAC_IPV4_AND_UDP_HEADERS: usize = 14 + 20 + 8;

fn agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-capture-agent"));
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// An agent that captures on loopback, and what it has logged.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    log: String,
}

impl Running {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut child = agent().args(["--interface", "lo", "--output-dir"]).arg(directory).args(arguments).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, stderr, log: String::new() };
        running.wait_for("capturing");
        running
    }

    fn wait_for(&mut self, words: &str) {
        while !self.log.contains(words) {
            if self.stderr.read_line(&mut self.log).unwrap() == 0 {
                panic!("{}", self.explanation(words));
            }
        }
    }

    fn explanation(&self, words: &str) -> String {
        let refused = ["CAP_NET_RAW", "permi", "Permi"].iter().any(|sign| self.log.contains(sign));
        let advice = if refused { " This test needs CAP_NET_RAW: run it as root, or where packets may be captured." } else { "" };
        format!("the agent ended before it said `{words}`.{advice} It said:\n{}", self.log)
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Ends the agent, which must end well, and gives its log.
    fn end(mut self, signal: &str) -> String {
        self.signal(signal);
        self.wait_for("closed");
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log);
        mem::take(&mut self.log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A receiver of datagrams, so that nothing but them comes to its port.
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
    (0..count).map(|number| format!("datagram {number:04}").into_bytes()).collect()
}

fn names_in(directory: &TempDir) -> Vec<String> {
    fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The one file in `directory`, and its name, which must be a segment's.
fn only_segment(directory: &TempDir) -> (PathBuf, SegmentName) {
    let names = names_in(directory);
    let [name] = names.as_slice() else { panic!("one segment expected, found {names:?}") };
    (directory.path().join(name), name.parse().unwrap())
}

fn records(file: &[u8]) -> Vec<Record<'_>> {
    let (layout, start) = Layout::detect(file).unwrap();
    let mut walk = layout.walk(file, start);
    let mut records = Vec::new();
    while let Some(step) = walk.next_step() {
        match step {
            Step::Record(record) => records.push(record),
            Step::Gap(gap) => panic!("{gap}"),
        }
    }
    records
}

fn payloads_of(records: &[Record<'_>]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.frame.get(MAC_IPV4_AND_UDP_HEADERS..).unwrap().to_vec()).collect()
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let Output { status, stderr, .. } = agent().args(arguments).arg("--output-dir").arg(directory.path()).output().unwrap();
    assert_eq!(names_in(&directory), Vec::<String>::new(), "nothing may be left of a capture that never began");
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn every_datagram_before_the_signal_is_in_the_segment() {
    for signal in ["TERM", "INT"] {
        let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
        let running = Running::start(directory.path(), &["--filter", &receiver.filter()]);
        let sent = payloads(2000);
        receiver.send(&sent);
        let log = running.end(signal);

        let (path, _) = only_segment(&directory);
        let file = fs::read(path).unwrap();
        assert_eq!(payloads_of(&records(&file)), sent, "{log}");
        assert!(log.contains("packets=2000") && log.contains("dropped=0"), "{log}");
    }
}

#[test]
fn a_segment_says_where_and_when_it_was_captured() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
    let running = Running::start(directory.path(), &["--filter", &receiver.filter()]);
    receiver.send(&payloads(1));
    running.end("TERM");

    let (path, name) = only_segment(&directory);
    assert_eq!((name.interface(), name.sequence()), ("lo", 1));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let file = fs::read(path).unwrap();
    let records = records(&file);
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record.link, LinkType::ETHERNET);
    let after_start_ns = record.timestamp_ns.unwrap().checked_sub(name.start_us().saturating_mul(1000));
    assert!(after_start_ns.unwrap() < 60_000_000_000, "{name} at {:?}", record.timestamp_ns);
}

#[test]
fn the_part_file_is_hidden_and_the_end_of_a_silent_capture_is_prompt() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
    let running = Running::start(directory.path(), &["--filter", &receiver.filter()]);
    let names = names_in(&directory);
    assert!(matches!(names.as_slice(), [name] if name.starts_with('.') && name.ends_with(".pcap.part")), "{names:?}");
    running.end("TERM");
    let (path, _) = only_segment(&directory);
    assert_eq!(records(&fs::read(path).unwrap()), []);
}

#[test]
fn long_packets_are_cut_to_the_snap_length() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::bind());
    let running = Running::start(directory.path(), &["--filter", &receiver.filter(), "--snaplen", "64"]);
    receiver.send(&[vec![0x55; 1000]]);
    running.end("TERM");

    let (path, _) = only_segment(&directory);
    let file = fs::read(path).unwrap();
    let lengths: Vec<_> = records(&file).iter().map(|record| (record.frame.len(), record.wire_len)).collect();
    assert_eq!(lengths, [(64, 1042)]);
}

#[test]
fn a_filter_that_cannot_be_compiled_is_wrong_usage_in_libpcaps_words() {
    let (code, log) = refused(&["--interface", "lo", "--filter", "udp port"]);
    assert_eq!(code, Some(2), "wrong usage is 2, a refused capture (which needs CAP_NET_RAW) is 1: {log}");
    assert!(log.contains("`udp port`") && log.contains("syntax error"), "{log}");
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
