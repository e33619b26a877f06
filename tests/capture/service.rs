//! The agent as a service: its privileges, its notifications, its configuration file.

use std::{
    env, fs,
    fs::Permissions,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use support::lab::{WIRE, wait_until};

use crate::agent::{Agent, Network, STEADY, assert_numbers, names_in};

const BINARY: &str = env!("CARGO_BIN_EXE_sip-capture-agent");

/// CAP_NET_RAW has number 13.
const ONLY_NET_RAW: &str = "0000000000002000";

/// Returns the value of a field in a process's status.
fn status(agent: &Agent, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.program.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with(&format!("{field}:")))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

fn is_humble(agent: &Agent) {
    for field in ["CapEff", "CapPrm"] {
        assert_eq!(status(agent, field), ONLY_NET_RAW, "{field}");
    }
    assert_eq!(
        (
            status(agent, "CapInh").as_str(),
            status(agent, "NoNewPrivs").as_str()
        ),
        ("0000000000000000", "1")
    );
}

/// Creates a network whose folder other users may read.
fn open_network() -> Network {
    let network = Network::new();
    fs::set_permissions(network.folder(), Permissions::from_mode(0o711)).unwrap();
    network
}

#[test]
fn it_becomes_another_user_and_can_still_open_the_interface_again() {
    let network = open_network();
    // The agent creates the directory, for the user.
    fs::remove_dir(network.segments()).unwrap();
    let mut agent = network.agent(&[&STEADY[..], &["--user", "nobody"]].concat());
    is_humble(&agent);
    assert_ne!(status(&agent, "Uid"), "0");
    assert_eq!(status(&agent, "CapBnd"), "0000000000000000");
    network.send_numbers(0..100, 10_000);
    network.near.ip(&format!("link del {WIRE}"));
    agent.program.says("waiting for it to come back");
    network.connect();
    agent.program.says("capturing again");
    network.send_numbers(100..200, 10_000);
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..200);
}

/// Returns the seccomp mode of each thread: 2 with a filter, 0 without.
fn filtered(agent: &Agent) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", agent.program.id())).unwrap();
    let status =
        threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
    let field = |status: String| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"))
            .unwrap()
            .trim()
            .to_owned()
    };
    status.map(field).collect()
}

#[test]
fn in_the_sandbox_all_of_it_works() {
    let network = Network::new();
    let metrics = network.folder().join("agent.prom");
    let flags = [
        "--metrics-file",
        metrics.to_str().unwrap(),
        "--max-disk-bytes",
        "1",
    ];
    let mut agent = network.agent(&[&STEADY[..], &flags].concat());
    network.send_numbers(0..100, 10_000);
    agent.has_captured(100);
    // An agent that reports its counters has started all threads.
    let modes = filtered(&agent);
    assert!(
        modes.len() > 4 && modes.iter().all(|mode| mode == "2"),
        "{modes:?}"
    );
    agent.program.signal("HUP");
    agent.program.says("deleted for --max-disk-bytes");
    network.send_numbers(100..200, 10_000);
    agent.has_captured(200);
    network.near.ip(&format!("link del {WIRE}"));
    agent.program.says("waiting for it to come back");
    network.connect();
    agent.program.says("capturing again");
    network.send_numbers(200..300, 10_000);
    let log = agent.end("TERM");
    let text = fs::read_to_string(&metrics).unwrap();
    assert!(
        text.contains(&format!(
            "packets_written_total{{interface=\"{WIRE}\"}} 300\n"
        )),
        "{text}"
    );
    assert!(log.contains("in the sandbox: "), "{log}");
    assert!(!log.contains("Operation not permitted"), "{log}");
}

#[test]
fn without_the_sandbox_no_call_is_filtered() {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let network = Network::new();
    let agent = network.agent(&[&STEADY[..], &["--no-sandbox"]].concat());
    let modes = filtered(&agent);
    assert!(
        modes
            .iter()
            .all(|mode| own.contains(&format!("Seccomp:\t{mode}\n"))),
        "{modes:?}"
    );
    assert!(!agent.end("TERM").contains("sandbox"));
}

#[test]
fn one_capability_is_enough() {
    let network = open_network();
    fs::set_permissions(network.segments(), Permissions::from_mode(0o770)).unwrap();
    run(
        "chgrp",
        &["nogroup", &network.segments().display().to_string()],
    );
    // The program is copied to a folder that another user can read.
    let binary = network.folder().join("sip-capture-agent");
    fs::copy(BINARY, &binary).unwrap();
    let mut command = network
        .near
        .command("setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+net_raw --ambient-caps=+net_raw");
    command
        .arg(&binary)
        .args(["--interface", WIRE, "--promiscuous"]);
    let agent = Agent::run(command, network.folder(), &network.segments(), &STEADY);
    is_humble(&agent);
    network.send_numbers(0..100, 10_000);
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..100);
}

/// As the image has it: another user, and a capability that is the file's. Containers take
/// capabilities out of the bounding set; the program starts all the same, and says what is missing.
#[test]
fn a_file_s_capability_does_where_the_container_leaves_it() {
    let network = open_network();
    fs::set_permissions(network.segments(), Permissions::from_mode(0o770)).unwrap();
    let segments = network.segments().display().to_string();
    run("chgrp", &["nogroup", &segments]);
    let binary = network.folder().join("sip-capture-agent");
    fs::copy(BINARY, &binary).unwrap();
    let path = binary.display().to_string();
    run("setcap", &["cap_net_raw+p", &path]);
    let in_container = |bounding: &str, more: &[&str]| {
        let mut command = network.near.command(&format!(
            "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set={bounding}"
        ));
        command.args(more).arg(&binary);
        command.args(["--interface", WIRE, "--promiscuous"]);
        command
    };
    let agent = Agent::run(
        in_container("-all,+net_raw", &[]),
        network.folder(),
        &network.segments(),
        &STEADY,
    );
    is_humble(&agent);
    network.send_numbers(0..100, 10_000);
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..100);

    let refused = |bounding: &str, more: &[&str]| {
        let mut command = in_container(bounding, more);
        let output = command.args(["--output-dir", &segments]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("in a container, `--cap-add NET_RAW`"),
            "{said}"
        );
        said
    };
    assert!(!refused("-all", &[]).contains("no new privileges"));
    let said = refused("-all,+net_raw", &["setpriv", "--no-new-privs"]);
    assert!(said.contains("allows no new privileges"), "{said}");
}

fn run(program: &str, arguments: &[&str]) {
    assert!(
        Command::new(program)
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn the_service_manager_is_told() {
    let network = Network::new();
    let path = network.folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut command = network.near.command(BINARY);
    command
        .args(["--interface", WIRE])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000")
        .env_remove("WATCHDOG_PID");
    let agent = Agent::run(command, network.folder(), &network.segments(), &STEADY);
    let mut told = String::new();
    let mut is_told = |words: &str| {
        while !told.contains(words) {
            let mut message = [0; 4096];
            let len = socket
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("no {words} in {told}: {error}"));
            told.push_str(&String::from_utf8_lossy(&message[..len]));
            told.push('\n');
        }
    };
    is_told("READY=1");
    is_told("WATCHDOG=1");
    is_told(&format!(
        "STATUS={WIRE}: 0 packets, dropped 0 by the kernel, 0 for the disk"
    ));
    agent.end("TERM");
    is_told("STOPPING=1");
}

#[test]
fn counters_are_in_the_metrics_file_and_in_the_log() {
    let network = Network::new();
    let [metrics, victim] = ["agent.prom", "victim"].map(|name| network.folder().join(name));
    // An attacker's links, and a temporary file that a killed agent has left.
    fs::write(&victim, "precious").unwrap();
    [".agent.prom.part", "agent.prom"]
        .iter()
        .for_each(|name| symlink(&victim, network.folder().join(name)).unwrap());
    let left = network.folder().join(".agent.prom.0a1B2c3D.part");
    fs::write(&left, "").unwrap();
    let arguments = [
        "--metrics-file",
        metrics.to_str().unwrap(),
        "--stats-interval",
        "200ms",
        "--log-format",
        "json",
    ];
    let mut command = network.near.command(BINARY);
    command.args(["--interface", WIRE]);
    let mut agent = Agent::run(
        command,
        network.folder(),
        &network.segments(),
        &[&STEADY[..], &arguments].concat(),
    );
    network.send_numbers(0..1000, 20_000);
    agent.program.says("\"packets\":1000");
    wait_until("metrics", || {
        fs::symlink_metadata(&metrics).is_ok_and(|metadata| metadata.is_file())
    });
    let log = agent.end("TERM");
    assert_eq!(
        (fs::read_to_string(&victim).unwrap().as_str(), left.exists()),
        ("precious", false)
    );
    let text = fs::read_to_string(&metrics).unwrap();
    for (name, value) in [
        ("packets_received_total", "1000"),
        ("packets_written_total", "1000"),
        ("kernel_drops_total", "0"),
        ("disk_drops_total", "0"),
        ("segments_closed_total", "1"),
        ("bytes_written_total", "230024"),
    ] {
        let line = format!("sip_capture_agent_{name}{{interface=\"{WIRE}\"}} {value}\n");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    assert!(
        log.lines()
            .all(|line| line.starts_with('{') && line.ends_with('}')),
        "{log}"
    );
}

#[test]
fn packets_that_the_kernel_has_no_room_for_are_counted() {
    let network = Network::new();
    let mut agent = network.agent(&[&STEADY[..], &["--buffer-size", "256KiB"]].concat());
    agent.program.signal("STOP");
    network.send_numbers(0..20_000, 100_000);
    agent.program.signal("CONT");
    agent.program.says("packets were dropped");
    let log = agent.end("TERM");
    let field = |name: &str| {
        log.rsplit(name)
            .next()
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    assert_eq!(
        field("packets=") + field("kernel_dropped="),
        20_000,
        "{log}"
    );
}

#[test]
fn flags_come_from_a_file_where_the_command_line_does_not_say() {
    let network = Network::new();
    let file = network.folder().join("agent.toml");
    fs::write(&file, format!("interface = [\"{WIRE}\"]\nfilter = \"udp port 9999\"\ninstance = \"edge7\"\nsnaplen = 96\n"))
        .unwrap();
    let mut command = network.near.command(BINARY);
    command.args(["--config", file.to_str().unwrap(), "--snaplen", "300"]);
    let agent = Agent::run(command, network.folder(), &network.segments(), &[]);
    network.send_numbers(0..10, 1000);
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..10);
    let names = names_in(&network.segments());
    assert!(names[0].starts_with(&format!("edge7_{WIRE}_")), "{names:?}");
}

/// Creates a folder like the root of a machine on which the units are installed.
fn installed(folder: &Path) -> Vec<PathBuf> {
    let units = folder.join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for program in [
        "usr/local/bin/sip-capture-agent",
        "usr/local/bin/sip-call-extractor",
        "bin/kill",
    ] {
        let path = folder.join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/systemd");
    let copy = |name: &str| {
        fs::copy(from.join(name), units.join(name)).unwrap();
        PathBuf::from("/etc/systemd/system").join(name)
    };
    [
        "capture-agent.service",
        "extractor.service",
        "extractor.timer",
        "extractor-watch.service",
    ]
    .map(copy)
    .to_vec()
}

fn systemd_analyze(folder: &Path, arguments: &[&str], units: &[PathBuf]) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    command
        .arg("--root")
        .arg(folder)
        .args(arguments)
        .args(units);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("systemd-analyze: {error}; scripts/setup installs it"));
    (
        output.status.success(),
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    )
}

#[test]
fn the_units_are_sound_and_expose_little() {
    let folder = tempfile::tempdir().unwrap();
    let units = installed(folder.path());
    let (is_sound, said) = systemd_analyze(
        folder.path(),
        &["verify", "--recursive-errors=no", "--man=no"],
        &units,
    );
    assert!(is_sound && said.is_empty(), "{said}");
    // The threshold is in tenths: 3.0.
    for service in units
        .iter()
        .filter(|unit| unit.extension().is_some_and(|kind| kind == "service"))
    {
        let security = ["security", "--offline=yes", "--threshold=30", "--no-pager"];
        let (is_below, said) =
            systemd_analyze(folder.path(), &security, std::slice::from_ref(service));
        assert!(is_below, "{said}");
    }
}
