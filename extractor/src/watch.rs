//! Waiting for segments, and saying meanwhile that all is well.
//!
//! Events of the file system make it quick; that it looks again every few seconds makes it certain, because events can be
//! lost, and some file systems have none.
#![allow(clippy::disallowed_methods, reason = "a door: signals, events of the file system, the clocks of a service")]

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use notify::{
    Event, EventHandler, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
    recommended_watcher,
};
use shared::service;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::segments::is_capture_name;

/// How often there is a look without an event.
const RESCAN: Duration = Duration::from_secs(3);

/// The same, where a directory has no events, or is not there.
const RESCAN_UNWATCHED: Duration = Duration::from_millis(500);

/// How long what has failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// No service manager is told that all is well more often than that.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(10);

/// How long events are left to gather when somebody writes to a file.
///
/// `notify` asks for an event at each write, also to the part files of an agent. 1,000 writes a second would cost 1.1 % of a
/// processor, 10,000 of them 7 %; when they may gather, it is 0.2 and 0.5 %. Events of one file that are the same and have
/// not been read become one.
const GATHER: Duration = Duration::from_millis(50);

/// Those that have gathered are read without another pause, as long as that takes no longer.
const READ: Duration = Duration::from_millis(1);

/// How often the log says how it goes.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(60);

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be a new segment, or one that was written to.
    Look,
    /// Nobody has said so: a cheap look is enough ([`crate::segments::Listing::if_changed`]).
    Rescan,
    /// The program is to end.
    End,
}

/// Waits for segments.
#[derive(Debug)]
pub struct Watch {
    bell: Arc<Bell>,
    watcher: Option<RecommendedWatcher>,
    places: Vec<Place>,
    watchdog: Watchdog,
    rescan: Duration,
}

/// A directory that is watched, if it can be.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// The device and the number of the directory that it was when the watch was set up.
    watched: Option<(u64, u64)>,
    /// Whether the log has said that it cannot be watched.
    is_reported: bool,
}

impl Watch {
    /// Watches directories, which need not be there. From here on signals do not end the process: SIGTERM and SIGINT
    /// ask for its end, SIGHUP for a look.
    ///
    /// # Errors
    /// Signals cannot be waited for.
    pub fn begin(directories: &[PathBuf]) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let watch = Self::on(directories)?;
        let bell = Arc::clone(&watch.bell);
        let listen = move || signals.forever().for_each(|signal| bell.heed(signal));
        thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
        Ok(watch)
    }

    /// The same without signals.
    fn on(directories: &[PathBuf]) -> io::Result<Self> {
        let place = |path: &PathBuf| Ok(Place { path: path::absolute(path)?, watched: None, is_reported: false });
        let places = directories.iter().map(place).collect::<io::Result<_>>()?;
        let watchdog = Watchdog::of_process();
        let mut watch = Self { bell: Arc::default(), watcher: None, places, watchdog, rescan: RESCAN };
        watch.tend();
        Ok(watch)
    }

    /// Waits until there may be a new segment. Whatever comes after the wait is over ends the next one.
    pub fn wait(&mut self) -> Wake {
        let is_blind = self.places.iter().any(|place| place.watched.is_none());
        let patience = if is_blind { RESCAN_UNWATCHED.min(self.rescan) } else { self.rescan };
        self.listen(patience, Asked::is_anything);
        let asked = self.bell.take();
        if asked.end {
            return Wake::End;
        }
        if asked.watch_again {
            self.places.iter_mut().for_each(|place| place.watched = None);
        }
        let is_renewed = self.tend();
        if is_renewed || asked.is_anything() { Wake::Look } else { Wake::Rescan }
    }

    /// Waits before something that has failed is tried again: some seconds, whatever happens to files, or until SIGHUP.
    pub fn sleep_until_retry(&mut self) -> Wake {
        self.listen(RETRY_AFTER, |asked| asked.end || asked.now);
        self.bell.lock().now = false;
        if self.is_ending() { Wake::End } else { Wake::Look }
    }

    /// Whether the program is to end: what works may ask whenever it could stop.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.bell.lock().end
    }

    /// Says that all is well, if it is time to: for those who work longer than a moment. Waiting says so itself.
    pub fn alive(&mut self) {
        self.watchdog.tell(Instant::now());
    }

    /// Until something is asked for that is enough, but no longer than that.
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

    /// Watches what can be watched and is not. Tells whether there was such.
    fn tend(&mut self) -> bool {
        let (watcher, bell) = (&mut self.watcher, &self.bell);
        let directories: Vec<PathBuf> = self.places.iter().map(|place| place.path.clone()).collect();
        let mut is_renewed = false;
        for place in &mut self.places {
            let before = place.watched;
            let outcome = number_of(&place.path).and_then(|number| {
                if before != Some(number) {
                    watch_anew(watcher, &place.path, || Ear::new(Arc::clone(bell), directories.clone()))?;
                }
                Ok(number)
            });
            place.watched = outcome.as_ref().ok().copied();
            is_renewed |= place.watched.is_some() && place.watched != before;
            place.report(outcome.err().as_ref());
        }
        is_renewed
    }
}

impl Place {
    /// Says what is new: that it cannot be watched, or can be again.
    fn report(&mut self, error: Option<&io::Error>) {
        let path = self.path.display();
        match error {
            Some(error) if !self.is_reported => {
                tracing::warn!("{path} cannot be watched, it is looked at now and then until it can be: {error}");
            }
            None if self.is_reported => tracing::info!("{path} is watched now"),
            _ => {}
        }
        self.is_reported = error.is_some();
    }
}

/// What tells a directory from another that has its name later.
fn number_of(directory: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(directory)?;
    if metadata.is_dir() { Ok((metadata.dev(), metadata.ino())) } else { Err(ErrorKind::NotADirectory.into()) }
}

fn watch_anew(watcher: &mut Option<RecommendedWatcher>, path: &Path, ear: impl FnOnce() -> Ear) -> io::Result<()> {
    let in_notify = |error: notify::Error| io::Error::other(error);
    if watcher.is_none() {
        *watcher = Some(recommended_watcher(ear()).map_err(in_notify)?);
    }
    let Some(watcher) = watcher else { return Ok(()) };
    // An earlier directory of this name would go on being watched in its stead. Mostly there is none.
    let _ = watcher.unwatch(path);
    watcher.watch(path, RecursiveMode::NonRecursive).map_err(in_notify)
}

/// What has been asked for since the last wait.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    end: bool,
    /// A look at once, by a person.
    now: bool,
    /// A look at a segment.
    look: bool,
    /// A directory is another, or events were lost.
    watch_again: bool,
}

impl Asked {
    fn is_anything(&self) -> bool {
        self.end || self.now || self.look || self.watch_again
    }
}

/// What signals and files ring; however often, it is heard once.
#[derive(Debug, Default)]
struct Bell {
    asked: Mutex<Asked>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self, ask: impl FnOnce(&mut Asked)) {
        ask(&mut self.lock());
        self.rung.notify_all();
    }

    fn heed(&self, signal: i32) {
        self.ring(|asked| if signal == SIGHUP { asked.now = true } else { asked.end = true });
    }

    /// Tells whether enough was asked for.
    fn wait(&self, patience: Duration, is_enough: fn(&Asked) -> bool) -> bool {
        let waited = self.rung.wait_timeout_while(self.lock(), patience, |asked| !is_enough(asked));
        is_enough(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What was asked for, once; an end stays asked for.
    fn take(&self) -> Asked {
        let mut asked = self.lock();
        let taken = *asked;
        *asked = Asked { end: taken.end, ..Asked::default() };
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an event is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    /// Somebody writes to a file, and will do so again.
    Writing,
    Segment,
    WatchAgain,
}

/// Hears the events, on the thread of `notify`.
struct Ear {
    bell: Arc<Bell>,
    directories: Vec<PathBuf>,
    last_pause: Option<Instant>,
}

impl Ear {
    fn new(bell: Arc<Bell>, directories: Vec<PathBuf>) -> Self {
        Self { bell, directories, last_pause: None }
    }

    fn pause(&mut self) {
        if self.last_pause.is_none_or(|last| last.elapsed() > READ) {
            thread::sleep(GATHER);
            self.last_pause = Some(Instant::now());
        }
    }
}

impl EventHandler for Ear {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event.map_or(Meaning::WatchAgain, |event| meaning(&event, &self.directories)) {
            Meaning::Nothing => {}
            Meaning::Writing => self.pause(),
            Meaning::Segment => self.bell.ring(|asked| asked.look = true),
            Meaning::WatchAgain => self.bell.ring(|asked| asked.watch_again = true),
        }
    }
}

fn meaning(event: &Event, directories: &[PathBuf]) -> Meaning {
    // The queue was full: nobody knows what is missing.
    if event.need_rescan() {
        return Meaning::WatchAgain;
    }
    let is_of_capture = || event.paths.iter().filter_map(|path| path.file_name()).any(is_capture_name);
    let is_of_directory = || event.paths.iter().any(|path| directories.contains(path));
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => Meaning::Writing,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        // A link to what is complete elsewhere. (A folder is never a capture.)
        | EventKind::Create(CreateKind::Any | CreateKind::File | CreateKind::Other)
        | EventKind::Modify(ModifyKind::Name(RenameMode::To))
            if is_of_capture() =>
        {
            Meaning::Segment
        }
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) if is_of_directory() => Meaning::WatchAgain,
        _ => Meaning::Nothing,
    }
}

/// Tells the service manager that all is well, when it wants to hear it.
#[derive(Debug)]
pub(crate) struct Watchdog {
    every: Option<Duration>,
    last: Option<Instant>,
}

impl Watchdog {
    /// As the service manager of this process has it.
    pub(crate) fn of_process() -> Self {
        Self::new(service::watchdog())
    }

    fn new(every: Option<Duration>) -> Self {
        Self { every: every.map(|every| every.max(SHORTEST_WATCHDOG)), last: None }
    }

    pub(crate) fn tell(&mut self, now: Instant) {
        if self.is_due(now) {
            service::alive();
        }
    }

    /// If so, it is not due again at once.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.every.is_some_and(|every| self.last.is_none_or(|last| now.saturating_duration_since(last) >= every));
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

/// Which capture points have been silent for too long to be waited for.
#[derive(Clone, Debug)]
pub struct Silence {
    timeout: Duration,
    last: Vec<Instant>,
}

impl Silence {
    /// So many capture points, all of which have time from now on.
    #[must_use]
    pub fn new(points: usize, timeout: Duration, now: Instant) -> Self {
        Self { timeout, last: vec![now; points] }
    }

    /// A capture point has delivered something.
    pub fn delivered(&mut self, point: usize, now: Instant) {
        if let Some(last) = self.last.get_mut(point) {
            *last = now;
        }
    }

    /// Whether a capture point has delivered nothing for longer than the timeout.
    #[must_use]
    pub fn is_silent(&self, point: usize, now: Instant) -> bool {
        self.last.get(point).is_some_and(|last| now.saturating_duration_since(*last) > self.timeout)
    }

    /// All of those.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = usize> {
        (0..self.last.len()).filter(move |point| self.is_silent(*point, now))
    }
}

/// What happened in the last minute, for a line in the log each minute.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    since: Instant,
    segments: u64,
    bytes: u64,
    calls_closed: u64,
    newest_packet_ns: Option<u64>,
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Segments processed since the last one.
    pub segments: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// Calls closed since the last one.
    pub calls_closed: u64,
    /// Calls that are open now.
    pub open_calls: u64,
    /// How long ago the newest packet of all was captured, if there was any.
    pub newest_packet_age: Option<Duration>,
}

impl Heartbeat {
    /// The first line is due a minute from now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, segments: 0, bytes: 0, calls_closed: 0, newest_packet_ns: None }
    }

    /// The first line is due in a minute.
    #[must_use]
    pub fn begin() -> Self {
        Self::new(Instant::now())
    }

    /// So many segments were processed, of so many bytes together.
    pub fn note_segments(&mut self, segments: u64, bytes: u64) {
        self.segments = self.segments.saturating_add(segments);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// So many calls were closed.
    pub fn note_calls_closed(&mut self, calls: u64) {
        self.calls_closed = self.calls_closed.saturating_add(calls);
    }

    /// A packet of this time, in nanoseconds since 1970, was seen.
    pub fn note_packet(&mut self, time_ns: u64) {
        self.newest_packet_ns = self.newest_packet_ns.max(Some(time_ns));
    }

    /// Says in the log how it goes, if it is time to. Gives what was said, for `systemctl status`.
    pub fn beat(&mut self, open_calls: u64) -> Option<Beat> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let beat = self.due(Instant::now(), since_1970, open_calls)?;
        beat.log();
        Some(beat)
    }

    /// What is to be said, if it is time to; then all of it begins anew.
    fn due(&mut self, now: Instant, since_1970: Duration, open_calls: u64) -> Option<Beat> {
        if now.saturating_duration_since(self.since) < HEARTBEAT_EVERY {
            return None;
        }
        let Self { segments, bytes, calls_closed, newest_packet_ns, .. } = *self;
        *self = Self { newest_packet_ns, ..Self::new(now) };
        let newest_packet_age = newest_packet_ns.map(|ns| since_1970.saturating_sub(Duration::from_nanos(ns)));
        Some(Beat { segments, bytes, calls_closed, open_calls, newest_packet_age })
    }
}

impl Beat {
    fn log(&self) {
        let Self { segments, bytes, calls_closed, open_calls, newest_packet_age } = self;
        let newest_packet_age_s = newest_packet_age.map(|age| age.as_secs());
        tracing::info!(segments, bytes, calls_closed, open_calls, newest_packet_age_s, "watching");
    }
}

/// The line that `systemctl status` shows.
impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, bytes, calls_closed, open_calls, newest_packet_age } = self;
        write!(f, "in the last minute {segments} segments, {bytes} bytes, {calls_closed} calls closed; {open_calls} calls open")?;
        match newest_packet_age {
            Some(age) => write!(f, "; the newest packet is {} s old", age.as_secs()),
            None => f.write_str("; no packet yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::list;
    use notify::event::{DataChange, Flag, RemoveKind};
    use std::{
        env,
        fs::{File, OpenOptions},
        io::Write,
        os::unix::net::UnixDatagram,
        process::Command,
    };
    use tempfile::{TempDir, tempdir};

    /// Long enough for an event to come, short enough to wait for that none does.
    const SHORT: Duration = Duration::from_millis(300);
    /// Whatever comes before that was told by an event.
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

    /// An event has told, and at once.
    fn assert_told(watch: &mut Watch) {
        let begun = Instant::now();
        assert_eq!(watch.wait(), Wake::Look);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    /// What is still on its way has come.
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
        fs::rename(directory.path().join(".a.pcap.part"), directory.path().join(".b.pcap.part")).unwrap();
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
            assert!(watch.places[0].watched.is_none() && watch.places[0].is_reported, "{round}");
            let begun = Instant::now();
            assert_eq!(watch.wait(), Wake::Rescan);
            assert!(begun.elapsed() >= RESCAN_UNWATCHED, "it spins");
            fs::create_dir(&directory).unwrap();
            assert_told(&mut watch);
            assert!(watch.places[0].watched.is_some() && !watch.places[0].is_reported, "{round}");
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
        assert!(watch.places[0].watched.is_none() && watch.places[0].is_reported);
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
    fn what_events_mean() {
        let directories = [PathBuf::from("/in")];
        let of = |kind: EventKind, path: &str| meaning(&Event::new(kind).add_path(path.into()), &directories);
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let name = |mode| EventKind::Modify(ModifyKind::Name(mode));
        assert_eq!(of(close, "/in/a.pcap"), Meaning::Segment);
        assert_eq!(of(name(RenameMode::To), "/in/a.pcapng.zst"), Meaning::Segment);
        assert_eq!(of(EventKind::Create(CreateKind::File), "/in/a.pcap"), Meaning::Segment);
        assert_eq!(of(EventKind::Create(CreateKind::Folder), "/in/a.pcap"), Meaning::Nothing);
        for hidden in ["/in/.a.pcap", "/in/.a.pcap.part", "/in/a.pcap.part", "/in/notes"] {
            assert_eq!(of(close, hidden), Meaning::Nothing, "{hidden}");
        }
        assert_eq!(of(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/in/a.pcap"), Meaning::Nothing);
        assert_eq!(of(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "/in/.a.pcap.part"), Meaning::Writing);
        assert_eq!(of(name(RenameMode::From), "/in/a.pcap"), Meaning::Nothing);
        assert_eq!(of(name(RenameMode::From), "/in"), Meaning::WatchAgain);
        assert_eq!(of(EventKind::Remove(RemoveKind::Folder), "/in"), Meaning::WatchAgain);
        assert_eq!(of(EventKind::Remove(RemoveKind::File), "/in/a.pcap"), Meaning::Nothing);
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
        assert!((SHORT..RETRY_AFTER).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        caller.join().unwrap();
        assert!(!watch.bell.lock().now && watch.bell.lock().look);
        assert_told(&mut watch);
        watch.bell.heed(SIGTERM);
        assert!(watch.is_ending());
        assert_eq!([watch.sleep_until_retry(), watch.wait(), watch.wait()], [Wake::End; 3]);
    }

    /// Signals are a whole process's, so this test is run again in one of its own, which is told so.
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
        child.args(["--exact", "watch::tests::signals_and_the_service_manager", "--nocapture"]);
        child.env(IN_CHILD, directory.path()).env("NOTIFY_SOCKET", &socket_path);
        let mut child = child.env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID").spawn().unwrap();
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

    #[test]
    fn the_watchdog_is_told_in_time_and_not_more_often() {
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(10)));
        let mut is_due = |seconds| watchdog.is_due(begun + Duration::from_secs(seconds));
        assert_eq!([0, 9, 10, 11, 19, 25].map(&mut is_due), [true, false, true, false, false, true]);
        assert!(!Watchdog::new(None).is_due(begun));
        assert_eq!(Watchdog::new(Some(Duration::ZERO)).every, Some(SHORTEST_WATCHDOG));
    }

    #[test]
    fn a_capture_point_is_silent_after_its_time() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut silence = Silence::new(3, Duration::from_secs(300), begun);
        let silent = |silence: &Silence, seconds| silence.silent(at(seconds)).collect::<Vec<_>>();
        assert_eq!(silent(&silence, 300), [0; 0]);
        silence.delivered(1, at(200));
        silence.delivered(7, at(200));
        assert_eq!(silent(&silence, 301), [0, 2]);
        silence.delivered(0, at(302));
        assert_eq!(silent(&silence, 303), [2]);
        assert_eq!(silent(&silence, 501), [1, 2]);
        assert!(!silence.is_silent(7, at(501)));
    }

    #[test]
    fn a_heartbeat_tells_what_happened_since_the_last() {
        let begun = Instant::now();
        let wall = Duration::from_secs(1_700_000_000);
        let mut heartbeat = Heartbeat::new(begun);
        let due = |heartbeat: &mut Heartbeat, seconds| heartbeat.due(begun + Duration::from_secs(seconds), wall, 4);
        let quiet = Beat { segments: 0, bytes: 0, calls_closed: 0, open_calls: 4, newest_packet_age: None };
        assert_eq!(due(&mut heartbeat, 59), None);
        assert_eq!(due(&mut heartbeat, 60), Some(quiet.clone()));
        heartbeat.note_segments(1, 100);
        heartbeat.note_segments(1, 50);
        heartbeat.note_calls_closed(3);
        heartbeat.note_packet(1_699_999_990_000_000_000);
        heartbeat.note_packet(1_699_999_980_000_000_000);
        assert_eq!(due(&mut heartbeat, 119), None);
        let age = Some(Duration::from_secs(10));
        let busy = Beat { segments: 2, bytes: 150, calls_closed: 3, open_calls: 4, newest_packet_age: age };
        assert_eq!(due(&mut heartbeat, 125), Some(busy.clone()));
        assert_eq!(due(&mut heartbeat, 185), Some(Beat { newest_packet_age: age, ..quiet.clone() }));
        heartbeat.note_packet(u64::MAX);
        assert_eq!(due(&mut heartbeat, 245), Some(Beat { newest_packet_age: Some(Duration::ZERO), ..quiet.clone() }));
        assert_eq!(
            busy.to_string(),
            "in the last minute 2 segments, 150 bytes, 3 calls closed; 4 calls open; the newest packet is 10 s old"
        );
        assert!(quiet.to_string().ends_with("; no packet yet"));
    }
}
