//! Decompression from any of several points on, for segments of which only parts are needed.

use std::ops::ControlFlow;

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        BlockBoundaryState, DecompressorOxide, decompress,
        inflate_flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
    },
};
use shared::index::{Known, Restart};
use zstd::stream::raw::{self, InBuffer, Operation, OutBuffer};

use super::compressed::Compression;

/// The decompressed bytes between two points, at least. A point inside a gzip member takes up to
/// 32 KiB, so these are at most 0.4 % of the segment.
const DISTANCE: u64 = 8 << 20;

/// The window of deflate (RFC 1951, 2).
const WINDOW: usize = 32 << 10;

/// The buffer of decompressed bytes, which is written round and round: a power of two.
const RING: usize = 256 << 10;

/// The magic, method, flags, time, and two more bytes of a gzip member (RFC 1952, 2.3).
const GZIP_HEADER_LEN: usize = 10;

/// The CRC-32 and the length behind a member.
const GZIP_TRAILER_LEN: usize = 8;

/// The points of a compressed file, `None` if it is damaged: then it is read from its beginning.
#[must_use]
pub fn restarts_of(file: &[u8]) -> Option<Vec<Restart>> {
    let mut walk = Walk::of(file, 0, &Known::Nothing)?;
    let mut restarts = Vec::new();
    let mut last = Restart {
        plain: 0,
        packed: 0,
        crc: 0,
        known: Known::Nothing,
    };
    let mut plain = 0u64;
    let mut crc = crc32fast::Hasher::new();
    while let Some(step) = walk.step()? {
        crc.update(step.bytes);
        plain = plain.saturating_add(step.bytes.len() as u64);
        if step.may_begin && plain.saturating_sub(last.plain) >= DISTANCE {
            last.crc = std::mem::take(&mut crc).finalize();
            let next = Restart {
                plain,
                packed: walk.at as u64,
                crc: 0,
                known: walk.known(),
            };
            restarts.push(std::mem::replace(&mut last, next));
        }
    }
    if plain > last.plain || restarts.is_empty() {
        last.crc = crc.finalize();
        restarts.push(last);
    }
    Some(restarts)
}

/// Decompresses `len` bytes of a file from a point on, and gives them to `take`, piece by piece.
/// False if they are not what was there when the point was made.
pub(super) fn unpack(
    file: &[u8],
    from: &Restart,
    len: u64,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> bool {
    let walk = usize::try_from(from.packed).ok();
    let Some(mut walk) = walk.and_then(|at| Walk::of(file, at, &from.known)) else {
        return false;
    };
    let mut left = usize::try_from(len).unwrap_or(usize::MAX);
    let mut crc = crc32fast::Hasher::new();
    while left > 0 {
        let Some(Some(step)) = walk.step() else {
            return false;
        };
        let bytes = step.bytes.get(..left).unwrap_or(step.bytes);
        crc.update(bytes);
        left = left.saturating_sub(bytes.len());
        if take(bytes).is_break() {
            return false;
        }
    }
    crc.finalize() == from.crc
}

/// Compressed bytes that are decompressed step by step.
struct Walk<'a> {
    file: &'a [u8],
    /// The offset of the next compressed byte.
    at: usize,
    ring: Vec<u8>,
    /// The place of the next decompressed byte in the ring.
    place: usize,
    kind: Kind,
}

enum Kind {
    /// A gzip member, or the place between two of them.
    Gzip(Option<Box<DecompressorOxide>>),
    /// True between two frames of zstd.
    Zstd(raw::Decoder<'static>, bool),
}

/// The bytes of a step.
struct Step<'a> {
    bytes: &'a [u8],
    /// True when decompression can begin behind them.
    may_begin: bool,
}

/// The result of a step, before its bytes are borrowed.
struct Given {
    used: usize,
    bytes: usize,
    may_begin: bool,
}

impl<'a> Walk<'a> {
    /// Begins at an offset of a file.
    fn of(file: &'a [u8], at: usize, known: &Known) -> Option<Self> {
        let mut ring = vec![0; RING];
        let mut place = 0;
        let kind = match (Compression::of(file)?, known) {
            (Compression::Zstd, _) => Kind::Zstd(raw::Decoder::new().ok()?, true),
            (Compression::Gzip, Known::Nothing) => Kind::Gzip(None),
            (
                Compression::Gzip,
                Known::Window {
                    bits,
                    value,
                    window,
                },
            ) => {
                place = window.len();
                ring.get_mut(..place)?.copy_from_slice(window);
                let state = BlockBoundaryState {
                    num_bits: *bits,
                    bit_buf: *value,
                    ..BlockBoundaryState::default()
                };
                let inflate = DecompressorOxide::from_block_boundary_state(&state);
                Kind::Gzip(Some(Box::new(inflate)))
            }
        };
        Some(Self {
            file,
            at,
            ring,
            place,
            kind,
        })
    }

    /// Decompresses some bytes. `Some(None)` at the end, `None` if the bytes are damaged.
    fn step(&mut self) -> Option<Option<Step<'_>>> {
        let rest = self.file.get(self.at..)?;
        let begin = self.place;
        let given = match &mut self.kind {
            Kind::Gzip(inside) => {
                if inside.is_none() {
                    let padding = rest.iter().take_while(|byte| **byte == 0).count();
                    let rest = rest.get(padding..)?;
                    if rest.is_empty() {
                        return Some(None);
                    }
                    let header = gzip_header_len(rest)?;
                    self.at = self.at.checked_add(padding)?.checked_add(header)?;
                    *inside = Some(Box::default());
                }
                inflate(inside, self.file.get(self.at..)?, &mut self.ring, begin)?
            }
            Kind::Zstd(_, true) if rest.is_empty() => return Some(None),
            Kind::Zstd(decoder, is_between) => {
                let given = unzstd(decoder, rest, self.ring.get_mut(begin..)?)?;
                *is_between = given.may_begin;
                given
            }
        };
        self.at = self.at.checked_add(given.used)?;
        let end = begin.checked_add(given.bytes)?;
        self.place = end % RING;
        Some(Some(Step {
            bytes: self.ring.get(begin..end)?,
            may_begin: given.may_begin,
        }))
    }

    /// What has to be known at the present offset, where decompression can begin.
    fn known(&self) -> Known {
        let Kind::Gzip(Some(inflate)) = &self.kind else {
            return Known::Nothing;
        };
        let state = inflate.block_boundary_state().unwrap_or_default();
        let (before, behind) = self.ring.split_at(self.place);
        let both: Vec<u8> = [behind, before].concat();
        Known::Window {
            bits: state.num_bits,
            value: state.bit_buf,
            window: both
                .get(RING.saturating_sub(WINDOW)..)
                .unwrap_or_default()
                .to_vec(),
        }
    }
}

/// A step inside a gzip member, which may end it.
fn inflate(
    inside: &mut Option<Box<DecompressorOxide>>,
    rest: &[u8],
    ring: &mut [u8],
    place: usize,
) -> Option<Given> {
    let state = inside.as_mut()?;
    let (status, mut used, bytes) =
        decompress(state, rest, ring, place, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY);
    let may_begin = match status {
        TINFLStatus::BlockBoundary => true,
        TINFLStatus::HasMoreOutput => false,
        TINFLStatus::Done => {
            *inside = None;
            used = used.checked_add(GZIP_TRAILER_LEN)?;
            true
        }
        _ => return None,
    };
    Some(Given {
        used,
        bytes,
        may_begin,
    })
}

/// A step in a frame of zstd, which may end it.
fn unzstd(decoder: &mut raw::Decoder<'static>, rest: &[u8], to: &mut [u8]) -> Option<Given> {
    let mut from = InBuffer::around(rest);
    let mut to = OutBuffer::around(to);
    let wanted = decoder.run(&mut from, &mut to).ok()?;
    let (used, bytes) = (from.pos(), to.pos());
    // The file ends inside a frame.
    if used == 0 && bytes == 0 {
        return None;
    }
    Some(Given {
        used,
        bytes,
        may_begin: wanted == 0,
    })
}

/// The length of the header of a gzip member (RFC 1952, 2.3).
fn gzip_header_len(bytes: &[u8]) -> Option<usize> {
    const CRC: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    let [0x1f, 0x8b, 8, flags, ..] = *bytes else {
        return None;
    };
    let mut rest = bytes.get(GZIP_HEADER_LEN..)?;
    if flags & EXTRA != 0 {
        let (len, behind) = rest.split_first_chunk()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = memchr::memchr(0, rest)?;
            rest = rest.get(end..)?.get(1..)?;
        }
    }
    if flags & CRC != 0 {
        rest = rest.get(2..)?;
    }
    bytes.len().checked_sub(rest.len())
}

#[cfg(test)]
mod tests {
    use super::{super::compressed::tests::compressible, *};
    use std::io::Write;

    fn plain() -> Vec<u8> {
        compressible(20 << 20)
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let encoder = flate2::GzBuilder::new()
            .filename("a name")
            .comment("a comment")
            .extra(vec![1, 2, 3]);
        let mut encoder = encoder.write(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// Each stretch between two points is what it was.
    fn check(file: &[u8], plain: &[u8], points: usize) {
        let restarts = restarts_of(file).unwrap();
        assert_eq!(restarts.len(), points);
        let ends = restarts[1..].iter().map(|next| next.plain as usize);
        let ends: Vec<usize> = ends.chain([plain.len()]).collect();
        for (from, end) in restarts.iter().zip(ends).rev() {
            let want = &plain[from.plain as usize..end];
            let mut got = Vec::new();
            let take = |bytes: &[u8]| {
                got.extend_from_slice(bytes);
                ControlFlow::Continue(())
            };
            assert!(unpack(file, from, want.len() as u64, take));
            assert!(got == want, "from {}", from.plain);
        }
    }

    #[test]
    fn gzip_begins_at_blocks_and_members() {
        let plain = plain();
        let one = gzip(&plain);
        check(&one, &plain, 3);
        let members: Vec<Vec<u8>> = plain.chunks(3 << 20).map(gzip).collect();
        let mut members = members.concat();
        members.extend([0; 512]);
        check(&members, &plain, 3);
    }

    #[test]
    fn zstd_begins_at_frames() {
        let plain = plain();
        let frames = plain
            .chunks(5 << 20)
            .map(|part| zstd::bulk::compress(part, 1).unwrap());
        let frames: Vec<Vec<u8>> = frames.collect();
        check(&frames.concat(), &plain, 2);
        check(&zstd::bulk::compress(&plain, 1).unwrap(), &plain, 1);
    }

    #[test]
    fn damage_has_no_points_and_is_noticed() {
        let plain = plain();
        for file in [gzip(&plain), zstd::bulk::compress(&plain, 1).unwrap()] {
            assert!(restarts_of(&file[..file.len() / 2]).is_none());
            let restarts = restarts_of(&file).unwrap();
            let len = restarts
                .get(1)
                .map_or(plain.len() as u64, |next| next.plain);
            let unpacks =
                |file: &[u8]| unpack(file, &restarts[0], len, |_| ControlFlow::Continue(()));
            let mut other = file.clone();
            let place = other.len() / 20;
            other[place] ^= 1;
            assert!(unpacks(&file) && !unpacks(&other));
        }
        assert!(restarts_of(b"no compression").is_none());
    }
}
