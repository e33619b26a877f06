//! Calls drawn as ladders: messages and packets with their times and endpoints. Then the extractor
//! runs, and the tests check its results.
//!
//! ```ignore
//! let mut t = Ladder::new();
//! t.sip(0, A, B, request("INVITE", "1").sdp(&Sdp::audio(A_MEDIA)));
//! t.sip(500, B, A, response(200, "INVITE", "1").sdp(&Sdp::audio(B_MEDIA)));
//! t.rtp(600, A_MEDIA, B_MEDIA, 7, 1..=50);
//! t.sip(9_000, A, B, request("BYE", "1"));
//! let out = t.extract();
//! out.only_call().is("completed");
//! ```

use std::{
    collections::BTreeMap,
    io::Write,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use shared::pcap::{Layout, Step};
use tempfile::TempDir;

use crate::{MS, capture::Capture, frames, media::Rtp, sip::Sip, times};

/// The start of the ladders: 2023-12-01T14:30:22.123456Z.
pub const START_NS: u64 = 1_701_441_022_123_456_000;

/// A capture that is drawn line by line; times are in milliseconds from [`START_NS`].
#[derive(Clone, Default)]
pub struct Ladder {
    pub capture: Capture,
    flags: Vec<String>,
    check: Option<fn(&Extracted)>,
}

impl Ladder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a flag for the extractor.
    pub fn flag(&self, flag: &str) -> Self {
        let mut ladder = self.clone();
        ladder.flags.push(flag.to_owned());
        ladder
    }

    /// Adds a check of all results.
    pub fn checked(&self, check: fn(&Extracted)) -> Self {
        Self {
            check: Some(check),
            ..self.clone()
        }
    }

    /// Returns the flags that were added.
    pub fn flags(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().map(String::as_str)
    }

    pub fn sip(&mut self, at_ms: u64, from: SocketAddr, to: SocketAddr, message: Sip) {
        self.udp(at_ms, from, to, &message.bytes());
    }

    pub fn udp(&mut self, at_ms: u64, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        self.capture
            .push(START_NS + at_ms * MS, frames::udp(from, to, payload));
    }

    /// Draws RTP packets, 20 ms apart.
    pub fn rtp(
        &mut self,
        from_ms: u64,
        from: SocketAddr,
        to: SocketAddr,
        ssrc: u32,
        sequence: RangeInclusive<u16>,
    ) {
        for (index, sequence) in sequence.enumerate() {
            self.udp(
                from_ms + index as u64 * 20,
                from,
                to,
                &Rtp::new(ssrc, sequence).bytes(),
            );
        }
    }

    /// Sorts the lines by time. Lines with the same time keep their order.
    pub fn sort(&mut self) {
        self.capture.frames.sort_by_key(|(ns, _)| *ns);
    }

    /// Sorts by time, extracts, and checks the exit status.
    pub fn extract(&mut self) -> Extracted {
        self.sort();
        let extracted = self.extract_as_drawn();
        assert_eq!(extracted.status, Some(0), "{}", extracted.log);
        extracted
    }

    /// Extracts from the capture in drawing order, and does not check the exit status.
    pub fn extract_as_drawn(&self) -> Extracted {
        let flags: Vec<&str> = self.flags().collect();
        let extracted = extract_bytes(&self.capture.to_pcap(), &flags);
        if let Some(check) = self.check {
            check(&extracted);
        }
        extracted
    }
}

/// Runs the extractor over a capture of these bytes. Also checks that reading the records does not
/// depend on their times.
pub fn extract_bytes(capture: &[u8], flags: &[&str]) -> Extracted {
    times::check(capture);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.pcap");
    std::fs::write(&input, capture).unwrap();
    extract_files(folder, &[input], flags)
}

/// Runs the extractor over a capture in a pipe.
pub fn extract_piped(capture: &[u8], flags: &[&str]) -> Extracted {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = extractor();
    command
        .args(["--input-file", "-", "--output-dir"])
        .arg(&out)
        .args(flags);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let capture = capture.to_vec();
    // An extractor that refuses its input early does not read the rest of the pipe.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&capture)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Extracted::read(folder, &out, &output)
}

/// Runs the extractor over these files; the results go to `out` in the folder.
pub fn extract_files(folder: TempDir, inputs: &[PathBuf], flags: &[&str]) -> Extracted {
    let out = folder.path().join("out");
    let mut command = extractor();
    for input in inputs {
        command.arg("--input-file").arg(input);
    }
    let output = command
        .arg("--output-dir")
        .arg(&out)
        .args(flags)
        .output()
        .unwrap();
    Extracted::read(folder, &out, &output)
}

/// Returns the tested program, whose path Cargo provides.
pub fn extractor() -> Command {
    let program =
        std::env::var_os("CARGO_BIN_EXE_sip-call-extractor").expect("`cargo test` runs the tests");
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG");
    command
}

/// The results of the extractor.
pub struct Extracted {
    folder: TempDir,
    pub out: PathBuf,
    pub status: Option<i32>,
    pub log: String,
    pub calls: Vec<Row>,
    pub streams: Vec<Row>,
}

/// A row of a CSV file, by column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(BTreeMap<String, String>);

impl Extracted {
    fn read(folder: TempDir, out: &Path, output: &Output) -> Self {
        let log = String::from_utf8(output.stderr.clone()).expect("the log is UTF-8");
        assert!(!log.contains("panicked"), "{log}");
        assert!(output.stdout.is_empty(), "nothing is for standard output");
        Self {
            out: out.to_owned(),
            status: output.status.code(),
            log,
            calls: rows(&out.join("detected_calls.csv")),
            streams: rows(&out.join("calls_statistics.csv")),
            folder,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[track_caller]
    pub fn only_call(&self) -> Found<'_> {
        assert_eq!(self.calls.len(), 1, "{:#?}", self.calls);
        Found {
            extracted: self,
            row: &self.calls[0],
        }
    }

    /// Returns the call with this Call-ID. Fails if there are several.
    #[track_caller]
    pub fn call(&self, call_id: &str) -> Found<'_> {
        let found: Vec<_> = self
            .calls
            .iter()
            .filter(|row| row.get("call_id") == call_id)
            .collect();
        assert_eq!(found.len(), 1, "{call_id} in {:#?}", self.calls);
        Found {
            extracted: self,
            row: found[0],
        }
    }

    /// Returns the calls in the order of their rows.
    pub fn each_call(&self) -> Vec<Found<'_>> {
        self.calls
            .iter()
            .map(|row| Found {
                extracted: self,
                row,
            })
            .collect()
    }

    /// Returns all files, by name, with their bytes.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(&self.out)
            .unwrap()
            .map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    std::fs::read(entry.path()).unwrap(),
                )
            })
            .collect()
    }
}

impl Row {
    #[track_caller]
    pub fn get(&self, column: &str) -> &str {
        self.0
            .get(column)
            .unwrap_or_else(|| panic!("no column {column}"))
    }

    /// The columns with their cells.
    pub fn cells(&self) -> impl Iterator<Item = (&str, &str)> {
        let cells = self.0.iter();
        cells.map(|(column, cell)| (column.as_str(), cell.as_str()))
    }

    /// The cells of all other columns.
    pub fn without(&self, column: &str) -> Vec<&str> {
        let others = self.0.iter().filter(|(name, _)| *name != column);
        others.map(|(_, cell)| cell.as_str()).collect()
    }

    /// Checks a column.
    #[track_caller]
    pub fn has(&self, column: &str, value: &str) -> &Self {
        assert_eq!(self.get(column), value, "{column} of {self:#?}");
        self
    }
}

/// One extracted call.
pub struct Found<'a> {
    extracted: &'a Extracted,
    pub row: &'a Row,
}

impl Found<'_> {
    /// Checks its state.
    #[track_caller]
    pub fn is(&self, state: &str) -> &Self {
        self.has("state", state)
    }

    /// Checks a column.
    #[track_caller]
    pub fn has(&self, column: &str, value: &str) -> &Self {
        self.row.has(column, value);
        self
    }

    /// Checks its number of SIP frames, in its row and in its pcap.
    #[track_caller]
    pub fn has_sip(&self, frames: usize) -> &Self {
        let payloads = self.payloads();
        let is_sip = |payload: &&Vec<u8>| {
            payload
                .split(|&byte| byte == b'\r')
                .next()
                .is_some_and(|line| line.windows(7).any(|word| word == b"SIP/2.0"))
        };
        assert_eq!(
            payloads.iter().filter(is_sip).count(),
            frames,
            "frames with SIP in {:?}",
            self.path()
        );
        self.has("sip_packet_count", &frames.to_string())
    }

    /// Checks the sequence numbers of one SSRC's RTP packets in its pcap, and the packet count of
    /// its streams.
    #[track_caller]
    pub fn has_rtp(&self, ssrc: u32, sequence: impl IntoIterator<Item = u16>) -> &Self {
        let sequence: Vec<u16> = sequence.into_iter().collect();
        assert_eq!(
            self.rtp(ssrc),
            sequence,
            "RTP of {ssrc:#x} in {:?}",
            self.path()
        );
        let ssrc_hex = format!("{ssrc:#010x}");
        let of_ssrc = self
            .streams()
            .into_iter()
            .filter(|stream| stream.get("ssrc_hex") == ssrc_hex);
        let counted: usize = of_ssrc
            .map(|stream| stream.get("rtp_packet_count").parse::<usize>().unwrap())
            .sum();
        assert_eq!(
            counted,
            sequence.len(),
            "RTP of {ssrc:#x} in the statistics"
        );
        self
    }

    /// True if its pcap has a datagram with this payload.
    pub fn carries(&self, payload: &[u8]) -> bool {
        self.payloads().iter().any(|found| found == payload)
    }

    /// Returns its streams.
    pub fn streams(&self) -> Vec<&Row> {
        let file = self.row.get("output_pcap_filename");
        self.extracted
            .streams
            .iter()
            .filter(|row| row.get("output_pcap_filename") == file)
            .collect()
    }

    /// Returns the frames in its pcap: time in nanoseconds, bytes.
    pub fn frames(&self) -> Vec<(u64, Vec<u8>)> {
        read_frames(&std::fs::read(self.path()).unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.extracted
            .out
            .join(self.row.get("output_pcap_filename"))
    }

    /// Returns the payloads of the UDP datagrams in its pcap (Ethernet).
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        let headers = |frame: &[u8]| {
            if frame[12..14] == [0x86, 0xdd] {
                62
            } else {
                42
            }
        };
        self.frames()
            .into_iter()
            .map(|(_, frame)| frame[headers(&frame)..].to_vec())
            .collect()
    }

    /// Returns the sequence numbers of one SSRC's RTP packets in its pcap (Ethernet).
    pub fn rtp(&self, ssrc: u32) -> Vec<u16> {
        let payloads = self.payloads();
        let of_ssrc = payloads.iter().filter(|payload| {
            payload.len() > 12 && payload[0] == 0x80 && payload[8..12] == ssrc.to_be_bytes()
        });
        of_ssrc
            .map(|payload| u16::from_be_bytes([payload[2], payload[3]]))
            .collect()
    }
}

/// Returns the frames of a capture. Fails if the capture is damaged.
pub fn read_frames(capture: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let (layout, start) = Layout::detect(capture).unwrap();
    let mut walk = layout.walk(capture, start);
    let mut frames = Vec::new();
    while let Some(step) = walk.next_step() {
        let Step::Record(record) = step else {
            panic!("{step:?}")
        };
        frames.push((record.timestamp_ns.unwrap(), record.frame.to_vec()));
    }
    frames
}

fn rows(path: &Path) -> Vec<Row> {
    let Ok(mut reader) = csv::Reader::from_path(path) else {
        return Vec::new();
    };
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        Row(header
            .iter()
            .map(str::to_owned)
            .zip(record.iter().map(str::to_owned))
            .collect())
    };
    reader
        .records()
        .map(|record| row(record.unwrap()))
        .collect()
}
