//! Identifies captures whatever their names: quickly by length and first bytes, and with certainty
//! by the whole content.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads captures to identify them"
)]

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::listing::Listed;

/// The number of first bytes that identify a file: they contain the capture software, and some
/// packets with their times.
const HEAD_LEN: u64 = 4096;

/// The read size for the comparison of whole captures, in bytes.
const READ_LEN: usize = 256 * 1024;

/// The key of a capture, whatever its name. A capture that was delivered twice has the same key.
/// Another capture may have it, too, such as a replayed recording, or one whose times are zero: see
/// [`ContentHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The length in bytes.
    pub size: u64,
    /// The beginning of the SHA-256 of the first bytes.
    pub digest: u64,
}

/// The BLAKE3 of a whole capture. Captures with the same hash are the same. (SHA-256 took a quarter
/// of the CPU time of a run over directories.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentHash([u8; 32]);

/// A [`ContentHash`] hash in progress.
#[derive(Clone, Debug, Default)]
pub struct ContentHasher(blake3::Hasher);

/// The identity of a capture as it was listed. If the file has grown since, only its former length
/// counts.
///
/// # Errors
/// It cannot be read; it may have vanished ([`io::ErrorKind::NotFound`]).
pub fn identity(path: &Path, listed: &Listed) -> io::Result<Identity> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(listed.size.min(HEAD_LEN)).read_to_end(&mut head))?;
    Ok(Identity {
        size: listed.size,
        digest: digest(&head),
    })
}

/// The content of the first `size` bytes of a capture.
///
/// # Errors
/// It cannot be read, or has fewer bytes.
pub fn content(path: &Path, size: u64) -> io::Result<ContentHash> {
    content_of(&mut File::open(path)?, size)
}

/// The content of the next `size` bytes.
///
/// # Errors
/// They cannot be read, or are fewer.
pub fn content_of(from: &mut impl Read, size: u64) -> io::Result<ContentHash> {
    let mut contents = ContentHasher::default();
    let mut buffer = vec![0; READ_LEN];
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(READ_LEN).min(READ_LEN);
        let room = buffer.get_mut(..wanted).unwrap_or_default();
        match from.read(room) {
            Ok(0) => {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "it became shorter while it was read",
                ));
            }
            Ok(len) => {
                contents.add(room.get(..len).unwrap_or_default());
                left = left.saturating_sub(len as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(contents.done())
}

impl ContentHash {
    /// The identity of a capture in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl ContentHasher {
    /// Adds the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of the added bytes.
    #[must_use]
    pub fn done(self) -> ContentHash {
        ContentHash(*self.0.finalize().as_bytes())
    }
}

fn digest(head: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = Sha256::digest(head).0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Identity {
    /// The content of a capture in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let head = bytes.get(..HEAD_LEN as usize).unwrap_or(bytes);
        Self {
            size: bytes.len() as u64,
            digest: digest(head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::testing::{capture, grow};
    use std::fs;
    use tempfile::tempdir;

    #[test]
    fn a_capture_is_known_by_its_size_and_its_first_bytes() {
        let directory = tempdir().unwrap();
        let of = |name: &str, bytes: &[u8]| {
            let (path, listed) = capture(&directory, name, bytes);
            identity(&path, &listed).unwrap()
        };
        let long = vec![7; 10_000];
        let [mut early, mut late] = [long.clone(), long.clone()];
        early[4095] = 8;
        late[4096] = 8;
        let known = of("a.pcap", &long);
        assert_eq!(known, of("b.pcap", &long));
        assert_eq!(known, of("c.pcap", &late));
        assert_ne!(known.digest, of("d.pcap", &early).digest);
        assert_ne!(known, of("e.pcap", &long[1..]));
        assert_eq!(known.digest, of("e.pcap", &long[1..]).digest);
        // The SHA-256 of no bytes is e3b0c442 98fc1c14 ...
        assert_eq!(
            of("f.pcap", b""),
            Identity {
                size: 0,
                digest: 0xe3b0_c442_98fc_1c14
            }
        );
    }

    #[test]
    fn one_that_has_grown_is_known_as_it_was() {
        let directory = tempdir().unwrap();
        let (path, listed) = capture(&directory, "a.pcap", b"some bytes");
        let known = identity(&path, &listed).unwrap();
        grow(&path);
        assert_eq!(identity(&path, &listed).unwrap(), known);
        fs::remove_file(&path).unwrap();
        assert_eq!(
            identity(&path, &listed).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn all_of_it_tells_what_its_first_bytes_do_not() {
        let directory = tempdir().unwrap();
        let long = vec![7; READ_LEN + 10_000];
        let mut other = long.clone();
        other[READ_LEN + 9_000] = 8;
        let of = |name: &str, bytes: &[u8]| {
            let (path, listed) = capture(&directory, name, bytes);
            let (identity, all) = (
                identity(&path, &listed).unwrap(),
                content(&path, listed.size).unwrap(),
            );
            assert_eq!(all, ContentHash::of(bytes));
            assert_eq!(content(&path, 100).unwrap(), ContentHash::of(&bytes[..100]));
            assert_eq!(
                content(&path, listed.size + 1).unwrap_err().kind(),
                ErrorKind::UnexpectedEof
            );
            (identity, all)
        };
        let (a, b) = (of("a.pcap", &long), of("b.pcap", &other));
        assert_eq!(a.0, b.0);
        assert_ne!(a.1, b.1);
    }
}
