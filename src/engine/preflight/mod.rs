//! What stands in the way, why, and the SQL that mends it.
//!
//! Facts are gathered by reads alone (`gather`), judged without I/O (`evaluate`) and printed.
//!
//! Not here: mending anything. `walferry migrate` does what it can; the rest is for an owner.

mod database;
mod elasticsearch;
mod evaluate;
mod facts;
mod gather;

use std::fmt;

use tokio_postgres::Client;

use crate::config::Config;
use crate::postgres::{Disposition, Recovery};

pub use elasticsearch::gather as gather_elasticsearch;
pub use evaluate::{evaluate, evaluate_elasticsearch};
pub use facts::{
    ElasticsearchFacts, Facts, Privilege, PublicationFacts, RoleFacts, ServerFacts, SlotFacts,
    TableFacts, TakeOverFacts,
};
pub use gather::{GatherError, gather};

/// Schema and name of a table that is published.
pub type TableName = (String, String);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// walferry cannot work.
    Fault,
    /// walferry works, and something may go wrong one day.
    Advice,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// What is so, in a few words.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// SQL that mends it, or what else to do.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Fault => "fault ",
            Severity::Advice => "advice",
        };
        write!(f, "{word}  {}\n        why:  {}\n        mend: ", self.what, self.why)?;
        f.write_str(&self.remedy.replace('\n', "\n              "))
    }
}

/// The first fault of the environment, as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("{what}: {why}; mend it with: {remedy}")]
    Fault { what: String, why: String, remedy: String },
    #[error(transparent)]
    Gather(#[from] GatherError),
}

impl Recovery for EnvironmentError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Fault { .. } => Disposition::Operator,
            Self::Gather(error) => error.source.disposition(),
        }
    }
}

/// Looks for faults of PostgreSQL that waiting does not mend, before the pipeline begins.
///
/// # Errors
///
/// The first fault; or the session failed while looking, which may pass.
pub async fn environment(
    client: &Client,
    config: &Config,
    tables: &[TableName],
) -> Result<(), EnvironmentError> {
    let facts = gather(client, config, tables).await?;
    let fault = evaluate(&facts).into_iter().find(|finding| finding.severity == Severity::Fault);
    match fault {
        None => Ok(()),
        Some(Finding { what, why, remedy, .. }) => {
            let remedy = remedy.replace('\n', " ");
            Err(EnvironmentError::Fault { what, why, remedy })
        }
    }
}

/// All findings as text, faults first, and a line that sums them up.
#[must_use]
pub fn report(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    let mut text: String = sorted.iter().map(|finding| format!("{finding}\n\n")).collect();
    let faults = sorted.iter().filter(|finding| finding.severity == Severity::Fault).count();
    let advice = sorted.len() - faults;
    let plural = if faults == 1 { "" } else { "s" };
    text.push_str(&match (faults, advice) {
        (0, 0) => "all is well\n".to_owned(),
        (0, _) => format!("no fault; {advice} to consider\n"),
        (_, 0) => format!("{faults} fault{plural}\n"),
        _ => format!("{faults} fault{plural}; {advice} to consider\n"),
    });
    text
}
