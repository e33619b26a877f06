//! A packet that somebody tells of who saw it, and when that was.

use super::{Datagram, Packet};

/// A packet that was told of, with its time if that was told, too.
pub(super) fn told(datagram: Datagram<'_>, told_ns: Option<u64>) -> Packet<'_> {
    told_ns.map_or(Packet::Udp(datagram), |told_ns| {
        Packet::Told(told_ns, datagram)
    })
}

/// Nothing if the agent had no time to tell. The fraction of a second is not believed if it is more
/// than one.
pub(super) fn time_ns(seconds: u32, microseconds: u32) -> Option<u64> {
    let fraction = if microseconds < 1_000_000 {
        u64::from(microseconds)
    } else {
        0
    };
    let ns = u64::from(seconds)
        .saturating_mul(1_000_000_000)
        .saturating_add(fraction.saturating_mul(1_000));
    (seconds > 0).then_some(ns)
}
