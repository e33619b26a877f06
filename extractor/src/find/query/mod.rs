//! The language of queries. `docs/find.md` has its grammar.
//!
//! A query is parsed, then each condition is checked against its field. It is asked twice: whether
//! a Call-ID whose words are known may be asked for, and whether a record is.

mod fields;
mod parse;
mod words;

use std::fmt;

use jiff::Timestamp;
use serde_json::Value as Json;

use self::fields::Condition;
pub use self::{
    fields::{Field, Operator},
    parse::QueryError,
    words::Word,
};

/// Reads a time, as users type it: what it is compared with decides whether a day counts from its
/// beginning or to its end.
pub type ReadTime<'a> = &'a dyn Fn(&str, Operator) -> Result<Timestamp, String>;

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// All of these are true.
    All(Vec<Query>),
    /// One of these is true.
    Any(Vec<Query>),
    /// It is not true.
    Not(Box<Query>),
    /// A word is a part of any field.
    Word(Word),
    /// A field has a value.
    Is(Condition),
}

impl Default for Query {
    /// All calls.
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Query {
    /// Reads a query; an empty one asks for all calls. `time` reads a time, which is compared like
    /// this.
    ///
    /// # Errors
    /// It is none; the error says where, and what was expected.
    pub fn parse(text: &str, time: ReadTime<'_>) -> Result<Self, QueryError> {
        parse::query(text, time)
    }

    /// True if a call with these words in one segment may be asked for.
    #[must_use]
    pub fn may_be_true_in(&self, words: &[u8]) -> bool {
        self.by_words(words, false) != Some(false)
    }

    /// True if a call with these words in all segments may be asked for.
    #[must_use]
    pub fn may_be_true_of(&self, words: &[u8]) -> bool {
        self.by_words(words, true) != Some(false)
    }

    /// The answer, as far as words tell. Those of one segment may have what one condition asks for,
    /// and those of another segment the rest: where they are not all (`is_whole`), one of several
    /// conditions is enough.
    fn by_words(&self, words: &[u8], is_whole: bool) -> Option<bool> {
        match self {
            Self::All(all) => {
                let answers = all
                    .iter()
                    .filter_map(|query| query.by_words(words, is_whole));
                let answers: Vec<bool> = answers.collect();
                let is_met = if is_whole {
                    answers.iter().all(|answer| *answer)
                } else {
                    answers.iter().any(|answer| *answer)
                };
                (!answers.is_empty()).then_some(is_met)
            }
            Self::Any(any) => {
                let answers = any.iter().map(|query| query.by_words(words, is_whole));
                let answers: Option<Vec<bool>> = answers.collect();
                answers.map(|answers| answers.contains(&true))
            }
            // A word that is missing here may be in another segment.
            Self::Not(_) => None,
            Self::Word(word) => Some(word.is_in(words)),
            Self::Is(condition) => condition.by_words(words),
        }
    }

    /// True of a call with this record, whose messages have these words.
    #[must_use]
    pub fn is_true_of(&self, record: &Json, words: &[u8]) -> bool {
        match self {
            Self::All(all) => all.iter().all(|query| query.is_true_of(record, words)),
            Self::Any(any) => any.iter().any(|query| query.is_true_of(record, words)),
            Self::Not(query) => !query.is_true_of(record, words),
            Self::Word(word) => word.is_in(words),
            Self::Is(condition) => condition.is_true_of(record, words),
        }
    }

    /// The first field of the query that only media gives.
    #[must_use]
    pub fn field_of_media(&self) -> Option<Field> {
        match self {
            Self::All(queries) | Self::Any(queries) => {
                queries.iter().find_map(Self::field_of_media)
            }
            Self::Not(query) => query.field_of_media(),
            Self::Word(_) => None,
            Self::Is(condition) => Some(condition.field()).filter(|field| field.is_of_media()),
        }
    }
}

/// The query, as it is typed: what is printed parses to the same.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |f: &mut fmt::Formatter<'_>, queries: &[Self], between: &str| {
            for (number, query) in queries.iter().enumerate() {
                f.write_str(if number > 0 { between } else { "" })?;
                match query {
                    Self::All(_) | Self::Any(_) => write!(f, "({query})")?,
                    _ => write!(f, "{query}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(queries) => listed(f, queries, " and "),
            Self::Any(queries) => listed(f, queries, " or "),
            Self::Not(query) if matches!(**query, Self::All(_) | Self::Any(_)) => {
                write!(f, "not ({query})")
            }
            Self::Not(query) => write!(f, "not {query}"),
            Self::Word(word) => write!(f, "{word}"),
            Self::Is(condition) => write!(f, "{condition}"),
        }
    }
}

#[cfg(test)]
mod tests;
