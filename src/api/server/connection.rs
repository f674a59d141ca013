//! A client's socket, which fails once the client has not read for [`UNREAD_MAX`].
//!
//! A client that sends nothing is the HTTP server's to end: it limits the time for a request's head.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long a client may leave unread what is sent to it.
const UNREAD_MAX: Duration = Duration::from_secs(20);

/// A socket with a limit on the time in which nothing is read at its other end.
pub(super) struct Connection {
    stream: TcpStream,
    unread_max: Duration,
    /// Runs while the socket takes nothing more.
    unread: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::with_limit(stream, UNREAD_MAX)
    }

    fn with_limit(stream: TcpStream, unread_max: Duration) -> Self {
        let socket = SockRef::from(&stream);
        // Few events fill the system's buffer so slowly that a write does not wait for a long time:
        // there the system itself gives the connection up. Without either a client is only slower.
        #[cfg(target_os = "linux")]
        drop(socket.set_tcp_user_timeout(Some(unread_max)));
        drop(socket.set_tcp_nodelay(true));
        Self { stream, unread_max, unread: None }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = pin!(&mut self.stream).poll_write(context, bytes);
        if polled.is_ready() {
            self.unread = None;
            return polled;
        }
        let unread_max = self.unread_max;
        let unread = self.unread.get_or_insert_with(|| Box::pin(sleep(unread_max)));
        if unread.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let limit = Duration::from_millis(300);
        let mut connection = Connection::with_limit(listener.accept().await.unwrap().0, limit);
        let began = Instant::now();
        let error = async {
            loop {
                if let Err(error) = connection.write_all(&[0; 64 * 1024]).await {
                    return error;
                }
            }
        };
        assert_eq!(error.await.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= limit);
        drop(client);
    }
}
