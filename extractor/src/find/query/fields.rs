//! The fields of a call, and conditions on them.

use std::{fmt, net::IpAddr};

use jiff::Timestamp;
use serde_json::Value as Json;
use shared::units::GoDuration;

use super::{ReadTime, words::Word};

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `~`
    Has,
    /// `!~`
    HasNot,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Is => "=",
            Self::IsNot => "!=",
            Self::Has => "~",
            Self::HasNot => "!~",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        })
    }
}

/// The kind of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    /// Seconds, or a duration such as 1m30s.
    Seconds,
    Time,
    Network,
}

/// A field of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(&'static Definition);

#[derive(Debug, PartialEq, Eq)]
struct Definition {
    name: &'static str,
    kind: Kind,
    /// The member of the record.
    member: &'static str,
    /// True for a member of the record's streams: one of them has to meet the condition.
    is_of_stream: bool,
    is_of_media: bool,
}

const fn call(name: &'static str, kind: Kind, member: &'static str) -> Definition {
    Definition {
        name,
        kind,
        member,
        is_of_stream: false,
        is_of_media: false,
    }
}

const fn media(name: &'static str, kind: Kind, member: &'static str) -> Definition {
    Definition {
        is_of_media: true,
        ..call(name, kind, member)
    }
}

const fn stream(name: &'static str, kind: Kind, member: &'static str) -> Definition {
    Definition {
        is_of_stream: true,
        ..media(name, kind, member)
    }
}

/// Short names for what is asked for most, then the columns of the tables.
static FIELDS: [Definition; 33] = [
    call("from", Kind::Text, "sip_from"),
    call("to", Kind::Text, "sip_to"),
    call("call_id", Kind::Text, "call_id"),
    call("time", Kind::Time, "start_timestamp"),
    call("end", Kind::Time, "end_timestamp"),
    call("duration", Kind::Seconds, "duration_s"),
    call("state", Kind::Text, "state"),
    call("status", Kind::Number, "final_status"),
    call("ip", Kind::Network, ""),
    call("sip_from", Kind::Text, "sip_from"),
    call("sip_to", Kind::Text, "sip_to"),
    call("start_timestamp", Kind::Time, "start_timestamp"),
    call("end_timestamp", Kind::Time, "end_timestamp"),
    call("duration_s", Kind::Seconds, "duration_s"),
    call("source_ip", Kind::Network, "source_ip"),
    call("destination_ip", Kind::Network, "destination_ip"),
    call("final_status", Kind::Number, "final_status"),
    call("reason", Kind::Text, "reason"),
    call("hangup_by", Kind::Text, "hangup_by"),
    call("pdd_ms", Kind::Number, "pdd_ms"),
    call("answer_ms", Kind::Number, "answer_ms"),
    call("talk_s", Kind::Seconds, "talk_s"),
    call("caller_ua", Kind::Text, "caller_ua"),
    call("callee_ua", Kind::Text, "callee_ua"),
    call("sip_packet_count", Kind::Number, "sip_packet_count"),
    media("rtp_packet_count", Kind::Number, "rtp_packet_count"),
    media("rtp_stream_count", Kind::Number, "rtp_stream_count"),
    media("codecs", Kind::Text, "codecs"),
    media("problems", Kind::Text, "problems"),
    stream("mos", Kind::Number, "mos"),
    stream("loss_percent", Kind::Number, "loss_percent"),
    stream("mean_jitter_ms", Kind::Number, "mean_jitter_ms"),
    stream("max_jitter_ms", Kind::Number, "max_jitter_ms"),
];

impl Field {
    /// The field with this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = FIELDS.iter();
        all.find(|field| field.name.eq_ignore_ascii_case(name))
            .map(Self)
    }

    /// All names.
    #[must_use]
    pub fn names() -> String {
        FIELDS
            .iter()
            .map(|field| field.name)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// True for a field that only media gives.
    #[must_use]
    pub fn is_of_media(self) -> bool {
        self.0.is_of_media
    }

    /// True if the field can be compared like this.
    #[must_use]
    pub fn allows(self, operator: Operator) -> bool {
        let is_order = matches!(
            operator,
            Operator::Below | Operator::AtMost | Operator::Above | Operator::AtLeast
        );
        let is_part = matches!(operator, Operator::Has | Operator::HasNot);
        match self.0.kind {
            Kind::Text => !is_order,
            Kind::Number | Kind::Seconds => !is_part,
            Kind::Time => is_order,
            Kind::Network => !is_order && !is_part,
        }
    }

    /// The operators that the field allows, for messages.
    #[must_use]
    pub fn operators(self) -> &'static str {
        match self.0.kind {
            Kind::Text => "=, !=, ~ (has as a part) or !~",
            Kind::Number | Kind::Seconds => "=, !=, <, <=, > or >=",
            Kind::Time => "<, <=, > or >=",
            Kind::Network => "= or !=, and an address or a network",
        }
    }
}

/// A condition on a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    field: Field,
    operator: Operator,
    /// As it was typed.
    text: Word,
    value: Value,
}

/// The meaning of a value.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text,
    Number(f64),
    Time(Timestamp),
    Network(IpAddr, u8),
}

impl Condition {
    /// A condition.
    ///
    /// # Errors
    /// The field has no such value; the error says what was expected.
    pub(super) fn new(
        field: Field,
        operator: Operator,
        text: &str,
        time: ReadTime<'_>,
    ) -> Result<Self, String> {
        let name = field.name();
        let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
        let value = match field.0.kind {
            Kind::Text => Some(Value::Text),
            Kind::Number => number().map(Value::Number),
            Kind::Seconds => {
                let duration = || text.parse::<GoDuration>().ok();
                let seconds = || duration().map(|one| one.as_ns() as f64 / 1e9);
                number().or_else(seconds).map(Value::Number)
            }
            Kind::Time => Some(Value::Time(time(text, operator)?)),
            Kind::Network => network(text).map(|(address, bits)| Value::Network(address, bits)),
        };
        let expected = match field.0.kind {
            Kind::Seconds => "seconds, or a duration such as 1m30s",
            Kind::Network => "an address or a network, such as 192.0.2.0/24",
            _ => "a number",
        };
        let value = value.ok_or_else(|| format!("`{name}` expects {expected}, not `{text}`"))?;
        Ok(Self {
            field,
            operator,
            text: Word::new(text),
            value,
        })
    }

    pub(super) fn field(&self) -> Field {
        self.field
    }

    /// The truth of the condition, as far as the words of a call in one segment tell it.
    pub(super) fn by_words(&self, words: &[u8]) -> Option<bool> {
        let is_of_messages =
            ["from", "to", "sip_from", "sip_to", "call_id"].contains(&self.field.name());
        let is_positive = matches!(self.operator, Operator::Is | Operator::Has);
        // Words are cut, so a long value may be longer than they are.
        let is_short = self.text.text().len() < 64;
        if !is_of_messages || !is_positive || !is_short || self.text.text().is_empty() {
            return None;
        }
        Some(self.text.is_in(words))
    }

    /// True of a call with this record, whose messages have these words.
    pub(super) fn is_true_of(&self, record: &Json, words: &[u8]) -> bool {
        let Field(definition) = self.field;
        if definition.member.is_empty() {
            return self.is_met_by_address_in(words);
        }
        if definition.is_of_stream {
            let streams = record.get("streams").and_then(Json::as_array);
            let mut streams = streams.into_iter().flatten();
            return streams.any(|stream| self.is_met_by(stream.get(definition.member)));
        }
        self.is_met_by(record.get(definition.member))
    }

    fn is_met_by(&self, value: Option<&Json>) -> bool {
        match (&self.value, value) {
            (Value::Text, Some(Json::Array(list))) => {
                let is_any = list.iter().any(|one| self.is_text(one.as_str()));
                is_any != self.is_negative()
            }
            (Value::Text, value) => {
                self.is_text(value.and_then(Json::as_str)) != self.is_negative()
            }
            (Value::Number(wanted), Some(value)) => value
                .as_f64()
                .is_some_and(|found| self.compares(&found, wanted)),
            (Value::Time(wanted), Some(value)) => {
                let found = value
                    .as_str()
                    .and_then(|text| text.parse::<Timestamp>().ok());
                found.is_some_and(|found| self.compares(&found, wanted))
            }
            (Value::Network(..), Some(value)) => {
                let found = value.as_str().and_then(|text| text.parse().ok());
                found.is_some_and(|found| self.has_address(found) != self.is_negative())
            }
            // A call without the value.
            (Value::Number(_) | Value::Time(_) | Value::Network(..), None) => self.is_negative(),
        }
    }

    fn is_negative(&self) -> bool {
        matches!(self.operator, Operator::IsNot | Operator::HasNot)
    }

    fn is_text(&self, value: Option<&str>) -> bool {
        let value = value.unwrap_or_default();
        match self.operator {
            Operator::Is | Operator::IsNot => value.eq_ignore_ascii_case(self.text.text()),
            _ => self.text.is_in_value(value),
        }
    }

    fn compares<T: PartialOrd>(&self, found: &T, wanted: &T) -> bool {
        match self.operator {
            Operator::Is | Operator::Has => found == wanted,
            Operator::IsNot | Operator::HasNot => found != wanted,
            Operator::Below => found < wanted,
            Operator::AtMost => found <= wanted,
            Operator::Above => found > wanted,
            Operator::AtLeast => found >= wanted,
        }
    }

    /// True if one of the addresses that sent or received messages meets the condition.
    fn is_met_by_address_in(&self, words: &[u8]) -> bool {
        let words = words.split(|byte| *byte == 0x1f);
        let ends = words.filter_map(|word| std::str::from_utf8(word).ok());
        let mut ends = ends.filter_map(|word| word.parse::<std::net::SocketAddr>().ok());
        ends.any(|end| self.has_address(end.ip())) != self.is_negative()
    }

    fn has_address(&self, found: IpAddr) -> bool {
        let Value::Network(network, bits) = self.value else {
            return false;
        };
        match (network, found) {
            (IpAddr::V4(network), IpAddr::V4(found)) => {
                let shift = 32u32.saturating_sub(bits.into());
                let top = |bits: u32| bits.checked_shr(shift).unwrap_or(0);
                top(network.to_bits()) == top(found.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(found)) => {
                let shift = 128u32.saturating_sub(bits.into());
                let top = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                top(network.to_bits()) == top(found.to_bits())
            }
            _ => false,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.field.name(), self.operator, self.text)
    }
}

/// An address, or a network with the length of its prefix.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}
