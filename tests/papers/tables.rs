//! Markdown tables that are written from the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};
use serde_json::Value;
use walferry::command::Arguments;
use walferry::config::{SETTINGS, Setting};
use walferry::telemetry::metrics::Metrics;
use walferry::telemetry::waits::WaitName;

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

/// Settings by section, in their order; the section without a name is the empty one.
fn sections() -> Vec<(&'static str, Vec<&'static Setting>)> {
    let mut sections: Vec<(&str, Vec<&Setting>)> = Vec::new();
    for setting in SETTINGS {
        let section = setting.key.split_once('.').map_or("", |(section, _)| section);
        match sections.iter_mut().find(|(known, _)| *known == section) {
            Some((_, settings)) => settings.push(setting),
            None => sections.push((section, vec![setting])),
        }
    }
    sections
}

/// The keys of each section.
pub(super) fn keys() -> String {
    let key = |setting: &&Setting| code(setting.key.rsplit('.').next().unwrap_or_default());
    let rows = sections().into_iter().map(|(section, settings)| {
        let section = if section.is_empty() { "none".to_owned() } else { code(section) };
        vec![section, settings.iter().map(key).collect::<Vec<_>>().join(", ")]
    });
    table(&["section", "keys"], rows)
}

/// What the pipeline may wait for.
pub(super) fn waits() -> String {
    let row = |name: WaitName| {
        let wait = name.description();
        let seconds = wait.bound.as_secs();
        vec![
            code(wait.name),
            wait.waits_for.to_owned(),
            format!("{seconds} s"),
            wait.past_bound.to_owned(),
        ]
    };
    table(&["wait", "waits for", "bound", "past the bound"], WaitName::ALL.map(row))
}

/// A table for each section of the settings.
pub(super) fn settings() -> String {
    let columns = ["key", "environment variable", "default", "values", "meaning"];
    let tables = sections().into_iter().map(|(section, settings)| {
        let title = match section {
            "" => "### Without a section".to_owned(),
            section => format!("### Section `{section}`"),
        };
        format!("{title}\n\n{}", table(&columns, settings.into_iter().map(row)))
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

/// Parameters in queries, and members of bodies. Routes that share one share its row.
pub(super) fn parameters() -> String {
    let api = openapi();
    let mut found = Vec::new();
    for (route, operation) in once(&api) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" {
                let name = parameter["name"].as_str().unwrap_or_default();
                found.push((route.clone(), parameter_cells(name, &parameter["schema"])));
            }
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        for (name, schema) in description::members_of(&resolved(&api, body)["properties"]) {
            found.push((route.clone(), parameter_cells(name, schema)));
            for (inner, schema) in description::members_of(&resolved(&api, schema)["properties"]) {
                found.push((route.clone(), parameter_cells(&format!("{name}.{inner}"), schema)));
            }
        }
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (route, cells) in found {
        let route = code(route.replace("/api/v1/queue/", "…/"));
        match rows.iter_mut().find(|row| row[1..] == cells && row[0].contains("/operations/")) {
            Some(row) => row[0] = format!("{}, {route}", row[0]),
            None => rows.push([vec![route], cells].concat()),
        }
    }
    table(&["route", "parameter", "type", "values"], rows)
}

fn resolved<'a>(api: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    pointer.and_then(|pointer| api.pointer(pointer)).unwrap_or(schema)
}

/// Name, type and values.
fn parameter_cells(name: &str, schema: &Value) -> Vec<String> {
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        kinds => kinds[0].as_str().unwrap_or("object"),
    };
    let values = schema["description"].as_str().unwrap_or_default();
    vec![code(name), kind.to_owned(), values.trim_end_matches('.').to_owned()]
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
    let help = text(arg.get_help());
    let (meaning, stated) = help.split_once(" [env:").unwrap_or((&help, ""));
    let stated = stated.split_once("[default: ").map(|(_, rest)| rest.trim_end_matches(']'));
    let defaults = arg.get_default_values().iter().map(|value| code(value.display()));
    let default = match stated {
        Some(stated) => code(stated),
        None if arg.is_required_set() => "required".to_owned(),
        None => defaults.filter(|_| arg.get_action().takes_values()).collect(),
    };
    vec![command.to_owned(), code(arg), default, meaning.to_owned()]
}

fn text(help: Option<&clap::builder::StyledStr>) -> String {
    help.map(ToString::to_string).unwrap_or_default()
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
