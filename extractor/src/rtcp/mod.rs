//! RTCP (RFC 3550, 6; RFC 3611): what the ends of a call say about its streams.

mod compound;
mod course;
mod reports;

pub use compound::{Compound, Item, ReceptionReport, is_rtcp};
pub use course::Reported;
pub use reports::{Arrival, FarEnd, Loss, Reception, Reports};
