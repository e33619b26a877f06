//! What the messages of one call mean for its state (RFC 3261, 12 to 17).
//!
//! A capture sees a call at one place, or at several: on both sides of a proxy the same INVITE comes
//! by twice, in two transactions. When a proxy rings several phones, one of them may refuse while
//! the others ring. So it matters which transaction fails: the outermost one, seen first, is the
//! caller's, and as long as it is alive a refusal behind the proxy is the proxy's affair.

use std::{fmt, hash::BuildHasher};

use smallvec::SmallVec;

use crate::sip::{self, Message, Method, StartLine};

/// How a call ended, in the words of the CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A BYE.
    Completed,
    /// A CANCEL, or 487, and never a 2xx.
    Cancelled,
    /// Another failing answer to the INVITE.
    Failed,
    /// Silence.
    Timeout,
    /// The input ended first.
    Incomplete,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Incomplete => "incomplete",
        })
    }
}

/// The state of one call.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Opened by an INVITE inside a dialog: the capture began after the call was answered.
    mid_dialog: bool,
    answered: bool,
    attempt: Attempt,
    /// The last final answer to the initial INVITE.
    final_status: Option<u16>,
    /// Set while nothing more is expected but stragglers.
    over: Option<State>,
}

/// The caller's INVITE, and how far it got. After 401, 407 or 3xx the caller makes another.
#[derive(Clone, Debug)]
struct Attempt {
    /// CSeq number and From tag: what responses repeat of it.
    name: (Option<u32>, Name),
    /// The transaction that was seen first, and all that carry the same INVITE onwards.
    branches: SmallVec<[Name; 2]>,
    /// The first transaction has had a provisional answer.
    proceeding: bool,
    cancelled: bool,
}

/// A tag or a branch, hashed: only ever compared with others of the same call.
type Name = u64;

/// More transactions than this for one INVITE are not told apart.
const MAX_BRANCHES: usize = 64;

impl Dialog {
    /// The dialog that an INVITE opens.
    #[must_use]
    pub fn open(invite: &Message<'_>) -> Self {
        Self {
            mid_dialog: sip::tag(invite.to).is_some(),
            answered: false,
            attempt: Attempt::new(invite),
            final_status: None,
            over: None,
        }
    }

    /// Whether the call was under way before the capture saw it.
    #[must_use]
    pub fn is_mid_dialog(&self) -> bool {
        self.mid_dialog
    }

    /// The last final answer to the initial INVITE.
    #[must_use]
    pub fn final_status(&self) -> Option<u16> {
        self.final_status
    }

    /// How the call ended, if it is over but for stragglers.
    #[must_use]
    pub fn over(&self) -> Option<State> {
        self.over
    }

    /// Whether a message begins another call, though it has the Call-ID of this one: an INVITE for
    /// a new dialog, after the BYE of the old one.
    #[must_use]
    pub fn is_succeeded_by(&self, message: &Message<'_>) -> bool {
        self.over == Some(State::Completed) && is_initial_invite(message) && request_name(message) != self.attempt.name
    }

    /// Takes in the next message of the call.
    pub fn take(&mut self, message: &Message<'_>) {
        match message.start {
            StartLine::Request(Method::Invite) if is_initial_invite(message) => self.take_invite(message),
            StartLine::Request(Method::Bye) => self.over = Some(State::Completed),
            StartLine::Request(Method::Cancel) => self.take_cancel(message),
            StartLine::Status(status) if self.is_for_attempt(message) => self.take_answer(status, message),
            _ => {}
        }
    }

    /// The INVITE again, the INVITE on its way through a proxy, or a new attempt.
    fn take_invite(&mut self, invite: &Message<'_>) {
        let is_new_attempt = self.attempt.name != request_name(invite);
        let is_new_transaction = self.attempt.add_branch(name(invite.branch)) || is_new_attempt;
        let can_go_on = matches!(self.over, Some(State::Failed | State::Cancelled));
        if is_new_attempt && !self.answered || is_new_transaction && can_go_on {
            self.attempt = Attempt::new(invite);
        }
        if is_new_transaction && can_go_on {
            self.over = None;
        }
    }

    /// A CANCEL counts if it is the caller's: a proxy also cancels the phones that were not picked up.
    fn take_cancel(&mut self, cancel: &Message<'_>) {
        if self.answered || self.mid_dialog || self.over.is_some() {
            return;
        }
        if self.attempt.is_callers(name(cancel.branch)) {
            self.attempt.cancelled = true;
            self.over = Some(State::Cancelled);
        }
    }

    /// A re-INVITE has a CSeq of its own, or comes from the other side: its answers do not count.
    fn is_for_attempt(&self, response: &Message<'_>) -> bool {
        response.cseq.is_some_and(|cseq| cseq.method == Method::Invite) && request_name(response) == self.attempt.name
    }

    fn take_answer(&mut self, status: u16, response: &Message<'_>) {
        match status {
            ..200 => self.attempt.proceeding |= self.attempt.is_first(name(response.branch)),
            200..300 => {
                self.answered = true;
                self.final_status = Some(status);
                self.over = self.over.filter(|state| *state == State::Completed);
            }
            _ if self.answered || self.mid_dialog => {}
            _ => self.take_failure(status, response),
        }
    }

    fn take_failure(&mut self, status: u16, response: &Message<'_>) {
        self.final_status = Some(status);
        if self.over != Some(State::Completed) && self.attempt.is_callers(name(response.branch)) {
            let is_cancelled = status == 487 || self.attempt.cancelled;
            self.over = Some(if is_cancelled { State::Cancelled } else { State::Failed });
        }
    }
}

impl Attempt {
    fn new(invite: &Message<'_>) -> Self {
        let branches = SmallVec::from_slice(&[name(invite.branch)]);
        Self { name: request_name(invite), branches, proceeding: false, cancelled: false }
    }

    fn is_first(&self, branch: Name) -> bool {
        self.branches.first() == Some(&branch)
    }

    /// Whether what happens to this transaction happens to the caller. If the caller's own shows
    /// no sign of life, the capture may not see it, and any stands for it.
    fn is_callers(&self, branch: Name) -> bool {
        self.is_first(branch) || !self.proceeding
    }

    /// Whether the branch was not known before.
    fn add_branch(&mut self, branch: Name) -> bool {
        let is_new = !self.branches.contains(&branch);
        if is_new && self.branches.len() < MAX_BRANCHES {
            self.branches.push(branch);
        }
        is_new
    }
}

/// An INVITE that asks for a new dialog: RFC 3261, 8.1.1.2.
fn is_initial_invite(message: &Message<'_>) -> bool {
    message.start == StartLine::Request(Method::Invite) && sip::tag(message.to).is_none()
}

fn request_name(message: &Message<'_>) -> (Option<u32>, Name) {
    (message.cseq.map(|cseq| cseq.number), name(sip::tag(message.from).unwrap_or_default()))
}

fn name(text: &[u8]) -> Name {
    foldhash::fast::FixedState::default().hash_one(text)
}
