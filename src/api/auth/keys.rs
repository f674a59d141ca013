//! The public keys that JWTs are checked with: read over HTTP, and kept.
//!
//! They are at most ten minutes old while their server answers, and stay in use while it does not. A
//! token that names an unknown key causes another read, at most one a minute for any number of such
//! tokens. Tokens with known keys wait for no read.
//!
//! Not here: what the answer means (`key_set`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;
use tracing::{debug, warn};
use url::Url;

use super::key_set::{self, PublicKey};
use crate::telemetry::http_client;

const AGE_MAX: Duration = Duration::from_secs(600);
/// Between two reads for a key that is not there.
const READ_EVERY: Duration = Duration::from_secs(60);
/// Between two reads before the first that succeeds: walferry may have started first.
const FIRST_READ_EVERY: Duration = Duration::from_secs(5);
const TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Keys from one address.
#[derive(Debug)]
pub(super) struct JwtKeys {
    url: Url,
    client: Client,
    known: Mutex<KnownKeys>,
    /// Held during a read.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct KnownKeys {
    keys: Arc<[PublicKey]>,
    read_at: Option<Instant>,
    tried_at: Option<Instant>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum ReadKeysError {
    #[error("no answer")]
    Http(#[from] reqwest::Error),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer is not a set of keys")]
    NotKeys,
}

impl JwtKeys {
    /// Connects to nothing yet.
    pub(super) fn new(url: Url) -> Self {
        let client = http_client::client(TIME_MAX);
        Self { url, client, known: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// The keys, among them one that `fits` if there is one; `None` if none were ever read.
    pub(super) async fn get(&self, fits: impl Fn(&PublicKey) -> bool) -> Option<Arc<[PublicKey]>> {
        let known = self.known();
        let found = known.keys.iter().any(&fits);
        let fresh = known.read_at.is_some_and(|at| at.elapsed() < AGE_MAX);
        if found && fresh {
            return Some(known.keys);
        }
        // With a key that fits, only the first to find it old waits.
        let reading = match self.reading.try_lock() {
            Ok(reading) => reading,
            Err(_) if found => return Some(known.keys),
            Err(_) => self.reading.lock().await,
        };
        let known = self.known();
        let wait = if known.read_at.is_none() { FIRST_READ_EVERY } else { READ_EVERY };
        if known.tried_at.is_none_or(|at| at.elapsed() >= wait) {
            self.refresh().await;
        }
        drop(reading);
        let known = self.known();
        known.read_at.map(|_| known.keys)
    }

    async fn refresh(&self) {
        self.change(|known| known.tried_at = Some(Instant::now()));
        match self.read().await {
            Ok(keys) => {
                debug!(event = "keys_read", keys = keys.len(), "keys for JWTs read");
                self.change(|known| {
                    known.keys = keys.into();
                    known.read_at = Some(Instant::now());
                });
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(
                    event = "keys_not_read",
                    error, "could not read the keys for JWTs (api.jwks_url); those known stay"
                );
            }
        }
    }

    async fn read(&self) -> Result<Vec<PublicKey>, ReadKeysError> {
        let mut answer = self.client.get(self.url.clone()).send().await?;
        if answer.status() != 200 {
            return Err(ReadKeysError::Status(answer.status().as_u16()));
        }
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await? {
            if text.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(ReadKeysError::TooLong);
            }
            text.extend_from_slice(&part);
        }
        key_set::parse(&text).ok_or(ReadKeysError::NotKeys)
    }

    fn known(&self) -> KnownKeys {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut KnownKeys)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::forged::JWKS;
    use super::{JwtKeys, READ_EVERY};

    /// A server with one answer, which can be changed, and a count of how often it was asked.
    struct Server {
        keys: JwtKeys,
        asked: Arc<AtomicUsize>,
        answer: Arc<std::sync::Mutex<String>>,
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    impl Server {
        async fn new(answer: String) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
            let asked = Arc::new(AtomicUsize::new(0));
            let answer = Arc::new(std::sync::Mutex::new(answer));
            let count = Arc::clone(&asked);
            let text = Arc::clone(&answer);
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut request = [0; 1024];
                    drop(stream.read(&mut request).await);
                    count.fetch_add(1, Ordering::Relaxed);
                    let text = text.lock().unwrap().clone();
                    drop(stream.write_all(text.as_bytes()).await);
                }
            });
            Self { keys: JwtKeys::new(url.parse().unwrap()), asked, answer }
        }

        fn answers(&self, text: String) {
            *self.answer.lock().unwrap() = text;
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }

        async fn has(&self, id: &str) -> Option<bool> {
            let fits = |key: &super::PublicKey| key.id.as_deref() == Some(id);
            self.keys.get(fits).await.map(|keys| keys.iter().any(fits))
        }

        fn age(&self, by: Duration) {
            self.keys.change(|known| {
                known.read_at = known.read_at.map(|at| at.checked_sub(by).unwrap());
                known.tried_at = known.tried_at.map(|at| at.checked_sub(by).unwrap());
            });
        }
    }

    #[tokio::test]
    async fn keys_are_asked_for_once_and_again_when_old() {
        let server = Server::new(ok(JWKS)).await;
        for _ in 0..5 {
            assert_eq!(server.has("rsa-1").await, Some(true));
        }
        assert_eq!(server.asked(), 1);
        server.age(Duration::from_secs(599));
        assert_eq!((server.has("rsa-1").await, server.asked()), (Some(true), 1));
        server.age(Duration::from_secs(2));
        assert_eq!((server.has("rsa-1").await, server.asked()), (Some(true), 2));
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_asks_once_a_minute() {
        let server = Server::new(ok(JWKS)).await;
        for number in 0..100 {
            assert_eq!(server.has(&format!("forged-{number}")).await, Some(false));
        }
        assert_eq!(server.asked(), 1);
        server.answers(ok(&JWKS.replace("rsa-1", "rsa-2")));
        assert_eq!(server.has("rsa-2").await, Some(false));
        server.age(READ_EVERY);
        assert_eq!((server.has("rsa-2").await, server.asked()), (Some(true), 2));
    }

    #[tokio::test]
    async fn the_last_good_keys_stay() {
        let server = Server::new(ok("")).await;
        assert_eq!(server.has("rsa-1").await, None);
        server.answers(ok(JWKS));
        assert_eq!((server.has("rsa-1").await, server.asked()), (None, 1));
        server.age(Duration::from_secs(5));
        assert_eq!(server.has("rsa-1").await, Some(true));
        let long = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(65_536));
        for bad in [
            ok("<html>"),
            ok(&long),
            "HTTP/1.1 500 No\r\nconnection: close\r\n\r\n".to_owned(),
            "HTTP/1.1 302 Found\r\nlocation: /other\r\nconnection: close\r\n\r\n".to_owned(),
            String::new(),
        ] {
            let before = server.asked();
            server.answers(bad);
            server.age(Duration::from_secs(601));
            assert_eq!(server.has("rsa-1").await, Some(true));
            assert_eq!(server.asked(), before + 1, "a redirect is not followed");
        }
    }
}
