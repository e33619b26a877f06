//! Recognises files that are not a supported capture, and names the command that makes a pcap of
//! them.
//!
//! Captures of other programs are recognised by published magic numbers: RFC 1761 (snoop), the
//! documents of Endace (ERF), and the libraries of file(1) and Wireshark for the rest.

use super::{ByteOrder, FormatError};

/// A file format with a fixed byte string at a fixed offset.
struct ForeignFormat {
    offset: usize,
    magic: &'static [u8],
    what: &'static str,
    advice: &'static str,
}

const fn kind(
    offset: usize,
    magic: &'static [u8],
    what: &'static str,
    advice: &'static str,
) -> ForeignFormat {
    ForeignFormat {
        offset,
        magic,
        what,
        advice,
    }
}

const CONVERT: &str = "convert it with `editcap -F pcap in out`";
/// For formats that do not store the link type.
const CONVERT_ETHERNET: &str = "convert it with `editcap -F pcap -T ether in out`";
const EXPORT: &str = "export the packets themselves as pcap or pcapng";
const DOWNLOAD: &str = "it may be the page that links to a capture: download the capture itself";
const HEX_DUMP: &str =
    "if it is a hex dump, `text2pcap in out` makes a capture of it; a log holds no packets";
const FROM_ETL: &str =
    "convert it on Windows, with `etl2pcapng in out` or, if it is of pktmon, `pktmon etl2pcap in`";

const KINDS: &[ForeignFormat] = &[
    kind(
        0,
        b"GMBU",
        "a capture of Microsoft Network Monitor 2",
        CONVERT,
    ),
    kind(
        0,
        b"RTSS",
        "a capture of Microsoft Network Monitor 1",
        CONVERT,
    ),
    kind(
        0,
        b"TRSNIFF data    \x1a",
        "a capture of Sniffer (DOS)",
        CONVERT,
    ),
    kind(
        0,
        b"XCP\0",
        "a capture of NetXRay or Sniffer (Windows)",
        CONVERT,
    ),
    kind(0, b"VL\0\0", "a capture of NetXRay 1", CONVERT),
    kind(0, b"snoop\0\0\0", "a capture of snoop", CONVERT),
    kind(
        0,
        b"btsnoop\0",
        "a Bluetooth capture (btsnoop)",
        "Bluetooth carries no SIP",
    ),
    kind(
        0,
        &[0, 0, 2, 0, 0x12, 5, 0, 0x10],
        "a capture of Tektronix K12 (rf5)",
        CONVERT_ETHERNET,
    ),
    kind(
        0,
        b"+---------+---------------+----------+",
        "a capture of Tektronix K12, as text",
        CONVERT_ETHERNET,
    ),
    kind(
        0,
        b"Session Transcript",
        "a capture of Catapult DCT2000",
        EXPORT,
    ),
    kind(0, b"TR\0d\0", "a trace of HP-UX nettl", CONVERT_ETHERNET),
    kind(
        0,
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0xd0, 0],
        "a trace of HP-UX 9 nettl",
        CONVERT_ETHERNET,
    ),
    kind(0, b"iptrace 1.0", "a capture of AIX iptrace", CONVERT),
    kind(0, b"iptrace 2.0", "a capture of AIX iptrace", CONVERT),
    kind(
        6,
        b"Trace Display",
        "a capture of Novell LANalyzer",
        CONVERT,
    ),
    kind(0, b"\x05VNF", "a capture of Visual Networks", CONVERT),
    kind(0, b"ObserverPktBuffe", "a capture of Observer", CONVERT),
    kind(0, b"\x7fver", "a capture of OmniPeek", CONVERT),
    kind(
        0,
        &[0xaa, 0xaa, 0xaa, 0xaa],
        "a capture of InfoVista 5View",
        CONVERT,
    ),
    // SYSTEM_TRACE_HEADER of 32 and of 64 bits, after the header of the first buffer.
    kind(72, &[2, 0, 1, 0xc0], "a trace of Windows (ETL)", FROM_ETL),
    kind(72, &[2, 0, 2, 0xc0], "a trace of Windows (ETL)", FROM_ETL),
    kind(
        0,
        b"BZh",
        "compressed with bzip2",
        "decompress it with `bzip2 -dc in > out` first",
    ),
    kind(
        0,
        b"\xfd7zXZ\0",
        "compressed with xz",
        "decompress it with `xz -dc in > out` first",
    ),
    kind(
        0,
        b"LZIP",
        "compressed with lzip",
        "decompress it with `lzip -dc in > out` first",
    ),
    kind(
        0,
        &[0x04, 0x22, 0x4d, 0x18],
        "compressed with lz4",
        "decompress it with `lz4 -dc in > out` first",
    ),
    kind(
        0,
        &[0x02, 0x21, 0x4c, 0x18],
        "compressed with lz4",
        "decompress it with `lz4 -dc in > out` first",
    ),
    kind(
        0,
        &[0x1f, 0x9d],
        "compressed with compress",
        "decompress it with `gzip -dc in > out` first",
    ),
    kind(
        0,
        &[0x1f, 0x8b],
        "compressed twice",
        "decompress it with `gzip -dc in > out` first",
    ),
    kind(
        0,
        &[0x28, 0xb5, 0x2f, 0xfd],
        "compressed twice",
        "decompress it once first",
    ),
    kind(
        0,
        b"PK\x03\x04",
        "a zip archive",
        "unpack it with `unzip in` first",
    ),
    kind(
        0,
        b"PK\x05\x06",
        "an empty zip archive",
        "there is no file in it",
    ),
    kind(
        0,
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        "unpack it with `7z x in` first",
    ),
    kind(
        0,
        b"Rar!\x1a\x07",
        "a rar archive",
        "unpack it with `unrar x in` first",
    ),
    kind(
        0,
        b"MSCF",
        "a cabinet archive",
        "unpack it with `cabextract in` first",
    ),
    kind(
        257,
        b"ustar",
        "a tar archive",
        "unpack it with `tar -xf in` first",
    ),
    kind(0, b"%PDF-", "a PDF document", EXPORT),
];

/// How many bytes of a file are checked for text.
const TEXT_LEN: usize = 512;

/// How many records of an ERF file must follow each other.
const ERF_CHAIN: usize = 4;
/// Timestamp, type, flags, lengths.
const ERF_HEADER_LEN: usize = 16;
/// The assigned record types; the field has 7 bits.
const ERF_TYPES: std::ops::RangeInclusive<u8> = 1..=48;

/// Explains what a file is that does not begin like a supported capture.
pub(super) fn explain(file: &[u8]) -> FormatError {
    let is_it = |kind: &&ForeignFormat| {
        file.get(kind.offset..)
            .is_some_and(|rest| rest.starts_with(kind.magic))
    };
    let known = KINDS
        .iter()
        .find(is_it)
        .map(|kind| (kind.what, kind.advice));
    let erf = || is_erf(file).then_some(("an ERF file (Endace DAG)", CONVERT));
    match known.or_else(|| text(file)).or_else(erf) {
        Some((what, advice)) => FormatError::Unsupported { what, advice },
        None => FormatError::NotACapture {
            first: file.iter().take(4).copied().collect(),
        },
    }
}

/// Returns the kind of text, if the file is text.
fn text(file: &[u8]) -> Option<(&'static str, &'static str)> {
    let start = file.get(..TEXT_LEN).unwrap_or(file);
    if matches!(start, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Some(("text (UTF-16)", HEX_DUMP));
    }
    let start = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The cut at `TEXT_LEN` may split a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(start.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let is_of_text = |c: char| !c.is_control() || c.is_ascii_whitespace() || c == '\x1b';
    let text = start.trim_start_matches('\u{feff}').trim_start();
    if !start.chars().all(is_of_text) {
        return None;
    }
    let begins = |with: &str| {
        text.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    Some(match () {
        () if begins("<!doctype html") || begins("<html") => ("an HTML page", DOWNLOAD),
        () if begins("<") => ("XML, such as PDML", EXPORT),
        () if begins("{") || begins("[") => ("JSON, such as HAR", EXPORT),
        () => ("text", HEX_DUMP),
    })
}

/// True if ERF records follow each other from the first byte on, to the end of the file or for
/// several records: the format has no magic number.
///
/// ```text
///  0  timestamp, little-endian: a fraction of 32 bits, seconds since 1970
///  8  type; the highest bit says that extension headers follow
///  9  flags
/// 10  length of the record, big-endian
/// 12  lost, or colour
/// 14  length on the wire
/// ```
fn is_erf(file: &[u8]) -> bool {
    let mut offset = 0usize;
    let mut latest = 0;
    for found in 0..ERF_CHAIN {
        if found > 0 && offset == file.len() {
            return true;
        }
        let header = file
            .get(offset..)
            .and_then(<[u8]>::first_chunk::<ERF_HEADER_LEN>);
        let Some(&[_, _, _, _, s0, s1, s2, s3, kind, _, l0, l1, ..]) = header else {
            return false;
        };
        let (seconds, len) = (
            ByteOrder::Little.u32([s0, s1, s2, s3]),
            usize::from(u16::from_be_bytes([l0, l1])),
        );
        if !ERF_TYPES.contains(&(kind & 0x7f)) || len < ERF_HEADER_LEN || seconds < latest {
            return false;
        }
        latest = seconds;
        offset = offset.saturating_add(len);
    }
    true
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "numbers of tests are small")]
mod tests {
    use super::*;
    use crate::pcap::Layout;

    fn says(file: &[u8]) -> String {
        Layout::detect(file).unwrap_err().to_string()
    }

    #[test]
    fn a_file_with_a_known_magic_number_is_named_with_advice() {
        for kind in KINDS {
            let mut file = vec![0x80; kind.offset];
            file.extend(kind.magic);
            assert_eq!(
                says(&file),
                format!(
                    "the file is {}, which is not supported; {}",
                    kind.what, kind.advice
                )
            );
            file.extend([0xfe; 600]);
            assert!(says(&file).contains(kind.what), "{}", kind.what);
        }
    }

    #[test]
    fn sentences_say_what_to_type() {
        for (file, sentence) in [
            (
                &b"GMBU\0\x02"[..],
                "Microsoft Network Monitor 2, which is not supported; convert it with `editcap -F pcap in out`",
            ),
            (
                b"snoop\0\0\0\0\0\0\x02",
                "a capture of snoop, which is not supported; convert it with `editcap -F pcap in out`",
            ),
            (
                b"BZh91AY&SY",
                "compressed with bzip2, which is not supported; decompress it with `bzip2 -dc in > out` first",
            ),
            (
                b"\xfd7zXZ\0\0\x04",
                "decompress it with `xz -dc in > out` first",
            ),
            (
                &[0x04, 0x22, 0x4d, 0x18, 0x64],
                "decompress it with `lz4 -dc in > out` first",
            ),
            (
                b"PK\x03\x04\x14\0",
                "the file is a zip archive, which is not supported; unpack it with `unzip in` first",
            ),
        ] {
            assert!(says(file).contains(sentence), "{}", says(file));
        }
    }

    #[test]
    fn text_is_named() {
        let long = "a log, a line, ".repeat(60) + "\u{e4}\u{f6}";
        for (file, what) in [
            (
                "hello, world",
                "the file is text, which is not supported; if it is a hex dump, `text2pcap in out`",
            ),
            (&long, "the file is text"),
            ("0000  02 00 00 00 00 01", "text2pcap"),
            (
                "\r\n <!DOCTYPE html>\n<title>404",
                "the file is an HTML page",
            ),
            ("<HTML>", "the file is an HTML page"),
            ("<?xml version=\"1.0\"?><pdml>", "XML, such as PDML"),
            (
                "\u{feff}{ \"log\": { \"entries\": [] } }",
                "JSON, such as HAR",
            ),
            ("[1]", "JSON"),
        ] {
            assert!(
                says(file.as_bytes()).contains(what),
                "{}",
                says(file.as_bytes())
            );
        }
        // The first 512 bytes may end inside a character.
        for len in 500..520 {
            assert!(
                says(("x".repeat(len) + &"\u{20ac}".repeat(9)).as_bytes()).contains("text"),
                "{len}"
            );
        }
        assert!(says(b"\xff\xfe0\x000\x00").contains("UTF-16"));
        for file in [
            &b"hello\0world"[..],
            b"caf\xe9 and so on",
            b"\x01\x02\x03\x04\x05",
        ] {
            assert!(
                says(file).contains("not a capture: it begins with 0x"),
                "{}",
                says(file)
            );
        }
    }

    /// Builds an ERF record as Endace's document lays it out.
    fn erf(seconds: u32, kind: u8, frame: &[u8]) -> Vec<u8> {
        let wire_len = frame.len() as u16;
        let mut record = [&[0, 0, 0, 0x80], &seconds.to_le_bytes()[..], &[kind, 4]].concat();
        record.extend((16 + 2 + wire_len).to_be_bytes());
        record.extend([0, 0]);
        record.extend(wire_len.to_be_bytes());
        // Type 2, Ethernet, has an offset and a byte of padding.
        record.extend([0, 0]);
        record.extend(frame);
        record
    }

    #[test]
    fn records_of_erf_are_told_by_their_chain() {
        let records: Vec<Vec<u8>> = (0..9)
            .map(|n| erf(1_700_000_000 + n, 2, &vec![0x45; 60 + n as usize]))
            .collect();
        for count in [1, 2, 3, 4, 9] {
            assert!(
                says(&records[..count].concat())
                    .contains("an ERF file (Endace DAG), which is not supported; convert"),
                "{count}"
            );
        }
        let whole = records.concat();
        assert!(says(&whole[..whole.len() - 9]).contains("ERF"), "cut");
        assert!(!says(&whole[1..]).contains("ERF"));
        let back = [
            erf(1_700_000_000, 2, &[0; 60]),
            erf(1_600_000_000, 2, &[0; 60]),
        ]
        .concat();
        assert!(!says(&back).contains("ERF"));
        assert!(!says(&erf(1_700_000_000, 77, &[0; 60])).contains("ERF"));
    }
}
