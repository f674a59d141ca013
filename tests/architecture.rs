//! The layout rules of ARCHITECTURE.md, held: imports look left; files and functions stay small;
//! every file opens with its promise; one file builds HTTP clients, one hall reads the
//! environment; lines are short enough to read side by side.
//!
//! Each rule is a function from a file's text to its breaches, so the tests below can show that it
//! fails when it should.

mod circles;
mod comments;
mod lines;
mod log_fields;
mod map;
mod moves;
mod source;
mod statements;

use std::path::{Path, PathBuf};

use source::{functions, lines_without_tests, paths, tokens};

/// Left to right. A module may use only itself and what stands to its left.
const HALLS: &[&str] = &[
    "change",
    "value",
    "config",
    "ack",
    "telemetry",
    "postgres",
    "storage",
    "engine",
    "admin",
    "api",
    "command",
];

/// The same within `engine`: the way of the data, then what observes and wires it.
const STAGES: &[&str] = &[
    "control",
    "wal",
    "recorder",
    "document",
    "feed",
    "sink",
    "checkpoint",
    "supervisor",
    "preflight",
    "run",
    "simulation",
];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// A rule: the file's path below `src` and its text → what is wrong, a sentence each.
type Rule = fn(&str, &str) -> Vec<String>;

fn imports_look_left(file: &str, text: &str) -> Vec<String> {
    let own = module_path(file);
    let Some(hall) = own.first() else { return Vec::new() };
    if !HALLS.contains(&hall.as_str()) {
        return vec![format!("{hall} has no place in the order of modules")];
    }
    let used = paths(&tokens(text));
    let used = used
        .iter()
        .filter_map(|path| Some((path.line, absolute(&own, &path.segments, path.inline_depth)?)));
    used.filter_map(|(line, path)| {
        let breach =
            looks_right(HALLS, &own, &path).or_else(|| match (own.get(1), hall.as_str()) {
                (Some(_), "engine") if path.first() == Some(hall) => {
                    looks_right(STAGES, &own[1..], &path[1..])
                }
                _ => None,
            });
        breach.map(|breach| format!("line {line}: {breach}"))
    })
    .collect()
}

/// What is wrong with a use of `path` by the module `own`, by the first name of each.
fn looks_right(order: &[&str], own: &[String], path: &[String]) -> Option<String> {
    let own = own.first()?;
    let used = path.first().map_or("(itself)", String::as_str);
    let place = |name: &str| order.iter().position(|known| *known == name);
    match (place(own), place(used)) {
        (Some(own), Some(used)) if used <= own => None,
        (Some(_), Some(_)) => Some(format!("{own} uses {used}, to its right")),
        _ => Some(format!("{used}, used by {own}, is no module of the order")),
    }
}

/// `engine/wal/slot.rs` → `[engine, wal, slot]`; nothing for `main.rs` and `lib.rs`.
fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    match path {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// A path from the crate's root; `None` where it leads out of the crate or stays in the module.
fn absolute(own: &[String], segments: &[String], inline_depth: usize) -> Option<Vec<String>> {
    match segments.first()?.as_str() {
        "crate" | "walferry" => Some(segments[1..].to_vec()),
        "super" => {
            let ups = segments.iter().take_while(|segment| *segment == "super").count();
            let ups_of_file = ups.checked_sub(inline_depth).filter(|ups| *ups > 0)?;
            let kept = own.len().checked_sub(ups_of_file)?;
            Some([&own[..kept], &segments[ups..]].concat())
        }
        _ => None,
    }
}

fn is_small(_: &str, text: &str) -> Vec<String> {
    let lines = lines_without_tests(text);
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{lines} lines; {FILE_LINES_MAX} are the limit")]
}

fn has_small_functions(_: &str, text: &str) -> Vec<String> {
    let long = functions(&tokens(text)).into_iter().filter(|f| f.code_lines > FUNCTION_LINES_MAX);
    long.map(|f| format!("line {}: fn {} has {} lines", f.line, f.name, f.code_lines)).collect()
}

fn opens_with_its_promise(_: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") {
        return Vec::new();
    }
    vec!["does not open with //!".to_owned()]
}

/// Redirects and proxies are decided in one place.
fn leaves_requests_to_the_clients(file: &str, text: &str) -> Vec<String> {
    if file == "telemetry/http_client.rs" {
        return Vec::new();
    }
    let mut lines = lines_that_name(text, &["reqwest", "Client", "builder"], "an HTTP client");
    lines.extend(lines_that_name(text, &["Client", "builder"], "an HTTP client"));
    lines.extend(lines_that_name(text, &["reqwest", "ClientBuilder"], "an HTTP client"));
    lines
}

fn leaves_the_environment_to_config(file: &str, text: &str) -> Vec<String> {
    if file.starts_with("config/") {
        return Vec::new();
    }
    lines_that_name(text, &["std", "env"], "std::env")
}

/// A line of the log is told from others by the code in its field `event`.
fn has_a_code_on_every_log_line(_: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let is_line = |at: &usize| {
        let level = ["error", "warn", "info"].contains(&tokens[*at].text.as_str());
        level && is(at + 1, "!") && is(at + 2, "(")
    };
    let has_code = |at: &usize| {
        let mut depth = 0_usize;
        let inside = tokens[at + 2..].iter().take_while(|token| {
            match token.text.as_str() {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            depth > 0
        });
        inside.collect::<Vec<_>>().windows(2).any(|pair| {
            let [name, equals] = [&pair[0].text, &pair[1].text];
            name == "event" && equals == "="
        })
    };
    let uncoded = (0..tokens.len()).filter(is_line).filter(|at| !has_code(at));
    uncoded.map(|at| format!("line {}: no event in the log's line", tokens[at].line)).collect()
}

fn lines_that_name(text: &str, start: &[&str], what: &str) -> Vec<String> {
    let used = paths(&tokens(text));
    let named = used.iter().filter(|path| {
        path.segments.len() >= start.len() && path.segments.iter().zip(start).all(|(a, b)| a == b)
    });
    named.map(|path| format!("line {}: names {what}", path.line)).collect()
}

/// Every Rust file below `src` as (path below src, text).
fn sources() -> Vec<(String, String)> {
    files_below("src", "rs")
}

/// Every file of this kind below a folder of the repository, as (path below it, text).
fn files_below(folder: &str, kind: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == kind) {
                files.push(path);
            }
        }
    }
    let below = |path: &Path| path.strip_prefix(&root).expect("it is below the folder").to_owned();
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("sources are text");
    files.iter().map(|path| (below(path).display().to_string(), read(path))).collect()
}

#[track_caller]
fn check_sources(rule: Rule) {
    let breaches: Vec<String> = sources()
        .iter()
        .flat_map(|(file, text)| {
            rule(file, text).into_iter().map(move |b| format!("src/{file}: {b}"))
        })
        .collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_import_looks_left() {
    check_sources(imports_look_left);
}

#[test]
fn every_file_is_small() {
    check_sources(is_small);
}

#[test]
fn every_function_is_small() {
    check_sources(has_small_functions);
}

#[test]
fn every_file_opens_with_its_promise() {
    check_sources(opens_with_its_promise);
}

#[test]
fn only_one_file_builds_an_http_client() {
    check_sources(leaves_requests_to_the_clients);
}

#[test]
fn only_config_reads_the_environment() {
    check_sources(leaves_the_environment_to_config);
}

#[test]
fn every_log_line_has_a_code() {
    check_sources(has_a_code_on_every_log_line);
}

/// Whether `rule` finds exactly `breaches` breaches in `text`.
#[track_caller]
fn check(rule: Rule, file: &str, text: &str, breaches: usize) {
    let found = rule(file, text);
    assert_eq!(found.len(), breaches, "{file}: {text}\n{found:?}");
}

#[test]
fn an_import_to_the_right_is_found_in_every_form() {
    let rule = imports_look_left;
    let own = "storage/lease.rs";
    check(rule, own, "use crate::change::Lsn; use crate::storage::position;", 0);
    check(rule, own, "use crate::engine::feed::Feed;", 1);
    check(rule, own, "use crate::{change::Lsn, config, engine::{wal, run}};", 2);
    check(rule, own, "fn f() { crate::admin::send(crate::value::x()) }", 1);
    check(rule, own, "fn f(x: &crate::engine::Run, y: Vec<crate::api::Y>) {}", 2);
    check(rule, own, "use super::super::api::Page;", 1);
    check(rule, own, "use super::position::Position;", 0);
    check(rule, "storage/mod.rs", "use super::api::Page;", 1);
    check(rule, "storage.rs", "use super::{api, change};", 1);
    check(rule, own, "mod tests { use super::super::position; use super::*; }", 0);
    check(rule, "storage.rs", "mod tests { use super::super::api; }", 1);
    check(rule, own, "use walferry::api;", 1);
    check(rule, own, "use crate as c;", 1);
    check(rule, own, "use crate::*;", 1);
    check(rule, own, "use crate::helpers::x;", 1);
    check(rule, "helpers.rs", "", 1);
    check(rule, "main.rs", "use walferry::engine::run;", 0);
    check(rule, own, "// crate::api\n/* crate::api /* */ crate::api */\n", 0);
    check(rule, own, r##"const A: &str = "crate::api \" crate::api"; "##, 0);
    check(rule, own, "const A: &str = r#\"crate::api\"#; use crate::api;", 1);
    check(rule, own, "fn f<'a>(c: char) -> bool { c == '\"' && crate::api::f() }", 1);
    check(rule, own, "pub(crate) fn f() { self::g(); } pub(in crate::storage) fn g() {}", 0);
}

#[test]
fn an_import_against_the_way_of_the_data_is_found() {
    let rule = imports_look_left;
    check(rule, "engine/feed/emit.rs", "use crate::engine::wal::Captured;", 0);
    check(rule, "engine/feed/emit.rs", "use crate::engine::sink::Sink; use crate::storage::x;", 1);
    check(rule, "engine/feed/render/read.rs", "use super::super::super::run::Context;", 1);
    check(rule, "engine/wal/open.rs", "use super::super::recorder::Recorder;", 1);
    check(rule, "engine/wal/mod.rs", "use super::recorder::Recorder; use super::wal::x;", 1);
    check(rule, "engine/run/mod.rs", "use crate::engine::nowhere::X;", 1);
    check(rule, "engine/mod.rs", "use crate::engine::run::Run;", 0);
}

#[test]
fn a_crate_in_the_wrong_file_is_found_in_every_form() {
    let rule = leaves_requests_to_the_clients;
    check(rule, "telemetry/http_client.rs", "fn f() { reqwest::Client::builder() }", 0);
    check(rule, "engine/sink/node.rs", "fn f() { reqwest::Client::builder() }", 1);
    check(rule, "engine/sink/bulk.rs", "fn f() { reqwest::Client::builder() }", 1);
    check(rule, "api/auth/keys.rs", "use reqwest::Client; fn f() { Client::builder() }", 1);
    check(rule, "api/auth/keys.rs", "use reqwest::ClientBuilder;", 1);
    check(rule, "api/auth/keys.rs", "use reqwest::Client; fn f(c: &Client) {}", 0);
    let rule = leaves_the_environment_to_config;
    check(rule, "config/mod.rs", "fn f() { std::env::var(\"A\") }", 0);
    check(rule, "main.rs", "use std::env;", 1);
    check(rule, "main.rs", "use std::{env::{self, var}, fmt};", 2);
    check(rule, "main.rs", "fn f() { std::env::args() } const V: &str = env!(\"V\");", 1);
}

#[test]
fn a_log_line_without_a_code_is_found() {
    let rule = has_a_code_on_every_log_line;
    check(rule, "a.rs", r#"fn f() { tracing::warn!(event = "a", x = f(1), "words"); }"#, 0);
    check(rule, "a.rs", r#"fn f() { warn!(x = f(event), "event = a"); info!("b"); }"#, 2);
    check(rule, "a.rs", r#"fn f() { error!("a"); g(event = 1); debug!("b"); }"#, 1);
}

#[test]
fn what_grows_too_long_is_found() {
    let lines = |count: usize| "    x();\n".repeat(count);
    check(is_small, "a.rs", &lines(400), 0);
    check(is_small, "a.rs", &lines(401), 1);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(400), lines(900));
    check(is_small, "a.rs", &tests, 0);
    let then_more = format!("{tests}fn after() {{}}\n");
    check(is_small, "a.rs", &then_more, 1);

    let function = |count: usize| format!("fn f(a: [u8; 3]) -> X {{\n{}}}\n", lines(count));
    check(has_small_functions, "a.rs", &function(70), 0);
    check(has_small_functions, "a.rs", &function(71), 1);
    let commented = format!("fn f() {{\n{}{}}}\n", lines(70), "    // why\n\n".repeat(9));
    check(has_small_functions, "a.rs", &commented, 0);
    check(has_small_functions, "a.rs", &format!("trait T {{ fn f(); {} }}", function(71)), 1);

    check(opens_with_its_promise, "a.rs", "//! Counts.\n", 0);
    check(opens_with_its_promise, "a.rs", "// Counts.\n", 1);
    check(opens_with_its_promise, "a.rs", "use a::b;\n//! Counts.\n", 1);
}
