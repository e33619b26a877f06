//! What was said in a call: its legs, dialogs, messages and media descriptions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{super::names::rfc3339, Object};
use crate::{
    calls::{AttemptProgress, Call, Described, Heard, Journal, Leg},
    events::stable_hash,
    outputs::figures::side,
    packet::Endpoint,
    sdp::{Format, Rank, format_of_static},
};

/// The texts of tags and sequence numbers by their hashes, as far as the messages have them.
type Texts<'a> = BTreeMap<u64, &'a [u8]>;

pub(super) fn put(to: &mut Object, call: &Call) {
    let none = Journal::default();
    let journal = call.journal.as_deref().unwrap_or(&none);
    let texts = texts(journal.messages());
    let legs: Vec<Value> = call.dialogs.legs().map(|one| leg(&one, &texts)).collect();
    let dialogs: Vec<Value> = call
        .dialogs
        .confirmed()
        .map(|(tags, is_open)| dialog(tags, is_open, &texts))
        .collect();
    to.put("legs", legs);
    to.put("dialogs", dialogs);
    to.put("legs_omitted", call.dialogs.excess());
    let messages: Vec<Value> = journal.messages().iter().map(message).collect();
    to.put("messages", messages);
    to.put("messages_omitted", journal.omitted_messages());
    let media: Vec<Value> = journal
        .described()
        .iter()
        .map(|described| media(described, journal))
        .collect();
    to.put("media", media);
    to.put("media_omitted", journal.omitted_media());
}

fn texts(messages: &[Heard]) -> Texts<'_> {
    let texts = messages.iter().flat_map(|message| {
        let cseq = message.cseq.split(u8::is_ascii_whitespace).next();
        let tags = [message.from_tag.as_deref(), message.to_tag.as_deref()];
        tags.into_iter().flatten().chain(cseq)
    });
    texts.map(|text| (stable_hash(text), text)).collect()
}

/// A leg is an attempt: an INVITE outside a dialog, with its responses.
fn leg(leg: &Leg<'_>, texts: &Texts<'_>) -> Value {
    let text = |hash: u64| texts.get(&hash).copied();
    let mut to = Object::default();
    to.bytes("from_tag", text(leg.from_tag));
    to.bytes("cseq", text(leg.cseq));
    to.put("progress", progress(leg.progress));
    to.maybe("final_status", leg.status);
    to.put("is_callers", leg.is_callers);
    let early: Vec<&[u8]> = leg.early_tags().filter_map(text).collect();
    to.list_of_bytes("early_tags", early.iter().copied());
    to.put("transactions", leg.transactions);
    to.into_value()
}

fn progress(progress: AttemptProgress) -> &'static str {
    match progress {
        AttemptProgress::UnderWay => "under-way",
        AttemptProgress::Doubtful => "doubtful",
        AttemptProgress::Answered => "answered",
        AttemptProgress::Refused => "refused",
        AttemptProgress::Cancelled => "cancelled",
        AttemptProgress::HungUp => "hung-up",
    }
}

fn dialog([from, to]: [u64; 2], is_open: bool, texts: &Texts<'_>) -> Value {
    let text = |hash: u64| texts.get(&hash).copied();
    let mut object = Object::default();
    object.bytes("from_tag", text(from));
    object.bytes("to_tag", text(to));
    object.put("is_open", is_open);
    object.into_value()
}

fn message(heard: &Heard) -> Value {
    let mut to = Object::default();
    to.put("timestamp", rfc3339(heard.at_ns));
    to.put("from", heard.source.to_string());
    to.put("to", heard.destination.to_string());
    to.maybe("side", heard.writer.map(side));
    to.bytes("start_line", Some(&heard.start_line));
    to.bytes("cseq", Some(&*heard.cseq).filter(|cseq| !cseq.is_empty()));
    to.bytes("from_tag", heard.from_tag.as_deref());
    to.bytes("to_tag", heard.to_tag.as_deref());
    to.put("size_bytes", heard.len);
    if let Some(text) = &heard.text {
        to.bytes("text", Some(&text.bytes));
        to.maybe("text_cut", text.is_cut.then_some(true));
    }
    to.into_value()
}

fn media(described: &Described, journal: &Journal) -> Value {
    let Described {
        message,
        at_ns,
        source,
        body: _,
        place,
        outline,
        media,
    } = described;
    let mut to = Object::default();
    to.put("timestamp", rfc3339(*at_ns));
    to.put("from", source.to_string());
    let heard = message.and_then(|number| journal.messages().get(usize::try_from(number).ok()?));
    to.maybe("side", heard.and_then(|heard| heard.writer).map(side));
    to.maybe("message", *message);
    to.put("place", *place);
    if let Some(outline) = outline {
        to.bytes("media", Some(&outline.media));
        to.maybe("port", outline.port);
        to.bytes("protocol", Some(&outline.protocol));
        to.put("direction", outline.direction.unwrap_or_default().word());
        let names = outline.formats.iter();
        let formats: Vec<Value> = names.map(|name| format(name, &media.formats)).collect();
        to.put("formats", formats);
    }
    let endpoints: Vec<Value> = media.endpoints.iter().map(endpoint).collect();
    to.put("endpoints", endpoints);
    to.maybe("ptime_ms", media.ptime_ms);
    to.maybe("secured", media.is_secured);
    to.put("refused", media.refused);
    to.into_value()
}

/// A format of an `m=` line, with what its `a=rtpmap` line says, or RFC 3551.
fn format(name: &[u8], formats: &[Format]) -> Value {
    let mut to = Object::default();
    to.bytes("format", Some(name));
    let payload_type = std::str::from_utf8(name)
        .ok()
        .and_then(|name| name.parse().ok());
    let known = payload_type.and_then(|payload_type: u8| {
        let is_it = |format: &&Format| format.payload_type == payload_type;
        let described = formats.iter().find(is_it).copied();
        described.or_else(|| format_of_static(payload_type))
    });
    if let Some(format) = known {
        to.bytes("codec", Some(format.codec.name()));
        to.put("clock_rate", format.clock_rate);
    }
    to.into_value()
}

fn endpoint((endpoint, rank): &(Endpoint, Rank)) -> Value {
    let mut to = Object::default();
    to.put("endpoint", endpoint.to_string());
    to.put(
        "rank",
        match rank {
            Rank::Named => "named",
            Rank::Implied => "implied",
            Rank::Guessed => "guessed",
        },
    );
    to.into_value()
}
