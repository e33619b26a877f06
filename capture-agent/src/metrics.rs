//! The counters in the text format of Prometheus.

use std::fmt::Write;

use crate::tally::{SegmentDirTally, Tally};

/// One metric of each interface.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Tally) -> String,
}

const METRICS: [Metric; 13] = [
    counter(
        "packets_received_total",
        "Packets that the kernel delivered.",
        |tally| tally.received.get().to_string(),
    ),
    counter(
        "bytes_received_total",
        "Captured bytes of those packets.",
        |tally| tally.received_bytes.get().to_string(),
    ),
    counter(
        "packets_written_total",
        "Packets that were written to segments.",
        |tally| tally.written.get().to_string(),
    ),
    counter(
        "bytes_written_total",
        "Bytes that were written to segments.",
        |tally| tally.written_bytes.get().to_string(),
    ),
    counter(
        "kernel_drops_total",
        "Packets that the kernel's buffer had no room for.",
        |tally| tally.kernel_dropped.get().to_string(),
    ),
    counter(
        "interface_drops_total",
        "Packets that the interface or its driver dropped.",
        |tally| tally.interface_dropped.get().to_string(),
    ),
    counter(
        "disk_drops_total",
        "Packets that the disk did not take in time.",
        |tally| tally.disk_dropped.get().to_string(),
    ),
    counter(
        "segments_closed_total",
        "Segments that were closed.",
        |tally| tally.segments.get().to_string(),
    ),
    gauge(
        "segment_bytes",
        "Size of the segment that is being written.",
        |tally| tally.segment_bytes.get().to_string(),
    ),
    gauge(
        "last_packet_timestamp_seconds",
        "Time of the last packet.",
        |tally| seconds(tally.last_packet_ns.get()),
    ),
    gauge(
        "capturing",
        "1 if the interface is open, 0 if the agent waits for it.",
        |tally| u8::from(tally.is_capturing.get()).to_string(),
    ),
    gauge(
        "disk_refuses",
        "1 if the disk refuses writes, 0 otherwise.",
        |tally| u8::from(tally.is_refused.get()).to_string(),
    ),
    gauge("queue_bytes", "Memory that waits for the disk.", |tally| {
        tally.queue_bytes.get().to_string()
    }),
];

const fn counter(name: &'static str, help: &'static str, value: fn(&Tally) -> String) -> Metric {
    Metric {
        name,
        kind: "counter",
        help,
        value,
    }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Tally) -> String) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        value,
    }
}

/// Formats the metrics file.
pub(crate) fn text<'a>(
    interfaces: &(impl Iterator<Item = (&'a str, &'a Tally)> + Clone),
    segment_dir: &SegmentDirTally,
) -> String {
    let mut text = String::new();
    for Metric {
        name,
        kind,
        help,
        value,
    } in METRICS
    {
        head(&mut text, name, kind, help);
        for (interface, tally) in interfaces.clone() {
            line(
                &mut text,
                name,
                &format!("interface=\"{}\"", escaped(interface)),
                &value(tally),
            );
        }
    }
    // A label with the name of the segment would create a time series for each.
    head(&mut text, "build_info", "gauge", "The version that runs.");
    line(
        &mut text,
        "build_info",
        concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
        "1",
    );
    head(
        &mut text,
        "segments_deleted_total",
        "counter",
        "Segments that were deleted to make room.",
    );
    line(
        &mut text,
        "segments_deleted_total",
        "processed=\"yes\"",
        &segment_dir.deleted.get().to_string(),
    );
    line(
        &mut text,
        "segments_deleted_total",
        "processed=\"no\"",
        &segment_dir.deleted_unprocessed.get().to_string(),
    );
    head(
        &mut text,
        "free_bytes",
        "gauge",
        "Room that the output directory's file system has left.",
    );
    line(
        &mut text,
        "free_bytes",
        "",
        &segment_dir.free_bytes.get().to_string(),
    );
    text
}

// Writing to a string does not fail.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        text,
        "# HELP sip_capture_agent_{name} {help}\n# TYPE sip_capture_agent_{name} {kind}"
    );
}

fn line(text: &mut String, name: &str, labels: &str, value: &str) {
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    };
    let _ = writeln!(text, "sip_capture_agent_{name}{labels} {value}");
}

/// Escapes a label's value: backslashes, quotes and line ends.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_head_and_a_line_for_each_interface() {
        let (eth0, odd) = (Tally::default(), Tally::default());
        eth0.received.add(7);
        eth0.last_packet_ns.set(1_700_000_000_000_000_001);
        let segment_dir = SegmentDirTally::default();
        segment_dir.free_bytes.set(1000);
        let text = text(
            &[("eth0", &eth0), ("a\"b\\", &odd)].into_iter(),
            &segment_dir,
        );
        for want in [
            "# TYPE sip_capture_agent_packets_received_total counter\n",
            "sip_capture_agent_packets_received_total{interface=\"eth0\"} 7\n",
            "sip_capture_agent_packets_received_total{interface=\"a\\\"b\\\\\"} 0\n",
            "sip_capture_agent_last_packet_timestamp_seconds{interface=\"eth0\"} 1700000000.000000001\n",
            "sip_capture_agent_build_info{version=\"",
            "sip_capture_agent_segments_deleted_total{processed=\"no\"} 0\n",
            "sip_capture_agent_free_bytes 1000\n",
        ] {
            assert!(text.contains(want), "{want} in\n{text}");
        }
        let names: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        assert_eq!(names.len(), METRICS.len() + 3);
    }
}
