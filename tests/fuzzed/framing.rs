//! Messages in a stream: lengths are within the bytes, and later bytes do not change a decision.

use sip_call_extractor::sip::{Message, SipUnit, find_start, message_len, next_start};

pub fn check(stream: &[u8]) {
    let unit = SipUnit::at_start_of(stream);
    let found = find_start(stream);
    bounds(stream, unit, found);
    for less in ends_of_interest(stream).map(|end| &stream[..end]) {
        let before = SipUnit::at_start_of(less);
        match (before, unit) {
            (SipUnit::Incomplete(_), _) => {}
            (SipUnit::Blank(before), SipUnit::Blank(now)) => assert!(before <= now),
            // A line whose end was missing.
            (SipUnit::Foreign(before), SipUnit::Foreign(now)) if before == less.len() => {
                assert!(before <= now);
            }
            _ => assert_eq!(
                before,
                unit,
                "with {} bytes, then with {}",
                less.len(),
                stream.len()
            ),
        }
        match (find_start(less), found) {
            (Ok(before), now) => assert_eq!(Ok(before), now),
            (Err(before), Ok(now) | Err(now)) => {
                assert!(before <= now, "nothing begins before {before}");
            }
        }
    }
}

fn bounds(stream: &[u8], unit: SipUnit, found: Result<usize, usize>) {
    match unit {
        SipUnit::Incomplete(needed) => assert!(needed > stream.len()),
        SipUnit::Message(len)
        | SipUnit::Unbounded(len)
        | SipUnit::Blank(len)
        | SipUnit::Handshake(len)
        | SipUnit::Foreign(len) => {
            assert!(len > 0 && len <= stream.len() || stream.is_empty());
        }
    }
    match unit {
        SipUnit::Message(len) => {
            assert_eq!(message_len(stream), Some(len));
            assert!(Message::parse(&stream[..len]).is_some());
        }
        SipUnit::Unbounded(header) => assert!(Message::parse(&stream[..header]).is_some()),
        _ => {}
    }
    if matches!(
        unit,
        SipUnit::Message(_) | SipUnit::Unbounded(_) | SipUnit::Handshake(_)
    ) {
        assert_eq!(found, Ok(0));
    }
    let (Ok(at) | Err(at)) = found;
    assert!(at <= stream.len());
    if found.is_ok() {
        assert!(at == 0 || stream[at - 1] == b'\n');
        assert_eq!(find_start(&stream[at..]), Ok(0));
        assert_eq!(next_start(stream, at), Some(at));
    }
}

/// Returns the offsets around line ends, and some others.
fn ends_of_interest(stream: &[u8]) -> impl Iterator<Item = usize> {
    let lines = stream
        .iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'\r' | b'\n' | b' '))
        .map(|(at, _)| at)
        .take(100);
    let around = lines.flat_map(|at| at.saturating_sub(1)..=at + 2);
    around
        .chain(0..12)
        .chain((0..stream.len()).step_by(stream.len() / 16 + 1))
        .filter(|end| *end <= stream.len())
}
