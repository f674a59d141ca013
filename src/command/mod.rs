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
mod check;
mod healthcheck;
mod jobs;
mod maintain;
mod migrate;
mod operate;
mod rebuild;
mod run;
pub mod shutdown;
mod status;
mod token;

use std::io::{self, Write};

use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::admin::jobs::filter::Filter;
use crate::api::auth::token::TokenError;
use crate::api::routes::openapi;
use crate::config::{self, Config, ConfigError, Needs, Strings};
use crate::engine::document::parse;
use crate::engine::document::parse::DefinitionError;
use crate::engine::preflight::TableName;
use crate::engine::run::{RunError, RunOptions};
use crate::postgres::{self, ConnectError, Session};
use crate::storage::queue::maintain::MaintainError;
use crate::storage::schema::MigrateError;

pub use crate::postgres::error::sentence;
pub use arguments::{Arguments, Command};
pub use healthcheck::HealthError;
use jobs::FailedJobAction;
pub use jobs::JobsError;
pub use operate::OperateError;
pub use rebuild::RebuildError;
pub use status::StatusError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0} fault(s) in the environment, listed above with the SQL that mends them")]
    Faults(usize),
    #[error(transparent)]
    Maintain(#[from] MaintainError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
    #[error(transparent)]
    Operate(#[from] OperateError),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("could not listen for signals or write to standard output")]
    System(#[from] io::Error),
}

impl CommandError {
    /// The process' exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Definition(_) => 2,
            Self::Connect(_) | Self::Faults(_) | Self::Maintain(_) | Self::Migrate(_) => 3,
            Self::Rebuild(error) => error.exit_code(),
            Self::Jobs(error) => error.exit_code(),
            Self::Operate(error) => error.exit_code(),
            Self::Status(error) => error.exit_code(),
            Self::Run(error) => error.exit_code(),
            Self::Health(_) | Self::Token(_) | Self::System(_) => 1,
        }
    }
}

/// Does what the command line asks, and returns when it is done.
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
            let session = connect(&config).await?;
            let text = rebuild::run(session.client, &config.slot, yes).await?;
            Ok(say(&text)?)
        }
        Command::Token { what } => Ok(say(&token::run(what)?)?),
        Command::Openapi => Ok(say(&format!("{:#}", openapi::document()))?),
        Command::Healthcheck => {
            let address = config::listen(&flags, environment)?;
            Ok(healthcheck::run(address).await?)
        }
        other => {
            let config = load(Needs::Database)?;
            at_queue(other, &config).await
        }
    }
}

/// What looks at the queue or operates it.
async fn at_queue(command: Command, config: &Config) -> Result<(), CommandError> {
    let definition = parse::parse(config.definition.as_ref())?;
    let tables: Vec<String> = definition.tables.iter().map(|table| table.name.clone()).collect();
    let session = connect(config).await?;
    let (client, slot) = (&session.client, &config.slot);
    let text = match command {
        Command::Jobs { choice, status, limit, json } => {
            let (status, stuck) = status.unwrap_or_default();
            let filter = Filter { status, stuck, ..choice.filter() };
            jobs::list(client, &filter, &tables, (limit, json)).await?
        }
        Command::Job { id, json } => {
            let private = |table: &str| definition.private_columns(table);
            status::job(client, id, private, json).await?
        }
        Command::Status { json } => {
            let told = status::status(client, slot, json).await?;
            say(&told.text)?;
            return if told.unhealthy { Err(StatusError::Unhealthy.into()) } else { Ok(()) };
        }
        Command::Retry { choice, all, dry_run } => {
            let filter = choice.filter();
            jobs::failed(client, (&filter, all), &tables, (&FailedJobAction::Retry, dry_run))
                .await?
        }
        Command::Discard { choice, all, dry_run, reason } => {
            let (filter, deed) = (choice.filter(), FailedJobAction::Discard(reason));
            jobs::failed(client, (&filter, all), &tables, (&deed, dry_run)).await?
        }
        Command::Start => operate::choose(client, slot, true).await?,
        Command::Stop => operate::choose(client, slot, false).await?,
        Command::Clear { yes } => operate::clear(client, yes).await?,
        Command::Resync { table, record_id } => {
            operate::resync(client, &tables, &table, record_id).await?
        }
        Command::Audit { limit, json } => operate::audit(client, limit, json).await?,
        _ => unreachable!("`run` does every other command"),
    };
    Ok(say(&text)?)
}

async fn connect(config: &Config) -> Result<Session, ConnectError> {
    postgres::connect(&config.database, "walferry").await
}

/// The tables that the definition reads from and whose changes are published.
fn tables(config: &Config) -> Result<Vec<TableName>, DefinitionError> {
    let definition = parse::parse(config.definition.as_ref())?;
    Ok(definition.tables.into_iter().map(|table| (table.schema, table.name)).collect())
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", text.trim_end())
}

/// The server's version and who we are to it, for a heading.
async fn heading(client: &Client) -> Result<String, tokio_postgres::Error> {
    let sql = "select format('PostgreSQL %s, database %s, role %s',
        current_setting('server_version'), current_database(), current_user)";
    client.query_one(sql, &[]).await?.try_get(0)
}
