//! Temporary files for inputs that are compressed, come through a pipe, or cannot be mapped.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: temporary files, and how much room there is for them"
)]

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;
use shared::units::{ByteSize, grouped};

use super::{
    compressed::{Compression, Damage},
    error::InputError,
};

/// Disk space that is left for results, in bytes; at most a quarter of the disk, at least a tenth.
const LEFT_FOR_RESULTS: u64 = 1 << 30;

/// A capture that needs more than this many times its compressed length is at fault itself, not the
/// disk.
const FAIR_SHARE: u64 = 10;

const BUFFER_LEN: usize = 256 * 1024;

/// The directory of temporary files, and the limit for each file.
#[derive(Clone, Debug)]
pub struct Scratch {
    directory: PathBuf,
    most: Option<ByteSize>,
}

impl Scratch {
    /// Makes temporary files in this directory. A decompressed capture may have `most` bytes, or as
    /// many as there is room for.
    #[must_use]
    pub fn new(directory: &Path, most: Option<ByteSize>) -> Self {
        Self {
            directory: directory.to_owned(),
            most,
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A nameless file that disappears when it is closed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn file(&self) -> Result<File, InputError> {
        let what = format!(
            "no temporary file can be made in {}",
            self.directory.display()
        );
        tempfile::tempfile_in(&self.directory).map_err(InputError::of_scratch(what))
    }

    /// A copy of an input that can be read only once, or cannot be mapped.
    pub(super) fn copied(&self, mut from: impl Read) -> Result<File, InputError> {
        let mut file = self.file()?;
        let mut buffer = vec![0; BUFFER_LEN];
        let mut offset: u64 = 0;
        loop {
            let len = match from.read(&mut buffer) {
                Ok(0) => return Ok(file),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(InputError::of(
                        &error,
                        format!("it cannot be read at offset {offset}: {error}"),
                    ));
                }
            };
            offset = offset.saturating_add(len as u64);
            let what = format!(
                "it cannot be copied to a temporary file in {}",
                self.directory.display()
            );
            file.write_all(buffer.get(..len).unwrap_or_default())
                .map_err(InputError::of_scratch(what))?;
        }
    }

    /// A decompressed copy of an input; `len` is the length of the file, if it is one.
    pub(super) fn decompressed(
        &self,
        compression: Compression,
        from: impl Read,
        len: Option<u64>,
    ) -> Result<(File, Option<Damage>), InputError> {
        let mut file = self.file()?;
        let room = self.room()?;
        tracing::info!(
            "decompressing {compression} data to a temporary file in {}",
            self.directory.display()
        );
        let mut to = Limited {
            to: &mut file,
            left: room,
            is_full: false,
        };
        let damage = compression.decompress(from, &mut to);
        if to.is_full {
            return Err(self.does_not_fit(room, len));
        }
        let what = format!(
            "its {compression} data cannot be decompressed to a temporary file in {}",
            self.directory.display()
        );
        let damage = damage.map_err(InputError::of_scratch(what))?;
        Ok((file, damage))
    }

    /// The number of bytes that a capture may have.
    fn room(&self) -> Result<u64, InputError> {
        if let Some(ByteSize(most)) = self.most {
            return Ok(most);
        }
        let what = format!(
            "the free space in {} cannot be determined",
            self.directory.display()
        );
        let disk = statvfs(&self.directory)
            .map_err(io::Error::from)
            .map_err(InputError::of_scratch(what))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
        let all = bytes(disk.blocks());
        let left_for_results = (all / 10).max(LEFT_FOR_RESULTS.min(all / 4));
        Ok(bytes(disk.blocks_available()).saturating_sub(left_for_results))
    }

    fn does_not_fit(&self, room: u64, len: Option<u64>) -> InputError {
        if let Some(most) = self.most {
            return InputError::TooLarge(format!(
                "it has more than {most} when it is decompressed, which is the most that --max-decompressed allows; allow more if the file is as it should be"
            ));
        }
        let sentence = format!(
            "decompressed, it does not fit into {}, which has room for {} bytes of it, and needs the rest for results; make room there, or name \
             another --output-dir",
            self.directory.display(),
            grouped(room)
        );
        match len {
            Some(len) if room >= len.saturating_mul(FAIR_SHARE) => InputError::NoRoom(sentence),
            _ => InputError::Environment(sentence),
        }
    }
}

/// A writer with a limit.
struct Limited<'f> {
    to: &'f mut File,
    left: u64,
    is_full: bool,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.is_full = true;
            return Err(ErrorKind::FileTooLarge.into());
        };
        self.to.write_all(bytes)?;
        self.left = left;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
