//! Access to the records of the inputs by position.

use std::{
    io::{self, Write},
    ops::Range,
};

use shared::pcap::{Layout, Native, RECORD_HEADER_LEN, Record};

use crate::{
    calls::FlowPackets,
    moment::{Moment, Position},
    packet::{Decoder, Packet},
    rtp::Header,
    source::{Inputs, Layouts, merge, prefetch, records_of, write_carried},
};

/// The records of the captures, and the means to read them.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// The mapped inputs.
    pub inputs: &'a Inputs,
    /// The layouts of the records.
    pub layouts: &'a Layouts,
    /// The decoder for the frames.
    pub decoder: &'a Decoder,
}

impl<'a> Records<'a> {
    /// The record at a position, and its layout.
    #[inline]
    pub(super) fn at(self, position: Position) -> Option<(Record<'a>, &'a Layout)> {
        let Some(input) = self.inputs.holding(position) else {
            return self.inputs.carried().get(position);
        };
        let layout = self.layouts.at(position)?;
        input.fetch_records(layout, std::iter::once(position.offset()));
        Some((input.record(layout, position.offset())?, layout))
    }

    /// Fetches the records of these frames, where parts of inputs may be missing.
    pub(super) fn fetch<T>(self, frames: &[(Moment, T)]) {
        if !self.inputs.have_holes() {
            return;
        }
        let mut positions: Vec<Position> = frames.iter().map(|(at, _)| at.position).collect();
        positions.sort_unstable();
        for positions in positions.chunk_by(|one, next| one.input() == next.input()) {
            let Some(first) = positions.first() else {
                continue;
            };
            if let Some((input, layout)) = self.inputs.holding(*first).zip(self.layouts.at(*first))
            {
                let offsets = positions.iter().map(|position| position.offset());
                input.fetch_records(layout, offsets);
            }
        }
    }

    /// The record as a merged capture has it, if several series are read: with the time at which it
    /// is read if it has none, and with the unit that its timestamp needs.
    pub(super) fn as_merged(self, record: Record<'a>, at: Moment) -> Record<'a> {
        if !self.inputs.are_merged() {
            return record;
        }
        let timestamp_ns = record.timestamp_ns.unwrap_or(at.clock);
        Record {
            timestamp_ns: Some(timestamp_ns),
            precision: merge::precision(timestamp_ns, record.precision),
            ..record
        }
    }

    /// Returns true if the packets of a flow look like RTP: at least half of a sample. Fewer than
    /// five packets prove nothing.
    #[must_use]
    pub fn are_rtp(self, left: &FlowPackets<'_>) -> bool {
        const FEWEST: u64 = 5;
        const SAMPLE: usize = 8;
        if left.count() < FEWEST {
            return false;
        }
        let mut sampled = 0usize;
        let rtp = left
            .sample(SAMPLE)
            .inspect(|_| sampled = sampled.saturating_add(1))
            .filter(|packet| self.is_rtp(*packet))
            .count();
        rtp.saturating_mul(2) >= sampled
    }

    fn is_rtp(self, packet: Moment) -> bool {
        let Some((record, _)) = self.at(packet.position) else {
            return false;
        };
        match self.decoder.decode(record.link, record.frame) {
            Packet::Udp(datagram) | Packet::Told(_, datagram) => {
                Header::parse(datagram.payload, datagram.wire_len).is_some()
            }
            _ => false,
        }
    }

    /// Copies the records that must outlive their inputs. Returns the number of bytes written.
    ///
    /// # Errors
    /// `to` cannot be written.
    pub fn carry(self, mut positions: Vec<Position>, to: &mut impl Write) -> io::Result<u64> {
        positions.sort_unstable();
        positions.dedup();
        let mut len: u64 = 0;
        let mut records = self.cursor();
        for position in positions {
            let Some((record, layout, file)) = records.at(position) else {
                continue;
            };
            let header = record.offset..record.offset.saturating_add(RECORD_HEADER_LEN);
            let raw = layout
                .is_native(record.precision)
                .then(|| file.get(header))
                .flatten();
            len = len.saturating_add(write_carried(to, position, &record, raw)? as u64);
        }
        Ok(len)
    }

    /// Visits the records between two positions in order, until `visit` returns false.
    pub fn for_each_between(
        self,
        range: Range<Position>,
        mut visit: impl FnMut(&Record<'a>) -> bool,
    ) {
        let Range { start, end } = range;
        for number in start.input()..=end.input() {
            let Some(input) = self.inputs.get(number) else {
                continue;
            };
            let from = if number == start.input() {
                start.offset()
            } else {
                input.start()
            };
            let Some(layout) = self.layouts.at(Position::new(number, from)) else {
                continue;
            };
            let records = records_of(layout.walk(input.bytes(), from));
            let mut wanted =
                records.take_while(|record| Position::new(number, record.offset) < end);
            if !wanted.all(|record| visit(&record)) {
                return;
            }
        }
    }

    pub(super) fn cursor(self) -> Cursor<'a> {
        Cursor {
            records: self,
            input: usize::MAX,
            start: 0,
            layout: None,
            native: None,
            file: &[],
        }
    }
}

/// A cursor over records. It caches the current input and layout, because a call's frames nearly
/// always lie in one input, which nearly always has one layout.
pub(super) struct Cursor<'a> {
    records: Records<'a>,
    input: usize,
    /// The offset of its first record; records before it are carried over.
    start: usize,
    layout: Option<&'a Layout>,
    /// The layout, if a call's file has the records as they are.
    native: Option<Native>,
    file: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Prefetches the record at a position.
    #[inline]
    pub(super) fn prefetch(&self, position: Position) {
        if self.input == position.input() {
            prefetch(self.file, position.offset());
        }
    }

    /// The record at a position, its layout, and its input file. Inlined by force: otherwise the
    /// call for each frame costs 2 % more instructions in total.
    #[inline(always)]
    pub(super) fn at(&mut self, position: Position) -> Option<(Record<'a>, &'a Layout, &'a [u8])> {
        if (self.input != position.input() || position.offset() < self.start)
            && !self.enter(position)
        {
            let carried = self.records.inputs.carried();
            let (record, layout) = carried.get(position)?;
            return Some((record, layout, carried.bytes()));
        }
        let layout = match self.layout {
            Some(layout) => layout,
            None => self.records.layouts.at(position)?,
        };
        Some((
            layout.record_at(self.file, position.offset())?,
            layout,
            self.file,
        ))
    }

    /// The record at a position with its header, and its timestamp in nanoseconds since 1970, if it
    /// is laid out like this. Nothing is checked that the index has checked.
    #[inline]
    pub(super) fn native_at(&self, position: Position, like: Native) -> Option<(&'a [u8], u64)> {
        let is_here = self.input == position.input() && position.offset() >= self.start;
        if is_here && self.native == Some(like) {
            like.record_at(self.file, position.offset())
        } else {
            None
        }
    }

    /// Moves to the input that holds a position; returns false if there is none.
    #[cold]
    fn enter(&mut self, position: Position) -> bool {
        let Some(input) = self.records.inputs.holding(position) else {
            return false;
        };
        (self.input, self.start) = (position.input(), input.start());
        self.layout = self.records.layouts.only(self.input);
        // A merged capture has the headers of records in its own form.
        let is_native = !self.records.inputs.are_merged();
        self.native = self.layout.and_then(Layout::native).filter(|_| is_native);
        self.file = input.bytes();
        true
    }
}
