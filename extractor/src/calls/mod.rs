//! Calls: who is talking, since when, until when, and whose packets are whose.
//!
//! Pure: no file, no clock. [`CallTable`] is told of SIP messages in capture order
//! ([`CallTable::handle`]) and of the flows of the window that is being worked on
//! ([`CallTable::begin_window`]). It answers with [`Work`]: for each call the frames that carry its
//! SIP, and *claims*, each a stretch of time in which a flow belongs to the call. No packet of
//! media is looked at here. Ownership changes with SIP messages and timers only, so a call of an
//! hour with two flows has two claims a window, however many packets flow.
//!
//! * [`Dialogs`]: what one call's messages mean for its state;
//! * [`Endpoints`]: which open calls gave an endpoint, and when;
//! * `guesses`: endpoints that no description has, and whose they may be;
//! * [`FlowTable`]: the flows of the latest windows, which of them an endpoint touches, and whose
//!   they are;
//! * [`Strays`]: messages that came shortly before their call;
//! * [`Unclaimed`]: the media that no call has;
//! * [`CallTable`]: puts them together, and runs the timers.

use serde::{Deserialize, Serialize};

mod descriptions;
mod dialogs;
mod endpoints;
mod floods;
mod flows;
mod guesses;
mod holders;
mod strays;
mod table;
mod touching;
mod unclaimed;

pub use descriptions::{Descriptions, Known};
pub use dialogs::{Dialogs, State};
pub use endpoints::{Endpoints, Given};
pub use flows::{FlowNumber, FlowTable, Left, Owner, Owners};
pub use strays::Strays;
pub use table::{Call, CallTable, Claim, End, Rules, Work};
pub use unclaimed::{Unclaimed, UnclaimedCounts};

/// The number of a call in the order in which calls open, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallNumber(pub u64);
