//! What to say if no call has the Call-ID, or too many have.

use std::collections::BTreeSet;

use super::{
    Task,
    page::{Page, counted},
    sightings::Sightings,
};
use crate::{calls::Trace, counts::Counts, outputs::printable, survey::Survey};

/// The Call-IDs that are named.
const NAMED: usize = 3;
/// The longest part of a Call-ID that is compared, in bytes.
const COMPARED: usize = 256;

/// Says why no call was found, and what to try.
pub(super) fn tell(
    page: &mut Page,
    trace: &Trace,
    sightings: &Sightings,
    survey: &Survey,
    counts: &Counts,
    task: &Task,
) {
    let wanted = printable(task.wanted.text.as_bytes());
    page.wrapped("", &format!("No call has the Call-ID {wanted}."));
    if task.wanted.pattern.is_none() {
        page.wrapped(
            "* ",
            "The text is no regular expression, so it was compared as it is.",
        );
    }
    if !sightings.elsewhere.is_empty() {
        page.wrapped("* ", &elsewhere(sightings));
    } else if sightings.messages > 0 {
        let invites = if sightings.invites == 0 {
            "No INVITE is among them, so no call was opened: the capture has no beginning of the call, or this is no call (REGISTER, OPTIONS, SUBSCRIBE)."
        } else {
            "An INVITE is among them, but it cannot be read: it has no From or To, or was cut."
        };
        let messages = counted(sightings.messages, "message");
        page.wrapped(
            "* ",
            &format!("The capture has {messages} with it. {invites}"),
        );
    }
    let nearest = nearest(&trace.call_ids, task.wanted.text.as_bytes());
    if !nearest.is_empty() {
        page.wrapped("* ", "The nearest Call-IDs of calls are:");
        for call_id in nearest {
            page.line(&format!("    {}", printable(call_id)));
        }
    } else if !trace.call_ids.is_empty() {
        let calls = counted(trace.call_ids.len() as u64, "other Call-ID");
        page.wrapped(
            "* ",
            &format!(
                "The capture has calls with {calls}. Without explain, the program lists all calls in detected_calls.csv (--no-pcaps writes the tables only)."
            ),
        );
    } else if counts.elsewhere.is_empty() {
        page.wrapped("* ", "The capture has no call at all.");
    } else if sightings.elsewhere.is_empty() {
        let ports = &counts.elsewhere;
        page.wrapped("* ", &format!("{ports}; --sip-ports-range any finds them."));
    }
    for line in survey.told() {
        page.line(&format!("    {line}"));
    }
}

/// Says on which ports messages of the call are.
pub(super) fn elsewhere(sightings: &Sightings) -> String {
    let count = sightings
        .elsewhere
        .values()
        .fold(0u64, |sum, count| sum.saturating_add(*count));
    let ports: Vec<String> = sightings
        .elsewhere
        .keys()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    format!(
        "{} with this Call-ID, at port {}, outside --sip-ports-range. Type --sip-ports-range any to use them.",
        counted(count, "message"),
        ports.join(", ")
    )
}

/// Says that more calls match.
pub(super) fn tell_of_more(page: &mut Page, trace: &Trace) {
    if trace.beyond > 0 {
        page.blank();
        let more = counted(trace.beyond, "more call");
        page.wrapped(
            "",
            &format!("{more} matched: give a whole Call-ID, or a higher --most."),
        );
    }
}

/// The Call-IDs that share most pairs of letters with another one, the nearest first.
fn nearest<'a>(call_ids: &'a BTreeSet<Box<[u8]>>, wanted: &[u8]) -> Vec<&'a [u8]> {
    let pairs = |text: &[u8]| -> BTreeSet<[u8; 2]> {
        let text = text.get(..COMPARED).unwrap_or(text).to_ascii_lowercase();
        let next = text.iter().skip(1);
        text.iter()
            .zip(next)
            .map(|(one, next)| [*one, *next])
            .collect()
    };
    let of_wanted = pairs(wanted);
    let score = |call_id: &[u8]| {
        let of_it = pairs(call_id);
        let shared = of_it.intersection(&of_wanted).count();
        let all = of_it.len().saturating_add(of_wanted.len()).max(1);
        shared.saturating_mul(2000).checked_div(all).unwrap_or(0)
    };
    let mut scored: Vec<(usize, &[u8])> = call_ids
        .iter()
        .map(|call_id| (score(call_id), &**call_id))
        // Less than half of the pairs are no likeness.
        .filter(|(score, _)| *score >= 500)
        .collect();
    scored.sort_by(|(one, a), (other, b)| other.cmp(one).then(a.cmp(b)));
    scored
        .into_iter()
        .map(|(_, call_id)| call_id)
        .take(NAMED)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        let ids = ["abc-123@host", "abd-123@host", "zzz", "ABC-124@host"];
        let ids: BTreeSet<Box<[u8]>> = ids.iter().map(|id| id.as_bytes().into()).collect();
        let found = nearest(&ids, b"abc-12@host");
        assert_eq!(found[0], b"ABC-124@host");
        assert_eq!(found.len(), 3);
        assert!(nearest(&ids, b"").is_empty());
        assert!(nearest(&ids, b"q").is_empty());
    }
}
