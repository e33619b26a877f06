//! What a capture is called, and known by, from run to run.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use serde::{Deserialize, Serialize};

use crate::segments::Identity;

/// The name of a file, whatever bytes it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name(Vec<u8>);

impl Name {
    /// As the name of a file.
    #[must_use]
    pub fn of(name: impl AsRef<OsStr>) -> Self {
        Self(name.as_ref().as_bytes().to_vec())
    }

    /// As a path.
    #[must_use]
    pub fn to_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// A capture that is still to be read, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Where it is.
    pub path: Name,
    /// Whether it still is what it was.
    pub identity: Identity,
}
