//! The dialogs and attempts of one Call-ID, and the end of the call (RFC 3261, sections 12 to 17).
//!
//! A *dialog* is a Call-ID and two tags. A Call-ID has several dialogs where a proxy forks and two
//! phones answer, and where a back-to-back user agent keeps the Call-ID on its other legs. An
//! *attempt* is an INVITE outside a dialog, known by its From tag and CSeq; a ring group has
//! several under way at once. The call is over when no dialog is left and no attempt is under way.
//!
//! A capture sees an attempt at one point or at several: on both sides of a proxy, the same INVITE
//! belongs to two transactions, and the inner one has one Via more. So an attempt has *branches*.
//! It has failed when none of the outermost captured branches is under way; inner branches are left
//! to the proxy.
//!
//! | message | attempt with its From tag and CSeq | dialog with its two tags |
//! | --- | --- | --- |
//! | INVITE without To tag, new | begins; an earlier one of the same From tag that does not ring is doubtful until it is answered | |
//! | … known, in another branch | gets another branch; is under way again if it was refused or cancelled | |
//! | INVITE with To tag that opens the call | counts as answered | begins |
//! | 1xx to INVITE | is under way (again, if an outermost branch still rings) | its To tag is an early dialog |
//! | 2xx to INVITE | is answered | begins, unless it is known |
//! | 3xx to 6xx to INVITE, not answered | is refused (cancelled: 487, or after CANCEL) with its last outermost branch | |
//! | CANCEL, not answered | is cancelled, likewise | |
//! | BYE whose tags fit a known dialog | | ends |
//! | BYE of no known dialog, with the From tag of an attempt | is ended with its last early dialog | has ended |
//! | anything else, a BYE with foreign tags included | | |
//!
//! A missing tag (RFC 2543) matches any tag.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::{
    events::stable_hash,
    sip::{self, Message, Method, StartLine},
};

/// The end of a call, in the words of the CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallState {
    /// A dialog was confirmed, and BYE ended the last one.
    Completed,
    /// CANCEL or 487 came, and never a 2xx.
    Cancelled,
    /// Another failure response to the INVITE came.
    Failed,
    /// No message came for the timeout.
    Timeout,
    /// The input ended before the call.
    Incomplete,
    /// The call was unanswered when too many calls were open.
    Flood,
}

impl CallState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
        Self::Timeout,
        Self::Incomplete,
        Self::Flood,
    ];
}

impl fmt::Display for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Incomplete => "incomplete",
            Self::Flood => "flood",
        })
    }
}

/// A side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The side that sent the INVITE that opened the call.
    Caller,
    /// The other side, as the caller sees it.
    Callee,
}

/// A step of the call that its caller makes or notices. Legs that a back-to-back user agent adds
/// under the same Call-ID, and phones that a proxy tries, have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// A phone rings: 180 to 189 to the caller's INVITE.
    Rings,
    /// A 2xx to the caller's INVITE.
    Answered,
    /// A 3xx to 6xx to the caller's INVITE, with this status code, and no answer before it.
    Refused(u16),
    /// The CANCEL with which the caller gave up.
    Cancelled,
    /// The BYE that ended the caller's last dialog, from this side.
    HungUp(Side),
}

/// The most attempts that a call follows at once, and the most dialogs. Ring groups have some
/// dozens.
const MAX_ATTEMPTS: usize = 64;
const MAX_DIALOGS: usize = 64;
/// The most transactions of one INVITE that are distinguished, and the most early dialogs.
const MAX_BRANCHES: usize = 64;

/// The dialogs and attempts of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dialogs {
    /// In the order in which they began. Ended ones are kept, so that late copies are recognized.
    attempts: SmallVec<[Attempt; 1]>,
    /// In the order in which they began.
    dialogs: SmallVec<[Dialog; 1]>,
    /// True when the capture began after the call was answered.
    mid_dialog: bool,
    /// True when a dialog was confirmed.
    confirmed: bool,
    /// The number of attempts and dialogs beyond the limits.
    excess: u64,
}

/// A confirmed dialog.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Dialog {
    tags: (Tag, Tag),
    is_open: bool,
}

/// An INVITE outside a dialog, and its progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Attempt {
    id: AttemptId,
    progress: AttemptProgress,
    /// Its transactions: that of the caller, and those of proxies.
    branches: SmallVec<[Branch; 2]>,
    /// The To tags of provisional responses.
    early: SmallVec<[Tag; 1]>,
    /// The last final response.
    status: Option<u16>,
    was_cancelled: bool,
    /// True for the INVITE that opened the call, and for those that repeat it after 401, 407, 3xx
    /// and the like.
    is_callers: bool,
}

/// The progress of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptProgress {
    /// It has no end yet.
    UnderWay,
    /// The caller tries again; the capture does not have the end of this attempt.
    Doubtful,
    /// A 2xx came.
    Answered,
    /// A 3xx to 6xx came.
    Refused,
    /// CANCEL or 487 came.
    Cancelled,
    /// A BYE came before an answer.
    HungUp,
}

/// An attempt, for records. Tags are hashed, and 0 where there is none; see [`stable_hash`].
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// The hash of its From tag.
    pub from_tag: u64,
    /// The hash of its sequence number in CSeq, as text.
    pub cseq: u64,
    /// Its progress.
    pub progress: AttemptProgress,
    /// Its last final response.
    pub status: Option<u16>,
    /// True for the INVITE that opened the call, and for those that repeat it.
    pub is_callers: bool,
    /// The number of its transactions: one for each hop that the capture has.
    pub transactions: usize,
    early: &'a [Tag],
}

impl Leg<'_> {
    /// The hashed To tags of the phones that ring, or rang.
    pub fn early_tags(&self) -> impl Iterator<Item = u64> {
        self.early.iter().map(|tag| tag.0)
    }
}

/// The key of an attempt: its responses repeat both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AttemptId {
    from: Tag,
    /// The number in CSeq, as text, hashed.
    cseq: u64,
}

/// The tag of one side of a dialog, hashed: it is only compared with other tags of the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tag(u64);

/// A transaction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Branch {
    name: u64,
    vias: usize,
    /// True when it has had a provisional response.
    proceeding: bool,
    /// True when it was refused or cancelled.
    failed: bool,
}

impl Dialogs {
    /// The dialogs of the call that an INVITE opens.
    #[must_use]
    pub fn open(invite: &Message<'_>) -> Self {
        let mid_dialog = sip::tag(invite.to).is_some();
        let mut opening = Attempt::new(invite, true);
        let mut dialogs = SmallVec::new();
        if mid_dialog {
            opening.progress = AttemptProgress::Answered;
            dialogs.push(Dialog {
                tags: tags(invite),
                is_open: true,
            });
        }
        Self {
            attempts: smallvec![opening],
            dialogs,
            mid_dialog,
            confirmed: mid_dialog,
            excess: 0,
        }
    }

    /// True when the call was under way before the capture began.
    #[must_use]
    pub fn is_mid_dialog(&self) -> bool {
        self.mid_dialog
    }

    /// The last final response to the INVITE that opened the call, or to the one that repeats it.
    #[must_use]
    pub fn final_status(&self) -> Option<u16> {
        self.callers().and_then(|attempt| attempt.status)
    }

    /// The end of the call, if only stragglers may follow.
    #[must_use]
    pub fn over(&self) -> Option<CallState> {
        let is_under_way = |attempt: &Attempt| attempt.progress == AttemptProgress::UnderWay;
        if self.dialogs.iter().any(|dialog| dialog.is_open)
            || self.attempts.iter().any(is_under_way)
        {
            return None;
        }
        if self.confirmed {
            return Some(CallState::Completed);
        }
        Some(match self.callers().map(|attempt| attempt.progress) {
            Some(AttemptProgress::Cancelled) => CallState::Cancelled,
            Some(AttemptProgress::HungUp | AttemptProgress::Answered) => CallState::Completed,
            _ => CallState::Failed,
        })
    }

    /// True while the caller may be typing a password.
    #[must_use]
    pub fn wants_credentials(&self) -> bool {
        self.over() == Some(CallState::Failed) && matches!(self.final_status(), Some(401 | 407))
    }

    /// True when a message begins another call with the same Call-ID: an INVITE for a new dialog,
    /// after the BYE of the last one.
    #[must_use]
    pub fn is_succeeded_by(&self, message: &Message<'_>) -> bool {
        is_initial_invite(message)
            && self.over() == Some(CallState::Completed)
            && self.position(AttemptId::of(message)).is_none()
    }

    /// The attempts, in the order in which they began.
    pub fn legs(&self) -> impl Iterator<Item = Leg<'_>> {
        self.attempts.iter().map(|attempt| Leg {
            from_tag: attempt.id.from.0,
            cseq: attempt.id.cseq,
            progress: attempt.progress,
            status: attempt.status,
            is_callers: attempt.is_callers,
            transactions: attempt.branches.len(),
            early: &attempt.early,
        })
    }

    /// The confirmed dialogs, in the order in which they began: their hashed tags, and true while
    /// no BYE has come.
    pub fn confirmed(&self) -> impl Iterator<Item = ([u64; 2], bool)> {
        self.dialogs.iter().map(|dialog| {
            let (Tag(a), Tag(b)) = dialog.tags;
            ([a, b], dialog.is_open)
        })
    }

    /// The number of attempts and dialogs beyond the limits.
    #[must_use]
    pub fn excess(&self) -> u64 {
        self.excess
    }

    /// The side that wrote a message, by the tags. `None` if the message is of another leg, or has
    /// no tag that tells.
    #[must_use]
    pub fn writer(&self, message: &Message<'_>) -> Option<Side> {
        let (from, to) = tags(message);
        let (own, other) = match message.start {
            StartLine::Request(_) => (from, to),
            StartLine::Status(_) => (to, from),
        };
        if self.is_callers_tag(own) {
            return Some(Side::Caller);
        }
        (self.is_callers_tag(other) && !own.is_missing()).then_some(Side::Callee)
    }

    /// Handles the next message of the call. Returns the step that it is for the caller.
    pub fn handle(&mut self, message: &Message<'_>) -> Option<Milestone> {
        match message.start {
            StartLine::Request(Method::Invite) if is_initial_invite(message) => {
                self.handle_invite(message);
                None
            }
            StartLine::Request(Method::Bye) => self.handle_bye(message),
            StartLine::Request(Method::Cancel) => self.handle_cancel(message),
            StartLine::Status(status)
                if message
                    .cseq
                    .is_some_and(|cseq| cseq.method == Method::Invite) =>
            {
                self.handle_answer(status, message)
            }
            _ => None,
        }
    }

    fn is_callers_tag(&self, tag: Tag) -> bool {
        let has_it = |attempt: &Attempt| attempt.is_callers && attempt.id.from == tag;
        !tag.is_missing() && self.attempts.iter().any(has_it)
    }

    /// The caller's attempt: of the INVITE that opened the call and those that repeat it, the one
    /// that got furthest.
    fn callers(&self) -> Option<&Attempt> {
        let is_up = |attempt: &&Attempt| {
            matches!(
                attempt.progress,
                AttemptProgress::UnderWay | AttemptProgress::Answered
            )
        };
        let callers = || self.attempts.iter().filter(|attempt| attempt.is_callers);
        callers().find(is_up).or_else(|| callers().next_back())
    }

    fn position(&self, id: AttemptId) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.id == id)
    }

    fn attempt(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.id == id)
    }

    /// Handles a repeated INVITE, an INVITE on its way through a proxy, or a new attempt.
    fn handle_invite(&mut self, invite: &Message<'_>) {
        match self.attempt(AttemptId::of(invite)) {
            Some(known) => known.repeat(invite),
            None => self.begin_attempt(invite),
        }
    }

    fn begin_attempt(&mut self, invite: &Message<'_>) {
        let from = AttemptId::of(invite).from;
        let is_callers = self.over().is_some()
            || self
                .callers()
                .is_some_and(|callers| callers.id.from == from);
        let earlier = self
            .attempts
            .iter_mut()
            .filter(|attempt| attempt.id.from == from);
        earlier
            .filter(|attempt| attempt.is_silent())
            .for_each(|attempt| attempt.progress = AttemptProgress::Doubtful);
        let has_room = make_room(&mut self.attempts, MAX_ATTEMPTS, |attempt| {
            attempt.progress != AttemptProgress::UnderWay
        });
        if has_room {
            self.attempts.push(Attempt::new(invite, is_callers));
        } else {
            self.excess = self.excess.saturating_add(1);
        }
    }

    fn handle_answer(&mut self, status: u16, response: &Message<'_>) -> Option<Milestone> {
        let attempt = self.attempt(AttemptId::of(response));
        let is_callers = attempt.as_ref().is_some_and(|attempt| attempt.is_callers);
        let milestone = match status {
            ..200 => {
                attempt
                    .into_iter()
                    .for_each(|attempt| attempt.proceed(status, response));
                (180..190).contains(&status).then_some(Milestone::Rings)
            }
            200..300 => {
                attempt
                    .into_iter()
                    .for_each(|attempt| attempt.answer(status));
                self.begin_dialog(tags(response));
                Some(Milestone::Answered)
            }
            _ => {
                let fails = |attempt: &mut Attempt| {
                    attempt.fail(status, response);
                    attempt.progress != AttemptProgress::Answered
                };
                attempt
                    .is_some_and(fails)
                    .then_some(Milestone::Refused(status))
            }
        };
        milestone.filter(|_| is_callers && !self.mid_dialog)
    }

    fn begin_dialog(&mut self, tags: (Tag, Tag)) {
        self.confirmed = true;
        if !self.dialogs.iter().any(|dialog| dialog.has(tags)) {
            self.note_dialog(tags, true);
        }
    }

    fn note_dialog(&mut self, tags: (Tag, Tag), is_open: bool) {
        if make_room(&mut self.dialogs, MAX_DIALOGS, |dialog| !dialog.is_open) {
            self.dialogs.push(Dialog { tags, is_open });
        } else {
            self.excess = self.excess.saturating_add(1);
        }
    }

    /// A CANCEL counts only if the caller sent it: a proxy also cancels the phones that did not
    /// answer.
    fn handle_cancel(&mut self, cancel: &Message<'_>) -> Option<Milestone> {
        let branch = stable_hash(cancel.branch);
        let by_branch =
            |attempt: &Attempt| attempt.branches.iter().any(|known| known.name == branch);
        let found = self
            .position(AttemptId::of(cancel))
            .or_else(|| self.attempts.iter().position(by_branch));
        let attempt = found.and_then(|place| self.attempts.get_mut(place))?;
        (attempt.cancel(branch) && attempt.is_callers).then_some(Milestone::Cancelled)
    }

    /// RFC 3261, section 15: a BYE ends the dialog in which it is sent. A BYE that matches no
    /// dialog, but the From tag of an attempt, ends an early dialog, or one whose 2xx was not
    /// captured.
    fn handle_bye(&mut self, bye: &Message<'_>) -> Option<Milestone> {
        let tags = tags(bye);
        let sides = [(tags.0, Side::Caller), (tags.1, Side::Callee)];
        let hung_up = sides
            .into_iter()
            .find(|(tag, _)| self.is_callers_tag(*tag))
            .map(|(_, side)| Milestone::HungUp(side));
        let (mut fits_any, mut was_open) = (false, false);
        for dialog in self.dialogs.iter_mut().filter(|dialog| dialog.has(tags)) {
            fits_any = true;
            was_open |= std::mem::replace(&mut dialog.is_open, false);
        }
        if fits_any {
            return hung_up.filter(|_| was_open && !self.caller_talks());
        }
        self.hang_up_early(tags).then_some(hung_up).flatten()
    }

    /// True while a dialog of the caller is open: of two phones that answered, the caller hangs up
    /// on one, and talks to the other.
    fn caller_talks(&self) -> bool {
        let is_callers = |(a, b)| self.is_callers_tag(a) || self.is_callers_tag(b);
        self.dialogs
            .iter()
            .any(|dialog| dialog.is_open && is_callers(dialog.tags))
    }

    /// Ends early dialogs, for a BYE. Returns true if the BYE has the From tag of an attempt.
    fn hang_up_early(&mut self, tags: (Tag, Tag)) -> bool {
        let hung_up = self
            .attempts
            .iter_mut()
            .map(|attempt| attempt.hang_up(tags))
            .filter(|has_tag| *has_tag)
            .count();
        if hung_up > 0 {
            // A 2xx that crosses the BYE, or comes through another queue, begins no dialog.
            self.note_dialog(tags, false);
        }
        hung_up > 0
    }
}

impl Dialog {
    /// RFC 3261, section 12: the same two tags, in either direction.
    fn has(&self, (a, b): (Tag, Tag)) -> bool {
        let (local, remote) = self.tags;
        local.fits(a) && remote.fits(b) || local.fits(b) && remote.fits(a)
    }
}

impl Attempt {
    fn new(invite: &Message<'_>, is_callers: bool) -> Self {
        Self {
            id: AttemptId::of(invite),
            progress: AttemptProgress::UnderWay,
            branches: smallvec![Branch::of(invite)],
            early: SmallVec::new(),
            status: None,
            was_cancelled: false,
            is_callers,
        }
    }

    /// True when no phone is known to ring.
    fn is_silent(&self) -> bool {
        self.progress == AttemptProgress::UnderWay && self.early.is_empty()
    }

    fn is_pending(&self) -> bool {
        matches!(
            self.progress,
            AttemptProgress::UnderWay | AttemptProgress::Doubtful
        )
    }

    /// Handles a repeated INVITE: a proxy that was refused tries the next phone.
    fn repeat(&mut self, invite: &Message<'_>) {
        if self.add_branch(invite)
            && matches!(
                self.progress,
                AttemptProgress::Refused | AttemptProgress::Cancelled
            )
        {
            *self = Self::new(invite, self.is_callers);
        }
    }

    /// Adds a transaction. Returns true if it is new.
    fn add_branch(&mut self, invite: &Message<'_>) -> bool {
        let branch = Branch::of(invite);
        let is_new = self.branches.iter().all(|known| known.name != branch.name);
        if is_new && self.branches.len() < MAX_BRANCHES {
            self.branches.push(branch);
        }
        is_new
    }

    /// Handles a provisional response: a phone that rings keeps an attempt alive that another phone
    /// has refused.
    fn proceed(&mut self, status: u16, response: &Message<'_>) {
        if status > 100 && self.early.len() < MAX_BRANCHES {
            let early = Tag::of(response.to);
            if !self.early.contains(&early) {
                self.early.push(early);
            }
        }
        let rings_on = self.note_progress(stable_hash(response.branch));
        if self.progress == AttemptProgress::Doubtful
            || rings_on && self.progress == AttemptProgress::Refused
        {
            self.progress = AttemptProgress::UnderWay;
        }
    }

    fn answer(&mut self, status: u16) {
        self.progress = AttemptProgress::Answered;
        self.status = Some(status);
    }

    fn fail(&mut self, status: u16, response: &Message<'_>) {
        if self.progress == AttemptProgress::Answered {
            return;
        }
        self.status = Some(status);
        if self.fails_with(stable_hash(response.branch)) {
            let is_cancelled = status == 487 || self.was_cancelled;
            self.progress = if is_cancelled {
                AttemptProgress::Cancelled
            } else {
                AttemptProgress::Refused
            };
        }
    }

    /// Returns true if the attempt is cancelled now.
    fn cancel(&mut self, branch: u64) -> bool {
        let is_cancelled = self.is_pending() && self.fails_with(branch);
        if is_cancelled {
            self.was_cancelled = true;
            self.progress = AttemptProgress::Cancelled;
        }
        is_cancelled
    }

    /// Ends the last early dialog, for a BYE. Returns true if the BYE has the attempt's From tag.
    fn hang_up(&mut self, (a, b): (Tag, Tag)) -> bool {
        let other = match self.id.from {
            from if from.fits(a) => b,
            from if from.fits(b) => a,
            _ => return false,
        };
        self.early.retain(|early| *early != other);
        if self.is_pending() && self.early.is_empty() {
            self.progress = AttemptProgress::HungUp;
        }
        true
    }

    /// Notes a provisional response to a transaction. Returns true if it is an outermost one that
    /// is under way.
    fn note_progress(&mut self, name: u64) -> bool {
        let outermost = self.outermost_vias();
        let Some(branch) = self.branches.iter_mut().find(|branch| branch.name == name) else {
            return false;
        };
        branch.proceeding = true;
        branch.vias == outermost && !branch.failed
    }

    /// Notes that a transaction failed. Returns true if the attempt fails with it, because no
    /// outermost transaction is under way any more. (One without responses does not count:
    /// the capture may not have them.)
    fn fails_with(&mut self, name: u64) -> bool {
        let outermost = self.outermost_vias();
        self.branches
            .iter_mut()
            .filter(|branch| branch.name == name)
            .for_each(|branch| branch.failed = true);
        !self
            .branches
            .iter()
            .any(|branch| branch.vias == outermost && branch.proceeding && !branch.failed)
    }

    fn outermost_vias(&self) -> usize {
        self.branches
            .iter()
            .map(|branch| branch.vias)
            .min()
            .unwrap_or(0)
    }
}

impl AttemptId {
    fn of(message: &Message<'_>) -> Self {
        let cseq = message.cseq.map(|cseq| cseq.number).unwrap_or_default();
        Self {
            from: Tag::of(message.from),
            cseq: stable_hash(cseq),
        }
    }
}

impl Tag {
    fn of(value: &[u8]) -> Self {
        Self(sip::tag(value).map_or(0, stable_hash))
    }

    fn is_missing(self) -> bool {
        self.0 == 0
    }

    fn fits(self, other: Self) -> bool {
        self == other || self.is_missing() || other.is_missing()
    }
}

impl Branch {
    fn of(invite: &Message<'_>) -> Self {
        Self {
            name: stable_hash(invite.branch),
            vias: invite.vias,
            proceeding: false,
            failed: false,
        }
    }
}

/// True for an INVITE that asks for a new dialog: RFC 3261, section 8.1.1.2.
fn is_initial_invite(message: &Message<'_>) -> bool {
    message.start == StartLine::Request(Method::Invite) && sip::tag(message.to).is_none()
}

fn tags(message: &Message<'_>) -> (Tag, Tag) {
    (Tag::of(message.from), Tag::of(message.to))
}

/// Makes room for one more entry, if necessary by removing the first that `may_go`. Returns true if
/// there is room.
fn make_room<T, const N: usize>(
    items: &mut SmallVec<[T; N]>,
    most: usize,
    may_go: impl Fn(&T) -> bool,
) -> bool
where
    [T; N]: smallvec::Array<Item = T>,
{
    if items.len() >= most {
        let Some(first) = items.iter().position(may_go) else {
            return false;
        };
        items.remove(first);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message of a leg, which has tags and a transaction of its own.
    fn text(leg: usize, start: &str, method: &str) -> String {
        let to_tag = if ["INVITE", "CANCEL"]
            .iter()
            .any(|first| start.starts_with(first))
        {
            String::new()
        } else {
            format!(";tag=t{leg}")
        };
        format!(
            "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{leg}\r\nFrom: <sip:a>;tag=f{leg}\r\nTo: <sip:b>{to_tag}\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    fn request(leg: usize, method: &str) -> String {
        text(leg, &format!("{method} sip:b SIP/2.0"), method)
    }

    fn answer(leg: usize, status: u16, method: &str) -> String {
        text(leg, &format!("SIP/2.0 {status} X"), method)
    }

    /// The messages of a leg with this fate, the index of the one that ends it, and of the one that
    /// answers it.
    fn ladder(leg: usize, fate: u8) -> (Vec<String>, usize, Option<usize>) {
        let invite = || vec![request(leg, "INVITE"), answer(leg, 180, "INVITE")];
        match fate {
            0 => {
                let rest = [
                    answer(leg, 200, "INVITE"),
                    request(leg, "ACK"),
                    request(leg, "BYE"),
                    answer(leg, 200, "BYE"),
                ];
                ([invite(), rest.to_vec()].concat(), 4, Some(2))
            }
            1 => (
                [
                    invite(),
                    vec![answer(leg, 486, "INVITE"), request(leg, "ACK")],
                ]
                .concat(),
                2,
                None,
            ),
            _ => {
                let rest = [
                    request(leg, "CANCEL"),
                    answer(leg, 200, "CANCEL"),
                    answer(leg, 487, "INVITE"),
                    request(leg, "ACK"),
                ];
                ([invite(), rest.to_vec()].concat(), 2, None)
            }
        }
    }

    proptest! {
        /// A call is over exactly when none of its legs is under way, whatever the order of
        /// messages.
        #[test]
        fn legs_in_any_order(fates in proptest::collection::vec(0u8..3, 1..8), picks in proptest::collection::vec(any::<prop::sample::Index>(), 60)) {
            let legs: Vec<_> = fates.iter().enumerate().map(|(leg, fate)| ladder(leg, *fate)).collect();
            let mut said = vec![0; legs.len()];
            let mut call: Option<Dialogs> = None;
            let (mut open, mut was_answered) = (std::collections::BTreeSet::new(), false);
            for pick in picks {
                let left: Vec<usize> = (0..legs.len()).filter(|leg| said[*leg] < legs[*leg].0.len()).collect();
                if left.is_empty() {
                    break;
                }
                let leg = left[pick.index(left.len())];
                let (messages, end, answered) = &legs[leg];
                let step = said[leg];
                said[leg] += 1;
                let message = Message::parse(messages[step].as_bytes()).unwrap().unwrap();
                let begins_anew = step == 0 && call.is_some() && open.is_empty() && was_answered;
                match &mut call {
                    Some(call) if !begins_anew => {
                        prop_assert!(!call.is_succeeded_by(&message));
                        call.handle(&message);
                    }
                    before => {
                        prop_assert!(before.as_ref().is_none_or(|before| before.is_succeeded_by(&message)));
                        let mut opened = Dialogs::open(&message);
                        opened.handle(&message);
                        *before = Some(opened);
                        was_answered = false;
                    }
                }
                if step == 0 {
                    open.insert(leg);
                }
                was_answered |= *answered == Some(step);
                if step == *end {
                    open.remove(&leg);
                }
                let over = call.as_ref().unwrap().over();
                prop_assert_eq!(over.is_none(), !open.is_empty(), "after {} of leg {}", messages[step].lines().next().unwrap(), leg);
                prop_assert!(over.is_none() || (over == Some(CallState::Completed)) == was_answered);
            }
        }
    }

    #[test]
    fn more_legs_than_are_followed_are_counted() {
        let message = |text: &str| {
            Message::parse(text.to_owned().leak().as_bytes())
                .unwrap()
                .unwrap()
        };
        let mut call = Dialogs::open(&message(&request(0, "INVITE")));
        for leg in 1..MAX_ATTEMPTS + 10 {
            call.handle(&message(&request(leg, "INVITE")));
        }
        assert_eq!((call.attempts.len(), call.excess()), (MAX_ATTEMPTS, 10));
        for leg in 0..MAX_DIALOGS + 5 {
            call.handle(&message(&answer(leg, 200, "INVITE")));
        }
        assert_eq!((call.dialogs.len(), call.excess()), (MAX_DIALOGS, 15));
        for leg in 0..MAX_DIALOGS {
            call.handle(&message(&request(leg, "BYE")));
        }
        assert_eq!(call.over(), Some(CallState::Completed));
        call.handle(&message(&request(500, "INVITE")));
        assert_eq!(
            (call.attempts.len(), call.over(), call.excess()),
            (MAX_ATTEMPTS, None, 15),
            "those that ended make room"
        );
    }
}
