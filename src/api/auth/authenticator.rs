//! A request's `Authorization` header → an [`Identity`].
//!
//! A token of walferry's own is known by its hash (`token`), a JWT by its signature (`jwt`) and its
//! claims (`claims`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::http::{HeaderMap, header};
use ring::hmac;

use super::identity::Identity;
use super::jwt::Unverified;
use super::key_set::Algorithm;
use super::keys::JwtKeys;
use super::refusal::AuthRefusal;
use super::token;
use crate::config::{self, Jwt, Token};

/// A longer text is no token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Checks credentials.
#[derive(Debug)]
pub(in crate::api) struct Authenticator {
    known: Mutex<KnownTokens>,
    jwt: Option<JwtRules>,
}

/// The tokens as they were read last.
#[derive(Debug, Default)]
struct KnownTokens {
    tokens: Arc<[Token]>,
    /// There has been a token: without any left, no request is accepted.
    are_required: bool,
    /// How often they have changed.
    changes: u64,
    /// Why they could not be read; empty if they could.
    fault: String,
}

#[derive(Debug)]
struct JwtRules {
    secret: Option<hmac::Key>,
    keys: Option<JwtKeys>,
    claims: Jwt,
}

impl Authenticator {
    pub(in crate::api) fn new(api: &config::Api) -> Self {
        let jwt = api.jwt.as_ref().map(|jwt| JwtRules {
            secret: jwt
                .secret
                .as_ref()
                .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_bytes())),
            keys: jwt.jwks_url.clone().map(JwtKeys::new),
            claims: jwt.clone(),
        });
        let are_required = !api.tokens.is_empty();
        let tokens = api.tokens.clone().into();
        let known = Mutex::new(KnownTokens { tokens, are_required, ..KnownTokens::default() });
        Self { known, jwt }
    }

    /// Whether requests need a credential.
    pub(in crate::api) fn is_required(&self) -> bool {
        self.jwt.is_some() || self.known().are_required
    }

    /// How often the tokens have changed.
    pub(in crate::api) fn changes(&self) -> u64 {
        self.known().changes
    }

    /// Takes these tokens instead; returns whether they are others.
    pub(super) fn set_tokens(&self, tokens: Vec<Token>) -> bool {
        let mut known = self.known();
        known.fault.clear();
        if *known.tokens == *tokens {
            return false;
        }
        known.are_required |= !tokens.is_empty();
        known.tokens = tokens.into();
        known.changes += 1;
        true
    }

    /// Notes why the tokens could not be read; returns whether that is news.
    pub(super) fn note_fault(&self, fault: &str) -> bool {
        let mut known = self.known();
        let is_news = known.fault != fault;
        fault.clone_into(&mut known.fault);
        is_news
    }

    fn known(&self) -> MutexGuard<'_, KnownTokens> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity that these headers prove; `None` without a credential.
    pub(in crate::api) async fn identify(
        &self,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Identity>, AuthRefusal> {
        if !self.is_required() {
            return Ok(Some(Identity::anonymous()));
        }
        let Some(token) = bearer(headers)? else { return Ok(None) };
        let tokens = Arc::clone(&self.known().tokens);
        if let Some(known) = token::find(&tokens, token) {
            if known.expires_at.is_some_and(|end| end <= now) {
                return Err(AuthRefusal::Expired);
            }
            let Token { name, role, expires_at, .. } = known.clone();
            return Ok(Some(Identity { name, role, expires_at }));
        }
        let rules = self.jwt.as_ref().filter(|_| token.contains('.'));
        rules.ok_or(AuthRefusal::Unknown)?.identify(token, now).await.map(Some)
    }
}

impl JwtRules {
    async fn identify(&self, token: &str, now: SystemTime) -> Result<Identity, AuthRefusal> {
        let token = Unverified::parse(token)?;
        let claims = if token.algorithm == Algorithm::Hs256 {
            token.verify_secret(self.secret.as_ref().ok_or(AuthRefusal::Unknown)?)?
        } else {
            let keys = self.keys.as_ref().ok_or(AuthRefusal::Unknown)?;
            let keys = keys.get(|key| token.may_be_of(key)).await;
            token.verify_keys(&keys.ok_or(AuthRefusal::KeysUnavailable)?)?
        };
        claims.identity(&self.claims, now)
    }
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthRefusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let (scheme, token) =
        text.and_then(|text| text.split_once(' ')).ok_or(AuthRefusal::Malformed)?;
    let token = token.trim();
    let readable = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && !token.contains(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || !readable {
        return Err(AuthRefusal::Malformed);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use axum::http::{HeaderMap, HeaderValue, header};
    use sha2::{Digest as _, Sha256};

    use super::{AuthRefusal, Authenticator, Identity, token};
    use crate::config::{Api, Role, Token};

    fn api(tokens: Vec<Token>) -> Api {
        Api {
            insecure_no_auth: false,
            tokens,
            jwt: None,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            tokens_file: None,
            hosts: Vec::new(),
            audit_reads: false,
            environment: None,
        }
    }

    fn entry(name: &str, role: Role, text: &str, expires_at: Option<SystemTime>) -> Token {
        let sha256 = Sha256::digest(text).into();
        Token { name: name.to_owned(), role, sha256, expires_at }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let pair = |value: &&str| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        values.iter().map(pair).collect()
    }

    #[tokio::test]
    async fn without_authentication_every_request_is_of_an_anonymous_admin() {
        let open = Authenticator::new(&api(Vec::new()));
        let identity = open.identify(&headers(&["Bearer x"]), SystemTime::now()).await;
        assert_eq!(identity, Ok(Some(Identity::anonymous())));
    }

    #[tokio::test]
    async fn a_token_that_is_taken_away_opens_nothing_more() {
        let now = SystemTime::now();
        let one = token::generate().unwrap();
        let entries = || vec![entry("ann", Role::Viewer, &one, None)];
        let authenticator = Authenticator::new(&api(entries()));
        let who = async || authenticator.identify(&headers(&[&format!("Bearer {one}")]), now).await;
        assert!(who().await.is_ok());
        assert!(!authenticator.set_tokens(entries()), "the same");
        assert!(authenticator.set_tokens(Vec::new()));
        assert_eq!(who().await, Err(AuthRefusal::Unknown));
        assert!(authenticator.is_required(), "an empty file opens nothing");
        assert!(authenticator.note_fault("x") && !authenticator.note_fault("x"));
        assert!(authenticator.set_tokens(entries()) && authenticator.note_fault("x"));
        assert_eq!((who().await.is_ok(), authenticator.changes()), (true, 2));
    }

    #[tokio::test]
    async fn a_token_proves_an_identity_until_it_expires() {
        let now = SystemTime::now();
        let one = token::generate().unwrap();
        let two = token::generate().unwrap();
        let end = now + Duration::from_secs(9);
        let entries = vec![
            entry("ann", Role::Viewer, &one, Some(end)),
            entry("bob", Role::Admin, &two, None),
        ];
        let authenticator = Authenticator::new(&api(entries));
        let who = async |values: &[&str], now| authenticator.identify(&headers(values), now).await;

        assert_eq!(who(&[], now).await, Ok(None));
        let ann = who(&[&format!("Bearer {one}")], now).await.unwrap().unwrap();
        assert_eq!((ann.name.as_str(), ann.role), ("ann", Role::Viewer));
        assert_eq!(ann.expires_at, Some(end));
        let bob = who(&[&format!("bearer  {two} ")], now).await.unwrap().unwrap();
        assert_eq!((bob.name.as_str(), bob.role), ("bob", Role::Admin));

        assert_eq!(who(&[&format!("Bearer {one}")], end).await, Err(AuthRefusal::Expired));
        assert_eq!(who(&[&format!("Bearer {one}x")], now).await, Err(AuthRefusal::Unknown));
        let long = format!("Bearer {}", "x".repeat(8193));
        let bearer = format!("Bearer {two}");
        for malformed in [
            &["Bearer"][..],
            &["Bearer "],
            &["Basic YTpi"],
            &[&two],
            &["Bearer a b"],
            &[&long],
            &[&bearer, &bearer],
        ] {
            assert_eq!(who(malformed, now).await, Err(AuthRefusal::Malformed), "{malformed:?}");
        }
    }
}
