//! A stream in the record of a call.

use std::fmt::Display;

use serde_json::Value;

use super::{
    super::{
        figures::{ms, percent, seconds},
        names::rfc3339,
        summary::StreamSummary,
    },
    Object,
};
use crate::{rtcp::Reported, rtp::Measured};

pub(super) fn object(summary: &StreamSummary<'_>) -> Value {
    let StreamSummary {
        stream,
        totals,
        format,
        ..
    } = summary;
    let (max_delta, min_delta, avg_delta) = stream.arrivals.deltas_ns();
    let mut to = Object::default();
    to.put("ssrc", stream.ssrc);
    to.put("ssrc_hex", format!("{:#010x}", stream.ssrc));
    to.put("src_rtp_endpoint", stream.source.to_string());
    to.put("dst_rtp_endpoint", stream.destination.to_string());
    to.put("first_timestamp", rfc3339(stream.arrivals.first_ns));
    to.put("last_timestamp", rfc3339(stream.arrivals.last_ns));
    to.maybe("payload_type", summary.payload_type);
    to.bytes("codec", format.as_ref().map(|format| format.codec.name()));
    to.maybe("clock_rate", format.map(|format| format.clock_rate));
    to.put("ptime_ms", summary.ptime_ms);
    to.put("rtp_packet_count", stream.arrivals.packets);
    to.put("expected_rtp_packets", totals.expected);
    to.put("lost_packets", totals.lost);
    to.put("out_of_order_count", totals.out_of_order);
    to.put("duplicate_count", totals.duplicates);
    to.number("loss_percent", percent(totals.lost, totals.expected));
    to.put("max_burst_loss", totals.longest_burst);
    for (name, ns) in [
        ("max_delta_ms", max_delta),
        ("min_delta_ms", min_delta),
        ("avg_delta_ms", avg_delta),
    ] {
        to.number(name, ms(ns));
    }
    for (name, ms) in [
        ("jitter_ms", stream.jitter.ms()),
        ("max_jitter_ms", stream.jitter.max_ms()),
        ("mean_jitter_ms", stream.jitter.mean_ms()),
    ] {
        to.number(name, format_args!("{ms:.3}"));
    }
    to.maybe_number("mos", summary.mos.map(|mos| format!("{mos:.2}")));
    put_far_end(&mut to, summary);
    let codec = format.as_ref().map(|format| format.codec.name());
    let measured = stream.measured(codec, summary.ptime_ms).unwrap_or_default();
    let series: Vec<Value> = measured.iter().map(interval).collect();
    to.put("series", series);
    let clock_rate = format.map(|format| format.clock_rate);
    let reported = summary.far_end.reception;
    let reported = reported.map(|reception| reception.reported(clock_rate));
    let reported: Vec<Value> = reported.iter().flatten().map(report).collect();
    to.put("rtcp_series", reported);
    to.into_value()
}

fn put_far_end(to: &mut Object, summary: &StreamSummary<'_>) {
    let far_end = &summary.far_end;
    let loss = far_end.loss.map(|loss| percent(loss.lost, loss.expected));
    to.maybe_number("rtcp_loss_percent", loss);
    to.maybe_number(
        "rtcp_jitter_ms",
        far_end.jitter_ms.map(|ms| format!("{ms:.3}")),
    );
    to.maybe_number("rtcp_rtt_ms", far_end.round_trip_ns.map(round_trip_ms));
    to.maybe_number("rtcp_mos", far_end.mos.map(|mos| format!("{mos:.1}")));
    to.bytes("cname", far_end.cname);
}

fn interval(measured: &Measured) -> Value {
    let mut to = Object::default();
    to.put("start_timestamp", rfc3339(measured.start_ns));
    to.number("length_s", seconds(measured.length_ns));
    to.put("packets", measured.packets);
    to.put("lost", measured.lost);
    to.number("jitter_ms", format_args!("{:.3}", measured.jitter_ms));
    to.maybe_number("mos", measured.mos.map(|mos| format!("{mos:.2}")));
    to.into_value()
}

/// The last report of the receiver in an interval.
fn report(reported: &Reported) -> Value {
    let mut to = Object::default();
    to.put("start_timestamp", rfc3339(reported.start_ns));
    to.number("length_s", seconds(reported.length_ns));
    for (name, value, digits) in [
        ("loss_percent", reported.loss_percent, 2),
        ("jitter_ms", reported.jitter_ms, 3),
    ] {
        to.maybe_number(name, value.map(|value| format!("{value:.digits$}")));
    }
    to.maybe_number("rtt_ms", reported.round_trip_ns.map(round_trip_ms));
    to.maybe_number("mos", reported.mos.map(|mos| format!("{mos:.1}")));
    to.into_value()
}

fn round_trip_ms(ns: u64) -> impl Display {
    ms(i64::try_from(ns).unwrap_or(i64::MAX))
}
