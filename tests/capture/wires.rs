//! Wires between namespaces: no packet is lost or captured twice when segments rotate, agents
//! restart or interfaces vanish.

use std::{fs, time::Duration};

use shared::pcap::LinkType;
use support::lab::{Program, WIRE, wait_until};

use crate::agent::{
    Agent, Captured, FILTER, FRAME_LEN, Network, STEADY, assert_numbers, datagram, ethernet, ipv4,
    let_pass, names_in, numbered, numbers_in, read, read_all, segments,
};

#[test]
fn rotation_by_size_loses_nothing() {
    let network = Network::new();
    let agent = network.agent(&[&STEADY[..], &["--rotate-size", "100KiB"]].concat());
    network.send_numbers(0..20_000, 40_000);
    let log = agent.end("TERM");
    assert_numbers(&network.segments(), 0..20_000);
    let segments = segments(&network.segments());
    assert_eq!(
        segments.len(),
        (20_000 * (FRAME_LEN + 16)).div_ceil((100 * 1024 - 24) / 230 * 230),
        "{log}"
    );
    assert!(
        segments
            .iter()
            .all(|(_, path)| fs::metadata(path).unwrap().len() <= 100 * 1024)
    );
    assert!(
        segments.is_sorted_by(|(a, _), (b, _)| a < b),
        "names sort as text and in capture order"
    );
}

#[test]
fn rotation_by_time_puts_packets_where_they_belong() {
    let network = Network::new();
    let agent = network.agent(&[&FILTER[..], &["--rotate-every", "500ms"]].concat());
    network.send_numbers(0..4000, 2000);
    // Time, not a packet, closes the last segment.
    wait_until("all segments to be closed", || {
        let names = names_in(&network.segments());
        !names.is_empty() && names.iter().all(|name| !name.ends_with(".part"))
    });
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..4000);
    let intervals: Vec<u64> = segments(&network.segments())
        .iter()
        .map(|(_, path)| {
            let intervals: Vec<u64> = read(path)
                .iter()
                .map(|record| record.timestamp_ns / 500_000_000)
                .collect();
            assert!(
                intervals.iter().all(|interval| *interval == intervals[0]),
                "one interval in one segment"
            );
            intervals[0]
        })
        .collect();
    assert!(
        intervals.len() >= 4 && intervals.is_sorted_by(|a, b| a < b),
        "one segment for one interval: {intervals:?}"
    );
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    let network = Network::new();
    let agent = network.agent(&STEADY);
    let mut sending = network.sending(&numbered(0..40_000), 25_000);
    wait_until("the end of the storm", || {
        agent.program.signal("HUP");
        network.segments().read_dir().unwrap().count() > 30
    });
    assert!(sending.end().success());
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..40_000);
}

#[test]
fn the_part_file_of_a_killed_agent_is_closed_by_the_next() {
    let network = Network::new();
    let mut agent = network.agent(&STEADY);
    network.send_numbers(0..1000, 10_000);
    agent.has_captured(1000);
    let names = names_in(&network.segments());
    assert!(
        matches!(names.as_slice(), [name] if name.starts_with('.') && name.ends_with(".pcap.part")),
        "{names:?}"
    );
    agent.program.signal("KILL");
    assert!(!agent.program.end().success());
    // A crash of the machine may cut a record, too.
    let part = network.segments().join(&names[0]);
    let cut = fs::read(&part).unwrap();
    fs::write(&part, [&cut[..], &cut[24..100]].concat()).unwrap();

    let agent = network.agent(&STEADY);
    network.send_numbers(1000..2000, 10_000);
    let log = agent.end("TERM");
    assert!(
        log.contains("repaired") && log.contains("cut_bytes=76"),
        "{log}"
    );
    assert_numbers(&network.segments(), 0..2000);
}

#[test]
fn a_kill_under_load_costs_what_the_kernel_had_not_delivered() {
    let network = Network::new();
    let mut agent = network.agent(&[&STEADY[..], &["--rotate-size", "1MiB"]].concat());
    let mut sending = network.sending(&numbered(0..60_000), 25_000);
    wait_until("some segments", || names_in(&network.segments()).len() > 3);
    agent.program.signal("KILL");
    agent.program.end();
    let agent = network.agent(&STEADY);
    assert!(sending.end().success());
    agent.end("TERM");
    let numbers = numbers_in(&network.segments());
    let gaps: Vec<u64> = numbers
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .filter(|step| *step != 1)
        .collect();
    assert_eq!((numbers.first(), numbers.last()), (Some(&0), Some(&59_999)));
    // At most a second and a half, most of it the next agent's start. libpcap accepts packets
    // before the filter is set, and drops those that come while it sets it.
    assert!(
        (1..=2).contains(&gaps.len()) && gaps.iter().sum::<u64>() < 37_500,
        "one gap: {gaps:?}"
    );
}

#[test]
fn an_interface_that_goes_down_away_and_comes_back_is_waited_for() {
    let network = Network::new();
    let mut agent = network.agent(&STEADY);
    network.send_numbers(0..500, 5000);
    network.near.ip(&format!("link set {WIRE} down"));
    network.near.ip(&format!("link set {WIRE} up"));
    network.send_numbers(500..1000, 5000);
    // Packets that the kernel has and has not delivered yet are not lost, either.
    network.near.ip(&format!("link del {WIRE}"));
    agent.program.says("waiting for it to come back");
    let ticks = cpu_ticks(&agent.program);
    let_pass(Duration::from_secs(1));
    assert!(
        cpu_ticks(&agent.program) - ticks < 20,
        "it waits, it does not spin"
    );
    network.connect();
    agent.program.says("capturing again");
    network.send_numbers(1000..1500, 5000);
    agent.end("TERM");
    assert_numbers(&network.segments(), 0..1500);
    assert_eq!(
        segments(&network.segments()).len(),
        1,
        "with the same link type, the segment goes on"
    );
}

#[test]
fn another_link_type_begins_another_segment() {
    let network = Network::new();
    let mut agent = network.agent(&STEADY);
    network.send_numbers(0..10, 1000);
    agent.has_captured(10);
    network.near.ip(&format!("link del {WIRE}"));
    agent.program.says("waiting for it to come back");
    // An interface with the same name, but without Ethernet headers.
    let line =
        format!("socat -u TUN:198.51.100.1/24,tun-name={WIRE},iff-no-pi,iff-up OPEN:/dev/null");
    let _tunnel = Program::start(network.near.command(&line), "socat", network.folder());
    agent.program.says("capturing again");
    fs::write(
        network.folder().join("say"),
        "echo hello >/dev/udp/198.51.100.2/9999",
    )
    .unwrap();
    network
        .near
        .run(&format!("bash {}", network.folder().join("say").display()));
    agent.has_captured(11);
    let log = agent.end("TERM");
    let segments = segments(&network.segments());
    let links: Vec<Vec<LinkType>> = segments
        .iter()
        .map(|(_, path)| read(path).iter().map(|record| record.link).collect())
        .collect();
    assert_eq!(
        links,
        [vec![LinkType::ETHERNET; 10], vec![LinkType::RAW]],
        "{log}"
    );
    assert!(log.contains("link type changed"), "{log}");
}

#[test]
fn several_interfaces_have_a_thread_and_segments_each() {
    let network = Network::new();
    network.near.wire("second", &network.far, "second");
    let agent = network.agent(&[&STEADY[..], &["--interface", "second"]].concat());
    network.send_numbers(0..100, 10_000);
    let file = network.folder().join("frames.pcap");
    network.far.run(&format!(
        "tcpreplay -q --pps=10000 -i second {}",
        file.display()
    ));
    agent.end("TERM");
    let segments = segments(&network.segments());
    let of_each: Vec<(&str, usize)> = segments
        .iter()
        .map(|(name, path)| (name.interface(), read(path).len()))
        .collect();
    assert_eq!(of_each, [("second", 100), (WIRE, 100)]);
}

#[test]
fn all_interfaces_at_once_are_one_capture() {
    let network = Network::new();
    let command = network
        .near
        .command(env!("CARGO_BIN_EXE_sip-capture-agent"));
    let mut agent = Agent::run(
        command,
        network.folder(),
        &network.segments(),
        &["--interface", "any"],
    );
    network.send_numbers(0..100, 10_000);
    agent.has_captured(100);
    agent.end("TERM");
    let records = read_all(&network.segments());
    assert!(
        records.iter().all(
            |record| record.link == LinkType::LINUX_SLL2 && record.frame.len() == FRAME_LEN + 6
        )
    );
    assert_eq!(records.len(), 100);
}

#[test]
fn without_a_filter_all_of_a_call_is_captured_and_nothing_else() {
    let network = Network::new();
    let agent = network.agent(&[]);
    let udp = datagram(b"inside", 100);
    let tcp = |port: u16| {
        ipv4(
            6,
            0,
            &[
                &[0x9c, 0x40][..],
                &port.to_be_bytes(),
                &[0; 8],
                &[0x50, 0x18, 0, 0, 0, 0, 0, 0],
            ]
            .concat(),
        )
    };
    let packets = [
        (0x0800, udp.clone()),
        (
            0x0800,
            ipv4(17, 0x2000, &[0x13, 0xc4, 0x13, 0xc4, 0, 200, 0, 0]),
        ),
        (0x0800, ipv4(17, 100, &[1; 40])),
        (0x0800, tcp(5060)),
        (0x0800, ipv4(4, 0, &udp)),
        (0x0800, ipv4(47, 0, &[&[0, 0, 8, 0][..], &udp].concat())),
        (
            0x86dd,
            [
                &[0x60, 0, 0, 0, 0, 16, 44, 64][..],
                &[0x20; 32],
                &[17, 0, 0, 8, 0, 0, 0, 1],
                &[1; 8],
            ]
            .concat(),
        ),
    ];
    let others = [
        (0x0800, tcp(443)),
        (0x0800, ipv4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0])),
        (0x0806, vec![0; 28]),
    ];
    let mut sent = Vec::new();
    let mut wanted = Vec::new();
    // 0x8100 outside is not the EtherType of the QinQ standard, but is in use.
    for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100, 0x8100]] {
        for (ether_type, packet) in packets.iter().chain(&others) {
            sent.push(ethernet(&[tags, &[*ether_type]].concat(), packet));
        }
        wanted.extend(
            packets
                .iter()
                .map(|(ether_type, packet)| ethernet(&[tags, &[*ether_type]].concat(), packet)),
        );
    }
    network.send(&sent, 1000);
    let log = agent.end("TERM");
    let got: Vec<Vec<u8>> = read_all(&network.segments())
        .into_iter()
        .map(|record: Captured| record.frame)
        .collect();
    let missing: Vec<_> = wanted.iter().filter(|frame| !got.contains(frame)).collect();
    assert!(missing.is_empty(), "missing: {missing:x?}\n{log}");
    assert_eq!(got, wanted);
}

pub fn cpu_ticks(program: &Program) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
