//! Records of earlier runs, one by one: lines of JSON, or rows of Parquet files.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: opens the records that become a report"
)]

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};

#[cfg(feature = "parquet")]
use super::lake;
use crate::{outputs::JSON_NAME, segments::directory_of};

/// The longest line that is read, in bytes: a call with a thousand long messages has a tenth of it.
const MAX_LINE: u64 = 64 << 20;

/// A file of records, or a directory of Parquet files.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Json {
        /// The length of the file when the report began. A run may be appending to it.
        len: u64,
        /// The way from the directory of the report to that of the records, as a prefix of names.
        base: String,
    },
    #[cfg(feature = "parquet")]
    Lake(Vec<lake::Group>),
}

impl Source {
    /// The way from the directory of the report to calls' files, if it is known.
    pub(super) fn base(&self) -> Option<&str> {
        match &self.form {
            Form::Json { base, .. } => Some(base),
            #[cfg(feature = "parquet")]
            Form::Lake(_) => None,
        }
    }
}

/// A line of it.
pub(super) enum Line<'l> {
    /// Its offset in the file, and the line without its end.
    Whole(u64, &'l [u8]),
    /// It is longer than [`MAX_LINE`].
    TooLong,
    /// There are no more.
    End,
}

/// The files of records at these paths.
///
/// # Errors
/// One of them is not there.
pub(super) fn sources(paths: &[PathBuf], report: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if is_lake(path) {
            sources.push(lake(path)?);
            continue;
        }
        let is_directory = path.is_dir();
        let path = if is_directory {
            path.join(JSON_NAME)
        } else {
            path.clone()
        };
        let metadata = path.metadata();
        let metadata = match metadata {
            Err(_) if is_directory => bail!(
                "there is no {}: runs with --json or --report write it; those with --parquet write a directory that has calls and streams",
                path.display()
            ),
            metadata => metadata.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        let form = Form::Json {
            len: metadata.len(),
            base: way(report, &path),
        };
        sources.push(Source { path, form });
    }
    Ok(sources)
}

/// True for a directory of Parquet files. Records say more, so they come first.
fn is_lake(path: &Path) -> bool {
    path.join("calls").is_dir() && path.join("streams").is_dir() && !path.join(JSON_NAME).exists()
}

#[cfg(feature = "parquet")]
fn lake(path: &Path) -> Result<Source> {
    Ok(Source {
        form: Form::Lake(lake::groups(path)?),
        path: path.to_owned(),
    })
}

#[cfg(not(feature = "parquet"))]
fn lake(_: &Path) -> Result<Source> {
    bail!("{}", crate::outputs::PARQUET_MISSING)
}

/// The way from the directory of one file to that of another: empty, or it ends in a slash.
fn way(from: &Path, to: &Path) -> String {
    let (from, to) = (directory_of(from), directory_of(to));
    let same = from
        .components()
        .zip(to.components())
        .take_while(|(from, to)| from == to)
        .count();
    let up = from.components().skip(same).map(|_| "..".to_owned());
    let down = to
        .components()
        .skip(same)
        .filter(|part| matches!(part, Component::Normal(_)))
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).map(|part| part + "/").collect()
}

/// The records of a source.
pub(super) enum Lines {
    Json(JsonLines),
    #[cfg(feature = "parquet")]
    Lake(Box<lake::Lines>, Vec<u8>),
}

impl Lines {
    /// Opens a source at the offset of a line, which rows of Parquet files do not have.
    pub(super) fn open(source: &Source, offset: u64) -> Result<Self> {
        match &source.form {
            Form::Json { len, .. } => JsonLines::open(&source.path, *len, offset).map(Self::Json),
            #[cfg(feature = "parquet")]
            Form::Lake(groups) => {
                let lines = lake::Lines::of(groups.clone());
                Ok(Self::Lake(Box::new(lines), Vec::new()))
            }
        }
    }

    /// The next line that is not empty.
    pub(super) fn next(&mut self) -> io::Result<Line<'_>> {
        match self {
            Self::Json(lines) => lines.next(),
            #[cfg(feature = "parquet")]
            Self::Lake(lines, line) => Ok(match lines.next()? {
                Some(next) => {
                    *line = next;
                    Line::Whole(0, line)
                }
                None => Line::End,
            }),
        }
    }
}

/// The lines of a file.
pub(super) struct JsonLines {
    file: BufReader<Take<File>>,
    line: Vec<u8>,
    /// The offset of the next line.
    offset: u64,
}

impl JsonLines {
    fn open(path: &Path, len: u64, offset: u64) -> Result<Self> {
        // A file that is shorter by now is another one.
        let offset = if offset <= len { offset } else { 0 };
        let file = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            Ok(file.take(len.saturating_sub(offset)))
        });
        let file = file.with_context(|| format!("{} cannot be opened", path.display()))?;
        Ok(Self {
            file: BufReader::with_capacity(1 << 18, file),
            line: Vec::new(),
            offset,
        })
    }

    fn next(&mut self) -> io::Result<Line<'_>> {
        let mut begin;
        loop {
            self.line.clear();
            begin = self.offset;
            let read = (&mut self.file)
                .take(MAX_LINE)
                .read_until(b'\n', &mut self.line)?;
            self.offset = self.offset.saturating_add(read as u64);
            if read == 0 {
                return Ok(Line::End);
            }
            let is_whole = self.line.ends_with(b"\n");
            if !is_whole && read as u64 >= MAX_LINE {
                let skipped = self.file.skip_until(b'\n')?;
                self.offset = self.offset.saturating_add(skipped as u64);
                self.line = Vec::new();
                return Ok(Line::TooLong);
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Line::Whole(begin, self.line.trim_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_pcaps() {
        for (report, records, want) in [
            ("/a/r.html", "/a/calls.jsonl", ""),
            ("/a/r.html", "/a/out/calls.jsonl", "out/"),
            ("/a/x/r.html", "/a/out/calls.jsonl", "../out/"),
        ] {
            assert_eq!(way(Path::new(report), Path::new(records)), want);
        }
    }
}
