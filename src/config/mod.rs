//! Every setting: key, unit, default, limit, purpose. Strings become a [`Config`] once, here.
//!
//! [`SETTINGS`] is the one list of them; docs/configuration.md, the environment variables, the
//! defaults and the checks of unknown keys are drawn from it.
//!
//! Not here: what the documents look like. That part of the file is handed on as it stands, to
//! `engine::document::definition`.

mod access;
mod endpoint;
mod error;
mod load;
mod setting;
mod source;
mod table;
mod unit;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use access::{end_of_day, is_token_name};
pub use error::ConfigError;
pub use load::{Needs, listen, load};
pub use setting::{Kind, SETTINGS, Setting};
pub use source::{Flags, Strings, environment};

/// A secret: it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// All settings of one instance.
#[derive(Clone, Debug)]
pub struct Config {
    pub database: Database,
    pub elasticsearch: Elasticsearch,
    /// Where the HTTP server listens. `WALFERRY_LISTEN`, default `127.0.0.1:3002`.
    pub listen: SocketAddr,
    /// Name of the replication slot. `WALFERRY_SLOT`, default `walferry`.
    pub slot: String,
    /// Name of the publication. `WALFERRY_PUBLICATION`, default `walferry`.
    pub publication: String,
    /// Put before every index and alias name. `WALFERRY_INDEX_PREFIX`, default empty.
    pub index_prefix: String,
    pub limits: Limits,
    pub queue: Queue,
    pub api: Api,
    /// What a TOML file says of tables and indices; `None` takes the built-in definition.
    pub definition: Option<toml::Table>,
}

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct Database {
    /// Host, port, user, password, database as tokio-postgres wants them (its own `sslmode` is
    /// not used).
    pub connect: tokio_postgres::Config,
    pub ssl_mode: SslMode,
    /// PEM file of the certificate authorities (`sslrootcert`); `None` takes the system's.
    pub root_certificates: Option<PathBuf>,
    pub connect_timeout: Duration,
}

/// libpq's `sslmode`, without `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// How to reach Elasticsearch.
#[derive(Clone, Debug)]
pub struct Elasticsearch {
    /// `ELASTICSEARCH_URL`: one or more nodes of one cluster, without credentials in them. Empty
    /// only where [`Needs::Database`] was asked for.
    pub nodes: Vec<url::Url>,
    pub authentication: Authentication,
    /// PEM file of the certificate authority; `None` takes the built-in roots.
    pub certificate_authority: Option<PathBuf>,
    /// Compress request bodies (gzip, level 1).
    pub gzip: bool,
    /// For one request, answer included.
    pub request_timeout: Duration,
    pub refresh: Refresh,
}

/// Who walferry is to Elasticsearch.
#[derive(Clone, Debug)]
pub enum Authentication {
    None,
    Basic { username: String, password: Secret },
    ApiKey(Secret),
}

/// Who makes indexed documents searchable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// While caught up, a bulk asks for it, at most every 50 ms.
    Adaptive,
    /// The index, by its `refresh_interval`.
    Index,
}

/// How much of anything is held at once.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Changes recorded in one transaction.
    pub batch_changes_max: usize,
    /// Bytes of row text recorded in one transaction.
    pub batch_bytes_max: usize,
    /// Documents in one bulk request.
    pub bulk_actions_max: usize,
    /// Bytes of one bulk request before compression.
    pub bulk_bytes_max: usize,
    /// Bulk requests under way at once.
    pub bulks_in_flight_max: usize,
    /// Bytes of actions between the feed and their verdicts.
    pub actions_bytes_max: usize,
    /// WAL that the slot may retain before durable `pending` rows count as settled; `None` takes
    /// half of `max_slot_wal_keep_size`, or 4 GiB where that is unlimited.
    pub retained_wal_bytes_max: Option<u64>,
    /// From SIGTERM to the end of waiting for what is in flight.
    pub shutdown_grace: Duration,
}

/// The queue table.
#[derive(Clone, Debug)]
pub struct Queue {
    /// How long completed jobs are kept.
    pub completed_retention: Duration,
    /// Refused attempts of a document after which its job is `failed`.
    pub attempts_max: u32,
    /// The wait before the second attempt; doubles with each.
    pub retry_delay_min: Duration,
    pub retry_delay_max: Duration,
}

/// The HTTP server.
#[derive(Clone, Debug)]
pub struct Api {
    /// Listen where other machines can reach it although nobody is asked who they are.
    pub insecure_no_auth: bool,
    pub tokens: Vec<Token>,
    pub jwt: Option<Jwt>,
    /// Other sites whose pages may use the API, as browsers write origins.
    pub cors_origins: Vec<String>,
    /// What the page calls this installation.
    pub environment: Option<String>,
}

impl Api {
    /// Whether everybody is asked who they are.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        !self.tokens.is_empty() || self.jwt.is_some()
    }
}

/// What somebody may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Tries again, halts and resumes.
    Operator,
    /// Deletes.
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its word in settings, claims and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of a word; words have one spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// A token that opens the API: its hash, never itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub role: Role,
    pub sha256: [u8; 32],
    pub expires_at: Option<SystemTime>,
}

/// Which JSON Web Tokens open the API. At least one of `secret` and `jwks_url` is there.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// For HS256.
    pub secret: Option<Secret>,
    /// For ES256 and RS256.
    pub jwks_url: Option<url::Url>,
    pub issuer: String,
    pub audience: String,
    /// The names from the claims to the role.
    pub role_claim: Vec<String>,
}
