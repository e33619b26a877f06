//! What becomes of what an earlier run left.

use anyhow::Result;

use crate::{
    calls::CallTable,
    config::Config,
    outputs::{
        Books, Directory, Outputs, Settings,
        uploads::{UploadCounts, Uploads},
    },
    reassembly::Unfinished,
    source::Carried,
    state::{self, StateFile},
    terms::Terms,
};

/// A state as it is read.
pub type State = state::State<CallTable, Unfinished, Books>;

/// What an earlier run left.
#[derive(Debug)]
pub enum Resume {
    /// Nothing.
    Fresh,
    /// A run over the same files had done all of it; only files may have to be given their names,
    /// or to be uploaded.
    Finished(Box<State>, Carried),
    /// Something to be gone on with.
    Continue(Box<State>, Carried),
}

impl Resume {
    /// The terms and the outputs of a run that goes on like this.
    #[must_use]
    pub fn settle(&self, terms: Terms, outputs: &Settings) -> (Terms, Settings) {
        match self {
            Self::Fresh => (terms, outputs.clone()),
            Self::Finished(state, _) | Self::Continue(state, _) => {
                terms.going_on(&state.terms, outputs)
            }
        }
    }

    /// Finds out what is left in the output directory, for a run on these `terms`. What a run on
    /// other terms had finished is published, and forgotten.
    ///
    /// # Errors
    /// The state cannot be read, or is that of another run that is not finished. Nothing was
    /// changed then.
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
            // All was done of what there was: what is known of the directories goes on, on other
            // terms.
            let published = publish(state, config, directory, uploads)?;
            return Ok(Self::Continue(Box::new(published), carried));
        }
        let is_done = is_of_files && state.checkpoint.left.is_empty();
        // A run that uploads nothing does not go on for the sake of what is due.
        if is_done && (state.terms != *terms || state.books.has_due() && !uploads.are_wanted()) {
            publish(state, config, directory, uploads)?;
            // What is due for upload is nowhere else, until there is another state.
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

/// Gives the files of a state that is done the names that they have there.
fn publish(
    state: State,
    config: &Config,
    directory: &Directory,
    uploads: &Uploads,
) -> Result<State> {
    let settings = state.terms.named(&config.outputs);
    let mut outputs = Outputs::open(directory.try_clone()?, &settings, uploads.clone())?;
    outputs.resume(Some(state.books))?;
    Ok(State {
        books: outputs.into_books(),
        ..state
    })
}

/// Removes the state, but not before what was finished by it is published.
pub fn give_up(file: &StateFile, config: &Config, directory: &Directory) {
    let publish = || -> Result<()> {
        if let Some((State { books, terms, .. }, _)) = file.load()? {
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
        tracing::warn!("what the state had finished may not be complete: {error:#}");
    }
    if let Err(error) = file.remove() {
        tracing::warn!("{error:#}");
    }
}
