//! Reads the messages of PostgreSQL's frontend/backend protocol from a socket, and writes to it.
//!
//! Reading is cancel safe: bytes that have arrived are in the buffer. A message's body is split off
//! the buffer without a copy; the buffer is reused after the bodies have been dropped.
//!
//! Not here: the meaning of a message.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::{ERROR_RESPONSE_TAG, Header, NOTICE_RESPONSE_TAG};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::ReplicationError;
use crate::postgres::ServerError;

/// Free space in the buffer before each read.
const READ_BYTES: usize = 64 * 1024;
/// PostgreSQL allocates at most 1 GiB for a message.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// A larger buffer is freed when it is empty, as one huge row must not stay in memory.
const IDLE_BUFFER_BYTES_MAX: usize = 1 << 20;
/// SQLSTATE of the warning with which PostgreSQL 18 continues without a publication that does not
/// exist, and thus without its changes. Earlier versions fail with 42704.
const PUBLICATION_SKIPPED: &str = "55000";
/// Tag and length.
const HEADER_BYTES: usize = 5;

/// A socket, encrypted or not.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A message of the server.
#[derive(Debug)]
pub(crate) struct BackendMessage {
    pub(crate) tag: u8,
    pub(crate) body: Bytes,
}

/// A socket with its buffers.
pub(crate) struct Wire {
    socket: Box<dyn Socket>,
    input: BytesMut,
    /// The bytes that [`Wire::flush`] sends.
    pub(crate) output: BytesMut,
}

impl Wire {
    pub(crate) fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, input: BytesMut::with_capacity(READ_BYTES), output: BytesMut::new() }
    }

    /// The next message that is complete in the buffer. An `ErrorResponse` is an error, and so is the
    /// notice that changes will be missing.
    pub(crate) fn buffered(&mut self) -> Result<Option<BackendMessage>, ReplicationError> {
        loop {
            let Some(header) = Header::parse(&self.input)? else { return Ok(None) };
            let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
            if length > MESSAGE_BYTES_MAX {
                return Err(ReplicationError::TooLarge(length));
            }
            if self.input.len() <= length {
                // As much as the message has: doubling would hold a large one twice.
                self.input.reserve(length + 1 - self.input.len());
                return Ok(None);
            }
            let mut body = self.input.split_to(length + 1).freeze();
            body.advance(HEADER_BYTES);
            if length > IDLE_BUFFER_BYTES_MAX {
                // What is left must not keep the whole buffer of a large message.
                self.input = BytesMut::from(self.input.as_ref());
            }
            match header.tag() {
                ERROR_RESPONSE_TAG => return Err(server_error(&body).into()),
                NOTICE_RESPONSE_TAG => {
                    let notice = server_error(&body);
                    if notice.code() == PUBLICATION_SKIPPED {
                        return Err(ReplicationError::PublicationSkipped);
                    }
                }
                tag => return Ok(Some(BackendMessage { tag, body })),
            }
        }
    }

    /// Reads the bytes that have arrived, at least one. Cancel safe.
    pub(crate) async fn fill(&mut self) -> Result<(), ReplicationError> {
        if self.input.is_empty() && self.input.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.input = BytesMut::new();
        }
        self.input.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(ReplicationError::Closed),
            _ => Ok(()),
        }
    }

    /// The next message; waits for it. Cancel safe.
    pub(crate) async fn message(&mut self) -> Result<BackendMessage, ReplicationError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Sends the bytes in `output`. Cancel safe.
    pub(crate) async fn flush(&mut self) -> Result<(), ReplicationError> {
        while !self.output.is_empty() {
            let sent = self.socket.write(&self.output).await?;
            if sent == 0 {
                return Err(ReplicationError::Closed);
            }
            self.output.advance(sent);
        }
        Ok(self.socket.flush().await?)
    }

    /// Ends the connection's sending half.
    pub(crate) async fn shutdown(&mut self) -> Result<(), ReplicationError> {
        Ok(self.socket.shutdown().await?)
    }
}

fn server_error(body: &[u8]) -> ServerError {
    let mut code = "";
    let mut message = "";
    for field in body.split(|&byte| byte == 0) {
        match field.split_first() {
            Some((b'C', text)) => code = std::str::from_utf8(text).unwrap_or_default(),
            Some((b'M', text)) => message = std::str::from_utf8(text).unwrap_or_default(),
            _ => {}
        }
    }
    ServerError::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn messages(bytes: &[u8], cut: usize) -> Vec<(u8, Vec<u8>)> {
        let (mut server, client) = tokio::io::duplex(64);
        let mut wire = Wire::new(Box::new(client));
        let parts: Vec<Vec<u8>> = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
        let sending = async move {
            for part in parts {
                server.write_all(&part).await.unwrap();
            }
        };
        let receiving = async {
            let mut found = Vec::new();
            while let Ok(message) = wire.message().await {
                found.push((message.tag, message.body.to_vec()));
            }
            found
        };
        tokio::join!(sending, receiving).1
    }

    #[tokio::test]
    async fn messages_do_not_depend_on_the_size_of_reads() {
        let bytes = b"d\0\0\0\x05xN\0\0\0\x06hiZ\0\0\0\x04";
        for cut in 1..bytes.len() {
            let found = messages(bytes, cut).await;
            assert_eq!(found, [(b'd', b"x".to_vec()), (b'Z', Vec::new())], "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_large_message_leaves_no_large_buffer() {
        let mut wire = Wire::new(Box::new(tokio::io::duplex(8).0));
        let length = u32::try_from(2 * IDLE_BUFFER_BYTES_MAX).unwrap();
        wire.input.extend_from_slice(b"d");
        wire.input.extend_from_slice(&length.to_be_bytes());
        assert!(wire.buffered().unwrap().is_none());
        let whole = length as usize + 1;
        assert!((whole..whole + READ_BYTES).contains(&wire.input.capacity()), "no doubling");
        wire.input.resize(whole, b'x');
        wire.input.extend_from_slice(b"Z\0\0\0\x04");
        drop(wire.buffered().unwrap().unwrap());
        assert!(!wire.input.try_reclaim(READ_BYTES), "the buffer is gone");
        assert_eq!(wire.buffered().unwrap().unwrap().tag, b'Z');
    }

    #[tokio::test]
    async fn an_error_response_is_an_error_with_its_sqlstate() {
        let body = b"SFATAL\0C57P01\0Mterminating\0\0";
        let mut bytes = vec![b'E', 0, 0, 0, u8::try_from(body.len() + 4).unwrap()];
        bytes.extend_from_slice(body);
        let mut wire = Wire::new(Box::new(tokio::io::duplex(8).0));
        wire.input.extend_from_slice(&bytes);
        match wire.buffered() {
            Err(ReplicationError::Server(error)) => assert_eq!(error.code(), "57P01"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_warning_that_changes_are_left_out_is_an_error() {
        for (code, expected) in [("55000", true), ("01000", false)] {
            let body = format!("SWARNING\0C{code}\0Mskipped\0\0");
            let mut wire = Wire::new(Box::new(tokio::io::duplex(8).0));
            wire.input.extend_from_slice(&[b'N', 0, 0, 0, u8::try_from(body.len() + 4).unwrap()]);
            wire.input.extend_from_slice(body.as_bytes());
            let found = wire.buffered();
            assert_eq!(matches!(found, Err(ReplicationError::PublicationSkipped)), expected);
        }
    }

    #[tokio::test]
    async fn a_hostile_length_is_refused() {
        for length in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xff], [0, 0, 0, 3]] {
            let mut wire = Wire::new(Box::new(tokio::io::duplex(8).0));
            wire.input.extend_from_slice(b"d");
            wire.input.extend_from_slice(&length);
            assert!(wire.buffered().is_err(), "{length:?}");
        }
    }
}
