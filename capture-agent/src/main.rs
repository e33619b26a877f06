//! Captures what a filter lets through on one interface into a pcap segment, until it is told to end.

mod capture;
mod cli;
mod writer;

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use capture::{Batch, Tap, TapError};
use cli::Arguments;
use writer::SegmentWriter;

const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.debug);
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            exit_code(&error)
        }
    }
}

fn log_to_stderr(debug: bool) {
    let level = if debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal()).init();
}

/// Only the filter is the user's to get wrong; whatever else fails, the environment refused it.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(TapError::Filter { .. }) => WRONG_USAGE.into(),
        _ => ExitCode::FAILURE,
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { interface, filter, output_dir, snaplen, .. } = arguments;
    let mut tap = Tap::open(interface, filter, *snaplen)?;
    tap.end_on_signals().context("the signals to end cannot be waited for")?;
    let name = writer::name_from_now(interface);
    let mut segment = SegmentWriter::create(output_dir, &name, tap.link(), *snaplen)?;
    tracing::info!(%interface, %filter, link = %tap.link(), segment = %name, "capturing");
    let recorded = record(&mut tap, &mut segment);
    report(&mut tap, &segment);
    // Whatever ended the capture, what was captured is kept.
    match (recorded, segment.close()) {
        (recorded, Ok(path)) => {
            tracing::info!(segment = %path.display(), "closed");
            recorded
        }
        (Ok(()), Err(closed)) => Err(closed),
        (Err(recorded), Err(closed)) => Err(closed.context(format!("{recorded:#}"))),
    }
}

fn record(tap: &mut Tap, segment: &mut SegmentWriter) -> anyhow::Result<()> {
    while let Batch::More(packets) = tap.next_batch(|frame| segment.append(&frame))? {
        segment.flush().context("the segment cannot be written")?;
        tracing::debug!(packets, bytes = segment.bytes(), "batch");
    }
    segment.flush().context("the segment cannot be written")
}

fn report(tap: &mut Tap, segment: &SegmentWriter) {
    let (packets, bytes) = (segment.packets(), segment.bytes());
    match tap.counters() {
        Ok(counters) => tracing::info!(
            packets,
            bytes,
            received = counters.received,
            dropped = counters.dropped,
            interface_dropped = counters.if_dropped,
            "captured"
        ),
        Err(error) => tracing::warn!(packets, bytes, "captured; libpcap does not give its counters: {error}"),
    }
}
