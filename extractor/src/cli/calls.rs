//! Flags that say which calls are wanted, and which without their sound.

use clap::Args;
use jiff::Timestamp;
use regex::bytes::Regex;

use crate::selection::{Patterns, Selection};

/// Which calls are wanted, and which without their sound. Patterns are regular expressions; one is looked for anywhere in the
/// text.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which calls")]
pub(super) struct CallArguments {
    /// Extract only calls whose Call-ID matches this regular expression. May be repeated: one of them is enough. (Of --call-id,
    /// --from and --to, each that is given has to match.)
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    call_id: Vec<Regex>,

    /// The same for the value of From in the INVITE that opened the call.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    from: Vec<Regex>,

    /// The same for that of To.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    to: Vec<Regex>,

    /// Extract only calls that end then or later, such as 2023-12-01T14:30:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<Timestamp>,

    /// Extract only calls that begin then or earlier.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) until: Option<Timestamp>,

    /// Write a file only for calls with at least so many SIP messages: scanners send one and go. The others keep their rows.
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_messages: u64,

    /// Leave out the sound: payloads of RTP (sound, pictures, digits) are written as zeros. Headers and lengths stay, and all
    /// figures.
    #[arg(long)]
    no_rtp_dump: bool,

    /// Leave it out of calls whose Call-ID matches this regular expression. May be repeated, and given with the next two: one
    /// of them is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_callid_pattern: Vec<Regex>,

    /// The same for the value of From.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_from_pattern: Vec<Regex>,

    /// The same for that of To.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_to_pattern: Vec<Regex>,

    /// Leave it out of all calls but those whose Call-ID matches this regular expression. May be repeated, and given with the
    /// next two: one of them is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_except_for_callid_pattern: Vec<Regex>,

    /// The same for the value of From.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_except_for_from_pattern: Vec<Regex>,

    /// The same for that of To.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_except_for_to_pattern: Vec<Regex>,
}

impl CallArguments {
    pub(super) fn selection(self) -> Selection {
        Selection {
            wanted: Patterns { call_id: self.call_id, from: self.from, to: self.to },
            since: self.since,
            until: self.until,
            min_messages: self.min_messages,
            mutes_all: self.no_rtp_dump,
            muted: Patterns {
                call_id: self.no_rtp_dump_for_callid_pattern,
                from: self.no_rtp_dump_for_from_pattern,
                to: self.no_rtp_dump_for_to_pattern,
            },
            not_muted: Patterns {
                call_id: self.no_rtp_dump_except_for_callid_pattern,
                from: self.no_rtp_dump_except_for_from_pattern,
                to: self.no_rtp_dump_except_for_to_pattern,
            },
        }
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("that is no regular expression: {error}"))
}

fn time(text: &str) -> Result<Timestamp, String> {
    let advice = "write date, time and zone as RFC 3339 has them, such as 2023-12-01T14:30:00Z or 2023-12-01T15:30:00+01:00";
    text.parse().map_err(|error| format!("{error}; {advice}"))
}
