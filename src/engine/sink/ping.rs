//! Checks the product and the version of the cluster, and the health of walferry's indices in it.
//!
//! Not here: the indices (`index`).

use serde::Deserialize;

use super::bulk::parse_error;
use super::client::{Client, NoResponse, Verb};
use super::service_error::whole_service_error;
use super::verdict::{ServiceError, ServiceFailure};
use crate::postgres::{Disposition, Recovery};

/// The oldest supported version of Elasticsearch.
const VERSION_MIN: u32 = 8;
/// The oldest supported version of OpenSearch.
const OPENSEARCH_VERSION_MIN: u32 = 2;

/// The cluster's name and version, and the health of walferry's indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    pub version: String,
    pub cluster_name: String,
    /// `green` or `yellow`; `unknown` without the privilege to read it.
    pub status: String,
}

/// The cluster cannot be used, at present or at all.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    #[error("Elasticsearch does not answer")]
    NoResponse(#[from] NoResponse),
    #[error("Elasticsearch is not ready: {reason}")]
    NotReady { reason: String },
    #[error(
        "Elasticsearch cluster {} is red: some documents have no node; \
         see GET /_cluster/allocation/explain",
        ping.cluster_name
    )]
    Red { ping: Ping },
    #[error(
        "Elasticsearch refuses walferry's credentials ({reason}); set ELASTICSEARCH_URL's user and \
         password, or the API key"
    )]
    NotAuthorised { reason: String },
    #[error(
        "the user in Elasticsearch lacks the privilege `monitor` on the cluster ({reason}); grant \
         it by a role of the user"
    )]
    NotPermitted { reason: String },
    #[error(
        "what answers is neither Elasticsearch nor OpenSearch ({reason}); check ELASTICSEARCH_URL"
    )]
    NotElasticsearch { reason: String },
    #[error("{product} {version} is too old; walferry needs {product} {min} or newer")]
    TooOld { product: &'static str, version: String, min: u32 },
}

impl Recovery for PingError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::NoResponse(_) | Self::NotReady { .. } | Self::Red { .. } => Disposition::Retry,
            Self::NotAuthorised { .. }
            | Self::NotPermitted { .. }
            | Self::NotElasticsearch { .. }
            | Self::TooOld { .. } => Disposition::Operator,
        }
    }
}

impl PingError {
    /// The failure as the sink's state shows it.
    #[must_use]
    pub fn failure(&self) -> ServiceFailure {
        match self {
            Self::NoResponse(error) => error.failure,
            Self::NotReady { .. } | Self::Red { .. } => ServiceFailure::Unavailable,
            Self::NotAuthorised { .. } | Self::NotPermitted { .. } => ServiceFailure::NotAuthorised,
            Self::NotElasticsearch { .. } | Self::TooOld { .. } => ServiceFailure::NotUnderstood,
        }
    }
}

/// Requests name, version and the health of the indices whose names begin with one of `names`. An
/// index that is not walferry's may be red.
///
/// # Errors
///
/// See [`PingError`].
pub async fn ping(client: &Client, names: &[String]) -> Result<Ping, PingError> {
    #[derive(Deserialize)]
    struct ClusterHealth {
        status: String,
    }
    let (version, cluster_name) = identify(client).await?;
    // For a name that does not exist, the request waits; a pattern may match nothing.
    let path = format!("/_cluster/health/{}*?filter_path=status", names.join("*,"));
    let response = client.send(Verb::Get, &path, None).await?;
    let status = match serde_json::from_slice::<ClusterHealth>(&response.body) {
        Ok(health) if response.is_success() => health.status,
        _ if response.status == 403 => "unknown".to_owned(),
        _ => return Err(PingError::NotReady { reason: whole_service_error(&response).reason }),
    };
    let ping = Ping { version, cluster_name, status };
    if ping.status == "red" { Err(PingError::Red { ping }) } else { Ok(ping) }
}

/// Version and cluster name.
async fn identify(client: &Client) -> Result<(String, String), PingError> {
    let response = client.send(Verb::Get, "/", None).await?;
    if !response.is_success() {
        let ServiceError { failure, reason } = whole_service_error(&response);
        return Err(match failure {
            // A proxy in between knows no privileges.
            ServiceFailure::NotAuthorised
                if response.status == 403 && parse_error(&response.body).is_some() =>
            {
                PingError::NotPermitted { reason }
            }
            ServiceFailure::NotAuthorised => PingError::NotAuthorised { reason },
            ServiceFailure::NotUnderstood => PingError::NotElasticsearch { reason },
            _ => PingError::NotReady { reason },
        });
    }
    parse_root(&response.body)
}

/// Version and cluster name in the response to `GET /`, if the version is supported.
fn parse_root(body: &[u8]) -> Result<(String, String), PingError> {
    #[derive(Deserialize)]
    struct Root {
        cluster_name: String,
        version: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        number: String,
        distribution: Option<String>,
    }
    let root: Root = serde_json::from_slice(body)
        .map_err(|error| PingError::NotElasticsearch { reason: error.to_string() })?;
    let (product, min) = match root.version.distribution.as_deref() {
        Some("opensearch") => ("OpenSearch", OPENSEARCH_VERSION_MIN),
        _ => ("Elasticsearch", VERSION_MIN),
    };
    let number = root.version.number;
    let major = number.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= min => Ok((number, root.cluster_name)),
        Some(_) => Err(PingError::TooOld { product, version: number, min }),
        None => {
            let reason = format!("its version is {number:?}");
            Err(PingError::NotElasticsearch { reason })
        }
    }
}

/// What `check` says about `action.auto_create_index`: `None` when the cluster cannot make these
/// concrete indices by itself. A late delete could, with a mapping of its own invention.
///
/// # Errors
///
/// When the cluster's settings cannot be read.
pub async fn auto_create_advice(
    client: &Client,
    names: &[String],
) -> Result<Option<String>, PingError> {
    let path = "/_cluster/settings?include_defaults=true&flat_settings=true\
                &filter_path=*.action.auto_create_index";
    let response = client.send(Verb::Get, path, None).await?;
    if !response.is_success() {
        return Err(PingError::NotReady { reason: whole_service_error(&response).reason });
    }
    let found: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let value = ["transient", "persistent", "defaults"]
        .iter()
        .find_map(|level| found[level]["action.auto_create_index"].as_str())
        .unwrap_or("true");
    Ok(advise(value, names))
}

fn advise(value: &str, names: &[String]) -> Option<String> {
    if !names.iter().any(|name| may_create(value, &format!("{name}-000001"))) {
        return None;
    }
    let refusals: Vec<_> = names.iter().map(|name| format!("-{name}-*")).collect();
    let rest = if value == "true" { "+*" } else { value };
    Some(format!(
        "a delete that arrives after an index was removed would make the index anew, without its \
         mapping; prevent it with PUT /_cluster/settings \
         {{\"persistent\":{{\"action.auto_create_index\":\"{},{rest}\"}}}}",
        refusals.join(",")
    ))
}

/// Elasticsearch's rule: the first pattern that matches decides; none that matches forbids.
fn may_create(value: &str, index: &str) -> bool {
    match value.trim() {
        "true" => return true,
        "false" => return false,
        _ => {}
    }
    for pattern in value.split(',').map(str::trim) {
        let (allowed, pattern) = match pattern.strip_prefix('-') {
            Some(pattern) => (false, pattern),
            None => (true, pattern.strip_prefix('+').unwrap_or(pattern)),
        };
        if matches(pattern, index) {
            return allowed;
        }
    }
    false
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pattern.rsplit('*').next().filter(|_| pattern.contains('*')) else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_search_engines_known_pass() {
        let check = |body: &str, expected: &str| {
            let text = match parse_root(body.as_bytes()) {
                Ok((version, cluster)) => format!("{cluster} {version}"),
                Err(error) => error.to_string(),
            };
            assert!(text.contains(expected), "{text}");
        };
        let root = |number: &str, extra: &str| {
            format!(r#"{{"cluster_name":"c","version":{{"number":"{number}"{extra}}}}}"#)
        };
        check(&root("9.5.3", ""), "c 9.5.3");
        check(&root("8.0.0", r#","build_flavor":"default""#), "c 8.0.0");
        check(&root("7.17.1", ""), "Elasticsearch 7.17.1 is too old");
        check(&root("2.11.0", r#","distribution":"opensearch""#), "c 2.11.0");
        check(&root("1.3.0", r#","distribution":"opensearch""#), "OpenSearch 1.3.0 is too old");
        check(&root("x", ""), "neither Elasticsearch nor OpenSearch");
        check("<html>", "neither Elasticsearch nor OpenSearch");
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let check = |value, index, expected| {
            assert_eq!(may_create(value, index), expected, "{value} {index}");
        };
        check("true", "a-000001", true);
        check("false", "a-000001", false);
        check("-a-*,+*", "a-000001", false);
        check("-a-*,+*", "b-000001", true);
        check("+*,-a-*", "a-000001", true);
        check(".watches,logs*", "a-000001", false);
        check("a-000001", "a-000001", true);
        check("a-00000", "a-000001", false);
        check("a*0*1", "a-000001", true);
        check("a*0*2", "a-000001", false);
    }

    #[test]
    fn advice_names_the_remedy_or_is_silent() {
        let names = ["a".to_owned(), "b".to_owned()];
        let advice = advise("true", &names).unwrap();
        assert!(advice.contains(r#""action.auto_create_index":"-a-*,-b-*,+*""#), "{advice}");
        assert_eq!(advise("-a-*,-b-*,+*", &names), None);
        assert_eq!(advise("false", &names), None);
    }
}
