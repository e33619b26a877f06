//! Notifies the service manager (`sd_notify`), if one listens.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the service manager's socket"
)]

use std::time::Duration;

use sd_notify::NotifyState;

/// Reports that the start is complete.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Reports that the program is ending.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Sets the line that `systemctl status` shows.
pub fn status(line: &str) {
    tell(NotifyState::Status(line));
}

/// Keeps the service manager's watchdog from acting.
pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// Returns how often [`alive`] is to be called; `None` without a watchdog.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    // Half of the watchdog's timeout.
    sd_notify::watchdog_enabled().map(|patience| patience.checked_div(2).unwrap_or_default())
}

/// Sends a notification. A service manager that does not listen is no reason to end.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}
