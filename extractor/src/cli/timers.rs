//! Flags for the timers of calls, and for the number of open calls.

use clap::Args;
use shared::units::GoDuration;

use crate::calls::{LinkRules, Rules};

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

    /// Take calls with the same value of this header field as legs of one conversation: see the
    /// column `conversation_id`.
    ///
    /// May be repeated. The value may also be the Call-ID of the other leg. X-CID, X-Call-ID and
    /// the header fields of the RFCs are always looked at. Values of less than 8 characters link
    /// nothing.
    #[arg(long, value_name = "NAME", value_parser = header)]
    conversation_header: Vec<Box<str>>,

    /// Take two calls as legs of one conversation, too, if their numbers in From and To are the
    /// same, the second begins within this time after the first, and comes from the address that
    /// the first goes to; 0 for never.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    conversation_numbers: GoDuration,
}

/// The name of a header field (RFC 3261, 25.1: a token), in lower case.
fn header(text: &str) -> Result<Box<str>, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err("that is no name of a header field, such as X-Leg-ID".to_owned());
    }
    Ok(text.to_ascii_lowercase().into())
}

impl TimerArguments {
    pub(super) fn links(&self) -> LinkRules {
        LinkRules {
            headers: self.conversation_header.clone(),
            numbers_ns: Some(self.conversation_numbers.as_ns()).filter(|ns| *ns > 0),
        }
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            linger_ns: self.linger.as_ns(),
            call_timeout_ns: Some(self.call_timeout.as_ns()).filter(|ns| *ns > 0),
            lookback_ns: self.media_lookback.as_ns(),
            max_open_calls: self.max_open_calls,
        }
    }
}
