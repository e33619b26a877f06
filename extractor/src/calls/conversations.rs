//! Conversations: the calls that are legs of one call, because a back-to-back user agent gives each
//! leg its own Call-ID (docs/calls.md).
//!
//! Each leg *holds* values: its Call-ID, and what its messages say (`values`). Legs that hold the
//! same value are linked, and linked legs are one conversation. It is named after its earliest leg.
//! A row has the links that are known when its call closes, so it depends on packet time only. A
//! closed call can be linked for [`REMEMBER_NS`].

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::{CallNumber, descriptions::Exchange};
use crate::{
    events::{SipEvent, Table, stable_hash},
    moment::Clock,
    packet::Endpoint,
    sdp::Media,
    sip,
};

mod groups;
mod known;
mod values;

pub use groups::LegGroup;

use groups::Groups;
use known::{Entry, KnownValues};
use values::{Value, parts, values};

/// The time after its end in which a call can be linked, in nanoseconds.
const REMEMBER_NS: u64 = 600_000_000_000;
/// The most ended calls that can be linked: the earliest one is forgotten.
const MAX_ENDED: usize = 16_384;
/// The most calls that a value links. One that more calls have is a constant, and links none.
const MAX_HOLDERS: usize = 32;
/// The most values of a call; more are left out.
const MAX_VALUES: usize = 16;
/// The most constants that are known as such; the earliest one is forgotten.
const MAX_CONSTANTS: usize = 1024;
/// The most legs of a conversation that are looked at.
const MAX_LEGS: usize = 64;
/// The most links of a call that its row has.
const MAX_LINKS: usize = 64;
/// The most descriptions of a call that wait for their answers, and the most media of each.
const MAX_HALVES: usize = 8;
const MAX_MEDIA: usize = 4;
/// The most calls whose numbers are compared with those of a new one.
const MAX_RECENT: usize = 4096;

/// The links that the user adds to those that are always looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRules {
    /// Names of header fields whose value legs share, in lower case.
    pub headers: Vec<Box<str>>,
    /// The time between two INVITEs with the same numbers that makes a link, in nanoseconds.
    pub numbers_ns: Option<u64>,
}

/// Why two calls are linked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinkReason {
    /// Session-ID (RFC 7989, RFC 7329).
    SessionId,
    /// The icid-value of P-Charging-Vector (RFC 7315, 4.6).
    ChargingVector,
    /// A header field with this name, in lower case.
    Header(Box<str>),
    /// One Call-ID begins or ends with the other.
    CallIdPart,
    /// Replaces in an INVITE (RFC 3891).
    Replaces,
    /// Replaces within Refer-To (RFC 3515, RFC 3891).
    ReferTo,
    /// The `cid` of Referred-By (RFC 3892).
    ReferredBy,
    /// Target-Dialog (RFC 4538).
    TargetDialog,
    /// Offer and answer have the same two endpoints.
    Media,
    /// The numbers are the same, and one call comes from where the other goes.
    Numbers,
}

impl std::fmt::Display for LinkReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SessionId => "session-id",
            Self::ChargingVector => "icid",
            Self::Header(name) => name,
            Self::CallIdPart => "call-id-part",
            Self::Replaces => "replaces",
            Self::ReferTo => "refer-to",
            Self::ReferredBy => "referred-by",
            Self::TargetDialog => "target-dialog",
            Self::Media => "media",
            Self::Numbers => "numbers",
        })
    }
}

/// The conversation of a call, as it is known when the call closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its earliest leg.
    pub first: NamedLeg,
    /// The other legs that the call is linked with, by the order in which they opened.
    pub links: Vec<Link>,
}

/// A leg of a conversation; the first one names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedLeg {
    /// Its number.
    pub number: CallNumber,
    /// Its Call-ID.
    pub call_id: Arc<[u8]>,
    /// Its start, in nanoseconds since 1970.
    pub start_ns: u64,
}

/// A link to another leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The Call-ID of the other leg.
    pub call_id: Arc<[u8]>,
    /// The start of the other leg, in nanoseconds since 1970.
    pub start_ns: u64,
    /// The reason.
    pub reason: LinkReason,
}

/// The legs that can be linked, and the values that they hold.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Conversations {
    rules: LinkRules,
    legs: Table<CallNumber, Leg>,
    /// Values by number, in the order in which they came.
    shared: Table<u64, Shared>,
    by_value: KnownValues,
    next: u64,
    /// The ended legs with the times of their ends, the earliest first.
    ended: VecDeque<(Clock, CallNumber)>,
    constants: VecDeque<Value>,
    recent: VecDeque<Recent>,
    /// The calls of each conversation, if its file is wanted.
    groups: Option<Groups>,
    #[serde(skip)]
    dropped: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Leg {
    call_id: Arc<[u8]>,
    start_ns: u64,
    /// The first leg of its conversation, if that is forgotten.
    first: Option<Box<NamedLeg>>,
    is_over: bool,
    holds: SmallVec<[u64; 2]>,
    halves: SmallVec<[Half; 2]>,
}

/// A value and the calls that hold it; no reason stands for a call's own Call-ID.
#[derive(Debug, Serialize, Deserialize)]
struct Shared {
    /// The value; two calls whose numbers fit have none.
    value: Option<Value>,
    holders: SmallVec<[(CallNumber, Option<LinkReason>); 2]>,
}

/// The endpoints of a description, which wait for those of its offer or answer.
#[derive(Debug, Serialize, Deserialize)]
struct Half {
    exchange: u64,
    is_response: bool,
    endpoints: SmallVec<[Option<Endpoint>; 1]>,
}

/// A call that opened lately, and its numbers, hashed.
#[derive(Debug, Serialize, Deserialize)]
struct Recent {
    clock: Clock,
    call: CallNumber,
    numbers: u64,
    destination: Endpoint,
}

impl Conversations {
    /// None, with these rules.
    pub(super) fn new(rules: LinkRules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// The same, which groups the legs of each conversation if `groups`.
    pub(super) fn with_groups(self, groups: bool) -> Self {
        Self {
            groups: groups.then(Groups::default),
            ..self
        }
    }

    /// Takes the conversations that no call can join any more, if they are grouped.
    pub(super) fn take_complete(&mut self) -> Vec<LegGroup> {
        self.groups.as_mut().map(Groups::take).unwrap_or_default()
    }

    /// Returns true if a call can still join the group of a call with one of these Call-IDs.
    pub(super) fn has_incomplete(&self, call_ids: &BTreeSet<Box<[u8]>>) -> bool {
        let groups = self.groups.as_ref();
        groups.is_some_and(|groups| groups.has_any_of(call_ids))
    }

    /// Completes all conversations: the input has ended.
    pub(super) fn finish(&mut self) {
        if let Some(groups) = &mut self.groups {
            groups.finish();
        }
    }

    /// The number of values that turned out to be constants.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds the call that an INVITE opens.
    pub(super) fn open(&mut self, call: CallNumber, event: &SipEvent<'_>) {
        self.forget_before(event.at.clock);
        let call_id: Arc<[u8]> = event.message.call_id.into();
        let leg = Leg {
            call_id: call_id.clone(),
            start_ns: event.timestamp_ns,
            first: None,
            is_over: false,
            holds: SmallVec::new(),
            halves: SmallVec::new(),
        };
        self.legs.insert(call, leg);
        let own = Value::CallId(call_id);
        match self.by_value.get(&own) {
            // A Call-ID that comes again is another call.
            Some(Entry::Shared(held)) if self.has_owner(held) => self.begin(call, own, None),
            known => self.hold_known(call, own, known, None),
        }
        for part in parts(event.message.call_id) {
            if let Some(Entry::Shared(held)) = self.by_value.get_part(part)
                && self.has_owner(held)
            {
                self.join(call, held, Some(LinkReason::CallIdPart));
            }
        }
        if let Some(within_ns) = self.rules.numbers_ns {
            self.compare_numbers(call, event, within_ns);
        }
    }

    /// Learns what a message of a call says about other calls.
    pub(super) fn learn(&mut self, call: CallNumber, event: &SipEvent<'_>) {
        if !event.message.may_name_calls() && self.rules.headers.is_empty() {
            return;
        }
        for (value, reason) in values(&event.message, &self.rules.headers) {
            self.hold(call, value, Some(reason));
        }
    }

    /// Learns the media of a description.
    pub(super) fn describe(&mut self, call: CallNumber, exchange: Exchange, media: &[Media]) {
        let Some(leg) = self.legs.get_mut(&call) else {
            return;
        };
        let endpoints: SmallVec<[Option<Endpoint>; 1]> =
            media.iter().take(MAX_MEDIA).map(rtp_endpoint).collect();
        let other = leg.halves.iter().find(|half| {
            half.exchange == exchange.number && half.is_response != exchange.is_response
        });
        let pairs: SmallVec<[(Endpoint, Endpoint); 1]> = other
            .into_iter()
            .flat_map(|other| endpoints.iter().zip(&other.endpoints))
            .filter_map(|(mine, theirs)| Some(((*mine)?, (*theirs)?)))
            .filter(|(mine, theirs)| mine != theirs)
            .collect();
        leg.halves.retain(|half| {
            half.exchange != exchange.number || half.is_response != exchange.is_response
        });
        if leg.halves.len() >= MAX_HALVES {
            leg.halves.remove(0);
        }
        leg.halves.push(Half {
            exchange: exchange.number,
            is_response: exchange.is_response,
            endpoints,
        });
        for (mine, theirs) in pairs {
            self.hold_media(call, Value::Media(mine.min(theirs), mine.max(theirs)));
        }
    }

    /// Notes whether a call is over: ports are used again then.
    pub(super) fn note_over(&mut self, call: CallNumber, is_over: bool) {
        if let Some(leg) = self.legs.get_mut(&call) {
            leg.is_over = is_over;
        }
    }

    /// The conversation of a call that closes now.
    pub(super) fn close(&mut self, call: CallNumber, now: Clock) -> Option<Box<Conversation>> {
        self.forget_before(now);
        let (first, links) = if self.is_alone(call) {
            (self.first_alone(call)?, Vec::new())
        } else {
            let legs = self.reach(call);
            self.group(&legs);
            (self.first_of(&legs)?, self.links(call))
        };
        let leg = self.legs.get_mut(&call)?;
        leg.is_over = true;
        leg.halves = SmallVec::new();
        let shared = &mut self.shared;
        let by_value = &mut self.by_value;
        // Nobody can share its media path any more.
        leg.holds.retain(|held| {
            let is_of_no_use = shared.get(held).is_some_and(|shared| {
                matches!(shared.value, Some(Value::Media(..))) && shared.holders.len() == 1
            });
            if is_of_no_use {
                remove(shared, by_value, *held);
            }
            !is_of_no_use
        });
        self.ended.push_back((now, call));
        Some(Box::new(Conversation { first, links }))
    }

    /// Returns true if no other call is linked with a call. Nearly all calls are alone.
    fn is_alone(&self, call: CallNumber) -> bool {
        self.groups.is_none() && self.held_by(call).all(|shared| shared.holders.len() == 1)
    }

    /// The leg that names the conversation of a call that is alone.
    fn first_alone(&self, call: CallNumber) -> Option<NamedLeg> {
        let leg = self.legs.get(&call)?;
        let inherited = leg.first.as_deref();
        let first = inherited.filter(|first| first.number < call);
        Some(first.cloned().unwrap_or_else(|| leg.named(call)))
    }

    fn links(&self, call: CallNumber) -> Vec<Link> {
        let mut found = BTreeSet::new();
        for shared in self.held_by(call) {
            let mine = shared.holders.iter().find(|(holder, _)| *holder == call);
            let mine = mine.and_then(|(_, reason)| reason.as_ref());
            let others = shared.holders.iter().filter(|(holder, _)| *holder != call);
            found.extend(
                others.filter_map(|(other, theirs)| Some((*other, mine.or(theirs.as_ref())?))),
            );
        }
        let link = |(other, reason): (CallNumber, &LinkReason)| {
            let leg = self.legs.get(&other)?;
            Some(Link {
                call_id: leg.call_id.clone(),
                start_ns: leg.start_ns,
                reason: reason.clone(),
            })
        };
        found.into_iter().filter_map(link).take(MAX_LINKS).collect()
    }

    fn held_by(&self, call: CallNumber) -> impl Iterator<Item = &Shared> {
        let holds = self.legs.get(&call).map(|leg| leg.holds.as_slice());
        holds
            .unwrap_or_default()
            .iter()
            .filter_map(|held| self.shared.get(held))
    }

    /// The legs of a call's conversation that are known now, itself included.
    fn reach(&self, call: CallNumber) -> BTreeSet<CallNumber> {
        let mut found = BTreeSet::from([call]);
        let mut left = vec![call];
        // Each value is looked at once: legs may share many.
        let mut looked_at = BTreeSet::new();
        while let Some(next) = left.pop() {
            let holds = self.legs.get(&next).map(|leg| leg.holds.as_slice());
            for held in holds.unwrap_or_default() {
                let new = looked_at.insert(*held).then(|| self.shared.get(held));
                let holders = new.flatten().map(|shared| &shared.holders);
                for (other, _) in holders.into_iter().flatten() {
                    if found.len() < MAX_LEGS && found.insert(*other) {
                        left.push(*other);
                    }
                }
            }
        }
        found
    }

    /// Groups legs that are linked now, if conversations have files.
    #[inline]
    fn group(&mut self, legs: &BTreeSet<CallNumber>) {
        if self.groups.is_some() {
            self.unite(legs);
        }
    }

    #[cold]
    fn unite(&mut self, legs: &BTreeSet<CallNumber>) {
        let named = |number: &CallNumber| Some(self.legs.get(number)?.named(*number));
        let named = legs.iter().filter_map(named).collect();
        if let Some(groups) = &mut self.groups {
            groups.unite(named);
        }
    }

    fn first_of(&self, legs: &BTreeSet<CallNumber>) -> Option<NamedLeg> {
        let known = legs
            .iter()
            .filter_map(|number| Some((number, self.legs.get(number)?)));
        let own = |(number, leg): (&CallNumber, &Leg)| leg.named(*number);
        let inherited = known
            .clone()
            .filter_map(|(_, leg)| leg.first.as_deref())
            .min();
        let earliest = known.map(own).next();
        inherited.cloned().into_iter().chain(earliest).min()
    }

    /// Returns true if a value is the Call-ID of a call that holds it.
    fn has_owner(&self, held: u64) -> bool {
        let shared = self.shared.get(&held);
        shared.is_some_and(|shared| shared.holders.iter().any(|(_, reason)| reason.is_none()))
    }

    /// Lets a call hold a value.
    fn hold(&mut self, call: CallNumber, value: Value, reason: Option<LinkReason>) {
        let known = self.by_value.get(&value);
        self.hold_known(call, value, known, reason);
    }

    /// Lets a call hold a value that has this entry.
    fn hold_known(
        &mut self,
        call: CallNumber,
        value: Value,
        known: Option<Entry>,
        reason: Option<LinkReason>,
    ) {
        match known {
            Some(Entry::Constant) => {}
            Some(Entry::Shared(held)) => self.join(call, held, reason),
            None => self.begin(call, value, reason),
        }
    }

    /// The same for a media path. Its ports are used again when all of its calls are over.
    fn hold_media(&mut self, call: CallNumber, path: Value) {
        let mut known = self.by_value.get(&path);
        if let Some(Entry::Shared(held)) = known {
            let holders = self.shared.get(&held).map(|shared| &shared.holders);
            let is_used = holders.into_iter().flatten().any(|(holder, _)| {
                *holder == call || self.legs.get(holder).is_some_and(|leg| !leg.is_over)
            });
            known = known.filter(|_| is_used);
        }
        self.hold_known(call, path, known, Some(LinkReason::Media));
    }

    /// Begins a value, which a call is the first to hold, in place of a former one.
    fn begin(&mut self, call: CallNumber, value: Value, reason: Option<LinkReason>) {
        let Some(leg) = self
            .legs
            .get_mut(&call)
            .filter(|leg| leg.holds.len() < MAX_VALUES)
        else {
            return;
        };
        let number = self.next;
        self.next = self.next.saturating_add(1);
        leg.holds.push(number);
        self.by_value.insert(value.clone(), Entry::Shared(number));
        let shared = Shared {
            value: Some(value),
            holders: smallvec![(call, reason)],
        };
        self.shared.insert(number, shared);
    }

    fn join(&mut self, call: CallNumber, held: u64, reason: Option<LinkReason>) {
        let (Some(shared), Some(leg)) = (self.shared.get_mut(&held), self.legs.get_mut(&call))
        else {
            return;
        };
        let is_holder = shared.holders.iter().any(|(holder, _)| *holder == call);
        if is_holder || leg.holds.len() >= MAX_VALUES {
            return;
        }
        if shared.holders.len() >= MAX_HOLDERS {
            self.drop_constant(held);
            return;
        }
        shared.holders.push((call, reason));
        leg.holds.push(held);
    }

    /// Drops a value that too many calls hold.
    fn drop_constant(&mut self, held: u64) {
        let Some(Shared { value, holders }) = self.shared.remove(&held) else {
            return;
        };
        for (holder, _) in holders {
            if let Some(leg) = self.legs.get_mut(&holder) {
                leg.holds.retain(|known| *known != held);
            }
        }
        self.dropped = self.dropped.saturating_add(1);
        let Some(value) = value else { return };
        self.by_value.insert(value.clone(), Entry::Constant);
        self.constants.push_back(value);
        if self.constants.len() > MAX_CONSTANTS
            && let Some(earliest) = self.constants.pop_front()
        {
            self.by_value.remove(earliest, Entry::Constant);
        }
    }

    /// Links a new call with the only one that has the same numbers, began shortly before, and goes
    /// to where the new one comes from.
    #[cold]
    fn compare_numbers(&mut self, call: CallNumber, event: &SipEvent<'_>, within_ns: u64) {
        let now = event.at.clock;
        let is_old = |recent: &Recent| recent.clock.saturating_add(within_ns) < now;
        while self.recent.front().is_some_and(is_old) || self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        let message = &event.message;
        let (Some(from), Some(to)) = (sip::number(message.from), sip::number(message.to)) else {
            return;
        };
        let numbers = stable_hash(&from) ^ stable_hash(&to).rotate_left(32);
        let fits = |recent: &&Recent| {
            recent.numbers == numbers
                && recent.destination.is_at(event.source)
                && self.legs.get(&recent.call).is_some_and(|leg| !leg.is_over)
        };
        let mut fitting = self.recent.iter().filter(fits).map(|recent| recent.call);
        if let (Some(other), None) = (fitting.next(), fitting.next()) {
            self.link_by_numbers([other, call]);
        }
        self.recent.push_back(Recent {
            clock: now,
            call,
            numbers,
            destination: event.destination,
        });
    }

    fn link_by_numbers(&mut self, calls: [CallNumber; 2]) {
        let is_full = |call: &CallNumber| {
            let leg = self.legs.get(call);
            leg.is_none_or(|leg| leg.holds.len() >= MAX_VALUES)
        };
        if calls.iter().any(is_full) {
            return;
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        for call in calls {
            if let Some(leg) = self.legs.get_mut(&call) {
                leg.holds.push(number);
            }
        }
        let holders = calls.map(|call| (call, Some(LinkReason::Numbers)));
        let shared = Shared {
            value: None,
            holders: SmallVec::from(holders),
        };
        self.shared.insert(number, shared);
    }

    /// Forgets the calls that ended long before.
    fn forget_before(&mut self, now: Clock) {
        while let Some((ended, call)) = self.ended.front().copied()
            && (ended.saturating_add(REMEMBER_NS) <= now || self.ended.len() > MAX_ENDED)
        {
            self.ended.pop_front();
            self.forget(call);
        }
    }

    /// Forgets a call. Its conversation keeps its name.
    fn forget(&mut self, call: CallNumber) {
        if !self.is_alone(call) {
            self.bequeath(call);
        }
        let Some(leg) = self.legs.remove(&call) else {
            return;
        };
        for held in leg.holds {
            let Some(shared) = self.shared.get_mut(&held) else {
                continue;
            };
            shared.holders.retain(|(holder, _)| *holder != call);
            if shared.holders.is_empty() {
                remove(&mut self.shared, &mut self.by_value, held);
            }
        }
    }

    /// Lets the other legs of a call's conversation keep its name, and its place in their group.
    fn bequeath(&mut self, call: CallNumber) {
        let mut legs = self.reach(call);
        self.group(&legs);
        if let Some(groups) = &mut self.groups {
            groups.forget(call);
        }
        let first = self.first_of(&legs).filter(|_| legs.len() > 1);
        legs.remove(&call);
        for number in legs {
            if let Some(leg) = self.legs.get_mut(&number) {
                leg.first = first.clone().map(Box::new);
            }
        }
    }
}

/// Removes a value that no call holds.
fn remove(shared: &mut Table<u64, Shared>, by_value: &mut KnownValues, held: u64) {
    let gone = shared.remove(&held);
    if let Some(value) = gone.and_then(|shared| shared.value) {
        by_value.remove(value, Entry::Shared(held));
    }
}

impl Leg {
    fn named(&self, number: CallNumber) -> NamedLeg {
        NamedLeg {
            number,
            call_id: self.call_id.clone(),
            start_ns: self.start_ns,
        }
    }
}

/// The endpoint at which RTP of a medium is expected.
fn rtp_endpoint(media: &Media) -> Option<Endpoint> {
    let (endpoint, _) = media.endpoints.first().filter(|_| !media.refused)?;
    (endpoint.port() != 0 && !endpoint.is_unspecified()).then_some(*endpoint)
}
