//! What is missing in a call, or strange, and what to do.

use std::collections::BTreeSet;

use shared::units::GoDuration;

use super::{
    Task,
    flows::in_doubt,
    ladder::{described, label},
    missing::elsewhere,
    page::{Page, counted},
    sightings::Sightings,
};
use crate::{
    calls::{
        CallState, Doubt, Fate, GrantOutcome, Outside, Repeats, Stretch, Trace, TracedCall,
        TracedMessage,
    },
    events::FlowKey,
    outputs::printable,
    packet::Endpoint,
    sdp::{Direction, MediaLine, Place, Rank},
    sip::{Method, StartLine},
};

mod media;

/// The most findings of one kind, such as of one media line.
const MAX_ALIKE: usize = 8;

const SECOND_NS: u64 = 1_000_000_000;

/// What is found, in sentences.
type Sentences = Vec<String>;

/// Writes what is found.
pub(super) fn tell(
    page: &mut Page,
    call: &TracedCall,
    trace: &Trace,
    sightings: &Sightings,
    task: &Task,
) {
    page.heading("Findings");
    let mut found = Sentences::new();
    signalling(call, sightings, task, &mut found);
    descriptions(call, sightings, &mut found);
    media::flow(call, sightings, &mut found);
    left(call, trace, sightings, task, &mut found);
    if found.is_empty() {
        found.push("Nothing is missing.".to_owned());
    }
    for sentence in found {
        page.wrapped("  * ", &sentence);
    }
}

fn is_request(message: &TracedMessage, method: Method) -> bool {
    message.start == StartLine::Request(method)
}

/// The messages: whether all are there, and how the call ended.
fn signalling(call: &TracedCall, sightings: &Sightings, task: &Task, found: &mut Sentences) {
    if call.is_mid_dialog {
        found.push("The capture begins inside the call: its first INVITE has a To tag, and the SDP from before is missing. Name the file before this one, too.".to_owned());
    }
    if !sightings.elsewhere.is_empty() {
        found.push(elsewhere(sightings));
    }
    let mut messages = call.messages.iter();
    if !messages.any(|message| matches!(message.start, StartLine::Status(_))) {
        found.push("No response is in the capture: the receiver did not answer, or responses take another way. Capture where both directions pass.".to_owned());
    }
    let again = call.messages.iter().filter(|message| {
        is_request(message, Method::Invite) && message.repeats == Some(Repeats::Again)
    });
    let again = again.count() as u64;
    if again > 0 {
        let times = counted(again, "time");
        found.push(format!("The INVITE was sent again {times}: no response reached its sender in time. Look for the response on the other side."));
    }
    let copies = call
        .messages
        .iter()
        .filter(|message| message.repeats == Some(Repeats::Copy));
    let copies = copies.count() as u64;
    if copies > 0 {
        let messages = counted(copies, "message");
        let is = if copies == 1 { "is" } else { "are" };
        found.push(format!("{messages} {is} in the capture twice: two capture points, or a mirror of both ports of a flow. With --input-dir, --dedup leaves out copies."));
    }
    let tls = sightings
        .tls
        .iter()
        .filter(|(pair, _)| pair.iter().all(|host| call.hosts.contains(host)));
    for ([one, other], records) in tls.take(MAX_ALIKE) {
        let records = counted(*records, "record");
        found.push(format!("TLS runs between {one} and {other} ({records}): SIP in it cannot be read. Capture behind the proxy where TLS ends."));
    }
    found.extend(end(call, task));
}

fn end(call: &TracedCall, task: &Task) -> Option<String> {
    let (_, end) = call.end?;
    let last_final = || {
        let mut responses = call.messages.iter().rev();
        responses.find(|message| matches!(message.start, StartLine::Status(300..)))
    };
    Some(match end.state {
        CallState::Incomplete => {
            "The capture ends before the call. Name the files after this one, too.".to_owned()
        }
        CallState::Timeout => {
            let timeout = GoDuration::from_ns(task.rules.call_timeout_ns.unwrap_or(0));
            format!(
                "The call closed because neither SIP nor media came for {timeout}; the capture has no BYE. If it went on, type a longer --call-timeout."
            )
        }
        CallState::Flood => {
            let most = task.rules.max_open_calls;
            format!(
                "The call was given up because more than {most} calls were open, and nobody had answered it. Type a higher --max-open-calls."
            )
        }
        CallState::Failed => match last_final() {
            Some(response) => format!(
                "The call was refused: {}, by {}.",
                label(response),
                response.source
            ),
            None => return None,
        },
        CallState::Completed | CallState::Cancelled => return None,
    })
}

/// The messages that offer or answer, with their numbers.
fn negotiating(call: &TracedCall) -> impl Iterator<Item = (usize, &TracedMessage)> {
    let numbered = (1..).zip(&call.messages);
    numbered.filter(|(_, message)| {
        message.can_negotiate && !message.media.is_empty() && message.repeats.is_none()
    })
}

/// What the SDP says, or does not say.
fn descriptions(call: &TracedCall, sightings: &Sightings, found: &mut Sentences) {
    let senders: BTreeSet<Endpoint> = negotiating(call)
        .map(|(_, message)| message.source)
        .collect();
    match senders.first() {
        None => found.push("No message describes media (SDP), so nothing says which packets are the call's. If bodies were cut, capture with a larger --snaplen.".to_owned()),
        Some(sender) if senders.len() == 1 && call.was_answered => found.push(format!("Only {sender} describes media; the other side's SDP is not in the capture. Capture where both directions pass.")),
        _ => {}
    }
    let mut said: BTreeSet<String> = BTreeSet::new();
    for (number, message) in negotiating(call) {
        for media in &message.media {
            let sentence = line(call, sightings, number, message, media);
            if let Some((key, sentence)) = sentence
                && said.len() < MAX_ALIKE
                && said.insert(format!("{key} {}", message.source.ip()))
            {
                found.push(sentence);
            }
        }
    }
    let mut grants = call.grants.iter();
    if grants.any(|grant| grant.outcome == GrantOutcome::TooMany) {
        found.push(
            "The call gives more endpoints than are believed; the rest is left out.".to_owned(),
        );
    }
}

/// The finding in a media line, and its kind.
fn line(
    call: &TracedCall,
    sightings: &Sightings,
    number: usize,
    message: &TracedMessage,
    media: &MediaLine,
) -> Option<(&'static str, String)> {
    let kind = printable(&media.outline.media);
    let who = format!("Message {number}");
    if media.outline.port == Some(0) {
        return Some((
            "port 0",
            format!("{who} refuses or removes the {kind} (port 0): nothing is sent."),
        ));
    }
    let nat = |place: &str| {
        let source = message.source.ip();
        if !message.is_first_hand {
            return format!(
                "{who} gives {place}, but it passed a proxy, so the address that it came from ({source}) says nothing. Capture between the phone and the proxy."
            );
        }
        format!(
            "{who} gives {place}, where no RTP is, and came from {source}: its ports are guessed there, too. A phone behind a NAT should give the address that others see (STUN, or a public address in its settings)."
        )
    };
    let found = match &media.place {
        Place::HostName(name) => (
            "host name",
            nat(&format!(
                "the host name {} in place of an address",
                printable(name)
            )),
        ),
        Place::Nowhere | Place::Unreadable => (
            "no address",
            format!(
                "{who} gives no address for the {kind}: {}.",
                described(media)
            ),
        ),
        Place::Ip(ip) if ip.is_unspecified() => (
            "hold",
            format!("{who} gives the address {ip}: the {kind} is on hold."),
        ),
        _ if media.outline.direction == Some(Direction::Inactive) => (
            "inactive",
            format!(
                "{who} sets the {kind} inactive (hold): it gives no endpoint until a later message ends that."
            ),
        ),
        Place::Ip(ip) => {
            let given = Endpoint::new(*ip, media.outline.port?);
            let is_own = given.is_at(message.source);
            let is_guessed = || {
                let mut grants = call.grants.iter();
                grants.any(|grant| {
                    grant.rank == Rank::Guessed && grant.endpoint.is_at(message.source)
                })
            };
            let is_behind = given.is_private() && !message.source.is_private();
            let is_used = media::rtp(call, sightings)
                .any(|key| key.source == given || key.destination == given);
            if is_own || is_used || !(is_behind || is_guessed()) {
                return None;
            }
            let what = if given.is_private() {
                "the private address"
            } else {
                "the address"
            };
            ("nat", nat(&format!("{what} {ip}")))
        }
    };
    Some(found)
}

/// Packets at the endpoints that the call does not have.
fn left(
    call: &TracedCall,
    trace: &Trace,
    sightings: &Sightings,
    task: &Task,
    found: &mut Sentences,
) {
    // STUN and the like before and after a call are usual.
    let is_rtp = |key: &FlowKey| sightings.look(key).is_none_or(|look| look.rtp > 0);
    let of = |is_meant: &dyn Fn(&Fate) -> bool| {
        let flows = call.flows.iter().filter(|(key, _)| is_rtp(key));
        let fates = flows.flat_map(|(_, flow)| &flow.fates);
        let mut sum = Stretch::default();
        fates
            .filter(|(fate, _)| is_meant(fate))
            .for_each(|(_, stretch)| sum.merge(stretch));
        (sum.packets > 0).then_some(sum)
    };
    let outside = |which| of(&|fate| *fate == Fate::Outside(which));
    if let Some(sum) = outside(Outside::BeforeInvite) {
        let packets = counted(sum.packets, "packet");
        found.push(format!("{packets} came to or from its endpoints before the INVITE: they are of an earlier call whose signalling is not in the capture, or messages came late into the capture."));
    }
    if let Some(sum) = outside(Outside::BeforeLookback) {
        let packets = counted(sum.packets, "packet");
        let starts = call.grants.iter().map(|grant| grant.at.clock);
        let needed = starts.max().unwrap_or(0).saturating_sub(sum.first);
        let needed = whole_seconds(needed);
        found.push(format!("{packets} came long before the SDP that gives the endpoint. If they belong to the call, type --media-lookback {needed}."));
    }
    if let Some(sum) = outside(Outside::AfterEnd) {
        let packets = counted(sum.packets, "packet");
        let closed = call.end.map_or(0, |(at, _)| at.clock);
        let late = sum.last.saturating_sub(closed);
        let is_timeout = call
            .end
            .is_some_and(|(_, end)| end.state == CallState::Timeout);
        let flag = if is_timeout {
            "a longer --call-timeout".to_owned()
        } else {
            format!(
                "--linger {}",
                whole_seconds(late.saturating_add(task.rules.linger_ns))
            )
        };
        found.push(format!("{packets} came after the call closed: a side that did not notice the end, or another call whose signalling is not in the capture. If they belong to the call, type {flag}."));
    }
    for doubt in [
        Doubt::Crowd,
        Doubt::Tie,
        Doubt::OtherPorts,
        Doubt::LeftRunning,
    ] {
        if let Some(sum) = of(&|fate| *fate == Fate::Doubt(doubt)) {
            let packets = counted(sum.packets, "packet");
            let why = in_doubt(doubt);
            found.push(format!("{packets} may be the call's, and are in no call's file ({why}). Capture on the other side of the NAT, where the SDP is right."));
        }
    }
    let mut others: BTreeSet<String> = BTreeSet::new();
    for flow in call.flows.values() {
        for fate in flow.fates.keys() {
            if let Fate::Others {
                call: other,
                is_during: true,
                ..
            } = fate
            {
                others.extend(trace.call_id(*other).map(printable));
            }
        }
    }
    for other in others.into_iter().take(MAX_ALIKE) {
        found.push(format!("Packets at its endpoints belong to the call {other}, which gave an endpoint, too: the same conversation on another leg, or a port used again too early. Type --call-id '{other}' to see it."));
    }
}

/// A duration that is at least this long, in whole seconds: `5s`.
fn whole_seconds(ns: u64) -> GoDuration {
    GoDuration::from_ns(ns.div_ceil(SECOND_NS).saturating_mul(SECOND_NS))
}

/// The flows that the call has.
fn taken(call: &TracedCall) -> impl Iterator<Item = &FlowKey> {
    let flows = call.flows.iter().filter(|(_, flow)| {
        let mut fates = flow.fates.keys();
        fates.any(|fate| matches!(fate, Fate::Taken(_)))
    });
    flows.map(|(key, _)| key)
}
