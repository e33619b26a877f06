//! Parquet files of earlier runs as records: the rows of `calls`, each with its rows of `streams`
//! (docs/records.md). They have neither messages nor series.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: reads the Parquet files that become a report"
)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use parquet::{
    file::reader::SerializedFileReader,
    record::{Field, Row, reader::RowIter},
};
use serde_json::{Map, Value, json};

use super::made;
use crate::outputs::rfc3339;

/// The files that a unit of work wrote for a day.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    calls: Vec<PathBuf>,
    streams: Vec<PathBuf>,
}

/// The files in a directory of Parquet files, by day, run and unit of work.
pub(super) fn groups(directory: &Path) -> Result<Vec<Group>> {
    let mut groups: BTreeMap<(PathBuf, String), Group> = BTreeMap::new();
    for table in ["calls", "streams"] {
        let folder = directory.join(table);
        let days = entries(&folder)?;
        for day in days.into_iter().filter(|path| path.is_dir()) {
            for file in entries(&day)? {
                let Some(name) = name_of_group(&file) else {
                    continue;
                };
                let of_day = day.strip_prefix(&folder).unwrap_or(&day).to_owned();
                let group = groups.entry((of_day, name)).or_default();
                match table {
                    "calls" => group.calls.push(file),
                    _ => group.streams.push(file),
                }
            }
        }
    }
    Ok(groups.into_values().collect())
}

/// The entries of a directory that are not hidden, by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(directory).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<PathBuf>>>()
    });
    let mut paths = read.with_context(|| format!("{} cannot be read", directory.display()))?;
    let is_hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b".")
    };
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    Ok(paths)
}

/// The name of a file without the number that a second file of a day has.
fn name_of_group(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?.strip_suffix(".parquet")?;
    let group = match name.rsplit_once('_') {
        Some((group, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => group,
        _ => name,
    };
    Some(group.to_owned())
}

/// The records of a directory, one after the other.
pub(super) struct Lines {
    groups: std::vec::IntoIter<Group>,
    /// The files of the present group that are still to be read.
    files: std::vec::IntoIter<PathBuf>,
    rows: Option<RowIter<'static>>,
    /// The streams of the present group, by call.
    streams: BTreeMap<CallKey, Vec<Value>>,
}

/// Call-ID, start and file.
type CallKey = [String; 3];

impl Lines {
    pub(super) fn of(groups: Vec<Group>) -> Self {
        Self {
            groups: groups.into_iter(),
            files: Vec::new().into_iter(),
            rows: None,
            streams: BTreeMap::new(),
        }
    }

    /// The next record, as JSON.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                let call = object(&row.map_err(io::Error::other)?);
                let streams = self.streams.remove(&key(&call)).unwrap_or_default();
                return serde_json::to_vec(&record(call, streams))
                    .map(Some)
                    .map_err(made);
            }
            self.rows = None;
            if let Some(file) = self.files.next() {
                self.rows = Some(open(&file)?);
            } else if let Some(group) = self.groups.next() {
                self.streams = streams_of(&group)?;
                self.files = group.calls.into_iter();
            } else {
                return Ok(None);
            }
        }
    }
}

fn open(path: &Path) -> io::Result<RowIter<'static>> {
    let named =
        |error: &dyn std::error::Error| io::Error::other(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| named(&error))?;
    let reader = SerializedFileReader::new(file).map_err(|error| named(&error))?;
    Ok(RowIter::from_file_into(Box::new(reader)))
}

fn streams_of(group: &Group) -> io::Result<BTreeMap<CallKey, Vec<Value>>> {
    let mut streams: BTreeMap<CallKey, Vec<Value>> = BTreeMap::new();
    for file in &group.streams {
        for row in open(file)? {
            let mut stream = object(&row.map_err(io::Error::other)?);
            let of_call = streams.entry(key(&stream)).or_default();
            ["sip_from", "sip_to", "s3_location"]
                .iter()
                .for_each(|name| drop(stream.remove(*name)));
            of_call.push(stream.into());
        }
    }
    Ok(streams)
}

/// The columns that have values.
fn object(row: &Row) -> Map<String, Value> {
    let member = |(name, field): (&String, &Field)| {
        let value = match field {
            Field::Bool(is_so) => (*is_so).into(),
            Field::Long(number) => (*number).into(),
            Field::Double(number) => (*number).into(),
            Field::Str(text) => text.clone().into(),
            Field::TimestampMicros(us) => rfc3339(nanoseconds(*us)).into(),
            _ => return None,
        };
        Some((name.clone(), value))
    };
    row.get_column_iter().filter_map(member).collect()
}

fn nanoseconds(us: i64) -> u64 {
    u64::try_from(us).unwrap_or(0).saturating_mul(1000)
}

fn text<'m>(object: &'m Map<String, Value>, name: &str) -> &'m str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn key(object: &Map<String, Value>) -> CallKey {
    ["call_id", "start_timestamp", "output_pcap_filename"].map(|name| text(object, name).to_owned())
}

/// The record of a call with its streams.
fn record(mut call: Map<String, Value>, mut streams: Vec<Value>) -> Value {
    let [start, end] =
        ["start_timestamp", "end_timestamp"].map(|name| text(&call, name).to_owned());
    for stream in streams.iter_mut().filter_map(Value::as_object_mut) {
        for (name, value) in [("first_timestamp", &start), ("last_timestamp", &end)] {
            let value = || Value::from(&**value);
            stream.entry(name).or_insert_with(value);
        }
        stream.insert("series".to_owned(), json!([]));
    }
    let start: Option<jiff::Timestamp> = start.parse().ok();
    let start_us = start.map_or(0, jiff::Timestamp::as_microsecond);
    let words = |name: &str| -> Value { text(&call, name).split_whitespace().collect() };
    let mut members = json!({
        "schema_version": 1, "start_ns": nanoseconds(start_us), "codecs": words("codecs"),
        "problems": words("problems"), "source": text(&call, "source_ip"),
        "destination": text(&call, "destination_ip"), "dtmf_count": 0, "messages": [],
        "messages_omitted": 0, "media": [], "streams": streams,
    });
    // The column has digits or their number, and does not say which. Links are text here.
    ["dtmf", "conversation_links"]
        .iter()
        .for_each(|name| drop(call.remove(*name)));
    for name in ["call_id", "sip_from", "sip_to"] {
        call.entry(name).or_insert_with(|| "".into());
    }
    if let Some(members) = members.as_object_mut() {
        call.append(members);
    }
    call.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_files() {
        for (name, want) in [
            (
                "edge-in-20261129T000000-000001.parquet",
                Some("edge-in-20261129T000000-000001"),
            ),
            (
                "edge-in-20261129T000000-000001_2.parquet",
                Some("edge-in-20261129T000000-000001"),
            ),
            ("all_calls.parquet", Some("all_calls")),
            ("notes.txt", None),
        ] {
            assert_eq!(name_of_group(Path::new(name)).as_deref(), want, "{name}");
        }
    }
}
