//! Builds every HTTP client: without redirects, without proxies, and with the certificate authorities
//! that it trusts. The client for Elasticsearch adds credentials and its own authority
//! (`engine::sink::node`).
//!
//! Not here: the requests.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, redirect};
use rustls::RootCertStore;

/// A client with a timeout for each request. It follows no redirects and ignores proxy variables,
/// so it connects to the configured host only. It trusts the system's certificate authorities in
/// addition to the built-in ones.
#[must_use]
pub fn client(time_max: Duration) -> Client {
    let client = trusting(builder(time_max), system_authorities()).build();
    client.expect("the certificates can be read, and nothing else can be wrong")
}

/// A client that goes where it is sent: it follows no redirect, and obeys no proxy variable.
pub fn builder(time_max: Duration) -> ClientBuilder {
    Client::builder().redirect(redirect::Policy::none()).timeout(time_max).no_proxy().referer(false)
}

/// Trusts these authorities too.
pub fn trusting(client: ClientBuilder, authorities: Vec<Certificate>) -> ClientBuilder {
    authorities.into_iter().fold(client, ClientBuilder::add_root_certificate)
}

/// The system's certificate authorities that can be read.
#[must_use]
pub fn system_authorities() -> Vec<Certificate> {
    let system = rustls_native_certs::load_native_certs().certs;
    let readable = system.into_iter().filter(|one| RootCertStore::empty().add(one.clone()).is_ok());
    readable.filter_map(|one| Certificate::from_der(&one).ok()).collect()
}
