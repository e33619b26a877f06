//! The messages of all legs of a conversation, for one ladder.

use std::collections::BTreeMap;

use super::{MAX_MESSAGES, TracedMessage, repetition_of};
use crate::{
    calls::{CallNumber, LegGroup, NamedLeg},
    events::SipEvent,
};

/// The legs of a conversation, one of which is asked for.
#[derive(Debug)]
pub struct TracedConversation {
    /// Its legs, in the order in which they opened.
    pub legs: Vec<NamedLeg>,
    /// Its messages, each with the index of its leg, by time.
    pub messages: Vec<(usize, TracedMessage)>,
    /// The number of messages beyond the limit.
    pub messages_beyond: u64,
}

/// The conversations of two legs or more, one of which is asked for; known in the second reading.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    all: Vec<TracedConversation>,
    /// The conversation of each leg, and its index there.
    of: BTreeMap<CallNumber, (usize, usize)>,
}

impl Conversations {
    /// Those of these groups that have one of these calls.
    pub(super) fn of(groups: Vec<LegGroup>, is_wanted: impl Fn(CallNumber) -> bool) -> Self {
        let mut conversations = Self::default();
        let is_wanted = |group: &LegGroup| {
            group.legs.len() > 1 && group.legs.iter().any(|leg| is_wanted(leg.number))
        };
        for group in groups.into_iter().filter(is_wanted) {
            let index = conversations.all.len();
            let numbers = group.legs.iter().map(|leg| leg.number).enumerate();
            conversations
                .of
                .extend(numbers.map(|(leg, number)| (number, (index, leg))));
            conversations.all.push(TracedConversation {
                legs: group.legs,
                messages: Vec::new(),
                messages_beyond: 0,
            });
        }
        conversations
    }

    /// The conversation of a call.
    pub(super) fn get(&self, call: CallNumber) -> Option<&TracedConversation> {
        let (index, _) = self.of.get(&call)?;
        self.all.get(*index)
    }

    /// Notes a message of a call.
    pub(super) fn note_message(&mut self, call: CallNumber, event: &SipEvent<'_>) {
        if let Some((index, leg)) = self.of.get(&call)
            && let Some(conversation) = self.all.get_mut(*index)
        {
            conversation.add(*leg, event);
        }
    }
}

impl TracedConversation {
    fn add(&mut self, leg: usize, event: &SipEvent<'_>) {
        if self.messages.len() >= MAX_MESSAGES {
            self.messages_beyond = self.messages_beyond.saturating_add(1);
            return;
        }
        let mut message = TracedMessage::of(event);
        let earlier = self.messages.iter().rev().map(|(_, message)| message);
        message.repeats = repetition_of(&message, earlier);
        // Nearly all messages come in the order of their times.
        let is_before = |(_, known): &(usize, TracedMessage)| known.time_ns <= message.time_ns;
        let place = self.messages.iter().rposition(is_before);
        let place = place.map_or(0, |place| place.saturating_add(1));
        self.messages.insert(place, (leg, message));
    }
}
