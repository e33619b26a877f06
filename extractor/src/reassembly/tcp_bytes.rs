//! The bytes of one direction of a TCP connection, in sequence: RFC 9293, 3.4 and 3.10.7.4.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MAX_HOLD_NS;
use crate::{
    events::stable_hash,
    moment::{Clock, Moment, Position},
};

/// The most bytes, and the most segments, that are buffered behind a gap.
const MAX_EARLY_LEN: usize = 256 * 1024;
const MAX_EARLY: usize = 4096;
/// The most frames whose position is remembered for bytes that are not consumed yet. Later frames
/// appear in no file; a message of maximum length comes in 500 segments.
const MAX_FRAMES: usize = 1024;
/// A sequence number further away than this belongs to another connection with the same addresses.
const MAX_DISTANCE: u64 = 1024 * 1024;

/// A position in the stream: the sequence number, extended beyond 32 bits.
pub(super) type Offset = u64;

/// A frame that carries a part of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamFrame {
    pub(super) moment: Moment,
    pub(super) timestamp_ns: u64,
}

/// A stretch of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamRange {
    pub(super) start: Offset,
    pub(super) end: Offset,
}

/// A segment behind a gap.
#[derive(Debug, Serialize, Deserialize)]
struct Early {
    bytes: Vec<u8>,
    /// The number of bytes that the snap length cut off.
    snapped: u64,
    since: Clock,
}

/// One direction of a connection.
///
/// The bytes from `start` to `end` are in order and not consumed yet. Segments behind the first gap
/// are buffered in `early`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TcpBytes {
    start: Offset,
    bytes: Vec<u8>,
    early: BTreeMap<Offset, Early>,
    early_len: usize,
    /// The arrival of the oldest buffered segment.
    waiting_since: Option<Clock>,
    /// The number of bytes at `end` that the snap length cut off; they never arrive.
    snapped: u64,
    frames: Vec<Noted>,
}

/// A frame that carries bytes that are not consumed yet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Noted {
    stretch: StreamRange,
    frame: StreamFrame,
    /// A hash of the Call-ID to which the frame was given last. It is only compared with others of
    /// the same connection.
    given_to: Option<u64>,
}

/// The position of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentPosition {
    /// At this offset.
    Here(Offset),
    /// Too far away: the segment belongs to another connection.
    Elsewhere,
}

impl StreamRange {
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl TcpBytes {
    /// A stream whose next byte has this sequence number.
    pub(super) fn begin(sequence: u32) -> Self {
        Self {
            // Far enough from 0 for bytes that arrive late.
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

    /// The offset of the next byte in order.
    pub(super) fn end(&self) -> Offset {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// The bytes that are in order and not consumed yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The memory of all that is not consumed yet, in bytes.
    pub(super) fn weight(&self) -> usize {
        let frames = self.frames.len().saturating_mul(size_of::<Noted>());
        self.bytes
            .len()
            .saturating_add(self.early_len)
            .saturating_add(frames)
    }

    pub(super) fn position(&self, sequence: u32) -> SegmentPosition {
        let end = self.end();
        // RFC 9293, 3.4: sequence numbers are compared modulo 2^32.
        let [_, _, _, _, low @ ..] = end.to_be_bytes();
        let ahead = sequence.wrapping_sub(u32::from_be_bytes(low)).cast_signed();
        let offset = end.saturating_add_signed(ahead.into());
        if offset.abs_diff(end) > MAX_DISTANCE {
            SegmentPosition::Elsewhere
        } else {
            SegmentPosition::Here(offset)
        }
    }

    /// Remembers that a frame carries a stretch of the stream.
    pub(super) fn note(&mut self, stretch: StreamRange, frame: StreamFrame) {
        if stretch.end > self.start && self.frames.len() < MAX_FRAMES {
            self.frames.push(Noted {
                stretch,
                frame,
                given_to: None,
            });
        }
    }

    /// Adds a segment that begins at `offset`; returns the part of it that continues the stream. A
    /// segment behind a gap is buffered. `snapped` bytes after the payload were not captured.
    pub(super) fn push<'a>(
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

    /// The next buffered bytes that are in order now.
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
            self.push(end, &bytes, snapped, since);
        }
        Some(bytes)
    }

    /// Appends bytes that are in order.
    pub(super) fn append(&mut self, fresh: &[u8]) {
        self.bytes.extend_from_slice(fresh);
    }

    /// Removes `used` bytes at the front of the buffer, and `passed` bytes in order that were never
    /// buffered.
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

    /// The frames that carry any part of a stretch that is not consumed yet, in capture order.
    pub(super) fn frames_of(&self, stretch: StreamRange) -> impl Iterator<Item = StreamFrame> {
        self.frames
            .iter()
            .filter(move |noted| noted.stretch.overlaps(stretch))
            .map(|noted| noted.frame)
    }

    /// The frames of a stretch, for a message of this call. A frame that the call got before the
    /// hold time is left out, because it may be in the call's file already.
    pub(super) fn give(
        &mut self,
        stretch: StreamRange,
        at: Moment,
        call_id: &[u8],
    ) -> Vec<StreamFrame> {
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

    /// The arrival of the oldest segment that waits behind a gap.
    pub(super) fn waiting_since(&self) -> Option<Clock> {
        self.waiting_since
    }

    /// The earliest frame with bytes that are not consumed yet.
    pub(super) fn earliest_frame(&self) -> Option<Moment> {
        self.frames.iter().map(|noted| noted.frame.moment).min()
    }

    /// Visits the frames with bytes that are not consumed yet.
    pub(super) fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        self.frames
            .iter()
            .for_each(|noted| visit(noted.frame.moment.position));
    }

    /// The offset at which the stream continues if the first gap is given up.
    pub(super) fn after_gap(&self) -> Option<Offset> {
        match self.snapped {
            0 => self.early.first_key_value().map(|(offset, _)| *offset),
            snapped => Some(self.end().saturating_add(snapped)),
        }
    }

    /// Returns true if the missing bytes will never arrive, or too many bytes wait behind them.
    pub(super) fn is_gap_final(&self) -> bool {
        self.snapped > 0 || self.early_len > MAX_EARLY_LEN || self.early.len() > MAX_EARLY
    }

    /// Continues at `offset`; the bytes before it are discarded.
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

    fn frame(n: u64) -> StreamFrame {
        StreamFrame {
            moment: Moment::at(n),
            timestamp_ns: n,
        }
    }

    fn push(stream: &mut TcpBytes, sequence: u32, payload: &[u8]) {
        let SegmentPosition::Here(offset) = stream.position(sequence) else {
            panic!("{sequence}")
        };
        let fresh = stream.push(offset, payload, 0, 1).to_vec();
        stream.append(&fresh);
        while let Some(fresh) = stream.next_early() {
            stream.append(&fresh);
        }
    }

    #[test]
    fn in_any_order_overlapping_and_repeated_across_the_roll_over() {
        let mut stream = TcpBytes::begin(u32::MAX - 1);
        push(&mut stream, 2, b"ef");
        push(&mut stream, 3, b"fgh");
        push(&mut stream, u32::MAX - 1, b"ab");
        assert_eq!(
            (stream.bytes(), stream.waiting_since()),
            (&b"ab"[..], Some(1))
        );
        push(&mut stream, u32::MAX - 1, b"XXcd");
        assert_eq!(
            (stream.bytes(), stream.waiting_since()),
            (&b"abcdefgh"[..], None)
        );
        stream.consume(3, 0);
        push(&mut stream, 5, b"hi");
        assert_eq!(stream.bytes(), b"defghi");
        assert_eq!(
            stream.position(6u32.wrapping_sub(2_000_000)),
            SegmentPosition::Elsewhere
        );
    }

    #[test]
    fn frames_are_known_until_their_bytes_are_taken_out() {
        let mut stream = TcpBytes::begin(0);
        let at = stream.start();
        let stretch = |start, end| StreamRange {
            start: at + start,
            end: at + end,
        };
        stream.note(stretch(0, 4), frame(1));
        stream.note(stretch(2, 6), frame(2));
        push(&mut stream, 0, b"abcdef");
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
        push(&mut stream, 0, b"ab");
        push(&mut stream, 9, b"xy");
        let after = stream.after_gap().unwrap();
        stream.jump(after);
        let fresh = stream.next_early().unwrap();
        assert_eq!(
            (fresh.as_slice(), stream.position(11)),
            (&b"xy"[..], SegmentPosition::Here(after + 2))
        );
    }
}
