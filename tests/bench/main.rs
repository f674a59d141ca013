//! Measures what DESIGN's targets speak of, against servers of its own: how fast a backlog is caught
//! up and what that costs, then how long a change takes at a steady pace.
//!
//! `./bench` runs all; `./bench plain`, `./bench backlog` (the built-in definition), `./bench drain`,
//! `./bench api` or `./bench latency` runs one part. Three runs each after
//! one to warm the servers up, each with a new database and new indices, on an otherwise idle
//! machine; the medians are the figures. Nothing is asserted about speed: a machine is not a contract.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::process::ExitCode;

mod api;
mod backlog;
mod cost;
mod drain;
mod figures;
mod latency;
mod load;
mod rig;
#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "its own tests are not compiled here")]
mod support;
mod watch;

/// One index of the listings' own columns with standard analysis, as the peers were measured.
const PLAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/plain.toml");

/// Runs of each part.
const RUNS: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts benchmarks too, without this argument.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("started by ./bench only");
        return ExitCode::SUCCESS;
    }
    let wants = |part: &str| {
        let mut parts = arguments.iter().filter(|argument| !argument.starts_with("--")).peekable();
        parts.peek().is_none() || parts.any(|argument| argument == part)
    };
    for (part, definition) in [("plain", Some(PLAIN)), ("backlog", None)] {
        if !wants(part) {
            continue;
        }
        let mut runs = Vec::new();
        println!("{part}, to warm up: {}", backlog::run(definition).await);
        for run in 1..=RUNS {
            let figures = backlog::run(definition).await;
            println!("{part} {run}: {figures}");
            runs.push(figures);
        }
        println!("{part}, medians: {}", figures::median_run(&runs));
    }
    if wants("drain") {
        let (seconds, per_second) = drain::run().await;
        println!("drain: {seconds:.1} s, {per_second:.0} changes/s");
    }
    if wants("api") {
        println!("api: {}", api::answers().await);
        println!("api, 500 requests and 100 streams beside a drain:\n{}", api::crowd(RUNS).await);
    }
    if wants("latency") {
        for run in 1..=RUNS {
            let latency = latency::run().await;
            println!("latency {run}: {latency}");
        }
    }
    ExitCode::SUCCESS
}
