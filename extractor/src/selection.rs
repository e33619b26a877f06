//! The selection of calls, and of calls that are written without their sound.
//!
//! Pure. Calls that are not selected are followed, too, because their packets belong to no other
//! call; they are only not written.

use std::{collections::BTreeSet, fmt, sync::Arc};

use jiff::Timestamp;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use shared::units::GoDuration;

use crate::{
    calls::{Call, CallState},
    problems::Problems,
    sip::number,
};

/// Regular expressions for the identities of a call. They match anywhere in the text.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// Patterns for its Call-ID.
    pub call_id: Vec<Regex>,
    /// Patterns for the value of From in the INVITE that opened it.
    pub from: Vec<Regex>,
    /// Patterns for the value of To in that INVITE.
    pub to: Vec<Regex>,
}

impl Patterns {
    fn are_none(&self) -> bool {
        self.call_id.is_empty() && self.from.is_empty() && self.to.is_empty()
    }

    /// The patterns, each with the value of the call that they are matched against.
    fn with_values<'a>(&'a self, call: &'a Call) -> [(&'a [Regex], &'a [u8]); 3] {
        [
            (&self.call_id, &call.call_id),
            (&self.from, &call.from),
            (&self.to, &call.to),
        ]
    }

    /// Returns true if any pattern matches.
    fn matches_any(&self, call: &Call) -> bool {
        self.with_values(call)
            .iter()
            .any(|(patterns, text)| patterns.iter().any(|pattern| pattern.is_match(text)))
    }

    /// Returns true if, for each kind with patterns, one of them matches.
    fn matches_each(&self, call: &Call) -> bool {
        let is_match = |(patterns, text): &(&[Regex], &[u8])| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(text))
        };
        self.with_values(call).iter().all(is_match)
    }
}

/// A moment that the user has given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The moment.
    pub at: Timestamp,
    /// The user's words, if they mean another moment later: `-2h`, `today`.
    pub words: Option<String>,
}

impl From<Timestamp> for Named {
    fn from(at: Timestamp) -> Self {
        Self { at, words: None }
    }
}

/// The user's selection of calls.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The patterns for the identities of selected calls.
    pub wanted: Patterns,
    /// If given, selected calls have one of these Call-IDs.
    pub only: Option<Arc<BTreeSet<Box<[u8]>>>>,
    /// The patterns for numbers; a number of the INVITE that opened the call must match.
    pub numbers: Vec<Regex>,
    /// Selected calls end at this moment or later.
    pub since: Option<Named>,
    /// Selected calls begin at this moment or earlier.
    pub until: Option<Named>,
    /// Selected calls last this long, in nanoseconds, or longer.
    pub min_duration_ns: u64,
    /// The states in which selected calls end; any if there are none.
    pub states: Vec<CallState>,
    /// Selected calls have one of these problems; any or none if there are none.
    pub problems: Problems,
    /// Calls with fewer SIP messages get no file.
    pub min_messages: u64,
    /// True when no call gets a file.
    pub has_no_files: bool,
    /// True when the sound of all calls is left out.
    pub mutes_all: bool,
    /// True when the media of all calls is cut after the RTP headers.
    pub cuts_media: bool,
    /// True when keys in SIP are blanked.
    pub redacts_keys: bool,
    /// Calls whose sound is left out.
    pub muted: Patterns,
    /// If there are any patterns, the sound of all other calls is left out.
    pub not_muted: Patterns,
}

/// The values of a call that are known at its end, by which calls are selected.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The time of its last packet, in nanoseconds since 1970.
    pub last_ns: u64,
    /// From its start to that packet, in nanoseconds.
    pub duration_ns: u64,
    /// The state in which it ended.
    pub state: CallState,
    /// Its problems.
    pub problems: Problems,
}

/// A selection in a form that can be stored and compared: patterns are texts in sorted order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    wanted: WrittenPatterns,
    numbers: String,
    since: WrittenTime,
    until: WrittenTime,
    min_duration_ns: u64,
    states: String,
    problems: Problems,
    min_messages: u64,
    has_no_files: bool,
    mutes_all: bool,
    cuts_media: bool,
    redacts_keys: bool,
    muted: WrittenPatterns,
    not_muted: WrittenPatterns,
}

/// The stored form of a moment: `2024-03-01T09:00:00Z`, or with the user's words, `-2h =
/// 2024-03-01T09:00:00Z`. Equal words are equal, whatever they meant. Empty without a moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct WrittenTime(String);

/// The separator between words and the moment that they meant.
const MEANS: &str = " = ";

impl WrittenTime {
    fn of(named: Option<&Named>) -> Self {
        let text = |Named { at, words }: &Named| match words {
            Some(words) => format!("{words}{MEANS}{at}"),
            None => at.to_string(),
        };
        Self(named.map(text).unwrap_or_default())
    }

    fn words(&self) -> &str {
        self.0.split(MEANS).next().unwrap_or_default()
    }

    /// The moment, if words gave it.
    fn meant(&self) -> Option<Named> {
        let (words, at) = self.0.split_once(MEANS)?;
        Some(Named {
            at: at.parse().ok()?,
            words: Some(words.to_owned()),
        })
    }
}

impl PartialEq for WrittenTime {
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

impl Eq for WrittenTime {}

impl fmt::Display for WrittenTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct WrittenPatterns {
    call_id: String,
    from: String,
    to: String,
}

impl WrittenPatterns {
    fn of(patterns: &Patterns) -> Self {
        Self {
            call_id: joined(&patterns.call_id),
            from: joined(&patterns.from),
            to: joined(&patterns.to),
        }
    }

    fn flags(&self, names: [&'static str; 3]) -> impl Iterator<Item = (&'static str, String)> {
        names
            .into_iter()
            .zip([self.call_id.clone(), self.from.clone(), self.to.clone()])
    }
}

/// The patterns as one text, independent of their order.
fn joined(patterns: &[Regex]) -> String {
    let mut each: Vec<String> = patterns
        .iter()
        .map(|pattern| format!("{:?}", pattern.as_str()))
        .collect();
    each.sort_unstable();
    each.join(" ")
}

/// The words of states, each once, in alphabetical order.
fn words(states: &[CallState]) -> String {
    let words: BTreeSet<String> = states.iter().map(ToString::to_string).collect();
    words.into_iter().collect::<Vec<_>>().join(",")
}

impl Written {
    /// The stored form of a selection.
    #[must_use]
    pub fn of(selection: &Selection) -> Self {
        let Selection {
            wanted,
            // The calls that a search has found are no state's: a search begins anew.
            only: _,
            numbers,
            since,
            until,
            min_duration_ns,
            states,
            problems,
            min_messages,
            has_no_files,
            mutes_all,
            cuts_media,
            redacts_keys,
            muted,
            not_muted,
        } = selection;
        Self {
            wanted: WrittenPatterns::of(wanted),
            numbers: joined(numbers),
            since: WrittenTime::of(since.as_ref()),
            until: WrittenTime::of(until.as_ref()),
            min_duration_ns: *min_duration_ns,
            states: words(states),
            problems: *problems,
            min_messages: *min_messages,
            has_no_files: *has_no_files,
            mutes_all: *mutes_all,
            cuts_media: *cuts_media,
            redacts_keys: *redacts_keys,
            muted: WrittenPatterns::of(muted),
            not_muted: WrittenPatterns::of(not_muted),
        }
    }

    /// The selection, with the moments that its words meant when it was stored.
    #[must_use]
    pub fn with_moments(&self, selection: &Selection) -> Selection {
        Selection {
            since: self.since.meant().or_else(|| selection.since.clone()),
            until: self.until.meant().or_else(|| selection.until.clone()),
            ..selection.clone()
        }
    }

    /// The flags of the selection, with their values.
    pub fn flags(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self {
            wanted,
            numbers,
            since,
            until,
            min_duration_ns,
            states,
            problems,
            min_messages,
            has_no_files,
            mutes_all,
            cuts_media,
            redacts_keys,
            muted,
            not_muted,
        } = self;
        let others = [
            ("--number", numbers.clone()),
            ("--since", since.to_string()),
            ("--until", until.to_string()),
            (
                "--min-duration",
                GoDuration::from_ns(*min_duration_ns).to_string(),
            ),
            ("--state", states.clone()),
            ("--problems", problems.to_string()),
            ("--min-messages", min_messages.to_string()),
            ("--no-pcaps", has_no_files.to_string()),
            ("--no-rtp-dump", mutes_all.to_string()),
            ("--headers-only", cuts_media.to_string()),
            ("--redact-keys", redacts_keys.to_string()),
        ];
        let muted = muted.flags([
            "--no-rtp-dump-for-callid-pattern",
            "--no-rtp-dump-for-from-pattern",
            "--no-rtp-dump-for-to-pattern",
        ]);
        let not_muted = not_muted.flags([
            "--no-rtp-dump-except-for-callid-pattern",
            "--no-rtp-dump-except-for-from-pattern",
            "--no-rtp-dump-except-for-to-pattern",
        ]);
        wanted
            .flags(["--call-id", "--from", "--to"])
            .chain(others)
            .chain(muted)
            .chain(not_muted)
    }
}

impl Selection {
    /// Returns true if a call with this final state and number of SIP messages gets a file. It has
    /// rows in any case.
    #[must_use]
    pub fn gives_file(&self, state: CallState, messages: u64) -> bool {
        !self.has_no_files && state != CallState::Flood && messages >= self.min_messages
    }

    /// Returns true if a call may get a file, as far as is known: an open call has no final state.
    #[must_use]
    pub fn may_give_file(&self, state: Option<CallState>, messages: u64) -> bool {
        match state {
            Some(state) => self.gives_file(state, messages),
            None => !self.has_no_files,
        }
    }

    /// Returns true if a new call may be selected, as far as its INVITE shows.
    #[must_use]
    pub fn may_want(&self, call: &Call) -> bool {
        // Truncated to microseconds, as in the tables.
        let begins = i128::from(call.start_ns.saturating_sub(call.start_ns % 1_000));
        self.wanted.matches_each(call)
            && self
                .only
                .as_ref()
                .is_none_or(|only| only.contains(&call.call_id[..]))
            && self.has_number(call)
            && self
                .until
                .as_ref()
                .is_none_or(|until| begins <= until.at.as_nanosecond())
    }

    fn has_number(&self, call: &Call) -> bool {
        let is_asked_for =
            |number: &[u8]| self.numbers.iter().any(|pattern| pattern.is_match(number));
        let is_in = |header: &[u8]| number(header).is_some_and(|number| is_asked_for(&number));
        self.numbers.is_empty()
            || is_in(&call.from)
            || is_in(&call.to)
            || call.facts.numbers.iter().any(|number| is_asked_for(number))
    }

    /// Returns true if a call that may be selected by its INVITE is selected by its end, too.
    #[must_use]
    pub fn wants(&self, ended: &Ended) -> bool {
        let is_late_enough = |since: &Named| i128::from(ended.last_ns) >= since.at.as_nanosecond();
        self.since.as_ref().is_none_or(is_late_enough)
            && ended.duration_ns >= self.min_duration_ns
            && (self.states.is_empty() || self.states.contains(&ended.state))
            && (self.problems.are_none() || self.problems.share_any(ended.problems))
    }

    /// Returns true if the sound of a call is left out.
    #[must_use]
    pub fn mutes(&self, call: &Call) -> bool {
        let mutes_others = self.mutes_all || !self.not_muted.are_none();
        self.muted.matches_any(call) || (mutes_others && !self.not_muted.matches_any(call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_whatever_they_meant() {
        let of = |words: Option<&str>, at: &str| Selection {
            since: Some(Named {
                at: at.parse().unwrap(),
                words: words.map(str::to_owned),
            }),
            ..Selection::default()
        };
        let (then, now) = ("2024-03-01T09:00:00Z", "2024-03-01T10:00:00Z");
        let [before, after] = [then, now].map(|at| of(Some("-2h"), at));
        assert_eq!(Written::of(&before), Written::of(&after));
        assert_eq!(
            Written::of(&before).with_moments(&after).since,
            before.since
        );
        let [before, after] = [then, now].map(|at| of(None, at));
        assert_ne!(Written::of(&before), Written::of(&after));
        assert_eq!(Written::of(&before).with_moments(&after).since, after.since);
        assert_ne!(
            Written::of(&of(Some("-2h"), then)),
            Written::of(&of(Some("-3h"), then))
        );
    }
}
