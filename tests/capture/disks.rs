//! Disks that are full, that cannot be written to, or whose directory is removed; and deletion of
//! segments.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::Command,
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};

use support::lab::{WIRE, wait_until};

use crate::agent::{
    Agent, FILTER, Network, STEADY, assert_numbers, capture, let_pass, names_in, numbered,
    numbers_in, read, refused, segments,
};

/// A mounted file system, for segments or for all files of a test.
pub struct Disk<'a>(&'a Path);

/// The longest time for which a disk hangs. A failing test must end, and a program that writes to a
/// hanging disk cannot even be killed.
const MAX_HANGING: Duration = Duration::from_secs(40);

impl<'a> Disk<'a> {
    pub fn mount(at: &'a Path, size: &str) -> Self {
        run(&format!(
            "mount -t tmpfs -o mode=750,size={size} tmpfs {}",
            at.display()
        ));
        Self(at)
    }

    /// Mounts a file with a file system in it, which can be made to hang.
    fn mount_file(file: &Path, at: &'a Path) -> Self {
        fs::File::create(file).unwrap().set_len(64 << 20).unwrap();
        run(&format!("mkfs.ext4 -q {}", file.display()));
        run(&format!(
            "mount -o loop {} {}",
            file.display(),
            at.display()
        ));
        fs::set_permissions(at, Permissions::from_mode(0o750)).unwrap();
        Self(at)
    }

    /// Freezes the file system until the returned sender is dropped: writes to it block.
    #[must_use]
    fn hang(&self) -> Sender<()> {
        run(&format!("fsfreeze --freeze {}", self.0.display()));
        let (hanging, until) = mpsc::channel();
        let go_on = format!("fsfreeze --unfreeze {}", self.0.display());
        thread::spawn(move || {
            let _ = until.recv_timeout(MAX_HANGING);
            run(&go_on);
        });
        hanging
    }

    fn remount(&self, option: &str) {
        run(&format!("mount -o remount,{option} {}", self.0.display()));
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Without a frozen disk this does nothing; with one nobody else would unfreeze it.
        let _ = Command::new("fsfreeze")
            .arg("--unfreeze")
            .arg(self.0)
            .output();
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns the value of a field in the last log line that has it.
fn last_value(log: &str, field: &str) -> usize {
    let at = log
        .rfind(field)
        .unwrap_or_else(|| panic!("no {field} in {log}"));
    let digits: String = log[at + field.len()..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

#[test]
fn a_full_disk_costs_memory_first_and_counted_packets_then_and_not_the_agent() {
    let network = Network::new();
    let output = network.segments();
    let _disk = Disk::mount(&output, "2m");
    let mut agent = network.agent(
        &[
            &STEADY[..],
            &[
                "--rotate-size",
                "512KiB",
                "--queue-size",
                "1MiB",
                "--buffer-size",
                "1MiB",
            ],
        ]
        .concat(),
    );
    // Some 6.9 MB: more than disk and memory together.
    network.send_numbers(0..30_000, 20_000);
    agent.program.says("trying again until the disk accepts it");
    wait_until("drops to be counted", || {
        agent.program.signal("USR1");
        let log = agent.log();
        log.contains("disk_dropped=") && last_value(&log, "disk_dropped=") > 0
    });
    // As the extractor would, the test deletes segments.
    let processed: Vec<u64> = segments_there(&output)
        .iter()
        .flat_map(|path| take(path))
        .collect();
    agent.program.says("the disk accepts writes again");
    network.send_numbers(30_000..31_000, 10_000);
    let log = agent.end("TERM");
    let numbers = [processed, numbers_in(&output)].concat();
    let steps: Vec<u64> = numbers
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .filter(|step| *step != 1)
        .collect();
    let lost = 31_000 - numbers.len();
    assert_eq!((numbers[0], *numbers.last().unwrap()), (0, 30_999));
    // Segments are deleted one by one, so the disk may be full once more in between.
    let in_gaps: u64 = steps.iter().map(|step| step - 1).sum();
    assert!(
        (1..=3).contains(&steps.len()) && in_gaps as usize == lost,
        "what came while it was full, and nothing else: {steps:?}"
    );
    assert!(
        (1..18_000).contains(&lost),
        "2 MiB on the disk and 1 MiB in memory, and what the kernel has, are kept: {lost}"
    );
    assert_eq!(last_value(&log, "disk_dropped="), lost, "{log}");
}

/// Returns the closed segments.
fn segments_there(output: &Path) -> Vec<std::path::PathBuf> {
    names_in(output)
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .map(|name| output.join(name))
        .collect()
}

/// Reads and removes a segment, with the file of its drops.
fn take(path: &Path) -> Vec<u64> {
    let numbers = read(path)
        .iter()
        .map(crate::agent::Captured::number)
        .collect();
    let name = path.file_name().unwrap().to_str().unwrap();
    // Of very many segments in a row, some get their names before their drops are counted.
    if let Err(error) = fs::remove_file(path.with_file_name(format!(".{name}.drops.json"))) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    fs::remove_file(path).unwrap();
    numbers
}

#[test]
fn a_disk_that_is_full_at_the_end_does_not_hold_the_end_up() {
    let network = Network::new();
    let output = network.segments();
    let _disk = Disk::mount(&output, "1m");
    let mut agent = network.agent(&STEADY);
    network.send_numbers(0..10_000, 20_000);
    agent.has_captured(10_000);
    let log = agent.end("TERM");
    let kept = numbers_in(&output);
    assert!(
        kept.len() > 2000 && kept.is_sorted_by(|a, b| a < b),
        "{}",
        kept.len()
    );
    assert_eq!(
        last_value(&log, "disk_dropped="),
        10_000 - kept.len(),
        "{log}"
    );
}

#[test]
fn a_disk_that_is_read_only_for_a_while_costs_nothing() {
    let network = Network::new();
    let output = network.segments();
    let disk = Disk::mount(&output, "16m");
    let mut agent = network.agent(&STEADY);
    disk.remount("ro");
    network.send_numbers(0..2000, 10_000);
    agent.program.says("Read-only file system");
    disk.remount("rw");
    agent.program.says("the disk accepts writes again");
    network.send_numbers(2000..4000, 10_000);
    agent.end("TERM");
    assert_numbers(&output, 0..4000);
}

#[test]
fn a_disk_that_hangs_costs_nothing_as_long_as_there_is_memory() {
    let network = Network::new();
    let output = network.segments();
    let disk = Disk::mount_file(&network.folder().join("disk"), &output);
    // The watchdog is notified while the disk hangs.
    let path = network.folder().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut command = network
        .near
        .command(env!("CARGO_BIN_EXE_sip-capture-agent"));
    command
        .args(["--interface", WIRE])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000")
        .env_remove("WATCHDOG_PID");
    let arguments = ["--rotate-size", "100KiB", "--max-age", "1h"];
    let mut agent = Agent::run(
        command,
        network.folder(),
        &output,
        &[&STEADY[..], &arguments].concat(),
    );
    let hears = |words: &str| {
        let mut message = [0; 1024];
        let mut heard = String::new();
        while !heard.contains(words) {
            let len = manager.recv(&mut message).unwrap();
            heard = String::from_utf8_lossy(&message[..len]).into_owned();
        }
    };
    network.send_numbers(0..1000, 10_000);
    agent.has_captured(1000);
    let hanging = disk.hang();
    network.send_numbers(1000..11_000, 10_000);
    agent.has_captured(11_000);
    (0..4).for_each(|_| hears("WATCHDOG=1"));
    drop(hanging);
    network.send_numbers(11_000..12_000, 10_000);
    agent.end("TERM");
    fs::remove_dir(output.join("lost+found")).unwrap();
    assert_numbers(&output, 0..12_000);
}

#[test]
fn a_disk_that_hangs_when_an_earlier_run_is_repaired_holds_no_capture_up() {
    let network = Network::new();
    let output = network.segments();
    let disk = Disk::mount_file(&network.folder().join("disk"), &output);
    fs::remove_dir(output.join("lost+found")).unwrap();
    // The clock was ahead then: names of new segments still come after this one.
    let left = "edge1_wire_29991201T143022.123456Z_000041.pcap";
    let cut = [capture(&numbered(0..1000)), vec![7; 50]].concat();
    fs::write(output.join(format!(".{left}.part")), cut).unwrap();
    let hanging = disk.hang();
    let arguments = ["--instance", "edge1", "--rotate-size", "20KiB"];
    let mut agent = network.agent(&[&STEADY[..], &arguments].concat());
    network.send_numbers(1000..3000, 10_000);
    agent.has_captured(2000);
    assert_eq!(names_in(&output), [format!(".{left}.part")]);
    drop(hanging);
    wait_until("a segment", || !segments_there(&output).is_empty());
    assert!(
        segments_there(&output).contains(&output.join(left)),
        "what comes first in capture order is there first"
    );
    let log = agent.end("TERM");
    assert!(
        log.contains("repaired") && log.contains("cut_bytes=50"),
        "{log}"
    );
    assert_numbers(&output, 0..3000);
    let sequence: Vec<u32> = segments(&output)
        .iter()
        .map(|(name, _)| name.sequence())
        .collect();
    assert!(
        sequence.iter().copied().eq(41..41 + sequence.len() as u32),
        "{sequence:?}"
    );
}

#[test]
fn a_disk_that_hangs_at_the_end_costs_nothing_when_it_goes_on() {
    let network = Network::new();
    let output = network.segments();
    let disk = Disk::mount_file(&network.folder().join("disk"), &output);
    fs::remove_dir(output.join("lost+found")).unwrap();
    let mut agent = network.agent(&[&STEADY[..], &["--queue-size", "1MiB"]].concat());
    network.send_numbers(0..1000, 10_000);
    agent.has_captured(1000);
    let hanging = disk.hang();
    // More than memory has room for: the rest is in the kernel's buffer.
    network.send_numbers(1000..20_000, 10_000);
    agent.program.signal("TERM");
    agent.program.says("the end waits for the disk");
    drop(hanging);
    let log = agent.ends();
    assert_numbers(&output, 0..20_000);
    assert_eq!(
        (
            last_value(&log, "disk_dropped="),
            last_value(&log, "kernel_dropped=")
        ),
        (0, 0),
        "{log}"
    );
}

#[test]
fn a_directory_that_is_removed_is_made_again() {
    let network = Network::new();
    let output = network.segments();
    let mut agent = network.agent(&STEADY);
    network.send_numbers(0..100, 10_000);
    agent.has_captured(100);
    wait_until("the part file", || names_in(&output).len() == 1);
    fs::remove_dir_all(&output).unwrap();
    network.send_numbers(100..200, 10_000);
    agent.program.says("was removed while it was being written");
    let log = agent.end("TERM");
    assert_numbers(&output, 100..200);
    assert_eq!(last_value(&log, "disk_dropped="), 100, "{log}");
}

#[test]
fn segments_go_when_all_of_them_are_too_large() {
    let network = Network::new();
    let output = network.segments();
    let others = [
        "calls.pcap",
        "edge9_wire_20231201T143022.123456Z_000001.pcap",
    ]
    .map(|name| output.join(name));
    others
        .iter()
        .for_each(|other| fs::write(other, vec![0; 300_000]).unwrap());
    let agent = network.agent(
        &[
            &STEADY[..],
            &[
                "--instance",
                "edge1",
                "--rotate-size",
                "50KiB",
                "--max-disk-bytes",
                "300KiB",
            ],
        ]
        .concat(),
    );
    network.send_numbers(0..2000, 10_000);
    let mut processed = Vec::new();
    wait_until("room to be made", || {
        let names = names_in(&output);
        // The extractor marks the newest as processed.
        if processed.is_empty() && names.len() > 4 {
            let newest = names
                .iter()
                .rfind(|name| name.starts_with("edge1"))
                .unwrap();
            processed = vec![newest.clone()];
            fs::write(output.join(format!(".{newest}.processed")), "").unwrap();
        }
        used(&output) <= 300 * 1024
    });
    network.send_numbers(2000..4000, 10_000);
    wait_until("room to be made", || !output.join(&processed[0]).exists());
    let log = agent.end("TERM");
    assert!(
        others.iter().all(|other| other.exists()),
        "nobody else's files are deleted"
    );
    assert!(!output.join(format!(".{}.processed", processed[0])).exists());
    others
        .iter()
        .for_each(|other| fs::remove_file(other).unwrap());
    let numbers = numbers_in(&output);
    assert!(
        numbers
            .iter()
            .copied()
            .eq(4000 - numbers.len() as u64..4000),
        "the oldest are gone: {log}"
    );
    assert!(
        log.contains("deleted for --max-disk-bytes before the extractor has processed it"),
        "{log}"
    );
}

/// Returns the bytes of the closed segments of the instance `edge1`.
fn used(output: &Path) -> u64 {
    let own = names_in(output)
        .into_iter()
        .filter(|name| name.starts_with("edge1"));
    own.filter_map(|name| fs::metadata(output.join(name)).ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[test]
fn segments_go_when_they_are_too_old() {
    let network = Network::new();
    let output = network.segments();
    let agent =
        network.agent(&[&STEADY[..], &["--rotate-size", "50KiB", "--max-age", "2s"]].concat());
    network.send_numbers(0..1000, 10_000);
    wait_until("the oldest to be deleted", || {
        segments_there(&output).is_empty()
    });
    network.send_numbers(1000..1010, 1000);
    let log = agent.end("TERM");
    assert_eq!(numbers_in(&output).last(), Some(&1009), "{log}");
}

#[test]
fn segments_go_when_the_disk_gets_full() {
    let network = Network::new();
    let output = network.segments();
    let _disk = Disk::mount(&output, "3m");
    let agent = network.agent(
        &[
            &STEADY[..],
            &["--rotate-size", "100KiB", "--min-free-bytes", "1MiB"],
        ]
        .concat(),
    );
    for start in (0..40_000).step_by(4000) {
        network.send_numbers(start..start + 4000, 8000);
    }
    wait_until("room to be made", || free_bytes(&output) >= 1024 * 1024);
    let log = agent.end("TERM");
    let numbers = numbers_in(&output);
    assert!(
        numbers
            .iter()
            .copied()
            .eq(40_000 - numbers.len() as u64..40_000),
        "{log}"
    );
    assert!(
        numbers.len() > 4000 && last_value(&log, "disk_dropped=") == 0,
        "{} kept; {log}",
        numbers.len()
    );
}

fn free_bytes(path: &Path) -> u64 {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .nth(1)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn a_directory_in_which_anybody_may_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sip-capture-agent"))
        .args(["--interface", "lo", "--output-dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("chmod o-w"), "{log}");
    let (code, log) = refused(&["--interface", "lo", "--user", "no-such-user"]);
    assert!(code == Some(1) && log.contains("no-such-user"), "{log}");
}

#[test]
fn intervals_without_a_packet_leave_nothing_open() {
    let network = Network::new();
    let agent = network.agent(&[&FILTER[..], &["--rotate-every", "100ms"]].concat());
    let files = || {
        fs::read_dir(format!("/proc/{}/fd", agent.program.id()))
            .unwrap()
            .count()
    };
    let before = files();
    network.send_numbers(0..10, 1000);
    let_pass(Duration::from_millis(1500));
    assert_eq!(files(), before);
    assert_eq!(
        segments(&network.segments()).len(),
        segments_there(&network.segments()).len()
    );
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..10);
}

/// Returns the number of file descriptors, and the private memory in KiB.
fn state(agent: &Agent) -> (usize, u64) {
    let process = format!("/proc/{}", agent.program.id());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    (
        fs::read_dir(format!("{process}/fd")).unwrap().count(),
        memory.trim().trim_end_matches(" kB").parse().unwrap(),
    )
}

#[test]
fn ten_thousand_rotations_leave_memory_and_descriptors_as_they_were_and_every_packet_once() {
    const ROTATIONS: usize = 10_000;
    let network = Network::new();
    let output = network.segments();
    let _disk = Disk::mount(&output, "64m");
    let metrics = network.folder().join("agent.prom");
    // Two packets per segment. The directory is listed again and again; no segment is too old.
    let arguments = [
        "--rotate-size",
        "512B",
        "--max-age",
        "1h",
        "--metrics-file",
        metrics.to_str().unwrap(),
    ];
    let agent = network.agent(&[&STEADY[..], &arguments].concat());
    let (mut sent, mut taken, mut states) = (0, Vec::new(), Vec::new());
    for rotations in [500, 1000, 5000, ROTATIONS] {
        let until = 2 * rotations as u64;
        network.send_numbers(sent..until, 10_000);
        sent = until;
        // The test removes segments as they are closed, as the extractor would. The last one is
        // closed by the next packet or at the end.
        wait_until("segments", || {
            taken.extend(segments_there(&output).iter().flat_map(|path| take(path)));
            taken.len() as u64 >= sent - 2
        });
        states.push((rotations, state(&agent)));
    }
    let log = agent.end("TERM");
    taken.extend(numbers_in(&output));
    println!("rotations, (descriptors, KiB): {states:?}");
    assert!(
        taken.iter().copied().eq(0..sent),
        "each packet once, in order: {} of {sent}; {log}",
        taken.len()
    );
    for (name, value) in [
        ("segments_closed_total", ROTATIONS as u64),
        ("packets_written_total", sent),
        ("disk_drops_total", 0),
    ] {
        let line = format!("sip_capture_agent_{name}{{interface=\"{WIRE}\"}} {value}\n");
        assert!(
            fs::read_to_string(&metrics).unwrap().contains(&line),
            "{line}"
        );
    }
    // Spare buffers and files that are being read are no leaks: a leak would grow over thousands of
    // rotations.
    let (_, (files, memory_kib)) = states[0];
    assert!(
        states
            .iter()
            .all(|(_, now)| now.0 <= files + 3 && now.1 <= memory_kib + 4 * 1024),
        "{states:?}"
    );
}
