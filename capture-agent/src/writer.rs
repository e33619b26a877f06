//! The thread of one interface's disk: a hidden part file, appended to, that gets its name when it is complete.
//!
//! What the disk refuses is tried again, until it is taken or the agent ends; meanwhile chunks wait in the ring, and what
//! the ring has no room for is dropped there. So a full disk costs what comes while it is full, not what came before.
//!
//! A write that the disk takes only in part is cut back, so that the part file ends with a whole record. (A crash may
//! still cut one: spool.rs repairs that at the next start.) Every step of [`Writer::try_store`] can be taken up again
//! where it failed; who changes it, keep it so.
#![allow(clippy::disallowed_methods, reason = "a door: writes segments")]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    mem,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::fcntl::OFlag;
use shared::segment::SegmentName;

use crate::{
    clock::Pace,
    ring::{Beginning, Chunk, HEADER_BYTES, Ring, Taken},
    rotation::Reason,
    tally::Tally,
};

/// Readable by the group: by the extractor, which is another user. (The umask may take from it.)
const FILE_MODE: u32 = 0o640;

/// The same for the directory, if it has to be made anew.
const DIRECTORY_MODE: u32 = 0o750;

/// How often what was refused is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// How often the log says that it is still refused.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// How long nothing happens when no chunk comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// After so much, what was written is made durable: the end of a large segment would hold up the ring for too long if all
/// of it were left to that moment.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;

/// A segment that is being written.
#[derive(Debug)]
struct Segment {
    file: File,
    beginning: Beginning,
    part_path: PathBuf,
    bytes: u64,
    packets: u64,
    unsynced_bytes: u64,
}

/// Writes one interface's segments.
#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    ring: Arc<Ring>,
    tally: Arc<Tally>,
    segment: Option<Segment>,
    /// Since what the disk refuses began, how many packets had been dropped then; nothing if it refuses nothing.
    refused_at: Option<u64>,
    remind: Pace,
}

impl Writer {
    pub(crate) fn new(directory: &Path, ring: Arc<Ring>, tally: Arc<Tally>) -> Self {
        let directory = directory.to_owned();
        Self { directory, ring, tally, segment: None, refused_at: None, remind: Pace::after(REMIND_EVERY) }
    }

    /// Writes until the ring is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            match self.ring.take(PATIENCE) {
                Taken::Chunk(chunk) => self.store(chunk),
                Taken::NothingYet => {}
                Taken::Over => break,
            }
        }
    }

    /// Writes a chunk, however often it takes. At the end of the agent there is one attempt.
    fn store(&mut self, mut chunk: Chunk) {
        while let Err(error) = self.try_store(&mut chunk) {
            self.refused(&error);
            if self.ring.wait_for_close(RETRY_EVERY) {
                return self.store_or_drop(chunk);
            }
        }
        self.taken();
        self.ring.give_back(chunk.records);
    }

    fn store_or_drop(&mut self, mut chunk: Chunk) {
        let Err(error) = self.try_store(&mut chunk) else { return };
        self.tally.disk_dropped.add(chunk.packets);
        tracing::error!(packets = chunk.packets, "given up at the end: {error}");
        // The segment itself may still get its name.
        chunk.records.clear();
        if let Err(error) = self.try_store(&mut chunk) {
            tracing::error!("left as it is: {error}");
        }
    }

    fn try_store(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        if !chunk.records.is_empty()
            && let Some(beginning) = self.segment.as_ref().and_then(Segment::lost)
        {
            self.forget_lost_segment();
            // As if the chunk had begun it: that is tried until it succeeds.
            chunk.begins.get_or_insert(beginning);
        }
        if let Some(beginning) = &chunk.begins {
            self.segment = Some(self.open(beginning)?);
            chunk.begins = None;
        }
        if !chunk.records.is_empty() {
            self.append(chunk)?;
        }
        if let Some(reason) = chunk.ends {
            self.close(reason)?;
            chunk.ends = None;
        }
        Ok(())
    }

    fn open(&self, beginning: &Beginning) -> io::Result<Segment> {
        let part_path = self.directory.join(beginning.name.part_file_name());
        let file = match create(&part_path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(DIRECTORY_MODE)
                    .create(&self.directory)
                    .map_err(in_file(&self.directory))?;
                create(&part_path)
            }
            created => created,
        };
        let mut file = file.map_err(in_file(&part_path))?;
        // As long as it is locked, no other agent takes it for what a crash has left. (Some network file systems know no
        // locks: two agents should not share a directory there.)
        let _ = file.try_lock();
        if let Err(error) = file.write_all(&beginning.header) {
            fs::remove_file(&part_path)?;
            return Err(in_file(&part_path)(error));
        }
        self.tally.set_segment(Some(beginning.name.to_string()));
        let bytes = len(&beginning.header);
        self.tally.written_bytes.add(bytes);
        self.tally.segment_bytes.set(bytes);
        Ok(Segment { file, beginning: beginning.clone(), part_path, bytes, packets: 0, unsynced_bytes: bytes })
    }

    fn append(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        let Some(segment) = &mut self.segment else { return Err(io::Error::other("its segment could not be begun")) };
        segment.append(&chunk.records, chunk.packets)?;
        self.tally.written.add(mem::take(&mut chunk.packets));
        self.tally.written_bytes.add(len(&chunk.records));
        self.tally.segment_bytes.set(segment.bytes);
        chunk.records.clear();
        Ok(())
    }

    /// Somebody removed the part file, or the directory with it: what is in it is gone.
    fn forget_lost_segment(&mut self) {
        if let Some(lost) = self.segment.take() {
            tracing::error!(packets = lost.packets, "{} was removed while it was being written", lost.part_path.display());
            self.tally.disk_dropped.add(lost.packets);
        }
    }

    fn close(&mut self, reason: Reason) -> io::Result<()> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        if let Err(error) = segment.file.sync_all() {
            // Trying again would succeed, and mean nothing: the kernel has forgotten what it could not write.
            tracing::error!("{} may not be whole on the disk: {error}", segment.part_path.display());
        }
        match publish(&self.directory, &segment.beginning.name) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.forget_lost_segment(),
            Err(error) => return Err(error),
            Ok(path) => {
                tracing::info!(segment = %path.display(), packets = segment.packets, bytes = segment.bytes, %reason, "closed");
                self.tally.segments.add(1);
            }
        }
        self.segment = None;
        self.tally.set_segment(None);
        self.tally.segment_bytes.set(0);
        Ok(())
    }

    fn refused(&mut self, error: &io::Error) {
        let dropped = self.tally.disk_dropped.get();
        let waiting_bytes = self.ring.bytes();
        match self.refused_at {
            None => {
                tracing::error!("{error}; trying again until the disk takes it");
                self.refused_at = Some(dropped);
                self.remind = Pace::after(REMIND_EVERY);
                self.tally.is_refused.set(true);
            }
            Some(before) if self.remind.is_due() => {
                tracing::error!(waiting_bytes, dropped = dropped.saturating_sub(before), "still: {error}");
            }
            Some(_) => {}
        }
    }

    fn taken(&mut self) {
        if let Some(before) = self.refused_at.take() {
            let dropped = self.tally.disk_dropped.get().saturating_sub(before);
            tracing::info!(dropped, "the disk takes it again");
            self.tally.is_refused.set(false);
        }
    }
}

impl Segment {
    /// What its file begins with, if that has no name any more.
    fn lost(&self) -> Option<Beginning> {
        let is_lost = self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        is_lost.then(|| self.beginning.clone())
    }

    fn append(&mut self, records: &[u8], packets: u64) -> io::Result<()> {
        if let Err(error) = self.file.write_all(records) {
            if let Err(cut) = self.file.set_len(self.bytes) {
                tracing::warn!("{} ends inside a record: {cut}", self.part_path.display());
            }
            return Err(in_file(&self.part_path)(error));
        }
        self.bytes = self.bytes.saturating_add(len(records));
        self.packets = self.packets.saturating_add(packets);
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(len(records));
        if self.unsynced_bytes >= SYNC_BYTES {
            self.unsynced_bytes = 0;
            if let Err(error) = self.file.sync_data() {
                tracing::error!("{} may not be whole on the disk: {error}", self.part_path.display());
            }
        }
        Ok(())
    }
}

fn create(part_path: &Path) -> io::Result<File> {
    match OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(part_path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => take_over(part_path).ok_or(error),
        created => created,
    }
}

/// A part file that this agent began, but could neither write nor remove: nobody holds it, and no packet is in it.
fn take_over(part_path: &Path) -> Option<File> {
    let file = OpenOptions::new().append(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(part_path).ok()?;
    let is_begun_only = file.try_lock().is_ok() && file.metadata().is_ok_and(|metadata| metadata.len() <= HEADER_BYTES);
    (is_begun_only && file.set_len(0).is_ok()).then_some(file)
}

/// Gives a part file the name of its segment.
pub(crate) fn publish(directory: &Path, name: &SegmentName) -> io::Result<PathBuf> {
    let path = directory.join(name.to_string());
    fs::rename(directory.join(name.part_file_name()), &path).map_err(in_file(&path))?;
    // A name is an entry of its directory, and durable when that is.
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::error!("the name of {} may not be durable: {error}", path.display());
    }
    Ok(path)
}

/// Says which file an error is about.
fn in_file(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{} cannot be written: {error}", path.display()))
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use shared::pcap::{DEFAULT_SNAPLEN, LinkType, Precision, file_header};
    use tempfile::TempDir;

    use super::*;

    fn beginning() -> Beginning {
        let name = SegmentName::new("edge1", "eth0", 1_701_441_022_123_456, 1);
        Beginning { name, header: file_header(LinkType::ETHERNET, Precision::Micro, DEFAULT_SNAPLEN) }
    }

    fn chunk(records: &[u8]) -> Chunk {
        Chunk { records: records.to_vec(), packets: 1, ..Chunk::default() }
    }

    fn writer(directory: &Path) -> Writer {
        Writer::new(directory, Arc::new(Ring::new(1 << 20)), Arc::default())
    }

    /// A writer that has written one record.
    fn begun(directory: &Path) -> Writer {
        let mut writer = writer(directory);
        writer.store(Chunk { begins: Some(beginning()), ..chunk(b"one") });
        writer
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
        let mut writer = begun(directory.path());
        assert_eq!(names_in(&directory), [beginning().name.part_file_name()]);
        writer.store(Chunk { ends: Some(Reason::Time), ..chunk(b"two") });
        assert_eq!(names_in(&directory), [beginning().name.to_string()]);
        let path = directory.path().join(beginning().name.to_string());
        assert_eq!(fs::read(&path).unwrap(), [&beginning().header[..], b"onetwo"].concat());
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777 & !FILE_MODE, 0);
        let tally = &writer.tally;
        assert_eq!((tally.written.get(), tally.written_bytes.get(), tally.segments.get()), (2, 24 + 6, 1));
    }

    #[test]
    fn what_is_written_survives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        drop(begun(directory.path()));
        let part = directory.path().join(beginning().name.part_file_name());
        assert_eq!(fs::read(part).unwrap(), [&beginning().header[..], b"one"].concat());
    }

    #[test]
    fn two_agents_do_not_write_one_part_file() {
        let directory = tempfile::tempdir().unwrap();
        let _first = begun(directory.path());
        let error = writer(directory.path()).open(&beginning()).unwrap_err();
        assert!(error.to_string().contains("File exists"), "{error}");
    }

    #[test]
    fn what_is_refused_is_tried_again_from_where_it_failed() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = begun(directory.path());
        let part = directory.path().join(beginning().name.part_file_name());
        // Open for reading only: each write fails, whatever the disk.
        let good = mem::replace(&mut writer.segment.as_mut().unwrap().file, File::open(&part).unwrap());
        let mut next = Chunk { ends: Some(Reason::Size), ..chunk(b"two") };
        for _ in 0..3 {
            let error = writer.try_store(&mut next).unwrap_err();
            assert!(error.to_string().contains(&part.display().to_string()), "{error}");
        }
        assert_eq!((next.packets, next.records.as_slice(), writer.tally.written.get()), (1, &b"two"[..], 1));
        writer.segment.as_mut().unwrap().file = good;
        writer.try_store(&mut next).unwrap();
        let file = fs::read(directory.path().join(beginning().name.to_string())).unwrap();
        assert_eq!(file, [&beginning().header[..], b"onetwo"].concat());
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again_and_the_loss_is_counted() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("segments");
        fs::create_dir(&directory).unwrap();
        let mut writer = begun(&directory);
        fs::remove_dir_all(&directory).unwrap();
        writer.store(Chunk { ends: Some(Reason::Time), ..chunk(b"two") });
        let file = fs::read(directory.join(beginning().name.to_string())).unwrap();
        assert_eq!(file, [&beginning().header[..], b"two"].concat());
        assert_eq!(writer.tally.disk_dropped.get(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_made_again_at_once_holds_nothing_up_when_it_can() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("segments");
        fs::create_dir(&directory).unwrap();
        let mut writer = begun(&directory);
        fs::remove_dir_all(&directory).unwrap();
        fs::write(&directory, "in the way").unwrap();
        let mut next = Chunk { ends: Some(Reason::Time), ..chunk(b"two") };
        for _ in 0..3 {
            writer.try_store(&mut next).unwrap_err();
        }
        fs::remove_file(&directory).unwrap();
        writer.try_store(&mut next).unwrap();
        let file = fs::read(directory.join(beginning().name.to_string())).unwrap();
        assert_eq!(file, [&beginning().header[..], b"two"].concat());
        assert_eq!((writer.tally.disk_dropped.get(), writer.tally.written.get()), (1, 2));
    }

    #[test]
    fn a_part_file_that_could_only_be_begun_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join(beginning().name.part_file_name());
        fs::write(&part, &beginning().header[..10]).unwrap();
        drop(begun(directory.path()));
        assert_eq!(fs::read(&part).unwrap(), [&beginning().header[..], b"one"].concat());
        assert!(writer(directory.path()).open(&beginning()).is_err(), "there is a packet in it");
    }

    #[test]
    fn a_part_file_that_vanishes_before_its_end_is_counted_and_holds_nothing_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = begun(directory.path());
        fs::remove_file(directory.path().join(beginning().name.part_file_name())).unwrap();
        writer.store(Chunk { ends: Some(Reason::Time), ..Chunk::default() });
        assert_eq!((writer.tally.disk_dropped.get(), writer.tally.segments.get()), (1, 0));
    }

    #[test]
    fn at_the_end_what_is_refused_is_dropped_and_counted() {
        let parent = tempfile::tempdir().unwrap();
        // No directory can be made where a file is.
        let in_the_way = parent.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let writer = writer(&in_the_way.join("segments"));
        let (ring, tally) = (Arc::clone(&writer.ring), Arc::clone(&writer.tally));
        assert!(ring.push(&mut Chunk { begins: Some(beginning()), ..chunk(b"one") }));
        ring.close(Chunk { ends: Some(Reason::End), ..chunk(b"two") });
        writer.run();
        assert_eq!((tally.disk_dropped.get(), tally.written.get()), (2, 0));
    }
}
