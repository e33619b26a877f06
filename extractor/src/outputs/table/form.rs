//! The forms of the rows of a file: CSV with a header, and JSON without one.
//!
//! A row is a [`ByteRecord`] that begins with the fields that say which call it is. Of a row in
//! JSON, these are as in the table of calls, and one more field has the whole line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
};

use anyhow::Result;
use csv::ByteRecord;
use serde::Deserialize;

use super::csv_rows;
use crate::outputs::{
    columns::{Columns, Table},
    record,
    text::field,
};

/// The field of a row in JSON that has the line.
const LINE: usize = 3;

/// The form of the rows of a file.
#[derive(Clone, Copy, Debug)]
pub(in crate::outputs) enum Form {
    /// A table: RFC 4180.
    Csv(&'static Table, Columns),
    /// An object of JSON a line.
    Json,
}

impl Form {
    /// What a file begins with.
    pub(super) fn header(self) -> Result<Vec<u8>> {
        match self {
            Self::Csv(table, columns) => csv_rows([table.names(columns)]),
            Self::Json => Ok(Vec::new()),
        }
    }

    /// The number of rows that are the header.
    pub(super) fn header_rows(self) -> u64 {
        match self {
            Self::Csv(..) => 1,
            Self::Json => 0,
        }
    }

    /// Checks the first line of a file to which rows are to be appended. Returns what is wrong with
    /// the file, and what to do.
    pub(super) fn check(self, first: &str, path: &str) -> Result<(), String> {
        match self {
            Self::Csv(table, columns) => check_header(table, columns, first, path),
            Self::Json => record::check(first).map_err(|why| {
                format!("{path} {why}; move it away (mv {path} {path}.old), and a new one begins")
            }),
        }
    }

    /// The rows of a file, or of a part of one.
    pub(super) fn rows(self, file: File) -> Box<dyn Iterator<Item = Result<ByteRecord>>> {
        match self {
            Self::Csv(..) => {
                let reader = csv::ReaderBuilder::new()
                    .has_headers(false)
                    .flexible(true)
                    .from_reader(file);
                Box::new(reader.into_byte_records().map(|row| Ok(row?)))
            }
            Self::Json => {
                let lines = BufReader::new(file).split(b'\n');
                // Somebody may have turned the line ends into CRLF.
                Box::new(lines.map(|line| {
                    let line = line?;
                    Ok(row_of(line.strip_suffix(b"\r").unwrap_or(&line)))
                }))
            }
        }
    }

    /// Writes rows with this line end.
    pub(super) fn writer<'w>(self, to: &'w File, end: &'static [u8]) -> RowWriter<'w> {
        if matches!(self, Self::Json) {
            return RowWriter::Json(BufWriter::new(to), end);
        }
        let terminator = if end == b"\n" {
            csv::Terminator::Any(b'\n')
        } else {
            csv::Terminator::CRLF
        };
        let mut builder = csv::WriterBuilder::new();
        builder.terminator(terminator).flexible(true);
        RowWriter::Csv(Box::new(builder.from_writer(to)))
    }
}

/// Writes rows that were read.
pub(super) enum RowWriter<'w> {
    Csv(Box<csv::Writer<&'w File>>),
    Json(BufWriter<&'w File>, &'static [u8]),
}

impl RowWriter<'_> {
    pub(super) fn write(&mut self, row: &ByteRecord) -> Result<()> {
        match self {
            Self::Csv(to) => to.write_byte_record(row)?,
            Self::Json(to, end) => {
                to.write_all(row.get(LINE).unwrap_or_default())?;
                to.write_all(end)?;
            }
        }
        Ok(())
    }

    /// Writes the header of a file that has none.
    pub(super) fn write_header(&mut self, form: Form) -> Result<()> {
        if let (Self::Csv(to), Form::Csv(table, columns)) = (self, form) {
            to.write_record(table.names(columns))?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Csv(to) => to.flush(),
            Self::Json(to, _) => to.flush(),
        }
    }
}

fn check_header(table: &Table, columns: Columns, first: &str, path: &str) -> Result<(), String> {
    let is_of = |columns| first == table.names(columns).join(",");
    if is_of(columns) {
        return Ok(());
    }
    Err(match columns {
        Columns::All if is_of(Columns::Classic) => format!(
            "{path} was begun by an earlier version, without the columns {}; move it away (mv {path} {path}.old), and a new table begins, or keep to its columns with --columns classic",
            table.newer().join(", ")
        ),
        Columns::Classic if is_of(Columns::All) => format!(
            "{path} has more columns than --columns classic writes; leave that flag out, move the table away, or choose another name"
        ),
        _ => format!(
            "{path} has other columns than the rows to be appended; move it away, or choose another name"
        ),
    })
}

/// The members of a line that say which call it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Identity {
    call_id: String,
    call_id_b64: Option<String>,
    start_timestamp: String,
    output_pcap_filename: String,
}

/// A line as a row. A line that is no object of ours is of no call.
fn row_of(line: &[u8]) -> ByteRecord {
    let identity: Identity = serde_json::from_slice(line).unwrap_or_default();
    let call_id = match &identity.call_id_b64 {
        Some(exact) => record::from_base64(exact),
        None => identity.call_id.into_bytes(),
    };
    let mut row = ByteRecord::new();
    row.push_field(field(&call_id).as_bytes());
    row.push_field(identity.start_timestamp.as_bytes());
    row.push_field(identity.output_pcap_filename.as_bytes());
    row.push_field(line);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_which_call_it_is() {
        for (line, want) in [
            (
                r#"{"schema_version":1,"call_id":"+1","start_timestamp":"t","output_pcap_filename":"f","x":[1]}"#,
                ["'+1", "t", "f"],
            ),
            (
                r#"{"call_id":"�1","call_id_b64":"/zE=","start_timestamp":"t"}"#,
                ["\u{fffd}1", "t", ""],
            ),
            ("[]", ["", "", ""]),
            ("", ["", "", ""]),
        ] {
            let row = row_of(line.as_bytes());
            let fields: Vec<&str> = row
                .iter()
                .map(|field| std::str::from_utf8(field).unwrap())
                .collect();
            assert_eq!(fields, [&want[..], &[line]].concat());
        }
    }

    #[test]
    fn lines_keep_the_end_that_they_were_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let mut rows = Vec::new();
        for end in ["\n", "\r\n"] {
            std::fs::write(&path, format!("{{\"call_id\":\"1\"}}{end}{{}}{end}")).unwrap();
            let read = Form::Json.rows(File::open(&path).unwrap());
            rows.push(read.collect::<Result<Vec<_>>>().unwrap());
        }
        assert_eq!(rows[0], rows[1], "a line is the same with either end");
        let file = File::create(&path).unwrap();
        let mut to = Form::Json.writer(&file, b"\r\n");
        rows[0].iter().for_each(|row| to.write(row).unwrap());
        to.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"call_id\":\"1\"}\r\n{}\r\n");
    }
}
