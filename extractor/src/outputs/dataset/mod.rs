//! Parquet files (docs/records.md): `DIR/calls/dt=2023-12-01/<run>-<unit>.parquet`, and the same for
//! streams. A unit of work writes new files only, so files of different runs never meet.
//!
//! Rows wait in memory, up to a bound, and then become a group of rows in the file of their day. A
//! file is hidden until the state lists it as complete.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: writes Parquet files and renames them; the clock gives a run its name"
)]

#[cfg(not(feature = "parquet"))]
mod absent;
mod names;
#[cfg(feature = "parquet")]
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(not(feature = "parquet"))]
use self::absent::FileWriter;
pub(super) use self::names::RunName;
use self::names::{TABLES, day_of, file_name, folder};
#[cfg(feature = "parquet")]
use self::writer::FileWriter;
use super::{
    columns::{DETECTED_CALLS, STATISTICS, Table},
    parts::{hidden, open_for_appending, remove, unhidden},
    value::Value,
};
use crate::{segments::whole_path, source::NamedInput};

/// True when this program can write Parquet files.
pub const IS_BUILT_IN: bool = cfg!(feature = "parquet");

/// The sentence that refuses the flag without the feature.
pub const MISSING: &str = "this program is built without Parquet; `cargo build --release -p sip-call-extractor` builds it with it";

/// The most rows that wait for a file, of each table, and so in a group of rows.
const MAX_ROWS: usize = 65_536;
/// The most bytes of values that wait for a file, of each table, about. Header fields may be long.
const MAX_BYTES: usize = 32 << 20;
/// The most files that are open, of each table: calls of a unit of work may have begun on any day.
/// Beyond that, the file of the earliest day is ended; rows of that day begin another one.
const MAX_OPEN: usize = 16;

/// The values of a row.
type Row = Vec<Value>;

/// The rows of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DatasetRows {
    /// The start of the call, which gives the day, in nanoseconds since 1970.
    pub(super) start_ns: u64,
    /// The row of the call.
    pub(super) call: Row,
    /// The rows of its streams.
    pub(super) streams: Vec<Row>,
}

/// The files, as the state knows them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DatasetProgress {
    /// The run, which may be several processes, one after the other.
    run: RunName,
    /// The number of the unit of work.
    unit: u64,
    /// The complete files of the unit, ready to be published: paths below the directory.
    complete: Vec<String>,
    /// Files of earlier runs over the same inputs, which this run replaces.
    obsolete: Vec<String>,
}

impl DatasetProgress {
    /// The progress of a run that begins.
    pub(super) fn begin(run: RunName) -> Self {
        Self {
            run,
            ..Self::default()
        }
    }
}

impl RunName {
    /// The name of a run that begins now, with this output directory, over these files, or over
    /// directories.
    pub(super) fn begin(output: &Path, files: Option<&[NamedInput]>) -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self::new(
            host.as_encoded_bytes(),
            &whole_path(output),
            files,
            Timestamp::now(),
        )
    }
}

/// The directory of Parquet files.
#[derive(Debug)]
pub(super) struct Dataset {
    path: PathBuf,
    syncs: bool,
    calls: TableFiles,
    streams: TableFiles,
}

/// The files of a table that the unit of work writes.
#[derive(Debug)]
struct TableFiles {
    table: &'static Table,
    name: &'static str,
    /// Rows that are in no file yet, by day.
    waiting: BTreeMap<u64, Vec<Row>>,
    waiting_rows: usize,
    waiting_bytes: usize,
    /// The files that are being written, by day: their paths below the directory.
    open: BTreeMap<u64, (String, FileWriter)>,
    /// The number of files that the unit has begun for each day.
    begun: BTreeMap<u64, u64>,
    /// The ended files.
    complete: Vec<String>,
}

impl Dataset {
    /// The files below a directory, which need not exist yet.
    pub(super) fn new(path: &Path, syncs: bool) -> Self {
        let [calls, streams] = TABLES;
        Self {
            path: path.to_owned(),
            syncs,
            calls: TableFiles::new(DETECTED_CALLS, calls),
            streams: TableFiles::new(STATISTICS, streams),
        }
    }

    /// Removes the hidden files that a killed process of this run left.
    pub(super) fn cut_back(&self, progress: &DatasetProgress) -> Result<()> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("the directory {} cannot be made", self.path.display()))?;
        let known: BTreeSet<PathBuf> = progress
            .complete
            .iter()
            .map(|file| self.part(file))
            .collect();
        self.for_each_file(&mut |path, name| {
            let is_ours = unhidden(name).is_some_and(|name| progress.run.shares_place(name));
            if is_ours && !known.contains(&path) {
                remove(&path)?;
            }
            Ok(())
        })
    }

    /// Adds the rows of a call.
    pub(super) fn push(&mut self, rows: DatasetRows, progress: &DatasetProgress) -> Result<()> {
        let day = day_of(rows.start_ns);
        self.calls.push(&self.path, progress, day, rows.call)?;
        for stream in rows.streams {
            self.streams.push(&self.path, progress, day, stream)?;
        }
        Ok(())
    }

    /// Ends the files of the unit of work, and syncs them to disk.
    pub(super) fn prepare(&mut self, progress: &mut DatasetProgress) -> Result<()> {
        for table in [&mut self.calls, &mut self.streams] {
            table.end_all(&self.path, progress)?;
            progress.complete.append(&mut table.complete);
        }
        if self.syncs {
            let path = self.path.display();
            // This also makes the names durable that the unit before was published under.
            File::open(&self.path)
                .and_then(|directory| Ok(nix::unistd::syncfs(&directory)?))
                .with_context(|| format!("the files in {path} cannot be synced to disk"))?;
        }
        Ok(())
    }

    /// Gives the complete files their names, and begins the next unit of work. An interrupted
    /// publication is done again.
    pub(super) fn publish(&self, progress: &mut DatasetProgress) -> Result<()> {
        for file in &progress.complete {
            let (part, path) = (self.part(file), self.path.join(file));
            match fs::rename(&part, &path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| {
                        format!("{} cannot be renamed to {}", part.display(), path.display())
                    });
                }
                _ => {}
            }
        }
        for file in &progress.obsolete {
            remove(&self.path.join(file))?;
        }
        progress.complete.clear();
        progress.obsolete.clear();
        progress.unit = progress.unit.saturating_add(1);
        Ok(())
    }

    /// Notes the files that this run replaces, because it has read all of the same inputs: those of
    /// earlier runs. They are removed when the last files of this run are published.
    pub(super) fn replace_earlier(&self, progress: &mut DatasetProgress) -> Result<()> {
        let mut obsolete = Vec::new();
        self.for_each_file(&mut |path, name| {
            if progress.run.replaces(name)
                && let Ok(below) = path.strip_prefix(&self.path)
            {
                obsolete.push(below.to_string_lossy().into_owned());
            }
            Ok(())
        })?;
        progress.obsolete = obsolete;
        Ok(())
    }

    /// Calls `act` with the path and the name of each file in the directories of days.
    fn for_each_file(&self, act: &mut dyn FnMut(PathBuf, &str) -> Result<()>) -> Result<()> {
        for table in TABLES {
            for day in entries(&self.path.join(table))? {
                if !day.1.starts_with("dt=") {
                    continue;
                }
                for (path, name) in entries(&day.0)? {
                    act(path, &name)?;
                }
            }
        }
        Ok(())
    }

    fn part(&self, file: &str) -> PathBuf {
        part_of(&self.path, file)
    }
}

impl TableFiles {
    fn new(table: &'static Table, name: &'static str) -> Self {
        Self {
            table,
            name,
            waiting: BTreeMap::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            open: BTreeMap::new(),
            begun: BTreeMap::new(),
            complete: Vec::new(),
        }
    }

    fn push(
        &mut self,
        directory: &Path,
        progress: &DatasetProgress,
        day: u64,
        row: Row,
    ) -> Result<()> {
        let bytes: usize = row.iter().map(Value::bytes).sum();
        self.waiting_rows = self.waiting_rows.saturating_add(1);
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        self.waiting.entry(day).or_default().push(row);
        if self.waiting_rows >= MAX_ROWS || self.waiting_bytes >= MAX_BYTES {
            self.write_waiting(directory, progress)?;
        }
        Ok(())
    }

    /// Writes the rows that wait: a group of rows in the file of each day.
    fn write_waiting(&mut self, directory: &Path, progress: &DatasetProgress) -> Result<()> {
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        for (day, rows) in std::mem::take(&mut self.waiting) {
            let (file, mut writer) = match self.open.remove(&day) {
                Some(open) => open,
                None => self.begin(directory, progress, day)?,
            };
            writer
                .write(&rows)
                .with_context(|| cannot_be_written(directory, &file))?;
            self.open.insert(day, (file, writer));
            if self.open.len() > MAX_OPEN
                && let Some((_, earliest)) = self.open.pop_first()
            {
                self.end(directory, earliest)?;
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        directory: &Path,
        progress: &DatasetProgress,
        day: u64,
    ) -> Result<(String, FileWriter)> {
        let begun = self.begun.entry(day).or_default();
        *begun = begun.saturating_add(1);
        let folder = folder(self.name, day);
        let name = file_name(&progress.run, progress.unit, *begun);
        let file = format!("{folder}/{name}");
        let made = fs::create_dir_all(directory.join(&folder))
            .and_then(|()| open_for_appending(&part_of(directory, &file), true));
        let writer = made
            .map_err(anyhow::Error::from)
            .and_then(|made| FileWriter::begin(made, self.table))
            .with_context(|| cannot_be_written(directory, &file))?;
        Ok((file, writer))
    }

    fn end(&mut self, directory: &Path, (file, writer): (String, FileWriter)) -> Result<()> {
        writer
            .end()
            .with_context(|| cannot_be_written(directory, &file))?;
        self.complete.push(file);
        Ok(())
    }

    fn end_all(&mut self, directory: &Path, progress: &DatasetProgress) -> Result<()> {
        self.write_waiting(directory, progress)?;
        for (_, open) in std::mem::take(&mut self.open) {
            self.end(directory, open)?;
        }
        self.begun.clear();
        Ok(())
    }
}

fn cannot_be_written(directory: &Path, file: &str) -> String {
    format!("{} cannot be written", directory.join(file).display())
}

/// The hidden file for a file. It is in the same directory, because a sandbox on an older kernel
/// allows no rename between directories.
fn part_of(directory: &Path, file: &str) -> PathBuf {
    let path = directory.join(file);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(hidden(&name))
}

/// The paths and names in a directory; none if there is no such directory.
fn entries(directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let listed = match fs::read_dir(directory) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        listed => listed.and_then(|entries| {
            entries
                .map(|entry| {
                    let entry = entry?;
                    let name = entry.file_name().to_string_lossy().into_owned();
                    Ok((entry.path(), name))
                })
                .collect::<io::Result<Vec<_>>>()
        }),
    };
    listed.with_context(|| format!("{} cannot be read", directory.display()))
}

#[cfg(test)]
#[cfg(feature = "parquet")]
mod tests;
