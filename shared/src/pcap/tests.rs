#![allow(clippy::arithmetic_side_effects, clippy::type_complexity, reason = "numbers of tests are small")]

use super::*;
use proptest::prelude::*;

/// A capture in any classic variant, written by hand.
fn classic(order: ByteOrder, precision: Precision, frames: &[(u64, &[u8])]) -> Vec<u8> {
    let mut file = file_header(LinkType::ETHERNET, precision, DEFAULT_SNAPLEN).to_vec();
    for (ns, frame) in frames {
        let len = frame.len() as u32;
        file.extend(record_header(*ns, precision, len, len));
        file.extend(*frame);
    }
    if order == ByteOrder::Big { swapped(&file) } else { file }
}

/// The same capture with every number of every header the other way round.
fn swapped(file: &[u8]) -> Vec<u8> {
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
        at += 16 + len;
    }
    out
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
fn all_four_magic_numbers() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for precision in [Precision::Micro, Precision::Nano] {
            let file = classic(order, precision, &[(1_700_000_000_123_456_000, b"one"), (1_700_000_001_000_000_000, b"two")]);
            let (frames, gaps) = read(&file);
            assert_eq!(frames[0], (Some(1_700_000_000_123_456_000), b"one".to_vec()));
            assert_eq!(frames[1].1, b"two");
            assert_eq!((frames.len(), gaps.len()), (2, 0));
        }
    }
}

#[test]
fn what_is_no_capture_is_named() {
    let says = |file: &[u8]| Layout::detect(file).unwrap_err().to_string();
    assert!(says(b"").contains("empty"));
    assert!(says(b"GET / HTTP/1.1").contains("0x47455420"));
    assert!(says(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0]).contains("ends inside its own header (6 bytes)"));
    assert!(says(b"BZh91AY&SY").contains("compressed with bzip2, which is not read; decompress it with `bunzip2` first"));
    assert!(says(b"\xfd7zXZ\0\0\x04").contains("unxz"));
    assert!(says(&[0x04, 0x22, 0x4d, 0x18, 0x64]).contains("unlz4"));
}

#[test]
fn a_cut_record_costs_only_itself() {
    let whole = classic(ByteOrder::Little, Precision::Micro, &[(1_000_000_000, b"first"), (2_000_000_000, b"second")]);
    for cut in 24 + 16 + 5 + 1..whole.len() {
        let (frames, gaps) = read(&whole[..cut]);
        assert_eq!(frames.len(), 1, "cut at {cut}");
        assert_eq!(gaps, [Gap { offset: 45, len: cut - 45, reason: GapReason::Cut }], "cut at {cut}");
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
    assert_eq!(gaps, [Gap { offset: 24 + 10 * record, len: 2 * record, reason: GapReason::Corrupt }]);
}

/// pcapng as another implementation writes it.
fn ng(frames: &[(u64, Vec<u8>)], endianness: pcap_file::Endianness) -> Vec<u8> {
    use pcap_file::pcapng::blocks::{enhanced_packet::EnhancedPacketBlock, interface_description::*, section_header::*};
    let section = SectionHeaderBlock { endianness, ..Default::default() };
    let mut writer = pcap_file::pcapng::PcapNgWriter::with_section_header(Vec::new(), section).unwrap();
    writer
        .write_pcapng_block(InterfaceDescriptionBlock {
            linktype: pcap_file::DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO)],
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

/// What is written here, another implementation reads.
#[test]
fn pcapng_is_written_as_others_read_it() {
    use pcap_file::pcapng::{Block, PcapNgReader};
    let mut file = ng_section_header();
    file.extend(ng_interface(LinkType::ETHERNET, Precision::Micro, DEFAULT_SNAPLEN));
    file.extend(ng_packet(0, 1_700_000_000_123_456_000, Precision::Micro, b"odd", 60));
    file.extend(ng_interface(LinkType::RAW, Precision::Nano, DEFAULT_SNAPLEN));
    file.extend(ng_packet(1, 1_700_000_000_123_456_789, Precision::Nano, b"even", 4));
    let mut reader = PcapNgReader::new(&file[..]).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let (Block::EnhancedPacket(packet), _) = block.unwrap() {
            packets.push((packet.interface_id, packet.timestamp.as_nanos(), packet.original_len, packet.data.to_vec()));
        }
    }
    assert_eq!(packets[0], (0, 1_700_000_000_123_456_000, 60, b"odd".to_vec()));
    assert_eq!(packets[1], (1, 1_700_000_000_123_456_789, 4, b"even".to_vec()));
    let (frames, gaps) = read(&file);
    assert_eq!((frames.len(), gaps.len()), (2, 0));
}

fn frames() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let frame = proptest::collection::vec(any::<u8>(), 1..200);
    proptest::collection::vec((1_000_000_000u64..4_000_000_000_000_000_000, frame), 1..40)
}

proptest! {
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
        let borrowed: Vec<_> = frames.iter().map(|(ns, frame)| (*ns, &frame[..])).collect();
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
