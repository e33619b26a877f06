//! How far the run is: a bar on a terminal, a line now and then elsewhere; and the log beside it.
#![allow(clippy::disallowed_methods, reason = "a door: the terminal, and the only clock that is not packet time")]

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::watch::Watchdog;

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
    log: LogLines,
    begun: Instant,
    last_line: Cell<Instant>,
    /// A unit of work may take longer than a service manager waits.
    watchdog: RefCell<Watchdog>,
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
        let log = LogLines { bar: bar.clone(), lines: Arc::default() };
        Self { bar, log, begun: now, last_line: Cell::new(now), watchdog: RefCell::new(Watchdog::of_process()) }
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
        self.alive();
    }

    /// All is well, though nothing has moved on.
    pub fn alive(&self) {
        self.log.flush();
        self.watchdog.borrow_mut().tell(Instant::now());
    }

    /// Sends what was gathered of the log to where it goes.
    pub fn flush(&self) {
        self.log.flush();
    }

    /// The run is done. Tells how long it took.
    pub fn finish(&self) -> Duration {
        self.bar.finish();
        self.begun.elapsed()
    }

    /// Sends the log to standard error, above the bar.
    pub fn log(&self, format: LogFormat, debug: bool) {
        // What libraries have to say of each request is for RUST_LOG.
        let level = if debug { "debug" } else { "info" };
        let default = format!("error,sip_call_extractor={level},shared={level}");
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(self.log.clone()).with_target(false);
        match format {
            LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
            LogFormat::Json => log.json().init(),
        }
    }

    /// Prints lines for a person, below all else.
    pub fn say(&self, text: &str) {
        self.log.flush();
        // Nothing can be done about a standard error that is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.log.flush();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

const TEMPLATE: &str = "{bar:30} {percent:>3}% {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta} calls {msg}";

/// Log lines on their way to standard error, past the bar.
///
/// A line for each call that opens or closes would be a system call for each: of a capture with nothing but short
/// calls, a fifth of the time. So they are gathered, for as long as a window takes; what warns does not wait.
#[derive(Clone, Debug)]
struct LogLines {
    bar: ProgressBar,
    lines: Arc<Mutex<Vec<u8>>>,
}

const MAX_GATHERED: usize = 64 * 1024;

impl LogLines {
    fn add(&self, line: &[u8], is_urgent: bool) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(line);
        if is_urgent || lines.len() >= MAX_GATHERED {
            self.send(&mut lines);
        }
    }

    fn flush(&self) {
        self.send(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn send(&self, lines: &mut Vec<u8>) {
        if !lines.is_empty() {
            // A reader that went away, as `head` does, is no reason to stop: the work is in the files.
            let _ = self.bar.suspend(|| io::stderr().write_all(lines));
            lines.clear();
        }
    }
}

/// Takes the lines of one level.
#[derive(Debug)]
struct Lines<'a> {
    to: &'a LogLines,
    is_urgent: bool,
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.add(bytes, self.is_urgent);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines { to: self, is_urgent: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Lines<'a> {
        Lines { to: self, is_urgent: *meta.level() <= Level::WARN }
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
