//! The HTTP client for JWKS endpoints and OTLP collectors, and the system's certificate authorities.
//!
//! Not here: the requests, and the client of Elasticsearch (`engine::sink::client`).

use std::time::Duration;

use reqwest::{Certificate, Client, redirect};
use rustls::RootCertStore;

/// A client with a timeout for each request. It follows no redirects and ignores proxy variables,
/// so it connects to the configured host only. It trusts the system's certificate authorities in
/// addition to the built-in ones.
#[must_use]
pub fn client(time_max: Duration) -> Client {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(time_max)
        .no_proxy()
        .referer(false);
    let system = system_authorities().into_iter();
    let client = system.fold(client, |client, one| client.add_root_certificate(one)).build();
    client.expect("the certificates can be read, and nothing else can be wrong")
}

/// The system's certificate authorities that can be read.
#[must_use]
pub fn system_authorities() -> Vec<Certificate> {
    let system = rustls_native_certs::load_native_certs().certs;
    let readable = system.into_iter().filter(|one| RootCertStore::empty().add(one.clone()).is_ok());
    readable.filter_map(|one| Certificate::from_der(&one).ok()).collect()
}
