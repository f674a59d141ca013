//! What operators look at: dashboards, alerts and runbooks name only what exists, say what they
//! show, and are fed by the running binary.
//!
//! Not here: when something is counted (unit tests of `metrics`).

mod firing;
mod lint;
mod live;
mod runbooks;
mod sampling;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::prometheus::promtool;

const NAMES: [&str; 4] = ["overview", "pipeline", "sink", "queue-api"];

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("dashboards/{name}.json"))).expect("it is JSON")
}

/// The panels that show something, not the rows between them.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Panel title and expression of each target.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let targets = |panel: &Value| panel["targets"].as_array().cloned().unwrap_or_default();
    panels(dashboard)
        .into_iter()
        .flat_map(|panel| {
            targets(panel).into_iter().map(|target| (text(&panel["title"]), text(&target["expr"])))
        })
        .collect()
}

/// An alert as the rule file has it.
#[derive(Clone, Debug, Default)]
struct Rule {
    name: String,
    severity: String,
    expression: String,
    runbook: String,
    dashboard: String,
}

fn rules() -> Vec<Rule> {
    let text = read("dashboards/alerts.yml");
    let mut rules: Vec<Rule> = Vec::new();
    let mut in_expression = false;
    for line in text.lines() {
        let word = line.trim();
        if let Some(name) = word.strip_prefix("- alert: ") {
            rules.push(Rule { name: name.to_owned(), ..Rule::default() });
        }
        let Some(rule) = rules.last_mut() else { continue };
        if let Some(expression) = word.strip_prefix("expr: ") {
            in_expression = expression == "|";
            rule.expression = if in_expression { String::new() } else { expression.to_owned() };
        } else if in_expression && line.starts_with("          ") {
            rule.expression.push_str(word);
            rule.expression.push(' ');
        } else {
            in_expression = false;
        }
        for (key, place) in [
            ("severity: ", &mut rule.severity),
            ("runbook_url: ", &mut rule.runbook),
            ("dashboard_url: ", &mut rule.dashboard),
        ] {
            if let Some(value) = word.strip_prefix(key) {
                value.clone_into(place);
            }
        }
    }
    rules
}

/// Names of ours in an expression, with the matchers that follow each.
fn selectors(expression: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(at) = rest.find("walferry_").into_iter().chain(rest.find("process_")).min() {
        let (_, here) = rest.split_at(at);
        let end = here.find(|c| !is_word(c)).unwrap_or(here.len());
        let (name, after) = here.split_at(end);
        let matchers = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((matchers, _)) => format!("{{{matchers}}}"),
            None => String::new(),
        };
        found.insert(format!("{name}{matchers}"));
        rest = after;
    }
    found
}

fn name_of(selector: &str) -> &str {
    selector.split('{').next().unwrap_or(selector)
}

/// Every string of `src/telemetry/metrics`: the names among them are the metrics that there are.
fn named_in_source() -> String {
    let folder = std::fs::read_dir(path("src/telemetry/metrics"))
        .expect("src/telemetry/metrics can be read");
    let files = folder.map(|file| file.expect("src/telemetry/metrics can be read").path());
    let texts = files.map(|file| std::fs::read_to_string(file).expect("sources are text"));
    texts.collect()
}

/// All of `src`: log lines that people are told to look for must stand in it.
fn source() -> String {
    let mut folders = vec![path("src")];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).expect("src can be read") {
            let file = file.expect("src can be read").path();
            match file.extension() {
                _ if file.is_dir() => folders.push(file),
                Some(extension) if extension == "rs" => {
                    all.push_str(&std::fs::read_to_string(file).expect("sources are text"));
                }
                _ => {}
            }
        }
    }
    all
}

#[test]
fn every_metric_that_is_shown_or_watched_exists() {
    let source = named_in_source();
    let shown = NAMES.iter().flat_map(|name| expressions(&dashboard(name)));
    let watched = rules().into_iter().map(|rule| (rule.name, rule.expression));
    for (place, expression) in shown.chain(watched) {
        for selector in selectors(&expression) {
            let Some(name) = name_of(&selector).strip_prefix("walferry_") else { continue };
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_named = |name: &str| source.contains(&format!("\"{name}\""));
            assert!(is_named(name) || base.is_some_and(is_named), "{place}: there is no {name}");
        }
    }
}

#[test]
fn every_metric_is_shown() {
    let all: String = NAMES.iter().map(|name| read(&format!("dashboards/{name}.json"))).collect();
    let metrics = walferry::telemetry::metrics::Metrics::new();
    metrics.declare(&["t".to_owned()], &["i".to_owned()]);
    let text = metrics.render();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE walferry_")) {
        let name = line.split(' ').next().unwrap();
        assert!(all.contains(&format!("walferry_{name}")), "no panel shows {name}");
    }
}

#[test]
fn the_dashboards_are_what_the_generator_writes() {
    let output = Command::new("python3").arg(path("dashboards/generate")).arg("--check").output();
    let output = output.expect("python3 can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn promtool_finds_no_fault_with_the_rules() {
    for arguments in [
        &["check", "rules", "--lint=all", "--lint-fatal", "dashboards/alerts.yml"][..],
        &["test", "rules", "dashboards/alerts.test.yml"],
        &["check", "config", "--syntax-only", "dashboards/provisioning/prometheus.yml"],
    ] {
        if let Err(said) = promtool(arguments, "") {
            panic!("promtool {arguments:?}: {said}");
        }
    }
    let tests = read("dashboards/alerts.test.yml");
    for rule in rules() {
        for verdict in ["fires'", "does not: "] {
            let test = format!("'{} {verdict}", rule.name);
            assert!(tests.contains(&test), "no test {test}");
        }
    }
}
