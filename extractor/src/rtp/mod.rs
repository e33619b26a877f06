//! RTP (RFC 3550): the fixed header, and the statistics of a stream from its headers alone.

mod header;
mod jitter;
mod quality;
mod sequence;
mod series;
mod stream;

pub use header::Header;
pub use jitter::Jitter;
pub use quality::{delay_ms, mos};
pub use sequence::{Sequence, Totals};
pub use series::{Measured, Series};
pub use stream::{Arrivals, MediaClock, Payload, Stream};
