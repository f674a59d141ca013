//! Benchmarks of walferry on its own servers: the throughput and the cost of a backlog, and the
//! latency of changes at a constant rate.
//!
//! `./bench` runs all; `./bench plain`, `./bench backlog` (the built-in definition), `./bench drain`,
//! `./bench api`, `./bench latency`, `./bench flood` or `./bench fanout` runs one part. Each part has
//! three runs after a warm-up run, each with a new database and new indices. The results are the
//! medians. Run them on an idle machine. No speed is asserted, because it depends on the machine.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::process::ExitCode;

mod api;
mod backlog;
mod cost;
mod drain;
mod fanout;
mod figures;
mod flood;
mod latency;
mod load;
mod rig;
#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "its own tests are not compiled here")]
mod support;
mod watch;

/// A definition with one index of the listings' columns and standard analysis.
const PLAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/plain.toml");

/// The runs of each part.
const RUNS: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts benchmarks as well, without this argument.
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
    if wants("flood") {
        println!("flood:\n{}", flood::run(RUNS).await);
    }
    if wants("fanout") {
        println!("fanout: {}", fanout::run().await);
    }
    ExitCode::SUCCESS
}
