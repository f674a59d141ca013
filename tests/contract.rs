//! What users know stays: all that scripts, dashboards, alerts and people rely on is compared with
//! a snapshot.
//!
//! The snapshot is `tests/fixtures/contract/*.txt`, sorted, one item a line. An item may be added. None may be
//! removed or changed.
//!
//! Not here: what the items mean (`papers` and the tests of each part).

pub(crate) mod description;
pub(crate) mod items;
pub(crate) mod source;

mod exit;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::Value;
use walferry::command::Arguments;
use walferry::config::SETTINGS;
use walferry::telemetry::metrics::Metrics;
use walferry::telemetry::readiness::Component;

/// One file of the snapshot, and what it lists as of now.
struct Part {
    name: &'static str,
    now: fn() -> BTreeSet<String>,
}

const PARTS: [Part; 12] = [
    Part { name: "commands", now: || items::commands(&Arguments::command()) },
    Part { name: "components", now: components },
    Part { name: "exit-codes", now: exit::codes },
    Part { name: "health-codes", now: health_codes },
    Part { name: "log-events", now: || log_events(&rust_sources()) },
    Part { name: "metrics", now: || items::metrics(&Metrics::new()) },
    Part { name: "migrations", now: migrations },
    Part { name: "openapi", now: || description::members(&openapi()) },
    Part { name: "problem-codes", now: || problem_codes(&rust_sources()) },
    Part { name: "routes", now: || description::routes(&openapi()) },
    Part { name: "sentences", now: || sentences(&rust_sources(), &sql_sources()) },
    Part { name: "settings", now: || items::settings(&SETTINGS.iter().collect::<Vec<_>>()) },
];

const HOW_TO_ADD: &str = "add it by WALFERRY_BLESS=1 cargo test --locked --test integration \
                          contract, and commit the file";

/// Lines of `was` that are no longer in `now`, and lines of `now` that `was` lacks, a sentence each.
fn differences(file: &str, was: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    let gone = was.difference(now);
    let gone =
        gone.map(|item| format!("{file}: removed or changed, although users rely on it: {item}"));
    let new = now
        .difference(was)
        .map(|item| format!("{file}: not in the snapshot: {item}; {HOW_TO_ADD}"));
    gone.chain(new).collect()
}

impl Part {
    fn path(&self) -> PathBuf {
        root().join("tests/fixtures/contract").join(self.name).with_extension("txt")
    }

    fn snapshot(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Compares with the snapshot; where that is asked for, adds what is new to it first.
    fn check(&self) {
        let now = (self.now)();
        let mut was = self.snapshot();
        if is_blessed() {
            was.extend(now.iter().cloned());
            let text: String = was.iter().map(|item| format!("{item}\n")).collect();
            std::fs::write(self.path(), text).expect("the snapshot can be written");
        }
        let found = differences(&format!("{}.txt", self.name), &was, &now);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// Whether snapshots and generated sections are to be written.
pub(crate) fn is_blessed() -> bool {
    std::env::var_os("WALFERRY_BLESS").is_some_and(|value| value == "1")
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` that end so.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the sources can be read") {
            let path = entry.expect("the sources can be read").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == ending => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of `src` that is not a test's alone.
pub(crate) fn rust_sources() -> Vec<String> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("sources are text");
    let all: Vec<(PathBuf, String)> =
        files("src", "rs").into_iter().map(|path| (path.clone(), read(&path))).collect();
    let for_tests: BTreeSet<PathBuf> =
        all.iter().flat_map(|(path, text)| source::test_files(path, text)).collect();
    // A module for tests alone may have files of its own.
    let is_for_tests = |path: &PathBuf| {
        for_tests.contains(path)
            || path.ancestors().any(|folder| for_tests.contains(&folder.with_extension("rs")))
    };
    all.into_iter().filter(|(path, _)| !is_for_tests(path)).map(|(_, text)| text).collect()
}

/// The OpenAPI description as the binary prints it.
pub(crate) fn openapi() -> Value {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_walferry"));
    let output = command.arg("openapi").output().expect("walferry can be run");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn components() -> BTreeSet<String> {
    Component::ALL.iter().map(|component| component.as_str().to_owned()).collect()
}

pub(crate) fn health_codes() -> BTreeSet<String> {
    items::health_codes(&description::health_words(&openapi()))
}

fn log_events(sources: &[String]) -> BTreeSet<String> {
    let lines = sources.iter().flat_map(|text| source::log_lines(text));
    lines.map(|line| format!("{} {}", line.code, line.level)).collect()
}

pub(crate) fn problem_codes(sources: &[String]) -> BTreeSet<String> {
    sources.iter().flat_map(|text| source::problem_codes(text)).collect()
}

fn migrations() -> BTreeSet<String> {
    let names = files("migrations", "sql").into_iter();
    names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// Sentences of `sources` and of SQL. The help of metrics and the summaries of routes are documentation and may
/// be reworded.
fn sentences(rust: &[String], sql: &[String]) -> BTreeSet<String> {
    let mut found: BTreeSet<String> =
        rust.iter().flat_map(|text| source::sentences(text)).collect();
    found.extend(sql.iter().flat_map(|text| source::sql_sentences(text)));
    for metric in Metrics::new().descriptions() {
        found.remove(&metric.help);
    }
    for summary in description::summaries(&openapi()) {
        found.remove(&summary);
    }
    found
}

fn sql_sources() -> Vec<String> {
    let paths = files("src", "sql").into_iter().chain(files("migrations", "sql"));
    paths.map(|path| std::fs::read_to_string(path).expect("sources are text")).collect()
}

#[test]
fn every_part_is_as_users_know_it() {
    PARTS.iter().for_each(Part::check);
}

#[test]
fn an_item_that_is_removed_or_changed_is_found_in_every_part() {
    for part in PARTS {
        let snapshot = part.snapshot();
        for item in &snapshot {
            let mut now = snapshot.clone();
            now.remove(item);
            let found = differences("x.txt", &snapshot, &now);
            let expected = format!("x.txt: removed or changed, although users rely on it: {item}");
            assert_eq!(found, [expected], "{}", part.name);
        }
    }
}

#[test]
fn an_item_that_is_new_is_named_with_what_to_do() {
    let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    let found = differences("x.txt", &set(&["a"]), &set(&["a", "b"]));
    assert_eq!(found, [format!("x.txt: not in the snapshot: b; {HOW_TO_ADD}")]);
    assert_eq!(differences("x.txt", &set(&["a", "b"]), &set(&["b", "a"])), [""; 0]);
}

/// Whether `name`'s snapshot has lines that `now` lacks.
#[track_caller]
fn lacks(name: &str, now: &BTreeSet<String>, item: &str) {
    let part = PARTS.iter().find(|part| part.name == name).expect("there is such a part");
    let snapshot = part.snapshot();
    let gone: Vec<&String> = snapshot.difference(now).collect();
    assert!(gone.iter().any(|gone| gone.contains(item)), "{name} without {item}: {gone:?}");
    assert!(gone.len() < 40, "{name} without {item}: {gone:?}");
}

/// The sources with `old` replaced, which must be there.
fn altered(sources: &[String], old: &str, new: &str) -> Vec<String> {
    assert!(sources.iter().any(|text| text.contains(old)), "{old} is nowhere");
    sources.iter().map(|text| text.replace(old, new)).collect()
}

#[test]
fn what_is_removed_at_its_source_is_missing_in_the_list() {
    let command = Arguments::command();
    let renamed = command.clone().mut_subcommand("jobs", |jobs| jobs.name("list"));
    lacks("commands", &items::commands(&renamed), "walferry jobs --limit");
    let renamed = command.mut_subcommand("run", |run| run.mut_arg("once", |once| once.long("one")));
    lacks("commands", &items::commands(&renamed), "walferry run --once");

    let all: Vec<_> = SETTINGS.iter().filter(|setting| setting.key != "slot").collect();
    lacks("settings", &items::settings(&all), "slot by WALFERRY_SLOT");

    let mut api = openapi();
    let health = api["paths"]["/api/v1/queue/health"]["get"].take();
    lacks("routes", &description::routes(&api), "GET /api/v1/queue/health viewer");
    lacks("openapi", &description::members(&api), "GET /api/v1/queue/health: answer.stuckJobs");
    lacks("health-codes", &items::health_codes(&description::health_words(&api)), "stuck_jobs");
    api["paths"]["/api/v1/queue/health"]["get"] = health;
    api["paths"]["/api/v1/queue/clear"]["post"]["x-role"] = "viewer".into();
    lacks("routes", &description::routes(&api), "POST /api/v1/queue/clear admin");
    let stats = "/components/schemas/Stats/properties";
    let stats = api.pointer_mut(stats).and_then(Value::as_object_mut).expect("it has members");
    stats.remove("pending");
    lacks("openapi", &description::members(&api), "GET /api/v1/queue/stats: answer.pending");

    let rust = rust_sources();
    lacks("log-events", &log_events(&altered(&rust, "\"sink_down\"", "\"x\"")), "sink_down warn");
    lacks(
        "problem-codes",
        &problem_codes(&altered(&rust, "\"no_such_job\"", "\"x\"")),
        "no_such_job",
    );
    let sql = sql_sources();
    let fewer = altered(&rust, "is not a setting{nearest}", "is unknown");
    lacks("sentences", &sentences(&fewer, &sql), "{} is not a setting{}");
    let fewer = altered(&sql, "Max retries exceeded", "Too many retries");
    lacks("sentences", &sentences(&rust, &fewer), "Max retries exceeded (%s/%s)");
}
