//! One request to a running instance: `GET /livez` over a plain socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TIME_MAX: Duration = Duration::from_secs(3);
/// The status line is what counts; the rest of the answer is short.
const ANSWER_BYTES_MAX: u64 = 4096;

/// No walferry answers.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("walferry does not answer at {address} (WALFERRY_LISTEN)")]
    Unreachable {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no answer from {address} within 3 s")]
    Timeout { address: SocketAddr },
    #[error("what answers at {address} is not a walferry that lives ({status})")]
    Unwell { address: SocketAddr, status: String },
}

/// Asks the instance that listens on `listen`.
///
/// # Errors
///
/// There is no answer of 200.
pub(super) async fn run(listen: SocketAddr) -> Result<(), HealthError> {
    let address = reachable(listen);
    let answer = timeout(TIME_MAX, ask(address))
        .await
        .map_err(|_| HealthError::Timeout { address })?
        .map_err(|source| HealthError::Unreachable { address, source })?;
    let status = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(HealthError::Unwell { address, status })
}

async fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /livez HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// What listens on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::{reachable, run};

    async fn check(answer: &'static str, expected: Option<&str>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(b"GET /livez HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let outcome = run(address).await.map_err(|error| error.to_string());
        server.await.unwrap();
        match (outcome, expected) {
            (Ok(()), None) => {}
            (Err(text), Some(expected)) => assert!(text.contains(expected), "{text}"),
            (outcome, expected) => panic!("{outcome:?} {expected:?}"),
        }
    }

    #[tokio::test]
    async fn only_a_200_is_well() {
        check("HTTP/1.1 200 OK\r\n\r\n{}", None).await;
        check("HTTP/1.1 404 Not Found\r\n\r\n", Some("404 Not Found")).await;
        check("SSH-2.0-OpenSSH_9.2\r\n", Some("SSH")).await;
        check("", Some("is not a walferry")).await;
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        };
        check("0.0.0.0:3002", "127.0.0.1:3002");
        check("[::]:3002", "[::1]:3002");
        check("10.1.2.3:1", "10.1.2.3:1");
    }
}
