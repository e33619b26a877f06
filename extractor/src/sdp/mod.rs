//! Session descriptions (RFC 4566, RFC 8866): the endpoints and formats of media.

mod bundle;
mod description;
mod format;
mod lines;
mod media_lines;
mod outline;

pub use description::{Description, Media, Rank};
pub use format::{Codec, Format, format_of_static};
pub use media_lines::{MediaLine, Place, media_lines};
pub use outline::{Direction, Outline};
