//! All that a request passes before it reaches its route.

use std::path::PathBuf;

use super::authenticator::Authenticator;
use crate::api::server::rate::Rates;
use crate::config;

/// The checks before a route.
#[derive(Debug)]
pub(in crate::api) struct AccessControl {
    pub(in crate::api) authenticator: Authenticator,
    pub(in crate::api) rates: Rates,
    /// The setting `api.cors_origins`.
    pub(in crate::api) origins: Vec<String>,
    /// The names that clients may call this server by, besides those of `origins`: `api.hosts`.
    pub(in crate::api) hosts: Vec<String>,
    /// The file that the tokens were read from.
    pub(in crate::api) tokens_file: Option<PathBuf>,
    /// The setting `api.trusted_proxies`.
    pub(in crate::api) trusted_proxies: Vec<config::Network>,
    /// The setting `api.audit_reads`.
    pub(in crate::api) audit_reads: bool,
    /// The setting `api.environment`.
    pub(in crate::api) environment: Option<String>,
}

impl AccessControl {
    pub(in crate::api) fn new(api: &config::Api) -> Self {
        Self {
            authenticator: Authenticator::new(api),
            rates: Rates::default(),
            origins: api.cors_origins.clone(),
            hosts: api.hosts.clone(),
            tokens_file: api.tokens_file.clone(),
            trusted_proxies: api.trusted_proxies.clone(),
            audit_reads: api.audit_reads,
            environment: api.environment.clone(),
        }
    }
}
