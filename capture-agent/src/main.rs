//! Captures live traffic through a BPF filter into rotating pcap segments.
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        reason = "tests count on small numbers"
    )
)]

mod capture;
mod cli;
mod clock;
mod drops;
mod filter;
mod gather;
mod housekeeping;
mod metrics;
mod metrics_file;
mod privileges;
mod recorder;
mod retention;
mod ring;
mod rotation;
mod run;
mod sandbox;
mod segment_dir;
mod signals;
mod tally;
mod writer;

use std::{
    env,
    io::{Write, stderr, stdout},
    process::ExitCode,
};

use shared::log;

use capture::TapError;
use cli::Arguments;

const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let line: Vec<_> = env::args_os().collect();
    let arguments = Arguments::from_command_line(&line).unwrap_or_else(|error| error.exit());
    log_to_stderr(&arguments);
    let outcome = if arguments.print_filter {
        print_filters(&arguments)
    } else {
        run::run(&arguments)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            exit_code(&error)
        }
    }
}

fn log_to_stderr(arguments: &Arguments) {
    let level = if arguments.debug { "debug" } else { "info" };
    log::begin(arguments.log_format, level, stderr);
}

fn print_filters(arguments: &Arguments) -> anyhow::Result<()> {
    let filters = run::filters(arguments)?;
    Ok(writeln!(stdout(), "{}", filters.join("\n"))?)
}

/// Returns 2 for a bad filter, which is the user's error, and 1 for everything else.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(TapError::Filter { .. }) => WRONG_USAGE.into(),
        _ => ExitCode::FAILURE,
    }
}
