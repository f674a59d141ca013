//! Opens a socket to a host, with TLS as configured.
//!
//! Not here: the protocol after the TLS handshake.

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

/// An open socket and its TLS state.
pub(crate) struct OpenSocket {
    pub(crate) socket: Box<dyn Socket>,
    pub(crate) encrypted: bool,
    /// The hash of the server's certificate, over TLS.
    pub(crate) certificate_hash: Option<Vec<u8>>,
}

/// The hosts to connect to, in order, each with its address, if one is configured, and its port.
pub(crate) fn host_addresses(config: &tokio_postgres::Config) -> Vec<HostAddress> {
    let hosts = config.get_hosts();
    let addresses = config.get_hostaddrs();
    let ports = config.get_ports();
    (0..hosts.len().max(addresses.len()))
        .map(|index| HostAddress {
            name: hosts.get(index).cloned(),
            address: addresses.get(index).copied(),
            port: ports.get(index).or(ports.first()).copied().unwrap_or(5432),
        })
        .collect()
}

/// A host, its address and its port.
#[derive(Clone, Debug)]
pub(crate) struct HostAddress {
    name: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

impl std::fmt::Display for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.address) {
            (Some(Host::Tcp(name)), _) => write!(f, "{name}:{}", self.port),
            (Some(Host::Unix(path)), _) => write!(f, "{}/.s.PGSQL.{}", path.display(), self.port),
            (None, Some(address)) => write!(f, "{}", SocketAddr::new(address, self.port)),
            (None, None) => write!(f, "port {}", self.port),
        }
    }
}

/// Opens a socket to a host, and performs the TLS handshake.
pub(crate) async fn open(
    host: &HostAddress,
    database: &Database,
) -> Result<OpenSocket, ReplicationError> {
    if let (Some(Host::Unix(path)), None) = (&host.name, host.address) {
        let socket = UnixStream::connect(path.join(format!(".s.PGSQL.{}", host.port))).await?;
        return Ok(OpenSocket {
            socket: Box::new(socket),
            encrypted: false,
            certificate_hash: None,
        });
    }
    let mut tcp = connect_tcp(host).await?;
    if database.ssl_mode == SslMode::Disable || !request_tls(&mut tcp).await? {
        if !matches!(database.ssl_mode, SslMode::Disable | SslMode::Prefer) {
            return Err(ReplicationError::TlsRefused);
        }
        return Ok(OpenSocket { socket: Box::new(tcp), encrypted: false, certificate_hash: None });
    }
    let roots = database.root_certificates.as_deref();
    let connector = TlsConnector::from(Arc::new(client_config(database.ssl_mode, roots)?));
    let stream = connector
        .connect(server_name(host)?, tcp)
        .await
        .map_err(|error| ReplicationError::Handshake(error.to_string()))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate_hash = certificates.and_then(<[_]>::first).and_then(|c| end_point_hash(c));
    Ok(OpenSocket { socket: Box::new(stream), encrypted: true, certificate_hash })
}

fn server_name(host: &HostAddress) -> Result<ServerName<'static>, ReplicationError> {
    match (&host.name, host.address) {
        (Some(Host::Tcp(name)), _) => ServerName::try_from(name.clone())
            .map_err(|_| ReplicationError::Handshake(format!("{name:?} is no host name"))),
        (_, Some(address)) => Ok(ServerName::IpAddress(address.into())),
        _ => Err(ReplicationError::Handshake("there is no host name to verify".to_owned())),
    }
}

async fn connect_tcp(host: &HostAddress) -> Result<TcpStream, ReplicationError> {
    let addresses: Vec<SocketAddr> = match (&host.name, host.address) {
        (_, Some(address)) => vec![SocketAddr::new(address, host.port)],
        (Some(Host::Tcp(name)), None) => lookup_host((name.as_str(), host.port)).await?.collect(),
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

/// Sends SSLRequest, to which the server responds with one byte.
async fn request_tls(tcp: &mut TcpStream) -> Result<bool, ReplicationError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    match tcp.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(ReplicationError::Unexpected("an answer to SSLRequest")),
    }
}
