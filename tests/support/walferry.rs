//! The binary under test as a child, which dies with its handle.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::eventually;
use super::launcher::{free_port, new_path, note, signal};

/// A command line of walferry, not yet run.
#[derive(Debug)]
pub(crate) struct Launch {
    command: Command,
    port: u16,
}

impl Launch {
    /// `walferry ARGUMENTS` with an environment of its own: nothing of walferry's or libpq's is
    /// inherited. `WALFERRY_LISTEN` is a free loopback port.
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

    /// Starts it. Standard output and error go to one file, in the order written.
    pub(crate) fn spawn(mut self) -> Walferry {
        let log = new_path("walferry-log");
        let file = File::create(&log).expect("the run directory can be written");
        let twin = file.try_clone().expect("an open file can be shared");
        let child = self.command.stdout(file).stderr(twin).spawn().expect("walferry can be run");
        Walferry { child, port: self.port, log, http: reqwest::Client::new(), ended: None }
    }
}

/// A running (or ended) walferry. Killed when dropped; a failing test prints the end of its output.
#[derive(Debug)]
pub(crate) struct Walferry {
    child: Child,
    /// Of its HTTP server on 127.0.0.1.
    pub(crate) port: u16,
    log: PathBuf,
    http: reqwest::Client,
    ended: Option<ExitStatus>,
}

impl Walferry {
    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and waits for its end. The same instant for all its threads: no destructor runs.
    pub(crate) fn kill9(&mut self) {
        if self.ended.is_none() {
            // An error means that it has ended by itself.
            drop(self.child.kill());
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
        }
    }

    /// Asks it to end.
    pub(crate) fn sigterm(&self) {
        signal(self.pid(), "TERM");
    }

    /// Halts it: sockets stay open, nothing answers.
    pub(crate) fn sigstop(&self) {
        signal(self.pid(), "STOP");
    }

    /// Lets a halted one go on.
    pub(crate) fn sigcont(&self) {
        signal(self.pid(), "CONT");
    }

    /// Asks it to end, and expects exit code 0 within the 10 s that are promised.
    pub(crate) async fn stop(&mut self) {
        self.sigterm();
        let code = self.wait_exit(Duration::from_secs(10)).await;
        assert_eq!(code, 0, "walferry ended badly after SIGTERM: {}", self.output_end());
    }

    /// Waits for its end and returns the exit code, or minus the number of the signal that ended it.
    pub(crate) async fn wait_exit(&mut self, limit: Duration) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = eventually(limit, "walferry has ended", async || match self.try_exit() {
            Some(status) => Ok(status),
            None => Err("it still runs".to_owned()),
        })
        .await;
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.try_exit().is_none()
    }

    /// Waits until `/readyz` answers 200. Fails at once when the process has ended.
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

    /// Address of a path of its HTTP server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Status and body of a GET.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn http_get(&self, path: &str) -> Result<(u16, String), String> {
        let request = self.http.get(self.url(path)).timeout(Duration::from_secs(10));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| error.to_string())?))
    }

    /// Status and JSON body of a GET that must be answered.
    pub(crate) async fn get_json(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.http_get(path).await.expect("walferry answers");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Status and JSON body of a POST that must be answered.
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

    /// Resident memory in bytes: now, and at its highest.
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

    /// All it has written so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last 60 lines it has written.
    pub(crate) fn output_end(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(60)).copied().collect::<Vec<_>>().join("\n")
    }

    /// Waits until a line of its output contains `needle`.
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

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rss {
    /// `VmRSS`.
    pub(crate) now: u64,
    /// `VmHWM`.
    pub(crate) highest: u64,
}
