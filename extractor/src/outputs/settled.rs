//! The settled part of a call's work: the frames for its file, and their contents.

use std::collections::BTreeMap;

use shared::pcap::Record;

use super::{
    mute::{self, MediaForm},
    records::Records,
    redact::Redactions,
    runs::{self, Runs},
};
use crate::{
    calls::{Call, FlowNumber, FlowTable, KnownStatements, Work},
    events::{Fragmented, PayloadAt},
    moment::{Moment, Position},
    packet::Packet,
};

/// The frames of a call that are ready to be written, and the means to read them.
pub(super) struct Settled<'a> {
    pub(super) call: &'a Call,
    pub(super) work: &'a Work,
    pub(super) flows: &'a FlowTable,
    pub(super) records: Records<'a>,
    pub(super) lookback_ns: u64,
    /// What is blanked in frames of SIP, if keys are.
    pub(super) redactions: Option<&'a Redactions>,
}

/// The reason why a frame is in a call's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The frame carries SIP.
    Sip,
    /// The frame holds or completes a packet of this flow, with the payload at this offset.
    Media(FlowNumber, PayloadAt),
    /// The frame holds a part of a packet that a later frame completes.
    Part,
}

impl<'a> Settled<'a> {
    /// The frames in capture order, each once, though several claims may include it. SIP comes
    /// first.
    pub(super) fn frames(&self) -> Vec<(Moment, Reason)> {
        let mut runs = Runs::default();
        runs.add([(self.work.frames.as_slice(), Reason::Sip)]);
        for claim in &self.work.claims {
            let parts = self
                .flows
                .parts_between(claim.flow, claim.from, claim.until);
            runs.add(parts.map(|(packets, at)| (packets, Reason::Media(claim.flow, at))));
        }
        if self.flows.has_fragmented() || !self.work.frames.is_sorted() {
            let mut frames = runs.in_sequence();
            let parts = frames
                .iter()
                .filter_map(|(packet, _)| self.flows.fragmented(*packet))
                .flat_map(|packet| &packet.earlier);
            let parts: Vec<(Moment, Reason)> = parts.map(|part| (*part, Reason::Part)).collect();
            frames.extend(parts);
            return runs::sorted(frames);
        }
        runs.merged()
    }

    /// The statements of the call's descriptions that count for a packet; `before` is the result for
    /// an earlier packet.
    #[inline]
    pub(super) fn known_at(&self, place: Moment, before: KnownStatements) -> KnownStatements {
        let horizon = place.clock.saturating_add(self.lookback_ns);
        self.call.descriptions.known_at(place, horizon, before)
    }

    /// Replaces the last fragment of a packet by its first one, which has the headers. Returns
    /// false if there is no packet: a frame may only repeat a fragment.
    pub(super) fn complete(&self, place: Moment, packet: &mut Packet<'a>) -> bool {
        let Some(fragmented) = self.flows.fragmented(place) else {
            return true;
        };
        let beginning = fragmented
            .beginning
            .and_then(|beginning| self.records.at(beginning));
        if let Some((record, _)) = beginning {
            *packet = self.decode(&record);
        }
        beginning.is_some()
    }

    /// For each frame of a fragmented packet, the position of its first fragment.
    pub(super) fn beginnings(&self, frames: &[(Moment, Reason)]) -> BTreeMap<Position, Position> {
        let mut beginnings = BTreeMap::new();
        for (packet, _) in frames {
            if let Some(Fragmented {
                earlier,
                beginning: Some(beginning),
            }) = self.flows.fragmented(*packet)
            {
                beginnings.extend(
                    earlier
                        .iter()
                        .chain([packet])
                        .map(|part| (part.position, *beginning)),
                );
            }
        }
        beginnings
    }

    /// The frame without its RTP payload; `None` if it has none. A frame that would be another packet
    /// if it were cut, such as one with a trailer that its reader needs, is muted in either form.
    #[cold]
    pub(super) fn without_sound(
        &self,
        form: MediaForm,
        at: Position,
        record: &Record<'a>,
        packet: &Packet<'a>,
        beginnings: &BTreeMap<Position, Position>,
    ) -> Option<Vec<u8>> {
        let decoder = self.records.decoder;
        let first = beginnings
            .get(&at)
            .and_then(|first| self.records.at(*first));
        let first = first.map(|(first, _)| decoder.decode(first.link, first.frame));
        let sound = mute::sound(record.frame, packet, decoder, first)?;
        if form == MediaForm::Headers {
            let cut = record.frame.get(..sound.start)?;
            if mute::are_alike(decoder, record.link, record.frame, cut) {
                return Some(cut.to_vec());
            }
        }
        let mut frame = record.frame.to_vec();
        frame.get_mut(sound)?.fill(0);
        Some(frame)
    }

    /// The frame without the keys in its SIP; `None` if it has none, or if keys are kept.
    #[inline]
    pub(super) fn without_keys(&self, at: Position, record: &Record<'a>) -> Option<Vec<u8>> {
        let packet = || self.records.decoder.decode(record.link, record.frame);
        self.redactions?.blanked(at, record.frame, packet())
    }

    /// Returns true if the frame may hold a part of a packet that has its own time.
    pub(super) fn is_part(&self, packet: &Packet<'_>) -> bool {
        match packet {
            Packet::Fragment(_) => true,
            Packet::Tcp(segment) => self
                .records
                .decoder
                .reads_hep_to(segment.destination.port()),
            _ => false,
        }
    }

    /// Decodes the packet in a frame; of a fragment, as far as the fragment allows.
    #[inline]
    pub(super) fn decode(&self, record: &Record<'a>) -> Packet<'a> {
        match self.records.decoder.decode(record.link, record.frame) {
            Packet::Fragment(fragment) => self.records.decoder.decode_beginning(&fragment),
            packet => packet,
        }
    }
}
