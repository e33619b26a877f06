//! What was cut up on its way, put together again: in sequence, for its parts may lie far apart.
//!
//! * [`IpFragments`]: datagrams out of fragments;
//! * [`SipStreams`]: messages out of TCP connections, and packets that HEP tells of in them;
//! * [`Assembler`]: both, over what the chunks of a window left unfinished.

use crate::moment::Clock;

mod assembler;
mod ip_fragments;
mod sip_streams;
mod tcp_bytes;

pub use assembler::{Assembled, Assembler, Unfinished};
pub use ip_fragments::{Beginning, Belonging, IpFragments, Name, Taken, Whole};
pub(crate) use sip_streams::is_tls;
pub use sip_streams::{Found, SipStreams, StreamMessage, ToldPacket};

/// While parts wait for others, what came since the first of them, or at most this long ago, is not
/// written: in a call's file they stand where they came.
pub const MAX_HOLD_NS: Clock = 5_000_000_000;
