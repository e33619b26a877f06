//! The settings of the outputs.

use std::path::PathBuf;

use shared::s3_uri::S3Uri;

use super::{Columns, Every};
use crate::{problems::Thresholds, selection::Selection};

/// The settings of the outputs.
#[derive(Clone, Debug)]
pub struct OutputSettings {
    /// The output directory.
    pub directory: PathBuf,
    /// The name of the CSV file with a row for each call.
    pub detected_calls_filename: PathBuf,
    /// The name of the CSV file with a row for each stream.
    pub stats_filename: PathBuf,
    /// The columns of both.
    pub columns: Columns,
    /// The values from which on something is a problem of a call.
    pub thresholds: Thresholds,
    /// True when a call's file may replace an existing file.
    pub overwrite: bool,
    /// The selection of calls that get a file.
    pub selection: Selection,
    /// The location of the call files as objects, if they are uploaded.
    pub location: Option<S3Uri>,
    /// True when the table of calls has the digits that were pressed, and not only their number.
    pub shows_digits: bool,
    /// True when there are records in JSON, for which calls have journals and streams have series.
    pub writes_json: bool,
    /// True when these records have the texts of messages.
    pub writes_messages: bool,
    /// How much time a report of these records covers, if there is one for each stretch.
    pub reports_every: Option<Every>,
    /// True when each conversation of two legs or more has a file, too.
    pub writes_conversations: bool,
    /// The directory of Parquet files, from the root, if the user wants them.
    pub parquet: Option<PathBuf>,
    /// True when the log has a line for each call, for services. A user at a terminal reads the
    /// table instead.
    pub tells_of_calls: bool,
    /// True when all data of a unit of work must be on the disk before it counts as done, so that a
    /// power loss cannot undo it.
    pub syncs: bool,
}
