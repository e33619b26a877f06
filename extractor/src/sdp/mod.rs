//! Session descriptions (RFC 4566, RFC 8866): the endpoints and formats of media.

mod bundle;
mod description;
mod format;
mod lines;
mod outline;

pub use description::{Description, Media, Rank};
pub use format::{Codec, Format, format_of_static};
pub use outline::{Direction, Outline};
