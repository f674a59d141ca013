//! TCP and HTTP servers that stand in for servers that start late or reject requests.
//!
//! Not here: faults of single requests (`support::faults`).

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A TCP proxy. It ends when dropped.
pub(crate) struct Proxy(JoinHandle<()>);

impl Proxy {
    /// Starts a proxy from `port` to the port `server`.
    pub(crate) async fn open(port: u16, server: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        Proxy(tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.expect("accepting goes on");
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
                        return;
                    };
                    // Either side can close the connection at any time.
                    drop(copy_bidirectional(&mut client, &mut server).await);
                });
            }
        }))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An HTTP server that answers all requests with one status. It ends when dropped.
pub(crate) struct Refusing {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Refusing {
    pub(crate) async fn answering(status: u16) -> Refusing {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("accepting goes on");
                tokio::spawn(refuse(client, status));
            }
        });
        Refusing { port, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn refuse(mut client: TcpStream, status: u16) {
    let body =
        format!(r#"{{"error":{{"type":"security_exception","reason":"no"}},"status":{status}}}"#);
    let answer = format!(
        "HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\nx-elastic-product: Elasticsearch\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut request = [0; 4096];
    // One read is enough: the client receives the answer even if it is still sending.
    if client.read(&mut request).await.is_ok_and(|length| length > 0) {
        drop(client.write_all(answer.as_bytes()).await);
    }
}
