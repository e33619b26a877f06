#![allow(
    clippy::arithmetic_side_effects,
    clippy::type_complexity,
    reason = "numbers of tests are small"
)]

use super::*;
use proptest::prelude::*;

/// Builds a capture in any classic variant.
fn classic(order: ByteOrder, precision: Precision, frames: &[(u64, &[u8])]) -> Vec<u8> {
    let mut file = file_header(LinkType::ETHERNET, precision, DEFAULT_SNAPLEN).to_vec();
    for (ns, frame) in frames {
        let len = frame.len() as u32;
        file.extend(record_header(*ns, precision, len, len));
        file.extend(*frame);
    }
    if order == ByteOrder::Big {
        swapped(&file)
    } else {
        file
    }
}

/// Returns the same capture with all numbers of all headers in the other byte order.
fn swapped(file: &[u8]) -> Vec<u8> {
    swapped_with(file, RECORD_HEADER_LEN)
}

fn swapped_with(file: &[u8], header_len: usize) -> Vec<u8> {
    let mut out = file.to_vec();
    out[0..4].reverse();
    out[4..6].reverse();
    out[6..8].reverse();
    for field in out[8..24].chunks_mut(4) {
        field.reverse();
    }
    let mut at = 24;
    while at < out.len() {
        let len = u32::from_le_bytes(out[at + 8..at + 12].try_into().unwrap()) as usize;
        for field in out[at..at + 16].chunks_mut(4) {
            field.reverse();
        }
        at += header_len + len;
    }
    out
}

#[test]
fn the_headers_alone_tell_the_first_time() {
    let ns = 1_701_441_022_123_456_000;
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for precision in [Precision::Micro, Precision::Nano] {
            let file = classic(order, precision, &[(ns, b"frame"), (ns + 1_000, b"frame")]);
            assert_eq!(first_time_ns(&file[..HEAD_LEN]), Some(ns));
            assert_eq!(first_time_ns(&file[..HEAD_LEN - 1]), None);
        }
    }
    let blank = [
        &file_header(LinkType::ETHERNET, Precision::Micro, 0)[..],
        &[0; 16],
    ]
    .concat();
    assert_eq!((first_time_ns(&blank), first_time_ns(b"")), (None, None));
}

fn read(file: &[u8]) -> (Vec<(Option<u64>, Vec<u8>)>, Vec<Gap>) {
    let (layout, start) = Layout::detect(file).unwrap();
    let mut walk = layout.walk(file, start);
    let (mut frames, mut gaps) = (Vec::new(), Vec::new());
    while let Some(step) = walk.next_step() {
        match step {
            Step::Record(record) => frames.push((record.timestamp_ns, record.frame.to_vec())),
            Step::Gap(gap) => gaps.push(gap),
        }
    }
    (frames, gaps)
}

#[test]
fn the_four_usual_magic_numbers() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for precision in [Precision::Micro, Precision::Nano] {
            let file = classic(
                order,
                precision,
                &[
                    (1_700_000_000_123_456_000, b"one"),
                    (1_700_000_001_000_000_000, b"two"),
                ],
            );
            let (frames, gaps) = read(&file);
            assert_eq!(
                frames[0],
                (Some(1_700_000_000_123_456_000), b"one".to_vec())
            );
            assert_eq!(frames[1].1, b"two");
            assert_eq!((frames.len(), gaps.len()), (2, 0));
        }
    }
}

#[test]
fn the_modified_format_of_1998() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let frames: Vec<_> = seconds(20);
        let plain = classic(
            order,
            Precision::Micro,
            &frames
                .iter()
                .map(|(ns, frame)| (*ns, &frame[..]))
                .collect::<Vec<_>>(),
        );
        let starts = offsets(&plain);
        let mut file = plain[..24].to_vec();
        file[..4].copy_from_slice(&if order == ByteOrder::Little {
            [0x34, 0xcd, 0xb2, 0xa1]
        } else {
            [0xa1, 0xb2, 0xcd, 0x34]
        });
        for (start, end) in starts
            .iter()
            .zip(starts.iter().skip(1).chain([&plain.len()]))
        {
            file.extend(
                [
                    &plain[*start..start + 16],
                    &[0, 0, 0, 2, 8, 0, 4, 0],
                    &plain[start + 16..*end],
                ]
                .concat(),
            );
        }
        let want: Vec<_> = frames
            .into_iter()
            .map(|(ns, frame)| (Some(ns), frame))
            .collect();
        assert_eq!(read(&file), (want, vec![]));
        let (layout, _) = Layout::detect(&file).unwrap();
        assert!(!layout.is_native(Precision::Micro));
        let starts = offsets(&file);
        assert_eq!(
            layout.next_boundary(&file, starts[3] + 1..file.len()),
            Some(starts[4])
        );
        file[starts[5]..starts[6]].fill(0);
        let (got, gaps) = read(&file);
        assert_eq!((got.len(), gaps.len()), (19, 1));
    }
}

#[test]
fn a_file_that_is_no_capture_is_named() {
    let says = |file: &[u8]| Layout::detect(file).unwrap_err().to_string();
    assert!(says(b"").contains("empty"));
    assert!(says(b"\x01GET / HTTP/1.1").contains("0x01474554"));
    assert!(says(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0]).contains("ends inside its own header (6 bytes)"));
}

#[test]
fn a_cut_record_costs_only_itself() {
    let whole = classic(
        ByteOrder::Little,
        Precision::Micro,
        &[(1_000_000_000, b"first"), (2_000_000_000, b"second")],
    );
    for cut in 24 + 16 + 5 + 1..whole.len() {
        let (frames, gaps) = read(&whole[..cut]);
        assert_eq!(frames.len(), 1, "cut at {cut}");
        assert_eq!(
            gaps,
            [Gap {
                offset: 45,
                len: cut - 45,
                reason: GapReason::Cut
            }],
            "cut at {cut}"
        );
    }
}

#[test]
fn a_destroyed_stretch_is_skipped_and_named() {
    let frame = [0x42u8; 60];
    let frames: Vec<(u64, &[u8])> = (1..40).map(|s| (s * 1_000_000_000, &frame[..])).collect();
    let mut file = classic(ByteOrder::Little, Precision::Micro, &frames);
    let record = 76;
    file[24 + 10 * record..24 + 12 * record].fill(0);
    let (got, gaps) = read(&file);
    assert_eq!(got.len(), 37);
    assert_eq!(
        gaps,
        [Gap {
            offset: 24 + 10 * record,
            len: 2 * record,
            reason: GapReason::Corrupt
        }]
    );
}

/// Builds a pcapng with another implementation.
fn ng(frames: &[(u64, Vec<u8>)], endianness: pcap_file::Endianness) -> Vec<u8> {
    use pcap_file::pcapng::blocks::{
        enhanced_packet::EnhancedPacketBlock, interface_description::*, section_header::*,
    };
    let section = SectionHeaderBlock {
        endianness,
        ..Default::default()
    };
    let mut writer =
        pcap_file::pcapng::PcapNgWriter::with_section_header(Vec::new(), section).unwrap();
    writer
        .write_pcapng_block(InterfaceDescriptionBlock {
            linktype: pcap_file::DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfTsResol(
                InterfaceTsResolution::NANO,
            )],
        })
        .unwrap();
    for (ns, frame) in frames {
        writer
            .write_pcapng_block(EnhancedPacketBlock {
                interface_id: 0,
                timestamp: std::time::Duration::from_nanos(*ns),
                original_len: frame.len() as u32,
                data: frame.into(),
                options: vec![],
            })
            .unwrap();
    }
    writer.into_inner()
}

/// Another implementation reads what is written here.
#[test]
fn pcapng_is_written_as_others_read_it() {
    use pcap_file::pcapng::{Block, PcapNgReader};
    let mut file = ng_section_header();
    file.extend(ng_interface(
        LinkType::ETHERNET,
        Precision::Micro,
        DEFAULT_SNAPLEN,
    ));
    file.extend(ng_packet(
        0,
        1_700_000_000_123_456_000,
        Precision::Micro,
        b"odd",
        60,
    ));
    file.extend(ng_interface(
        LinkType::RAW,
        Precision::Nano,
        DEFAULT_SNAPLEN,
    ));
    file.extend(ng_packet(
        1,
        1_700_000_000_123_456_789,
        Precision::Nano,
        b"even",
        4,
    ));
    let mut reader = PcapNgReader::new(&file[..]).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let (Block::EnhancedPacket(packet), _) = block.unwrap() {
            packets.push((
                packet.interface_id,
                packet.timestamp.as_nanos(),
                packet.original_len,
                packet.data.to_vec(),
            ));
        }
    }
    assert_eq!(
        packets[0],
        (0, 1_700_000_000_123_456_000, 60, b"odd".to_vec())
    );
    assert_eq!(
        packets[1],
        (1, 1_700_000_000_123_456_789, 4, b"even".to_vec())
    );
    let (frames, gaps) = read(&file);
    assert_eq!((frames.len(), gaps.len()), (2, 0));
}

/// Returns a frame per second, each different.
fn seconds(count: u64) -> Vec<(u64, Vec<u8>)> {
    let frame = |s: u64| {
        (0..140 + s % 7 * 9)
            .map(|n| (s * 31 + n * n * 7) as u8 | 2)
            .collect()
    };
    (1..=count)
        .map(|s| {
            (
                (1_700_000_000 + s) * 1_000_000_000 + s * 23_456_000,
                frame(s),
            )
        })
        .collect()
}

/// Returns times like those of odd captures, by name: seconds and fraction of each record.
fn odd_times(count: u32) -> Vec<(&'static str, Vec<(u32, u32)>)> {
    let times = |time: fn(u32) -> (u32, u32)| (0..count).map(time).collect();
    let scattered = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(7) ^ 0x5bd1_e995;
    let random = (0..count)
        .map(|n| (scattered(n), scattered(n + 7_777)))
        .collect();
    vec![
        (
            "of today",
            times(|n| (1_700_000_000 + n / 50, n % 50 * 19_999)),
        ),
        ("from zero", times(|n| (n / 50, n % 50 * 20_000))),
        ("whole seconds from zero", times(|n| (n, 0))),
        ("all zero", times(|_| (0, 0))),
        ("all the same", times(|_| (1_700_000_000, 60_000))),
        ("all the same, soon after zero", times(|_| (0, 77_777))),
        ("of 1970", times(|n| (86_400 + n, 123_456))),
        ("of 2100", times(|n| (4_102_444_800 + n, 999_999))),
        (
            "from zero, then of today",
            times(|n| (if n < 9 { n } else { 1_700_000_000 + n }, 55_555)),
        ),
        (
            "of today, then from zero",
            times(|n| (if n < 9 { 1_700_000_000 + n } else { n }, 55_555)),
        ),
        ("backwards", times(|n| (1_700_000_000 - n * 40_000, 55_555))),
        (
            "fractions of more than a second",
            times(|n| (1_700_000_000 + n, 999_999_999 - n * 16_600_000)),
        ),
        (
            "whole seconds that are random",
            (0..count).map(|n| (scattered(n), 0)).collect(),
        ),
        ("random", random),
    ]
}

/// Returns frames with these seconds and fractions, in every classic variant.
fn every_classic_form(times: &[(u32, u32)], frames: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for (kind, magic, more) in [
            ("micro", 0xa1b2_c3d4, 0),
            ("nano", 0xa1b2_3c4d, 0),
            ("modified", 0xa1b2_cd34u32, 8),
        ] {
            let mut file = [
                &magic.to_le_bytes(),
                &[2, 0, 4, 0][..],
                &[0; 8],
                &[0, 0, 4, 0],
                &[1, 0, 0, 0],
            ]
            .concat();
            for ((seconds, fraction), frame) in times.iter().zip(frames) {
                let len = frame.len() as u32;
                [*seconds, *fraction, len, len]
                    .iter()
                    .for_each(|field| file.extend(field.to_le_bytes()));
                file.extend(vec![0x5a; more]);
                file.extend(frame);
            }
            if order == ByteOrder::Big {
                file = swapped_with(&file, 16 + more);
            }
            files.push((format!("{order:?} {kind}"), file));
        }
    }
    files
}

/// Returns frames of usual lengths from a sender whose address looks like a length in either byte
/// order.
fn trapping_frames(count: usize) -> Vec<Vec<u8>> {
    let body = |n: usize| (0..120 + n % 5 * 31).map(move |i| (n * 13 + i * i * 3) as u8 | 4);
    (0..count)
        .map(|n| {
            [0x00, 0x1b, 0x2c, 0x00]
                .into_iter()
                .chain(body(n))
                .collect()
        })
        .collect()
}

#[test]
fn odd_times_cost_nothing_where_lengths_are_sound() {
    let frames = trapping_frames(60);
    for (what, times) in odd_times(60) {
        for (form, file) in every_classic_form(&times, &frames) {
            let (got, gaps) = read(&file);
            assert_eq!(gaps, [], "{form}, {what}");
            assert!(
                got.iter().map(|(_, frame)| frame).eq(&frames),
                "{form}, {what}"
            );
            let (layout, _) = Layout::detect(&file).unwrap();
            let offsets = offsets(&file);
            for from in 24..file.len() {
                let found = layout.next_boundary(&file, from..file.len());
                let next = offsets[offsets.partition_point(|offset| *offset < from)..]
                    .first()
                    .copied();
                // Records near the end of the file have too few records after them.
                let is_near_end = offsets[52] < from;
                assert!(
                    found == next || is_near_end && found.is_none_or(|found| Some(found) > next),
                    "{form}, {what}: {found:?}"
                );
            }
            // A cut costs only the cut record.
            for cut in (offsets[1]..file.len()).step_by(7) {
                let whole = offsets.partition_point(|offset| *offset < cut) - 1;
                let (got, gaps) = read(&file[..cut]);
                let is_whole = offsets.get(whole + 1).copied().unwrap_or(file.len()) == cut;
                let want = (whole + usize::from(is_whole), usize::from(!is_whole));
                assert_eq!(
                    (got.len(), gaps.len()),
                    want,
                    "{form}, {what}, cut at {cut}"
                );
                assert!(gaps.iter().all(|gap| gap.reason == GapReason::Cut));
            }
        }
    }
}

#[test]
fn damage_in_a_file_with_odd_times_costs_only_what_it_touches() {
    let frames = trapping_frames(60);
    for (what, times) in odd_times(60) {
        // In such a file, some headers that are read four bytes off look as good as any.
        let more = if what == "random" { 8 } else { 0 };
        for (form, file) in every_classic_form(&times, &frames) {
            let starts = offsets(&file);
            let (from, until) = (starts[20], starts[22]);
            let with = |range: Range<usize>, bytes: &[u8]| {
                [&file[..range.start], bytes, &file[range.end..]].concat()
            };
            let with_len = |len: u32| {
                let len = if form.starts_with("Big") {
                    len.to_be_bytes()
                } else {
                    len.to_le_bytes()
                };
                with(from + 8..from + 12, &len)
            };
            for (damage, damaged, lost) in [
                ("zeros", with(from..until, &vec![0; until - from]), 2),
                ("ones", with(from..until, &vec![0xff; until - from]), 2),
                ("a byte more", with(from..from, b"Z"), 0),
                ("a byte less", with(from..from + 1, b""), 1),
                ("four bytes more", with(from..from, b"ZZZZ"), 0),
                ("four bytes less", with(from..from + 4, b""), 1),
                ("half a record less", with(from..from + 91, b""), 1),
                (
                    "a hundred thousand bytes more",
                    with(from..from, &[0x5a; 100_001]),
                    0,
                ),
                ("absurd length", with_len(u32::MAX), 1),
                ("length past the end", with_len(260_000), 1),
                ("length over other records", with_len(5_000), 1),
                ("length of another", with_len(12), 1),
                ("no length", with_len(0), 1),
            ] {
                let (got, gaps) = read(&damaged);
                let intact = frames
                    .iter()
                    .filter(|frame| got.iter().any(|(_, got)| got == *frame))
                    .count();
                assert!(
                    intact + lost + more >= frames.len(),
                    "{form}, {what}, {damage}: {intact} intact, {gaps:?}"
                );
                assert!(
                    gaps.len() == 1 || more > 0,
                    "{form}, {what}, {damage}: {gaps:?}"
                );
            }
        }
    }
}

/// Returns the same capture in every variant, with the offsets of its records.
fn every_form(frames: &[(u64, Vec<u8>)]) -> Vec<(String, Vec<u8>, Vec<usize>)> {
    let borrowed: Vec<_> = frames.iter().map(|(ns, frame)| (*ns, &frame[..])).collect();
    let mut files = Vec::new();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for precision in [Precision::Micro, Precision::Nano] {
            files.push((
                format!("{order:?} {precision:?}"),
                classic(order, precision, &borrowed),
            ));
        }
    }
    files.push((
        "ng little".to_owned(),
        ng(frames, pcap_file::Endianness::Little),
    ));
    files.push(("ng big".to_owned(), ng(frames, pcap_file::Endianness::Big)));
    files
        .into_iter()
        .map(|(name, file)| (name, file.clone(), offsets(&file)))
        .collect()
}

fn offsets(file: &[u8]) -> Vec<usize> {
    let (layout, start) = Layout::detect(file).unwrap();
    let mut walk = layout.walk(file, start);
    let next = || walk.next_step();
    std::iter::from_fn(next)
        .filter_map(|step| {
            if let Step::Record(record) = step {
                Some(record.offset)
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn records_are_found_again_wherever_they_begin() {
    let frames = seconds(20);
    for (name, file, offsets) in every_form(&frames) {
        for extra in 1..=17 {
            let rubbish: Vec<u8> = (0..extra).map(|n| 0xe0 + n as u8).collect();
            let damaged = [&file[..offsets[7]], &rubbish, &file[offsets[7]..]].concat();
            let (got, gaps) = read(&damaged);
            assert_eq!(
                gaps,
                [Gap {
                    offset: offsets[7],
                    len: extra,
                    reason: GapReason::Corrupt
                }],
                "{name}, {extra}"
            );
            assert_eq!(got.len(), 20, "{name}, {extra}");
            // Then as many bytes are lost, of the frame before or of the record itself.
            let damaged = [&file[..offsets[7]], &file[offsets[7] + extra..]].concat();
            let (got, gaps) = read(&damaged);
            assert_eq!(
                (got.len(), gaps.len(), gaps[0].offset),
                (19, 1, offsets[7]),
                "{name}, {extra}"
            );
        }
    }
}

#[test]
fn a_damaged_length_costs_only_its_record() {
    let frames = seconds(40);
    for (name, file, offsets) in every_form(&frames) {
        let is_ng = name.starts_with("ng");
        for len in [
            0u32,
            7,
            12,
            61,
            64,
            500,
            1_000,
            70_000,
            0x00ff_ffff,
            0x7fff_ffff,
            u32::MAX,
        ] {
            for index in [0, 10, 39] {
                let at = offsets[index] + if is_ng { 4 } else { 8 };
                let bytes = if name.to_lowercase().contains("big") {
                    len.to_be_bytes()
                } else {
                    len.to_le_bytes()
                };
                let mut damaged = file.clone();
                damaged[at..at + 4].copy_from_slice(&bytes);
                if damaged == file {
                    continue;
                }
                let (got, gaps) = read(&damaged);
                let intact = got.iter().filter(|got| {
                    frames
                        .iter()
                        .any(|(ns, frame)| (&Some(*ns), frame) == (&got.0, &got.1))
                });
                assert_eq!(
                    intact.count(),
                    39,
                    "{name}, {len} in record {index}: {gaps:?}"
                );
                assert_eq!(gaps.len(), 1, "{name}, {len} in record {index}: {gaps:?}");
            }
        }
    }
}

#[test]
fn the_header_of_a_section_may_be_what_follows_damage() {
    let frames = seconds(6);
    let (little, big) = (
        ng(&frames, pcap_file::Endianness::Little),
        ng(&frames, pcap_file::Endianness::Big),
    );
    for (first, second) in [(&little, &big), (&big, &little)] {
        for rubbish in [1, 2, 3, 5, 400] {
            let cut = first.len() - 9;
            let (got, gaps) = read(&[&first[..cut], &vec![0; rubbish], &second[..]].concat());
            assert_eq!(got.len(), 5 + 6);
            assert_eq!(gaps.len(), 1);
            assert_eq!(gaps[0].offset + gaps[0].len, cut + rubbish);
        }
    }
}

#[test]
fn what_follows_damage_may_be_cut_itself() {
    for (name, file, offsets) in every_form(&seconds(20)) {
        for whole in 1..4 {
            let (damage, cut) = (offsets[10]..offsets[11], offsets[11 + whole] + 40);
            let mut damaged = file[..cut].to_vec();
            damaged[damage.clone()].fill(0x41);
            let (got, gaps) = read(&damaged);
            assert_eq!(got.len(), 10 + whole, "{name}, {whole}: {gaps:?}");
            let reasons: Vec<_> = gaps.iter().map(|gap| (gap.offset, gap.reason)).collect();
            assert_eq!(
                reasons,
                [
                    (damage.start, GapReason::Corrupt),
                    (offsets[11 + whole], GapReason::Cut)
                ],
                "{name}, {whole}"
            );
        }
    }
}

#[test]
fn a_long_destroyed_stretch_is_passed_over_once() {
    let frames = seconds(10);
    for (name, file, offsets) in every_form(&frames) {
        for filling in [&[0][..], &[0xff], b"GET / HTTP/1.1\r\n", &[0xd5, 0x55]] {
            let stretch: Vec<u8> = filling.iter().copied().cycle().take(8 << 20).collect();
            let damaged = [&file[..offsets[5]], &stretch, &file[offsets[5]..]].concat();
            let (got, gaps) = read(&damaged);
            assert!(
                got.len() == 10 && gaps.len() == 1,
                "{name}, {filling:?}: {} records, {} gaps",
                got.len(),
                gaps.len()
            );
        }
    }
}

fn frames() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let frame = proptest::collection::vec(any::<u8>(), 1..200);
    proptest::collection::vec((1_000_000_000u64..4_000_000_000_000_000_000, frame), 1..40)
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Overwritten(u8),
    Lost,
    Added(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<u8>().prop_map(Damage::Overwritten),
        Just(Damage::Lost),
        any::<u8>().prop_map(Damage::Added)
    ]
}

/// Returns a damaged file, and the end of the damage as an offset in the original file.
fn damaged(file: &[u8], from: usize, len: usize, damage: Damage) -> (Vec<u8>, usize) {
    let until = (from + len).min(file.len());
    match damage {
        Damage::Overwritten(byte) => (
            [&file[..from], &vec![byte; until - from], &file[until..]].concat(),
            until,
        ),
        Damage::Lost => ([&file[..from], &file[until..]].concat(), until),
        Damage::Added(byte) => (
            [&file[..from], &vec![byte; len], &file[from..]].concat(),
            from,
        ),
    }
}

proptest! {
    /// Everything before and after a damaged stretch is read. If bytes were lost or added, the
    /// loss may include the records inside the frame of a record that looks valid: one record in
    /// pcapng, with its two lengths; a few in classic pcap.
    #[test]
    fn damage_costs_what_it_touches(from in 0.0..1.0f64, len in 1usize..900, damage in damage()) {
        let frames = seconds(60);
        for (name, file, offsets) in every_form(&frames) {
            let from = offsets[0] + ((file.len() - offsets[0]) as f64 * from) as usize;
            let (damaged, until) = damaged(&file, from, len, damage);
            let ends = offsets.iter().skip(1).copied().chain([file.len()]);
            let is_touched = |(start, end): (&usize, usize)| end > from && *start < until;
            let touched = offsets.iter().zip(ends).map(is_touched).filter(|touched| *touched).count();
            let (got, gaps) = read(&damaged);
            if gaps.is_empty() && !name.starts_with("ng") {
                continue; // A damaged length may end at another record's start: that is undetectable.
            }
            let intact = frames.iter().filter(|(ns, frame)| got.iter().any(|got| (&Some(*ns), frame) == (&got.0, &got.1))).count();
            let spared = match damage {
                Damage::Overwritten(_) => 0,
                _ if name.starts_with("ng") => 1,
                _ => 5,
            };
            prop_assert!(intact + touched + spared >= frames.len(), "{}: {} intact, {} touched, {:?}", name, intact, touched, gaps);
        }
    }

    #[test]
    fn damage_costs_what_it_touches_whatever_the_times(from in 0.0..1.0f64, len in 1usize..900, damage in damage()) {
        let frames = trapping_frames(60);
        for (what, times) in odd_times(60).into_iter().filter(|(what, _)| *what != "random") {
            for (form, file) in every_classic_form(&times, &frames) {
                let starts = offsets(&file);
                let from = starts[0] + ((file.len() - starts[0]) as f64 * from) as usize;
                let (damaged, until) = damaged(&file, from, len, damage);
                let ends = starts.iter().skip(1).copied().chain([file.len()]);
                let touched = starts.iter().zip(ends).filter(|(start, end)| *end > from && **start < until).count();
                let (got, gaps) = read(&damaged);
                let swallowing = got.iter().filter(|(_, got)| frames.iter().all(|frame| frame.len() < got.len())).count();
                if gaps.is_empty() || swallowing == 1 {
                    continue; // A damaged length may look valid: that is undetectable.
                }
                let intact = frames.iter().filter(|frame| got.iter().any(|(_, got)| got == *frame)).count();
                let spared = if let Damage::Overwritten(_) = damage { 0 } else { 5 };
                prop_assert!(intact + touched + spared >= 60, "{form}, {what}: {intact} intact, {touched} touched, {gaps:?}");
            }
        }
    }

    #[test]
    fn pcapng_of_another_writer_is_read_in_both_byte_orders(frames in frames()) {
        for endianness in [pcap_file::Endianness::Little, pcap_file::Endianness::Big] {
            let (got, gaps) = read(&ng(&frames, endianness));
            prop_assert!(gaps.is_empty());
            let want: Vec<_> = frames.iter().map(|(ns, frame)| (Some(*ns), frame.clone())).collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn reading_can_start_at_any_boundary(frames in frames(), from in 24usize..2000) {
        let borrowed: Vec<_> = frames.iter().zip(1_600_000_000..).map(|((_, frame), s)| (s * 1_007_654_321, &frame[..])).collect();
        let file = classic(ByteOrder::Little, Precision::Nano, &borrowed);
        let (layout, start) = Layout::detect(&file).unwrap();
        let mut walk = layout.walk(&file, start);
        let mut starts = Vec::new();
        while let Some(Step::Record(record)) = walk.next_step() {
            starts.push(record.offset);
        }
        if let Some(boundary) = layout.next_boundary(&file, from..file.len()) {
            prop_assert!(starts.contains(&boundary), "{} is no record", boundary);
        }
    }

    #[test]
    fn any_bytes_are_accounted_for(bytes in proptest::collection::vec(any::<u8>(), 0..600), big in any::<bool>()) {
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let mut file = classic(order, Precision::Micro, &[]);
        file.extend(&bytes);
        let (frames, gaps) = read(&file);
        let read: usize = frames.iter().map(|(_, frame)| frame.len() + RECORD_HEADER_LEN).sum();
        let skipped: usize = gaps.iter().map(|gap| gap.len).sum();
        prop_assert_eq!(read + skipped, bytes.len());
    }
}
