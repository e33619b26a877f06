//! Which calls are wanted, and which of them without their sound: SPEC 1.1.
//!
//! Pure. What is not wanted is followed all the same, since its packets are not those of other calls; it is only not written.

use jiff::Timestamp;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use crate::calls::{Call, State};

/// Regular expressions for what names a call. They are looked for anywhere in it.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// For its Call-ID.
    pub call_id: Vec<Regex>,
    /// For the value of From in the INVITE that opened it.
    pub from: Vec<Regex>,
    /// For that of To.
    pub to: Vec<Regex>,
}

impl Patterns {
    fn are_none(&self) -> bool {
        self.call_id.is_empty() && self.from.is_empty() && self.to.is_empty()
    }

    /// Of what they are asked of a call, and what it has there.
    fn of<'a>(&'a self, call: &'a Call) -> [(&'a [Regex], &'a [u8]); 3] {
        [(&self.call_id, &call.call_id), (&self.from, &call.from), (&self.to, &call.to)]
    }

    /// Whether one of them matches.
    fn matches_any(&self, call: &Call) -> bool {
        self.of(call).iter().any(|(patterns, text)| patterns.iter().any(|pattern| pattern.is_match(text)))
    }

    /// Whether of each kind that there is one matches.
    fn matches_each(&self, call: &Call) -> bool {
        let is_match =
            |(patterns, text): &(&[Regex], &[u8])| patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(text));
        self.of(call).iter().all(is_match)
    }
}

/// What the user wants of the calls.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What they are called.
    pub wanted: Patterns,
    /// They end then or later.
    pub since: Option<Timestamp>,
    /// They begin then or earlier.
    pub until: Option<Timestamp>,
    /// Those with fewer SIP messages get no file.
    pub min_messages: u64,
    /// Whether the sound of all of them is left out,
    pub mutes_all: bool,
    /// or of these,
    pub muted: Patterns,
    /// or of all but these.
    pub not_muted: Patterns,
}

/// A selection as it is written down, to be compared with another: patterns are texts, in no order of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    wanted: WrittenPatterns,
    since: String,
    until: String,
    min_messages: u64,
    mutes_all: bool,
    muted: WrittenPatterns,
    not_muted: WrittenPatterns,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct WrittenPatterns {
    call_id: String,
    from: String,
    to: String,
}

impl WrittenPatterns {
    fn of(patterns: &Patterns) -> Self {
        Self { call_id: in_one(&patterns.call_id), from: in_one(&patterns.from), to: in_one(&patterns.to) }
    }

    fn flags(&self, names: [&'static str; 3]) -> impl Iterator<Item = (&'static str, String)> {
        names.into_iter().zip([self.call_id.clone(), self.from.clone(), self.to.clone()])
    }
}

/// Several expressions, whatever their order.
fn in_one(patterns: &[Regex]) -> String {
    let mut each: Vec<String> = patterns.iter().map(|pattern| format!("{:?}", pattern.as_str())).collect();
    each.sort_unstable();
    each.join(" ")
}

impl Written {
    /// What is to be written of a selection.
    #[must_use]
    pub fn of(selection: &Selection) -> Self {
        let Selection { wanted, since, until, min_messages, mutes_all, muted, not_muted } = selection;
        let time = |time: &Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        Self {
            wanted: WrittenPatterns::of(wanted),
            since: time(since),
            until: time(until),
            min_messages: *min_messages,
            mutes_all: *mutes_all,
            muted: WrittenPatterns::of(muted),
            not_muted: WrittenPatterns::of(not_muted),
        }
    }

    /// The flags that it comes from, and what these say.
    pub fn flags(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { wanted, since, until, min_messages, mutes_all, muted, not_muted } = self;
        let others = [
            ("--since", since.clone()),
            ("--until", until.clone()),
            ("--min-messages", min_messages.to_string()),
            ("--no-rtp-dump", mutes_all.to_string()),
        ];
        let muted =
            muted.flags(["--no-rtp-dump-for-callid-pattern", "--no-rtp-dump-for-from-pattern", "--no-rtp-dump-for-to-pattern"]);
        let not_muted = not_muted.flags([
            "--no-rtp-dump-except-for-callid-pattern",
            "--no-rtp-dump-except-for-from-pattern",
            "--no-rtp-dump-except-for-to-pattern",
        ]);
        wanted.flags(["--call-id", "--from", "--to"]).chain(others).chain(muted).chain(not_muted)
    }
}

impl Selection {
    /// Whether a call that ended so, with so many SIP messages, gets a file. It has rows in any case.
    #[must_use]
    pub fn gives_file(&self, state: State, messages: u64) -> bool {
        state != State::Flood && messages >= self.min_messages
    }

    /// Whether a call that opens is wanted, as far as that can be told.
    #[must_use]
    pub fn may_want(&self, call: &Call) -> bool {
        // To the microsecond, as the tables have it.
        let begins = i128::from(call.start_ns.saturating_sub(call.start_ns % 1_000));
        self.wanted.matches_each(call) && self.until.is_none_or(|until| begins <= until.as_nanosecond())
    }

    /// Whether one may be wanted whose last packet came at `last_ns`, in nanoseconds since 1970.
    #[must_use]
    pub fn ends_late_enough(&self, last_ns: u64) -> bool {
        self.since.is_none_or(|since| i128::from(last_ns) >= since.as_nanosecond())
    }

    /// Whether the sound of a call is left out.
    #[must_use]
    pub fn mutes(&self, call: &Call) -> bool {
        let mutes_others = self.mutes_all || !self.not_muted.are_none();
        self.muted.matches_any(call) || (mutes_others && !self.not_muted.matches_any(call))
    }
}
