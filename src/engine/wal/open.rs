//! Opens a socket to a host, with TLS as configured.
//!
//! Not here: the protocol after the TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::error::ReplicationError;
use crate::config::{Database, SslMode};
use crate::engine::wal::wire::Socket;
use crate::postgres::host::{Endpoint, HostAddress};
use crate::postgres::{client_config, end_point_hash};

/// An open socket and its TLS state.
pub(crate) struct OpenSocket {
    pub(crate) socket: Box<dyn Socket>,
    pub(crate) encrypted: bool,
    /// The hash of the server's certificate, over TLS.
    pub(crate) certificate_hash: Option<Vec<u8>>,
}

/// Opens a socket to an address, and performs the TLS handshake.
pub(crate) async fn open(
    host: &HostAddress,
    database: &Database,
) -> Result<OpenSocket, ReplicationError> {
    let mut tcp = match &host.endpoint {
        Endpoint::Tcp(address) => connect_tcp(*address).await?,
        Endpoint::Unix(path, port) => {
            let socket = UnixStream::connect(path.join(format!(".s.PGSQL.{port}"))).await?;
            return Ok(OpenSocket {
                socket: Box::new(socket),
                encrypted: false,
                certificate_hash: None,
            });
        }
    };
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
    let name = &host.name;
    if name.is_empty() {
        return Err(ReplicationError::Handshake("there is no host name to verify".to_owned()));
    }
    ServerName::try_from(name.clone())
        .map_err(|_| ReplicationError::Handshake(format!("{name:?} is no host name")))
}

async fn connect_tcp(address: SocketAddr) -> Result<TcpStream, ReplicationError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    Ok(socket.connect(address).await?)
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
