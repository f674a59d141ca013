//! Markdown tables that are written from the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};
use serde_json::Value;
use walferry::command::Arguments;
use walferry::config::{SETTINGS, Setting};
use walferry::metrics::Metrics;

use crate::contract::{description, openapi};

/// A table of `columns`, a row for each of `rows`.
fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", columns.join(" | "), " --- |".repeat(columns.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("a String takes what is written");
    }
    text
}

fn code(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

/// A table for each section of the settings.
pub(super) fn settings() -> String {
    let mut sections: Vec<(&str, Vec<&Setting>)> = Vec::new();
    for setting in SETTINGS {
        let section = setting.key.split_once('.').map_or("", |(section, _)| section);
        match sections.iter_mut().find(|(known, _)| *known == section) {
            Some((_, settings)) => settings.push(setting),
            None => sections.push((section, vec![setting])),
        }
    }
    let columns = ["key", "environment variable", "default", "values", "meaning"];
    let tables = sections.iter().map(|(section, settings)| {
        let title = match *section {
            "" => "### Without a section".to_owned(),
            section => format!("### Section `{section}`"),
        };
        format!("{title}\n\n{}", table(&columns, settings.iter().map(|setting| row(setting))))
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn row(setting: &Setting) -> Vec<String> {
    let variable = code(setting.variable());
    let default = match setting.default {
        "" => setting.unset.to_owned(),
        default => code(default),
    };
    vec![
        code(setting.key),
        setting.alias.map_or(variable.clone(), |alias| format!("{}, {variable}", code(alias))),
        default,
        setting.kind.describe(),
        setting.purpose.to_owned(),
    ]
}

/// A route for each line; routes of the queue under their first prefix.
pub(super) fn routes() -> String {
    let api = openapi();
    let rows = once(&api).map(|(route, operation)| {
        let (method, path) = route.split_once(' ').expect("a method and a path");
        let role = operation["x-role"].as_str().unwrap_or_default().to_owned();
        let what = operation["summary"].as_str().unwrap_or_default().to_owned();
        vec![method.to_owned(), code(path), role, what]
    });
    table(&["method", "path", "role", "what"], rows)
}

/// The routes of each role.
pub(super) fn roles() -> String {
    let api = openapi();
    let mut by_role: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (route, operation) in once(&api) {
        let role = operation["x-role"].as_str().unwrap_or_default();
        by_role.entry(role).or_default().push(code(route));
    }
    let order = ["public", "viewer", "operator", "admin"];
    let rows = order.iter().filter_map(|role| Some((role, by_role.get(role)?)));
    let rows = rows.flat_map(|(role, routes)| {
        routes.iter().map(|route| vec![(*role).to_owned(), route.clone()]).collect::<Vec<_>>()
    });
    table(&["role", "route"], rows)
}

/// Each route once, although the queue's stand under two prefixes.
fn once(api: &Value) -> impl Iterator<Item = (String, &Value)> {
    description::operations(api).filter(|(route, _)| !route.contains("/ai-suggestions/"))
}

/// Parameters in queries, and members of bodies.
pub(super) fn parameters() -> String {
    let api = openapi();
    let mut rows = Vec::new();
    for (route, operation) in once(&api) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" {
                let name = parameter["name"].as_str().unwrap_or_default();
                rows.push(parameter_row(&route, name, &parameter["schema"]));
            }
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        for (name, schema) in description::members_of(&resolved(&api, body)["properties"]) {
            rows.push(parameter_row(&route, name, schema));
            for (inner, schema) in description::members_of(&resolved(&api, schema)["properties"]) {
                rows.push(parameter_row(&route, &format!("{name}.{inner}"), schema));
            }
        }
    }
    table(&["route", "parameter", "type", "values"], rows)
}

fn resolved<'a>(api: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    pointer.and_then(|pointer| api.pointer(pointer)).unwrap_or(schema)
}

fn parameter_row(route: &str, name: &str, schema: &Value) -> Vec<String> {
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        kinds => kinds[0].as_str().unwrap_or("object"),
    };
    let values = schema["description"].as_str().unwrap_or_default();
    let path = route.replace("/api/v1/queue/", "…/");
    vec![code(path), code(name), kind.to_owned(), values.trim_end_matches('.').to_owned()]
}

/// Commands, then their options.
pub(super) fn commands() -> String {
    let mut root = Arguments::command();
    root.build();
    let mut commands = Vec::new();
    let mut options: Vec<Vec<String>> =
        own(&root, true).map(|arg| option_row("every command", arg)).collect();
    for command in leaves(&root, "") {
        commands.push(vec![code(&command.path), text(command.clap.get_about())]);
        options.extend(own(command.clap, false).map(|arg| option_row(&code(&command.path), arg)));
    }
    let commands = table(&["command", "what it does"], commands);
    format!("{commands}\n{}", table(&["command", "option", "default", "meaning"], options))
}

struct Leaf<'a> {
    path: String,
    clap: &'a Command,
}

fn leaves<'a>(command: &'a Command, parent: &str) -> Vec<Leaf<'a>> {
    let path = format!("{parent} {}", command.get_name()).trim().to_owned();
    let mut children = command.get_subcommands().filter(|child| child.get_name() != "help");
    let leaves: Vec<Leaf<'a>> = children.by_ref().flat_map(|child| leaves(child, &path)).collect();
    if leaves.is_empty() { vec![Leaf { path, clap: command }] } else { leaves }
}

fn own(command: &Command, global: bool) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(move |arg| {
        let is_plain = !["help", "version"].contains(&arg.get_id().as_str());
        is_plain && arg.is_global_set() == global
    })
}

fn option_row(command: &str, arg: &Arg) -> Vec<String> {
    let defaults = arg.get_default_values().iter().map(|value| code(value.display()));
    let takes_values = arg.get_action().takes_values();
    let default = if arg.is_required_set() {
        "required".to_owned()
    } else {
        defaults.filter(|_| takes_values).collect()
    };
    vec![command.to_owned(), code(arg), default, text(arg.get_help())]
}

/// Without the marks of clap's own help, which say what other columns say.
fn text(help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    help.split(" [env:").next().unwrap_or_default().to_owned()
}

/// Metrics of walferry's own.
pub(super) fn metrics() -> String {
    let metrics = Metrics::new();
    let rows = metrics.descriptions().iter().map(|metric| {
        let labels = metric.labels.iter().map(code).collect::<Vec<_>>().join(", ");
        let meaning = metric.help.trim_end_matches('.').to_owned();
        vec![code(&metric.name), metric.kind.to_owned(), labels, meaning]
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    rows.sort();
    table(&["name", "type", "labels", "meaning"], rows)
}
