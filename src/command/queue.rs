//! The commands that read the queue or operate it, on one session.

use std::time::Duration;

use tokio_postgres::Client;

use super::arguments::QueueCommand;
use super::error::CommandError;
use super::jobs::FailedJobsArguments;
use super::operation::{BackfillArguments, VerifyArguments};
use super::output::say;
use super::status::StatusError;
use super::{audit, clear, indexing, job, jobs, operation, resync, session, status};
use crate::admin::audited::Operator;
use crate::admin::jobs::filter::Filter;
use crate::admin::jobs::operations::RestoreRequest;
use crate::admin::operation::VerifyRequest;
use crate::config::Config;
use crate::engine::document::definition::Definition;
use crate::engine::document::parse;
use crate::storage::QueueError;
use crate::storage::audit::AuditFilter;
use crate::storage::operation::Steer;

/// A terminal waits this long for an operation.
const TIME_MAX: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn run(command: QueueCommand, config: &Config) -> Result<(), CommandError> {
    let definition = parse::parse(config.definition.as_ref())?;
    let client = session::connect(config).await?.client;
    let text = match command {
        QueueCommand::Status { json } => return status(&client, &config.slot, json).await,
        QueueCommand::Start => {
            indexing::set(&operator(client).await?, &config.slot, true, None).await?
        }
        QueueCommand::Stop { reason } => {
            indexing::set(&operator(client).await?, &config.slot, false, reason).await?
        }
        QueueCommand::Clear { yes: true, reason } => {
            clear::run(&operator(client).await?, reason).await?
        }
        QueueCommand::Clear { yes: false, .. } => clear::dry_run(&client).await?,
        QueueCommand::Audit { actor, action, result, day, limit, json } => {
            let since = day.map(|end| end - DAY);
            let filter = AuditFilter { actor, action, result, since, until: day };
            audit::list(&client, &filter, limit, json).await?
        }
        QueueCommand::Restore { id, dry_run, reason } => {
            let ids = Some(id).filter(|ids| !ids.is_empty());
            jobs::restore(&operator(client).await?, RestoreRequest { ids, reason }, dry_run).await?
        }
        QueueCommand::Job { id, json } => job::shown(&client, &definition, id, json).await?,
        QueueCommand::Resync { table, record_id } => {
            resync::run(&operator(client).await?, &definition, &table, record_id).await?
        }
        QueueCommand::Backfill { table, condition, keys, rate, detach, json } => {
            let rate_max = rate;
            let arguments = BackfillArguments { table, condition, keys, rate_max, detach, json };
            return backfill(client, &definition, &config.slot, arguments).await;
        }
        QueueCommand::Verify { name, sample, all: _, repair, detach, json } => {
            let request = VerifyRequest { name, sample, is_repair: repair };
            let arguments = VerifyArguments { request, detach, json };
            return verify(client, &definition, &config.slot, arguments).await;
        }
        QueueCommand::Operations { limit, json } => {
            operation::operations(&client, &config.slot, limit, json).await?
        }
        QueueCommand::Cancel { id } => steer(client, &config.slot, id, Steer::Cancel).await?,
        QueueCommand::Pause { id } => steer(client, &config.slot, id, Steer::Pause).await?,
        QueueCommand::Resume { id } => steer(client, &config.slot, id, Steer::Resume).await?,
        QueueCommand::Jobs { choice, status, limit, json } => {
            let (status, stuck) = status.unwrap_or_default();
            let filter = Filter { status, stuck, ..choice.filter() };
            jobs::shown(&jobs::list(&client, &filter, &tables(&definition), limit).await?, json)
        }
        QueueCommand::Retry { choice, all, dry_run } => {
            let arguments = FailedJobsArguments::retry(choice.filter(), all, dry_run);
            jobs::change_failed(operator(client).await?, &tables(&definition), arguments).await?
        }
        QueueCommand::Discard { choice, all, dry_run, reason } => {
            let arguments = FailedJobsArguments::discard(choice.filter(), all, dry_run, reason);
            jobs::change_failed(operator(client).await?, &tables(&definition), arguments).await?
        }
    };
    Ok(say(&text)?)
}

async fn status(client: &Client, slot: &str, json: bool) -> Result<(), CommandError> {
    let status = status::read(client, slot).await?;
    say(&if json { status.json() } else { status.text() })?;
    if status.is_unhealthy() { Err(StatusError::Unhealthy.into()) } else { Ok(()) }
}

async fn steer(client: Client, slot: &str, id: i64, what: Steer) -> Result<String, CommandError> {
    Ok(operation::steer(&operator(client).await?, slot, id, what).await?)
}

async fn backfill(
    client: Client,
    definition: &Definition,
    slot: &str,
    arguments: BackfillArguments,
) -> Result<(), CommandError> {
    let operator = operator(client).await?;
    Ok(operation::backfill(&operator, definition, slot, arguments).await?)
}

async fn verify(
    client: Client,
    definition: &Definition,
    slot: &str,
    arguments: VerifyArguments,
) -> Result<(), CommandError> {
    let operator = operator(client).await?;
    Ok(operation::verify(&operator, definition, slot, arguments).await?)
}

async fn operator(client: Client) -> Result<Operator, QueueError> {
    Operator::at_terminal(client, TIME_MAX).await
}

fn tables(definition: &Definition) -> Vec<String> {
    definition.tables.iter().map(|table| table.name.clone()).collect()
}
