//! The record of a call in JSON: one object a line (docs/records.md, docs/calls.schema.json).
//!
//! Members have the names of the columns of the tables where there is such a column, and their
//! values have the same digits. A value that does not exist has no member.

mod object;
mod said;
mod stream;

use anyhow::{Context, Result};
use serde_json::Value;

use self::object::Object;
pub(super) use self::object::from_base64;
use super::{
    figures::{milliseconds, seconds, side},
    names::rfc3339,
    summary::CallSummary,
};
use crate::{calls::Link, dtmf::Pressed, problems::Problem, sdp::Codec, sip::Reason};

/// The version of the form. It changes when a member is renamed or removed, or changes its meaning;
/// new members do not change it.
const SCHEMA_VERSION: u64 = 1;

/// The record of a call, with its line end. `file_name` is the name of its file, if it has one;
/// `object` is the place where that file is or will be an object. Without `shows_digits`, the record
/// has only the number of digits: they may be a PIN.
pub(super) fn line(
    summary: &CallSummary<'_>,
    file_name: Option<&str>,
    object: Option<&str>,
    shows_digits: bool,
) -> Result<Vec<u8>> {
    let call = summary.call;
    let facts = &call.facts;
    let mut to = Object::default();
    to.put("schema_version", SCHEMA_VERSION);
    to.bytes("call_id", Some(&call.call_id));
    to.put("start_timestamp", rfc3339(call.start_ns));
    to.put("start_ns", call.start_ns);
    to.put("end_timestamp", rfc3339(summary.end_ns));
    to.put("end_ns", summary.end_ns);
    to.number("duration_s", seconds(summary.duration_ns));
    to.maybe("output_pcap_filename", file_name);
    to.maybe("s3_location", object);
    to.bytes("sip_from", Some(&call.from));
    to.bytes("sip_to", Some(&call.to));
    to.put("source", facts.source.to_string());
    to.put("destination", facts.destination.to_string());
    to.put("source_ip", facts.source.ip().to_string());
    to.put("destination_ip", facts.destination.ip().to_string());
    to.put("state", summary.end.state.to_string());
    to.maybe("final_status", summary.end.final_status);
    let reason = facts.reason.as_ref().map(Reason::to_bytes);
    to.bytes("reason", reason.as_deref());
    to.maybe("hangup_by", summary.hangup_by.map(side));
    for (name, ns) in [("pdd_ms", summary.pdd_ns), ("answer_ms", summary.answer_ns)] {
        to.maybe_number(name, ns.map(milliseconds));
    }
    to.maybe_number("talk_s", summary.talk_ns.map(seconds));
    to.bytes("caller_ua", facts.caller_agent.as_deref());
    to.bytes("callee_ua", facts.callee_agent());
    to.put("sip_packet_count", summary.sip_packets);
    to.put("rtp_packet_count", summary.rtp_packets);
    to.put("rtp_stream_count", summary.streams.len());
    to.list_of_bytes("codecs", summary.codecs.iter().map(Codec::name));
    to.put("dtmf_count", summary.pressed.len());
    to.bytes("dtmf", shows_digits.then(|| summary.digits()).as_deref());
    let pressed = summary.pressed.iter().map(|one| press(one, shows_digits));
    to.put("dtmf_presses", pressed.collect::<Vec<_>>());
    to.maybe("one_way", summary.one_way);
    to.maybe("no_media", summary.no_media);
    let problems: Vec<&str> = summary.problems.iter().map(Problem::word).collect();
    to.put("problems", problems);
    to.maybe("capture_drops", summary.end.capture_drops);
    to.put("conversation_id", &*summary.conversation.0);
    let links: Vec<Value> = summary.conversation.1.iter().map(link).collect();
    to.put("conversation_links", links);
    said::put(&mut to, call);
    let streams: Vec<Value> = summary.streams.iter().map(stream::object).collect();
    to.put("streams", streams);
    let mut line = serde_json::to_vec(&to.into_value()).context("a record cannot be made")?;
    line.push(b'\n');
    Ok(line)
}

fn press(pressed: &Pressed, shows_digit: bool) -> Value {
    let mut to = Object::default();
    to.put("timestamp", rfc3339(pressed.at_ns));
    to.maybe("ssrc", pressed.ssrc);
    let digit = char::from(pressed.digit).to_string();
    to.maybe("digit", shows_digit.then_some(digit));
    to.into_value()
}

fn link(link: &Link) -> Value {
    let mut to = Object::default();
    to.bytes("call_id", Some(&link.call_id));
    to.put("start_timestamp", rfc3339(link.start_ns));
    to.put("reason", link.reason.to_string());
    to.into_value()
}

/// Checks the first record of a file to which records are to be appended. Returns what is wrong
/// with it.
pub(super) fn check(first: &str) -> Result<(), String> {
    let version = first
        .strip_prefix("{\"schema_version\":")
        .and_then(|rest| rest.split([',', '}']).next()?.parse::<u64>().ok());
    match version {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(version) => Err(format!(
            "was begun by another version of this program, with schema_version {version} instead of {SCHEMA_VERSION}"
        )),
        None => Err("does not begin with a record of a call".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_version_is_refused() {
        assert_eq!(check("{\"schema_version\":1,\"call_id\":\"1\"}"), Ok(()));
        for (first, words) in [
            (
                "{\"schema_version\":2,\"call_id\":\"1\"}",
                "schema_version 2",
            ),
            ("{\"schema_version\":10}", "schema_version 10"),
            ("{\"call_id\":\"1\"}", "does not begin"),
            ("call_id,start_timestamp", "does not begin"),
            ("", "does not begin"),
        ] {
            let why = check(first).unwrap_err();
            assert!(why.contains(words), "{first}: {why}");
        }
    }
}
