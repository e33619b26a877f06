//! Merges the frames of a call: those with SIP, and those of each claim.

use smallvec::SmallVec;

use super::settled::Reason;
use crate::moment::Moment;

/// More runs than this are sorted. Merging looks at each run for each frame, which beats sorting as
/// long as there are few: nearly all calls have two to five.
const MOST_MERGED: usize = 8;

/// Runs of frames. Each run is in capture order, unless packets came in fragments.
#[derive(Default)]
pub(super) struct Runs<'a> {
    /// The parts of all runs, one behind the other.
    parts: SmallVec<[Part<'a>; 32]>,
    runs: SmallVec<[Run<'a>; MOST_MERGED]>,
}

/// Frames for the same reason.
type Part<'a> = (&'a [Moment], Reason);

#[derive(Clone, Copy)]
struct Run<'a> {
    /// Its next frame, and `Moment::NEVER` at its end.
    next: Moment,
    /// The frames of its current part, beginning with the next.
    left: &'a [Moment],
    reason: Reason,
    /// The parts behind the current one: from `next_part` to `end`.
    next_part: usize,
    end: usize,
}

impl<'a> Runs<'a> {
    /// Adds a run, part by part.
    pub(super) fn add(&mut self, parts: impl IntoIterator<Item = Part<'a>>) {
        let mut run = Run {
            next: Moment::NEVER,
            left: &[],
            reason: Reason::Sip,
            next_part: self.parts.len(),
            end: 0,
        };
        self.parts.extend(parts);
        run.end = self.parts.len();
        run.advance(&self.parts);
        self.runs.push(run);
    }

    fn count(&self) -> usize {
        let lens = self.parts.iter().map(|(frames, _)| frames.len());
        lens.fold(0, usize::saturating_add)
    }

    /// All frames in capture order, each once, for the reason of the first run that has it.
    pub(super) fn merged(mut self) -> Vec<(Moment, Reason)> {
        if self.runs.len() > MOST_MERGED {
            return sorted(self.in_sequence());
        }
        let mut frames: Vec<(Moment, Reason)> = Vec::with_capacity(self.count());
        let mut last = Moment::NEVER;
        while let Some(run) = self.runs.iter_mut().min_by_key(|run| order(run.next))
            && run.next != Moment::NEVER
        {
            if run.next != last {
                last = run.next;
                frames.push((last, run.reason));
            }
            run.advance(&self.parts);
        }
        debug_assert!(frames.is_sorted_by(|(one, _), (next, _)| one < next));
        frames
    }

    /// All frames, run by run.
    pub(super) fn in_sequence(&self) -> Vec<(Moment, Reason)> {
        let mut frames = Vec::with_capacity(self.count());
        for (part, reason) in &self.parts {
            frames.extend(part.iter().map(|frame| (*frame, *reason)));
        }
        frames
    }
}

impl<'a> Run<'a> {
    #[inline]
    fn advance(&mut self, parts: &[Part<'a>]) {
        match self.left {
            [_, rest @ ..] if let Some(next) = rest.first() => {
                (self.next, self.left) = (*next, rest);
            }
            _ => self.begin_part(parts),
        }
    }

    /// Goes to the next part with a frame.
    fn begin_part(&mut self, parts: &[Part<'a>]) {
        (self.next, self.left) = (Moment::NEVER, &[]);
        while self.next_part < self.end
            && let Some((part, reason)) = parts.get(self.next_part)
        {
            self.next_part = self.next_part.saturating_add(1);
            if let Some(next) = part.first() {
                (self.next, self.left, self.reason) = (*next, part, *reason);
                return;
            }
        }
    }
}

/// The frames in capture order, each once, for the first of its reasons.
pub(super) fn sorted(mut frames: Vec<(Moment, Reason)>) -> Vec<(Moment, Reason)> {
    // Runs are sorted already, so the sort merges them. It is stable.
    frames.sort_by_key(|(moment, _)| *moment);
    frames.dedup_by_key(|(moment, _)| *moment);
    frames
}

/// A moment as one number, which sorts alike: two comparisons become one.
#[inline]
fn order(moment: Moment) -> u128 {
    u128::from(moment.clock) << 64 | u128::from(moment.position.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::packet;

    #[test]
    fn merging_gives_what_sorting_gives() {
        let part = proptest::collection::vec(0usize..40, 0..6);
        let run = proptest::collection::vec(part, 0..4);
        proptest::proptest!(|(drawn in proptest::collection::vec(run, 0..10))| {
            let runs: Vec<Vec<Vec<Moment>>> = drawn
                .iter()
                .map(|parts| {
                    let mut next = 0;
                    let ascend = |step: &usize| {
                        next += step + 1;
                        packet(next)
                    };
                    let mut moments = parts.iter().flatten().map(ascend).collect::<Vec<_>>().into_iter();
                    parts.iter().map(|part| moments.by_ref().take(part.len()).collect()).collect()
                })
                .collect();
            let mut merging = Runs::default();
            for (number, parts) in runs.iter().enumerate() {
                merging.add(parts.iter().map(|part| (part.as_slice(), Reason::Media(number, None))));
            }
            let want = sorted(merging.in_sequence());
            proptest::prop_assert_eq!(merging.merged(), want);
        });
    }
}
