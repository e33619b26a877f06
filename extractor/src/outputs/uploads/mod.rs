//! Uploads: each call's file becomes an object, and is deleted when the store has confirmed that.
//!
//! A file is due from the moment it counts: its name is in the state then. One thread with a runtime of its own sends what is
//! due, so extraction does not wait for a network, unless it is far ahead. What was sent is due no more, but whoever finds it
//! so in an older state sees that the object is there, and does not send it again.
#![allow(clippy::disallowed_methods, reason = "a door: deletes what was uploaded; the clock of a network")]

mod settings;
mod spool;
mod store;
mod trouble;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use shared::s3_uri::S3Uri;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    task::JoinSet,
};

pub use self::settings::{Class, Cleanup, Encryption, Settings, Tags};
pub(super) use self::spool::Due;
use self::{
    spool::Spool,
    store::{CAPTURE, FileId, Order, Sent, Store, TABLE, file_at},
    trouble::Trouble,
};

/// What became of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadCounts {
    /// Files that were sent.
    pub sent: u64,
    /// The bytes in them.
    pub sent_bytes: u64,
    /// Files that were objects before.
    pub there_before: u64,
    /// Files that wait for the next run.
    pub waiting: u64,
    /// The bytes in them.
    pub waiting_bytes: u64,
    /// Files that are gone without being an object.
    pub lost: u64,
    /// Tables that could not be sent.
    pub unsent_tables: u64,
}

/// The uploads of a run. All copies are the same ones.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Shared>);

/// Where the run and the thread that sends meet.
#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    settings: Option<Settings>,
    account: Mutex<Account>,
    /// Rung for the run.
    bell: Condvar,
    /// Rung for the thread that sends.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Account {
    spool: Spool,
    counts: UploadCounts,
    /// What the state says is due.
    saved: Vec<Due>,
    /// What is not due any more, but may be in the state.
    settled: HashSet<String>,
    /// How many files the log has named as not uploaded.
    named: u64,
    /// Whether the store has been asked at the start, or need not be.
    is_open: bool,
    tables: Vec<PathBuf>,
    tables_on_their_way: usize,
    has_ended: bool,
    sender: Option<JoinHandle<()>>,
}

/// What a task was for.
#[derive(Clone, Debug)]
enum Task {
    File(u64, Due),
    Table(PathBuf),
}

/// A store that takes none of many files does not fill the log.
const MAX_NAMED: u64 = 100;

/// How often the log says what is still to be sent.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often the run looks whether it is still to wait.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Uploads {
    /// Begins to send, from a directory, unless nothing is to be sent.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn begin(directory: &Path, settings: Option<Settings>) -> Result<Self> {
        let uploads = Self::of(directory, settings);
        if let Some(settings) = uploads.0.settings.clone() {
            let (shared, runtime) = (Arc::clone(&uploads.0), runtime()?);
            let serve = move || {
                runtime.block_on(shared.serve(settings));
                // A file that is being read, a name that is being looked up: nobody waits for that.
                runtime.shutdown_background();
            };
            let sender = thread::Builder::new().name("uploads".to_owned()).spawn(serve);
            uploads.0.account().sender = Some(sender.context("files cannot be uploaded: there can be no thread for it")?);
        }
        Ok(uploads)
    }

    /// Of a run that sends nothing.
    #[must_use]
    pub fn none(directory: &Path) -> Self {
        Self::of(directory, None)
    }

    fn of(directory: &Path, settings: Option<Settings>) -> Self {
        let (account, bell, wake) = (Mutex::default(), Condvar::new(), Notify::new());
        Self(Arc::new(Shared { directory: directory.to_owned(), settings, account, bell, wake }))
    }

    /// Whether this run sends anything.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.0.settings.is_some()
    }

    /// Where a file is to go that is complete now, if anywhere.
    pub(super) fn destination(&self) -> Option<&S3Uri> {
        self.0.settings.as_ref().map(|settings| &settings.to)
    }

    /// What is to be in the state: what is due, the oldest first, and what will be.
    pub(super) fn carried_over(&self, newly_due: &[Due]) -> Vec<Due> {
        let mut account = self.0.account();
        account.settled.clear();
        account.saved = account.spool.all().chain(newly_due).cloned().collect();
        account.saved.clone()
    }

    /// Goes on with what the state says is due, as far as this process does not know better.
    pub(super) fn resume(&self, saved: &[Due]) {
        let mut account = self.0.account();
        account.saved = saved.to_vec();
        let now = Instant::now();
        for due in saved {
            if !account.spool.holds(&due.file_name) && !account.settled.contains(&due.file_name) {
                account.spool.add(due.clone(), now);
            }
        }
        self.0.wake.notify_one();
    }

    /// Whether nothing is due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.account().spool.len() == 0
    }

    /// Adds what is due now.
    pub(super) fn add(&self, due: impl IntoIterator<Item = Due>) {
        let mut account = self.0.account();
        let now = Instant::now();
        for due in due {
            account.settled.remove(&due.file_name);
            account.spool.add(due, now);
        }
        if account.spool.has_no_store() {
            self.0.give_up_excess(&mut account);
        }
        self.0.wake.notify_one();
    }

    /// Waits while so much is due that extraction is far ahead, as long as it `goes_on`.
    pub(super) fn keep_pace(&self, mut goes_on: impl FnMut() -> bool) {
        let mut account = self.0.account();
        while account.spool.is_ahead() && account.is_sending() && goes_on() {
            account = self.0.wait(account);
        }
    }

    /// The run ends: sends what is due as far as that is possible now, and then, if that is wanted, the tables. With `patience`
    /// nothing new is begun, and no longer waited. Tells whether what is due is not what the state says.
    pub(super) fn finish(&self, tables: &[PathBuf], patience: Option<Duration>, alive: impl FnMut()) -> bool {
        match &self.0.settings {
            Some(settings) => self.0.finish(settings, tables, patience, alive),
            None => self.0.say_what_waits(),
        }
        let account = self.0.account();
        account.spool.all().ne(&account.saved)
    }

    /// What became of them so far.
    #[must_use]
    pub fn counts(&self) -> UploadCounts {
        let account = self.0.account();
        let (waiting, waiting_bytes) = (account.spool.len() as u64, account.spool.bytes());
        UploadCounts { waiting, waiting_bytes, ..account.counts.clone() }
    }
}

/// Tries whether objects can be put.
///
/// # Errors
/// They cannot: a sentence that says why, and what to do.
pub fn check(settings: Settings) -> Result<()> {
    runtime()?.block_on(async {
        let to = settings.to.clone();
        let store = Store::new(settings).await;
        let checked = store.check(&to).await;
        checked.or_else(|trouble| bail!("{}", trouble.at(&store.place(&to))))
    })
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("files cannot be uploaded: there can be no runtime for it")
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, account: MutexGuard<'a, Account>) -> MutexGuard<'a, Account> {
        self.bell.wait_timeout(account, LOOK_EVERY).map_or_else(|error| error.into_inner().0, |(account, _)| account)
    }

    fn say_what_waits(&self) {
        let waiting = self.account().spool.len();
        if waiting > 0 {
            tracing::warn!(
                "{waiting} files in {} are due for upload since an earlier run; one with --auto-upload-to-s3 sends them, --reset-state forgets that",
                self.directory.display()
            );
        }
    }

    fn finish(&self, settings: &Settings, tables: &[PathBuf], patience: Option<Duration>, mut alive: impl FnMut()) {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut wait = |is_over: fn(&Account) -> bool| self.wait_until(is_over, until, &mut alive);
        if until.is_some() {
            self.account().spool.close();
        }
        wait(|account| account.is_open);
        self.account().spool.begin_last_round(Instant::now());
        self.wake.notify_one();
        wait(|account| account.spool.is_at_rest(Instant::now()));
        if settings.with_tables {
            self.account().tables = tables.to_vec();
            self.wake.notify_one();
            wait(|account| account.tables_on_their_way == 0 && (account.tables.is_empty() || !account.spool.has_store()));
        }
        self.end(settings, patience.is_none());
    }

    fn wait_until(&self, is_over: fn(&Account) -> bool, until: Option<Instant>, alive: &mut impl FnMut()) {
        let mut said = Instant::now();
        let mut account = self.account();
        while !is_over(&account) && account.is_sending() && until.is_none_or(|until| Instant::now() < until) {
            alive();
            if said.elapsed() >= LINE_EVERY {
                said = Instant::now();
                tracing::info!("{} files ({} bytes) are still to be uploaded", account.spool.len(), account.spool.bytes());
            }
            account = self.wait(account);
        }
    }

    /// Has the thread that sends end. With `for_good` nothing stays that is to be deleted whatever became of its upload.
    fn end(&self, settings: &Settings, for_good: bool) {
        let mut account = self.account();
        account.spool.close();
        account.has_ended = true;
        let unsent_tables = account.tables.len().saturating_add(account.tables_on_their_way) as u64;
        if unsent_tables > 0 {
            tracing::error!("{unsent_tables} tables are not uploaded; the next run sends what they hold then");
            account.counts.unsent_tables = account.counts.unsent_tables.saturating_add(unsent_tables);
        }
        let sender = account.sender.take();
        drop(account);
        self.wake.notify_one();
        if sender.is_some_and(|sender| sender.join().is_err()) {
            tracing::error!("the thread that uploads has failed; what it has not sent waits for the next run");
        }
        let mut account = self.account();
        if settings.cleanup == Cleanup::Always && for_good {
            let left = account.spool.overflow(0);
            self.give_up(&mut account, left, "its upload failed, and --local-cleanup always keeps nothing");
        } else if !account.spool.has_store() {
            self.give_up_excess(&mut account);
        }
    }

    /// The store fails: deletes the oldest of what is due, where it is more than may wait for it.
    fn give_up_excess(&self, account: &mut Account) {
        let Some(settings) = &self.settings else { return };
        if settings.cleanup != Cleanup::Never {
            let excess = account.spool.overflow(settings.spool_max_bytes);
            self.give_up(account, excess, "more was due for upload than --spool-max-bytes allows");
        }
    }

    fn give_up(&self, account: &mut Account, files: Vec<Due>, why: &str) {
        for due in files {
            tracing::error!("{} is deleted and is not at {}: {why}", due.file_name, due.to);
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

    async fn has_ended(&self) {
        while !self.account().has_ended {
            self.wake.notified().await;
        }
    }

    /// Sends what is due, until the run ends.
    async fn serve(self: Arc<Self>, settings: Settings) {
        let begun = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ").to_string();
        let store = Arc::new(Store::new(settings.clone()).await);
        let check = async { if settings.checks { store.check(&settings.to).await } else { Ok(()) } };
        let checked = tokio::select! {
            checked = check => checked,
            () = self.has_ended() => return,
        };
        if let Err(trouble) = checked {
            let why = trouble.at(&store.place(&settings.to)).to_string();
            match trouble {
                // They may be for the calls' files alone.
                Trouble::AccessDenied(_) => tracing::warn!("{why}; the calls' files are tried all the same"),
                _ => self.note_bad_store(&mut self.account(), &why),
            }
        }
        self.account().is_open = true;
        self.bell.notify_all();
        let mut sending = JoinSet::new();
        let mut tasks = HashMap::new();
        loop {
            let next_time = {
                let mut account = self.account();
                if account.has_ended {
                    return;
                }
                while sending.len() < settings.concurrency
                    && let Some(task) = account.next_task()
                {
                    let (store, order) = (Arc::clone(&store), self.order(&task, &settings, &begun));
                    let handle = sending.spawn(async move { store.send(&order).await });
                    tasks.insert(handle.id(), task);
                }
                account.spool.next_time().filter(|_| sending.len() < settings.concurrency)
            };
            let far = Duration::from_secs(3600);
            let pause = next_time.map_or(far, |next| next.saturating_duration_since(Instant::now()).min(far));
            tokio::select! {
                Some(sent) = sending.join_next_with_id() => {
                    let (id, sent) = match sent {
                        Ok((id, sent)) => (id, sent),
                        Err(error) => (error.id(), Err(Trouble::Unreadable(error.to_string()))),
                    };
                    if let Some(task) = tasks.remove(&id) {
                        self.note(&store, task, sent);
                    }
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn order(&self, task: &Task, settings: &Settings, begun: &str) -> Order {
        match task {
            Task::File(_, due) => Order {
                path: self.directory.join(&due.file_name),
                to: due.to.clone(),
                name: due.file_name.clone(),
                len: due.len,
                content_type: CAPTURE,
                replaces: settings.overwrite,
            },
            Task::Table(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
                let name = format!("{stem}_{begun}{ending}");
                Order { path: path.clone(), to: settings.to.clone(), name, len: 0, content_type: TABLE, replaces: true }
            }
        }
    }

    fn note(&self, store: &Store, task: Task, sent: Result<Sent, Trouble>) {
        match task {
            Task::File(number, due) => self.note_file(store, number, &due, sent),
            Task::Table(path) => {
                if let Err(trouble) = &sent {
                    let place = self.settings.as_ref().map(|settings| store.place(&settings.to));
                    let why = place.map(|place| trouble.at(&place).to_string()).unwrap_or_default();
                    tracing::error!("{} is not uploaded: {why}; the next run sends what it has then", path.display());
                }
                let mut account = self.account();
                account.tables_on_their_way = account.tables_on_their_way.saturating_sub(1);
                account.counts.unsent_tables = account.counts.unsent_tables.saturating_add(u64::from(sent.is_err()));
            }
        }
        self.bell.notify_all();
    }

    fn note_file(&self, store: &Store, number: u64, due: &Due, sent: Result<Sent, Trouble>) {
        let mut account = self.account();
        match sent {
            Ok(sent) => {
                tracing::debug!(file = %due.file_name, bytes = due.len, was_there = sent.was_there, "uploaded");
                self.settle(&mut account, number, due, sent);
            }
            Err(trouble) => {
                let why = trouble.at(&store.place(&due.to)).to_string();
                self.note_trouble(&mut account, number, due, &trouble, &why);
            }
        }
    }

    fn settle(&self, account: &mut Account, number: u64, due: &Due, sent: Sent) {
        account.count(sent, due.len);
        if !account.spool.settle(number, Instant::now()) {
            return;
        }
        account.settled.insert(due.file_name.clone());
        let deletes = self.settings.as_ref().is_some_and(|settings| settings.cleanup != Cleanup::Never);
        // Another may have taken its name, and not be due yet.
        let is_still_there = |file: &FileId| file_at(&self.directory.join(&due.file_name)).is_ok_and(|there| there == *file);
        if deletes && sent.file.as_ref().is_some_and(is_still_there) {
            self.delete(due);
        }
    }

    fn note_trouble(&self, account: &mut Account, number: u64, due: &Due, trouble: &Trouble, why: &str) {
        let Some(settings) = &self.settings else { return };
        // A bucket of an earlier run, maybe misspelt, says nothing about the one of this run.
        let is_of_store = trouble.is_of_store() && due.to.bucket == settings.to.bucket;
        if is_of_store {
            self.note_bad_store(account, why);
        }
        if account.spool.begin_again(number, Instant::now()) {
            return;
        }
        if *trouble == Trouble::Missing {
            account.spool.remove(number);
            account.settled.insert(due.file_name.clone());
            account.counts.lost = account.counts.lost.saturating_add(1);
            tracing::error!("{} is lost: {why}", due.file_name);
        } else if settings.cleanup == Cleanup::Always {
            account.spool.remove(number);
            self.give_up(account, vec![due.clone()], why);
        } else if is_of_store {
            account.spool.put_back(number, Instant::now());
        } else {
            account.spool.put_off(number, Instant::now());
            account.named = account.named.saturating_add(1);
            match account.named {
                ..MAX_NAMED => tracing::error!("{} is not uploaded: {why}; it stays, and is tried again", due.file_name),
                MAX_NAMED => tracing::error!("{} is not uploaded: {why}; further files are only counted", due.file_name),
                _ => tracing::debug!("{} is not uploaded: {why}", due.file_name),
            }
        }
        if account.spool.has_no_store() {
            self.give_up_excess(account);
        }
    }

    /// Says why nothing can be sent for now, once.
    fn note_bad_store(&self, account: &mut Account, why: &str) {
        if account.spool.note_failure(Instant::now()) {
            tracing::error!("nothing can be uploaded for now: {why}; files wait in {}", self.directory.display());
        }
    }
}

impl Account {
    fn next_task(&mut self) -> Option<Task> {
        if let Some((number, due)) = self.spool.take(Instant::now()) {
            return Some(Task::File(number, due));
        }
        let table = if self.spool.has_store() { self.tables.pop()? } else { return None };
        self.tables_on_their_way = self.tables_on_their_way.saturating_add(1);
        Some(Task::Table(table))
    }

    fn is_sending(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| !sender.is_finished())
    }

    fn count(&mut self, sent: Sent, len: u64) {
        if sent.was_there {
            self.counts.there_before = self.counts.there_before.saturating_add(1);
        } else {
            self.counts.sent = self.counts.sent.saturating_add(1);
            self.counts.sent_bytes = self.counts.sent_bytes.saturating_add(len);
        }
    }
}
