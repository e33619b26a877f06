//! The outcome of a run: the counters, the losses and their reasons, and the exit status.

use std::{collections::BTreeSet, fmt, time::Duration};

use shared::{pcap::Gap, segment_drops::SegmentDrops, units::grouped};

use crate::{
    calls::{CallState, UnclaimedCounts},
    counts::{CallCounts, Counts, Excess, FragmentCounts, Importance, NotUsed, StreamCounts},
    events::FlowKey,
    outputs::{rfc3339, uploads::UploadCounts},
    survey::Survey,
};

/// The result of a run, for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is done.
    Done,
    /// Done, but a part of the input or of the uploads was left behind.
    LeftBehind,
}

impl Exit {
    /// The exit status (docs/operations.md).
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::LeftBehind => 3,
        }
    }
}

/// The totals of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Inputs that could not be read.
    pub refused_inputs: u64,
    /// Segments that are set aside because they could not be read.
    pub set_aside: u64,
    /// Compressed inputs that are cut or damaged; they were read up to that point.
    pub damaged_inputs: u64,
    /// The size of the inputs in bytes; compressed inputs count with their decompressed size.
    pub input_bytes: u64,
    /// The counters of frames and their contents.
    pub counts: Counts,
    /// Unreadable stretches of input, and their bytes.
    pub gaps: u64,
    /// The bytes in `gaps`.
    pub gap_bytes: u64,
    /// Endpoints and the like beyond the limits of a call.
    pub excess: Excess,
    /// Packets that were dropped at capture.
    pub dropped: DroppedPackets,
    /// SIP messages of which more than their keys was blanked.
    pub blanked_messages: u64,
    /// RTP that belongs to no call.
    pub unclaimed: UnclaimedCounts,
    /// IP datagrams that came in fragments.
    pub fragments: FragmentCounts,
    /// TCP connections on SIP ports.
    pub streams: StreamCounts,
    /// SIP messages that belong to no call.
    pub stray_messages: u64,
    /// The calls that closed.
    pub calls: CallCounts,
    /// Calls that are still open, and go on in the next run.
    pub open_calls: u64,
    /// The Call-IDs of all legs of the conversations of calls that were asked for by their
    /// Call-IDs.
    pub legs: BTreeSet<Box<[u8]>>,
    /// Segments that were read.
    pub segments: u64,
    /// Copies of packets that were left out.
    pub copies: u64,
    /// The outcome of uploads.
    pub uploads: UploadCounts,
    /// The ports with the most traffic, if there was no call.
    pub survey: Survey,
    /// True when the run continued an earlier one.
    pub is_resumed: bool,
    /// The duration of the run.
    pub elapsed: Duration,
}

/// Packets that were dropped at capture, as segments say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedPackets {
    /// Their number.
    pub packets: u64,
    /// The time in which they were dropped, in microseconds since 1970.
    time_us: Option<(u64, u64)>,
}

impl DroppedPackets {
    /// Adds those of a segment.
    pub fn add(&mut self, drops: &SegmentDrops) {
        self.packets = self.packets.saturating_add(drops.packets());
        for drop in drops.drops() {
            let (from_us, until_us) = self.time_us.unwrap_or((u64::MAX, 0));
            self.time_us = Some((from_us.min(drop.from_us), until_us.max(drop.until_us)));
        }
    }
}

/// A line of the summary; none if nothing was dropped.
impl fmt::Display for DroppedPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((from_us, until_us)) = self.time_us else {
            return Ok(());
        };
        let time = |us: u64| rfc3339(us.saturating_mul(1000));
        write!(
            f,
            "\ndropped   {:>14}   packets were dropped at capture between {} and {}: loss in calls of that time may be the capture's",
            grouped(self.packets),
            time(from_us),
            time(until_us)
        )
    }
}

impl CallCounts {
    /// The number of calls in each final state that occurred.
    fn states(&self) -> String {
        let states = [
            (self.completed, "completed"),
            (self.cancelled, "cancelled"),
            (self.failed, "failed"),
            (self.timeout, "timed out"),
            (self.incomplete, "incomplete"),
            (self.flood, "flood"),
        ];
        let there = states.iter().filter(|(count, _)| *count > 0);
        there
            .map(|(count, state)| format!("{} {state}", grouped(*count)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Counts a call.
    pub fn add(&mut self, state: CallState) {
        let count = match state {
            CallState::Completed => &mut self.completed,
            CallState::Cancelled => &mut self.cancelled,
            CallState::Failed => &mut self.failed,
            CallState::Timeout => &mut self.timeout,
            CallState::Incomplete => &mut self.incomplete,
            CallState::Flood => &mut self.flood,
        };
        *count = count.saturating_add(1);
    }
}

/// The column in which the text of the summary begins.
const WORDS: usize = 27;
/// The smallest terminal width that is used, in columns.
const NARROWEST: usize = 60;

/// The number of gaps that the log names, so that a damaged file does not fill it.
const MAX_GAPS_NAMED: u64 = 100;

impl Report {
    /// Counts and logs an unreadable stretch of an input.
    pub fn note_gap(&mut self, name: &str, gap: &Gap) {
        match self.gaps {
            ..MAX_GAPS_NAMED => tracing::warn!("{name}: {gap}"),
            MAX_GAPS_NAMED => {
                tracing::warn!("{name}: {gap}; further unreadable stretches are only counted");
            }
            _ => tracing::debug!("{name}: {gap}"),
        }
        self.gaps = self.gaps.saturating_add(1);
        self.gap_bytes = self.gap_bytes.saturating_add(gap.len as u64);
    }

    /// The closing summary for a terminal of this width; without a width, one line for each item.
    #[must_use]
    pub fn in_columns(&self, columns: Option<usize>) -> String {
        let text = self.to_string();
        let Some(columns) = columns else { return text };
        text.lines()
            .map(|line| folded(line, columns.max(NARROWEST)))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The result of the run, for the shell.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.left_behind() == 0 {
            Exit::Done
        } else {
            Exit::LeftBehind
        }
    }

    /// The number of things that should have been used but were not: inputs, stretches, frames,
    /// files without objects.
    #[must_use]
    pub fn left_behind(&self) -> u64 {
        let unsent = [
            self.uploads.waiting,
            self.uploads.lost,
            self.uploads.unsent_tables,
        ];
        let unused = self
            .all_not_used()
            .into_iter()
            .filter(|line| line.rank == Importance::LeftBehind)
            .map(|line| line.count);
        unsent
            .into_iter()
            .chain(unused)
            .fold(0, u64::saturating_add)
    }

    /// Everything that was not used, with the reason, most important first. Items with count 0 are
    /// left out.
    pub fn not_used(&self) -> impl Iterator<Item = (u64, String)> {
        let mut lines = self.all_not_used();
        lines.sort_by_key(|line| line.rank);
        lines
            .into_iter()
            .filter(|line| line.count > 0)
            .map(|line| (line.count, line.what))
    }

    /// All items in the order of their counters, including those with count 0.
    fn all_not_used(&self) -> Vec<NotUsed> {
        [
            self.own_not_used(),
            self.counts.not_used(),
            self.calls.not_used(),
            self.excess.not_used(),
            self.unclaimed.not_used(),
            self.streams.not_used(),
            self.fragments.not_used(),
        ]
        .concat()
    }

    /// The items of the report's own counters, and items whose text has a variable part.
    fn own_not_used(&self) -> Vec<NotUsed> {
        let counts = &self.counts;
        let link = counts
            .first_unknown_link
            .map(|link| link.to_string())
            .unwrap_or_default();
        let unreadable = format!(
            "stretches of input were unreadable ({} bytes)",
            grouped(self.gap_bytes)
        );
        let unknown_link = format!("frames have a link type that is not read, such as {link}");
        let passed = counts.other_tcp.saturating_sub(self.streams.followed);
        vec![
            NotUsed::new(
                Importance::LeftBehind,
                self.refused_inputs,
                "inputs could not be read",
            ),
            NotUsed::new(
                Importance::LeftBehind,
                self.set_aside,
                "segments are set aside, for they could not be read",
            ),
            NotUsed::new(
                Importance::LeftBehind,
                self.damaged_inputs,
                "compressed inputs are cut or damaged",
            ),
            NotUsed::new(Importance::LeftBehind, self.gaps, unreadable),
            NotUsed::new(Importance::LeftBehind, counts.unknown_link, unknown_link),
            NotUsed::new(
                Importance::Part,
                passed,
                "TCP segments of connections without SIP",
            ),
            NotUsed::new(
                Importance::NoCall,
                self.stray_messages,
                "SIP messages of no call",
            ),
            NotUsed::new(Importance::Usual, self.copies, "copies of packets"),
            NotUsed::new(
                Importance::Usual,
                self.blanked_messages,
                "SIP messages were blanked in part, for their keys cannot be found in compressed bodies and masked frames",
            ),
        ]
    }
}

impl UnclaimedCounts {
    fn not_used(&self) -> Vec<NotUsed> {
        let flows = grouped(self.doubtful_flows);
        let what =
            format!("packets in {flows} flows that several calls may own are in no call's file");
        vec![NotUsed::new(
            Importance::Missing,
            self.doubtful_packets,
            what,
        )]
    }
}

/// Wraps a line of the summary, with the continuation lines in the text column.
fn folded(line: &str, columns: usize) -> String {
    let mut folded = String::new();
    let mut width = 0usize;
    for piece in line.split_inclusive(' ') {
        let len = piece.trim_end().chars().count();
        if width > WORDS && width.saturating_add(len) > columns {
            folded.truncate(folded.trim_end().len());
            folded.push('\n');
            folded.push_str(&" ".repeat(WORDS));
            width = WORDS;
        }
        folded.push_str(piece);
        width = width.saturating_add(piece.chars().count());
    }
    folded
}

/// The closing summary: a few lines that a user can read at a glance.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts, calls, .. } = self;
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.input_bytes as f64 / 1e6 / seconds.max(1e-6);
        writeln!(
            f,
            "{}",
            format!(
                "calls     {:>14}   {}",
                grouped(calls.total()),
                calls.states()
            )
            .trim_end()
        )?;
        if calls.flood > 0 {
            writeln!(
                f,
                "flood     {:>14}   calls given up: more than --max-open-calls were open",
                grouped(calls.flood)
            )?;
        }
        if calls.without_file > 0 {
            writeln!(
                f,
                "no file   {:>14}   calls have rows only",
                grouped(calls.without_file)
            )?;
        }
        if calls.conversations > 0 {
            writeln!(
                f,
                "joined    {:>14}   conversations have a file with all of their legs",
                grouped(calls.conversations)
            )?;
        }
        if calls.not_wanted > 0 {
            writeln!(
                f,
                "left out  {:>14}   calls that were not selected",
                grouped(calls.not_wanted)
            )?;
        }
        if self.open_calls > 0 {
            writeln!(
                f,
                "open      {:>14}   go on in the next run",
                grouped(self.open_calls)
            )?;
        }
        writeln!(
            f,
            "streams   {:>14}   {} RTP packets, {} lost",
            grouped(calls.streams),
            grouped(calls.rtp_packets),
            grouped(calls.lost_packets)
        )?;
        writeln!(
            f,
            "packets   {:>14}   {} SIP messages, {} other UDP",
            grouped(counts.packets),
            grouped(counts.sip),
            grouped(counts.udp)
        )?;
        write!(
            f,
            "bytes     {:>14}   in {seconds:.2} s, {} MB/s",
            grouped(self.input_bytes),
            grouped(rate.round() as u64)
        )?;
        self.uploads.fmt(f)?;
        self.dropped.fmt(f)?;
        self.unclaimed.fmt(f)?;
        for (index, (count, what)) in self.not_used().enumerate() {
            let title = if index == 0 { "not used" } else { "" };
            write!(f, "\n{title:<10}{:>14}   {what}", grouped(count))?;
        }
        self.survey.fmt(f)
    }
}

/// Lines of the summary; none if all media belongs to calls.
impl fmt::Display for UnclaimedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flows > 0 {
            write!(
                f,
                "\nno call   {:>14}   RTP packets in {} flows; the largest:",
                grouped(self.packets),
                grouped(self.flows)
            )?;
        }
        for (
            FlowKey {
                source,
                destination,
                ..
            },
            packets,
        ) in &self.largest
        {
            write!(
                f,
                "\n{:>24}   from {source} to {destination}",
                grouped(*packets)
            )?;
        }
        Ok(())
    }
}

/// Lines of the summary; none if nothing was to be uploaded.
impl fmt::Display for UploadCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            sent_bytes,
            there_before,
            waiting,
            waiting_bytes,
            lost,
            unsent_tables,
        } = self;
        if *sent > 0 || *there_before > 0 {
            write!(
                f,
                "\nuploaded  {:>14}   {} bytes; {} files were there already",
                grouped(*sent),
                grouped(*sent_bytes),
                grouped(*there_before)
            )?;
        }
        for (count, what) in [
            (lost, "files were lost before their upload".to_owned()),
            (
                waiting,
                format!(
                    "files ({} bytes) wait for upload by the next run",
                    grouped(*waiting_bytes)
                ),
            ),
            (unsent_tables, "tables could not be uploaded".to_owned()),
        ] {
            if *count > 0 {
                write!(f, "\nnot sent  {:>14}   {what}", grouped(*count))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::pcap::LinkType;

    #[test]
    fn all_that_is_not_used_is_named_in_order() {
        let mut report = Report {
            refused_inputs: 1,
            set_aside: 6,
            damaged_inputs: 2,
            gaps: 3,
            gap_bytes: 4_000,
            stray_messages: 4,
            copies: 5,
            ..Report::default()
        };
        let wanted = [
            (1, "inputs could not be read"),
            (6, "segments are set aside, for they could not be read"),
            (2, "compressed inputs are cut or damaged"),
            (3, "stretches of input were unreadable (4,000 bytes)"),
            (
                11,
                "frames have a link type that is not read, such as Ethernet (1)",
            ),
            (
                12,
                "RTP packets belong to more streams than one call may have",
            ),
            (
                13,
                "media endpoints are beyond the most that one call may have",
            ),
            (14, "TCP streams were given up, for too much was waiting"),
            (
                15,
                "dialogs and attempts are beyond the most that one call may have",
            ),
            (
                16,
                "packets in 9 flows that several calls may own are in no call's file",
            ),
            (17, "TLS connections on SIP ports, which cannot be read"),
            (18, "stretches of TCP streams are missing"),
            (19, "compressed WebSocket messages"),
            (20, "bytes in TCP streams of SIP are no SIP"),
            (21, "TCP segments of connections without SIP"),
            (22, "IP datagrams of which fragments are missing"),
            (23, "IP datagrams whose fragments overlap"),
            (24, "packets in more tunnels than are taken apart"),
            (
                25,
                "records of ERF, exported PDUs and the like of a kind that is not read",
            ),
            (26, "frames too short, too broken, encrypted or compressed"),
            (27, "SIP messages without Call-ID, From or To"),
            (4, "SIP messages of no call"),
            (28, "of them were too many to wait for their INVITE"),
            (5, "copies of packets"),
            (29, "keep-alives and other packets on SIP ports"),
            (
                30,
                "timestamps that the packets after them contradict by more than a minute",
            ),
            (31, "bodies with a Content-Encoding that cannot be read"),
            (32, "media addresses that cannot be read"),
            (33, "host names in place of media addresses"),
            (
                34,
                "HEP packets that tell of something else than SIP, RTP and RTCP",
            ),
            (
                35,
                "RTP and RTCP packets told of by HEP over TCP, which are in no call's file",
            ),
            (36, "frames of other ERSPAN sessions"),
            (37, "ESP packets, encrypted"),
            (38, "IP packets neither UDP nor TCP"),
            (39, "frames without IP"),
        ];
        report.counts.first_unknown_link = Some(LinkType::ETHERNET);
        report.unclaimed.doubtful_flows = 9;
        let Report {
            counts,
            calls,
            excess,
            unclaimed,
            streams,
            fragments,
            ..
        } = &mut report;
        let counters = [
            &mut counts.unknown_link,
            &mut calls.excess_rtp_packets,
            &mut excess.endpoints,
            &mut streams.evicted,
            &mut excess.dialogs,
            &mut unclaimed.doubtful_packets,
            &mut streams.tls,
            &mut streams.gaps,
            &mut streams.compressed,
            &mut streams.foreign_bytes,
            &mut counts.other_tcp,
            &mut fragments.incomplete,
            &mut fragments.overlapping,
            &mut counts.too_deep,
            &mut counts.other_kinds,
            &mut counts.unreadable,
            &mut counts.malformed_sip,
            &mut excess.strays,
            &mut counts.not_sip,
            &mut counts.odd_times,
            &mut counts.undecodable_bodies,
            &mut counts.unreadable_addresses,
            &mut counts.host_names,
            &mut counts.other_hep,
            &mut counts.hep_media,
            &mut counts.other_sessions,
            &mut counts.encrypted,
            &mut counts.other_ip,
            &mut counts.not_ip,
        ];
        (11..)
            .zip(counters)
            .for_each(|(count, counter)| *counter = count);
        // The segments of other TCP are counted, except those that turned out to be useful later.
        (counts.other_tcp, streams.followed) = (counts.other_tcp + 100, 100);
        let not_used: Vec<_> = report.not_used().collect();
        assert_eq!(not_used, wanted.map(|(count, what)| (count, what.into())));
        assert_eq!(report.left_behind(), 1 + 6 + 2 + 3 + 11 + 12 + 13 + 14);
    }

    #[test]
    fn lines_are_folded_where_a_terminal_ends() {
        let mut report = Report {
            stray_messages: 1_060,
            input_bytes: 206_873,
            ..Report::default()
        };
        report.calls = CallCounts {
            completed: 1_060,
            failed: 2,
            ..CallCounts::default()
        };
        report.counts.too_deep = 3;
        report.counts.odd_times = 4;
        assert!(
            report
                .to_string()
                .starts_with("calls              1,062   1,060 completed, 2 failed\nstreams"),
            "{report}"
        );
        for columns in [20, 60, 79, 80, 200] {
            let text = report.in_columns(Some(columns));
            assert!(
                text.lines()
                    .all(|line| line.chars().count() <= columns.max(60)),
                "{text}"
            );
            let words = |text: &str| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(&text), words(&report.to_string()));
        }
        assert!(
            report
                .in_columns(Some(60))
                .contains("\n                           taken apart\n"),
            "{}",
            report.in_columns(Some(60))
        );
        assert!(
            Report::default()
                .to_string()
                .starts_with("calls                  0\n")
        );
    }

    #[test]
    fn what_is_left_behind_shows_in_the_exit_status() {
        let mut report = Report::default();
        assert_eq!(report.exit().code(), 0);
        report.counts.malformed_sip = 5;
        assert_eq!(report.exit().code(), 0, "noise is not left behind");
        report.gaps = 1;
        assert_eq!(report.exit().code(), 3);
    }
}
