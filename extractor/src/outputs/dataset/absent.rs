//! The replacement of the writer in a build without the feature `parquet`: it refuses to write.

use std::fs::File;

use anyhow::{Result, bail};

use super::{super::columns::Table, MISSING, Row};

/// A type without values: this build has no writer.
#[derive(Debug)]
pub(super) enum FileWriter {}

impl FileWriter {
    pub(super) fn begin(_file: File, _table: &Table) -> Result<Self> {
        bail!(MISSING)
    }

    pub(super) fn write(&mut self, _rows: &[Row]) -> Result<()> {
        match *self {}
    }

    pub(super) fn end(self) -> Result<()> {
        match self {}
    }
}
