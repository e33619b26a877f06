//! Conversations of which no call gave an end for sure, and guesses at the endpoints of media
//! (docs/calls.md, "Guesses").
//!
//! The worst error here is media of one call in the file of another. So a guess gets a conversation
//! only if no other guess fits as well, and keeps it; in doubt, no call gets it.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    Basis, CallNumber, Doubt, Endpoints, Fit,
    endpoints::{Had, MAX_GUESSING},
};
use crate::{
    events::{FlowKey, SipEvent},
    packet::Endpoint,
    sdp::Media,
};

/// A call that gives more addresses than this is not believed.
const MAX_ADDRESSES: usize = 64;

/// The call that has a conversation by guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuessedOwner {
    /// This call has it, for this reason.
    Of(CallNumber, Basis),
    /// Several calls may have it, and none fits best.
    InDoubt(Doubt),
    /// No call guesses any of its ends.
    Nobodys,
}

/// The addresses of a call, as the capture sees them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Addresses {
    /// The addresses that its descriptions have and its messages come from: there is no NAT before
    /// them.
    own: SmallVec<[Endpoint; 2]>,
    /// The addresses of servers that are known from outside by another address. Their NAT keeps
    /// ports.
    mapped: SmallVec<[Endpoint; 1]>,
}

impl Addresses {
    /// The endpoints at which media may be captured, although the description has others, because
    /// its sender is behind NAT or gives host names. They have the ports of the description, at the
    /// address from which the message came, if that is the sender's.
    pub(super) fn guess(&mut self, media: &Media, event: &SipEvent<'_>) -> Vec<Endpoint> {
        let source = event.source.with_port(0);
        let given = || media.endpoints.iter().map(|(endpoint, _)| *endpoint);
        let mut guesses = media.bases.clone();
        guesses
            .iter()
            .filter(|base| base.is_private())
            .for_each(|base| note(&mut self.mapped, *base));
        if given().any(|endpoint| endpoint.is_at(source)) {
            note(&mut self.own, source);
            return guesses;
        }
        if event.message.is_first_hand() {
            let elsewhere = given().filter(|endpoint| !is_noted(&self.own, *endpoint));
            let translated: Vec<Endpoint> = elsewhere
                .filter(|endpoint| endpoint.is_private() || source.is_private())
                .collect();
            if source.is_private() && translated.iter().any(|endpoint| !endpoint.is_private()) {
                note(&mut self.mapped, source);
            }
            let ports = translated
                .iter()
                .map(|endpoint| endpoint.port())
                .chain(media.unresolved.iter().copied());
            guesses.extend(ports.map(|port| source.with_port(port)));
        }
        guesses
    }

    /// True when the call gave all its ports at the address of an endpoint.
    fn are_exact_at(&self, endpoint: Endpoint) -> bool {
        is_noted(&self.mapped, endpoint)
    }
}

fn note<const N: usize>(addresses: &mut SmallVec<[Endpoint; N]>, address: Endpoint)
where
    [Endpoint; N]: smallvec::Array<Item = Endpoint>,
{
    if !is_noted(addresses, address) && addresses.len() < MAX_ADDRESSES {
        addresses.push(address.with_port(0));
    }
}

fn is_noted(addresses: &[Endpoint], endpoint: Endpoint) -> bool {
    addresses.iter().any(|address| address.is_at(endpoint))
}

/// The properties of a call that guesses.
pub(super) struct Facts<'a> {
    /// Its addresses.
    pub(super) addresses: &'a Addresses,
    /// Its endpoints.
    pub(super) held: &'a [Endpoint],
    /// True when its signalling came through the network of the conversation.
    pub(super) is_near: bool,
}

/// The call that has a conversation of which no call gave an end for sure.
pub(super) fn guessed_owner<'a>(
    conversation: FlowKey,
    endpoints: &Endpoints,
    facts: impl Fn(CallNumber) -> Option<Facts<'a>>,
) -> GuessedOwner {
    let FlowKey {
        source,
        destination,
        ..
    } = conversation;
    let ((at_source, of_source), (at_destination, of_destination)) =
        (endpoints.guessing(source), endpoints.guessing(destination));
    if at_source == 0 && at_destination == 0 {
        return GuessedOwner::Nobodys;
    }
    let had = endpoints.had(conversation.either_way());
    if let Some(Had::By(call)) = had
        && (endpoints.is_guess(source, call) || endpoints.is_guess(destination, call))
    {
        return GuessedOwner::Of(call, Basis::Kept);
    }
    let is_crowded = at_source.saturating_add(at_destination) > MAX_GUESSING
        || (at_source > 0 && endpoints.hold(source).is_crowded)
        || (at_destination > 0 && endpoints.hold(destination).is_crowded);
    let mut guessing: SmallVec<[CallNumber; 4]> = if is_crowded {
        endpoints
            .holding_both(source, destination)
            .take(MAX_GUESSING.saturating_add(1))
            .collect()
    } else {
        of_source.chain(of_destination).collect()
    };
    if is_crowded && guessing.len() > MAX_GUESSING {
        return GuessedOwner::InDoubt(Doubt::Crowd);
    }
    guessing.sort_unstable();
    guessing.dedup();
    let candidates = guessing.iter().filter_map(|call| {
        let facts = facts(*call)?;
        let fit = fit(*call, conversation, endpoints, &facts)?;
        Some((facts.is_near, fit, *call))
    });
    let mut candidates: SmallVec<[(bool, Fit, CallNumber); 4]> = candidates.collect();
    candidates.sort_unstable();
    match candidates.as_slice() {
        [.., (near, fit, _), (best_near, best_fit, _)] if (near, fit) == (best_near, best_fit) => {
            GuessedOwner::InDoubt(Doubt::Tie)
        }
        [.., (_, fit, call)] if had.is_none() || *fit == Fit::BothEnds => {
            GuessedOwner::Of(*call, Basis::Guess(*fit))
        }
        [_, ..] => GuessedOwner::InDoubt(Doubt::LeftRunning),
        [] if is_crowded => GuessedOwner::InDoubt(Doubt::Crowd),
        [] => GuessedOwner::InDoubt(Doubt::OtherPorts),
    }
}

/// The fit of a call that guesses one end; `None` if the call gives other ports at the address of
/// the other end.
fn fit(
    call: CallNumber,
    conversation: FlowKey,
    endpoints: &Endpoints,
    facts: &Facts<'_>,
) -> Option<Fit> {
    let FlowKey {
        source,
        destination,
        ..
    } = conversation;
    let other = match (
        facts.held.contains(&source),
        facts.held.contains(&destination),
    ) {
        (true, true) => return Some(Fit::BothEnds),
        (true, false) => destination,
        (false, true) => source,
        (false, false) => return None,
    };
    let mut there = facts
        .held
        .iter()
        .filter(|held| held.is_at(other))
        .peekable();
    if there.peek().is_none() {
        return Some(Fit::OneEnd);
    }
    let is_exact =
        facts.addresses.are_exact_at(other) || there.any(|held| endpoints.is_sure(*held, call));
    (!is_exact).then_some(Fit::Address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::Frames,
        moment::Moment,
        packet::Network,
        sdp::{Description, Rank},
        sip::Message,
    };

    const A: CallNumber = CallNumber(1);
    const B: CallNumber = CallNumber(2);
    const ROUTER: Endpoint = Endpoint::v4([198, 51, 100, 7], 4000);
    const CLOUD: Endpoint = Endpoint::v4([172, 31, 5, 5], 10_000);
    const STRANGER: Endpoint = Endpoint::v4([203, 0, 113, 9], 50_000);

    fn guesses(addresses: &mut Addresses, source: Endpoint, vias: &str, sdp: &str) -> Vec<String> {
        let text = format!("INVITE sip:b SIP/2.0\r\n{vias}From: a\r\nTo: b\r\nCall-ID: 1\r\n\r\n");
        let message = Message::parse(text.as_bytes()).unwrap().unwrap();
        let media = Description::parse(format!("{sdp}\n").as_bytes())
            .media
            .remove(0);
        let (at, frames) = (Moment::default(), Frames::new());
        let event = SipEvent {
            at,
            frames,
            timestamp_ns: 0,
            told_ns: None,
            network: Network::PLAIN,
            source,
            destination: source,
            message,
            descriptions: Vec::new(),
        };
        addresses
            .guess(&media, &event)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn where_a_description_cannot_be_right() {
        let guess = |source, vias, sdp| guesses(&mut Addresses::default(), source, vias, sdp);
        let private = "c=IN IP4 10.0.0.5\nm=audio 4000 RTP/AVP 0";
        let public = "c=IN IP4 203.0.113.5\nm=audio 10000 RTP/AVP 0";
        assert_eq!(
            guess(ROUTER, "", private),
            ["198.51.100.7:4000", "198.51.100.7:4001"],
            "a phone behind NAT"
        );
        assert_eq!(
            guess(CLOUD, "", public),
            ["172.31.5.5:10000", "172.31.5.5:10001"],
            "a server in a cloud"
        );
        assert_eq!(guess(ROUTER, "", public), [""; 0], "a relay elsewhere");
        assert_eq!(
            guess(ROUTER, "Via: a\r\nVia: b\r\n", private),
            [""; 0],
            "through a proxy"
        );
        let named = guess(
            ROUTER,
            "",
            "c=IN IP4 media.example.com\nm=audio 4000 RTP/AVP 0",
        );
        assert_eq!(
            named,
            ["198.51.100.7:4000", "198.51.100.7:4001"],
            "the name of a host"
        );
        let candidate =
            "a=candidate:1 1 UDP 1 203.0.113.5 10000 typ srflx raddr 172.31.5.5 rport 10000";
        let reflexive = guess(
            STRANGER,
            "Via: a\r\nVia: b\r\n",
            &format!("{public}\n{candidate}"),
        );
        assert_eq!(reflexive, ["172.31.5.5:10000"], "behind a candidate");
    }

    #[test]
    fn an_address_that_messages_come_from_is_right() {
        let mut addresses = Addresses::default();
        let phone = Endpoint::v4([10, 0, 0, 5], 5060);
        let sdp = "c=IN IP4 10.0.0.5\nm=audio 4000 RTP/AVP 0";
        assert!(guesses(&mut addresses, phone, "", sdp).is_empty());
        assert!(
            guesses(&mut addresses, ROUTER, "", sdp).is_empty(),
            "a back-to-back agent repeats it"
        );
    }

    /// The owner by guess of a conversation of the router's port 4000, which is guessed by calls that also
    /// hold these endpoints.
    fn verdict_on(
        other: Endpoint,
        calls: &[(CallNumber, &[(Endpoint, Rank)])],
        had: Option<Had>,
    ) -> GuessedOwner {
        let mut endpoints = Endpoints::default();
        let mut held = Vec::new();
        for (call, others) in calls {
            let all: Vec<(Endpoint, Rank)> = [(ROUTER, Rank::Guessed)]
                .iter()
                .chain(*others)
                .copied()
                .collect();
            all.iter().for_each(|(endpoint, rank)| {
                _ = endpoints.give(*endpoint, *call, *rank, Moment::default());
            });
            held.push((
                *call,
                all.into_iter()
                    .map(|(endpoint, _)| endpoint)
                    .collect::<Vec<_>>(),
            ));
        }
        let conversation = FlowKey::between(ROUTER, other);
        had.into_iter()
            .for_each(|had| endpoints.note_had(conversation.either_way(), had));
        let mut addresses = Addresses::default();
        note(&mut addresses.mapped, CLOUD);
        guessed_owner(conversation, &endpoints, |number| {
            let (_, held) = held.iter().find(|(call, _)| *call == number)?;
            Some(Facts {
                addresses: &addresses,
                held,
                is_near: false,
            })
        })
    }

    #[test]
    fn who_fits_better() {
        let guessed = |endpoint| (endpoint, Rank::Guessed);
        let other_port = STRANGER.with_port(1);
        assert_eq!(verdict_on(STRANGER, &[], None), GuessedOwner::Nobodys);
        assert_eq!(
            verdict_on(STRANGER, &[(A, &[])], None),
            GuessedOwner::Of(A, Basis::Guess(Fit::OneEnd))
        );
        assert_eq!(
            verdict_on(STRANGER, &[(A, &[]), (B, &[])], None),
            GuessedOwner::InDoubt(Doubt::Tie)
        );
        assert_eq!(
            verdict_on(STRANGER, &[(A, &[guessed(STRANGER)]), (B, &[])], None),
            GuessedOwner::Of(A, Basis::Guess(Fit::BothEnds)),
            "both ends"
        );
        assert_eq!(
            verdict_on(STRANGER, &[(A, &[]), (B, &[guessed(other_port)])], None),
            GuessedOwner::Of(B, Basis::Guess(Fit::Address)),
            "the address"
        );
        assert_eq!(
            verdict_on(STRANGER, &[(A, &[(other_port, Rank::Named)])], None),
            GuessedOwner::InDoubt(Doubt::OtherPorts),
            "its media are elsewhere"
        );
        assert_eq!(
            verdict_on(CLOUD.with_port(2), &[(A, &[guessed(CLOUD)])], None),
            GuessedOwner::InDoubt(Doubt::OtherPorts),
            "ports are kept there"
        );
    }

    #[test]
    fn who_has_it_keeps_it() {
        let guessed = |endpoint| (endpoint, Rank::Guessed);
        assert_eq!(
            verdict_on(
                STRANGER,
                &[(A, &[]), (B, &[guessed(STRANGER)])],
                Some(Had::By(A))
            ),
            GuessedOwner::Of(A, Basis::Kept)
        );
        assert_eq!(
            verdict_on(STRANGER, &[(A, &[])], Some(Had::Before)),
            GuessedOwner::InDoubt(Doubt::LeftRunning),
            "left running by another"
        );
        assert_eq!(
            verdict_on(STRANGER, &[(A, &[guessed(STRANGER)])], Some(Had::Before)),
            GuessedOwner::Of(A, Basis::Guess(Fit::BothEnds))
        );
    }
}
