//! Reads queries.
//!
//! The parser finds the parts of a query and where they stand; their meaning is checked behind it,
//! so an error can say which value a field expects.

use std::{fmt, ops::Range};

use winnow::{
    LocatingSlice, ModalResult, Parser,
    combinator::{alt, cut_err, delimited, eof, opt, preceded, repeat},
    error::{ContextError, ErrMode, StrContext, StrContextValue},
    token::{any, none_of, take_while},
};

use super::{
    Query, ReadTime,
    fields::{Condition, Field, Operator},
    words::{Word, is_of_word},
};

/// The deepest nesting of parentheses and `not`.
const MAX_DEPTH: usize = 64;

/// The reason why a text is no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    text: String,
    /// The place of the error, in bytes.
    at: usize,
    why: String,
}

/// The query, a mark below the place, and what was expected there.
impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.at).unwrap_or(&self.text);
        let column = before.chars().count();
        let plain = |text: &str| -> String {
            let plain = |char: char| if char.is_control() { ' ' } else { char };
            text.chars().map(plain).collect()
        };
        let (why, line) = (plain(&self.why), plain(&self.text));
        write!(
            f,
            "the query cannot be read: {why}\n  {line}\n  {:column$}^",
            ""
        )
    }
}

impl std::error::Error for QueryError {}

type Input<'a> = LocatingSlice<&'a str>;

/// A query as it is written.
enum Written<'a> {
    All(Vec<Written<'a>>),
    Any(Vec<Written<'a>>),
    Not(Box<Written<'a>>),
    Word(String),
    Is {
        field: (&'a str, Range<usize>),
        operator: (Operator, Range<usize>),
        value: (String, Range<usize>),
    },
}

pub(super) fn query(text: &str, time: ReadTime<'_>) -> Result<Query, QueryError> {
    let error = |at: usize, why: String| QueryError {
        text: text.to_owned(),
        at,
        why,
    };
    if text.trim().is_empty() {
        return Ok(Query::default());
    }
    if let Some(at) = too_deep(text) {
        return Err(error(at, "it is nested too deeply".to_owned()));
    }
    let whole = (
        blanks,
        any_of_all,
        eof.context(StrContext::Expected(DESCRIPTION_END)),
    )
        .map(|(_, query, _)| query)
        .parse(LocatingSlice::new(text));
    let written = whole.map_err(|failed| error(failed.offset(), expected(failed.inner())))?;
    meaning(written, time).map_err(|(at, why)| error(at, why))
}

/// The place where parentheses and `not` are nested too deeply.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut nots = 0usize;
    let mut is_quoted = false;
    for (at, char) in text.char_indices() {
        match char {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth = depth.saturating_add(1),
            ')' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        let rest = text.get(at..).unwrap_or_default();
        if rest
            .get(..3)
            .is_some_and(|word| word.eq_ignore_ascii_case("not"))
        {
            nots = nots.saturating_add(1);
        }
        if depth > MAX_DEPTH || nots > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

const DESCRIPTION_END: StrContextValue =
    StrContextValue::Description("`and`, `or`, a word, a condition, or the end");
const DESCRIPTION_TERM: StrContextValue =
    StrContextValue::Description("a word, a condition such as `status >= 400`, `not`, or `(`");
const DESCRIPTION_VALUE: StrContextValue =
    StrContextValue::Description("a value; quote one with blanks or signs: \"…\"");
const DESCRIPTION_QUOTE: StrContextValue = StrContextValue::Description("a closing `\"`");
const DESCRIPTION_PARENTHESIS: StrContextValue =
    StrContextValue::Description("`and`, `or`, a word, a condition, or `)`");

fn expected(error: &ContextError) -> String {
    let expected: Vec<String> = error
        .context()
        .filter_map(|context| match context {
            StrContext::Expected(value) => Some(value.to_string()),
            _ => None,
        })
        .collect();
    match expected.first() {
        Some(first) => format!("expected {first}"),
        None => format!("expected {DESCRIPTION_TERM}"),
    }
}

fn blanks(input: &mut Input<'_>) -> ModalResult<()> {
    take_while(0.., char::is_whitespace)
        .void()
        .parse_next(input)
}

/// `or` between terms binds less than `and`.
fn any_of_all<'a>(input: &mut Input<'a>) -> ModalResult<Written<'a>> {
    let first = all_of(input)?;
    let rest: Vec<Written<'a>> =
        repeat(0.., preceded((keyword("or"), blanks), cut_err(all_of))).parse_next(input)?;
    Ok(joined(first, rest, Written::Any))
}

/// Terms with `and` between them, or nothing.
fn all_of<'a>(input: &mut Input<'a>) -> ModalResult<Written<'a>> {
    let first = term(input)?;
    let next = alt((
        preceded((keyword("and"), blanks), cut_err(term)),
        not_or(term),
    ));
    let rest: Vec<Written<'a>> = repeat(0.., next).parse_next(input)?;
    Ok(joined(first, rest, Written::All))
}

/// A term that does not begin with `or`.
fn not_or<'a>(
    mut of: impl FnMut(&mut Input<'a>) -> ModalResult<Written<'a>>,
) -> impl FnMut(&mut Input<'a>) -> ModalResult<Written<'a>> {
    move |input| {
        let mut ahead = *input;
        if keyword("or").parse_next(&mut ahead).is_ok() {
            return Err(ErrMode::Backtrack(ContextError::new()));
        }
        of(input)
    }
}

fn joined<'a>(
    first: Written<'a>,
    mut rest: Vec<Written<'a>>,
    of: impl FnOnce(Vec<Written<'a>>) -> Written<'a>,
) -> Written<'a> {
    if rest.is_empty() {
        return first;
    }
    rest.insert(0, first);
    of(rest)
}

fn term<'a>(input: &mut Input<'a>) -> ModalResult<Written<'a>> {
    alt((negation, group, condition, single))
        .context(StrContext::Expected(DESCRIPTION_TERM))
        .parse_next(input)
}

fn negation<'a>(input: &mut Input<'a>) -> ModalResult<Written<'a>> {
    preceded((keyword("not"), blanks), cut_err(term))
        .map(|query| Written::Not(Box::new(query)))
        .parse_next(input)
}

fn group<'a>(input: &mut Input<'a>) -> ModalResult<Written<'a>> {
    let close = (')', blanks).context(StrContext::Expected(DESCRIPTION_PARENTHESIS));
    delimited(('(', blanks), cut_err(any_of_all), cut_err(close)).parse_next(input)
}

fn condition<'a>(input: &mut Input<'a>) -> ModalResult<Written<'a>> {
    let field = take_while(1.., is_of_word).with_span().parse_next(input)?;
    blanks(input)?;
    let operator = operator.with_span().parse_next(input)?;
    blanks(input)?;
    let value = cut_err(alt((quoted, bare)))
        .context(StrContext::Expected(DESCRIPTION_VALUE))
        .with_span()
        .parse_next(input)?;
    blanks(input)?;
    Ok(Written::Is {
        field,
        operator,
        value,
    })
}

fn operator(input: &mut Input<'_>) -> ModalResult<Operator> {
    let sign = |text: &'static str, operator: Operator| text.value(operator);
    alt((
        sign("!=", Operator::IsNot),
        sign("!~", Operator::HasNot),
        sign("<=", Operator::AtMost),
        sign(">=", Operator::AtLeast),
        sign("=", Operator::Is),
        sign("~", Operator::Has),
        sign("<", Operator::Below),
        sign(">", Operator::Above),
    ))
    .parse_next(input)
}

/// A word that stands for itself.
fn single<'a>(input: &mut Input<'a>) -> ModalResult<Written<'a>> {
    let mut ahead = *input;
    if ["and", "or", "not"]
        .into_iter()
        .any(|word| keyword(word).parse_next(&mut ahead).is_ok())
    {
        return Err(ErrMode::Backtrack(ContextError::new()));
    }
    let word = alt((quoted, bare)).parse_next(input)?;
    blanks(input)?;
    Ok(Written::Word(word))
}

fn bare(input: &mut Input<'_>) -> ModalResult<String> {
    take_while(1.., is_of_word)
        .map(str::to_owned)
        .parse_next(input)
}

/// A text in quotes; a backslash stands before a quote or a backslash that belongs to it.
fn quoted(input: &mut Input<'_>) -> ModalResult<String> {
    let char = alt((preceded('\\', any), none_of(['"', '\\'])));
    let close = '"'.context(StrContext::Expected(DESCRIPTION_QUOTE));
    delimited('"', repeat(0.., char), cut_err(close)).parse_next(input)
}

/// A word of the language, in any case, and nothing longer.
fn keyword<'a>(word: &'static str) -> impl Parser<Input<'a>, (), ErrMode<ContextError>> {
    (
        take_while(1.., is_of_word).verify(move |found: &str| found.eq_ignore_ascii_case(word)),
        opt(blanks),
    )
        .void()
}

/// True for a word that has a meaning of its own.
pub(super) fn is_keyword(text: &str) -> bool {
    ["and", "or", "not"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// The meaning, or the place of what has none, and why.
fn meaning(written: Written<'_>, time: ReadTime<'_>) -> Result<Query, (usize, String)> {
    Ok(match written {
        Written::All(all) => Query::All(meanings(all, time)?),
        Written::Any(any) => Query::Any(meanings(any, time)?),
        Written::Not(query) => Query::Not(Box::new(meaning(*query, time)?)),
        Written::Word(word) => Query::Word(Word::new(&word)),
        Written::Is {
            field: (name, field_at),
            operator: (operator, operator_at),
            value: (value, value_at),
        } => {
            let field = Field::named(name).ok_or_else(|| {
                let why = format!("`{name}` is no field; expected one of {}", Field::names());
                (field_at.start, why)
            })?;
            if !field.allows(operator) {
                let why = format!("`{name}` is compared with {}", field.operators());
                return Err((operator_at.start, why));
            }
            let condition = Condition::new(field, operator, &value, time);
            Query::Is(condition.map_err(|why| (value_at.start, why))?)
        }
    })
}

fn meanings(all: Vec<Written<'_>>, time: ReadTime<'_>) -> Result<Vec<Query>, (usize, String)> {
    let each = all.into_iter().map(|written| meaning(written, time));
    each.collect()
}
