//! The messages of a call, drawn between their endpoints, and those of its conversation, drawn
//! between hosts.

use super::page::{Page, cut, since, width};
use crate::{
    calls::{NamedLeg, Repeats, Trace, TracedCall, TracedMessage},
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

/// The most letters of a Call-ID in the list of legs.
const MAX_CALL_ID: usize = 60;

/// A message as it is drawn.
struct Arrow<'a> {
    message: &'a TracedMessage,
    from: String,
    to: String,
    label: String,
}

/// The lanes of a ladder, one for each endpoint or host.
struct Lanes<'a> {
    ends: Vec<&'a str>,
    gap: usize,
}

/// Draws the messages of a call between their endpoints.
pub(super) fn draw(page: &mut Page, call: &TracedCall) {
    page.heading("Messages");
    let arrow = |message| Arrow::between(message, &|end| end.to_string(), label(message));
    let arrows: Vec<Arrow<'_>> = call.messages.iter().map(arrow).collect();
    draw_all(page, call.start_ns, &arrows, call.messages_beyond);
}

/// Draws the messages of all legs of a call's conversation between their hosts.
pub(super) fn draw_conversation(page: &mut Page, call: &TracedCall, trace: &Trace) {
    let Some(conversation) = trace.conversation_of(call) else {
        return;
    };
    let count = conversation.legs.len();
    page.heading(&format!("Messages of the {count} legs of the conversation"));
    let mut calls = trace.calls().iter();
    let is_leg = |one: &&TracedCall| conversation.legs.iter().any(|leg| leg.number == one.number);
    if let Some(before) = calls.find(is_leg).filter(|one| one.number != call.number) {
        let call_id = printable(&before.call_id);
        page.wrapped("  ", &format!("see call {call_id}, which is one of them"));
        return;
    }
    let leg = |(index, leg): (usize, &NamedLeg)| {
        let call_id = cut(&printable(&leg.call_id), MAX_CALL_ID);
        let this = if leg.number == call.number {
            "this call"
        } else {
            ""
        };
        let start = since(call.start_ns, leg.start_ns);
        [name_of_leg(index), start, call_id, this.to_owned()]
    };
    let legs: Vec<_> = conversation.legs.iter().enumerate().map(leg).collect();
    page.table(&legs);
    page.blank();
    let host = |end: Endpoint| end.ip().to_string();
    let arrows = conversation.messages.iter().map(|(leg, message)| {
        let text = format!("{} {}", name_of_leg(*leg), label(message));
        Arrow::between(message, &host, text)
    });
    let arrows: Vec<Arrow<'_>> = arrows.collect();
    draw_all(page, call.start_ns, &arrows, conversation.messages_beyond);
}

/// The name of a leg in a ladder: `1:`.
fn name_of_leg(index: usize) -> String {
    format!("{}:", index.saturating_add(1))
}

/// Draws messages; `beyond` of them are not there.
fn draw_all(page: &mut Page, start_ns: u64, arrows: &[Arrow<'_>], beyond: u64) {
    let lanes = Lanes::of(arrows, page.columns);
    if let Some(lanes) = &lanes {
        lanes.head(page);
    }
    let mut before = None;
    for (number, arrow) in (1..).zip(arrows).take(MAX_DRAWN) {
        let message = arrow.message;
        let time = since(start_ns, message.time_ns);
        let later = before.map_or_else(String::new, |before| {
            let sign = if message.time_ns < before { "" } else { "+" };
            format!("{sign}{}", since(before, message.time_ns))
        });
        before = Some(message.time_ns);
        let left = format!("{number:>4}  {time:>9}  {later:>8}");
        match &lanes {
            Some(lanes) => page.line(&format!("{left:<LEFT$}{}", lanes.arrow(arrow))),
            None => page.wrapped(
                &format!("{left:<LEFT$}"),
                &format!("{} -> {}  {}", arrow.from, arrow.to, arrow.label),
            ),
        }
        for note in notes(message) {
            page.wrapped(&" ".repeat(LEFT.saturating_add(2)), &note);
        }
    }
    let left_out = arrows.len().saturating_sub(MAX_DRAWN) as u64;
    let left_out = left_out.saturating_add(beyond);
    if left_out > 0 {
        page.line(&format!("      and {left_out} more"));
    }
}

impl<'a> Arrow<'a> {
    /// The arrow of a message between lanes with these names.
    fn between(
        message: &'a TracedMessage,
        name: &impl Fn(Endpoint) -> String,
        label: String,
    ) -> Self {
        Self {
            message,
            from: name(message.source),
            to: name(message.destination),
            label,
        }
    }
}

impl<'a> Lanes<'a> {
    /// `None` if they do not fit.
    fn of(arrows: &'a [Arrow<'_>], columns: usize) -> Option<Self> {
        let mut ends: Vec<&str> = Vec::new();
        for arrow in arrows {
            for end in [&arrow.from, &arrow.to] {
                if !ends.contains(&end.as_str()) {
                    ends.push(end);
                }
            }
        }
        let last = width(ends.last()?);
        let gaps = ends.len().saturating_sub(1).max(1);
        let room = columns.saturating_sub(LEFT.saturating_add(last));
        let gap = room.checked_div(gaps)?.min(MAX_GAP);
        let widest = ends.iter().map(|end| width(end)).max()?;
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
    fn arrow(&self, arrow: &Arrow<'_>) -> String {
        let place = |end: &str| self.ends.iter().position(|lane| *lane == end);
        let from = place(&arrow.from).unwrap_or_default();
        let to = place(&arrow.to).unwrap_or_default();
        let (first, last) = (from.min(to), from.max(to));
        let blank = format!("{:<1$}", "|", self.gap);
        let mut line = blank.repeat(first);
        if first == last {
            line.push_str("| (to itself) ");
            line.push_str(&arrow.label);
            return line;
        }
        let span = last.saturating_sub(first).saturating_mul(self.gap);
        let room = span.saturating_sub(3);
        let text = format!(" {} ", cut(&arrow.label, room.saturating_sub(4)));
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
