//! Rows of the two CSV files (docs/statistics.md).

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use super::{
    columns::{Columns, DETECTED_CALLS, STATISTICS},
    names::rfc3339,
    summary::{CallSummary, StreamSummary},
    table::csv_rows,
    text::field,
};
use crate::calls::Side;

/// The CSV rows of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) detected_call: Vec<u8>,
    /// One row for each stream, in the order of their first packets.
    pub(super) statistics: Vec<u8>,
}

impl Rows {
    /// Creates the rows of a call. `file_name` is the name of its file, if it has one; `location`
    /// is the place where that file is or will be an object. Without `shows_digits`, the row has
    /// only the number of digits: they may be a PIN.
    pub(super) fn of(
        summary: &CallSummary<'_>,
        file_name: Option<&str>,
        location: Option<&S3Uri>,
        shows_digits: bool,
        columns: Columns,
    ) -> Result<Self> {
        let call = summary.call;
        let common = [
            field(&call.call_id),
            rfc3339(call.start_ns),
            file_name.unwrap_or_default().to_owned(),
            field(&call.from),
            field(&call.to),
        ];
        let s3_location = location
            .zip(file_name)
            .map(|(location, name)| location.of_object(name))
            .unwrap_or_default();
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
    ]
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

fn side(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
    }
}

fn or_empty(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A percentage with two decimals, rounded half up.
fn percent(part: u64, whole: u64) -> String {
    let doubled = u128::from(part)
        .saturating_mul(20_000)
        .saturating_add(whole.into());
    let hundredths = doubled
        .checked_div(u128::from(whole).saturating_mul(2))
        .unwrap_or(0);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Nanoseconds as milliseconds with two decimals, rounded half away from zero.
fn ms(ns: i64) -> String {
    let hundredths = ns.unsigned_abs().saturating_add(5_000) / 10_000;
    let sign = if ns < 0 && hundredths > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Nanoseconds as seconds with six decimals, truncated as timestamps are.
fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns / 1_000 % 1_000_000)
}

/// Nanoseconds as milliseconds with three decimals, truncated as timestamps are.
fn milliseconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (ns, want) in [
            (0, "0.00"),
            (20_005_000, "20.01"),
            (20_004_999, "20.00"),
            (-1_500_000, "-1.50"),
            (-4_999, "0.00"),
        ] {
            assert_eq!(ms(ns), want);
        }
        assert_eq!(seconds(61_000_001_999), "61.000001");
        assert_eq!(milliseconds(1_002_003_999), "1002.003");
        for (part, whole, want) in [
            (0, 0, "0.00"),
            (0, 7, "0.00"),
            (1, 3, "33.33"),
            (2, 3, "66.67"),
            (1, 20_000, "0.01"),
            (4, 4, "100.00"),
        ] {
            assert_eq!(percent(part, whole), want);
        }
    }
}
