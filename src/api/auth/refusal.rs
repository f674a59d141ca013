//! Why a credential is not accepted, and the answer that says so.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::server::problem::Problem;

/// Why a credential is not accepted. The answer says what to do and nothing of other credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum AuthRefusal {
    /// Not `Bearer`, more than one, or too long.
    Malformed,
    Unknown,
    Expired,
    NotYet,
    /// By another issuer or for another audience.
    Foreign,
    /// A user of the application, and none of walferry.
    RoleMissing,
    /// It cannot be checked now.
    KeysUnavailable,
}

impl AuthRefusal {
    /// For programs, logs and metrics.
    pub(in crate::api) const fn code(self) -> &'static str {
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

impl IntoResponse for AuthRefusal {
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
pub(super) fn challenge(problem: Problem, how: &'static str) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(how));
    response
}
