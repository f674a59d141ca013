//! `walferry check`: looks at both servers and prints what it found.

use super::{CommandError, connect, heading, say, sentence, tables};
use crate::check::{
    Facts, Finding, Severity, TableName, evaluate, evaluate_elasticsearch, gather,
    gather_elasticsearch, report,
};
use crate::config::Config;

pub(super) async fn run(config: &Config) -> Result<(), CommandError> {
    let tables = tables(config)?;
    let (database, elasticsearch) =
        tokio::join!(look(config, &tables), gather_elasticsearch(&config.elasticsearch));
    let mut headings = Vec::new();
    let mut findings = match database {
        Ok((heading, facts)) => {
            headings.push(heading);
            evaluate(&facts)
        }
        Err(why) => vec![Finding {
            severity: Severity::Fault,
            what: "PostgreSQL cannot be looked at".to_owned(),
            why,
            remedy: "see the reason; DATABASE_URL says where it is looked for".to_owned(),
        }],
    };
    if let Ok(found) = &elasticsearch {
        headings.push(format!("{} {}", found.distribution, found.version));
    }
    findings.extend(evaluate_elasticsearch(&elasticsearch));
    say(&headings.join("\n"))?;
    say("")?;
    say(&report(&findings))?;
    match findings.iter().filter(|finding| finding.severity == Severity::Fault).count() {
        0 => Ok(()),
        faults => Err(CommandError::Faults(faults)),
    }
}

async fn look(config: &Config, tables: &[TableName]) -> Result<(String, Facts), String> {
    let session = connect(config).await.map_err(|error| sentence(&error))?;
    let heading = heading(&session.client).await.map_err(|error| sentence(&error))?;
    let facts = gather(&session.client, config, tables).await.map_err(|error| sentence(&error))?;
    Ok((heading, facts))
}
