//! Segments of capture points.

use std::path::PathBuf;

use shared::pcap::FILE_HEADER_LEN;

use crate::{
    moment::Clock,
    segments::{ContentHash, Identity, Listed, Order, Series, is_named},
    source::{Input, merge::Delivery},
};

/// The length of a segment without packets. All such segments look alike.
const NO_PACKETS: u64 = FILE_HEADER_LEN as u64;

/// A segment that is to be read.
#[derive(Clone, Debug)]
pub(super) struct FoundSegment {
    pub(super) point: usize,
    pub(super) series: Series,
    pub(super) path: PathBuf,
    pub(super) listed: Listed,
    pub(super) identity: Identity,
    /// The content of the segment, if it is known: it has been read to its end, or waits to be
    /// merged, or another segment looks like it.
    pub(super) content: Option<ContentHash>,
    pub(super) order: Order,
    /// The offset at which reading begins, in bytes: the segment was read up to there when it was
    /// shorter.
    pub(super) from: Option<usize>,
}

/// An open segment that waits to be merged with others.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) segment: FoundSegment,
    pub(super) input: Input,
    pub(super) delivery: Option<Delivery>,
}

impl FoundSegment {
    /// The beginning of a segment without packets, by its name, in nanoseconds since 1970.
    pub(super) fn named_ns(&self) -> Option<Clock> {
        (!has_packets(&self.listed) && is_named(&self.listed.name)).then_some(self.order.start_ns)
    }
}

pub(super) fn has_packets(listed: &Listed) -> bool {
    listed.size > NO_PACKETS
}
