//! The walferry binary as a child process, which ends with its handle.
//!
//! Not here: the environment of a test (`bed`).

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::eventually;
use super::launcher::{free_port, new_path, note, signal};

/// A command of walferry that is not started.
#[derive(Debug)]
pub(crate) struct Launch {
    command: Command,
    port: u16,
}

impl Launch {
    /// `walferry ARGUMENTS`. Variables of walferry and libpq are not inherited. `WALFERRY_LISTEN` is
    /// a free loopback port.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_walferry"));
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if ["WALFERRY_", "PG", "ELASTICSEARCH_"].iter().any(|start| name.starts_with(start)) {
                command.env_remove(&key);
            }
        }
        command
            .args(arguments)
            .env("RUST_LOG", "walferry=debug,info")
            .env("WALFERRY_LISTEN", format!("127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .process_group(0);
        Self { command, port }
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Unsets a variable.
    pub(crate) fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Starts the process. Standard output and standard error are written to one file.
    pub(crate) fn spawn(mut self) -> Walferry {
        let log = new_path("walferry-log");
        let file = File::create(&log).expect("the run directory can be written");
        let twin = file.try_clone().expect("an open file can be shared");
        let child = self.command.stdout(file).stderr(twin).spawn().expect("walferry can be run");
        Walferry { child, port: self.port, log, http: reqwest::Client::new(), ended: None }
    }
}

/// A walferry process. It is killed when dropped. If the test fails, the end of its output is
/// printed.
#[derive(Debug)]
pub(crate) struct Walferry {
    child: Child,
    /// The port of the HTTP server on 127.0.0.1.
    pub(crate) port: u16,
    log: PathBuf,
    http: reqwest::Client,
    ended: Option<ExitStatus>,
}

impl Walferry {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process and waits for its end. No destructor runs.
    pub(crate) fn kill9(&mut self) {
        if self.ended.is_none() {
            // An error means that the process has ended already.
            drop(self.child.kill());
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn sigterm(&self) {
        signal(self.pid(), "TERM");
    }

    /// Sends SIGSTOP. Sockets stay open and are not served.
    pub(crate) fn sigstop(&self) {
        signal(self.pid(), "STOP");
    }

    /// Sends SIGCONT.
    pub(crate) fn sigcont(&self) {
        signal(self.pid(), "CONT");
    }

    /// Sends SIGTERM and expects exit code 0 within 10 s.
    pub(crate) async fn stop(&mut self) {
        self.sigterm();
        let code = self.wait_exit(Duration::from_secs(10)).await;
        assert_eq!(code, 0, "walferry ended badly after SIGTERM: {}", self.output_end());
    }

    /// Waits for the end of the process. Returns the exit code, or the negative number of the signal.
    pub(crate) async fn wait_exit(&mut self, limit: Duration) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = eventually(limit, "walferry has ended", async || match self.try_exit() {
            Some(status) => Ok(status),
            None => Err("it still runs".to_owned()),
        })
        .await;
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    /// True if the process is running.
    pub(crate) fn is_running(&mut self) -> bool {
        self.try_exit().is_none()
    }

    /// Waits until `/readyz` returns 200. Fails if the process ends.
    pub(crate) async fn wait_ready(&mut self, limit: Duration) {
        let address = self.url("/readyz");
        let http = self.http.clone();
        let result: Result<(), String> = eventually(limit, "walferry is ready", async || {
            if let Some(status) = self.try_exit() {
                return Ok(Err(format!("walferry ended with {status}: {}", self.output_end())));
            }
            let answer = http.get(&address).send().await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let text = answer.text().await.map_err(|error| error.to_string())?;
            if status.is_success() { Ok(Ok(())) } else { Err(format!("{status}: {text}")) }
        })
        .await;
        if let Err(reason) = result {
            panic!("{reason}");
        }
    }

    /// The URL of a path of the HTTP server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The status and the body of a GET request.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn http_get(&self, path: &str) -> Result<(u16, String), String> {
        let request = self.http.get(self.url(path)).timeout(Duration::from_secs(10));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| error.to_string())?))
    }

    /// The status and the JSON body of a GET request, which must be answered.
    pub(crate) async fn get_json(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.http_get(path).await.expect("walferry answers");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The status and the JSON body of a POST request, which must be answered.
    pub(crate) async fn post_json(&self, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.post(self.url(path)).timeout(Duration::from_secs(30));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("walferry answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("walferry ends its answer");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The current and the peak resident set size.
    pub(crate) fn rss_bytes(&self) -> Rss {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("walferry runs");
        let read = |key: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            kibibytes.map_or(0, |size: u64| size * 1024)
        };
        Rss { now: read("VmRSS:"), highest: read("VmHWM:") }
    }

    /// The output so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last 60 lines of the output.
    pub(crate) fn output_end(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(60)).copied().collect::<Vec<_>>().join("\n")
    }

    /// Waits until a line of the output contains `needle`.
    pub(crate) async fn wait_output(&self, needle: &str, limit: Duration) {
        eventually(limit, &format!("walferry writes {needle:?}"), async || {
            if self.output().contains(needle) { Ok(()) } else { Err(self.output_end()) }
        })
        .await;
    }

    fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }
}

impl Drop for Walferry {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            note(&format!("--- the end of walferry's output ---\n{}\n---", self.output_end()));
        }
    }
}

/// The resident set size in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rss {
    /// `VmRSS`.
    pub(crate) now: u64,
    /// `VmHWM`.
    pub(crate) highest: u64,
}
