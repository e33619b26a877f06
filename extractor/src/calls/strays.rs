//! SIP messages of no open call, remembered for a moment.
//!
//! Captures that are put together from several queues deliver a call's first answers ahead of its
//! INVITE, and some clients register with the Call-ID of the call that they make next. What came
//! shortly before the INVITE with its Call-ID is part of the story, and goes into the call's file.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    events::{Frames, Table},
    moment::{Clock, Moment, Position},
};

/// Strays by Call-ID.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Strays {
    messages: Table<Box<[u8]>, VecDeque<(Clock, Frames)>>,
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

    /// Remembers a message, unless its call closed a moment ago.
    pub fn add(&mut self, call_id: &[u8], at: Clock, frames: &Frames) {
        if self.closed.contains_key(call_id) {
            return;
        }
        self.messages.entry(call_id.into()).or_default().push_back((at, frames.clone()));
        self.order.push_back((at, call_id.into()));
    }

    /// Takes out the messages of a call that opens: how many there are, and their frames, in capture order.
    pub fn take(&mut self, call_id: &[u8]) -> (u64, Vec<Moment>) {
        let messages = self.messages.remove(call_id).unwrap_or_default();
        let mut frames: Vec<Moment> = messages.iter().flat_map(|(_, frames)| frames).copied().collect();
        frames.sort_unstable();
        frames.dedup();
        (messages.len() as u64, frames)
    }

    /// Visits their frames.
    pub fn for_each_frame(&self, visit: &mut impl FnMut(Position)) {
        // Each is known by its Call-ID and by when it came.
        let call_ids = self.order.iter().map(|(_, call_id)| call_id);
        let messages = call_ids.filter_map(|call_id| self.messages.get(call_id)).flatten();
        messages.flat_map(|(_, frames)| frames).for_each(|frame| visit(frame.position));
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
            if let Some(messages) = self.messages.get_mut(call_id) {
                // Its oldest, unless a call took it: then the ones that came since are younger.
                messages.pop_front_if(|(at, _)| *at < clock);
                if messages.is_empty() {
                    self.messages.remove(call_id);
                }
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(strays: &mut Strays, call_id: &[u8], at: Clock) {
        strays.add(call_id, at, &Frames::from_buf([Moment::at(at)]));
    }

    fn take(strays: &mut Strays, call_id: &[u8]) -> Vec<Moment> {
        strays.take(call_id).1
    }

    #[test]
    fn of_a_call_that_just_closed_are_not_for_the_next() {
        let mut strays = Strays::default();
        strays.close(b"a", 10);
        add(&mut strays, b"a", 11);
        assert!(take(&mut strays, b"a").is_empty());
        strays.forget_before(11);
        add(&mut strays, b"a", 12);
        assert_eq!(take(&mut strays, b"a"), [Moment::at(12)]);
    }

    #[test]
    fn are_kept_for_a_while_and_given_once() {
        let mut strays = Strays::default();
        for (call_id, clock) in [(b"a", 10), (b"b", 20), (b"a", 30)] {
            add(&mut strays, call_id, clock);
        }
        strays.forget_before(20);
        assert_eq!(take(&mut strays, b"a"), [Moment::at(30)]);
        assert!(take(&mut strays, b"a").is_empty());
        strays.forget_before(21);
        assert!(take(&mut strays, b"b").is_empty());
        strays.forget_before(31);
        assert!(strays.order.is_empty() && strays.messages.is_empty());
    }

    #[test]
    fn their_frames_are_in_capture_order_each_once() {
        let mut strays = Strays::default();
        let frames = |clocks: &[Clock]| clocks.iter().map(|clock| Moment::at(*clock)).collect::<Frames>();
        strays.add(b"a", 20, &frames(&[10, 20]));
        strays.add(b"a", 20, &frames(&[5, 20]));
        assert_eq!(strays.take(b"a"), (2, [5, 10, 20].map(Moment::at).to_vec()));
    }
}
