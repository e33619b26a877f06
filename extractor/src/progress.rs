//! How far the run is: a bar on a terminal, a line now and then elsewhere; and the log beside it.
#![allow(clippy::disallowed_methods, reason = "a door: the terminal, and the only clock that is not packet time")]

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// How often a line tells how far the run is, where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows how far the run is.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    last_line: Cell<Instant>,
}

impl Progress {
    /// A bar, if standard error is a terminal.
    #[must_use]
    pub fn new() -> Self {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        // A template is checked when it is set; this one is constant, and a test sets it.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        let now = Instant::now();
        Self { bar, begun: now, last_line: Cell::new(now) }
    }

    /// The run has this many bytes before it.
    pub fn begin(&self, total_bytes: u64) {
        self.bar.set_length(total_bytes);
    }

    /// The run has come this far.
    pub fn advance(&self, bytes: u64, calls: u64) {
        self.bar.set_message(calls.to_string());
        self.bar.set_position(bytes);
        if self.bar.is_hidden() && self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            tracing::info!(bytes, of = self.bar.length().unwrap_or(0), calls, "extracting");
        }
    }

    /// The run is done. Tells how long it took.
    pub fn finish(&self) -> Duration {
        self.bar.finish();
        self.begun.elapsed()
    }

    /// Sends the log to standard error, above the bar.
    pub fn log(&self, format: LogFormat, debug: bool) {
        let default = if debug { "debug" } else { "info" };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveBar(self.bar.clone())).with_target(false);
        match format {
            LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
            LogFormat::Json => log.json().init(),
        }
    }

    /// Prints lines for a person, below all else.
    pub fn say(&self, text: &str) {
        // Nothing can be done about a standard error that is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

const TEMPLATE: &str = "{bar:30} {percent:>3}% {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta} calls {msg}";

/// Standard error, with the bar out of the way while a line is written.
#[derive(Clone, Debug)]
struct AboveBar(ProgressBar);

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A reader that went away, as `head` does, is no reason to stop: the work is in the files.
        let _ = self.0.suspend(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for AboveBar {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
