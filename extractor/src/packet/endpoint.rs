//! An IP address and a port.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

/// An endpoint of a UDP flow.
///
/// IPv4 addresses are stored in their IPv6-mapped form (RFC 4291, 2.5.5.2), so both families are
/// one fixed-size key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    address: [u8; 16],
    port: u16,
}

impl Endpoint {
    /// An endpoint of either family.
    #[must_use]
    pub fn new(address: IpAddr, port: u16) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets(), port),
            IpAddr::V6(v6) => Self {
                address: v6.octets(),
                port,
            },
        }
    }

    /// An IPv4 endpoint.
    #[must_use]
    #[inline]
    pub const fn v4([a, b, c, d]: [u8; 4], port: u16) -> Self {
        Self {
            address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            port,
        }
    }

    /// An IPv6 endpoint.
    #[must_use]
    #[inline]
    pub fn v6(address: [u8; 16], port: u16) -> Self {
        Self { address, port }
    }

    /// The address as one number, for hashing.
    #[inline]
    pub(crate) fn address_bits(self) -> u128 {
        u128::from_ne_bytes(self.address)
    }

    /// The address; IPv4 in its IPv6-mapped form.
    pub(crate) fn octets(self) -> [u8; 16] {
        self.address
    }

    /// The port.
    #[must_use]
    #[inline]
    pub fn port(self) -> u16 {
        self.port
    }

    /// The same address with another port.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Returns true if the address is `0.0.0.0` or `::`, which no host has.
    #[must_use]
    pub fn is_unspecified(self) -> bool {
        self.ip().is_unspecified()
    }

    /// Returns true if the address is meaningful within one network only: RFC 1918, RFC 6598, RFC
    /// 3927, RFC 4193, RFC 4291, 2.5.6, and loopback.
    #[must_use]
    pub fn is_private(self) -> bool {
        match self.ip() {
            IpAddr::V4(v4) => {
                let is_shared = matches!(v4.octets(), [100, 64..=127, ..]);
                v4.is_private() || v4.is_link_local() || v4.is_loopback() || is_shared
            }
            IpAddr::V6(v6) => {
                v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback()
            }
        }
    }

    /// Returns true if both have the same address, whatever the ports.
    #[must_use]
    pub fn is_at(self, other: Self) -> bool {
        self.address == other.address
    }

    /// The address.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.address);
        v6.to_ipv4_mapped()
            .map_or(IpAddr::V6(v6), |v4: Ipv4Addr| IpAddr::V4(v4))
    }
}

/// Hashes whole words: the derived implementation, byte by byte, takes three times as long.
impl Hash for Endpoint {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.address_bits());
        state.write_u16(self.port);
    }
}

/// `192.0.2.1:4000`, `[2001:db8::1]:4000`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.ip(), self.port).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_the_csv_wants_it() {
        assert_eq!(
            Endpoint::v4([192, 0, 2, 1], 4000).to_string(),
            "192.0.2.1:4000"
        );
        let v6 = Endpoint::new("2001:db8::1".parse().unwrap(), 4000);
        assert_eq!(v6.to_string(), "[2001:db8::1]:4000");
    }

    #[test]
    fn private_addresses() {
        let is_private = |text: &str| Endpoint::new(text.parse().unwrap(), 1).is_private();
        for address in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "100.127.0.1",
            "169.254.1.1",
            "127.0.0.1",
            "fd00::1",
            "fe80::1",
            "::1",
        ] {
            assert!(is_private(address), "{address}");
        }
        for address in [
            "9.9.9.9",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.0.2.1",
            "2001:db8::1",
        ] {
            assert!(!is_private(address), "{address}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_one() {
        assert_eq!(
            Endpoint::new("::ffff:192.0.2.1".parse().unwrap(), 1),
            Endpoint::v4([192, 0, 2, 1], 1)
        );
        assert!(Endpoint::v4([0; 4], 5).is_unspecified());
        assert!(Endpoint::new("::".parse().unwrap(), 5).is_unspecified());
    }
}
