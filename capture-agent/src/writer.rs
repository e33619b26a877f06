//! The disk thread of one interface: appends to a hidden part file and renames it when it is
//! complete.
//!
//! The writer repeats a write that the disk refuses until it succeeds or the agent ends. Meanwhile
//! chunks wait in the ring, and packets without room there are dropped. So a full disk costs the
//! packets that come while it is full, not those from before.
//!
//! Segments of an earlier run that crashed may still be under repair. Until they have their names,
//! the segments closed here wait for theirs: a reader that follows the directory finds segments in
//! capture order.
//!
//! After a partial write the writer truncates the file, so the part file ends with a whole record.
//! (A crash may still cut one: segment_dir.rs repairs that at the next start.) Every step of
//! [`Writer::try_store`] can be repeated where it failed; keep it so.
#![allow(clippy::disallowed_methods, reason = "a door: writes segments")]

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    mem,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use shared::{files, segment::SegmentName, segment_drops::SegmentDrops};

use crate::{
    capture::pause,
    clock::Pace,
    drops::{CountedDrops, Stretch},
    ring::{Beginning, Chunk, HEADER_BYTES, Ring, Taken},
    rotation::Reason,
    tally::Tally,
};

/// Readable by the group, which is the extractor's. (The umask may remove bits.)
const FILE_MODE: u32 = 0o640;

/// The mode of the directory, if the writer has to create it again.
const DIRECTORY_MODE: u32 = 0o750;

/// How often a refused write is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// How often the log repeats that the disk still refuses.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// How long the writer waits for a chunk before it looks for segments to name.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits if there are any: their drops are counted in a moment.
const SHORT_PATIENCE: Duration = Duration::from_millis(20);

/// After this many bytes the file is synced: one sync at the end of a large segment would hold up
/// the ring for too long.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;

/// How many closed segments of an interface wait for their names at most: each is an open file.
const MAX_UNNAMED: usize = 64;

/// How long the end of the agent waits for the repair. Segments without a name then get it at the
/// next start.
const MAX_WAIT_FOR_REPAIR: Duration = Duration::from_secs(2);

/// How often the writer checks for the end of the repair.
const WAIT: Duration = Duration::from_millis(5);

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

/// A segment that is complete and has no name yet.
#[derive(Debug)]
struct Unnamed {
    segment: Segment,
    reason: Reason,
    stretch: Stretch,
    /// Packets in its time that were captured and could not be written.
    lost: u64,
    /// True when the file of its drops has been written, or cannot be.
    has_drops: bool,
}

/// Writes one interface's segments.
#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    ring: Arc<Ring>,
    tally: Arc<Tally>,
    segment: Option<Segment>,
    /// The thread that repairs the segments of an earlier run.
    repair: Arc<JoinHandle<()>>,
    /// Segments that are complete and durable, in order.
    unnamed: VecDeque<Unnamed>,
    counted: Arc<CountedDrops>,
    /// Packets that were captured and could not be written, and belong to no segment yet.
    lost: u64,
    /// The drop counter at the moment when the disk began to refuse writes; `None` while it accepts
    /// them.
    refused_at: Option<u64>,
    remind: Pace,
}

impl Writer {
    pub(crate) fn new(
        directory: &Path,
        ring: Arc<Ring>,
        tally: Arc<Tally>,
        counted: Arc<CountedDrops>,
        repair: Arc<JoinHandle<()>>,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            ring,
            tally,
            segment: None,
            repair,
            unnamed: VecDeque::new(),
            counted,
            lost: 0,
            refused_at: None,
            remind: Pace::after(REMIND_EVERY),
        }
    }

    /// Writes until the ring is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let is_soon = !self.unnamed.is_empty() && self.repair.is_finished();
            let patience = if is_soon { SHORT_PATIENCE } else { PATIENCE };
            match self.ring.take(patience) {
                Taken::Chunk(chunk) => self.store(chunk),
                // Closed segments may wait for their names.
                Taken::NothingYet => self.store(Chunk::default()),
                Taken::Over => break,
            }
        }
        self.name_closed_at_end();
    }

    /// Writes a chunk, in as many attempts as it takes. At the end of the agent there is one.
    fn store(&mut self, mut chunk: Chunk) {
        while let Err(error) = self.try_store(&mut chunk) {
            self.note_refused(&error);
            if self.ring.wait_for_close(RETRY_EVERY) {
                return self.store_or_drop(chunk);
            }
        }
        self.note_accepted();
        self.ring.give_back(chunk.records);
    }

    fn store_or_drop(&mut self, mut chunk: Chunk) {
        let Err(error) = self.try_store(&mut chunk) else {
            return;
        };
        self.tally.disk_dropped.add(chunk.packets);
        self.lost = self.lost.saturating_add(chunk.packets);
        tracing::error!(
            packets = chunk.packets,
            "packets are lost at the end: {error}"
        );
        // The segment itself may still get its name.
        chunk.records.clear();
        if let Err(error) = self.try_store(&mut chunk) {
            tracing::error!("the part file stays for the next start: {error}");
        }
    }

    fn try_store(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        if !chunk.records.is_empty()
            && let Some(beginning) = self.segment.as_ref().and_then(Segment::lost)
        {
            self.forget_lost_segment();
            // The chunk then begins the segment again, in as many attempts as it takes.
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
            self.close(reason, chunk.stretch);
            chunk.ends = None;
        }
        self.name_closed()
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
        if let Err(error) = file.write_all(&beginning.header) {
            fs::remove_file(&part_path)?;
            return Err(in_file(&part_path)(error));
        }
        let bytes = len(&beginning.header);
        self.tally.written_bytes.add(bytes);
        self.tally.segment_bytes.set(bytes);
        Ok(Segment {
            file,
            beginning: beginning.clone(),
            part_path,
            bytes,
            packets: 0,
            unsynced_bytes: bytes,
        })
    }

    fn append(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        let Some(segment) = &mut self.segment else {
            return Err(io::Error::other("its segment was not opened"));
        };
        segment.append(&chunk.records, chunk.packets)?;
        self.tally.written.add(mem::take(&mut chunk.packets));
        self.tally.written_bytes.add(len(&chunk.records));
        self.tally.segment_bytes.set(segment.bytes);
        chunk.records.clear();
        Ok(())
    }

    /// Gives up a segment whose part file, or its whole directory, was removed by somebody.
    fn forget_lost_segment(&mut self) {
        if let Some(lost) = self.segment.take() {
            self.count_lost(&lost);
        }
    }

    fn count_lost(&mut self, lost: &Segment) {
        tracing::error!(
            packets = lost.packets,
            "{} was removed while it was being written",
            lost.part_path.display()
        );
        self.tally.disk_dropped.add(lost.packets);
        self.lost = self.lost.saturating_add(lost.packets);
    }

    fn close(&mut self, reason: Reason, stretch: Stretch) {
        let Some(segment) = self.segment.take() else {
            return;
        };
        if let Err(error) = segment.file.sync_all() {
            // A second sync would succeed without meaning: the kernel has discarded what it could
            // not write.
            tracing::error!(
                "{} may be incomplete on the disk: {error}",
                segment.part_path.display()
            );
        }
        self.unnamed.push_back(Unnamed {
            segment,
            reason,
            stretch,
            lost: mem::take(&mut self.lost),
            has_drops: stretch.number == 0,
        });
        self.tally.segment_bytes.set(0);
    }

    /// Gives closed segments their names, in order, unless the repair of earlier ones still runs, or
    /// their drops are not counted yet.
    fn name_closed(&mut self) -> io::Result<()> {
        while let Some(first) = self.unnamed.front()
            && (self.may_be_named(first) || self.unnamed.len() > MAX_UNNAMED)
            && let Some(mut unnamed) = self.unnamed.pop_front()
        {
            if let Err(error) = self.name(&mut unnamed) {
                self.unnamed.push_front(unnamed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn may_be_named(&self, unnamed: &Unnamed) -> bool {
        self.repair.is_finished()
            && (unnamed.has_drops || self.counted.are_of(unnamed.stretch.number))
    }

    fn name(&mut self, unnamed: &mut Unnamed) -> io::Result<()> {
        let drops = self.counted.take(unnamed.stretch.number);
        let Unnamed {
            segment,
            reason,
            lost,
            has_drops,
            ..
        } = unnamed;
        let name = &segment.beginning.name;
        let path = self.directory.join(name.part_file_name());
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.count_lost(segment);
            return Ok(());
        }
        *has_drops = true;
        if let Some(drops) = drops.map(|drops| drops.with_lost(*lost))
            && let Err(error) = write_drops(&self.directory, name, &drops)
        {
            // A full disk must not keep the segment from its reader, who may make room.
            tracing::error!("the drops of {name} are not known to its readers: {error}");
        }
        match publish(&self.directory, name) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.count_lost(segment),
            Err(error) => return Err(error),
            Ok(path) => {
                tracing::info!(segment = %path.display(), packets = segment.packets, bytes = segment.bytes, %reason, "closed");
                self.tally.segments.add(1);
            }
        }
        Ok(())
    }

    /// Names closed segments at the end, after a short wait for the repair.
    fn name_closed_at_end(&mut self) {
        let mut patience = Pace::after(MAX_WAIT_FOR_REPAIR);
        while !self.unnamed.is_empty() && !self.repair.is_finished() && !patience.is_due() {
            pause(WAIT);
        }
        match self.name_closed() {
            Err(error) => tracing::error!("the part file stays for the next start: {error}"),
            Ok(()) if self.unnamed.is_empty() => {}
            Ok(()) => {
                let segments = self.unnamed.len();
                tracing::warn!(
                    segments,
                    "segments are closed at the next start: the repair of an earlier run's segments still runs"
                );
            }
        }
    }

    fn note_refused(&mut self, error: &io::Error) {
        let dropped = self.tally.disk_dropped.get();
        let waiting_bytes = self.ring.bytes();
        match self.refused_at {
            None => {
                tracing::error!("{error}; trying again until the disk accepts it");
                self.refused_at = Some(dropped);
                self.remind = Pace::after(REMIND_EVERY);
                self.tally.is_refused.set(true);
            }
            Some(before) if self.remind.is_due() => {
                tracing::error!(
                    waiting_bytes,
                    dropped = dropped.saturating_sub(before),
                    "the disk still refuses: {error}"
                );
            }
            Some(_) => {}
        }
    }

    fn note_accepted(&mut self) {
        if let Some(before) = self.refused_at.take() {
            let dropped = self.tally.disk_dropped.get().saturating_sub(before);
            tracing::info!(dropped, "the disk accepts writes again");
            self.tally.is_refused.set(false);
        }
    }
}

impl Segment {
    /// Returns the segment's beginning if its part file no longer has a name.
    fn lost(&self) -> Option<Beginning> {
        let is_lost = self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.nlink() == 0);
        is_lost.then(|| self.beginning.clone())
    }

    fn append(&mut self, records: &[u8], packets: u64) -> io::Result<()> {
        if let Err(error) = self.file.write_all(records) {
            if let Err(cut) = self.file.set_len(self.bytes) {
                tracing::warn!(
                    "{} ends with a partial record: {cut}",
                    self.part_path.display()
                );
            }
            return Err(in_file(&self.part_path)(error));
        }
        self.bytes = self.bytes.saturating_add(len(records));
        self.packets = self.packets.saturating_add(packets);
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(len(records));
        if self.unsynced_bytes >= SYNC_BYTES {
            self.unsynced_bytes = 0;
            if let Err(error) = self.file.sync_data() {
                tracing::error!(
                    "{} may be incomplete on the disk: {error}",
                    self.part_path.display()
                );
            }
        }
        Ok(())
    }
}

/// Creates a part file and locks it before anything is in it: while it is locked, no other agent
/// takes it for the remains of a crash. (Some network file systems have no locks: two agents should
/// not share a directory there.)
fn create(part_path: &Path) -> io::Result<File> {
    let file = match OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(part_path)
    {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return open_own_part(part_path).ok_or(error);
        }
        created => created?,
    };
    // Another agent that starts may lock the empty file first, and remove it.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&file, part_path) {
        return Err(io::Error::new(
            ErrorKind::ResourceBusy,
            "another agent has locked it",
        ));
    }
    Ok(file)
}

/// Opens a part file that this agent created but could neither write nor remove: nobody has locked
/// it, and it holds no packet.
fn open_own_part(part_path: &Path) -> Option<File> {
    let file = files::open(OpenOptions::new().append(true), part_path).ok()?;
    let is_begun_only = file.try_lock().is_ok()
        && is_at(&file, part_path)
        && file
            .metadata()
            .is_ok_and(|metadata| metadata.len() <= HEADER_BYTES);
    (is_begun_only && file.set_len(0).is_ok()).then_some(file)
}

/// True if a part file has neither been removed nor renamed. Once it is locked, that stays so:
/// no agent removes or renames a file that another has locked. (A segment's name is used once, so
/// inode numbers, which some network file systems invent, need not be compared.)
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let is_removed = file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
    !is_removed && fs::symlink_metadata(path).is_ok()
}

/// Writes the file of a segment's drops, complete and durable: it must be there before the segment
/// is, so that nobody sees the segment without it.
fn write_drops(directory: &Path, name: &SegmentName, drops: &SegmentDrops) -> io::Result<()> {
    let path = directory.join(name.drops_file_name());
    let mut file = files::replacement(&path, FILE_MODE)?;
    file.write_all(drops.to_json().as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// Renames a part file to the name of its segment.
pub(crate) fn publish(directory: &Path, name: &SegmentName) -> io::Result<PathBuf> {
    let path = directory.join(name.to_string());
    fs::rename(directory.join(name.part_file_name()), &path).map_err(in_file(&path))?;
    // A rename is durable once the directory is synced.
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::error!(
            "the rename to {} may not be durable: {error}",
            path.display()
        );
    }
    Ok(path)
}

/// Adds the file's name to an error.
fn in_file(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    }
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc::{self, Sender},
        },
        thread,
    };

    use shared::{
        pcap::{DEFAULT_SNAPLEN, LinkType, Precision, file_header},
        segment_drops::DropCauses,
    };
    use tempfile::TempDir;

    use super::*;
    use crate::{drops::WaitingDrops, segment_dir::SegmentDir};

    fn beginning() -> Beginning {
        let name = SegmentName::new("edge1", "eth0", 1_701_441_022_123_456, 1);
        Beginning {
            name,
            header: file_header(LinkType::ETHERNET, Precision::Micro, DEFAULT_SNAPLEN),
        }
    }

    fn chunk(records: &[u8]) -> Chunk {
        Chunk {
            records: records.to_vec(),
            packets: 1,
            ..Chunk::default()
        }
    }

    fn writer(directory: &Path) -> Writer {
        let repair = thread::spawn(|| ());
        while !repair.is_finished() {
            thread::yield_now();
        }
        beside(directory, repair)
    }

    fn beside(directory: &Path, repair: JoinHandle<()>) -> Writer {
        Writer::new(
            directory,
            Arc::new(Ring::new(1 << 20)),
            Arc::default(),
            Arc::default(),
            Arc::new(repair),
        )
    }

    /// A repair that runs until the sender is dropped.
    fn long_repair() -> (Sender<()>, JoinHandle<()>) {
        let (goes_on, until) = mpsc::channel();
        (
            goes_on,
            thread::spawn(move || {
                let _ = until.recv();
            }),
        )
    }

    /// A segment of one record.
    fn whole(sequence: u32) -> Chunk {
        let name = SegmentName::new("edge1", "eth0", 1_701_441_022_123_456, sequence);
        Chunk {
            begins: Some(Beginning {
                name,
                ..beginning()
            }),
            ends: Some(Reason::Size),
            ..chunk(b"one")
        }
    }

    /// A writer that has written one record.
    fn begun(directory: &Path) -> Writer {
        let mut writer = writer(directory);
        writer.store(Chunk {
            begins: Some(beginning()),
            ..chunk(b"one")
        });
        writer
    }

    fn names_in(directory: &TempDir) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_segment_is_hidden_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = begun(directory.path());
        assert_eq!(names_in(&directory), [beginning().name.part_file_name()]);
        writer.store(Chunk {
            ends: Some(Reason::Time),
            ..chunk(b"two")
        });
        assert_eq!(names_in(&directory), [beginning().name.to_string()]);
        let path = directory.path().join(beginning().name.to_string());
        assert_eq!(
            fs::read(&path).unwrap(),
            [&beginning().header[..], b"onetwo"].concat()
        );
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777 & !FILE_MODE,
            0
        );
        let tally = &writer.tally;
        assert_eq!(
            (
                tally.written.get(),
                tally.written_bytes.get(),
                tally.segments.get()
            ),
            (2, 24 + 6, 1)
        );
    }

    #[test]
    fn written_packets_survive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        drop(begun(directory.path()));
        let part = directory.path().join(beginning().name.part_file_name());
        assert_eq!(
            fs::read(part).unwrap(),
            [&beginning().header[..], b"one"].concat()
        );
    }

    #[test]
    fn two_agents_do_not_write_one_part_file() {
        let directory = tempfile::tempdir().unwrap();
        let _first = begun(directory.path());
        let error = writer(directory.path()).open(&beginning()).unwrap_err();
        assert!(error.to_string().contains("File exists"), "{error}");
    }

    #[test]
    fn an_agent_that_starts_takes_no_part_file_that_another_has_just_made() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(directory.path());
        let is_over = AtomicBool::new(false);
        let (found, closed) = thread::scope(|scope| {
            let other = scope.spawn(|| {
                let segment_dir = SegmentDir::new(directory.path(), "edge1", &[]);
                let mut found = 0;
                while !is_over.load(Ordering::Relaxed) {
                    for name in segment_dir.parts().unwrap() {
                        // The repair removes only a file that is empty and has no packet yet.
                        segment_dir.repair(&name).unwrap();
                        found += 1;
                    }
                }
                found
            });
            let mut closed = 0;
            while closed < 300 {
                closed += 1;
                let mut next = whole(closed);
                while let Err(error) = writer.try_store(&mut next) {
                    assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
                }
            }
            is_over.store(true, Ordering::Relaxed);
            (other.join().unwrap(), closed)
        });
        assert!(found > 0, "the two have never met");
        assert_eq!(
            names_in(&directory),
            (1..=closed)
                .map(|n| whole(n).begins.unwrap().name.to_string())
                .collect::<Vec<_>>()
        );
        let len = |name: &String| fs::metadata(directory.path().join(name)).unwrap().len();
        assert!(
            names_in(&directory)
                .iter()
                .all(|name| len(name) == HEADER_BYTES + 3)
        );
        assert_eq!(
            (writer.tally.disk_dropped.get(), writer.tally.written.get()),
            (0, u64::from(closed))
        );
    }

    #[test]
    fn closed_segments_wait_for_their_names_until_those_before_them_have_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let (goes_on, repair) = long_repair();
        let mut writer = beside(directory.path(), repair);
        (1..=3).for_each(|sequence| writer.store(whole(sequence)));
        let names: Vec<SegmentName> = (1..=3)
            .map(|sequence| whole(sequence).begins.unwrap().name)
            .collect();
        assert_eq!(
            names_in(&directory),
            names
                .iter()
                .map(SegmentName::part_file_name)
                .collect::<Vec<_>>()
        );
        assert_eq!(
            (
                writer.tally.segments.get(),
                writer.tally.segment_bytes.get()
            ),
            (0, 0)
        );
        drop(goes_on);
        while !writer.repair.is_finished() {
            thread::yield_now();
        }
        writer.store(Chunk::default());
        assert_eq!(
            names_in(&directory),
            names.iter().map(SegmentName::to_string).collect::<Vec<_>>()
        );
        assert_eq!(
            (writer.tally.segments.get(), writer.tally.disk_dropped.get()),
            (3, 0)
        );
    }

    /// The drops of a segment with this number, 7 packets, as the recorder counts them.
    fn counted(writer: &Writer, number: u64) {
        let mut waiting = WaitingDrops::default();
        let causes = DropCauses {
            kernel: 7,
            ..DropCauses::default()
        };
        waiting.add(START_NS, START_NS, causes);
        waiting.end(stretch(number));
        waiting.assign(&writer.counted);
    }

    const START_NS: u64 = 1_701_441_022_123_456_000;

    fn stretch(number: u64) -> Stretch {
        Stretch {
            number,
            from_ns: START_NS,
            until_ns: Some(START_NS + 60_000_000_000),
            latest_ns: 0,
        }
    }

    fn with_stretch(sequence: u32) -> Chunk {
        Chunk {
            stretch: stretch(sequence.into()),
            ..whole(sequence)
        }
    }

    fn drops_of(directory: &TempDir, sequence: u32) -> SegmentDrops {
        let name = whole(sequence).begins.unwrap().name;
        let path = directory.path().join(name.drops_file_name());
        SegmentDrops::parse(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_segment_gets_its_name_when_its_drops_are_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(directory.path());
        let [name, next] = [1, 2].map(|sequence| whole(sequence).begins.unwrap().name);
        writer.store(with_stretch(1));
        writer.store(with_stretch(2));
        counted(&writer, 2);
        writer.store(Chunk::default());
        assert_eq!(
            names_in(&directory),
            [name.part_file_name(), next.part_file_name()],
            "the first is not counted"
        );
        counted(&writer, 1);
        writer.store(Chunk::default());
        assert_eq!(
            names_in(&directory),
            [
                name.drops_file_name(),
                next.drops_file_name(),
                name.to_string(),
                next.to_string()
            ]
        );
        assert_eq!(drops_of(&directory, 1).packets(), 7);
        let path = directory.path().join(name.drops_file_name());
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777 & !FILE_MODE,
            0
        );
    }

    #[test]
    fn drops_that_cannot_be_written_do_not_hold_their_segment_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(directory.path());
        let name = whole(1).begins.unwrap().name;
        fs::create_dir_all(directory.path().join(name.drops_file_name()).join("x")).unwrap();
        counted(&writer, 1);
        writer.store(with_stretch(1));
        assert_eq!(
            names_in(&directory),
            [name.drops_file_name(), name.to_string()]
        );
    }

    #[test]
    fn packets_of_a_part_file_that_was_removed_are_dropped_in_the_segment() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = begun(directory.path());
        let name = beginning().name;
        fs::remove_file(directory.path().join(name.part_file_name())).unwrap();
        counted(&writer, 1);
        writer.store(Chunk {
            ends: Some(Reason::Time),
            stretch: stretch(1),
            ..chunk(b"two")
        });
        assert_eq!(drops_of(&directory, 1).packets(), 8);
    }

    #[test]
    fn no_drops_stay_of_a_part_file_that_was_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = begun(directory.path());
        fs::remove_file(directory.path().join(beginning().name.part_file_name())).unwrap();
        counted(&writer, 1);
        writer.store(Chunk {
            ends: Some(Reason::Time),
            stretch: stretch(1),
            ..Chunk::default()
        });
        assert_eq!(names_in(&directory), [""; 0]);
    }

    #[test]
    fn not_all_files_there_can_be_wait_for_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let (_goes_on, repair) = long_repair();
        let mut writer = beside(directory.path(), repair);
        (1..=100).for_each(|sequence| writer.store(whole(sequence)));
        assert_eq!(writer.unnamed.len(), MAX_UNNAMED);
        let named: Vec<String> = names_in(&directory)
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .collect();
        assert_eq!(
            named,
            (1..=36)
                .map(|n| whole(n).begins.unwrap().name.to_string())
                .collect::<Vec<_>>(),
            "the oldest"
        );
    }

    #[test]
    fn a_repair_that_does_not_end_does_not_hold_the_end_up() {
        let directory = tempfile::tempdir().unwrap();
        let (_goes_on, repair) = long_repair();
        let writer = beside(directory.path(), repair);
        writer.ring.close(whole(1));
        writer.run();
        let part = directory
            .path()
            .join(whole(1).begins.unwrap().name.part_file_name());
        assert_eq!(
            fs::read(part).unwrap(),
            [&beginning().header[..], b"one"].concat(),
            "whole, and the next start's"
        );
    }

    #[test]
    fn a_refused_write_is_repeated_from_where_it_failed() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = begun(directory.path());
        let part = directory.path().join(beginning().name.part_file_name());
        // The file is open for reading only: each write fails on any disk.
        let good = mem::replace(
            &mut writer.segment.as_mut().unwrap().file,
            File::open(&part).unwrap(),
        );
        let mut next = Chunk {
            ends: Some(Reason::Size),
            ..chunk(b"two")
        };
        for _ in 0..3 {
            let error = writer.try_store(&mut next).unwrap_err();
            assert!(
                error.to_string().contains(&part.display().to_string()),
                "{error}"
            );
        }
        assert_eq!(
            (
                next.packets,
                next.records.as_slice(),
                writer.tally.written.get()
            ),
            (1, &b"two"[..], 1)
        );
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
        writer.store(Chunk {
            ends: Some(Reason::Time),
            ..chunk(b"two")
        });
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
        let mut next = Chunk {
            ends: Some(Reason::Time),
            ..chunk(b"two")
        };
        for _ in 0..3 {
            writer.try_store(&mut next).unwrap_err();
        }
        fs::remove_file(&directory).unwrap();
        writer.try_store(&mut next).unwrap();
        let file = fs::read(directory.join(beginning().name.to_string())).unwrap();
        assert_eq!(file, [&beginning().header[..], b"two"].concat());
        assert_eq!(
            (writer.tally.disk_dropped.get(), writer.tally.written.get()),
            (1, 2)
        );
    }

    #[test]
    fn a_part_file_that_could_only_be_begun_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join(beginning().name.part_file_name());
        fs::write(&part, &beginning().header[..10]).unwrap();
        drop(begun(directory.path()));
        assert_eq!(
            fs::read(&part).unwrap(),
            [&beginning().header[..], b"one"].concat()
        );
        assert!(
            writer(directory.path()).open(&beginning()).is_err(),
            "there is a packet in it"
        );
    }

    #[test]
    fn a_part_file_that_vanishes_before_its_end_is_counted_and_holds_nothing_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = begun(directory.path());
        fs::remove_file(directory.path().join(beginning().name.part_file_name())).unwrap();
        writer.store(Chunk {
            ends: Some(Reason::Time),
            ..Chunk::default()
        });
        assert_eq!(
            (writer.tally.disk_dropped.get(), writer.tally.segments.get()),
            (1, 0)
        );
    }

    #[test]
    fn refused_packets_are_dropped_and_counted_at_the_end() {
        let parent = tempfile::tempdir().unwrap();
        // A directory cannot be created inside a file.
        let in_the_way = parent.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let writer = writer(&in_the_way.join("segments"));
        let (ring, tally) = (Arc::clone(&writer.ring), Arc::clone(&writer.tally));
        assert!(ring.push(&mut Chunk {
            begins: Some(beginning()),
            ..chunk(b"one")
        }));
        ring.close(Chunk {
            ends: Some(Reason::End),
            ..chunk(b"two")
        });
        writer.run();
        assert_eq!((tally.disk_dropped.get(), tally.written.get()), (2, 0));
    }
}
