//! The figures of records as text, with the same digits in each.

use crate::calls::Side;

/// The word for a side of a call.
pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
    }
}

/// A percentage with two decimals, rounded half up.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let doubled = u128::from(part)
        .saturating_mul(20_000)
        .saturating_add(whole.into());
    let hundredths = doubled
        .checked_div(u128::from(whole).saturating_mul(2))
        .unwrap_or(0);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Nanoseconds as milliseconds with two decimals, rounded half away from zero.
pub(super) fn ms(ns: i64) -> String {
    let hundredths = ns.unsigned_abs().saturating_add(5_000) / 10_000;
    let sign = if ns < 0 && hundredths > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Nanoseconds as seconds with six decimals, truncated as timestamps are.
pub(super) fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns / 1_000 % 1_000_000)
}

/// Nanoseconds as milliseconds with three decimals, truncated as timestamps are.
pub(super) fn milliseconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000)
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
        ] {
            assert_eq!(ms(ns), want);
        }
        assert_eq!(seconds(61_000_001_999), "61.000001");
        assert_eq!(milliseconds(1_002_003_999), "1002.003");
        for (part, whole, want) in [
            (0, 0, "0.00"),
            (0, 7, "0.00"),
            (1, 3, "33.33"),
            (2, 3, "66.67"),
            (1, 20_000, "0.01"),
            (4, 4, "100.00"),
        ] {
            assert_eq!(percent(part, whole), want);
        }
    }
}
