//! Names and identities of captures, from run to run.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use serde::{Deserialize, Serialize};

use crate::segments::Identity;

/// A file name of any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name of a path.
    #[must_use]
    pub fn of(name: impl AsRef<OsStr>) -> Self {
        Self(name.as_ref().as_bytes().to_vec())
    }

    /// The name as a path.
    #[must_use]
    pub fn to_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// A capture that is still to be read, or was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedInput {
    /// The path of the capture.
    pub path: Name,
    /// The identity of the capture, which tells whether it is still the same.
    pub identity: Identity,
}
