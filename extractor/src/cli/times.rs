//! Times as users type them: with a time zone, without one, or relative to now.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the clock and the zone of whoever types"
)]

use jiff::{
    Span, Timestamp, ZonedDateTime,
    civil::{Date, DateTime},
};

use crate::{find::query::Operator, selection::Named};

/// A time, and how it was understood where that is not plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) named: Named,
    pub(super) notice: Option<String>,
}

/// The end of a day that a date without a time stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Begin,
    End,
}

/// Reads the value of `--since`: a day counts from its beginning.
pub(super) fn since(text: &str) -> Result<Time, String> {
    read(text, Edge::Begin, &ZonedDateTime::now())
}

/// Reads the value of `--until`: a day counts to its end.
pub(super) fn until(text: &str) -> Result<Time, String> {
    read(text, Edge::End, &ZonedDateTime::now())
}

/// Reads a time that calls are compared with: a day lasts from its beginning to its end, so what is
/// after it is after its end.
pub(super) fn compared(text: &str, operator: Operator) -> Result<Timestamp, String> {
    let edge = match operator {
        Operator::Above | Operator::AtMost => Edge::End,
        _ => Edge::Begin,
    };
    read(text, edge, &ZonedDateTime::now()).map(|time| time.named.at)
}

fn read(text: &str, edge: Edge, now: &ZonedDateTime) -> Result<Time, String> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Time {
            named: Named::from(at),
            notice: None,
        });
    }
    let in_words = in_words(text, edge, now);
    let words = in_words.as_ref().map(|_| text.to_owned());
    let local = in_words.or_else(|| in_digits(text, edge, now));
    let local = local.ok_or_else(|| {
        format!("`{text}` is no time; write 2024-03-01T09:00:00Z (UTC), 2024-03-01T09:00:00+01:00, '2024-03-01 09:00' (local time), 2024-03-01, today, yesterday, or -2h")
    })??;
    let notice = format!(
        "{text} is taken as {}, local time ({:.0}); with Z behind a time it is UTC",
        local.strftime("%F %T %:z"),
        local.timestamp()
    );
    Ok(Time {
        named: Named {
            at: local.timestamp(),
            words,
        },
        notice: Some(notice),
    })
}

/// A moment that is another one later: a day by its name, or so long before now.
fn in_words(text: &str, edge: Edge, now: &ZonedDateTime) -> Option<Result<ZonedDateTime, String>> {
    let day = match text {
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        _ => None,
    };
    let long_ago = |span| now.checked_sub(span).map_err(|error| error.to_string());
    day.map(|date| of_day(date, edge, now))
        .or_else(|| back(text).map(long_ago))
}

/// A day, or a time of a day.
fn in_digits(text: &str, edge: Edge, now: &ZonedDateTime) -> Option<Result<ZonedDateTime, String>> {
    // A date without a time of day.
    if !text.contains([':', 'T', ' '])
        && let Ok(date) = text.parse()
    {
        return Some(of_day(date, edge, now));
    }
    let time = text.parse::<DateTime>().ok()?;
    let local = time.to_zoned_datetime(now.time_zone().clone());
    Some(local.map_err(|error| error.to_string()))
}

fn of_day(date: Date, edge: Edge, now: &ZonedDateTime) -> Result<ZonedDateTime, String> {
    let begin = |date: Date| {
        date.to_zoned_datetime(now.time_zone().clone())
            .map_err(|error| error.to_string())
    };
    match edge {
        Edge::Begin => begin(date),
        Edge::End => begin(date)?.end_of_day().map_err(|error| error.to_string()),
    }
}

/// Reads `-2h`, `-1h30m`, `-3d`: the time before now.
fn back(text: &str) -> Option<Span> {
    let amount = text
        .strip_prefix('-')
        .filter(|amount| amount.starts_with(|first: char| first.is_ascii_digit()))?;
    amount.parse().ok()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// In Berlin, in the morning after summer time has begun.
    fn read_at(text: &str, edge: Edge) -> Result<String, String> {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = "2024-03-31T10:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .to_zoned_datetime(zone);
        read(text, edge, &now).map(|time| {
            format!(
                "{}{}",
                time.named.at,
                if time.notice.is_some() {
                    " (local)"
                } else {
                    ""
                }
            )
        })
    }

    #[test]
    fn times_of_all_kinds() {
        for (text, want) in [
            ("2023-12-01T14:30:00Z", "2023-12-01T14:30:00Z"),
            ("2023-12-01T15:30:00+01:00", "2023-12-01T14:30:00Z"),
            ("2024-03-01 09:00Z", "2024-03-01T09:00:00Z"),
            ("2024-03-01 09:00", "2024-03-01T08:00:00Z (local)"),
            ("2024-03-01T09:00:00.5", "2024-03-01T08:00:00.5Z (local)"),
            ("2024-03-31 09:00", "2024-03-31T07:00:00Z (local)"),
            ("2024-03-31", "2024-03-30T23:00:00Z (local)"),
            ("today", "2024-03-30T23:00:00Z (local)"),
            ("yesterday", "2024-03-29T23:00:00Z (local)"),
            ("-2h", "2024-03-31T08:00:00Z (local)"),
            ("-1h30m", "2024-03-31T08:30:00Z (local)"),
            ("-1d", "2024-03-30T11:00:00Z (local)"),
        ] {
            assert_eq!(read_at(text, Edge::Begin).as_deref(), Ok(want), "{text}");
        }
        assert_eq!(
            read_at("today", Edge::End).unwrap(),
            "2024-03-31T21:59:59.999999999Z (local)"
        );
        assert_eq!(
            read_at("2024-03-30", Edge::End).unwrap(),
            "2024-03-30T22:59:59.999999999Z (local)"
        );
        for text in [
            "",
            "noon",
            "2h",
            "-",
            "--2h",
            "09:00",
            "2024-13-01",
            "-2 apples",
        ] {
            assert!(
                read_at(text, Edge::Begin)
                    .unwrap_err()
                    .contains("is no time"),
                "{text}"
            );
        }
    }
}
