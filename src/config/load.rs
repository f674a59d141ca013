//! From texts to a [`Config`]: each value parsed once, and what must fit together checked.
//!
//! Not here: where a text comes from (`source`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::access;
use super::endpoint::{self, Fault};
use super::error::{Origin, Shown};
use super::setting::{Kind, Setting};
use super::source::Sources;
use super::unit::{size, time};
use super::{
    Api, Authentication, Config, ConfigError, Database, Elasticsearch, Flags, Jwt, Limits, Queue,
    Refresh, Secret, SslMode, Strings,
};

/// Which servers a command talks to, and so which addresses must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// PostgreSQL and Elasticsearch.
    Both,
    /// PostgreSQL alone.
    Database,
}

/// All settings, from flags, environment and file.
///
/// # Errors
///
/// The first fault found; see [`ConfigError`].
pub fn load(flags: &Flags, environment: &Strings, needs: Needs) -> Result<Config, ConfigError> {
    let values = Values(Sources::read(flags, environment)?);
    let api = api(&values)?;
    Ok(Config {
        database: database(&values)?,
        elasticsearch: elasticsearch(&values, needs)?,
        listen: listen_address(&values, &api)?,
        slot: values.named("slot", slot_fault)?,
        publication: values.named("publication", publication_fault)?,
        index_prefix: values.named("index_prefix", prefix_fault)?,
        limits: limits(&values)?,
        queue: queue(&values)?,
        api,
        definition: values.0.definition,
    })
}

/// Only where the HTTP server listens: all that `healthcheck` needs.
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
    let (origin, text) = values.required("database.url")?;
    let address = endpoint::database(text).map_err(|fault| invalid(origin, fault))?;
    let mut connect = address.connect;
    if let Some((_, password)) = values.0.get("database.password") {
        connect.password(password);
    }
    let in_url = connect.get_connect_timeout().copied();
    let connect_timeout = match (values.0.get("database.connect_timeout"), in_url) {
        (Some((Origin::Default(_), _)), Some(in_url)) => in_url,
        _ => values.time("database.connect_timeout")?,
    };
    let ssl_mode = address.ssl_mode;
    let root_certificates = address.root_certificates;
    if root_certificates.is_some() && ssl_mode == SslMode::Disable {
        let fault = Fault {
            reason: "has sslrootcert, but its sslmode encrypts nothing".to_owned(),
            good: "sslmode=verify-full".to_owned(),
        };
        return Err(invalid(origin, fault));
    }
    Ok(Database { connect, ssl_mode, root_certificates, connect_timeout })
}

fn elasticsearch(values: &Values, needs: Needs) -> Result<Elasticsearch, ConfigError> {
    let (nodes, in_url) = match values.0.get("elasticsearch.url") {
        None if needs == Needs::Database => (Vec::new(), Authentication::None),
        _ => {
            let (origin, text) = values.required("elasticsearch.url")?;
            let addresses = endpoint::nodes(text).map_err(|fault| invalid(origin, fault))?;
            (addresses.nodes, addresses.authentication)
        }
    };
    let loopback = nodes.iter().all(endpoint::is_loopback);
    Ok(Elasticsearch {
        authentication: authentication(values, in_url)?,
        certificate_authority: values
            .0
            .get("elasticsearch.certificate_authority")
            .map(|(_, path)| PathBuf::from(path)),
        gzip: values.flag("elasticsearch.gzip")?.unwrap_or(!loopback),
        request_timeout: values.time("elasticsearch.request_timeout")?,
        refresh: match values.word("elasticsearch.refresh")? {
            "index" => Refresh::Index,
            _ => Refresh::Adaptive,
        },
        nodes,
    })
}

fn authentication(values: &Values, in_url: Authentication) -> Result<Authentication, ConfigError> {
    let username = values.0.get("elasticsearch.username");
    let password = values.0.get("elasticsearch.password");
    let api_key = values.0.get("elasticsearch.api_key");
    let both = |first: &Origin, second: &str| {
        Err(ConfigError::Both { first: first.to_string(), second: second.to_owned() })
    };
    let (url_username, url_password) = match in_url {
        Authentication::Basic { username, password } => (Some(username), Some(password)),
        _ => (None, None),
    };
    if let Some((origin, key)) = api_key {
        return match (username.or(password), url_username) {
            (Some((other, _)), _) => both(origin, &other.to_string()),
            (None, Some(_)) => both(origin, "a user in ELASTICSEARCH_URL"),
            (None, None) => Ok(Authentication::ApiKey(Secret(key.to_owned()))),
        };
    }
    let username = username.map(|(_, name)| name.to_owned()).or(url_username);
    let password = password.map(|(_, text)| Secret(text.to_owned())).or(url_password);
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
        bulk_actions_max: values.count("limits.bulk_actions_max")?,
        bulk_bytes_max: values.size("limits.bulk_bytes_max")?,
        bulks_in_flight_max: values.count("limits.bulks_in_flight_max")?,
        actions_bytes_max: values.size("limits.actions_bytes_max")?,
        retained_wal_bytes_max: values.optional_size("limits.retained_wal_bytes_max")?,
        shutdown_grace: values.time("limits.shutdown_grace")?,
    };
    if limits.actions_bytes_max < limits.bulk_bytes_max {
        let (origin, text) = values.required("limits.actions_bytes_max")?;
        return Err(ConfigError::Invalid {
            origin: origin.clone(),
            value: Shown(Some(text.to_owned())),
            reason: "is less than limits.bulk_bytes_max, so no bulk request could be filled"
                .to_owned(),
            good: "four times as much as limits.bulk_bytes_max".to_owned(),
        });
    }
    Ok(limits)
}

fn queue(values: &Values) -> Result<Queue, ConfigError> {
    Ok(Queue {
        completed_retention: values.time("queue.completed_retention")?,
        attempts_max: u32::try_from(values.count("queue.attempts_max")?).unwrap_or(u32::MAX),
        retry_delay_min: values.time("queue.retry_delay_min")?,
        retry_delay_max: values.time("queue.retry_delay_max")?,
    })
}

fn api(values: &Values) -> Result<Api, ConfigError> {
    let tokens = values.parsed("api.tokens", access::tokens)?.unwrap_or_default();
    let environment = values.named("api.environment", access::environment_fault)?;
    Ok(Api {
        insecure_no_auth: values.flag("api.insecure_no_auth")?.unwrap_or(false),
        tokens,
        jwt: jwt(values)?,
        cors_origins: values.parsed("api.cors_origins", access::origins)?.unwrap_or_default(),
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
    let issuer = values.0.get("api.jwt_issuer").map(|(_, issuer)| issuer.to_owned());
    if secret.is_none() && jwks_url.is_none() {
        return match values.0.get("api.jwt_issuer") {
            None => Ok(None),
            Some((origin, text)) => {
                let reason = "says who issues JWTs, but nothing says how they are checked";
                let mut error = reject("api.jwt_issuer", origin, text, reason);
                if let ConfigError::Invalid { good, .. } = &mut error {
                    "api.jwks_url or api.jwt_secret as well".clone_into(good);
                }
                Err(error)
            }
        };
    }
    let derived = || jwks_url.as_ref().and_then(access::issuer_of);
    let issuer = issuer.or_else(derived).ok_or_else(|| missing("api.jwt_issuer"))?;
    let (_, audience) = values.required("api.jwt_audience")?;
    let role_claim = role_claim.expect("a setting with a default has a value");
    Ok(Some(Jwt { secret, jwks_url, issuer, audience: audience.to_owned(), role_claim }))
}

fn listen_address(values: &Values, api: &Api) -> Result<SocketAddr, ConfigError> {
    let (origin, text) = values.required("listen")?;
    let fault = |reason: &str, good: &str| ConfigError::Invalid {
        origin: origin.clone(),
        value: Shown(Some(text.to_owned())),
        reason: reason.to_owned(),
        good: good.to_owned(),
    };
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| fault("is not an address and a port", "127.0.0.1:3002"))?;
    if !address.ip().is_loopback() && !api.authenticates() && !api.insecure_no_auth {
        return Err(fault(
            "can be reached from other machines, and nobody is asked who they are",
            "127.0.0.1:3002, or set api.tokens to what `walferry token create` prints, or \
             api.insecure_no_auth = true if something before walferry asks",
        ));
    }
    Ok(address)
}

fn slot_fault(name: &str) -> Option<&'static str> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let good = !name.is_empty() && name.len() <= 63 && name.bytes().all(is_good);
    (!good).then_some("is not a slot's name, 1 to 63 of a-z, 0-9 and _")
}

fn publication_fault(name: &str) -> Option<&'static str> {
    let good = !name.is_empty() && name.len() <= 63 && !name.chars().any(char::is_control);
    (!good).then_some("is not a publication's name, 1 to 63 bytes without control characters")
}

/// Elasticsearch's rules for index names: lower case, no `\/*?"<>| ,#:`, no leading `-_+.`. What
/// follows the prefix takes up to 155 of the 255 bytes.
fn prefix_fault(prefix: &str) -> Option<&'static str> {
    let is_good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let begins = prefix.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    let good = begins && prefix.len() <= 100 && prefix.bytes().all(is_good);
    (!good).then_some(
        "can't begin an index name: up to 100 of a-z, 0-9, '.', '_' and '-', a letter or digit first",
    )
}

fn invalid(origin: &Origin, fault: Fault) -> ConfigError {
    let Fault { reason, good } = fault;
    ConfigError::Invalid { origin: origin.clone(), value: Shown(None), reason, good }
}

/// Texts read as the kind that [`Setting::kind`] says.
struct Values(Sources);

impl Values {
    fn required(&self, key: &'static str) -> Result<(&Origin, &str), ConfigError> {
        self.0.get(key).ok_or_else(|| missing(key))
    }

    fn named(
        &self,
        key: &'static str,
        fault: fn(&str) -> Option<&'static str>,
    ) -> Result<String, ConfigError> {
        let Some((origin, text)) = self.0.get(key) else { return Ok(String::new()) };
        match fault(text) {
            None => Ok(text.to_owned()),
            Some(reason) => Err(reject(key, origin, text, reason)),
        }
    }

    /// A text with a grammar of its own; `None` if nobody says anything.
    fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((origin, text)) = self.0.get(key) else { return Ok(None) };
        parse(text).map(Some).map_err(|fault| invalid(origin, fault))
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some((origin, text)) = self.0.get(key) else { return Ok(None) };
        match text {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(reject(key, origin, text, "is neither true nor false")),
        }
    }

    fn word(&self, key: &'static str) -> Result<&str, ConfigError> {
        let (origin, text) = self.required(key)?;
        match setting(key).kind {
            Kind::OneOf(words) if words.contains(&text) => Ok(text),
            kind => Err(reject(key, origin, text, &format!("is not {}", kind.describe()))),
        }
    }

    fn count(&self, key: &'static str) -> Result<usize, ConfigError> {
        let (origin, text) = self.required(key)?;
        let number: u64 =
            text.parse().map_err(|_| reject(key, origin, text, "is not a whole number"))?;
        within(key, origin, text, number).map(narrow)
    }

    fn size(&self, key: &'static str) -> Result<usize, ConfigError> {
        self.required(key)?;
        let bytes = self.optional_size(key)?;
        Ok(narrow(bytes.expect("a required setting has a value")))
    }

    fn optional_size(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        let Some((origin, text)) = self.0.get(key) else { return Ok(None) };
        let bytes = size(text).map_err(|reason| reject(key, origin, text, reason))?;
        within(key, origin, text, bytes).map(Some)
    }

    fn time(&self, key: &'static str) -> Result<Duration, ConfigError> {
        let (origin, text) = self.required(key)?;
        let time = time(text).map_err(|reason| reject(key, origin, text, reason))?;
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        within(key, origin, text, milliseconds).map(Duration::from_millis)
    }
}

fn within(key: &'static str, origin: &Origin, text: &str, value: u64) -> Result<u64, ConfigError> {
    let kind = setting(key).kind;
    let (Kind::Size { min, max } | Kind::Time { min, max } | Kind::Count { min, max }) = kind
    else {
        return Ok(value);
    };
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(reject(key, origin, text, &format!("is outside {}", kind.describe())))
}

fn missing(key: &'static str) -> ConfigError {
    let Setting { purpose, example, .. } = setting(key);
    ConfigError::Missing { env: setting(key).best_variable(), purpose, example }
}

fn reject(key: &'static str, origin: &Origin, text: &str, reason: &str) -> ConfigError {
    let setting = setting(key);
    ConfigError::Invalid {
        origin: origin.clone(),
        value: Shown(Some(text.to_owned()).filter(|_| !setting.secret)),
        reason: reason.to_owned(),
        good: setting.example.to_owned(),
    }
}

fn setting(key: &'static str) -> &'static Setting {
    Setting::find(key).expect("each key read here is in the list of settings")
}

/// Counts and sizes have an upper limit far below the largest `usize`.
fn narrow(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
