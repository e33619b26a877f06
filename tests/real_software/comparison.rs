//! Compares the extractor's results with tshark's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use support::{
    lab::{Lab, Tap},
    ladder::{Extracted, Row, extract_files, read_frames},
};

use super::{figures, reports, websocket::WEBSOCKET_PORT};

/// Frames by number, from 1.
type Frames = BTreeSet<usize>;

/// One stream of RTP: SSRC, source port, destination port.
type Stream = (String, String, String);

/// A capture with calls.
pub struct Capture {
    file: PathBuf,
    frames: Vec<(u64, Vec<u8>)>,
    /// The frames of each call's SIP messages, by Call-ID.
    pub sip: BTreeMap<String, Frames>,
    /// The RTP packets.
    rtp: BTreeMap<usize, Stream>,
    rtcp: Frames,
    /// The number of each Call-ID's messages in TCP streams.
    pub in_streams: BTreeMap<String, usize>,
}

/// A capture whose results were compared. Its file exists as long as this value.
pub struct Checked {
    capture: Capture,
    /// The number of streams whose reception is reported.
    pub reported: usize,
    pub extracted: Extracted,
}

impl Deref for Checked {
    type Target = Capture;

    fn deref(&self) -> &Capture {
        &self.capture
    }
}

/// Ends the capture, extracts its calls, and compares. All tests use the same SIP ports.
pub fn check(lab: Lab, tap: Tap, calls: usize) -> Checked {
    check_if_seen(lab, tap, calls)
        .unwrap_or_else(|seen| panic!("{calls} calls were made, tshark sees {seen:?}"))
}

/// Does the same unless tshark does not see all calls, and so cannot be compared: with a bad wire
/// and a busy machine it gives up streams whose segments come very late. Then returns the calls
/// that it sees.
pub fn check_if_seen(lab: Lab, tap: Tap, calls: usize) -> Result<Checked, Vec<String>> {
    let file = tap.stop(&lab);
    keep_copy(&file);
    let capture = Capture::read(file);
    if capture.sip.len() != calls {
        return Err(capture.sip.into_keys().collect());
    }
    let input = capture.file.clone();
    let extracted = extract_files(
        lab.into_folder(),
        &[input],
        &["--sip-ports-range", "5060-5079"],
    );
    capture.is_same_as(&extracted);
    figures::are_same(&capture.file, &extracted);
    let reported = reports::are_same(&capture.file, &extracted);
    Ok(Checked {
        capture,
        reported,
        extracted,
    })
}

/// Copies the capture to the folder SIP_TEST_CAPTURES, if that is set.
fn keep_copy(capture: &Path) {
    if let Some(folder) = std::env::var_os("SIP_TEST_CAPTURES") {
        let test = thread::current()
            .name()
            .unwrap_or("test")
            .replace("::", "-");
        fs::copy(capture, Path::new(&folder).join(format!("{test}.pcap"))).unwrap();
    }
}

impl Capture {
    fn read(file: PathBuf) -> Self {
        let frames = read_frames(&fs::read(&file).unwrap());
        let mut sip = of_datagrams(&file);
        let in_streams = of_streams(&file);
        in_streams.is_what_tshark_sees(&file);
        for (call_id, more) in in_streams.frames.into_iter().chain(of_websockets(&file)) {
            sip.entry(call_id).or_default().extend(more);
        }
        let calls = of_tshark(&file, "sip.Method == \"INVITE\"", &["sip.Call-ID"]);
        let calls: BTreeSet<String> = calls.iter().flat_map(|row| list(&row[0])).collect();
        sip.retain(|call_id, _| calls.contains(call_id));
        let rtp = of_tshark(&file, "rtp && !icmp && !icmpv6", RTP)
            .into_iter()
            .map(|row| (number(&row[0]), stream(&row)));
        let rtcp = of_tshark(&file, "rtcp && !icmp && !icmpv6", &["frame.number"]);
        let rtcp = rtcp.iter().map(|row| number(&row[0])).collect();
        Self {
            file,
            frames,
            sip,
            rtp: rtp.collect(),
            rtcp,
            in_streams: in_streams.messages,
        }
    }

    /// Compares the frames of each call, and the counts.
    fn is_same_as(&self, extracted: &Extracted) {
        assert_eq!(extracted.status, Some(0), "{}", extracted.log);
        let found: Vec<&str> = extracted
            .calls
            .iter()
            .map(|row| row.get("call_id"))
            .collect();
        assert_eq!(
            found.iter().copied().collect::<BTreeSet<_>>(),
            self.sip.keys().map(String::as_str).collect()
        );
        assert_eq!(found.len(), self.sip.len(), "each call once: {found:?}");
        let all_sip: Frames = self.sip.values().flatten().copied().collect();
        let all_media: Frames = self.rtp.keys().chain(&self.rtcp).copied().collect();
        let mut media_of_calls = Frames::new();
        for call in extracted.each_call() {
            let call_id = call.row.get("call_id");
            let numbers = self.numbers(call_id, &call.frames());
            let (sip, media): (Frames, Frames) =
                numbers.iter().partition(|number| all_sip.contains(number));
            assert_eq!(sip, self.sip[call_id], "{call_id}: frames with SIP");
            call.is("completed")
                .has("final_status", "200")
                .has("sip_packet_count", &sip.len().to_string());
            let in_rows: BTreeMap<Stream, usize> = call
                .streams()
                .iter()
                .map(|row| (stream_of_row(row), packets(row)))
                .collect();
            let of_media: Vec<&Stream> = media
                .iter()
                .filter_map(|frame| self.rtp.get(frame))
                .collect();
            assert_eq!(
                in_rows,
                count(of_media.into_iter().cloned()),
                "{call_id}: streams"
            );
            assert_eq!(
                call.row.get("rtp_packet_count"),
                in_rows.values().sum::<usize>().to_string()
            );
            assert!(
                media.iter().all(|frame| media_of_calls.insert(*frame)),
                "{call_id}: media of one call only"
            );
        }
        assert_eq!(media_of_calls, all_media, "media of the calls");
    }

    /// Returns the numbers of a call's frames in the capture: in order, each once. Without an IP
    /// identification, as in IPv6, two frames can have the same bytes in the same microsecond.
    fn numbers(&self, call_id: &str, frames: &[(u64, Vec<u8>)]) -> Frames {
        let mut rest = self.frames.iter().zip(1..);
        let mut number =
            |frame| rest.find_map(|(candidate, number)| (candidate == frame).then_some(number));
        frames
            .iter()
            .map(|frame| {
                number(frame).unwrap_or_else(|| panic!("{call_id}: in capture order, once"))
            })
            .collect()
    }

    /// Returns the protocols of the frames that a tshark filter selects, from the outermost.
    pub fn protocols(&self, filter: &str) -> BTreeSet<String> {
        of_tshark(&self.file, filter, &["frame.protocols"])
            .into_iter()
            .map(|row| row[0].clone())
            .collect()
    }

    /// Returns the number of frames that a tshark filter selects.
    pub fn count(&self, filter: &str) -> usize {
        of_tshark(&self.file, filter, &["frame.number"]).len()
    }
}

/// Returns fields of a capture from tshark: one row per packet, the fields in this order. Several
/// values of a field are joined with commas.
pub fn of_tshark(capture: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-n").args([
        "-o",
        "tcp.reassemble_out_of_order:TRUE",
        "-d",
        &format!("tcp.port=={WEBSOCKET_PORT},http"),
    ]);
    command
        .arg("-r")
        .arg(capture)
        .args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("tshark: {error}; scripts/setup installs it"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split('|').map(str::to_owned).collect())
        .collect()
}

/// Returns SIP in UDP.
fn of_datagrams(capture: &Path) -> BTreeMap<String, Frames> {
    of_frames(capture, "sip && udp && !tcp && !icmp && !icmpv6")
}

/// Returns SIP in WebSockets, with segments that repeat bytes of its segments.
fn of_websockets(capture: &Path) -> BTreeMap<String, Frames> {
    let mut calls = of_frames(capture, &format!("sip && tcp.port == {WEBSOCKET_PORT}"));
    for segments in directions(capture, &format!("tcp.port == {WEBSOCKET_PORT}")).values() {
        for frames in calls.values_mut() {
            let its: Vec<&Segment> = segments
                .iter()
                .filter(|segment| frames.contains(&segment.frame))
                .collect();
            let repeats = segments.iter().filter(|segment| {
                its.iter()
                    .any(|one| one.overlaps(segment.start, segment.end()))
            });
            frames.extend(repeats.map(|segment| segment.frame));
        }
    }
    calls
}

/// Returns the frames of reassembled messages: the frames that completed them, and those with the
/// other parts, which in a tunnel may be reassembled themselves.
fn of_frames(capture: &Path, filter: &str) -> BTreeMap<String, Frames> {
    let fields = [
        "frame.number",
        "ip.fragment",
        "ipv6.fragment",
        "tcp.segment",
    ];
    let parts: BTreeMap<usize, Frames> = of_tshark(
        capture,
        "ip.fragment || ipv6.fragment || tcp.segment",
        &fields,
    )
    .into_iter()
    .map(|row| {
        (
            number(&row[0]),
            row[1..]
                .iter()
                .flat_map(|others| list(others))
                .map(|other| number(&other))
                .collect(),
        )
    })
    .collect();
    let mut calls: BTreeMap<String, Frames> = BTreeMap::new();
    for row in of_tshark(capture, filter, &["frame.number", "sip.Call-ID"]) {
        let mut frames = Frames::new();
        let mut to_do = vec![number(&row[0])];
        while let Some(frame) = to_do.pop() {
            if frames.insert(frame) {
                to_do.extend(parts.get(&frame).into_iter().flatten());
            }
        }
        list(&row[1])
            .into_iter()
            .for_each(|call_id| calls.entry(call_id).or_default().extend(&frames));
    }
    calls
}

/// The messages in TCP streams.
#[derive(Default)]
struct InStreams {
    /// The number of messages of each Call-ID.
    messages: BTreeMap<String, usize>,
    /// The segments that carry a part of a message, repeated ones included.
    frames: BTreeMap<String, Frames>,
}

impl InStreams {
    /// If segments are repeated in other sizes, this version of tshark sometimes loses messages.
    fn is_what_tshark_sees(&self, capture: &Path) {
        let rows = of_tshark(
            capture,
            &format!("sip && tcp && tcp.port != {WEBSOCKET_PORT}"),
            &["sip.Call-ID"],
        );
        let seen = count(rows.iter().flat_map(|row| list(&row[0])));
        if of_tshark(
            capture,
            "tcp.analysis.retransmission || tcp.analysis.out_of_order",
            &["frame.number"],
        )
        .is_empty()
        {
            assert_eq!(
                self.messages, seen,
                "messages over TCP, by their bytes and by tshark"
            );
        }
        for (call_id, seen) in seen {
            assert!(
                self.messages[&call_id] >= seen,
                "tshark sees {seen} messages of {call_id}"
            );
        }
    }
}

/// Returns SIP in TCP. tshark does not assign repeated segments to messages, so this reassembles
/// the streams from tshark's sequence numbers, with all segments in memory.
fn of_streams(capture: &Path) -> InStreams {
    let mut found = InStreams::default();
    directions(capture, &format!("tcp.port != {WEBSOCKET_PORT}"))
        .values()
        .for_each(|segments| found.add(segments));
    found
}

/// A TCP segment with payload, and its offset in the stream.
struct Segment {
    frame: usize,
    start: usize,
    payload: Vec<u8>,
}

impl Segment {
    fn end(&self) -> usize {
        self.start + self.payload.len()
    }

    fn overlaps(&self, start: usize, end: usize) -> bool {
        self.start < end && start < self.end()
    }
}

/// Returns the segments of each direction of each connection.
fn directions(capture: &Path, filter: &str) -> BTreeMap<Vec<String>, Vec<Segment>> {
    let fields = [
        "tcp.stream",
        "tcp.srcport",
        "ip.src",
        "ipv6.src",
        "frame.number",
        "tcp.seq",
        "tcp.payload",
    ];
    let mut directions: BTreeMap<Vec<String>, Vec<Segment>> = BTreeMap::new();
    for row in of_tshark(capture, &format!("tcp.len > 0 && {filter}"), &fields) {
        // tshark counts from the SYN, which has the number 0.
        let segment = Segment {
            frame: number(&row[4]),
            start: number(&row[5]) - 1,
            payload: bytes(&row[6]),
        };
        directions
            .entry(row[..4].to_vec())
            .or_default()
            .push(segment);
    }
    directions
}

impl InStreams {
    /// Adds the messages of one stream.
    fn add(&mut self, segments: &[Segment]) {
        let mut stream = vec![0; segments.iter().map(Segment::end).max().unwrap()];
        segments.iter().for_each(|segment| {
            stream[segment.start..segment.end()].copy_from_slice(&segment.payload);
        });
        let mut start = 0;
        while let Some((call_id, len)) = first_message(&stream[start..]) {
            let end = start + len;
            let its = segments
                .iter()
                .filter(|segment| segment.overlaps(start, end));
            self.frames
                .entry(call_id.clone())
                .or_default()
                .extend(its.map(|segment| segment.frame));
            *self.messages.entry(call_id).or_default() += 1;
            start = end;
        }
        assert_eq!(start, stream.len(), "a stream ends with a message");
    }
}

/// Returns the Call-ID and the length of a stream's first message.
fn first_message(stream: &[u8]) -> Option<(String, usize)> {
    let head_len = stream.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&stream[..head_len]).into_owned();
    let header = |name: &str| {
        let value = head.lines().find_map(|line| line.strip_prefix(name));
        value
            .unwrap_or_else(|| panic!("no {name} in {head}"))
            .trim()
            .to_owned()
    };
    Some((
        header("Call-ID:"),
        head_len + number(&header("Content-Length:")),
    ))
}

const RTP: &[&str] = &["frame.number", "rtp.ssrc", "udp.srcport", "udp.dstport"];

/// Returns the stream in a row with these fields. In a tunnel the inner ports come last.
fn stream(row: &[String]) -> Stream {
    let last = |field: &str| list(field).pop().unwrap();
    (row[1].clone(), last(&row[2]), last(&row[3]))
}

fn stream_of_row(row: &Row) -> Stream {
    let port = |column| row.get(column).rsplit_once(':').unwrap().1.to_owned();
    (
        row.get("ssrc_hex").to_owned(),
        port("src_rtp_endpoint"),
        port("dst_rtp_endpoint"),
    )
}

fn packets(row: &Row) -> usize {
    number(row.get("rtp_packet_count"))
}

pub fn list(field: &str) -> Vec<String> {
    field
        .split(',')
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

pub fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex = hex.replace(':', "");
    (0..hex.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap())
        .collect()
}

fn count<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    items
        .into_iter()
        .for_each(|item| *counts.entry(item).or_insert(0) += 1);
    counts
}
