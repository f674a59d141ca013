//! `walferry check`: inspects both servers and prints its findings.

use super::error::CommandError;
use super::output::say;
use super::session::{connect, heading};
use crate::config::Config;
use crate::engine::document::definition::Definition;
use crate::engine::document::parse;
use crate::engine::preflight::{
    Facts, Finding, Severity, evaluate, evaluate_elasticsearch, evaluate_standby, gather,
    gather_elasticsearch, report,
};
use crate::postgres::error::sentence;

pub(super) async fn run(config: &Config) -> Result<(), CommandError> {
    let definition = parse::parse(config.definition.as_ref())?;
    let aliases = aliases(config, &definition);
    let (database, elasticsearch) = tokio::join!(
        inspect(config, &definition),
        gather_elasticsearch(&config.elasticsearch, &aliases)
    );
    // Without PostgreSQL it is not known which names are replaced.
    let mut replaces_indices = true;
    let mut headings = Vec::new();
    let mut findings = match database {
        Ok((heading, facts)) => {
            headings.push(heading);
            replaces_indices = facts.take_over.replaces_indices;
            let mut findings = evaluate(&facts);
            findings.extend(evaluate_standby(&facts));
            findings
        }
        Err(why) => vec![Finding::fault(
            "PostgreSQL cannot be looked at",
            &why,
            "see the reason; DATABASE_URL says where it is looked for",
        )],
    };
    if let Ok(found) = &elasticsearch {
        headings.push(format!("{} {}", found.distribution, found.version));
    }
    findings.extend(evaluate_elasticsearch(&elasticsearch, replaces_indices));
    say(&headings.join("\n"))?;
    say("")?;
    say(&report(&findings))?;
    match findings.iter().filter(|finding| finding.severity == Severity::Fault).count() {
        0 => Ok(()),
        faults => Err(CommandError::Faults(faults)),
    }
}

/// The names that searches use.
fn aliases(config: &Config, definition: &Definition) -> Vec<String> {
    let indices = definition.indices.iter();
    indices.map(|index| format!("{}{}", config.index_prefix, index.name)).collect()
}

async fn inspect(config: &Config, definition: &Definition) -> Result<(String, Facts), String> {
    let session = connect(config).await.map_err(|error| sentence(&error))?;
    let heading = heading(&session.client).await.map_err(|error| sentence(&error))?;
    let facts = gather(&session.client, config, definition).await;
    Ok((heading, facts.map_err(|error| sentence(&error))?))
}
