//! A SQL session: a client, and a signal for the end of its connection.
//!
//! Not here: reconnecting. The end of a session ends the run, and `engine::run` starts another.

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

/// Why a session could not be opened.
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

/// A session. It ends when its client is dropped and all pending queries are answered.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: Client,
    /// The signal for the end of the connection.
    pub closed: Closed,
}

/// A signal for the end of a session's connection, with the reason. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Closed {
    /// Waits for the end of the connection and returns the reason as a sentence.
    pub async fn wait(&self) -> String {
        self.token.cancelled().await;
        self.reason.get().cloned().unwrap_or_else(|| "the session was closed".to_owned())
    }

    /// True if the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.token.is_cancelled()
    }

    fn end(&self, reason: Option<String>) {
        if let Some(reason) = reason {
            // The connection task is the only caller, and calls once.
            self.reason.get_or_init(|| reason);
        }
        self.token.cancel();
    }
}

/// Opens a session with [`crate::postgres::SETTINGS`], within the configured timeout.
///
/// # Errors
/// [`ConnectError`]. Its disposition is `Retry` if another attempt can succeed.
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

/// How an error of connecting is handled. Without a SQLSTATE, an invalid certificate and an
/// invalid configuration (such as a missing password) need an operator. All other errors are
/// transient.
fn connect_disposition(error: &tokio_postgres::Error) -> Disposition {
    if let Some(error) = error.as_db_error() {
        return error::ServerError::new(error.code().code(), error.message()).disposition();
    }
    let text = error::sentence(error);
    let is_permanent = text.contains("certificate") || text.contains("invalid configuration");
    if is_permanent { Disposition::Operator } else { Disposition::Retry }
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
        // libpq's target_session_attrs=read-write: the primary among several hosts
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config
}

/// The hosts, ports and database of a connection, for error messages.
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
