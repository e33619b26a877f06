//! Replaces the times of a capture: no times may cost a packet whose lengths are sound.

use shared::pcap::{Layout, MAX_PROMISED_SNAPLEN, Step};

/// A name, and a function from a record's number, its nanoseconds after the first record, and the
/// units in a second to the seconds and the fraction in its header.
pub type Times = (&'static str, fn(u32, u64, u64) -> (u32, u32));

pub const FROM_ZERO: Times = ("from zero", |_, since, units| after(0, since, units));

/// Times of programs that count from the start of the capture, of clocks that are not set, and of
/// software that writes none.
pub const TIMES: &[Times] = &[
    FROM_ZERO,
    ("of 1970", |_, since, units| after(86_400, since, units)),
    ("of 2100", |_, since, units| {
        after(4_102_444_800, since, units)
    }),
    ("all zero", |_, _, _| (0, 0)),
    ("all the same", |_, _, _| (1_700_000_000, 500_000)),
    ("random", |n, _, _| {
        (scattered(n), scattered(n.wrapping_add(7_777)))
    }),
    ("whole seconds that are random", |n, _, _| (scattered(n), 0)),
    ("fractions of more than a second", |n, _, units| {
        (1_700_000_000 + n, units as u32 + n * 1_001)
    }),
    ("nanoseconds for microseconds", |_, since, _| {
        after(1_700_000_000, since, 1_000_000_000)
    }),
];

fn after(seconds: u64, since_ns: u64, units: u64) -> (u32, u32) {
    let fraction = since_ns % 1_000_000_000 * units / 1_000_000_000;
    ((seconds + since_ns / 1_000_000_000) as u32, fraction as u32)
}

fn scattered(n: u32) -> u32 {
    n.wrapping_mul(2_654_435_761).rotate_left(7) ^ 0x5bd1_e995
}

/// Returns a classic pcap whose lengths chain to its end, with other times.
pub fn at_times(file: &[u8], times: &Times) -> Vec<u8> {
    let is_big = file[0] == 0xa1;
    let number = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap();
        if is_big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let bytes = |number: u32| {
        if is_big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let units = if number(&file[..4]) == 0xa1b2_3c4d {
        1_000_000_000
    } else {
        1_000_000
    };
    let mut out = file.to_vec();
    let (mut at, mut first_ns) = (24, None);
    for n in 0.. {
        let Some(header) = file.get(at..at + 16) else {
            break;
        };
        let [seconds, fraction, len] =
            [0, 4, 8].map(|field| u64::from(number(&header[field..field + 4])));
        let ns = seconds * 1_000_000_000 + fraction * (1_000_000_000 / units);
        let since_ns = ns.saturating_sub(*first_ns.get_or_insert(ns));
        let (seconds, fraction) = times.1(n, since_ns, units);
        out[at..at + 4].copy_from_slice(&bytes(seconds));
        out[at + 4..at + 8].copy_from_slice(&bytes(fraction));
        at += 16 + len as usize;
    }
    out
}

/// Checks that a capture, if it is a classic pcap with sound lengths, gives the same frames with
/// any times.
pub fn check(file: &[u8]) {
    let Some(frames) =
        frames(file).filter(|_| matches!(Layout::detect(file), Ok((Layout::Classic(_), _))))
    else {
        return;
    };
    for times in TIMES {
        let other = at_times(file, times);
        assert!(
            self::frames(&other).as_ref() == Some(&frames),
            "a capture is read otherwise with times that are {}",
            times.0
        );
    }
}

/// Returns the frames of a capture with their lengths on the wire; `None` if lengths are not sound.
fn frames(file: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let (layout, start) = Layout::detect(file).ok()?;
    let mut walk = layout.walk(file, start);
    let mut frames = Vec::new();
    while let Some(step) = walk.next_step() {
        let Step::Record(record) = step else {
            return None;
        };
        let lens = 1..=record.wire_len.min(MAX_PROMISED_SNAPLEN) as usize;
        if !lens.contains(&record.frame.len()) {
            return None;
        }
        frames.push((record.wire_len, record.frame));
    }
    Some(frames)
}
