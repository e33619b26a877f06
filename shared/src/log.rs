//! The log of both programs: for a person, for another program, or for the systemd journal.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: standard error, and what the environment says of it"
)]

use std::{
    env, fmt, fs,
    io::{self, IsTerminal},
    os::unix::fs::MetadataExt,
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Sends the log to `writer` from now on. `RUST_LOG`, or else `filter`, selects the lines.
pub fn begin<W>(format: LogFormat, filter: &str, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false);
    match format {
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
        LogFormat::Text if goes_to_journal() => {
            log.with_ansi(false).event_format(Journal::default()).init();
        }
        LogFormat::Text => log
            .with_ansi(io::stderr().is_terminal() && console::colors_enabled_stderr())
            .init(),
    }
}

/// True if standard error is the journal's: systemd.exec(5), `$JOURNAL_STREAM`. A redirection of
/// standard error leaves the variable unchanged, so the numbers are compared.
fn goes_to_journal() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    let told = stream
        .split_once(':')
        .and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let is = fs::metadata("/proc/self/fd/2").map(|metadata| (metadata.dev(), metadata.ino()));
    told.is_some_and(|told: (u64, u64)| is.is_ok_and(|is| is == told))
}

/// Formats lines for the journal: with a priority in front (sd-daemon(3)) and without the time,
/// which the journal adds itself.
struct Journal(Format<Full, ()>);

impl Default for Journal {
    fn default() -> Self {
        Self(
            Format::default()
                .with_target(false)
                .with_level(false)
                .without_time(),
        )
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_is_told_how_bad_it_is() {
        let lines = Lines::default();
        let to = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || to.clone())
            .event_format(Journal::default())
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::warn!(call_id = "a", "odd");
            tracing::error!("bad");
        });
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(lines, "<4>odd call_id=\"a\"\n<3>bad\n");
    }
}
