//! Cuts anywhere: the results do not depend on the places of cuts, or on the number of runs that
//! process the segments.

use std::{fs, time::Duration};

use support::{
    desk::{Desk, Files, within},
    dice::{Dice, tries},
    ladder::extract_bytes,
};

use super::{
    directory::{Names, Segment, agents},
    everything::{Form, Packets},
    lake::{self, LakeRows},
};

/// A way to process segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    OneRun,
    /// One run per segment; later segments are not there yet.
    RunPerSegment,
    /// The same with deletion of each processed segment.
    RunPerSegmentDeleted,
    /// The same, but the test deletes them.
    RunPerSegmentRemoved,
    /// One run per few segments, with moving of each processed segment.
    RunPerGroup,
    Watched,
}

/// Sizes of windows and chunks, which do not change the results either.
const SIZES: [&[&str]; 4] = [
    &[],
    &[
        "--window-bytes",
        "1",
        "--chunk-bytes",
        "1",
        "--unit-bytes",
        "1",
    ],
    &[
        "--window-bytes",
        "5000",
        "--chunk-bytes",
        "900",
        "--unit-bytes",
        "20000",
    ],
    &[
        "--window-bytes",
        "20000",
        "--unit-bytes",
        "1",
        "--threads",
        "1",
    ],
];

pub fn results_of_the_whole(packets: &Packets) -> Files {
    let got = extract_bytes(&packets.whole(), &[]);
    assert_eq!(got.status, Some(0), "{}", got.log);
    got.files()
}

/// Flags for all files that a run can write.
pub const ALL_FILES: [&str; 3] = ["--json", "--conversations", "--conversation-header=X-Leg"];

/// The same with the records in JSON, and with the files of conversations.
pub fn results_with_records(packets: &Packets) -> Files {
    let got = extract_bytes(&packets.whole(), &ALL_FILES);
    assert_eq!(got.status, Some(0), "{}", got.log);
    got.files()
}

/// A cut capture with its expected results.
struct Trial<'a> {
    way: Way,
    segments: &'a [Segment],
    sizes: &'a [&'a str],
    want: &'a Files,
    rows: &'a LakeRows,
    what: String,
}

impl Trial<'_> {
    fn run(&self, dice: &mut Dice) {
        let desk = Desk::new();
        match self.way {
            Way::OneRun => desk.deliver_all(self.segments),
            Way::RunPerSegment => self.each(&desk, &[], |_| ()),
            Way::RunPerSegmentDeleted => {
                self.each(&desk, &["--after-processing", "delete"], |_| {
                    assert!(desk.delivered().is_empty());
                });
            }
            Way::RunPerSegmentRemoved => self.each(&desk, &[], |name| {
                fs::remove_file(desk.segments.join(name)).unwrap();
            }),
            Way::RunPerGroup => self.in_groups(&desk, dice),
            Way::Watched => self.watched(&desk),
        }
        self.step(&desk, &["--final"]);
        desk.has(self.want, &self.what);
        lake::has(&desk, self.rows, &self.what);
    }

    fn step(&self, desk: &Desk, flags: &[&str]) {
        let lake = lake::flags(desk);
        let lake: Vec<&str> = lake.iter().map(String::as_str).collect();
        let ran = desk.run(&[self.sizes, &["--no-sync"], &ALL_FILES, &lake, flags].concat());
        assert_eq!(ran.status, Some(0), "{}: {}", self.what, ran.log);
        desk.shows_only(self.want, &self.what);
    }

    fn each(&self, desk: &Desk, flags: &[&str], afterwards: impl Fn(&str)) {
        for (name, bytes) in self.segments {
            desk.deliver(name, bytes);
            self.step(desk, flags);
            afterwards(name);
        }
    }

    fn in_groups(&self, desk: &Desk, dice: &mut Dice) {
        let done = desk.folder().join("done");
        fs::create_dir(&done).unwrap();
        let mut rest = self.segments;
        while !rest.is_empty() {
            let (group, later) = rest.split_at(1 + dice.below(rest.len().min(9)));
            desk.deliver_all(group);
            self.step(
                desk,
                &["--after-processing", &format!("move:{}", done.display())],
            );
            assert!(desk.delivered().is_empty());
            rest = later;
        }
        let moved = fs::read_dir(done)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().as_encoded_bytes()[0] != b'.');
        assert_eq!(moved.count(), self.segments.len());
    }

    fn watched(&self, desk: &Desk) {
        let lake = lake::flags(desk);
        let lake: Vec<&str> = lake.iter().map(String::as_str).collect();
        let mut watch = desk.start(
            &[
                self.sizes,
                &lake,
                &ALL_FILES,
                &["--no-sync", "--watch", "--after-processing", "delete"],
            ]
            .concat(),
        );
        for (name, bytes) in self.segments {
            desk.deliver(name, bytes);
            desk.shows_only(self.want, &self.what);
        }
        let is_done = within(Duration::from_secs(20), || {
            desk.delivered().is_empty() || !watch.is_running()
        });
        assert!(
            is_done && desk.delivered().is_empty(),
            "{}: {:?} is left: {}",
            self.what,
            desk.delivered(),
            watch.log()
        );
        watch.end("TERM").is(0);
        desk.shows_only(self.want, &self.what);
    }
}

/// Cuts into 1, 2, 3, 7 and 50 segments, in each form, with both kinds of names and all sizes.
fn cut_and_processed(way: Way) {
    let mut dice = Dice::new(100 + way as u64);
    for form in [Form::Micro, Form::Nano, Form::TwoLinks] {
        let packets = Packets::everything(form);
        let (want, rows) = (
            results_with_records(&packets),
            lake::rows_of_the_whole(&packets),
        );
        for pieces in [1, 2, 3, 7, 50] {
            for _ in 0..tries(1, 10) {
                let names = *dice.one_of(&Names::BOTH);
                let sizes = *dice.one_of(&SIZES);
                let segments = names.cut(&packets, pieces, &mut dice);
                let what = format!("{way:?}, {form:?}, {pieces} of {names:?}, {sizes:?}");
                Trial {
                    way,
                    segments: &segments,
                    sizes,
                    want: &want,
                    rows: &rows,
                    what,
                }
                .run(&mut dice);
            }
        }
    }
}

#[test]
fn in_one_run() {
    cut_and_processed(Way::OneRun);
}

#[test]
fn in_a_run_for_each_segment() {
    cut_and_processed(Way::RunPerSegment);
}

#[test]
fn in_a_run_for_each_segment_which_is_deleted_then() {
    cut_and_processed(Way::RunPerSegmentDeleted);
}

#[test]
fn in_a_run_for_each_segment_which_somebody_else_removes() {
    cut_and_processed(Way::RunPerSegmentRemoved);
}

#[test]
fn in_groups() {
    cut_and_processed(Way::RunPerGroup);
}

#[test]
fn watched() {
    cut_and_processed(Way::Watched);
}

/// Cuts before every packet in long tests, else before some, and always around damaged times.
#[test]
fn at_any_packet() {
    let mut dice = Dice::new(110);
    let packets = Packets::everything(Form::Micro);
    let (want, rows) = (
        results_with_records(&packets),
        lake::rows_of_the_whole(&packets),
    );
    let damaged = packets
        .places_of_damage()
        .into_iter()
        .flat_map(|at| [at, at + 1, at + 2]);
    let places = dice
        .some_below(tries(25, packets.len() - 1), packets.len() - 1)
        .into_iter()
        .map(|at| at + 1);
    for place in damaged.chain(places) {
        let segments = agents(&packets, &packets.cut_at(&[place]));
        let way = *dice.one_of(&[Way::OneRun, Way::RunPerSegment, Way::RunPerSegmentDeleted]);
        let sizes = *dice.one_of(&SIZES);
        let what = format!("cut before packet {place}, {way:?}, {sizes:?}");
        Trial {
            way,
            segments: &segments,
            sizes,
            want: &want,
            rows: &rows,
            what,
        }
        .run(&mut dice);
    }
}

/// Makes a segment of every packet.
#[test]
fn at_every_packet_at_once() {
    let whole = Packets::everything(Form::Micro);
    let packets = Packets {
        packets: whole.packets[..tries(300, whole.len())].to_vec(),
        ..whole
    };
    let (want, rows) = (
        results_with_records(&packets),
        lake::rows_of_the_whole(&packets),
    );
    let segments = agents(
        &packets,
        &packets.cut_at(&(1..packets.len()).collect::<Vec<_>>()),
    );
    let trial = Trial {
        way: Way::RunPerGroup,
        segments: &segments,
        sizes: &[],
        want: &want,
        rows: &rows,
        what: "one by one".to_owned(),
    };
    trial.run(&mut Dice::new(111));
}

/// Segments without a packet, and runs without a segment.
#[test]
fn with_nothing_in_between() {
    let packets = Packets::everything(Form::Micro);
    let (want, rows) = (
        results_with_records(&packets),
        lake::rows_of_the_whole(&packets),
    );
    let middle = packets.len() / 2;
    let segments = agents(
        &packets,
        &[
            0..0,
            0..middle,
            middle..middle,
            middle..middle,
            middle..packets.len(),
        ],
    );
    for way in [Way::OneRun, Way::RunPerSegment, Way::RunPerSegmentDeleted] {
        let what = format!("{way:?}, some of them empty");
        Trial {
            way,
            segments: &segments,
            sizes: &[],
            want: &want,
            rows: &rows,
            what,
        }
        .run(&mut Dice::new(112));
    }
    let desk = Desk::new();
    let run = |flags: &[&str]| desk.run(&[&ALL_FILES, flags].concat()).is(0);
    run(&["--no-sync"]);
    desk.deliver_all(&segments);
    for _ in 0..3 {
        run(&["--no-sync"]);
    }
    run(&["--no-sync", "--final"]);
    run(&["--no-sync", "--final"]);
    desk.has(&want, "with runs that had nothing to do");
}
