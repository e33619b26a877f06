//! Namespaces with wires between them, and the programs that run there.

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

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(25);

/// Of what the tests wait for (a socket that opens, a process that ends, a file that grows), other
/// programs' doings all, the kernel tells nobody, so it is asked again and again.
pub fn wait_until(what: &str, mut has_happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !has_happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The words of a line; a no-break space in one of them stands for a blank.
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

/// A network of its own. It ends with this value, and the wires that lead into it with it.
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

    /// What a program is to be called with to run here.
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

    /// iproute2's `ip`, here.
    pub fn ip(&self, line: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.0]).args(words(line));
        must_succeed(command);
    }

    /// Whether the kernel has this type of interface.
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

    /// An interface called `name`, at the other end of which is `other_name` of `other`.
    pub fn wire(&self, name: &str, other: &Self, other_name: &str) {
        self.ip(&format!(
            "link add {name} type veth peer name {other_name} netns {}",
            other.0
        ));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {other_name} up"));
    }

    /// What is sent over this interface goes as it will on a real wire: no segments larger than its
    /// MTU, checksums computed.
    pub fn without_offloads(&self, interface: &str) {
        self.run(&format!(
            "ethtool -K {interface} tso off gso off gro off tx off"
        ));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Of what ran here only children of programs can be left.
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

/// A program that runs until it is done or this value ends. What it says is kept.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it in a namespace and a folder, which gets its log.
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

    /// Waits until it has said this.
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

    /// Waits until it listens on a port, whatever the protocol.
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
                // Of TCP only sockets that listen (0A); those of UDP are always "closed" (07).
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

/// Two namespaces in which there is a phone each, and what is between them.
pub struct Lab {
    // In the order in which they end.
    programs: Vec<Program>,
    pub phones: [Namespace; 2],
    /// Between the phones, if there is something; the tap is then at the first.
    pub switches: Vec<Namespace>,
    /// Of the caller and the callee.
    pub addresses: [IpAddr; 2],
    /// Of their audio.
    pub media: [IpAddr; 2],
    pub folder: TempDir,
}

pub const V4: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
pub const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

/// The interface at which packets are captured.
pub const WIRE: &str = "wire";

impl Lab {
    /// Phones with one wire between them.
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

    /// Calls are made between these addresses.
    pub fn at(mut self, addresses: [&str; 2]) -> Self {
        self.addresses = addresses.map(|text| text.parse().unwrap());
        self.media = self.addresses;
        self
    }

    /// Their audio goes between these.
    #[allow(dead_code, reason = "the agent's tests need it")]
    pub fn with_media_at(mut self, addresses: [&str; 2]) -> Self {
        self.media = addresses.map(|text| text.parse().unwrap());
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What was captured, when all else has ended.
    pub fn into_folder(self) -> TempDir {
        self.folder
    }

    /// A program that runs as long as the lab is there.
    pub fn keep(&mut self, program: Program) {
        self.programs.push(program);
    }

    pub fn tap(&self) -> Tap {
        self.tap_at(WIRE, self.addresses[1])
    }

    /// A tap at an interface behind which this address is.
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

/// A capture of what passes over the wire.
pub struct Tap {
    program: Program,
    behind: IpAddr,
    file: PathBuf,
}

impl Tap {
    /// Ends the capture when all that passed is in it: a last datagram tells.
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
