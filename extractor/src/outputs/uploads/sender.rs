//! The thread that sends due files, with its own async runtime.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the clock of network timeouts"
)]

mod reading;
mod store;
mod trouble;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aws_config::{
    environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
    profile::ProfileFileRegionProvider,
};
use jiff::Timestamp;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    task::JoinSet,
};

pub use self::reading::ObjectReader;
use self::{
    store::{CAPTURE, InodeId, RECORDS, Sent, Store, TABLE, UploadOrder, file_at},
    trouble::Trouble,
};
use super::{Account, Cleanup, Due, Shared, UploadSettings};

/// The handle of the sending thread.
#[derive(Debug)]
pub(super) struct Sender {
    thread: JoinHandle<()>,
    /// Notified when the thread has a new task.
    new_task: Arc<Notify>,
}

/// The purpose of a task.
#[derive(Clone, Debug)]
enum Task {
    File(u64, Due),
    Table(PathBuf),
}

/// The number of failed files that the log names, so that a failing store does not fill the log.
const MAX_NAMED: u64 = 100;

impl Sender {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot start.
    pub(super) fn begin(shared: &Arc<Shared>, settings: UploadSettings) -> Result<Self> {
        let (shared, runtime, new_task) = (Arc::clone(shared), runtime()?, Arc::new(Notify::new()));
        let wake = Arc::clone(&new_task);
        let serve = move || {
            runtime.block_on(shared.serve(settings, &wake));
            // A file read or a name look-up may still be running; nothing needs its result.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new()
            .name("uploads".to_owned())
            .spawn(serve);
        Ok(Self {
            thread: thread.context("files cannot be uploaded: the upload thread cannot start")?,
            new_task,
        })
    }

    pub(super) fn wake(&self) {
        self.new_task.notify_one();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the thread. The caller sets `Account::has_ended` before.
    pub(super) fn join(self) -> thread::Result<()> {
        self.wake();
        self.thread.join()
    }
}

/// Checks whether objects can be put.
///
/// # Errors
/// They cannot; the error says why and what to do.
pub fn check(settings: UploadSettings) -> Result<()> {
    runtime()?.block_on(async {
        let to = settings.to.clone();
        let store = Store::new(settings).await;
        let checked = store.check(&to).await;
        checked.or_else(|trouble| bail!("{}", trouble.at(&store.location(&to))))
    })
}

/// The region in the environment (`AWS_REGION`, `AWS_DEFAULT_REGION`), or else in the profile.
#[must_use]
pub fn region() -> Option<String> {
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
    let chain = chain.or_else(ProfileFileRegionProvider::new());
    runtime()
        .ok()?
        .block_on(chain.region())
        .map(|region| region.to_string())
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the store cannot be used: the async runtime cannot start")
}

impl Shared {
    async fn has_ended(&self, wake: &Notify) {
        while !self.account().has_ended {
            wake.notified().await;
        }
    }

    /// Sends due files until the run ends.
    async fn serve(&self, settings: UploadSettings, wake: &Notify) {
        let begun = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ").to_string();
        let store = Arc::new(Store::new(settings.clone()).await);
        let check = async {
            if settings.checks {
                store.check(&settings.to).await
            } else {
                Ok(())
            }
        };
        let checked = tokio::select! {
            checked = check => checked,
            () = self.has_ended(wake) => return,
        };
        if let Err(trouble) = checked {
            let why = trouble.at(&store.location(&settings.to)).to_string();
            match trouble {
                // The credentials may be limited to the calls' files.
                Trouble::AccessDenied(_) => {
                    tracing::warn!("{why}; the uploads of the calls' files are tried nevertheless");
                }
                _ => self.note_bad_store(&mut self.account(), &why),
            }
        }
        self.account().is_open = true;
        self.task_ended.notify_all();
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
                account
                    .due_uploads
                    .next_time()
                    .filter(|_| sending.len() < settings.concurrency)
            };
            let far = Duration::from_secs(3600);
            let pause = next_time.map_or(far, |next| {
                next.saturating_duration_since(Instant::now()).min(far)
            });
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
                () = wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn order(&self, task: &Task, settings: &UploadSettings, begun: &str) -> UploadOrder {
        match task {
            Task::File(_, due) => UploadOrder {
                path: self.directory.join(&due.file_name),
                to: due.to.clone(),
                name: due.file_name.clone(),
                len: due.len,
                content_type: CAPTURE,
                replaces: settings.overwrite,
            },
            Task::Table(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let ending = path
                    .extension()
                    .map(|ending| format!(".{}", ending.to_string_lossy()))
                    .unwrap_or_default();
                let name = format!("{stem}_{begun}{ending}");
                let content_type = if ending == ".jsonl" { RECORDS } else { TABLE };
                UploadOrder {
                    path: path.clone(),
                    to: settings.to.clone(),
                    name,
                    len: 0,
                    content_type,
                    replaces: true,
                }
            }
        }
    }

    fn note(&self, store: &Store, task: Task, sent: Result<Sent, Trouble>) {
        match task {
            Task::File(number, due) => self.note_file(store, number, &due, sent),
            Task::Table(path) => {
                if let Err(trouble) = &sent {
                    let location = self
                        .settings
                        .as_ref()
                        .map(|settings| store.location(&settings.to));
                    let why = location
                        .map(|location| trouble.at(&location).to_string())
                        .unwrap_or_default();
                    tracing::error!(
                        "{} is not uploaded: {why}; the next run sends it, with the rows that it has by then",
                        path.display()
                    );
                }
                let mut account = self.account();
                account.tables_on_their_way = account.tables_on_their_way.saturating_sub(1);
                account.counts.unsent_tables = account
                    .counts
                    .unsent_tables
                    .saturating_add(u64::from(sent.is_err()));
            }
        }
        self.task_ended.notify_all();
    }

    fn note_file(&self, store: &Store, number: u64, due: &Due, sent: Result<Sent, Trouble>) {
        let mut account = self.account();
        match sent {
            Ok(sent) => {
                tracing::debug!(file = %due.file_name, bytes = due.len, was_there = sent.was_there, "uploaded");
                self.settle(&mut account, number, due, sent);
            }
            Err(trouble) => {
                let why = trouble.at(&store.location(&due.to)).to_string();
                self.note_trouble(&mut account, number, due, &trouble, &why);
            }
        }
    }

    fn settle(&self, account: &mut Account, number: u64, due: &Due, sent: Sent) {
        account.count(sent, due.len);
        if !account.due_uploads.settle(number, Instant::now()) {
            return;
        }
        account.settled.insert(due.file_name.clone());
        let deletes = self
            .settings
            .as_ref()
            .is_some_and(|settings| settings.cleanup != Cleanup::Never);
        // Another file may have this name by now, and not be due yet.
        let is_still_there = |file: &InodeId| {
            file_at(&self.directory.join(&due.file_name)).is_ok_and(|there| there == *file)
        };
        if deletes && sent.file.as_ref().is_some_and(is_still_there) {
            self.delete(due);
        }
    }

    fn note_trouble(
        &self,
        account: &mut Account,
        number: u64,
        due: &Due,
        trouble: &Trouble,
        why: &str,
    ) {
        let Some(settings) = &self.settings else {
            return;
        };
        // Trouble with the bucket of an earlier run, which may be misspelt, says nothing about this
        // run's bucket.
        let is_of_store = trouble.is_of_store() && due.to.bucket == settings.to.bucket;
        if is_of_store {
            // The store may refuse this object only.
            match trouble {
                Trouble::Refused(_) => {
                    self.note_bad_store(account, &format!("{}: {why}", due.file_name));
                }
                _ => self.note_bad_store(account, why),
            }
        }
        if account.due_uploads.begin_again(number, Instant::now()) {
            return;
        }
        if *trouble == Trouble::Missing {
            account.due_uploads.remove(number);
            account.settled.insert(due.file_name.clone());
            account.counts.lost = account.counts.lost.saturating_add(1);
            tracing::error!("{} is lost: {why}", due.file_name);
        } else if settings.cleanup == Cleanup::Always {
            account.due_uploads.remove(number);
            self.give_up(account, vec![due.clone()], why);
        } else if is_of_store {
            account.due_uploads.put_back(number, Instant::now());
        } else {
            account.due_uploads.put_off(number, Instant::now());
            account.named = account.named.saturating_add(1);
            match account.named {
                ..MAX_NAMED => tracing::error!(
                    "{} is not uploaded: {why}; it is kept, and tried again",
                    due.file_name
                ),
                MAX_NAMED => tracing::error!(
                    "{} is not uploaded: {why}; further files are only counted",
                    due.file_name
                ),
                _ => tracing::debug!("{} is not uploaded: {why}", due.file_name),
            }
        }
        if account.due_uploads.has_no_store() {
            self.give_up_excess(account);
        }
    }

    /// Logs once why nothing can be sent for now.
    fn note_bad_store(&self, account: &mut Account, why: &str) {
        if account.due_uploads.note_failure(Instant::now()) {
            tracing::error!(
                "nothing can be uploaded for now: {why}; files wait in {}",
                self.directory.display()
            );
        }
    }
}

impl Account {
    fn next_task(&mut self) -> Option<Task> {
        if let Some((number, due)) = self.due_uploads.take(Instant::now()) {
            return Some(Task::File(number, due));
        }
        let table = if self.due_uploads.has_store() {
            self.tables.pop()?
        } else {
            return None;
        };
        self.tables_on_their_way = self.tables_on_their_way.saturating_add(1);
        Some(Task::Table(table))
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
