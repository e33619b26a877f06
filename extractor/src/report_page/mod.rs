//! The report: one HTML file with a row for each call of some records, and the details of the worst
//! (docs/report.md).
//!
//! The records are read twice, line by line. The first time ranks the calls, and keeps the numbers of
//! the worst; the second time writes rows and details, block by block. So memory depends on the
//! number of details, not on that of the calls, and the same records give the same bytes.
//!
//! Nothing off the wire becomes HTML: data are compressed blocks in base64, which the page unpacks
//! and shows as text.

mod blocks;
mod columns;
mod details;
mod html;
#[cfg(feature = "parquet")]
mod lake;
mod rank;
mod reading;
mod record;
mod without;

use std::{
    collections::BinaryHeap,
    io::{self, BufWriter, Write},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use shared::{files, units::grouped};

pub use self::without::Without;
use self::{
    blocks::{Details, put_block},
    columns::{Columns, Row},
    reading::{Line, Lines, Source},
    record::Record,
};
use crate::outputs::{Every, Found, JSON_NAME};

/// Calls are confidential: only the owner and the group can read the file.
const MODE: u32 = 0o640;

/// The task: which records become which report.
#[derive(Clone, Debug)]
pub struct Task {
    /// Files of records (`calls.jsonl`), or directories that hold one, or Parquet files.
    pub records: Vec<PathBuf>,
    /// The report.
    pub to: PathBuf,
    /// The most calls with details; of more calls, the worst have them.
    pub details: usize,
    /// The parts that are left out.
    pub without: Without,
    /// The calls, if they are not all of these records.
    pub part: Option<Part>,
}

/// A part of the calls of some records.
#[derive(Clone, Debug)]
pub struct Part {
    /// The starts of its calls, in nanoseconds since 1970.
    pub starts: RangeInclusive<u64>,
    /// The offset in the file before which there are none of its records.
    pub offset: u64,
}

/// Records are read by so many calls between two signs of life.
const ALIVE_EVERY: u64 = 256;

/// The report of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// See [`Task::to`].
    pub to: PathBuf,
    /// See [`Task::details`].
    pub details: usize,
    /// See [`Task::without`].
    pub without: Without,
    /// How much time a report covers, if there is one for each stretch.
    pub every: Option<Every>,
}

impl Settings {
    /// The report of all records in an output directory.
    #[must_use]
    pub fn task(&self, directory: &Path) -> Task {
        Task {
            records: vec![directory.join(JSON_NAME)],
            to: self.to.clone(),
            details: self.details,
            without: self.without,
            part: None,
        }
    }
}

/// The numbers of a report that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Calls with a row.
    pub calls: u64,
    /// Those with details.
    pub details: u64,
    /// Lines that are no record, and were left out.
    pub left_out: u64,
    /// Findings about the file of records.
    pub found: Found,
}

impl Written {
    /// A sentence for the log.
    #[must_use]
    pub fn told(&self, task: &Task) -> String {
        let Self {
            calls,
            details,
            left_out,
            found: _,
        } = *self;
        let of_them = if details < calls {
            format!(", {} of them with details", grouped(details))
        } else {
            String::new()
        };
        let others = match left_out {
            0 => String::new(),
            1 => "; 1 line is no record, and is left out".to_owned(),
            _ => format!(
                "; {} lines are no records, and are left out",
                grouped(left_out)
            ),
        };
        let what = if calls == 1 { "call" } else { "calls" };
        format!(
            "{}: a report of {} {what}{of_them}{others}",
            task.to.display(),
            grouped(calls)
        )
    }
}

/// Writes the report. It replaces an older one as a whole. `alive` is called now and then.
///
/// # Errors
/// The records cannot be read, or the report cannot be written.
pub fn write(task: &Task, alive: &mut dyn FnMut()) -> Result<Written> {
    let sources = reading::sources(&task.records, &task.to)?;
    let mut records = Records {
        sources: &sources,
        part: task.part.as_ref(),
        alive,
    };
    let Ranked {
        calls,
        worst,
        found,
    } = rank(&mut records, task)?;
    let file = files::replacement(&task.to, MODE)
        .with_context(|| format!("{} cannot be written", task.to.display()))?;
    let mut to = BufWriter::new(file.as_file());
    let written = write_page(&mut to, &mut records, task, calls, &worst)?;
    to.flush()
        .with_context(|| format!("{} cannot be written", task.to.display()))?;
    drop(to);
    file.persist(&task.to)
        .map_err(|error| error.error)
        .with_context(|| format!("{} cannot be replaced", task.to.display()))?;
    Ok(Written { found, ..written })
}

/// The findings of the first reading.
struct Ranked {
    calls: u64,
    /// The numbers of the worst, in ascending order.
    worst: Vec<u64>,
    found: Found,
}

fn rank(records: &mut Records<'_>, task: &Task) -> Result<Ranked> {
    // The least bad of the worst is on top. Of calls that are equally bad, the first are kept.
    let mut worst = BinaryHeap::new();
    let mut number: u64 = 0;
    let mut found = Found::default();
    for source in records.sources {
        records.for_each(source, &mut found, &mut |record, _| {
            worst.push(std::cmp::Reverse((
                rank::points(record),
                std::cmp::Reverse(number),
            )));
            if worst.len() > task.details {
                worst.pop();
            }
            number = number.saturating_add(1);
            Ok(())
        })?;
    }
    let mut numbers: Vec<u64> = worst
        .into_iter()
        .map(|std::cmp::Reverse((_, std::cmp::Reverse(number)))| number)
        .collect();
    numbers.sort_unstable();
    Ok(Ranked {
        calls: number,
        worst: numbers,
        found,
    })
}

fn write_page(
    to: &mut impl Write,
    records: &mut Records<'_>,
    task: &Task,
    calls: u64,
    worst: &[u64],
) -> Result<Written> {
    let cannot = || format!("{} cannot be written", task.to.display());
    html::begin(to).with_context(cannot)?;
    let head = head(records.sources, task, calls, worst.len());
    put_block(to, "head", head.to_string().as_bytes()).with_context(cannot)?;
    let mut written = Written::default();
    let (mut columns, mut details) = (Columns::default(), Details::default());
    let mut worst = worst.iter().copied().peekable();
    for (source_number, source) in records.sources.iter().enumerate() {
        let found = &mut Found::default();
        let left_out = records.for_each(source, found, &mut |record, line| {
            let detail = if worst.next_if_eq(&written.calls).is_some() {
                written.details = written.details.saturating_add(1);
                Some(details.push(to, &details::details(line, task.without)?)?)
            } else {
                None
            };
            written.calls = written.calls.saturating_add(1);
            let row = Row {
                record,
                points: rank::points(record),
                detail,
                source: source_number,
            };
            columns.push(to, &row, &task.without)?;
            Ok(())
        })?;
        written.left_out = written.left_out.saturating_add(left_out);
    }
    columns.flush(to).with_context(cannot)?;
    details.flush(to).with_context(cannot)?;
    html::end(to).with_context(cannot)?;
    Ok(written)
}

/// The facts that the page must know before it reads the rows.
fn head(sources: &[Source], task: &Task, calls: u64, details: usize) -> serde_json::Value {
    let bases: Vec<Option<&str>> = sources.iter().map(Source::base).collect();
    serde_json::json!({
        "version": 1,
        "program": concat!("sip-call-extractor ", env!("CARGO_PKG_VERSION")),
        "title": task.to.file_stem().unwrap_or_default().to_string_lossy(),
        "calls": calls,
        "details": details,
        "without_messages": task.without.messages,
        "without_numbers": task.without.numbers,
        "bases": bases,
    })
}

/// The records that become a report.
struct Records<'r> {
    sources: &'r [Source],
    part: Option<&'r Part>,
    /// See [`write`].
    alive: &'r mut dyn FnMut(),
}

impl Records<'_> {
    /// Visits the records of a source. Returns the number of lines that are no record.
    fn for_each(
        &mut self,
        source: &Source,
        found: &mut Found,
        visit: &mut dyn FnMut(&Record<'_>, &[u8]) -> Result<()>,
    ) -> Result<u64> {
        let offset = self.part.map_or(0, |part| part.offset);
        let mut lines = Lines::open(source, offset)?;
        let (mut left_out, mut number): (u64, u64) = (0, 0);
        loop {
            if number.is_multiple_of(ALIVE_EVERY) {
                (self.alive)();
            }
            number = number.saturating_add(1);
            let line = lines
                .next()
                .with_context(|| format!("{} cannot be read", source.path.display()))?;
            let (begin, bytes) = match line {
                Line::End => return Ok(left_out),
                Line::TooLong => {
                    left_out = left_out.saturating_add(1);
                    continue;
                }
                Line::Whole(begin, bytes) => (begin, bytes),
            };
            let Some(record) = Record::parse(bytes) else {
                left_out = left_out.saturating_add(1);
                continue;
            };
            found.latest_ns = found.latest_ns.max(record.start_ns);
            if self
                .part
                .is_none_or(|part| part.starts.contains(&record.start_ns))
            {
                found.first = found.first.or(Some(begin));
                visit(&record, bytes)?;
            }
        }
    }
}

/// An error while a block is written.
fn made(error: serde_json::Error) -> io::Error {
    io::Error::other(error)
}
