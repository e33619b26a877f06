//! Writing classic pcap: the headers, as bytes.
//!
//! Little-endian always, so that what was read from the usual capture can be copied as it lies.

use super::{LinkType, Precision, RECORD_HEADER_LEN};

/// The snap length that a file header promises: that of tcpdump and of the capture agent.
pub const DEFAULT_SNAPLEN: u32 = 262_144;

/// The 24 bytes that a pcap file begins with.
#[must_use]
pub fn file_header(link: LinkType, precision: Precision, snaplen: u32) -> [u8; 24] {
    let magic: u32 = match precision {
        Precision::Micro => 0xa1b2_c3d4,
        Precision::Nano => 0xa1b2_3c4d,
    };
    let [m0, m1, m2, m3] = magic.to_le_bytes();
    let [s0, s1, s2, s3] = snaplen.to_le_bytes();
    let [l0, l1, l2, l3] = u32::from(link.0).to_le_bytes();
    let (major, minor) = (2, 4);
    [m0, m1, m2, m3, major, 0, minor, 0, 0, 0, 0, 0, 0, 0, 0, 0, s0, s1, s2, s3, l0, l1, l2, l3]
}

/// The 16 bytes before a frame that was captured at `timestamp_ns` (since 1970), of which
/// `captured_len` of `wire_len` bytes follow.
#[must_use]
pub fn record_header(timestamp_ns: u64, precision: Precision, captured_len: u32, wire_len: u32) -> [u8; RECORD_HEADER_LEN] {
    // The format's seconds end in 2106; a later time is written as the last second there is.
    let seconds = u32::try_from(timestamp_ns / 1_000_000_000).unwrap_or(u32::MAX);
    let fraction = match precision {
        Precision::Micro => timestamp_ns % 1_000_000_000 / 1000,
        Precision::Nano => timestamp_ns % 1_000_000_000,
    };
    let fraction = u32::try_from(fraction).unwrap_or(0);
    let mut bytes = [0; RECORD_HEADER_LEN];
    for (field, value) in bytes.chunks_exact_mut(4).zip([seconds, fraction, captured_len, wire_len]) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}
