//! The lines of a description, and the fields in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most addresses in one line (`c=IN IP4 224.2.1.1/127/3`); a higher number is cut to this.
const MAX_ADDRESSES: u16 = 32;

/// The lines as `(type, value)`. A line ends with CR, LF or both, as RFC 2543 had it. Blanks around
/// type and value, and NUL at the end, are removed.
pub(super) fn lines(description: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    description
        .split(|&byte| matches!(byte, b'\n' | b'\r'))
        .filter_map(|line| {
            let line = line.trim_ascii_start();
            let (kind, rest) = line.split_first()?;
            let value = rest.trim_ascii_start().strip_prefix(b"=")?;
            let end = value
                .iter()
                .rposition(|byte| !byte.is_ascii_whitespace() && *byte != 0)
                .map_or(0, |last| last.saturating_add(1));
            Some((
                kind.to_ascii_lowercase(),
                value.get(..end)?.trim_ascii_start(),
            ))
        })
}

/// The fields of a value, separated by any number of blanks.
pub(super) fn fields(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
}

/// A decimal number.
pub(super) fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// A field where an address is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Ip(IpAddr),
    /// A host name. It is not looked up: today's answer says nothing about the time of the capture.
    HostName,
    /// Something else.
    Unreadable,
}

impl Address {
    /// RFC 4566, 5.7: `IN IP4 192.0.2.1`; multicast may have several consecutive addresses: `IN IP4
    /// 224.2.1.1/127/3`, `IN IP6 FF15::101/3`. The address determines its family, because some
    /// senders write the wrong label.
    pub(super) fn of_connection(value: &[u8]) -> impl Iterator<Item = Self> {
        let field = fields(value).nth(2).unwrap_or_default();
        let first = Self::parse(field);
        let count = if let Some(Self::Ip(ip)) = first {
            count(ip, field)
        } else {
            1
        };
        (0..count).map_while(move |number| match first? {
            Self::Ip(ip) => above(ip, number).map(Self::Ip),
            other => Some(other),
        })
    }

    pub(super) fn parse(field: &[u8]) -> Option<Self> {
        let without_ttl = field.split(|&byte| byte == b'/').next()?;
        let without_zone = without_ttl.split(|&byte| byte == b'%').next()?;
        let bare = without_zone.strip_prefix(b"[").unwrap_or(without_zone);
        let bare = bare.strip_suffix(b"]").unwrap_or(bare);
        if bare.is_empty() {
            return None;
        }
        let ip = number(bare).or_else(|| padded(bare));
        Some(match ip {
            Some(ip) => Self::Ip(ip),
            None if is_host_name(bare) => Self::HostName,
            None => Self::Unreadable,
        })
    }
}

/// `010.000.000.005`, as some gateways write it: decimal numbers.
fn padded(field: &[u8]) -> Option<IpAddr> {
    let mut octets = field
        .split(|&byte| byte == b'.')
        .map(|octet| number(octet).filter(|_| octet.iter().all(u8::is_ascii_digit)));
    let v4 = Ipv4Addr::new(
        octets.next()??,
        octets.next()??,
        octets.next()??,
        octets.next()??,
    );
    octets.next().is_none().then_some(v4.into())
}

/// RFC 1123, 2.1: letters, digits, hyphens and dots; not digits only, because that is a malformed
/// address.
fn is_host_name(field: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    field.iter().all(is_part) && field.iter().any(u8::is_ascii_alphabetic)
}

/// The number of addresses in a field: the number after the TTL, which IPv6 does not have.
fn count(ip: IpAddr, field: &[u8]) -> u16 {
    let place = if ip.is_ipv4() { 2 } else { 1 };
    let given = field
        .split(|&byte| byte == b'/')
        .nth(place)
        .filter(|_| ip.is_multicast());
    given.and_then(number).unwrap_or(1).clamp(1, MAX_ADDRESSES)
}

/// The address `number` above another one, of the same family.
fn above(ip: IpAddr, number: u16) -> Option<IpAddr> {
    let above: IpAddr = match ip {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_add(number.into())?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_add(number.into())?).into(),
    };
    (above.is_multicast() == ip.is_multicast()).then_some(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        lines(text.as_bytes())
            .map(|(kind, value)| format!("{}={}", kind as char, value.escape_ascii()))
            .collect()
    }

    fn connection(value: &str) -> Vec<String> {
        let text = |address| match address {
            Address::Ip(ip) => ip.to_string(),
            other => format!("{other:?}"),
        };
        Address::of_connection(value.as_bytes()).map(text).collect()
    }

    #[test]
    fn any_line_end_ends_a_line() {
        for end in ["\r\n", "\n", "\r"] {
            assert_eq!(
                read(&["v=0", "s=a b", "t=0 0", ""].join(end)),
                ["v=0", "s=a b", "t=0 0"],
                "{end:?}"
            );
        }
        assert_eq!(
            read("v=0\rs=-\r\n\nt=0 0\n\rm=audio 4 RTP/AVP 0\0"),
            ["v=0", "s=-", "t=0 0", "m=audio 4 RTP/AVP 0"]
        );
    }

    #[test]
    fn addresses() {
        for (value, want) in [
            ("IN IP4 192.0.2.1", "192.0.2.1"),
            ("IN IP4 192.0.2.1/127", "192.0.2.1"),
            ("IN IP4 010.000.000.005", "10.0.0.5"),
            ("IN IP4 192.168.001.010", "192.168.1.10"),
            ("IN IP4 000.000.000.000", "0.0.0.0"),
            ("IN IP6 [2001:db8::1%eth0]", "2001:db8::1"),
            ("IN IP4 host.example.com", "HostName"),
            ("IN IP4 host-1_a.", "HostName"),
            ("IN IP4 1.2.3.com", "HostName"),
            ("IN IP4 300.1.2.3", "Unreadable"),
            ("IN IP4 256.001.002.003", "Unreadable"),
            ("IN IP4 1.2.3", "Unreadable"),
            ("IN IP4 1.2.3.4.5", "Unreadable"),
            ("IN IP4 +1.2.3.04", "Unreadable"),
            ("IN IP4 1..2.3", "Unreadable"),
            ("IN IP4 192.0.2.1:4000", "Unreadable"),
            ("IN IP6 2001:db8::xyz", "Unreadable"),
            ("IN IP4 ?", "Unreadable"),
        ] {
            assert_eq!(connection(value), [want], "{value}");
        }
        assert!(
            connection("IN IP4").is_empty()
                && connection("").is_empty()
                && connection("IN IP4 /127").is_empty()
        );
    }

    /// The first two are the examples of RFC 4566.
    #[test]
    fn addresses_of_multicast_may_be_several() {
        assert_eq!(
            connection("IN IP4 224.2.1.1/127/3"),
            ["224.2.1.1", "224.2.1.2", "224.2.1.3"]
        );
        assert_eq!(
            connection("IN IP6 FF15::101/3"),
            ["ff15::101", "ff15::102", "ff15::103"]
        );
        for one in [
            "224.2.1.1/127",
            "224.2.1.1/127/0",
            "224.2.1.1/127/x",
            "192.0.2.1/127/3",
            "224.2.1.1",
        ] {
            assert_eq!(
                connection(&format!("IN IP4 {one}")),
                [one.split('/').next().unwrap()],
                "{one}"
            );
        }
        assert_eq!(connection("IN IP6 2001:db8::1/3"), ["2001:db8::1"]);
        assert_eq!(connection("IN IP4 224.2.1.1/127/65535").len(), 32);
        assert_eq!(
            connection("IN IP4 239.255.255.254/1/9"),
            ["239.255.255.254", "239.255.255.255"]
        );
        assert_eq!(
            connection("IN IP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/9").len(),
            1
        );
    }
}
