//! Why indices cannot be prepared, and what is to be done about it.

use crate::change::Lsn;
use crate::engine::sink::client::NoResponse;
use crate::engine::sink::verdict::ServiceFailure;
use crate::postgres::{Disposition, Recovery};

/// The indices cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    NoResponse(#[from] NoResponse),
    #[error("Elasticsearch would not {what}: {reason}")]
    Refused {
        what: String,
        /// Determines the disposition.
        failure: ServiceFailure,
        reason: String,
    },
    #[error(
        "{name} is an index, but walferry needs this name for an alias; \
         delete or reindex it under another name, or set WALFERRY_INDEX_PREFIX (an index of the \
         original system is replaced only after walferry migrate has taken its queue over)"
    )]
    NameTaken { name: String },
    #[error(
        "index {index} was not made by walferry (its mapping has no _meta.walferry); \
         delete it or set WALFERRY_INDEX_PREFIX"
    )]
    NotOurs { index: String },
    #[error(
        "index {index} holds the changes of another history (system identifier {found_system}, \
         timeline {found_timeline}; this database has {system}, {timeline}), so its versions mean \
         nothing here; rebuild it with `walferry rebuild`"
    )]
    OtherHistory {
        index: String,
        found_system: String,
        found_timeline: u32,
        system: String,
        timeline: u32,
    },
    #[error(
        "index {index} is that of database {found_database} and slot {found_slot} of this cluster, \
         not of database {database} and slot {slot}, and both would write into it; set \
         WALFERRY_INDEX_PREFIX to another prefix here, or delete the index if it is not used there"
    )]
    OtherDatabase {
        index: String,
        found_database: String,
        found_slot: String,
        database: String,
        slot: String,
    },
    #[error(
        "alias {name} stands on index {index}, which is not walferry's, so searches would find its \
         documents; take it away: POST /_aliases {{\"actions\": [{{\"remove\": {{\"index\": \
         \"{index}\", \"alias\": \"{name}\"}}}}]}}"
    )]
    AliasElsewhere { name: String, index: String },
    #[error(
        "the mapping of index {index} has _routing.required, and walferry sends no routing; take \
         it out of the definition or the template, and run `walferry rebuild`"
    )]
    RoutingRequired { index: String },
    #[error("{}", shards_lost(index, shards))]
    ShardsLost { index: String, shards: String },
    #[error(
        "index {index} has documents of {sent}, and the WAL of this database ends at {insert_lsn}: \
         the database was put back to an earlier state, and changes since would be taken for old \
         ones; run `walferry rebuild` to start over with a new slot and new indices"
    )]
    Ahead { index: String, sent: Lsn, insert_lsn: Lsn },
}

/// The sentence of a loss, at a start and while running.
pub(super) fn shards_lost(index: &str, shards: &str) -> String {
    format!(
        "index {index} was given an empty or a stale copy of shard {shards}, so documents are \
         missing; run `walferry rebuild` to load everything anew"
    )
}

impl Recovery for IndexError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::NoResponse(_) => Disposition::Retry,
            // A limit of the cluster: indices may be deleted, or the limit raised.
            Self::Refused { reason, .. } if reason.contains("maximum normal shards open") => {
                Disposition::Retry
            }
            Self::Refused { failure, .. } => match failure {
                ServiceFailure::Unavailable
                | ServiceFailure::Overloaded
                | ServiceFailure::Timeout
                | ServiceFailure::Blocked => Disposition::Retry,
                ServiceFailure::Connection
                | ServiceFailure::NotAuthorised
                | ServiceFailure::NotUnderstood
                | ServiceFailure::Missing => Disposition::Operator,
            },
            Self::AliasElsewhere { .. } => Disposition::Retry,
            Self::NameTaken { .. }
            | Self::RoutingRequired { .. }
            | Self::ShardsLost { .. }
            | Self::NotOurs { .. }
            | Self::OtherHistory { .. }
            | Self::OtherDatabase { .. }
            | Self::Ahead { .. } => Disposition::Operator,
        }
    }
}
