//! Network namespaces connected by wires, and the programs that run there.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The longest wait of a test.
const PATIENCE: Duration = Duration::from_secs(25);

/// Polls until a condition holds: an open socket, an exited process or a grown file of another
/// program, of which the kernel sends no event.
pub fn wait_until(what: &str, mut has_happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !has_happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Splits a line into words; a no-break space in a word stands for a space.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| word.replace('\u{a0}', " "))
}

fn must_succeed(mut command: Command) {
    let said = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup installs it"));
    assert!(
        said.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&said.stderr)
    );
}

/// A network namespace. It is removed on drop, with the wires that lead into it.
pub struct Namespace(String);

impl Namespace {
    pub fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "sip-test-{}-{}",
            process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        );
        let mut command = Command::new("ip");
        command.args(["netns", "add", &name]);
        must_succeed(command);
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    /// Returns the command that runs a line here.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.0])
            .args(words(line))
            .stdin(Stdio::null());
        command
    }

    /// Runs a short program to its end.
    pub fn run(&self, line: &str) {
        must_succeed(self.command(line));
    }

    /// Runs iproute2's `ip` here.
    pub fn ip(&self, line: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.0]).args(words(line));
        must_succeed(command);
    }

    /// True if the kernel supports this type of interface.
    pub fn can_have(&self, kind: &str) -> bool {
        let mut command = Command::new("ip");
        command
            .args(["-n", &self.0, "link", "add", "probe"])
            .args(words(kind));
        let can = command.output().unwrap().status.success();
        if can {
            self.ip("link del probe");
        }
        can
    }

    /// Creates an interface `name` whose other end is `other_name` in `other`.
    pub fn wire(&self, name: &str, other: &Self, other_name: &str) {
        self.ip(&format!(
            "link add {name} type veth peer name {other_name} netns {}",
            other.0
        ));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {other_name} up"));
    }

    /// Adds a class 1:2 with this rate to an interface. Packets that netfilter puts there are
    /// overtaken by others.
    pub fn has_slow_lane(&self, interface: &str, rate: &str) {
        let device = format!("dev {interface}");
        self.run(&format!(
            "tc qdisc add {device} root handle 1: htb default 1"
        ));
        for (class, rate) in [("1:1", "100mbit"), ("1:2", rate)] {
            self.run(&format!(
                "tc class add {device} parent 1: classid {class} htb rate {rate} quantum 1600"
            ));
        }
    }

    /// Makes packets on this interface as on a real wire: no segments larger than its MTU,
    /// checksums computed.
    pub fn without_offloads(&self, interface: &str) {
        self.run(&format!(
            "ethtool -K {interface} tso off gso off gro off tx off"
        ));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Only children of stopped programs can still run here.
        let left = Command::new("ip").args(["netns", "pids", &self.0]).output();
        let left = left
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        for process in left.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", process]).output();
        }
        let deleted = Command::new("ip").args(["netns", "del", &self.0]).output();
        if !deleted.is_ok_and(|output| output.status.success()) {
            eprintln!("the namespace {} is left behind", self.0);
        }
    }
}

/// A program that is killed on drop. Its output is kept.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it in a folder, which gets its log.
    pub fn start(mut command: Command, name: &str, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = fs::File::create(&log).unwrap();
        command
            .current_dir(folder)
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup installs it"));
        Self { child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until its output contains this text.
    pub fn says(&mut self, text: &str) {
        wait_until(&format!("{text:?} in {:?}", self.log), || {
            let said = self.said();
            assert!(
                said.contains(text) || self.child.try_wait().unwrap().is_none(),
                "it ended without {text:?}: {said}"
            );
            said.contains(text)
        });
    }

    /// Waits until it listens on a port, over any protocol.
    pub fn listens(&mut self, port: u16) {
        let end_of_address = format!(":{port:04X}");
        wait_until(&format!("port {port} for {:?}", self.log), || {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "it ended before it listened on {port}: {}",
                self.said()
            );
            ["tcp", "tcp6", "udp", "udp6"].iter().any(|protocol| {
                let sockets =
                    fs::read_to_string(format!("/proc/{}/net/{protocol}", self.child.id()))
                        .unwrap_or_default();
                // For TCP only listening sockets (0A) count; UDP sockets are always "closed" (07).
                sockets
                    .lines()
                    .map(str::split_whitespace)
                    .any(|mut columns| {
                        columns
                            .nth(1)
                            .is_some_and(|local| local.ends_with(&end_of_address))
                            && columns
                                .nth(1)
                                .is_some_and(|state| state == "0A" || state == "07")
                    })
            })
        });
    }

    pub fn signal(&self, signal: &str) {
        let mut command = Command::new("kill");
        command.args([&format!("-{signal}"), &self.id().to_string()]);
        must_succeed(command);
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        wait_until(
            &format!("the end of the program with the log {:?}", self.log),
            || self.child.try_wait().unwrap().is_some(),
        );
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{:?}:\n{}", self.log, self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two namespaces with a phone each, and the network between them.
pub struct Lab {
    // In the order in which they are dropped.
    programs: Vec<Program>,
    pub phones: [Namespace; 2],
    /// The namespaces between the phones, if there are any; the tap is then in the first.
    pub switches: Vec<Namespace>,
    /// The addresses of the caller and the callee.
    pub addresses: [IpAddr; 2],
    /// The addresses of their audio.
    pub media: [IpAddr; 2],
    pub folder: TempDir,
}

pub const V4: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
pub const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

/// The interface at which packets are captured.
pub const WIRE: &str = "wire";

impl Lab {
    /// Creates phones with one wire between them.
    pub fn new() -> Self {
        let phones = [Namespace::new(), Namespace::new()];
        phones[0].wire(WIRE, &phones[1], WIRE);
        let mut lab = Self::unconnected(phones);
        lab.number(WIRE, V4);
        lab.number(WIRE, V6);
        lab.at(V4)
    }

    pub fn unconnected(phones: [Namespace; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = V4.map(|text| text.parse().unwrap());
        Self {
            programs: Vec::new(),
            phones,
            switches: Vec::new(),
            addresses,
            media: addresses,
            folder,
        }
    }

    /// Gives an interface of both phones addresses.
    pub fn number(&mut self, interface: &str, addresses: [&str; 2]) {
        for (phone, address) in self.phones.iter().zip(addresses) {
            let address = if address.contains(':') {
                format!("{address}/64 nodad")
            } else {
                format!("{address}/24")
            };
            phone.ip(&format!("addr add {address} dev {interface}"));
        }
    }

    /// Sets the addresses of the calls.
    pub fn at(mut self, addresses: [&str; 2]) -> Self {
        self.addresses = addresses.map(|text| text.parse().unwrap());
        self.media = self.addresses;
        self
    }

    /// Sets the addresses of the audio.
    #[allow(dead_code, reason = "the agent's tests need it")]
    pub fn with_media_at(mut self, addresses: [&str; 2]) -> Self {
        self.media = addresses.map(|text| text.parse().unwrap());
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends everything else, and returns the folder with the capture.
    pub fn into_folder(self) -> TempDir {
        self.folder
    }

    /// Keeps a program running as long as the lab exists.
    pub fn keep(&mut self, program: Program) {
        self.programs.push(program);
    }

    pub fn tap(&self) -> Tap {
        self.tap_at(WIRE, self.addresses[1])
    }

    /// Starts a tap at the interface behind which this address is.
    pub fn tap_at(&self, interface: &str, behind: IpAddr) -> Tap {
        let at = self.switches.first().unwrap_or(&self.phones[0]);
        let file = self.folder().join(format!("at-{interface}.pcap"));
        let line = format!(
            "tcpdump -i {interface} -n -U --immediate-mode -s 0 -B 16384 -Z root -w {}",
            file.display()
        );
        let mut program = Program::start(
            at.command(&line),
            &format!("tcpdump-{interface}"),
            self.folder(),
        );
        program.says("listening on");
        Tap {
            program,
            behind,
            file,
        }
    }
}

/// A capture of the packets on the wire.
pub struct Tap {
    program: Program,
    behind: IpAddr,
    file: PathBuf,
}

impl Tap {
    /// Ends the capture once a final datagram is in it.
    pub fn stop(mut self, lab: &Lab) -> PathBuf {
        const LAST: &str = "the last datagram";
        fs::write(
            lab.folder().join("last"),
            format!("echo {LAST} >/dev/udp/{}/9", self.behind),
        )
        .unwrap();
        lab.phones[0].run(&format!("bash {}", lab.folder().join("last").display()));
        wait_until("the last datagram in the capture", || {
            fs::read(&self.file)
                .unwrap()
                .windows(LAST.len())
                .any(|bytes| bytes == LAST.as_bytes())
        });
        self.program.signal("INT");
        assert!(self.program.end().success());
        let said = self.program.said();
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        self.file.clone()
    }
}
