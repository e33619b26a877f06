//! The final values of a stream.

use crate::{
    calls::{Call, KnownStatements},
    events::FlowKey,
    problems::Hundredths,
    rtp::{Payload, Stream, Totals, mos},
    sdp::{Codec, Format},
};

/// The packet duration if no description gives one, in milliseconds.
const DEFAULT_PTIME_MS: u32 = 20;
/// The most codecs of a call that are named; calls have one to three.
const MAX_CODECS: usize = 16;

/// A stream of a call that has ended.
#[derive(Debug)]
pub(in super::super) struct StreamSummary<'a> {
    /// The stream.
    pub(in super::super) stream: &'a Stream,
    /// Its sequence numbers.
    pub(in super::super) totals: Totals,
    /// The duration of a packet, in milliseconds.
    pub(in super::super) ptime_ms: u32,
    /// The payload type of most packets.
    pub(in super::super) payload_type: Option<u8>,
    /// Its meaning.
    pub(in super::super) format: Option<Format>,
    /// The mean opinion score, 1 to 4.5.
    pub(in super::super) mos: Option<f64>,
}

impl<'a> StreamSummary<'a> {
    /// The summary of a stream.
    pub(super) fn of(call: &Call, stream: &'a Stream) -> Self {
        let totals = stream.sequence.totals();
        let key = FlowKey::between(stream.source, stream.destination);
        let ptime_ms = call.descriptions.ptime_ms(key).unwrap_or(DEFAULT_PTIME_MS);
        let format_of = |payload: &Payload| format_of(call, stream, payload);
        let payload =
            stream.payload(|payload| format_of(payload).is_some_and(|format| !format.is_sampled()));
        let format = payload.as_ref().and_then(format_of);
        // A receiver waits for a packet to be complete, and for twice the jitter, which covers
        // nearly all of it.
        let delay_ms = f64::from(ptime_ms) + 2.0 * stream.jitter.steady_mean_ms();
        Self {
            stream,
            ptime_ms,
            payload_type: payload.map(|payload| payload.payload_type),
            format,
            mos: format.and_then(|format| mos(format.codec.name(), &totals, delay_ms)),
            totals,
        }
    }

    /// Returns true if more of the expected packets are lost than this percentage.
    pub(super) fn loses_more_than(&self, percent: Hundredths) -> bool {
        percent.is_exceeded(self.totals.lost, self.totals.expected)
    }

    /// Returns true if the mean jitter is more than this, in nanoseconds.
    pub(super) fn jitters_more_than(&self, ns: u64) -> bool {
        self.stream.jitter.mean_ms() * 1e6 > ns as f64
    }

    /// Returns true if the mean opinion score is known, and below this.
    pub(super) fn sounds_worse_than(&self, least: Hundredths) -> bool {
        self.mos.is_some_and(|mos| mos < least.to_f64())
    }
}

/// The codecs of these streams, each once, whatever the case of its name: in the order of the
/// streams, and in a stream in the order of their first packets. Telephone-event and comfort noise
/// are none.
pub(super) fn codecs(call: &Call, streams: &[Stream]) -> Vec<Codec> {
    let mut codecs: Vec<Codec> = Vec::new();
    let formats = streams.iter().flat_map(|stream| {
        stream
            .payloads()
            .iter()
            .filter_map(move |payload| format_of(call, stream, payload))
    });
    for format in formats.filter(Format::is_sampled) {
        let name = format.codec.name();
        let is_known = codecs
            .iter()
            .any(|known| known.name().eq_ignore_ascii_case(name));
        if !is_known && !name.is_empty() && codecs.len() < MAX_CODECS {
            codecs.push(format.codec);
        }
    }
    codecs
}

/// The meaning of a payload type at its last packet, because it may change.
fn format_of(call: &Call, stream: &Stream, payload: &Payload) -> Option<Format> {
    call.descriptions.format(
        payload.payload_type,
        FlowKey::between(stream.source, stream.destination),
        KnownStatements::from_bits(payload.clock.known),
    )
}
