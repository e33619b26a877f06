//! The packets of a flow: packet time and offset of each, as differences.
//!
//! A byte says the unit of time (0 for nanoseconds, 1 for microseconds), then come the length of
//! the offsets, the offsets, and the times. Packets of a flow come at a steady pace, so of times
//! the difference of the differences is written. Both columns by themselves compress better.

use super::bytes::{Cursor, put_signed, put_varint};

/// Nanoseconds of a microsecond.
const MICRO: u64 = 1_000;

/// Writes packets, as times and offsets. Neither goes back from packet to packet.
#[must_use]
pub fn write_packets(packets: impl Iterator<Item = (u64, u64)> + Clone) -> Vec<u8> {
    let is_micro = packets
        .clone()
        .all(|(clock, _)| clock.is_multiple_of(MICRO));
    let unit = if is_micro { MICRO } else { 1 };
    let (mut offsets, mut times) = (Vec::new(), Vec::new());
    let (mut last, mut last_step) = ((0u64, 0u64), 0u64);
    for (clock, offset) in packets {
        let clock = clock.checked_div(unit).unwrap_or(clock);
        put_varint(&mut offsets, offset.wrapping_sub(last.1));
        let step = clock.wrapping_sub(last.0);
        put_signed(&mut times, step.wrapping_sub(last_step).cast_signed());
        (last, last_step) = ((clock, offset), step);
    }
    let mut bytes = Vec::with_capacity(offsets.len().saturating_add(times.len()).saturating_add(8));
    bytes.push(u8::from(is_micro));
    put_varint(&mut bytes, offsets.len() as u64);
    bytes.extend(offsets);
    bytes.extend(times);
    bytes
}

/// Reads `count` packets. `None` if the bytes are not those of so many packets, in order.
#[must_use]
pub fn read_packets(bytes: &[u8], count: usize) -> Option<Vec<(u64, u64)>> {
    let mut cursor = Cursor::new(bytes);
    let unit = match cursor.byte()? {
        0 => 1,
        1 => MICRO,
        _ => return None,
    };
    let mut offsets = Cursor::new(cursor.text()?);
    // A packet takes at least a byte of each column.
    if count > offsets.rest().len() || count > cursor.rest().len() {
        return None;
    }
    let mut packets = Vec::with_capacity(count);
    let (mut last, mut step) = ((0u64, 0u64), 0u64);
    for _ in 0..count {
        let offset = last.1.checked_add(offsets.varint()?)?;
        step = step.wrapping_add(cursor.signed()?.cast_unsigned());
        let clock = last.0.checked_add(step)?;
        packets.push((clock.checked_mul(unit)?, offset));
        last = (clock, offset);
    }
    (offsets.is_empty() && cursor.is_empty()).then_some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_flow_takes_three_bytes_a_packet() {
        let packets =
            (0..9_000u64).map(|n| (1_700_000_000_000_000_000 + n * 20_000_000, 24 + n * 11_500));
        let bytes = write_packets(packets.clone());
        assert!(bytes.len() < 9_000 * 3 + 40, "{}", bytes.len());
        assert_eq!(read_packets(&bytes, 9_000), Some(packets.collect()));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(start in any::<u32>(), steps in proptest::collection::vec((0..1u64 << 40, 0..1u64 << 20), 0..50), is_micro in any::<bool>()) {
            let mut at = (u64::from(start) * MICRO, 24);
            let mut packets = Vec::new();
            for (step, bytes) in steps {
                at = (at.0 + if is_micro { step / MICRO * MICRO } else { step }, at.1 + bytes);
                packets.push(at);
            }
            let bytes = write_packets(packets.iter().copied());
            prop_assert_eq!(read_packets(&bytes, packets.len()), Some(packets.clone()));
            prop_assert_eq!(read_packets(&bytes, packets.len() + 1), None);
            if let Some(less) = packets.len().checked_sub(1) {
                prop_assert_eq!(read_packets(&bytes, less), None);
            }
        }

        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>(), count in any::<usize>()) {
            if let Some(packets) = read_packets(&bytes, count) {
                prop_assert!(packets.is_sorted());
            }
        }
    }
}
