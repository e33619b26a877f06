//! The values that calls hold, by which other calls find them.

use std::{collections::hash_map, sync::Arc};

use serde::{Deserialize, Serialize};

use super::values::{MAX_LEN, Value};
use crate::events::Table;

/// The calls that hold a value: their number, or none, because it is a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    Shared(u64),
    Constant,
}

/// The known values.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct KnownValues {
    call_ids: Table<Arc<[u8]>, Entry>,
    others: Table<Value, Entry>,
    /// The number of values among `call_ids` with each length. Call-IDs of a network have few
    /// lengths, so most parts of a Call-ID need not be looked up.
    lens: Vec<u32>,
}

impl KnownValues {
    /// The entry of a value.
    pub(super) fn get(&self, value: &Value) -> Option<Entry> {
        match value {
            Value::CallId(bytes) => self.call_ids.get(bytes).copied(),
            _ => self.others.get(value).copied(),
        }
    }

    /// The entry of a Call-ID that is a part of another one.
    #[inline]
    pub(super) fn get_part(&self, part: &[u8]) -> Option<Entry> {
        if self.lens.get(part.len()).is_none_or(|count| *count == 0) {
            return None;
        }
        self.call_ids.get(part).copied()
    }

    /// Enters a value, in place of an entry that it has.
    pub(super) fn insert(&mut self, value: Value, entry: Entry) {
        let Value::CallId(bytes) = value else {
            self.others.insert(value, entry);
            return;
        };
        let len = bytes.len();
        if self.call_ids.insert(bytes, entry).is_none() && len <= MAX_LEN {
            if self.lens.len() <= len {
                self.lens.resize(len.saturating_add(1), 0);
            }
            if let Some(count) = self.lens.get_mut(len) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Removes a value, if it has this entry.
    pub(super) fn remove(&mut self, value: Value, entry: Entry) {
        let Value::CallId(bytes) = value else {
            if let hash_map::Entry::Occupied(known) = self.others.entry(value)
                && *known.get() == entry
            {
                known.remove();
            }
            return;
        };
        let len = bytes.len();
        if let hash_map::Entry::Occupied(known) = self.call_ids.entry(bytes)
            && *known.get() == entry
        {
            known.remove();
            if let Some(count) = self.lens.get_mut(len) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_as_long_as_they_are_known() {
        let mut known = KnownValues::default();
        let value = |text: &str| Value::CallId(text.as_bytes().into());
        known.insert(value("abc"), Entry::Shared(1));
        known.insert(value("xyz"), Entry::Constant);
        known.insert(value("abc"), Entry::Shared(2));
        assert_eq!(known.get_part(b"abc"), Some(Entry::Shared(2)));
        assert_eq!(known.get_part(b"ab"), None);
        known.remove(value("abc"), Entry::Shared(1));
        assert_eq!(known.get(&value("abc")), Some(Entry::Shared(2)));
        known.remove(value("abc"), Entry::Shared(2));
        assert_eq!(known.get_part(b"abc"), None);
        assert_eq!(known.get_part(b"xyz"), Some(Entry::Constant));
        known.remove(value("xyz"), Entry::Constant);
        assert_eq!(known.lens, [0; 4]);
        let long = "x".repeat(MAX_LEN + 1);
        known.insert(value(&long), Entry::Constant);
        assert_eq!(known.get(&value(&long)), Some(Entry::Constant));
    }
}
