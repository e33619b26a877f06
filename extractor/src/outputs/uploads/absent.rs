//! The replacement of the sender in a build without the feature `uploads`: it refuses to send.

use std::{sync::Arc, thread};

use anyhow::{Result, bail};

use super::{MISSING, Shared, UploadSettings};

/// A type without values: this build has no sender.
#[derive(Debug)]
pub(super) enum Sender {}

impl Sender {
    pub(super) fn begin(_shared: &Arc<Shared>, _settings: UploadSettings) -> Result<Self> {
        bail!(MISSING)
    }

    pub(super) fn wake(&self) {
        match *self {}
    }

    pub(super) fn is_finished(&self) -> bool {
        match *self {}
    }

    pub(super) fn join(self) -> thread::Result<()> {
        match self {}
    }
}

/// The region of the store; always `None` in this build.
#[must_use]
pub fn region() -> Option<String> {
    None
}

/// Checks whether objects can be put.
///
/// # Errors
/// Always.
pub fn check(_settings: UploadSettings) -> Result<()> {
    bail!(MISSING)
}
