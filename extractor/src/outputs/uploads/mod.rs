//! Uploads: each call's file becomes an object, and is deleted when the store has confirmed it.
//!
//! A file is due from the moment it is published; by then its name is in the state. One thread with
//! its own async runtime sends the due files, so extraction does not wait for the network unless it
//! is far ahead. The state of a killed run may still name files that were sent; the next run finds
//! that these objects exist, and does not send them again.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: deletes uploaded files; the clock of network timeouts"
)]

// A build without the feature has no sender, but keeps the uploads in the state.
#[cfg_attr(
    not(feature = "uploads"),
    allow(dead_code, reason = "the sender asks for it")
)]
mod due;
mod reading;
#[cfg_attr(not(feature = "uploads"), path = "absent.rs")]
mod sender;
mod settings;

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use shared::s3_uri::S3Uri;

pub(super) use self::due::Due;
use self::{due::DueUploads, sender::Sender};
pub use self::{
    reading::{ObjectError, ObjectPart, StoredObject},
    sender::{ObjectReader, check, region},
    settings::{Class, Cleanup, Encryption, Tags, UploadSettings},
};

/// True when this build can upload.
pub const ARE_BUILT_IN: bool = cfg!(feature = "uploads");

/// The error message of a build that cannot.
pub const MISSING: &str = "this program is built without uploads, and without other use of a store; `cargo build --release -p sip-call-extractor` builds it with them";

/// The counters of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadCounts {
    /// Files that were sent.
    pub sent: u64,
    /// The bytes in sent files.
    pub sent_bytes: u64,
    /// Files whose objects existed before.
    pub there_before: u64,
    /// Files that wait for the next run.
    pub waiting: u64,
    /// The bytes in waiting files.
    pub waiting_bytes: u64,
    /// Files that were deleted or lost without becoming objects.
    pub lost: u64,
    /// Tables that could not be sent.
    pub unsent_tables: u64,
}

/// The uploads of a run. Clones share one state.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Shared>);

/// The state that the run and the sending thread share.
#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    settings: Option<UploadSettings>,
    account: Mutex<Account>,
    /// Notified when a task has finished, for the run.
    task_ended: Condvar,
}

#[derive(Debug, Default)]
struct Account {
    due_uploads: DueUploads,
    counts: UploadCounts,
    /// The due files in the saved state.
    saved: Vec<Due>,
    /// Files that are not due any more, but may be in the saved state.
    settled: HashSet<String>,
    /// The number of failed files that the log has named.
    #[cfg(feature = "uploads")]
    named: u64,
    /// True when the check of the store at the start is over, or not wanted.
    is_open: bool,
    tables: Vec<PathBuf>,
    tables_on_their_way: usize,
    has_ended: bool,
    sender: Option<Sender>,
}

/// The interval of the log line with the files that are still to be sent.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The interval at which a waiting run checks its condition.
const CHECK_EVERY: Duration = Duration::from_millis(200);

impl Uploads {
    /// Starts to send files from a directory, if uploads are wanted.
    ///
    /// # Errors
    /// The thread cannot start.
    pub fn begin(directory: &Path, settings: Option<UploadSettings>) -> Result<Self> {
        let uploads = Self::of(directory, settings);
        if let Some(settings) = uploads.0.settings.clone() {
            let sender = Sender::begin(&uploads.0, settings)?;
            uploads.0.account().sender = Some(sender);
        }
        Ok(uploads)
    }

    /// The uploads of a run that sends nothing.
    #[must_use]
    pub fn none(directory: &Path) -> Self {
        Self::of(directory, None)
    }

    fn of(directory: &Path, settings: Option<UploadSettings>) -> Self {
        let (account, task_ended) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared {
            directory: directory.to_owned(),
            settings,
            account,
            task_ended,
        }))
    }

    /// Returns true if this run uploads.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.0.settings.is_some()
    }

    /// The destination of a file that is complete now; `None` if this run does not upload.
    pub(super) fn destination(&self) -> Option<&S3Uri> {
        self.0.settings.as_ref().map(|settings| &settings.to)
    }

    /// The due files for the state: those that are due, the oldest first, then the newly due.
    pub(super) fn carried_over(&self, newly_due: &[Due]) -> Vec<Due> {
        let mut account = self.0.account();
        account.settled.clear();
        account.saved = account
            .due_uploads
            .all()
            .chain(newly_due)
            .cloned()
            .collect();
        account.saved.clone()
    }

    /// Continues with the due files of the state, except those that this process has sent since.
    pub(super) fn resume(&self, saved: &[Due]) {
        let mut account = self.0.account();
        account.saved = saved.to_vec();
        let now = Instant::now();
        for due in saved {
            if !account.due_uploads.holds(&due.file_name)
                && !account.settled.contains(&due.file_name)
            {
                account.due_uploads.add(due.clone(), now);
            }
        }
        account.wake_sender();
    }

    /// Returns true if no file is due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.account().due_uploads.len() == 0
    }

    /// Adds files that are due now.
    pub(super) fn add(&self, due: impl IntoIterator<Item = Due>) {
        let mut account = self.0.account();
        let now = Instant::now();
        for due in due {
            account.settled.remove(&due.file_name);
            account.due_uploads.add(due, now);
        }
        if account.due_uploads.has_no_store() {
            self.0.give_up_excess(&mut account);
        }
        account.wake_sender();
    }

    /// Waits while extraction is far ahead of the uploads, as long as `goes_on` returns true.
    pub(super) fn keep_pace(&self, mut goes_on: impl FnMut() -> bool) {
        let mut account = self.0.account();
        while account.due_uploads.is_ahead() && account.is_sending() && goes_on() {
            account = self.0.wait(account);
        }
    }

    /// Ends the uploads of a run: sends the due files as far as that is possible now, and then the
    /// tables, if that is wanted. With `patience`, starts no new upload, and waits no longer than
    /// that. Returns true if the due files differ from the saved state.
    pub(super) fn finish(
        &self,
        tables: &[PathBuf],
        patience: Option<Duration>,
        alive: impl FnMut(),
    ) -> bool {
        match &self.0.settings {
            Some(settings) => self.0.finish(settings, tables, patience, alive),
            None => self.0.say_what_waits(),
        }
        let account = self.0.account();
        account.due_uploads.all().ne(&account.saved)
    }

    /// The counters so far.
    #[must_use]
    pub fn counts(&self) -> UploadCounts {
        let account = self.0.account();
        let (waiting, waiting_bytes) = (
            account.due_uploads.len() as u64,
            account.due_uploads.bytes(),
        );
        UploadCounts {
            waiting,
            waiting_bytes,
            ..account.counts.clone()
        }
    }
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the tasks of the sending thread, and wakes it.
    fn change(&self, change: impl FnOnce(&mut Account)) {
        let mut account = self.account();
        change(&mut account);
        account.wake_sender();
    }

    fn wait<'a>(&self, account: MutexGuard<'a, Account>) -> MutexGuard<'a, Account> {
        self.task_ended
            .wait_timeout(account, CHECK_EVERY)
            .map_or_else(|error| error.into_inner().0, |(account, _)| account)
    }

    fn say_what_waits(&self) {
        let waiting = self.account().due_uploads.len();
        if waiting > 0 {
            tracing::warn!(
                "{waiting} files in {} wait for upload since an earlier run; --auto-upload-to-s3 sends them, --reset-state forgets them",
                self.directory.display()
            );
        }
    }

    fn finish(
        &self,
        settings: &UploadSettings,
        tables: &[PathBuf],
        patience: Option<Duration>,
        mut alive: impl FnMut(),
    ) {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut wait = |is_over: fn(&Account) -> bool| self.wait_until(is_over, until, &mut alive);
        if until.is_some() {
            self.account().due_uploads.close();
        }
        wait(|account| account.is_open);
        self.change(|account| account.due_uploads.begin_last_round(Instant::now()));
        wait(|account| account.due_uploads.is_at_rest(Instant::now()));
        if settings.with_tables {
            self.change(|account| account.tables = tables.to_vec());
            wait(|account| {
                account.tables_on_their_way == 0
                    && (account.tables.is_empty() || !account.due_uploads.has_store())
            });
        }
        self.end(settings, patience.is_none());
    }

    fn wait_until(
        &self,
        is_over: fn(&Account) -> bool,
        until: Option<Instant>,
        alive: &mut impl FnMut(),
    ) {
        let mut said = Instant::now();
        let mut account = self.account();
        while !is_over(&account)
            && account.is_sending()
            && until.is_none_or(|until| Instant::now() < until)
        {
            alive();
            if said.elapsed() >= LINE_EVERY {
                said = Instant::now();
                tracing::info!(
                    "{} files ({} bytes) are still to be uploaded",
                    account.due_uploads.len(),
                    account.due_uploads.bytes()
                );
            }
            account = self.wait(account);
        }
    }

    /// Ends the sending thread. With `for_good` and cleanup `Always`, deletes the files that could
    /// not be sent, too.
    fn end(&self, settings: &UploadSettings, for_good: bool) {
        let mut account = self.account();
        account.due_uploads.close();
        account.has_ended = true;
        let unsent_tables = account
            .tables
            .len()
            .saturating_add(account.tables_on_their_way) as u64;
        if unsent_tables > 0 {
            tracing::error!(
                "{unsent_tables} tables are not uploaded; the next run sends them, with the rows that they have by then"
            );
            account.counts.unsent_tables =
                account.counts.unsent_tables.saturating_add(unsent_tables);
        }
        let sender = account.sender.take();
        drop(account);
        if sender.is_some_and(|sender| sender.join().is_err()) {
            tracing::error!(
                "the upload thread has failed; files that it has not sent wait for the next run"
            );
        }
        let mut account = self.account();
        if settings.cleanup == Cleanup::Always && for_good {
            let left = account.due_uploads.overflow(0);
            self.give_up(
                &mut account,
                left,
                "its upload failed, and --local-cleanup always keeps nothing",
            );
        } else if !account.due_uploads.has_store() {
            self.give_up_excess(&mut account);
        }
    }

    /// Deletes the oldest due files beyond the space limit, when the store fails.
    fn give_up_excess(&self, account: &mut Account) {
        let Some(settings) = &self.settings else {
            return;
        };
        if settings.cleanup != Cleanup::Never {
            let excess = account.due_uploads.overflow(settings.spool_max_bytes);
            self.give_up(
                account,
                excess,
                "more was due for upload than --spool-max-bytes allows",
            );
        }
    }

    fn give_up(&self, account: &mut Account, files: Vec<Due>, why: &str) {
        for due in files {
            tracing::error!(
                "{} is deleted without an upload to {}: {why}",
                due.file_name,
                due.to
            );
            account.counts.lost = account.counts.lost.saturating_add(1);
            account.settled.insert(due.file_name.clone());
            self.delete(&due);
        }
    }

    fn delete(&self, due: &Due) {
        let path = self.directory.join(&due.file_name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{} cannot be removed: {error}", path.display());
            }
            _ => {}
        }
    }
}

impl Account {
    fn is_sending(&self) -> bool {
        self.sender
            .as_ref()
            .is_some_and(|sender| !sender.is_finished())
    }

    fn wake_sender(&self) {
        if let Some(sender) = &self.sender {
            sender.wake();
        }
    }
}
