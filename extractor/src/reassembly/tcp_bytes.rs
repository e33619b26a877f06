//! The bytes of one direction of a TCP connection, put in order: RFC 9293, 3.4 and 3.10.7.4.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MAX_HOLD_NS;
use crate::{
    events::stable_hash,
    moment::{Clock, Moment, Position},
};

/// Bytes that came early are kept up to this length, and in this many segments.
const MAX_EARLY_LEN: usize = 256 * 1024;
const MAX_EARLY: usize = 4096;
/// Of how many frames bytes are noted that are not taken out yet. What is beyond is in no file: a
/// message of the longest kind comes in 500 segments.
const MAX_FRAMES: usize = 1024;
/// A sequence number further away than this belongs to another connection of the same name.
const MAX_DISTANCE: u64 = 1024 * 1024;

/// A place in the stream: its sequence number, continued beyond 32 bits.
pub(super) type Offset = u64;

/// A frame that carries a part of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Frame {
    pub(super) moment: Moment,
    pub(super) timestamp_ns: u64,
}

/// A stretch of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) start: Offset,
    pub(super) end: Offset,
}

/// A segment ahead of bytes that are missing.
#[derive(Debug, Serialize, Deserialize)]
struct Early {
    bytes: Vec<u8>,
    /// How many bytes the snap length cut off.
    snapped: u64,
    since: Clock,
}

/// One direction of a connection.
///
/// What is in order and not taken out yet lies from `start` to `end`. Where the next byte is
/// missing, what follows it waits.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TcpBytes {
    start: Offset,
    bytes: Vec<u8>,
    early: BTreeMap<Offset, Early>,
    early_len: usize,
    /// Since when the one waits that has waited for longest.
    waiting_since: Option<Clock>,
    /// How many bytes from `end` on will never come: the snap length cut them off.
    snapped: u64,
    frames: Vec<Noted>,
}

/// A frame that carries a stretch of what has not been taken out yet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Noted {
    stretch: Stretch,
    frame: Frame,
    /// The call that it was given to last, hashed: only ever compared with others of the same
    /// connection.
    given_to: Option<u64>,
}

/// Where a segment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It begins here.
    Here(Offset),
    /// Nowhere near: this is another connection.
    Elsewhere,
}

impl Stretch {
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl TcpBytes {
    /// A stream of which the next byte has this sequence number.
    pub(super) fn begin(sequence: u32) -> Self {
        Self {
            // Far enough from 0 for what comes late.
            start: (1 << 32) | Offset::from(sequence),
            bytes: Vec::new(),
            early: BTreeMap::new(),
            early_len: 0,
            waiting_since: None,
            snapped: 0,
            frames: Vec::new(),
        }
    }

    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// Where the next byte in order belongs.
    pub(super) fn end(&self) -> Offset {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// What is in order and not taken out yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes of memory are in use for what is not taken out yet.
    pub(super) fn weight(&self) -> usize {
        let frames = self.frames.len().saturating_mul(size_of::<Noted>());
        self.bytes
            .len()
            .saturating_add(self.early_len)
            .saturating_add(frames)
    }

    pub(super) fn place(&self, sequence: u32) -> Place {
        let end = self.end();
        // RFC 9293, 3.4: numbers are compared modulo 2^32.
        let [_, _, _, _, low @ ..] = end.to_be_bytes();
        let ahead = sequence.wrapping_sub(u32::from_be_bytes(low)).cast_signed();
        let offset = end.saturating_add_signed(ahead.into());
        if offset.abs_diff(end) > MAX_DISTANCE {
            Place::Elsewhere
        } else {
            Place::Here(offset)
        }
    }

    /// Notes that a frame carries a stretch of the stream.
    pub(super) fn note(&mut self, stretch: Stretch, frame: Frame) {
        if stretch.end > self.start && self.frames.len() < MAX_FRAMES {
            self.frames.push(Noted {
                stretch,
                frame,
                given_to: None,
            });
        }
    }

    /// Of a segment that begins at `offset`, what goes on where the stream ends now. What is ahead
    /// of that waits; `snapped` bytes behind the payload were not captured.
    pub(super) fn take<'a>(
        &mut self,
        offset: Offset,
        payload: &'a [u8],
        snapped: u64,
        now: Clock,
    ) -> &'a [u8] {
        let end = offset.saturating_add(payload.len() as u64);
        if offset > self.end() || self.snapped > 0 {
            self.keep(offset, payload, snapped, now);
            return &[];
        }
        let known = self.end().saturating_sub(offset);
        let fresh = usize::try_from(known)
            .ok()
            .and_then(|known| payload.get(known..))
            .unwrap_or_default();
        if end >= self.end() {
            self.snapped = snapped;
        }
        fresh
    }

    fn keep(&mut self, offset: Offset, payload: &[u8], snapped: u64, now: Clock) {
        let known = self.early.get(&offset).map(|early| early.bytes.len());
        if known.is_none_or(|known| known < payload.len()) {
            self.early_len = self
                .early_len
                .saturating_sub(known.unwrap_or(0))
                .saturating_add(payload.len());
            let since = self.early.get(&offset).map_or(now, |early| early.since);
            self.early.insert(
                offset,
                Early {
                    bytes: payload.to_vec(),
                    snapped,
                    since,
                },
            );
            self.waiting_since = self.waiting_since.or(Some(now));
        }
    }

    /// The next bytes that waited and are in order now.
    pub(super) fn next_early(&mut self) -> Option<Vec<u8>> {
        let end = self.end();
        if self.snapped > 0 || *self.early.first_key_value()?.0 > end {
            return None;
        }
        let (
            offset,
            Early {
                mut bytes,
                snapped,
                since,
            },
        ) = self.early.pop_first()?;
        self.early_len = self.early_len.saturating_sub(bytes.len());
        if self.waiting_since == Some(since) {
            self.waiting_since = self.early.values().map(|early| early.since).min();
        }
        let known = usize::try_from(end.saturating_sub(offset))
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        bytes.drain(..known);
        if !bytes.is_empty() || offset.saturating_add(known as u64) == end {
            self.take(end, &bytes, snapped, since);
        }
        Some(bytes)
    }

    /// Puts bytes that are in order behind the others.
    pub(super) fn append(&mut self, fresh: &[u8]) {
        self.bytes.extend_from_slice(fresh);
    }

    /// Takes bytes out at the front: of those in memory, and of those in order that need not be
    /// kept.
    pub(super) fn consume(&mut self, used: usize, passed: usize) {
        if used == 0 && passed == 0 {
            return;
        }
        self.bytes.drain(..used.min(self.bytes.len()));
        self.start = self
            .start
            .saturating_add(used.saturating_add(passed) as u64);
        self.forget_frames();
        if self.bytes.is_empty() && self.bytes.capacity() > 4096 {
            self.bytes = Vec::new();
        }
    }

    /// The frames that carry any of a stretch that has not been taken out, in capture order.
    pub(super) fn frames_of(&self, stretch: Stretch) -> impl Iterator<Item = Frame> {
        self.frames
            .iter()
            .filter(move |noted| noted.stretch.overlaps(stretch))
            .map(|noted| noted.frame)
    }

    /// The same, for a message of the call. A frame that the call has had so long ago that it may
    /// be in its file by now is not given to it again.
    pub(super) fn give(&mut self, stretch: Stretch, at: Moment, call_id: &[u8]) -> Vec<Frame> {
        let call = Some(stable_hash(call_id));
        let written_before = at.clock.saturating_sub(MAX_HOLD_NS);
        let carrying = self
            .frames
            .iter_mut()
            .filter(|noted| noted.stretch.overlaps(stretch));
        let given = carrying.filter_map(|noted| {
            let is_written = std::mem::replace(&mut noted.given_to, call) == call
                && noted.frame.moment.clock < written_before;
            (!is_written).then_some(noted.frame)
        });
        given.collect()
    }

    /// Since when bytes wait for others that are missing.
    pub(super) fn waiting_since(&self) -> Option<Clock> {
        self.waiting_since
    }

    /// The earliest frame of what has not been taken out.
    pub(super) fn earliest_frame(&self) -> Option<Moment> {
        self.frames.iter().map(|noted| noted.frame.moment).min()
    }

    /// Visits the frames of what has not been taken out.
    pub(super) fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        self.frames
            .iter()
            .for_each(|noted| visit(noted.frame.moment.position));
    }

    /// Where the stream goes on if what is missing at its end is not waited for any longer.
    pub(super) fn after_gap(&self) -> Option<Offset> {
        match self.snapped {
            0 => self.early.first_key_value().map(|(offset, _)| *offset),
            snapped => Some(self.end().saturating_add(snapped)),
        }
    }

    /// Whether what is missing at the end will never come, or too much waits for it.
    pub(super) fn is_gap_hopeless(&self) -> bool {
        self.snapped > 0 || self.early_len > MAX_EARLY_LEN || self.early.len() > MAX_EARLY
    }

    /// Goes on at `offset`; what lies before it is gone.
    pub(super) fn jump(&mut self, offset: Offset) {
        self.bytes.clear();
        self.snapped = 0;
        self.start = offset;
        self.forget_frames();
    }

    fn forget_frames(&mut self) {
        let start = self.start;
        self.frames.retain(|noted| noted.stretch.end > start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u64) -> Frame {
        Frame {
            moment: Moment::at(n),
            timestamp_ns: n,
        }
    }

    fn take(stream: &mut TcpBytes, sequence: u32, payload: &[u8]) {
        let Place::Here(offset) = stream.place(sequence) else {
            panic!("{sequence}")
        };
        let fresh = stream.take(offset, payload, 0, 1).to_vec();
        stream.append(&fresh);
        while let Some(fresh) = stream.next_early() {
            stream.append(&fresh);
        }
    }

    #[test]
    fn in_any_order_overlapping_and_repeated_across_the_roll_over() {
        let mut stream = TcpBytes::begin(u32::MAX - 1);
        take(&mut stream, 2, b"ef");
        take(&mut stream, 3, b"fgh");
        take(&mut stream, u32::MAX - 1, b"ab");
        assert_eq!(
            (stream.bytes(), stream.waiting_since()),
            (&b"ab"[..], Some(1))
        );
        take(&mut stream, u32::MAX - 1, b"XXcd");
        assert_eq!(
            (stream.bytes(), stream.waiting_since()),
            (&b"abcdefgh"[..], None)
        );
        stream.consume(3, 0);
        take(&mut stream, 5, b"hi");
        assert_eq!(stream.bytes(), b"defghi");
        assert_eq!(stream.place(6u32.wrapping_sub(2_000_000)), Place::Elsewhere);
    }

    #[test]
    fn frames_are_known_until_their_bytes_are_taken_out() {
        let mut stream = TcpBytes::begin(0);
        let at = stream.start();
        let stretch = |start, end| Stretch {
            start: at + start,
            end: at + end,
        };
        stream.note(stretch(0, 4), frame(1));
        stream.note(stretch(2, 6), frame(2));
        take(&mut stream, 0, b"abcdef");
        assert_eq!(
            stream.frames_of(stretch(0, 2)).collect::<Vec<_>>(),
            [frame(1)]
        );
        assert_eq!(
            stream.frames_of(stretch(3, 5)).collect::<Vec<_>>(),
            [frame(1), frame(2)]
        );
        stream.consume(4, 0);
        assert_eq!(
            stream.frames_of(stretch(0, 6)).collect::<Vec<_>>(),
            [frame(2)]
        );
    }

    #[test]
    fn a_gap_can_be_given_up() {
        let mut stream = TcpBytes::begin(0);
        take(&mut stream, 0, b"ab");
        take(&mut stream, 9, b"xy");
        let after = stream.after_gap().unwrap();
        stream.jump(after);
        let fresh = stream.next_early().unwrap();
        assert_eq!(
            (fresh.as_slice(), stream.place(11)),
            (&b"xy"[..], Place::Here(after + 2))
        );
    }
}
