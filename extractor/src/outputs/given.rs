//! The names that calls have been given: none is given twice.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    directory::Directory,
    names::{FileName, Stem},
};
use crate::events::Table;

/// So many names of files that are there are remembered: the directory need not be asked for them.
const MAX_REMEMBERED: usize = 1 << 14;

/// The names that calls have been given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileNames {
    given: Table<Stem, Given>,
    /// The stems whose files are there, the oldest first.
    done: VecDeque<Stem>,
    /// The latest second of the names that were forgotten: of later ones, the directory has nothing
    /// that is not known.
    forgotten: Option<u64>,
    /// Files of earlier runs are there.
    asks_always: bool,
}

/// The names given of one stem.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Given {
    /// The last one given. None before it is free.
    number: u64,
    /// The number of names whose files are not there yet.
    open: u64,
}

impl FileNames {
    /// No names yet, for a directory in which those that are there are taken, unless they may be
    /// replaced.
    pub(super) fn new(directory: &Directory, overwrite: bool) -> anyhow::Result<Self> {
        let asks_always = !overwrite && directory.has_calls()?;
        Ok(Self {
            given: Table::default(),
            done: VecDeque::new(),
            forgotten: None,
            asks_always,
        })
    }

    /// Others may have put files into the directory since.
    pub(super) fn ask_always(&mut self) {
        self.asks_always = true;
    }

    /// The first name of a stem that no other call of this run has, nor, unless files may be
    /// replaced, any file that is there.
    ///
    /// # Errors
    /// It cannot be found out what is there.
    pub(super) fn give(&mut self, stem: Stem, directory: &Directory) -> anyhow::Result<FileName> {
        let asks = self.asks_always
            || self
                .forgotten
                .is_some_and(|forgotten| stem.second() <= forgotten);
        let given = self.given.entry(stem).or_default();
        given.open = given.open.saturating_add(1);
        loop {
            given.number = given.number.saturating_add(1);
            let name = FileName::new(stem, given.number);
            if !asks || !directory.has(&name)? {
                return Ok(name);
            }
        }
    }

    /// The file is there: that keeps its name from being given again.
    pub(super) fn release(&mut self, name: &FileName) {
        if let Some(given) = self.given.get_mut(&name.stem()) {
            given.open = given.open.saturating_sub(1);
        }
        self.done.push_back(name.stem());
        if self.done.len() > MAX_REMEMBERED
            && let Some(oldest) = self.done.pop_front()
            && self.given.get(&oldest).is_some_and(|given| given.open == 0)
        {
            self.given.remove(&oldest);
            self.forgotten = self.forgotten.max(Some(oldest.second()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outputs::settings::Settings, selection::Selection};

    #[test]
    fn what_is_forgotten_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            directory: folder.path().to_owned(),
            detected_calls_filename: "d".into(),
            stats_filename: "s".into(),
            overwrite: false,
            selection: Selection::default(),
            location: None,
            tells_of_calls: false,
            syncs: false,
        };
        let directory = Directory::open(&settings).unwrap();
        let mut names = FileNames::new(&directory, false).unwrap();
        let stem = |n: u64| Stem::new(b"a", n * 1_000_000_000);
        let open = names.give(stem(1), &directory).unwrap();
        let done = names.give(stem(2), &directory).unwrap();
        directory
            .append_part(&done.with_ending(false), true, b"x")
            .unwrap();
        directory.publish(&done.with_ending(false)).unwrap();
        names.release(&done);
        for n in 0..MAX_REMEMBERED as u64 {
            let name = names.give(stem(n + 10), &directory).unwrap();
            names.release(&name);
        }
        assert_eq!(names.given.len(), MAX_REMEMBERED + 1);
        assert_eq!(
            names.give(stem(2), &directory).unwrap(),
            FileName::new(stem(2), 2),
            "its file is there"
        );
        assert_ne!(
            names.give(stem(1), &directory).unwrap(),
            open,
            "its file will be"
        );
        assert_eq!(
            names.give(stem(3), &directory).unwrap(),
            FileName::new(stem(3), 1)
        );
    }
}
