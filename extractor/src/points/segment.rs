//! A segment of a capture point.

use std::path::PathBuf;

use shared::pcap::FILE_HEADER_LEN;

use crate::{
    moment::Clock,
    segments::{Content, Identity, Listed, Order, Series, is_named},
    source::{Input, merge::Delivery},
};

/// A segment of this length has no packets, and looks like any other that has none.
const NO_PACKETS: u64 = FILE_HEADER_LEN as u64;

/// A segment that is to be read.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) point: usize,
    pub(super) series: Series,
    pub(super) path: PathBuf,
    pub(super) listed: Listed,
    pub(super) identity: Identity,
    /// What all of it is, where that is known: read to its end, waiting to be merged, or alike
    /// another one.
    pub(super) content: Option<Content>,
    pub(super) order: Order,
    /// Where to begin, in bytes: it was read up to there when it was shorter.
    pub(super) from: Option<usize>,
}

/// One that is open, and waits to be merged with others.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) segment: Segment,
    pub(super) input: Input,
    pub(super) delivery: Option<Delivery>,
}

impl Segment {
    /// When it begins, in nanoseconds since 1970, if only its name tells: it has no packets.
    pub(super) fn named_ns(&self) -> Option<Clock> {
        (!has_packets(&self.listed) && is_named(&self.listed.name)).then_some(self.order.start_ns)
    }
}

pub(super) fn has_packets(listed: &Listed) -> bool {
    listed.size > NO_PACKETS
}
