//! Checks the environment before the pipeline starts; each finding has a reason and a remedy.
//!
//! Facts are gathered by reads alone (`gather`), evaluated without I/O (`evaluate`) and printed.
//!
//! Not here: the remedies. `walferry migrate` applies those within its privileges; an owner applies
//! the others.

mod database;
mod elasticsearch;
mod evaluate;
mod facts;
mod finding;
mod gather;

use std::fmt::Write as _;

use tokio_postgres::Client;

use crate::config::Config;
use crate::engine::document::definition::Definition;
use crate::postgres::{Disposition, Recovery};

pub use elasticsearch::gather as gather_elasticsearch;
pub use evaluate::{evaluate, evaluate_elasticsearch, evaluate_standby};
pub use facts::{
    ColumnFacts, ElasticsearchFacts, Facts, Privilege, PublicationFacts, RoleFacts, ServerFacts,
    SlotFacts, TableFacts, TakeOverFacts,
};
pub use finding::{Finding, Severity, report};
pub use gather::{GatherError, gather};

/// Schema and name of a table that is published.
pub type TableName = (String, String);

/// The environment has a fault, or could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("{what}: {why}; mend it with: {remedy}")]
    Fault { what: String, why: String, remedy: String, may_pass: bool },
    #[error(transparent)]
    Gather(#[from] GatherError),
}

impl Recovery for EnvironmentError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Fault { may_pass: true, .. } => Disposition::Retry,
            Self::Fault { .. } => Disposition::Operator,
            Self::Gather(error) => error.source.disposition(),
        }
    }
}

/// Checks PostgreSQL for faults that need an operator, before the pipeline starts.
///
/// # Errors
///
/// The first fault; or an error of the session, which may be temporary.
pub async fn environment(
    client: &Client,
    config: &Config,
    definition: &Definition,
) -> Result<(), EnvironmentError> {
    let facts = gather(client, config, definition).await?;
    let is_fault = |finding: &Finding| finding.severity == Severity::Fault;
    let mut faults = evaluate(&facts).into_iter().filter(is_fault);
    match faults.next() {
        None => Ok(()),
        Some(Finding { what, why, remedy, may_pass, .. }) => {
            let mut remedy = remedy.replace('\n', " ");
            let others = faults.count();
            if others > 0 {
                write!(remedy, " ({others} more: walferry check)").ok();
            }
            Err(EnvironmentError::Fault { what, why, remedy, may_pass })
        }
    }
}
