//! What the messages of one call mean for its state (RFC 3261, 12 to 17).
//!
//! A capture sees a call at one place, or at several: on both sides of a proxy the same INVITE comes
//! by twice, in two transactions, the inner one with one Via more. When a proxy rings several phones,
//! one of them may refuse while the others ring. So it matters which transaction fails: the call has
//! failed when none of the outermost ones that the capture sees is under way any more. What happens
//! behind them is the proxy's affair.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    events::stable_hash,
    sip::{self, Message, Method, StartLine},
};

/// How a call ended, in the words of the CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Attempt {
    /// CSeq number and From tag: what responses repeat of it.
    name: (Option<u32>, Name),
    /// The transactions that carry it: one from the caller, and those of proxies.
    branches: SmallVec<[Branch; 2]>,
    cancelled: bool,
}

/// One transaction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Branch {
    name: Name,
    vias: usize,
    /// It has had a provisional answer.
    proceeding: bool,
    /// It was refused or cancelled.
    failed: bool,
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
        let can_go_on = matches!(self.over, Some(State::Failed | State::Cancelled));
        if self.attempt.is_followed_by(invite) {
            if !self.answered || can_go_on {
                self.begin_attempt(invite);
            }
        } else if self.attempt.name == request_name(invite) && self.attempt.add_branch(invite) && can_go_on {
            self.begin_attempt(invite);
        }
    }

    fn begin_attempt(&mut self, invite: &Message<'_>) {
        self.attempt = Attempt::new(invite);
        self.over = self.over.filter(|state| *state == State::Completed);
        if !self.answered {
            self.final_status = None;
        }
    }

    /// A CANCEL counts if it is the caller's: a proxy also cancels the phones that were not picked up.
    fn take_cancel(&mut self, cancel: &Message<'_>) {
        if !self.answered && !self.mid_dialog && self.over.is_none() && self.attempt.fails_with(name(cancel.branch)) {
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
            ..200 => self.take_provisional(response),
            200..300 => {
                self.answered = true;
                self.final_status = Some(status);
                self.over = self.over.filter(|state| *state == State::Completed);
            }
            _ if self.answered || self.mid_dialog => {}
            _ => self.take_failure(status, response),
        }
    }

    /// Another phone that rings keeps a call up of which one phone has refused.
    fn take_provisional(&mut self, response: &Message<'_>) {
        let keeps_up = self.attempt.proceeds(name(response.branch));
        if keeps_up && self.over == Some(State::Failed) {
            self.over = None;
        }
    }

    fn take_failure(&mut self, status: u16, response: &Message<'_>) {
        self.final_status = Some(status);
        if self.attempt.fails_with(name(response.branch)) && self.over != Some(State::Completed) {
            let is_cancelled = status == 487 || self.attempt.cancelled;
            self.over = Some(if is_cancelled { State::Cancelled } else { State::Failed });
        }
    }
}

impl Attempt {
    fn new(invite: &Message<'_>) -> Self {
        let branches = SmallVec::from_slice(&[Branch::of(invite)]);
        Self { name: request_name(invite), branches, cancelled: false }
    }

    /// Whether an INVITE is a further attempt, and no late copy of an earlier one.
    fn is_followed_by(&self, invite: &Message<'_>) -> bool {
        let (number, from_tag) = request_name(invite);
        from_tag != self.name.1 || number > self.name.0
    }

    /// Whether the transaction was not known before.
    fn add_branch(&mut self, invite: &Message<'_>) -> bool {
        let branch = Branch::of(invite);
        let is_new = self.branches.iter().all(|known| known.name != branch.name);
        if is_new && self.branches.len() < MAX_BRANCHES {
            self.branches.push(branch);
        }
        is_new
    }

    /// A transaction had a provisional answer. Tells whether it is an outermost one that is under way.
    fn proceeds(&mut self, name: Name) -> bool {
        let outermost = self.outermost_vias();
        let Some(branch) = self.branches.iter_mut().find(|branch| branch.name == name) else { return false };
        branch.proceeding = true;
        branch.vias == outermost && !branch.failed
    }

    /// A transaction failed. Tells whether the attempt fails with it: whether no outermost one is under way
    /// any more. (One without a sign of life may be beyond what the capture sees.)
    fn fails_with(&mut self, name: Name) -> bool {
        let outermost = self.outermost_vias();
        self.branches.iter_mut().filter(|branch| branch.name == name).for_each(|branch| branch.failed = true);
        !self.branches.iter().any(|branch| branch.vias == outermost && branch.proceeding && !branch.failed)
    }

    fn outermost_vias(&self) -> usize {
        self.branches.iter().map(|branch| branch.vias).min().unwrap_or(0)
    }
}

impl Branch {
    fn of(invite: &Message<'_>) -> Self {
        Self { name: name(invite.branch), vias: invite.vias, proceeding: false, failed: false }
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
    stable_hash(text)
}
