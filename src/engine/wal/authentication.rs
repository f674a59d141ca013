//! Authenticates by cleartext password, MD5, SCRAM-SHA-256 or SCRAM-SHA-256-PLUS.
//!
//! Over TLS the SCRAM exchange uses channel binding if the server offers it.
//!
//! Not here: GSSAPI and SSPI, which walferry does not support.

use bytes::Bytes;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::AUTHENTICATION_TAG;
use postgres_protocol::message::frontend;

use super::error::ReplicationError;
use crate::engine::wal::wire::Wire;
use tokio_postgres::config::ChannelBinding as BindingWish;

/// The user and the means to authenticate.
pub(crate) struct RoleCredentials<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a [u8]>,
    /// The hash of the server's certificate, over TLS.
    pub(crate) certificate_hash: Option<Vec<u8>>,
    pub(crate) encrypted: bool,
    /// `channel_binding` of the connection string.
    pub(crate) binding: BindingWish,
}

impl RoleCredentials<'_> {
    fn password(&self) -> Result<&[u8], ReplicationError> {
        self.password.ok_or(ReplicationError::PasswordMissing)
    }
}

/// Codes of authentication requests (protocol section "Message Formats").
mod kind {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// Authenticates, from the start-up packet up to AuthenticationOk.
pub(crate) async fn authenticate(
    wire: &mut Wire,
    credentials: &RoleCredentials<'_>,
) -> Result<(), ReplicationError> {
    let mut is_bound = false;
    loop {
        let (kind, body) = request(wire).await?;
        match kind {
            // A server that skips the exchange has not proved that it is at the channel's other end.
            kind::OK if credentials.binding == BindingWish::Require && !is_bound => {
                return Err(ReplicationError::Unbound);
            }
            kind::OK => return Ok(()),
            kind::CLEARTEXT | kind::MD5 if credentials.binding == BindingWish::Require => {
                return Err(ReplicationError::Unbound);
            }
            kind::CLEARTEXT => {
                frontend::password_message(credentials.password()?, &mut wire.output)?;
            }
            kind::MD5 => {
                let salt = body.first_chunk().ok_or(ReplicationError::Unexpected("MD5 salt"))?;
                let hash = md5_hash(credentials.user.as_bytes(), credentials.password()?, *salt);
                frontend::password_message(hash.as_bytes(), &mut wire.output)?;
            }
            kind::SASL => {
                is_bound = scram(wire, credentials, &body).await?;
                continue;
            }
            other => return Err(ReplicationError::Authentication(other)),
        }
        wire.flush().await?;
    }
}

/// Returns whether the exchange was bound to the channel.
async fn scram(
    wire: &mut Wire,
    credentials: &RoleCredentials<'_>,
    mechanisms: &[u8],
) -> Result<bool, ReplicationError> {
    let offered = |name: &str| mechanisms.split(|&byte| byte == 0).any(|m| m == name.as_bytes());
    let (mechanism, binding) = match &credentials.certificate_hash {
        Some(hash)
            if offered(SCRAM_SHA_256_PLUS) && credentials.binding != BindingWish::Disable =>
        {
            (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash.clone()))
        }
        // "y" states that the client supports channel binding: the server refuses if it has offered
        // it, since an attacker has then removed the offer.
        Some(_) if credentials.encrypted && credentials.binding != BindingWish::Disable => {
            (SCRAM_SHA_256, ChannelBinding::unrequested())
        }
        _ => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    let is_bound = mechanism == SCRAM_SHA_256_PLUS;
    if credentials.binding == BindingWish::Require && !is_bound {
        return Err(ReplicationError::Unbound);
    }
    if !offered(mechanism) {
        return Err(ReplicationError::Authentication(kind::SASL));
    }
    let mut exchange = ScramSha256::new(credentials.password()?, binding);
    frontend::sasl_initial_response(mechanism, exchange.message(), &mut wire.output)?;
    wire.flush().await?;
    let first = expect(wire, kind::SASL_CONTINUE).await?;
    // This hashes for some milliseconds; the server chooses the number of iterations.
    exchange.update(&first)?;
    frontend::sasl_response(exchange.message(), &mut wire.output)?;
    wire.flush().await?;
    let last = expect(wire, kind::SASL_FINAL).await?;
    exchange.finish(&last)?;
    Ok(is_bound)
}

async fn expect(wire: &mut Wire, expected: u32) -> Result<Bytes, ReplicationError> {
    match request(wire).await? {
        (kind, body) if kind == expected => Ok(body),
        (kind, _) => Err(ReplicationError::Authentication(kind)),
    }
}

async fn request(wire: &mut Wire) -> Result<(u32, Bytes), ReplicationError> {
    let mut message = wire.message().await?;
    if message.tag != AUTHENTICATION_TAG || message.body.len() < 4 {
        return Err(ReplicationError::Unexpected("an authentication request"));
    }
    let body = message.body.split_off(4);
    let kind = message.body.iter().fold(0, |n, &byte| n << 8 | u32::from(byte));
    Ok((kind, body))
}
