//! The command `report`, and the flags for a report of a run.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::{OutputArguments, common::QuietArguments};
use crate::{
    outputs::Every,
    progress::Verbosity,
    report_page::{Settings, Task, Without},
};

/// Calls with details, without a flag.
const DETAILS: u32 = 10_000;

/// Writes one HTML file with the calls of some records, worst first: a list, and for each call its
/// ladder, its messages and the course of its streams.
///
/// RECORDS is a calls.jsonl of earlier runs with --json or --report, or a directory that holds one; or
/// a directory of Parquet files (--parquet), which has neither messages nor the course of streams. The
/// file needs no server and no network, so it can be sent by mail.
///
/// Exit status: 0 all done; 1 failed; 2 wrong usage; 3 done, but some lines are no records, and were
/// left out.
#[derive(Debug, Parser)]
#[command(
    name = "sip-call-extractor report",
    bin_name = "sip-call-extractor report",
    version,
    max_term_width = 100
)]
#[command(override_usage = "sip-call-extractor report [OPTIONS] RECORDS... -o FILE.html")]
pub struct ReportArguments {
    /// Files of records, or directories that hold a calls.jsonl or Parquet files.
    #[arg(value_name = "RECORDS", required = true)]
    records: Vec<PathBuf>,

    /// The file to write; one that is there is replaced.
    #[arg(long, short, value_name = "FILE")]
    output_file: PathBuf,

    /// Keep the details of at most this many calls, the worst; the others have rows only.
    #[arg(long, alias = "report-details", value_name = "N", default_value_t = DETAILS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    details: u32,

    /// Leave out messages (their texts), numbers (of phones, and names), or both:
    /// messages,numbers.
    #[arg(long, alias = "report-without", value_name = "WHAT")]
    without: Option<Without>,

    #[command(flatten, next_help_heading = "Logging")]
    quiet: QuietArguments,
}

impl ReportArguments {
    /// How much the log says.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.quiet.verbosity()
    }

    /// The task.
    #[must_use]
    pub fn task(self) -> Task {
        Task {
            records: self.records,
            to: self.output_file,
            details: usize::try_from(self.details).unwrap_or(usize::MAX),
            without: self.without.unwrap_or_default(),
            part: None,
        }
    }
}

/// The flags for a report of a run.
#[derive(Clone, Debug, Args)]
pub(super) struct RunReportArguments {
    /// Write a report of the calls, too: one HTML file that needs no server, for a mail or a ticket.
    ///
    /// It has all records of the output directory, those of earlier runs, too. The run writes
    /// calls.jsonl for it, with the texts of messages: see --json and --json-messages.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,

    /// Write a report for each hour or day, UTC: with --report calls.html, calls-2026-11-29T14.html
    /// or calls-2026-11-29.html has the calls that began then.
    ///
    /// A report is made anew when it has new calls: while a run goes on, as often as takes a
    /// twentieth of its time; else at its end.
    #[arg(long, value_name = "WHICH", requires = "report", value_enum)]
    report_every: Option<Every>,

    /// Keep the details of at most this many calls in a report, the worst; the others have rows
    /// only.
    #[arg(long, value_name = "N", default_value_t = DETAILS, requires = "report", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    report_details: u32,

    /// Leave out of a report: messages (their texts), numbers (of phones, and names), or both:
    /// messages,numbers.
    #[arg(long, value_name = "WHAT", requires = "report")]
    report_without: Option<Without>,
}

impl RunReportArguments {
    /// The report that the run writes.
    pub(super) fn settings(&self) -> Option<Settings> {
        Some(Settings {
            to: self.report.clone()?,
            details: usize::try_from(self.report_details).unwrap_or(usize::MAX),
            without: self.report_without.unwrap_or_default(),
            every: self.report_every,
        })
    }

    /// True when the run writes records.
    pub(super) fn writes_json(&self, output: &OutputArguments) -> bool {
        output.json || output.json_messages || self.report.is_some()
    }

    /// True when the records have the texts of messages.
    pub(super) fn writes_messages(&self, output: &OutputArguments) -> bool {
        let is_for_report =
            self.report.is_some() && self.report_without.is_none_or(Without::keeps_messages);
        output.json_messages || is_for_report
    }
}
