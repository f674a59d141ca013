//! An Elasticsearch node of the test's own making, and a client that sees it as a reader would.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::launcher::{free_port, new_directory, note, signal, stack, stack_blocking, text};

/// Lines of its log that a failed test shows.
const STATE_LINES: usize = 40;
/// How long a node that does not answer has for the dump of its threads.
const DUMP_POLLS_MAX: u32 = 50;
const DUMP_POLL_INTERVAL: Duration = Duration::from_millis(100);
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// One node on a loopback port. Ends when dropped.
#[derive(Debug)]
pub(crate) struct ElasticsearchNode {
    /// The HTTP port on 127.0.0.1; it stays the same over restarts.
    pub(crate) port: u16,
    directory: PathBuf,
    settings: Vec<String>,
}

impl ElasticsearchNode {
    /// Starts a node. `settings` are those of elasticsearch.yml: `("http.max_content_length", "1mb")`.
    ///
    /// # Errors
    /// What the node said when it did not start.
    pub(crate) fn start_blocking(settings: &[(&str, &str)]) -> Result<Self, String> {
        let node = Self {
            port: free_port(),
            directory: new_directory("elasticsearch"),
            settings: settings.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        };
        let arguments = node.start_arguments();
        stack_blocking(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(node)
    }

    /// A node for one test alone, which may stop and kill it.
    pub(crate) async fn private(settings: &'static [(&'static str, &'static str)]) -> Self {
        tokio::task::spawn_blocking(|| Self::start_blocking(settings))
            .await
            .expect("starting a node does not panic")
            .expect("Elasticsearch starts")
    }

    /// Starts the node again after [`ElasticsearchNode::stop`] or [`ElasticsearchNode::kill9`].
    pub(crate) async fn start(&self) {
        stack(self.start_arguments()).await.expect("Elasticsearch starts");
    }

    /// Stops the node and waits for its end.
    pub(crate) async fn stop(&self) {
        stack(vec!["es-stop".into(), text(&self.directory)]).await.expect("Elasticsearch stops");
    }

    /// Kills the node and waits for its end.
    pub(crate) async fn kill9(&self) {
        signal(self.pid(), "KILL");
        self.stop().await;
    }

    /// Halts the node without ending its connections; [`ElasticsearchNode::sigcont`] ends it.
    pub(crate) fn sigstop(&self) {
        signal(self.pid(), "STOP");
    }

    /// Lets a halted node go on.
    pub(crate) fn sigcont(&self) {
        signal(self.pid(), "CONT");
    }

    /// `ELASTICSEARCH_URL` of the node.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client for this runtime.
    pub(crate) fn client(&self) -> Elasticsearch {
        Elasticsearch { url: self.url(), http: reqwest::Client::new() }
    }

    /// The node's process id.
    pub(crate) fn pid(&self) -> u32 {
        let file =
            std::fs::read_to_string(self.directory.join("pid")).expect("the node was started");
        file.trim().parse().expect("a pid is a number")
    }

    /// The data directory.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn start_arguments(&self) -> Vec<String> {
        let mut arguments =
            vec!["es-start".to_owned(), text(&self.directory), self.port.to_string()];
        arguments.extend(self.settings.iter().cloned());
        arguments
    }
}

impl ElasticsearchNode {
    /// The last lines of its log, after a dump of its threads if it does not answer.
    fn state(&self) -> String {
        let log = self.directory.join("out.log");
        let read =
            || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
        if !self.answers() {
            signal(self.pid(), "QUIT");
            // The dump is written by the process itself: there is no signal of its end.
            for _ in 0..DUMP_POLLS_MAX {
                if read().contains("Full thread dump") {
                    break;
                }
                std::thread::sleep(DUMP_POLL_INTERVAL);
            }
        }
        let text = read();
        // Of a dump: each thread's name and state, and what it runs.
        let said = text.lines().filter(|line| !line.starts_with("\tat ") && !line.is_empty());
        let mut last: Vec<&str> = said.rev().take(STATE_LINES).collect();
        last.reverse();
        last.join("\n")
    }

    /// Whether it answers within two seconds.
    fn answers(&self) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWER_MAX) else {
            return false;
        };
        let request = b"GET /_cat/health HTTP/1.0\r\n\r\n";
        let mut first = [0];
        stream.set_read_timeout(Some(ANSWER_MAX)).is_ok()
            && stream.write_all(request).is_ok()
            && stream.read_exact(&mut first).is_ok()
    }
}

impl Drop for ElasticsearchNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            note(&format!("--- Elasticsearch ---\n{}\n---", self.state()));
        }
        signal(self.pid(), "KILL");
        if let Err(error) = stack_blocking(&["es-stop", &text(&self.directory)]) {
            note(&error);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            note(&format!("{} stays: {error}", self.directory.display()));
        }
    }
}

/// A client. Index names are whole names: put the bed's prefix before them.
#[derive(Clone, Debug)]
pub(crate) struct Elasticsearch {
    url: String,
    http: reqwest::Client,
}

impl Elasticsearch {
    /// Sends a request; `path` begins with `/`. Returns the status and the body.
    ///
    /// # Errors
    /// The node cannot be reached.
    pub(crate) async fn try_request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, value))
    }

    /// Sends a request that must succeed.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        match self.try_request(method.clone(), path, body).await {
            Ok((status, answer)) if status < 300 => answer,
            Ok((status, answer)) => panic!("{method} {path}: {status} {answer}"),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// The source of a document by its id, which needs no refresh; `None` if the document or the
    /// index does not exist.
    pub(crate) async fn document(&self, index: &str, id: &str) -> Option<Value> {
        let id = urlencoded(id);
        let path = format!("/{index}/_doc/{id}");
        let (status, mut answer) =
            self.try_request(Method::GET, &path, None).await.expect("Elasticsearch answers");
        match status {
            200 => Some(answer["_source"].take()),
            404 => None,
            _ => panic!("GET {path}: {status} {answer}"),
        }
    }

    /// The external version of a document; `None` if it does not exist.
    pub(crate) async fn version(&self, index: &str, id: &str) -> Option<i64> {
        let path = format!("/{index}/_doc/{}", urlencoded(id));
        let (status, answer) =
            self.try_request(Method::GET, &path, None).await.expect("Elasticsearch answers");
        if status == 200 { answer["_version"].as_i64() } else { None }
    }

    /// All documents of an index or alias by id, after a refresh; none if the index does not exist.
    pub(crate) async fn all_documents(&self, index: &str) -> BTreeMap<String, Value> {
        self.try_all_documents(index).await.expect("Elasticsearch answers")
    }

    /// As [`Elasticsearch::all_documents`], for a node that may be down.
    ///
    /// # Errors
    /// The first response with an error.
    pub(crate) async fn try_all_documents(
        &self,
        index: &str,
    ) -> Result<BTreeMap<String, Value>, String> {
        let mut documents = BTreeMap::new();
        let (status, answer) =
            self.try_request(Method::POST, &format!("/{index}/_refresh"), None).await?;
        match status {
            200 => {}
            404 => return Ok(documents),
            _ => return Err(format!("refresh of {index}: {status} {answer}")),
        }
        let pit =
            self.expect_ok(Method::POST, &format!("/{index}/_pit?keep_alive=1m"), None).await?;
        let mut query = json!({"size": 5000, "pit": {"id": pit["id"], "keep_alive": "1m"},
            "sort": ["_shard_doc"], "track_total_hits": false});
        loop {
            let mut page = self.expect_ok(Method::POST, "/_search", Some(&query)).await?;
            let Value::Array(hits) = page["hits"]["hits"].take() else {
                return Err(format!("a search of {index} had no hits"));
            };
            let Some(last) = hits.last() else { break };
            query["search_after"] = last["sort"].clone();
            for mut hit in hits {
                let id = hit["_id"].as_str().unwrap_or_default().to_owned();
                let source = hit["_source"].take();
                if documents.insert(id.clone(), source).is_some() {
                    return Err(format!("{index} has document {id} twice"));
                }
            }
        }
        self.expect_ok(Method::DELETE, "/_pit", Some(&json!({"id": pit["id"]}))).await?;
        Ok(documents)
    }

    /// The sources of the hits of a search, in its order, without a refresh.
    pub(crate) async fn search(&self, index: &str, query: &Value) -> Vec<Value> {
        let mut answer =
            self.request(Method::POST, &format!("/{index}/_search"), Some(query)).await;
        let Value::Array(hits) = answer["hits"]["hits"].take() else {
            panic!("a search of {index} had no hits: {answer}");
        };
        hits.into_iter().map(|mut hit| hit["_source"].take()).collect()
    }

    /// The number of documents after a refresh; 0 if the index does not exist.
    pub(crate) async fn count(&self, index: &str) -> u64 {
        let path = format!("/{index}/_refresh");
        drop(self.try_request(Method::POST, &path, None).await.expect("Elasticsearch answers"));
        let path = format!("/{index}/_count");
        let (_, answer) =
            self.try_request(Method::GET, &path, None).await.expect("Elasticsearch answers");
        answer["count"].as_u64().unwrap_or(0)
    }

    /// The names of the concrete indices with this prefix.
    pub(crate) async fn indices(&self, prefix: &str) -> Vec<String> {
        self.try_indices(prefix).await.expect("Elasticsearch answers")
    }

    /// The aliases of the indices with this prefix, by the name of the index.
    pub(crate) async fn aliases(&self, prefix: &str) -> Value {
        self.request(Method::GET, &format!("/{prefix}*/_alias"), None).await
    }

    /// The mapping of a concrete index.
    pub(crate) async fn mapping(&self, index: &str) -> Value {
        let answer = self.request(Method::GET, &format!("/{index}/_mapping"), None).await;
        let first = answer.as_object().and_then(|indices| indices.values().next().cloned());
        first.expect("an index that exists has a mapping")["mappings"].clone()
    }

    /// The settings of a concrete index by their full names, such as `index.gc_deletes`.
    pub(crate) async fn index_settings(&self, index: &str) -> Value {
        let path = format!("/{index}/_settings?flat_settings=true");
        let answer = self.request(Method::GET, &path, None).await;
        let first = answer.as_object().and_then(|indices| indices.values().next().cloned());
        first.expect("an index that exists has settings")["settings"].clone()
    }

    /// Updates settings of an index, such as `json!({"index.blocks.write": true})`.
    pub(crate) async fn put_index_settings(&self, index: &str, settings: &Value) {
        self.request(Method::PUT, &format!("/{index}/_settings"), Some(settings)).await;
    }

    /// Updates persistent settings of the cluster; `null` resets a setting. On the shared node, the
    /// settings affect other tests.
    pub(crate) async fn put_cluster_settings(&self, settings: &Value) {
        let body = json!({"persistent": settings});
        self.request(Method::PUT, "/_cluster/settings", Some(&body)).await;
    }

    /// Deletes a concrete index, if it exists.
    pub(crate) async fn delete_index(&self, index: &str) {
        let path = format!("/{index}?ignore_unavailable=true");
        self.request(Method::DELETE, &path, None).await;
    }

    /// Deletes all indices with this prefix and their aliases.
    ///
    /// # Errors
    /// The node cannot be reached or returns an error.
    pub(crate) async fn delete_all(&self, prefix: &str) -> Result<(), String> {
        let names = self.try_indices(prefix).await?;
        if names.is_empty() {
            return Ok(());
        }
        let path = format!("/{}?ignore_unavailable=true", names.join(","));
        self.expect_ok(Method::DELETE, &path, None).await.map(drop)
    }

    async fn try_indices(&self, prefix: &str) -> Result<Vec<String>, String> {
        let path = format!("/{prefix}*/_alias?expand_wildcards=all");
        let answer = self.expect_ok(Method::GET, &path, None).await?;
        Ok(answer.as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default())
    }

    async fn expect_ok(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        match self.try_request(method.clone(), path, body).await? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => Err(format!("{method} {path}: {status} {answer}")),
        }
    }
}

/// A document id as a path segment.
fn urlencoded(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20")
}
