//! Reproducible random numbers, and the number of tries.
//!
//! `SEGMENT_TESTS=long` tries everything for much longer, and every place instead of a sample.
//! `SEGMENT_TESTS_SEED=N` changes the random numbers; a failure names its seed.

use std::env;

/// Returns the number of tries: `usual`, or `long` in a long run.
pub fn tries(usual: usize, long: usize) -> usize {
    if is_long() { long } else { usual }
}

pub fn is_long() -> bool {
    env::var("SEGMENT_TESTS").is_ok_and(|value| value == "long")
}

/// Xorshift: Marsaglia 2003.
pub struct Dice(u64);

impl Dice {
    /// Each test has a number of its own.
    pub fn new(number: u64) -> Self {
        let seed: u64 = env::var("SEGMENT_TESTS_SEED")
            .ok()
            .map_or(0, |seed| seed.parse().expect("a number"));
        let mut dice = Self(((seed << 20) | (number + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..8 {
            dice.next();
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    pub fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }

    /// Returns `count` different numbers below `end`, in order.
    pub fn some_below(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..end).collect();
        (0..count.min(end)).for_each(|at| numbers.swap(at, at + self.below(end - at)));
        numbers.truncate(count);
        numbers.sort_unstable();
        numbers
    }
}
