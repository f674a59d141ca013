//! The addresses at which PostgreSQL may answer, and the time that each of them has.
//!
//! A name can have several addresses, and the first of them can be one that swallows packets. So the
//! time for connecting is divided: each address has its share of what is left.
//!
//! Not here: opening sessions (`session`, `engine::wal::open`).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(SocketAddr),
    /// The directory of a Unix-domain socket, and the port in its name.
    Unix(PathBuf, u16),
}

/// An address that a session can be opened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The host as configured, which a certificate is verified for.
    pub name: String,
    pub endpoint: Endpoint,
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(address) if address.ip().to_string() == self.name => {
                write!(f, "{address}")
            }
            Endpoint::Tcp(address) => write!(f, "{}:{}", self.name, address.port()),
            Endpoint::Unix(path, port) => write!(f, "{}/.s.PGSQL.{port}", path.display()),
        }
    }
}

/// The addresses of the configured hosts, in order.
#[derive(Debug, Default)]
pub struct HostAddresses {
    pub found: Vec<HostAddress>,
    pub unknown: Vec<UnknownHost>,
}

/// A host whose name has no address.
#[derive(Debug)]
pub struct UnknownHost {
    /// `host:port`.
    pub target: String,
    pub reason: io::Error,
}

/// Looks up the configured hosts. All names are looked up at once, for half of `limit` at most.
pub async fn resolve(config: &Config, limit: Duration) -> HostAddresses {
    let hosts = config.get_hosts();
    let numbers = config.get_hostaddrs();
    let ports = config.get_ports();
    let lookups = (0..hosts.len().max(numbers.len())).map(|index| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let host = hosts.get(index);
        let number = numbers.get(index).copied();
        async move {
            let number = number.map(|ip| SocketAddr::new(ip, port));
            match (host, number) {
                (Some(Host::Tcp(name)), Some(number)) => Ok(vec![tcp(name.clone(), number)]),
                (_, Some(number)) => Ok(vec![tcp(number.ip().to_string(), number)]),
                (Some(Host::Tcp(name)), None) => {
                    let found = timeout(limit / 2, lookup_host((name.as_str(), port))).await;
                    let found = found.unwrap_or_else(|_| {
                        Err(io::Error::other("looking up its address took too long"))
                    });
                    let unknown = |reason| UnknownHost { target: format!("{name}:{port}"), reason };
                    let found = found.map_err(unknown)?;
                    let found: Vec<_> = found.map(|address| tcp(name.clone(), address)).collect();
                    if found.is_empty() {
                        return Err(unknown(io::Error::other("the host's name has no address")));
                    }
                    Ok(found)
                }
                #[cfg(unix)]
                (Some(Host::Unix(path)), None) => Ok(vec![HostAddress {
                    name: path.display().to_string(),
                    endpoint: Endpoint::Unix(path.clone(), port),
                }]),
                (None, None) => Ok(Vec::new()),
            }
        }
    });
    let mut addresses = HostAddresses::default();
    for looked_up in join_all(lookups).await {
        match looked_up {
            Ok(found) => addresses.found.extend(found),
            Err(unknown) => addresses.unknown.push(unknown),
        }
    }
    addresses
}

fn tcp(name: String, address: SocketAddr) -> HostAddress {
    HostAddress { name, endpoint: Endpoint::Tcp(address) }
}

/// Divides the time for connecting among the addresses that are left.
#[derive(Clone, Copy, Debug)]
pub struct TimeShares {
    end: Instant,
    left: u32,
}

impl TimeShares {
    /// `limit` for `count` addresses.
    #[must_use]
    pub fn new(now: Instant, limit: Duration, count: usize) -> Self {
        Self { end: now + limit, left: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// The time of the next address.
    pub fn next(&mut self, now: Instant) -> Duration {
        let share = self.end.saturating_duration_since(now) / self.left.max(1);
        self.left = self.left.saturating_sub(1);
        share
    }
}

/// The configuration for a session with one address only.
#[must_use]
pub fn config_for(config: &Config, address: &HostAddress) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    one.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    one.channel_binding(config.get_channel_binding());
    one.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    match &address.endpoint {
        Endpoint::Tcp(number) => {
            one.host(&address.name).hostaddr(number.ip()).port(number.port());
        }
        Endpoint::Unix(path, port) => {
            one.host_path(path).port(*port);
        }
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_share_of_what_is_left() {
        let start = Instant::now();
        let mut shares = TimeShares::new(start, Duration::from_secs(9), 3);
        assert_eq!(shares.next(start), Duration::from_secs(3));
        // The first one refused at once, the second one took all of its time.
        let second = shares.next(start);
        assert_eq!(second, Duration::from_millis(4500));
        assert_eq!(shares.next(start + second), Duration::from_millis(4500));
        assert_eq!(shares.next(start + Duration::from_secs(20)), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_address_alone_is_a_host_too() {
        let config: Config = "hostaddr=127.0.0.1 port=6000 user=a dbname=b".parse().unwrap();
        let found = resolve(&config, Duration::from_secs(1)).await.found;
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:6000"]);
        let one = config_for(&config, &found[0]);
        // The name is what TLS is negotiated with.
        assert_eq!(one.get_hosts(), [Host::Tcp("127.0.0.1".to_owned())]);
        assert_eq!((one.get_user(), one.get_dbname()), (Some("a"), Some("b")));
    }
}
