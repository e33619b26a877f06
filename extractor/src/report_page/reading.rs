//! Files of records, line by line.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: opens the records that become a report"
)]

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Take},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{outputs::JSON_NAME, segments::directory_of};

/// The longest line that is read, in bytes: a call with a thousand long messages has a tenth of it.
const MAX_LINE: u64 = 64 << 20;

/// A file of records.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Its length when the report began. A run may be appending to it.
    len: u64,
    /// The way from the directory of the report to that of the records, as a prefix of names.
    pub(super) base: String,
}

/// A line of it.
pub(super) enum Line<'l> {
    /// Without its end.
    Whole(&'l [u8]),
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
        let is_directory = path.is_dir();
        let path = if is_directory {
            path.join(JSON_NAME)
        } else {
            path.clone()
        };
        let metadata = path.metadata();
        let metadata = match metadata {
            Err(_) if is_directory => bail!(
                "there is no {}: runs with --json or --report write it",
                path.display()
            ),
            metadata => metadata.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        sources.push(Source {
            len: metadata.len(),
            base: way(report, &path),
            path,
        });
    }
    Ok(sources)
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

/// The lines of a file.
pub(super) struct Lines {
    file: BufReader<Take<File>>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(source: &Source) -> Result<Self> {
        let file = File::open(&source.path)
            .with_context(|| format!("{} cannot be opened", source.path.display()))?;
        Ok(Self {
            file: BufReader::with_capacity(1 << 18, file.take(source.len)),
            line: Vec::new(),
        })
    }

    /// The next line that is not empty.
    pub(super) fn next(&mut self) -> io::Result<Line<'_>> {
        loop {
            self.line.clear();
            let read = (&mut self.file)
                .take(MAX_LINE)
                .read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(Line::End);
            }
            let is_whole = self.line.ends_with(b"\n");
            if !is_whole && read as u64 >= MAX_LINE {
                self.file.skip_until(b'\n')?;
                self.line = Vec::new();
                return Ok(Line::TooLong);
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Line::Whole(self.line.trim_ascii()))
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
