//! Whether Elasticsearch can be used, by a request made now.
//!
//! However many clients ask, Elasticsearch gets two requests a second at most.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Number;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::figures::stats::milliseconds;
use crate::engine::sink::client::Client;
use crate::engine::sink::ping::{self, Ping, PingError};
use crate::postgres::error::sentence;

/// Elasticsearch counts as down when it does not answer within this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// A younger answer is given again.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(500);

/// The body of `GET test-connection`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Tested")]
pub struct ConnectionTest {
    pub success: bool,
    pub message: String,
    pub version: Option<String>,
    #[serde(rename = "cluster_name")]
    pub cluster_name: Option<String>,
    /// Of walferry's indices: `green`, `yellow` or `red`; `unknown` where walferry may not ask.
    pub status: Option<String>,
    #[schemars(with = "f64")]
    pub latency_ms: Number,
    /// The same as `latency_ms`.
    #[serde(skip)]
    pub latency: Duration,
}

/// Tests the connection to the configured Elasticsearch.
pub struct ElasticsearchProbe {
    /// `None` where none is configured.
    client: Option<Arc<Client>>,
    /// What the names of walferry's indices begin with.
    names: Vec<String>,
    last: Mutex<Option<LastTest>>,
}

struct LastTest {
    at: Instant,
    test: ConnectionTest,
}

impl ElasticsearchProbe {
    /// Tests the connection of `client`; without one, the test says that none is configured.
    pub(crate) fn new(client: Option<Arc<Client>>, names: Vec<String>) -> Self {
        Self { client, names, last: Mutex::default() }
    }

    /// Whether there is an Elasticsearch to test.
    pub(crate) const fn is_configured(&self) -> bool {
        self.client.is_some()
    }

    /// Asks Elasticsearch, or gives the answer of the last half second.
    pub(crate) async fn test(&self) -> ConnectionTest {
        let mut last = self.last.lock().await;
        if let Some(LastTest { at, test }) = &*last
            && at.elapsed() < ANSWER_AGE_MAX
        {
            return test.clone();
        }
        let started = Instant::now();
        let answer = self.ping().await;
        let test = ConnectionTest::new(answer, started.elapsed());
        *last = Some(LastTest { at: Instant::now(), test: test.clone() });
        test
    }

    async fn ping(&self) -> Result<Ping, String> {
        let Some(client) = &self.client else {
            return Err("no Elasticsearch is configured; set ELASTICSEARCH_URL".to_owned());
        };
        match timeout(ANSWER_TIME_MAX, ping::ping(client, &self.names)).await {
            Ok(Ok(ping)) => Ok(ping),
            Ok(Err(PingError::Red { ping })) => {
                Err(format!("cluster {} is red: some documents have no node", ping.cluster_name))
            }
            Ok(Err(error)) => Err(sentence(&error)),
            Err(_) => Err("Elasticsearch does not answer within 3 s".to_owned()),
        }
    }
}

impl ConnectionTest {
    fn new(answer: Result<Ping, String>, latency: Duration) -> Self {
        let latency_ms = milliseconds(latency.as_secs_f64() * 1000.0);
        match answer {
            Ok(Ping { version, cluster_name, status }) => Self {
                success: true,
                message: "Elasticsearch connection successful".to_owned(),
                version: Some(version),
                cluster_name: Some(cluster_name),
                status: Some(status),
                latency_ms,
                latency,
            },
            Err(message) => Self {
                success: false,
                message,
                version: None,
                cluster_name: None,
                status: None,
                latency_ms,
                latency,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_test_is_the_documented_one() {
        let ping = Ping {
            version: "9.5.3".to_owned(),
            cluster_name: "shop".to_owned(),
            status: "green".to_owned(),
        };
        let test = ConnectionTest::new(Ok(ping), Duration::from_micros(3500));
        let expected = concat!(
            r#"{"success":true,"message":"Elasticsearch connection successful","version":"9.5.3","#,
            r#""cluster_name":"shop","status":"green","latencyMs":3.5}"#,
        );
        assert_eq!(serde_json::to_string(&test).unwrap(), expected);
    }
}
