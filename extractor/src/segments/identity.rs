//! Captures known again, whatever their names.
#![allow(clippy::disallowed_methods, reason = "a door: reads the first bytes of captures")]

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::listing::Listed;

/// So many of a file's first bytes tell it from others: they have the software that captured it, and some packets with their
/// times.
const HEAD_LEN: u64 = 4096;

/// A capture is known by it, whatever its name: the same one delivered twice has it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its length in bytes.
    pub size: u64,
    /// The beginning of the SHA-256 of its first bytes.
    pub digest: u64,
}

/// The identity of a capture as it was listed: of a file that has grown since, as it was then.
///
/// # Errors
/// It cannot be read; it may have vanished ([`io::ErrorKind::NotFound`]).
pub fn identity(path: &Path, listed: &Listed) -> io::Result<Identity> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(listed.size.min(HEAD_LEN)).read_to_end(&mut head))
        .map_err(|error| io::Error::new(error.kind(), format!("{} cannot be read: {error}", path.display())))?;
    Ok(Identity { size: listed.size, digest: digest(&head) })
}

fn digest(head: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = Sha256::digest(head).0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Identity {
    /// That of a capture which is in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let head = bytes.get(..HEAD_LEN as usize).unwrap_or(bytes);
        Self { size: bytes.len() as u64, digest: digest(head) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::testing::{capture, grow};
    use std::{fs, io::ErrorKind};
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
        // SHA-256 of nothing is e3b0c442 98fc1c14 ...
        assert_eq!(of("f.pcap", b""), Identity { size: 0, digest: 0xe3b0_c442_98fc_1c14 });
    }

    #[test]
    fn one_that_has_grown_is_known_as_it_was() {
        let directory = tempdir().unwrap();
        let (path, listed) = capture(&directory, "a.pcap", b"some bytes");
        let known = identity(&path, &listed).unwrap();
        grow(&path);
        assert_eq!(identity(&path, &listed).unwrap(), known);
        fs::remove_file(&path).unwrap();
        let error = identity(&path, &listed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("a.pcap cannot be read"), "{error}");
    }
}
