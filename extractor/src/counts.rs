//! Everything that is counted, and the words in which the summary tells of it.
//!
//! A counter is one line of a table: its name, its type and, if the summary is to name it among
//! what was not used, its `Rank` and the words behind the number. Sums, lines and the exit status
//! follow from that. Lines of more than a number and fixed words are made in `report.rs`. So are
//! those of uploads and of flows without a call, whose counters stay where they are: they are not
//! summed field by field, and share their lines.

use shared::pcap::LinkType;

use crate::elsewhere::Elsewhere;

/// The importance of something that was not used. The summary has the most important first; within
/// a rank, the order is that of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// It should have been used: the exit status tells of it.
    LeftBehind,
    /// Calls may lack it.
    Missing,
    /// It is a part of a connection or a datagram that came to nothing.
    Part,
    /// It could not be read.
    Unreadable,
    /// It is SIP, but of no call.
    NoCall,
    /// It is in captures as a rule, and rarely missed.
    Usual,
}

/// Something that was not used: a line of the summary, if there was any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotUsed {
    pub(crate) rank: Rank,
    pub(crate) count: u64,
    pub(crate) what: String,
}

impl NotUsed {
    pub(crate) fn new(rank: Rank, count: u64, what: impl Into<String>) -> Self {
        Self {
            rank,
            count,
            what: what.into(),
        }
    }
}

/// Figures of parts of a run, which add up.
trait Sum {
    fn add(&mut self, other: &Self);
}

impl Sum for u64 {
    fn add(&mut self, other: &Self) {
        *self = self.saturating_add(*other);
    }
}

/// The first one stays: it is an example.
impl Sum for Option<LinkType> {
    fn add(&mut self, other: &Self) {
        *self = self.or(*other);
    }
}

impl Sum for Elsewhere {
    fn add(&mut self, other: &Self) {
        self.add_all(other);
    }
}

/// Makes a struct of counters that can be added to another, and the lines of those that have a rank
/// and words.
macro_rules! counts {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* pub $counter:ident: $type:ty $(=> $rank:ident, $what:literal)?;)*
        }
    ) => {
        $(#[$about])*
        pub struct $name {
            $($(#[$doc])* pub $counter: $type,)*
        }

        impl $name {
            /// Adds the counts of another part of the run.
            pub fn add_all(&mut self, other: &Self) {
                $(Sum::add(&mut self.$counter, &other.$counter);)*
            }

            /// The lines of the summary, also of counters that are 0.
            pub(crate) fn not_used(&self) -> Vec<NotUsed> {
                vec![$($(NotUsed::new(Rank::$rank, self.$counter, $what),)?)*]
            }
        }
    };
}

counts! {
    /// Frames and what was in them, by kind.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Counts {
        /// All records.
        pub packets: u64;
        /// Bytes captured.
        pub bytes: u64;
        /// SIP messages with Call-ID, From and To.
        pub sip: u64;
        /// Other UDP: media is found in it.
        pub udp: u64;
        /// SIP on ports on which it is not looked for.
        pub elsewhere: Elsewhere;
        /// Parts of IP datagrams.
        pub fragments: u64;
        /// TCP segments; of some of them it turns out later that their connection is followed
        /// ([`StreamCounts::followed`]).
        pub other_tcp: u64;
        /// Frames of a link type that is not read.
        pub unknown_link: u64;
        /// The type of the first of them.
        pub first_unknown_link: Option<LinkType>;
        /// Packets whose innermost tunnel is left closed.
        pub too_deep: u64 => Unreadable, "packets in more tunnels than are taken apart";
        /// Frames of kinds that the headers of their link types name.
        pub other_kinds: u64 => Unreadable, "records of ERF, exported PDUs and the like of a kind that is not read";
        /// Frames that end too early, contradict themselves, or are in a form that is not read.
        pub unreadable: u64 => Unreadable, "frames too short, too broken, encrypted or compressed";
        /// SIP messages that cannot be told to belong to a call.
        pub malformed_sip: u64 => Unreadable, "SIP messages without Call-ID, From or To";
        /// Packets on a SIP port that are no SIP: keep-alives, STUN, noise.
        pub not_sip: u64 => Usual, "keep-alives and other packets on SIP ports";
        /// Timestamps that were not believed.
        pub odd_times: u64 => Usual, "timestamps that the packets after them contradict by more than a minute";
        /// Timestamps that fell far behind, and stayed there.
        pub set_back: u64 => Usual, "times that the capture's clock was set back";
        /// Bodies that may be descriptions and whose Content-Encoding is unknown, or not what they
        /// have, or hides too much.
        pub undecodable_bodies: u64 => Usual, "bodies with a Content-Encoding that cannot be read";
        /// Addresses in descriptions that were neither host names nor addresses.
        pub unreadable_addresses: u64 => Usual, "media addresses that cannot be read";
        /// Addresses in descriptions that were host names.
        pub host_names: u64 => Usual, "host names in place of media addresses";
        /// HEP of other protocols, such as logs and statistics.
        pub other_hep: u64 => Usual, "HEP packets that tell of something else than SIP, RTP and RTCP";
        /// Packets that HEP tells of over TCP and that are no SIP.
        pub hep_media: u64 => Usual, "RTP and RTCP packets told of by HEP over TCP, which are in no call's file";
        /// Frames of ERSPAN sessions or VLANs that are not asked for.
        pub other_sessions: u64 => Usual, "frames of other ERSPAN sessions";
        /// ESP that is encrypted.
        pub encrypted: u64 => Usual, "ESP packets, encrypted";
        /// Packets of other protocols over IP.
        pub other_ip: u64 => Usual, "IP packets neither UDP nor TCP";
        /// Frames of other protocols than IP.
        pub not_ip: u64 => Usual, "frames without IP";
    }
}

counts! {
    /// The calls of a run, and what is in their files.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct CallCounts {
        /// Calls that were answered, and ended by BYE.
        pub completed: u64;
        /// Calls that were given up before an answer.
        pub cancelled: u64;
        /// Calls whose INVITE failed otherwise.
        pub failed: u64;
        /// Calls that fell silent.
        pub timeout: u64;
        /// Calls that were open when the input ended.
        pub incomplete: u64;
        /// Calls that were given up because too many were open.
        pub flood: u64;
        /// Calls that have rows, and no file: too few messages, or given up.
        pub without_file: u64;
        /// RTP streams.
        pub streams: u64;
        /// RTP packets in them.
        pub rtp_packets: u64;
        /// RTP packets that never came.
        pub lost_packets: u64;
        /// RTP packets of streams that are not told apart.
        pub excess_rtp_packets: u64 => LeftBehind, "RTP packets belong to more streams than one call may have";
        /// Calls that the user does not want.
        pub not_wanted: u64;
    }
}

counts! {
    /// The excess over the most that one call may have, or that is remembered.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Excess {
        /// Endpoints: their media is not found.
        pub endpoints: u64 => LeftBehind, "media endpoints are beyond the most that one call may have";
        /// Dialogs and attempts: their end is not noticed.
        pub dialogs: u64 => Missing, "dialogs and attempts are beyond the most that one call may have";
        /// Messages that may have come ahead of their INVITE. The line of all messages of no call
        /// is before this one.
        pub strays: u64 => NoCall, "of them were too many to wait for their INVITE";
    }
}

counts! {
    /// TCP connections, and what was lost of them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StreamCounts {
        /// Streams of which something was waiting when others needed the room.
        pub evicted: u64 => LeftBehind, "TCP streams were given up, for too much was waiting";
        /// Connections that are encrypted.
        pub tls: u64 => Missing, "TLS connections on SIP ports, which cannot be read";
        /// Stretches of a stream that are missing in the capture.
        pub gaps: u64 => Missing, "stretches of TCP streams are missing";
        /// WebSocket messages that are compressed.
        pub compressed: u64 => Missing, "compressed WebSocket messages";
        /// Bytes that are no SIP, in streams in which there is some.
        pub foreign_bytes: u64 => Missing, "bytes in TCP streams of SIP are no SIP";
        /// Segments that are of use because something before them opened their connection.
        pub followed: u64;
    }
}

counts! {
    /// IP datagrams that were in fragments.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FragmentCounts {
        /// Datagrams that were put together.
        pub whole: u64;
        /// Datagrams that were given up: a fragment did not come in time, or too many were waiting.
        pub incomplete: u64 => Part, "IP datagrams of which fragments are missing";
        /// Datagrams that were refused: fragments that overlap say two things about the same bytes
        /// (RFC 5722).
        pub overlapping: u64 => Part, "IP datagrams whose fragments overlap";
    }
}

impl CallCounts {
    /// All calls that closed and are wanted.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.completed,
            self.cancelled,
            self.failed,
            self.timeout,
            self.incomplete,
            self.flood,
        ]
        .iter()
        .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_the_first_example_stays() {
        let mut all = Counts {
            not_ip: 2,
            ..Counts::default()
        };
        let more = Counts {
            not_ip: 3,
            packets: u64::MAX,
            first_unknown_link: Some(LinkType::RAW),
            ..Counts::default()
        };
        all.add_all(&more);
        all.add_all(&Counts {
            packets: 1,
            first_unknown_link: Some(LinkType::ETHERNET),
            ..Counts::default()
        });
        assert_eq!(all, Counts { not_ip: 5, ..more });
        assert!(
            all.not_used()
                .contains(&NotUsed::new(Rank::Usual, 5, "frames without IP"))
        );
    }
}
