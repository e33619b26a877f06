//! The file of one call: its format and its state.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::pcap::{
    DEFAULT_SNAPLEN, Layout, LinkType, Native, Precision, RECORD_HEADER_LEN, Record, file_header,
    ng_interface, ng_packet, ng_section_header, record_header,
};

use super::{buffer::GatherBuffer, directory::Directory, frames::Frames, names::FileName};

/// The offset of the captured length in the header of a record, little-endian in files of this
/// program.
const CAPTURED_LEN_AT: usize = 8;

/// The file of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallFile {
    name: FileName,
    kind: PcapFormat,
    life: Life,
}

/// The state of a call's file. It ends when the file is published or removed together with the
/// recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Life {
    /// There is no frame yet.
    NotMade,
    /// The file header and the frames so far are in the buffer; the directory has no file.
    Gathered,
    /// A hidden file of this length, which no saved state records.
    Unknown { len: u64 },
    /// A hidden file of this length. A saved state records it, or the classic pcap that it
    /// replaced, so it may be removed only after the next state is saved.
    InState { len: u64 },
}

impl Life {
    fn len(self) -> u64 {
        match self {
            Self::NotMade | Self::Gathered => 0,
            Self::Unknown { len } | Self::InState { len } => len,
        }
    }

    /// The same file with another length.
    fn with_len(self, len: u64) -> Self {
        match self {
            Self::NotMade | Self::Gathered | Self::Unknown { .. } => Self::Unknown { len },
            Self::InState { .. } => Self::InState { len },
        }
    }

    /// The same file after a state that records it, if there is a file.
    fn in_state(self) -> Self {
        match self {
            Self::Unknown { len } | Self::InState { len } => Self::InState { len },
            Self::NotMade | Self::Gathered => self,
        }
    }
}

/// The format of a file: classic pcap, or pcapng if its frames have several link types.
#[derive(Debug, Serialize, Deserialize)]
struct PcapFormat {
    /// The link types of its frames, in the order of their first frames. More than one requires a
    /// pcapng.
    links: Vec<LinkType>,
    precision: Precision,
}

impl CallFile {
    /// A file with this name, in the format of its first frame.
    pub(super) fn new(name: FileName, first: &Record<'_>) -> Self {
        Self {
            name,
            kind: PcapFormat {
                links: vec![first.link],
                precision: first.precision,
            },
            life: Life::NotMade,
        }
    }

    /// The name without extension.
    pub(super) fn stem(&self) -> &FileName {
        &self.name
    }

    /// The name with extension.
    pub(super) fn name(&self) -> String {
        self.name.with_ending(self.kind.is_ng())
    }

    /// The length of the file in the directory, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.life.len()
    }

    /// Returns true if a saved state records the file.
    pub(super) fn is_in_state(&self) -> bool {
        matches!(self.life, Life::InState { .. })
    }

    /// Marks the file as recorded in a state.
    pub(super) fn note_state(&mut self) {
        self.life = self.life.in_state();
    }

    /// The frames in the bytes of the file.
    pub(super) fn frames<'a>(&'a self, bytes: &'a [u8]) -> Frames<'a> {
        Frames::of(bytes, &self.kind.links, self.kind.precision)
    }

    /// Returns true if the timestamps of the file have this unit.
    pub(super) fn has_unit(&self, precision: Precision) -> bool {
        self.kind.precision == precision
    }

    /// Prepares the file for frames of a link type. If that turns a classic pcap into a pcapng,
    /// returns the name of the classic pcap, which the caller keeps until the unit of work is done.
    #[inline]
    pub(super) fn admit(
        &mut self,
        link: LinkType,
        to: &Directory,
        buffer: &mut GatherBuffer,
    ) -> Result<Option<String>> {
        if self.kind.links.contains(&link) {
            Ok(None)
        } else {
            self.add_link(link, to, buffer)
        }
    }

    #[cold]
    fn add_link(
        &mut self,
        link: LinkType,
        to: &Directory,
        buffer: &mut GatherBuffer,
    ) -> Result<Option<String>> {
        let mut classic = None;
        if self.life != Life::NotMade {
            if !self.kind.is_ng() {
                classic = Some(self.become_ng(to, buffer)?);
            }
            buffer.push(&ng_interface(link, self.kind.precision, DEFAULT_SNAPLEN));
        }
        self.kind.links.push(link);
        Ok(classic)
    }

    /// Rewrites the file as a pcapng. Returns the name of the classic pcap.
    fn become_ng(&mut self, to: &Directory, buffer: &mut GatherBuffer) -> Result<String> {
        self.flush(to, buffer)?;
        let (classic, ng) = (self.name.with_ending(false), self.name.with_ending(true));
        let len = to.rewrite_part(&classic, &ng, &self.kind.ng_head(), |record| {
            self.kind.ng_packet(record)
        })?;
        self.life = self.life.with_len(len);
        Ok(classic)
    }

    /// The bytes of a record in its input, if this file holds the record in the same format.
    #[inline]
    pub(super) fn raw<'a>(
        &self,
        record: &Record<'_>,
        layout: &Layout,
        file: &'a [u8],
    ) -> Option<&'a [u8]> {
        let end = record
            .offset
            .saturating_add(RECORD_HEADER_LEN)
            .saturating_add(record.frame.len());
        if layout.is_native(self.kind.precision) {
            file.get(record.offset..end)
        } else {
            None
        }
    }

    /// The layout of the records that the file takes as they are.
    #[inline]
    pub(super) fn native(&self) -> Option<Native> {
        match *self.kind.links.as_slice() {
            [link] => Some(Native {
                link,
                precision: self.kind.precision,
            }),
            _ => None,
        }
    }

    /// Adds a record that is laid out like [`Self::native`] to the buffer; returns true when the
    /// buffer should be written.
    #[inline]
    pub(super) fn gather_native(&mut self, buffer: &mut GatherBuffer, record: &[u8]) -> bool {
        if self.life == Life::NotMade {
            self.begin(buffer);
        }
        buffer.push(record)
    }

    #[cold]
    fn begin(&mut self, buffer: &mut GatherBuffer) {
        buffer.push(&self.kind.head());
        self.life = Life::Gathered;
    }

    /// Adds a frame to the buffer, or what it is `changed` into: muted, or cut; returns true when the
    /// buffer should be written.
    #[inline]
    pub(super) fn gather(
        &mut self,
        buffer: &mut GatherBuffer,
        record: &Record<'_>,
        raw: Option<&[u8]>,
        changed: Option<&[u8]>,
    ) -> bool {
        if self.life == Life::NotMade {
            self.begin(buffer);
        }
        if self.kind.is_ng() {
            return buffer.push(&self.kind.ng_packet(&Record {
                frame: changed.unwrap_or(record.frame),
                ..*record
            }));
        }
        match (raw, changed) {
            (Some(raw), None) => return buffer.push(raw),
            (Some(raw), Some(changed)) => {
                buffer.push(&with_captured_len(raw, changed.len()));
                return buffer.push(changed);
            }
            (None, _) => {}
        }
        let frame = changed.unwrap_or(record.frame);
        // A frame lies in memory as a whole, and its record had a 32-bit length.
        let captured_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let timestamp_ns = record.timestamp_ns.unwrap_or(0);
        buffer.push(&record_header(
            timestamp_ns,
            self.kind.precision,
            captured_len,
            record.wire_len,
        ));
        buffer.push(frame)
    }

    /// Writes the buffer to the file.
    pub(super) fn flush(&mut self, to: &Directory, buffer: &mut GatherBuffer) -> Result<()> {
        let more = buffer.bytes().len() as u64;
        if more > 0 {
            let is_first = matches!(self.life, Life::NotMade | Life::Gathered);
            to.append_part(&self.name(), is_first, buffer.bytes())?;
            self.life = self.life.with_len(self.len().saturating_add(more));
            buffer.clear();
        }
        Ok(())
    }
}

/// The header of a record in a file of this program's own format, with another captured length.
/// Everything else stays, also a timestamp that this program would write in another way.
fn with_captured_len(raw: &[u8], len: usize) -> [u8; RECORD_HEADER_LEN] {
    let mut header = [0; RECORD_HEADER_LEN];
    header
        .iter_mut()
        .zip(raw)
        .for_each(|(byte, raw)| *byte = *raw);
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let field = header.iter_mut().skip(CAPTURED_LEN_AT);
    field.zip(len).for_each(|(byte, of_len)| *byte = of_len);
    header
}

impl PcapFormat {
    fn is_ng(&self) -> bool {
        self.links.len() > 1
    }

    /// The file header.
    fn head(&self) -> Vec<u8> {
        match *self.links.as_slice() {
            [link] => file_header(link, self.precision, DEFAULT_SNAPLEN).to_vec(),
            _ => self.ng_head(),
        }
    }

    /// The section header and the interfaces of a pcapng.
    fn ng_head(&self) -> Vec<u8> {
        let interfaces = self
            .links
            .iter()
            .flat_map(|link| ng_interface(*link, self.precision, DEFAULT_SNAPLEN));
        ng_section_header().into_iter().chain(interfaces).collect()
    }

    fn ng_packet(&self, record: &Record<'_>) -> Vec<u8> {
        let interface = self
            .links
            .iter()
            .position(|link| *link == record.link)
            .unwrap_or(0);
        let interface = u32::try_from(interface).unwrap_or(0);
        ng_packet(
            interface,
            record.timestamp_ns.unwrap_or(0),
            self.precision,
            record.frame,
            record.wire_len,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_frame_changes_one_length() {
        let header = record_header(1_701_441_022_123_456_789, Precision::Nano, 1000, 2000);
        let cut = record_header(1_701_441_022_123_456_789, Precision::Nano, 54, 2000);
        let raw = [&header[..], &[7; 1000]].concat();
        assert_eq!(with_captured_len(&raw, 54), cut);
        assert_eq!(with_captured_len(&raw, 1000), header);
    }

    #[test]
    fn a_state_tells_only_of_a_file_that_is_there() {
        assert_eq!(Life::NotMade.in_state(), Life::NotMade);
        let made = Life::Gathered.with_len(24);
        assert_eq!((made, made.len()), (Life::Unknown { len: 24 }, 24));
        let known = made.in_state();
        assert_eq!(
            (known, known.with_len(99)),
            (Life::InState { len: 24 }, Life::InState { len: 99 })
        );
    }
}
