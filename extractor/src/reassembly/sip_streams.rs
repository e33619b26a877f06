//! SIP messages from TCP connections: plain, through a WebSocket, or reported by HEP.
//!
//! To keep in a change: the messages and their times depend on the segments and on packet time
//! only, never on window boundaries. A message is delivered with the segment that completes it.
//! After a missing segment, the bytes behind the gap are delivered exactly at the deadline,
//! whichever event notices it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::Arc,
};

use bumpalo::Bump;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::tcp_bytes::{Offset, SegmentPosition, StreamFrame, StreamRange, TcpBytes};
use crate::{
    counts::StreamCounts,
    events::{Cause, FlowKey, Frames, Repetition, SegmentEvent, Table},
    index,
    moment::{Clock, Moment, Position},
    packet::{self, Endpoint, HepUnit, Network, Packet},
    sip::{self, FrameHeader, MAX_MESSAGE_LEN, Malformed, Message, NoFrame, Opcode, SipUnit},
};

/// The wait for a missing segment: a sender retransmits a segment that was lost before the capture
/// within this time.
const GAP_TIMEOUT_NS: u64 = 2_000_000_000;
/// The memory limit for all connections together; the one that has been idle for longest is
/// evicted.
const MAX_WEIGHT: usize = 64 * 1024 * 1024;
/// The memory of a connection without buffered bytes.
const STREAM_WEIGHT: usize = 512;
/// The number of latest messages, and of latest gaps, that each direction remembers to detect
/// repetitions.
const MAX_PAST: usize = 64;
const MAX_LOST: usize = 16;
/// After this many bytes without a message, a gap in the stream is skipped without a wait.
const MAX_SEARCHED: u64 = 64 * 1024;

/// A result of a connection.
#[derive(Debug)]
pub enum Found<'a> {
    /// A message.
    Message(StreamMessage<'a>),
    /// A packet that HEP reports.
    Told(ToldPacket<'a>),
    /// SIP without Call-ID, From or To.
    Malformed,
    /// A frame that repeats part of a delivered message.
    Repeated(Repetition),
}

/// A message and its frames.
#[derive(Debug)]
pub struct StreamMessage<'a> {
    /// The time of its completion, or the end of the wait for its missing part.
    pub at: Moment,
    /// The network that it came through.
    pub network: Network,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// The timestamp of its first frame, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// All its frames, in capture order.
    pub frames: Frames,
    /// The message itself.
    pub message: Message<'a>,
}

/// A packet that HEP reports, and the frames of the report.
#[derive(Debug)]
pub struct ToldPacket<'a> {
    /// The time of its completion, or the end of the wait for its missing part.
    pub at: Moment,
    /// The timestamp of its first frame, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// All its frames, in capture order, if it is SIP.
    pub frames: Frames,
    /// The reported packet.
    pub packet: Packet<'a>,
}

/// All connections on ports of SIP and HEP, and connections on other ports that began like SIP.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SipStreams {
    streams: Table<FlowKey, TcpDirection>,
    /// The streams in the order of their last use, as `TcpDirection::used` counts it.
    by_use: BTreeMap<u64, FlowKey>,
    uses: u64,
    weight: usize,
    /// The deadlines of the waits for missing segments.
    timers: BinaryHeap<Reverse<(Clock, FlowKey)>>,
    // Each process counts from 0.
    #[serde(skip)]
    counts: StreamCounts,
}

/// One direction of a connection.
#[derive(Debug, Serialize, Deserialize)]
struct TcpDirection {
    used: u64,
    weight: usize,
    /// True when the stream is followed because of its port, whatever its content.
    is_on_port: bool,
    /// True when SIP or HEP was found in it.
    is_taken: bool,
    /// Bytes that are not SIP; they are counted once SIP is found in the stream.
    foreign_bytes: u64,
    bytes: TcpBytes,
    framer: Framer,
    /// The sequence number of its SYN.
    syn: Option<u32>,
    fin: Option<Offset>,
    armed: Option<Clock>,
    /// The latest messages: their positions and their Call-IDs.
    past: VecDeque<(StreamRange, Arc<[u8]>)>,
    /// Gaps that were given up, which a late segment may still fill.
    lost: VecDeque<StreamRange>,
    /// The frames of an incomplete WebSocket message.
    part_frames: Vec<StreamFrame>,
}

/// Finds the message boundaries in a stream.
#[derive(Debug, Serialize, Deserialize)]
struct Framer {
    mode: Mode,
    /// Bytes before this offset belong to a message with a gap, and are skipped.
    skip_to: Offset,
    /// In step, the next message cannot be complete before the stream reaches this offset.
    needed: Offset,
    /// True when the stream goes to a port of HEP.
    may_be_hep: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Mode {
    /// The next byte begins a message.
    InStep,
    /// The framer searches for a start line; this many bytes had none.
    Searching { searched: u64 },
    /// WebSocket frames, and the payload of the earlier frames of an incomplete message.
    WebSocket { parts: Option<Vec<u8>> },
    /// HEP packets; other bytes up to the next packet are skipped.
    Hep,
    /// The stream is encrypted.
    Tls,
}

/// The next step in a stream. Lengths are in bytes.
enum StreamStep {
    /// Wait for more bytes.
    Wait,
    /// Skip bytes.
    Pass(usize),
    /// Skip bytes that are not SIP.
    Foreign(usize),
    /// A frame with a part of a message.
    Part(usize),
    /// A whole message.
    Message(usize),
    /// The last frame of a message, and the text of the whole message.
    Unwrapped(usize, Vec<u8>),
    /// The last frame of a compressed message.
    Compressed(usize),
}

/// The destination of a stream's results.
struct Sink<'a, 's> {
    key: FlowKey,
    at: Moment,
    arena: &'a Bump,
    out: &'s mut Vec<Found<'a>>,
    counts: &'s mut StreamCounts,
}

impl SipStreams {
    /// The counters of the connections so far.
    #[must_use]
    pub fn counts(&self) -> StreamCounts {
        self.counts
    }

    /// Adds the next segment of the capture. The results go to `out`; a message in several segments
    /// is reassembled in `arena`.
    pub fn handle<'a>(
        &mut self,
        event: &SegmentEvent<'a>,
        arena: &'a Bump,
        out: &mut Vec<Found<'a>>,
    ) {
        let at = event.at;
        let key = event.flow();
        if event.cause == Cause::Connection && !self.follows(key) {
            return;
        }
        if event.cause == Cause::Connection {
            self.counts.followed = self.counts.followed.saturating_add(1);
        }
        self.expire(at.clock, arena, out);
        if event.segment.flags.rst {
            self.with_stream(key, at, arena, out, TcpDirection::give_up_all);
            self.with_stream(key.reversed(), at, arena, out, TcpDirection::give_up_all);
            return;
        }
        if !self.streams.contains_key(&key) {
            self.insert(key, TcpDirection::first_seen(event));
        }
        let was_tls = self.is_tls(key);
        self.with_stream(key, at, arena, out, |stream, sink| stream.push(event, sink));
        if !was_tls && self.is_tls(key) && !self.is_tls(key.reversed()) {
            self.counts.tls = self.counts.tls.saturating_add(1);
        }
        self.drop_mistaken(key);
        self.make_room(at, arena, out);
    }

    /// The streams that are followed because of their content.
    pub fn followed(&self) -> impl Iterator<Item = FlowKey> {
        let is_followed = |key: &&FlowKey| {
            self.streams
                .get(key)
                .is_some_and(|stream| !stream.is_on_port)
        };
        self.by_use.values().filter(is_followed).copied()
    }

    /// Returns true if the connection is followed because of its content, in either direction.
    fn follows(&self, key: FlowKey) -> bool {
        let is_followed = |key| {
            self.streams
                .get(&key)
                .is_some_and(|stream: &TcpDirection| !stream.is_on_port)
        };
        is_followed(key) || is_followed(key.reversed())
    }

    /// Removes a stream that began like SIP and turned out to be something else.
    fn drop_mistaken(&mut self, key: FlowKey) {
        let is_taken = |key| {
            self.streams
                .get(&key)
                .is_some_and(|stream: &TcpDirection| stream.is_taken)
        };
        let is_mistaken = self
            .streams
            .get(&key)
            .is_some_and(|stream| !stream.is_on_port && stream.framer.is_mistaken());
        if is_mistaken && !is_taken(key) && !is_taken(key.reversed()) {
            self.remove(key);
        }
    }

    /// Advances packet time to `now`: gives up the gaps whose deadline has passed.
    pub fn expire<'a>(&mut self, now: Clock, arena: &'a Bump, out: &mut Vec<Found<'a>>) {
        while let Some(&Reverse((deadline, key))) = self.timers.peek()
            && deadline <= now
        {
            self.timers.pop();
            self.with_stream(key, Moment::at(deadline), arena, out, |stream, sink| {
                stream.expire(deadline, sink);
            });
        }
    }

    /// Ends the input: gives up all gaps.
    pub fn finish<'a>(&mut self, at: Moment, arena: &'a Bump, out: &mut Vec<Found<'a>>) {
        let keys: Vec<FlowKey> = self.by_use.values().copied().collect();
        for key in keys {
            self.with_stream(key, at, arena, out, TcpDirection::give_up_all);
        }
    }

    /// The earliest frame that may be part of an incomplete message.
    pub fn earliest_frame(&self) -> Option<Moment> {
        let streams = self.by_use.values().filter_map(|key| self.streams.get(key));
        streams
            .flat_map(|stream| {
                stream
                    .part_frames
                    .iter()
                    .map(|frame| frame.moment)
                    .chain(stream.bytes.earliest_frame())
            })
            .min()
    }

    /// Visits the frames that may be parts of incomplete messages.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        for stream in self.by_use.values().filter_map(|key| self.streams.get(key)) {
            stream
                .part_frames
                .iter()
                .for_each(|frame| visit(frame.moment.position));
            stream.bytes.for_each_frame(visit);
        }
    }

    fn is_tls(&self, key: FlowKey) -> bool {
        self.streams
            .get(&key)
            .is_some_and(|stream| matches!(stream.framer.mode, Mode::Tls))
    }

    fn make_room<'a>(&mut self, at: Moment, arena: &'a Bump, out: &mut Vec<Found<'a>>) {
        while self.weight > MAX_WEIGHT
            && let Some((_, &oldest)) = self.by_use.first_key_value()
        {
            if self
                .streams
                .get(&oldest)
                .is_some_and(|stream| stream.bytes.weight() > 0)
            {
                self.counts.evicted = self.counts.evicted.saturating_add(1);
            }
            self.with_stream(oldest, at, arena, out, TcpDirection::give_up_all);
            self.remove(oldest);
        }
    }

    /// Calls `what` with a stream, if it is known, and updates its memory, its last use and its
    /// timer.
    fn with_stream<'a>(
        &mut self,
        key: FlowKey,
        at: Moment,
        arena: &'a Bump,
        out: &mut Vec<Found<'a>>,
        what: impl FnOnce(&mut TcpDirection, &mut Sink<'a, '_>),
    ) {
        let Some(mut stream) = self.remove(key) else {
            return;
        };
        what(
            &mut stream,
            &mut Sink {
                key,
                at,
                arena,
                out,
                counts: &mut self.counts,
            },
        );
        if let Some(deadline) = stream.deadline()
            && stream.armed.is_none_or(|armed| deadline < armed)
        {
            stream.armed = Some(deadline);
            self.timers.push(Reverse((deadline, key)));
        }
        self.insert(key, stream);
    }

    fn remove(&mut self, key: FlowKey) -> Option<TcpDirection> {
        let stream = self.streams.remove(&key)?;
        self.by_use.remove(&stream.used);
        self.weight = self.weight.saturating_sub(stream.weight);
        Some(stream)
    }

    fn insert(&mut self, key: FlowKey, mut stream: TcpDirection) {
        self.uses = self.uses.saturating_add(1);
        stream.used = self.uses;
        stream.weight = stream.weigh();
        self.weight = self.weight.saturating_add(stream.weight);
        self.by_use.insert(stream.used, key);
        self.streams.insert(key, stream);
    }
}

impl TcpDirection {
    fn begin(sequence: u32, mode: Mode, may_be_hep: bool) -> Self {
        Self {
            used: 0,
            weight: 0,
            is_on_port: true,
            is_taken: false,
            foreign_bytes: 0,
            bytes: TcpBytes::begin(sequence),
            framer: Framer {
                mode,
                skip_to: 0,
                needed: 0,
                may_be_hep,
            },
            syn: None,
            fin: None,
            armed: None,
            past: VecDeque::new(),
            lost: VecDeque::new(),
            part_frames: Vec::new(),
        }
    }

    /// A stream whose first segment in the capture is `event`.
    fn first_seen(event: &SegmentEvent<'_>) -> Self {
        let sequence = event.segment.sequence;
        let is_on_port = event.cause == Cause::Port;
        if event.segment.flags.syn {
            let begun = Self::begin(sequence.wrapping_add(1), Mode::InStep, event.may_be_hep);
            Self {
                syn: Some(sequence),
                is_on_port,
                ..begun
            }
        } else {
            Self {
                is_on_port,
                ..Self::begin_inside(sequence, event.may_be_hep)
            }
        }
    }

    /// A stream that was open before the capture: segments from before may still arrive.
    fn begin_inside(sequence: u32, may_be_hep: bool) -> Self {
        let mut stream = Self::begin(sequence, Mode::Searching { searched: 0 }, may_be_hep);
        stream.lost.push_back(StreamRange {
            start: 0,
            end: stream.bytes.start(),
        });
        stream
    }

    fn weigh(&self) -> usize {
        let past = self.past.iter().fold(0, |sum: usize, (_, call_id)| {
            sum.saturating_add(call_id.len()).saturating_add(48)
        });
        let parts = match &self.framer.mode {
            Mode::WebSocket { parts: Some(parts) } => parts.len(),
            _ => 0,
        };
        let frames = self
            .part_frames
            .len()
            .saturating_mul(size_of::<StreamFrame>());
        [self.bytes.weight(), past, parts, frames]
            .iter()
            .fold(STREAM_WEIGHT, |sum, part| sum.saturating_add(*part))
    }

    /// The deadline of the wait for a missing segment.
    fn deadline(&self) -> Option<Clock> {
        self.bytes
            .waiting_since()
            .map(|since| since.saturating_add(GAP_TIMEOUT_NS))
    }

    fn push<'a>(&mut self, event: &SegmentEvent<'a>, sink: &mut Sink<'a, '_>) {
        let segment = &event.segment;
        let sequence = if segment.flags.syn {
            segment.sequence.wrapping_add(1)
        } else {
            segment.sequence
        };
        if segment.flags.syn {
            self.handle_syn(segment.sequence, sink);
        }
        let start = self.locate(sequence, sink);
        let stretch = StreamRange {
            start,
            end: start.saturating_add(segment.wire_len as u64),
        };
        if is_keepalive(stretch, self.bytes.end()) {
            return;
        }
        self.repeat(stretch, event, sink);
        let captured = StreamRange {
            start,
            end: start.saturating_add(segment.payload.len() as u64),
        };
        for frame in frames_of(event) {
            self.bytes.note(captured, frame);
        }
        self.salvage(stretch, event, sink);
        self.read_segment(stretch, segment.payload, event.at.clock, sink);
        if segment.flags.fin {
            self.fin = Some(stretch.end);
        }
        if self.fin.is_some_and(|fin| fin <= self.bytes.end()) {
            self.finish(sink);
        }
    }

    /// A SYN opens a new connection with the same addresses, unless it is a retransmission or
    /// arrives late.
    fn handle_syn(&mut self, sequence: u32, sink: &mut Sink<'_, '_>) {
        let first = sequence.wrapping_add(1);
        let is_behind = || matches!(self.bytes.position(first), SegmentPosition::Here(offset) if offset <= self.bytes.end());
        let is_late = self.syn.is_none() && is_behind();
        if self.syn != Some(sequence) && !is_late {
            self.begin_again(
                Self::begin(first, Mode::InStep, self.framer.may_be_hep),
                sink,
            );
        }
        self.syn = Some(sequence);
    }

    fn begin_again(&mut self, again: Self, sink: &mut Sink<'_, '_>) {
        self.give_up_all(sink);
        *self = Self {
            is_on_port: self.is_on_port,
            ..again
        };
    }

    fn locate(&mut self, sequence: u32, sink: &mut Sink<'_, '_>) -> Offset {
        match self.bytes.position(sequence) {
            SegmentPosition::Here(offset) => offset,
            SegmentPosition::Elsewhere => {
                self.begin_again(Self::begin_inside(sequence, self.framer.may_be_hep), sink);
                self.bytes.start()
            }
        }
    }

    /// Reports a segment that repeats bytes of delivered messages.
    fn repeat(&self, stretch: StreamRange, event: &SegmentEvent<'_>, sink: &mut Sink<'_, '_>) {
        let mut call_ids: SmallVec<[&Arc<[u8]>; 4]> = SmallVec::new();
        for (_, call_id) in self.past.iter().filter(|(past, _)| past.overlaps(stretch)) {
            if !call_ids.contains(&call_id) {
                call_ids.push(call_id);
            }
        }
        for call_id in call_ids {
            let frames = event.frames.clone();
            sink.out.push(Found::Repeated(Repetition {
                at: sink.at,
                call_id: Arc::clone(call_id),
                frames,
            }));
        }
    }

    fn read_segment<'a>(
        &mut self,
        stretch: StreamRange,
        payload: &'a [u8],
        now: Clock,
        sink: &mut Sink<'a, '_>,
    ) {
        if self.framer.skips_gaps() && stretch.start > self.bytes.end() {
            self.bytes.jump(stretch.start);
        }
        let snapped = stretch
            .end
            .saturating_sub(stretch.start)
            .saturating_sub(payload.len() as u64);
        let fresh = self.bytes.push(stretch.start, payload, snapped, now);
        if fresh.is_empty() {
            // All bytes were there before.
        } else if self.bytes.bytes().is_empty() {
            self.read(Some(fresh), sink);
        } else {
            self.bytes.append(fresh);
            self.read(None, sink);
        }
        self.read_early(sink);
        while self.bytes.is_gap_final() {
            self.give_up_gap(sink);
        }
    }

    fn read_early(&mut self, sink: &mut Sink<'_, '_>) {
        while let Some(bytes) = self.bytes.next_early() {
            self.bytes.append(&bytes);
            self.read(None, sink);
        }
    }

    /// Reads the bytes that are in order: from the segment itself if nothing is buffered before it,
    /// else from the buffer.
    fn read<'a>(&mut self, segment: Option<&'a [u8]>, sink: &mut Sink<'a, '_>) {
        let mut used = 0usize;
        loop {
            if !self.framer.has_parts() {
                self.part_frames.clear();
            }
            let rest = segment
                .unwrap_or(self.bytes.bytes())
                .get(used..)
                .unwrap_or_default();
            let base = self.bytes.start().saturating_add(used as u64);
            let stretch = |len: usize| StreamRange {
                start: base,
                end: base.saturating_add(len as u64),
            };
            let len = match self.framer.next_step(rest, base) {
                StreamStep::Wait => break,
                StreamStep::Pass(len) => len,
                StreamStep::Foreign(len) => {
                    self.foreign_bytes = self.foreign_bytes.saturating_add(len as u64);
                    len
                }
                StreamStep::Part(len) => {
                    self.part_frames.extend(self.bytes.frames_of(stretch(len)));
                    len
                }
                StreamStep::Message(len) => {
                    let text = match segment {
                        Some(segment) => segment
                            .get(used..used.saturating_add(len))
                            .unwrap_or_default(),
                        None => sink
                            .arena
                            .alloc_slice_copy(rest.get(..len).unwrap_or_default()),
                    };
                    self.deliver(stretch(len), text, sink);
                    len
                }
                StreamStep::Unwrapped(len, text) => {
                    self.deliver(stretch(len), sink.arena.alloc_slice_copy(&text), sink);
                    len
                }
                StreamStep::Compressed(len) => {
                    sink.counts.compressed = sink.counts.compressed.saturating_add(1);
                    len
                }
            };
            used = used.saturating_add(len);
        }
        if self.is_taken {
            sink.counts.foreign_bytes = sink
                .counts
                .foreign_bytes
                .saturating_add(std::mem::take(&mut self.foreign_bytes));
        }
        match segment {
            Some(segment) => {
                self.bytes.consume(0, used);
                self.bytes.append(segment.get(used..).unwrap_or_default());
            }
            None => self.bytes.consume(used, 0),
        }
    }

    /// Delivers the message at a stretch of the stream.
    fn deliver<'a>(&mut self, stretch: StreamRange, text: &'a [u8], sink: &mut Sink<'a, '_>) {
        if self.framer.is_hep() {
            return self.deliver_reported(stretch, text, sink);
        }
        let earlier = std::mem::take(&mut self.part_frames);
        let message = Message::parse(text);
        self.is_taken |= message.is_some();
        match message {
            Some(Ok(message)) => {
                let of_parts =
                    earlier
                        .into_iter()
                        .chain(self.bytes.give(stretch, sink.at, message.call_id));
                let mut frames: Vec<StreamFrame> = of_parts.collect();
                frames.sort_by_key(|frame| frame.moment);
                frames.dedup_by_key(|frame| frame.moment);
                sink.message(message, &frames);
                self.remember(stretch, &message);
            }
            Some(Err(Malformed)) => sink.out.push(Found::Malformed),
            None => {}
        }
    }

    /// Delivers the packet that HEP reports at a stretch of the stream.
    fn deliver_reported<'a>(
        &mut self,
        stretch: StreamRange,
        hep: &'a [u8],
        sink: &mut Sink<'a, '_>,
    ) {
        let wire_len = stretch.end.saturating_sub(stretch.start);
        let Some(packet) = packet::read_hep(hep, usize::try_from(wire_len).unwrap_or(usize::MAX))
        else {
            return;
        };
        self.is_taken = true;
        let mut frames = Vec::new();
        if let Packet::Udp(datagram) | Packet::Told(_, datagram) = &packet
            && let Some(Ok(message)) = Message::parse(index::readable(datagram))
        {
            frames = self.bytes.give(stretch, sink.at, message.call_id);
            self.remember(stretch, &message);
        }
        sink.told(packet, &frames);
    }

    fn remember(&mut self, stretch: StreamRange, message: &Message<'_>) {
        let known = self
            .past
            .iter()
            .rev()
            .find(|(_, call_id)| **call_id == *message.call_id);
        let call_id = known.map_or_else(
            || message.call_id.into(),
            |(_, call_id)| Arc::clone(call_id),
        );
        self.past.push_back((stretch, call_id));
        if self.past.len() > MAX_PAST {
            self.past.pop_front();
        }
    }

    /// Delivers the messages that lie whole in a segment that fills a gap which was given up.
    fn salvage<'a>(
        &mut self,
        stretch: StreamRange,
        event: &SegmentEvent<'a>,
        sink: &mut Sink<'a, '_>,
    ) {
        let is_known = |at: Offset| {
            self.past
                .iter()
                .any(|(past, _)| past.start <= at && at < past.end)
        };
        if !self.lost.iter().any(|lost| lost.overlaps(stretch))
            || is_known(stretch.start)
            || self.framer.is_hep()
        {
            return;
        }
        let frames: Vec<StreamFrame> = frames_of(event).collect();
        let mut used = 0usize;
        while let Some(rest) = event.segment.payload.get(used..)
            && let Ok(start) = sip::find_start(rest)
            && let SipUnit::Message(len) =
                SipUnit::at_start_of(rest.get(start..).unwrap_or_default())
        {
            let begin = used.saturating_add(start);
            used = begin.saturating_add(len);
            let at = |used: usize| stretch.start.saturating_add(used as u64);
            let of_message = StreamRange {
                start: at(begin),
                end: at(used),
            };
            let is_lost = self.lost.iter().any(|lost| lost.overlaps(of_message));
            if is_lost
                && let Some(Ok(message)) = event
                    .segment
                    .payload
                    .get(begin..used)
                    .and_then(Message::parse)
            {
                sink.message(message, &frames);
                self.is_taken = true;
                self.remember(of_message, &message);
            }
        }
    }

    fn expire(&mut self, deadline: Clock, sink: &mut Sink<'_, '_>) {
        if self.armed != Some(deadline) {
            return;
        }
        self.armed = None;
        while self.deadline().is_some_and(|of_gap| of_gap <= deadline) {
            self.give_up_gap(sink);
        }
    }

    /// Gives up the first gap and continues behind it.
    fn give_up_gap(&mut self, sink: &mut Sink<'_, '_>) {
        let Some(after) = self.bytes.after_gap() else {
            return;
        };
        sink.counts.gaps = sink.counts.gaps.saturating_add(1);
        self.lost.push_back(StreamRange {
            start: self.bytes.end(),
            end: after,
        });
        if self.lost.len() > MAX_LOST {
            self.lost.pop_front();
        }
        self.deliver_unfinished(sink);
        self.bytes.jump(after);
        self.framer.jump(after);
        self.read_early(sink);
    }

    /// Gives up all gaps.
    fn give_up_all(&mut self, sink: &mut Sink<'_, '_>) {
        while self.bytes.after_gap().is_some() {
            self.give_up_gap(sink);
        }
        self.finish(sink);
    }

    /// Ends the stream after the bytes that are there.
    fn finish(&mut self, sink: &mut Sink<'_, '_>) {
        self.deliver_unfinished(sink);
        let end = self.bytes.end();
        self.bytes.jump(end);
        self.framer.jump(end);
        self.fin = None;
    }

    /// Delivers a message whose end is missing, up to its last whole line, and remembers its full
    /// length.
    fn deliver_unfinished(&mut self, sink: &mut Sink<'_, '_>) {
        let Some((text, len)) = self.framer.unfinished(self.bytes.bytes()) else {
            return;
        };
        let start = self.bytes.start();
        let end = start.saturating_add(len.unwrap_or(self.bytes.bytes().len()) as u64);
        if len.is_some() {
            self.framer.skip_to = end;
        }
        let text = if self.framer.is_hep() {
            &text
        } else {
            sip::whole_lines(&text)
        };
        if self.framer.is_hep() || matches!(Message::parse(text), Some(Ok(_))) {
            self.deliver(
                StreamRange { start, end },
                sink.arena.alloc_slice_copy(text),
                sink,
            );
        }
        self.part_frames.clear();
    }
}

fn frames_of(event: &SegmentEvent<'_>) -> impl Iterator<Item = StreamFrame> {
    event.frames.iter().map(|moment| StreamFrame {
        moment: *moment,
        timestamp_ns: event.timestamp_ns,
    })
}

/// RFC 1122, 4.2.3.6: at most one byte, which has been acknowledged already.
fn is_keepalive(stretch: StreamRange, end: Offset) -> bool {
    let len = stretch.end.saturating_sub(stretch.start);
    len <= 1 && stretch.start.saturating_add(1) == end
}

impl<'a> Sink<'a, '_> {
    fn message(&mut self, message: Message<'a>, frames: &[StreamFrame]) {
        let timestamp_ns = frames.first().map_or(0, |frame| frame.timestamp_ns);
        let frames = frames.iter().map(|frame| frame.moment).collect();
        let Self {
            at,
            key:
                FlowKey {
                    network,
                    source,
                    destination,
                },
            ..
        } = *self;
        self.out.push(Found::Message(StreamMessage {
            at,
            network,
            source,
            destination,
            timestamp_ns,
            frames,
            message,
        }));
    }

    fn told(&mut self, packet: Packet<'a>, frames: &[StreamFrame]) {
        let timestamp_ns = frames.first().map_or(0, |frame| frame.timestamp_ns);
        let frames = frames.iter().map(|frame| frame.moment).collect();
        self.out.push(Found::Told(ToldPacket {
            at: self.at,
            timestamp_ns,
            frames,
            packet,
        }));
    }
}

impl Framer {
    /// Returns true if a wait for a missing segment would be useless.
    fn skips_gaps(&self) -> bool {
        match self.mode {
            Mode::Searching { searched } => searched > MAX_SEARCHED,
            Mode::Tls => true,
            Mode::InStep | Mode::WebSocket { .. } | Mode::Hep => false,
        }
    }

    /// Returns true if the stream is not SIP.
    fn is_mistaken(&self) -> bool {
        match self.mode {
            Mode::Searching { searched } => searched > 0,
            Mode::Tls => true,
            Mode::InStep | Mode::WebSocket { .. } | Mode::Hep => false,
        }
    }

    fn is_hep(&self) -> bool {
        matches!(self.mode, Mode::Hep)
    }

    /// Returns true if an earlier WebSocket frame has begun a message.
    fn has_parts(&self) -> bool {
        matches!(self.mode, Mode::WebSocket { parts: Some(_) })
    }

    /// Continues at `offset`, after a gap.
    fn jump(&mut self, offset: Offset) {
        self.needed = 0;
        if let Mode::WebSocket { parts } = &mut self.mode {
            *parts = None;
        }
        if self.skip_to < offset && matches!(self.mode, Mode::InStep | Mode::WebSocket { .. }) {
            self.mode = Mode::Searching { searched: 0 };
        }
    }

    /// The next step for `rest`, which lies at `base` in the stream.
    fn next_step(&mut self, rest: &[u8], base: Offset) -> StreamStep {
        if rest.is_empty() {
            return StreamStep::Wait;
        }
        if let Some(skipped) = self
            .skip_to
            .checked_sub(base)
            .filter(|skipped| *skipped > 0)
        {
            return StreamStep::Pass(
                rest.len()
                    .min(usize::try_from(skipped).unwrap_or(usize::MAX)),
            );
        }
        match &mut self.mode {
            Mode::Tls => StreamStep::Pass(rest.len()),
            Mode::InStep if base.saturating_add(rest.len() as u64) < self.needed => {
                StreamStep::Wait
            }
            Mode::InStep => self.in_step(rest, base),
            Mode::Hep => match HepUnit::at_start_of(rest) {
                HepUnit::Packet(len) => StreamStep::Message(len),
                HepUnit::Incomplete(_) => StreamStep::Wait,
                HepUnit::Foreign(len) => StreamStep::Foreign(len),
            },
            Mode::Searching { .. } => self.searching(rest),
            Mode::WebSocket { parts } => match FrameHeader::parse(rest) {
                Ok(header) if header.len() <= rest.len() => websocket_frame(parts, &header, rest),
                Ok(_) | Err(NoFrame::Incomplete) => StreamStep::Wait,
                Err(NoFrame::Invalid) => self.out_of_step(rest.len()),
            },
        }
    }

    fn in_step(&mut self, rest: &[u8], base: Offset) -> StreamStep {
        if self.may_be_hep && packet::begins_hep(rest) {
            self.mode = Mode::Hep;
            return StreamStep::Pass(0);
        }
        match SipUnit::at_start_of(rest) {
            SipUnit::Message(len) => StreamStep::Message(len),
            SipUnit::Unbounded(header) => {
                StreamStep::Message(sip::next_start(rest, header).unwrap_or(rest.len()))
            }
            SipUnit::Blank(len) => StreamStep::Pass(len),
            SipUnit::Handshake(len) => {
                self.mode = Mode::WebSocket { parts: None };
                StreamStep::Pass(len)
            }
            SipUnit::Incomplete(needed) => {
                self.needed = base.saturating_add(needed as u64);
                StreamStep::Wait
            }
            SipUnit::Foreign(_) if is_tls(rest) => {
                self.mode = Mode::Tls;
                StreamStep::Pass(rest.len())
            }
            SipUnit::Foreign(_) if sip::begins_sip(rest) => {
                self.mode = Mode::WebSocket { parts: None };
                StreamStep::Pass(0)
            }
            SipUnit::Foreign(len) => {
                let (Ok(before_hep) | Err(before_hep)) = self.find_hep(rest);
                self.out_of_step(len.min(before_hep))
            }
        }
    }

    /// The offset of the next HEP packet, or else of bytes that may become one, on ports of HEP.
    fn find_hep(&self, rest: &[u8]) -> Result<usize, usize> {
        if self.may_be_hep {
            packet::find_hep(rest)
        } else {
            Err(rest.len())
        }
    }

    fn searching(&mut self, rest: &[u8]) -> StreamStep {
        if is_tls(rest) {
            self.mode = Mode::Tls;
            return StreamStep::Pass(rest.len());
        }
        if sip::begins_sip(rest) {
            self.mode = Mode::WebSocket { parts: None };
            return StreamStep::Pass(0);
        }
        // HEP has priority: SIP before its next packet is the rest of a packet that reports SIP.
        match (self.find_hep(rest), sip::find_start(rest)) {
            (Ok(start), _) => {
                self.mode = Mode::Hep;
                StreamStep::Foreign(start)
            }
            (Err(_), Ok(start)) => {
                self.mode = Mode::InStep;
                StreamStep::Foreign(start)
            }
            (Err(of_hep), Err(of_sip)) => self.out_of_step(of_hep.min(of_sip)),
        }
    }

    /// Skips bytes that are not SIP, and searches from there on.
    fn out_of_step(&mut self, len: usize) -> StreamStep {
        if len == 0 {
            return StreamStep::Wait;
        }
        let before = if let Mode::Searching { searched } = self.mode {
            searched
        } else {
            0
        };
        self.mode = Mode::Searching {
            searched: before.saturating_add(len as u64),
        };
        StreamStep::Foreign(len)
    }

    /// The captured part of a message whose end is missing, and the length of the whole message in
    /// the stream, if it is known.
    fn unfinished(&mut self, bytes: &[u8]) -> Option<(Vec<u8>, Option<usize>)> {
        match &mut self.mode {
            Mode::InStep => Some((bytes.to_vec(), sip::message_len(bytes))),
            Mode::WebSocket { parts } => {
                let header = FrameHeader::parse(bytes).ok();
                let mut text = parts.take().unwrap_or_default();
                if let Some(header) = header.filter(|header| header.opcode != Opcode::Control) {
                    text.extend(header.unmasked(bytes));
                }
                Some((text, header.map(|header| header.len())))
            }
            Mode::Hep => match HepUnit::at_start_of(bytes) {
                HepUnit::Incomplete(Some(len)) => Some((bytes.to_vec(), Some(len))),
                _ => None,
            },
            Mode::Searching { .. } | Mode::Tls => None,
        }
    }
}

/// RFC 6455, 5.4: a message may be in several frames, with control frames between them.
fn websocket_frame(parts: &mut Option<Vec<u8>>, header: &FrameHeader, frame: &[u8]) -> StreamStep {
    let len = header.len();
    match header.opcode {
        Opcode::Control => return StreamStep::Pass(len),
        // The first frame of the message is missing.
        Opcode::Continuation if parts.is_none() => return StreamStep::Foreign(len),
        Opcode::Continuation => {}
        Opcode::Data if header.is_extended => {
            *parts = None;
            return StreamStep::Compressed(len);
        }
        Opcode::Data => *parts = Some(Vec::new()),
    }
    let mut text = parts.take().unwrap_or_default();
    text.extend(header.unmasked(frame));
    if header.is_final {
        return StreamStep::Unwrapped(len, text);
    }
    if text.len() > MAX_MESSAGE_LEN {
        return StreamStep::Foreign(len);
    }
    *parts = Some(text);
    StreamStep::Part(len)
}

/// RFC 8446, 5.1: a content type and a version, which has been 3.x since SSL 3.0.
pub(crate) fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 3, 0..=4, ..])
}
