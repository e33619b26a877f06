//! Captures in input directories: names and order, listings, identities, and the treatment after
//! processing.

mod afterwards;
mod identity;
mod listing;
mod names;
#[cfg(test)]
mod testing;

pub use self::{
    afterwards::{AfterProcessing, Applied},
    identity::{ContentHash, ContentHasher, Identity, content, content_of, identity},
    listing::{FileId, Listed, Listing, directory_of, list, list_usable, part_begins, whole_path},
    names::{Order, Series, capture_order, is_capture_name, is_named},
};
