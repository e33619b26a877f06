//! Calls between real endpoints: SIPp on both sides, tcpdump in between, and what tshark says of it.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that goes wrong may say so by ending"
)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use support::ladder::extract_files;

/// Three pairs of phones, each with ports of its own, make two calls each, one after the other: the second
/// uses the ports of the first again.
const PAIRS: u16 = 3;
const CALLS_PER_PAIR: usize = 2;

fn start(program: &str, arguments: &[&str], folder: &Path) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; scripts/setup installs it"))
}

/// A capture of what passes over the loopback interface, until it is dropped.
struct Tap(Child);

impl Tap {
    fn on_loopback(file: &str, filter: &str, folder: &Path) -> Self {
        let mut child = start("tcpdump", &["-i", "lo", "-U", "-s", "0", "-B", "32768", "-Z", "root", "-w", file, filter], folder);
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        while !said.contains("listening on") {
            assert!(lines.read_line(&mut said).unwrap() > 0, "tcpdump ended: {said}");
        }
        Self(child)
    }

    fn stop(mut self) {
        // Packets are in the file 100 ms after they passed; tcpdump writes them all before it ends.
        Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        self.0.wait().unwrap();
    }
}

fn make_calls(folder: &Path) {
    fs::write(folder.join("caller.xml"), CALLER).unwrap();
    fs::write(folder.join("audio.alaw"), [0xd5; 8000]).unwrap();
    let sipp = |own: u16, more: &[&str]| {
        let (port, calls) = (own.to_string(), CALLS_PER_PAIR.to_string());
        let common = ["-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-timeout", "60", "-p", &port, "-m", &calls];
        start("sipp", &[&common[..], more].concat(), folder)
    };
    let media = |base: u16, pair: u16| (base + pair * 10).to_string();
    let callees: Vec<Child> =
        (0..PAIRS).map(|pair| sipp(25_060 + pair, &["-sn", "uas", "-rtp_echo", "-mp", &media(27_000, pair)])).collect();
    let callers: Vec<Child> = (0..PAIRS)
        .map(|pair| {
            sipp(
                25_160 + pair,
                &["-sf", "caller.xml", "-l", "1", "-mp", &media(28_000, pair), &format!("127.0.0.1:{}", 25_060 + pair)],
            )
        })
        .collect();
    for mut child in callers.into_iter().chain(callees) {
        assert!(child.wait().unwrap().success(), "SIPp was not content with its calls");
    }
}

/// What tshark reads out of a capture: one row a packet, the fields in this order.
fn tshark(capture: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(capture).args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output =
        command.stderr(Stdio::null()).output().unwrap_or_else(|error| panic!("tshark: {error}; scripts/setup installs it"));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

fn count<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    items.into_iter().for_each(|item| *counts.entry(item).or_insert(0) += 1);
    counts
}

/// Streams as tshark tells them: SSRC, source port, destination port, and how many packets.
fn streams(capture: &Path) -> BTreeMap<(String, String, String), usize> {
    count(tshark(capture, "rtp", &["rtp.ssrc", "udp.srcport", "udp.dstport"]).into_iter().map(|row| {
        let [ssrc, source, destination] = row.try_into().unwrap();
        (ssrc, source, destination)
    }))
}

#[test]
fn calls_of_sipp_are_what_tshark_sees() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("capture.pcap");
    let tap = Tap::on_loopback("capture.pcap", "udp portrange 25000-28999", folder.path());
    make_calls(folder.path());
    tap.stop();
    let sip_of_call = count(tshark(&capture, "sip", &["sip.Call-ID"]).into_iter().map(|row| row[0].clone()));
    let streams_of_all = streams(&capture);
    let extracted = extract_files(folder, &[capture], &["--sip-ports-range", "25060-25163"]);

    assert_eq!(extracted.status, Some(0), "{}", extracted.log);
    assert_eq!(extracted.calls.len(), usize::from(PAIRS) * CALLS_PER_PAIR);
    assert_eq!(extracted.calls.len(), sip_of_call.len());
    let mut streams_of_calls = BTreeMap::new();
    for call in extracted.each_call() {
        let call_id = call.row.get("call_id");
        call.is("completed").has("final_status", "200").has("sip_packet_count", &sip_of_call[call_id].to_string());
        assert_eq!(tshark(&call.path(), "sip", &["sip.Call-ID"]), vec![vec![call_id.to_owned()]; sip_of_call[call_id]]);
        let in_file = streams(&call.path());
        let in_rows: BTreeMap<_, _> = call
            .streams()
            .iter()
            .map(|row| {
                let port = |column| row.get(column).rsplit_once(':').unwrap().1.to_owned();
                let key = (row.get("ssrc_hex").to_owned(), port("src_rtp_endpoint"), port("dst_rtp_endpoint"));
                (key, row.get("rtp_packet_count").parse::<usize>().unwrap())
            })
            .collect();
        assert_eq!(in_file, in_rows, "{call_id}: its file and its rows");
        assert_eq!(in_file.len(), 2, "{call_id}: one stream each way");
        streams_of_calls.extend(in_file.into_iter().map(|(key, packets)| ((call_id.to_owned(), key), packets)));
    }
    let summed = streams_of_calls.into_iter().fold(BTreeMap::new(), |mut sums, ((_, key), packets)| {
        *sums.entry(key).or_insert(0) += packets;
        sums
    });
    assert_eq!(summed, streams_of_all, "every RTP packet belongs to one call");
}

const CALLER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="a caller with a second of audio">
  <send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:sipp@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="200"/>
  <send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
  <nop><action><exec rtp_stream="audio.alaw,1,8,PCMA/8000"/></action></nop>
  <pause milliseconds="1500"/>
  <send retrans="500"><![CDATA[
BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
  <recv response="200"/>
</scenario>
"#;
