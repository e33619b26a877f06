//! The value of a column, for the files that have types.

use serde::{Deserialize, Serialize};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Value {
    /// No value.
    Missing,
    /// Text off the wire, as it was sent.
    Sent(Vec<u8>),
    /// Text of this program, which has no characters that harm.
    Word(String),
    /// A number.
    Integer(u64),
    /// A decimal number with the digits that all outputs show: see `figures.rs`.
    Decimal(String),
    /// Nanoseconds since 1970.
    Time(u64),
    /// Yes or no.
    Flag(bool),
}

impl Value {
    /// Text off the wire that may be missing.
    pub(super) fn sent(bytes: Option<&[u8]>) -> Self {
        bytes.map_or(Self::Missing, |bytes| Self::Sent(bytes.to_vec()))
    }

    /// Text of this program that may be missing.
    pub(super) fn word(text: Option<impl ToString>) -> Self {
        text.map_or(Self::Missing, |text| Self::Word(text.to_string()))
    }

    /// A number that may be missing.
    pub(super) fn integer(number: Option<impl Into<u64>>) -> Self {
        number.map_or(Self::Missing, |number| Self::Integer(number.into()))
    }

    /// A decimal number that may be missing.
    pub(super) fn decimal(number: Option<impl ToString>) -> Self {
        number.map_or(Self::Missing, |number| Self::Decimal(number.to_string()))
    }

    /// Yes or no, if that is known.
    pub(super) fn flag(is_so: Option<bool>) -> Self {
        is_so.map_or(Self::Missing, Self::Flag)
    }

    /// Its size in memory, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        let text = match self {
            Self::Sent(bytes) => bytes.len(),
            Self::Word(text) | Self::Decimal(text) => text.len(),
            Self::Missing | Self::Integer(_) | Self::Time(_) | Self::Flag(_) => 0,
        };
        text.saturating_add(size_of::<Self>())
    }
}
