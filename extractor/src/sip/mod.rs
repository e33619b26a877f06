//! SIP messages, as far as calls need them: borrowed views over the bytes of a datagram or of a
//! stream ([`SipUnit`], [`FrameHeader`]).
//!
//! These readers are tolerant. They read what RFC 3261 forbids but phones send in the way that the
//! sender meant, and they skip what they cannot read.

mod body;
mod encoding;
mod framing;
mod info;
mod keys;
mod message;
mod number;
mod opening;
mod reason;
mod secrets;
mod websocket;

pub use body::{Bodies, Body};
pub use framing::{MAX_MESSAGE_LEN, SipUnit, find_start, message_len, next_start, whole_lines};
pub use keys::keys_in;
pub use message::{
    CSeq, Malformed, Message, Method, StartLine, list, may_be_message, parameter, tag, unfolded,
};
pub use number::number;
pub use opening::opens_stream;
pub use reason::Reason;
pub use websocket::{FrameHeader, NoFrame, Opcode, begins_sip};
