//! Conversations of which no call gave an end for sure, and guesses at the ends of media (README, "Guesses").
//!
//! One call's sound in another call's file is the worst that can happen here. So a guess has a conversation only where no
//! other guess fits as well, keeps it, and gives it to nobody else; where there is doubt, nobody has it.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{CallNumber, Endpoints, endpoints::Had};
use crate::{
    events::{FlowKey, SipEvent},
    packet::Endpoint,
    sdp::Media,
};

/// A call that gives more addresses than this is not believed.
const MAX_ADDRESSES: usize = 64;

/// Whose a conversation is by guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A call's.
    Of(CallNumber),
    /// Some calls may have it, and it cannot be told which.
    InDoubt,
    /// No call guesses any of its ends.
    Nobodys,
}

/// How well a guess fits a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// At one end; nothing is known of the other.
    OneEnd,
    /// At one end; the other is at an address of the call whose translator may have chosen another port.
    Address,
    /// At both ends.
    BothEnds,
}

/// The addresses of a call, as the capture sees them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Addresses {
    /// Those that its descriptions have and its messages come from: no translator is before them.
    own: SmallVec<[Endpoint; 2]>,
    /// Those of servers that are known from outside by another address. Their translator keeps ports.
    mapped: SmallVec<[Endpoint; 1]>,
}

impl Addresses {
    /// The endpoints at which media may be seen that a description does not have, if its sender is behind a translator of
    /// addresses, or names hosts. The ports of the description are looked for at the address that the message came from, if
    /// that is the sender's.
    pub(super) fn guess(&mut self, media: &Media, event: &SipEvent<'_>) -> Vec<Endpoint> {
        let source = event.source.with_port(0);
        let given = || media.endpoints.iter().map(|(endpoint, _)| *endpoint);
        let mut guesses = media.bases.clone();
        guesses.iter().filter(|base| base.is_private()).for_each(|base| note(&mut self.mapped, *base));
        if given().any(|endpoint| endpoint.is_at(source)) {
            note(&mut self.own, source);
            return guesses;
        }
        if event.message.is_first_hand() {
            let elsewhere = given().filter(|endpoint| !is_noted(&self.own, *endpoint));
            let translated: Vec<Endpoint> = elsewhere.filter(|endpoint| endpoint.is_private() || source.is_private()).collect();
            if source.is_private() && translated.iter().any(|endpoint| !endpoint.is_private()) {
                note(&mut self.mapped, source);
            }
            let ports = translated.iter().map(|endpoint| endpoint.port()).chain(media.unresolved.iter().copied());
            guesses.extend(ports.map(|port| source.with_port(port)));
        }
        guesses
    }

    /// Whether the ports that the call gave at the address of an endpoint are all that it has there.
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

/// What is asked of a call that guesses.
pub(super) struct Facts<'a> {
    /// Its addresses.
    pub(super) addresses: &'a Addresses,
    /// Its endpoints.
    pub(super) held: &'a [Endpoint],
    /// Whether its signalling came through the network of the conversation.
    pub(super) is_near: bool,
}

/// Whose a conversation is that no call gave an end of for sure.
pub(super) fn verdict<'a>(
    conversation: FlowKey,
    endpoints: &Endpoints,
    facts: impl Fn(CallNumber) -> Option<Facts<'a>>,
) -> Verdict {
    let FlowKey { source, destination, .. } = conversation;
    if !endpoints.is_guessed(source) && !endpoints.is_guessed(destination) {
        return Verdict::Nobodys;
    }
    let mut guessing: SmallVec<[CallNumber; 4]> = endpoints.guessing(source).chain(endpoints.guessing(destination)).collect();
    guessing.sort_unstable();
    guessing.dedup();
    let had = endpoints.had(conversation.either_way());
    if let Some(Had::By(call)) = had
        && guessing.binary_search(&call).is_ok()
    {
        return Verdict::Of(call);
    }
    let candidates = guessing.iter().filter_map(|call| {
        let facts = facts(*call)?;
        let fit = fit(*call, conversation, endpoints, &facts)?;
        Some((facts.is_near, fit, *call))
    });
    let mut candidates: SmallVec<[(bool, Fit, CallNumber); 4]> = candidates.collect();
    candidates.sort_unstable();
    match candidates.as_slice() {
        [.., (near, fit, _), (best_near, best_fit, _)] if (near, fit) == (best_near, best_fit) => Verdict::InDoubt,
        [.., (_, fit, call)] if had.is_none() || *fit == Fit::BothEnds => Verdict::Of(*call),
        _ => Verdict::InDoubt,
    }
}

/// How well a call fits that guesses one end. Not at all where it says that its media are at other ports of the other end's
/// address.
fn fit(call: CallNumber, conversation: FlowKey, endpoints: &Endpoints, facts: &Facts<'_>) -> Option<Fit> {
    let FlowKey { source, destination, .. } = conversation;
    let other = match (facts.held.contains(&source), facts.held.contains(&destination)) {
        (true, true) => return Some(Fit::BothEnds),
        (true, false) => destination,
        (false, true) => source,
        (false, false) => return None,
    };
    let mut there = facts.held.iter().filter(|held| held.is_at(other)).peekable();
    if there.peek().is_none() {
        return Some(Fit::OneEnd);
    }
    let is_exact = facts.addresses.are_exact_at(other) || there.any(|held| endpoints.is_sure(*held, call));
    (!is_exact).then_some(Fit::Address)
}
