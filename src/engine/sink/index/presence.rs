//! Whether a prepared index still exists.

use super::error::IndexError;
use super::existing::read_index;
use crate::engine::sink::Target;
use crate::engine::sink::client::Client;
use crate::engine::sink::verdict::{ServiceError, ServiceFailure};

/// Whether an index exists as it was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    Present,
    /// Deleted, replaced, or without this epoch's write alias; the sentence says which.
    Missing(String),
}

/// Checks a target.
///
/// # Errors
///
/// Elasticsearch did not respond, or responded with an error.
pub async fn presence(client: &Client, target: &Target) -> Result<Presence, ServiceError> {
    let Target { concrete, write_alias, uuid, .. } = target;
    let found = read_index(client, concrete).await.map_err(|error| match error {
        IndexError::NoResponse(error) => error.into(),
        IndexError::Refused { failure, reason, .. } => ServiceError { failure, reason },
        error => ServiceError { failure: ServiceFailure::NotUnderstood, reason: error.to_string() },
    })?;
    let sentence = match found {
        None => format!("index {concrete} is gone; rebuild it with `walferry rebuild`"),
        Some(index) if index.uuid() != uuid => {
            format!(
                "index {concrete} has been replaced by another; rebuild it with `walferry rebuild`"
            )
        }
        Some(index) if !index.aliases.contains_key(write_alias) => format!(
            "alias {write_alias} of index {concrete} is gone; another walferry has taken over, \
             or it was removed: restart walferry"
        ),
        Some(_) => return Ok(Presence::Present),
    };
    Ok(Presence::Missing(sentence))
}
