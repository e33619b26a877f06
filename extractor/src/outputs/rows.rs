//! The rows of a call: of the two CSV files (docs/statistics.md), and of the records in JSON.

use std::fmt::{Display, Write};

use anyhow::Result;
use memchr::memchr2;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use super::{
    columns::{Columns, DETECTED_CALLS, STATISTICS, Table},
    figures::{milliseconds, ms, percent, seconds, side},
    names::rfc3339,
    record,
    summary::{CallSummary, StreamSummary},
    text::field,
};
use crate::sip::Reason;

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
}

/// The rows of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) detected_call: Vec<u8>,
    /// One row for each stream, in the order of their first packets.
    pub(super) statistics: Vec<u8>,
    /// Its record in JSON, if the user wants it.
    pub(super) json: Vec<u8>,
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
        } = form;
        let object = location
            .zip(file_name)
            .map(|(location, name)| location.of_object(name));
        let json = if writes_json {
            record::line(summary, file_name, object.as_deref(), shows_digits)?
        } else {
            Vec::new()
        };
        let s3_location = object.unwrap_or_default();
        let mut common = String::new();
        add_common(
            &mut Row::begin(&mut common, COMMON),
            summary,
            file_name.unwrap_or_default(),
        );
        let mut detected_call = String::with_capacity(USUAL_LEN);
        let own_columns = |table: &Table| table.columns(columns).len().saturating_sub(COMMON);
        let mut row = Row::go_on(&mut detected_call, &common, own_columns(DETECTED_CALLS));
        add_detected_call(&mut row, summary, shows_digits, &s3_location);
        row.end();
        let mut statistics = String::with_capacity(summary.streams.len().saturating_mul(USUAL_LEN));
        for stream in &summary.streams {
            let mut row = Row::go_on(&mut statistics, &common, own_columns(STATISTICS));
            add_statistics(&mut row, stream, &s3_location);
            row.end();
        }
        Ok(Self {
            detected_call: detected_call.into_bytes(),
            statistics: statistics.into_bytes(),
            json,
        })
    }
}

/// The number of columns that both tables begin with.
const COMMON: usize = 5;
/// The bytes that a row usually has, at most.
const USUAL_LEN: usize = 512;

/// A row while it is written, as RFC 4180 defines it: quoted where needed, but with LF as line end,
/// so that `grep ',0$'` and awk match the last column.
struct Row<'t> {
    to: &'t mut String,
    is_first: bool,
    /// The number of fields that are still to come: the version before had fewer columns.
    left: usize,
}

impl<'t> Row<'t> {
    /// A row of this many fields.
    fn begin(to: &'t mut String, fields: usize) -> Self {
        Self {
            to,
            is_first: true,
            left: fields,
        }
    }

    /// A row of this many fields more than those that are written.
    fn go_on(to: &'t mut String, written: &str, fields: usize) -> Self {
        to.push_str(written);
        Self {
            is_first: false,
            ..Self::begin(to, fields)
        }
    }

    fn end(self) {
        self.to.push('\n');
    }

    /// Begins the next field, if there is one.
    fn next(&mut self) -> Option<&mut String> {
        self.left = self.left.checked_sub(1)?;
        if !std::mem::take(&mut self.is_first) {
            self.to.push(',');
        }
        Some(self.to)
    }

    /// Adds a value that needs no quotation marks: a number, a word, a time, an address.
    fn put(&mut self, value: impl Display) {
        if let Some(to) = self.next() {
            // A String takes everything.
            let _ = write!(to, "{value}");
        }
    }

    /// The same, or an empty field.
    fn maybe(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.put(value),
            None => self.put(""),
        }
    }

    /// Adds a text off the wire.
    fn text(&mut self, text: &[u8]) {
        self.quoted(&field(text));
    }

    /// The same, or an empty field.
    fn maybe_text(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => self.text(text),
            None => self.put(""),
        }
    }

    /// Adds a text that has no line ends, with quotation marks if it needs them.
    fn quoted(&mut self, text: &str) {
        let Some(to) = self.next() else { return };
        if memchr2(b',', b'"', text.as_bytes()).is_none() {
            to.push_str(text);
            return;
        }
        to.push('"');
        for (number, part) in text.split('"').enumerate() {
            if number > 0 {
                to.push_str("\"\"");
            }
            to.push_str(part);
        }
        to.push('"');
    }
}

/// The fields of a call with which both tables begin.
fn add_common(row: &mut Row<'_>, summary: &CallSummary<'_>, file_name: &str) {
    let call = summary.call;
    row.text(&call.call_id);
    row.put(rfc3339(call.start_ns));
    row.quoted(file_name);
    row.text(&call.from);
    row.text(&call.to);
}

/// The fields of a call, from the sixth column on.
fn add_detected_call(
    row: &mut Row<'_>,
    summary: &CallSummary<'_>,
    shows_digits: bool,
    s3_location: &str,
) {
    let facts = &summary.call.facts;
    row.quoted(s3_location);
    row.put(rfc3339(summary.end_ns));
    row.put(seconds(summary.duration_ns));
    row.put(summary.end.state);
    row.maybe(summary.end.final_status);
    row.put(summary.sip_packets);
    row.put(summary.rtp_packets);
    row.put(summary.streams.len());
    row.maybe(summary.pdd_ns.map(milliseconds));
    row.maybe(summary.answer_ns.map(milliseconds));
    row.maybe(summary.talk_ns.map(seconds));
    row.maybe(summary.hangup_by.map(side));
    row.maybe_text(facts.caller_agent.as_deref());
    row.maybe_text(facts.callee_agent());
    let mut codecs = String::new();
    for codec in &summary.codecs {
        if !codecs.is_empty() {
            codecs.push(' ');
        }
        codecs.push_str(&field(codec.name()));
    }
    row.quoted(&codecs);
    if shows_digits {
        row.text(&summary.digits);
    } else {
        row.put(summary.digits.len());
    }
    row.maybe(summary.one_way);
    row.maybe(summary.no_media);
    row.maybe_text(facts.reason.as_ref().map(Reason::to_bytes).as_deref());
    row.put(facts.source.ip());
    row.put(facts.destination.ip());
    row.put(summary.problems);
    row.maybe(summary.end.capture_drops);
}

/// The fields of a stream, from the sixth column on.
fn add_statistics(row: &mut Row<'_>, summary: &StreamSummary<'_>, s3_location: &str) {
    let StreamSummary {
        stream,
        totals,
        format,
        far_end,
        ..
    } = summary;
    let (max_delta, min_delta, avg_delta) = stream.arrivals.deltas_ns();
    row.put(format_args!("{:#010x}", stream.ssrc));
    row.put(stream.source);
    row.put(stream.destination);
    row.put(stream.arrivals.packets);
    row.put(totals.expected);
    row.put(totals.lost);
    row.put(totals.out_of_order);
    row.put(totals.duplicates);
    row.put(ms(max_delta));
    row.put(ms(min_delta));
    row.put(ms(avg_delta));
    row.put(summary.ptime_ms);
    row.quoted(s3_location);
    row.put(format_args!("{:.3}", stream.jitter.ms()));
    row.put(format_args!("{:.3}", stream.jitter.max_ms()));
    row.put(format_args!("{:.3}", stream.jitter.mean_ms()));
    row.maybe(summary.payload_type);
    row.maybe_text(format.as_ref().map(|format| format.codec.name()));
    row.maybe(format.map(|format| format.clock_rate));
    row.put(percent(totals.lost, totals.expected));
    row.put(totals.longest_burst);
    match summary.mos {
        Some(mos) => row.put(format_args!("{mos:.2}")),
        None => row.put(""),
    }
    row.put(rfc3339(stream.arrivals.first_ns));
    row.put(rfc3339(stream.arrivals.last_ns));
    row.maybe(far_end.loss.map(|loss| percent(loss.lost, loss.expected)));
    match far_end.jitter_ms {
        Some(ms) => row.put(format_args!("{ms:.3}")),
        None => row.put(""),
    }
    let round_trip = far_end.round_trip_ns;
    row.maybe(round_trip.map(|ns| ms(i64::try_from(ns).unwrap_or(i64::MAX))));
    match far_end.mos {
        Some(mos) => row.put(format_args!("{mos:.1}")),
        None => row.put(""),
    }
    row.maybe_text(far_end.cname);
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
                let mut line = String::new();
                let mut row = Row::begin(&mut line, 2);
                row.quoted(first);
                row.quoted(second);
                row.quoted("one too many");
                row.end();
                let want = csv_rows([[first, second]]).unwrap();
                assert_eq!(line.as_bytes(), want, "{text}");
            }
        }
    }
}
