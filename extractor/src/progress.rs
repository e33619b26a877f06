//! Progress of the run: a bar on a terminal, or a line from time to time; and the log beside it.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the terminal, Ctrl-C, and the clock of the progress"
)]

use std::{
    cell::{Cell, RefCell},
    fs,
    io::{self, IsTerminal, Write},
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shared::{
    log::{self, LogFormat},
    units::grouped,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::watch::Watchdog;

/// The amount of output that the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// The events of the run, in a few lines.
    Usual,
    /// The reasons, too.
    Verbose,
}

/// The interval of progress lines when there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the progress of the run.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    log: LogLines,
    is_quiet: bool,
    /// See [`Progress::heed_interrupts`]. It is determined at the start, because the sandbox hides
    /// it.
    ignores_interrupts: bool,
    begun: Instant,
    last_line: Cell<Instant>,
    /// A unit of work may take longer than the watchdog of a service manager allows.
    watchdog: RefCell<Watchdog>,
}

impl Progress {
    /// Shows a bar if standard error is a terminal that can draw one.
    #[must_use]
    pub fn new(verbosity: Verbosity) -> Self {
        let is_quiet = verbosity == Verbosity::Quiet;
        let columns = columns();
        let bar = if columns.is_some() && !console::is_dumb() && !is_quiet {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        // Setting a template can fail, but these are constant, and a test covers them.
        if let Ok(style) = ProgressStyle::with_template(template(columns)) {
            bar.set_style(style.progress_chars("=> "));
        }
        let now = Instant::now();
        let log = LogLines {
            bar: bar.clone(),
            lines: Arc::default(),
        };
        Self {
            bar,
            log,
            is_quiet,
            ignores_interrupts: is_interrupt_ignored(),
            begun: now,
            last_line: Cell::new(now),
            watchdog: RefCell::new(Watchdog::of_process()),
        }
    }

    /// Sets the number of bytes of the run.
    pub fn begin(&self, total_bytes: u64) {
        self.bar.set_length(total_bytes);
    }

    /// Sets the progress of the run, in bytes and calls.
    pub fn advance(&self, bytes: u64, calls: u64) {
        self.bar.set_message(grouped(calls));
        self.bar.set_position(bytes);
        if self.bar.is_hidden() && self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            tracing::info!(
                bytes,
                of = self.bar.length().unwrap_or(0),
                calls,
                "extracting"
            );
        }
        self.alive();
    }

    /// Signals that the run is alive, without progress.
    pub fn alive(&self) {
        self.log.flush();
        self.watchdog.borrow_mut().tell(Instant::now());
    }

    /// Writes the buffered log lines.
    pub fn flush(&self) {
        self.log.flush();
    }

    /// Ends the bar. Returns the duration of the run.
    pub fn finish(&self) -> Duration {
        self.bar.finish();
        self.begun.elapsed()
    }

    /// Sends the log to standard error, above the bar.
    pub fn log(&self, format: LogFormat, verbosity: Verbosity) {
        // The messages of libraries are available with RUST_LOG.
        let level = match verbosity {
            Verbosity::Quiet => "error",
            Verbosity::Usual => "info",
            Verbosity::Verbose => "debug",
        };
        log::begin(
            format,
            &format!("error,sip_call_extractor={level},shared={level}"),
            self.log.clone(),
        );
    }

    /// Prints a text below the bar and the log, unless the user wants errors only. `text` gets the
    /// width of the terminal, if there is one.
    pub fn say(&self, text: impl FnOnce(Option<usize>) -> String) {
        self.log.flush();
        if !self.is_quiet {
            // The bar has no line end.
            let below = if self.bar.is_hidden() { "" } else { "\n" };
            // If standard error is closed, nothing can be done.
            let _ = writeln!(io::stderr().lock(), "{below}{}", text(columns()));
        }
    }

    /// On Ctrl-C and SIGTERM, logs that nothing is lost before the process ends as usual. If the
    /// process was started with SIGINT ignored (`nohup`, a job of a script), SIGINT stays ignored.
    /// As the first process of a container, the process has to exit by itself, because the kernel
    /// ignores default actions there.
    pub fn heed_interrupts(&self) {
        let bar = self.bar.clone();
        let ends = if self.ignores_interrupts {
            &[SIGTERM][..]
        } else {
            &[SIGINT, SIGTERM]
        };
        let Ok(mut signals) = Signals::new(ends) else {
            return;
        };
        let listen = move || {
            if let Some(signal) = signals.forever().next() {
                bar.abandon();
                tracing::warn!("stopped; the same command goes on from here");
                if process::id() == 1 {
                    process::exit(signal.saturating_add(128));
                }
                // It returns only if it fails.
                let _ = emulate_default_handler(signal);
            }
        };
        // Without the thread, Ctrl-C would do nothing.
        if thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(listen)
            .is_err()
        {
            tracing::debug!("no thread waits for Ctrl-C");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.log.flush();
    }
}

/// The width of a text on standard output: that of the terminal, or 100 columns.
#[must_use]
pub fn output_columns() -> usize {
    let columns = Term::stdout().size_checked().map(|(_, columns)| columns);
    columns
        .filter(|_| io::stdout().is_terminal())
        .map_or(100, usize::from)
}

/// Writes a text to standard output. A reader that stops early, such as `head`, is no error.
pub fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// The width of standard error, if it is a terminal.
fn columns() -> Option<usize> {
    let (_, columns) = Term::stderr().size_checked()?;
    io::stderr().is_terminal().then_some(columns.into())
}

/// The text beside the bar has up to 65 columns, or 43 on a narrow terminal.
fn template(columns: Option<usize>) -> &'static str {
    match columns {
        Some(..72) => "{wide_bar} {percent:>3}% {binary_bytes_per_sec} ETA {eta} calls {msg}",
        _ => {
            "{wide_bar} {percent:>3}% {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta} calls {msg}"
        }
    }
}

/// Returns true if the process was started with SIGINT ignored.
fn is_interrupt_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap_or("0");
    let bit = 1u64
        .checked_shl(u32::try_from(SIGINT).unwrap_or(1).saturating_sub(1))
        .unwrap_or(0);
    u64::from_str_radix(ignored.trim(), 16).is_ok_and(|ignored| ignored & bit != 0)
}

/// Buffers log lines for standard error, and prints them above the bar.
///
/// Without a buffer, each call that opens or closes would cost a system call: for a capture of
/// short calls only, a fifth of the time. Lines wait for the end of a window at most; warnings and
/// errors are written at once.
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
            // A closed standard error, as with `head`, must not stop the run: the results are in
            // the files.
            let _ = self.bar.suspend(|| io::stderr().write_all(lines));
            lines.clear();
        }
    }
}

/// A writer for lines of one level.
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
        Lines {
            to: self,
            is_urgent: true,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Lines<'a> {
        Lines {
            to: self,
            is_urgent: *meta.level() <= Level::WARN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_some() {
        for columns in [None, Some(60), Some(80)] {
            assert!(ProgressStyle::with_template(template(columns)).is_ok());
        }
    }
}
