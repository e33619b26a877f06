//! The rows of a call: of the two tables (docs/statistics.md), in CSV and for Parquet, and of
//! the records in JSON.

use std::fmt::{Display, Write};

use anyhow::Result;
use memchr::memchr2;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use super::{
    columns::{Columns, DETECTED_CALLS, STATISTICS, Table},
    dataset::DatasetRows,
    figures::{milliseconds, ms, percent, seconds, side},
    names::rfc3339,
    record,
    summary::{CallSummary, StreamSummary},
    text::field,
    value::Value,
};
use crate::{calls::Link, sdp::Codec, sip::Reason};

/// The form of rows, and what they have beside the summary of a call.
pub(super) struct RowForm<'a> {
    /// The name of the call's file, if it has one.
    pub(super) file_name: Option<&'a str>,
    /// The place where that file is or will be an object.
    pub(super) location: Option<&'a S3Uri>,
    /// True when the rows have the digits, and not only their number: they may be a PIN.
    pub(super) shows_digits: bool,
    /// The columns of the tables.
    pub(super) columns: Columns,
    /// True when there is a record in JSON.
    pub(super) writes_json: bool,
    /// True when there are rows for Parquet files.
    pub(super) writes_parquet: bool,
}

/// The rows of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) detected_call: Vec<u8>,
    /// One row for each stream, in the order of their first packets.
    pub(super) statistics: Vec<u8>,
    /// Its record in JSON, if the user wants it.
    pub(super) json: Vec<u8>,
    /// The values of both tables, if the user wants Parquet files.
    pub(super) values: Option<DatasetRows>,
}

impl Rows {
    /// Creates the rows of a call.
    pub(super) fn of(summary: &CallSummary<'_>, form: &RowForm<'_>) -> Result<Self> {
        let &RowForm {
            file_name,
            location,
            shows_digits,
            columns,
            writes_json,
            writes_parquet,
        } = form;
        let object = location
            .zip(file_name)
            .map(|(location, name)| location.of_object(name));
        let json = if writes_json {
            record::line(summary, file_name, object.as_deref(), shows_digits)?
        } else {
            Vec::new()
        };
        let mut common = Row::begin(COMMON, writes_parquet.then(Vec::new));
        add_common(&mut common, summary, file_name);
        let own_columns = |table: &Table| table.len(columns).saturating_sub(COMMON);
        let mut call = Row::go_on(&common, own_columns(DETECTED_CALLS));
        add_detected_call(&mut call, summary, shows_digits, object.as_deref());
        let mut statistics = String::with_capacity(summary.streams.len().saturating_mul(USUAL_LEN));
        let mut streams = Vec::new();
        for stream in &summary.streams {
            let mut row = Row::go_on(&common, own_columns(STATISTICS));
            add_statistics(&mut row, stream, object.as_deref());
            statistics.push_str(&row.line());
            streams.extend(row.values);
        }
        Ok(Self {
            detected_call: call.line().into_bytes(),
            statistics: statistics.into_bytes(),
            json,
            values: call.values.map(|values| DatasetRows {
                start_ns: summary.call.start_ns,
                call: values,
                streams,
            }),
        })
    }
}

/// The number of columns that both tables begin with.
const COMMON: usize = 5;
/// The bytes that a row usually has, at most.
const USUAL_LEN: usize = 512;

/// A row while it is made: in CSV as RFC 4180 defines it, quoted where needed, and as values if they
/// are wanted.
///
/// The writer of the `csv` crate fills a table of 256 bytes each time it is made, and wants a list of
/// texts: a call of seven messages cost a tenth more instructions with it.
#[derive(Debug)]
struct Row {
    text: String,
    is_first: bool,
    /// The number of fields that are still to come in CSV: the version before had fewer columns.
    left: usize,
    values: Option<Vec<Value>>,
}

impl Row {
    /// A row of this many fields.
    fn begin(fields: usize, values: Option<Vec<Value>>) -> Self {
        Self {
            text: String::with_capacity(USUAL_LEN),
            is_first: true,
            left: fields,
            values,
        }
    }

    /// A row that has the fields of another one, and this many more.
    fn go_on(written: &Self, fields: usize) -> Self {
        let mut row = Self::begin(fields, written.values.clone());
        row.text.push_str(&written.text);
        row.is_first = written.is_first;
        row
    }

    /// The line of the CSV file. It ends with LF, so that `grep ',0$'` and awk match the last
    /// column.
    fn line(&mut self) -> String {
        self.text.push('\n');
        std::mem::take(&mut self.text)
    }

    /// Begins the next field in CSV, if there is one.
    fn next(&mut self) -> Option<&mut String> {
        self.left = self.left.checked_sub(1)?;
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
        Some(&mut self.text)
    }

    /// Adds a field that needs no quotation marks.
    fn show(&mut self, value: impl Display) {
        if let Some(text) = self.next() {
            // A String takes everything.
            let _ = write!(text, "{value}");
        }
    }

    fn show_if(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.show(value),
            None => self.show(""),
        }
    }

    /// Adds a field that has no line ends, with quotation marks if it needs them.
    fn quote(&mut self, value: &str) {
        let Some(text) = self.next() else { return };
        if memchr2(b',', b'"', value.as_bytes()).is_none() {
            text.push_str(value);
            return;
        }
        text.push('"');
        for (number, part) in value.split('"').enumerate() {
            if number > 0 {
                text.push_str("\"\"");
            }
            text.push_str(part);
        }
        text.push('"');
    }

    fn keep(&mut self, value: impl FnOnce() -> Value) {
        if let Some(values) = &mut self.values {
            values.push(value());
        }
    }

    /// Adds text off the wire.
    fn sent(&mut self, text: Option<&[u8]>) {
        self.keep(|| Value::sent(text));
        self.quote(&text.map(field).unwrap_or_default());
    }

    /// Adds a name.
    fn name(&mut self, name: Option<&str>) {
        self.keep(|| Value::word(name));
        self.quote(name.unwrap_or_default());
    }

    /// Adds a word or an address, without characters that must be quoted.
    fn word(&mut self, word: Option<impl Display>) {
        self.keep(|| Value::word(word.as_ref()));
        self.show_if(word);
    }

    fn integer(&mut self, number: Option<impl Into<u64>>) {
        let number = number.map(Into::into);
        self.keep(|| Value::integer(number));
        self.show_if(number);
    }

    fn decimal(&mut self, number: Option<impl Display>) {
        self.keep(|| Value::decimal(number.as_ref()));
        self.show_if(number);
    }

    fn time(&mut self, ns: u64) {
        self.keep(|| Value::Time(ns));
        self.show(rfc3339(ns));
    }

    fn flag(&mut self, is_so: Option<bool>) {
        self.keep(|| Value::flag(is_so));
        self.show_if(is_so);
    }
}

/// The fields of a call with which both tables begin.
fn add_common(row: &mut Row, summary: &CallSummary<'_>, file_name: Option<&str>) {
    let call = summary.call;
    row.sent(Some(&call.call_id));
    row.time(call.start_ns);
    row.name(file_name);
    row.sent(Some(&call.from));
    row.sent(Some(&call.to));
}

/// The fields of a call, from the sixth column on.
fn add_detected_call(
    row: &mut Row,
    summary: &CallSummary<'_>,
    shows_digits: bool,
    s3_location: Option<&str>,
) {
    let facts = &summary.call.facts;
    row.name(s3_location);
    row.time(summary.end_ns);
    row.decimal(Some(seconds(summary.duration_ns)));
    row.word(Some(summary.end.state));
    row.integer(summary.end.final_status);
    row.integer(Some(summary.sip_packets));
    row.integer(Some(summary.rtp_packets));
    row.integer(Some(summary.streams.len() as u64));
    row.decimal(summary.pdd_ns.map(milliseconds));
    row.decimal(summary.answer_ns.map(milliseconds));
    row.decimal(summary.talk_ns.map(seconds));
    row.word(summary.hangup_by.map(side));
    row.sent(facts.caller_agent.as_deref());
    row.sent(facts.callee_agent());
    let codecs: Vec<&[u8]> = summary.codecs.iter().map(Codec::name).collect();
    row.sent(Some(&codecs.join(&b' ')));
    // Text in either case, so that the column has one type.
    if shows_digits {
        row.sent(Some(&summary.digits()));
    } else {
        row.word(Some(summary.pressed.len()));
    }
    row.flag(summary.one_way);
    row.flag(summary.no_media);
    row.sent(facts.reason.as_ref().map(Reason::to_bytes).as_deref());
    row.word(Some(facts.source.ip()));
    row.word(Some(facts.destination.ip()));
    row.word(Some(summary.problems));
    row.integer(summary.end.capture_drops);
    row.word(Some(&summary.conversation.0));
    row.sent(Some(&links(summary.conversation.1)));
}

/// The links of a call: reason and Call-ID of each, with blanks between.
fn links(links: &[Link]) -> Vec<u8> {
    let mut text = Vec::new();
    for link in links {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend(link.reason.to_string().bytes());
        text.push(b':');
        text.extend(&link.call_id[..]);
    }
    text
}

/// The fields of a stream, from the sixth column on.
fn add_statistics(row: &mut Row, summary: &StreamSummary<'_>, s3_location: Option<&str>) {
    let StreamSummary {
        stream,
        totals,
        format,
        far_end,
        ..
    } = summary;
    let (max_delta, min_delta, avg_delta) = stream.arrivals.deltas_ns();
    row.word(Some(format_args!("{:#010x}", stream.ssrc)));
    row.word(Some(stream.source));
    row.word(Some(stream.destination));
    row.integer(Some(stream.arrivals.packets));
    row.integer(Some(totals.expected));
    row.integer(Some(totals.lost));
    row.integer(Some(totals.out_of_order));
    row.integer(Some(totals.duplicates));
    row.decimal(Some(ms(max_delta)));
    row.decimal(Some(ms(min_delta)));
    row.decimal(Some(ms(avg_delta)));
    row.integer(Some(summary.ptime_ms));
    row.name(s3_location);
    row.decimal(Some(format_args!("{:.3}", stream.jitter.ms())));
    row.decimal(Some(format_args!("{:.3}", stream.jitter.max_ms())));
    row.decimal(Some(format_args!("{:.3}", stream.jitter.mean_ms())));
    row.integer(summary.payload_type);
    row.sent(format.as_ref().map(|format| format.codec.name()));
    row.integer(format.map(|format| format.clock_rate));
    row.decimal(Some(percent(totals.lost, totals.expected)));
    row.integer(Some(totals.longest_burst));
    row.decimal(summary.mos.map(|mos| format!("{mos:.2}")));
    row.time(stream.arrivals.first_ns);
    row.time(stream.arrivals.last_ns);
    row.decimal(far_end.loss.map(|loss| percent(loss.lost, loss.expected)));
    row.decimal(far_end.jitter_ms.map(|ms| format!("{ms:.3}")));
    let round_trip = |ns| ms(i64::try_from(ns).unwrap_or(i64::MAX));
    row.decimal(far_end.round_trip_ns.map(round_trip));
    row.decimal(far_end.mos.map(|mos| format!("{mos:.1}")));
    row.sent(far_end.cname);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::table::csv_rows;

    /// The same as the writer of the tables writes, which reads and writes them anew after
    /// `--overwrite`.
    #[test]
    fn fields_are_quoted_as_the_tables_are() {
        let texts = [
            "", "a", "a,b", "\"a\"", "\"", "\"\",\"", "a b", "'=1", "a;b", "\u{fffd}", "#a", "a\\",
        ];
        for text in texts {
            for (first, second) in [(text, "x"), ("x", text)] {
                let mut row = Row::begin(2, None);
                row.quote(first);
                row.quote(second);
                row.quote("one too many");
                let want = csv_rows([[first, second]]).unwrap();
                assert_eq!(row.line().as_bytes(), want, "{text}");
            }
        }
    }
}
