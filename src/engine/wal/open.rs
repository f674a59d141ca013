//! From a host's name to a socket that the start-up packet can be sent on.
//!
//! Not here: anything the protocol says after TLS is settled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio_postgres::config::Host;
use tokio_rustls::TlsConnector;

use super::error::ReplicationError;
use crate::config::{Database, SslMode};
use crate::engine::wal::wire::Socket;
use crate::postgres::{client_config, end_point_hash};

/// A socket, and what TLS made of it.
pub(crate) struct Opened {
    pub(crate) socket: Box<dyn Socket>,
    pub(crate) encrypted: bool,
    pub(crate) certificate_hash: Option<Vec<u8>>,
}

/// The hosts to try, in order: name, address where the operator gave one, port.
pub(crate) fn targets(config: &tokio_postgres::Config) -> Vec<Target> {
    let (hosts, addresses, ports) =
        (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    (0..hosts.len().max(addresses.len()))
        .map(|index| Target {
            host: hosts.get(index).cloned(),
            address: addresses.get(index).copied(),
            port: ports.get(index).or(ports.first()).copied().unwrap_or(5432),
        })
        .collect()
}

/// One host.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), _) => write!(f, "{name}:{}", self.port),
            (Some(Host::Unix(path)), _) => write!(f, "{}/.s.PGSQL.{}", path.display(), self.port),
            (None, Some(address)) => write!(f, "{}", SocketAddr::new(address, self.port)),
            (None, None) => write!(f, "port {}", self.port),
        }
    }
}

/// Opens a socket to a host and settles TLS.
pub(crate) async fn open(target: &Target, database: &Database) -> Result<Opened, ReplicationError> {
    if let (Some(Host::Unix(path)), None) = (&target.host, target.address) {
        let socket = UnixStream::connect(path.join(format!(".s.PGSQL.{}", target.port))).await?;
        return Ok(Opened { socket: Box::new(socket), encrypted: false, certificate_hash: None });
    }
    let mut tcp = connect_tcp(target).await?;
    if database.ssl_mode == SslMode::Disable || !ask_for_tls(&mut tcp).await? {
        if !matches!(database.ssl_mode, SslMode::Disable | SslMode::Prefer) {
            return Err(ReplicationError::TlsRefused);
        }
        return Ok(Opened { socket: Box::new(tcp), encrypted: false, certificate_hash: None });
    }
    let roots = database.root_certificates.as_deref();
    let connector = TlsConnector::from(Arc::new(client_config(database.ssl_mode, roots)?));
    let stream = connector
        .connect(server_name(target)?, tcp)
        .await
        .map_err(|error| ReplicationError::Handshake(error.to_string()))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate_hash = certificates.and_then(<[_]>::first).and_then(|c| end_point_hash(c));
    Ok(Opened { socket: Box::new(stream), encrypted: true, certificate_hash })
}

fn server_name(target: &Target) -> Result<ServerName<'static>, ReplicationError> {
    match (&target.host, target.address) {
        (Some(Host::Tcp(name)), _) => ServerName::try_from(name.clone())
            .map_err(|_| ReplicationError::Handshake(format!("{name:?} is no host name"))),
        (_, Some(address)) => Ok(ServerName::IpAddress(address.into())),
        _ => Err(ReplicationError::Handshake("there is no host name to verify".to_owned())),
    }
}

async fn connect_tcp(target: &Target) -> Result<TcpStream, ReplicationError> {
    let addresses: Vec<SocketAddr> = match (&target.host, target.address) {
        (_, Some(address)) => vec![SocketAddr::new(address, target.port)],
        (Some(Host::Tcp(name)), None) => lookup_host((name.as_str(), target.port)).await?.collect(),
        _ => Vec::new(),
    };
    let mut failure = std::io::Error::other("the host's name has no address");
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure.into())
}

/// SSLRequest: the server answers with one byte, before anything else.
async fn ask_for_tls(tcp: &mut TcpStream) -> Result<bool, ReplicationError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    match tcp.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(ReplicationError::Unexpected("an answer to SSLRequest")),
    }
}
