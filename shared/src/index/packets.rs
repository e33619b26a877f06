//! The media packets of a segment: a table of all of them in capture order, and the numbers of each
//! flow's packets in that table.
//!
//! So a packet's time is the difference to the packet before it in the capture, whatever its flow,
//! and a flow is a list of how many packets of others lie between its own. Both take less than the
//! time and the offset of each flow's packets: with jitter, 1.6 bytes a packet instead of 3.6.

use super::bytes::{Cursor, put_signed, put_varint};

/// Nanoseconds of a microsecond.
const MICRO: u64 = 1_000;

/// Writes a block of the table: packet time and offset of each packet. Neither goes back from packet
/// to packet.
///
/// A byte says the unit of time (0 for nanoseconds, 1 for microseconds), then come the length of the
/// offsets, the offsets, and the times, each as the difference to the one before. Both columns by
/// themselves compress better.
#[must_use]
pub fn write_packets(packets: &[(u64, u64)]) -> Vec<u8> {
    let is_micro = packets.iter().all(|(clock, _)| clock.is_multiple_of(MICRO));
    let unit = if is_micro { MICRO } else { 1 };
    let (mut offsets, mut times) = (Vec::new(), Vec::new());
    let mut last = (0u64, 0u64);
    for &(clock, offset) in packets {
        let clock = clock.checked_div(unit).unwrap_or(clock);
        put_varint(&mut offsets, offset.wrapping_sub(last.1));
        put_varint(&mut times, clock.wrapping_sub(last.0));
        last = (clock, offset);
    }
    let mut bytes = Vec::with_capacity(offsets.len().saturating_add(times.len()).saturating_add(8));
    bytes.push(u8::from(is_micro));
    put_varint(&mut bytes, offsets.len() as u64);
    bytes.extend(offsets);
    bytes.extend(times);
    bytes
}

/// Reads a block of `count` packets. `None` if the bytes are not those of so many packets, in order.
#[must_use]
pub fn read_packets(bytes: &[u8], count: usize) -> Option<Vec<(u64, u64)>> {
    let mut times = Cursor::new(bytes);
    let unit = match times.byte()? {
        0 => 1,
        1 => MICRO,
        _ => return None,
    };
    let mut offsets = Cursor::new(times.text()?);
    // A packet takes at least a byte of each column.
    if count > offsets.rest().len() || count > times.rest().len() {
        return None;
    }
    let mut packets = Vec::with_capacity(count);
    let mut last = (0u64, 0u64);
    for _ in 0..count {
        let offset = last.1.checked_add(offsets.varint()?)?;
        let clock = last.0.checked_add(times.varint()?)?;
        packets.push((clock.checked_mul(unit)?, offset));
        last = (clock, offset);
    }
    (offsets.is_empty() && times.is_empty()).then_some(packets)
}

/// The distance that is expected between two packets of a flow in the table: a moving average, which
/// follows the number of flows at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Distance {
    /// Eight times the average.
    eightfold: u64,
}

impl Distance {
    fn expected(self) -> u64 {
        self.eightfold >> 3
    }

    fn learn(&mut self, distance: u64) {
        self.eightfold = if self.eightfold == 0 {
            distance.wrapping_mul(8)
        } else {
            let rest = self.eightfold.wrapping_sub(self.expected());
            rest.wrapping_add(distance)
        };
    }
}

/// Writes the numbers of a flow's packets in the table, which do not go back: each as the distance to
/// the one before, less the distance that is expected.
#[must_use]
pub fn write_numbers(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len());
    let (mut last, mut usual) = (0u64, Distance::default());
    for (place, &number) in numbers.iter().enumerate() {
        let distance = number.wrapping_sub(last);
        let surplus = distance.wrapping_sub(usual.expected());
        put_signed(&mut bytes, surplus.cast_signed());
        // The first is the distance to the beginning of the table.
        if place > 0 {
            usual.learn(distance);
        }
        last = number;
    }
    bytes
}

/// Reads `count` numbers of packets. `None` if the bytes are not those of so many, in order.
#[must_use]
pub fn read_numbers(bytes: &[u8], count: usize) -> Option<Vec<u64>> {
    let mut cursor = Cursor::new(bytes);
    // A number takes at least a byte.
    if count > bytes.len() {
        return None;
    }
    let mut numbers = Vec::with_capacity(count);
    let (mut last, mut usual) = (0u64, Distance::default());
    for place in 0..count {
        let surplus = cursor.signed()?.cast_unsigned();
        let distance = surplus.wrapping_add(usual.expected());
        if place > 0 {
            usual.learn(distance);
        }
        last = last.checked_add(distance)?;
        numbers.push(last);
    }
    cursor.is_empty().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_takes_three_bytes_in_the_table_and_one_in_its_flow() {
        let packets: Vec<_> = (0..9_000u64)
            .map(|n| (1_700_000_000_000_000_000 + n * 25_000, 24 + n * 230))
            .collect();
        let bytes = write_packets(&packets);
        assert!(bytes.len() < 9_000 * 3 + 40, "{}", bytes.len());
        assert_eq!(read_packets(&bytes, 9_000), Some(packets));
        // Some 800 flows, later some 1,600.
        let numbers: Vec<u64> = (0..9_000)
            .map(|n| n * 800 + n * n / 22 + n * 7 % 30)
            .collect();
        let bytes = write_numbers(&numbers);
        assert!(bytes.len() < 9_000 + 40, "{}", bytes.len());
        assert_eq!(read_numbers(&bytes, 9_000), Some(numbers));
    }

    proptest! {
        #[test]
        fn a_table_reads_back(start in any::<u32>(), steps in proptest::collection::vec((0..1u64 << 40, 0..1u64 << 20), 0..50), is_micro in any::<bool>()) {
            let mut at = (u64::from(start) * MICRO, 24);
            let mut packets = Vec::new();
            for (step, bytes) in steps {
                at = (at.0 + if is_micro { step / MICRO * MICRO } else { step }, at.1 + bytes);
                packets.push(at);
            }
            let bytes = write_packets(&packets);
            prop_assert_eq!(read_packets(&bytes, packets.len()), Some(packets.clone()));
            prop_assert_eq!(read_packets(&bytes, packets.len() + 1), None);
            if let Some(less) = packets.len().checked_sub(1) {
                prop_assert_eq!(read_packets(&bytes, less), None);
            }
        }

        #[test]
        fn numbers_read_back(mut numbers in proptest::collection::vec(any::<u64>(), 0..50)) {
            numbers.sort_unstable();
            let bytes = write_numbers(&numbers);
            prop_assert_eq!(read_numbers(&bytes, numbers.len()), Some(numbers.clone()));
            prop_assert_eq!(read_numbers(&bytes, numbers.len() + 1), None);
            if let Some(less) = numbers.len().checked_sub(1) {
                prop_assert_eq!(read_numbers(&bytes, less), None);
            }
        }

        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>(), count in any::<usize>()) {
            if let Some(packets) = read_packets(&bytes, count) {
                prop_assert!(packets.is_sorted());
            }
            if let Some(numbers) = read_numbers(&bytes, count) {
                prop_assert!(numbers.is_sorted());
            }
        }
    }
}
