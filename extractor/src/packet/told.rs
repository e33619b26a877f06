//! Packets that HEP agents report, with the time of capture.

use super::{Datagram, Packet};

/// The reported packet, with its time if the agent gives one.
pub(super) fn told(datagram: Datagram<'_>, told_ns: Option<u64>) -> Packet<'_> {
    told_ns.map_or(Packet::Udp(datagram), |told_ns| {
        Packet::Told(told_ns, datagram)
    })
}

/// `None` if the agent gives no time. Microseconds of a second or more are ignored.
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
