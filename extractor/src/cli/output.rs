//! Flags for the output directory and the form of the results.

use std::path::PathBuf;

use clap::Args;

use crate::outputs::Columns;

#[derive(Clone, Debug, Args)]
pub(super) struct OutputArguments {
    /// Directory for the results; it is made if it is not there.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(super) output_dir: PathBuf,

    /// Name of the table with a row per call; it must not be a symbolic link.
    #[arg(long, value_name = "NAME", default_value = "detected_calls.csv")]
    pub(super) detected_calls_filename: PathBuf,

    /// Name of the table with a row per RTP stream; it must not be a symbolic link.
    #[arg(long, value_name = "NAME", default_value = "calls_statistics.csv")]
    pub(super) stats_filename: PathBuf,

    /// Columns of both tables: all, or classic for those of the version before.
    ///
    /// A table goes on with the columns with which it was begun.
    #[arg(long, value_name = "WHICH", default_value_t, value_parser = columns)]
    pub(super) columns: Columns,

    /// Replace calls' files that are there already, and their rows, instead of choosing another
    /// name.
    ///
    /// Without it, the new file is named `..._2.pcap`, and rows are appended.
    #[arg(long)]
    pub(super) overwrite: bool,

    /// Write a file only for calls with at least this many SIP messages.
    ///
    /// Scanners send one message and no more. The other calls keep their rows, without a file name.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) min_messages: u64,

    /// Write the tables only, no call files.
    ///
    /// The rows are as with files, without a file name. It takes about two thirds of the time.
    #[arg(long)]
    pub(super) no_pcaps: bool,

    /// Write a pcap for each conversation of two legs or more, too, with the frames of all its legs:
    /// `conversation_...pcap`, named like the `conversation_id` of its first leg.
    ///
    /// It is written when no call can join it any more: ten minutes of packet time after its last leg
    /// has closed, or at the end of the input.
    #[arg(long, conflicts_with = "no_pcaps")]
    pub(super) conversations: bool,

    /// Write the digits that were pressed (DTMF) to the column `dtmf` and to calls.jsonl, instead of
    /// their number.
    ///
    /// They may be PINs and numbers of cards.
    #[arg(long)]
    pub(super) dtmf_digits: bool,

    /// Write calls.jsonl, too: a JSON object a call, with its messages, media descriptions, streams
    /// and their course.
    ///
    /// `docs/records.md` describes it. A file of another version is refused.
    #[arg(long)]
    pub(super) json: bool,

    /// Write calls.jsonl with the texts of messages, up to 16 KiB each and 1 MiB a call.
    ///
    /// Keys are blanked; digits that INFO carries are left out without --dtmf-digits.
    #[arg(long)]
    pub(super) json_messages: bool,

    /// Write both tables as Parquet files, too: DIR/calls/dt=2023-12-01/ and DIR/streams/dt=2023-12-01/,
    /// by the day on which a call began, UTC.
    ///
    /// `docs/records.md` describes them. Each unit of work adds files, which never change.
    #[arg(long, value_name = "DIR")]
    pub(super) parquet: Option<PathBuf>,

    /// Do not wait for the disk: for scratch work.
    ///
    /// A run that was killed can be resumed all the same; one that a loss of power ended cannot.
    #[arg(long)]
    pub(super) no_sync: bool,
}

fn columns(text: &str) -> Result<Columns, String> {
    [Columns::All, Columns::Classic]
        .into_iter()
        .find(|columns| columns.to_string() == text)
        .ok_or_else(|| "write all or classic".to_owned())
}
