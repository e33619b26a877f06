//! What was cut up on its way, put together again: in sequence, for its parts may lie far apart.

mod ip_fragments;

pub use ip_fragments::{FragmentCounts, IpFragments, Whole};
