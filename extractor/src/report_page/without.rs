//! Texts of messages and numbers, which a report that leaves the house does not have.

use std::{borrow::Cow, str::FromStr};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The text in the place of something that is left out.
const MASK: &str = "…";
/// Fewer digits than this, with what is between them, may be a status, a port or a version.
const MIN_DIGITS: usize = 5;

/// Members of a record, at any depth, that are kept without numbers: none of them has text that a
/// phone wrote, except as [`Without::text`] masks it.
const KEPT: &[&str] = &[
    "schema_version",
    "start_timestamp",
    "start_ns",
    "end_timestamp",
    "end_ns",
    "duration_s",
    "output_pcap_filename",
    "s3_location",
    "source",
    "destination",
    "source_ip",
    "destination_ip",
    "state",
    "final_status",
    "hangup_by",
    "pdd_ms",
    "answer_ms",
    "talk_s",
    "sip_packet_count",
    "rtp_packet_count",
    "rtp_stream_count",
    "dtmf_count",
    "dtmf_presses",
    "one_way",
    "no_media",
    "capture_drops",
    "problems",
    "legs",
    "dialogs",
    "legs_omitted",
    "messages",
    "messages_omitted",
    "media_omitted",
    "streams",
    "progress",
    "is_callers",
    "transactions",
    "is_open",
    "timestamp",
    "from",
    "to",
    "side",
    "size_bytes",
    "message",
    "place",
    "port",
    "direction",
    "formats",
    "endpoints",
    "ptime_ms",
    "secured",
    "refused",
    "clock_rate",
    "endpoint",
    "rank",
    "ssrc",
    "ssrc_hex",
    "src_rtp_endpoint",
    "dst_rtp_endpoint",
    "first_timestamp",
    "last_timestamp",
    "payload_type",
    "expected_rtp_packets",
    "lost_packets",
    "out_of_order_count",
    "duplicate_count",
    "loss_percent",
    "max_burst_loss",
    "max_delta_ms",
    "min_delta_ms",
    "avg_delta_ms",
    "rtcp_loss_percent",
    "rtcp_jitter_ms",
    "rtcp_rtt_ms",
    "rtcp_mos",
    "jitter_ms",
    "max_jitter_ms",
    "mean_jitter_ms",
    "mos",
    "series",
    "rtcp_series",
    "rtt_ms",
    "length_s",
    "packets",
    "lost",
];

/// The same, whose text is masked.
const MASKED: &[&str] = &[
    "reason",
    "caller_ua",
    "callee_ua",
    "codecs",
    "media",
    "protocol",
    "format",
    "codec",
];

/// The parts that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// The texts of messages.
    pub messages: bool,
    /// Numbers and names: users of URIs, Call-IDs, tags, digits; and the texts of messages, which
    /// have them in many places.
    pub numbers: bool,
}

impl FromStr for Without {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut without = Self::default();
        for word in text.split(',') {
            match word {
                "messages" => without.messages = true,
                "numbers" => without.numbers = true,
                _ => return Err("write messages, numbers, or messages,numbers".to_owned()),
            }
        }
        Ok(without)
    }
}

impl Without {
    /// True if the texts of messages stay.
    #[must_use]
    pub fn keeps_messages(self) -> bool {
        !self.messages && !self.numbers
    }

    /// A Call-ID, or the eight digits that the name of the call's file has.
    pub(super) fn call_id<'t>(&self, call_id: &'t str) -> Cow<'t, str> {
        if self.numbers {
            let [a, b, c, d, ..] = Sha256::digest(call_id).0;
            format!("{:08x}", u32::from_be_bytes([a, b, c, d])).into()
        } else {
            call_id.into()
        }
    }

    /// The value of From or To, or the host in it.
    pub(super) fn party<'t>(&self, value: &'t str) -> Cow<'t, str> {
        if self.numbers {
            masked_party(value).into()
        } else {
            value.into()
        }
    }

    /// A text, or a text without what may be a number.
    pub(super) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.numbers {
            masked(text).into()
        } else {
            text.into()
        }
    }

    /// A record without what is left out.
    pub(super) fn applied(self, record: Map<String, Value>) -> Map<String, Value> {
        let mut record = if self.numbers {
            self.masked_call(record)
        } else {
            record
        };
        if !self.keeps_messages()
            && let Some(Value::Array(messages)) = record.get_mut("messages")
        {
            for message in messages.iter_mut().filter_map(Value::as_object_mut) {
                message.remove("text");
                message.remove("text_b64");
            }
        }
        record
    }

    fn masked_call(&self, record: Map<String, Value>) -> Map<String, Value> {
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let own = [
            ("call_id", self.call_id(text("call_id")).into_owned()),
            ("sip_from", masked_party(text("sip_from"))),
            ("sip_to", masked_party(text("sip_to"))),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.into()));
        let mut kept = Map::from_iter(own);
        kept.extend(masked_object(record));
        kept
    }
}

fn masked_object(object: Map<String, Value>) -> Map<String, Value> {
    let member = |(name, value): (String, Value)| {
        let value = match &*name {
            "start_line" => Value::from(masked_start_line(value.as_str()?)),
            // Its number may be of a phone; its method says what a response belongs to.
            "cseq" => Value::from(masked(value.as_str()?)),
            name if MASKED.contains(&name) => masked_value(value),
            name if KEPT.contains(&name) => kept_value(value),
            _ => return None,
        };
        Some((name, value))
    };
    object.into_iter().filter_map(member).collect()
}

fn kept_value(value: Value) -> Value {
    match value {
        Value::Object(object) => masked_object(object).into(),
        Value::Array(values) => values.into_iter().map(kept_value).collect(),
        other => other,
    }
}

/// `media` is a list of objects in a call, and a word in such an object.
fn masked_value(value: Value) -> Value {
    match value {
        Value::String(text) => masked(&text).into(),
        Value::Array(values) => values.into_iter().map(masked_value).collect(),
        other => kept_value(other),
    }
}

/// `INVITE sip:…@host SIP/2.0`.
fn masked_start_line(line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(method), Some(uri), Some(version)) if method != "SIP/2.0" => {
            format!(
                "{} {} {}",
                masked(method),
                masked_party(uri),
                masked(version)
            )
        }
        _ => masked(line),
    }
}

/// The scheme and the host of the URI in a header field.
fn masked_party(value: &str) -> String {
    let uri = match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default(),
    };
    let Some((scheme, rest)) = uri.split_once(':') else {
        return MASK.to_owned();
    };
    let scheme = if matches!(scheme, "sip" | "sips") {
        scheme
    } else {
        "tel"
    };
    // A user may have `@` in it; a host has none.
    let host = rest.rsplit_once('@').map_or("", |(_, host)| host);
    let is_of_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let len = host.find(|c| !is_of_host(c)).unwrap_or(host.len());
    let host = host.get(..len).unwrap_or_default();
    let at = if host.is_empty() { "" } else { "@" };
    format!("{scheme}:{MASK}{at}{host}")
}

/// A text with each run of digits, and of what may separate digits, masked.
fn masked(text: &str) -> String {
    let is_of_number = |c: char| c.is_ascii_digit() || "+-()/ ".contains(c);
    let mut masked = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c| !is_of_number(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(number);
        let digits = run.chars().filter(char::is_ascii_digit).count();
        masked.push_str(if digits >= MIN_DIGITS { MASK } else { run });
        let other = after.find(is_of_number).unwrap_or(after.len());
        let (words, after) = after.split_at(other);
        masked.push_str(words);
        rest = after;
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Without = Without {
        messages: false,
        numbers: true,
    };

    #[test]
    fn parties_and_start_lines() {
        for (value, want) in [
            (
                "\"Alice 1\" <sip:+491701234@pbx.example;user=phone>;tag=x",
                "sip:…@pbx.example",
            ),
            ("sip:alice@192.0.2.1:5070;tag=1", "sip:…@192.0.2.1:5070"),
            ("<tel:+49-170-1234>", "tel:…"),
            ("<sip:a@b@[2001:db8::1]>", "sip:…@[2001:db8::1]"),
            ("<sip:pbx.example>", "sip:…"),
            ("hostile", "…"),
            ("", "…"),
        ] {
            assert_eq!(masked_party(value), want, "{value}");
        }
        assert_eq!(
            masked_start_line("INVITE sip:0170123@pbx.example SIP/2.0"),
            "INVITE sip:…@pbx.example SIP/2.0"
        );
        assert_eq!(
            masked_start_line("SIP/2.0 404 No +49 (170) 1234 here"),
            "SIP/2.0 404 No…here"
        );
        assert_eq!(masked("Yealink 66.84.0.15"), "Yealink 66.84.0.15");
    }

    #[test]
    fn a_record_without_numbers_has_known_members_only() {
        let line = r#"{"schema_version":1,"call_id":"0170123456@x","sip_from":"<sip:0170123456@h>","sip_to":"<sip:0170999999@h>","cname":"0170123456","dtmf":"1234","dtmf_presses":[{"timestamp":"t","ssrc":7,"digit":"5"}],"reason":"SIP;cause=480;text=\"call 0170 123456\"","new":"0170123456","messages":[{"start_line":"INVITE sip:0170123456@h SIP/2.0","from_tag":"0170123456","from":"192.0.2.1:5060","text":"0170123456","cseq":"1 INVITE"}],"media":[{"media":"audio","port":40000,"formats":[{"format":"0"}]}]}"#;
        let record: Map<String, Value> = serde_json::from_str(line).unwrap();
        let text = Value::from(NUMBERS.applied(record.clone())).to_string();
        assert!(!text.contains("0170") && !text.contains("123456"), "{text}");
        assert!(text.contains(r#""cseq":"1 INVITE""#), "{text}");
        assert!(
            text.contains(r#""dtmf_presses":[{"timestamp":"t","ssrc":7}]"#),
            "{text}"
        );
        assert!(
            text.contains(r#""media":[{"media":"audio","port":40000,"formats":[{"format":"0"}]}]"#)
        );
        let without_messages: Without = "messages".parse().unwrap();
        let text = Value::from(without_messages.applied(record)).to_string();
        assert!(!text.contains("\"text\":\"0170") && text.contains("sip:0170123456@h"));
    }
}
