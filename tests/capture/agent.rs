//! The agent under test, its traffic, and the segments that it wrote.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use shared::{
    pcap::{Layout, LinkType, Precision, Step, file_header, record_header},
    segment::{SegmentFile, SegmentName},
};
use support::lab::{Namespace, Program, WIRE, wait_until};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_sip-capture-agent");

/// The destination port of numbered datagrams, and the flags that capture only those.
pub const PORT: u16 = 9999;
pub const FILTER: [&str; 2] = ["--filter", "udp port 9999"];

/// The same without rotation by time.
pub const STEADY: [&str; 4] = ["--filter", "udp port 9999", "--rotate-every", "0"];

/// The length of a numbered frame: that of RTP with 20 ms of G.711.
pub const FRAME_LEN: usize = 214;
const PAYLOAD: usize = 14 + 20 + 8;

/// A running agent and its log.
pub struct Agent {
    pub program: Program,
}

impl Agent {
    /// Starts it in this namespace; `arguments` name the interface.
    pub fn start(folder: &Path, output: &Path, arguments: &[&str]) -> Self {
        Self::run(Command::new(BINARY), folder, output, arguments)
    }

    /// Starts it in another namespace, on the wire.
    pub fn on_wire(
        namespace: &Namespace,
        folder: &Path,
        output: &Path,
        arguments: &[&str],
    ) -> Self {
        Self::on(&[WIRE], namespace, folder, output, arguments)
    }

    /// Starts it in another namespace, on these interfaces.
    pub fn on(
        interfaces: &[&str],
        namespace: &Namespace,
        folder: &Path,
        output: &Path,
        arguments: &[&str],
    ) -> Self {
        let mut command = namespace.command(BINARY);
        command.args(
            interfaces
                .iter()
                .flat_map(|interface| ["--interface", interface]),
        );
        Self::run(command, folder, output, arguments)
    }

    pub fn run(mut command: Command, folder: &Path, output: &Path, arguments: &[&str]) -> Self {
        command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .arg("--output-dir")
            .arg(output)
            .args(arguments);
        let mut program = Program::start(command, "agent", folder);
        program.says("capturing");
        Self { program }
    }

    pub fn log(&self) -> String {
        self.program.said()
    }

    /// Waits until it has captured `packets` packets: asks for statistics until they say so.
    pub fn has_captured(&mut self, packets: usize) {
        let words = format!(" packets={packets} new=");
        wait_until(&format!("{packets} packets in {}", self.log()), || {
            self.program.signal("USR1");
            self.log().contains(&words)
        });
    }

    /// Ends it with a signal, checks its exit status, and returns its log.
    pub fn end(mut self, signal: &str) -> String {
        self.program.signal(signal);
        let status = self.program.end();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.log()
    }

    /// Waits until it ends by itself, checks its exit status, and returns its log.
    pub fn ends(mut self) -> String {
        let status = self.program.end();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.log()
    }
}

/// Runs an agent that refuses to start, and returns its exit status and its message.
pub fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command
        .env_remove("RUST_LOG")
        .arg("--output-dir")
        .arg(directory.path())
        .args(arguments);
    let Output { status, stderr, .. } = command.output().unwrap();
    assert_eq!(
        names_in(directory.path()),
        Vec::<String>::new(),
        "nothing may be left of a capture that never began"
    );
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Runs an agent that prints something and ends, and returns the text.
pub fn printed(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two namespaces with a wire between them, folders for logs and for segments.
pub struct Network {
    pub near: Namespace,
    pub far: Namespace,
    folder: TempDir,
}

impl Network {
    pub fn new() -> Self {
        let network = Self {
            near: Namespace::new(),
            far: Namespace::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(network.segments()).unwrap();
        network.connect();
        network
    }

    /// Connects the namespaces by a wire on which only the test sends.
    pub fn connect(&self) {
        for namespace in [&self.near, &self.far] {
            namespace.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        }
        self.near.wire(WIRE, &self.far, WIRE);
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn segments(&self) -> PathBuf {
        self.folder().join("segments")
    }

    /// Starts an agent at the near end.
    pub fn agent(&self, arguments: &[&str]) -> Agent {
        Agent::on_wire(&self.near, self.folder(), &self.segments(), arguments)
    }

    /// Sends these frames from the far end, `per_second` frames per second.
    pub fn send(&self, frames: &[Vec<u8>], per_second: usize) {
        assert!(self.sending(frames, per_second).end().success());
    }

    pub fn send_numbers(&self, numbers: std::ops::Range<u64>, per_second: usize) {
        self.send(&numbered(numbers), per_second);
    }

    /// Does the same in the background.
    pub fn sending(&self, frames: &[Vec<u8>], per_second: usize) -> Program {
        let file = self.folder().join("frames.pcap");
        fs::write(&file, capture(frames)).unwrap();
        let line = format!(
            "tcpreplay -q --pps={per_second} -i {WIRE} {}",
            file.display()
        );
        Program::start(self.far.command(&line), "tcpreplay", self.folder())
    }
}

/// Returns a capture file with these frames.
pub fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = file_header(LinkType::ETHERNET, Precision::Micro, 262_144).to_vec();
    for frame in frames {
        let len = frame.len() as u32;
        file.extend(record_header(
            1_700_000_000_000_000_000,
            Precision::Micro,
            len,
            len,
        ));
        file.extend(frame);
    }
    file
}

/// Returns datagrams that contain these numbers.
pub fn numbered(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers
        .map(|number| {
            ethernet(
                &[0x0800],
                &datagram(&number.to_be_bytes(), FRAME_LEN - PAYLOAD),
            )
        })
        .collect()
}

/// Returns a frame with these EtherTypes, all but the last of which are VLAN tags.
pub fn ethernet(types: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (index, ether_type) in types.iter().enumerate() {
        frame.extend(ether_type.to_be_bytes());
        frame.extend(if index + 1 < types.len() {
            &[0, 100][..]
        } else {
            &[]
        });
    }
    frame.extend(packet);
    frame
}

/// Returns an IPv4 packet with a datagram whose payload begins with these bytes.
pub fn datagram(payload: &[u8], len: usize) -> Vec<u8> {
    let mut udp = Vec::new();
    for field in [PORT, PORT, 8 + len as u16, 0] {
        udp.extend(field.to_be_bytes());
    }
    udp.extend(payload);
    udp.resize(8 + len, 0);
    ipv4(17, 0, &udp)
}

pub fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = (20 + payload.len() as u16).to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    let header = [
        0x45, 0, l0, l1, 0, 7, f0, f1, 64, protocol, 0, 0, 198, 51, 100, 1, 198, 51, 100, 2,
    ];
    [&header[..], payload].concat()
}

/// Returns the names of a directory's files, sorted, without the files of drops: each segment has
/// one beside it.
pub fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".drops.json"))
        .collect();
    names.sort();
    names
}

/// Returns the closed segments of a directory, sorted by name. Fails if it holds other files.
pub fn segments(directory: &Path) -> Vec<(SegmentName, PathBuf)> {
    let closed = |name: String| match SegmentFile::named(&name) {
        Some(SegmentFile::Closed(segment)) => (segment, directory.join(name)),
        other => panic!("{name}: {other:?}"),
    };
    names_in(directory).into_iter().map(closed).collect()
}

/// The contents of a segment, which must be readable to its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub link: LinkType,
    pub timestamp_ns: u64,
    pub wire_len: u32,
    pub frame: Vec<u8>,
}

impl Captured {
    pub fn number(&self) -> u64 {
        u64::from_be_bytes(self.frame[PAYLOAD..PAYLOAD + 8].try_into().unwrap())
    }
}

pub fn read(path: &Path) -> Vec<Captured> {
    let file = fs::read(path).unwrap();
    let (layout, start) = Layout::detect(&file).unwrap();
    let mut walk = layout.walk(&file, start);
    let mut records = Vec::new();
    while let Some(step) = walk.next_step() {
        let Step::Record(record) = step else {
            panic!("{}: {step:?}", path.display())
        };
        records.push(Captured {
            link: record.link,
            timestamp_ns: record.timestamp_ns.unwrap(),
            wire_len: record.wire_len,
            frame: record.frame.to_vec(),
        });
    }
    records
}

/// Reads all segments of a directory in the order of their names.
pub fn read_all(directory: &Path) -> Vec<Captured> {
    segments(directory)
        .iter()
        .flat_map(|(_, path)| read(path))
        .collect()
}

pub fn numbers_in(directory: &Path) -> Vec<u64> {
    read_all(directory).iter().map(Captured::number).collect()
}

/// Checks that the segments hold these numbers, each once, in order.
#[track_caller]
pub fn assert_numbers(directory: &Path, want: std::ops::Range<u64>) {
    let numbers = numbers_in(directory);
    let first_wrong = numbers
        .iter()
        .zip(want.clone())
        .position(|(got, want)| *got != want);
    assert_eq!(
        (numbers.len(), first_wrong),
        (want.count(), None),
        "length, and place of the first wrong number"
    );
}

/// Sleeps, where a test depends on real time.
pub fn let_pass(time: Duration) {
    let begun = std::time::Instant::now();
    wait_until("time to pass", || begun.elapsed() >= time);
}
