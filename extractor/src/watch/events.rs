//! Signals and events of the file system, and the actions that they ask for.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: events of the file system may gather while their thread sleeps"
)]

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use notify::{
    Event, EventHandler, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};
use signal_hook::consts::SIGHUP;

use crate::segments::is_capture_name;

/// The time in which events gather while a program writes to a file.
///
/// `notify` reports each write, also to the part files of an agent. 1,000 writes a second would
/// cost 1.1 % of a processor, 10,000 would cost 7 %; if they gather, it is 0.2 and 0.5 %. Equal
/// events of one file become one until they are read.
const GATHER: Duration = Duration::from_millis(50);

/// The longest reading without another pause.
const READ: Duration = Duration::from_millis(1);

/// The actions that were asked for since the last wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) end: bool,
    /// A look at once, by SIGHUP.
    pub(super) now: bool,
    /// A look at a segment.
    pub(super) look: bool,
    /// A directory was replaced, or events were lost.
    pub(super) watch_again: bool,
}

impl Asked {
    pub(super) fn is_anything(&self) -> bool {
        self.end || self.now || self.look || self.watch_again
    }
}

/// Collects what signals and files ask for, and wakes the waiting thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    asked: Mutex<Asked>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self, ask: impl FnOnce(&mut Asked)) {
        ask(&mut self.lock());
        self.rung.notify_all();
    }

    pub(super) fn heed(&self, signal: i32) {
        self.ring(|asked| {
            if signal == SIGHUP {
                asked.now = true;
            } else {
                asked.end = true;
            }
        });
    }

    /// Waits for an action, at most for `patience`. Returns true if `is_enough`.
    pub(super) fn wait(&self, patience: Duration, is_enough: fn(&Asked) -> bool) -> bool {
        let waited = self
            .rung
            .wait_timeout_while(self.lock(), patience, |asked| !is_enough(asked));
        is_enough(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Removes and returns the actions that were asked for; an end stays.
    pub(super) fn take(&self) -> Asked {
        let mut asked = self.lock();
        let taken = *asked;
        *asked = Asked {
            end: taken.end,
            ..Asked::default()
        };
        taken
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The meaning of an event for a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    /// A program writes to a file, and will continue to.
    Writing,
    Segment,
    WatchAgain,
}

/// Receives the events on the thread of `notify`.
pub(super) struct Ear {
    bell: Arc<Bell>,
    directories: Vec<PathBuf>,
    last_pause: Option<Instant>,
}

impl Ear {
    pub(super) fn new(bell: Arc<Bell>, directories: Vec<PathBuf>) -> Self {
        Self {
            bell,
            directories,
            last_pause: None,
        }
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
        match event.map_or(Meaning::WatchAgain, |event| {
            meaning(&event, &self.directories)
        }) {
            Meaning::Nothing => {}
            Meaning::Writing => self.pause(),
            Meaning::Segment => self.bell.ring(|asked| asked.look = true),
            Meaning::WatchAgain => self.bell.ring(|asked| asked.watch_again = true),
        }
    }
}

fn meaning(event: &Event, directories: &[PathBuf]) -> Meaning {
    // The queue was full: events are missing.
    if event.need_rescan() {
        return Meaning::WatchAgain;
    }
    let is_of_capture = || {
        event
            .paths
            .iter()
            .filter_map(|path| path.file_name())
            .any(is_capture_name)
    };
    let is_of_directory = || event.paths.iter().any(|path| directories.contains(path));
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => Meaning::Writing,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        // A link to a file that is complete. (A directory is never a capture.)
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

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{DataChange, RemoveKind};

    #[test]
    fn what_events_mean() {
        let directories = [PathBuf::from("/in")];
        let of = |kind: EventKind, path: &str| {
            meaning(&Event::new(kind).add_path(path.into()), &directories)
        };
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let name = |mode| EventKind::Modify(ModifyKind::Name(mode));
        assert_eq!(of(close, "/in/a.pcap"), Meaning::Segment);
        assert_eq!(
            of(name(RenameMode::To), "/in/a.pcapng.zst"),
            Meaning::Segment
        );
        assert_eq!(
            of(EventKind::Create(CreateKind::File), "/in/a.pcap"),
            Meaning::Segment
        );
        assert_eq!(
            of(EventKind::Create(CreateKind::Folder), "/in/a.pcap"),
            Meaning::Nothing
        );
        for hidden in [
            "/in/.a.pcap",
            "/in/.a.pcap.part",
            "/in/a.pcap.part",
            "/in/notes",
        ] {
            assert_eq!(of(close, hidden), Meaning::Nothing, "{hidden}");
        }
        assert_eq!(
            of(
                EventKind::Access(AccessKind::Open(AccessMode::Any)),
                "/in/a.pcap"
            ),
            Meaning::Nothing
        );
        assert_eq!(
            of(
                EventKind::Modify(ModifyKind::Data(DataChange::Any)),
                "/in/.a.pcap.part"
            ),
            Meaning::Writing
        );
        assert_eq!(of(name(RenameMode::From), "/in/a.pcap"), Meaning::Nothing);
        assert_eq!(of(name(RenameMode::From), "/in"), Meaning::WatchAgain);
        assert_eq!(
            of(EventKind::Remove(RemoveKind::Folder), "/in"),
            Meaning::WatchAgain
        );
        assert_eq!(
            of(EventKind::Remove(RemoveKind::File), "/in/a.pcap"),
            Meaning::Nothing
        );
    }
}
