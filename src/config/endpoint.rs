//! The syntax of server addresses: PostgreSQL connection strings and Elasticsearch URLs. Pure.
//!
//! Errors do not quote the text, because it can contain a password.

use std::iter::Peekable;
use std::path::PathBuf;
use std::str::{Chars, FromStr};

use tokio_postgres::config::Host;
use url::Url;

use super::{Authentication, Secret, SslMode};

const DATABASE_EXAMPLE: &str = "postgres://walferry:PASSWORD@127.0.0.1:5432/app";
const NODE_EXAMPLE: &str = "http://127.0.0.1:9200";

/// Why a value is invalid. Neither field contains the value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidValue {
    /// The end of a sentence that begins with the setting's name.
    pub(super) reason: String,
    /// A valid value.
    pub(super) good: String,
}

/// A PostgreSQL connection string.
#[derive(Debug)]
pub(super) struct DatabaseAddress {
    /// Host, port, user, password and database.
    pub(super) connect: tokio_postgres::Config,
    /// `sslmode`; [`SslMode::Disable`] for Unix-domain sockets.
    pub(super) ssl_mode: SslMode,
    /// `sslrootcert`; `None` uses the system's certificate store.
    pub(super) root_certificates: Option<PathBuf>,
}

/// The URLs of Elasticsearch nodes.
#[derive(Debug)]
pub(super) struct NodeAddresses {
    /// The URLs without credentials, each once.
    pub(super) nodes: Vec<Url>,
    /// The user and the password from the URLs.
    pub(super) authentication: Authentication,
}

/// Parses a `postgres://` URL or `key=value` pairs, as libpq accepts them (libpq, "Connection
/// Strings").
///
/// `sslmode` and `sslrootcert` are removed before tokio-postgres parses the text, because it
/// supports neither `verify-ca` and `verify-full` nor certificate files.
pub(super) fn database(text: &str) -> Result<DatabaseAddress, InvalidValue> {
    let text = text.trim();
    let address = match text.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => {
            verify_encoding(rest)?;
            split_url(text)?
        }
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            return Err(invalid_database(format!("has the scheme {scheme}://, not postgres://")));
        }
        _ => split_pairs(text)?,
    };
    let connect = connect_parameters(&address.connect)?;
    let sockets_only = connect.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)))
        && connect.get_hostaddrs().is_empty();
    let ssl_mode = match address.ssl.mode.as_deref() {
        _ if sockets_only => SslMode::Disable,
        None | Some("verify-full") if address.ssl.system_roots => SslMode::VerifyFull,
        Some(_) if address.ssl.system_roots => {
            return Err(InvalidValue {
                reason: "has sslrootcert=system with an sslmode that does not verify the host"
                    .to_owned(),
                good: "sslmode=verify-full, or no sslmode".to_owned(),
            });
        }
        None | Some("prefer") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(_) => {
            return Err(InvalidValue {
                reason: "has an sslmode that walferry does not know".to_owned(),
                good: "sslmode=disable, prefer, require, verify-ca or verify-full".to_owned(),
            });
        }
    };
    Ok(DatabaseAddress { connect, ssl_mode, root_certificates: address.ssl.root_certificates })
}

/// Refuses an address whose user or password has a character that ends it early: a part of the
/// password would be taken for the host, and be shown. `rest` follows the scheme.
fn verify_encoding(rest: &str) -> Result<(), InvalidValue> {
    let encode = |reason: &str| InvalidValue {
        reason: reason.to_owned(),
        good:
            "the user and the password percent-encoded: @ as %40, : as %3A, / as %2F, ? as %3F, # \
               as %23, % as %25"
                .to_owned(),
    };
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = after.strip_prefix('/').unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if authority.matches('@').count() > 1 || path.contains('@') {
        return Err(encode("has an @ within its user or password"));
    }
    let Some((credentials, hosts)) = authority.split_once('@') else {
        // The authority has ended before its @.
        return if after.contains('@') && !after.contains('=') {
            Err(encode("has a /, a ? or a # within its user or password"))
        } else {
            Ok(())
        };
    };
    if hosts.is_empty() && after.contains('@') {
        return Err(encode("has an @ within its user or password"));
    }
    let mut rest = credentials;
    while let Some((_, escape)) = rest.split_once('%') {
        let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !escape.get(..2).is_some_and(is_hex) {
            return Err(encode("has a % within its user or password that encodes nothing"));
        }
        rest = escape;
    }
    Ok(())
}

/// Parses an address without TLS parameters. It must have a host, a user and a database.
fn connect_parameters(text: &str) -> Result<tokio_postgres::Config, InvalidValue> {
    let mut connect = tokio_postgres::Config::from_str(text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        // The parser's causes name options, never values.
        invalid_database(match cause {
            Some(cause) => format!("can't be understood ({cause})"),
            None => "can't be understood".to_owned(),
        })
    })?;
    let missing = if connect.get_hosts().is_empty() && connect.get_hostaddrs().is_empty() {
        Some("host")
    } else if connect.get_user().is_none_or(str::is_empty) {
        Some("user")
    } else if connect.get_dbname().is_none_or(str::is_empty) {
        Some("database")
    } else {
        None
    };
    if let Some(what) = missing {
        return Err(invalid_database(format!("names no {what}")));
    }
    if connect.get_application_name().is_none() {
        connect.application_name("walferry");
    }
    Ok(connect)
}

/// Parses URLs, separated by commas. The user and the password are removed from the URLs. All URLs
/// must have the same.
pub(super) fn nodes(text: &str) -> Result<NodeAddresses, InvalidValue> {
    let mut nodes = Vec::new();
    let mut credentials: Option<UrlCredentials> = None;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let mut node = node(part)?;
        if let Some(own) = take_credentials(&mut node) {
            if credentials.as_ref().is_some_and(|known| *known != own) {
                let good = "the same user and password in all URLs, or elasticsearch.username";
                return Err(invalid_node("has several users or passwords".to_owned(), good));
            }
            credentials = Some(own);
        }
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        return Err(invalid_node("names no node".to_owned(), NODE_EXAMPLE));
    }
    let authentication = match credentials {
        Some(UrlCredentials { username, password }) => {
            Authentication::Basic { username, password: Secret(password) }
        }
        None => Authentication::None,
    };
    Ok(NodeAddresses { nodes, authentication })
}

/// Parses the URL of one node. Its path ends with a slash.
fn node(text: &str) -> Result<Url, InvalidValue> {
    let mut node = Url::parse(text)
        .map_err(|error| invalid_node(format!("is not a URL ({error})"), NODE_EXAMPLE))?;
    if !matches!(node.scheme(), "http" | "https") {
        let reason = format!("has the scheme {}:, not http:// or https://", node.scheme());
        return Err(invalid_node(reason, NODE_EXAMPLE));
    }
    if node.query().is_some() || node.fragment().is_some() {
        let good = "the address alone, such as http://127.0.0.1:9200";
        return Err(invalid_node("has a query or a fragment".to_owned(), good));
    }
    if node.path().contains('@') {
        let good = "the user and the password percent-encoded: @ as %40, / as %2F";
        return Err(invalid_node("has a / within its user or password".to_owned(), good));
    }
    if !node.path().ends_with('/') {
        let path = format!("{}/", node.path());
        node.set_path(&path);
    }
    Ok(node)
}

/// The user and the password of a URL.
#[derive(PartialEq, Eq)]
struct UrlCredentials {
    username: String,
    password: String,
}

/// Removes the user and the password from an `http` URL; `None` if it has neither.
fn take_credentials(node: &mut Url) -> Option<UrlCredentials> {
    if node.username().is_empty() && node.password().is_none() {
        return None;
    }
    let credentials = UrlCredentials {
        username: decoded(node.username()),
        password: decoded(node.password().unwrap_or_default()),
    };
    let cleared = node.set_username("").and_then(|()| node.set_password(None));
    cleared.expect("an http URL has a host, so its user can be removed");
    Some(credentials)
}

/// True if a URL refers to a loopback address.
pub(super) fn is_loopback(node: &Url) -> bool {
    match node.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The TLS parameters of a connection string, as written.
#[derive(Default)]
struct SslParameters {
    /// `sslmode`.
    mode: Option<String>,
    /// `sslrootcert`; `None` for `system`.
    root_certificates: Option<PathBuf>,
    /// `sslrootcert=system`, which verifies the host too (libpq, "sslrootcert").
    system_roots: bool,
}

/// A connection string, split into its TLS parameters and the others.
struct SplitAddress {
    connect: String,
    ssl: SslParameters,
}

fn split_url(text: &str) -> Result<SplitAddress, InvalidValue> {
    let mut ssl = SslParameters::default();
    let Some((address, query)) = text.split_once('?') else {
        return Ok(SplitAddress { connect: text.to_owned(), ssl });
    };
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !ssl.take(key, &decoded(value))? {
            kept.push(pair);
        }
    }
    let connect = format!("{address}?{}", kept.join("&")).trim_end_matches('?').to_owned();
    Ok(SplitAddress { connect, ssl })
}

fn split_pairs(text: &str) -> Result<SplitAddress, InvalidValue> {
    let mut ssl = SslParameters::default();
    let mut connect = String::new();
    for (key, value) in pairs(text)? {
        if !ssl.take(&key, &value)? {
            let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
            connect.push_str(&format!("{key}='{escaped}' "));
        }
    }
    Ok(SplitAddress { connect, ssl })
}

impl SslParameters {
    /// Stores a TLS parameter and returns true; returns false for other parameters. A parameter
    /// of a connection pooler is an error.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, InvalidValue> {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" if value == "system" => {
                self.root_certificates = None;
                self.system_roots = true;
            }
            "sslrootcert" => self.root_certificates = Some(PathBuf::from(value)),
            "pgbouncer" => {
                return Err(InvalidValue {
                    reason:
                        "is the address of a pooler (pgbouncer=…), which replication can't pass"
                            .to_owned(),
                    good: "the direct address of the database".to_owned(),
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Parses libpq's `key = value` pairs. A value can be in single quotes; a backslash escapes the
/// next character.
fn pairs(text: &str) -> Result<Vec<(String, String)>, InvalidValue> {
    let mut pairs = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        skip_white_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        skip_white_space(&mut rest);
        if rest.next() != Some('=') {
            let reason = "is neither a postgres:// URL nor key=value pairs".to_owned();
            return Err(invalid_database(reason));
        }
        skip_white_space(&mut rest);
        pairs.push((key, pair_value(&mut rest)?));
    }
}

fn skip_white_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
}

/// The value at the beginning of `rest`, up to its closing quote or the next white space.
fn pair_value(rest: &mut Peekable<Chars<'_>>) -> Result<String, InvalidValue> {
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\\') => value.extend(rest.next()),
            Some('\'') if quoted => return Ok(value),
            Some(c) if quoted || !c.is_whitespace() => value.push(c),
            None if quoted => {
                return Err(invalid_database("has a quote that is not closed".to_owned()));
            }
            Some(_) | None => return Ok(value),
        }
    }
}

/// Decodes percent-encoding. Invalid UTF-8 is replaced by U+FFFD.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = hex.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn invalid_database(reason: String) -> InvalidValue {
    InvalidValue { reason, good: DATABASE_EXAMPLE.to_owned() }
}

fn invalid_node(reason: String, good: &str) -> InvalidValue {
    InvalidValue { reason, good: good.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{DatabaseAddress, database, is_loopback, nodes};
    use crate::config::{Authentication, Secret, SslMode};

    fn read(text: &str) -> DatabaseAddress {
        database(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"))
    }

    #[test]
    fn both_forms_of_an_address_are_equivalent() {
        for text in [
            "postgres://ann:p%20w@db.example:6000/shop",
            "postgresql://ann:p%20w@db.example:6000/shop?sslmode=prefer",
            "host=db.example port=6000 user=ann password='p w' dbname = shop",
            "host='db.example' port=6000 user=ann password=p\\ w dbname=shop sslmode=prefer",
        ] {
            let DatabaseAddress { connect, ssl_mode, .. } = read(text);
            assert_eq!(connect.get_user(), Some("ann"), "{text}");
            assert_eq!(connect.get_password(), Some(b"p w".as_slice()), "{text}");
            assert_eq!(connect.get_dbname(), Some("shop"), "{text}");
            assert_eq!(connect.get_ports(), [6000], "{text}");
            assert_eq!(connect.get_application_name(), Some("walferry"), "{text}");
            assert_eq!(ssl_mode, SslMode::Prefer, "{text}");
        }
    }

    #[test]
    fn ssl_modes() {
        let check = |text: &str, expected| assert_eq!(read(text).ssl_mode, expected, "{text}");
        check("postgres://a@b/c", SslMode::Prefer);
        check("postgres://a@b/c?sslmode=disable", SslMode::Disable);
        check("postgres://a@b/c?sslmode=require", SslMode::Require);
        check("postgres://a@b/c?sslmode=verify-ca&connect_timeout=3", SslMode::VerifyCa);
        check("postgres://a@b/c?connect_timeout=3&sslmode=verify-full", SslMode::VerifyFull);
        check("host=b user=a dbname=c sslmode='verify-full'", SslMode::VerifyFull);
        check("host=/run/postgresql user=a dbname=c", SslMode::Disable);
        check("hostaddr=10.0.0.1 user=a dbname=c", SslMode::Prefer);
        // libpq: with the system's roots the host is verified, or the address refused.
        check("postgres://a@b/c?sslrootcert=system", SslMode::VerifyFull);
        check("postgres://a@b/c?sslmode=verify-full&sslrootcert=system", SslMode::VerifyFull);
        let weak = database("postgres://a@b/c?sslmode=require&sslrootcert=system").unwrap_err();
        assert!(weak.good.contains("sslmode=verify-full"), "{weak:?}");
    }

    #[test]
    fn a_certificate_file_is_kept() {
        let check = |text: &str, expected: Option<&str>| {
            let path = read(text).root_certificates;
            assert_eq!(path.as_deref().and_then(|path| path.to_str()), expected, "{text}");
        };
        check(
            "postgres://a@b/c?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
            Some("/etc/ca.pem"),
        );
        check("host=b user=a dbname=c sslrootcert='/my certs/ca.pem'", Some("/my certs/ca.pem"));
        check("postgres://a@b/c?sslrootcert=system", None);
    }

    #[test]
    fn a_bad_database_address_says_why_and_never_quotes_it() {
        let check = |text: &str, expected: &str| {
            let fault = database(text).expect_err(text);
            assert!(fault.reason.contains(expected), "{text}: {}", fault.reason);
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        };
        check("mysql://ann:hunter2@db/shop", "mysql://, not postgres://");
        check("hunter2", "neither a postgres:// URL nor key=value");
        check("db.example/shop", "neither");
        check("postgres://db/shop", "names no user");
        check("postgres://ann:hunter2@db", "names no database");
        check("postgres://ann:hunter2@db/", "names no database");
        check("user=ann password=hunter2 dbname=shop", "names no host");
        check(
            "postgres://ann:hunter2@db/shop?sslmode=allow",
            "an sslmode that walferry does not know",
        );
        check("postgres://ann:hunter2@db/shop?sslcert=x", "sslcert");
        check("postgres://ann:hunter2@db:port/shop", "port");
        check("postgres://ann:hunter2@db/shop?pgbouncer=true", "pooler");
        check("host=db user=ann password='hunter2", "a quote that is not closed");
    }

    #[test]
    fn a_password_that_is_not_encoded_is_refused_and_not_shown() {
        for (text, expected) in [
            ("postgres://ann:a@hunter2@db/shop", "an @ within"),
            ("postgres://ann:a@hunter2/x@db/shop", "an @ within"),
            ("postgres://ann:hun/ter2@db/shop", "an @ within"),
            ("postgres://ann:hunter2%@db/shop", "a % within"),
            ("postgres://ann:hunter2%zz@db/shop", "a % within"),
            ("postgres://ann:hunter2#x@db/shop", "a /, a ? or a # within"),
            ("postgres://ann:hunter2?x@db/shop", "a /, a ? or a # within"),
        ] {
            let fault = database(text).expect_err(text);
            assert!(fault.reason.contains(expected), "{text}: {}", fault.reason);
            assert!(fault.good.contains("percent-encoded"), "{text}: {}", fault.good);
            assert!(!format!("{fault:?}").contains("ter2"), "{fault:?}");
        }
        for text in [
            "postgres://ann:p%40w@db/shop?options=-c%20x%3Da@b",
            "postgres://ann@db:1,db2:2/shop?application_name=a@b",
        ] {
            assert!(database(text).is_ok(), "{text}");
        }
        let fault = nodes("http://elastic:12/hunter2@es:9200").unwrap_err();
        assert!(fault.reason.contains("a / within"), "{fault:?}");
    }

    #[test]
    fn credentials_leave_the_urls() {
        let read = nodes("https://ann:p%40w@es1:9200, https://ann:p%40w@es2:9200/proxy").unwrap();
        let urls: Vec<_> = read.nodes.iter().map(url::Url::as_str).collect();
        assert_eq!(urls, ["https://es1:9200/", "https://es2:9200/proxy/"]);
        let Authentication::Basic { username, password } = read.authentication else { panic!() };
        assert_eq!((username.as_str(), password), ("ann", Secret("p@w".to_owned())));
    }

    #[test]
    fn a_bad_node_says_why_and_never_quotes_it() {
        let check = |text: &str, expected: &str| {
            let fault = nodes(text).expect_err(text);
            assert!(fault.reason.contains(expected), "{text}: {}", fault.reason);
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        };
        check("localhost", "is not a URL");
        check("localhost:9200", "has the scheme localhost:");
        check("ftp://ann:hunter2@es", "has the scheme ftp:");
        check("http://", "is not a URL");
        check(",", "names no node");
        check("http://es?x=hunter2", "query");
        check("http://ann:hunter2@es1,http://bob:hunter2@es2", "several users");
    }

    #[test]
    fn loopback_nodes() {
        let check = |text: &str, expected| {
            assert_eq!(is_loopback(&text.parse().unwrap()), expected, "{text}");
        };
        check("http://127.0.0.1:9200", true);
        check("http://localhost", true);
        check("http://[::1]:9200", true);
        check("http://10.0.0.1:9200", false);
        check("https://es.example", false);
    }
}
