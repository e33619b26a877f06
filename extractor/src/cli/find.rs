//! The command `find`.

use std::{env, ffi::OsString, path::PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, error::ErrorKind, parser::ValueSource};
use shared::{s3_uri::S3Uri, units::GoDuration};

use super::{
    calls::{CallArguments, ProblemArguments, SoundArguments},
    common::{QuietArguments, ReadingArguments, SizeArguments},
    output::OutputArguments,
    timers::TimerArguments,
    times,
    uploads::{StoreArguments, on_this_host},
};
use crate::{
    config::{Config, Source, UnitLen},
    find::{Form, Place, Task, query::Query},
    outputs::{OutputSettings, uploads},
    progress::Verbosity,
    source::Scratch,
};

/// Finds calls in stored segments: a table on standard output, or with -o their files, rows and
/// records, as a run over all segments writes them.
///
/// QUERY is a part of any field, such as a number, or a condition: 'from ~ 4930123 and status >=
/// 400 and ip = 192.0.2.0/24 and time > -2h'. `docs/find.md` describes it. Segments are searched by
/// the files that `sip-call-extractor index` makes; one without them is read.
///
/// Exit status: 0 calls were found; 1 none was found, or the archive cannot be read; 2 wrong usage;
/// 3 calls were found, but segments could not be read (the log names them).
#[derive(Debug, Parser)]
#[command(
    name = "sip-call-extractor find",
    bin_name = "sip-call-extractor find",
    version,
    max_term_width = 100
)]
#[command(override_usage = "sip-call-extractor find [OPTIONS] --input-dir DIR [QUERY]...")]
pub struct FindArguments {
    /// The query; several words are one.
    #[arg(value_name = "QUERY", hide = true)]
    query: Vec<String>,

    /// Print only the last N calls.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Which calls")]
    last: Option<u32>,

    /// Find the other legs of the conversations of these calls, too, also those that other flags
    /// leave out.
    ///
    /// --conversations does so as well, and writes with -o a pcap for each conversation. Legs are
    /// known from --lookback before the calls on, until no call can join their conversations.
    #[arg(long, help_heading = "Which calls")]
    conversation: bool,

    #[command(flatten, next_help_heading = "Input")]
    input: FindInput,

    #[command(flatten, next_help_heading = "Input")]
    store: StoreArguments,

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

    #[command(flatten, next_help_heading = "Logging")]
    quiet: QuietArguments,

    #[command(flatten)]
    sizes: SizeArguments,

    /// Threads; 0 for one per processor.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub threads: usize,

    /// True with --output-dir: calls are extracted.
    #[arg(skip)]
    extracts: bool,
}

/// A directory, or a prefix in a store.
fn place(text: &str) -> Result<Place, String> {
    if !text.starts_with("s3://") {
        return Ok(Place::Directory(text.into()));
    }
    let uri = text.parse::<S3Uri>().map_err(|error| error.to_string())?;
    Ok(Place::Store(on_this_host(&uri)))
}

#[derive(Clone, Debug, clap::Args)]
struct FindInput {
    /// Look into the segments in this directory, or below this prefix in a store:
    /// s3://bucket/prefix/. May be repeated.
    #[arg(long, value_name = "DIR", required = true, value_parser = place)]
    input_dir: Vec<Place>,

    /// The indexes are in this directory, and not beside the segments.
    #[arg(long, value_name = "DIR")]
    index_dir: Option<PathBuf>,

    /// Fail if a segment has no index that can be used, instead of reading the segment.
    #[arg(long)]
    strict: bool,

    /// Read the media of the calls, too, for all figures of the list and of the query.
    #[arg(long)]
    measure: bool,

    /// With -o: begin to read this long before the first message of the calls.
    ///
    /// A call that is open then may hold an endpoint that they use. Calls that have been silent and
    /// open for longer are not known.
    #[arg(long, value_name = "DURATION", default_value = "4h0m0s")]
    lookback: GoDuration,

    #[command(flatten)]
    reading: ReadingArguments,
}

impl FindArguments {
    /// Reads the words of a command line; ends the program with exit status 2 and a sentence if they
    /// are wrong.
    #[must_use]
    pub fn read(words: impl Iterator<Item = OsString>) -> Self {
        let matches = Self::command().get_matches_from(words);
        let extracts = matches.value_source("output_dir") == Some(ValueSource::CommandLine);
        let arguments = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        Self {
            extracts,
            ..arguments
        }
    }

    /// How much the log says. A list needs no word on how it came about.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.quiet.verbosity()
    }

    /// The directory of temporary files for compressed captures.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        self.input.reading.scratch()
    }

    /// The directories that are written to.
    #[must_use]
    pub fn written(&self) -> Vec<PathBuf> {
        let output = self.extracts.then(|| self.output.output_dir.clone());
        output.into_iter().chain([env::temp_dir()]).collect()
    }

    /// The task, for a terminal with this many columns; ends the program with exit status 2 and a
    /// sentence if the query is none.
    #[must_use]
    pub fn task(self, columns: usize) -> Task {
        let refuse = |why: String| -> ! {
            Self::command()
                .error(ErrorKind::ValueValidation, why)
                .exit()
        };
        let text = self.query.join(" ");
        let query =
            Query::parse(&text, &times::compared).unwrap_or_else(|error| refuse(error.to_string()));
        let selection = self.calls.selection(self.sound, &self.output);
        if !self.input.measure {
            if let Some(field) = query.field_of_media() {
                let name = field.name();
                refuse(format!(
                    "`{name}` is a figure of media, which is not read; add --measure"
                ));
            }
            if !selection.problems.are_none() {
                refuse("problems are found in media, which is not read; add --measure".to_owned());
            }
        }
        let in_store = self.input.input_dir.iter().find_map(|place| match place {
            Place::Store(uri) => Some(uri),
            Place::Directory(_) => None,
        });
        let store = in_store.map(|uri| {
            let settings = self.store.settings(uri, uploads::region);
            settings.unwrap_or_else(|why| refuse(why))
        });
        Task {
            query,
            last: self.last.map(|last| last as usize),
            lookback_ns: self.input.lookback.as_ns(),
            measures: self.input.measure,
            is_strict: self.input.strict,
            brings_legs: self.conversation || self.output.conversations,
            extracts: self.extracts,
            form: if self.output.json {
                Form::Json
            } else {
                Form::Table(columns)
            },
            config: Config {
                uploads: None,
                source: Source::Files(Vec::new()),
                resets: false,
                max_decompressed: self.input.reading.max_decompressed,
                unit: UnitLen::default(),
                sip_ports: self.input.reading.sip_ports_range,
                rules: self.timers.rules(),
                links: self.timers.links(),
                outputs: OutputSettings {
                    location: None,
                    selection,
                    directory: self.output.output_dir,
                    detected_calls_filename: self.output.detected_calls_filename,
                    stats_filename: self.output.stats_filename,
                    columns: self.output.columns,
                    thresholds: self.problems.thresholds(),
                    overwrite: self.output.overwrite,
                    shows_digits: self.output.dtmf_digits,
                    writes_json: self.output.json,
                    writes_messages: false,
                    reports_every: None,
                    writes_conversations: self.output.conversations,
                    parquet: None,
                    tells_of_calls: false,
                    syncs: false,
                },
                sizes: self.sizes.sizes(),
                decoder: self.input.reading.decoder.decoder(),
                report: None,
                indexes: None,
            },
            places: self.input.input_dir,
            store,
            index_directory: self.input.index_dir,
        }
    }
}
