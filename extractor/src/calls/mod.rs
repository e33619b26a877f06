//! Calls: who talks, from when to when, and which packets belong to which call.
//!
//! This module is pure: no file, no clock. [`CallTable`] gets SIP messages in capture order
//! ([`CallTable::handle`]) and the flows of the current window ([`CallTable::begin_window`]). It
//! returns [`Work`]: for each call, the frames of its SIP, and *claims*, each a stretch of time in
//! which a flow belongs to the call. It looks at no media packet. Ownership changes with SIP
//! messages and timers only, so an hour's call with two flows has two claims per window, however
//! many packets flow.
//!
//! * [`Dialogs`]: the dialogs of one call, and its end;
//! * [`Facts`]: what its messages say beside that, for its row;
//! * [`Endpoints`]: which open calls gave an endpoint, and when;
//! * `guesses`: endpoints that no description has, and the calls that may have them;
//! * [`FlowTable`]: the flows of the latest windows, by endpoint, and their owners;
//! * [`Journal`]: its messages and descriptions one by one, where a record wants them;
//! * [`Strays`]: messages that came shortly before their call;
//! * [`Unclaimed`]: media of no call;
//! * `conversations`: the calls that are legs of one call;
//! * `drops`: packets that were dropped at capture while a call was open;
//! * [`Trace`]: what was decided on some calls and why, if somebody asks;
//! * [`CallTable`]: combines them, and runs the timers.

use serde::{Deserialize, Serialize};

mod conversations;
mod descriptions;
mod dialogs;
mod drops;
mod endpoints;
mod facts;
mod floods;
mod flows;
mod guesses;
mod holders;
mod journal;
mod reasons;
mod strays;
mod table;
mod texts;
mod touching;
mod trace;
mod unclaimed;

pub use conversations::{Conversation, LegGroup, Link, LinkReason, LinkRules, NamedLeg};
pub use descriptions::{Descriptions, KnownStatements};
pub use dialogs::{AttemptProgress, CallState, Dialogs, Leg, Milestone, Side};
pub use endpoints::{Endpoints, Given};
pub use facts::{Facts, HangUp};
pub use flows::{FlowNumber, FlowPackets, FlowTable, Owner, Owners};
pub use journal::{Described, Heard, Journal};
pub use reasons::{Basis, Doubt, Fit};
pub use strays::Strays;
pub use table::{Call, CallTable, Claim, End, Rules, Work};
pub use texts::{Text, Texts};
pub use trace::{
    Fate, Grant, GrantOutcome, Outside, Repeats, Stretch, Trace, TracedCall, TracedConversation,
    TracedFlow, TracedMessage, Wanted,
};
pub use unclaimed::{Unclaimed, UnclaimedCounts};

/// The number of a call, from 0, in the order in which calls open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallNumber(pub u64);
