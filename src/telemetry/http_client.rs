//! The HTTP client for what is neither PostgreSQL nor Elasticsearch: a server that has keys, a
//! collector of traces.
//!
//! Not here: what is asked of them.

use std::time::Duration;

use reqwest::{Certificate, Client, redirect};
use rustls::RootCertStore;

/// A client that follows no redirect and no proxy's variable, so it reaches the configured host and
/// no other. The system's certificate authorities are trusted beside the built-in ones.
#[must_use]
pub fn client(time_max: Duration) -> Client {
    let system = rustls_native_certs::load_native_certs().certs;
    let readable = system.into_iter().filter(|one| RootCertStore::empty().add(one.clone()).is_ok());
    let system = readable.filter_map(|one| Certificate::from_der(&one).ok());
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(time_max)
        .no_proxy()
        .referer(false);
    let client = system.fold(client, |client, one| client.add_root_certificate(one)).build();
    client.expect("the certificates can be read, and nothing else can be wrong")
}
