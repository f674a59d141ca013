//! What users rely on, one item a line, as the library and the binary themselves state it.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, Command};
use serde_json::Value;
use walferry::admin::health::Code;
use walferry::config::Setting;
use walferry::telemetry::metrics::Metrics;

/// Commands with their options: `walferry jobs --limit <LIMIT>, default 20`.
pub(crate) fn commands(root: &Command) -> BTreeSet<String> {
    let mut root = root.clone();
    root.build();
    let mut found = BTreeSet::new();
    add_command(&root, "", &mut found);
    found
}

fn add_command(command: &Command, parent: &str, found: &mut BTreeSet<String>) {
    let path = format!("{parent} {}", command.get_name()).trim().to_owned();
    found.insert(path.clone());
    let own = command.get_arguments().filter(|arg| parent.is_empty() || !arg.is_global_set());
    found.extend(own.map(|arg| format!("{path} {arg}{}", remarks(arg))));
    if command.get_name() == "help" {
        return;
    }
    for child in command.get_subcommands() {
        add_command(child, &path, found);
    }
}

fn remarks(arg: &Arg) -> String {
    let mut remarks = String::new();
    if let Some(short) = arg.get_short() {
        remarks.push_str(&format!(", or -{short}"));
    }
    if arg.is_required_set() {
        remarks.push_str(", required");
    }
    if matches!(arg.get_action(), ArgAction::Append) {
        remarks.push_str(", may be repeated");
    }
    if arg.is_global_set() {
        remarks.push_str(", with every command");
    }
    if !arg.get_action().takes_values() {
        return remarks;
    }
    for default in arg.get_default_values() {
        remarks.push_str(&format!(", default {}", default.display()));
    }
    remarks
}

/// Settings: `slot; WALFERRY_SLOT; default walferry; 1 to 63 of ...`.
pub(crate) fn settings(all: &[&Setting]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for setting in all {
        let Setting { key, kind, default, unset, .. } = setting;
        let default = if default.is_empty() { unset } else { default };
        found.insert(format!("{key} = {default}; {}", kind.describe()));
        found.insert(format!("{key} by {}", setting.variable()));
        found.extend(setting.alias.map(|alias| format!("{key} by {alias}")));
        if setting.secret {
            found.insert(format!("{key} is secret; by {}_FILE", setting.variable()));
        }
    }
    found
}

/// Metrics with their type and labels, and the series that are there from the start.
pub(crate) fn metrics(metrics: &Metrics) -> BTreeSet<String> {
    metrics.declare(&["TABLE".to_owned()], &["INDEX".to_owned()]);
    let mut found = BTreeSet::new();
    for metric in metrics.descriptions() {
        let labels = metric.labels.join(", ");
        found.insert(format!("{} {} {{{labels}}}", metric.name, metric.kind));
    }
    let text = metrics.render();
    let processes = text.lines().filter_map(|line| line.strip_prefix("# TYPE process_"));
    found.extend(processes.map(|rest| format!("process_{rest} {{}}")));
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    found.extend(samples.filter_map(series));
    found
}

/// `name{label="value"}` of a sample, without what differs from run to run. A histogram is one series.
fn series(sample: &str) -> Option<String> {
    let (name, rest) = sample.split_once('{')?;
    let (labels, _) = rest.rsplit_once('}')?;
    let differs = labels.starts_with("version=") || labels.contains("le=\"");
    let name = name.strip_suffix("_count").unwrap_or(name);
    (!differs && !name.ends_with("_sum")).then(|| format!("{name}{{{labels}}}"))
}

/// Health codes of the API's description, each with the values that come with it.
pub(crate) fn health_codes(words: &[String]) -> BTreeSet<String> {
    let values = |word: &String| {
        let code = serde_json::from_value::<Code>(Value::from(word.as_str()));
        code.map_or("not known".to_owned(), |code| code.values().join(", "))
    };
    words.iter().map(|word| format!("{word} {{{}}}", values(word))).collect()
}

#[cfg(test)]
mod tests {
    use super::{health_codes, series};

    #[test]
    fn a_series_keeps_only_what_does_not_differ_from_run_to_run() {
        let check = |sample, expected: Option<&str>| {
            assert_eq!(series(sample).as_deref(), expected, "{sample}");
        };
        check("a_total{status=\"failed\"} 3", Some("a_total{status=\"failed\"}"));
        check("a_bucket{stage=\"read\",le=\"+Inf\"} 0", None);
        check("a_sum{stage=\"read\"} 0", None);
        check("a_count{stage=\"read\"} 0", Some("a{stage=\"read\"}"));
        check("walferry_build_info{version=\"0.1.0\"} 1", None);
        check("a 1", None);
    }

    #[test]
    fn a_health_code_is_listed_with_its_values() {
        let words = ["stuck_jobs", "changes_late"].map(str::to_owned);
        let found: Vec<String> = health_codes(&words).into_iter().collect();
        assert_eq!(found, ["changes_late {count, seconds}", "stuck_jobs {count}"]);
    }
}
