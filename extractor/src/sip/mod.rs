//! SIP messages, as far as calls need them: borrowed views over the bytes of a datagram.
//!
//! Nothing here is strict. What RFC 3261 forbids but phones send is read the way the sender
//! meant it, and what cannot be read is left out rather than refused.

mod body;
mod message;

pub use message::{CSeq, Malformed, Message, Method, StartLine, tag, unfolded};
