//! Flags that say which calls are wanted, and which without their sound.

use clap::Args;
use regex::bytes::Regex;

use super::times::{self, Time};
use crate::selection::{Patterns, Selection};

/// Which calls are wanted, and which without their sound. Patterns are regular expressions; one is
/// looked for anywhere in the text.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which calls")]
pub(super) struct CallArguments {
    /// Extract only calls whose Call-ID matches this regular expression. May be repeated: one of
    /// them is enough. (Of --call-id, --from and --to, each that is given has to match.)
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    call_id: Vec<Regex>,

    /// The same for the value of From in the INVITE that opened the call.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    from: Vec<Regex>,

    /// The same for that of To.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    to: Vec<Regex>,

    /// Extract only calls from or to a number that matches this regular expression. Numbers stand
    /// without +, 00 and separators: +49 (30) 123-4 and 0049301234 are 49301234. May be repeated:
    /// one of them is enough.
    #[arg(long, value_name = "REGEX", value_parser = number)]
    number: Vec<Regex>,

    /// Extract only calls that end then or later: 2024-03-01T09:00:00Z, '2024-03-01 09:00' (local
    /// time), 2024-03-01, today, yesterday, -2h.
    #[arg(long, value_name = "TIME", value_parser = times::since, allow_hyphen_values = true)]
    pub(super) since: Option<Time>,

    /// Extract only calls that begin then or earlier; a day counts to its end.
    #[arg(long, value_name = "TIME", value_parser = times::until, allow_hyphen_values = true)]
    pub(super) until: Option<Time>,

    /// Write a file only for calls with at least so many SIP messages: scanners send one and go.
    /// The others keep their rows.
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_messages: u64,

    /// Leave out the sound: payloads of RTP (sound, pictures, digits) are written as zeros. Headers
    /// and lengths stay, and all figures.
    #[arg(long)]
    no_rtp_dump: bool,

    /// Leave it out of calls whose Call-ID matches this regular expression. May be repeated, and
    /// given with the next two: one of them is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_callid_pattern: Vec<Regex>,

    /// The same for the value of From.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_from_pattern: Vec<Regex>,

    /// The same for that of To.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_to_pattern: Vec<Regex>,

    /// Leave it out of all calls but those whose Call-ID matches this regular expression. May be
    /// repeated, and given with the next two: one of them is enough.
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
            wanted: Patterns {
                call_id: self.call_id,
                from: self.from,
                to: self.to,
            },
            numbers: self.number,
            since: self.since.map(|since| since.named),
            until: self.until.map(|until| until.named),
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
    if text.starts_with('+') {
        return Err(format!(
            r"a regular expression does not begin with a repetition; for a plus sign, write '\{text}'"
        ));
    }
    Regex::new(text).map_err(|error| format!("that is no regular expression: {error}"))
}

fn number(text: &str) -> Result<Regex, String> {
    // The plus that a person may have put first, behind an anchor or a backslash.
    let plain = text.trim_start_matches(['^', '\\']);
    match plain.strip_prefix('+') {
        Some(digits) if digits.starts_with(|first: char| first.is_ascii_digit()) => Err(format!(
            r"numbers stand without their plus sign; write '^{digits}' (in --from and --to, it would be '\+{digits}')"
        )),
        _ => pattern(text),
    }
}
