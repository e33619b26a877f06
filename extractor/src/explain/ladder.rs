//! The messages of a call, drawn between their endpoints.

use super::page::{Page, cut, since, width};
use crate::{
    calls::{Repeats, TracedCall, TracedMessage},
    outputs::printable,
    packet::Endpoint,
    sdp::{MediaLine, Place},
};

/// The columns before the lanes: number, time, and time since the message before.
const LEFT: usize = 27;
/// The narrowest and the widest gap between two lanes.
const MIN_GAP: usize = 20;
const MAX_GAP: usize = 38;
/// The most messages that are drawn.
const MAX_DRAWN: usize = 400;

/// The lanes of a ladder, one for each endpoint.
struct Lanes {
    ends: Vec<Endpoint>,
    gap: usize,
}

/// Draws the messages.
pub(super) fn draw(page: &mut Page, call: &TracedCall) {
    page.heading("Messages");
    let lanes = Lanes::of(call, page.columns);
    if let Some(lanes) = &lanes {
        lanes.head(page);
    }
    let mut before = None;
    for (number, message) in (1..).zip(&call.messages).take(MAX_DRAWN) {
        let time = since(call.start_ns, message.time_ns);
        let later = before.map_or_else(String::new, |before| {
            let sign = if message.time_ns < before { "" } else { "+" };
            format!("{sign}{}", since(before, message.time_ns))
        });
        before = Some(message.time_ns);
        let left = format!("{number:>4}  {time:>9}  {later:>8}");
        match &lanes {
            Some(lanes) => page.line(&format!("{left:<LEFT$}{}", lanes.arrow(message))),
            None => page.wrapped(
                &format!("{left:<LEFT$}"),
                &format!(
                    "{} -> {}  {}",
                    message.source,
                    message.destination,
                    label(message)
                ),
            ),
        }
        for note in notes(message) {
            page.wrapped(&" ".repeat(LEFT.saturating_add(2)), &note);
        }
    }
    let left_out = call.messages.len().saturating_sub(MAX_DRAWN) as u64;
    let left_out = left_out.saturating_add(call.messages_beyond);
    if left_out > 0 {
        page.line(&format!("      and {left_out} more"));
    }
}

impl Lanes {
    /// `None` if they do not fit.
    fn of(call: &TracedCall, columns: usize) -> Option<Self> {
        let mut ends: Vec<Endpoint> = Vec::new();
        for message in &call.messages {
            for end in [message.source, message.destination] {
                if !ends.contains(&end) {
                    ends.push(end);
                }
            }
        }
        let last = width(&ends.last()?.to_string());
        let gaps = ends.len().saturating_sub(1).max(1);
        let room = columns.saturating_sub(LEFT.saturating_add(last));
        let gap = room.checked_div(gaps)?.min(MAX_GAP);
        let widest = ends.iter().map(|end| width(&end.to_string())).max()?;
        (gap >= MIN_GAP && gap > widest).then_some(Self { ends, gap })
    }

    fn head(&self, page: &mut Page) {
        let gap = self.gap;
        let names = self.ends.iter().map(|end| format!("{end:<gap$}"));
        page.line(&format!(
            "{:LEFT$}{}",
            "",
            names.collect::<Vec<_>>().concat()
        ));
    }

    /// A lane is a bar; the message is an arrow from one to another.
    fn arrow(&self, message: &TracedMessage) -> String {
        let place = |end: Endpoint| self.ends.iter().position(|lane| *lane == end);
        let from = place(message.source).unwrap_or_default();
        let to = place(message.destination).unwrap_or_default();
        let (first, last) = (from.min(to), from.max(to));
        let blank = format!("{:<1$}", "|", self.gap);
        let mut line = blank.repeat(first);
        if first == last {
            line.push_str("| (to itself) ");
            line.push_str(&label(message));
            return line;
        }
        let span = last.saturating_sub(first).saturating_mul(self.gap);
        let room = span.saturating_sub(3);
        let text = format!(" {} ", cut(&label(message), room.saturating_sub(4)));
        let dashes = room.saturating_sub(width(&text));
        let (before, after) = (dashes / 2, dashes.saturating_sub(dashes / 2));
        let (before, after) = ("-".repeat(before), "-".repeat(after));
        line.push_str(&if from < to {
            format!("|{before}{text}{after}->|")
        } else {
            format!("|<-{before}{text}{after}|")
        });
        let behind = self.ends.len().saturating_sub(last.saturating_add(1));
        for _ in 0..behind {
            line.push_str(&" ".repeat(self.gap.saturating_sub(1)));
            line.push('|');
        }
        line
    }
}

/// The method, or the status with the method that it answers.
pub(super) fn label(message: &TracedMessage) -> String {
    let line = printable(&message.line);
    let line = line.trim();
    if let Some(status) = line
        .get(..8)
        .filter(|start| start.eq_ignore_ascii_case("SIP/2.0 "))
    {
        let rest = line.get(status.len()..).unwrap_or_default();
        let cseq = printable(&message.cseq);
        return match cseq.split_whitespace().nth(1) {
            Some(method) if method != "INVITE" => format!("{rest} ({method})"),
            _ => rest.to_owned(),
        };
    }
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// The lines below a message: its media, and whether it repeats another.
fn notes(message: &TracedMessage) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    match message.repeats {
        Some(Repeats::Again) => notes.push("sent again".to_owned()),
        Some(Repeats::Copy) => notes.push("in the capture twice".to_owned()),
        None => {
            notes.extend(message.media.iter().map(described));
            if !message.media.is_empty() && !message.can_negotiate {
                notes.push("(neither offer nor answer: it gives no endpoint)".to_owned());
            }
        }
    }
    notes
}

/// `audio 192.0.2.1:4000 PCMU PCMA sendonly`.
pub(super) fn described(media: &MediaLine) -> String {
    let mut words = vec![printable(&media.outline.media)];
    words.push(match (&media.place, media.outline.port) {
        (_, Some(0)) => "port 0".to_owned(),
        (Place::Ip(ip), Some(port)) => Endpoint::new(*ip, port).to_string(),
        (Place::HostName(name), Some(port)) => format!("{}:{port}", printable(name)),
        (Place::Nowhere, Some(port)) => format!("port {port} at no address"),
        (Place::Unreadable, Some(port)) => format!("port {port} at an address that is none"),
        (_, None) => "no port".to_owned(),
    });
    words.extend(media.formats.iter().map(|(_, name)| printable(name)));
    if media.is_encrypted() {
        words.push(printable(&media.outline.protocol));
    }
    let direction = media.outline.direction;
    words.extend(direction.map(|direction| direction.word().to_owned()));
    words.join(" ")
}
