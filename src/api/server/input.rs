//! Bodies and parameters of requests, parsed with errors that name the field.
//!
//! Not here: what the fields mean.

use std::ops::RangeInclusive;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;
use uuid::Uuid;

use super::problem::{Invalid, Problem};
use crate::api::state::ApiState;
use crate::storage::audit;

/// A longer body is refused.
pub(in crate::api) const BODY_BYTES_MAX: usize = 64 * 1024;

/// A body of JSON. No body reads as `{}`.
pub(in crate::api) struct Body<T>(pub(in crate::api) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let detail = format!("the body is longer than {BODY_BYTES_MAX} bytes");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", detail)
            } else {
                let detail = "the body did not arrive as a whole";
                Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", detail)
            }
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        if !text.trim_ascii_start().starts_with(b"{") {
            let invalid = Invalid::new("body", "is no JSON object", "an object, or no body at all");
            return Err(Problem::invalid(vec![invalid]));
        }
        serde_json::from_slice(text).map(Self).map_err(|error| {
            // serde quotes names of fields and what it expected; values only as far as a type's
            // word goes, and they are the client's own.
            Problem::invalid(vec![Invalid::new(
                "body",
                format!("does not read: {error}"),
                "JSON as /openapi.json describes it",
            )])
        })
    }
}

/// A body for routes that take none: a request that asks for something else must not be done as if it
/// did not.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Nothing {}

/// Why something is given up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Reason {
    /// 3 to 500 characters.
    #[schemars(length(min = 3, max = 500))]
    pub(in crate::api) reason: Option<String>,
}

/// A reason where none is needed; one that is given says something.
pub(in crate::api) fn optional_reason(given: Option<String>) -> Result<Option<String>, Problem> {
    given.map(|given| reason(Some(given))).transpose()
}

/// An operator's reason, if it says something.
pub(in crate::api) fn reason(given: Option<String>) -> Result<String, Problem> {
    let given = given.unwrap_or_default();
    audit::reason(&given).ok_or_else(|| {
        let is_missing = given.trim().is_empty();
        let fault = if is_missing { "is missing" } else { "is too short or too long" };
        Problem::invalid(vec![Invalid::new("reason", fault, audit::A_REASON)])
    })
}

/// The query's parameters. Unknown ones are errors: a filter with a typing error must not show all
/// jobs.
pub(in crate::api) struct Parameters {
    given: Vec<(String, String)>,
    errors: Vec<Invalid>,
    known: Vec<&'static str>,
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::from_query(parts.uri.query()))
    }
}

impl Parameters {
    /// The parameters of a query as it stands in the URI.
    pub(in crate::api) fn from_query(query: Option<&str>) -> Self {
        let given = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            // What pages append to get past caches.
            .filter(|(name, _)| name != "_")
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        Self { given, errors: Vec::new(), known: Vec::new() }
    }

    /// A parameter as it came; an empty one is the same as none.
    pub(in crate::api) fn given(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut all = self.given.iter().filter(|(known, _)| known == name);
        let value = all.next().map(|(_, value)| value.clone()).filter(|value| !value.is_empty());
        let again = all.next().is_some();
        if again {
            self.refuse(name, "is there more than once", "one value");
        }
        value
    }

    /// The text of a parameter.
    pub(in crate::api) fn text(
        &mut self,
        name: &'static str,
        characters_max: usize,
    ) -> Option<String> {
        let value = self.given(name)?;
        let Some((reason, allowed)) = wrong_text(&value, characters_max) else {
            return Some(value);
        };
        self.refuse(name, reason, allowed);
        None
    }

    /// A whole number within limits, or the default.
    pub(in crate::api) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
        default: i64,
    ) -> i64 {
        self.optional_number(name, range).unwrap_or(default)
    }

    /// A whole number within limits, if there is one.
    pub(in crate::api) fn optional_number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let text = self.text(name, 64)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let allowed = format!("a whole number from {} to {}", range.start(), range.end());
            self.refuse(name, format!("is {text:?}"), allowed);
        }
        number
    }

    /// One of some words, if there is one.
    pub(in crate::api) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(name, 64)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(name, format!("is {text:?}"), allowed.join(", "));
        }
        found
    }

    /// Notes that a field is wrong.
    pub(in crate::api) fn refuse(
        &mut self,
        name: &'static str,
        reason: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.errors.push(Invalid::new(name, reason, allowed));
    }

    /// Notes what was found wrong elsewhere.
    pub(in crate::api) fn refuse_all(&mut self, errors: Vec<Invalid>) {
        self.errors.extend(errors);
    }

    /// An error if anything was wrong, or is left over.
    pub(in crate::api) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.given {
            if !self.known.contains(&name.as_str()) {
                let allowed = match self.known.as_slice() {
                    [] => "no parameters".to_owned(),
                    known => known.join(", "),
                };
                let name: String = name.chars().take(100).collect();
                self.errors.push(Invalid::new(&name, "is not a parameter of this route", allowed));
            }
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

/// What no text may be, and what it may.
pub(in crate::api) fn wrong_text(
    text: &str,
    characters_max: usize,
) -> Option<(&'static str, String)> {
    if text.chars().count() > characters_max {
        return Some(("is too long", format!("at most {characters_max} characters")));
    }
    let nul = text.contains('\0');
    nul.then(|| ("has a NUL character in it", "any other text".to_owned()))
}

pub(in crate::api) const A_UUID: &str = "a UUID such as c0000000-0000-4000-8000-000000000001";

/// A job's number in a path.
pub(in crate::api) fn job_id(text: &str) -> Result<i64, Problem> {
    text.parse().ok().filter(|id| *id > 0).ok_or_else(|| {
        let reason = format!("is {:?}", shortened(text));
        Problem::invalid(vec![Invalid::new("id", reason, "a job's number, 1 or more")])
    })
}

/// A record's id in a path.
pub(in crate::api) fn record_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|_| {
        let reason = format!("is {:?}", shortened(text));
        Problem::invalid(vec![Invalid::new("record_id", reason, A_UUID)])
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn parameters(query: &str) -> Parameters {
        let request = Request::get(format!("/?{query}")).body(()).unwrap();
        Parameters::from_request_parts(&mut request.into_parts().0, &()).await.unwrap()
    }

    #[tokio::test]
    async fn each_wrong_parameter_is_named() {
        let mut given = parameters("page=0&limit=1000000000&id=x&stats=1&_=5").await;
        assert_eq!(given.number("page", 1..=100, 1), 1);
        assert_eq!(given.number("limit", 1..=200, 20), 20);
        assert_eq!(given.optional_number("id", 1..=9), None);
        assert_eq!(given.word("status", &[("a", 1)]), None);
        let problem = given.finish().unwrap_err();
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
        let text = format!("{problem:?}");
        for word in ["page", "1 to 100", "limit", "1 to 200", "1 to 9", "stats", "not a parameter"]
        {
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }

    #[tokio::test]
    async fn what_is_right_is_taken() {
        let mut given = parameters("page=3&status=b&q=a%20b&empty=").await;
        assert_eq!(given.number("page", 1..=100, 1), 3);
        assert_eq!(given.word("status", &[("a", 1), ("b", 2)]), Some(2));
        assert_eq!(given.text("q", 10).as_deref(), Some("a b"));
        assert_eq!(given.text("empty", 10), None);
        assert!(given.finish().is_ok());
    }

    #[test]
    fn a_reason_must_say_something() {
        assert_eq!(reason(Some(" a broken import ".into())).unwrap(), "a broken import");
        for wrong in [None, Some("  ".to_owned()), Some("x".to_owned()), Some("x".repeat(501))] {
            assert!(reason(wrong).is_err());
        }
    }

    #[tokio::test]
    async fn a_parameter_given_twice_is_refused() {
        let mut given = parameters("page=1&page=2").await;
        given.number("page", 1..=9, 1);
        assert!(given.finish().is_err());
    }
}
