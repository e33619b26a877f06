//! In the place of the sender, where the feature `uploads` is off: nothing can be sent, and whoever
//! asks for it is told so.

use std::{sync::Arc, thread};

use anyhow::{Result, bail};

use super::{MISSING, Settings, Shared};

/// There can be none.
#[derive(Debug)]
pub(super) enum Sender {}

impl Sender {
    pub(super) fn begin(_shared: &Arc<Shared>, _settings: Settings) -> Result<Self> {
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

/// The region of a store, of which there can be none.
#[must_use]
pub fn region() -> Option<String> {
    None
}

/// Tries whether objects can be put.
///
/// # Errors
/// Always.
pub fn check(_settings: Settings) -> Result<()> {
    bail!(MISSING)
}
