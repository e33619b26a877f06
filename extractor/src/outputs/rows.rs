//! Rows of the two CSV files (docs/statistics.md).

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::s3_uri::S3Uri;

use super::{names::rfc3339, recording::Recording, table::csv_rows, text::field};
use crate::{
    calls::{Call, End, KnownStatements},
    events::FlowKey,
    rtp::{Payload, Stream, mos},
};

/// The columns of `detected_calls.csv`: those of the original program, then additional ones.
pub(super) const DETECTED_CALLS: &[&str] = &[
    "call_id",
    "start_timestamp",
    "output_pcap_filename",
    "sip_from",
    "sip_to",
    "s3_location",
    "end_timestamp",
    "duration_s",
    "state",
    "final_status",
    "sip_packet_count",
    "rtp_packet_count",
    "rtp_stream_count",
    "capture_drops",
];

/// The columns of `calls_statistics.csv`: those of the original program, then additional ones.
pub(super) const STATISTICS: &[&str] = &[
    "call_id",
    "start_timestamp",
    "output_pcap_filename",
    "sip_from",
    "sip_to",
    "ssrc_hex",
    "src_rtp_endpoint",
    "dst_rtp_endpoint",
    "rtp_packet_count",
    "expected_rtp_packets",
    "lost_packets",
    "out_of_order_count",
    "duplicate_count",
    "max_delta_ms",
    "min_delta_ms",
    "avg_delta_ms",
    "ptime_ms",
    "s3_location",
    "jitter_ms",
    "max_jitter_ms",
    "mean_jitter_ms",
    "payload_type",
    "codec",
    "clock_rate",
    "loss_percent",
    "max_burst_loss",
    "mos",
    "first_timestamp",
    "last_timestamp",
];

/// The packet duration if no description gives one.
const DEFAULT_PTIME_MS: u32 = 20;

/// The CSV rows of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) detected_call: Vec<u8>,
    /// One row for each stream, in the order of their first packets.
    pub(super) statistics: Vec<u8>,
}

impl Rows {
    /// Creates the rows of a call. `file_name` is the name of its file, if it has one; `location`
    /// is the place where that file is or will be an object.
    pub(super) fn of(
        call: &Call,
        end: &End,
        recording: &Recording,
        file_name: Option<&str>,
        location: Option<&S3Uri>,
    ) -> Result<Self> {
        let name = file_name.unwrap_or_default().to_owned();
        let common = [
            field(&call.call_id),
            rfc3339(call.start_ns),
            name,
            field(&call.from),
            field(&call.to),
        ];
        let s3_location = || {
            location
                .zip(file_name)
                .map(|(location, name)| location.of_object(name))
                .unwrap_or_default()
        };
        let own = [
            s3_location(),
            rfc3339(recording.last_ns()),
            seconds(recording.last_ns().saturating_sub(call.start_ns)),
            end.state.to_string(),
            end.final_status
                .map(|status| status.to_string())
                .unwrap_or_default(),
            recording.sip_packets.to_string(),
            recording.streams.packets().to_string(),
            recording.streams.all().len().to_string(),
            end.capture_drops
                .map(|packets| packets.to_string())
                .unwrap_or_default(),
        ];
        let with_common = |row: &[String]| common.iter().chain(row).cloned().collect::<Vec<_>>();
        let of_streams = recording
            .streams
            .all()
            .iter()
            .map(|stream| with_common(&statistics(call, stream, s3_location())));
        Ok(Self {
            detected_call: csv_rows([with_common(&own)])?,
            statistics: csv_rows(of_streams)?,
        })
    }
}

fn statistics(call: &Call, stream: &Stream, s3_location: String) -> [String; 24] {
    let totals = stream.sequence.totals();
    let (max_delta, min_delta, avg_delta) = stream.arrivals.deltas_ns();
    let key = FlowKey::between(stream.source, stream.destination);
    let ptime_ms = call.descriptions.ptime_ms(key).unwrap_or(DEFAULT_PTIME_MS);
    // The meaning at the last packet, because the meaning of a payload type may change.
    let format_of = |payload: &Payload| {
        call.descriptions.format(
            payload.payload_type,
            key,
            KnownStatements::from_bits(payload.clock.known),
        )
    };
    let payload =
        stream.payload(|payload| format_of(payload).is_some_and(|format| !format.is_sampled()));
    let format = payload.as_ref().and_then(format_of);
    let codec = format.map(|format| format.codec);
    // A receiver waits for a packet to be complete, and for twice the jitter, which covers nearly
    // all of it.
    let delay_ms = f64::from(ptime_ms) + 2.0 * stream.jitter.steady_mean_ms();
    [
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
        ptime_ms.to_string(),
        s3_location,
        format!("{:.3}", stream.jitter.ms()),
        format!("{:.3}", stream.jitter.max_ms()),
        format!("{:.3}", stream.jitter.mean_ms()),
        payload
            .map(|payload| payload.payload_type.to_string())
            .unwrap_or_default(),
        codec.map(|codec| field(codec.name())).unwrap_or_default(),
        format
            .map(|format| format.clock_rate.to_string())
            .unwrap_or_default(),
        percent(totals.lost, totals.expected),
        totals.longest_burst.to_string(),
        codec
            .and_then(|codec| mos(codec.name(), &totals, delay_ms))
            .map(|mos| format!("{mos:.2}"))
            .unwrap_or_default(),
        rfc3339(stream.arrivals.first_ns),
        rfc3339(stream.arrivals.last_ns),
    ]
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
