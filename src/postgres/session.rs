//! A SQL session: a client, and a signal for the end of its connection.
//!
//! Not here: reconnecting. The end of a session ends the run, and `engine::run` starts another.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::config::Host;
use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use crate::config::{Database, SslMode};
use crate::postgres::error::{self, Disposition, Recovery};
use crate::postgres::host::{self, Endpoint, HostAddress, HostAddresses, TimeShares, UnknownHost};
use crate::postgres::tls::{self, TlsError};

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "no answer from PostgreSQL at {target} within {} s; check host, port and firewall",
        time.as_secs_f32().ceil()
    )]
    Timeout { target: String, time: Duration },
    #[error("cannot connect to PostgreSQL at {target}: {reason}")]
    Refused { target: String, reason: String, disposition: Disposition },
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
    /// Why the server takes no writes; `None` if it does.
    pub read_only: Option<ReadOnly>,
}

/// Why a server takes no writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// It replays the WAL of another.
    Standby,
    /// `default_transaction_read_only` is on; `source` is PostgreSQL's word for where it is set.
    Setting { source: String },
}

impl fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standby => f.write_str(
                "the server is a standby, which takes no writes; waiting until it is promoted, or \
                 its name leads to the primary",
            ),
            Self::Setting { source } => write!(
                f,
                "default_transaction_read_only is on (set by: {source}), and the queue could not \
                 be written; turn it off: alter role … or alter database … or alter system \
                 reset default_transaction_read_only"
            ),
        }
    }
}

/// The first statement of a session: what an older version does not take at the start-up, and what
/// the server says of itself.
const BEGIN: &str = include_str!("session_begin.sql");

/// A connection without an answer is given up after about this time.
const SILENCE_MAX: Duration = Duration::from_secs(30);

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

/// Opens a session with [`crate::postgres::SETTINGS`], within the configured time, of which each
/// address has its share. Of several hosts the first one that takes writes is used.
///
/// # Errors
/// [`ConnectError`]. Its disposition is `Retry` if another attempt can succeed.
pub async fn connect(database: &Database, application_name: &str) -> Result<Session, ConnectError> {
    let config = session_config(database, application_name);
    let limit = database.connect_timeout;
    let begun = Instant::now();
    let HostAddresses { found, unknown } = host::resolve(&config, limit).await;
    let is_alone = config.get_hosts().len().max(config.get_hostaddrs().len()) <= 1;
    let mut failures: Vec<ConnectError> = unknown.into_iter().map(unknown_host).collect();
    let mut shares = TimeShares::new(begun, limit, found.len());
    for address in &found {
        let share = shares.next(Instant::now());
        let attempt = timeout(share, open(database, &config, address)).await;
        let failure = match attempt {
            Ok(Ok(session)) if is_alone || session.read_only.is_none() => return Ok(session),
            Ok(Ok(session)) => read_only(address, session.read_only),
            Ok(Err(error)) => error,
            Err(_) => ConnectError::Timeout { target: named(address, &config), time: share },
        };
        failures.push(failure);
    }
    Err(joined(failures, &config))
}

/// The one failure, or all of them: with one of them, waiting may help.
fn joined(mut failures: Vec<ConnectError>, config: &tokio_postgres::Config) -> ConnectError {
    if failures.len() == 1 {
        return failures.remove(0);
    }
    let may_pass = failures.iter().any(|failure| failure.disposition() == Disposition::Retry);
    let sentences: Vec<String> = failures.iter().map(ToString::to_string).collect();
    ConnectError::Refused {
        target: target(config),
        reason: sentences.join("; "),
        disposition: if may_pass { Disposition::Retry } else { Disposition::Operator },
    }
}

fn unknown_host(host: UnknownHost) -> ConnectError {
    let reason = error::sentence(&host.reason);
    ConnectError::Refused { target: host.target, reason, disposition: Disposition::Retry }
}

fn read_only(address: &HostAddress, reason: Option<ReadOnly>) -> ConnectError {
    let reason = reason.map_or_else(String::new, |reason| reason.to_string());
    ConnectError::Refused { target: address.to_string(), reason, disposition: Disposition::Retry }
}

async fn open(
    database: &Database,
    config: &tokio_postgres::Config,
    address: &HostAddress,
) -> Result<Session, ConnectError> {
    let config = &host::config_for(config, address);
    let refused = |error: &tokio_postgres::Error| ConnectError::Refused {
        target: named(address, config),
        reason: error::sentence(error),
        disposition: connect_disposition(error),
    };
    let closed = Closed::default();
    let ended = closed.clone();
    let is_plain = matches!(address.endpoint, Endpoint::Unix(..));
    let client = if database.ssl_mode == SslMode::Disable || is_plain {
        let (client, connection) = config.connect(NoTls).await.map_err(|e| refused(&e))?;
        tokio::spawn(async move { ended.end(connection.await.err().map(|e| error::sentence(&e))) });
        client
    } else {
        let roots = database.root_certificates.as_deref();
        let tls = MakeRustlsConnect::new(tls::client_config(database.ssl_mode, roots)?);
        let (client, connection) = config.connect(tls).await.map_err(|e| refused(&e))?;
        tokio::spawn(async move { ended.end(connection.await.err().map(|e| error::sentence(&e))) });
        client
    };
    let answer = client.simple_query(BEGIN).await.map_err(|e| refused(&e))?;
    Ok(Session { client, closed, read_only: read_only_of(&answer) })
}

/// What the answer to [`BEGIN`] says.
fn read_only_of(answer: &[SimpleQueryMessage]) -> Option<ReadOnly> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    if row.get("is_standby") == Some("t") {
        return Some(ReadOnly::Standby);
    }
    row.get("read_only_by").map(|source| ReadOnly::Setting { source: source.to_owned() })
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
    config.application_name(application_name).options(options).keepalives(true);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_MAX);
    }
    config.keepalives_idle(SILENCE_MAX.min(config.get_keepalives_idle()));
    config.ssl_mode(match database.ssl_mode {
        SslMode::Disable => DriverSslMode::Disable,
        SslMode::Prefer => DriverSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
    });
    config
}

/// An address and the database, for error messages.
fn named(address: &HostAddress, config: &tokio_postgres::Config) -> String {
    format!("{address} (database {})", config.get_dbname().unwrap_or("of the user's name"))
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
