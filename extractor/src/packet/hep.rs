//! HEP, by which agents report packets to a Homer server: its ports and its versions.
//!
//! The reported packet replaces the one that carries it: addresses, ports, time. The agent may have
//! reassembled it from TCP; that makes no difference, because HEP always holds one whole message.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Packet, hep3, hep12};

/// The ports to which agents send HEP. On other ports it is not read, because other payloads may
/// look like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HepPorts {
    /// Any port.
    Any,
    /// These ports; an empty set is no port.
    Of(BTreeSet<u16>),
}

impl HepPorts {
    /// Returns true if HEP to this port is read.
    #[must_use]
    #[inline]
    pub fn admit(&self, destination: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Of(ports) => ports.contains(&destination),
        }
    }
}

/// The ports of Homer's own server: UDP, and TLS or TCP.
impl Default for HepPorts {
    fn default() -> Self {
        Self::Of([9060, 9061].into())
    }
}

/// Parses ports separated by commas; an empty text is no port.
impl FromStr for HepPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().eq_ignore_ascii_case("any") {
            return Ok(Self::Any);
        }
        if text.trim().is_empty() {
            return Ok(Self::Of(BTreeSet::new()));
        }
        text.split(',')
            .map(|port| port_of(port.trim()))
            .collect::<Result<_, _>>()
            .map(Self::Of)
    }
}

fn port_of(text: &str) -> Result<u16, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_plain && *port > 0);
    port.ok_or_else(|| format!("`{text}` is not a port; write ports from 1 to 65535, separated by commas (9060,9061), or `any`"))
}

impl fmt::Display for HepPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Of(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                f.write_str(&ports.join(","))
            }
        }
    }
}

/// Returns true if a payload begins like HEP.
#[inline]
pub(super) fn may_be(payload: &[u8]) -> bool {
    hep3::begins(payload) || hep12::may_be(payload)
}

/// The packet that a payload of `wire_len` bytes reports; `None` if the payload is not HEP.
pub(super) fn read(payload: &[u8], wire_len: usize) -> Option<Packet<'_>> {
    if hep3::begins(payload) {
        hep3::read(payload, wire_len)
    } else {
        hep12::read(payload, wire_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_list_or_any() {
        let ports = |text: &str| text.parse::<HepPorts>().map(|ports| ports.to_string());
        for (text, want) in [
            ("9060,9061", "9060,9061"),
            (" 9061 ,9060", "9060,9061"),
            ("ANY", "any"),
            ("", ""),
            ("1", "1"),
        ] {
            assert_eq!(ports(text).as_deref(), Ok(want), "{text}");
        }
        for (text, what) in [
            ("0", "`0`"),
            ("9060,,1", "``"),
            ("9060-9061", "`9060-9061`"),
            ("65536", "`65536`"),
            ("+1", "`+1`"),
        ] {
            let why = ports(text).unwrap_err();
            assert!(
                why.starts_with(what) && why.contains("from 1 to 65535"),
                "{text}: {why}"
            );
        }
        assert_eq!(HepPorts::default().to_string(), "9060,9061");
        assert!(
            HepPorts::Any.admit(5060)
                && HepPorts::default().admit(9061)
                && !HepPorts::default().admit(5060)
        );
    }
}
