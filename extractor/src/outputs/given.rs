//! The names of the files of calls and conversations: no name is used twice.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    directory::Directory,
    names::{FileName, Stem},
};
use crate::events::Table;

/// The number of published names that are remembered, so that the directory need not be searched
/// for them.
const MAX_REMEMBERED: usize = 1 << 14;

/// The names of call files that are in use.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileNames {
    given: Table<Stem, NameUse>,
    /// The stems of published files, the oldest first.
    done: VecDeque<Stem>,
    /// The latest second among the names that were forgotten. For later seconds, every file in the
    /// directory is remembered.
    forgotten: Option<u64>,
    /// True when the directory has files of earlier runs, so that every name is checked against it.
    asks_always: bool,
}

/// The names with one stem.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct NameUse {
    /// The number of the last name; 0 while there is none.
    number: u64,
    /// The number of names whose files are not published yet.
    open: u64,
}

impl FileNames {
    /// No names yet. Existing files of the directory keep their names, unless `overwrite` is set.
    pub(super) fn new(directory: &Directory, overwrite: bool) -> anyhow::Result<Self> {
        let asks_always = !overwrite && directory.has_calls()?;
        Ok(Self {
            given: Table::default(),
            done: VecDeque::new(),
            forgotten: None,
            asks_always,
        })
    }

    /// Checks every name from now on, because other processes may have added files.
    pub(super) fn ask_always(&mut self) {
        self.asks_always = true;
    }

    /// Returns the first name with this stem that no other call of this run has and, unless files
    /// may be replaced, no file in the directory.
    ///
    /// # Errors
    /// The directory cannot be read.
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

    /// Marks a name as published: the file itself reserves it from now on.
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
    use crate::{
        outputs::{names::FileKind, settings::OutputSettings},
        selection::Selection,
    };

    #[test]
    fn what_is_forgotten_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let settings = OutputSettings {
            directory: folder.path().to_owned(),
            detected_calls_filename: "d".into(),
            stats_filename: "s".into(),
            columns: crate::outputs::Columns::All,
            thresholds: crate::problems::Thresholds::default(),
            overwrite: false,
            selection: Selection::default(),
            location: None,
            shows_digits: true,
            writes_json: false,
            writes_messages: false,
            reports_every: None,
            writes_conversations: false,
            parquet: None,
            tells_of_calls: false,
            syncs: false,
        };
        let directory = Directory::open(&settings).unwrap();
        let mut names = FileNames::new(&directory, false).unwrap();
        let stem = |n: u64| Stem::new(FileKind::Call, b"a", n * 1_000_000_000);
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
