//! Starts walferry: log, runtime, command, exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use walferry::command::{self, Arguments};
use walferry::config::{self, Strings};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = config::environment();
    if let Err(reason) = start_log(&environment) {
        return fail(&reason, 2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("could not start threads: {error}"), 1),
    };
    match runtime.block_on(command::run(arguments, &environment)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&command::sentence(&error), error.exit_code()),
    }
}

/// Readable on a terminal, JSON elsewhere; always on standard error.
fn start_log(environment: &Strings) -> Result<(), String> {
    let directives = environment.get("RUST_LOG").map_or("", String::as_str);
    let directives = if directives.is_empty() { "info" } else { directives };
    let filter = EnvFilter::try_new(directives).map_err(|_| {
        format!("RUST_LOG={directives:?} is not a filter; write info or walferry=debug")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        let colours = environment.get("NO_COLOR").is_none_or(String::is_empty);
        log.with_ansi(colours).init();
    } else {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
    Ok(())
}

fn fail(sentence: &str, code: u8) -> ExitCode {
    // With standard error closed there is nobody left to tell.
    drop(writeln!(io::stderr(), "walferry: {sentence}"));
    ExitCode::from(code)
}
