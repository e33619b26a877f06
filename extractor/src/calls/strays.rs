//! SIP messages of no open call, remembered for a moment.
//!
//! Captures that are put together from several queues deliver a call's first answers ahead of its
//! INVITE, and some clients register with the Call-ID of the call that they make next. What came
//! shortly before the INVITE with its Call-ID is part of the story, and goes into the call's file.

use std::collections::VecDeque;

use crate::{
    events::Table,
    moment::{Clock, Moment},
};

/// Frames of strays by Call-ID.
#[derive(Debug, Default)]
pub struct Strays {
    frames: Table<Box<[u8]>, VecDeque<Moment>>,
    order: VecDeque<(Clock, Box<[u8]>)>,
    /// Calls that closed a moment ago, and when: what comes of them now is their own, not the next call's.
    closed: Table<Box<[u8]>, Clock>,
    closed_order: VecDeque<(Clock, Box<[u8]>)>,
}

impl Strays {
    /// A call closed.
    pub fn close(&mut self, call_id: &[u8], at: Clock) {
        self.closed.insert(call_id.into(), at);
        self.closed_order.push_back((at, call_id.into()));
    }

    /// Remembers a frame, unless its call closed a moment ago.
    pub fn add(&mut self, call_id: &[u8], frame: Moment) {
        if self.closed.contains_key(call_id) {
            return;
        }
        self.frames.entry(call_id.into()).or_default().push_back(frame);
        self.order.push_back((frame.clock, call_id.into()));
    }

    /// Takes out the frames of a call that opens.
    pub fn take(&mut self, call_id: &[u8]) -> Vec<Moment> {
        self.frames.remove(call_id).unwrap_or_default().into()
    }

    /// Forgets what came before `clock`.
    pub fn forget_before(&mut self, clock: Clock) {
        while let Some((at, call_id)) = self.closed_order.pop_front_if(|(at, _)| *at < clock) {
            if self.closed.get(&call_id) == Some(&at) {
                self.closed.remove(&call_id);
            }
        }
        while let Some((oldest, call_id)) = self.order.front()
            && *oldest < clock
        {
            if let Some(frames) = self.frames.get_mut(call_id) {
                // Its oldest, unless a call took it: then the ones that came since are younger.
                frames.pop_front_if(|frame| frame.clock < clock);
                if frames.is_empty() {
                    self.frames.remove(call_id);
                }
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_call_that_just_closed_are_not_for_the_next() {
        let mut strays = Strays::default();
        strays.close(b"a", 10);
        strays.add(b"a", Moment::at(11));
        assert!(strays.take(b"a").is_empty());
        strays.forget_before(11);
        strays.add(b"a", Moment::at(12));
        assert_eq!(strays.take(b"a"), [Moment::at(12)]);
    }

    #[test]
    fn are_kept_for_a_while_and_given_once() {
        let mut strays = Strays::default();
        for (call_id, clock) in [(b"a", 10), (b"b", 20), (b"a", 30)] {
            strays.add(call_id, Moment::at(clock));
        }
        strays.forget_before(20);
        assert_eq!(strays.take(b"a"), [Moment::at(30)]);
        assert!(strays.take(b"a").is_empty());
        strays.forget_before(21);
        assert!(strays.take(b"b").is_empty());
        strays.forget_before(31);
        assert!(strays.order.is_empty() && strays.frames.is_empty());
    }
}
