//! A headless Chromium, driven over WebDriver.
//!
//! Chromedriver and the browser write their standard error into the run directory. Therefore the
//! guard of that directory ends both, even if the test binary is killed. Dropping the handle ends
//! them at once.
//!
//! Not here: the expected content of a page (`tests/page.rs`).

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::eventually;
use super::launcher::{free_port, new_directory, new_path, note, signal, stack, text};

/// The time for the start of chromedriver, and for the start of the browser.
const START_MAX: Duration = Duration::from_secs(60);
/// The time in which a condition of the page must become true.
const PAGE_MAX: Duration = Duration::from_secs(20);
const SCRIPT_MS_MAX: u64 = 30_000;
/// The key of an element reference (W3C WebDriver, "web element identifier").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: Child,
    session: String,
    http: reqwest::Client,
    profile: PathBuf,
}

impl Browser {
    /// Starts a browser with an empty profile and the language English.
    pub(crate) async fn start() -> Self {
        let needed = ["need", "chromium:chromium", "chromedriver:chromium-driver"];
        stack(needed.map(str::to_owned).to_vec()).await.expect("the browser can be installed");
        let (port, profile) = (free_port(), new_directory("chromium"));
        let log = File::create(new_path("chromedriver-log")).expect("the run directory is ours");
        let driver = Command::new("chromedriver")
            .args([&format!("--port={port}"), "--enable-chrome-logs", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("chromedriver can be run");
        let address = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::new();
        let mut browser = Self { driver, session: String::new(), http, profile };
        eventually(START_MAX, "chromedriver answers", async || {
            let answer = browser.http.get(format!("{address}/status")).send().await;
            answer.map(drop).map_err(|error| error.to_string())
        })
        .await;
        let session = browser.open_window(&address).await;
        browser.session = format!("{address}/session/{session}");
        browser
    }

    async fn open_window(&self, address: &str) -> String {
        let profile = format!("--user-data-dir={}", text(&self.profile));
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--force-prefers-reduced-motion",
            "--lang=en",
            &profile,
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "timeouts": { "script": SCRIPT_MS_MAX },
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments, "prefs": { "intl.accept_languages": "en" } },
        } } });
        let answer = self.http.post(format!("{address}/session")).json(&capabilities);
        let answer = answer.timeout(START_MAX).send().await.expect("chromedriver answers");
        let answer: Value = answer.json().await.expect("WebDriver speaks JSON");
        let session = answer["value"]["sessionId"].as_str();
        session.unwrap_or_else(|| panic!("no window opened: {answer}")).to_owned()
    }

    /// Sends a WebDriver command. The error contains its answer.
    async fn call(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let request = self.http.request(method.clone(), format!("{}{path}", self.session));
        let request = if method == Method::POST { request.json(&body) } else { request };
        let answer = request.timeout(Duration::from_secs(60)).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let good = answer.status().is_success();
        let mut body: Value = answer.json().await.map_err(|error| error.to_string())?;
        let value = body["value"].take();
        if good { Ok(value) } else { Err(value["message"].as_str().unwrap_or("?").to_owned()) }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.call(Method::POST, path, body).await;
        answer.unwrap_or_else(|error| panic!("WebDriver {path}: {error}"))
    }

    /// Loads an address, even if it differs from the current one in the fragment only.
    pub(crate) async fn load(&self, url: &str) {
        self.post("/url", json!({ "url": "about:blank" })).await;
        self.post("/url", json!({ "url": url })).await;
    }

    /// Sets the size of the window in CSS pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 600 });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": size });
        self.post("/goog/cdp/execute", command).await;
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn value(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": format!("return {script}"), "args": [] }))
            .await
    }

    /// Runs JavaScript statements.
    pub(crate) async fn run(&self, script: &str) {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await;
    }

    /// The value of a promise.
    pub(crate) async fn promised(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; ({script}).then(done, (error) => done(String(error)));"
        );
        self.post("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Waits until a JavaScript expression is true.
    pub(crate) async fn wait(&self, condition: &str) {
        let script = json!({ "script": format!("return Boolean({condition})"), "args": [] });
        eventually(PAGE_MAX, condition, async || {
            match self.call(Method::POST, "/execute/sync", script.clone()).await {
                Ok(Value::Bool(true)) => Ok(()),
                Ok(_) => Err(self.state().await),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    /// The state of the page for the message of a failed test.
    async fn state(&self) -> String {
        let place = self.value("location.href").await;
        let text = self.text("body").await.replace('\n', " | ");
        format!("{place}: {text}; the console: {:?}", self.complaints().await)
    }

    /// Waits until an element that matches `selector` shows `text`.
    pub(crate) async fn wait_text(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.wait(&format!(
            "[...document.querySelectorAll({selector})].some((one) => one.innerText.includes({text}))"
        ))
        .await;
    }

    /// The visible text of the first element that matches; empty without one.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = format!("document.querySelector({})?.innerText ?? ''", json!(selector));
        self.value(&script).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits for an element and clicks it. The element must be visible and not covered.
    pub(crate) async fn click(&self, selector: &str) {
        eventually(PAGE_MAX, &format!("{selector} can be clicked"), async || {
            let element = self.element(selector).await?;
            self.call(Method::POST, &format!("/element/{element}/click"), json!({})).await.map(drop)
        })
        .await;
    }

    /// Replaces the content of a field.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        eventually(PAGE_MAX, &format!("{selector} can be filled"), async || {
            let element = self.element(selector).await?;
            self.call(Method::POST, &format!("/element/{element}/clear"), json!({})).await?;
            let keys = json!({ "text": text });
            self.call(Method::POST, &format!("/element/{element}/value"), keys).await.map(drop)
        })
        .await;
    }

    /// Types into the focused element. `\u{E007}` is Enter and `\u{E00C}` is Escape.
    pub(crate) async fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.post("/actions", json!({ "actions": [keyboard] })).await;
    }

    async fn element(&self, selector: &str) -> Result<String, String> {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self.call(Method::POST, "/element", by).await?;
        found[ELEMENT].as_str().map(str::to_owned).ok_or_else(|| "no element".to_owned())
    }

    /// The warnings and errors of the console since the last call.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        let bad = entries.into_iter().filter(|entry| {
            ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap_or_default())
        });
        bad.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Browser {
    /// Ends the browser and its child processes, which are found by the profile in their arguments.
    fn drop(&mut self) {
        if let Err(error) = self.driver.kill().and_then(|()| self.driver.wait().map(drop)) {
            note(&format!("chromedriver was not ended: {error}"));
        }
        for pid in processes_that_name(&self.profile) {
            signal(pid, "KILL");
        }
    }
}

fn processes_that_name(path: &Path) -> Vec<u32> {
    let path = text(path);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&path)
    })
    .collect()
}
