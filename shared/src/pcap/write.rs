//! Writes captures: classic headers and pcapng blocks, as bytes.
//!
//! Always little-endian, so that records of the usual capture can be copied unchanged.
//!
//! pcap-file writes the blocks that occur once in a pcapng. Packets are written here: one of 214
//! bytes costs 120 instructions, and 560 with pcap-file, which writes each block twice, the first
//! time only to learn its length.

use pcap_file::{
    DataLink, Endianness,
    pcapng::{
        PcapNgWriteError, PcapNgWriter,
        blocks::{
            interface_description::{
                InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
            },
            section_header::SectionHeaderBlock,
        },
    },
};

use super::{FILE_HEADER_LEN, LinkType, Precision, RECORD_HEADER_LEN};

/// The snap length in the file header: that of tcpdump and of the capture agent.
pub const DEFAULT_SNAPLEN: u32 = 262_144;

/// Returns the file header of a pcap, 24 bytes.
#[must_use]
pub fn file_header(link: LinkType, precision: Precision, snaplen: u32) -> [u8; FILE_HEADER_LEN] {
    let magic: u32 = match precision {
        Precision::Micro => 0xa1b2_c3d4,
        Precision::Nano => 0xa1b2_3c4d,
    };
    let [m0, m1, m2, m3] = magic.to_le_bytes();
    let [s0, s1, s2, s3] = snaplen.to_le_bytes();
    let [l0, l1, l2, l3] = u32::from(link.0).to_le_bytes();
    let (major, minor) = (2, 4);
    [
        m0, m1, m2, m3, major, 0, minor, 0, 0, 0, 0, 0, 0, 0, 0, 0, s0, s1, s2, s3, l0, l1, l2, l3,
    ]
}

/// Returns the record header, 16 bytes, of a frame that was captured at `timestamp_ns` (since 1970)
/// with `captured_len` of its `wire_len` bytes.
#[must_use]
pub fn record_header(
    timestamp_ns: u64,
    precision: Precision,
    captured_len: u32,
    wire_len: u32,
) -> [u8; RECORD_HEADER_LEN] {
    // The seconds end in 2106; a later time is written as the last possible second.
    let seconds = u32::try_from(timestamp_ns / 1_000_000_000).unwrap_or(u32::MAX);
    let fraction = match precision {
        Precision::Micro => timestamp_ns % 1_000_000_000 / 1000,
        Precision::Nano => timestamp_ns % 1_000_000_000,
    };
    let fraction = u32::try_from(fraction).unwrap_or(0);
    let mut bytes = [0; RECORD_HEADER_LEN];
    for (field, value) in bytes
        .chunks_exact_mut(4)
        .zip([seconds, fraction, captured_len, wire_len])
    {
        field.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Returns the section header block of a pcapng: version 1.0, of unspecified length.
#[must_use]
pub fn ng_section_header() -> Vec<u8> {
    written(ng_writer())
}

/// Returns the block that describes the next interface of a pcapng; interfaces count from 0.
#[must_use]
pub fn ng_interface(link: LinkType, precision: Precision, snaplen: u32) -> Vec<u8> {
    let resolution = match precision {
        Precision::Micro => InterfaceTsResolution::MICRO,
        Precision::Nano => InterfaceTsResolution::NANO,
    };
    let description = InterfaceDescriptionBlock {
        linktype: DataLink::from(u32::from(link.0)),
        snaplen,
        options: vec![InterfaceDescriptionOption::IfTsResol(resolution)],
    };
    written(ng_writer().and_then(|mut writer| {
        writer.get_mut().clear();
        writer.write_pcapng_block(description)?;
        Ok(writer)
    }))
}

/// Returns a writer that has written the section header.
fn ng_writer() -> Result<PcapNgWriter<Vec<u8>>, PcapNgWriteError> {
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        ..SectionHeaderBlock::default()
    };
    PcapNgWriter::with_section_header(Vec::new(), section)
}

/// Returns the written bytes. Writing to memory does not fail, and any 16-bit link type is valid.
fn written(writer: Result<PcapNgWriter<Vec<u8>>, PcapNgWriteError>) -> Vec<u8> {
    writer.map(PcapNgWriter::into_inner).unwrap_or_default()
}

/// Returns the block for a frame that was captured at `timestamp_ns` (since 1970) on an interface
/// with this precision. `frame` holds the captured part of `wire_len` bytes.
#[must_use]
pub fn ng_packet(
    interface: u32,
    timestamp_ns: u64,
    precision: Precision,
    frame: &[u8],
    wire_len: u32,
) -> Vec<u8> {
    let mut block = Vec::with_capacity(frame.len().saturating_add(NG_PACKET_FIELDS_LEN + 3));
    push_ng_packet(
        &mut block,
        interface,
        timestamp_ns,
        precision,
        frame,
        wire_len,
    );
    block
}

/// Appends the same block to `bytes`.
#[inline]
pub fn push_ng_packet(
    bytes: &mut Vec<u8>,
    interface: u32,
    timestamp_ns: u64,
    precision: Precision,
    frame: &[u8],
    wire_len: u32,
) {
    const ENHANCED_PACKET: u32 = 6;
    let ticks = match precision {
        Precision::Micro => timestamp_ns / 1000,
        Precision::Nano => timestamp_ns,
    };
    let [low, high] =
        [ticks & 0xffff_ffff, ticks >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let captured_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let padding_len = frame.len().next_multiple_of(4).saturating_sub(frame.len());
    let block_len = frame
        .len()
        .saturating_add(padding_len)
        .saturating_add(NG_PACKET_FIELDS_LEN);
    let block_len = u32::try_from(block_len).unwrap_or(u32::MAX);
    for field in [
        ENHANCED_PACKET,
        block_len,
        interface,
        high,
        low,
        captured_len,
        wire_len,
    ] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(frame);
    bytes.extend([0; 3].iter().take(padding_len));
    bytes.extend_from_slice(&block_len.to_le_bytes());
}

/// The bytes of the block around the frame, without padding.
const NG_PACKET_FIELDS_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_type_is_described() {
        let header = [
            &[
                0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0,
            ][..],
            &[0xff; 8],
            &[28, 0, 0, 0],
        ];
        assert_eq!(ng_section_header(), header.concat());
        for link in 0..=u16::MAX {
            for (precision, decimals) in [(Precision::Micro, 6), (Precision::Nano, 9)] {
                let [l0, l1] = link.to_le_bytes();
                let description = [
                    &[1, 0, 0, 0, 32, 0, 0, 0, l0, l1, 0, 0, 0, 0, 4, 0][..],
                    &[9, 0, 1, 0, decimals, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0],
                ];
                assert_eq!(
                    ng_interface(LinkType(link), precision, DEFAULT_SNAPLEN),
                    description.concat(),
                    "{link}"
                );
            }
        }
    }
}
