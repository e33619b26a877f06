//! SIP messages: views lie in the message, and a missing end does not change how its beginning is
//! read.

use sip_call_extractor::sip::{Message, StartLine, tag, unfolded};

use super::place;

pub fn check(payload: &[u8]) {
    let Some(parsed) = Message::parse(payload) else {
        return;
    };
    let Ok(message) = parsed else {
        return prefixes(payload, |prefix| {
            assert!(
                !matches!(Message::parse(prefix), Some(Ok(_))),
                "no less makes more"
            );
        });
    };
    assert!(!message.call_id.is_empty());
    for view in [message.call_id, message.from, message.to, message.branch] {
        place(payload, view);
        assert!(!unfolded(view).contains(&b'\n'));
    }
    for end in [message.from, message.to] {
        if let Some(tag) = tag(end) {
            place(end, tag);
        }
    }
    if let StartLine::Status(code) = message.start {
        assert!((100..1000).contains(&code));
    }
    prefixes(payload, |prefix| {
        let Some(Ok(less)) = Message::parse(prefix) else {
            return;
        };
        assert_eq!(
            (less.start, less.call_id, less.from, less.to),
            (message.start, message.call_id, message.from, message.to)
        );
        assert!(less.cseq.is_none() || less.cseq == message.cseq);
        assert!(less.branch.is_empty() || less.branch == message.branch);
        assert!(less.vias <= message.vias);
    });
}

/// Checks the message without its last fields, one less each time.
fn prefixes(payload: &[u8], mut check: impl FnMut(&[u8])) {
    let is_continued = |at: usize| matches!(payload.get(at), Some(b' ' | b'\t'));
    let ends = payload
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1);
    ends.filter(|end| !is_continued(*end))
        .take(64)
        .for_each(|end| check(&payload[..end]));
}
