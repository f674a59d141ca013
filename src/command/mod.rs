//! The command line: which command, with which settings, ends with which code.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | anything else went wrong |
//! | 2 | the command line or the configuration is wrong |
//! | 3 | the environment is: PostgreSQL or Elasticsearch is missing something |
//!
//! Not here: what a command does beyond a few lines.

mod arguments;
mod audit;
mod check;
mod clear;
mod error;
mod healthcheck;
mod indexing;
mod job;
mod jobs;
mod maintain;
mod migrate;
mod operation;
mod output;
mod queue;
mod rebuild;
mod resync;
mod run;
mod session;
pub mod shutdown;
mod status;
mod token;

use tokio::runtime::Runtime;

use crate::api::routes::{openapi, routes};
use crate::config::{self, Needs, Strings};
use crate::engine::run::RunOptions;

pub use crate::postgres::error::sentence;
pub use arguments::{Arguments, Command};
pub use error::CommandError;

/// Runs the command of a command line, and returns when it is done.
///
/// The runtime is entered here rather than in the binary: a future is compiled where it is awaited,
/// and the binary would compile the whole program a second time.
///
/// # Errors
///
/// [`CommandError`], with its exit code.
pub fn run(
    runtime: &Runtime,
    arguments: Arguments,
    environment: &Strings,
) -> Result<(), CommandError> {
    runtime.block_on(dispatch(arguments, environment))
}

async fn dispatch(arguments: Arguments, environment: &Strings) -> Result<(), CommandError> {
    let flags = arguments.flags();
    let load = |needs| config::load(&flags, environment, needs);
    match arguments.command {
        Command::Run { once } => {
            let shutdown = shutdown::on_signals()?;
            let config = load(Needs::Both)?;
            Ok(Box::pin(run::run(config, RunOptions { once }, shutdown)).await?)
        }
        Command::Migrate { runtime_role } => {
            migrate::run(&load(Needs::Database)?, runtime_role).await
        }
        Command::Maintain { dry_run, recount } => {
            maintain::run(&load(Needs::Database)?, maintain::Options { dry_run, recount }).await
        }
        Command::Check => check::run(&load(Needs::Both)?).await,
        Command::Rebuild { yes } => {
            let config = load(Needs::Database)?;
            let session = session::connect(&config).await?;
            let text = rebuild::run(session.client, &config.slot, yes).await?;
            Ok(output::say(&text)?)
        }
        Command::Queue(command) => queue::run(command, &load(Needs::Database)?).await,
        Command::Token { what } => Ok(output::say(&token::run(what)?)?),
        Command::Openapi => Ok(output::say(&format!("{:#}", openapi::document(&routes())))?),
        Command::Healthcheck => {
            let address = config::listen(&flags, environment)?;
            Ok(healthcheck::run(address).await?)
        }
    }
}
