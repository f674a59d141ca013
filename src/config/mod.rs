//! The configuration: flags, environment variables and a TOML file, parsed to a [`Config`].
//!
//! [`SETTINGS`] lists all settings. docs/configuration.md, the environment variables, the defaults
//! and the check for unknown keys derive from it.
//!
//! Not here: the definition of documents. The tables of the file that contain it are parsed by
//! `engine::document::definition`.

mod access;
mod endpoint;
mod error;
mod load;
mod network;
mod setting;
mod settings;
mod source;
#[cfg(test)]
pub(crate) mod testing;
mod unit;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use access::{end_of_day, is_token_name};
pub use error::ConfigError;
pub use load::{Needs, listen, load, tokens_in};
pub use network::Network;
pub use setting::{Setting, ValueKind};
pub use settings::SETTINGS;
pub use source::{Flags, Strings, environment};

/// A secret. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The configuration of an instance.
#[derive(Clone, Debug)]
pub struct Config {
    /// The connection to PostgreSQL.
    pub database: Database,
    /// The connection to Elasticsearch.
    pub elasticsearch: Elasticsearch,
    /// The address of the HTTP server. `WALFERRY_LISTEN`, default `127.0.0.1:3002`.
    pub listen: SocketAddr,
    /// The name of the replication slot. `WALFERRY_SLOT`, default `walferry`.
    pub slot: String,
    /// The name of the publication. `WALFERRY_PUBLICATION`, default `walferry`.
    pub publication: String,
    /// The prefix of all index and alias names. `WALFERRY_INDEX_PREFIX`, default empty.
    pub index_prefix: String,
    /// The limits of batches, requests and memory.
    pub limits: Limits,
    /// The retention and the retries of jobs.
    pub queue: Queue,
    /// The HTTP API.
    pub api: Api,
    /// The tables `table` and `index` of the configuration file; `None` for the built-in
    /// definition of documents.
    pub definition: Option<toml::Table>,
}

/// The connection to PostgreSQL.
#[derive(Clone, Debug)]
pub struct Database {
    /// Host, port, user, password and database. The `sslmode` of this type is not used.
    pub connect: tokio_postgres::Config,
    /// The `sslmode`.
    pub ssl_mode: SslMode,
    /// A PEM file of certificate authorities (`sslrootcert`); `None` uses the system's store.
    pub root_certificates: Option<PathBuf>,
    /// The time in which a connection must be established.
    pub connect_timeout: Duration,
}

/// libpq's `sslmode`, without `allow` (libpq, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption if the server supports it.
    Prefer,
    /// Encryption without verification.
    Require,
    /// Encryption; the certificate chain is verified.
    VerifyCa,
    /// Encryption; the certificate chain and the host name are verified.
    VerifyFull,
}

/// The connection to Elasticsearch.
#[derive(Clone, Debug)]
pub struct Elasticsearch {
    /// The nodes of one cluster, without credentials (`ELASTICSEARCH_URL`). Empty only if the
    /// configuration was loaded with [`Needs::Database`].
    pub nodes: Vec<url::Url>,
    /// The credentials.
    pub authentication: Authentication,
    /// A PEM file of the certificate authority; `None` uses the built-in roots.
    pub certificate_authority: Option<PathBuf>,
    /// True if request bodies are compressed (gzip, level 1).
    pub gzip: bool,
    /// The time in which a request must be answered in full.
    pub request_timeout: Duration,
    /// The refresh policy.
    pub refresh: Refresh,
}

/// The credentials for Elasticsearch.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// None.
    None,
    /// HTTP basic authentication.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An encoded API key.
    ApiKey(Secret),
}

/// How indexed documents become visible to searches (Elasticsearch, "refresh" parameter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// While walferry is caught up, bulk requests force a refresh, at most every 50 ms.
    Adaptive,
    /// By the `refresh_interval` of the index.
    Index,
}

/// The limits of batches, requests and memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The number of changes recorded in one transaction.
    pub batch_changes_max: usize,
    /// The row text recorded in one transaction, in bytes.
    pub batch_bytes_max: usize,
    /// The text of a row in bytes above which it is recorded by its size and gets no document.
    pub row_bytes_max: usize,
    /// The number of rows that a fan-out rewrites at once; more of them are left to the background.
    pub fanout_rows_max: usize,
    /// The number of documents in a bulk request.
    pub bulk_actions_max: usize,
    /// The size of a bulk request before compression, in bytes.
    pub bulk_bytes_max: usize,
    /// The number of concurrent bulk requests.
    pub bulks_in_flight_max: usize,
    /// The size of the actions that the sink has received and not settled, in bytes.
    pub actions_bytes_max: usize,
    /// The size of all rows, documents and batches held at once, in bytes.
    pub memory_max: usize,
    /// The unconfirmed WAL in bytes beyond which durable `pending` jobs count as settled; `None` for
    /// half of `max_slot_wal_keep_size`, or 4 GiB if that is unlimited.
    pub retained_wal_bytes_max: Option<u64>,
    /// The time after SIGTERM in which batches in flight can finish.
    pub shutdown_grace: Duration,
}

/// The retention and the retries of jobs.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The time for which completed jobs are kept.
    pub completed_retention: Duration,
    /// The time for which operations stay in the audit log.
    pub audit_retention: Duration,
    /// The number of rejections of a document after which its job is `failed`.
    pub attempts_max: u32,
    /// The delay before the second attempt. It doubles with each further attempt.
    pub retry_delay_min: Duration,
    /// The longest delay between two attempts.
    pub retry_delay_max: Duration,
}

/// The HTTP API.
#[derive(Clone, Debug)]
pub struct Api {
    /// True if the server can listen on an address other than loopback without authentication.
    pub insecure_no_auth: bool,
    /// The tokens that grant access.
    pub tokens: Vec<Token>,
    /// The JSON Web Tokens that grant access.
    pub jwt: Option<Jwt>,
    /// The other origins that can use the API, in the form of the header `Origin`.
    pub cors_origins: Vec<String>,
    /// The names that clients may call the server by.
    pub hosts: Vec<String>,
    /// The file that the tokens were read from, if they were.
    pub tokens_file: Option<PathBuf>,
    /// The reverse proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// True if the audit log names who reads which record.
    pub audit_reads: bool,
    /// The label of this installation on the page.
    pub environment: Option<String>,
}

impl Api {
    /// True if every request must be authenticated.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        !self.tokens.is_empty() || self.jwt.is_some()
    }
}

/// The role of a client. Each role includes the permissions of the roles before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Retries jobs, and stops and starts indexing.
    Operator,
    /// Deletes jobs.
    Admin,
}

impl Role {
    /// All roles, from the fewest to the most permissions.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name of the role in settings, claims and responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role with this name, which is case-sensitive; `None` if there is none.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// An API token. Only its hash is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The name for the audit log.
    pub name: String,
    /// The role that the token grants.
    pub role: Role,
    /// The SHA-256 hash of the token.
    pub sha256: [u8; 32],
    /// The end of the token's validity; `None` if it does not expire.
    pub expires_at: Option<SystemTime>,
}

/// The JSON Web Tokens that the API accepts. At least one of `secret` and `jwks_url` is set.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// The secret for HS256.
    pub secret: Option<Secret>,
    /// The URL of the public keys for ES256 and RS256.
    pub jwks_url: Option<url::Url>,
    /// The required claim `iss`.
    pub issuer: String,
    /// The required member of the claim `aud`.
    pub audience: String,
    /// The path of the claim that contains the role.
    pub role_claim: Vec<String>,
}
