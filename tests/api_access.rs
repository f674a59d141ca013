//! Who may do what over HTTP, and what never gets as far as a route.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use walferry::api::auth::token;
use walferry::api::routes::routes;
use walferry::api::server::route::{Access, Method as RouteMethod, QUEUE_PREFIXES};
use walferry::config::Role;

use crate::api::{Server, token_entry};

const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";
const ISSUER: &str = "https://auth.example";
const ORIGIN: &str = "https://admin.example.com";

/// A server with authentication, and a token and a JWT for each role.
struct Guarded {
    server: Server,
    http: Client,
    tokens: [String; 3],
    expired: String,
}

/// A credential.
#[derive(Clone, Debug)]
enum Shown {
    Nothing,
    Good(Role, String),
    Wrong(String, &'static str),
}

impl Guarded {
    async fn start() -> Self {
        let tokens = Role::ALL.map(|_| token::generate().unwrap());
        let expired = token::generate().unwrap();
        let entries = Role::ALL
            .iter()
            .zip(&tokens)
            .map(|(role, text)| token_entry(&format!("{}-name", role.as_str()), *role, text));
        let old = format!("{}:2020-01-01", token_entry("old", Role::Admin, &expired));
        let entries: Vec<String> = entries.chain([old]).collect();
        let server = Server::start_with(&[
            ("WALFERRY_API_TOKENS", &entries.join("\n")),
            ("WALFERRY_API_JWT_SECRET", SECRET),
            ("WALFERRY_API_JWT_ISSUER", ISSUER),
            ("WALFERRY_API_CORS_ORIGINS", ORIGIN),
            ("WALFERRY_API_ENVIRONMENT", "staging"),
            ("WALFERRY_API_HOSTS", "walferry.example.org"),
        ])
        .await;
        Self { server, http: Client::new(), tokens, expired }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.server.address))
    }

    fn token(&self, role: Role) -> &str {
        let place = Role::ALL.iter().position(|one| *one == role).unwrap();
        &self.tokens[place]
    }

    fn kinds(&self) -> Vec<Shown> {
        let mut kinds = vec![
            Shown::Nothing,
            Shown::Wrong(token::generate().unwrap(), "token_unknown"),
            Shown::Wrong(self.expired.clone(), "token_expired"),
            Shown::Wrong(jwt(&json!({ "exp": 1 })), "token_expired"),
            Shown::Wrong(jwt(&json!({ "iss": "https://evil.example" })), "token_foreign"),
            Shown::Wrong(jwt(&json!({ "app_metadata": {} })), "role_missing"),
            Shown::Wrong("a.b.c".to_owned(), "token_malformed"),
        ];
        for role in Role::ALL {
            kinds.push(Shown::Good(role, self.token(role).to_owned()));
            let named = json!({ "app_metadata": { "walferry_role": role.as_str() } });
            kinds.push(Shown::Good(role, jwt(&named)));
        }
        kinds
    }
}

/// A JWT of an admin, but for these claims.
fn jwt(changes: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": ISSUER, "aud": "authenticated", "sub": "s-1", "exp": now + 600,
        "app_metadata": { "walferry_role": "admin" },
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let base64 = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let text = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Every route under each of its paths, and the role it needs.
fn all_routes() -> Vec<(Method, String, Option<Role>)> {
    let mut all = Vec::new();
    for route in routes() {
        let prefixes = route.place.prefixes();
        let method = match route.method {
            RouteMethod::Get => Method::GET,
            RouteMethod::Post => Method::POST,
        };
        let needed = match route.access {
            Access::Public => None,
            access => Some(Role::from_word(access.as_str()).unwrap()),
        };
        let path = route.path.replace("{id}", "1").replace("{table}", "listings");
        let path = path.replace("{record_id}", "c0000000-0000-4000-8000-000000000001");
        for prefix in prefixes {
            all.push((method.clone(), format!("{prefix}{path}"), needed));
        }
    }
    all
}

/// Status, headers and body.
async fn answer(request: RequestBuilder) -> (StatusCode, HeaderMap, Value) {
    let response = request.timeout(Duration::from_secs(20)).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    if headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return (status, headers, Value::Null);
    }
    let text = response.text().await.unwrap();
    (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn every_route_asks_for_its_role() {
    let guarded = Guarded::start().await;
    for (number, (method, path, needed)) in all_routes().into_iter().enumerate() {
        // From an address of its own: wrong tokens count against the one that they come from.
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(number).unwrap());
        let http = Client::builder().local_address(IpAddr::from(from)).build().unwrap();
        for shown in guarded.kinds() {
            let url = format!("http://{}{path}", guarded.server.address);
            let request = http.request(method.clone(), url);
            let request = match &shown {
                Shown::Nothing => request,
                Shown::Good(_, token) | Shown::Wrong(token, _) => request.bearer_auth(token),
            };
            let (status, headers, body) = answer(request).await;
            let case = format!("{method} {path} {shown:?}: {status} {body}");
            let is_probe = path == "/livez" || path == "/readyz";
            match (needed, &shown) {
                (_, Shown::Wrong(..)) if is_probe => assert!(!is_denied(status), "{case}"),
                (_, Shown::Wrong(_, code)) => {
                    assert_eq!(
                        (status.as_u16(), body["code"].as_str()),
                        (401, Some(*code)),
                        "{case}"
                    );
                    assert_eq!(headers["www-authenticate"], "Bearer error=\"invalid_token\"");
                }
                (None, _) => assert!(!is_denied(status), "{case}"),
                (Some(_), Shown::Nothing) => {
                    assert_eq!(
                        (status.as_u16(), body["code"].as_str()),
                        (401, Some("not_authenticated")),
                        "{case}"
                    );
                    assert_eq!(headers["www-authenticate"], "Bearer", "{case}");
                }
                (Some(needed), Shown::Good(role, _)) if *role < needed => {
                    assert_eq!(
                        (status.as_u16(), body["code"].as_str()),
                        (403, Some("not_permitted")),
                        "{case}"
                    );
                    assert!(body["detail"].as_str().unwrap().contains(needed.as_str()), "{case}");
                }
                (Some(_), Shown::Good(..)) => assert!(!is_denied(status), "{case}"),
            }
        }
    }
    guarded.server.stop().await;
}

fn is_denied(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 421 | 429)
}

#[tokio::test]
async fn the_session_says_who_somebody_is() {
    let guarded = Guarded::start().await;
    let ask = async |token: Option<&str>| {
        let request = guarded.request(Method::GET, "/api/v1/session");
        let request = token.into_iter().fold(request, RequestBuilder::bearer_auth);
        answer(request).await.2
    };
    let nobody = ask(None).await;
    assert_eq!(nobody["authentication"], "required");
    assert_eq!(nobody["identity"], Value::Null);
    assert_eq!((&nobody["slot"], &nobody["environment"]), (&json!("walferry"), &json!("staging")));
    let operator = ask(Some(guarded.token(Role::Operator))).await;
    let expected = json!({ "name": "operator-name", "role": "operator", "expires_at": null });
    assert_eq!(operator["identity"], expected);
    let user = ask(Some(&jwt(&json!({ "exp": 4_102_444_800_u64 })))).await;
    let expected =
        json!({ "name": "s-1", "role": "admin", "expires_at": "2100-01-01T00:00:00.000Z" });
    assert_eq!(user["identity"], expected);
    guarded.server.stop().await;

    let open = Server::start_with(&[]).await;
    let response = reqwest::get(format!("http://{}/api/v1/session", open.address)).await.unwrap();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["authentication"], "none");
    let expected = json!({ "name": "anonymous", "role": "admin", "expires_at": null });
    assert_eq!((&body["identity"], &body["environment"]), (&expected, &Value::Null));
    open.stop().await;
}

#[tokio::test]
async fn who_guesses_is_slowed_and_locks_nobody_out() {
    let guarded = Guarded::start().await;
    let stats = format!("{}/stats", QUEUE_PREFIXES[0]);
    let guess = async || {
        let token = token::generate().unwrap();
        answer(guarded.request(Method::GET, &stats).bearer_auth(token)).await
    };
    for _ in 0..20 {
        assert_eq!(guess().await.0, 401);
    }
    let (status, headers, body) = guess().await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (429, Some("too_many_requests")));
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=7).contains(&wait), "{wait}");
    let good = guarded.request(Method::GET, "/metrics").bearer_auth(guarded.token(Role::Viewer));
    let (status, _, metrics) = answer(good).await;
    assert_eq!(status, 200);
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("walferry_http_auth_failures_total{reason=\"token_unknown\"} 21"));
    assert!(metrics.contains("walferry_http_rate_limited_total 1"));
    guarded.server.stop().await;
}

#[tokio::test]
async fn actions_have_a_rate_of_their_own() {
    let guarded = Guarded::start().await;
    // Too low a role, so that nothing is done: it counts all the same.
    let act = async || {
        let path = format!("{}/clear", QUEUE_PREFIXES[1]);
        answer(guarded.request(Method::POST, &path).bearer_auth(guarded.token(Role::Viewer)))
            .await
            .0
    };
    let mut answers = Vec::new();
    for _ in 0..400 {
        answers.push(act().await.as_u16());
    }
    assert!(answers.iter().take(60).all(|status| *status == 403), "{answers:?}");
    assert!(answers.contains(&429), "{answers:?}");
    assert_eq!(answer(guarded.request(Method::GET, "/livez")).await.0, 200);
    guarded.server.stop().await;
}

#[tokio::test]
async fn pages_of_listed_origins_alone_may_use_it() {
    let guarded = Guarded::start().await;
    let stop = format!("{}/stop", QUEUE_PREFIXES[0]);
    let preflight = async |origin: &str| {
        let request = guarded
            .request(Method::OPTIONS, &stop)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        answer(request).await
    };
    let (status, headers, _) = preflight(ORIGIN).await;
    assert_eq!(status, 204);
    assert_eq!(headers["access-control-allow-origin"], ORIGIN);
    assert_eq!(headers["vary"], "origin");
    assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert!(!headers.contains_key("access-control-allow-credentials"));
    for other in [
        "https://evil.example",
        "null",
        "https://admin.example.com.evil.example",
        "http://admin.example.com",
    ] {
        let (status, headers, _) = preflight(other).await;
        assert_eq!(status, 405, "{other}");
        assert!(!headers.contains_key("access-control-allow-origin"), "{other}");
        assert_eq!(headers["vary"], "origin");
    }
    let post = async |origin: &str, site: &str| {
        let request =
            guarded.request(Method::POST, &stop).bearer_auth(guarded.token(Role::Operator));
        answer(request.header("origin", origin).header("sec-fetch-site", site)).await
    };
    let (status, headers, body) = post("https://evil.example", "cross-site").await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (403, Some("cross_site")));
    assert!(!headers.contains_key("access-control-allow-origin"));
    let (status, headers, _) = post(ORIGIN, "cross-site").await;
    assert_eq!(status, 503, "it gets as far as the database, which is not there");
    assert_eq!(headers["access-control-allow-origin"], ORIGIN);
    let (status, ..) = post("http://127.0.0.1", "same-origin").await;
    assert_eq!(status, 503);
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_body_must_be_json() {
    let guarded = Guarded::start().await;
    let path = format!("{}/stop", QUEUE_PREFIXES[0]);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let request = guarded.request(Method::POST, &path).bearer_auth(guarded.token(Role::Admin));
        let (status, _, body) = answer(request.header("content-type", kind).body("{}")).await;
        assert_eq!((status.as_u16(), body["code"].as_str()), (415, Some("not_json")), "{kind}");
    }
    guarded.server.stop().await;
}

/// Status line of an answer to a request written by hand.
async fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_stranger_s_name_for_this_address_is_refused() {
    let ask =
        |host: &str| format!("GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let open = Server::start_with(&[("WALFERRY_API_CORS_ORIGINS", ORIGIN)]).await;
    for host in ["localhost:3002", "127.0.0.1", "[::1]:3002", "walferry", "admin.example.com"] {
        assert_eq!(raw(&open, &ask(host)).await, "HTTP/1.1 200 OK", "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:3002", "localhost.evil.example"] {
        let line = raw(&open, &ask(host)).await;
        assert_eq!(line, "HTTP/1.1 421 Misdirected Request", "{host}");
    }
    open.stop().await;
    let guarded = Guarded::start().await;
    let line = raw(&guarded.server, &ask("walferry.example")).await;
    assert_eq!(line, "HTTP/1.1 421 Misdirected Request", "although it asks who they are");
    assert_eq!(raw(&guarded.server, &ask("walferry.example.org")).await, "HTTP/1.1 200 OK");
    guarded.server.stop().await;
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_it_apart() {
    let guarded = Guarded::start().await;
    for (path, status) in [("/livez", 200), ("/nothing", 404), ("/metrics", 401)] {
        let (found, headers, _) = answer(guarded.request(Method::GET, path)).await;
        assert_eq!(found, status);
        for (name, part) in [
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'self'"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("permissions-policy", "camera=()"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            assert!(value.contains(part), "{path} {name}: {value}");
        }
        assert!(!headers.contains_key("access-control-allow-origin"));
        assert!(!headers.contains_key("strict-transport-security"));
    }
    guarded.server.stop().await;
}
