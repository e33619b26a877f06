//! From a captured frame to an addressed payload.

mod decode;
mod endpoint;
mod tunnels;

pub use decode::{Datagram, Fragment, Packet, Segment, TcpFlags, decode, decode_ip_payload, is_supported};
pub use endpoint::Endpoint;
