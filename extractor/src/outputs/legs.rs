//! Ended calls that may be legs of a conversation, from their end until that is known.
//!
//! Beside its pcap, a leg has a hidden file with the moments of its frames. Times do not tell the
//! order in which frames of two files were captured, and not which of them are the same frame: many
//! have the same time, and a clock may be set back. Moments do.
//!
//! A call's file may be uploaded and removed before its conversation is complete, so a leg keeps it
//! under a hidden name.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{call_file::CallFile, directory::Directory, mute::MediaForm};
use crate::{
    calls::{CallNumber, LegGroup},
    moment::{Moment, Position},
};

/// The bytes of a moment: packet time and position, little-endian.
const MOMENT_LEN: usize = 16;

/// The beginning of the names of hidden files of legs.
pub(super) const PREFIX: &str = "leg_";

/// The hidden file with the moments of a call's frames, in the order of its pcap.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OrderFile {
    call: CallNumber,
    len: u64,
}

/// An ended call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leg {
    /// Its pcap.
    pub(super) file: CallFile,
    /// The moments of its frames.
    pub(super) order: OrderFile,
    /// The form of its media.
    pub(super) media: MediaForm,
    /// The hidden name of its pcap, once it has one beside that of the call's file.
    kept: Option<String>,
}

/// The ended calls that may be legs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Legs {
    ended: BTreeMap<CallNumber, Leg>,
}

impl OrderFile {
    /// The file of a call, which does not exist yet.
    pub(super) fn of(call: CallNumber) -> Self {
        Self { call, len: 0 }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        format!("{PREFIX}{}.order", self.call.0)
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends the moments of frames that are appended to the pcap.
    #[cold]
    pub(super) fn append(
        &mut self,
        moments: impl Iterator<Item = Moment>,
        to: &Directory,
    ) -> Result<()> {
        let bytes: Vec<u8> = moments.flat_map(bytes).collect();
        if !bytes.is_empty() {
            to.append_part(&self.name(), self.len == 0, &bytes)?;
            self.len = self.len.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }
}

fn bytes(moment: Moment) -> impl Iterator<Item = u8> {
    let numbers = [moment.clock, moment.position.to_bits()];
    numbers.into_iter().flat_map(u64::to_le_bytes)
}

/// The moments in an order file.
pub(super) fn moments(bytes: &[u8]) -> impl Iterator<Item = Moment> {
    let (moments, _) = bytes.as_chunks::<MOMENT_LEN>();
    moments.iter().map(|moment| {
        let [a, b, c, d, e, f, g, h, position @ ..] = *moment;
        Moment {
            clock: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            position: Position::from_bits(u64::from_le_bytes(position)),
        }
    })
}

impl Leg {
    /// The name of the hidden file with its pcap.
    pub(super) fn pcap_name(&self) -> String {
        self.kept.clone().unwrap_or_else(|| self.file.name())
    }

    /// The hidden files that are its own.
    fn own(self) -> impl Iterator<Item = String> {
        self.kept.into_iter().chain([self.order.name()])
    }
}

impl Legs {
    /// Adds a call that has ended.
    pub(super) fn add(&mut self, file: CallFile, order: OrderFile, media: MediaForm) {
        let call = order.call;
        let leg = Leg {
            file,
            order,
            media,
            kept: None,
        };
        self.ended.insert(call, leg);
    }

    /// Takes the legs of a group that have files.
    pub(super) fn take(&mut self, group: &LegGroup) -> Vec<Leg> {
        let numbers = group.legs.iter().map(|leg| leg.number);
        numbers
            .filter_map(|number| self.ended.remove(&number))
            .collect()
    }

    /// Keeps the pcaps of these calls, as far as they have not been taken, before the files of the
    /// calls get their final names.
    pub(super) fn keep(&mut self, calls: &[CallNumber], directory: &Directory) -> Result<()> {
        for call in calls {
            if let Some(leg) = self.ended.get_mut(call) {
                let kept = format!("{PREFIX}{}.pcap", call.0);
                directory.keep_part(&leg.file.name(), &kept)?;
                leg.kept = Some(kept);
            }
        }
        Ok(())
    }

    /// The hidden files of all legs with their lengths, for a state.
    pub(super) fn written(&self) -> impl Iterator<Item = (String, u64)> {
        self.ended.values().flat_map(|leg| {
            let pcap = leg.kept.clone().map(|name| (name, leg.file.len()));
            pcap.into_iter()
                .chain([(leg.order.name(), leg.order.len())])
        })
    }
}

/// The hidden files of legs that are not needed any more.
pub(super) fn obsolete(legs: Vec<Leg>) -> impl Iterator<Item = String> {
    legs.into_iter().flat_map(Leg::own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_were_written() {
        let moment = |clock, offset| Moment {
            clock,
            position: Position::new(3, offset),
        };
        let all = [moment(1, 24), moment(u64::MAX, 1 << 41)];
        let written: Vec<u8> = all.into_iter().flat_map(bytes).collect();
        assert_eq!(written.len(), 2 * MOMENT_LEN);
        assert_eq!(moments(&written).collect::<Vec<_>>(), all);
        assert_eq!(moments(&written[..31]).count(), 1);
    }
}
