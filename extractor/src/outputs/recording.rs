//! The state of an open call's outputs: its file, its streams and its statistics, without packet
//! data.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::pcap::Record;

use super::{
    buffer::GatherBuffer,
    call_file::CallFile,
    directory::Directory,
    mute::MediaForm,
    names::FileName,
    records::Records,
    settled::{Reason, Settled},
    streams::{MediaFlow, Streams},
    text::printable,
};
use crate::{
    calls::{Call, KnownStatements},
    moment::{Moment, Position},
    packet::{Endpoint, Packet},
};

/// The file of one call, and its statistics.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Recording {
    pub(super) file: CallFile,
    pub(super) streams: Streams,
    pub(super) sip_packets: u64,
    last: LastTime,
    media: MediaForm,
}

/// The time of the last frame, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum LastTime {
    /// The capture time of the frame.
    Captured(u64),
    /// The time that a HEP agent gives for the packet in it.
    Told(u64),
}

/// The number of frames that are prefetched. A call's frames are scattered over the window, so each
/// access waits for memory; prefetching takes 4 % off the time of a run.
const PREFETCH: usize = 6;

impl Recording {
    /// The recording of a call. Its file gets the format of the call's first frame.
    pub(super) fn new(
        name: FileName,
        media: MediaForm,
        call: &Call,
        records: Records<'_>,
    ) -> Option<Self> {
        let (first, _) = records.at(call.first_frame.position)?;
        Some(Self {
            file: CallFile::new(name, &first),
            streams: Streams::default(),
            sip_packets: 0,
            last: LastTime::Captured(first.timestamp_ns.unwrap_or(0)),
            media,
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
        let mut obsolete = None;
        let mut known = KnownStatements::default();
        let mut records = job.records.cursor();
        let frames = job.frames();
        let has_fragmented = job.flows.has_fragmented();
        let is_changed = self.media != MediaForm::AsCaptured;
        let beginnings = if is_changed && has_fragmented {
            job.beginnings(&frames)
        } else {
            BTreeMap::new()
        };
        self.streams.forget_flows();
        let soon = frames
            .iter()
            .skip(PREFETCH)
            .map(Some)
            .chain(std::iter::repeat(None));
        for (&(place @ Moment { clock, position }, reason), soon) in frames.iter().zip(soon) {
            if let Some((soon, _)) = soon {
                records.prefetch(soon.position);
            }
            let Some((record, layout, file)) = records.at(position) else {
                continue;
            };
            let mut packet = job.decode(&record);
            if may_have_file && let Some(classic) = self.file.admit(record.link, to, buffer)? {
                obsolete = Some(classic);
            }
            let changed = match reason {
                Reason::Sip => job.without_keys(position, &record),
                _ if is_changed => {
                    job.without_sound(self.media, position, &record, &packet, &beginnings)
                }
                _ => None,
            };
            let raw = self.file.raw(&record, layout, file);
            if may_have_file && self.file.gather(buffer, &record, raw, changed.as_deref()) {
                self.file.flush(to, buffer)?;
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
                        let flow = MediaFlow {
                            number: flow,
                            flows: job.flows,
                        };
                        self.streams.measure(
                            &packet,
                            arrival_ns,
                            flow,
                            &job.call.descriptions,
                            known,
                        );
                    }
                }
            }
        }
        self.file.flush(to, buffer)?;
        Ok(obsolete)
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
