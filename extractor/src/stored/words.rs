//! The words of a segment's calls, by which they are searched.
//!
//! An entry for each Call-ID: its length and text, packet time at its first and last message (the
//! latter as a difference), the length of its words, and the words with a unit separator (U+001F)
//! behind each, in lower case, so that one search finds a word in any field.

use std::collections::{BTreeMap, BTreeSet};

use shared::index::{Cursor, put_varint};

use crate::{
    events::SipEvent,
    sip::{Message, Method, StartLine, number, unfolded},
};

/// The most words of a Call-ID in a segment.
const MAX_WORDS: usize = 256;

/// The longest word, in bytes. Longer ones are cut.
const MAX_WORD_LEN: usize = 256;

/// The byte behind a word.
const SEPARATOR: u8 = 0x1f;

/// The words of one Call-ID in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallWords<'a> {
    /// The Call-ID.
    pub call_id: &'a [u8],
    /// Packet time at its first message in the segment.
    pub first_clock: u64,
    /// Packet time at its last message in the segment.
    pub last_clock: u64,
    /// Its words, in lower case, each with a unit separator behind it. The Call-ID is one of them.
    pub words: &'a [u8],
}

/// The entries of a section of words. It ends where the bytes are damaged.
#[derive(Clone, Debug)]
pub struct Words<'a>(Cursor<'a>);

impl<'a> Words<'a> {
    /// The entries of this section.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(Cursor::new(bytes))
    }

    fn read(&mut self) -> Option<CallWords<'a>> {
        let call_id = self.0.text()?;
        let first_clock = self.0.varint()?;
        Some(CallWords {
            call_id,
            first_clock,
            last_clock: first_clock.checked_add(self.0.varint()?)?,
            words: self.0.text()?,
        })
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = CallWords<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_none() {
            self.0 = Cursor::default();
        }
        read
    }
}

/// Gathers words.
#[derive(Debug, Default)]
pub(super) struct WordGatherer<'a> {
    calls: BTreeMap<&'a [u8], Gathered>,
}

#[derive(Debug)]
struct Gathered {
    first_clock: u64,
    last_clock: u64,
    words: BTreeSet<Vec<u8>>,
}

impl<'a> WordGatherer<'a> {
    /// Adds a message, if it may belong to a call.
    pub(super) fn add(&mut self, event: &SipEvent<'a>) {
        let message = &event.message;
        if !may_be_of_a_call(message) {
            return;
        }
        let clock = event.at.clock;
        let call = self
            .calls
            .entry(message.call_id)
            .or_insert_with(|| Gathered {
                first_clock: clock,
                last_clock: clock,
                words: BTreeSet::new(),
            });
        call.first_clock = call.first_clock.min(clock);
        call.last_clock = call.last_clock.max(clock);
        call.put(message.call_id);
        let asserted = message.fields("P-Asserted-Identity");
        let diverted = message.fields("Diversion");
        let addresses = [message.from, message.to].into_iter();
        let addresses = addresses.chain(message.request_uri());
        for value in addresses.chain(asserted).chain(diverted) {
            call.put(value);
            // The number without its dress.
            number(value).iter().for_each(|number| call.put(number));
        }
        let agents = message.fields("User-Agent").chain(message.fields("Server"));
        agents.for_each(|agent| call.put(agent));
        if let StartLine::Status(status) = message.start {
            call.put(status.to_string().as_bytes());
        }
        for endpoint in [event.source, event.destination] {
            call.put(endpoint.to_string().as_bytes());
        }
    }

    /// The section.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut to = Vec::new();
        for (call_id, call) in self.calls {
            put_varint(&mut to, call_id.len() as u64);
            to.extend_from_slice(call_id);
            put_varint(&mut to, call.first_clock);
            put_varint(&mut to, call.last_clock.saturating_sub(call.first_clock));
            let words: Vec<u8> = call
                .words
                .into_iter()
                .flat_map(|word| word.into_iter().chain([SEPARATOR]))
                .collect();
            put_varint(&mut to, words.len() as u64);
            to.extend(words);
        }
        to
    }
}

impl Gathered {
    fn put(&mut self, value: &[u8]) {
        if self.words.len() >= MAX_WORDS {
            return;
        }
        let value = unfolded(value);
        let value = value.get(..MAX_WORD_LEN).unwrap_or(&value);
        let plain = |byte: &u8| match byte {
            0..0x20 => b' ',
            _ => byte.to_ascii_lowercase(),
        };
        self.words.insert(value.iter().map(plain).collect());
    }
}

/// A registration or a subscription has a Call-ID, too, and is no call.
fn may_be_of_a_call(message: &Message<'_>) -> bool {
    let method = match message.start {
        StartLine::Request(method) => Some(method),
        StartLine::Status(_) => message.cseq.map(|cseq| cseq.method),
    };
    method.is_none_or(|method| method != Method::Other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_can_panic(bytes in any::<Vec<u8>>()) {
            Words::of(&bytes).for_each(drop);
        }
    }
}
