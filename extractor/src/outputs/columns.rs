//! The columns of the two tables (docs/statistics.md), and those of the version before. The CSV
//! files and the Parquet files have the same.

use std::{fmt, slice::SliceIndex};

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
    columns: &'static [Column],
    /// The number of columns that the version before had.
    classic: usize,
}

/// The name of a column, and the kind of its values.
pub(super) type Column = (&'static str, Kind);

/// The kind of the values of a column. Any of them may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Decimal,
    Time,
    Flag,
}

impl Table {
    /// All columns, which Parquet files have.
    #[cfg(feature = "parquet")]
    pub(super) fn all(&self) -> &'static [Column] {
        self.columns
    }

    /// The number of columns that a run writes to the CSV file.
    pub(super) fn len(&self, columns: Columns) -> usize {
        match columns {
            Columns::All => self.columns.len(),
            Columns::Classic => self.classic,
        }
    }

    /// The names of the columns that a run writes to the CSV file.
    pub(super) fn names(&self, columns: Columns) -> Vec<&'static str> {
        self.names_of(..self.len(columns))
    }

    /// The names of the columns that the version before did not have.
    pub(super) fn newer(&self) -> Vec<&'static str> {
        self.names_of(self.classic..)
    }

    fn names_of(&self, range: impl SliceIndex<[Column], Output = [Column]>) -> Vec<&'static str> {
        let columns = self.columns.get(range).unwrap_or_default();
        columns.iter().map(|(name, _)| *name).collect()
    }
}

/// The columns of `detected_calls.csv`.
pub(super) const DETECTED_CALLS: &Table = &Table {
    columns: &[
        ("call_id", Kind::Text),
        ("start_timestamp", Kind::Time),
        ("output_pcap_filename", Kind::Text),
        ("sip_from", Kind::Text),
        ("sip_to", Kind::Text),
        ("s3_location", Kind::Text),
        ("end_timestamp", Kind::Time),
        ("duration_s", Kind::Decimal),
        ("state", Kind::Text),
        ("final_status", Kind::Integer),
        ("sip_packet_count", Kind::Integer),
        ("rtp_packet_count", Kind::Integer),
        ("rtp_stream_count", Kind::Integer),
        ("pdd_ms", Kind::Decimal),
        ("answer_ms", Kind::Decimal),
        ("talk_s", Kind::Decimal),
        ("hangup_by", Kind::Text),
        ("caller_ua", Kind::Text),
        ("callee_ua", Kind::Text),
        ("codecs", Kind::Text),
        ("dtmf", Kind::Text),
        ("one_way", Kind::Flag),
        ("no_media", Kind::Flag),
        ("reason", Kind::Text),
        ("source_ip", Kind::Text),
        ("destination_ip", Kind::Text),
        ("problems", Kind::Text),
        ("capture_drops", Kind::Integer),
        ("conversation_id", Kind::Text),
        ("conversation_links", Kind::Text),
    ],
    classic: 13,
};

/// The columns of `calls_statistics.csv`.
pub(super) const STATISTICS: &Table = &Table {
    columns: &[
        ("call_id", Kind::Text),
        ("start_timestamp", Kind::Time),
        ("output_pcap_filename", Kind::Text),
        ("sip_from", Kind::Text),
        ("sip_to", Kind::Text),
        ("ssrc_hex", Kind::Text),
        ("src_rtp_endpoint", Kind::Text),
        ("dst_rtp_endpoint", Kind::Text),
        ("rtp_packet_count", Kind::Integer),
        ("expected_rtp_packets", Kind::Integer),
        ("lost_packets", Kind::Integer),
        ("out_of_order_count", Kind::Integer),
        ("duplicate_count", Kind::Integer),
        ("max_delta_ms", Kind::Decimal),
        ("min_delta_ms", Kind::Decimal),
        ("avg_delta_ms", Kind::Decimal),
        ("ptime_ms", Kind::Integer),
        ("s3_location", Kind::Text),
        ("jitter_ms", Kind::Decimal),
        ("max_jitter_ms", Kind::Decimal),
        ("mean_jitter_ms", Kind::Decimal),
        ("payload_type", Kind::Integer),
        ("codec", Kind::Text),
        ("clock_rate", Kind::Integer),
        ("loss_percent", Kind::Decimal),
        ("max_burst_loss", Kind::Integer),
        ("mos", Kind::Decimal),
        ("first_timestamp", Kind::Time),
        ("last_timestamp", Kind::Time),
        ("rtcp_loss_percent", Kind::Decimal),
        ("rtcp_jitter_ms", Kind::Decimal),
        ("rtcp_rtt_ms", Kind::Decimal),
        ("rtcp_mos", Kind::Decimal),
        ("cname", Kind::Text),
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
            let classic = table.names(Columns::Classic);
            assert_eq!(classic.last(), Some(&last));
            assert_eq!(
                [classic.clone(), table.newer()].concat(),
                table.names(Columns::All)
            );
        }
    }
}
