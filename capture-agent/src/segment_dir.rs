//! The output directory: checks it, lists it, repairs part files after a crash, deletes segments.
//!
//! The agent touches only its own files. It leaves alone other names, other instances and, when it
//! deletes, segments of other interfaces, which may belong to another agent.
#![allow(clippy::disallowed_methods, reason = "a door: the output directory")]

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail};
use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, Gid, Uid, access},
};
use shared::{
    files, index,
    pcap::{Layout, MAX_FRAME_LEN, RECORD_HEADER_LEN, Step},
    segment::{SegmentFile, SegmentName, instance_label, interface_label},
};

use crate::{
    retention::{Closed, Stock},
    ring::HEADER_BYTES,
    writer::{is_at, publish},
};

/// For the agent and its group, which is the extractor's: that may run as another user.
const DIRECTORY_MODE: u32 = 0o750;

/// The mode bit that lets others write.
const WORLD_WRITABLE: u32 = 0o002;

/// How much of a part file is read at once: more than the largest record, so any record fits.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// The output directory, with the instance and the interfaces of this agent.
#[derive(Clone, Debug)]
pub(crate) struct SegmentDir {
    directory: PathBuf,
    /// As the names of segments spell them.
    instance: String,
    interfaces: Vec<String>,
}

/// The result of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repaired {
    /// It is a segment now. The number is the length of the record that was cut off.
    Closed(PathBuf, u64),
    /// It held no packet.
    Removed(PathBuf),
}

impl SegmentDir {
    /// The segments of this instance and these interfaces.
    pub(crate) fn new(directory: &Path, instance: &str, interfaces: &[String]) -> Self {
        let interfaces = interfaces
            .iter()
            .map(|interface| interface_label(interface))
            .collect();
        Self {
            directory: directory.to_owned(),
            instance: instance_label(instance),
            interfaces,
        }
    }

    /// Creates the directory if it is missing, for this user if one is given. Refuses a directory
    /// to which everybody can write.
    pub(crate) fn prepare(&self, owner: Option<(Uid, Gid)>) -> anyhow::Result<()> {
        let directory = self.directory.display();
        let made = fs::DirBuilder::new()
            .mode(DIRECTORY_MODE)
            .create(&self.directory);
        match made {
            Ok(()) => {
                if let Some((user, group)) = owner {
                    chown(&self.directory, Some(user.as_raw()), Some(group.as_raw()))
                        .with_context(|| {
                            format!("cannot give the output directory {directory} to its user")
                        })?;
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot create the output directory {directory}"));
            }
        }
        let metadata = fs::metadata(&self.directory)
            .with_context(|| format!("cannot use the output directory {directory}"))?;
        if !metadata.is_dir() {
            bail!("{directory} is not a directory; name the output directory with --output-dir");
        }
        if metadata.permissions().mode() & WORLD_WRITABLE != 0 {
            bail!(
                "anybody may write to the output directory {directory}; `chmod o-w` it, or name another with --output-dir"
            );
        }
        Ok(())
    }

    /// Fails unless this process, as its present user, may write segments.
    pub(crate) fn check_access(&self) -> anyhow::Result<()> {
        let needed = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
        access(&self.directory, needed).with_context(|| {
            let user = Uid::effective();
            let directory = self.directory.display();
            // A root process that has given up CAP_DAC_OVERRIDE may write only where its user may.
            format!(
                "the output directory {directory} cannot be written to by user {user}; give it to that user (`chown {user} \
                 {directory}`), or, started as root, name its owner with --user"
            )
        })
    }

    /// Returns the newest segment of an interface, closed or not.
    pub(crate) fn newest(&self, interface: &str) -> io::Result<Option<SegmentName>> {
        let interface = interface_label(interface);
        let names = self.files()?.into_iter().filter_map(|file| match file {
            SegmentFile::Part(name) | SegmentFile::Closed(name) => Some(name),
            SegmentFile::Drops(_) | SegmentFile::Processed(_) => None,
        });
        Ok(names
            .filter(|name| name.instance() == self.instance && name.interface() == interface)
            .max())
    }

    /// Returns the part files of this instance, in order. Before this run begins a segment, these
    /// are from crashes or from other agents.
    pub(crate) fn parts(&self) -> io::Result<Vec<SegmentName>> {
        let part = |file| {
            if let SegmentFile::Part(name) = file {
                Some(name)
            } else {
                None
            }
        };
        let mut parts: Vec<SegmentName> = self.files()?.into_iter().filter_map(part).collect();
        parts.retain(|name| name.instance() == self.instance);
        parts.sort();
        Ok(parts)
    }

    /// Closes a part file that a crash has left: cuts it after its last whole record. Returns
    /// `None`, and leaves the file alone, if another agent writes it.
    pub(crate) fn repair(&self, name: &SegmentName) -> io::Result<Option<Repaired>> {
        let path = self.directory.join(name.part_file_name());
        let in_file = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot repair {}: {error}", path.display()),
            )
        };
        let part = match files::open(OpenOptions::new().read(true).write(true), &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(in_file)?,
        };
        // Another agent may have closed or removed it before this lock: then there is nothing to
        // repair.
        if matches!(part.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&part, &path) {
            return Ok(None);
        }
        let len = part.metadata().map_err(in_file)?.len();
        let whole_len = whole_records(&part, len).map_err(in_file)?;
        let drops = self.directory.join(name.drops_file_name());
        files::remove_leftovers(&drops).map_err(in_file)?;
        // The agent that died between the two renames has written the drops of the whole segment.
        if whole_len < len || whole_len == 0 {
            remove(&drops).map_err(in_file)?;
        }
        if whole_len == 0 {
            fs::remove_file(&path).map_err(in_file)?;
            return Ok(Some(Repaired::Removed(path)));
        }
        if whole_len < len {
            part.set_len(whole_len).map_err(in_file)?;
        }
        part.sync_all().map_err(in_file)?;
        let path = publish(&self.directory, name)?;
        Ok(Some(Repaired::Closed(path, len.saturating_sub(whole_len))))
    }

    /// Returns the segments of this agent and the free room.
    pub(crate) fn stock(&self) -> io::Result<Stock> {
        let files = self.files()?;
        let mark = |file: &SegmentFile| {
            if let SegmentFile::Processed(name) = file {
                Some(name.clone())
            } else {
                None
            }
        };
        let processed: HashSet<SegmentName> = files.iter().filter_map(mark).collect();
        let mut stock = Stock {
            free_bytes: self.free_bytes().ok(),
            ..Stock::default()
        };
        let now = SystemTime::now();
        for file in files.iter().filter(|file| self.is_own(file)) {
            // The extractor may move or delete a file in between.
            match file {
                SegmentFile::Closed(name) => {
                    if let Ok(metadata) = fs::metadata(self.directory.join(name.to_string())) {
                        let age = metadata
                            .modified()
                            .ok()
                            .and_then(|closed| now.duration_since(closed).ok())
                            .unwrap_or_default();
                        let (name, bytes) = (name.clone(), metadata.len());
                        stock.closed.push(Closed {
                            is_processed: processed.contains(&name),
                            name,
                            bytes,
                            age,
                        });
                    }
                }
                SegmentFile::Part(name) => {
                    let bytes = fs::metadata(self.directory.join(name.part_file_name()))
                        .map_or(0, |metadata| metadata.len());
                    stock.part_bytes = stock.part_bytes.saturating_add(bytes);
                }
                SegmentFile::Drops(_) | SegmentFile::Processed(_) => {}
            }
        }
        Ok(stock)
    }

    /// Deletes a closed segment, the files of its drops and its index before it, and its mark after
    /// it.
    pub(crate) fn delete(&self, name: &SegmentName) -> io::Result<()> {
        let path = self.directory.join(name.to_string());
        let in_file = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot delete {}: {error}", path.display()),
            )
        };
        let drops = self.directory.join(name.drops_file_name());
        let mark = self.directory.join(name.processed_file_name());
        let indexes = index::names(name.to_string().as_ref());
        let [index, positions] = indexes.map(|name| self.directory.join(name));
        // The extractor may have deleted them first.
        [&drops, &index, &positions, &path, &mark]
            .into_iter()
            .try_for_each(|path| remove(path).map_err(in_file))
    }

    /// Returns the bytes of the file system that this process may still use.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.directory)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    fn is_own(&self, file: &SegmentFile) -> bool {
        let (SegmentFile::Part(name)
        | SegmentFile::Closed(name)
        | SegmentFile::Drops(name)
        | SegmentFile::Processed(name)) = file;
        name.instance() == self.instance
            && self
                .interfaces
                .iter()
                .any(|interface| interface == name.interface())
    }

    /// Lists the segment files in the directory, of any agent.
    fn files(&self) -> io::Result<Vec<SegmentFile>> {
        let in_directory = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot read the output directory {}: {error}",
                    self.directory.display()
                ),
            )
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(in_directory)? {
            let name = entry.map_err(in_directory)?.file_name();
            files.extend(name.to_str().and_then(SegmentFile::named));
        }
        Ok(files)
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the length of a capture up to the end of its last whole record; 0 if it has none.
///
/// Damage between records stays in the file: readers skip it.
fn whole_records(file: &File, len: u64) -> io::Result<u64> {
    let mut window = read_window(file, 0, len)?;
    let Ok((layout, mut offset)) = Layout::detect(&window) else {
        if len <= HEADER_BYTES || is_blank(file, len)? {
            return Ok(0);
        }
        let what_to_do = "its file header is damaged; write the first 24 bytes of a good segment over it, and start again";
        return Err(io::Error::new(ErrorKind::InvalidData, what_to_do));
    };
    let mut window_start = 0;
    let mut whole_len = 0;
    loop {
        let is_last_window = at(window_start, window.len()) >= len;
        // A record at the end of the window may be cut: it is left for the next window.
        let safe_len = if is_last_window {
            window.len()
        } else {
            window.len().saturating_sub(LARGEST_RECORD)
        };
        let mut walk = layout.walk(&window, offset);
        while walk.offset() < safe_len
            && let Some(step) = walk.next_step()
        {
            if let Step::Record(_) = step {
                whole_len = at(window_start, walk.offset());
            }
        }
        if is_last_window {
            return Ok(whole_len);
        }
        window_start = at(window_start, walk.offset());
        offset = 0;
        window = read_window(file, window_start, len)?;
    }
}

/// True if the file holds only zeros: its length was durable, its content was not.
fn is_blank(file: &File, len: u64) -> io::Result<bool> {
    let mut start = 0;
    while start < len {
        let window = read_window(file, start, len)?;
        if window.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        start = at(start, window.len());
    }
    Ok(true)
}

const LARGEST_RECORD: usize = RECORD_HEADER_LEN + MAX_FRAME_LEN as usize;

fn at(window_start: u64, offset: usize) -> u64 {
    window_start.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
}

fn read_window(file: &File, start: u64, len: u64) -> io::Result<Vec<u8>> {
    let rest = usize::try_from(len.saturating_sub(start)).unwrap_or(usize::MAX);
    let mut window = vec![0; rest.min(WINDOW_BYTES)];
    file.read_exact_at(&mut window, start)?;
    Ok(window)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use shared::pcap::{DEFAULT_SNAPLEN, LinkType, Precision, file_header, record_header};
    use tempfile::TempDir;

    use super::*;

    const START_US: u64 = 1_700_000_000_000_000;

    fn segment_dir(directory: &TempDir) -> SegmentDir {
        SegmentDir::new(directory.path(), "edge1", &["eth0".to_owned()])
    }

    fn name(interface: &str, second: u64) -> SegmentName {
        SegmentName::new("edge1", interface, START_US + second * 1_000_000, 1)
    }

    fn capture(records: usize, record_len: usize) -> Vec<u8> {
        capture_since(START_US * 1000, records, record_len)
    }

    fn capture_since(start_ns: u64, records: usize, record_len: usize) -> Vec<u8> {
        let mut file = file_header(LinkType::ETHERNET, Precision::Micro, DEFAULT_SNAPLEN).to_vec();
        for number in 0..records {
            let len = record_len as u32;
            file.extend(record_header(
                start_ns + number as u64 * 1000,
                Precision::Micro,
                len,
                len,
            ));
            file.extend(vec![number as u8; record_len]);
        }
        file
    }

    fn write(directory: &TempDir, name: &str, content: &[u8]) -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn names_in(directory: &TempDir) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn outcomes(directory: &TempDir) -> Vec<io::Result<Repaired>> {
        let segment_dir = segment_dir(directory);
        segment_dir
            .parts()
            .unwrap()
            .iter()
            .filter_map(|name| segment_dir.repair(name).transpose())
            .collect()
    }

    fn repaired(directory: &TempDir) -> Vec<Repaired> {
        outcomes(directory)
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn an_irreparable_part_file_is_left_and_delays_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let mut damaged = capture(5, 1000);
        damaged[..4].fill(0);
        for second in 0..5 {
            let content = if second == 2 {
                &damaged
            } else {
                &capture(2, 30)
            };
            write(&directory, &name("eth0", second).part_file_name(), content);
        }
        write(&directory, &name("eth0", 9).part_file_name(), &[0; 9000]);
        let (good, bad): (Vec<_>, Vec<_>) =
            outcomes(&directory).into_iter().partition(Result::is_ok);
        assert_eq!((good.len(), bad.len()), (5, 1));
        let part = name("eth0", 2).part_file_name();
        let error = bad[0].as_ref().unwrap_err().to_string();
        assert!(
            error.contains(&part) && error.contains("file header"),
            "{error}"
        );
        assert_eq!(fs::read(directory.path().join(part)).unwrap(), damaged);
        assert_eq!(names_in(&directory).len(), 5);
    }

    fn whole_len(content: &[u8]) -> u64 {
        let directory = tempfile::tempdir().unwrap();
        let path = write(&directory, "file", content);
        whole_records(&File::open(path).unwrap(), content.len() as u64).unwrap()
    }

    #[test]
    fn a_part_file_is_cut_after_its_last_whole_record_wherever_it_ends() {
        let file = capture(4, 30);
        for end in 0..=file.len() {
            let records = end.saturating_sub(24) / 46;
            let want = if records == 0 { 0 } else { 24 + records * 46 };
            assert_eq!(whole_len(&file[..end]), want as u64, "{end}");
        }
    }

    #[test]
    fn long_files_are_read_in_windows() {
        let file = capture(100, 250_000);
        assert_eq!(whole_len(&file), file.len() as u64);
        assert_eq!(
            whole_len(&file[..file.len() - 1]),
            (24 + 99 * 250_016) as u64
        );
        let small = capture(200_000, 40);
        assert_eq!(
            whole_len(&small[..small.len() - 55]),
            small.len() as u64 - 56
        );
    }

    #[test]
    fn blocks_that_were_never_written_are_cut_off() {
        let mut file = capture(10, 1000);
        let len = file.len();
        file.extend(vec![0; 10_000_000]);
        assert_eq!(whole_len(&file), len as u64);
    }

    /// A machine without a battery for its clock begins in 1970.
    #[test]
    fn a_clock_that_was_not_set_costs_nothing() {
        for start_ns in [0, 7_000_000_000] {
            let file = capture_since(start_ns, 200_000, 40);
            assert_eq!(whole_len(&file), file.len() as u64);
            assert_eq!(whole_len(&file[..file.len() - 55]), file.len() as u64 - 56);
            let blocks = [&file[..], &[0; 5_000_000]].concat();
            assert_eq!(whole_len(&blocks), file.len() as u64);
        }
    }

    #[test]
    fn records_behind_damage_are_kept() {
        let mut file = capture(100, 1000);
        file[3000..5000].fill(0);
        assert_eq!(whole_len(&file), file.len() as u64);
    }

    #[test]
    fn a_part_file_of_a_crash_becomes_a_segment() {
        let directory = tempfile::tempdir().unwrap();
        let (cut, empty, other) = (
            name("eth0", 1),
            name("eth1", 2),
            SegmentName::new("edge2", "eth0", START_US, 1),
        );
        write(
            &directory,
            &cut.part_file_name(),
            &capture(3, 30)[..24 + 2 * 46 + 20],
        );
        write(&directory, &empty.part_file_name(), &capture(0, 0));
        write(&directory, &other.part_file_name(), &capture(3, 30));
        let [closed, removed] =
            [cut.to_string(), empty.part_file_name()].map(|name| directory.path().join(name));
        assert_eq!(
            repaired(&directory),
            [Repaired::Closed(closed, 20), Repaired::Removed(removed)],
            "in capture order"
        );
        assert_eq!(
            names_in(&directory),
            [other.part_file_name(), cut.to_string()]
        );
        assert_eq!(
            fs::read(directory.path().join(cut.to_string())).unwrap(),
            capture(2, 30)
        );
        assert_eq!(repaired(&directory), []);
    }

    #[test]
    fn the_drops_of_a_whole_segment_stay_and_those_of_another_go() {
        for (cut, drops_stay) in [(0, true), (20, false)] {
            let directory = tempfile::tempdir().unwrap();
            let name = name("eth0", 1);
            let file = capture(3, 30);
            write(
                &directory,
                &name.part_file_name(),
                &file[..file.len() - cut],
            );
            let drops = name.drops_file_name();
            write(&directory, &drops, b"{}");
            write(&directory, &format!("{drops}.a1B2c3D4.part"), b"{");
            repaired(&directory);
            let mut left = vec![name.to_string()];
            left.splice(0..0, drops_stay.then_some(drops));
            assert_eq!(names_in(&directory), left);
        }
    }

    #[test]
    fn a_part_file_without_packets_goes_with_its_drops() {
        let directory = tempfile::tempdir().unwrap();
        let name = name("eth0", 1);
        write(&directory, &name.part_file_name(), &capture(0, 0));
        write(&directory, &name.drops_file_name(), b"{}");
        repaired(&directory);
        assert_eq!(names_in(&directory), [""; 0]);
    }

    #[test]
    fn the_part_file_of_another_agent_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(
            &directory,
            &name("eth0", 1).part_file_name(),
            &capture(3, 30),
        );
        let writing = File::open(path).unwrap();
        writing.lock().unwrap();
        assert_eq!(repaired(&directory), []);
        drop(writing);
        assert_eq!(repaired(&directory).len(), 1);
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let precious = write(&directory, "precious", b"precious");
        symlink(
            &precious,
            directory.path().join(name("eth0", 1).part_file_name()),
        )
        .unwrap();
        assert!(outcomes(&directory)[0].is_err());
        assert_eq!(fs::read(precious).unwrap(), b"precious");
    }

    #[test]
    fn a_directory_that_anybody_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let segment_dir = segment_dir(&directory);
        for (mode, is_fine) in [
            (0o750, true),
            (0o2770, true),
            (0o777, false),
            (0o1777, false),
        ] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            let outcome = segment_dir.prepare(None);
            assert_eq!(outcome.is_ok(), is_fine, "{mode:o}: {outcome:?}");
            assert!(is_fine || outcome.unwrap_err().to_string().contains("chmod o-w"));
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_made_for_its_group() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("segments");
        let segment_dir = SegmentDir::new(&directory, "edge1", &[]);
        segment_dir.prepare(None).unwrap();
        segment_dir.check_access().unwrap();
        assert_eq!(
            fs::metadata(&directory).unwrap().permissions().mode() & 0o777 & !DIRECTORY_MODE,
            0
        );
        fs::write(directory.join("file"), "").unwrap();
        let none = SegmentDir::new(&directory.join("file"), "edge1", &[]);
        assert!(
            none.prepare(None)
                .unwrap_err()
                .to_string()
                .contains("--output-dir")
        );
    }

    #[test]
    fn only_its_own_segments_are_in_the_stock() {
        let directory = tempfile::tempdir().unwrap();
        let [processed, open] = [name("eth0", 1), name("eth0", 2)];
        for (file_name, bytes) in [
            (processed.to_string(), 100),
            (processed.processed_file_name(), 0),
            (processed.drops_file_name(), 0),
            (format!("{processed}.idx"), 7),
            (format!("{processed}.pos"), 7),
            (open.part_file_name(), 50),
            (name("eth0", 3).to_string(), 10),
            (name("eth1", 1).to_string(), 1000),
            (
                SegmentName::new("edge2", "eth0", START_US, 1).to_string(),
                1000,
            ),
            ("calls.pcap".to_owned(), 1000),
        ] {
            write(&directory, &file_name, &vec![0; bytes]);
        }
        let mut stock = segment_dir(&directory).stock().unwrap();
        stock.closed.sort_by(|a, b| a.name.cmp(&b.name));
        let closed: Vec<_> = stock
            .closed
            .iter()
            .map(|closed| (closed.name.clone(), closed.bytes, closed.is_processed))
            .collect();
        assert_eq!(
            closed,
            [(processed.clone(), 100, true), (name("eth0", 3), 10, false)]
        );
        assert!(
            stock
                .closed
                .iter()
                .all(|closed| closed.age < Duration::from_secs(60))
        );
        assert_eq!(stock.part_bytes, 50);
        assert!(stock.free_bytes.unwrap() > 0);
        let segment_dir = segment_dir(&directory);
        segment_dir.delete(&processed).unwrap();
        segment_dir.delete(&processed).unwrap();
        assert_eq!(
            names_in(&directory).len(),
            5,
            "the segment, its index and its mark"
        );
        assert_eq!(segment_dir.newest("eth0").unwrap(), Some(name("eth0", 3)));
        assert_eq!(segment_dir.newest("eth2").unwrap(), None);
    }
}
