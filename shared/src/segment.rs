//! The names of capture segments, which also tell a segment's state.
//!
//! ```text
//! .<instance>_<interface>_<start>_<sequence>.pcap.part       being written
//! <instance>_<interface>_<start>_<sequence>.pcap             closed
//! .<instance>_<interface>_<start>_<sequence>.pcap.drops.json what was dropped in its time
//! .<instance>_<interface>_<start>_<sequence>.pcap.processed  empty: the segment was processed
//!
//! edge1_eth0_20231201T143022.123456Z_000001.pcap
//! ```
//!
//! The agent writes a part file and holds a lock (`flock`) on it meanwhile; a part file without a
//! lock is the remains of a crash, or empty. A part file that is complete and durable is renamed to
//! the segment's name, after those before it; from then on nobody changes it.
//!
//! Before that, the agent writes the file of its drops ([`SegmentDrops`](crate::segment_drops)),
//! complete and durable: whoever sees a segment may read its drops. A segment without the file, such
//! as one that was repaired after a crash, does not know its drops. A program that deletes a segment
//! deletes this file before it, so the file never outlives the segment; one that moves the segment
//! takes the file along.
//!
//! The extractor tells the agent which segments it has processed, so that the agent deletes
//! unprocessed segments last. If the extractor deletes or moves segments, a segment that is still
//! there has not been processed. If it keeps them, it creates the empty mark beside each segment
//! whose results are durable. A program that deletes the segment then deletes the mark afterwards.
//!
//! An interface may have an underscore in its name (`br_lan`), so an instance may not: the first
//! underscore ends the instance, the last two enclose the start. Characters that a name cannot hold
//! become `-`. The start stands before the sequence, and both have a fixed width, so that the names
//! of one capture point sort as text in capture order.

use std::{ffi::OsStr, fmt, ops::Range, str::FromStr};

/// The longest instance or interface in a name, in bytes; a part file's name stays below 255.
const MAX_LABEL_LEN: usize = 63;

/// 9999-12-31T23:59:59.999999Z: the last start whose year has four digits.
const LAST_START_US: u64 = 253_402_300_799_999_999;

const US_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// The name of one segment. Names order by start, then by sequence, so the order is capture order
/// even across capture points.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    start: Start,
    sequence: u32,
    instance: String,
    interface: String,
}

/// The error for a text that is not the name of a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the name of a segment, which is <instance>_<interface>_<YYYYMMDDTHHMMSS.ffffffZ>_<sequence>.pcap"
)]
pub struct SegmentNameError(String);

impl SegmentName {
    /// Names segment number `sequence`, which `instance` began to write at `start_us`
    /// (microseconds since 1970) from packets of `interface`.
    ///
    /// Characters other than ASCII letters, digits, dots, hyphens and (in the interface)
    /// underscores become hyphens; an instance does not begin with a dot or a hyphen.
    #[must_use]
    pub fn new(instance: &str, interface: &str, start_us: u64, sequence: u32) -> Self {
        Self {
            start: Start::at(start_us),
            sequence,
            instance: instance_label(instance),
            interface: interface_label(interface),
        }
    }

    /// Returns the instance that captured it, by default the host's short name.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns the interface that it was captured on.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Returns the start of the segment, in microseconds since 1970.
    #[must_use]
    pub fn start_us(&self) -> u64 {
        self.start.0
    }

    /// Returns its number among the segments of one run of the agent.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns the name of the hidden file that is written.
    #[must_use]
    pub fn part_file_name(&self) -> String {
        format!(".{self}.part")
    }

    /// Returns the name of the hidden file that says what was dropped in the segment's time.
    #[must_use]
    pub fn drops_file_name(&self) -> String {
        format!(".{self}.drops.json")
    }

    /// Returns the name of the hidden mark that the segment was processed.
    #[must_use]
    pub fn processed_file_name(&self) -> String {
        format!(".{self}.processed")
    }

    fn parse(text: &str) -> Option<Self> {
        let (rest, sequence) = text.strip_suffix(".pcap")?.rsplit_once('_')?;
        let (point, start) = rest.rsplit_once('_')?;
        let (instance, interface) = point.split_once('_')?;
        Some(Self::new(
            instance,
            interface,
            Start::parse(start)?.0,
            sequence.parse().ok()?,
        ))
    }

    /// Returns the name of the segment in a closed file, compressed or not; `None` if the agent did
    /// not name the file.
    #[must_use]
    pub fn of_capture(file_name: &OsStr) -> Option<Self> {
        let name = file_name.to_str()?;
        let plain = name
            .strip_suffix(".gz")
            .or_else(|| name.strip_suffix(".zst"))
            .unwrap_or(name);
        plain.parse().ok()
    }
}

/// A file of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentFile {
    /// The segment is being written, or was when its writer died.
    Part(SegmentName),
    /// The segment is complete.
    Closed(SegmentName),
    /// What was dropped in the segment's time.
    Drops(SegmentName),
    /// The mark that the segment was processed.
    Processed(SegmentName),
}

impl SegmentFile {
    /// Recognises a file of a segments' directory by its name; `None` for other files.
    #[must_use]
    pub fn named(file_name: &str) -> Option<Self> {
        let hidden = file_name.strip_prefix('.');
        if let Some(part) = hidden.and_then(|name| name.strip_suffix(".part")) {
            return part.parse().ok().map(Self::Part);
        }
        if let Some(drops) = hidden.and_then(|name| name.strip_suffix(".drops.json")) {
            return drops.parse().ok().map(Self::Drops);
        }
        if let Some(processed) = hidden.and_then(|name| name.strip_suffix(".processed")) {
            return processed.parse().ok().map(Self::Processed);
        }
        file_name.parse().ok().map(Self::Closed)
    }
}

/// Returns the instance as names spell it.
#[must_use]
pub fn instance_label(instance: &str) -> String {
    let instance: String = instance
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    // A leading dot would hide the segment, and a leading hyphen would make it look like an option.
    label(instance.trim_start_matches(['.', '-']))
}

/// Returns the interface as names spell it.
#[must_use]
pub fn interface_label(interface: &str) -> String {
    let interface: String = interface
        .chars()
        .map(|c| if is_plain(c) || c == '_' { c } else { '-' })
        .collect();
    label(&interface)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '.' || c == '-'
}

fn label(text: &str) -> String {
    match text.get(..MAX_LABEL_LEN).unwrap_or(text) {
        "" => "unknown".to_owned(),
        text => text.to_owned(),
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            start,
            sequence,
            instance,
            interface,
        } = self;
        write!(f, "{instance}_{interface}_{start}_{sequence:06}.pcap")
    }
}

impl FromStr for SegmentName {
    type Err = SegmentNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A name that parses but would be written differently (`_1.pcap`, 30 February) is not the
        // agent's.
        Self::parse(text)
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| SegmentNameError(text.to_owned()))
    }
}

/// An instant in microseconds since 1970, written as `20231201T143022.123456Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Start(u64);

impl Start {
    fn at(us: u64) -> Self {
        Self(us.min(LAST_START_US))
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |range: Range<usize>| text.get(range)?.parse::<u64>().ok();
        let days = days_until(number(0..4)?, number(4..6)?, number(6..8)?)?;
        let hours = days.checked_mul(24)?.checked_add(number(9..11)?)?;
        let minutes = hours.checked_mul(60)?.checked_add(number(11..13)?)?;
        let seconds = minutes.checked_mul(60)?.checked_add(number(13..15)?)?;
        let us = seconds
            .checked_mul(US_PER_SECOND)?
            .checked_add(number(16..22)?)?;
        Some(Self::at(us))
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, us) = (self.0 / US_PER_SECOND, self.0 % US_PER_SECOND);
        let (year, month, day) = date_after(seconds / SECONDS_PER_DAY);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{us:06}Z"
        )
    }
}

/// Returns the days from 1970-01-01 to the given date.
fn days_until(year: u64, month: u64, day: u64) -> Option<u64> {
    let years: u64 = (1970..year).map(days_in_year).sum();
    let months: u64 = (1..month.min(13))
        .map(|month| days_in_month(year, month))
        .sum();
    years.checked_add(months)?.checked_add(day.checked_sub(1)?)
}

/// Returns the date `days` days after 1970-01-01.
fn date_after(days: u64) -> (u64, u64, u64) {
    let (mut year, mut month, mut left) = (1970, 1, days);
    while let Some(rest) = left.checked_sub(days_in_year(year)) {
        (year, left) = (year.saturating_add(1), rest);
    }
    while let Some(rest) = left.checked_sub(days_in_month(year, month)) {
        (month, left) = (month.saturating_add(1), rest);
    }
    (year, month, left.saturating_add(1))
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START_US: u64 = 1_701_441_022_123_456;

    fn name(instance: &str, interface: &str) -> String {
        SegmentName::new(instance, interface, START_US, 1).to_string()
    }

    #[test]
    fn a_segment_and_its_part_file() {
        let name = SegmentName::new("edge1", "eth0", START_US, 1);
        assert_eq!(
            name.to_string(),
            "edge1_eth0_20231201T143022.123456Z_000001.pcap"
        );
        assert_eq!(
            name.part_file_name(),
            ".edge1_eth0_20231201T143022.123456Z_000001.pcap.part"
        );
    }

    #[test]
    fn a_files_name_tells_where_in_its_life_a_segment_is() {
        let name = SegmentName::new("edge1", "eth0", START_US, 1);
        assert_eq!(
            SegmentFile::named(&name.part_file_name()),
            Some(SegmentFile::Part(name.clone()))
        );
        assert_eq!(
            SegmentFile::named(&name.to_string()),
            Some(SegmentFile::Closed(name.clone()))
        );
        assert_eq!(
            SegmentFile::named(&name.drops_file_name()),
            Some(SegmentFile::Drops(name.clone()))
        );
        assert_eq!(
            SegmentFile::named(&name.processed_file_name()),
            Some(SegmentFile::Processed(name.clone()))
        );
        for other in [
            format!(".{name}"),
            format!("{name}.part"),
            format!(".{name}.tmp"),
            "calls.pcap".to_owned(),
            String::new(),
        ] {
            assert_eq!(SegmentFile::named(&other), None, "{other}");
        }
    }

    #[test]
    fn the_fields_of_a_name_are_read_back() {
        let name: SegmentName = "edge1_br_lan_20231201T143022.123456Z_000042.pcap"
            .parse()
            .unwrap();
        assert_eq!((name.instance(), name.interface()), ("edge1", "br_lan"));
        assert_eq!((name.start_us(), name.sequence()), (START_US, 42));
    }

    #[test]
    fn invalid_characters_in_a_name_become_hyphens() {
        assert_eq!(
            name("../a_b c", "eth0:1"),
            "a-b-c_eth0-1_20231201T143022.123456Z_000001.pcap"
        );
        assert_eq!(
            name("--", ""),
            "unknown_unknown_20231201T143022.123456Z_000001.pcap"
        );
        assert_eq!(
            name("é1", "_/_"),
            "1__-__20231201T143022.123456Z_000001.pcap"
        );
    }

    #[test]
    fn days_of_the_calendar() {
        for (seconds, want) in [
            (0, "19700101T000000.000000Z"),
            (951_782_399, "20000228T235959.000000Z"),
            (951_782_400, "20000229T000000.000000Z"),
            (1_709_164_800, "20240229T000000.000000Z"),
            (4_107_542_400, "21000301T000000.000000Z"),
            (253_402_300_799, "99991231T235959.000000Z"),
        ] {
            assert_eq!(Start::at(seconds * US_PER_SECOND).to_string(), want);
        }
        assert_eq!(Start::at(u64::MAX).to_string(), "99991231T235959.999999Z");
    }

    #[test]
    fn other_names_are_refused() {
        for text in [
            "",
            "calls.pcap",
            ".edge1_eth0_20231201T143022.123456Z_000001.pcap.part",
            "edge1_eth0_20231201T143022.123456Z_000001.pcapng",
            "edge1_eth0_20231201T143022.123456Z_1.pcap",
            "edge1_eth0_20230230T143022.123456Z_000001.pcap",
            "edge1_eth0_20231301T143022.123456Z_000001.pcap",
            "edge1_eth0_20231201T243022.123456Z_000001.pcap",
            "edge1_eth0_20231201T143022Z_000001.pcap",
            "edge1_20231201T143022.123456Z_000001.pcap",
            "a/b_eth0_20231201T143022.123456Z_000001.pcap",
            "edge1_eth0_20231201T143022.1234éZ_000001.pcap",
        ] {
            let error = text.parse::<SegmentName>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("<instance>_<interface>"),
                "{error}"
            );
        }
    }

    #[test]
    fn capture_order_goes_before_the_names_of_capture_points() {
        let early = SegmentName::new("z", "z", START_US, 2);
        let late = SegmentName::new("a", "a", START_US + 1, 1);
        assert!(early < late);
        assert!(SegmentName::new("a", "a", START_US, 1) < early);
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(instance in any::<String>(), interface in any::<String>(), start in any::<u64>(), sequence in any::<u32>()) {
            let name = SegmentName::new(&instance, &interface, start, sequence);
            let text = name.to_string();
            let hidden = format!("{}..12345678.part", name.drops_file_name());
            prop_assert!(!text.contains('/') && hidden.len() <= 255);
            prop_assert_eq!(text.parse(), Ok(name));
        }

        #[test]
        fn names_of_one_capture_point_sort_as_text(a in (0..=LAST_START_US, 0..1_000_000u32), b in (0..=LAST_START_US, 0..1_000_000u32)) {
            let named = |(start, sequence)| SegmentName::new("edge1", "br_lan", start, sequence);
            let (a, b) = (named(a), named(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn any_text_is_refused_or_written_back(text in "[a-z_.-]{0,9}_[0-9T.Z]{20,24}_[0-9]{5,8}\\.pcap") {
            if let Ok(name) = text.parse::<SegmentName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
