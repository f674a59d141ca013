//! Whether a prepared index is still as it was prepared.

use serde_json::json;

use super::alias::{change_aliases, foreign, holders};
use super::error::{IndexError, shards_lost};
use super::existing::read_index;
use super::shards;
use crate::engine::sink::Target;
use crate::engine::sink::client::Client;
use crate::engine::sink::verdict::{ServiceError, ServiceFailure};

/// Whether an index exists as it was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    Present,
    /// Deleted, replaced, or without this epoch's write alias; the sentence says which.
    Missing(String),
    /// The write alias leads to another index.
    Misdirected(String),
}

/// The result of the check of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub presence: Presence,
    /// What is wrong with the read alias.
    pub searches: Option<String>,
}

/// Checks a target, and puts its ingest pipelines back.
///
/// # Errors
///
/// Elasticsearch did not respond, or responded with an error.
pub async fn presence(client: &Client, target: &Target) -> Result<Presence, ServiceError> {
    found(client, target).await.map_err(service_error)
}

/// Checks a target, its shards and its read alias. A read alias that no index has is put back.
///
/// # Errors
///
/// As [`presence`].
pub async fn audit(client: &Client, target: &Target) -> Result<Audit, ServiceError> {
    let mut presence = presence(client, target).await?;
    let mut searches = None;
    if presence == Presence::Present {
        let histories = shards::histories(client, &target.concrete).await;
        let histories = histories.map_err(service_error)?;
        if let Some(shards) = shards::lost(&target.histories, &histories) {
            presence = Presence::Missing(shards_lost(&target.concrete, &shards));
        }
        searches = read_alias(client, target).await.map_err(service_error)?;
    }
    Ok(Audit { presence, searches })
}

async fn found(client: &Client, target: &Target) -> Result<Presence, IndexError> {
    let Target { concrete, write_alias, uuid, .. } = target;
    let sentence = match read_index(client, concrete).await? {
        None => format!("index {concrete} is gone; rebuild it with `walferry rebuild`"),
        Some(index) if index.uuid() != uuid => {
            format!(
                "index {concrete} has been replaced by another; rebuild it with `walferry rebuild`"
            )
        }
        Some(index) if !index.is_written_by(write_alias) => {
            let others = holders(client, write_alias).await?;
            if let Some(other) = others.iter().find(|other| *other != concrete) {
                return Ok(Presence::Misdirected(format!(
                    "alias {write_alias} of index {concrete} was moved to index {other}; putting a \
                     new one on {concrete}"
                )));
            }
            format!(
                "alias {write_alias} of index {concrete} is gone; another walferry has taken over, \
                 or it was removed: restart walferry"
            )
        }
        Some(index) => {
            target.pipelines.put_back(client, concrete, &index).await?;
            return Ok(Presence::Present);
        }
    };
    Ok(Presence::Missing(sentence))
}

/// What is wrong with the read alias. Until the first load has ended, it stands on an index of
/// before.
async fn read_alias(client: &Client, target: &Target) -> Result<Option<String>, IndexError> {
    let Target { name, concrete, .. } = target;
    let readers = holders(client, name).await?;
    if let Some(index) = foreign(name, &readers) {
        let other = IndexError::AliasElsewhere { name: name.clone(), index };
        return Ok(Some(other.to_string()));
    }
    if readers.is_empty() {
        let add = json!({ "add": { "index": concrete, "alias": name } });
        change_aliases(client, vec![add]).await?;
        tracing::warn!(
            event = "alias_put_back",
            alias = name,
            index = concrete,
            "the alias for searches was removed; it is back"
        );
    }
    Ok(None)
}

fn service_error(error: IndexError) -> ServiceError {
    match error {
        IndexError::NoResponse(error) => error.into(),
        IndexError::Refused { failure, reason, .. } => ServiceError { failure, reason },
        error => ServiceError { failure: ServiceFailure::NotUnderstood, reason: error.to_string() },
    }
}
