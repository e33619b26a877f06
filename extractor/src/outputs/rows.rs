//! The rows of a call: of the two CSV files (docs/statistics.md), and of the records in JSON.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use super::{
    columns::{Columns, DETECTED_CALLS, STATISTICS},
    figures::{milliseconds, ms, percent, seconds, side},
    names::rfc3339,
    record,
    summary::{CallSummary, StreamSummary},
    table::csv_rows,
    text::field,
};
use crate::calls::Link;

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
        let call = summary.call;
        let common = [
            field(&call.call_id),
            rfc3339(call.start_ns),
            file_name.unwrap_or_default().to_owned(),
            field(&call.from),
            field(&call.to),
        ];
        let object = location
            .zip(file_name)
            .map(|(location, name)| location.of_object(name));
        let json = if writes_json {
            record::line(summary, file_name, object.as_deref(), shows_digits)?
        } else {
            Vec::new()
        };
        let s3_location = object.unwrap_or_default();
        let with_common = |row: Vec<String>, count: usize| {
            let fields = common.iter().cloned().chain(row);
            fields.take(count).collect::<Vec<_>>()
        };
        let own = detected_call(summary, shows_digits, s3_location.clone());
        let detected_call = with_common(own, DETECTED_CALLS.columns(columns).len());
        let statistics_len = STATISTICS.columns(columns).len();
        let of_streams = summary.streams.iter().map(|stream| {
            let own = statistics(stream, s3_location.clone());
            with_common(own, statistics_len)
        });
        Ok(Self {
            detected_call: csv_rows([detected_call])?,
            statistics: csv_rows(of_streams)?,
            json,
        })
    }
}

/// The fields of a call, from the sixth column on.
fn detected_call(
    summary: &CallSummary<'_>,
    shows_digits: bool,
    s3_location: String,
) -> Vec<String> {
    let facts = &summary.call.facts;
    let codecs: Vec<String> = summary
        .codecs
        .iter()
        .map(|codec| field(codec.name()))
        .collect();
    vec![
        s3_location,
        rfc3339(summary.end_ns),
        seconds(summary.duration_ns),
        summary.end.state.to_string(),
        or_empty(summary.end.final_status),
        summary.sip_packets.to_string(),
        summary.rtp_packets.to_string(),
        summary.streams.len().to_string(),
        summary.pdd_ns.map(milliseconds).unwrap_or_default(),
        summary.answer_ns.map(milliseconds).unwrap_or_default(),
        summary.talk_ns.map(seconds).unwrap_or_default(),
        summary.hangup_by.map(side).unwrap_or_default().to_owned(),
        facts.caller_agent.as_deref().map(field).unwrap_or_default(),
        facts.callee_agent().map(field).unwrap_or_default(),
        codecs.join(" "),
        if shows_digits {
            field(&summary.digits)
        } else {
            summary.digits.len().to_string()
        },
        or_empty(summary.one_way),
        or_empty(summary.no_media),
        facts
            .reason
            .as_ref()
            .map(|reason| field(&reason.to_bytes()))
            .unwrap_or_default(),
        facts.source.ip().to_string(),
        facts.destination.ip().to_string(),
        summary.problems.to_string(),
        or_empty(summary.end.capture_drops),
        summary.conversation.0.clone(),
        field(&links(summary.conversation.1)),
    ]
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
        text.extend(&link.call_id);
    }
    text
}

/// The fields of a stream, from the sixth column on.
fn statistics(summary: &StreamSummary<'_>, s3_location: String) -> Vec<String> {
    let StreamSummary {
        stream,
        totals,
        format,
        far_end,
        ..
    } = summary;
    let (max_delta, min_delta, avg_delta) = stream.arrivals.deltas_ns();
    vec![
        format!("{:#010x}", stream.ssrc),
        stream.source.to_string(),
        stream.destination.to_string(),
        stream.arrivals.packets.to_string(),
        totals.expected.to_string(),
        totals.lost.to_string(),
        totals.out_of_order.to_string(),
        totals.duplicates.to_string(),
        ms(max_delta),
        ms(min_delta),
        ms(avg_delta),
        summary.ptime_ms.to_string(),
        s3_location,
        format!("{:.3}", stream.jitter.ms()),
        format!("{:.3}", stream.jitter.max_ms()),
        format!("{:.3}", stream.jitter.mean_ms()),
        or_empty(summary.payload_type),
        format
            .map(|format| field(format.codec.name()))
            .unwrap_or_default(),
        or_empty(format.map(|format| format.clock_rate)),
        percent(totals.lost, totals.expected),
        totals.longest_burst.to_string(),
        summary
            .mos
            .map(|mos| format!("{mos:.2}"))
            .unwrap_or_default(),
        rfc3339(stream.arrivals.first_ns),
        rfc3339(stream.arrivals.last_ns),
        far_end
            .loss
            .map(|loss| percent(loss.lost, loss.expected))
            .unwrap_or_default(),
        far_end
            .jitter_ms
            .map(|ms| format!("{ms:.3}"))
            .unwrap_or_default(),
        far_end
            .round_trip_ns
            .map(|ns| ms(i64::try_from(ns).unwrap_or(i64::MAX)))
            .unwrap_or_default(),
        far_end
            .mos
            .map(|mos| format!("{mos:.1}"))
            .unwrap_or_default(),
        far_end.cname.map(field).unwrap_or_default(),
    ]
}

fn or_empty(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
