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
mod rank;
mod reading;
mod record;
mod without;

use std::{
    collections::BinaryHeap,
    io::{self, BufWriter, Write},
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

/// Calls are confidential: only the owner and the group can read the file.
const MODE: u32 = 0o640;

/// The task: which records become which report.
#[derive(Clone, Debug)]
pub struct Task {
    /// Files of records (`calls.jsonl`), or directories that hold one.
    pub records: Vec<PathBuf>,
    /// The report.
    pub to: PathBuf,
    /// The most calls with details; of more calls, the worst have them.
    pub details: usize,
    /// The parts that are left out.
    pub without: Without,
}

/// The report of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// See [`Task::to`].
    pub to: PathBuf,
    /// See [`Task::details`].
    pub details: usize,
    /// See [`Task::without`].
    pub without: Without,
}

impl Settings {
    /// The report of all records in an output directory.
    #[must_use]
    pub fn task(&self, directory: &Path) -> Task {
        Task {
            records: vec![directory.join(crate::outputs::JSON_NAME)],
            to: self.to.clone(),
            details: self.details,
            without: self.without,
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
}

impl Written {
    /// A sentence for the log.
    #[must_use]
    pub fn told(&self, task: &Task) -> String {
        let Self {
            calls,
            details,
            left_out,
        } = *self;
        let of_them = if details < calls {
            format!(", {} of them with details", grouped(details))
        } else {
            String::new()
        };
        let others = if left_out > 0 {
            format!(
                "; {} lines are no records, and are left out",
                grouped(left_out)
            )
        } else {
            String::new()
        };
        let what = if calls == 1 { "call" } else { "calls" };
        format!(
            "{}: a report of {} {what}{of_them}{others}",
            task.to.display(),
            grouped(calls)
        )
    }
}

/// Writes the report. It replaces an older one as a whole.
///
/// # Errors
/// The records cannot be read, or the report cannot be written.
pub fn write(task: &Task) -> Result<Written> {
    let sources = reading::sources(&task.records, &task.to)?;
    let (calls, worst) = rank(&sources, task)?;
    let file = files::replacement(&task.to, MODE)
        .with_context(|| format!("{} cannot be written", task.to.display()))?;
    let mut to = BufWriter::new(file.as_file());
    let written = write_page(&mut to, &sources, task, calls, &worst)?;
    to.flush()
        .with_context(|| format!("{} cannot be written", task.to.display()))?;
    drop(to);
    file.persist(&task.to)
        .map_err(|error| error.error)
        .with_context(|| format!("{} cannot be replaced", task.to.display()))?;
    Ok(written)
}

/// The calls that are read, and the numbers of the worst, in ascending order.
fn rank(sources: &[Source], task: &Task) -> Result<(u64, Vec<u64>)> {
    // The least bad of the worst is on top. Of calls that are equally bad, the first are kept.
    let mut worst = BinaryHeap::new();
    let mut number: u64 = 0;
    for source in sources {
        for_each(source, &mut |record, _| {
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
    Ok((number, numbers))
}

fn write_page(
    to: &mut impl Write,
    sources: &[Source],
    task: &Task,
    calls: u64,
    worst: &[u64],
) -> Result<Written> {
    let cannot = || format!("{} cannot be written", task.to.display());
    html::begin(to).with_context(cannot)?;
    let head = head(sources, task, calls, worst.len());
    put_block(to, "head", head.to_string().as_bytes()).with_context(cannot)?;
    let mut written = Written::default();
    let (mut columns, mut details) = (Columns::default(), Details::default());
    let mut worst = worst.iter().copied().peekable();
    for (source_number, source) in sources.iter().enumerate() {
        let left_out = for_each(source, &mut |record, line| {
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
    let bases: Vec<&str> = sources.iter().map(|source| source.base.as_str()).collect();
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

/// Visits the records of a source. Returns the number of lines that are no record.
fn for_each(
    source: &Source,
    visit: &mut dyn FnMut(&Record<'_>, &[u8]) -> Result<()>,
) -> Result<u64> {
    let mut lines = Lines::open(source)?;
    let mut left_out: u64 = 0;
    loop {
        let line = lines
            .next()
            .with_context(|| format!("{} cannot be read", source.path.display()))?;
        let bytes = match line {
            Line::End => return Ok(left_out),
            Line::TooLong => {
                left_out = left_out.saturating_add(1);
                continue;
            }
            Line::Whole(bytes) => bytes,
        };
        let Some(record) = Record::parse(bytes) else {
            left_out = left_out.saturating_add(1);
            continue;
        };
        visit(&record, bytes)?;
    }
}

/// An error while a block is written.
fn made(error: serde_json::Error) -> io::Error {
    io::Error::other(error)
}
