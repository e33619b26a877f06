//! Reassembly of IP datagrams: RFC 791, 3.2, and RFC 8200, 4.5.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    counts::FragmentCounts,
    events::{FlowKey, FragmentEvent, Frames, Table, stable_hash},
    moment::{Clock, Moment, Position},
    packet::{Endpoint, Fragment, Network},
};

/// The time after which an incomplete datagram is given up.
const TIMEOUT_NS: u64 = 30_000_000_000;
/// The time after which the beginning of an incomplete datagram is used. Fragments follow each
/// other within milliseconds, unless the capture filter tests ports, which only the first fragment
/// has.
const BEGINNING_TIMEOUT_NS: u64 = 200_000_000;
/// The most incomplete datagrams, and the most completed ones that are remembered; the oldest is
/// evicted.
const MAX_DATAGRAMS: usize = 4096;
/// The most frames of a datagram, repeated ones included: enough for 64 KiB in the smallest
/// fragments that networks use.
const MAX_FRAMES: usize = 1024;
/// The longest payload that a datagram can have.
const MAX_LEN: usize = 65_535;

/// Incomplete datagrams, and completed ones for the detection of repetitions.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct IpFragments {
    waiting: Table<DatagramId, Partial>,
    /// The arrival of the first fragment of each datagram.
    order: VecDeque<(Clock, DatagramId)>,
    /// Recently completed datagrams.
    whole: Table<DatagramId, CompletedDatagram>,
    whole_order: VecDeque<(Clock, DatagramId)>,
    /// The time at which the beginning of a datagram is used.
    beginning_timers: VecDeque<(Clock, DatagramId)>,
    // Each process counts from 0.
    #[serde(skip)]
    counts: FragmentCounts,
}

/// The owner of a completed datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Belonging {
    /// A SIP message with this Call-ID.
    Call(Arc<[u8]>),
    /// A packet of this flow.
    Flow(FlowKey),
    /// Neither SIP nor a packet of a flow.
    Nothing,
}

/// The effect of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It completes its datagram. The caller passes the owner to [`IpFragments::remember`].
    Whole(DatagramId, Whole),
    /// It repeats a fragment of a completed datagram.
    Repeated(Belonging),
    /// It has no effect yet.
    Nothing,
}

/// A completed datagram.
#[derive(Debug, Serialize, Deserialize)]
struct CompletedDatagram {
    since: Clock,
    pieces: Vec<(usize, u64)>,
    belonging: Belonging,
}

/// The identity that all fragments of a datagram share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DatagramId {
    /// The network that it came through.
    pub network: Network,
    /// The sender; the port is 0.
    pub source: Endpoint,
    /// The receiver; the port is 0.
    pub destination: Endpoint,
    /// The protocol that the datagram carries.
    pub protocol: u8,
    identification: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Partial {
    began: Clock,
    /// The timestamp of the earliest frame.
    timestamp_ns: u64,
    frames: Frames,
    /// The frames with the first fragment.
    beginning: Frames,
    /// The time at which the beginning is used; `None` without a first fragment.
    beginning_due: Option<Clock>,
    /// Sorted by offset, without overlaps.
    pieces: Vec<Piece>,
    received: usize,
    total: Option<usize>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    offset: usize,
    bytes: Vec<u8>,
    wire_len: usize,
}

/// A completed datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The timestamp of the earliest frame, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// All frames, in capture order, repeated ones included. The last one completed the datagram.
    pub frames: Frames,
    /// The frames with the first fragment.
    pub beginning: Frames,
    /// The payload of the datagram, up to the first byte that the snap length cut off.
    pub payload: Vec<u8>,
    /// The length of the payload on the wire, in bytes.
    pub wire_len: usize,
}

/// The beginning of a datagram whose other fragments did not arrive in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The time at which the wait ended.
    pub at: Clock,
    /// The identity of the datagram.
    pub name: DatagramId,
    /// The frames so far. `payload` ends at the first gap, and `wire_len` is the maximum, because
    /// the length is unknown.
    pub part: Whole,
}

/// The effect of a fragment on its datagram.
enum Added {
    Piece,
    Whole,
    /// The fragment contradicts the others, and the datagram is discarded.
    Refused,
}

impl IpFragments {
    /// The counters so far; datagrams that still wait count as incomplete.
    #[must_use]
    pub fn counts(&self) -> FragmentCounts {
        let incomplete = self
            .counts
            .incomplete
            .saturating_add(self.waiting.len() as u64);
        FragmentCounts {
            incomplete,
            ..self.counts
        }
    }

    /// Adds the next fragment of the capture.
    pub fn handle(&mut self, event: &FragmentEvent<'_>) -> Handled {
        let now = event.at.clock;
        self.expire(now);
        let name = DatagramId::of(&event.fragment);
        if let Some(belonging) = self.repeats(name, &event.fragment) {
            return Handled::Repeated(belonging);
        }
        let partial = self.waiting.entry(name).or_insert_with(|| {
            self.order.push_back((now, name));
            Partial::begin(event)
        });
        partial.note(event);
        if event.fragment.offset == 0 && partial.beginning_due.is_none() {
            let at = now.saturating_add(BEGINNING_TIMEOUT_NS);
            partial.beginning_due = Some(at);
            self.beginning_timers.push_back((at, name));
        }
        match partial.add(&event.fragment) {
            Added::Piece => self.make_room(),
            Added::Whole => {
                self.counts.whole = self.counts.whole.saturating_add(1);
                if let Some(partial) = self.waiting.remove(&name) {
                    self.remember_pieces(name, &partial, now);
                    return Handled::Whole(name, partial.finish());
                }
            }
            Added::Refused => {
                self.counts.overlapping = self.counts.overlapping.saturating_add(1);
                self.waiting.remove(&name);
            }
        }
        Handled::Nothing
    }

    /// The next datagram whose wait has ended by `now`, if its first fragment is there.
    pub fn next_beginning(&mut self, now: Clock) -> Option<Beginning> {
        while let Some((at, name)) = self.beginning_timers.pop_front_if(|(at, _)| *at <= now) {
            if let Some(partial) = self
                .waiting
                .get_mut(&name)
                .filter(|partial| partial.beginning_due == Some(at))
            {
                return Some(Beginning {
                    at,
                    name,
                    part: partial.so_far(),
                });
            }
        }
        None
    }

    /// Stores the owner of a completed datagram: frames that repeat its fragments have the same
    /// owner.
    pub fn remember(&mut self, name: &DatagramId, belonging: Belonging) {
        if let Some(remembered) = self.whole.get_mut(name) {
            remembered.belonging = belonging;
        }
    }

    fn remember_pieces(&mut self, name: DatagramId, partial: &Partial, now: Clock) {
        let pieces = partial
            .pieces
            .iter()
            .map(|piece| (piece.offset, stable_hash(&piece.bytes)))
            .collect();
        self.whole.insert(
            name,
            CompletedDatagram {
                since: now,
                pieces,
                belonging: Belonging::Nothing,
            },
        );
        self.whole_order.push_back((now, name));
        while self.whole_order.len() > MAX_DATAGRAMS {
            self.forget_oldest();
        }
    }

    /// Returns the owner if the fragment repeats one of a completed datagram. Senders reuse
    /// identifications after some time, so only equal bytes are a repetition.
    fn repeats(&self, name: DatagramId, fragment: &Fragment<'_>) -> Option<Belonging> {
        let remembered = self
            .whole
            .get(&name)
            .filter(|_| !self.waiting.contains_key(&name))?;
        let piece = (fragment.offset, stable_hash(fragment.payload));
        remembered
            .pieces
            .contains(&piece)
            .then(|| remembered.belonging.clone())
    }

    fn expire(&mut self, now: Clock) {
        let is_over = |began: Clock| began.saturating_add(TIMEOUT_NS) <= now;
        while self.order.front().is_some_and(|(began, _)| is_over(*began)) {
            self.give_up_oldest();
        }
        while self
            .whole_order
            .front()
            .is_some_and(|(since, _)| is_over(*since))
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((since, name)) = self.whole_order.pop_front() else {
            return;
        };
        if self
            .whole
            .get(&name)
            .is_some_and(|remembered| remembered.since == since)
        {
            self.whole.remove(&name);
        }
    }

    /// The earliest frame of the incomplete datagrams.
    #[must_use]
    pub fn earliest_frame(&self) -> Option<Moment> {
        self.order
            .iter()
            .filter_map(|(_, name)| self.waiting.get(name)?.frames.iter().min().copied())
            .min()
    }

    /// Visits the frames of the incomplete datagrams.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        let waiting = self
            .order
            .iter()
            .filter_map(|(_, name)| self.waiting.get(name));
        waiting
            .flat_map(|partial| &partial.frames)
            .for_each(|frame| visit(frame.position));
    }

    fn make_room(&mut self) {
        while self.waiting.len() > MAX_DATAGRAMS {
            self.give_up_oldest();
        }
        if self.order.len() > MAX_DATAGRAMS.saturating_mul(4) {
            let is_waiting = |(began, name): &(Clock, DatagramId)| {
                self.waiting
                    .get(name)
                    .is_some_and(|partial| partial.began == *began)
            };
            self.order.retain(is_waiting);
        }
    }

    /// The oldest entry may be stale: its datagram may have been completed, and its identification
    /// reused.
    fn give_up_oldest(&mut self) {
        let Some((began, name)) = self.order.pop_front() else {
            return;
        };
        if self
            .waiting
            .get(&name)
            .is_some_and(|partial| partial.began == began)
        {
            self.waiting.remove(&name);
            self.counts.incomplete = self.counts.incomplete.saturating_add(1);
        }
    }
}

impl DatagramId {
    /// The identity of a fragment's datagram: RFC 791, 3.2; RFC 8200, 4.5.
    #[must_use]
    pub fn of(fragment: &Fragment<'_>) -> Self {
        let Fragment {
            network,
            source,
            destination,
            protocol,
            identification,
            ..
        } = *fragment;
        Self {
            network,
            source,
            destination,
            protocol,
            identification,
        }
    }
}

impl Partial {
    fn begin(event: &FragmentEvent<'_>) -> Self {
        Self {
            began: event.at.clock,
            timestamp_ns: event.timestamp_ns,
            frames: Frames::new(),
            beginning: Frames::new(),
            beginning_due: None,
            pieces: Vec::new(),
            received: 0,
            total: None,
        }
    }

    fn note(&mut self, event: &FragmentEvent<'_>) {
        self.frames.extend(event.frames.iter().copied());
        if event.fragment.offset == 0 {
            self.beginning.extend(event.frames.iter().copied());
        }
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Added {
        let (start, end) = (
            fragment.offset,
            fragment.offset.saturating_add(fragment.wire_len),
        );
        let place = self.pieces.partition_point(|piece| piece.offset < start);
        if self
            .pieces
            .get(place)
            .is_some_and(|piece| piece.is(fragment))
        {
            return if self.frames.len() > MAX_FRAMES {
                Added::Refused
            } else {
                Added::Piece
            };
        }
        let before = place
            .checked_sub(1)
            .and_then(|before| self.pieces.get(before));
        let overlaps_before =
            before.is_some_and(|piece| piece.offset.saturating_add(piece.wire_len) > start);
        let overlaps_after = self
            .pieces
            .get(place)
            .is_some_and(|piece| piece.offset < end);
        let is_beyond_end = self
            .total
            .is_some_and(|total| end > total || (!fragment.more && end != total));
        let ends_too_early = !fragment.more && place < self.pieces.len();
        if overlaps_before
            || overlaps_after
            || is_beyond_end
            || ends_too_early
            || end > MAX_LEN
            || self.frames.len() > MAX_FRAMES
        {
            return Added::Refused;
        }
        if !fragment.more {
            self.total = Some(end);
        }
        self.received = self.received.saturating_add(fragment.wire_len);
        self.pieces.insert(place, Piece::of(fragment));
        if self.total == Some(self.received) {
            Added::Whole
        } else {
            Added::Piece
        }
    }

    fn finish(self) -> Whole {
        Whole {
            wire_len: self.received,
            ..self.so_far()
        }
    }

    fn so_far(&self) -> Whole {
        Whole {
            timestamp_ns: self.timestamp_ns,
            payload: self.payload(),
            wire_len: MAX_LEN,
            frames: self.frames.clone(),
            beginning: self.beginning.clone(),
        }
    }

    /// The bytes from the beginning up to the first gap.
    fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for piece in &self.pieces {
            if piece.offset != payload.len() {
                break;
            }
            payload.extend_from_slice(&piece.bytes);
        }
        payload
    }
}

impl Piece {
    fn of(fragment: &Fragment<'_>) -> Self {
        Self {
            offset: fragment.offset,
            bytes: fragment.payload.to_vec(),
            wire_len: fragment.wire_len,
        }
    }

    fn is(&self, fragment: &Fragment<'_>) -> bool {
        self.offset == fragment.offset
            && self.wire_len == fragment.wire_len
            && self.bytes == fragment.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event<'a>(clock: Clock, offset: usize, more: bool, payload: &'a [u8]) -> FragmentEvent<'a> {
        let end = |last| Endpoint::v4([192, 0, 2, last], 0);
        let wire_len = payload.len();
        let (network, source, destination) = (Network::PLAIN, end(1), end(2));
        let fragment = Fragment {
            network,
            source,
            destination,
            protocol: 17,
            identification: 7,
            offset,
            more,
            payload,
            wire_len,
        };
        let at = Moment::at(clock);
        FragmentEvent {
            at,
            frames: Frames::from_buf([at]),
            timestamp_ns: clock,
            fragment,
        }
    }

    impl Handled {
        fn whole(self) -> Option<Whole> {
            if let Self::Whole(_, whole) = self {
                Some(whole)
            } else {
                None
            }
        }
    }

    #[test]
    fn in_any_order_and_with_repetitions() {
        let mut fragments = IpFragments::default();
        assert_eq!(
            fragments.handle(&event(1, 16, false, b"c")),
            Handled::Nothing
        );
        assert_eq!(
            fragments.handle(&event(2, 0, true, b"aaaaaaaa")),
            Handled::Nothing
        );
        assert_eq!(
            fragments.handle(&event(3, 0, true, b"aaaaaaaa")),
            Handled::Nothing
        );
        let whole = fragments
            .handle(&event(4, 8, true, b"bbbbbbbb"))
            .whole()
            .unwrap();
        assert_eq!(whole.payload, b"aaaaaaaabbbbbbbbc");
        assert_eq!(
            (
                whole.timestamp_ns,
                whole.frames.len(),
                whole.beginning.len()
            ),
            (1, 4, 2)
        );
        assert_eq!(
            fragments.counts(),
            FragmentCounts {
                whole: 1,
                ..FragmentCounts::default()
            }
        );
    }

    #[test]
    fn what_repeats_a_datagram_belongs_to_the_same_until_the_name_is_used_anew() {
        let mut fragments = IpFragments::default();
        fragments.handle(&event(1, 0, true, b"aaaaaaaa"));
        let Handled::Whole(name, _) = fragments.handle(&event(2, 8, false, b"b")) else {
            panic!()
        };
        fragments.remember(&name, Belonging::Call((*b"id").into()));
        assert_eq!(
            fragments.handle(&event(3, 8, false, b"b")),
            Handled::Repeated(Belonging::Call((*b"id").into()))
        );
        assert_eq!(
            fragments.handle(&event(4, 0, true, b"cccccccc")),
            Handled::Nothing
        );
        assert!(
            fragments
                .handle(&event(5, 8, false, b"b"))
                .whole()
                .is_some()
        );
    }

    #[test]
    fn a_snapped_datagram_has_its_beginning() {
        let mut fragments = IpFragments::default();
        let mut snapped = event(1, 0, true, b"aaaaa");
        snapped.fragment.wire_len = 8;
        fragments.handle(&snapped);
        let whole = fragments.handle(&event(2, 8, false, b"b")).whole().unwrap();
        assert_eq!(
            (whole.payload.as_slice(), whole.wire_len),
            (&b"aaaaa"[..], 9)
        );
    }

    #[test]
    fn overlaps_are_refused() {
        for (offset, more, payload) in [
            (4, true, b"xxxxxxxx"),
            (8, true, b"bbbbbbbx"),
            (32, false, b"zzzzzzzz"),
            (20, true, b"yyyyyyyy"),
        ] {
            let mut fragments = IpFragments::default();
            fragments.handle(&event(1, 8, true, b"bbbbbbbb"));
            fragments.handle(&event(2, 24, false, b"zz"));
            assert_eq!(
                fragments.handle(&event(3, offset, more, payload)),
                Handled::Nothing
            );
            assert_eq!(fragments.counts().overlapping, 1, "{offset}");
        }
    }

    #[test]
    fn what_does_not_become_whole_is_given_up() {
        let mut fragments = IpFragments::default();
        fragments.handle(&event(1, 0, true, b"aaaaaaaa"));
        assert_eq!(
            fragments.handle(&event(1 + TIMEOUT_NS, 8, false, b"b")),
            Handled::Nothing
        );
        assert_eq!(fragments.counts().incomplete, 2);
        assert_eq!(fragments.waiting.len(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut fragments = IpFragments::default();
        for identification in 0..10_000 {
            let mut event = event(1, 0, true, b"aaaaaaaa");
            event.fragment.identification = identification;
            fragments.handle(&event);
        }
        assert_eq!(
            (fragments.waiting.len(), fragments.order.len()),
            (MAX_DATAGRAMS, MAX_DATAGRAMS)
        );
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
                whole = fragments.handle(&event(1, number * words * 8, number + 1 < pieces.len(), piece)).whole();
            }
            prop_assert_eq!(whole.map(|whole| whole.payload), Some(payload));
        }
    }
}
