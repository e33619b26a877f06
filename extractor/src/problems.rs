//! The problems of a call, and the thresholds from which on something is one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A problem of a call; docs/statistics.md defines each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A stream lost too many packets.
    Loss,
    /// A stream has too much jitter.
    Jitter,
    /// A stream sounds too bad.
    Mos,
    /// The call was answered, and RTP went in one direction only.
    OneWay,
    /// The call was answered, and there is no RTP.
    NoMedia,
    /// The caller waited too long for a ringing tone.
    SlowSetup,
    /// There is RTP, and all of it came before the answer, or no answer came.
    EarlyMediaOnly,
    /// An INVITE was sent again for want of an answer.
    RetransmittedInvite,
    /// The last final answer is a 5xx.
    ServerError,
}

impl Problem {
    /// All problems, in the order in which the table names them.
    pub const ALL: [Self; 9] = [
        Self::Loss,
        Self::Jitter,
        Self::Mos,
        Self::OneWay,
        Self::NoMedia,
        Self::SlowSetup,
        Self::EarlyMediaOnly,
        Self::RetransmittedInvite,
        Self::ServerError,
    ];

    /// The word for the problem, in the table and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Jitter => "jitter",
            Self::Mos => "mos",
            Self::OneWay => "one-way",
            Self::NoMedia => "no-media",
            Self::SlowSetup => "slow-setup",
            Self::EarlyMediaOnly => "early-media-only",
            Self::RetransmittedInvite => "retransmitted-invite",
            Self::ServerError => "server-error",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems(u16);

impl Problems {
    /// The word for all problems on the command line.
    pub const ANY: &str = "any";

    /// Adds a problem if `is_there`.
    pub fn add_if(&mut self, is_there: bool, problem: Problem) {
        if is_there {
            self.0 |= problem.bit();
        }
    }

    /// Returns true if the set has a problem.
    #[must_use]
    pub fn has(self, problem: Problem) -> bool {
        self.0 & problem.bit() != 0
    }

    /// Returns true if the set is empty.
    #[must_use]
    pub fn are_none(self) -> bool {
        self.0 == 0
    }

    /// Returns true if both sets have a problem.
    #[must_use]
    pub fn share_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The problems of both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The problems, in the order of [`Problem::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Problem> {
        Problem::ALL
            .into_iter()
            .filter(move |problem| self.has(*problem))
    }
}

/// `loss one-way`.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.iter().enumerate() {
            if number > 0 {
                f.write_str(" ")?;
            }
            f.write_str(problem.word())?;
        }
        Ok(())
    }
}

/// Reads one word.
impl FromStr for Problems {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let wanted = |problem: &Problem| word == Self::ANY || word == problem.word();
        let mut problems = Self::default();
        for problem in Problem::ALL.into_iter().filter(wanted) {
            problems.add_if(true, problem);
        }
        if problems.are_none() {
            let words = Problem::ALL.map(Problem::word).join(", ");
            return Err(format!("the problems are {words}, and any for all of them"));
        }
        Ok(problems)
    }
}

/// The values from which on something is a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// More packets lost than this percentage of those expected.
    pub loss_percent: Hundredths,
    /// A higher mean jitter, in nanoseconds.
    pub jitter_ns: u64,
    /// A lower mean opinion score.
    pub mos: Hundredths,
    /// A longer time to the first ringing tone, in nanoseconds.
    pub setup_ns: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            loss_percent: Hundredths(100),
            jitter_ns: 30_000_000,
            mos: Hundredths(360),
            setup_ns: 5_000_000_000,
        }
    }
}

/// A number with two decimals, such as a percentage: exact, so that it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hundredths(pub u32);

impl Hundredths {
    /// Returns true if `part` of `whole` is more than this percentage.
    #[must_use]
    pub fn is_exceeded(self, part: u64, whole: u64) -> bool {
        u128::from(part).saturating_mul(10_000)
            > u128::from(self.0).saturating_mul(u128::from(whole))
    }

    /// The number.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl FromStr for Hundredths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("'{text}' is no number with at most two decimals, such as 1 or 3.6");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
            return Err(wrong());
        }
        format!("{whole}{decimals:0<2}")
            .parse()
            .map(Self)
            .map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for problem in Problem::ALL {
            let read: Problems = problem.word().parse().unwrap();
            assert!(read.has(problem) && read.iter().count() == 1);
            assert_eq!(read.to_string(), problem.word());
        }
        let any: Problems = "any".parse().unwrap();
        assert_eq!(any.iter().count(), Problem::ALL.len());
        assert!("anything".parse::<Problems>().is_err() && "".parse::<Problems>().is_err());
        let two: Problems = "mos"
            .parse::<Problems>()
            .unwrap()
            .with("loss".parse().unwrap());
        assert_eq!(two.to_string(), "loss mos");
        assert!(two.share_any(any) && !two.share_any("jitter".parse().unwrap()));
        assert_eq!(Problems::default().to_string(), "");
    }

    #[test]
    fn numbers() {
        for (text, want) in [("1", 100), ("3.6", 360), ("0.05", 5), ("12.34", 1_234)] {
            assert_eq!(text.parse(), Ok(Hundredths(want)), "{text}");
        }
        for text in ["", ".5", "1.234", "-1", "1,5", "1e2", "99999999999"] {
            assert!(text.parse::<Hundredths>().is_err(), "{text}");
        }
        assert_eq!(Hundredths(5).to_string(), "0.05");
        let one = Hundredths(100);
        assert!(
            one.is_exceeded(11, 1_000) && !one.is_exceeded(10, 1_000) && !one.is_exceeded(0, 0)
        );
    }
}
