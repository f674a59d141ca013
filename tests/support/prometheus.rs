//! A Prometheus server that scrapes one walferry, and promtool.
//!
//! Not here: dashboards and alerts (`tests/dashboards`).

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::eventually;
use super::launcher::{free_port, new_directory, stack_blocking, text};

/// A Prometheus server. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
    port: u16,
    http: reqwest::Client,
}

/// A sample of a query: its labels, and its value as text.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) labels: Value,
    pub(crate) value: f64,
}

impl Prometheus {
    /// Starts a server that scrapes the job `walferry` on this port twice a second and evaluates
    /// `rules` as often.
    pub(crate) async fn watching(port: u16, rules: &str) -> Self {
        tokio::task::spawn_blocking(need).await.expect("looking for a command does not panic");
        let folder = new_directory("prometheus");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: walferry\n  static_configs:\n  \
             - targets: ['127.0.0.1:{port}']\n"
        );
        write(&folder.join("prometheus.yml"), &config);
        write(&folder.join("rules.yml"), rules);
        let own = free_port();
        let log = File::create(folder.join("log")).expect("the run directory can be written");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", text(&folder.join("prometheus.yml"))))
            .arg(format!("--storage.tsdb.path={}", text(&folder.join("data"))))
            .arg(format!("--web.listen-address=127.0.0.1:{own}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("prometheus can be run");
        let prometheus = Self { child, port: own, http: reqwest::Client::new() };
        eventually(Duration::from_secs(20), "Prometheus has scraped", async || {
            match prometheus.query("up").await {
                Ok(samples) if samples.iter().any(|sample| sample.value > 0.0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        prometheus
    }

    /// The result of an instant query.
    ///
    /// # Errors
    /// The error of Prometheus for the expression.
    pub(crate) async fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let answer = self.get("query", &[("query", expression)]).await?;
        let result = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        let sample = |found: &Value| Sample {
            labels: found["metric"].clone(),
            value: found["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN),
        };
        Ok(result.iter().map(sample).collect())
    }

    /// The names of all metrics that have had a sample.
    pub(crate) async fn names(&self) -> Vec<String> {
        let answer = self.get("label/__name__/values", &[]).await.expect("it answers");
        let names = answer["data"].as_array().cloned().unwrap_or_default();
        names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// The firing alerts with their annotations.
    pub(crate) async fn firing(&self) -> Vec<(String, Value)> {
        let answer = self.get("alerts", &[]).await.expect("it answers");
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.into_iter().filter(|alert| alert["state"] == "firing");
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap_or("").to_owned();
        firing.map(|alert| (name(&alert), alert["annotations"].clone())).collect()
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let address = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let request = self.http.get(address).query(query).timeout(Duration::from_secs(10));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        match answer["status"] == "success" {
            true => Ok(answer),
            false => Err(answer["error"].to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs promtool on a text, or on the files in its arguments, and returns its output.
///
/// # Errors
/// The output, if promtool fails.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Result<String, String> {
    need();
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be run");
    let mut stdin = child.stdin.take().expect("it was piped");
    // promtool closes an input that it does not read.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn need() {
    static FOUND: OnceLock<()> = OnceLock::new();
    FOUND.get_or_init(|| {
        stack_blocking(&["need", "prometheus:prometheus", "promtool:prometheus"])
            .expect("Prometheus can be installed");
    });
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).expect("the run directory can be written");
}
