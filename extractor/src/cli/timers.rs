//! Flags for the timers of calls, and for the number of open calls.

use clap::Args;
use shared::units::GoDuration;

use crate::calls::Rules;

#[derive(Clone, Debug, Args)]
pub(super) struct TimerArguments {
    /// Close a call that has had neither SIP nor media for this long; 0 for never.
    #[arg(long, value_name = "DURATION", default_value = "5m0s")]
    call_timeout: GoDuration,

    /// Keep a call open for this long after its BYE, CANCEL or refusal: what arrives until then
    /// belongs to it.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    linger: GoDuration,

    /// Take media from up to this long before the SDP that names its endpoint.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    media_lookback: GoDuration,

    /// Keep at most this many calls open at once.
    ///
    /// Beyond that, the oldest call that nobody has answered closes with the state `flood`: it
    /// keeps its row and gets no file.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_open_calls: u64,
}

impl TimerArguments {
    pub(super) fn rules(&self) -> Rules {
        Rules {
            linger_ns: self.linger.as_ns(),
            call_timeout_ns: Some(self.call_timeout.as_ns()).filter(|ns| *ns > 0),
            lookback_ns: self.media_lookback.as_ns(),
            max_open_calls: self.max_open_calls,
        }
    }
}
