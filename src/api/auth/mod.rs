//! Who asks: a request's `Authorization` → an [`Identity`] with a [`Role`].
//!
//! A token of walferry's own is known by its hash (`token`), a JWT by its signature (`jwt`) and its
//! claims (`claims`). Without either in the configuration, which then lets the server listen on loopback
//! only, everybody is `anonymous` and an admin.
//!
//! Not here: what a role may do (`authorize`, the table of routes).

pub(super) mod authorize;
mod claims;
#[cfg(test)]
mod forged;
mod jwt;
mod key_set;
mod keys;
pub(super) mod session;
pub mod token;

use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use ring::hmac;

use self::jwt::{Algorithm, Unverified};
use self::keys::Keys;
use super::Problem;
use super::server::rate::Rates;
pub use crate::config::Role;
use crate::config::{self, Jwt, Token};

/// What is longer is no token of ours.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Somebody, as logs and the audit log name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(super) name: String,
    pub(super) role: Role,
    /// From then on this identity is unknown.
    pub(super) expires_at: Option<SystemTime>,
}

impl Identity {
    fn anonymous() -> Self {
        Self { name: "anonymous".to_owned(), role: Role::Admin, expires_at: None }
    }
}

/// Why a credential is not accepted. The words tell whoever presents it what to do, and nobody
/// anything about others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not `Bearer`, more than one, or too long.
    Malformed,
    Unknown,
    Expired,
    NotYet,
    /// By another issuer or for another audience.
    Foreign,
    /// A user of the application, and none of walferry.
    RoleMissing,
    /// Whether it is good can't be told now.
    KeysUnavailable,
}

impl Refusal {
    /// For programs, logs and metrics.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Unknown => "token_unknown",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet_valid",
            Self::Foreign => "token_foreign",
            Self::RoleMissing => "role_missing",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "the token can't be read; send `Authorization: Bearer TOKEN`",
            Self::Unknown => "the token is not known here; ask an administrator for one",
            Self::Expired => "the token has expired; ask for a new one",
            Self::NotYet => "the token is not valid yet; compare the clocks",
            Self::Foreign => "the token was issued by or for somebody else",
            Self::RoleMissing => {
                "the token names no role here; ask an administrator for viewer, operator or admin"
            }
            Self::KeysUnavailable => {
                "the keys that tokens are checked with can't be read now; try again"
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self == Self::KeysUnavailable {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Problem::new(status, self.code(), self.detail()).into_response();
        }
        let problem = Problem::new(StatusCode::UNAUTHORIZED, self.code(), self.detail());
        challenge(problem, r#"Bearer error="invalid_token""#)
    }
}

/// RFC 6750: a 401 says how to authenticate.
fn challenge(problem: Problem, how: &'static str) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(how));
    response
}

/// All that stands between a request and its route.
#[derive(Debug)]
pub(super) struct AccessControl {
    pub(super) authenticator: Authenticator,
    pub(super) rates: Rates,
    /// The setting `api.cors_origins`.
    pub(super) origins: Vec<String>,
    /// The setting `api.environment`.
    pub(super) environment: Option<String>,
}

impl AccessControl {
    pub(super) fn new(api: &config::Api) -> Self {
        Self {
            authenticator: Authenticator::new(api),
            rates: Rates::default(),
            origins: api.cors_origins.clone(),
            environment: api.environment.clone(),
        }
    }
}

/// Knows who may use the API.
#[derive(Debug)]
pub(super) struct Authenticator {
    tokens: Vec<Token>,
    jwt: Option<JwtRules>,
}

#[derive(Debug)]
struct JwtRules {
    secret: Option<hmac::Key>,
    keys: Option<Keys>,
    claims: Jwt,
}

impl Authenticator {
    pub(super) fn new(api: &config::Api) -> Self {
        let jwt = api.jwt.as_ref().map(|jwt| JwtRules {
            secret: jwt
                .secret
                .as_ref()
                .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_bytes())),
            keys: jwt.jwks_url.clone().map(Keys::new),
            claims: jwt.clone(),
        });
        Self { tokens: api.tokens.clone(), jwt }
    }

    /// Whether everybody is asked who they are.
    pub(super) const fn is_required(&self) -> bool {
        !self.tokens.is_empty() || self.jwt.is_some()
    }

    /// Who sends these headers; `None` if they do not say.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Identity>, Refusal> {
        if !self.is_required() {
            return Ok(Some(Identity::anonymous()));
        }
        let Some(token) = bearer(headers)? else { return Ok(None) };
        if let Some(known) = token::find(&self.tokens, token) {
            if known.expires_at.is_some_and(|end| end <= now) {
                return Err(Refusal::Expired);
            }
            let Token { name, role, expires_at, .. } = known.clone();
            return Ok(Some(Identity { name, role, expires_at }));
        }
        let rules = self.jwt.as_ref().filter(|_| token.contains('.'));
        rules.ok_or(Refusal::Unknown)?.identify(token, now).await.map(Some)
    }
}

impl JwtRules {
    async fn identify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let token = Unverified::parse(token)?;
        let claims = if token.algorithm == Algorithm::Hs256 {
            token.verify_secret(self.secret.as_ref().ok_or(Refusal::Unknown)?)?
        } else {
            let keys = self.keys.as_ref().ok_or(Refusal::Unknown)?;
            let keys = keys.get(|key| token.may_be_of(key)).await;
            token.verify_keys(&keys.ok_or(Refusal::KeysUnavailable)?)?
        };
        claims.identity(&self.claims, now)
    }
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).ok_or(Refusal::Malformed)?;
    let token = token.trim();
    let readable = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && !token.contains(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || !readable {
        return Err(Refusal::Malformed);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use axum::http::{HeaderMap, HeaderValue, header};
    use sha2::{Digest as _, Sha256};

    use super::{Authenticator, Identity, Refusal, Role, token};
    use crate::config::{Api, Token};

    fn api(tokens: Vec<Token>) -> Api {
        let (cors_origins, environment) = (Vec::new(), None);
        Api { insecure_no_auth: false, tokens, jwt: None, cors_origins, environment }
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
    async fn without_authentication_everybody_is_an_anonymous_admin() {
        let nobody_asked = Authenticator::new(&api(Vec::new()));
        let identity = nobody_asked.identify(&headers(&["Bearer x"]), SystemTime::now()).await;
        assert_eq!(identity, Ok(Some(Identity::anonymous())));
    }

    #[tokio::test]
    async fn a_token_is_somebody_until_it_expires() {
        let now = SystemTime::now();
        let (one, two) = (token::generate().unwrap(), token::generate().unwrap());
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

        assert_eq!(who(&[&format!("Bearer {one}")], end).await, Err(Refusal::Expired));
        assert_eq!(who(&[&format!("Bearer {one}x")], now).await, Err(Refusal::Unknown));
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
            assert_eq!(who(malformed, now).await, Err(Refusal::Malformed), "{malformed:?}");
        }
    }
}
