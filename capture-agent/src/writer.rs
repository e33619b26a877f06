//! A segment on the disk: a hidden part file, appended to, that gets its name when it is complete.
//!
//! Records are gathered in memory and written together. Where the disk takes only some of their bytes, the file
//! is cut back to what it held before, so that it ends with a whole record. (A crash may still cut one.)
#![allow(clippy::disallowed_methods, reason = "a door: writes segments, and names them by host and clock")]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    mem,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use shared::{
    pcap::{LinkType, Precision, file_header, record_header},
    segment::SegmentName,
};

use crate::capture::Frame;

/// libpcap's own default, and that of the tools that will read the segment.
const PRECISION: Precision = Precision::Micro;

/// Readable by the group: by the extractor, which is another user. (The umask may take from it.)
const MODE: u32 = 0o640;

/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 256 * 1024;

const FIRST_SEQUENCE: u32 = 1;

/// The name of a segment that begins now.
pub(crate) fn name_from_now(interface: &str) -> SegmentName {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start_us = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
    SegmentName::new(&short_host_name(), interface, start_us, FIRST_SEQUENCE)
}

fn short_host_name() -> String {
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = host_name.trim().split('.').next();
    short.unwrap_or_default().to_owned()
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    file: File,
    part_path: PathBuf,
    path: PathBuf,
    bytes: u64,
    packets: u64,
    buffer: Vec<u8>,
    buffered_packets: u64,
}

impl SegmentWriter {
    /// Begins the part file in `directory`, which is made if it is not there.
    pub(crate) fn create(directory: &Path, name: &SegmentName, link: LinkType, snaplen: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("the output directory {} cannot be made", directory.display()))?;
        let part_path = directory.join(name.part_file_name());
        let cannot_write = || format!("{} cannot be written", part_path.display());
        let file = OpenOptions::new().append(true).create_new(true).mode(MODE).open(&part_path).with_context(cannot_write)?;
        let buffer = file_header(link, PRECISION, snaplen).to_vec();
        let path = directory.join(name.to_string());
        let mut segment = Self { file, part_path: part_path.clone(), path, bytes: 0, packets: 0, buffer, buffered_packets: 0 };
        segment.flush().with_context(cannot_write)?;
        Ok(segment)
    }

    pub(crate) fn append(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let captured_len = u32::try_from(frame.bytes.len()).map_err(io::Error::other)?;
        self.buffer.extend(record_header(frame.timestamp_ns, PRECISION, captured_len, frame.wire_len));
        self.buffer.extend(frame.bytes);
        self.buffered_packets = self.buffered_packets.saturating_add(1);
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Writes what is gathered. Where that fails it stays gathered, and the next flush tries again.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.buffer) {
            if let Err(cut) = self.file.set_len(self.bytes) {
                tracing::warn!("{} ends inside a record: {cut}", self.part_path.display());
            }
            return Err(error);
        }
        let len = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(len);
        self.packets = self.packets.saturating_add(mem::take(&mut self.buffered_packets));
        self.buffer.clear();
        Ok(())
    }

    /// The size of the part file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many packets are in the part file.
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// Makes the segment durable and gives it its name, also where the last records cannot be written: they
    /// are the error then, the others are kept.
    pub(crate) fn close(mut self) -> anyhow::Result<PathBuf> {
        let flushed = self.flush();
        self.publish().with_context(|| format!("{} cannot be closed", self.part_path.display()))?;
        flushed.with_context(|| format!("the last {} packets are missing in {}", self.buffered_packets, self.path.display()))?;
        Ok(self.path)
    }

    fn publish(&self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.part_path, &self.path)?;
        // The name is an entry of the directory, and durable when that is.
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use shared::pcap::{DEFAULT_SNAPLEN, Layout, Step};
    use tempfile::TempDir;

    use super::*;

    const FRAME: Frame<'static> = Frame { timestamp_ns: 1_701_441_022_123_456_000, wire_len: 1500, bytes: b"snapped" };

    fn name() -> SegmentName {
        SegmentName::new("edge1", "eth0", 1_701_441_022_123_456, 1)
    }

    fn segment(directory: &TempDir) -> SegmentWriter {
        SegmentWriter::create(directory.path(), &name(), LinkType::ETHERNET, DEFAULT_SNAPLEN).unwrap()
    }

    fn names_in(directory: &TempDir) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_segment_is_hidden_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let segment = segment(&directory);
        assert_eq!(names_in(&directory), [name().part_file_name()]);
        let path = segment.close().unwrap();
        assert_eq!(names_in(&directory), [name().to_string()]);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777 & !MODE, 0);
    }

    #[test]
    fn what_is_appended_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut segment = segment(&directory);
        segment.append(&FRAME).unwrap();
        let file = fs::read(segment.close().unwrap()).unwrap();
        let (layout, start) = Layout::detect(&file).unwrap();
        let mut walk = layout.walk(&file, start);
        let Some(Step::Record(record)) = walk.next_step() else { panic!("no record") };
        assert_eq!((record.timestamp_ns, record.wire_len), (Some(FRAME.timestamp_ns), FRAME.wire_len));
        assert_eq!((record.link, record.frame), (LinkType::ETHERNET, FRAME.bytes));
        assert_eq!(walk.next_step(), None);
    }

    #[test]
    fn what_is_flushed_survives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let mut segment = segment(&directory);
        segment.append(&FRAME).unwrap();
        assert_eq!((segment.packets(), segment.bytes()), (0, 24));
        segment.flush().unwrap();
        assert_eq!((segment.packets(), segment.bytes()), (1, 24 + 16 + 7));
        drop(segment);
        assert_eq!(names_in(&directory), [name().part_file_name()]);
        assert_eq!(fs::read(directory.path().join(name().part_file_name())).unwrap().len(), 24 + 16 + 7);
    }

    #[test]
    fn memory_does_not_grow_with_the_batch() {
        let directory = tempfile::tempdir().unwrap();
        let mut segment = segment(&directory);
        let bytes = [0; 1000];
        for _ in 0..1000 {
            segment.append(&Frame { bytes: &bytes, ..FRAME }).unwrap();
            assert!(segment.buffer.len() < BUFFER_BYTES);
        }
        assert_eq!(segment.bytes() + segment.buffer.len() as u64, 24 + 1000 * 1016);
    }

    #[test]
    fn two_agents_do_not_write_one_part_file() {
        let directory = tempfile::tempdir().unwrap();
        let _first = segment(&directory);
        let error = SegmentWriter::create(directory.path(), &name(), LinkType::ETHERNET, DEFAULT_SNAPLEN).unwrap_err();
        assert!(format!("{error:#}").contains("File exists"), "{error:#}");
    }

    #[test]
    fn a_disk_that_refuses_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut segment = segment(&directory);
        // Open for reading only: each write fails, whatever the disk.
        segment.file = File::open(&segment.part_path).unwrap();
        segment.append(&FRAME).unwrap();
        assert!(segment.flush().is_err());
        assert_eq!((segment.packets(), segment.bytes(), segment.buffered_packets), (0, 24, 1));
        let error = segment.close().unwrap_err();
        assert!(format!("{error:#}").contains("the last 1 packets are missing"), "{error:#}");
        assert_eq!(names_in(&directory), [name().to_string()]);
    }
}
