//! The details of a call, as the page reads them: a record with the members that it shows, times as
//! microseconds since the start of the call, and the series as columns. That is a third smaller,
//! compressed, than the record.

use std::io;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Without, made};

/// Members that the page does not show, at any depth.
const LEFT_OUT: &[&str] = &[
    "schema_version",
    "start_ns",
    "end_ns",
    "source_ip",
    "destination_ip",
    "sip_packet_count",
    "rtp_stream_count",
    "legs",
    "dialogs",
    "legs_omitted",
    "media_omitted",
    "endpoints",
    "protocol",
    "place",
    "clock_rate",
    "ssrc",
    "ssrc_hex",
    "payload_type",
    "avg_delta_ms",
    "min_delta_ms",
    "jitter_ms",
    "out_of_order_count",
    "duplicate_count",
    "expected_rtp_packets",
    "cname",
    "from_tag",
    "to_tag",
];

/// Members that are times; they lose `_timestamp`, or are called `at`.
const TIMES: &[(&str, &str)] = &[
    ("timestamp", "at"),
    ("end_timestamp", "end"),
    ("first_timestamp", "first"),
    ("last_timestamp", "last"),
];

/// The details of the call in a line.
pub(super) fn details(line: &[u8], without: Without) -> io::Result<Vec<u8>> {
    let record: Map<String, Value> = serde_json::from_slice(line).map_err(made)?;
    let record = without.applied(record);
    let start = record.get("start_timestamp").and_then(microseconds);
    let start = start.unwrap_or_default();
    let record = with_streams_of_presses(record);
    serde_json::to_vec(&compact(record, start)).map_err(made)
}

/// Replaces the SSRC of each press of a key with the number of its stream.
fn with_streams_of_presses(mut record: Map<String, Value>) -> Map<String, Value> {
    let streams = record.get("streams").and_then(Value::as_array);
    let ssrcs = streams.into_iter().flatten().map(|one| one.get("ssrc"));
    let ssrcs: Vec<Option<Value>> = ssrcs.map(Option::<&Value>::cloned).collect();
    let presses = record.get_mut("dtmf_presses").and_then(Value::as_array_mut);
    for press in presses.into_iter().flatten() {
        let Some(press) = press.as_object_mut() else {
            continue;
        };
        let ssrc = press.remove("ssrc");
        let stream = ssrcs.iter().position(|one| one.is_some() && *one == ssrc);
        press.extend(stream.map(|number| ("stream".to_owned(), number.into())));
    }
    record
}

fn compact(object: Map<String, Value>, start: i64) -> Value {
    let member = |(name, value): (String, Value)| {
        if let Some((_, short)) = TIMES.iter().find(|(long, _)| *long == name) {
            let at = microseconds(&value)?.saturating_sub(start);
            return Some(((*short).to_owned(), at.into()));
        }
        if LEFT_OUT.contains(&&*name) || name.ends_with("_b64") {
            return None;
        }
        let value = match value {
            Value::Array(intervals) if name == "series" => series(&intervals, start),
            Value::Array(intervals) if name == "rtcp_series" => reports(&intervals, start)?,
            Value::Array(presses) if name == "dtmf_presses" && presses.is_empty() => return None,
            Value::Array(values) => {
                let of_list = |value| match value {
                    Value::Object(mut object) => {
                        if name == "media" {
                            // Its message has these.
                            object.retain(|name, _| {
                                !matches!(name.as_str(), "timestamp" | "from" | "side")
                            });
                        }
                        compact(object, start)
                    }
                    other => other,
                };
                values.into_iter().map(of_list).collect()
            }
            Value::Object(object) => compact(object, start),
            other => other,
        };
        Some((name, value))
    };
    object
        .into_iter()
        .filter_map(member)
        .collect::<Map<_, _>>()
        .into()
}

/// The columns of a series: begin and length in milliseconds, packets, lost, jitter in tenths of a
/// millisecond, MOS in hundredths.
fn series(intervals: &[Value], start: i64) -> Value {
    let (begins, lengths) = times(intervals, start);
    let count = |name: &str| -> Value {
        let value = |one: &Value| one.get(name).and_then(Value::as_u64).unwrap_or(0);
        intervals.iter().map(value).collect()
    };
    let jitters: Value = intervals
        .iter()
        .map(|one| scaled(one, "jitter_ms", 10.0).unwrap_or(0))
        .collect();
    json!({"begin": begins, "length": lengths, "packets": count("packets"), "lost": count("lost"),
        "jitter": jitters, "mos": column(intervals, "mos", 100.0)})
}

/// The columns of what a receiver reported: begin and length in milliseconds, loss in hundredths of
/// a percent, jitter and round trip in tenths of a millisecond, MOS in tenths. `None` if it reported
/// nothing.
fn reports(intervals: &[Value], start: i64) -> Option<Value> {
    let (begins, lengths) = times(intervals, start);
    let column = |name, by| column(intervals, name, by);
    (!intervals.is_empty()).then(|| {
        json!({"begin": begins, "length": lengths, "loss": column("loss_percent", 100.0),
            "jitter": column("jitter_ms", 10.0), "trip": column("rtt_ms", 10.0),
            "mos": column("mos", 10.0)})
    })
}

/// When intervals begin, and how long they are, in milliseconds. Each beginning is the time since
/// the one before; one length stands for all if they are equal, as they nearly always are.
fn times(intervals: &[Value], start: i64) -> (Vec<i64>, Vec<i64>) {
    let (mut begins, mut lengths) = (Vec::new(), Vec::new());
    let mut before = start;
    for interval in intervals {
        let begin = interval.get("start_timestamp").and_then(microseconds);
        let since = begin.unwrap_or(before).saturating_sub(before);
        let since_ms = since.div_euclid(1000);
        begins.push(since_ms);
        // The remainders of divisions must not add up.
        before = before.saturating_add(since_ms.saturating_mul(1000));
        lengths.push(scaled(interval, "length_s", 1000.0).unwrap_or(5000));
    }
    if lengths.iter().all(|length| lengths.first() == Some(length)) {
        lengths.truncate(1);
    }
    (begins, lengths)
}

fn column(intervals: &[Value], name: &str, by: f64) -> Value {
    intervals.iter().map(|one| scaled(one, name, by)).collect()
}

fn scaled(interval: &Value, name: &str, by: f64) -> Option<i64> {
    let value = interval.get(name).and_then(Value::as_f64)?;
    Some((value * by).round() as i64)
}

/// Microseconds since 1970 of a time as records have it.
fn microseconds(value: &Value) -> Option<i64> {
    let time: Timestamp = value.as_str()?.parse().ok()?;
    Some(time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_since_the_start_and_columns() {
        let line = r#"{"schema_version":1,"start_timestamp":"2023-12-01T14:30:22.123456Z","end_timestamp":"2023-12-01T14:30:32.123456Z","legs":[],"call_id_b64":"x","messages":[{"timestamp":"2023-12-01T14:30:22.123457Z","start_line":"BYE"}],"streams":[{"first_timestamp":"2023-12-01T14:30:21.123456Z","series":[{"start_timestamp":"2023-12-01T14:30:20.000000Z","length_s":5.0,"packets":94,"lost":1,"jitter_ms":1.25,"mos":4.31},{"start_timestamp":"2023-12-01T14:30:25.000000Z","length_s":5.0,"packets":9,"lost":0,"jitter_ms":0.0}]}]}"#;
        let details = details(line.as_bytes(), Without::default()).unwrap();
        assert_eq!(
            String::from_utf8(details).unwrap(),
            r#"{"start_timestamp":"2023-12-01T14:30:22.123456Z","end":10000000,"messages":[{"at":1,"start_line":"BYE"}],"streams":[{"first":-1000000,"series":{"begin":[-2124,5000],"length":[5000],"packets":[94,9],"lost":[1,0],"jitter":[13,0],"mos":[431,null]}}]}"#
        );
    }

    #[test]
    fn presses_and_reports() {
        let line = r#"{"start_timestamp":"2023-12-01T14:30:22.000000Z","dtmf_presses":[{"timestamp":"2023-12-01T14:30:23.000000Z","ssrc":9,"digit":"5"},{"timestamp":"2023-12-01T14:30:24.000000Z"}],"streams":[{"ssrc":7,"rtcp_series":[]},{"ssrc":9,"rtcp_series":[{"start_timestamp":"2023-12-01T14:30:20.000000Z","length_s":5.0,"loss_percent":25.0,"jitter_ms":1.25,"rtt_ms":12.34},{"start_timestamp":"2023-12-01T14:30:25.000000Z","length_s":5.0,"mos":4.2}]}]}"#;
        let details = details(line.as_bytes(), Without::default()).unwrap();
        assert_eq!(
            String::from_utf8(details).unwrap(),
            r#"{"start_timestamp":"2023-12-01T14:30:22.000000Z","dtmf_presses":[{"at":1000000,"digit":"5","stream":1},{"at":2000000}],"streams":[{},{"rtcp_series":{"begin":[-2000,5000],"length":[5000],"loss":[2500,null],"jitter":[13,null],"trip":[123,null],"mos":[null,42]}}]}"#
        );
    }
}
