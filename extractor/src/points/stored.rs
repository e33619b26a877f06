//! The part of the state for input directories: which segments were processed, and how far merged
//! segments have been read.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::segment::FoundSegment;
use crate::{
    segments::{ContentHash, FileId, Identity, Listed, Series, content, identity},
    source::{Name, RecentPackets},
    timeline::Timeline,
};

/// The most missing segments that are remembered, in case they are delivered again.
const MAX_REMEMBERED: usize = 4096;

/// A series that is gone for an hour of packet time is forgotten.
const LONG_GONE_NS: u64 = 3_600_000_000_000;

/// The state of the input directories.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoredPoints {
    /// The state of each directory.
    pub(super) points: Vec<Stored>,
    /// The latest packets, whose copies are left out.
    pub(super) recent: RecentPackets,
}

/// The state of an input directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    /// The path of the directory.
    pub(super) directory: Name,
    /// The processed segments, the latest last.
    pub(super) seen: Vec<Seen>,
    /// The beginning of the latest segment, in nanoseconds since 1970.
    pub(super) latest_ns: u64,
    /// The series of segments in the directory, and how far each has been merged.
    pub(super) series: BTreeMap<Series, Merging>,
}

/// The position up to which a series of segments has been merged with others.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Merging {
    /// The segment that was read in part.
    pub(super) begun: Option<Begun>,
    /// The clock of the series at that position.
    pub(super) timeline: Timeline,
}

/// A segment that was read in part.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) identity: Identity,
    pub(super) content: ContentHash,
    /// The offset up to which it has been read, in bytes.
    pub(super) offset: usize,
}

impl Begun {
    /// True when this is the segment. Its content is known whenever the identity may not suffice.
    pub(super) fn is(&self, identity: Identity, content: Option<ContentHash>) -> bool {
        self.identity == identity && content.is_none_or(|content| self.content == content)
    }
}

/// A processed segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The name of the segment.
    pub(super) name: Name,
    /// The identity of the segment, to look it up under any name.
    pub(super) identity: Identity,
    /// The content, which identifies it for sure; `None` if the segment was not read to its end.
    pub(super) content: Option<ContentHash>,
    /// The file itself.
    pub(super) file: FileId,
    /// The offset up to which it could be read, in bytes: a file that has grown is read again from
    /// there.
    pub(super) read_to: usize,
}

impl Seen {
    /// True when the whole segment was read. False if it was no capture, or disappeared too early.
    pub(super) fn is_read_to_its_end(&self) -> bool {
        self.read_to > 0 && self.content.is_some()
    }
}

impl Stored {
    pub(super) fn is_begun(&self) -> bool {
        self.series.values().any(|merging| merging.begun.is_some())
    }

    /// True when this segment of a series was read in part.
    pub(super) fn has_begun(
        &self,
        series: &Series,
        identity: Identity,
        content: Option<ContentHash>,
    ) -> bool {
        let begun = self.series.get(series).and_then(|merging| merging.begun);
        begun.is_some_and(|begun| begun.is(identity, content))
    }

    /// The offset up to which a segment of a series was read in part, in bytes.
    pub(super) fn read_in_part(
        &self,
        series: &Series,
        identity: Identity,
        content: Option<ContentHash>,
    ) -> Option<usize> {
        let begun = self.series.get(series).and_then(|merging| merging.begun);
        begun
            .filter(|begun| begun.is(identity, content))
            .map(|begun| begun.offset)
    }

    /// Forgets that a segment of a series was begun.
    pub(super) fn give_up_begun(
        &mut self,
        series: &Series,
        identity: Identity,
        content: Option<ContentHash>,
    ) {
        if let Some(merging) = self.series.get_mut(series) {
            merging.begun.take_if(|begun| begun.is(identity, content));
        }
    }

    /// True when a segment with this identity may have been read in part.
    pub(super) fn may_have_begun(&self, identity: Identity) -> bool {
        self.series
            .values()
            .filter_map(|merging| merging.begun)
            .any(|begun| begun.identity == identity)
    }

    /// The series of a segment: a segment that was read in part stays in its series, even under
    /// another name.
    pub(super) fn series_of(
        &self,
        name: &OsStr,
        identity: Identity,
        content: Option<ContentHash>,
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

    /// Notes the series that are being written. A series without files is kept as long as its last
    /// packets may matter.
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

    /// Notes that a segment was read up to an offset. A segment without packets has no beginning.
    pub(super) fn remember(&mut self, segment: &FoundSegment, read_to: usize) {
        let FoundSegment {
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

    /// Forgets the oldest segments that are not in the directory any more, if there are many.
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

/// An index of the processed segments of a directory.
pub(super) struct KnownSegments {
    by_identity: BTreeMap<Identity, Vec<usize>>,
    /// The latest segment of each name.
    by_name: BTreeMap<Name, usize>,
}

/// The result of comparing a file with the processed segments.
pub(super) enum Likeness {
    /// The file is new.
    New,
    /// The file is the segment with this number itself.
    Itself(usize),
    /// The file has the same content as the segment with this number.
    Copy(usize),
    /// The file has the length and the first bytes of the segment with this number, but other
    /// content.
    Another(usize),
}

impl KnownSegments {
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

    /// The number of the segment with this name, if it is the same file: nothing of it need be
    /// read.
    pub(super) fn very_file(&self, stored: &Stored, listed: &Listed) -> Option<usize> {
        let number = *self.by_name.get(&Name::of(&listed.name))?;
        let seen = stored.seen.get(number)?;
        (seen.identity.size == listed.size && seen.file == listed.file_id()).then_some(number)
    }

    /// Compares a file with packets to the processed segments. `content` is called only if the file
    /// itself is not known.
    ///
    /// # Errors
    /// `content` fails.
    pub(super) fn likeness<E>(
        &self,
        stored: &Stored,
        listed: &Listed,
        identity: Identity,
        content: impl FnOnce() -> Result<ContentHash, E>,
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
        // A segment that disappeared before it was read to its end is not begun again.
        let copied = find(&|seen| seen.content.map_or(seen.read_to > 0, |all| all == content));
        Ok(copied.map_or(Likeness::Another(*latest), Likeness::Copy))
    }

    /// Compares a file without packets, which has only its name.
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

    /// The offset at which reading continues in a file that was shorter when it was read.
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
            "{} has grown since it was read; the new part is read",
            path.display()
        );
        Ok(Some(shorter.read_to))
    }
}

/// True when a file begins with the content of a shorter one.
///
/// # Errors
/// It cannot be read.
pub(super) fn is_longer(
    path: &Path,
    listed: &Listed,
    shorter: Identity,
    then: Option<ContentHash>,
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
