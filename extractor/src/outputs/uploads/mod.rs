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
    collections::HashMap,
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
    store::{Sent, Store},
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
pub struct Uploads(Arc<Desk>);

/// Where the run and the thread that sends meet.
#[derive(Debug)]
struct Desk {
    directory: PathBuf,
    settings: Option<Settings>,
    papers: Mutex<Papers>,
    /// Rung for the run.
    bell: Condvar,
    /// Rung for the thread that sends.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Papers {
    spool: Spool,
    counts: UploadCounts,
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
            let (desk, runtime) = (Arc::clone(&uploads.0), runtime()?);
            let serve = move || runtime.block_on(desk.serve(settings));
            let sender = thread::Builder::new().name("uploads".to_owned()).spawn(serve);
            uploads.0.papers().sender = Some(sender.context("files cannot be uploaded: there can be no thread for it")?);
        }
        Ok(uploads)
    }

    /// Of a run that sends nothing.
    #[must_use]
    pub fn none(directory: &Path) -> Self {
        Self::of(directory, None)
    }

    fn of(directory: &Path, settings: Option<Settings>) -> Self {
        let (papers, bell, wake) = (Mutex::default(), Condvar::new(), Notify::new());
        Self(Arc::new(Desk { directory: directory.to_owned(), settings, papers, bell, wake }))
    }

    /// Where a file is to go that is complete now, if anywhere.
    pub(super) fn destination(&self) -> Option<&S3Uri> {
        self.0.settings.as_ref().map(|settings| &settings.to)
    }

    /// What is due, the oldest first.
    pub(super) fn due(&self) -> Vec<Due> {
        self.0.papers().spool.all().cloned().collect()
    }

    /// Whether nothing is due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.papers().spool.len() == 0
    }

    /// Adds what is due now.
    pub(super) fn add(&self, due: impl IntoIterator<Item = Due>) {
        let mut papers = self.0.papers();
        let now = Instant::now();
        due.into_iter().for_each(|due| papers.spool.add(due, now));
        self.0.give_up_excess(&mut papers);
        self.0.wake.notify_one();
    }

    /// Waits while so much is due that extraction is far ahead, as long as it `goes_on`.
    pub(super) fn keep_pace(&self, mut goes_on: impl FnMut() -> bool) {
        let mut papers = self.0.papers();
        while papers.spool.is_ahead() && !papers.has_ended && goes_on() {
            papers = self.0.wait(papers);
        }
    }

    /// The run ends: sends what is due as far as that is possible now, and then, if that is wanted, the tables. With `patience`
    /// nothing new is begun, and no longer waited.
    pub(super) fn finish(&self, tables: &[PathBuf], patience: Option<Duration>, mut alive: impl FnMut()) {
        let desk = &self.0;
        let Some(settings) = &desk.settings else {
            let waiting = desk.papers().spool.len();
            if waiting > 0 {
                tracing::warn!(
                    "{waiting} files in {} are due for upload since an earlier run; one with --auto-upload-to-s3 sends them, --reset-state forgets that",
                    desk.directory.display()
                );
            }
            return;
        };
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut wait = |is_over: fn(&Papers) -> bool| desk.wait_until(is_over, until, &mut alive);
        if until.is_some() {
            desk.papers().spool.close();
        }
        wait(|papers| papers.is_open);
        desk.papers().spool.try_again(Instant::now());
        desk.wake.notify_one();
        wait(|papers| papers.spool.is_at_rest(Instant::now()));
        if settings.with_tables {
            desk.papers().tables = tables.to_vec();
            desk.wake.notify_one();
            wait(|papers| papers.tables_on_their_way == 0 && (papers.tables.is_empty() || !papers.spool.has_store()));
        }
        desk.end(settings, patience.is_none());
    }

    /// What became of them so far.
    #[must_use]
    pub fn counts(&self) -> UploadCounts {
        let papers = self.0.papers();
        let (waiting, waiting_bytes) = (papers.spool.len() as u64, papers.spool.bytes());
        UploadCounts { waiting, waiting_bytes, ..papers.counts.clone() }
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

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, papers: MutexGuard<'a, Papers>) -> MutexGuard<'a, Papers> {
        self.bell.wait_timeout(papers, LOOK_EVERY).map_or_else(|error| error.into_inner().0, |(papers, _)| papers)
    }

    fn wait_until(&self, is_over: fn(&Papers) -> bool, until: Option<Instant>, alive: &mut impl FnMut()) {
        let mut said = Instant::now();
        let mut papers = self.papers();
        let goes_on = |papers: &Papers| papers.sender.as_ref().is_some_and(|sender| !sender.is_finished());
        while !is_over(&papers) && goes_on(&papers) && until.is_none_or(|until| Instant::now() < until) {
            alive();
            if said.elapsed() >= LINE_EVERY {
                said = Instant::now();
                tracing::info!("{} files ({} bytes) are still to be uploaded", papers.spool.len(), papers.spool.bytes());
            }
            papers = self.wait(papers);
        }
    }

    /// Has the thread that sends end. With `for_good` nothing stays that is to be deleted whatever became of its upload.
    fn end(&self, settings: &Settings, for_good: bool) {
        let mut papers = self.papers();
        papers.spool.close();
        papers.has_ended = true;
        let unsent_tables = papers.tables.len().saturating_add(papers.tables_on_their_way) as u64;
        if unsent_tables > 0 {
            tracing::error!("{unsent_tables} tables are not uploaded; the next run sends what they hold then");
            papers.counts.unsent_tables = papers.counts.unsent_tables.saturating_add(unsent_tables);
        }
        let sender = papers.sender.take();
        drop(papers);
        self.wake.notify_one();
        if sender.is_some_and(|sender| sender.join().is_err()) {
            tracing::error!("the thread that uploads has failed; what it has not sent waits for the next run");
        }
        if settings.cleanup == Cleanup::Always && for_good {
            let left = self.papers().spool.overflow(0);
            self.give_up(&mut self.papers(), left, "its upload failed, and --local-cleanup always keeps nothing");
        }
    }

    /// Deletes the oldest of what is due, where it is more than may wait for a store that fails. One that works takes it all.
    fn give_up_excess(&self, papers: &mut Papers) {
        let Some(settings) = &self.settings else { return };
        if settings.cleanup == Cleanup::Uploaded && !papers.spool.has_store() {
            let excess = papers.spool.overflow(settings.spool_max_bytes);
            self.give_up(papers, excess, "more was due for upload than --spool-max-bytes allows");
        }
    }

    fn give_up(&self, papers: &mut Papers, files: Vec<Due>, why: &str) {
        for due in files {
            tracing::error!("{} is deleted and is not at {}: {why}", due.file_name, due.to);
            papers.counts.lost = papers.counts.lost.saturating_add(1);
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

    /// Sends what is due, until the run ends.
    async fn serve(self: Arc<Self>, settings: Settings) {
        let begun = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ").to_string();
        let store = Arc::new(Store::new(settings.clone()).await);
        if settings.checks
            && let Err(trouble) = store.check(&settings.to).await
        {
            let why = trouble.at(&store.place(&settings.to)).to_string();
            match trouble {
                // They may be for the calls' files alone.
                Trouble::AccessDenied(_) => tracing::warn!("{why}; the calls' files are tried all the same"),
                _ => self.note_bad_store(&mut self.papers(), &why),
            }
        }
        self.papers().is_open = true;
        self.bell.notify_all();
        let mut sending = JoinSet::new();
        let mut tasks = HashMap::new();
        loop {
            let next_time = {
                let mut papers = self.papers();
                if papers.has_ended {
                    return;
                }
                while sending.len() < settings.concurrency
                    && let Some(task) = papers.next_task()
                {
                    let (path, to, name, len) = self.order(&task, &settings, &begun);
                    let store = Arc::clone(&store);
                    let handle = sending.spawn(async move { store.send(&path, &to, &name, len).await });
                    tasks.insert(handle.id(), task);
                }
                papers.spool.next_time()
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

    /// What is to be sent for a task: the file, where to, under which name, how many bytes.
    fn order(&self, task: &Task, settings: &Settings, begun: &str) -> (PathBuf, S3Uri, String, u64) {
        match task {
            Task::File(_, due) => (self.directory.join(&due.file_name), due.to.clone(), due.file_name.clone(), due.len),
            Task::Table(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
                let name = format!("{stem}_{begun}{ending}");
                (path.clone(), settings.to.clone(), name, 0)
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
                let mut papers = self.papers();
                papers.tables_on_their_way = papers.tables_on_their_way.saturating_sub(1);
                papers.counts.unsent_tables = papers.counts.unsent_tables.saturating_add(u64::from(sent.is_err()));
            }
        }
        self.bell.notify_all();
    }

    fn note_file(&self, store: &Store, number: u64, due: &Due, sent: Result<Sent, Trouble>) {
        let cleanup = self.settings.as_ref().map_or(Cleanup::Never, |settings| settings.cleanup);
        let trouble = match sent {
            Ok(sent) => {
                tracing::debug!(file = %due.file_name, bytes = due.len, before = sent == Sent::Before, "uploaded");
                // First the file: what is due no more is gone, or kept.
                if cleanup != Cleanup::Never {
                    self.delete(due);
                }
                let mut papers = self.papers();
                papers.count(sent, due.len);
                return papers.spool.settle(number);
            }
            Err(trouble) => trouble,
        };
        let why = trouble.at(&store.place(&due.to)).to_string();
        let mut papers = self.papers();
        if trouble.is_of_store() {
            self.note_bad_store(&mut papers, &why);
        }
        if cleanup == Cleanup::Always || trouble == Trouble::Missing {
            papers.spool.remove(number);
            self.give_up(&mut papers, vec![due.clone()], &why);
        } else if trouble.is_of_store() {
            papers.spool.put_back(number, Instant::now());
        } else {
            papers.spool.put_off(number, Instant::now());
            tracing::error!("{} is not uploaded: {why}; it stays, and is tried again", due.file_name);
        }
        // The oldest are among those that are on their way.
        if papers.spool.on_their_way() == 0 {
            self.give_up_excess(&mut papers);
        }
    }

    /// Says why nothing can be sent for now, once.
    fn note_bad_store(&self, papers: &mut Papers, why: &str) {
        if papers.spool.note_failure(Instant::now()) {
            tracing::error!("nothing can be uploaded for now: {why}; files wait in {}", self.directory.display());
        }
    }
}

impl Papers {
    fn next_task(&mut self) -> Option<Task> {
        if let Some((number, due)) = self.spool.take(Instant::now()) {
            return Some(Task::File(number, due));
        }
        let table = if self.spool.has_store() { self.tables.pop()? } else { return None };
        self.tables_on_their_way = self.tables_on_their_way.saturating_add(1);
        Some(Task::Table(table))
    }

    fn count(&mut self, sent: Sent, len: u64) {
        match sent {
            Sent::Now => {
                self.counts.sent = self.counts.sent.saturating_add(1);
                self.counts.sent_bytes = self.counts.sent_bytes.saturating_add(len);
            }
            Sent::Before => self.counts.there_before = self.counts.there_before.saturating_add(1),
        }
    }
}
