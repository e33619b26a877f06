//! Session descriptions (RFC 4566, RFC 8866): where media will flow, and what it will be.

mod description;
mod lines;

pub use description::{Codec, Description, Format, Media, Rank, format_of_static};
