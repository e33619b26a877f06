//! The replacement of the sender in a build without the feature `uploads`: it refuses to send.

use std::{sync::Arc, thread};

use anyhow::{Result, bail};
use shared::s3_uri::S3Uri;

use super::{MISSING, ObjectError, ObjectPart, Shared, StoredObject, UploadSettings};

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

/// A type without values: this build reads no store.
#[derive(Debug)]
pub enum ObjectReader {}

impl ObjectReader {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn new(_settings: UploadSettings) -> Result<Self> {
        bail!(MISSING)
    }

    /// The objects directly below a prefix.
    ///
    /// # Errors
    /// None: there is no reader.
    pub fn list(&self, _place: &S3Uri) -> Result<Vec<StoredObject>> {
        match *self {}
    }

    /// Gets parts of objects.
    ///
    /// # Errors
    /// None: there is no reader.
    pub fn get<E>(
        &self,
        _parts: &[ObjectPart],
        _take: impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, (usize, ObjectError)> {
        match *self {}
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
