//! The endpoints that a call gave, the flows that it has, and those that it does not have.

use super::{
    page::{Page, counted, since},
    sightings::{Look, Sightings},
};
use crate::{
    calls::{Basis, Doubt, Fate, Fit, Grant, GrantOutcome, Outside, Stretch, Trace, TracedCall},
    events::FlowKey,
    outputs::printable,
    packet::Endpoint,
    sdp::{Rank, format_of_static},
};

/// The most rows of a table.
const MAX_ROWS: usize = 60;

/// The number of the message that gave an endpoint, from 1; the capture may have others of that
/// time.
pub(super) fn message_of(call: &TracedCall, grant: &Grant) -> Option<usize> {
    let mut messages = call.messages.iter();
    let place = messages.position(|message| {
        message.time_ns == grant.message_ns && message.can_negotiate && !message.media.is_empty()
    });
    place
        .or_else(|| {
            let mut messages = call.messages.iter();
            messages.position(|message| message.time_ns == grant.message_ns)
        })
        .map(|place| place.saturating_add(1))
}

/// Writes which message gave which endpoint, how surely, and until when.
pub(super) fn endpoints(page: &mut Page, call: &TracedCall) {
    page.heading("Endpoints of media");
    if call.grants.is_empty() {
        page.line("  none");
        return;
    }
    let row = |grant: &Grant| {
        let rank = match grant.rank {
            Rank::Named => "named",
            Rank::Implied => "implied",
            Rank::Guessed => "guessed",
        };
        let message = message_of(call, grant).map_or_else(
            || "a message".to_owned(),
            |number| format!("message {number}"),
        );
        let how = match grant.rank {
            Rank::Named => format!("written in {message}"),
            Rank::Implied => format!("RTCP, one port above RTP of {message}"),
            Rank::Guessed => format!("port of {message} at its sender, or base of a candidate"),
        };
        let what = match (grant.outcome, grant.taken_over) {
            (GrantOutcome::TooLate, _) => {
                "; not taken, because the call was over, and it or another has the endpoint"
            }
            (GrantOutcome::TooMany, _) => "; not taken, because the call has too many",
            (GrantOutcome::Given(_), Some(_)) => "; then a later call gave it",
            (GrantOutcome::Given(_), None) => "",
        };
        [
            grant.endpoint.to_string(),
            rank.to_owned(),
            span(call, grant),
            format!("{how}{what}"),
        ]
    };
    let rows: Vec<[String; 4]> = call.grants.iter().take(MAX_ROWS).map(row).collect();
    page.table(&rows);
    more(page, call.grants.len(), "endpoint");
}

/// The time in which the call has an endpoint.
fn span(call: &TracedCall, grant: &Grant) -> String {
    let from = since(call.first_frame.clock, grant.at.clock);
    match (grant.taken_over, call.end) {
        (Some(at), _) => format!("{from} to {}", since(call.first_frame.clock, at.clock)),
        (None, Some((at, end))) if end.closed_at < u64::MAX => {
            format!("{from} to {}", since(call.first_frame.clock, at.clock))
        }
        _ => format!("{from} to the end"),
    }
}

fn more(page: &mut Page, count: usize, what: &str) {
    let left_out = count.saturating_sub(MAX_ROWS) as u64;
    if left_out > 0 {
        page.line(&format!("  and {} more", counted(left_out, what)));
    }
}

/// Writes the flows of the call, and the reasons.
pub(super) fn taken(page: &mut Page, call: &TracedCall, sightings: &Sightings) {
    page.heading("Packets of the call");
    let mut rows = Vec::new();
    for (key, flow) in &call.flows {
        for (fate, stretch) in &flow.fates {
            if let Fate::Taken(basis) = fate {
                rows.push(Row::new(call, key, stretch, sightings, because(*basis)));
            }
        }
    }
    write(page, call, rows);
}

/// Writes the flows at the call's endpoints that it does not have, and the reasons.
pub(super) fn left(page: &mut Page, call: &TracedCall, trace: &Trace, sightings: &Sightings) {
    page.heading("Packets at its endpoints that it does not have");
    let mut rows = Vec::new();
    // Other calls before and after this one.
    let (mut elsewhen_flows, mut elsewhen_packets) = (0u64, 0u64);
    for (key, flow) in &call.flows {
        for (fate, stretch) in &flow.fates {
            let why = match fate {
                Fate::Taken(_) => continue,
                Fate::Others {
                    is_during: false, ..
                } => {
                    elsewhen_flows = elsewhen_flows.saturating_add(1);
                    elsewhen_packets = elsewhen_packets.saturating_add(stretch.packets);
                    continue;
                }
                Fate::Others {
                    call: other, basis, ..
                } => {
                    let name = trace.call_id(*other).map(printable);
                    let name = name.unwrap_or_else(|| "another".to_owned());
                    format!("of call {name}: {}", because(*basis))
                }
                Fate::Doubt(doubt) => format!("of no call: {}", in_doubt(*doubt)),
                Fate::Outside(outside) => format!("of no call: {}", outside_words(*outside)),
            };
            rows.push(Row::new(call, key, stretch, sightings, &why));
        }
    }
    write(page, call, rows);
    if elsewhen_flows > 0 {
        page.line(&format!(
            "  and {} in {}, of other calls before or after this one",
            counted(elsewhen_packets, "packet"),
            counted(elsewhen_flows, "flow")
        ));
    }
    if call.flows_beyond > 0 {
        page.line("  and more flows than are kept");
    }
}

/// A row of the tables of flows.
struct Row {
    source: Endpoint,
    destination: Endpoint,
    content: String,
    stretch: Stretch,
    why: String,
    /// Flows between the same ends, in so many networks.
    networks: u64,
}

/// Writes rows by the time of their first packet; flows that differ in their network are one.
fn write(page: &mut Page, call: &TracedCall, found: Vec<Row>) {
    let mut rows: Vec<Row> = Vec::new();
    for row in found {
        let mut same = rows.iter_mut().filter(|known| {
            (known.source, known.destination, &known.why, &known.content)
                == (row.source, row.destination, &row.why, &row.content)
        });
        if let Some(known) = same.next() {
            known.networks = known.networks.saturating_add(1);
            known.stretch.merge(&row.stretch);
        } else {
            rows.push(row);
        }
    }
    if rows.is_empty() {
        page.line("  none");
        return;
    }
    rows.sort_by_key(|row| row.stretch.first);
    let count = rows.len();
    let rows: Vec<[String; 5]> = rows
        .iter()
        .take(MAX_ROWS)
        .map(|row| row.cells(call))
        .collect();
    page.table(&rows);
    more(page, count, "row");
}

impl Row {
    fn new(
        call: &TracedCall,
        key: &FlowKey,
        stretch: &Stretch,
        sightings: &Sightings,
        why: &str,
    ) -> Self {
        Self {
            source: key.source,
            destination: key.destination,
            content: content(call, sightings.look(key)),
            stretch: *stretch,
            why: why.to_owned(),
            networks: 1,
        }
    }

    fn cells(&self, call: &TracedCall) -> [String; 5] {
        let Stretch {
            packets,
            first,
            last,
        } = self.stretch;
        let networks = if self.networks > 1 {
            format!(" (in {} networks)", self.networks)
        } else {
            String::new()
        };
        [
            format!("{} -> {}", self.source, self.destination),
            shared::units::grouped(packets),
            format!(
                "{} to {}",
                since(call.first_frame.clock, first),
                since(call.first_frame.clock, last)
            ),
            self.content.clone(),
            format!("{}{networks}", self.why),
        ]
    }
}

/// What the packets of a flow are: `RTP PCMU`.
fn content(call: &TracedCall, look: Option<&Look>) -> String {
    let Some(look) = look else {
        return "in fragments".to_owned();
    };
    let kinds = [
        (look.rtp, "RTP"),
        (look.rtcp, "RTCP"),
        (look.dtls, "DTLS"),
        (look.stun, "STUN"),
        (look.other, "UDP"),
    ];
    let mut words: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, word)| (*word).to_owned())
        .collect();
    let types = look.payload_types.iter();
    if let Some((payload_type, _)) = types.max_by_key(|(_, count)| **count) {
        words.insert(1, codec(call, *payload_type));
    }
    words.join(" ")
}

/// The name of a payload type: that of a description, else the static one, else the number.
fn codec(call: &TracedCall, payload_type: u8) -> String {
    let mut formats = call
        .messages
        .iter()
        .flat_map(|message| &message.media)
        .flat_map(|media| &media.formats);
    let named = formats.find(|(number, _)| *number == Some(payload_type));
    let named = named.map(|(_, name)| printable(name));
    let known = || format_of_static(payload_type).map(|format| printable(format.codec.name()));
    named
        .filter(|name| *name != payload_type.to_string())
        .or_else(known)
        .unwrap_or_else(|| format!("type {payload_type}"))
}

/// The reason why a flow belongs to a call.
fn because(basis: Basis) -> &'static str {
    match basis {
        Basis::BothEnds => "gave both ends",
        Basis::OneEndAndGuess => "gave one end, guessed the other",
        Basis::Destination => "gave the destination",
        Basis::Source => "gave the source",
        Basis::Guess(Fit::BothEnds) => "a guess: both ends",
        Basis::Guess(Fit::Address) => "a guess: one end, the other is at an address of the call",
        Basis::Guess(Fit::OneEnd) => "a guess: one end",
        Basis::Kept => "a guess that got the flow before",
        Basis::Lookback => "lookback: ahead of the SDP that gave an end",
        Basis::Doubt(doubt) => in_doubt(doubt),
        Basis::Nobody => "gave an end at that time",
    }
}

/// The reason why a guess is refused.
pub(super) fn in_doubt(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Crowd => "guess refused, too many calls guess an end of it",
        Doubt::Tie => "guess refused, another call fits as well",
        Doubt::OtherPorts => "guess refused, the call gives other ports at the other end's address",
        Doubt::LeftRunning => "guess refused, a call that has closed left it running",
    }
}

/// The reason why packets at an endpoint belong to no call.
fn outside_words(outside: Outside) -> &'static str {
    match outside {
        Outside::BeforeInvite => "before the INVITE",
        Outside::BeforeLookback => "too long before the SDP that gives the endpoint",
        Outside::AfterEnd => "after the call closed",
        Outside::TakenOver => "this call was over, and a later one gave the endpoint",
        Outside::Held => "ahead of the SDP, while another call had an end of it",
    }
}
