//! The state that an earlier run has left, and its use.

use anyhow::Result;

use crate::{
    calls::CallTable,
    config::Config,
    outputs::{
        Books, Directory, OutputSettings, Outputs,
        uploads::{UploadCounts, Uploads},
    },
    reassembly::Unfinished,
    source::Carried,
    state::{self, StateFile},
    terms::Terms,
};

/// The state with the types of this program.
pub type SavedState = state::State<CallTable, Unfinished, Books>;

/// The state that an earlier run has left.
#[derive(Debug)]
pub enum Resume {
    /// There is no state.
    Fresh,
    /// A run over the same files has read them all; only renames and uploads may be left.
    Finished(Box<SavedState>, Carried),
    /// An unfinished run, which continues.
    Continue(Box<SavedState>, Carried),
}

impl Resume {
    /// The terms and the output settings of the run that continues.
    #[must_use]
    pub fn settle(&self, terms: Terms, outputs: &OutputSettings) -> (Terms, OutputSettings) {
        match self {
            Self::Fresh => (terms, outputs.clone()),
            Self::Finished(state, _) | Self::Continue(state, _) => {
                terms.going_on(&state.terms, outputs)
            }
        }
    }

    /// Loads the state of the output directory, for a run on these `terms`. If a run on other terms
    /// was complete, publishes its files and forgets it.
    ///
    /// # Errors
    /// The state cannot be read, or belongs to another run that is not complete. Nothing has been
    /// changed.
    pub fn find(
        file: &StateFile,
        terms: &Terms,
        config: &Config,
        directory: &Directory,
        uploads: &Uploads,
    ) -> Result<Self> {
        let Some((state, carried)) = file.load::<CallTable, Unfinished, Books>()? else {
            return Ok(Self::Fresh);
        };
        let is_of_files = state.terms.files.is_some();
        if !is_of_files && terms.files.is_none() && state.checkpoint.is_closed() {
            // That run was complete: the known segments of the directories stay known, on other
            // terms.
            let published = publish(state, config, directory, uploads)?;
            return Ok(Self::Continue(Box::new(published), carried));
        }
        let is_done = is_of_files && state.checkpoint.left.is_empty();
        // A run without uploads does not continue for due files only.
        if is_done && (state.terms != *terms || state.books.has_due() && !uploads.are_wanted()) {
            publish(state, config, directory, uploads)?;
            // Only this state lists the due uploads, until there is another state.
            if uploads.is_empty() {
                file.remove()?;
            }
            return Ok(Self::Fresh);
        }
        terms.check(&state.terms)?;
        let state = Box::new(state);
        Ok(if is_done {
            Self::Finished(state, carried)
        } else {
            Self::Continue(state, carried)
        })
    }
}

/// Renames the files of a complete state to their final names.
fn publish(
    state: SavedState,
    config: &Config,
    directory: &Directory,
    uploads: &Uploads,
) -> Result<SavedState> {
    let settings = state.terms.named(&config.outputs);
    let mut outputs = Outputs::open(directory.try_clone()?, &settings, uploads.clone())?;
    outputs.resume(Some(state.books))?;
    Ok(SavedState {
        books: outputs.into_books(),
        ..state
    })
}

/// Publishes the files that the state has finished, and then removes the state.
pub fn give_up(file: &StateFile, config: &Config, directory: &Directory) {
    let publish = || -> Result<()> {
        if let Some((SavedState { books, terms, .. }, _)) = file.load()? {
            let given_up = Uploads::none(&config.outputs.directory);
            Outputs::open(
                directory.try_clone()?,
                &terms.named(&config.outputs),
                given_up.clone(),
            )?
            .resume(Some(books))?;
            let UploadCounts { waiting, .. } = given_up.counts();
            if waiting > 0 {
                tracing::warn!(
                    "{waiting} files were due for upload; they stay in {}",
                    config.outputs.directory.display()
                );
            }
        }
        Ok(())
    };
    if let Err(error) = publish() {
        tracing::warn!("files that the state had finished may not be complete: {error:#}");
    }
    if let Err(error) = file.remove() {
        tracing::warn!("{error:#}");
    }
}
