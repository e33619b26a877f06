//! The file of a conversation: the frames of its legs in capture order, each once.

use std::collections::VecDeque;

use anyhow::Result;

use super::{
    buffer::GatherBuffer,
    call_file::CallFile,
    directory::Directory,
    frames::{Frame, Frames},
    legs::{Leg, moments},
    mute::MediaForm,
    names::FileName,
};
use crate::{
    events::Table,
    moment::{Moment, Position},
};

/// The most frames in which a frame is looked for that another leg has. Its copies stand side by
/// side, unless its part of a leg's message was late: then they are up to half a minute apart.
const MAX_SEEN: usize = 1 << 16;

/// The legs of a conversation, ready to be merged.
#[derive(Debug)]
pub(super) struct Merged {
    /// The name of the file.
    pub(super) name: FileName,
    /// At least two legs.
    pub(super) legs: Vec<Leg>,
}

/// The frames of a leg that are left.
struct Left<'a, M> {
    frames: Frames<'a>,
    moments: M,
    next: Option<(Moment, Frame<'a>)>,
    /// True if it has sound. A copy of a frame without sound is preferred: the user wants a leg silent.
    has_sound: bool,
}

impl<M: Iterator<Item = Moment>> Left<'_, M> {
    fn advance(&mut self) {
        self.next = self.moments.next().zip(self.frames.next());
    }
}

/// The frames that were written last.
#[derive(Default)]
struct Seen {
    known: Table<Position, ()>,
    order: VecDeque<Position>,
}

impl Seen {
    /// Returns true if the frame was not seen.
    fn is_new(&mut self, position: Position) -> bool {
        if self.known.insert(position, ()).is_some() {
            return false;
        }
        self.order.push_back(position);
        if self.order.len() > MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Merged {
    /// Writes the file, hidden; it has the format that a call's file with these frames would have.
    ///
    /// # Errors
    /// A leg cannot be read, or the file cannot be written.
    pub(super) fn write(
        &self,
        to: &Directory,
        buffer: &mut GatherBuffer,
    ) -> Result<Option<CallFile>> {
        let maps = self.legs.iter().map(|leg| {
            let order = to.map_part(&leg.order.name())?;
            Ok((to.map_part(&leg.pcap_name())?, order))
        });
        let maps: Vec<_> = maps.collect::<Result<_>>()?;
        let left = self.legs.iter().zip(&maps).map(|(leg, (pcap, order))| {
            let mut left = Left {
                frames: leg.file.frames(pcap.bytes()),
                moments: moments(order.bytes()),
                next: None,
                has_sound: leg.media == MediaForm::AsCaptured,
            };
            left.advance();
            left
        });
        let mut left: Vec<_> = left.collect();
        let mut file: Option<CallFile> = None;
        let mut seen = Seen::default();
        while let Some(one) = left.iter_mut().min_by_key(|one| {
            let moment = one.next.map(|(moment, _)| moment);
            (moment.is_none(), moment, one.has_sound)
        }) && let Some((moment, (record, raw))) = one.next
        {
            one.advance();
            if !seen.is_new(moment.position) {
                continue;
            }
            let file = file.get_or_insert_with(|| CallFile::new(self.name.clone(), &record));
            if let Some(classic) = file.admit(record.link, to, buffer)? {
                to.remove_part(&classic)?;
            }
            let raw = raw.filter(|_| file.has_unit(record.precision));
            if file.gather(buffer, &record, raw, None) {
                file.flush(to, buffer)?;
            }
        }
        if let Some(file) = &mut file {
            file.flush(to, buffer)?;
        }
        Ok(file)
    }
}
