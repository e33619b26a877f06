//! Objects that are read: their names, and the reasons why they cannot be.

use std::ops::Range;

use shared::s3_uri::S3Uri;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// The last part of its key.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    /// The bucket and the prefix.
    pub place: S3Uri,
    /// The last part of the key.
    pub name: String,
    /// The bytes.
    pub range: Range<u64>,
}

/// The reason why an object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// It does not exist.
    #[error("the object does not exist any more")]
    Gone,
    /// The store does not give it.
    #[error("{0}")]
    Store(String),
}
