//! More attempts for reads that a disk, or its network, has failed.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: pauses before a disk is asked again"
)]

use std::{thread, time::Duration};

use super::InputError;

/// The pause before each further attempt.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// Reads something of a capture. If it is unreadable, two more attempts follow.
///
/// # Errors
/// It is not a capture that can be read, or all attempts failed; the error is that of the last one.
pub fn patiently<T>(mut read: impl FnMut() -> Result<T, InputError>) -> Result<T, InputError> {
    for pause in PAUSES {
        match read() {
            Err(InputError::Unreadable(why)) => {
                tracing::debug!("a capture cannot be read, another attempt follows: {why}");
                thread::sleep(pause);
            }
            done => return done,
        }
    }
    read()
}
