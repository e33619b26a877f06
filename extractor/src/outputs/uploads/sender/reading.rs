//! Reads objects: lists a prefix, and gets parts of objects, several at a time.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the S3 store, and the clock of network timeouts"
)]

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use shared::s3_uri::S3Uri;
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    runtime,
    store::{ATTEMPTS, PART, Store},
    trouble::{Trouble, causes},
};
use crate::outputs::uploads::{ObjectError, ObjectPart, StoredObject, UploadSettings};

/// The pause before a part is asked for again; it is longer with each attempt.
const PAUSE: Duration = Duration::from_millis(150);

/// The most objects of a listing.
const MAX_LISTED: usize = 4_000_000;

/// A client that reads objects. It waits for the store: several threads may do so at once.
pub struct ObjectReader {
    runtime: Runtime,
    store: Arc<Store>,
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").finish_non_exhaustive()
    }
}

impl ObjectReader {
    /// A client, without a request.
    ///
    /// # Errors
    /// The async runtime cannot start.
    pub fn new(settings: UploadSettings) -> Result<Self> {
        let runtime = runtime()?;
        let store = Arc::new(runtime.block_on(Store::new(settings)));
        Ok(Self { runtime, store })
    }

    /// The objects directly below a prefix, by name.
    ///
    /// # Errors
    /// The store cannot be asked, or refuses.
    pub fn list(&self, place: &S3Uri) -> Result<Vec<StoredObject>> {
        match self.runtime.block_on(self.list_all(place)) {
            Ok(objects) => Ok(objects),
            Err(trouble) => bail!("{place} cannot be listed: {}", self.says(&trouble, place)),
        }
    }

    async fn list_all(&self, place: &S3Uri) -> Result<Vec<StoredObject>, Trouble> {
        let mut objects = Vec::new();
        let mut next = None;
        loop {
            let list = self.store.client().list_objects_v2();
            let list = list
                .bucket(&place.bucket)
                .prefix(&place.prefix)
                .delimiter("/")
                .set_continuation_token(next);
            let listed = match timeout(self.store.time_for(0), list.send()).await {
                Ok(Ok(listed)) => listed,
                Ok(Err(error)) => return Err(self.store.explain(Trouble::of(&error)).await),
                Err(_) => return Err(self.store.explain(Trouble::TooSlow).await),
            };
            objects.extend(named(&listed, place));
            next = listed.next_continuation_token;
            if next.is_none() || objects.len() > MAX_LISTED {
                objects.sort_by(|one: &StoredObject, other| one.name.cmp(&other.name));
                return Ok(objects);
            }
        }
    }

    /// Gets parts of objects, several at a time, in pieces of some MiB. `take` gets each piece with
    /// the number of its part, and its offset in the object.
    ///
    /// # Errors
    /// A part cannot be read; its number comes with the error. Or `take` fails.
    pub fn get<E>(
        &self,
        parts: &[ObjectPart],
        mut take: impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, (usize, ObjectError)> {
        let pieces = parts.iter().enumerate().flat_map(|(number, part)| {
            let step = usize::try_from(PART).unwrap_or(usize::MAX);
            let starts = part.range.clone().step_by(step);
            starts.map(move |start| {
                let end = part.range.end.min(start.saturating_add(PART));
                let piece = ObjectPart {
                    range: start..end,
                    ..part.clone()
                };
                (number, piece)
            })
        });
        self.runtime.block_on(async {
            let mut getting = JoinSet::new();
            let mut done = |(number, got): (usize, Result<(u64, Vec<u8>), ObjectError>)| match got {
                Ok((start, bytes)) => Ok(take(number, start, &bytes)),
                Err(error) => Err((number, error)),
            };
            for (number, piece) in pieces {
                let len = piece.range.end.saturating_sub(piece.range.start);
                let store = Arc::clone(&self.store);
                // The turn is taken here, so that few pieces are under way.
                let turn = store.turn(len).await;
                getting.spawn(async move {
                    let got = get_piece(&store, &piece).await;
                    drop(turn);
                    (number, got.map(|bytes| (piece.range.start, bytes)))
                });
                while let Some(Ok(got)) = getting.try_join_next() {
                    if let Err(error) = done(got)? {
                        return Ok(Err(error));
                    }
                }
            }
            while let Some(got) = getting.join_next().await {
                let lost =
                    |error: tokio::task::JoinError| (0, Err(ObjectError::Store(error.to_string())));
                if let Err(error) = done(got.unwrap_or_else(lost))? {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })
    }

    fn says(&self, trouble: &Trouble, place: &S3Uri) -> String {
        let location = self.store.location(place);
        trouble.at_reading(&location).to_string()
    }
}

/// The objects of a part of a listing. Those without a name are folders.
fn named(listed: &ListObjectsV2Output, place: &S3Uri) -> impl Iterator<Item = StoredObject> {
    listed.contents().iter().filter_map(|object| {
        let name = object.key()?.strip_prefix(&place.prefix)?;
        let len = u64::try_from(object.size()?).ok()?;
        (!name.is_empty()).then(|| StoredObject {
            name: name.to_owned(),
            len,
        })
    })
}

/// Gets a piece of an object. The client asks again where a request fails; where a response breaks
/// off, this does.
async fn get_piece(store: &Store, piece: &ObjectPart) -> Result<Vec<u8>, ObjectError> {
    let mut attempt: u32 = 1;
    loop {
        let len = piece.range.end.saturating_sub(piece.range.start);
        let got = timeout(store.time_for(len), get_once(store, piece)).await;
        let trouble = match got.unwrap_or(Err(Trouble::TooSlow)) {
            Ok(bytes) => return Ok(bytes),
            Err(Trouble::Missing) => return Err(ObjectError::Gone),
            Err(trouble) => trouble,
        };
        let may_pass = matches!(
            trouble,
            Trouble::Unreachable(_) | Trouble::TooSlow | Trouble::Overloaded(_) | Trouble::Garbled
        );
        if attempt >= ATTEMPTS || !may_pass {
            let trouble = store.explain(trouble).await;
            let location = store.location(&piece.place);
            return Err(ObjectError::Store(
                trouble.at_reading(&location).to_string(),
            ));
        }
        sleep(PAUSE.saturating_mul(attempt)).await;
        attempt = attempt.saturating_add(1);
    }
}

async fn get_once(store: &Store, piece: &ObjectPart) -> Result<Vec<u8>, Trouble> {
    let ObjectPart { place, name, range } = piece;
    // RFC 9110, section 14.1.2: the last byte is included.
    let last = range.end.saturating_sub(1);
    let get = store
        .client()
        .get_object()
        .bucket(&place.bucket)
        .key(place.key(name))
        .range(format!("bytes={}-{last}", range.start));
    let got = get.send().await.map_err(|error| {
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        match Trouble::of(&error) {
            trouble @ Trouble::NoSuchBucket => trouble,
            // RFC 9110, section 15.5.17: an object that is shorter now is another one.
            _ if matches!(status, Some(404 | 416)) => Trouble::Missing,
            trouble => trouble,
        }
    })?;
    let mut body = got.body;
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(len);
    while let Some(more) = body.next().await {
        let more = more.map_err(|error| Trouble::Unreachable(causes(&error)))?;
        if bytes.len().saturating_add(more.len()) > len {
            return Err(Trouble::Garbled);
        }
        bytes.extend_from_slice(&more);
    }
    if bytes.len() == len {
        Ok(bytes)
    } else {
        Err(Trouble::Garbled)
    }
}
