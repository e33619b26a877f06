//! SIP messages of no open call, which are remembered for a moment.
//!
//! Captures that merge several queues deliver a call's first answers before its INVITE, and some
//! clients register with the Call-ID of the call that they make next. Messages that come shortly
//! before the INVITE with their Call-ID belong to the call: their frames go into the file, and
//! messages of the INVITE transaction count as if they came just after it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    counts::Counts,
    events::{Frames, SipEvent, Table},
    index::negotiated,
    moment::{Clock, Moment, Position},
    packet::{Endpoint, Network},
    sip::{Message, Method, StartLine},
};

/// The most messages that are remembered, and the most bytes; the oldest go first.
const MAX_MESSAGES: usize = 16_384;
const MAX_BYTES: usize = 16 << 20;

/// Strays by Call-ID.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Strays {
    /// In capture order, numbered from `forgotten` on; those that were taken by a call leave a
    /// hole.
    messages: VecDeque<Option<Stray>>,
    forgotten: u64,
    /// The numbers of the messages with a Call-ID.
    by_call_id: Table<Box<[u8]>, VecDeque<u64>>,
    /// The bytes that the messages hold.
    bytes: usize,
    /// Calls that closed a moment ago, and when: messages that come now belong to them, not to the
    /// next call.
    closed: Table<Box<[u8]>, Clock>,
    closed_order: VecDeque<(Clock, Box<[u8]>)>,
}

/// A remembered message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stray {
    at: Clock,
    call_id: Box<[u8]>,
    frames: Frames,
    network: Network,
    source: Endpoint,
    destination: Endpoint,
    timestamp_ns: u64,
    told_ns: Option<u64>,
    /// The message itself, if it may concern a call.
    message: Box<[u8]>,
}

impl Strays {
    /// Notes that a call has closed.
    pub fn close(&mut self, call_id: &[u8], at: Clock) {
        self.closed.insert(call_id.into(), at);
        self.closed_order.push_back((at, call_id.into()));
    }

    /// Remembers a message, unless its call closed a moment ago. Returns the number of messages
    /// that are forgotten to make room.
    pub fn add(&mut self, event: &SipEvent<'_>) -> u64 {
        let call_id = event.message.call_id;
        if self.closed.contains_key(call_id) {
            return 0;
        }
        let stray = Stray::of(event);
        self.bytes = self.bytes.saturating_add(stray.weight());
        let number = self.forgotten.saturating_add(self.messages.len() as u64);
        self.by_call_id
            .entry(call_id.into())
            .or_default()
            .push_back(number);
        self.messages.push_back(Some(stray));
        let mut forgotten = 0u64;
        while self.messages.len() > MAX_MESSAGES || self.bytes > MAX_BYTES {
            forgotten = forgotten.saturating_add(u64::from(self.forget_oldest()));
        }
        forgotten
    }

    /// Removes and returns the messages of a call that opens, in capture order.
    pub fn take(&mut self, call_id: &[u8]) -> Vec<Stray> {
        let numbers = self.by_call_id.remove(call_id).unwrap_or_default();
        let taken: Vec<Stray> = numbers
            .iter()
            .filter_map(|number| self.slot(*number)?.take())
            .collect();
        self.bytes = taken.iter().fold(self.bytes, |bytes, stray| {
            bytes.saturating_sub(stray.weight())
        });
        taken
    }

    /// Calls `visit` for each frame of the messages.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        self.messages
            .iter()
            .flatten()
            .flat_map(|stray| &stray.frames)
            .for_each(|frame| visit(frame.position));
    }

    /// Forgets messages from before `clock`.
    pub fn forget_before(&mut self, clock: Clock) {
        while let Some((at, call_id)) = self.closed_order.pop_front_if(|(at, _)| *at < clock) {
            if self.closed.get(&call_id) == Some(&at) {
                self.closed.remove(&call_id);
            }
        }
        while self
            .messages
            .front()
            .is_some_and(|oldest| oldest.as_ref().is_none_or(|stray| stray.at < clock))
        {
            self.forget_oldest();
        }
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Stray>> {
        let place = number.checked_sub(self.forgotten)?;
        self.messages.get_mut(usize::try_from(place).ok()?)
    }

    /// Forgets the oldest entry. Returns true if it was a message.
    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.messages.pop_front() else {
            return false;
        };
        self.forgotten = self.forgotten.saturating_add(1);
        let Some(stray) = oldest else { return false };
        self.bytes = self.bytes.saturating_sub(stray.weight());
        if let Some(numbers) = self.by_call_id.get_mut(&stray.call_id) {
            // The number of this message: older ones are forgotten.
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_call_id.remove(&stray.call_id);
            }
        }
        true
    }
}

impl Stray {
    fn of(event: &SipEvent<'_>) -> Self {
        let SipEvent {
            at,
            frames,
            timestamp_ns,
            told_ns,
            network,
            source,
            destination,
            message,
            ..
        } = event;
        let kept = if may_speak_of_a_call(message) {
            message.raw
        } else {
            &[]
        };
        Self {
            at: at.clock,
            call_id: message.call_id.into(),
            frames: frames.clone(),
            network: *network,
            source: *source,
            destination: *destination,
            timestamp_ns: *timestamp_ns,
            told_ns: *told_ns,
            message: kept.into(),
        }
    }

    /// The frames of the message.
    #[must_use]
    pub fn frames(&self) -> &[Moment] {
        &self.frames
    }

    /// The message, as if it came at the moment `at`; `None` if it does not concern a call.
    #[must_use]
    pub fn as_of(&self, at: Moment) -> Option<SipEvent<'_>> {
        let message = Message::parse(&self.message)?.ok()?;
        // The counters counted them when the message came.
        let descriptions = negotiated(&message, &mut Counts::default());
        let Self {
            frames,
            timestamp_ns,
            told_ns,
            network,
            source,
            destination,
            ..
        } = self;
        Some(SipEvent {
            at,
            frames: frames.clone(),
            timestamp_ns: *timestamp_ns,
            told_ns: *told_ns,
            network: *network,
            source: *source,
            destination: *destination,
            message,
            descriptions,
        })
    }

    /// The approximate number of bytes that the message holds.
    fn weight(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.call_id.len())
            .saturating_add(self.message.len())
    }
}

/// False for registrations and the like.
fn may_speak_of_a_call(message: &Message<'_>) -> bool {
    let method = match message.start {
        StartLine::Request(method) => Some(method),
        StartLine::Status(_) => message.cseq.map(|cseq| cseq.method),
    };
    method.is_some_and(|method| method != Method::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(call_id: &str, method: &str) -> String {
        format!(
            "SIP/2.0 200 OK\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    fn event(text: &str, frames: &[Clock]) -> SipEvent<'static> {
        let message = Message::parse(text.to_owned().leak().as_bytes())
            .unwrap()
            .unwrap();
        let frames: Frames = frames.iter().copied().map(Moment::at).collect();
        let source = Endpoint::v4([192, 0, 2, 1], 5060);
        let (at, network) = (*frames.last().unwrap(), Network::PLAIN);
        SipEvent {
            at,
            frames,
            timestamp_ns: 7,
            told_ns: Some(8),
            network,
            source,
            destination: source,
            message,
            descriptions: Vec::new(),
        }
    }

    fn add(strays: &mut Strays, call_id: &str, at: Clock) {
        strays.add(&event(&message(call_id, "INVITE"), &[at]));
    }

    fn take(strays: &mut Strays, call_id: &str) -> Vec<Moment> {
        strays
            .take(call_id.as_bytes())
            .iter()
            .flat_map(|stray| stray.frames().to_vec())
            .collect()
    }

    #[test]
    fn of_a_call_that_just_closed_are_not_for_the_next() {
        let mut strays = Strays::default();
        strays.close(b"a", 10);
        add(&mut strays, "a", 11);
        assert!(take(&mut strays, "a").is_empty());
        strays.forget_before(11);
        add(&mut strays, "a", 12);
        assert_eq!(take(&mut strays, "a"), [Moment::at(12)]);
    }

    #[test]
    fn are_kept_for_a_while_and_given_once() {
        let mut strays = Strays::default();
        for (call_id, clock) in [("a", 10), ("b", 20), ("a", 30), ("c", 40)] {
            add(&mut strays, call_id, clock);
        }
        strays.forget_before(20);
        assert_eq!(take(&mut strays, "a"), [Moment::at(30)]);
        assert!(take(&mut strays, "a").is_empty());
        strays.forget_before(21);
        assert!(take(&mut strays, "b").is_empty());
        assert_eq!(take(&mut strays, "c"), [Moment::at(40)]);
        strays.forget_before(41);
        assert!(strays.messages.is_empty() && strays.by_call_id.is_empty() && strays.bytes == 0);
    }

    #[test]
    fn only_what_may_say_something_of_a_call_is_kept_whole() {
        let mut strays = Strays::default();
        strays.add(&event(&message("a", "INVITE"), &[5, 10]));
        strays.add(&event(&message("a", "REGISTER"), &[20]));
        let taken = strays.take(b"a");
        let heard = taken[0].as_of(Moment::at(30)).unwrap();
        assert_eq!(
            (heard.at, heard.frames.len(), heard.message.start),
            (Moment::at(30), 2, StartLine::Status(200))
        );
        assert_eq!((heard.timestamp_ns, heard.told_ns), (7, Some(8)));
        assert!(taken[1].as_of(Moment::at(30)).is_none());
    }

    #[test]
    fn a_flood_is_forgotten_from_its_beginning_and_costs_no_more_for_each() {
        let mut strays = Strays::default();
        let flood = event(&message("a", "OPTIONS"), &[5]);
        let forgotten: u64 = (0..MAX_MESSAGES + 100).map(|_| strays.add(&flood)).sum();
        assert_eq!((strays.messages.len(), forgotten), (MAX_MESSAGES, 100));
        let mut visited = 0;
        strays.for_each_frame(&mut |_| visited += 1);
        assert_eq!(visited, MAX_MESSAGES);
        let large = event(
            &format!("{}{}", message("b", "INVITE"), "x".repeat(60_000)),
            &[6],
        );
        for _ in 0..1_000 {
            strays.add(&large);
            assert!(strays.bytes <= MAX_BYTES);
        }
        assert!(strays.take(b"a").is_empty() && !strays.take(b"b").is_empty());
    }
}
