//! The publication. Pure.

use super::name::{label, labels, quoted};
use crate::engine::preflight::TableName;
use crate::engine::preflight::facts::{Facts, PublicationFacts, TableFacts};
use crate::engine::preflight::finding::Finding;
use crate::postgres::quote_identifier;

const QUEUE: (&str, &str) = ("public", "elasticsearch_sync_queue");

/// The findings about the publication.
pub(in crate::engine::preflight) fn publication(facts: &Facts, findings: &mut Vec<Finding>) {
    let name = &facts.publication_name;
    let quoted_name = quote_identifier(name);
    let wanted = existing_tables(facts);
    let Some(publication) = &facts.publication else {
        findings.push(Finding::fault(
            format!("publication {name} does not exist"),
            "it says which tables are on the stream",
            match wanted.as_str() {
                "" => "walferry migrate  # once the tables are there".to_owned(),
                wanted => format!("create publication {quoted_name} for table {wanted};"),
            },
        ));
        return;
    };
    let is_queue =
        |table: &TableName| (table.0.as_str(), table.1.as_str()) == QUEUE || table.0 == "walferry";
    if publication.all_tables || publication.tables.iter().any(is_queue) {
        findings.push(Finding::fault(
            format!("publication {name} contains the queue"),
            "the stream would feed itself",
            if publication.all_tables {
                format!(
                    "drop publication if exists {quoted_name};\n\
                     create publication {quoted_name} for table {wanted};"
                )
            } else {
                format!("alter publication {quoted_name} set table {wanted};")
            },
        ));
        return;
    }
    contents(facts, publication, findings);
}

/// What a publication that does not contain the queue publishes.
fn contents(facts: &Facts, publication: &PublicationFacts, findings: &mut Vec<Finding>) {
    let name = &facts.publication_name;
    let quoted_name = quote_identifier(name);
    if !publication.all_operations {
        findings.push(Finding::fault(
            format!("publication {name} leaves out some operations"),
            "what is not published is never indexed",
            format!("alter publication {quoted_name} set (publish = 'insert, update, delete, truncate');"),
        ));
    }
    if !publication.filtered.is_empty() {
        findings.push(Finding::fault(
            format!(
                "publication {name} publishes only a part of {}",
                labels(&publication.filtered)
            ),
            "rows or columns that are filtered out are missing in documents and in the queue",
            format!("alter publication {quoted_name} set table {};", existing_tables(facts)),
        ));
    }
    let published = |table: &&TableFacts| publication.tables.contains(&table.name);
    for table in facts.tables.iter().filter(|table| table.exists && !published(table)) {
        findings.push(Finding::fault(
            format!("table {} is not in publication {name}", label(&table.name)),
            "its changes are not on the stream",
            format!("alter publication {quoted_name} add table {};", listed(table)),
        ));
    }
    let known = |table: &TableName| facts.tables.iter().any(|known| known.name == *table);
    for table in publication.tables.iter().filter(|table| !known(table)) {
        if publication.lacking_identity.contains(table) {
            findings.push(Finding::fault(
                format!(
                    "publication {name} contains {}, which has no replica identity and which no \
                     document is made of",
                    label(table)
                ),
                "PostgreSQL refuses every UPDATE and DELETE of the application on it",
                format!("alter publication {quoted_name} drop table only {};", quoted(table)),
            ));
            continue;
        }
        findings.push(Finding::advice(
            format!("publication {name} contains {}, which no document is made of", label(table)),
            "its changes are sent and thrown away",
            format!("alter publication {quoted_name} drop table {};", quoted(table)),
        ));
    }
}

/// The tables of the definition that exist, quoted for SQL.
fn existing_tables(facts: &Facts) -> String {
    let existing = facts.tables.iter().filter(|table| table.exists);
    existing.map(listed).collect::<Vec<_>>().join(", ")
}

/// A table in a publication's list: without the tables that inherit from it.
fn listed(table: &TableFacts) -> String {
    let only = if table.children.is_empty() { "" } else { "only " };
    format!("{only}{}", quoted(&table.name))
}
