use super::*;
use proptest::prelude::*;
use shared::pcap::{MAX_FRAME_LEN, file_header, record_header};

use crate::timeline::{Evidence, LOOK_AHEAD};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const HOUR: u64 = 3600 * SECOND;
/// 2023-11-14T22:13:20Z.
const START: u64 = 1_700_000_000 * SECOND;

/// A record, as a test writes and reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TestPacket {
    ns: Option<u64>,
    frame: Vec<u8>,
    wire_len: u32,
    link: u16,
    precision: Precision,
}

fn packet(ns: u64, frame: &[u8]) -> TestPacket {
    TestPacket {
        ns: Some(ns),
        frame: frame.to_vec(),
        wire_len: frame.len() as u32,
        link: 1,
        precision: Precision::Micro,
    }
}

fn nano(ns: u64, frame: &[u8]) -> TestPacket {
    TestPacket {
        precision: Precision::Nano,
        ..packet(ns, frame)
    }
}

/// An Ethernet frame so short that frames are easy to tell apart. No two are the same unless a test
/// means them to be.
fn ip_frame(n: u8) -> Vec<u8> {
    [
        &[0; 12][..],
        &[
            8, 0, 0x45, 0, 0, 21, 0, 9, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, n,
        ],
    ]
    .concat()
}

impl TestPacket {
    fn of(record: &Record<'_>) -> Self {
        let Record {
            timestamp_ns,
            frame,
            wire_len,
            link,
            precision,
            ..
        } = *record;
        Self {
            ns: timestamp_ns,
            frame: frame.to_vec(),
            wire_len,
            link: link.0,
            precision,
        }
    }
}

fn classic(packets: &[TestPacket]) -> Vec<u8> {
    let (link, precision) = packets.first().map_or((1, Precision::Micro), |packet| {
        (packet.link, packet.precision)
    });
    let mut file = file_header(LinkType(link), precision, MAX_FRAME_LEN).to_vec();
    for packet in packets {
        file.extend(record_header(
            packet.ns.unwrap_or(0),
            precision,
            packet.frame.len() as u32,
            packet.wire_len,
        ));
        file.extend(&packet.frame);
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}

/// A pcapng that describes each interface just before its first packet. The first interface has
/// Ethernet and microseconds: simple packets belong to it.
fn ng(packets: &[TestPacket]) -> Vec<u8> {
    let mut interfaces = vec![(1, Precision::Micro)];
    let mut file = [
        ng_section_header(),
        ng_interface(LinkType(1), Precision::Micro, 0),
    ]
    .concat();
    for packet in packets {
        let Some(ns) = packet.ns else {
            let mut body = [&packet.wire_len.to_le_bytes()[..], &packet.frame].concat();
            body.resize(body.len().next_multiple_of(4), 0);
            file.extend(block(3, &body));
            continue;
        };
        let interface = (packet.link, packet.precision);
        let number = interfaces
            .iter()
            .position(|known| *known == interface)
            .unwrap_or_else(|| {
                file.extend(ng_interface(LinkType(packet.link), packet.precision, 0));
                interfaces.push(interface);
                interfaces.len() - 1
            });
        push_ng_packet(
            &mut file,
            number as u32,
            ns,
            packet.precision,
            &packet.frame,
            packet.wire_len,
        );
    }
    file
}

/// A packet of an interface without a description.
fn orphan() -> Vec<u8> {
    let mut block = Vec::new();
    push_ng_packet(&mut block, 99, START, Precision::Micro, b"orphan", 6);
    block
}

type Queues = Vec<Vec<Input>>;

/// Opens the files, point by point, without those that are no longer captures.
fn opened(points: &[Vec<Vec<u8>>]) -> Queues {
    let folder = tempfile::tempdir().unwrap();
    let open = |file: &Vec<u8>| {
        let path = folder.path().join("input");
        // A new file each time: the old one is still mapped.
        _ = std::fs::remove_file(&path);
        std::fs::write(&path, file).unwrap();
        Input::open(&path, &crate::source::Scratch::new(folder.path(), None)).ok()
    };
    points
        .iter()
        .map(|files| files.iter().filter_map(open).collect())
        .collect()
}

fn merge_of<'a>(queues: &'a Queues, positions: &[MergePosition]) -> Merge<'a> {
    Merge::new(
        queues
            .iter()
            .zip(positions)
            .map(|(inputs, position)| (inputs.iter().collect(), *position, Some(Later::END))),
    )
}

fn packets_of(file: &[u8]) -> Vec<TestPacket> {
    let (layout, offset) = Layout::detect(file).unwrap();
    let mut walk = layout.walk(file, offset);
    let packets = std::iter::from_fn(|| match walk.next_step()? {
        Step::Record(record) => Some(TestPacket::of(&record)),
        Step::Gap(gap) => panic!("{gap}"),
    });
    packets.collect()
}

/// The result of a merge, regardless of the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct MergeOutcome {
    packets: Vec<TestPacket>,
    duplicates: u64,
    gaps: Vec<(usize, Gap)>,
}

impl MergeOutcome {
    fn take(
        &mut self,
        merge: &mut Merge<'_>,
        until: Watermark,
        room: u64,
        recent: Option<&mut RecentPackets>,
    ) -> Merged {
        let mut file = Vec::new();
        let gaps = &mut self.gaps;
        let merged = merge
            .write(&mut file, until, room, recent, |point, _, gap| {
                gaps.push((point, gap));
            })
            .unwrap();
        assert_eq!(merged.bytes, file.len() as u64);
        let packets = packets_of(&file);
        assert_eq!(merged.packets, packets.len() as u64);
        self.duplicates += merged.duplicates;
        self.packets.extend(packets);
        merged
    }
}

fn merged_in_one(queues: &Queues, mut recent: Option<RecentPackets>) -> MergeOutcome {
    let mut outcome = MergeOutcome::default();
    let mut merge = merge_of(queues, &vec![MergePosition::default(); queues.len()]);
    let merged = outcome.take(&mut merge, Watermark::END, u64::MAX, recent.as_mut());
    assert!(merged.is_all);
    let ends = merge
        .positions()
        .zip(queues)
        .all(|(position, inputs)| position.finished == inputs.len() && position.offset == 0);
    assert!(ends);
    outcome.gaps.sort_by_key(|(point, _)| *point);
    outcome
}

fn merged(points: &[Vec<Vec<u8>>]) -> Vec<TestPacket> {
    merged_in_one(&opened(points), None).packets
}

fn watermark(clock: Clock, point: usize) -> Watermark {
    Watermark { clock, point }
}

#[test]
fn records_come_by_time_and_those_of_equal_time_by_point() {
    let at = |ms: u64, name: &str| packet(START + ms * MS, name.as_bytes());
    let (first, second) = (
        vec![at(0, "a0"), at(2, "a2"), at(2, "a2'"), at(9, "a9")],
        vec![at(0, "b0"), at(1, "b1"), at(2, "b2")],
    );
    let names = |packets: Vec<TestPacket>| {
        packets
            .into_iter()
            .map(|packet| String::from_utf8(packet.frame).unwrap())
            .collect::<Vec<_>>()
    };
    let got = merged(&[
        vec![classic(&first[..1]), classic(&first[1..])],
        vec![ng(&second)],
    ]);
    assert_eq!(names(got), ["a0", "b0", "b1", "a2", "a2'", "b2", "a9"]);
}

#[test]
fn what_comes_late_comes_at_once() {
    let at = |ms: u64, name: &str| packet(START + ms * MS, name.as_bytes());
    let late = at(1, "late");
    let got = merged(&[
        vec![classic(&[at(5, "a5"), late.clone(), at(7, "a7")])],
        vec![classic(&[at(4, "b4"), at(5, "b5"), at(6, "b6")])],
    ]);
    assert_eq!(
        got,
        [
            at(4, "b4"),
            at(5, "a5"),
            late,
            at(5, "b5"),
            at(6, "b6"),
            at(7, "a7")
        ]
    );
}

#[test]
fn a_time_that_the_next_record_contradicts_moves_nothing() {
    let at = |ns: u64, name: &str| packet(START + ns, name.as_bytes());
    let odd = at(2 * HOUR, "odd");
    // The next one may be in the next file.
    for first in [
        vec![classic(&[at(0, "a0"), odd.clone(), at(SECOND, "a1")])],
        vec![
            classic(&[at(0, "a0"), odd.clone()]),
            classic(&[]),
            classic(&[at(SECOND, "a1")]),
        ],
    ] {
        let got = merged(&[first, vec![classic(&[at(MS, "b0"), at(2 * SECOND, "b2")])]]);
        assert_eq!(
            got,
            [
                at(0, "a0"),
                odd.clone(),
                at(MS, "b0"),
                at(SECOND, "a1"),
                at(2 * SECOND, "b2")
            ]
        );
    }
    let got = merged(&[
        vec![classic(&[at(0, "a0"), odd.clone()])],
        vec![classic(&[at(MS, "b0")])],
    ]);
    assert_eq!(
        got,
        [at(0, "a0"), at(MS, "b0"), odd],
        "nothing contradicts the last one"
    );
}

#[test]
fn frames_times_and_lengths_stay_as_they_are() {
    let cooked = TestPacket {
        link: 113,
        wire_len: 9000,
        ..nano(START + 7, b"snapped")
    };
    let empty = packet(START + 1000, b"");
    let far = packet(i64::MAX as u64, b"far");
    let unknown = TestPacket {
        link: 147,
        ..packet(START, b"of a link type that is not read")
    };
    let second = [unknown.clone(), cooked.clone(), empty.clone(), far.clone()];
    let got = merged(&[vec![classic(&[nano(START + 3, b"a")])], vec![ng(&second)]]);
    let last_whole = i64::MAX as u64 / 1000 * 1000;
    assert_eq!(
        got,
        [
            unknown,
            nano(START + 3, b"a"),
            cooked,
            empty,
            TestPacket {
                ns: Some(last_whole),
                ..far
            }
        ]
    );
}

/// A tick of 1/1024 s is long, but not a whole number of microseconds.
#[test]
fn times_in_ticks_of_a_power_of_two_stay_as_they_are() {
    let interface = block(
        1,
        &[
            1,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            9,
            0,
            1,
            0,
            0x80 | 10,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
    );
    let mut file = [ng_section_header(), interface].concat();
    let ticks = 1_700_000_000 * 1024 + 1;
    push_ng_packet(&mut file, 0, ticks, Precision::Nano, b"a", 1);
    assert_eq!(merged(&[vec![file]]), [nano(START + 976_562, b"a")]);
}

#[test]
fn what_has_no_time_takes_that_of_its_point() {
    let timeless = |name: &str| TestPacket {
        ns: None,
        ..packet(0, name.as_bytes())
    };
    let point = [
        timeless("a"),
        nano(START + 5, b"b"),
        timeless("c"),
        packet(START + MS, b"d"),
    ];
    let other = packet(START, b"x");
    let got = merged(&[
        vec![ng(&point)],
        vec![classic(std::slice::from_ref(&other))],
    ]);
    assert_eq!(
        got,
        [
            packet(0, b"a"),
            other,
            nano(START + 5, b"b"),
            nano(START + 5, b"c"),
            packet(START + MS, b"d")
        ]
    );
}

#[test]
fn what_cannot_be_read_is_told_once() {
    let [first, second] = [packet(START, b"first"), packet(START + SECOND, b"second")];
    let head = ng(std::slice::from_ref(&first));
    let middle = ng(std::slice::from_ref(&second))[ng(&[]).len()..].to_vec();
    let files = vec![[&head[..], &orphan(), &middle, &[7; 5]].concat()];
    let queues = opened(&[vec![], files]);
    let whole = merged_in_one(&queues, None);
    assert_eq!(whole.packets, [first.clone(), second]);
    assert_eq!(
        whole
            .gaps
            .iter()
            .map(|(point, gap)| (*point, gap.len))
            .collect::<Vec<_>>(),
        [(1, orphan().len()), (1, 5)]
    );

    let mut steps = MergeOutcome::default();
    let mut positions = vec![MergePosition::default(); 2];
    for count in 1..4 {
        let mut merge = merge_of(&queues, &positions);
        let merged = steps.take(&mut merge, Watermark::END, 0, None);
        assert_eq!(merged.is_all, count >= 2);
        positions = merge.positions().collect();
    }
    assert_eq!(steps, whole);
    assert_eq!(
        positions,
        [
            MergePosition::default(),
            MergePosition {
                finished: 1,
                offset: 0,
                timeline: positions[1].timeline,
            }
        ]
    );
    assert_eq!(positions[1].timeline.clock(), Some(START + SECOND));
}

#[test]
fn nothing_comes_before_the_watermark_allows_it() {
    let at = |second: u64, name: &str| packet(START + second * SECOND, name.as_bytes());
    let queues = opened(&[
        vec![classic(&[at(1, "a1"), at(3, "a3"), at(3, "a3'")])],
        vec![classic(&[at(2, "b2"), at(3, "b3")])],
    ]);
    let mut merge = merge_of(&queues, &[MergePosition::default(); 2]);
    let mut step = |until| {
        let mut outcome = MergeOutcome::default();
        assert!(outcome.take(&mut merge, until, u64::MAX, None).is_all);
        outcome.packets
    };
    assert_eq!(step(watermark(START, 9)), []);
    assert_eq!(step(watermark(START + 2 * SECOND, 0)), [at(1, "a1")]);
    assert_eq!(step(watermark(START + 2 * SECOND, 1)), [at(2, "b2")]);
    // The first point may have more records of that time, which come before those of the second.
    assert_eq!(
        step(watermark(START + 3 * SECOND, 0)),
        [at(3, "a3"), at(3, "a3'")]
    );
    assert_eq!(step(Watermark::END), [at(3, "b3")]);
}

#[test]
fn the_watermark_is_what_all_have_delivered_who_are_waited_for() {
    assert_eq!(
        Watermark::of([(Some(7), true), (Some(5), true), (Some(5), true)]),
        Some(watermark(5, 1))
    );
    assert_eq!(
        Watermark::of([(Some(7), true), (Some(5), false)]),
        Some(watermark(7, 0))
    );
    assert_eq!(Watermark::of([(Some(7), true), (None, true)]), None);
    assert_eq!(
        Watermark::of([(Some(7), true), (None, false)]),
        Some(watermark(7, 0))
    );
    assert_eq!(
        Watermark::of([(Some(7), false), (None, false)]),
        Some(Watermark::END)
    );
}

/// The clock of a point that has delivered these inputs.
fn delivered(inputs: &[&Input], before: Timeline) -> Option<Clock> {
    let deliveries = Delivery::of_all(inputs, &[], 0, before, None);
    let queued = deliveries.into_iter().flatten().last();
    queued.map_or(before.clock(), |last| last.clock())
}

#[test]
fn a_delivery_ends_where_its_point_will_be_then() {
    let at = |ms: u64| packet(START + ms * MS, b"x");
    let later: Vec<TestPacket> = (0..16).map(|n| at(800 + n)).collect();
    let queues = opened(&[vec![
        classic(&[at(5), at(3 * HOUR / MS)]),
        classic(&later),
        classic(&[]),
    ]]);
    let inputs: Vec<&Input> = queues[0].iter().collect();
    let nothing = Timeline::default();
    let known = Delivery::of_all(&inputs[..1], &[], 0, nothing, None);
    assert_eq!(
        known[0].and_then(|known| known.clock()),
        Some(START + 5 * MS),
        "the leap waits"
    );
    assert_eq!(
        delivered(&inputs, nothing),
        Some(START + 815 * MS),
        "it is contradicted"
    );
    assert_eq!(
        Delivery::of_all(&inputs, &known, 0, nothing, None),
        Delivery::of_all(&inputs, &[], 0, nothing, None)
    );
    let mut ahead = nothing;
    ahead.reach(START + SECOND);
    assert_eq!(delivered(&inputs, ahead), Some(START + SECOND));
    assert_eq!(delivered(&[], nothing), None);
}

#[test]
fn copies_are_left_out_if_that_is_asked_for() {
    let at = |ms: u64, n: u8| packet(START + ms * MS, &ip_frame(n));
    let points = [
        vec![classic(&[at(0, 1), at(10, 2), at(100, 1)])],
        vec![classic(&[at(3, 1), at(61, 2), at(101, 3), at(102, 1)])],
    ];
    let queues = opened(&points);
    assert_eq!(merged_in_one(&queues, None).packets.len(), 7);
    let got = merged_in_one(&queues, Some(RecentPackets::default()));
    assert_eq!(
        got.packets,
        [at(0, 1), at(10, 2), at(61, 2), at(100, 1), at(101, 3)]
    );
    assert_eq!(got.duplicates, 2);
}

/// An error of the output.
#[test]
fn what_cannot_be_written_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let queues = opened(&[vec![classic(&[packet(START, b"a")])]]);
    let mut merge = merge_of(&queues, &[MergePosition::default()]);
    let error = merge
        .write(&mut Full, Watermark::END, u64::MAX, None, |_, _, _| {})
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

fn some_packet() -> impl Strategy<Value = TestPacket> {
    let ms = prop_oneof![8 => 0u64..400, 1 => Just(5_000_000), 1 => 0u64..9_000_000];
    let ns = prop_oneof![9 => ms.prop_map(|ms| Some(START + ms * MS)), 1 => (0u64..400_000_000).prop_map(|ns| Some(START + ns)), 1 => Just(None)];
    let frame = prop_oneof![3 => (0u8..6).prop_map(ip_frame), 1 => proptest::collection::vec(any::<u8>(), 0..40)];
    (
        ns,
        frame,
        prop_oneof![9 => Just(0u32), 1 => 1u32..2000],
        prop_oneof![9 => Just(1u16), 1 => Just(113), 1 => Just(147)],
    )
        .prop_map(|(ns, frame, more, link)| {
            let precision = if ns.is_some_and(|ns| !ns.is_multiple_of(1000)) {
                Precision::Nano
            } else {
                Precision::Micro
            };
            TestPacket {
                ns,
                wire_len: frame.len() as u32 + more,
                frame,
                link,
                precision,
            }
        })
}

/// A file that may be damaged.
fn some_file() -> impl Strategy<Value = Vec<u8>> {
    let damage = (
        any::<proptest::sample::Index>(),
        proptest::collection::vec(any::<u8>(), 0..9),
        0usize..9,
    );
    (
        proptest::collection::vec(some_packet(), 0..12),
        0..3,
        proptest::option::weighted(0.3, damage),
    )
        .prop_map(|(packets, form, damage)| {
            let mut file = match form {
                0 => classic(&packets),
                1 => ng(&packets),
                _ => {
                    let (first, second) = packets.split_at(packets.len() / 2);
                    [ng(first), orphan(), ng(second)].concat()
                }
            };
            if let Some((at, put, taken)) = damage {
                let at = at.index(file.len());
                let end = file.len().min(at + taken);
                file.splice(at..end, put);
            }
            file
        })
}

fn some_points() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    proptest::collection::vec(proptest::collection::vec(some_file(), 0..4), 1..5)
}

/// The expected result, by sorting: the records with the times at which they come.
fn sorted(queues: &Queues) -> Vec<(Clock, TestPacket)> {
    let mut all = Vec::new();
    for inputs in queues {
        let steps = inputs.iter().flat_map(|input| {
            let mut walk = input.layout.walk(input.bytes(), input.start);
            std::iter::from_fn(move || walk.next_step())
        });
        let packets: Vec<TestPacket> = steps
            .filter_map(|step| {
                if let Step::Record(record) = step {
                    Some(TestPacket::of(&record))
                } else {
                    None
                }
            })
            .collect();
        let mut timeline = Timeline::default();
        for (index, packet) in packets.iter().enumerate() {
            let later = packets.iter().skip(index + 1).take(LOOK_AHEAD);
            let mut times = later.filter_map(|later| later.ns);
            if let Some(ns) = packet.ns {
                let is_contradicted = times.any(|later| later + 60 * SECOND < ns);
                let evidence = if is_contradicted {
                    Evidence::Contradicted
                } else {
                    Evidence::BorneOut
                };
                timeline.advance(ns, || evidence);
            }
            let clock = timeline.clock().unwrap_or(0);
            let ns = Some(packet.ns.unwrap_or(clock));
            all.push((
                clock,
                TestPacket {
                    ns,
                    ..packet.clone()
                },
            ));
        }
    }
    all.sort_by_key(|(clock, _)| *clock);
    all
}

/// The steps: whether another process continues, the watermark, and the number of bytes.
fn some_steps() -> impl Strategy<Value = Vec<(bool, u64, usize, u64)>> {
    proptest::collection::vec((any::<bool>(), 0u64..500, 0usize..5, 0u64..600), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_sorting(points in some_points()) {
        let queues = opened(&points);
        let outcome = merged_in_one(&queues, None);
        let essence = |packet: &TestPacket| (packet.ns, packet.frame.clone(), packet.wire_len, packet.link);
        let want: Vec<_> = sorted(&queues).iter().map(|(_, packet)| essence(packet)).collect();
        prop_assert_eq!(outcome.packets.iter().map(essence).collect::<Vec<_>>(), want);
    }

    #[test]
    fn steps_do_not_matter(points in some_points(), steps in some_steps(), dedup: bool) {
        let queues = opened(&points);
        let recent = || dedup.then(RecentPackets::default);
        let want = merged_in_one(&queues, recent());
        let mut got = MergeOutcome::default();
        let mut recent = recent();
        let mut positions = vec![MergePosition::default(); queues.len()];
        let mut merge = merge_of(&queues, &positions);
        for (is_other_process, ms, point, room) in steps {
            let before = got.packets.len();
            let merged = got.take(&mut merge, watermark(START + ms * MS, point), room, recent.as_mut());
            prop_assert!(merged.is_all || got.packets.len() > before || merged.duplicates > 0);
            if is_other_process {
                let stored = postcard::to_stdvec(&(merge.positions().collect::<Vec<_>>(), &recent)).unwrap();
                (positions, recent) = postcard::from_bytes(&stored).unwrap();
                merge = merge_of(&queues, &positions);
            }
        }
        got.take(&mut merge, Watermark::END, u64::MAX, recent.as_mut());
        got.gaps.sort_by_key(|(point, _)| *point);
        prop_assert_eq!(got, want);
    }

    #[test]
    fn what_is_delivered_is_where_merging_ends(points in some_points()) {
        let queues = opened(&points);
        let mut merge = merge_of(&queues, &vec![MergePosition::default(); queues.len()]);
        MergeOutcome::default().take(&mut merge, Watermark::END, u64::MAX, None);
        for (inputs, position) in queues.iter().zip(merge.positions()) {
            let inputs: Vec<&Input> = inputs.iter().collect();
            let delivered = delivered(&inputs, Timeline::default());
            prop_assert!(delivered <= position.timeline.clock());
            let all = Delivery::of_all(&inputs, &[], 0, Timeline::default(), Some(Later::END));
            let last = all.last().copied().flatten().and_then(|last| last.clock());
            prop_assert_eq!(last, position.timeline.clock());
        }
    }

    /// Segments come one by one. As long as no time is odd, the output is the same as with all
    /// segments at once.
    #[test]
    fn when_segments_come_does_not_matter(
        times in proptest::collection::vec(proptest::collection::vec(0u64..40, 1..5), 6),
        arrivals in proptest::collection::vec(0usize..3, 0..12),
    ) {
        // Three points of two segments each, and times that are often the same.
        let files: Vec<Vec<u8>> = times.iter().enumerate().map(|(file, times)| {
            let at = |(index, ms): (usize, &u64)| packet(START + (ms + file as u64 % 2 * 15) * MS, &[file as u8, index as u8]);
            classic(&times.iter().enumerate().map(at).collect::<Vec<_>>())
        }).collect();
        let queues = opened(&files.chunks(2).map(<[Vec<u8>]>::to_vec).collect::<Vec<_>>());
        let want = merged_in_one(&queues, None);
        let mut got = MergeOutcome::default();
        let mut there = [0usize; 3];
        let mut positions = [MergePosition::default(); 3];
        for point in arrivals {
            there[point] = (there[point] + 1).min(2);
            let points: Vec<Vec<&Input>> = queues.iter().zip(there).map(|(inputs, count)| inputs[..count].iter().collect()).collect();
            let delivered = points.iter().map(|inputs| (delivered(inputs, Timeline::default()), true));
            let Some(until) = Watermark::of(delivered) else { continue };
            let mut merge = Merge::new(points.into_iter().zip(positions).map(|(inputs, position)| (inputs, position, None)));
            prop_assert!(got.take(&mut merge, until, u64::MAX, None).is_all);
            positions = merge.positions().collect::<Vec<_>>().try_into().unwrap();
            prop_assert!(positions[until.point].finished >= there[until.point], "a series that is waited for is done");
        }
        got.take(&mut merge_of(&queues, &positions), Watermark::END, u64::MAX, None);
        prop_assert_eq!(got, want);
    }

    /// A capture at several points at once: each record at one of them.
    #[test]
    fn a_capture_that_was_split_comes_together_again(
        records in proptest::collection::vec((0u64..3, 0usize..5, any::<bool>()), 0..80),
    ) {
        let mut points = vec![vec![Vec::new()]; 5];
        let mut want = Vec::new();
        let (mut ns, mut last) = (START, 0);
        for (index, (step, point, is_cut)) in records.into_iter().enumerate() {
            ns += step * MS;
            // Records of equal times come in the order of their points.
            last = if step == 0 { point.max(last) } else { point };
            let record = packet(ns, &(index as u32).to_le_bytes());
            want.push(record.clone());
            if is_cut {
                points[last].push(Vec::new());
            }
            points[last].last_mut().unwrap().push(record);
        }
        let files: Vec<Vec<Vec<u8>>> = points.iter().map(|files| files.iter().map(|packets| classic(packets)).collect()).collect();
        prop_assert_eq!(merged(&files), want);
    }
}
