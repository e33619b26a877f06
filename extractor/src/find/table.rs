//! The list of calls.

use serde_json::Value;

use crate::outputs::printable;

/// The members of a record that only media gives.
const OF_MEDIA: [&str; 8] = [
    "rtp_packet_count",
    "rtp_stream_count",
    "codecs",
    "dtmf_count",
    "one_way",
    "no_media",
    "problems",
    "streams",
];

/// Widths of the columns before the Call-ID.
const WIDTHS: [usize; 6] = [19, 24, 24, 10, 9, 7];
const TITLES: [&str; 7] = [
    "time", "from", "to", "state", "duration", "media", "Call-ID",
];

/// A table for people, in lines of this many columns or more: a Call-ID is never cut.
pub(super) fn table(records: &[Value], columns: usize, is_measured: bool) -> String {
    if records.is_empty() {
        return String::new();
    }
    // A wide terminal has more room for names.
    let spare = columns.saturating_sub(130) / 4;
    let row = |cells: [String; 7]| {
        let [time, from, to, state, duration, media, call_id] = cells;
        let [a, b, c, d, e, f] = WIDTHS;
        let (b, c) = (b.saturating_add(spare), c.saturating_add(spare));
        let (from, to) = (cut(&from, b), cut(&to, c));
        format!(
            "{time:<a$}  {from:<b$}  {to:<c$}  {state:<d$}  {duration:>e$}  {media:>f$}  {call_id}\n"
        )
    };
    let head = row(TITLES.map(str::to_owned));
    let rows = records.iter().map(|record| {
        let text = |name: &str| shown(record.get(name));
        let time: String = text("start_timestamp").chars().take(19).collect();
        let media = if is_measured {
            text("rtp_stream_count")
        } else {
            "?".to_owned()
        };
        row([
            time.replace('T', " "),
            party(&text("sip_from")),
            party(&text("sip_to")),
            text("state"),
            text("duration_s"),
            media,
            text("call_id"),
        ])
    });
    std::iter::once(head).chain(rows).collect()
}

/// A JSON object a line: the record, without the figures of media if it was not read.
pub(super) fn json(records: Vec<Value>, is_measured: bool) -> String {
    let line = |mut record: Value| {
        if let Some(object) = record.as_object_mut().filter(|_| !is_measured) {
            OF_MEDIA.iter().for_each(|name| {
                object.shift_remove(*name);
            });
        }
        format!("{record}\n")
    };
    records.into_iter().map(line).collect()
}

/// A value as text, without characters that a terminal would obey, or that nobody sees.
fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    printable(text.as_bytes()).replace(char::REPLACEMENT_CHARACTER, "?")
}

/// The address in a header value, without scheme and parameters: `alice@example.com`.
fn party(value: &str) -> String {
    let uri = value
        .rsplit_once('<')
        .map_or(value, |(_, uri)| uri.split('>').next().unwrap_or(uri));
    let uri = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    uri.split(';').next().unwrap_or(uri).to_owned()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{head}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_is_its_address() {
        for (value, want) in [
            (
                "\"Alice\" <sip:alice@example.com>;tag=1",
                "alice@example.com",
            ),
            ("sip:bob@example.com;tag=2", "bob@example.com"),
            ("<tel:+4930123>", "+4930123"),
            ("", ""),
        ] {
            assert_eq!(party(value), want);
        }
    }

    #[test]
    fn a_terminal_is_not_obeyed() {
        assert_eq!(shown(Some(&"a\u{1b}[2J".into())), "a?[2J");
    }
}
