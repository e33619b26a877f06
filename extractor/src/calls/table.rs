//! The table of open calls.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{CallNumber, Dialog, Endpoints, FlowNumber, FlowTable, Given, Owner, Owners, State, Strays};
use crate::{
    events::{Flows, Repetition, SipEvent, Table},
    moment::{Clock, Moment, Position},
    packet::Endpoint,
    reassembly::MAX_HOLD_NS,
    sdp::{Media, Rank},
    sip::{self, Method, StartLine},
};

/// A call that gives more endpoints than this is not believed: the rest are not matched with media.
const MAX_ENDPOINTS: usize = 1024;

/// The timers, in nanoseconds of packet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How long stragglers are waited for after a call is over.
    pub linger_ns: u64,
    /// How long a call may be silent; for ever if none.
    pub call_timeout_ns: Option<u64>,
    /// How far before its description media is taken.
    pub lookback_ns: u64,
}

/// One call.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// Its number in the order in which calls open.
    pub number: CallNumber,
    /// Its Call-ID.
    pub call_id: Box<[u8]>,
    /// The values of From and To in the INVITE that opened it, on one line.
    pub from: Box<[u8]>,
    /// See `from`.
    pub to: Box<[u8]>,
    /// The timestamp of the first frame of that INVITE, in nanoseconds since 1970.
    pub start_ns: u64,
    /// What is known of its media, in the order in which it was learnt, and since when.
    pub media: Vec<(Clock, Media)>,
    /// Where that frame is.
    pub first_frame: Moment,
    /// The last frame that ends a message told of by HEP over TCP, and the time that was told.
    pub last_told: Option<(Position, u64)>,
    /// When that INVITE was whole.
    opened: Moment,
    dialog: Dialog,
    held: Vec<Endpoint>,
    /// Private addresses that the capture sees as they are.
    reachable: SmallVec<[IpAddr; 2]>,
    /// Since when nothing but stragglers is expected.
    over_since: Option<Moment>,
    last_sip: Moment,
    last_media: Clock,
    /// The timer that will fire for this call.
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
    /// The first moment that belongs.
    pub from: Moment,
    /// The first one that does not.
    pub until: Moment,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When its linger or its timeout was over; `Clock::MAX` if the end of the input closed it.
    pub closed_at: Clock,
    /// In which state.
    pub state: State,
    /// The last final answer to its initial INVITE.
    pub final_status: Option<u16>,
}

/// What is settled of a call since the window before.
#[derive(Debug)]
pub struct Work {
    /// Which call.
    pub number: CallNumber,
    /// It opened since.
    pub is_new: bool,
    /// Frames that carry its SIP, in capture order.
    pub frames: Vec<Moment>,
    /// Flows that belong to it. Claims may overlap.
    pub claims: Vec<Claim>,
    /// It ended.
    pub end: Option<End>,
}

/// All calls that are open, and those that ended in this window.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallTable {
    rules: Rules,
    by_call_id: Table<Box<[u8]>, CallNumber>,
    calls: BTreeMap<CallNumber, Call>,
    endpoints: Endpoints,
    flows: FlowTable,
    timers: BinaryHeap<Reverse<(Clock, CallNumber)>>,
    strays: Strays,
    opened: u64,
    // Counted for each process anew.
    #[serde(skip)]
    stray_messages: u64,
    #[serde(skip)]
    excess_endpoints: u64,
}

impl CallTable {
    /// No calls yet.
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
            opened: 0,
            stray_messages: 0,
            excess_endpoints: 0,
        }
    }

    /// How many calls are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.by_call_id.len()
    }

    /// How many SIP messages belonged to no call: registrations, and what came after a call closed.
    #[must_use]
    pub fn stray_messages(&self) -> u64 {
        self.stray_messages
    }

    /// How many times a call gave an endpoint beyond the most that one may have.
    #[must_use]
    pub fn excess_endpoints(&self) -> u64 {
        self.excess_endpoints
    }

    /// A call that is open, or ended in this window.
    #[must_use]
    pub fn call(&self, number: CallNumber) -> Option<&Call> {
        self.calls.get(&number)
    }

    /// The flows of this window, and of those before of which something is left to be written.
    #[must_use]
    pub fn flows(&self) -> &FlowTable {
        &self.flows
    }

    /// Visits the frames that are left to be written, or may be.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        self.calls.values().flat_map(|call| &call.frames).for_each(|frame| visit(frame.position));
        self.flows.for_each_frame(visit);
        self.strays.for_each_frame(visit);
    }

    /// Begins a window, from `start` up to `end`, with the flows that were found in it.
    pub fn begin_window(&mut self, found: Vec<Flows>, start: Moment, end: Moment) {
        for flow in self.flows.add_window(found, end) {
            self.transfer(flow, start);
        }
    }

    /// Takes in frames that repeat what messages of a call were made of.
    pub fn repeat(&mut self, repetition: &Repetition) {
        self.expire(repetition.at.clock);
        let number = self.by_call_id.get(&*repetition.call_id);
        if let Some(call) = number.and_then(|number| self.calls.get_mut(number)) {
            call.add_frames(&repetition.frames);
        }
    }

    /// Takes in the next SIP message of the capture.
    pub fn handle(&mut self, event: &SipEvent<'_>) {
        self.expire(event.at.clock);
        match self.by_call_id.get(event.message.call_id).copied() {
            Some(number) if self.is_succeeded_by(number, event) => {
                self.close(number, event.at, State::Completed, event.at.clock);
                self.open_call(event);
            }
            Some(number) => self.deliver(number, event),
            None if event.message.start == StartLine::Request(Method::Invite) => self.open_call(event),
            None => self.stray(event),
        }
    }

    /// Ends the window at `end`: all that came before has been handled.
    pub fn end_window(&mut self, end: Moment) {
        self.expire(end.clock);
    }

    /// The end of the input, at `end`: closes what is open.
    pub fn finish(&mut self, end: Moment) {
        let open: Vec<(CallNumber, State)> = self
            .calls
            .values()
            .filter(|call| call.end.is_none())
            .map(|call| (call.number, call.dialog.over().unwrap_or(State::Incomplete)))
            .collect();
        for (number, state) in open {
            self.close(number, end, state, Clock::MAX);
        }
    }

    /// What can be written: of calls that ended everything, of open ones what came before
    /// `settled`. From then on, a description may still claim packets that came before it.
    ///
    /// Gives it with the moment before which nothing is left to be written.
    pub fn work(&mut self, settled: Moment) -> (Vec<Work>, Moment) {
        let earlier = self.settled_earlier(settled);
        let left_since = earlier.values().copied().fold(settled, Moment::min);
        let settled = |number: CallNumber| earlier.get(&number).copied().unwrap_or(settled);
        for flow in self.flows.numbers() {
            self.settle(flow, &settled);
        }
        let flows = &self.flows;
        let work = self.calls.values_mut().filter_map(|call| call.work(settled(call.number), flows)).collect();
        (work, left_since)
    }

    /// The open calls of which less is settled than of others: no packet that came in fragments is written in two parts.
    fn settled_earlier(&self, settled: Moment) -> BTreeMap<CallNumber, Moment> {
        if !self.flows.has_fragmented() {
            return BTreeMap::new();
        }
        let earliest = Moment::at(settled.clock.saturating_sub(MAX_HOLD_NS));
        let open = self.calls.values().filter(|call| call.end.is_none());
        let settled_of = |call: &Call| {
            let closed = call.claims.iter().map(|claim| (claim.flow, claim.from, claim.until));
            let owned = call.flows_owned(&self.flows).map(|(flow, from)| (flow, from, Moment::NEVER));
            let packets =
                closed.chain(owned).flat_map(|(flow, from, until)| self.flows.packets_between(flow, from.max(earliest), until));
            self.flows.between_packets(settled, packets.flatten().copied()).max(earliest)
        };
        open.map(|call| (call.number, settled_of(call))).filter(|(_, of_call)| *of_call < settled).collect()
    }

    /// Gives the packets of a flow that are settled to those who own it.
    fn settle(&mut self, flow: FlowNumber, settled: &impl Fn(CallNumber) -> Moment) {
        let mut owners = self.flows.replace_owners(flow, Owners::new());
        for owner in &mut owners {
            let until = settled(owner.call);
            if owner.from < until {
                self.claim(owner.call, Claim { flow, from: owner.from, until });
                owner.from = until;
            }
        }
        self.flows.replace_owners(flow, owners);
    }

    /// Forgets the flows of which nothing is left that came since `left_since`, and the calls that ended. What came
    /// before `settled` will not be asked for any more by what is still to come.
    pub fn retire_window(&mut self, settled: Moment, left_since: Moment) {
        self.flows.forget_before(left_since);
        self.calls.retain(|_, call| call.end.is_none());
        self.endpoints.forget_before(settled.clock);
        self.strays.forget_before(settled.clock);
    }

    fn is_succeeded_by(&self, number: CallNumber, event: &SipEvent<'_>) -> bool {
        self.calls.get(&number).is_some_and(|call| call.dialog.is_succeeded_by(&event.message))
    }

    fn stray(&mut self, event: &SipEvent<'_>) {
        self.stray_messages = self.stray_messages.saturating_add(1);
        self.strays.forget_before(event.at.clock.saturating_sub(self.rules.lookback_ns));
        self.strays.add(event.message.call_id, event.at.clock, &event.frames);
    }

    fn open_call(&mut self, event: &SipEvent<'_>) {
        let number = CallNumber(self.opened);
        self.opened = self.opened.saturating_add(1);
        self.strays.forget_before(event.at.clock.saturating_sub(self.rules.lookback_ns));
        let (strays, frames) = self.strays.take(event.message.call_id);
        self.stray_messages = self.stray_messages.saturating_sub(strays);
        let call = Call::open(number, event, frames);
        self.by_call_id.insert(call.call_id.clone(), number);
        self.calls.insert(number, call);
        self.deliver(number, event);
    }

    fn deliver(&mut self, number: CallNumber, event: &SipEvent<'_>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.add_frames(&event.frames);
        call.last_told = call.last_told.max(event.frames.last().map(|frame| frame.position).zip(event.told_ns));
        call.last_sip = event.at;
        call.dialog.take(&event.message);
        let is_over_now = call.dialog.over().is_some() && call.over_since.is_none();
        call.over_since = call.dialog.over().and(call.over_since.or(Some(event.at)));
        if is_over_now {
            call.held.iter().for_each(|endpoint| self.endpoints.note_straggler(*endpoint));
        }
        if let Some(deadline) = call.deadline(&self.rules, call.last_sip.clock) {
            self.arm(number, deadline);
        }
        if event.message.can_negotiate() {
            let media = event.descriptions.iter().flat_map(|description| &description.media);
            media.for_each(|media| self.learn(number, media, event));
        }
    }

    /// Takes in a media description of a call.
    fn learn(&mut self, number: CallNumber, media: &Media, event: &SipEvent<'_>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let media = call.seen_from_outside(media, event);
        if !call.knows(&media) {
            call.media.push((event.at.clock, media.as_ref().clone()));
        }
        for &(endpoint, rank) in &media.endpoints {
            self.give(number, endpoint, rank, event.at);
        }
    }

    /// A call gives an endpoint: what comes to it or from it belongs to the call from now on, and what
    /// came shortly before, while nobody held it, too.
    fn give(&mut self, number: CallNumber, endpoint: Endpoint, rank: Rank, at: Moment) {
        let Some(call) = self.calls.get(&number) else { return };
        let is_held = call.held.contains(&endpoint);
        // A description repeated after the BYE takes nothing from a call that came after.
        if call.dialog.over() == Some(State::Completed) && (is_held || !self.endpoints.held_by(endpoint).is_empty()) {
            return;
        }
        if !is_held && call.held.len() >= MAX_ENDPOINTS {
            self.excess_endpoints = self.excess_endpoints.saturating_add(1);
            return;
        }
        let (opened, back_to) = (call.opened, call.looks_back_to(at, &self.rules));
        if rank > Rank::Translated {
            self.take_from_stragglers(endpoint, opened, at);
        }
        let given = self.endpoints.give(endpoint, number, rank, at, back_to);
        if let Given::New(free) = &given {
            if let Some(call) = self.calls.get_mut(&number) {
                call.held.push(endpoint);
            }
            self.look_back(endpoint, number, rank, free);
        }
        if given != Given::Unchanged {
            self.transfer_flows_touching(endpoint, at);
        }
    }

    /// What came from or to an endpoint while nobody held it belongs to the call that gives it now. A guess takes only
    /// what was nobody's, at its other end either.
    fn look_back(&mut self, endpoint: Endpoint, number: CallNumber, rank: Rank, free: &[(Moment, Moment)]) {
        for flow in self.flows.touching(endpoint) {
            if rank > Rank::Translated {
                free.iter().for_each(|(from, until)| self.claim(number, Claim { flow, from: *from, until: *until }));
            } else if self.flows.owners(flow).is_empty()
                && let Some(key) = self.flows.key(flow)
            {
                let other = if key.source == endpoint { key.destination } else { key.source };
                let free = free.iter().flat_map(|(from, until)| self.endpoints.free_between(other, *from, *until));
                let free: SmallVec<[(Moment, Moment); 1]> = free.collect();
                free.into_iter().for_each(|(from, until)| self.claim(number, Claim { flow, from, until }));
            }
        }
    }

    /// A call that opened when another was over, and gives an endpoint of that one, uses it anew: the
    /// two are not legs of one conversation, and the one that is over gets no more of what flows there.
    fn take_from_stragglers(&mut self, endpoint: Endpoint, opened: Moment, at: Moment) {
        let is_straggler =
            |number: &CallNumber| self.calls.get(number).is_some_and(|call| call.over_since.is_some_and(|over| over < opened));
        let stragglers: Vec<CallNumber> = self.endpoints.possible_stragglers(endpoint).into_iter().filter(is_straggler).collect();
        for number in stragglers {
            self.endpoints.release(endpoint, number, at);
            if let Some(call) = self.calls.get_mut(&number) {
                call.held.retain(|held| *held != endpoint);
            }
            self.transfer_flows_touching(endpoint, at);
        }
    }

    fn transfer_flows_touching(&mut self, endpoint: Endpoint, at: Moment) {
        for flow in self.flows.touching(endpoint) {
            self.transfer(flow, at);
        }
    }

    /// Finds out whose a flow is from now on.
    fn transfer(&mut self, flow: FlowNumber, at: Moment) {
        let Some(key) = self.flows.key(flow) else { return };
        let after = self.endpoints.owners(key.source, key.destination);
        let mut owners = Owners::new();
        for owner in self.flows.replace_owners(flow, Owners::new()) {
            if after.binary_search(&owner.call).is_ok() {
                owners.push(owner);
            } else {
                self.claim(owner.call, Claim { flow, from: owner.from, until: at });
            }
        }
        // Both are sorted by call: of a load test's endpoints there are thousands of owners.
        let known = owners.len();
        for call in after {
            if owners.get(..known).is_none_or(|known| known.binary_search_by_key(&call, |owner| owner.call).is_err()) {
                owners.push(Owner { call, from: at });
            }
        }
        owners.sort_unstable_by_key(|owner| owner.call);
        self.flows.replace_owners(flow, owners);
    }

    /// A stretch of a flow is a call's. One without a packet need not be kept: an endpoint with thousands of peers that
    /// goes from call to call would leave thousands of them with each.
    fn claim(&mut self, number: CallNumber, claim: Claim) {
        if let Some(last) = self.flows.last_packet_between(claim.flow, claim.from, claim.until)
            && let Some(call) = self.calls.get_mut(&number)
        {
            call.last_media = call.last_media.max(last.clock);
            call.claims.push(claim);
        }
    }

    /// Sets the timer of a call, unless one fires before: that one will set it again.
    fn arm(&mut self, number: CallNumber, deadline: Clock) {
        let Some(call) = self.calls.get_mut(&number) else { return };
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
            if self.calls.get(&number).is_some_and(|call| call.end.is_none() && call.armed == Some(deadline)) {
                self.fire(number, deadline);
            }
        }
    }

    fn fire(&mut self, number: CallNumber, deadline: Clock) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.armed = None;
        let last_media = call.last_media_before(Moment::at(deadline), &self.flows);
        match call.deadline(&self.rules, call.last_sip.clock.max(last_media)) {
            Some(later) if later > deadline => self.arm(number, later),
            Some(_) => {
                let state = call.dialog.over().unwrap_or(State::Timeout);
                // Without linger, the time is over with the message that ended the call, not before it.
                let at = Moment::at(deadline).max(call.last_sip);
                self.close(number, at, state, deadline);
            }
            None => {}
        }
    }

    fn close(&mut self, number: CallNumber, at: Moment, state: State, closed_at: Clock) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.end = Some(End { closed_at, state, final_status: call.dialog.final_status() });
        self.by_call_id.remove(&call.call_id);
        self.strays.close(&call.call_id, at.clock);
        for endpoint in std::mem::take(&mut call.held) {
            self.endpoints.release(endpoint, number, at);
            self.transfer_flows_touching(endpoint, at);
        }
    }
}

impl Call {
    /// The call that an INVITE opens; frames with its Call-ID came shortly before.
    fn open(number: CallNumber, event: &SipEvent<'_>, frames: Vec<Moment>) -> Self {
        let message = &event.message;
        Self {
            number,
            call_id: message.call_id.into(),
            from: sip::unfolded(message.from).into(),
            to: sip::unfolded(message.to).into(),
            start_ns: event.timestamp_ns,
            media: Vec::new(),
            first_frame: event.frames.first().copied().unwrap_or(event.at),
            last_told: None,
            opened: event.at,
            dialog: Dialog::open(message),
            held: Vec::new(),
            reachable: SmallVec::new(),
            over_since: None,
            last_sip: event.at,
            last_media: 0,
            armed: None,
            end: None,
            announced: false,
            frames,
            claims: Vec::new(),
        }
    }

    /// Adds the frames of a message, each in its place: parts of it may have come before other messages.
    fn add_frames(&mut self, frames: &[Moment]) {
        for frame in frames {
            let place = self.frames.partition_point(|known| known < frame);
            if self.frames.get(place) != Some(frame) {
                self.frames.insert(place, *frame);
            }
        }
    }

    /// When the call closes if nothing comes after `last_activity` (media is none, once it is over).
    fn deadline(&self, rules: &Rules, last_activity: Clock) -> Option<Clock> {
        match self.dialog.over() {
            Some(_) => Some(self.last_sip.clock.saturating_add(rules.linger_ns)),
            None => rules.call_timeout_ns.map(|timeout| last_activity.saturating_add(timeout)),
        }
    }

    /// The flows that are the call's now, and since when each is.
    fn flows_owned(&self, flows: &FlowTable) -> impl Iterator<Item = (FlowNumber, Moment)> {
        let touching = self.held.iter().flat_map(|endpoint| flows.touching(*endpoint));
        touching.filter_map(|flow| Some((flow, flows.owned_since(flow, self.number)?)))
    }

    fn last_media_before(&self, moment: Moment, flows: &FlowTable) -> Clock {
        let last = |(flow, from)| flows.last_packet_between(flow, from, moment);
        self.flows_owned(flows).filter_map(last).fold(self.last_media, |media, packet| media.max(packet.clock))
    }

    /// A description as it looks from outside, where a translator of addresses stands between the one who sent it and
    /// the capture. One who was seen to send from an address that he also gives has none before him.
    fn seen_from_outside<'a>(&mut self, media: &'a Media, event: &SipEvent<'_>) -> Cow<'a, Media> {
        let is_own = |endpoint: Endpoint| endpoint.ip() == event.source.ip();
        let private = || media.endpoints.iter().map(|(endpoint, _)| *endpoint).filter(|endpoint| endpoint.is_private());
        if let Some(own) = private().find(|endpoint| is_own(*endpoint)) {
            if !self.reachable.contains(&own.ip()) && self.reachable.len() < MAX_ENDPOINTS {
                self.reachable.push(own.ip());
            }
            return Cow::Borrowed(media);
        }
        let is_behind = private().next().is_some_and(|endpoint| !self.reachable.contains(&endpoint.ip()));
        if is_behind && event.message.is_first_hand() { Cow::Owned(media.translated(event.source)) } else { Cow::Borrowed(media) }
    }

    /// What was repeated need not be kept twice.
    fn knows(&self, media: &Media) -> bool {
        let Some(first) = media.endpoints.first() else { return true };
        let same_place = |known: &&(Clock, Media)| known.1.endpoints.contains(first);
        self.media.iter().rev().find(same_place).is_some_and(|(_, known)| known == media) || self.media.len() >= MAX_ENDPOINTS
    }

    /// Media of a call that opens now cannot have come before; that of one that was under way can.
    fn looks_back_to(&self, at: Moment, rules: &Rules) -> Moment {
        let earliest = Moment::at(at.clock.saturating_sub(rules.lookback_ns));
        if self.dialog.is_mid_dialog() { earliest } else { earliest.max(self.first_frame) }
    }

    fn work(&mut self, settled: Moment, flows: &FlowTable) -> Option<Work> {
        let settled = if self.end.is_some() { Moment::NEVER } else { settled };
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

    /// Splits the claims at a moment: what comes before is given away, what comes after is kept.
    fn take_claims(&mut self, settled: Moment, flows: &FlowTable) -> Vec<Claim> {
        let is_settled = |claim: &Claim| claim.until <= settled;
        if self.claims.iter().all(is_settled) {
            return std::mem::take(&mut self.claims);
        }
        let has_packets = |claim: &Claim| flows.last_packet_between(claim.flow, claim.from, claim.until).is_some();
        let before = |claim: &Claim| Claim { until: claim.until.min(settled), ..*claim };
        let taken = self.claims.iter().map(before).filter(has_packets).collect();
        self.claims.iter_mut().for_each(|claim| claim.from = claim.from.max(settled));
        // A flow of which nothing is kept leaves its number to another one.
        self.claims.retain(|claim| claim.from < claim.until && has_packets(claim));
        taken
    }
}
