//! The binary: starts the runtime and the log, runs the command and returns its exit code.
//!
//! Not here: the commands (`walferry::command`).

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use walferry::command::{self, Arguments, Command};
use walferry::config;
use walferry::telemetry::log;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = config::environment();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("could not start threads: {error}"), 1),
    };
    // Only `run` lives long enough for traces to be exported.
    let traces = matches!(arguments.command, Command::Run { .. }).then(|| runtime.handle());
    let log = match log::start(&environment, traces) {
        Ok(log) => log,
        Err(error) => return fail(&error.to_string(), 2),
    };
    let result = command::run(&runtime, arguments, &environment);
    log.close();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&command::sentence(&error), error.exit_code()),
    }
}

/// Prints an error to standard error and returns the exit code.
fn fail(sentence: &str, code: u8) -> ExitCode {
    // If standard error is closed, the error cannot be reported.
    drop(writeln!(io::stderr(), "walferry: {sentence}"));
    ExitCode::from(code)
}
