//! A loopback proxy before a real Elasticsearch that shows what a real one cannot be made to show.
//!
//! Faults are scripted per path and used up one per request, or last until lifted; without one a
//! request is forwarded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This answer, and nothing is forwarded.
    Answer(u16, &'static str),
    /// The connection breaks when the request's head has been read.
    Reset,
    /// Elasticsearch does as it is asked; the answer never comes.
    LoseAnswer,
    /// Nothing comes until the client gives up.
    Hang,
    /// The request waits here until it is let go, and is forwarded then.
    Hold,
    /// These ids of a bulk are answered with this status and type, the others by Elasticsearch.
    Items(u16, &'static str, &'static [&'static str]),
}

/// See the module's documentation. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) url: String,
    stage: Arc<Stage>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Stage {
    upstream: String,
    http: reqwest::Client,
    script: Mutex<HashMap<&'static str, VecDeque<Fault>>>,
    /// What every request for a path meets, as long as it lasts.
    weather: Mutex<HashMap<&'static str, Fault>>,
    let_go: watch::Sender<bool>,
    /// Requests that were held and have been forwarded and answered.
    forwarded: watch::Sender<usize>,
    /// Bulks with a larger body are answered with 413.
    bulk_bytes_max: Mutex<usize>,
    /// Sizes of the bulks that came, in documents.
    bulks: Mutex<Vec<usize>>,
}

impl Faults {
    /// A proxy before the server at `upstream`.
    pub(crate) async fn before(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stage = Arc::new(Stage {
            upstream,
            http: reqwest::Client::new(),
            script: Mutex::default(),
            weather: Mutex::default(),
            let_go: watch::Sender::new(false),
            forwarded: watch::Sender::new(0),
            bulk_bytes_max: Mutex::new(usize::MAX),
            bulks: Mutex::default(),
        });
        let played = Arc::clone(&stage);
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(play(Arc::clone(&played), stream));
            }
        });
        Self { url: format!("http://{address}"), stage, listener }
    }

    /// What the next requests whose path begins with `path` meet.
    pub(crate) fn script(&self, path: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.stage
            .script
            .lock()
            .expect("no player panics with the script in hand")
            .entry(path)
            .or_default()
            .extend(faults);
    }

    /// Every request whose path begins with `path` meets this fault until the next call.
    pub(crate) fn always(&self, path: &'static str, fault: Option<Fault>) {
        let mut weather =
            self.stage.weather.lock().expect("no player panics with the weather in hand");
        match fault {
            Some(fault) => weather.insert(path, fault),
            None => weather.remove(path),
        };
    }

    /// Lets held requests go, and waits until Elasticsearch has answered the first.
    pub(crate) async fn let_go(&self) {
        let mut forwarded = self.stage.forwarded.subscribe();
        self.stage.let_go.send_replace(true);
        forwarded.wait_for(|count| *count > 0).await.expect("the stage lives");
    }

    /// Bulks with a larger body are answered with 413.
    pub(crate) fn limit(&self, bulk_bytes_max: usize) {
        *self.stage.bulk_bytes_max.lock().expect("no player panics with the script in hand") =
            bulk_bytes_max;
    }

    /// Faults not yet met.
    pub(crate) fn remaining(&self) -> usize {
        self.stage
            .script
            .lock()
            .expect("no player panics with the script in hand")
            .values()
            .map(VecDeque::len)
            .sum()
    }

    /// Sizes of the bulks that came, in documents.
    pub(crate) fn bulks(&self) -> Vec<usize> {
        self.stage.bulks.lock().expect("no player panics with the script in hand").clone()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Stage {
    fn fault(&self, path: &str) -> Option<Fault> {
        let mut script = self.script.lock().expect("no player panics with the script in hand");
        let scripted = script
            .iter_mut()
            .find(|(prefix, faults)| path.starts_with(**prefix) && !faults.is_empty());
        if let Some(fault) = scripted.and_then(|(_, faults)| faults.pop_front()) {
            return Some(fault);
        }
        let weather = self.weather.lock().expect("no player panics with the weather in hand");
        let lasting = weather.iter().find(|(prefix, _)| path.starts_with(**prefix));
        lasting.map(|(_, fault)| fault.clone())
    }

    async fn forward(&self, request: &Request, body: Vec<u8>) -> (u16, Vec<u8>) {
        let url = format!("{}{}", self.upstream, request.path);
        let mut forwarded = self.http.request(request.method.clone(), url).body(body);
        for (name, value) in &request.headers {
            forwarded = forwarded.header(name, value);
        }
        let answer = forwarded.send().await.expect("the real server answers");
        let status = answer.status().as_u16();
        (status, answer.bytes().await.expect("the real server answers").to_vec())
    }
}

struct Request {
    method: Method,
    path: String,
    /// Those that say what the body is.
    headers: Vec<(String, String)>,
    length: usize,
    /// What has been read of the body.
    body: Vec<u8>,
}

async fn play(stage: Arc<Stage>, mut stream: TcpStream) {
    let Some(mut request) = read_head(&mut stream).await else { return };
    let fault = stage.fault(&request.path);
    if matches!(fault, Some(Fault::Reset)) {
        return;
    }
    while request.body.len() < request.length {
        if stream.read_buf(&mut request.body).await.is_ok_and(|count| count > 0) {
            continue;
        }
        return;
    }
    let body = std::mem::take(&mut request.body);
    let bulk = request.path.starts_with("/_bulk");
    if bulk {
        let size = String::from_utf8_lossy(&body).matches("\"version_type\"").count();
        stage.bulks.lock().expect("no player panics with the script in hand").push(size);
    }
    let too_large = bulk
        && body.len()
            > *stage.bulk_bytes_max.lock().expect("no player panics with the script in hand");
    let (status, answer) = match fault {
        _ if too_large => (413, Vec::new()),
        Some(Fault::Answer(status, answer)) => (status, answer.into()),
        Some(Fault::LoseAnswer) => {
            stage.forward(&request, body).await;
            return;
        }
        Some(Fault::Hang) => {
            // Ends when the client closes.
            drop(stream.read(&mut [0]).await);
            return;
        }
        Some(Fault::Items(status, kind, ids)) => {
            reject_items(
                &stage,
                &request,
                &body,
                &json!({ "status": status, "error": { "type": kind, "reason": "scripted" } }),
                ids,
            )
            .await
        }
        Some(Fault::Hold) => {
            let mut let_go = stage.let_go.subscribe();
            let_go.wait_for(|go| *go).await.expect("the stage lives");
            let answer = stage.forward(&request, body).await;
            stage.forwarded.send_modify(|count| *count += 1);
            answer
        }
        Some(Fault::Reset) | None => stage.forward(&request, body).await,
    };
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        answer.len()
    );
    drop(stream.write_all(&[head.into_bytes(), answer].concat()).await);
}

async fn read_head(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let method = first.next()?.parse().ok()?;
    let path = first.next()?.to_owned();
    let fields: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = fields.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let telling =
        |name: &str| ["content-type", "content-encoding", "authorization"].contains(&name);
    let headers = fields.into_iter().filter(|(name, _)| telling(name)).collect();
    Some(Request { method, path, headers, length, body })
}

/// Forwards a bulk without some of its documents, and answers for those.
async fn reject_items(
    stage: &Stage,
    request: &Request,
    body: &[u8],
    rejection: &Value,
    ids: &[&str],
) -> (u16, Vec<u8>) {
    let mut forwarded = Vec::new();
    let mut items = Vec::new();
    let mut lines = body.split_inclusive(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        let action: Value = serde_json::from_slice(line).expect("an action line is JSON");
        let (kind, metadata) = action.as_object().and_then(|o| o.iter().next()).expect("one kind");
        let document = if kind == "index" { lines.next() } else { None };
        if metadata["_id"].as_str().is_some_and(|id| ids.contains(&id)) {
            items.push(Some(json!({ kind: rejection })));
        } else {
            items.push(None);
            forwarded.extend_from_slice(line);
            forwarded.extend_from_slice(document.unwrap_or_default());
        }
    }
    let mut answered = Vec::new();
    if !forwarded.is_empty() {
        let (_, answer) = stage.forward(request, forwarded).await;
        let mut answer: Value = serde_json::from_slice(&answer).expect("a bulk answer is JSON");
        answered = answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    }
    let mut answered = answered.into_iter();
    let items: Vec<_> =
        items.into_iter().map(|item| item.or_else(|| answered.next()).expect("as many")).collect();
    (200, json!({ "took": 1, "errors": true, "items": items }).to_string().into_bytes())
}
