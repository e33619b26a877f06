//! Arguments, run, exit status.

use std::process::ExitCode;

use anyhow::Context;
use shared::log::LogFormat;
use sip_call_extractor::{
    cli::{Arguments, Command, ExplainArguments, FindArguments, IndexArguments, ReportArguments},
    explain::explain,
    find::find,
    outputs::uploads,
    progress::{Progress, output_columns, print},
    report::Report,
    report_page,
    run::{Outcome, run},
    sandbox,
    stored::{Totals, index_all},
};

/// Memory that one thread allocates is freed by another. For a capture of short calls only, this
/// allocator saves a fifth of the CPU time against that of the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Command::read() {
        Command::Extract(arguments) => extract_or_check(*arguments),
        Command::Explain(arguments) => explain_calls(*arguments),
        Command::Report(arguments) => report_calls(*arguments),
        Command::Index(arguments) => index_segments(*arguments),
        Command::Find(arguments) => find_calls(*arguments),
    }
}

/// Indexes stored segments.
fn index_segments(arguments: IndexArguments) -> ExitCode {
    let progress = Progress::new(arguments.verbosity());
    progress.log(LogFormat::Text, arguments.verbosity());
    let threads = arguments.threads;
    let scratch = arguments.scratch();
    // The sandbox must be entered before there is another thread.
    sandbox::enter_to_write(&arguments.written(), scratch.directory());
    let done = || -> anyhow::Result<Totals> {
        let task = arguments.task()?;
        start_threads(threads)?;
        Ok(index_all(&task, &scratch))
    };
    match done() {
        Ok(totals) => {
            let Totals {
                made,
                there,
                failed,
                segment_bytes,
                index_bytes,
            } = totals;
            tracing::info!(
                "{made} segments indexed, {there} had an index, {failed} failed: {index_bytes} bytes for {segment_bytes}"
            );
            progress.flush();
            let all = made.saturating_add(there);
            ExitCode::from(match (all, failed) {
                (_, 0) => 0,
                (0, _) => 1,
                (_, _) => 3,
            })
        }
        Err(error) => failed(&error),
    }
}

/// Finds calls in stored segments, and writes a list to standard output.
fn find_calls(arguments: FindArguments) -> ExitCode {
    let progress = Progress::new(arguments.verbosity());
    progress.log(LogFormat::Text, arguments.verbosity());
    let threads = arguments.threads;
    let scratch = arguments.scratch();
    let written = arguments.written();
    let task = arguments.task(output_columns());
    // The sandbox must be entered before there is another thread.
    if task.store.is_some() {
        sandbox::enter_to_write_from_store(&written, scratch.directory());
    } else {
        sandbox::enter_to_write(&written, scratch.directory());
    }
    progress.heed_interrupts();
    let found = start_threads(threads).and_then(|()| find(&task, &scratch, &progress));
    match found {
        Ok(found) => {
            progress.flush();
            print(&found.text);
            ExitCode::from(match (found.calls, found.refused) {
                (0, _) => 1,
                (_, 0) => 0,
                (_, _) => 3,
            })
        }
        Err(error) => failed(&error),
    }
}

/// Writes what is known of a call to standard output.
fn explain_calls(arguments: ExplainArguments) -> ExitCode {
    let progress = Progress::new(arguments.verbosity());
    progress.log(LogFormat::Text, arguments.verbosity());
    let columns = arguments.columns.map_or_else(output_columns, usize::from);
    let threads = arguments.threads;
    let task = arguments.task();
    // The sandbox must be entered before there is another thread.
    sandbox::enter_to_read(&task.files, &task.scratch);
    let explained = start_threads(threads).and_then(|()| explain(&task, columns, &progress));
    match explained {
        Ok(explained) => {
            progress.flush();
            print(&explained.text);
            ExitCode::from(u8::from(!explained.is_found))
        }
        Err(error) => failed(&error),
    }
}

/// Makes a report of records.
fn report_calls(arguments: ReportArguments) -> ExitCode {
    let progress = Progress::new(arguments.verbosity());
    progress.log(LogFormat::Text, arguments.verbosity());
    let task = arguments.task();
    sandbox::enter_to_report(&task.records, &task.to);
    match report_page::write(&task, &mut || ()) {
        Ok(written) => {
            tracing::info!("{}", written.told(&task));
            ExitCode::from(if written.left_out > 0 { 3 } else { 0 })
        }
        Err(error) => failed(&error),
    }
}

fn start_threads(count: usize) -> anyhow::Result<()> {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(count);
    threads.build_global().context("threads cannot be started")
}

/// Logs why a command failed.
fn failed(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}

fn extract_or_check(arguments: Arguments) -> ExitCode {
    let (log_format, verbosity) = (arguments.log_format, arguments.verbosity());
    let progress = Progress::new(verbosity);
    progress.log(log_format, verbosity);
    arguments
        .notices()
        .for_each(|notice| tracing::info!("{notice}"));
    if let Some(settings) = arguments.check() {
        return check(settings);
    }
    let report = arguments.report();
    match extract(arguments, &progress) {
        Ok(outcome) => {
            // The state of the run is still there: a run that is killed here makes the report when
            // it is started again.
            if let Some(Err(error)) = report.as_ref().map(write_report) {
                return failed(&error);
            }
            summarise(&outcome.report, log_format, &progress);
            let elsewhere = &outcome.report.counts.elsewhere;
            if !elsewhere.is_empty() {
                tracing::warn!("{elsewhere}; they are not used: --sip-ports-range any finds them");
            }
            let code = outcome.exit.code();
            match outcome.close() {
                Ok(()) => ExitCode::from(code),
                Err(error) => failed(&error),
            }
        }
        Err(error) => failed(&error),
    }
}

fn write_report(task: &report_page::Task) -> anyhow::Result<()> {
    let written = report_page::write(task, &mut || ())?;
    tracing::info!("{}", written.told(task));
    Ok(())
}

/// Checks whether objects can be put.
fn check(settings: uploads::UploadSettings) -> ExitCode {
    let to = settings.to.clone();
    match uploads::check(settings) {
        Ok(()) => {
            tracing::info!("objects can be put to {to}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("no object can be put to {to}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn extract(arguments: Arguments, progress: &Progress) -> anyhow::Result<Outcome> {
    let (threads, no_sandbox) = (arguments.threads, arguments.no_sandbox);
    let config = arguments.config();
    // The sandbox must be entered before there is another thread.
    if !no_sandbox {
        sandbox::enter(&config);
    }
    // A watch handles SIGTERM itself, and ends in order.
    if !config.source.stays() {
        progress.heed_interrupts();
    }
    start_threads(threads)?;
    run(&config, progress)
}

fn summarise(report: &Report, format: LogFormat, progress: &Progress) {
    match format {
        LogFormat::Text => progress.say(|columns| report.in_columns(columns)),
        LogFormat::Json => progress.say(|_| json(report).to_string()),
    }
}

/// The closing summary for programs: a log line in JSON, with nested values that a log line cannot
/// have.
fn json(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "timestamp": jiff::Timestamp::now().to_string(),
        "level": "INFO",
        "message": "done",
        "calls": report.calls.total(),
        "completed": report.calls.completed,
        "cancelled": report.calls.cancelled,
        "failed": report.calls.failed,
        "timeout": report.calls.timeout,
        "incomplete": report.calls.incomplete,
        "left_out": report.calls.not_wanted,
        "streams": report.calls.streams,
        "rtp_packets": report.calls.rtp_packets,
        "lost_packets": report.calls.lost_packets,
        "packets": report.counts.packets,
        "sip_messages": report.counts.sip,
        "bytes": report.input_bytes,
        "seconds": report.elapsed.as_secs_f64(),
        "left_behind": report.left_behind(),
        "uploaded": report.uploads.sent,
        "uploaded_before": report.uploads.there_before,
        "uploaded_bytes": report.uploads.sent_bytes,
        "waiting_for_upload": report.uploads.waiting,
        "lost_before_upload": report.uploads.lost,
        "unsent_tables": report.uploads.unsent_tables,
        "not_used": report.not_used().map(|(count, what)| (what, count.into())).collect::<serde_json::Map<_, _>>(),
        "no_call": report.survey.told().collect::<Vec<_>>(),
    })
}
