//! What was decided on some calls, and why, for people who ask: `explain`.
//!
//! A [`CallTable`](super::CallTable) with a trace tells it each message, each endpoint and each
//! decision on the owners of a flow; without one, that costs a comparison at each change. A capture
//! is read twice. The first time, the trace keeps the calls that are asked for. The second time,
//! all endpoints of these calls are known in advance, and the trace keeps the decisions on flows
//! that touch them, also from before the call.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use regex::bytes::Regex;
use smallvec::SmallVec;

use super::{
    Basis, Call, CallNumber, End, Given, LegGroup, Link, NamedLeg, Owner, flows::FlowPackets,
};
use crate::{
    events::{FlowKey, SipEvent, stable_hash},
    moment::{Clock, Moment},
    packet::Endpoint,
    sdp::{MediaLine, Rank, media_lines},
    sip::StartLine,
};

mod flow;
mod legs;

pub use legs::TracedConversation;

pub use flow::{Fate, Outside, Stretch, TracedFlow};

use flow::Decisions;

/// The most messages of a call that are kept; later ones are counted.
const MAX_MESSAGES: usize = 1000;
/// The most endpoints of a call that are kept, as often as it gives them at a higher rank.
const MAX_GRANTS: usize = 2048;
/// The most flows of a call that are kept, and the most flows beside its descriptions.
const MAX_FLOWS: usize = 4096;
const MAX_BESIDE: usize = 256;
/// The most other calls whose Call-IDs are kept, because they have flows at the endpoints.
const MAX_OTHERS: usize = 4096;
/// The most links of a call that are kept.
const MAX_LINKS: usize = 256;
/// The most Call-IDs that are kept in case that none is the right one.
const MAX_CALL_IDS: usize = 100_000;
/// The longest start line that is kept, in bytes.
const MAX_LINE_LEN: usize = 512;
/// The time in which the same message is a copy that the capture has made: as for INVITEs, see
/// [`Facts`](super::Facts).
const COPY_NS: u64 = 50_000_000;

/// The calls that are asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// A Call-ID.
    pub text: String,
    /// The text as a regular expression, which counts if no call has the text as its Call-ID.
    pub pattern: Option<Regex>,
    /// The most calls that are kept.
    pub most: usize,
}

impl Wanted {
    /// Returns true if a leg may be asked for.
    #[must_use]
    pub fn may_be(&self, leg: &NamedLeg) -> bool {
        let mut pattern = self.pattern.iter();
        *leg.call_id == *self.text.as_bytes()
            || pattern.any(|pattern| pattern.is_match(&leg.call_id))
    }
}

/// What was decided on some calls.
#[derive(Debug)]
pub struct Trace {
    wanted: Wanted,
    /// True when a call has the wanted text as its Call-ID.
    is_exact: bool,
    calls: Vec<TracedCall>,
    /// The number of calls that match, beyond those that are kept.
    pub beyond: u64,
    /// The Call-IDs of calls that do not match.
    pub call_ids: BTreeSet<Box<[u8]>>,
    /// In the second reading: the calls that gave each endpoint, by their index.
    watched: Option<BTreeMap<Endpoint, SmallVec<[usize; 1]>>>,
    decisions: BTreeMap<FlowKey, Decisions>,
    others: BTreeMap<CallNumber, Box<[u8]>>,
    conversations: legs::Conversations,
}

/// A call that is asked for.
#[derive(Debug)]
pub struct TracedCall {
    /// Its number.
    pub number: CallNumber,
    /// Its Call-ID.
    pub call_id: Box<[u8]>,
    /// The values of From and To in the INVITE that opened it.
    pub from: Box<[u8]>,
    /// See `from`.
    pub to: Box<[u8]>,
    /// The time of that INVITE, in nanoseconds since 1970.
    pub start_ns: u64,
    /// The moment of its first frame.
    pub first_frame: Moment,
    /// True when the call was under way before the capture.
    pub is_mid_dialog: bool,
    /// Its messages, by time.
    pub messages: Vec<TracedMessage>,
    /// The time of the message that came last.
    latest_ns: u64,
    /// The hosts that sent or received its messages, or that it gives for media; known in the
    /// second reading.
    pub hosts: BTreeSet<IpAddr>,
    /// The number of messages beyond the limit.
    pub messages_beyond: u64,
    /// The endpoints that it gave.
    pub grants: Vec<Grant>,
    /// Its end, and the moment at which it closed.
    pub end: Option<(Moment, End)>,
    /// The legs of its conversation that it is linked with, also those that closed after it.
    pub links: Vec<Link>,
    /// True when it was answered.
    pub was_answered: bool,
    /// The flows that touch its endpoints.
    pub flows: BTreeMap<FlowKey, TracedFlow>,
    /// The number of such flows beyond the limit.
    pub flows_beyond: u64,
    /// Flows of no call between its hosts, while it was open, that touch no endpoint.
    pub beside: BTreeMap<FlowKey, Stretch>,
}

/// A message of a call.
#[derive(Debug)]
pub struct TracedMessage {
    /// The time of its first frame, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Its sender.
    pub source: Endpoint,
    /// Its receiver.
    pub destination: Endpoint,
    /// The request or the status.
    pub start: StartLine,
    /// The start line.
    pub line: Box<[u8]>,
    /// The CSeq: number and method, as they are written.
    pub cseq: Box<[u8]>,
    /// The media lines of its descriptions.
    pub media: Vec<MediaLine>,
    /// True when its descriptions count as offer or answer.
    pub can_negotiate: bool,
    /// True when the message comes directly from the user agent that wrote it, as far as it shows.
    pub is_first_hand: bool,
    /// The message that it repeats.
    pub repeats: Option<Repeats>,
    digest: u64,
}

/// The way in which a message repeats an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// The sender sent it again.
    Again,
    /// The capture has it twice.
    Copy,
}

/// An endpoint that a call gave.
#[derive(Debug)]
pub struct Grant {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The certainty.
    pub rank: Rank,
    /// The time of the message that gave it, in nanoseconds since 1970.
    pub message_ns: u64,
    /// The moment at which it was given.
    pub at: Moment,
    /// Packets from this moment on could belong to it.
    pub back_to: Moment,
    /// What became of it.
    pub outcome: GrantOutcome,
    /// The moment at which another call took it over.
    pub taken_over: Option<Moment>,
}

/// What became of an endpoint that a call gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantOutcome {
    /// The call has it.
    Given(Given),
    /// The call was over, and had it already, or another call had it.
    TooLate,
    /// The call has too many.
    TooMany,
}

impl Trace {
    /// A trace for the first reading.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            is_exact: false,
            calls: Vec::new(),
            beyond: 0,
            call_ids: BTreeSet::new(),
            watched: None,
            decisions: BTreeMap::new(),
            others: BTreeMap::new(),
            conversations: legs::Conversations::default(),
        }
    }

    /// The same trace for the second reading of the same capture, in which these conversations were
    /// found.
    #[must_use]
    pub fn again(mut self, groups: Vec<LegGroup>) -> Self {
        let numbers: BTreeSet<CallNumber> = self.calls.iter().map(|call| call.number).collect();
        self.conversations = legs::Conversations::of(groups, |number| numbers.contains(&number));
        let mut watched: BTreeMap<Endpoint, SmallVec<[usize; 1]>> = BTreeMap::new();
        for (index, call) in self.calls.iter_mut().enumerate() {
            call.messages.sort_by_key(|message| message.time_ns);
            call.hosts = call.all_hosts();
            for grant in call.grants.iter().filter(|grant| grant.is_given()) {
                let calls = watched.entry(grant.endpoint).or_default();
                if !calls.contains(&index) {
                    calls.push(index);
                }
            }
        }
        self.watched = Some(watched);
        self
    }

    /// The calls that are asked for, in the order in which they opened.
    #[must_use]
    pub fn calls(&self) -> &[TracedCall] {
        &self.calls
    }

    /// The conversation of a call, if it has two legs or more.
    #[must_use]
    pub fn conversation_of(&self, call: &TracedCall) -> Option<&TracedConversation> {
        self.conversations.get(call.number)
    }

    /// The Call-ID of a call that has a flow at an endpoint.
    #[must_use]
    pub fn call_id(&self, number: CallNumber) -> Option<&[u8]> {
        let of_calls = || {
            let mut calls = self.calls.iter();
            calls
                .find(|call| call.number == number)
                .map(|call| &*call.call_id)
        };
        self.others
            .get(&number)
            .map(AsRef::as_ref)
            .or_else(of_calls)
    }

    /// Notes a call that opens.
    #[cold]
    pub(super) fn open(&mut self, call: &Call, is_mid_dialog: bool) {
        if self.watched.is_some() {
            return;
        }
        let is_exact = *call.call_id == *self.wanted.text.as_bytes();
        if is_exact && !self.is_exact {
            self.is_exact = true;
            self.calls.clear();
            self.beyond = 0;
        }
        let fits = || {
            let mut pattern = self.wanted.pattern.iter();
            pattern.any(|pattern| pattern.is_match(&call.call_id))
        };
        if !is_exact && (self.is_exact || !fits()) {
            if self.call_ids.len() < MAX_CALL_IDS {
                self.call_ids.insert(call.call_id.clone());
            }
        } else if self.calls.len() >= self.wanted.most {
            self.beyond = self.beyond.saturating_add(1);
        } else {
            self.calls.push(TracedCall::open(call, is_mid_dialog));
        }
    }

    /// The call with this number, in the first reading.
    fn call(&mut self, number: CallNumber) -> Option<&mut TracedCall> {
        if self.watched.is_some() {
            return None;
        }
        self.calls.iter_mut().find(|call| call.number == number)
    }

    /// Notes a message of a call.
    #[cold]
    pub(super) fn note_message(&mut self, number: CallNumber, event: &SipEvent<'_>) {
        if let Some(call) = self.call(number) {
            call.add(event);
        }
        self.conversations.note_message(number, event);
    }

    /// Notes an endpoint that a call gives.
    #[cold]
    pub(super) fn note_grant(
        &mut self,
        number: CallNumber,
        (endpoint, rank): (Endpoint, Rank),
        at: Moment,
        back_to: Moment,
        outcome: GrantOutcome,
    ) {
        let Some(call) = self.call(number) else {
            return;
        };
        let mut known = call.grants.iter();
        let is_known = known.any(|grant| {
            grant.endpoint == endpoint && grant.rank >= rank && grant.taken_over.is_none()
        });
        if is_known || call.grants.len() >= MAX_GRANTS {
            return;
        }
        call.grants.push(Grant {
            endpoint,
            rank,
            message_ns: call.latest_ns,
            at,
            back_to,
            outcome,
            taken_over: None,
        });
    }

    /// Notes that a call that is over loses an endpoint to another call.
    #[cold]
    pub(super) fn note_taken_over(&mut self, number: CallNumber, endpoint: Endpoint, at: Moment) {
        if let Some(call) = self.call(number) {
            let grants = call.grants.iter_mut();
            grants
                .filter(|grant| grant.endpoint == endpoint && grant.taken_over.is_none())
                .for_each(|grant| grant.taken_over = Some(at));
        }
    }

    /// Notes a call that closes.
    #[cold]
    pub(super) fn close(&mut self, closed: &Call, at: Moment, end: End) {
        if let Some(call) = self.call(closed.number) {
            call.end = Some((at, end));
            call.was_answered = closed.was_answered();
        }
        self.note_links(closed);
    }

    /// Notes the links of a call that closes. Those to calls that have closed before are theirs,
    /// too.
    fn note_links(&mut self, closed: &Call) {
        let Some(conversation) = &closed.conversation else {
            return;
        };
        if self.watched.is_some() || conversation.links.is_empty() {
            return;
        }
        for call in &mut self.calls {
            let is_own = call.number == closed.number;
            let is_it =
                |link: &&Link| *link.call_id == *call.call_id && link.start_ns == call.start_ns;
            let links: Vec<Link> = if is_own {
                conversation.links.clone()
            } else {
                let back = |link: &Link| Link {
                    call_id: (*closed.call_id).into(),
                    start_ns: closed.start_ns,
                    reason: link.reason.clone(),
                };
                conversation.links.iter().filter(is_it).map(back).collect()
            };
            for link in links {
                if call.links.len() < MAX_LINKS && !call.links.contains(&link) {
                    call.links.push(link);
                }
            }
        }
    }

    /// Notes the owners of a flow from a moment on.
    #[cold]
    pub(super) fn note_decision<'c>(
        &mut self,
        key: FlowKey,
        calls: &[CallNumber],
        basis: Basis,
        from: Moment,
        call_id: impl Fn(CallNumber) -> Option<&'c [u8]>,
    ) {
        if !self.watches(key) {
            return;
        }
        for number in calls {
            if self.others.len() < MAX_OTHERS
                && let Some(call_id) = call_id(*number)
            {
                self.others.entry(*number).or_insert_with(|| call_id.into());
            }
        }
        let basis = self.first_basis(key, calls, basis);
        self.decisions
            .entry(key)
            .or_default()
            .add(calls, basis, from);
    }

    /// The reason for which a call got the conversation that it keeps, in either direction: when
    /// it counts as kept depends on the windows.
    fn first_basis(&self, key: FlowKey, calls: &[CallNumber], basis: Basis) -> Basis {
        if basis != Basis::Kept {
            return basis;
        }
        let of = |key| self.decisions.get(&key)?.guess_of(calls);
        of(key).or_else(|| of(key.reversed())).unwrap_or(basis)
    }

    /// Notes a stretch of a flow that a call has.
    #[cold]
    pub(super) fn note_claim(&mut self, key: FlowKey, owner: &Owner, until: Moment) {
        if self.watches(key) {
            let decisions = self.decisions.entry(key).or_default();
            decisions.claim(owner.call, owner.from, until);
        }
    }

    fn watches(&self, key: FlowKey) -> bool {
        self.watched.as_ref().is_some_and(|watched| {
            watched.contains_key(&key.source) || watched.contains_key(&key.destination)
        })
    }

    /// Notes the packets of a flow whose owners are final.
    #[cold]
    pub(super) fn tally(&mut self, left: &FlowPackets<'_>) {
        let Some(watched) = &self.watched else {
            return;
        };
        let key = left.key;
        let at = |end: &Endpoint| watched.get(end).into_iter().flatten().copied();
        let touched: BTreeSet<usize> = at(&key.source).chain(at(&key.destination)).collect();
        let decisions = self.decisions.entry(key).or_default();
        for index in &touched {
            let Some(call) = self.calls.get_mut(*index) else {
                continue;
            };
            if call.flows.len() >= MAX_FLOWS && !call.flows.contains_key(&key) {
                call.flows_beyond = call.flows_beyond.saturating_add(1);
                continue;
            }
            let mut flow = call.flows.remove(&key).unwrap_or_default();
            for packet in left.packets.iter().copied().flatten() {
                flow.add(decisions.fate(call, key, *packet), packet.clock);
            }
            call.flows.insert(key, flow);
        }
        if touched.is_empty() {
            self.decisions.remove(&key);
            if !left.is_claimed {
                let calls = self.calls.iter_mut();
                calls.for_each(|call| call.add_beside(left));
            }
        }
    }
}

impl Grant {
    /// True when the call has or had the endpoint.
    #[must_use]
    pub fn is_given(&self) -> bool {
        matches!(self.outcome, GrantOutcome::Given(_))
    }
}

impl TracedCall {
    fn open(call: &Call, is_mid_dialog: bool) -> Self {
        Self {
            number: call.number,
            call_id: call.call_id.clone(),
            from: call.from.clone(),
            to: call.to.clone(),
            start_ns: call.start_ns,
            first_frame: call.first_frame,
            is_mid_dialog,
            messages: Vec::new(),
            hosts: BTreeSet::new(),
            latest_ns: call.start_ns,
            messages_beyond: 0,
            grants: Vec::new(),
            end: None,
            links: Vec::new(),
            was_answered: false,
            flows: BTreeMap::new(),
            flows_beyond: 0,
            beside: BTreeMap::new(),
        }
    }

    fn all_hosts(&self) -> BTreeSet<IpAddr> {
        let of_messages = self
            .messages
            .iter()
            .flat_map(|message| [message.source, message.destination]);
        let of_media = self.grants.iter().map(|grant| grant.endpoint);
        of_messages.chain(of_media).map(Endpoint::ip).collect()
    }

    /// True when it was open at a moment.
    #[must_use]
    pub fn is_open_at(&self, moment: Moment) -> bool {
        moment >= self.first_frame && self.end.is_none_or(|(at, _)| moment < at)
    }

    fn add(&mut self, event: &SipEvent<'_>) {
        self.latest_ns = event.timestamp_ns;
        if self.messages.len() >= MAX_MESSAGES {
            self.messages_beyond = self.messages_beyond.saturating_add(1);
            return;
        }
        let mut message = TracedMessage::of(event);
        message.repeats = repetition_of(&message, self.messages.iter().rev());
        self.messages.push(message);
    }

    /// Adds a flow of no call, if it runs between hosts of this call while it is open.
    fn add_beside(&mut self, left: &FlowPackets<'_>) {
        let FlowKey {
            source,
            destination,
            ..
        } = left.key;
        let is_host = |end: Endpoint| self.hosts.contains(&end.ip());
        if !is_host(source) || !is_host(destination) {
            return;
        }
        if self.beside.len() >= MAX_BESIDE && !self.beside.contains_key(&left.key) {
            return;
        }
        let packets = left.packets.iter().copied().flatten();
        let clocks: Vec<Clock> = packets
            .filter(|packet| self.is_open_at(**packet))
            .map(|packet| packet.clock)
            .collect();
        for clock in clocks {
            self.beside.entry(left.key).or_default().add(clock);
        }
    }
}

/// The way in which a message repeats one of these, the latest first.
fn repetition_of<'m>(
    message: &TracedMessage,
    mut earlier: impl Iterator<Item = &'m TracedMessage>,
) -> Option<Repeats> {
    let earlier = earlier.find(|earlier| {
        (earlier.digest, earlier.source, earlier.destination)
            == (message.digest, message.source, message.destination)
    })?;
    let is_later = message.time_ns.abs_diff(earlier.time_ns) > COPY_NS;
    Some(if is_later {
        Repeats::Again
    } else {
        Repeats::Copy
    })
}

impl TracedMessage {
    fn of(event: &SipEvent<'_>) -> Self {
        let message = &event.message;
        let mut lines = message
            .raw
            .split(|byte| matches!(byte, b'\r' | b'\n'))
            .skip_while(|line| line.is_empty());
        let line = lines.next().unwrap_or_default();
        let bodies = message.bodies();
        Self {
            time_ns: event.timestamp_ns,
            source: event.source,
            destination: event.destination,
            start: message.start,
            line: line.get(..MAX_LINE_LEN).unwrap_or(line).into(),
            cseq: message.fields("CSeq").next().unwrap_or_default().into(),
            media: bodies
                .found
                .iter()
                .flat_map(|body| media_lines(body.text()))
                .collect(),
            can_negotiate: message.can_negotiate(),
            is_first_hand: message.is_first_hand(),
            repeats: None,
            digest: stable_hash(message.raw),
        }
    }
}
