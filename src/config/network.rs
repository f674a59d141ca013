//! Networks of addresses, such as `10.0.0.0/8`. Pure.

use std::net::{IpAddr, Ipv6Addr};

use super::endpoint::InvalidValue;

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u128,
    prefix: u32,
}

const GOOD: &str = "127.0.0.1, 10.0.0.0/8";

/// IPv4 addresses are compared as the IPv6 addresses that stand for them.
fn bits(address: IpAddr) -> u128 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    Ipv6Addr::to_bits(address)
}

impl Network {
    /// Reads `ADDRESS` or `ADDRESS/BITS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let length = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(length);
        let prefix = (prefix <= length).then_some(prefix + 128 - length)?;
        Some(Self { address: bits(address), prefix })
    }

    /// Whether the network has this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let host_bits = 128 - self.prefix;
        let differing = self.address ^ bits(address);
        differing.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// Parses networks, separated by commas or white space.
pub(super) fn networks(text: &str) -> Result<Vec<Network>, InvalidValue> {
    let parts = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            Network::parse(part).ok_or_else(|| InvalidValue {
                reason: "has what is neither an address nor a network".to_owned(),
                good: GOOD.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::networks;

    #[track_caller]
    fn check(text: &str, address: &str, expected: bool) {
        let found = networks(text).unwrap();
        let address = address.parse().unwrap();
        assert_eq!(found.iter().any(|one| one.contains(address)), expected, "{text} {address}");
    }

    #[test]
    fn a_network_has_its_addresses() {
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("127.0.0.1", "::ffff:127.0.0.1", true);
        check("10.0.0.0/8, 192.168.1.0/24", "10.255.1.2", true);
        check("10.0.0.0/8 192.168.1.0/24", "192.168.2.1", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("::/0", "2001:db8:1::1", true);
        check("", "127.0.0.1", false);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["proxy", "10.0.0.0/33", "10.0.0/8", "::1/129", "10.0.0.0/x", "*"] {
            assert!(networks(text).is_err(), "{text}");
        }
    }
}
