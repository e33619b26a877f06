//! What is known of input directories from run to run: which segments were processed, and how far
//! those are that are merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::segment::Segment;
use crate::{
    segments::{Content, FileId, Identity, Listed, Series, content, identity},
    source::{Name, RecentPackets},
    timeline::Timeline,
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
    /// The segment that was begun.
    pub(super) begun: Option<Begun>,
    /// The series' clock there.
    pub(super) timeline: Timeline,
}

/// A segment that is read in part.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) identity: Identity,
    pub(super) content: Content,
    /// How far it is read, in bytes.
    pub(super) offset: usize,
}

impl Begun {
    /// Whether it is this one. Its content is known wherever the identity might not do.
    pub(super) fn is(&self, identity: Identity, content: Option<Content>) -> bool {
        self.identity == identity && content.is_none_or(|content| self.content == content)
    }
}

/// A segment that was processed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Its name.
    pub(super) name: Name,
    /// What it is looked up by, whatever its name.
    pub(super) identity: Identity,
    /// What it is known by for sure; nothing if it was not read to its end.
    pub(super) content: Option<Content>,
    /// The very file.
    pub(super) file: FileId,
    /// How far it could be read, in bytes: it may be seen again when it has grown.
    pub(super) read_to: usize,
}

impl Seen {
    /// Whether all that is in it was read. Not so of what is no capture, or was gone too early.
    pub(super) fn is_read_to_its_end(&self) -> bool {
        self.read_to > 0 && self.content.is_some()
    }
}

impl Stored {
    pub(super) fn is_begun(&self) -> bool {
        self.series.values().any(|merging| merging.begun.is_some())
    }

    /// Whether it is this segment of a series that is read in part.
    pub(super) fn has_begun(
        &self,
        series: &Series,
        identity: Identity,
        content: Option<Content>,
    ) -> bool {
        let begun = self.series.get(series).and_then(|merging| merging.begun);
        begun.is_some_and(|begun| begun.is(identity, content))
    }

    /// How far a segment of a series was read that was begun, in bytes.
    pub(super) fn read_in_part(
        &self,
        series: &Series,
        identity: Identity,
        content: Option<Content>,
    ) -> Option<usize> {
        let begun = self.series.get(series).and_then(|merging| merging.begun);
        begun
            .filter(|begun| begun.is(identity, content))
            .map(|begun| begun.offset)
    }

    /// A segment that was begun is not gone on with now.
    pub(super) fn give_up_begun(
        &mut self,
        series: &Series,
        identity: Identity,
        content: Option<Content>,
    ) {
        if let Some(merging) = self.series.get_mut(series) {
            merging.begun.take_if(|begun| begun.is(identity, content));
        }
    }

    /// Whether a segment that is read in part might be this one.
    pub(super) fn may_have_begun(&self, identity: Identity) -> bool {
        self.series
            .values()
            .filter_map(|merging| merging.begun)
            .any(|begun| begun.identity == identity)
    }

    /// The series of a capture: a segment that is read in part stays in its own, whatever it is
    /// called by now.
    pub(super) fn series_of(
        &self,
        name: &OsStr,
        identity: Identity,
        content: Option<Content>,
    ) -> Series {
        let is_it = |merging: &Merging| {
            merging
                .begun
                .is_some_and(|begun| begun.is(identity, content))
        };
        let begun = self
            .series
            .iter()
            .find(|(_, merging)| is_it(merging))
            .map(|(series, _)| series.clone());
        begun.unwrap_or_else(|| Series::named(name))
    }

    /// Takes note of the series that are being written. One of which nothing is there any more is
    /// kept as long as its last packets may matter.
    pub(super) fn note_series<'s>(
        &mut self,
        listed: &[Listed],
        being_written: impl Iterator<Item = &'s Series>,
    ) {
        let there: BTreeSet<Series> = listed
            .iter()
            .map(|listed| Series::named(&listed.name))
            .collect();
        let latest = self
            .series
            .values()
            .filter_map(|merging| merging.timeline.clock())
            .max()
            .unwrap_or(0);
        self.series.retain(|series, merging| {
            let is_old = merging
                .timeline
                .clock()
                .is_none_or(|clock| clock.saturating_add(LONG_GONE_NS) < latest);
            there.contains(series) || merging.begun.is_some() || !is_old
        });
        for series in being_written {
            self.series.entry(series.clone()).or_default();
        }
    }

    /// A segment was read up to there. One without packets has no time at which it begins.
    pub(super) fn remember(&mut self, segment: &Segment, read_to: usize) {
        let Segment {
            listed,
            identity,
            content,
            ..
        } = segment;
        let (name, file) = (Name::of(&listed.name), listed.file_id());
        self.seen.push(Seen {
            name,
            identity: *identity,
            content: *content,
            file,
            read_to,
        });
        let start_ns = segment.order.start_ns;
        if start_ns < u64::MAX {
            self.latest_ns = self.latest_ns.max(start_ns);
        }
    }

    /// Forgets the oldest of many segments that are not in the directory any more.
    pub(super) fn forget_some(&mut self, listed: &[Listed]) {
        if self.seen.len() > MAX_REMEMBERED.saturating_add(listed.len()) {
            let excess = self
                .seen
                .len()
                .saturating_sub(MAX_REMEMBERED)
                .saturating_sub(listed.len());
            let names: BTreeSet<Name> =
                listed.iter().map(|listed| Name::of(&listed.name)).collect();
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
    by_identity: BTreeMap<Identity, Vec<usize>>,
    /// The latest of each name.
    by_name: BTreeMap<Name, usize>,
}

/// How a file compares to the segments that were processed.
pub(super) enum Likeness {
    /// It is none of them.
    New,
    /// It is the one with this number, which was looked at before.
    Itself(usize),
    /// All of it is the same as all of the one with this number.
    Copy(usize),
    /// It has the length and the first bytes of the one with this number, and is another capture.
    Another(usize),
}

impl Known {
    pub(super) fn of(stored: &Stored) -> Self {
        let mut by_identity: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
        for (number, seen) in stored.seen.iter().enumerate() {
            by_identity.entry(seen.identity).or_default().push(number);
        }
        let by_name = stored
            .seen
            .iter()
            .enumerate()
            .map(|(number, seen)| (seen.name.clone(), number))
            .collect();
        Self {
            by_identity,
            by_name,
        }
    }

    /// The number of the segment of this name, if it is the very file: nothing of it need be read.
    pub(super) fn very_file(&self, stored: &Stored, listed: &Listed) -> Option<usize> {
        let number = *self.by_name.get(&Name::of(&listed.name))?;
        let seen = stored.seen.get(number)?;
        (seen.identity.size == listed.size && seen.file == listed.file_id()).then_some(number)
    }

    /// How a file with packets compares to what was processed. Its `content` is asked for only
    /// where the very file is not known.
    ///
    /// # Errors
    /// There is no content.
    pub(super) fn likeness<E>(
        &self,
        stored: &Stored,
        listed: &Listed,
        identity: Identity,
        content: impl FnOnce() -> Result<Content, E>,
    ) -> Result<Likeness, E> {
        let alike = self
            .by_identity
            .get(&identity)
            .map_or(&[][..], Vec::as_slice);
        let find = |is_it: &dyn Fn(&Seen) -> bool| {
            alike
                .iter()
                .rev()
                .copied()
                .find(|number| stored.seen.get(*number).is_some_and(is_it))
        };
        if let Some(number) = find(&|seen| seen.file == listed.file_id()) {
            return Ok(Likeness::Itself(number));
        }
        let Some(latest) = alike.last() else {
            return Ok(Likeness::New);
        };
        let content = content()?;
        // One that was gone before it was read to its end is not begun again.
        let copied = find(&|seen| seen.content.map_or(seen.read_to > 0, |all| all == content));
        Ok(copied.map_or(Likeness::Another(*latest), Likeness::Copy))
    }

    /// The same of one without packets, of which each has only its name.
    pub(super) fn likeness_by_name(
        &self,
        stored: &Stored,
        listed: &Listed,
        identity: Identity,
    ) -> Likeness {
        let number = self.by_name.get(&Name::of(&listed.name)).copied();
        let is_it = |number: &usize| {
            stored
                .seen
                .get(*number)
                .is_some_and(|seen| seen.identity == identity)
        };
        number.filter(is_it).map_or(Likeness::New, Likeness::Itself)
    }

    /// Where to read on in a file that was shorter when it was read.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn grown_from(
        &self,
        stored: &Stored,
        path: &Path,
        listed: &Listed,
    ) -> io::Result<Option<usize>> {
        let shorter = self
            .by_name
            .get(&Name::of(&listed.name))
            .and_then(|number| stored.seen.get(*number));
        let Some(shorter) = shorter.filter(|shorter| shorter.read_to > 0) else {
            return Ok(None);
        };
        if !is_longer(path, listed, shorter.identity, shorter.content)? {
            return Ok(None);
        }
        tracing::info!(
            "{} has grown since it was read; what is new is read",
            path.display()
        );
        Ok(Some(shorter.read_to))
    }
}

/// Whether a file is what another was that was shorter.
///
/// # Errors
/// It cannot be read.
pub(super) fn is_longer(
    path: &Path,
    listed: &Listed,
    shorter: Identity,
    then: Option<Content>,
) -> io::Result<bool> {
    if shorter.size >= listed.size {
        return Ok(false);
    }
    let as_it_was = Listed {
        size: shorter.size,
        ..listed.clone()
    };
    if identity(path, &as_it_was)? != shorter {
        return Ok(false);
    }
    then.map_or(Ok(true), |then| Ok(content(path, shorter.size)? == then))
}
