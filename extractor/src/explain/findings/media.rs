//! Findings in the media of a call: silence, one way, encryption, other ports.

use std::collections::BTreeSet;

use super::{MAX_ALIKE, Sentences, negotiating, taken};
use crate::{
    calls::TracedCall,
    events::FlowKey,
    explain::{page::counted, sightings::Sightings},
    packet::Endpoint,
    sdp::{Direction, MediaLine, Place},
};

/// RTP that is missing, goes one way only, is encrypted, or runs beside the descriptions.
pub(super) fn flow(call: &TracedCall, sightings: &Sightings, found: &mut Sentences) {
    let rtp: Vec<&FlowKey> = rtp(call, sightings).collect();
    if rtp.is_empty() && call.was_answered {
        found.push("The call was answered and has no RTP: its media takes another way than its signalling, or a filter for ports left it out. Capture without such a filter, where the media passes.".to_owned());
    } else if !rtp.is_empty() {
        if call.was_answered {
            one_way(call, &rtp, found);
        }
        silence(call, &rtp, found);
    }
    encrypted(call, sightings, found);
    beside(call, sightings, found);
}

/// The flows of the call that carry RTP.
pub(super) fn rtp<'a>(
    call: &'a TracedCall,
    sightings: &'a Sightings,
) -> impl Iterator<Item = &'a FlowKey> {
    taken(call).filter(|key| sightings.look(key).is_some_and(|look| look.rtp > 0))
}

fn one_way(call: &TracedCall, rtp: &[&FlowKey], found: &mut Sentences) {
    let is_answered = |key: &&&FlowKey| {
        rtp.iter().any(|other| {
            let (from, to) = (key.source, key.destination);
            let is_elsewhere = !from.is_at(to);
            other.source == to
                || other.destination == from
                || (is_elsewhere && other.source.is_at(to) && other.destination.is_at(from))
        })
    };
    if rtp.iter().any(|key| is_answered(&key)) {
        return;
    }
    let Some(key) = rtp.first() else {
        return;
    };
    let (source, destination) = (key.source, key.destination);
    let mut asked = negotiating(call).filter_map(|(number, message)| {
        let mut lines = message.media.iter();
        let direction = lines.find_map(|media| {
            let asks = |direction: &Direction| {
                matches!(direction, Direction::SendOnly | Direction::ReceiveOnly)
            };
            media.outline.direction.filter(asks)
        })?;
        let word = direction.word();
        Some(format!(" Message {number} asks for that ({word})."))
    });
    let why = asked.next().unwrap_or_else(|| format!(" Look for a firewall, a NAT, or a wrong address in the SDP on the way to {source}; if {destination} does send, capture where that passes, too."));
    found.push(format!(
        "RTP goes one way: from {source} to {destination}, and none comes back.{why}"
    ));
}

/// Described endpoints without RTP. The last description of a side counts; where a medium was
/// refused, or its ports are guessed elsewhere, other findings say so.
fn silence(call: &TracedCall, rtp: &[&FlowKey], found: &mut Sentences) {
    let mut silent: BTreeSet<Endpoint> = BTreeSet::new();
    let is_refused = |kind: &[u8]| {
        let mut lines = negotiating(call).flat_map(|(_, message)| &message.media);
        lines.any(|media| *media.outline.media == *kind && media.outline.port == Some(0))
    };
    for (number, message) in negotiating(call) {
        let mut later = negotiating(call).skip_while(|(other, _)| *other <= number);
        if later.any(|(_, other)| other.source == message.source) {
            continue;
        }
        for media in &message.media {
            if is_refused(&media.outline.media) {
                continue;
            }
            let (Place::Ip(ip), Some(port)) = (&media.place, media.outline.port) else {
                continue;
            };
            let endpoint = Endpoint::new(*ip, port);
            let is_given = call
                .grants
                .iter()
                .any(|grant| grant.endpoint == endpoint && grant.is_given());
            let at_sender = message.source.with_port(port);
            let is_quiet = !rtp.iter().any(|key| {
                [key.source, key.destination]
                    .iter()
                    .any(|end| *end == endpoint || *end == at_sender)
            });
            if is_given && is_quiet && silent.len() < MAX_ALIKE && silent.insert(endpoint) {
                found.push(format!("No RTP came from or went to {endpoint}, which message {number} gives: that medium was not used, or passes elsewhere."));
            }
        }
    }
}

fn encrypted(call: &TracedCall, sightings: &Sightings, found: &mut Sentences) {
    let described =
        negotiating(call).find(|(_, message)| message.media.iter().any(MediaLine::is_encrypted));
    let has_dtls = taken(call).any(|key| sightings.look(key).is_some_and(|look| look.dtls > 0));
    let by = match described {
        Some((number, _)) => format!("message {number}"),
        None if has_dtls => "DTLS".to_owned(),
        None => return,
    };
    found.push(format!("The media is encrypted (SRTP, by {by}): it is in the call's file and its figures count, but it cannot be listened to without the keys."));
}

/// RTP between the call's hosts on ports that it does not give.
fn beside(call: &TracedCall, sightings: &Sightings, found: &mut Sentences) {
    let flows = call.beside.iter().filter(|(key, _)| {
        sightings
            .look(key)
            .is_some_and(|look| look.rtp > 0 && look.rtp >= look.other)
    });
    for (key, stretch) in flows.take(MAX_ALIKE) {
        let packets = counted(stretch.packets, "packet");
        found.push(format!("{packets} of RTP went from {} to {} and belong to no call: no description of this call gives these ports. A device sends elsewhere than it says, or a message with the new ports is missing.", key.source, key.destination));
    }
}
