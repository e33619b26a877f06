//! The part of a call's work that is settled: which frames go to its file, and what they hold.

use std::collections::BTreeMap;

use shared::pcap::Record;

use super::{mute, records::Records};
use crate::{
    calls::{Call, FlowNumber, FlowTable, Work},
    events::Fragmented,
    moment::{Moment, Position},
    packet::Packet,
};

/// The frames of a call that are to be written, and all that is needed to read them.
pub(super) struct Settled<'a> {
    pub(super) call: &'a Call,
    pub(super) work: &'a Work,
    pub(super) flows: &'a FlowTable,
    pub(super) records: Records<'a>,
    pub(super) lookback_ns: u64,
}

/// Why a frame is in a call's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It carries SIP.
    Sip,
    /// It is a packet of this flow, or makes one whole.
    Media(FlowNumber),
    /// It is a part of a packet that a later frame makes whole.
    Part,
}

impl<'a> Settled<'a> {
    /// The frames in capture order, each once, though several claims may hold it.
    pub(super) fn frames(&self) -> Vec<(Moment, Reason)> {
        let mut frames: Vec<(Moment, Reason)> = self
            .work
            .frames
            .iter()
            .map(|frame| (*frame, Reason::Sip))
            .collect();
        for claim in &self.work.claims {
            for packets in self
                .flows
                .packets_between(claim.flow, claim.from, claim.until)
            {
                frames.extend(
                    packets
                        .iter()
                        .map(|packet| (*packet, Reason::Media(claim.flow))),
                );
            }
        }
        if self.flows.has_fragmented() {
            let parts = frames
                .iter()
                .filter_map(|(packet, _)| self.flows.fragmented(*packet))
                .flat_map(|packet| &packet.earlier);
            let parts: Vec<(Moment, Reason)> = parts.map(|part| (*part, Reason::Part)).collect();
            frames.extend(parts);
        }
        // Each claim is in order already: the sort merges them. It is stable: a frame that carries
        // SIP does so before all else.
        frames.sort_by_key(|(moment, _)| *moment);
        frames.dedup_by_key(|(moment, _)| *moment);
        frames
    }

    /// Replaces what the last fragment of a packet tells by what the first does. Tells whether
    /// there is a packet: a frame may only repeat a part of one.
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

    /// The place of the first fragment, for each frame of a packet in fragments.
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

    /// The frame without sound, if there is some in it.
    pub(super) fn muted(
        &self,
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
        let mut frame = record.frame.to_vec();
        frame.get_mut(sound)?.fill(0);
        Some(frame)
    }

    /// The frame may hold a part of a packet that came with its own time.
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

    /// The packet in a frame; if it is in fragments, as far as the first of them tells.
    #[inline]
    pub(super) fn decode(&self, record: &Record<'a>) -> Packet<'a> {
        match self.records.decoder.decode(record.link, record.frame) {
            Packet::Fragment(fragment) => self.records.decoder.decode_beginning(&fragment),
            packet => packet,
        }
    }
}
