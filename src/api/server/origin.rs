//! The origin policy: pages of other sites neither act nor read.
//!
//! A browser sends what a page of any site asks it to send, so a request that changes something
//! must come from walferry's own page, from a listed origin, or from no page at all. The host name of
//! a request must be one that no other party can give to this address (DNS rebinding).
//!
//! Not here: authentication (`auth`).

use axum::extract::{self, Request};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::{Host, Url};

use super::audit_log::{self, DeniedAttempt};
use super::listener;
use super::problem::Problem;
use crate::api::state::ApiState;

/// What a page of a listed origin may send and read.
const PREFLIGHT: [(HeaderName, &str); 3] = [
    (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, last-event-id"),
    (ACCESS_CONTROL_MAX_AGE, "600"),
];
const EXPOSED: &str = "retry-after, www-authenticate, x-request-id";

/// Refuses requests of pages of other sites, but for those of listed origins.
pub(in crate::api) async fn protect(
    extract::State(state): extract::State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let origins = &state.access.origins;
    let listed = listed(origins, request.headers()).cloned();
    let names = KnownNames { origins, hosts: &state.access.hosts };
    let checked = addressed(names, request.headers(), request.uri());
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match checked.and_then(|()| may_act(&request, listed.is_some())) {
        Err(problem) => {
            denied(&state, &request, &problem);
            problem.into_response()
        }
        Ok(()) if is_preflight && listed.is_some() => preflight(),
        Ok(()) => next.run(request).await,
    };
    let headers = response.headers_mut();
    if !origins.is_empty() {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = listed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

/// Reports what another site's page, or a page under another name, tried.
fn denied(state: &ApiState, request: &Request, problem: &Problem) {
    if problem.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return;
    }
    audit_log::denied(
        state,
        DeniedAttempt {
            name: String::new(),
            role: "none".to_owned(),
            address: listener::address_of(request.extensions()),
            method: request.method(),
            path: request.uri().path(),
            code: problem.code(),
        },
    );
}

fn preflight() -> Response {
    let headers = PREFLIGHT.map(|(name, value)| (name, HeaderValue::from_static(value)));
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The origin, if it is a listed one, letter for letter.
fn listed<'a>(origins: &[String], headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    headers.get(ORIGIN).filter(|value| origins.iter().any(|origin| *value == origin.as_str()))
}

/// Whether a request may change something, if it would.
fn may_act(request: &Request, listed: bool) -> Result<(), Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let headers = request.headers();
    if !listed && !is_own(headers) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "a page of another site may not operate walferry; use its own page or a client, or \
             list the site's origin in api.cors_origins",
        ));
    }
    if has_body(headers) && !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "the body must be JSON; send it with `content-type: application/json`",
        ));
    }
    Ok(())
}

/// Whether walferry's own page, or no page, sends this. Most browsers say how the sites relate; others
/// name the origin, which then must be the host of the request.
fn is_own(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (authority, host) {
        (Some((_, authority)), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The names that the settings give this server.
#[derive(Clone, Copy)]
struct KnownNames<'a> {
    origins: &'a [String],
    hosts: &'a [String],
}

/// Whether the host name is one that no other party's name server can give out.
fn addressed(known: KnownNames<'_>, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let names = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or("."));
    let mut names = names.chain(uri.authority().map(|authority| authority.as_str()));
    if names.all(|name| is_ours(known, name)) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "unknown_host",
        "walferry is not known by this name; ask by IP address or localhost, or list the name in \
         api.hosts",
    ))
}

fn is_ours(known: KnownNames<'_>, name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let url = Url::parse(&format!("http://{name}/")).ok();
    match url.as_ref().filter(|_| name.bytes().all(is_good)).and_then(Url::host) {
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Some(Host::Domain(domain)) => {
            let is_origin = |origin: &String| {
                Url::parse(origin).is_ok_and(|origin| origin.host_str() == Some(domain))
            };
            !domain.contains('.')
                || known.hosts.iter().any(|host| host.eq_ignore_ascii_case(domain))
                || known.origins.iter().any(is_origin)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;

    use super::*;

    fn request(method: Method, headers: &[(&str, &str)]) -> axum::extract::Request {
        let request = Request::builder().method(method).uri("/");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn a_page_of_another_site_does_not_act() {
        let origins = ["https://admin.example".to_owned()];
        let acts = |headers: &[(&str, &str)]| {
            let request = request(Method::POST, headers);
            let listed = listed(&origins, request.headers()).is_some();
            may_act(&request, listed).is_ok()
        };
        let host = ("host", "walferry:3002");
        let site = |word| ("sec-fetch-site", word);
        let origin = |text| ("origin", text);
        assert!(acts(&[host]), "a client");
        assert!(acts(&[host, site("same-origin"), origin("http://walferry:3002")]));
        assert!(acts(&[host, site("none")]));
        assert!(acts(&[host, origin("http://walferry:3002")]), "a browser of old");
        assert!(acts(&[host, origin("https://Walferry:3002")]), "TLS ends before us");
        assert!(acts(&[host, site("cross-site"), origin("https://admin.example")]));
        for other in [
            &[host, site("cross-site"), origin("https://evil.example")][..],
            &[host, site("same-site"), origin("http://walferry:3003")],
            &[host, site("cross-site")],
            &[host, site("cross-site"), origin("http://walferry:3002")],
            &[host, site("nonsense")],
            &[host, origin("http://walferry:3003")],
            &[host, origin("null")],
            &[origin("http://walferry:3002")],
            &[host, origin("https://admin.example.evil.example")],
            &[host, origin("https://ADMIN.example")],
            &[host, origin("http://admin.example")],
        ] {
            assert!(!acts(other), "{other:?}");
        }
        let read = request(Method::GET, &[host, site("cross-site")]);
        assert!(may_act(&read, false).is_ok(), "it can't read the answer");
    }

    #[test]
    fn a_body_is_json() {
        let acts =
            |headers: &[(&str, &str)]| may_act(&request(Method::POST, headers), false).is_ok();
        let some = ("content-length", "2");
        let none = ("content-length", "0");
        let kind = |text| ("content-type", text);
        assert!(acts(&[]) && acts(&[none]) && acts(&[none, kind("text/plain")]));
        assert!(acts(&[some, kind("application/json")]));
        assert!(acts(&[some, kind("Application/JSON; charset=utf-8")]));
        assert!(!acts(&[some]) && !acts(&[("transfer-encoding", "chunked")]));
        for text in
            ["text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"]
        {
            assert!(!acts(&[some, kind(text)]), "{text}");
        }
    }

    #[test]
    fn other_parties_cannot_name_this_address() {
        let origins = ["https://admin.example:8443".to_owned()];
        let hosts = ["walferry.example".to_owned()];
        let known = KnownNames { origins: &origins, hosts: &hosts };
        let check = |host: &str, expected| {
            let request = request(Method::GET, &[("host", host)]);
            let checked = addressed(known, request.headers(), request.uri());
            assert_eq!(checked.is_ok(), expected, "{host}");
        };
        for host in [
            "localhost",
            "localhost:3002",
            "127.0.0.1:3002",
            "[::1]:3002",
            "10.0.0.7",
            "walferry",
            "Walferry.example:443",
            "admin.example",
            "ADMIN.example:9",
        ] {
            check(host, true);
        }
        for host in [
            "evil.example",
            "evil.example:3002",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example",
            "localhost.",
            "a/b",
            "x@evil.example",
        ] {
            check(host, false);
        }
        let both = request(Method::GET, &[("host", "localhost"), ("host", "evil.example")]);
        assert!(addressed(known, both.headers(), both.uri()).is_err());
        let absolute = "http://evil.example/".parse().unwrap();
        assert!(addressed(known, request(Method::GET, &[]).headers(), &absolute).is_err());
    }
}
