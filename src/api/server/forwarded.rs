//! The address of a client behind a reverse proxy: what `X-Forwarded-For` says, as far as trusted
//! proxies have written it.
//!
//! A proxy appends the address that it was asked from. From the right, the first address that is not
//! a trusted proxy's is the client's; what stands before it the client may have made up.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::Network;

const HEADER: &str = "x-forwarded-for";

/// The client's address, of a request that came from `peer`.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer;
    let values = headers.get_all(HEADER).iter().rev().map(|value| value.to_str().unwrap_or("?"));
    let mut named = values.flat_map(|value| value.rsplit(','));
    while is_trusted(client) {
        let Some(next) = named.next().and_then(address) else { break };
        client = next;
    }
    client
}

/// With or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(peer: &str, values: &[&str], expected: &str) {
        let trusted = ["127.0.0.1", "10.0.0.0/8"].map(|text| Network::parse(text).unwrap());
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).unwrap());
        }
        let found = client(peer.parse().unwrap(), &headers, &trusted);
        assert_eq!(found.to_string(), expected, "{peer} {values:?}");
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        check("203.0.113.1", &["198.51.100.7"], "203.0.113.1");
        check("127.0.0.1", &[], "127.0.0.1");
        check("127.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("127.0.0.1", &["6.6.6.6, 198.51.100.7, 10.1.1.1"], "198.51.100.7");
        check("127.0.0.1", &["6.6.6.6", "198.51.100.7:4711"], "198.51.100.7");
        check("127.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7");
        check("127.0.0.1", &["6.6.6.6, unknown"], "127.0.0.1");
        check("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1");
    }
}
