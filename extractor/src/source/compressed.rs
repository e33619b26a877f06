//! Compressed captures: gzip (RFC 1952) and zstd (RFC 8878), recognized by their first bytes and
//! never by their names.
//!
//! Both are decompressed step by step through two small buffers, so the decompressed size costs
//! disk space and no memory. A step gives all that it can: if a stream is cut or damaged,
//! everything before that position comes out.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
};

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{self, InBuffer, Operation, OutBuffer};

/// The number of bytes that [`Compression::of`] needs.
pub(super) const MAGIC_LEN: u64 = 4;

const INPUT_BYTES: usize = 128 * 1024;
/// A whole block of zstd, the most that one of its steps gives.
const OUTPUT_BYTES: usize = 256 * 1024;
/// 32 KiB, the largest window of gzip.
const GZIP_WINDOW_BITS: u8 = 15;
/// The header before each block of zstd.
const ZSTD_BLOCK_HEADER_LEN: usize = 3;
/// The shortest header of a zstd frame.
const ZSTD_FRAME_START_LEN: usize = 5;

/// The compression of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

/// The point at which a compressed capture becomes unreadable, and the reason.
#[derive(Debug)]
pub struct Damage {
    compression: Compression,
    /// The number of bytes that came out before.
    pub(super) offset: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Cut,
    Corrupt(String),
    Unreadable(io::Error),
}

impl Damage {
    /// The error of reading the file, if that is the reason.
    pub(super) fn read_error(&self) -> Option<&io::Error> {
        if let What::Unreadable(error) = &self.what {
            Some(error)
        } else {
            None
        }
    }
}

impl Compression {
    /// Recognizes the compression by the first bytes.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        match first {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or a skippable frame: some tools put their index first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses `from`, as far as possible.
    ///
    /// # Errors
    /// `to` cannot be written. A fault of `from` is not an error, but damage.
    pub(super) fn decompress(
        self,
        from: impl Read,
        to: &mut impl Write,
    ) -> io::Result<Option<Damage>> {
        let mut from = BufReader::with_capacity(INPUT_BYTES, from);
        let mut output = vec![0; OUTPUT_BYTES];
        let mut decoder = Decompressor::new(self)?;
        let mut offset: u64 = 0;
        loop {
            let input = match from.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Ok(Some(Damage {
                        compression: self,
                        offset,
                        what: What::Unreadable(error),
                    }));
                }
            };
            let is_end = input.is_empty();
            let DecompressionStep { used, given, wrong } = decoder.step(input, &mut output);
            to.write_all(output.get(..given).unwrap_or_default())?;
            offset = offset.saturating_add(given as u64);
            from.consume(used);
            if let Some(wrong) = wrong {
                return Ok(Some(Damage {
                    compression: self,
                    offset,
                    what: What::Corrupt(wrong),
                }));
            }
            if is_end && given == 0 {
                let cut = Damage {
                    compression: self,
                    offset,
                    what: What::Cut,
                };
                return Ok(Some(cut).filter(|_| !decoder.may_end()));
            }
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            compression,
            offset,
            what,
        } = self;
        write!(f, "its {compression} data ")?;
        match what {
            What::Cut => f.write_str("ends too early, ")?,
            What::Corrupt(why) => write!(f, "is damaged ({why}), ")?,
            What::Unreadable(error) => write!(f, "cannot be read any further ({error}), ")?,
        }
        write!(
            f,
            "at decompressed offset {offset}; only the data before it are used"
        )
    }
}

/// The result of a decompression step.
#[derive(Default)]
struct DecompressionStep {
    /// The number of input bytes that were used.
    used: usize,
    /// The number of output bytes that were filled, even if the step failed.
    given: usize,
    wrong: Option<String>,
}

enum Decompressor {
    Gzip(Gzip),
    Zstd(Zstd),
}

impl Decompressor {
    fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip => Self::Gzip(Gzip {
                inflate: Decompress::new_gzip(GZIP_WINDOW_BITS),
                is_between: false,
            }),
            Compression::Zstd => Self::Zstd(Zstd {
                decoder: raw::Decoder::new()?,
                wanted: ZSTD_FRAME_START_LEN,
                is_between: false,
            }),
        })
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> DecompressionStep {
        match self {
            Self::Gzip(gzip) => gzip.step(input, output),
            Self::Zstd(zstd) => zstd.step(input, output),
        }
    }

    /// True when the input may end here.
    fn may_end(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.is_between,
            Self::Zstd(zstd) => zstd.is_between,
        }
    }
}

/// Consecutive members: RFC 1952, section 2.2.
struct Gzip {
    inflate: Decompress,
    /// True when a member has ended and the next one has not begun.
    is_between: bool,
}

impl Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> DecompressionStep {
        if self.is_between {
            // Tapes and some writers add zeros after the last member.
            let padding = input.iter().take_while(|byte| **byte == 0).count();
            if padding > 0 || input.is_empty() {
                return DecompressionStep {
                    used: padding,
                    ..DecompressionStep::default()
                };
            }
            self.inflate.reset(true);
            self.is_between = false;
        }
        let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
        let result = self
            .inflate
            .decompress(input, output, FlushDecompress::None);
        self.is_between = matches!(result, Ok(Status::StreamEnd));
        DecompressionStep {
            // The buffers limit it.
            used: self.inflate.total_in().saturating_sub(in_before) as usize,
            given: self.inflate.total_out().saturating_sub(out_before) as usize,
            wrong: result.err().map(|error| {
                error
                    .message()
                    .unwrap_or("no valid deflate data")
                    .to_owned()
            }),
        }
    }
}

/// Consecutive frames: RFC 8878, section 3.1.
struct Zstd {
    decoder: raw::Decoder<'static>,
    /// The number of bytes that the next step gets.
    wanted: usize,
    /// True when a frame has ended and the next one has not begun.
    is_between: bool,
}

impl Zstd {
    /// The decoder withholds the output before an error in the same step. So a step gets at most
    /// one block, and the header of the next block gets a step of its own.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> DecompressionStep {
        let mut from = InBuffer::around(input.get(..self.wanted).unwrap_or(input));
        let mut to = OutBuffer::around(output);
        let result = self.decoder.run(&mut from, &mut to);
        let (used, given) = (from.pos(), to.pos());
        match result {
            Ok(expected) => {
                if used > 0 || given > 0 {
                    self.is_between = expected == 0;
                }
                self.wanted = match expected {
                    0 => ZSTD_FRAME_START_LEN,
                    1..=ZSTD_BLOCK_HEADER_LEN => expected,
                    _ => expected.saturating_sub(ZSTD_BLOCK_HEADER_LEN),
                };
                DecompressionStep {
                    used,
                    given,
                    wrong: None,
                }
            }
            Err(error) => DecompressionStep {
                used,
                given,
                wrong: Some(error.to_string()),
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn plain() -> Vec<u8> {
        compressible(400_000)
    }

    /// Data that compress to half their size everywhere.
    pub(in crate::source) fn compressible(len: usize) -> Vec<u8> {
        let next = |state: &u64| {
            Some(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            )
        };
        std::iter::successors(Some(1), next)
            .map(|state| (state >> 60) as u8)
            .take(len)
            .collect()
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn decompressed(compressed: &[u8]) -> (Vec<u8>, Option<Damage>) {
        let mut plain = Vec::new();
        let damage = Compression::of(compressed)
            .unwrap()
            .decompress(compressed, &mut plain)
            .unwrap();
        (plain, damage)
    }

    /// A reader that gives one byte at a time: the result must not depend on how a pipe delivers.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn members_and_frames_may_follow_each_other() {
        let plain = plain();
        let (first, second) = plain.split_at(70_001);
        let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for compressed in [
            [gzip(first), gzip(b""), gzip(second)].concat(),
            [gzip(first), gzip(second), vec![0; 700]].concat(),
            [zstd(first), zstd(second)].concat(),
            [
                skipped.clone(),
                zstd(first),
                skipped.clone(),
                zstd(b""),
                zstd(second),
                skipped,
            ]
            .concat(),
        ] {
            let (got, damage) = decompressed(&compressed);
            assert!(damage.is_none(), "{damage:?}");
            assert!(got == plain);
            let mut got = Vec::new();
            let damage = Compression::of(&compressed)
                .unwrap()
                .decompress(Dripping(&compressed), &mut got)
                .unwrap();
            assert!(damage.is_none() && got == plain);
        }
    }

    #[test]
    fn all_before_a_cut_comes_out() {
        let plain = plain();
        for (compressed, lost_at_most) in [(gzip(&plain), 1_000), (zstd(&plain), 128 * 1024)] {
            for cut in (20..compressed.len()).step_by(compressed.len() / 97) {
                let (got, damage) = decompressed(&compressed[..cut]);
                let damage = damage.unwrap();
                assert!(plain.starts_with(&got));
                assert!(
                    matches!(damage.what, What::Cut) && damage.offset == got.len() as u64,
                    "{damage}"
                );
                let share = plain.len() * cut / compressed.len();
                assert!(
                    got.len() + lost_at_most + share / 10 >= share,
                    "{} of about {share}",
                    got.len()
                );
            }
        }
    }

    #[test]
    fn all_before_a_damaged_place_comes_out() {
        let plain = plain();
        for (number, mut compressed) in [gzip(&plain), zstd(&plain)].into_iter().enumerate() {
            let middle = compressed.len() / 2;
            compressed[middle..middle + 40].fill(0xff);
            let (got, damage) = decompressed(&compressed);
            let damage = damage.unwrap();
            assert!(
                matches!(damage.what, What::Corrupt(_)) && damage.offset == got.len() as u64,
                "{damage}"
            );
            let same = got.iter().zip(&plain).take_while(|(a, b)| a == b).count();
            assert!(
                (same + [2_000, 128 * 1024][number]) * 2 >= plain.len(),
                "{same} of {}",
                plain.len()
            );
            // Decompressing byte by byte gives no more.
            let mut careful = Vec::new();
            let _ = Compression::of(&compressed)
                .unwrap()
                .decompress(Dripping(&compressed), &mut careful)
                .unwrap();
            assert!(careful == got);
        }
    }

    #[test]
    fn what_follows_the_last_member_is_damage() {
        for compressed in [gzip(b"capture"), zstd(b"capture")] {
            let (got, damage) = decompressed(&[&compressed[..], b"rubbish"].concat());
            assert_eq!(got, b"capture");
            assert!(
                damage
                    .unwrap()
                    .to_string()
                    .contains("at decompressed offset 7")
            );
        }
    }

    #[test]
    fn a_wrong_checksum_is_damage() {
        let mut compressed = gzip(b"capture");
        let crc = compressed.len() - 8;
        compressed[crc] ^= 1;
        assert!(
            decompressed(&compressed)
                .1
                .unwrap()
                .to_string()
                .contains("check")
        );
        let mut compressed = zstd(b"capture");
        *compressed.last_mut().unwrap() ^= 1;
        assert!(
            decompressed(&compressed)
                .1
                .unwrap()
                .to_string()
                .contains("checksum")
        );
    }

    /// Ten gigabytes would not fit; the sink checks that they are never held.
    #[test]
    fn a_bomb_passes_through_small_buffers() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                assert!(bytes.len() <= OUTPUT_BYTES);
                self.0 = self
                    .0
                    .checked_sub(bytes.len())
                    .ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let zeros = vec![0; 64 * 1024 * 1024];
        for compressed in [gzip(&zeros), zstd(&zeros)] {
            let error = Compression::of(&compressed)
                .unwrap()
                .decompress(&compressed[..], &mut Full(10_000_000))
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
