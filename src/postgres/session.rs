//! A SQL session: a client, and the word that its connection has ended.
//!
//! Not here: reconnecting. Whoever sees a session end ends the run.

use std::sync::{Arc, OnceLock};

use tokio::time::timeout;
use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use crate::config::{Database, SslMode};
use crate::postgres::error::{self, Disposition, Recovery};
use crate::postgres::tls::{self, TlsError};

/// A session cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "no answer from PostgreSQL at {target} within {seconds} s; check host, port and firewall"
    )]
    Timeout { target: String, seconds: u64 },
    #[error("cannot connect to PostgreSQL at {target}: {reason}")]
    Refused { target: String, reason: String, disposition: Disposition, code: Option<String> },
}

impl Recovery for ConnectError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Tls(_) => Disposition::Operator,
            Self::Timeout { .. } => Disposition::Retry,
            Self::Refused { disposition, .. } => *disposition,
        }
    }
}

/// A session. Dropping the client ends it once what it was asked for is answered.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    pub closed: Closed,
}

/// Told when a session's connection has ended, and why.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Closed {
    /// Waits for the connection's end; gives the reason as a sentence.
    pub async fn wait(&self) -> String {
        self.token.cancelled().await;
        self.reason.get().cloned().unwrap_or_else(|| "the session was closed".to_owned())
    }

    /// The connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.token.is_cancelled()
    }

    fn end(&self, reason: Option<String>) {
        if let Some(reason) = reason {
            // Set once, by the only connection task.
            self.reason.get_or_init(|| reason);
        }
        self.token.cancel();
    }
}

/// Opens a session with the settings that every session has ([`crate::postgres::SETTINGS`]).
///
/// # Errors
/// [`ConnectError`], which says whether waiting helps.
pub async fn connect(database: &Database, application_name: &str) -> Result<Session, ConnectError> {
    let config = session_config(database, application_name);
    let closed = Closed::default();
    let attempt = open(database, &config, closed.clone());
    let client = timeout(database.connect_timeout, attempt).await.map_err(|_| {
        let seconds = database.connect_timeout.as_secs();
        ConnectError::Timeout { target: target(&config), seconds }
    })??;
    Ok(Session { client, closed })
}

async fn open(
    database: &Database,
    config: &tokio_postgres::Config,
    closed: Closed,
) -> Result<Client, ConnectError> {
    let refused = |error: &tokio_postgres::Error| ConnectError::Refused {
        target: target(config),
        reason: error::sentence(error),
        disposition: connect_disposition(error),
        code: error.code().map(|code| code.code().to_owned()),
    };
    let is_unix = |host: &Host| !matches!(host, Host::Tcp(_));
    if database.ssl_mode == SslMode::Disable || config.get_hosts().iter().all(is_unix) {
        let (client, connection) = config.connect(NoTls).await.map_err(|e| refused(&e))?;
        tokio::spawn(
            async move { closed.end(connection.await.err().map(|e| error::sentence(&e))) },
        );
        return Ok(client);
    }
    let roots = database.root_certificates.as_deref();
    let tls = MakeRustlsConnect::new(tls::client_config(database.ssl_mode, roots)?);
    let (client, connection) = config.connect(tls).await.map_err(|e| refused(&e))?;
    tokio::spawn(async move { closed.end(connection.await.err().map(|e| error::sentence(&e))) });
    Ok(client)
}

/// Without a SQLSTATE, a certificate that does not verify stays so, as does what the driver
/// finds wrong with the configuration (a missing password); all else may pass.
fn connect_disposition(error: &tokio_postgres::Error) -> Disposition {
    if let Some(error) = error.as_db_error() {
        return error::ServerError::new(error.code().code(), error.message()).disposition();
    }
    let text = error::sentence(error);
    let stays = text.contains("certificate") || text.contains("invalid configuration");
    if stays { Disposition::Operator } else { Disposition::Retry }
}

fn session_config(database: &Database, application_name: &str) -> tokio_postgres::Config {
    let mut config = database.connect.clone();
    let options = super::startup_options(config.get_options());
    config.application_name(application_name).options(options).keepalives(true).ssl_mode(
        match database.ssl_mode {
            SslMode::Disable => DriverSslMode::Disable,
            SslMode::Prefer => DriverSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
        },
    );
    if config.get_hosts().len() > 1 {
        // Of several, the one that can be written to.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config
}

/// Host, port and database, for a sentence.
fn target(config: &tokio_postgres::Config) -> String {
    let mut hosts: Vec<String> = Vec::new();
    for (index, host) in config.get_hosts().iter().enumerate() {
        let ports = config.get_ports();
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        hosts.push(match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
        });
    }
    format!(
        "{} (database {})",
        hosts.join(","),
        config.get_dbname().unwrap_or("of the user's name")
    )
}
