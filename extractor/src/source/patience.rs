//! Another try for what a disk, or a network before it, did not give.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: pauses before a disk is asked again"
)]

use std::{thread, time::Duration};

use super::InputError;

/// How long it is left alone before each further try.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// Reads something of a capture. If it is unreadable, it is tried again, twice.
///
/// # Errors
/// It is not to be read; or all tries failed, and the last one like this.
pub fn patiently<T>(mut read: impl FnMut() -> Result<T, InputError>) -> Result<T, InputError> {
    for pause in PAUSES {
        match read() {
            Err(InputError::Unreadable(why)) => {
                tracing::debug!("a capture cannot be read, and is tried again: {why}");
                thread::sleep(pause);
            }
            done => return done,
        }
    }
    read()
}
