//! The command line.

mod calls;
mod common;
mod explain;
mod find;
mod index;
mod input;
mod operands;
mod output;
mod report;
mod timers;
mod times;
mod uploads;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{ArgGroup, CommandFactory, Parser, error::ErrorKind};
use shared::{config_file, log::LogFormat};

use self::{
    calls::{CallArguments, ProblemArguments, SoundArguments},
    common::SizeArguments,
    input::InputArguments,
    output::OutputArguments,
    report::RunReportArguments,
    timers::TimerArguments,
    uploads::UploadArguments,
};
pub use self::{
    explain::ExplainArguments, find::FindArguments, index::IndexArguments, report::ReportArguments,
};
use crate::{
    config::{Config, UnitLen},
    outputs::{
        HAS_PARQUET, JSON_NAME, OutputSettings, PARQUET_MISSING, is_of_a_call, uploads as store,
    },
    progress::Verbosity,
    report_page,
    segments::{AfterProcessing, whole_path},
};

/// Extracts every SIP call of a capture: one pcap per call with its signalling and media,
/// `detected_calls.csv` with a row per call, `calls_statistics.csv` with a row per RTP stream.
///
/// FILE is a capture; several are one capture, in the order of their first packets. DIR is a
/// directory with segments: see --input-dir.
///
/// Durations are written as 500ms, 5s, 5m0s or 1h30m, and measured in packet time (the timestamps
/// of the capture) unless a flag says otherwise; sizes as 65536, 64KiB, 20GiB, 10GB.
///
/// With `explain` as its first word, the program explains a call instead: see `sip-call-extractor
/// explain --help`. With `index` it indexes stored segments, and with `find` it finds calls in them;
/// with `report` it makes an HTML file of earlier records. A file of one of these names is ./explain.
///
/// Exit status: 0 all done; 1 failed; 2 wrong usage; 3 done, but a part of the input or of the
/// uploads was left out (the log and the closing summary name it).
#[derive(Debug, Parser)]
#[command(name = "sip-call-extractor", version, max_term_width = 100)]
#[command(
    override_usage = "sip-call-extractor [OPTIONS] FILE...\n       sip-call-extractor [OPTIONS] DIR..."
)]
#[command(group(ArgGroup::new("captures").args(["input_file", "input_dir"])))]
pub struct Arguments {
    /// Read flags from this TOML file, by their names; the command line wins.
    ///
    /// Its lines look like `input-dir = ["/a", "/b"]`, `linger = "10s"`, `watch = true` and `since
    /// = 2023-12-01T14:30:00Z`. A flag of the file is left out when the command line gives it, or
    /// gives one that excludes it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Keep the right to write to any directory: do not enter the sandbox (Landlock).
    #[arg(long)]
    pub no_sandbox: bool,

    #[command(flatten, next_help_heading = "Input")]
    input: InputArguments,

    #[command(flatten, next_help_heading = "Which calls")]
    calls: CallArguments,

    #[command(flatten, next_help_heading = "Calls and timers")]
    timers: TimerArguments,

    #[command(flatten, next_help_heading = "Problems of calls")]
    problems: ProblemArguments,

    #[command(flatten, next_help_heading = "Output")]
    output: OutputArguments,

    #[command(flatten, next_help_heading = "Output")]
    sound: SoundArguments,

    #[command(flatten, next_help_heading = "Output")]
    report: RunReportArguments,

    #[command(flatten, next_help_heading = "Uploads")]
    uploads: UploadArguments,

    /// Format of the log lines.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Logging"
    )]
    pub log_format: LogFormat,

    /// Log errors only, and print no summary: cron then mails nothing when all is well.
    #[arg(
        long,
        short,
        conflicts_with = "debug",
        overrides_with = "quiet",
        help_heading = "Logging"
    )]
    quiet: bool,

    /// Log more: each call, which description gave which endpoint, and why messages and media
    /// belong to no call.
    ///
    /// The environment variable RUST_LOG, if set, selects the log lines instead.
    #[arg(
        long,
        short = 'v',
        visible_alias = "verbose",
        overrides_with = "debug",
        help_heading = "Logging"
    )]
    debug: bool,

    #[command(flatten)]
    sizes: SizeArguments,

    /// Bytes of input after which the state is saved, at least.
    #[arg(long, value_name = "BYTES", hide = true)]
    unit_bytes: Option<u64>,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Extract calls, or try a store.
    Extract(Box<Arguments>),
    /// Explain calls.
    Explain(Box<ExplainArguments>),
    /// Index segments.
    Index(Box<IndexArguments>),
    /// Find calls in stored segments.
    Find(Box<FindArguments>),
    /// Make a report of records.
    Report(Box<ReportArguments>),
}

impl Command {
    /// Reads the command line; ends the program with exit status 2 and a sentence if it is wrong.
    #[must_use]
    pub fn read() -> Self {
        let line: Vec<OsString> = env::args_os().collect();
        let command = line
            .get(1)
            .and_then(|word| word.to_str())
            .unwrap_or_default();
        let words = line.iter().enumerate();
        let words = words.filter(|(place, _)| *place != 1).map(|(_, word)| word);
        let words = words.cloned();
        match command {
            "explain" => return Self::Explain(Box::new(ExplainArguments::parse_from(words))),
            "index" => return Self::Index(Box::new(IndexArguments::parse_from(words))),
            "report" => return Self::Report(Box::new(ReportArguments::parse_from(words))),
            "find" => return Self::Find(Box::new(FindArguments::read(words))),
            _ => {}
        }
        Self::Extract(Box::new(Arguments::read()))
    }
}

impl Arguments {
    /// Reads the command line; ends the program with exit status 2 and a sentence if it is wrong.
    #[must_use]
    pub fn read() -> Self {
        let mut command = Self::command();
        command.build();
        let line: Vec<OsString> = env::args_os().collect();
        let line = operands::with_flags(&line, &command)
            .unwrap_or_else(|(kind, words)| command.error(kind, words).exit());
        let mut arguments: Self =
            config_file::arguments(&line).unwrap_or_else(|error| error.exit());
        if !store::ARE_BUILT_IN && arguments.uploads.need_a_store() {
            Self::command()
                .error(ErrorKind::InvalidValue, store::MISSING)
                .exit();
        }
        if arguments.output.parquet.is_some() && !HAS_PARQUET {
            Self::command()
                .error(ErrorKind::InvalidValue, PARQUET_MISSING)
                .exit();
        }
        if arguments.uploads.need_a_store() && arguments.uploads.s3_region.is_none() {
            arguments.uploads.s3_region =
                store::region().and_then(|found| uploads::region(&found).ok());
            if arguments.uploads.s3_region.is_none() {
                Self::command()
                    .error(ErrorKind::MissingRequiredArgument, uploads::NO_REGION)
                    .exit();
            }
        }
        let given = config_file::given(&line);
        let is_given = |flag: &str| given.contains(OsStr::new(flag));
        if is_given("s3-check") && !is_given("input-file") && !is_given("input-dir") {
            // A file of flags names the store; its captures are not read.
            arguments.input.input_file.clear();
            arguments.input.input_dir.clear();
        }
        if !arguments.input.has_captures() && !arguments.uploads.s3_check {
            let why = "no captures: name files, such as sip-call-extractor big.pcap, or a directory of segments";
            Self::command()
                .error(ErrorKind::MissingRequiredArgument, why)
                .exit();
        }
        if arguments.output.detected_calls_filename == arguments.output.stats_filename {
            let why = "--detected-calls-filename and --stats-filename name the same file; give them different names";
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        let tables = [
            &arguments.output.detected_calls_filename,
            &arguments.output.stats_filename,
        ];
        let is_json = |table: &&PathBuf| table.file_name() == Some(OsStr::new(JSON_NAME));
        if arguments.report.writes_json(&arguments.output) && tables.iter().any(is_json) {
            let why = "--json and --report write calls.jsonl; give the tables other names";
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if arguments.uploads.s3_check
            && !arguments.uploads.auto_upload_to_s3
            && arguments.input.has_captures()
        {
            let why = "--s3-check is for uploads; give --auto-upload-to-s3 with it, or no captures";
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if arguments.uploads.s3_upload_csv
            && arguments.output.detected_calls_filename.file_name()
                == arguments.output.stats_filename.file_name()
        {
            let why = "--detected-calls-filename and --stats-filename would be the same object; give them different names";
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if let (Some(since), Some(until)) = (&arguments.calls.since, &arguments.calls.until)
            && until.named.at < since.named.at
        {
            let why = format!(
                "--until {} is before --since {}: no call would be wanted",
                until.named.at, since.named.at
            );
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        if let Some(why) = arguments.directories_in_conflict() {
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit();
        }
        arguments
    }

    /// Sentences that say how times without a zone were understood.
    pub fn notices(&self) -> impl Iterator<Item = String> {
        let times = [
            ("--since", &self.calls.since),
            ("--until", &self.calls.until),
        ];
        times
            .into_iter()
            .filter_map(|(flag, time)| Some(format!("{flag} {}", time.as_ref()?.notice.as_ref()?)))
    }

    /// How much the log says.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.debug) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Usual,
        }
    }

    fn directories_in_conflict(&self) -> Option<String> {
        // A directory has many names; the whole path has no links in it.
        let inputs: Vec<PathBuf> = self
            .input
            .input_dir
            .iter()
            .map(|path| whole_path(path))
            .collect();
        let twice = inputs
            .iter()
            .enumerate()
            .find(|(number, path)| inputs.iter().take(*number).any(|other| other == *path));
        if let Some((_, path)) = twice {
            return Some(format!(
                "--input-dir {} is given twice; give it once",
                path.display()
            ));
        }
        let output = whole_path(&self.output.output_dir);
        let is_result =
            |path: &&PathBuf| is_of_a_call(path) && whole_path(path).parent() == Some(&output);
        if self.input.input_file.len() > 1
            && let Some(result) = self.input.input_file.iter().find(is_result)
        {
            let why = "is a call's file in the output directory: its packets would count twice";
            return Some(format!(
                "{} {why}; name the captures alone, or another --output-dir",
                result.display()
            ));
        }
        if inputs.contains(&output) {
            let why = "is an input directory, too, where the calls' files would be taken for segments; name another one";
            return Some(format!(
                "--output-dir {} {why}",
                self.output.output_dir.display()
            ));
        }
        match &self.input.after_processing {
            AfterProcessing::Move(to) if inputs.contains(&whole_path(to)) => Some(format!(
                "--after-processing move:{} names an input directory; name another one",
                to.display()
            )),
            _ => None,
        }
    }

    /// The settings of a command that only tries whether objects can be stored.
    #[must_use]
    pub fn check(&self) -> Option<store::UploadSettings> {
        self.store()
            .filter(|_| self.uploads.s3_check && !self.input.has_captures())
    }

    /// The one report that the run writes at its end.
    #[must_use]
    pub fn report(&self) -> Option<report_page::Task> {
        let settings = self.report.settings()?;
        let is_one = settings.every.is_none();
        is_one.then(|| settings.task(&self.output.output_dir))
    }

    fn store(&self) -> Option<store::UploadSettings> {
        self.uploads.settings(self.output.overwrite)
    }

    /// The run that the arguments ask for.
    #[must_use]
    pub fn config(self) -> Config {
        let location = self.uploads.location();
        let (writes_json, writes_messages) = (
            self.report.writes_json(&self.output),
            self.report.writes_messages(&self.output),
        );
        Config {
            report: self.report.settings(),
            uploads: self.store().filter(|_| self.uploads.auto_upload_to_s3),
            source: self.input.source(),
            resets: self.input.reset_state,
            max_decompressed: self.input.max_decompressed,
            unit: self
                .unit_bytes
                .map_or_else(UnitLen::default, UnitLen::Exactly),
            sip_ports: self.input.sip_ports_range,
            links: self.timers.links(),
            rules: self.timers.rules(),
            outputs: OutputSettings {
                location,
                selection: self.calls.selection(self.sound, &self.output),
                directory: self.output.output_dir,
                detected_calls_filename: self.output.detected_calls_filename,
                stats_filename: self.output.stats_filename,
                columns: self.output.columns,
                thresholds: self.problems.thresholds(),
                overwrite: self.output.overwrite,
                shows_digits: self.output.dtmf_digits,
                writes_json,
                writes_messages,
                reports_every: self.report.settings().and_then(|report| report.every),
                writes_conversations: self.output.conversations,
                parquet: self.output.parquet.as_deref().map(whole_path),
                tells_of_calls: !self.input.input_dir.is_empty(),
                // A run over files is as fast as a copy, without syncing; it can be repeated.
                syncs: !self.output.no_sync && !self.input.input_dir.is_empty(),
            },
            sizes: self.sizes.sizes(),
            indexes: self.input.indexes(),
            decoder: self.input.decoder(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
        let help = Arguments::command().render_long_help().to_string();
        assert!(
            help.starts_with("Extracts every SIP call of a capture"),
            "{help}"
        );
        let headings: Vec<&str> = help
            .lines()
            .filter(|line| line.ends_with(':') && !line.starts_with(' '))
            .collect();
        assert_eq!(
            headings,
            [
                "Options:",
                "Input:",
                "Which calls:",
                "Calls and timers:",
                "Problems of calls:",
                "Output:",
                "Uploads:",
                "Logging:"
            ]
        );
    }

    #[test]
    fn a_uri_alone_needs_no_store() {
        let needs_a_store = |flags: &[&str]| {
            let line = [
                "sip-call-extractor",
                "--s3-uri",
                "s3://calls/",
                "--s3-region",
                "eu-central-1",
            ];
            Arguments::try_parse_from(line.iter().chain(flags))
                .unwrap()
                .uploads
                .need_a_store()
        };
        assert!(!needs_a_store(&["--input-file", "a.pcap"]));
        assert!(needs_a_store(&[
            "--input-file",
            "a.pcap",
            "--auto-upload-to-s3"
        ]));
        assert!(needs_a_store(&["--s3-check"]));
    }
}
