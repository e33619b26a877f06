//! The final values of a stream.

use crate::{
    calls::{Call, KnownStatements},
    events::FlowKey,
    problems::Hundredths,
    rtcp::{FarEnd, Loss, Reception},
    rtp::{Payload, Stream, Totals, delay_ms, mos},
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
    /// What RTCP says.
    pub(in super::super) far_end: FarEndSummary<'a>,
}

/// What RTCP says about a stream, at its end.
#[derive(Debug)]
pub(in super::super) struct FarEndSummary<'a> {
    /// The canonical name of its sender.
    pub(in super::super) cname: Option<&'a [u8]>,
    /// The loss at its receiver.
    pub(in super::super) loss: Option<Loss>,
    /// The jitter at its receiver, in milliseconds.
    pub(in super::super) jitter_ms: Option<f64>,
    /// The mean time from the capture point to its receiver and back.
    pub(in super::super) round_trip_ns: Option<u64>,
    /// The mean opinion score that its receiver reports.
    pub(in super::super) mos: Option<f64>,
    /// All that its receiver reports.
    pub(in super::super) reception: Option<&'a Reception>,
}

impl<'a> FarEndSummary<'a> {
    fn of(call: &Call, far_end: FarEnd<'a>, stream: &Stream, clock_rate: Option<u32>) -> Self {
        let reception = far_end.reception;
        let (first, expected) = stream.sequence.run();
        let may_be_older = call.was_under_way();
        Self {
            cname: far_end.cname,
            loss: reception.and_then(|reception| reception.loss(first, expected, may_be_older)),
            jitter_ms: reception
                .zip(clock_rate)
                .and_then(|(reception, rate)| reception.jitter_ms(rate)),
            round_trip_ns: reception.and_then(Reception::round_trip_ns),
            mos: reception.and_then(Reception::mos),
            reception,
        }
    }
}

impl<'a> StreamSummary<'a> {
    /// The summary of a stream.
    pub(super) fn of(call: &Call, stream: &'a Stream, far_end: FarEnd<'a>) -> Self {
        let totals = stream.sequence.totals();
        let key = FlowKey::between(stream.source, stream.destination);
        let ptime_ms = call.descriptions.ptime_ms(key).unwrap_or(DEFAULT_PTIME_MS);
        let format_of = |payload: &Payload| format_of(call, stream, payload);
        let payload =
            stream.payload(|payload| format_of(payload).is_some_and(|format| !format.is_sampled()));
        let format = payload.as_ref().and_then(format_of);
        let delay_ms = delay_ms(ptime_ms, stream.jitter.steady_mean_ms());
        let clock_rate = format.map(|format| format.clock_rate);
        Self {
            stream,
            ptime_ms,
            payload_type: payload.map(|payload| payload.payload_type),
            format,
            mos: format.and_then(|format| mos(format.codec.name(), &totals, delay_ms)),
            totals,
            far_end: FarEndSummary::of(call, far_end, stream, clock_rate),
        }
    }

    /// Returns true if more of the expected packets are lost than this percentage.
    pub(super) fn loses_more_than(&self, percent: Hundredths) -> bool {
        percent.is_exceeded(self.totals.lost, self.totals.expected)
    }

    /// Returns true if the mean jitter without leaps is more than this, in nanoseconds.
    pub(super) fn jitters_more_than(&self, ns: u64) -> bool {
        self.stream.jitter.steady_mean_ms() * 1e6 > ns as f64
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
