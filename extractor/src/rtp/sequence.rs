//! Sequence numbers of a stream: expected, lost, late and duplicate packets (RFC 3550, A.1 and
//! A.3).

use serde::{Deserialize, Serialize};

/// A jump forward of this many numbers is a restart rather than a loss: RFC 3550, A.1.
const MAX_DROPOUT: u16 = 3000;
/// A number this far back is a restart rather than a late packet: RFC 3550, A.1.
const MAX_MISORDER: u16 = 100;
/// The number of received numbers that are remembered. It is more than [`MAX_MISORDER`], because a
/// single packet that is later than that is not a restart, and must be distinguished from a
/// duplicate.
const MEMORY: u64 = 1024;
/// The words of the bitmap. One more than [`MEMORY`] needs: the word of the highest number has room
/// for higher ones.
const WORDS: u64 = MEMORY / 64 + 1;

/// The sequence numbers of one stream, in the order of arrival.
///
/// Numbers are extended (RFC 3550, A.1) with a cycle count that begins with 1, so a packet from
/// before the first one has a number, too. A late packet may extend a run downwards.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sequence {
    /// The lowest number of the run: that of its first packet, or of a late packet from before it.
    lowest: u64,
    highest: u64,
    /// One bit for each number in `highest - MEMORY + 1 ..= highest` at least; the bit's index is
    /// the number modulo the size of the bitmap.
    received: [u64; WORDS as usize],
    /// The losses among the numbers that are too old to arrive any more.
    bursts: Bursts,
    /// A packet whose number jumped, until the next packet decides between restart and stray; and
    /// the number of its duplicates.
    jumped: Option<(u16, u64)>,
    earlier_runs_expected: u64,
    distinct: u64,
    out_of_order: u64,
    duplicates: u64,
}

/// Bursts: consecutive numbers that never arrived.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Bursts {
    count: u64,
    longest: u64,
    /// The length of the burst that has not ended yet.
    current: u64,
}

impl Bursts {
    /// Adds the next number, received or lost.
    fn push(&mut self, is_received: bool) {
        if is_received {
            self.current = 0;
            return;
        }
        self.count = self.count.saturating_add(u64::from(self.current == 0));
        self.current = self.current.saturating_add(1);
        self.longest = self.longest.max(self.current);
    }
}

/// A witness of what becomes of each number. `()` looks at nothing, and costs nothing.
pub(super) trait Witness {
    /// A run began with a packet.
    fn begin_run(&mut self);
    /// A packet raised the highest number by this much.
    fn advance(&mut self, ahead: u64);
    /// A packet came late: `back` behind the highest number, and `below` below the lowest of the
    /// run until then.
    fn late(&mut self, back: u64, below: u64);
}

impl Witness for () {
    #[inline]
    fn begin_run(&mut self) {}

    #[inline]
    fn advance(&mut self, _ahead: u64) {}

    #[inline]
    fn late(&mut self, _back: u64, _below: u64) {}
}

/// The totals of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Highest number minus lowest plus 1, over all runs.
    pub expected: u64,
    /// Expected minus distinct numbers received.
    pub lost: u64,
    /// Packets, not duplicates, below the highest number at their arrival.
    pub out_of_order: u64,
    /// Packets whose number had been received before.
    pub duplicates: u64,
    /// Bursts: the number of runs of consecutive lost packets.
    pub bursts: u64,
    /// The longest burst, in packets.
    pub longest_burst: u64,
}

impl Sequence {
    /// A stream that begins with this number.
    #[must_use]
    pub fn new(first: u16) -> Self {
        let mut sequence = Self {
            lowest: 0,
            highest: 0,
            received: [0; WORDS as usize],
            bursts: Bursts::default(),
            jumped: None,
            earlier_runs_expected: 0,
            distinct: 0,
            out_of_order: 0,
            duplicates: 0,
        };
        sequence.begin_run(first);
        sequence
    }

    /// Adds the next packet.
    #[inline]
    pub fn push(&mut self, number: u16) {
        self.push_seen(number, &mut ());
    }

    /// The same before a witness.
    #[inline]
    pub(super) fn push_seen(&mut self, number: u16, witness: &mut impl Witness) {
        if let Some((jumped, copies)) = self.jumped.take() {
            if number == jumped {
                self.jumped = Some((jumped, copies.saturating_add(1)));
                return;
            }
            if number == jumped.wrapping_add(1) {
                self.earlier_runs_expected = self
                    .earlier_runs_expected
                    .saturating_add(self.run_expected());
                self.end_run();
                self.begin_run(jumped);
                witness.begin_run();
                self.duplicates = self.duplicates.saturating_add(copies);
            } else {
                self.settle(jumped, copies, witness);
            }
        }
        let ahead = number.wrapping_sub(self.highest_number());
        let back = ahead.wrapping_neg();
        if ahead == 0 {
            self.duplicates = self.duplicates.saturating_add(1);
        } else if ahead < MAX_DROPOUT {
            self.advance(ahead);
            witness.advance(ahead.into());
        } else if back < MAX_MISORDER {
            self.late(back, witness);
        } else {
            self.jumped = Some((number, 0));
        }
    }

    /// The totals so far; a jump without confirmation is not a restart.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut settled = self.settled(&mut ());
        let expected = settled
            .earlier_runs_expected
            .saturating_add(settled.run_expected());
        settled.end_run();
        Totals {
            expected,
            lost: expected.saturating_sub(settled.distinct),
            out_of_order: settled.out_of_order,
            duplicates: settled.duplicates,
            bursts: settled.bursts.count,
            longest_burst: settled.bursts.longest,
        }
    }

    /// The numbers when no packet follows: a jump without confirmation is not a restart.
    pub(super) fn settled(&self, witness: &mut impl Witness) -> Self {
        let mut settled = *self;
        if let Some((jumped, copies)) = settled.jumped.take() {
            settled.settle(jumped, copies, witness);
        }
        settled
    }

    /// The first sequence number since the last restart, and the number of packets expected since
    /// then.
    #[must_use]
    pub fn run(&self) -> (u16, u64) {
        ((self.lowest & 0xffff) as u16, self.run_expected())
    }

    fn begin_run(&mut self, number: u16) {
        self.lowest = u64::from(number).saturating_add(1 << 16);
        self.highest = self.lowest;
        self.received = [0; WORDS as usize];
        self.receive(self.highest);
    }

    /// Counts the missing numbers of the run as lost.
    fn end_run(&mut self) {
        let last = self.highest / 64;
        for word in last.saturating_sub(WORDS.saturating_sub(1))..=last {
            self.end_word(word);
        }
        self.bursts.current = 0;
    }

    /// Counts the missing numbers among the 64 of a word as lost.
    fn end_word(&mut self, word: u64) {
        let bits = self.received.get(slot(word)).copied().unwrap_or(0);
        if bits == u64::MAX {
            self.bursts.current = 0;
            return;
        }
        let begin = word.saturating_mul(64);
        for number in begin.max(self.lowest)..=begin.saturating_add(63).min(self.highest) {
            self.bursts.push(bits & place(number).1 != 0);
        }
    }

    /// Handles a jump that the next packet did not continue: it was a single late packet, or a
    /// stray that says nothing about the stream. A packet from before the run counts as a stray,
    /// because it may belong to the run before.
    fn settle(&mut self, jumped: u16, copies: u64, witness: &mut impl Witness) {
        let back = self.highest_number().wrapping_sub(jumped);
        if u64::from(back) < MEMORY && self.extended(back) >= self.lowest {
            self.late(back, witness);
        }
        self.duplicates = self.duplicates.saturating_add(copies);
    }

    #[inline]
    fn advance(&mut self, ahead: u16) {
        let before = self.highest;
        self.highest = before.saturating_add(ahead.into());
        for word in (before / 64).saturating_add(1)..=self.highest / 64 {
            // The new word reuses the slot of the oldest one, whose losses are final now.
            self.end_word(word.saturating_sub(WORDS));
            if let Some(bits) = self.received.get_mut(slot(word)) {
                *bits = 0;
            }
        }
        self.receive(self.highest);
    }

    /// Adds a packet below the highest number. If it is below the lowest, too, the run begins with
    /// it: it is less than [`MAX_MISORDER`] back, so no number after it has been counted as lost.
    fn late(&mut self, back: u16, witness: &mut impl Witness) {
        let number = self.extended(back);
        if self.is_received(number) {
            self.duplicates = self.duplicates.saturating_add(1);
        } else {
            witness.late(back.into(), self.lowest.saturating_sub(number));
            self.lowest = self.lowest.min(number);
            self.receive(number);
            self.out_of_order = self.out_of_order.saturating_add(1);
        }
    }

    /// The extended number of a packet that is `back` behind the highest.
    fn extended(&self, back: u16) -> u64 {
        self.highest.saturating_sub(back.into())
    }

    #[inline]
    fn receive(&mut self, number: u64) {
        let (word, bit) = place(number);
        if let Some(word) = self.received.get_mut(word) {
            *word |= bit;
        }
        self.distinct = self.distinct.saturating_add(1);
    }

    fn is_received(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.received.get(word).is_some_and(|word| word & bit != 0)
    }

    fn run_expected(&self) -> u64 {
        self.highest.saturating_sub(self.lowest).saturating_add(1)
    }

    fn highest_number(&self) -> u16 {
        (self.highest & 0xffff) as u16
    }
}

/// The word and the bit of a number.
fn place(number: u64) -> (usize, u64) {
    (slot(number / 64), 1 << (number % 64))
}

/// The index of the word with this number.
fn slot(word: u64) -> usize {
    (word % WORDS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(numbers: impl IntoIterator<Item = u16>) -> (u64, u64, u64, u64) {
        let mut numbers = numbers.into_iter();
        let mut sequence = Sequence::new(numbers.next().unwrap());
        numbers.for_each(|number| sequence.push(number));
        let Totals {
            expected,
            lost,
            out_of_order,
            duplicates,
            ..
        } = sequence.totals();
        (expected, lost, out_of_order, duplicates)
    }

    fn bursts(numbers: &[u16]) -> (u64, u64) {
        let mut sequence = Sequence::new(numbers[0]);
        numbers[1..]
            .iter()
            .for_each(|number| sequence.push(*number));
        let Totals {
            bursts,
            longest_burst,
            ..
        } = sequence.totals();
        (bursts, longest_burst)
    }

    #[test]
    fn losses_in_a_row() {
        assert_eq!(bursts(&[1, 2, 3]), (0, 0));
        assert_eq!(bursts(&[1, 4, 5, 7]), (2, 2));
        assert_eq!(
            bursts(&[1, 6, 4, 7]),
            (2, 2),
            "one that came late parts them"
        );
        assert_eq!(bursts(&[2, 1, 3, 5]), (1, 1), "the first packet was late");
        assert_eq!(
            bursts(&[9, 5, 3]),
            (2, 3),
            "what is lost before the first packet"
        );
        assert_eq!(
            bursts(&[64, 63, 2, 65]),
            (1, 60),
            "in a word before that of the first"
        );
        let long_after: Vec<u16> = [100, 10].into_iter().chain(101..3_000).collect();
        assert_eq!(bursts(&long_after), (1, 89), "given up long after");
        assert_eq!(
            bursts(&[1, 2_900, 5_000]),
            (2, 2_898),
            "more than is remembered"
        );
        assert_eq!(
            bursts(&[1, 3, 40_000, 40_001, 40_004]),
            (2, 2),
            "a restart is no loss"
        );
        let long: Vec<u16> = (1..6_000)
            .filter(|number| !(100..150).contains(number))
            .collect();
        assert_eq!(bursts(&long), (1, 50), "long ago");
        let across: Vec<u16> = (65_000..=65_535).chain(10..2_000).collect();
        assert_eq!(bursts(&across), (1, 10), "across the wrap-around");
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
            (
                "reordered across the wrap-around",
                vec![65_534, 0, 65_535, 1],
                (4, 0, 1, 0),
            ),
            ("repeated at once", vec![1, 2, 2, 3], (3, 0, 0, 1)),
            ("repeated later", vec![1, 2, 3, 1], (3, 0, 0, 1)),
            ("late, then repeated", vec![1, 3, 2, 2, 4], (4, 0, 1, 1)),
            ("before the first", vec![5, 4, 6], (3, 0, 1, 0)),
            ("before the first, and lost", vec![2, 1, 3, 5], (5, 1, 1, 0)),
            ("lost before the first", vec![5, 2, 6, 2], (5, 2, 1, 1)),
            (
                "before the first, across the wrap-around",
                vec![0, 65_535, 1],
                (3, 0, 1, 0),
            ),
            ("99 before the first", vec![500, 401, 501], (101, 98, 1, 0)),
            (
                "100 before the first says nothing",
                vec![500, 400, 501],
                (2, 0, 0, 0),
            ),
            (
                "100 before the first, again and again",
                vec![500, 400, 501, 400, 400, 502],
                (3, 0, 0, 1),
            ),
            (
                "before the first of a new run",
                vec![1, 2, 40_000, 40_001, 39_998],
                (6, 1, 1, 0),
            ),
            (
                "of the run before, late",
                vec![40_000, 40_001, 5, 6, 39_999, 7],
                (5, 0, 0, 0),
            ),
            (
                "a jump that stays alone",
                vec![1, 2, 40_000, 3],
                (3, 0, 0, 0),
            ),
            ("a jump at the end", vec![1, 2, 40_000], (2, 0, 0, 0)),
            ("restart forward", vec![1, 2, 40_000, 40_001], (4, 0, 0, 0)),
            ("restart back", vec![40_000, 40_001, 5, 6, 8], (6, 1, 0, 0)),
            (
                "restart, each packet twice",
                vec![1, 1, 40_000, 40_000, 40_001, 40_001],
                (3, 0, 0, 3),
            ),
            (
                "restart that begins with 0",
                vec![500, 501, 0, 1, 2],
                (5, 0, 0, 0),
            ),
            (
                "99 back is late",
                (1..=120).filter(|n| *n != 21).chain([21]).collect(),
                (120, 0, 1, 0),
            ),
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

    /// For any jumps, the lost packets equal the sum of the bursts.
    #[test]
    fn losses_and_bursts_agree() {
        proptest::proptest!(|(steps in proptest::collection::vec(proptest::prop_oneof![-130i16..4, 1i16..3, 1i16..3_200, i16::MIN..i16::MAX], 1..60))| {
            let mut number = 0u16;
            let mut sequence = Sequence::new(number);
            for step in steps {
                number = number.wrapping_add_signed(step);
                sequence.push(number);
                let Totals { lost, bursts, longest_burst, .. } = sequence.totals();
                proptest::prop_assert!(longest_burst.max(bursts) <= lost && lost <= longest_burst * bursts);
            }
        });
    }

    /// A direct implementation of the definitions, for numbers that never jump.
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
            let lowest = *seen.first().unwrap();
            let expected = (top - lowest + 1) as u64;
            let lost = expected - seen.len() as u64;
            let numbers: Vec<u16> = all.iter().map(|n| (n & 0xffff) as u16).collect();
            proptest::prop_assert_eq!(totals(numbers.iter().copied()), (expected, lost, late, repeated));
            let runs: Vec<i64> = (lowest..=top).map(|n| if seen.contains(&n) { 0 } else { n }).collect();
            let runs: Vec<usize> = runs.split(|n| *n == 0).map(<[i64]>::len).filter(|len| *len > 0).collect();
            proptest::prop_assert_eq!(bursts(&numbers), (runs.len() as u64, runs.iter().max().copied().unwrap_or(0) as u64));
        });
    }
}
