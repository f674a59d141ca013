//! `walferry migrate`: has the queue's module prepare the database, and says what it did.

use super::{CommandError, connect, say, tables};
use crate::config::Config;
use crate::queue::migrate::{self, MigrateOptions, Report};

pub(super) async fn run(config: &Config, runtime_role: Option<String>) -> Result<(), CommandError> {
    let options = MigrateOptions {
        tables: tables(config)?,
        publication: config.publication.clone(),
        runtime_role,
    };
    let session = connect(config).await?;
    let report = migrate::run(&session.client, &options).await?;
    Ok(say(&describe(&report, &config.publication))?)
}

fn describe(report: &Report, publication: &str) -> String {
    let mut lines = Vec::new();
    if !report.applied.is_empty() {
        lines.push(format!("applied: {}", report.applied.join(", ")));
    }
    if report.publication_created {
        lines.push(format!("created: publication {publication}"));
    }
    let lists = [
        ("added to the publication", &report.tables_added),
        ("set to replica identity full", &report.identities_set),
        ("handed to the runtime role", &report.owners_changed),
    ];
    for (what, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
        lines.push(format!("{what}: {}", names.join(", ")));
    }
    if lines.is_empty() {
        return "everything is in place".to_owned();
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::describe;
    use crate::queue::migrate::Report;

    #[test]
    fn a_second_time_says_that_nothing_was_to_do() {
        assert_eq!(describe(&Report::default(), "walferry"), "everything is in place");
        let report = Report { publication_created: true, ..Report::default() };
        assert_eq!(describe(&report, "w"), "created: publication w");
    }
}
