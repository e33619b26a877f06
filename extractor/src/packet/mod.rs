//! From a captured frame to an addressed payload.

mod decode;
mod endpoint;
mod tunnels;

pub use decode::{Datagram, Packet, decode, is_supported};
pub use endpoint::Endpoint;
