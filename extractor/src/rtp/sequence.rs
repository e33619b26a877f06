//! Sequence numbers of a stream: what was expected, lost, late or repeated (RFC 3550, A.1 and A.3).

use serde::{Deserialize, Serialize};

/// A jump forward of this many numbers is a restart rather than a loss: RFC 3550, A.1.
const MAX_DROPOUT: u16 = 3000;
/// A number this far back is a restart rather than a late packet: RFC 3550, A.1.
const MAX_MISORDER: u16 = 100;
/// How far back received numbers are remembered. More than [`MAX_MISORDER`]: a single packet that is
/// later than that is no restart, and is still told apart from a duplicate.
const MEMORY: u64 = 1024;
const WORDS: usize = 16;

/// The sequence numbers of one stream, in the order of arrival.
///
/// Numbers are extended (RFC 3550, A.1) by counting cycles from 1, so that packets from before the
/// first one have numbers, too.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sequence {
    first: u64,
    highest: u64,
    /// One bit a number, for `highest - MEMORY + 1 ..= highest`; a number's place is its remainder.
    received: [u64; WORDS],
    /// A packet that jumped, until the next one tells what to make of it; and how often it came again.
    jumped: Option<(u16, u64)>,
    earlier_runs_expected: u64,
    distinct: u64,
    out_of_order: u64,
    duplicates: u64,
}

/// What the numbers add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Highest number minus first plus 1, over all runs.
    pub expected: u64,
    /// Expected minus distinct numbers received.
    pub lost: u64,
    /// Packets, not duplicates, below the highest number at their arrival.
    pub out_of_order: u64,
    /// Packets whose number had been received before.
    pub duplicates: u64,
}

impl Sequence {
    /// A stream that begins with this number.
    #[must_use]
    pub fn new(first: u16) -> Self {
        let mut sequence = Self {
            first: 0,
            highest: 0,
            received: [0; WORDS],
            jumped: None,
            earlier_runs_expected: 0,
            distinct: 0,
            out_of_order: 0,
            duplicates: 0,
        };
        sequence.begin_run(first);
        sequence
    }

    /// Takes in the next packet.
    #[inline]
    pub fn push(&mut self, number: u16) {
        if let Some((jumped, copies)) = self.jumped.take() {
            if number == jumped {
                self.jumped = Some((jumped, copies.saturating_add(1)));
                return;
            }
            if number == jumped.wrapping_add(1) {
                self.earlier_runs_expected = self.earlier_runs_expected.saturating_add(self.run_expected());
                self.begin_run(jumped);
                self.duplicates = self.duplicates.saturating_add(copies);
            } else {
                self.settle(jumped, copies);
            }
        }
        let ahead = number.wrapping_sub(self.highest_number());
        let back = ahead.wrapping_neg();
        if ahead == 0 {
            self.duplicates = self.duplicates.saturating_add(1);
        } else if ahead < MAX_DROPOUT {
            self.advance(ahead);
        } else if back < MAX_MISORDER {
            self.late(back);
        } else {
            self.jumped = Some((number, 0));
        }
    }

    /// What it adds up to so far; a jump that nothing confirmed is no restart.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut settled = *self;
        if let Some((jumped, copies)) = settled.jumped.take() {
            settled.settle(jumped, copies);
        }
        let expected = settled.earlier_runs_expected.saturating_add(settled.run_expected());
        Totals {
            expected,
            lost: expected.saturating_sub(settled.distinct),
            out_of_order: settled.out_of_order,
            duplicates: settled.duplicates,
        }
    }

    fn begin_run(&mut self, number: u16) {
        self.first = u64::from(number).saturating_add(1 << 16);
        self.highest = self.first;
        self.received = [0; WORDS];
        self.receive(self.first);
    }

    /// The next packet did not go on from the one that jumped: it was a single late one, or a stray
    /// that says nothing about the stream.
    fn settle(&mut self, jumped: u16, copies: u64) {
        let back = self.highest_number().wrapping_sub(jumped);
        if u64::from(back) < MEMORY {
            self.late(back);
        }
        self.duplicates = self.duplicates.saturating_add(copies);
    }

    fn advance(&mut self, ahead: u16) {
        let before = self.highest;
        self.highest = before.saturating_add(ahead.into());
        if u64::from(ahead) >= MEMORY {
            self.received = [0; WORDS];
        } else {
            for skipped in before.saturating_add(1)..self.highest {
                self.set(skipped, false);
            }
        }
        self.receive(self.highest);
    }

    fn late(&mut self, back: u16) {
        let number = self.highest.saturating_sub(back.into());
        if self.is_received(number) {
            self.duplicates = self.duplicates.saturating_add(1);
        } else {
            self.receive(number);
            self.out_of_order = self.out_of_order.saturating_add(1);
        }
    }

    fn receive(&mut self, number: u64) {
        self.set(number, true);
        self.distinct = self.distinct.saturating_add(1);
    }

    fn set(&mut self, number: u64, received: bool) {
        let (word, bit) = place(number);
        if let Some(word) = self.received.get_mut(word) {
            *word = if received { *word | bit } else { *word & !bit };
        }
    }

    fn is_received(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.received.get(word).is_some_and(|word| word & bit != 0)
    }

    fn run_expected(&self) -> u64 {
        self.highest.saturating_sub(self.first).saturating_add(1)
    }

    fn highest_number(&self) -> u16 {
        (self.highest & 0xffff) as u16
    }
}

/// The word and the bit that stand for a number.
fn place(number: u64) -> (usize, u64) {
    ((number % MEMORY / 64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(numbers: impl IntoIterator<Item = u16>) -> (u64, u64, u64, u64) {
        let mut numbers = numbers.into_iter();
        let mut sequence = Sequence::new(numbers.next().unwrap());
        numbers.for_each(|number| sequence.push(number));
        let Totals { expected, lost, out_of_order, duplicates } = sequence.totals();
        (expected, lost, out_of_order, duplicates)
    }

    #[test]
    fn by_hand() {
        for (what, numbers, want) in [
            ("one packet", vec![7], (1, 0, 0, 0)),
            ("all there", vec![1, 2, 3], (3, 0, 0, 0)),
            ("two lost", vec![1, 4], (4, 2, 0, 0)),
            ("wrap-around", vec![65_534, 65_535, 0, 1], (4, 0, 0, 0)),
            ("lost across the wrap-around", vec![65_534, 1], (4, 2, 0, 0)),
            ("reordered", vec![1, 3, 2, 4], (4, 0, 1, 0)),
            ("reordered across the wrap-around", vec![65_534, 0, 65_535, 1], (4, 0, 1, 0)),
            ("repeated at once", vec![1, 2, 2, 3], (3, 0, 0, 1)),
            ("repeated later", vec![1, 2, 3, 1], (3, 0, 0, 1)),
            ("late, then repeated", vec![1, 3, 2, 2, 4], (4, 0, 1, 1)),
            ("before the first", vec![5, 4, 6], (2, 0, 1, 0)),
            ("a jump that stays alone", vec![1, 2, 40_000, 3], (3, 0, 0, 0)),
            ("a jump at the end", vec![1, 2, 40_000], (2, 0, 0, 0)),
            ("restart forward", vec![1, 2, 40_000, 40_001], (4, 0, 0, 0)),
            ("restart back", vec![40_000, 40_001, 5, 6, 8], (6, 1, 0, 0)),
            ("restart, each packet twice", vec![1, 1, 40_000, 40_000, 40_001, 40_001], (3, 0, 0, 3)),
            ("restart that begins with 0", vec![500, 501, 0, 1, 2], (5, 0, 0, 0)),
            ("99 back is late", (1..=120).filter(|n| *n != 21).chain([21]).collect(), (120, 0, 1, 0)),
        ] {
            assert_eq!(totals(numbers), want, "{what}");
        }
    }

    #[test]
    fn a_single_packet_far_too_late_is_late() {
        let numbers = (1..=300).filter(|n| *n != 50).chain([50, 301, 50]);
        assert_eq!(totals(numbers), (301, 0, 1, 1));
    }

    #[test]
    fn losses_beyond_the_memory_are_losses() {
        assert_eq!(totals([0, 2999, 3000]), (3001, 2998, 0, 0));
        assert_eq!(totals([0, 3000]), (1, 0, 0, 0));
        assert_eq!(totals([0, 3000, 3001]), (3, 0, 0, 0));
    }

    #[test]
    fn many_cycles() {
        let numbers = (0..200_000u32).map(|n| (n % 65_536) as u16);
        assert_eq!(totals(numbers), (200_000, 0, 0, 0));
    }

    /// The definitions, taken literally over numbers that never jump.
    #[test]
    fn agrees_with_the_definitions() {
        proptest::proptest!(|(steps in proptest::collection::vec(-60i64..90, 1..200))| {
            let mut number = 100_000i64;
            let mut all = vec![number];
            let mut highest = number;
            for step in steps {
                number = (highest + step).max(highest - 90);
                highest = highest.max(number);
                all.push(number);
            }
            let mut seen = std::collections::BTreeSet::new();
            let (mut late, mut repeated, mut top) = (0, 0, i64::MIN);
            for &number in &all {
                if !seen.insert(number) { repeated += 1 } else if number < top { late += 1 }
                top = top.max(number);
            }
            let expected = (top - all[0] + 1) as u64;
            let lost = expected.saturating_sub(seen.len() as u64);
            let got = totals(all.iter().map(|n| (n & 0xffff) as u16));
            proptest::prop_assert_eq!(got, (expected, lost, late, repeated));
        });
    }
}
