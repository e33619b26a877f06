//! RTP (RFC 3550): the fixed header, and the statistics of a stream from its headers alone.

mod header;
mod jitter;
mod quality;
mod sequence;
mod stream;

pub use header::Header;
pub use jitter::Jitter;
pub use quality::mos;
pub use sequence::{Sequence, Totals};
pub use stream::{Arrivals, MediaClock, Payload, Stream};
