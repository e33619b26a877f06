//! The reasons for which a flow belongs to its owners, or to nobody. The code that decides returns
//! them; only a [`Trace`](super::Trace) keeps them.

/// The reason for the owners of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The owners gave both ends.
    BothEnds,
    /// The owners gave one end for sure, and guessed the other.
    OneEndAndGuess,
    /// The owner was the last to give the destination.
    Destination,
    /// The owner was the last to give the source.
    Source,
    /// No call gave an end for sure, and this guess fits best.
    Guess(Fit),
    /// The owner has had the conversation by a guess, and keeps it.
    Kept,
    /// The packets came before the description that gave an end, within the lookback.
    Lookback,
    /// Several calls may be the owner, so none is.
    Doubt(Doubt),
    /// No open call gave or guessed an end.
    #[default]
    Nobody,
}

/// The fit of a guess to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// At one end; nothing is known of the other end.
    OneEnd,
    /// At one end; the other is at an address of the call, whose NAT may have chosen another
    /// port.
    Address,
    /// At both ends.
    BothEnds,
}

/// The reason why no guess has a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// More calls guess an end than count, and none or too many of them guess both.
    Crowd,
    /// Two calls fit alike.
    Tie,
    /// The calls that guess one end give other ports at the address of the other.
    OtherPorts,
    /// A call that has closed left the conversation running.
    LeftRunning,
}
