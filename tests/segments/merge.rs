//! Several capture points are merged to one capture.

use std::{collections::HashMap, fs, path::PathBuf, process::Command, time::Duration};

use support::{
    MS,
    desk::{Desk, Files, Running, deliver_to, visible, within},
    dice::{Dice, tries},
};

use super::{
    cuts::results_of_the_whole,
    directory::{Segment, agents},
    everything::{Form, Frames, Packets, in_good_time},
};

/// The captures of one conversation at two agents.
struct Points {
    desk: Desk,
    directories: [PathBuf; 2],
    segments: [Vec<Segment>; 2],
    want: Files,
}

/// True if an Ethernet frame belongs to signalling: the SIP port over UDP, TCP, or a fragment.
pub fn is_signalling(frame: &[u8]) -> bool {
    let has_port = |at: usize| frame.get(at..at + 2) == Some(&5060u16.to_be_bytes()[..]);
    let ports = if frame[12..14] == [0x86, 0xdd] {
        54
    } else {
        34
    };
    has_port(ports) || has_port(ports + 2) || frame[23] == 6
}

pub fn split(frames: &Frames, is_first: impl Fn(&[u8]) -> bool) -> [Frames; 2] {
    let (first, second) = frames
        .iter()
        .cloned()
        .partition(|(_, frame)| is_first(frame));
    [first, second]
}

impl Points {
    /// Each capture has stretches of its own.
    fn of(parts: [Frames; 2], want: Files, dice: &mut Dice) -> Self {
        let desk = Desk::new();
        let directories = ["one", "two"].map(|name| desk.folder().join(name));
        directories
            .iter()
            .for_each(|directory| fs::create_dir(directory).unwrap());
        let segments = parts.map(|frames| {
            let packets = Packets::of(Form::Micro, &frames);
            agents(&packets, &packets.cut(5 + dice.below(4), dice))
        });
        Self {
            desk,
            directories,
            segments,
            want,
        }
    }

    /// Signalling is at one point, media at the other.
    fn apart(dice: &mut Dice) -> Self {
        let frames = in_good_time();
        let want = results_of_the_whole(&Packets::of(Form::Micro, &frames));
        Self::of(split(&frames, is_signalling), want, dice)
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = self.desk.extractor();
        for directory in &self.directories {
            command.arg("--input-dir").arg(directory);
        }
        command.arg("--no-sync").args(flags);
        command
    }

    #[track_caller]
    fn run(&self, flags: &[&str]) {
        self.desk.ended(&mut self.command(flags)).is(0);
        self.desk.shows_only(&self.want, "merged");
    }

    fn start(&self, flags: &[&str]) -> Running {
        self.desk
            .start_command(self.command(&[&["--watch"], flags].concat()))
    }

    fn deliver(&self, point: usize, number: usize) {
        let (name, bytes) = &self.segments[point][number];
        deliver_to(&self.directories[point], name, bytes);
    }

    fn deliver_all(&self, point: usize) {
        (0..self.segments[point].len()).for_each(|number| self.deliver(point, number));
    }

    fn is_calls(&self, count: usize) -> bool {
        self.desk.out.exists()
            && visible(&self.desk.out)
                .keys()
                .filter(|name| name.starts_with("call_"))
                .count()
                >= count
    }
}

#[test]
fn signalling_here_and_media_there() {
    let mut dice = Dice::new(600);
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
        let points = Points::apart(&mut dice);
        points.deliver_all(0);
        points.deliver_all(1);
        points.run(&[flags, &["--final"]].concat());
        points.desk.has(&points.want, "in one run");
    }
}

/// The points deliver parts in any order.
#[test]
fn delivered_skewed() {
    let mut dice = Dice::new(601);
    for after in [&["--after-processing", "delete"][..], &[]] {
        for _ in 0..tries(2, 20) {
            let points = Points::apart(&mut dice);
            let counts = [0, 1].map(|point| points.segments[point].len());
            let mut next = [0, 0];
            while next != counts {
                for (point, next) in next.iter_mut().enumerate() {
                    let until = counts[point].min(*next + dice.below(4));
                    (*next..until).for_each(|number| points.deliver(point, number));
                    *next = until;
                }
                points.run(after);
            }
            points.run(&["--final"]);
            points.desk.has(&points.want, &format!("{after:?}"));
        }
    }
}

#[test]
fn any_packet_anywhere() {
    let mut dice = Dice::new(602);
    for _ in 0..tries(2, 20) {
        let frames = in_good_time();
        let want = results_of_the_whole(&Packets::of(Form::Micro, &frames));
        let mut parts = [Frames::new(), Frames::new()];
        frames
            .into_iter()
            .for_each(|frame| parts[dice.below(2)].push(frame));
        let points = Points::of(parts, want, &mut dice);
        for number in 0..5 {
            points.deliver(0, number);
            points.deliver(1, number);
            points.run(&["--after-processing", "delete"]);
        }
        for point in 0..2 {
            (5..points.segments[point].len()).for_each(|number| points.deliver(point, number));
        }
        points.run(&["--final"]);
        points.desk.has(&points.want, "shuffled");
    }
}

/// A run that does not know the second point yet waits for it, however long that takes.
#[test]
fn one_is_an_hour_late() {
    let points = Points::apart(&mut Dice::new(603));
    points.deliver_all(0);
    points.run(&[]);
    points.run(&[]);
    assert!(
        !points.is_calls(1),
        "a call was closed before its media came"
    );
    points.deliver_all(1);
    points.run(&[]);
    points.run(&["--final"]);
    points.desk.has(&points.want, "an hour late");
}

#[test]
fn a_watch_waits_for_a_silent_point_until_the_limit() {
    let points = Points::apart(&mut Dice::new(604));
    let mut watch = points.start(&["--source-timeout", "1h"]);
    points.deliver_all(0);
    assert!(
        !within(Duration::from_millis(1500), || points.is_calls(1)),
        "it did not wait"
    );
    points.deliver_all(1);
    assert!(
        within(Duration::from_secs(20), || points.is_calls(40)),
        "{}",
        watch.log()
    );
    assert!(watch.is_running());
    watch.end("TERM").is(0);
    points.run(&["--final"]);
    points.desk.has(&points.want, "watched");
}

#[test]
fn a_watch_goes_on_without_a_point_that_is_silent_for_too_long() {
    let points = Points::apart(&mut Dice::new(605));
    let mut watch = points.start(&["--source-timeout", "1s"]);
    points.deliver_all(0);
    assert!(
        within(Duration::from_secs(20), || points.is_calls(35)),
        "{}",
        watch.log()
    );
    let directory = points.directories[1].display().to_string();
    let is_named = watch
        .log()
        .lines()
        .any(|line| line.contains("WARN") && line.contains(&directory));
    assert!(is_named, "{}", watch.log());
    assert!(watch.is_running());
    watch.end("TERM").is(0);
}

/// Returns frames without a repetition within a short time.
fn frames_without_repetition() -> Frames {
    let mut seen = HashMap::new();
    let mut frames = in_good_time();
    frames.retain(|(ns, frame)| {
        seen.insert(frame[14..].to_vec(), *ns)
            .is_none_or(|before| ns - before > 100 * MS)
    });
    frames
}

/// Returns the same frames with nanoseconds.
fn nano(frames: &Frames) -> Packets {
    let mut packets = Packets::of(Form::Nano, frames);
    packets
        .packets
        .iter_mut()
        .zip(frames)
        .for_each(|(packet, (ns, _))| packet.ns = *ns);
    packets
}

/// A packet that both have seen is kept twice, unless deduplication is on.
#[test]
fn both_have_seen_the_same_packets() {
    let mut dice = Dice::new(606);
    let frames = frames_without_repetition();
    // The second point sees everything a moment later, with other Ethernet addresses.
    let seen_again: Frames = frames
        .iter()
        .map(|(ns, frame)| (ns + 500, [&[9; 12][..], &frame[12..]].concat()))
        .collect();
    let mut both: Frames = frames.iter().chain(&seen_again).cloned().collect();
    both.sort_by_key(|(ns, _)| *ns);
    for (flags, want) in [
        (&[][..], results_of_the_whole(&nano(&both))),
        (&["--dedup"], results_of_the_whole(&nano(&frames))),
    ] {
        let mut points = Points::of(
            [Frames::new(), Frames::new()].map(|_| frames[..20].to_vec()),
            want,
            &mut dice,
        );
        points.segments = [&frames, &seen_again].map(|frames| {
            let packets = nano(frames);
            agents(&packets, &packets.cut(6, &mut dice))
        });
        for number in 0..6 {
            points.deliver(0, number);
            points.deliver(1, number);
            points.run(flags);
        }
        points.run(&[flags, &["--final"]].concat());
        points.desk.has(&points.want, &format!("{flags:?}"));
    }
}

/// A packet that one point has seen twice within so short a time is then kept once, too.
#[test]
fn one_has_seen_a_packet_twice() {
    let frames = frames_without_repetition();
    let mut twice: Frames = frames
        .iter()
        .cloned()
        .chain(frames.iter().map(|(ns, frame)| (ns + 500, frame.clone())))
        .collect();
    twice.sort_by_key(|(ns, _)| *ns);
    let packets = nano(&twice);
    let want = results_of_the_whole(&nano(&frames));
    let desk = Desk::new();
    for segment in agents(&packets, &packets.cut(8, &mut Dice::new(607))) {
        desk.deliver_all(&[segment]);
        desk.run(&["--no-sync", "--dedup", "--after-processing", "delete"])
            .is(0);
    }
    desk.run(&["--no-sync", "--dedup", "--final"]).is(0);
    desk.has(&want, "twice in one directory");
}
