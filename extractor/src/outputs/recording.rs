//! The state of an open call's outputs: its file, its streams and its statistics, without packet
//! data.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::pcap::{Layout, Native, RECORD_HEADER_LEN, Record};

use super::{
    buffer::GatherBuffer,
    call_file::CallFile,
    directory::Directory,
    legs::OrderFile,
    mute::MediaForm,
    names::FileName,
    records::Records,
    settled::{Reason, Settled},
    streams::{Arrived, MediaFlow, Streams},
    text::printable,
};
use crate::{
    calls::{Call, KnownStatements},
    moment::{Moment, Position},
    packet::{Endpoint, Packet, payload_behind},
};

/// The file of one call, and its statistics.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Recording {
    pub(super) file: CallFile,
    pub(super) streams: Streams,
    pub(super) sip_packets: u64,
    last: LastTime,
    pub(super) media: MediaForm,
    /// The moments of the frames in the file, if it may be a part of a conversation's file.
    pub(super) order: Option<OrderFile>,
}

/// The time of the last frame, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum LastTime {
    /// The capture time of the frame.
    Captured(u64),
    /// The time that a HEP agent gives for the packet in it.
    Told(u64),
}

/// The packets of a window that came in fragments.
struct Fragments {
    are_there: bool,
    /// For each frame of such a packet of the call, the position of its first fragment, if the
    /// call's sound is left out.
    beginnings: BTreeMap<Position, Position>,
}

impl Fragments {
    fn of(job: &Settled<'_>, frames: &[(Moment, Reason)], media: MediaForm) -> Self {
        let are_there = job.flows.has_fragmented();
        let beginnings = if media != MediaForm::AsCaptured && are_there {
            job.beginnings(frames)
        } else {
            BTreeMap::new()
        };
        Self {
            are_there,
            beginnings,
        }
    }
}

/// What writing a decoded frame needs to know, and what it finds out.
struct Decoded<'j, 'a> {
    to: &'j Directory,
    may_have_file: bool,
    job: &'j Settled<'a>,
    fragments: Fragments,
    /// The hidden file that the call's file has replaced.
    obsolete: Option<String>,
}

/// The number of frames that are prefetched. A call's frames are scattered over the window, so each
/// access waits for memory; prefetching takes 4 % off the time of a run.
const PREFETCH: usize = 6;

impl Recording {
    /// The recording of a call. Its file gets the format of the call's first frame.
    pub(super) fn new(
        name: FileName,
        media: MediaForm,
        (keeps_series, keeps_order): (bool, bool),
        call: &Call,
        records: Records<'_>,
    ) -> Option<Self> {
        let (first, _) = records.at(call.first_frame.position)?;
        let first = records.as_merged(first, call.first_frame);
        Some(Self {
            file: CallFile::new(name, &first),
            streams: Streams::new(keeps_series),
            sip_packets: 0,
            last: LastTime::Captured(first.timestamp_ns.unwrap_or(0)),
            media,
            order: keeps_order.then(|| OrderFile::of(call.number)),
        })
    }

    /// The time of the last frame, in nanoseconds since 1970.
    pub(super) fn last_ns(&self) -> u64 {
        match self.last {
            LastTime::Captured(ns) | LastTime::Told(ns) => ns,
        }
    }

    /// Adds the settled frames to the statistics, and writes them if the call `may_have_file`.
    /// Returns the name of the hidden file that the call's file has replaced, if it has.
    pub(super) fn write(
        &mut self,
        to: &Directory,
        may_have_file: bool,
        buffer: &mut GatherBuffer,
        job: &Settled<'_>,
    ) -> Result<Option<String>> {
        let mut known = KnownStatements::default();
        let mut records = job.records.cursor();
        let frames = job.frames();
        job.records.fetch(&frames);
        let fragments = Fragments::of(job, &frames, self.media);
        self.streams.forget_flows();
        let mut native = self.plain_records(&fragments);
        let mut decoded = Decoded {
            to,
            may_have_file,
            job,
            fragments,
            obsolete: None,
        };
        let soon = frames
            .iter()
            .skip(PREFETCH)
            .map(Some)
            .chain(std::iter::repeat(None));
        for (&(place, reason), soon) in frames.iter().zip(soon) {
            if let Some((soon, _)) = soon {
                records.prefetch(soon.position);
            }
            if let Reason::Media(flow, Some(payload_at)) = reason
                && let Some(native) = native
                && let Some((record, timestamp_ns)) = records.native_at(place.position, native)
            {
                if may_have_file && self.file.gather_native(buffer, record) {
                    self.file.flush(to, buffer)?;
                }
                self.last = LastTime::Captured(timestamp_ns);
                let frame = record.get(RECORD_HEADER_LEN..).unwrap_or_default();
                if let Some(payload) = payload_behind(frame, payload_at.get().into()) {
                    known = job.known_at(place, known);
                    let packet = Arrived {
                        payload,
                        wire_len: payload.len(),
                        at_ns: timestamp_ns,
                        clock: place.clock,
                    };
                    let flow = MediaFlow::new(flow, job.flows);
                    self.streams
                        .measure(packet, flow, &job.call.descriptions, known);
                }
                continue;
            }
            if let Some(at) = records.at(place.position) {
                self.write_decoded(&mut decoded, buffer, (place, reason), at, &mut known)?;
                native = self.plain_records(&decoded.fragments);
            }
        }
        self.file.flush(to, buffer)?;
        if may_have_file && let Some(order) = &mut self.order {
            let is_there = |place: &Moment| job.records.at(place.position).is_some();
            let places = frames.iter().map(|(place, _)| *place).filter(is_there);
            order.append(places, to)?;
        }
        Ok(decoded.obsolete)
    }

    /// Writes and measures a frame that must be decoded.
    #[inline(never)]
    fn write_decoded<'a>(
        &mut self,
        decoded: &mut Decoded<'_, 'a>,
        buffer: &mut GatherBuffer,
        (place, reason): (Moment, Reason),
        (record, layout, file): (Record<'a>, &'a Layout, &'a [u8]),
        known: &mut KnownStatements,
    ) -> Result<()> {
        let &mut Decoded {
            to,
            may_have_file,
            job,
            ref fragments,
            ref mut obsolete,
        } = decoded;
        let record = job.records.as_merged(record, place);
        let mut packet = job.decode(&record);
        if may_have_file && let Some(classic) = self.file.admit(record.link, to, buffer)? {
            *obsolete = Some(classic);
        }
        let changed = match reason {
            Reason::Sip => job.without_keys(place.position, &record),
            _ if self.media != MediaForm::AsCaptured => {
                let beginnings = &fragments.beginnings;
                job.without_sound(self.media, place.position, &record, &packet, beginnings)
            }
            _ => None,
        };
        let raw = self.file.raw(&record, layout, file);
        let raw = raw.filter(|_| !job.records.inputs.are_merged());
        if may_have_file && self.file.gather(buffer, &record, raw, changed.as_deref()) {
            self.file.flush(to, buffer)?;
        }
        self.note_time(&record, &packet, place.position, job);
        match reason {
            Reason::Sip => self.sip_packets = self.sip_packets.saturating_add(1),
            Reason::Part => {}
            Reason::Media(flow, _) => {
                *known = job.known_at(place, *known);
                if (!fragments.are_there || job.complete(place, &mut packet))
                    && let Packet::Udp(datagram) | Packet::Told(_, datagram) = packet
                {
                    let packet = Arrived {
                        payload: datagram.payload,
                        wire_len: datagram.wire_len,
                        at_ns: packet.told_ns().or(record.timestamp_ns).unwrap_or(0),
                        clock: place.clock,
                    };
                    let flow = MediaFlow::new(flow, job.flows);
                    self.streams
                        .measure(packet, flow, &job.call.descriptions, *known);
                }
            }
        }
        Ok(())
    }

    /// The layout of records that are copied, and measured by the bytes at the offset that the index
    /// has found: that takes a third of the instructions of decoding each frame again.
    fn plain_records(&self, fragments: &Fragments) -> Option<Native> {
        self.file
            .native()
            .filter(|_| self.media == MediaForm::AsCaptured && !fragments.are_there)
    }

    /// Logs each described endpoint that sent or received no RTP, which the user hears as one-way
    /// audio.
    pub(super) fn tell_of_silence(&self, call: &Call) {
        let call_id = printable(&call.call_id);
        for media in call.descriptions.media().filter(|media| !media.refused) {
            let Some((endpoint, _)) = media.endpoints.first() else {
                continue;
            };
            let is_of_media =
                |end: Endpoint| media.endpoints.iter().any(|(endpoint, _)| *endpoint == end);
            let streams = self.streams.all();
            if !streams.iter().any(|stream| is_of_media(stream.destination)) {
                tracing::debug!(%call_id, %endpoint, "no RTP came to an endpoint that a description gives");
            }
            if !streams.iter().any(|stream| is_of_media(stream.source)) {
                tracing::debug!(%call_id, %endpoint, "no RTP came from an endpoint that a description gives");
            }
        }
    }

    /// A packet with its own time has it in the first fragment; the time of a message in a stream
    /// comes from the call. The other frames have no better time.
    fn note_time(
        &mut self,
        record: &Record<'_>,
        packet: &Packet<'_>,
        position: Position,
        job: &Settled<'_>,
    ) {
        let of_message = job
            .call
            .last_told
            .filter(|(last, _)| *last == position)
            .map(|(_, told_ns)| told_ns);
        self.last = match packet.told_ns().or(of_message) {
            Some(told_ns) => LastTime::Told(told_ns),
            None if matches!(self.last, LastTime::Told(_)) && job.is_part(packet) => return,
            None => LastTime::Captured(record.timestamp_ns.unwrap_or(self.last_ns())),
        };
    }
}
