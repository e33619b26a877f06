//! Calls in segments of several directories and interfaces: `find` gives what the run over all of
//! them gives.

use std::{collections::BTreeSet, fs, process::Command};

use support::{
    desk::{Desk, Files, STATE, assert_same, files, visible},
    dice::Dice,
    ladder::extractor,
};

use super::{
    directory::{Segment, agents},
    everything::{Form, Frames, Packets, in_good_time},
    merge::split,
};

/// The log says this when clocks are too bad for an index.
const ARE_MERGED: &str = "all of them are read";

/// Where the segments of the second series lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    Directory,
    Interface,
}

/// Two series with indexes.
struct Places {
    desk: Desk,
    directories: Vec<String>,
}

impl Places {
    fn of(second: Second, [one, other]: [Vec<Segment>; 2]) -> Self {
        let desk = Desk::new();
        desk.deliver_all(&one);
        let mut directories = vec![desk.segments.display().to_string()];
        let renamed = |name: &str| name.replace("_eth0_", "_eth1_");
        match second {
            Second::Interface => other
                .iter()
                .for_each(|(name, bytes)| desk.deliver(&renamed(name), bytes)),
            Second::Directory => {
                let directory = desk.folder().join("other");
                fs::create_dir(&directory).unwrap();
                for (name, bytes) in &other {
                    fs::write(directory.join(name), bytes).unwrap();
                }
                directories.push(directory.display().to_string());
            }
        }
        let places = Self { desk, directories };
        let mut index = places.with_directories(extractor().arg("index"));
        places.desk.ended(&mut index).is(0);
        places
    }

    /// A capture whose frames were seen in two places; parts of one message were seen in one.
    fn split(second: Second, form: Form, frames: &Frames, dice: &mut Dice) -> Self {
        let mut parts = [Frames::new(), Frames::new()];
        for (ns, frame) in frames {
            let place = if is_whole(frame) { dice.below(2) } else { 0 };
            parts[place].push((*ns, frame.clone()));
        }
        Self::of(second, parts.map(|frames| cut(form, &frames, dice)))
    }

    fn with_directories(&self, command: &mut Command) -> Command {
        for directory in &self.directories {
            command.arg("--input-dir").arg(directory);
        }
        let mut with = Command::new(command.get_program());
        with.args(command.get_args());
        with
    }

    /// The results of the run over all segments.
    fn want(&self) -> Files {
        let mut command = self.desk.extractor();
        let mut command = self.with_directories(&mut command);
        command.args(["--final", "--json"]);
        self.desk.ended(&mut command).is(0);
        visible(&self.desk.out)
    }

    /// The results of `find` with these arguments, and its log.
    fn found(&self, arguments: &[&str]) -> (Files, String) {
        let out = self.desk.folder().join("found");
        let _ = fs::remove_dir_all(&out);
        let mut command = self.with_directories(extractor().arg("find"));
        command.args(arguments).args(["--json", "-o"]).arg(&out);
        let ran = self.desk.ended(&mut command).is(0);
        let mut got = files(&out);
        got.remove(STATE);
        (got, ran.log)
    }
}

/// True if a frame has a whole message, or media: UDP over IPv4, to the port of SIP, or like RTP.
fn is_whole(frame: &[u8]) -> bool {
    let is_udp = frame[12..14] == [8, 0] && frame[20] & 0x3f == 0 && frame[21] == 0;
    let is_rtp = frame.get(42).is_some_and(|byte| byte >> 6 == 2);
    is_udp && frame[23] == 17 && (is_sip(frame) || is_rtp)
}

fn is_sip(frame: &[u8]) -> bool {
    frame[36..38] == 5060u16.to_be_bytes()
}

fn cut(form: Form, frames: &Frames, dice: &mut Dice) -> Vec<Segment> {
    let packets = Packets::of(form, frames);
    agents(&packets, &packets.cut(4 + dice.below(5), dice))
}

const SIZES: [&[&str]; 2] = [&[], &["--window-bytes", "5000", "--chunk-bytes", "900"]];

#[test]
fn all_calls_are_those_of_the_whole_run_wherever_their_packets_are() {
    let mut dice = Dice::new(61);
    for second in [Second::Directory, Second::Interface] {
        for (form, sizes) in [(Form::Micro, 0), (Form::Nano, 1), (Form::TwoLinks, 1)] {
            let places = Places::split(second, form, &in_good_time(), &mut dice);
            let (got, log) = places.found(SIZES[sizes]);
            assert_same(&places.want(), &got, &format!("{second:?}, {form:?}"));
            assert!(!log.contains("WARN"), "{log}");
        }
    }
}

/// Clocks that go back, or run ahead: all segments are merged, as the whole run does it.
#[test]
fn bad_clocks_need_the_segments() {
    let mut dice = Dice::new(62);
    let frames = Packets::frames_of_everything();
    for second in [Second::Directory, Second::Interface] {
        let places = Places::split(second, Form::Micro, &frames, &mut dice);
        let (got, log) = places.found(&[]);
        assert!(log.contains(ARE_MERGED), "{log}");
        assert_same(&places.want(), &got, &format!("{second:?}"));
    }
}

#[test]
fn packets_that_both_have_seen_are_kept_twice() {
    let mut dice = Dice::new(63);
    let frames = in_good_time();
    // The same times, too: packets of one time come place by place.
    for later in [0, 500] {
        let again: Frames = frames
            .iter()
            .map(|(ns, frame)| (ns + later, [&[9; 12][..], &frame[12..]].concat()))
            .collect();
        let segments = [&frames, &again].map(|frames| cut(Form::Micro, frames, &mut dice));
        let places = Places::of(Second::Directory, segments);
        let (got, log) = places.found(&[]);
        assert_same(&places.want(), &got, &format!("{later}"));
        assert!(!log.contains("WARN"), "{log}");
    }
}

#[test]
fn each_call_is_found_with_signalling_here_and_media_there() {
    let mut dice = Dice::new(64);
    let parts = split(&in_good_time(), |frame| !is_whole(frame) || is_sip(frame));
    let segments = parts.map(|frames| cut(Form::Micro, &frames, &mut dice));
    let places = Places::of(Second::Directory, segments);
    let want = places.want();
    let records = String::from_utf8(want["calls.jsonl"].clone()).unwrap();
    let records: Vec<(serde_json::Value, &str)> = records
        .lines()
        .map(|line| (serde_json::from_str(line).unwrap(), line))
        .collect();
    let ids: BTreeSet<&str> = records
        .iter()
        .map(|(record, _)| record["call_id"].as_str().unwrap())
        .collect();
    assert!(ids.len() > 40);
    for id in ids {
        let quoted = format!("^{}$", id.replace(['+', '.', '('], "."));
        let (got, log) = places.found(&["--call-id", &quoted]);
        assert!(!log.contains("WARN"), "{log}");
        let of_call = || records.iter().filter(|(record, _)| record["call_id"] == id);
        let lines: String = of_call().map(|(_, line)| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&got["calls.jsonl"]), lines, "{id}");
        for (record, _) in of_call() {
            let Some(name) = record["output_pcap_filename"].as_str() else {
                continue;
            };
            assert!(got[name] == want[name], "{id}: {name}");
        }
    }
}

/// One directory is searched once, whatever its names.
#[test]
fn a_directory_that_is_named_twice_is_one() {
    let mut dice = Dice::new(65);
    let frames = in_good_time();
    let mut places = Places::split(Second::Directory, Form::Micro, &frames, &mut dice);
    let want = places.want();
    let again = format!("{}/.", places.directories[0]);
    places.directories.push(again);
    let (got, _) = places.found(&[]);
    assert_same(&want, &got, "named twice");
}
