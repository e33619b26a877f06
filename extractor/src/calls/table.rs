//! The table of open calls.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    CallNumber, Descriptions, Dialogs, Endpoints, FlowNumber, FlowTable, Owners, State, Strays,
    Unclaimed, descriptions::Exchange, floods::Floods, flows::Left, guesses::Addresses,
};
use crate::{
    counts::Excess,
    events::{Flows, Repetition, SipEvent, Table, stable_hash},
    moment::{Clock, Moment, Position},
    packet::{Endpoint, Network},
    reassembly::MAX_HOLD_NS,
    sdp::Media,
    sip::{self, Message, Method, StartLine},
};

mod ownership;

use ownership::{Before, Change, ChangedBy};

/// A call that gives more endpoints than this is not believed: the rest are not matched with media.
const MAX_ENDPOINTS: usize = 1024;
/// A call's signalling comes through no more networks than this; those of handsets that move may be
/// many.
const MAX_NETWORKS: usize = 16;
/// How long a caller may take to answer a challenge (401, 407), in nanoseconds: people type
/// passwords.
const CREDENTIALS_NS: u64 = 60_000_000_000;

/// The timers, in nanoseconds of packet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How long stragglers are waited for after a call is over.
    pub linger_ns: u64,
    /// How long a call may be silent; for ever if none.
    pub call_timeout_ns: Option<u64>,
    /// How far before its description media is taken.
    pub lookback_ns: u64,
    /// How many calls may be open at once; beyond that, those that nobody answers are given up.
    pub max_open_calls: u64,
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
    /// The words of its descriptions.
    pub descriptions: Descriptions,
    /// Where that frame is.
    pub first_frame: Moment,
    /// The last frame that ends a message told of by HEP over TCP, and the time that was told.
    pub last_told: Option<(Position, u64)>,
    /// When that INVITE was whole.
    opened: Moment,
    /// Where that INVITE came from.
    source: Endpoint,
    dialogs: Dialogs,
    held: Vec<Endpoint>,
    /// Those of them that it guessed at first.
    guessed: SmallVec<[Endpoint; 2]>,
    addresses: Addresses,
    /// The networks through which its signalling came.
    networks: SmallVec<[Network; 1]>,
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
    floods: Floods,
    opened: u64,
    /// The network through which signalling came first, and whether it came through others, too.
    networks: (Option<Network>, bool),
    /// A call has guessed an endpoint: as long as none has, nothing needs to be asked.
    has_guesses: bool,
    // Counted for each process anew.
    #[serde(skip)]
    stray_messages: u64,
    #[serde(skip)]
    excess: Excess,
    #[serde(skip)]
    unclaimed: Unclaimed,
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
            floods: Floods::default(),
            opened: 0,
            networks: (None, false),
            has_guesses: false,
            stray_messages: 0,
            excess: Excess::default(),
            unclaimed: Unclaimed::default(),
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

    /// How much was beyond the most.
    #[must_use]
    pub fn excess(&self) -> Excess {
        self.excess
    }

    /// The addresses that most calls came from of those that were given up as a flood, and how many
    /// came from each.
    #[must_use]
    pub fn flood_sources(&self, most: usize) -> Vec<(Endpoint, u64)> {
        self.floods.largest_sources(most)
    }

    /// The media that no call has had so far, of windows that are forgotten.
    #[must_use]
    pub fn unclaimed(&self) -> &Unclaimed {
        &self.unclaimed
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
        self.calls
            .values()
            .flat_map(|call| &call.frames)
            .for_each(|frame| visit(frame.position));
        self.flows.for_each_frame(visit);
        self.strays.for_each_frame(visit);
    }

    /// Begins a window, from `start` up to `end`, with the flows that were found in it.
    pub fn begin_window(&mut self, found: Vec<Flows>, start: Moment, end: Moment) {
        for flow in self.flows.add_window(found, start, end) {
            self.introduce(flow, start);
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
            None if event.message.start == StartLine::Request(Method::Invite) => {
                self.open_call(event);
            }
            None => self.stray(event),
        }
    }

    /// Ends the window at `end`: all that came before has been handled.
    pub fn end_window(&mut self, end: Moment) {
        self.expire(end.clock);
        self.tell_all(end);
    }

    /// The end of the input, at `end`: closes what is open.
    pub fn finish(&mut self, end: Moment) {
        let open: Vec<(CallNumber, State)> = self
            .calls
            .values()
            .filter(|call| call.end.is_none())
            .map(|call| {
                (
                    call.number,
                    call.dialogs.over().unwrap_or(State::Incomplete),
                )
            })
            .collect();
        for (number, state) in open {
            self.close(number, end, state, Clock::MAX);
        }
        self.tell_all(end);
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
        let work = self
            .calls
            .values_mut()
            .filter_map(|call| call.work(settled(call.number), flows))
            .collect();
        (work, left_since)
    }

    /// The open calls of which less is settled than of others: no packet that came in fragments is
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

    /// Gives the packets of a flow that are settled to those who own it.
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

    /// Forgets the flows of which nothing is left that came since `left_since`, and the calls that
    /// ended. What came before `settled` will not be asked for any more by what is still to come.
    /// Flows that no call has had are counted, if what is left of them `is_rtp`.
    pub fn retire_window(
        &mut self,
        settled: Moment,
        left_since: Moment,
        is_rtp: impl Fn(&Left<'_>) -> bool,
    ) {
        let unclaimed = &mut self.unclaimed;
        self.flows.forget_before(left_since, |left| {
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

    /// Opens a call. Its messages that came ahead of the INVITE count as if they had come right
    /// after it.
    fn open_call(&mut self, event: &SipEvent<'_>) {
        let number = CallNumber(self.opened);
        self.opened = self.opened.saturating_add(1);
        self.strays
            .forget_before(event.at.clock.saturating_sub(self.rules.lookback_ns));
        let strays = self.strays.take(event.message.call_id);
        self.stray_messages = self.stray_messages.saturating_sub(strays.len() as u64);
        let call = Call::open(number, event);
        self.by_call_id.insert(call.call_id.clone(), number);
        self.calls.insert(number, call);
        self.floods.open(number);
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

    /// Closes the least promising calls where more are open than may be.
    fn give_up_beyond_most(&mut self, at: Moment) {
        while self.by_call_id.len() as u64 > self.rules.max_open_calls
            && let Some(number) = self.floods.least_promising()
        {
            if let Some(call) = self.calls.get(&number) {
                self.floods.count(call.source);
            }
            self.close(number, at, State::Flood, at.clock);
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
        call.last_sip = event.at;
        if !matches!(
            event.message.start,
            StartLine::Request(Method::Invite) | StartLine::Status(..=100)
        ) {
            self.floods.forget(number);
        }
        let excess = call.dialogs.excess();
        call.dialogs.handle(&event.message);
        self.excess.dialogs = self
            .excess
            .dialogs
            .saturating_add(call.dialogs.excess().saturating_sub(excess));
        let over = call.dialogs.over();
        let is_over_now = over.is_some() && call.over_since.is_none();
        call.over_since = over.and(call.over_since.or(Some(event.at)));
        if is_over_now {
            call.held
                .iter()
                .for_each(|endpoint| self.endpoints.note_over(*endpoint, number, event.at));
        }
        if let Some(deadline) = call.deadline(&self.rules, call.last_sip.clock) {
            self.arm(number, deadline);
        }
        if event.message.can_negotiate() {
            event
                .descriptions
                .iter()
                .for_each(|description| self.learn(number, &description.media, event));
        }
    }

    /// Signalling came through a network: it is a reason to prefer the call for media that came
    /// through it.
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
        let before: Vec<Before> = held.iter().map(prepare).collect();
        if let Some(call) = self.calls.get_mut(&number) {
            call.networks.push(event.network);
        }
        for (endpoint, before) in held.iter().zip(before) {
            self.note_change(*endpoint, &before, Change::Given, event.at);
        }
    }

    /// Takes in a description of a call.
    fn learn(&mut self, number: CallNumber, media: &[Media], event: &SipEvent<'_>) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
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
        let endpoints: Vec<_> = media
            .iter()
            .flat_map(|media| &media.endpoints)
            .copied()
            .collect();
        self.give_all(number, &endpoints, event.at);
    }

    /// Sets the timer of a call, unless one fires before: that one will set it again.
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
                let state = call.dialogs.over().unwrap_or(State::Timeout);
                // Without linger, the time is over with the message that ended the call, not before
                // it.
                let at = Moment::at(deadline).max(call.last_sip);
                self.close(number, at, state, deadline);
            }
            None => {}
        }
    }

    fn close(&mut self, number: CallNumber, at: Moment, state: State, closed_at: Clock) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.end = Some(End {
            closed_at,
            state,
            final_status: call.dialogs.final_status(),
        });
        self.by_call_id.remove(&call.call_id);
        self.floods.forget(number);
        self.strays.close(&call.call_id, at.clock);
        let held = std::mem::take(&mut call.held);
        self.release_all(number, &held, at);
    }
}

impl Call {
    /// The call that an INVITE opens.
    fn open(number: CallNumber, event: &SipEvent<'_>) -> Self {
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
            opened: event.at,
            source: event.source,
            dialogs: Dialogs::open(message),
            held: Vec::new(),
            guessed: SmallVec::new(),
            addresses: Addresses::default(),
            networks: SmallVec::new(),
            over_since: None,
            last_sip: event.at,
            last_media: 0,
            armed: None,
            end: None,
            announced: false,
            frames: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// Adds the frames of a message, each in its place: parts of it may have come before other
    /// messages.
    fn add_frames(&mut self, frames: &[Moment]) {
        for frame in frames {
            let place = self.frames.partition_point(|known| known < frame);
            if self.frames.get(place) != Some(frame) {
                self.frames.insert(place, *frame);
            }
        }
    }

    /// When the call closes if nothing comes after `last_activity` (media is none, once it is
    /// over).
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

    /// The flows that are the call's now, and since when each is.
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

    /// Media of a call that opens now cannot have come before; that of one that was under way can.
    fn looks_back_to(&self, at: Moment, rules: &Rules) -> Moment {
        let earliest = Moment::at(at.clock.saturating_sub(rules.lookback_ns));
        if self.dialogs.is_mid_dialog() {
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

    /// Splits the claims at a moment: what comes before is given away, what comes after is kept.
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
        // A flow of which nothing is kept leaves its number to another one.
        self.claims
            .retain(|claim| claim.from < claim.until && has_packets(claim));
        taken
    }
}

/// An offer and its answers stand in messages with the same CSeq and From tag: a request, its
/// responses, its ACK.
fn exchange_of(message: &Message<'_>) -> Exchange {
    let cseq = message.cseq.map(|cseq| cseq.number).unwrap_or_default();
    let from = sip::tag(message.from).unwrap_or_default();
    let number = stable_hash(cseq) ^ stable_hash(from).rotate_left(32);
    Exchange {
        number,
        is_response: matches!(message.start, StartLine::Status(_)),
    }
}
