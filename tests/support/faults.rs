//! A loopback proxy for Elasticsearch that injects faults.
//!
//! A fault applies to the requests with a path prefix: either to one request each, in order, or to
//! all requests until it is removed. Other requests are forwarded.
//!
//! Not here: the servers (`servers`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A fault of one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The request is not forwarded; this status and body are returned.
    Answer(u16, &'static str),
    /// The connection is closed after the head of the request.
    Reset,
    /// The request is forwarded, and its response is discarded.
    LoseAnswer,
    /// The request is not forwarded and not answered.
    Hang,
    /// The request is forwarded after [`Faults::release`].
    Hold,
    /// The documents with these ids are answered with this status and error type. The others are
    /// forwarded.
    Items(u16, &'static str, &'static [&'static str]),
    /// A request whose body contains this text is not forwarded; this status and body are returned.
    Censor(u16, &'static str, &'static str),
}

/// The proxy. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) url: String,
    proxy: Arc<FaultProxy>,
    listener: JoinHandle<()>,
}

/// The state that all connections share.
#[derive(Debug)]
struct FaultProxy {
    upstream: String,
    http: reqwest::Client,
    script: Mutex<HashMap<&'static str, VecDeque<Fault>>>,
    /// The faults of all requests with a path prefix.
    lasting: Mutex<HashMap<&'static str, Fault>>,
    released: watch::Sender<bool>,
    /// The number of held requests that were forwarded and answered.
    forwarded: watch::Sender<usize>,
    /// The size in bytes beyond which a bulk request is answered with 413.
    bulk_bytes_max: Mutex<usize>,
    /// The numbers of documents of the received bulk requests.
    bulks: Mutex<Vec<usize>>,
}

impl Faults {
    /// Starts a proxy for the server at `upstream`.
    pub(crate) async fn before(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let proxy = Arc::new(FaultProxy {
            upstream,
            http: reqwest::Client::new(),
            script: Mutex::default(),
            lasting: Mutex::default(),
            released: watch::Sender::new(false),
            forwarded: watch::Sender::new(0),
            bulk_bytes_max: Mutex::new(usize::MAX),
            bulks: Mutex::default(),
        });
        let shared = Arc::clone(&proxy);
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&shared), stream));
            }
        });
        Self { url: format!("http://{address}"), proxy, listener }
    }

    /// Adds faults for the next requests with this path prefix, one for each.
    pub(crate) fn script(&self, path: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.proxy
            .script
            .lock()
            .expect("no holder of the lock panics")
            .entry(path)
            .or_default()
            .extend(faults);
    }

    /// Sets or removes the fault of all requests with this path prefix.
    pub(crate) fn always(&self, path: &'static str, fault: Option<Fault>) {
        let mut lasting = self.proxy.lasting.lock().expect("no holder of the lock panics");
        match fault {
            Some(fault) => lasting.insert(path, fault),
            None => lasting.remove(path),
        };
    }

    /// Forwards the held requests, and waits until Elasticsearch has answered one of them.
    pub(crate) async fn release(&self) {
        let mut forwarded = self.proxy.forwarded.subscribe();
        self.proxy.released.send_replace(true);
        forwarded.wait_for(|count| *count > 0).await.expect("the proxy is alive");
    }

    /// Sets the size in bytes beyond which a bulk request is answered with 413.
    pub(crate) fn limit(&self, bulk_bytes_max: usize) {
        *self.proxy.bulk_bytes_max.lock().expect("no holder of the lock panics") = bulk_bytes_max;
    }

    /// The number of faults that are not used up.
    pub(crate) fn remaining(&self) -> usize {
        self.proxy
            .script
            .lock()
            .expect("no holder of the lock panics")
            .values()
            .map(VecDeque::len)
            .sum()
    }

    /// The numbers of documents of the received bulk requests.
    pub(crate) fn bulks(&self) -> Vec<usize> {
        self.proxy.bulks.lock().expect("no holder of the lock panics").clone()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl FaultProxy {
    fn fault(&self, path: &str) -> Option<Fault> {
        let mut script = self.script.lock().expect("no holder of the lock panics");
        let scripted = script
            .iter_mut()
            .find(|(prefix, faults)| path.starts_with(**prefix) && !faults.is_empty());
        if let Some(fault) = scripted.and_then(|(_, faults)| faults.pop_front()) {
            return Some(fault);
        }
        let lasting = self.lasting.lock().expect("no holder of the lock panics");
        let found = lasting.iter().find(|(prefix, _)| path.starts_with(**prefix));
        found.map(|(_, fault)| fault.clone())
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
    /// The headers that describe the body.
    headers: Vec<(String, String)>,
    length: usize,
    /// The part of the body that was read with the head.
    body: Vec<u8>,
}

async fn serve(proxy: Arc<FaultProxy>, mut stream: TcpStream) {
    let Some(mut request) = read_head(&mut stream).await else { return };
    let fault = proxy.fault(&request.path);
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
        proxy.bulks.lock().expect("no holder of the lock panics").push(size);
    }
    let too_large =
        bulk && body.len() > *proxy.bulk_bytes_max.lock().expect("no holder of the lock panics");
    let (status, answer) = match fault {
        _ if too_large => (413, Vec::new()),
        Some(Fault::Answer(status, answer)) => (status, answer.into()),
        Some(Fault::LoseAnswer) => {
            proxy.forward(&request, body).await;
            return;
        }
        Some(Fault::Hang) => {
            // The read ends when the client closes the connection.
            drop(stream.read(&mut [0]).await);
            return;
        }
        Some(Fault::Items(status, kind, ids)) => {
            reject_items(
                &proxy,
                &request,
                &body,
                &json!({ "status": status, "error": { "type": kind, "reason": "scripted" } }),
                ids,
            )
            .await
        }
        Some(Fault::Censor(status, answer, text))
            if String::from_utf8_lossy(&body).contains(text) =>
        {
            (status, answer.into())
        }
        Some(Fault::Hold) => {
            let mut released = proxy.released.subscribe();
            released.wait_for(|go| *go).await.expect("the proxy is alive");
            let answer = proxy.forward(&request, body).await;
            proxy.forwarded.send_modify(|count| *count += 1);
            answer
        }
        Some(Fault::Reset | Fault::Censor(..)) | None => proxy.forward(&request, body).await,
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

/// Forwards a bulk request without some of its documents, and adds their answers.
async fn reject_items(
    proxy: &FaultProxy,
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
        let (_, answer) = proxy.forward(request, forwarded).await;
        let mut answer: Value = serde_json::from_slice(&answer).expect("a bulk answer is JSON");
        answered = answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    }
    let mut answered = answered.into_iter();
    let items: Vec<_> =
        items.into_iter().map(|item| item.or_else(|| answered.next()).expect("as many")).collect();
    (200, json!({ "took": 1, "errors": true, "items": items }).to_string().into_bytes())
}
