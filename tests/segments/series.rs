//! An agent that captures at two interfaces into one directory: both together are one capture.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use shared::segment::SegmentName;
use support::{
    SECOND,
    desk::{Desk, Files, visible, within},
    dice::{Dice, tries},
    ladder::{Ladder, START_NS, extract_bytes},
    sip::{Sdp, request, response},
};

use super::{
    cuts::results_of_the_whole,
    directory::{Segment, agents},
    everything::{Form, Frames, Packets, in_good_time},
    merge::{is_signalling, split},
};

const INTERFACES: [&str; 2] = ["eth0", "br_lan"];

struct Agent {
    desk: Desk,
    segments: [Vec<Segment>; 2],
    /// The number of closed segments of each.
    closed: [usize; 2],
    want: Files,
}

impl Agent {
    /// Each interface has segments with stretches of its own.
    fn at(parts: [Frames; 2], want: Files, dice: &mut Dice) -> Self {
        let mut interfaces = INTERFACES.iter();
        let segments = parts.map(|frames| {
            let packets = Packets::of(Form::Micro, &frames);
            let interface = interfaces.next().unwrap();
            let named = |(name, bytes): Segment| {
                (
                    name.replace("edge1_eth0_", &format!("edge1_{interface}_")),
                    bytes,
                )
            };
            agents(&packets, &packets.cut(5 + dice.below(4), dice))
                .into_iter()
                .map(named)
                .collect()
        });
        Self {
            desk: Desk::new(),
            segments,
            closed: [0, 0],
            want,
        }
    }

    /// Signalling is at one interface, media at the other.
    fn apart(dice: &mut Dice) -> Self {
        let frames = in_good_time();
        let want = results_of_the_whole(&Packets::of(Form::Micro, &frames));
        Self::at(split(&frames, is_signalling), want, dice)
    }

    fn part_of(&self, interface: usize, number: usize) -> Option<std::path::PathBuf> {
        let (name, _) = self.segments[interface].get(number)?;
        Some(self.desk.segments.join(format!(".{name}.part")))
    }

    /// Ages all files, as if time had passed.
    fn rest(&self) {
        for name in self.desk.delivered() {
            let file = fs::File::options()
                .write(true)
                .open(self.desk.segments.join(name))
                .unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60))
                .unwrap();
        }
    }

    /// Begins the first segments.
    fn begin(&self) {
        for interface in 0..2 {
            fs::write(self.part_of(interface, 0).unwrap(), b"").unwrap();
        }
    }

    /// Closes the next segment of an interface, and begins the one after it.
    fn close_next(&mut self, interface: usize) -> bool {
        let number = self.closed[interface];
        let Some(part) = self.part_of(interface, number) else {
            return false;
        };
        let (name, bytes) = &self.segments[interface][number];
        fs::write(&part, bytes).unwrap();
        fs::rename(part, self.desk.segments.join(name)).unwrap();
        self.closed[interface] += 1;
        if let Some(next) = self.part_of(interface, self.closed[interface]) {
            fs::write(next, b"").unwrap();
        }
        true
    }

    fn close_all(&mut self, interface: usize) {
        while self.close_next(interface) {}
    }

    #[track_caller]
    fn run(&self, flags: &[&str]) -> String {
        let ran = self.desk.run(&[&["--no-sync"], flags].concat()).is(0);
        self.desk.shows_only(&self.want, "merged");
        ran.log
    }

    fn has_calls(&self, count: usize) -> bool {
        self.desk.out.exists()
            && visible(&self.desk.out)
                .keys()
                .filter(|name| name.starts_with("call_"))
                .count()
                >= count
    }
}

#[test]
fn in_one_run() {
    let mut dice = Dice::new(620);
    for flags in [
        &[][..],
        &[
            "--window-bytes",
            "5000",
            "--chunk-bytes",
            "900",
            "--unit-bytes",
            "10000",
        ],
    ] {
        let mut agent = Agent::apart(&mut dice);
        agent.close_all(0);
        agent.close_all(1);
        agent.run(flags);
        assert!(agent.has_calls(MOST));
        agent.run(&[flags, &["--final"]].concat());
        agent.desk.has(&agent.want, "in one run");
    }
}

/// Nearly all calls. Few packets follow the last pauses of this capture, too few to say whether the
/// clock is right there.
const MOST: usize = 35;

/// An interface without packets delays the other one only for some seconds.
#[test]
fn one_is_idle() {
    let mut agent = Agent::apart(&mut Dice::new(626));
    agent.close_all(0);
    agent.close_next(1);
    fs::remove_file(agent.part_of(1, 1).unwrap()).unwrap();
    let log = agent.desk.run(&[]).is(0).log;
    assert!(
        !agent.has_calls(MOST) && !log.contains("WARN"),
        "packets may be on their way: {log}"
    );
    agent.rest();
    let log = agent.desk.run(&[]).is(0).log;
    assert!(agent.has_calls(MOST), "{log}");
}

/// The segments of the interfaces are closed in any order and number.
#[test]
fn segments_are_closed_in_any_turn() {
    let mut dice = Dice::new(621);
    for after in [&["--after-processing", "delete"][..], &[]] {
        for _ in 0..tries(2, 20) {
            let mut agent = Agent::apart(&mut dice);
            agent.begin();
            let counts = [0, 1].map(|interface| agent.segments[interface].len());
            while agent.closed != counts {
                for interface in 0..2 {
                    for _ in 0..dice.below(4) {
                        agent.close_next(interface);
                    }
                }
                agent.run(after);
            }
            agent.run(&[after, &["--final"]].concat());
            agent.desk.has(&agent.want, &format!("{after:?}"));
        }
    }
}

/// Packets of one interface wait for the segments that the other has still to deliver, and the log
/// says which.
#[test]
fn one_is_far_behind() {
    let mut agent = Agent::apart(&mut Dice::new(622));
    agent.begin();
    agent.close_all(0);
    let log = agent.run(&[]);
    assert!(log.contains("(edge1_br_lan) to deliver"), "{log}");
    assert!(
        !agent.has_calls(1),
        "a call was closed before its media came"
    );
    agent.close_all(1);
    let log = agent.run(&[]);
    assert!(
        agent.has_calls(MOST) && !log.contains("still to deliver"),
        "{log}"
    );
    agent.run(&["--final"]);
    agent.desk.has(&agent.want, "far behind");
}

#[test]
fn watched() {
    let mut agent = Agent::apart(&mut Dice::new(623));
    agent.begin();
    // The old times of these files do not mean that nobody writes them.
    let watch = agent
        .desk
        .start(&["--no-sync", "--watch", "--source-timeout", "900000h"]);
    agent.close_all(0);
    assert!(
        !within(Duration::from_millis(1500), || agent.has_calls(1)),
        "it did not wait"
    );
    agent.close_all(1);
    assert!(
        within(Duration::from_secs(20), || agent.has_calls(MOST)),
        "{}",
        watch.log()
    );
    watch.end("TERM").is(0);
    agent.run(&["--final"]);
    agent.desk.has(&agent.want, "watched");
}

/// The part file of a crashed agent is waited for only as long as a silent capture point.
#[test]
fn a_part_file_that_nobody_writes() {
    let mut agent = Agent::apart(&mut Dice::new(624));
    agent.begin();
    agent.close_all(0);
    let watch = agent.desk.start(&["--no-sync", "--watch"]);
    assert!(
        within(Duration::from_secs(20), || agent.has_calls(MOST)),
        "{}",
        watch.log()
    );
    watch.end("TERM").is(0);
}

/// Another interface joins when much has been processed.
#[test]
fn one_comes_later() {
    let frames = in_good_time();
    let want = results_of_the_whole(&Packets::of(Form::Micro, &frames));
    let middle = frames[frames.len() / 2].0;
    let parts = [true, false].map(|is_first| {
        let of_it =
            |(ns, frame): &&(u64, Vec<u8>)| (*ns < middle || is_signalling(frame)) == is_first;
        frames.iter().filter(of_it).cloned().collect()
    });
    let mut agent = Agent::at(parts, want, &mut Dice::new(625));
    fs::write(agent.part_of(0, 0).unwrap(), b"").unwrap();
    while agent.closed[0] < agent.segments[0].len() {
        agent.close_next(0);
        let is_later = agent.segments[0]
            .get(agent.closed[0])
            .is_none_or(|(name, _)| {
                let start = |name: &str| name.rsplit('_').nth(1).unwrap().to_owned();
                start(name) >= start(&agent.segments[1][0].0)
            });
        if is_later && agent.closed[1] == 0 {
            fs::write(agent.part_of(1, 0).unwrap(), b"").unwrap();
        }
        agent.run(&[]);
    }
    agent.close_all(1);
    agent.run(&["--final"]);
    agent.desk.has(&agent.want, "one came later");
}

/// Few packets come to the second interface, with pauses of minutes: a call's signalling, of which its
/// media, at the first interface, must not be taken to be nobody's.
#[test]
fn one_interface_has_few_packets_between_pauses() {
    const A: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
    const B: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 5060);
    let media = [A, B].map(|end| SocketAddr::new(end.ip(), 4000));
    let (mut busy, mut sparse) = (Ladder::new(), Ladder::new());
    for second in 0..480u16 {
        busy.udp(u64::from(second) * 1000, B, A, b"\r\n\r\n");
    }
    busy.rtp(200_500, media[0], media[1], 7, 1..=2_000);
    sparse.udp(1_000, B, A, b"\r\n\r\n");
    sparse.sip(
        200_000,
        A,
        B,
        request("INVITE", "few").sdp(&Sdp::audio(media[0])),
    );
    sparse.sip(
        200_100,
        B,
        A,
        response(200, "INVITE", "few").sdp(&Sdp::audio(media[1])),
    );
    sparse.sip(300_000, A, B, request("BYE", "few").cseq(2).to_tag("bob"));
    busy.sort();
    let mut all = busy.clone();
    all.capture.frames.extend(sparse.capture.frames.clone());
    all.sort();
    let want = extract_bytes(&all.capture.to_pcap(), &[]);
    want.only_call()
        .is("completed")
        .has("rtp_packet_count", "2000");

    let desk = Desk::new();
    let start = UNIX_EPOCH + Duration::from_nanos(START_NS);
    for minute in 0..8u64 {
        for (interface, ladder) in [("eth0", &busy), ("eth1", &sparse)] {
            let from = START_NS + minute * 60 * SECOND;
            let mut part = ladder.capture.clone();
            part.frames
                .retain(|(ns, _)| (from..from + 60 * SECOND).contains(ns));
            let first = part.frames.first().map_or(from, |(ns, _)| *ns);
            let name = SegmentName::new("edge1", interface, first / 1000, minute as u32 + 1);
            desk.deliver(&name.to_string(), &part.to_pcap());
        }
        // The segments have been there for a while when the next run looks.
        for name in desk.delivered() {
            let file = fs::File::options()
                .write(true)
                .open(desk.segments.join(name));
            let closed = start + Duration::from_secs(60 * (minute + 1));
            file.unwrap().set_modified(closed).unwrap();
        }
        desk.run(&["--no-sync", "--after-processing", "delete"])
            .is(0);
        desk.shows_only(&want.files(), "a run each minute");
    }
    desk.run(&["--no-sync", "--final"]).is(0);
    desk.has(&want.files(), "a run each minute");
}
