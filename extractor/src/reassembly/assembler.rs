//! The assembler: IP fragments, then TCP segments, that the chunks of a window left unfinished, in
//! capture order.

use std::collections::HashSet;

use bumpalo::Bump;
use serde::{Deserialize, Serialize};
use shared::units::SipPorts;

use super::{
    Beginning, Belonging, Found, Handled, IpFragments, MAX_HOLD_NS, SipStreams, StreamMessage,
    ToldPacket, Whole,
};
use crate::{
    counts::{Counts, FragmentCounts, StreamCounts},
    events::{
        Cause, FlowBuilder, FlowKey, Flows, FragmentEvent, Fragmented, Frames, Repetition,
        SegmentEvent, SipEvent,
    },
    index::{self, DatagramContent, PortPair},
    moment::{Clock, Moment, Position},
    packet::{Datagram, Decoder, Fragment, Packet},
    sdp::Description,
    sip::Message,
};

/// The deepest nesting of fragments: a datagram in a tunnel may be a fragment itself.
const MAX_NESTED: u8 = 4;

/// Reassembles datagrams and messages across chunks and windows.
#[derive(Debug)]
pub struct Assembler {
    decoder: Decoder,
    ports: SipPorts,
    unfinished: Unfinished,
}

/// The datagrams and streams that are incomplete; they are carried over to the next window.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Unfinished {
    fragments: IpFragments,
    streams: SipStreams,
}

impl Unfinished {
    /// Visits the frames that the incomplete datagrams and messages may consist of.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        self.fragments.for_each_frame(visit);
        self.streams.for_each_frame(visit);
    }
}

/// The packets that were completed in one window.
#[derive(Debug, Default)]
pub struct Assembled<'a> {
    /// SIP messages, in the order of their completion.
    pub sip: Vec<SipEvent<'a>>,
    /// Frames that repeat parts of completed messages, in capture order.
    pub repetitions: Vec<Repetition>,
    /// Other packets.
    pub flows: Flows,
    /// The counters of this window.
    pub counts: Counts,
}

/// The state of the work on one window.
struct Assembly<'a> {
    arena: &'a Bump,
    sip: Vec<SipEvent<'a>>,
    repetitions: Vec<Repetition>,
    flows: FlowBuilder,
    /// TCP segments that came in IP fragments.
    segments: Vec<SegmentEvent<'a>>,
    counts: Counts,
}

impl Assembler {
    /// Returns an assembler that continues with `unfinished`.
    #[must_use]
    pub fn new(decoder: Decoder, ports: SipPorts, unfinished: Unfinished) -> Self {
        Self {
            decoder,
            ports,
            unfinished,
        }
    }

    /// The datagrams and streams that are incomplete.
    #[must_use]
    pub fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// The datagrams and streams that are incomplete, for another assembler to continue with.
    #[must_use]
    pub fn into_unfinished(self) -> Unfinished {
        self.unfinished
    }

    /// The counters of fragmented IP datagrams.
    #[must_use]
    pub fn fragment_counts(&self) -> FragmentCounts {
        self.unfinished.fragments.counts()
    }

    /// The counters of TCP connections.
    #[must_use]
    pub fn stream_counts(&self) -> StreamCounts {
        self.unfinished.streams.counts()
    }

    /// The time from which nothing can be written yet at packet time `now`, because an incomplete
    /// datagram or message may have parts there. It is never earlier than `now - MAX_HOLD_NS`, even
    /// if parts have waited for longer, because `settled` moves earlier frames to that time.
    #[must_use]
    pub fn holds_since(&self, now: Clock) -> Option<Clock> {
        let earliest = now.saturating_sub(MAX_HOLD_NS);
        let frames = [
            self.unfinished.streams.earliest_frame(),
            self.unfinished.fragments.earliest_frame(),
        ];
        frames
            .into_iter()
            .flatten()
            .map(|frame| frame.clock.max(earliest))
            .min()
    }

    /// Adds the fragments and segments of a window that ends at `end`. `fetch` returns those of the
    /// skipped segments that have the ports of followed connections. It returns them for
    /// connections that become followed in this window, too, because only the segments in capture
    /// order show whether a connection was opened before a segment. The results borrow from the
    /// window or from `arena`.
    pub fn put_together<'a>(
        &mut self,
        fragments: Vec<FragmentEvent<'a>>,
        mut segments: Vec<SegmentEvent<'a>>,
        fetch: impl FnOnce(&HashSet<PortPair>) -> Vec<SegmentEvent<'a>>,
        end: Clock,
        arena: &'a Bump,
    ) -> Assembled<'a> {
        let mut work = Assembly::new(arena);
        for event in fragments {
            self.add_beginnings(event.at.clock, &mut work);
            self.add_fragment(&event, MAX_NESTED, &mut work);
        }
        self.add_beginnings(end, &mut work);
        let in_order = segments.len();
        segments.append(&mut work.segments);
        let followed = self.followed(&segments);
        if !followed.is_empty() {
            segments.extend(fetch(&followed));
        }
        if segments.len() > in_order {
            segments.sort_by_key(|event| event.at);
        }
        let mut found = Vec::new();
        for event in &segments {
            self.unfinished.streams.handle(event, arena, &mut found);
        }
        self.unfinished.streams.expire(end, arena, &mut found);
        self.finish_window(work, found)
    }

    /// The ports of the connections that are followed because of their content, now or after these
    /// segments.
    fn followed(&self, segments: &[SegmentEvent<'_>]) -> HashSet<PortPair> {
        let opened = segments
            .iter()
            .filter(|event| event.cause == Cause::Content)
            .map(SegmentEvent::flow);
        let flows = opened.chain(self.unfinished.streams.followed());
        flows
            .map(
                |FlowKey {
                     source,
                     destination,
                     ..
                 }| PortPair::of(source.port(), destination.port()),
            )
            .collect()
    }

    /// Ends the input at `at`, and completes messages from the parts that are there.
    pub fn finish<'a>(&mut self, at: Moment, arena: &'a Bump) -> Assembled<'a> {
        let mut work = Assembly::new(arena);
        self.add_beginnings(Clock::MAX, &mut work);
        work.sip
            .iter_mut()
            .for_each(|event| event.at = event.at.min(at));
        let mut found = Vec::new();
        self.unfinished.streams.finish(at, arena, &mut found);
        self.finish_window(work, found)
    }

    fn finish_window<'a>(&self, mut work: Assembly<'a>, found: Vec<Found<'a>>) -> Assembled<'a> {
        for found in found {
            match found {
                Found::Message(message) => work.add_message(message),
                Found::Told(told) => self.add_reported(told, &mut work),
                Found::Malformed => index::increment(&mut work.counts.malformed_sip),
                Found::Repeated(repetition) => {
                    let frames = settled(&repetition.frames, repetition.at);
                    work.repetitions.push(Repetition {
                        frames,
                        ..repetition
                    });
                }
            }
        }
        work.repetitions.sort_by_key(|repetition| repetition.at);
        Assembled {
            sip: work.sip,
            repetitions: work.repetitions,
            flows: work.flows.finish(),
            counts: work.counts,
        }
    }

    /// Adds a packet that HEP over TCP reports. Media is only counted: the writer of call files
    /// does not read streams.
    fn add_reported<'a>(&self, told: ToldPacket<'a>, work: &mut Assembly<'a>) {
        let ToldPacket {
            at,
            timestamp_ns,
            frames,
            packet,
        } = told;
        let (Packet::Udp(datagram) | Packet::Told(_, datagram)) = packet else {
            let is_other = packet == Packet::OtherHep;
            index::increment(if is_other {
                &mut work.counts.other_hep
            } else {
                &mut work.counts.unreadable
            });
            return;
        };
        let mut counts = Counts::default();
        match DatagramContent::of(&datagram, self.ports, &mut counts) {
            DatagramContent::Media => return index::increment(&mut work.counts.hep_media),
            DatagramContent::Malformed => {}
            DatagramContent::Sip(message, descriptions) => {
                let told_ns = packet.told_ns();
                let (frames, timestamp_ns) =
                    (settled(&frames, at), told_ns.unwrap_or(timestamp_ns));
                let Datagram {
                    network,
                    source,
                    destination,
                    ..
                } = datagram;
                work.sip.push(SipEvent {
                    at,
                    frames,
                    timestamp_ns,
                    told_ns,
                    network,
                    source,
                    destination,
                    message,
                    descriptions,
                });
            }
        }
        work.counts.add_all(&counts);
    }

    /// Adds SIP messages whose first fragment waited in vain for the rest, up to the last whole
    /// line, as if the snap length had cut them.
    fn add_beginnings(&mut self, now: Clock, work: &mut Assembly<'_>) {
        while let Some(Beginning { at, name, mut part }) =
            self.unfinished.fragments.next_beginning(now)
        {
            let payload = work.arena.alloc_slice_copy(&part.payload);
            let packet = self.decoder.decode_ip_payload(
                name.network,
                (name.source, name.destination),
                name.protocol,
                payload,
                part.wire_len,
            );
            part.timestamp_ns = packet.told_ns().unwrap_or(part.timestamp_ns);
            let mut counts = Counts::default();
            if let Packet::Udp(datagram) | Packet::Told(_, datagram) = packet
                && let DatagramContent::Sip(message, descriptions) =
                    DatagramContent::of(&datagram, self.ports, &mut counts)
            {
                work.counts.add_all(&counts);
                let at = Moment::at(at);
                work.push_sip(at, &part, &datagram, message, descriptions);
            }
        }
    }

    fn add_fragment<'a>(
        &mut self,
        event: &FragmentEvent<'_>,
        nested_left: u8,
        work: &mut Assembly<'a>,
    ) {
        match self.unfinished.fragments.handle(event) {
            Handled::Nothing => {}
            Handled::Repeated(Belonging::Call(call_id)) => {
                let frames = settled(&event.frames, event.at);
                work.repetitions.push(Repetition {
                    at: event.at,
                    call_id,
                    frames,
                });
            }
            Handled::Repeated(Belonging::Flow(key)) => {
                work.flows
                    .push_fragmented(key, event.at, Fragmented::default());
            }
            Handled::Repeated(Belonging::Nothing) => {}
            Handled::Whole(name, whole) => {
                let belonging = self.add_whole(event, whole, nested_left, work);
                self.unfinished.fragments.remember(&name, belonging);
            }
        }
    }

    /// Adds a datagram that the fragment of `event` completed.
    fn add_whole<'a>(
        &mut self,
        event: &FragmentEvent<'_>,
        mut whole: Whole,
        nested_left: u8,
        work: &mut Assembly<'a>,
    ) -> Belonging {
        let Whole {
            timestamp_ns,
            frames,
            payload,
            wire_len,
            ..
        } = &whole;
        let payload = work.arena.alloc_slice_copy(payload);
        let Fragment {
            network,
            source,
            destination,
            protocol,
            ..
        } = event.fragment;
        let at = event.at;
        match self.decoder.decode_ip_payload(
            network,
            (source, destination),
            protocol,
            payload,
            *wire_len,
        ) {
            Packet::Udp(datagram) => return self.add_datagram(&datagram, at, &whole, work),
            Packet::Told(told_ns, datagram) => {
                whole.timestamp_ns = told_ns;
                return self.add_datagram(&datagram, at, &whole, work);
            }
            Packet::Tcp(segment) => {
                let may_be_hep = self.decoder.reads_hep_to(segment.destination.port());
                let cause =
                    index::cause_to_follow(&segment, may_be_hep, self.ports, &mut work.counts);
                if cause.is_none() {
                    index::increment(&mut work.counts.other_tcp);
                }
                let is_any = self.ports == SipPorts::Any;
                if let Some(cause) = cause.or(is_any.then_some(Cause::Connection)) {
                    let (frames, timestamp_ns) = (frames.clone(), *timestamp_ns);
                    work.segments.push(SegmentEvent {
                        at,
                        frames,
                        timestamp_ns,
                        may_be_hep,
                        cause,
                        segment,
                    });
                }
            }
            Packet::Fragment(fragment) => {
                if let Some(nested_left) = nested_left.checked_sub(1) {
                    let inner = FragmentEvent {
                        at,
                        frames: frames.clone(),
                        timestamp_ns: *timestamp_ns,
                        fragment,
                    };
                    self.add_fragment(&inner, nested_left, work);
                }
            }
            Packet::OtherSession => index::increment(&mut work.counts.other_sessions),
            Packet::OtherHep => index::increment(&mut work.counts.other_hep),
            Packet::TooDeep => index::increment(&mut work.counts.too_deep),
            Packet::Encrypted => index::increment(&mut work.counts.encrypted),
            Packet::OtherIp | Packet::NotIp | Packet::OtherKind | Packet::Unreadable => {}
        }
        Belonging::Nothing
    }

    fn add_datagram<'a>(
        &self,
        datagram: &Datagram<'a>,
        at: Moment,
        whole: &Whole,
        work: &mut Assembly<'a>,
    ) -> Belonging {
        let Whole {
            frames, beginning, ..
        } = whole;
        match DatagramContent::of(datagram, self.ports, &mut work.counts) {
            DatagramContent::Sip(message, descriptions) => {
                work.push_sip(at, whole, datagram, message, descriptions);
                Belonging::Call(message.call_id.into())
            }
            DatagramContent::Malformed => Belonging::Nothing,
            DatagramContent::Media => {
                let key = FlowKey::of(datagram);
                let mut earlier = settled(frames, at);
                earlier.retain(|frame| frame.position != at.position);
                let beginning = beginning.first().map(|frame| frame.position);
                work.flows
                    .push_fragmented(key, at, Fragmented { earlier, beginning });
                Belonging::Flow(key)
            }
        }
    }
}

impl<'a> Assembly<'a> {
    fn new(arena: &'a Bump) -> Self {
        Self {
            arena,
            sip: Vec::new(),
            repetitions: Vec::new(),
            flows: FlowBuilder::default(),
            segments: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn push_sip(
        &mut self,
        at: Moment,
        Whole {
            timestamp_ns,
            frames,
            ..
        }: &Whole,
        &Datagram {
            network,
            source,
            destination,
            ..
        }: &Datagram<'_>,
        message: Message<'a>,
        descriptions: Vec<Description>,
    ) {
        let frames = settled(frames, at);
        let timestamp_ns = *timestamp_ns;
        self.sip.push(SipEvent {
            at,
            frames,
            timestamp_ns,
            told_ns: None,
            network,
            source,
            destination,
            message,
            descriptions,
        });
    }

    fn add_message(&mut self, found: StreamMessage<'a>) {
        let StreamMessage {
            at,
            network,
            source,
            destination,
            timestamp_ns,
            frames,
            message,
        } = found;
        let frames = settled(&frames, at);
        let descriptions = index::negotiated(&message, &mut self.counts);
        self.sip.push(SipEvent {
            at,
            frames,
            timestamp_ns,
            told_ns: None,
            network,
            source,
            destination,
            message,
            descriptions,
        });
    }
}

/// The positions of the frames. A frame from before the hold time may be written already, so it
/// gets the earliest time that is not.
fn settled(frames: &[Moment], now: Moment) -> Frames {
    let earliest = now.clock.saturating_sub(MAX_HOLD_NS);
    frames
        .iter()
        .map(|frame| Moment {
            clock: frame.clock.max(earliest),
            ..*frame
        })
        .collect()
}
