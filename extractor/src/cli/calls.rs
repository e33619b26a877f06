//! Flags that select calls, and calls that are written without their sound.

use clap::Args;
use regex::bytes::Regex;
use shared::units::GoDuration;

use super::{
    output::OutputArguments,
    times::{self, Time},
};
use crate::{
    calls::CallState,
    problems::{Hundredths, Problems, Thresholds},
    selection::{Patterns, Selection},
};

#[derive(Clone, Debug, Args)]
pub(super) struct CallArguments {
    /// Extract only calls whose Call-ID matches this regular expression.
    ///
    /// The pattern may match anywhere in the text. May be repeated: one match is enough. A call has
    /// to match each of --call-id, --from, --to and --number that is given.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    call_id: Vec<Regex>,

    /// Extract only calls whose From header, in the INVITE that opened the call, matches this
    /// regular expression.
    ///
    /// The pattern may match anywhere in the value of the header, such as `"Alice"
    /// <sip:alice@example.com>;tag=1`. May be repeated: one match is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    from: Vec<Regex>,

    /// Extract only calls whose To header, in the INVITE that opened the call, matches this regular
    /// expression.
    ///
    /// The pattern may match anywhere in the value of the header, such as `"Bob"
    /// <sip:bob@example.com>`. May be repeated: one match is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    to: Vec<Regex>,

    /// Extract only calls with a number that matches this regular expression: in From, To, the
    /// Request-URI, P-Asserted-Identity or Diversion of the INVITE that opened the call.
    ///
    /// Numbers are compared without +, 00 and separators: +49 (30) 123-4 and 0049301234 are
    /// 49301234, so `^4930` finds both. May be repeated: one match is enough.
    #[arg(long, value_name = "REGEX", value_parser = number)]
    number: Vec<Regex>,

    /// Extract only calls that end at this time or later: 2024-03-01T09:00:00Z, '2024-03-01 09:00'
    /// (local time), 2024-03-01, today, yesterday, -2h.
    ///
    /// A day counts from its beginning.
    #[arg(long, value_name = "TIME", value_parser = times::since, allow_hyphen_values = true)]
    pub(super) since: Option<Time>,

    /// Extract only calls that begin at this time or earlier: 2024-03-01T09:00:00Z, '2024-03-01
    /// 09:00' (local time), 2024-03-01, today, yesterday, -2h.
    ///
    /// A day counts to its end.
    #[arg(long, value_name = "TIME", value_parser = times::until, allow_hyphen_values = true)]
    pub(super) until: Option<Time>,

    /// Extract only calls of at least this duration: the column `duration_s`, from the INVITE to
    /// the last packet.
    ///
    /// With `--state completed`, calls that nobody answered are left out, however long they rang.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    min_duration: GoDuration,

    /// Extract only calls that end in this state: completed, cancelled, failed, timeout,
    /// incomplete or flood.
    ///
    /// May be repeated, or a list with commas between: one of the states is enough.
    #[arg(long, value_name = "STATE", value_parser = state, value_delimiter = ',')]
    state: Vec<CallState>,

    /// Extract only calls with this problem: loss, jitter, mos, one-way, no-media, slow-setup,
    /// early-media-only, retransmitted-invite or server-error; `any` for all of them.
    ///
    /// May be repeated, or a list with commas between: one of the problems is enough. The column
    /// `problems` has the problems of a call.
    #[arg(long, value_name = "PROBLEM", value_delimiter = ',')]
    problems: Vec<Problems>,
}

/// Flags for the values from which on something is a problem.
#[derive(Clone, Debug, Args)]
pub(super) struct ProblemArguments {
    /// The problem `loss`: a stream lost more than this percentage of its packets.
    #[arg(long, value_name = "PERCENT", default_value_t = Thresholds::default().loss_percent)]
    problem_loss: Hundredths,

    /// The problem `jitter`: the mean jitter of a stream is higher.
    #[arg(long, value_name = "DURATION", default_value_t = GoDuration::from_ns(Thresholds::default().jitter_ns))]
    problem_jitter: GoDuration,

    /// The problem `mos`: the MOS of a stream is lower.
    #[arg(long, value_name = "MOS", default_value_t = Thresholds::default().mos)]
    problem_mos: Hundredths,

    /// The problem `slow-setup`: the first ringing tone (180 to 189), or the answer where no phone
    /// rang, came later.
    #[arg(long, value_name = "DURATION", default_value_t = GoDuration::from_ns(Thresholds::default().setup_ns))]
    problem_setup: GoDuration,
}

impl ProblemArguments {
    pub(super) fn thresholds(&self) -> Thresholds {
        Thresholds {
            loss_percent: self.problem_loss,
            jitter_ns: self.problem_jitter.as_ns(),
            mos: self.problem_mos,
            setup_ns: self.problem_setup.as_ns(),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct SoundArguments {
    /// Leave out the sound of all calls: RTP payloads (sound, pictures, digits) are written as
    /// zeros.
    ///
    /// Headers, lengths, times and all figures stay.
    #[arg(long)]
    no_rtp_dump: bool,

    /// Leave out the sound of calls whose Call-ID matches this regular expression.
    ///
    /// May be repeated, and given with --no-rtp-dump-for-from-pattern and
    /// --no-rtp-dump-for-to-pattern: one match is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_callid_pattern: Vec<Regex>,

    /// Leave out the sound of calls whose From header, in the INVITE that opened the call, matches
    /// this regular expression.
    ///
    /// May be repeated, and given with --no-rtp-dump-for-callid-pattern and
    /// --no-rtp-dump-for-to-pattern: one match is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_from_pattern: Vec<Regex>,

    /// Leave out the sound of calls whose To header, in the INVITE that opened the call, matches
    /// this regular expression.
    ///
    /// May be repeated, and given with --no-rtp-dump-for-callid-pattern and
    /// --no-rtp-dump-for-from-pattern: one match is enough.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_for_to_pattern: Vec<Regex>,

    /// Leave out the sound of all calls except those whose Call-ID matches this regular expression.
    ///
    /// May be repeated, and given with --no-rtp-dump-except-for-from-pattern and
    /// --no-rtp-dump-except-for-to-pattern: one match is enough to keep the sound. A call that
    /// matches a --no-rtp-dump-for-... pattern, too, has no sound.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_except_for_callid_pattern: Vec<Regex>,

    /// Leave out the sound of all calls except those whose From header, in the INVITE that opened
    /// the call, matches this regular expression.
    ///
    /// May be repeated, and given with --no-rtp-dump-except-for-callid-pattern and
    /// --no-rtp-dump-except-for-to-pattern: one match is enough to keep the sound. A call that
    /// matches a --no-rtp-dump-for-... pattern, too, has no sound.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_except_for_from_pattern: Vec<Regex>,

    /// Leave out the sound of all calls except those whose To header, in the INVITE that opened the
    /// call, matches this regular expression.
    ///
    /// May be repeated, and given with --no-rtp-dump-except-for-callid-pattern and
    /// --no-rtp-dump-except-for-from-pattern: one match is enough to keep the sound. A call that
    /// matches a --no-rtp-dump-for-... pattern, too, has no sound.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    no_rtp_dump_except_for_to_pattern: Vec<Regex>,

    /// Cut the RTP of all calls after its headers: calls' pcaps become small, and have no sound.
    ///
    /// The packets' own lengths, times and all figures stay, also when such a pcap is read again,
    /// but for digits in RTP. RTCP, STUN, DTLS and T.38 stay whole. RTP that cannot be cut without
    /// becoming another packet is written as with --no-rtp-dump.
    #[arg(long)]
    headers_only: bool,

    /// Blank the keys of encrypted media in SIP: keys of `a=crypto` (RFC 4568) and of `k=` (RFC 4566)
    /// are written as asterisks.
    ///
    /// Lengths, times and all figures stay. Compressed bodies, and messages in masked WebSocket
    /// frames, are blanked as a whole if they may have keys.
    #[arg(long)]
    redact_keys: bool,
}

impl CallArguments {
    pub(super) fn selection(self, sound: SoundArguments, output: &OutputArguments) -> Selection {
        Selection {
            wanted: Patterns {
                call_id: self.call_id,
                from: self.from,
                to: self.to,
            },
            only: None,
            numbers: self.number,
            since: self.since.map(|since| since.named),
            until: self.until.map(|until| until.named),
            min_messages: output.min_messages,
            has_no_files: output.no_pcaps,
            min_duration_ns: self.min_duration.as_ns(),
            states: self.state,
            problems: self
                .problems
                .into_iter()
                .fold(Problems::default(), Problems::with),
            mutes_all: sound.no_rtp_dump,
            cuts_media: sound.headers_only,
            redacts_keys: sound.redact_keys,
            muted: Patterns {
                call_id: sound.no_rtp_dump_for_callid_pattern,
                from: sound.no_rtp_dump_for_from_pattern,
                to: sound.no_rtp_dump_for_to_pattern,
            },
            not_muted: Patterns {
                call_id: sound.no_rtp_dump_except_for_callid_pattern,
                from: sound.no_rtp_dump_except_for_from_pattern,
                to: sound.no_rtp_dump_except_for_to_pattern,
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

fn state(text: &str) -> Result<CallState, String> {
    let known = CallState::ALL
        .into_iter()
        .find(|state| state.to_string() == text);
    known.ok_or_else(|| {
        let words = CallState::ALL.map(|state| state.to_string()).join(", ");
        format!("the states are {words}")
    })
}

fn number(text: &str) -> Result<Regex, String> {
    // The user may have written a plus first, after an anchor or a backslash.
    let plain = text.trim_start_matches(['^', '\\']);
    let begins_with_00 = text.starts_with('^') && plain.starts_with("00");
    if begins_with_00 && plain.as_bytes().get(2).is_some_and(u8::is_ascii_digit) {
        return Err(format!(
            "numbers stand without their leading 00; write '^{}'",
            plain.trim_start_matches('0')
        ));
    }
    match plain.strip_prefix('+') {
        Some(digits) if digits.starts_with(|first: char| first.is_ascii_digit()) => Err(format!(
            r"numbers stand without their plus sign; write '^{digits}' (in --from and --to, it would be '\+{digits}')"
        )),
        _ => pattern(text),
    }
}
