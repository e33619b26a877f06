//! What is written of one call, and its figures so far.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::pcap::{
    DEFAULT_SNAPLEN, Layout, LinkType, Precision, RECORD_HEADER_LEN, Record, file_header, ng_interface, ng_packet,
    ng_section_header, record_header,
};

use super::{buffer::GatherBuffer, directory::Directory, mute, names::FileName, records::Records};
use crate::{
    calls::{Call, Descriptions, FlowNumber, FlowTable, Known, Work},
    events::{FlowKey, Fragmented, Table},
    moment::{Moment, Position},
    packet::Packet,
    report::CallCounts,
    rtp::{Header, MediaClock, Stream},
    sdp::Format,
};

/// A call with more streams than this is an attack or a mistake: the others are counted, not told apart.
const MAX_STREAMS: usize = 10_000;

/// The file of one call, and what it holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Recording {
    name: FileName,
    /// Whether its sound is left out.
    is_muted: bool,
    /// The link types of its frames, in the order in which they first came. More than one makes it a pcapng.
    links: Vec<LinkType>,
    precision: Precision,
    /// Whether a state tells of it, so that its file must be there.
    is_in_state: bool,
    /// Whether its header has been gathered, and whether it is in the directory.
    is_begun: bool,
    is_created: bool,
    /// How long it is there, in bytes.
    len: u64,
    /// Whether it was a classic pcap when the unit of work began: that one is kept until the unit is done.
    was_classic: bool,
    pub(super) sip_packets: u64,
    pub(super) rtp_packets: u64,
    pub(super) last_ns: u64,
    /// Whether that is the time with which a packet came.
    is_told: bool,
    pub(super) streams: Vec<Stream>,
    by_name: Table<(FlowKey, u32), usize>,
    /// The streams that came last in what is being written, most flows having one: flow, SSRC, number. They are compared with
    /// before `by_name` is asked, which takes five times as long.
    #[serde(skip)]
    latest: [Option<(FlowNumber, u32, usize)>; 4],
    excess_rtp_packets: u64,
}

/// A call's frames lie scattered over the window, each of them where the processor has to wait for the memory. So they are
/// asked for this many frames ahead, which takes 4 % off the time of a run.
const PREFETCH: usize = 6;

/// Why a frame is in a call's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It carries SIP.
    Sip,
    /// It is a packet of this flow, or makes one whole.
    Media(FlowNumber),
    /// It is a part of a packet that a later frame makes whole.
    Part,
}

impl Recording {
    /// The recording of a call: its file will be of the kind that the call's first frame is of.
    pub(super) fn new(name: FileName, is_muted: bool, call: &Call, records: Records<'_>) -> Option<Self> {
        let (record, _) = records.at(call.first_frame.position)?;
        Some(Self {
            name,
            is_muted,
            links: vec![record.link],
            precision: record.precision,
            is_in_state: false,
            is_begun: false,
            is_created: false,
            len: 0,
            was_classic: false,
            sip_packets: 0,
            rtp_packets: 0,
            last_ns: record.timestamp_ns.unwrap_or(0),
            is_told: false,
            streams: Vec::new(),
            by_name: Table::default(),
            latest: [None; 4],
            excess_rtp_packets: 0,
        })
    }

    /// The name of its file without the ending.
    pub(super) fn name(&self) -> &FileName {
        &self.name
    }

    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        self.name.with_ending(self.is_ng())
    }

    /// How many bytes of it are there.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The classic pcap that it was when the unit of work began, if it is one no more.
    pub(super) fn take_obsolete(&mut self) -> Option<String> {
        std::mem::take(&mut self.was_classic).then(|| self.name.with_ending(false))
    }

    /// Whether a state tells of it.
    pub(super) fn is_in_state(&self) -> bool {
        self.is_in_state
    }

    /// A state will tell of it.
    pub(super) fn note_state(&mut self) {
        self.is_in_state = true;
    }

    fn is_ng(&self) -> bool {
        self.links.len() > 1
    }

    /// Adds its figures to those of the run.
    pub(super) fn add_to(&self, counts: &mut CallCounts) {
        let lost = self.streams.iter().fold(0u64, |sum, stream| sum.saturating_add(stream.sequence.totals().lost));
        for (count, more) in [
            (&mut counts.streams, self.streams.len() as u64),
            (&mut counts.rtp_packets, self.rtp_packets),
            (&mut counts.lost_packets, lost),
            (&mut counts.excess_rtp_packets, self.excess_rtp_packets),
        ] {
            *count = count.saturating_add(more);
        }
    }

    /// Writes what is settled of the call, and takes it into its figures.
    pub(super) fn write(&mut self, files: &Directory, buffer: &mut GatherBuffer, job: &Settled<'_>) -> Result<()> {
        let mut known = Known::default();
        let mut records = job.records.cursor();
        let frames = job.frames();
        let has_fragmented = job.flows.has_fragmented();
        let beginnings = if self.is_muted && has_fragmented { job.beginnings(&frames) } else { BTreeMap::new() };
        // Flows may have got other numbers.
        self.latest = [None; 4];
        let soon = frames.iter().skip(PREFETCH).map(Some).chain(std::iter::repeat(None));
        for (&(place @ Moment { clock, position }, reason), soon) in frames.iter().zip(soon) {
            if let Some((soon, _)) = soon {
                records.prefetch(soon.position);
            }
            let Some((record, layout, file)) = records.at(position) else { continue };
            if !self.links.contains(&record.link) {
                self.add_link(files, buffer, record.link)?;
            }
            let mut packet = job.decode(&record);
            let has_sound = self.is_muted && reason != Reason::Sip;
            let muted = if has_sound { job.muted(position, &record, &packet, &beginnings) } else { None };
            let raw = self.raw(&record, layout, file);
            if self.gather(buffer, &record, raw, muted.as_deref()) {
                self.flush(files, buffer)?;
            }
            self.note_time(&record, &packet, position, job);
            match reason {
                Reason::Sip => self.sip_packets = self.sip_packets.saturating_add(1),
                Reason::Part => {}
                Reason::Media(flow) => {
                    let horizon = clock.saturating_add(job.lookback_ns);
                    known = job.call.descriptions.known_at(place, horizon, known);
                    if !has_fragmented || job.complete(place, &mut packet) {
                        let arrival_ns = packet.told_ns().or(record.timestamp_ns).unwrap_or(0);
                        let flow = MediaFlow { number: flow, flows: job.flows };
                        self.measure(&packet, arrival_ns, flow, &job.call.descriptions, known);
                    }
                }
            }
        }
        self.flush(files, buffer)
    }

    /// Makes room for frames of another link type: what is written so far becomes a pcapng.
    fn add_link(&mut self, files: &Directory, buffer: &mut GatherBuffer, link: LinkType) -> Result<()> {
        if self.is_begun && !self.is_ng() {
            self.flush(files, buffer)?;
            let (from, to) = (self.name.with_ending(false), self.name.with_ending(true));
            self.len = files.rewrite_part(&from, &to, &self.ng_head(), |record| self.ng_packet(record))?;
            self.was_classic = true;
        }
        if self.is_begun {
            buffer.push(&ng_interface(link, self.precision, DEFAULT_SNAPLEN));
        }
        self.links.push(link);
        Ok(())
    }

    /// What the file begins with.
    fn head(&self) -> Vec<u8> {
        match *self.links.as_slice() {
            [link] => file_header(link, self.precision, DEFAULT_SNAPLEN).to_vec(),
            _ => self.ng_head(),
        }
    }

    /// What a pcapng begins with.
    fn ng_head(&self) -> Vec<u8> {
        let interfaces = self.links.iter().flat_map(|link| ng_interface(*link, self.precision, DEFAULT_SNAPLEN));
        ng_section_header().into_iter().chain(interfaces).collect()
    }

    fn ng_packet(&self, record: &Record<'_>) -> Vec<u8> {
        let interface = self.links.iter().position(|link| *link == record.link).unwrap_or(0);
        let interface = u32::try_from(interface).unwrap_or(0);
        ng_packet(interface, record.timestamp_ns.unwrap_or(0), self.precision, record.frame, record.wire_len)
    }

    /// A record as it is in its file, if that is how it will be in this one.
    #[inline]
    fn raw<'a>(&self, record: &Record<'_>, layout: &Layout, file: &'a [u8]) -> Option<&'a [u8]> {
        let end = record.offset.saturating_add(RECORD_HEADER_LEN).saturating_add(record.frame.len());
        if layout.is_native(self.precision) { file.get(record.offset..end) } else { None }
    }

    /// Adds a frame to what will be written, muted if it is; tells whether that is much by now.
    #[inline]
    fn gather(&mut self, buffer: &mut GatherBuffer, record: &Record<'_>, raw: Option<&[u8]>, muted: Option<&[u8]>) -> bool {
        if !std::mem::replace(&mut self.is_begun, true) {
            buffer.push(&self.head());
        }
        if self.is_ng() {
            return buffer.push(&self.ng_packet(&Record { frame: muted.unwrap_or(record.frame), ..*record }));
        }
        match (raw, muted) {
            (Some(raw), None) => return buffer.push(raw),
            (Some(raw), Some(muted)) => {
                buffer.push(raw.get(..RECORD_HEADER_LEN).unwrap_or_default());
                return buffer.push(muted);
            }
            (None, _) => {}
        }
        let frame = muted.unwrap_or(record.frame);
        // A frame lies in memory whole, and came with a 32-bit length.
        let captured_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let timestamp_ns = record.timestamp_ns.unwrap_or(0);
        buffer.push(&record_header(timestamp_ns, self.precision, captured_len, record.wire_len));
        buffer.push(frame)
    }

    fn flush(&mut self, files: &Directory, buffer: &mut GatherBuffer) -> Result<()> {
        if !buffer.bytes().is_empty() {
            let is_first = !std::mem::replace(&mut self.is_created, true);
            files.append_part(&self.file_name(), is_first, buffer.bytes())?;
            self.len = self.len.saturating_add(buffer.bytes().len() as u64);
            buffer.clear();
        }
        Ok(())
    }

    /// The time of a packet that came with its own is in its first fragment; that of a message in a stream, the call knows. The
    /// other frames do not have a better one.
    fn note_time(&mut self, record: &Record<'_>, packet: &Packet<'_>, position: Position, job: &Settled<'_>) {
        let of_message = job.call.last_told.filter(|(last, _)| *last == position).map(|(_, told_ns)| told_ns);
        let told_ns = packet.told_ns().or(of_message);
        if told_ns.is_none() && self.is_told && job.is_part(packet) {
            return;
        }
        self.is_told = told_ns.is_some();
        self.last_ns = told_ns.or(record.timestamp_ns).unwrap_or(self.last_ns);
    }

    /// Takes a packet into the figures of its stream, if it is RTP.
    fn measure(&mut self, packet: &Packet<'_>, arrival_ns: u64, flow: MediaFlow<'_>, descriptions: &Descriptions, known: Known) {
        let (Packet::Udp(datagram) | Packet::Told(_, datagram)) = packet else { return };
        let Some(header) = Header::parse(datagram.payload, datagram.wire_len) else { return };
        let clock = || clock_of(header.payload_type, flow.key(), descriptions, known);
        match self.stream(flow, header.ssrc) {
            Some(index) => {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.push(&header, arrival_ns, known.to_bits(), clock);
                }
            }
            None if self.streams.len() < MAX_STREAMS => self.begin_stream(&header, flow, arrival_ns, clock()),
            None => {
                self.excess_rtp_packets = self.excess_rtp_packets.saturating_add(1);
                return;
            }
        }
        self.rtp_packets = self.rtp_packets.saturating_add(1);
    }

    /// The number of the stream with this name.
    fn stream(&mut self, flow: MediaFlow<'_>, ssrc: u32) -> Option<usize> {
        let is_it = |(of_flow, of_ssrc, _): &&(FlowNumber, u32, usize)| *of_ssrc == ssrc && *of_flow == flow.number;
        if let Some((_, _, index)) = self.latest.iter().flatten().find(is_it) {
            return Some(*index);
        }
        let index = *self.by_name.get(&(flow.key()?, ssrc))?;
        let [first, second, third, _] = self.latest;
        self.latest = [Some((flow.number, ssrc, index)), first, second, third];
        Some(index)
    }

    fn begin_stream(&mut self, header: &Header, flow: MediaFlow<'_>, arrival_ns: u64, clock: MediaClock) {
        let Some(key) = flow.key() else { return };
        self.by_name.insert((key, header.ssrc), self.streams.len());
        self.streams.push(Stream::new(header, key.source, key.destination, arrival_ns, clock));
    }
}

/// The flow of a packet: its number is at hand, its ends are somewhere else in memory.
#[derive(Clone, Copy)]
struct MediaFlow<'a> {
    number: FlowNumber,
    flows: &'a FlowTable,
}

impl MediaFlow<'_> {
    /// A stream is the same in whatever network it is seen: some taps see its packets with a VLAN tag and without.
    fn key(self) -> Option<FlowKey> {
        let FlowKey { source, destination, .. } = self.flows.key(self.number)?;
        Some(FlowKey::between(source, destination))
    }
}

/// What is to be written of a call.
pub(super) struct Settled<'a> {
    pub(super) call: &'a Call,
    pub(super) work: &'a Work,
    pub(super) flows: &'a FlowTable,
    pub(super) records: Records<'a>,
    pub(super) lookback_ns: u64,
}

impl<'a> Settled<'a> {
    /// The frames in capture order, each once, though several claims may hold it.
    fn frames(&self) -> Vec<(Moment, Reason)> {
        let mut frames: Vec<(Moment, Reason)> = self.work.frames.iter().map(|frame| (*frame, Reason::Sip)).collect();
        for claim in &self.work.claims {
            for packets in self.flows.packets_between(claim.flow, claim.from, claim.until) {
                frames.extend(packets.iter().map(|packet| (*packet, Reason::Media(claim.flow))));
            }
        }
        if self.flows.has_fragmented() {
            let parts = frames.iter().filter_map(|(packet, _)| self.flows.fragmented(*packet)).flat_map(|packet| &packet.earlier);
            let parts: Vec<(Moment, Reason)> = parts.map(|part| (*part, Reason::Part)).collect();
            frames.extend(parts);
        }
        // Each claim is in order already: the sort merges them. It is stable: a frame that carries SIP does so before all else.
        frames.sort_by_key(|(moment, _)| *moment);
        frames.dedup_by_key(|(moment, _)| *moment);
        frames
    }

    /// Replaces what the last fragment of a packet tells by what the first does. Tells whether there is a packet: a frame may
    /// only repeat a part of one.
    fn complete(&self, place: Moment, packet: &mut Packet<'a>) -> bool {
        let Some(fragmented) = self.flows.fragmented(place) else { return true };
        let beginning = fragmented.beginning.and_then(|beginning| self.records.at(beginning));
        if let Some((record, _)) = beginning {
            *packet = self.decode(&record);
        }
        beginning.is_some()
    }

    /// Of each frame of a packet in fragments, where the first of them is.
    fn beginnings(&self, frames: &[(Moment, Reason)]) -> BTreeMap<Position, Position> {
        let mut beginnings = BTreeMap::new();
        for (packet, _) in frames {
            if let Some(Fragmented { earlier, beginning: Some(beginning) }) = self.flows.fragmented(*packet) {
                beginnings.extend(earlier.iter().chain([packet]).map(|part| (part.position, *beginning)));
            }
        }
        beginnings
    }

    /// The frame without sound, if there is some in it.
    fn muted(
        &self,
        at: Position,
        record: &Record<'a>,
        packet: &Packet<'a>,
        beginnings: &BTreeMap<Position, Position>,
    ) -> Option<Vec<u8>> {
        let decoder = self.records.decoder;
        let first = beginnings.get(&at).and_then(|first| self.records.at(*first));
        let first = first.map(|(first, _)| decoder.decode(first.link, first.frame));
        let sound = mute::sound(record.frame, packet, decoder, first)?;
        let mut frame = record.frame.to_vec();
        frame.get_mut(sound)?.fill(0);
        Some(frame)
    }

    /// The frame may hold a part of a packet that came with its own time.
    fn is_part(&self, packet: &Packet<'_>) -> bool {
        match packet {
            Packet::Fragment(_) => true,
            Packet::Tcp(segment) => self.records.decoder.reads_hep_to(segment.destination.port()),
            _ => false,
        }
    }

    /// What a frame holds; of a packet in fragments, as far as the first of them tells.
    #[inline]
    fn decode(&self, record: &Record<'a>) -> Packet<'a> {
        match self.records.decoder.decode(record.link, record.frame) {
            Packet::Fragment(fragment) => self.records.decoder.decode_beginning(&fragment),
            packet => packet,
        }
    }
}

fn clock_of(payload_type: u8, flow: Option<FlowKey>, descriptions: &Descriptions, known: Known) -> MediaClock {
    let format = flow.and_then(|flow| descriptions.format(payload_type, flow, known));
    MediaClock { rate: format.filter(Format::is_sampled).map(|format| format.clock_rate), known: known.to_bits() }
}
