//! What a service manager is told (`sd_notify`), if there is one that listens.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the service manager's socket"
)]

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the work has begun.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Says that the program is ending.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// The line that `systemctl status` shows.
pub fn status(line: &str) {
    tell(NotifyState::Status(line));
}

/// Says that all is well.
pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// How often the service manager wants to hear that, if at all.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    // Twice in the time that it waits.
    sd_notify::watchdog_enabled().map(|patience| patience.checked_div(2).unwrap_or_default())
}

/// A service manager that does not listen is no reason to stop.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("the service manager cannot be told: {error}");
    }
}
