//! What the messages of a call say beside its end: who sent what when, and why the call ended.
//!
//! [`Dialogs`] tells which messages are steps of the caller's own attempt and dialogs
//! ([`Milestone`]). Messages of other legs under the same Call-ID change nothing here, except that
//! a retransmitted INVITE counts on every leg.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::dialogs::{Dialogs, Milestone, Side};
use crate::{
    events::{SipEvent, stable_hash},
    packet::Endpoint,
    sip::{self, Message, Method, Reason, StartLine},
};

/// The most bytes of a User-Agent that are kept.
const MAX_AGENT_LEN: usize = 256;
/// The most numbers of the opening INVITE that are kept, beside those of From and To, and the most
/// digits of each.
const MAX_NUMBERS: usize = 8;
const MAX_DIGITS: usize = 64;
/// The most INVITEs whose retransmissions are recognized at once; the latest ones count.
const MAX_INVITES: usize = 16;
/// The time in which the same INVITE is a copy that the capture has made, in nanoseconds: mirror
/// ports and capture points on one path deliver copies within milliseconds, and a sender waits for
/// T1, 500 ms, before it repeats an INVITE (RFC 3261, 17.1.1.2).
const COPY_NS: u64 = 50_000_000;

/// What a call's messages have said so far. Times are those of the first frame of a message, in
/// nanoseconds since 1970: as captured, or as a HEP agent gives them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The source and the destination of the packet with the opening INVITE.
    pub source: Endpoint,
    /// See `source`.
    pub destination: Endpoint,
    /// The numbers in the Request-URI, P-Asserted-Identity (RFC 3325) and Diversion (RFC 5806) of
    /// the opening INVITE, beside those in From and To; see [`sip::number`]. Empty if no call is
    /// selected by its numbers.
    pub numbers: SmallVec<[Box<[u8]>; 1]>,
    /// The time of the first 180 to 189 to the caller's INVITE, before the answer.
    pub ringing_ns: Option<u64>,
    /// The time of the first 2xx to the caller's INVITE.
    pub answered_ns: Option<u64>,
    /// The BYE that ended the caller's last dialog.
    pub hang_up: Option<HangUp>,
    /// True when the caller gave up with CANCEL.
    pub is_cancelled: bool,
    /// User-Agent, else Server, of the caller's first message that has one (RFC 3261, 20.35 and
    /// 20.41).
    pub caller_agent: Option<Box<[u8]>>,
    /// The same of the callee; of several phones, that of the one that answered.
    callee_agent: Option<CalleeAgent>,
    /// The tag of the callee that answered, hashed.
    answering: Option<u64>,
    /// Reason (RFC 3326) of the BYE, CANCEL or refusal that ended the call.
    pub reason: Option<Reason>,
    /// The number of INVITEs that their sender repeated, as far as the capture shows.
    pub retransmitted_invites: u64,
    /// The latest INVITEs, each once.
    invites: SmallVec<[SeenInvite; 2]>,
}

/// A BYE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangUp {
    /// The time of the BYE, in nanoseconds since 1970.
    pub at_ns: u64,
    /// Its sender.
    pub by: Side,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct CalleeAgent {
    rank: AgentRank,
    /// The callee's tag, hashed: a phone that rings is not always the one that answers.
    tag: u64,
    text: Box<[u8]>,
}

/// The messages that name the callee's software, the worst first: proxies write refusals, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum AgentRank {
    Refusal,
    Other,
    Answer,
}

/// An INVITE: its branch, CSeq and source, hashed, and its time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct SeenInvite {
    key: u64,
    last_ns: u64,
}

impl Facts {
    /// The facts of the call that an INVITE opens, before [`Facts::learn`] of it.
    #[must_use]
    pub fn open(event: &SipEvent<'_>) -> Self {
        Self {
            source: event.source,
            destination: event.destination,
            numbers: SmallVec::new(),
            ringing_ns: None,
            answered_ns: None,
            hang_up: None,
            is_cancelled: false,
            caller_agent: None,
            callee_agent: None,
            answering: None,
            reason: None,
            retransmitted_invites: 0,
            invites: SmallVec::new(),
        }
    }

    /// User-Agent, else Server, of the callee.
    #[must_use]
    pub fn callee_agent(&self) -> Option<&[u8]> {
        self.callee_agent.as_ref().map(|agent| &*agent.text)
    }

    /// Learns from a message of the call, which `dialogs` has handled, with this result.
    pub fn learn(&mut self, event: &SipEvent<'_>, milestone: Option<Milestone>, dialogs: &Dialogs) {
        let message = &event.message;
        if message.start == StartLine::Request(Method::Invite) {
            self.note_invite(event);
        }
        if let Some(milestone) = milestone {
            self.pass(milestone, event);
        }
        if !message.agent.is_empty() {
            self.note_agent(message, dialogs);
        }
    }

    /// Notes the numbers of the opening INVITE.
    pub fn note_numbers(&mut self, invite: &Message<'_>) {
        self.numbers = numbers(invite);
    }

    fn pass(&mut self, milestone: Milestone, event: &SipEvent<'_>) {
        let at_ns = event.timestamp_ns;
        let reason = || Reason::of(&event.message);
        match milestone {
            Milestone::Rings if self.answered_ns.is_none() => {
                self.ringing_ns = self.ringing_ns.or(Some(at_ns));
            }
            Milestone::Rings => {}
            Milestone::Answered if self.answered_ns.is_none() => {
                self.answered_ns = Some(at_ns);
                self.reason = None;
                self.forget_other_agents(callee_tag(&event.message));
            }
            Milestone::Answered => {}
            // The answer to a CANCEL seldom repeats its reason.
            Milestone::Refused(487) => self.reason = reason().or(self.reason.take()),
            Milestone::Refused(_) => self.reason = reason(),
            Milestone::Cancelled => {
                self.is_cancelled = true;
                self.reason = reason();
            }
            Milestone::HungUp(by) => {
                self.hang_up = Some(HangUp { at_ns, by });
                self.reason = reason();
            }
        }
    }

    /// Notes an INVITE. RFC 3261, 17.1.1.2: a retransmission has the same branch. On the other side
    /// of a proxy, the INVITE has another one.
    fn note_invite(&mut self, event: &SipEvent<'_>) {
        let message = &event.message;
        let cseq = message.cseq.map(|cseq| cseq.number).unwrap_or_default();
        let source = event.source.address_bits().to_ne_bytes();
        let key = stable_hash(message.branch)
            ^ stable_hash(cseq).rotate_left(21)
            ^ stable_hash(&source).rotate_left(42)
            ^ u64::from(event.source.port());
        let last_ns = event.timestamp_ns;
        if let Some(seen) = self.invites.iter_mut().find(|seen| seen.key == key) {
            if seen.last_ns.abs_diff(last_ns) > COPY_NS {
                self.retransmitted_invites = self.retransmitted_invites.saturating_add(1);
            }
            seen.last_ns = last_ns;
            return;
        }
        if self.invites.len() >= MAX_INVITES {
            self.invites.remove(0);
        }
        self.invites.push(SeenInvite { key, last_ns });
    }

    /// Notes the software that wrote a message, unless all that it may say is known.
    fn note_agent(&mut self, message: &Message<'_>, dialogs: &Dialogs) {
        let rank = match message.start {
            StartLine::Status(200..300) if is_of_invite(message) => AgentRank::Answer,
            StartLine::Status(300..) => AgentRank::Refusal,
            _ => AgentRank::Other,
        };
        let known = self.callee_agent.as_ref();
        let is_callees_known = known.is_some_and(|known| known.rank >= rank);
        if is_callees_known && self.caller_agent.is_some() {
            return;
        }
        match dialogs.writer(message) {
            Some(Side::Caller) if self.caller_agent.is_none() => {
                self.caller_agent = Some(agent(message));
            }
            Some(Side::Callee) if !is_callees_known => {
                let tag = callee_tag(message);
                if self.answering.is_none_or(|answering| answering == tag) {
                    let text = agent(message);
                    self.callee_agent = Some(CalleeAgent { rank, tag, text });
                }
            }
            _ => {}
        }
    }

    /// Forgets the software of phones that rang, when another one answers.
    fn forget_other_agents(&mut self, answering: u64) {
        self.answering = Some(answering);
        self.callee_agent.take_if(|known| known.tag != answering);
    }
}

/// The callee's tag in a message that the callee wrote, hashed.
fn callee_tag(message: &Message<'_>) -> u64 {
    let value = match message.start {
        StartLine::Request(_) => message.from,
        StartLine::Status(_) => message.to,
    };
    stable_hash(sip::tag(value).unwrap_or_default())
}

fn is_of_invite(message: &Message<'_>) -> bool {
    message
        .cseq
        .is_some_and(|cseq| cseq.method == Method::Invite)
}

fn agent(message: &Message<'_>) -> Box<[u8]> {
    let agent = sip::unfolded(message.agent);
    agent.get(..MAX_AGENT_LEN).unwrap_or(&agent).into()
}

/// The numbers of the opening INVITE that From and To do not have.
fn numbers(invite: &Message<'_>) -> SmallVec<[Box<[u8]>; 1]> {
    let known = [sip::number(invite.from), sip::number(invite.to)];
    let fields = ["P-Asserted-Identity", "Diversion"];
    let values = fields
        .into_iter()
        .flat_map(|name| invite.fields(name))
        .flat_map(sip::list);
    let mut numbers: SmallVec<[Box<[u8]>; 1]> = SmallVec::new();
    for value in invite.request_uri().into_iter().chain(values) {
        let Some(number) = sip::number(value).filter(|number| number.len() <= MAX_DIGITS) else {
            continue;
        };
        let is_known = known.iter().flatten().any(|known| *known == number)
            || numbers.iter().any(|known| **known == *number);
        if !is_known && numbers.len() < MAX_NUMBERS {
            numbers.push(number.into());
        }
    }
    numbers
}

#[cfg(test)]
mod tests;
