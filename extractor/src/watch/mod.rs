//! Waits for segments, and reports to the service manager meanwhile.
//!
//! Events of the file system make it fast. It also looks every few seconds, because events can be
//! lost, and some file systems have none.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: signals, watches on directories, the clock that ends a wait"
)]

mod events;
mod heartbeat;
mod silence;
mod watchdog;

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher, recommended_watcher};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use self::events::{Asked, Bell, Ear};
pub(crate) use self::watchdog::Watchdog;
pub use self::{
    heartbeat::{Beat, Heartbeat},
    silence::Silence,
};

/// The interval of looks without events.
const RESCAN: Duration = Duration::from_secs(3);

/// The interval of looks if a directory has no events, or does not exist.
const RESCAN_UNWATCHED: Duration = Duration::from_millis(500);

/// The pause after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The reason why a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A segment may be new, or may have been written to.
    Look,
    /// No event came: a cheap look is enough ([`crate::segments::Listing::if_changed`]).
    Rescan,
    /// The program must end.
    End,
}

/// Waits for segments.
#[derive(Debug)]
pub struct Watch {
    bell: Arc<Bell>,
    watcher: Option<RecommendedWatcher>,
    directories: Vec<WatchedDirectory>,
    watchdog: Watchdog,
    rescan: Duration,
}

/// A directory that is watched, if possible.
#[derive(Debug)]
struct WatchedDirectory {
    path: PathBuf,
    /// The device and the inode of the directory when the watch was set up.
    watched: Option<(u64, u64)>,
    /// True when the log has said that it cannot be watched.
    is_reported: bool,
}

impl Watch {
    /// Watches directories, which need not exist. From now on, signals do not end the process:
    /// SIGTERM and SIGINT ask for its end, SIGHUP asks for a look.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn begin(directories: &[PathBuf]) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let watch = Self::on(directories)?;
        let bell = Arc::clone(&watch.bell);
        let listen = move || signals.forever().for_each(|signal| bell.heed(signal));
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(listen)?;
        Ok(watch)
    }

    /// The same without signals.
    fn on(directories: &[PathBuf]) -> io::Result<Self> {
        let directory = |path: &PathBuf| {
            Ok(WatchedDirectory {
                path: path::absolute(path)?,
                watched: None,
                is_reported: false,
            })
        };
        let directories = directories
            .iter()
            .map(directory)
            .collect::<io::Result<_>>()?;
        let watchdog = Watchdog::of_process();
        let mut watch = Self {
            bell: Arc::default(),
            watcher: None,
            directories,
            watchdog,
            rescan: RESCAN,
        };
        watch.tend();
        Ok(watch)
    }

    /// Waits until there may be a new segment. Events after the wait end the next one.
    pub fn wait(&mut self) -> Wake {
        let is_blind = self
            .directories
            .iter()
            .any(|directory| directory.watched.is_none());
        let patience = if is_blind {
            RESCAN_UNWATCHED.min(self.rescan)
        } else {
            self.rescan
        };
        self.listen(patience, Asked::is_anything);
        let asked = self.bell.take();
        if asked.end {
            return Wake::End;
        }
        if asked.watch_again {
            self.directories
                .iter_mut()
                .for_each(|directory| directory.watched = None);
        }
        let is_renewed = self.tend();
        if is_renewed || asked.is_anything() {
            Wake::Look
        } else {
            Wake::Rescan
        }
    }

    /// Waits before another attempt after a failure: some seconds, whatever happens to files, or
    /// until SIGHUP.
    pub fn sleep_until_retry(&mut self) -> Wake {
        self.listen(RETRY_AFTER, |asked| asked.end || asked.now);
        self.bell.lock().now = false;
        if self.is_ending() {
            Wake::End
        } else {
            Wake::Look
        }
    }

    /// True when the program must end. Long work asks whenever it can stop.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.bell.lock().end
    }

    /// Reports to the service manager if it is time to, during long work. Waiting does so itself.
    pub fn alive(&mut self) {
        self.watchdog.tell(Instant::now());
    }

    /// Waits until an action `is_enough`, at most for `patience`.
    fn listen(&mut self, patience: Duration, is_enough: fn(&Asked) -> bool) {
        let begun = Instant::now();
        loop {
            self.alive();
            let left = patience.saturating_sub(begun.elapsed());
            let nap = self.watchdog.every.map_or(left, |every| every.min(left));
            if self.bell.wait(nap, is_enough) || nap == left {
                return;
            }
        }
    }

    /// Watches the directories that can be watched and are not. Returns true if there were some.
    fn tend(&mut self) -> bool {
        let (watcher, bell) = (&mut self.watcher, &self.bell);
        let directories: Vec<PathBuf> = self
            .directories
            .iter()
            .map(|directory| directory.path.clone())
            .collect();
        let mut is_renewed = false;
        for directory in &mut self.directories {
            let before = directory.watched;
            let outcome = number_of(&directory.path).and_then(|number| {
                if before != Some(number) {
                    watch_anew(watcher, &directory.path, || {
                        Ear::new(Arc::clone(bell), directories.clone())
                    })?;
                }
                Ok(number)
            });
            directory.watched = outcome.as_ref().ok().copied();
            is_renewed |= directory.watched.is_some() && directory.watched != before;
            directory.report(outcome.err().as_ref());
        }
        is_renewed
    }
}

impl WatchedDirectory {
    /// Logs a change: the directory cannot be watched, or can be again.
    fn report(&mut self, error: Option<&io::Error>) {
        let path = self.path.display();
        match error {
            Some(error) if !self.is_reported => {
                tracing::warn!("{path} cannot be watched; until it can be, it is polled: {error}");
            }
            None if self.is_reported => tracing::info!("{path} is watched now"),
            _ => {}
        }
        self.is_reported = error.is_some();
    }
}

/// The device and the inode, which distinguish a directory from a later one with its name.
fn number_of(directory: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(directory)?;
    if metadata.is_dir() {
        Ok((metadata.dev(), metadata.ino()))
    } else {
        Err(ErrorKind::NotADirectory.into())
    }
}

fn watch_anew(
    watcher: &mut Option<RecommendedWatcher>,
    path: &Path,
    ear: impl FnOnce() -> Ear,
) -> io::Result<()> {
    let in_notify = |error: notify::Error| io::Error::other(error);
    if watcher.is_none() {
        *watcher = Some(recommended_watcher(ear()).map_err(in_notify)?);
    }
    let Some(watcher) = watcher else {
        return Ok(());
    };
    // If an earlier directory of this name is still watched, its watch would stay. Usually there is
    // none.
    let _ = watcher.unwatch(path);
    watcher
        .watch(path, RecursiveMode::NonRecursive)
        .map_err(in_notify)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::list;
    use notify::{Event, EventHandler, EventKind, event::Flag};
    use std::{
        env,
        fs::{File, OpenOptions},
        io::Write,
        os::unix::net::UnixDatagram,
        process::Command,
    };
    use tempfile::{TempDir, tempdir};

    /// Long enough for an event to come, and short enough to wait until none has come.
    const SHORT: Duration = Duration::from_millis(300);
    /// A wait that ends earlier was ended by an event.
    const LONG: Duration = Duration::from_secs(60);

    fn watch(path: &Path, rescan: Duration) -> Watch {
        let mut watch = Watch::on(&[path.to_owned()]).unwrap();
        watch.rescan = rescan;
        watch
    }

    fn watched() -> (TempDir, Watch) {
        let directory = tempdir().unwrap();
        let watch = watch(directory.path(), LONG);
        (directory, watch)
    }

    /// Asserts that an event ended the wait at once.
    fn assert_told(watch: &mut Watch) {
        let begun = Instant::now();
        assert_eq!(watch.wait(), Wake::Look);
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
    }

    /// Waits until all pending events have come.
    fn settle(watch: &mut Watch) {
        watch.rescan = SHORT;
        while watch.wait() == Wake::Look {}
        watch.rescan = LONG;
    }

    #[test]
    fn a_segment_that_gets_its_name_is_told() {
        let (directory, mut watch) = watched();
        let part = directory.path().join(".a.pcap.part");
        fs::write(&part, "bytes").unwrap();
        settle(&mut watch);
        fs::rename(&part, directory.path().join("a.pcap")).unwrap();
        assert_told(&mut watch);
    }

    #[test]
    fn one_that_is_brought_from_elsewhere_is_told() {
        let (directory, mut watch) = watched();
        let elsewhere = tempfile::tempdir_in(directory.path().parent().unwrap()).unwrap();
        let path = elsewhere.path().join("a.pcap.gz");
        fs::write(&path, "bytes").unwrap();
        fs::hard_link(&path, directory.path().join("a.pcap.gz")).unwrap();
        assert_told(&mut watch);
        settle(&mut watch);
        fs::rename(&path, directory.path().join("b.pcap.gz")).unwrap();
        assert_told(&mut watch);
    }

    #[test]
    fn one_that_was_written_to_is_told_when_it_is_closed() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("a.pcapng");
        fs::write(&path, "bytes").unwrap();
        let mut watch = watch(directory.path(), SHORT);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"more").unwrap();
        assert_eq!(watch.wait(), Wake::Rescan);
        drop(file);
        assert_told(&mut watch);
    }

    #[test]
    fn what_is_hidden_or_no_capture_wakes_nobody() {
        let directory = tempdir().unwrap();
        let mut watch = watch(directory.path(), SHORT);
        let mut part = File::create(directory.path().join(".a.pcap.part")).unwrap();
        for _ in 0..1000 {
            part.write_all(b"bytes").unwrap();
        }
        drop(part);
        fs::rename(
            directory.path().join(".a.pcap.part"),
            directory.path().join(".b.pcap.part"),
        )
        .unwrap();
        fs::write(directory.path().join("a.pcap.part"), "").unwrap();
        fs::write(directory.path().join(".a.pcap.processed"), "").unwrap();
        fs::create_dir(directory.path().join("folder.pcap")).unwrap();
        File::open(directory.path()).unwrap();
        list(directory.path(), |_, _| {}).unwrap();
        assert_eq!(watch.wait(), Wake::Rescan);
    }

    #[test]
    fn what_comes_between_two_waits_is_not_lost_and_told_once() {
        let (directory, mut watch) = watched();
        for number in 0..100 {
            fs::write(directory.path().join(format!("{number}.pcap")), "").unwrap();
        }
        assert_told(&mut watch);
        settle(&mut watch);
        watch.rescan = SHORT;
        assert_eq!(watch.wait(), Wake::Rescan);
    }

    #[test]
    fn ten_thousand_segments_are_all_seen() {
        let (directory, mut watch) = watched();
        let path = directory.path().to_owned();
        let writer = thread::spawn(move || {
            for number in 0..10_000 {
                fs::write(path.join(".new"), "").unwrap();
                fs::rename(path.join(".new"), path.join(format!("{number}.pcap"))).unwrap();
            }
        });
        let begun = Instant::now();
        while list(directory.path(), |_, _| {}).unwrap().len() < 10_000 {
            assert_eq!(watch.wait(), Wake::Look);
        }
        assert!(begun.elapsed() < LONG);
        writer.join().unwrap();
    }

    #[test]
    fn a_directory_that_is_removed_and_made_again_is_watched_again() {
        let parent = tempdir().unwrap();
        let directory = parent.path().join("in");
        fs::create_dir(&directory).unwrap();
        let mut watch = watch(&directory, LONG);
        for round in 0..3 {
            fs::remove_dir_all(&directory).unwrap();
            assert_told(&mut watch);
            assert!(
                watch.directories[0].watched.is_none() && watch.directories[0].is_reported,
                "{round}"
            );
            let begun = Instant::now();
            assert_eq!(watch.wait(), Wake::Rescan);
            assert!(begun.elapsed() >= RESCAN_UNWATCHED, "it spins");
            fs::create_dir(&directory).unwrap();
            assert_told(&mut watch);
            assert!(
                watch.directories[0].watched.is_some() && !watch.directories[0].is_reported,
                "{round}"
            );
            fs::write(directory.join(".hidden.pcap"), "").unwrap();
            settle(&mut watch);
            fs::write(directory.join("a.pcap"), "").unwrap();
            assert_told(&mut watch);
            settle(&mut watch);
        }
    }

    #[test]
    fn one_that_is_made_again_at_once_is_watched_though_it_may_have_the_same_number() {
        let parent = tempdir().unwrap();
        let directory = parent.path().join("in");
        fs::create_dir(&directory).unwrap();
        let mut watch = watch(&directory, LONG);
        for name in ["a.pcap", "b.pcap"] {
            fs::remove_dir_all(&directory).unwrap();
            fs::create_dir(&directory).unwrap();
            assert_told(&mut watch);
            settle(&mut watch);
            fs::write(directory.join(name), "").unwrap();
            assert_told(&mut watch);
            settle(&mut watch);
        }
    }

    #[test]
    fn one_that_takes_the_place_of_another_is_watched_and_the_other_is_not() {
        let parent = tempdir().unwrap();
        let [directory, away] = ["in", "away"].map(|name| parent.path().join(name));
        fs::create_dir(&directory).unwrap();
        let mut watch = watch(&directory, LONG);
        fs::rename(&directory, &away).unwrap();
        fs::create_dir(&directory).unwrap();
        assert_told(&mut watch);
        settle(&mut watch);
        fs::write(directory.join("a.pcap"), "").unwrap();
        assert_told(&mut watch);
        settle(&mut watch);
        watch.rescan = SHORT;
        fs::write(away.join("b.pcap"), "").unwrap();
        assert_eq!(watch.wait(), Wake::Rescan);
    }

    #[test]
    fn one_whose_parent_is_replaced_is_found_by_looking() {
        let parent = tempdir().unwrap();
        let [outer, away] = ["outer", "away"].map(|name| parent.path().join(name));
        fs::create_dir_all(outer.join("in")).unwrap();
        let mut watch = watch(&outer.join("in"), SHORT);
        fs::rename(&outer, &away).unwrap();
        fs::create_dir_all(outer.join("in")).unwrap();
        assert_eq!(watch.wait(), Wake::Look);
        fs::write(outer.join("in/a.pcap"), "").unwrap();
        assert_told(&mut watch);
    }

    #[test]
    fn directories_that_are_not_there_yet_are_waited_for() {
        let parent = tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| parent.path().join(name));
        fs::create_dir(&here).unwrap();
        let mut watch = Watch::on(&[here.clone(), there.clone()]).unwrap();
        assert_eq!(watch.wait(), Wake::Rescan);
        fs::write(here.join("a.pcap"), "").unwrap();
        assert_told(&mut watch);
        fs::create_dir(&there).unwrap();
        fs::write(there.join("a.pcap"), "").unwrap();
        assert_told(&mut watch);
        watch.rescan = LONG;
        settle(&mut watch);
        fs::write(there.join("b.pcap"), "").unwrap();
        assert_told(&mut watch);
    }

    #[test]
    fn a_file_is_no_directory_to_watch() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        let watch = watch(&path, LONG);
        assert!(watch.directories[0].watched.is_none() && watch.directories[0].is_reported);
    }

    #[test]
    fn events_that_were_lost_are_a_reason_to_look_and_to_watch_again() {
        let (directory, mut watch) = watched();
        let mut ear = Ear::new(Arc::clone(&watch.bell), vec![directory.path().to_owned()]);
        let lost = || Event::new(EventKind::Other).set_flag(Flag::Rescan);
        for event in [Ok(lost()), Err(notify::Error::generic("a read has failed"))] {
            ear.handle_event(event);
            assert!(watch.bell.lock().watch_again);
            assert_told(&mut watch);
            fs::write(directory.path().join("a.pcap"), "").unwrap();
            assert_told(&mut watch);
            settle(&mut watch);
        }
    }

    #[test]
    fn before_a_retry_only_people_are_heard() {
        let (directory, mut watch) = watched();
        let bell = Arc::clone(&watch.bell);
        let path = directory.path().join("a.pcap");
        fs::write(&path, "").unwrap();
        bell.wait(LONG, |asked| asked.look);
        let caller = thread::spawn(move || {
            bell.wait(SHORT, |asked| asked.now);
            bell.heed(SIGHUP);
        });
        let begun = Instant::now();
        assert_eq!(watch.sleep_until_retry(), Wake::Look);
        assert!(
            (SHORT..RETRY_AFTER).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        caller.join().unwrap();
        assert!(!watch.bell.lock().now && watch.bell.lock().look);
        assert_told(&mut watch);
        watch.bell.heed(SIGTERM);
        assert!(watch.is_ending());
        assert_eq!(
            [watch.sleep_until_retry(), watch.wait(), watch.wait()],
            [Wake::End; 3]
        );
    }

    /// Signals concern a whole process, so this test runs itself again in a process of its own,
    /// with this variable.
    const IN_CHILD: &str = "WATCH_IN_CHILD";

    #[test]
    fn signals_and_the_service_manager() {
        if let Some(directory) = env::var_os(IN_CHILD) {
            return under_a_service_manager(&PathBuf::from(directory));
        }
        let directory = tempdir().unwrap();
        let socket_path = directory.path().join("socket");
        let socket = UnixDatagram::bind(&socket_path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let mut child = Command::new(env::current_exe().unwrap());
        child.args([
            "--exact",
            "watch::tests::signals_and_the_service_manager",
            "--nocapture",
        ]);
        child
            .env(IN_CHILD, directory.path())
            .env("NOTIFY_SOCKET", &socket_path);
        let mut child = child
            .env("WATCHDOG_USEC", "200000")
            .env_remove("WATCHDOG_PID")
            .spawn()
            .unwrap();
        for _ in 0..5 {
            let mut message = [0; 64];
            let len = socket.recv(&mut message).unwrap();
            assert_eq!(&message[..len], b"WATCHDOG=1\n");
        }
        fs::write(directory.path().join("a.pcap"), "").unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn under_a_service_manager(directory: &Path) {
        let raise = |signal| signal_hook::low_level::raise(signal).unwrap();
        let begin = || {
            let mut watch = Watch::begin(&[directory.to_owned()]).unwrap();
            watch.rescan = LONG;
            watch
        };
        let mut watch = begin();
        assert_eq!(watch.wait(), Wake::Look);
        assert!(!watch.is_ending());
        settle(&mut watch);
        raise(SIGHUP);
        assert_told(&mut watch);
        raise(SIGTERM);
        assert_eq!(watch.wait(), Wake::End);
        assert!(watch.is_ending());
        let mut another = begin();
        raise(SIGINT);
        assert_eq!(another.wait(), Wake::End);
    }
}
