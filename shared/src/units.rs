//! Durations and port ranges as the original program reads and writes them; sizes in bytes; numbers
//! for people.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A duration as Go prints and reads it: `5m0s`, `300s`, `1h30m`, `1.5h`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

/// The error for a text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write numbers with units, such as 5m0s, 300s, 1h30m or 500ms")]
pub struct DurationError(String);

impl GoDuration {
    /// Returns the duration of `ns` nanoseconds.
    #[must_use]
    pub fn from_ns(ns: u64) -> Self {
        Self(Duration::from_nanos(ns))
    }

    /// Returns the duration in nanoseconds, the unit of packet time.
    #[must_use]
    pub fn as_ns(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_ns(text)
            .map(Self::from_ns)
            .ok_or_else(|| DurationError(text.to_owned()))
    }
}

/// Parses a duration to nanoseconds. Go's own limit of 292 years applies.
fn parse_ns(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total: u128 = 0;
    loop {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(number_len)?;
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_len)?;
        total = total.checked_add(scaled(number, unit_ns(unit)?)?)?;
        if after.is_empty() {
            return u64::try_from(total)
                .ok()
                .filter(|&ns| i64::try_from(ns).is_ok());
        }
        rest = after;
    }
}

fn unit_ns(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Multiplies a decimal number by `unit` and truncates to whole nanoseconds.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u64>().ok()
        }
    };
    // Digits below 1e-15 of a unit are less than a nanosecond.
    let fraction = fraction.get(..15).unwrap_or(fraction);
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = u128::from(digits(whole)?).checked_mul(unit.into())?;
    let part = u128::from(digits(fraction)?)
        .checked_mul(unit.into())?
        .checked_div(scale)?;
    whole.checked_add(part)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ns) = (self.0.as_secs(), self.0.subsec_nanos());
        if seconds == 0 {
            return match ns {
                0 => f.write_str("0s"),
                1..1_000 => write!(f, "{ns}ns"),
                1_000..1_000_000 => write!(f, "{}µs", decimal(u64::from(ns), 1_000)),
                _ => write!(f, "{}ms", decimal(u64::from(ns), 1_000_000)),
            };
        }
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(f, "{minutes}m")?;
        }
        let below_minute = (seconds % 60)
            .saturating_mul(1_000_000_000)
            .saturating_add(ns.into());
        write!(f, "{}s", decimal(below_minute, 1_000_000_000))
    }
}

/// Formats `value / unit` (a power of ten, not 0) with as many decimals as needed.
fn decimal(value: u64, unit: u64) -> String {
    let whole = value.checked_div(unit).unwrap_or(0);
    let fraction = value.checked_rem(unit).unwrap_or(0);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!(
        "{whole}.{}",
        format!("{fraction:0width$}").trim_end_matches('0')
    )
}

/// A number of bytes as people write it: `65536`, `64KiB`, `64MiB`, `1.5GiB`, `10GB`, `500M`.
///
/// As in systemd and GNU's tools, `K`, `M`, `G`, `T` alone are powers of 1024, as `KiB` is; `KB` is
/// 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// The error for a text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size; write a number of bytes, or one with a unit, such as 64MiB, 10GiB or 500MB"
)]
pub struct ByteSizeError(String);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_bytes(text)
            .map(Self)
            .ok_or_else(|| ByteSizeError(text.to_owned()))
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let number_len = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(number_len)?;
    u64::try_from(scaled(number, unit_bytes(unit.trim_start())?)?).ok()
}

fn unit_bytes(unit: &str) -> Option<u64> {
    const BINARY: u64 = 1024;
    const DECIMAL: u64 = 1000;
    let (base, power) = match unit {
        "" | "B" => (1, 0),
        "K" | "k" | "KiB" => (BINARY, 1),
        "M" | "MiB" => (BINARY, 2),
        "G" | "GiB" => (BINARY, 3),
        "T" | "TiB" => (BINARY, 4),
        "KB" | "kB" => (DECIMAL, 1),
        "MB" => (DECIMAL, 2),
        "GB" => (DECIMAL, 3),
        "TB" => (DECIMAL, 4),
        _ => return None,
    };
    Some(base.pow(power))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["", "KiB", "MiB", "GiB", "TiB"];
        let (mut whole, mut unit) = (self.0, 0);
        while whole > 0 && whole.is_multiple_of(1024) && unit < UNITS.len().saturating_sub(1) {
            (whole, unit) = (whole / 1024, unit.saturating_add(1));
        }
        write!(f, "{whole}{}", UNITS.get(unit).unwrap_or(&""))
    }
}

/// Formats `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len().saturating_mul(2));
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The UDP and TCP ports that may carry SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SipPorts {
    /// Any port: SIP is found by its content alone.
    Any,
    /// The first and the last port.
    Range(u16, u16),
}

/// The error for a text that is not a port range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write START-END with ports from 1 to 65535 (5060-5061), one port (5060), or `any`")]
pub struct PortsError(String);

impl SipPorts {
    /// True if a packet from `source` to `destination` can carry SIP.
    #[must_use]
    #[inline]
    pub fn admit(self, source: u16, destination: u16) -> bool {
        self == Self::Any || self.are_for_sip(source, destination)
    }

    /// True if a packet from `source` to `destination` is expected to carry SIP: one of the ports
    /// is in the range, or, with `any`, is a port that SIP has by default (RFC 3261, 19.1.2).
    #[must_use]
    #[inline]
    pub fn are_for_sip(self, source: u16, destination: u16) -> bool {
        let (first, last) = match self {
            Self::Any => (5060, 5061),
            Self::Range(first, last) => (first, last),
        };
        (first..=last).contains(&source) || (first..=last).contains(&destination)
    }
}

impl FromStr for SipPorts {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("any") {
            return Ok(Self::Any);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(PortsError(format!(
                "`{text}` is reversed: {first} is greater than {last}"
            )));
        }
        Ok(Self::Range(first, last))
    }
}

fn port(text: &str) -> Result<u16, PortsError> {
    let text = text.trim();
    let number: u64 = text
        .parse()
        .map_err(|_| PortsError(format!("`{text}` is not a port number")))?;
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(PortsError(format!("{number} is not a port"))),
    }
}

impl fmt::Display for SipPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> Option<u64> {
        text.parse::<GoDuration>().ok().map(GoDuration::as_ns)
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, want) in [
            ("5m0s", 300_000_000_000),
            ("300s", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500ms", 500_000_000),
            (".5s", 500_000_000),
            ("1us", 1_000),
            ("2µs", 2_000),
            ("0", 0),
            ("0s", 0),
            ("+3s", 3_000_000_000),
        ] {
            assert_eq!(ns(text), Some(want), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "5x",
            "5 m",
            ".s",
            "1.2.3s",
            "999999999h",
            "５s",
        ] {
            assert_eq!(ns(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (ns, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (2_000_000_000, "2s"),
            (300_000_000_000, "5m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (61_500_000_000, "1m1.5s"),
        ] {
            assert_eq!(GoDuration(Duration::from_nanos(ns)).to_string(), want);
        }
    }

    #[test]
    fn sizes_in_bytes() {
        for (text, want) in [
            ("0", 0),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64K", 65_536),
            ("64 MiB", 67_108_864),
            ("1.5GiB", 1_610_612_736),
            ("10GB", 10_000_000_000),
            ("2TiB", 2_199_023_255_552),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(want)), "{text}");
        }
        for text in ["", "MiB", "-1", "5X", "1.2.3", "16777216TiB", "many"] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("64MiB"),
                "{error}"
            );
        }
    }

    #[test]
    fn sizes_are_printed_in_the_largest_unit_that_holds_them() {
        for text in ["0", "1000", "64KiB", "256MiB", "1GiB", "2TiB", "2048TiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, want) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), want);
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!("5060-5061".parse(), Ok(SipPorts::Range(5060, 5061)));
        assert_eq!("5060".parse(), Ok(SipPorts::Range(5060, 5060)));
        assert_eq!("any".parse(), Ok(SipPorts::Any));
        for (text, what) in [
            ("0-10", "0 is not a port"),
            ("5080-5060", "reversed"),
            ("70000-70001", "70000 is not a port"),
            ("abc", "`abc` is not a port number"),
            ("", "`` is not a port number"),
        ] {
            let error = text.parse::<SipPorts>().unwrap_err().to_string();
            assert!(
                error.contains(what) && error.contains("5060-5061"),
                "{text}: {error}"
            );
        }
    }
}
