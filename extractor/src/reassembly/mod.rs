//! Reassembly. It is sequential, because the parts of a message may lie far apart.
//!
//! * [`IpFragments`]: IP datagrams from their fragments;
//! * [`SipStreams`]: messages from TCP connections, and packets that HEP reports in them;
//! * [`Assembler`]: both, for the parts that the chunks of a window left unfinished.

use crate::moment::Clock;

mod assembler;
mod ip_fragments;
mod sip_streams;
mod tcp_bytes;

pub use assembler::{Assembled, Assembler, Unfinished};
pub use ip_fragments::{Beginning, Belonging, DatagramId, Handled, IpFragments, Whole};
pub(crate) use sip_streams::is_tls;
pub use sip_streams::{Found, SipStreams, StreamMessage, ToldPacket};

/// The longest time for which incomplete messages hold back the writer of call files. While parts
/// wait for others, nothing from after the first part is written, because in a call's file each
/// part stands at its own time.
pub const MAX_HOLD_NS: Clock = 5_000_000_000;
