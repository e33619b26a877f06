//! Indexes one chunk of records: SIP messages one by one, all other UDP packets by flow.
//!
//! This module is pure and treats every chunk alike, so chunks can be indexed in parallel. It
//! leaves open what depends on earlier chunks: packet time counts from the chunk's own beginning
//! ([`ChunkIndex::not_before`]), and the caller checks that a record really began where the chunk
//! was told to begin ([`ChunkIndex::start`]).

use std::ops::Range;

use shared::{
    index::Timing as StoredTiming,
    pcap::{Gap, Layout, LinkType, Precision, Record, Step, Walk},
    units::SipPorts,
};

use crate::{
    counts::Counts,
    events::{
        Cause, FlowBuilder, FlowKey, Flows, FragmentEvent, Frames, PayloadAt, SegmentEvent,
        SipEvent,
    },
    moment::{Clock, Moment, Pace, Position},
    packet::{self, Datagram, Decoder, Fragment, Packet, PlainMedia, TcpFlags, TcpSegment},
    sdp::Description,
    sip::{self, Body, Message},
    source::{Input, records_behind, records_of},
    timeline::{Advance, Evidence, Later, LookAhead, Stretch, Timeline},
};

/// The index of one chunk of an input.
#[derive(Debug)]
pub struct ChunkIndex<'w> {
    /// The offset of the chunk's first record.
    pub start: usize,
    /// The offset of the first record after the chunk.
    pub end: usize,
    /// The last records, which are not indexed: packet time at the first of them depends on more
    /// records.
    pub held: Vec<Record<'w>>,
    /// True when the chunk was cut short because its index would have become too large.
    pub is_full: bool,
    /// The approximate memory of the index, in bytes.
    pub memory: usize,
    /// The layouts of the file that the chunk has read.
    pub layouts: Vec<Layout>,
    /// Messages of calls and other dialogs, in capture order.
    pub sip: Vec<SipEvent<'w>>,
    /// All other UDP packets, by flow.
    pub flows: Flows,
    /// Fragments of IP datagrams.
    pub fragments: Vec<FragmentEvent<'w>>,
    /// TCP segments on ports of SIP and HEP, and segments on other ports that begin like SIP.
    pub segments: Vec<SegmentEvent<'w>>,
    /// Other TCP segments, which matter if an earlier segment has opened their connection as SIP.
    pub passed: Vec<Passed>,
    /// Parts that could not be read.
    pub gaps: Vec<Gap>,
    /// The counters of the chunk.
    pub counts: Counts,
    /// Packet time at the first record, and at the end.
    first_clock: Clock,
    last_clock: Clock,
    stretch: Stretch,
}

/// A TCP segment that was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The moment of the segment.
    pub at: Moment,
    /// The ports of its connection.
    pub ports: PortPair,
}

/// The ports of a connection in 32 bits, the lower one first. The ports alone already tell nearly
/// all connections of a capture from those that are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortPair(u32);

impl PortPair {
    /// The pair of two ports, in either order.
    #[must_use]
    #[inline]
    pub fn of(one: u16, other: u16) -> Self {
        Self(u32::from(one.min(other)) << 16 | u32::from(one.max(other)))
    }

    /// The pair as a number.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The pair with a number from [`Self::bits`].
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// A stretch of an input.
#[derive(Clone, Debug)]
pub struct Chunk<'w, 'l> {
    /// The number of the input.
    pub input: usize,
    /// The whole file.
    pub file: &'w [u8],
    /// The layout of the file where the chunk begins.
    pub layout: &'l Layout,
    /// The offsets at which records of the chunk begin; the first begins at the start.
    pub range: Range<usize>,
    /// The records that follow the input.
    pub behind: Behind<'w>,
}

/// The stored index of a segment, without its records with signalling.
#[derive(Debug)]
pub struct StoredChunk {
    /// The offsets of the first record, and behind the last.
    pub range: Range<usize>,
    /// The UDP packets that are no SIP.
    pub flows: Flows,
    /// TCP segments that were passed over.
    pub passed: Vec<Passed>,
    /// Packet time.
    pub timing: StoredTiming,
    /// The memory that the index takes, in bytes, about.
    pub memory: usize,
    /// The number of records.
    pub packets: u64,
    /// Their captured bytes.
    pub bytes: u64,
}

/// The records that follow an input: they may show that the times of its last records are wrong.
#[derive(Clone, Copy, Debug)]
pub struct Behind<'w> {
    /// The inputs that follow.
    pub inputs: &'w [Input],
    /// The time that the capture has reached behind these inputs, in nanoseconds since 1970, if
    /// known.
    pub reached_ns: Option<u64>,
    /// True when nothing follows these inputs.
    pub is_final: bool,
    /// True when records follow that nobody can see yet, and all records can wait for them.
    pub is_open: bool,
}

/// The knowledge of packet time at the start of a chunk.
#[derive(Clone, Copy, Debug)]
pub enum Timing {
    /// Packet time before the first record is known.
    Behind(Timeline),
    /// Packet time is known up to some earlier position.
    SomewhereBehind(Timeline),
    /// Packet time cannot be known: all records are held.
    Held,
}

impl<'w> ChunkIndex<'w> {
    /// Indexes the records of a chunk, until the index takes about `room` bytes of memory.
    #[must_use]
    pub fn of(
        chunk: Chunk<'w, '_>,
        timing: Timing,
        room: usize,
        decoder: &Decoder,
        ports: SipPorts,
    ) -> Self {
        let Chunk {
            input,
            file,
            layout,
            range,
            behind,
        } = chunk;
        let mut walk = layout.walk(file, range.start);
        let mut indexer = Indexer::new(input, range.len(), timing, behind, decoder, ports);
        let mut held = Vec::new();
        let mut holds = matches!(timing, Timing::Held);
        while walk.offset() < range.end && indexer.memory < room {
            match walk.next_step() {
                Some(Step::Record(record)) => {
                    holds = holds || indexer.tell_time(&record, &walk) == Advance::Undecided;
                    if holds {
                        held.push(record);
                    } else {
                        indexer.add(&record);
                    }
                }
                Some(Step::Gap(gap)) => indexer.gaps.push(gap),
                None => break,
            }
        }
        let is_full = indexer.memory >= room && walk.offset() < range.end;
        let found = indexer.finish(range.start..walk.offset(), is_full, walk.into_layouts());
        Self { held, ..found }
    }

    /// The index of a whole segment, from what was stored of it. `records` are those that carry
    /// signalling, or may, in capture order.
    #[must_use]
    pub fn of_stored(
        input: usize,
        records: impl Iterator<Item = (Clock, Record<'w>)>,
        stored: StoredChunk,
        decoder: &Decoder,
        ports: SipPorts,
    ) -> Self {
        let behind = Behind {
            inputs: &[],
            reached_ns: None,
            is_final: false,
            is_open: true,
        };
        let mut indexer = Indexer::new(input, 0, Timing::Held, behind, decoder, ports);
        for (clock, record) in records {
            indexer.stretch = Stretch::at(clock);
            indexer.add_decoded(&record, None);
        }
        let StoredChunk {
            range,
            flows,
            passed,
            timing,
            memory,
            packets,
            bytes,
        } = stored;
        indexer.stretch = Stretch::of_timing(timing);
        indexer.first_clock = Some(timing.first);
        let mut found = indexer.finish(range, false, Vec::new());
        found.counts.packets = packets;
        found.counts.bytes = bytes;
        found.counts.udp = flows.all_packets().len() as u64;
        Self {
            flows,
            passed,
            memory,
            ..found
        }
    }

    /// Packet time in the chunk, if it can be told without the records before and behind it.
    #[must_use]
    pub fn timing(&self) -> Option<StoredTiming> {
        let timing = self.stretch.to_timing()?;
        (timing.first == self.first_clock && self.gaps.is_empty()).then_some(timing)
    }

    /// The offset behind the last record that is indexed: records that are held follow.
    #[must_use]
    pub fn end_of_indexed(&self) -> usize {
        self.held.first().map_or(self.end, |record| record.offset)
    }

    /// Packet time at the end of the chunk.
    #[must_use]
    pub fn last_clock(&self) -> Clock {
        self.last_clock
    }

    /// True when packet time in the chunk is the highest timestamp, and no record lags far behind it.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        self.stretch.is_orderly()
    }

    /// True when packet time in the chunk is right if the chunk stands behind `before`.
    #[must_use]
    pub fn fits(&self, before: &Timeline) -> bool {
        self.stretch.fits(before)
    }

    /// Packet time at the end of the chunk, by the timestamps alone, if it stands behind `before`.
    #[must_use]
    pub fn timeline(&self, before: &Timeline) -> Timeline {
        self.stretch.end(before)
    }

    /// Raises packet time to at least `clock`, its value where the chunk begins. Returns packet
    /// time at the end of the chunk.
    pub fn not_before(&mut self, clock: Clock) -> Clock {
        if self.first_clock < clock {
            self.flows.not_before(clock);
            self.events_mut()
                .for_each(|moment| moment.clock = moment.clock.max(clock));
        }
        self.last_clock = self.last_clock.max(clock);
        self.last_clock
    }

    /// Advances packet time where it stands still; `every` is [`Pace::EVERY`]. [`Self::not_before`]
    /// has been called before. Returns packet time at the end of the chunk.
    pub fn keep_pace(&mut self, pace: &mut Pace, every: u64) -> Clock {
        let kept = self.kept().count();
        let mut passed = 0u64;
        while let Some(more) = pace.next_mark(kept.saturating_sub(passed), every) {
            passed = passed.saturating_add(more);
            let Some(mark) = self.kept().moment(passed) else {
                break;
            };
            if let Some(clock) = pace.mark(mark.clock) {
                self.flows.not_before_from(mark.position, clock);
                let later = self
                    .events_mut()
                    .filter(|moment| moment.position >= mark.position);
                later.for_each(|moment| moment.clock = moment.clock.max(clock));
                self.last_clock = self.last_clock.max(clock);
            }
        }
        self.last_clock
    }

    fn kept(&self) -> KeptPackets<'_> {
        KeptPackets {
            flows: &self.flows,
            sip: &self.sip,
            fragments: &self.fragments,
            segments: &self.segments,
        }
    }

    /// The moments of all events except packets of flows.
    fn events_mut(&mut self) -> impl Iterator<Item = &mut Moment> {
        let of_sip = self
            .sip
            .iter_mut()
            .map(|event| (&mut event.at, &mut event.frames));
        let of_fragments = self
            .fragments
            .iter_mut()
            .map(|event| (&mut event.at, &mut event.frames));
        let of_segments = self
            .segments
            .iter_mut()
            .map(|event| (&mut event.at, &mut event.frames));
        let events = of_sip
            .chain(of_fragments)
            .chain(of_segments)
            .flat_map(|(at, frames)| frames.iter_mut().chain([at]));
        events.chain(self.passed.iter_mut().map(|passed| &mut passed.at))
    }
}

/// The packets that count for the pace of packet time. Passed segments do not, because they may not
/// be kept.
#[derive(Clone, Copy, Debug)]
pub struct KeptPackets<'a> {
    /// UDP packets that are no SIP.
    pub flows: &'a Flows,
    /// SIP messages.
    pub sip: &'a [SipEvent<'a>],
    /// Fragments of IP datagrams.
    pub fragments: &'a [FragmentEvent<'a>],
    /// TCP segments that may carry SIP or HEP.
    pub segments: &'a [SegmentEvent<'a>],
}

impl KeptPackets<'_> {
    /// Their number.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = [
            self.flows.all_packets().len(),
            self.sip.len(),
            self.fragments.len(),
            self.segments.len(),
        ];
        let add = |sum: u64, len: usize| sum.saturating_add(len as u64);
        counts.into_iter().fold(0, add)
    }

    /// The moment of the packet with this number; they are numbered from 1, in capture order.
    #[must_use]
    pub fn moment(&self, number: u64) -> Option<Moment> {
        let of_sip = self.sip.iter().map(|event| event.at);
        let of_fragments = self.fragments.iter().map(|event| event.at);
        let of_segments = self.segments.iter().map(|event| event.at);
        let mut moments: Vec<Moment> = self.flows.all_packets().to_vec();
        moments.extend(of_sip.chain(of_fragments).chain(of_segments));
        let place = usize::try_from(number)
            .ok()?
            .checked_sub(1)
            .filter(|place| *place < moments.len())?;
        Some(*moments.select_nth_unstable(place).1)
    }
}

/// The memory that the messages in a TCP segment take, in bytes per byte of the segment. Real
/// messages take less; the smallest possible ones take fifteen.
const MESSAGE_BYTES_A_BYTE: usize = 4;

/// The usual length of a media record, in bytes: hardly any is shorter.
const USUAL_RECORD_LEN: usize = 128;

/// The usual length of a segment of another connection, in bytes: most are full, and segments
/// without payload are not noted. Moving a list that has to grow is half the cost of noting them.
const USUAL_SEGMENT_LEN: usize = 1024;

/// True when the record can be kept by itself, as a capture of the same precision.
fn can_be_kept(record: &Record<'_>) -> bool {
    let is_exact = |ns: u64| record.precision == Precision::Nano || ns.is_multiple_of(1_000);
    let has_seconds = |ns: u64| u32::try_from(ns / 1_000_000_000).is_ok();
    record
        .timestamp_ns
        .is_some_and(|ns| is_exact(ns) && has_seconds(ns))
}

struct Indexer<'w, 'd> {
    input: usize,
    /// The memory that the index takes, in bytes.
    memory: usize,
    decoder: &'d Decoder,
    ports: SipPorts,
    behind: Behind<'w>,
    stretch: Stretch,
    look_ahead: LookAhead<'w>,
    first_clock: Option<Clock>,
    sip: Vec<SipEvent<'w>>,
    flows: FlowBuilder,
    fragments: Vec<FragmentEvent<'w>>,
    segments: Vec<SegmentEvent<'w>>,
    passed: Vec<Passed>,
    gaps: Vec<Gap>,
    counts: Counts,
}

impl<'w, 'd> Indexer<'w, 'd> {
    /// An empty index for a chunk of this length.
    fn new(
        input: usize,
        len: usize,
        timing: Timing,
        behind: Behind<'w>,
        decoder: &'d Decoder,
        ports: SipPorts,
    ) -> Self {
        let stretch = match timing {
            Timing::Behind(timeline) => Stretch::behind(timeline),
            Timing::SomewhereBehind(timeline) => Stretch::somewhere_behind(timeline),
            Timing::Held => Stretch::somewhere_behind(Timeline::default()),
        };
        let flows = FlowBuilder::with_capacity(len / USUAL_RECORD_LEN);
        Self {
            input,
            memory: 0,
            decoder,
            ports,
            behind,
            stretch,
            look_ahead: LookAhead::default(),
            first_clock: None,
            sip: Vec::new(),
            flows,
            fragments: Vec::new(),
            segments: Vec::new(),
            passed: Vec::with_capacity(len / USUAL_SEGMENT_LEN),
            gaps: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Advances packet time by a record; `walk` stands behind it.
    #[inline]
    fn tell_time(&mut self, record: &Record<'w>, walk: &Walk<'w>) -> Advance {
        let Some(timestamp_ns) = record.timestamp_ns else {
            return Advance::Steady;
        };
        let Self {
            stretch,
            look_ahead,
            input,
            behind,
            ..
        } = self;
        let evidence = || evidence(record, timestamp_ns, walk, *input, *behind, look_ahead);
        let advance = stretch.advance(timestamp_ns, evidence);
        match advance {
            Advance::Odd => increment(&mut self.counts.odd_times),
            Advance::SetBack => increment(&mut self.counts.set_back),
            Advance::Steady | Advance::Leap | Advance::Lagging | Advance::Undecided => {}
        }
        advance
    }

    #[inline]
    fn add(&mut self, record: &Record<'w>) {
        self.first_clock.get_or_insert(self.stretch.clock());
        increment(&mut self.counts.packets);
        self.counts.bytes = self.counts.bytes.saturating_add(record.frame.len() as u64);
        let plain = PlainMedia::of(record.link, record.frame);
        if let Some(media) = &plain
            && self.flows.push_plain(media, self.moment(record))
        {
            increment(&mut self.counts.udp);
            self.add_memory(FlowBuilder::PACKET_MEMORY);
            return;
        }
        self.add_decoded(record, plain);
    }

    /// Adds a record that needs decoding.
    #[inline(never)]
    fn add_decoded(&mut self, record: &Record<'w>, plain: Option<PlainMedia>) {
        let packet = self.decoder.decode(record.link, record.frame);
        // A time that a tunnel header gives goes into the rows. It does not move packet time: any
        // sender could give one, and would time out all calls.
        let timestamp_ns = packet.told_ns().or(record.timestamp_ns).unwrap_or(0);
        let counts = &mut self.counts;
        match packet {
            Packet::Udp(datagram) => {
                let payload_at = datagram.payload_at(record.frame);
                let is_media = self.add_datagram(record, timestamp_ns, &datagram, payload_at);
                if is_media && let Some(plain) = plain {
                    self.learn(plain, &datagram);
                }
            }
            Packet::Told(_, datagram) => {
                self.add_datagram(record, timestamp_ns, &datagram, None);
            }
            Packet::Tcp(segment) => self.add_segment(record, segment),
            Packet::Fragment(fragment) => self.add_fragment(record, fragment),
            Packet::Encrypted => increment(&mut counts.encrypted),
            Packet::OtherIp => increment(&mut counts.other_ip),
            Packet::NotIp => increment(&mut counts.not_ip),
            Packet::OtherKind => increment(&mut counts.other_kinds),
            Packet::OtherSession => increment(&mut counts.other_sessions),
            Packet::OtherHep => increment(&mut counts.other_hep),
            Packet::TooDeep => increment(&mut counts.too_deep),
            Packet::Unreadable => self.count_unreadable(record.link),
        }
    }

    fn count_unreadable(&mut self, link: LinkType) {
        if packet::is_supported(link) {
            increment(&mut self.counts.unreadable);
        } else {
            increment(&mut self.counts.unknown_link);
            self.counts.first_unknown_link.get_or_insert(link);
        }
    }

    fn moment(&self, record: &Record<'_>) -> Moment {
        Moment {
            clock: self.stretch.clock(),
            position: Position::new(self.input, record.offset),
        }
    }

    fn add_fragment(&mut self, record: &Record<'w>, fragment: Fragment<'w>) {
        increment(&mut self.counts.fragments);
        let at = self.moment(record);
        let timestamp_ns = record.timestamp_ns.unwrap_or(0);
        // The fragment's datagram will be put together in memory.
        self.add_memory(size_of::<FragmentEvent<'_>>().saturating_add(fragment.payload.len()));
        self.fragments.push(FragmentEvent {
            at,
            frames: Frames::from_buf([at]),
            timestamp_ns,
            fragment,
        });
    }

    fn add_segment(&mut self, record: &Record<'w>, segment: TcpSegment<'w>) {
        let at = self.moment(record);
        let may_be_hep = self.decoder.reads_hep_to(segment.destination.port());
        let is_of_use = segment.wire_len > 0 || segment.flags != TcpFlags::default();
        let Some(cause) = cause_to_follow(&segment, may_be_hep, self.ports, &mut self.counts)
        else {
            increment(&mut self.counts.other_tcp);
            if is_of_use && self.ports == SipPorts::Any {
                let ports = PortPair::of(segment.source.port(), segment.destination.port());
                self.add_memory(size_of::<Passed>());
                self.passed.push(Passed { at, ports });
            }
            return;
        };
        if is_of_use {
            let timestamp_ns = record.timestamp_ns.unwrap_or(0);
            let of_messages = segment.payload.len().saturating_mul(MESSAGE_BYTES_A_BYTE);
            self.add_memory(size_of::<SegmentEvent<'_>>().saturating_add(of_messages));
            self.segments.push(SegmentEvent {
                at,
                frames: Frames::from_buf([at]),
                timestamp_ns,
                may_be_hep,
                cause,
                segment,
            });
        }
    }

    /// Notes that frames like this need no decoding. On ports of SIP, packets that are not SIP are
    /// counted.
    fn learn(&mut self, plain: PlainMedia, datagram: &Datagram<'_>) {
        let (source, destination) = (datagram.source.port(), datagram.destination.port());
        if plain.is(datagram) && !self.ports.are_for_sip(source, destination) {
            self.flows.learn(plain);
        }
    }

    /// Adds a datagram; returns true if it is media.
    #[inline]
    fn add_datagram(
        &mut self,
        record: &Record<'w>,
        timestamp_ns: u64,
        datagram: &Datagram<'w>,
        payload_at: PayloadAt,
    ) -> bool {
        let at = self.moment(record);
        match DatagramContent::of(datagram, self.ports, &mut self.counts) {
            DatagramContent::Sip(message, descriptions) => {
                let frames = Frames::from_buf([at]);
                let of_descriptions = descriptions
                    .iter()
                    .fold(0usize, |sum, one| sum.saturating_add(one.memory()));
                // As much again for the calls, the media and the rows that follow from it.
                self.add_memory(
                    size_of::<SipEvent<'_>>()
                        .saturating_add(of_descriptions)
                        .saturating_mul(2),
                );
                let Datagram {
                    network,
                    source,
                    destination,
                    ..
                } = *datagram;
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
                false
            }
            DatagramContent::Malformed => false,
            DatagramContent::Media => {
                self.add_memory(FlowBuilder::PACKET_MEMORY);
                self.flows.push(FlowKey::of(datagram), at, payload_at);
                true
            }
        }
    }

    #[inline]
    fn add_memory(&mut self, more: usize) {
        self.memory = self.memory.saturating_add(more);
    }

    fn finish(self, range: Range<usize>, is_full: bool, layouts: Vec<Layout>) -> ChunkIndex<'w> {
        ChunkIndex {
            start: range.start,
            end: range.end,
            held: Vec::new(),
            is_full,
            memory: self.memory,
            layouts,
            sip: self.sip,
            flows: self.flows.finish(),
            fragments: self.fragments,
            segments: self.segments,
            passed: self.passed,
            gaps: self.gaps,
            counts: self.counts,
            first_clock: self.first_clock.unwrap_or(Clock::MAX),
            last_clock: self.stretch.clock(),
            stretch: self.stretch,
        }
    }
}

/// The evidence of the records behind one that leaps. If all records that are there can be kept
/// until later, a leap may wait for more of them.
#[inline(never)]
fn evidence<'w>(
    record: &Record<'w>,
    timestamp_ns: u64,
    walk: &Walk<'w>,
    input: usize,
    behind: Behind<'w>,
    look_ahead: &mut LookAhead<'w>,
) -> Evidence {
    let at = Position::new(input, record.offset);
    let told = behind.reached_ns.map(Later::Reached);
    let records = || records_behind(walk.clone(), input, behind.inputs, told);
    let evidence = look_ahead.evidence(timestamp_ns, at, records);
    let waits = || {
        if behind.is_open {
            return true;
        }
        let mut left = records_left(walk.clone(), behind.inputs);
        !behind.is_final && can_be_kept(record) && left.all(|record| can_be_kept(&record))
    };
    if evidence == Evidence::Missing && !waits() {
        return Evidence::BorneOut;
    }
    evidence
}

/// The records behind `walk`, and those of the inputs that follow.
fn records_left<'w>(walk: Walk<'w>, inputs: &'w [Input]) -> impl Iterator<Item = Record<'w>> {
    records_of(walk).chain(inputs.iter().flat_map(Input::records))
}

/// The meaning of a datagram's payload.
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived, one at a time; a box would cost each message an allocation"
)]
pub(crate) enum DatagramContent<'w> {
    /// A message, with its offers and answers.
    Sip(Message<'w>, Vec<Description>),
    /// SIP without a call identifier.
    Malformed,
    /// Anything else.
    Media,
}

impl<'w> DatagramContent<'w> {
    /// Classifies a payload, and counts it.
    #[inline]
    pub(crate) fn of(datagram: &Datagram<'w>, ports: SipPorts, counts: &mut Counts) -> Self {
        if sip::may_be_message(datagram.payload) {
            return Self::of_text(datagram, ports, counts);
        }
        Self::other(datagram, ports, counts)
    }

    /// A function of its own, so that the fast path for most packets can be inlined.
    #[inline(never)]
    fn of_text(datagram: &Datagram<'w>, ports: SipPorts, counts: &mut Counts) -> Self {
        let &Datagram {
            source,
            destination,
            ..
        } = datagram;
        let is_admitted = ports.admit(source.port(), destination.port());
        match Message::parse(readable(datagram)) {
            Some(Ok(message)) if is_admitted => {
                return Self::Sip(message, negotiated(&message, counts));
            }
            Some(Err(_)) if is_admitted => {
                increment(&mut counts.malformed_sip);
                return Self::Malformed;
            }
            Some(Ok(message)) => counts.elsewhere.note(&message, source, destination),
            Some(Err(_)) | None => {}
        }
        Self::other(datagram, ports, counts)
    }

    #[inline]
    fn other(datagram: &Datagram<'w>, ports: SipPorts, counts: &mut Counts) -> Self {
        if ports.are_for_sip(datagram.source.port(), datagram.destination.port()) {
            increment(&mut counts.not_sip);
        }
        increment(&mut counts.udp);
        Self::Media
    }
}

/// The reason to follow a segment, if there is one. SIP on ports outside the range is counted.
#[inline]
pub(crate) fn cause_to_follow(
    segment: &TcpSegment<'_>,
    may_be_hep: bool,
    ports: SipPorts,
    counts: &mut Counts,
) -> Option<Cause> {
    if may_be_hep || ports.are_for_sip(segment.source.port(), segment.destination.port()) {
        return Some(Cause::Port);
    }
    if !sip::opens_stream(segment.payload) {
        return None;
    }
    if ports == SipPorts::Any {
        return Some(Cause::Content);
    }
    if let Some(Ok(message)) = Message::parse(segment.payload) {
        counts
            .elsewhere
            .note(&message, segment.source, segment.destination);
    }
    None
}

/// Counts a message, and returns its offers and answers.
pub(crate) fn negotiated(message: &Message<'_>, counts: &mut Counts) -> Vec<Description> {
    increment(&mut counts.sip);
    if !message.can_negotiate() {
        return Vec::new();
    }
    let bodies = message.bodies();
    counts.undecodable_bodies = counts.undecodable_bodies.saturating_add(bodies.undecodable);
    let parse = |body: &Body<'_>| match body {
        Body::Description(text) => Description::parse(text),
        Body::Fragment(text) => Description::parse_fragment(text),
    };
    let descriptions: Vec<Description> = bodies.found.iter().map(parse).collect();
    for description in &descriptions {
        counts.host_names = counts.host_names.saturating_add(description.host_names);
        counts.unreadable_addresses = counts
            .unreadable_addresses
            .saturating_add(description.unreadable_addresses);
    }
    descriptions
}

/// The payload; if the snap length cut it, only its complete lines.
#[inline]
pub(crate) fn readable<'a>(datagram: &Datagram<'a>) -> &'a [u8] {
    if datagram.payload.len() < datagram.wire_len {
        sip::whole_lines(datagram.payload)
    } else {
        datagram.payload
    }
}

#[inline]
pub(crate) fn increment(count: &mut u64) {
    *count = count.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use shared::pcap::{DEFAULT_SNAPLEN, file_header, record_header};

    use super::*;

    /// A UDP frame between two hosts; `port` is its last byte.
    fn datagram(port: u8, payload: &[u8]) -> Vec<u8> {
        let len = (8 + payload.len()) as u8;
        let ip = [
            0x45,
            0,
            0,
            20 + len,
            0,
            0,
            0,
            0,
            64,
            17,
            0,
            0,
            192,
            0,
            2,
            1,
            192,
            0,
            2,
            2,
        ];
        [&ip[..], &[19, 196, 39, port, 0, len, 0, 0], payload].concat()
    }

    /// A capture in which every fourth packet is SIP, with one timestamp for all.
    fn standing_still(packets: u8) -> Vec<u8> {
        let mut file = file_header(LinkType::RAW, Precision::Micro, DEFAULT_SNAPLEN).to_vec();
        for n in 0..packets {
            let options =
                b"OPTIONS sip:a SIP/2.0\r\nCall-ID: a\r\nFrom: <sip:a>\r\nTo: <sip:b>\r\n\r\n";
            let frame = if n % 4 == 3 {
                datagram(1, options)
            } else {
                datagram(2 + n % 2, &[n; 40])
            };
            let len = frame.len() as u32;
            file.extend(record_header(7_000_000_000, Precision::Micro, len, len));
            file.extend(frame);
        }
        file
    }

    /// Packet time of all packets in capture order, if the file is indexed in chunks of `chunk_len`
    /// bytes.
    fn clocks(file: &[u8], chunk_len: usize, every: u64) -> Vec<Clock> {
        let (layout, mut start) = Layout::detect(file).unwrap();
        let (mut clock, mut pace, mut moments) = (0, Pace::default(), Vec::new());
        let mut timeline = Timeline::default();
        while start < file.len() {
            let range = start..file.len().min(start + chunk_len);
            let chunk = Chunk {
                input: 0,
                file,
                layout: &layout,
                range,
                behind: Behind {
                    inputs: &[],
                    reached_ns: None,
                    is_final: true,
                    is_open: false,
                },
            };
            let mut found = ChunkIndex::of(
                chunk,
                Timing::Behind(timeline),
                usize::MAX,
                &Decoder::default(),
                SipPorts::Range(5060, 5060),
            );
            timeline = found.timeline(&timeline);
            found.not_before(clock);
            clock = found.keep_pace(&mut pace, every);
            moments.extend_from_slice(found.flows.all_packets());
            moments.extend(
                found
                    .sip
                    .iter()
                    .inspect(|event| assert_eq!(event.frames[0], event.at))
                    .map(|event| event.at),
            );
            start = found.end;
        }
        moments.sort_by_key(|moment| moment.position);
        assert!(moments.is_sorted());
        assert_eq!(moments.last().map(|moment| moment.clock), Some(clock));
        moments.into_iter().map(|moment| moment.clock).collect()
    }

    #[test]
    fn packet_time_that_stands_still_goes_on_wherever_chunks_end() {
        let file = standing_still(40);
        let steps = |clocks: Vec<Clock>| {
            clocks
                .into_iter()
                .map(|clock| (clock - 7_000_000_000) / Pace::STEP_NS)
                .collect::<Vec<_>>()
        };
        for (every, want) in [
            // At the second mark, and at each mark after it.
            (
                5,
                (1..=40)
                    .map(|number: u64| (number / 5).saturating_sub(1))
                    .collect::<Vec<_>>(),
            ),
            (
                17,
                (1..=40)
                    .map(|number: u64| (number / 17).saturating_sub(1))
                    .collect(),
            ),
            (21, vec![0; 40]),
        ] {
            for chunk_len in [1, 90, 300, 1_000, 100_000] {
                assert_eq!(
                    steps(clocks(&file, chunk_len, every)),
                    want,
                    "{every}, {chunk_len}"
                );
            }
        }
    }
}
