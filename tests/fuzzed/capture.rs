//! Capture files: every byte is in a record or a gap, reading can start at any record, and written
//! records are read back unchanged.

use shared::pcap::{
    DEFAULT_SNAPLEN, Gap, Layout, LinkType, MAX_PROMISED_SNAPLEN, Precision, RECORD_HEADER_LEN,
    Record, Step, file_header, ng_interface, ng_packet, ng_section_header, record_header,
};

use super::place;

pub fn check(file: &[u8]) {
    let Ok((layout, start)) = Layout::detect(file) else {
        return;
    };
    let mut walk = layout.walk(file, start);
    let mut steps = Vec::new();
    let mut before = walk.offset();
    let mut restarts = Vec::new();
    while let Some(step) = walk.next_step() {
        let (offset, end) = (offset(&step), walk.offset());
        let skipped = offset - before;
        assert!(offset < end && end <= file.len());
        match step {
            Step::Gap(Gap { len, .. }) => assert_eq!(offset + len, end),
            Step::Record(Record { frame, .. }) => {
                let place = place(file, frame);
                assert!(frame.is_empty() || (offset < place.start && place.end <= end));
                match layout {
                    Layout::Classic(_) => assert_eq!(end - offset, RECORD_HEADER_LEN + frame.len()),
                    Layout::Modified(_) => {
                        assert_eq!(end - offset, RECORD_HEADER_LEN + 8 + frame.len());
                    }
                    Layout::Ng(_) => {}
                }
                if restarts.len() < 8 {
                    restarts.push((
                        steps.len(),
                        walk.clone().into_layouts().pop().unwrap(),
                        offset,
                    ));
                }
            }
        }
        match layout {
            Layout::Classic(_) | Layout::Modified(_) => assert_eq!(skipped, 0),
            // Blocks without a packet.
            Layout::Ng(_) => assert!(skipped.is_multiple_of(4)),
        }
        before = end;
        steps.push(step);
    }
    assert!(walk.offset() >= file.len());
    for (number, layout, offset) in restarts {
        let mut walk = layout.walk(file, offset);
        assert!(
            std::iter::from_fn(|| walk.next_step()).eq(steps[number..].iter().copied()),
            "read from {offset}"
        );
    }
    let records: Vec<Record<'_>> = steps
        .iter()
        .filter_map(|step| {
            if let Step::Record(record) = step {
                Some(*record)
            } else {
                None
            }
        })
        .collect();
    knows_its_records(&records, &walk.into_layouts(), file);
    reads_back(&records);
}

fn offset(step: &Step<'_>) -> usize {
    match step {
        Step::Record(record) => record.offset,
        Step::Gap(gap) => gap.offset,
    }
}

/// The last layout of a section reads all of its records.
fn knows_its_records(records: &[Record<'_>], layouts: &[Layout], file: &[u8]) {
    for record in records {
        let after = layouts.partition_point(|layout| layout.begins_at() <= record.offset);
        assert_eq!(
            layouts[after - 1].record_at(file, record.offset),
            Some(*record)
        );
    }
}

fn reads_back(records: &[Record<'_>]) {
    for precision in [Precision::Micro, Precision::Nano] {
        let mut classic = file_header(LinkType::RAW, precision, DEFAULT_SNAPLEN).to_vec();
        let mut ng = [
            ng_section_header(),
            ng_interface(LinkType::RAW, precision, DEFAULT_SNAPLEN),
        ]
        .concat();
        let unit = u64::from(precision.unit_ns());
        let in_units = |record: &Record<'_>| record.timestamp_ns.unwrap_or(0) / unit * unit;
        // Only odd records may be doubted. A usual one has a frame that is captured whole, with any
        // time up to 2106 (where the seconds of the classic format end), or is cut and from after
        // September 2001, where seconds have ten digits.
        let times = 1_000_000_000_000_000_000..u64::from(u32::MAX) * 1_000_000_000;
        let is_usual = |record: &Record<'_>| {
            let (len, wire_len) = (record.frame.len() as u32, record.wire_len);
            let is_snapped = len < wire_len
                && wire_len <= MAX_PROMISED_SNAPLEN
                && in_units(record) >= times.start;
            let is_len_usual =
                !record.frame.is_empty() && record.frame.len() <= DEFAULT_SNAPLEN as usize;
            in_units(record) < times.end && is_len_usual && (len == wire_len || is_snapped)
        };
        let kept: Vec<Record<'_>> = records
            .iter()
            .filter(|record| is_usual(record))
            .copied()
            .collect();
        for record in &kept {
            classic.extend(record_header(
                in_units(record),
                precision,
                record.frame.len() as u32,
                record.wire_len,
            ));
            classic.extend(record.frame);
            ng.extend(ng_packet(
                0,
                in_units(record),
                precision,
                record.frame,
                record.wire_len,
            ));
        }
        for file in [classic, ng] {
            let (layout, start) = Layout::detect(&file).unwrap();
            let mut walk = layout.walk(&file, start);
            for record in &kept {
                let Some(Step::Record(read)) = walk.next_step() else {
                    panic!("a record is missing")
                };
                assert_eq!(
                    (read.timestamp_ns, read.wire_len, read.link, read.frame),
                    (
                        Some(in_units(record)),
                        record.wire_len,
                        LinkType::RAW,
                        record.frame
                    )
                );
            }
            assert_eq!(walk.next_step(), None);
        }
    }
}
