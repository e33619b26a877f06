//! The figures of records as text, with the same digits in each.

use std::fmt;

use crate::calls::Side;

/// The word for a side of a call.
pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
    }
}

/// A decimal number with a fixed number of places.
///
/// It writes its digits itself: padding by `format!` was 2 % of the instructions of a call with two
/// streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    is_negative: bool,
    /// The number without its point.
    digits: u64,
    places: usize,
}

impl Decimal {
    fn new(digits: u64, places: usize) -> Self {
        Self {
            is_negative: false,
            digits,
            places,
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negative {
            f.write_str("-")?;
        }
        // Twenty digits and a point.
        let mut text = [0; 21];
        let mut rest = self.digits;
        let mut len = 0_usize;
        for (place, byte) in text.iter_mut().rev().enumerate() {
            *byte = if place == self.places {
                b'.'
            } else if rest > 0 || place <= self.places.saturating_add(1) {
                let digit = (rest % 10) as u8;
                rest /= 10;
                b'0' | digit
            } else {
                break;
            };
            len = len.saturating_add(1);
        }
        let text = text.get(text.len().saturating_sub(len)..);
        let text = text.and_then(|text| str::from_utf8(text).ok());
        f.write_str(text.unwrap_or_default())
    }
}

/// A percentage with two decimals, rounded half up.
pub(super) fn percent(part: u64, whole: u64) -> Decimal {
    let doubled = u128::from(part)
        .saturating_mul(20_000)
        .saturating_add(whole.into());
    let hundredths = doubled
        .checked_div(u128::from(whole).saturating_mul(2))
        .unwrap_or(0);
    Decimal::new(u64::try_from(hundredths).unwrap_or(u64::MAX), 2)
}

/// Nanoseconds as milliseconds with two decimals, rounded half away from zero.
pub(super) fn ms(ns: i64) -> Decimal {
    let hundredths = ns.unsigned_abs().saturating_add(5_000) / 10_000;
    Decimal {
        is_negative: ns < 0 && hundredths > 0,
        ..Decimal::new(hundredths, 2)
    }
}

/// Nanoseconds as seconds with six decimals, truncated as timestamps are.
pub(super) fn seconds(ns: u64) -> Decimal {
    Decimal::new(ns / 1_000, 6)
}

/// Nanoseconds as milliseconds with three decimals, truncated as timestamps are.
pub(super) fn milliseconds(ns: u64) -> Decimal {
    Decimal::new(ns / 1_000, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (ns, want) in [
            (0, "0.00"),
            (20_005_000, "20.01"),
            (20_004_999, "20.00"),
            (-1_500_000, "-1.50"),
            (-4_999, "0.00"),
            (-10_000_000_000, "-10000.00"),
            (i64::MIN, "-9223372036854.78"),
        ] {
            assert_eq!(ms(ns).to_string(), want);
        }
        assert_eq!(seconds(61_000_001_999).to_string(), "61.000001");
        assert_eq!(seconds(u64::MAX).to_string(), "18446744073.709551");
        assert_eq!(seconds(0).to_string(), "0.000000");
        assert_eq!(milliseconds(1_002_003_999).to_string(), "1002.003");
        assert_eq!(milliseconds(20_000).to_string(), "0.020");
        for (part, whole, want) in [
            (0, 0, "0.00"),
            (0, 7, "0.00"),
            (1, 3, "33.33"),
            (2, 3, "66.67"),
            (1, 20_000, "0.01"),
            (4, 4, "100.00"),
            (u64::MAX, 1, "184467440737095516.15"),
        ] {
            assert_eq!(percent(part, whole).to_string(), want);
        }
    }
}
