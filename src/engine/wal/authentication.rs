//! Proves to the server who we are: cleartext, MD5, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
//!
//! Over TLS the SCRAM exchange is bound to the server's certificate where both sides can.
//!
//! Not here: GSSAPI and SSPI, which are refused with a sentence.

use bytes::Bytes;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::AUTHENTICATION_TAG;
use postgres_protocol::message::frontend;

use super::error::ReplicationError;
use crate::engine::wal::wire::Wire;

/// Who we are.
pub(crate) struct Credentials<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a [u8]>,
    /// The hash of the server's certificate, over TLS.
    pub(crate) certificate_hash: Option<Vec<u8>>,
    pub(crate) encrypted: bool,
}

impl Credentials<'_> {
    fn password(&self) -> Result<&[u8], ReplicationError> {
        self.password.ok_or(ReplicationError::PasswordMissing)
    }
}

/// Kinds of authentication request (protocol section "Message Formats").
mod kind {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// From the start-up packet sent to AuthenticationOk.
pub(crate) async fn authenticate(
    wire: &mut Wire,
    who: &Credentials<'_>,
) -> Result<(), ReplicationError> {
    loop {
        let (kind, body) = request(wire).await?;
        match kind {
            kind::OK => return Ok(()),
            kind::CLEARTEXT => frontend::password_message(who.password()?, &mut wire.output)?,
            kind::MD5 => {
                let salt = body.first_chunk().ok_or(ReplicationError::Unexpected("MD5 salt"))?;
                let hash = md5_hash(who.user.as_bytes(), who.password()?, *salt);
                frontend::password_message(hash.as_bytes(), &mut wire.output)?;
            }
            kind::SASL => {
                scram(wire, who, &body).await?;
                continue;
            }
            other => return Err(ReplicationError::Authentication(other)),
        }
        wire.flush().await?;
    }
}

async fn scram(
    wire: &mut Wire,
    who: &Credentials<'_>,
    mechanisms: &[u8],
) -> Result<(), ReplicationError> {
    let offered = |name: &str| mechanisms.split(|&byte| byte == 0).any(|m| m == name.as_bytes());
    let (mechanism, binding) = match &who.certificate_hash {
        Some(hash) if offered(SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash.clone()))
        }
        // "y" tells the server that we could have: it refuses if somebody hid its offer.
        Some(_) if who.encrypted => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        _ => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    if !offered(mechanism) {
        return Err(ReplicationError::Authentication(kind::SASL));
    }
    let mut exchange = ScramSha256::new(who.password()?, binding);
    frontend::sasl_initial_response(mechanism, exchange.message(), &mut wire.output)?;
    wire.flush().await?;
    let first = expect(wire, kind::SASL_CONTINUE).await?;
    // Some milliseconds of hashing: the server chooses how many.
    exchange.update(&first)?;
    frontend::sasl_response(exchange.message(), &mut wire.output)?;
    wire.flush().await?;
    let last = expect(wire, kind::SASL_FINAL).await?;
    Ok(exchange.finish(&last)?)
}

async fn expect(wire: &mut Wire, expected: u32) -> Result<Bytes, ReplicationError> {
    match request(wire).await? {
        (kind, body) if kind == expected => Ok(body),
        (kind, _) => Err(ReplicationError::Authentication(kind)),
    }
}

async fn request(wire: &mut Wire) -> Result<(u32, Bytes), ReplicationError> {
    let mut frame = wire.frame().await?;
    if frame.tag != AUTHENTICATION_TAG || frame.body.len() < 4 {
        return Err(ReplicationError::Unexpected("an authentication request"));
    }
    let body = frame.body.split_off(4);
    let kind = frame.body.iter().fold(0, |n, &byte| n << 8 | u32::from(byte));
    Ok((kind, body))
}
