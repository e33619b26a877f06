//! Blanks keys in the frames of SIP (`--redact-keys`).
//!
//! A key that begins in a frame is found there when the frame is written, whatever it belongs to. The
//! rest of a key that a frame does not hold as a whole, and keys that no reader of the frame sees
//! (compressed, or masked by a WebSocket), are noted when their message is complete: no frame is
//! written before that.
//!
//! The places of a message in its frames follow from their order in the stream: sequence numbers of
//! TCP, offsets of fragments. Where they contradict the content, all of the payload is blanked.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::{mute::place, records::Records};
use crate::{
    events::{Repetition, SipEvent},
    moment::{Clock, Moment, Position},
    packet::{Endpoint, Packet},
    reassembly::MAX_HOLD_NS,
    sip::keys_in,
};

/// A blanked byte.
const BLANK: u8 = b'*';

/// The most keys whose repetitions are blanked in part. A repetition of an older key is blanked only
/// where its line begins in the frame.
const MAX_RECENT: usize = 1024;

/// The least number of bytes with which a message is recognized in a frame.
const RECOGNIZED_BY: usize = 16;

/// What is to be blanked in frames that are not written yet.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Redactions {
    /// By frame: packet time, and ranges of its payload, in bytes.
    places: BTreeMap<Position, (Clock, Vec<Range<usize>>)>,
    /// The latest of them, to find them in repeated frames.
    recent: VecDeque<Key>,
    /// Messages with parts that were blanked as a whole.
    // Counted anew in each process.
    #[serde(skip)]
    pub(super) blanked: u64,
}

/// A key in a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Key {
    stream: Stream,
    /// The position of its first byte in the stream, and its length.
    start: u32,
    len: u32,
}

/// What holds the bytes of a message in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stream {
    /// One direction of a TCP connection.
    Tcp(Endpoint, Endpoint),
    /// A fragmented IP datagram.
    Fragments(Endpoint, Endpoint, u32),
    /// A whole datagram.
    Datagram,
}

/// The part of a stream that a frame holds.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    at: Moment,
    stream: Stream,
    /// The position of its first byte in the stream.
    start: u32,
    payload: &'a [u8],
}

impl<'a> Piece<'a> {
    fn of(at: Moment, packet: Packet<'a>) -> Option<Self> {
        let (stream, start, payload) = match packet {
            Packet::Udp(datagram) | Packet::Told(_, datagram) => {
                (Stream::Datagram, 0, datagram.payload)
            }
            Packet::Tcp(segment) => (
                Stream::Tcp(segment.source, segment.destination),
                segment.sequence,
                segment.payload,
            ),
            Packet::Fragment(fragment) => (
                Stream::Fragments(
                    fragment.source,
                    fragment.destination,
                    fragment.identification,
                ),
                u32::try_from(fragment.offset).ok()?,
                fragment.payload,
            ),
            _ => return None,
        };
        Some(Self {
            at,
            stream,
            start,
            payload,
        })
    }

    fn read(at: Moment, records: Records<'a>) -> Option<Self> {
        let (record, _) = records.at(at.position)?;
        Self::of(at, records.decoder.decode(record.link, record.frame))
    }

    /// The part of a stretch of the stream, which begins at `start`, in the payload.
    fn part(&self, start: u32, len: usize) -> Range<usize> {
        // Half of the number space lies before a position: RFC 9293, 3.4.
        let behind = start.wrapping_sub(self.start);
        let (from, until) = if behind < 1 << 31 {
            let from = usize::try_from(behind).unwrap_or(usize::MAX);
            (from, from.saturating_add(len))
        } else {
            let before = usize::try_from(self.start.wrapping_sub(start)).unwrap_or(usize::MAX);
            (0, len.saturating_sub(before))
        };
        from.min(self.payload.len())..until.min(self.payload.len())
    }

    /// The position in the stream at which a message begins, if it begins in this piece, and the
    /// pieces hold all of it and nothing else in its place.
    fn beginning_of(&self, message: &[u8], pieces: &[Self]) -> Option<u32> {
        let mut from = 0usize;
        loop {
            let rest = self.payload.get(from..)?;
            let known = message.get(..RECOGNIZED_BY).unwrap_or(message);
            let found = memmem::find(rest, known).or_else(|| {
                // It may begin with the last bytes of the payload.
                let last = rest.len().saturating_sub(known.len());
                (last..rest.len())
                    .find(|start| rest.get(*start..).is_some_and(|end| known.starts_with(end)))
            })?;
            let offset = from.saturating_add(found);
            let start = self.start.wrapping_add(u32::try_from(offset).ok()?);
            let held = pieces.iter().fold(0usize, |sum, piece| {
                sum.saturating_add(piece.part(start, message.len()).len())
            });
            if held >= message.len() && pieces.iter().all(|piece| piece.agrees(start, message)) {
                return Some(start);
            }
            from = offset.saturating_add(1);
        }
    }

    /// True if the piece holds the bytes of a message that begins at `start`.
    fn agrees(&self, start: u32, message: &[u8]) -> bool {
        let own = self.part(start, message.len());
        let before = self.start.wrapping_sub(start);
        let skipped = if before < 1 << 31 {
            usize::try_from(before).unwrap_or(usize::MAX)
        } else {
            0
        };
        let held = self.payload.get(own.clone()).unwrap_or_default();
        let of_message = message
            .get(skipped..skipped.saturating_add(held.len()))
            .unwrap_or_default();
        held == of_message
    }
}

impl Redactions {
    /// Notes the keys of a message, before its frames are written.
    #[cold]
    pub(super) fn note(&mut self, event: &SipEvent<'_>, records: Records<'_>) {
        let message = &event.message;
        let keys = message.keys();
        if keys.is_empty() {
            return;
        }
        let read = |at: &Moment| Piece::read(*at, records);
        let pieces: Vec<Piece<'_>> = event.frames.iter().filter_map(read).collect();
        let is_one = pieces
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a.stream == b.stream));
        let start = pieces
            .iter()
            .filter(|_| is_one)
            .find_map(|piece| piece.beginning_of(message.raw, &pieces));
        if start.is_none() || message.has_compressed_body() {
            self.blanked = self.blanked.saturating_add(1);
        }
        let Some(start) = start else {
            for piece in &pieces {
                self.add(piece.stream, piece.start, piece.payload.len(), &[*piece]);
            }
            return;
        };
        let [first, ..] = pieces.as_slice() else {
            return;
        };
        // They are found when the frame is written.
        if first.stream == Stream::Datagram && !message.has_compressed_body() {
            return;
        }
        for key in keys {
            let offset = u32::try_from(key.start).unwrap_or(u32::MAX);
            self.add(first.stream, start.wrapping_add(offset), key.len(), &pieces);
        }
    }

    /// Notes the keys in frames that repeat parts of messages.
    #[cold]
    pub(super) fn note_repetition(&mut self, repetition: &Repetition, records: Records<'_>) {
        let read = |at: &Moment| Piece::read(*at, records);
        for piece in repetition.frames.iter().filter_map(read) {
            let recent = self.recent.iter().filter(|key| key.stream == piece.stream);
            let len = |key: &Key| usize::try_from(key.len).unwrap_or(usize::MAX);
            let parts: Vec<Range<usize>> = recent
                .map(|key| piece.part(key.start, len(key)))
                .filter(|part| !part.is_empty())
                .collect();
            self.insert(piece.at, parts);
        }
    }

    fn add(&mut self, stream: Stream, start: u32, len: usize, pieces: &[Piece<'_>]) {
        for piece in pieces {
            let part = piece.part(start, len);
            if !part.is_empty() {
                self.insert(piece.at, vec![part]);
            }
        }
        if stream != Stream::Datagram {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            self.recent.push_back(Key { stream, start, len });
        }
        if self.recent.len() > MAX_RECENT {
            self.recent.pop_front();
        }
    }

    fn insert(&mut self, at: Moment, parts: Vec<Range<usize>>) {
        if !parts.is_empty() {
            let (_, known) = self
                .places
                .entry(at.position)
                .or_insert_with(|| (at.clock, Vec::new()));
            known.extend(parts);
        }
    }

    /// Forgets frames that are written by now.
    pub(super) fn forget_written(&mut self, now: Clock, lookback_ns: u64) {
        let oldest = now.saturating_sub(lookback_ns.saturating_add(MAX_HOLD_NS.saturating_mul(4)));
        self.places.retain(|_, (clock, _)| *clock >= oldest);
    }

    /// The frame without its keys; `None` if it has none.
    #[cold]
    pub(super) fn blanked(
        &self,
        at: Position,
        frame: &[u8],
        packet: Packet<'_>,
    ) -> Option<Vec<u8>> {
        let piece = Piece::of(Moment::NEVER, packet)?;
        let payload = place(frame, piece.payload)?;
        let noted = self.places.get(&at).map(|(_, parts)| parts.as_slice());
        let mut keys = keys_in(piece.payload);
        keys.extend_from_slice(noted.unwrap_or_default());
        if keys.is_empty() {
            return None;
        }
        let mut blanked = frame.to_vec();
        let payload = blanked.get_mut(payload)?;
        for key in keys {
            if let Some(key) = payload.get_mut(key) {
                key.fill(BLANK);
            }
        }
        Some(blanked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"INVITE sip:bob@example.com SIP/2.0\r\na=crypto:1 X inline:KEYKEYKEY\r\n";

    fn piece(start: u32, payload: &[u8]) -> Piece<'_> {
        Piece {
            at: Moment::NEVER,
            stream: Stream::Datagram,
            start,
            payload,
        }
    }

    #[test]
    fn a_part_of_a_stream_in_a_piece() {
        for (start, len, want) in [
            (100, 5, 0..5),
            (98, 5, 0..3),
            (90, 5, 0..0),
            (103, 5, 3..8),
            (108, 5, 8..10),
            (120, 5, 10..10),
        ] {
            assert_eq!(piece(100, &[0; 10]).part(start, len), want, "{start}");
        }
        assert_eq!(piece(u32::MAX, &[0; 10]).part(2, 5), 3..8);
        assert_eq!(piece(2, &[0; 10]).part(u32::MAX, 5), 0..2);
    }

    /// Cut at every point, with another message before it, in any order, over the end of the numbers.
    #[test]
    fn a_message_is_found_in_its_pieces() {
        let stream = [b"\r\n\r\nINVITE sip:bob", MESSAGE, b"OPTIONS"].concat();
        let begins = 18;
        for base in [0, u32::MAX - 30] {
            let position = |offset: usize| base.wrapping_add(offset as u32);
            for cut in 1..stream.len() {
                let (first, second) = stream.split_at(cut);
                let pieces = [piece(position(cut), second), piece(base, first)];
                let found = pieces
                    .iter()
                    .find_map(|piece| piece.beginning_of(MESSAGE, &pieces));
                assert_eq!(found, Some(position(begins)), "{cut}");
            }
        }
    }

    #[test]
    fn a_message_that_is_not_there_is_not_found() {
        let other = [&MESSAGE[..50], b"other"].concat();
        let pieces = [piece(0, &other)];
        assert_eq!(pieces[0].beginning_of(MESSAGE, &pieces), None);
        assert_eq!(piece(0, b"").beginning_of(MESSAGE, &[]), None);
        // The last byte alone proves nothing.
        let masked = [&[7; 100][..], b"I"].concat();
        let pieces = [piece(0, &masked)];
        assert_eq!(pieces[0].beginning_of(MESSAGE, &pieces), None);
    }
}
