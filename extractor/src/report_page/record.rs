//! A record of a call, as far as its row needs it.

use std::borrow::Cow;

use serde::Deserialize;

/// The version of the records that are read.
const SCHEMA_VERSION: u64 = 1;

/// A record (docs/calls.schema.json).
#[derive(Debug, Deserialize)]
pub(super) struct Record<'a> {
    schema_version: u64,
    #[serde(borrow)]
    pub(super) call_id: Cow<'a, str>,
    pub(super) start_ns: u64,
    pub(super) duration_s: f64,
    #[serde(borrow)]
    pub(super) sip_from: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) sip_to: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) source: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) destination: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) state: Cow<'a, str>,
    pub(super) final_status: Option<u16>,
    #[serde(borrow)]
    pub(super) reason: Option<Cow<'a, str>>,
    pub(super) pdd_ms: Option<f64>,
    pub(super) answer_ms: Option<f64>,
    #[serde(borrow)]
    pub(super) caller_ua: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) callee_ua: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) codecs: Vec<Cow<'a, str>>,
    #[serde(default)]
    pub(super) capture_drops: u64,
    #[serde(default, borrow)]
    pub(super) problems: Vec<Cow<'a, str>>,
    #[serde(default)]
    pub(super) streams: Vec<StreamFigures>,
}

/// The figures of a stream that the row of its call has.
#[derive(Debug, Deserialize)]
pub(super) struct StreamFigures {
    pub(super) mos: Option<f64>,
    #[serde(default)]
    pub(super) loss_percent: f64,
    #[serde(default)]
    pub(super) max_jitter_ms: f64,
}

impl<'a> Record<'a> {
    /// The record in a line; `None` if the line is no record, or one of another version.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(line).ok()?;
        (record.schema_version == SCHEMA_VERSION).then_some(record)
    }

    /// The lowest MOS of its streams.
    pub(super) fn mos(&self) -> Option<f64> {
        let known = self.streams.iter().filter_map(|stream| stream.mos);
        known.reduce(f64::min)
    }

    /// The highest loss of its streams, in percent.
    pub(super) fn loss_percent(&self) -> Option<f64> {
        let all = self.streams.iter().map(|stream| stream.loss_percent);
        all.reduce(f64::max)
    }

    /// The highest jitter of its streams, in milliseconds.
    pub(super) fn jitter_ms(&self) -> Option<f64> {
        let all = self.streams.iter().map(|stream| stream.max_jitter_ms);
        all.reduce(f64::max)
    }

    /// The time until it rang; if it did not, until it was answered.
    pub(super) fn setup_ms(&self) -> Option<f64> {
        self.pdd_ms.or(self.answer_ms)
    }
}
