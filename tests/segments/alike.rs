//! Segments with the same length and the same beginning as others: replayed recordings, times of
//! zero. Only a segment with all bytes equal is a copy.

use std::{fs, net::SocketAddr};

use support::{
    desk::Desk,
    ladder::Ladder,
    sip::{request, response},
};

use super::directory::Segment;

/// More bytes than identify a segment in the lookup.
const SAME_LEN: usize = 5000;

/// Returns two segments of an agent, with a call each.
fn alike() -> [Segment; 2] {
    let [a, b]: [SocketAddr; 2] =
        ["192.0.2.1:5060", "192.0.2.2:5060"].map(|address| address.parse().unwrap());
    let segments = ["call-1", "call-2"].map(|call_id| {
        let mut ladder = Ladder::new();
        ladder.udp(
            0,
            "192.0.2.3:9".parse().unwrap(),
            "192.0.2.4:9".parse().unwrap(),
            &[7; SAME_LEN],
        );
        ladder.sip(10, a, b, request("INVITE", call_id));
        ladder.sip(20, b, a, response(200, "INVITE", call_id));
        ladder.sip(900, a, b, request("BYE", call_id));
        ladder.capture.to_pcap()
    });
    assert_eq!(
        (segments[0].len(), &segments[0][..SAME_LEN]),
        (segments[1].len(), &segments[1][..SAME_LEN])
    );
    let [first, second] = segments;
    let name = |number: u32| format!("edge1_eth0_20231201T143022.123456Z_{number:06}.pcap");
    [(name(1), first), (name(2), second)]
}

#[track_caller]
fn has_both_calls(desk: &Desk) {
    let table = fs::read_to_string(desk.out.join("detected_calls.csv")).unwrap();
    let count = |call_id: &str| table.lines().filter(|row| row.starts_with(call_id)).count();
    assert_eq!((count("call-1"), count("call-2")), (1, 1), "{table}");
}

const LAST: &[&str] = &["--no-sync", "--final"];

#[test]
fn both_are_read_at_once() {
    for flags in [
        &["--after-processing", "delete"][..],
        &[],
        &["--dedup", "--unit-bytes", "1"],
        &["--unit-bytes", "1"],
    ] {
        let desk = Desk::new();
        desk.deliver_all(&alike());
        let ran = desk.run(&[LAST, flags].concat()).is(0);
        ran.says("WARN")
            .says("begins like it, but is another capture");
        has_both_calls(&desk);
        let left = desk.delivered().len();
        assert_eq!(left, if flags.contains(&"delete") { 0 } else { 2 });
    }
}

#[test]
fn both_are_read_one_after_the_other() {
    for flags in [&["--after-processing", "delete"][..], &[], &["--dedup"]] {
        for is_by_the_same_name in [false, true] {
            let desk = Desk::new();
            let [first, mut second] = alike();
            desk.deliver(&first.0, &first.1);
            desk.run(&[&["--no-sync"], flags].concat()).is(0);
            if is_by_the_same_name {
                second.0.clone_from(&first.0);
            }
            desk.deliver(&second.0, &second.1);
            desk.run(&[LAST, flags].concat())
                .is(0)
                .says("but is another capture");
            has_both_calls(&desk);
            // Segments that come again are recognised.
            let before = desk.everything_in_out();
            desk.deliver("again-1.pcap", &first.1);
            desk.deliver("again-2.pcap", &second.1);
            let ran = desk.run(&[LAST, flags].concat()).is(0);
            ran.says("again-1.pcap is not read")
                .says("again-2.pcap is not read");
            let is_left = |(name, bytes): (&String, &Vec<u8>)| {
                name.starts_with('.') || before[name] == *bytes
            };
            assert!(desk.everything_in_out().iter().all(is_left));
        }
    }
}

/// One of two similar segments is read in part: the next run continues with that one.
#[test]
fn one_is_gone_on_with_and_the_other_is_not() {
    let desk = Desk::new();
    let [first, second] = alike();
    let other = desk.folder().join("other");
    fs::create_dir(&other).unwrap();
    // The other point's delivery ends in the middle of the first segment.
    let mut ladder = Ladder::new();
    let nobody: SocketAddr = "192.0.2.9:9".parse().unwrap();
    [0, 15, 16]
        .iter()
        .for_each(|at| ladder.udp(*at, nobody, nobody, b"?"));
    support::desk::deliver_to(
        &other,
        "edge2_eth0_20231201T143022.123456Z_000001.pcap",
        &ladder.capture.to_pcap(),
    );
    let flags = ["--no-sync", "--input-dir", other.to_str().unwrap()];
    desk.deliver(&first.0, &first.1);
    desk.run(&flags).is(0);
    // The partly read segment gets another name, after that of the other.
    fs::rename(
        desk.segments.join(&first.0),
        desk.segments
            .join("edge1_eth0_20231201T143022.123456Z_000003.pcap"),
    )
    .unwrap();
    desk.deliver(&second.0, &second.1);
    desk.run(&flags).is(0);
    desk.run(&[&flags[..], &["--final"]].concat()).is(0);
    has_both_calls(&desk);
}

#[test]
fn a_copy_is_named_once_and_goes_where_the_original_went() {
    let [segment, _] = alike();
    for flags in [
        &["--no-sync"][..],
        &["--no-sync", "--after-processing", "delete"],
    ] {
        let desk = Desk::new();
        desk.deliver(&segment.0, &segment.1);
        desk.run(flags).is(0);
        desk.deliver("copy.pcap", &segment.1);
        let ran = desk.run(flags).is(0);
        ran.says("WARN").says(&format!(
            "copy.pcap is not read: it has the same content as {}",
            segment.0
        ));
        assert_eq!(desk.delivered().is_empty(), flags.contains(&"delete"));
        let ran = desk.run(flags).is(0);
        assert!(!ran.log.contains("copy.pcap"), "{}", ran.log);
        desk.run(&[flags, &["--final"]].concat()).is(0);
        let table = fs::read_to_string(desk.out.join("detected_calls.csv")).unwrap();
        assert_eq!(table.lines().count(), 2, "{table}");
    }
}

/// A longer file continues a shorter one only if it begins with all of its bytes.
#[test]
fn one_that_takes_the_place_of_a_shorter_one_is_read_from_its_beginning() {
    let desk = Desk::new();
    let [first, mut second] = alike();
    desk.deliver(&first.0, &first.1);
    desk.run(&["--no-sync"]).is(0);
    let mut ladder = Ladder::new();
    let nobody: SocketAddr = "192.0.2.9:9".parse().unwrap();
    ladder.udp(1000, nobody, nobody, b"?");
    second.1.extend(&ladder.capture.to_pcap()[24..]);
    desk.deliver(&first.0, &second.1);
    desk.run(LAST).is(0);
    has_both_calls(&desk);
}
