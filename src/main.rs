//! Starts walferry: runtime, log, command, exit code.

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
    // The other commands are done before a collector would hear of them.
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

fn fail(sentence: &str, code: u8) -> ExitCode {
    // With standard error closed there is nobody left to tell.
    drop(writeln!(io::stderr(), "walferry: {sentence}"));
    ExitCode::from(code)
}
