//! Index files: whatever their bytes, they are read without a panic, and nothing is made of lengths
//! that they only claim.

use shared::index::{
    Coding, Container, Cursor, Events, INDEX_MAGIC, POSITIONS_MAGIC, Section, Summary, passed,
    read_blocks, read_flows, read_numbers, read_packets, read_restarts, section, write,
};
use sip_call_extractor::stored::Words;

use super::Input;

const KINDS: [u32; 9] = [
    section::SUMMARY,
    section::WORDS,
    section::EVENTS,
    section::PASSED,
    section::FLOWS,
    section::PACKETS,
    section::BLOCKS,
    section::NUMBERS,
    section::RESTARTS,
];

pub fn check(bytes: &[u8]) {
    for magic in [INDEX_MAGIC, POSITIONS_MAGIC] {
        if let Ok(file) = Container::open(bytes, magic) {
            for kind in KINDS {
                let _ = file.section_of_parts(kind);
                let _ = file.section(kind).map(|section| read(section.bytes));
            }
        }
    }
    // A file whose checksums are right, whatever is in it.
    let mut input = Input(bytes);
    let kind = KINDS[usize::from(input.byte()) % KINDS.len()];
    let section = Section {
        kind,
        coding: Coding::Plain,
        plain_len: input.0.len() as u64,
        bytes: input.0,
    };
    let written = write(INDEX_MAGIC, &[section]);
    let file = Container::open(&written, INDEX_MAGIC).unwrap();
    assert_eq!(file.section(kind).unwrap(), section);
    read(section.bytes);
}

/// Reads the content of a section as that of each kind.
fn read(bytes: &[u8]) {
    if let Some(summary) = Summary::read(bytes) {
        assert!(summary.start <= summary.end && summary.end <= summary.identity.len);
        assert_eq!(Summary::read(&summary.write()), Some(summary));
    }
    let words: usize = Words::of(bytes).map(|call| call.words.len()).sum();
    assert!(words <= bytes.len());
    let frames: usize = Events::of(bytes)
        .map(|event| event.record.frame.len())
        .sum();
    assert!(frames <= bytes.len());
    if let Some(passed) = passed(bytes) {
        assert!(passed.is_sorted_by_key(|one| one.offset));
    }
    let _ = read_flows(bytes);
    let _ = read_blocks(bytes);
    let _ = read_restarts(bytes);
    let mut cursor = Cursor::new(bytes);
    let count = cursor.varint().unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if let Some(packets) = read_packets(cursor.rest(), count) {
        assert!(packets.is_sorted() && packets.len() == count);
    }
    if let Some(numbers) = read_numbers(cursor.rest(), count) {
        assert!(numbers.is_sorted() && numbers.len() == count);
    }
}
