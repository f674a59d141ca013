//! Builds a [`Config`] from the values of the settings, and checks settings that depend on each
//! other.
//!
//! Not here: parsing single values (`values`).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::access;
use super::endpoint::{self, DatabaseAddress, NodeAddresses};
use super::error::{Origin, PrintedValue};
use super::network;
use super::source::Sources;
use super::values::{Values, missing};
use super::{
    Api, Authentication, Config, ConfigError, Database, Elasticsearch, Flags, Jwt, Limits, Queue,
    Refresh, Secret, SslMode, Strings, Token,
};

/// The variable that names the file with the tokens.
const TOKENS_FILE: &str = "WALFERRY_API_TOKENS_FILE";

/// The servers that a command connects to. Their addresses are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// PostgreSQL and Elasticsearch.
    Both,
    /// PostgreSQL alone.
    Database,
}

/// Reads all settings from the flags, the environment and the configuration file.
///
/// # Errors
///
/// [`ConfigError`] for the first invalid setting.
pub fn load(flags: &Flags, environment: &Strings, needs: Needs) -> Result<Config, ConfigError> {
    let values = Values(Sources::read(flags, environment)?);
    let mut api = api(&values)?;
    api.tokens_file = environment.get(TOKENS_FILE).filter(|path| !path.is_empty()).map(Into::into);
    Ok(Config {
        database: database(&values)?,
        elasticsearch: elasticsearch(&values, needs)?,
        listen: listen_address(&values, &api)?,
        slot: values.checked("slot", slot_reason)?,
        publication: values.checked("publication", publication_reason)?,
        index_prefix: values.checked("index_prefix", prefix_reason)?,
        limits: limits(&values)?,
        queue: queue(&values)?,
        api,
        definition: values.0.definition,
    })
}

/// The tokens in the file that they were read from, as they are there now.
///
/// # Errors
///
/// [`ConfigError`] where the file or an entry of it does not read.
pub fn tokens_in(path: &Path) -> Result<Vec<Token>, ConfigError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        origin: TOKENS_FILE.to_owned(),
        source,
    })?;
    access::tokens(&text).map_err(|fault| ConfigError::Invalid {
        origin: Origin::Environment(TOKENS_FILE.to_owned()),
        value: PrintedValue(None),
        reason: fault.reason,
        good: fault.good,
    })
}

/// Reads the address of the HTTP server only, which is all that `healthcheck` needs.
///
/// # Errors
///
/// As [`load`].
pub fn listen(flags: &Flags, environment: &Strings) -> Result<SocketAddr, ConfigError> {
    let values = Values(Sources::read(flags, environment)?);
    let api = api(&values)?;
    listen_address(&values, &api)
}

fn database(values: &Values) -> Result<Database, ConfigError> {
    let url = values.required("database.url")?;
    let address = endpoint::database(url.text).map_err(|invalid| url.invalid(invalid))?;
    let DatabaseAddress { mut connect, ssl_mode, root_certificates } = address;
    if let Some(password) = values.get("database.password") {
        connect.password(password.text);
    }
    let is_default = values
        .get("database.connect_timeout")
        .is_some_and(|timeout| matches!(timeout.origin, Origin::Default(_)));
    let connect_timeout = match connect.get_connect_timeout().copied() {
        Some(in_url) if is_default => in_url,
        _ => values.time("database.connect_timeout")?,
    };
    if root_certificates.is_some() && ssl_mode == SslMode::Disable {
        return Err(url.reject_with(
            "has sslrootcert, but its sslmode encrypts nothing",
            "sslmode=verify-full",
        ));
    }
    Ok(Database { connect, ssl_mode, root_certificates, connect_timeout })
}

fn elasticsearch(values: &Values, needs: Needs) -> Result<Elasticsearch, ConfigError> {
    let NodeAddresses { nodes, authentication: in_url } = match values.get("elasticsearch.url") {
        None if needs == Needs::Database => {
            NodeAddresses { nodes: Vec::new(), authentication: Authentication::None }
        }
        _ => {
            let urls = values.required("elasticsearch.url")?;
            endpoint::nodes(urls.text).map_err(|invalid| urls.invalid(invalid))?
        }
    };
    let loopback = nodes.iter().all(endpoint::is_loopback);
    Ok(Elasticsearch {
        authentication: authentication(values, in_url)?,
        certificate_authority: values
            .text("elasticsearch.certificate_authority")
            .map(PathBuf::from),
        gzip: values.flag("elasticsearch.gzip")?.unwrap_or(!loopback),
        request_timeout: values.time("elasticsearch.request_timeout")?,
        refresh: match values.word("elasticsearch.refresh")? {
            "index" => Refresh::Index,
            _ => Refresh::Adaptive,
        },
        nodes,
    })
}

/// An API key, or a user and a password. Each of the latter takes precedence over the URL's.
fn authentication(values: &Values, in_url: Authentication) -> Result<Authentication, ConfigError> {
    let (url_username, url_password) = match in_url {
        Authentication::Basic { username, password } => (Some(username), Some(password)),
        _ => (None, None),
    };
    if let Some(key) = values.get("elasticsearch.api_key") {
        let user = values
            .get("elasticsearch.username")
            .or_else(|| values.get("elasticsearch.password"))
            .map(|other| other.origin.to_string());
        let in_url = url_username.map(|_| "a user in ELASTICSEARCH_URL".to_owned());
        return match user.or(in_url) {
            Some(second) => Err(ConfigError::Both { first: key.origin.to_string(), second }),
            None => Ok(Authentication::ApiKey(Secret(key.text.to_owned()))),
        };
    }
    let username = values.text("elasticsearch.username").or(url_username);
    let password = values.text("elasticsearch.password").map(Secret).or(url_password);
    match (username, password) {
        (None, None) => Ok(Authentication::None),
        (Some(username), Some(password)) => Ok(Authentication::Basic { username, password }),
        (Some(_), None) => Err(missing("elasticsearch.password")),
        (None, Some(_)) => Err(missing("elasticsearch.username")),
    }
}

fn limits(values: &Values) -> Result<Limits, ConfigError> {
    let limits = Limits {
        batch_changes_max: values.count("limits.batch_changes_max")?,
        batch_bytes_max: values.size("limits.batch_bytes_max")?,
        row_bytes_max: values.size("limits.row_bytes_max")?,
        fanout_rows_max: values.count("limits.fanout_rows_max")?,
        bulk_actions_max: values.count("limits.bulk_actions_max")?,
        bulk_bytes_max: values.size("limits.bulk_bytes_max")?,
        bulks_in_flight_max: values.count("limits.bulks_in_flight_max")?,
        actions_bytes_max: values.size("limits.actions_bytes_max")?,
        memory_max: values.size("limits.memory_max")?,
        retained_wal_bytes_max: values.optional_size("limits.retained_wal_bytes_max")?,
        shutdown_grace: values.time("limits.shutdown_grace")?,
    };
    if limits.actions_bytes_max < limits.bulk_bytes_max {
        return Err(values.required("limits.actions_bytes_max")?.reject_with(
            "is less than limits.bulk_bytes_max, so no bulk request could be filled",
            "four times as much as limits.bulk_bytes_max",
        ));
    }
    if limits.memory_max < 2 * limits.actions_bytes_max {
        return Err(values.required("limits.memory_max")?.reject_with(
            "is less than twice limits.actions_bytes_max, so documents that wait would stop everything",
            "four times as much as limits.actions_bytes_max",
        ));
    }
    Ok(limits)
}

fn queue(values: &Values) -> Result<Queue, ConfigError> {
    Ok(Queue {
        completed_retention: values.time("queue.completed_retention")?,
        audit_retention: values.time("queue.audit_retention")?,
        attempts_max: u32::try_from(values.count("queue.attempts_max")?).unwrap_or(u32::MAX),
        retry_delay_min: values.time("queue.retry_delay_min")?,
        retry_delay_max: values.time("queue.retry_delay_max")?,
    })
}

fn api(values: &Values) -> Result<Api, ConfigError> {
    let tokens = values.parsed("api.tokens", access::tokens)?.unwrap_or_default();
    let environment = values.checked("api.environment", access::environment_reason)?;
    Ok(Api {
        insecure_no_auth: values.flag("api.insecure_no_auth")?.unwrap_or(false),
        tokens,
        jwt: jwt(values)?,
        cors_origins: values.parsed("api.cors_origins", access::origins)?.unwrap_or_default(),
        hosts: values.parsed("api.hosts", access::hosts)?.unwrap_or_default(),
        tokens_file: None,
        trusted_proxies: values
            .parsed("api.trusted_proxies", network::networks)?
            .unwrap_or_default(),
        audit_reads: values.flag("api.audit_reads")?.unwrap_or(false),
        environment: Some(environment).filter(|label| !label.is_empty()),
    })
}

fn jwt(values: &Values) -> Result<Option<Jwt>, ConfigError> {
    let role_claim = values.parsed("api.jwt_role_claim", access::role_claim)?;
    let secret = values.parsed("api.jwt_secret", |text| {
        access::jwt_secret(text)?;
        Ok(Secret(text.to_owned()))
    })?;
    let jwks_url = values.parsed("api.jwks_url", access::jwks_url)?;
    if secret.is_none() && jwks_url.is_none() {
        return match values.get("api.jwt_issuer") {
            None => Ok(None),
            Some(issuer) => Err(issuer.reject_with(
                "says who issues JWTs, but nothing says how they are checked",
                "api.jwks_url or api.jwt_secret as well",
            )),
        };
    }
    let issuer = values
        .text("api.jwt_issuer")
        .or_else(|| jwks_url.as_ref().and_then(access::issuer_of))
        .ok_or_else(|| missing("api.jwt_issuer"))?;
    let audience = values.required("api.jwt_audience")?.text.to_owned();
    let role_claim = role_claim.expect("a setting with a default has a value");
    Ok(Some(Jwt { secret, jwks_url, issuer, audience, role_claim }))
}

fn listen_address(values: &Values, api: &Api) -> Result<SocketAddr, ConfigError> {
    let listen = values.required("listen")?;
    let numeric = listen.text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = numeric
        .as_deref()
        .unwrap_or(listen.text)
        .parse()
        .map_err(|_| listen.reject_with("is not an address and a port", "127.0.0.1:3002"))?;
    if !address.ip().is_loopback() && !api.authenticates() && !api.insecure_no_auth {
        return Err(listen.reject_with(
            "can be reached from other machines, and nobody is asked who they are",
            "127.0.0.1:3002, or set api.tokens to what `walferry token create` prints, or \
             api.insecure_no_auth = true if something before walferry asks",
        ));
    }
    Ok(address)
}

/// Why PostgreSQL rejects the name of a replication slot.
fn slot_reason(name: &str) -> Option<&'static str> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let good = !name.is_empty() && name.len() <= 63 && name.bytes().all(is_good);
    (!good).then_some("is not a slot's name, 1 to 63 of a-z, 0-9 and _")
}

/// Why PostgreSQL rejects the name of a publication.
fn publication_reason(name: &str) -> Option<&'static str> {
    let good = !name.is_empty() && name.len() <= 63 && !name.chars().any(char::is_control);
    (!good).then_some("is not a publication's name, 1 to 63 bytes without control characters")
}

/// Why Elasticsearch rejects a name with this prefix. Index names are in lower case, exclude
/// `\/*?"<>| ,#:` and do not begin with `-_+.` (create index API). They have up to 255 bytes, of
/// which the text after the prefix takes up to 155.
fn prefix_reason(prefix: &str) -> Option<&'static str> {
    let is_good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let begins_well = prefix.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    let good = begins_well && prefix.len() <= 100 && prefix.bytes().all(is_good);
    (!good).then_some(
        "can't begin an index name: up to 100 of a-z, 0-9, '.', '_' and '-', a letter or digit first",
    )
}
