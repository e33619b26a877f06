//! The table of open calls.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use serde::{Deserialize, Serialize};
use shared::segment_drops::SegmentDrops;
use smallvec::SmallVec;

use super::{
    CallNumber, CallState, Conversation, Descriptions, Dialogs, Endpoints, Facts, FlowNumber,
    FlowTable, Journal, LegGroup, LinkRules, Owners, Strays, Texts, Trace, Unclaimed,
    conversations::Conversations,
    descriptions::Exchange,
    drops::{CaptureDrops, DropSum},
    floods::Floods,
    flows::FlowPackets,
    guesses::Addresses,
    journal::Room,
};
use crate::{
    counts::Excess,
    dtmf::Digits,
    events::{Flows, Repetition, SipEvent, Table, stable_hash},
    moment::{Clock, Moment, Position},
    packet::{Endpoint, Network},
    reassembly::MAX_HOLD_NS,
    sdp::Media,
    sip::{self, Message, Method, StartLine},
};

mod ownership;

use ownership::{Change, ChangedBy, EndpointBefore};

/// The most endpoints of a call that are matched with media: a call with more is not believed.
const MAX_ENDPOINTS: usize = 1024;
/// The most networks of a call's signalling; mobile phones may use many.
const MAX_NETWORKS: usize = 16;
/// The time in which a caller may answer a challenge (401, 407), in nanoseconds: people type
/// passwords.
const CREDENTIALS_NS: u64 = 60_000_000_000;

/// The timers, in nanoseconds of packet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The linger: the time for stragglers after a call is over.
    pub linger_ns: u64,
    /// The time after which a silent call is closed; never if `None`.
    pub call_timeout_ns: Option<u64>,
    /// The lookback: the time before a description in which media belong to it.
    pub lookback_ns: u64,
    /// The most calls that may be open; beyond it, unanswered calls are given up.
    pub max_open_calls: u64,
}

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// The number of the call, in the order in which calls open.
    pub number: CallNumber,
    /// Its Call-ID.
    pub call_id: Box<[u8]>,
    /// The values of From and To in the INVITE that opened it, on one line.
    pub from: Box<[u8]>,
    /// See `from`.
    pub to: Box<[u8]>,
    /// The timestamp of the first frame of that INVITE, in nanoseconds since 1970.
    pub start_ns: u64,
    /// The statements of its descriptions.
    pub descriptions: Descriptions,
    /// The moment of that frame.
    pub first_frame: Moment,
    /// The last frame that completes a message reported by HEP over TCP, and the time that HEP
    /// gave.
    pub last_told: Option<(Position, u64)>,
    /// The digits in its INFO messages.
    pub info_digits: Digits,
    /// The moment at which that INVITE was complete.
    opened: Moment,
    /// What its messages said, for its row.
    pub facts: Facts,
    /// Its dialogs and attempts.
    pub dialogs: Dialogs,
    /// Its messages and descriptions one by one, if a record wants them.
    pub journal: Option<Box<Journal>>,
    /// Its conversation; `None` until it closes.
    pub conversation: Option<Box<Conversation>>,
    held: Vec<Endpoint>,
    /// The endpoints that it guessed at first.
    guessed: SmallVec<[Endpoint; 2]>,
    addresses: Addresses,
    /// The networks of its signalling.
    networks: SmallVec<[Network; 1]>,
    /// The moment since which only stragglers are expected.
    over_since: Option<Moment>,
    /// What had been dropped at capture when it opened, and then.
    drops: (DropSum, DropSum),
    last_sip: Moment,
    last_media: Clock,
    /// The time of the timer that is set for this call.
    armed: Option<Clock>,
    end: Option<End>,
    announced: bool,
    frames: Vec<Moment>,
    claims: Vec<Claim>,
}

/// A stretch of time in which a flow belongs to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The flow.
    pub flow: FlowNumber,
    /// The first moment in it.
    pub from: Moment,
    /// The first moment after it.
    pub until: Moment,
}

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The end of its linger or timeout; `Clock::MAX` if the end of the input closed it.
    pub closed_at: Clock,
    /// The state in which it ended.
    pub state: CallState,
    /// The last final response to its initial INVITE.
    pub final_status: Option<u16>,
    /// The packets that were dropped at capture while it was open; `None` if no segment says.
    pub capture_drops: Option<u64>,
}

/// The packets of a call that have been settled since the window before.
#[derive(Debug)]
pub struct Work {
    /// The number of the call.
    pub number: CallNumber,
    /// True when the call opened since then.
    pub is_new: bool,
    /// The frames of its SIP, in capture order.
    pub frames: Vec<Moment>,
    /// The flows that belong to it. Claims may overlap.
    pub claims: Vec<Claim>,
    /// The end of the call, if it has ended.
    pub end: Option<End>,
}

/// The open calls, and those that ended in this window.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallTable {
    rules: Rules,
    by_call_id: Table<Box<[u8]>, CallNumber>,
    /// In boxes, because a node of the map that holds its calls is too large to be searched fast.
    calls: BTreeMap<CallNumber, Box<Call>>,
    endpoints: Endpoints,
    flows: FlowTable,
    timers: BinaryHeap<Reverse<(Clock, CallNumber)>>,
    strays: Strays,
    conversations: Conversations,
    floods: Floods,
    drops: CaptureDrops,
    opened: u64,
    /// The first network of any signalling, and true if there were others.
    networks: (Option<Network>, bool),
    /// True when a call has guessed an endpoint: before that, guesses cost nothing.
    has_guesses: bool,
    keeps_journals: bool,
    journal_room: Room,
    keeps_numbers: bool,
    texts: Texts,
    // Counted anew in each process.
    #[serde(skip)]
    stray_messages: u64,
    #[serde(skip)]
    excess: Excess,
    #[serde(skip)]
    unclaimed: Unclaimed,
    /// Reasons, if somebody asks for them.
    #[serde(skip)]
    trace: Option<Box<Trace>>,
}

impl CallTable {
    /// A table without calls.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            by_call_id: Table::default(),
            calls: BTreeMap::new(),
            endpoints: Endpoints::default(),
            flows: FlowTable::default(),
            timers: BinaryHeap::new(),
            strays: Strays::default(),
            conversations: Conversations::default(),
            floods: Floods::default(),
            drops: CaptureDrops::default(),
            opened: 0,
            networks: (None, false),
            has_guesses: false,
            keeps_journals: false,
            journal_room: Room::default(),
            keeps_numbers: false,
            texts: Texts::No,
            stray_messages: 0,
            excess: Excess::default(),
            unclaimed: Unclaimed::default(),
            trace: None,
        }
    }

    /// A table without calls that keeps reasons.
    #[must_use]
    pub fn traced(rules: Rules, trace: Trace) -> Self {
        Self {
            trace: Some(Box::new(trace)),
            ..Self::new(rules)
        }
    }

    /// The reasons, if they were kept.
    #[must_use]
    pub fn into_trace(self) -> Option<Trace> {
        self.trace.map(|trace| *trace)
    }

    /// The same table, which notes the numbers of calls if `keeps_numbers`: see
    /// [`Facts::numbers`].
    #[must_use]
    pub fn with_numbers(self, keeps_numbers: bool) -> Self {
        Self {
            keeps_numbers,
            ..self
        }
    }

    /// The same table, whose calls will have journals if `keeps_journals`.
    #[must_use]
    pub fn with_journals(self, keeps_journals: bool) -> Self {
        Self {
            keeps_journals,
            ..self
        }
    }

    /// The same table, with these rules for conversations.
    #[must_use]
    pub fn with_links(self, rules: LinkRules) -> Self {
        Self {
            conversations: Conversations::new(rules),
            ..self
        }
    }

    /// The same table, which groups the legs of each conversation if `groups`.
    #[must_use]
    pub fn with_groups(self, groups: bool) -> Self {
        Self {
            conversations: self.conversations.with_groups(groups),
            ..self
        }
    }

    /// The same table, whose journals will have these texts.
    #[must_use]
    pub fn with_texts(self, texts: Texts) -> Self {
        Self { texts, ..self }
    }

    /// The number of open calls.
    #[must_use]
    pub fn open(&self) -> usize {
        self.by_call_id.len()
    }

    /// The number of SIP messages of no call: registrations, and messages after the end of a call.
    #[must_use]
    pub fn stray_messages(&self) -> u64 {
        self.stray_messages
    }

    /// The numbers of entries beyond the limits.
    #[must_use]
    pub fn excess(&self) -> Excess {
        Excess {
            constants: self.conversations.dropped(),
            ..self.excess
        }
    }

    /// The source addresses of most calls that were given up as a flood, with the number of calls.
    #[must_use]
    pub fn flood_sources(&self, most: usize) -> Vec<(Endpoint, u64)> {
        self.floods.largest_sources(most)
    }

    /// The media of forgotten windows that no call has had.
    #[must_use]
    pub fn unclaimed(&self) -> &Unclaimed {
        &self.unclaimed
    }

    /// A call that is open, or ended in this window.
    #[must_use]
    pub fn call(&self, number: CallNumber) -> Option<&Call> {
        self.calls.get(&number).map(Box::as_ref)
    }

    /// The flows of this window, and those of earlier windows with packets that are left to be
    /// written.
    #[must_use]
    pub fn flows(&self) -> &FlowTable {
        &self.flows
    }

    /// Calls `visit` for each frame that is or may be left to be written.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        self.calls
            .values()
            .flat_map(|call| &call.frames)
            .for_each(|frame| visit(frame.position));
        self.flows.for_each_frame(visit);
        self.strays.for_each_frame(visit);
    }

    /// Adds what was dropped at capture in the time of a segment, which begins at packet time
    /// `clock`: before the window that it begins in.
    pub fn add_drops(&mut self, drops: &SegmentDrops, clock: Clock) {
        self.drops.add(drops, clock);
    }

    /// Begins a window from `start` to `end`, with the flows that were found in it.
    pub fn begin_window(&mut self, found: Vec<Flows>, start: Moment, end: Moment) {
        for flow in self.flows.add_window(found, start, end) {
            self.introduce(flow, start);
        }
    }

    /// Adds frames that repeat parts of a call's messages.
    pub fn repeat(&mut self, repetition: &Repetition) {
        self.expire(repetition.at.clock);
        let number = self.by_call_id.get(&*repetition.call_id);
        if let Some(call) = number.and_then(|number| self.calls.get_mut(number)) {
            call.add_frames(&repetition.frames);
        }
    }

    /// Handles the next SIP message of the capture.
    pub fn handle(&mut self, event: &SipEvent<'_>) {
        self.expire(event.at.clock);
        match self.by_call_id.get(event.message.call_id).copied() {
            Some(number) if self.is_succeeded_by(number, event) => {
                self.close(number, event.at, CallState::Completed, event.at.clock);
                self.open_call(event);
            }
            Some(number) => self.deliver(number, event),
            None if event.message.start == StartLine::Request(Method::Invite) => {
                self.open_call(event);
            }
            None => self.stray(event),
        }
    }

    /// Ends the window at `end`: all earlier messages have been handled.
    pub fn end_window(&mut self, end: Moment) {
        self.expire(end.clock);
        self.drops.until(end.clock);
        self.tell_all(end);
    }

    /// Ends the input at `end`: closes the open calls.
    pub fn finish(&mut self, end: Moment) {
        let open: Vec<(CallNumber, CallState)> = self
            .calls
            .values()
            .filter(|call| call.end.is_none())
            .map(|call| {
                (
                    call.number,
                    call.dialogs.over().unwrap_or(CallState::Incomplete),
                )
            })
            .collect();
        for (number, state) in open {
            self.close(number, end, state, Clock::MAX);
        }
        self.conversations.finish();
        self.tell_all(end);
    }

    /// The packets that can be written: all of ended calls, and those of open calls from before
    /// `settled`. Later descriptions may still claim packets from `settled` on.
    ///
    /// Also returns the moment before which no packet is left to be written.
    pub fn work(&mut self, settled: Moment) -> (Vec<Work>, Moment) {
        let earlier = self.settled_earlier(settled);
        let left_since = earlier.values().copied().fold(settled, Moment::min);
        let settled = |number: CallNumber| earlier.get(&number).copied().unwrap_or(settled);
        for flow in self.flows.numbers() {
            self.settle(flow, &settled);
        }
        let flows = &self.flows;
        let work = self
            .calls
            .values_mut()
            .filter_map(|call| call.work(settled(call.number), flows))
            .collect();
        (work, left_since)
    }

    /// Takes the conversations that no call can join any more: all of their calls have ended.
    pub fn take_complete_conversations(&mut self) -> Vec<LegGroup> {
        self.conversations.take_complete()
    }

    /// Returns true if a call can still join the conversation of a closed call with one of these
    /// Call-IDs.
    #[must_use]
    pub fn has_incomplete_conversation(&self, call_ids: &BTreeSet<Box<[u8]>>) -> bool {
        self.conversations.has_incomplete(call_ids)
    }

    /// The open calls that are settled less far than others, so that no fragmented packet is
    /// written in two parts.
    fn settled_earlier(&self, settled: Moment) -> BTreeMap<CallNumber, Moment> {
        if !self.flows.has_fragmented() {
            return BTreeMap::new();
        }
        let earliest = Moment::at(settled.clock.saturating_sub(MAX_HOLD_NS));
        let open = self.calls.values().filter(|call| call.end.is_none());
        let settled_of = |call: &Call| {
            let closed = call
                .claims
                .iter()
                .map(|claim| (claim.flow, claim.from, claim.until));
            let owned = call
                .flows_owned(&self.flows)
                .map(|(flow, from)| (flow, from, Moment::NEVER));
            let packets = closed.chain(owned).flat_map(|(flow, from, until)| {
                self.flows.packets_between(flow, from.max(earliest), until)
            });
            self.flows
                .between_packets(settled, packets.flatten().copied())
                .max(earliest)
        };
        open.map(|call| (call.number, settled_of(call)))
            .filter(|(_, of_call)| *of_call < settled)
            .collect()
    }

    /// Gives the settled packets of a flow to its owners.
    fn settle(&mut self, flow: FlowNumber, settled: &impl Fn(CallNumber) -> Moment) {
        let mut owners = self.flows.replace_owners(flow, Owners::new());
        for owner in &mut owners {
            let until = settled(owner.call);
            if owner.from < until {
                self.claim(owner, flow, until);
                owner.from = until;
            }
        }
        self.flows.replace_owners(flow, owners);
    }

    /// Forgets the ended calls, and the flows without packets since `left_since`. Later messages do
    /// not need packets from before `settled`. Flows that no call has had are counted, if their
    /// remaining packets are RTP by `is_rtp`.
    pub fn retire_window(
        &mut self,
        settled: Moment,
        left_since: Moment,
        is_rtp: impl Fn(&FlowPackets<'_>) -> bool,
    ) {
        let unclaimed = &mut self.unclaimed;
        let mut trace = self.trace.as_mut();
        self.flows.forget_before(left_since, |left| {
            if let Some(trace) = &mut trace {
                trace.tally(&left);
            }
            if left.is_claimed {
                unclaimed.remove(&left.key);
            } else if unclaimed.knows(&left.key) || is_rtp(&left) {
                unclaimed.add(left.key, left.count());
            }
        });
        self.calls.retain(|_, call| call.end.is_none());
        self.endpoints.forget_before(settled.clock);
        self.strays.forget_before(settled.clock);
    }

    fn is_succeeded_by(&self, number: CallNumber, event: &SipEvent<'_>) -> bool {
        self.calls
            .get(&number)
            .is_some_and(|call| call.dialogs.is_succeeded_by(&event.message))
    }

    fn stray(&mut self, event: &SipEvent<'_>) {
        self.stray_messages = self.stray_messages.saturating_add(1);
        self.strays
            .forget_before(event.at.clock.saturating_sub(self.rules.lookback_ns));
        self.excess.strays = self.excess.strays.saturating_add(self.strays.add(event));
    }

    /// Opens a call. Messages that came before the INVITE count as if they came right after it.
    fn open_call(&mut self, event: &SipEvent<'_>) {
        let number = CallNumber(self.opened);
        self.opened = self.opened.saturating_add(1);
        self.strays
            .forget_before(event.at.clock.saturating_sub(self.rules.lookback_ns));
        let strays = self.strays.take(event.message.call_id);
        self.stray_messages = self.stray_messages.saturating_sub(strays.len() as u64);
        let dropped = self.drops.ended_before(event.at.clock);
        let mut call = Call::open(number, event, dropped);
        call.journal = self.keeps_journals.then(Box::default);
        if self.keeps_numbers {
            call.facts.note_numbers(&event.message);
        }
        if let Some(trace) = &mut self.trace {
            trace.open(&call, call.was_under_way());
        }
        self.by_call_id.insert(call.call_id.clone(), number);
        self.calls.insert(number, Box::new(call));
        self.floods.open(number);
        self.conversations.open(number, event);
        self.deliver(number, event);
        for stray in &strays {
            if let Some(heard) = stray.as_of(event.at) {
                self.deliver(number, &heard);
            } else if let Some(call) = self.calls.get_mut(&number) {
                call.add_frames(stray.frames());
            }
        }
        self.give_up_beyond_most(event.at);
    }

    /// Closes the least promising calls if too many are open.
    fn give_up_beyond_most(&mut self, at: Moment) {
        while self.by_call_id.len() as u64 > self.rules.max_open_calls
            && let Some(number) = self.floods.least_promising()
        {
            if let Some(call) = self.calls.get(&number) {
                self.floods.count(call.facts.source);
            }
            self.close(number, at, CallState::Flood, at.clock);
        }
    }

    fn deliver(&mut self, number: CallNumber, event: &SipEvent<'_>) {
        self.note_network(number, event);
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.add_frames(&event.frames);
        call.last_told = call.last_told.max(
            event
                .frames
                .last()
                .map(|frame| frame.position)
                .zip(event.told_ns),
        );
        call.info_digits
            .add_info(&event.message, event.told_ns.unwrap_or(event.timestamp_ns));
        call.last_sip = event.at;
        if let Some(trace) = &mut self.trace {
            trace.note_message(number, event);
        }
        if !matches!(
            event.message.start,
            StartLine::Request(Method::Invite) | StartLine::Status(..=100)
        ) {
            self.floods.forget(number);
        }
        let excess = call.dialogs.excess();
        let milestone = call.dialogs.handle(&event.message);
        call.facts.learn(event, milestone, &call.dialogs);
        if let Some(journal) = &mut call.journal {
            let writer = call.dialogs.writer(&event.message);
            journal.add(event, writer, self.texts, &mut self.journal_room);
        }
        self.excess.dialogs = self
            .excess
            .dialogs
            .saturating_add(call.dialogs.excess().saturating_sub(excess));
        self.conversations.learn(number, event);
        let over = call.dialogs.over();
        let is_over_now = over.is_some() && call.over_since.is_none();
        if over.is_some() != call.over_since.is_some() {
            self.conversations.note_over(number, over.is_some());
        }
        call.over_since = over.and(call.over_since.or(Some(event.at)));
        if is_over_now {
            call.drops.1 = self.drops.until(event.at.clock);
        }
        if is_over_now {
            call.held
                .iter()
                .for_each(|endpoint| self.endpoints.note_over(*endpoint, number, event.at));
        }
        if let Some(deadline) = call.deadline(&self.rules, call.last_sip.clock) {
            self.arm(number, deadline);
        }
        if event.message.can_negotiate() {
            for (place, description) in event.descriptions.iter().enumerate() {
                self.learn(number, &description.media, event, place);
            }
        }
    }

    /// Notes the network of a message: the call is preferred for media that come through it.
    fn note_network(&mut self, number: CallNumber, event: &SipEvent<'_>) {
        let (first, are_several) = self.networks;
        if !are_several && first.is_some_and(|first| first != event.network) {
            self.tell_all(event.at);
            self.networks = (first, true);
            self.tell_anew(event.at);
        }
        self.networks.0 = first.or(Some(event.network));
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        if call.networks.contains(&event.network) || call.networks.len() >= MAX_NETWORKS {
            return;
        }
        let held = call.held.clone();
        let by = ChangedBy {
            call: number,
            held: &held,
        };
        let prepare = |endpoint: &Endpoint| {
            self.prepare(*endpoint, by, self.endpoints.hold(*endpoint), event.at)
        };
        let before: Vec<EndpointBefore> = held.iter().map(prepare).collect();
        if let Some(call) = self.calls.get_mut(&number) {
            call.networks.push(event.network);
        }
        for (endpoint, before) in held.iter().zip(before) {
            self.note_change(*endpoint, &before, Change::Given, event.at);
        }
    }

    /// Adds a description to a call: that at this place in the message.
    fn learn(&mut self, number: CallNumber, media: &[Media], event: &SipEvent<'_>, place: usize) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        self.conversations
            .describe(number, exchange_of(&event.message), media);
        let guesses: Vec<Vec<Endpoint>> = media
            .iter()
            .map(|media| call.addresses.guess(media, event))
            .collect();
        let media = if guesses.iter().all(Vec::is_empty) {
            Cow::Borrowed(media)
        } else {
            Cow::Owned(
                media
                    .iter()
                    .zip(guesses)
                    .map(|(media, guesses)| media.with_guesses(guesses))
                    .collect(),
            )
        };
        call.descriptions
            .add(event.at, exchange_of(&event.message), &media);
        if let Some(journal) = &mut call.journal {
            journal.describe(event, place, &media, &mut self.journal_room);
        }
        let endpoints: Vec<_> = media
            .iter()
            .flat_map(|media| &media.endpoints)
            .copied()
            .collect();
        self.give_all(number, &endpoints, event.at);
    }

    /// Sets the timer of a call, unless it fires earlier: then it is set again.
    fn arm(&mut self, number: CallNumber, deadline: Clock) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        if call.armed.is_none_or(|armed| deadline < armed) {
            call.armed = Some(deadline);
            self.timers.push(Reverse((deadline, number)));
        }
    }

    /// Fires the timers up to `now`.
    fn expire(&mut self, now: Clock) {
        while let Some(&Reverse((deadline, number))) = self.timers.peek()
            && deadline <= now
        {
            self.timers.pop();
            if self
                .calls
                .get(&number)
                .is_some_and(|call| call.end.is_none() && call.armed == Some(deadline))
            {
                self.fire(number, deadline);
            }
        }
    }

    fn fire(&mut self, number: CallNumber, deadline: Clock) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.armed = None;
        for endpoint in call.held.clone() {
            self.tell_due(endpoint, Moment::at(deadline));
        }
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let last_media = call.last_media_before(Moment::at(deadline), &self.flows);
        match call.deadline(&self.rules, call.last_sip.clock.max(last_media)) {
            Some(later) if later > deadline => self.arm(number, later),
            Some(_) => {
                let state = call.dialogs.over().unwrap_or(CallState::Timeout);
                // Without linger, the time ends with the message that ended the call, not before
                // it.
                let at = Moment::at(deadline).max(call.last_sip);
                self.close(number, at, state, deadline);
            }
            None => {}
        }
    }

    fn close(&mut self, number: CallNumber, at: Moment, state: CallState, closed_at: Clock) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let (dropped_before, dropped_until) = call.drops;
        // What is dropped after its end is no loss of the call.
        let dropped = match call.over_since {
            Some(_) => dropped_until,
            None => self.drops.until(closed_at),
        };
        call.end = Some(End {
            closed_at,
            state,
            final_status: call.dialogs.final_status(),
            capture_drops: dropped.since(dropped_before),
        });
        call.conversation = self.conversations.close(number, at.clock);
        if let (Some(trace), Some(end)) = (&mut self.trace, call.end) {
            trace.close(call, at, end);
        }
        if let Some(journal) = &call.journal {
            self.journal_room.give_back(journal);
        }
        self.by_call_id.remove(&call.call_id);
        self.floods.forget(number);
        self.strays.close(&call.call_id, at.clock);
        let held = std::mem::take(&mut call.held);
        self.release_all(number, &held, at);
    }
}

impl Call {
    /// The call that an INVITE opens.
    fn open(number: CallNumber, event: &SipEvent<'_>, dropped: DropSum) -> Self {
        let message = &event.message;
        Self {
            number,
            call_id: message.call_id.into(),
            from: sip::unfolded(message.from).into(),
            to: sip::unfolded(message.to).into(),
            start_ns: event.timestamp_ns,
            descriptions: Descriptions::default(),
            first_frame: event.frames.first().copied().unwrap_or(event.at),
            last_told: None,
            info_digits: Digits::default(),
            opened: event.at,
            facts: Facts::open(event),
            dialogs: Dialogs::open(message),
            journal: None,
            conversation: None,
            held: Vec::new(),
            guessed: SmallVec::new(),
            addresses: Addresses::default(),
            networks: SmallVec::new(),
            over_since: None,
            drops: (dropped, dropped),
            last_sip: event.at,
            last_media: 0,
            armed: None,
            end: None,
            announced: false,
            frames: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// Returns true if the call was answered: the capture has the answer, or began after it.
    #[must_use]
    pub fn was_answered(&self) -> bool {
        self.was_under_way() || self.facts.answered_ns.is_some()
    }

    /// Returns true if the capture began inside the call.
    #[must_use]
    pub fn was_under_way(&self) -> bool {
        self.dialogs.is_mid_dialog()
    }

    /// Adds the frames of a message in capture order: some may come before those of other messages.
    fn add_frames(&mut self, frames: &[Moment]) {
        for frame in frames {
            let place = self.frames.partition_point(|known| known < frame);
            if self.frames.get(place) != Some(frame) {
                self.frames.insert(place, *frame);
            }
        }
    }

    /// The time at which the call closes if nothing follows `last_activity`. Media do not count
    /// once the call is over.
    fn deadline(&self, rules: &Rules, last_activity: Clock) -> Option<Clock> {
        match self.dialogs.over() {
            Some(_) if self.dialogs.wants_credentials() => Some(
                self.last_sip
                    .clock
                    .saturating_add(rules.linger_ns.max(CREDENTIALS_NS)),
            ),
            Some(_) => Some(self.last_sip.clock.saturating_add(rules.linger_ns)),
            None => rules
                .call_timeout_ns
                .map(|timeout| last_activity.saturating_add(timeout)),
        }
    }

    /// The present flows of the call, with the moments since when they are its.
    fn flows_owned(&self, flows: &FlowTable) -> impl Iterator<Item = (FlowNumber, Moment)> {
        let touching = self
            .held
            .iter()
            .flat_map(|endpoint| flows.touching(*endpoint))
            .copied();
        touching.filter_map(|flow| Some((flow, flows.owned_since(flow, self.number)?)))
    }

    fn last_media_before(&self, moment: Moment, flows: &FlowTable) -> Clock {
        let last = |(flow, from)| flows.last_packet_between(flow, from, moment);
        self.flows_owned(flows)
            .filter_map(last)
            .fold(self.last_media, |media, packet| media.max(packet.clock))
    }

    /// The lookback: a call that opens now has no earlier media, but one that was under way may
    /// have.
    fn looks_back_to(&self, at: Moment, rules: &Rules) -> Moment {
        let earliest = Moment::at(at.clock.saturating_sub(rules.lookback_ns));
        if self.was_under_way() {
            earliest
        } else {
            earliest.max(self.first_frame)
        }
    }

    fn work(&mut self, settled: Moment, flows: &FlowTable) -> Option<Work> {
        let settled = if self.end.is_some() {
            Moment::NEVER
        } else {
            settled
        };
        let frames = self.frames.partition_point(|frame| *frame < settled);
        let work = Work {
            number: self.number,
            is_new: !std::mem::replace(&mut self.announced, true),
            frames: self.frames.drain(..frames).collect(),
            claims: self.take_claims(settled, flows),
            end: self.end,
        };
        let is_empty = work.frames.is_empty() && work.claims.is_empty();
        (work.is_new || work.end.is_some() || !is_empty).then_some(work)
    }

    /// Splits the claims at `settled`: returns the part before, and keeps the part after.
    fn take_claims(&mut self, settled: Moment, flows: &FlowTable) -> Vec<Claim> {
        let is_settled = |claim: &Claim| claim.until <= settled;
        if self.claims.iter().all(is_settled) {
            return std::mem::take(&mut self.claims);
        }
        let has_packets = |claim: &Claim| {
            flows
                .last_packet_between(claim.flow, claim.from, claim.until)
                .is_some()
        };
        let before = |claim: &Claim| Claim {
            until: claim.until.min(settled),
            ..*claim
        };
        let taken = self.claims.iter().map(before).filter(has_packets).collect();
        self.claims
            .iter_mut()
            .for_each(|claim| claim.from = claim.from.max(settled));
        // The number of a flow without packets is used again for another flow.
        self.claims
            .retain(|claim| claim.from < claim.until && has_packets(claim));
        taken
    }
}

/// The transaction of an offer and its answers: a request, its responses and its ACK have the same
/// CSeq and From tag.
fn exchange_of(message: &Message<'_>) -> Exchange {
    let cseq = message.cseq.map(|cseq| cseq.number).unwrap_or_default();
    let from = sip::tag(message.from).unwrap_or_default();
    let number = stable_hash(cseq) ^ stable_hash(from).rotate_left(32);
    Exchange {
        number,
        is_response: matches!(message.start, StartLine::Status(_)),
    }
}
