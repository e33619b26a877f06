//! All counters, and their texts in the summary.
//!
//! A counter is one line of a table: its name, its type and, if the summary names it among the
//! packets that were not used, its `Importance` and the text after the number. The text is also the key
//! in the JSON summary. Sums, summary lines and the exit status follow from the table. Lines with a
//! variable text are made in `report.rs`. So are the lines of uploads and of flows without a call:
//! their counters are not summed field by field, and share lines.

use shared::pcap::LinkType;

use crate::elsewhere::Elsewhere;

/// The importance of something that was not used. The summary lists the most important first;
/// within a rank, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Importance {
    /// It should have been used; the exit status reports it.
    LeftBehind,
    /// Calls may be incomplete without it.
    Missing,
    /// A part of a connection or a datagram that never became complete.
    Part,
    /// It could not be read.
    Unreadable,
    /// It is SIP, but belongs to no call.
    NoCall,
    /// It is normal in captures, and rarely needed.
    Usual,
}

/// Something that was not used: a line of the summary, if the count is not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotUsed {
    pub(crate) rank: Importance,
    pub(crate) count: u64,
    pub(crate) what: String,
}

impl NotUsed {
    pub(crate) fn new(rank: Importance, count: u64, what: impl Into<String>) -> Self {
        Self {
            rank,
            count,
            what: what.into(),
        }
    }
}

/// Counters of parts of a run, which can be added.
trait Sum {
    fn add(&mut self, other: &Self);
}

impl Sum for u64 {
    fn add(&mut self, other: &Self) {
        *self = self.saturating_add(*other);
    }
}

/// The first value is kept, as an example.
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

/// Defines a struct of counters that can be added to another, and the summary lines of those with a
/// rank and a text.
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
            /// Adds the counters of another part of the run.
            pub fn add_all(&mut self, other: &Self) {
                $(Sum::add(&mut self.$counter, &other.$counter);)*
            }

            /// The lines of the summary, including counters that are 0.
            pub(crate) fn not_used(&self) -> Vec<NotUsed> {
                vec![$($(NotUsed::new(Importance::$rank, self.$counter, $what),)?)*]
            }
        }
    };
}

counts! {
    /// Frames and their contents, by kind.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Counts {
        /// All records.
        pub packets: u64;
        /// Bytes captured.
        pub bytes: u64;
        /// SIP messages with Call-ID, From and To.
        pub sip: u64;
        /// Other UDP, which may be media.
        pub udp: u64;
        /// SIP on ports that were not configured for it.
        pub elsewhere: Elsewhere;
        /// Fragments of IP datagrams.
        pub fragments: u64;
        /// TCP segments. Some of them turn out later to belong to a followed connection
        /// ([`StreamCounts::followed`]).
        pub other_tcp: u64;
        /// Frames of an unsupported link type.
        pub unknown_link: u64;
        /// The link type of the first of these frames.
        pub first_unknown_link: Option<LinkType>;
        /// Packets with more nested tunnels than the decoder opens.
        pub too_deep: u64 => Unreadable, "packets in more tunnels than are taken apart";
        /// Frames whose link-layer header names an unsupported protocol.
        pub other_kinds: u64 => Unreadable, "records of ERF, exported PDUs and the like of a kind that is not read";
        /// Frames that are too short, inconsistent, encrypted or compressed.
        pub unreadable: u64 => Unreadable, "frames too short, too broken, encrypted or compressed";
        /// SIP messages that cannot be assigned to a call.
        pub malformed_sip: u64 => Unreadable, "SIP messages without Call-ID, From or To";
        /// Packets on a SIP port that are not SIP: keep-alives, STUN, noise.
        pub not_sip: u64 => Usual, "keep-alives and other packets on SIP ports";
        /// Timestamps that leap ahead and are contradicted.
        pub odd_times: u64 => Usual, "timestamps that the packets after them contradict by more than a minute";
        /// Timestamps that fell far behind packet time and stayed there.
        pub set_back: u64 => Usual, "times that the capture's clock was set back";
        /// Bodies that may be descriptions and whose Content-Encoding is unknown or wrong, or which
        /// decode to too many bytes.
        pub undecodable_bodies: u64 => Usual, "bodies with a Content-Encoding that cannot be read";
        /// Addresses in descriptions that are neither host names nor addresses.
        pub unreadable_addresses: u64 => Usual, "media addresses that cannot be read";
        /// Host names in place of addresses in descriptions.
        pub host_names: u64 => Usual, "host names in place of media addresses";
        /// HEP of other protocols, such as logs and statistics.
        pub other_hep: u64 => Usual, "HEP packets that tell of something else than SIP, RTP and RTCP";
        /// Packets other than SIP that HEP reports over TCP.
        pub hep_media: u64 => Usual, "RTP and RTCP packets told of by HEP over TCP, which are in no call's file";
        /// Frames of ERSPAN sessions or VLANs that were not selected.
        pub other_sessions: u64 => Usual, "frames of other ERSPAN sessions";
        /// Encrypted ESP packets.
        pub encrypted: u64 => Usual, "ESP packets, encrypted";
        /// IP packets of other protocols.
        pub other_ip: u64 => Usual, "IP packets neither UDP nor TCP";
        /// Frames of protocols other than IP.
        pub not_ip: u64 => Usual, "frames without IP";
    }
}

counts! {
    /// The calls of a run, and the contents of their files.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct CallCounts {
        /// Calls that were answered, and ended with BYE.
        pub completed: u64;
        /// Calls that were cancelled before an answer.
        pub cancelled: u64;
        /// Calls whose INVITE failed in another way.
        pub failed: u64;
        /// Calls that became silent.
        pub timeout: u64;
        /// Calls that were open when the input ended.
        pub incomplete: u64;
        /// Calls that were closed because too many were open.
        pub flood: u64;
        /// Calls with rows but without a file: too few messages, or closed as a flood.
        pub without_file: u64;
        /// Conversations with a file.
        pub conversations: u64;
        /// RTP streams.
        pub streams: u64;
        /// RTP packets in these streams.
        pub rtp_packets: u64;
        /// RTP packets that never arrived.
        pub lost_packets: u64;
        /// RTP packets beyond the stream limit of a call.
        pub excess_rtp_packets: u64 => LeftBehind, "RTP packets belong to more streams than one call may have";
        /// RTCP packets that are encrypted, or are not a chain of RTCP packets up to their end.
        pub unread_rtcp: u64 => Usual, "RTCP packets encrypted or broken, which are in the calls' files";
        /// Calls that the user did not select.
        pub not_wanted: u64;
    }
}

counts! {
    /// Items beyond the limits of a call, or beyond the limit of remembered messages.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Excess {
        /// Endpoints, whose media is not found.
        pub endpoints: u64 => LeftBehind, "media endpoints are beyond the most that one call may have";
        /// Dialogs and attempts, whose end is not noticed.
        pub dialogs: u64 => Missing, "dialogs and attempts are beyond the most that one call may have";
        /// Messages that may have arrived before their INVITE. The summary line of all messages
        /// without a call stands before this one.
        pub strays: u64 => NoCall, "of them were too many to wait for their INVITE";
        /// Values that too many calls share: constants, which link no legs.
        pub constants: u64 => Usual, "values that more than 32 calls share link no legs";
    }
}

counts! {
    /// TCP connections and their losses.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StreamCounts {
        /// Streams that were evicted with buffered bytes, because the memory limit was reached.
        pub evicted: u64 => LeftBehind, "TCP streams were given up, for too much was waiting";
        /// Encrypted connections.
        pub tls: u64 => Missing, "TLS connections on SIP ports, which cannot be read";
        /// Stretches of a stream that are missing in the capture.
        pub gaps: u64 => Missing, "stretches of TCP streams are missing";
        /// Compressed WebSocket messages.
        pub compressed: u64 => Missing, "compressed WebSocket messages";
        /// Bytes that are not SIP, in streams with SIP.
        pub foreign_bytes: u64 => Missing, "bytes in TCP streams of SIP are no SIP";
        /// Segments that are used because an earlier segment made their connection followed.
        pub followed: u64;
    }
}

counts! {
    /// IP datagrams that came in fragments.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FragmentCounts {
        /// Datagrams that were reassembled.
        pub whole: u64;
        /// Datagrams that were given up: a fragment did not arrive in time, or too many datagrams
        /// were waiting.
        pub incomplete: u64 => Part, "IP datagrams of which fragments are missing";
        /// Datagrams that were discarded: overlapping fragments contradict each other (RFC 5722).
        pub overlapping: u64 => Part, "IP datagrams whose fragments overlap";
    }
}

impl CallCounts {
    /// The number of selected calls that closed.
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
                .contains(&NotUsed::new(Importance::Usual, 5, "frames without IP"))
        );
    }
}
