//! The user's wishes for the outputs.

use std::path::PathBuf;

use shared::s3_uri::S3Uri;

use crate::selection::Selection;

/// The user's wishes for the outputs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory that they go to.
    pub directory: PathBuf,
    /// The name of the file with a row a call.
    pub detected_calls_filename: PathBuf,
    /// The name of the file with a row a stream.
    pub stats_filename: PathBuf,
    /// A call's file may replace one that is there.
    pub overwrite: bool,
    /// The calls that get a file.
    pub selection: Selection,
    /// The place where the calls' files are, or will be, as objects.
    pub location: Option<S3Uri>,
    /// The log has a line for each call: for services. A person at a terminal, who may have
    /// thousands of them, reads the table.
    pub tells_of_calls: bool,
    /// The disk has all of a unit of work before that counts as done: a loss of power must not undo
    /// it.
    pub syncs: bool,
}
