//! IP datagrams out of their fragments: RFC 791, 3.2, and RFC 8200, 4.5.

use std::collections::VecDeque;

use crate::{
    events::{FragmentEvent, Table},
    moment::{Clock, Moment},
    packet::{Endpoint, Fragment},
};

/// How long a datagram may wait for its last fragment.
const TIMEOUT_NS: u64 = 30_000_000_000;
/// How many datagrams may wait at once; the oldest gives way.
const MAX_DATAGRAMS: usize = 4096;
/// Of how many frames a datagram may be made, repeated ones included: 64 KiB in the smallest of
/// pieces that any network has use for.
const MAX_FRAMES: usize = 1024;
/// The longest payload that a datagram can have.
const MAX_LEN: usize = 65_535;

/// Datagrams that wait for fragments.
#[derive(Debug, Default)]
pub struct IpFragments {
    waiting: Table<Name, Partial>,
    /// When each began to wait.
    order: VecDeque<(Clock, Name)>,
    counts: FragmentCounts,
}

/// What became of datagrams that were in fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentCounts {
    /// Put together.
    pub whole: u64,
    /// Given up: a fragment did not come in time, or too many datagrams were waiting.
    pub incomplete: u64,
    /// Refused: fragments that overlap say two things about the same bytes (RFC 5722).
    pub overlapping: u64,
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    source: Endpoint,
    destination: Endpoint,
    protocol: u8,
    identification: u32,
}

#[derive(Debug)]
struct Partial {
    began: Clock,
    /// The timestamp of the frame that came first.
    timestamp_ns: u64,
    frames: Vec<Moment>,
    /// Offset and bytes, by offset; none overlap.
    pieces: Vec<(usize, Vec<u8>)>,
    received: usize,
    total: Option<usize>,
}

/// A datagram that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The timestamp of the frame that came first, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// All frames, in capture order, repeated ones included. The last one made it whole.
    pub frames: Vec<Moment>,
    /// What IP carried.
    pub payload: Vec<u8>,
}

/// What a fragment changed.
enum Added {
    Piece,
    Whole,
    /// The datagram cannot be.
    Refused,
}

impl IpFragments {
    /// What became of the datagrams so far; those that still wait count as incomplete.
    #[must_use]
    pub fn counts(&self) -> FragmentCounts {
        let incomplete = self.counts.incomplete.saturating_add(self.waiting.len() as u64);
        FragmentCounts { incomplete, ..self.counts }
    }

    /// Takes in the next fragment of the capture. Gives the datagram if it is whole now.
    pub fn take(&mut self, event: &FragmentEvent<'_>) -> Option<Whole> {
        self.expire(event.moment.clock);
        let name = Name::of(&event.fragment);
        let partial = self.waiting.entry(name).or_insert_with(|| {
            self.order.push_back((event.moment.clock, name));
            Partial::begin(event)
        });
        partial.frames.push(event.moment);
        match partial.add(&event.fragment) {
            Added::Piece => self.make_room(),
            Added::Whole => {
                self.counts.whole = self.counts.whole.saturating_add(1);
                return self.waiting.remove(&name).map(Partial::finish);
            }
            Added::Refused => {
                self.counts.overlapping = self.counts.overlapping.saturating_add(1);
                self.waiting.remove(&name);
            }
        }
        None
    }

    fn expire(&mut self, now: Clock) {
        while let Some((began, _)) = self.order.front()
            && began.saturating_add(TIMEOUT_NS) <= now
        {
            self.give_up_oldest();
        }
    }

    fn make_room(&mut self) {
        while self.waiting.len() > MAX_DATAGRAMS {
            self.give_up_oldest();
        }
        if self.order.len() > MAX_DATAGRAMS.saturating_mul(4) {
            let is_waiting =
                |(began, name): &(Clock, Name)| self.waiting.get(name).is_some_and(|partial| partial.began == *began);
            self.order.retain(is_waiting);
        }
    }

    /// Of the oldest entry nothing may be left: the datagram may have become whole, and its name in use again.
    fn give_up_oldest(&mut self) {
        let Some((began, name)) = self.order.pop_front() else { return };
        if self.waiting.get(&name).is_some_and(|partial| partial.began == began) {
            self.waiting.remove(&name);
            self.counts.incomplete = self.counts.incomplete.saturating_add(1);
        }
    }
}

impl Name {
    fn of(fragment: &Fragment<'_>) -> Self {
        let Fragment { source, destination, protocol, identification, .. } = *fragment;
        Self { source, destination, protocol, identification }
    }
}

impl Partial {
    fn begin(event: &FragmentEvent<'_>) -> Self {
        Self {
            began: event.moment.clock,
            timestamp_ns: event.timestamp_ns,
            frames: Vec::new(),
            pieces: Vec::new(),
            received: 0,
            total: None,
        }
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Added {
        let (start, end) = (fragment.offset, fragment.offset.saturating_add(fragment.payload.len()));
        let place = self.pieces.partition_point(|(offset, _)| *offset < start);
        if self.pieces.get(place).is_some_and(|(offset, bytes)| *offset == start && bytes == fragment.payload) {
            return if self.frames.len() > MAX_FRAMES { Added::Refused } else { Added::Piece };
        }
        let before = place.checked_sub(1).and_then(|before| self.pieces.get(before));
        let overlaps_before = before.is_some_and(|(offset, bytes)| offset.saturating_add(bytes.len()) > start);
        let overlaps_after = self.pieces.get(place).is_some_and(|(offset, _)| *offset < end);
        let is_beyond_end = self.total.is_some_and(|total| end > total || (!fragment.more && end != total));
        if overlaps_before || overlaps_after || is_beyond_end || end > MAX_LEN || self.frames.len() > MAX_FRAMES {
            return Added::Refused;
        }
        if !fragment.more {
            self.total = Some(end);
        }
        self.received = self.received.saturating_add(fragment.payload.len());
        self.pieces.insert(place, (start, fragment.payload.to_vec()));
        if self.total == Some(self.received) { Added::Whole } else { Added::Piece }
    }

    fn finish(self) -> Whole {
        let payload = self.pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
        Whole { timestamp_ns: self.timestamp_ns, frames: self.frames, payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event<'a>(clock: Clock, offset: usize, more: bool, payload: &'a [u8]) -> FragmentEvent<'a> {
        let end = |last| Endpoint::v4([192, 0, 2, last], 0);
        let fragment = Fragment { source: end(1), destination: end(2), protocol: 17, identification: 7, offset, more, payload };
        FragmentEvent { moment: Moment::at(clock), timestamp_ns: clock, fragment }
    }

    #[test]
    fn in_any_order_and_with_repetitions() {
        let mut fragments = IpFragments::default();
        assert_eq!(fragments.take(&event(1, 16, false, b"c")), None);
        assert_eq!(fragments.take(&event(2, 0, true, b"aaaaaaaa")), None);
        assert_eq!(fragments.take(&event(3, 0, true, b"aaaaaaaa")), None);
        let whole = fragments.take(&event(4, 8, true, b"bbbbbbbb")).unwrap();
        assert_eq!(whole.payload, b"aaaaaaaabbbbbbbbc");
        assert_eq!((whole.timestamp_ns, whole.frames.len()), (1, 4));
        assert_eq!(fragments.counts(), FragmentCounts { whole: 1, ..FragmentCounts::default() });
    }

    #[test]
    fn overlaps_are_refused() {
        for (offset, more, payload) in
            [(4, true, b"xxxxxxxx"), (8, true, b"bbbbbbbx"), (32, false, b"zzzzzzzz"), (20, true, b"yyyyyyyy")]
        {
            let mut fragments = IpFragments::default();
            fragments.take(&event(1, 8, true, b"bbbbbbbb"));
            fragments.take(&event(2, 24, false, b"zz"));
            assert_eq!(fragments.take(&event(3, offset, more, payload)), None);
            assert_eq!(fragments.counts().overlapping, 1, "{offset}");
        }
    }

    #[test]
    fn what_does_not_become_whole_is_given_up() {
        let mut fragments = IpFragments::default();
        fragments.take(&event(1, 0, true, b"aaaaaaaa"));
        assert_eq!(fragments.take(&event(1 + TIMEOUT_NS, 8, false, b"b")), None);
        assert_eq!(fragments.counts().incomplete, 2);
        assert_eq!(fragments.waiting.len(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut fragments = IpFragments::default();
        for identification in 0..10_000 {
            let mut event = event(1, 0, true, b"aaaaaaaa");
            event.fragment.identification = identification;
            fragments.take(&event);
        }
        assert_eq!((fragments.waiting.len(), fragments.order.len()), (MAX_DATAGRAMS, MAX_DATAGRAMS));
    }

    proptest! {
        #[test]
        fn a_datagram_cut_and_shuffled_is_whole_again(
            payload in proptest::collection::vec(any::<u8>(), 1..2_000),
            words in 1usize..30,
            seed in any::<u64>(),
        ) {
            let pieces: Vec<_> = payload.chunks(words * 8).enumerate().collect();
            let mut order: Vec<_> = (0..pieces.len()).collect();
            order.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
            let mut fragments = IpFragments::default();
            let mut whole = None;
            for index in order {
                let (number, piece) = pieces[index];
                prop_assert!(whole.is_none());
                whole = fragments.take(&event(1, number * words * 8, number + 1 < pieces.len(), piece));
            }
            prop_assert_eq!(whole.map(|whole| whole.payload), Some(payload));
        }
    }
}
