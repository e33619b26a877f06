//! The dialogs and attempts of one Call-ID, and when the call is over (RFC 3261, 12 to 17).
//!
//! A *dialog* is a Call-ID and two tags. A Call-ID has several where a proxy forks and two phones
//! answer, and where a back-to-back agent keeps the Call-ID on its other legs. An *attempt* is an
//! INVITE outside a dialog, told by its From tag and its CSeq; a ring group has several under way
//! at once. The call is over when no dialog is left and no attempt is under way.
//!
//! A capture sees an attempt at one place or at several: on both sides of a proxy the same INVITE
//! comes by in two transactions, the inner one with one Via more. So an attempt has *branches*. It
//! has failed when none of the outermost ones that the capture sees is under way any more; what
//! happens behind them is the proxy's affair.
//!
//! | message | attempt with its From tag and CSeq | dialog with its two tags |
//! | --- | --- | --- |
//! | INVITE without To tag, new | begins; an earlier one of the same From tag that does not ring is doubtful until it is answered | |
//! | … known, through another branch | has a branch more; is under way again if it was refused or cancelled | |
//! | INVITE with To tag that opens the call | counts as answered | begins |
//! | 1xx to INVITE | is under way (again, if an outermost branch rings on) | its To tag is an early dialog |
//! | 2xx to INVITE | is answered | begins, unless it is known |
//! | 3xx to 6xx to INVITE, not answered | is refused (cancelled: 487, or after CANCEL) with its last outermost branch | |
//! | CANCEL, not answered | is cancelled, likewise | |
//! | BYE whose tags fit a known dialog | | ends |
//! | BYE of no known dialog, with the From tag of an attempt | is hung up with its last early dialog | has ended |
//! | anything else, a BYE with foreign tags included | | |
//!
//! A tag that is missing (RFC 2543) fits any.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::{
    events::stable_hash,
    sip::{self, Message, Method, StartLine},
};

/// How a call ended, in the words of the CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A dialog was confirmed, and the last one was ended by BYE.
    Completed,
    /// A CANCEL, or 487, and never a 2xx.
    Cancelled,
    /// Another failing answer to the INVITE.
    Failed,
    /// Silence.
    Timeout,
    /// The input ended first.
    Incomplete,
    /// Nobody had answered when too many calls were open.
    Flood,
}

impl fmt::Display for State {
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

/// A call follows this many attempts at once, and this many dialogs. Ring groups have some dozens.
const MAX_ATTEMPTS: usize = 64;
const MAX_DIALOGS: usize = 64;
/// More transactions than this for one INVITE are not told apart, nor are more early dialogs.
const MAX_BRANCHES: usize = 64;

/// The dialogs and attempts of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dialogs {
    /// In the order in which they began. Those that ended are kept, so that late copies are known.
    attempts: SmallVec<[Attempt; 1]>,
    /// Likewise.
    dialogs: SmallVec<[Dialog; 1]>,
    /// The capture began after the call was answered.
    mid_dialog: bool,
    /// A dialog was confirmed.
    confirmed: bool,
    /// How many attempts and dialogs were beyond the most.
    excess: u64,
}

/// A dialog that was confirmed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Dialog {
    tags: (Tag, Tag),
    is_open: bool,
}

/// An INVITE outside a dialog, and how far it got.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Attempt {
    id: AttemptId,
    progress: Progress,
    /// Its transactions: one from the caller, and those of proxies.
    branches: SmallVec<[Branch; 2]>,
    /// To tags of provisional answers.
    early: SmallVec<[Tag; 1]>,
    /// The last final answer.
    status: Option<u16>,
    was_cancelled: bool,
    /// The INVITE that opened the call, or one that repeats it after 401, 407, 3xx and the like.
    is_callers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Progress {
    UnderWay,
    /// The caller tries again; what became of this attempt was not seen.
    Doubtful,
    Answered,
    Refused,
    Cancelled,
    HungUp,
}

/// The name of an attempt: its answers repeat both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AttemptId {
    from: Tag,
    /// The number of CSeq, as text, hashed.
    cseq: u64,
}

/// One side of a dialog: its tag, hashed, for it is only ever compared with others of the same
/// call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tag(u64);

/// One transaction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Branch {
    name: u64,
    vias: usize,
    /// It has had a provisional answer.
    proceeding: bool,
    /// It was refused or cancelled.
    failed: bool,
}

impl Dialogs {
    /// Those of the call that an INVITE opens.
    #[must_use]
    pub fn open(invite: &Message<'_>) -> Self {
        let mid_dialog = sip::tag(invite.to).is_some();
        let mut opening = Attempt::new(invite, true);
        let mut dialogs = SmallVec::new();
        if mid_dialog {
            opening.progress = Progress::Answered;
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

    /// The call was under way before the capture saw it.
    #[must_use]
    pub fn is_mid_dialog(&self) -> bool {
        self.mid_dialog
    }

    /// The last final answer to the INVITE that opened the call, or to the one that repeats it.
    #[must_use]
    pub fn final_status(&self) -> Option<u16> {
        self.callers().and_then(|attempt| attempt.status)
    }

    /// How the call ended, if it is over but for stragglers.
    #[must_use]
    pub fn over(&self) -> Option<State> {
        let is_under_way = |attempt: &Attempt| attempt.progress == Progress::UnderWay;
        if self.dialogs.iter().any(|dialog| dialog.is_open)
            || self.attempts.iter().any(is_under_way)
        {
            return None;
        }
        if self.confirmed {
            return Some(State::Completed);
        }
        Some(match self.callers().map(|attempt| attempt.progress) {
            Some(Progress::Cancelled) => State::Cancelled,
            Some(Progress::HungUp | Progress::Answered) => State::Completed,
            _ => State::Failed,
        })
    }

    /// The call waits for a person who types a password.
    #[must_use]
    pub fn wants_credentials(&self) -> bool {
        self.over() == Some(State::Failed) && matches!(self.final_status(), Some(401 | 407))
    }

    /// A message begins another call, though it has the Call-ID of this one: it is an INVITE for a
    /// new dialog, after the BYE of the last one.
    #[must_use]
    pub fn is_succeeded_by(&self, message: &Message<'_>) -> bool {
        is_initial_invite(message)
            && self.over() == Some(State::Completed)
            && self.position(AttemptId::of(message)).is_none()
    }

    /// How many attempts and dialogs were beyond the most that are followed.
    #[must_use]
    pub fn excess(&self) -> u64 {
        self.excess
    }

    /// Takes in the next message of the call.
    pub fn handle(&mut self, message: &Message<'_>) {
        match message.start {
            StartLine::Request(Method::Invite) if is_initial_invite(message) => {
                self.handle_invite(message);
            }
            StartLine::Request(Method::Bye) => self.handle_bye(tags(message)),
            StartLine::Request(Method::Cancel) => self.handle_cancel(message),
            StartLine::Status(status)
                if message
                    .cseq
                    .is_some_and(|cseq| cseq.method == Method::Invite) =>
            {
                self.handle_answer(status, message);
            }
            _ => {}
        }
    }

    /// The caller's attempt: of the INVITE that opened the call and those that repeat it, the one
    /// that got furthest.
    fn callers(&self) -> Option<&Attempt> {
        let is_up = |attempt: &&Attempt| {
            matches!(attempt.progress, Progress::UnderWay | Progress::Answered)
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

    /// The INVITE again, the INVITE on its way through a proxy, or a new attempt.
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
            .for_each(|attempt| attempt.progress = Progress::Doubtful);
        let has_room = make_room(&mut self.attempts, MAX_ATTEMPTS, |attempt| {
            attempt.progress != Progress::UnderWay
        });
        if has_room {
            self.attempts.push(Attempt::new(invite, is_callers));
        } else {
            self.excess = self.excess.saturating_add(1);
        }
    }

    fn handle_answer(&mut self, status: u16, response: &Message<'_>) {
        let attempt = self.attempt(AttemptId::of(response));
        match status {
            ..200 => attempt
                .into_iter()
                .for_each(|attempt| attempt.proceed(status, response)),
            200..300 => {
                attempt
                    .into_iter()
                    .for_each(|attempt| attempt.answer(status));
                self.begin_dialog(tags(response));
            }
            _ => attempt
                .into_iter()
                .for_each(|attempt| attempt.fail(status, response)),
        }
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

    /// A CANCEL counts if it is the caller's: a proxy also cancels the phones that were not picked
    /// up.
    fn handle_cancel(&mut self, cancel: &Message<'_>) {
        let branch = stable_hash(cancel.branch);
        let by_branch =
            |attempt: &Attempt| attempt.branches.iter().any(|known| known.name == branch);
        let found = self
            .position(AttemptId::of(cancel))
            .or_else(|| self.attempts.iter().position(by_branch));
        if let Some(attempt) = found.and_then(|place| self.attempts.get_mut(place)) {
            attempt.cancel(branch);
        }
    }

    /// RFC 3261, 15: a BYE ends the dialog that it is sent in. One that fits no dialog but the From
    /// tag of an attempt ends an early dialog, or one whose 2xx the capture does not have.
    fn handle_bye(&mut self, tags: (Tag, Tag)) {
        let mut fits_any = false;
        for dialog in self.dialogs.iter_mut().filter(|dialog| dialog.has(tags)) {
            fits_any = true;
            dialog.is_open = false;
        }
        if fits_any {
            return;
        }
        let hung_up = self
            .attempts
            .iter_mut()
            .map(|attempt| attempt.hang_up(tags))
            .filter(|has_tag| *has_tag)
            .count();
        if hung_up > 0 {
            // A 2xx that crosses the BYE, or that comes through another queue, begins nothing.
            self.note_dialog(tags, false);
        }
    }
}

impl Dialog {
    /// RFC 3261, 12: the same two tags, whoever of the two sends.
    fn has(&self, (a, b): (Tag, Tag)) -> bool {
        let (local, remote) = self.tags;
        local.fits(a) && remote.fits(b) || local.fits(b) && remote.fits(a)
    }
}

impl Attempt {
    fn new(invite: &Message<'_>, is_callers: bool) -> Self {
        Self {
            id: AttemptId::of(invite),
            progress: Progress::UnderWay,
            branches: smallvec![Branch::of(invite)],
            early: SmallVec::new(),
            status: None,
            was_cancelled: false,
            is_callers,
        }
    }

    /// No phone is known to ring.
    fn is_silent(&self) -> bool {
        self.progress == Progress::UnderWay && self.early.is_empty()
    }

    fn is_pending(&self) -> bool {
        matches!(self.progress, Progress::UnderWay | Progress::Doubtful)
    }

    /// A proxy that was refused tries the next phone.
    fn repeat(&mut self, invite: &Message<'_>) {
        if self.add_branch(invite)
            && matches!(self.progress, Progress::Refused | Progress::Cancelled)
        {
            *self = Self::new(invite, self.is_callers);
        }
    }

    /// Adds a transaction. Tells whether it was not known before.
    fn add_branch(&mut self, invite: &Message<'_>) -> bool {
        let branch = Branch::of(invite);
        let is_new = self.branches.iter().all(|known| known.name != branch.name);
        if is_new && self.branches.len() < MAX_BRANCHES {
            self.branches.push(branch);
        }
        is_new
    }

    /// Another phone that rings keeps an attempt up of which one phone has refused.
    fn proceed(&mut self, status: u16, response: &Message<'_>) {
        if status > 100 && self.early.len() < MAX_BRANCHES {
            let early = Tag::of(response.to);
            if !self.early.contains(&early) {
                self.early.push(early);
            }
        }
        let rings_on = self.note_progress(stable_hash(response.branch));
        if self.progress == Progress::Doubtful || rings_on && self.progress == Progress::Refused {
            self.progress = Progress::UnderWay;
        }
    }

    fn answer(&mut self, status: u16) {
        self.progress = Progress::Answered;
        self.status = Some(status);
    }

    fn fail(&mut self, status: u16, response: &Message<'_>) {
        if self.progress == Progress::Answered {
            return;
        }
        self.status = Some(status);
        if self.fails_with(stable_hash(response.branch)) {
            let is_cancelled = status == 487 || self.was_cancelled;
            self.progress = if is_cancelled {
                Progress::Cancelled
            } else {
                Progress::Refused
            };
        }
    }

    fn cancel(&mut self, branch: u64) {
        if self.is_pending() && self.fails_with(branch) {
            self.was_cancelled = true;
            self.progress = Progress::Cancelled;
        }
    }

    /// A BYE ends its last early dialog. Tells whether the BYE has its From tag.
    fn hang_up(&mut self, (a, b): (Tag, Tag)) -> bool {
        let other = match self.id.from {
            from if from.fits(a) => b,
            from if from.fits(b) => a,
            _ => return false,
        };
        self.early.retain(|early| *early != other);
        if self.is_pending() && self.early.is_empty() {
            self.progress = Progress::HungUp;
        }
        true
    }

    /// A transaction had a provisional answer. Tells whether it is an outermost one that is under
    /// way.
    fn note_progress(&mut self, name: u64) -> bool {
        let outermost = self.outermost_vias();
        let Some(branch) = self.branches.iter_mut().find(|branch| branch.name == name) else {
            return false;
        };
        branch.proceeding = true;
        branch.vias == outermost && !branch.failed
    }

    /// A transaction failed. Tells whether the attempt fails with it: whether no outermost one is
    /// under way any more. (One without a sign of life may be beyond what the capture sees.)
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

/// An INVITE that asks for a new dialog: RFC 3261, 8.1.1.2.
fn is_initial_invite(message: &Message<'_>) -> bool {
    message.start == StartLine::Request(Method::Invite) && sip::tag(message.to).is_none()
}

fn tags(message: &Message<'_>) -> (Tag, Tag) {
    (Tag::of(message.from), Tag::of(message.to))
}

/// Makes room for one more, if need be at the cost of the first that `may_go`. Tells whether there
/// is room.
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

    /// One message of a leg, which has tags and a transaction of its own.
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

    /// The messages of a leg with this fate; which of them ends it, and which one answers it.
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
        /// A call is over exactly when none of its legs is under way, whatever the order in which
        /// they come.
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
                prop_assert!(over.is_none() || (over == Some(State::Completed)) == was_answered);
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
        (0..MAX_DIALOGS).for_each(|leg| call.handle(&message(&request(leg, "BYE"))));
        assert_eq!(call.over(), Some(State::Completed));
        call.handle(&message(&request(500, "INVITE")));
        assert_eq!(
            (call.attempts.len(), call.over(), call.excess()),
            (MAX_ATTEMPTS, None, 15),
            "those that ended make room"
        );
    }
}
