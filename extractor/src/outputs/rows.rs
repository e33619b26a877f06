//! The rows of a call: of the two tables (docs/statistics.md), in CSV and for Parquet, and of
//! the records in JSON.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use super::{
    columns::{Columns, DETECTED_CALLS, STATISTICS},
    dataset::DatasetRows,
    figures::{milliseconds, ms, percent, seconds, side},
    record,
    summary::{CallSummary, StreamSummary},
    table::csv_rows,
    value::Value,
};
use crate::{sdp::Codec, sip::Reason};

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
        let call = summary.call;
        let common = [
            Value::Sent(call.call_id.to_vec()),
            Value::Time(call.start_ns),
            Value::word(file_name),
            Value::Sent(call.from.to_vec()),
            Value::Sent(call.to.to_vec()),
        ];
        let object = location
            .zip(file_name)
            .map(|(location, name)| location.of_object(name));
        let json = if writes_json {
            record::line(summary, file_name, object.as_deref(), shows_digits)?
        } else {
            Vec::new()
        };
        let with_common = |own: Vec<Value>| common.iter().cloned().chain(own).collect();
        let s3_location = Value::word(object);
        let detected_call: Vec<Value> =
            with_common(detected_call(summary, shows_digits, s3_location.clone()));
        let of_streams = summary.streams.iter();
        let statistics: Vec<Vec<Value>> = of_streams
            .map(|stream| with_common(statistics(stream, s3_location.clone())))
            .collect();
        let row = |values: &[Value], len: usize| -> Vec<String> {
            values.iter().take(len).map(Value::to_field).collect()
        };
        let statistics_len = STATISTICS.len(columns);
        let of_streams = statistics.iter().map(|stream| row(stream, statistics_len));
        Ok(Self {
            statistics: csv_rows(of_streams)?,
            detected_call: csv_rows([row(&detected_call, DETECTED_CALLS.len(columns))])?,
            json,
            values: writes_parquet.then_some(DatasetRows {
                start_ns: call.start_ns,
                call: detected_call,
                streams: statistics,
            }),
        })
    }
}

/// The values of a call, from the sixth column on.
fn detected_call(summary: &CallSummary<'_>, shows_digits: bool, s3_location: Value) -> Vec<Value> {
    let facts = &summary.call.facts;
    let codecs: Vec<&[u8]> = summary.codecs.iter().map(Codec::name).collect();
    let reason = facts.reason.as_ref().map(Reason::to_bytes);
    vec![
        s3_location,
        Value::Time(summary.end_ns),
        Value::Decimal(seconds(summary.duration_ns)),
        Value::Word(summary.end.state.to_string()),
        Value::integer(summary.end.final_status),
        Value::Integer(summary.sip_packets),
        Value::Integer(summary.rtp_packets),
        Value::Integer(summary.streams.len() as u64),
        Value::decimal(summary.pdd_ns.map(milliseconds)),
        Value::decimal(summary.answer_ns.map(milliseconds)),
        Value::decimal(summary.talk_ns.map(seconds)),
        Value::word(summary.hangup_by.map(side)),
        Value::sent(facts.caller_agent.as_deref()),
        Value::sent(facts.callee_agent()),
        Value::Sent(codecs.join(&b' ')),
        // Text in either case, so that the column has one type.
        if shows_digits {
            Value::Sent(summary.digits.clone())
        } else {
            Value::Word(summary.digits.len().to_string())
        },
        Value::flag(summary.one_way),
        Value::flag(summary.no_media),
        Value::sent(reason.as_deref()),
        Value::Word(facts.source.ip().to_string()),
        Value::Word(facts.destination.ip().to_string()),
        Value::Word(summary.problems.to_string()),
        Value::integer(summary.end.capture_drops),
    ]
}

/// The values of a stream, from the sixth column on.
fn statistics(summary: &StreamSummary<'_>, s3_location: Value) -> Vec<Value> {
    let StreamSummary {
        stream,
        totals,
        format,
        far_end,
        ..
    } = summary;
    let (max_delta, min_delta, avg_delta) = stream.arrivals.deltas_ns();
    let round_trip = |ns| ms(i64::try_from(ns).unwrap_or(i64::MAX));
    let format = format.as_ref();
    vec![
        Value::Word(format!("{:#010x}", stream.ssrc)),
        Value::Word(stream.source.to_string()),
        Value::Word(stream.destination.to_string()),
        Value::Integer(stream.arrivals.packets),
        Value::Integer(totals.expected),
        Value::Integer(totals.lost),
        Value::Integer(totals.out_of_order),
        Value::Integer(totals.duplicates),
        Value::Decimal(ms(max_delta)),
        Value::Decimal(ms(min_delta)),
        Value::Decimal(ms(avg_delta)),
        Value::Integer(summary.ptime_ms.into()),
        s3_location,
        Value::Decimal(format!("{:.3}", stream.jitter.ms())),
        Value::Decimal(format!("{:.3}", stream.jitter.max_ms())),
        Value::Decimal(format!("{:.3}", stream.jitter.mean_ms())),
        Value::integer(summary.payload_type),
        Value::sent(format.map(|format| format.codec.name())),
        Value::integer(format.map(|format| format.clock_rate)),
        Value::Decimal(percent(totals.lost, totals.expected)),
        Value::Integer(totals.longest_burst),
        Value::decimal(summary.mos.map(|mos| format!("{mos:.2}"))),
        Value::Time(stream.arrivals.first_ns),
        Value::Time(stream.arrivals.last_ns),
        Value::decimal(far_end.loss.map(|loss| percent(loss.lost, loss.expected))),
        Value::decimal(far_end.jitter_ms.map(|ms| format!("{ms:.3}"))),
        Value::decimal(far_end.round_trip_ns.map(round_trip)),
        Value::decimal(far_end.mos.map(|mos| format!("{mos:.1}"))),
        Value::sent(far_end.cname),
    ]
}
