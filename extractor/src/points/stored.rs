//! What is known of input directories from run to run: which segments were processed, and how far those are that are merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::segment::Segment;
use crate::{
    moment::Clock,
    segments::{Identity, Listed, Series, identity},
    source::{Name, RecentPackets},
};

/// Of segments that are gone, so many are remembered, to know them if they are delivered again.
const MAX_REMEMBERED: usize = 4096;

/// A series that is gone for an hour of packet time needs no watching.
const LONG_GONE_NS: u64 = 3_600_000_000_000;

/// What the state has of the input directories.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoredPoints {
    /// What is known of each.
    pub(super) points: Vec<Stored>,
    /// Packets of which copies are left out.
    pub(super) recent: RecentPackets,
}

/// What is known of an input directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Where it is.
    pub(super) directory: Name,
    /// The segments that were processed, the latest last.
    pub(super) seen: Vec<Seen>,
    /// When the latest of them began, in nanoseconds since 1970.
    pub(super) latest_ns: u64,
    /// The series of segments in it, and how far those are that are merged with others.
    pub(super) series: BTreeMap<Series, Merging>,
}

/// How far a series of segments has been merged with others.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Merging {
    /// Which segment was begun, and how far it is read, in bytes.
    pub(super) begun: Option<(Identity, usize)>,
    /// Packet time there.
    pub(super) clock: Option<Clock>,
}

/// A segment that was processed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Its name.
    pub(super) name: Name,
    /// What it is known by, whatever its name.
    pub(super) identity: Identity,
    /// How far it could be read, in bytes: it may be seen again when it has grown.
    pub(super) read_to: usize,
}

impl Stored {
    pub(super) fn is_begun(&self) -> bool {
        self.series.values().any(|merging| merging.begun.is_some())
    }

    /// Whether it is this segment of a series that is read in part.
    pub(super) fn has_begun(&self, series: &Series, identity: Identity) -> bool {
        let begun = self.series.get(series).and_then(|merging| merging.begun);
        begun.is_some_and(|(begun, _)| begun == identity)
    }

    /// The series of a capture: a segment that is read in part stays in its own, whatever it is called by now.
    pub(super) fn series_of(&self, name: &OsStr, identity: Identity) -> Series {
        let is_it = |merging: &Merging| merging.begun.is_some_and(|(begun, _)| begun == identity);
        let begun = self.series.iter().find(|(_, merging)| is_it(merging)).map(|(series, _)| series.clone());
        begun.unwrap_or_else(|| Series::named(name))
    }

    /// Takes note of the series that are being written. One of which nothing is there any more is kept as long as its last packets
    /// may matter.
    pub(super) fn note_series<'s>(&mut self, listed: &[Listed], being_written: impl Iterator<Item = &'s Series>) {
        let there: BTreeSet<Series> = listed.iter().map(|listed| Series::named(&listed.name)).collect();
        let latest = self.series.values().filter_map(|merging| merging.clock).max().unwrap_or(0);
        self.series.retain(|series, merging| {
            let is_old = merging.clock.is_none_or(|clock| clock.saturating_add(LONG_GONE_NS) < latest);
            there.contains(series) || merging.begun.is_some() || !is_old
        });
        for series in being_written {
            self.series.entry(series.clone()).or_default();
        }
    }

    /// A segment was read up to there. One without packets has no time at which it begins.
    pub(super) fn remember(&mut self, segment: &Segment, read_to: usize) {
        self.seen.push(Seen { name: Name::of(&segment.listed.name), identity: segment.identity, read_to });
        let start_ns = segment.order.start_ns;
        if start_ns < u64::MAX {
            self.latest_ns = self.latest_ns.max(start_ns);
        }
    }

    /// Forgets the oldest of many segments that are not in the directory any more.
    pub(super) fn forget_some(&mut self, listed: &[Listed]) {
        if self.seen.len() > MAX_REMEMBERED.saturating_add(listed.len()) {
            let excess = self.seen.len().saturating_sub(MAX_REMEMBERED).saturating_sub(listed.len());
            let names: BTreeSet<Name> = listed.iter().map(|listed| Name::of(&listed.name)).collect();
            let mut left = excess;
            self.seen.retain(|seen| {
                let goes = left > 0 && !names.contains(&seen.name);
                left = left.saturating_sub(usize::from(goes));
                !goes
            });
        }
    }
}

/// The segments of a directory that were processed, to look them up in.
pub(super) struct Known {
    by_identity: BTreeMap<Identity, usize>,
    /// The latest of each name.
    by_name: BTreeMap<Name, usize>,
}

impl Known {
    pub(super) fn of(stored: &Stored) -> Self {
        let by_identity = stored.seen.iter().enumerate().map(|(number, seen)| (seen.identity, number)).collect();
        let by_name = stored.seen.iter().enumerate().map(|(number, seen)| (seen.name.clone(), number)).collect();
        Self { by_identity, by_name }
    }

    /// The segment that a file is, if it was processed. Of those without packets, each has only its name.
    pub(super) fn same<'p>(
        &self,
        stored: &'p Stored,
        listed: &Listed,
        identity: Identity,
        has_packets: bool,
    ) -> Option<&'p Seen> {
        let place = if has_packets { self.by_identity.get(&identity) } else { self.by_name.get(&Name::of(&listed.name)) };
        stored.seen.get(*place?).filter(|seen| seen.identity == identity)
    }

    /// Where to read on in a file that was shorter when it was read.
    pub(super) fn grown_from(&self, stored: &Stored, path: &Path, listed: &Listed) -> Option<usize> {
        let shorter = stored.seen.get(*self.by_name.get(&Name::of(&listed.name))?)?;
        (is_longer(path, listed, shorter.identity) && shorter.read_to > 0).then(|| {
            tracing::info!("{} has grown since it was read; what is new is read", path.display());
            shorter.read_to
        })
    }
}

/// Whether a file is what another was that was shorter.
pub(super) fn is_longer(path: &Path, listed: &Listed, shorter: Identity) -> bool {
    let then = Listed { size: shorter.size, ..listed.clone() };
    shorter.size < listed.size && identity(path, &then).is_ok_and(|then| then == shorter)
}
