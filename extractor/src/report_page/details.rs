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
    serde_json::to_vec(&compact(record, start)).map_err(made)
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
/// millisecond, MOS in hundredths. Each beginning is the time since the one before.
fn series(intervals: &[Value], start: i64) -> Value {
    let (mut begins, mut lengths, mut packets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lost, mut jitters, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = start;
    for interval in intervals {
        let Some(begin) = interval.get("start_timestamp").and_then(microseconds) else {
            continue;
        };
        let count = |name: &str| interval.get(name).and_then(Value::as_u64).unwrap_or(0);
        let scaled = |name: &str, by: f64| {
            let value = interval.get(name).and_then(Value::as_f64)?;
            Some((value * by).round() as i64)
        };
        begins.push(begin.saturating_sub(before).div_euclid(1000));
        // The remainders of divisions must not add up.
        before = before
            .saturating_add((begin.saturating_sub(before).div_euclid(1000)).saturating_mul(1000));
        lengths.push(scaled("length_s", 1000.0).unwrap_or(5000));
        packets.push(count("packets"));
        lost.push(count("lost"));
        jitters.push(scaled("jitter_ms", 10.0).unwrap_or(0));
        scores.push(scaled("mos", 100.0));
    }
    // Nearly always all intervals are equally long.
    if lengths.iter().all(|length| lengths.first() == Some(length)) {
        lengths.truncate(1);
    }
    json!({"begin": begins, "length": lengths, "packets": packets, "lost": lost, "jitter": jitters, "mos": scores})
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
}
