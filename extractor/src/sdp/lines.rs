//! The lines of a description, and the fields in them.

use std::net::IpAddr;

/// The lines as `(type, value)`. Blanks around either, CR and NUL at the end are forgiven.
pub(super) fn lines(description: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    description.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.trim_ascii_start();
        let (kind, rest) = line.split_first()?;
        let value = rest.trim_ascii_start().strip_prefix(b"=")?;
        let end =
            value.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != 0).map_or(0, |last| last.saturating_add(1));
        Some((kind.to_ascii_lowercase(), value.get(..end)?.trim_ascii_start()))
    })
}

/// The fields of a value, however many blanks separate them.
pub(super) fn fields(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
}

/// A decimal number.
pub(super) fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// What stands where an address should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Ip(IpAddr),
    /// A host name, which is not looked up: the answer of today says nothing about the day of the capture.
    HostName,
}

impl Address {
    /// RFC 4566, 5.7: `IN IP4 224.2.1.1/127`. The address itself tells its family: labels lie.
    pub(super) fn of_connection(value: &[u8]) -> Option<Self> {
        Self::parse(fields(value).nth(2)?)
    }

    pub(super) fn parse(field: &[u8]) -> Option<Self> {
        let without_ttl = field.split(|&byte| byte == b'/').next()?;
        let without_zone = without_ttl.split(|&byte| byte == b'%').next()?;
        let bare = without_zone.strip_prefix(b"[").unwrap_or(without_zone);
        let bare = bare.strip_suffix(b"]").unwrap_or(bare);
        if bare.is_empty() {
            return None;
        }
        Some(number(bare).map_or(Self::HostName, Self::Ip))
    }
}
