//! Requests of every route, right and wrong ones, made from `/openapi.json`: each answer is one that
//! the description has, with its media type and all required members.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, Method, Response};
use serde_json::{Map, Value, json};

use crate::api::Server;
use crate::scene::{Scene, until};

const SOON: Duration = Duration::from_secs(60);
/// Requests under way at once.
const AT_ONCE: usize = 8;
const A_UUID: &str = "c0000000-0000-4000-8000-000000000001";

/// What a request must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// It is as the description says, so it is not refused as wrong.
    Good,
    /// It is not, so it is refused with this status.
    Refused(u16),
    /// Anything that the description has.
    Described,
}

/// A request.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    body: Option<(&'static str, String)>,
    expected: Expected,
}

/// A server with its description.
struct Walk {
    base: String,
    description: Value,
    /// Whether PostgreSQL and Elasticsearch answer.
    is_whole: bool,
    http: Client,
    clients: AtomicU32,
}

impl Walk {
    async fn new(base: String, is_whole: bool) -> Self {
        let http = Client::new();
        let answer = http.get(format!("{base}/openapi.json")).send().await;
        let description = answer.expect("an answer").json().await.expect("JSON");
        Self { base, description, is_whole, http, clients: AtomicU32::new(0) }
    }

    /// Makes all requests; returns what is wrong with the answers.
    async fn findings(&self) -> Vec<String> {
        let mut asked = Vec::new();
        for (path, methods) in members(&self.description["paths"]) {
            for (method, operation) in members(methods) {
                let method =
                    Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
                asked.extend(
                    requests(&self.description, &method, path, operation)
                        .into_iter()
                        .map(|asked| (operation, asked)),
                );
            }
        }
        let mut findings = Vec::new();
        for some in asked.chunks(AT_ONCE) {
            let found = some.iter().map(|(operation, asked)| self.finding(operation, asked));
            for ((_, asked), finding) in some.iter().zip(join_all(found).await) {
                let said: String = format!("{asked:?}").chars().take(300).collect();
                findings.extend(finding.map(|finding| format!("{finding}: {said}")));
            }
        }
        findings.sort();
        findings
    }

    async fn finding(&self, operation: &Value, asked: &Asked) -> Option<String> {
        let answer = self.send(asked).await;
        let status = answer.status().as_u16();
        if let Some(finding) = self.unexpected(asked, status) {
            return Some(finding);
        }
        let header = answer.headers().get("content-type")?.to_str().ok()?.to_owned();
        let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
        let media_type = essence(&header);
        let responses = &operation["responses"];
        let described = match &responses[status.to_string()] {
            Value::Null => &responses["default"],
            described => described,
        };
        let mut kinds = members(&described["content"]);
        let Some((_, content)) = kinds.find(|(kind, _)| essence(kind) == media_type) else {
            return Some(format!("{status} with {media_type}, which is not described"));
        };
        if media_type == "text/event-stream" || !media_type.ends_with("json") {
            return None;
        }
        if media_type.ends_with("ndjson") {
            return None;
        }
        let text = answer.text().await.expect("a body");
        let Ok(body) = serde_json::from_str::<Value>(&text) else {
            return Some(format!("{status} with a body that is no JSON: {text}"));
        };
        if media_type == "application/problem+json" && body["status"] != status {
            return Some(format!("{status} with a problem of another status: {body}"));
        }
        let fault = self.fault(&content["schema"], &body, "answer");
        fault.map(|fault| format!("{status} with {fault} in {body}"))
    }

    fn unexpected(&self, asked: &Asked, status: u16) -> Option<String> {
        let is_good = match asked.expected {
            // Another request may have stopped indexing.
            Expected::Good if asked.path.starts_with("/readyz") => [200, 503].contains(&status),
            // 404 and 409: there is no such job, or it is not failed.
            Expected::Good if self.is_whole => [200, 404, 409].contains(&status),
            Expected::Good => [200, 503].contains(&status),
            Expected::Refused(wanted) => wanted == status,
            Expected::Described => status < 500 || (status == 503 && !self.is_whole),
        };
        (!is_good).then(|| format!("{status} instead of {:?}", asked.expected))
    }

    /// Each request comes from another client behind a trusted proxy, so that no rate limit is met.
    async fn send(&self, asked: &Asked) -> Response {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let client = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
        let url = format!("{}{}", self.base, asked.path);
        let request = self.http.request(asked.method.clone(), url);
        let request = request.header("x-forwarded-for", client).timeout(SOON);
        let request = match &asked.body {
            Some((kind, body)) => request.header("content-type", *kind).body(body.clone()),
            None => request,
        };
        request.send().await.expect("every request has an answer")
    }

    /// What of a value is not as its schema says.
    fn fault(&self, schema: &Value, value: &Value, place: &str) -> Option<String> {
        let schema = resolved(&self.description, schema);
        if let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let faults: Option<Vec<String>> =
                choices.iter().map(|choice| self.fault(choice, value, place)).collect();
            return faults.map(|faults| faults.join(", and "));
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        if !types.is_empty() && !types.iter().any(|one| is_of(one.as_str().unwrap_or(""), value)) {
            return Some(format!("{place} is none of {types:?}"));
        }
        let known = schema["enum"].as_array();
        if known.is_some_and(|known| !value.is_null() && !known.contains(value)) {
            return Some(format!("{place} is none of {known:?}"));
        }
        if let Value::Array(items) = value {
            return items.iter().find_map(|one| {
                (!schema["items"].is_null())
                    .then(|| self.fault(&schema["items"], one, &format!("{place}[]")))
                    .flatten()
            });
        }
        let Value::Object(object) = value else { return None };
        let required = schema["required"].as_array().into_iter().flatten();
        let mut missing = required.filter(|name| !object.contains_key(name.as_str().unwrap_or("")));
        if let Some(name) = missing.next() {
            return Some(format!("{place} lacks {name}"));
        }
        object.iter().find_map(|(name, member)| {
            let described = match &schema["properties"][name] {
                Value::Null => &schema["additionalProperties"],
                described => described,
            };
            let place = format!("{place}.{name}");
            described.is_object().then(|| self.fault(described, member, &place)).flatten()
        })
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn resolved<'a>(description: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        Some(path) => description.pointer(path).expect("references resolve"),
        None => schema,
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Values that a schema allows.
fn right(schema: &Value) -> Vec<Value> {
    if let Some(words) = schema["enum"].as_array() {
        return words.clone();
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or_default();
    match (kind, schema["format"].as_str().unwrap_or_default()) {
        ("integer", _) => {
            let least = schema["minimum"].as_i64().unwrap_or(0);
            let most = schema["maximum"].as_i64().unwrap_or(least + 1);
            vec![json!(least), json!(most)]
        }
        ("boolean", _) => vec![json!(true), json!(false)],
        ("string", "uuid") => vec![json!(A_UUID), json!(A_UUID.to_uppercase())],
        ("string", "date-time") => [
            "2026-11-24T10:00:00Z",
            "2026-11-24T10:00:00.123456789+05:45",
            "1970-01-01T00:00:00-00:00",
            "9999-12-31T23:59:59Z",
        ]
        .map(Value::from)
        .to_vec(),
        // A condition is about a table, which is another member.
        ("string", "sql") => Vec::new(),
        ("string", _) => {
            let least = schema["minLength"].as_u64().unwrap_or(1);
            let most = schema["maxLength"].as_u64().unwrap_or(least);
            let text = |letter: &str, count| {
                Value::from(letter.repeat(usize::try_from(count).expect("a length")))
            };
            vec![text("a", least), text("ğ", most), json!("'; drop table x; --%_\\")]
        }
        // Texts mean something beside another member only.
        ("array", _) if schema["items"]["type"] == "string" => Vec::new(),
        ("array", _) => vec![json!([]), json!([1, 2])],
        // A filter, which its own members make wrong.
        _ => vec![json!({})],
    }
}

/// Values that a schema does not allow.
fn wrong(schema: &Value) -> Vec<Value> {
    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or_default();
    let format = schema["format"].as_str().unwrap_or_default();
    let mut values = match kind {
        "integer" => vec![json!("x"), json!("1.5"), json!("9".repeat(40)), json!("0x10")],
        "boolean" => vec![json!("maybe"), json!(1)],
        "string" if schema["enum"].is_array() => vec![json!("no such word"), json!("COMPLETED ")],
        "string" if format == "uuid" => {
            vec![json!("x"), json!("c0000000-0000-4000-8000-00000000000")]
        }
        "string" if format == "date-time" => {
            ["today", "2026-11-24", "2026-13-01T00:00:00Z", "99999999999999"]
                .map(Value::from)
                .to_vec()
        }
        "string" => vec![json!("a\0b")],
        "array" if schema["items"]["type"] == "string" => vec![json!([1]), json!(["a\0b"])],
        "array" => vec![json!(["x"]), json!(1)],
        _ => vec![json!([]), json!("x")],
    };
    for (bound, beyond) in [("minimum", -1), ("maximum", 1)] {
        values.extend(schema[bound].as_i64().map(|bound| json!(bound.saturating_add(beyond))));
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        values.push(json!("x".repeat(usize::try_from(most).expect("a length") + 1)));
    }
    values
}

/// All requests of one route.
fn requests(description: &Value, method: &Method, path: &str, operation: &Value) -> Vec<Asked> {
    let mut asked = Vec::new();
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of = |place: &str| {
        parameters.iter().filter(|one| one["in"] == place).cloned().collect::<Vec<_>>()
    };
    let (in_path, in_query) = (of("path"), of("query"));
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let schema = resolved(description, schema);
    let is_post = *method == Method::POST;
    let least = is_post.then(|| ("application/json", least_body(path).to_string()));
    let good =
        path.replace("{id}", "1").replace("{table}", "listings").replace("{record_id}", A_UUID);
    let mut add = |method: &Method, path: String, body, expected| {
        asked.push(Asked { method: method.clone(), path, body, expected });
    };
    add(method, good.clone(), least.clone(), Expected::Good);
    add(method, format!("{good}?_=1"), least.clone(), Expected::Good);
    // A read without parameters changes nothing, whatever a client adds.
    let refused = match is_post || !in_query.is_empty() {
        true => Expected::Refused(400),
        false => Expected::Good,
    };
    add(method, format!("{good}?nothing=1"), least.clone(), refused);
    for one in &in_path {
        let place = format!("{{{}}}", one["name"].as_str().expect("a name"));
        let others = |value: &str| {
            let path = path.replace(&place, value).replace("{id}", "1");
            path.replace("{table}", "listings").replace("{record_id}", A_UUID)
        };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for value in wrong(&one["schema"]).iter().map(text).filter(|value| !value.contains('\0')) {
            add(method, others(&value), least.clone(), Expected::Refused(400));
        }
        add(method, others("%ff"), least.clone(), Expected::Refused(400));
        for odd in ["%00", "%F0%9F%98%80", "..%2f..", "%", &"x".repeat(2000)] {
            add(method, others(odd), least.clone(), Expected::Described);
        }
    }
    for one in &in_query {
        let name = one["name"].as_str().expect("a name");
        let with = |value: &Value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let written: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            format!("{good}?{name}={written}")
        };
        right(&one["schema"]).iter().for_each(|v| add(method, with(v), None, Expected::Good));
        wrong(&one["schema"])
            .iter()
            .for_each(|v| add(method, with(v), None, Expected::Refused(400)));
        let value = with(&right(&one["schema"])[0]);
        add(method, format!("{value}&{name}=1"), None, Expected::Refused(400));
        add(method, format!("{good}?{name}=%ff"), None, Expected::Described);
        add(method, format!("{good}?{name}="), None, Expected::Good);
    }
    for other in [Method::PUT, Method::DELETE, Method::PATCH, Method::GET, Method::POST] {
        let handled = &description["paths"][path][other.as_str().to_lowercase()];
        if handled.is_null() {
            add(&other, good.clone(), None, Expected::Refused(405));
        }
    }
    if is_post {
        for (body, status) in bodies(description, schema, path) {
            add(method, good.clone(), Some(("application/json", body)), status);
        }
        for kind in ["text/plain", "application/xml", "application/x-www-form-urlencoded", "x"] {
            add(method, good.clone(), Some((kind, "{}".to_owned())), Expected::Refused(415));
        }
        let kind = "application/json; charset=utf-8";
        add(method, good, Some((kind, least_body(path).to_string())), Expected::Good);
    }
    asked
}

/// What a route must have: a discard has a reason.
fn least_body(path: &str) -> Value {
    if path.ends_with("/discard") { json!({ "reason": "a test" }) } else { json!({}) }
}

/// Bodies, and what they lead to.
fn bodies(description: &Value, schema: &Value, path: &str) -> Vec<(String, Expected)> {
    let refused = Expected::Refused(400);
    let mut bodies: Vec<(String, Expected)> =
        ["[]", "null", "1", "\"x\"", "{", "{\"a\":}", "\u{feff}{}", "{} {}"]
            .map(|text| (text.to_owned(), refused))
            .to_vec();
    bodies.push((format!("{{\"reason\":\"{}\"}}", "x".repeat(70_000)), Expected::Refused(413)));
    bodies.push((format!("{}{}", "{\"a\":".repeat(5000), "}".repeat(5000)), refused));
    let with = |name: &str, value: Value| {
        let mut body = least_body(path);
        body[name] = value;
        body
    };
    bodies.push((with("nothing", json!(1)).to_string(), refused));
    for (name, member) in members(&schema["properties"]) {
        let choice = &member["anyOf"][0];
        let member = resolved(description, if choice.is_object() { choice } else { member });
        for value in right(member) {
            // Only that many, or only these.
            let counts =
                name == "expected_count" || value.as_str().is_some_and(|v| v.contains("drop"));
            let expected = if counts { Expected::Described } else { Expected::Good };
            bodies.push((with(name, value).to_string(), expected));
        }
        for value in wrong(member) {
            bodies.push((with(name, value).to_string(), refused));
        }
        bodies.push((with(name, json!({ "nothing": 1 })).to_string(), refused));
        for (inner, schema) in members(&member["properties"]) {
            for value in right(schema) {
                bodies.push((
                    with(name, json!({ inner.as_str(): value })).to_string(),
                    Expected::Good,
                ));
            }
            for value in wrong(schema) {
                bodies.push((with(name, json!({ inner.as_str(): value })).to_string(), refused));
            }
        }
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_it_is_described() {
    let scene = Scene::unwitnessed("api_schema").await;
    let launch = scene.bed.walferry(&["run"]).env("WALFERRY_API_TRUSTED_PROXIES", "127.0.0.1");
    let mut walferry = launch.env("WALFERRY_API_AUDIT_READS", "true").spawn();
    walferry.wait_ready(SOON).await;
    let rows = "insert into categories (id, name, slug)
        values ('b0000000-0000-4000-8000-000000000001', 'Cars', 'cars');
        insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, status)
        select 'listings', 'UPDATE', gen_random_uuid(), '{}', 'failed' from generate_series(1, 3)";
    scene.sql(rows).await;
    let done = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(SOON, "a job is completed", async || scene.number(done).await > 0).await;
    let findings = Walk::new(walferry.url(""), true).await.findings().await;
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_it_is_described_without_postgresql() {
    let server = Server::start_with(&[("WALFERRY_API_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let base = format!("http://{}", server.address);
    let findings = Walk::new(base, false).await.findings().await;
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    server.stop().await;
}
