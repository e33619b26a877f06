//! The columns of the two tables (docs/statistics.md), and those of the version before.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The columns that a run writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Columns {
    /// All columns.
    #[default]
    All,
    /// Those of the version before, so that its tables can be continued.
    Classic,
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Classic => "classic",
        })
    }
}

/// The columns of a table: those of the original program, those of the version before, then newer
/// ones.
#[derive(Debug)]
pub(super) struct Table {
    names: &'static [&'static str],
    /// The number of columns that the version before had.
    classic: usize,
}

impl Table {
    /// The columns that a run writes.
    pub(super) fn columns(&self, columns: Columns) -> &'static [&'static str] {
        match columns {
            Columns::All => self.names,
            Columns::Classic => self.names.get(..self.classic).unwrap_or(self.names),
        }
    }

    /// The columns that the version before did not have.
    pub(super) fn newer(&self) -> &'static [&'static str] {
        self.names.get(self.classic..).unwrap_or_default()
    }
}

/// The columns of `detected_calls.csv`.
pub(super) const DETECTED_CALLS: &Table = &Table {
    names: &[
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
        "pdd_ms",
        "answer_ms",
        "talk_s",
        "hangup_by",
        "caller_ua",
        "callee_ua",
        "codecs",
        "dtmf",
        "one_way",
        "no_media",
        "reason",
        "source_ip",
        "destination_ip",
        "problems",
        "capture_drops",
        "conversation_id",
        "conversation_links",
    ],
    classic: 13,
};

/// The columns of `calls_statistics.csv`.
pub(super) const STATISTICS: &Table = &Table {
    names: &[
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
        "rtcp_loss_percent",
        "rtcp_jitter_ms",
        "rtcp_rtt_ms",
        "rtcp_mos",
        "cname",
    ],
    classic: 29,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_columns_come_first() {
        for (table, last) in [
            (DETECTED_CALLS, "rtp_stream_count"),
            (STATISTICS, "last_timestamp"),
        ] {
            let classic = table.columns(Columns::Classic);
            assert_eq!(classic.last(), Some(&last));
            assert_eq!(
                [classic, table.newer()].concat(),
                table.columns(Columns::All)
            );
        }
    }
}
